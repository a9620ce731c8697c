/*
 * project.c - y += g R with R in {-1,+1}^(n x k), or sparse, made from Philox as it is needed.
 *
 * The dense form is a matrix product whose right side is never stored.  One
 * Philox call gives the signs of 128 columns of one coordinate, so the unit of
 * work is a panel of KC coordinates x 128 columns: its signs are expanded
 * once into +-1.0f (128 KiB: the second-level cache), cut in strips of NR
 * columns (the first-level cache), and a register-blocked kernel multiplies
 * every sample by it.  With 64 samples a call, expanding costs a twentieth of
 * the multiplications.
 *
 *      G packed [rows/MR][KC][MR]          panel [128/NR][KC][NR]
 *      +--+  +--+                          +----+ +----+      +----+
 *      |  |  |  |  ...  MR samples         | NR | | NR |  ... | NR |
 *      |KC|  |KC|                          | KC | | KC |      | KC |
 *      +--+  +--+                          +----+ +----+      +----+
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
#include "base/mem.h"
#include "base/rng.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86 1
#include <immintrin.h>
#endif

#define KC       256  /* coordinates of a panel, and of a sum from zero */
#define BLOCK    128  /* columns of one Philox call */
#define LANES    16   /* coordinates of one call of words() */
#define SUPER    4096 /* coordinates packed at a time: a multiple of KC */
#define MAX_TILE (12 * 32)
#define MAX_ROWS 192 /* samples packed at a time */

struct kernel {
	size_t mr, nr;
	/* out[w][l] = word w of Philox at coordinate p+l. */
	void (*words)(uint64_t p, uint32_t block, uint32_t tag, const uint32_t key[2], uint32_t out[4][LANES]);
	/* Signs of LANES coordinates -> rows of the panel's strips (strips * nr columns). */
	void (*expand)(uint32_t w[4][LANES], size_t strips, float *panel);
	/* y [mr,nr] += g [kc,mr]^T r [kc,nr]. */
	void (*product)(size_t kc, const float *g, const float *r, float *y, size_t ldy);
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

#define SCALAR_MR 4
#define SCALAR_NR 16

static void
expand_scalar(uint32_t w[4][LANES], size_t strips, float *panel)
{
	for (size_t l = 0; l < LANES; l++)
		for (size_t c = 0; c < strips * SCALAR_NR; c++)
			panel[(c / SCALAR_NR * KC + l) * SCALAR_NR + c % SCALAR_NR] =
			    w[c / 32][l] >> (c % 32) & 1 ? 1.0f : -1.0f;
}

static void
product_scalar(size_t kc, const float *g, const float *r, float *y, size_t ldy)
{
	float acc[SCALAR_MR][SCALAR_NR] = { { 0 } };

	for (size_t j = 0; j < kc; j++, g += SCALAR_MR, r += SCALAR_NR)
		for (size_t s = 0; s < SCALAR_MR; s++)
			for (size_t c = 0; c < SCALAR_NR; c++)
				acc[s][c] += g[s] * r[c];
	for (size_t s = 0; s < SCALAR_MR; s++)
		for (size_t c = 0; c < SCALAR_NR; c++)
			y[s * ldy + c] += acc[s][c];
}

static const struct kernel kernel_scalar = { SCALAR_MR, SCALAR_NR, words_scalar, expand_scalar, product_scalar };

/* ---- AVX2: 6 samples x 16 columns ------------------------------------------- */

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

#define AVX2_MR 6
#define AVX2_NR 16

/* A shift brings each column's bit to the sign position, where a blend looks at it. */
AVX2 static void
expand_avx2(uint32_t w[4][LANES], size_t strips, float *panel)
{
	const __m256i s0 = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
	const __m256i s1 = _mm256_setr_epi32(23, 22, 21, 20, 19, 18, 17, 16);
	const __m256 plus = _mm256_set1_ps(1.0f), minus = _mm256_set1_ps(-1.0f);

	for (size_t t = 0; t < strips; t++) {
		float *row = panel + t * KC * AVX2_NR;

		for (size_t l = 0; l < LANES; l++, row += AVX2_NR) {
			__m256i v = _mm256_set1_epi32((int)(w[t / 2][l] >> (t % 2 * 16)));

			_mm256_store_ps(
			    row, _mm256_blendv_ps(minus, plus, _mm256_castsi256_ps(_mm256_sllv_epi32(v, s0))));
			_mm256_store_ps(
			    row + 8, _mm256_blendv_ps(minus, plus, _mm256_castsi256_ps(_mm256_sllv_epi32(v, s1))));
		}
	}
}

/* All three loops are unrolled, so that the sums live in registers alone. */
AVX2 static void
product_avx2(size_t kc, const float *g, const float *r, float *y, size_t ldy)
{
	__m256 acc[AVX2_MR][2];

#pragma GCC unroll 6
	for (int s = 0; s < AVX2_MR; s++)
		acc[s][0] = acc[s][1] = _mm256_setzero_ps();
	for (size_t j = 0; j < kc; j++, g += AVX2_MR, r += AVX2_NR) {
		const __m256 r0 = _mm256_load_ps(r), r1 = _mm256_load_ps(r + 8);

#pragma GCC unroll 6
		for (int s = 0; s < AVX2_MR; s++) {
			const __m256 x = _mm256_broadcast_ss(g + s);

			acc[s][0] = _mm256_fmadd_ps(x, r0, acc[s][0]);
			acc[s][1] = _mm256_fmadd_ps(x, r1, acc[s][1]);
		}
	}
#pragma GCC unroll 6
	for (int s = 0; s < AVX2_MR; s++, y += ldy) {
		_mm256_storeu_ps(y, _mm256_add_ps(_mm256_loadu_ps(y), acc[s][0]));
		_mm256_storeu_ps(y + 8, _mm256_add_ps(_mm256_loadu_ps(y + 8), acc[s][1]));
	}
}

static const struct kernel kernel_avx2 = { AVX2_MR, AVX2_NR, words_avx2, expand_avx2, product_avx2 };

/* ---- AVX-512: 12 samples x 32 columns ------------------------------------------ */

#define AVX512 __attribute__((target("avx512f,avx512dq")))

#define AVX512_MULHILO(a, m, hi, lo)                                                        \
	do {                                                                                \
		__m512i even_ = _mm512_mul_epu32((a), (m));                                 \
		__m512i odd_ = _mm512_mul_epu32(_mm512_srli_epi64((a), 32), (m));           \
		(hi) = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even_, 32), odd_); \
		(lo) = _mm512_mask_blend_epi32(0xaaaa, even_, _mm512_slli_epi64(odd_, 32)); \
	} while (0)

AVX512 static void
words_avx512(uint64_t p, uint32_t block, uint32_t tag, const uint32_t key[2], uint32_t out[4][LANES])
{
	const __m512i m0 = _mm512_set1_epi32((int)0xD2511F53u), m1 = _mm512_set1_epi32((int)0xCD9E8D57u);
	uint32_t k0 = key[0], k1 = key[1];
	uint32_t lo[LANES], hi[LANES];
	__m512i a[4];

	for (size_t l = 0; l < LANES; l++) {
		lo[l] = (uint32_t)(p + l);
		hi[l] = (uint32_t)((p + l) >> 32);
	}
	a[0] = _mm512_loadu_si512(lo);
	a[1] = _mm512_loadu_si512(hi);
	a[2] = _mm512_set1_epi32((int)block);
	a[3] = _mm512_set1_epi32((int)tag);
	for (int round = 0; round < 10; round++) {
		__m512i h0, l0, h1, l1;

		AVX512_MULHILO(a[0], m0, h0, l0);
		AVX512_MULHILO(a[2], m1, h1, l1);
		a[0] = _mm512_xor_si512(_mm512_xor_si512(h1, a[1]), _mm512_set1_epi32((int)k0));
		a[1] = l1;
		a[2] = _mm512_xor_si512(_mm512_xor_si512(h0, a[3]), _mm512_set1_epi32((int)k1));
		a[3] = l0;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	for (int i = 0; i < 4; i++)
		_mm512_storeu_si512(out[i], a[i]);
}

#define AVX512_MR 12
#define AVX512_NR 32

AVX512 static void
expand_avx512(uint32_t w[4][LANES], size_t strips, float *panel)
{
	const __m512 plus = _mm512_set1_ps(1.0f), minus = _mm512_set1_ps(-1.0f);

	for (size_t t = 0; t < strips; t++) {
		float *row = panel + t * KC * AVX512_NR;

		for (size_t l = 0; l < LANES; l++, row += AVX512_NR) {
			_mm512_store_ps(row, _mm512_mask_blend_ps((__mmask16)w[t][l], minus, plus));
			_mm512_store_ps(row + 16, _mm512_mask_blend_ps((__mmask16)(w[t][l] >> 16), minus, plus));
		}
	}
}

AVX512 static void
product_avx512(size_t kc, const float *g, const float *r, float *y, size_t ldy)
{
	__m512 acc[AVX512_MR][2];

#pragma GCC unroll 12
	for (int s = 0; s < AVX512_MR; s++)
		acc[s][0] = acc[s][1] = _mm512_setzero_ps();
	for (size_t j = 0; j < kc; j++, g += AVX512_MR, r += AVX512_NR) {
		const __m512 r0 = _mm512_load_ps(r), r1 = _mm512_load_ps(r + 16);

#pragma GCC unroll 12
		for (int s = 0; s < AVX512_MR; s++) {
			const __m512 x = _mm512_set1_ps(g[s]);

			acc[s][0] = _mm512_fmadd_ps(x, r0, acc[s][0]);
			acc[s][1] = _mm512_fmadd_ps(x, r1, acc[s][1]);
		}
	}
#pragma GCC unroll 12
	for (int s = 0; s < AVX512_MR; s++, y += ldy) {
		_mm512_storeu_ps(y, _mm512_add_ps(_mm512_loadu_ps(y), acc[s][0]));
		_mm512_storeu_ps(y + 16, _mm512_add_ps(_mm512_loadu_ps(y + 16), acc[s][1]));
	}
}

static const struct kernel kernel_avx512 = { AVX512_MR, AVX512_NR, words_avx512, expand_avx512, product_avx512 };

#endif

static const struct kernel *
choose(enum df_cpu_isa isa)
{
#ifdef HAVE_X86
	const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");

	if (avx512 && (isa == DF_CPU_ISA_BEST || isa == DF_CPU_ISA_AVX512))
		return &kernel_avx512;
	if (avx2 && (isa == DF_CPU_ISA_BEST || isa == DF_CPU_ISA_AVX2))
		return &kernel_avx2;
#endif
	return isa == DF_CPU_ISA_BEST || isa == DF_CPU_ISA_SCALAR ? &kernel_scalar : NULL;
}

/* ---- dense: tiles of 128 columns ---------------------------------------------- */

struct dense {
	const struct kernel *kn;
	const struct df_cpu_project *a;
	const float *packed;     /* [groups][n_coords][mr]; rows beyond the last sample are zero */
	float *panels;           /* [workers][KC * BLOCK] */
	size_t row0, n_rows;     /* the samples that are packed */
	size_t coord0, n_coords; /* the coordinates, from the call's first */
};

/* Rows [row0, row0+n_rows) x coordinates [coord0, coord0+n_coords) of g, mr samples side by side. */
static void
pack(const struct dense *d, float *packed)
{
	const struct df_cpu_project *a = d->a;
	const size_t mr = d->kn->mr;

	for (size_t r = 0; r < d->n_rows; r += mr) {
		float *dst = packed + r * d->n_coords;
		const size_t m = d->n_rows - r < mr ? d->n_rows - r : mr;

		if (m < mr)
			memset(dst, 0, d->n_coords * mr * sizeof(*dst));
		for (size_t i = 0; i < m; i++) {
			const float *src = a->g + (d->row0 + r + i) * a->ldg + d->coord0;

			for (size_t j = 0; j < d->n_coords; j++)
				dst[j * mr + i] = src[j];
		}
	}
}

/* One tile of y [m,n], m <= mr, n <= nr, at its edges through a full tile of zeros. */
static void
edge_product(
    const struct kernel *kn, size_t kc, const float *g, const float *r, float *y, size_t ldy, size_t m, size_t n)
{
	float tile[MAX_TILE] __attribute__((aligned(64))) = { 0 };

	kn->product(kc, g, r, tile, kn->nr);
	for (size_t i = 0; i < m; i++)
		for (size_t c = 0; c < n; c++)
			y[i * ldy + c] += tile[i * kn->nr + c];
}

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
	const size_t strips = (n_cols + kn->nr - 1) / kn->nr;
	float *panel = d->panels + (size_t)worker * KC * BLOCK;

	for (size_t j0 = 0; j0 < d->n_coords; j0 += KC) {
		const size_t kc = d->n_coords - j0 < KC ? d->n_coords - j0 : KC;

		for (size_t j = 0; j < kc; j += LANES) {
			uint32_t w[4][LANES] __attribute__((aligned(64)));

			kn->words(a->first + d->coord0 + j0 + j, (uint32_t)block, tag, key, w);
			kn->expand(w, strips, panel + j * kn->nr);
		}
		for (size_t t = 0; t < strips; t++) {
			const float *r = panel + t * KC * kn->nr;
			const size_t n = n_cols - t * kn->nr < kn->nr ? n_cols - t * kn->nr : kn->nr;

			for (size_t i = 0; i < d->n_rows; i += kn->mr) {
				const float *g = d->packed + i * d->n_coords + j0 * kn->mr;
				const size_t m = d->n_rows - i < kn->mr ? d->n_rows - i : kn->mr;
				float *y = a->y + (d->row0 + i) * a->ldy + col0 + t * kn->nr;

				if (m == kn->mr && n == kn->nr)
					kn->product(kc, g, r, y, a->ldy);
				else
					edge_product(kn, kc, g, r, y, a->ldy, m, n);
			}
		}
	}
}

static int
dense_run(const struct kernel *kn, struct df_pool *pool, const struct df_cpu_project *a, struct df_err *err)
{
	struct dense d = { .kn = kn, .a = a };
	const size_t super = a->n < SUPER ? a->n : SUPER;
	const size_t rows = a->n_samples < MAX_ROWS ? a->n_samples : MAX_ROWS;
	float *packed = NULL;
	int rc = DF_OK;

	DF_TRY(
	    df_alloc(&packed, (rows + kn->mr - 1) / kn->mr * kn->mr * super, sizeof(*packed), "packed gradients", err));
	DF_TRY(df_alloc(&d.panels, (size_t)df_pool_size(pool) * KC * BLOCK, sizeof(*d.panels), "panels of signs", err));
	d.packed = packed;
	for (d.row0 = 0; d.row0 < a->n_samples; d.row0 += MAX_ROWS) {
		d.n_rows = a->n_samples - d.row0 < MAX_ROWS ? a->n_samples - d.row0 : MAX_ROWS;
		for (d.coord0 = 0; d.coord0 < a->n; d.coord0 += SUPER) {
			d.n_coords = a->n - d.coord0 < SUPER ? a->n - d.coord0 : SUPER;
			pack(&d, packed);
			df_pool_for(pool, (a->k + BLOCK - 1) / BLOCK, dense_block, &d);
		}
	}
out:
	free(packed);
	free(d.panels);
	return rc;
}

/*
 * ---- sparse: groups of samples ------------------------------------------------
 *
 * Nonzero i of a coordinate comes from one Philox word: its column lies in the i-th of `sparsity` even parts of the
 * k columns, its sign is the word's highest bit.  They are made once for a run of coordinates and 16 samples.
 */

#define SPARSE_ROWS 16   /* samples that share the making of columns and values */
#define SPARSE_RUN  4096 /* coordinates at a time: a multiple of LANES */
#define SPARSE_BIT  0x80000000u

struct nonzeros {
	uint32_t column[SPARSE_RUN];
	float value[SPARSE_RUN]; /* +-1/sqrt(sparsity) */
};

struct sparse {
	const struct kernel *kn;
	const struct df_cpu_project *a;
	uint32_t *part;            /* [sparsity + 1]: where the parts of the columns begin */
	struct nonzeros *nonzeros; /* [workers][sparsity] */
};

/* Nonzeros of LANES coordinates, from `first` on, at position j of the run. */
static void
sparse_make(const struct sparse *sp, uint64_t first, size_t j, struct nonzeros *nz)
{
	const struct df_cpu_project *a = sp->a;
	const uint32_t key[2] = { (uint32_t)a->seed, (uint32_t)(a->seed >> 32) };
	const uint32_t tag = (uint32_t)DF_RNG_PROJECTION << 24 | a->model_id;
	const float unit = (float)(1.0 / sqrt((double)a->sparsity));
	uint32_t w[4][LANES];

	for (uint32_t i = 0; i < a->sparsity; i++) {
		const uint64_t lo = sp->part[i], len = sp->part[i + 1] - sp->part[i];
		const uint32_t *word = w[i % 4];

		if (i % 4 == 0)
			sp->kn->words(first, SPARSE_BIT | i / 4, tag, key, w);
		for (size_t l = 0; l < LANES; l++) {
			nz[i].column[j + l] = (uint32_t)(lo + ((word[l] & ~SPARSE_BIT) * len >> 31));
			nz[i].value[j + l] = word[l] & SPARSE_BIT ? unit : -unit;
		}
	}
}

/*
 * y[column] += +-g, for one nonzero of each of n coordinates.  Nonzero i stays within one part of y, which the
 * first-level cache holds; and since a column belongs to one part, its sum runs in order of the coordinates.
 */
static void
sparse_add(const float *g, size_t n, const struct nonzeros *nz, float *y)
{
	for (size_t j = 0; j < n; j++)
		y[nz->column[j]] += g[j] * nz->value[j];
}

static void
sparse_rows(void *ctx, size_t group, int worker)
{
	const struct sparse *sp = ctx;
	const struct df_cpu_project *a = sp->a;
	const size_t row0 = group * SPARSE_ROWS;
	const size_t row1 = row0 + SPARSE_ROWS < a->n_samples ? row0 + SPARSE_ROWS : a->n_samples;
	struct nonzeros *nz = sp->nonzeros + (size_t)worker * a->sparsity;

	for (size_t j0 = 0; j0 < a->n; j0 += SPARSE_RUN) {
		const size_t n = a->n - j0 < SPARSE_RUN ? a->n - j0 : SPARSE_RUN;

		for (size_t j = 0; j < n; j += LANES)
			sparse_make(sp, a->first + j0 + j, j, nz);
		for (size_t r = row0; r < row1; r++)
			for (uint32_t i = 0; i < a->sparsity; i++)
				sparse_add(a->g + r * a->ldg + j0, n, &nz[i], a->y + r * a->ldy);
	}
}

static int
sparse_run(const struct kernel *kn, struct df_pool *pool, const struct df_cpu_project *a, struct df_err *err)
{
	struct sparse sp = { .kn = kn, .a = a };
	int rc = DF_OK;

	DF_TRY(df_alloc(&sp.part, (size_t)a->sparsity + 1, sizeof(*sp.part), "parts of the columns", err));
	DF_TRY(df_alloc(&sp.nonzeros, (size_t)df_pool_size(pool) * a->sparsity, sizeof(*sp.nonzeros), "nonzeros", err));
	for (uint32_t i = 0; i <= a->sparsity; i++)
		sp.part[i] = (uint32_t)((uint64_t)a->k * i / a->sparsity);
	df_pool_for(pool, (a->n_samples + SPARSE_ROWS - 1) / SPARSE_ROWS, sparse_rows, &sp);
out:
	free(sp.part);
	free(sp.nonzeros);
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
	return a->type == DF_PROJ_SJLT ? sparse_run(kn, pool, a, err) : dense_run(kn, pool, a, err);
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
