/*
 * best.h - what evaluations decide: the best model so far, when to stop early, and the learning rate on a plateau.
 *
 * transformers' Trainer (metric_for_best_model), its EarlyStoppingCallback and PyTorch's
 * ReduceLROnPlateau, as small states that are stored in checkpoints; nothing here reads a file or a clock.
 */
#ifndef DF_TRAIN_BEST_H
#define DF_TRAIN_BEST_H

#include <stdbool.h>
#include <stdint.h>

#include "train/schedule.h"

/* ReduceLROnPlateau: the learning rate is `scale` times the schedule's. */
struct df_plateau {
	double scale;           /* 1 at first */
	bool known;             /* is `best` known? */
	double best;
	uint64_t n_bad;         /* evaluations since it improved */
	uint64_t cooldown;      /* evaluations left in which none counts as bad */
};

struct df_best {
	bool known;        /* is `metric` known? */
	double metric;     /* the best of all evaluations */
	uint64_t step;     /* the step of that evaluation */
	uint64_t saved;    /* the best evaluated step that has a checkpoint; 0: none */
	uint64_t patience; /* consecutive evaluations that did not improve it */
	bool stopped;      /* patience has run out: the run ends at its present step */
	struct df_plateau plateau;
};
#define DF_BEST_INIT { .plateau = { .scale = 1 } }

struct df_best_opts {
	bool greater;       /* greater is better */
	uint64_t patience;  /* early_stopping_steps; 0: never stop */
	double min_delta;   /* early stopping counts a metric as better if it is better by more than this */
	const struct df_schedule *schedule; /* reduce_lr_on_plateau changes the rate, other schedules do not */
};

/* Take an evaluation after `step` with this metric.  NaN is never better. */
void df_best_update(struct df_best *b, const struct df_best_opts *o, double metric, uint64_t step);

#endif
