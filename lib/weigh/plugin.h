/*
 * plugin.h - a weigher in a shared library: component_name: custom, with the parameter plugin: ./mine.so.
 *
 * The library has a struct df_weigher as those of df-train itself (weigh.h), and one line at its end:
 *
 *     DF_WEIGHER(my_weigher);
 *
 *     cc -shared -fPIC -I PREFIX/include/df-tools mine.c -o mine.so
 *
 * The other parameters of the component are its options.  It runs in df-train's own process, between forward and
 * backward, in one thread; its weights are checked.
 */
#ifndef DF_WEIGH_PLUGIN_H
#define DF_WEIGH_PLUGIN_H

#include <stdint.h>

#include "weigh/weigh.h"

#define DF_WEIGHER_ABI 1 /* counts changes of meaning; changes of size are seen below */

struct df_weigh_plugin {
	uint32_t abi;
	/* Sizes of the structs, as the plug-in was compiled. */
	uint32_t weigher, group, states, opt, err;
	const struct df_weigher *method;
};
#define DF_WEIGHER_SIZES                                                                                      \
	DF_WEIGHER_ABI, sizeof(struct df_weigher), sizeof(struct df_weigh_group), sizeof(struct df_weigh_states), \
	    sizeof(struct df_opt), sizeof(struct df_err)
#define DF_WEIGHER(weigher)                                  \
	extern const struct df_weigh_plugin df_weigh_plugin; \
	const struct df_weigh_plugin df_weigh_plugin = { DF_WEIGHER_SIZES, &(weigher) }

/*
 * *out = the weigher of the shared library at `path`, which stays loaded.  Its record is checked as far as one can see.
 * DF_ENOINPUT; DF_EFORMAT for a file that cannot be loaded, is no plug-in, was compiled for another version, or has a
 * record that cannot be right.
 */
int df_weigh_plugin_load(const struct df_weigher **out, const char *path, struct df_err *err) DF_MUST_CHECK;

#endif
