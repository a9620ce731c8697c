/*
 * test_select_near.c - near, tsds and rds: worked examples, the references' values (tests/golden/tsds.txt), brute
 * force, and what hostile inputs are told.
 */
#include <math.h>

#include "shard_help.h"

#include "backend/backend.h"
#include "base/buf.h"
#include "base/pool.h"
#include "base/rng.h"
#include "select/tsds.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct df_pool *pool;
static struct df_backend *be;

/* ---- artefacts --------------------------------------------------------------------------- */

static const char tokens_a[] = "0123456789abcdef0123456789abcdef", tokens_b[] = "fedcba9876543210fedcba9876543210";

static void
commit(const char *name, struct df_meta *m, const struct df_batch *b, const enum df_col *cols, size_t n_cols, size_t d)
{
	size_t widths[DF_COL_COUNT] = { 0 };
	struct df_writer *w = NULL;

	for (size_t i = 0; i < n_cols; i++)
		if (df_column(cols[i])->matrix)
			widths[cols[i]] = d;
	OK(df_meta_set_tool(m, "test", err));
	OK(df_writer_open(&w, at(name), m, cols, n_cols, widths, NULL, err));
	OK(df_writer_put(w, b, err));
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	df_meta_release(m);
}

/* Vectors x [n,d] with the ids id [n] (NULL: 0, 1, ..) by a model and a pooling, in two domains by parity of the id. */
static void
put_as(const char *name, const float *x, const uint64_t *id, size_t n, size_t d, const char *checkpoint,
    const char *pooling, const char *tokens)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_EMBEDDING };
	struct df_meta m = { .kind = DF_KIND_EMBEDDINGS };
	struct df_batch b = { .n = n };
	uint64_t *ids = calloc(n + 1, sizeof(*ids));
	uint16_t *domain = calloc(n + 1, sizeof(*domain));
	float *copy = calloc(n * d + 1, sizeof(*copy));

	assert_true(ids && domain && copy);
	if (n)
		memcpy(copy, x, n * d * sizeof(*x));
	for (size_t i = 0; i < n; i++) {
		ids[i] = id ? id[i] : i;
		domain[i] = ids[i] % 2;
	}
	b.col[DF_COL_ID].data = ids;
	b.col[DF_COL_DOMAIN].data = domain;
	b.col[DF_COL_EMBEDDING] = (struct df_column_data){ .data = copy, .width = d };
	OK(df_meta_add_domain(&m, "even", NULL, err));
	OK(df_meta_add_domain(&m, "odd", NULL, err));
	OK(df_meta_set_str(&m, "pooling", pooling, err));
	OK(df_meta_add_input(&m, "checkpoint", "checkpoint", checkpoint, err));
	OK(df_meta_add_input(&m, "tokens", "tokens", tokens, err));
	commit(name, &m, &b, cols, 3, d);
	free(ids);
	free(domain);
	free(copy);
}

static void
put(const char *name, const float *x, size_t n, size_t d)
{
	put_as(name, x, NULL, n, d, tokens_a, "mean", strcmp(name, "query") == 0 ? tokens_b : tokens_a);
}

/* A table of neighbours [m,k], of the rows in the file `train`. */
static void
put_table(const char *name, const uint64_t *id, const float *distance, size_t m, size_t k, const char *metric,
    const char *train)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_NEIGHBOUR, DF_COL_DISTANCE };
	struct df_meta meta = { .kind = DF_KIND_NEIGHBOURS }, of = DF_META_INIT;
	struct df_batch b = { .n = m };
	uint64_t ids[16] = { 0 }, rows[64];
	float distances[64];

	assert_true(m <= 16 && m * k <= 64);
	for (size_t i = 0; i < m; i++)
		ids[i] = i;
	memcpy(rows, id, m * k * sizeof(*id));
	for (size_t i = 0; i < m * k; i++)
		distances[i] = distance ? distance[i] : (float)(i % k);
	b.col[DF_COL_ID].data = ids;
	b.col[DF_COL_NEIGHBOUR] = (struct df_column_data){ .data = rows, .width = k };
	b.col[DF_COL_DISTANCE] = (struct df_column_data){ .data = distances, .width = k };
	if (metric)
		OK(df_meta_set_str(&meta, "metric", metric, err));
	if (train) {
		OK(df_meta_load(&of, at(train), NULL, err));
		OK(df_meta_add_input(&meta, "train", "embeddings", of.id, err));
	}
	commit(name, &meta, &b, cols, 3, k);
	df_meta_release(&of);
}

static void
put_text(const char *name, const char *text)
{
	FILE *f = fopen(at(name), "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* ---- requests ------------------------------------------------------------------------------ */

struct request {
	const struct df_selector *method;
	struct df_select in;
	struct df_opt_table rows;
	void *options;
	struct df_selection out;
	struct df_err err;
	char text[32];
};

static void
add(struct df_strlist *l, const char *name)
{
	char *copy = NULL;

	OK(df_grow(&l->v, &l->cap, l->n + 1, sizeof(*l->v), "paths", err));
	OK(df_strdup(&copy, at(name), err));
	l->v[l->n++] = copy;
}

/* What the method's option `name` is bound to. */
static void *
option(struct request *r, const char *name)
{
	for (size_t i = 0; i < r->rows.n; i++)
		if (strcmp(r->rows.v[i].name, name) == 0)
			return r->rows.v[i].value;
	fail_msg("%s has no option %s", r->method->name, name);
	return NULL;
}

/* method --train train [--role of]; the memory of r must not move. */
static void
ask(struct request *r, const char *method, const char *role, const char *of)
{
	*r = (struct request){ .in = { .seed = 42, .n_threads = 2, .pool = pool, .be = be },
		.out = DF_SELECTION_INIT,
		.err = DF_ERR_INIT };
	OK(df_selector_find(&r->method, method, err));
	OK(df_selector_defaults(r->method, &r->options, err));
	OK(df_selector_rows(r->method, &r->in, r->options, &r->rows, err));
	add(&r->in.paths[0], "train");
	if (role)
		add(option(r, role), of);
}

static void
want(struct request *r, uint64_t n)
{
	snprintf(r->text, sizeof(r->text), "%d", (int)n);
	r->in.amount = (struct df_amount){ .given = true, .n = n, .text = r->text };
}

static int
go(struct request *r)
{
	int rc;

	df_selection_release(&r->out);
	rc = df_select_run(r->method, &r->in, r->options, &r->out, &r->err);
	if (rc == DF_OK && r->out.also)
		rc = df_writer_commit(r->out.also, NULL, &r->err);
	return rc;
}

static void
must(struct request *r)
{
	const int rc = go(r);

	if (rc != DF_OK)
		fail_msg("%s: code %d: %s", r->method->name, rc, r->err.msg);
}

static void
done(struct request *r)
{
	for (size_t i = 0; i < DF_SELECT_INPUTS; i++)
		for (size_t j = 0; j < r->in.paths[i].n; j++)
			free((char *)(uintptr_t)r->in.paths[i].v[j]);
	df_select_release(&r->in);
	df_selection_release(&r->out);
	free(r->rows.v);
	free(r->options);
}

/* It fails with this code, and says this. */
static void
refused(struct request *r, int code, const char *says)
{
	const int rc = go(r);

	if (rc != code || !strstr(r->err.msg, says))
		fail_msg(
		    "%s: code %d: '%s' is not %d with '%s'", r->method->name, rc, rc ? r->err.msg : "", code, says);
}

static void
chose(const struct request *r, const uint64_t *ids, size_t n)
{
	struct df_buf got = DF_BUF_INIT, want = DF_BUF_INIT;

	for (size_t i = 0; i < r->out.n_index; i++)
		df_buf_printf(&got, " %d", (int)r->out.index[i]);
	for (size_t i = 0; i < n; i++)
		df_buf_printf(&want, " %d", (int)ids[i]);
	if (strcmp(got.data ? got.data : "", want.data ? want.data : "") != 0)
		fail_msg("%s chose%s, not%s", r->method->name, got.data, want.data);
	df_buf_release(&got);
	df_buf_release(&want);
}
#define CHOSE(r, ...)                                     \
	do {                                              \
		const uint64_t want_[] = { __VA_ARGS__ }; \
		chose((r), want_, COUNT(want_));          \
	} while (0)

/* ---- points -------------------------------------------------------------------------------- */

static float *
normal(size_t n, size_t d, uint64_t seed)
{
	float *x = malloc(n * d * sizeof(*x));

	assert_non_null(x);
	for (size_t i = 0; i < n * d; i++)
		x[i] = (float)df_rng_normal(seed, DF_RNG_DEMO, 0, i);
	return x;
}

static void
to_unit(float *x, size_t n, size_t d)
{
	for (size_t i = 0; i < n; i++) {
		double sum = 0;

		for (size_t j = 0; j < d; j++)
			sum += (double)x[i * d + j] * (double)x[i * d + j];
		for (size_t j = 0; j < d; j++)
			x[i * d + j] = (float)((double)x[i * d + j] / sqrt(sum));
	}
}

static double
square(const float *a, const float *b, size_t d)
{
	double sum = 0;

	for (size_t i = 0; i < d; i++)
		sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
	return sum;
}

static double
dot(const float *a, const float *b, size_t d)
{
	double sum = 0;

	for (size_t i = 0; i < d; i++)
		sum += (double)a[i] * (double)b[i];
	return sum;
}

struct ranked {
	double far;
	uint64_t id;
};

static int
nearer(const void *x, const void *y)
{
	const struct ranked *a = x, *b = y;

	if (a->far != b->far)
		return a->far < b->far ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

/* rank [n] of the rows x, from the query, by distance or, with `cosine`, by -cosine. */
static void
rank(const float *x, size_t n, size_t d, const float *query, bool cosine, struct ranked *r)
{
	for (size_t i = 0; i < n; i++) {
		const double len = sqrt(dot(x + i * d, x + i * d, d) * dot(query, query, d));

		r[i].id = i;
		r[i].far = !cosine ? square(x + i * d, query, d) : len > 0 ? -dot(x + i * d, query, d) / len : 0;
	}
	qsort(r, n, sizeof(*r), nearer);
}

/* ---- near ------------------------------------------------------------------------------------ */

static void
near_takes_rank_by_rank(void **state)
{
	static const uint64_t lists[] = { 5, 2, 7, 5, 9, 2 };
	struct request r;

	(void)state;
	put("train", (float[10]){ 0 }, 10, 1);
	put_table("table", lists, NULL, 2, 3, "l2", "train");
	ask(&r, "near", "neighbours", "table");
	want(&r, 4);
	must(&r);
	CHOSE(&r, 5, 2, 9, 7);
	assert_string_equal(df_meta_input(&r.out.meta, "neighbours")->kind, "neighbours");
	want(&r, 5);
	refused(&r, DF_EUSAGE, "asked for 5 rows, but only 4");
	assert_non_null(strstr(r.err.msg, "--max-k"));
	want(&r, 0);
	must(&r);
	assert_int_equal(r.out.n_index, 0);
	want(&r, 3);
	*(int64_t *)option(&r, "max-k") = 2;
	must(&r);
	CHOSE(&r, 5, 2, 9);
	want(&r, 4);
	refused(&r, DF_EUSAGE, "only 3");
	done(&r);
}

/* DataFlex 3c13e37's near_selector on these lists. */
static void
near_is_dataflexs(void **state)
{
	static const uint64_t lists[] = { 15, 17, 9, 10, 11, 3, 2, 8, 14, 1, 9, 13, 19, 6, 7, 9, 13, 4, 7, 2, 10, 0, 17,
		4 };
	struct request r;

	(void)state;
	put("train", (float[20]){ 0 }, 20, 1);
	put_table("table", lists, NULL, 4, 6, NULL, NULL);
	ask(&r, "near", "neighbours", "table");
	want(&r, 9);
	must(&r);
	CHOSE(&r, 15, 2, 19, 7, 17, 8, 6, 9, 14);
	r.in.dataflex = true;
	refused(&r, DF_EUSAGE, "--compat dataflex: near has no such mode");
	done(&r);
}

/* The union of lists by brute force. */
static size_t
plain_union(const float *x, size_t n, const float *q, size_t m, size_t d, size_t k, bool cosine, uint64_t *out)
{
	struct ranked *r = malloc(n * m * sizeof(*r));
	bool *taken = calloc(n, sizeof(*taken));
	size_t n_out = 0;

	assert_true(r && taken);
	for (size_t i = 0; i < m; i++)
		rank(x, n, d, q + i * d, cosine, r + i * n);
	for (size_t j = 0; j < k && j < n; j++) {
		for (size_t i = 0; i < m; i++) {
			const uint64_t id = r[i * n + j].id;

			if (!taken[id])
				out[n_out++] = id;
			taken[id] = true;
		}
	}
	free(r);
	free(taken);
	return n_out;
}

static void
near_is_exact(void **state)
{
	enum { N = 300, M = 7, D = 5 };
	float *x = normal(N, D, 1), *q = normal(M, D, 2);
	uint64_t want_ids[N], shuffled[N];
	struct request r, again;
	float *moved = malloc(N * D * sizeof(*moved));

	(void)state;
	assert_non_null(moved);
	memcpy(x + 10 * D, x + 3 * D, D * sizeof(*x)); /* duplicates: by id */
	memcpy(q, x + 3 * D, D * sizeof(*x));
	put("train", x, N, D);
	put("query", q, M, D);
	for (size_t k = 1; k <= 2 * N; k += 23) {
		ask(&r, "near", "query", "query");
		*(int64_t *)option(&r, "max-k") = (int64_t)k;
		must(&r);
		chose(&r, want_ids, plain_union(x, N, q, M, D, k, false, want_ids));
		done(&r);
	}
	/* The same rows in another order of the file. */
	for (size_t i = 0; i < N; i++) {
		shuffled[i] = i * 7 % N;
		memcpy(moved + i * D, x + shuffled[i] * D, D * sizeof(*x));
	}
	put_as("train", moved, shuffled, N, D, tokens_a, "mean", tokens_a);
	ask(&again, "near", "query", "query");
	must(&again);
	chose(&again, want_ids, plain_union(x, N, q, M, D, N, false, want_ids));
	done(&again);
	free(x);
	free(q);
	free(moved);
}

/* What a search wrote is read back as what it found. */
static void
neighbours_are_kept(void **state)
{
	enum { N = 50, M = 4, D = 3 };
	static const char *const methods[] = { "near", "tsds" };
	float *x = normal(N, D, 3), *q = normal(M, D, 4);
	struct request r, again;
	struct df_set *set = NULL;

	(void)state;
	put("train", x, N, D);
	put("query", q, M, D);
	for (size_t i = 0; i < 2; i++) {
		ask(&r, methods[i], "query", "query");
		*(int64_t *)option(&r, "max-k") = 9;
		*(const char **)option(&r, "neighbours-output") = at("kept");
		want(&r, 8);
		must(&r);
		ask(&again, methods[i], "neighbours", "kept");
		want(&again, 8);
		must(&again);
		chose(&again, r.out.index, 8);
		if (r.out.probability)
			assert_memory_equal(r.out.probability, again.out.probability, N * sizeof(double));
		*(const char **)option(&again, "neighbours-output") = at("kept2");
		refused(&again, DF_EUSAGE, "--neighbours-output: the neighbours are read");
		done(&again);
		done(&r);
	}
	OK(df_set_open1(&set, DF_KIND_NEIGHBOURS, "table", at("kept"), err));
	assert_int_equal(df_set_rows(set), M);
	assert_int_equal(df_set_width(set, DF_COL_NEIGHBOUR), 9);
	assert_string_equal(df_meta_param(df_set_meta(set), "metric"), "\"l2\"");
	assert_string_equal(df_meta_param(df_set_meta(set), "max_k"), "9");
	assert_string_equal(df_meta_input(df_set_meta(set), "tokens")->id, tokens_b);
	df_set_close(set);
	free(x);
	free(q);
}

static void
tables_that_lie_are_refused(void **state)
{
	static const struct {
		uint64_t id[4];
		float distance[4];
		const char *metric, *train, *says;
		int code;
	} t[] = {
		{ { 0, 1, 2, 10 }, { 0, 1, 0, 1 }, "l2", "train", "id 1: neighbour 10 is out of range", DF_EFORMAT },
		{ { 0, 1, 2, 2 }, { 0, 1, 0, 1 }, "l2", "train", "neighbour 2 occurs twice", DF_EFORMAT },
		{ { 0, 1, 2, 3 }, { 0, 1, 1, 0 }, "l2", "train", "id 1: the distances", DF_EFORMAT },
		{ { 0, 1, 2, 3 }, { 0, NAN, 0, 1 }, "l2", "train", "id 0: the distances", DF_EFORMAT },
		{ { 0, 1, 2, 3 }, { 0, INFINITY, 0, 1 }, "l2", "train", "id 0: the distances", DF_EFORMAT },
		{ { 0, 1, 2, 3 }, { -1, 1, 0, 1 }, "l2", "train", "id 0: the distances", DF_EFORMAT },
		{ { 0, 1, 2, 3 }, { 0, 1, 0, 1 }, "cosine", "train", "the metric is cosine", DF_ELINEAGE },
		{ { 0, 1, 2, 3 }, { 0, 1, 0, 1 }, "l2", "other", "has neighbours among", DF_ELINEAGE },
	};
	static const char *const methods[] = { "near", "tsds" };
	struct request r;

	(void)state;
	put("train", (float[10]){ 0 }, 10, 1);
	put("other", (float[10]){ 1 }, 10, 1);
	for (size_t i = 0; i < 2 * COUNT(t); i++) {
		put_table("table", t[i / 2].id, t[i / 2].distance, 2, 2, t[i / 2].metric, t[i / 2].train);
		ask(&r, methods[i % 2], "neighbours", "table");
		refused(&r, t[i / 2].code, t[i / 2].says);
		done(&r);
	}
}

/* Neighbours of a table that must not be chosen, or are not finite, are passed over. */
static void
tables_may_have_more(void **state)
{
	static const uint64_t lists[] = { 3, 1, 0, 1, 4, 3 };
	struct request r;

	(void)state;
	put("train", (float[]){ 0, 1, 2, NAN, 4 }, 5, 1);
	put_table("table", lists, NULL, 2, 3, "l2", "train");
	put_text("one", "1\n");
	put_text("three", "1\n0\n4\n");
	for (size_t i = 0; i < 2; i++) {
		ask(&r, i ? "tsds" : "near", "neighbours", "table");
		r.in.exclude = at("one");
		must(&r);
		assert_int_equal(r.out.n_invalid, 1);
		if (i == 0)
			CHOSE(&r, 0, 4);
		else
			assert_true(r.out.probability[0] == .5 && r.out.probability[4] == .5);
		*(int64_t *)option(&r, "max-k") = 1; /* of those that remain */
		must(&r);
		assert_int_equal(r.out.n_index, 2);
		put_text("all of the first", "1\n0\n");
		r.in.exclude = at("all of the first");
		if (i == 0) {
			must(&r);
			CHOSE(&r, 4);
		} else {
			refused(&r, DF_EFORMAT, "query 0 has no neighbour that may be chosen");
		}
		r.in.exclude = at("three");
		*(int64_t *)option(&r, "max-k") = 3;
		want(&r, 1);
		refused(&r, i ? DF_EFORMAT : DF_EUSAGE, i ? "query 0" : "asked for 1 rows, but only 0");
		done(&r);
	}
}

/* ---- what hostile inputs are told, by all three ------------------------------------------------- */

static const char *const methods[] = { "near", "tsds", "rds" };

static void
inputs_must_belong_together(void **state)
{
	const float x[] = { 1, 0, 0, 1, 1, 1, 0.5f, 0.25f }, bad[] = { 1, NAN, 0, 1 }, wide[] = { 1, 0, 0, 1, 0, 0 };
	static const uint64_t gap[] = { 0, 2 }, twice[] = { 1, 1 };
	static const struct {
		const char *of, *says;
		int code;
	} t[] = {
		{ "other model", "'checkpoint'", DF_ELINEAGE },
		{ "other pooling", "'pooling'", DF_ELINEAGE },
		{ "wide", "has 2 dimensions", DF_EFORMAT },
		{ "empty", "no rows", DF_EFORMAT },
		{ "bad", "id 0: the vector is not finite", DF_EFORMAT },
		{ "gap", "gap", DF_EFORMAT },
		{ "twice", "twice", DF_EFORMAT },
		{ "nowhere", "nowhere", DF_ENOINPUT },
		{ "table", "neighbours", DF_EFORMAT },
	};
	struct request r;

	(void)state;
	put("train", x, 4, 2);
	put("query", x, 2, 2);
	put_as("other model", x, NULL, 2, 2, tokens_b, "mean", tokens_b);
	put_as("other pooling", x, NULL, 2, 2, tokens_a, "last", tokens_b);
	put("wide", wide, 2, 3);
	put("empty", x, 0, 2);
	put("bad", bad, 2, 2);
	put_as("gap", x, gap, 2, 2, tokens_a, "mean", tokens_b);
	put_as("twice", x, twice, 2, 2, tokens_a, "mean", tokens_b);
	put_table("table", (uint64_t[]){ 0, 1 }, NULL, 1, 2, "l2", NULL);
	for (size_t m = 0; m < COUNT(methods); m++) {
		for (size_t i = 0; i < COUNT(t); i++) {
			ask(&r, methods[m], "query", t[i].of);
			refused(&r, t[i].code, t[i].says);
			done(&r);
		}
		ask(&r, methods[m], NULL, NULL);
		refused(&r, DF_EUSAGE, m == 2 ? "rds needs --query FILE" : "--query FILE is missing");
		done(&r);
		ask(&r, methods[m], "query", "query");
		if (m < 2) {
			add(option(&r, "neighbours"), "table");
			refused(&r, DF_EUSAGE, "exclude each other");
		}
		done(&r);
		/* Ids of the rows to choose from. */
		put_as("train", x, (uint64_t[]){ 0, 1, 2, 4 }, 4, 2, tokens_a, "mean", tokens_a);
		ask(&r, methods[m], "query", "query");
		refused(&r, DF_EFORMAT, "train");
		done(&r);
		put_as("train", x, (uint64_t[]){ 0, 1, 2, 1 }, 4, 2, tokens_a, "mean", tokens_a);
		ask(&r, methods[m], "query", "query");
		refused(&r, DF_EFORMAT, "train");
		done(&r);
		put("train", x, 0, 2);
		ask(&r, methods[m], "query", "query");
		refused(&r, DF_EFORMAT, "no row can be chosen");
		done(&r);
		put("train", x, 4, 2);
	}
}

/* Every way to ask for choices of rds. */
static void
vary(struct request *r, size_t how)
{
	if (strcmp(r->method->name, "rds") == 0)
		*(int *)option(r, "agg") = (int)how;
}

/* Rows that are NaN or infinite are never chosen, and always counted; zero rows count like any other. */
static void
invalid_rows_are_not_chosen(void **state)
{
	enum { N = 12, BAD = 3 };
	float x[2 * N];
	struct request r;

	(void)state;
	for (size_t i = 0; i < N; i++) {
		x[2 * i] = cosf((float)i);
		x[2 * i + 1] = sinf((float)i);
	}
	x[2 * 4] = NAN;
	x[2 * 7 + 1] = INFINITY;
	x[2 * 9] = -INFINITY;
	x[2 * 5] = x[2 * 5 + 1] = 0;
	put("train", x, N, 2);
	put("query", (float[]){ 1, 0, 0, 1 }, 2, 2);
	put_text("two", "0\n3\n");
	for (size_t m = 0; m < COUNT(methods); m++) {
		for (size_t how = 0; how < (m == 2 ? 3 : 1); how++) {
			bool seen[N] = { false };

			ask(&r, methods[m], "query", "query");
			vary(&r, how);
			if (m == 1)
				*(double *)option(&r, "alpha") = 0; /* as wide as possible */
			r.in.shortage = DF_SHORT_TRUNCATE;
			want(&r, N);
			must(&r);
			assert_int_equal(r.out.n_invalid, BAD);
			/* At s, the last of all neighbours gets what is left. */
			assert_int_equal(r.out.n_index, N - BAD);
			for (size_t i = 0; i < r.out.n_index; i++) {
				assert_false(seen[r.out.index[i]]);
				seen[r.out.index[i]] = true;
			}
			assert_true(!seen[4] && !seen[7] && !seen[9] && seen[5]);
			for (size_t i = 0; r.out.score && i < N; i++)
				assert_int_equal(!isfinite(r.out.score[i]), i == 4 || i == 7 || i == 9);
			r.in.shortage = DF_SHORT_ERROR;
			refused(&r, DF_EUSAGE, "asked for 12 rows, but only 9");
			/* Allowed, they are the last. */
			r.in.allow_invalid = true;
			must(&r);
			assert_int_equal(r.out.n_index, N);
			assert_true(r.out.index[9] == 4 && r.out.index[10] == 7 && r.out.index[11] == 9);
			r.in.allow_invalid = false;
			/* Excluded rows are neither chosen nor counted as invalid. */
			r.in.exclude = at("two");
			r.in.shortage = DF_SHORT_TRUNCATE;
			must(&r);
			assert_int_equal(r.out.n_invalid, BAD);
			assert_int_equal(r.out.n_index, N - BAD - 2);
			for (size_t i = 0; i < r.out.n_index; i++)
				assert_true(r.out.index[i] != 0 && r.out.index[i] != 3);
			for (size_t i = 0; r.out.score && i < N; i++)
				assert_int_equal(!isfinite(r.out.score[i]), i == 4 || i == 7 || i == 9);
			done(&r);
		}
	}
}

static void
asking_for_too_many(void **state)
{
	enum { N = 8 };
	const float x[N] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	struct request r;

	(void)state;
	put("train", x, N, 1);
	put("query", (float[]){ 0, 2 }, 2, 1);
	for (size_t m = 0; m < COUNT(methods); m++) {
		ask(&r, methods[m], "query", "query");
		if (m < 2)
			*(int64_t *)option(&r, "max-k") = m == 0 ? 3 : 4; /* tsds: the last one gets nothing */
		if (m == 1)
			*(double *)option(&r, "alpha") = 0;
		want(&r, 0);
		must(&r);
		assert_int_equal(r.out.n_index, 0);
		want(&r, 100);
		refused(&r, DF_EUSAGE, m < 2 ? "only 4 " : "only 8 ");
		r.in.shortage = DF_SHORT_CYCLE;
		want(&r, 10);
		must(&r);
		assert_int_equal(r.out.n_index, 10);
		assert_int_equal(r.out.index[m < 2 ? 4 : 8], r.out.index[0]);
		r.in.shortage = DF_SHORT_REPLACE;
		must(&r);
		assert_int_equal(r.out.n_index, 10);
		for (size_t i = 0; m < 2 && i < 10; i++)
			assert_true(r.out.index[i] < 4);
		r.in.shortage = DF_SHORT_TRUNCATE;
		must(&r);
		assert_int_equal(r.out.n_index, m < 2 ? 4 : 8);
		/* Other rows at random. */
		r.in.shortage = DF_SHORT_FILL;
		want(&r, 8);
		if (m == 2) {
			refused(&r, DF_EUSAGE, "--short fill-random: rds chooses among all rows already");
		} else {
			unsigned seen = 0;

			must(&r);
			assert_int_equal(r.out.n_index, 8);
			for (size_t i = 0; i < 8; i++) {
				assert_true((r.out.index[i] < 4) == (i < 4));
				seen |= 1u << r.out.index[i];
			}
			assert_int_equal(seen, 0xff);
			assert_non_null(df_meta_param(&r.out.meta, "seed"));
			want(&r, 9);
			refused(&r, DF_EUSAGE, "asked for 9 rows, but only 8");
		}
		done(&r);
	}
}

/* The same choice and the same bits on every device, for any number of threads. */
static void
devices_and_threads_do_not_matter(void **state)
{
	enum { N = 400, M = 6, D = 24 };
	static const char *const devices[] = { "cpu", "openblas", "poison", "reference" };
	float *x = normal(N, D, 5), *q = normal(M, D, 6);
	struct df_backend *saved_be = be;
	struct df_pool *saved_pool = pool;

	(void)state;
	to_unit(x, N, D);
	to_unit(q, M, D);
	for (size_t i = 0; i < N / 2; i++) /* near duplicates */
		for (size_t j = 0; j < D; j++)
			x[(N / 2 + i) * D + j] = x[i * D + j] + (float)(i % 5) * 1e-6f;
	put("train", x, N, D);
	put("query", q, M, D);
	for (size_t how = 0; how < 5; how++) {
		const char *method = methods[how < 2 ? how : 2];
		struct request first, r;

		ask(&first, method, "query", "query");
		if (how == 1)
			*(double *)option(&first, "sigma") = 1.3;
		vary(&first, how - 2);
		want(&first, 40);
		must(&first);
		for (size_t dev = 0; dev < COUNT(devices); dev++) {
			for (int threads = 1; threads <= 3; threads += 2) {
				if (df_backend_check(devices[dev], NULL) != DF_OK)
					continue;
				OK(df_pool_new(&pool, threads, err));
				if (df_backend_open(&be, devices[dev], pool, NULL) == DF_OK) {
					ask(&r, method, "query", "query");
					if (how == 1)
						*(double *)option(&r, "sigma") = 1.3;
					vary(&r, how - 2);
					r.in.n_threads = threads;
					want(&r, 40);
					must(&r);
					chose(&r, first.out.index, 40);
					if (first.out.score)
						assert_memory_equal(r.out.score, first.out.score, N * sizeof(float));
					if (first.out.probability)
						assert_memory_equal(
						    r.out.probability, first.out.probability, N * sizeof(double));
					done(&r);
					df_backend_close(be);
				}
				df_pool_free(pool);
			}
		}
		be = saved_be;
		pool = saved_pool;
		done(&first);
	}
	free(x);
	free(q);
}

/* ---- tsds -------------------------------------------------------------------------------------- */

struct instance {
	const float *x, *q;
	size_t n, m, d;
	int64_t max_k, kde_k;
	double sigma, alpha, c;
};

static void
ask_tsds(struct request *r, const struct instance *i)
{
	put("train", i->x, i->n, i->d);
	put("query", i->q, i->m, i->d);
	ask(r, "tsds", "query", "query");
	*(int64_t *)option(r, "max-k") = i->max_k;
	*(int64_t *)option(r, "kde-k") = i->kde_k;
	*(double *)option(r, "sigma") = i->sigma;
	*(double *)option(r, "alpha") = i->alpha;
	*(double *)option(r, "c") = i->c;
}

static double
s_of(const struct request *r)
{
	double s = 0;

	assert_true(df_meta_get_double(&r->out.meta, "s", &s));
	return s;
}

static void
tsds_examples(void **state)
{
	static const float a[] = { 0, 1, 3, 6, 10 }, two[] = { 0, 2 }, b[] = { 1, 1, 2, 4 }, zero[] = { 0 },
			   c[] = { 0, 0.2f, 10, 30 }, far[] = { 0, 10 };
	static const struct {
		struct instance in;
		double s, p[5];
	} t[] = {
		{ { a, two, 5, 2, 1, 4, 1000, 0, .5, 1 }, 2, { .25, .5, .25, 0, 0 } },
		{ { b, zero, 4, 1, 1, 4, 1000, .5, .5, 1 }, 1, { .5, .5, 0, 0 } },
		{ { b, zero, 4, 1, 1, 4, 1000, 0, .5, 1 }, 2, { .5, .5, 0, 0 } },
		{ { c, far, 4, 2, 1, 3, 1000, .5, .95, 1 }, 0.543478, { .5, 0, .5, 0 } },
		{ { a, two, 1, 2, 1, 4, 1000, .75, .6, 5 }, 1, { 1 } },            /* N = 1 */
		{ { a, two, 5, 2, 1, 4, 1000, 0, 1, 1 }, 1, { .5, .5, 0, 0, 0 } }, /* alpha 1: the nearest, by id */
		{ { a, zero, 5, 1, 1, 4, 1000, 0, 0, 1 }, 3,
		    { 1 / 3., 1 / 3., 1 / 3., 0, 0 } },                             /* alpha 0: all but the last */
		{ { a, two, 5, 2, 1, 1, 1000, 0, .5, 1 }, 1, { .5, .5, 0, 0, 0 } }, /* one neighbour of each */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(t); i++) {
		struct request r;

		ask_tsds(&r, &t[i].in);
		must(&r);
		if (fabs(s_of(&r) - t[i].s) > 1e-6)
			fail_msg("case %d: s is %.9g, not %.9g", (int)i, s_of(&r), t[i].s);
		for (size_t j = 0; j < t[i].in.n; j++)
			if (fabs(r.out.probability[j] - t[i].p[j]) > 1e-12)
				fail_msg("case %d: p[%d] is %.17g, not %.17g", (int)i, (int)j, r.out.probability[j],
				    t[i].p[j]);
		done(&r);
	}
}

/* rho of x by the definition. */
static void
plain_density(const float *x, size_t n, size_t d, double sigma, size_t kde_k, double *rho)
{
	struct ranked *r = malloc(n * sizeof(*r));

	assert_non_null(r);
	for (size_t i = 0; i < n; i++) {
		rank(x, n, d, x + i * d, false, r);
		rho[i] = sigma > 0 ? 0 : 1;
		for (size_t j = 0; sigma > 0 && j < kde_k && j < n; j++)
			rho[i] += fmax(0, r[j].far > 0 ? 1 - r[j].far / (sigma * sigma) : 1);
	}
	free(r);
}

/* From the pairs, whether or not there are more than kde_k of a row. */
static void
densities(void **state)
{
	enum { N = 200, D = 3 };
	static const double sigmas[] = { 0, 1e-200, 1e-3, .3, .75, 2, 50 };
	static const uint64_t kde_ks[] = { 1, 2, 5, 30, 199, 200, 1000 };
	const struct df_near near = { .be = be, .pool = pool, .n_threads = 2 };
	float *x = normal(N, D, 7);
	double rho[N], plain[N];

	(void)state;
	for (size_t i = 0; i < 20; i++) /* a crowd among duplicates */
		memcpy(x + (100 + i) * D, x + (i % 2) * D, D * sizeof(*x));
	for (size_t i = 0; i < COUNT(sigmas); i++) {
		for (size_t k = 0; k < COUNT(kde_ks); k++) {
			const struct df_points points = { x, N, D };

			OK(df_tsds_density(&near, &points, sigmas[i], kde_ks[k], rho, err));
			plain_density(x, N, D, sigmas[i], kde_ks[k], plain);
			for (size_t j = 0; j < N; j++) {
				assert_true(rho[j] >= 1);
				if (fabs(rho[j] - plain[j]) > 1e-6 * plain[j])
					fail_msg("sigma %g, kde_k %d: rho[%d] is %.9g, not %.9g", sigmas[i],
					    (int)kde_ks[k], (int)j, rho[j], plain[j]);
			}
		}
	}
	free(x);
}

/* So many points that a sample tells how: a crowd among points that are not alike; many alike; nearly all. */
static void
densities_of_many(void **state)
{
	enum { N = 2100, D = 2 };
	static const double sigmas[] = { 0.02, 0.5, 4 };
	static const uint64_t kde_ks[] = { 4, 200, 60 };
	const struct df_near near = { .be = be, .pool = pool, .n_threads = 2 };
	float *x = normal(N, D, 8);
	static double rho[N], plain[N];

	(void)state;
	for (size_t i = 0; i < 100 * D; i++)
		x[(N - 100) * D + i] *= 0.01f;
	for (size_t i = 0; i < COUNT(sigmas); i++) {
		const struct df_points points = { x, N, D };

		OK(df_tsds_density(&near, &points, sigmas[i], kde_ks[i], rho, err));
		plain_density(x, N, D, sigmas[i], kde_ks[i], plain);
		for (size_t j = 0; j < N; j++)
			if (fabs(rho[j] - plain[j]) > 1e-6 * plain[j])
				fail_msg("sigma %g: rho[%d] is %.9g, not %.9g", sigmas[i], (int)j, rho[j], plain[j]);
	}
	free(x);
}

/* The objective at s, by the capped fill of lists [m,k]; p [n] may be NULL. */
static double
objective(const struct instance *in, const struct ranked *lists, size_t k, const double *rho, double s, double *p)
{
	double cost = 0;

	for (size_t q = 0; q < in->m; q++) {
		double left = 1 / (double)in->m;

		for (size_t j = 0; j < k && left > 0; j++) {
			const struct ranked *to = &lists[q * k + j];
			const double cap = 1 / ((double)in->m * s * rho[to->id]);
			const double take = j + 1 < k ? fmin(left, cap) : left;

			cost += take * to->far;
			left -= take;
			if (p)
				p[to->id] += take;
		}
	}
	return in->alpha / in->c * cost + (1 - in->alpha) / s;
}

/* The best s of all breakpoints is the one found; the probabilities are its. */
static void
tsds_is_the_optimum(void **state)
{
	enum { TRIALS = 150 };
	size_t n_checked = 0;

	(void)state;
	for (uint64_t trial = 0; trial < TRIALS; trial++) {
		const size_t n = 5 + trial % 11, m = 1 + trial % 4, d = 1 + trial % 3;
		float *x = normal(n, d, 100 + trial), *q = normal(m, d, 300 + trial);
		const struct instance in = { x, q, n, m, d, (int64_t)n, (int64_t)(trial % 3 ? 1000 : 3),
			(double)(trial % 5) * .4, .2 + .1 * (double)(trial % 8), trial % 2 ? 1 : 3 };
		struct ranked *lists = malloc(m * n * sizeof(*lists));
		double rho[16], best = INFINITY, best_s = 0, sum = 0, p[16] = { 0 }, last = 0;
		struct request r;

		assert_non_null(lists);
		plain_density(x, n, d, in.sigma, (size_t)in.kde_k, rho);
		for (size_t i = 0; i < m; i++) {
			rank(x, n, d, q + i * d, false, lists + i * n);
			for (size_t j = 0; j < n; j++)
				lists[i * n + j].far = sqrt(lists[i * n + j].far);
		}
		for (size_t i = 0; i < m; i++) {
			double s = 0;

			for (size_t j = 0; j + 1 < n; j++) {
				double f;

				s += 1 / rho[lists[i * n + j].id];
				f = objective(&in, lists, n, rho, s, NULL);
				last = fmax(last, s);
				if (f < best - 1e-12 || (f < best + 1e-12 && s < best_s)) {
					best = fmin(f, best);
					best_s = s;
				}
			}
		}
		ask_tsds(&r, &in);
		must(&r);
		for (size_t j = 0; j < n; j++)
			sum += r.out.probability[j];
		assert_true(fabs(sum - 1) <= 1e-12);
		if (best_s < last) { /* not limited by max_k */
			n_checked++;
			if (fabs(s_of(&r) - best_s) > 1e-5 * best_s)
				fail_msg("trial %d: s is %.9g with %.12g, not %.9g with %.12g", (int)trial, s_of(&r),
				    objective(&in, lists, n, rho, s_of(&r), NULL), best_s, best);
			objective(&in, lists, n, rho, best_s, p);
			for (size_t j = 0; j < n; j++)
				assert_true(fabs(r.out.probability[j] - p[j]) < 1e-5);
		}
		/* More neighbours than there are candidates. */
		if (trial % 10 == 0) {
			struct request more;

			ask(&more, "tsds", "query", "query");
			*(int64_t *)option(&more, "kde-k") = in.kde_k;
			*(double *)option(&more, "sigma") = in.sigma;
			*(double *)option(&more, "alpha") = in.alpha;
			*(double *)option(&more, "c") = in.c;
			must(&more);
			assert_memory_equal(more.out.probability, r.out.probability, n * sizeof(double));
			done(&more);
		}
		done(&r);
		free(lists);
		free(x);
		free(q);
	}
	assert_true(n_checked > TRIALS / 2);
}

static double
number(FILE *f)
{
	double x;

	assert_int_equal(fscanf(f, "%lf", &x), 1);
	return x;
}

/* The objective of what was chosen, through the table of neighbours that it was chosen by. */
static double
objective_of(const struct instance *in, double s)
{
	struct ranked *lists = malloc(in->m * in->n * sizeof(*lists)), *near;
	const size_t k = (size_t)in->max_k < in->n ? (size_t)in->max_k : in->n;
	double *rho = malloc(in->n * sizeof(*rho)), *some = malloc(in->n * sizeof(*some)), f;
	bool *member = calloc(in->n, sizeof(*member));
	float *x = malloc(in->n * in->d * sizeof(*x));
	size_t n = 0;

	assert_true(lists && rho && some && member && x);
	near = lists;
	for (size_t q = 0; q < in->m; q++, near += k) {
		struct ranked all[64];

		rank(in->x, in->n, in->d, in->q + q * in->d, false, all);
		for (size_t j = 0; j < k; j++) {
			near[j] = (struct ranked){ sqrt(all[j].far), all[j].id };
			member[all[j].id] = true;
		}
	}
	for (size_t i = 0; i < in->n; i++)
		if (member[i])
			memcpy(x + n++ * in->d, in->x + i * in->d, in->d * sizeof(*x));
	plain_density(x, n, in->d, in->sigma, (size_t)in->kde_k, some);
	for (size_t i = in->n; i-- > 0;)
		rho[i] = member[i] ? some[--n] : 1;
	f = objective(in, lists, k, rho, s, NULL);
	free(lists);
	free(rho);
	free(some);
	free(member);
	free(x);
	return f;
}

/* The original's probabilities where its assignment is feasible; a better objective where it is not. */
static void
tsds_is_the_originals(void **state)
{
	const char *root = getenv("DF_SRCDIR");
	int n_cases = 0, n_infeasible = 0;
	char *path = NULL, word[8];
	FILE *f;

	(void)state;
	OK(df_asprintf(&path, err, "%s/tests/golden/tsds.txt", root ? root : "."));
	f = fopen(path, "r");
	if (!f)
		fail_msg("%s cannot be read", path);
	for (; fscanf(f, " %7s", word) == 1; n_cases++) {
		struct instance in = { .n = (size_t)number(f) };
		bool feasible;
		double theirs, *p;
		float *x, *q;
		struct request r;

		in.m = (size_t)number(f);
		in.d = (size_t)number(f);
		in.max_k = (int64_t)number(f);
		in.kde_k = (int64_t)number(f);
		in.sigma = number(f);
		in.alpha = number(f);
		in.c = number(f);
		feasible = number(f) > 0;
		theirs = number(f);
		assert_true(in.n <= 64 && in.m <= 64 && in.d <= 64);
		in.x = x = malloc(in.n * in.d * sizeof(*x));
		in.q = q = malloc(in.m * in.d * sizeof(*q));
		p = malloc(in.n * sizeof(*p));
		assert_true(x && q && p);
		for (size_t i = 0; i < in.n * in.d; i++)
			x[i] = (float)number(f);
		for (size_t i = 0; i < in.m * in.d; i++)
			q[i] = (float)number(f);
		for (size_t i = 0; i < in.n; i++)
			p[i] = number(f);
		ask_tsds(&r, &in);
		must(&r);
		for (size_t i = 0; feasible && i < in.n; i++)
			if (fabs(r.out.probability[i] - p[i]) > 1e-6)
				fail_msg(
				    "case %d: p[%d] is %.9g, not %.9g", n_cases, (int)i, r.out.probability[i], p[i]);
		if (!feasible && !(objective_of(&in, s_of(&r)) < theirs - 1e-6))
			fail_msg("case %d: %.9g is not better than %.9g", n_cases, objective_of(&in, s_of(&r)), theirs);
		if (feasible && objective_of(&in, s_of(&r)) > theirs + 1e-6)
			fail_msg("case %d: %.9g is worse than %.9g", n_cases, objective_of(&in, s_of(&r)), theirs);
		n_infeasible += !feasible;
		done(&r);
		free(x);
		free(q);
		free(p);
	}
	assert_true(n_cases >= 10 && n_infeasible >= 2);
	fclose(f);
	free(path);
}

/* Duplicated candidates share what one of them gets: the density counts them once. */
static void
duplicates_share(void **state)
{
	static const float once[] = { 0, 4, 9 }, thrice[] = { 0, 0, 0, 4, 9 }, q[] = { 0, 1, 5 };
	const struct instance one = { once, q, 3, 3, 1, 3, 1000, .5, .5, 1 },
			      three = { thrice, q, 5, 3, 1, 5, 1000, .5, .5, 1 };
	struct request r, s;

	(void)state;
	ask_tsds(&r, &one);
	must(&r);
	ask_tsds(&s, &three);
	must(&s);
	assert_true(
	    fabs(r.out.probability[0] - s.out.probability[0] - s.out.probability[1] - s.out.probability[2]) < 1e-9);
	assert_true(fabs(r.out.probability[1] - s.out.probability[3]) < 1e-9);
	done(&r);
	done(&s);
}

/* Frequencies over 1e5 draws: chi-square, 99.9 % points. */
static void
draws_follow_the_probabilities(void **state)
{
	enum { DRAWS = 100000, N = 5 };
	static const float x[] = { 0, 1, 1.5f, 3, 10 }, q[] = { 0, 2, 3 };
	const struct instance in = { x, q, N, 3, 1, 5, 1000, .75, .5, 2 };
	double count[2][N] = { { 0 } };
	size_t n_positive = 0;
	struct request r;

	(void)state;
	ask_tsds(&r, &in);
	*(int *)option(&r, "sampling") = 1;
	want(&r, DRAWS);
	must(&r);
	assert_int_equal(r.out.n_index, DRAWS);
	for (size_t i = 0; i < DRAWS; i++)
		count[0][r.out.index[i]]++;
	for (uint32_t i = 0; i < DRAWS; i++) { /* the first of a race is drawn with its probability */
		uint64_t first, n;

		OK(df_sample_race(r.out.probability, N, 1, 42, i, &first, &n, err));
		count[1][first]++;
	}
	for (size_t i = 0; i < N; i++)
		n_positive += r.out.probability[i] > 0;
	assert_int_equal(n_positive, 4); /* of 4 terms, 3 degrees of freedom: 16.27 */
	for (int how = 0; how < 2; how++) {
		double chi = 0;

		for (size_t i = 0; i < N; i++) {
			const double expected = DRAWS * r.out.probability[i];

			if (expected > 0)
				chi += (count[how][i] - expected) * (count[how][i] - expected) / expected;
			else
				assert_true(count[how][i] == 0);
		}
		if (chi > 16.27)
			fail_msg("%s: chi-square %.2f", how ? "race" : "multinomial", chi);
	}
	/* The race of the run is this race; another step has another. */
	*(int *)option(&r, "sampling") = 0;
	want(&r, 4);
	for (uint32_t step = 0; step < 50; step++) {
		uint64_t order[4], n;

		r.in.step = step;
		must(&r);
		OK(df_sample_race(r.out.probability, N, 4, 42, step, order, &n, err));
		chose(&r, order, 4);
	}
	r.in.amount.tokens = true;
	*(int *)option(&r, "sampling") = 1;
	refused(&r, DF_EUSAGE, "draws a number of rows, not of tokens");
	done(&r);
}

/* ---- rds ------------------------------------------------------------------------------------------ */

static void
rds_example(void **state)
{
	/* cos q0 = .9 .8 .1 .7, q1 = .95 .2 .6 .5: the first two coordinates are those, the third makes the norm 1. */
	static const float q0[] = { .9f, .8f, .1f, .7f }, q1[] = { .95f, .2f, .6f, .5f };
	static const struct {
		int agg;
		const char *subtasks;
		uint64_t ids[3];
	} t[] = {
		{ 0, "none", { 0, 1, 2 } },
		{ 0, "domain", { 0, 1, 2 } }, /* two domains */
		{ 1, "domain", { 0, 1, 3 } },
		{ 2, "domain", { 0, 3, 1 } },
	};
	float x[4 * 4] = { 0 };
	struct request r;

	(void)state;
	/* q0 and q1 are unit vectors with the product .72, so that .9 and .95 fit one row. */
	for (size_t i = 0; i < 4; i++) {
		const double c = .72, b = ((double)q1[i] - c * (double)q0[i]) / sqrt(1 - c * c),
			     rest = 1 - (double)q0[i] * (double)q0[i] - b * b;

		assert_true(rest >= 0);
		x[4 * i] = q0[i];
		x[4 * i + 1] = (float)b;
		x[4 * i + 2] = (float)sqrt(rest);
	}
	for (size_t i = 0; i < 4; i++) /* lengths do not matter */
		for (size_t j = 0; j < 4; j++)
			x[4 * i + j] *= (float)(1 + i);
	put("train", x, 4, 4);
	put("query", (float[]){ 2, 0, 0, 0, .72f, sqrtf(1 - .72f * .72f), 0, 0 }, 2, 4);
	for (size_t i = 0; i < COUNT(t); i++) {
		ask(&r, "rds", "query", "query");
		*(int *)option(&r, "agg") = t[i].agg;
		*(const char **)option(&r, "subtasks") = t[i].subtasks;
		want(&r, 3);
		must(&r);
		chose(&r, t[i].ids, 3);
		if (t[i].agg == 1)
			assert_true(fabsf(r.out.score[0] - .95f) < 1e-6f && fabsf(r.out.score[2] - .6f) < 1e-6f);
		if (t[i].agg == 2)
			assert_true(fabsf(r.out.score[3] - .6f) < 1e-6f);
		done(&r);
	}
}

/* Over unit vectors, one task is near without a limit; by brute force, too, in any amount. */
static void
rds_of_one_task_is_near(void **state)
{
	enum { N = 120, M = 6, D = 4 };
	float *x = normal(N, D, 11), *q = normal(M, D, 12);
	uint64_t ids[N];
	struct request r, near;
	size_t n;

	(void)state;
	to_unit(x, N, D);
	to_unit(q, M, D);
	memcpy(x + 50 * D, x + 20 * D, D * sizeof(*x));
	put("train", x, N, D);
	put("query", q, M, D);
	ask(&near, "near", "query", "query");
	must(&near);
	n = plain_union(x, N, q, M, D, N, true, ids);
	assert_int_equal(n, N);
	chose(&near, ids, n);
	ask(&r, "rds", "query", "query");
	*(const char **)option(&r, "subtasks") = "none";
	must(&r);
	chose(&r, ids, N);
	for (size_t wanted = 0; wanted <= N; wanted += 1 + wanted / 3) {
		want(&r, wanted);
		must(&r);
		chose(&r, ids, wanted);
	}
	/* However often the rows are read, an invalid one is counted once. */
	x[(N - 1) * D] = NAN;
	put("train", x, N, D);
	for (size_t wanted = 1; wanted < N; wanted += 13) {
		want(&r, wanted);
		must(&r);
		assert_int_equal(r.out.n_invalid, 1);
	}
	done(&near);
	done(&r);
	free(x);
	free(q);
}

/* The repository's formulas: a ranking for each subtask by its best query, popped in turn; the maximum; the mean. */
static void
rds_is_the_originals(void **state)
{
	enum { N = 60, M = 9, D = 3, TASKS = 3 };
	float *x = normal(N, D, 13), *q = normal(M, D, 14);
	static const char labels[] = "8\ta\n7\tc\n6\tc\n5\ta\n4\tb\n3\tc\n2\ta\n1\tb\n0\tb\n";
	static const size_t task_of[M] = { 0, 0, 1, 2, 0, 1, 2, 2, 1 }; /* by their lowest id: b, a, c */
	struct ranked by_task[TASKS][N], best[N], mean[N];
	uint64_t ids[N];
	bool taken[N] = { false };
	size_t n = 0;
	struct request r;

	(void)state;
	put("train", x, N, D);
	put("query", q, M, D);
	put_text("labels", labels);
	for (size_t i = 0; i < N; i++) {
		best[i] = mean[i] = (struct ranked){ 0, i };
		best[i].far = INFINITY;
		for (size_t t = 0; t < TASKS; t++)
			by_task[t][i] = (struct ranked){ INFINITY, i };
		for (size_t j = 0; j < M; j++) {
			const float *a = x + i * D, *b = q + j * D;
			const double far = -dot(a, b, D) / sqrt(dot(a, a, D) * dot(b, b, D));

			by_task[task_of[j]][i].far = fmin(by_task[task_of[j]][i].far, far);
			best[i].far = fmin(best[i].far, far);
			mean[i].far += far / M;
		}
	}
	for (size_t t = 0; t < TASKS; t++)
		qsort(by_task[t], N, sizeof(by_task[t][0]), nearer);
	qsort(best, N, sizeof(best[0]), nearer);
	qsort(mean, N, sizeof(mean[0]), nearer);
	for (size_t j = 0; j < N; j++) {
		for (size_t t = 0; t < TASKS; t++) {
			if (!taken[by_task[t][j].id])
				ids[n++] = by_task[t][j].id;
			taken[by_task[t][j].id] = true;
		}
	}
	ask(&r, "rds", "query", "query");
	*(const char **)option(&r, "subtasks") = at("labels");
	must(&r);
	chose(&r, ids, N);
	assert_string_equal(df_meta_param(&r.out.meta, "subtasks"), "\"b,a,c\"");
	done(&r);
	for (int agg = 1; agg <= 2; agg++) {
		ask(&r, "rds", "query", "query");
		*(int *)option(&r, "agg") = agg;
		must(&r);
		for (size_t i = 0; i < N; i++) {
			const struct ranked *z = agg == 1 ? &best[i] : &mean[i];

			assert_int_equal(r.out.index[i], z->id);
			assert_true(fabs((double)r.out.score[z->id] + z->far) < 1e-6);
		}
		*(const char **)option(&r, "subtasks") = at("labels");
		refused(&r, DF_EUSAGE, "labels would have no effect");
		done(&r);
	}
	put_text("few", "a\nb\n");
	put_text("double", "0\ta\n0\tb\n");
	for (size_t i = 0; i < 3; i++) {
		static const char *const names[] = { "few", "double", "non" };

		ask(&r, "rds", "query", "query");
		*(const char **)option(&r, "subtasks") = i < 2 ? at(names[i]) : names[i];
		refused(&r, i < 2 ? DF_EFORMAT : DF_ENOINPUT, i < 2 ? names[i] : "did you mean 'none'?");
		done(&r);
	}
	free(x);
	free(q);
}

/* ---- all ------------------------------------------------------------------------------------------- */

static int
setup(void **state)
{
	OK(df_pool_new(&pool, 2, err));
	OK(df_backend_open(&be, "cpu", pool, err));
	return scratch_make(state);
}

static int
teardown(void **state)
{
	df_backend_close(be);
	df_pool_free(pool);
	return scratch_remove(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(near_takes_rank_by_rank),
		cmocka_unit_test(near_is_dataflexs),
		cmocka_unit_test(near_is_exact),
		cmocka_unit_test(neighbours_are_kept),
		cmocka_unit_test(tables_that_lie_are_refused),
		cmocka_unit_test(tables_may_have_more),
		cmocka_unit_test(inputs_must_belong_together),
		cmocka_unit_test(invalid_rows_are_not_chosen),
		cmocka_unit_test(asking_for_too_many),
		cmocka_unit_test(devices_and_threads_do_not_matter),
		cmocka_unit_test(tsds_examples),
		cmocka_unit_test(densities),
		cmocka_unit_test(densities_of_many),
		cmocka_unit_test(tsds_is_the_optimum),
		cmocka_unit_test(tsds_is_the_originals),
		cmocka_unit_test(duplicates_share),
		cmocka_unit_test(draws_follow_the_probabilities),
		cmocka_unit_test(rds_example),
		cmocka_unit_test(rds_of_one_task_is_near),
		cmocka_unit_test(rds_is_the_originals),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
