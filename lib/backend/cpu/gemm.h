/*
 * gemm.h - the matrix product in this thread, for the other slots of the CPU.
 */
#ifndef DF_BACKEND_CPU_GEMM_H
#define DF_BACKEND_CPU_GEMM_H

#include <stdbool.h>
#include <stddef.h>

#include "backend/cpu/gemm_pack.h"
#include "backend/cpu/project.h"

/*
 * c [m,n] = alpha op(a) op(b) + beta c, inner size k, rows lda, b.ld and ldc elements apart; m and n are not 0.
 * beta = 0 does not read c.
 */
typedef void df_cpu_multiply_fn(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
    struct df_cpu_operand b, float beta, float *c, size_t ldc);

/* How the slots of the CPU multiply: with the project's kernels, or with somebody else's. */
struct df_cpu_product {
	df_cpu_multiply_fn *multiply; /* in this thread */
	/* The size of the tiles that `threads` threads share; *rows and *cols are those of c when it is called. */
	void (*tile)(size_t *rows, size_t *cols, size_t k, size_t threads);
};

/* The project's own: each element depends on its row of op(a) and its column of op(b) only, to the bit (gemm.c). */
extern const struct df_cpu_product df_cpu_product;
/* The product of a backend's slots. */
const struct df_cpu_product *df_cpu_product_of(const struct df_backend *be);
/* n products whose outputs do not overlap, in one loop over the pool: no thread waits between them. */
int df_cpu_gemms(struct df_backend *be, const struct df_gemm *g, size_t n, struct df_err *err);
/* The own kernels use the CPU's vectors, with fused multiplication and addition. */
bool df_cpu_gemm_is_fast(void);

/* The own product with chosen instructions, for tests; false, and nothing done, where the CPU lacks them. */
bool df_cpu_sgemm_with(enum df_cpu_isa isa, bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
    size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc);

/*
 * The micro-kernels alone, for a second side that is made as it is needed: c [m,n] += a b over kc <= DF_CPU_PACK_MOST
 * inner indices, the sum from zero and in order.  b lies in strips of df_cpu_strip() columns, index after index
 * (df_cpu_pack()), `apart` elements from strip to strip; the last one is as wide as the others.
 */
void df_cpu_multiply_strips(enum df_cpu_isa isa, size_t m, size_t n, size_t kc, const float *a, size_t lda,
    const float *b, size_t apart, float *c, size_t ldc);
size_t df_cpu_strip(enum df_cpu_isa isa); /* 0, and nothing is done above, where the CPU lacks the instructions */

/* The instructions that the own product uses here: "AVX-512", "AVX2" or "baseline". */
const char *df_cpu_gemm_isa(void);

#endif
