/*
 * scan.h - visit every row of a set once, on all threads.
 *
 *   read     finds the next block of rows                        one thread, in order
 *   work     reads, checks and decodes it, then calls work()     any thread, blocks at the same time
 *   take     calls take()                                        the caller's thread, in order of rows
 *
 * Rows and their order do not depend on the kind of set (one file, shards, a stream) or on how its numbers are
 * stored.  Blocks may be cut differently, so a result must not depend on where they end.  It uses the memory of
 * n_threads + 2 blocks for any number of rows.
 */
#ifndef DF_SHARD_SCAN_H
#define DF_SHARD_SCAN_H

#include "shard/shard.h"

struct df_scan {
	/* Not read yet; df_set_only() chooses the columns.  It must not be used in another way meanwhile. */
	struct df_set *set;
	uint64_t max_rows; /* of a block; 0 = about 2 MiB of rows.  A stream's blocks are its records */
	int n_threads;
	/*
	 * May be NULL: then blocks are only read.  b holds the rows [b->first, b->first + b->n) of all columns that
	 * are read; the arrays are valid until take() returns.  *result (NULL before) is passed to take(); memory
	 * for it comes from b->arena and is freed with the block.  `worker` is in [0, n_threads): for scratch.
	 */
	int (*work)(void *ctx, struct df_batch *b, void **result, int worker, struct df_err *err);
	/* May be NULL.  Called for each block, by the caller's thread, in order of rows. */
	int (*take)(void *ctx, const struct df_batch *b, const void *result, struct df_err *err);
	void *ctx;
};
/*
 * The first error, in order of rows, ends the scan, after take() was called for all blocks before.  So does a
 * signal that asks to stop: DF_ESTOPPED.
 */
int df_scan_run(const struct df_scan *sc, struct df_err *err) DF_MUST_CHECK;

#endif
