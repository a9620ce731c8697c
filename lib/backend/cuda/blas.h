/*
 * blas.h - products by NVIDIA's library, cuBLASLt, where that keeps this backend's promises.
 *
 * It is opened when the first product could be its own: on sm_90 and sm_100, whose bits do not depend on the number of
 * rows as long as a sum over k is not split.  So only unsplit algorithms of the tensor cores are taken, and a shape is
 * the library's or the own kernels' for every number of rows: the two round otherwise.
 */
#ifndef DF_BACKEND_CUDA_BLAS_H
#define DF_BACKEND_CUDA_BLAS_H

#include "backend/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * df_gemm() of bf16 a and b by the library: *done = false, and nothing happened, where it is the own kernels' turn.
 * That depends on the device, on types, N and K, on the strides and alignment of the windows, and not on the rows of c,
 * except for a gradient of weights (ta: a sum over tokens), which is no one's row.
 */
int df_cuda_blas_gemm(struct df_backend *be, const struct df_gemm *g, bool *done, struct df_err *err) DF_MUST_CHECK;

/* ---- the seam: lt.c (cuBLASLt) and emu/blas.cc (loops that check what the library would) ---------------------- */

/*
 * c [m,n] = alpha op(a) op(b) + beta c, row-major, rows ld elements apart: a and b are bf16, c is bf16 or f32, sums are
 * f32.  Addresses are multiples of 16 bytes, and so are the strides.
 */
struct blas_product {
	bool ta, tb, c_is_f32;
	size_t m, n, k, lda, ldb, ldc;
	const void *a, *b;
	void *c;
	float alpha, beta;
	bool may_split; /* the sum over k, in a way that depends on m, n and k only */
};

/* Can the library be used with this device?  Else the reason in `why`, or "" where nobody would ask. */
bool blas_there(const struct rt_device *device, char *why, size_t size);
/* *blas is a lane's own, made when it is NULL. */
int blas_multiply(void **blas, const struct blas_product *p, rt_stream_t s, struct df_err *err) DF_MUST_CHECK;
void blas_free(void *blas); /* accepts NULL; after the stream's work is done */

#ifdef __cplusplus
}
#endif
#endif
