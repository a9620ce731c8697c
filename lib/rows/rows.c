/*
 * rows.c - load all tokens once; then any row costs a copy of its ids.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rows/rows.h"

struct by_id {
	uint64_t id, row;
};

static int
cmp_id(const void *a, const void *b)
{
	const struct by_id *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

/* Sort rows by id unless row i has id i, and see that ids are unique. */
static int
index_ids(struct df_rows *r, struct df_err *err)
{
	struct by_id *v = NULL;
	uint64_t i = 0;
	int rc = DF_OK;

	while (i < r->n && r->id[i] == i)
		i++;
	if (i == r->n)
		return DF_OK;
	DF_TRY(df_alloc(&v, r->n, sizeof(*v), "sample ids", err));
	DF_TRY(df_alloc(&r->by_id, r->n, sizeof(*r->by_id), "sample ids", err));
	for (i = 0; i < r->n; i++)
		v[i] = (struct by_id){ r->id[i], i };
	qsort(v, r->n, sizeof(*v), cmp_id);
	for (i = 0; i < r->n; i++) {
		if (i > 0 && v[i].id == v[i - 1].id) {
			rc = df_fail(err, DF_EFORMAT, "%s: sample id %llu occurs twice: pack the datasets together",
			    r->name, (unsigned long long)v[i].id);
			goto out;
		}
		r->by_id[i] = v[i].row;
	}
out:
	free(v);
	return rc;
}

struct caps {
	size_t offsets, ids, mask, position, sequence, id, domain, n_targets;
};

/* One more column of the tokens, if they have it. */
static int
append_column(
    uint32_t **to, size_t *cap, uint64_t base, const struct df_column_data *from, uint64_t total, struct df_err *err)
{
	int rc;

	if (from->data == NULL)
		return DF_OK;
	if ((rc = df_grow(to, cap, base + total, sizeof(**to), "packed rows", err)) == DF_OK)
		memcpy(*to + base, from->data, total * sizeof(**to));
	return rc;
}

static int
append(struct df_rows *r, struct caps *cap, const struct df_batch *b, struct df_err *err)
{
	const uint64_t *off = b->col[DF_COL_IDS].offsets;
	const uint64_t *id = b->col[DF_COL_ID].data;
	const uint16_t *domain = b->col[DF_COL_DOMAIN].data;
	const uint64_t *source = b->col[DF_COL_SOURCE_ROW].data;
	uint64_t base = r->n ? r->offsets[r->n] : 0, total = off[b->n], n = r->n + b->n;
	int rc = DF_OK;

	DF_TRY(df_grow(&r->offsets, &cap->offsets, n + 1, sizeof(*r->offsets), "token offsets", err));
	DF_TRY(df_grow(&r->ids, &cap->ids, base + total, sizeof(*r->ids), "token ids", err));
	DF_TRY(df_grow(&r->mask, &cap->mask, base + total, 1, "label mask", err));
	DF_TRY(df_grow(&r->id, &cap->id, n, sizeof(*r->id), "sample ids", err));
	DF_TRY(df_grow(&r->domain, &cap->domain, n, sizeof(*r->domain), "sample domains", err));
	DF_TRY(df_grow(&r->n_targets, &cap->n_targets, n, sizeof(*r->n_targets), "target counts", err));
	DF_TRY(append_column(&r->position, &cap->position, base, &b->col[DF_COL_POSITION], total, err));
	DF_TRY(append_column(&r->sequence, &cap->sequence, base, &b->col[DF_COL_SEQUENCE], total, err));
	if (source && !r->source_end)
		DF_TRY(df_alloc(&r->source_end, r->meta.n_domains + 1, sizeof(*r->source_end), "domains", err));
	memcpy(r->ids + base, b->col[DF_COL_IDS].data, total * sizeof(*r->ids));
	memcpy(r->mask + base, b->col[DF_COL_LABEL_MASK].data, total);
	memcpy(r->id + r->n, id, b->n * sizeof(*id));
	r->offsets[r->n] = base;
	for (uint64_t i = 0; i < b->n; i++) {
		uint32_t targets = 0;

		for (uint64_t t = base + off[i] + 1; t < base + off[i + 1]; t++)
			targets += r->mask[t] != 0;
		for (uint64_t t = base + off[i]; t < base + off[i + 1]; t++)
			r->top_id = r->ids[t] > r->top_id ? r->ids[t] : r->top_id;
		r->n_targets[r->n + i] = targets;
		r->n_unlabelled += targets == 0;
		r->domain[r->n + i] = domain ? domain[i] : 0;
		r->offsets[r->n + i + 1] = base + off[i + 1];
		if (domain && domain[i] >= r->meta.n_domains && domain[i] > 0) {
			rc = df_fail(err, DF_EFORMAT, "%s: sample %llu has domain %u of %zu", r->name,
			    (unsigned long long)id[i], domain[i], r->meta.n_domains);
			goto out;
		}
		if (source && source[i] >= r->source_end[r->domain[r->n + i]])
			r->source_end[r->domain[r->n + i]] = source[i] < UINT64_MAX ? source[i] + 1 : source[i];
	}
	r->n = n;
out:
	return rc;
}

int
df_rows_load(struct df_rows *r, const char *role, const char *const *paths, size_t n_paths, struct df_err *err)
{
	struct df_set *set = NULL;
	struct df_batch b = DF_BATCH_INIT;
	struct caps cap = { 0 };
	uint64_t got;
	int rc = DF_OK;

	*r = (struct df_rows){ .meta = DF_META_INIT };
	DF_TRY(df_set_open(&set, DF_KIND_TOKENS, role, paths, n_paths, err));
	DF_TRY(df_strdup(&r->name, df_set_name(set), err));
	DF_TRY(df_meta_copy(&r->meta, df_set_meta(set), err));
	for (;;) {
		DF_TRY(df_set_next(set, 4096, &b, &got, err));
		if (got == 0)
			break;
		DF_TRY(append(r, &cap, &b, err));
	}
	if (r->n == 0) {
		rc = df_fail(err, DF_EFORMAT, "%s: no samples", r->name);
		goto out;
	}
	/* the id of a stream is known at its end only */
	df_meta_release(&r->meta);
	DF_TRY(df_meta_copy(&r->meta, df_set_meta(set), err));
	DF_TRY(index_ids(r, err));
out:
	df_batch_release(&b);
	df_set_close(set);
	if (rc != DF_OK)
		df_rows_release(r);
	return rc;
}

void
df_rows_release(struct df_rows *r)
{
	free(r->offsets);
	free(r->ids);
	free(r->mask);
	free(r->position);
	free(r->sequence);
	free(r->id);
	free(r->domain);
	free(r->n_targets);
	free(r->source_end);
	free(r->by_id);
	free(r->name);
	df_meta_release(&r->meta);
	*r = (struct df_rows){ .meta = DF_META_INIT };
}

bool
df_rows_find(const struct df_rows *r, uint64_t id, uint64_t *row)
{
	uint64_t lo = 0, hi = r->n;

	if (!r->by_id) {
		*row = id;
		return id < r->n;
	}
	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (r->id[r->by_id[mid]] < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == r->n || r->id[r->by_id[lo]] != id)
		return false;
	*row = r->by_id[lo];
	return true;
}

/* The same rows of one more column; *out stays NULL without it. */
static int
gather_column(uint32_t **to, size_t *cap, const uint32_t *column, const struct df_rows *r, const uint64_t *rows,
    size_t n, const uint64_t *offsets, const uint32_t **out, struct df_err *err)
{
	int rc = DF_OK;

	*out = NULL;
	if (column == NULL)
		return DF_OK;
	DF_TRY(df_grow(to, cap, offsets[n] + 1, sizeof(**to), "batch positions", err));
	for (size_t i = 0; i < n; i++)
		memcpy(*to + offsets[i], column + r->offsets[rows[i]], (offsets[i + 1] - offsets[i]) * sizeof(*column));
	*out = *to;
out:
	return rc;
}

int
df_gather_batch(struct df_gather *g, const struct df_rows *r, const uint64_t *rows, size_t n, struct df_tokens *b,
    struct df_err *err)
{
	uint64_t total = 0, at = 0;
	int rc = DF_OK;

	for (size_t i = 0; i < n; i++)
		total += r->offsets[rows[i] + 1] - r->offsets[rows[i]];
	DF_TRY(df_grow(&g->offsets, &g->cap_offsets, n + 1, sizeof(*g->offsets), "batch offsets", err));
	DF_TRY(df_grow(&g->ids, &g->cap_ids, total + 1, sizeof(*g->ids), "batch tokens", err));
	DF_TRY(df_grow(&g->mask, &g->cap_mask, total + 1, 1, "batch mask", err));
	for (size_t i = 0; i < n; i++) {
		uint64_t first = r->offsets[rows[i]], len = r->offsets[rows[i] + 1] - first;

		g->offsets[i] = at;
		memcpy(g->ids + at, r->ids + first, len * sizeof(*g->ids));
		memcpy(g->mask + at, r->mask + first, len);
		at += len;
	}
	g->offsets[n] = at;
	*b = (struct df_tokens){ .n = n, .offsets = g->offsets, .ids = g->ids, .mask = g->mask };
	DF_TRY(gather_column(&g->position, &g->cap_position, r->position, r, rows, n, g->offsets, &b->position, err));
	DF_TRY(gather_column(&g->sequence, &g->cap_sequence, r->sequence, r, rows, n, g->offsets, &b->sequence, err));
out:
	return rc;
}

int
df_gather_range(
    struct df_gather *g, const struct df_rows *r, uint64_t first, size_t n, struct df_tokens *b, struct df_err *err)
{
	const uint64_t at = r->offsets[first];
	int rc = DF_OK;

	DF_TRY(df_grow(&g->offsets, &g->cap_offsets, n + 1, sizeof(*g->offsets), "batch offsets", err));
	for (size_t i = 0; i <= n; i++)
		g->offsets[i] = r->offsets[first + i] - at;
	*b = (struct df_tokens){ .n = n,
		.offsets = g->offsets,
		.ids = r->ids + at,
		.mask = r->mask + at,
		.position = r->position ? r->position + at : NULL,
		.sequence = r->sequence ? r->sequence + at : NULL };
out:
	return rc;
}

void
df_gather_release(struct df_gather *g)
{
	free(g->offsets);
	free(g->ids);
	free(g->mask);
	free(g->position);
	free(g->sequence);
	*g = (struct df_gather){ 0 };
}

int
df_rows_check_vocab(const struct df_rows *r, size_t n_vocab, const char *model, struct df_err *err)
{
	if (r->top_id < n_vocab)
		return DF_OK;
	return df_fail(err, DF_ELINEAGE,
	    "%s has token id %u, the vocabulary of %s ends at %zu: packed with another "
	    "tokenizer?",
	    r->name, r->top_id, model, n_vocab - 1);
}

const char *
df_rows_tokenizer(const struct df_rows *r)
{
	const struct df_input *in = df_meta_input(&r->meta, "tokenizer");

	return in ? in->id : NULL;
}
