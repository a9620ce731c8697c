/*
 * job.h - make an artefact block by block: read | work | write, resumable, in parts.
 *
 * The frame of df-grad, df-embed and df-project: blocks of rows are read in order, each thread works on one, and
 * the results are written in order.  Blocks at the end that are too few for the threads are worked on one after the
 * other, in one thread that has the threads of a pool to itself: so one block alone keeps all threads busy too.
 *
 * The caller defines what a block is and how it is processed; the job opens the output (the part's name, unfinished
 * work of an earlier run), moves the blocks, shows progress and commits.
 *
 * A block is an object of the caller's, of item_size bytes, whose first member is the struct df_batch that is
 * written.  The job makes n_threads + 2 of them, zeroed, and reuses them; at the end it calls release() to free the
 * caller's members, and releases the batch itself.
 *
 * Thread rule: read(), done() and seek() are called by one thread at a time and
 * in order; work() by n_threads at once, each with its own number, or for the last blocks by one, with number 0, whose
 * df_pool_for() then uses the pool's threads.
 */
#ifndef DF_SHARD_JOB_H
#define DF_SHARD_JOB_H

#include "base/err.h"
#include "base/opt.h"
#include "shard/shard.h"

struct df_job {
	const char *output;           /* a file, or "-" (writer.h: df_writer_open) */
	struct df_shard_arg shard;    /* of a file: n > 1: it is that part, by name; n = 0 is n = 1 */
	struct df_writer_opts writer; /* resumable, unless the output is "-" */
	const struct df_meta *meta;
	const enum df_col *cols;
	size_t n_cols;
	const size_t *widths; /* [DF_COL_COUNT] */

	const char *unit; /* "samples", for progress */
	uint64_t n_rows;  /* number of all that will be written, for progress; 0: unknown */
	uint64_t n_blocks; /* number of all that read() gives, from the first on; 0: unknown, each is one thread's */
	int n_threads;
	size_t item_size;

	void *ctx;
	/* This number of batches and rows is already done: the next read() gives the batch after them. */
	int (*seek)(void *ctx, uint64_t batches, uint64_t rows, struct df_err *err);
	int (*read)(void *ctx, void *item, struct df_err *err); /* 1: a block; 0: the end; < 0: an error */
	int (*work)(void *ctx, void *item, int worker, struct df_err *err);
	void (*done)(void *ctx, const void *item); /* optional: called after the block was written, to take counts */
	void (*release)(void *item);               /* optional */
};

/*
 * Open the output, move all blocks, commit.  *n (may be NULL) = the rows that this run wrote, also when it was
 * stopped (DF_ESTOPPED: finished work stays beside the target for the next run) or failed.
 */
int df_job_run(const struct df_job *j, uint64_t *n, struct df_err *err) DF_MUST_CHECK;

#endif
