/*
 * test_projections.c - random projections on the device under test, in both types of computation: the signs and places
 * of the definition, the promised accuracy, and that a sample's projection depends on nothing else in the call.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/project.h"
#include "base/half.h"
#include "cases.h"

#define SEED  (7 + (UINT64_C(5) << 40))
#define MODEL 3

static struct df_backend *be;
static bool in_bf16; /* models compute in bf16 */

/* Every edge: of samples, of coordinates and pieces, of columns; a counter that crosses 2^32. */
static const struct shape {
	size_t s, n, k, piece;
	uint64_t first;
	uint32_t sparsity;
} shapes[] = {
	{ 1, 1, 1, 0, 0, 1 },
	{ 5, 17, 100, 0, 3, 3 },
	{ 9, 256, 128, 0, 0, 4 },
	{ 17, 257, 129, 0, (UINT64_C(1) << 32) - 100, 4 },
	{ 33, 300, 160, 70, UINT64_C(1) << 40, 5 },
	{ 64, 40, 33, 40, 9, 9 },
	{ 70, 66, 300, 33, 1000, 4 },
	{ 2, 8300, 17, 0, 0, 2 },
	{ 1, 17000, 40, 8200, 5, 4 },
	{ 3, 700, 525, 1, 11, 30 },
	{ 300, 5, 9, 2, 77, 8 },
};
#define N_SHAPES (sizeof(shapes) / sizeof(*shapes))

enum { PAD = 3 }; /* columns on both sides of a window */

/* rows x cols in the middle of a wider tensor. */
static struct df_tensor
window(size_t rows, size_t cols, const float *v)
{
	struct df_tensor t = test_tensor(be, rows, cols + 2 * PAD, NULL);

	assert_int_equal(df_fill(be, t, NAN, NULL), DF_OK);
	t = df_tensor_cols(t, PAD, cols);
	assert_int_equal(df_upload(be, t, v, NULL), DF_OK);
	return t;
}

/* y += g R on the device; *out = the result. */
static void
project(enum df_projection_type type, const struct shape *sh, const float *g, const float *y, float **out)
{
	struct df_tensor tg = window(sh->s, sh->n, g), ty = window(sh->s, sh->k, y);
	const struct df_project a = { type, tg, ty, sh->first, SEED, MODEL, sh->sparsity, sh->piece };

	assert_int_equal(df_project(be, &a, NULL), DF_OK);
	*out = test_values(be, ty);
	df_tensor_free(be, &tg);
	df_tensor_free(be, &ty);
}

/* The same by the definition, in the CPU's order, the last piece first. */
static float *
defined(enum df_projection_type type, const struct shape *sh, const float *g, const float *y)
{
	const size_t piece = sh->piece ? sh->piece : sh->n;
	float *out = malloc(sh->s * sh->k * sizeof(*out));

	assert_non_null(out);
	memcpy(out, y, sh->s * sh->k * sizeof(*out));
	for (size_t end = sh->n; end > 0;) {
		const size_t first = (end - 1) / piece * piece;
		const struct df_cpu_project a = { type, g + first, out, sh->s, end - first, sh->k, sh->n, sh->k,
			sh->first + first, SEED, MODEL, sh->sparsity };

		df_cpu_project_naive(&a);
		end = first;
	}
	return out;
}

static double
distance(const float *a, const float *b, size_t n)
{
	double diff = 0, size = 0;

	for (size_t i = 0; i < n; i++) {
		diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
		size += (double)b[i] * b[i];
	}
	return sqrt(diff / size);
}

static void
same(const float *a, const float *b, size_t n, const char *what, const struct shape *sh)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(a + i, b + i, sizeof(*a)) != 0)
			fail_msg("%s, S %zu, n %zu, k %zu: %g and %g at %zu", what, sh->s, sh->n, sh->k, (double)a[i],
			    (double)b[i], i);
}

/* Samples of one coordinate each: y is its row of R. */
static void
signs(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_SHAPES; i++) {
		struct shape sh = shapes[i];
		float *g, *y, *got, *want;

		sh.s = sh.s > 20 ? 20 : sh.s;
		g = calloc(sh.s * sh.n, sizeof(*g));
		y = calloc(sh.s * sh.k, sizeof(*y));
		assert_true(g && y);
		for (size_t s = 0; s < sh.s; s++)
			g[s * sh.n + (s + 1) * 7919 % sh.n] = s % 2 ? 1.0f : -0.5f;
		project(DF_PROJ_RADEMACHER, &sh, g, y, &got);
		want = defined(DF_PROJ_RADEMACHER, &sh, g, y);
		same(got, want, sh.s * sh.k, "signs", &sh);
		free(g);
		free(y);
		free(got);
		free(want);
	}
}

static void
sums(enum df_projection_type type)
{
	const bool rounds = in_bf16 && type == DF_PROJ_RADEMACHER;
	double most = 0, most_rounded = 0;

	for (size_t i = 0; i < N_SHAPES; i++) {
		const struct shape *sh = &shapes[i];
		float *g = test_numbers(100 + (uint32_t)i, sh->s * sh->n, 1), *got, *want;
		float *y = test_numbers(200 + (uint32_t)i, sh->s * sh->k, 1);

		project(type, sh, g, y, &got);
		want = defined(type, sh, g, y);
		if (!rounds)
			same(got, want, sh->s * sh->k, type == DF_PROJ_SJLT ? "sparse" : "dense", sh);
		most = fmax(most, distance(got, want, sh->s * sh->k));
		free(want);
		for (size_t j = 0; j < sh->s * sh->n && rounds; j++)
			g[j] = df_f32_from_bf16(df_bf16_from_f32(g[j]));
		want = defined(type, sh, g, y);
		most_rounded = fmax(most_rounded, distance(got, want, sh->s * sh->k));
		free(g);
		free(y);
		free(got);
		free(want);
	}
	print_message("  distance from the definition %.1e, of rounded numbers %.1e\n", most, most_rounded);
	/* Tensor cores cut off what is below the last bit of a sum, 512 times in a span. */
	assert_true(most == 0 || (rounds && most <= 2e-3 && most_rounded <= 5e-5));
}

static void
dense_sums(void **state)
{
	(void)state;
	sums(DF_PROJ_RADEMACHER);
}

static void
sparse_sums(void **state)
{
	(void)state;
	sums(DF_PROJ_SJLT);
}

/* A sample alone, in a few, in many, and in a call for each piece. */
static void
alone(void **state)
{
	const struct shape all = { 70, 420, 150, 130, 77, 4 };
	float *g = test_numbers(300, all.s * all.n, 1), *y = test_numbers(301, all.s * all.k, 1);

	(void)state;
	for (int type = 0; type < 2; type++) {
		float *want, *got;

		project((enum df_projection_type)type, &all, g, y, &want);
		for (size_t s = 0, n = 1; s < all.s; s += n, n = 2 * n + 1) {
			struct shape some = all;

			some.s = s + n < all.s ? n : all.s - s;
			project((enum df_projection_type)type, &some, g + s * all.n, y + s * all.k, &got);
			same(got, want + s * all.k, some.s * all.k, "alone", &some);
			free(got);
		}
		free(want);
	}
	free(g);
	free(y);
}

/* A sample that is not finite spoils no other. */
static void
not_finite(void **state)
{
	const struct shape sh = { 5, 90, 40, 0, 0, 4 };
	float *g = test_numbers(310, sh.s * sh.n, 1), *y = test_numbers(311, sh.s * sh.k, 1);

	(void)state;
	for (int type = 0; type < 2; type++) {
		float *want, *got;

		g[2 * sh.n + 8] = 0;
		project((enum df_projection_type)type, &sh, g, y, &want);
		g[2 * sh.n + 8] = NAN;
		project((enum df_projection_type)type, &sh, g, y, &got);
		same(got, want, 2 * sh.k, "beside NaN", &sh);
		same(got + 3 * sh.k, want + 3 * sh.k, 2 * sh.k, "beside NaN", &sh);
		for (size_t c = 0; c < sh.k && type == DF_PROJ_RADEMACHER; c++)
			assert_true(isnan(got[2 * sh.k + c]));
		free(want);
		free(got);
	}
	free(g);
	free(y);
}

static int
open_backend(void **state)
{
	const char *compute = getenv("DF_TEST_COMPUTE");

	(void)state;
	be = test_backend(NULL, NULL);
	in_bf16 = compute && strcmp(compute, "bf16") == 0 && df_backend_set_compute(be, DF_BF16, NULL) == DF_OK;
	return 0;
}

static int
close_backend(void **state)
{
	(void)state;
	df_backend_close(be);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signs),
		cmocka_unit_test(dense_sums),
		cmocka_unit_test(sparse_sums),
		cmocka_unit_test(alone),
		cmocka_unit_test(not_finite),
	};

	return cmocka_run_group_tests(tests, open_backend, close_backend);
}
