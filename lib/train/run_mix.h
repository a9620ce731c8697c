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
#include "mix/params.h"
#include "mix/weights.h"
#include "train/domain_weigh.h"
#include "train/held_out.h"
#include "train/reference.h"
#include "train/run_dynamic.h"
#include "train/run_priv.h"

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

/*
 * run_mix_init.c, for the functions of df_run_kind_mix.  Init: what the configuration and the tokens say.  Open: what
 * needs the model, that is held-out rows, the drawer, the reference, the timing of DoReMi, and the numbers of a run
 * that begins.  DF_ECONFIG where the mixer needs what the run has not: experts, a reference.
 */
int df_run_mix_init(struct df_run *r, struct df_err *err) DF_MUST_CHECK;
int df_run_mix_open(struct df_run *r, struct df_err *err) DF_MUST_CHECK;
void df_run_mix_release(struct df_run *r);

extern const struct df_run_kind df_run_kind_mix;

#endif
