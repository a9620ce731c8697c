/*
 * blocks.c - cutting rows into blocks.  A thread takes a block at a time, shards end at blocks, and a killed run
 * repeats the unfinished ones.
 *
 * The rule may depend on lengths and limits only, never on threads, shards or the machine.
 */
#include <stdlib.h>

#include "shard/shard.h"

int
df_blocks_cut(struct df_blocks *b, const uint64_t *lengths, uint64_t n_rows, uint64_t max_tokens, uint64_t max_rows,
    struct df_err *err)
{
	uint64_t *first = NULL, n = 0, tokens = 0;
	int rc = DF_OK;

	DF_TRY(df_alloc(&first, n_rows + 1, sizeof(*first), "blocks", err));
	for (uint64_t i = 0; i < n_rows; i++) {
		const bool full = (max_rows && i - first[n] >= max_rows) ||
		    (max_tokens && lengths[i] > max_tokens - (tokens < max_tokens ? tokens : max_tokens));

		if (full && i > first[n]) {
			first[++n] = i;
			tokens = 0;
		}
		tokens += lengths[i];
	}
	if (n_rows)
		first[++n] = n_rows;
	b->first = first;
	b->n = n;
out:
	return rc;
}

void
df_blocks_release(struct df_blocks *b)
{
	free(b->first);
	*b = (struct df_blocks){ 0 };
}
