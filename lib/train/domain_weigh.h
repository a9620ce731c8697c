/*
 * domain_weigh.h - the losses of a step weighed by domains, with weights that a mixer learns from each step (DoReMi's
 * proxy, Xie et al. 2023).
 *
 * With domain weights alpha and rows drawn with proportions p, the loss of a step is
 *
 *     sum over targets t of q_d(t) l_t  /  sum over targets of q_d(t),    q_i = alpha_i / p_i
 *
 * over all of its targets, whatever its micro-batches are.  alpha of a step is learned from that step's own losses
 * (fresh), as in the paper, if they are known before the first backward; or it is that of the step before (stale), and
 * this step's losses make the next one.
 */
#ifndef DF_TRAIN_DOMAIN_WEIGH_H
#define DF_TRAIN_DOMAIN_WEIGH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "mix/mix.h"
#include "train/reference.h"
#include "train/step.h"

struct df_domain_weigh {
	const struct df_mixer *mixer; /* each_step */
	const void *options;
	double *state;     /* of the mixer; borrowed */
	const double *p;   /* [n_domains] the proportions of the rows; borrowed */
	char *const *names; /* [n_domains] for messages, or NULL; borrowed */
	size_t n_domains;
	struct df_reference *reference; /* borrowed; NULL: the mixer needs none */
	bool fresh;        /* a group is the whole step */
	uint64_t step;     /* the number of the step under way, from 1 */
	uint64_t total;    /* steps of the run */
	struct df_mix_sum *sum; /* [n_domains] of the step under way */
	double *alpha;     /* [n_domains] that the step was weighed with */
	uint64_t n_skipped; /* targets of the step whose loss or reference loss is not finite */

	/* private */
	double *q; /* [n_domains] */
	float *nll; /* [cap_nll] of the reference */
	size_t cap_nll;
};

/* Allocate for w->n_domains; what is borrowed is set by the caller. */
int df_domain_weigh_init(struct df_domain_weigh *w, struct df_err *err) DF_MUST_CHECK;
void df_domain_weigh_release(struct df_domain_weigh *w);

/* Before the step with this number, from 1. */
void df_domain_weigh_begin(struct df_domain_weigh *w, uint64_t step);
/* Between the forward and the backward of a group; ctx is the struct df_domain_weigh. */
df_step_weigh_fn df_domain_weigh_group;
/* After a step that had targets. */
int df_domain_weigh_end(struct df_domain_weigh *w, struct df_err *err) DF_MUST_CHECK;

#endif
