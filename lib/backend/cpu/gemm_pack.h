/*
 * gemm_pack.h - blocks of the product's second operand, in the order in which the micro-kernels read them.
 */
#ifndef DF_BACKEND_CPU_GEMM_PACK_H
#define DF_BACKEND_CPU_GEMM_PACK_H

#include <stdbool.h>

#include "backend/backend.h"

/* A matrix in host memory: f32, or a 16-bit float that is widened when it is packed. */
struct df_cpu_operand {
	const void *p;
	size_t ld;
	enum df_dtype type;
};

static inline const void *
df_cpu_element(struct df_cpu_operand b, size_t row, size_t col)
{
	return (const char *)b.p + (row * b.ld + col) * df_dtype_size(b.type);
}

enum { DF_CPU_PACK_MOST = 256 }; /* inner indices at a time */

/*
 * Columns [0, n) of op(b), and of those the inner indices [0, kc), kc <= DF_CPU_PACK_MOST, in strips of `wide` columns;
 * the last strip has `wide`, or `narrow` where that is enough.  The strip that begins at column j lies at
 * dst + j*kc, index after index:
 *   dst[j*kc + k*nr + i] = op(b)[k][j + i]
 * What lies beyond column n in the last strip is of no meaning (but finite if b is).
 */
void df_cpu_pack(float *dst, struct df_cpu_operand b, bool tb, size_t kc, size_t n, size_t wide, size_t narrow);

#endif
