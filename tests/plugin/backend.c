/*
 * backend.c - a small backend in a shared library: memory that the program cannot reach, and a product.  All other
 * operations run in the program, on copies.
 *
 *     cc -shared -fPIC -I PREFIX/include/df-tools backend.c -o df-cuda.so
 *     DF_CUDA_PLUGIN=./df-cuda.so df-train --device cuda ...
 */
#include <stdlib.h>
#include <string.h>

#include "backend/plugin.h"
#include "base/log.h"

/* An address that faults where it is used: so nobody but near() can take it for the host's. */
#define FAR ((uintptr_t)1 << 62)

static size_t n_products;

static void *
near(struct df_tensor t, size_t row, size_t col)
{
	return (char *)((uintptr_t)t.mem->data ^ FAR) + (t.off + row * t.ld + col) * df_dtype_size(t.type);
}

static int
open_small(struct df_backend *be, const char *device, struct df_err *err)
{
	(void)be;
	if (strcmp(device, "cuda") != 0 && strcmp(device, "cuda:1") != 0)
		return df_fail(err, DF_EDEVICE, "device '%s': there are two of them, 0 and 1", device);
	return DF_OK;
}

static void
close_small(struct df_backend *be)
{
	df_info("%s multiplied %s", be->ops->name, n_products > 0 ? "by itself" : "nothing");
}

static int
alloc(struct df_backend *be, struct df_mem *m, const char *what, struct df_err *err)
{
	void *p = malloc(m->nbytes);

	(void)be;
	if (!p)
		return df_fail(err, DF_ENOMEM, "%s: no memory for %zu bytes", what, m->nbytes);
	memset(p, 0xff, m->nbytes);
	m->data = (void *)((uintptr_t)p ^ FAR);
	return DF_OK;
}

static void
release(struct df_backend *be, struct df_mem *m)
{
	(void)be;
	free((void *)((uintptr_t)m->data ^ FAR));
}

static int
upload(struct df_backend *be, struct df_tensor dst, const void *src, struct df_err *err)
{
	const size_t row = dst.cols * df_dtype_size(dst.type);

	(void)be;
	(void)err;
	for (size_t i = 0; i < dst.rows; i++)
		memcpy(near(dst, i, 0), (const char *)src + i * row, row);
	return DF_OK;
}

static int
download(struct df_backend *be, void *dst, struct df_tensor src, struct df_err *err)
{
	const size_t row = src.cols * df_dtype_size(src.type);

	(void)be;
	(void)err;
	for (size_t i = 0; i < src.rows; i++)
		memcpy((char *)dst + i * row, near(src, i, 0), row);
	return DF_OK;
}

static int
sync_small(struct df_backend *be, struct df_err *err)
{
	(void)be;
	(void)err;
	return DF_OK;
}

static float
at(struct df_tensor t, bool turned, size_t row, size_t col)
{
	return *(const float *)(turned ? near(t, col, row) : near(t, row, col));
}

static int
gemm(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_gemm *g = args;
	const size_t k = g->ta ? g->a.rows : g->a.cols;

	(void)be;
	if (g->b.type != DF_F32)
		return df_fail(err, DF_EUNSUPPORTED, "this product is of f32 only");
	n_products++;
	for (size_t i = 0; i < g->c.rows; i++)
		for (size_t j = 0; j < g->c.cols; j++) {
			float *c = near(g->c, i, j);
			double sum = 0;

			for (size_t x = 0; x < k; x++)
				sum += (double)at(g->a, g->ta, i, x) * (double)at(g->b, g->tb, x, j);
			*c = (float)((double)g->alpha * sum + (g->beta != 0 ? (double)(g->beta * *c) : 0));
		}
	return DF_OK;
}

const struct df_backend_ops *
df_backend_plugin(int api_version)
{
	static df_op_fn *op[DF_OP_COUNT];
	static struct df_backend_ops ops;

	if (api_version != DF_BACKEND_API_VERSION)
		return NULL;
	op[DF_OP_GEMM] = gemm;
	ops.api_version = DF_BACKEND_API_VERSION;
	ops.name = "cuda";
	ops.exact = true;
	ops.open = open_small;
	ops.close = close_small;
	ops.alloc = alloc;
	ops.free = release;
	ops.upload = upload;
	ops.download = download;
	ops.sync = sync_small;
	ops.op = op;
	return &ops;
}
