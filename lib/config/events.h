/*
 * events.h - when a dynamic run chooses rows or proportions: a pure function of a few numbers.
 *
 * Symbols as in DataFlex: W = warmup_step, U = update_step, T = update_times, S = train_step, E = num_train_epochs,
 * N = rows, B = rows of an optimizer step.  A selection run has Flex epochs of P = W + U T steps: W steps on drawn
 * rows, then T windows of U steps, each on rows that a selector chose.  A mixture run has no Flex epochs: W steps with
 * the initial proportions, then windows of U steps.  A reweighting run is an ordinary one whose weights count from step
 * W+1 on.  df-train, df-plan and `df-train --plan` all ask here.
 */
#ifndef DF_CONFIG_EVENTS_H
#define DF_CONFIG_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "config/config.h"

struct df_events {
	enum df_train_type type;
	bool static_mix;
	uint64_t warmup, update; /* W, U */
	uint64_t period;         /* P; 0: there are no Flex epochs */
	uint64_t max_steps;
	uint64_t times;          /* T, or how many updates fit where T is not above 0 */
	uint64_t per_step;       /* B */
};

enum df_event_kind {
	DF_EVENT_NONE,
	DF_EVENT_DRAW,  /* draw rows: of a warm-up, or of the initial proportions */
	DF_EVENT_UPDATE /* ask the selector or the mixer */
};

/* What happens after `step` steps, before the next one. */
struct df_event {
	enum df_event_kind kind;
	uint64_t step;       /* 0: before the first */
	uint64_t flex_epoch; /* from 0 */
	uint64_t ordinal;    /* of an update, from 1: in its Flex epoch, or in the run if there are none */
	uint64_t n_rows;     /* of the whole window: B W, B U, or B max_steps */
	uint64_t end;        /* the step at which the next event happens, or max_steps */
};

/*
 * The events of a run of configuration c on n_rows rows.  per_step: rows of an optimizer step; steps_per_epoch: of an
 * ordinary epoch, for runs whose length comes from it.  DF_ECONFIG with the key's place: update_step 0, and the like.
 */
int df_events_init(struct df_events *e, const struct df_config *c, uint64_t n_rows, uint64_t per_step,
    uint64_t steps_per_epoch, struct df_err *err) DF_MUST_CHECK;
/* The event after `step` steps; of kind DF_EVENT_NONE if there is none. */
struct df_event df_events_at(const struct df_events *e, uint64_t step);
/* The event whose window has the step after `step` steps; DF_EVENT_NONE: none yet, or the run has no windows. */
struct df_event df_events_window(const struct df_events *e, uint64_t step);
/* The first event after `step`; its kind is DF_EVENT_NONE when there is none before max_steps. */
struct df_event df_events_next(const struct df_events *e, uint64_t step);
/* As text, a line for each: step, what, Flex epoch, ordinal, rows, the step where its window ends. */
void df_events_print(const struct df_events *e, struct df_buf *out);

#endif
