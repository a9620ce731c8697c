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
 * Two 16-bit floats side by side turn as one 32-bit unit, and are widened
 * after: a shift gives the first, a mask the second.  While eight rows are turned the next eight are fetched:
 * with few rows of a, the speed of the whole product is that of memory.
 *
 * Any other b is read row by row, all strips at once.
 */
#include "backend/cpu/gemm_pack.h"
#include "backend/cpu/half.h"
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

/* Four units of 32 bits of each of eight rows: out[k] has the rows' k-th. */
DF_INLINE void
turn(v8i out[4], const char *const row[8], size_t at)
{
	v8i t[4], a, b, c, d;

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		const v4i low = *(const v4iu *)(row[i] + at), high = *(const v4iu *)(row[i + 4] + at);

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

/* Eight columns of a strip nr wide: dst[k*nr + i] = row[i][k], k < kc. */
DF_INLINE void
turn_rows(
    float *dst, size_t nr, const char *const row[8], const char *ahead, size_t stride, enum df_dtype type, size_t kc)
{
	const size_t per_unit = type == DF_F32 ? 1 : 2, step = 4 * per_unit;
	const char *line;
	size_t k = 0;

	for (; k + step <= kc; k += step) {
		v8i x[4];

		turn(x, row, 4 * k / per_unit);
		line = ahead + k / step / 4 * 64 + k / step % 4 * 2 * stride;
		__builtin_prefetch(line);
		__builtin_prefetch(line + stride);
#pragma GCC unroll 4
		for (size_t u = 0; u < 4; u++) {
			float *out = dst + (k + u * per_unit) * nr;

			if (type == DF_F32) {
				*(v8iu *)out = x[u];
			} else if (type == DF_BF16) {
				*(v8iu *)out = x[u] << 16;
				*(v8iu *)(out + nr) = x[u] & (int32_t)0xffff0000;
			} else {
				v8i first = x[u] & 0xffff, second = (x[u] >> 16) & 0xffff;

				widen_f16(&first);
				widen_f16(&second);
				*(v8iu *)out = first;
				*(v8iu *)(out + nr) = second;
			}
		}
	}
	for (; k < kc; k++)
		for (size_t i = 0; i < 8; i++)
			df_convert_row(dst + k * nr + i, DF_F32, row[i] + k * (4 / per_unit), type, 1);
}

/* One strip of a transposed b whose rows [0, n) become the strip's columns. */
DF_SIMD static void
pack_turned(float *dst, struct df_cpu_operand b, size_t left, size_t kc, size_t nr)
{
	const size_t n = left < nr ? left : nr, stride = b.ld * df_dtype_size(b.type);
	const char *p = b.p;

	for (size_t j = 0; j < nr; j += 8) {
		const char *row[8], *ahead = p + (j + 16 <= left ? (j + 8) * stride : 0);

		for (size_t i = 0; i < 8; i++) /* beyond the last row, the last once more */
			row[i] = p + (j + i < n ? j + i : n - 1) * stride;
		if (b.type == DF_F32)
			turn_rows(dst + j, nr, row, ahead, stride, DF_F32, kc);
		else if (b.type == DF_BF16)
			turn_rows(dst + j, nr, row, ahead, stride, DF_BF16, kc);
		else
			turn_rows(dst + j, nr, row, ahead, stride, DF_F16, kc);
	}
}

/* n elements of a row, n at most a strip's width, the usual n constants to the compiler. */
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
	const size_t size = df_dtype_size(type), n_full = n / wide * wide, left = n - n_full;
	const size_t nr = left <= narrow ? narrow : wide;

	for (size_t k = 0; k < kc; k++, p += stride) {
		for (size_t j = 0; j < n_full; j += wide)
			widen_run(dst + j * kc + k * wide, p + j * size, type, wide);
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

/* Strips narrower than a turn, of a CPU with vectors of four. */
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
