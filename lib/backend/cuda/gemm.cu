/*
 * gemm.cu - df_gemm() on the device.  Compiled without contraction: in float32 its bits are the CPU's (gemm.h).
 */
#include "backend/cuda/blas.h"
#include "backend/cuda/gemm_mma.h"

/* ---- float32 --------------------------------------------------------------------------------------------------- */

template <int TY, int TM>
DF_KERNEL(TY * 16, 1) exact(product p, unsigned down, unsigned across)
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

/* ---- tensor cores ---------------------------------------------------------------------------------------------- */

template <class S, bool A_ALONG, bool B_ALONG, int PARTS, bool A_ASYNC, bool B_ASYNC>
DF_KERNEL(S::THREADS, 1) tensor(product p, unsigned down, unsigned across)
{
	typedef mma_shared<S, PARTS> shared;
	DF_SHARED(shared, s);
	const place at = place_of(blockIdx.x, down, across);

	if constexpr (A_ALONG || B_ALONG)
		mma_tile<S, A_ALONG, B_ALONG, PARTS, A_ASYNC, B_ASYNC>(
		    p, (size_t)at.i * S::ROWS, (size_t)at.j * S::COLS, s);
	else
		mma_rows_tile<S, PARTS, A_ASYNC>(p, (size_t)at.i * S::ROWS, (size_t)at.j * S::COLS, s);
}

enum { SCRATCH_MOST = 256 << 20 }; /* bytes that a product may ask for only to be faster */

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
	case GEMM_32x64: launch<mma_32x64_parts, true, B_ALONG, PARTS, true, false>(j); break;
	case GEMM_64x32: launch<mma_64x32_parts, true, B_ALONG, PARTS, true, false>(j); break;
	default: launch<mma_64x64_parts, true, B_ALONG, PARTS, true, false>(j);
	}
}
/* Anything. */
template <bool A_ALONG, bool B_ALONG>
static void
launch_any(const job &j)
{
	launch<mma_32x64_parts, A_ALONG, B_ALONG, 3, false, false>(j);
}

/*
 * A sum over many rows into a small c, as of an adapter's gradient, has too few tiles to keep the device busy: blocks
 * share its runs (gemm_mma.h) and leave their sums in `part`, run after run, each like a dense c; then they are added,
 * in the order in which a block would.
 */
template <class S, int PARTS, bool ASYNC>
DF_KERNEL(S::THREADS, 1) runs(product p, float *part, unsigned down, unsigned across)
{
	typedef mma_shared<S, PARTS> shared;
	DF_SHARED(shared, s);
	const unsigned tiles = down * across;
	const size_t run = blockIdx.x / tiles, from = run * MMA_RUN;
	const place at = place_of(blockIdx.x % tiles, down, across);

	p = of_rows(p, from, smaller(from + MMA_RUN, p.k));
	p.c = part + run * p.a.n * p.b.n;
	p.ldc = p.b.n;
	p.c_is_wide = p.b.n % 8 == 0;
	p.c_is_bf16 = false;
	p.alpha = 1;
	p.beta = 0;
	mma_tile<S, false, false, PARTS, ASYNC, ASYNC>(p, (size_t)at.i * S::ROWS, (size_t)at.j * S::COLS, s);
}
/* A thread adds four columns of a row. */
DF_KERNEL(256) add_runs(product p, const float *part, size_t n_runs)
{
	const size_t across = (p.b.n + 3) / 4, at = (size_t)blockIdx.x * 256 + threadIdx.x;
	const size_t i = at / across, j = at % across * 4;
	const side parts = { part, p.b.n, p.a.n, DF_F32, true, p.b.n % 8 == 0 };
	const unsigned there = c_columns(p, i, j);
	quad v;

	if (i >= p.a.n)
		return;
	v = blended(p, side_quad(parts, i * p.b.n + j, there), i, j);
	for (size_t run = 1; run < n_runs; run++)
		add_run(p, &v, side_quad(parts, (run * p.a.n + i) * p.b.n + j, there));
	set_c(p, v, i, j);
}

template <class S, int PARTS, bool ASYNC>
static void
launch_runs(const job &j, float *part, size_t n_runs)
{
	const size_t down = df_blocks_of(j.p.a.n, S::ROWS), across = df_blocks_of(j.p.b.n, S::COLS);
	const size_t quads = j.p.a.n * df_blocks_of(j.p.b.n, 4);

	DF_LAUNCH((runs<S, PARTS, ASYNC>), dim(n_runs * down * across), dim(S::THREADS), sizeof(mma_shared<S, PARTS>),
	    j.stream, j.p, part, (unsigned)down, (unsigned)across);
	DF_LAUNCH(add_runs, dim(df_blocks_of(quads, 256)), dim(256), 0, j.stream, j.p, part, n_runs);
}

/* Runs that are shared; 0: a block goes through all of them. */
static size_t
shared_runs(const job &j)
{
	const size_t m = j.p.a.n, n = j.p.b.n, n_runs = df_blocks_of(j.p.k, MMA_RUN);
	const double bytes = 4.0 * (double)m * (double)n * (double)n_runs;

	if (j.p.a.along || j.p.b.along || n_runs < 2)
		return 0;
	if (j.p.c_is_bf16) /* their sums are f32 */
		return n_runs;
	return bytes <= SCRATCH_MOST && df_blocks_of(m, 64) * df_blocks_of(n, 64) < j.processors ? n_runs : 0;
}
static int
multiply_runs(struct df_backend *be, const job &j, size_t n_runs, struct df_err *err)
{
	const bool async = mma_is_async(j.p.a, j.p.k) && mma_is_async(j.p.b, j.p.k);
	void *part;
	int rc;

	DF_TRY(df_cuda_scratch(be, &part, 4 * j.p.a.n * j.p.b.n * n_runs, err));
	if (!async)
		launch_runs<mma_32x64_parts, 3, false>(j, static_cast<float *>(part), n_runs);
	else if (j.p.b.n <= 32)
		launch_runs<mma_64x32, 1, true>(j, static_cast<float *>(part), n_runs);
	else if (j.p.a.n <= 32)
		launch_runs<mma_32x64, 1, true>(j, static_cast<float *>(part), n_runs);
	else
		launch_runs<mma_64x64, 1, true>(j, static_cast<float *>(part), n_runs);
out:
	return rc;
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
	const job j = { p, lane->stream, (size_t)lane->dev->device.n_processors };
	const size_t n_runs = p.a.type == DF_BF16 ? shared_runs(j) : 0;
	bool done = false;
	int rc;

	if (p.a.n == 0 || p.b.n == 0)
		return DF_OK;
	DF_TRY(gemm_check_grid("gemm", 1, p.a.n, p.b.n, err));
	if (p.a.type == DF_F32) {
		multiply_exact(p, lane->stream);
	} else {
		DF_TRY(df_cuda_blas_gemm(be, g, &done, err));
		if (!done && n_runs > 0)
			DF_TRY(multiply_runs(be, j, n_runs, err));
		else if (!done)
			multiply_bf16(j);
	}
	rc = df_cuda_launched("gemm", err);
out:
	return rc;
}
