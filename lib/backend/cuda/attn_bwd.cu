/*
 * attn_bwd.cu - attention, backward: the probabilities P again from the scores and lse, and with D = dO V^T
 *
 *	delta_i = dO_i . O_i     dV = P^T dO     dS = P (D - delta)     dQ = scale dS K     dK = scale dS^T Q
 *
 * Dao et al. 2022, algorithm 4, without atomics: one kernel for delta, one whose blocks have some keys and go along
 * their queries (dK, dV), one whose blocks have some queries and go along their keys (dQ).  The scores are computed
 * twice: seven products instead of five, but every sum has one owner and one order.
 */
#include "backend/cuda/attn_mma.h"
#include "backend/cuda/attn_scalar.h"

/*
 * delta[i] = dO . O of a head, i = t H + h.  `lanes` lanes, a power of two, have a head, each 16 bytes of it at a time;
 * sums by lane, then over lanes.  Reads 2 T H E elements.
 */
template <class T>
DF_KERNEL(256)
attn_delta(view<const T> d_o, view<const T> o, float *delta, size_t n, uint32_t lanes, attn_shape a)
{
	enum { EACH = 16 / sizeof(T) };
	struct alignas(16) chunk {
		T v[EACH];
	};
	const size_t i = ((size_t)blockIdx.x * 256 + threadIdx.x) / lanes, t = i / a.n_heads, h = i % a.n_heads;
	float sum = 0;

	for (uint32_t c = lane_id() % lanes * EACH; i < n && c < a.e; c += lanes * EACH) {
		const T *x = d_o.p + t * d_o.ld + h * a.e + c, *y = o.p + t * o.ld + h * a.e + c;

		if (a.vector) {
			const chunk u = *reinterpret_cast<const chunk *>(x), w = *reinterpret_cast<const chunk *>(y);

			for (unsigned j = 0; j < EACH; j++)
				sum = fmaf(load(&u.v[j]), load(&w.v[j]), sum);
		} else {
			for (unsigned j = 0; j < EACH && c + j < a.e; j++)
				sum = fmaf(load(x + j), load(y + j), sum);
		}
	}
	for (uint32_t m = lanes / 2; m > 0; m /= 2)
		sum += shuffle_xor(sum, (int)m);
	if (i < n && lane_id() % lanes == 0)
		delta[i] = sum;
}
template <class T>
static void
find_delta(rt_stream_t stream, const struct df_attn_bwd *b, float *delta, attn_shape shape)
{
	const size_t n = b->fwd.q.rows * shape.n_heads;
	uint32_t lanes = 1;

	while (lanes < 32 && lanes * (16 / sizeof(T)) < shape.e)
		lanes *= 2;
	shape.vector = attn_is_vector(b->d_o, shape.e) && attn_is_vector(b->fwd.o, shape.e);
	DF_LAUNCH(attn_delta<T>, dim(df_blocks_of(n * lanes, 256)), dim(256), 0, stream, view_of<const T>(b->d_o),
	    view_of<const T>(b->fwd.o), delta, n, lanes, shape);
}

/* ---- float32 ----------------------------------------------------------------------------------------------------- */

template <int E> struct scalar_bwd_shared {
	alignas(16) float a[scalar<E>::ROWS * E], b[scalar<E>::ROWS * E];             /* the block's own: K V or Q dO */
	/* on their way: Q dO or K V */
	float x[scalar<E>::OTHERS * scalar<E>::LD], y[scalar<E>::OTHERS * scalar<E>::LD];
	float w[scalar<E>::ROWS * 32];                                                /* weights of those: P or dS */
};

/*
 * P[r] and dS[r] of the warp's rows, between the two rows of shared memory that a lane has of the others (x, y) and the
 * warp's (a, b).  Which of them is the query: `q` gives lse and delta.
 */
template <int E, class V>
DF_DEVICE void
scalar_weights(float p[scalar<E>::R], float ds[scalar<E>::R], const float *a, const float *b, const float *x,
    const float *y, float scale, V pair)
{
	float z[scalar<E>::R];

	scalar_scores<E>(z, a, x);
	scalar_scores<E>(ds, b, y);
#pragma unroll
	for (int r = 0; r < scalar<E>::R; r++) {
		float lse, delta;

		p[r] = pair(r, &lse, &delta) ? expf(z[r] * scale - lse) : 0.0f;
		ds[r] = p[r] != 0 ? p[r] * (ds[r] - delta) : 0.0f;
	}
}
template <int E>
DF_DEVICE void
scalar_put(float *w, const float v[scalar<E>::R])
{
	sync_warp();
#pragma unroll
	for (int r = 0; r < scalar<E>::R; r++)
		w[r * 32 + lane_id()] = v[r];
	sync_warp();
}
template <int E>
DF_DEVICE void
scalar_write(view<float> to, size_t row, size_t column, uint32_t n, uint32_t e, float scale,
    const float v[scalar<E>::R][scalar<E>::COLS])
{
#pragma unroll
	for (int r = 0; r < scalar<E>::R; r++)
#pragma unroll
		for (int i = 0; i < scalar<E>::COLS; i++)
			if ((uint32_t)r < n && 32 * i + lane_id() < e)
				to.p[(row + r) * to.ld + column + 32 * i + lane_id()] = scale * v[r][i];
}

struct scalar_bwd {
	view<const float> q, k, v, d_o, lse;
	const float *delta;
	view<float> dq, dk, dv;
	attn_shape a;
};

/*
 * dK and dV of a tile of keys of one key/value head: a warp has R keys, a lane one query of 32 and then E/32 columns.
 * Sums over the group's heads, then over queries, ascending.  8 E FLOPs a visible pair.
 */
template <int E>
DF_KERNEL(128, 2)
scalar_bwd_keys(scalar_bwd g)
{
	enum { R = scalar<E>::R, ROWS = scalar<E>::ROWS, OTHERS = scalar<E>::OTHERS, LD = scalar<E>::LD,
		COLS = scalar<E>::COLS };
	DF_SHARED(scalar_bwd_shared<E>, sh);
	const attn_shape a = g.a;
	const uint32_t kh = blockIdx.x % a.n_kv_heads, warp = threadIdx.x / 32, group = a.n_heads / a.n_kv_heads;
	float dk[R][COLS] = {}, dv[R][COLS] = {}, p[R], ds[R], *const w = sh.w + warp * R * 32;
	attn_tile t;

	if (!find_tile(t, a.offsets, a.n_samples, blockIdx.x / a.n_kv_heads, ROWS))
		return;
	const uint32_t first = t.first + warp * R, end = queries_end(a, t.first, ROWS, t.len);

	load_tile<ROWS, E, E>(sh.a, g.k.p + (t.t0 + t.first) * g.k.ld + kh * a.e, g.k.ld, t.len - t.first, a);
	load_tile<ROWS, E, E>(sh.b, g.v.p + (t.t0 + t.first) * g.v.ld + kh * a.e, g.v.ld, t.len - t.first, a);
	for (uint32_t h = kh * group; h < (kh + 1) * group; h++)
		for (uint32_t q0 = t.first; q0 < end; q0 += OTHERS) {
			const size_t row = t.t0 + q0;
			const uint32_t query = q0 + lane_id();

			load_tile<OTHERS, E, LD>(sh.x, g.q.p + row * g.q.ld + h * a.e, g.q.ld, t.len - q0, a);
			load_tile<OTHERS, E, LD>(sh.y, g.d_o.p + row * g.d_o.ld + h * a.e, g.d_o.ld, t.len - q0, a);
			cp_async_commit();
			cp_async_wait<0>();
			sync_block();
			const bool there = query < t.len;
			const float lse = there ? g.lse.p[(t.t0 + query) * g.lse.ld + h] : 0.0f;
			const float delta = there ? g.delta[(size_t)(t.t0 + query) * a.n_heads + h] : 0.0f;

			scalar_weights<E>(p, ds, sh.a + warp * R * E, sh.b + warp * R * E, sh.x + lane_id() * LD,
			    sh.y + lane_id() * LD, a.scale, [&](int r, float *its_lse, float *its_delta) {
				    *its_lse = lse;
				    *its_delta = delta;
				    return there && is_visible(a, query, first + r, t.len);
			    });
			scalar_put<E>(w, p);
			scalar_sums<E>(dv, w, sh.y);
			scalar_put<E>(w, ds);
			scalar_sums<E>(dk, w, sh.x);
			sync_block();
		}
	scalar_write<E>(g.dk, t.t0 + first, kh * a.e, first < t.len ? t.len - first : 0, a.e, a.scale, dk);
	scalar_write<E>(g.dv, t.t0 + first, kh * a.e, first < t.len ? t.len - first : 0, a.e, 1, dv);
}

/* dQ of a tile of queries of one head, over ascending keys.  6 E FLOPs a visible pair. */
template <int E>
DF_KERNEL(128, 2)
scalar_bwd_queries(scalar_bwd g)
{
	enum { R = scalar<E>::R, ROWS = scalar<E>::ROWS, OTHERS = scalar<E>::OTHERS, LD = scalar<E>::LD,
		COLS = scalar<E>::COLS };
	DF_SHARED(scalar_bwd_shared<E>, sh);
	const attn_shape a = g.a;
	const uint32_t index = gridDim.x - 1 - blockIdx.x, h = index % a.n_heads, warp = threadIdx.x / 32;
	const size_t column = h / (a.n_heads / a.n_kv_heads) * a.e;
	float dq[R][COLS] = {}, p[R], ds[R], lse[R], delta[R], *const w = sh.w + warp * R * 32;
	attn_tile t;
	uint32_t lo, hi;

	if (!find_tile(t, a.offsets, a.n_samples, index / a.n_heads, ROWS))
		return;
	const uint32_t first = t.first + warp * R;

	keys_of(a, t.first, ROWS, t.len, OTHERS, &lo, &hi);
	load_tile<ROWS, E, E>(sh.a, g.q.p + (t.t0 + t.first) * g.q.ld + h * a.e, g.q.ld, t.len - t.first, a);
	load_tile<ROWS, E, E>(sh.b, g.d_o.p + (t.t0 + t.first) * g.d_o.ld + h * a.e, g.d_o.ld, t.len - t.first, a);
#pragma unroll
	for (int r = 0; r < R; r++) {
		const bool there = first + r < t.len;

		lse[r] = there ? g.lse.p[(t.t0 + first + r) * g.lse.ld + h] : 0.0f;
		delta[r] = there ? g.delta[(size_t)(t.t0 + first + r) * a.n_heads + h] : 0.0f;
	}
	for (uint32_t k0 = lo; k0 < hi; k0 += OTHERS) {
		const size_t row = t.t0 + k0;

		load_tile<OTHERS, E, LD>(sh.x, g.k.p + row * g.k.ld + column, g.k.ld, t.len - k0, a);
		load_tile<OTHERS, E, LD>(sh.y, g.v.p + row * g.v.ld + column, g.v.ld, t.len - k0, a);
		cp_async_commit();
		cp_async_wait<0>();
		sync_block();
		scalar_weights<E>(p, ds, sh.a + warp * R * E, sh.b + warp * R * E, sh.x + lane_id() * LD,
		    sh.y + lane_id() * LD, a.scale, [&](int r, float *its_lse, float *its_delta) {
			    *its_lse = lse[r];
			    *its_delta = delta[r];
			    return first + r < t.len && is_visible(a, first + r, k0 + lane_id(), t.len);
		    });
		scalar_put<E>(w, ds);
		scalar_sums<E>(dq, w, sh.x);
		sync_block();
	}
	scalar_write<E>(g.dq, t.t0 + first, h * a.e, first < t.len ? t.len - first : 0, a.e, a.scale, dq);
}

static void
backward_in_f32(rt_stream_t stream, const struct df_attn_bwd *b, const float *delta, const attn_shape &shape)
{
	const struct df_attn *f = &b->fwd;
	const scalar_bwd g = { view_of<const float>(f->q), view_of<const float>(f->k), view_of<const float>(f->v),
		view_of<const float>(b->d_o), view_of<const float>(f->lse), delta, view_of<float>(b->dq),
		view_of<float>(b->dk), view_of<float>(b->dv), shape };

	with_scalar_width(shape.e, [&](auto e) {
		enum { E = decltype(e)::value };
		const size_t n = attn_n_tiles(f->q.rows, shape.n_samples, scalar<E>::ROWS);

		DF_LAUNCH(scalar_bwd_keys<E>, dim(n * shape.n_kv_heads), dim(128), sizeof(scalar_bwd_shared<E>),
		    stream, g);
		DF_LAUNCH(scalar_bwd_queries<E>, dim(n * shape.n_heads), dim(128), sizeof(scalar_bwd_shared<E>),
		    stream, g);
	});
}

/* ---- bf16 -------------------------------------------------------------------------------------------------------- */

/*
 * Tiles of the backward.  A block of four warps has KEYS keys, a warp 16 of them and COLS columns of their gradients
 * (E = 256: two warps compute the same scores), and meets QUERIES queries at a time; or it has 64 queries, a warp 16 of
 * them, and meets OTHERS keys at a time.  Of those STEP have their scores in registers.
 */
template <int E> struct tensor_bwd {
	enum { LD = tensor<E>::LD, KEYS = E > 128 ? 32 : 64, COLS = E > 128 ? E / 2 : E,
		QUERIES = E > 128 ? 16 : E > 64 ? 32 : 64, ROWS = 64, OTHERS = QUERIES,
		STEP = QUERIES < 32 ? QUERIES : 32 };
};
template <int E> struct tensor_keys_shared {
	typedef tensor_bwd<E> plan;

	alignas(16) bf16 k[plan::KEYS * plan::LD], v[plan::KEYS * plan::LD];
	bf16 q[2][plan::QUERIES * plan::LD], d_o[2][plan::QUERIES * plan::LD];
	float lse[2][plan::QUERIES], delta[2][plan::QUERIES]; /* lse in powers of two */
};
template <int E> struct tensor_queries_shared {
	typedef tensor_bwd<E> plan;

	alignas(16) bf16 q[plan::ROWS * plan::LD], d_o[plan::ROWS * plan::LD];
	bf16 k[2][plan::OTHERS * plan::LD], v[2][plan::OTHERS * plan::LD];
};
struct tensor_backward {
	view<const bf16> q, k, v, d_o;
	view<const float> lse;
	const float *delta;
	view<bf16> dq, dk, dv;
	attn_shape a;
	bool wide_q, wide_k; /* 16 bytes of dq, of dk and dv, can be written at once */
};

/* acc = the products of 16 rows of `left` with N of `right`, E columns each, both in shared memory. */
template <int E, int N>
DF_DEVICE void
tensor_scores(float (*acc)[N / 8][4], const bf16 *left, const bf16 *right)
{
#pragma unroll
	for (int n = 0; n < N / 8; n++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			acc[0][n][i] = 0;
#pragma unroll
	for (int c = 0; c < E / 16; c++) {
		uint32_t a[1][4];

		tensor_left(a[0], left + 16 * c, E + 8);
		tensor_rows<1, N>(acc, a, right + 16 * c, E + 8);
	}
}
/* acc += the 16 x N weights w times COLS columns of N rows of shared memory. */
template <int E, int N, int COLS>
DF_DEVICE void
tensor_sums(float (*acc)[COLS / 8][4], const float (*w)[4], const bf16 *rows)
{
#pragma unroll
	for (int c = 0; c < N / 16; c++) {
		uint32_t a[1][4];

		tensor_left_of(a[0], w, c);
		tensor_columns<1, COLS>(acc, a, rows + 16 * c * (E + 8), E + 8);
	}
}
DF_DEVICE bool
all_see(const attn_shape &a, uint32_t first_query, uint32_t queries, uint32_t first_key, uint32_t keys)
{
	return first_key + keys <= first_query + 1 && (!a.window || first_key + a.window > first_query + queries - 1);
}
DF_DEVICE bool
none_sees(const attn_shape &a, uint32_t first_query, uint32_t queries, uint32_t first_key, uint32_t keys)
{
	return first_key >= first_query + queries || (a.window && first_key + keys - 1 + a.window <= first_query);
}

/*
 * dK and dV of a tile of keys of one key/value head, over the group's heads and then over queries, ascending.  Scores
 * lie with a key in each row: so P and dS are the left sides of the sums as they are.  8 E FLOPs a visible pair.
 */
template <int E>
DF_KERNEL(128, E > 64 ? 2 : 3)
tensor_bwd_keys(tensor_backward g)
{
	typedef tensor_bwd<E> plan;
	enum { LD = plan::LD, KEYS = plan::KEYS, COLS = plan::COLS, QUERIES = plan::QUERIES, STEP = plan::STEP };
	DF_SHARED(tensor_keys_shared<E>, sh);
	const attn_shape a = g.a;
	const uint32_t kh = blockIdx.x % a.n_kv_heads, group = a.n_heads / a.n_kv_heads, warp = threadIdx.x / 32;
	const uint32_t row = warp % (KEYS / 16) * 16, part = warp / (KEYS / 16) * COLS;
	const float scale = a.scale * LOG2_E;
	float dk[1][COLS / 8][4] = {}, dv[1][COLS / 8][4] = {}, next_lse = 0, next_delta = 0;
	attn_tile t;

	if (!find_tile(t, a.offsets, a.n_samples, blockIdx.x / a.n_kv_heads, KEYS))
		return;
	const uint32_t first = t.first + row, end = queries_end(a, t.first, KEYS, t.len);
	const auto load = [&](uint32_t h, uint32_t q0, unsigned stage) {
		const size_t at = t.t0 + q0;

		load_tile<QUERIES, E, LD>(sh.q[stage], g.q.p + at * g.q.ld + h * a.e, g.q.ld, t.len - q0, a);
		load_tile<QUERIES, E, LD>(sh.d_o[stage], g.d_o.p + at * g.d_o.ld + h * a.e, g.d_o.ld, t.len - q0, a);
		cp_async_commit();
		if (threadIdx.x < QUERIES) { /* a query that is not there sees nothing: exp(-INFINITY) */
			const bool there = q0 + threadIdx.x < t.len;

			next_lse = there ? g.lse.p[(at + threadIdx.x) * g.lse.ld + h] * LOG2_E : INFINITY;
			next_delta = there ? g.delta[(at + threadIdx.x) * a.n_heads + h] : 0.0f;
		}
	};

	load_tile<KEYS, E, LD>(sh.k, g.k.p + (t.t0 + t.first) * g.k.ld + kh * a.e, g.k.ld, t.len - t.first, a);
	load_tile<KEYS, E, LD>(sh.v, g.v.p + (t.t0 + t.first) * g.v.ld + kh * a.e, g.v.ld, t.len - t.first, a);
	load(kh * group, t.first, 0);
	for (uint32_t h = kh * group, q0 = t.first, stage = 0; h < (kh + 1) * group; stage ^= 1) {
		const uint32_t this_q = q0;

		if (threadIdx.x < QUERIES) {
			sh.lse[stage][threadIdx.x] = next_lse;
			sh.delta[stage][threadIdx.x] = next_delta;
		}
		cp_async_wait<0>();
		sync_block(); /* this stage has come, and the other is no longer read */
		q0 += QUERIES;
		if (q0 >= end) {
			q0 = t.first;
			h++;
		}
		if (h < (kh + 1) * group)
			load(h, q0, stage ^ 1);
#pragma unroll
		for (int from = 0; from < QUERIES; from += STEP) {
			const uint32_t query = this_q + from;
			float p[1][STEP / 8][4], ds[1][STEP / 8][4];

			if (first >= t.len || none_sees(a, query, STEP, first, 16))
				continue;
			tensor_scores<E, STEP>(p, sh.k + row * LD, sh.q[stage] + from * LD);
			tensor_scores<E, STEP>(ds, sh.v + row * LD, sh.d_o[stage] + from * LD);
#pragma unroll
			for (int n = 0; n < STEP / 8; n++)
#pragma unroll
				for (int j = 0; j < 2; j++) {
					const uint32_t i = 8 * n + lane_id() % 4 * 2 + j;
					const float lse = sh.lse[stage][from + i], delta = sh.delta[stage][from + i];

#pragma unroll
					for (int r = 0; r < 2; r++) {
						float &x = p[0][n][2 * r + j], &y = ds[0][n][2 * r + j];

						x = fast_exp2(fmaf(x, scale, -lse));
						y = x * (y - delta);
					}
				}
			if (!all_see(a, query, STEP, first, 16)) {
				const uint32_t key = first + lane_id() / 4;

#pragma unroll
				for (int n = 0; n < STEP / 8; n++)
#pragma unroll
					for (int i = 0; i < 4; i++)
						if (!is_visible(a, query + 8 * n + lane_id() % 4 * 2 + i % 2,
						    key + i / 2 * 8, t.len))
							p[0][n][i] = ds[0][n][i] = 0;
			}
			tensor_sums<E, STEP, COLS>(dv, p[0], sh.d_o[stage] + from * LD + part);
			tensor_sums<E, STEP, COLS>(dk, ds[0], sh.q[stage] + from * LD + part);
		}
	}
	const float by_scale[1][2] = { { a.scale, a.scale } }, by_one[1][2] = { { 1, 1 } };
	const uint32_t n = first < t.len ? t.len - first : 0, e = a.e > part ? a.e - part : 0;
	const size_t at = t.t0 + first, column = kh * a.e + part;

	sync_block(); /* two warps may share the rows of k and v */
	tensor_put<1, COLS>(sh.k + row * LD + part, LD, dk, by_scale);
	tensor_put<1, COLS>(sh.v + row * LD + part, LD, dv, by_one);
	tensor_store<16, COLS>(g.dk.p + at * g.dk.ld + column, g.dk.ld, sh.k + row * LD + part, LD, n, e, g.wide_k);
	tensor_store<16, COLS>(g.dv.p + at * g.dv.ld + column, g.dv.ld, sh.v + row * LD + part, LD, n, e, g.wide_k);
}

/* dQ of a tile of queries of one head, over ascending keys.  6 E FLOPs a visible pair. */
template <int E>
DF_KERNEL(128, E > 128 ? 2 : 3)
tensor_bwd_queries(tensor_backward g)
{
	typedef tensor_bwd<E> plan;
	enum { LD = plan::LD, ROWS = plan::ROWS, OTHERS = plan::OTHERS, STEP = plan::STEP };
	DF_SHARED(tensor_queries_shared<E>, sh);
	const attn_shape a = g.a;
	const uint32_t index = gridDim.x - 1 - blockIdx.x, h = index % a.n_heads, row = threadIdx.x / 32 * 16;
	const size_t column = h / (a.n_heads / a.n_kv_heads) * a.e;
	const float scale = a.scale * LOG2_E;
	float dq[1][E / 8][4] = {}, lse[2], delta[2];
	attn_tile t;
	uint32_t lo, hi;

	if (!find_tile(t, a.offsets, a.n_samples, index / a.n_heads, ROWS))
		return;
	const uint32_t first = t.first + row;
	const auto load = [&](uint32_t k0, unsigned stage) {
		const size_t at = t.t0 + k0;

		load_tile<OTHERS, E, LD>(sh.k[stage], g.k.p + at * g.k.ld + column, g.k.ld, t.len - k0, a);
		load_tile<OTHERS, E, LD>(sh.v[stage], g.v.p + at * g.v.ld + column, g.v.ld, t.len - k0, a);
		cp_async_commit();
	};

	keys_of(a, t.first, ROWS, t.len, OTHERS, &lo, &hi);
	load_tile<ROWS, E, LD>(sh.q, g.q.p + (t.t0 + t.first) * g.q.ld + h * a.e, g.q.ld, t.len - t.first, a);
	load_tile<ROWS, E, LD>(sh.d_o, g.d_o.p + (t.t0 + t.first) * g.d_o.ld + h * a.e, g.d_o.ld, t.len - t.first, a);
	load(lo, 0);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		const uint32_t query = first + 8 * i + lane_id() / 4;
		const size_t at = t.t0 + query;

		lse[i] = query < t.len ? g.lse.p[at * g.lse.ld + h] * LOG2_E : INFINITY;
		delta[i] = query < t.len ? g.delta[at * a.n_heads + h] : 0.0f;
	}
	for (uint32_t k0 = lo, stage = 0; k0 < hi; k0 += OTHERS, stage ^= 1) {
		cp_async_wait<0>();
		sync_block(); /* this stage has come, and the other is no longer read */
		if (k0 + OTHERS < hi)
			load(k0 + OTHERS, stage ^ 1);
#pragma unroll
		for (int from = 0; from < OTHERS; from += STEP) {
			const uint32_t key = k0 + from;
			float p[1][STEP / 8][4], ds[1][STEP / 8][4];

			if (first >= t.len || none_sees(a, first, 16, key, STEP))
				continue;

			tensor_scores<E, STEP>(p, sh.q + row * LD, sh.k[stage] + from * LD);
			tensor_scores<E, STEP>(ds, sh.d_o + row * LD, sh.v[stage] + from * LD);
#pragma unroll
			for (int n = 0; n < STEP / 8; n++)
#pragma unroll
				for (int i = 0; i < 4; i++)
					ds[0][n][i] = fast_exp2(fmaf(p[0][n][i], scale, -lse[i / 2])) *
					    (ds[0][n][i] - delta[i / 2]);
			if (!all_see(a, first, 16, key, STEP)) {
				const uint32_t query = first + lane_id() / 4;

#pragma unroll
				for (int n = 0; n < STEP / 8; n++)
#pragma unroll
					for (int i = 0; i < 4; i++)
						if (!is_visible(a, query + i / 2 * 8,
						    key + 8 * n + lane_id() % 4 * 2 + i % 2, t.len))
							ds[0][n][i] = 0;
			}
			tensor_sums<E, STEP, E>(dq, ds[0], sh.k[stage] + from * LD);
		}
	}
	const float by_scale[1][2] = { { a.scale, a.scale } };

	tensor_put<1, E>(sh.q + row * LD, LD, dq, by_scale);
	tensor_store<16, E>(g.dq.p + (t.t0 + first) * g.dq.ld + h * a.e, g.dq.ld, sh.q + row * LD, LD,
	    first < t.len ? t.len - first : 0, a.e, g.wide_q);
}

static void
backward_in_bf16(rt_stream_t stream, const struct df_attn_bwd *b, const float *delta, const attn_shape &shape)
{
	const struct df_attn *f = &b->fwd;
	const tensor_backward g = { view_of<const bf16>(f->q), view_of<const bf16>(f->k), view_of<const bf16>(f->v),
		view_of<const bf16>(b->d_o), view_of<const float>(f->lse), delta, view_of<bf16>(b->dq),
		view_of<bf16>(b->dk), view_of<bf16>(b->dv), shape, attn_is_vector(b->dq, shape.e),
		attn_is_vector(b->dk, shape.e) && attn_is_vector(b->dv, shape.e) };

	with_tensor_width(shape.e, [&](auto e) {
		enum { E = decltype(e)::value };
		const size_t n_keys = attn_n_tiles(f->q.rows, shape.n_samples, tensor_bwd<E>::KEYS) * shape.n_kv_heads;
		const size_t n_queries = attn_n_tiles(f->q.rows, shape.n_samples, tensor_bwd<E>::ROWS) * shape.n_heads;

		DF_LAUNCH(tensor_bwd_keys<E>, dim(n_keys), dim(128), sizeof(tensor_keys_shared<E>), stream, g);
		DF_LAUNCH(tensor_bwd_queries<E>, dim(n_queries), dim(128), sizeof(tensor_queries_shared<E>), stream, g);
	});
}

/* ---- the slot ---------------------------------------------------------------------------------------------------- */

int
df_cuda_attn_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_attn_bwd *b = (const struct df_attn_bwd *)args;
	const rt_stream_t stream = df_cuda_lane_of(be)->stream;
	const size_t n_rows = b->fwd.q.rows, n_heads = b->fwd.n_heads;
	attn_shape shape;
	void *delta;
	int rc;

	if (n_rows == 0)
		return DF_OK;
	DF_TRY(attn_shape_of(shape, "attn_bwd", &b->fwd, err));
	shape.vector = shape.vector && attn_is_vector(b->d_o, shape.e);
	DF_TRY(df_cuda_scratch(be, &delta, n_rows * n_heads * sizeof(float), err));
	with_act(b->d_o.type, [&](auto type) { find_delta<decltype(type)>(stream, b, (float *)delta, shape); });
	(b->d_o.type == DF_BF16 ? backward_in_bf16 : backward_in_f32)(stream, b, (const float *)delta, shape);
	rc = df_cuda_launched("attn_bwd", err);
out:
	return rc;
}
