/*
 * run_mix_init.c - what a mixture is made of, before the first step.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/words.h"
#include "train/run_mix.h"

/* ---- the component -------------------------------------------------------------- */

#define AT(field) DF_OPT_AT(struct df_mix_params, field)

static const char *const timings[] = { "auto", "fresh", "stale", NULL };
static const char *const layers[] = { "last", "all", NULL };
static const char *const quotas[] = { "remainder", "dataflex", NULL };
static const char *const draws[] = { "permutation", "iid", NULL };

static const struct df_mix_params defaults = { .eval_samples = 1000, .collect_steps = 10, .eval_batch_size = 32 };

/* clang-format off */
static const struct df_opt run_params[] = {
	{ .name = "quota", .type = DF_OPT_CHOICE, .value = AT(quota), .choices = quotas,
	    .help = "how many rows of each domain" },
	{ .name = "row-draw", .type = DF_OPT_CHOICE, .value = AT(row_draw), .choices = draws,
	    .help = "which rows of a domain" },
	DF_OPT_END };
static const struct df_opt reference_params[] = {
	{ .name = "reference-losses", .type = DF_OPT_STR, .value = AT(reference_losses),
	    .help = "losses of the reference, of df-grad --losses --token-loss" },
	{ .name = "reference-model-path", .type = DF_OPT_STR, .value = AT(reference_model_path),
	    .help = "the reference" },
	{ .name = "timing", .type = DF_OPT_CHOICE, .value = AT(timing), .choices = timings,
	    .help = "which step's weights a step has" },
	DF_OPT_END };
static const struct df_opt load_params[] = {
	{ .name = "eval-samples", .type = DF_OPT_INT, .value = AT(eval_samples), .min = 1, .max = UINT32_MAX,
	    .help = "the most held-out rows of a domain" },
	{ .name = "collect-steps", .type = DF_OPT_INT, .value = AT(collect_steps), .min = 1, .max = UINT32_MAX,
	    .help = "how many times eval_batch_size of them are measured" },
	{ .name = "eval-batch-size", .type = DF_OPT_INT, .value = AT(eval_batch_size), .min = 1, .max = UINT32_MAX,
	    .help = "rows of a measurement" },
	{ .name = "layers", .type = DF_OPT_CHOICE, .value = AT(layers), .choices = layers,
	    .help = "whose loads" },
	DF_OPT_END };
/* clang-format on */

/* Is `param` of the table? */
static bool
is_in(const struct df_opt *table, const char *param)
{
	for (const struct df_opt *o = table; o->name; o++) {
		const char *p = param, *q = o->name;

		while (*p && *q && (*p == *q || (*p == '_' && *q == '-'))) {
			p++;
			q++;
		}
		if (!*p && !*q)
			return true;
	}
	return false;
}

/*
 * Set the values of those parameters that are (or, with `others`, are not) in one of the tables; they go to `table`.
 */
static int
set_some(const struct df_component *from, const struct df_opt *const *tables, bool others, const struct df_opt *table,
    const struct df_opt_alias *alias, void *values, struct df_err *err)
{
	struct df_component part = *from;
	int rc = DF_OK;

	part.params = (struct df_config_map){ 0 };
	DF_TRY(df_alloc(&part.params.v, from->params.n, sizeof(*part.params.v), "parameters", err));
	for (size_t i = 0; i < from->params.n; i++) {
		const struct df_config_pair *param = &from->params.v[i];
		bool ours = false;

		for (const struct df_opt *const *t = tables; *t; t++)
			ours = ours || is_in(*t, param->key);
		if (ours != others)
			part.params.v[part.params.n++] = *param;
	}
	rc = df_component_options(&part, table, alias, values, err);
out:
	free(part.params.v);
	return rc;
}

/* A parameter that is nobody's, and is nearest to one of the run's: the mixer cannot suggest that one. */
static int
check_names(const struct df_run_mix *x, const struct df_opt *const *tables, struct df_err *err)
{
	for (size_t i = 0; i < x->component.params.n; i++) {
		const char *name = x->component.params.v[i].key, *best = NULL;
		const struct df_opt *near = NULL;
		size_t dist = SIZE_MAX;
		bool known = false;

		for (const struct df_opt *o = x->mixer->options; o && o->name; o++)
			df_nearer(name, o->name, &best, &dist);
		for (const struct df_opt_alias *a = x->mixer->alias; a && a->theirs; a++)
			df_nearer(name, a->theirs, &best, &dist);
		for (const struct df_opt *const *t = tables; *t; t++) {
			for (const struct df_opt *o = *t; o->name; o++) {
				const char *was = best;

				df_nearer(name, o->name, &best, &dist);
				near = best != was ? o : near;
			}
			known = known || is_in(*t, name);
		}
		if (near && !known)
			return df_fail(err, DF_ECONFIG, "%s has no parameter %.60s; did you mean %s?",
			    x->component.name, name, near->name);
	}
	return DF_OK;
}

/* The parameters that are the run's, by what the mixer needs, and all others to the mixer. */
static int
take_params(struct df_run_mix *x, struct df_err *err)
{
	const struct df_mixer *m = x->mixer;
	const struct df_opt *tables[4] = { run_params };
	size_t n = 1;
	int rc;

	if (m->needs & DF_MIX_NEEDS_REFERENCE)
		tables[n++] = reference_params;
	if (m->needs & DF_MIX_NEEDS_LOADS)
		tables[n++] = load_params;
	DF_TRY(check_names(x, tables, err));
	for (size_t i = 0; i < n; i++)
		DF_TRY(set_some(&x->component, (const struct df_opt *const[]){ tables[i], NULL }, false, tables[i],
		    NULL, &x->params, err));
	DF_TRY(df_alloc(&x->options, 1, m->defaults_size, "options", err));
	if (m->defaults_size > 0)
		memcpy(x->options, m->defaults, m->defaults_size);
	rc = set_some(&x->component, tables, true, m->options, m->alias, x->options, err);
out:
	return rc;
}

static int
load_component(struct df_run_mix *x, const struct df_config *c, struct df_err *err)
{
	struct df_err why = DF_ERR_INIT;
	int rc;

	DF_TRY(df_component_load(&x->component, c, err));
	if (df_mixer_find(&x->mixer, x->component.name, &why) != DF_OK) {
		rc = df_config_fail(c, "component_name", err, "%s", why.msg);
		goto out;
	}
	DF_TRY(take_params(x, err));
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
		if ((rc = df_mix_read_weights(text, x->names, x->n_domains, x->initial, err)) != DF_OK)
			df_err_prefix(err, "init_mixture_proportions: ");
		return rc;
	}
	rc = df_mix_proportions(text, "init_mixture_proportions", x->n_domains, x->names, x->initial, err);
	if (rc == DF_EUSAGE && err)
		err->code = rc = DF_ECONFIG;
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

int
df_run_mix_init(struct df_run_mix *x, const struct df_config *c, const struct df_rows *rows, struct df_err *err)
{
	int rc;

	*x = (struct df_run_mix){ .params = defaults };
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
out:
	return rc;
}

void
df_run_mix_release(struct df_run_mix *x)
{
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
	*x = (struct df_run_mix){ 0 };
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

int
df_run_mix_open(struct df_run_mix *x, struct df_run *r, struct df_err *err)
{
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
	memcpy(x->p, x->initial, x->n_domains * sizeof(*x->p));
	if (x->mixer && x->mixer->each_step)
		x->mixer->propose(x->options, x->state, x->n_domains, 0, x->p);
	if (x->given && memcmp(x->p, x->initial, x->n_domains * sizeof(*x->p)) != 0)
		df_warn("init_mixture_proportions has no effect: %s draws as many rows of each domain", x->mixer->name);
	rc = df_run_mix_load(x, r, err);
out:
	return rc;
}
