/*
 * draw.c - what a method draws: its weights as probabilities, the rows that it may choose, shortages.
 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "select/losses.h"
#include "select/select_priv.h"

/* A draw by the weights of a method. */
struct draw {
	const struct df_select *in;
	struct df_selection *out;
	const double *weight; /* [n_rows]: 0 where a row must not be chosen */
	double *own;          /* weight, where it is not the method's */
	uint64_t n_valid;     /* rows with a weight */
};

/* The probabilities of out, and what the draws depend on. */
static int
draw_begin(struct draw *d, const double *weight, struct df_err *err)
{
	const uint64_t n = d->out->n_rows;
	double sum = 0, *p;
	int rc = DF_OK;

	DF_TRY(df_meta_set_int(&d->out->meta, "seed", (int64_t)d->in->seed, err));
	DF_TRY(df_meta_set_int(&d->out->meta, "step", d->in->step, err));
	d->weight = weight;
	if (d->in->excluded) {
		DF_TRY(df_alloc(&d->own, n, sizeof(*d->own), "weights", err));
		for (uint64_t i = 0; i < n; i++)
			d->own[i] = d->in->excluded[i] ? 0 : weight[i];
		d->weight = d->own;
	}
	DF_TRY(df_alloc(&d->out->probability, n, sizeof(*d->out->probability), "probabilities", err));
	p = d->out->probability;
	for (uint64_t i = 0; i < n; i++) {
		d->n_valid += d->weight[i] > 0;
		sum += d->weight[i];
	}
	for (uint64_t i = 0; i < n; i++)
		p[i] = sum > 0 ? d->weight[i] / sum : 0;
	d->out->n_invalid = d->out->score ? n - df_count_finite(d->out->score, n) : 0;
out:
	return rc;
}

/* n independent draws. */
static int
draw_independently(const struct draw *d, uint64_t n, struct df_err *err)
{
	struct df_selection *out = d->out;
	int rc = DF_OK;

	DF_TRY(df_alloc(&out->index, n, sizeof(*out->index), "index", err));
	DF_TRY(df_sample_replace(out->probability, out->n_rows, n, d->in->seed, d->in->step, out->index, err));
	out->n_index = n;
out:
	return rc;
}

/* Rows without a finite score, which come after all others, where they are allowed and have no weight. */
static uint64_t
add_invalid(const struct draw *d, uint64_t *order, uint64_t n_order)
{
	const struct df_selection *out = d->out;

	for (uint64_t i = 0; i < out->n_rows; i++)
		if (!isfinite(out->score[i]) && !(d->weight[i] > 0) && df_select_may(d->in, i))
			order[n_order++] = i;
	return n_order;
}

/* The race, as far as it is needed for n rows. */
static int
draw_race(const struct draw *d, uint64_t n, bool with_invalid, struct df_err *err)
{
	const struct df_select *in = d->in;
	uint64_t *order = NULL, n_order = n < d->n_valid ? n : d->n_valid;
	int rc = DF_OK;

	DF_TRY(df_alloc(&order, n_order + (with_invalid ? d->out->n_invalid : 0), sizeof(*order), "draws", err));
	/* By the weights, not the probabilities: the draw must not depend on how their sum rounds. */
	DF_TRY(
	    df_sample_race_on(in->pool, d->weight, d->out->n_rows, n_order, in->seed, in->step, order, &n_order, err));
	if (with_invalid)
		n_order = add_invalid(d, order, n_order);
	DF_TRY(df_select_take_all(in, order, n_order, in->amount.given ? n : n_order, d->out, err));
out:
	free(order);
	return rc;
}

int
df_select_draw(const struct df_select *in, const double *weight, struct df_selection *out, struct df_err *err)
{
	const bool counted = !in->amount.tokens;
	struct draw d = { .in = in, .out = out };
	bool with_invalid;
	uint64_t n;
	int rc = DF_OK;

	DF_TRY(draw_begin(&d, weight, err));
	n = counted && in->amount.given ? df_amount_of(&in->amount, out->n_rows) : d.n_valid;
	with_invalid = in->allow_invalid && out->score && (!counted || !in->amount.given || n > d.n_valid);
	if (counted && n > d.n_valid && d.n_valid > 0 && in->shortage == DF_SHORT_REPLACE)
		DF_TRY(draw_independently(&d, n, err));
	else
		DF_TRY(draw_race(&d, n, with_invalid, err));
out:
	free(d.own);
	return rc;
}

int
df_select_draw_replace(const struct df_select *in, const double *weight, struct df_selection *out, struct df_err *err)
{
	struct draw d = { .in = in, .out = out };
	int rc = DF_OK;

	DF_TRY(draw_begin(&d, weight, err));
	DF_TRY(draw_independently(&d, df_amount_of(&in->amount, out->n_rows), err));
out:
	free(d.own);
	return rc;
}

int
df_select_permute(const struct df_select *in, uint64_t n_rows, uint64_t *order, struct df_err *err)
{
	uint64_t n;

	return in->torch ? df_sample_torch_perm(n_rows, n_rows, in->seed + in->step, order, err)
			 : df_sample_race_on(in->pool, NULL, n_rows, n_rows, in->seed, in->step, order, &n, err);
}
