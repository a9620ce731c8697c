/*
 * attn.h - what the kernels of attention share: who sees whom, tiles of a ragged batch, and the two arithmetics.
 *
 *                 keys, a tile at a time
 *               +------+------+---
 *   queries of  |######|######|##\         Scores live in registers, a tile at a time.  Going right along the keys,
 *   a block     |######|######|###\        each query keeps its maximum m and sum l; when m grows, what was summed
 *               +------+------+----        shrinks by exp(old m - new m).
 *
 * Milakov & Gimelshein 2018, Dao et al. 2022.  Tiles count from the sample's start, so that a query's sums have the same
 * order in every batch, and in decoding, too.  float32 activations are multiplied in float32 (scalar_...), bf16 ones by
 * tensor cores with sums in float32 (tensor_...).  A head's width is padded with zeros to that of the next template.
 */
#ifndef DF_BACKEND_CUDA_ATTN_H
#define DF_BACKEND_CUDA_ATTN_H

#include "backend/cuda/view.h"

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

struct attn_shape {
	const uint32_t *offsets;
	uint32_t n_samples, n_heads, n_kv_heads, e, window;
	float scale;
	bool bidirectional;
	bool vector; /* 16 bytes of every row of a head can be moved at once */
};

enum { ATTN_MAX_WIDTH = 256 };

/* Can 16 bytes of the rows of one head be moved at once? */
static inline bool
attn_is_vector(const struct df_tensor &t, size_t e)
{
	const size_t size = df_dtype_size(t.type);

	return ((uintptr_t)t.mem->data + t.off * size) % 16 == 0 && t.ld * size % 16 == 0 && e * size % 16 == 0;
}
static inline int
attn_shape_of(attn_shape &s, const char *op, const struct df_attn *a, struct df_err *err)
{
	const size_t e = a->q.cols / a->n_heads;

	if (e > ATTN_MAX_WIDTH)
		return df_fail(err, DF_EUNSUPPORTED, "%s: heads of %zu elements; this device takes at most %d", op, e,
		    ATTN_MAX_WIDTH);
	s.offsets = a->offsets.mem ? u32_of(a->offsets) : NULL;
	s.n_samples = a->offsets.mem ? (uint32_t)a->offsets.cols - 1 : 0;
	s.n_heads = (uint32_t)a->n_heads;
	s.n_kv_heads = (uint32_t)a->n_kv_heads;
	s.e = (uint32_t)e;
	s.window = a->window < a->k.rows ? (uint32_t)a->window : 0; /* a longer one hides nothing */
	s.scale = a->scale;
	s.bidirectional = a->bidirectional;
	s.vector = attn_is_vector(a->q, s.e) && attn_is_vector(a->k, s.e) && attn_is_vector(a->v, s.e);
	return DF_OK;
}

/* Rows [first, first + ...) of a sample that has the rows [t0, t0 + len) of the batch. */
struct attn_tile {
	uint32_t t0, len, first;
};

/* Tiles of `each` rows: a grid of this size has a number for all that there can be in n_samples of together n rows. */
static inline size_t
attn_n_tiles(size_t n, size_t n_samples, size_t each)
{
	return n / each + n_samples;
}

/*
 * Tile `index`, or false if there is none of this number.  Sample s has the numbers from offsets[s] / each + s on: as
 * many as its tiles, or one more.
 */
DF_DEVICE bool
find_tile(attn_tile &t, const uint32_t *offsets, uint32_t n_samples, uint32_t index, uint32_t each)
{
	uint32_t lo = 0, hi = n_samples;

	while (hi - lo > 1) {
		const uint32_t mid = lo + (hi - lo) / 2;

		if (offsets[mid] / each + mid <= index)
			lo = mid;
		else
			hi = mid;
	}
	t.t0 = offsets[lo];
	t.len = offsets[lo + 1] - t.t0;
	t.first = (index - t.t0 / each - lo) * each;
	return t.first < t.len;
}

/* Does a query see a key?  Both are numbers within a sample of `len` rows. */
DF_DEVICE bool
is_visible(const attn_shape &a, uint32_t query, uint32_t key, uint32_t len)
{
	return a.bidirectional ? key < len : key <= query && (!a.window || key + a.window > query);
}
/* The keys [lo, hi) that the queries [first, first + n) see some of; lo is rounded down to a tile's first. */
DF_DEVICE void
keys_of(const attn_shape &a, uint32_t first, uint32_t n, uint32_t len, uint32_t tile, uint32_t *lo, uint32_t *hi)
{
	*lo = a.window && first + 1 > a.window ? (first + 1 - a.window) / tile * tile : 0;
	*hi = a.bidirectional || len - first < n ? len : first + n;
}
/* One more than the last query that sees some of the keys [first, first + n); the first is `first`. */
DF_DEVICE uint32_t
queries_end(const attn_shape &a, uint32_t first, uint32_t n, uint32_t len)
{
	return a.window && a.window < len && len - a.window > first + n - 1 ? first + n - 1 + a.window : len;
}

/*
 * A tile of ROWS x E in shared memory, rows LD apart: `n` rows of e elements, the rest zeros.  All threads of the block
 * come.  With `vector` it is under way until this thread's cp_async_commit() and cp_async_wait(); then sync_block().
 */
template <int ROWS, int E, int LD, class T>
DF_DEVICE void
load_tile(T *to, const T *from, size_t ld, uint32_t n, const attn_shape &a)
{
	enum { EACH = 16 / sizeof(T), CHUNKS = E / EACH };

	for (unsigned i = threadIdx.x; i < ROWS * CHUNKS; i += blockDim.x) {
		const unsigned r = i / CHUNKS, c = i % CHUNKS * EACH;
		const T *x = from + r * ld + c;
		T *y = to + r * LD + c;

		if (a.vector) {
			const bool there = r < n && c < a.e;

			cp_async(y, there ? x : from, there);
		} else {
			for (unsigned j = 0; j < EACH; j++)
				y[j] = r < n && c + j < a.e ? x[j] : T();
		}
	}
}

/* ---- float32: a warp has R rows, a lane one of 32 others --------------------------------------------------------- */

struct alignas(16) four {
	float v[4];
};
DF_DEVICE four load_four(const float *p) { return *reinterpret_cast<const four *>(p); }

/*
 * Rows of a warp and of a block of four warps, others of a tile and their stride: a lane reads its own of the others,
 * so they lie 4 banks apart.
 */
template <int E> struct scalar {
	enum { R = E > 128 ? 4 : 8, ROWS = 4 * R, OTHERS = 32, LD = E + 4, COLS = E / 32 };
};

/* s[r] = rows[r] . other, over ascending columns; the lane's own `other`. */
template <int E>
DF_DEVICE void
scalar_scores(float s[scalar<E>::R], const float *rows, const float *other)
{
	enum { R = scalar<E>::R };

	for (int r = 0; r < R; r++)
		s[r] = 0;
	for (int c = 0; c < E; c += 4) {
		const four y = load_four(other + c);

#pragma unroll
		for (int r = 0; r < R; r++) {
			const four x = load_four(rows + r * E + c);

			for (int i = 0; i < 4; i++)
				s[r] = fmaf(x.v[i], y.v[i], s[r]);
		}
	}
}
/* acc[r][i] += sum over the 32 others j of p[r][j] others[j][32 i + lane], ascending; p is the warp's own. */
template <int E>
DF_DEVICE void
scalar_sums(float acc[scalar<E>::R][scalar<E>::COLS], const float *p, const float *others)
{
	enum { R = scalar<E>::R, LD = scalar<E>::LD, COLS = scalar<E>::COLS };

	others += lane_id();
	for (int j = 0; j < 32; j += 4) {
		four w[R];

#pragma unroll
		for (int r = 0; r < R; r++)
			w[r] = load_four(p + r * 32 + j);
#pragma unroll
		for (int jj = 0; jj < 4; jj++)
#pragma unroll
			for (int i = 0; i < COLS; i++) {
				const float y = others[(j + jj) * LD + 32 * i];

#pragma unroll
				for (int r = 0; r < R; r++)
					acc[r][i] = fmaf(w[r].v[jj], y, acc[r][i]);
			}
	}
}

/* A warp's queries on their way along the keys. */
template <int E> struct scalar_queries {
	float o[scalar<E>::R][scalar<E>::COLS], m[scalar<E>::R], l[scalar<E>::R];
};
template <int E>
DF_DEVICE void
scalar_start(scalar_queries<E> &x)
{
#pragma unroll
	for (int r = 0; r < scalar<E>::R; r++) {
		x.m[r] = -INFINITY;
		x.l[r] = 0;
#pragma unroll
		for (int i = 0; i < scalar<E>::COLS; i++)
			x.o[r][i] = 0;
	}
}
/*
 * The next 32 keys, from number k0 on.  The warp's rows q are the queries `query`, query + step, ... of a sample of
 * `len`; p is its [R][32] of shared memory.
 */
template <int E>
DF_DEVICE void
scalar_attend(scalar_queries<E> &x, const attn_shape &a, const float *q, const float *k, const float *v, float *p,
    uint32_t query, uint32_t step, uint32_t k0, uint32_t len)
{
	enum { R = scalar<E>::R };
	const unsigned lane = lane_id();
	float s[R];

	scalar_scores<E>(s, q, k + lane * scalar<E>::LD);
#pragma unroll
	for (int r = 0; r < R; r++) {
		const float z = is_visible(a, query + r * step, k0 + lane, len) ? s[r] * a.scale : -INFINITY;
		const float max = fmaxf(x.m[r], warp_max(z)), base = max == -INFINITY ? 0.0f : max;
		const float shrink = expf(x.m[r] - base), w = expf(z - base);

		p[r * 32 + lane] = w;
		x.l[r] = fmaf(x.l[r], shrink, warp_sum(w));
		x.m[r] = max;
#pragma unroll
		for (int i = 0; i < scalar<E>::COLS; i++)
			x.o[r][i] *= shrink;
	}
	sync_warp();
	scalar_sums<E>(x.o, p, v);
	sync_warp();
}

/* f(n), where n is a compile-time number: the width of the template that takes heads of e elements. */
template <int N> struct number {
	enum { value = N };
};
template <class F>
static inline void
with_scalar_width(size_t e, F f)
{
	if (e <= 32)
		f(number<32>());
	else if (e <= 64)
		f(number<64>());
	else if (e <= 128)
		f(number<128>());
	else
		f(number<256>());
}

#endif
