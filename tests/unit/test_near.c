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

/* ---- brute force --------------------------------------------------------------------------------------------------- */

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
};

/* All neighbours of query i, nearest first; free() it. */
static struct found *
brute(const struct search *s, uint64_t i, uint64_t *n)
{
	struct found *f = memory(s->c.n, sizeof(*f));

	*n = 0;
	for (uint64_t j = 0; finite_row(row(&s->q, i), s->q.d) && j < s->c.n; j++)
		if (finite_row(row(&s->c, j), s->c.d) && !(s->self && s->self[i] == j))
			f[(*n)++] = (struct found){ naive(s->metric, row(&s->q, i), row(&s->c, j), s->q.d), j };
	qsort(f, *n, sizeof(*f), s->metric == DF_METRIC_DOT ? nearer_dot : nearer_l2);
	return f;
}

/* ---- the search under test ------------------------------------------------------------------------------------------ */

/* How candidates come: in blocks of `block` rows, from the front or the back; with ids given or counted. */
struct way {
	const char *device;
	int threads;
	uint64_t block;
	bool backwards;
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
	for (uint64_t b = 0; b < n_blocks; b++) {
		const uint64_t first = (w->backwards ? n_blocks - 1 - b : b) * w->block;
		const uint64_t n = s->c.n - first < w->block ? s->c.n - first : w->block;
		uint64_t *ids = memory(n, sizeof(*ids));
		float *rows = memory(n * s->c.d, sizeof(*rows)); /* gone after the call: nothing may keep it */

		for (uint64_t i = 0; i < n; i++)
			ids[i] = first + i;
		memcpy(rows, row(&s->c, first), n * s->c.d * sizeof(*rows));
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
	static const struct way ways[] = { { NULL, 1, 64, false }, { NULL, 3, 1000000, true }, { NULL, 2, 7, true } };
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
	search_all_ways(&(struct search){ DF_METRIC_L2, q, c, k, self });
	search_all_ways(&(struct search){ DF_METRIC_DOT, q, c, k, self });
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
		{ 4, 50, 16, 1000 }, { 6, 400, 129, 1 } };

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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_normal),
		cmocka_unit_test(test_ties),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_self),
		cmocka_unit_test(test_not_finite),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
