/*
 * sieve.c - which scores pass a threshold.
 *
 * Most do not: a vector whose scores all fail costs a load, a subtraction and a comparison.
 */
#include "near/sieve.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/simd.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86 1
#include <immintrin.h>
#endif

#pragma GCC optimize("O3", "no-trapping-math")

/* ---- plain C ----------------------------------------------------------------------------------------------------- */

/* A score below this is out, whatever its error; NaN is not. */
static inline float
threshold(const struct df_scores *x, float least)
{
	return x->most < x->unknown ? least - x->most : -INFINITY;
}

/* One more, if it is a candidate and may be good enough. */
static inline void
append(const struct df_scores *x, size_t j, float score, float least, struct df_entries *e)
{
	const float error = x->norm * x->error[j] + x->slack[j] + x->more;
	const bool known = !(error >= x->unknown); /* NaN: no candidate, and then hi is NaN, too */
	const float hi = known ? score + error : INFINITY;

	e->lo[e->n] = known ? score - error : -INFINITY;
	e->hi[e->n] = hi;
	e->ref[e->n] = x->first + (uint32_t)j;
	e->n += hi >= least;
}

static void
pass_plain(const struct df_scores *x, float least, struct df_entries *e)
{
	const float t = threshold(x, least);

	for (size_t j = 0; j < x->n; j++) {
		const float score = x->shift ? x->product[j] - x->shift[j] : x->product[j];

		if (!(score < t))
			append(x, j, score, least, e);
	}
}

static void
keep_plain(struct df_entries *e, float least)
{
	size_t m = 0;

	for (size_t i = 0; i < e->n; i++) {
		const float hi = e->hi[i];

		e->lo[m] = e->lo[i];
		e->hi[m] = hi;
		e->ref[m] = e->ref[i];
		m += !(hi < least);
	}
	e->n = m;
}

const struct df_sieve df_sieve_plain = { pass_plain, keep_plain };

DF_SIMD size_t
df_sieve_count(const float *x, size_t n, float least)
{
	uint32_t count = 0;

	for (size_t i = 0; i < n; i++)
		count += x[i] >= least;
	return count;
}

#ifdef HAVE_X86

/* ---- AVX2: which of 32 pass is a word of bits -------------------------------------------------------------------- */

#define AVX2 __attribute__((target("avx2")))

AVX2 static void
pass_avx2(const struct df_scores *x, float least, struct df_entries *e)
{
	const __m256 t = _mm256_set1_ps(threshold(x, least));
	struct df_scores rest = *x;
	size_t j = 0;

	for (; j + 32 <= x->n; j += 32) {
		uint32_t pass = 0;

#pragma GCC unroll 4
		for (int v = 0; v < 4; v++) {
			__m256 s = _mm256_loadu_ps(x->product + j + 8 * v);

			if (x->shift)
				s = _mm256_sub_ps(s, _mm256_loadu_ps(x->shift + j + 8 * v));
			pass |= (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(s, t, _CMP_NLT_UQ)) << 8 * v;
		}
		for (; pass; pass &= pass - 1) {
			const size_t i = j + (size_t)__builtin_ctz(pass);

			append(x, i, x->shift ? x->product[i] - x->shift[i] : x->product[i], least, e);
		}
	}
	rest.product += j;
	rest.shift = x->shift ? x->shift + j : NULL;
	rest.error += j;
	rest.slack += j;
	rest.first += (uint32_t)j;
	rest.n -= j;
	pass_plain(&rest, least, e);
}

static const struct df_sieve sieve_avx2 = { pass_avx2, keep_plain };

/* ---- AVX-512: those that pass are moved together ----------------------------------------------------------------- */

#define AVX512 __attribute__((target("avx512f,popcnt")))

static inline __attribute__((always_inline)) __mmask16
first_lanes(size_t n)
{
	return (__mmask16)(n < 16 ? (1U << n) - 1 : 0xffff);
}

/* Lanes of 16 scores from j on that pass the threshold: their intervals, if these pass, too. */
AVX512 static inline __attribute__((always_inline)) void
append_lanes(const struct df_scores *x, size_t j, __mmask16 there, __m512 s, __m512 least, struct df_entries *e)
{
	const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	const __m512i ref = _mm512_add_epi32(lane, _mm512_set1_epi32((int)(x->first + (uint32_t)j)));
	const __m512 infinite = _mm512_set1_ps(INFINITY), zero = _mm512_setzero_ps();
	const __m512 error = _mm512_add_ps(
	    _mm512_add_ps(_mm512_mul_ps(_mm512_set1_ps(x->norm), _mm512_maskz_loadu_ps(there, x->error + j)),
		_mm512_maskz_loadu_ps(there, x->slack + j)),
	    _mm512_set1_ps(x->more));
	const __mmask16 unknown = _mm512_cmp_ps_mask(error, _mm512_set1_ps(x->unknown), _CMP_GE_OQ);
	const __m512 lo = _mm512_mask_sub_ps(_mm512_sub_ps(s, error), unknown, zero, infinite);
	const __m512 hi = _mm512_mask_mov_ps(_mm512_add_ps(s, error), unknown, infinite);
	const __mmask16 pass = _mm512_mask_cmp_ps_mask(there, hi, least, _CMP_GE_OQ);

	_mm512_storeu_ps(e->lo + e->n, _mm512_maskz_compress_ps(pass, lo));
	_mm512_storeu_ps(e->hi + e->n, _mm512_maskz_compress_ps(pass, hi));
	_mm512_storeu_epi32(e->ref + e->n, _mm512_maskz_compress_epi32(pass, ref));
	e->n += (unsigned)__builtin_popcount(pass);
}

AVX512 static void
pass_avx512(const struct df_scores *x, float least, struct df_entries *e)
{
	const __m512 t = _mm512_set1_ps(threshold(x, least)), l = _mm512_set1_ps(least);

	for (size_t j = 0; j < x->n; j += 16) {
		const __mmask16 there = first_lanes(x->n - j);
		__m512 s = _mm512_maskz_loadu_ps(there, x->product + j);
		__mmask16 may;

		if (x->shift)
			s = _mm512_sub_ps(s, _mm512_maskz_loadu_ps(there, x->shift + j));
		may = _mm512_mask_cmp_ps_mask(there, s, t, _CMP_NLT_UQ);
		if (may)
			append_lanes(x, j, may, s, l, e);
	}
}

AVX512 static void
keep_avx512(struct df_entries *e, float least)
{
	const __m512 t = _mm512_set1_ps(least);
	size_t m = 0;

	for (size_t i = 0; i < e->n; i += 16) {
		const __mmask16 there = first_lanes(e->n - i);
		const __m512 lo = _mm512_maskz_loadu_ps(there, e->lo + i), hi = _mm512_maskz_loadu_ps(there, e->hi + i);
		const __m512i ref = _mm512_maskz_loadu_epi32(there, e->ref + i);
		const __mmask16 pass = _mm512_mask_cmp_ps_mask(there, hi, t, _CMP_NLT_UQ);
		const unsigned count = (unsigned)__builtin_popcount(pass);
		const __mmask16 to = first_lanes(count);

		_mm512_mask_storeu_ps(e->lo + m, to, _mm512_maskz_compress_ps(pass, lo));
		_mm512_mask_storeu_ps(e->hi + m, to, _mm512_maskz_compress_ps(pass, hi));
		_mm512_mask_storeu_epi32(e->ref + m, to, _mm512_maskz_compress_epi32(pass, ref));
		m += count;
	}
	e->n = m;
}

static const struct df_sieve sieve_avx512 = { pass_avx512, keep_avx512 };

#endif

const struct df_sieve *
df_sieve_best(void)
{
#ifdef HAVE_X86
	if (__builtin_cpu_supports("avx512f"))
		return &sieve_avx512;
	if (__builtin_cpu_supports("avx2"))
		return &sieve_avx2;
#endif
	return &df_sieve_plain;
}
