/*
 * params.h - the parameters of a mixer's component: the mixer's own, and those of the loop that calls it.
 */
#ifndef DF_MIX_PARAMS_H
#define DF_MIX_PARAMS_H

#include <stddef.h>
#include <stdint.h>

#include "mix/mix.h"

/* What the training loop follows, not the mixer. */
struct df_mix_params {
	const char *reference_losses, *reference_model_path;
	int timing;   /* of DoReMi: enum df_mix_timing */
	int layers;   /* 1: loads of all layers */
	int quota;    /* 1: DataFlex's */
	int row_draw; /* 1: independent, with replacement */
	const char *plugin; /* of `custom`: the shared library with the mixer */
	int64_t eval_samples, collect_steps, eval_batch_size;
};
enum df_mix_timing { DF_MIX_AUTO, DF_MIX_FRESH, DF_MIX_STALE };

/*
 * *m = the mixer called `name`, or for `custom` that of the shared library `plugin`.  DF_EUSAGE, or an error of the
 * library.
 */
int df_mix_pick(const struct df_mixer **m, const char *name, const char *plugin, struct df_err *err) DF_MUST_CHECK;

#define DF_MIX_PARTS 5
/*
 * part [n] = the mixer's options, with values at `options`, and those of the loop that a mixer with its needs has, at
 * *params, which gets the defaults, of a component called `name`.  Returns n.
 */
size_t df_mix_parts(const struct df_mixer *m, const char *name, void *options, struct df_mix_params *params,
    struct df_opt_part part[static DF_MIX_PARTS]);

#endif
