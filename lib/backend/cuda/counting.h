/*
 * counting.h - a stable counting sort: what sorts by column (sjlt.cu) and by expert (route.cu) share.
 *
 * The keys are cut into tiles, of which a warp walks each in order.
 *
 *	1. counts[tile][bin]: how many keys of the tile belong there            the user's kernel
 *	2. count_before: ... of all tiles before; starts[bin]: of all tiles
 *	3. starts_of_bins: where each bin begins, and at last where all end
 *	4. a key goes to starts[bin] + counts[tile][bin]++                      the user's kernel, by place_in_bin()
 *
 * Sorts of a batch lie one after another: counts n_tiles * n_bins apart, starts n_bins + 1.
 */
#ifndef DF_BACKEND_CUDA_COUNTING_H
#define DF_BACKEND_CUDA_COUNTING_H

#include "backend/cuda/view.h"

/* A thread has a bin.  Grid: bins / 256, sorts. */
DF_KERNEL(256)
count_before(uint32_t *counts, uint32_t *starts, uint32_t n_tiles, size_t n_bins)
{
	const size_t bin = (size_t)blockIdx.x * 256 + threadIdx.x;
	uint32_t sum = 0;

	if (bin >= n_bins)
		return;
	counts += blockIdx.y * n_tiles * n_bins + bin;
	for (uint32_t i = 0; i < n_tiles; i++) {
		const uint32_t n = counts[i * n_bins];

		counts[i * n_bins] = sum;
		sum += n;
	}
	starts[blockIdx.y * (n_bins + 1) + bin] = sum;
}

struct scanned {
	uint32_t part[32];
};

/* Sums of all before, in place: 1024 bins at a time.  Grid: sorts. */
DF_KERNEL(1024)
starts_of_bins(uint32_t *starts, size_t n_bins)
{
	DF_SHARED(struct scanned, sh);
	const unsigned lane = lane_id(), warp = threadIdx.x / 32;
	uint32_t before = 0;

	starts += blockIdx.x * (n_bins + 1);
	for (size_t i = threadIdx.x; i < n_bins + 1024 - n_bins % 1024; i += 1024) {
		const uint32_t n = i < n_bins ? starts[i] : 0;
		uint32_t sum = n, all = 0;

		for (unsigned by = 1; by < 32; by *= 2) {
			const uint32_t other = shuffle_up(sum, by);

			sum += lane >= by ? other : 0;
		}
		sync_block();
		if (lane == 31)
			sh.part[warp] = sum;
		sync_block();
		for (unsigned w = 0; w < 32; w++) {
			sum += w < warp ? sh.part[w] : 0;
			all += sh.part[w];
		}
		if (i <= n_bins)
			starts[i] = before + sum - n;
		before += all;
	}
}

static inline void
launch_scans(uint32_t *counts, uint32_t *starts, size_t n_tiles, size_t n_bins, size_t n_sorts, rt_stream_t stream)
{
	if (n_bins)
		DF_LAUNCH(count_before, dim(df_blocks_of(n_bins, 256), n_sorts), dim(256), 0, stream, counts, starts,
		    (uint32_t)n_tiles, n_bins);
	DF_LAUNCH(starts_of_bins, dim(n_sorts), dim(1024), sizeof(struct scanned), stream, starts, n_bins);
}

/*
 * The place of each lane's key among those of its bin: next[bin], and behind it for the lanes after it with the same
 * bin; next[bin] moves on.  All lanes come; bin < n_bins.  Lanes that are not `there` get nothing.
 */
DF_DEVICE uint32_t
place_in_bin(uint32_t *next, uint32_t bin, uint32_t n_bins, bool there)
{
	uint32_t peers = warp_ballot(there), place = 0;

	for (uint32_t bit = 1; bit < n_bins && bit; bit *= 2) {
		const uint32_t set = warp_ballot((bin & bit) != 0);

		peers &= bin & bit ? set : ~set;
	}
	if (there)
		place = next[bin] + (uint32_t)bit_count(peers & ((1u << lane_id()) - 1));
	sync_warp();
	if (there && !(peers & ((1u << lane_id()) - 1)))
		next[bin] += (uint32_t)bit_count(peers);
	sync_warp();
	return place;
}

#endif
