/*
 * step_priv.h - a stepper; seen by step.c, step_lanes.c and step_weigh.c.
 */
#ifndef DF_TRAIN_STEP_PRIV_H
#define DF_TRAIN_STEP_PRIV_H

#include "rows/ahead.h"
#include "train/step.h"

#define DF_MAX_LANES 8

/* A lane's work: its samples, its memory, its result. */
struct df_lane {
	struct df_work *work;
	struct df_tensor grad; /* [1, train numel]; NONE until first used */
	bool dirty;            /* grad holds this step's sum */
	struct df_gather gather;
	struct df_tokens tokens;        /* its samples, in gather */
	struct df_target_losses losses; /* theirs, after a forward of its own */
	uint64_t *key;       /* [batch] */
	float *scale, *loss; /* [batch] */
	double *nll;         /* [batch] */
	size_t *slot;        /* [batch] place in the step, for the losses */
	size_t n;
	uint64_t n_tokens;
	int rc;
	struct df_err err;
};

/* The losses of a group of samples that are weighed together: samples [first, first+n) of the step. */
struct df_step_losses {
	size_t first, n;
	uint32_t *offsets, *token;
	uint64_t *id;
	uint16_t *domain;
	float *nll;
	size_t cap_offsets, cap_id, cap_domain, cap_token, cap_nll;
};

struct df_stepper {
	struct df_model *m;
	struct df_pool *pool;
	struct df_stepper_opts o;
	const struct df_step_weigher *weigher; /* or NULL */
	struct df_moments moments;
	struct df_lane lane[DF_MAX_LANES];
	size_t n_lanes; /* a power of two: what the size of the model allows */
	/* of the current step */
	const struct df_rows *r;
	const uint64_t *which;
	size_t n;
	const float *given;      /* [r->n] weights, or NULL */
	struct df_step_counts counts;
	struct df_gather gather; /* all of its rows */
	struct df_ahead *ahead;  /* the next step's; NULL until first used */
	const uint64_t *next;    /* [n_next] these, until the step begins */
	size_t n_next;
	struct df_tokens tokens; /* the tokens in gather */
	double *loss, *nll;      /* [cap_loss] [cap_nll] mean of each sample, weighted by target; sum, not weighted */
	double *weight;          /* [cap_weight] of each sample, by the weigher */
	size_t cap_loss, cap_nll, cap_weight;
	struct df_domain_sum *domain;
	size_t cap_domain;
	struct df_tensor scalars; /* [1,3] f64: sum of squares of the gradient, scale, finite */
	struct df_step_losses group;
	struct pick {
		uint64_t len;
		size_t at;
	} * pick; /* [batch] */
};

static inline size_t
df_step_targets(const struct df_stepper *s, size_t at)
{
	return s->gather.n_targets[at];
}
/* It counts in this step: it has targets, and the weigher, if it was asked already, gave it a weight. */
static inline bool
df_step_counts_sample(const struct df_stepper *s, size_t at)
{
	return df_step_targets(s, at) > 0 && (s->weigher == NULL || s->weight[at] != 0);
}

/* step_lanes.c */
int df_lane_init(struct df_stepper *s, struct df_lane *l, struct df_err *err) DF_MUST_CHECK;
void df_lane_release(struct df_stepper *s, struct df_lane *l);
/* Add the gradients of all micro-batches into the lanes, and put the losses into s->loss and s->nll. */
int df_step_accumulate(struct df_stepper *s, struct df_err *err) DF_MUST_CHECK;

/* step_weigh.c: a group of samples [first, first+n); the losses of these lanes, which have some; its weights. */
int df_step_group_begin(struct df_stepper *s, size_t first, size_t n, struct df_err *err) DF_MUST_CHECK;
void df_step_group_take(struct df_stepper *s, size_t lanes);
int df_step_group_weigh(struct df_stepper *s, struct df_err *err) DF_MUST_CHECK;
void df_step_losses_release(struct df_step_losses *g);

#endif
