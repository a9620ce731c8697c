/*
 * component.h - a method of DataFlex's components.yaml: its name and parameters.
 *
 *     selectors:              of train_type: dynamic_select; mixers, weighters: of the others
 *       less:                 component_name
 *         name: less
 *         params: {proj_dim: 4096, gradient_type: adam}
 *
 * Parameters of maps within params are named with dots (reward_backend_params.api.model_name).  component_params of the
 * configuration, a key of ours, overrides them one by one, so that no components.yaml is needed:
 * `component_params.eta=1`.
 */
#ifndef DF_CONFIG_COMPONENT_H
#define DF_CONFIG_COMPONENT_H

#include "base/err.h"
#include "base/opt.h"
#include "config/config.h"

struct df_component {
	char *name;                  /* of the method: `name` of the entry, or component_name */
	struct df_config_map params; /* value: YAML's text; a list is joined by commas; "null" for null */
	char *path;                  /* the file that it is from, for messages; NULL: of none */
};

/*
 * The component that c names.  components_cfg_file is looked for as given, then beside the configuration and in the
 * directories above it, each time also by its last name; without such a file the component has the method's defaults,
 * with a warning that says so.  DF_ECONFIG with file and line: not YAML, no such section or component (the nearest
 * name is suggested).
 */
int df_component_load(struct df_component *out, const struct df_config *c, struct df_err *err) DF_MUST_CHECK;
void df_component_release(struct df_component *p);

/*
 * Set the options of the parts from the component's parameters; each goes to the first part that knows it, as an
 * option's name with '_' for '-', or one of its aliases; null leaves the default.  Strings are borrowed from p.
 * DF_ECONFIG: a parameter that none knows (with the nearest of all), an impossible value.
 */
int df_component_options(
    const struct df_component *p, const struct df_opt_part *part, size_t n, struct df_err *err) DF_MUST_CHECK;
/* The text of a parameter; NULL: not given, or null. */
const char *df_component_param(const struct df_component *p, const char *name);
/* Put where a parameter stands in front of an error: "FILE:LINE: ", or "component_params: ". */
void df_component_place(const struct df_component *p, const struct df_config_pair *param, struct df_err *err);

#endif
