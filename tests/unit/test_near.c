/*
 * test_near.c - nearest neighbours against brute force in long double: the same ids in the same order, on every
 * device, for any threads and blocks.
 */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/pool.h"
#include "base/rng.h"
#include "near/knn.h"
#include "near/sieve.h"
#include "shard_help.h"

/* ---- points ------------------------------------------------------------------------------------------------------ */

struct cloud {
	float *x;
	uint64_t n;
	size_t d;
};

static void *
memory(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size);

	assert_non_null(p);
	return p;
}

static float *
row(const struct cloud *c, uint64_t i)
{
	return c->x + i * c->d;
}

static struct cloud
cloud(uint64_t n, size_t d)
{
	return (struct cloud){ memory(n * d, sizeof(float)), n, d };
}

static struct cloud
normal(uint64_t n, size_t d, uint64_t seed)
{
	struct cloud c = cloud(n, d);

	for (size_t i = 0; i < n * d; i++)
		c.x[i] = (float)df_rng_normal(seed, DF_RNG_DEMO, 0, i);
	return c;
}

/* Small integers: many exact ties. */
static struct cloud
integers(uint64_t n, size_t d, int most, uint64_t seed)
{
	struct cloud c = cloud(n, d);

	for (size_t i = 0; i < n * d; i++)
		c.x[i] = (float)floor(df_rng_uniform(seed, DF_RNG_DEMO, 0, i) * most);
	return c;
}

/* ---- brute force ------------------------------------------------------------------------------------------------- */

struct found {
	long double value;
	uint64_t id;
};

static int
nearer_l2(const void *x, const void *y)
{
	const struct found *a = x, *b = y;

	if (a->value != b->value)
		return a->value < b->value ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static int
nearer_dot(const void *x, const void *y)
{
	const struct found *a = x, *b = y;

	if (a->value != b->value)
		return a->value > b->value ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static long double
naive(enum df_metric metric, const float *a, const float *b, size_t d)
{
	long double sum = 0;

	for (size_t i = 0; i < d; i++) {
		const long double x = a[i], y = b[i];

		sum += metric == DF_METRIC_DOT ? x * y : (x - y) * (x - y);
	}
	return sum;
}

static bool
finite_row(const float *x, size_t d)
{
	for (size_t i = 0; i < d; i++)
		if (!isfinite(x[i]))
			return false;
	return true;
}

struct search {
	enum df_metric metric;
	struct cloud q, c;
	uint64_t k;
	const uint64_t *self;
	bool as_rounded; /* values are those of df_exact() */
};

static long double
value_of(const struct search *s, const float *a, const float *b)
{
	return s->as_rounded ? df_exact(s->metric, a, b, s->q.d) : naive(s->metric, a, b, s->q.d);
}

/* All neighbours of query i, nearest first; free() it. */
static struct found *
brute(const struct search *s, uint64_t i, uint64_t *n)
{
	struct found *f = memory(s->c.n, sizeof(*f));

	*n = 0;
	for (uint64_t j = 0; finite_row(row(&s->q, i), s->q.d) && j < s->c.n; j++)
		if (finite_row(row(&s->c, j), s->c.d) && !(s->self && s->self[i] == j))
			f[(*n)++] = (struct found){ value_of(s, row(&s->q, i), row(&s->c, j)), j };
	qsort(f, *n, sizeof(*f), s->metric == DF_METRIC_DOT ? nearer_dot : nearer_l2);
	return f;
}

/* ---- the search under test --------------------------------------------------------------------------------------- */

/*
 * How candidates come: in blocks of `block` rows, from the front or the back, the ids counted or given, lent or copied;
 * and how many are kept at a time (0: as many as usual).
 */
struct way {
	const char *device;
	int threads;
	uint64_t block;
	bool backwards, lent;
	int shift;
	size_t segments;
};

struct result {
	uint64_t *id, K;
	float *value;
};

static void
result_release(struct result *r)
{
	free(r->id);
	free(r->value);
}

static struct result
run(const struct search *s, const struct way *w)
{
	struct result r = { .id = memory(s->q.n * s->k, sizeof(*r.id)),
		.value = memory(s->q.n * s->k, sizeof(*r.value)) };
	const struct df_points q = { s->q.x, s->q.n, s->q.d };
	const uint64_t n_blocks = (s->c.n + w->block - 1) / w->block;
	struct df_near near = { .n_threads = w->threads };
	struct df_knn *k = NULL;

	OK(df_pool_new(&near.pool, w->threads, err));
	OK(df_backend_open(&near.be, w->device, near.pool, err));
	OK(df_knn_new(&k, &near, s->metric, &q, s->k, s->self, err));
	if (w->segments > 0)
		df_knn_shrink(k, w->shift, w->segments);
	for (uint64_t b = 0; b < n_blocks; b++) {
		const uint64_t first = (w->backwards ? n_blocks - 1 - b : b) * w->block;
		const uint64_t n = s->c.n - first < w->block ? s->c.n - first : w->block;
		uint64_t *ids = memory(n, sizeof(*ids));
		float *rows = memory(n * s->c.d, sizeof(*rows)); /* gone after the call: nothing may keep it */

		for (uint64_t i = 0; i < n; i++)
			ids[i] = first + i;
		memcpy(rows, row(&s->c, first), n * s->c.d * sizeof(*rows));
		if (w->lent)
			OK(df_knn_lend(k, row(&s->c, first), w->backwards ? ids : NULL, n, err));
		else
			OK(df_knn_add(k, rows, w->backwards ? ids : NULL, n, err));
		free(ids);
		free(rows);
	}
	OK(df_knn_end(k, r.id, r.value, &r.K, err));
	df_knn_free(k);
	df_backend_close(near.be);
	df_pool_free(near.pool);
	return r;
}

static void
check(const struct search *s, const struct result *r)
{
	uint64_t most = 0, n;

	for (uint64_t i = 0; i < s->q.n; i++) {
		struct found *f = brute(s, i, &n);

		n = n < s->k ? n : s->k;
		most = n > most ? n : most;
		for (uint64_t j = 0; j < r->K; j++) {
			const uint64_t id = r->id[i * r->K + j];
			const float value = r->value[i * r->K + j];

			if (j >= n) {
				assert_true(id == DF_KNN_NONE && isnan(value));
				continue;
			}
			const float want = (float)(s->metric == DF_METRIC_DOT ? f[j].value : sqrtl(f[j].value));

			if (id != f[j].id)
				fail_msg("query %d: neighbour %d is %d, not %d", (int)i, (int)j, (int)id, (int)f[j].id);
			if (!(value == want || fabsf(value - want) <= 1.2e-7f * fabsf(want)))
				fail_msg("query %d: neighbour %d at %.9g, not %.9g", (int)i, (int)j, (double)value,
				    (double)want);
		}
		free(f);
	}
	assert_int_equal(r->K, most);
}

static const char *const devices[] = { "cpu", "openblas", "poison", "reference" };

/* Against brute force one way; bit for bit in all others. */
static void
search_all_ways(const struct search *s)
{
	static const struct way ways[] = { { .threads = 1, .block = 64 },
		{ .threads = 3, .block = 1000000, .backwards = true },
		{ .threads = 2, .block = 7, .backwards = true, .shift = 5, .segments = 2 },
		{ .threads = 2, .block = 130, .lent = true, .shift = 4, .segments = 3 } };
	struct result first = { 0 };

	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		for (size_t j = 0; j < sizeof(ways) / sizeof(ways[0]); j++) {
			struct way w = ways[j];
			struct result r;

			w.device = devices[i];
			r = run(s, &w);
			if (!first.id) {
				first = r;
				check(s, &first);
				continue;
			}
			assert_int_equal(r.K, first.K);
			assert_memory_equal(r.id, first.id, s->q.n * r.K * sizeof(*r.id));
			assert_memory_equal(r.value, first.value, s->q.n * r.K * sizeof(*r.value));
			result_release(&r);
		}
	}
	result_release(&first);
}

/* Both metrics; frees the clouds. */
static void
search_both(struct cloud q, struct cloud c, uint64_t k, const uint64_t *self)
{
	search_all_ways(&(struct search){ DF_METRIC_L2, q, c, k, self, false });
	search_all_ways(&(struct search){ DF_METRIC_DOT, q, c, k, self, false });
	free(q.x);
	free(c.x);
}

static void
test_normal(void **state)
{
	static const struct {
		uint64_t m, n;
		size_t d;
		uint64_t k;
	} sizes[] = { { 1, 1, 1, 1 }, { 5, 300, 1, 7 }, { 3, 200, 2, 200 }, { 7, 500, 33, 10 }, { 37, 700, 64, 100 },
		{ 4, 50, 16, 1000 }, { 3, 5000, 20, 700 }, { 6, 400, 129, 1 } };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		search_both(
		    normal(sizes[i].m, sizes[i].d, 2 * i), normal(sizes[i].n, sizes[i].d, 2 * i + 1), sizes[i].k, NULL);
}

static void
test_ties(void **state)
{
	(void)state;
	search_both(integers(9, 3, 3, 1), integers(900, 3, 3, 2), 20, NULL);
	search_both(integers(3, 1, 1, 1), integers(500, 1, 1, 2), 33, NULL); /* all rows zero */
}

static void
test_nothing(void **state)
{
	(void)state;
	search_both(normal(3, 5, 1), normal(0, 5, 2), 4, NULL);
	search_both(normal(0, 5, 1), normal(10, 5, 2), 4, NULL);
	search_both(normal(3, 5, 1), normal(10, 5, 2), 0, NULL);
}

/* A pool among itself. */
static void
test_self(void **state)
{
	uint64_t self[60];

	(void)state;
	for (uint64_t i = 0; i < 60; i++)
		self[i] = i == 7 ? DF_KNN_NONE : i;
	search_both(integers(60, 2, 4, 3), integers(60, 2, 4, 3), 59, self);
	search_both(integers(60, 2, 4, 3), integers(60, 2, 4, 3), 60, self);
	search_both(normal(60, 20, 3), normal(60, 20, 3), 5, self);
}

static void
test_not_finite(void **state)
{
	struct cloud q = normal(5, 9, 1), c = normal(200, 9, 2);

	(void)state;
	row(&q, 2)[8] = NAN;
	row(&c, 0)[0] = INFINITY;
	row(&c, 150)[4] = -INFINITY;
	row(&c, 199)[8] = NAN;
	search_both(q, c, 300, NULL);
}

/* Sizes that float32 products overflow and underflow on, and shapes that leave nothing of their relative accuracy. */
static void
test_magnitudes(void **state)
{
	static const float sizes[] = { 1e-20f, 1e20f, 1e-38f, 3e38f, 1e-6f, 1e9f };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct cloud q = normal(4, 24, 10 + i), c = normal(300, 24, 20 + i);

		for (size_t j = 0; j < 4 * 24; j++)
			q.x[j] = (q.x[j] > 3 ? 3 : q.x[j] < -3 ? -3 : q.x[j]) * (sizes[i] / 3);
		for (size_t j = 0; j < 300 * 24; j++)
			c.x[j] = (c.x[j] > 3 ? 3 : c.x[j] < -3 ? -3 : c.x[j]) * (sizes[i] / 3);
		search_both(q, c, 25, NULL);
	}
}

/* Each row has a size of its own, from 1e-20 to 1e20; one query is zero, one candidate too. */
static void
test_mixed_magnitudes(void **state)
{
	struct cloud q = normal(8, 12, 1), c = normal(400, 12, 2);

	(void)state;
	for (uint64_t i = 0; i < c.n; i++)
		for (size_t j = 0; j < c.d; j++)
			row(&c, i)[j] *= powf(10, (float)(i % 41) - 20);
	for (uint64_t i = 0; i < q.n; i++)
		for (size_t j = 0; j < q.d; j++)
			row(&q, i)[j] *= i == 3 ? 0 : powf(10, (float)(6 * i) - 20);
	memset(row(&c, 77), 0, c.d * sizeof(float));
	search_both(q, c, 50, NULL);
}

/* Beside one long row the others are all alike in float32. */
static void
test_outlier(void **state)
{
	struct cloud q = normal(5, 40, 1), c = normal(600, 40, 2);

	(void)state;
	for (size_t j = 0; j < c.d; j++)
		row(&c, 300)[j] *= 1e6f;
	search_both(q, c, 30, NULL);
}

/*
 * The same row again and again, each number wrong by some last bits, `far` times as long as the queries: float32
 * products put them in another order than float64.
 */
static void
near_duplicates(size_t d, float far, uint64_t k)
{
	struct cloud q = normal(6, d, 1), c = normal(1500, d, 2);

	for (uint64_t i = 0; i < c.n; i++)
		for (size_t j = 0; j < d; j++)
			row(&c, i)[j] = far * row(&q, 5)[j] * (1 + row(&c, i)[j] * 0x1p-21f);
	memcpy(row(&c, 700), row(&c, 3), d * sizeof(float));
	if (far == 1)
		memcpy(row(&q, 0), row(&c, 3), d * sizeof(float));
	search_both(q, c, k, NULL);
}

static void
test_near_duplicates(void **state)
{
	(void)state;
	near_duplicates(300, 1, 40);
	near_duplicates(50, 1000, 200);
	near_duplicates(40, 1e-4f, 30);
	near_duplicates(30, 1, 520);
}

/*
 * Candidates so short beside the query that float64 distances round, too: the order is that of the rounded ones, by
 * id where they are equal.
 */
static void
test_short_candidates(void **state)
{
	struct cloud q = normal(3, 20, 1), c = normal(800, 20, 2);
	struct search s = { .metric = DF_METRIC_L2, .q = q, .c = c, .k = 60, .as_rounded = true };

	(void)state;
	for (size_t i = 0; i < c.n * c.d; i++)
		c.x[i] *= 3e-17f;
	search_all_ways(&s);
	free(q.x);
	free(c.x);
}

/* More candidates than a list has room for, nearest last: every threshold is replaced. */
static void
worst_order(uint64_t k)
{
	struct cloud q = normal(2, 3, 1), c = cloud(3000, 3);

	for (uint64_t i = 0; i < c.n; i++)
		for (size_t j = 0; j < c.d; j++)
			row(&c, i)[j] = q.x[j] * (float)(i + 1) / 4000;
	search_both(q, c, k, NULL);
}

static void
test_worst_order(void **state)
{
	(void)state;
	worst_order(100);
	worst_order(600);
}

/* ---- another program --------------------------------------------------------------------------------------------- */

static void
read_numbers(FILE *f, float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_int_equal(fscanf(f, "%f", &x[i]), 1);
}

/* One block of tests/golden/near.txt (near.py). */
static void
check_golden(FILE *f, const char *metric, uint64_t m, uint64_t n, size_t d, uint64_t k)
{
	struct search s = { .metric = strcmp(metric, "DOT") == 0 ? DF_METRIC_DOT : DF_METRIC_L2, .k = k };
	struct result r;

	s.q = cloud(m, d);
	s.c = cloud(n, d);
	read_numbers(f, s.q.x, m * d);
	read_numbers(f, s.c.x, n * d);
	r = run(&s, &(struct way){ .device = "cpu", .threads = 1, .block = 16 });
	assert_int_equal(r.K, k);
	for (uint64_t i = 0; i < m; i++) {
		for (uint64_t j = 0; j < k; j++) {
			unsigned long long id;

			assert_int_equal(fscanf(f, "%llu", &id), 1);
			assert_int_equal(r.id[i * k + j], id);
		}
		for (uint64_t j = 0; j < k; j++) {
			float value;

			read_numbers(f, &value, 1);
			assert_true(fabsf(r.value[i * k + j] - value) < 1e-5f);
		}
	}
	result_release(&r);
	free(s.q.x);
	free(s.c.x);
}

static void
test_faiss(void **state)
{
	const char *root = getenv("DF_SRCDIR");
	char path[4096], line[256], metric[8];
	unsigned long long m, n, d, k;
	int blocks = 0;
	FILE *f;

	(void)state;
	snprintf(path, sizeof(path), "%s/tests/golden/near.txt", root ? root : ".");
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f)); /* the version */
	for (; fscanf(f, "%7s %llu %llu %llu %llu", metric, &m, &n, &d, &k) == 5; blocks++)
		check_golden(f, metric, m, n, d, k);
	assert_int_equal(blocks, 4);
	fclose(f);
}

/* ---- points of a set --------------------------------------------------------------------------------------------- */

/* Rows of width 3 that say their ids, of which some are not finite. */
static const char *
write_points(const char *name, const uint64_t *ids, uint64_t n)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_PROJECTION };
	const size_t widths[DF_COL_COUNT] = { [DF_COL_PROJECTION] = 3 };
	struct df_meta m = DF_META_INIT;
	struct df_batch b = DF_BATCH_INIT;
	struct df_writer *w = NULL;
	float *x = memory(n * 3, sizeof(*x));

	for (uint64_t i = 0; i < n; i++)
		for (size_t j = 0; j < 3; j++)
			x[i * 3 + j] = ids[i] == 4 && j == 2 ? NAN : (float)(10 * ids[i] + j);
	m.kind = DF_KIND_PROJECTIONS;
	OK(df_meta_set_tool(&m, "test", err));
	OK(df_writer_open(&w, at(name), &m, cols, 2, widths, NULL, err));
	b.n = n;
	b.col[DF_COL_ID] = (struct df_column_data){ .data = (void *)(uintptr_t)ids, .width = 1 };
	b.col[DF_COL_PROJECTION] = (struct df_column_data){ .data = x, .width = 3 };
	OK(df_writer_put(w, &b, err));
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	df_meta_release(&m);
	free(x);
	return at(name);
}

static int
load_points(struct df_point_rows *p, const char *path, struct df_err *problem)
{
	struct df_set *set = NULL;
	int rc;

	OK(df_set_open1(&set, DF_KIND_PROJECTIONS, "points", path, err));
	rc = df_point_rows_load(p, set, DF_COL_PROJECTION, 2, problem);
	df_set_close(set);
	return rc;
}

static void
test_points(void **state)
{
	static const uint64_t mixed[] = { 3, 0, 5, 1, 4, 2 }, twice[] = { 0, 1, 1 }, beyond[] = { 0, 7, 1 };
	struct df_point_rows p;
	struct df_err problem = DF_ERR_INIT;

	(void)state;
	OK(load_points(&p, write_points("points.h5", mixed, 6), err));
	assert_int_equal(p.points.n, 6);
	assert_int_equal(p.points.d, 3);
	assert_int_equal(p.n_invalid, 1);
	for (uint64_t i = 0; i < 6; i++) {
		assert_int_equal(p.invalid[i], i == 4);
		assert_true(p.points.x[3 * i] == (float)(10 * i));
	}
	df_point_rows_release(&p);

	assert_int_equal(load_points(&p, write_points("twice.h5", twice, 3), &problem), DF_EFORMAT);
	assert_non_null(strstr(problem.msg, "twice.h5: sample id 1 occurs twice"));
	df_point_rows_release(&p);
	assert_int_equal(load_points(&p, write_points("beyond.h5", beyond, 3), &problem), DF_EFORMAT);
	assert_non_null(strstr(problem.msg, "beyond.h5: sample id 7"));
	df_point_rows_release(&p);
	OK(load_points(&p, write_points("none.h5", mixed, 0), err));
	assert_int_equal(p.points.n, 0);
	df_point_rows_release(&p);
}

/* ---- the loops --------------------------------------------------------------------------------------------------- */

/* Fused or not, wide or not: the same bits. */
static void
test_exact_widths(void **state)
{
	static const int widths[] = { 0, 256, 512 };
	const struct cloud a = normal(1, 200, 1), b = normal(7, 200, 2);
	const float *rows[7];

	(void)state;
	for (size_t i = 0; i < 7; i++)
		rows[i] = row(&b, i);
	for (size_t d = 0; d <= 200; d += d < 70 ? 1 : 13) {
		for (int m = 0; m < 2; m++) {
			const enum df_metric metric = m ? DF_METRIC_DOT : DF_METRIC_L2;
			double want[7], got[7];

			df_exact_many(metric, a.x, rows, 7, d, want);
			for (int w = 0; w < 3; w++)
				if (df_exact_many_with(widths[w], metric, a.x, rows, 7, d, got))
					assert_memory_equal(got, want, sizeof(want));
			for (size_t i = 0; i < 7; i++) {
				assert_true(df_exact(metric, rows[i], a.x, d) == want[i]);
				assert_true(fabs(want[i] - (double)naive(metric, a.x, rows[i], d)) <= 1e-13);
			}
		}
	}
	free(a.x);
	free(b.x);
}

/* Several rows with several, whole tiles and their ends: the same bits. */
static void
test_exact_block(void **state)
{
	enum { A = 9, B = 14, D = 200 };
	static const size_t widths[] = { 0, 1, 7, 8, 9, 31, 32, 33, 64, 70, 200 };
	const struct cloud a = normal(A, D, 1), b = normal(B, D, 2);
	const float *rows[A], *columns[B];
	double want[B], got[A * B];

	(void)state;
	for (size_t i = 0; i < A; i++)
		rows[i] = row(&a, i);
	for (size_t i = 0; i < B; i++)
		columns[i] = row(&b, i);
	for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
		for (size_t n_a = 0; n_a <= A; n_a++) {
			for (size_t n_b = 0; n_b <= B; n_b++) {
				const enum df_metric metric = (n_a + n_b) % 2 ? DF_METRIC_DOT : DF_METRIC_L2;

				df_exact_block(metric, rows, n_a, columns, n_b, widths[i], got);
				for (size_t r = 0; r < n_a; r++) {
					df_exact_many(metric, rows[r], columns, n_b, widths[i], want);
					assert_memory_equal(got + r * n_b, want, n_b * sizeof(*want));
				}
			}
		}
	}
	free(a.x);
	free(b.x);
}

/* The loops with vectors against the plain ones. */
static void
test_sieve(void **state)
{
	enum { N = 300 };
	const struct df_sieve *best = df_sieve_best(), *plain = &df_sieve_plain;
	float product[N], shift[N], error[N], slack[N], lo[2][2 * N + DF_SIEVE_SPARE];
	float hi[2][2 * N + DF_SIEVE_SPARE];
	uint32_t ref[2][2 * N + DF_SIEVE_SPARE];

	(void)state;
	for (size_t i = 0; i < N; i++) {
		product[i] = i % 37 == 5 ? NAN : (float)df_rng_normal(1, DF_RNG_DEMO, 0, i);
		shift[i] = (float)df_rng_normal(1, DF_RNG_DEMO, 1, i);
		error[i] = i % 11 == 3 ? INFINITY : i % 13 == 7 ? NAN : (float)df_rng_uniform(1, DF_RNG_DEMO, 2, i);
		slack[i] = (float)df_rng_uniform(1, DF_RNG_DEMO, 3, i);
	}
	for (size_t n = 0; n <= N; n++) {
		for (int t = 0; t < 4; t++) {
			const float least = t == 0 ? -INFINITY : t == 1 ? -0.5f : t == 2 ? 1.5f : INFINITY;
			struct df_scores x = { product, t % 2 ? shift : NULL, error, slack, .norm = 0.25f,
				.more = 0.125f, .unknown = 1e30f, .first = 1000, .n = n };
			struct df_entries e[2];
			size_t known = 0, finite = 0;

			for (int v = 0; v < 2; v++) {
				const struct df_sieve *s = v ? best : plain;

				e[v] = (struct df_entries){ lo[v], hi[v], ref[v], 0 };
				x.most = INFINITY;
				s->pass(&x, least, &e[v]);
				x.most = 1.375f; /* norm 1 + slack 1 + more */
				s->pass(&x, least, &e[v]);
				s->keep(&e[v], 0.5f);
			}
			assert_int_equal(e[0].n, e[1].n);
			for (size_t i = 0; i < e[0].n; i++) {
				assert_int_equal(e[0].ref[i], e[1].ref[i]);
				assert_true(e[0].lo[i] == e[1].lo[i] && e[0].hi[i] == e[1].hi[i]);
				assert_true(e[0].hi[i] >= 0.5f && e[0].lo[i] <= e[0].hi[i]);
			}
			for (size_t j = 0; j < n; j++) {
				const float s = t % 2 ? product[j] - shift[j] : product[j];
				const float bound = 0.25f * error[j] + slack[j] + 0.125f;

				known += isfinite(bound) && s + bound >= (least > 0.5f ? least : 0.5f);
			}
			for (size_t i = 0; i < e[0].n; i++)
				finite += isfinite(e[0].hi[i]);
			assert_int_equal(finite, 2 * known);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_normal),
		cmocka_unit_test(test_ties),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_self),
		cmocka_unit_test(test_not_finite),
		cmocka_unit_test(test_magnitudes),
		cmocka_unit_test(test_mixed_magnitudes),
		cmocka_unit_test(test_outlier),
		cmocka_unit_test(test_near_duplicates),
		cmocka_unit_test(test_short_candidates),
		cmocka_unit_test(test_worst_order),
		cmocka_unit_test(test_faiss),
		cmocka_unit_test_setup_teardown(test_points, scratch_make, scratch_remove),
		cmocka_unit_test(test_exact_widths),
		cmocka_unit_test(test_exact_block),
		cmocka_unit_test(test_sieve),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
