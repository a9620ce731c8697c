/*
 * forward.h - chosen rows through a model, in evaluation mode and on all threads: losses of their targets, where
 * routers send their tokens, or hidden states.
 *
 * Rows are cut into batches by their lengths and the device alone, so that no number depends on the threads.
 *
 * Thread rule: one thread at a time.
 */
#ifndef DF_EVAL_FORWARD_H
#define DF_EVAL_FORWARD_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/pool.h"
#include "model/model.h"
#include "rows/rows.h"

struct df_forward;
/* m and pool are borrowed. */
int df_forward_new(struct df_forward **out, struct df_model *m, struct df_pool *pool, struct df_err *err) DF_MUST_CHECK;
void df_forward_free(struct df_forward *f); /* accepts NULL */

/* nll: the losses of the targets of rows which[0..n), row by row; those of row i begin at offsets[i]. */
int df_forward_losses(struct df_forward *f, const struct df_rows *r, const uint64_t *which, size_t n,
    const uint32_t *offsets, float *nll, struct df_err *err) DF_MUST_CHECK;
/* load [n, n_layers * n_experts] of each row: as df_losses.gate_load. */
int df_forward_loads(struct df_forward *f, const struct df_rows *r, const uint64_t *which, size_t n, float *load,
    struct df_err *err) DF_MUST_CHECK;
/*
 * Call fn for each row i < n, with the batch that it is in, as sample s, and its hidden states after `layer` layers:
 * hidden [tokens, d_model].  From several threads; for any i once.  An error of fn ends the call.
 */
typedef int df_forward_hidden_fn(
    void *ctx, size_t i, const struct df_tokens *b, size_t s, const float *hidden, struct df_err *err);
int df_forward_hidden(struct df_forward *f, const struct df_rows *r, const uint64_t *which, size_t n, size_t layer,
    df_forward_hidden_fn *fn, void *ctx, struct df_err *err) DF_MUST_CHECK;

#endif
