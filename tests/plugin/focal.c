/*
 * focal.c - a weigher of one's own for df-train: (1 - p)^gamma, where p = exp(-loss), as of the focal loss (Lin et al.
 * 2017), so that samples that the model knows already count less.
 *
 *     cc -shared -fPIC -I PREFIX/include/df-tools focal.c -o focal.so
 *     df-train ... train_type=dynamic_weight component_name=custom component_params.plugin=./focal.so \
 *         component_params.gamma=2
 */
#include <math.h>

#include "weigh/plugin.h"

struct options {
	double gamma;
};

static int
weights(const void *options, const struct df_weigh_group *g, double *weight, struct df_err *err)
{
	const struct options *o = options;

	(void)err;
	for (size_t i = 0; i < g->n; i++)
		weight[i] = pow(1 - exp(-g->loss[i]), o->gamma) / (double)g->n;
	return DF_OK;
}

static const struct df_opt options[] = {
	{ .name = "gamma",
	    .type = DF_OPT_DOUBLE,
	    .value = DF_OPT_AT(struct options, gamma),
	    .arg = "X",
	    .max = 100,
	    .help = "how much less samples of low loss count" },
	DF_OPT_END,
};

static const struct df_weigher focal = {
	.name = "focal",
	.about = "by how improbable a sample's targets are",
	.defaults = &(const struct options){ .gamma = 2 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.weights = weights,
};
DF_WEIGHER(focal);
