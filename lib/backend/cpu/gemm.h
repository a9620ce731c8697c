/*
 * gemm.h - the matrix product in this thread, for the other slots of the CPU.
 */
#ifndef DF_BACKEND_CPU_GEMM_H
#define DF_BACKEND_CPU_GEMM_H

#include <stdbool.h>
#include <stddef.h>

#include "backend/cpu/project.h"

/*
 * c [m,n] = alpha op(a) op(b) + beta c, inner size k, rows lda, ldb and ldc
 * elements apart.  beta = 0 does not read c.  Each element depends on its row of op(a)
 * and its column of op(b) only, to the bit (gemm.c).
 */
void df_cpu_sgemm(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
    const float *b,
    size_t ldb, float beta, float *c, size_t ldc);

/* The same with chosen instructions, for tests; false, and nothing done, where the CPU lacks them. */
bool df_cpu_sgemm_with(enum df_cpu_isa isa, bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
    size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc);

/* The instructions that df_cpu_sgemm uses here: "AVX-512", "AVX2" or "baseline". */
const char *df_cpu_gemm_isa(void);

#endif
