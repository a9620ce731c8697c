/*
 * loss.c - weights from losses (Sow et al., Dynamic loss-based sample reweighting for improved LLM pretraining, ICLR
 * 2025): h maps the losses of the group to [-delta, delta], f says which of them count more, w = softmax(f(h) / r).
 *
 * compat dataflex: DataFlex's `uniform` tilts exponentially, which is `identity` here.
 */
#include <math.h>

#include "base/mem.h"
#include "weigh/weigh.h"

enum strategy { LINUPPER, UNIFORM, IDENTITY, UPPER, QUADRATIC, EXTREMES };
static const char *const strategies[] = { "linupper", "uniform", "identity", "upper", "quadratic", "extremes", NULL };
static const char *const compats[] = { "none", "dataflex", NULL };

struct options {
	int strategy, compat;
	double delta, r, r_start;
	int64_t r_steps;
};

static int
check(const void *options, struct df_err *err)
{
	const struct options *o = options;

	if (!(o->delta > 0))
		return df_fail(err, DF_EUSAGE, "delta is %g, it must be above 0", o->delta);
	if (!(o->r > 0))
		return df_fail(err, DF_EUSAGE, "r is %g, it must be above 0", o->r);
	if (o->r_steps > 0 && !(o->r_start > 0))
		return df_fail(err, DF_EUSAGE, "r_steps needs r_start, the temperature that the first of them has");
	if (!(o->r_steps > 0) && o->r_start > 0)
		return df_fail(err, DF_EUSAGE, "r_start needs r_steps, the steps from it to r");
	return DF_OK;
}

/* From r_start in the first weighed step, along a line, to r after r_steps of them. */
static double
temperature(const struct options *o, uint64_t weighed)
{
	if (weighed >= (uint64_t)o->r_steps)
		return o->r;
	return o->r_start + (o->r - o->r_start) * ((double)weighed / (double)o->r_steps);
}

static double
preference(enum strategy s, double h, double delta)
{
	switch (s) {
	case LINUPPER: return fmin(h + delta, delta);
	case IDENTITY: return h;
	case UPPER: return (h + delta) / 2;
	case QUADRATIC: return 1 - (h / delta) * (h / delta);
	case EXTREMES: return fabs(h);
	case UNIFORM: break;
	}
	return 0;
}

static int
weights(const void *options, const struct df_weigh_group *g, double *weight, struct df_err *err)
{
	const struct options *o = options;
	const enum strategy s = o->strategy == UNIFORM && o->compat == 1 ? IDENTITY : (enum strategy)o->strategy;
	double low = INFINITY, high = -INFINITY;
	bool flat;

	(void)err;
	for (size_t i = 0; i < g->n; i++) {
		low = fmin(low, g->loss[i]);
		high = fmax(high, g->loss[i]);
	}
	flat = high - low <= 1e-12 * fmax(1, fabs(high));
	for (size_t i = 0; i < g->n; i++) {
		const double h = flat ? 0 : o->delta * (2 * ((g->loss[i] - low) / (high - low)) - 1);

		weight[i] = preference(s, h, o->delta);
	}
	df_weigh_softmax(weight, g->n, temperature(o, g->weighed));
	return DF_OK;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "strategy", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, strategy), .choices = strategies,
	    .help = "which losses count more" },
	{ .name = "delta", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, delta), .arg = "X",
	    .help = "losses of a group are mapped to -X to X" },
	{ .name = "r", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, r), .arg = "X",
	    .help = "temperature: the larger, the more alike are the weights" },
	{ .name = "r-start", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, r_start), .arg = "X",
	    .help = "temperature of the first weighed step (0: r)" },
	{ .name = "r-steps", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, r_steps), .arg = "N", .min = 0, .max = 1e15,
	    .help = "weighed steps from r-start to r, along a line" },
	{ .name = "compat", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, compat), .choices = compats,
	    .help = "dataflex: its uniform, which is our identity" },
	DF_OPT_END };
/* clang-format on */

const struct df_weigher df_weigh_loss = {
	.name = "loss",
	.about = "by how high a loss is in its group (Sow et al. 2025)",
	.relative = true,
	.defaults = &(const struct options){ .delta = 1, .r = 1 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.weights = weights,
};
