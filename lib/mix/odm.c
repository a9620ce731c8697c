/*
 * odm.c - online data mixing (Albalak et al. 2023, arXiv:2312.02406): domains as the arms of a bandit, whose reward is
 * their training loss.
 *
 *     R_i   = alpha R_i + (1 - alpha) scale loss_i / pi_i       of the domains that were seen
 *     eps_t = min(1/K, max(floor, sqrt(ln K / (K t))))          t counts updates
 *     pi    = (1 - K eps_t) softmax(eps_{t-1} R) + eps_t
 *
 *   variant dataflex   t counts steps after the warm-up, exponents are cut at 5 below the largest, and R at 10000;
 *                      scale 15 and floor 0.03 unless they are given
 *   variant repo       as the authors' program: R_i is the moving mean of exp(loss_i), and pi is R's share, not the
 *                      softmax
 */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "mix/mix_priv.h"

#define PI_LEAST        1e-8
#define LOSS_MOST       50 /* of exp(loss) */
#define DATAFLEX_DEPTH  5
#define DATAFLEX_REWARD 1e4

enum variant { PAPER, DATAFLEX, REPO };
static const char *const variants[] = { "paper", "dataflex", "repo", NULL };

struct options {
	const char *initial; /* NULL: those of the run */
	double alpha;
	double scale, floor; /* NAN: the variant's */
	int64_t warmup;      /* -1: 1 % of the run */
	int variant;
};

/* The state: arrays by domain, then eps_{t-1} and t. */
struct view {
	double *reward, *pi, *eps, *t;
};

static struct view
view(double *state, size_t k)
{
	return (struct view){ state, state + k, state + 2 * k, state + 2 * k + 1 };
}

static size_t
n_state(size_t k)
{
	return 2 * k + 2;
}

static double
scale_of(const struct options *o)
{
	return !isnan(o->scale) ? o->scale : o->variant == DATAFLEX ? 15 : 1;
}

/* The least eps.  From 1/K on, the policy would be uniform for ever: then half of the rows explore. */
static double
floor_of(const struct options *o, size_t k)
{
	const double floor = !isnan(o->floor) ? o->floor : o->variant == DATAFLEX ? 0.03 : 0;

	return k > 1 && floor * (double)k >= 1 ? 0.5 / (double)k : floor;
}

static int
check(const void *options, size_t k, struct df_err *err)
{
	const struct options *o = options;
	const double floor = !isnan(o->floor) ? o->floor : o->variant == DATAFLEX ? 0.03 : 0;

	(void)err;
	if (floor_of(o, k) < floor)
		df_warn("min-eps %g for each of %zu domains would leave nothing to learn: it is %g", floor, k,
		    floor_of(o, k));
	return DF_OK;
}

static int
begin(const void *options, const double *p0, size_t k, double *state, struct df_err *err)
{
	const struct options *o = options;
	const struct view v = view(state, k);

	memset(v.reward, 0, k * sizeof(*v.reward));
	*v.eps = 1 / (double)k;
	*v.t = 0;
	if (o->initial)
		return df_mix_proportions(o->initial, "initial-proportions", k, NULL, v.pi, err);
	memcpy(v.pi, p0, k * sizeof(*v.pi));
	return DF_OK;
}

static double
new_reward(const struct options *o, double reward, double loss, double pi)
{
	if (o->variant == REPO)
		return o->alpha * reward + (1 - o->alpha) * exp(fmin(loss, LOSS_MOST));
	reward = o->alpha * reward + (1 - o->alpha) * scale_of(o) * loss / fmax(pi, PI_LEAST);
	return o->variant == DATAFLEX ? fmin(fmax(reward, -DATAFLEX_REWARD), DATAFLEX_REWARD) : reward;
}

/* How many domains were seen, with losses that are numbers: their rewards are new. */
static size_t
take_losses(const struct options *o, const struct df_mix_seen *seen, const struct view *v)
{
	size_t n = 0;

	for (size_t i = 0; seen->sum && i < seen->n_domains; i++) {
		const struct df_mix_sum *s = &seen->sum[i];
		const double reward =
		    s->n_targets ? new_reward(o, v->reward[i], s->nll / (double)s->n_targets, v->pi[i]) : 0;
		char name[80];

		if (s->n_targets == 0)
			continue;
		if (!isfinite(s->nll) || !isfinite(reward)) {
			df_warn("step %llu: the loss of %s is no number, and is left out",
			    (unsigned long long)seen->step, df_mix_domain(seen, i, name));
			continue;
		}
		v->reward[i] = reward;
		n++;
	}
	return n;
}

/* pi = the policy of the rewards, before exploration. */
static void
exploit(const struct options *o, const struct view *v, size_t k)
{
	double largest = -INFINITY, sum = 0;

	for (size_t i = 0; i < k; i++) {
		largest = fmax(largest, v->reward[i]);
		sum += v->reward[i];
	}
	for (size_t i = 0; i < k; i++) {
		if (o->variant == REPO)
			v->pi[i] = sum > 0 ? v->reward[i] / sum : 1 / (double)k;
		else
			v->pi[i] = *v->eps * (v->reward[i] - largest);
		if (o->variant == DATAFLEX)
			v->pi[i] = fmax(v->pi[i], -DATAFLEX_DEPTH);
	}
	if (o->variant != REPO)
		df_mix_softmax(v->pi, k);
}

static int
update(const void *options, double *state, const struct df_mix_seen *seen, struct df_err *err)
{
	const struct options *o = options;
	const size_t k = seen->n_domains;
	const uint64_t warmup = o->warmup >= 0 ? (uint64_t)o->warmup : seen->total / 100;
	const struct view v = view(state, k);
	double t, eps;

	(void)err;
	if (seen->step <= warmup || (take_losses(o, seen, &v) == 0 && o->variant != DATAFLEX))
		return DF_OK;
	t = ++*v.t;
	if (o->variant == DATAFLEX)
		t = (double)(seen->step - warmup);
	eps = fmin(1 / (double)k, fmax(floor_of(o, k), sqrt(log((double)k) / ((double)k * t))));
	exploit(o, &v, k);
	df_mix_raise(v.pi, k, eps);
	*v.eps = eps;
	return DF_OK;
}

static void
propose(const void *options, const double *state, size_t k, uint64_t step, double *p)
{
	(void)options;
	(void)step;
	memcpy(p, state + k, k * sizeof(*p));
}

static void
log_state(const void *options, const double *state, size_t k, struct df_buf *out)
{
	(void)options;
	df_mix_log_array(out, "rewards", state, k);
	df_buf_puts(out, ", \"epsilon\": ");
	df_buf_json_double(out, state[2 * k]);
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "variant", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, variant), .choices = variants,
	    .help = "as in the paper, as DataFlex, or as the authors' program" },
	{ .name = "alpha", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, alpha), .arg = "X", .max = 1,
	    .help = "how much of a reward is what it was before" },
	{ .name = "reward-scale", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, scale), .arg = "X", .max = 1e6,
	    .help = "factor of the losses; default: 1, dataflex: 15" },
	{ .name = "min-eps", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, floor), .arg = "X", .max = 1,
	    .help = "the least share of each domain; default: 0, dataflex: 0.03" },
	{ .name = "warmup-steps", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, warmup), .arg = "N",
	    .max = 9e15, .help = "nothing is learnt up to this step; default: 1 % of the run's" },
	{ .name = "initial-proportions", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, initial), .arg = "P,P,..",
	    .only = DF_MIX_RUNS_ONLY, .help = "of the domains in their order; default: those of the run" },
	DF_OPT_END };
/* clang-format on */

static const struct df_opt_alias alias[] = { { "min_exploration_rate", "min-eps", NULL }, { 0 } };

const struct df_mixer df_mix_odm = {
	.name = "odm",
	.about = "more rows where the training loss is high, and some of all (Albalak et al. 2023)",
	.needs = DF_MIX_NEEDS_LOSSES,
	.defaults = &(const struct options){ .alpha = 0.9, .scale = NAN, .floor = NAN, .warmup = -1 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.alias = alias,
	.check = check,
	.n_state = n_state,
	.begin = begin,
	.update = update,
	.propose = propose,
	.log = log_state,
};
