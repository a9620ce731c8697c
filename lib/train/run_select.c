/*
 * run_select.c - a run on selected rows: train_type: dynamic_select.
 *
 * The rows of a warm-up are drawn here.  Those of a window are in the index that is given when its event comes: with
 * the checkpoint of that step a selector has chosen them, or, if it needs no model, earlier.  A run that comes to an
 * event without an index of its own ends there, with a checkpoint.
 */
#include "train/run_select.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/mt19937.h"
#include "base/opt.h"
#include "base/permute.h"
#include "base/rng.h"
#include "config/component.h"
#include "train/run_dynamic.h"

struct run_select {
	struct df_component component;
	uint64_t *rows; /* [cap_rows] of the window */
	size_t cap_rows;
	bool used;     /* the index was for an earlier window */
	uint64_t seed; /* of the selector */
};

static void
release(struct df_run *r)
{
	struct run_select *x = r->dynamic;

	df_component_release(&x->component);
	free(x->rows);
	free(x);
}

/* The selector's own seed, or that of the run. */
static int
find_seed(struct run_select *x, const struct df_run *r, struct df_err *err)
{
	const char *own = df_component_param(&x->component, "seed");
	int64_t seed = r->c->seed;
	int rc = DF_OK;

	if (own && (rc = df_parse_int(own, 0, INT64_MAX, &seed, err)) != DF_OK) {
		df_err_prefix(err, "%s: seed: ", x->component.name);
		return rc;
	}
	x->seed = (uint64_t)seed;
	if (r->c->warmup_draw == DF_WARMUP_DATAFLEX && r->rows.n >> 28)
		rc = df_config_fail(
		    r->c, "warmup_draw", err, "DataFlex's draws are reproduced for fewer than 2^28 rows");
	return rc;
}

static int
init(struct df_run *r, struct df_err *err)
{
	struct run_select *x = NULL;
	int rc;

	DF_TRY(df_alloc(&x, 1, sizeof(*x), "run", err));
	r->dynamic = x;
	DF_TRY(df_component_load(&x->component, r->c, err));
	DF_TRY(find_seed(x, r, err));
	if (!r->start)
		rc = df_dynamic_init(&r->state.dynamic, x->component.name, 0, 0, err);
out:
	return rc;
}

/* ---- is there an index for the window? ------------------------------------------------ */

static int
wants_index(const struct df_run *r, const struct df_event *e, struct df_err *err)
{
	const struct run_select *x = r->dynamic;
	char from[64] = "the model";

	if (e->step > 0)
		(void)snprintf(from, sizeof(from), "checkpoint-%" PRIu64, e->step);
	return df_fail(err, DF_EUSAGE,
	    "step %" PRIu64 " of %" PRIu64 ": rows for steps %" PRIu64 " to %" PRIu64 " must be selected%s: "
	    "`df-score %s ... -n %" PRIu64 " --step %" PRIu64
	    " -o FILE' with %s, then the same command with --index FILE "
	    "(df-plan writes all commands)",
	    e->step, r->max_steps, e->step + 1, e->end, x->used ? " anew" : "", x->component.name, e->n_rows, e->step,
	    from);
}

/*
 * The same command given again must not train on the rows of the window before.  A selector may choose the same rows
 * again: then the index says that it is for this step, or --until that this is meant.
 */
static int
check_new(const struct df_run *r, const struct df_event *e, struct df_err *err)
{
	if (r->index_step > 0 && r->index_step != (double)e->step)
		return df_fail(err, DF_ELINEAGE,
		    "%s was selected for step %.0f; the run needs rows for step %" PRIu64 " (%" PRIu64 " rows)",
		    r->o->index, r->index_step, e->step, e->n_rows);
	if (r->index_step != (double)e->step && r->in_window && strcmp(r->state.index_id, r->index_id) == 0 &&
	    r->o->until <= e->step)
		return df_fail(err, DF_EUSAGE,
		    "%s was trained on before step %" PRIu64 ": select anew, or say --until %" PRIu64
		    " if these rows are "
		    "meant again",
		    r->o->index, e->step, e->end);
	return DF_OK;
}

static int
ready(struct df_run *r, const struct df_event *e, struct df_err *err)
{
	const struct df_train_state *s = &r->state;
	const struct run_select *x = r->dynamic;
	const bool inside = r->in_window && s->dynamic.event_step == e->step;

	if (e->kind != DF_EVENT_UPDATE)
		return DF_OK;
	if (!inside)
		return r->o->index && !x->used ? check_new(r, e, err) : wants_index(r, e, err);
	if (!r->o->index)
		return df_fail(err, DF_EUSAGE,
		    "step %" PRIu64 " is in the window of steps %" PRIu64 " to %" PRIu64
		    ", which trains on an index: give "
		    "that again (--index)",
		    s->step, e->step + 1, e->end);
	if (strcmp(s->index_id, r->index_id) != 0)
		return df_fail(err, DF_ELINEAGE,
		    "step %" PRIu64 " is in the window of steps %" PRIu64 " to %" PRIu64
		    ", which trains on another index "
		    "than %s",
		    s->step, e->step + 1, e->end, r->o->index);
	return DF_OK;
}

/* ---- the rows of a window ------------------------------------------------------------- */

/* Append the first m rows of a race. */
static int
draw(const struct df_permute *p, uint32_t n, uint64_t m, uint64_t *rows, struct df_err *err)
{
	uint32_t *order = NULL;
	int rc;

	DF_TRY(df_alloc(&order, n, sizeof(*order), "drawn rows", err));
	DF_TRY(df_permute(p, NULL, n, order, err));
	for (uint64_t i = 0; i < m; i++)
		rows[i] = order[i];
out:
	free(order);
	return rc;
}

/*
 * Rows of a warm-up: without replacement, by race with the Flex epoch as substream.  More than there are: all of them
 * as often as they go, and then the first of the race.  DataFlex draws with replacement, from a generator that begins
 * anew with the selector's seed each time.
 */
static int
draw_warmup(const struct df_run *r, const struct df_event *e, uint64_t *rows, struct df_err *err)
{
	const struct run_select *x = r->dynamic;
	const struct df_permute race = { (uint64_t)r->c->seed, DF_RNG_SAMPLE, (uint32_t)e->flex_epoch, r->rows.id };
	const uint64_t n = r->rows.n;
	int rc;

	if (r->c->warmup_draw == DF_WARMUP_DATAFLEX)
		return df_sample_torch_randint(n, e->n_rows, x->seed, rows, err);
	DF_TRY(draw(&race, (uint32_t)n, n < e->n_rows ? n : e->n_rows, rows, err));
	for (uint64_t i = n; i < e->n_rows; i++)
		rows[i] = rows[i - n];
out:
	return rc;
}

/* The rows of the index, in an order of their own: that of their ranks is not for training. */
static int
take_index(const struct df_run *r, const struct df_event *e, uint64_t n, uint64_t *rows, struct df_err *err)
{
	const struct df_permute race = { (uint64_t)r->c->seed, DF_RNG_SHUFFLE, (uint32_t)e->step, NULL };
	int rc = DF_OK;

	if (r->c->disable_shuffling) {
		memcpy(rows, r->index, (size_t)n * sizeof(*rows));
		goto out;
	}
	DF_TRY(draw(&race, (uint32_t)n, n, rows, err));
	for (uint64_t i = 0; i < n; i++)
		rows[i] = r->index[rows[i]];
out:
	return rc;
}

static int
window(struct df_run *r, const struct df_event *e, struct df_err *err)
{
	struct run_select *x = r->dynamic;
	uint64_t n = e->n_rows;
	int rc;

	if (e->end <= r->state.step)
		return DF_OK; /* it is over: the next one has rows of its own */
	if (e->kind == DF_EVENT_UPDATE && r->n_index < n)
		n = r->n_index;
	if (n > UINT32_MAX)
		return df_fail(err, DF_ERANGE, "a window of %" PRIu64 " rows: at most %u", n, UINT32_MAX);
	DF_TRY(df_grow(&x->rows, &x->cap_rows, (size_t)n, sizeof(*x->rows), "rows of a window", err));
	if (e->kind == DF_EVENT_UPDATE) {
		x->used = true;
		DF_TRY(take_index(r, e, n, x->rows, err));
	} else {
		DF_TRY(draw_warmup(r, e, x->rows, err));
	}
	df_sampler_set_index(&r->sampler, x->rows, n, e->step);
out:
	return rc;
}

static int
event(struct df_run *r, const struct df_event *e, struct df_err *err)
{
	struct df_train_state *s = &r->state;

	s->window = e->step;
	if (e->kind != DF_EVENT_UPDATE) {
		df_info("step %" PRIu64 "/%" PRIu64 "  warm-up: %" PRIu64 " rows drawn for %" PRIu64 " steps", e->step,
		    r->max_steps, e->n_rows, e->end - e->step);
		if (e->n_rows > r->rows.n && r->c->warmup_draw != DF_WARMUP_DATAFLEX)
			df_info("%s has %" PRIu64
				" rows, fewer than the warm-up takes: they come again in the same order",
			    r->rows.name, r->rows.n);
		return window(r, e, err);
	}
	memcpy(s->index_id, r->index_id, sizeof(s->index_id));
	df_info("step %" PRIu64 "/%" PRIu64 "  %s: selection %" PRIu64 " of Flex epoch %" PRIu64 ", %s", e->step,
	    r->max_steps, ((struct run_select *)r->dynamic)->component.name, e->ordinal, e->flex_epoch + 1,
	    r->o->index);
	if (r->n_index != e->n_rows)
		df_warn("%s has %" PRIu64 " rows, but the window takes %" PRIu64 ": %s", r->o->index, r->n_index,
		    e->n_rows, r->n_index < e->n_rows ? "it starts again from its first" : "only the first are used");
	return window(r, e, err);
}

static const struct df_component *
component(const struct df_run *r)
{
	return &((const struct run_select *)r->dynamic)->component;
}

const struct df_run_kind df_run_kind_select = {
	.takes_index = true,
	.component = component,
	.init = init,
	.ready = ready,
	.event = event,
	.window = window,
	.release = release,
};
