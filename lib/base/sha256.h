/*
 * sha256.h - SHA-256 (FIPS 180-4), for hashes that others compute, too; our own digests are hash.h's.
 */
#ifndef DF_BASE_SHA256_H
#define DF_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

/* out = the digest of n bytes as eight numbers, the first one most significant.  Any thread. */
void df_sha256(const void *data, size_t n, uint32_t out[8]);

#endif
