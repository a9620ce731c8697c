/*
 * blas.cc - the library of products on the emulator: loops, and the demands that cuBLASLt would make.
 *
 * Used only with DF_CUBLAS=emulated, so that the own kernels are what is tested otherwise.
 */
#include "backend/cuda/blas.h"

#include <stdlib.h>

#include "backend/cuda/view.h"

bool
blas_there(const struct rt_device *device, char *why, size_t size)
{
	const char *wish = getenv("DF_CUBLAS");

	(void)device;
	if (size > 0)
		why[0] = '\0';
	return wish && strcmp(wish, "emulated") == 0;
}

DF_KERNEL(256)
product(struct blas_product p)
{
	const size_t at = (size_t)blockIdx.x * 256 + threadIdx.x, i = at / p.n, j = at % p.n;
	const bf16 *a = static_cast<const bf16 *>(p.a), *b = static_cast<const bf16 *>(p.b);
	float sum = 0;

	if (i >= p.m)
		return;
	for (size_t x = 0; x < p.k; x++) {
		const float ax = load(a + (p.ta ? x * p.lda + i : i * p.lda + x));

		sum = fmaf(ax, load(b + (p.tb ? j * p.ldb + x : x * p.ldb + j)), sum);
	}
	sum *= p.alpha;
	if (p.c_is_f32) {
		float *c = static_cast<float *>(p.c) + i * p.ldc + j;

		*c = p.beta != 0 ? fmaf(p.beta, *c, sum) : sum;
	} else {
		bf16 *c = static_cast<bf16 *>(p.c) + i * p.ldc + j;

		store(c, p.beta != 0 ? fmaf(p.beta, load(c), sum) : sum);
	}
}

/* Address and stride are multiples of 16 bytes, and rows do not overlap. */
static int
check(const char *name, const void *p, size_t ld, size_t size, size_t cols, struct df_err *err)
{
	if (reinterpret_cast<uintptr_t>(p) % 16 != 0 || ld * size % 16 != 0)
		return df_fail(err, DF_EDEVICE, "cuBLASLt: %s is not aligned to 16 bytes", name);
	if (ld < cols)
		return df_fail(err, DF_EDEVICE, "cuBLASLt: %s has %zu columns in rows %zu apart", name, cols, ld);
	return DF_OK;
}

int
blas_multiply(void **blas, const struct blas_product *p, rt_stream_t s, struct df_err *err)
{
	int rc;

	if (!*blas && !(*blas = malloc(1)))
		return df_fail(err, DF_ENOMEM, "out of memory for a handle");
	DF_TRY(check("a", p->a, p->lda, 2, p->ta ? p->m : p->k, err));
	DF_TRY(check("b", p->b, p->ldb, 2, p->tb ? p->k : p->n, err));
	DF_TRY(check("c", p->c, p->ldc, p->c_is_f32 ? 4 : 2, p->n, err));
	DF_LAUNCH(product, dim(df_blocks_of(p->m * p->n, 256)), dim(256), 0, s, *p);
	rc = rt_last_error("cublasLtMatmul", err);
out:
	return rc;
}

void
blas_free(void *blas)
{
	free(blas);
}
