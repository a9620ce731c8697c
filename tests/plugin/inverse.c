/*
 * inverse.c - a mixer of one's own for df-train and df-mix: domains of low loss get more rows, p proportional to
 * exp(-loss / temperature).
 *
 *     cc -shared -fPIC -I PREFIX/include/df-tools inverse.c -o inverse.so
 *     df-train ... train_type=dynamic_mix component_name=custom component_params.plugin=./inverse.so \
 *         component_params.temperature=2
 *     df-mix --plugin ./inverse.so inverse --losses pool.losses.h5 -o weights.h5
 */
#include <math.h>
#include <string.h>

#include "mix/plugin.h"

struct options {
	double temperature;
};

static size_t
n_state(size_t n_domains)
{
	return n_domains; /* the proportions */
}

static int
begin(const void *options, const double *p0, size_t n_domains, double *state, struct df_err *err)
{
	(void)options;
	(void)err;
	memcpy(state, p0, n_domains * sizeof(*state));
	return DF_OK;
}

static int
update(const void *options, double *state, const struct df_mix_seen *seen, struct df_err *err)
{
	const struct options *o = options;
	double sum = 0;

	(void)err;
	for (size_t i = 0; i < seen->n_domains; i++) {
		const struct df_mix_sum *s = &seen->sum[i];

		if (s->n_targets > 0)
			state[i] = exp(-s->nll / (double)s->n_targets / o->temperature);
		sum += state[i];
	}
	for (size_t i = 0; i < seen->n_domains; i++)
		state[i] /= sum;
	return DF_OK;
}

static void
propose(const void *options, const double *state, size_t n_domains, uint64_t step, double *p)
{
	(void)options;
	(void)step;
	memcpy(p, state, n_domains * sizeof(*p));
}

static const struct df_opt options[] = {
	{ .name = "temperature",
	    .type = DF_OPT_DOUBLE,
	    .value = DF_OPT_AT(struct options, temperature),
	    .arg = "X",
	    .min = 0.01,
	    .max = 100,
	    .help = "how little losses matter" },
	DF_OPT_END,
};

static const struct df_mixer inverse = {
	.name = "inverse",
	.about = "more of what is learnt already",
	.needs = DF_MIX_NEEDS_LOSSES,
	.defaults = &(const struct options){ .temperature = 1 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.n_state = n_state,
	.begin = begin,
	.update = update,
	.propose = propose,
};
DF_MIXER(inverse);
