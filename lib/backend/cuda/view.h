/*
 * view.h - tensors as kernels see them, and the small things that all kernels share.
 */
#ifndef DF_BACKEND_CUDA_VIEW_H
#define DF_BACKEND_CUDA_VIEW_H

#include "backend/cuda/cuda.h"
#include "backend/cuda/simt.h"

/* ---- types of elements: read as float, rounded once as they are written ------------------------------------------ */

struct bf16 {
	uint16_t bits;
};
struct f16 {
	uint16_t bits;
};
DF_DEVICE float load(const float *p) { return *p; }
DF_DEVICE float load(const bf16 *p) { return of_bf16(p->bits); }
DF_DEVICE float load(const f16 *p) { return of_f16(p->bits); }
DF_DEVICE void store(float *p, float v) { *p = v; }
DF_DEVICE void store(bf16 *p, float v) { p->bits = bf16_of(v); }
DF_DEVICE void store(f16 *p, float v) { p->bits = f16_of(v); }

/* A window of rows `ld` elements apart. */
template <class T> struct view {
	T *p;
	size_t ld;
};
template <class T>
static inline view<T>
view_of(const struct df_tensor &t)
{
	return { t.mem ? reinterpret_cast<T *>(t.mem->data) + t.off : nullptr, t.ld };
}
static inline float *
f32_of(const struct df_tensor &t)
{
	return view_of<float>(t).p;
}
static inline const uint32_t *
u32_of(const struct df_tensor &t)
{
	return view_of<const uint32_t>(t).p;
}

/* f(T()) with the type of t's elements, which is one of f32, bf16, f16. */
template <class F>
static inline void
with_type(enum df_dtype type, F f)
{
	if (type == DF_BF16)
		f(bf16());
	else if (type == DF_F16)
		f(f16());
	else
		f(float());
}
/* The same for activations: f32 or bf16. */
template <class F>
static inline void
with_act(enum df_dtype type, F f)
{
	if (type == DF_BF16)
		f(bf16());
	else
		f(float());
}

static inline size_t
df_blocks_of(size_t n, size_t each)
{
	return n / each + (n % each != 0);
}
/* Can 16 bytes of a row be moved at once?  Address and stride are multiples of 16, and so is the width. */
template <class T>
static inline bool
is_vector(const view<T> &v, size_t cols)
{
	return (uintptr_t)v.p % 16 == 0 && v.ld * sizeof(T) % 16 == 0 && cols * sizeof(T) % 16 == 0;
}

/* ---- sums over a warp and a block: in a fixed order, the result in every lane, every thread ---------------------- */

DF_DEVICE float
warp_sum(float v)
{
	for (int m = 16; m > 0; m /= 2)
		v += shuffle_xor(v, m);
	return v;
}
DF_DEVICE float
warp_max(float v)
{
	for (int m = 16; m > 0; m /= 2)
		v = fmaxf(v, shuffle_xor(v, m));
	return v;
}
/* `part` is 32 floats of shared memory; all threads come. */
DF_DEVICE float
block_sum(float v, float *part)
{
	const unsigned warp = threadIdx.x / 32, n = blockDim.x / 32;

	v = warp_sum(v);
	sync_block();
	if (lane_id() == 0)
		part[warp] = v;
	sync_block();
	v = part[0];
	for (unsigned i = 1; i < n; i++)
		v += part[i];
	return v;
}

/*
 * e^x as the CPU has it, to the bit (df_expf() of cpu/vec.h, where its error is): e^x = 2^n e^r, n = round(x / ln 2),
 * and Cephes' polynomial for e^r.  Those bits need a file without contraction (CUDA_EXACT).
 */
DF_DEVICE float
exp_of(float x)
{
	const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves the nearest integer in the low bits */

	x = x > 88.0f ? 88.0f : x;
	x = x < -87.3f ? -87.3f : x;

	const float t = x * 1.44269504f + round, n = t - round;
	float r = x - n * 0.693359375f, p = 1.9875691500e-4f;

	r = r - n * -2.12194440e-4f;
	p = p * r + 1.3981999507e-3f;
	p = p * r + 8.3334519073e-3f;
	p = p * r + 4.1665795894e-2f;
	p = p * r + 1.6666665459e-1f;
	p = p * r + 5.0000001201e-1f;
	p = p * (r * r) + r + 1.0f;
	return p * bits_float((float_bits(t) + 127) << 23);
}

/* The segment of row t: df_segment_of() (plugin.h) on the device. */
DF_DEVICE uint32_t
segment_of(const uint32_t *offsets, uint32_t n, uint32_t t)
{
	uint32_t lo = 0, hi = n;

	while (hi - lo > 1) {
		const uint32_t mid = lo + (hi - lo) / 2;

		if (offsets[mid] <= t)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* Philox 4x32-10: df_philox() (base/rng.h) on the device. */
DF_DEVICE void
philox(const uint32_t ctr[4], uint32_t key0, uint32_t key1, uint32_t out[4])
{
	uint32_t a = ctr[0], b = ctr[1], c = ctr[2], d = ctr[3];

	for (int i = 0; i < 10; i++) {
		const uint32_t ha = mul_high(0xD2511F53u, a), la = 0xD2511F53u * a;
		const uint32_t hc = mul_high(0xCD9E8D57u, c), lc = 0xCD9E8D57u * c;

		a = hc ^ b ^ key0;
		b = lc;
		c = ha ^ d ^ key1;
		d = la;
		key0 += 0x9E3779B9u;
		key1 += 0xBB67AE85u;
	}
	out[0] = a;
	out[1] = b;
	out[2] = c;
	out[3] = d;
}

#endif
