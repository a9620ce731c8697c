/*
 * events.c - the rules of DataFlex's trainers, without their loops.
 *
 * A selection run repeats, in each Flex epoch of P steps: at position 0 draw rows for W steps; at W, W + U, W + 2U, ..
 * ask the selector.  A mixture run is one endless Flex epoch.  So both are the same arithmetic, with P infinite where
 * there are no Flex epochs.
 */
#include <inttypes.h>
#include <math.h>

#include "base/log.h"
#include "config/events.h"

#define STEPS_MAX 1000000000000000ULL /* 10^15, as of the keys: sums of such numbers, and doubles, are exact */
#define ROWS_MAX  1e18
#define PRINT_MAX 1000000 /* events in df_events_print() */

static uint64_t
ceil_div(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

/* *steps = x, if it is a length that a run can have. */
static int
length(const struct df_config *c, const char *key, double x, uint64_t *steps, struct df_err *err)
{
	if (!(x <= (double)STEPS_MAX))
		return df_config_fail(c, key, err, "the run would have more than 10^15 steps");
	*steps = (uint64_t)x;
	return DF_OK;
}

/* *steps = W + U T, which is P of a selection run. */
static int
windows_length(const struct df_config *c, uint64_t *steps, struct df_err *err)
{
	const double x = (double)c->warmup_step + (double)c->update_step * (double)c->update_times;

	return length(c, "update_times", x, steps, err);
}

/* How many updates there are in the n steps of a run or of a Flex epoch. */
static uint64_t
n_updates(const struct df_events *e, uint64_t n)
{
	return n > e->warmup ? ceil_div(n - e->warmup, e->update) : 0;
}

static int
init_select(struct df_events *e, const struct df_config *c, uint64_t n_rows, struct df_err *err)
{
	const uint64_t given = (uint64_t)c->train_step;
	uint64_t in_period;
	int rc = DF_OK;

	if (c->update_times > 0)
		DF_TRY(windows_length(c, &e->period, err));
	else if (given == 0)
		e->period = n_rows > e->per_step ? ceil_div(n_rows, e->per_step) : 1;
	if (given > 0)
		e->max_steps = given;
	else
		DF_TRY(
		    length(c, "num_train_epochs", ceil(c->num_train_epochs * (double)e->period), &e->max_steps, err));
	in_period = n_updates(e, e->period ? e->period : e->max_steps);
	e->times = c->update_times > 0 ? (uint64_t)c->update_times : in_period > 1 ? in_period : 1;
	if (in_period == 0)
		df_warn("warmup_step %" PRIu64 ": nothing is ever selected in %" PRIu64 " steps", e->warmup,
		    e->period ? e->period : e->max_steps);
out:
	return rc;
}

static int
init_mix(struct df_events *e, const struct df_config *c, uint64_t n_rows, struct df_err *err)
{
	const bool by_times = !c->static_mix && c->update_times >= 0;
	const bool dataflex = c->mix_steps == DF_MIX_STEPS_DATAFLEX && by_times;
	const uint64_t given = dataflex ? 0 : (uint64_t)c->train_step,
		       epoch = n_rows > e->per_step ? n_rows / e->per_step : 1;
	int rc = DF_OK;

	e->static_mix = c->static_mix;
	if (given > 0)
		e->max_steps = given;
	else if (by_times)
		DF_TRY(windows_length(c, &e->max_steps, err));
	else
		DF_TRY(length(c, "num_train_epochs", floor((double)epoch * c->num_train_epochs), &e->max_steps, err));
	e->times = e->static_mix ? 0 : n_updates(e, e->max_steps);
out:
	return rc;
}

/* E has no effect where S, or W + U T, is the length; T fixes no number of updates in a mixture run with S. */
static void
warn_unused(const struct df_events *e, const struct df_config *c)
{
	const bool by_times = e->type == DF_TRAIN_MIX && !e->static_mix && c->update_times >= 0;
	const bool passed = by_times && c->mix_steps == DF_MIX_STEPS_DATAFLEX && c->train_step > 0;
	const char *by = c->train_step > 0 && !passed ? "train_step" : "warmup_step + update_step x update_times";

	if (passed && (uint64_t)c->train_step != e->max_steps)
		df_warn("train_step has no effect with mix_steps: dataflex: the run has %" PRIu64 " steps by %s",
		    e->max_steps, by);
	if (df_config_given(c, "num_train_epochs") && c->num_train_epochs != 1 && (c->train_step > 0 || by_times))
		df_warn("num_train_epochs has no effect: the run has %" PRIu64 " steps by %s", e->max_steps, by);
}

/* The most steps whose rows are ever counted. */
static uint64_t
longest(const struct df_events *e)
{
	const uint64_t n = e->warmup > e->update ? e->warmup : e->update;

	return n > e->max_steps ? n : e->max_steps;
}

int
df_events_init(struct df_events *e, const struct df_config *c, uint64_t n_rows, uint64_t per_step,
    uint64_t steps_per_epoch, struct df_err *err)
{
	const bool updates = c->train_type == DF_TRAIN_SELECT || (c->train_type == DF_TRAIN_MIX && !c->static_mix);
	const int64_t given = c->train_type == DF_TRAIN_STATIC || c->train_step == 0 ? c->max_steps : c->train_step;
	int rc = DF_OK;

	*e = (struct df_events){ .type = c->train_type,
		.warmup = (uint64_t)c->warmup_step,
		.update = (uint64_t)c->update_step,
		.per_step = per_step };
	if (updates && e->update == 0)
		return df_config_fail(c, "update_step", err, "must be at least 1: the steps between two updates");
	switch (e->type) {
	case DF_TRAIN_SELECT: DF_TRY(init_select(e, c, n_rows, err)); break;
	case DF_TRAIN_MIX: DF_TRY(init_mix(e, c, n_rows, err)); break;
	case DF_TRAIN_STATIC:
	case DF_TRAIN_WEIGHT:
		if (given > 0)
			e->max_steps = (uint64_t)given;
		else
			DF_TRY(length(c, "num_train_epochs", ceil(c->num_train_epochs * (double)steps_per_epoch),
			    &e->max_steps, err));
	}
	if (e->type != DF_TRAIN_STATIC && (double)per_step * (double)longest(e) > ROWS_MAX)
		return df_config_fail(c, "train_step", err, "a window, or the run, would have more than 10^18 rows");
	if (e->max_steps == 0)
		rc = df_config_fail(
		    c, "train_step", err, "the run has no steps: give train_step, or more of the other keys");
	if (rc == DF_OK && e->type != DF_TRAIN_STATIC)
		warn_unused(e, c);
out:
	return rc;
}

static bool
has_windows(const struct df_events *e)
{
	return e->type == DF_TRAIN_SELECT || e->type == DF_TRAIN_MIX;
}

struct df_event
df_events_window(const struct df_events *e, uint64_t step)
{
	const uint64_t flex = e->period ? step / e->period : 0, start = flex * e->period, p = step - start;
	const bool draws = e->static_mix || p < e->warmup;
	struct df_event v = { .flex_epoch = flex, .kind = draws ? DF_EVENT_DRAW : DF_EVENT_UPDATE };
	uint64_t steps, left;

	if (!has_windows(e) || step >= e->max_steps)
		return (struct df_event){ .kind = DF_EVENT_NONE };
	if (draws) {
		steps = e->static_mix ? e->max_steps : e->warmup;
		v.step = start;
	} else {
		steps = e->update;
		v.ordinal = (p - e->warmup) / e->update + 1;
		v.step = start + e->warmup + (v.ordinal - 1) * e->update;
	}
	v.n_rows = e->per_step * steps;
	left = e->max_steps - v.step;
	if (e->period && start + e->period - v.step < left)
		left = start + e->period - v.step;
	v.end = v.step + (steps < left ? steps : left);
	return v;
}

struct df_event
df_events_at(const struct df_events *e, uint64_t step)
{
	const struct df_event v = df_events_window(e, step);

	return v.step == step ? v : (struct df_event){ .kind = DF_EVENT_NONE };
}

struct df_event
df_events_next(const struct df_events *e, uint64_t step)
{
	const struct df_event v = df_events_window(e, step);

	return v.kind == DF_EVENT_NONE ? v : df_events_window(e, v.end);
}

static const char *
what(const struct df_events *e, enum df_event_kind kind)
{
	if (kind == DF_EVENT_DRAW)
		return e->type == DF_TRAIN_SELECT ? "warm-up" : "initial";
	return e->type == DF_TRAIN_SELECT ? "select" : "mix";
}

void
df_events_print(const struct df_events *e, struct df_buf *out)
{
	uint64_t n = 0;

	df_buf_puts(out, "step\twhat\tflex_epoch\tordinal\trows\tuntil\n");
	for (struct df_event v = df_events_window(e, 0); v.kind != DF_EVENT_NONE; v = df_events_window(e, v.end)) {
		if (++n > PRINT_MAX) {
			df_buf_printf(out, "# and more after step %" PRIu64 "\n", v.step);
			break;
		}
		df_buf_printf(out, "%" PRIu64 "\t%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n", v.step,
		    what(e, v.kind), v.flex_epoch, v.ordinal, v.n_rows, v.end);
	}
	if (e->type == DF_TRAIN_WEIGHT && e->warmup < e->max_steps)
		df_buf_printf(out, "%" PRIu64 "\tweigh\t0\t0\t%" PRIu64 "\t%" PRIu64 "\n", e->warmup,
		    (e->max_steps - e->warmup) * e->per_step, e->max_steps);
	df_buf_printf(out, "%" PRIu64 "\tend\t0\t0\t0\t%" PRIu64 "\n", e->max_steps, e->max_steps);
}
