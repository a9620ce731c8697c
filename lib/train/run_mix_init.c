/*
 * run_mix_init.c - what a mixture is made of, before the first step.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/inout.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/outdir.h"
#include "train/run_mix.h"

/* ---- the component -------------------------------------------------------------- */

/* The parameters that are the run's, by what the mixer needs, and all others to the mixer. */
static int
take_params(struct df_run_mix *x, struct df_err *err)
{
	struct df_opt_part part[DF_MIX_PARTS];
	const struct df_mixer *m = x->mixer;
	int rc;

	DF_TRY(df_opt_defaults(&x->options, m->defaults, m->defaults_size, err));
	rc = df_component_options(
	    &x->component, part, df_mix_parts(m, x->component.name, x->options, &x->params, part), err);
out:
	return rc;
}

/* The reference is an input: no output may replace it. */
static int
note_files(const struct df_run_mix *x, const struct df_config *c, struct df_err *err)
{
	const struct df_outdir_input model = { "reference_model_path", x->params.reference_model_path };
	int rc = DF_OK;

	if (x->params.reference_losses)
		DF_TRY(df_inout_read(x->params.reference_losses, "reference_losses", err));
	if (model.dir) {
		DF_TRY(df_inout_read(model.dir, model.key, err));
		DF_TRY(df_outdir_check_inputs(c->output_dir, &model, 1, err));
	}
out:
	return rc;
}

static int
load_component(struct df_run_mix *x, const struct df_config *c, struct df_err *err)
{
	struct df_err why = DF_ERR_INIT;
	int rc;

	DF_TRY(df_component_load(&x->component, c, err));
	rc = df_mix_pick(&x->mixer, x->component.name, df_component_param(&x->component, "plugin"), &why);
	if (rc != DF_OK) {
		if (rc == DF_EUSAGE)
			rc = df_config_fail(c, "component_name", err, "%s", why.msg);
		else if (err)
			*err = why;
		goto out;
	}
	DF_TRY(take_params(x, err));
	DF_TRY(note_files(x, c, err));
	x->n_state = x->mixer->n_state(x->n_domains);
	if (x->mixer->check && (rc = x->mixer->check(x->options, x->n_domains, err)) != DF_OK)
		df_err_prefix(err, "component '%s': ", c->component_name);
	if (rc == DF_OK && x->mixer->update && !x->mixer->each_step && c->mixture_sample_rule != DF_MIX_RULE_MIXTURE)
		rc = df_config_fail(c, "mixture_sample_rule", err,
		    "%s would keep its proportions, but %s changes them: give mixture, or static_mix: true",
		    df_mix_rule_names[c->mixture_sample_rule], x->mixer->name);
out:
	return rc;
}

/* ---- proportions ---------------------------------------------------------------- */

static size_t
count_domains(const struct df_rows *rows)
{
	uint16_t last = 0;

	for (uint64_t i = 0; i < rows->n; i++)
		last = df_rows_domain(rows, i) > last ? df_rows_domain(rows, i) : last;
	return (size_t)last + 1;
}

/* init_mixture_proportions: numbers in the order of the domains, or a file that names its domains. */
static int
given_proportions(struct df_run_mix *x, const struct df_config *c, struct df_err *err)
{
	const char *text = c->init_mixture_proportions, *end = text ? strrchr(text, '.') : NULL;
	int rc;

	if (end && strcmp(end, ".h5") == 0) {
		DF_TRY(df_inout_read(text, "init_mixture_proportions", err));
		if ((rc = df_mix_read_weights(text, x->names, x->n_domains, x->initial, err)) != DF_OK)
			df_err_prefix(err, "init_mixture_proportions: ");
		return rc;
	}
	rc = df_mix_proportions(text, "init_mixture_proportions", x->n_domains, x->names, x->initial, err);
	if (rc == DF_EUSAGE && err)
		err->code = rc = DF_ECONFIG;
out:
	return rc;
}

static int
initial_proportions(struct df_run_mix *x, const struct df_config *c, const struct df_rows *rows, struct df_err *err)
{
	int rc = DF_OK;

	switch (c->mixture_sample_rule) {
	case DF_MIX_RULE_STRATIFIED:
		for (uint64_t i = 0; i < rows->n; i++)
			x->initial[df_rows_domain(rows, i)]++;
		for (size_t i = 0; i < x->n_domains; i++)
			x->initial[i] /= (double)rows->n;
		break;
	case DF_MIX_RULE_UNIFORM:
		for (size_t i = 0; i < x->n_domains; i++)
			x->initial[i] = 1 / (double)x->n_domains;
		break;
	case DF_MIX_RULE_MIXTURE: x->given = c->init_mixture_proportions != NULL; rc = given_proportions(x, c, err);
	}
	if (rc == DF_OK && c->init_mixture_proportions && !x->given)
		df_warn("init_mixture_proportions has no effect: mixture_sample_rule is %s",
		    df_mix_rule_names[c->mixture_sample_rule]);
	return rc;
}

/* A mixer that weighs the losses itself can have no other weights beside it. */
static int
check_weights(const struct df_run_mix *x, const struct df_run *r, struct df_err *err)
{
	if (!x->mixer || !x->mixer->each_step)
		return DF_OK;
	if (r->o->weights)
		return df_fail(err, DF_EUSAGE, "--weights: %s weighs the losses of each step itself", x->mixer->name);
	if (r->c->use_dft_loss)
		return df_config_fail(
		    r->c, "use_dft_loss", err, "%s weighs the losses of each step itself", x->mixer->name);
	return DF_OK;
}

int
df_run_mix_init(struct df_run *r, struct df_err *err)
{
	const struct df_rows *rows = &r->rows;
	const struct df_config *c = r->c;
	struct df_run_mix *x = NULL;
	int rc;

	DF_TRY(df_alloc(&x, 1, sizeof(*x), "run", err));
	r->dynamic = x;
	x->n_domains = count_domains(rows);
	x->names = rows->meta.domains;
	if (x->n_domains > (rows->meta.n_domains > 0 ? rows->meta.n_domains : 1)) {
		rc = df_fail(err, DF_EFORMAT, "%s: a sample has domain %zu of %zu", rows->name, x->n_domains - 1,
		    rows->meta.n_domains);
		goto out;
	}
	if (rows->meta.n_domains == 0)
		df_info("%s has no domains: all samples are of one", rows->name);
	DF_TRY(df_alloc(&x->initial, x->n_domains, sizeof(*x->initial), "proportions", err));
	DF_TRY(df_alloc(&x->p, x->n_domains, sizeof(*x->p), "proportions", err));
	DF_TRY(df_alloc(&x->cursor, x->n_domains, sizeof(*x->cursor), "proportions", err));
	DF_TRY(df_alloc(&x->drawn, x->n_domains, sizeof(*x->drawn), "proportions", err));
	DF_TRY(df_alloc(&x->since, x->n_domains, sizeof(*x->since), "domains", err));
	DF_TRY(initial_proportions(x, c, rows, err));
	if (!c->static_mix)
		DF_TRY(load_component(x, c, err));
	DF_TRY(df_alloc(&x->state, x->n_state, sizeof(*x->state), "a mixer's state", err));
	rc = check_weights(x, r, err);
out:
	return rc;
}

void
df_run_mix_release(struct df_run *r)
{
	struct df_run_mix *x = r->dynamic;

	df_component_release(&x->component);
	df_drawer_free(x->drawer);
	df_held_out_release(&x->held_out);
	if (x->has_eval_rows)
		df_rows_release(&x->eval_rows);
	df_domain_weigh_release(&x->weigh);
	df_reference_close(x->reference);
	free(x->options);
	free(x->initial);
	free(x->p);
	free(x->cursor);
	free(x->drawn);
	free(x->state);
	free(x->since);
	free(x->rows);
	free(x->load);
	free(x->log);
	free(x);
}

/* ---- what needs the model ------------------------------------------------------- */

/* Held-out rows: those of mixer_eval_dataset among the evaluation tokens, or a part of the training rows. */
static int
open_held_out(struct df_run_mix *x, struct df_run *r, struct df_err *err)
{
	const struct df_config *c = r->c;
	const uint64_t most = (uint64_t)x->params.eval_samples;
	const char *const paths[] = { c->eval_tokenized_path };
	const struct df_rows *rows = &r->eval_rows;
	int rc;

	if (df_model_config(r->model)->moe.n_experts == 0)
		return df_config_fail(c, "component_name", err,
		    "%s compares loads of experts, but %s has none: it is a dense model", x->mixer->name,
		    c->model_name_or_path);
	DF_TRY(df_alloc(&x->load, x->n_domains * df_model_config(r->model)->moe.n_experts, sizeof(*x->load),
	    "loads of experts", err));
	if (!c->freeze_gate)
		df_info("%s: the routers train, too (freeze_gate: true freezes them)", x->mixer->name);
	if (!c->mixer_eval_dataset) {
		rc = df_held_out_reserve(&x->held_out, &r->rows, x->n_domains, most, (uint64_t)c->seed, err);
		goto out;
	}
	if (!c->eval_tokenized_path)
		return df_config_fail(
		    c, "mixer_eval_dataset", err, "needs eval_tokenized_path, the tokens of these datasets");
	if (!r->has_eval) {
		DF_TRY(df_rows_load(&x->eval_rows, "evaluation tokens", paths, 1, err));
		x->has_eval_rows = true;
		DF_TRY(
		    df_rows_check_vocab(&x->eval_rows, df_model_config(r->model)->n_vocab, c->model_name_or_path, err));
		rows = &x->eval_rows;
	}
	rc = df_held_out_named(
	    &x->held_out, rows, c->mixer_eval_dataset, x->names, x->n_domains, most, (uint64_t)c->seed, err);
	if (rc == DF_EUSAGE && err) {
		df_err_prefix(err, "mixer_eval_dataset: ");
		err->code = rc = DF_ECONFIG;
	}
out:
	return rc;
}

static int
open_reference(struct df_run_mix *x, struct df_run *r, struct df_err *err)
{
	const struct df_mix_params *p = &x->params;

	if (!p->reference_losses == !p->reference_model_path)
		return df_config_fail(r->c, "component_name", err,
		    "%s needs %s: component_params.reference_losses (of df-grad --losses --token-loss) or "
		    "component_params.reference_model_path",
		    x->mixer->name, p->reference_losses ? "one reference, not two" : "a reference");
	if (p->reference_losses)
		return df_reference_open_file(&x->reference, p->reference_losses, &r->rows, err);
	return df_reference_open_model(
	    &x->reference, p->reference_model_path, &r->rows, r->o->backend, r->o->pool, err);
}

/* A step is weighed with weights learned from it if all of its losses are known before the first backward. */
static int
open_weigh(struct df_run_mix *x, const struct df_run *r, struct df_err *err)
{
	const bool one = r->sampler.n_accum == 1;

	x->weigh = (struct df_domain_weigh){
		.mixer = x->mixer,
		.options = x->options,
		.state = x->state,
		.p = x->p,
		.names = x->names,
		.n_domains = x->n_domains,
		.reference = x->reference,
		.fresh = x->params.timing == DF_MIX_FRESH || (x->params.timing == DF_MIX_AUTO && one),
		.total = r->max_steps,
	};
	x->weigher = (struct df_step_weigher){ df_domain_weigh_group, &x->weigh, x->weigh.fresh };
	if (x->params.timing == DF_MIX_AUTO && !one)
		df_info("%s: a step of %" PRIu64 " micro-batches has the weights of the step before it (timing: stale)",
		    x->mixer->name, r->sampler.n_accum);
	return df_domain_weigh_init(&x->weigh, err);
}

static int
open_drawer(struct df_run_mix *x, const struct df_run *r, struct df_err *err)
{
	const struct df_drawer_opts o = {
		.n_rows = r->rows.n,
		.ids = r->rows.id,
		.domain = r->rows.domain,
		.leave = x->held_out.reserved,
		.names = x->names,
		.n_domains = x->n_domains,
		.seed = (uint64_t)r->c->seed,
		.shuffle = !r->c->disable_shuffling,
		.dataflex_quota = x->params.quota,
		.iid = x->params.row_draw,
	};
	int rc;

	DF_TRY(df_drawer_new(&x->drawer, &o, err));
	for (size_t i = 0; x->given && i < x->n_domains; i++)
		if (x->initial[i] > 0 && df_drawer_rows(x->drawer, i) == 0)
			return df_config_fail(r->c, "init_mixture_proportions", err,
			    "%g of '%s', but %s has no rows of it to train on", x->initial[i],
			    x->names ? x->names[i] : "", r->rows.name);
	(void)df_drawer_spread(x->drawer, x->initial);
out:
	return rc;
}

/*
 * A rule other than `mixture` keeps its proportions in DataFlex, whatever the mixer says.  Ours would follow the mixer
 * from the first update on: so where they differ, the user says which.  load_component() has refused mixers that learn.
 */
static int
check_rule(struct df_run_mix *x, const struct df_config *c, struct df_err *err)
{
	if (!x->mixer || c->mixture_sample_rule == DF_MIX_RULE_MIXTURE)
		return DF_OK;
	x->mixer->propose(x->options, x->state, x->n_domains, 0, x->p);
	for (size_t i = 0; i < x->n_domains; i++)
		if (fabs(x->p[i] - x->initial[i]) > 1e-12)
			return df_config_fail(c, "mixture_sample_rule", err,
			    "%s would keep its proportions, but %s has its own: give mixture, or static_mix: true",
			    df_mix_rule_names[c->mixture_sample_rule], x->mixer->name);
	return DF_OK;
}

int
df_run_mix_open(struct df_run *r, struct df_err *err)
{
	struct df_run_mix *x = r->dynamic;
	const unsigned needs = x->mixer ? x->mixer->needs : 0;
	int rc = DF_OK;

	if (needs & DF_MIX_NEEDS_LOADS)
		DF_TRY(open_held_out(x, r, err));
	if (needs & DF_MIX_NEEDS_REFERENCE)
		DF_TRY(open_reference(x, r, err));
	DF_TRY(open_drawer(x, r, err));
	if (x->mixer && x->mixer->each_step)
		DF_TRY(open_weigh(x, r, err));
	if (x->mixer && (rc = x->mixer->begin(x->options, x->initial, x->n_domains, x->state, err)) != DF_OK) {
		df_err_prefix(err, "%s: ", x->mixer->name);
		goto out;
	}
	DF_TRY(check_rule(x, r->c, err));
	memcpy(x->p, x->initial, x->n_domains * sizeof(*x->p));
	if (x->mixer && x->mixer->each_step)
		x->mixer->propose(x->options, x->state, x->n_domains, 0, x->p);
	if (x->given && memcmp(x->p, x->initial, x->n_domains * sizeof(*x->p)) != 0)
		df_warn("init_mixture_proportions has no effect: %s draws as many rows of each domain", x->mixer->name);
out:
	return rc;
}
