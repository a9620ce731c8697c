/*
 * reference.h - what each target costs a reference model: DoReMi trains on the excess over it (Xie et al. 2023).
 *
 * The losses come from a file that `df-grad --losses --token-loss` wrote once, or from a model whose forward runs
 * again and again on the samples of the step.  Both give the same numbers; the file saves the forward.
 *
 * Thread rule: one thread at a time.
 */
#ifndef DF_TRAIN_REFERENCE_H
#define DF_TRAIN_REFERENCE_H

#include "backend/backend.h"
#include "base/err.h"
#include "base/pool.h"
#include "model/model.h"
#include "rows/rows.h"

struct df_reference;

/*
 * Losses in a file, joined to the rows by sample id.  They are kept in memory up to DF_TOKEN_CACHE MiB, and beyond that
 * read when they are wanted.  DF_ELINEAGE: made of other tokens, a sample is missing, or it has another number of
 * targets; DF_EFORMAT: no loss of each target.  rows is borrowed.
 */
int df_reference_open_file(
    struct df_reference **out, const char *path, const struct df_rows *rows, struct df_err *err) DF_MUST_CHECK;
/*
 * Losses of the model in `dir`, in evaluation mode.  DF_ELINEAGE: it has another tokenizer than the rows, or fewer
 * tokens than they use.  All but dir are borrowed.
 */
int df_reference_open_model(struct df_reference **out, const char *dir, struct df_rows *rows, struct df_backend *be,
    struct df_pool *pool, struct df_err *err) DF_MUST_CHECK;
void df_reference_close(struct df_reference *r); /* accepts NULL */

/*
 * nll [offsets[n]]: the reference's losses of the targets of rows row[0..n), row by row; those of row i begin at
 * offsets[i].  DF_ELINEAGE: a file has another number of losses for a row.
 */
int df_reference_losses(struct df_reference *r, const uint64_t *row, size_t n, const uint32_t *offsets, float *nll,
    struct df_err *err) DF_MUST_CHECK;
/* Identifies the reference: the df_id of the file, or the digest of the model. */
const char *df_reference_id(const struct df_reference *r);

#endif
