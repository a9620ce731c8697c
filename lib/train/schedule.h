/*
 * schedule.h - the learning rate of each step, as transformers' get_scheduler computes it (with
 * LLaMA-Factory's defaults for warmup_stable_decay).
 *
 * A schedule is a pure function of the step index, so a checkpoint need not store it; train/best.h is
 * about how evaluations change the rate.
 */
#ifndef DF_TRAIN_SCHEDULE_H
#define DF_TRAIN_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "config/config.h"

enum df_schedule_curve { DF_CURVE_LINEAR, DF_CURVE_COSINE, DF_CURVE_1_SQRT };

struct df_schedule {
	enum df_schedule_type type;
	double lr;                  /* learning_rate */
	uint64_t n_steps, n_warmup; /* of the whole run */
	double n_cycles;            /* cosine family */
	double lr_end, power;       /* polynomial */
	double timescale;           /* inverse_sqrt */
	double min_rate;            /* cosine_with_min_lr, warmup_stable_decay: lowest factor */
	uint64_t n_stable, n_decay; /* warmup_stable_decay */
	enum df_schedule_curve warmup, decay;
	/* reduce_lr_on_plateau: PyTorch's arguments */
	bool plateau_max, plateau_abs;  /* mode max, threshold_mode abs */
	double plateau_factor, threshold, plateau_min_lr, plateau_eps;
	uint64_t plateau_patience, plateau_cooldown;
};

/*
 * type, kwargs: lr_scheduler_type and lr_scheduler_kwargs.  n_warmup is warmup_steps when above 0, else
 * ceil(n_steps * warmup_ratio).  DF_ECONFIG for a member that the schedule does not have, or a missing or
 * impossible one.
 */
int df_schedule_init(struct df_schedule *s, enum df_schedule_type type, const struct df_config_map *kwargs,
    double lr, uint64_t n_steps, int64_t warmup_steps, double warmup_ratio, struct df_err *err) DF_MUST_CHECK;

/* The learning rate of the step with index i (from 0: the first optimizer step). */
double df_schedule_lr(const struct df_schedule *s, uint64_t i);

#endif
