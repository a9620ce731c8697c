/*
 * vec.h - loops for any vector width.
 *
 * A function marked DF_SIMD (base/simd.h) is compiled for AVX-512, AVX2 and the baseline, and the
 * loader picks.  No contraction is allowed (Makefile) and sums run in eight
 * explicit lanes, so the three versions give the same bits.
 */
#ifndef DF_BACKEND_CPU_VEC_H
#define DF_BACKEND_CPU_VEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/simd.h"

/*
 * Vectorise (at -O2 gcc does only what costs no code), also where a comparison of NaN might have raised a flag.  Jump
 * threading would give df_expf's ends a path of their own: a second division for every element.
 */
#pragma GCC optimize("O3", "no-trapping-math", "no-thread-jumps")

#define DF_INLINE static inline __attribute__((always_inline))

/* Eight lanes.  Always a local variable or an address, never an argument: no ABI depends on it. */
typedef float df_v8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t df_v8i __attribute__((vector_size(32)));

DF_INLINE float
df_v8_sum(const df_v8 *v)
{
	const df_v8 x = *v;

	return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

/* The largest of x[0..n), n > 0, NaN aside. */
DF_INLINE float
df_row_max(const float *x, size_t n)
{
	float max = x[0];
	size_t i = 0;

	if (n >= 8) {
		df_v8 m = *(const df_v8 *)x;

		for (i = 8; i + 8 <= n; i += 8) {
			const df_v8 y = *(const df_v8 *)(x + i);
			const df_v8i more = (df_v8i)(y > m);

			m = (df_v8)(((df_v8i)y & more) | ((df_v8i)m & ~more));
		}
		for (int j = 0; j < 8; j++)
			max = m[j] > max ? m[j] : max;
	}
	for (; i < n; i++)
		max = x[i] > max ? x[i] : max;
	return max;
}

/*
 * e^x with a relative error below 1e-7 (largest found 7.9e-8; libm's expf
 * 6.0e-8), in range-reduced form: e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln(2)/2, and
 * Cephes' polynomial for e^r.  Beyond [-87.3, 88] the result stays at the ends'.  NaN stays NaN.
 * A plain function of scalars, so that loops around it vectorise.
 */
DF_INLINE float
df_expf(float x)
{
	const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves the nearest integer in the low bits */
	float t, n, r, p, scale;
	uint32_t bits;

	x = x > 88.0f ? 88.0f : x;
	x = x < -87.3f ? -87.3f : x;
	t = x * 1.44269504f + round;
	n = t - round;
	r = x - n * 0.693359375f;        /* ln 2 in two parts, the first exact in 9 bits */
	r = r - n * -2.12194440e-4f;
	p = 1.9875691500e-4f;
	p = p * r + 1.3981999507e-3f;
	p = p * r + 8.3334519073e-3f;
	p = p * r + 4.1665795894e-2f;
	p = p * r + 1.6666665459e-1f;
	p = p * r + 5.0000001201e-1f;
	p = p * (r * r) + r + 1.0f;
	memcpy(&bits, &t, sizeof(bits));
	bits = (bits + 127) << 23;       /* the low bits of t hold n: 2^n */
	memcpy(&scale, &bits, sizeof(scale));
	return p * scale;
}

/*
 * Parallel loops (loop.c), cut by shape alone, in tasks of about DF_PIECE
 * elements.  Over pieces: n elements of row `row` from column `col` on.  Over
 * rows.  Over stripes: n <= DF_STRIPE columns from `col` on, all rows, for sums down the columns.
 */
enum { DF_PIECE = 32768, DF_STRIPE = 64 };
typedef void df_piece_fn(const void *args, size_t row, size_t col, size_t n);
typedef void df_row_fn(const void *args, size_t row);
typedef void df_stripe_fn(const void *args, size_t col, size_t n);
void df_cpu_for_pieces(struct df_backend *be, size_t rows, size_t cols, df_piece_fn *fn, const void *args);
void df_cpu_for_rows(struct df_backend *be, size_t rows, size_t cols, df_row_fn *fn, const void *args);
void df_cpu_for_stripes(struct df_backend *be, size_t cols, df_stripe_fn *fn, const void *args);

/* t is one run of elements: it may be walked as a single row. */
DF_INLINE bool
df_is_dense(struct df_tensor t)
{
	return t.ld == t.cols || t.rows <= 1;
}

#endif
