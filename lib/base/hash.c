/*
 * hash.c - XXH3, 128 bits.
 */
#include "base/hash.h"

#include <xxhash.h>
#include <stdio.h>
#include <stdlib.h>

struct df_hasher {
	XXH3_state_t *state;
	uint64_t seed;
};

struct df_digest
df_hash_bytes(const void *data, size_t n, uint64_t seed)
{
	XXH128_hash_t h = XXH3_128bits_withSeed(data, n, seed);

	return (struct df_digest){ h.low64, h.high64 };
}

void
df_digest_merge(struct df_digest *d, struct df_digest x)
{
	d->lo += x.lo;
	d->hi += x.hi + (d->lo < x.lo);
}

void
df_digest_hex(struct df_digest d, char hex[DF_DIGEST_HEX])
{
	snprintf(hex, DF_DIGEST_HEX, "%016llx%016llx", (unsigned long long)d.hi, (unsigned long long)d.lo);
}

int
df_digest_parse(struct df_digest *d, const char *hex, struct df_err *err)
{
	uint64_t word[2] = { 0, 0 };
	size_t n = 0;

	for (; hex[n] && n < DF_DIGEST_HEX; n++) {
		char c = hex[n];
		int digit = c >= '0' && c <= '9' ? c - '0'
		    : c >= 'a' && c <= 'f'       ? c - 'a' + 10
		    : c >= 'A' && c <= 'F'       ? c - 'A' + 10
						 : -1;

		if (digit < 0 || n >= DF_DIGEST_HEX - 1)
			break;
		word[n / 16] = word[n / 16] << 4 | (uint64_t)digit;
	}
	if (n != DF_DIGEST_HEX - 1 || hex[n])
		return df_fail(err, DF_EFORMAT, "'%.40s' is not an id (32 hex digits)", hex);
	d->hi = word[0];
	d->lo = word[1];
	return DF_OK;
}

int
df_hasher_new(struct df_hasher **out, uint64_t seed, struct df_err *err)
{
	struct df_hasher *h = malloc(sizeof(*h));

	if (h)
		h->state = XXH3_createState();
	if (h == NULL || h->state == NULL) {
		free(h);
		return df_fail(err, DF_ENOMEM, "out of memory for a digest");
	}
	h->seed = seed;
	XXH3_128bits_reset_withSeed(h->state, seed);
	*out = h;
	return DF_OK;
}

void
df_hasher_add(struct df_hasher *h, const void *data, size_t n)
{
	XXH3_128bits_update(h->state, data, n);
}

struct df_digest
df_hasher_end(struct df_hasher *h)
{
	XXH128_hash_t x = XXH3_128bits_digest(h->state);

	XXH3_128bits_reset_withSeed(h->state, h->seed);
	return (struct df_digest){ x.low64, x.high64 };
}

void
df_hasher_free(struct df_hasher *h)
{
	if (h == NULL)
		return;
	XXH3_freeState(h->state);
	free(h);
}
