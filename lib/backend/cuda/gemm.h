/*
 * gemm.h - a product as kernels see it, and its arithmetic in float32.  For gemm.cu and segments.cu.
 *
 * A product has two sides, each a list of vectors of k elements: the rows of op(a) and the columns of op(b).  Element
 * (i,j) of c is the product of vector i of a and vector j of b, whatever is transposed: that only decides whether the
 * elements of a vector lie side by side, or the vectors do.
 *
 *	float32  exact_tile(), here        a is f32: fmaf in the order of the CPU's kernels, and so the CPU's bits
 *	bf16     mma_tile(), gemm_mma.h    a is bf16: tensor cores
 *
 * The type of a decides, and nothing that depends on the batch.  b is widened or split as it is brought to shared
 * memory, so that the result is that of b converted to f32, to the bit.
 */
#ifndef DF_BACKEND_CUDA_GEMM_H
#define DF_BACKEND_CUDA_GEMM_H

#include "backend/cuda/view.h"

struct side {
	const void *p;
	size_t ld, n; /* n vectors */
	enum df_dtype type;
	bool along; /* the elements of a vector lie side by side; else the vectors do, with rows of n */
	bool wide;  /* rows begin at multiples of 8 elements, from an address that is a multiple of 16 */
};
struct product {
	side a, b;
	void *c;
	size_t ldc, k;
	float alpha, beta;
	bool c_is_bf16, c_is_wide; /* wide: as of a side */
};

static inline size_t
gemm_size_of(enum df_dtype type)
{
	return type == DF_F32 ? 4 : 2;
}
static inline char *
gemm_address_of(const struct df_tensor &t)
{
	return static_cast<char *>(t.mem->data) + t.off * gemm_size_of(t.type);
}
static inline bool
gemm_is_wide(const void *p, size_t ld)
{
	return (uintptr_t)p % 16 == 0 && ld % 8 == 0;
}
static inline side
side_of(const struct df_tensor &t, bool along)
{
	const char *p = gemm_address_of(t);

	return { p, t.ld, along ? t.rows : t.cols, t.type, along, gemm_is_wide(p, t.ld) };
}
/* c = alpha op(a) op(b) + beta c */
static inline product
product_of(const struct df_tensor &a, bool ta, const struct df_tensor &b, bool tb, const struct df_tensor &c,
    float alpha, float beta)
{
	return { side_of(a, !ta), side_of(b, tb), gemm_address_of(c), c.ld, ta ? a.rows : a.cols, alpha, beta,
		c.type == DF_BF16, gemm_is_wide(gemm_address_of(c), c.ld) };
}

/* A grid has at most 2^31 - 1 blocks, and a block at least 32 x 32 of c. */
static inline int
gemm_check_grid(const char *op, size_t products, size_t m, size_t n, struct df_err *err)
{
	const double blocks = (double)products * (double)df_blocks_of(m, 32) * (double)df_blocks_of(n, 32);

	return blocks <= INT32_MAX ? DF_OK : df_fail(err, DF_EUNSUPPORTED, "%s: %zu products of %zu x %zu in one call", op,
						  products, m, n);
}

/* The memory of row `row` of a matrix. */
DF_DEVICE const void *
row_at(const side &s, size_t row)
{
	return static_cast<const char *>(s.p) + row * s.ld * (s.type == DF_F32 ? 4 : 2);
}
DF_DEVICE size_t
smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* The product whose k are the rows [from, to) of a and b, neither of which is ALONG. */
DF_DEVICE product
of_rows(product p, size_t from, size_t to)
{
	p.a.p = row_at(p.a, from);
	p.b.p = row_at(p.b, from);
	p.k = to - from;
	return p;
}

/* ---- four elements that lie side by side ------------------------------------------------------------------------- */

struct alignas(16) quad {
	float v[4];
};
struct alignas(8) half_quad {
	uint16_t v[4];
};
struct alignas(8) pair {
	uint32_t low, high;
};
DF_DEVICE float
widen(uint16_t x, enum df_dtype type)
{
	return type == DF_F16 ? of_f16(x) : of_bf16(x);
}
DF_DEVICE float
side_element(const side &s, size_t at)
{
	return s.type == DF_F32 ? static_cast<const float *>(s.p)[at]
				: widen(static_cast<const uint16_t *>(s.p)[at], s.type);
}
/* Elements at, at + 1, ... of which `there` are: 0 to 4; zeros for the others. */
DF_DEVICE quad
side_quad(const side &s, size_t at, size_t there)
{
	quad q = {};

	if (there >= 4 && s.wide) {
		if (s.type == DF_F32)
			return *reinterpret_cast<const quad *>(static_cast<const float *>(s.p) + at);
		const half_quad h = *reinterpret_cast<const half_quad *>(static_cast<const uint16_t *>(s.p) + at);

		for (int i = 0; i < 4; i++)
			q.v[i] = widen(h.v[i], s.type);
		return q;
	}
	for (int i = 0; i < 4; i++)
		if ((size_t)i < there)
			q.v[i] = side_element(s, at + (size_t)i);
	return q;
}

/* ---- results --------------------------------------------------------------------------------------------------- */

/* How many of the columns j, j + 1, ... of row i of c there are: 0 to 4. */
DF_DEVICE unsigned
c_columns(const product &p, size_t i, size_t j)
{
	return i >= p.a.n || j >= p.b.n ? 0 : (unsigned)smaller(p.b.n - j, 4);
}
DF_DEVICE quad
c_quad(const product &p, size_t i, size_t j)
{
	const side c = { p.c, p.ldc, p.a.n, p.c_is_bf16 ? DF_BF16 : DF_F32, true, p.c_is_wide };

	return side_quad(c, i * p.ldc + j, c_columns(p, i, j));
}
DF_DEVICE void
set_c(const product &p, const quad &v, size_t i, size_t j)
{
	const size_t at = i * p.ldc + j;
	const unsigned there = c_columns(p, i, j);
	float *f = static_cast<float *>(p.c) + at;
	bf16 *h = static_cast<bf16 *>(p.c) + at;

	if (there == 4 && p.c_is_wide) {
		if (p.c_is_bf16)
			*reinterpret_cast<pair *>(h) = { pack_bf16(v.v[0], v.v[1]), pack_bf16(v.v[2], v.v[3]) };
		else
			*reinterpret_cast<quad *>(f) = v;
		return;
	}
	for (unsigned l = 0; l < 4; l++)
		if (l < there) {
			if (p.c_is_bf16)
				store(h + l, v.v[l]);
			else
				store(f + l, v.v[l]);
		}
}
/* beta c + alpha sum, rounded as the CPU does it. */
DF_DEVICE quad
blended(const product &p, const quad &sum, size_t i, size_t j)
{
	quad v, c = {};

	if (p.beta != 0.0f)
		c = c_quad(p, i, j);
	for (int l = 0; l < 4; l++) {
		const float add = p.alpha * sum.v[l];

		v.v[l] = p.beta == 0.0f ? add : p.beta == 1.0f ? c.v[l] + add : p.beta * c.v[l] + add;
	}
	return v;
}
/* The sum over one more run of k, after the first. */
DF_DEVICE void
add_run(const product &p, quad *v, const quad &sum)
{
	for (int l = 0; l < 4; l++)
		v->v[l] += p.alpha * sum.v[l];
}

/*
 * Which tile block `t` computes, of `down` x `across`: by groups of eight rows of tiles, so that blocks that run at the
 * same time share what they read.
 */
struct place {
	unsigned i, j;
};
DF_DEVICE place
place_of(unsigned t, unsigned down, unsigned across)
{
	const unsigned group = t / (8 * across), in = t % (8 * across), first = group * 8;
	const unsigned rows = down - first < 8 ? down - first : 8;

	return { first + in % rows, in / rows };
}

/* ---- float32: the CPU's bits ----------------------------------------------------------------------------------- */

/*
 * Layout.  A block of TY x 16 threads has a tile of TY*TM x 64 of c, a thread TM x 4 of it in registers.  Both sides
 * come in steps of 16 of k, as x[k][vector], the next one on its way in registers while this one is used.
 *
 * Order of sums, as in cpu/gemm.c: over each run of 256 of k from zero with fmaf; the first is added to beta c, the
 * others to that, each times alpha first.  This file's users are compiled without contraction.
 */
enum { EXACT_STEP = 16, EXACT_RUN = 256, EXACT_COLS = 64 };

template <int N> struct exact_side {
	quad x[EXACT_STEP][N / 4 + 1]; /* one more: rows of x begin at other banks */
};
template <int TY, int TM> struct exact_shared {
	exact_side<TY * TM> a;
	exact_side<EXACT_COLS> b;
};

/* Quad q of those of a step of N vectors: where it is in x, and what. */
template <int N>
DF_DEVICE void
exact_place(bool along, unsigned q, unsigned *k, unsigned *vector)
{
	enum { ACROSS = N / 4, DEEP = EXACT_STEP / 4 };

	*k = along ? q % DEEP * 4 : q / ACROSS;
	*vector = along ? q / DEEP : q % ACROSS * 4;
}
template <int N, int THREADS>
DF_DEVICE void
exact_fetch(quad (&to)[N * EXACT_STEP / 4 / THREADS], const side &s, size_t first, size_t k0, size_t k_end)
{
	for (unsigned i = 0; i < N * EXACT_STEP / 4 / THREADS; i++) {
		unsigned dk, dv;

		exact_place<N>(s.along, threadIdx.x + i * THREADS, &dk, &dv);
		const size_t k = k0 + dk, v = first + dv, row = s.along ? v : k, col = s.along ? k : v;
		const bool there = k < k_end && v < s.n;

		to[i] = side_quad(s, row * s.ld + col, !there ? 0 : s.along ? k_end - k : s.n - v);
	}
}
template <int N, int THREADS>
DF_DEVICE void
exact_put(exact_side<N> &to, const quad (&from)[N * EXACT_STEP / 4 / THREADS], bool along)
{
	for (unsigned i = 0; i < N * EXACT_STEP / 4 / THREADS; i++) {
		unsigned k, v;

		exact_place<N>(along, threadIdx.x + i * THREADS, &k, &v);
		if (along)
			for (unsigned j = 0; j < 4; j++)
				to.x[k + j][v / 4].v[v % 4] = from[i].v[j];
		else
			to.x[k][v / 4] = from[i];
	}
}

template <int TY, int TM>
DF_DEVICE void
exact_multiply(quad (&sum)[TM], const exact_shared<TY, TM> &s, unsigned k)
{
	const unsigned x = threadIdx.x % 16, y = threadIdx.x / 16;
	const quad b = s.b.x[k][x];
	quad a[TM / 4];

	for (unsigned i = 0; i < TM / 4; i++)
		a[i] = s.a.x[k][y * (TM / 4) + i];
	for (unsigned i = 0; i < TM; i++)
		for (unsigned j = 0; j < 4; j++)
			sum[i].v[j] = fmaf(a[i / 4].v[i % 4], b.v[j], sum[i].v[j]);
}

/* The tile of c from row i0 and column j0 on; all threads of the block come. */
template <int TY, int TM>
DF_DEVICE void
exact_tile(const product &p, size_t i0, size_t j0, exact_shared<TY, TM> &s)
{
	enum { THREADS = TY * 16, ROWS = TY * TM };
	const size_t i1 = i0 + threadIdx.x / 16 * TM, j1 = j0 + threadIdx.x % 16 * 4;
	quad a[ROWS * EXACT_STEP / 4 / THREADS], b[EXACT_COLS * EXACT_STEP / 4 / THREADS];
	quad sum[TM] = {}, value[TM] = {};
	size_t k = 0;

	exact_fetch<ROWS, THREADS>(a, p.a, i0, 0, p.k);
	exact_fetch<EXACT_COLS, THREADS>(b, p.b, j0, 0, p.k);
	do {
		const size_t next = smaller(k + EXACT_STEP, p.k);

		sync_block();
		exact_put<ROWS, THREADS>(s.a, a, p.a.along);
		exact_put<EXACT_COLS, THREADS>(s.b, b, p.b.along);
		sync_block();
		if (next < p.k) {
			exact_fetch<ROWS, THREADS>(a, p.a, i0, next, p.k);
			exact_fetch<EXACT_COLS, THREADS>(b, p.b, j0, next, p.k);
		}
		if (next - k == EXACT_STEP) {
#pragma unroll
			for (unsigned l = 0; l < EXACT_STEP; l++)
				exact_multiply(sum, s, l);
		} else {
			/* one zero more would turn a sum of -0 into 0 */
			for (unsigned l = 0; l < next - k; l++)
				exact_multiply(sum, s, l);
		}
		if (next % EXACT_RUN == 0 || next == p.k) {
			for (unsigned i = 0; i < TM; i++) {
				if (k < EXACT_RUN)
					value[i] = blended(p, sum[i], i1 + i, j1);
				else
					add_run(p, &value[i], sum[i]);
				sum[i] = {};
			}
		}
		k = next;
	} while (k < p.k);
	for (unsigned i = 0; i < TM; i++)
		set_c(p, value[i], i1 + i, j1);
}

#endif
