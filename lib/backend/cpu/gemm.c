/*
 * gemm.c - the matrix product.
 *
 * Why not a BLAS call: OpenBLAS chooses its inner kernel, and with it the
 * rounding, by how many rows are left, so a row's result depends on the rows beside it
 * (0.3.21, Haswell kernels: the same row computed alone, in fours or in
 * twelves gives different bits).  Here
 *
 *   c[i,j] = beta c[i,j] + alpha s_1 + alpha s_2 + ...,
 *
 * s_b the sum over the b-th run of KC inner indices, from zero, in order, each
 * step one fused multiply-add.  So an element is a function of its row of
 * op(a) and its column of op(b) alone: not of M and N, not of tiles or
 * threads, and not of the vector width.  Tiles may then be cut as speed likes.
 *
 * How (Goto & van de Geijn 2008, less one packing):
 *
 *              NC columns                 for each run of KC inner indices
 *            +-----------+                  pack op(b)'s KC x NC block in strips of NR
 *         KC |  packed b |  L2              for each MR rows of op(a)
 *            +--+--+--+--+                    for each strip
 *   MR [ a ]  NR                                block [MR][NR] in registers
 *       L1     strip: L1
 *
 * Rows of a are read where they lie: MR rows x KC stay in the first-level
 * cache while all strips pass.  Only a transposed a is copied, MR columns at a
 * time.  The classic order (a packed, strips outside) measured 5 to 10 % slower here.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/gemm_pack.h"
#include "backend/cpu/gemm_thin.h"
#include "base/mem.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAVE_X86 1
#endif

#define CONCAT_(a, b) a##b
#define CONCAT(a, b)  CONCAT_(a, b)

enum { KC = DF_CPU_PACK_MOST, NC = 256, SOME_ROWS = 128, MR_MAX = 12, NR_MAX = 32 };

typedef float v4 __attribute__((vector_size(16), aligned(16), may_alias));
typedef float v4u __attribute__((vector_size(16), aligned(4), may_alias));

/* What a micro-kernel computes: gemm_kernel.h. */
struct block {
	const float *a, *b;
	float *c, alpha, beta;
	size_t kc, rs, cs, bs, ss, ldc;
	int rows, nv; /* nv: the block's columns, in vectors */
};

/*
 * AddressSanitizer does not keep the kernels' sums in registers and looks at every access to them: most of the time of
 * a test that trains. So it leaves the kernels alone, and looks at the corners of what a block touches.
 */
#ifdef __SANITIZE_ADDRESS__
#define UNCHECKED __attribute__((no_sanitize("address", "undefined")))

static void
check_corners(const struct block *blk, size_t width)
{
	const size_t last = blk->kc ? blk->kc - 1 : 0, end = (size_t)blk->nv * width - 1;
	const volatile float *a = blk->a, *b = blk->b, *c = blk->c;

	for (size_t i = 0; i < (size_t)blk->rows; i++) {
		(void)c[i * blk->ldc], (void)c[i * blk->ldc + end];
		if (blk->kc > 0)
			(void)a[i * blk->rs], (void)a[i * blk->rs + last * blk->cs];
	}
	for (size_t j = 0; j < (size_t)blk->nv && blk->kc > 0; j++)
		(void)b[j / 2 * blk->ss + j % 2 * width],
		    (void)b[last * blk->bs + j / 2 * blk->ss + (j % 2 + 1) * width - 1];
}
#else
#define UNCHECKED
#define check_corners(blk, width) ((void)0)
#endif

#ifdef HAVE_X86
#define KERNEL       kernel_avx512
#define TARGET       __attribute__((target("avx512f")))
#define VEC          __m512
#define VECU         __m512_u
#define WIDTH        16
#define MR           12
#define ALL(x)       _mm512_set1_ps(x)
#define FMA(x, y, z) _mm512_fmadd_ps(x, y, z)
#include "backend/cpu/gemm_kernel.h"

#define KERNEL       kernel_avx2
#define TARGET       __attribute__((target("avx2,fma")))
#define VEC          __m256
#define VECU         __m256_u
#define WIDTH        8
#define MR           6
#define ALL(x)       _mm256_set1_ps(x)
#define FMA(x, y, z) _mm256_fmadd_ps(x, y, z)
#include "backend/cpu/gemm_kernel.h"
#endif

/* There is no fused instruction: product and sum round separately, so this kernel's results differ from the others'. */
#define KERNEL kernel_base
#define TARGET
#define VEC          v4
#define VECU         v4u
#define WIDTH        4
#define MR           6
#define ALL(x)       ((v4){ (x), (x), (x), (x) })
#define FMA(x, y, z) ((x) * (y) + (z))
#include "backend/cpu/gemm_kernel.h"

struct kernel {
	size_t mr, width;
	bool fused; /* multiply and add in one step */
	void (*run)(const struct block *blk);
};

/* The kernel for `isa`; `run` is NULL if the CPU lacks its instructions. */
static struct kernel
find_kernel(enum df_cpu_isa isa)
{
#ifdef HAVE_X86
	if ((isa == DF_CPU_ISA_BEST || isa == DF_CPU_ISA_AVX512) && __builtin_cpu_supports("avx512f"))
		return (struct kernel){ 12, 16, true, kernel_avx512 };
	if ((isa == DF_CPU_ISA_BEST || isa == DF_CPU_ISA_AVX2) && __builtin_cpu_supports("avx2") &&
	    __builtin_cpu_supports("fma"))
		return (struct kernel){ 6, 8, true, kernel_avx2 };
#endif
	return (struct kernel){ 6, 4, false, isa == DF_CPU_ISA_BEST || isa == DF_CPU_ISA_SCALAR ? kernel_base : NULL };
}

bool
df_cpu_gemm_is_fast(void)
{
	return find_kernel(DF_CPU_ISA_BEST).fused;
}

const char *
df_cpu_gemm_isa(void)
{
	switch (find_kernel(DF_CPU_ISA_BEST).width) {
	case 16: return "AVX-512";
	case 8: return "AVX2";
	default: return "baseline";
	}
}

static size_t
div_up(size_t a, size_t b)
{
	return (a + b - 1) / b;
}

/* dst[k][0..n) = src[k*ld ..]; the usual values of n are constants for the compiler. */
static void
copy_rows(float *dst, const float *src, size_t ld, size_t kc, size_t n)
{
#define COPY(count)                                                                   \
	case count:                                                                   \
		for (size_t k = 0; k < kc; k++)                                       \
			memcpy(dst + k * count, src + k * ld, count * sizeof(float)); \
		break;

	switch (n) {
		COPY(6)
		COPY(8)
		COPY(12)
		COPY(16)
		COPY(32) default : for (size_t k = 0; k < kc; k++) memcpy(dst + k * n, src + k * ld, n * sizeof(float));
	}
#undef COPY
}

/*
 * A block whose columns end before its strip's: it is computed in a buffer, and the kernel's own
 * arithmetic adds it to c.
 */
static void
run_edge(const struct kernel *kern, const struct block *full, size_t n)
{
	_Alignas(64) float edge[MR_MAX * NR_MAX] = { 0 };
	struct block blk = *full;

	blk.c = edge;
	blk.ldc = NR_MAX;
	for (int i = 0; i < blk.rows && blk.beta != 0.0f; i++)
		memcpy(edge + i * NR_MAX, full->c + (size_t)i * full->ldc, n * sizeof(float));
	kern->run(&blk);
	for (int i = 0; i < blk.rows; i++)
		memcpy(full->c + (size_t)i * full->ldc, edge + i * NR_MAX, n * sizeof(float));
}

/* How many strips a block of this many rows takes at once, if as many whole ones are left. */
static size_t
strips_at_once(size_t rows)
{
	return rows == 1 ? 4 : rows <= 3 ? 2 : 1;
}

/*
 * How many columns of op(b) are packed at a time.  As many as fit, for all rows of a to pass; but for few rows one
 * strip, which is used up in the first-level cache (a single row takes four, strips_at_once()).
 */
static size_t
columns_at_once(bool tb, size_t m, size_t k, size_t wide)
{
	if (tb && m <= SOME_ROWS)
		return m <= DF_CPU_THIN_ROWS ? 4 * wide : wide;
	return k > 0 && k < KC ? KC * NC / k / wide * wide : NC;
}

static void
multiply(struct kernel kern, bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
    struct df_cpu_operand b, float beta, float *c, size_t ldc)
{
	const size_t mr = kern.mr, wide = 2 * kern.width;
	const bool b_in_place = m <= DF_CPU_THIN_ROWS && !tb && b.type == DF_F32; /* too few rows to repay packing */
	const size_t nc_most = b_in_place ? 4 * wide : columns_at_once(tb, m, k, wide);
	const size_t n_k = k > KC ? div_up(k, KC) : 1; /* one even when k = 0: an empty sum is zero */
	const bool along_rows = !tb && m <= SOME_ROWS;
	_Alignas(64) float packed[KC * NC], columns[KC * MR_MAX];
	size_t thin = 0, n_j; /* columns that are done; blocks of the others */

	if (m <= DF_CPU_THIN_ROWS && tb && !ta && k > 0 && kern.fused)
		thin = df_cpu_gemm_thin(m, n, k, alpha, a, lda, b, beta, c, ldc);
	n_j = div_up(n - thin, nc_most);
	for (size_t block = 0; block < n_j * n_k; block++) {
		const size_t j0 = thin + (along_rows ? block % n_j : block / n_k) * nc_most;
		const size_t k0 = (along_rows ? block / n_j : block % n_k) * KC;
		const size_t nc = n - j0 < nc_most ? n - j0 : nc_most, kc = k - k0 < KC ? k - k0 : KC;
		const size_t packed_from = b_in_place ? nc / wide * wide : 0;
		struct df_cpu_operand at = b;

		at.p = tb ? df_cpu_element(b, j0, k0) : df_cpu_element(b, k0, j0);
		if (packed_from < nc) {
			struct df_cpu_operand rest = at;

			rest.p = tb ? df_cpu_element(at, packed_from, 0) : df_cpu_element(at, 0, packed_from);
			df_cpu_pack(packed, rest, tb, kc, nc - packed_from, wide, kern.width);
		}
		for (size_t i = 0; i < m; i += mr) {
			struct block blk = { .alpha = alpha, .beta = k0 ? 1.0f : beta, .kc = kc, .ldc = ldc };
			const size_t rows = m - i < mr ? m - i : mr, many = strips_at_once(rows) * wide;
			/* the next rows: a line of each is fetched at every strip */
			const size_t rows_next = ta ? 0 : m - i - rows < mr ? m - i - rows : mr;
			size_t step;

			blk.rows = (int)rows;
			blk.a = ta ? a + k0 * lda + i : a + i * lda + k0;
			blk.rs = ta ? 1 : lda;
			blk.cs = ta ? lda : 1;
			if (ta && nc > wide) {
				copy_rows(columns, blk.a, lda, kc, (size_t)blk.rows);
				blk.a = columns;
				blk.cs = (size_t)blk.rows;
			}
			for (size_t j = 0; j < nc; j += step) {
				const size_t left = nc - j, nr = left <= kern.width ? kern.width : wide;

				for (size_t r = 0; r < rows_next && j < kc; r++)
					__builtin_prefetch(blk.a + (mr + r) * lda + j);
				step = left >= many ? many : nr;
				blk.nv = step > wide ? (rows == 1 ? 8 : 4) : nr > kern.width ? 2 : 1;
				if (j < packed_from) {
					blk.b = (const float *)at.p + j;
					blk.bs = b.ld;
					blk.ss = wide;
				} else {
					blk.b = packed + (j - packed_from) * kc;
					blk.bs = nr;
					blk.ss = wide * kc;
				}
				blk.c = c + i * ldc + j0 + j;
				if (left < nr)
					run_edge(&kern, &blk, left);
				else
					kern.run(&blk);
			}
		}
	}
}

static void
multiply_best(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
    struct df_cpu_operand b, float beta, float *c, size_t ldc)
{
	multiply(find_kernel(DF_CPU_ISA_BEST), ta, tb, m, n, k, alpha, a, lda, b, beta, c, ldc);
}

bool
df_cpu_sgemm_with(enum df_cpu_isa isa, bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
    size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
	const struct kernel kern = find_kernel(isa);

	if (kern.run)
		multiply(kern, ta, tb, m, n, k, alpha, a, lda, (struct df_cpu_operand){ b, ldb, DF_F32 }, beta, c, ldc);
	return kern.run;
}

size_t
df_cpu_strip(enum df_cpu_isa isa)
{
	const struct kernel kern = find_kernel(isa);

	return kern.run ? 2 * kern.width : 0;
}

void
df_cpu_multiply_strips(enum df_cpu_isa isa, size_t m, size_t n, size_t kc, const float *a, size_t lda, const float *b,
    size_t apart, float *c, size_t ldc)
{
	const struct kernel kern = find_kernel(isa);
	const size_t wide = 2 * kern.width;

	if (!kern.run)
		return;
	for (size_t i = 0; i < m; i += kern.mr, a += kern.mr * lda, c += kern.mr * ldc) {
		struct block blk = {
			.a = a, .alpha = 1, .beta = 1, .kc = kc, .rs = lda, .cs = 1, .bs = wide, .ldc = ldc, .nv = 2
		};

		blk.rows = (int)(m - i < kern.mr ? m - i : kern.mr);
		for (size_t j = 0; j < n; j += wide) {
			blk.b = b + j / wide * apart;
			blk.c = c + j;
			if (n - j < wide)
				run_edge(&kern, &blk, n - j);
			else
				kern.run(&blk);
		}
	}
}

/* ---- the slot: tiles of c -------------------------------------------------------------------------------------- */

/*
 * A tile is worth a task from TILE_OPS multiplications on (tens of microseconds).  Tall tiles share a
 * packed b, so rows are cut only as far as the number of threads requires.
 */
static void
tile_for_threads(size_t *rows, size_t *cols, size_t k, size_t threads)
{
	enum { TILE_OPS = 1 << 20, ROWS_MIN = 48 };
	const size_t m = *rows, n = *cols;
	size_t n_tasks = m * n / TILE_OPS * k + m * n % TILE_OPS * k / TILE_OPS;

	if (threads <= 1 || n_tasks <= 1)
		return;
	n_tasks = n_tasks < 4 * threads ? n_tasks : 4 * threads;
	*cols = n < NC ? n : NC;
	*rows = div_up(div_up(m, div_up(n_tasks, div_up(n, *cols))), ROWS_MIN) * ROWS_MIN;
}

const struct df_cpu_product df_cpu_product = { multiply_best, tile_for_threads };

const struct df_cpu_product *
df_cpu_product_of(const struct df_backend *be)
{
	return be->ops->product ? be->ops->product : &df_cpu_product;
}

/* One of several products, and how its c is cut in tiles: tasks from `task` on. */
struct tiles {
	const struct df_gemm *g;
	size_t k, rows, cols, n_across, task;
};
struct tiled {
	const struct tiles *v;
	size_t n;
	df_cpu_multiply_fn *multiply;
};

static void
run_tile(const struct tiles *t, df_cpu_multiply_fn *product, size_t i)
{
	const struct df_gemm *g = t->g;
	struct df_cpu_operand b = { df_tensor_host(g->b), g->b.ld, g->b.type };
	size_t i0 = i / t->n_across * t->rows, j0 = i % t->n_across * t->cols;
	size_t m = g->c.rows - i0 < t->rows ? g->c.rows - i0 : t->rows;
	size_t n = g->c.cols - j0 < t->cols ? g->c.cols - j0 : t->cols;

	b.p = g->tb ? df_cpu_element(b, j0, 0) : df_cpu_element(b, 0, j0);
	product(g->ta, g->tb, m, n, t->k, g->alpha, df_tensor_f32(g->a) + (g->ta ? i0 : i0 * g->a.ld), g->a.ld, b,
	    g->beta, df_tensor_f32(g->c) + i0 * g->c.ld + j0, g->c.ld);
}

static void
run_task(void *ctx, size_t i, int worker)
{
	const struct tiled *t = ctx;
	size_t low = 0, high = t->n; /* the last product that begins at or before i */

	(void)worker;
	while (high - low > 1) {
		const size_t mid = low + (high - low) / 2;

		if (t->v[mid].task <= i)
			low = mid;
		else
			high = mid;
	}
	run_tile(&t->v[low], t->multiply, i - t->v[low].task);
}

/* Cut g's c for this many threads; returns the number of tiles. */
static size_t
cut(struct tiles *t, const struct df_gemm *g, const struct df_cpu_product *product, size_t threads)
{
	const size_t m = g->c.rows, n = g->c.cols;

	*t = (struct tiles){ .g = g, .k = g->ta ? g->a.rows : g->a.cols, .rows = m, .cols = n };
	if (m == 0 || n == 0)
		return 0;
	product->tile(&t->rows, &t->cols, t->k, threads);
	t->n_across = div_up(n, t->cols);
	return t->n_across * div_up(m, t->rows);
}

int
df_cpu_gemm(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_cpu_product *product = df_cpu_product_of(be);
	struct tiles one;
	struct tiled t = { &one, 1, product->multiply };

	(void)err;
	df_pool_for(be->pool, cut(&one, args, product, (size_t)df_pool_size(be->pool)), run_task, &t);
	return DF_OK;
}

/* Multiplications; f64 does not overflow. */
static double
work_of(const struct df_gemm *g)
{
	return (double)g->c.rows * (double)g->c.cols * (double)(g->ta ? g->a.rows : g->a.cols);
}

int
df_cpu_gemms(struct df_backend *be, const struct df_gemm *g, size_t n, struct df_err *err)
{
	const struct df_cpu_product *product = df_cpu_product_of(be);
	const double threads = (double)df_pool_size(be->pool);
	struct tiles *v = NULL;
	struct tiled t = { .multiply = product->multiply };
	size_t n_tasks = 0;
	double all = 0;
	int rc;

	DF_TRY(df_alloc(&v, n, sizeof(*v), "products", err));
	for (size_t i = 0; i < n; i++)
		all += work_of(&g[i]);
	for (size_t i = 0; i < n; i++) {
		/* The threads that would be at it, if all of them shared all of the work, and one more. */
		const size_t share = threads > 1 ? 1 + (size_t)(threads * work_of(&g[i]) / (all + 1)) : 1;
		const size_t tiles = cut(&v[t.n], &g[i], product, share);

		v[t.n].task = n_tasks;
		n_tasks += tiles;
		t.n += tiles > 0;
	}
	t.v = v;
	df_pool_for(be->pool, n_tasks, run_task, &t);
out:
	free(v);
	return rc;
}

/* ---- products by group ------------------------------------------------------------------------------------------ */

/* Rows [first[e], first[e+1]) of t. */
static struct df_tensor
rows_of(struct df_tensor t, const uint32_t *first, size_t e)
{
	return df_tensor_rows(t, first[e], first[e + 1] - first[e]);
}

/* A product for each group e that has list[e]: its b, or, for sums over rows (ta), its c; the others by rows. */
static int
by_group(struct df_backend *be, const struct df_gemm *all, struct df_tensor first, const struct df_tensor *list,
    size_t n_groups, struct df_err *err)
{
	const uint32_t *rows = df_tensor_u32(first);
	struct df_gemm *g = NULL;
	size_t n = 0;
	int rc;

	DF_TRY(df_alloc(&g, n_groups, sizeof(*g), "products", err));
	for (size_t e = 0; e < n_groups; e++) {
		if (!list[e].mem)
			continue;
		g[n] = *all;
		g[n].a = rows_of(all->a, rows, e);
		g[n].b = all->ta ? rows_of(all->b, rows, e) : list[e];
		g[n].c = all->ta ? list[e] : rows_of(all->c, rows, e);
		n++;
	}
	rc = df_cpu_gemms(be, g, n, err);
out:
	free(g);
	return rc;
}

int
df_cpu_gemm_groups(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_gemm_groups *a = args;
	const struct df_gemm all = { .tb = a->tb, .alpha = a->alpha, .beta = a->beta, .a = a->a, .c = a->c };

	return by_group(be, &all, a->first, a->b, a->n, err);
}

int
df_cpu_gemm_group_sums(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_gemm_group_sums *a = args;
	const struct df_gemm all = { .ta = true, .alpha = a->alpha, .beta = a->beta, .a = a->a, .b = a->b };

	return by_group(be, &all, a->first, a->c, a->n, err);
}

/* ---- the slot: a product for each segment of rows --------------------------------------------------------------- */

struct segment_tiles {
	const struct df_gemm_segments *g;
	df_cpu_multiply_fn *multiply;
	size_t tile_rows, tile_cols, n_across, n_down;
};

static void
run_segment_tile(void *ctx, size_t i, int worker)
{
	const struct segment_tiles *t = ctx;
	const struct df_gemm_segments *g = t->g;
	const size_t s = i / (t->n_across * t->n_down), n = g->b.cols;
	const size_t first = df_tensor_u32(g->offsets)[s], k = df_tensor_u32(g->offsets)[s + 1] - first;
	const size_t i0 = i / t->n_across % t->n_down * t->tile_rows, j0 = i % t->n_across * t->tile_cols;
	const size_t rows = g->a.cols - i0 < t->tile_rows ? g->a.cols - i0 : t->tile_rows;
	const size_t cols = n - j0 < t->tile_cols ? n - j0 : t->tile_cols;
	const struct df_cpu_operand b = { df_tensor_f32(g->b) + first * g->b.ld + j0, g->b.ld, DF_F32 };

	(void)worker;
	t->multiply(true, false, rows, cols, k, g->alpha, df_tensor_f32(g->a) + first * g->a.ld + i0, g->a.ld, b, 0,
	    df_tensor_f32(g->c) + s * g->c.ld + i0 * n + j0, n);
}

int
df_cpu_gemm_segments(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_cpu_product *product = df_cpu_product_of(be);
	const struct df_gemm_segments *g = args;
	const size_t n_segments = g->c.rows, threads = (size_t)df_pool_size(be->pool);
	struct segment_tiles t = { g, product->multiply, g->a.cols, g->b.cols, 1, 1 };

	(void)err;
	if (df_tensor_numel(g->c) == 0)
		return DF_OK;
	/* Segments are tasks, too: each is cut only as far as there are not enough of them. */
	product->tile(&t.tile_rows, &t.tile_cols, div_up(g->a.rows, n_segments), div_up(threads, n_segments));
	t.n_across = div_up(g->b.cols, t.tile_cols);
	t.n_down = div_up(g->a.cols, t.tile_rows);
	df_pool_for(be->pool, n_segments * t.n_across * t.n_down, run_segment_tile, &t);
	return DF_OK;
}
