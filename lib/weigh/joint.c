/*
 * joint.c - joint-update-aware weights (DataFlex, 2026): what a sample is worth depends on what the rest of the group
 * covers.  z_i are unit vectors of pooled hidden states, s_i = <u, z_i> their likeness to the anchors' direction u, S =
 * Z Z^T.  The weights are the only maximum on the simplex of
 *
 *     F(w) = s^T w - (beta / 2) w^T S w + tau H(w),    which satisfies    w = softmax((s - beta S w) / tau).
 *
 * Iterated from w = 1/n with damping, which is halved whenever F falls.  DataFlex does five rounds without looking,
 * which need not converge.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "weigh/weigh.h"

#define ROUNDS    200
#define TOLERANCE 1e-10

enum mode { FULL, ALIGN_ONLY, DIVERSE_ONLY, UNIFORM };
static const char *const modes[] = { "full", "align_only", "diverse_only", "uniform", NULL };
static const char *const poolings[] = { "position", "last_token", "mean_pool", NULL };

struct options {
	double beta, tau, damping;
	int64_t every, layer;
	int mode, pooling;
	bool normalize;
};

static int
check(const void *options, struct df_err *err)
{
	const struct options *o = options;

	if (!(o->tau > 0))
		return df_fail(err, DF_EUSAGE, "tau is %g, it must be above 0", o->tau);
	if (!(o->damping > 0 && o->damping <= 1))
		return df_fail(err, DF_EUSAGE, "damping is %g, it must be above 0 and at most 1", o->damping);
	if (!(o->beta >= 0))
		return df_fail(err, DF_EUSAGE, "beta is %g, it must not be below 0", o->beta);
	return DF_OK;
}

static void
states(const void *options, struct df_weigh_states *s)
{
	const struct options *o = options;

	*s = (struct df_weigh_states){
		.pooling = (enum df_weigh_pooling)o->pooling,
		.layer = o->layer,
		.every = (uint64_t)o->every,
		.from_first = true,
	};
}

static void
anchor_add(const void *options, const float *pooled, size_t n, size_t dim, double *sum)
{
	(void)options;
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < dim; j++)
			sum[j] += (double)pooled[i * dim + j];
	}
}

static void
anchor_end(const void *options, const double *sum, uint64_t n, size_t dim, double *anchor)
{
	const struct options *o = options;
	double norm = 0;

	for (size_t j = 0; j < dim; j++) {
		anchor[j] = sum[j] / (double)n;
		norm += anchor[j] * anchor[j];
	}
	norm = sqrt(norm);
	for (size_t j = 0; j < dim && o->normalize; j++)
		anchor[j] = norm > 1e-12 ? anchor[j] / norm : 0;
}

static double
dot(const double *a, const double *b, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

/* A problem of n samples, and the memory to solve it in. */
struct problem {
	size_t n;
	double beta, tau;
	double *s, *gram;          /* [n] [n x n] */
	double *sw, *next, *score; /* [n] S w; the next w; a right-hand side */
};

/* sw = S w; returns F(w). */
static double
objective(const struct problem *p, const double *w)
{
	double value = 0;

	for (size_t i = 0; i < p->n; i++) {
		p->sw[i] = dot(p->gram + i * p->n, w, p->n);
		value += w[i] * p->s[i] - p->beta / 2 * w[i] * p->sw[i] - (w[i] > 0 ? p->tau * w[i] * log(w[i]) : 0);
	}
	return value;
}

/* False: not converged. */
static bool
solve(struct problem *p, double rho, double *w)
{
	double value, moved;

	for (size_t i = 0; i < p->n; i++)
		w[i] = 1 / (double)p->n;
	value = objective(p, w);
	for (size_t i = 0; i < p->n; i++)
		p->score[i] = p->s[i] - p->beta * p->sw[i];
	for (int round = 0; round < ROUNDS; round++) {
		double next_value;

		memcpy(p->next, p->score, p->n * sizeof(*p->next));
		df_weigh_softmax(p->next, p->n, p->tau);
		moved = 0;
		for (size_t i = 0; i < p->n; i++) {
			moved = fmax(moved, fabs(p->next[i] - w[i]));
			p->next[i] = (1 - rho) * w[i] + rho * p->next[i];
		}
		if (moved <= TOLERANCE)
			return true;
		next_value = objective(p, p->next);
		if (next_value < value - 1e-14 * (1 + fabs(value))) {
			rho /= 2;
			continue;
		}
		memcpy(w, p->next, p->n * sizeof(*w));
		value = next_value;
		for (size_t i = 0; i < p->n; i++)
			p->score[i] = p->s[i] - p->beta * p->sw[i];
	}
	return false;
}

/* z [n x dim] of the group. */
static void
embed(const struct options *o, const struct df_weigh_group *g, double *z)
{
	for (size_t i = 0; i < g->n; i++) {
		const float *v = g->pooled + i * g->dim;
		double norm = 0;

		for (size_t j = 0; j < g->dim; j++)
			norm += (double)v[j] * (double)v[j];
		norm = o->normalize ? sqrt(norm) : 1;
		for (size_t j = 0; j < g->dim; j++)
			z[i * g->dim + j] = norm > 1e-12 ? (double)v[j] / norm : 0;
	}
}

static int
weights(const void *options, const struct df_weigh_group *g, double *weight, struct df_err *err)
{
	const struct options *o = options;
	struct problem p = { .n = g->n, .beta = o->mode == ALIGN_ONLY ? 0 : o->beta, .tau = o->tau };
	double *z = NULL;
	size_t nn, nd;
	int rc;

	for (size_t i = 0; i < g->n; i++)
		weight[i] = 1 / (double)g->n;
	if (o->mode == UNIFORM || g->n == 1)
		return DF_OK;
	DF_TRY(df_size_mul(g->n, g->n, &nn, "weights", err));
	DF_TRY(df_size_mul(g->n, g->dim, &nd, "weights", err));
	DF_TRY(df_alloc(&z, nd, sizeof(*z), "weights", err));
	DF_TRY(df_alloc(&p.gram, nn, sizeof(*p.gram), "weights", err));
	DF_TRY(df_alloc(&p.s, g->n, sizeof(*p.s), "weights", err));
	DF_TRY(df_alloc(&p.sw, g->n, sizeof(*p.sw), "weights", err));
	DF_TRY(df_alloc(&p.next, g->n, sizeof(*p.next), "weights", err));
	DF_TRY(df_alloc(&p.score, g->n, sizeof(*p.score), "weights", err));
	embed(o, g, z);
	for (size_t i = 0; i < g->n; i++) {
		p.s[i] = o->mode == DIVERSE_ONLY ? 0 : dot(z + i * g->dim, g->anchor, g->dim);
		for (size_t j = 0; j <= i && p.beta > 0; j++)
			p.gram[i * g->n + j] = p.gram[j * g->n + i] = dot(z + i * g->dim, z + j * g->dim, g->dim);
	}
	if (!solve(&p, o->damping, weight) && g->rough)
		*g->rough = true;
out:
	free(z);
	free(p.gram);
	free(p.s);
	free(p.sw);
	free(p.next);
	free(p.score);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "mode", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, mode), .choices = modes,
	    .help = "likeness to the anchors, difference from each other, or both" },
	{ .name = "beta", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, beta), .arg = "X",
	    .help = "how much likeness to each other counts against samples" },
	{ .name = "tau", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, tau), .arg = "X",
	    .help = "temperature: the larger, the more alike are the weights" },
	{ .name = "damping", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, damping), .arg = "X",
	    .help = "of the iteration: 1 is none; halved where it is needed" },
	{ .name = "target-update-step", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, every), .arg = "N", .min = 1,
	    .max = 1e15, .help = "read the anchors again after so many steps" },
	{ .name = "pooling", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, pooling), .choices = poolings,
	    .help = "of a sample's hidden states; mean_pool: over its targets" },
	{ .name = "layer", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, layer), .arg = "N", .min = -1e6, .max = 1e6,
	    .help = "hidden states after this layer; -1: the last" },
	{ .name = "normalize", .type = DF_OPT_FLAG, .value = DF_OPT_AT(struct options, normalize),
	    .help = "vectors have length one" },
	DF_OPT_END };
/* clang-format on */

static const struct df_opt_alias aliases[] = {
	{ "objective_mode", "mode", NULL },
	{ "embed_layer", "layer", NULL },
	{ "embed_normalize", "normalize", NULL },
	{ "fixed_point_iters", NULL, "the iteration ends when it has converged" },
	{ "target_batch_size", NULL, "all anchors count, in batches of any size" },
	{ "target_num_batches", NULL, "all anchors count" },
	{ "seed", NULL, "nothing is drawn" },
	{ 0 },
};

const struct df_weigher df_weigh_joint = {
	.name = "joint_update_aware",
	.about = "by likeness to the evaluation set, less what others of the group cover",
	.relative = true,
	.defaults =
	    &(const struct options){
		.beta = 0.1, .tau = 0.05, .damping = 1, .every = 50, .pooling = 1, .layer = -1, .normalize = true },
	.defaults_size = sizeof(struct options),
	.options = options,
	.alias = aliases,
	.check = check,
	.states = states,
	.anchor_add = anchor_add,
	.anchor_end = anchor_end,
	.weights = weights,
};
