/*
 * params.c - the options of the loop around a mixer.
 */
#include "mix/params.h"

#include <string.h>

#include "mix/plugin.h"

#define AT(field) DF_OPT_AT(struct df_mix_params, field)

static const char *const timings[] = { "auto", "fresh", "stale", NULL };
static const char *const layers[] = { "last", "all", NULL };
static const char *const quotas[] = { "remainder", "dataflex", NULL };
static const char *const draws[] = { "permutation", "iid", NULL };

static const struct df_mix_params defaults = { .eval_samples = 1000, .collect_steps = 10, .eval_batch_size = 32 };

/* clang-format off */
static const struct df_opt run_params[] = {
	{ .name = "quota", .type = DF_OPT_CHOICE, .value = AT(quota), .choices = quotas,
	    .help = "how many rows of each domain" },
	{ .name = "row-draw", .type = DF_OPT_CHOICE, .value = AT(row_draw), .choices = draws,
	    .help = "which rows of a domain" },
	DF_OPT_END };
static const struct df_opt custom_params[] = {
	{ .name = "plugin", .type = DF_OPT_STR, .value = AT(plugin), .arg = "FILE",
	    .help = "custom: a mixer in a shared library" },
	DF_OPT_END };
static const struct df_opt reference_params[] = {
	{ .name = "reference-losses", .type = DF_OPT_STR, .value = AT(reference_losses),
	    .help = "losses of the reference, of df-grad --losses --token-loss" },
	{ .name = "reference-model-path", .type = DF_OPT_STR, .value = AT(reference_model_path),
	    .help = "the reference" },
	{ .name = "timing", .type = DF_OPT_CHOICE, .value = AT(timing), .choices = timings,
	    .help = "which step's weights a step has" },
	DF_OPT_END };
static const struct df_opt load_params[] = {
	{ .name = "eval-samples", .type = DF_OPT_INT, .value = AT(eval_samples), .min = 1, .max = UINT32_MAX,
	    .help = "the most held-out rows of a domain" },
	{ .name = "collect-steps", .type = DF_OPT_INT, .value = AT(collect_steps), .min = 1, .max = UINT32_MAX,
	    .help = "how many times eval_batch_size of them are measured" },
	{ .name = "eval-batch-size", .type = DF_OPT_INT, .value = AT(eval_batch_size), .min = 1, .max = UINT32_MAX,
	    .help = "rows of a measurement" },
	{ .name = "layers", .type = DF_OPT_CHOICE, .value = AT(layers), .choices = layers,
	    .help = "whose loads" },
	DF_OPT_END };
/* clang-format on */

static bool
is_custom(const char *name)
{
	return strcmp(name, "custom") == 0;
}

int
df_mix_pick(const struct df_mixer **m, const char *name, const char *plugin, struct df_err *err)
{
	if (!is_custom(name))
		return df_mixer_find(m, name, err);
	if (!plugin)
		return df_fail(err, DF_EUSAGE, "custom needs the parameter plugin, a mixer in a shared library");
	return df_mix_plugin_load(m, plugin, err);
}

size_t
df_mix_parts(const struct df_mixer *m, const char *name, void *options, struct df_mix_params *params,
    struct df_opt_part part[static DF_MIX_PARTS])
{
	size_t n = 0;

	*params = defaults;
	part[n++] = (struct df_opt_part){ m->options, m->alias, options };
	part[n++] = (struct df_opt_part){ run_params, NULL, params };
	if (is_custom(name))
		part[n++] = (struct df_opt_part){ custom_params, NULL, params };
	if (m->needs & DF_MIX_NEEDS_REFERENCE)
		part[n++] = (struct df_opt_part){ reference_params, NULL, params };
	if (m->needs & DF_MIX_NEEDS_LOADS)
		part[n++] = (struct df_opt_part){ load_params, NULL, params };
	return n;
}
