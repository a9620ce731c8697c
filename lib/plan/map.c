/*
 * map.c - a configuration to a plan.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "plan/plan_priv.h"

/* Each --model is NAME=DIR. */
static int
check_models(const struct df_map *m, struct df_err *err)
{
	for (size_t i = 0; m->o->models && i < m->o->models->n; i++) {
		const char *word = m->o->models->v[i], *eq = strchr(word, '=');

		if (!eq || eq == word || !eq[1])
			return df_fail(err, DF_EUSAGE, "--model %s: expected NAME=DIR", word);
		if (!df_map_is_model(eq + 1))
			return df_fail(err, DF_ENOINPUT, "--model %s: there is no model in %s", word, eq + 1);
	}
	return DF_OK;
}

static int
set_places(struct df_map *m, struct df_err *err)
{
	const struct df_config *c = m->c;
	struct df_buf settings = DF_BUF_INIT;
	int rc = DF_OK;

	if (!c->model_name_or_path)
		return df_config_fail(c, "model_name_or_path", err, "it is required");
	if (!c->output_dir)
		return df_config_fail(c, "output_dir", err, "it is required: where everything goes");
	m->model = df_map_model(m, c->model_name_or_path);
	if (!df_map_is_model(m->model))
		return df_config_fail(c, "model_name_or_path", err,
		    "there is no model in %s: give --model %s=DIR (nothing is downloaded)", m->model,
		    c->model_name_or_path);
	m->out = m->p->out = df_plan_text(m->p, "%s", c->output_dir);
	df_config_json(c, &settings);
	DF_TRY(df_buf_check(&settings, err));
	m->settings = df_plan_text(m->p, "%s", settings.data);
out:
	df_buf_release(&settings);
	return rc;
}

static int
map(struct df_map *m, struct df_err *err)
{
	const struct df_config *c = m->c;
	int rc = DF_OK;

	DF_TRY(check_models(m, err));
	if (c->export_dir)
		return df_map_merge(m, err);
	DF_TRY(set_places(m, err));
	if (c->ignored)
		df_plan_note(m->p, "no effect here: %s (df-config(5) says why)", c->ignored);
	if (c->overwrite_output_dir)
		df_plan_note(
		    m->p, "overwrite_output_dir: a run goes on with what is there; remove %s to begin anew", m->out);
	switch (c->train_type) {
	case DF_TRAIN_SELECT: DF_TRY(df_map_select(m, err)); break;
	case DF_TRAIN_MIX: DF_TRY(df_map_mix(m, err)); break;
	case DF_TRAIN_WEIGHT: DF_TRY(df_map_weight(m, err)); break;
	case DF_TRAIN_STATIC:
		DF_TRY(df_map_tokens(m, err));
		DF_TRY(df_map_events(m, err));
		DF_TRY(df_map_train(m, err));
	}
	rc = df_map_results(m, err);
out:
	return rc;
}

int
df_plan_make(struct df_plan *out, const struct df_plan_opts *o, const char *path, const char *const *words,
    size_t n_words, struct df_err *err)
{
	struct df_config c = { 0 };
	struct df_map m = { .p = out, .o = o, .c = &c, .path = path };
	const char **all = NULL;
	int rc = DF_OK;

	*out = (struct df_plan)DF_PLAN_INIT;
	DF_TRY(df_alloc(&all, n_words + 1, sizeof(*all), "words", err));
	for (size_t i = 0; i < n_words; i++)
		all[m.n_words++] = words[i];
	if (o->components)
		all[m.n_words++] = df_plan_text(out, "components_cfg_file=%s", o->components);
	m.words = all;
	out->source = df_plan_text(out, "%s", path ? path : "the command line");
	DF_TRY(df_config_load(&c, DF_OWNER_PLAN, path, m.words, m.n_words, err));
	DF_TRY(map(&m, err));
	if (o->price)
		rc = df_plan_price(&m, err);
out:
	df_config_release(&c);
	free(all);
	if (rc != DF_OK)
		df_plan_release(out);
	return rc;
}
