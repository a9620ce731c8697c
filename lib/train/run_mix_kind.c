/*
 * run_mix_kind.c - a mixture at the places of the training loop (run_dynamic.h).
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/path.h"
#include "train/jsonl.h"
#include "train/run_mix.h"

static void
release(struct df_run *r)
{
	df_run_mix_release(r->dynamic);
	free(r->dynamic);
}

static const char *
method(const struct df_run_mix *x)
{
	return x->mixer ? x->mixer->name : "static_mix";
}

/* A loaded state is of the same mixer and of the same domains. */
static int
check_state(const struct df_run *r, struct df_err *err)
{
	const struct df_dynamic *d = &r->state.dynamic;
	const struct df_run_mix *x = r->dynamic;

	if (strcmp(d->method, method(x)) != 0)
		return df_config_fail(
		    r->c, "component_name", err, "%s is of a run with %s, not %s", r->start, d->method, method(x));
	if (d->n_domains != x->n_domains || d->n_numbers != df_run_mix_count(x))
		return df_fail(err, DF_EFORMAT, "%s: a state of %zu domains and %zu numbers, not %zu and %zu", r->start,
		    d->n_domains, d->n_numbers, x->n_domains, df_run_mix_count(x));
	return DF_OK;
}

static int
init(struct df_run *r, struct df_err *err)
{
	struct df_run_mix *x = NULL;
	int rc;

	DF_TRY(df_alloc(&x, 1, sizeof(*x), "run", err));
	r->dynamic = x;
	DF_TRY(df_run_mix_init(x, r->c, &r->rows, err));
	if (r->start)
		rc = check_state(r, err);
	else
		rc = df_dynamic_init(&r->state.dynamic, method(x), x->n_domains, df_run_mix_count(x), err);
	if (rc == DF_OK && x->mixer && x->mixer->each_step && r->o->weights)
		rc = df_fail(err, DF_EUSAGE, "--weights: %s weighs the losses of each step itself", method(x));
	if (rc == DF_OK && x->mixer && x->mixer->each_step && r->c->use_dft_loss)
		rc = df_config_fail(r->c, "use_dft_loss", err, "%s weighs the losses of each step itself", method(x));
out:
	return rc;
}

static int
open_mix(struct df_run *r, struct df_err *err)
{
	return df_run_mix_open(r->dynamic, r, err);
}

static int
begin(struct df_run *r, struct df_err *err)
{
	const struct df_dynamic *d = &r->state.dynamic;
	struct df_run_mix *x = r->dynamic;
	const bool each_step = x->mixer && x->mixer->each_step;
	int rc;

	if (r->in_window) {
		df_run_mix_restore(x, d->number);
		memcpy(x->p, d->proportions, x->n_domains * sizeof(*x->p));
		memcpy(x->cursor, d->cursor, x->n_domains * sizeof(*x->cursor));
	}
	if (each_step)
		df_stepper_weigh(r->stepper, &x->weigher);
	DF_TRY(df_path_join(&x->log, r->c->output_dir, "mixture_log.jsonl", err));
	/* The line of an event comes after the checkpoint of its step; that of a step, before. */
	rc = df_jsonl_cut(x->log, "step", r->state.step + (each_step && r->state.step > 0), err);
out:
	return rc;
}

static int
event(struct df_run *r, const struct df_event *e, struct df_err *err)
{
	return df_run_mix_event(r->dynamic, r, e, err);
}

static int
window(struct df_run *r, const struct df_event *e, struct df_err *err)
{
	return df_run_mix_redraw(r->dynamic, r, e, err);
}

static int
step(struct df_run *r, struct df_err *err)
{
	(void)err;
	df_run_mix_step(r->dynamic, r);
	return DF_OK;
}

static int
stepped(struct df_run *r, const struct df_step_result *res, struct df_err *err)
{
	return df_run_mix_stepped(r->dynamic, r, res, err);
}

static int
write_log(struct df_run *r, struct df_err *err)
{
	return df_run_mix_log(r->dynamic, r, err);
}

static int
save(struct df_run *r, struct df_err *err)
{
	struct df_dynamic *d = &r->state.dynamic;
	const struct df_run_mix *x = r->dynamic;

	(void)err;
	df_run_mix_numbers(x, d->number);
	memcpy(d->proportions, x->p, x->n_domains * sizeof(*x->p));
	memcpy(d->cursor, x->cursor, x->n_domains * sizeof(*x->cursor));
	return DF_OK;
}

static int
end(struct df_run *r, struct df_err *err)
{
	return df_run_mix_end(r->dynamic, r, err);
}

const struct df_run_kind df_run_kind_mix = {
	.init = init,
	.open = open_mix,
	.begin = begin,
	.event = event,
	.window = window,
	.step = step,
	.stepped = stepped,
	.log = write_log,
	.save = save,
	.end = end,
	.release = release,
};
