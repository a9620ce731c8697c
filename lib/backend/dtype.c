/* dtype.c - the types of numbers: sizes and names. */
#include "backend/backend.h"

size_t
df_dtype_size(enum df_dtype t)
{
	switch (t) {
	case DF_F32:
	case DF_U32: return 4;
	case DF_BF16:
	case DF_F16: return 2;
	case DF_F64:
	case DF_I64: return 8;
	case DF_U8: return 1;
	}
	return 0;
}

const char *
df_dtype_name(enum df_dtype t)
{
	switch (t) {
	case DF_F32: return "f32";
	case DF_BF16: return "bf16";
	case DF_F16: return "f16";
	case DF_F64: return "f64";
	case DF_U8: return "u8";
	case DF_U32: return "u32";
	case DF_I64: return "i64";
	}
	return "?";
}
