/*
 * test_select.c - ranks, draws, shortages and LESS's arithmetic, against worked examples.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "select/less.h"
#include "select/select.h"

#define EQUAL_IDS(got, ...)                                                  \
	do {                                                                 \
		const uint64_t want_[] = { __VA_ARGS__ };                    \
		for (size_t i_ = 0; i_ < sizeof want_ / sizeof *want_; i_++) \
			assert_int_equal((got)[i_], want_[i_]);              \
	} while (0)

/* Higher first, equal scores by lower row; invalid rows last. */
static void
test_rank(void **state)
{
	const float score[] = { 0.2f, NAN, 0.9f, 0.9f, INFINITY, -1 };
	uint64_t order[6], valid = 0;

	(void)state;
	assert_int_equal(df_rank(score, 6, order, &valid, NULL), 0);
	assert_int_equal(valid, 4);
	EQUAL_IDS(order, 2, 3, 0, 5, 1, 4);
}

static int
plain_order(const void *x, const void *y, void *ctx)
{
	const float *score = ctx;
	const uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

	if (score[a] != score[b])
		return score[a] > score[b] ? -1 : 1;
	return a < b ? -1 : a > b;
}

/* As a comparison of floats orders them: zeros of either sign are equal, subnormal numbers are not. */
static void
test_rank_many(void **state)
{
	enum { N = 5000 };
	static const float special[] = { 0.0f, -0.0f, 1e-45f, -1e-45f, FLT_MAX, -FLT_MAX, FLT_MIN, -FLT_MIN };
	static float score[N];
	static uint64_t order[N], want[N];
	uint64_t valid = 0;

	(void)state;
	for (uint64_t i = 0; i < N; i++) {
		const double x = df_rng_normal(3, DF_RNG_DEMO, 0, i);

		/* Many are equal; the others span all exponents. */
		score[i] = i % 5 == 0 ? special[i / 5 % 8]
		    : i % 5 == 1      ? (float)(int)(x * 4)
				      : (float)(x * exp2((double)(i % 250) - 125));
		want[i] = i;
	}
	qsort_r(want, N, sizeof *want, plain_order, score);
	assert_int_equal(df_rank(score, N, order, &valid, NULL), 0);
	assert_int_equal(valid, N);
	assert_memory_equal(order, want, sizeof want);
}

/* Seed 42. */
static void
test_race(void **state)
{
	const double u[] = { 0.327163362, 0.376496485, 0.767513704, 0.200330993, 0.459046798, 0.228349289 };
	const double w[] = { 1, 1, 1, 5, 5, 5, 1, 1, 1, 0 };
	struct df_err err = DF_ERR_INIT;
	uint64_t out[10], n = 0;

	(void)state;
	for (uint64_t i = 0; i < 6; i++)
		assert_true(fabs(df_rng_uniform(42, DF_RNG_SAMPLE, 0, i) - u[i]) < 1e-9);
	assert_int_equal(df_sample_race(NULL, 6, 6, 42, 0, out, &n, &err), 0);
	assert_int_equal(n, 6);
	EQUAL_IDS(out, 2, 4, 1, 0, 5, 3);
	assert_int_equal(df_sample_race(w, 10, 4, 42, 0, out, &n, &err), 0);
	EQUAL_IDS(out, 8, 4, 2, 5);
	assert_int_equal(df_sample_race(w, 10, 4, 42, 10, out, &n, &err), 0);
	EQUAL_IDS(out, 5, 3, 2, 8);
	assert_int_equal(df_sample_race(w, 10, 10, 42, 0, out, &n, &err), 0);
	assert_int_equal(n, 9); /* a weight of 0 is never drawn */
}

static void
test_replace(void **state)
{
	const double u[] = { .644613, .438256, .309885, .921537, .714827 }, p[] = { .25, .5, .25 }, zero[] = { 0, 0 };
	struct df_err err = DF_ERR_INIT;
	uint64_t out[5];

	(void)state;
	for (uint64_t i = 0; i < 5; i++)
		assert_true(fabs(df_rng_uniform(42, DF_RNG_SAMPLE_REPLACE, 0, i) - u[i]) < 1e-6);
	assert_int_equal(df_sample_replace(p, 3, 5, 42, 0, out, &err), 0);
	EQUAL_IDS(out, 1, 1, 1, 2, 1);
	assert_int_equal(df_sample_replace(zero, 2, 1, 42, 0, out, &err), DF_EUSAGE);
}

static void
test_torch(void **state)
{
	struct df_err err = DF_ERR_INIT;
	uint64_t out[10];

	(void)state;
	assert_int_equal(df_sample_torch_perm(10, 10, 42, out, &err), 0);
	EQUAL_IDS(out, 2, 6, 1, 8, 4, 5, 0, 9, 3, 7);
	assert_int_equal(df_sample_torch_randint(10, 5, 42, out, &err), 0);
	assert_int_equal(df_sample_torch_randint(1 << 28, 5, 42, out, &err), DF_EUNSUPPORTED);
	EQUAL_IDS(out, 2, 7, 6, 4, 6);
}

/* Frequencies over 1e5 draws follow the weights: chi-square with 3 degrees of freedom, 99.9 % point 16.27. */
static void
test_frequencies(void **state)
{
	enum { DRAWS = 100000 };
	const double p[] = { .1, .2, .3, .4 };
	struct df_err err = DF_ERR_INIT;
	uint64_t *out = malloc(DRAWS * sizeof *out), n;
	double count[2][4] = { { 0 } };

	(void)state;
	assert_non_null(out);
	assert_int_equal(df_sample_replace(p, 4, DRAWS, 1, 0, out, &err), 0);
	for (size_t i = 0; i < DRAWS; i++)
		count[0][out[i]]++;
	for (uint32_t i = 0; i < DRAWS; i++) { /* the first of a race is drawn with probability w_i / sum w */
		assert_int_equal(df_sample_race(p, 4, 1, 1, i, out, &n, &err), 0);
		count[1][out[0]]++;
	}
	for (int kind = 0; kind < 2; kind++) {
		double chi2 = 0;

		for (int i = 0; i < 4; i++)
			chi2 += pow(count[kind][i] - DRAWS * p[i], 2) / (DRAWS * p[i]);
		print_message("  chi-square %.2f\n", chi2);
		assert_true(chi2 < 16.27);
	}
	free(out);
}

static void
take(enum df_shortage mode, uint64_t n_valid, uint64_t n, uint64_t **index, uint64_t *n_index)
{
	static const uint64_t order[] = { 7, 3, 5 };
	struct df_err err = DF_ERR_INIT;

	if (df_short_take(mode, order, n_valid, n, 42, 0, index, n_index, &err))
		fail_msg("%s", err.msg);
}

/* More than there are, in every mode; none at all; nothing valid. */
static void
test_short(void **state)
{
	static const enum df_shortage modes[] = { DF_SHORT_CYCLE, DF_SHORT_ERROR, DF_SHORT_REPLACE, DF_SHORT_TRUNCATE };
	struct df_err err = DF_ERR_INIT;
	const uint64_t order[] = { 7, 3, 5 };
	uint64_t *v = NULL, n = 0;

	(void)state;
	for (size_t m = 0; m < 4; m++) {
		take(modes[m], 3, 2, &v, &n);
		assert_int_equal(n, 2);
		EQUAL_IDS(v, 7, 3);
		free(v);
		take(modes[m], 3, 0, &v, &n);
		assert_int_equal(n, 0);
		free(v);
		take(modes[m], 0, 0, &v, &n);
		assert_int_equal(n, 0);
		free(v);
	}
	take(DF_SHORT_CYCLE, 3, 8, &v, &n);
	assert_int_equal(n, 8);
	EQUAL_IDS(v, 7, 3, 5, 7, 3, 5, 7, 3);
	free(v);
	take(DF_SHORT_TRUNCATE, 3, 8, &v, &n);
	assert_int_equal(n, 3);
	free(v);
	take(DF_SHORT_REPLACE, 3, 100, &v, &n);
	assert_int_equal(n, 100);
	for (size_t i = 0; i < 100; i++)
		assert_true(v[i] == 7 || v[i] == 3 || v[i] == 5);
	free(v);
	v = NULL;
	assert_int_equal(df_short_take(DF_SHORT_ERROR, order, 3, 4, 42, 0, &v, &n, &err), DF_EUSAGE);
	assert_int_equal(df_short_take(DF_SHORT_CYCLE, order, 0, 4, 42, 0, &v, &n, &err), DF_EUSAGE);
	assert_null(v);
}

static void
test_amount(void **state)
{
	struct df_err err = DF_ERR_INIT;
	struct df_amount a;

	(void)state;
	assert_int_equal(df_amount_parse("400", &a, &err), 0);
	assert_int_equal(df_amount_of(&a, 1000), 400);
	assert_int_equal(df_amount_parse("5%", &a, &err), 0);
	assert_int_equal(df_amount_of(&a, 1945), 97);
	/* every hundredth of a percent, against whole numbers */
	for (uint64_t i = 1; i <= 10000; i++) {
		a.percent = (double)i / 100;
		assert_int_equal(df_amount_of(&a, 50000), i * 50000 / 10000);
		assert_int_equal(df_amount_of(&a, 270679), i * 270679 / 10000);
	}
	assert_int_equal(df_amount_parse("0%", &a, &err), DF_EUSAGE);
	assert_int_not_equal(df_amount_parse("-1", &a, &err), 0);
	assert_int_not_equal(df_amount_parse("5x", &a, &err), 0);
	a.given = false;
	assert_int_equal(df_amount_of(&a, 7), 7);
}

/*
 * Two checkpoints with weights .75 and .25, 3 training rows, 4 validation rows
 * in 2 subtasks, given by their cosines: validation rows are the unit vectors
 * e0..e3, training rows the cosines, made unit by a fifth coordinate.
 */
static const double cosines[2][3][4] = { { { .8, .4, -.2, 0 }, { .1, .1, .5, .7 }, { .3, .3, .3, .3 } },
	{ { .4, 0, .2, .4 }, { .3, .1, .1, .3 }, { .2, .2, .2, .2 } } };

static void
example_scores(enum df_less_val agg, size_t n_tasks, const size_t order[4], double scale, double influence[3][2])
{
	const double weight[2] = { .75, .25 };
	struct df_err err = DF_ERR_INIT;

	memset(influence, 0, 6 * sizeof(double));
	for (int ckpt = 0; ckpt < 2; ckpt++) {
		struct df_less l;

		assert_int_equal(df_less_init(&l, 5, n_tasks, agg, &err), 0);
		for (size_t i = 0; i < 4; i++) {
			float v[5] = { 0 };

			v[order[i]] = (float)scale; /* rows are made unit: their length must not matter */
			assert_true(df_less_val_row(&l, v, n_tasks == 1 ? 0 : order[i] / 2));
		}
		assert_int_equal(df_less_end(&l, &err), 0);
		for (size_t z = 0; z < 3; z++) {
			double rest = 1;
			float row[5];

			for (size_t i = 0; i < 4; i++) {
				row[i] = (float)(cosines[ckpt][z][i] * scale);
				rest -= cosines[ckpt][z][i] * cosines[ckpt][z][i];
			}
			row[4] = (float)(sqrt(rest) * scale);
			df_less_train_rows(&l, row, 1, weight[ckpt], influence[z]);
		}
		df_less_release(&l);
	}
}

static void
test_less_example(void **state)
{
	static const double tasks[3][2] = { { .5, 0 }, { .125, .5 }, { .275, .275 } }, mean[3] = { .25, .3125, .275 };
	const size_t order[4] = { 0, 1, 2, 3 };
	double got[3][2], worst = 0;
	float score[3];
	uint64_t rank[3], valid;

	(void)state;
	example_scores(DF_VAL_MEAN_OF_COSINE, 2, order, 3.0, got);
	for (int z = 0; z < 3; z++) {
		for (int j = 0; j < 2; j++)
			worst = fmax(worst, fabs(got[z][j] - tasks[z][j]));
		score[z] = (float)fmax(got[z][0], got[z][1]);
	}
	print_message("  largest difference %.2e\n", worst);
	assert_true(worst < 1e-6); /* the rows are float32 */
	assert_int_equal(df_rank(score, 3, rank, &valid, NULL), 0);
	assert_int_equal(rank[2], 2); /* .5 .5 .275 */
	example_scores(DF_VAL_MEAN_OF_COSINE, 1, order, 1.0, got);
	for (int z = 0; z < 3; z++) {
		assert_true(fabs(got[z][0] - mean[z]) < 1e-6);
		score[z] = (float)got[z][0];
	}
	assert_int_equal(df_rank(score, 3, rank, &valid, NULL), 0);
	EQUAL_IDS(rank, 1, 2, 0);
}

/* The order of validation rows changes nothing, not even a bit. */
static void
test_less_order(void **state)
{
	enum { K = 33, M = 50 };
	struct df_err err = DF_ERR_INIT;
	struct df_less a, b;

	(void)state;
	assert_int_equal(df_less_init(&a, K, 1, DF_VAL_MEAN_OF_COSINE, &err), 0);
	assert_int_equal(df_less_init(&b, K, 1, DF_VAL_MEAN_OF_COSINE, &err), 0);
	for (size_t i = 0; i < M; i++) {
		float v[2][K];

		for (size_t j = 0; j < K; j++) {
			v[0][j] = (float)df_rng_normal(1, DF_RNG_DEMO, 0, i * K + j);
			v[1][j] = (float)df_rng_normal(1, DF_RNG_DEMO, 0, (i * 17 % M) * K + j);
		}
		assert_true(df_less_val_row(&a, v[0], 0));
		assert_true(df_less_val_row(&b, v[1], 0));
	}
	assert_int_equal(df_less_end(&a, &err), 0);
	assert_int_equal(df_less_end(&b, &err), 0);
	assert_memory_equal(a.hi, b.hi, K * sizeof *a.hi);
	df_less_release(&a);
	df_less_release(&b);
}

/* What the scores are, to the bit: eight sums of every eighth product, added in pairs. */
static double
plain_product(const float *z, const double *c, size_t k)
{
	double s[8] = { 0 };

	for (size_t i = 0; i < k; i++)
		s[i % 8] += (double)z[i] * (c ? c[i] : (double)z[i]);
	return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

static void
test_less_bits(void **state)
{
	enum { K = 41, T = 5, N = 11 };
	static const size_t widths[] = { 1, 7, 8, 9, 16, K };
	struct df_err err = DF_ERR_INIT;
	static float z[N * K];
	double out[N * T], want;

	(void)state;
	for (size_t i = 0; i < N * K; i++)
		z[i] = (float)df_rng_normal(1, DF_RNG_DEMO, 1, i);
	for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
		for (size_t tasks = 1; tasks <= T; tasks++)
			for (size_t n = 1; n <= N; n++) {
				const size_t k = widths[w];
				struct df_less l;

				assert_int_equal(df_less_init(&l, k, tasks, DF_VAL_MEAN_OF_COSINE, &err), 0);
				for (size_t j = 0; j < tasks; j++)
					assert_true(df_less_val_row(&l, z + (N - 1 - j) * k, j));
				assert_int_equal(df_less_end(&l, &err), 0);
				for (size_t i = 0; i < n * tasks; i++)
					out[i] = 0.125 * (double)i;
				df_less_train_rows(&l, z, n, 0.75, out);
				for (size_t i = 0; i < n * tasks; i++) {
					const float *row = z + i / tasks * k;

					want = 0.125 * (double)i;
					want += 0.75 * plain_product(row, l.hi + i % tasks * k, k) /
					    sqrt(plain_product(row, NULL, k));
					if (out[i] != want)
						fail_msg("k %zu, %zu tasks, row %zu of %zu: %a, not %a", k, tasks,
						    i / tasks, n, out[i], want);
				}
				df_less_release(&l);
			}
}

/* NaN and Inf are invalid, a zero gradient scores 0, an empty subtask is an error; the two ways to average differ. */
static void
test_less_edges(void **state)
{
	const float e0[3] = { 1, 0, 0 }, e1[3] = { 0, 3, 0 }, nan[3] = { NAN, 0, 0 }, inf[3] = { 1, INFINITY, 0 };
	const float zero[3] = { 0 }, one[3] = { 1, 0, 0 };
	struct df_err err = DF_ERR_INIT;
	struct df_less l;
	double out;

	(void)state;
	assert_int_equal(df_less_init(&l, 3, 1, DF_VAL_COSINE_OF_MEAN, &err), 0);
	assert_true(df_less_val_row(&l, e0, 0));
	assert_true(df_less_val_row(&l, e1, 0));
	assert_false(df_less_val_row(&l, nan, 0));
	assert_false(df_less_val_row(&l, inf, 0));
	assert_int_equal(df_less_end(&l, &err), 0);
	out = 0;
	df_less_train_rows(&l, one, 1, 1, &out);
	assert_true(fabs(out - 1 / sqrt(10)) < 1e-12); /* cos((1,0,0), (0.5,1.5,0)) */
	out = 0;
	df_less_train_rows(&l, zero, 1, 1, &out);
	assert_true(out == 0);
	df_less_train_rows(&l, nan, 1, 1, &out);
	assert_true(isnan(out));
	df_less_release(&l);
	assert_int_equal(df_less_init(&l, 3, 2, DF_VAL_MEAN_OF_COSINE, &err), 0);
	assert_true(df_less_val_row(&l, e0, 0));
	assert_int_equal(df_less_end(&l, &err), DF_EFORMAT);
	df_less_release(&l);
}

static void
test_registry(void **state)
{
	const struct df_selector *s = NULL;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	for (size_t i = 0; df_selectors[i]; i++) {
		char typo[32];

		assert_int_equal(df_selector_find(&s, df_selectors[i]->name, &err), 0);
		assert_ptr_equal(s, df_selectors[i]);
		/* every one is suggested, the last too */
		snprintf(typo, sizeof typo, "%sx", df_selectors[i]->name);
		assert_int_equal(df_selector_find(&s, typo, &err), DF_EUSAGE);
		assert_non_null(strstr(err.msg, df_selectors[i]->name));
		assert_non_null(strstr(err.msg, "did you mean"));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rank),
		cmocka_unit_test(test_rank_many),
		cmocka_unit_test(test_race),
		cmocka_unit_test(test_replace),
		cmocka_unit_test(test_torch),
		cmocka_unit_test(test_frequencies),
		cmocka_unit_test(test_short),
		cmocka_unit_test(test_amount),
		cmocka_unit_test(test_less_example),
		cmocka_unit_test(test_less_order),
		cmocka_unit_test(test_less_bits),
		cmocka_unit_test(test_less_edges),
		cmocka_unit_test(test_registry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
