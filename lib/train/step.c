/*
 * step.c - lanes over a micro-batch, a fixed-order sum, one update.
 *
 * A lane takes its samples through forward and backward in one go.  Where weights come from the losses of a whole
 * micro-batch, all lanes run their forward, then it is weighed, then all run their backward.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "rows/ahead.h"
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
	struct df_tokens tokens;        /* its samples, in gather */
	struct df_target_losses losses; /* theirs, after a forward of its own */
	float *weight;                  /* [cap_weight] of their targets */
	size_t cap_weight;
	uint64_t *key;       /* [batch] */
	float *scale, *loss; /* [batch] */
	double *nll;         /* [batch] */
	size_t *slot;        /* [batch] place in the step, for the losses */
	size_t n;
	uint64_t n_tokens;
	int rc;
	struct df_err err;
};

/* What a weigher sees of a micro-batch, and says. */
struct micro {
	uint32_t *offsets, *token;
	uint64_t *id;
	uint16_t *domain;
	float *nll, *weight;
	size_t cap_offsets, cap_id, cap_domain, cap_token, cap_nll, cap_weight;
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
	struct df_ahead *ahead;  /* the next step's; NULL until first used */
	const uint64_t *next;    /* [n_next] these, until the step begins */
	size_t n_next;
	struct df_tokens tokens; /* the tokens in gather */
	double *loss, *nll;      /* [cap_loss] [cap_nll] mean of each sample, weighted; sum, not weighted */
	size_t cap_loss, cap_nll;
	struct df_domain_sum *domain;
	size_t n_domains, cap_domain;
	struct df_tensor scalars; /* [1,3] f64: sum of squares of the gradient, scale, finite */
	struct micro micro;
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
	free(l->weight);
	free(l->key);
	free(l->scale);
	free(l->loss);
	free(l->nll);
	free(l->slot);
}

static int
lane_init(struct df_stepper *s, struct lane *l, struct df_err *err)
{
	size_t numel = df_model_train(s->m)->numel;
	int rc = DF_OK;

	DF_TRY(df_work_new(&l->work, s->m, err));
	if (s->o.weigh_alone)
		df_work_weigh(l->work, s->o.weigh, s->o.weigh_ctx);
	DF_TRY(df_tensor_alloc(df_model_backend(s->m), &l->grad, DF_F32, 1, numel, "gradient", err));
	DF_TRY(df_alloc(&l->key, s->o.batch, sizeof(*l->key), "batch", err));
	DF_TRY(df_alloc(&l->scale, s->o.batch, sizeof(*l->scale), "batch", err));
	DF_TRY(df_alloc(&l->loss, s->o.batch, sizeof(*l->loss), "batch", err));
	DF_TRY(df_alloc(&l->nll, s->o.batch, sizeof(*l->nll), "batch", err));
	DF_TRY(df_alloc(&l->slot, s->o.batch, sizeof(*l->slot), "batch", err));
out:
	return rc;
}

int
df_stepper_new(struct df_stepper **out, struct df_model *m, struct df_pool *pool, const struct df_stepper_opts *o,
    struct df_err *err)
{
	struct df_stepper *s;
	size_t numel = df_model_train(m)->numel, most;
	int rc;

	if ((rc = df_alloc(&s, 1, sizeof(*s), "stepper", err)) != DF_OK)
		return rc;
	s->m = m;
	s->pool = pool;
	s->o = *o;
	DF_TRY(df_model_master(m, err));
	most = df_backend_traits(df_model_backend(m)).step_lanes;
	for (s->n_lanes = MAX_LANES; s->n_lanes > 1 && (s->n_lanes > most || s->n_lanes * numel > LANE_FLOATS);)
		s->n_lanes /= 2;
	DF_TRY(df_moments_init(&s->moments, m, err));
	s->moments.beta1 = o->beta1;
	s->moments.beta2 = o->beta2;
	s->moments.eps = o->eps;
	DF_TRY(df_alloc(&s->pick, o->batch, sizeof(*s->pick), "batch", err));
	DF_TRY(df_tensor_alloc(df_model_backend(m), &s->scalars, DF_F64, 1, 3, "scalars", err));
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
	df_ahead_free(s->ahead);
	df_gather_release(&s->gather);
	df_tensor_free(df_model_backend(s->m), &s->scalars);
	free(s->loss);
	free(s->nll);
	free(s->domain);
	free(s->pick);
	free(s->micro.offsets);
	free(s->micro.id);
	free(s->micro.domain);
	free(s->micro.token);
	free(s->micro.nll);
	free(s->micro.weight);
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
 * tokens; samples without targets are left out.  Returns the number of groups; each has a sample at least.
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

/* A lane's samples, and its gradient to add to. */
static int
take_samples(struct df_stepper *s, struct lane *l)
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
put_losses(struct df_stepper *s, const struct lane *l)
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
	struct lane *l = &s->lane[i];
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
	struct lane *l = &s->lane[i];
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
	struct lane *l = &s->lane[i];
	const struct df_losses out = { .loss = l->loss, .nll = l->nll };
	int rc;

	(void)worker;
	DF_TRY(df_model_backward(s->m, l->work, l->scale, l->weight, l->grad, &out, &l->err));
	put_losses(s, l);
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
update(struct df_stepper *s, double lr, struct df_tensor clip, struct df_err *err)
{
	const struct df_params *p = df_model_train(s->m);
	struct df_tensor w = df_model_train_data(s->m), low = df_model_train_low(s->m);
	int rc;

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
			.clip = clip,
			.step = s->moments.step + 1,
			.low = df_tensor_is_none(low) ? low : df_tensor_view(low, first, 1, end - first),
		};
		if ((rc = df_adamw(df_model_backend(s->m), &a, err)) != DF_OK)
			return rc;
		i = j;
	}
	return DF_OK;
}

/*
 * One chain on the device, with one wait, at its end: then it is known whether the gradient was finite.  If not,
 * nothing was written, and the step did not happen.
 */
static int
clip_and_update(struct df_stepper *s, double lr, double *grad_norm, struct df_err *err)
{
	struct df_backend *be = df_model_backend(s->m);
	struct df_clip c = { .sumsq = df_tensor_cols(s->scalars, 0, 1),
		.clip = df_tensor_cols(s->scalars, 1, 2),
		.max_norm = s->o.max_grad_norm };
	double scalars[3];
	int rc;

	DF_TRY(df_sumsq(be, s->lane[0].grad, c.sumsq, err));
	DF_TRY(df_clip(be, &c, err));
	DF_TRY(update(s, lr, c.clip, err));
	DF_TRY(df_download(be, scalars, s->scalars, err));
	*grad_norm = sqrt(scalars[0]);
	if (scalars[2] != 0)
		s->moments.step++;
out:
	return rc;
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

static int
grow_micro(struct micro *m, size_t n, size_t n_targets, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&m->offsets, &m->cap_offsets, n + 1, sizeof(*m->offsets), "a micro-batch", err));
	DF_TRY(df_grow(&m->id, &m->cap_id, n, sizeof(*m->id), "a micro-batch", err));
	DF_TRY(df_grow(&m->domain, &m->cap_domain, n, sizeof(*m->domain), "a micro-batch", err));
	DF_TRY(df_grow(&m->token, &m->cap_token, n_targets, sizeof(*m->token), "a micro-batch", err));
	DF_TRY(df_grow(&m->nll, &m->cap_nll, n_targets, sizeof(*m->nll), "a micro-batch", err));
	DF_TRY(df_grow(&m->weight, &m->cap_weight, n_targets, sizeof(*m->weight), "a micro-batch", err));
out:
	return rc;
}

/* The lanes' losses of samples [first, first+n) of the step in its order, to the weigher, and its weights back. */
static int
weigh(struct df_stepper *s, size_t first, size_t n, size_t groups, struct df_err *err)
{
	struct micro *m = &s->micro;
	size_t n_targets = 0;
	int rc;

	for (size_t i = first; i < first + n; i++)
		n_targets += s->gather.n_targets[i];
	DF_TRY(grow_micro(m, n, n_targets, err));
	m->offsets[0] = 0;
	for (size_t i = 0; i < n; i++) {
		m->offsets[i + 1] = m->offsets[i] + s->gather.n_targets[first + i];
		m->id[i] = df_rows_id(s->r, s->which[first + i]);
		m->domain[i] = df_rows_domain(s->r, s->which[first + i]);
	}
	for (size_t g = 0; g < groups; g++) {
		const struct df_target_losses *from = &s->lane[g].losses;

		for (size_t k = 0; k < from->n; k++) {
			const uint32_t at = m->offsets[s->lane[g].slot[k] - first], t = from->offsets[k];
			const size_t count = from->offsets[k + 1] - t;

			memcpy(m->nll + at, from->nll + t, count * sizeof(*m->nll));
			memcpy(m->token + at, from->token + t, count * sizeof(*m->token));
		}
	}
	DF_TRY(s->o.weigh(s->o.weigh_ctx,
	    &(struct df_target_losses){ n, m->offsets, m->nll, m->token, m->id, m->domain }, m->weight, err));
	for (size_t g = 0; g < groups; g++) {
		struct lane *l = &s->lane[g];

		DF_TRY(df_grow(
		    &l->weight, &l->cap_weight, l->losses.offsets[l->n], sizeof(*l->weight), "a micro-batch", err));
		for (size_t k = 0; k < l->n; k++)
			memcpy(l->weight + l->losses.offsets[k], m->weight + m->offsets[l->slot[k] - first],
			    (l->losses.offsets[k + 1] - l->losses.offsets[k]) * sizeof(*l->weight));
	}
out:
	return rc;
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

/* Add the gradients of all micro-batches into the lanes, and put the losses into s->loss and s->nll. */
static int
accumulate(
    struct df_stepper *s, size_t n, const float *weights, uint64_t n_targets, size_t n_labelled, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t first = 0; first < n; first += s->o.batch) {
		size_t count = n - first < s->o.batch ? n - first : s->o.batch, groups;

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
		}
		if (!s->o.weigh || s->o.weigh_alone) {
			DF_TRY(run_lanes(s, groups, run_lane, err));
		} else if (groups > 0) {
			DF_TRY(run_lanes(s, groups, run_forward, err));
			DF_TRY(weigh(s, first, count, groups, err));
			DF_TRY(run_lanes(s, groups, run_backward, err));
		}
	}
out:
	return rc;
}

/* What each domain cost, of the samples with targets. */
static int
sum_domains(struct df_stepper *s, size_t n, struct df_step_result *out, struct df_err *err)
{
	const size_t n_domains = s->r->meta.n_domains > 0 ? s->r->meta.n_domains : 1;
	int rc;

	DF_TRY(df_grow(&s->domain, &s->cap_domain, n_domains, sizeof(*s->domain), "domains", err));
	memset(s->domain, 0, n_domains * sizeof(*s->domain));
	for (size_t i = 0; i < n; i++) {
		struct df_domain_sum *d = &s->domain[df_rows_domain(s->r, s->which[i])];

		if (s->gather.n_targets[i] == 0)
			continue;
		d->n_targets += s->gather.n_targets[i];
		d->n++;
		d->nll += s->nll[i];
	}
	out->domain = s->domain;
	out->n_domains = n_domains;
out:
	return rc;
}

void
df_stepper_next(struct df_stepper *s, const uint64_t *which, size_t n)
{
	s->next = which;
	s->n_next = n;
}

int
df_stepper_run(struct df_stepper *s, const struct df_rows *r, const uint64_t *which, size_t n, const float *weights,
    double lr, struct df_step_result *out, struct df_err *err)
{
	struct df_backend *be = df_model_backend(s->m);
	double sum = 0;
	size_t n_labelled = 0;
	int rc = DF_OK;

	*out = (struct df_step_result){ 0 };
	s->r = r;
	s->which = which;
	DF_TRY(df_ahead_take(s->ahead, &s->gather, r, which, n, &s->tokens, err));
	if (s->n_next > 0)
		DF_TRY(df_ahead_begin(&s->ahead, r, s->next, s->n_next, err));
	s->n_next = 0;
	DF_TRY(df_grow(&s->loss, &s->cap_loss, n, sizeof(*s->loss), "losses", err));
	DF_TRY(df_grow(&s->nll, &s->cap_nll, n, sizeof(*s->nll), "losses", err));
	out->n_tokens = s->tokens.offsets[n];
	for (size_t i = 0; i < n; i++) {
		out->n_targets += s->gather.n_targets[i];
		n_labelled += s->gather.n_targets[i] > 0;
	}
	out->n_skipped = n - n_labelled;
	for (size_t g = 0; g < MAX_LANES; g++)
		s->lane[g].dirty = false;
	if (out->n_targets == 0)
		return sum_domains(s, n, out, err);
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
	DF_TRY(sum_domains(s, n, out, err));
	for (size_t g = 0; g < s->n_lanes; g++) {
		if (s->lane[g].dirty)
			DF_TRY(df_sync(df_work_backend(s->lane[g].work), err));
	}
	for (size_t g = 1; g < s->n_lanes; g++) {
		if (s->lane[g].dirty)
			DF_TRY(df_axpy(be, 1, s->lane[g].grad, s->lane[0].grad, err));
	}
	DF_TRY(clip_and_update(s, lr, &out->grad_norm, err));
	if (!isfinite(out->grad_norm))
		rc = not_finite(s, "the gradient", which, n, err);
out:
	return rc;
}
