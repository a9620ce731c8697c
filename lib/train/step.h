/*
 * step.h - one optimizer step: gradients of all micro-batches, clipping, AdamW.
 *
 * A micro-batch is cut into groups of samples with about equally many tokens.
 * Each group has a gradient buffer and a df_work of its own and may run on its
 * own thread; the buffers are then added in the order of the groups.  How many
 * groups there are follows from the shape of the batch and the size of the model
 * alone, so a thread count moves work, never a rounding.  Small models gain most from this:
 * their matrix products are too small to be cut themselves.
 */
#ifndef DF_TRAIN_STEP_H
#define DF_TRAIN_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/pool.h"
#include "model/model.h"
#include "rows/rows.h"

struct df_stepper_opts {
	size_t batch;         /* samples of a micro-batch */
	double weight_decay, beta1, beta2, eps;
	double max_grad_norm; /* 0 = no clipping */
	/*
	 * LoRA+ (Hayou et al. 2024): the learning rate of the adapters' B, and, as LLaMA-Factory groups
	 * parameters, of all vectors, is this many times the others', and decay spares biases only; 0 = the same.
	 */
	double lr_b_ratio;
	uint64_t seed; /* of dropout */
	bool dft;      /* use_dft_loss: targets weigh as much as they are probable (dft.h) */
};

struct df_step_result {
	double loss;         /* mean over the targets of the step, before the update; with weights: mean of w_i l_i */
	double grad_norm;    /* before clipping */
	uint64_t n_targets, n_tokens;
	uint64_t n_skipped;  /* samples without targets */
};

struct df_stepper;

/* m and pool are borrowed.  Moments start at zero. */
int df_stepper_new(struct df_stepper **out, struct df_model *m, struct df_pool *pool, const struct df_stepper_opts *o,
    struct df_err *err) DF_MUST_CHECK;
void df_stepper_free(struct df_stepper *s); /* accepts NULL */

/* The moments of the checkpoint `dir`, and back. */
int df_stepper_load(struct df_stepper *s, const char *dir, struct df_err *err) DF_MUST_CHECK;
int df_stepper_save(const struct df_stepper *s, const char *dir, struct df_err *err) DF_MUST_CHECK;

/*
 * Train on rows which[0..n) of r with learning rate lr.  The gradient is that
 * of the mean nll over all targets of the n samples (as transformers' Trainer
 * with num_items_in_batch; with dft each nll weighed), or, with weights [r->n], of sum of w_i l_i over the
 * number of samples that have targets.  Samples without targets count for
 * nothing; if none has any, nothing is updated and n_targets is 0.
 *
 * DF_EFORMAT or DF_ELINEAGE where a row cannot be had (df_gather_batch): nothing has changed then.
 *
 * A loss or gradient that is not finite is DF_ERANGE, names the samples, and leaves the
 * model as it was.
 */
int df_stepper_run(struct df_stepper *s, const struct df_rows *r, const uint64_t *which, size_t n,
    const float *weights, double lr, struct df_step_result *out, struct df_err *err) DF_MUST_CHECK;

#endif
