/*
 * step.h - one optimizer step: gradients of all micro-batches, clipping, AdamW.
 *
 * A micro-batch is cut into groups of samples with about equally many tokens.  Each group has a gradient buffer and a
 * df_work of its own and may run on its own thread; the buffers are then added in the order of the groups.  The number
 * of groups depends on the shape of the batch, the size of the model and the kind of device only, so a thread count
 * moves work, never a rounding.  Small models gain most from this: their matrix products are too small to be divided
 * among threads.
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
	const char *from; /* a checkpoint whose moments df_stepper_new() takes over; NULL: they start at zero */
	/* Weights of targets from each one's own loss, or NULL (df_work_weigh()): lanes ask in their own threads. */
	df_weigh_fn *weigh_target;
	void *weigh_target_ctx; /* borrowed */
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
	double loss;         /* what the gradient is of, before the update: df_stepper_run(), df_stepper_weigh() */
	double mean_nll;     /* over the targets of the step, not weighted */
	double grad_norm;    /* before clipping */
	uint64_t n_targets, n_tokens;
	uint64_t n_skipped;  /* samples without targets */
	uint64_t n_invalid;  /* samples left out by a weigher, as their loss is not finite; in no mean and no sum */
	/* [n_domains] by df_rows_domain(), of the stepper, until its next step; one of all samples if there are none */
	const struct df_domain_sum *domain;
	size_t n_domains;
};

/* What is known of a step before its forward. */
struct df_step_counts {
	uint64_t n_targets;
	uint64_t n;      /* samples with targets */
	size_t n_micro;  /* micro-batches */
	size_t n_active; /* those that have a target */
	const struct df_domain_sum *domain; /* [n_domains], their nll still 0 */
	size_t n_domains;
};

/* Samples that are weighed together, in the step's order, those without targets too. */
struct df_step_group {
	const struct df_step_counts *step;
	size_t micro;                     /* which micro-batch it is, from 0; 0 if it is the whole step */
	size_t n_groups;                  /* of the step, that have a target */
	struct df_target_losses losses;   /* with ids and domains */
	const uint64_t *row;              /* [losses.n] rows of the df_rows */
};
/*
 * Between forward and backward: weight [g->losses.n] of each sample, which is 1 at first.  The loss of the step is the
 * sum of weight[i] l_i over all its samples, l_i being the mean over the targets of sample i; weights are constants for
 * the gradient.  So they are absolute: 1 / (n n_groups) each is the mean over the groups of their mean over n samples.
 * A sample of weight 0 is not trained on, and only then its loss need not be finite.
 */
typedef int df_step_weigh_fn(void *ctx, const struct df_step_group *g, double *weight, struct df_err *err);

struct df_step_weigher {
	df_step_weigh_fn *weigh; /* in the caller's thread, in the order of the groups; not for those without targets */
	void *ctx;
	/*
	 * A group is the whole step: of several micro-batches all losses are computed first, then it is weighed, then
	 * each has forward and backward.  false: each micro-batch is a group, with one forward.
	 */
	bool whole_step;
};

struct df_stepper;

/* m and pool are borrowed. */
int df_stepper_new(struct df_stepper **out, struct df_model *m, struct df_pool *pool, const struct df_stepper_opts *o,
    struct df_err *err) DF_MUST_CHECK;
void df_stepper_free(struct df_stepper *s); /* accepts NULL */

/* Save the moments beside a checkpoint. */
int df_stepper_save(const struct df_stepper *s, const char *dir, struct df_err *err) DF_MUST_CHECK;

/*
 * Said before a df_stepper_run(): the step after it trains on rows which[0..n) of the same df_rows.  They are gathered
 * while it computes.  which is borrowed until then, the df_rows until the stepper is freed.  It only affects speed:
 * other rows may come, and errors are those of the step that needs the rows.
 */
void df_stepper_next(struct df_stepper *s, const uint64_t *which, size_t n);
/*
 * The steps from now on are weighed by w, which is borrowed; NULL, as at first: they are not.  Weights given to
 * df_stepper_run() then have no effect.  Not together with weigh_target.
 */
void df_stepper_weigh(struct df_stepper *s, const struct df_step_weigher *w);
/*
 * Train on rows which[0..n) of r with learning rate lr.  The gradient is that of the mean nll over all targets of the n
 * samples (as transformers' Trainer with num_items_in_batch; with `weigh_target` each nll is weighted), or, with
 * weights [r->n], of the sum of w_i l_i over the number of samples that have targets, or that of df_stepper_weigh().
 * Samples without targets do not count; if no sample has any, nothing is updated and n_targets is 0.
 *
 * DF_EFORMAT or DF_ELINEAGE when a row cannot be read (df_gather_batch); nothing has changed then.
 * DF_ERANGE when a loss or gradient is not finite; it names the samples, and the model is unchanged.
 */
int df_stepper_run(struct df_stepper *s, const struct df_rows *r, const uint64_t *which, size_t n,
    const float *weights, double lr, struct df_step_result *out, struct df_err *err) DF_MUST_CHECK;

#endif
