/*
 * route.cu - mixtures of experts: where rows go, with which weight, and in which order experts find them.
 *
 * A warp has a row of X experts.  Sums run in the CPU's order and e^x is the CPU's polynomial, so that equal logits
 * give equal bits, and with them the same experts: compiled without contraction.  What it costs is that every lane
 * adds the row up by itself, X additions beside X / 32 exponentials.
 *
 * Bytes, forward and backward: the rows of logits, p and dlogits once, p from the cache for the sum and for each of
 * the k experts.  They are few beside the experts' products.
 */
#include "backend/cuda/counting.h"

enum { ROWS = 8 }; /* warps of a block */

/* p = exp(x - max) / sum of those; p may be x: a lane reads what it writes. */
DF_DEVICE void
softmax(float *p, const float *x, size_t n)
{
	float max = -INFINITY, sum = 0;

	for (size_t j = lane_id(); j < n; j += 32)
		max = x[j] > max ? x[j] : max;
	max = warp_max(max);
	for (size_t j = lane_id(); j < n; j += 32)
		p[j] = exp_of(x[j] - max);
	sync_warp();
	for (size_t j = 0; j < n; j++)
		sum += p[j];
	sync_warp();
	for (size_t j = lane_id(); j < n; j += 32)
		p[j] /= sum;
	sync_warp();
}

/* An expert and its p.  Where there is no number, as in a model that diverged, p counts as 0. */
struct choice {
	float p;
	uint32_t expert;
};

DF_DEVICE bool
comes_before(struct choice a, struct choice b)
{
	return a.p > b.p || (a.p == b.p && a.expert < b.expert);
}

/* Of those that come after `last` the first. */
DF_DEVICE struct choice
next_choice(const float *p, uint32_t n, struct choice last)
{
	struct choice best = { -1, n };

	for (uint32_t j = lane_id(); j < n; j += 32) {
		const struct choice c = { p[j] == p[j] ? p[j] : 0, j };

		if (comes_before(last, c) && comes_before(c, best))
			best = c;
	}
	for (int m = 16; m > 0; m /= 2) {
		const struct choice c = { shuffle_xor(best.p, m), shuffle_xor(best.expert, m) };

		if (comes_before(c, best))
			best = c;
	}
	return best;
}

DF_KERNEL(32 * ROWS)
route_fwd(view<const float> logits, view<float> p, view<float> weight, view<uint32_t> expert, size_t n_rows, uint32_t n,
    uint32_t k, bool normalise)
{
	const size_t t = (size_t)blockIdx.x * ROWS + threadIdx.x / 32;
	struct choice last = { 2, 0 };
	float *row = p.p + t * p.ld, sum = 0;

	if (t >= n_rows)
		return;
	softmax(row, logits.p + t * logits.ld, n);
	for (uint32_t i = 0; i < k; i++) {
		last = next_choice(row, n, last);
		sum += row[last.expert];
		if (lane_id() == 0) {
			expert.p[t * expert.ld + i] = last.expert;
			weight.p[t * weight.ld + i] = row[last.expert];
		}
	}
	for (uint32_t i = 0; i < k && normalise && lane_id() == 0; i++)
		weight.p[t * weight.ld + i] /= sum;
}

int
df_cuda_route_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_route *a = static_cast<const struct df_route *>(args);

	if (a->p.rows)
		DF_LAUNCH(route_fwd, dim(df_blocks_of(a->p.rows, ROWS)), dim(32 * ROWS), 0,
		    df_cuda_lane_of(be)->stream, view_of<const float>(a->logits), view_of<float>(a->p),
		    view_of<float>(a->weight), view_of<uint32_t>(a->expert), a->p.rows, (uint32_t)a->p.cols,
		    (uint32_t)a->weight.cols, a->normalise);
	return df_cuda_launched("route_fwd", err);
}

/*
 * With w_i = p_i / S over the chosen, dp_i = (dw_i - sum_j dw_j w_j) / S, or dw_i when they are p themselves; then the
 * softmax: dlogits = p (dp - sum p dp).  Every lane makes the sums over the k chosen.  dlogits may be p.
 */
DF_KERNEL(32 * ROWS)
route_bwd(view<const float> p, view<const float> weight, view<const uint32_t> expert, view<const float> dweight,
    view<float> dlogits, size_t n_rows, uint32_t n, uint32_t k, bool normalise)
{
	const size_t t = (size_t)blockIdx.x * ROWS + threadIdx.x / 32;
	const float *row = p.p + t * p.ld, *w = weight.p + t * weight.ld, *dw = dweight.p + t * dweight.ld;
	const uint32_t *e = expert.p + t * expert.ld;
	float pull = 0, sum = 1, dot = 0;

	if (t >= n_rows)
		return;
	if (normalise) {
		sum = 0;
		for (uint32_t i = 0; i < k; i++) {
			sum += row[e[i]];
			pull += dw[i] * w[i];
		}
	}
	for (uint32_t i = 0; i < k; i++)
		dot += row[e[i]] * ((dw[i] - pull) / sum);
	sync_warp();
	for (uint32_t j = lane_id(); j < n; j += 32) {
		float dp = 0;

		for (uint32_t i = 0; i < k; i++)
			dp = e[i] == j ? (dw[i] - pull) / sum : dp;
		dlogits.p[t * dlogits.ld + j] = row[j] * (dp - dot);
	}
}

int
df_cuda_route_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_route_bwd *a = static_cast<const struct df_route_bwd *>(args);

	if (a->p.rows)
		DF_LAUNCH(route_bwd, dim(df_blocks_of(a->p.rows, ROWS)), dim(32 * ROWS), 0,
		    df_cuda_lane_of(be)->stream, view_of<const float>(a->p), view_of<const float>(a->weight),
		    view_of<const uint32_t>(a->expert), view_of<const float>(a->dweight), view_of<float>(a->dlogits),
		    a->p.rows, (uint32_t)a->p.cols, (uint32_t)a->weight.cols, a->normalise);
	return df_cuda_launched("route_bwd", err);
}

/* ---- the rows in the order of their experts -------------------------------------------------------------------- */

/*
 * A counting sort (counting.h) of the T k slots by expert; a warp has a tile of slots.  It is of integers, and stable:
 * the CPU's numbers.  Bytes: 8 read and 12 written for a slot, 16 for each count.
 */
struct plan {
	view<const uint32_t> expert;
	const uint32_t *token; /* or NULL */
	uint32_t n, k;         /* slots; of a row */
	uint32_t n_experts, tile;
};

DF_DEVICE uint32_t
expert_of(const struct plan &a, uint32_t slot)
{
	return a.expert.p[slot / a.k * a.expert.ld + slot % a.k];
}

/* counts[tile][expert].  Grid: tiles / 8. */
DF_KERNEL(32 * ROWS)
plan_count(uint32_t *counts, struct plan a, uint32_t n_tiles)
{
	const uint32_t tile = blockIdx.x * ROWS + threadIdx.x / 32, from = tile * a.tile;

	if (tile >= n_tiles)
		return;
	counts += (size_t)tile * a.n_experts;
	for (uint32_t e = lane_id(); e < a.n_experts; e += 32)
		counts[e] = 0;
	sync_warp();
	for (uint32_t i = lane_id(); i < a.tile && i < a.n - from; i += 32)
		atomic_add(counts + expert_of(a, from + i), 1);
}

DF_KERNEL(32 * ROWS)
plan_rows(uint32_t *row, uint32_t *slot, uint32_t *row_token, uint32_t *counts, const uint32_t *first, struct plan a,
    uint32_t n_tiles)
{
	const uint32_t tile = blockIdx.x * ROWS + threadIdx.x / 32, from = tile * a.tile;

	if (tile >= n_tiles)
		return;
	counts += (size_t)tile * a.n_experts;
	for (uint32_t i = 0; i < a.tile && i < a.n - from; i += 32) {
		const uint32_t at = i + lane_id();
		const bool there = at < a.tile && at < a.n - from;
		const uint32_t e = there ? expert_of(a, from + at) : 0, t = (from + at) / a.k;
		const uint32_t to = first[e] + place_in_bin(counts, e, a.n_experts, there);

		if (!there)
			continue;
		row[to] = t;
		slot[to] = from + at;
		row_token[to] = a.token ? a.token[t] : t;
	}
}

/* seg[e][s] = rows of expert e that come before sample s's.  A thread has one of the X (S+1) numbers. */
DF_KERNEL(256)
plan_segments(uint32_t *seg, const uint32_t *row, const uint32_t *first, const uint32_t *offsets, uint32_t n_offsets,
    size_t n)
{
	const size_t i = (size_t)blockIdx.x * 256 + threadIdx.x;
	uint32_t lo, hi, begin, e;

	if (i >= n)
		return;
	e = (uint32_t)(i / n_offsets);
	lo = begin = first[e];
	hi = first[e + 1];
	while (lo < hi) {
		const uint32_t mid = lo + (hi - lo) / 2;

		if (row[mid] < offsets[i % n_offsets])
			lo = mid + 1;
		else
			hi = mid;
	}
	seg[i] = lo - begin;
}

int
df_cuda_route_plan(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_route_plan *a = static_cast<const struct df_route_plan *>(args);
	const rt_stream_t stream = df_cuda_lane_of(be)->stream;
	const uint32_t n_experts = (uint32_t)a->n_experts, n_offsets = (uint32_t)a->offsets.cols;
	/* Tiles of at least as many slots as experts: counts are no more than slots. */
	const uint32_t tile = n_experts <= 512 ? 512 : (n_experts + 31) / 32 * 32;
	const size_t n = a->expert.rows * a->expert.cols, n_tiles = df_blocks_of(n, tile);
	const struct plan p = { view_of<const uint32_t>(a->expert), u32_of(a->token), (uint32_t)n,
		(uint32_t)a->expert.cols, n_experts, tile };
	uint32_t *first = view_of<uint32_t>(a->first).p, *row = view_of<uint32_t>(a->row).p, *counts;
	void *scratch;
	int rc;

	rc = df_cuda_scratch(be, &scratch, (n_tiles + 1) * (n_experts + 1) * sizeof(*counts), err);
	if (rc != DF_OK)
		return rc;
	counts = static_cast<uint32_t *>(scratch);
	if (n)
		DF_LAUNCH(plan_count, dim(df_blocks_of(n_tiles, ROWS)), dim(32 * ROWS), 0, stream, counts, p,
		    (uint32_t)n_tiles);
	launch_scans(counts, first, n_tiles, n_experts, 1, stream);
	if (n)
		DF_LAUNCH(plan_rows, dim(df_blocks_of(n_tiles, ROWS)), dim(32 * ROWS), 0, stream, row,
		    view_of<uint32_t>(a->slot).p, view_of<uint32_t>(a->row_token).p, counts, first, p,
		    (uint32_t)n_tiles);
	if (a->seg.cols)
		DF_LAUNCH(plan_segments, dim(df_blocks_of(a->seg.cols, 256)), dim(256), 0, stream,
		    view_of<uint32_t>(a->seg).p, row, first, u32_of(a->offsets), n_offsets, a->seg.cols);
	return df_cuda_launched("route_plan", err);
}
