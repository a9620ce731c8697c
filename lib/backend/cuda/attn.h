/*
 * attn.h - what the kernels of attention share: who sees whom, and tiles of a ragged batch.
 *
 *                 keys, a tile at a time
 *               +------+------+---
 *   queries of  |######|######|##\         Scores live in registers, a tile at a time.  Going right along the keys,
 *   a block     |######|######|###\        each query keeps its maximum m and sum l; when m grows, what was summed
 *               +------+------+----        shrinks by exp(old m - new m).
 *
 * Milakov & Gimelshein 2018, Dao et al. 2022.  Tiles count from the sample's start, so that a query's sums have the
 * same order in every batch, and in decoding, too.  A head's width is padded with zeros to that of the next template.
 *
 *	attn_scalar.h  float32 activations, multiplied in float32
 *	attn_mma.h     bf16 activations, multiplied by tensor cores with sums in float32
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

/* f(n), n a compile-time number: the width that takes heads of e elements, of those that there are. */
template <int N> struct number {
	enum { value = N };
};

#endif
