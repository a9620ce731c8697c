/*
 * gemm.cu - df_gemm() on the device.  Compiled without contraction: in float32 its bits are the CPU's (gemm.h).
 */
#include "backend/cuda/gemm.h"

template <int TY, int TM>
DF_KERNEL(TY * 16) exact(product p, unsigned down, unsigned across)
{
	typedef exact_shared<TY, TM> shared;
	DF_SHARED(shared, s);
	const place at = place_of(blockIdx.x, down, across);

	exact_tile<TY, TM>(p, (size_t)at.i * TY * TM, (size_t)at.j * EXACT_COLS, s);
}

template <int TY, int TM>
static void
launch_exact(const product &p, rt_stream_t stream)
{
	const size_t down = df_blocks_of(p.a.n, TY * TM), across = df_blocks_of(p.b.n, EXACT_COLS);

	DF_LAUNCH((exact<TY, TM>), dim(down * across), dim(TY * 16), sizeof(exact_shared<TY, TM>), stream, p,
	    (unsigned)down, (unsigned)across);
}

int
df_cuda_gemm(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_gemm *g = static_cast<const struct df_gemm *>(args);
	const product p = product_of(g->a, g->ta, g->b, g->tb, g->c, g->alpha, g->beta);
	const rt_stream_t stream = df_cuda_lane_of(be)->stream;

	if (p.a.n == 0 || p.b.n == 0)
		return DF_OK;
	if (p.a.n <= 32)
		launch_exact<8, 4>(p, stream);
	else
		launch_exact<16, 8>(p, stream);
	return df_cuda_launched("gemm", err);
}
