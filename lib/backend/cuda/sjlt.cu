/*
 * sjlt.cu - y += g R with a sparse R: each coordinate has `sparsity` nonzeros +-1/sqrt(sparsity), one in each of as
 * many parts of the columns (project/project.h).  The CPU's bits.
 *
 * The nonzeros of a span of coordinates (spans.h) are sorted by column, stably, so that each column has a list of its
 * coordinates, ascending; the gradients are turned, so that a coordinate's samples lie side by side.  Then a warp walks
 * the list of a column and adds rows of samples to y, one after another: the CPU's order, without atomics.
 *
 * Bytes of a number of g: 4 to read and 4 to write it turned, 4 sparsity to add it, out of the second-level cache; of
 * a nonzero: 4 written and read for every 64 samples, and 16 to count them.  Floor: the 4 bytes of g.
 *
 * A product g / sqrt(sparsity) is rounded before it is added: compiled without contraction.
 */
#include "backend/cuda/counting.h"
#include "backend/cuda/spans.h"
#include "base/rng.h"

#define NEGATIVE 0x80000000u /* in an entry of a list: that, and the coordinate from the span's first */

/* What the nonzeros depend on, and how they are sorted. */
struct nonzeros {
	uint64_t first; /* coordinate of g's first column */
	uint32_t key0, key1, tag;
	uint32_t k, sparsity;
	uint32_t tile, n_tiles; /* coordinates of a tile, tiles of a span */
	struct spans spans;
};

/* Where part i of the columns begins. */
DF_DEVICE uint32_t
part_at(const struct nonzeros &a, uint32_t i)
{
	return (uint32_t)((uint64_t)a.k * i / a.sparsity);
}

/* Nonzero i of a coordinate: its column from the part's first, of `len`.  The result has the sign. */
DF_DEVICE uint32_t
nonzero(const struct nonzeros &a, uint64_t j, uint32_t i, uint32_t len, uint32_t *column)
{
	const uint64_t p = a.first + j;
	const uint32_t ctr[4] = { (uint32_t)p, (uint32_t)(p >> 32), 0x80000000u + i / 4, a.tag };
	uint32_t w[4], word;

	philox(ctr, a.key0, a.key1, w);
	word = i % 4 < 2 ? (i % 4 == 0 ? w[0] : w[1]) : (i % 4 == 2 ? w[2] : w[3]);
	*column = (uint32_t)((uint64_t)(word & 0x7fffffffu) * len >> 31);
	return ~word & 0x80000000u;
}

/* A warp's work: one part of the columns and one tile of a span's coordinates. */
struct share {
	uint32_t part, tile;
	uint32_t lo, len; /* columns */
	size_t at;        /* the tile's first coordinate */
	uint32_t from, n; /* the same from the span's first; coordinates */
};

DF_DEVICE struct share
share_of(const struct nonzeros &a, size_t first_span)
{
	const uint32_t warp = blockIdx.x * 4 + threadIdx.x / 32;
	const struct span span = span_at(a.spans, first_span + blockIdx.y);
	struct share s;

	s.part = warp % a.sparsity;
	s.tile = warp / a.sparsity;
	s.lo = part_at(a, s.part);
	s.len = part_at(a, s.part + 1) - s.lo;
	s.from = s.tile * a.tile;
	s.at = span.at + s.from;
	s.n = s.tile >= a.n_tiles || s.from >= span.n ? 0 : min(a.tile, (uint32_t)span.n - s.from);
	return s;
}

/* counts[z][tile][column].  Grid: warps / 4, spans; a warp's columns are its own, so it begins them itself. */
DF_KERNEL(128)
sjlt_count(uint32_t *counts, struct nonzeros a, size_t first_span)
{
	const struct share s = share_of(a, first_span);

	if (s.tile >= a.n_tiles)
		return;
	counts += (blockIdx.y * (size_t)a.n_tiles + s.tile) * a.k + s.lo;
	for (uint32_t c = lane_id(); c < s.len; c += 32)
		counts[c] = 0;
	sync_warp();
	for (uint32_t j = lane_id(); j < s.n; j += 32) {
		uint32_t column;

		nonzero(a, s.at + j, s.part, s.len, &column);
		atomic_add(counts + column, 1);
	}
}

/* list[z][starts[z][column] ...]: the column's coordinates, ascending.  The same grid. */
DF_KERNEL(128)
sjlt_list(uint32_t *list, uint32_t *counts, const uint32_t *starts, struct nonzeros a, size_t first_span)
{
	const struct share s = share_of(a, first_span);

	counts += (blockIdx.y * (size_t)a.n_tiles + s.tile) * a.k + s.lo;
	starts += blockIdx.y * ((size_t)a.k + 1) + s.lo;
	list += blockIdx.y * a.spans.most * a.sparsity;
	for (uint32_t j = 0; j < s.n; j += 32) {
		const bool there = j + lane_id() < s.n;
		uint32_t column, sign = nonzero(a, s.at + j + lane_id(), s.part, s.len, &column);
		const uint32_t place = place_in_bin(counts, column, s.len, there);

		if (there)
			list[starts[column] + place] = (s.from + j + lane_id()) | sign;
	}
}

template <int V> struct added {
	float y[32 * V][33];
};

/* V samples of a row of x, as V floats: 32 lanes read the row. */
template <int V>
DF_DEVICE void
read_row(float v[V], const float *x)
{
	if (V == 2) {
		const float2 both = *reinterpret_cast<const float2 *>(x + 2 * lane_id());

		v[0] = both.x;
		v[V - 1] = both.y;
	} else {
		v[0] = x[lane_id()];
	}
}

/*
 * y[s][c] += the entries of c's lists, span after span.  x [z][coordinate][n_rows] is turned.
 * Grid: columns / 32, samples / (32 V); a warp has four of the block's columns, one after another, a lane V samples.
 */
template <int V>
DF_KERNEL(256)
sjlt_add(view<float> y, size_t n_samples, size_t k, const float *x, size_t n_rows, const uint32_t *list,
    const uint32_t *starts, size_t n_spans, size_t x_apart, size_t list_apart)
{
	DF_SHARED(struct added<V>, sh);
	const unsigned lane = lane_id(), warp = threadIdx.x / 32;
	const size_t c0 = (size_t)blockIdx.x * 32, s0 = (size_t)blockIdx.y * 32 * V;
	float *to = y.p + s0 * y.ld + c0 + lane;

	for (unsigned s = warp; s < 32 * V && s0 + s < n_samples && c0 + lane < k; s += 8)
		sh.y[s][lane] = to[s * y.ld];
	sync_block();
	for (unsigned c = 4 * warp; c < 4 * warp + 4 && c0 + c < k; c++) {
		float sum[V];

		for (int v = 0; v < V; v++)
			sum[v] = sh.y[V * lane + v][c];
		for (size_t z = 0; z < n_spans; z++) {
			const uint32_t *at = starts + z * (k + 1) + c0 + c, end = at[1];
			const float *row = x + z * x_apart + s0;

			for (uint32_t i = at[0]; i < end; i += 32) {
				const uint32_t entry = i + lane < end ? list[z * list_apart + i + lane] : 0;
				const int n = (int)min(32u, end - i);

				for (int u = 0; u < n; u += 8) {
					float v[8][V];

					/* All are read before the first is added. */
#pragma unroll
					for (int e = 0; e < 8; e++) {
						const uint32_t one = shuffle(entry, u + e) & ~NEGATIVE;

						if (u + e < n)
							read_row<V>(v[e], row + one * n_rows);
					}
#pragma unroll
					for (int e = 0; e < 8; e++) {
						const uint32_t sign = shuffle(entry, u + e) & NEGATIVE;

						for (int w = 0; w < V && u + e < n; w++)
							sum[w] += bits_float(float_bits(v[e][w]) ^ sign);
					}
				}
			}
		}
		for (int v = 0; v < V; v++)
			sh.y[V * lane + v][c] = sum[v];
	}
	sync_block();
	for (unsigned s = warp; s < 32 * V && s0 + s < n_samples && c0 + lane < k; s += 8)
		to[s * y.ld] = sh.y[s][lane];
}

/* ---- the host's side ------------------------------------------------------------------------------------------- */

constexpr size_t GROUP = 64; /* samples that are turned at a time, most */

static size_t
power_of_two(size_t n, size_t least, size_t most)
{
	while (least < n && least < most)
		least *= 2;
	return least;
}

/* Spans of 2^16 coordinates and about 2^20 nonzeros at most; tiles with about as many counts as nonzeros. */
static struct nonzeros
nonzeros_of(const struct df_project *a)
{
	const size_t most = ((size_t)1 << 20) / a->sparsity, longest = spans_of(a, SIZE_MAX).longest;
	const size_t span = power_of_two(longest < most ? longest : most, 32, (size_t)1 << 16);
	const size_t tile = power_of_two(a->y.cols / a->sparsity / 4, span < 256 ? span : 256, span);

	return { a->first, (uint32_t)a->seed, (uint32_t)(a->seed >> 32),
	    (uint32_t)DF_RNG_PROJECTION << 24 | a->model_id,
		(uint32_t)a->y.cols, a->sparsity, (uint32_t)tile, (uint32_t)(span / tile), spans_of(a, span) };
}

/* Scratch memory of a batch of spans. */
struct batch {
	size_t n_rows; /* samples of a group, rounded up */
	uint32_t *counts, *starts, *list;
	float *x;
};

/* The lists of n spans, from span z on. */
static void
launch_lists(const struct nonzeros &nz, const struct batch &b, size_t z, size_t n, rt_stream_t stream)
{
	const dim3 grid = dim(df_blocks_of((size_t)nz.n_tiles * nz.sparsity, 4), n);

	DF_LAUNCH(sjlt_count, grid, dim(128), 0, stream, b.counts, nz, z);
	launch_scans(b.counts, b.starts, nz.n_tiles, nz.k, n, stream);
	DF_LAUNCH(sjlt_list, grid, dim(128), 0, stream, b.list, b.counts, b.starts, nz, z);
}

template <int V>
static void
launch_adds(const struct df_project *a, const struct nonzeros &nz, const struct batch &b, size_t z, size_t n,
    rt_stream_t stream)
{
	const float unit = (float)(1.0 / sqrt((double)a->sparsity));

	for (size_t s = 0; s < a->g.rows; s += GROUP) {
		const size_t n_samples = a->g.rows - s < GROUP ? a->g.rows - s : GROUP;
		const size_t most = nz.spans.most;

		DF_LAUNCH(turn, dim(df_blocks_of(nz.spans.longest, 32), b.n_rows / 32, n), dim(256),
		    sizeof(struct turned), stream, b.x, b.n_rows,
		    view_of<const float>(df_tensor_rows(a->g, s, n_samples)), n_samples, nz.spans, z, unit);
		DF_LAUNCH(sjlt_add<V>, dim(df_blocks_of(nz.k, 32), df_blocks_of(n_samples, 32 * V)), dim(256),
		    sizeof(struct added<V>), stream, view_of<float>(df_tensor_rows(a->y, s, n_samples)), n_samples,
		    (size_t)nz.k, b.x, b.n_rows, b.list, b.starts, n, most * b.n_rows, most * nz.sparsity);
	}
}

int
df_cuda_sjlt(struct df_backend *be, const struct df_project *a, struct df_err *err)
{
	const rt_stream_t stream = df_cuda_lane_of(be)->stream;
	const struct nonzeros nz = nonzeros_of(a);
	const size_t n_spans = span_count(nz.spans), n_rows = a->g.rows <= 32 ? 32 : GROUP;
	const size_t counts = (size_t)nz.n_tiles * nz.k, starts = (size_t)nz.k + 1, list = nz.spans.most * nz.sparsity;
	const size_t x = nz.spans.most * n_rows, each = (counts + starts + list + x) * sizeof(uint32_t);
	const size_t most = span_batch(n_spans, each);
	struct batch b = { n_rows, NULL, NULL, NULL, NULL };
	void *scratch;
	int rc;

	if (a->y.cols > UINT32_MAX / 2)
		return df_fail(err, DF_ERANGE, "project: %zu columns", a->y.cols);
	rc = df_cuda_scratch(be, &scratch, most * each, err);
	if (rc != DF_OK)
		return rc;
	b.x = static_cast<float *>(scratch);
	b.counts = reinterpret_cast<uint32_t *>(b.x + most * x);
	b.starts = b.counts + most * counts;
	b.list = b.starts + most * starts;
	for (size_t z = 0; z < n_spans; z += most) {
		const size_t n = n_spans - z < most ? n_spans - z : most;

		launch_lists(nz, b, z, n, stream);
		if (n_rows == 32)
			launch_adds<1>(a, nz, b, z, n, stream);
		else
			launch_adds<2>(a, nz, b, z, n, stream);
	}
	return df_cuda_launched("project", err);
}
