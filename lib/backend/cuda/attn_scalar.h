/*
 * attn_scalar.h - attention in float32: a warp has R rows, a lane one of 32 others, and then one column in 32.
 */
#ifndef DF_BACKEND_CUDA_ATTN_SCALAR_H
#define DF_BACKEND_CUDA_ATTN_SCALAR_H

#include "backend/cuda/attn.h"

struct alignas(16) four {
	float v[4];
};
DF_DEVICE four load_four(const float *p) { return *reinterpret_cast<const four *>(p); }

/*
 * Rows of a warp and of a block of four warps, others of a tile and their stride: a lane reads its own of the others,
 * so they lie 4 banks apart.
 */
template <int E> struct scalar {
	enum { R = E > 128 ? 4 : 8, ROWS = 4 * R, OTHERS = 32, LD = E + 4, COLS = E / 32 };
};

/* s[r] = rows[r] . other, over ascending columns; the lane's own `other`. */
template <int E>
DF_DEVICE void
scalar_scores(float s[scalar<E>::R], const float *rows, const float *other)
{
	enum { R = scalar<E>::R };

	for (int r = 0; r < R; r++)
		s[r] = 0;
	for (int c = 0; c < E; c += 4) {
		const four y = load_four(other + c);

#pragma unroll
		for (int r = 0; r < R; r++) {
			const four x = load_four(rows + r * E + c);

			for (int i = 0; i < 4; i++)
				s[r] = fmaf(x.v[i], y.v[i], s[r]);
		}
	}
}
/* acc[r][i] += sum over the 32 others j of p[r][j] others[j][32 i + lane], ascending; p is the warp's own. */
template <int E>
DF_DEVICE void
scalar_sums(float acc[scalar<E>::R][scalar<E>::COLS], const float *p, const float *others)
{
	enum { R = scalar<E>::R, LD = scalar<E>::LD, COLS = scalar<E>::COLS };

	others += lane_id();
	for (int j = 0; j < 32; j += 4) {
		four w[R];

#pragma unroll
		for (int r = 0; r < R; r++)
			w[r] = load_four(p + r * 32 + j);
#pragma unroll
		for (int jj = 0; jj < 4; jj++)
#pragma unroll
			for (int i = 0; i < COLS; i++) {
				const float y = others[(j + jj) * LD + 32 * i];

#pragma unroll
				for (int r = 0; r < R; r++)
					acc[r][i] = fmaf(w[r].v[jj], y, acc[r][i]);
			}
	}
}

/* A warp's queries on their way along the keys. */
template <int E> struct scalar_queries {
	float o[scalar<E>::R][scalar<E>::COLS], m[scalar<E>::R], l[scalar<E>::R];
};
template <int E>
DF_DEVICE void
scalar_start(scalar_queries<E> &x)
{
#pragma unroll
	for (int r = 0; r < scalar<E>::R; r++) {
		x.m[r] = -INFINITY;
		x.l[r] = 0;
#pragma unroll
		for (int i = 0; i < scalar<E>::COLS; i++)
			x.o[r][i] = 0;
	}
}
/*
 * The next 32 keys, from number k0 on.  The warp's rows q are the queries `query`, query + step, ... of a sample of
 * `len`; p is its [R][32] of shared memory.
 */
template <int E>
DF_DEVICE void
scalar_attend(scalar_queries<E> &x, const attn_shape &a, const float *q, const float *k, const float *v, float *p,
    uint32_t query, uint32_t step, uint32_t k0, uint32_t len)
{
	enum { R = scalar<E>::R };
	const unsigned lane = lane_id();
	float s[R];

	scalar_scores<E>(s, q, k + lane * scalar<E>::LD);
#pragma unroll
	for (int r = 0; r < R; r++) {
		const float z = is_visible(a, query + r * step, k0 + lane, len) ? s[r] * a.scale : -INFINITY;
		const float max = fmaxf(x.m[r], warp_max(z)), base = max == -INFINITY ? 0.0f : max;
		const float shrink = expf(x.m[r] - base), w = expf(z - base);

		p[r * 32 + lane] = w;
		x.l[r] = fmaf(x.l[r], shrink, warp_sum(w));
		x.m[r] = max;
#pragma unroll
		for (int i = 0; i < scalar<E>::COLS; i++)
			x.o[r][i] *= shrink;
	}
	sync_warp();
	scalar_sums<E>(x.o, p, v);
	sync_warp();
}

template <class F>
static inline void
with_scalar_width(size_t e, F f)
{
	if (e <= 32)
		f(number<32>());
	else if (e <= 64)
		f(number<64>());
	else if (e <= 128)
		f(number<128>());
	else
		f(number<256>());
}

#endif
