/*
 * rows.cu - rows by number: gathered, and scattered as sums in the order of the list.
 *
 * A sum's order must not depend on which thread is first, so nothing is added by atomics: the list is sorted by row,
 * stably, and each row's run is added by its own threads in order.
 *
 * Exact: compiled without contraction (CUDA_EXACT); sums are in the CPU's order and give its bits.
 */
#include "backend/cuda/vector.h"

/* ---- gather ---------------------------------------------------------------------------------------------------- */

/* dst[i] = src[rows[i]].  Floor: dst, and as many rows of src. */
template <int N, class O, class A>
DF_KERNEL(WALK_THREADS) gather(walk w, view<O> dst, view<const A> src, const uint32_t *rows, bool wide)
{
	size_t row, col;

	if (!walk_here<N>(w, &row, &col))
		return;

	const size_t n = w.cols - col, from = rows[row];

	with_width(wide && n >= N, [&](auto width) {
		constexpr bool WIDE = decltype(width)::value;
		float v[N];

		get<N, WIDE>(src.p + from * src.ld + col, n, v);
		put<N, WIDE>(dst.p + row * dst.ld + col, n, v);
	});
}

template <class O, class A>
static void
run_gather(struct df_backend *be, const struct df_op_rows *a)
{
	constexpr int N = columns_each<O, A>();
	const walk w = walk_of(a->dst.rows, a->dst.cols, N);
	const view<O> dst = view_of<O>(a->dst);
	const view<const A> src = view_of<const A>(a->src);

	if (blocks_of(w))
		DF_LAUNCH((gather<N, O, A>), dim(blocks_of(w)), dim(WALK_THREADS), 0, df_cuda_lane_of(be)->stream, w,
		    dst, src, u32_of(a->rows), is_wide(dst, a->dst.rows) && is_wide(src, a->src.rows));
}

int
df_cuda_gather(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_rows *>(args);

	with_act(a->dst.type, [&](auto to) {
		with_type(a->src.type, [&](auto from) { run_gather<decltype(to), decltype(from)>(be, a); });
	});
	return df_cuda_launched("gather", err);
}

/* ---- a stable sort by radix ------------------------------------------------------------------------------------ */

/*
 * One pass sorts by 8 bits of the key.  A block has a tile of the list, a warp 256 neighbours of it, which it takes 32
 * at a time.  First each block counts its digits; a scan over (digit, block) gives where its first of each digit
 * goes; then each warp places its elements behind those of the warps and lanes before it.  With one tile the first
 * two steps fall away.  Floor: 16 bytes an element and pass.
 */
enum {
	SORT_THREADS = 1024,
	SORT_WARPS = SORT_THREADS / 32,
	WARP_ITEMS = 256,
	TILE = SORT_WARPS * WARP_ITEMS,
	DIGITS = 256
};

struct sort_shared {
	uint32_t count[SORT_WARPS][DIGITS]; /* of each warp; then where its next one goes */
	uint32_t part[DIGITS];
};

/* The list of a pass; `value` may be NULL: element i is i. */
struct sort_list {
	const uint32_t *key, *value;
	uint32_t n;
	int shift;
};

DF_DEVICE uint32_t
digit_of(const sort_list &s, uint32_t i)
{
	return s.key[i] >> s.shift & (DIGITS - 1);
}
/* Lanes of this warp that have an element with this one's digit. */
DF_DEVICE uint32_t
peers_of(uint32_t digit, bool there)
{
	uint32_t peers = warp_ballot(there);

	for (int b = 0; b < 8; b++) {
		const bool bit = digit >> b & 1;
		const uint32_t set = warp_ballot(bit);

		peers &= bit ? set : ~set;
	}
	return peers;
}
/* Count the digits of each warp's elements: shared.count. */
DF_DEVICE void
count_digits(const sort_list &s, sort_shared &shared)
{
	const uint32_t warp = threadIdx.x / 32, first = blockIdx.x * TILE + warp * WARP_ITEMS;

	for (uint32_t d = lane_id(); d < DIGITS; d += 32)
		shared.count[warp][d] = 0;
	sync_warp();
	for (uint32_t i = first + lane_id(); i < first + WARP_ITEMS && i < s.n; i += 32)
		atomic_add(&shared.count[warp][digit_of(s, i)], 1);
	sync_block();
}

/* counts[d, block] = how many of the tile have digit d. */
DF_KERNEL(SORT_THREADS) sort_count(sort_list s, uint32_t *counts)
{
	DF_SHARED(sort_shared, shared);
	uint32_t sum = 0;

	count_digits(s, shared);
	if (threadIdx.x >= DIGITS)
		return;
	for (int w = 0; w < SORT_WARPS; w++)
		sum += shared.count[w][threadIdx.x];
	counts[threadIdx.x * gridDim.x + blockIdx.x] = sum;
}

/* The sum of v over the threads before this one; all of the block come. */
struct scan_shared {
	uint32_t part[32];
};
DF_DEVICE uint32_t
scan_before(uint32_t v, uint32_t *part)
{
	const uint32_t warp = threadIdx.x / 32, lane = lane_id();
	uint32_t sum = v, before = 0;

	for (uint32_t by = 1; by < 32; by *= 2) {
		const uint32_t other = shuffle_up(sum, by);

		sum += lane >= by ? other : 0;
	}
	if (lane == 31)
		part[warp] = sum;
	sync_block();
	for (uint32_t w = 0; w < warp; w++)
		before += part[w];
	sync_block();
	return before + sum - v;
}
/* counts = sums of those before, by one block; a thread has neighbours. */
DF_KERNEL(SORT_THREADS) sort_scan(uint32_t *counts, uint32_t n)
{
	DF_SHARED(scan_shared, shared);
	const uint32_t each = (n + SORT_THREADS - 1) / SORT_THREADS, first = threadIdx.x * each;
	const uint32_t end = n < first + each ? n : first + each;
	uint32_t sum = 0;

	for (uint32_t i = first; i < end; i++)
		sum += counts[i];
	sum = scan_before(sum, shared.part);
	for (uint32_t i = first; i < end; i++) {
		const uint32_t v = counts[i];

		counts[i] = sum;
		sum += v;
	}
}

/* The elements of a tile to their places; counts is NULL where there is only one tile. */
DF_KERNEL(SORT_THREADS) sort_place(sort_list s, const uint32_t *counts, uint32_t *key, uint32_t *value)
{
	DF_SHARED(sort_shared, shared);
	const uint32_t warp = threadIdx.x / 32, first = blockIdx.x * TILE + warp * WARP_ITEMS;
	uint32_t sum = 0, base;

	count_digits(s, shared);
	for (int w = 0; w < SORT_WARPS && threadIdx.x < DIGITS; w++)
		sum += shared.count[w][threadIdx.x];
	base = scan_before(sum, shared.part);
	if (threadIdx.x < DIGITS) {
		if (counts)
			base = counts[threadIdx.x * gridDim.x + blockIdx.x];
		for (int w = 0; w < SORT_WARPS; w++) {
			const uint32_t n = shared.count[w][threadIdx.x];

			shared.count[w][threadIdx.x] = base;
			base += n;
		}
	}
	sync_block();
	for (uint32_t i = first; i < first + WARP_ITEMS && i < s.n; i += 32) {
		const uint32_t mine = i + lane_id();
		const bool there = mine < s.n;
		const uint32_t digit = there ? digit_of(s, mine) : 0, peers = peers_of(digit, there);
		const uint32_t to = shared.count[warp][digit] + (uint32_t)bit_count(peers & ((1u << lane_id()) - 1));

		sync_warp();
		if (there) {
			key[to] = s.key[mine];
			value[to] = s.value ? s.value[mine] : mine;
			if (peers >> lane_id() == 1) /* the last of them */
				shared.count[warp][digit] = to + 1;
		}
		sync_warp();
	}
}

/* What a sort works in: two lists of n, and the counts. */
struct sorted {
	const uint32_t *key, *value;
};
static size_t
sort_bytes(size_t n)
{
	return (4 * n + DIGITS * df_blocks_of(n, TILE)) * sizeof(uint32_t);
}
/* (key[i], i) sorted by key, each < limit, in `work` of sort_bytes(n). */
static sorted
run_sort(struct df_backend *be, const uint32_t *key, size_t n, size_t limit, void *work)
{
	uint32_t *list[2] = { static_cast<uint32_t *>(work), static_cast<uint32_t *>(work) + 2 * n };
	uint32_t *counts = n > TILE ? list[1] + 2 * n : nullptr;
	const size_t tiles = df_blocks_of(n, TILE);
	const rt_stream_t stream = df_cuda_lane_of(be)->stream;
	sort_list s = { key, nullptr, (uint32_t)n, 0 };
	int to = 0;

	do {
		if (counts) {
			DF_LAUNCH(sort_count, dim(tiles), dim(SORT_THREADS), sizeof(sort_shared), stream, s, counts);
			DF_LAUNCH(sort_scan, dim(1), dim(SORT_THREADS), sizeof(scan_shared), stream, counts,
			    (uint32_t)(DIGITS * tiles));
		}
		DF_LAUNCH(sort_place, dim(tiles), dim(SORT_THREADS), sizeof(sort_shared), stream, s, counts, list[to],
		    list[to] + n);
		s = { list[to], list[to] + n, (uint32_t)n, s.shift + 8 };
		to = 1 - to;
	} while (s.shift < 32 && (limit - 1) >> s.shift > 0);
	return { list[1 - to], list[1 - to] + n };
}

/* ---- scatter --------------------------------------------------------------------------------------------------- */

enum { SUM_THREADS = 256, SUM_EACH = 8 };

template <class A>
DF_DEVICE void
add(float sum[SUM_EACH], const octet<A> &x)
{
	float v[SUM_EACH];

	values_of(x, v);
#pragma unroll
	for (int i = 0; i < SUM_EACH; i++)
		sum[i] += v[i];
}

/*
 * dst[key] += the src rows of key's run, in order, in float32, rounded once.  A warp for each place of the list and 256
 * columns; it works where a run begins.  Floor: src, and the rows of dst that the list names, read and written.
 */
template <bool WIDE, class O, class A>
DF_KERNEL(SUM_THREADS, 1)
add_runs(view<O> dst, view<const A> src, const uint32_t *key, const uint32_t *value, uint32_t n, size_t cols)
{
	const uint32_t across = (uint32_t)((cols + 32 * SUM_EACH - 1) / (32 * SUM_EACH)), group = blockIdx.x / across;
	const uint32_t first = group * (SUM_THREADS / 32) + threadIdx.x / 32;
	const size_t col = ((size_t)(blockIdx.x - group * across) * 32 + lane_id()) * SUM_EACH;
	const size_t left = col < cols ? cols - col : 0;
	constexpr int AHEAD = WIDE ? 4 : 1; /* rows whose loads are under way together */
	float sum[SUM_EACH];

	if (first >= n)
		return;

	const uint32_t row = key[first];
	O *to = dst.p + row * dst.ld + col;

	if (first > 0 && key[first - 1] == row)
		return;
	values_of(octet_of<WIDE>((const O *)to, left), sum);
	for (uint32_t i = first; i < n; i += 32) { /* 32 places at a time: a lane looks at each */
		const uint32_t mine = i + lane_id();
		const uint32_t same = warp_ballot(mine < n && key[mine < n ? mine : i] == row);
		const uint32_t from = mine < n ? value[mine] : 0;
		/* those before the first other one */
		const int count = same == ~0u ? 32 : bit_count(same & ~(same + 1));

		for (int j = 0; j < count; j += AHEAD) {
			octet<A> x[AHEAD];

#pragma unroll
			for (int k = 0; k < AHEAD; k++)
				x[k] = octet_of<WIDE>(src.p + shuffle(from, (j + k) & 31) * src.ld + col,
				    j + k < count ? left : 0);
#pragma unroll
			for (int k = 0; k < AHEAD; k++)
				if (j + k < count)
					add(sum, x[k]);
		}
		if (count < 32)
			break;
	}
	put_octet<WIDE>(to, left, sum);
}

template <class O, class A>
static void
run_add(struct df_backend *be, const struct df_op_rows *a, const sorted &s)
{
	const size_t n = a->src.rows, cols = a->src.cols;
	const view<O> dst = view_of<O>(a->dst);
	const view<const A> src = view_of<const A>(a->src);
	const bool wide = cols % SUM_EACH == 0 && is_wide(dst, a->dst.rows) && is_wide(src, a->src.rows);
	const auto kernel = wide ? add_runs<true, O, A> : add_runs<false, O, A>;

	DF_LAUNCH(kernel, dim(df_blocks_of(n, SUM_THREADS / 32) * df_blocks_of(cols, 32 * SUM_EACH)),
	    dim(SUM_THREADS), 0, df_cuda_lane_of(be)->stream, dst, src, s.key, s.value, (uint32_t)n, cols);
}

int
df_cuda_embed_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_rows *>(args);
	const size_t n = a->src.rows;
	void *work;
	int rc;

	if (n == 0 || a->src.cols == 0)
		return DF_OK;
	DF_TRY(df_cuda_scratch(be, &work, sort_bytes(n), err));
	{
		const sorted s = run_sort(be, u32_of(a->rows), n, a->dst.rows, work);

		with_act(a->dst.type, [&](auto to) {
			with_act(a->src.type, [&](auto from) { run_add<decltype(to), decltype(from)>(be, a, s); });
		});
	}
	rc = df_cuda_launched("embed_bwd", err);
out:
	return rc;
}
