/*
 * attn_bwd.cu - attention, backward: the probabilities P again from the scores and lse, and with D = dO V^T
 *
 *	delta_i = dO_i . O_i        dV = P^T dO        dS = P (D - delta)        dQ = scale dS K        dK = scale dS^T Q
 *
 * Dao et al. 2022, algorithm 4, without atomics: one kernel for delta, one whose blocks have some keys and go along
 * their queries (dK, dV), one whose blocks have some queries and go along their keys (dQ).  The scores are computed
 * twice: seven products instead of five, but every sum has one owner and one order.
 */
#include "backend/cuda/attn.h"

/* delta[t,h] = dO . O of a head, a warp each: sums by lane, then over the warp.  Reads 2 T H E elements. */
template <class T>
DF_KERNEL(256)
attn_delta(view<const T> d_o, view<const T> o, float *delta, uint32_t n, uint32_t n_heads, uint32_t e)
{
	const size_t i = (size_t)blockIdx.x * 8 + threadIdx.x / 32;
	const uint32_t t = (uint32_t)(i / n_heads), h = i % n_heads;
	float sum = 0;

	if (t >= n)
		return;
	for (unsigned c = lane_id(); c < e; c += 32)
		sum = fmaf(load(d_o.p + t * d_o.ld + h * e + c), load(o.p + t * o.ld + h * e + c), sum);
	sum = warp_sum(sum);
	if (lane_id() == 0)
		delta[i] = sum;
}

/* ---- float32 ----------------------------------------------------------------------------------------------------- */

template <int E> struct scalar_bwd_shared {
	alignas(16) float a[scalar<E>::ROWS * E], b[scalar<E>::ROWS * E];             /* the block's own: K V or Q dO */
	float x[scalar<E>::OTHERS * scalar<E>::LD], y[scalar<E>::OTHERS * scalar<E>::LD]; /* on their way: Q dO or K V */
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
DF_KERNEL(128)
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
DF_KERNEL(128)
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
scalar_backward(rt_stream_t stream, const struct df_attn_bwd *b, const float *delta, const attn_shape &shape)
{
	const struct df_attn *f = &b->fwd;
	const scalar_bwd g = { view_of<const float>(f->q), view_of<const float>(f->k), view_of<const float>(f->v),
		view_of<const float>(b->d_o), view_of<const float>(f->lse), delta, view_of<float>(b->dq),
		view_of<float>(b->dk), view_of<float>(b->dv), shape };

	with_scalar_width(shape.e, [&](auto e) {
		enum { E = decltype(e)::value };
		const size_t n = attn_n_tiles(f->q.rows, shape.n_samples, scalar<E>::ROWS);

		DF_LAUNCH(scalar_bwd_keys<E>, dim(n * shape.n_kv_heads), dim(128), sizeof(scalar_bwd_shared<E>), stream, g);
		DF_LAUNCH(scalar_bwd_queries<E>, dim(n * shape.n_heads), dim(128), sizeof(scalar_bwd_shared<E>), stream, g);
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

	if (b->fwd.q.type != DF_F32)
		return df_fail(err, DF_EUNSUPPORTED, "attn_bwd: bf16 is not there yet");
	if (n_rows == 0)
		return DF_OK;
	DF_TRY(attn_shape_of(shape, "attn_bwd", &b->fwd, err));
	shape.vector = shape.vector && attn_is_vector(b->d_o, shape.e);
	DF_TRY(df_cuda_scratch(be, &delta, n_rows * n_heads * sizeof(float), err));
	with_act(b->d_o.type, [&](auto type) {
		using T = decltype(type);

		DF_LAUNCH(attn_delta<T>, dim(df_blocks_of(n_rows * n_heads, 8)), dim(256), 0, stream,
		    view_of<const T>(b->d_o), view_of<const T>(b->fwd.o), (float *)delta, (uint32_t)n_rows,
		    shape.n_heads, shape.e);
	});
	scalar_backward(stream, b, (const float *)delta, shape);
	rc = df_cuda_launched("attn_bwd", err);
out:
	return rc;
}
