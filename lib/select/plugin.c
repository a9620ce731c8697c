/*
 * plugin.c - a method of the user's own: loaded, and not believed.
 */
#include "select/plugin.h"

#include <string.h>

#include "base/plugin.h"

/* ---- the record --------------------------------------------------------------------------- */

static int
check_inputs(const struct df_selector *m, struct df_err *err)
{
	if (m->n_inputs < 1 || m->n_inputs > DF_SELECT_INPUTS || !m->inputs)
		return df_fail(err, DF_EFORMAT, "%zu inputs, there must be 1 to %d", m->n_inputs, DF_SELECT_INPUTS);
	for (size_t i = 0; i < m->n_inputs; i++) {
		const struct df_select_input *in = &m->inputs[i];

		if (!df_plugin_is_word(in->role) || !in->name || !in->help || (unsigned)in->kind >= DF_KIND_COUNT ||
		    (in->n_columns > 0 && !in->columns))
			return df_fail(
			    err, DF_EFORMAT, "input %zu: role, name, help, kind or columns are missing or wrong", i);
		for (size_t c = 0; c < in->n_columns; c++)
			if ((unsigned)in->columns[c] >= DF_COL_COUNT)
				return df_fail(err, DF_EFORMAT, "input '%s': there is no column %d", in->role,
				    (int)in->columns[c]);
	}
	if (strcmp(m->inputs[0].role, "train") != 0)
		return df_fail(err, DF_EFORMAT, "the first input is '%s', it must be 'train'", m->inputs[0].role);
	return DF_OK;
}

static int
check_record(const struct df_selector *m, struct df_err *err)
{
	struct df_err ignored = DF_ERR_INIT;
	const struct df_selector *ours;
	int rc = DF_OK;

	if (!m || !df_plugin_is_word(m->name))
		return df_fail(err, DF_EFORMAT, "its method has no name, or one that is no word");
	if (df_selector_find(&ours, m->name, &ignored) == DF_OK)
		return df_fail(err, DF_EFORMAT, "its method is called '%s', as one of df-score's own", m->name);
	if (!m->about || !m->model || !m->cost || !m->run)
		rc = df_fail(err, DF_EFORMAT, "about, model, cost or run is missing");
	else if (m->shortage <= DF_SHORT_DEFAULT || m->shortage > DF_SHORT_FILL ||
	    (m->shortage == DF_SHORT_FILL && !m->fill))
		rc = df_fail(err, DF_EFORMAT, "shortage must say what happens when there are too few rows");
	else if ((rc = check_inputs(m, err)) == DF_OK)
		rc = df_plugin_check_options(m->options, m->defaults, m->defaults_size, err);
	if (rc != DF_OK)
		df_err_prefix(err, "method '%s': ", m->name);
	return rc;
}

int
df_plugin_load(const struct df_selector **out, const char *path, struct df_err *err)
{
	static const uint32_t ours[] = { DF_PLUGIN_SIZES };
	const struct df_plugin *p;
	const void *symbol;
	int rc;

	if ((rc = df_plugin_open(&symbol, path, "df_plugin", "DF_PLUGIN() of select/plugin.h", ours,
		 sizeof(ours) / sizeof(ours[0]), err)) != DF_OK)
		return rc;
	p = symbol;
	if ((rc = check_record(p->method, err)) != DF_OK)
		df_err_prefix(err, "%s: ", path);
	else
		*out = p->method;
	return rc;
}
