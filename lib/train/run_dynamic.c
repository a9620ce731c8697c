/*
 * run_dynamic.c - events, windows and the state of a dynamic run, whatever its kind.
 */
#include "train/run_dynamic.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"

int
df_run_dynamic_plan(struct df_run *r, struct df_err *err)
{
	r->kind = df_run_kinds[r->c->train_type];
	return df_events_init(
	    &r->events, r->c, r->rows.n, r->sampler.batch * r->sampler.n_accum, r->steps_per_epoch, err);
}

/* Is there an event before the next step that has not happened yet? */
static bool
is_due(const struct df_run *r)
{
	return df_events_at(&r->events, r->state.step).kind != DF_EVENT_NONE &&
	    !(r->in_window && r->state.dynamic.event_step == r->state.step);
}

int
df_run_dynamic_ready(struct df_run *r, struct df_err *err)
{
	const struct df_event e = df_events_window(&r->events, r->state.step);

	if (!r->kind || !r->kind->ready || r->state.step >= r->end || e.kind == DF_EVENT_NONE)
		return DF_OK;
	return r->kind->ready(r, &e, err);
}

/* The train_type of a df_config_json text; a static run's does not say it. */
static int
check_type(const struct df_run *r, struct df_err *err)
{
	const char *now = df_train_type_names[r->c->train_type], *was = df_train_type_names[DF_TRAIN_STATIC];
	struct df_json *j = NULL;
	int rc = DF_OK;

	if (!r->start || !r->state.config)
		return DF_OK;
	DF_TRY(df_json_parse(&j, r->state.config, strlen(r->state.config), r->start, err));
	DF_TRY(df_json_member_str(df_json_root(j), "train_type", was, &was, err));
	if (strcmp(was, now) != 0)
		rc = df_config_fail(r->c, "train_type", err,
		    "%s is of a run with train_type %s, not %s: to train its weights in another way give "
		    "%s_name_or_path=%s and a new output_dir",
		    r->start, was, now, r->c->finetuning_type == DF_FINETUNING_LORA ? "adapter" : "model", r->start);
out:
	df_json_free(j);
	return rc;
}

/* The window that the last step was in: at its end, the next one is not begun yet. */
static struct df_event
last_window(const struct df_run *r)
{
	const uint64_t g = r->state.step;

	return df_events_window(&r->events, g > 0 && (is_due(r) || g == r->max_steps) ? g - 1 : g);
}

/*
 * A run that goes on with other numbers of its schedule may be in a window that is none of theirs: then the rows of
 * that window are not known any more.
 */
static int
check_window(const struct df_run *r, struct df_err *err)
{
	const struct df_event e = last_window(r);

	if (!r->in_window || e.kind == DF_EVENT_NONE || e.step == r->state.dynamic.event_step)
		return DF_OK;
	return df_fail(err, DF_ECONFIG,
	    "%s is in the window after step %" PRIu64
	    "; with the keys that are given now it would be in that after step "
	    "%" PRIu64 ": give those of its run",
	    r->start, r->state.dynamic.event_step, e.step);
}

/* ---- the component's parameters ------------------------------------------------------- */

/* Files that are told by what is in them, not by their path. */
static bool
is_path(const char *param)
{
	return strncmp(param, "reference_", 10) == 0;
}

/* Say what is said of a parameter now, if it is another value than in the state. */
static void
tell_changed(const struct df_run *r, const struct df_component *c, const char *name, const char *was, const char *now)
{
	struct df_err place = DF_ERR_INIT;

	if (is_path(name) || (was && now && strcmp(was, now) == 0))
		return;
	(void)df_fail(&place, DF_ECONFIG, "%s %s is %s, but %s was trained with %s; going on with the new value",
	    c->name, name, now ? now : "not given", r->start, was ? was : "none");
	for (size_t i = 0; i < c->params.n; i++)
		if (strcmp(c->params.v[i].key, name) == 0)
			df_component_place(c, &c->params.v[i], &place);
	df_warn("%s", place.msg);
}

/* A checkpoint knows the parameters that its run had, whichever file they came from. */
static int
compare_params(const struct df_run *r, const struct df_component *c, struct df_err *err)
{
	const char *was = r->state.dynamic.params, *name;
	const struct df_json_member *m = NULL;
	const struct df_json_value *v, *root;
	struct df_json *j = NULL;
	int rc = DF_OK;

	if (!r->start || !was || (strcmp(c->name, r->state.dynamic.method) != 0 && strcmp(c->name, "custom") != 0))
		return DF_OK; /* another method, whose parameters are its own */
	DF_TRY(df_json_parse(&j, was, strlen(was), r->start, err));
	root = df_json_root(j);
	while ((m = df_json_next(root, m, &name, &v)))
		tell_changed(r, c, name, df_json_str(v, NULL), df_component_param(c, name));
	for (size_t i = 0; i < c->params.n; i++) {
		name = c->params.v[i].key;
		if (df_component_param(c, name) && !df_json_get(root, name))
			tell_changed(r, c, name, NULL, df_component_param(c, name));
	}
out:
	df_json_free(j);
	return rc;
}

/* state.dynamic.params = those of c that are not null. */
static int
keep_params(struct df_run *r, const struct df_component *c, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	char *params = NULL;
	int rc;

	for (size_t i = 0; i < c->params.n; i++) {
		const char *name = c->params.v[i].key, *value = df_component_param(c, name);

		if (value)
			df_dynamic_add_param(&b, name, value);
	}
	if ((rc = df_dynamic_take_params(&b, &params, err)) == DF_OK) {
		free(r->state.dynamic.params);
		r->state.dynamic.params = params;
	}
	return rc;
}

static const struct df_component *
component_of(const struct df_run *r)
{
	const struct df_component *c = r->kind->component ? r->kind->component(r) : NULL;

	return c && c->name ? c : NULL;
}

int
df_run_dynamic_init(struct df_run *r, struct df_err *err)
{
	const struct df_train_state *s = &r->state;
	int rc = DF_OK;

	r->window_end = r->end;
	DF_TRY(check_type(r, err));
	if (!r->kind)
		goto out;
	if (r->o->index && !r->kind->takes_index)
		return df_fail(err, DF_EUSAGE, "--index: a run with train_type %s draws its rows itself",
		    df_train_type_names[r->c->train_type]);
	if (r->start && !s->dynamic.method)
		return df_fail(err, DF_EFORMAT, "%s has no state of a dynamic run", r->start);
	r->in_window = r->start != NULL;
	DF_TRY(check_window(r, err));
	DF_TRY(r->kind->init(r, err));
	if (component_of(r))
		DF_TRY(compare_params(r, component_of(r), err));
	rc = df_run_dynamic_ready(r, err);
out:
	return rc;
}

int
df_run_dynamic_begin(struct df_run *r, struct df_err *err)
{
	const struct df_event e = last_window(r);
	int rc = DF_OK;

	if (!r->kind)
		return DF_OK;
	if (r->kind->begin)
		DF_TRY(r->kind->begin(r, err));
	if (component_of(r))
		DF_TRY(keep_params(r, component_of(r), err));
	if (!r->in_window || e.kind == DF_EVENT_NONE)
		goto out;
	if (r->state.step < e.end)
		r->window_end = e.end;
	if (r->kind->window)
		rc = r->kind->window(r, &e, err);
out:
	return rc;
}

int
df_run_dynamic_step(struct df_run *r, struct df_err *err)
{
	const struct df_event e = df_events_at(&r->events, r->state.step);
	int rc = DF_OK;

	if (!r->kind)
		return DF_OK;
	if (is_due(r)) {
		if (r->kind->event)
			DF_TRY(r->kind->event(r, &e, err));
		r->state.dynamic.event_step = e.step;
		r->state.dynamic.flex_epoch = e.flex_epoch;
		r->in_window = true;
		r->window_end = e.end;
	}
	if (r->kind->step)
		rc = r->kind->step(r, err);
out:
	return rc;
}

void
df_run_dynamic_release(struct df_run *r)
{
	if (r->kind && r->dynamic)
		r->kind->release(r);
	r->dynamic = NULL;
}
