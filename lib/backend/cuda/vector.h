/*
 * vector.h - how kernels that are limited by memory move their elements: a few of a row at once, 16 bytes an access.
 *
 * A thread has N neighbouring columns of one row.  Where all windows allow it (addresses and strides are multiples of
 * 16 bytes) they move as words, WIDE; elsewhere, and at the end of a row, one by one.  Which elements a thread has
 * does not depend on that, so neither does any result.  A kernel decides it once, at its start: between loads without
 * branches nothing waits, so all of a thread's are under way together.
 */
#ifndef DF_BACKEND_CUDA_VECTOR_H
#define DF_BACKEND_CUDA_VECTOR_H

#include "backend/cuda/view.h"

/* M words that move at once; they stand for elements of any type. */
template <int M> struct __attribute__((may_alias, aligned(4 * M))) words {
	uint32_t w[M];
};

/* ---- 16-bit floats, two in a word ------------------------------------------------------------------------------ */

DF_DEVICE void
unpack(uint32_t w, float v[2], const bf16 *)
{
	v[0] = bits_float(w << 16);
	v[1] = bits_float(w & 0xffff0000u);
}
DF_DEVICE void
unpack(uint32_t w, float v[2], const f16 *)
{
	v[0] = of_f16((uint16_t)w);
	v[1] = of_f16((uint16_t)(w >> 16));
}
DF_DEVICE uint32_t pack(const float v[2], const bf16 *) { return pack_bf16(v[0], v[1]); }
DF_DEVICE uint32_t
pack(const float v[2], const f16 *)
{
	return f16_of(v[0]) | (uint32_t)f16_of(v[1]) << 16;
}
template <int M>
DF_DEVICE void
unpack(const words<M> &q, float *v, const float *)
{
#pragma unroll
	for (int i = 0; i < M; i++)
		v[i] = bits_float(q.w[i]);
}
template <int M, class T>
DF_DEVICE void
unpack(const words<M> &q, float *v, const T *type)
{
#pragma unroll
	for (int i = 0; i < M; i++)
		unpack(q.w[i], v + 2 * i, type);
}
template <int M>
DF_DEVICE void
pack(words<M> *q, const float *v, const float *)
{
#pragma unroll
	for (int i = 0; i < M; i++)
		q->w[i] = float_bits(v[i]);
}
template <int M, class T>
DF_DEVICE void
pack(words<M> *q, const float *v, const T *type)
{
#pragma unroll
	for (int i = 0; i < M; i++)
		q->w[i] = pack(v + 2 * i, type);
}

/* ---- N elements ------------------------------------------------------------------------------------------------ */

/* A constant as an argument: decltype(c)::value. */
template <int N> struct number {
	static constexpr int value = N;
};
/* f(number<WIDE>()) */
template <class F>
DF_DEVICE void
with_width(bool wide, F f)
{
	if (wide)
		f(number<1>());
	else
		f(number<0>());
}

/* v = the N elements at p (WIDE), or the n of them that there are, and zeros. */
template <int N, bool WIDE, class T>
DF_DEVICE void
get(const T *p, size_t n, float v[N])
{
	constexpr int each = N * sizeof(T) < 16 ? N : 16 / sizeof(T), n_words = each * sizeof(T) / 4;

	if constexpr (WIDE) {
#pragma unroll
		for (int i = 0; i < N / each; i++) {
			const words<n_words> q = reinterpret_cast<const words<n_words> *>(p)[i];

			unpack(q, v + i * each, p);
		}
	} else {
#pragma unroll
		for (int i = 0; i < N; i++)
			v[i] = (size_t)i < n ? load(p + i) : 0.0f;
	}
}
/* The N elements at p, or the n of them that there are, = v. */
template <int N, bool WIDE, class T>
DF_DEVICE void
put(T *p, size_t n, const float v[N])
{
	constexpr int each = N * sizeof(T) < 16 ? N : 16 / sizeof(T), n_words = each * sizeof(T) / 4;

	if constexpr (WIDE) {
#pragma unroll
		for (int i = 0; i < N / each; i++) {
			words<n_words> q;

			pack(&q, v + i * each, p);
			reinterpret_cast<words<n_words> *>(p)[i] = q;
		}
	} else {
#pragma unroll
		for (int i = 0; i < N; i++)
			if ((size_t)i < n)
				store(p + i, v[i]);
	}
}

/* Eight elements as they lie in memory, to be held in registers. */
template <class T> struct octet {
	words<4> q[8 * sizeof(T) / 16];
};
/* The n <= 8 elements at p, and zeros.  WIDE: all eight are there, or none (n is 0). */
template <bool WIDE, class T>
DF_DEVICE octet<T>
octet_of(const T *p, size_t n)
{
	octet<T> o = {};

	if constexpr (WIDE) {
		if (n > 0)
#pragma unroll
			for (unsigned i = 0; i < 8 * sizeof(T) / 16; i++)
				o.q[i] = reinterpret_cast<const words<4> *>(p)[i];
	} else {
		float v[8];

		get<8, false>(p, n, v);
#pragma unroll
		for (unsigned i = 0; i < 8 * sizeof(T) / 16; i++)
			pack(&o.q[i], v + i * (16 / sizeof(T)), p);
	}
	return o;
}
/* The n elements at p = v. */
template <bool WIDE, class T>
DF_DEVICE void
put_octet(T *p, size_t n, const float v[8])
{
	if (!WIDE || n > 0)
		put<8, WIDE>(p, n, v);
}
template <class T>
DF_DEVICE void
values_of(const octet<T> &o, float v[8])
{
#pragma unroll
	for (unsigned i = 0; i < 8 * sizeof(T) / 16; i++)
		unpack(o.q[i], v + i * (16 / sizeof(T)), (const T *)nullptr);
}

/* Columns of a thread where operands have these types: 16 bytes of the narrowest. */
template <class A, class B>
constexpr int
columns_each(void)
{
	return 16 / (sizeof(A) < sizeof(B) ? sizeof(A) : sizeof(B));
}

/* May windows move as words?  Of a single row the stride does not matter: give 0. */
template <class T>
static inline bool
is_wide(const view<T> &v, size_t rows)
{
	return (uintptr_t)v.p % 16 == 0 && (rows <= 1 || v.ld * sizeof(T) % 16 == 0);
}
static inline bool
is_flat(const struct df_tensor &t)
{
	return t.ld == t.cols || t.rows <= 1;
}

/* ---- which elements are a thread's ----------------------------------------------------------------------------- */

enum { WALK_THREADS = 256 };

/*
 * rows x cols elements over a grid of one dimension: blocks of 2^shift threads across and 256 / 2^shift rows down, so
 * that narrow rows fill their blocks, too.
 */
struct walk {
	size_t rows, cols;
	uint32_t across; /* blocks side by side */
	unsigned shift;
};

static inline walk
walk_of(size_t rows, size_t cols, size_t each)
{
	const size_t n = df_blocks_of(cols, each);
	walk w = { rows, cols, 0, 0 };

	while (w.shift < 8 && (size_t)1 << w.shift < n)
		w.shift++;
	w.across = (uint32_t)df_blocks_of(n, (size_t)1 << w.shift);
	return w;
}
static inline size_t
blocks_of(const walk &w)
{
	return w.across * df_blocks_of(w.rows, WALK_THREADS >> w.shift);
}
/* This thread's row and first column of N.  False: it has none. */
template <int N>
DF_DEVICE bool
walk_here(const walk &w, size_t *row, size_t *col)
{
	const uint32_t down = blockIdx.x / w.across, right = blockIdx.x - down * w.across;

	*row = ((size_t)down * WALK_THREADS + threadIdx.x) >> w.shift;
	*col = (((size_t)right << w.shift) + (threadIdx.x & ((1u << w.shift) - 1))) * N;
	return *row < w.rows && *col < w.cols;
}

#endif
