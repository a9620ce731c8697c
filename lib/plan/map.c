/*
 * map.c - a configuration to a plan.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "plan/plan_priv.h"

const char *
df_map_file(const struct df_map *m, const char *fmt, ...)
{
	char *name = NULL;
	const char *path = "";
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&name, fmt, ap) < 0)
		m->p->failed = true;
	else
		path = df_plan_text(m->p, "%s/%s", m->out, name);
	va_end(ap);
	free(name);
	return path;
}

/* The directory that stands for the model `name`: what --model says, or the name itself. */
static const char *
model_dir(const struct df_map *m, const char *name)
{
	const size_t n = strlen(name);

	for (size_t i = 0; m->o->models && i < m->o->models->n; i++) {
		const char *word = m->o->models->v[i];

		if (strncmp(word, name, n) == 0 && word[n] == '=')
			return df_plan_text(m->p, "%s", word + n + 1);
	}
	return df_plan_text(m->p, "%s", name);
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
	m->model = model_dir(m, c->model_name_or_path);
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
	int rc = DF_OK;

	DF_TRY(set_places(m, err));
	if (m->c->ignored)
		df_plan_note(m->p, "no effect here: %s (df-config(5) says why)", m->c->ignored);
	DF_TRY(df_map_tokens(m, err));
	DF_TRY(df_map_train(m, err));
	rc = df_map_results(m, err);
out:
	return rc;
}

int
df_plan_make(struct df_plan *out, const struct df_plan_opts *o, const char *path, const char *const *words,
    size_t n_words, struct df_err *err)
{
	struct df_config c = { 0 };
	struct df_map m = { .p = out, .o = o, .c = &c, .path = path, .words = words, .n_words = n_words };
	int rc = DF_OK;

	*out = (struct df_plan)DF_PLAN_INIT;
	out->source = df_plan_text(out, "%s", path ? path : "the command line");
	DF_TRY(df_config_load(&c, DF_OWNER_PLAN, path, words, n_words, err));
	DF_TRY(map(&m, err));
	if (o->price)
		rc = df_plan_price(&m, err);
out:
	df_config_release(&c);
	if (rc != DF_OK)
		df_plan_release(out);
	return rc;
}
