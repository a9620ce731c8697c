/*
 * token_writer.h - rows of tokens on their way into an artefact.
 *
 * Rows come one at a time and are gathered into batches for a df_writer.  Which
 * columns a row needs is said once, at opening; the others are not looked at.
 *
 * Thread rule: a writer belongs to one thread at a time.
 */
#ifndef DF_SHARD_TOKEN_WRITER_H
#define DF_SHARD_TOKEN_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "shard/shard.h"

/* Borrowed during the call. */
struct df_token_row {
	const uint32_t *ids; /* [n] */
	const uint8_t *mask; /* [n] as DF_COL_LABEL_MASK */
	const uint32_t *position, *sequence; /* [n] each, where these columns are written */
	size_t n;
	uint64_t id, source_row, prompt;
	uint32_t draw;
	uint16_t domain;
};

struct df_token_writer;

/* A batch is put when it has that many rows, or at least so many tokens. */
struct df_token_batch {
	size_t rows;   /* from 1 */
	size_t tokens; /* 0: no limit */
};

/*
 * Begin the artefact `path`; meta and opts as df_writer_open has them.  cols: DF_COL_ID to DF_COL_DRAW, with
 * DF_COL_IDS and DF_COL_LABEL_MASK among them.
 */
int df_token_writer_open(struct df_token_writer **out, const char *path, const struct df_meta *meta,
    const enum df_col *cols, size_t n_cols, struct df_token_batch batch, const struct df_writer_opts *opts,
    struct df_err *err) DF_MUST_CHECK;
uint64_t df_token_writer_done_rows(const struct df_token_writer *w); /* of an earlier run (resumable) */
int df_token_writer_put(struct df_token_writer *w, const struct df_token_row *row, struct df_err *err) DF_MUST_CHECK;
/* Put the rows that are waiting, so that a resumable writer keeps them when it is closed. */
int df_token_writer_flush(struct df_token_writer *w, struct df_err *err) DF_MUST_CHECK;
/*
 * Name as an input of w, in that role, all rows that were put into `of`.  Before w is finished; w writes a file, not a
 * stream.
 */
int df_token_writer_add_input(struct df_token_writer *w, const char *role, struct df_token_writer *of,
    struct df_err *err) DF_MUST_CHECK;
/* As df_writer_finish and df_writer_commit, after a flush. */
int df_token_writer_finish(struct df_token_writer *w, struct df_err *err) DF_MUST_CHECK;
int df_token_writer_commit(struct df_token_writer *w, struct df_err *err) DF_MUST_CHECK;
/* As df_writer_close: rows that wait are lost.  Accepts NULL. */
void df_token_writer_close(struct df_token_writer *w);

#endif
