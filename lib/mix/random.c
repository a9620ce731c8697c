/*
 * random.c - other proportions each time: the baseline of mixers.
 *
 * Uniform numbers divided by their sum; with `simplex`, uniform on the simplex of all proportions: exponential numbers
 * divided by theirs.  DataFlex seeds its generator anew at each call, so its proportions never change: --no-per-step.
 */
#include <math.h>

#include "base/rng.h"
#include "mix/mix.h"

struct options {
	int64_t seed;
	bool per_step, simplex;
};

static size_t
n_state(size_t n_domains)
{
	(void)n_domains;
	return 0;
}

static int
begin(const void *options, const double *p0, size_t n_domains, double *state, struct df_err *err)
{
	(void)options;
	(void)p0;
	(void)n_domains;
	(void)state;
	(void)err;
	return DF_OK;
}

static void
propose(const void *options, const double *state, size_t n_domains, uint64_t step, double *p)
{
	const struct options *o = options;
	double sum = 0;

	(void)state;
	df_rng_uniforms((uint64_t)o->seed, DF_RNG_MIXTURE, o->per_step ? (uint32_t)step : 0, 0, n_domains, p);
	for (size_t i = 0; i < n_domains; i++) {
		if (o->simplex)
			p[i] = -log(p[i]);
		sum += p[i];
	}
	for (size_t i = 0; i < n_domains; i++)
		p[i] /= sum;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "seed", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, seed), .arg = "N", .max = 0x1p63,
	    .help = "of the draws" },
	{ .name = "per-step", .type = DF_OPT_FLAG, .value = DF_OPT_AT(struct options, per_step),
	    .help = "other proportions at each step; no: always the same, as in DataFlex" },
	{ .name = "simplex", .type = DF_OPT_FLAG, .value = DF_OPT_AT(struct options, simplex),
	    .help = "uniform among all proportions; no: uniform numbers divided by their sum" },
	DF_OPT_END };
/* clang-format on */

const struct df_mixer df_mix_random = {
	.name = "random",
	.about = "other proportions each time, the baseline",
	.defaults = &(const struct options){ .seed = 42, .per_step = true },
	.defaults_size = sizeof(struct options),
	.options = options,
	.n_state = n_state,
	.begin = begin,
	.propose = propose,
};
