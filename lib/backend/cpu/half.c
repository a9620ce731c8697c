/*
 * half.c - rows between f32 and the two 16-bit floats.
 */
#include "backend/cpu/half.h"

#include "backend/cpu/vec.h"
#include "base/half.h"

/* Used when a model is opened and run: for its weights. */
DF_SIMD static void
widen_bf16(float *dst, const uint16_t *src, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = df_f32_from_bf16(src[i]);
}

DF_SIMD static void
widen_f16(float *dst, const uint16_t *src, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = df_f32_from_f16(src[i]);
}

DF_SIMD static void
narrow_bf16(uint16_t *dst, const float *src, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = df_bf16_from_f32(src[i]);
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
		widen_bf16(d32, s16, n);
	else if (dst_type == DF_F32)
		widen_f16(d32, s16, n);
	else if (dst_type == DF_BF16 && src_type == DF_F32)
		narrow_bf16(d16, s32, n);
	else if (dst_type == DF_BF16)
		for (size_t i = 0; i < n; i++)
			d16[i] = df_bf16_from_f32(df_f32_from_f16(s16[i]));
	else if (src_type == DF_F32)
		for (size_t i = 0; i < n; i++)
			d16[i] = df_f16_from_f32(s32[i]);
	else
		for (size_t i = 0; i < n; i++)
			d16[i] = df_f16_from_f32(df_f32_from_bf16(s16[i]));
}
