/*
 * plugin.c - a mixer of the user's own.
 */
#include "mix/plugin.h"

#include <stddef.h>
#include <string.h>

#include "base/plugin.h"

#define NEEDS (DF_MIX_NEEDS_LOSSES | DF_MIX_NEEDS_REFERENCE | DF_MIX_NEEDS_LOADS)

static bool
is_ours(const char *name)
{
	for (size_t i = 0; df_mixers[i]; i++)
		if (strcmp(df_mixers[i]->name, name) == 0)
			return true;
	return false;
}

static int
check_record(const void *record, struct df_err *err)
{
	const struct df_mixer *m = record;

	if (!m->about || !m->n_state || !m->begin || !m->propose)
		return df_fail(err, DF_EFORMAT, "about, n_state, begin or propose is missing");
	if (m->each_step && (!m->update || !m->weigh))
		return df_fail(err, DF_EFORMAT, "each_step needs update and weigh");
	if (m->needs & ~(unsigned)NEEDS)
		return df_fail(err, DF_EFORMAT, "it needs what there is not: %#x", m->needs & ~(unsigned)NEEDS);
	return df_plugin_check_options(m->options, m->defaults, m->defaults_size, err);
}

int
df_mix_plugin_load(const struct df_mixer **out, const char *path, struct df_err *err)
{
	static const uint32_t sizes[] = { DF_MIXER_SIZES };
	static const struct df_plugin_kind kind = { .what = "mixer",
		.owner = "df-mix",
		.symbol = "df_mix_plugin",
		.macro = "DF_MIXER() of mix/plugin.h",
		.sizes = sizes,
		.n_sizes = sizeof(sizes) / sizeof(sizes[0]),
		.at = offsetof(struct df_mix_plugin, method),
		.is_ours = is_ours,
		.check = check_record };
	const void *record;
	int rc = df_plugin_record(&record, path, &kind, err);

	if (rc == DF_OK)
		*out = record;
	return rc;
}
