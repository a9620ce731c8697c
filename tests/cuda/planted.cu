/*
 * planted.cu - kernels of test_emu.c: each right, and with one error.
 */
#include "planted.h"

#include <stdlib.h>

#include "backend/cuda/view.h"

#define N 128 /* threads of a block */
#define TILES 5

const char *const planted_name[N_PLANTED] = { "no barrier after partial sums", "shared array one short",
	"divergent barrier", "no barrier before a tile is overwritten", "no wait for cp_async",
	"no barrier before the next stage's cp_async", "two blocks write one element", "no sync_warp",
	"source of cp_async changed early", "global array one short", "global memory never written",
	"shuffle from a lane that ended", "lanes in two places", "a warp in two places", "barriers in two places",
	"ldmatrix not aligned", "ldmatrix of global memory", "cp_async not aligned", "mma_bf16 of half a warp",
	"shared struct too big", "no async_fence", "no wgmma_fence", "sums read before wgmma_wait",
	"operand of wgmma_bf16 changed early", "operand of wgmma_bf16 not aligned" };

/* ---- the seven of races, bounds and waits ------------------------------------------------------------------------ */

struct parts {
	float part[32];
};
/* y[t] = the sum of x, in every thread. */
DF_KERNEL(N)
sum(float *y, const float *x, bool error)
{
	DF_SHARED(parts, s);
	float v = warp_sum(x[threadIdx.x]);

	if (lane_id() == 0)
		s.part[threadIdx.x / 32] = v;
	if (!error)
		sync_block();
	v = 0;
	for (unsigned i = 0; i < N / 32; i++)
		v += s.part[i];
	y[threadIdx.x] = v;
}

/* y = x from back to front. */
DF_KERNEL(N)
reverse(float *y, const float *x)
{
	DF_SHARED(float, first);
	float *tile = &first;

	tile[threadIdx.x] = x[threadIdx.x];
	sync_block();
	y[threadIdx.x] = tile[N - 1 - threadIdx.x];
}

struct tile {
	alignas(16) float x[N];
};
DF_KERNEL(N)
divergent(float *y, const float *x, bool error)
{
	DF_SHARED(tile, s);

	s.x[threadIdx.x] = x[threadIdx.x];
	if (!error || threadIdx.x < 40)
		sync_block();
	y[threadIdx.x] = s.x[N - 1 - threadIdx.x];
}

/* y[t] = the sum of what lies opposite in the tiles of x [TILES,N]. */
DF_KERNEL(N)
tiles(float *y, const float *x, bool error)
{
	DF_SHARED(tile, s);
	float v = 0;

	for (unsigned i = 0; i < TILES; i++) {
		s.x[threadIdx.x] = x[i * N + threadIdx.x];
		sync_block();
		v += s.x[N - 1 - threadIdx.x];
		if (!error)
			sync_block();
	}
	y[threadIdx.x] = v;
}

/* The same, of one tile, with a copy that runs beside. */
DF_KERNEL(N)
one_copy(float *y, const float *x, bool error)
{
	DF_SHARED(tile, s);

	if (threadIdx.x < N / 4)
		cp_async(&s.x[4 * threadIdx.x], &x[4 * threadIdx.x]);
	cp_async_commit();
	if (!error)
		cp_async_wait<0>();
	sync_block();
	y[threadIdx.x] = s.x[N - 1 - threadIdx.x];
}

struct two_tiles {
	alignas(16) float x[2][N];
};
DF_DEVICE void
begin_copy(two_tiles &s, const float *x, unsigned i)
{
	if (i < TILES && threadIdx.x < N / 4)
		cp_async(&s.x[i % 2][4 * threadIdx.x], &x[i * N + 4 * threadIdx.x]);
	cp_async_commit();
}
/* tiles() with two buffers: the next tile comes while this one is used. */
DF_KERNEL(N)
stages(float *y, const float *x, bool error)
{
	DF_SHARED(two_tiles, s);
	float v = 0;

	begin_copy(s, x, 0);
	for (unsigned i = 0; i < TILES; i++) {
		begin_copy(s, x, i + 1);
		cp_async_wait<1>();
		sync_block();
		v += s.x[i % 2][N - 1 - threadIdx.x];
		if (!error)
			sync_block();
	}
	y[threadIdx.x] = v;
}

/* Block b writes y[b]; with the error, two blocks the same, each from another thread. */
DF_KERNEL(N)
elements(float *y, bool error)
{
	if (threadIdx.x == blockIdx.x)
		y[error ? blockIdx.x / 2 : blockIdx.x] = (float)blockIdx.x;
}

/* ---- others ------------------------------------------------------------------------------------------------------ */

/* y[t] = x[t ^ 1], through shared memory. */
DF_KERNEL(N)
neighbours(float *y, const float *x, bool error)
{
	DF_SHARED(tile, s);

	s.x[threadIdx.x] = x[threadIdx.x];
	if (!error)
		sync_warp();
	y[threadIdx.x] = s.x[threadIdx.x ^ 1];
}

/* y = x reversed and x = 0, by a copy of x that runs beside. */
DF_KERNEL(N)
move(float *y, float *x, bool error)
{
	DF_SHARED(tile, s);

	if (threadIdx.x < N / 4)
		cp_async(&s.x[4 * threadIdx.x], &x[4 * threadIdx.x]);
	cp_async_commit();
	if (error && threadIdx.x < N / 4)
		*reinterpret_cast<float4 *>(&x[4 * threadIdx.x]) = make_float4(0, 0, 0, 0);
	cp_async_wait<0>();
	sync_block();
	y[threadIdx.x] = s.x[N - 1 - threadIdx.x];
	x[threadIdx.x] = 0;
}

DF_KERNEL(N)
shift(float *y, const float *x, bool error)
{
	const size_t i = threadIdx.x + (error ? 1 : 0);

	y[i] = x[i];
}

/* y[t] = the sum of x over t's warp. */
DF_KERNEL(N)
warp_sums(float *y, const float *x, bool error)
{
	if (error && threadIdx.x % 32 == 7)
		return;
	y[threadIdx.x] = warp_sum(x[threadIdx.x]);
}

DF_KERNEL(N)
two_shuffles(float *y, const float *x, bool error)
{
	if (error && threadIdx.x % 32 < 16)
		y[threadIdx.x] = shuffle_xor(x[threadIdx.x], 1);
	else
		y[threadIdx.x] = shuffle_xor(x[threadIdx.x], 1);
}

DF_KERNEL(N)
shuffle_or_barrier(float *y, const float *x, bool error)
{
	if (error && threadIdx.x % 32 < 16)
		sync_block();
	y[threadIdx.x] = shuffle_xor(x[threadIdx.x], 1);
}

DF_KERNEL(N)
two_barriers(float *y, const float *x, bool error)
{
	DF_SHARED(tile, s);

	s.x[threadIdx.x] = x[threadIdx.x];
	if (error && threadIdx.x < 32)
		sync_block();
	else
		sync_block();
	y[threadIdx.x] = s.x[N - 1 - threadIdx.x];
}

struct matrices {
	alignas(16) uint16_t x[4][8][8];
};
enum matrix_fault { RIGHT, NOT_ALIGNED, NOT_SHARED };
/* y[i] = x[i], i < 256, one warp: through four 8x8 matrices of 16-bit elements. */
DF_KERNEL(32)
load_matrices(uint16_t *y, const uint16_t *x, enum matrix_fault fault)
{
	DF_SHARED(matrices, s);
	const unsigned lane = lane_id(), g = lane / 4, t = lane % 4 * 2;
	uint16_t *all = &s.x[0][0][0];
	uint32_t r[4];

	for (unsigned i = lane; i < 256; i += 32)
		all[i] = x[i];
	sync_warp();
	ldmatrix(r, fault == NOT_SHARED ? &x[8 * lane] : all + 8 * lane + (fault == NOT_ALIGNED && lane == 5));
	for (unsigned i = 0; i < 4; i++) {
		y[i * 64 + g * 8 + t] = (uint16_t)r[i];
		y[i * 64 + g * 8 + t + 1] = (uint16_t)(r[i] >> 16);
	}
}

DF_KERNEL(N)
odd_copy(float *y, const float *x, bool error)
{
	DF_SHARED(tile, s);

	if (threadIdx.x < N / 4)
		cp_async(&s.x[4 * threadIdx.x], &x[4 * threadIdx.x + (error && threadIdx.x == 3)]);
	cp_async_commit();
	cp_async_wait<0>();
	sync_block();
	y[threadIdx.x] = s.x[N - 1 - threadIdx.x];
}

/* y[t] = d of the product of ones. */
DF_KERNEL(N)
ones(float *y, bool error)
{
	const uint32_t one = pack_bf16(1, 1), a[4] = { one, one, one, one }, b[2] = { one, one };
	float d[4] = { 0, 0, 0, 0 };

	if (error && threadIdx.x % 32 >= 16)
		return;
	mma_bf16(d, a, b);
	y[threadIdx.x] = d[0] + d[1] + d[2] + d[3];
}

/* ---- running them ------------------------------------------------------------------------------------------------ */

/*
 * y[t] = the sum of thread t's part of a b^T: a [64,16] small numbers, b [64,16], column by column, half of them x:
 * floats whose lower halves are zero.
 */
struct columns {
	alignas(1024) uint4 chunk[72 * 8];
};
DF_BOTH float
small_number(unsigned row, unsigned k)
{
	return (float)((row + k) % 3);
}
DF_KERNEL(N)
warpgroup(float *y, const float *x, enum planted what, bool error)
{
	DF_SHARED(columns, s);
	const unsigned t = threadIdx.x, column = t / 2, first = what == OPERAND_NOT_AT_1024 && error ? 8 : 0;
	const unsigned row = t / 32 * 16 + t % 32 / 4, k = t % 4 * 2;
	float sum[32] = {}, early = 0, v = 0;
	uint32_t a[4];

	for (unsigned i = 0; i < 4; i++) {
		const unsigned r = row + i % 2 * 8, c = k + i / 2 * 8;

		a[i] = pack_bf16(small_number(r, c), small_number(r, c + 1));
	}
	cp_async(&s.chunk[first + column * 8 + (t % 2 ^ column % 8)], x + 4 * t);
	cp_async_commit();
	cp_async_wait<0>();
	if (!(what == NO_ASYNC_FENCE && error))
		async_fence();
	sync_block();
	if (!(what == NO_WGMMA_FENCE && error))
		wgmma_fence();
	wgmma_bf16(sum, a, swizzled_rows(&s.chunk[first]));
	wgmma_commit();
	for (unsigned i = 0; i < 32; i++)
		early += sum[i];
	if (what == OPERAND_CHANGED_EARLY && error)
		s.chunk[column * 8 + (t % 2 ^ column % 8)] = { 0, 0, 0, 0 };
	wgmma_wait<0>(sum);
	for (unsigned i = 0; i < 32; i++)
		v += sum[i];
	y[t] = what == SUMS_READ_EARLY && error ? early : v;
}

struct job {
	float *x, *y;               /* on the device: [TILES,N] and [N] */
	float in[TILES * N], out[N]; /* the host's */
	uint16_t *half;             /* 16-bit elements on the device [256] */
	rt_stream_t s;
};

static float
want(enum planted what, const struct job *j, size_t i)
{
	float v = 0;

	switch (what) {
	case NO_BARRIER_AFTER_PARTS:
		for (size_t k = 0; k < N; k++)
			v += j->in[k];
		return v;
	case NO_BARRIER_BEFORE_OVERWRITE:
	case NO_BARRIER_BEFORE_STAGE:
		for (size_t k = 0; k < TILES; k++)
			v += j->in[k * N + N - 1 - i];
		return v;
	case BLOCKS_WRITE_ONE_ELEMENT:
		return (float)i;
	case NO_SYNC_WARP:
	case LANES_IN_TWO_PLACES:
	case WARP_IN_TWO_PLACES:
		return j->in[i ^ 1];
	case GLOBAL_ARRAY_ONE_SHORT:
	case MATRIX_NOT_ALIGNED:
	case MATRIX_NOT_SHARED:
		return j->in[i];
	case NEVER_WRITTEN:
		return j->in[i] + 1;
	case ENDED_LANE:
		for (size_t k = 0; k < 32; k++)
			v += j->in[i / 32 * 32 + k];
		return v;
	case PRODUCT_OF_HALF_A_WARP:
		return 64;
	case NO_ASYNC_FENCE:
	case NO_WGMMA_FENCE:
	case SUMS_READ_EARLY:
	case OPERAND_CHANGED_EARLY:
	case OPERAND_NOT_AT_1024:
		for (size_t n = 0; n < 32; n++) {
			const unsigned row = (unsigned)(i / 32 * 16 + i % 32 / 4 + n / 16 * 8);
			const size_t column = n % 16 / 2 * 8 + i % 4 * 2 + n % 2;

			for (unsigned m = 0; m < 8; m++)
				v += small_number(row, 2 * m + 1) * j->in[8 * column + m];
		}
		return v;
	default:
		return j->in[N - 1 - i];
	}
}

static void
launch(enum planted what, bool error, const struct job *j)
{
	float *x = j->x, *y = j->y;
	const dim3 one = dim(1), block = dim(N);

	switch (what) {
	case NO_BARRIER_AFTER_PARTS:
		DF_LAUNCH(sum, one, block, sizeof(parts), j->s, y, x, error);
		break;
	case SHARED_ARRAY_ONE_SHORT:
		DF_LAUNCH(reverse, one, block, (N - error) * sizeof(float), j->s, y, x);
		break;
	case DIVERGENT_BARRIER:
		DF_LAUNCH(divergent, one, block, sizeof(tile), j->s, y, x, error);
		break;
	case NO_BARRIER_BEFORE_OVERWRITE:
		DF_LAUNCH(tiles, one, block, sizeof(tile), j->s, y, x, error);
		break;
	case NO_ASYNC_WAIT:
		DF_LAUNCH(one_copy, one, block, sizeof(tile), j->s, y, x, error);
		break;
	case NO_BARRIER_BEFORE_STAGE:
		DF_LAUNCH(stages, one, block, sizeof(two_tiles), j->s, y, x, error);
		break;
	case BLOCKS_WRITE_ONE_ELEMENT:
		DF_LAUNCH(elements, dim(N), block, 0, j->s, y, error);
		break;
	case NO_SYNC_WARP:
		DF_LAUNCH(neighbours, one, block, sizeof(tile), j->s, y, x, error);
		break;
	case SOURCE_CHANGED_EARLY:
		DF_LAUNCH(move, one, block, sizeof(tile), j->s, y, x, error);
		break;
	case GLOBAL_ARRAY_ONE_SHORT:
		DF_LAUNCH(shift, one, block, 0, j->s, y, x, error);
		break;
	case NEVER_WRITTEN:
		planted_add1(y, x, N, j->s);
		break;
	case ENDED_LANE:
		DF_LAUNCH(warp_sums, one, block, 0, j->s, y, x, error);
		break;
	case LANES_IN_TWO_PLACES:
		DF_LAUNCH(two_shuffles, one, block, 0, j->s, y, x, error);
		break;
	case WARP_IN_TWO_PLACES:
		DF_LAUNCH(shuffle_or_barrier, one, block, 0, j->s, y, x, error);
		break;
	case BARRIERS_IN_TWO_PLACES:
		DF_LAUNCH(two_barriers, one, block, sizeof(tile), j->s, y, x, error);
		break;
	case MATRIX_NOT_ALIGNED:
	case MATRIX_NOT_SHARED:
		DF_LAUNCH(load_matrices, one, dim(32), sizeof(matrices), j->s, (uint16_t *)y, (const uint16_t *)x,
		    !error ? RIGHT : what == MATRIX_NOT_SHARED ? NOT_SHARED : NOT_ALIGNED);
		break;
	case COPY_NOT_ALIGNED:
		DF_LAUNCH(odd_copy, one, block, sizeof(tile), j->s, y, x, error);
		break;
	case PRODUCT_OF_HALF_A_WARP:
		DF_LAUNCH(ones, one, block, 0, j->s, y, error);
		break;
	case SHARED_STRUCT_TOO_BIG:
		DF_LAUNCH(divergent, one, block, error ? N : sizeof(tile), j->s, y, x, false);
		break;
	case NO_ASYNC_FENCE:
	case NO_WGMMA_FENCE:
	case SUMS_READ_EARLY:
	case OPERAND_CHANGED_EARLY:
	case OPERAND_NOT_AT_1024:
		DF_LAUNCH(warpgroup, one, block, sizeof(columns), j->s, y, x, what, error);
		break;
	case N_PLANTED:
		break;
	}
}

int
planted_run(enum planted what, bool error, bool *right, struct df_err *err)
{
	struct job j = {};
	int rc = DF_OK;

	for (size_t i = 0; i < TILES * N; i++)
		j.in[i] = (float)(i * 37 % 101);
	DF_TRY(rt_stream_new(&j.s, err));
	DF_TRY(rt_malloc((void **)&j.x, sizeof(j.in), err));
	DF_TRY(rt_malloc((void **)&j.y, sizeof(j.out), err));
	if (!(what == NEVER_WRITTEN && error))
		DF_TRY(rt_to_device(j.x, sizeof(j.in), j.in, sizeof(j.in), sizeof(j.in), 1, j.s, err));
	launch(what, error, &j);
	DF_TRY(rt_to_host(j.out, sizeof(j.out), j.y, sizeof(j.out), sizeof(j.out), 1, j.s, err));
	*right = true;
	for (size_t i = 0; i < N; i++)
		*right = *right && j.out[i] == want(what, &j, i);
out:
	rt_free(j.x);
	rt_free(j.y);
	rt_stream_free(j.s);
	return rc;
}

/* ---- what is right ----------------------------------------------------------------------------------------------- */

struct product {
	alignas(16) uint16_t a[16][16], b[16][8], zero[8];
};
DF_KERNEL(32)
product_kernel(float *d, const uint16_t *a, const uint16_t *b)
{
	DF_SHARED(product, s);
	const unsigned lane = lane_id(), i = lane / 8, j = lane % 8, g = lane / 4, t = lane % 4 * 2;
	uint32_t x[4], y[4];
	float sum[4] = { 0, 0, 0, 0 };

	cp_async(&s.a[lane / 2][lane % 2 * 8], a + lane * 8);
	if (lane < 17)
		cp_async(lane < 16 ? &s.b[lane][0] : s.zero, lane < 16 ? b + lane * 8 : NULL, lane < 16);
	cp_async_commit();
	cp_async_wait<0>();
	sync_warp();
	sum[0] = s.zero[0]; /* and not NaN's bits */
	ldmatrix(x, &s.a[i % 2 * 8 + j][i / 2 * 8]);
	ldmatrix_transposed(y, &s.b[i % 2 * 8 + j][0]);
	mma_bf16(sum, x, y);
	d[g * 8 + t] = sum[0];
	d[g * 8 + t + 1] = sum[1];
	d[(g + 8) * 8 + t] = sum[2];
	d[(g + 8) * 8 + t + 1] = sum[3];
}

void
planted_product(float *d, const uint16_t *a, const uint16_t *b, rt_stream_t s)
{
	DF_LAUNCH(product_kernel, dim(1), dim(32), sizeof(product), s, d, a, b);
}

DF_KERNEL(N)
add1(float *y, const float *x, size_t n)
{
	const size_t i = (size_t)blockIdx.x * N + threadIdx.x;

	if (i < n)
		y[i] = x[i] + 1;
}

void
planted_add1(float *y, const float *x, size_t n, rt_stream_t s)
{
	DF_LAUNCH(add1, dim(df_blocks_of(n, N)), dim(N), 0, s, y, x, n);
}

DF_KERNEL(1024)
nothing(void)
{
}

void
planted_size(size_t blocks, size_t threads, size_t shared_bytes, rt_stream_t s)
{
	DF_LAUNCH(nothing, dim(blocks), dim(threads), shared_bytes, s);
}

DF_KERNEL(1024)
sums(float *y, const float *x)
{
	DF_SHARED(parts, s);
	const float v = block_sum(x[(size_t)blockIdx.x * blockDim.x + threadIdx.x], s.part);

	if (threadIdx.x == 0)
		y[blockIdx.x] = v;
}

void
planted_sums(float *y, const float *x, size_t blocks, size_t threads, rt_stream_t s)
{
	DF_LAUNCH(sums, dim(blocks), dim(threads), sizeof(parts), s, y, x);
}

DF_KERNEL(N)
round_kernel(uint16_t *bf16, uint16_t *f16, const float *x, size_t n)
{
	const size_t i = (size_t)blockIdx.x * N + threadIdx.x;

	if (i >= n)
		return;
	bf16[i] = bf16_of(x[i]);
	f16[i] = f16_of(x[i]);
}

void
planted_round(uint16_t *bf16, uint16_t *f16, const float *x, size_t n, rt_stream_t s)
{
	DF_LAUNCH(round_kernel, dim(df_blocks_of(n, N)), dim(N), 0, s, bf16, f16, x, n);
}
