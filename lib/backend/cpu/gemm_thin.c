/*
 * gemm_thin.c - a product of one to four rows with a transposed b, as generation asks for: at the speed of memory.
 *
 * b is read once, eight rows of it turned into columns in registers and used up there (gemm_turn.h), nothing is
 * packed.  Each sum runs over the same steps in the same order as in gemm.c, so the bits are the same.  A step
 * waits for the one before, so several groups of eight columns are under way at once.
 */
#include "backend/cpu/gemm_thin.h"
#include "backend/cpu/gemm_turn.h"
#include "backend/cpu/half.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

enum { GROUPS = 2 }; /* more would need more registers, and more ways of the first-level cache */

#define TARGET __attribute__((target("avx2,fma")))

struct thin {
	const float *a;
	const char *b; /* first of the group's rows */
	float *c, alpha, beta;
	size_t lda, stride, kc, ldc;
};

/* Eight columns of each of GROUPS for k < kc: c = beta c + alpha sums.  rows and type are constants in each call. */
TARGET static inline __attribute__((always_inline)) void
thin_block(const int rows, const enum df_dtype type, const struct thin *t)
{
	enum { BYTES = 32, AHEAD = 512 }; /* of each row of b: in a step; fetched ahead */
	const size_t size = type == DF_F32 ? 4 : 2, step = BYTES / size, stride = t->stride;
	const char *b = t->b;
	const float *a = t->a;
	__m256 s[DF_CPU_THIN_ROWS][GROUPS];
	size_t k = 0;

#pragma GCC unroll 4
	for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
		for (int g = 0; g < GROUPS; g++)
			s[r][g] = _mm256_setzero_ps();
	for (; k + step <= t->kc; k += step, b += BYTES, a += step) {
#pragma GCC unroll 2
		for (size_t half = 0; half < 2; half++)
#pragma GCC unroll 4
			for (int g = 0; g < GROUPS; g++) {
				const char *at = b + (size_t)g * 8 * stride;
				v8i x[4], col[8];
				size_t n;

#pragma GCC unroll 4
				for (size_t i = 0; i < 4; i++)
					__builtin_prefetch(at + (4 * half + i) * stride + AHEAD);
				turn(x, at + half * 16, stride);
				n = widen_units(col, x, type);
#pragma GCC unroll 8
				for (size_t i = 0; i < n; i++)
#pragma GCC unroll 4
					for (int r = 0; r < rows; r++)
						s[r][g] = _mm256_fmadd_ps(
						    _mm256_set1_ps(a[(size_t)r * t->lda + half * n + i]),
						    (__m256)col[i], s[r][g]);
			}
	}
	for (; k < t->kc; k++, b += size, a++) {
#pragma GCC unroll 4
		for (int g = 0; g < GROUPS; g++) {
			float col[8];

			for (size_t i = 0; i < 8; i++)
				df_convert_row(&col[i], DF_F32, b + ((size_t)g * 8 + i) * stride, type, 1);
#pragma GCC unroll 4
			for (int r = 0; r < rows; r++)
				s[r][g] = _mm256_fmadd_ps(
				    _mm256_set1_ps(a[(size_t)r * t->lda]), _mm256_loadu_ps(col), s[r][g]);
		}
	}
#pragma GCC unroll 4
	for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
		for (int g = 0; g < GROUPS; g++) {
			float *out = t->c + (size_t)r * t->ldc + 8 * g;
			const __m256 add = _mm256_mul_ps(_mm256_set1_ps(t->alpha), s[r][g]);

			if (t->beta == 0.0f)
				_mm256_storeu_ps(out, add);
			else if (t->beta == 1.0f)
				_mm256_storeu_ps(out, _mm256_add_ps(_mm256_loadu_ps(out), add));
			else
				_mm256_storeu_ps(out,
				    _mm256_add_ps(_mm256_mul_ps(_mm256_set1_ps(t->beta), _mm256_loadu_ps(out)), add));
		}
}

TARGET static void
thin_rows(size_t rows, enum df_dtype type, const struct thin *t)
{
#define ROWS(type)                             \
	switch (rows) {                        \
	case 1: thin_block(1, type, t); break; \
	case 2: thin_block(2, type, t); break; \
	case 3: thin_block(3, type, t); break; \
	default: thin_block(4, type, t);       \
	}
	if (type == DF_BF16) {
		ROWS(DF_BF16)
	} else if (type == DF_F16) {
		ROWS(DF_F16)
	} else {
		ROWS(DF_F32)
	}
#undef ROWS
}

size_t
df_cpu_gemm_thin(size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, struct df_cpu_operand b,
    float beta, float *c, size_t ldc)
{
	const size_t width = 8 * GROUPS, n_done = n / width * width;
	struct thin t = { .alpha = alpha, .lda = lda, .stride = b.ld * df_dtype_size(b.type), .ldc = ldc };

	for (size_t j = 0; j < n_done; j += width)
		for (size_t k0 = 0; k0 < k; k0 += DF_CPU_PACK_MOST) {
			t.a = a + k0;
			t.b = df_cpu_element(b, j, k0);
			t.c = c + j;
			t.beta = k0 ? 1.0f : beta;
			t.kc = k - k0 < DF_CPU_PACK_MOST ? k - k0 : DF_CPU_PACK_MOST;
			thin_rows(m, b.type, &t);
		}
	return n_done;
}

#else
size_t
df_cpu_gemm_thin(size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, struct df_cpu_operand b,
    float beta, float *c, size_t ldc)
{
	(void)m, (void)n, (void)k, (void)alpha, (void)a, (void)lda, (void)b, (void)beta, (void)c, (void)ldc;
	return 0;
}
#endif
