/*
 * plugin.c - a weigher of the user's own.
 */
#include "weigh/plugin.h"

#include <string.h>

#include "base/plugin.h"

static int
check_record(const struct df_weigher *m, struct df_err *err)
{
	int rc = DF_OK;

	if (!m || !df_plugin_is_word(m->name))
		return df_fail(err, DF_EFORMAT, "its weigher has no name, or one that is no word");
	for (size_t i = 0; df_weighers[i]; i++) {
		if (strcmp(df_weighers[i]->name, m->name) == 0)
			return df_fail(
			    err, DF_EFORMAT, "its weigher is called '%s', as one of df-train's own", m->name);
	}
	if (!m->about || !m->weights)
		rc = df_fail(err, DF_EFORMAT, "about or weights is missing");
	else if (m->states && (!m->anchor_add || !m->anchor_end))
		rc = df_fail(err, DF_EFORMAT, "states needs anchor_add and anchor_end");
	else
		rc = df_plugin_check_options(m->options, m->defaults, m->defaults_size, err);
	if (rc != DF_OK)
		df_err_prefix(err, "weigher '%s': ", m->name);
	return rc;
}

int
df_weigh_plugin_load(const struct df_weigher **out, const char *path, struct df_err *err)
{
	static const uint32_t ours[] = { DF_WEIGHER_SIZES };
	const struct df_weigh_plugin *p;
	const void *symbol;
	int rc;

	if ((rc = df_plugin_open(&symbol, path, "df_weigh_plugin", "DF_WEIGHER() of weigh/plugin.h", ours,
		 sizeof(ours) / sizeof(ours[0]), err)) != DF_OK)
		return rc;
	p = symbol;
	if ((rc = check_record(p->method, err)) != DF_OK)
		df_err_prefix(err, "%s: ", path);
	else
		*out = p->method;
	return rc;
}
