/*
 * tokenizer.c - the public functions of the tokenizer: open, encode (detok.c decodes).
 *
 * Encoding joins the parts in token_priv.h's order.  Nothing is copied unless normalisation really changes a piece,
 * and nothing is allocated once a thread's scratch and the array of ids are large enough.
 */
#include "token/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/words.h"
#include "token/token_priv.h"

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
out:
	return rc;
}

const char *const df_tokenizer_names[] = { "bytes", NULL };

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
		DF_TRY(df_tok_load_bytes(t, err));
	} else {
		rc = find_files(t, name_or_path, err);
		if (rc == DF_OK)
			rc = df_tok_load(t, err);
		if (rc == DF_ENOINPUT)
			df_suggest(err, name_or_path, df_tokenizer_names);
		if (rc != DF_OK)
			goto out;
	}
	memcpy(t->opened_id, t->id, sizeof(t->id));
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
	df_tok_norm_release(&t->norm);
	df_tok_splits_release(&t->splits);
	df_tok_bpe_free(t->bpe);
	df_tok_wordpiece_free(t->wordpiece);
	df_tok_decoder_free(t->decoder);
	df_ids_release(&t->later);
	free(t->frame.id);
	free(t->path);
	free(t->json_path);
	free(t->made);
	free(t);
}

const char *
df_tokenizer_id(const struct df_tokenizer *t)
{
	return t->id;
}

int
df_tokenizer_check(const struct df_tokenizer *t, const char *id, const char *name, struct df_err *err)
{
	if (!id || strcmp(id, t->id) == 0)
		return DF_OK;
	return df_fail(
	    err, DF_ELINEAGE, "%s was made with tokenizer '%s', not with '%s' (%s)", name, id, t->id, t->path);
}

const char *
df_tokenizer_path(const struct df_tokenizer *t)
{
	return t->path;
}

uint32_t
df_tokenizer_vocab_size(const struct df_tokenizer *t)
{
	uint32_t max = t->vocab == NULL ? 255 : (uint32_t)t->vocab->n_ids - 1;
	uint32_t added = t->added.n > 0 ? t->added.max_id : DF_NO_TOKEN;

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

const char *
df_tokenizer_opened_id(const struct df_tokenizer *t)
{
	return t->opened_id;
}

const char *
df_tokenizer_added_later(const struct df_tokenizer *t, size_t i, uint32_t *id)
{
	if (i >= t->later.n)
		return NULL;
	*id = t->later.v[i];
	return df_tok_added_by_id(&t->added, *id)->text;
}

/* --- encoding ------------------------------------------------------------------------------------------------- */

struct df_tokscratch {
	struct tok_norm_scratch norm;
	struct df_buf *rewritten; /* per split: the piece that it made */
	size_t n_rewritten;
	struct tok_regex_scratch *regex;
	struct tok_model_scratch *model;
};

int
df_tokscratch_new(struct df_tokscratch **out, const struct df_tokenizer *t, struct df_err *err)
{
	struct df_tokscratch *s = NULL;
	int rc;

	DF_TRY(df_alloc(&s, 1, sizeof(*s), "tokenizer buffers", err));
	DF_TRY(df_alloc(&s->rewritten, t->splits.n, sizeof(*s->rewritten), "tokenizer buffers", err));
	s->n_rewritten = t->splits.n;
	DF_TRY(df_tok_regex_scratch_new(&s->regex, err));
	if (t->vocab != NULL)
		DF_TRY(df_tok_model_scratch_new(&s->model, err));
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
	df_tok_norm_scratch_release(&s->norm);
	for (size_t i = 0; i < s->n_rewritten; i++)
		df_buf_release(&s->rewritten[i]);
	free(s->rewritten);
	df_tok_regex_scratch_free(s->regex);
	df_tok_model_scratch_free(s->model);
	free(s);
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

/* The state of one encoding on its way through the splits. */
struct run {
	const struct df_tokenizer *t;
	struct df_tokscratch *s;
	struct df_ids *ids;
	struct df_err *err;
	size_t step;      /* the split that called back with a word */
	const char *head; /* the piece at the beginning of the whole text; NULL: not this one */
};

static int
model_word(const struct run *r, const char *text, size_t n)
{
	const unsigned char *word = (const unsigned char *)text;

	if (r->t->bpe != NULL)
		return df_tok_bpe_word(r->t->bpe, r->s->model, word, n, r->ids, r->err);
	return df_tok_wordpiece_word(r->t->wordpiece, r->s->model, word, n, r->ids, r->err);
}

/* Write the piece as sp rewrites it into b; false when sp does not change it. */
static bool
rewrite(const struct tok_split *sp, struct df_buf *b, const char *text, size_t n, bool at_head)
{
	size_t start = 0;

	df_buf_clear(b);
	switch (sp->rewrite) {
	case TOK_AS_IS: return false;
	case TOK_SPACE:
		if (text[0] == ' ')
			return false;
		df_buf_putc(b, ' ');
		df_buf_add(b, text, n);
		return true;
	case TOK_METASPACE:
		if ((sp->prepend == TOK_ALWAYS || (sp->prepend == TOK_FIRST && at_head)) && text[0] != ' ' &&
		    (n < sp->mark_n || memcmp(text, sp->mark, sp->mark_n) != 0))
			df_buf_add(b, sp->mark, sp->mark_n);
		while (start < n) {
			const char *space = memchr(text + start, ' ', n - start);
			size_t end = space == NULL ? n : (size_t)(space - text);

			df_buf_add(b, text + start, end - start);
			if (space != NULL)
				df_buf_add(b, sp->mark, sp->mark_n);
			start = end + 1;
		}
		return true;
	case TOK_BYTE_CHARS:
		for (size_t i = 0; i < n; i++)
			df_buf_put_utf8(b, df_tok_byte_char((unsigned char)text[i]));
		return true;
	}
	return false;
}

static int split_from(const struct run *r, size_t step, const char *text, size_t n);

static int
on_word(void *ctx, const char *word, size_t n)
{
	const struct run *r = ctx;

	return split_from(r, r->step + 1, word, n);
}

/* Pass text through the splits from `step` on, and the resulting words to the model. */
static int
split_from(const struct run *r, size_t step, const char *text, size_t n)
{
	const struct tok_split *sp;
	struct run next = *r;
	int rc = DF_OK;

	if (step == r->t->splits.n)
		return model_word(r, text, n);
	sp = &r->t->splits.v[step];
	if (sp->rewrite != TOK_AS_IS) {
		struct df_buf *b = &r->s->rewritten[step];
		bool at_head = r->head != NULL && text == r->head;

		if (rewrite(sp, b, text, n, at_head)) {
			DF_TRY(df_buf_check(b, r->err));
			text = b->data;
			n = b->len;
		}
		next.head = at_head ? text : NULL;
	}
	if (sp->match != NULL) {
		for (size_t at = 0, end; at < n; at = end) {
			end = sp->match((const unsigned char *)text, n, at);
			DF_TRY(split_from(&next, step + 1, text + at, end - at));
		}
	} else if (sp->cut != NULL) {
		next.step = step;
		DF_TRY(sp->cut(sp, r->s->regex, text, n, on_word, &next, r->err));
	} else {
		DF_TRY(split_from(&next, step + 1, text, n));
	}
out:
	return rc;
}

static int
emit(const struct run *r, uint32_t id)
{
	return id == DF_NO_TOKEN ? DF_OK : df_ids_add(r->ids, &id, 1, r->err);
}

/* A piece without raw added tokens: normalise, find the others, split. */
static int
encode_piece(const struct run *r, const char *text, size_t n, bool split_special)
{
	const struct df_tokenizer *t = r->t;
	struct run here = *r;
	struct df_tok_added_walk walk;
	bool more, first = text == r->head;
	const char *piece;
	size_t piece_n;
	uint32_t id;
	int rc = DF_OK;

	if (n == 0)
		return DF_OK;
	DF_TRY(df_tok_norm_run(&t->norm, &r->s->norm, &text, &n, &first, r->err));
	here.head = first ? text : NULL;
	walk = df_tok_added_walk(&t->added, &t->added.normalized, text, n, split_special);
	do {
		more = df_tok_added_next(&walk, &piece, &piece_n, &id);
		if (piece_n > 0 && t->vocab == NULL)
			DF_TRY(encode_bytes((const unsigned char *)piece, piece_n, r->ids, r->err));
		else if (piece_n > 0)
			DF_TRY(split_from(&here, 0, piece, piece_n));
		DF_TRY(emit(r, id));
	} while (more);
out:
	return rc;
}

int
df_tokenizer_encode(const struct df_tokenizer *t, struct df_tokscratch *s, const char *text, size_t n,
    bool split_special, struct df_ids *ids, struct df_err *err)
{
	struct run r = { .t = t, .s = s, .ids = ids, .err = err, .head = text };
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

void
df_tokenizer_frame(
    const struct df_tokenizer *t, const uint32_t **before, size_t *n_before, const uint32_t **after, size_t *n_after)
{
	const struct tok_frame *f = &t->frame;

	*before = f->n_before > 0 ? f->id : NULL;
	*after = f->n_after > 0 ? f->id + f->n_before : NULL;
	*n_before = f->n_before;
	*n_after = f->n_after;
}

int
df_tokenizer_encode_framed(const struct df_tokenizer *t, struct df_tokscratch *s, const char *text, size_t n,
    size_t max_length, struct df_ids *ids, bool *cut, struct df_err *err)
{
	const struct tok_frame *f = &t->frame;
	size_t start = ids->n, room, len;
	bool too_long;
	int rc;

	if (max_length > 0 && max_length < f->n_before + f->n_after)
		return df_fail(err, DF_ERANGE, "a length of %zu leaves no room for the tokenizer's %zu special tokens",
		    max_length, f->n_before + f->n_after);
	DF_TRY(df_ids_add(ids, f->id, f->n_before, err));
	DF_TRY(df_tokenizer_encode(t, s, text, n, false, ids, err));
	len = ids->n - start - f->n_before;
	room = max_length - f->n_before - f->n_after;
	too_long = max_length > 0 && len > room;
	if (too_long) {
		if (t->truncate_left)
			memmove(ids->v + start + f->n_before, ids->v + ids->n - room, room * sizeof(*ids->v));
		ids->n = start + f->n_before + room;
	}
	if (cut != NULL)
		*cut = too_long;
	if (f->n_after > 0)
		DF_TRY(df_ids_add(ids, f->id + f->n_before, f->n_after, err));
out:
	if (rc != DF_OK)
		ids->n = start;
	return rc;
}
