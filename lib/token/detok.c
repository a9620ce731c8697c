/*
 * detok.c - ids back to text, one id at a time.
 *
 * The reference's decoders turn a list of token texts into another list, whose concatenation is the result.  Here
 * each step takes one text and passes on what is settled, so that the text grows with the ids.  A step holds only
 * what later ids can still change: the bytes of an unfinished character and, with ByteFallback, a run of byte
 * tokens (one wrong byte makes all of them invalid).  The valid part of what is held is shown after the settled
 * text, and removed again when the next id comes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "token/token_priv.h"

enum step_kind {
	STEP_BYTE_LEVEL,
	STEP_REPLACE,
	STEP_BYTE_FALLBACK,
	STEP_FUSE,
	STEP_STRIP,
	STEP_METASPACE,
	STEP_WORDPIECE
};

struct step {
	enum step_kind kind;
	bool fused;      /* after a Fuse: all texts are one */
	bool flag;       /* WordPiece: cleanup; Metaspace: the first token's marks are dropped */
	char *from, *to; /* Replace; WordPiece: from = the prefix; Metaspace, Strip: from = the character */
	size_t from_n, to_n;
	struct tok_regex *regex; /* Replace, instead of from */
	size_t start, stop;      /* Strip */
};

#define MAX_STEPS 8

struct tok_decoder {
	struct step step[MAX_STEPS];
	size_t n;
	bool spaces;       /* no decoder: texts are joined by spaces */
	char *unsupported; /* what is not supported; NULL: everything is */
};

struct df_detok {
	const struct df_tokenizer *t;
	bool skip_special;
	struct df_buf text;
	size_t settled;
	size_t seen[MAX_STEPS + 1];      /* per step: texts (Strip after Fuse: characters cut) so far */
	struct df_buf held[MAX_STEPS];   /* per step: bytes that are held */
	struct df_buf made[MAX_STEPS];   /* per step: what a text becomes */
	struct tok_regex_scratch *regex; /* made when it is first needed */
	struct df_err *err;              /* of the current call */
};

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* --- steps ---------------------------------------------------------------------------------------------------- */

static int feed(struct df_detok *d, size_t k, const char *text, size_t n);

static int
feed_made(struct df_detok *d, size_t k)
{
	return feed(d, k + 1, d->made[k].len > 0 ? d->made[k].data : "", d->made[k].len);
}

enum sequence { SEQ_WHOLE, SEQ_BROKEN, SEQ_OPEN };

/*
 * The kind of the next *len of the n > 0 bytes at s: a character, the beginning of one that then becomes invalid,
 * or an unfinished one.
 */
static enum sequence
sequence_at(const unsigned char *s, size_t n, size_t *len)
{
	unsigned char lo = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
	unsigned char hi = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
	size_t want = s[0] < 0x80 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;

	*len = 1;
	if (want > 1 && (s[0] < 0xC2 || s[0] > 0xF4))
		return SEQ_BROKEN;
	while (*len < want && *len < n && s[*len] >= lo && s[*len] <= hi) {
		lo = 0x80;
		hi = 0xBF;
		++*len;
	}
	return *len == want ? SEQ_WHOLE : *len == n ? SEQ_OPEN : SEQ_BROKEN;
}

/*
 * ByteLevel's bytes become text: characters as they are; anything else becomes U+FFFD, one for as many bytes as
 * could have begun a character.  An unfinished character at the end stays held, unless `all`.
 */
static int
feed_bytes(struct df_detok *d, size_t k, bool all)
{
	const char *s = d->held[k].data;
	size_t n = d->held[k].len, at = 0, from = 0, len;
	int rc = DF_OK;

	if (n == 0)
		return DF_OK;
	while (at < n) {
		enum sequence seq = sequence_at((const unsigned char *)s + at, n - at, &len);

		if (seq == SEQ_OPEN && !all)
			break;
		at += len;
		if (seq == SEQ_WHOLE)
			continue;
		DF_TRY(feed(d, k + 1, s + from, at - len - from));
		DF_TRY(feed(d, k + 1, replacement, 3));
		from = at;
	}
	DF_TRY(feed(d, k + 1, s + from, at - from));
	memmove(d->held[k].data, s + at, n - at);
	d->held[k].len = n - at;
out:
	return rc;
}

/* Characters of the byte-level alphabet stand for bytes; a text with any other character is taken as it is. */
static int
byte_level(struct df_detok *d, size_t k, const char *text, size_t n)
{
	struct df_buf *held = &d->held[k];
	size_t start = held->len, len;
	int rc;

	for (size_t i = 0; i < n; i += len) {
		int b = df_tok_char_byte(df_uc_get((const unsigned char *)text + i, &len));

		if (b < 0) {
			held->len = start;
			df_buf_add(held, text, n);
			break;
		}
		df_buf_putc(held, (char)b);
	}
	DF_TRY(df_buf_check(held, d->err));
	DF_TRY(feed_bytes(d, k, false));
out:
	return rc;
}

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* A run of byte tokens has ended: its characters, or U+FFFD for each byte when one of them is wrong. */
static int
end_run(struct df_detok *d, size_t k)
{
	struct df_buf *held = &d->held[k];
	size_t n = held->len;
	int rc = DF_OK;

	if (n > 0 && df_utf8_check(held->data, n) == n)
		DF_TRY(feed(d, k + 1, held->data, n));
	else
		for (size_t i = 0; i < n; i++)
			DF_TRY(feed(d, k + 1, replacement, 3));
	/* Not df_buf_clear: the bytes stay for a caller that only shows them. */
	held->len = 0;
out:
	return rc;
}

/* "<0x0A>" is a byte. */
static int
byte_fallback(struct df_detok *d, size_t k, const char *text, size_t n)
{
	int rc;

	if (n == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>' && hex_digit(text[3]) >= 0 &&
	    hex_digit(text[4]) >= 0) {
		df_buf_putc(&d->held[k], (char)(hex_digit(text[3]) << 4 | hex_digit(text[4])));
		return df_buf_check(&d->held[k], d->err);
	}
	DF_TRY(end_run(d, k));
	DF_TRY(feed(d, k + 1, text, n));
out:
	return rc;
}

static void
replace_all(
    struct df_buf *out, const char *text, size_t n, const char *from, size_t from_n, const char *to, size_t to_n)
{
	const char *end = text + n, *p;

	for (; from_n > 0 && (p = memmem(text, (size_t)(end - text), from, from_n)) != NULL; text = p + from_n) {
		df_buf_add(out, text, (size_t)(p - text));
		df_buf_add(out, to, to_n);
	}
	df_buf_add(out, text, (size_t)(end - text));
}

static int
replace(struct df_detok *d, size_t k, const struct step *st, const char *text, size_t n)
{
	struct tok_regex_walk walk = { 0, SIZE_MAX };
	struct df_buf *made = &d->made[k];
	size_t done = 0, start, end;
	int rc = DF_OK, found;

	df_buf_clear(made);
	if (st->regex == NULL) {
		replace_all(made, text, n, st->from, st->from_n, st->to, st->to_n);
	} else {
		if (d->regex == NULL)
			DF_TRY(df_tok_regex_scratch_new(&d->regex, d->err));
		while ((found = df_tok_regex_next(st->regex, d->regex, text, n, &walk, &start, &end, d->err)) > 0) {
			df_buf_add(made, text + done, start - done);
			df_buf_add(made, st->to, st->to_n);
			done = end;
		}
		if (found < 0)
			return found;
		df_buf_add(made, text + done, n - done);
	}
	DF_TRY(df_buf_check(made, d->err));
	DF_TRY(feed_made(d, k));
out:
	return rc;
}

/* Up to `start` of the character from the front of each text, `stop` from its end; after Fuse there is one text. */
static int
strip(struct df_detok *d, size_t k, const struct step *st, const char *text, size_t n)
{
	size_t cut = st->fused ? d->seen[k] : 0;

	while (cut < st->start && n >= st->from_n && memcmp(text, st->from, st->from_n) == 0) {
		text += st->from_n;
		n -= st->from_n;
		cut++;
	}
	if (st->fused) {
		/* After any other character nothing is cut. */
		d->seen[k] = n > 0 ? st->start : cut;
		return feed(d, k + 1, text, n);
	}
	for (cut = 0; cut < st->stop && n >= st->from_n && memcmp(text + n - st->from_n, st->from, st->from_n) == 0;
	     cut++)
		n -= st->from_n;
	return feed(d, k + 1, text, n);
}

static int
metaspace(struct df_detok *d, size_t k, const struct step *st, const char *text, size_t n)
{
	bool vanish = st->flag && d->seen[k] == 0;
	int rc;

	df_buf_clear(&d->made[k]);
	replace_all(&d->made[k], text, n, st->from, st->from_n, " ", !vanish);
	DF_TRY(df_buf_check(&d->made[k], d->err));
	d->seen[k] = 1;
	DF_TRY(feed_made(d, k));
out:
	return rc;
}

static int
wordpiece(struct df_detok *d, size_t k, const struct step *st, const char *text, size_t n)
{
	static const char *const tidy[][2] = { { " .", "." }, { " ?", "?" }, { " !", "!" }, { " ,", "," },
		{ " ' ", "'" }, { " n't", "n't" }, { " 'm", "'m" }, { " do not", " don't" }, { " 's", "'s" },
		{ " 've", "'ve" }, { " 're", "'re" } };
	struct df_buf *made = &d->made[k], *other = &d->held[k], swap;
	int rc;

	df_buf_clear(made);
	if (d->seen[k] > 0 && n >= st->from_n && memcmp(text, st->from, st->from_n) == 0) {
		text += st->from_n;
		n -= st->from_n;
	} else if (d->seen[k] > 0) {
		df_buf_putc(made, ' ');
	}
	df_buf_add(made, text, n);
	for (size_t i = 0; st->flag && i < sizeof(tidy) / sizeof(tidy[0]); i++) {
		if (memmem(made->data, made->len, tidy[i][0], strlen(tidy[i][0])) == NULL)
			continue;
		df_buf_clear(other);
		replace_all(
		    other, made->data, made->len, tidy[i][0], strlen(tidy[i][0]), tidy[i][1], strlen(tidy[i][1]));
		swap = *made;
		*made = *other;
		*other = swap;
	}
	df_buf_clear(other);
	DF_TRY(df_buf_check(made, d->err));
	d->seen[k] = 1;
	DF_TRY(feed_made(d, k));
out:
	return rc;
}

/* Pass a text to step k. */
static int
feed(struct df_detok *d, size_t k, const char *text, size_t n)
{
	const struct tok_decoder *dec = d->t->decoder;
	const struct step *st = &dec->step[k];

	if (k == dec->n) {
		if (n > 0)
			df_buf_add(&d->text, text, n);
		return df_buf_check(&d->text, d->err);
	}
	switch (st->kind) {
	case STEP_BYTE_LEVEL: return byte_level(d, k, text, n);
	case STEP_REPLACE: return replace(d, k, st, text, n);
	case STEP_BYTE_FALLBACK: return byte_fallback(d, k, text, n);
	case STEP_FUSE: return feed(d, k + 1, text, n);
	case STEP_STRIP: return strip(d, k, st, text, n);
	case STEP_METASPACE: return metaspace(d, k, st, text, n);
	case STEP_WORDPIECE: return wordpiece(d, k, st, text, n);
	}
	return DF_OK;
}

/* Pass on what is held.  `all`: all of it, because no id follows; else only its valid part. */
static int
let_go(struct df_detok *d, bool all)
{
	const struct tok_decoder *dec = d->t->decoder;
	int rc = DF_OK;

	for (size_t k = 0; k < dec->n; k++) {
		struct df_buf *held = &d->held[k];

		if (dec->step[k].kind == STEP_BYTE_LEVEL && all)
			DF_TRY(feed_bytes(d, k, true));
		if (dec->step[k].kind == STEP_BYTE_FALLBACK && held->len > 0 &&
		    (all || df_utf8_check(held->data, held->len) == held->len))
			DF_TRY(end_run(d, k));
	}
	for (size_t k = 0; k < dec->n && all; k++) {
		const struct step *st = &dec->step[k];

		if (st->kind != STEP_STRIP || !st->fused)
			continue;
		for (size_t i = 0; i < st->stop && d->text.len >= st->from_n &&
		     memcmp(d->text.data + d->text.len - st->from_n, st->from, st->from_n) == 0;
		     i++)
			d->text.len -= st->from_n;
	}
out:
	return rc;
}

/* --- the text of ids ------------------------------------------------------------------------------------------ */

int
df_detok_new(struct df_detok **out, const struct df_tokenizer *t, bool skip_special, struct df_err *err)
{
	struct df_detok *d = NULL;
	int rc;

	if (t->decoder->unsupported != NULL)
		return df_fail(err, DF_EUNSUPPORTED, "%s: %s", t->json_path, t->decoder->unsupported);
	DF_TRY(df_alloc(&d, 1, sizeof(*d), "a decoder", err));
	d->t = t;
	d->skip_special = skip_special;
	*out = d;
out:
	return rc;
}

void
df_detok_free(struct df_detok *d)
{
	if (d == NULL)
		return;
	for (size_t k = 0; k < MAX_STEPS; k++) {
		df_buf_release(&d->held[k]);
		df_buf_release(&d->made[k]);
	}
	df_buf_release(&d->text);
	df_tok_regex_scratch_free(d->regex);
	free(d);
}

void
df_detok_reset(struct df_detok *d)
{
	for (size_t k = 0; k < MAX_STEPS; k++)
		df_buf_clear(&d->held[k]);
	memset(d->seen, 0, sizeof(d->seen));
	df_buf_clear(&d->text);
	d->settled = 0;
}

/* Remove the part that was only shown. */
static void
take_back(struct df_detok *d)
{
	d->text.len = d->settled;
	if (d->text.data != NULL)
		d->text.data[d->text.len] = '\0';
}

/* The text of an id, NULL when the tokenizer has no such id.  When every byte is its own id: the byte's character. */
static const char *
text_of(const struct df_tokenizer *t, uint32_t id, char byte[4], size_t *n, bool *special)
{
	const struct tok_added_token *a = df_tok_added_by_id(&t->added, id);
	uint32_t c;

	*special = a != NULL && a->flags.special;
	if (a != NULL) {
		*n = a->n;
		return a->text;
	}
	if (t->vocab != NULL)
		return df_tok_vocab_text(t->vocab, id, n);
	if (id >= 256)
		return NULL;
	c = df_tok_byte_char((unsigned char)id);
	*n = c < 0x80 ? 1 : 2;
	byte[0] = (char)(c < 0x80 ? c : 0xC0 | c >> 6);
	byte[1] = (char)(0x80 | (c & 0x3F));
	return byte;
}

/* Show what is held after the settled text, and keep it held. */
static int
show_held(struct df_detok *d)
{
	const struct tok_decoder *dec = d->t->decoder;
	size_t seen[MAX_STEPS + 1], held[MAX_STEPS];
	int rc;

	memcpy(seen, d->seen, sizeof(seen));
	for (size_t k = 0; k < dec->n; k++)
		held[k] = d->held[k].len;
	d->settled = d->text.len;
	DF_TRY(let_go(d, false));
	for (size_t k = 0; k < dec->n; k++)
		d->held[k].len = held[k];
	memcpy(d->seen, seen, sizeof(seen));
out:
	return rc;
}

/* The text of the next id, without what is held. */
static int
take(struct df_detok *d, const char *text, size_t n)
{
	int rc;

	if (d->t->decoder->spaces && d->seen[MAX_STEPS]++ > 0)
		DF_TRY(feed(d, 0, " ", 1));
	DF_TRY(feed(d, 0, text, n));
out:
	return rc;
}

int
df_detok_push(struct df_detok *d, uint32_t id, struct df_err *err)
{
	const char *text;
	char byte[4];
	bool special;
	size_t n;
	int rc;

	text = text_of(d->t, id, byte, &n, &special);
	if (text == NULL || (special && d->skip_special))
		return DF_OK;
	d->err = err;
	take_back(d);
	DF_TRY(take(d, text, n));
	DF_TRY(show_held(d));
out:
	return rc;
}

/* No id follows: all that is held becomes text. */
static int
finish(struct df_detok *d)
{
	int rc;

	DF_TRY(let_go(d, true));
	d->settled = d->text.len;
out:
	return rc;
}

int
df_detok_end(struct df_detok *d, struct df_err *err)
{
	d->err = err;
	take_back(d);
	return finish(d);
}

const char *
df_detok_text(const struct df_detok *d, size_t *n, size_t *n_settled)
{
	*n = d->text.len;
	if (n_settled != NULL)
		*n_settled = d->settled;
	return d->text.data != NULL ? d->text.data : "";
}

int
df_tokenizer_decode(const struct df_tokenizer *t, const uint32_t *ids, size_t n, struct df_buf *out, struct df_err *err)
{
	struct df_detok *d = NULL;
	const char *text;
	char byte[4];
	bool special;
	size_t len;
	int rc;

	DF_TRY(df_detok_new(&d, t, false, err));
	d->err = err;
	for (size_t i = 0; i < n; i++) {
		text = text_of(t, ids[i], byte, &len, &special);
		if (text == NULL) {
			rc = df_fail(err, DF_ERANGE, "token %zu: the tokenizer has no id %u", i, ids[i]);
			goto out;
		}
		DF_TRY(take(d, text, len));
	}
	DF_TRY(finish(d));
	df_buf_add(out, d->text.data, d->text.len);
	DF_TRY(df_buf_check(out, err));
out:
	df_detok_free(d);
	return rc;
}

/* --- from JSON ------------------------------------------------------------------------------------------------ */

/*
 * A decoder that is not supported is refused when it is used, so that a program that only encodes can use the
 * tokenizer.
 */
static int
refuse(struct tok_decoder *dec, struct df_err *err, const char *what)
{
	return dec->unsupported != NULL ? DF_OK
					: df_asprintf(&dec->unsupported, err, "decoder '%s' is not supported", what);
}

static int
copy_str(char **out, size_t *n, const struct df_json_value *v, const char *key, const char *dflt, struct df_err *err)
{
	const char *s = df_json_str(df_json_get(v, key), n);

	if (s == NULL && df_json_get(v, key) != NULL)
		return df_fail(err, DF_EFORMAT, "'%s' is %s", key, df_json_type_name(df_json_get(v, key)));
	if (s == NULL) {
		s = dflt;
		*n = strlen(dflt);
	}
	return df_strndup(out, s, *n, err);
}

static int
load_replace(struct step *st, const struct df_json_value *v, struct df_err *err)
{
	const struct df_json_value *pattern = df_json_get(v, "pattern");
	const char *regex;
	size_t n;
	int rc;

	DF_TRY(copy_str(&st->to, &st->to_n, v, "content", "", err));
	regex = df_json_str(df_json_get(pattern, "Regex"), &n);
	if (regex != NULL)
		DF_TRY(df_tok_regex_new(&st->regex, regex, n, false, err));
	else
		DF_TRY(copy_str(&st->from, &st->from_n, pattern, "String", "", err));
out:
	return rc;
}

static int
load_step(struct tok_decoder *dec, const struct df_json_value *v, const char *type, struct df_err *err)
{
	static const struct {
		const char *name;
		enum step_kind kind;
	} kinds[] = { { "ByteLevel", STEP_BYTE_LEVEL }, { "Replace", STEP_REPLACE },
		{ "ByteFallback", STEP_BYTE_FALLBACK }, { "Fuse", STEP_FUSE }, { "Strip", STEP_STRIP },
		{ "Metaspace", STEP_METASPACE }, { "WordPiece", STEP_WORDPIECE } };
	struct step *st = &dec->step[dec->n];
	const char *scheme;
	int64_t start, stop;
	bool prefix;
	size_t k = 0;
	int rc = DF_OK;

	while (k < sizeof(kinds) / sizeof(kinds[0]) && strcmp(kinds[k].name, type) != 0)
		k++;
	if (k == sizeof(kinds) / sizeof(kinds[0]) || dec->n == MAX_STEPS)
		return refuse(dec, err, type);
	st->kind = kinds[k].kind;
	for (size_t i = 0; i < dec->n; i++)
		st->fused |= dec->step[i].kind == STEP_FUSE || dec->step[i].kind == STEP_BYTE_LEVEL;
	dec->n++;
	switch (st->kind) {
	case STEP_REPLACE: DF_TRY(load_replace(st, v, err)); break;
	case STEP_STRIP:
		DF_TRY(copy_str(&st->from, &st->from_n, v, "content", " ", err));
		DF_TRY(df_json_member_int(v, "start", 0, 0, INT32_MAX, &start, err));
		DF_TRY(df_json_member_int(v, "stop", 0, 0, INT32_MAX, &stop, err));
		st->start = st->from_n > 0 ? (size_t)start : 0;
		st->stop = st->from_n > 0 ? (size_t)stop : 0;
		break;
	case STEP_METASPACE:
		DF_TRY(copy_str(&st->from, &st->from_n, v, "replacement", "\xE2\x96\x81", err));
		DF_TRY(df_json_member_str(v, "prepend_scheme", "always", &scheme, err));
		DF_TRY(df_json_member_bool(v, "add_prefix_space", true, &prefix, err));
		st->flag = prefix && strcmp(scheme, "never") != 0;
		break;
	case STEP_WORDPIECE:
		DF_TRY(copy_str(&st->from, &st->from_n, v, "prefix", "##", err));
		DF_TRY(df_json_member_bool(v, "cleanup", true, &st->flag, err));
		break;
	default: break;
	}
	/*
	 * After a Fuse, Replace would have to search one growing text.  The other steps could be done there, but no
	 * tokenizer.json has them.
	 */
	if (st->fused && st->kind != STEP_STRIP && st->kind != STEP_FUSE)
		DF_TRY(refuse(dec, err, type));
out:
	if (rc != DF_OK)
		df_err_prefix(err, "decoder '%s': ", type);
	return rc;
}

static int
load(struct tok_decoder *dec, const struct df_json_value *v, struct df_err *err)
{
	const struct df_json_value *list;
	const char *type;
	int rc;

	DF_TRY(df_tok_type_of(v, "decoder", &type, err));
	if (strcmp(type, "Sequence") != 0)
		return load_step(dec, v, type, err);
	list = df_json_get(v, "decoders");
	for (size_t i = 0; i < df_json_size(list); i++)
		DF_TRY(load(dec, df_json_at(list, i), err));
out:
	return rc;
}

int
df_tok_decoder_new(struct tok_decoder **out, const struct df_json_value *v, bool bytes, struct df_err *err)
{
	struct tok_decoder *dec = NULL;
	int rc;

	DF_TRY(df_alloc(&dec, 1, sizeof(*dec), "a decoder", err));
	if (bytes)
		DF_TRY(load_step(dec, NULL, "ByteLevel", err));
	else if (df_json_type(v) == DF_JSON_ABSENT || df_json_type(v) == DF_JSON_NULL)
		dec->spaces = true;
	else
		DF_TRY(load(dec, v, err));
	*out = dec;
	dec = NULL;
out:
	df_tok_decoder_free(dec);
	return rc;
}

void
df_tok_decoder_free(struct tok_decoder *dec)
{
	if (dec == NULL)
		return;
	for (size_t k = 0; k < dec->n; k++) {
		free(dec->step[k].from);
		free(dec->step[k].to);
		df_tok_regex_free(dec->step[k].regex);
	}
	free(dec->unsupported);
	free(dec);
}
