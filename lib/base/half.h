/*
 * half.h - f32 to and from the two 16-bit floats.  Round to nearest even; NaN stays NaN.
 *
 * bf16 is the upper half of an f32.  f16 has 5 exponent and 10 fraction bits; a subnormal one is found by an addition
 * that shifts the fraction into place and rounds it, as in F. Giesen's "Float->half variants".
 */
#ifndef DF_BASE_HALF_H
#define DF_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t
df_f32_bits(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	return u;
}

static inline float
df_f32_from_bits(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

static inline uint16_t
df_bf16_from_f32(float x)
{
	uint32_t u = df_f32_bits(x), up = (u + 0x7fffu + ((u >> 16) & 1)) >> 16;

	return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : up);
}

static inline float
df_f32_from_bf16(uint16_t h)
{
	return df_f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t
df_f16_from_f32(float x)
{
	uint32_t u = df_f32_bits(x), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu, h;

	if (a > 0x7f800000u)
		h = 0x7e00u; /* NaN */
	else if (a >= 0x477ff000u)
		h = 0x7c00u; /* rounds to 65536 or more: infinity */
	else if (a < 0x38800000u)
		h = df_f32_bits(df_f32_from_bits(a) + 0.5f) - 0x3f000000u; /* subnormal: ulp(0.5) is its unit */
	else
		h = (a - 0x38000000u + 0xfffu + (a >> 13 & 1)) >> 13;
	return (uint16_t)(sign | h);
}

static inline float
df_f32_from_f16(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000u) << 16, a = h & 0x7fffu;
	uint32_t special = a >= 0x7c00u ? 0x7f800000u : 0; /* infinity and NaN; no branch, so that loops vectorise */

	/*
	 * The f16's fields, moved to f32's places, are the value times 2^-112.  The product is exact, also for
	 * subnormals.
	 */
	return df_f32_from_bits(sign | special | df_f32_bits(df_f32_from_bits(a << 13) * 0x1p112f));
}

#endif
