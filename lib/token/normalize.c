/*
 * normalize.c - normalizers by name, and chains of them.
 *
 * Most text is in normal form already, so each step first looks for a character that could change.  A table with
 * one byte per character answers that; ASCII is skipped eight bytes at a time.  Text is copied, between two
 * buffers, only if there is such a character.
 */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "token/token_priv.h"

enum norm_kind {
	NORM_NFC,
	NORM_NFD,
	NORM_NFKC,
	NORM_NFKD,
	NORM_LOWERCASE,
	NORM_STRIP,
	NORM_STRIP_ACCENTS,
	NORM_PREPEND,
	NORM_REPLACE,
	NORM_BERT
};

struct tok_norm_step {
	enum norm_kind kind;
	bool left, right;       /* Strip */
	bool clean, cjk, lower; /* Bert */
	int accents;            /* Bert: 1, 0, or -1 (as `lower`) */
	char *text;             /* Prepend, Replace: the text that is inserted */
	size_t n;
	struct tok_regex *regex; /* Replace */
};

/* --- Unicode's normal forms ----------------------------------------------------------------------------------- */

/*
 * The options of a form for utf8proc, the characters that it may change, and the characters that the reference
 * treats as inert.
 */
struct form {
	utf8proc_option_t how;
	uint8_t risk, risk_ref; /* bits of df_uc_table, df_uc_ref_table */
	uint8_t wall_ref;
};

static const struct form forms[] = {
	[NORM_NFC] = { UTF8PROC_STABLE | UTF8PROC_COMPOSE, DF_UC_NFC_RISK, 0, 0 },
	[NORM_NFD] = { UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, 0, DF_UCR_DECOMPOSES, DF_UCR_LATER },
	[NORM_NFKC] = { UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT, DF_UC_NFC_RISK, DF_UCR_DECOMPOSES,
	    DF_UCR_LATER },
	[NORM_NFKD] = { UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, 0, DF_UCR_DECOMPOSES, DF_UCR_LATER },
};

/* The offset of the first character with one of these bits, or n. */
static size_t
first_with(const unsigned char *s, size_t n, unsigned bits, unsigned ref_bits)
{
	size_t i = 0, len;

	while (i < n) {
		uint64_t eight;
		uint32_t c;

		if (n - i >= 8) {
			memcpy(&eight, s + i, 8);
			if ((eight & 0x8080808080808080ull) == 0) {
				i += 8;
				continue;
			}
		}
		c = df_uc_get(s + i, &len);
		if ((df_uc_table[c] & bits) || (df_uc_ref_table[c] & ref_bits))
			return i;
		i += len;
	}
	return n;
}

static void
form_part(const struct form *f, const unsigned char *s, size_t n, struct df_buf *out)
{
	utf8proc_uint8_t *done = NULL;
	utf8proc_ssize_t len;

	if (first_with(s, n, f->risk, f->risk_ref) == n) {
		df_buf_add(out, s, n);
		return;
	}
	len = utf8proc_map(s, (utf8proc_ssize_t)n, &done, f->how);
	if (len < 0)
		out->failed = true;
	else
		df_buf_add(out, done, (size_t)len);
	free(done);
}

static bool
normal_form(enum norm_kind kind, const char *text, size_t n, struct df_buf *out)
{
	const struct form *f = &forms[kind];
	const unsigned char *s = (const unsigned char *)text;
	size_t part = 0, i = 0, len;

	if (first_with(s, n, f->risk, f->risk_ref) == n)
		return false;
	/*
	 * An inert character is a wall: the parts between walls are normalised separately, and a wall is copied
	 * unchanged.
	 */
	while (i < n) {
		uint32_t c = df_uc_get(s + i, &len);

		if ((df_uc_table[c] & DF_UC_NFC_WALL) || (df_uc_ref_table[c] & f->wall_ref)) {
			form_part(f, s + part, i - part, out);
			df_buf_add(out, s + i, len);
			part = i + len;
		}
		i += len;
	}
	form_part(f, s + part, n - part, out);
	return true;
}

/* --- characters ----------------------------------------------------------------------------------------------- */

static bool
lowercase(const unsigned char *s, size_t n, struct df_buf *out)
{
	size_t i = 0, len;

	while (i < n && !(df_uc_ref_table[df_uc_get(s + i, &len)] & DF_UCR_UPPER))
		i += len;
	if (i == n)
		return false;
	df_buf_add(out, s, i);
	for (; i < n; i += len) {
		uint32_t c = df_uc_get(s + i, &len);

		if (df_uc_ref_table[c] & DF_UCR_UPPER)
			df_uc_put_lower(out, c);
		else
			df_buf_add(out, s + i, len);
	}
	return true;
}

/* Leave out the characters with a bit of the reference's table. */
static bool
drop(unsigned bit, const unsigned char *s, size_t n, struct df_buf *out, bool *first)
{
	size_t i = first_with(s, n, 0, bit), len;

	if (i == n)
		return false;
	*first &= i > 0;
	df_buf_add(out, s, i);
	for (; i < n; i += len)
		if (!(df_uc_ref_table[df_uc_get(s + i, &len)] & bit))
			df_buf_add(out, s + i, len);
	return true;
}

static bool
strip(const struct tok_norm_step *st, const char **text, size_t *n, bool *first)
{
	size_t len, at = 0;

	while (st->left && at < *n && (df_uc_table[df_uc_get((const unsigned char *)*text + at, &len)] & DF_UC_SPACE))
		at += len;
	*first &= at == 0;
	*text += at;
	*n -= at;
	while (st->right && *n > 0 && (df_uc_table[df_uc_before(*text, *n, &len)] & DF_UC_SPACE))
		*n -= len;
	return true;
}

/* --- BERT ----------------------------------------------------------------------------------------------------- */

/* The blocks as the reference has them; in the standard the fifth begins at 2B820. */
static bool
is_cjk(uint32_t c)
{
	return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
	    (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
	    (c >= 0x2F800 && c <= 0x2FA1F);
}

/* clean_text and handle_chinese_chars, and also lower case when no other step comes between. */
static void
bert_clean(const struct tok_norm_step *st, bool lower, const unsigned char *s, size_t n, struct df_buf *out)
{
	size_t len;

	for (size_t i = 0; i < n; i += len) {
		uint32_t c = df_uc_get(s + i, &len);

		if (st->clean && (df_uc_ref_table[c] & DF_UCR_OTHER))
			continue;
		if (st->clean && (df_uc_table[c] & DF_UC_SPACE))
			df_buf_putc(out, ' ');
		else if (c < 0x80)
			df_buf_putc(out, (char)(lower && c >= 'A' && c <= 'Z' ? c | 0x20 : c));
		else if (st->cjk && is_cjk(c)) {
			df_buf_putc(out, ' ');
			df_buf_add(out, s + i, len);
			df_buf_putc(out, ' ');
		} else if (lower && (df_uc_ref_table[c] & DF_UCR_UPPER))
			df_uc_put_lower(out, c);
		else
			df_buf_add(out, s + i, len);
	}
}

/* clean_text, handle_chinese_chars, strip_accents, lowercase; the result is in `out`. */
static void
bert(const struct tok_norm_step *st, const char *text, size_t n, struct df_buf *out, struct df_buf *part, bool *first)
{
	const unsigned char *s = (const unsigned char *)text;
	bool accents = st->accents < 0 ? st->lower : st->accents > 0, marked;
	size_t len;

	marked = accents && first_with(s, n, 0, DF_UCR_DECOMPOSES | DF_UCR_BERT_MARK) < n;
	if (n > 0 && st->clean && (df_uc_ref_table[df_uc_get(s, &len)] & DF_UCR_OTHER))
		*first = false;
	bert_clean(st, st->lower && !marked, s, n, out);
	if (!marked)
		return;
	df_buf_clear(part);
	if (!normal_form(NORM_NFD, out->data ? out->data : "", out->len, part))
		df_buf_add(part, out->data, out->len);
	out->failed |= part->failed;
	s = (const unsigned char *)part->data;
	n = part->len;
	df_buf_clear(out);
	for (size_t i = 0; i < n; i += len) {
		uint32_t c = df_uc_get(s + i, &len);

		if (df_uc_ref_table[c] & DF_UCR_BERT_MARK)
			*first &= i > 0;
		else if (st->lower && (df_uc_ref_table[c] & DF_UCR_UPPER))
			df_uc_put_lower(out, c);
		else
			df_buf_add(out, s + i, len);
	}
}

/* --- Replace -------------------------------------------------------------------------------------------------- */

static int
replace(const struct tok_norm_step *st, struct tok_regex_scratch **rs, const char *text, size_t n, struct df_buf *out,
    bool *changed, bool *first, struct df_err *err)
{
	struct tok_regex_walk walk = { 0, SIZE_MAX };
	size_t done = 0, start, end;
	int rc, found;

	if (*rs == NULL)
		DF_TRY(df_tok_regex_scratch_new(rs, err));
	while ((found = df_tok_regex_next(st->regex, *rs, text, n, &walk, &start, &end, err)) > 0) {
		*changed = true;
		*first &= start > 0 || st->n > 0;
		df_buf_add(out, text + done, start - done);
		df_buf_add(out, st->text, st->n);
		done = end;
	}
	rc = found;
	if (rc == DF_OK && *changed)
		df_buf_add(out, text + done, n - done);
out:
	return rc;
}

/* --- chains --------------------------------------------------------------------------------------------------- */

static int
run_step(const struct tok_norm_step *st, struct tok_norm_scratch *s, const char **text, size_t *n, struct df_buf *out,
    bool *first, struct df_err *err)
{
	const unsigned char *u = (const unsigned char *)*text;
	bool changed = false;
	int rc = DF_OK;

	df_buf_clear(out);
	switch (st->kind) {
	case NORM_NFC:
	case NORM_NFD:
	case NORM_NFKC:
	case NORM_NFKD: changed = normal_form(st->kind, *text, *n, out); break;
	case NORM_LOWERCASE: changed = lowercase(u, *n, out); break;
	case NORM_STRIP: strip(st, text, n, first); break;
	case NORM_STRIP_ACCENTS: changed = drop(DF_UCR_MARK, u, *n, out, first); break;
	case NORM_PREPEND:
		changed = *n > 0;
		if (changed) {
			df_buf_add(out, st->text, st->n);
			df_buf_add(out, *text, *n);
		}
		break;
	case NORM_REPLACE: DF_TRY(replace(st, &s->regex, *text, *n, out, &changed, first, err)); break;
	case NORM_BERT:
		bert(st, *text, *n, out, &s->part, first);
		changed = true;
		break;
	}
	DF_TRY(df_buf_check(out, err));
	if (changed) {
		*text = out->len > 0 ? out->data : "";
		*n = out->len;
	}
out:
	return rc;
}

int
df_tok_norm_run(const struct tok_norm *norm, struct tok_norm_scratch *s, const char **text, size_t *n, bool *first,
    struct df_err *err)
{
	const char *before;
	size_t other = 0; /* the buffer that the text is not in */
	int rc = DF_OK;

	for (size_t i = 0; i < norm->n; i++) {
		before = *text;
		DF_TRY(run_step(&norm->step[i], s, text, n, &s->buf[other], first, err));
		/* Strip only moves the two ends of the text; nothing is copied. */
		if (*text != before && s->buf[other].data != NULL && *text == s->buf[other].data)
			other = 1 - other;
	}
out:
	return rc;
}

void
df_tok_norm_scratch_release(struct tok_norm_scratch *s)
{
	df_buf_release(&s->buf[0]);
	df_buf_release(&s->buf[1]);
	df_buf_release(&s->part);
	df_tok_regex_scratch_free(s->regex);
	*s = (struct tok_norm_scratch){ .regex = NULL };
}

/* --- from JSON ------------------------------------------------------------------------------------------------ */

static const struct {
	const char *name;
	enum norm_kind kind;
} kinds[] = {
	{ "NFC", NORM_NFC },
	{ "NFD", NORM_NFD },
	{ "NFKC", NORM_NFKC },
	{ "NFKD", NORM_NFKD },
	{ "Lowercase", NORM_LOWERCASE },
	{ "Strip", NORM_STRIP },
	{ "StripAccents", NORM_STRIP_ACCENTS },
	{ "Prepend", NORM_PREPEND },
	{ "Replace", NORM_REPLACE },
	{ "BertNormalizer", NORM_BERT },
};

static int
load_text(struct tok_norm_step *st, const struct df_json_value *v, const char *key, struct df_err *err)
{
	const char *text = df_json_str(df_json_get(v, key), &st->n);

	if (text == NULL)
		return df_fail(err, DF_EFORMAT, "has no string '%s'", key);
	return df_strndup(&st->text, text, st->n, err);
}

static int
load_replace(struct tok_norm_step *st, const struct df_json_value *v, struct df_err *err)
{
	const struct df_json_value *pattern = df_json_get(v, "pattern");
	const char *regex, *literal;
	size_t n = 0;
	int rc;

	regex = df_json_str(df_json_get(pattern, "Regex"), &n);
	literal = regex == NULL ? df_json_str(df_json_get(pattern, "String"), &n) : NULL;
	if (regex == NULL && literal == NULL)
		return df_fail(err, DF_EFORMAT, "pattern is neither a 'Regex' nor a 'String'");
	DF_TRY(load_text(st, v, "content", err));
	DF_TRY(df_tok_regex_new(&st->regex, regex != NULL ? regex : literal, n, literal != NULL, err));
out:
	return rc;
}

static int
load_bert(struct tok_norm_step *st, const struct df_json_value *v, struct df_err *err)
{
	const struct df_json_value *accents = df_json_get(v, "strip_accents");
	bool on;
	int rc;

	DF_TRY(df_json_member_bool(v, "clean_text", true, &st->clean, err));
	DF_TRY(df_json_member_bool(v, "handle_chinese_chars", true, &st->cjk, err));
	DF_TRY(df_json_member_bool(v, "lowercase", true, &st->lower, err));
	DF_TRY(df_json_member_bool(v, "strip_accents", false, &on, err));
	st->accents = df_json_type(accents) == DF_JSON_BOOL ? on : -1;
out:
	return rc;
}

static int
load_step(struct tok_norm *norm, const struct df_json_value *v, const char *type, struct df_err *err)
{
	struct df_buf text = DF_BUF_INIT;
	struct tok_norm_step *st;
	size_t k = 0;
	int rc;

	while (k < sizeof(kinds) / sizeof(kinds[0]) && strcmp(kinds[k].name, type) != 0)
		k++;
	if (k == sizeof(kinds) / sizeof(kinds[0]))
		return df_fail(err, DF_EUNSUPPORTED, "normalizer '%s' is not supported", type);
	DF_TRY(df_grow(&norm->step, &norm->cap, norm->n + 1, sizeof(*norm->step), "the normalizer", err));
	st = &norm->step[norm->n++];
	*st = (struct tok_norm_step){ .kind = kinds[k].kind };
	if (st->kind == NORM_STRIP) {
		DF_TRY(df_json_member_bool(v, "strip_left", true, &st->left, err));
		DF_TRY(df_json_member_bool(v, "strip_right", true, &st->right, err));
	} else if (st->kind == NORM_PREPEND) {
		DF_TRY(load_text(st, v, "prepend", err));
	} else if (st->kind == NORM_REPLACE) {
		DF_TRY(load_replace(st, v, err));
	} else if (st->kind == NORM_BERT) {
		DF_TRY(load_bert(st, v, err));
	}
	if (st->kind >= NORM_STRIP && st->kind != NORM_STRIP_ACCENTS)
		df_json_write(&text, v);
	else
		df_buf_puts(&text, type);
	DF_TRY(df_buf_check(&text, err));
	df_digest_merge(&norm->digest, df_hash_bytes(text.data, text.len, norm->n));
out:
	if (rc != DF_OK)
		df_err_prefix(err, "normalizer '%s': ", type);
	df_buf_release(&text);
	return rc;
}

int
df_tok_norm_load(struct tok_norm *norm, const struct df_json_value *v, struct df_err *err)
{
	const struct df_json_value *list;
	const char *type;
	int rc;

	if (df_json_type(v) == DF_JSON_ABSENT || df_json_type(v) == DF_JSON_NULL)
		return DF_OK;
	DF_TRY(df_tok_type_of(v, "normalizer", &type, err));
	if (strcmp(type, "Sequence") == 0) {
		list = df_json_get(v, "normalizers");
		/* At most as deep as the document may be. */
		for (size_t i = 0; i < df_json_size(list); i++)
			DF_TRY(df_tok_norm_load(norm, df_json_at(list, i), err));
	} else {
		df_uc_ref_init();
		DF_TRY(load_step(norm, v, type, err));
	}
	norm->is_bert = norm->n == 1 && norm->step[0].kind == NORM_BERT;
out:
	return rc;
}

void
df_tok_norm_set_bert(struct tok_norm *norm, bool lowercase_, int accents, bool cjk)
{
	struct tok_norm_step *st = &norm->step[0];
	int how[4] = { 7, lowercase_, accents, cjk };

	if (st->lower == lowercase_ && st->accents == accents && st->cjk == cjk)
		return;
	st->lower = lowercase_;
	st->accents = accents;
	st->cjk = cjk;
	df_digest_merge(&norm->digest, df_hash_bytes(how, sizeof(how), 3));
}

void
df_tok_norm_release(struct tok_norm *norm)
{
	for (size_t i = 0; i < norm->n; i++) {
		free(norm->step[i].text);
		df_tok_regex_free(norm->step[i].regex);
	}
	free(norm->step);
	*norm = (struct tok_norm){ .n = 0 };
}
