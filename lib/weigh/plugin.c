/*
 * plugin.c - a weigher of the user's own.
 */
#include "weigh/plugin.h"

#include <stddef.h>
#include <string.h>

#include "base/plugin.h"

static bool
is_ours(const char *name)
{
	for (size_t i = 0; df_weighers[i]; i++)
		if (strcmp(df_weighers[i]->name, name) == 0)
			return true;
	return false;
}

static int
check_record(const void *record, struct df_err *err)
{
	const struct df_weigher *m = record;

	if (!m->about || !m->weights)
		return df_fail(err, DF_EFORMAT, "about or weights is missing");
	if (m->states && (!m->anchor_add || !m->anchor_end))
		return df_fail(err, DF_EFORMAT, "states needs anchor_add and anchor_end");
	return df_plugin_check_options(m->options, m->defaults, m->defaults_size, err);
}

int
df_weigh_plugin_load(const struct df_weigher **out, const char *path, struct df_err *err)
{
	static const uint32_t sizes[] = { DF_WEIGHER_SIZES };
	static const struct df_plugin_kind kind = { .what = "weigher",
		.owner = "df-train",
		.symbol = "df_weigh_plugin",
		.macro = "DF_WEIGHER() of weigh/plugin.h",
		.sizes = sizes,
		.n_sizes = sizeof(sizes) / sizeof(sizes[0]),
		.at = offsetof(struct df_weigh_plugin, method),
		.is_ours = is_ours,
		.check = check_record };
	const void *record;
	int rc = df_plugin_record(&record, path, &kind, err);

	if (rc == DF_OK)
		*out = record;
	return rc;
}
