/*
 * test_combine.c - ranks and z-scores against plain loops, largest remainders against their examples and properties.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/remainder.h"
#include "base/rng.h"
#include "select/combine.h"
#include "select/quota.h"

enum { N = 200 };

/* Ranks by counting: those below, and half of those that are equal. */
static double
plain_rank(const float *score, uint64_t i)
{
	double below = 0, same = 0, valid = 0;

	for (uint64_t j = 0; j < N; j++) {
		if (!isfinite(score[j]))
			continue;
		valid++;
		below += score[j] < score[i];
		same += j != i && score[j] == score[i];
	}
	return (below + same / 2) / (valid - 1);
}

static double
plain_z(const float *score, uint64_t i)
{
	double mean = 0, square = 0, n = 0;

	for (uint64_t j = 0; j < N; j++) {
		if (isfinite(score[j])) {
			mean += (double)score[j];
			square += (double)score[j] * (double)score[j];
			n++;
		}
	}
	mean /= n;
	return ((double)score[i] - mean) / sqrt(square / n - mean * mean);
}

static void
test_sums(void **state)
{
	static float score[N];
	static double sum[N];

	(void)state;
	for (uint64_t i = 0; i < N; i++) {
		const double x = df_rng_normal(1, DF_RNG_DEMO, 0, i);

		score[i] = (float)(i % 3 ? x : floor(x * 2));
	}
	score[7] = NAN;
	score[8] = INFINITY;
	score[150] = -INFINITY;
	for (int by = DF_COMBINE_RANK; by <= DF_COMBINE_SCORE; by++) {
		for (uint64_t i = 0; i < N; i++)
			sum[i] = 10;
		assert_int_equal(df_combine_add((enum df_combine)by, score, N, -0.5, sum, NULL), 0);
		for (uint64_t i = 0; i < N; i++) {
			const double x = by == DF_COMBINE_RANK ? plain_rank(score, i)
			    : by == DF_COMBINE_ZSCORE          ? plain_z(score, i)
							       : (double)score[i];

			if (isfinite(score[i]))
				assert_true(fabs(sum[i] - (10 - 0.5 * x)) < 1e-9);
			else
				assert_true(isnan(sum[i]));
		}
	}
}

/* All scores equal, one valid score, none. */
static void
test_degenerate(void **state)
{
	const float same[] = { 3, 3, 3 }, one[] = { NAN, 5, NAN }, none[] = { NAN, INFINITY, -INFINITY };
	double sum[3];

	(void)state;
	for (int by = DF_COMBINE_RANK; by <= DF_COMBINE_ZSCORE; by++) {
		const double middle = by == DF_COMBINE_RANK ? 0.5 : 0;

		memset(sum, 0, sizeof(sum));
		assert_int_equal(df_combine_add((enum df_combine)by, same, 3, 1, sum, NULL), 0);
		assert_true(sum[0] == middle && sum[1] == middle && sum[2] == middle);
		memset(sum, 0, sizeof(sum));
		assert_int_equal(df_combine_add((enum df_combine)by, one, 3, 1, sum, NULL), 0);
		assert_true(isnan(sum[0]) && sum[1] == middle && isnan(sum[2]));
		memset(sum, 0, sizeof(sum));
		assert_int_equal(df_combine_add((enum df_combine)by, none, 3, 1, sum, NULL), 0);
		assert_true(isnan(sum[0]) && isnan(sum[1]) && isnan(sum[2]));
	}
}

/* The examples of the specification, 6.1. */
static void
test_quota_examples(void **state)
{
	static const struct {
		double share[3];
		size_t n_parts;
		uint64_t n, want[3];
	} t[] = {
		{ { 1.0 / 3, 1.0 / 3, 1.0 / 3 }, 3, 10, { 4, 3, 3 } },
		{ { .55, .45, 0 }, 3, 7, { 4, 3, 0 } },
		{ { .5, .5 }, 2, 7, { 4, 3 } },
		{ { .55, .45 }, 2, 20, { 11, 9 } }, /* 0.55 * 20 is not 11 in binary */
		{ { .1, .2, .7 }, 3, 0, { 0, 0, 0 } },
		{ { .1, .2, .7 }, 3, 1, { 0, 0, 1 } },
		{ { 0, 1, 0 }, 3, 5, { 0, 5, 0 } },
	};
	uint64_t quota[3];

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		df_largest_remainder(t[i].share, t[i].n_parts, t[i].n, quota);
		assert_memory_equal(quota, t[i].want, t[i].n_parts * sizeof(*quota));
	}
}

/* Quotas sum to n, each is within 1 of n * p, and a part without a share gets nothing. */
static void
test_quota_properties(void **state)
{
	(void)state;
	for (uint64_t draw = 0; draw < 500; draw++) {
		const size_t parts = 1 + draw % 17;
		const uint64_t n = draw * draw * 31 % 5003;
		double share[17], sum = 0;
		uint64_t quota[17], all = 0;

		for (size_t i = 0; i < parts; i++) {
			share[i] = i > 0 && (draw + i) % 5 == 0 ? 0 : df_rng_uniform(2, DF_RNG_DEMO, (uint32_t)draw, i);
			sum += share[i];
		}
		for (size_t i = 0; i < parts; i++)
			share[i] /= sum;
		df_largest_remainder(share, parts, n, quota);
		for (size_t i = 0; i < parts; i++) {
			all += quota[i];
			assert_true(fabs((double)quota[i] - (double)n * share[i]) < 1);
			assert_true(share[i] > 0 || quota[i] == 0);
		}
		assert_int_equal(all, n);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_degenerate),
		cmocka_unit_test(test_quota_examples),
		cmocka_unit_test(test_quota_properties),
	};

	return cmocka_run_group_tests_name("combine", tests, NULL, NULL);
}
