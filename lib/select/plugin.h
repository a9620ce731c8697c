/*
 * plugin.h - a selection method in a shared library: df-score --plugin ./mine.so METHOD.
 *
 * The library has a struct df_selector as those of df-score itself (select.h), and one line at its end:
 *
 *     DF_PLUGIN(my_method);
 *
 *     cc -shared -fPIC -I PREFIX/include/df-tools mine.c -o mine.so
 *
 * It calls what select.h and the headers that it includes declare, of base/, shard/, near/ and backend/backend.h.
 * df-score exports these functions (lib/libdf.exports), and there is nothing to link with.  All arrays that it
 * leaves in a struct df_selection come from df_alloc() or malloc().
 */
#ifndef DF_SELECT_PLUGIN_H
#define DF_SELECT_PLUGIN_H

#include <stdint.h>

#include "select/select.h"

#define DF_PLUGIN_ABI 1 /* counts changes of meaning; changes of size are seen below */

struct df_plugin {
	uint32_t abi;
	/* Sizes of the structs, as the plug-in was compiled. */
	uint32_t selector, input, select, selection, meta, opt, scan, err;
	const struct df_selector *method;
};
#define DF_PLUGIN_SIZES                                                                                    \
	DF_PLUGIN_ABI, sizeof(struct df_selector), sizeof(struct df_select_input), sizeof(struct df_select), \
	    sizeof(struct df_selection), sizeof(struct df_meta), sizeof(struct df_opt), sizeof(struct df_select_scan), \
	    sizeof(struct df_err)
#define DF_PLUGIN(selector)                      \
	extern const struct df_plugin df_plugin; \
	const struct df_plugin df_plugin = { DF_PLUGIN_SIZES, &(selector) }

/*
 * *out = the method of the shared library at `path`, which stays loaded.  Its record is checked as far as one can see.
 * DF_ENOINPUT; DF_EFORMAT for a file that cannot be loaded, is no plug-in, was compiled for another version, or has a
 * record that cannot be right.
 */
int df_plugin_load(const struct df_selector **out, const char *path, struct df_err *err) DF_MUST_CHECK;

#endif
