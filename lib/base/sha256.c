/*
 * sha256.c - SHA-256, FIPS 180-4, sections 4.1.2, 5.1.1 and 6.2.
 *
 * Texts are short here: most are a single block, so that a library's contexts would cost more than the hash.
 */
#include "base/sha256.h"

#include <string.h>

#define BLOCK 64

static const uint32_t k[64] = { 0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152,
	0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138,
	0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70,
	0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5,
	0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa,
	0xa4506ceb, 0xbef9a3f7, 0xc67178f2 };

static uint32_t
rotate(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static void
compress(uint32_t h[8], const unsigned char *p)
{
	uint32_t w[64], s[8];

	for (int t = 0; t < 16; t++, p += 4)
		w[t] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	for (int t = 16; t < 64; t++) {
		const uint32_t a = w[t - 15], b = w[t - 2];

		w[t] = w[t - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[t - 7] +
		    (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
	}
	memcpy(s, h, sizeof(s));
	for (int t = 0; t < 64; t++) {
		const uint32_t e = s[4], a = s[0];
		const uint32_t x =
		    s[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + k[t] + w[t];
		const uint32_t y =
		    (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));

		memmove(s + 1, s, 7 * sizeof(*s));
		s[4] += x;
		s[0] = x + y;
	}
	for (int i = 0; i < 8; i++)
		h[i] += s[i];
}

void
df_sha256(const void *data, size_t n, uint32_t out[8])
{
	static const uint32_t initial[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
		0x1f83d9ab, 0x5be0cd19 };
	const unsigned char *p = data;
	const uint64_t n_bits = (uint64_t)n * 8;
	unsigned char last[2 * BLOCK] = { 0 };
	size_t n_last;

	memcpy(out, initial, sizeof(initial));
	for (; n >= BLOCK; n -= BLOCK, p += BLOCK)
		compress(out, p);
	if (n > 0)
		memcpy(last, p, n);
	last[n] = 0x80;
	n_last = n + 9 <= BLOCK ? BLOCK : 2 * BLOCK; /* with the end mark and the length */
	for (size_t i = 0; i < 8; i++)
		last[n_last - 1 - i] = (unsigned char)(n_bits >> (8 * i));
	for (size_t at = 0; at < n_last; at += BLOCK)
		compress(out, last + at);
}
