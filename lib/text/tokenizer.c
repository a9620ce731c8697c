/*
 * tokenizer.c - the tokenizer as its users see it: open, encode, decode.
 *
 * Encoding joins the parts in tok_priv.h's order.  Nothing is copied on the
 * way unless normalisation really changes a piece, and nothing is allocated
 * once a thread's scratch and the array of ids have grown to size.
 */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "text/tok_priv.h"

/* --- bytes ---------------------------------------------------------------------------------------------------- */

#define BYTES_BOS 256
#define BYTES_EOS 257
#define BYTES_PAD 258

/* The model's vocabulary for tokens that are added: single characters of the byte-level alphabet. */
static uint32_t
bytes_find(const void *ctx, const char *text, size_t n)
{
	size_t len;
	int b;

	(void)ctx;
	if (n == 0 || df_utf8_check(text, n) != n)
		return DF_NO_TOKEN;
	b = df_tok_char_byte(df_uc_get((const unsigned char *)text, &len));
	return len == n && b >= 0 ? (uint32_t)b : DF_NO_TOKEN;
}

static struct tok_vocab_view
vocab_of(const struct df_tokenizer *t)
{
	struct tok_vocab_view bytes = { .find = bytes_find, .size = 256 };

	if (t->bpe == NULL)
		return bytes;
	return (struct tok_vocab_view){ .find = df_tok_bpe_find, .ctx = t->bpe, .size = df_tok_bpe_size(t->bpe) };
}

static const char *const bytes_names[] = { "<|bos|>", "<|eos|>", "<|pad|>" };

static int
open_bytes(struct df_tokenizer *t, struct df_err *err)
{
	struct tok_added_flags special = { .special = true };
	uint32_t id;
	int rc = DF_OK;

	for (size_t i = 0; i < 3; i++)
		DF_TRY(df_tok_add(t, bytes_names[i], strlen(bytes_names[i]), special, &id, err));
	t->bos = BYTES_BOS;
	t->eos = BYTES_EOS;
	t->pad = BYTES_PAD;
	DF_TRY(df_tok_finish(t, err));
out:
	return rc;
}

/* --- life ----------------------------------------------------------------------------------------------------- */

/* A directory or the path of its tokenizer.json: both in full. */
static int
find_files(struct df_tokenizer *t, const char *path, struct df_err *err)
{
	const char *base = df_path_base(path);
	int rc;

	if (df_file_is_dir(path)) {
		DF_TRY(df_strdup(&t->path, path, err));
		DF_TRY(df_path_join(&t->json_path, path, "tokenizer.json", err));
	} else {
		DF_TRY(base == path ? df_strdup(&t->path, ".", err)
				    : df_strndup(&t->path, path, (size_t)(base - path), err));
		DF_TRY(df_strdup(&t->json_path, path, err));
	}
	if (!df_file_exists(t->json_path))
		rc = df_fail(err, DF_ENOINPUT,
		    "tokenizer '%s': %s does not exist; expected \"bytes\", a tokenizer.json or "
		    "a directory that holds one",
		    path, t->json_path);
out:
	return rc;
}

int
df_tokenizer_open(struct df_tokenizer **out, const char *name_or_path, struct df_err *err)
{
	struct df_tokenizer *t = NULL;
	int rc;

	df_uc_init();
	DF_TRY(df_alloc(&t, 1, sizeof(*t), "a tokenizer", err));
	t->bos = t->eos = t->pad = DF_NO_TOKEN;
	if (strcmp(name_or_path, "bytes") == 0) {
		DF_TRY(df_strdup(&t->path, "bytes", err));
		DF_TRY(open_bytes(t, err));
	} else {
		DF_TRY(find_files(t, name_or_path, err));
		DF_TRY(df_tok_load(t, err));
	}
	*out = t;
	t = NULL;
out:
	df_tokenizer_free(t);
	return rc;
}

void
df_tokenizer_free(struct df_tokenizer *t)
{
	if (t == NULL)
		return;
	df_tok_added_release(&t->added);
	for (size_t i = 0; i < t->n_splits; i++)
		df_tok_regex_free(t->split[i].regex);
	free(t->split);
	df_tok_bpe_free(t->bpe);
	free(t->path);
	free(t->json_path);
	free(t);
}

const char *
df_tokenizer_id(const struct df_tokenizer *t)
{
	return t->id;
}

const char *
df_tokenizer_path(const struct df_tokenizer *t)
{
	return t->path;
}

uint32_t
df_tokenizer_vocab_size(const struct df_tokenizer *t)
{
	uint32_t max = t->bpe == NULL ? 255 : df_tok_bpe_max_id(t->bpe);
	uint32_t added = t->added.n > 0 ? t->added.token[t->added.n - 1].id : DF_NO_TOKEN;

	/* DF_NO_TOKEN + 1 is 0: an empty part. */
	return max + 1 > added + 1 ? max + 1 : added + 1;
}

uint32_t
df_tokenizer_bos(const struct df_tokenizer *t)
{
	return t->bos;
}

uint32_t
df_tokenizer_eos(const struct df_tokenizer *t)
{
	return t->eos;
}

uint32_t
df_tokenizer_pad(const struct df_tokenizer *t)
{
	return t->pad;
}

bool
df_tokenizer_add_bos(const struct df_tokenizer *t)
{
	return t->add_bos;
}

uint32_t
df_tokenizer_lookup(const struct df_tokenizer *t, const char *token)
{
	size_t n = strlen(token);
	const struct tok_added_token *a = df_tok_added_by_text(&t->added, token, n);
	struct tok_vocab_view vocab = vocab_of(t);

	return a != NULL ? a->id : vocab.find(vocab.ctx, token, n);
}

/* --- special tokens ------------------------------------------------------------------------------------------- */

int
df_tok_add(
    struct df_tokenizer *t, const char *text, size_t n, struct tok_added_flags flags, uint32_t *id, struct df_err *err)
{
	struct tok_vocab_view vocab = vocab_of(t);

	return df_tok_added_add(&t->added, text, n, flags, &vocab, id, err);
}

static bool
is_plain_bytes(const struct df_tokenizer *t)
{
	bool same = t->bpe == NULL && t->added.n == 3;

	for (uint32_t i = 0; same && i < 3; i++) {
		const struct tok_added_token *a = &t->added.token[i];

		same = a->id == 256 + i && strcmp(a->text, bytes_names[i]) == 0 && a->flags.special &&
		    !a->flags.normalized && !a->flags.single_word && !a->flags.lstrip && !a->flags.rstrip;
	}
	return same;
}

/*
 * The id names what decides ids, not the bytes of a file: a tokenizer that was
 * saved with a checkpoint is the one that packed the data.
 */
int
df_tok_finish(struct df_tokenizer *t, struct df_err *err)
{
	struct df_digest d = t->rules;
	int rc;

	DF_TRY(df_tok_added_build(&t->added, t->norm, err));
	for (size_t i = 0; i < t->added.n; i++) {
		const struct tok_added_token *a = &t->added.token[i];
		uint64_t seed = (uint64_t)a->id << 8 | a->flags.special | a->flags.normalized << 1 |
		    a->flags.single_word << 2 | a->flags.lstrip << 3 | a->flags.rstrip << 4;

		df_digest_merge(&d, df_hash_bytes(a->text, a->n, seed));
	}
	if (is_plain_bytes(t))
		strcpy(t->id, "bytes");
	else
		df_digest_hex(d, t->id);
out:
	return rc;
}

int
df_tokenizer_add_special(struct df_tokenizer *t, const char *token, uint32_t *id, struct df_err *err)
{
	struct tok_added_flags special = { .special = true };
	const struct tok_added_token *old = df_tok_added_by_text(&t->added, token, strlen(token));
	int rc;

	if (old != NULL && old->flags.special) {
		*id = old->id;
		return DF_OK;
	}
	if (df_utf8_check(token, strlen(token)) != strlen(token))
		return df_fail(err, DF_EFORMAT, "special token '%s' is not UTF-8", token);
	DF_TRY(df_tok_add(t, token, strlen(token), special, id, err));
	t->changed = true;
	DF_TRY(df_tok_finish(t, err));
out:
	return rc;
}

int
df_tokenizer_set_eos(struct df_tokenizer *t, const char *token, struct df_err *err)
{
	uint32_t id;
	int rc;

	DF_TRY(df_tokenizer_add_special(t, token, &id, err));
	t->changed |= t->eos != id;
	t->eos = id;
out:
	return rc;
}

/* --- encoding ------------------------------------------------------------------------------------------------- */

struct df_tokscratch {
	struct df_buf norm;    /* a normalised piece */
	struct df_buf *spaced; /* per split: a piece with a space before it */
	size_t n_spaced;
	struct tok_regex_scratch *regex;
	struct tok_bpe_scratch *bpe;
};

int
df_tokscratch_new(struct df_tokscratch **out, const struct df_tokenizer *t, struct df_err *err)
{
	struct df_tokscratch *s = NULL;
	int rc;

	DF_TRY(df_alloc(&s, 1, sizeof(*s), "tokenizer buffers", err));
	DF_TRY(df_alloc(&s->spaced, t->n_splits, sizeof(*s->spaced), "tokenizer buffers", err));
	s->n_spaced = t->n_splits;
	DF_TRY(df_tok_regex_scratch_new(&s->regex, err));
	if (t->bpe != NULL)
		DF_TRY(df_tok_bpe_scratch_new(&s->bpe, err));
	*out = s;
	s = NULL;
out:
	df_tokscratch_free(s);
	return rc;
}

void
df_tokscratch_free(struct df_tokscratch *s)
{
	if (s == NULL)
		return;
	df_buf_release(&s->norm);
	for (size_t i = 0; i < s->n_spaced; i++)
		df_buf_release(&s->spaced[i]);
	free(s->spaced);
	df_tok_regex_scratch_free(s->regex);
	df_tok_bpe_scratch_free(s->bpe);
	free(s);
}

void
df_ids_release(struct df_ids *ids)
{
	free(ids->v);
	*ids = (struct df_ids){ .v = NULL };
}

static int
encode_bytes(const unsigned char *text, size_t n, struct df_ids *ids, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&ids->v, &ids->cap, ids->n + n, sizeof(*ids->v), "token ids", err));
	for (size_t i = 0; i < n; i++)
		ids->v[ids->n + i] = text[i];
	ids->n += n;
out:
	return rc;
}

/* What one encoding carries through the splits. */
struct run {
	const struct df_tokenizer *t;
	struct df_tokscratch *s;
	struct df_ids *ids;
	struct df_err *err;
	size_t step; /* the split that the words of a callback come from */
};

static int split_from(const struct run *r, size_t step, const char *text, size_t n);

static int
on_word(void *ctx, const char *word, size_t n)
{
	const struct run *r = ctx;

	return split_from(r, r->step + 1, word, n);
}

/* Pass text through the splits from `step` on, and what comes out to the model. */
static int
split_from(const struct run *r, size_t step, const char *text, size_t n)
{
	const struct df_tokenizer *t = r->t;
	const struct tok_split *sp = &t->split[step];
	struct run next = *r;
	int rc = DF_OK;

	if (step == t->n_splits)
		return df_tok_bpe_word(t->bpe, r->s->bpe, (const unsigned char *)text, n, r->ids, r->err);
	if (sp->prefix_space && text[0] != ' ') {
		struct df_buf *b = &r->s->spaced[step];

		df_buf_clear(b);
		df_buf_putc(b, ' ');
		df_buf_add(b, text, n);
		DF_TRY(df_buf_check(b, r->err));
		text = b->data;
		n = b->len;
	}
	if (sp->match != NULL) {
		for (size_t at = 0, end; at < n; at = end) {
			end = sp->match((const unsigned char *)text, n, at);
			DF_TRY(split_from(r, step + 1, text + at, end - at));
		}
	} else if (sp->regex != NULL) {
		next.step = step;
		DF_TRY(df_tok_split_regex(sp, r->s->regex, text, n, on_word, &next, r->err));
	} else {
		DF_TRY(split_from(r, step + 1, text, n));
	}
out:
	return rc;
}

static int
emit(const struct run *r, uint32_t id)
{
	int rc;

	if (id == DF_NO_TOKEN)
		return DF_OK;
	DF_TRY(df_grow(&r->ids->v, &r->ids->cap, r->ids->n + 1, sizeof(*r->ids->v), "token ids", r->err));
	r->ids->v[r->ids->n++] = id;
out:
	return rc;
}

/* A piece without raw added tokens: normalise, find the others, split. */
static int
encode_piece(const struct run *r, const char *text, size_t n, bool split_special)
{
	const struct df_tokenizer *t = r->t;
	struct df_tok_added_walk walk;
	const char *piece;
	size_t piece_n;
	uint32_t id;
	bool more;
	int rc = DF_OK;

	if (n == 0)
		return DF_OK;
	df_buf_clear(&r->s->norm);
	if (t->norm != NULL && t->norm->run(text, n, &r->s->norm)) {
		DF_TRY(df_buf_check(&r->s->norm, r->err));
		text = r->s->norm.data;
		n = r->s->norm.len;
	}
	walk = df_tok_added_walk(&t->added, &t->added.normalized, text, n, split_special);
	do {
		more = df_tok_added_next(&walk, &piece, &piece_n, &id);
		if (piece_n > 0 && t->bpe == NULL)
			DF_TRY(encode_bytes((const unsigned char *)piece, piece_n, r->ids, r->err));
		else if (piece_n > 0)
			DF_TRY(split_from(r, 0, piece, piece_n));
		DF_TRY(emit(r, id));
	} while (more);
out:
	return rc;
}

int
df_tokenizer_encode(const struct df_tokenizer *t, struct df_tokscratch *s, const char *text, size_t n,
    bool split_special, struct df_ids *ids, struct df_err *err)
{
	struct run r = { .t = t, .s = s, .ids = ids, .err = err };
	struct df_tok_added_walk walk;
	size_t bad = df_utf8_check(text, n), n_before = ids->n, piece_n;
	const char *piece;
	uint32_t id;
	bool more;
	int rc = DF_OK;

	if (bad < n)
		return df_fail(err, DF_EFORMAT, "byte %zu: not UTF-8 (0x%02x)", bad, (unsigned char)text[bad]);
	walk = df_tok_added_walk(&t->added, &t->added.raw, text, n, split_special);
	do {
		more = df_tok_added_next(&walk, &piece, &piece_n, &id);
		DF_TRY(encode_piece(&r, piece, piece_n, split_special));
		DF_TRY(emit(&r, id));
	} while (more);
out:
	if (rc != DF_OK)
		ids->n = n_before;
	return rc;
}

/* --- decoding ------------------------------------------------------------------------------------------------- */

/* A token of the model: its characters stand for bytes; text outside the byte-level alphabet for itself. */
static void
decode_model_token(const char *text, size_t n, struct df_buf *out)
{
	size_t start = out->len, len;

	for (size_t i = 0; i < n; i += len) {
		int b = df_tok_char_byte(df_uc_get((const unsigned char *)text + i, &len));

		if (b < 0) {
			out->len = start;
			df_buf_add(out, text, n);
			return;
		}
		df_buf_putc(out, (char)b);
	}
}

int
df_tokenizer_decode(const struct df_tokenizer *t, const uint32_t *ids, size_t n, struct df_buf *out, struct df_err *err)
{
	for (size_t i = 0; i < n; i++) {
		const struct tok_added_token *a = df_tok_added_by_id(&t->added, ids[i]);
		const char *text;
		size_t len;

		if (a != NULL) {
			df_buf_add(out, a->text, a->n);
		} else if (t->bpe == NULL && ids[i] < 256) {
			df_buf_putc(out, (char)ids[i]);
		} else if (t->bpe != NULL && (text = df_tok_bpe_text(t->bpe, ids[i], &len)) != NULL) {
			decode_model_token(text, len, out);
		} else {
			return df_fail(err, DF_ERANGE, "token %zu: the tokenizer has no id %u", i, ids[i]);
		}
	}
	return df_buf_check(out, err);
}
