/*
 * token_pick.h - the rows of a set of tokens that an index names, as if they were a set of their own.
 *
 * Pick i is the i-th of these rows in the order of the set, whatever the order of the index; a row that the index names
 * several times is one pick.  So a job over picks is cut into blocks and shards like a job over all rows.
 *
 * Thread rule: picks and their set belong to one thread at a time.
 */
#ifndef DF_SHARD_TOKEN_PICK_H
#define DF_SHARD_TOKEN_PICK_H

#include <stdint.h>

#include "base/err.h"
#include "shard/shard.h"

struct df_token_pick {
	struct df_set *set; /* borrowed */
	uint64_t n;         /* picks */
	uint64_t *row;      /* [n] their rows in the set, ascending */
	uint64_t *length;   /* [n] their tokens */
	char index_id[DF_DIGEST_HEX]; /* of the index, for the lineage */
	struct df_batch part; /* (private) */
};

/*
 * Find the rows of `set` (files, not a stream; it is read, and reads all columns afterwards) that the index at `path`
 * names.  DF_ELINEAGE for an index of other tokens, or with an id that the set does not have; DF_EFORMAT when a sample
 * that is picked is there twice.
 */
int df_token_pick_open(struct df_token_pick *p, struct df_set *set, const char *path, struct df_err *err) DF_MUST_CHECK;
void df_token_pick_close(struct df_token_pick *p); /* also of zeros */

/* b = all columns of picks [first, first+n); b->first is the row of the first one. */
int df_token_pick_read(struct df_token_pick *p, uint64_t first, uint64_t n, struct df_batch *b, struct df_err *err)
    DF_MUST_CHECK;

#endif
