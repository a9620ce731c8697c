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

enum { LANES = 32, WIDTH = 8 };

typedef float v8f __attribute__((vector_size(32), aligned(4), may_alias));
typedef double v8d __attribute__((vector_size(64)));

#define INLINE static inline __attribute__((always_inline))

INLINE void
add(v8d *sum, const float *a, const float *b, bool l2)
{
	const v8d x = __builtin_convertvector(*(const v8f *)a, v8d), y = __builtin_convertvector(*(const v8f *)b, v8d);
	const v8d z = x - y;

	*sum += l2 ? z * z : x * y;
}

/* Zeros after the last element add nothing. */
INLINE double
value(const float *a, const float *b, size_t d, bool l2)
{
	v8d s[LANES / WIDTH] = { { 0 } };
	size_t i = 0;

	for (; i + LANES <= d; i += LANES)
		for (size_t v = 0; v < LANES / WIDTH; v++)
			add(&s[v], a + i + v * WIDTH, b + i + v * WIDTH, l2);
	if (i < d) {
		float x[LANES] = { 0 }, y[LANES] = { 0 };

		memcpy(x, a + i, (d - i) * sizeof(*x));
		memcpy(y, b + i, (d - i) * sizeof(*y));
		for (size_t v = 0; v < LANES / WIDTH; v++)
			add(&s[v], x + v * WIDTH, y + v * WIDTH, l2);
	}
	s[0] = (s[0] + s[2]) + (s[1] + s[3]);
	return ((s[0][0] + s[0][4]) + (s[0][2] + s[0][6])) + ((s[0][1] + s[0][5]) + (s[0][3] + s[0][7]));
}

DF_SIMD static double
dot(const float *a, const float *b, size_t d)
{
	return value(a, b, d, false);
}

DF_SIMD static double
l2(const float *a, const float *b, size_t d)
{
	return value(a, b, d, true);
}

double
df_exact(enum df_metric metric, const float *a, const float *b, size_t d)
{
	return metric == DF_METRIC_DOT ? dot(a, b, d) : l2(a, b, d);
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
