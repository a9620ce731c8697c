/*
 * rng.c - Philox 4x32-10.
 *
 * Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC'11.
 * key = (low, high) half of the seed; counter = (low, high) half of i, substream, tag.
 */
#include "base/rng.h"

#include <math.h>
#include <string.h>

#include "base/simd.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAVE_X86 1
#endif

void
df_philox(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4])
{
	uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3];
	uint32_t k0 = key[0], k1 = key[1];

	for (int round = 0; round < 10; round++) {
		uint64_t p0 = (uint64_t)0xD2511F53u * c0;
		uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;

		c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
		c1 = (uint32_t)p1;
		c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
		c3 = (uint32_t)p0;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	out[0] = c0;
	out[1] = c1;
	out[2] = c2;
	out[3] = c3;
}

void
df_rng_words(uint64_t seed, uint32_t tag, uint32_t substream, uint64_t i, uint32_t out[4])
{
	const uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
	const uint32_t ctr[4] = { (uint32_t)i, (uint32_t)(i >> 32), substream, tag };

	df_philox(ctr, key, out);
}

/*
 * u = ((a >> 5) * 2^26 + (b >> 6) + 0.5) / 2^53.  Never 0; the largest value rounds to 1, but u must be below 1
 * (callers compare probabilities with it), so the double before 1 is used.
 */
static double
to_uniform(uint32_t a, uint32_t b)
{
	double u = ((double)(a >> 5) * 67108864.0 + (double)(b >> 6) + 0.5) * 0x1p-53;

	return u < 1.0 ? u : 1.0 - 0x1p-53;
}

double
df_rng_uniform(uint64_t seed, uint32_t tag, uint32_t substream, uint64_t i)
{
	uint32_t w[4];

	df_rng_words(seed, tag, substream, i, w);
	return to_uniform(w[0], w[1]);
}

/* Philox for LANES draws side by side, so that the compiler can use vectors. */
#define LANES 16

DF_SIMD static void
uniform_lanes(uint64_t seed, uint32_t tag, uint32_t substream, uint64_t first, double u[LANES])
{
	uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES];
	uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);

	for (int l = 0; l < LANES; l++) {
		c0[l] = (uint32_t)(first + (uint64_t)l);
		c1[l] = (uint32_t)((first + (uint64_t)l) >> 32);
		c2[l] = substream;
		c3[l] = tag;
	}
	for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
		for (int l = 0; l < LANES; l++) {
			const uint64_t p0 = (uint64_t)0xD2511F53u * c0[l], p1 = (uint64_t)0xCD9E8D57u * c2[l];

			c0[l] = (uint32_t)(p1 >> 32) ^ c1[l] ^ k0;
			c1[l] = (uint32_t)p1;
			c2[l] = (uint32_t)(p0 >> 32) ^ c3[l] ^ k1;
			c3[l] = (uint32_t)p0;
		}
	}
	for (int l = 0; l < LANES; l++)
		u[l] = to_uniform(c0[l], c1[l]);
}

#ifdef HAVE_X86

/*
 * The same in numbers of 64 bits, of which the lower 32 are multiplied: the compiler does not know that one instruction
 * does that, and needs 2.5 times as long.
 */
#define AVX512 __attribute__((target("avx512f")))
typedef uint64_t words __attribute__((vector_size(64)));
#define LOW_HALF      ((uint64_t)UINT32_MAX)
#define PRODUCT(a, m) ((words)_mm512_mul_epu32((__m512i)(a), (__m512i)(m)))

AVX512 static void
uniform_lanes_avx512(uint64_t seed, uint32_t tag, uint32_t substream, uint64_t first, double u[LANES])
{
	const words zero = { 0 }, m0 = zero + 0xD2511F53u, m1 = zero + 0xCD9E8D57u;
	const words i = { 0, 1, 2, 3, 4, 5, 6, 7 }, at_a = i + first, at_b = i + (first + LANES / 2);
	/* Two of everything, a and b, keep the multiplier busy. */
	words a0 = at_a & LOW_HALF, a1 = at_a >> 32, a2 = zero + substream, a3 = zero + tag;
	words b0 = at_b & LOW_HALF, b1 = at_b >> 32, b2 = a2, b3 = a3;
	uint64_t c0[LANES], c1[LANES];
	uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);

	for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
		const words p0 = PRODUCT(a0, m0), p1 = PRODUCT(a2, m1), q0 = PRODUCT(b0, m0), q1 = PRODUCT(b2, m1);

		a0 = (p1 >> 32) ^ a1 ^ (uint64_t)k0;
		a1 = p1 & LOW_HALF;
		a2 = (p0 >> 32) ^ a3 ^ (uint64_t)k1;
		a3 = p0 & LOW_HALF;
		b0 = (q1 >> 32) ^ b1 ^ (uint64_t)k0;
		b1 = q1 & LOW_HALF;
		b2 = (q0 >> 32) ^ b3 ^ (uint64_t)k1;
		b3 = q0 & LOW_HALF;
	}
	memcpy(c0, &a0, sizeof(a0));
	memcpy(c0 + LANES / 2, &b0, sizeof(b0));
	memcpy(c1, &a1, sizeof(a1));
	memcpy(c1 + LANES / 2, &b1, sizeof(b1));
	for (int l = 0; l < LANES; l++)
		u[l] = to_uniform((uint32_t)c0[l], (uint32_t)c1[l]);
}

#endif

void
df_rng_uniforms(uint64_t seed, uint32_t tag, uint32_t substream, uint64_t first, uint64_t n, double *u)
{
	void (*lanes)(uint64_t, uint32_t, uint32_t, uint64_t, double *) = uniform_lanes;
	double last[LANES];
	uint64_t i = 0;

#ifdef HAVE_X86
	if (__builtin_cpu_supports("avx512f"))
		lanes = uniform_lanes_avx512;
#endif
	for (; i + LANES <= n; i += LANES)
		lanes(seed, tag, substream, first + i, u + i);
	if (i < n) {
		lanes(seed, tag, substream, first + i, last);
		memcpy(u + i, last, (n - i) * sizeof(*u));
	}
}

double
df_rng_normal(uint64_t seed, uint32_t tag, uint32_t substream, uint64_t i)
{
	uint32_t w[4];

	df_rng_words(seed, tag, substream, i, w);
	return sqrt(-2.0 * log(to_uniform(w[0], w[1]))) * cos(6.283185307179586 * to_uniform(w[2], w[3]));
}
