/*
 * loss.h - losses and accuracies of a model on tokens it is not trained on.
 *
 * Rows are cut into blocks by size only, with one df_work per thread.  A sample's numbers do not depend on its
 * block, and sums are taken in row order in f64.
 */
#ifndef DF_EVAL_LOSS_H
#define DF_EVAL_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/pool.h"
#include "model/model.h"
#include "rows/rows.h"

/* The results of a group of samples; samples without targets are only counted. */
struct df_eval_sum {
	uint64_t n_samples, n_unlabelled;
	uint64_t n_bad;                /* samples whose loss is not finite: left out of everything below */
	uint64_t n_targets, n_correct; /* targets; those that were the most likely token */
	uint64_t n_exact;              /* samples whose targets all were the most likely token */
	double nll;                    /* sum over all targets */
	double sample_loss;            /* sum over samples of their mean nll */
	double sample_accuracy;        /* sum over samples of n_correct / targets */
};

/* Mean nll over targets, its exponential (infinity on overflow), mean of the samples' means.  NaN without targets. */
double df_eval_loss(const struct df_eval_sum *s);
double df_eval_perplexity(const struct df_eval_sum *s);
double df_eval_sample_loss(const struct df_eval_sum *s);
double df_eval_token_accuracy(const struct df_eval_sum *s);
double df_eval_exact(const struct df_eval_sum *s);
double df_eval_sample_accuracy(const struct df_eval_sum *s); /* mean over samples: LLaMA-Factory's compute_accuracy */

struct df_eval {
	struct df_eval_sum all;
	struct df_eval_sum *domain; /* [n_domains], as in the rows' meta; at least one */
	size_t n_domains;
	uint64_t bad_id;            /* the first sample whose loss is not finite, if all.n_bad > 0 */
};

struct df_eval_opts {
	size_t max_samples; /* of a block; 0 = no limit */
	size_t max_tokens;  /* of a block, unless a single sample is larger; 0 = what the device likes, 4096 on a CPU */
	bool progress;      /* report samples done through base/log.h */
	bool dft;           /* compute the losses of use_dft_loss (dft.h) */
};

/* Evaluate m on all rows.  DF_ESTOPPED when a signal asks to stop. */
int df_eval_run(struct df_eval *out, struct df_model *m, const struct df_rows *r, struct df_pool *pool,
    const struct df_eval_opts *o, struct df_err *err) DF_MUST_CHECK;
/* Say through base/log.h which samples do not count: those without a target, and those whose loss is not finite. */
void df_eval_tell(const struct df_eval *e);
void df_eval_release(struct df_eval *e);

#endif
