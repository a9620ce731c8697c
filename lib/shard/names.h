/* names.h - the shards of one artefact: their names, their parts of the work, and one file that joins them. */
#ifndef DF_SHARD_NAMES_H
#define DF_SHARD_NAMES_H

#include <stdint.h>

#include "base/err.h"
#include "base/opt.h"

struct df_set;

/*
 * NAME.h5 -> NAME.00003-of-00016.h5, or `path` itself when there is one shard (free() it).  A number of shards from
 * --shard auto, which is a guess, must be the number of the shards that are already there, finished or unfinished;
 * otherwise DF_EUSAGE.  A single task that runs again must not do the whole job, nor begin another set.
 */
int df_shard_name(char **out, const char *path, struct df_shard_arg shard, struct df_err *err) DF_MUST_CHECK;
/* The same of a text beside the artefact, whatever its name ends in: NAME.jsonl -> NAME.00003-of-00016.jsonl. */
int df_shard_text_name(char **out, const char *path, struct df_shard_arg shard, struct df_err *err) DF_MUST_CHECK;
/* Blocks [*first, *end) of n_blocks that belong to the shard: contiguous, and as even as possible. */
void df_shard_range(struct df_shard_arg shard, uint64_t n_blocks, uint64_t *first, uint64_t *end);

/* Join a set of files into one HDF5 virtual dataset at `path` (sources by relative name). */
int df_set_link(struct df_set *s, const char *path, struct df_err *err) DF_MUST_CHECK;

#endif
