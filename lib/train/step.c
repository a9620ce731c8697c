/*
 * step.c - a step: the gradient of all its samples (step_lanes.c), a fixed-order sum, one update.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "train/step_priv.h"

#define LANE_FLOATS ((size_t)64 << 20) /* all lanes' gradients together hold at most this many */

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
	for (s->n_lanes = DF_MAX_LANES; s->n_lanes > 1 && (s->n_lanes > most || s->n_lanes * numel > LANE_FLOATS);)
		s->n_lanes /= 2;
	DF_TRY(o->from ? df_moments_load(&s->moments, m, o->from, err) : df_moments_init(&s->moments, m, err));
	s->moments.beta1 = o->beta1;
	s->moments.beta2 = o->beta2;
	s->moments.eps = o->eps;
	DF_TRY(df_alloc(&s->pick, o->batch, sizeof(*s->pick), "batch", err));
	DF_TRY(df_tensor_alloc(df_model_backend(m), &s->scalars, DF_F64, 1, 3, "scalars", err));
	DF_TRY(df_lane_init(s, &s->lane[0], err));
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
	for (size_t i = 0; i < DF_MAX_LANES; i++)
		df_lane_release(s, &s->lane[i]);
	df_moments_release(&s->moments, s->m);
	df_ahead_free(s->ahead);
	df_gather_release(&s->gather);
	df_tensor_free(df_model_backend(s->m), &s->scalars);
	free(s->loss);
	free(s->nll);
	free(s->weight);
	free(s->domain);
	free(s->pick);
	df_step_losses_release(&s->group);
	free(s);
}

int
df_stepper_save(const struct df_stepper *s, const char *dir, struct df_err *err)
{
	return df_moments_save(&s->moments, s->m, dir, err);
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

/* What is known before the forward: of the step, and of each domain. */
static int
count(struct df_stepper *s, struct df_err *err)
{
	struct df_step_counts *c = &s->counts;
	size_t last = SIZE_MAX;
	int rc;

	*c = (struct df_step_counts){ .n_micro = (s->n + s->o.batch - 1) / s->o.batch,
		.n_domains = s->r->meta.n_domains > 0 ? s->r->meta.n_domains : 1 };
	DF_TRY(df_grow(&s->domain, &s->cap_domain, c->n_domains, sizeof(*s->domain), "domains", err));
	memset(s->domain, 0, c->n_domains * sizeof(*s->domain));
	c->domain = s->domain;
	for (size_t i = 0; i < s->n; i++) {
		struct df_domain_sum *d = &s->domain[df_rows_domain(s->r, s->which[i])];
		const size_t targets = df_step_targets(s, i), micro = i / s->o.batch;

		if (targets == 0)
			continue;
		d->n_targets += targets;
		d->n++;
		c->n_targets += targets;
		c->n++;
		c->n_active += micro != last;
		last = micro;
	}
out:
	return rc;
}

/* The losses, after the forward: the step's, and what each domain cost.  DF_ERANGE: one is not finite. */
static int
sum_losses(const struct df_stepper *s, struct df_step_result *out, struct df_err *err)
{
	const struct df_step_counts *c = &s->counts;
	double nll = 0;
	uint64_t n_targets = 0;

	for (size_t i = 0; i < s->n; i++) {
		struct df_domain_sum *d = &s->domain[df_rows_domain(s->r, s->which[i])];
		const double targets = (double)df_step_targets(s, i);

		if (targets == 0)
			continue;
		if (!isfinite(s->loss[i])) {
			if (df_step_counts_sample(s, i) || out->n_invalid + 1 == c->n)
				return not_finite(s, "the loss", &s->which[i], 1, err);
			out->n_invalid++;
			d->n--;
			d->n_targets -= df_step_targets(s, i);
			continue;
		}
		d->nll += s->nll[i];
		nll += s->nll[i];
		n_targets += df_step_targets(s, i);
		if (s->weigher != NULL)
			out->loss += s->weight[i] * (s->nll[i] / targets);
		else if (s->given != NULL)
			out->loss += (double)s->given[s->which[i]] * s->loss[i] / (double)c->n;
		else
			out->loss += targets * s->loss[i] / (double)c->n_targets;
	}
	out->mean_nll = nll / (double)n_targets;
	return DF_OK;
}

void
df_stepper_weigh(struct df_stepper *s, const struct df_step_weigher *w)
{
	s->weigher = w;
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
	int rc = DF_OK;

	*out = (struct df_step_result){ 0 };
	s->r = r;
	s->which = which;
	s->n = n;
	s->given = weights;
	if (s->weigher != NULL && s->o.weigh_target != NULL)
		return df_fail(err, DF_EINTERNAL, "both samples and targets are to be weighed");
	DF_TRY(df_ahead_take(s->ahead, &s->gather, r, which, n, &s->tokens, err));
	if (s->n_next > 0)
		DF_TRY(df_ahead_begin(&s->ahead, r, s->next, s->n_next, err));
	s->n_next = 0;
	DF_TRY(df_grow(&s->loss, &s->cap_loss, n, sizeof(*s->loss), "losses", err));
	DF_TRY(df_grow(&s->nll, &s->cap_nll, n, sizeof(*s->nll), "losses", err));
	DF_TRY(df_grow(&s->weight, &s->cap_weight, n, sizeof(*s->weight), "weights", err));
	for (size_t i = 0; i < n; i++)
		s->weight[i] = 1;
	DF_TRY(count(s, err));
	out->n_tokens = s->tokens.offsets[n];
	out->n_targets = s->counts.n_targets;
	out->n_skipped = n - s->counts.n;
	out->domain = s->domain;
	out->n_domains = s->counts.n_domains;
	for (size_t g = 0; g < DF_MAX_LANES; g++)
		s->lane[g].dirty = false;
	if (out->n_targets == 0)
		return DF_OK;
	DF_TRY(df_step_accumulate(s, err));
	DF_TRY(sum_losses(s, out, err));
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
