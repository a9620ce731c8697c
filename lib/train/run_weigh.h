/*
 * run_weigh.h - weights of samples in the training loop: train_type: dynamic_weight.
 *
 *     before a step:  from step W+1 on the stepper has a weigher; the anchors are read when it is time
 *     in the step:    losses of a group, and hidden states where the method looks at them -> weights (weigh/weigh.h)
 *     at a line of the log: the weights since the line before, as a histogram, to weight_log.jsonl
 *
 * All that a step depends on is in the state: the anchors, which are read from a model that is gone later, and what was
 * counted since the last line of the log.
 */
#ifndef DF_TRAIN_RUN_WEIGH_H
#define DF_TRAIN_RUN_WEIGH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/component.h"
#include "train/run_dynamic.h"
#include "train/run_priv.h"
#include "train/states.h"
#include "weigh/weigh.h"

#define DF_WEIGHT_EDGES 17 /* 0, 0.25, .. 4 */

/* Weights relative to the plain mean over their group, where each would be 1. */
struct df_weight_stats {
	uint64_t n, n_invalid, n_rough; /* weights; samples whose loss was not finite; groups that did not converge */
	double min, max, sum, squares;
	uint64_t count[DF_WEIGHT_EDGES]; /* from each edge to the next; the last: beyond */
};

struct df_run_weigh {
	struct df_component component;
	const struct df_weigher *method;
	void *options;
	int whole_step; /* a group is a step, not a micro-batch */
	uint64_t warmup;
	struct df_weigh_states look; /* of a method that looks at hidden states */
	struct df_states *states;    /* NULL: it does not */
	const struct df_rows *anchors;
	struct df_rows own_anchors;  /* where the run has no evaluation tokens in memory */
	double *anchor;              /* [dim] */
	bool has_anchor;
	void *open;                  /* of the method's open() */
	struct df_step_weigher weigher;
	struct df_weight_stats since; /* the last line of the log */
	bool told_rough;
	char *log;                    /* path of weight_log.jsonl */
	const struct df_run *run;     /* during a step */
	/* the samples of a group that count */
	struct df_weigh_group group;
	size_t *slot;
	uint64_t *row, *id;
	double *loss, *weight;
	uint32_t *n_targets;
	uint16_t *domain;
	float *given, *pooled;
	size_t cap_slot, cap_row, cap_id, cap_loss, cap_weight, cap_targets, cap_domain, cap_given, cap_pooled;
};

/* What the configuration says; no model is needed.  DF_ECONFIG. */
int df_run_weigh_init(struct df_run_weigh *x, const struct df_run *r, struct df_err *err) DF_MUST_CHECK;
void df_run_weigh_release(struct df_run_weigh *x);
/* What needs the model: hidden states, the rows of the anchors.  The state goes on where r->state left it. */
int df_run_weigh_open(struct df_run_weigh *x, struct df_run *r, struct df_err *err) DF_MUST_CHECK;

/* Before the step after r->state.step: the stepper has its weigher, and the anchors are those of this step. */
int df_run_weigh_step(struct df_run_weigh *x, const struct df_run *r, struct df_err *err) DF_MUST_CHECK;
/* A line of the log, of the steps since the line before. */
int df_run_weigh_log(struct df_run_weigh *x, const struct df_run *r, struct df_err *err) DF_MUST_CHECK;

/* The numbers of the state: the anchors, and the weights since the last line of the log. */
size_t df_run_weigh_count(const struct df_run_weigh *x);
void df_run_weigh_numbers(const struct df_run_weigh *x, double *numbers);
void df_run_weigh_restore(struct df_run_weigh *x, const double *numbers);

extern const struct df_run_kind df_run_kind_weigh;

#endif
