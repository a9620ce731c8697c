/*
 * params.c - the options of the loop around a weigher.
 */
#include "weigh/params.h"

#include <string.h>

#include "weigh/plugin.h"

static const char *const groups[] = { "micro", "step", NULL };

/* clang-format off */
#define GROUP \
	{ .name = "group", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct df_weigh_params, group), .choices = groups, \
	    .help = "samples that are weighed together: a micro-batch, or the whole step" }
static const struct df_opt run_params[] = { GROUP, DF_OPT_END };
static const struct df_opt custom_params[] = { GROUP,
	{ .name = "plugin", .type = DF_OPT_STR, .value = DF_OPT_AT(struct df_weigh_params, plugin), .arg = "FILE",
	    .help = "custom: a weigher in a shared library" },
	DF_OPT_END };
/* clang-format on */

static bool
is_custom(const char *name)
{
	return strcmp(name, "custom") == 0;
}

int
df_weigh_pick(const struct df_weigher **m, const char *name, const char *plugin, struct df_err *err)
{
	int rc = df_weigher_find(m, name, err);

	return rc == DF_OK && plugin && is_custom(name) ? df_weigh_plugin_load(m, plugin, err) : rc;
}

size_t
df_weigh_parts(const struct df_weigher *m, const char *name, void *options, struct df_weigh_params *params,
    struct df_opt_part part[static DF_WEIGH_PARTS])
{
	*params = (struct df_weigh_params){ 0 };
	part[0] = (struct df_opt_part){ m->options, m->alias, options };
	part[1] = (struct df_opt_part){ is_custom(name) ? custom_params : run_params, NULL, params };
	return 2;
}
