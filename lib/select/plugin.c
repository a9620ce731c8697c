/*
 * plugin.c - a method of the user's own: loaded, and not believed.
 */
#include "select/plugin.h"

#include <stddef.h>
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

static bool
is_ours(const char *name)
{
	struct df_err ignored = DF_ERR_INIT;
	const struct df_selector *ours;

	return df_selector_find(&ours, name, &ignored) == DF_OK;
}

static int
check_record(const void *record, struct df_err *err)
{
	const struct df_selector *m = record;
	int rc;

	if (!m->about || !m->model || !m->cost || !m->run)
		return df_fail(err, DF_EFORMAT, "about, model, cost or run is missing");
	if (m->shortage <= DF_SHORT_DEFAULT || m->shortage > DF_SHORT_FILL ||
	    (m->shortage == DF_SHORT_FILL && !m->fill))
		return df_fail(err, DF_EFORMAT, "shortage must say what happens when there are too few rows");
	if ((rc = check_inputs(m, err)) != DF_OK)
		return rc;
	return df_plugin_check_options(m->options, m->defaults, m->defaults_size, err);
}

int
df_plugin_load(const struct df_selector **out, const char *path, struct df_err *err)
{
	static const uint32_t sizes[] = { DF_PLUGIN_SIZES };
	static const struct df_plugin_kind kind = { .what = "method",
		.owner = "df-score",
		.symbol = "df_plugin",
		.macro = "DF_PLUGIN() of select/plugin.h",
		.sizes = sizes,
		.n_sizes = sizeof(sizes) / sizeof(sizes[0]),
		.at = offsetof(struct df_plugin, method),
		.is_ours = is_ours,
		.check = check_record };
	const void *record;
	int rc = df_plugin_record(&record, path, &kind, err);

	if (rc == DF_OK)
		*out = record;
	return rc;
}
