/*
 * select.c - the registry, and what methods do first: learn which rows there are.
 */
#include "select/select.h"

#include <stdlib.h>
#include <string.h>

const struct df_selector *const df_selectors[] = { &df_select_less, &df_select_random, &df_select_static,
	&df_select_custom, NULL };

const struct df_selector *
df_selector_find(const char *name)
{
	for (size_t i = 0; df_selectors[i]; i++)
		if (!strcmp(df_selectors[i]->name, name))
			return df_selectors[i];
	return NULL;
}

void
df_selection_release(struct df_selection *s)
{
	free(s->score);
	free(s->domain);
	free(s->index);
	df_meta_release(&s->meta);
	*s = (struct df_selection)DF_SELECTION_INIT;
}

const char *
df_select_tokens_id(const struct df_meta *m)
{
	const struct df_input *in = df_meta_input(m, "tokens");

	if (m->kind == DF_KIND_TOKENS)
		return m->id[0] ? m->id : NULL;
	return in ? in->id : NULL;
}

int
df_select_rows(const struct df_select_opts *o, struct df_selection *out, struct df_err *err)
{
	struct df_set *set = NULL;
	const struct df_meta *m;
	const char *id;
	int rc = 0;

	if (!o->n_train)
		return df_fail(err, DF_EUSAGE, "--train FILE is needed: it says which rows there are");
	DF_TRY(df_set_open(&set, DF_KIND_ANY, "train set", o->train[0].v, o->train[0].n, err));
	m = df_set_meta(set);
	if (df_set_is_stream(set) || m->kind == DF_KIND_INDEX || m->kind == DF_KIND_WEIGHTS) {
		rc = df_fail(err, DF_EUSAGE, "%s: --train needs a file with one row per sample", df_set_name(set));
		goto out;
	}
	out->n_rows = df_set_rows(set);
	id = df_select_tokens_id(m);
	if (id)
		DF_TRY(df_meta_add_input(&out->meta, "tokens", "tokens", id, err));
	for (size_t i = 0; i < m->n_domains; i++)
		DF_TRY(df_meta_add_domain(&out->meta, m->domains[i], NULL, err));
out:
	df_set_close(set);
	return rc;
}
