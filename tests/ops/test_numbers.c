/*
 * test_numbers.c - the scalar arithmetic that everything leans on: exp, and
 * the 16-bit floats, against libm and against their definitions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/cpu/gemm.h"
#include "backend/cpu/half.h"
#include "backend/cpu/vec.h"

/* Every 149th float between -87.3 and 88: four million, of a billion in all. */
static void
exp_is_close(void **state)
{
	double most = 0, libm = 0;
	uint32_t u;

	(void)state;
	for (int sign = 0; sign < 2; sign++)
		for (u = 0x30000000u; u < 0x42b00000u; u += 149) {
			uint32_t bits = u | (sign ? 0x80000000u : 0);
			float x;
			double want;

			memcpy(&x, &bits, sizeof(x));
			if (x < -87.3f)
				break;
			want = exp((double)x);
			most = fmax(most, fabs(df_expf(x) / want - 1));
			libm = fmax(libm, fabs((double)expf(x) / want - 1));
		}
	print_message("# exp: largest relative error %.2e (libm's expf %.2e)\n", most, libm);
	assert_true(most < 1e-7);
	assert_true(df_expf(0) == 1.0f);
	assert_true(isnan(df_expf(NAN)));
	assert_true(df_expf(-INFINITY) < 1.3e-38f && df_expf(-INFINITY) >= 0);
	assert_true(df_expf(1e9f) > 1.6e38f && isfinite(df_expf(INFINITY)));
}

/* gelu over [-14, 14], against erfc in f64; the exponent's own rounding grows with x^2 on the left. */
static void
gelu_is_close(void **state)
{
	enum { N = 400000 };
	struct df_backend *be = NULL;
	struct df_tensor t;
	float *x = malloc(N * sizeof(*x)), *y = malloc(N * sizeof(*y));
	double right = 0, left = 0;

	(void)state;
	assert_true(x && y);
	for (int i = 0; i < N; i++)
		x[i] = (float)(i - N / 2) * (28.0f / N);
	assert_int_equal(df_backend_open(&be, "cpu", NULL, NULL), DF_OK);
	assert_int_equal(df_tensor_alloc(be, &t, DF_F32, 1, N, "x", NULL), DF_OK);
	assert_int_equal(df_upload(be, t, x, NULL), DF_OK);
	assert_int_equal(df_gelu_fwd(be, t, t, NULL), DF_OK);
	assert_int_equal(df_download(be, y, t, NULL), DF_OK);
	for (int i = 0; i < N; i++) {
		const double z = x[i], want = z / 2 * erfc(-z * sqrt(0.5)), diff = fabs(y[i] - want);

		if (z > 0)
			right = fmax(right, diff / want);
		else if (z > -12.5)
			left = fmax(left, diff / fabs(want) / (3e-7 + 1.2e-7 * z * z));
		else
			assert_true(diff < 1e-35);
	}
	print_message("# gelu: largest relative error %.1e for x > 0, %.2f of its bound below\n", right, left);
	assert_true(right < 3e-7);
	assert_true(left < 1);
	df_tensor_free(be, &t);
	df_backend_close(be);
	free(x);
	free(y);
}

/* The value of a 16-bit float with 5 or 8 exponent bits, from its fields. */
static double
half_value(uint16_t h, int n_exp)
{
	int n_frac = 15 - n_exp, bias = (1 << (n_exp - 1)) - 1, e = h >> n_frac & ((1 << n_exp) - 1);
	double frac = h & ((1 << n_frac) - 1), sign = h >> 15 ? -1 : 1;

	if (e == (1 << n_exp) - 1)
		return frac != 0 ? NAN : sign * INFINITY;
	if (e == 0)
		return sign * ldexp(frac, 1 - bias - n_frac);
	return sign * ldexp(frac + (1 << n_frac), e - bias - n_frac);
}

/* All 65536 values of both types: to f32 as defined, and back unchanged. */
static void
halves_go_round(void **state)
{
	static const struct {
		enum df_dtype type;
		int n_exp;
	} kind[] = { { DF_F16, 5 }, { DF_BF16, 8 } };

	(void)state;
	for (int k = 0; k < 2; k++)
		for (uint32_t i = 0; i < 65536; i++) {
			uint16_t h = (uint16_t)i, back;
			float x;
			double want = half_value(h, kind[k].n_exp);

			df_convert_row(&x, DF_F32, &h, kind[k].type, 1);
			df_convert_row(&back, kind[k].type, &x, DF_F32, 1);
			if (isnan(want))
				assert_true(isnan(x) && isnan(half_value(back, kind[k].n_exp)));
			else if (x != want || back != h)
				fail_msg("%s 0x%04x: %g, not %g; back 0x%04x", df_dtype_name(kind[k].type), h,
				    (double)x, want, back);
		}
}

/* Between two neighbours, the nearer; in the middle, the even one; beyond the last, infinity. */
static void
halves_round_to_nearest(void **state)
{
	static const struct {
		enum df_dtype type;
		int n_exp;
	} kind[] = { { DF_F16, 5 }, { DF_BF16, 8 } };

	(void)state;
	for (int k = 0; k < 2; k++) {
		const uint16_t inf = (uint16_t)(((1 << kind[k].n_exp) - 1) << (15 - kind[k].n_exp));

		for (uint16_t h = 0; h + 1 < inf; h++) {
			double a = half_value(h, kind[k].n_exp), b = half_value((uint16_t)(h + 1), kind[k].n_exp);
			float x[3] = { (float)(a + (b - a) * 0.498), (float)(a + (b - a) * 0.5),
				(float)(a + (b - a) * 0.502) };
			uint16_t want[3] = { h, (uint16_t)(h + (h & 1)), (uint16_t)(h + 1) }, got[3];

			if (kind[k].type == DF_BF16 && h < 0x80)
				/* f32 has no numbers between subnormal bf16 that this test could form exactly */
				continue;
			df_convert_row(got, kind[k].type, x, DF_F32, 3);
			for (int i = 0; i < 3; i++)
				if (got[i] != want[i])
					fail_msg("%s: %.9g becomes 0x%04x, not 0x%04x", df_dtype_name(kind[k].type),
					    (double)x[i], got[i], want[i]);
		}
		float big = kind[k].type == DF_F16 ? 65520.0f : 3.4e38f;
		uint16_t got;

		df_convert_row(&got, kind[k].type, &big, DF_F32, 1);
		assert_int_equal(got, inf);
	}
}

/* Every kernel of the product at sizes around its blocks; those with fused steps give the same bits. */
static void
kernels_agree(void **state)
{
	static const enum df_cpu_isa isa[] = { DF_CPU_ISA_SCALAR, DF_CPU_ISA_AVX2, DF_CPU_ISA_AVX512 };
	enum { MAX = 132, SMALL = 40, K = 300 };
	static const size_t wide[] = { 64, 71, 128, 131 }; /* few rows take up to four strips at once, of 16 or 32 */
	static float a[K * MAX], b[K * MAX], c[3][MAX * MAX];
	double most = 0;
	bool have[3] = { false };

	(void)state;
	for (int i = 0; i < K * MAX; i++) {
		a[i] = (float)((i * 7919 % 2001) - 1000) / 1000;
		b[i] = (float)((i % 4001 * 104729 % 2003) - 1001) / 1000;
	}
	for (size_t m = 1; m <= SMALL; m += m < 4 ? 1 : 3)
		for (size_t step = 1; step <= SMALL + 4; step++)
			for (int t = 0; t < 4; t++) {
				const size_t n = step <= SMALL ? step : wide[step - SMALL - 1];
				bool ta = t & 1, tb = t & 2;
				size_t lda = ta ? MAX : K, ldb = tb ? K : MAX;

				for (int i = 0; i < 3; i++) {
					for (int j = 0; j < MAX * MAX; j++)
						c[i][j] = 1;
					have[i] = df_cpu_sgemm_with(
					    isa[i], ta, tb, m, n, K, 0.5f, a, lda, b, ldb, 2, c[i], MAX);
				}
				for (size_t r = 0; r < MAX; r++)
					for (size_t j = 0; j < MAX; j++) {
						double want = r < m && j < n ? 2 : 1;

						for (size_t k = 0; k < K && r < m && j < n; k++)
							want += 0.5 * (ta ? a[k * MAX + r] : a[r * K + k]) *
							    (tb ? b[j * K + k] : b[k * MAX + j]);
						for (int i = 0; i < 3; i++)
							if (have[i])
								most = fmax(most, fabs(c[i][r * MAX + j] - want));
						if (have[1] && have[2])
							assert_true(c[1][r * MAX + j] == c[2][r * MAX + j]);
					}
			}
	print_message("# products: largest error %.1e; AVX2 %s, AVX-512 %s\n", most, have[1] ? "tested" : "absent",
	    have[2] ? "tested" : "absent");
	assert_true(have[0]);
	assert_true(most < 3e-5); /* 300 products of size 1/3, each rounded at most at 16 * 2^-24 */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exp_is_close),
		cmocka_unit_test(gelu_is_close),
		cmocka_unit_test(kernels_agree),
		cmocka_unit_test(halves_go_round),
		cmocka_unit_test(halves_round_to_nearest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
