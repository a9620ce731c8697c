/*
 * segments.cu - many products in one launch: by sample (df_gemm_segments) and by expert (df_gemm_groups and the sums
 * over a group's rows).  Compiled without contraction.
 *
 * A block computes one tile of one product, which it finds by itself from the offsets on the device: grids follow from
 * shapes.  The tiles are df_gemm()'s (gemm.h, gemm_mma.h), and so are the bits.
 */
#include "backend/cuda/gemm_mma.h"

/* ---- by sample ------------------------------------------------------------------------------------------------- */

/* Blocks go sample by sample, so that those that run at the same time share its rows: c[s] = alpha a_s^T b_s. */
struct segments {
	const uint32_t *offsets;
	size_t c_apart; /* floats from one sample's c to the next one's */
	unsigned down, across;
};
DF_DEVICE product
segment(product p, const segments &g, place *at)
{
	const unsigned tiles = g.down * g.across, s = blockIdx.x / tiles;

	*at = place_of(blockIdx.x % tiles, g.down, g.across);
	p.c = static_cast<float *>(p.c) + s * g.c_apart;
	return of_rows(p, g.offsets[s], g.offsets[s + 1]);
}

template <int TY, int TM>
DF_KERNEL(TY * 16, 1) exact_segments(product all, segments g)
{
	typedef exact_shared<TY, TM> shared;
	DF_SHARED(shared, s);
	place at;
	const product p = segment(all, g, &at);

	exact_tile<TY, TM>(p, (size_t)at.i * TY * TM, (size_t)at.j * EXACT_COLS, s);
}
template <class S, int PARTS, bool ASYNC>
DF_KERNEL(S::THREADS, 1) tensor_segments(product all, segments g)
{
	typedef mma_shared<S, PARTS> shared;
	DF_SHARED(shared, s);
	place at;
	const product p = segment(all, g, &at);

	mma_rows_tile<S, PARTS, ASYNC>(p, (size_t)at.i * S::ROWS, (size_t)at.j * S::COLS, s);
}

struct segments_job {
	product p;
	segments g;
	size_t n;
	rt_stream_t stream;
};
template <int TY, int TM>
static void
launch_exact(segments_job j)
{
	j.g.down = (unsigned)df_blocks_of(j.p.a.n, TY * TM);
	j.g.across = (unsigned)df_blocks_of(j.p.b.n, EXACT_COLS);
	DF_LAUNCH((exact_segments<TY, TM>), dim(j.n * j.g.down * j.g.across), dim(TY * 16),
	    sizeof(exact_shared<TY, TM>), j.stream, j.p, j.g);
}
template <class S, int PARTS, bool ASYNC>
static void
launch_tensor(segments_job j)
{
	j.g.down = (unsigned)df_blocks_of(j.p.a.n, S::ROWS);
	j.g.across = (unsigned)df_blocks_of(j.p.b.n, S::COLS);
	DF_LAUNCH((tensor_segments<S, PARTS, ASYNC>), dim(j.n * j.g.down * j.g.across), dim(S::THREADS),
	    sizeof(mma_shared<S, PARTS>), j.stream, j.p, j.g);
}

int
df_cuda_gemm_segments(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_gemm_segments *g = static_cast<const struct df_gemm_segments *>(args);
	const struct df_cuda_lane *lane = df_cuda_lane_of(be);
	segments_job j = { product_of(g->a, true, g->b, false, g->c, g->alpha, 0),
		{ u32_of(g->offsets), g->c.ld, 0, 0 }, g->c.rows, lane->stream };
	product &p = j.p;
	int rc;

	if (df_tensor_numel(g->c) == 0)
		return DF_OK;
	p.ldc = p.b.n;
	p.c_is_wide = p.c_is_wide && p.ldc % 8 == 0;
	DF_TRY(gemm_check_grid("gemm_segments", j.n, p.a.n, p.b.n, err));
	if (p.a.type == DF_F32 && p.a.n <= 32) {
		launch_exact<8, 4>(j);
	} else if (p.a.type == DF_F32) {
		launch_exact<16, 8>(j);
	} else if (!mma_is_async(p.a, p.k) || !mma_is_async(p.b, p.k)) {
		launch_tensor<mma_32x64_parts, 3, false>(j);
	} else {
		switch (gemm_tile_of(j.n, p.a.n, p.b.n, (size_t)lane->dev->device.n_processors)) {
		case GEMM_128x128: launch_tensor<mma_128x128, 1, true>(j); break;
		case GEMM_64x128: launch_tensor<mma_64x128, 1, true>(j); break;
		case GEMM_64x64: launch_tensor<mma_64x64, 1, true>(j); break;
		case GEMM_32x64: launch_tensor<mma_32x64, 1, true>(j); break;
		case GEMM_64x32: launch_tensor<mma_64x32, 1, true>(j); break;
		}
	}
	rc = df_cuda_launched("gemm_segments", err);
out:
	return rc;
}

/* ---- by expert ------------------------------------------------------------------------------------------------- */

/* The matrices of some groups that follow each other, as an argument of a kernel, of which there are 4 KB. */
struct group_list {
	static constexpr unsigned MOST = 160;
	struct {
		void *p; /* NULL: nothing to do */
		size_t ld;
		uint8_t type;
		bool wide;
	} of[MOST];
	const uint32_t *first; /* of the first of them */
	unsigned n, across;
};

/* Where in the groups' rows a block works: a tile of rows of a group, and a tile of columns. */
struct group_place {
	bool there;
	unsigned group, i, j;
};
/*
 * The place of block `t`, of tiles of `rows` rows, `across` of them side by side, group by group.  Each lane counts the
 * tiles of MOST / 32 groups.  All lanes come.
 */
DF_DEVICE group_place
find_group(const group_list &g, unsigned t, unsigned rows)
{
	enum { EACH = group_list::MOST / 32 };
	const unsigned lane = lane_id(), j = t % g.across, down = t / g.across;
	unsigned count[EACH], sum = 0, before, all, holder, group = 0, at = 0, there = 0;

	for (unsigned i = 0; i < EACH; i++) {
		const unsigned e = lane * EACH + i;

		count[i] = e < g.n && g.of[e].p ? (g.first[e + 1] - g.first[e] + rows - 1) / rows : 0;
		sum += count[i];
	}
	all = sum;
	for (unsigned by = 1; by < 32; by *= 2) {
		const unsigned x = shuffle_up(all, by);

		all += lane >= by ? x : 0;
	}
	before = all - sum;
	holder = (unsigned)bit_count(warp_ballot(before <= down)) - 1;
	for (unsigned i = 0; i < EACH; i++) {
		if (down >= before && down - before < count[i]) {
			group = lane * EACH + i;
			at = down - before;
			there = 1;
		}
		before += count[i];
	}
	return { shuffle(there, (int)holder) != 0, shuffle(group, (int)holder), shuffle(at, (int)holder), j };
}
/* The product of the rows of a group: c[r,:] = alpha a[r,:] op(b_e) + beta c[r,:]. */
DF_DEVICE product
group_product(product p, const group_list &g, unsigned e)
{
	const size_t from = g.first[e];

	p.a.p = row_at(p.a, from);
	p.a.n = g.first[e + 1] - from;
	p.b.p = g.of[e].p;
	p.b.ld = g.of[e].ld;
	p.b.type = (enum df_dtype)g.of[e].type;
	p.b.wide = g.of[e].wide;
	p.c = static_cast<char *>(p.c) + from * p.ldc * (p.c_is_bf16 ? 2 : 4);
	return p;
}

template <int TY, int TM>
DF_KERNEL(TY * 16, 1) exact_groups(product all, group_list g)
{
	typedef exact_shared<TY, TM> shared;
	DF_SHARED(shared, s);
	const group_place at = find_group(g, blockIdx.x, TY * TM);

	if (at.there)
		exact_tile<TY, TM>(
		    group_product(all, g, at.group), (size_t)at.i * TY * TM, (size_t)at.j * EXACT_COLS, s);
}
template <class S, bool B_ALONG, int PARTS, bool A_ASYNC, bool B_ASYNC>
DF_KERNEL(S::THREADS, 1) tensor_groups(product all, group_list g)
{
	typedef mma_shared<S, PARTS> shared;
	DF_SHARED(shared, s);
	const group_place at = find_group(g, blockIdx.x, S::ROWS);

	if (at.there)
		mma_tile<S, true, B_ALONG, PARTS, A_ASYNC, B_ASYNC>(
		    group_product(all, g, at.group), (size_t)at.i * S::ROWS, (size_t)at.j * S::COLS, s);
}

struct groups_job {
	product p;
	group_list g;
	rt_stream_t stream;
	bool low; /* few rows in a group */
};
/* At most so many tiles: a group's last one may be short. */
static dim3
grid_of(groups_job *j, size_t rows, size_t cols)
{
	j->g.across = (unsigned)df_blocks_of(j->p.b.n, cols);
	return dim((j->p.a.n / rows + j->g.n) * j->g.across);
}
template <int TY, int TM>
static void
launch_exact(groups_job *j)
{
	const dim3 grid = grid_of(j, TY * TM, EXACT_COLS);

	DF_LAUNCH((exact_groups<TY, TM>), grid, dim(TY * 16), sizeof(exact_shared<TY, TM>), j->stream, j->p, j->g);
}
template <class S, bool B_ALONG, int PARTS, bool A_ASYNC, bool B_ASYNC>
static void
launch_tensor(groups_job *j)
{
	const dim3 grid = grid_of(j, S::ROWS, S::COLS);

	DF_LAUNCH((tensor_groups<S, B_ALONG, PARTS, A_ASYNC, B_ASYNC>), grid, dim(S::THREADS),
	    sizeof(mma_shared<S, PARTS>), j->stream, j->p, j->g);
}

/* How a group's b comes; a launch has groups of one way only. */
enum b_comes { B_ANY, B_ASYNC, B_16_BITS, B_32_BITS };

template <bool B_ALONG>
static void
launch_groups(groups_job *j, enum b_comes how)
{
	if (j->p.a.type == DF_F32 && j->low)
		launch_exact<8, 4>(j);
	else if (j->p.a.type == DF_F32)
		launch_exact<16, 8>(j);
	else if (how == B_ASYNC && j->low)
		launch_tensor<mma_32x64, B_ALONG, 1, true, true>(j);
	else if (how == B_ASYNC)
		launch_tensor<mma_64x128, B_ALONG, 1, true, true>(j);
	else if (how == B_16_BITS)
		launch_tensor<mma_32x64_parts, B_ALONG, 2, true, false>(j);
	else if (how == B_32_BITS)
		launch_tensor<mma_32x64_parts, B_ALONG, 3, true, false>(j);
	else
		launch_tensor<mma_32x64_parts, B_ALONG, 3, false, false>(j);
}

/* Groups [from, from + j->g.n) whose b comes in this way. */
static void
multiply_groups(groups_job *j, const struct df_gemm_groups *g, size_t from, enum b_comes how)
{
	bool some = false;

	for (size_t i = 0; i < j->g.n; i++) {
		const struct df_tensor &b = g->b[from + i];
		const side s = b.mem ? side_of(b, g->tb) : side();
		const enum b_comes comes = how == B_ANY   ? B_ANY
		    : mma_is_async(s, j->p.k)             ? B_ASYNC
		    : s.type == DF_F32                    ? B_32_BITS
							  : B_16_BITS;
		const bool in = b.mem && comes == how;

		j->g.of[i] = { in ? const_cast<void *>(s.p) : nullptr, s.ld, (uint8_t)s.type, s.wide };
		some = some || in;
	}
	if (!some)
		return;
	if (g->tb)
		launch_groups<true>(j, how);
	else
		launch_groups<false>(j, how);
}

int
df_cuda_gemm_groups(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_gemm_groups *g = static_cast<const struct df_gemm_groups *>(args);
	const struct df_cuda_lane *lane = df_cuda_lane_of(be);
	struct df_tensor shape = DF_TENSOR_NONE; /* of b */
	groups_job j = {};
	int rc;

	for (size_t e = 0; e < g->n && !shape.mem; e++)
		shape = g->b[e];
	if (!shape.mem || df_tensor_numel(g->c) == 0)
		return DF_OK;
	j.p = product_of(g->a, false, shape, g->tb, g->c, g->alpha, g->beta);
	j.stream = lane->stream;
	j.low = g->a.rows <= 48 * g->n;
	DF_TRY(gemm_check_grid("gemm_groups", 1, g->a.rows + 128 * group_list::MOST, j.p.b.n, err));
	for (size_t from = 0; from < g->n; from += group_list::MOST) {
		j.g.n = (unsigned)(g->n - from < group_list::MOST ? g->n - from : group_list::MOST);
		j.g.first = u32_of(g->first) + from;
		if (j.p.a.type == DF_F32 || !mma_is_async(j.p.a, j.p.k)) {
			multiply_groups(&j, g, from, B_ANY);
		} else {
			multiply_groups(&j, g, from, B_ASYNC);
			multiply_groups(&j, g, from, B_16_BITS);
			multiply_groups(&j, g, from, B_32_BITS);
		}
	}
	rc = df_cuda_launched("gemm_groups", err);
out:
	return rc;
}

/* ---- sums over the rows of a group ----------------------------------------------------------------------------- */

/* Blocks go group by group: c_e = alpha a_e^T b_e + beta c_e. */
DF_DEVICE bool
group_sum(product *p, const group_list &g, unsigned down, place *at)
{
	const unsigned tiles = down * g.across, e = blockIdx.x / tiles;

	*at = place_of(blockIdx.x % tiles, down, g.across);
	*p = of_rows(*p, g.first[e], g.first[e + 1]);
	p->c = g.of[e].p;
	p->ldc = g.of[e].ld;
	p->c_is_wide = g.of[e].wide;
	return p->c;
}

template <int TY, int TM>
DF_KERNEL(TY * 16, 1) exact_group_sums(product p, group_list g, unsigned down)
{
	typedef exact_shared<TY, TM> shared;
	DF_SHARED(shared, s);
	place at;

	if (group_sum(&p, g, down, &at))
		exact_tile<TY, TM>(p, (size_t)at.i * TY * TM, (size_t)at.j * EXACT_COLS, s);
}
template <class S, int PARTS, bool ASYNC>
DF_KERNEL(S::THREADS, 1) tensor_group_sums(product p, group_list g, unsigned down)
{
	typedef mma_shared<S, PARTS> shared;
	DF_SHARED(shared, s);
	place at;

	if (group_sum(&p, g, down, &at))
		mma_rows_tile<S, PARTS, ASYNC>(
		    p, (size_t)at.i * S::ROWS, (size_t)at.j * S::COLS, s);
}

template <int TY, int TM>
static void
launch_exact_sums(groups_job *j)
{
	const size_t down = df_blocks_of(j->p.a.n, TY * TM);

	j->g.across = (unsigned)df_blocks_of(j->p.b.n, EXACT_COLS);
	DF_LAUNCH((exact_group_sums<TY, TM>), dim(j->g.n * down * j->g.across), dim(TY * 16),
	    sizeof(exact_shared<TY, TM>), j->stream, j->p, j->g, (unsigned)down);
}
template <class S, int PARTS, bool ASYNC>
static void
launch_tensor_sums(groups_job *j)
{
	const size_t down = df_blocks_of(j->p.a.n, S::ROWS);

	j->g.across = (unsigned)df_blocks_of(j->p.b.n, S::COLS);
	DF_LAUNCH((tensor_group_sums<S, PARTS, ASYNC>), dim(j->g.n * down * j->g.across), dim(S::THREADS),
	    sizeof(mma_shared<S, PARTS>), j->stream, j->p, j->g, (unsigned)down);
}
static void
launch_sums(groups_job *j, size_t processors)
{
	const product &p = j->p;

	if (p.a.type == DF_F32 && p.a.n <= 32)
		launch_exact_sums<8, 4>(j);
	else if (p.a.type == DF_F32)
		launch_exact_sums<16, 8>(j);
	else if (!mma_is_async(p.a, p.k) || !mma_is_async(p.b, p.k))
		launch_tensor_sums<mma_32x64_parts, 3, false>(j);
	else
		switch (gemm_tile_of(j->g.n, p.a.n, p.b.n, processors)) {
		case GEMM_128x128: launch_tensor_sums<mma_128x128, 1, true>(j); break;
		case GEMM_64x128: launch_tensor_sums<mma_64x128, 1, true>(j); break;
		case GEMM_64x64: launch_tensor_sums<mma_64x64, 1, true>(j); break;
		case GEMM_32x64: launch_tensor_sums<mma_32x64, 1, true>(j); break;
		case GEMM_64x32: launch_tensor_sums<mma_64x32, 1, true>(j); break;
		}
}

int
df_cuda_gemm_group_sums(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_gemm_group_sums *g = static_cast<const struct df_gemm_group_sums *>(args);
	const struct df_cuda_lane *lane = df_cuda_lane_of(be);
	struct df_tensor shape = DF_TENSOR_NONE; /* of c */
	groups_job j = {};
	int rc;

	for (size_t e = 0; e < g->n && !shape.mem; e++)
		shape = g->c[e];
	if (!shape.mem || df_tensor_numel(shape) == 0)
		return DF_OK;
	j.p = product_of(g->a, true, g->b, false, shape, g->alpha, g->beta);
	j.stream = lane->stream;
	DF_TRY(gemm_check_grid("gemm_group_sums", group_list::MOST, j.p.a.n, j.p.b.n, err));
	for (size_t from = 0; from < g->n; from += group_list::MOST) {
		bool some = false;

		j.g.n = (unsigned)(g->n - from < group_list::MOST ? g->n - from : group_list::MOST);
		j.g.first = u32_of(g->first) + from;
		for (size_t i = 0; i < j.g.n; i++) {
			const struct df_tensor &c = g->c[from + i];
			char *p = c.mem ? gemm_address_of(c) : nullptr;

			j.g.of[i] = { p, c.ld, DF_F32, gemm_is_wide(p, c.ld) };
			some = some || p;
		}
		if (some)
			launch_sums(&j, (size_t)lane->dev->device.n_processors);
	}
	rc = df_cuda_launched("gemm_group_sums", err);
out:
	return rc;
}
