/*
 * half.h - rows of f32, bf16 and f16, converted.  Round to nearest even; NaN stays NaN.
 */
#ifndef DF_BACKEND_CPU_HALF_H
#define DF_BACKEND_CPU_HALF_H

#include "backend/backend.h"

/* dst[i] = src[i] for i in [0,n): between f32, bf16 and f16, or n elements of one type. */
void df_convert_row(void *dst, enum df_dtype dst_type, const void *src, enum df_dtype src_type, size_t n);

#endif
