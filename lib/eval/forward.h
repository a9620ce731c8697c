/*
 * forward.h - chosen rows through a model, on all threads: losses of their targets, or where routers send their tokens.
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

/*
 * nll: the losses of the targets of rows which[0..n), in evaluation mode, row by row; those of row i begin at
 * offsets[i].  One call holds all n rows in memory.
 */
int df_forward_losses(struct df_forward *f, const struct df_rows *r, const uint64_t *which, size_t n,
    const uint32_t *offsets, float *nll, struct df_err *err) DF_MUST_CHECK;
/* load [n, n_layers * n_experts] of each row: as df_losses.gate_load. */
int df_forward_loads(struct df_forward *f, const struct df_rows *r, const uint64_t *which, size_t n, float *load,
    struct df_err *err) DF_MUST_CHECK;

#endif
