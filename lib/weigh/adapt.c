/*
 * adapt.c - ADAPT (Rethinking data curation in LLM training: online reweighting, ICLR 2026, as DataFlex has it): a
 * sample counts more, the more its hidden states are like those of an anchor set.  phi is the unit vector of the pooled
 * states, w = sigmoid(<phi, mean of the anchors' phi> / tau), and the loss is the mean of w_i l_i.
 *
 * reduce sum: DataFlex takes the sum over the micro-batch, so that the learning rate grows with its size.
 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "weigh/weigh.h"

static const char *const norms[] = { "none", "mean1", NULL };
static const char *const reductions[] = { "mean", "sum", NULL };
static const char *const poolings[] = { "position", "last", "targets", NULL };

struct options {
	double tau, clip;
	int64_t refresh_interval, layer;
	int norm, reduce, pooling;
};

static int
check(const void *options, struct df_err *err)
{
	const struct options *o = options;

	if (!(o->tau > 0))
		return df_fail(err, DF_EUSAGE, "tau is %g, it must be above 0", o->tau);
	if (o->clip <= 0)
		return df_fail(err, DF_EUSAGE, "clip is %g, it must be above 0", o->clip);
	return DF_OK;
}

static void
states(const void *options, struct df_weigh_states *s)
{
	const struct options *o = options;

	*s = (struct df_weigh_states){
		.pooling = (enum df_weigh_pooling)o->pooling,
		.layer = o->layer,
		.every = (uint64_t)o->refresh_interval,
	};
}

static double
norm_of(const float *v, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (double)v[i] * (double)v[i];
	return sqrt(sum);
}

static void
anchor_add(const void *options, const float *pooled, size_t n, size_t dim, double *sum)
{
	(void)options;
	for (size_t i = 0; i < n; i++) {
		const float *v = pooled + i * dim;
		const double norm = norm_of(v, dim);

		for (size_t j = 0; j < dim && norm > 1e-12; j++)
			sum[j] += (double)v[j] / norm;
	}
}

static void
anchor_end(const void *options, const double *sum, uint64_t n, size_t dim, double *anchor)
{
	(void)options;
	for (size_t j = 0; j < dim; j++)
		anchor[j] = sum[j] / (double)n;
}

/* <phi, anchor>; 0 for a vector of zeros. */
static double
score_of(const float *v, const double *anchor, size_t n)
{
	const double norm = norm_of(v, n);
	double dot = 0;

	for (size_t i = 0; i < n; i++)
		dot += (double)v[i] * anchor[i];
	return norm > 1e-12 ? dot / norm : 0;
}

static int
weights(const void *options, const struct df_weigh_group *g, double *weight, struct df_err *err)
{
	const struct options *o = options;
	const double n = (double)g->n;
	double sum = 0, factor;

	(void)err;
	for (size_t i = 0; i < g->n; i++) {
		const double score = score_of(g->pooled + i * g->dim, g->anchor, g->dim);

		weight[i] = 1 / (1 + exp(-score / fmax(o->tau, 1e-8)));
		if (!isnan(o->clip))
			weight[i] = fmin(weight[i], o->clip);
		sum += weight[i];
	}
	factor = (o->norm == 1 ? n / sum : 1) / (o->reduce == 1 ? 1 : n);
	for (size_t i = 0; i < g->n; i++)
		weight[i] *= factor;
	return DF_OK;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "tau", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, tau), .arg = "X",
	    .help = "temperature: the smaller, the more weights differ" },
	{ .name = "refresh-interval", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, refresh_interval), .arg = "N",
	    .min = 1, .max = 1e15, .help = "read the anchors again after so many steps" },
	{ .name = "clip", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, clip), .arg = "X",
	    .help = "no weight is above this" },
	{ .name = "weight-norm", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, norm), .choices = norms,
	    .help = "mean1: divide by the mean weight of the group" },
	{ .name = "reduce", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, reduce), .choices = reductions,
	    .help = "over the group; DataFlex takes the sum" },
	{ .name = "pooling", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, pooling), .choices = poolings,
	    .help = "of a sample's hidden states" },
	{ .name = "layer", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, layer), .arg = "N", .min = -1e6, .max = 1e6,
	    .help = "hidden states after this layer; -1: the last" },
	DF_OPT_END };
/* clang-format on */

static const struct df_opt_alias aliases[] = {
	{ "anchor_batch_size", NULL, "the size of a batch of anchors changes nothing" },
	{ 0 },
};

const struct df_weigher df_weigh_adapt = {
	.name = "adapt",
	.about = "by likeness to the evaluation set (ADAPT)",
	.defaults = &(const struct options){ .tau = 1, .clip = NAN, .refresh_interval = 50, .layer = -1 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.alias = aliases,
	.check = check,
	.states = states,
	.anchor_add = anchor_add,
	.anchor_end = anchor_end,
	.weights = weights,
};
