/*
 * exact.c - the float64 value of two rows, in the same bits on every machine.
 *
 * Multiplication and addition are fused; the product of two f32 is exact in f64 anyway.  The sum runs in LANES lanes,
 * lane l over the elements i = l modulo LANES in order, and ends in a tree, whatever the vectors' width.
 */
#include <math.h>
#include <string.h>

#include "base/simd.h"
#include "near/sieve.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86 1
#include <immintrin.h>
#endif

#pragma GCC optimize("O3", "no-trapping-math")

enum { LANES = 32, WIDTH = 8, ROWS = 4, TILE_A = 4, TILE_B = 6 };

typedef float v8f __attribute__((vector_size(32), aligned(4), may_alias));
typedef double v8d __attribute__((vector_size(64)));

#ifdef HAVE_X86
#define KERNEL avx512
#define TILED
#define TARGET        __attribute__((target("avx512f")))
#define WIDEN(p)      ((v8d)_mm512_cvtps_pd(_mm256_loadu_ps(p)))
#define FUSE(s, x, y) ((s) = (v8d)_mm512_fmadd_pd((__m512d)(x), (__m512d)(y), (__m512d)(s)))
#include "near/exact_kernel.h"

typedef double v4d __attribute__((vector_size(32)));

#define LOW(v)  ((__m256d)__builtin_shufflevector(v, v, 0, 1, 2, 3))
#define HIGH(v) ((__m256d)__builtin_shufflevector(v, v, 4, 5, 6, 7))
#define KERNEL  avx2
#define TARGET  __attribute__((target("avx2,fma")))
#define WIDEN(p)                                                                                                       \
	__builtin_shufflevector((v4d)_mm256_cvtps_pd(_mm_loadu_ps(p)), (v4d)_mm256_cvtps_pd(_mm_loadu_ps((p) + 4)), 0, \
	    1, 2, 3, 4, 5, 6, 7)
#define FUSE(s, x, y)                                                                \
	((s) = __builtin_shufflevector((v4d)_mm256_fmadd_pd(LOW(x), LOW(y), LOW(s)), \
	     (v4d)_mm256_fmadd_pd(HIGH(x), HIGH(y), HIGH(s)), 0, 1, 2, 3, 4, 5, 6, 7))
#include "near/exact_kernel.h"
#undef LOW
#undef HIGH
#endif

static inline __attribute__((always_inline)) void
fuse(v8d *s, const v8d *x, const v8d *y)
{
	for (int l = 0; l < WIDTH; l++)
		(*s)[l] = fma((*x)[l], (*y)[l], (*s)[l]);
}

#define KERNEL plain
#define TARGET
#define WIDEN(p)      __builtin_convertvector(*(const v8f *)(p), v8d)
#define FUSE(s, x, y) fuse(&(s), &(x), &(y))
#include "near/exact_kernel.h"

typedef void many_fn(bool l2, const float *a, const float *const *b, size_t n, size_t d, double *value);

/* With vectors of at most `bits`; NULL where the CPU lacks those. */
static many_fn *
choose(int bits)
{
#ifdef HAVE_X86
	if (bits == 512)
		return __builtin_cpu_supports("avx512f") ? many_avx512 : NULL;
	if (bits == 256)
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? many_avx2 : NULL;
#endif
	return bits == 0 ? many_plain : NULL;
}

bool
df_exact_many_with(
    int bits, enum df_metric metric, const float *a, const float *const *b, size_t n, size_t d, double *value)
{
	many_fn *const many = choose(bits);

	if (many)
		many(metric == DF_METRIC_L2, a, b, n, d, value);
	return many;
}

void
df_exact_many(enum df_metric metric, const float *a, const float *const *b, size_t n, size_t d, double *value)
{
	if (!df_exact_many_with(512, metric, a, b, n, d, value) && !df_exact_many_with(256, metric, a, b, n, d, value))
		many_plain(metric == DF_METRIC_L2, a, b, n, d, value);
}

/* Whole tiles; what is left at their ends by rows. */
void
df_exact_block(enum df_metric metric, const float *const *a, size_t n_a, const float *const *b, size_t n_b, size_t d,
    double *value)
{
	size_t rows = 0, columns = 0;

#ifdef HAVE_X86
	if (choose(512)) {
		rows = n_a - n_a % TILE_A;
		columns = n_b - n_b % TILE_B;
	}
	for (size_t r = 0; r < rows; r += TILE_A)
		for (size_t c = 0; c < columns; c += TILE_B)
			tile_avx512(metric == DF_METRIC_L2, a + r, b + c, d, value + r * n_b + c, n_b);
#endif
	for (size_t r = 0; r < n_a; r++) {
		const size_t done = r < rows ? columns : 0;

		df_exact_many(metric, a[r], b + done, n_b - done, d, value + r * n_b + done);
	}
}

double
df_exact(enum df_metric metric, const float *a, const float *b, size_t d)
{
	double value;

	df_exact_many(metric, a, &b, 1, d, &value);
	return value;
}

float
df_told(enum df_metric metric, double v)
{
	return (float)(metric == DF_METRIC_DOT ? v : sqrt(v));
}

DF_SIMD bool
df_all_finite(const float *x, size_t n)
{
	const uint32_t exponent = 0x7f800000;
	uint32_t found = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t bits;

		memcpy(&bits, x + i, sizeof(bits));
		found |= (bits & exponent) == exponent;
	}
	return !found;
}
