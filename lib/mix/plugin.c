/*
 * plugin.c - a mixer of the user's own.
 */
#include "mix/plugin.h"

#include <string.h>

#include "base/plugin.h"

#define NEEDS (DF_MIX_NEEDS_LOSSES | DF_MIX_NEEDS_REFERENCE | DF_MIX_NEEDS_LOADS)

static int
check_record(const struct df_mixer *m, struct df_err *err)
{
	int rc = DF_OK;

	if (!m || !df_plugin_is_word(m->name))
		return df_fail(err, DF_EFORMAT, "its mixer has no name, or one that is no word");
	for (size_t i = 0; df_mixers[i]; i++) {
		if (strcmp(df_mixers[i]->name, m->name) == 0)
			return df_fail(err, DF_EFORMAT, "its mixer is called '%s', as one of df-mix's own", m->name);
	}
	if (!m->about || !m->n_state || !m->begin || !m->propose)
		rc = df_fail(err, DF_EFORMAT, "about, n_state, begin or propose is missing");
	else if (m->each_step && (!m->update || !m->weigh))
		rc = df_fail(err, DF_EFORMAT, "each_step needs update and weigh");
	else if (m->needs & ~(unsigned)NEEDS)
		rc = df_fail(err, DF_EFORMAT, "it needs what there is not: %#x", m->needs & ~(unsigned)NEEDS);
	else
		rc = df_plugin_check_options(m->options, m->defaults, m->defaults_size, err);
	if (rc != DF_OK)
		df_err_prefix(err, "mixer '%s': ", m->name);
	return rc;
}

int
df_mix_plugin_load(const struct df_mixer **out, const char *path, struct df_err *err)
{
	static const uint32_t ours[] = { DF_MIXER_SIZES };
	const struct df_mix_plugin *p;
	const void *symbol;
	int rc;

	if ((rc = df_plugin_open(&symbol, path, "df_mix_plugin", "DF_MIXER() of mix/plugin.h", ours,
		 sizeof(ours) / sizeof(ours[0]), err)) != DF_OK)
		return rc;
	p = symbol;
	if ((rc = check_record(p->method, err)) != DF_OK)
		df_err_prefix(err, "%s: ", path);
	else
		*out = p->method;
	return rc;
}
