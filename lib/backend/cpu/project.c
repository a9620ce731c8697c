/*
 * project.c - y += g R with R in {-1,+1}^(n x k), or sparse, made from Philox as it is needed.
 *
 * The dense form is a matrix product whose right side is never stored.  One
 * Philox call gives the signs of 128 columns of one coordinate, so the unit of
 * work is a panel of KC coordinates x 128 columns: its signs are expanded
 * once into +-1.0f (128 KiB: the second-level cache), in strips as the product's micro-kernels read them (gemm.h),
 * which multiply every sample by it.  With 64 samples a call, expanding costs a twentieth of the multiplications.
 *
 * The definition of the numbers: element y[s,c] of a call is the sum over runs of KC coordinates, from the call's
 * first, of a sum from zero in order of the coordinates.  A product with +-1 is exact.  So fused or separate
 * multiplication, vectors of any width and a scalar loop all round alike, and no element depends on others.
 *
 * Tried and rejected: adding with the sign bit XORed in costs two instructions where an FMA costs one;
 * OpenBLAS on the expanded panel changes its kernel, and with it the rounding, at the edges of a batch.
 */
#include "backend/cpu/project.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/gemm_turn.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/simd.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86 1
#include <immintrin.h>
#endif

#define KC    DF_CPU_PACK_MOST /* coordinates of a panel, and of a sum from zero: 256 */
#define BLOCK 128              /* columns of one Philox call */
#define LANES 16               /* coordinates of one call of words() */
#define SUPER 4096             /* coordinates that all panels pass at a time, a multiple of KC: they stay in a cache */

struct kernel {
	size_t wide; /* a strip */
	/* out[w][l] = word w of Philox at coordinate p+l. */
	void (*words)(uint64_t p, uint32_t block, uint32_t tag, const uint32_t key[2], uint32_t out[4][LANES]);
	/* Signs of LANES coordinates -> rows of the panel's strips, KC * wide elements apart. */
	void (*expand)(uint32_t w[4][LANES], size_t strips, float *panel);
};

/* ---- plain C -------------------------------------------------------------- */

static void
words_scalar(uint64_t p, uint32_t block, uint32_t tag, const uint32_t key[2], uint32_t out[4][LANES])
{
	for (size_t l = 0; l < LANES; l++) {
		const uint32_t ctr[4] = { (uint32_t)(p + l), (uint32_t)((p + l) >> 32), block, tag };
		uint32_t w[4];

		df_philox(ctr, key, w);
		for (int i = 0; i < 4; i++)
			out[i][l] = w[i];
	}
}

#define SCALAR_WIDE 8

static void
expand_scalar(uint32_t w[4][LANES], size_t strips, float *panel)
{
	for (size_t l = 0; l < LANES; l++)
		for (size_t c = 0; c < strips * SCALAR_WIDE; c++)
			panel[(c / SCALAR_WIDE * KC + l) * SCALAR_WIDE + c % SCALAR_WIDE] =
			    w[c / 32][l] >> (c % 32) & 1 ? 1.0f : -1.0f;
}

static const struct kernel kernel_scalar = { SCALAR_WIDE, words_scalar, expand_scalar };

/* ---- AVX2 ---------------------------------------------------------------- */

#ifdef HAVE_X86

#define AVX2 __attribute__((target("avx2,fma")))

/* High and low halves of the eight products a * m. */
#define AVX2_MULHILO(a, m, hi, lo)                                                   \
	do {                                                                         \
		__m256i even_ = _mm256_mul_epu32((a), (m));                          \
		__m256i odd_ = _mm256_mul_epu32(_mm256_srli_epi64((a), 32), (m));    \
		(hi) = _mm256_blend_epi32(_mm256_srli_epi64(even_, 32), odd_, 0xaa); \
		(lo) = _mm256_blend_epi32(even_, _mm256_slli_epi64(odd_, 32), 0xaa); \
	} while (0)

AVX2 static void
words_avx2(uint64_t p, uint32_t block, uint32_t tag, const uint32_t key[2], uint32_t out[4][LANES])
{
	const __m256i m0 = _mm256_set1_epi32((int)0xD2511F53u), m1 = _mm256_set1_epi32((int)0xCD9E8D57u);
	__m256i a[4], b[4]; /* coordinates p..p+7 and p+8..p+15: two chains keep the multipliers busy */
	uint32_t k0 = key[0], k1 = key[1];
	uint32_t lo[LANES], hi[LANES];

	for (size_t l = 0; l < LANES; l++) {
		lo[l] = (uint32_t)(p + l);
		hi[l] = (uint32_t)((p + l) >> 32);
	}
	a[0] = _mm256_loadu_si256((const __m256i *)lo);
	a[1] = _mm256_loadu_si256((const __m256i *)hi);
	b[0] = _mm256_loadu_si256((const __m256i *)(lo + 8));
	b[1] = _mm256_loadu_si256((const __m256i *)(hi + 8));
	a[2] = b[2] = _mm256_set1_epi32((int)block);
	a[3] = b[3] = _mm256_set1_epi32((int)tag);
	for (int round = 0; round < 10; round++) {
		const __m256i x0 = _mm256_set1_epi32((int)k0), x1 = _mm256_set1_epi32((int)k1);
		__m256i h0, l0, h1, l1;

		AVX2_MULHILO(a[0], m0, h0, l0);
		AVX2_MULHILO(a[2], m1, h1, l1);
		a[0] = _mm256_xor_si256(_mm256_xor_si256(h1, a[1]), x0);
		a[1] = l1;
		a[2] = _mm256_xor_si256(_mm256_xor_si256(h0, a[3]), x1);
		a[3] = l0;
		AVX2_MULHILO(b[0], m0, h0, l0);
		AVX2_MULHILO(b[2], m1, h1, l1);
		b[0] = _mm256_xor_si256(_mm256_xor_si256(h1, b[1]), x0);
		b[1] = l1;
		b[2] = _mm256_xor_si256(_mm256_xor_si256(h0, b[3]), x1);
		b[3] = l0;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	for (int i = 0; i < 4; i++) {
		_mm256_storeu_si256((__m256i *)out[i], a[i]);
		_mm256_storeu_si256((__m256i *)(out[i] + 8), b[i]);
	}
}

#define AVX2_WIDE 16

/* A shift brings each column's bit to the sign position, where a blend looks at it. */
AVX2 static void
expand_avx2(uint32_t w[4][LANES], size_t strips, float *panel)
{
	const __m256i s0 = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
	const __m256i s1 = _mm256_setr_epi32(23, 22, 21, 20, 19, 18, 17, 16);
	const __m256 plus = _mm256_set1_ps(1.0f), minus = _mm256_set1_ps(-1.0f);

	for (size_t t = 0; t < strips; t++) {
		float *row = panel + t * KC * AVX2_WIDE;

		for (size_t l = 0; l < LANES; l++, row += AVX2_WIDE) {
			__m256i v = _mm256_set1_epi32((int)(w[t / 2][l] >> (t % 2 * 16)));

			_mm256_store_ps(
			    row, _mm256_blendv_ps(minus, plus, _mm256_castsi256_ps(_mm256_sllv_epi32(v, s0))));
			_mm256_store_ps(
			    row + 8, _mm256_blendv_ps(minus, plus, _mm256_castsi256_ps(_mm256_sllv_epi32(v, s1))));
		}
	}
}

static const struct kernel kernel_avx2 = { AVX2_WIDE, words_avx2, expand_avx2 };

/* ---- AVX-512 ------------------------------------------------------------- */

#define AVX512 __attribute__((target("avx512f")))

/* Two of everything: coordinates p..p+7 and p+8..p+15, in numbers of 64 bits, of which the multiplier reads 32. */
AVX512 static void
words_avx512(uint64_t p, uint32_t block, uint32_t tag, const uint32_t key[2], uint32_t out[4][LANES])
{
	const __m512i m0 = _mm512_set1_epi64(0xD2511F53u), m1 = _mm512_set1_epi64(0xCD9E8D57u);
	const __m512i l = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
	const __m512i low = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
	uint32_t k0 = key[0], k1 = key[1];
	__m512i a[4], b[4];

	a[0] = _mm512_add_epi64(l, _mm512_set1_epi64((long long)p));
	b[0] = _mm512_add_epi64(a[0], _mm512_set1_epi64(8));
	a[1] = _mm512_srli_epi64(a[0], 32);
	b[1] = _mm512_srli_epi64(b[0], 32);
	a[2] = b[2] = _mm512_set1_epi32((int)block);
	a[3] = b[3] = _mm512_set1_epi32((int)tag);
	for (int round = 0; round < 10; round++) {
		const __m512i x0 = _mm512_set1_epi32((int)k0), x1 = _mm512_set1_epi32((int)k1);
		const __m512i a0 = _mm512_mul_epu32(a[0], m0), a1 = _mm512_mul_epu32(a[2], m1);
		const __m512i b0 = _mm512_mul_epu32(b[0], m0), b1 = _mm512_mul_epu32(b[2], m1);

		a[0] = _mm512_ternarylogic_epi32(_mm512_srli_epi64(a1, 32), a[1], x0, 0x96); /* exclusive or of three */
		b[0] = _mm512_ternarylogic_epi32(_mm512_srli_epi64(b1, 32), b[1], x0, 0x96);
		a[1] = a1;
		b[1] = b1;
		a[2] = _mm512_ternarylogic_epi32(_mm512_srli_epi64(a0, 32), a[3], x1, 0x96);
		b[2] = _mm512_ternarylogic_epi32(_mm512_srli_epi64(b0, 32), b[3], x1, 0x96);
		a[3] = a0;
		b[3] = b0;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	for (int i = 0; i < 4; i++)
		_mm512_storeu_si512(out[i], _mm512_permutex2var_epi32(a[i], low, b[i]));
}

#define AVX512_WIDE 32

AVX512 static void
expand_avx512(uint32_t w[4][LANES], size_t strips, float *panel)
{
	const __m512 plus = _mm512_set1_ps(1.0f), minus = _mm512_set1_ps(-1.0f);

	for (size_t t = 0; t < strips; t++) {
		float *row = panel + t * KC * AVX512_WIDE;

		for (size_t l = 0; l < LANES; l++, row += AVX512_WIDE) {
			_mm512_store_ps(row, _mm512_mask_blend_ps((__mmask16)w[t][l], minus, plus));
			_mm512_store_ps(row + 16, _mm512_mask_blend_ps((__mmask16)(w[t][l] >> 16), minus, plus));
		}
	}
}

static const struct kernel kernel_avx512 = { AVX512_WIDE, words_avx512, expand_avx512 };

#endif

/* Those that go with the product's micro-kernels for `isa`; NULL if the CPU lacks its instructions. */
static const struct kernel *
choose(enum df_cpu_isa isa)
{
	switch (df_cpu_strip(isa)) {
#ifdef HAVE_X86
	case AVX512_WIDE: return &kernel_avx512;
	case AVX2_WIDE: return &kernel_avx2;
#endif
	case SCALAR_WIDE: return &kernel_scalar;
	default: return NULL;
	}
}

/* ---- dense: tiles of 128 columns ---------------------------------------------- */

struct dense {
	const struct kernel *kn;
	enum df_cpu_isa isa;
	const struct df_cpu_project *a;
	float *panels;           /* [workers][KC * BLOCK] */
	size_t coord0, n_coords; /* the coordinates, from the call's first */
};

static void
dense_block(void *ctx, size_t block, int worker)
{
	const struct dense *d = ctx;
	const struct df_cpu_project *a = d->a;
	const struct kernel *kn = d->kn;
	const uint32_t key[2] = { (uint32_t)a->seed, (uint32_t)(a->seed >> 32) };
	const uint32_t tag = (uint32_t)DF_RNG_PROJECTION << 24 | a->model_id;
	const size_t col0 = block * BLOCK;
	const size_t n_cols = a->k - col0 < BLOCK ? a->k - col0 : BLOCK;
	const size_t strips = (n_cols + kn->wide - 1) / kn->wide;
	float *panel = d->panels + (size_t)worker * KC * BLOCK;

	for (size_t j0 = d->coord0; j0 < d->coord0 + d->n_coords; j0 += KC) {
		const size_t left = d->coord0 + d->n_coords - j0, kc = left < KC ? left : KC;

		for (size_t j = 0; j < kc; j += LANES) {
			uint32_t w[4][LANES] __attribute__((aligned(64)));

			kn->words(a->first + j0 + j, (uint32_t)block, tag, key, w);
			kn->expand(w, strips, panel + j * kn->wide);
		}
		df_cpu_multiply_strips(
		    d->isa, a->n_samples, n_cols, kc, a->g + j0, a->ldg, panel, KC * kn->wide, a->y + col0, a->ldy);
	}
}

static int
dense_run(enum df_cpu_isa isa, struct df_pool *pool, const struct df_cpu_project *a, struct df_err *err)
{
	struct dense d = { .kn = choose(isa), .isa = isa, .a = a };
	int rc = DF_OK;

	DF_TRY(df_alloc(&d.panels, (size_t)df_pool_size(pool) * KC * BLOCK, sizeof(*d.panels), "panels of signs", err));
	for (; d.coord0 < a->n; d.coord0 += SUPER) {
		d.n_coords = a->n - d.coord0 < SUPER ? a->n - d.coord0 : SUPER;
		df_pool_for(pool, (a->k + BLOCK - 1) / BLOCK, dense_block, &d);
	}
out:
	free(d.panels);
	return rc;
}

/*
 * ---- sparse: groups of samples ------------------------------------------------
 *
 * Nonzero i of a coordinate comes from one Philox word: its column lies in the i-th of `sparsity` even parts of the
 * k columns, its sign is the word's highest bit.  A group of samples shares them; its gradients and its sums are
 * turned, so that the numbers of its samples, 8 or 16, lie side by side, and a nonzero is one addition of vectors:
 *
 *      g [16, run]  --turn-->  [run][16]
 *      y [16, k]    --turn-->  [k][16]      [column of j] += value of j * [j],  j = 0 .. run-1
 *
 * A column belongs to one part, so its sum runs in order of the coordinates, whatever the order of the parts.  Where
 * threads outnumber groups, the parts of a group are shared out too.
 *
 * With 64 samples, 4 nonzeros and 8192 columns two fifths of the time are additions, as much is turning, and a fifth
 * making the nonzeros; with one sample half of it is making them, and that is its bound.
 */

#define SPARSE_ROWS 16  /* most samples of a group */
#define SPARSE_RUN  512 /* coordinates at a time: a multiple of LANES */
#define SPARSE_BIT  0x80000000u

typedef float v16 __attribute__((vector_size(64), may_alias));

struct nonzeros {
	uint32_t column[SPARSE_RUN]; /* from the first of the task */
	float value[SPARSE_RUN];     /* +-1/sqrt(sparsity) */
};

struct sparse {
	const struct kernel *kn;
	const struct df_cpu_project *a;
	size_t n_slices;           /* tasks of a group */
	uint32_t *part;            /* [sparsity + 1]: where the parts of the columns begin */
	struct nonzeros *nonzeros; /* [workers][sparsity] */
	float *g, *y;              /* [workers][SPARSE_RUN][SPARSE_ROWS] [workers][k][SPARSE_ROWS] */
};

/* Eight rows of x, ld apart -> out[j * width + row], j < n. */
DF_SIMD static void
turn_eight(const float *x, size_t ld, size_t n, float *out, size_t width)
{
	size_t j = 0;

	for (; j + 4 <= n; j += 4) {
		v8i col[4];

		turn(col, (const char *)(x + j), ld * sizeof(*x));
#pragma GCC unroll 4
		for (size_t u = 0; u < 4; u++)
			*(v8iu *)(out + (j + u) * width) = col[u];
	}
	for (; j < n; j++)
		for (size_t i = 0; i < 8; i++)
			out[j * width + i] = x[i * ld + j];
}

/* Fewer than eight, and zeros in the place of the others. */
static void
turn_few(const float *x, size_t ld, size_t n_rows, size_t n, float *out, size_t width)
{
	float eight[8 * SPARSE_RUN] = { 0 };

	for (size_t j = 0; j < n; j += SPARSE_RUN) {
		const size_t m = n - j < SPARSE_RUN ? n - j : SPARSE_RUN;

		for (size_t i = 0; i < n_rows; i++)
			memcpy(eight + i * SPARSE_RUN, x + i * ld + j, m * sizeof(*x));
		turn_eight(eight, SPARSE_RUN, m, out + j * width, width);
	}
}

/* x [n_rows,n], rows ld apart -> out [n][width]. */
static void
turn_in(const float *x, size_t ld, size_t n_rows, size_t n, float *out, size_t width)
{
	for (size_t r = 0; r < width; r += 8) {
		const size_t m = n_rows > r ? n_rows - r : 0;

		if (m >= 8)
			turn_eight(x + r * ld, ld, n, out + r, width);
		else
			turn_few(x + r * ld, ld, m, n, out + r, width);
	}
}

/* And back. */
DF_SIMD static void
turn_out(const float *x, size_t width, size_t n, float *out, size_t ld, size_t n_rows)
{
	for (size_t r = 0; r < n_rows; r += 4, x += 4) {
		size_t j = 0;

		for (; r + 4 <= n_rows && j + 8 <= n; j += 8) {
			v8i row[4];

			turn(row, (const char *)(x + j * width), width * sizeof(*x));
#pragma GCC unroll 4
			for (size_t u = 0; u < 4; u++)
				*(v8iu *)(out + (r + u) * ld + j) = row[u];
		}
		for (; j < n; j++)
			for (size_t i = 0; i < 4 && r + i < n_rows; i++)
				out[(r + i) * ld + j] = x[j * width + i];
	}
}

/* One nonzero of each of LANES coordinates, in `len` columns from `lo` on. */
DF_SIMD static void
sparse_place(const uint32_t word[LANES], uint32_t lo, uint32_t len, float unit, uint32_t *column, float *value)
{
	for (size_t l = 0; l < LANES; l++) {
		column[l] = lo + (uint32_t)((uint64_t)(word[l] & ~SPARSE_BIT) * len >> 31);
		value[l] = word[l] & SPARSE_BIT ? unit : -unit;
	}
}

/* Nonzeros [from, to) of LANES coordinates, from `first` on, at position j of the run. */
static void
sparse_make(const struct sparse *sp, uint64_t first, size_t j, uint32_t from, uint32_t to, struct nonzeros *nz)
{
	const struct df_cpu_project *a = sp->a;
	const uint32_t key[2] = { (uint32_t)a->seed, (uint32_t)(a->seed >> 32) };
	const uint32_t tag = (uint32_t)DF_RNG_PROJECTION << 24 | a->model_id;
	const float unit = (float)(1.0 / sqrt((double)a->sparsity));
	uint32_t w[4][LANES] __attribute__((aligned(64)));

	for (uint32_t i = from; i < to; i++) {
		if (i == from || i % 4 == 0)
			sp->kn->words(first, SPARSE_BIT | i / 4, tag, key, w);
		sparse_place(w[i % 4], sp->part[i] - sp->part[from], sp->part[i + 1] - sp->part[i], unit,
		    nz[i - from].column + j, nz[i - from].value + j);
	}
}

/* y[column] += value * g, for one nonzero of each of n coordinates of `width` samples. */
DF_SIMD static void
sparse_add(const float *g, size_t n, const struct nonzeros *nz, float *y, size_t width)
{
	switch (width) {
	case 16:
		for (size_t j = 0; j < n; j++)
			((v16 *)y)[nz->column[j]] += ((const v16 *)g)[j] * nz->value[j];
		break;
	case 8:
		for (size_t j = 0; j < n; j++)
			((df_v8 *)y)[nz->column[j]] += ((const df_v8 *)g)[j] * nz->value[j];
		break;
	default:
		for (size_t j = 0; j < n; j++)
			y[nz->column[j]] += g[j] * nz->value[j];
	}
}

/* How many samples lie side by side.  One where samples or coordinates are few: turning costs more than it saves. */
static size_t
sparse_width(size_t n_rows, size_t n_nonzeros, size_t k)
{
	if (n_rows == 1 || n_rows * n_nonzeros < 8 * k)
		return 1;
	return n_rows <= 8 ? 8 : SPARSE_ROWS;
}

static void
sparse_task(void *ctx, size_t task, int worker)
{
	const struct sparse *sp = ctx;
	const struct df_cpu_project *a = sp->a;
	const size_t row = task / sp->n_slices * SPARSE_ROWS, slice = task % sp->n_slices;
	const size_t n_rows = a->n_samples - row < SPARSE_ROWS ? a->n_samples - row : SPARSE_ROWS;
	const uint32_t from = (uint32_t)(a->sparsity * slice / sp->n_slices),
		       to = (uint32_t)(a->sparsity * (slice + 1) / sp->n_slices);
	const size_t k = sp->part[to] - sp->part[from], width = sparse_width(n_rows, a->sparsity * a->n, a->k);
	struct nonzeros *nz = sp->nonzeros + (size_t)worker * a->sparsity;
	float *gt = sp->g + (size_t)worker * SPARSE_RUN * SPARSE_ROWS;
	float *yt = width > 1 ? sp->y + (size_t)worker * a->k * SPARSE_ROWS : NULL;
	float *y = a->y + row * a->ldy + sp->part[from];

	if (width > 1)
		turn_in(y, a->ldy, n_rows, k, yt, width);
	for (size_t j0 = 0; j0 < a->n; j0 += SPARSE_RUN) {
		const size_t n = a->n - j0 < SPARSE_RUN ? a->n - j0 : SPARSE_RUN;
		const float *g = a->g + row * a->ldg + j0;

		for (size_t j = 0; j < n; j += LANES)
			sparse_make(sp, a->first + j0 + j, j, from, to, nz);
		if (width > 1)
			turn_in(g, a->ldg, n_rows, n, gt, width);
		for (uint32_t i = 0; i < to - from; i++) {
			if (width > 1)
				sparse_add(gt, n, &nz[i], yt, width);
			for (size_t r = 0; r < n_rows && width == 1; r++)
				sparse_add(g + r * a->ldg, n, &nz[i], y + r * a->ldy, 1);
		}
	}
	if (width > 1)
		turn_out(yt, width, k, y, a->ldy, n_rows);
}

static int
sparse_run(const struct kernel *kn, struct df_pool *pool, const struct df_cpu_project *a, struct df_err *err)
{
	const size_t n_workers = (size_t)df_pool_size(pool), n_groups = (a->n_samples + SPARSE_ROWS - 1) / SPARSE_ROWS;
	struct sparse sp = { .kn = kn, .a = a, .n_slices = (n_workers + n_groups - 1) / n_groups };
	int rc = DF_OK;

	if (sp.n_slices > a->sparsity)
		sp.n_slices = a->sparsity;
	DF_TRY(df_alloc(&sp.part, (size_t)a->sparsity + 1, sizeof(*sp.part), "parts of the columns", err));
	DF_TRY(df_alloc(&sp.nonzeros, n_workers * a->sparsity, sizeof(*sp.nonzeros), "nonzeros", err));
	DF_TRY(df_alloc(&sp.g, n_workers * SPARSE_RUN * SPARSE_ROWS, sizeof(*sp.g), "gradients side by side", err));
	if (sparse_width(n_groups > 1 ? SPARSE_ROWS : a->n_samples, a->sparsity * a->n, a->k) > 1)
		DF_TRY(df_alloc(&sp.y, n_workers * a->k * SPARSE_ROWS, sizeof(*sp.y), "projections side by side", err));
	for (uint32_t i = 0; i <= a->sparsity; i++)
		sp.part[i] = (uint32_t)((uint64_t)a->k * i / a->sparsity);
	df_pool_for(pool, n_groups * sp.n_slices, sparse_task, &sp);
out:
	free(sp.part);
	free(sp.nonzeros);
	free(sp.g);
	free(sp.y);
	return rc;
}

int
df_cpu_project_with(enum df_cpu_isa isa, struct df_pool *pool, const struct df_cpu_project *a, struct df_err *err)
{
	const struct kernel *kn = choose(isa);

	if (!kn)
		return df_fail(err, DF_EUNSUPPORTED, "projection: this CPU lacks the chosen instructions");
	if (!a->n_samples || !a->n || !a->k)
		return 0;
	return a->type == DF_PROJ_SJLT ? sparse_run(kn, pool, a, err) : dense_run(isa, pool, a, err);
}

int
df_cpu_project_run(struct df_pool *pool, const struct df_cpu_project *a, struct df_err *err)
{
	return df_cpu_project_with(DF_CPU_ISA_BEST, pool, a, err);
}

/* ---- the definition --------------------------------------------------------------- */

static float
rademacher(const struct df_cpu_project *a, uint64_t p, size_t c)
{
	const uint32_t key[2] = { (uint32_t)a->seed, (uint32_t)(a->seed >> 32) };
	const uint32_t ctr[4] = { (uint32_t)p, (uint32_t)(p >> 32), (uint32_t)(c / 128), 1u << 24 | a->model_id };
	uint32_t w[4];

	df_philox(ctr, key, w);
	return w[c % 128 / 32] >> (c % 32) & 1 ? 1.0f : -1.0f;
}

static void
naive_sparse(const struct df_cpu_project *a, size_t s)
{
	const uint32_t key[2] = { (uint32_t)a->seed, (uint32_t)(a->seed >> 32) };

	for (size_t j = 0; j < a->n; j++) {
		const uint64_t p = a->first + j;
		const float x = a->g[s * a->ldg + j] * (float)(1.0 / sqrt((double)a->sparsity));

		for (uint32_t i = 0; i < a->sparsity; i++) {
			const uint32_t ctr[4] = { (uint32_t)p, (uint32_t)(p >> 32), 0x80000000u + i / 4,
				1u << 24 | a->model_id };
			const uint64_t lo = (uint64_t)a->k * i / a->sparsity,
				       hi = (uint64_t)a->k * (i + 1) / a->sparsity;
			uint32_t w[4];
			uint64_t c;

			df_philox(ctr, key, w);
			c = lo + ((uint64_t)(w[i % 4] & 0x7fffffffu) * (hi - lo) >> 31);
			a->y[s * a->ldy + c] += w[i % 4] >> 31 ? x : -x;
		}
	}
}

void
df_cpu_project_naive(const struct df_cpu_project *a)
{
	for (size_t s = 0; s < a->n_samples; s++) {
		if (a->type == DF_PROJ_SJLT) {
			naive_sparse(a, s);
			continue;
		}
		for (size_t c = 0; c < a->k; c++) {
			for (size_t j0 = 0; j0 < a->n; j0 += KC) {
				float acc = 0;

				for (size_t j = j0; j < a->n && j < j0 + KC; j++)
					acc += a->g[s * a->ldg + j] * rademacher(a, a->first + j, c);
				a->y[s * a->ldy + c] += acc;
			}
		}
	}
}

/* ---- the backend's slots ------------------------------------------------------------ */

/* What is left of a->g, its columns [0, *left): the last piece of it, which is taken off. */
static struct df_cpu_project
last_piece(const struct df_project *a, size_t *left)
{
	const size_t end = *left, first = a->piece ? (end - 1) / a->piece * a->piece : 0;

	*left = first;
	return (struct df_cpu_project){ .type = a->type,
		.g = df_tensor_f32(a->g) + first,
		.y = df_tensor_f32(a->y),
		.n_samples = a->g.rows,
		.n = end - first,
		.k = a->y.cols,
		.ldg = a->g.ld,
		.ldy = a->y.ld,
		.first = a->first + first,
		.seed = a->seed,
		.model_id = a->model_id,
		.sparsity = a->sparsity };
}

int
df_cpu_project(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_project *a = args;
	int rc = DF_OK;

	for (size_t left = a->g.cols; left > 0;) {
		const struct df_cpu_project piece = last_piece(a, &left);

		DF_TRY(df_cpu_project_run(be->pool, &piece, err));
	}
out:
	return rc;
}

int
df_ref_project(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_project *a = args;

	(void)be;
	(void)err;
	for (size_t left = a->g.cols; left > 0;) {
		const struct df_cpu_project piece = last_piece(a, &left);

		df_cpu_project_naive(&piece);
	}
	return DF_OK;
}
