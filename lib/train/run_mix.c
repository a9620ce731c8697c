/*
 * run_mix.c - windows, sums and the log of a mixture under way.
 */
#include "train/run_mix.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "mix/line.h"
#include "train/jsonl.h"

#define SUMS 5 /* numbers of a struct df_mix_sum */

/* ---- the state ------------------------------------------------------------------ */

static const char *
name_of(const struct df_run_mix *x)
{
	return x->mixer ? x->mixer->name : "static_mix";
}

static void
put_numbers(const struct df_run_mix *x, double *numbers)
{
	memcpy(numbers, x->state, x->n_state * sizeof(*numbers));
	numbers += x->n_state;
	for (size_t i = 0; i < x->n_domains; i++, numbers += SUMS) {
		numbers[0] = (double)x->since[i].n_targets;
		numbers[1] = (double)x->since[i].n;
		numbers[2] = x->since[i].nll;
		numbers[3] = x->since[i].excess;
		numbers[4] = (double)x->since[i].n_excess;
	}
	*numbers = (double)x->n_skipped;
}

static void
get_numbers(struct df_run_mix *x, const double *numbers)
{
	memcpy(x->state, numbers, x->n_state * sizeof(*numbers));
	numbers += x->n_state;
	for (size_t i = 0; i < x->n_domains; i++, numbers += SUMS)
		x->since[i] = (struct df_mix_sum){ .n_targets = (uint64_t)numbers[0],
			.n = (uint64_t)numbers[1],
			.nll = numbers[2],
			.excess = numbers[3],
			.n_excess = (uint64_t)numbers[4] };
	x->n_skipped = (uint64_t)*numbers;
}

static int
save(struct df_run *r, struct df_err *err)
{
	const struct df_run_mix *x = r->dynamic;
	struct df_dynamic *d = &r->state.dynamic;

	(void)err;
	memcpy(d->cursor, x->cursor, x->n_domains * sizeof(*d->cursor));
	memcpy(d->proportions, x->p, x->n_domains * sizeof(*d->proportions));
	put_numbers(x, d->number);
	return DF_OK;
}

/* The state of the checkpoint that the run goes on from; a run that begins gets one. */
static int
load(struct df_run *r, struct df_err *err)
{
	struct df_run_mix *x = r->dynamic;
	const size_t n = x->n_state + SUMS * x->n_domains + 1;
	struct df_dynamic *d = &r->state.dynamic;

	if (r->state.step == 0)
		return df_dynamic_init(d, name_of(x), x->n_domains, n, err);
	if (!d->method || strcmp(d->method, name_of(x)) != 0 || d->n_domains != x->n_domains || d->n_numbers != n)
		return df_fail(err, DF_ELINEAGE,
		    "%s was trained with %s of %zu domains, not with %s of %zu: to train its weights with another mixture "
		    "give %s_name_or_path=%s and a new output_dir",
		    r->start, d->method ? d->method : "no mixture", d->n_domains, name_of(x), x->n_domains,
		    r->c->finetuning_type == DF_FINETUNING_LORA ? "adapter" : "model", r->start);
	memcpy(x->cursor, d->cursor, x->n_domains * sizeof(*x->cursor));
	memcpy(x->p, d->proportions, x->n_domains * sizeof(*x->p));
	get_numbers(x, d->number);
	return DF_OK;
}

/* Excesses over two references do not belong together.  A file and the model that made it are the same reference. */
static int
check_reference(struct df_run *r, struct df_err *err)
{
	const struct df_run_mix *x = r->dynamic;
	const char *kind = x->params.reference_losses ? "losses" : "model";
	const char *path = x->params.reference_losses ? x->params.reference_losses : x->params.reference_model_path;
	struct df_dynamic *d = &r->state.dynamic;
	char *now = NULL;
	int rc;

	DF_TRY(df_asprintf(&now, err, "%s %s", kind, df_reference_id(x->reference)));
	if (d->reference && strcmp(d->reference, now) != 0 && strncmp(d->reference, now, strlen(kind) + 1) == 0) {
		rc = df_fail(err, DF_ELINEAGE,
		    "%s was trained against another reference (%s) than %s (%s): give that again, or "
		    "%s_name_or_path=%s and a new output_dir",
		    r->start, d->reference, path, now,
		    r->c->finetuning_type == DF_FINETUNING_LORA ? "adapter" : "model", r->start);
		goto out;
	}
	if (d->reference && strcmp(d->reference, now) != 0)
		df_info("%s was trained against %s; going on with %s", r->start, d->reference, now);
	free(d->reference);
	d->reference = now;
	now = NULL;
out:
	free(now);
	return rc;
}

/* Initial proportions count at the first step only: those of the run stay, whatever the file says now. */
static int
keep_initial(struct df_run *r, struct df_err *err)
{
	const struct df_run_mix *x = r->dynamic;
	struct df_dynamic *d = &r->state.dynamic;
	int rc = DF_OK;

	if (d->initial) {
		for (size_t i = 0; i < x->n_domains; i++)
			if (!(fabs(d->initial[i] - x->initial[i]) <= 1e-12)) {
				df_warn("init_mixture_proportions: %g of '%s', but %s began with %g, which stays",
				    x->initial[i], x->names ? x->names[i] : "all", r->start, d->initial[i]);
				break;
			}
		return DF_OK;
	}
	DF_TRY(df_alloc(&d->initial, x->n_domains, sizeof(*d->initial), "state", err));
	memcpy(d->initial, x->initial, x->n_domains * sizeof(*d->initial));
out:
	return rc;
}

static int
open_mix(struct df_run *r, struct df_err *err)
{
	int rc;

	DF_TRY(df_run_mix_open(r, err));
	DF_TRY(load(r, err));
	if (((struct df_run_mix *)r->dynamic)->reference)
		DF_TRY(check_reference(r, err));
	rc = keep_initial(r, err);
out:
	return rc;
}

static void
clear_sums(struct df_run_mix *x)
{
	memset(x->since, 0, x->n_domains * sizeof(*x->since));
	x->n_skipped = 0;
}

/* ---- the log -------------------------------------------------------------------- */

static int
add_line(const struct df_run_mix *x, uint64_t step, struct df_err *err)
{
	const struct df_mix_report line = {
		.step = step,
		.method = name_of(x),
		.mixer = x->mixer,
		.options = x->options,
		.state = x->state,
		.n_domains = x->n_domains,
		.names = x->names,
		.p = x->p,
		.weight = x->weigh.alpha,
		.sum = x->since,
		.excess = x->reference != NULL,
		.n_skipped = x->reference ? &x->n_skipped : NULL,
	};
	struct df_buf b = DF_BUF_INIT;
	int rc;

	df_mix_put_line(&b, &line);
	DF_TRY(df_buf_check(&b, err));
	rc = df_jsonl_add(x->log, b.data, b.len, err);
out:
	df_buf_release(&b);
	return rc;
}

static int
write_log(struct df_run *r, struct df_err *err)
{
	struct df_run_mix *x = r->dynamic;
	int rc;

	if (!x->mixer || !x->mixer->each_step)
		return DF_OK;
	if (x->n_skipped > 0)
		df_warn("%" PRIu64
			" targets since the last line of the log have no finite reference loss: left out of the "
			"excess",
		    x->n_skipped);
	if ((rc = add_line(x, r->state.step, err)) == DF_OK)
		clear_sums(x);
	return rc;
}

/* ---- windows -------------------------------------------------------------------- */

static bool
measured(const struct df_run_mix *x)
{
	for (size_t i = 0; i < x->n_domains; i++)
		if (x->since[i].n_targets > 0)
			return true;
	return false;
}

/* What the mixer learns at an event.  Before the first step, losses are of nothing, and nothing is learnt from them. */
static int
update(struct df_run_mix *x, struct df_run *r, struct df_err *err)
{
	const struct df_mixer *m = x->mixer;
	struct df_mix_seen seen = {
		.n_domains = x->n_domains,
		.sum = measured(x) ? x->since : NULL,
		.step = r->state.step,
		.total = r->max_steps,
		.names = x->names,
	};
	int rc = DF_OK;

	if (!m->update || m->each_step || ((m->needs & DF_MIX_NEEDS_LOSSES) && !seen.sum))
		return DF_OK;
	if (m->needs & DF_MIX_NEEDS_LOADS) {
		DF_TRY(df_held_out_loads(&x->held_out, r->model, r->o->pool,
		    (uint64_t)x->params.collect_steps * (uint64_t)x->params.eval_batch_size, x->params.layers, x->load,
		    err));
		seen.load = x->load;
		seen.n_experts = df_model_config(r->model)->moe.n_experts;
	}
	rc = m->update(x->options, x->state, &seen, err);
out:
	return rc;
}

/* The rows of the window, from x->cursor, into the sampler. */
static int
window(struct df_run *r, const struct df_event *e, struct df_err *err)
{
	struct df_run_mix *x = r->dynamic;
	const size_t n = (size_t)e->n_rows;
	int rc;

	DF_TRY(df_grow(&x->rows, &x->cap_rows, n, sizeof(*x->rows), "rows of a window", err));
	memcpy(x->drawn, x->cursor, x->n_domains * sizeof(*x->drawn));
	DF_TRY(df_drawer_draw(x->drawer, x->p, e->step, e->n_rows, x->drawn, x->rows, err));
	df_sampler_set_index(&r->sampler, x->rows, e->n_rows, e->step);
out:
	return rc;
}

static void
tell(const struct df_run_mix *x, const struct df_run *r)
{
	struct df_buf b = DF_BUF_INIT;

	for (size_t i = 0; i < x->n_domains && i < 8; i++)
		df_buf_printf(&b, "  %s %.4f", x->names ? x->names[i] : "all", x->p[i]);
	if (b.data)
		df_info("step %" PRIu64 "/%" PRIu64 "%s%s", r->state.step, r->max_steps, b.data,
		    x->n_domains > 8 ? "  .." : "");
	df_buf_release(&b);
}

static int
event(struct df_run *r, const struct df_event *e, struct df_err *err)
{
	struct df_run_mix *x = r->dynamic;
	int rc;

	memcpy(x->cursor, x->drawn, x->n_domains * sizeof(*x->cursor));
	if (x->mixer && (e->kind == DF_EVENT_UPDATE || x->mixer->each_step)) {
		DF_TRY(update(x, r, err));
		x->mixer->propose(x->options, x->state, x->n_domains, e->step, x->p);
		DF_TRY(df_mix_check(x->mixer, x->p, x->n_domains, x->names, err));
		(void)df_drawer_spread(x->drawer, x->p);
	}
	DF_TRY(window(r, e, err));
	tell(x, r);
	if (x->mixer && x->mixer->each_step)
		goto out;
	DF_TRY(add_line(x, e->step, err));
	clear_sums(x);
out:
	return rc;
}

/*
 * Lines of events are cut from this step on: the event itself comes again.  A line of a mixer that learns from each
 * step is written before the checkpoint, and has then cleared the sums.
 */
static uint64_t
first_line_to_cut(const struct df_run_mix *x, uint64_t step)
{
	const bool written = x->mixer && x->mixer->each_step && step > 0 && !measured(x);

	return written ? step + 1 : step;
}

static int
begin(struct df_run *r, struct df_err *err)
{
	struct df_run_mix *x = r->dynamic;
	int rc;

	DF_TRY(df_path_join(&x->log, r->c->output_dir, "mixture_log.jsonl", err));
	DF_TRY(df_jsonl_cut(x->log, "step", first_line_to_cut(x, r->state.step), err));
	if (x->mixer && x->mixer->each_step)
		df_stepper_weigh(r->stepper, &x->weigher);
out:
	return rc;
}

/* ---- steps ---------------------------------------------------------------------- */

static int
step(struct df_run *r, struct df_err *err)
{
	struct df_run_mix *x = r->dynamic;

	(void)err;
	if (x->mixer && x->mixer->each_step)
		df_domain_weigh_begin(&x->weigh, r->state.step + 1);
	return DF_OK;
}

static int
stepped(struct df_run *r, const struct df_step_result *res, struct df_err *err)
{
	struct df_run_mix *x = r->dynamic;
	const bool weighs = x->mixer && x->mixer->each_step && res->n_targets > 0;

	for (size_t i = 0; i < x->n_domains; i++) {
		struct df_mix_sum *s = &x->since[i];

		s->n_targets += res->domain[i].n_targets;
		s->n += res->domain[i].n;
		s->nll += res->domain[i].nll;
		if (weighs) {
			s->excess += x->weigh.sum[i].excess;
			s->n_excess += x->weigh.sum[i].n_excess;
		}
	}
	if (!weighs)
		return DF_OK;
	x->n_skipped += x->weigh.n_skipped;
	return df_domain_weigh_end(&x->weigh, err);
}

/* ---- the end -------------------------------------------------------------------- */

/* The proportions that the mixer found, as a file for df-mix and init_mixture_proportions. */
static int
write_weights(const struct df_run_mix *x, const struct df_run *r, const double *p, struct df_err *err)
{
	struct df_meta m = DF_META_INIT;
	char *path = NULL;
	int rc;

	DF_TRY(df_path_join(&path, r->c->output_dir, "domain_weights.h5", err));
	DF_TRY(df_meta_set_tool(&m, "df-train", err));
	DF_TRY(df_meta_set_str(&m, "method", name_of(x), err));
	DF_TRY(df_meta_set_int(&m, "step", (int64_t)r->state.step, err));
	if (r->rows.meta.id[0])
		DF_TRY(df_meta_add_input(&m, "tokens", "tokens", r->rows.meta.id, err));
	if (x->reference)
		DF_TRY(df_meta_add_input(&m, "reference", x->params.reference_losses ? "losses" : "checkpoint",
		    df_reference_id(x->reference), err));
	for (size_t i = 0; i < x->n_domains; i++)
		DF_TRY(df_meta_add_domain(&m, x->names ? x->names[i] : "all", NULL, err));
	DF_TRY(df_mix_file_write(path, &m, p, x->state, x->n_state, err));
	df_info("%s: the proportions that %s found", path, name_of(x));
out:
	df_meta_release(&m);
	free(path);
	return rc;
}

static int
end(struct df_run *r, struct df_err *err)
{
	struct df_run_mix *x = r->dynamic;
	double *p = NULL;
	int rc = DF_OK;

	if (!x->mixer || !x->mixer->update)
		return DF_OK;
	if (x->mixer->each_step && measured(x))
		DF_TRY(write_log(r, err));
	DF_TRY(df_alloc(&p, x->n_domains, sizeof(*p), "proportions", err));
	if (x->mixer->result)
		x->mixer->result(x->options, x->state, x->n_domains, p);
	else
		x->mixer->propose(x->options, x->state, x->n_domains, r->state.step, p);
	rc = write_weights(x, r, p, err);
out:
	free(p);
	return rc;
}

static const struct df_component *
component(const struct df_run *r)
{
	return &((const struct df_run_mix *)r->dynamic)->component;
}

const struct df_run_kind df_run_kind_mix = {
	.component = component,
	.init = df_run_mix_init,
	.open = open_mix,
	.begin = begin,
	.event = event,
	.window = window,
	.step = step,
	.stepped = stepped,
	.log = write_log,
	.save = save,
	.end = end,
	.release = df_run_mix_release,
};
