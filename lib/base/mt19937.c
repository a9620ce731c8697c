/*
 * mt19937.c - the Mersenne Twister, and the uniform draws that PyTorch makes of it.
 */
#include "base/mt19937.h"

#include <stdlib.h>

#include "base/mem.h"

#define MT_N 624
#define MT_M 397

struct mt {
	uint32_t s[MT_N];
	int i;
};

static void
mt_seed(struct mt *mt, uint32_t seed)
{
	mt->s[0] = seed;
	for (uint32_t i = 1; i < MT_N; i++)
		mt->s[i] = 1812433253u * (mt->s[i - 1] ^ mt->s[i - 1] >> 30) + i;
	mt->i = MT_N;
}

static uint32_t
mt_next(struct mt *mt)
{
	uint32_t y;

	if (mt->i == MT_N) {
		for (int k = 0; k < MT_N; k++) {
			y = (mt->s[k] & 0x80000000u) | (mt->s[(k + 1) % MT_N] & 0x7fffffffu);
			mt->s[k] = mt->s[(k + MT_M) % MT_N] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
		}
		mt->i = 0;
	}
	y = mt->s[mt->i++];
	y ^= y >> 11;
	y ^= y << 7 & 0x9d2c5680u;
	y ^= y << 15 & 0xefc60000u;
	return y ^ y >> 18;
}

/* PyTorch draws 64 bits a number from there on. */
static int
torch_check(uint64_t n, struct df_err *err)
{
	if (n >> 28)
		return df_fail(
		    err, DF_EUNSUPPORTED, "PyTorch's random numbers are reproduced for fewer than 2^28 rows");
	return DF_OK;
}

static void
mt_permute(struct mt *mt, uint64_t n, uint64_t *v)
{
	for (uint64_t i = 0; i < n; i++)
		v[i] = i;
	for (uint64_t i = 0; i + 1 < n; i++) {
		const uint64_t z = i + mt_next(mt) % (n - i), x = v[i];

		v[i] = v[z];
		v[z] = x;
	}
}

int
df_sample_torch_perm(uint64_t n, uint64_t m, uint64_t seed, uint64_t *out, struct df_err *err)
{
	uint64_t *v = NULL;
	struct mt mt;
	int rc = DF_OK;

	DF_TRY(torch_check(n, err));
	DF_TRY(df_alloc(&v, n, sizeof(*v), "permutation", err));
	mt_seed(&mt, (uint32_t)seed);
	mt_permute(&mt, n, v);
	for (uint64_t i = 0; i < m && i < n; i++)
		out[i] = v[i];
out:
	free(v);
	return rc;
}

int
df_sample_torch_perms(const uint64_t *n, uint64_t n_perms, uint64_t seed, uint64_t *out, struct df_err *err)
{
	struct mt mt;
	int rc = DF_OK;

	mt_seed(&mt, (uint32_t)seed);
	for (uint64_t i = 0; i < n_perms; out += n[i++]) {
		DF_TRY(torch_check(n[i], err));
		mt_permute(&mt, n[i], out);
	}
out:
	return rc;
}

int
df_sample_torch_randint(uint64_t n, uint64_t m, uint64_t seed, uint64_t *out, struct df_err *err)
{
	struct mt mt;
	int rc = DF_OK;

	DF_TRY(torch_check(n, err));
	mt_seed(&mt, (uint32_t)seed);
	for (uint64_t i = 0; i < m; i++)
		out[i] = mt_next(&mt) % n;
out:
	return rc;
}
