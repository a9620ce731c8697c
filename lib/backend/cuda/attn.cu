/*
 * attn.cu - attention, forward.
 */
#include "backend/cuda/attn_mma.h"
#include "backend/cuda/attn_scalar.h"

/* ---- float32 ----------------------------------------------------------------------------------------------------- */

template <int E> struct scalar_fwd_shared {
	alignas(16) float q[scalar<E>::ROWS * E];
	float k[scalar<E>::OTHERS * scalar<E>::LD], v[scalar<E>::OTHERS * scalar<E>::LD];
	float p[scalar<E>::ROWS * 32];
};

/*
 * A block has a tile of queries of one head, a warp R of them, a lane one key of 32 and then E/32 columns.  Blocks of
 * one tile are neighbours, so that the heads of a group find their keys in the L2 cache; late tiles, which see the most
 * keys, come first.  4 E FLOPs a visible pair, in FMAs.
 */
template <int E>
DF_KERNEL(128, 2)
scalar_forward(view<const float> q, view<const float> k, view<const float> v, view<float> o, view<float> lse,
    attn_shape a)
{
	enum { R = scalar<E>::R, ROWS = scalar<E>::ROWS, OTHERS = scalar<E>::OTHERS, LD = scalar<E>::LD };
	DF_SHARED(scalar_fwd_shared<E>, sh);
	const uint32_t index = gridDim.x - 1 - blockIdx.x, h = index % a.n_heads, warp = threadIdx.x / 32;
	const size_t column = h / (a.n_heads / a.n_kv_heads) * a.e;
	scalar_queries<E> x;
	attn_tile t;
	uint32_t lo, hi;

	if (!find_tile(t, a.offsets, a.n_samples, index / a.n_heads, ROWS))
		return;
	const uint32_t first = t.first + warp * R;

	keys_of(a, t.first, ROWS, t.len, OTHERS, &lo, &hi);
	load_tile<ROWS, E, E>(sh.q, q.p + (t.t0 + t.first) * q.ld + h * a.e, q.ld, t.len - t.first, a);
	scalar_start(x);
	for (uint32_t k0 = lo; k0 < hi; k0 += OTHERS) {
		load_tile<OTHERS, E, LD>(sh.k, k.p + (t.t0 + k0) * k.ld + column, k.ld, t.len - k0, a);
		load_tile<OTHERS, E, LD>(sh.v, v.p + (t.t0 + k0) * v.ld + column, v.ld, t.len - k0, a);
		cp_async_commit();
		cp_async_wait<0>();
		sync_block();
		scalar_attend(x, a, sh.q + warp * R * E, sh.k, sh.v, sh.p + warp * R * 32, first, 1, k0, t.len);
		sync_block();
	}
#pragma unroll
	for (int r = 0; r < R; r++) {
		float *row = o.p + (t.t0 + first + r) * o.ld + h * a.e;

		if (first + r >= t.len)
			break;
		for (int i = 0; i < E / 32; i++)
			if (32 * i + lane_id() < a.e)
				row[32 * i + lane_id()] = x.o[r][i] / x.l[r];
		if (lane_id() == 0)
			lse.p[(t.t0 + first + r) * lse.ld + h] = x.m[r] + logf(x.l[r]);
	}
}

static void
forward_in_f32(rt_stream_t stream, const struct df_attn *a, const attn_shape &shape)
{
	with_scalar_width(shape.e, [&](auto e) {
		enum { E = decltype(e)::value };
		const size_t n = attn_n_tiles(a->q.rows, shape.n_samples, scalar<E>::ROWS) * shape.n_heads;

		DF_LAUNCH(scalar_forward<E>, dim(n), dim(128), sizeof(scalar_fwd_shared<E>), stream,
		    view_of<const float>(a->q), view_of<const float>(a->k), view_of<const float>(a->v),
		    view_of<float>(a->o), view_of<float>(a->lse), shape);
	});
}

/* ---- bf16 -------------------------------------------------------------------------------------------------------- */

/*
 * A warp has M tiles of 16 queries: two where registers allow it, so that a tile of keys is read once for 32 of them.
 * A block has WARPS warps: four; or one, for batches of short samples, which leave the others nothing to do and have no
 * second tile of keys that could come meanwhile.  How many changes no sum.
 */
template <int E, int WARPS> struct tensor_fwd {
	enum { M = E > 64 ? 1 : 2, ROWS = WARPS * 16 * M, KEYS = tensor<E>::KEYS, LD = tensor<E>::LD,
		STAGES = WARPS > 1 ? 2 : 1, KEPT = E > 128 ? 1 : E / 16 }; /* steps of Q that stay in registers */

	alignas(16) bf16 q[ROWS * LD];
	bf16 k[STAGES][KEYS * LD], v[STAGES][KEYS * LD];
};

/* As scalar_forward(), with a tile of 64 keys, or 32, at a time.  4 E FLOPs a visible pair, by tensor cores. */
template <int E, int WARPS>
DF_KERNEL(32 * WARPS, 8 / WARPS)
tensor_forward(view<const bf16> q, view<const bf16> k, view<const bf16> v, view<bf16> o, view<float> lse, attn_shape a,
    bool wide_o)
{
	typedef tensor_fwd<E, WARPS> plan;
	enum { M = plan::M, ROWS = plan::ROWS, KEYS = plan::KEYS, LD = plan::LD, STAGES = plan::STAGES };
	DF_SHARED(plan, sh);
	const uint32_t index = gridDim.x - 1 - blockIdx.x, h = index % a.n_heads, warp = threadIdx.x / 32;
	const size_t column = h / (a.n_heads / a.n_kv_heads) * a.e;
	bf16 *const own = sh.q + warp * 16 * M * LD;
	uint32_t kept[plan::KEPT][M][4], lo, hi;
	tensor_queries<M, E> x;
	attn_tile t;

	if (!find_tile(t, a.offsets, a.n_samples, index / a.n_heads, ROWS))
		return;
	const tensor_place at = { t.first + warp * 16 * M, 1, t.len };
	const bf16 *const first_k = k.p + t.t0 * k.ld + column, *const first_v = v.p + t.t0 * v.ld + column;
	const auto load = [&](uint32_t k0, unsigned stage) {
		load_tile<KEYS, E, LD>(sh.k[stage], first_k + k0 * k.ld, k.ld, t.len - k0, a);
		load_tile<KEYS, E, LD>(sh.v[stage], first_v + k0 * v.ld, v.ld, t.len - k0, a);
		cp_async_commit();
	};

	keys_of(a, t.first, ROWS, t.len, KEYS, &lo, &hi);
	load_tile<ROWS, E, LD>(sh.q, q.p + (t.t0 + t.first) * q.ld + h * a.e, q.ld, t.len - t.first, a);
	load(lo, 0);
	tensor_start(x);
	for (uint32_t k0 = lo, stage = 0; k0 < hi; k0 += KEYS, stage ^= STAGES - 1) {
		if (STAGES == 1 && k0 > lo) {
			sync_block();
			load(k0, 0);
		}
		cp_async_wait<0>();
		sync_block(); /* this stage has come, and the other is no longer read */
		if (STAGES == 2 && k0 + KEYS < hi)
			load(k0 + KEYS, stage ^ 1);
		if (plan::KEPT > 1 && k0 == lo)
#pragma unroll
			for (int c = 0; c < plan::KEPT; c++)
#pragma unroll
				for (int m = 0; m < M; m++)
					tensor_left(kept[c][m], own + 16 * m * LD + 16 * c, LD);
		if (at.first >= t.len || (!a.bidirectional && k0 > at.first + 16 * M - 1))
			continue; /* they are for the block's other warps */
		tensor_attend<M, KEYS, E, E>(
		    x,
		    [&](uint32_t (*left)[4], int c) {
			    for (int m = 0; m < M; m++)
				    if (plan::KEPT > 1)
					    memcpy(left[m], kept[c % plan::KEPT][m], sizeof(left[m]));
				    else
					    tensor_left(left[m], own + 16 * m * LD + 16 * c, LD);
		    },
		    sh.k[stage], sh.v[stage], a, at, k0);
	}
	float factor[M][2];

#pragma unroll
	for (int m = 0; m < M; m++)
#pragma unroll
		for (int i = 0; i < 2; i++) {
			const uint32_t query = at.first + 16 * m + 8 * i + lane_id() / 4;
			const float l = l_total(x.l[m][i]);

			factor[m][i] = 1 / l;
			if (lane_id() % 4 == 0 && query < t.len)
				lse.p[(t.t0 + query) * lse.ld + h] = (x.m[m][i] + log2f(l)) * LN_2;
		}
	tensor_put<M, E>(own, LD, x.o, factor);
	tensor_store<16 * M, E>(o.p + (t.t0 + at.first) * o.ld + h * a.e, o.ld, own, LD,
	    at.first < t.len ? t.len - at.first : 0, a.e, wide_o);
}

template <int E, int WARPS>
static void
run_tensor_forward(rt_stream_t stream, const struct df_attn *a, const attn_shape &shape)
{
	typedef tensor_fwd<E, WARPS> plan;
	const size_t n = attn_n_tiles(a->q.rows, shape.n_samples, plan::ROWS) * shape.n_heads;
	const auto kernel = tensor_forward<E, WARPS>;

	DF_LAUNCH(kernel, dim(n), dim(32 * WARPS), sizeof(plan), stream, view_of<const bf16>(a->q),
	    view_of<const bf16>(a->k), view_of<const bf16>(a->v), view_of<bf16>(a->o), view_of<float>(a->lse), shape,
	    attn_is_vector(a->o, shape.e));
}
static void
forward_in_bf16(rt_stream_t stream, const struct df_attn *a, const attn_shape &shape)
{
	with_tensor_width(shape.e, [&](auto e) {
		enum { E = decltype(e)::value, SHORT = 3 * tensor_fwd<E, 1>::ROWS / 2 };

		if (a->q.rows / shape.n_samples <= SHORT)
			run_tensor_forward<E, 1>(stream, a, shape);
		else
			run_tensor_forward<E, 4>(stream, a, shape);
	});
}

/* ---- the slot ---------------------------------------------------------------------------------------------------- */

int
df_cuda_attn_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_attn *a = (const struct df_attn *)args;
	attn_shape shape;
	int rc;

	if (a->q.rows == 0)
		return DF_OK;
	DF_TRY(attn_shape_of(shape, "attn_fwd", a, err));
	(a->q.type == DF_BF16 ? forward_in_bf16 : forward_in_f32)(df_cuda_lane_of(be)->stream, a, shape);
	rc = df_cuda_launched("attn_fwd", err);
out:
	return rc;
}
