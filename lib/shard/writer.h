/* writer.h - writing an artefact, which appears whole or not at all. */
#ifndef DF_SHARD_WRITER_H
#define DF_SHARD_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/pool.h"
#include "shard/batch.h"
#include "shard/kind.h"
#include "shard/meta.h"

enum df_compress { DF_COMPRESS_DEFAULT, DF_COMPRESS_NONE, DF_COMPRESS_GZIP, DF_COMPRESS_ZSTD };
#define DF_COMPRESS_NAMES "default", "none", "gzip", "zstd" /* in the order of the enum, for an option's choices */

struct df_writer_opts {
	enum df_compress compress; /* default: zstd for ids, text and indices; none for float matrices */
	int level;                 /* 0 = the filter's default */
	struct df_pool *pool;      /* threads that compress chunks; NULL = the calling thread */
	bool resumable;            /* keep finished batches beside the target (see below) */
	enum df_store store;       /* of `embedding`: its numbers are rounded (to nearest even) by df_writer_put */
	bool force_stream;         /* "-" is a stream even into a regular file (tests) */
};

struct df_writer;

/*
 * Begin the artefact `path` with these columns (matrix widths in `widths`, by
 * column, 0 = not a matrix).  "-" is standard output: a stream into a pipe or
 * socket, a plain HDF5 file into a regular file, refused on a terminal.
 *
 * resumable: every batch put is also kept in `.NAME.df-work` (a stream), under a key made of meta; after a kill the
 * same call finds them, df_writer_done() says how many batches and rows need not be computed again, and the final
 * bytes are those of an uninterrupted run.  Another key: the old work is discarded with a warning.
 */
int df_writer_open(struct df_writer **out, const char *path, const struct df_meta *meta, const enum df_col *cols,
    size_t n_cols, const size_t widths[DF_COL_COUNT], const struct df_writer_opts *opts,
    struct df_err *err) DF_MUST_CHECK;
uint64_t df_writer_done_batches(const struct df_writer *w);
uint64_t df_writer_done_rows(const struct df_writer *w);
/*
 * Append the batch's rows.  The batch may be reused when this returns.  DF_ERANGE for a finite number that the
 * writer's `store` cannot hold.
 */
int df_writer_put(struct df_writer *w, const struct df_batch *b, struct df_err *err) DF_MUST_CHECK;
/*
 * Write everything that is left, without making the file visible: a program with several outputs finishes each
 * before it commits the first.  Optional; no batch may follow.
 */
int df_writer_finish(struct df_writer *w, struct df_err *err) DF_MUST_CHECK;
/* The df_id of all rows that were put. */
void df_writer_id(const struct df_writer *w, char id[DF_DIGEST_HEX]);
/* Add an input to the metadata that is known only now: before df_writer_finish(), and of a file, not of a stream. */
int df_writer_add_input(struct df_writer *w, const char *role, const char *kind, const char *id,
    struct df_err *err) DF_MUST_CHECK;
/*
 * Complete the file and make it visible; fills id (may be NULL) with the content's df_id.  A stream gets its end
 * record.
 */
int df_writer_commit(struct df_writer *w, char id[DF_DIGEST_HEX], struct df_err *err) DF_MUST_CHECK;
/* Frees the writer.  What was not committed is removed, except a resumable writer's work. Accepts NULL. */
void df_writer_close(struct df_writer *w);

#endif
