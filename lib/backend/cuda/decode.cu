/*
 * decode.cu - attention of one new token per sequence against what is kept of its past.
 *
 * It is the forward of one query, by the same functions of attn.h over the same tiles, so its numbers are those of the
 * forward's last row to the bit.  The heads that share a key/value head are the rows of a block.
 */
#include "backend/cuda/attn.h"

/* ---- float32 ----------------------------------------------------------------------------------------------------- */

template <int E> struct scalar_decode_shared {
	alignas(16) float q[scalar<E>::ROWS * E];
	float k[scalar<E>::OTHERS * scalar<E>::LD], v[scalar<E>::OTHERS * scalar<E>::LD];
	float p[scalar<E>::ROWS * 32];
};

/* A block has up to ROWS heads of one group and sequence.  Reads 2 E elements a key. */
template <int E>
DF_KERNEL(128)
scalar_decode(view<const float> q, view<const float> k, view<const float> v, view<float> o, const uint32_t *first,
    const uint32_t *n, attn_shape a)
{
	enum { R = scalar<E>::R, ROWS = scalar<E>::ROWS, OTHERS = scalar<E>::OTHERS, LD = scalar<E>::LD };
	DF_SHARED(scalar_decode_shared<E>, sh);
	const uint32_t group = a.n_heads / a.n_kv_heads, parts = (group + ROWS - 1) / ROWS, warp = threadIdx.x / 32;
	const uint32_t part = blockIdx.x % parts, kh = blockIdx.x / parts % a.n_kv_heads;
	const uint32_t s = blockIdx.x / parts / a.n_kv_heads, len = n[s], n_rows = group - part * ROWS;
	const size_t h = kh * group + part * ROWS, t0 = first[s];
	scalar_queries<E> x;
	uint32_t lo, hi;

	keys_of(a, len - 1, 1, len, OTHERS, &lo, &hi);
	load_tile<ROWS, E, E>(sh.q, q.p + s * q.ld + h * a.e, a.e, n_rows, a);
	scalar_start(x);
	for (uint32_t k0 = lo; k0 < hi; k0 += OTHERS) {
		load_tile<OTHERS, E, LD>(sh.k, k.p + (t0 + k0) * k.ld + kh * a.e, k.ld, len - k0, a);
		load_tile<OTHERS, E, LD>(sh.v, v.p + (t0 + k0) * v.ld + kh * a.e, v.ld, len - k0, a);
		cp_async_commit();
		cp_async_wait<0>();
		sync_block();
		scalar_attend(x, a, sh.q + warp * R * E, sh.k, sh.v, sh.p + warp * R * 32, len - 1, 0, k0, len);
		sync_block();
	}
#pragma unroll
	for (int r = 0; r < R; r++) {
		float *row = o.p + s * o.ld + (h + warp * R + r) * a.e;

		if (warp * R + r >= n_rows)
			break;
		for (int i = 0; i < E / 32; i++)
			if (32 * i + lane_id() < a.e)
				row[32 * i + lane_id()] = x.o[r][i] / x.l[r];
	}
}

static void
scalar_decoding(rt_stream_t stream, const struct df_attn_decode *a, const attn_shape &shape)
{
	with_scalar_width(shape.e, [&](auto e) {
		enum { E = decltype(e)::value };
		const size_t parts = df_blocks_of(shape.n_heads / shape.n_kv_heads, scalar<E>::ROWS);

		DF_LAUNCH(scalar_decode<E>, dim(a->q.rows * shape.n_kv_heads * parts), dim(128),
		    sizeof(scalar_decode_shared<E>), stream, view_of<const float>(a->q), view_of<const float>(a->k),
		    view_of<const float>(a->v), view_of<float>(a->o), u32_of(a->first), u32_of(a->n), shape);
	});
}

/* ---- the slot ---------------------------------------------------------------------------------------------------- */

int
df_cuda_attn_decode(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_attn_decode *a = (const struct df_attn_decode *)args;
	struct df_attn f = {};
	attn_shape shape;
	int rc;

	if (a->q.type != DF_F32)
		return df_fail(err, DF_EUNSUPPORTED, "attn_decode: bf16 is not there yet");
	if (a->q.rows == 0)
		return DF_OK;
	f.q = a->q;
	f.k = a->k;
	f.v = a->v;
	f.n_heads = a->n_heads;
	f.n_kv_heads = a->n_kv_heads;
	f.window = a->window;
	f.scale = a->scale;
	DF_TRY(attn_shape_of(shape, "attn_decode", &f, err));
	scalar_decoding(df_cuda_lane_of(be)->stream, a, shape);
	rc = df_cuda_launched("attn_decode", err);
out:
	return rc;
}
