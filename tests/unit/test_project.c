/*
 * test_project.c - random projections: the definition, and that every fast way gives the same bits.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/backend.h"
#include "backend/cpu/project.h"
#include "base/pool.h"
#include "base/rng.h"
#include "project/project.h"

static float *
random_array(size_t n, uint64_t seed)
{
	float *v = malloc(n * sizeof *v);

	assert_non_null(v);
	for (size_t i = 0; i < n; i++)
		v[i] = (float)df_rng_normal(seed, DF_RNG_DEMO, 0, i);
	return v;
}

static void
run(enum df_cpu_isa isa, struct df_pool *pool, const struct df_cpu_project *a)
{
	struct df_err err = DF_ERR_INIT;

	if (df_cpu_project_with(isa, pool, a, &err))
		fail_msg("%s", err.msg);
}

/* Seed 42, model 0, 3 coordinates, 4 columns: signs and sums worked out by hand from Philox's words. */
static void
test_example(void **state)
{
	static const float signs[3][4] = { { 1, -1, -1, 1 }, { -1, -1, -1, 1 }, { -1, -1, 1, -1 } };
	const uint32_t ctr[4] = { 0, 0, 0, 1u << 24 }, key[2] = { 42, 0 };
	float g[3] = { 1, -2, 0.5f }, y[4] = { 0 };
	struct df_cpu_project a = { .type = DF_PROJ_RADEMACHER,
		.g = g,
		.y = y,
		.n_samples = 1,
		.n = 3,
		.k = 4,
		.ldg = 3,
		.ldy = 4,
		.seed = 42 };
	uint32_t w[4];

	(void)state;
	df_philox(ctr, key, w);
	assert_int_equal(w[0], 0x97907da9);
	assert_int_equal(w[1], 0xecba94ea);
	assert_int_equal(w[2], 0x07dea2c9);
	assert_int_equal(w[3], 0x1d9cc73d);
	df_cpu_project_naive(&a);
	assert_true(y[0] == 2.5f && y[1] == 0.5f && y[2] == 1.5f && y[3] == -1.5f);
	for (int p = 0; p < 3; p++) {
		float one = 1, row[4] = { 0 };
		struct df_cpu_project b = { .type = DF_PROJ_RADEMACHER,
			.g = &one,
			.y = row,
			.n_samples = 1,
			.n = 1,
			.k = 4,
			.ldg = 1,
			.ldy = 4,
			.first = (uint64_t)p,
			.seed = 42 };

		run(DF_CPU_ISA_BEST, NULL, &b);
		for (int c = 0; c < 4; c++)
			assert_true(row[c] == signs[p][c]);
	}
}

/* Through the library and the backend under test: 1/sqrt(4) of the above. */
static void
test_example_scaled(void **state)
{
	const struct df_projector p = { DF_PROJ_RADEMACHER, 4, 42, 0, 4, DF_SCALE_JL };
	const float host[3] = { 1, -2, 0.5f };
	const char *device = getenv("DF_TEST_DEVICE");
	struct df_projection pr = DF_PROJECTION_INIT;
	struct df_backend *be = NULL;
	struct df_err err = DF_ERR_INIT;
	struct df_tensor g = DF_TENSOR_NONE;
	struct df_manifest_row rows[2] = { { NULL, 0, 1, 2 }, { NULL, 2, 1, 1 } };
	float out[4];

	(void)state;
	if (df_backend_open(&be, device ? device : "cpu", NULL, &err) ||
	    df_tensor_alloc(be, &g, DF_F32, 1, 3, "g", &err) || df_upload(be, g, host, &err))
		fail_msg("%s", err.msg);
	for (int again = 0; again < 2; again++) { /* a used projection starts at zero again */
		if (df_projection_begin(&pr, &p, be, 1, &err) || df_projection_add_all(&pr, g, rows, 2, &err) ||
		    df_projection_end(&pr, out, &err))
			fail_msg("%s", err.msg);
		assert_true(out[0] == 1.25f && out[1] == 0.25f && out[2] == 0.75f && out[3] == -0.75f);
	}
	rows[1].offset = 1;
	if (df_projection_begin(&pr, &p, be, 1, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(df_projection_add_all(&pr, g, rows, 2, &err), DF_EFORMAT);
	df_projection_release(&pr);
	df_tensor_free(be, &g);
	df_backend_close(be);
}

/* Shapes around every edge: samples, coordinates, columns, a counter that crosses 2^32. */
static const struct {
	size_t s, n, k;
	uint64_t first;
	uint32_t sparsity;
} shapes[] = {
	{ 1, 1, 1, 0, 1 },
	{ 5, 17, 100, 3, 3 },
	{ 6, 256, 128, 0, 4 },
	{ 7, 257, 129, (UINT64_C(1) << 32) - 100, 4 },
	{ 13, 300, 160, UINT64_C(1) << 40, 5 },
	{ 64, 40, 33, 9, 9 },
	{ 200, 70, 48, 1000, 4 },
	{ 2, 4200, 17, 0, 2 },
	{ 3, 800, 525, 11, 3 }, /* sparse, from here on: samples side by side, every width and remainder */
	{ 8, 1037, 21, 5, 4 },
	{ 11, 600, 50, 0, 3 },
	{ 16, 300, 64, 0, 8 },
	{ 45, 230, 99, 77, 4 },
};

/* The naive version rounds at the same places, so equality is of bits. */
static void
same_bits(enum df_cpu_isa isa, enum df_projection_type type)
{
	struct df_pool *pool = NULL;
	struct df_err err = DF_ERR_INIT;
	float probe_g = 1, probe_y = 0;
	const struct df_cpu_project probe = { .type = type,
		.g = &probe_g,
		.y = &probe_y,
		.n_samples = 1,
		.n = 1,
		.k = 1,
		.ldg = 1,
		.ldy = 1,
		.sparsity = 1 };

	if (df_cpu_project_with(isa, NULL, &probe, &err) == DF_EUNSUPPORTED)
		skip();
	if (df_pool_new(&pool, 3, &err))
		fail_msg("%s", err.msg);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		const size_t s = shapes[i].s, n = shapes[i].n, k = shapes[i].k;
		float *g = random_array(s * (n + 3), i), *y0 = random_array(s * (k + 2), i + 100);
		float *y1 = malloc(s * (k + 2) * sizeof *y1);
		struct df_cpu_project a = { .type = type,
			.g = g,
			.y = y0,
			.n_samples = s,
			.n = n,
			.k = k,
			.ldg = n + 3,
			.ldy = k + 2,
			.first = shapes[i].first,
			.seed = 7 + (UINT64_C(5) << 40),
			.model_id = 3,
			.sparsity = shapes[i].sparsity };

		assert_non_null(y1);
		memcpy(y1, y0, s * (k + 2) * sizeof *y1);
		df_cpu_project_naive(&a);
		a.y = y1;
		run(isa, pool, &a);
		assert_memory_equal(y0, y1, s * (k + 2) * sizeof *y1);
		free(g);
		free(y0);
		free(y1);
	}
	df_pool_free(pool);
}

static void
test_scalar(void **state)
{
	(void)state;
	same_bits(DF_CPU_ISA_SCALAR, DF_PROJ_RADEMACHER);
	same_bits(DF_CPU_ISA_SCALAR, DF_PROJ_SJLT);
}

static void
test_avx2(void **state)
{
	(void)state;
	same_bits(DF_CPU_ISA_AVX2, DF_PROJ_RADEMACHER);
	same_bits(DF_CPU_ISA_AVX2, DF_PROJ_SJLT);
}

static void
test_avx512(void **state)
{
	(void)state;
	same_bits(DF_CPU_ISA_AVX512, DF_PROJ_RADEMACHER);
	same_bits(DF_CPU_ISA_AVX512, DF_PROJ_SJLT);
}

/* A sample's projection is the same bits alone and in company; the matrix for k is a prefix of that for k' > k. */
static void
test_independence(void **state)
{
	const size_t s = 29, n = 700, k = 150;
	float *g = random_array(s * n, 1), *y = calloc(s * k, sizeof *y), *one = calloc(k, sizeof *one);
	struct df_cpu_project a = { .type = DF_PROJ_RADEMACHER,
		.g = g,
		.y = y,
		.n_samples = s,
		.n = n,
		.k = k,
		.ldg = n,
		.ldy = k,
		.first = 12345,
		.seed = 42 };

	(void)state;
	run(DF_CPU_ISA_BEST, NULL, &a);
	for (size_t i = 0; i < s; i++) {
		struct df_cpu_project b = a;

		memset(one, 0, k * sizeof *one);
		b.g = g + i * n;
		b.y = one;
		b.n_samples = 1;
		b.k = k - i * 5;
		run(DF_CPU_ISA_BEST, NULL, &b);
		assert_memory_equal(one, y + i * k, b.k * sizeof *one);
	}
	free(g);
	free(y);
	free(one);
}

/* Inner products are unbiased: over 200 seeds their mean lies within 3 standard errors of <g1,g2>. */
static void
unbiased(enum df_projection_type type, uint32_t sparsity)
{
	enum { N = 300, K = 64, SEEDS = 200 };
	float *g = random_array((size_t)2 * N, 77);
	double truth = 0, sum = 0, squares = 0, mean, se;

	for (size_t i = 0; i < N; i++) {
		g[N + i] += 0.3f * g[i];
		truth += (double)g[i] * (double)g[N + i];
	}
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		float y[2][K] = { { 0 } };
		double d = 0;
		struct df_cpu_project a = { .type = type,
			.g = g,
			.y = y[0],
			.n_samples = 2,
			.n = N,
			.k = K,
			.ldg = N,
			.ldy = K,
			.seed = seed,
			.sparsity = sparsity };

		run(DF_CPU_ISA_BEST, NULL, &a);
		for (size_t c = 0; c < K; c++)
			d += (double)y[0][c] * (double)y[1][c];
		d /= type == DF_PROJ_RADEMACHER ? K : 1;
		sum += d;
		squares += d * d;
	}
	mean = sum / SEEDS;
	se = sqrt((squares / SEEDS - mean * mean) / (SEEDS - 1));
	print_message("  <g1,g2> = %.3f, mean over seeds %.3f +- %.3f\n", truth, mean, se);
	assert_true(fabs(mean - truth) < 3 * se);
	assert_true(se < fabs(truth)); /* the bound says something */
	free(g);
}

static void
test_unbiased(void **state)
{
	(void)state;
	unbiased(DF_PROJ_RADEMACHER, 0);
	unbiased(DF_PROJ_SJLT, 1);
	unbiased(DF_PROJ_SJLT, 4);
}

static void
test_ranges(void **state)
{
	struct df_projector p = DF_PROJECTOR_DEFAULT;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(df_projector_check(&p, &err), 0);
	p.k = 0;
	assert_int_equal(df_projector_check(&p, &err), DF_EUSAGE);
	p.k = 3;
	p.type = DF_PROJ_SJLT;
	assert_int_equal(df_projector_check(&p, &err), DF_EUSAGE);
	p.sparsity = 3;
	assert_int_equal(df_projector_check(&p, &err), 0);
	p.model_id = 1u << 24;
	assert_int_equal(df_projector_check(&p, &err), DF_EUSAGE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_example),
		cmocka_unit_test(test_example_scaled),
		cmocka_unit_test(test_scalar),
		cmocka_unit_test(test_avx2),
		cmocka_unit_test(test_avx512),
		cmocka_unit_test(test_independence),
		cmocka_unit_test(test_unbiased),
		cmocka_unit_test(test_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
