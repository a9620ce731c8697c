/*
 * run_dynamic.h - what a dynamic run does at fixed places of the training loop (train.c).
 *
 *     init       the configuration, tokens and state are known, nothing else: everything that needs no model is checked
 *     open       the model is there
 *     begin      the stepper and the logs are there: take the numbers of a loaded state, cut the log back
 *     event      before a step: rows or proportions are chosen (config/events.h), the state changes, and r->sampler
 *                follows the rows of the window
 *     window     where a run goes on inside a window, or at its end: its rows again, from the state alone
 *     step       before each step; stepped: after it, with what it measured
 *     log        at logging_steps, and after the last step
 *     save       before a checkpoint: numbers into the state.  A checkpoint is saved before the event of its step
 *     end        the run is over
 *
 * A kind is a const record: run_select.c, run_mix.c, run_weigh.c.  Its own data is r->dynamic.  All functions but init
 * and release may be NULL.
 */
#ifndef DF_TRAIN_RUN_DYNAMIC_H
#define DF_TRAIN_RUN_DYNAMIC_H

#include "config/component.h"
#include "config/events.h"
#include "train/run_priv.h"

struct df_run_kind {
	bool takes_index; /* --index makes sense */
	bool weighs;      /* --weights are for its method, not for the stepper */
	int (*init)(struct df_run *r, struct df_err *err);
	int (*open)(struct df_run *r, struct df_err *err);
	int (*begin)(struct df_run *r, struct df_err *err);
	/* Has the run what it needs for the steps of this window?  Before anything is trained, and at its event. */
	int (*ready)(struct df_run *r, const struct df_event *e, struct df_err *err);
	/* DF_ESTOPPED: a signal came; nothing has changed. */
	int (*event)(struct df_run *r, const struct df_event *e, struct df_err *err);
	int (*window)(struct df_run *r, const struct df_event *e, struct df_err *err);
	int (*step)(struct df_run *r, struct df_err *err);
	int (*stepped)(struct df_run *r, const struct df_step_result *res, struct df_err *err);
	int (*log)(struct df_run *r, struct df_err *err);
	int (*save)(struct df_run *r, struct df_err *err);
	int (*end)(struct df_run *r, struct df_err *err);
	void (*release)(struct df_run *r);
	/* The component that the run has, after init; NULL: none. */
	const struct df_component *(*component)(const struct df_run *r);
};

/* The kind of each train_type; NULL for static.  In run_kinds.c. */
extern const struct df_run_kind *const df_run_kinds[];

/*
 * r->events and r->kind, from the configuration: after the tokens are loaded.  Then, when the state is known, all that
 * is checked before the model is opened: the state is of this train_type, the window has its rows.
 */
int df_run_dynamic_plan(struct df_run *r, struct df_err *err) DF_MUST_CHECK;
int df_run_dynamic_init(struct df_run *r, struct df_err *err) DF_MUST_CHECK;
int df_run_dynamic_begin(struct df_run *r, struct df_err *err) DF_MUST_CHECK;
void df_run_dynamic_release(struct df_run *r);

/* Can the next step be trained?  If not, the run ends here, with a checkpoint, and the error says what to do. */
int df_run_dynamic_ready(struct df_run *r, struct df_err *err) DF_MUST_CHECK;
/* Before each step: what is due; then r->sampler has the rows of the window, up to r->window_end. */
int df_run_dynamic_step(struct df_run *r, struct df_err *err) DF_MUST_CHECK;

#endif
