/*
 * half.c - conversion between f32 and the two 16-bit floats.
 *
 * bf16 is the upper half of an f32.  f16 has 5 exponent and 10 fraction bits;
 * a subnormal one is found by an addition that shifts the fraction into place
 * and rounds it, as in F. Giesen's "Float->half variants".
 */
#include "backend/cpu/half.h"

#include <string.h>

static uint32_t
bits(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	return u;
}

static float
from_bits(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

static uint16_t
to_bf16(float x)
{
	uint32_t u = bits(x), up = (u + 0x7fffu + ((u >> 16) & 1)) >> 16;

	return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : up);
}

static uint16_t
to_f16(float x)
{
	uint32_t u = bits(x), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu, h;

	if (a > 0x7f800000u)
		h = 0x7e00u; /* NaN */
	else if (a >= 0x477ff000u)
		h = 0x7c00u; /* rounds to 65536 or more: infinity */
	else if (a < 0x38800000u)
		h = bits(from_bits(a) + 0.5f) - 0x3f000000u; /* subnormal: ulp(0.5) is its unit */
	else
		h = (a - 0x38000000u + 0xfffu + (a >> 13 & 1)) >> 13;
	return (uint16_t)(sign | h);
}

static float
from_f16(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000u) << 16, a = h & 0x7fffu;

	if (a >= 0x7c00u)
		return from_bits(sign | 0x7f800000u | a << 13);
	/* The fields in f32's place are the value times 2^-112; the product is exact, subnormals too. */
	return from_bits(sign | bits(from_bits(a << 13) * 0x1p112f));
}

void
df_convert_row(void *dst, enum df_dtype dst_type, const void *src, enum df_dtype src_type, size_t n)
{
	const uint16_t *s16 = src;
	const float *s32 = src;
	uint16_t *d16 = dst;
	float *d32 = dst;

	if (dst_type == src_type) {
		memcpy(dst, src, n * df_dtype_size(dst_type));
		return;
	}
	if (dst_type == DF_F32 && src_type == DF_BF16)
		for (size_t i = 0; i < n; i++)
			d32[i] = from_bits((uint32_t)s16[i] << 16);
	else if (dst_type == DF_F32)
		for (size_t i = 0; i < n; i++)
			d32[i] = from_f16(s16[i]);
	else if (dst_type == DF_BF16 && src_type == DF_F32)
		for (size_t i = 0; i < n; i++)
			d16[i] = to_bf16(s32[i]);
	else if (dst_type == DF_BF16)
		for (size_t i = 0; i < n; i++)
			d16[i] = to_bf16(from_f16(s16[i]));
	else if (src_type == DF_F32)
		for (size_t i = 0; i < n; i++)
			d16[i] = to_f16(s32[i]);
	else
		for (size_t i = 0; i < n; i++)
			d16[i] = to_f16(from_bits((uint32_t)s16[i] << 16));
}
