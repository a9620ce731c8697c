/*
 * dynamic_moe.c - more rows of the domains that use other experts than the rest (Zhu et al. 2024, arXiv:2406.11256).
 *
 * o_i: the share of domain i's tokens that went to each expert, on held-out rows.
 *
 *     Delta_i = mean over domains j of || o_i - o_j ||      with j = i, which adds 0
 *     w_i     = (1 - c) softmax(ln w_i + eta Delta_i) + c / K
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "mix/mix_priv.h"

#define W_LEAST 1e-10

struct options {
	double eta, smoothing;
};

static size_t
n_state(size_t k)
{
	return k;
}

static int
begin(const void *options, const double *p0, size_t k, double *state, struct df_err *err)
{
	(void)options;
	(void)err;
	memcpy(state, p0, k * sizeof(*state));
	return DF_OK;
}

/* o [n_experts] = loads divided by their sum. */
static int
shares(const struct df_mix_seen *seen, size_t i, double *o, struct df_err *err)
{
	const double *load = seen->load + i * seen->n_experts;
	double sum = 0;
	char name[80];

	for (size_t e = 0; e < seen->n_experts; e++) {
		if (!isfinite(load[e]) || load[e] < 0)
			return df_fail(err, DF_EFORMAT, "%s: the load of expert %zu is %g",
			    df_mix_domain(seen, i, name), e, load[e]);
		sum += load[e];
	}
	if (!(sum > 0 && isfinite(sum)))
		return df_fail(
		    err, DF_EFORMAT, "%s: none of its tokens went to an expert", df_mix_domain(seen, i, name));
	for (size_t e = 0; e < seen->n_experts; e++)
		o[e] = load[e] / sum;
	return DF_OK;
}

/* Four sums, which do not wait for each other. */
static double
distance(const double *a, const double *b, size_t n)
{
	double sum[4] = { 0 };
	size_t e = 0;

	for (; e + 4 <= n; e += 4)
		for (size_t i = 0; i < 4; i++)
			sum[i] += (a[e + i] - b[e + i]) * (a[e + i] - b[e + i]);
	for (; e < n; e++)
		sum[0] += (a[e] - b[e]) * (a[e] - b[e]);
	return sqrt(sum[0] + sum[1] + sum[2] + sum[3]);
}

static int
update(const void *options, double *state, const struct df_mix_seen *seen, struct df_err *err)
{
	const struct options *p = options;
	const size_t k = seen->n_domains, n = seen->n_experts;
	double *o = NULL, *delta = NULL;
	int rc = DF_OK;

	if (!seen->load || n == 0)
		return df_fail(err, DF_EUSAGE, "no loads of experts: the model must be a mixture of experts");
	DF_TRY(df_size_mul(k, n, &(size_t){ 0 }, "loads", err));
	DF_TRY(df_alloc(&o, k * n, sizeof(*o), "loads", err));
	DF_TRY(df_alloc(&delta, k, sizeof(*delta), "distances", err));
	for (size_t i = 0; i < k; i++)
		DF_TRY(shares(seen, i, o + i * n, err));
	for (size_t i = 0; i < k; i++) {
		for (size_t j = 0; j < i; j++) {
			const double d = distance(o + i * n, o + j * n, n);

			delta[i] += d;
			delta[j] += d;
		}
	}
	for (size_t i = 0; i < k; i++)
		state[i] = log(fmax(state[i], W_LEAST)) + p->eta * delta[i] / (double)k;
	df_mix_softmax(state, k);
	df_mix_raise(state, k, p->smoothing / (double)k);
out:
	free(o);
	free(delta);
	return rc;
}

static void
propose(const void *options, const double *state, size_t k, uint64_t step, double *p)
{
	(void)options;
	(void)step;
	memcpy(p, state, k * sizeof(*p));
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "eta", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, eta), .arg = "X", .max = 1e6,
	    .help = "how fast the proportions follow the distances" },
	{ .name = "smoothing", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, smoothing), .arg = "C", .max = 1,
	    .help = "fraction that is divided equally: no proportion is below C/K" },
	DF_OPT_END };
/* clang-format on */

static const struct df_opt_alias alias[] = { { "c", "smoothing", NULL }, { 0 } };

const struct df_mixer df_mix_dynamic_moe = {
	.name = "dynamic_moe",
	.about = "more rows of the domains that use other experts than the rest (Zhu et al. 2024)",
	.needs = DF_MIX_NEEDS_LOADS,
	.defaults = &(const struct options){ .eta = 10, .smoothing = 0.05 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.alias = alias,
	.n_state = n_state,
	.begin = begin,
	.update = update,
	.propose = propose,
};
