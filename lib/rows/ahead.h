/*
 * ahead.h - a batch is gathered by a thread of its own while the caller works on the one before.
 */
#ifndef DF_ROWS_AHEAD_H
#define DF_ROWS_AHEAD_H

#include "rows/rows.h"

/* One caller; rows that it was told of must stay until it is freed or gave them. */
struct df_ahead;
void df_ahead_free(struct df_ahead *a); /* waits for its thread; accepts NULL */

/*
 * Begin to gather these rows; *a is made by the first call.  What was begun before and not taken is dropped.  Without
 * a thread to be had, nothing happens: df_ahead_take() gathers then.
 */
int df_ahead_begin(
    struct df_ahead **a, const struct df_rows *r, const uint64_t *rows, size_t n, struct df_err *err) DF_MUST_CHECK;
/*
 * As df_gather_batch(g, ...), with its errors; fast if these are the rows that were begun last, which *a need not be
 * (NULL).  g's storage goes to the next batch.
 */
int df_ahead_take(struct df_ahead *a, struct df_gather *g, const struct df_rows *r, const uint64_t *rows, size_t n,
    struct df_tokens *b, struct df_err *err) DF_MUST_CHECK;

#endif
