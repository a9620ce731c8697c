/*
 * run_mix.h - a mixture in the training loop: train_type: dynamic_mix.
 *
 *     event:   what was measured -> mixer -> proportions -> rows of the window, by quotas and permutations
 *     step:    rows of the window; sums of losses by domain; DoReMi also weighs the losses (domain_weigh.h)
 *
 * Domains are those of the tokens, up to the last that has a row to train on: datasets that are only evaluated come
 * after them.  All that a step depends on is in the state: the proportions and cursors with which the window began, the
 * numbers of the mixer, and the sums since the last line of the log.  So to resume is to draw the window again.
 */
#ifndef DF_TRAIN_RUN_MIX_H
#define DF_TRAIN_RUN_MIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/component.h"
#include "config/events.h"
#include "mix/mix.h"
#include "mix/weights.h"
#include "train/domain_weigh.h"
#include "train/held_out.h"
#include "train/reference.h"
#include "train/run_dynamic.h"
#include "train/run_priv.h"

/* Parameters of the component that are the run's, not the mixer's. */
struct df_mix_params {
	const char *reference_losses, *reference_model_path;
	int timing;   /* of DoReMi: enum df_mix_timing */
	int layers;   /* 1: loads of all layers */
	int quota;    /* 1: DataFlex's */
	int row_draw; /* 1: independent, with replacement */
	int64_t eval_samples, collect_steps, eval_batch_size;
};
enum df_mix_timing { DF_MIX_AUTO, DF_MIX_FRESH, DF_MIX_STALE };

struct df_run_mix {
	struct df_component component;
	struct df_mix_params params;
	const struct df_mixer *mixer; /* NULL: static_mix */
	void *options;                /* of the mixer */
	size_t n_domains;
	char *const *names;           /* [n_domains], borrowed from the rows */
	bool given;                   /* the initial proportions are the user's */
	double *initial, *p;          /* [n_domains] proportions: initial ones, those of the window */
	uint64_t *cursor, *drawn;     /* [n_domains] where the window began, and ended */
	double *state;                /* [n_state] of the mixer */
	size_t n_state;
	struct df_mix_sum *since;     /* [n_domains] since the last update or, with DoReMi, line of the log */
	uint64_t n_skipped;           /* targets since then that did not count for the excess */
	uint64_t *rows;               /* [cap_rows] of the window */
	size_t cap_rows;
	struct df_drawer *drawer;
	struct df_held_out held_out;
	struct df_rows eval_rows;     /* loaded for held_out alone */
	bool has_eval_rows;
	double *load;                 /* [n_domains, experts] */
	struct df_reference *reference;
	struct df_domain_weigh weigh; /* of a mixer that is each_step */
	struct df_step_weigher weigher;
	char *log;                    /* path of mixture_log.jsonl */
};

/* What the configuration and the tokens say: component, domains, initial proportions.  No model is needed. */
int df_run_mix_init(struct df_run_mix *x, const struct df_config *c, const struct df_rows *rows,
    struct df_err *err) DF_MUST_CHECK;
void df_run_mix_release(struct df_run_mix *x);
/*
 * What needs the model: held-out rows, the drawer, the reference, the timing of DoReMi; then the state, fresh or that
 * of the checkpoint.  DF_ECONFIG where the mixer needs what the run has not: experts, a reference.  DF_ELINEAGE where
 * the checkpoint is of another mixture.
 */
int df_run_mix_open(struct df_run_mix *x, struct df_run *r, struct df_err *err) DF_MUST_CHECK;

/*
 * Begin the loop at r->state.step: the log is cut back to it, and the window that the step is in is drawn again.  The
 * stepper gets the weigher of DoReMi.
 */
int df_run_mix_begin(struct df_run_mix *x, struct df_run *r, struct df_err *err) DF_MUST_CHECK;
/*
 * An event: measure, ask the mixer, draw the rows of the window, and let the run's sampler follow them.  A line of the
 * log.  DF_ESTOPPED: a signal came while experts were measured; nothing has changed.
 */
int df_run_mix_event(
    struct df_run_mix *x, struct df_run *r, const struct df_event *e, struct df_err *err) DF_MUST_CHECK;
/* Before the step after r->state.step; after it, with what it measured. */
void df_run_mix_step(struct df_run_mix *x, const struct df_run *r);
int df_run_mix_stepped(
    struct df_run_mix *x, const struct df_run *r, const struct df_step_result *res, struct df_err *err) DF_MUST_CHECK;
/* A line of the log after r->state.step steps: at logging_steps, where the mixer learns from each step. */
int df_run_mix_log(struct df_run_mix *x, const struct df_run *r, struct df_err *err) DF_MUST_CHECK;
/* The end of the run: output_dir/domain_weights.h5, the proportions that the mixer found. */
int df_run_mix_end(struct df_run_mix *x, const struct df_run *r, struct df_err *err) DF_MUST_CHECK;

/* The part of df_run_mix_open() that is in run_mix.c: fresh, or from r->state. */
int df_run_mix_load(struct df_run_mix *x, struct df_run *r, struct df_err *err) DF_MUST_CHECK;
/* Into the arrays of a checkpoint's state, which df_run_mix_open() made. */
void df_run_mix_save(const struct df_run_mix *x, struct df_dynamic *d);

extern const struct df_run_kind df_run_kind_mix;

#endif
