/* fuzz_components.c - components.yaml: components of each section, and their parameters as options of the methods. */
#include <stdlib.h>

#include "config/component.h"
#include "fuzz.h"
#include "mix/params.h"
#include "weigh/params.h"

/* No plug-in is loaded: the library is the user's own, and no input. */
static void
options_of_mixer(const struct df_component *p)
{
	struct df_opt_part part[DF_MIX_PARTS];
	struct df_err err = DF_ERR_INIT;
	struct df_mix_params params;
	const struct df_mixer *m;
	void *options = NULL;

	if (df_mixer_find(&m, p->name, &err) == DF_OK &&
	    df_opt_defaults(&options, m->defaults, m->defaults_size, &err) == DF_OK &&
	    df_component_options(p, part, df_mix_parts(m, p->name, options, &params, part), &err) == DF_OK && m->check)
		(void)!m->check(options, 3, &err);
	free(options);
}

static void
options_of_weigher(const struct df_component *p)
{
	struct df_opt_part part[DF_WEIGH_PARTS];
	struct df_err err = DF_ERR_INIT;
	struct df_weigh_params params;
	const struct df_weigher *m;
	void *options = NULL;

	if (df_weigh_pick(&m, p->name, NULL, &err) == DF_OK &&
	    df_opt_defaults(&options, m->defaults, m->defaults_size, &err) == DF_OK &&
	    df_component_options(p, part, df_weigh_parts(m, p->name, options, &params, part), &err) == DF_OK &&
	    m->check)
		(void)!m->check(options, &err);
	free(options);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct {
		enum df_train_type type;
		char *name;
	} wanted[] = {
		{ DF_TRAIN_SELECT, "less" },
		{ DF_TRAIN_MIX, "doremi" },
		{ DF_TRAIN_MIX, "odm" },
		{ DF_TRAIN_WEIGHT, "loss" },
	};
	char *path = (char *)(uintptr_t)fuzz_put("components.yaml", data, n);

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		struct df_config c = {
			.train_type = wanted[i].type, .component_name = wanted[i].name, .components_cfg_file = path
		};
		struct df_err err = DF_ERR_INIT;
		struct df_component p = { 0 };

		c.line = calloc(df_keys_count(), sizeof(*c.line));
		if (c.line && df_component_load(&p, &c, &err) == DF_OK) {
			if (c.train_type == DF_TRAIN_MIX)
				options_of_mixer(&p);
			else if (c.train_type == DF_TRAIN_WEIGHT)
				options_of_weigher(&p);
		}
		df_component_release(&p);
		free(c.line);
	}
	return 0;
}
