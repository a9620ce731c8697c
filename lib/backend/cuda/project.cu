/*
 * project.cu - y += g R with R in {-1,+1}^(n x k), made from Philox as it is needed (backend.h, df_project).
 *
 * The coordinates are cut into spans (spans.h).  One kernel sums each span from zero, its coordinates ascending, for
 * every sample and column; the next adds the spans' sums to y, in order.  So spans may be summed side by side, and a
 * sample's y depends on nothing else in the call.
 *
 *	float32   spans of 256 coordinates, as on the CPU (cpu/project.c), and the CPU's bits: a product with +-1 is
 *	          exact, so that only the order of the sums matters, and fused or separate multiplication does not
 *	bf16      spans of 8192; g is rounded once to bf16 (relative error of a sum below 2^-9) and multiplied on tensor
 *	          cores with sums in float32
 *
 * Why float32 is not made of bf16 parts on tensor cores, which would be faster: where a model computes in float32, its
 * products run at the same rate as these, and are many times as much; where gradients come from a file, the disk is
 * slower than either.  So the same bits cost nothing that shows.
 *
 * Floor: 2 S n k FLOPs at the rate of FMA or of tensor cores, and 4 S n bytes.  Beside it each span's sums are written
 * and read once: 8 bytes for 512 FLOPs (float32) or 16384 (bf16), out of the second-level cache.
 */
#include <stdlib.h>

#include "backend/cuda/spans.h"
#include "base/rng.h"

constexpr unsigned COLUMNS = 128; /* of one Philox call */

/* What the signs depend on. */
struct signs {
	uint64_t first; /* coordinate of g's first column */
	uint32_t key0, key1, tag;
};

DF_DEVICE void
sign_words(const struct signs &a, uint64_t j, uint32_t block, uint32_t w[4])
{
	const uint64_t p = a.first + j;
	const uint32_t ctr[4] = { (uint32_t)p, (uint32_t)(p >> 32), block, a.tag };

	philox(ctr, a.key0, a.key1, w);
}

/* y[s][c] += part[0][s][c] + part[1][s][c] + ..., one after another.  Grid: columns / 256, samples. */
DF_KERNEL(256)
add_parts(view<float> y, size_t k, const float *part, size_t n_parts, size_t apart, size_t ld)
{
	const size_t c = (size_t)blockIdx.x * 256 + threadIdx.x;
	float *to = y.p + blockIdx.y * y.ld + c, v;

	if (c >= k)
		return;
	v = *to;
	part += blockIdx.y * ld + c;
	for (size_t z = 0; z < n_parts; z++)
		v += part[z * apart];
	*to = v;
}

/* ---- float32 --------------------------------------------------------------------------------------------------- */

/* Coordinates of a span, cpu/gemm_pack.h's DF_CPU_PACK_MOST, and of a step. */
constexpr unsigned RUN = 256, STEP = 32;

template <int M> struct plain_shared {
	float g[2][STEP][8 * M];
	float r[2][STEP][COLUMNS];
};

/* The signs of 32 columns of one coordinate: what a thread makes of a step. */
template <int M>
DF_DEVICE void
plain_make(struct plain_shared<M> &sh, const struct signs &signs, uint64_t j, unsigned buffer)
{
	const unsigned i = threadIdx.x / 4, word = threadIdx.x % 4;
	uint32_t w[4], bits;
	float *r = &sh.r[buffer][i][32 * word];

	sign_words(signs, j + i, blockIdx.x, w);
	bits = word < 2 ? (word == 0 ? w[0] : w[1]) : (word == 2 ? w[2] : w[3]);
#pragma unroll
	for (int c = 0; c < 32; c += 4) {
		float4 v;

		v.x = bits_float(((bits << (31 - c)) & 0x80000000u) ^ 0xbf800000u);
		v.y = bits_float(((bits << (30 - c)) & 0x80000000u) ^ 0xbf800000u);
		v.z = bits_float(((bits << (29 - c)) & 0x80000000u) ^ 0xbf800000u);
		v.w = bits_float(((bits << (28 - c)) & 0x80000000u) ^ 0xbf800000u);
		*reinterpret_cast<float4 *>(r + c) = v;
	}
}

template <int M>
DF_DEVICE void
plain_fetch(struct plain_shared<M> &sh, const float *g, size_t n_samples, unsigned buffer)
{
	for (unsigned i = threadIdx.x; i < STEP * 2 * M; i += 128) {
		const unsigned j = i / (2 * M), s = i % (2 * M) * 4;

		cp_async(&sh.g[buffer][j][s], g + j * n_samples + s);
	}
	cp_async_commit();
}

/*
 * part[z][s][c] = the sum over span first + z of g[j][s] R[j][c].  g [z][RUN][n_samples] is turned; a block has 128
 * columns and 8 M samples, a thread 8 and M of them: columns 4x .. 4x+3 and 64 + 4x .. 64 + 4x+3, and likewise samples.
 */
template <int M>
DF_KERNEL(128)
plain(float *part, size_t n_samples, size_t ld, const float *g, size_t g_samples, struct spans spans, size_t first,
    struct signs signs)
{
	constexpr int V = M < 4 ? M : 4; /* samples side by side */
	DF_SHARED(struct plain_shared<M>, sh);
	const struct span at = span_at(spans, first + blockIdx.z);
	const unsigned x = threadIdx.x % 16, y = threadIdx.x / 16, n_steps = (unsigned)((at.n + STEP - 1) / STEP);
	const size_t s0 = (size_t)blockIdx.y * 8 * M;
	float sum[M][8] = { };

	g += blockIdx.z * RUN * g_samples + s0;
	plain_fetch(sh, g, g_samples, 0);
	plain_make(sh, signs, at.at, 0);
	for (unsigned step = 0; step < n_steps; step++) {
		const unsigned now = step % 2;

		cp_async_wait<0>();
		sync_block();
		if (step + 1 < n_steps) {
			plain_fetch(sh, g + (step + 1) * STEP * g_samples, g_samples, !now);
			plain_make(sh, signs, at.at + (step + 1) * STEP, !now);
		}
#pragma unroll 4
		for (unsigned j = 0; j < STEP; j++) {
			float r[8], v[M];

			*reinterpret_cast<float4 *>(r) = *reinterpret_cast<float4 *>(&sh.r[now][j][4 * x]);
			*reinterpret_cast<float4 *>(r + 4) = *reinterpret_cast<float4 *>(&sh.r[now][j][64 + 4 * x]);
			for (int i = 0; i < M; i++)
				v[i] = sh.g[now][j][i / V * 8 * V + y * V + i % V];
			for (int i = 0; i < M; i++)
				for (int c = 0; c < 8; c++)
					sum[i][c] += v[i] * r[c];
		}
	}
	part += (blockIdx.z * n_samples + s0) * ld + (size_t)blockIdx.x * COLUMNS + 4 * x;
	for (int i = 0; i < M; i++) {
		float *to = part + (i / V * 8 * V + y * V + i % V) * ld;

		*reinterpret_cast<float4 *>(to) = *reinterpret_cast<float4 *>(sum[i]);
		*reinterpret_cast<float4 *>(to + 64) = *reinterpret_cast<float4 *>(sum[i] + 4);
	}
}

/* ---- bf16: tensor cores ---------------------------------------------------------------------------------------- */

/* Coordinates of a sum from zero, and of a stage in shared memory: there a sample has 128 bytes, 8 chunks of 16. */
constexpr unsigned SPAN = 8192, STAGE = 64;
constexpr unsigned STAGES = 4;         /* under way at a time */
constexpr unsigned WIDE = 2 * COLUMNS; /* columns of a block */

/*
 * g rounded to bf16, as shared memory has it: out[z][stage][s][chunk ^ (s % 8)], so that 8 samples' chunks of the same
 * coordinates lie in different banks.  Zero where there is no coordinate or sample.
 * Grid: stages, samples / 16, spans; a thread has a chunk.  4 B read and 2 B written for a number.
 */
DF_KERNEL(128)
pack(uint4 *out, size_t n_out, view<const float> g, size_t n_samples, struct spans spans, size_t first)
{
	const struct span at = span_at(spans, first + blockIdx.z);
	const unsigned chunk = threadIdx.x % 8;
	const size_t s = (size_t)blockIdx.y * 16 + threadIdx.x / 8, j = (size_t)blockIdx.x * STAGE + chunk * 8;
	const float *from = g.p + s * g.ld + at.at + j;
	float v[8];
	uint4 to;

	if ((size_t)blockIdx.x * STAGE >= at.n)
		return;
	for (int i = 0; i < 8; i++)
		v[i] = s < n_samples && j + i < at.n ? from[i] : 0.0f;
	to.x = pack_bf16(v[0], v[1]);
	to.y = pack_bf16(v[2], v[3]);
	to.z = pack_bf16(v[4], v[5]);
	to.w = pack_bf16(v[6], v[7]);
	out[((blockIdx.z * (SPAN / STAGE) + blockIdx.x) * n_out + s) * 8 + (chunk ^ s % 8)] = to;
}

/*
 * Signs as the A operand of m16n8k16, whose rows are columns of R and whose inner index is the coordinate.  Lane
 * 4q + t takes columns 16q .. 16q+15 of 128: then all it needs of a coordinate is one half of one of Philox's words,
 * q's.  Two coordinates' halves in a register, and a shift and an and-xor make of them the register of a fragment:
 *
 *	tile i, row q        column 16q + 2i        bit 2i of each half     moved up to the sign of a bf16
 *	tile i, row q + 8    column 16q + 2i + 1    bit 2i + 1
 */
DF_DEVICE uint32_t
sign_pair(uint32_t halves, int bit)
{
	return ((halves << (15 - bit)) & 0x80008000u) ^ 0xbf80bf80u;
}

template <int N> struct tensor_shared {
	uint4 g[STAGES][8 * N * 8];
	/* halves[buffer][block of columns][16 coordinates][lane]: coordinates 2t, 2t+1 and 2t+8, 2t+9 */
	uint2 halves[2][2][STAGE / 16][32];
};

/*
 * Each of 128 threads makes the words of one coordinate and one block of columns; two neighbours join their halves.
 */
template <int N>
DF_DEVICE void
tensor_make(struct tensor_shared<N> &sh, const struct signs &signs, uint64_t j, unsigned buffer)
{
	const unsigned i = threadIdx.x % STAGE, block = threadIdx.x / STAGE % 2, odd = i % 2;
	const unsigned t = i % 8 / 2, above = i % 16 / 8;
	uint32_t *to = reinterpret_cast<uint32_t *>(sh.halves[buffer][block][i / 16]) + above;
	uint32_t w[4];

	sign_words(signs, j + i, 2 * blockIdx.x + block, w);
	for (unsigned n = 0; n < 4; n++) {
		const uint32_t other = shuffle_xor(w[n], 1);
		const uint32_t joined =
		    odd ? (w[n] & 0xffff0000u) | other >> 16 : (w[n] & 0x0000ffffu) | other << 16;

		to[2 * (4 * (2 * n + odd) + t)] = joined;
	}
}

template <int N>
DF_DEVICE void
tensor_fetch(struct tensor_shared<N> &sh, const uint4 *g, size_t n_samples, unsigned stage, unsigned n_stages)
{
	if (stage < n_stages) {
		g += stage * n_samples * 8;
		for (unsigned i = threadIdx.x; i < 8 * N * 8; i += blockDim.x)
			cp_async(&sh.g[stage % STAGES][i], g + i);
	}
	cp_async_commit();
}

/* Sums of 64 columns (tiles `half` * 4 + 0..3) and 8 N samples over 16 coordinates. */
template <int N>
DF_DEVICE void
tensor_step(float sum[4][N][4], const uint4 *g, uint2 halves, unsigned half, unsigned step)
{
	const unsigned lane = lane_id();
	uint32_t b[N][2];

#pragma unroll
	for (int n = 0; n < N; n += 2) {
		const unsigned s = 8 * n + lane / 16 * 8 + lane % 8, chunk = 2 * step + lane / 8 % 2;

		ldmatrix(b[n], g + s * 8 + (chunk ^ s % 8));
	}
	halves.x >>= 8 * half;
	halves.y >>= 8 * half;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		const uint32_t a[4] = { sign_pair(halves.x, 2 * i), sign_pair(halves.x, 2 * i + 1),
			sign_pair(halves.y, 2 * i), sign_pair(halves.y, 2 * i + 1) };

#pragma unroll
		for (int n = 0; n < N; n++)
			mma_bf16(sum[i][n], a, b[n]);
	}
}

/* part[z][s][c] = the sum over span first + z.  A block has 256 columns and 8 N samples, a warp 64 columns. */
template <int N>
DF_KERNEL(128)
tensor(float *part, size_t n_samples, size_t ld, const uint4 *g, size_t k, struct spans spans, size_t first,
    struct signs signs)
{
	DF_SHARED(struct tensor_shared<N>, sh);
	const struct span at = span_at(spans, first + blockIdx.z);
	const unsigned n_stages = (unsigned)((at.n + STAGE - 1) / STAGE);
	const unsigned lane = lane_id(), warp = threadIdx.x / 32, block = warp / 2, half = warp % 2;
	const size_t s0 = (size_t)blockIdx.y * 8 * N, c0 = (size_t)blockIdx.x * WIDE + block * COLUMNS;
	float sum[4][N][4] = { };

	g += (blockIdx.z * (SPAN / STAGE) * n_samples + s0) * 8;
	for (unsigned i = 0; i < STAGES - 1; i++)
		tensor_fetch(sh, g, n_samples, i, n_stages);
	tensor_make(sh, signs, at.at, 0);
	for (unsigned stage = 0; stage < n_stages; stage++) {
		cp_async_wait<STAGES - 2>();
		sync_block();
		tensor_fetch(sh, g, n_samples, stage + STAGES - 1, n_stages);
		if (stage + 1 < n_stages)
			tensor_make(sh, signs, at.at + (size_t)(stage + 1) * STAGE, (stage + 1) % 2);
		if (c0 >= k)
			continue;
#pragma unroll
		for (unsigned i = 0; i < STAGE / 16; i++)
			tensor_step<N>(sum, sh.g[stage % STAGES], sh.halves[stage % 2][block][i][lane], half, i);
	}
	/* Lane 4q + t has of tile i columns 16q + 2i, + 1 and of each 8 samples 2t, 2t + 1. */
	part += (blockIdx.z * n_samples + s0 + lane % 4 * 2) * ld + c0 + lane / 4 * 16 + half * 8;
#pragma unroll
	for (int n = 0; n < N; n++)
#pragma unroll
		for (int s = 0; s < 2; s++) {
			float4 *to = reinterpret_cast<float4 *>(part + (8 * n + s) * ld);

			to[0] = make_float4(sum[0][n][s], sum[0][n][2 + s], sum[1][n][s], sum[1][n][2 + s]);
			to[1] = make_float4(sum[2][n][s], sum[2][n][2 + s], sum[3][n][s], sum[3][n][2 + s]);
		}
}

/* ---- bf16 on sm_90a: two warpgroups ---------------------------------------------------------------------------- */

/*
 * The same sums as tensor<8>: 256 columns and 64 samples of a block, of which a warpgroup has 128 columns.  Warp w has
 * of its 128 columns, as rows of two products of 64, 16q + 4w ... 16q + 4w+3: bits 4w ... 4w+3 of the halves.  The two
 * take turns at making the next stage's signs while products are under way.
 */
DF_KERNEL(256)
tensor_wide(float *part, size_t n_samples, size_t ld, const uint4 *g, struct spans spans, size_t first,
    struct signs signs)
{
	DF_SHARED(struct tensor_shared<8>, sh);
	const struct span at = span_at(spans, first + blockIdx.z);
	const unsigned n_stages = (unsigned)((at.n + STAGE - 1) / STAGE);
	const unsigned lane = lane_id(), group = threadIdx.x / 128, warp = threadIdx.x / 32 % 4;
	const size_t s0 = (size_t)blockIdx.y * 64, c0 = (size_t)blockIdx.x * WIDE + group * COLUMNS;
	float sum[2][32] = { };

	g += (blockIdx.z * (SPAN / STAGE) * n_samples + s0) * 8;
	for (unsigned i = 0; i < STAGES - 1; i++)
		tensor_fetch(sh, g, n_samples, i, n_stages);
	if (group == 1)
		tensor_make(sh, signs, at.at, 0);
	for (unsigned stage = 0; stage < n_stages; stage++) {
		uint32_t a[STAGE / 16][2][4];

		cp_async_wait<STAGES - 2>();
		async_fence();
		sync_block();
		tensor_fetch(sh, g, n_samples, stage + STAGES - 1, n_stages);
#pragma unroll
		for (unsigned i = 0; i < STAGE / 16; i++) {
			const uint2 halves = sh.halves[stage % 2][group][i][lane];

#pragma unroll
			for (int t = 0; t < 2; t++) {
				a[i][t][0] = sign_pair(halves.x >> 4 * warp, 2 * t);
				a[i][t][1] = sign_pair(halves.x >> 4 * warp, 2 * t + 1);
				a[i][t][2] = sign_pair(halves.y >> 4 * warp, 2 * t);
				a[i][t][3] = sign_pair(halves.y >> 4 * warp, 2 * t + 1);
			}
		}
		wgmma_fence();
#pragma unroll
		for (unsigned i = 0; i < STAGE / 16; i++)
#pragma unroll
			for (int t = 0; t < 2; t++)
				wgmma_bf16(sum[t], a[i][t], swizzled_rows(&sh.g[stage % STAGES][2 * i]));
		wgmma_commit();
		if (stage + 1 < n_stages && group == stage % 2)
			tensor_make(sh, signs, at.at + (size_t)(stage + 1) * STAGE, (stage + 1) % 2);
		wgmma_wait<0>(sum[0]);
		wgmma_wait<0>(sum[1]);
	}
	part += (blockIdx.z * n_samples + s0 + lane % 4 * 2) * ld + c0 + lane / 4 * 16 + 4 * warp;
#pragma unroll
	for (int n = 0; n < 8; n++)
#pragma unroll
		for (int s = 0; s < 2; s++)
			*reinterpret_cast<float4 *>(part + (8 * n + s) * ld) =
			    make_float4(sum[0][4 * n + s], sum[0][4 * n + 2 + s], sum[1][4 * n + s],
			    sum[1][4 * n + 2 + s]);
}

/* ---- the host's side ------------------------------------------------------------------------------------------- */

constexpr size_t GROUP = 256; /* samples at a time, most: they bound the scratch memory */

/* A call, or some samples of it. */
struct job {
	struct df_backend *be;
	view<const float> g;
	view<float> y;
	size_t n_samples, k;
	struct spans spans;
	struct signs signs;
};

static size_t
round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

static rt_stream_t
stream_of(const struct job &a)
{
	return df_cuda_lane_of(a.be)->stream;
}

static void
launch_add(const struct job &a, const float *part, size_t n_parts, size_t n_rows, size_t ld)
{
	DF_LAUNCH(add_parts, dim(df_blocks_of(a.k, 256), a.n_samples), dim(256), 0, stream_of(a), a.y, a.k, part,
	    n_parts, n_rows * ld, ld);
}

template <int M>
static int
run_plain(const struct job &a, struct df_err *err)
{
	const size_t rows = round_up(a.n_samples, 8 * M), turned_rows = round_up(a.n_samples, 32);
	const size_t ld = round_up(a.k, COLUMNS), n_spans = span_count(a.spans);
	const size_t each = (rows * ld + RUN * turned_rows) * sizeof(float), most = span_batch(n_spans, each);
	void *scratch;
	int rc = df_cuda_scratch(a.be, &scratch, most * each, err);

	for (size_t z = 0; rc == DF_OK && z < n_spans; z += most) {
		const size_t n = n_spans - z < most ? n_spans - z : most;
		float *part = static_cast<float *>(scratch), *g = part + most * rows * ld;

		DF_LAUNCH(turn, dim(df_blocks_of(a.spans.longest, 32), turned_rows / 32, n), dim(256),
		    sizeof(struct turned), stream_of(a), g, turned_rows, a.g, a.n_samples, a.spans, z, 1.0f);
		DF_LAUNCH(plain<M>, dim(ld / COLUMNS, rows / (8 * M), n), dim(128), sizeof(struct plain_shared<M>),
		    stream_of(a), part, rows, ld, g, turned_rows, a.spans, z, a.signs);
		launch_add(a, part, n, rows, ld);
	}
	return rc;
}

#ifdef DF_WGMMA /* the plug-in has code for sm_90a */
constexpr bool HAS_WGMMA = true;
#else
constexpr bool HAS_WGMMA = false;
#endif

/* DF_CUDA_MMA=1 in the environment: do without, to compare. */
static bool
takes_wgmma(const struct df_backend *be)
{
	const struct rt_device *d = &df_cuda_lane_of(be)->dev->device;
	const char *env = getenv("DF_CUDA_MMA");

	return HAS_WGMMA && d->major == 9 && d->minor == 0 && !(env && *env == '1');
}

template <int N>
static int
run_tensor(const struct job &a, struct df_err *err)
{
	const size_t rows = round_up(a.n_samples, 8 * N), ld = round_up(a.k, WIDE), n_spans = span_count(a.spans);
	const size_t each = rows * (ld * sizeof(float) + SPAN * sizeof(uint16_t)), most = span_batch(n_spans, each);
	void *scratch;
	int rc = df_cuda_scratch(a.be, &scratch, most * each, err);

	for (size_t z = 0; rc == DF_OK && z < n_spans; z += most) {
		const size_t n = n_spans - z < most ? n_spans - z : most;
		float *part = static_cast<float *>(scratch);
		uint4 *g = reinterpret_cast<uint4 *>(part + most * rows * ld);

		DF_LAUNCH(pack, dim(df_blocks_of(a.spans.longest, STAGE), rows / 16, n), dim(128), 0, stream_of(a), g,
		    rows, a.g, a.n_samples, a.spans, z);
		if (N == 8 && takes_wgmma(a.be))
			DF_LAUNCH(tensor_wide, dim(ld / WIDE, rows / 64, n), dim(256), sizeof(struct tensor_shared<8>),
			    stream_of(a), part, rows, ld, g, a.spans, z, a.signs);
		else
			DF_LAUNCH(tensor<N>, dim(ld / WIDE, rows / (8 * N), n), dim(128),
			    sizeof(struct tensor_shared<N>), stream_of(a), part, rows, ld, g, a.k, a.spans, z, a.signs);
		launch_add(a, part, n, rows, ld);
	}
	return rc;
}

/* The number of a block's samples changes no bits. */
static int
run_group(const struct job &a, struct df_err *err)
{
	if (a.be->root->compute == DF_BF16)
		return a.n_samples <= 16 ? run_tensor<2>(a, err) : run_tensor<8>(a, err);
	return a.n_samples <= 8 ? run_plain<1>(a, err) : run_plain<8>(a, err);
}

int
df_cuda_project(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_project *a = static_cast<const struct df_project *>(args);
	const size_t span = be->root->compute == DF_BF16 ? SPAN : RUN;

	if (!a->g.rows || !a->g.cols || !a->y.cols)
		return DF_OK;
	if (a->type == DF_PROJ_SJLT)
		return df_cuda_sjlt(be, a, err);
	for (size_t s = 0; s < a->g.rows; s += GROUP) {
		const size_t n = a->g.rows - s < GROUP ? a->g.rows - s : GROUP;
		const struct job job = { be, view_of<const float>(df_tensor_rows(a->g, s, n)),
			view_of<float>(df_tensor_rows(a->y, s, n)), n, a->y.cols, spans_of(a, span),
			{ a->first, (uint32_t)a->seed, (uint32_t)(a->seed >> 32),
			    (uint32_t)DF_RNG_PROJECTION << 24 | a->model_id } };
		const int rc = run_group(job, err);

		if (rc != DF_OK)
			return rc;
	}
	return df_cuda_launched("project", err);
}
