/*
 * test_race.c - the race that sorts only its winners, against one that sorts everything; on any number of threads.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/pool.h"
#include "base/rng.h"
#include "select/select.h"

enum { N = 40000 };

struct plain {
	double t;
	uint64_t id;
};

static int
by_time(const void *x, const void *y)
{
	const struct plain *a = x, *b = y;

	if (a->t != b->t)
		return a->t < b->t ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

/* All rows in order, as the definition says it. */
static uint64_t
plain_race(const double *weight, uint64_t n, uint64_t seed, uint32_t substream, uint64_t *out)
{
	struct plain *r = calloc(n + 1, sizeof(*r));
	uint64_t m = 0;

	assert_non_null(r);
	for (uint64_t i = 0; i < n; i++)
		if (!weight || weight[i] > 0)
			r[m++] = (struct plain){
				-log(df_rng_uniform(seed, DF_RNG_SAMPLE, substream, i)) / (weight ? weight[i] : 1), i
			};
	qsort(r, m, sizeof(*r), by_time);
	for (uint64_t i = 0; i < m; i++)
		out[i] = r[i].id;
	free(r);
	return m;
}

static double *
weights(int kind)
{
	double *w = calloc(N, sizeof(*w));

	assert_non_null(w);
	for (uint64_t i = 0; i < N; i++) {
		const double u = df_rng_uniform(9, DF_RNG_DEMO, (uint32_t)kind, i);

		switch (kind) {
		case 0: w[i] = u < .3 ? 5 : 1; break;
		case 1: w[i] = u < .5 ? 0 : u; break;
		case 2: w[i] = exp(600 * (u - .5)); break;        /* of all sizes */
		case 3: w[i] = i % 4 == 0 ? 1e-3 : 1e-280; break; /* what is drawn to estimate is not like the rest */
		case 4: w[i] = i % 4 == 0 ? 0 : 1; break;
		default: w[i] = i == 17; break;
		}
	}
	return w;
}

static void
test_race(void **state)
{
	static const uint64_t wanted[] = { 0, 1, 17, 600, 16384, 30000, 39999, 40000, 100000 };
	uint64_t *want = calloc(N, sizeof(*want)), *got = calloc(N, sizeof(*got)), n;
	struct df_pool *pool[3] = { NULL };
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(df_pool_new(&pool[1], 2, &err), 0);
	assert_int_equal(df_pool_new(&pool[2], 5, &err), 0);
	for (int kind = -1; kind < 6; kind++) {
		double *w = kind < 0 ? NULL : weights(kind);
		const uint64_t all = plain_race(w, N, 42, 3, want);

		for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
			const uint64_t m = wanted[i] < all ? wanted[i] : all;

			memset(got, 0xff, N * sizeof(*got));
			assert_int_equal(df_sample_race_on(pool[i % 3], w, N, wanted[i], 42, 3, got, &n, &err), 0);
			assert_int_equal(n, m);
			assert_memory_equal(got, want, m * sizeof(*got));
		}
		free(w);
	}
	for (uint64_t rows = 0; rows < 3; rows++) {
		const uint64_t all = plain_race(NULL, rows, 1, 0, want);

		assert_int_equal(df_sample_race(NULL, rows, 5, 1, 0, got, &n, &err), 0);
		assert_int_equal(n, all);
		assert_memory_equal(got, want, all * sizeof(*got));
	}
	df_pool_free(pool[1]);
	df_pool_free(pool[2]);
	free(want);
	free(got);
}

static void
test_uniforms(void **state)
{
	static const uint64_t firsts[] = { 0, 1, 15, 4294967290u, (uint64_t)1 << 40 };
	double u[70];

	(void)state;
	for (size_t i = 0; i < sizeof(firsts) / sizeof(*firsts); i++) {
		for (uint64_t n = 0; n <= 70; n++) {
			memset(u, 0, sizeof(u));
			df_rng_uniforms(0x123456789abcdefULL, DF_RNG_SAMPLE, 7, firsts[i], n, u);
			for (uint64_t k = 0; k < 70; k++) {
				const double want =
				    k < n ? df_rng_uniform(0x123456789abcdefULL, DF_RNG_SAMPLE, 7, firsts[i] + k) : 0;

				assert_true(u[k] == want);
			}
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_race),
		cmocka_unit_test(test_uniforms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
