/*
 * step.h - one optimizer step: gradients of all micro-batches, clipping, AdamW.
 *
 * A micro-batch is cut into groups of samples with about equally many tokens.  Each group has a gradient buffer and a
 * df_work of its own and may run on its own thread; the buffers are then added in the order of the groups.  The number
 * of groups depends on the shape of the batch and the size of the model only, so a thread count moves work, never a
 * rounding.  Small models gain most from this: their matrix products are too small to be divided among threads.
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
	 * LoRA+ (Hayou et al. 2024): the learning rate of the adapters' B, and, as LLaMA-Factory groups parameters, of
	 * all vectors, is this many times that of the others, and weight decay exempts biases only; 0 = the same rate.
	 */
	double lr_b_ratio;
	uint64_t seed; /* of dropout */
	/*
	 * Weights of targets from their losses, or NULL.  Between forward and backward of a micro-batch, weigh is
	 * called once, with all of its samples in the step's order (those without targets, too), their ids and domains;
	 * the weights multiply those of df_stepper_run().  It is not called when the micro-batch has no target.
	 */
	df_weigh_fn *weigh;
	void *weigh_ctx; /* borrowed */
	/*
	 * weigh looks at one target at a time: groups do not wait for each other, and each calls it in its own
	 * thread, with its own samples, without their ids and domains.
	 */
	bool weigh_alone;
};

/*
 * What the samples of a domain cost in a step, before its update: from this, mixtures that adapt learn (ODM, Albalak et
 * al. 2023; DoReMi, Xie et al. 2023).  Sums are in the step's order: the same at any number of threads.
 */
struct df_domain_sum {
	uint64_t n_targets;
	uint64_t n; /* samples with targets */
	double nll; /* over the targets, not weighted */
};

struct df_step_result {
	double loss;         /* mean over the targets of the step, before the update; with weights: mean of w_i l_i */
	double grad_norm;    /* before clipping */
	uint64_t n_targets, n_tokens;
	uint64_t n_skipped;  /* samples without targets */
	/* [n_domains] by df_rows_domain(), of the stepper, until its next step; one of all samples if there are none */
	const struct df_domain_sum *domain;
	size_t n_domains;
};

struct df_stepper;

/* m and pool are borrowed.  Moments start at zero. */
int df_stepper_new(struct df_stepper **out, struct df_model *m, struct df_pool *pool, const struct df_stepper_opts *o,
    struct df_err *err) DF_MUST_CHECK;
void df_stepper_free(struct df_stepper *s); /* accepts NULL */

/* Load the moments of the checkpoint `dir`, and save them. */
int df_stepper_load(struct df_stepper *s, const char *dir, struct df_err *err) DF_MUST_CHECK;
int df_stepper_save(const struct df_stepper *s, const char *dir, struct df_err *err) DF_MUST_CHECK;

/*
 * Train on rows which[0..n) of r with learning rate lr.  The gradient is that of the mean nll over all
 * targets of the n samples (as transformers' Trainer with num_items_in_batch; with `weigh` each nll is
 * weighted), or, with weights [r->n], of the sum of w_i l_i over the number of samples that have targets.
 * Samples without targets do not count; if no sample has any, nothing is updated and n_targets is 0.
 *
 * DF_EFORMAT or DF_ELINEAGE when a row cannot be read (df_gather_batch); nothing has changed then.
 * DF_ERANGE when a loss or gradient is not finite; it names the samples, and the model is unchanged.
 */
int df_stepper_run(struct df_stepper *s, const struct df_rows *r, const uint64_t *which, size_t n,
    const float *weights, double lr, struct df_step_result *out, struct df_err *err) DF_MUST_CHECK;

#endif
