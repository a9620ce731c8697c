/*
 * rows.c - the data kept for every row, and the source of its tokens.
 */
#include "rows/rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/opt.h"
#include "rows/token_cache.h"

#define CACHE_MIB  512   /* of tokens */
#define INDEX_ROWS 65536 /* rows of the index read at a time */

/* ---- ids ------------------------------------------------------------------------------ */

/* Rows sorted by id, stable, a byte of the id at a time: no more memory than two such arrays. */
static int
sort_by_id(const struct df_rows *r, uint32_t *rows, struct df_err *err)
{
	uint64_t differ = 0;
	uint32_t *from = rows, *to = NULL, *spare = NULL;
	int rc;

	DF_TRY(df_alloc(&to, r->n, sizeof(*to), "sample ids", err));
	spare = to;
	for (uint64_t i = 0; i < r->n; i++) {
		from[i] = (uint32_t)i;
		differ |= r->id[i] ^ r->id[0];
	}
	for (int shift = 0; shift < 64; shift += 8) {
		uint64_t at[257] = { 0 };
		uint32_t *swap;

		if ((differ >> shift & 0xff) == 0)
			continue;
		for (uint64_t i = 0; i < r->n; i++)
			at[(r->id[i] >> shift & 0xff) + 1]++;
		for (int k = 0; k < 256; k++)
			at[k + 1] += at[k];
		for (uint64_t i = 0; i < r->n; i++)
			to[at[r->id[from[i]] >> shift & 0xff]++] = from[i];
		swap = from;
		from = to;
		to = swap;
	}
	if (from != rows)
		memcpy(rows, from, r->n * sizeof(*rows));
out:
	free(spare);
	return rc;
}

/* Check that ids are unique, and build the table to find them. */
static int
index_ids(struct df_rows *r, struct df_err *err)
{
	int rc = DF_OK;

	if (r->id == NULL)
		return DF_OK;
	DF_TRY(df_alloc(&r->by_id, r->n, sizeof(*r->by_id), "sample ids", err));
	DF_TRY(sort_by_id(r, r->by_id, err));
	for (uint64_t i = 1; i < r->n; i++) {
		const uint64_t id = r->id[r->by_id[i]];

		if (id == r->id[r->by_id[i - 1]]) {
			rc = df_fail(err, DF_EFORMAT, "%s: sample id %llu occurs twice: pack the datasets together",
			    r->name, (unsigned long long)id);
			goto out;
		}
	}
out:
	return rc;
}

bool
df_rows_find(const struct df_rows *r, uint64_t id, uint64_t *row)
{
	uint64_t lo = 0, hi = r->n;

	if (!r->id) {
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

/* ---- loading -------------------------------------------------------------------------- */

/* Ids are stored only from the first one that differs from its row number. */
static int
add_ids(struct df_rows *r, const uint64_t *id, uint64_t n, struct df_err *err)
{
	int rc = DF_OK;

	for (uint64_t i = 0; i < n && !r->id; i++) {
		if (id[i] == r->n + i)
			continue;
		DF_TRY(df_grow(&r->id, &r->cap_id, r->n + n, sizeof(*r->id), "sample ids", err));
		for (uint64_t k = 0; k < r->n; k++)
			r->id[k] = k;
	}
	if (r->id) {
		DF_TRY(df_grow(&r->id, &r->cap_id, r->n + n, sizeof(*r->id), "sample ids", err));
		memcpy(r->id + r->n, id, n * sizeof(*id));
	}
out:
	return rc;
}

static int
add_domains(struct df_rows *r, const struct df_batch *b, struct df_err *err)
{
	const uint16_t *domain = b->col[DF_COL_DOMAIN].data;
	const uint64_t *id = b->col[DF_COL_ID].data;
	int rc = DF_OK;

	if (!domain)
		return DF_OK;
	for (uint64_t i = 0; i < b->n; i++) {
		if (domain[i] < r->meta.n_domains || domain[i] == 0)
			continue;
		rc = df_fail(err, DF_EFORMAT, "%s: sample %llu has domain %u of %zu", r->name,
		    (unsigned long long)id[i], domain[i], r->meta.n_domains);
		goto out;
	}
	if (r->meta.n_domains < 2)
		return DF_OK;
	DF_TRY(df_grow(&r->domain, &r->cap_domain, r->n + b->n, sizeof(*r->domain), "sample domains", err));
	memcpy(r->domain + r->n, domain, b->n * sizeof(*domain));
out:
	return rc;
}

/* For each domain, the least number of rows that its dataset can have. */
static int
add_sources(struct df_rows *r, const struct df_batch *b, struct df_err *err)
{
	const uint16_t *domain = b->col[DF_COL_DOMAIN].data;
	const uint64_t *source = b->col[DF_COL_SOURCE_ROW].data;
	int rc = DF_OK;

	if (!source)
		return DF_OK;
	if (!r->source_end)
		DF_TRY(df_alloc(&r->source_end, r->meta.n_domains + 1, sizeof(*r->source_end), "domains", err));
	for (uint64_t i = 0; i < b->n; i++) {
		uint64_t *end = &r->source_end[domain ? domain[i] : 0];

		if (source[i] >= *end)
			*end = source[i] < UINT64_MAX ? source[i] + 1 : source[i];
	}
out:
	return rc;
}

/* Append the data kept for every row: b's ids and domains, and its offsets, which need not begin at 0. */
static int
add_rows(struct df_rows *r, const struct df_batch *b, const uint64_t *offsets, struct df_err *err)
{
	const uint64_t n = r->n + b->n;
	int rc = DF_OK;

	if (n >= UINT32_MAX) {
		rc = df_fail(err, DF_ERANGE, "%s: more than %u samples", r->name, UINT32_MAX - 1);
		goto out;
	}
	DF_TRY(df_grow(&r->base, &r->cap_base, n / DF_ROWS_BLOCK + 1, sizeof(*r->base), "token offsets", err));
	DF_TRY(df_grow(&r->rel, &r->cap_rel, n + 1, sizeof(*r->rel), "token offsets", err));
	DF_TRY(add_ids(r, b->col[DF_COL_ID].data, b->n, err));
	DF_TRY(add_domains(r, b, err));
	DF_TRY(add_sources(r, b, err));
	for (uint64_t i = 0; i <= b->n; i++) {
		const uint64_t row = r->n + i, at = r->n_tokens + offsets[i] - offsets[0];
		uint64_t rel;

		if (row % DF_ROWS_BLOCK == 0)
			r->base[row / DF_ROWS_BLOCK] = at;
		rel = at - r->base[row / DF_ROWS_BLOCK];
		if (rel > UINT32_MAX) {
			rc = df_fail(err, DF_ERANGE, "%s: more than %u tokens in the rows before %llu", r->name,
			    UINT32_MAX, (unsigned long long)row);
			goto out;
		}
		r->rel[row] = (uint32_t)rel;
		if (i > 0 && offsets[i] - offsets[i - 1] > r->longest)
			r->longest = offsets[i] - offsets[i - 1];
	}
	r->n_tokens += offsets[b->n] - offsets[0];
	r->n = n;
out:
	return rc;
}

/* Append one more column of the tokens, if they have it. */
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

static uint32_t
count_targets(const uint8_t *mask, uint64_t n)
{
	uint32_t targets = 0;

	for (uint64_t t = 1; t < n; t++)
		targets += mask[t] != 0;
	return targets;
}

/* Append the batch's rows, with their tokens, in memory. */
static int
append(struct df_rows *r, const struct df_batch *b, struct df_err *err)
{
	const uint64_t *off = b->col[DF_COL_IDS].offsets;
	const uint64_t base = r->n_tokens, total = off[b->n];
	const uint32_t *ids = b->col[DF_COL_IDS].data;
	const uint8_t *mask = b->col[DF_COL_LABEL_MASK].data;
	struct df_piece_dst *m = &r->memory;
	int rc;

	DF_TRY(df_grow(&m->ids, &r->cap_ids, base + total, sizeof(*m->ids), "token ids", err));
	DF_TRY(df_grow(&m->mask, &r->cap_mask, base + total, 1, "label mask", err));
	DF_TRY(append_column(&m->position, &r->cap_position, base, &b->col[DF_COL_POSITION], total, err));
	DF_TRY(append_column(&m->sequence, &r->cap_sequence, base, &b->col[DF_COL_SEQUENCE], total, err));
	memcpy(m->ids + base, ids, total * sizeof(*ids));
	memcpy(m->mask + base, mask, total);
	for (uint64_t t = 0; t < total; t++)
		r->top_id = ids[t] > r->top_id ? ids[t] : r->top_id;
	for (uint64_t i = 0; i < b->n; i++) {
		const uint32_t targets = count_targets(mask + off[i], off[i + 1] - off[i]);

		r->n_targets += targets;
		r->n_unlabelled += targets == 0;
	}
	DF_TRY(add_rows(r, b, off, err));
out:
	return rc;
}

/* Load all rows of the set with their tokens; n_tokens is the number of tokens (0: not known). */
static int
load_all(struct df_rows *r, struct df_set *set, uint64_t n_tokens, struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;
	uint64_t got;
	int rc;

	DF_TRY(df_grow(&r->memory.ids, &r->cap_ids, n_tokens, sizeof(*r->memory.ids), "token ids", err));
	DF_TRY(df_grow(&r->memory.mask, &r->cap_mask, n_tokens, 1, "label mask", err));
	for (;;) {
		DF_TRY(df_set_next(set, 4096, &b, &got, err));
		if (got == 0)
			break;
		DF_TRY(append(r, &b, err));
	}
	r->counted = true;
out:
	df_batch_release(&b);
	return rc;
}

/* Load all rows of the set without their tokens; a cache reads those when they are wanted. */
static int
load_index(struct df_rows *r, struct df_set *set, size_t cache_bytes, struct df_err *err)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_SOURCE_ROW };
	struct df_batch b = DF_BATCH_INIT;
	uint64_t *offsets = NULL, got, rows = df_set_rows(set);
	int rc;

	DF_TRY(df_alloc(&offsets, INDEX_ROWS + 1, sizeof(*offsets), "token offsets", err));
	df_set_only(set, cols, sizeof(cols) / sizeof(cols[0]));
	while (r->n < rows) {
		const uint64_t n = rows - r->n < INDEX_ROWS ? rows - r->n : INDEX_ROWS;

		DF_TRY(df_set_offsets(set, DF_COL_IDS, r->n, n, offsets, err));
		DF_TRY(df_set_next(set, n, &b, &got, err));
		DF_TRY(add_rows(r, &b, offsets, err));
	}
	df_set_rest(set);
	DF_TRY(df_token_cache_new(&r->cache, set, cache_bytes, err));
out:
	df_batch_release(&b);
	free(offsets);
	return rc;
}

int
df_rows_cache_limit(size_t *bytes, struct df_err *err)
{
	const char *env = getenv("DF_TOKEN_CACHE");
	int64_t mib = CACHE_MIB;
	int rc = env ? df_parse_int(env, 0, INT32_MAX, &mib, err) : DF_OK;

	if (rc != DF_OK)
		df_err_prefix(err, "DF_TOKEN_CACHE: ");
	*bytes = (size_t)mib << 20;
	return rc;
}

/* *n_tokens = the set's tokens (0 for a stream); *yes: are they few enough to be kept in memory? */
static int
fits(struct df_set *set, size_t bytes, uint64_t *n_tokens, bool *yes, struct df_err *err)
{
	const size_t each =
	    5 + (df_set_has(set, DF_COL_POSITION) ? 4u : 0) + (df_set_has(set, DF_COL_SEQUENCE) ? 4u : 0);
	uint64_t end[2] = { 0, 0 }, rows = df_set_rows(set);
	int rc = DF_OK;

	*yes = true;
	*n_tokens = 0;
	if (df_set_is_stream(set) || rows == 0)
		return DF_OK;
	if ((rc = df_set_offsets(set, DF_COL_IDS, rows - 1, 1, end, err)) != DF_OK)
		return rc;
	*yes = end[1] <= bytes / each;
	*n_tokens = end[1];
	return DF_OK;
}

int
df_rows_load(struct df_rows *r, const char *role, const char *const *paths, size_t n_paths, struct df_err *err)
{
	struct df_set *set = NULL;
	uint64_t n_tokens;
	size_t bytes;
	bool all;
	int rc;

	*r = (struct df_rows){ .meta = DF_META_INIT };
	DF_TRY(df_rows_cache_limit(&bytes, err));
	DF_TRY(df_set_open(&set, DF_KIND_TOKENS, role, paths, n_paths, err));
	r->set = set;
	DF_TRY(df_strdup(&r->name, df_set_name(set), err));
	DF_TRY(df_meta_copy(&r->meta, df_set_meta(set), err));
	DF_TRY(fits(set, bytes, &n_tokens, &all, err));
	DF_TRY(all ? load_all(r, set, n_tokens, err) : load_index(r, set, bytes, err));
	if (r->n == 0) {
		rc = df_fail(err, DF_EFORMAT, "%s: no samples", r->name);
		goto out;
	}
	/* the id of a stream is known at its end only */
	df_meta_release(&r->meta);
	DF_TRY(df_meta_copy(&r->meta, df_set_meta(set), err));
	DF_TRY(index_ids(r, err));
	if (all) {
		df_set_close(r->set);
		r->set = NULL;
	}
out:
	if (rc != DF_OK)
		df_rows_release(r);
	return rc;
}

int
df_rows_of_batch(struct df_rows *r, const char *name, const struct df_batch *b, struct df_err *err)
{
	int rc;

	*r = (struct df_rows){ .counted = true, .meta = DF_META_INIT };
	DF_TRY(df_strdup(&r->name, name, err));
	DF_TRY(append(r, b, err));
	DF_TRY(index_ids(r, err));
out:
	if (rc != DF_OK)
		df_rows_release(r);
	return rc;
}

void
df_rows_release(struct df_rows *r)
{
	df_token_cache_free(r->cache);
	df_set_close(r->set);
	free(r->base);
	free(r->rel);
	free(r->id);
	free(r->by_id);
	free(r->domain);
	free(r->source_end);
	free(r->memory.ids);
	free(r->memory.mask);
	free(r->memory.position);
	free(r->memory.sequence);
	free(r->name);
	free(r->model);
	df_meta_release(&r->meta);
	*r = (struct df_rows){ .meta = DF_META_INIT };
}

double
df_rows_bytes(const struct df_rows *r)
{
	const size_t token = 5 + (r->memory.position ? 4u : 0) + (r->memory.sequence ? 4u : 0);
	const size_t row =
	    sizeof(*r->rel) + (r->domain ? sizeof(*r->domain) : 0) + (r->id ? sizeof(*r->id) + sizeof(*r->by_id) : 0);
	const double tokens = r->cache ? (double)df_token_cache_bytes(r->cache) : (double)r->n_tokens * (double)token;

	return (double)r->n * (double)row + tokens;
}

/* ---- gathering ------------------------------------------------------------------------ */

static int
check_ids(const struct df_rows *r, uint64_t row, const uint32_t *ids, uint64_t n, struct df_err *err)
{
	for (uint64_t t = 0; t < n; t++)
		if (ids[t] >= r->n_vocab)
			return df_fail(err, DF_ELINEAGE,
			    "%s: sample %llu has token id %u, the vocabulary of %s ends at %llu: packed with another "
			    "tokenizer?",
			    df_token_cache_file(r->cache, df_rows_offset(r, row)),
			    (unsigned long long)df_rows_id(r, row), ids[t], r->model,
			    (unsigned long long)r->n_vocab - 1);
	return DF_OK;
}

/* Copy tokens [first, first+n) of v to place `to` of g. */
static void
copy_view(struct df_gather *g, uint64_t to, const struct df_token_view *v, uint64_t first, uint64_t n)
{
	const uint64_t from = first - v->first;

	memcpy(g->ids + to, v->ids + from, n * sizeof(*g->ids));
	memcpy(g->mask + to, v->mask + from, n);
	if (v->position)
		memcpy(g->position + to, v->position + from, n * sizeof(*g->position));
	if (v->sequence)
		memcpy(g->sequence + to, v->sequence + from, n * sizeof(*g->sequence));
}

/* Copy a row's tokens to place `to` of g. */
static int
copy_row(struct df_gather *g, uint64_t to, const struct df_rows *r, uint64_t row, struct df_err *err)
{
	const uint64_t n = df_rows_length(r, row);
	uint64_t at = df_rows_offset(r, row), end = at + n, dst = to;
	struct df_token_view v = { r->memory.ids, r->memory.position, r->memory.sequence, r->memory.mask, 0,
		r->n_tokens, 0 };
	int rc = DF_OK;

	if (!r->cache) {
		copy_view(g, to, &v, at, n);
		return DF_OK;
	}
	while (at < end) {
		uint64_t take;

		if ((rc = df_token_cache_get(r->cache, at, &v, err)) != DF_OK) {
			df_err_prefix(err, "sample %llu: ", (unsigned long long)df_rows_id(r, row));
			return rc;
		}
		take = v.first + v.n < end ? v.first + v.n - at : end - at;
		copy_view(g, dst, &v, at, take);
		df_token_cache_put(r->cache, &v);
		at += take;
		dst += take;
	}
	return r->n_vocab ? check_ids(r, row, g->ids + to, n, err) : DF_OK;
}

/* Reserve room for n rows of `total` tokens. */
static int
reserve(struct df_gather *g, size_t n, uint64_t total, bool position, bool sequence, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&g->offsets, &g->cap_offsets, n + 1, sizeof(*g->offsets), "batch offsets", err));
	DF_TRY(df_grow(&g->n_targets, &g->cap_targets, n + 1, sizeof(*g->n_targets), "batch targets", err));
	DF_TRY(df_grow(&g->ids, &g->cap_ids, total + 1, sizeof(*g->ids), "batch tokens", err));
	DF_TRY(df_grow(&g->mask, &g->cap_mask, total + 1, 1, "batch mask", err));
	if (position)
		DF_TRY(
		    df_grow(&g->position, &g->cap_position, total + 1, sizeof(*g->position), "batch positions", err));
	if (sequence)
		DF_TRY(
		    df_grow(&g->sequence, &g->cap_sequence, total + 1, sizeof(*g->sequence), "batch sequences", err));
out:
	return rc;
}

static bool
has_position(const struct df_rows *r)
{
	return r->cache ? df_set_has(r->set, DF_COL_POSITION) : r->memory.position != NULL;
}

static bool
has_sequence(const struct df_rows *r)
{
	return r->cache ? df_set_has(r->set, DF_COL_SEQUENCE) : r->memory.sequence != NULL;
}

/* Gather rows rows[0..n) or, if rows is NULL, [first, first+n). */
static int
gather(struct df_gather *g, const struct df_rows *r, const uint64_t *rows, uint64_t first, size_t n,
    struct df_tokens *b, struct df_err *err)
{
	const bool position = has_position(r), sequence = has_sequence(r);
	uint64_t total = 0, at = 0;
	int rc;

	for (size_t i = 0; i < n; i++)
		total += df_rows_length(r, rows ? rows[i] : first + i);
	DF_TRY(reserve(g, n, total, position, sequence, err));
	for (size_t i = 0; i < n; i++) {
		const uint64_t row = rows ? rows[i] : first + i, len = df_rows_length(r, row);

		g->offsets[i] = at;
		DF_TRY(copy_row(g, at, r, row, err));
		g->n_targets[i] = count_targets(g->mask + at, len);
		at += len;
	}
	g->offsets[n] = at;
	*b = (struct df_tokens){ .n = n,
		.offsets = g->offsets,
		.ids = g->ids,
		.mask = g->mask,
		.position = position ? g->position : NULL,
		.sequence = sequence ? g->sequence : NULL };
out:
	return rc;
}

int
df_gather_batch(struct df_gather *g, const struct df_rows *r, const uint64_t *rows, size_t n, struct df_tokens *b,
    struct df_err *err)
{
	return gather(g, r, rows, 0, n, b, err);
}

int
df_gather_range(
    struct df_gather *g, const struct df_rows *r, uint64_t first, size_t n, struct df_tokens *b, struct df_err *err)
{
	return gather(g, r, NULL, first, n, b, err);
}

int
df_gather_pick(struct df_gather *g, const struct df_tokens *from, const size_t *rows, size_t n, struct df_tokens *b,
    struct df_err *err)
{
	uint64_t total = 0, at = 0;
	int rc;

	for (size_t i = 0; i < n; i++)
		total += from->offsets[rows[i] + 1] - from->offsets[rows[i]];
	DF_TRY(reserve(g, n, total, from->position, from->sequence, err));
	for (size_t i = 0; i < n; i++) {
		const struct df_token_view v = { from->ids, from->position, from->sequence, from->mask, 0,
			from->offsets[from->n], 0 };
		const uint64_t first = from->offsets[rows[i]], len = from->offsets[rows[i] + 1] - first;

		g->offsets[i] = at;
		copy_view(g, at, &v, first, len);
		g->n_targets[i] = count_targets(g->mask + at, len);
		at += len;
	}
	g->offsets[n] = at;
	*b = (struct df_tokens){ .n = n,
		.offsets = g->offsets,
		.ids = g->ids,
		.mask = g->mask,
		.position = from->position ? g->position : NULL,
		.sequence = from->sequence ? g->sequence : NULL };
out:
	return rc;
}

void
df_gather_release(struct df_gather *g)
{
	free(g->offsets);
	free(g->n_targets);
	free(g->ids);
	free(g->mask);
	free(g->position);
	free(g->sequence);
	*g = (struct df_gather){ 0 };
}

bool
df_rows_on_demand(const struct df_rows *r)
{
	return r->cache != NULL;
}

int
df_rows_ahead(const struct df_rows *r, const uint64_t *rows, size_t n, struct df_err *err)
{
	struct df_piece *range = NULL;
	int rc;

	if (!r->cache)
		return DF_OK;
	DF_TRY(df_alloc(&range, n, sizeof(*range), "rows ahead", err));
	for (size_t i = 0; i < n; i++)
		range[i] = (struct df_piece){ df_rows_offset(r, rows[i]), df_rows_length(r, rows[i]) };
	DF_TRY(df_token_cache_ahead(r->cache, range, n, err));
out:
	free(range);
	return rc;
}

int
df_rows_check_vocab(struct df_rows *r, size_t n_vocab, const char *model, struct df_err *err)
{
	char *name;
	int rc;

	if (!r->cache && r->top_id >= n_vocab)
		return df_fail(err, DF_ELINEAGE,
		    "%s has token id %u, the vocabulary of %s ends at %zu: packed with another "
		    "tokenizer?",
		    r->name, r->top_id, model, n_vocab - 1);
	DF_TRY(df_strdup(&name, model, err));
	free(r->model);
	r->model = name;
	r->n_vocab = n_vocab;
out:
	return rc;
}

const char *
df_rows_tokenizer(const struct df_rows *r)
{
	const struct df_input *in = df_meta_input(&r->meta, "tokenizer");

	return in ? in->id : NULL;
}
