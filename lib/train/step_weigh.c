/*
 * step_weigh.c - the losses of a group of samples, from the lanes that computed them to the weigher.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "train/step_priv.h"

int
df_step_group_begin(struct df_stepper *s, size_t first, size_t n, struct df_err *err)
{
	struct df_step_losses *g = &s->group;
	size_t n_targets = 0;
	int rc;

	g->first = first;
	g->n = n;
	for (size_t i = first; i < first + n; i++)
		n_targets += df_step_targets(s, i);
	DF_TRY(df_grow(&g->offsets, &g->cap_offsets, n + 1, sizeof(*g->offsets), "a group", err));
	DF_TRY(df_grow(&g->id, &g->cap_id, n, sizeof(*g->id), "a group", err));
	DF_TRY(df_grow(&g->domain, &g->cap_domain, n, sizeof(*g->domain), "a group", err));
	DF_TRY(df_grow(&g->token, &g->cap_token, n_targets, sizeof(*g->token), "a group", err));
	DF_TRY(df_grow(&g->nll, &g->cap_nll, n_targets, sizeof(*g->nll), "a group", err));
	g->offsets[0] = 0;
	for (size_t i = 0; i < n; i++) {
		g->offsets[i + 1] = g->offsets[i] + (uint32_t)df_step_targets(s, first + i);
		g->id[i] = df_rows_id(s->r, s->which[first + i]);
		g->domain[i] = df_rows_domain(s->r, s->which[first + i]);
	}
out:
	return rc;
}

void
df_step_group_take(struct df_stepper *s, size_t lanes)
{
	struct df_step_losses *g = &s->group;

	for (size_t i = 0; i < lanes; i++) {
		const struct df_target_losses *from = &s->lane[i].losses;

		for (size_t k = 0; k < from->n; k++) {
			const uint32_t at = g->offsets[s->lane[i].slot[k] - g->first], t = from->offsets[k];
			const size_t slot = s->lane[i].slot[k], count = from->offsets[k + 1] - t;

			memcpy(g->nll + at, from->nll + t, count * sizeof(*g->nll));
			memcpy(g->token + at, from->token + t, count * sizeof(*g->token));
			s->nll[slot] = 0;
			for (size_t j = 0; j < count; j++)
				s->nll[slot] += (double)g->nll[at + j];
			s->loss[slot] = s->nll[slot] / (double)count;
		}
	}
}

int
df_step_group_weigh(struct df_stepper *s, struct df_err *err)
{
	const struct df_step_losses *g = &s->group;
	const bool whole = s->weigher->whole_step;
	const struct df_step_group group = {
		.step = &s->counts,
		.micro = whole ? 0 : g->first / s->o.batch,
		.n_groups = whole ? 1 : s->counts.n_active,
		.losses = { g->n, g->offsets, g->nll, g->token, g->id, g->domain },
		.row = s->which + g->first,
	};
	double *weight = s->weight + g->first;
	int rc;

	DF_TRY(s->weigher->weigh(s->weigher->ctx, &group, weight, err));
	for (size_t i = 0; i < g->n; i++) {
		if (!isfinite(weight[i]) || weight[i] < 0)
			return df_fail(
			    err, DF_EINTERNAL, "sample %llu has weight %g", (unsigned long long)g->id[i], weight[i]);
	}
out:
	return rc;
}

void
df_step_losses_release(struct df_step_losses *g)
{
	free(g->offsets);
	free(g->token);
	free(g->id);
	free(g->domain);
	free(g->nll);
}
