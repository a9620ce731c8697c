/*
 * attn_mma.h - attention in bf16: a warp has tiles of 16 rows, which tensor cores multiply with tiles of others.
 *
 * Others come to shared memory in two stages: while one is used, the next is on its way.  Rows there lie E + 8 elements
 * apart, an odd number of 16 bytes, so that ldmatrix meets all banks.  A lane 4g + t has of a tile of 16 rows the rows
 * g and g + 8, and of every 8 columns 2t and 2t + 1 (simt.h); scores become the left side of the next product where
 * they are.  P and dS are rounded to bf16 for that; their sums are not.
 */
#ifndef DF_BACKEND_CUDA_ATTN_MMA_H
#define DF_BACKEND_CUDA_ATTN_MMA_H

#include "backend/cuda/attn.h"

static const float LOG2_E = 1.44269504f, LN_2 = 0.693147181f;

/* ---- products of a warp ------------------------------------------------------------------------------------------ */

/* The left side of a step of 16: 16 rows and columns of shared memory. */
DF_DEVICE void
tensor_left(uint32_t a[4], const bf16 *p, int ld)
{
	ldmatrix(a, p + lane_id() % 16 * ld + lane_id() / 16 * 8);
}
/* The same from scores: columns [16 step, 16 step + 16) of a tile of 16 rows. */
DF_DEVICE void
tensor_left_of(uint32_t a[4], const float (*s)[4], int step)
{
	for (int i = 0; i < 4; i++)
		a[i] = pack_bf16(s[2 * step + i / 2][i % 2 * 2], s[2 * step + i / 2][i % 2 * 2 + 1]);
}
/* acc[m] += a[m] b^T over a step of 16: b has N rows and the step's 16 columns. */
template <int M, int N>
DF_DEVICE void
tensor_rows(float (*acc)[N / 8][4], const uint32_t (*a)[4], const bf16 *b, int ld)
{
	b += (lane_id() / 16 * 8 + lane_id() % 8) * ld + lane_id() / 8 % 2 * 8;
#pragma unroll
	for (int n = 0; n < N; n += 16) {
		uint32_t right[4];

		ldmatrix(right, b + n * ld);
#pragma unroll
		for (int m = 0; m < M; m++) {
			mma_bf16(acc[m][n / 8], a[m], right);
			mma_bf16(acc[m][n / 8 + 1], a[m], right + 2);
		}
	}
}
/* acc[m] += a[m] b over a step of 16: b has the step's 16 rows and N columns. */
template <int M, int N>
DF_DEVICE void
tensor_columns(float (*acc)[N / 8][4], const uint32_t (*a)[4], const bf16 *b, int ld)
{
	b += lane_id() % 16 * ld + lane_id() / 16 * 8;
#pragma unroll
	for (int n = 0; n < N; n += 16) {
		uint32_t right[4];

		ldmatrix_transposed(right, b + n);
#pragma unroll
		for (int m = 0; m < M; m++) {
			mma_bf16(acc[m][n / 8], a[m], right);
			mma_bf16(acc[m][n / 8 + 1], a[m], right + 2);
		}
	}
}

/* ---- rows to memory ---------------------------------------------------------------------------------------------- */

/* factor[m][i] acc of a warp's rows g + 8 i of tile m, rounded, to shared memory that no other warp uses. */
template <int M, int N>
DF_DEVICE void
tensor_put(bf16 *to, int ld, const float (*acc)[N / 8][4], const float (*factor)[2])
{
	to += lane_id() / 4 * ld + lane_id() % 4 * 2;
	sync_warp();
#pragma unroll
	for (int m = 0; m < M; m++)
#pragma unroll
		for (int n = 0; n < N / 8; n++)
#pragma unroll
			for (int i = 0; i < 2; i++)
				*reinterpret_cast<uint32_t *>(to + (16 * m + 8 * i) * ld + 8 * n) =
				    pack_bf16(factor[m][i] * acc[m][n][2 * i], factor[m][i] * acc[m][n][2 * i + 1]);
	sync_warp();
}
struct alignas(16) eight {
	bf16 v[8];
};
/* ROWS x COLS of shared memory to a matrix whose windows have n rows and e columns, by one warp. */
template <int ROWS, int COLS>
DF_DEVICE void
tensor_store(bf16 *to, size_t ld_to, const bf16 *from, int ld, uint32_t n, uint32_t e, bool vector)
{
	for (unsigned i = lane_id(); i < ROWS * COLS / 8; i += 32) {
		const unsigned r = i / (COLS / 8), c = i % (COLS / 8) * 8;
		const eight x = *reinterpret_cast<const eight *>(from + r * ld + c);
		bf16 *y = to + r * ld_to + c;

		if (r >= n)
			break;
		if (vector && c < e)
			*reinterpret_cast<eight *>(y) = x;
		else
			for (unsigned j = 0; j < 8 && c + j < e; j++)
				y[j] = x.v[j];
	}
}

/* ---- queries on their way along the keys ------------------------------------------------------------------------- */

/* M tiles of 16 queries, COLS of their columns.  m in powers of two; l is the lane's part, l_total() all of it. */
template <int M, int COLS> struct tensor_queries {
	float o[M][COLS / 8][4], m[M][2], l[M][2];
};
template <int M, int COLS>
DF_DEVICE void
tensor_start(tensor_queries<M, COLS> &x)
{
#pragma unroll
	for (int m = 0; m < M; m++) {
#pragma unroll
		for (int i = 0; i < 2; i++) {
			x.m[m][i] = -INFINITY;
			x.l[m][i] = 0;
		}
#pragma unroll
		for (int n = 0; n < COLS / 8; n++)
#pragma unroll
			for (int i = 0; i < 4; i++)
				x.o[m][n][i] = 0;
	}
}
DF_DEVICE float
l_total(float l)
{
	l += shuffle_xor(l, 1);
	return l + shuffle_xor(l, 2);
}

/* The queries of a warp: row r of its tiles is number first + r step; a sample has `len`. */
struct tensor_place {
	uint32_t first, step, len;
};
/* Do all of n queries see all of the keys [k0, k0 + keys)? */
DF_DEVICE bool
sees_all(const attn_shape &a, const tensor_place &at, uint32_t n, uint32_t k0, uint32_t keys)
{
	const uint32_t last = at.first + (n - 1) * at.step, end = k0 + keys;

	return a.bidirectional ? end <= at.len : end <= at.first + 1 && (!a.window || k0 + a.window > last);
}

/* Scores that no query of a warp sees become -INFINITY. */
template <int M, int KEYS>
DF_DEVICE void
tensor_mask(float (*s)[KEYS / 8][4], const attn_shape &a, const tensor_place &at, uint32_t k0)
{
	const uint32_t query = at.first + lane_id() / 4 * at.step, key = k0 + lane_id() % 4 * 2;

#pragma unroll
	for (int m = 0; m < M; m++)
#pragma unroll
		for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
			for (int i = 0; i < 4; i++)
				if (!is_visible(a, query + (16 * m + i / 2 * 8) * at.step, key + 8 * n + i % 2, at.len))
					s[m][n][i] = -INFINITY;
}
/* Scores s to probabilities before their division; m and l brought up to date, and o shrunk to the new m. */
template <int M, int KEYS, int COLS>
DF_DEVICE void
tensor_softmax(tensor_queries<M, COLS> &x, float (*s)[KEYS / 8][4], const attn_shape &a, const tensor_place &at,
    uint32_t k0)
{
	const float scale = a.scale * LOG2_E;

#pragma unroll
	for (int m = 0; m < M; m++)
#pragma unroll
		for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
			for (int i = 0; i < 4; i++)
				s[m][n][i] *= scale;
	if (!sees_all(a, at, 16 * M, k0, KEYS))
		tensor_mask<M, KEYS>(s, a, at, k0);
#pragma unroll
	for (int m = 0; m < M; m++)
#pragma unroll
		for (int i = 0; i < 2; i++) {
			float max = x.m[m][i], sum = 0;

#pragma unroll
			for (int n = 0; n < KEYS / 8; n++)
				max = fmaxf(max, fmaxf(s[m][n][2 * i], s[m][n][2 * i + 1]));
			max = fmaxf(max, shuffle_xor(max, 1));
			max = fmaxf(max, shuffle_xor(max, 2));
			const float base = max == -INFINITY ? 0.0f : max, shrink = fast_exp2(x.m[m][i] - base);

#pragma unroll
			for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
				for (int j = 2 * i; j < 2 * i + 2; j++) {
					s[m][n][j] = fast_exp2(s[m][n][j] - base);
					sum += s[m][n][j];
				}
			x.l[m][i] = fmaf(x.l[m][i], shrink, sum);
			x.m[m][i] = max;
#pragma unroll
			for (int n = 0; n < COLS / 8; n++) {
				x.o[m][n][2 * i] *= shrink;
				x.o[m][n][2 * i + 1] *= shrink;
			}
		}
}
/*
 * The next KEYS keys, from number k0 on: k and v have their rows, E + 8 apart, v from the first of the COLS columns on.
 * left(a, c): columns [16 c, 16 c + 16) of the warp's queries.
 */
template <int M, int KEYS, int E, int COLS, class Left>
DF_DEVICE void
tensor_attend(tensor_queries<M, COLS> &x, Left left, const bf16 *k, const bf16 *v, const attn_shape &a,
    const tensor_place &at, uint32_t k0)
{
	float s[M][KEYS / 8][4] = {};

#pragma unroll
	for (int c = 0; c < E / 16; c++) {
		uint32_t q[M][4];

		left(q, c);
		tensor_rows<M, KEYS>(s, q, k + 16 * c, E + 8);
	}
	tensor_softmax<M, KEYS, COLS>(x, s, a, at, k0);
#pragma unroll
	for (int c = 0; c < KEYS / 16; c++) {
		uint32_t p[M][4];

#pragma unroll
		for (int m = 0; m < M; m++)
			tensor_left_of(p[m], s[m], c);
		tensor_columns<M, COLS>(x.o, p, v + 16 * c * (E + 8), E + 8);
	}
}

/* Keys that are looked at together; decoding has the forward's, as sums are shrunk once for each of these tiles. */
template <int E> struct tensor {
	enum { KEYS = E > 128 ? 32 : 64, LD = E + 8 };
};
template <class F>
static inline void
with_tensor_width(size_t e, F f)
{
	if (e <= 32)
		f(number<32>());
	else if (e <= 64)
		f(number<64>());
	else if (e <= 96)
		f(number<96>());
	else if (e <= 128)
		f(number<128>());
	else
		f(number<256>());
}

#endif
