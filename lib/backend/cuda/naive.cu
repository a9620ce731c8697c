/*
 * naive.cu - a product that is there until gemm.cu's is: a thread for each element.
 */
#include "backend/cuda/view.h"


DF_DEVICE float
element(const void *p, int type, size_t i)
{
	if (type == DF_BF16)
		return load((const bf16 *)p + i);
	if (type == DF_F16)
		return load((const f16 *)p + i);
	return ((const float *)p)[i];
}

DF_KERNEL(256)
naive_gemm(const void *a, int ta_type, size_t a_row, size_t a_col, const void *b, int tb_type, size_t b_row, size_t b_col,
    void *c, int tc_type, size_t ldc, size_t m, size_t n, size_t k, float alpha, float beta)
{
	const size_t at = (size_t)blockIdx.x * 256 + threadIdx.x, i = at / n, j = at % n;
	float sum = 0;

	if (i >= m)
		return;
	for (size_t x = 0; x < k; x++)
		sum = fmaf(element(a, ta_type, i * a_row + x * a_col), element(b, tb_type, x * b_row + j * b_col), sum);
	sum *= alpha;
	if (beta != 0)
		sum += beta * element(c, tc_type, i * ldc + j);
	if (tc_type == DF_BF16)
		store((bf16 *)c + i * ldc + j, sum);
	else
		store((float *)c + i * ldc + j, sum);
}

static void *
start(const struct df_tensor &t)
{
	return static_cast<char *>(t.mem->data) + t.off * df_dtype_size(t.type);
}

extern "C" __attribute__((weak)) int
df_cuda_gemm(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_gemm *g = static_cast<const struct df_gemm *>(args);
	const size_t m = g->c.rows, n = g->c.cols, k = g->ta ? g->a.rows : g->a.cols;

	if (m * n > 0)
		DF_LAUNCH(naive_gemm, dim(df_blocks_of(m * n, 256)), dim(256), 0, df_cuda_lane_of(be)->stream,
		    k ? start(g->a) : NULL, (int)g->a.type, g->ta ? 1 : g->a.ld, g->ta ? g->a.ld : 1, k ? start(g->b) : NULL,
		    (int)g->b.type, g->tb ? 1 : g->b.ld, g->tb ? g->b.ld : 1, start(g->c), (int)g->c.type, g->c.ld, m, n, k,
		    g->alpha, g->beta);
	return df_cuda_launched("gemm", err);
}
