/*
 * token_pick.c - rows of tokens by their ids.
 */
#include "shard/token_pick.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define READ_ROWS ((uint64_t)65536)

/* ---- the ids of the index ---------------------------------------------------------- */

struct ids {
	uint64_t *v; /* [n] distinct, ascending */
	size_t n, cap;
	uint8_t *found; /* [n] */
};

static int
compare_ids(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void
sort_distinct(struct ids *ids)
{
	size_t n = 0;

	if (ids->n)
		qsort(ids->v, ids->n, sizeof(*ids->v), compare_ids);
	for (size_t i = 0; i < ids->n; i++)
		if (n == 0 || ids->v[i] != ids->v[n - 1])
			ids->v[n++] = ids->v[i];
	ids->n = n;
}

static int
check_lineage(const struct df_set *index, const struct df_set *tokens, struct df_err *err)
{
	const struct df_input *made_for = df_meta_input(df_set_meta(index), "tokens");
	const char *id = df_set_meta(tokens)->id;

	if (!made_for || !id[0] || strcmp(made_for->id, id) == 0)
		return DF_OK;
	return df_fail(err, DF_ELINEAGE, "%s was made for tokens %s, but %s is %s", df_set_name(index), made_for->id,
	    df_set_name(tokens), id);
}

static int
read_index(struct ids *ids, const struct df_token_pick *p, struct df_set *index, struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;
	uint64_t n = 0;
	int rc = DF_OK;

	if (df_set_is_stream(index)) {
		rc = df_fail(err, DF_EUSAGE, "%s: an index must be a file", df_set_name(index));
		goto out;
	}
	DF_TRY(check_lineage(index, p->set, err));
	for (;;) {
		DF_TRY(df_set_next(index, READ_ROWS, &b, &n, err));
		if (!n)
			break;
		DF_TRY(df_grow(&ids->v, &ids->cap, ids->n + n, sizeof(*ids->v), "index", err));
		memcpy(ids->v + ids->n, b.col[DF_COL_INDEX].data, n * sizeof(*ids->v));
		ids->n += n;
	}
	sort_distinct(ids);
	DF_TRY(df_alloc(&ids->found, ids->n, sizeof(*ids->found), "index", err));
out:
	df_batch_release(&b);
	return rc;
}

/* ---- their rows ------------------------------------------------------------------------ */

/* The picks among a batch of the set's ids. */
static int
pick_batch(struct df_token_pick *p, struct ids *ids, const struct df_batch *b, struct df_err *err)
{
	const uint64_t *id = b->col[DF_COL_ID].data;

	for (uint64_t i = 0; ids->n && i < b->n; i++) {
		const uint64_t *at = bsearch(&id[i], ids->v, ids->n, sizeof(*ids->v), compare_ids);

		if (!at)
			continue;
		if (ids->found[at - ids->v])
			return df_fail(
			    err, DF_EFORMAT, "%s: sample %" PRIu64 " is there twice", df_set_name(p->set), id[i]);
		ids->found[at - ids->v] = 1;
		p->row[p->n++] = b->first + i;
	}
	return DF_OK;
}

static int
find_rows(struct df_token_pick *p, struct ids *ids, const char *index, struct df_err *err)
{
	const enum df_col id = DF_COL_ID;
	enum df_col all[DF_COL_COUNT];
	struct df_batch b = DF_BATCH_INIT;
	int rc = DF_OK;

	DF_TRY(df_alloc(&p->row, ids->n, sizeof(*p->row), "rows", err));
	df_set_only(p->set, &id, 1);
	for (uint64_t first = 0, rows = df_set_rows(p->set), n; first < rows; first += n) {
		n = rows - first < READ_ROWS ? rows - first : READ_ROWS;
		DF_TRY(df_set_read(p->set, first, n, &b, err));
		DF_TRY(pick_batch(p, ids, &b, err));
	}
	for (size_t i = 0; i < ids->n; i++) {
		if (ids->found[i])
			continue;
		rc = df_fail(err, DF_ELINEAGE, "%s names sample %" PRIu64 ", which %s does not have", index, ids->v[i],
		    df_set_name(p->set));
		goto out;
	}
out:
	for (int c = 0; c < DF_COL_COUNT; c++)
		all[c] = (enum df_col)c;
	df_set_only(p->set, all, DF_COL_COUNT);
	df_batch_release(&b);
	return rc;
}

static int
find_lengths(struct df_token_pick *p, struct df_err *err)
{
	uint64_t *of_row = NULL;
	int rc = DF_OK;

	DF_TRY(df_set_lengths(p->set, DF_COL_IDS, &of_row, err));
	DF_TRY(df_alloc(&p->length, p->n, sizeof(*p->length), "lengths", err));
	for (uint64_t i = 0; i < p->n; i++)
		p->length[i] = of_row[p->row[i]];
out:
	free(of_row);
	return rc;
}

int
df_token_pick_open(struct df_token_pick *p, struct df_set *set, const char *path, struct df_err *err)
{
	struct df_set *index = NULL;
	struct ids ids = { 0 };
	int rc = DF_OK;

	*p = (struct df_token_pick){ .set = set, .part = DF_BATCH_INIT };
	DF_TRY(df_set_open1(&index, DF_KIND_INDEX, "index", path, err));
	DF_TRY(read_index(&ids, p, index, err));
	DF_TRY(find_rows(p, &ids, df_set_name(index), err));
	DF_TRY(find_lengths(p, err));
	memcpy(p->index_id, df_set_meta(index)->id, sizeof(p->index_id));
out:
	free(ids.v);
	free(ids.found);
	df_set_close(index);
	if (rc != DF_OK)
		df_token_pick_close(p);
	return rc;
}

void
df_token_pick_close(struct df_token_pick *p)
{
	free(p->row);
	free(p->length);
	df_batch_release(&p->part);
	*p = (struct df_token_pick){ 0 };
}

/* ---- reading ------------------------------------------------------------------------------ */

/* Room in b for n rows with `tokens` tokens, in all columns of the set. */
static int
make_room(struct df_batch *b, const struct df_set *set, uint64_t n, uint64_t tokens, struct df_err *err)
{
	uint64_t *offsets = NULL;
	int rc = DF_OK;

	DF_TRY(df_arena_alloc(&b->arena, &offsets, n + 1, sizeof(*offsets), "token offsets", err));
	offsets[0] = 0;
	for (int c = 0; c < DF_COL_COUNT; c++) {
		const struct df_column *col = df_column((enum df_col)c);
		const bool ragged = col->offsets != NULL;

		if (!df_set_has(set, (enum df_col)c))
			continue;
		DF_TRY(df_arena_alloc(
		    &b->arena, &b->col[c].data, ragged ? tokens : n, df_coltype_size(col->type), col->path, err));
		b->col[c].offsets = ragged ? offsets : NULL;
		b->col[c].width = 1;
	}
out:
	return rc;
}

/* Append the rows of `part` to the first `at` rows of b. */
static void
append(struct df_batch *b, uint64_t at, const struct df_batch *part)
{
	uint64_t *to = b->col[DF_COL_IDS].offsets;
	const uint64_t *from = part->col[DF_COL_IDS].offsets, base = to[at];

	for (int c = 0; c < DF_COL_COUNT; c++) {
		const size_t size = df_coltype_size(df_column((enum df_col)c)->type);
		const bool ragged = b->col[c].offsets != NULL;

		if (b->col[c].data)
			memcpy((char *)b->col[c].data + (ragged ? base : at) * size, part->col[c].data,
			    (ragged ? from[part->n] : part->n) * size);
	}
	for (uint64_t i = 1; i <= part->n; i++)
		to[at + i] = base + from[i];
}

int
df_token_pick_read(struct df_token_pick *p, uint64_t first, uint64_t n, struct df_batch *b, struct df_err *err)
{
	const uint64_t *row = p->row + first;
	uint64_t tokens = 0;
	int rc = DF_OK;

	df_batch_clear(b);
	for (uint64_t i = 0; i < n; i++)
		tokens += p->length[first + i];
	for (uint64_t i = 0, run; i < n; i += run) {
		for (run = 1; i + run < n && row[i + run] == row[i] + run; run++)
			;
		/* Rows that follow each other need no copy. */
		if (run == n)
			return df_set_read(p->set, row[0], n, b, err);
		DF_TRY(df_set_read(p->set, row[i], run, &p->part, err));
		if (i == 0)
			DF_TRY(make_room(b, p->set, n, tokens, err));
		append(b, i, &p->part);
	}
	b->n = n;
	b->first = n ? row[0] : 0;
out:
	return rc;
}
