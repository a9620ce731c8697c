/*
 * hash.h - content digests: 128 bits of XXH3.
 *
 * A digest of rows is the sum (mod 2^128) of the rows' hashes, each row hashed
 * with its id: the order of rows and their split into shards do not matter,
 * and the digests of shards add up to the digest of the whole.
 */
#ifndef DF_BASE_HASH_H
#define DF_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct df_digest {
	uint64_t lo, hi;
};
#define DF_DIGEST_HEX 33 /* 32 hex digits and NUL */

struct df_digest df_hash_bytes(const void *data, size_t n, uint64_t seed);
/* *d += x (mod 2^128): merge a row into a set, or a shard into the whole. */
void df_digest_merge(struct df_digest *d, struct df_digest x);
void df_digest_hex(struct df_digest d, char hex[DF_DIGEST_HEX]);
/* DF_EFORMAT unless hex is exactly 32 hex digits. */
int df_digest_parse(struct df_digest *d, const char *hex, struct df_err *err) DF_MUST_CHECK;

/* Incremental form of df_hash_bytes, for data that is not in one piece. */
struct df_hasher;
int df_hasher_new(struct df_hasher **out, uint64_t seed, struct df_err *err) DF_MUST_CHECK;
void df_hasher_add(struct df_hasher *h, const void *data, size_t n);
struct df_digest df_hasher_end(struct df_hasher *h); /* and begin a new digest */
void df_hasher_free(struct df_hasher *h);

#endif
