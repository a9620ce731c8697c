/*
 * backend.cc - the same in C++17: what a CUDA backend's host side may look like.  Its product runs on the program's
 * pool.
 *
 *     c++ -std=c++17 -shared -fPIC -I PREFIX/include/df-tools backend.cc -o df-cuda.so
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "backend/plugin.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"

namespace
{

struct device {
	size_t n_open = 0;
};

char *
near(const df_tensor &t, size_t row)
{
	return static_cast<char *>(t.mem->data) + (t.off + row * t.ld) * df_dtype_size(t.type);
}

int
open(df_backend *be, const char *, df_err *err)
{
	be->priv = new (std::nothrow) device;
	return be->priv ? DF_OK : df_fail(err, DF_ENOMEM, "no memory for a device");
}

void
close(df_backend *be)
{
	std::unique_ptr<device> d(static_cast<device *>(be->priv));

	df_info("%s closed with %zu tensors", be->ops->name, d->n_open);
}

int
alloc(df_backend *be, df_mem *m, const char *what, df_err *err)
{
	int rc = df_alloc(&m->data, m->nbytes, 1, what, err);

	if (rc == DF_OK)
		static_cast<device *>(be->priv)->n_open++;
	return rc;
}

void
release(df_backend *be, df_mem *m)
{
	std::free(m->data);
	static_cast<device *>(be->priv)->n_open--;
}

int
upload(df_backend *, df_tensor dst, const void *src, df_err *)
{
	const size_t row = dst.cols * df_dtype_size(dst.type);

	for (size_t i = 0; i < dst.rows; i++)
		std::memcpy(near(dst, i), static_cast<const char *>(src) + i * row, row);
	return DF_OK;
}

int
download(df_backend *, void *dst, df_tensor src, df_err *)
{
	const size_t row = src.cols * df_dtype_size(src.type);

	for (size_t i = 0; i < src.rows; i++)
		std::memcpy(static_cast<char *>(dst) + i * row, near(src, i), row);
	return DF_OK;
}

int
sync(df_backend *, df_err *)
{
	return DF_OK;
}

float
at(const df_tensor &t, bool turned, size_t row, size_t col)
{
	return turned ? df_tensor_f32(t)[col * t.ld + row] : df_tensor_f32(t)[row * t.ld + col];
}

void
row_of_gemm(void *ctx, size_t i, int)
{
	const struct df_gemm &g = *static_cast<const struct df_gemm *>(ctx);
	const size_t k = g.ta ? g.a.rows : g.a.cols;

	for (size_t j = 0; j < g.c.cols; j++) {
		float &c = df_tensor_f32(g.c)[i * g.c.ld + j];
		double sum = 0;

		for (size_t x = 0; x < k; x++)
			sum += double(at(g.a, g.ta, i, x)) * double(at(g.b, g.tb, x, j));
		c = float(double(g.alpha) * sum + (g.beta != 0 ? double(g.beta * c) : 0));
	}
}

int
gemm(df_backend *be, const void *args, df_err *err)
{
	struct df_gemm g = *static_cast<const struct df_gemm *>(args);

	if (g.b.type != DF_F32)
		return df_fail(err, DF_EUNSUPPORTED, "this product is of f32 only");
	df_pool_for(be->pool, g.c.rows, row_of_gemm, &g);
	return DF_OK;
}

void
describe(char *out, size_t size)
{
	std::snprintf(out, size, "in C++");
}

}

extern "C" const struct df_backend_ops *
df_backend_plugin(int)
{
	static df_op_fn *op[DF_OP_COUNT];
	static struct df_backend_ops ops;

	op[DF_OP_GEMM] = gemm;
	ops.api_version = DF_BACKEND_API_VERSION;
	ops.name = "cuda";
	ops.exact = true;
	ops.describe = describe;
	ops.open = open;
	ops.close = close;
	ops.alloc = alloc;
	ops.free = release;
	ops.upload = upload;
	ops.download = download;
	ops.sync = sync;
	ops.op = op;
	return &ops;
}
