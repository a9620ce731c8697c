/*
 * step_lanes.c - the gradient of a step: micro-batches, and lanes over each of them.
 *
 * A lane takes its samples through forward and backward in one go.  Where samples are weighed together, all lanes run
 * their forward, then the weigher is asked, then all run their backward.
 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "train/step_priv.h"

#define LANE_TOKENS 128 /* a smaller group of samples does not repay a lane of its own */

void
df_lane_release(struct df_stepper *s, struct df_lane *l)
{
	df_work_free(l->work);
	if (!df_tensor_is_none(l->grad))
		df_tensor_free(df_model_backend(s->m), &l->grad);
	df_gather_release(&l->gather);
	free(l->key);
	free(l->scale);
	free(l->loss);
	free(l->nll);
	free(l->slot);
}

int
df_lane_init(struct df_stepper *s, struct df_lane *l, struct df_err *err)
{
	size_t numel = df_model_train(s->m)->numel;
	int rc = DF_OK;

	DF_TRY(df_work_new(&l->work, s->m, err));
	df_work_weigh(l->work, s->o.weigh_target, s->o.weigh_target_ctx);
	DF_TRY(df_tensor_alloc(df_model_backend(s->m), &l->grad, DF_F32, 1, numel, "gradient", err));
	DF_TRY(df_alloc(&l->key, s->o.batch, sizeof(*l->key), "batch", err));
	DF_TRY(df_alloc(&l->scale, s->o.batch, sizeof(*l->scale), "batch", err));
	DF_TRY(df_alloc(&l->loss, s->o.batch, sizeof(*l->loss), "batch", err));
	DF_TRY(df_alloc(&l->nll, s->o.batch, sizeof(*l->nll), "batch", err));
	DF_TRY(df_alloc(&l->slot, s->o.batch, sizeof(*l->slot), "batch", err));
out:
	return rc;
}

/* Longest first; equal lengths in their order in the batch. */
static int
by_length(const void *a, const void *b)
{
	const struct pick *x = a, *y = b;

	if (x->len != y->len)
		return x->len > y->len ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

/*
 * Deal the samples of a micro-batch to groups, longest first, each to the group with the fewest
 * tokens; samples that do not count are left out.  Returns the number of groups; each has a sample at least.
 */
static size_t
deal(struct df_stepper *s, size_t first, size_t n)
{
	const uint64_t *offsets = s->tokens.offsets;
	uint64_t total = 0;
	size_t n_pick = 0, groups = 1;

	for (size_t i = first; i < first + n; i++) {
		uint64_t len = offsets[i + 1] - offsets[i];

		if (!df_step_counts_sample(s, i))
			continue;
		s->pick[n_pick++] = (struct pick){ len, i };
		total += len;
	}
	while (groups < s->n_lanes && groups * 2 <= n_pick && total / (groups * 2) >= LANE_TOKENS)
		groups *= 2;
	qsort(s->pick, n_pick, sizeof(*s->pick), by_length);
	for (size_t g = 0; g < groups; g++) {
		s->lane[g].n = 0;
		s->lane[g].n_tokens = 0;
	}
	for (size_t i = 0; i < n_pick; i++) {
		struct df_lane *l = &s->lane[0];

		for (size_t g = 1; g < groups; g++) {
			if (s->lane[g].n_tokens < l->n_tokens)
				l = &s->lane[g];
		}
		l->slot[l->n++] = s->pick[i].at;
		l->n_tokens += s->pick[i].len;
	}
	return n_pick > 0 ? groups : 0;
}

/* A lane's samples, and its gradient to add to. */
static int
take_samples(struct df_stepper *s, struct df_lane *l)
{
	struct df_err *err = &l->err;
	int rc = DF_OK;

	if (!l->dirty)
		DF_TRY(df_fill(df_work_backend(l->work), l->grad, 0, err));
	l->dirty = true;
	DF_TRY(df_gather_pick(&l->gather, &s->tokens, l->slot, l->n, &l->tokens, err));
	for (size_t k = 0; k < l->n; k++)
		l->key[k] = df_model_dropout_key(s->o.seed, s->moments.step, df_rows_id(s->r, s->which[l->slot[k]]));
	l->tokens.key = l->key;
out:
	return rc;
}

static void
put_losses(struct df_stepper *s, const struct df_lane *l)
{
	for (size_t k = 0; k < l->n; k++) {
		s->loss[l->slot[k]] = (double)l->loss[k];
		s->nll[l->slot[k]] = l->nll[k];
	}
}

/* Tasks of the pool, one for each lane that has samples. */
static void
run_lane(void *ctx, size_t i, int worker)
{
	struct df_stepper *s = ctx;
	struct df_lane *l = &s->lane[i];
	const struct df_losses out = { .loss = l->loss, .nll = l->nll };
	int rc;

	(void)worker;
	DF_TRY(take_samples(s, l));
	DF_TRY(df_model_grad(s->m, l->work, &l->tokens, l->scale, l->grad, &out, &l->err));
	put_losses(s, l);
out:
	l->rc = rc;
}

static void
run_forward(void *ctx, size_t i, int worker)
{
	struct df_stepper *s = ctx;
	struct df_lane *l = &s->lane[i];
	int rc;

	(void)worker;
	DF_TRY(take_samples(s, l));
	DF_TRY(df_model_forward(s->m, l->work, &l->tokens, &l->losses, &l->err));
out:
	l->rc = rc;
}

static void
run_backward(void *ctx, size_t i, int worker)
{
	struct df_stepper *s = ctx;
	struct df_lane *l = &s->lane[i];
	const struct df_losses out = { .loss = l->loss, .nll = l->nll };
	int rc;

	(void)worker;
	DF_TRY(df_model_backward(s->m, l->work, l->scale, NULL, l->grad, &out, &l->err));
	put_losses(s, l);
out:
	l->rc = rc;
}

static int
run_lanes(struct df_stepper *s, size_t groups, df_pool_fn *fn, struct df_err *err)
{
	df_pool_for_large(s->pool, groups, fn, s);
	for (size_t g = 0; g < groups; g++) {
		if (s->lane[g].rc != DF_OK) {
			if (err)
				*err = s->lane[g].err;
			return s->lane[g].rc;
		}
	}
	return DF_OK;
}

/* The factor of the nll of each target of a sample. */
static float
scale_of(const struct df_stepper *s, size_t at)
{
	const double targets = (double)df_step_targets(s, at);

	if (s->weigher != NULL)
		return (float)(s->weight[at] / targets);
	if (s->given != NULL)
		return (float)((double)s->given[s->which[at]] / (targets * (double)s->counts.n));
	return (float)(1.0 / (double)s->counts.n_targets);
}

static void
set_scales(struct df_stepper *s, size_t groups)
{
	for (size_t g = 0; g < groups; g++) {
		struct df_lane *l = &s->lane[g];

		for (size_t k = 0; k < l->n; k++)
			l->scale[k] = scale_of(s, l->slot[k]);
	}
}

/* Forward and backward of samples [first, first+n). */
static int
train_micro(struct df_stepper *s, size_t first, size_t n, struct df_err *err)
{
	const size_t groups = deal(s, first, n);

	set_scales(s, groups);
	return run_lanes(s, groups, run_lane, err);
}

/* Forward only; their losses go to the group. */
static int
look_at_micro(struct df_stepper *s, size_t first, size_t n, size_t *groups, struct df_err *err)
{
	int rc;

	*groups = deal(s, first, n);
	DF_TRY(run_lanes(s, *groups, run_forward, err));
	df_step_group_take(s, *groups);
out:
	return rc;
}

static bool
any_invalid(const struct df_stepper *s, size_t first, size_t n)
{
	for (size_t i = first; i < first + n; i++) {
		if (df_step_targets(s, i) > 0 && !isfinite(s->nll[i]))
			return true;
	}
	return false;
}

/* A micro-batch that is a group: the backward uses what the forward left, unless it has to do without a sample. */
static int
weigh_micro(struct df_stepper *s, size_t first, size_t n, struct df_err *err)
{
	size_t groups;
	int rc;

	DF_TRY(df_step_group_begin(s, first, n, err));
	DF_TRY(look_at_micro(s, first, n, &groups, err));
	if (groups == 0)
		goto out;
	DF_TRY(df_step_group_weigh(s, err));
	if (any_invalid(s, first, n))
		return train_micro(s, first, n, err);
	set_scales(s, groups);
	rc = run_lanes(s, groups, run_backward, err);
out:
	return rc;
}

/* Samples [first, first+n) of micro-batch `first`. */
static size_t
micro_size(const struct df_stepper *s, size_t first)
{
	return s->n - first < s->o.batch ? s->n - first : s->o.batch;
}

int
df_step_accumulate(struct df_stepper *s, struct df_err *err)
{
	const size_t batch = s->o.batch, lanes = s->n < batch ? s->n : batch;
	const bool two_passes = s->weigher != NULL && s->weigher->whole_step && s->n > batch;
	size_t groups;
	int rc = DF_OK;

	for (size_t g = 1; g < s->n_lanes && g < lanes; g++) {
		if (!s->lane[g].work)
			DF_TRY(df_lane_init(s, &s->lane[g], err));
	}
	if (two_passes) {
		DF_TRY(df_step_group_begin(s, 0, s->n, err));
		for (size_t first = 0; first < s->n; first += batch)
			DF_TRY(look_at_micro(s, first, micro_size(s, first), &groups, err));
		DF_TRY(df_step_group_weigh(s, err));
	}
	for (size_t first = 0; first < s->n; first += batch) {
		const size_t n = micro_size(s, first);

		DF_TRY(
		    s->weigher == NULL || two_passes ? train_micro(s, first, n, err) : weigh_micro(s, first, n, err));
	}
	if (!s->lane[0].dirty) { /* all weights are 0 */
		DF_TRY(df_fill(df_work_backend(s->lane[0].work), s->lane[0].grad, 0, err));
		s->lane[0].dirty = true;
	}
out:
	return rc;
}
