/*
 * exact.c - the float64 value of two rows, in the same bits on every machine.
 *
 * The product of two f32 is exact in f64, so that fused and separate multiplication agree.  The sum runs in LANES
 * lanes, lane l over the elements i = l modulo LANES in order, and ends in a tree, whatever the vectors' width.
 */
#include <math.h>
#include <string.h>

#include "base/simd.h"
#include "near/near.h"

#pragma GCC optimize("O3", "no-trapping-math")

enum { LANES = 32, WIDTH = 8, ROWS = 4 };

typedef float v8f __attribute__((vector_size(32), aligned(4), may_alias));
typedef double v8d __attribute__((vector_size(64)));

#define INLINE static inline __attribute__((always_inline))

/* LANES elements of a, widened once, with those of each of `n` rows. */
INLINE void
add(v8d (*s)[LANES / WIDTH], const float *a, const float *const *b, size_t at, size_t n, bool l2)
{
#pragma GCC unroll 4
	for (size_t v = 0; v < LANES / WIDTH; v++) {
		const v8d x = __builtin_convertvector(*(const v8f *)(a + v * WIDTH), v8d);

#pragma GCC unroll 4
		for (size_t r = 0; r < n; r++) {
			const v8d y = __builtin_convertvector(*(const v8f *)(b[r] + at + v * WIDTH), v8d), z = x - y;

			s[r][v] += l2 ? z * z : x * y;
		}
	}
}

/* Zeros after the last element add nothing. */
INLINE void
values(const float *a, const float *const *b, size_t n, size_t d, bool l2, double *value)
{
	v8d s[ROWS][LANES / WIDTH] = { { { 0 } } };
	size_t i = 0;

	for (; i + LANES <= d; i += LANES)
		add(s, a + i, b, i, n, l2);
	if (i < d) {
		float x[LANES] = { 0 }, y[ROWS][LANES] = { { 0 } };
		const float *ends[ROWS];

		memcpy(x, a + i, (d - i) * sizeof(*x));
		for (size_t r = 0; r < n; r++) {
			memcpy(y[r], b[r] + i, (d - i) * sizeof(*y[r]));
			ends[r] = y[r];
		}
		add(s, x, ends, 0, n, l2);
	}
	for (size_t r = 0; r < n; r++) {
		const v8d t = (s[r][0] + s[r][2]) + (s[r][1] + s[r][3]);

		value[r] = ((t[0] + t[4]) + (t[2] + t[6])) + ((t[1] + t[5]) + (t[3] + t[7]));
	}
}

/* One row, or ROWS. */
#define VALUES(name, n, l2)                                                                      \
	DF_SIMD static void name(const float *a, const float *const *b, size_t d, double *value) \
	{                                                                                        \
		values(a, b, n, d, l2, value);                                                   \
	}
VALUES(dot_one, 1, false)
VALUES(dot_rows, ROWS, false)
VALUES(l2_one, 1, true)
VALUES(l2_rows, ROWS, true)

void
df_exact_many(enum df_metric metric, const float *a, const float *const *b, size_t n, size_t d, double *value)
{
	size_t i = 0;

	for (; i + ROWS <= n; i += ROWS)
		(metric == DF_METRIC_DOT ? dot_rows : l2_rows)(a, b + i, d, value + i);
	for (; i < n; i++)
		(metric == DF_METRIC_DOT ? dot_one : l2_one)(a, b + i, d, value + i);
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
