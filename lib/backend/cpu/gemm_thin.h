/*
 * gemm_thin.h - products of few rows.
 */
#ifndef DF_BACKEND_CPU_GEMM_THIN_H
#define DF_BACKEND_CPU_GEMM_THIN_H

#include "backend/cpu/gemm_pack.h"

enum { DF_CPU_THIN_ROWS = 4 };

/*
 * c [m,n'] = alpha a b^T + beta c, inner size k > 0, m <= DF_CPU_THIN_ROWS, for the first n' of n columns; returns
 * n', the rest is the caller's.  Only for CPUs with AVX2 and FMA, whose other kernels give the same bits.
 */
size_t df_cpu_gemm_thin(size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, struct df_cpu_operand b,
    float beta, float *c, size_t ldc);

#endif
