/*
 * token_cache.h - the tokens of a set of files, on demand: a bounded number of decoded pieces, and
 * threads that decode the pieces that will be wanted next.
 *
 * A cache keeps a piece until another piece needs its slot.  What it holds never changes a result: a
 * piece that was dropped is decoded again.  Any number of threads may use one.
 */
#ifndef DF_ROWS_TOKEN_CACHE_H
#define DF_ROWS_TOKEN_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "shard/shard.h"

struct df_token_cache;

/* Tokens [first, first+n) of the set; position and sequence are NULL if it has none. */
struct df_token_view {
	const uint32_t *ids, *position, *sequence;
	const uint8_t *mask;
	uint64_t first, n;
	size_t slot; /* (private) */
};

/*
 * A cache of about `bytes` of decoded tokens, but at least two pieces. s is borrowed; no other reader
 * may use it as long as the cache lives.
 */
int df_token_cache_new(struct df_token_cache **out, struct df_set *s, size_t bytes, struct df_err *err) DF_MUST_CHECK;
void df_token_cache_free(struct df_token_cache *c); /* accepts NULL */

/*
 * The piece that holds token `at`. It stays until it is put back; a thread holds one at a time.
 * DF_EFORMAT when the file is damaged.
 */
int df_token_cache_get(
    struct df_token_cache *c, uint64_t at, struct df_token_view *v, struct df_err *err) DF_MUST_CHECK;
void df_token_cache_put(struct df_token_cache *c, const struct df_token_view *v);

/*
 * Say which tokens will be wanted next, in order; this replaces what was said before.  They are decoded
 * in the background, up to half of the cache.  Errors in them are reported by df_token_cache_get().
 */
int df_token_cache_ahead(
    struct df_token_cache *c, const struct df_piece *range, size_t n, struct df_err *err) DF_MUST_CHECK;
/* The most bytes that its tokens take. */
size_t df_token_cache_bytes(const struct df_token_cache *c);

/* The name of the file with token `at`, for messages.  Borrowed. */
const char *df_token_cache_file(const struct df_token_cache *c, uint64_t at);

#endif
