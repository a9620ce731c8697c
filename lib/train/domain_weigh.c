/*
 * domain_weigh.c - excess losses of a step by domain, to the mixer; its weights, to the samples.
 */
#include "train/domain_weigh.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int
df_domain_weigh_init(struct df_domain_weigh *w, struct df_err *err)
{
	int rc;

	DF_TRY(df_alloc(&w->sum, w->n_domains, sizeof(*w->sum), "domains", err));
	DF_TRY(df_alloc(&w->alpha, w->n_domains, sizeof(*w->alpha), "domains", err));
	DF_TRY(df_alloc(&w->q, w->n_domains, sizeof(*w->q), "domains", err));
out:
	return rc;
}

void
df_domain_weigh_release(struct df_domain_weigh *w)
{
	free(w->sum);
	free(w->alpha);
	free(w->q);
	free(w->nll);
}

void
df_domain_weigh_begin(struct df_domain_weigh *w, uint64_t step)
{
	w->step = step;
	w->n_skipped = 0;
	memset(w->sum, 0, w->n_domains * sizeof(*w->sum));
}

/* Add a sample's targets to the sums of its domain; ref is NULL without a reference. */
static void
measure_sample(struct df_domain_weigh *w, struct df_mix_sum *sum, const float *nll, const float *ref, uint32_t n)
{
	sum->n += n > 0;
	sum->n_targets += n;
	for (uint32_t t = 0; t < n; t++) {
		const double l = (double)nll[t], excess = ref ? l - (double)ref[t] : 0;

		sum->nll += l;
		if (!isfinite(excess)) {
			w->n_skipped++;
			continue;
		}
		sum->excess += excess > 0 ? excess : 0;
		sum->n_excess++;
	}
}

static int
measure(struct df_domain_weigh *w, const struct df_step_group *g, struct df_err *err)
{
	const struct df_target_losses *l = &g->losses;
	const uint32_t n = l->offsets[l->n];
	int rc = DF_OK;

	if (w->reference) {
		DF_TRY(df_grow(&w->nll, &w->cap_nll, n, sizeof(*w->nll), "reference losses", err));
		DF_TRY(df_reference_losses(w->reference, g->row, l->n, l->offsets, w->nll, err));
	}
	for (size_t s = 0; s < l->n; s++)
		measure_sample(w, &w->sum[l->domain[s]], l->nll + l->offsets[s],
		    w->reference ? w->nll + l->offsets[s] : NULL, l->offsets[s + 1] - l->offsets[s]);
out:
	return rc;
}

static int
learn(struct df_domain_weigh *w, struct df_err *err)
{
	const struct df_mix_seen seen = {
		.n_domains = w->n_domains, .sum = w->sum, .step = w->step, .total = w->total, .names = w->names
	};

	return w->mixer->update(w->options, w->state, &seen, err);
}

/* q, and *total = its sum over the targets of the step. */
static int
step_weights(struct df_domain_weigh *w, const struct df_step_counts *step, double *total, struct df_err *err)
{
	int rc;

	w->mixer->weigh(w->options, w->state, w->n_domains, w->alpha);
	if ((rc = df_mix_check(w->mixer, w->alpha, w->n_domains, w->names, err)) != DF_OK)
		return rc;
	*total = 0;
	for (size_t i = 0; i < w->n_domains; i++) {
		w->q[i] = w->p[i] > 0 ? w->alpha[i] / w->p[i] : 0;
		*total += w->q[i] * (double)step->domain[i].n_targets;
	}
	if (*total > 0 && isfinite(*total))
		return DF_OK;
	return df_fail(err, DF_ERANGE, "%s: the weights of all domains in the step are 0", w->mixer->name);
}

int
df_domain_weigh_group(void *ctx, const struct df_step_group *g, double *weight, struct df_err *err)
{
	const struct df_target_losses *l = &g->losses;
	struct df_domain_weigh *w = ctx;
	double total;
	int rc;

	DF_TRY(measure(w, g, err));
	if (w->fresh)
		DF_TRY(learn(w, err));
	DF_TRY(step_weights(w, g->step, &total, err));
	for (size_t s = 0; s < l->n; s++)
		weight[s] = w->q[l->domain[s]] * (double)(l->offsets[s + 1] - l->offsets[s]) / total;
out:
	return rc;
}

int
df_domain_weigh_end(struct df_domain_weigh *w, struct df_err *err)
{
	return w->fresh ? DF_OK : learn(w, err);
}
