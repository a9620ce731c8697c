/*
 * token_writer.c - rows of tokens gathered into batches.
 *
 * The waiting rows lie in one array for each column, as a batch wants them.  Every column of tokens is a table row
 * here: where it grows, and which member of a df_token_row it takes.
 */
#include "shard/token_writer.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Where df_token_row has the value of a column or, of a ragged one, the pointer to its values. */
static const struct {
	enum df_col col;
	size_t at;
} members[] = { { DF_COL_ID, offsetof(struct df_token_row, id) },
	{ DF_COL_DOMAIN, offsetof(struct df_token_row, domain) },
	{ DF_COL_SOURCE_ROW, offsetof(struct df_token_row, source_row) },
	{ DF_COL_IDS, offsetof(struct df_token_row, ids) }, { DF_COL_LABEL_MASK, offsetof(struct df_token_row, mask) },
	{ DF_COL_POSITION, offsetof(struct df_token_row, position) },
	{ DF_COL_SEQUENCE, offsetof(struct df_token_row, sequence) },
	{ DF_COL_PROMPT, offsetof(struct df_token_row, prompt) },
	{ DF_COL_DRAW, offsetof(struct df_token_row, draw) } };
#define N_MEMBERS (sizeof(members) / sizeof(members[0]))

struct column {
	enum df_col col;
	size_t at;   /* in df_token_row */
	size_t size; /* of an element */
	bool ragged;
	char *v;
	size_t cap; /* elements */
};

struct df_token_writer {
	struct df_writer *w;
	struct df_token_batch limit;
	struct column column[N_MEMBERS];
	size_t n_columns;
	uint64_t *offsets; /* [limit.rows + 1] */
	size_t n;          /* rows that wait */
};

static int
add_column(struct df_token_writer *w, enum df_col col, struct df_err *err)
{
	const struct df_column *about = df_column(col);

	for (size_t i = 0; i < N_MEMBERS && w->n_columns < N_MEMBERS; i++) {
		if (members[i].col != col)
			continue;
		w->column[w->n_columns++] = (struct column){ .col = col,
			.at = members[i].at,
			.size = df_coltype_size(about->type),
			.ragged = about->offsets != NULL };
		return DF_OK;
	}
	return df_fail(err, DF_EINTERNAL, "%s is no column of tokens", about->path);
}

int
df_token_writer_open(struct df_token_writer **out, const char *path, const struct df_meta *meta,
    const enum df_col *cols, size_t n_cols, struct df_token_batch batch, const struct df_writer_opts *opts,
    struct df_err *err)
{
	static const size_t widths[DF_COL_COUNT] = { 0 };
	struct df_token_writer *w = NULL;
	int rc;

	DF_TRY(df_alloc(&w, 1, sizeof(*w), "rows", err));
	w->limit = batch;
	DF_TRY(df_alloc(&w->offsets, batch.rows + 1, sizeof(*w->offsets), "rows", err));
	for (size_t i = 0; i < n_cols; i++)
		DF_TRY(add_column(w, cols[i], err));
	DF_TRY(df_writer_open(&w->w, path, meta, cols, n_cols, widths, opts, err));
	*out = w;
	return DF_OK;
out:
	df_token_writer_close(w);
	return rc;
}

uint64_t
df_token_writer_done_rows(const struct df_token_writer *w)
{
	return df_writer_done_rows(w->w);
}

/* Append a row's part of a column. */
static int
append(struct column *c, const struct df_token_writer *w, const struct df_token_row *row, struct df_err *err)
{
	const char *member = (const char *)row + c->at;
	const size_t at = c->ragged ? (size_t)w->offsets[w->n] : w->n, n = c->ragged ? row->n : 1;
	int rc;

	DF_TRY(df_grow(&c->v, &c->cap, at + n, c->size, "rows", err));
	if (n > 0)
		memcpy(
		    c->v + at * c->size, c->ragged ? *(const void *const *)member : (const void *)member, n * c->size);
out:
	return rc;
}

int
df_token_writer_put(struct df_token_writer *w, const struct df_token_row *row, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 0; i < w->n_columns; i++)
		DF_TRY(append(&w->column[i], w, row, err));
	w->offsets[w->n + 1] = w->offsets[w->n] + row->n;
	w->n++;
	if (w->n == w->limit.rows || (w->limit.tokens > 0 && w->offsets[w->n] >= w->limit.tokens))
		rc = df_token_writer_flush(w, err);
out:
	return rc;
}

int
df_token_writer_flush(struct df_token_writer *w, struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;

	if (w->n == 0)
		return DF_OK;
	b.n = w->n;
	for (size_t i = 0; i < w->n_columns; i++) {
		const struct column *c = &w->column[i];

		b.col[c->col] = (struct df_column_data){ c->v, c->ragged ? w->offsets : NULL, 1 };
	}
	w->n = 0;
	return df_writer_put(w->w, &b, err);
}

int
df_token_writer_add_input(struct df_token_writer *w, const char *role, struct df_token_writer *of, struct df_err *err)
{
	char id[DF_DIGEST_HEX];
	int rc;

	DF_TRY(df_token_writer_flush(of, err));
	df_writer_id(of->w, id);
	rc = df_writer_add_input(w->w, role, "tokens", id, err);
out:
	return rc;
}

int
df_token_writer_finish(struct df_token_writer *w, struct df_err *err)
{
	int rc;

	DF_TRY(df_token_writer_flush(w, err));
	rc = df_writer_finish(w->w, err);
out:
	return rc;
}

int
df_token_writer_commit(struct df_token_writer *w, struct df_err *err)
{
	int rc;

	DF_TRY(df_token_writer_flush(w, err));
	rc = df_writer_commit(w->w, NULL, err);
out:
	return rc;
}

void
df_token_writer_close(struct df_token_writer *w)
{
	if (!w)
		return;
	df_writer_close(w->w);
	for (size_t i = 0; i < w->n_columns; i++)
		free(w->column[i].v);
	free(w->offsets);
	free(w);
}
