/*
 * params.h - the parameters of a weigher's component: the weigher's own, and those of the loop that calls it.
 */
#ifndef DF_WEIGH_PARAMS_H
#define DF_WEIGH_PARAMS_H

#include <stddef.h>

#include "weigh/weigh.h"

/* What the training loop follows, not the weigher. */
struct df_weigh_params {
	int group;          /* 1: a group is a step, not a micro-batch */
	const char *plugin; /* of `custom`: the shared library with the weigher in its place */
};

#define DF_WEIGH_PARTS 2
/*
 * *m = the weigher called `name`, or that of the shared library `plugin` (NULL: none), which only `custom` takes.
 * DF_EUSAGE, or an error of the library.
 */
int df_weigh_pick(const struct df_weigher **m, const char *name, const char *plugin, struct df_err *err) DF_MUST_CHECK;
/*
 * part [n] = the options of weigher m, with values at `options`, and those of the loop, at *params, of a component
 * called `name`.  Returns n.
 */
size_t df_weigh_parts(const struct df_weigher *m, const char *name, void *options, struct df_weigh_params *params,
    struct df_opt_part part[static DF_WEIGH_PARTS]);

#endif
