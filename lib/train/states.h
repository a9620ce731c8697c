/*
 * states.h - one vector for each row: the model's hidden states, pooled, in evaluation mode.
 *
 * A row's vector depends on the model and the row alone, to the bit: not on the rows it is computed with, nor threads.
 */
#ifndef DF_TRAIN_STATES_H
#define DF_TRAIN_STATES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/pool.h"
#include "model/model.h"
#include "rows/rows.h"
#include "weigh/weigh.h"

struct df_states;
/* m and pool are borrowed.  DF_EUSAGE: the model has no such layer. */
int df_states_new(struct df_states **out, struct df_model *m, struct df_pool *pool, enum df_weigh_pooling pooling,
    int64_t layer, struct df_err *err) DF_MUST_CHECK;
void df_states_free(struct df_states *s); /* accepts NULL */
size_t df_states_dim(const struct df_states *s);
/*
 * pooled [n, dim] of rows which[0..n) of r; zeros for a row without tokens, or without targets where these are pooled.
 * DF_EUNSUPPORTED: rows of several packed samples (neat packing) have no vector of their own.
 */
int df_states_run(struct df_states *s, const struct df_rows *r, const uint64_t *which, size_t n, float *pooled,
    struct df_err *err) DF_MUST_CHECK;

#endif
