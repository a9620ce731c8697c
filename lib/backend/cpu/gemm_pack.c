/*
 * gemm_pack.c - see gemm_pack.h.
 *
 * A transposed b, as a layer's weights are in the forward, is turned eight
 * rows at a time in registers:
 *
 *   b, 8 rows        eight columns of a strip
 *   r0 k k k k ...   k0  r0 r1 ... r7
 *   r1 k k k k ...   k1  r0 r1 ... r7
 *   ...              ...
 *
 * Two 16-bit floats side by side turn as one 32-bit unit, and are widened after.  While eight rows are turned the next
 * eight are fetched: with few rows of a, the speed of the whole product is that of memory.
 *
 * Any other b is read row by row, all strips at once.
 */
#include "backend/cpu/gemm_turn.h"
#include "backend/cpu/half.h"

/* Eight columns of a strip nr wide: dst[k*nr + i] = row i of b at k, k < kc.  `ahead`: the eight rows to fetch. */
DF_INLINE void
turn_rows(float *dst, size_t nr, const char *row, const char *ahead, size_t stride, enum df_dtype type, size_t kc)
{
	enum { BYTES = 32 }; /* of a row in a step */
	const size_t per_unit = type == DF_F32 ? 1 : 2, step = BYTES / 4 * per_unit, size = 4 / per_unit;
	size_t k = 0;

	for (; k + step <= kc; k += step, row += BYTES, ahead += BYTES) {
#pragma GCC unroll 8
		for (size_t i = 0; i < 8; i++)
			__builtin_prefetch(ahead + i * stride);
#pragma GCC unroll 2
		for (size_t half = 0; half < 2; half++) {
			v8i x[4], col[8];
			size_t n_cols;

			turn(x, row + half * 16, stride);
			n_cols = widen_units(col, x, type);
#pragma GCC unroll 8
			for (size_t i = 0; i < n_cols; i++, dst += nr)
				*(v8iu *)dst = col[i];
		}
	}
	for (; k < kc; k++, row += size, dst += nr)
		for (size_t i = 0; i < 8; i++)
			df_convert_row(dst + i, DF_F32, row + i * stride, type, 1);
}

DF_INLINE void
turn_strip(float *dst, size_t nr, struct df_cpu_operand b, enum df_dtype type, size_t left, size_t kc)
{
	const size_t size = df_dtype_size(type), stride = b.ld * size;
	const char *p = b.p;

	for (size_t j = 0; j < nr; j += 8, p += 8 * stride) {
		char few[8 * DF_CPU_PACK_MOST * sizeof(float)];

		if (j + 8 <= left) {
			turn_rows(dst + j, nr, p, j + 16 <= left ? p + 8 * stride : p, stride, type, kc);
			continue;
		}
		for (size_t i = 0; i < 8; i++) /* missing rows are filled with the strip's first column again */
			memcpy(few + i * kc * size, j + i < left ? p + i * stride : b.p, kc * size);
		turn_rows(dst + j, nr, few, few, kc * size, type, kc);
	}
}

/* One strip, nr wide, of a transposed b of which `left` columns are left. */
DF_SIMD static void
pack_turned(float *dst, struct df_cpu_operand b, size_t left, size_t kc, size_t nr)
{
	switch (b.type) {
	case DF_BF16:
		if (nr == 16)
			turn_strip(dst, 16, b, DF_BF16, left, kc);
		else
			turn_strip(dst, nr, b, DF_BF16, left, kc);
		break;
	case DF_F16: turn_strip(dst, nr, b, DF_F16, left, kc); break;
	default:
		if (nr == 16)
			turn_strip(dst, 16, b, DF_F32, left, kc);
		else
			turn_strip(dst, nr, b, DF_F32, left, kc);
	}
}

/* n elements of a row; n is at most a strip's width, and its usual values are constants for the compiler. */
DF_INLINE void
widen_run(float *dst, const char *src, enum df_dtype type, size_t n)
{
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		v8i x;

		if (type == DF_F32) {
			x = *(const v8iu *)(src + 4 * i);
		} else {
			x = __builtin_convertvector(*(const v8h *)(src + 2 * i), v8i);
			if (type == DF_BF16)
				x <<= 16;
			else
				widen_f16(&x);
		}
		*(v8iu *)(dst + i) = x;
	}
	if (i < n)
		df_convert_row(dst + i, DF_F32, src + i * df_dtype_size(type), type, n - i);
}

DF_INLINE void
pack_rows(float *dst, const char *p, size_t stride, enum df_dtype type, size_t kc, size_t n, size_t wide, size_t narrow)
{
	enum { AHEAD = 8 }; /* rows that are fetched ahead */
	const size_t size = df_dtype_size(type), n_full = n / wide * wide, left = n - n_full;
	const size_t nr = left <= narrow ? narrow : wide;
	const bool few = n_full <= 4 * wide; /* strip by strip then: in short rows the order does not matter */

	for (size_t j = 0; few && j < n_full; j += wide)
		for (size_t k = 0; k < kc; k++)
			widen_run(dst + j * kc + k * wide, p + k * stride + j * size, type, wide);
	for (size_t k = 0; k < kc && (!few || left); k++, p += stride) {
		const char *ahead = k + AHEAD < kc ? p + AHEAD * stride : p;

		for (size_t j = few ? n_full : 0; j < n_full; j += wide) {
			for (size_t line = 0; line < wide * size; line += 64)
				__builtin_prefetch(ahead + j * size + line);
			widen_run(dst + j * kc + k * wide, p + j * size, type, wide);
		}
		if (left) {
			float *out = dst + n_full * kc + k * nr;

			widen_run(out, p + n_full * size, type, left);
			for (size_t i = left; i < nr; i++)
				out[i] = 0;
		}
	}
}

DF_SIMD static void
pack_straight(float *dst, struct df_cpu_operand b, size_t kc, size_t n, size_t wide, size_t narrow)
{
	const size_t stride = b.ld * df_dtype_size(b.type);

	if (b.type == DF_BF16)
		pack_rows(dst, b.p, stride, DF_BF16, kc, n, wide, narrow);
	else if (b.type == DF_F16)
		pack_rows(dst, b.p, stride, DF_F16, kc, n, wide, narrow);
	else if (wide == 16)
		pack_rows(dst, b.p, stride, DF_F32, kc, n, 16, 8);
	else
		pack_rows(dst, b.p, stride, DF_F32, kc, n, wide, narrow);
}

/* Strips narrower than a turn, on a CPU with vectors of four. */
static void
pack_narrow(float *dst, struct df_cpu_operand b, size_t n, size_t kc, size_t nr)
{
	for (size_t k = 0; k < kc; k++)
		for (size_t j = 0; j < nr; j++)
			df_convert_row(dst + k * nr + j, DF_F32, df_cpu_element(b, j < n ? j : n - 1, k), b.type, 1);
}

void
df_cpu_pack(float *dst, struct df_cpu_operand b, bool tb, size_t kc, size_t n, size_t wide, size_t narrow)
{
	if (!tb) {
		pack_straight(dst, b, kc, n, wide, narrow);
		return;
	}
	for (size_t j = 0; j < n; j += wide) {
		const size_t left = n - j, nr = left <= narrow ? narrow : wide;

		if (nr % 8)
			pack_narrow(dst + j * kc, b, left, kc, nr);
		else
			pack_turned(dst + j * kc, b, left, kc, nr);
		b.p = df_cpu_element(b, wide, 0);
	}
}
