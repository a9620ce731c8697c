/*
 * attn.cu - attention, forward.
 */
#include "backend/cuda/attn.h"

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
DF_KERNEL(128)
scalar_fwd(view<const float> q, view<const float> k, view<const float> v, view<float> o, view<float> lse, attn_shape a)
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
scalar_forward(rt_stream_t stream, const struct df_attn *a, const attn_shape &shape)
{
	with_scalar_width(shape.e, [&](auto e) {
		enum { E = decltype(e)::value };
		const size_t n = attn_n_tiles(a->q.rows, shape.n_samples, scalar<E>::ROWS) * shape.n_heads;

		DF_LAUNCH(scalar_fwd<E>, dim(n), dim(128), sizeof(scalar_fwd_shared<E>), stream,
		    view_of<const float>(a->q), view_of<const float>(a->k), view_of<const float>(a->v),
		    view_of<float>(a->o), view_of<float>(a->lse), shape);
	});
}

/* ---- the slot ---------------------------------------------------------------------------------------------------- */

int
df_cuda_attn_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_attn *a = (const struct df_attn *)args;
	attn_shape shape;
	int rc;

	if (a->q.type != DF_F32)
		return df_fail(err, DF_EUNSUPPORTED, "attn_fwd: bf16 is not there yet");
	if (a->q.rows == 0)
		return DF_OK;
	DF_TRY(attn_shape_of(shape, "attn_fwd", a, err));
	scalar_forward(df_cuda_lane_of(be)->stream, a, shape);
	rc = df_cuda_launched("attn_fwd", err);
out:
	return rc;
}
