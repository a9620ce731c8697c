/*
 * draw.c - what a method draws: its weights as probabilities, the rows that it may choose, shortages.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "select/losses.h"
#include "select/select_priv.h"

/* A draw by weights: out->probability holds them until they are divided by their sum, or `of` those of out->group. */
struct draw {
	const struct df_select *in;
	struct df_selection *out;
	const double *of; /* [DF_SELECT_GROUPS], or NULL */
	uint64_t n_valid; /* rows with a weight */
	double sum;
};

static double
weight_of(const struct draw *d, uint64_t id)
{
	return d->of ? d->of[d->out->group[id]] : d->out->probability[id];
}

/* Record what the draws depend on; count the weights, without those of rows that must not be chosen. */
static int
draw_begin(struct draw *d, struct df_err *err)
{
	struct df_selection *out = d->out;
	uint64_t count[DF_SELECT_GROUPS] = { 0 };
	int rc = DF_OK;

	DF_TRY(df_meta_set_int(&out->meta, "seed", (int64_t)d->in->seed, err));
	DF_TRY(df_meta_set_int(&out->meta, "step", d->in->step, err));
	for (uint64_t i = 0; d->in->excluded && i < out->n_rows; i++) {
		if (d->in->excluded[i] && d->of)
			out->group[i] = 0;
		else if (d->in->excluded[i])
			out->probability[i] = 0;
	}
	for (uint64_t i = 0; d->of && i < out->n_rows; i++)
		count[out->group[i]]++;
	for (size_t g = 0; d->of && g < DF_SELECT_GROUPS; g++) {
		d->n_valid += d->of[g] > 0 ? count[g] : 0;
		d->sum += d->of[g] * (double)count[g];
	}
	for (uint64_t i = 0; !d->of && i < out->n_rows; i++) {
		d->n_valid += out->probability[i] > 0;
		d->sum += out->probability[i];
	}
	out->n_invalid = out->score ? out->n_rows - df_count_finite(out->score, out->n_rows) : 0;
out:
	return rc;
}

static void
to_probabilities(const struct draw *d)
{
	for (size_t g = 0; d->sum > 0 && d->of && g < DF_SELECT_GROUPS; g++)
		d->out->group_probability[g] = d->of[g] / d->sum;
	for (uint64_t i = 0; d->sum > 0 && !d->of && i < d->out->n_rows; i++)
		d->out->probability[i] /= d->sum;
}

/* n independent draws. */
static int
draw_independently(const struct draw *d, uint64_t n, struct df_err *err)
{
	struct df_selection *out = d->out;
	int rc = DF_OK;

	to_probabilities(d);
	DF_TRY(df_selection_probabilities(out, err));
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
		if (!isfinite(out->score[i]) && !(weight_of(d, i) > 0) && df_select_may(d->in, i))
			order[n_order++] = i;
	return n_order;
}

/* The race, as far as it is needed for n rows; by the weights, so that it does not depend on how their sum rounds. */
static int
draw_race(const struct draw *d, uint64_t n, bool with_invalid, struct df_err *err)
{
	const struct df_select *in = d->in;
	const struct df_weights w = { .weight = d->of ? d->of : d->out->probability,
		.group = d->of ? d->out->group : NULL };
	uint64_t *order = NULL, n_order = n < d->n_valid ? n : d->n_valid;
	int rc = DF_OK;

	DF_TRY(df_alloc(&order, n_order + (with_invalid ? d->out->n_invalid : 0), sizeof(*order), "draws", err));
	DF_TRY(df_sample_race_by(in->pool, &w, d->out->n_rows, n_order, in->seed, in->step, order, &n_order, err));
	if (with_invalid)
		n_order = add_invalid(d, order, n_order);
	to_probabilities(d);
	DF_TRY(df_select_take_all(in, order, n_order, in->amount.given ? n : n_order, d->out, err));
out:
	free(order);
	return rc;
}

static int
draw(struct draw *d, struct df_err *err)
{
	const struct df_select *in = d->in;
	const bool counted = !in->amount.tokens;
	bool with_invalid;
	uint64_t n;
	int rc = DF_OK;

	DF_TRY(draw_begin(d, err));
	n = counted && in->amount.given ? df_amount_of(&in->amount, d->out->n_rows) : d->n_valid;
	with_invalid = in->allow_invalid && d->out->score && (!counted || !in->amount.given || n > d->n_valid);
	if (counted && n > d->n_valid && d->n_valid > 0 && in->shortage == DF_SHORT_REPLACE)
		DF_TRY(draw_independently(d, n, err));
	else
		DF_TRY(draw_race(d, n, with_invalid, err));
out:
	return rc;
}

/* out->probability = the weights, which may be there already. */
static int
take_weights(const double *weight, struct df_selection *out, struct df_err *err)
{
	int rc = DF_OK;

	if (weight == out->probability)
		return DF_OK;
	DF_TRY(df_alloc(&out->probability, out->n_rows, sizeof(*out->probability), "probabilities", err));
	memcpy(out->probability, weight, out->n_rows * sizeof(*weight));
out:
	return rc;
}

int
df_select_draw(const struct df_select *in, const double *weight, struct df_selection *out, struct df_err *err)
{
	struct draw d = { .in = in, .out = out };
	int rc = DF_OK;

	DF_TRY(take_weights(weight, out, err));
	DF_TRY(draw(&d, err));
out:
	return rc;
}

int
df_select_draw_replace(const struct df_select *in, const double *weight, struct df_selection *out, struct df_err *err)
{
	struct draw d = { .in = in, .out = out };
	int rc = DF_OK;

	DF_TRY(take_weights(weight, out, err));
	DF_TRY(draw_begin(&d, err));
	DF_TRY(draw_independently(&d, df_amount_of(&in->amount, out->n_rows), err));
out:
	return rc;
}

int
df_select_draw_groups(const struct df_select *in, const double weight[DF_SELECT_GROUPS], bool replacement,
    struct df_selection *out, struct df_err *err)
{
	struct draw d = { .in = in, .out = out, .of = weight };
	int rc = DF_OK;

	if (!replacement)
		return draw(&d, err);
	DF_TRY(draw_begin(&d, err));
	DF_TRY(draw_independently(&d, df_amount_of(&in->amount, out->n_rows), err));
out:
	return rc;
}

int
df_selection_probabilities(struct df_selection *s, struct df_err *err)
{
	size_t cap = 0;
	int rc = DF_OK;

	if (s->probability || !s->group)
		return DF_OK;
	DF_TRY(df_grow(&s->probability, &cap, s->n_rows, sizeof(*s->probability), "probabilities", err));
	for (uint64_t i = 0; i < s->n_rows; i++)
		s->probability[i] = s->group_probability[s->group[i]];
out:
	return rc;
}

int
df_select_permute(const struct df_select *in, uint64_t n_rows, uint64_t *order, struct df_err *err)
{
	const struct df_weights all = { NULL, NULL };
	uint64_t n;

	return in->torch ? df_sample_torch_perm(n_rows, n_rows, in->seed + in->step, order, err)
			 : df_sample_race_by(in->pool, &all, n_rows, n_rows, in->seed, in->step, order, &n, err);
}

int
df_select_fill(const struct df_select *in, const uint8_t *valid, uint64_t n_rows, uint64_t *order, uint64_t *n_order,
    struct df_err *err)
{
	double *weight = NULL;
	uint64_t n_more;
	int rc = DF_OK;

	DF_TRY(df_alloc(&weight, n_rows, sizeof(*weight), "weights", err));
	for (uint64_t i = 0; i < n_rows; i++)
		weight[i] = valid[i] && df_select_may(in, i);
	for (uint64_t i = 0; i < *n_order; i++)
		weight[order[i]] = 0;
	DF_TRY(df_sample_race(weight, n_rows, n_rows - *n_order, in->seed, in->step, order + *n_order, &n_more, err));
	*n_order += n_more;
out:
	free(weight);
	return rc;
}
