/*
 * norm.cu - sums over rows and over columns: the norms, dot products, sums of columns, of squares.
 *
 * A row that is normed is held in registers: it is read once and written once.  Its threads are a team: 8, 16 or 32
 * lanes of a warp for up to 1024 columns, a block for more.  Thread i of a team of n has the columns 8 (k n + i) .. +
 * 7, k = 0, 1, ...; it sums its own in that order, then the threads' sums are added in a tree.  So the order depends
 * on the number of columns alone.
 *
 * Sums over rows are made in two steps: partial sums of chunks, which count from the first row of a segment, then the
 * chunks of a segment in order.  So a segment's sum does not depend on what else is in the call.
 *
 * Kernels that ask for 1 block of a processor at least: without that ptxas spills a few bytes to fit one more.
 */
#include "backend/cuda/vector.h"

enum {
	EACH = 8,            /* neighbouring columns of a thread */
	THREADS = 256,       /* of a block */
	LONGEST_WARP = 1024, /* columns of a row that a warp takes; a block takes longer ones */
	LONGEST_BLOCK = 8192, /* columns that a block holds; it reads the rest of a row again */
	BLOCK_THREADS = 512,
	BLOCK_ROWS = 16, WARP_ROWS = 32, SUM_ROWS = 64, /* of a chunk: norms by blocks, by warps, sums of columns */
	PIECE = 16384        /* elements of a partial sum of squares */
};

/* ---- rows and their teams -------------------------------------------------------------------------------------- */

/* Rows as units: `heads` parts of `cols` columns each. */
struct units {
	size_t rows, cols;
	uint32_t heads;
	unsigned team; /* threads of a unit */
	bool wide;     /* elements move as words, and a row has whole groups of them */
};

/* GROUPS of a kernel: how many groups of EACH a lane of a warp holds.  0: teams are blocks, a thread holds two. */
constexpr int held(int groups) { return groups ? groups : 2; }

static inline units
units_of(size_t rows, size_t cols, size_t heads, bool wide)
{
	const size_t held_by_warp = 32 * EACH * held(0);
	units u = { rows, cols, heads ? (uint32_t)heads : 1, 8, wide && cols % EACH == 0 };

	while (u.team < 32 && u.team * EACH < cols)
		u.team *= 2;
	if (cols > LONGEST_WARP)
		u.team = cols < LONGEST_BLOCK ? (unsigned)df_blocks_of(cols, held_by_warp) * 32
		    : (unsigned)BLOCK_THREADS;
	return u;
}
/*
 * f(number<GROUPS>(), number<WIDE>()) for such rows.  Elements that cannot move as words are not worth kernels of their
 * own for each length: groups that are empty change no sum.
 */
template <class F>
static inline void
with_groups(const units &u, F f)
{
	if (u.cols > LONGEST_WARP)
		u.wide ? f(number<0>(), number<1>()) : f(number<0>(), number<0>());
	else if (!u.wide)
		f(number<4>(), number<0>());
	else if (u.cols > 2 * 32 * EACH)
		f(number<4>(), number<1>());
	else if (u.cols > 32 * EACH)
		f(number<2>(), number<1>());
	else
		f(number<1>(), number<1>());
}

/* A thread's place: in which unit of its block's, and the first column of group 0; group k is k * stride further. */
struct place {
	uint32_t unit, col, stride;
};
template <int GROUPS>
DF_DEVICE place
place_of(const units &u)
{
	if (GROUPS == 0)
		return { 0, threadIdx.x * EACH, u.team * EACH };
	return { threadIdx.x / u.team, threadIdx.x % u.team * EACH, u.team * EACH };
}
/* The sum over a team, in all of its threads; all threads of the block come. */
template <int GROUPS>
DF_DEVICE float
team_sum(float v, unsigned team, float *part)
{
	if constexpr (GROUPS == 0) {
		return block_sum(v, part);
	} else {
		for (int m = (int)team / 2; m > 0; m /= 2)
			v += shuffle_xor(v, m);
		return v;
	}
}
/* What is left of a unit from column c on, 0 where it is no unit of the call. */
DF_DEVICE size_t
left_of(const units &u, bool there, size_t c)
{
	return there && c < u.cols ? u.cols - c : 0;
}

struct team_shared {
	float part[32];
};

/* Launch a kernel with a team for each unit. */
static inline unsigned
threads_of(const units &u)
{
	return u.cols > LONGEST_WARP ? u.team : (unsigned)THREADS;
}
static inline size_t
unit_blocks(const units &u)
{
	return df_blocks_of(u.rows * u.heads, threads_of(u) / u.team);
}

/* ---- RMS norm -------------------------------------------------------------------------------------------------- */

template <class T>
DF_DEVICE float
sum_of_squares(float sum, const octet<T> &x)
{
	float v[EACH];

	values_of(x, v);
#pragma unroll
	for (int i = 0; i < EACH; i++)
		sum += v[i] * v[i];
	return sum;
}
/* y = w (x rstd) */
template <bool WIDE, class T>
DF_DEVICE void
put_normed(T *y, const float *w, size_t n, const octet<T> &x, float rstd)
{
	float v[EACH], f[EACH];

	values_of(x, v);
	values_of(octet_of<WIDE>(w, n), f);
#pragma unroll
	for (int i = 0; i < EACH; i++)
		v[i] = f[i] * (v[i] * rstd);
	put_octet<WIDE>(y, n, v);
}

/* Floor: x and y. */
template <class T, int GROUPS, bool WIDE>
DF_KERNEL(GROUPS ? THREADS : BLOCK_THREADS, 1)
rmsnorm_fwd(units u, view<T> y, view<float> rstd, view<const T> x, const float *w, float eps)
{
	DF_SHARED(team_shared, shared);
	const place at = place_of<GROUPS>(u);
	const size_t unit = blockIdx.x * (size_t)(blockDim.x / u.team) + at.unit;
	const size_t t = unit / u.heads, h = unit % u.heads;
	const bool there = t < u.rows;
	const T *from = x.p + t * x.ld + h * u.cols;
	T *to = y.p + t * y.ld + h * u.cols;
	octet<T> v[held(GROUPS)];
	float sum = 0, r;

#pragma unroll
	for (int k = 0; k < held(GROUPS); k++)
		v[k] = octet_of<WIDE>(from + at.col + k * at.stride, left_of(u, there, at.col + k * at.stride));
#pragma unroll
	for (int k = 0; k < held(GROUPS); k++)
		sum = sum_of_squares(sum, v[k]);
#pragma unroll 1
	for (size_t c = at.col + held(GROUPS) * at.stride; GROUPS == 0 && c < u.cols; c += at.stride)
		sum = sum_of_squares(sum, octet_of<WIDE>(from + c, u.cols - c));
	r = 1.0f / sqrtf(team_sum<GROUPS>(sum, u.team, shared.part) / (float)u.cols + eps);
	if (there && at.col == 0)
		rstd.p[t * rstd.ld + h] = r;
#pragma unroll
	for (int k = 0; k < held(GROUPS); k++) {
		const size_t c = at.col + k * at.stride;

		put_normed<WIDE>(to + c, w + c, left_of(u, there, c), v[k], r);
	}
#pragma unroll 1
	for (size_t c = at.col + held(GROUPS) * at.stride; GROUPS == 0 && c < u.cols; c += at.stride)
		put_normed<WIDE>(to + c, w + c, u.cols - c, octet_of<WIDE>(from + c, u.cols - c), r);
}

template <class T>
static void
run_rmsnorm_fwd(struct df_backend *be, const struct df_rmsnorm *a)
{
	const view<const T> x = view_of<const T>(a->x);
	const view<T> y = view_of<T>(a->y);
	const view<const float> w = view_of<const float>(a->w);
	const units u = units_of(a->x.rows, a->w.cols, a->n_heads,
	    is_wide(w, 1) && is_wide(x, a->x.rows) && is_wide(y, a->x.rows));

	with_groups(u, [&](auto groups, auto wide) {
		constexpr int G = decltype(groups)::value;
		constexpr bool W = decltype(wide)::value;

		if (unit_blocks(u))
			DF_LAUNCH((rmsnorm_fwd<T, G, W>), dim(unit_blocks(u)), dim(threads_of(u)), sizeof(team_shared),
			    df_cuda_lane_of(be)->stream, u, y, view_of<float>(a->rstd), x, w.p, a->eps);
	});
}

int
df_cuda_rmsnorm_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_rmsnorm *>(args);

	with_act(a->x.type, [&](auto t) { run_rmsnorm_fwd<decltype(t)>(be, a); });
	return df_cuda_launched("rmsnorm_fwd", err);
}

/* ---- sums over rows: chunks ------------------------------------------------------------------------------------ */

/*
 * Chunks of at most `each` rows that do not cross segments.  They have slots: segment s those from offsets[s] / each +
 * s on, which leaves room for all of its chunks, so that a slot is found without counting; a slot too many stays
 * empty.
 */
struct chunks {
	const uint32_t *offsets; /* NULL: one segment */
	uint32_t n_segments, rows, each;
};

static inline chunks
chunks_of(const df_tensor &offsets, size_t n_segments, size_t rows, uint32_t each)
{
	return { u32_of(offsets), (uint32_t)n_segments, (uint32_t)rows, each };
}
static inline size_t
slots_of(const chunks &c)
{
	return c.offsets ? c.rows / c.each + (size_t)c.n_segments : df_blocks_of(c.rows, c.each);
}
DF_DEVICE uint32_t
first_slot(const chunks &c, uint32_t s)
{
	return c.offsets ? c.offsets[s] / c.each + s : 0;
}
/* The rows [first, end) of a slot; none if first >= end. */
DF_DEVICE void
rows_of_slot(const chunks &c, uint32_t slot, uint32_t *first, uint32_t *end)
{
	uint32_t lo = 0, hi = c.offsets ? c.n_segments : 1;

	while (hi - lo > 1) {
		const uint32_t mid = lo + (hi - lo) / 2;

		if (first_slot(c, mid) <= slot)
			lo = mid;
		else
			hi = mid;
	}
	*first = (c.offsets ? c.offsets[lo] : 0) + (slot - first_slot(c, lo)) * c.each;
	*end = c.offsets ? c.offsets[lo + 1] : c.rows;
	if (*end > *first + c.each)
		*end = *first + c.each;
}

enum { SLOT_COLS = 32, SLOT_GROUPS = 16 };
struct slots_shared {
	double sum[SLOT_GROUPS][SLOT_COLS];
};

/*
 * out[s] (+)= the slots of segment s, in f64: group g of threads adds the slots g, g + 16, ..., then the groups are
 * added in order.  Floor: the partial sums, 1 / rows of a chunk of what they are sums of.
 */
DF_KERNEL(SLOT_COLS *SLOT_GROUPS)
sum_slots(chunks c, view<float> out, size_t cols, const float *part, bool accumulate)
{
	DF_SHARED(slots_shared, shared);
	const uint32_t across = (uint32_t)((cols + SLOT_COLS - 1) / SLOT_COLS), s = blockIdx.x / across;
	const uint32_t lane = threadIdx.x % SLOT_COLS, group = threadIdx.x / SLOT_COLS;
	const size_t col = (size_t)(blockIdx.x - s * across) * SLOT_COLS + lane;
	const uint32_t n_rows = c.offsets ? c.offsets[s + 1] - c.offsets[s] : c.rows;
	const uint32_t first = first_slot(c, s), n = (n_rows + c.each - 1) / c.each;
	double sum = 0;

	for (uint32_t i = group; i < n && col < cols; i += SLOT_GROUPS)
		sum += part[(first + i) * cols + col];
	shared.sum[group][lane] = sum;
	sync_block();
	if (group != 0 || col >= cols)
		return;
	sum = accumulate ? out.p[s * out.ld + col] : 0;
	for (int g = 0; g < SLOT_GROUPS; g++)
		sum += shared.sum[g][lane];
	out.p[s * out.ld + col] = (float)sum;
}

static void
run_sum_slots(struct df_backend *be, const chunks &c, const df_tensor &out, const float *part, bool accumulate)
{
	const size_t blocks = out.rows * df_blocks_of(out.cols, SLOT_COLS);

	if (blocks)
		DF_LAUNCH(sum_slots, dim(blocks), dim(SLOT_COLS * SLOT_GROUPS), sizeof(slots_shared),
		    df_cuda_lane_of(be)->stream, c, view_of<float>(out), out.cols, part, accumulate);
}

/* The partial sums of all slots. */
static int
part_of(struct df_backend *be, float **out, const chunks &c, size_t cols, struct df_err *err)
{
	void *p = nullptr;
	int rc = DF_OK;

	if (slots_of(c) > 0 && cols > 0)
		rc = df_cuda_scratch(be, &p, slots_of(c) * cols * sizeof(float), err);
	*out = static_cast<float *>(p);
	return rc;
}

/* ---- RMS norm, backward ---------------------------------------------------------------------------------------- */

template <int GROUPS> struct rmsnorm_bwd_shared {
	float part[32];
	float sum[GROUPS ? THREADS * EACH * GROUPS : 1]; /* each team's, column by column */
};

template <class T> struct rmsnorm_bwd_args {
	view<T> dx;
	view<const T> x, dy;
	view<const float> rstd;
	const float *w;
	float *part; /* [slots, cols] of dw */
	chunks rows;
	bool assign;
};

/* dx (+)= rstd (w dy - x pull) */
template <bool WIDE, class T>
DF_DEVICE void
put_dx(T *dx, const float *w, size_t n, const octet<T> &x, const octet<T> &dy, float rstd, float pull, bool assign)
{
	float v[EACH], g[EACH], f[EACH];

	values_of(x, v);
	values_of(dy, g);
	values_of(octet_of<WIDE>(w, n), f);
#pragma unroll
	for (int i = 0; i < EACH; i++)
		v[i] = rstd * (f[i] * g[i] - v[i] * pull);
	if (!assign) {
		values_of(octet_of<WIDE>((const T *)dx, n), g);
#pragma unroll
		for (int i = 0; i < EACH; i++)
			v[i] += g[i];
	}
	put_octet<WIDE>(dx, n, v);
}
/* sum + w dy x */
template <bool WIDE, class T>
DF_DEVICE float
dot3(float sum, const float *w, size_t n, const octet<T> &x, const octet<T> &dy)
{
	float v[EACH], g[EACH], f[EACH];

	values_of(x, v);
	values_of(dy, g);
	values_of(octet_of<WIDE>(w, n), f);
#pragma unroll
	for (int i = 0; i < EACH; i++)
		sum += f[i] * g[i] * v[i];
	return sum;
}
/* sums += dy x rstd */
template <class T>
DF_DEVICE void
add_dw(float sums[EACH], const octet<T> &x, const octet<T> &dy, float rstd)
{
	float v[EACH], g[EACH];

	values_of(x, v);
	values_of(dy, g);
#pragma unroll
	for (int i = 0; i < EACH; i++)
		sums[i] += g[i] * (v[i] * rstd);
}

/*
 * A block has the rows of a slot; its teams take their units in turn.  With DW a team sums its dy x rstd on the way,
 * and the teams' sums are added in order.  Floor: x, dy and dx, which is read, too, where it accumulates; and with DW
 * the partial sums.
 */
template <class T, int GROUPS, bool WIDE, bool DW>
DF_KERNEL(GROUPS ? THREADS : BLOCK_THREADS, 1) rmsnorm_bwd(units u, rmsnorm_bwd_args<T> a)
{
	DF_SHARED(rmsnorm_bwd_shared<GROUPS>, shared);
	const place at = place_of<GROUPS>(u);
	const unsigned n_teams = blockDim.x / u.team;
	float *dw = DW ? a.part + blockIdx.x * u.cols : nullptr;
	float sums[held(GROUPS)][EACH] = {};
	uint32_t first, end;

	rows_of_slot(a.rows, blockIdx.x, &first, &end);
	if (first >= end)
		return;

	const uint32_t n_units = (end - first) * u.heads;

#pragma unroll 1
	for (uint32_t i = 0; i < n_units; i += n_teams) {
		const uint32_t unit = i + at.unit, row = unit / u.heads, h = unit - row * u.heads;
		const size_t t = first + row, c0 = h * u.cols;
		const bool there = unit < n_units;
		const T *px = a.x.p + t * a.x.ld + c0, *pdy = a.dy.p + t * a.dy.ld + c0;
		T *pdx = a.dx.p + t * a.dx.ld + c0;
		const float rstd = there ? a.rstd.p[t * a.rstd.ld + h] : 0.0f;
		octet<T> x[held(GROUPS)], dy[held(GROUPS)];
		float sum = 0;

#pragma unroll
		for (int k = 0; k < held(GROUPS); k++) {
			const size_t c = at.col + k * at.stride, n = left_of(u, there, c);

			x[k] = octet_of<WIDE>(px + c, n);
			dy[k] = octet_of<WIDE>(pdy + c, n);
		}
#pragma unroll
		for (int k = 0; k < held(GROUPS); k++) {
			const size_t c = at.col + k * at.stride;

			sum = dot3<WIDE>(sum, a.w + c, left_of(u, there, c), x[k], dy[k]);
		}
#pragma unroll 1
		for (size_t c = at.col + held(GROUPS) * at.stride; GROUPS == 0 && c < u.cols; c += at.stride)
			sum = dot3<WIDE>(sum, a.w + c, u.cols - c, octet_of<WIDE>(px + c, u.cols - c),
			    octet_of<WIDE>(pdy + c, u.cols - c));

		const float pull = team_sum<GROUPS>(sum, u.team, shared.part) * rstd * rstd / (float)u.cols;

#pragma unroll
		for (int k = 0; k < held(GROUPS); k++) {
			const size_t c = at.col + k * at.stride;

			put_dx<WIDE>(pdx + c, a.w + c, left_of(u, there, c), x[k], dy[k], rstd, pull, a.assign);
			if (DW)
				add_dw(sums[k], x[k], dy[k], rstd);
		}
#pragma unroll 1
		for (size_t c = at.col + held(GROUPS) * at.stride; GROUPS == 0 && c < u.cols; c += at.stride) {
			const size_t n = u.cols - c;
			const octet<T> more_x = octet_of<WIDE>(px + c, n), more_dy = octet_of<WIDE>(pdy + c, n);

			put_dx<WIDE>(pdx + c, a.w + c, n, more_x, more_dy, rstd, pull, a.assign);
			if (DW) { /* the rest of a sum is in memory, the thread's own */
				float more[EACH];

				get<EACH, false>(dw + c, i == 0 ? 0 : n, more);
				add_dw(more, more_x, more_dy, rstd);
				put<EACH, false>(dw + c, n, more);
			}
		}
	}
	if constexpr (DW && GROUPS == 0) {
#pragma unroll
		for (int k = 0; k < held(GROUPS); k++)
			put<EACH, false>(dw + at.col + k * at.stride, left_of(u, true, at.col + k * at.stride),
			    sums[k]);
	} else if constexpr (DW) {
#pragma unroll
		for (int k = 0; k < held(GROUPS); k++)
			put<EACH, true>(shared.sum + at.unit * held(GROUPS) * at.stride + at.col + k * at.stride, EACH,
			    sums[k]);
		sync_block();
		for (size_t c = threadIdx.x; c < u.cols; c += blockDim.x) {
			double sum = 0;

			for (unsigned i = 0; i < n_teams; i++)
				sum += shared.sum[i * held(GROUPS) * at.stride + c];
			dw[c] = (float)sum;
		}
	}
}

template <bool DW, class T>
static void
launch_rmsnorm_bwd(struct df_backend *be, const units &u, const rmsnorm_bwd_args<T> &a)
{
	with_groups(u, [&](auto groups, auto wide) {
		constexpr int G = decltype(groups)::value;
		constexpr bool W = decltype(wide)::value;

		if (slots_of(a.rows))
			DF_LAUNCH((rmsnorm_bwd<T, G, W, DW>), dim(slots_of(a.rows)), dim(threads_of(u)),
			    sizeof(rmsnorm_bwd_shared<G>), df_cuda_lane_of(be)->stream, u, a);
	});
}

template <class T>
static int
run_rmsnorm_bwd(struct df_backend *be, const struct df_rmsnorm_bwd *a, struct df_err *err)
{
	const size_t rows = a->x.rows;
	const bool dw = a->dw.mem != nullptr, by_block = a->w.cols > LONGEST_WARP;
	rmsnorm_bwd_args<T> k = { view_of<T>(a->dx), view_of<const T>(a->x), view_of<const T>(a->dy),
		view_of<const float>(a->rstd), f32_of(a->w), nullptr,
		chunks_of(a->offsets, a->dw.rows, rows, by_block ? BLOCK_ROWS : WARP_ROWS), a->assign };
	const units u = units_of(rows, a->w.cols, a->n_heads,
	    is_wide(view_of<const float>(a->w), 1) && is_wide(k.x, rows) && is_wide(k.dy, rows) && is_wide(k.dx, rows));
	int rc;

	if (!dw) { /* fewer rows for a block, so that more of them are under way at once */
		k.rows = chunks_of(DF_TENSOR_NONE, 1, rows, by_block ? 1 : THREADS / 32);
		launch_rmsnorm_bwd<false>(be, u, k);
		return DF_OK;
	}
	DF_TRY(part_of(be, &k.part, k.rows, u.cols, err));
	launch_rmsnorm_bwd<true>(be, u, k);
	run_sum_slots(be, k.rows, a->dw, k.part, a->accumulate);
out:
	return rc;
}

int
df_cuda_rmsnorm_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_rmsnorm_bwd *>(args);
	int rc = DF_OK;

	with_act(a->x.type, [&](auto t) { rc = run_rmsnorm_bwd<decltype(t)>(be, a, err); });
	return rc ? rc : df_cuda_launched("rmsnorm_bwd", err);
}

/* ---- layer norm ------------------------------------------------------------------------------------------------ */

/* Sum of the deviations from `mean`, or of their squares, of n elements. */
template <class T>
DF_DEVICE float
sum_of_deviations(float sum, const octet<T> &x, float mean, size_t n, bool squared)
{
	float v[EACH];

	values_of(x, v);
#pragma unroll
	for (int i = 0; i < EACH; i++) {
		const float d = (size_t)i < n ? v[i] - mean : 0.0f;

		sum += squared ? d * d : d;
	}
	return sum;
}
/* y = w ((x - mean) rstd) + b */
template <bool WIDE, class T>
DF_DEVICE void
put_layernorm(T *y, const float *w, const float *b, size_t n, const octet<T> &x, float mean, float rstd)
{
	float v[EACH], f[EACH], bias[EACH];

	values_of(x, v);
	values_of(octet_of<WIDE>(w, n), f);
	values_of(octet_of<WIDE>(b, n), bias);
#pragma unroll
	for (int i = 0; i < EACH; i++)
		v[i] = f[i] * ((v[i] - mean) * rstd) + bias[i];
	put_octet<WIDE>(y, n, v);
}

/* Mean, then the squares of what is left of it: two sums over registers.  Floor: x and y. */
template <class T, int GROUPS, bool WIDE>
DF_KERNEL(GROUPS ? THREADS : BLOCK_THREADS, 1)
layernorm(units u, view<T> y, view<const T> x, const float *w, const float *b, float eps)
{
	DF_SHARED(team_shared, shared);
	const place at = place_of<GROUPS>(u);
	const size_t t = blockIdx.x * (size_t)(blockDim.x / u.team) + at.unit;
	const bool there = t < u.rows;
	const T *from = x.p + t * x.ld;
	T *to = y.p + t * y.ld;
	octet<T> v[held(GROUPS)];
	float mean = 0, r = 0;

#pragma unroll
	for (int k = 0; k < held(GROUPS); k++)
		v[k] = octet_of<WIDE>(from + at.col + k * at.stride, left_of(u, there, at.col + k * at.stride));
#pragma unroll
	for (int power = 1; power <= 2; power++) {
		float sum = 0;

#pragma unroll
		for (int k = 0; k < held(GROUPS); k++)
			sum = sum_of_deviations(sum, v[k], mean, left_of(u, there, at.col + k * at.stride), power == 2);
#pragma unroll 1
		for (size_t c = at.col + held(GROUPS) * at.stride; GROUPS == 0 && c < u.cols; c += at.stride)
			sum = sum_of_deviations(sum, octet_of<WIDE>(from + c, u.cols - c), mean, u.cols - c,
			    power == 2);
		sum = team_sum<GROUPS>(sum, u.team, shared.part) / (float)u.cols;
		if (power == 1)
			mean = sum;
		else
			r = 1.0f / sqrtf(sum + eps);
	}
#pragma unroll
	for (int k = 0; k < held(GROUPS); k++) {
		const size_t c = at.col + k * at.stride;

		put_layernorm<WIDE>(to + c, w + c, b + c, left_of(u, there, c), v[k], mean, r);
	}
#pragma unroll 1
	for (size_t c = at.col + held(GROUPS) * at.stride; GROUPS == 0 && c < u.cols; c += at.stride)
		put_layernorm<WIDE>(to + c, w + c, b + c, u.cols - c, octet_of<WIDE>(from + c, u.cols - c), mean, r);
}

template <class T>
static void
run_layernorm(struct df_backend *be, const struct df_layernorm *a)
{
	const size_t rows = a->x.rows;
	const view<const T> x = view_of<const T>(a->x);
	const view<T> y = view_of<T>(a->y);
	const view<const float> w = view_of<const float>(a->w), b = view_of<const float>(a->b);
	const units u =
	    units_of(rows, a->x.cols, 0, is_wide(w, 1) && is_wide(b, 1) && is_wide(x, rows) && is_wide(y, rows));

	with_groups(u, [&](auto groups, auto wide) {
		constexpr int G = decltype(groups)::value;
		constexpr bool W = decltype(wide)::value;

		if (unit_blocks(u) && u.cols)
			DF_LAUNCH((layernorm<T, G, W>), dim(unit_blocks(u)), dim(threads_of(u)), sizeof(team_shared),
			    df_cuda_lane_of(be)->stream, u, y, x, w.p, b.p, a->eps);
	});
}

int
df_cuda_layernorm(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_layernorm *>(args);

	with_act(a->x.type, [&](auto t) { run_layernorm<decltype(t)>(be, a); });
	return df_cuda_launched("layernorm", err);
}

/* ---- dot products of rows -------------------------------------------------------------------------------------- */

/* A warp for each row.  Floor: x and y. */
template <class T>
DF_KERNEL(THREADS) row_dot(size_t rows, size_t cols, view<float> out, view<const T> x, view<const T> y, bool wide)
{
	const size_t t = blockIdx.x * (size_t)(THREADS / 32) + threadIdx.x / 32;
	const T *px = x.p + t * x.ld, *py = y.p + t * y.ld;
	float sum = 0;

	if (t >= rows)
		return;
	with_width(wide, [&](auto w) {
		constexpr bool WIDE = decltype(w)::value;

#pragma unroll (WIDE ? 4 : 1)
		for (size_t c = lane_id() * EACH; c < cols; c += 32 * EACH) {
			float a[EACH], b[EACH];

			values_of(octet_of<WIDE>(px + c, cols - c), a);
			values_of(octet_of<WIDE>(py + c, cols - c), b);
#pragma unroll
			for (int i = 0; i < EACH; i++)
				sum += a[i] * b[i];
		}
	});
	sum = warp_sum(sum);
	if (lane_id() == 0)
		out.p[t * out.ld] = sum;
}

int
df_cuda_row_dot(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_triple *>(args);
	const size_t rows = a->b.rows, cols = a->b.cols;

	with_act(a->b.type, [&](auto type) {
		using T = decltype(type);
		const view<const T> x = view_of<const T>(a->b), y = view_of<const T>(a->c);

		if (rows)
			DF_LAUNCH(row_dot<T>, dim(df_blocks_of(rows, THREADS / 32)), dim(THREADS), 0,
			    df_cuda_lane_of(be)->stream, rows, cols, view_of<float>(a->a), x, y,
			    cols % EACH == 0 && is_wide(x, rows) && is_wide(y, rows));
	});
	return df_cuda_launched("row_dot", err);
}

/* ---- sums of columns ------------------------------------------------------------------------------------------- */

enum { SUM_WARPS = THREADS / 32, SUM_COLS = 32 * EACH };
struct colsum_shared {
	float sum[SUM_WARPS][SUM_COLS];
};

/* A block has 256 columns of a slot's rows; its warps take the rows in turn and are added in order.  Floor: x. */
template <class T>
DF_KERNEL(THREADS) colsum(chunks rows, size_t cols, view<const T> x, float *part, bool wide)
{
	DF_SHARED(colsum_shared, shared);
	const uint32_t across = (uint32_t)((cols + SUM_COLS - 1) / SUM_COLS), slot = blockIdx.x / across;
	const size_t base = (size_t)(blockIdx.x - slot * across) * SUM_COLS, c = base + lane_id() * EACH;
	float sum[EACH] = {};
	uint32_t first, end;

	rows_of_slot(rows, slot, &first, &end);
	if (first >= end)
		return;
	with_width(wide, [&](auto w) {
		constexpr bool WIDE = decltype(w)::value;

#pragma unroll (WIDE ? 4 : 1)
		for (uint32_t t = first + threadIdx.x / 32; t < end; t += SUM_WARPS) {
			float v[EACH];

			values_of(octet_of<WIDE>(x.p + t * x.ld + c, c < cols ? cols - c : 0), v);
#pragma unroll
			for (int i = 0; i < EACH; i++)
				sum[i] += v[i];
		}
	});
	put<EACH, true>(shared.sum[threadIdx.x / 32] + lane_id() * EACH, EACH, sum);
	sync_block();
	if (base + threadIdx.x < cols) {
		double all = 0;

		for (int i = 0; i < SUM_WARPS; i++)
			all += shared.sum[i][threadIdx.x];
		part[slot * cols + base + threadIdx.x] = (float)all;
	}
}
static_assert((int)SUM_COLS == (int)THREADS, "a thread for each column");

int
df_cuda_colsum(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_colsum *>(args);
	const chunks rows = chunks_of(a->offsets, a->out.rows, a->x.rows, SUM_ROWS);
	const size_t blocks = slots_of(rows) * df_blocks_of(a->x.cols, SUM_COLS);
	float *part;
	int rc;

	DF_TRY(part_of(be, &part, rows, a->x.cols, err));
	with_act(a->x.type, [&](auto type) {
		using T = decltype(type);
		const view<const T> x = view_of<const T>(a->x);

		if (blocks)
			DF_LAUNCH(colsum<T>, dim(blocks), dim(THREADS), sizeof(colsum_shared),
			    df_cuda_lane_of(be)->stream, rows, a->x.cols, x, part,
			    a->x.cols % EACH == 0 && is_wide(x, a->x.rows));
	});
	run_sum_slots(be, rows, a->out, part, a->accumulate);
	rc = df_cuda_launched("colsum", err);
out:
	return rc;
}

/* ---- the sum of squares ---------------------------------------------------------------------------------------- */

enum { TOTAL_THREADS = 1024 };
template <int N> struct doubles_shared {
	double v[N];
};

/* The sum over a block of N threads, in a tree; thread 0's. */
template <int N>
DF_DEVICE double
tree_sum(double v, doubles_shared<N> &shared)
{
	shared.v[threadIdx.x] = v;
	sync_block();
	for (unsigned m = N / 2; m > 0; m /= 2) {
		if (threadIdx.x < m)
			shared.v[threadIdx.x] += shared.v[threadIdx.x + m];
		sync_block();
	}
	return shared.v[0];
}

/* The 4 elements from e on, counted row after row, of n. */
DF_DEVICE void
get_four(view<const float> x, size_t e, size_t n, size_t cols, float v[4])
{
	size_t row = e / cols, col = e - row * cols;

	for (int i = 0; i < 4; i++) {
		v[i] = e + i < n ? x.p[row * x.ld + col] : 0.0f;
		if (++col == cols) {
			row++;
			col = 0;
		}
	}
}

/* part[b] = that of elements [b PIECE, ...), counted row after row; a thread has 4 at a time.  Floor: x. */
DF_KERNEL(THREADS) sumsq_pieces(double *part, view<const float> x, size_t n, size_t cols, bool wide)
{
	DF_SHARED(doubles_shared<THREADS>, shared);
	const size_t first = blockIdx.x * (size_t)PIECE;
	double sum[4] = {};

	with_width(wide && n - first >= PIECE, [&](auto w) {
		constexpr bool WIDE = decltype(w)::value;

#pragma unroll (WIDE ? 4 : 1)
		for (int k = 0; k < PIECE / (4 * THREADS); k++) {
			const size_t e = first + (k * THREADS + threadIdx.x) * 4;
			float v[4];

			if constexpr (WIDE)
				get<4, true>(x.p + e, 4, v);
			else
				get_four(x, e, n, cols, v);
#pragma unroll
			for (int i = 0; i < 4; i++)
				sum[i] += (double)v[i] * v[i];
		}
	});

	const double total = tree_sum((sum[0] + sum[2]) + (sum[1] + sum[3]), shared);

	if (threadIdx.x == 0)
		part[blockIdx.x] = total;
}
DF_KERNEL(TOTAL_THREADS) sumsq_total(double *out, const double *part, size_t n)
{
	DF_SHARED(doubles_shared<TOTAL_THREADS>, shared);
	double sum = 0;

	for (size_t i = threadIdx.x; i < n; i += TOTAL_THREADS)
		sum += part[i];
	sum = tree_sum(sum, shared);
	if (threadIdx.x == 0)
		*out = sum;
}

int
df_cuda_sumsq(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_pair *>(args);
	const view<const float> x = view_of<const float>(a->src);
	const size_t n = df_tensor_numel(a->src), pieces = df_blocks_of(n, PIECE);
	void *part = nullptr;
	int rc;

	DF_TRY(df_cuda_scratch(be, &part, (pieces + 1) * sizeof(double), err));
	if (pieces)
		DF_LAUNCH(sumsq_pieces, dim(pieces), dim(THREADS), sizeof(doubles_shared<THREADS>),
		    df_cuda_lane_of(be)->stream, static_cast<double *>(part), x, n, a->src.cols,
		    is_flat(a->src) && is_wide(x, 1));
	DF_LAUNCH(sumsq_total, dim(1), dim(TOTAL_THREADS), sizeof(doubles_shared<TOTAL_THREADS>),
	    df_cuda_lane_of(be)->stream, view_of<double>(a->dst).p, static_cast<const double *>(part), pieces);
	rc = df_cuda_launched("sumsq", err);
out:
	return rc;
}
