/*
 * neighbours.c - the search of near, tsds and rds, and its table.
 *
 *   queries --> in memory
 *   train   --> read, check, scale on all threads | the rows that may be chosen, in order | lib/near
 */
#include "select/neighbours.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define MIN_NORM 1e-12

static const char *const metrics[] = { [DF_METRIC_L2] = "l2", [DF_METRIC_DOT] = "cosine" };

/* ---- inputs ------------------------------------------------------------------------ */

/* Not the prompt: a model may want another one for queries.  Nor the length: a cut row is of the same space. */
const char *const df_embedding_params[] = { "pooling", "position", "layer", "normalize", "truncate_dim", "text",
	"tokenizer", NULL };
const char *const df_embedding_roles[] = { "checkpoint", NULL };
const enum df_col df_embedding_columns[3] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_EMBEDDING };
static const enum df_col table_columns[3] = { DF_COL_ID, DF_COL_NEIGHBOUR, DF_COL_DISTANCE };

const struct df_select_input df_search_inputs[3] = {
	[DF_SEARCH_TRAIN] = DF_SEARCH_INPUT_TRAIN,
	[DF_SEARCH_QUERY] = DF_SEARCH_INPUT_QUERY(true),
	[DF_SEARCH_NEIGHBOURS] = { .role = "neighbours",
	    .name = "neighbours",
	    .help = "the queries' neighbours, found before",
	    .kind = DF_KIND_NEIGHBOURS,
	    .join = DF_JOIN_OWN,
	    .optional = true,
	    .columns = table_columns,
	    .n_columns = 3 },
};

int
df_search_check(const struct df_select *in, const char *neighbours_output, struct df_err *err)
{
	const bool query = in->paths[DF_SEARCH_QUERY].n > 0, table = in->paths[DF_SEARCH_NEIGHBOURS].n > 0;

	if (query && table)
		return df_fail(
		    err, DF_EUSAGE, "--query and --neighbours exclude each other: the search was done before");
	if (!query && !table)
		return df_fail(err, DF_EUSAGE, "--query FILE is missing: %s (or --neighbours FILE)",
		    df_search_inputs[DF_SEARCH_QUERY].help);
	if (table && neighbours_output)
		return df_fail(err, DF_EUSAGE, "--neighbours-output: the neighbours are read, not searched");
	return DF_OK;
}

/* ---- queries ------------------------------------------------------------------------- */

static double
norm(const float *x, size_t d)
{
	double sum = 0;

	for (size_t i = 0; i < d; i++)
		sum += (double)x[i] * (double)x[i];
	return sqrt(sum);
}

/* x [d] scaled to norm 1; a row that has none stays zero. */
static void
scale(const float *x, float *to, size_t d)
{
	const double len = norm(x, d);

	for (size_t i = 0; i < d; i++)
		to[i] = len > MIN_NORM ? (float)((double)x[i] / len) : 0;
}

static int
take_queries(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	(void)result;
	return df_point_rows_put(ctx, b, DF_COL_EMBEDDING, err);
}

static int
read_queries(struct df_search *s, struct df_err *err)
{
	struct df_set *set = s->in->sets[DF_SEARCH_QUERY].v[0];
	const size_t d = df_set_width(set, DF_COL_EMBEDDING);
	const struct df_select_scan sc = {
		.in = s->in, .input = DF_SEARCH_QUERY, .out = s->out, .take = take_queries, .ctx = &s->queries
	};
	uint64_t n_zero = 0;
	int rc = DF_OK;

	DF_TRY(df_point_rows_init(&s->queries, df_set_rows(set), d, err));
	DF_TRY(df_select_scan(&sc, err));
	for (uint64_t i = 0; i < s->queries.points.n; i++) {
		float *x = s->queries.rows + i * d;

		if (s->queries.invalid[i]) {
			rc = df_fail(
			    err, DF_EFORMAT, "%s: id %" PRIu64 ": the vector is not finite", df_set_name(set), i);
			goto out;
		}
		n_zero += norm(x, d) <= MIN_NORM;
		if (s->metric == DF_METRIC_DOT)
			scale(x, x, d);
	}
	if (n_zero)
		df_warn("%s: %" PRIu64 " queries are zero, as of empty texts: all rows are equally near to them",
		    df_set_name(set), n_zero);
out:
	return rc;
}

int
df_search_open(struct df_search *s, const struct df_select *in, struct df_selection *out, enum df_metric metric,
    struct df_err *err)
{
	int rc = DF_OK;

	*s = (struct df_search){ .in = in,
		.out = out,
		.metric = metric,
		.near = { .be = in->be, .pool = in->pool, .n_threads = in->n_threads } };
	DF_TRY(df_alloc(&s->valid, out->n_rows, sizeof(*s->valid), "rows", err));
	if (in->sets[DF_SEARCH_QUERY].n > 0)
		DF_TRY(read_queries(s, err));
out:
	return rc;
}

void
df_search_release(struct df_search *s)
{
	df_point_rows_release(&s->queries);
	free(s->valid);
	*s = (struct df_search){ 0 };
}

/* ---- the rows to choose from ------------------------------------------------------------ */

struct pass {
	struct df_search *s;
	df_search_fn *fn;
	void *ctx;
	size_t d;
};

/* A block on its way: its rows, and what is wrong with each. */
struct checked {
	const float *x;
	const uint8_t *invalid; /* [n] */
	uint64_t n_zero;
};

static int
check_block(void *ctx, struct df_batch *b, void **result, int worker, struct df_err *err)
{
	const struct pass *p = ctx;
	const float *x = b->col[DF_COL_EMBEDDING].data;
	const bool scaled = p->s->metric == DF_METRIC_DOT && p->fn;
	struct checked *c;
	uint8_t *invalid;
	float *to = NULL;
	int rc = DF_OK;

	(void)worker;
	DF_TRY(df_arena_alloc(&b->arena, &c, 1, sizeof(*c), "rows", err));
	DF_TRY(df_arena_alloc(&b->arena, &invalid, b->n, sizeof(*invalid), "rows", err));
	if (scaled)
		DF_TRY(df_arena_alloc(&b->arena, &to, b->n, p->d * sizeof(*to), "rows", err));
	*c = (struct checked){ .x = scaled ? to : x, .invalid = invalid };
	for (uint64_t i = 0; i < b->n; i++) {
		const float *row = x + i * p->d;

		invalid[i] = !df_all_finite(row, p->d);
		c->n_zero += !invalid[i] && norm(row, p->d) <= MIN_NORM;
		if (scaled)
			scale(row, to + i * p->d, p->d);
	}
	*result = c;
out:
	return rc;
}

static void
note_block(struct df_search *s, const struct df_batch *b, const struct checked *c)
{
	const uint64_t *id = b->col[DF_COL_ID].data;

	for (uint64_t i = 0; i < b->n; i++) {
		s->valid[id[i]] = !c->invalid[i] && df_select_may(s->in, id[i]);
		s->n_valid += s->valid[id[i]];
		s->out->n_invalid += c->invalid[i];
	}
	s->n_zero += c->n_zero;
}

static bool
handed_on(const struct df_search *s, const struct checked *c, const uint64_t *id, uint64_t i)
{
	return s->with_excluded ? !c->invalid[i] : s->valid[id[i]];
}

/* Hand on the rows, in runs. */
static int
pass_block(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	const struct pass *p = ctx;
	const uint64_t *id = b->col[DF_COL_ID].data;
	const struct checked *c = result;
	int rc = DF_OK;

	if (!p->s->passed)
		note_block(p->s, b, c);
	for (uint64_t first = 0, end; p->fn && first < b->n; first = end + 1) {
		for (end = first; end < b->n && handed_on(p->s, c, id, end); end++)
			;
		if (end > first)
			DF_TRY(p->fn(p->ctx, c->x + first * p->d, id + first, end - first, err));
	}
out:
	return rc;
}

int
df_search_pass(struct df_search *s, df_search_fn *fn, void *ctx, struct df_err *err)
{
	const struct df_set *set = s->in->sets[DF_SEARCH_TRAIN].v[0];
	struct pass p = { .s = s, .fn = fn, .ctx = ctx, .d = df_set_width(set, DF_COL_EMBEDDING) };
	const struct df_select_scan sc = {
		.in = s->in, .input = DF_SEARCH_TRAIN, .out = s->out, .work = check_block, .take = pass_block, .ctx = &p
	};
	int rc = DF_OK;

	DF_TRY(df_select_scan(&sc, err));
	if (!s->passed && s->n_zero)
		df_warn("%s: %" PRIu64 " rows are zero, as of empty texts; they count like any other", df_set_name(set),
		    s->n_zero);
	s->passed = true;
	if (!s->n_valid)
		rc = df_fail(
		    err, DF_EFORMAT, "%s: no row can be chosen: none is finite, or all are excluded", df_set_name(set));
out:
	return rc;
}

void
df_search_add_invalid(const struct df_search *s, uint64_t *order, uint64_t *n)
{
	for (uint64_t i = 0; i < s->out->n_rows; i++)
		if (!s->valid[i] && df_select_may(s->in, i))
			order[(*n)++] = i;
}

/* ---- the table ----------------------------------------------------------------------------- */

void
df_neighbours_release(struct df_neighbours *t)
{
	free(t->id);
	free(t->distance);
	*t = (struct df_neighbours){ 0 };
}

static int
make_table(struct df_neighbours *t, uint64_t m, uint64_t k, struct df_err *err)
{
	size_t n;
	int rc = DF_OK;

	*t = (struct df_neighbours){ .m = m, .k = k };
	DF_TRY(df_size_mul(m, k, &n, "neighbours", err));
	DF_TRY(df_alloc(&t->id, n, sizeof(*t->id), "neighbours", err));
	DF_TRY(df_alloc(&t->distance, n, sizeof(*t->distance), "neighbours", err));
out:
	return rc;
}

static int
add_rows(void *ctx, const float *x, const uint64_t *id, uint64_t n, struct df_err *err)
{
	return df_knn_add(ctx, x, id, n, err);
}

static int
find(struct df_neighbours *t, struct df_search *s, uint64_t max_k, struct df_err *err)
{
	const uint64_t k = max_k < s->out->n_rows ? max_k : s->out->n_rows;
	struct df_knn *knn = NULL;
	int rc = DF_OK;

	DF_TRY(df_knn_new(&knn, &s->near, s->metric, &s->queries.points, k, NULL, err));
	DF_TRY(df_search_pass(s, add_rows, knn, err));
	DF_TRY(make_table(t, s->queries.points.n, k, err));
	DF_TRY(df_knn_end(knn, t->id, t->distance, &t->k, err));
out:
	df_knn_free(knn);
	return rc;
}

int
df_neighbours_union(const struct df_neighbours *t, uint64_t n_rows, uint64_t *order, uint64_t *n, struct df_err *err)
{
	uint8_t *taken = NULL;
	int rc = DF_OK;

	*n = 0;
	DF_TRY(df_alloc(&taken, n_rows, sizeof(*taken), "rows", err));
	for (uint64_t rank = 0; rank < t->k; rank++) {
		for (uint64_t q = 0; q < t->m; q++) {
			const uint64_t id = t->id[q * t->k + rank];

			if (id != DF_KNN_NONE && !taken[id]) {
				taken[id] = 1;
				order[(*n)++] = id;
			}
		}
	}
out:
	free(taken);
	return rc;
}

/* ---- its file --------------------------------------------------------------------------------- */

static int
describe(const struct df_search *s, uint64_t max_k, struct df_meta *m, struct df_err *err)
{
	const struct df_meta *train = df_set_meta(s->in->sets[DF_SEARCH_TRAIN].v[0]);
	const struct df_meta *query = df_set_meta(s->in->sets[DF_SEARCH_QUERY].v[0]);
	const struct df_input *exclude = df_meta_input(&s->out->meta, "exclude");
	const char *tokens = df_select_tokens_id(query);
	int rc = DF_OK;

	m->kind = DF_KIND_NEIGHBOURS;
	if (s->out->meta.tool)
		DF_TRY(df_meta_set_tool(m, s->out->meta.tool, err));
	DF_TRY(df_meta_set_str(m, "metric", metrics[s->metric], err));
	DF_TRY(df_meta_set_int(m, "max_k", (int64_t)max_k, err));
	if (tokens)
		DF_TRY(df_meta_add_input(m, "tokens", "tokens", tokens, err));
	DF_TRY(df_meta_add_input(m, "train", df_kind_name(train->kind), train->id, err));
	DF_TRY(df_meta_add_input(m, "query", df_kind_name(query->kind), query->id, err));
	if (exclude)
		DF_TRY(df_meta_add_input(m, "exclude", exclude->kind, exclude->id, err));
out:
	return rc;
}

int
df_neighbours_put(const struct df_neighbours *t, const struct df_search *s, uint64_t max_k, const char *path,
    struct df_writer **out, struct df_err *err)
{
	const struct df_writer_opts opts = { .compress = DF_COMPRESS_DEFAULT };
	const size_t widths[DF_COL_COUNT] = { [DF_COL_NEIGHBOUR] = t->k, [DF_COL_DISTANCE] = t->k };
	struct df_meta m = DF_META_INIT;
	struct df_batch b = { .n = t->m };
	uint64_t *id = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&id, t->m, sizeof(*id), "ids", err));
	for (uint64_t i = 0; i < t->m; i++)
		id[i] = i;
	b.col[DF_COL_ID] = (struct df_column_data){ .data = id, .width = 1 };
	b.col[DF_COL_NEIGHBOUR] = (struct df_column_data){ .data = t->id, .width = t->k };
	b.col[DF_COL_DISTANCE] = (struct df_column_data){ .data = t->distance, .width = t->k };
	DF_TRY(describe(s, max_k, &m, err));
	DF_TRY(df_writer_open(out, path, &m, table_columns, 3, widths, &opts, err));
	DF_TRY(df_writer_put(*out, &b, err));
out:
	df_meta_release(&m);
	free(id);
	return rc;
}

struct reading {
	struct df_neighbours *t;
	const struct df_search *s;
	const char *name;
	uint64_t width;  /* of the file's table */
	uint64_t *seen;  /* [n_rows]: 1 + the last query that had the row as a neighbour */
	uint64_t n_lost; /* neighbours that may not be chosen */
};

/* Row `query` of the file into the table. */
static int
read_row(struct reading *r, uint64_t query, const uint64_t *id, const float *distance, struct df_err *err)
{
	uint64_t n = 0, *to = r->t->id + query * r->t->k;
	float *to_distance = r->t->distance + query * r->t->k;

	for (uint64_t i = 0; i < r->width && n < r->t->k && id[i] != DF_KNN_NONE; i++) {
		if (id[i] >= r->s->out->n_rows)
			return df_fail(err, DF_EFORMAT, "%s: id %" PRIu64 ": neighbour %" PRIu64 " is out of range",
			    r->name, query, id[i]);
		if (r->seen[id[i]] == query + 1)
			return df_fail(err, DF_EFORMAT, "%s: id %" PRIu64 ": neighbour %" PRIu64 " occurs twice",
			    r->name, query, id[i]);
		r->seen[id[i]] = query + 1;
		if (!(isfinite(distance[i]) && distance[i] >= 0) || (i > 0 && distance[i] < distance[i - 1]))
			return df_fail(err, DF_EFORMAT,
			    "%s: id %" PRIu64 ": the distances of the neighbours do not ascend from 0", r->name, query);
		if (!r->s->valid[id[i]]) {
			r->n_lost++;
			continue;
		}
		to[n] = id[i];
		to_distance[n++] = distance[i];
	}
	for (; n < r->t->k; n++) {
		to[n] = DF_KNN_NONE;
		to_distance[n] = NAN;
	}
	return DF_OK;
}

static int
read_rows(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct reading *r = ctx;
	const uint64_t *query = b->col[DF_COL_ID].data, *id = b->col[DF_COL_NEIGHBOUR].data;
	const float *distance = b->col[DF_COL_DISTANCE].data;
	int rc = DF_OK;

	(void)result;
	for (uint64_t i = 0; i < b->n; i++)
		DF_TRY(read_row(r, query[i], id + i * r->width, distance + i * r->width, err));
out:
	return rc;
}

/* The file was made of these rows, by the same metric, as far as it says. */
static int
check_lineage(const struct df_search *s, const struct df_set *set, struct df_err *err)
{
	const struct df_set *train = s->in->sets[DF_SEARCH_TRAIN].v[0];
	const struct df_meta *m = df_set_meta(set);
	const struct df_input *of = df_meta_input(m, "train");
	char *metric = NULL;
	int rc = DF_OK;

	if (of && df_set_meta(train)->id[0] && strcmp(of->id, df_set_meta(train)->id) != 0)
		rc = df_fail(err, DF_ELINEAGE, "%s has neighbours among %s, and %s is %s", df_set_name(set), of->id,
		    df_set_name(train), df_set_meta(train)->id);
	else if (df_meta_get_str(m, "metric", &metric) && strcmp(metric, metrics[s->metric]) != 0)
		rc = df_fail(err, DF_ELINEAGE, "%s: the metric is %s; here it is %s", df_set_name(set), metric,
		    metrics[s->metric]);
	free(metric);
	return rc;
}

static int
read_table(struct df_neighbours *t, struct df_search *s, uint64_t max_k, struct df_err *err)
{
	struct df_set *set = s->in->sets[DF_SEARCH_NEIGHBOURS].v[0];
	struct reading r = { .t = t, .s = s, .name = df_set_name(set), .width = df_set_width(set, DF_COL_NEIGHBOUR) };
	const struct df_select_scan sc = {
		.in = s->in, .input = DF_SEARCH_NEIGHBOURS, .out = s->out, .take = read_rows, .ctx = &r
	};
	int rc = DF_OK;

	if (df_set_width(set, DF_COL_DISTANCE) != r.width)
		return df_fail(err, DF_EFORMAT, "%s: %" PRIu64 " neighbours and %zu distances of each row", r.name,
		    r.width, df_set_width(set, DF_COL_DISTANCE));
	DF_TRY(df_search_pass(s, NULL, NULL, err));
	DF_TRY(check_lineage(s, set, err));
	DF_TRY(df_alloc(&r.seen, s->out->n_rows, sizeof(*r.seen), "rows", err));
	DF_TRY(make_table(t, df_set_rows(set), max_k < r.width ? max_k : r.width, err));
	DF_TRY(df_select_scan(&sc, err));
	if (r.n_lost)
		df_warn("%s: passed over %" PRIu64 " neighbours that must not be chosen", r.name, r.n_lost);
out:
	free(r.seen);
	return rc;
}

int
df_neighbours_get(struct df_neighbours *t, struct df_search *s, uint64_t max_k, struct df_err *err)
{
	return s->in->sets[DF_SEARCH_NEIGHBOURS].n > 0 ? read_table(t, s, max_k, err) : find(t, s, max_k, err);
}
