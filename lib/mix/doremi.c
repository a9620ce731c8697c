/*
 * doremi.c - weights of domains for the worst case over domains (Xie et al. 2023, arXiv:2305.10429, algorithm 1).
 *
 * A small proxy is trained on rows from all domains equally.  Its loss weighs domain i by alpha_i, which grows with the
 * domain's excess loss over a reference model, so the proxy works on what the reference shows to be learnable:
 *
 *     lambda_i = mean over the targets of domain i of max(loss - reference loss, 0)
 *     alpha_i  = (1 - c) softmax(ln alpha_i + eta lambda_i) + c / K
 *
 * The result is the mean of alpha over all steps: the proportions of the large model's rows.  A domain that is absent
 * keeps its lambda; before it was ever seen, it has the mean of those that are present, which moves it by nothing.
 *
 *   profile repo   as the authors' program: alpha and the rows begin with the initial proportions, the first of which
 *                  counts in the mean; an unseen domain has lambda ln(vocabulary), and jumps
 *   center         as DataFlex: lambda less the mean of those present, within 5 of it; 0 where absent
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "mix/mix_priv.h"

#define CENTER_MOST 5  /* DataFlex */
#define UNSEEN      -1 /* as lambda: none is below 0 */

enum profile { PAPER, REPO };
static const char *const profiles[] = { "paper", "repo", NULL };

struct options {
	double eta, smoothing, unseen;
	int profile;
	bool center;
};

/* The state: arrays by domain, then the number of alphas in the sum. */
struct view {
	double *alpha, *lambda, *sum, *sampling, *n;
};

static struct view
view(double *state, size_t k)
{
	return (struct view){ state, state + k, state + 2 * k, state + 3 * k, state + 4 * k };
}

/* Of a state that is only read. */
static struct view
look(const double *state, size_t k)
{
	return view((double *)(uintptr_t)state, k);
}

static size_t
n_state(size_t k)
{
	return 4 * k + 1;
}

static int
begin(const void *options, const double *p0, size_t k, double *state, struct df_err *err)
{
	const struct options *o = options;
	const struct view v = view(state, k);

	(void)err;
	for (size_t i = 0; i < k; i++) {
		v.alpha[i] = v.sampling[i] = o->profile == REPO ? p0[i] : 1 / (double)k;
		v.lambda[i] = o->profile == REPO ? o->unseen : UNSEEN;
		v.sum[i] = o->profile == REPO ? p0[i] : 0;
	}
	*v.n = o->profile == REPO;
	return DF_OK;
}

/* Its mean excess in *lambda.  False: it was not seen, or with losses that are no numbers. */
static bool
is_present(const struct df_mix_seen *seen, size_t i, double *lambda)
{
	const struct df_mix_sum *s = seen->sum ? &seen->sum[i] : NULL;
	char name[80];

	if (!s || s->n_excess == 0)
		return false;
	*lambda = s->excess / (double)s->n_excess;
	if (isfinite(*lambda) && *lambda >= 0)
		return true;
	df_warn("step %llu: the excess loss of %s is no number, and is left out", (unsigned long long)seen->step,
	    df_mix_domain(seen, i, name));
	return false;
}

/* lambda of those present; *mean of these.  How many there are. */
static size_t
take_excess(const struct df_mix_seen *seen, double *lambda, double *mean)
{
	double sum = 0, x;
	size_t n = 0;

	for (size_t i = 0; i < seen->n_domains; i++) {
		if (is_present(seen, i, &x)) {
			lambda[i] = x;
			sum += x / (double)seen->n_domains; /* cannot overflow */
			n++;
		}
	}
	*mean = n ? sum * ((double)seen->n_domains / (double)n) : 0;
	return n;
}

/* What domain i's ln alpha grows by, but for eta. */
static double
gain(const struct options *o, const struct df_mix_seen *seen, size_t i, double lambda, double mean)
{
	const struct df_mix_sum *s = seen->sum ? &seen->sum[i] : NULL;
	const bool present = s && s->n_excess > 0 && isfinite(s->excess) && s->excess >= 0;

	if (o->center)
		return present ? fmin(fmax(lambda - mean, -CENTER_MOST), CENTER_MOST) : 0;
	return lambda < 0 ? mean : lambda;
}

static int
update(const void *options, double *state, const struct df_mix_seen *seen, struct df_err *err)
{
	const struct options *o = options;
	const size_t k = seen->n_domains;
	const struct view v = view(state, k);
	double mean;

	(void)err;
	take_excess(seen, v.lambda, &mean);
	for (size_t i = 0; i < k; i++)
		v.alpha[i] = log(v.alpha[i]) + fmin(o->eta * gain(o, seen, i, v.lambda[i], mean), DBL_MAX / 4);
	df_mix_softmax(v.alpha, k);
	df_mix_raise(v.alpha, k, o->smoothing / (double)k);
	for (size_t i = 0; i < k; i++)
		v.sum[i] += v.alpha[i];
	++*v.n;
	return DF_OK;
}

static void
propose(const void *options, const double *state, size_t k, uint64_t step, double *p)
{
	(void)options;
	(void)step;
	memcpy(p, look(state, k).sampling, k * sizeof(*p));
}

static void
weigh(const void *options, const double *state, size_t k, double *weight)
{
	(void)options;
	memcpy(weight, look(state, k).alpha, k * sizeof(*weight));
}

static void
result(const void *options, const double *state, size_t k, double *p)
{
	const struct view v = look(state, k);
	double sum = 0;

	(void)options;
	for (size_t i = 0; i < k; i++) {
		p[i] = *v.n > 0 ? v.sum[i] : v.alpha[i];
		sum += p[i];
	}
	for (size_t i = 0; i < k; i++)
		p[i] /= sum;
}

static int
check(const void *options, size_t k, struct df_err *err)
{
	const struct options *o = options;

	(void)k;
	if (o->profile == REPO && o->center)
		return df_fail(
		    err, DF_EUSAGE, "center is DataFlex's, profile repo is of the authors: only one of them");
	return DF_OK;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "eta", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, eta), .arg = "X", .max = 1e6,
	    .help = "how fast the weights follow the excess losses" },
	{ .name = "smoothing", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, smoothing), .arg = "C", .max = 1,
	    .help = "fraction that is divided equally: no weight is below C/K" },
	{ .name = "profile", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, profile), .choices = profiles,
	    .help = "as in the paper, or as the authors' program" },
	{ .name = "unseen", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, unseen), .arg = "X", .max = 1e6,
	    .help = "profile repo: excess of a domain that was never seen" },
	{ .name = "center", .type = DF_OPT_FLAG, .value = DF_OPT_AT(struct options, center),
	    .help = "excess less the mean of the domains that are present, as in DataFlex" },
	DF_OPT_END };
/* clang-format on */

static const struct df_opt_alias alias[] = { { "reweight_eta", "eta", NULL }, { "reweight_eps", "smoothing", NULL },
	{ 0 } };

const struct df_mixer df_mix_doremi = {
	.name = "doremi",
	.about = "more weight where a proxy can still learn what a reference has learnt (Xie et al. 2023)",
	.needs = DF_MIX_NEEDS_LOSSES | DF_MIX_NEEDS_REFERENCE,
	.each_step = true,
	.defaults = &(const struct options){ .eta = 1, .smoothing = 1e-3, .unseen = 10.82490511970208 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.alias = alias,
	.check = check,
	.n_state = n_state,
	.begin = begin,
	.update = update,
	.propose = propose,
	.weigh = weigh,
	.result = result,
};
