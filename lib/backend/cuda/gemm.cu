/*
 * gemm.cu - df_gemm() on the device.  Compiled without contraction: in float32 its bits are the CPU's (gemm.h).
 */
#include "backend/cuda/gemm_mma.h"

/* ---- float32 ------------------------------------------------------------------------------------------------------- */

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
static void
multiply_exact(const product &p, rt_stream_t stream)
{
	if (p.a.n <= 32)
		launch_exact<8, 4>(p, stream);
	else
		launch_exact<16, 8>(p, stream);
}

/* ---- tensor cores -------------------------------------------------------------------------------------------------- */

template <class S, bool A_ALONG, bool B_ALONG, int PARTS, bool A_ASYNC, bool B_ASYNC>
DF_KERNEL(S::THREADS) tensor(product p, unsigned down, unsigned across)
{
	typedef mma_shared<S, PARTS> shared;
	DF_SHARED(shared, s);
	const place at = place_of(blockIdx.x, down, across);

	mma_tile<S, A_ALONG, B_ALONG, PARTS, A_ASYNC, B_ASYNC, !A_ALONG>(
	    p, (size_t)at.i * S::ROWS, (size_t)at.j * S::COLS, s);
}

typedef mma_shape<128, 128, 64, 32, 3> large;
typedef mma_shape<64, 128, 32, 64, 4> wide;
typedef mma_shape<64, 64, 32, 32, 4> middle;
typedef mma_shape<32, 64, 16, 32, 4> low;
typedef mma_shape<64, 32, 16, 32, 4> thin;

/* How a product is launched, and the tiles among which it chooses. */
struct job {
	const product &p;
	rt_stream_t stream;
	size_t processors;
};

template <class S, bool A_ALONG, bool B_ALONG, int PARTS, bool A_ASYNC, bool B_ASYNC>
static void
launch(const job &j)
{
	const size_t down = df_blocks_of(j.p.a.n, S::ROWS), across = df_blocks_of(j.p.b.n, S::COLS);

	DF_LAUNCH((tensor<S, A_ALONG, B_ALONG, PARTS, A_ASYNC, B_ASYNC>), dim(down * across), dim(S::THREADS),
	    sizeof(mma_shared<S, PARTS>), j.stream, j.p, (unsigned)down, (unsigned)across);
}

/* Both sides lie well. */
template <bool A_ALONG, bool B_ALONG>
static void
launch_async(const job &j)
{
	switch (gemm_tile_of(j.p.a.n, j.p.b.n, j.processors)) {
	case GEMM_128x128: launch<large, A_ALONG, B_ALONG, 1, true, true>(j); break;
	case GEMM_64x128: launch<wide, A_ALONG, B_ALONG, 1, true, true>(j); break;
	case GEMM_64x64: launch<middle, A_ALONG, B_ALONG, 1, true, true>(j); break;
	case GEMM_32x64: launch<low, A_ALONG, B_ALONG, 1, true, true>(j); break;
	case GEMM_64x32: launch<thin, A_ALONG, B_ALONG, 1, true, true>(j); break;
	}
}

int
df_cuda_gemm(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_gemm *g = static_cast<const struct df_gemm *>(args);
	const product p = product_of(g->a, g->ta, g->b, g->tb, g->c, g->alpha, g->beta);
	const rt_stream_t stream = df_cuda_lane_of(be)->stream;
	const job j = { p, stream, (size_t)df_cuda_lane_of(be)->dev->device.n_processors };

	if (p.a.n == 0 || p.b.n == 0)
		return DF_OK;
	if (p.a.type == DF_F32)
		multiply_exact(p, stream);
	else if (p.a.along && p.b.along)
		launch_async<true, true>(j);
	else if (p.a.along)
		launch_async<true, false>(j);
	else
		launch_async<false, false>(j);
	return df_cuda_launched("gemm", err);
}
