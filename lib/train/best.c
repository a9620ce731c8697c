/*
 * best.c - three comparisons with the best result so far, each by a rule of its own.
 */
#include "train/best.h"

#include <math.h>

/* Is x better than p->best by more than the threshold?  The first number always is. */
static bool
is_better(const struct df_plateau *p, const struct df_schedule *s, double x)
{
	if (!p->known)
		return !isnan(x);
	if (s->plateau_max)
		return s->plateau_abs ? x > p->best + s->threshold : x > p->best * (s->threshold + 1);
	return s->plateau_abs ? x < p->best - s->threshold : x < p->best * (1 - s->threshold);
}

/* torch.optim.lr_scheduler.ReduceLROnPlateau.step */
static void
plateau_step(struct df_plateau *p, const struct df_schedule *s, double metric)
{
	double lr, next;

	if (is_better(p, s, metric)) {
		p->best = metric;
		p->known = true;
		p->n_bad = 0;
	} else {
		p->n_bad++;
	}
	if (p->cooldown > 0) {
		p->cooldown--;
		p->n_bad = 0;
	}
	if (p->n_bad <= s->plateau_patience)
		return;
	lr = s->lr * p->scale;
	next = fmax(lr * s->plateau_factor, s->plateau_min_lr);
	if (lr - next > s->plateau_eps)
		p->scale = next / s->lr;
	p->cooldown = s->plateau_cooldown;
	p->n_bad = 0;
}

void
df_best_update(struct df_best *b, const struct df_best_opts *o, double metric, uint64_t step)
{
	bool better = !b->known || (o->greater ? metric > b->metric : metric < b->metric);

	if (isnan(metric))
		better = false;
	/* EarlyStoppingCallback compares with the best metric before this evaluation. */
	if (!b->known || (better && fabs(metric - b->metric) > o->min_delta))
		b->patience = 0;
	else
		b->patience++;
	if (o->patience > 0 && b->patience >= o->patience)
		b->stopped = true;
	if (better) {
		b->known = true;
		b->metric = metric;
		b->step = step;
	}
	if (o->schedule->type == DF_SCHEDULE_REDUCE_LR_ON_PLATEAU)
		plateau_step(&b->plateau, o->schedule, metric);
}
