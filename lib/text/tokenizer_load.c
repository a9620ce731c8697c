/*
 * tokenizer_load.c - a tokenizer.json and the files beside it become a tokenizer.
 *
 * tokenizer.json holds the pipeline (Hugging Face's tokenizers); beside it
 * tokenizer_config.json, or special_tokens_map.json in older models, says which
 * tokens are bos, eos and pad and may add more (transformers).  The ids are
 * those that transformers' fast tokenizer would give with the same files.
 * What cannot be done exactly is refused by name.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "text/tok_priv.h"

#define JSON_LIMIT ((size_t)512 << 20)

/* The "type" of a component, or "nothing" where it is null or absent. */
static int
type_of(const struct df_json_value *v, const char *what, const char **type, struct df_err *err)
{
	int rc;

	*type = NULL;
	if (df_json_type(v) == DF_JSON_ABSENT || df_json_type(v) == DF_JSON_NULL)
		return DF_OK;
	if (df_json_type(v) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "%s: expected an object, found %s", what, df_json_type_name(v));
	DF_TRY(df_json_member_str(v, "type", NULL, type, err));
	if (*type == NULL)
		rc = df_fail(err, DF_EFORMAT, "%s: has no 'type'", what);
out:
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", what);
	return rc;
}

/* --- normalizer ----------------------------------------------------------------------------------------------- */

static int
load_normalizer(struct df_tokenizer *t, const struct df_json_value *v, struct df_err *err)
{
	const struct df_json_value *list;
	const char *type;
	int rc;

	DF_TRY(type_of(v, "normalizer", &type, err));
	if (type == NULL)
		return DF_OK;
	if (strcmp(type, "Sequence") == 0) {
		list = df_json_get(v, "normalizers");
		if (df_json_size(list) > 1)
			return df_fail(
			    err, DF_EUNSUPPORTED, "normalizer 'Sequence' of %zu is not supported", df_json_size(list));
		/* At most as deep as the document may be. */
		return load_normalizer(t, df_json_at(list, 0), err);
	}
	t->norm = df_tok_norm_find(type);
	if (t->norm == NULL)
		rc = df_fail(err, DF_EUNSUPPORTED, "normalizer '%s' is not supported (NFC is)", type);
out:
	return rc;
}

/* --- pre-tokenizer -------------------------------------------------------------------------------------------- */

/* A new split at the end of the chain. */
static int
new_split(struct df_tokenizer *t, struct tok_split **out, struct df_err *err)
{
	size_t cap = t->n_splits;
	int rc;

	DF_TRY(df_grow(&t->split, &cap, t->n_splits + 1, sizeof(*t->split), "the pre-tokenizer", err));
	*out = &t->split[t->n_splits++];
	**out = (struct tok_split){ .match = NULL };
out:
	return rc;
}

/* What this split decides goes into the tokenizer's id. */
static void
note_split(struct df_tokenizer *t, const struct tok_split *sp, const char *pattern, size_t n)
{
	uint64_t seed = (uint64_t)t->n_splits << 8 | (uint64_t)sp->behavior << 2 | sp->invert << 1 | sp->prefix_space;

	df_digest_merge(&t->rules, df_hash_bytes(pattern, n, seed));
}

static int
load_split(struct df_tokenizer *t, const struct df_json_value *v, struct df_err *err)
{
	static const char *const behaviors[] = {
		[TOK_ISOLATED] = "Isolated",
		[TOK_REMOVED] = "Removed",
		[TOK_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
		[TOK_MERGED_WITH_NEXT] = "MergedWithNext",
		[TOK_CONTIGUOUS] = "Contiguous",
	};
	const struct df_json_value *pattern = df_json_get(v, "pattern");
	const char *behavior, *regex, *literal;
	struct tok_split *sp;
	size_t n = 0, b = 0;
	int rc;

	DF_TRY(new_split(t, &sp, err));
	DF_TRY(df_json_member_str(v, "behavior", "", &behavior, err));
	while (b <= TOK_CONTIGUOUS && strcmp(behaviors[b], behavior) != 0)
		b++;
	if (b > TOK_CONTIGUOUS)
		return df_fail(err, DF_EFORMAT, "pre_tokenizer 'Split': unknown behavior '%s'", behavior);
	sp->behavior = (enum tok_split_behavior)b;
	DF_TRY(df_json_member_bool(v, "invert", false, &sp->invert, err));
	regex = df_json_str(df_json_get(pattern, "Regex"), &n);
	literal = regex == NULL ? df_json_str(df_json_get(pattern, "String"), &n) : NULL;
	if (regex == NULL && literal == NULL)
		return df_fail(err, DF_EFORMAT, "pre_tokenizer 'Split': pattern is neither a 'Regex' nor a 'String'");
	note_split(t, sp, regex != NULL ? regex : literal, n);
	/*
	 * The known patterns match everywhere: matches are all there is, whether they are isolated
	 * or kept as the non-gaps.
	 */
	if (regex != NULL && strlen(regex) == n &&
	    ((sp->behavior == TOK_ISOLATED) || (sp->behavior == TOK_REMOVED && sp->invert)))
		sp->match = df_tok_matcher_find(regex);
	if (sp->match == NULL)
		DF_TRY(df_tok_regex_new(&sp->regex, regex != NULL ? regex : literal, n, literal != NULL, err));
out:
	return rc;
}

static int
load_byte_level(struct df_tokenizer *t, const struct df_json_value *v, struct df_err *err)
{
	struct tok_split *sp;
	bool use_regex;
	int rc;

	DF_TRY(new_split(t, &sp, err));
	DF_TRY(df_json_member_bool(v, "add_prefix_space", true, &sp->prefix_space, err));
	DF_TRY(df_json_member_bool(v, "use_regex", true, &use_regex, err));
	sp->match = use_regex ? df_tok_matcher_find(df_tok_pattern_gpt2) : NULL;
	note_split(t, sp, use_regex ? df_tok_pattern_gpt2 : "", use_regex ? strlen(df_tok_pattern_gpt2) : 0);
	/* Nothing to do: one split less per word. */
	if (sp->match == NULL && !sp->prefix_space)
		t->n_splits--;
out:
	return rc;
}

/* `last`: nothing comes after it, so ByteLevel may stand here; *byte_level: it did. */
static int
load_pretokenizer(
    struct df_tokenizer *t, const struct df_json_value *v, bool last, bool *byte_level, struct df_err *err)
{
	const struct df_json_value *list;
	const char *type;
	int rc;

	DF_TRY(type_of(v, "pre_tokenizer", &type, err));
	if (type == NULL)
		return DF_OK;
	if (strcmp(type, "Sequence") == 0) {
		list = df_json_get(v, "pretokenizers");
		for (size_t i = 0, n = df_json_size(list); i < n; i++)
			DF_TRY(load_pretokenizer(t, df_json_at(list, i), last && i + 1 == n, byte_level, err));
	} else if (strcmp(type, "Split") == 0) {
		DF_TRY(load_split(t, v, err));
	} else if (strcmp(type, "ByteLevel") == 0) {
		if (!last)
			return df_fail(
			    err, DF_EUNSUPPORTED, "pre_tokenizer 'ByteLevel' is supported in the last place only");
		*byte_level = true;
		DF_TRY(load_byte_level(t, v, err));
	} else {
		rc = df_fail(
		    err, DF_EUNSUPPORTED, "pre_tokenizer '%s' is not supported (Split and ByteLevel are)", type);
	}
out:
	return rc;
}

/* --- what stands after the model ------------------------------------------------------------------------------ */

/* It adds bos and eos or shifts offsets; our callers add special tokens themselves, so only its name matters. */
static int
check_post_processor(const struct df_json_value *v, struct df_err *err)
{
	static const char *const known[] = { "ByteLevel", "TemplateProcessing", "BertProcessing", "RobertaProcessing",
		"Sequence" };
	const char *type;
	int rc;

	DF_TRY(type_of(v, "post_processor", &type, err));
	if (type == NULL)
		return DF_OK;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i], type) == 0)
			return DF_OK;
	rc = df_fail(err, DF_EUNSUPPORTED, "post_processor '%s' is not supported", type);
out:
	return rc;
}

/* --- added tokens --------------------------------------------------------------------------------------------- */

/* {"content": ..., "special": ..., ...}; `normalized` is by default what special is not. */
static int
read_token(const struct df_json_value *v, const char **text, size_t *n, struct tok_added_flags *f, struct df_err *err)
{
	int rc;

	*text = df_json_str(df_json_get(v, "content"), n);
	if (*text == NULL)
		return df_fail(err, DF_EFORMAT, "has no string 'content'");
	DF_TRY(df_json_member_bool(v, "special", false, &f->special, err));
	DF_TRY(df_json_member_bool(v, "normalized", !f->special, &f->normalized, err));
	DF_TRY(df_json_member_bool(v, "single_word", false, &f->single_word, err));
	DF_TRY(df_json_member_bool(v, "lstrip", false, &f->lstrip, err));
	DF_TRY(df_json_member_bool(v, "rstrip", false, &f->rstrip, err));
out:
	return rc;
}

static int
load_added(struct df_tokenizer *t, const struct df_json_value *list, struct df_err *err)
{
	struct tok_added_flags f;
	const char *text;
	int64_t said;
	uint32_t id;
	size_t n, i = 0;
	int rc = DF_OK;

	if (list != NULL && df_json_type(list) != DF_JSON_ARRAY)
		return df_fail(err, DF_EFORMAT, "added_tokens: expected an array, found %s", df_json_type_name(list));
	for (i = 0; i < df_json_size(list); i++) {
		const struct df_json_value *v = df_json_at(list, i);

		DF_TRY(read_token(v, &text, &n, &f, err));
		if (!df_json_int(df_json_get(v, "id"), &said)) {
			rc = df_fail(err, DF_EFORMAT, "has no integer 'id'");
			goto out;
		}
		DF_TRY(df_tok_add(t, text, n, f, &id, err));
		/*
		 * The reference numbers them itself and only warns; then the model would have been
		 * trained on other ids.
		 */
		if (said != id) {
			rc = df_fail(err, DF_EFORMAT, "'%.100s' says id %lld, but its place in the vocabulary is %u",
			    text, (long long)said, id);
			goto out;
		}
	}
out:
	if (rc != DF_OK)
		df_err_prefix(err, "added_tokens[%zu]: ", i);
	return rc;
}

struct numbered {
	int64_t id;
	const struct df_json_value *v;
};

static int
by_id(const void *a, const void *b)
{
	const struct numbered *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

/* tokenizer_config.json's {"ID": {token}, ...}: added once more in the order of ids, which updates flags. */
static int
load_added_decoder(struct df_tokenizer *t, const struct df_json_value *map, struct df_err *err)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *v;
	struct tok_added_flags f;
	struct numbered *list = NULL;
	const char *key, *text;
	size_t n = 0, len;
	uint32_t id;
	int rc = DF_OK;

	if (map == NULL)
		return DF_OK;
	DF_TRY(df_alloc(&list, df_json_size(map), sizeof(*list), "added tokens", err));
	while ((m = df_json_next(map, m, &key, &v)) != NULL) {
		char *end;

		list[n].id = strtoll(key, &end, 10);
		list[n++].v = v;
		if (end == key || *end != '\0') {
			rc = df_fail(err, DF_EFORMAT, "added_tokens_decoder: '%s' is not an id", key);
			goto out;
		}
	}
	qsort(list, n, sizeof(*list), by_id);
	for (size_t i = 0; i < n; i++) {
		rc = read_token(list[i].v, &text, &len, &f, err);
		if (rc == DF_OK)
			rc = df_tok_add(t, text, len, f, &id, err);
		if (rc == DF_OK && id != list[i].id)
			rc = df_fail(err, DF_EFORMAT, "'%.100s' has id %u in the vocabulary", text, id);
		if (rc != DF_OK) {
			df_err_prefix(err, "added_tokens_decoder '%lld': ", (long long)list[i].id);
			goto out;
		}
	}
out:
	free(list);
	return rc;
}

/* --- bos, eos, pad -------------------------------------------------------------------------------------------- */

/* A special token, "text" or {"content": "text", ...}; *id stays as it is where there is none. */
static int
load_special(struct df_tokenizer *t, const struct df_json_value *v, uint32_t *id, struct df_err *err)
{
	struct tok_added_flags f = { .special = true };
	const struct tok_added_token *old;
	const char *text;
	size_t n;
	int rc = DF_OK;

	if (df_json_type(v) == DF_JSON_ABSENT || df_json_type(v) == DF_JSON_NULL)
		return DF_OK;
	text = df_json_str(v, &n);
	if (text == NULL)
		DF_TRY(read_token(v, &text, &n, &f, err));
	/* An empty name stands for none. */
	if (n == 0)
		return DF_OK;
	f.special = true;
	old = df_tok_added_by_text(&t->added, text, n);
	if (old != NULL)
		*id = old->id;
	else
		DF_TRY(df_tok_add(t, text, n, f, id, err));
out:
	return rc;
}

/* All special tokens of a file, in the order in which transformers adds them. */
static int
load_specials(struct df_tokenizer *t, const struct df_json_value *config, struct df_err *err)
{
	uint32_t other;
	struct {
		const char *key;
		uint32_t *id;
	} const all[] = {
		{ "bos_token", &t->bos },
		{ "eos_token", &t->eos },
		{ "unk_token", &other },
		{ "sep_token", &other },
		{ "pad_token", &t->pad },
		{ "cls_token", &other },
		{ "mask_token", &other },
	};
	const struct df_json_value *more = df_json_get(config, "additional_special_tokens");
	int rc = DF_OK;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		rc = load_special(t, df_json_get(config, all[i].key), all[i].id, err);
		if (rc != DF_OK) {
			df_err_prefix(err, "%s: ", all[i].key);
			goto out;
		}
	}
	for (size_t i = 0; i < df_json_size(more) && df_json_type(more) == DF_JSON_ARRAY; i++)
		DF_TRY(load_special(t, df_json_at(more, i), &other, err));
out:
	return rc;
}

/* *out = the document beside tokenizer.json, or NULL when there is none. */
static int
load_beside(const struct df_tokenizer *t, const char *name, char **path, struct df_json **out, struct df_err *err)
{
	int rc;

	*out = NULL;
	DF_TRY(df_path_join(path, t->path, name, err));
	if (df_file_exists(*path))
		DF_TRY(df_json_load(out, *path, JSON_LIMIT, err));
out:
	return rc;
}

/*
 * A ByteLevel that stands alone takes add_prefix_space from
 * tokenizer_config.json (absent: false), whatever tokenizer.json says.
 */
static int
apply_prefix_space(
    struct df_tokenizer *t, const struct df_json_value *config, const struct df_json_value *pre, struct df_err *err)
{
	const char *type;
	bool prefix;
	int rc;

	DF_TRY(type_of(pre, "pre_tokenizer", &type, err));
	DF_TRY(df_json_member_bool(config, "add_prefix_space", false, &prefix, err));
	if (type == NULL || strcmp(type, "ByteLevel") != 0 || (t->n_splits == 0 && !prefix))
		goto out;
	if (t->n_splits == 0) {
		struct tok_split *sp;

		DF_TRY(new_split(t, &sp, err));
	}
	if (t->split[0].prefix_space != prefix) {
		t->split[0].prefix_space = prefix;
		note_split(t, &t->split[0], "prefix", 6);
	}
out:
	return rc;
}

static int
load_config(struct df_tokenizer *t, const struct df_json_value *pre, struct df_err *err)
{
	struct df_json *config = NULL, *map = NULL;
	const struct df_json_value *root = NULL, *decoder = NULL;
	char *config_path = NULL, *map_path = NULL, *at;
	int rc;

	DF_TRY(load_beside(t, "tokenizer_config.json", &config_path, &config, err));
	DF_TRY(load_beside(t, "special_tokens_map.json", &map_path, &map, err));
	at = config_path;
	if (config != NULL) {
		root = df_json_root(config);
		decoder = df_json_get(root, "added_tokens_decoder");
		rc = apply_prefix_space(t, root, pre, err);
		if (rc == DF_OK)
			rc = df_json_member_bool(root, "add_bos_token", false, &t->add_bos, err);
		if (rc == DF_OK)
			rc = load_added_decoder(t, decoder, err);
		if (rc == DF_OK)
			rc = load_specials(t, root, err);
	}
	/* Since added_tokens_decoder exists, special_tokens_map.json has no say beside it. */
	if (rc == DF_OK && map != NULL && decoder == NULL) {
		at = map_path;
		rc = load_specials(t, df_json_root(map), err);
	}
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", at);
out:
	df_json_free(config);
	df_json_free(map);
	free(config_path);
	free(map_path);
	return rc;
}

static int
load_pipeline(struct df_tokenizer *t, const struct df_json_value *root, struct df_err *err)
{
	bool byte_level = false;
	int rc;

	if (df_json_type(root) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "expected an object, found %s", df_json_type_name(root));
	DF_TRY(load_normalizer(t, df_json_get(root, "normalizer"), err));
	if (t->norm != NULL)
		df_digest_merge(&t->rules, df_hash_bytes(t->norm->type, strlen(t->norm->type), 1));
	DF_TRY(df_tok_bpe_new(&t->bpe, df_json_get(root, "model"), err));
	DF_TRY(load_pretokenizer(t, df_json_get(root, "pre_tokenizer"), true, &byte_level, err));
	if (!byte_level) {
		rc = df_fail(err, DF_EUNSUPPORTED, "BPE without the pre_tokenizer 'ByteLevel' is not supported");
		goto out;
	}
	DF_TRY(check_post_processor(df_json_get(root, "post_processor"), err));
	df_digest_merge(&t->rules, df_tok_bpe_digest(t->bpe));
	DF_TRY(load_added(t, df_json_get(root, "added_tokens"), err));
out:
	return rc;
}

int
df_tok_load(struct df_tokenizer *t, struct df_err *err)
{
	struct df_json *j = NULL;
	int rc;

	DF_TRY(df_json_load(&j, t->json_path, JSON_LIMIT, err));
	rc = load_pipeline(t, df_json_root(j), err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", t->json_path);
		goto out;
	}
	DF_TRY(load_config(t, df_json_get(df_json_root(j), "pre_tokenizer"), err));
	if (df_tok_bpe_is_bytes(t->bpe) && t->norm == NULL && t->n_splits == 0) {
		/* What df_tokenizer_save wrote for "bytes": the same tokenizer again. */
		df_tok_bpe_free(t->bpe);
		t->bpe = NULL;
		t->rules = (struct df_digest){ 0, 0 };
	}
	DF_TRY(df_tok_finish(t, err));
out:
	df_json_free(j);
	return rc;
}
