/*
 * map_train.c - what df-train is told, what comes before it where it mixes or weighs, and the results after it.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "mix/params.h"
#include "plan/plan_priv.h"
#include "weigh/params.h"

/* Is the override something that df-train looks at, and not said by the plan itself? */
static bool
is_for_train(const char *word)
{
	static const char *const ours[] = { "model_name_or_path", "tokenized_path", "eval_tokenized_path", "output_dir",
		"overwrite_output_dir" };
	char key[64];
	const size_t n = strcspn(word, ".=");
	const struct df_key *k;
	enum df_key_status s;

	if (n >= sizeof(key))
		return true;
	memcpy(key, word, n);
	key[n] = '\0';
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		if (strcmp(key, ours[i]) == 0)
			return false;
	}
	k = df_key_find(key);
	s = k ? df_key_status(k, DF_OWNER_TRAIN) : DF_KEY_UNKNOWN;
	return s == DF_KEY_SUPPORTED || s == DF_KEY_CHECKED;
}

/* A value as YAML reads it back. */
static const char *
yaml(struct df_plan *p, const char *value)
{
	const size_t n = strlen(value);
	struct df_buf b = DF_BUF_INIT;

	if (n > 0 && !strchr("!&*?|>@`%{}[]'\"#,:~ ", value[0]) && !strstr(value, " #") && !strstr(value, ": ") &&
	    !strchr(": ", value[n - 1]) && strcasecmp(value, "null") != 0)
		return value;
	df_buf_json_str(&b, value);
	if (df_buf_check(&b, NULL) == DF_OK)
		value = df_plan_text(p, "%s", b.data);
	else
		p->failed = true;
	df_buf_release(&b);
	return value;
}

void
df_map_train_words(const struct df_map *m, struct df_plan_node *n)
{
	struct df_plan *p = m->p;
	const struct df_config *c = m->c;

	df_plan_word(p, n, "df-train");
	if (m->path)
		df_plan_word(p, n, "%s", m->path);
	for (size_t i = 0; i < m->n_words; i++) {
		if (is_for_train(m->words[i]))
			df_plan_word(p, n, "%s", m->words[i]);
	}
	if (strcmp(m->model, c->model_name_or_path) != 0 || df_config_line(c, "model_name_or_path") < 0)
		df_plan_word(p, n, "model_name_or_path=%s", yaml(p, m->model));
	df_plan_word(p, n, "tokenized_path=%s", yaml(p, m->pool));
	df_plan_in(p, n, m->pool);
	if (m->held) {
		df_plan_word(p, n, "eval_tokenized_path=%s", yaml(p, m->held));
		df_plan_in(p, n, m->held);
	}
	df_plan_word(p, n, "output_dir=%s", yaml(p, m->out));
	if (c->overwrite_output_dir)
		df_plan_word(p, n, "overwrite_output_dir=false");
}

/* The run's settings, with the parameters that are in another file. */
static const char *
with_params(const struct df_map *m, const struct df_component *c)
{
	const char *s = m->settings;

	for (size_t i = 0; c && i < c->params.n; i++)
		s = df_plan_text(m->p, "%s %s=%s", s, c->params.v[i].key, c->params.v[i].value);
	return s;
}

/* To the end, with these words more. */
static int
train(struct df_map *m, const struct df_component *c, const char *about, const char *const *more, size_t n_more,
    const struct df_strlist *in, struct df_err *err)
{
	struct df_plan_node n = { .name = "train", .about = about };

	df_map_train_words(m, &n);
	for (size_t i = 0; i < n_more; i++)
		df_plan_word(m->p, &n, "%s", more[i]);
	for (size_t i = 0; in && i < in->n; i++)
		df_plan_in(m->p, &n, in->v[i]);
	df_plan_out(m->p, &n, df_map_file(m, "all_results.json"));
	return df_plan_add(m->p, &n, with_params(m, c), err);
}

int
df_map_train(struct df_map *m, struct df_err *err)
{
	return train(m, NULL, "training, to the end", NULL, 0, NULL, err);
}

/* ---- mixtures ------------------------------------------------------------------------- */

static int
count_names(const char *list)
{
	int n = 0;

	for (const char *c = list; *c;) {
		const size_t len = strcspn(c, ",");

		n += len > strspn(c, " \t");
		c += len + (c[len] == ',');
	}
	return n;
}

/* The mixer is known, its parameters are possible, and so are the initial proportions. */
static int
check_mixer(const struct df_map *m, const struct df_component *c, const struct df_mixer **mixer, struct df_err *err)
{
	const char *list = df_map_packed(m, "dataset");
	const size_t n = list ? (size_t)count_names(list) : 0;
	struct df_opt_part part[DF_MIX_PARTS];
	struct df_mix_params params;
	void *values = NULL;
	double *p = NULL;
	int rc;

	DF_TRY(df_alloc(&p, n, sizeof(*p), "proportions", err));
	if ((rc = df_mix_proportions(m->c->init_mixture_proportions, "init_mixture_proportions", n, NULL, p, err)) !=
	    DF_OK) {
		rc = err ? err->code = DF_ECONFIG : DF_ECONFIG;
		if (m->path)
			df_err_prefix(err, "%s:%d: ", m->path, df_config_line(m->c, "init_mixture_proportions"));
	}
	DF_TRY(rc);
	if (!c->name)
		goto out;
	if ((rc = df_mix_pick(mixer, c->name, df_component_param(c, "plugin"), err)) == DF_EUSAGE) {
		rc = err ? err->code = DF_ECONFIG : DF_ECONFIG;
		df_err_prefix(err, "component_name: ");
	}
	DF_TRY(rc);
	DF_TRY(df_opt_defaults(&values, (*mixer)->defaults, (*mixer)->defaults_size, err));
	DF_TRY(df_component_options(c, part, df_mix_parts(*mixer, c->name, values, &params, part), err));
	if ((*mixer)->check && (rc = (*mixer)->check(values, n, err)) != DF_OK) {
		df_err_prefix(err, "component '%s': ", m->c->component_name);
		rc = err ? err->code = DF_ECONFIG : DF_ECONFIG;
	}
out:
	free(values);
	free(p);
	return rc;
}

/* The losses of the reference on all rows, once.  *word: what df-train is told; more files that it reads go to in. */
static int
reference(struct df_map *m, const struct df_component *c, const char **word, struct df_strlist *in, struct df_err *err)
{
	struct df_plan *p = m->p;
	struct df_plan_node n = { .name = "reference", .about = "what each target costs the reference model" };
	const char *given = df_component_param(c, "reference_losses"),
		   *name = df_component_param(c, "reference_model_path");
	const char *model = name ? df_map_model(m, name) : NULL, *path = df_map_file(m, "reference.loss.h5");
	const char *dot = strrchr(path, '.');

	if (given)
		return DF_OK;
	if (!name)
		return df_config_fail(m->c, "component_name", err,
		    "%s needs a reference: its parameter reference_model_path, a model trained with the initial proportions",
		    c->name);
	if (!df_map_is_model(model))
		return df_config_fail(m->c, "component_name", err,
		    "reference_model_path: there is no model in %s: give --model %s=DIR", model, name);
	df_plan_words(p, &n, "df-grad", "-m", model, "--losses", "--token-loss", NULL);
	if (m->o->shards > 1) {
		n.shards = m->o->shards;
		df_plan_words(p, &n, "--shard", DF_PLAN_SHARD, NULL);
		df_plan_out_shards(p, &n, path);
		path = df_plan_text(p, "%.*s.*-of-%05zu%s", (int)(dot - path), path, n.shards, dot);
	} else {
		df_plan_out(p, &n, path);
	}
	df_plan_words(p, &n, m->pool, "-o", df_map_file(m, "reference.loss.h5"), NULL);
	df_plan_in(p, &n, m->pool);
	for (size_t i = 0; i < n.out.n; i++) {
		if (df_grow(&in->v, &in->cap, in->n + 1, sizeof(*in->v), "files", err) != DF_OK)
			return DF_ENOMEM;
		in->v[in->n++] = n.out.v[i];
	}
	*word = df_plan_text(p, "component_params.reference_losses=%s", yaml(p, path));
	return df_plan_add(p, &n, NULL, err);
}

/* Does the run log before it ends?  Where its length is not known, yes. */
static bool
logs(const struct df_map *m)
{
	const struct df_config *c = m->c;
	const double steps = (double)m->p->events.max_steps;

	return steps == 0 || c->logging_first_step || c->logging_strategy == DF_STRATEGY_EPOCH ||
	    (c->logging_strategy == DF_STRATEGY_STEPS && c->logging_steps <= steps);
}

static bool
evaluates(const struct df_map *m)
{
	const struct df_config *c = m->c;
	const double steps = (double)m->p->events.max_steps,
		     each = c->eval_steps > 0 ? c->eval_steps : c->logging_steps;

	return c->eval_strategy == DF_STRATEGY_EPOCH ||
	    (c->eval_strategy == DF_STRATEGY_STEPS && (steps == 0 || each <= steps));
}

/* A log as a picture, if there is something in it. */
static int
plot_log(struct df_map *m, bool something, const char *log, const char *name, const char *about, struct df_err *err)
{
	struct df_plan *p = m->p;
	struct df_plan_node n = { .name = df_plan_text(p, "plot-%s", name), .about = about };
	const char *picture = df_map_file(m, "%s.svg", name);

	if (!something) {
		df_plan_note(p, "no picture %s.svg: logging_steps is beyond the end", name);
		return DF_OK;
	}
	df_plan_words(p, &n, "df-show", "-q", "--plot", picture, df_map_file(m, "%s", log), NULL);
	df_plan_after(p, &n, "train");
	df_plan_out(p, &n, picture);
	return df_plan_add(p, &n, NULL, err);
}

int
df_map_mix(struct df_map *m, struct df_err *err)
{
	const struct df_mixer *mixer = NULL;
	const char *more[2] = { NULL };
	struct df_component c = { 0 };
	struct df_strlist in = { 0 };
	size_t n = 0;
	int rc = DF_OK;

	if (!m->c->static_mix)
		DF_TRY(df_component_load(&c, m->c, err));
	DF_TRY(check_mixer(m, &c, &mixer, err));
	DF_TRY(df_map_tokens(m, err));
	DF_TRY(df_map_events(m, err));
	if (mixer && mixer->needs & DF_MIX_NEEDS_REFERENCE) {
		DF_TRY(reference(m, &c, &more[0], &in, err));
		if (more[0]) {
			more[1] = "component_params.reference_model_path=null";
			n = 2;
		}
	}
	DF_TRY(
	    train(m, &c, m->c->static_mix ? "training with fixed proportions" : "training; the mixer works in its loop",
		more, n, &in, err));
	if (!m->c->static_mix)
		rc = plot_log(m, logs(m), "mixture_log.jsonl", "mixture", "the proportions as a picture", err);
out:
	free(in.v);
	df_component_release(&c);
	return rc;
}

/* ---- weights -------------------------------------------------------------------------- */

int
df_map_weight(struct df_map *m, struct df_err *err)
{
	struct df_opt_part part[DF_WEIGH_PARTS];
	struct df_weigh_params params;
	const struct df_weigher *w;
	struct df_component c = { 0 };
	void *values = NULL;
	int rc;

	DF_TRY(df_component_load(&c, m->c, err));
	if ((rc = df_weigh_pick(&w, c.name, df_component_param(&c, "plugin"), err)) == DF_EUSAGE) {
		rc = err ? err->code = DF_ECONFIG : DF_ECONFIG;
		df_err_prefix(err, "component_name: ");
	}
	DF_TRY(rc);
	DF_TRY(df_opt_defaults(&values, w->defaults, w->defaults_size, err));
	DF_TRY(df_component_options(&c, part, df_weigh_parts(w, c.name, values, &params, part), err));
	if (w->check && (rc = w->check(values, err)) != DF_OK) {
		df_err_prefix(err, "component '%s': ", m->c->component_name);
		rc = err ? err->code = DF_ECONFIG : DF_ECONFIG;
	}
	DF_TRY(rc);
	DF_TRY(df_map_tokens(m, err));
	if (w->states && !m->held) {
		rc = df_config_fail(m->c, "component_name", err,
		    "%s compares samples with the evaluation set: give eval_dataset or val_size", w->name);
		goto out;
	}
	DF_TRY(df_map_events(m, err));
	DF_TRY(train(m, &c, "training; the weigher works in its loop", NULL, 0, NULL, err));
	rc = plot_log(m, logs(m), "weight_log.jsonl", "weights", "the weights as a picture", err);
out:
	free(values);
	df_component_release(&c);
	return rc;
}

/* ---- after it ------------------------------------------------------------------------- */

int
df_map_results(struct df_map *m, struct df_err *err)
{
	struct df_plan *p = m->p;
	struct df_plan_node n = { .name = "eval", .capture = true };
	int rc = DF_OK;

	if (m->held) {
		n.about = "the loss of the final model on what was held out";
		df_plan_words(p, &n, "df-eval", "-m", m->out, m->held, NULL);
		df_plan_after(p, &n, "train");
		df_plan_in(p, &n, m->held);
		df_plan_out(p, &n, df_map_file(m, "eval.txt"));
		DF_TRY(df_plan_add(p, &n, NULL, err));
	}
	rc = plot_log(m, logs(m) || evaluates(m), "trainer_log.jsonl", "loss", "the losses as a picture", err);
out:
	return rc;
}

/* ---- an export ------------------------------------------------------------------------ */

int
df_map_merge(struct df_map *m, struct df_err *err)
{
	static const char *const dtypes[] = { "auto", "float32", "bfloat16", "float16" };
	struct df_plan *p = m->p;
	struct df_plan_node n = { .name = "merge" };
	struct df_config c = { 0 };
	const char *base, *adapter;
	int rc;

	/* what df-merge makes of the keys counts, and what it refuses */
	DF_TRY(df_config_load(&c, DF_OWNER_EXPORT, m->path, m->words, m->n_words, err));
	if (!c.model_name_or_path) {
		rc = df_config_fail(&c, "model_name_or_path", err, "it is required");
		goto out;
	}
	base = df_map_model(m, c.model_name_or_path);
	adapter = c.adapter_name_or_path ? df_map_model(m, c.adapter_name_or_path) : NULL;
	for (int i = 0; i < 2; i++) {
		const char *dir = i ? adapter : base;

		if (!dir || df_map_is_model(dir))
			continue;
		rc = df_config_fail(&c, i ? "adapter_name_or_path" : "model_name_or_path", err,
		    "there is no model in %s: give --model %s=DIR", dir,
		    i ? c.adapter_name_or_path : c.model_name_or_path);
		goto out;
	}
	p->out = df_plan_text(p, "%s.plan", c.export_dir); /* the directory itself appears whole */
	n.whole = true;
	n.about = adapter ? "the adapter merged into its base" : "the model in other files";
	df_plan_words(p, &n, "df-merge", "-m", adapter ? adapter : base, NULL);
	if (adapter)
		df_plan_words(p, &n, "--base", base, NULL);
	df_plan_words(p, &n, "--dtype", dtypes[c.infer_dtype], "--max-shard-size",
	    df_plan_text(p, "%gGB", c.export_size), "-o", c.export_dir, NULL);
	df_plan_out(p, &n, df_plan_text(p, "%s/config.json", c.export_dir));
	rc = df_plan_add(p, &n, NULL, err);
out:
	df_config_release(&c);
	return rc;
}
