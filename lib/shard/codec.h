/*
 * codec.h - encoding and decoding chunks, with the same bytes as HDF5's filter pipeline.  We do it ourselves so
 * that it runs outside the library's lock, on all threads.
 *
 *     write: shuffle (filter 2) -> zstd (32015) -> Fletcher32 (3)
 *
 * Each stage is optional.  Thread rule: a codec is immutable; a df_codec_ctx
 * belongs to one thread at a time.
 */
#ifndef DF_SHARD_CODEC_H
#define DF_SHARD_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define DF_FILTER_ZSTD  32015
#define DF_ZSTD_DEFAULT 3

struct df_codec {
	bool shuffle, zstd, fletcher;
	size_t elem; /* bytes of an element, for shuffle */
	int level;   /* zstd's */
};

struct df_codec_ctx {
	void *cctx, *dctx; /* zstd contexts, made when they are first needed */
	void *tmp;
	size_t tmp_cap;
};
#define DF_CODEC_CTX_INIT { NULL, NULL, NULL, 0 }
void df_codec_ctx_release(struct df_codec_ctx *x);

/* The largest encoded size of n bytes. */
size_t df_codec_bound(const struct df_codec *c, size_t n);
/* dst (df_codec_bound bytes) = n bytes of src encoded; *len their number. */
int df_codec_encode(const struct df_codec *c, struct df_codec_ctx *x, const void *src, size_t n, void *dst, size_t *len,
    struct df_err *err) DF_MUST_CHECK;
/* dst = exactly n bytes out of len encoded ones; DF_EFORMAT when a checksum or a size is wrong. */
int df_codec_decode(const struct df_codec *c, struct df_codec_ctx *x, const void *src, size_t len, void *dst, size_t n,
    struct df_err *err) DF_MUST_CHECK;

/* DF_EFORMAT unless `sum` is the checksum that a chunk of these n bytes ends with. */
int df_codec_check(const void *data, size_t n, const unsigned char sum[4], struct df_err *err) DF_MUST_CHECK;
/* HDF5's Fletcher32: big-endian 16-bit words, an odd byte as a word's upper half. */
uint32_t df_fletcher32(const void *data, size_t n);

#endif
