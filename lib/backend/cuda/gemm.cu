/*
 * gemm.cu - df_gemm() on the device.  Compiled without contraction: in float32 its bits are the CPU's (gemm.h).
 */
#include "backend/cuda/blas.h"
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

/* Both sides lie well: all tiles. */
template <bool A_ALONG, bool B_ALONG>
static void
launch_async(const job &j)
{
	switch (gemm_tile_of(1, j.p.a.n, j.p.b.n, j.processors)) {
	case GEMM_128x128: launch<mma_128x128, A_ALONG, B_ALONG, 1, true, true>(j); break;
	case GEMM_64x128: launch<mma_64x128, A_ALONG, B_ALONG, 1, true, true>(j); break;
	case GEMM_64x64: launch<mma_64x64, A_ALONG, B_ALONG, 1, true, true>(j); break;
	case GEMM_32x64: launch<mma_32x64, A_ALONG, B_ALONG, 1, true, true>(j); break;
	case GEMM_64x32: launch<mma_64x32, A_ALONG, B_ALONG, 1, true, true>(j); break;
	}
}
/* a lies well, b is of another type, or not aligned: adapters, weights at rest in f16. */
template <bool B_ALONG, int PARTS>
static void
launch_fetched(const job &j)
{
	switch (gemm_tile_of(1, j.p.a.n, j.p.b.n, j.processors)) {
	case GEMM_32x64: launch<mma_32x64, true, B_ALONG, PARTS, true, false>(j); break;
	case GEMM_64x32: launch<mma_64x32, true, B_ALONG, PARTS, true, false>(j); break;
	default: launch<mma_64x64, true, B_ALONG, PARTS, true, false>(j);
	}
}
/* Anything. */
template <bool A_ALONG, bool B_ALONG>
static void
launch_any(const job &j)
{
	launch<mma_32x64, A_ALONG, B_ALONG, 3, false, false>(j);
}

static void
multiply_bf16(const job &j)
{
	const side &a = j.p.a, &b = j.p.b;
	const bool a_async = mma_is_async(a, j.p.k), b_async = mma_is_async(b, j.p.k);

	if (a_async && b_async && (a.along || !b.along)) {
		if (a.along && b.along)
			launch_async<true, true>(j);
		else if (a.along)
			launch_async<true, false>(j);
		else
			launch_async<false, false>(j);
	} else if (a_async && a.along) {
		if (b.type == DF_F32 && b.along)
			launch_fetched<true, 3>(j);
		else if (b.type == DF_F32)
			launch_fetched<false, 3>(j);
		else if (b.along)
			launch_fetched<true, 2>(j);
		else
			launch_fetched<false, 2>(j);
	} else {
		if (a.along && b.along)
			launch_any<true, true>(j);
		else if (a.along)
			launch_any<true, false>(j);
		else if (b.along)
			launch_any<false, true>(j);
		else
			launch_any<false, false>(j);
	}
}

int
df_cuda_gemm(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_gemm *g = static_cast<const struct df_gemm *>(args);
	const struct df_cuda_lane *lane = df_cuda_lane_of(be);
	const product p = product_of(g->a, g->ta, g->b, g->tb, g->c, g->alpha, g->beta);
	bool done = false;
	int rc;

	if (p.a.n == 0 || p.b.n == 0)
		return DF_OK;
	DF_TRY(gemm_check_grid("gemm", 1, p.a.n, p.b.n, err));
	if (p.a.type == DF_F32) {
		multiply_exact(p, lane->stream);
	} else {
		DF_TRY(df_cuda_blas_gemm(be, g, &done, err));
		if (!done)
			multiply_bf16({ p, lane->stream, (size_t)lane->dev->device.n_processors });
	}
	rc = df_cuda_launched("gemm", err);
out:
	return rc;
}
