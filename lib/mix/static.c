/*
 * static.c - proportions that never change.
 */
#include <string.h>

#include "mix/mix.h"

struct options {
	const char *proportions; /* NULL: the initial ones */
};

static size_t
n_state(size_t n_domains)
{
	return n_domains;
}

static int
begin(const void *options, const double *p0, size_t n_domains, double *state, struct df_err *err)
{
	const struct options *o = options;

	if (o->proportions)
		return df_mix_proportions(o->proportions, "proportions", n_domains, NULL, state, err);
	memcpy(state, p0, n_domains * sizeof(*state));
	return DF_OK;
}

static void
propose(const void *options, const double *state, size_t n_domains, uint64_t step, double *p)
{
	(void)options;
	(void)step;
	memcpy(p, state, n_domains * sizeof(*p));
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "proportions", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, proportions), .arg = "P,P,..",
	    .only = DF_MIX_RUNS_ONLY,
	    .help = "of the domains in their order; default: the initial proportions" },
	DF_OPT_END };
/* clang-format on */

const struct df_mixer df_mix_static = {
	.name = "static",
	.about = "proportions that never change",
	.defaults = &(const struct options){ 0 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.n_state = n_state,
	.begin = begin,
	.propose = propose,
};
