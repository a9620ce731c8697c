/*
 * map_data.c - datasets to tokens: keys that are options of df-pack.
 */
#include <string.h>

#include "base/file.h"
#include "plan/plan_priv.h"

const char *
df_map_packed(const struct df_map *m, const char *key)
{
	const struct df_config_map *p = &m->c->packed;

	for (size_t i = 0; i < p->n; i++) {
		if (strcmp(p->v[i].key, key) == 0)
			return *p->v[i].value ? p->v[i].value : NULL;
	}
	return NULL;
}

/* The option of a key that has this value. */
static void
put_option(const struct df_map *m, struct df_plan_node *n, const struct df_key *k, const char *value)
{
	if (!k->is_switch)
		df_plan_words(m->p, n, df_plan_text(m->p, "--%s", k->option), value, NULL);
	else
		df_plan_word(m->p, n, "--%s%s", strcmp(value, "true") == 0 ? "" : "no-", k->option);
}

/* df-pack's words, in the order of the table of keys. */
static void
put_options(const struct df_map *m, struct df_plan_node *n)
{
	for (const struct df_key *k = df_keys(); k->name; k++) {
		const char *value = df_map_packed(m, k->name);

		if (strcmp(k->name, "dataset_dir") == 0)
			value = m->o->data ? m->o->data : value;
		if (k->owners & DF_OWNER_PACK && df_key_status(k, DF_OWNER_PLAN) == DF_KEY_CHECKED && value)
			put_option(m, n, k, value);
	}
	if (m->c->stage == DF_CONFIG_PT)
		df_plan_words(m->p, n, "--stage", "pt", NULL);
	if (df_config_line(m->c, "seed") != 0)
		df_plan_word(m->p, n, "--seed"), df_plan_word(m->p, n, "%lld", (long long)m->c->seed);
}

int
df_map_tokens(struct df_map *m, struct df_err *err)
{
	struct df_plan *p = m->p;
	struct df_plan_node n = { .name = "pack", .about = "tokens" };
	const bool held = df_map_packed(m, "eval_dataset") || df_map_packed(m, "val_size");

	if (!df_map_packed(m, "dataset"))
		return df_config_fail(m->c, "dataset", err, "it is required: the datasets to train on");
	m->pool = df_map_file(m, "pool.h5");
	df_plan_word(p, &n, "df-pack");
	put_options(m, &n);
	df_plan_words(p, &n, "--tokenizer", m->o->tokenizer ? m->o->tokenizer : m->model, NULL);
	if (held) {
		m->held = df_map_file(m, "eval.h5");
		df_plan_words(p, &n, "--holdout-output", m->held, NULL);
	}
	df_plan_words(p, &n, "-o", m->pool, NULL);
	df_plan_out(p, &n, m->pool);
	if (held)
		df_plan_out(p, &n, m->held);
	return df_plan_add(p, &n, NULL, err);
}
