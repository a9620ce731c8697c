/*
 * rank.c - from scores to an order, and from an order to a selection.
 *
 * NaN has no place in a comparison, so invalid rows are set apart first: a
 * broken sample must never come out on top.
 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "select/select.h"

static int
by_score(const void *x, const void *y, void *ctx)
{
	const float *score = ctx;
	const uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

	if (score[a] != score[b])
		return score[a] > score[b] ? -1 : 1;
	return a < b ? -1 : a > b;
}

void
df_rank(const float *score, uint64_t n, uint64_t *order, uint64_t *n_valid)
{
	uint64_t valid = 0, last = n;

	for (uint64_t i = n; i-- > 0;)
		if (!isfinite(score[i]))
			order[--last] = i;
	for (uint64_t i = 0; i < n; i++)
		if (isfinite(score[i]))
			order[valid++] = i;
	qsort_r(order, valid, sizeof *order, by_score, (void *)(uintptr_t)score);
	*n_valid = valid;
}

int
df_select_top(
    const struct df_selector *self, const struct df_select_opts *o, struct df_selection *out, struct df_err *err)
{
	const enum df_shortage mode = o->shortage == DF_SHORT_DEFAULT ? self->shortage : o->shortage;
	uint64_t *order = NULL, valid;
	int rc = 0;

	DF_TRY(df_alloc(&order, out->n_rows, sizeof *order, "ranks", err));
	df_rank(out->score, out->n_rows, order, &valid);
	out->n_invalid = out->n_rows - valid;
	DF_TRY(df_short_take(mode, order, o->allow_invalid ? out->n_rows : valid, df_amount_of(&o->amount, out->n_rows),
	    o->seed, o->step, &out->index, &out->n_index, err));
out:
	free(order);
	return rc;
}
