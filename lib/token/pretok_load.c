/*
 * pretok_load.c - the "pre_tokenizer" of a tokenizer.json becomes a chain of steps.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "token/token_priv.h"

static bool
is_space(uint32_t c, uint32_t arg)
{
	(void)arg;
	return df_uc_table[c] & DF_UC_SPACE;
}

static bool
is_ref(uint32_t c, uint32_t bit)
{
	return df_uc_ref_table[c] & bit;
}

static bool
is_char(uint32_t c, uint32_t arg)
{
	return c == arg;
}

/* A new step at the end of the chain. */
static int
new_split(struct tok_splits *s, struct tok_split **out, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&s->v, &s->cap, s->n + 1, sizeof(*s->v), "the pre-tokenizer", err));
	*out = &s->v[s->n++];
	**out = (struct tok_split){ .match = NULL };
out:
	return rc;
}

static int
read_behavior(const struct df_json_value *v, const char *dflt, struct tok_split *sp, struct df_err *err)
{
	static const char *const behaviors[] = {
		[TOK_ISOLATED] = "Isolated",
		[TOK_REMOVED] = "Removed",
		[TOK_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
		[TOK_MERGED_WITH_NEXT] = "MergedWithNext",
		[TOK_CONTIGUOUS] = "Contiguous",
	};
	const char *name;
	size_t b = 0;
	int rc;

	DF_TRY(df_json_member_str(v, "behavior", dflt, &name, err));
	while (b <= TOK_CONTIGUOUS && strcmp(behaviors[b], name) != 0)
		b++;
	if (b > TOK_CONTIGUOUS)
		return df_fail(err, DF_EFORMAT, "unknown behavior '%s'", name);
	sp->behavior = (enum tok_split_behavior)b;
out:
	return rc;
}

/* The settings of a Split and of a ByteLevel are part of the tokenizer's id. */
static void
note_split(struct tok_splits *s, const struct tok_split *sp, const char *pattern, size_t n)
{
	uint64_t seed =
	    (uint64_t)s->n << 8 | (uint64_t)sp->behavior << 2 | sp->invert << 1 | (sp->rewrite == TOK_SPACE);

	df_digest_merge(&s->digest, df_hash_bytes(pattern, n, seed));
}

/* Of the other kinds the whole JSON text is. */
static int
note_json(struct tok_splits *s, const struct df_json_value *v, struct df_err *err)
{
	struct df_buf text = DF_BUF_INIT;
	int rc;

	df_json_write(&text, v);
	DF_TRY(df_buf_check(&text, err));
	df_digest_merge(&s->digest, df_hash_bytes(text.data, text.len, s->n));
out:
	df_buf_release(&text);
	return rc;
}

static int
load_split(struct tok_splits *s, const struct df_json_value *v, struct df_err *err)
{
	const struct df_json_value *pattern = df_json_get(v, "pattern");
	const char *regex, *literal;
	struct tok_split *sp;
	size_t n = 0;
	int rc;

	DF_TRY(new_split(s, &sp, err));
	DF_TRY(read_behavior(v, "", sp, err));
	DF_TRY(df_json_member_bool(v, "invert", false, &sp->invert, err));
	regex = df_json_str(df_json_get(pattern, "Regex"), &n);
	literal = regex == NULL ? df_json_str(df_json_get(pattern, "String"), &n) : NULL;
	if (regex == NULL && literal == NULL)
		return df_fail(err, DF_EFORMAT, "pattern is neither a 'Regex' nor a 'String'");
	note_split(s, sp, regex != NULL ? regex : literal, n);
	/*
	 * The known patterns match everywhere, without gaps; so isolating the matches and removing the gaps is the
	 * same.
	 */
	if (regex != NULL && strlen(regex) == n &&
	    ((sp->behavior == TOK_ISOLATED) || (sp->behavior == TOK_REMOVED && sp->invert)))
		sp->match = df_tok_matcher_find(regex);
	if (sp->match == NULL) {
		sp->cut = df_tok_cut_regex;
		DF_TRY(df_tok_regex_new(&sp->regex, regex != NULL ? regex : literal, n, literal != NULL, err));
	}
out:
	return rc;
}

/* `last`: no step comes after it, so the model can take the raw bytes. */
static int
load_byte_level(struct tok_splits *s, const struct df_json_value *v, bool last, struct df_err *err)
{
	struct tok_split *sp;
	bool use_regex, prefix;
	int rc;

	DF_TRY(new_split(s, &sp, err));
	DF_TRY(df_json_member_bool(v, "add_prefix_space", true, &prefix, err));
	DF_TRY(df_json_member_bool(v, "use_regex", true, &use_regex, err));
	sp->rewrite = prefix ? TOK_SPACE : TOK_AS_IS;
	sp->match = use_regex ? df_tok_matcher_find(df_tok_pattern_gpt2) : NULL;
	note_split(s, sp, use_regex ? df_tok_pattern_gpt2 : "", use_regex ? strlen(df_tok_pattern_gpt2) : 0);
	/* It does nothing; leaving it out saves a step per word. */
	if (sp->match == NULL && !prefix)
		s->n--;
	s->byte_level = last;
	if (!last) {
		DF_TRY(new_split(s, &sp, err));
		sp->rewrite = TOK_BYTE_CHARS;
		note_split(s, sp, "bytes", 5);
	}
out:
	return rc;
}

static int
load_metaspace(struct tok_splits *s, const struct df_json_value *v, struct df_err *err)
{
	static const char *const schemes[] = { [TOK_NEVER] = "never", [TOK_FIRST] = "first", [TOK_ALWAYS] = "always" };
	const char *mark, *scheme;
	struct tok_split *sp;
	bool split, prefix;
	size_t k = 0, len, n;
	int rc;

	DF_TRY(new_split(s, &sp, err));
	mark = df_json_str(df_json_get(v, "replacement"), &n);
	if (mark == NULL || n == 0 || n > 4 || (sp->arg = df_uc_get((const unsigned char *)mark, &len), len != n))
		return df_fail(err, DF_EFORMAT, "replacement is not one character");
	memcpy(sp->mark, mark, n);
	sp->mark_n = n;
	DF_TRY(df_json_member_str(v, "prepend_scheme", "always", &scheme, err));
	while (k < 3 && strcmp(schemes[k], scheme) != 0)
		k++;
	if (k == 3)
		return df_fail(err, DF_EFORMAT, "unknown prepend_scheme '%s'", scheme);
	/* The older name of the option.  The reference refuses the two when they disagree. */
	DF_TRY(df_json_member_bool(v, "add_prefix_space", k != TOK_NEVER, &prefix, err));
	if (!prefix && df_json_get(v, "prepend_scheme") != NULL && k != TOK_NEVER)
		return df_fail(err, DF_EFORMAT, "add_prefix_space and prepend_scheme '%s' disagree", scheme);
	sp->prepend = prefix ? (enum tok_prepend)k : TOK_NEVER;
	DF_TRY(df_json_member_bool(v, "split", true, &split, err));
	sp->rewrite = TOK_METASPACE;
	sp->behavior = TOK_MERGED_WITH_NEXT;
	sp->is = is_char;
	sp->cut = split ? df_tok_cut_chars : NULL;
	DF_TRY(note_json(s, v, err));
out:
	return rc;
}

/* Those that cut by kinds of characters; *known = false when `type` is none of them. */
static int
load_chars(struct tok_splits *s, const struct df_json_value *v, const char *type, bool *known, struct df_err *err)
{
	struct tok_split sp = { .behavior = TOK_REMOVED }, *out;
	const char *text;
	size_t n, len;
	bool each;
	int rc = DF_OK;

	*known = true;
	if (strcmp(type, "BertPreTokenizer") == 0) {
		sp.cut = df_tok_cut_bert;
	} else if (strcmp(type, "Whitespace") == 0) {
		sp.cut = df_tok_cut_words;
	} else if (strcmp(type, "WhitespaceSplit") == 0) {
		sp.is = is_space;
	} else if (strcmp(type, "CharDelimiterSplit") == 0) {
		text = df_json_str(df_json_get(v, "delimiter"), &n);
		if (text == NULL || n == 0 || (sp.arg = df_uc_get((const unsigned char *)text, &len), len != n))
			return df_fail(err, DF_EFORMAT, "delimiter is not one character");
		sp.is = is_char;
	} else if (strcmp(type, "Digits") == 0) {
		DF_TRY(df_json_member_bool(v, "individual_digits", false, &each, err));
		sp.behavior = each ? TOK_ISOLATED : TOK_CONTIGUOUS;
		sp.is = is_ref;
		sp.arg = DF_UCR_NUMERIC;
	} else if (strcmp(type, "Punctuation") == 0) {
		DF_TRY(read_behavior(v, "Isolated", &sp, err));
		sp.is = is_ref;
		sp.arg = DF_UCR_PUNCT;
	} else {
		*known = false;
		return DF_OK;
	}
	if (sp.cut == NULL)
		sp.cut = df_tok_cut_chars;
	DF_TRY(new_split(s, &out, err));
	*out = sp;
	DF_TRY(note_json(s, v, err));
out:
	return rc;
}

static int
load(struct tok_splits *s, const struct df_json_value *v, bool last, struct df_err *err)
{
	const struct df_json_value *list;
	const char *type;
	bool known;
	int rc;

	if (df_json_type(v) == DF_JSON_ABSENT || df_json_type(v) == DF_JSON_NULL)
		return DF_OK;
	DF_TRY(df_tok_type_of(v, "pre_tokenizer", &type, err));
	if (strcmp(type, "Sequence") == 0) {
		list = df_json_get(v, "pretokenizers");
		for (size_t i = 0, n = df_json_size(list); i < n; i++)
			DF_TRY(load(s, df_json_at(list, i), last && i + 1 == n, err));
		return DF_OK;
	}
	if (strcmp(type, "Split") == 0) {
		rc = load_split(s, v, err);
	} else if (strcmp(type, "ByteLevel") == 0) {
		rc = load_byte_level(s, v, last, err);
	} else if (strcmp(type, "Metaspace") == 0) {
		rc = load_metaspace(s, v, err);
	} else {
		rc = load_chars(s, v, type, &known, err);
		if (rc == DF_OK && !known)
			return df_fail(err, DF_EUNSUPPORTED, "pre_tokenizer '%s' is not supported", type);
	}
	if (rc != DF_OK)
		df_err_prefix(err, "pre_tokenizer '%s': ", type);
out:
	return rc;
}

int
df_tok_splits_load(struct tok_splits *out, const struct df_json_value *v, struct df_err *err)
{
	df_uc_ref_init();
	return load(out, v, true, err);
}

int
df_tok_splits_prefix(struct tok_splits *s, bool prefix, struct df_err *err)
{
	struct tok_split *sp;
	int rc = DF_OK;

	if (s->n == 0 && !prefix)
		return DF_OK;
	if (s->n == 0)
		DF_TRY(new_split(s, &sp, err));
	if ((s->v[0].rewrite == TOK_SPACE) != prefix) {
		s->v[0].rewrite = prefix ? TOK_SPACE : TOK_AS_IS;
		note_split(s, &s->v[0], "prefix", 6);
	}
out:
	return rc;
}

void
df_tok_splits_release(struct tok_splits *s)
{
	for (size_t i = 0; i < s->n; i++)
		df_tok_regex_free(s->v[i].regex);
	free(s->v);
	*s = (struct tok_splits){ .n = 0 };
}
