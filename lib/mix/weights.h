/*
 * weights.h - proportions in a file: kind weights, domain_weight, and the state of the mixer that made them.
 *
 * The file names its domains, and proportions are joined by these names: their order does not matter.
 */
#ifndef DF_MIX_WEIGHTS_H
#define DF_MIX_WEIGHTS_H

#include <stddef.h>

#include "base/err.h"
#include "shard/meta.h"

struct df_mix_file {
	struct df_meta meta; /* its domains, parameters and inputs */
	double *p;           /* [meta.n_domains] of sum 1 */
	double *state;       /* [n_state] or NULL: as it was written, then zeros up to a multiple of n_domains */
	size_t n_state;
};
void df_mix_file_release(struct df_mix_file *f);

/*
 * DF_EFORMAT: not domain weights, domains without names or with the same one, a weight that is negative or no number,
 * weights that are all 0; errors as df_set_open.  Weights are divided by their sum.
 */
int df_mix_file_read(struct df_mix_file *f, const char *path, struct df_err *err) DF_MUST_CHECK;
/*
 * Write p [meta->n_domains] and state [n_state] (NULL: none), with the tool, parameters, inputs and domains of meta;
 * its kind is set.  The file appears whole or not at all.
 */
int df_mix_file_write(const char *path, struct df_meta *meta, const double *p, const double *state, size_t n_state,
    struct df_err *err) DF_MUST_CHECK;

/*
 * p [n] = the weights of the file for these domains, in their order.  DF_ELINEAGE: the file lacks one of them, or has a
 * domain with a weight above 0 that is none of them; both are named.
 */
int df_mix_read_weights(
    const char *path, char *const *names, size_t n, double *p, struct df_err *err) DF_MUST_CHECK;

/*
 * to [n] = where the names of `from` are in `names` [n_names]; SIZE_MAX for those that are not there.  DF_EFORMAT: two
 * of `names` are the same.
 */
int df_mix_join(char *const *names, size_t n_names, char *const *from, size_t n, size_t *to,
    struct df_err *err) DF_MUST_CHECK;

#endif
