/* blocks.h - rows cut into blocks, the units of work. */
#ifndef DF_SHARD_BLOCKS_H
#define DF_SHARD_BLOCKS_H

#include <stdint.h>

#include "base/err.h"

/* Block i is rows [first[i], first[i+1]). */
struct df_blocks {
	uint64_t *first; /* [n+1] */
	uint64_t n;
};
/* Cut rows of these lengths: as many rows as fit, at least one.  A limit of 0 means no limit. */
int df_blocks_cut(struct df_blocks *b, const uint64_t *lengths, uint64_t n_rows, uint64_t max_tokens, uint64_t max_rows,
    struct df_err *err) DF_MUST_CHECK;
void df_blocks_release(struct df_blocks *b);

#endif
