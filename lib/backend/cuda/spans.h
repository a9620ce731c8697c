/*
 * spans.h - what the random projections share: a gradient's coordinates cut into spans, in the order in which their
 * sums are added, and its numbers turned so that samples lie side by side.
 *
 * A call's pieces come last first (backend.h, df_project); inside a piece coordinates ascend.  No span leaves its
 * piece:
 *
 *	coordinates   0        piece      2 piece   n
 *	spans         | 4  5  6 | 1  2  3 | 0     |
 */
#ifndef DF_BACKEND_CUDA_SPANS_H
#define DF_BACKEND_CUDA_SPANS_H

#include "backend/cuda/view.h"

struct spans {
	size_t piece, last; /* coordinates of a piece; where the last piece begins */
	size_t n;           /* all coordinates, at least 1 */
	size_t each, in_last; /* spans of a whole piece, and of the last one */
	size_t most;        /* coordinates of a span: what the last of a piece has may be fewer */
	size_t longest;     /* what one has at most, as pieces may be shorter than `most` */
};
struct span {
	size_t at, n; /* coordinates [at, at + n) */
};

static inline struct spans
spans_of(const struct df_project *a, size_t most)
{
	const size_t n = a->g.cols, piece = a->piece && a->piece < n ? a->piece : n, last = (n - 1) / piece * piece;

	return { piece, last, n, df_blocks_of(piece, most), df_blocks_of(n - last, most), most,
		piece < most ? piece : most };
}

static inline size_t
span_count(const struct spans &a)
{
	return a.in_last + a.last / a.piece * a.each;
}

DF_BOTH struct span
span_at(const struct spans &a, size_t i)
{
	size_t piece = a.last, end = a.n, at;

	if (i >= a.in_last) {
		i -= a.in_last;
		end = a.last - i / a.each * a.piece;
		piece = end - a.piece;
		i %= a.each;
	}
	at = piece + i * a.most;
	return { at, end - at < a.most ? end - at : a.most };
}

/*
 * A batch of spans, as many as `bytes` each leave in about 32 MiB: what one kernel writes is still in the second-level
 * cache when the next reads it.
 */
static inline size_t
span_batch(size_t n_spans, size_t bytes)
{
	const size_t fit = ((size_t)32 << 20) / bytes;

	return fit < 1 ? 1 : fit < n_spans ? fit : n_spans;
}

/* The sparse projection: sjlt.cu's. */
int df_cuda_sjlt(struct df_backend *be, const struct df_project *a, struct df_err *err) DF_MUST_CHECK;

struct turned {
	float tile[32][33];
};

/*
 * out[z][j][s] = unit * g[s][coordinate j of span z + first], zero where there is no such coordinate or sample; j <
 * spans.most, s < n_out, a multiple of 32.
 * Grid: spans.longest / 32, n_out / 32, spans of the batch; 256 threads.  4 B read and 4 B written for a number.
 */
DF_KERNEL(256)
turn(float *out, size_t n_out, view<const float> g, size_t n_samples, struct spans spans, size_t first, float unit)
{
	DF_SHARED(struct turned, sh);
	const struct span at = span_at(spans, first + blockIdx.z);
	const size_t j = (size_t)blockIdx.x * 32, s = (size_t)blockIdx.y * 32;
	const unsigned x = threadIdx.x % 32, y = threadIdx.x / 32;
	float *to = out + (blockIdx.z * spans.most + j) * n_out + s;

	if (j >= at.n)
		return;
	for (unsigned i = y; i < 32; i += 8)
		sh.tile[i][x] =
		    s + i < n_samples && j + x < at.n ? unit * g.p[(s + i) * g.ld + at.at + j + x] : 0.0f;
	sync_block();
	for (unsigned i = y; i < 32; i += 8)
		to[i * n_out + x] = sh.tile[x][i];
}

#endif
