/*
 * step.c - lanes over a micro-batch, a fixed-order sum, one update.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "weigh/dft.h"
#include "train/step.h"

#define MAX_LANES   8
#define LANE_FLOATS ((size_t)64 << 20) /* all lanes' gradients together hold at most this many */
#define LANE_TOKENS 128                /* a smaller group does not repay a lane of its own */

/* One group's work: its samples, its memory, its result. */
struct lane {
	struct df_work *work;
	struct df_tensor grad; /* [1, train numel]; NONE until first used */
	bool dirty;            /* grad holds this step's sum */
	struct df_gather gather;
	uint64_t *key;       /* [batch] */
	float *scale, *loss; /* [batch] */
	uint32_t *n_targets; /* [batch] */
	size_t *slot;        /* [batch] place in the step, for the losses */
	size_t n;
	uint64_t n_tokens;
	int rc;
	struct df_err err;
};

struct df_stepper {
	struct df_model *m;
	struct df_pool *pool;
	struct df_stepper_opts o;
	struct df_moments moments;
	struct lane lane[MAX_LANES];
	size_t n_lanes; /* a power of two: what the size of the model allows */
	/* of the current step */
	const struct df_rows *r;
	const uint64_t *which;
	struct df_gather gather; /* all of its rows */
	struct df_tokens tokens; /* the tokens in gather */
	double *loss;            /* [cap_loss] mean nll of each sample */
	size_t cap_loss;
	struct pick {
		uint64_t len;
		size_t at;
	} * pick; /* [batch] */
};

static void
lane_release(struct df_stepper *s, struct lane *l)
{
	df_work_free(l->work);
	if (!df_tensor_is_none(l->grad))
		df_tensor_free(df_model_backend(s->m), &l->grad);
	df_gather_release(&l->gather);
	free(l->key);
	free(l->scale);
	free(l->loss);
	free(l->n_targets);
	free(l->slot);
}

static int
lane_init(struct df_stepper *s, struct lane *l, struct df_err *err)
{
	size_t numel = df_model_train(s->m)->numel;
	int rc = DF_OK;

	DF_TRY(df_work_new(&l->work, s->m, err));
	if (s->o.dft)
		df_work_weigh(l->work, df_dft_weigh, NULL);
	DF_TRY(df_tensor_alloc(df_model_backend(s->m), &l->grad, DF_F32, 1, numel, "gradient", err));
	DF_TRY(df_alloc(&l->key, s->o.batch, sizeof(*l->key), "batch", err));
	DF_TRY(df_alloc(&l->scale, s->o.batch, sizeof(*l->scale), "batch", err));
	DF_TRY(df_alloc(&l->loss, s->o.batch, sizeof(*l->loss), "batch", err));
	DF_TRY(df_alloc(&l->n_targets, s->o.batch, sizeof(*l->n_targets), "batch", err));
	DF_TRY(df_alloc(&l->slot, s->o.batch, sizeof(*l->slot), "batch", err));
out:
	return rc;
}

int
df_stepper_new(struct df_stepper **out, struct df_model *m, struct df_pool *pool, const struct df_stepper_opts *o,
    struct df_err *err)
{
	struct df_stepper *s;
	size_t numel = df_model_train(m)->numel;
	int rc;

	if ((rc = df_alloc(&s, 1, sizeof(*s), "stepper", err)) != DF_OK)
		return rc;
	s->m = m;
	s->pool = pool;
	s->o = *o;
	DF_TRY(df_model_master(m, err));
	for (s->n_lanes = MAX_LANES; s->n_lanes > 1 && s->n_lanes * numel > LANE_FLOATS;)
		s->n_lanes /= 2;
	DF_TRY(df_moments_init(&s->moments, m, err));
	s->moments.beta1 = o->beta1;
	s->moments.beta2 = o->beta2;
	s->moments.eps = o->eps;
	DF_TRY(df_alloc(&s->pick, o->batch, sizeof(*s->pick), "batch", err));
	DF_TRY(lane_init(s, &s->lane[0], err));
out:
	if (rc != DF_OK) {
		df_stepper_free(s);
		return rc;
	}
	*out = s;
	return DF_OK;
}

void
df_stepper_free(struct df_stepper *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < MAX_LANES; i++)
		lane_release(s, &s->lane[i]);
	df_moments_release(&s->moments, s->m);
	df_gather_release(&s->gather);
	free(s->loss);
	free(s->pick);
	free(s);
}

int
df_stepper_load(struct df_stepper *s, const char *dir, struct df_err *err)
{
	struct df_moments o = { 0 };
	int rc;

	if ((rc = df_moments_load(&o, s->m, dir, err)) != DF_OK)
		return rc;
	df_moments_release(&s->moments, s->m);
	s->moments = o;
	s->moments.beta1 = s->o.beta1;
	s->moments.beta2 = s->o.beta2;
	s->moments.eps = s->o.eps;
	return DF_OK;
}

int
df_stepper_save(const struct df_stepper *s, const char *dir, struct df_err *err)
{
	return df_moments_save(&s->moments, s->m, dir, err);
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
 * tokens; samples without targets are left out.  Returns the number of groups.
 */
static size_t
deal(struct df_stepper *s, size_t first, size_t n)
{
	const uint64_t *offsets = s->tokens.offsets;
	uint64_t total = 0;
	size_t n_pick = 0, groups = 1;

	for (size_t i = first; i < first + n; i++) {
		uint64_t len = offsets[i + 1] - offsets[i];

		if (s->gather.n_targets[i] == 0)
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
		struct lane *l = &s->lane[0];

		for (size_t g = 1; g < groups; g++) {
			if (s->lane[g].n_tokens < l->n_tokens)
				l = &s->lane[g];
		}
		l->slot[l->n++] = s->pick[i].at;
		l->n_tokens += s->pick[i].len;
	}
	return n_pick > 0 ? groups : 0;
}

static void
run_lane(void *ctx, size_t i, int worker)
{
	struct df_stepper *s = ctx;
	struct lane *l = &s->lane[i];
	struct df_losses losses = { .loss = l->loss, .n_targets = l->n_targets };
	struct df_tokens b;
	int rc = DF_OK;

	(void)worker;
	if (l->n == 0)
		return;
	if (!l->dirty)
		DF_TRY(df_fill(df_model_backend(s->m), l->grad, 0, &l->err));
	l->dirty = true;
	DF_TRY(df_gather_pick(&l->gather, &s->tokens, l->slot, l->n, &b, &l->err));
	for (size_t k = 0; k < l->n; k++)
		l->key[k] = df_model_dropout_key(s->o.seed, s->moments.step, df_rows_id(s->r, s->which[l->slot[k]]));
	b.key = l->key;
	DF_TRY(df_model_grad(s->m, l->work, &b, l->scale, l->grad, &losses, &l->err));
	for (size_t k = 0; k < l->n; k++)
		s->loss[l->slot[k]] = (double)l->loss[k];
out:
	l->rc = rc;
}

/*
 * LLaMA-Factory's groups for LoRA+ (_create_loraplus_optimizer): B and vectors in one, all other
 * parameters in the other.
 */
static double
rate_of(const struct df_stepper *s, const struct df_param *p, double lr)
{
	return s->o.lr_b_ratio > 0 && (p->lora_b || p->rank == 1) ? lr * s->o.lr_b_ratio : lr;
}

/* Those groups exempt biases and torch's LayerNorms from weight decay, so the RMSNorms of our models decay in them. */
static bool
decays(const struct df_stepper *s, const struct df_param *p)
{
	return s->o.lr_b_ratio > 0 ? strstr(p->name, "bias") == NULL : p->decay;
}

/* AdamW over runs of parameters with the same decay and the same rate. */
static int
update(struct df_stepper *s, double lr, double grad_scale, struct df_err *err)
{
	const struct df_params *p = df_model_train(s->m);
	struct df_tensor w = df_model_train_data(s->m), low = df_model_train_low(s->m);
	int rc;

	s->moments.step++;
	for (size_t i = 0; i < p->n;) {
		size_t first = p->v[i].offset, end, j = i + 1;
		bool decay = decays(s, &p->v[i]);
		double rate = rate_of(s, &p->v[i], lr);

		while (j < p->n && (decays(s, &p->v[j]) == decay || s->o.weight_decay == 0) &&
		    rate_of(s, &p->v[j], lr) == rate)
			j++;
		end = j < p->n ? p->v[j].offset : p->numel;
		struct df_adamw a = {
			.w = df_tensor_view(w, first, 1, end - first),
			.g = df_tensor_view(s->lane[0].grad, first, 1, end - first),
			.m = df_tensor_view(s->moments.m, first, 1, end - first),
			.v = df_tensor_view(s->moments.v, first, 1, end - first),
			.lr = rate,
			.beta1 = s->o.beta1,
			.beta2 = s->o.beta2,
			.eps = s->o.eps,
			.decay = decay ? s->o.weight_decay : 0,
			.grad_scale = grad_scale,
			.step = s->moments.step,
			.low = df_tensor_is_none(low) ? low : df_tensor_view(low, first, 1, end - first),
		};
		if ((rc = df_adamw(df_model_backend(s->m), &a, err)) != DF_OK)
			return rc;
		i = j;
	}
	return DF_OK;
}

/* "samples 3, 17, 4 and 5 more" */
static int
not_finite(const struct df_stepper *s, const char *what, const uint64_t *which, size_t n, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	int rc;

	for (size_t i = 0; i < n && i < 8; i++)
		df_buf_printf(&b, "%s%llu", i ? ", " : "", (unsigned long long)df_rows_id(s->r, which[i]));
	if (n > 8)
		df_buf_printf(&b, " and %zu more", n - 8);
	if ((rc = df_buf_check(&b, err)) == DF_OK)
		rc = df_fail(err, DF_ERANGE,
		    "%s is not finite; sample%s %s; a lower learning_rate or a look at these samples "
		    "may help",
		    what, n == 1 ? "" : "s", b.data);
	df_buf_release(&b);
	return rc;
}

/* Add the gradients of all micro-batches into the lanes, and put the losses into s->loss. */
static int
accumulate(
    struct df_stepper *s, size_t n, const float *weights, uint64_t n_targets, size_t n_labelled, struct df_err *err)
{
	for (size_t first = 0; first < n; first += s->o.batch) {
		size_t count = n - first < s->o.batch ? n - first : s->o.batch, groups;
		int rc;

		for (size_t g = 1; g < s->n_lanes && g < count; g++) {
			if (!s->lane[g].work && (rc = lane_init(s, &s->lane[g], err)) != DF_OK)
				return rc;
		}
		groups = deal(s, first, count);
		for (size_t g = 0; g < groups; g++) {
			struct lane *l = &s->lane[g];

			for (size_t k = 0; k < l->n; k++) {
				const size_t at = l->slot[k];
				const double targets = (double)s->gather.n_targets[at];

				l->scale[k] =
				    (float)(weights ? (double)weights[s->which[at]] / (targets * (double)n_labelled)
						    : 1.0 / (double)n_targets);
			}
			l->rc = DF_OK;
		}
		df_pool_for(groups > 1 ? s->pool : NULL, groups, run_lane, s);
		for (size_t g = 0; g < groups; g++) {
			if (s->lane[g].rc != DF_OK) {
				if (err)
					*err = s->lane[g].err;
				return s->lane[g].rc;
			}
		}
	}
	return DF_OK;
}

int
df_stepper_run(struct df_stepper *s, const struct df_rows *r, const uint64_t *which, size_t n, const float *weights,
    double lr, struct df_step_result *out, struct df_err *err)
{
	struct df_backend *be = df_model_backend(s->m);
	double sum = 0, sumsq, scale = 1;
	size_t n_labelled = 0;
	int rc = DF_OK;

	*out = (struct df_step_result){ 0 };
	s->r = r;
	s->which = which;
	DF_TRY(df_gather_batch(&s->gather, r, which, n, &s->tokens, err));
	DF_TRY(df_grow(&s->loss, &s->cap_loss, n, sizeof(*s->loss), "losses", err));
	out->n_tokens = s->tokens.offsets[n];
	for (size_t i = 0; i < n; i++) {
		out->n_targets += s->gather.n_targets[i];
		n_labelled += s->gather.n_targets[i] > 0;
	}
	out->n_skipped = n - n_labelled;
	for (size_t g = 0; g < MAX_LANES; g++)
		s->lane[g].dirty = false;
	if (out->n_targets == 0)
		return DF_OK;
	DF_TRY(accumulate(s, n, weights, out->n_targets, n_labelled, err));
	for (size_t i = 0; i < n; i++) {
		double targets = (double)s->gather.n_targets[i];

		if (targets == 0)
			continue;
		if (!isfinite(s->loss[i])) {
			rc = not_finite(s, "the loss", &which[i], 1, err);
			goto out;
		}
		sum += weights ? (double)weights[which[i]] * s->loss[i] / (double)n_labelled
			       : targets * s->loss[i] / (double)out->n_targets;
	}
	out->loss = sum;
	for (size_t g = 1; g < s->n_lanes; g++) {
		if (s->lane[g].dirty)
			DF_TRY(df_axpy(be, 1, s->lane[g].grad, s->lane[0].grad, err));
	}
	DF_TRY(df_sumsq(be, s->lane[0].grad, &sumsq, err));
	out->grad_norm = sqrt(sumsq);
	if (!isfinite(out->grad_norm)) {
		rc = not_finite(s, "the gradient", which, n, err);
		goto out;
	}
	/* torch.nn.utils.clip_grad_norm_ */
	if (s->o.max_grad_norm > 0 && s->o.max_grad_norm / (out->grad_norm + 1e-6) < 1)
		scale = s->o.max_grad_norm / (out->grad_norm + 1e-6);
	DF_TRY(update(s, lr, scale, err));
out:
	return rc;
}
