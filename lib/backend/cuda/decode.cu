/*
 * decode.cu - attention of one new token per sequence against what is kept of its past.
 *
 * It is the forward of one query, by the same functions of attn.h over the same tiles, so its numbers are those of the
 * forward's last row to the bit.  The heads that share a key/value head are the rows of a block.
 */
#include "backend/cuda/attn_mma.h"
#include "backend/cuda/attn_scalar.h"

/* ---- float32 ----------------------------------------------------------------------------------------------------- */

template <int E> struct scalar_decode_shared {
	alignas(16) float q[scalar<E>::ROWS * E];
	float k[scalar<E>::OTHERS * scalar<E>::LD], v[scalar<E>::OTHERS * scalar<E>::LD];
	float p[scalar<E>::ROWS * 32];
};

/* A block has up to ROWS heads of one group and sequence.  Reads 2 E elements a key. */
template <int E>
DF_KERNEL(128, 2)
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
decode_in_f32(rt_stream_t stream, const struct df_attn_decode *a, const attn_shape &shape)
{
	with_scalar_width(shape.e, [&](auto e) {
		enum { E = decltype(e)::value };
		const size_t parts = df_blocks_of(shape.n_heads / shape.n_kv_heads, scalar<E>::ROWS);

		DF_LAUNCH(scalar_decode<E>, dim(a->q.rows * shape.n_kv_heads * parts), dim(128),
		    sizeof(scalar_decode_shared<E>), stream, view_of<const float>(a->q), view_of<const float>(a->k),
		    view_of<const float>(a->v), view_of<float>(a->o), u32_of(a->first), u32_of(a->n), shape);
	});
}

/* ---- bf16 -------------------------------------------------------------------------------------------------------- */

/* A warp has COLS columns of up to 16 heads. */
template <int E> struct tensor_decode_shared {
	enum { COLS = E > 64 ? 32 : 16, WARPS = E / COLS, ROWS = 16, KEYS = tensor<E>::KEYS, LD = tensor<E>::LD };

	alignas(16) bf16 q[ROWS * LD];
	bf16 k[2][KEYS * LD], v[2][KEYS * LD];
};

/*
 * A block has up to 16 heads of one group and sequence.  Its keys come one tile after another, as the forward's do: to
 * split them would change the order of sums.  So the warps share the columns of V, and each of them computes the
 * scores; what counts is that keys and values are read once, 4 E bytes a key, and that S x K blocks are enough for a
 * device.
 */
template <int E>
DF_KERNEL(256, 2)
tensor_decode(view<const bf16> q, view<const bf16> k, view<const bf16> v, view<bf16> o, const uint32_t *first,
    const uint32_t *n, attn_shape a)
{
	typedef tensor_decode_shared<E> plan;
	enum { COLS = plan::COLS, ROWS = plan::ROWS, KEYS = plan::KEYS, LD = plan::LD };
	DF_SHARED(plan, sh);
	const uint32_t group = a.n_heads / a.n_kv_heads, parts = (group + ROWS - 1) / ROWS;
	const uint32_t part = blockIdx.x % parts, kh = blockIdx.x / parts % a.n_kv_heads;
	const uint32_t s = blockIdx.x / parts / a.n_kv_heads, len = n[s], n_rows = group - part * ROWS;
	const size_t h = kh * group + part * ROWS, t0 = first[s], column = kh * a.e;
	const uint32_t warp_column = threadIdx.x / 32 * COLS;
	const tensor_place at = { len - 1, 0, len };
	tensor_queries<1, COLS> x;
	uint32_t lo, hi;
	const auto load = [&](uint32_t k0, unsigned stage) {
		load_tile<KEYS, E, LD>(sh.k[stage], k.p + (t0 + k0) * k.ld + column, k.ld, len - k0, a);
		load_tile<KEYS, E, LD>(sh.v[stage], v.p + (t0 + k0) * v.ld + column, v.ld, len - k0, a);
		cp_async_commit();
	};

	keys_of(a, len - 1, 1, len, KEYS, &lo, &hi);
	load_tile<ROWS, E, LD>(sh.q, q.p + s * q.ld + h * a.e, a.e, n_rows, a);
	load(lo, 0);
	tensor_start(x);
	for (uint32_t k0 = lo, stage = 0; k0 < hi; k0 += KEYS, stage ^= 1) {
		cp_async_wait<0>();
		sync_block(); /* this stage has come, and the other is no longer read */
		if (k0 + KEYS < hi)
			load(k0 + KEYS, stage ^ 1);
		tensor_attend<1, KEYS, E, COLS>(
		    x, [&](uint32_t (*left)[4], int c) { tensor_left(left[0], sh.q + 16 * c, LD); }, sh.k[stage],
		    sh.v[stage] + warp_column, a, at, k0);
	}
	const float factor[1][2] = { { 1 / l_total(x.l[0][0]), 1 / l_total(x.l[0][1]) } };

	sync_block();
	tensor_put<1, COLS>(sh.q + warp_column, LD, x.o, factor);
	tensor_store<ROWS, COLS>(o.p + s * o.ld + h * a.e + warp_column, a.e, sh.q + warp_column, LD, n_rows,
	    a.e > warp_column ? a.e - warp_column : 0, false);
}

static void
decode_in_bf16(rt_stream_t stream, const struct df_attn_decode *a, const attn_shape &shape)
{
	with_tensor_width(shape.e, [&](auto e) {
		typedef tensor_decode_shared<decltype(e)::value> plan;
		const size_t parts = df_blocks_of(shape.n_heads / shape.n_kv_heads, plan::ROWS);

		DF_LAUNCH(tensor_decode<decltype(e)::value>, dim(a->q.rows * shape.n_kv_heads * parts),
		    dim(32 * plan::WARPS), sizeof(plan), stream, view_of<const bf16>(a->q), view_of<const bf16>(a->k),
		    view_of<const bf16>(a->v), view_of<bf16>(a->o), u32_of(a->first), u32_of(a->n), shape);
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
	(a->q.type == DF_BF16 ? decode_in_bf16 : decode_in_f32)(df_cuda_lane_of(be)->stream, a, shape);
	rc = df_cuda_launched("attn_decode", err);
out:
	return rc;
}
