/*
 * gemm_turn.h - rows of the product's second operand as columns, in registers; for gemm_pack.c and gemm_thin.c.
 */
#ifndef DF_BACKEND_CPU_GEMM_TURN_H
#define DF_BACKEND_CPU_GEMM_TURN_H

#include "backend/cpu/gemm_pack.h"
#include "backend/cpu/vec.h"

typedef int32_t v4i __attribute__((vector_size(16)));
typedef int32_t v4iu __attribute__((vector_size(16), aligned(2), may_alias));
typedef int32_t v8i __attribute__((vector_size(32)));
typedef int32_t v8iu __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint16_t v8h __attribute__((vector_size(16), aligned(2), may_alias));

/* 16-bit floats in the low halves of x, zero above, widened: exact, subnormals too (half.c). */
DF_INLINE void
widen_f16(v8i *x)
{
	const v8i a = *x & 0x7fff, special = a > 0x7bff;
	df_v8 f = (df_v8)(a << 13);

	f *= 0x1p112f;
	*x = (v8i)f | (special & 0x7f800000) | ((*x & 0x8000) << 16);
}

/* Four units of 32 bits of each of eight rows, `stride` bytes apart: out[k] has the rows' k-th. */
DF_INLINE void
turn(v8i out[4], const char *row, size_t stride)
{
	v8i t[4], a, b, c, d;

#pragma GCC unroll 4
	for (size_t i = 0; i < 4; i++) {
		const v4i low = *(const v4iu *)(row + i * stride),
			  high = *(const v4iu *)(row + 4 * stride + i * stride);

		t[i] = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
	}
	a = __builtin_shufflevector(t[0], t[1], 0, 8, 1, 9, 4, 12, 5, 13);
	b = __builtin_shufflevector(t[0], t[1], 2, 10, 3, 11, 6, 14, 7, 15);
	c = __builtin_shufflevector(t[2], t[3], 0, 8, 1, 9, 4, 12, 5, 13);
	d = __builtin_shufflevector(t[2], t[3], 2, 10, 3, 11, 6, 14, 7, 15);
	out[0] = __builtin_shufflevector(a, c, 0, 1, 8, 9, 4, 5, 12, 13);
	out[1] = __builtin_shufflevector(a, c, 2, 3, 10, 11, 6, 7, 14, 15);
	out[2] = __builtin_shufflevector(b, d, 0, 1, 8, 9, 4, 5, 12, 13);
	out[3] = __builtin_shufflevector(b, d, 2, 3, 10, 11, 6, 7, 14, 15);
}

/*
 * What four units of eight rows hold, in order of k, as f32: four columns, or eight of a 16-bit type; returns how
 * many.  Two 16-bit floats lie in a unit: a shift gives the first, a mask the second.
 */
DF_INLINE size_t
widen_units(v8i out[8], const v8i x[4], enum df_dtype type)
{
#pragma GCC unroll 4
	for (size_t u = 0; u < 4; u++) {
		if (type == DF_F32) {
			out[u] = x[u];
		} else if (type == DF_BF16) {
			out[2 * u] = x[u] << 16;
			out[2 * u + 1] = x[u] & (int32_t)0xffff0000;
		} else {
			out[2 * u] = x[u] & 0xffff;
			out[2 * u + 1] = (x[u] >> 16) & 0xffff;
			widen_f16(&out[2 * u]);
			widen_f16(&out[2 * u + 1]);
		}
	}
	return type == DF_F32 ? 4 : 8;
}

#endif
