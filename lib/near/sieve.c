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

/* ---- plain C ------------------------------------------------------------------------------------------------------- */

static size_t
scan_plain(const float *score, const float *shift, size_t n, float least, float *passed, uint32_t *at)
{
	size_t m = 0;

	for (size_t j = 0; j < n; j++) {
		const float s = shift ? score[j] - shift[j] : score[j];

		passed[m] = s;
		at[m] = (uint32_t)j;
		m += !(s < least);
	}
	return m;
}

static void
add_plain(struct df_entries *e, const struct df_errors *x, const float *score, const uint32_t *at, size_t n,
    uint32_t first, float least)
{
	size_t m = e->n;

	for (size_t j = 0; j < n; j++) {
		const float error = x->norm * x->error[at[j]] + x->slack[at[j]] + x->more;
		const bool known = !(error >= x->unknown); /* NaN: no candidate, and neither is hi >= least */
		const float hi = known ? score[j] + error : INFINITY;

		e->lo[m] = known ? score[j] - error : -INFINITY;
		e->hi[m] = hi;
		e->ref[m] = first + at[j];
		m += hi >= least;
	}
	e->n = m;
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

const struct df_sieve df_sieve_plain = { scan_plain, add_plain, keep_plain };

DF_SIMD size_t
df_sieve_count(const float *x, size_t n, float least)
{
	uint32_t count = 0;

	for (size_t i = 0; i < n; i++)
		count += x[i] >= least;
	return count;
}

#ifdef HAVE_X86

/* ---- AVX2: which of 32 pass is a word of bits ------------------------------------------------------------------------ */

#define AVX2 __attribute__((target("avx2")))

AVX2 static size_t
scan_avx2(const float *score, const float *shift, size_t n, float least, float *passed, uint32_t *at)
{
	const __m256 t = _mm256_set1_ps(least);
	size_t m = 0, j = 0;

	for (; j + 32 <= n; j += 32) {
		__m256 s[4];
		uint32_t pass = 0;

#pragma GCC unroll 4
		for (int v = 0; v < 4; v++) {
			s[v] = _mm256_loadu_ps(score + j + 8 * v);
			if (shift)
				s[v] = _mm256_sub_ps(s[v], _mm256_loadu_ps(shift + j + 8 * v));
			pass |= (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(s[v], t, _CMP_NLT_UQ)) << 8 * v;
		}
		for (; pass; pass &= pass - 1) {
			const size_t i = j + (size_t)__builtin_ctz(pass);

			passed[m] = shift ? score[i] - shift[i] : score[i];
			at[m++] = (uint32_t)i;
		}
	}
	for (; j < n; j++) {
		const float s = shift ? score[j] - shift[j] : score[j];

		passed[m] = s;
		at[m] = (uint32_t)j;
		m += !(s < least);
	}
	return m;
}

static const struct df_sieve sieve_avx2 = { scan_avx2, add_plain, keep_plain };

/* ---- AVX-512: those that pass are moved together ---------------------------------------------------------------------- */

#define AVX512 __attribute__((target("avx512f,popcnt")))

static inline __attribute__((always_inline)) __mmask16
first_lanes(size_t n)
{
	return n < 16 ? (__mmask16)((1U << n) - 1) : (__mmask16)0xffff;
}

AVX512 static size_t
scan_avx512(const float *score, const float *shift, size_t n, float least, float *passed, uint32_t *at)
{
	const __m512 t = _mm512_set1_ps(least);
	const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	size_t m = 0, j = 0;

	for (; j < n; j += 16) {
		const __mmask16 there = first_lanes(n - j);
		__m512 s = _mm512_maskz_loadu_ps(there, score + j);
		__mmask16 pass;

		if (shift)
			s = _mm512_sub_ps(s, _mm512_maskz_loadu_ps(there, shift + j));
		pass = _mm512_mask_cmp_ps_mask(there, s, t, _CMP_NLT_UQ);
		if (pass) {
			const unsigned count = (unsigned)__builtin_popcount(pass);
			const __m512i i = _mm512_add_epi32(lane, _mm512_set1_epi32((int)j));

			_mm512_mask_storeu_ps(passed + m, first_lanes(count), _mm512_maskz_compress_ps(pass, s));
			_mm512_mask_storeu_epi32(at + m, first_lanes(count), _mm512_maskz_compress_epi32(pass, i));
			m += count;
		}
	}
	return m;
}

AVX512 static void
add_avx512(struct df_entries *e, const struct df_errors *x, const float *score, const uint32_t *at, size_t n,
    uint32_t first, float least)
{
	const __m512 norm = _mm512_set1_ps(x->norm), more = _mm512_set1_ps(x->more),
		     infinite = _mm512_set1_ps(INFINITY);
	size_t m = e->n;

	for (size_t j = 0; j < n; j += 16) {
		const __mmask16 there = first_lanes(n - j);
		const __m512i ref = _mm512_maskz_loadu_epi32(there, at + j);
		const __m512 s = _mm512_maskz_loadu_ps(there, score + j), zero = _mm512_setzero_ps();
		const __m512 error = _mm512_add_ps(
		    _mm512_add_ps(_mm512_mul_ps(norm, _mm512_mask_i32gather_ps(zero, there, ref, x->error, 4)),
			_mm512_mask_i32gather_ps(zero, there, ref, x->slack, 4)),
		    more);
		const __mmask16 unknown = _mm512_cmp_ps_mask(error, _mm512_set1_ps(x->unknown), _CMP_GE_OQ);
		const __m512 lo = _mm512_mask_sub_ps(_mm512_sub_ps(s, error), unknown, zero, infinite);
		const __m512 hi = _mm512_mask_mov_ps(_mm512_add_ps(s, error), unknown, infinite);
		const __mmask16 pass = _mm512_mask_cmp_ps_mask(there, hi, _mm512_set1_ps(least), _CMP_GE_OQ);
		const unsigned count = (unsigned)__builtin_popcount(pass);
		const __mmask16 to = first_lanes(count);
		const __m512i all = _mm512_add_epi32(ref, _mm512_set1_epi32((int)first));

		_mm512_mask_storeu_ps(e->lo + m, to, _mm512_maskz_compress_ps(pass, lo));
		_mm512_mask_storeu_ps(e->hi + m, to, _mm512_maskz_compress_ps(pass, hi));
		_mm512_mask_storeu_epi32(e->ref + m, to, _mm512_maskz_compress_epi32(pass, all));
		m += count;
	}
	e->n = m;
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

static const struct df_sieve sieve_avx512 = { scan_avx512, add_avx512, keep_avx512 };

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
