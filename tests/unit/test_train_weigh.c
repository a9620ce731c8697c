/*
 * test_train_weigh.c - weights from losses between the forward and the backward of a step, and what a step reports of
 * its domains: a weigher that weighs all targets the same trains as none does, one that looks at a whole group gives
 * the same at any number of threads and, for groups of a whole step, for any split into micro-batches; gradients are
 * those of the weighted losses, sums by domain those by hand.  Runs on the backend in DF_TEST_DEVICE.
 */
#include "model_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "train/step.h"

enum { N = 24, BATCH = 12, STEPS = 3, N_DOMAINS = 3 };

/* Samples of many lengths, enough for several lanes; sample 5 has no target. */
struct setup {
	struct df_model *m;
	struct mh_batch batch;
	struct df_rows rows;
	struct df_pool *pool;
	struct df_stepper *s;
	struct df_work *work; /* to compute losses beside the stepper */
};

/* Domains in turn: 0, 1, 1, ..; none of the last. */
static void
make_rows(struct setup *u)
{
	uint16_t domain[N];

	for (uint16_t i = 0; i < N; i++)
		domain[i] = (uint16_t)(i * i % N_DOMAINS);
	mh_rows(&u->rows, &u->batch, N, domain, N_DOMAINS);
}

static void
set_up_eps(
    struct setup *u, int threads, size_t batch, df_weigh_fn *weigh_target, const struct df_step_weigher *w, double eps)
{
	const struct df_stepper_opts o = { .batch = batch,
		.beta1 = 0.9,
		.beta2 = 0.999,
		.eps = eps,
		.max_grad_norm = eps > 1 ? 0 : 1,
		.weigh_target = weigh_target };
	char *dir = mh_path("llama", NULL);
	size_t lengths[N];

	memset(u, 0, sizeof(*u));
	mh_ok(df_model_open(&u->m, dir, NULL, mh_backend(), err));
	for (size_t i = 0; i < N; i++)
		lengths[i] = 5 + i * 37 % 59;
	mh_batch_random(&u->batch, lengths, N, df_model_config(u->m)->n_vocab, 7);
	memset(u->batch.mask + u->batch.offsets[5], 0, u->batch.offsets[6] - u->batch.offsets[5]);
	make_rows(u);
	mh_ok(df_pool_new(&u->pool, threads, err));
	mh_ok(df_stepper_new(&u->s, u->m, u->pool, &o, err));
	df_stepper_weigh(u->s, w);
	mh_ok(df_work_new(&u->work, u->m, err));
	free(dir);
}

static void
set_up(struct setup *u, int threads, size_t batch, df_weigh_fn *weigh_target, const struct df_step_weigher *w)
{
	set_up_eps(u, threads, batch, weigh_target, w, 1e-8);
}

static void
tear_down(struct setup *u)
{
	df_stepper_free(u->s);
	df_work_free(u->work);
	df_rows_release(&u->rows);
	mh_batch_release(&u->batch);
	df_model_free(u->m);
	df_pool_free(u->pool);
}

static struct df_step_result
step(struct setup *u, uint64_t k)
{
	struct df_step_result res;
	uint64_t which[N];

	for (uint64_t i = 0; i < N; i++)
		which[i] = (i * 7 + k * 5) % N;
	mh_ok(df_stepper_run(u->s, &u->rows, which, N, NULL, 1e-2, &res, err));
	return res;
}

/* ---- weighers --------------------------------------------------------------------------------------------------- */

static size_t
targets_of(const struct df_step_group *g, size_t i)
{
	return g->losses.offsets[i + 1] - g->losses.offsets[i];
}

static double
mean_of(const struct df_step_group *g, size_t i)
{
	double sum = 0;

	for (size_t t = g->losses.offsets[i]; t < g->losses.offsets[i + 1]; t++)
		sum += (double)g->losses.nll[t];
	return sum / (double)targets_of(g, i);
}

/* Each target counts the same, as without a weigher. */
static int
by_target(void *ctx, const struct df_step_group *g, double *weight, struct df_err *err)
{
	(void)ctx;
	(void)err;
	for (size_t i = 0; i < g->losses.n; i++)
		weight[i] = (double)targets_of(g, i) / (double)g->step->n_targets;
	return DF_OK;
}

/* More for samples of high loss and of domain 1, relative to the group. */
static int
by_sample(void *ctx, const struct df_step_group *g, double *weight, struct df_err *err)
{
	double all = 0;
	int *calls = ctx;

	(void)err;
	++*calls;
	for (size_t i = 0; i < g->losses.n; i++)
		all += targets_of(g, i) > 0 ? mean_of(g, i) : 0;
	for (size_t i = 0; i < g->losses.n; i++) {
		if (targets_of(g, i) > 0)
			weight[i] = (mean_of(g, i) / all + (g->losses.domain[i] == 1 ? 0.5 : 0)) / (double)g->n_groups;
	}
	return DF_OK;
}

/* What it gets is what a forward of its own gives, in the step's order; rows, ids, domains and counts are right. */
static int
look_closely(void *ctx, const struct df_step_group *g, double *weight, struct df_err *e)
{
	const struct df_target_losses *l = &g->losses;
	struct setup *u = ctx;
	struct df_gather gather = { 0 };
	struct df_tokens b;
	uint32_t n[N];
	float nll[2048];

	assert_true(l->n == BATCH || l->n == N);
	assert_true(l->offsets[l->n] <= 2048);
	assert_int_equal(g->step->n_micro, 2);
	assert_int_equal(g->step->n_active, 2);
	assert_int_equal(g->n_groups, N / l->n);
	assert_true(g->micro < g->n_groups);
	assert_int_equal(g->step->n, N - 1);
	assert_int_equal(g->step->n_domains, N_DOMAINS);
	assert_true(g->step->domain[0].n == 8 && g->step->domain[1].n == 15 && g->step->domain[2].n == 0);
	assert_int_equal(g->step->domain[0].n_targets + g->step->domain[1].n_targets, g->step->n_targets);
	for (size_t s = 0; s < l->n; s++) {
		uint64_t row;

		assert_true(weight[s] == 1);
		assert_true(df_rows_find(&u->rows, l->id[s], &row) && row == g->row[s]);
		assert_int_equal(l->domain[s], df_rows_domain(&u->rows, row));
		assert_true(s == 0 || row == (g->row[s - 1] + 7) % N);
	}
	mh_ok(df_gather_batch(&gather, &u->rows, g->row, l->n, &b, err));
	mh_ok(df_model_loss(u->m, u->work, &b, &(struct df_losses){ .n_targets = n, .token_nll = nll }, err));
	for (size_t s = 0, t = 0; s < l->n; s++) {
		assert_int_equal(l->offsets[s + 1] - l->offsets[s], n[s]);
		for (uint64_t i = b.offsets[s] + 1; i < b.offsets[s + 1]; i++) {
			if (b.mask[i])
				assert_int_equal(l->token[t++], b.ids[i]);
		}
		assert_int_equal(t, l->offsets[s + 1]);
	}
	mh_assert_same(nll, l->nll, l->offsets[l->n]);
	df_gather_release(&gather);
	return by_target(NULL, g, weight, e);
}

static int
refuse(void *ctx, const struct df_step_group *g, double *weight, struct df_err *err)
{
	const bool *now = ctx;

	return *now ? df_fail(err, DF_EFORMAT, "no losses to compare with") : by_target(NULL, g, weight, err);
}

/* ---- tests ------------------------------------------------------------------------------------------------------ */

/* Weights that make each target count the same change no bit of model or norm, although lanes stop between. */
static void
test_plain(void **state)
{
	const struct df_step_weigher same = { .weigh = by_target };
	struct df_step_result want[STEPS];
	float *w = NULL;

	(void)state;
	for (int with = 0; with < 2; with++) {
		struct setup u;
		float *now;

		set_up(&u, 2, BATCH, NULL, with ? &same : NULL);
		for (uint64_t k = 0; k < STEPS; k++) {
			const struct df_step_result res = step(&u, k);

			assert_true(fabs(res.loss - res.mean_nll) <= 1e-6 * res.loss && res.n_invalid == 0);
			if (with) {
				assert_true(fabs(res.loss - want[k].loss) <= 1e-6 * res.loss);
				assert_true(fabs(res.grad_norm - want[k].grad_norm) <= 1e-5 * res.grad_norm);
			}
			want[k] = res;
		}
		now = mh_train_weights(u.m);
		for (size_t i = 0; with && i < df_model_train(u.m)->numel; i++)
			assert_true(fabsf(w[i] - now[i]) <= 2e-4F);
		free(w);
		w = now;
		tear_down(&u);
	}
	free(w);
}

/* A group of one micro-batch, or of the whole step: neither threads nor, for the step, the split move a weight. */
static void
test_threads(void **state)
{
	(void)state;
	for (int whole = 0; whole < 2; whole++) {
		float *want = NULL;

		for (int threads = 1; threads <= 4; threads *= 2) {
			int calls = 0;
			const struct df_step_weigher w = { by_sample, &calls, whole };
			struct setup u;
			float *now;

			set_up(&u, threads, BATCH, NULL, &w);
			for (uint64_t k = 0; k < STEPS; k++)
				step(&u, k);
			assert_int_equal(calls, whole ? STEPS : STEPS * N / BATCH);
			now = mh_train_weights(u.m);
			if (want)
				assert_memory_equal(now, want, df_model_train(u.m)->numel * sizeof(*now));
			free(want);
			want = now;
			tear_down(&u);
		}
		free(want);
	}
}

/*
 * What a group of the whole step is given, and gives, does not depend on the split: to the bit, as far as the backend
 * promises that a sample's losses do not depend on its batch.
 */
struct kept {
	int calls;
	double weight[N];
};
static int
by_sample_kept(void *ctx, const struct df_step_group *g, double *weight, struct df_err *err)
{
	struct kept *k = ctx;
	int rc;

	assert_int_equal(g->losses.n, N);
	assert_int_equal(g->n_groups, 1);
	rc = by_sample(&k->calls, g, weight, err);
	memcpy(k->weight, weight, sizeof(k->weight));
	return rc;
}

static bool
same(double a, double b)
{
	return a == b || (!df_backend_is_exact(mh_backend()) && fabs(a - b) <= 1e-5 * fabs(b)); /* as mh_same() */
}

static void
test_split(void **state)
{
	const size_t batch[] = { N, 12, 7, 1 };
	struct step_result {
		double loss, norm;
	} first = { 0 };
	struct kept want = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(batch) / sizeof(batch[0]); i++) {
		struct kept k = { 0 };
		const struct df_step_weigher w = { by_sample_kept, &k, true };
		struct df_step_result res;
		struct setup u;

		set_up(&u, 2, batch[i], NULL, &w);
		res = step(&u, 0);
		assert_int_equal(k.calls, 1);
		if (i == 0) {
			want = k;
			first = (struct step_result){ res.loss, res.grad_norm };
		}
		for (size_t j = 0; j < N; j++)
			assert_true(same(k.weight[j], want.weight[j]));
		assert_true(same(res.loss, first.loss));
		assert_true(fabs(res.grad_norm - first.norm) <= 1e-5 * first.norm);
		assert_true(fabs(res.loss - res.mean_nll) > 1e-3); /* they do weigh */
		tear_down(&u);
	}
}

static void
test_what_it_sees(void **state)
{
	(void)state;
	for (int whole = 0; whole < 2; whole++) {
		struct setup u;
		const struct df_step_weigher w = { look_closely, &u, whole };

		set_up(&u, 2, BATCH, NULL, &w);
		step(&u, 0);
		step(&u, 1);
		tear_down(&u);
	}
}

/* Loss of a batch with given weights of its targets, over the number of targets. */
static double
weighted_loss(struct setup *u, const struct df_tokens *b, const float *weight, size_t n_targets)
{
	float *nll;
	double sum = 0;

	mh_ok(df_alloc(&nll, n_targets, sizeof(*nll), "losses", err));
	mh_ok(df_model_loss(u->m, u->work, b, &(struct df_losses){ .token_nll = nll }, err));
	for (size_t t = 0; t < n_targets; t++)
		sum += (double)weight[t] * (double)nll[t];
	free(nll);
	return sum / (double)n_targets;
}

/* data += by * direction */
static void
move(struct setup *u, struct df_tensor data, struct df_tensor direction, double by)
{
	mh_ok(df_axpy(df_model_backend(u->m), (float)by, direction, data, err));
	mh_ok(df_sync(df_model_backend(u->m), err));
}

/* The gradient is the derivative of the weighted loss, the weights being constants. */
static void
test_derivative(void **state)
{
	mh_float32_only();
	const double eps = 2e-3;
	struct df_target_losses l;
	struct df_tensor data, grad, d;
	struct df_tokens b;
	float scale[BATCH], *weight, *g, *v;
	double up, down, want, got = 0;
	size_t numel, n_targets;
	struct setup u;

	(void)state;
	set_up(&u, 1, BATCH, NULL, NULL);
	b = u.batch.b;
	b.n = BATCH;
	numel = df_model_train(u.m)->numel;
	data = df_model_train_data(u.m);
	mh_ok(df_tensor_alloc(mh_backend(), &grad, DF_F32, 1, numel, "gradient", err));
	mh_ok(df_tensor_alloc(mh_backend(), &d, DF_F32, 1, numel, "direction", err));
	mh_ok(df_fill(df_work_backend(u.work), grad, 0, err));
	mh_ok(df_model_forward(u.m, u.work, &b, &l, err));
	n_targets = l.offsets[l.n];
	assert_true(n_targets > 50);
	mh_ok(df_alloc(&weight, n_targets, sizeof(*weight), "weights", err));
	for (size_t s = 0; s < BATCH; s++) {
		for (size_t t = l.offsets[s]; t < l.offsets[s + 1]; t++)
			weight[t] = 0.1F + (float)(s % 4) + 0.25F * l.nll[t];
	}
	for (size_t s = 0; s < BATCH; s++)
		scale[s] = 1.0F / (float)n_targets;
	mh_ok(df_model_backward(u.m, u.work, scale, weight, grad, NULL, err));
	/* along the gradient itself, at unit length: the derivative is its norm */
	mh_ok(df_alloc(&g, numel, sizeof(*g), "gradient", err));
	mh_ok(df_download(df_work_backend(u.work), g, grad, err));
	for (size_t i = 0; i < numel; i++)
		got += (double)g[i] * (double)g[i];
	got = sqrt(got);
	v = mh_train_weights(u.m);
	for (size_t i = 0; i < numel; i++)
		g[i] /= (float)got;
	mh_ok(df_upload(mh_backend(), d, g, err));
	move(&u, data, d, eps);
	up = weighted_loss(&u, &b, weight, n_targets);
	mh_ok(df_upload(mh_backend(), data, v, err));
	move(&u, data, d, -eps);
	down = weighted_loss(&u, &b, weight, n_targets);
	want = (up - down) / (2 * eps);
	print_message("# along the gradient: %.6f, by differences %.6f\n", got, want);
	assert_true(got > 1e-2 && fabs(got - want) <= 2e-3 * want);
	free(g);
	free(v);
	free(weight);
	df_tensor_free(mh_backend(), &grad);
	df_tensor_free(mh_backend(), &d);
	tear_down(&u);
}

/* An error of the weigher is the step's; nothing has changed, and the step can be done again. */
static void
test_refusal(void **state)
{
	const uint64_t which[3] = { 0, 1, 2 }, unlabelled = 5;
	struct df_step_result res;
	float *before, *after, *want = NULL;

	(void)state;
	for (int first = 0; first < 2; first++) {
		bool now = true;
		const struct df_step_weigher w = { refuse, &now, false };
		struct setup u;

		set_up(&u, 2, BATCH, NULL, &w);
		before = mh_train_weights(u.m);
		if (first) {
			mh_refused(df_stepper_run(u.s, &u.rows, which, 3, NULL, 1e-2, &res, err), DF_EFORMAT,
			    "no losses to compare with");
			after = mh_train_weights(u.m);
			assert_memory_equal(before, after, df_model_train(u.m)->numel * sizeof(*after));
			free(after);
		}
		/* not asked where there is nothing to weigh */
		mh_ok(df_stepper_run(u.s, &u.rows, &unlabelled, 1, NULL, 1e-2, &res, err));
		assert_true(res.n_targets == 0 && res.n_domains == N_DOMAINS && res.domain[1].n == 0);
		now = false;
		mh_ok(df_stepper_run(u.s, &u.rows, which, 3, NULL, 1e-2, &res, err));
		after = mh_train_weights(u.m);
		if (first)
			assert_memory_equal(want, after, df_model_train(u.m)->numel * sizeof(*after));
		free(want);
		want = after;
		free(before);
		tear_down(&u);
	}
	free(want);
}

/* A gradient that is not finite is found after the update was asked for: model, moments, step count are as before. */
static void
test_not_finite(void **state)
{
	const uint64_t which[3] = { 0, 1, 2 };
	struct df_step_result res, again;
	float weights[N], *before, *after;
	struct setup u, fresh;

	(void)state;
	for (int i = 0; i < N; i++)
		weights[i] = i == 1 ? INFINITY : 1;
	set_up(&u, 1, BATCH, NULL, NULL);
	set_up(&fresh, 1, BATCH, NULL, NULL);
	for (int k = 0; k < 2; k++) {
		before = mh_train_weights(u.m);
		mh_refused(df_stepper_run(u.s, &u.rows, which, 3, weights, 1e-2, &res, err), DF_ERANGE,
		    "the gradient is not finite|100, 101, 102");
		after = mh_train_weights(u.m);
		assert_memory_equal(before, after, df_model_train(u.m)->numel * sizeof(*after));
		free(before);
		free(after);
		mh_ok(df_stepper_run(u.s, &u.rows, which, 3, NULL, 1e-2, &res, err));
		mh_ok(df_stepper_run(fresh.s, &fresh.rows, which, 3, NULL, 1e-2, &again, err));
		assert_true(res.loss == again.loss && res.grad_norm == again.grad_norm);
		before = mh_train_weights(u.m);
		after = mh_train_weights(fresh.m);
		assert_memory_equal(before, after, df_model_train(u.m)->numel * sizeof(*after));
		free(before);
		free(after);
	}
	tear_down(&u);
	tear_down(&fresh);
}

/* What a step says of its domains: the losses of their samples, whatever the weights, at any number of threads. */
static void
test_domains(void **state)
{
	struct df_domain_sum want[N_DOMAINS] = { 0 };
	float nll[2048];
	uint32_t n[N];

	(void)state;
	for (int threads = 1; threads <= 4; threads++) {
		int calls = 0;
		const struct df_step_weigher w = { by_sample, &calls, threads == 4 };
		struct setup u;
		struct df_step_result res;
		double sum = 0;

		set_up(&u, threads, BATCH, NULL, threads >= 3 ? &w : NULL);
		if (threads == 1) {
			assert_true(u.batch.offsets[N] <= 2048);
			mh_ok(df_model_loss(
			    u.m, u.work, &u.batch.b, &(struct df_losses){ .n_targets = n, .token_nll = nll }, err));
			for (size_t s = 0, t = 0; s < N; s++) {
				struct df_domain_sum *d = &want[df_rows_domain(&u.rows, s)];

				d->n += n[s] > 0;
				d->n_targets += n[s];
				for (uint32_t i = 0; i < n[s]; i++)
					d->nll += (double)nll[t++];
			}
		}
		res = step(&u, 0);
		assert_int_equal(res.n_domains, N_DOMAINS);
		for (size_t d = 0; d < N_DOMAINS; d++) {
			assert_int_equal(res.domain[d].n, want[d].n);
			assert_int_equal(res.domain[d].n_targets, want[d].n_targets);
			/* the first time, against sums in another order */
			assert_true(threads == 1 ? fabs(res.domain[d].nll - want[d].nll) <= 1e-5 * want[d].nll
						 : res.domain[d].nll == want[d].nll);
			want[d].nll = res.domain[d].nll;
			sum += res.domain[d].nll;
		}
		assert_true(fabs(res.mean_nll - sum / (double)res.n_targets) <= 1e-12 * res.mean_nll);
		assert_true(threads >= 3 || fabs(res.loss - res.mean_nll) <= 1e-6 * res.loss);
		tear_down(&u);
	}
	assert_true(want[0].n == 8 && want[1].n == 15 && want[2].n == 0 && want[2].nll == 0);
}

/* ---- the gradient of a step -------------------------------------------------------------------------------------- */

/* Weights by row, as a weigher of this test gave them. */
struct held {
	df_step_weigh_fn *fn;
	void *ctx;
	double weight[N];
};
static int
hold(void *ctx, const struct df_step_group *g, double *weight, struct df_err *err)
{
	struct held *h = ctx;
	int rc = h->fn(h->ctx, g, weight, err);

	for (size_t i = 0; i < g->losses.n; i++)
		h->weight[g->row[i]] = weight[i];
	return rc;
}

/* DoReMi's loss: sum of q_d nll over the targets of the step, over the sum of q_d. */
static int
by_domain(void *ctx, const struct df_step_group *g, double *weight, struct df_err *err)
{
	static const double q[N_DOMAINS] = { 0.7, 0.2, 0.1 };
	double sum = 0;

	(void)ctx;
	(void)err;
	for (size_t d = 0; d < g->step->n_domains; d++)
		sum += q[d] * (double)g->step->domain[d].n_targets;
	for (size_t i = 0; i < g->losses.n; i++)
		weight[i] = q[g->losses.domain[i]] * (double)targets_of(g, i) / sum;
	return DF_OK;
}

/* The sum of weight l over all rows, in evaluation. */
static double
held_loss(struct setup *u, const struct held *h)
{
	double nll[N], sum = 0;
	uint32_t n[N];

	mh_ok(df_model_loss(u->m, u->work, &u->batch.b, &(struct df_losses){ .nll = nll, .n_targets = n }, err));
	for (size_t i = 0; i < N; i++)
		sum += n[i] > 0 ? h->weight[i] * nll[i] / n[i] : 0;
	return sum;
}

/*
 * With an eps that is much larger than the gradient, AdamW moves against the gradient itself.  Along it the loss, the
 * weights held, falls as its norm says.
 */
static void
test_step_derivative(void **state)
{
	mh_float32_only();
	static const struct {
		df_step_weigh_fn *fn;
		bool whole;
		size_t batch;
	} cases[] = { { by_sample, false, BATCH }, { by_sample, true, BATCH }, { by_sample, true, N },
		{ by_domain, false, BATCH }, { by_domain, false, N }, { by_target, true, 5 } };

	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		int calls = 0;
		struct held h = { .fn = cases[c].fn, .ctx = &calls };
		const struct df_step_weigher w = { hold, &h, cases[c].whole };
		const double eps = 2e-3;
		struct df_step_result res;
		struct df_tensor data, d;
		uint64_t which[N];
		float *before, *after;
		double up, down, norm = 0;
		size_t numel;
		struct setup u;

		set_up_eps(&u, 2, cases[c].batch, NULL, &w, 1e6);
		numel = df_model_train(u.m)->numel;
		data = df_model_train_data(u.m);
		for (uint64_t i = 0; i < N; i++)
			which[i] = (i * 5 + 3) % N;
		before = mh_train_weights(u.m);
		mh_ok(df_stepper_run(u.s, &u.rows, which, N, NULL, 1e6, &res, err));
		after = mh_train_weights(u.m);
		for (size_t i = 0; i < numel; i++) {
			after[i] = before[i] - after[i];
			norm += (double)after[i] * (double)after[i];
		}
		norm = sqrt(norm);
		assert_true(fabs(norm - res.grad_norm) <= 1e-3 * norm);
		for (size_t i = 0; i < numel; i++)
			after[i] /= (float)norm;
		mh_ok(df_tensor_alloc(mh_backend(), &d, DF_F32, 1, numel, "direction", err));
		mh_ok(df_upload(mh_backend(), d, after, err));
		mh_ok(df_upload(mh_backend(), data, before, err));
		assert_true(fabs(held_loss(&u, &h) - res.loss) <= 1e-5 * res.loss);
		move(&u, data, d, eps);
		up = held_loss(&u, &h);
		mh_ok(df_upload(mh_backend(), data, before, err));
		move(&u, data, d, -eps);
		down = held_loss(&u, &h);
		print_message("# norm %.6f, by differences %.6f\n", res.grad_norm, (up - down) / (2 * eps));
		assert_true(fabs(res.grad_norm - (up - down) / (2 * eps)) <= 2e-3 * res.grad_norm);
		free(before);
		free(after);
		df_tensor_free(mh_backend(), &d);
		tear_down(&u);
	}
}

/* A sample whose loss is not finite is left out, if the weigher says so: the step is that of the others. */
static int
finite_only(void *ctx, const struct df_step_group *g, double *weight, struct df_err *err)
{
	const bool *keeps = ctx;

	(void)err;
	for (size_t i = 0; i < g->losses.n; i++)
		weight[i] = targets_of(g, i) > 0 && (isfinite(mean_of(g, i)) || *keeps) ? 0.01 : 0;
	return DF_OK;
}

static void
test_left_out(void **state)
{
	enum { BAD = 4 };
	float *want = NULL;

	(void)state;
	for (int variant = 0; variant < 4; variant++) {
		bool keeps = false;
		const bool whole = variant >= 2, bad = variant % 2 == 0;
		const struct df_step_weigher w = { finite_only, &keeps, whole };
		const struct df_params *p;
		struct df_step_result res;
		uint64_t which[N], n = 0;
		uint32_t token;
		float *now, *v;
		struct setup u;

		set_up(&u, 2, BATCH, NULL, &w);
		p = df_model_train(u.m);
		/* a token that no other sample has, whose embedding is not finite */
		token = (uint32_t)df_model_config(u.m)->n_vocab - 1;
		for (uint64_t t = 0; t < u.batch.offsets[N]; t++)
			u.batch.ids[t] -= u.batch.ids[t] == token;
		u.batch.ids[u.batch.offsets[BAD]] = token;
		df_rows_release(&u.rows);
		make_rows(&u);
		v = mh_train_weights(u.m);
		for (size_t i = 0; i < p->n; i++) {
			if (strstr(p->v[i].name, "embed_tokens"))
				v[p->v[i].offset + token * p->v[i].cols] = NAN;
		}
		mh_ok(df_upload(mh_backend(), df_model_train_data(u.m), v, err));
		mh_ok(df_model_train_changed(u.m, err));
		free(v);
		for (uint64_t i = 0; i < N; i++) {
			if (bad || i != BAD)
				which[n++] = i;
		}
		if (bad) {
			keeps = true;
			mh_refused(df_stepper_run(u.s, &u.rows, which, n, NULL, 1e-3, &res, err), DF_ERANGE,
			    "the loss is not finite|104");
			keeps = false;
		}
		mh_ok(df_stepper_run(u.s, &u.rows, which, n, NULL, 1e-3, &res, err));
		assert_int_equal(res.n_invalid, bad);
		assert_true(isfinite(res.loss) && isfinite(res.mean_nll) && isfinite(res.grad_norm));
		assert_int_equal(res.domain[0].n + res.domain[1].n, N - 2);
		if (whole && bad) { /* one bad sample alone: nothing can be trained on */
			const uint64_t alone = BAD;

			mh_refused(df_stepper_run(u.s, &u.rows, &alone, 1, NULL, 1e-3, &res, err), DF_ERANGE,
			    "the loss is not finite|104");
		}
		now = mh_train_weights(u.m);
		for (size_t i = 0; want && i < p->numel; i++)
			assert_true(isnan(now[i]) ? isnan(want[i]) : fabsf(now[i] - want[i]) <= 3e-4F);
		free(want);
		want = now;
		tear_down(&u);
	}
	free(want);
}

/*
 * DataFlex's loss of a sample, recorded: the mean over its targets, each predicted by the token before it.  Logits are
 * made by our head with the identity as its weights.  A sample without targets has loss 0 there; here it has none.
 */
static void
test_per_sample_loss(void **state)
{
	enum { V = 7 };
	const char *root = getenv("DF_SRCDIR");
	struct df_tensor w = DF_TENSOR_NONE, h = DF_TENSOR_NONE, target = DF_TENSOR_NONE, nll = DF_TENSOR_NONE;
	float eye[V * V] = { 0 }, x[V], got;
	struct df_backend *be = mh_backend();
	struct df_json *j = NULL;
	size_t n_samples = 0;
	char path[4096];

	(void)state;
	mh_float32_only();
	snprintf(path, sizeof(path), "%s/../shared/golden/references/per_sample_loss.json", root ? root : ".");
	if (df_json_load(&j, path, 1 << 20, NULL) != DF_OK)
		skip();
	for (size_t i = 0; i < V; i++)
		eye[i * V + i] = 1;
	mh_ok(df_tensor_alloc(be, &w, DF_F32, V, V, "w", err));
	mh_ok(df_tensor_alloc(be, &h, DF_F32, 1, V, "h", err));
	mh_ok(df_tensor_alloc(be, &target, DF_U32, 1, 1, "target", err));
	mh_ok(df_tensor_alloc(be, &nll, DF_F32, 1, 1, "nll", err));
	mh_ok(df_upload(be, w, eye, err));
	for (size_t c = 0; c < df_json_size(df_json_root(j)); c++) {
		const struct df_json_value *one = df_json_at(df_json_root(j), c), *in = df_json_get(one, "inputs");

		for (size_t s = 0; s < df_json_size(df_json_get(one, "outputs")); s++, n_samples++) {
			const struct df_json_value *labels = df_json_at(df_json_get(in, "labels"), s);
			double want = -1, sum = 0, z;
			size_t n = 0;

			assert_true(df_json_number(df_json_at(df_json_get(one, "outputs"), s), &want));
			for (size_t t = 1; t < df_json_size(labels); t++) {
				const struct df_json_value *row =
				    df_json_at(df_json_at(df_json_get(in, "logits"), s), t - 1);
				const struct df_xent a = { .h = h, .w = w, .target = target, .nll = nll };
				uint32_t id;
				int64_t label;

				assert_true(df_json_int(df_json_at(labels, t), &label) && df_json_size(row) == V);
				if (label < 0)
					continue;
				id = (uint32_t)label;
				for (size_t v = 0; v < V; v++) {
					assert_true(df_json_number(df_json_at(row, v), &z));
					x[v] = (float)z;
				}
				mh_ok(df_upload(be, h, x, err));
				mh_ok(df_upload(be, target, &id, err));
				mh_ok(df_xent_fwd(be, &a, err));
				mh_ok(df_download(be, &got, nll, err));
				sum += (double)got;
				n++;
			}
			assert_true(n > 0 ? fabs(sum / (double)n - want) <= 2e-6 * (1 + want) : want == 0);
		}
	}
	assert_true(n_samples >= 6);
	df_tensor_free(be, &w);
	df_tensor_free(be, &h);
	df_tensor_free(be, &target);
	df_tensor_free(be, &nll);
	df_json_free(j);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_plain, mh_cleanup),
		cmocka_unit_test_teardown(test_threads, mh_cleanup),
		cmocka_unit_test_teardown(test_split, mh_cleanup),
		cmocka_unit_test_teardown(test_what_it_sees, mh_cleanup),
		cmocka_unit_test_teardown(test_derivative, mh_cleanup),
		cmocka_unit_test_teardown(test_refusal, mh_cleanup),
		cmocka_unit_test_teardown(test_not_finite, mh_cleanup),
		cmocka_unit_test_teardown(test_domains, mh_cleanup),
		cmocka_unit_test_teardown(test_step_derivative, mh_cleanup),
		cmocka_unit_test_teardown(test_left_out, mh_cleanup),
		cmocka_unit_test_teardown(test_per_sample_loss, mh_cleanup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
