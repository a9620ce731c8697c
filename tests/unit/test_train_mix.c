/*
 * test_train_mix.c - DoReMi's proxy step: excess losses and domain weights by the formulas, the gradient against finite
 * differences with weights held, at any number of threads and micro-batches, with fresh and with stale weights; a
 * batch of a single domain; held-out rows.  Runs on the backend in DF_TEST_DEVICE.
 */
#include "model_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "eval/forward.h"
#include "train/domain_weigh.h"
#include "train/held_out.h"

enum { N = 24, K = 3 };

static const double uniform[K] = { 1.0 / K, 1.0 / K, 1.0 / K };

/* A proxy, and a reference that is better at some samples. */
struct setup {
	struct df_model *m;
	struct mh_batch batch;
	struct df_rows rows;
	struct df_pool *pool;
	struct df_stepper *s;
	struct df_reference *reference;
	const struct df_mixer *mixer;
	double *state;
	struct df_domain_weigh w;
	struct df_step_weigher weigher;
};

static void
make_rows(struct setup *u)
{
	uint16_t domain[N];

	for (uint16_t i = 0; i < N; i++)
		domain[i] = i < 4 ? 2 : (uint16_t)(i % 2);
	mh_rows(&u->rows, &u->batch, N, domain, K);
}

/* Change the proxy, so that it is not the reference: each parameter by up to 5 %. */
static void
perturb(struct df_model *m)
{
	const size_t numel = df_model_train(m)->numel;
	float *v;

	mh_ok(df_model_master(m, err));
	v = mh_train_weights(m);
	for (size_t i = 0; i < numel; i++)
		v[i] *= 1 + 0.05F * (float)((int)(i * 2654435761U % 201) - 100) / 100;
	mh_ok(df_upload(mh_backend(), df_model_train_data(m), v, err));
	mh_ok(df_model_train_changed(m, err));
	free(v);
}

static void
set_up(struct setup *u, int threads, size_t batch, bool fresh, const double *p)
{
	const struct df_stepper_opts o = { .batch = batch, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8 };
	char *dir = mh_path("llama", NULL);
	size_t lengths[N];

	memset(u, 0, sizeof(*u));
	mh_ok(df_model_open(&u->m, dir, NULL, mh_backend(), err));
	perturb(u->m);
	for (size_t i = 0; i < N; i++)
		lengths[i] = 5 + i * 37 % 59;
	mh_batch_random(&u->batch, lengths, N, df_model_config(u->m)->n_vocab, 7);
	memset(u->batch.mask + u->batch.offsets[5], 0, u->batch.offsets[6] - u->batch.offsets[5]);
	make_rows(u);
	mh_ok(df_pool_new(&u->pool, threads, err));
	mh_ok(df_stepper_new(&u->s, u->m, u->pool, &o, err));
	mh_ok(df_reference_open_model(&u->reference, dir, &u->rows, mh_backend(), u->pool, err));
	mh_ok(df_mixer_find(&u->mixer, "doremi", err));
	mh_ok(df_alloc(&u->state, u->mixer->n_state(K), sizeof(*u->state), "state", err));
	mh_ok(u->mixer->begin(u->mixer->defaults, p, K, u->state, err));
	u->w = (struct df_domain_weigh){ .mixer = u->mixer,
		.options = u->mixer->defaults,
		.state = u->state,
		.p = p,
		.n_domains = K,
		.reference = u->reference,
		.fresh = fresh,
		.total = 100 };
	mh_ok(df_domain_weigh_init(&u->w, err));
	u->weigher = (struct df_step_weigher){ df_domain_weigh_group, &u->w, fresh };
	df_stepper_weigh(u->s, &u->weigher);
	free(dir);
}

static void
tear_down(struct setup *u)
{
	df_domain_weigh_release(&u->w);
	df_reference_close(u->reference);
	df_stepper_free(u->s);
	df_rows_release(&u->rows);
	mh_batch_release(&u->batch);
	df_model_free(u->m);
	df_pool_free(u->pool);
	free(u->state);
}

/* A step on rows [first, first + n). */
static struct df_step_result
step(struct setup *u, uint64_t number, uint64_t first, size_t n, double lr)
{
	struct df_step_result res;
	uint64_t which[N];

	for (uint64_t i = 0; i < n; i++)
		which[i] = first + i;
	df_domain_weigh_begin(&u->w, number);
	mh_ok(df_stepper_run(u->s, &u->rows, which, n, NULL, lr, &res, err));
	mh_ok(df_domain_weigh_end(&u->w, err));
	return res;
}

/* The losses of all rows' targets, and their offsets. */
struct losses {
	float nll[4096];
	uint32_t offsets[N + 1];
};

static void
losses_of(struct setup *u, struct df_model *m, struct losses *l)
{
	struct df_forward *f;
	struct df_gather g = { 0 };
	struct df_tokens b;
	uint64_t which[N];

	for (uint64_t i = 0; i < N; i++)
		which[i] = i;
	mh_ok(df_gather_batch(&g, &u->rows, which, N, &b, err));
	l->offsets[0] = 0;
	for (size_t i = 0; i < N; i++)
		l->offsets[i + 1] = l->offsets[i] + g.n_targets[i];
	assert_true(l->offsets[N] <= 4096);
	mh_ok(df_forward_new(&f, m, u->pool, err));
	mh_ok(df_forward_losses(f, &u->rows, which, N, l->offsets, l->nll, err));
	df_forward_free(f);
	df_gather_release(&g);
}

/* sum of q_d l / sum of q_d, with q = alpha / p. */
static double
weighted_loss(struct setup *u, const double *alpha, const double *p)
{
	static struct losses l;
	double sum = 0, all = 0;

	losses_of(u, u->m, &l);
	for (size_t i = 0; i < N; i++) {
		const double q = alpha[u->rows.domain[i]] / p[u->rows.domain[i]];

		for (uint32_t t = l.offsets[i]; t < l.offsets[i + 1]; t++) {
			sum += q * (double)l.nll[t];
			all += q;
		}
	}
	return sum / all;
}

/* The paper's update from uniform weights: eta 1, c 1e-3. */
static void
alpha_by_formula(struct setup *u, double *alpha)
{
	static struct losses l, ref;
	double sum[K] = { 0 }, n[K] = { 0 }, all = 0;

	losses_of(u, u->m, &l);
	mh_ok(df_reference_losses(u->reference,
	    (uint64_t[N]){ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23 }, N,
	    l.offsets, ref.nll, err));
	for (size_t i = 0; i < N; i++) {
		for (uint32_t t = l.offsets[i]; t < l.offsets[i + 1]; t++) {
			sum[u->rows.domain[i]] += fmax((double)l.nll[t] - (double)ref.nll[t], 0);
			n[u->rows.domain[i]]++;
		}
	}
	for (size_t d = 0; d < K; d++) {
		assert_true(sum[d] > 0);
		alpha[d] = exp(sum[d] / n[d]) / K;
		all += alpha[d];
	}
	for (size_t d = 0; d < K; d++)
		alpha[d] = (1 - 1e-3) * alpha[d] / all + 1e-3 / K;
}

/* The gradient of the step before, from Adam's first moment; free() it. */
static float *
last_gradient(struct setup *u)
{
	const size_t numel = df_model_train(u->m)->numel;
	struct df_moments o = { 0 };
	float *g;

	mh_ok(df_stepper_save(u->s, mh_scratch(), err));
	mh_ok(df_moments_load(&o, u->m, mh_scratch(), err));
	mh_ok(df_alloc(&g, numel, sizeof(*g), "gradient", err));
	mh_ok(df_download(mh_backend(), g, o.m, err));
	for (size_t i = 0; i < numel; i++)
		g[i] /= 1 - 0.9F;
	df_moments_release(&o, u->m);
	return g;
}

/* The derivative of the weighted loss along g at unit length, by differences. */
static double
by_differences(struct setup *u, const float *g, double norm, const double *alpha, const double *p)
{
	const size_t numel = df_model_train(u->m)->numel;
	const double eps = 2e-3;
	float *v = mh_train_weights(u->m), *to;
	double loss[2];

	mh_ok(df_alloc(&to, numel, sizeof(*to), "weights", err));
	for (int up = 0; up < 2; up++) {
		for (size_t i = 0; i < numel; i++)
			to[i] = v[i] + (float)((up ? eps : -eps) / norm) * g[i];
		mh_ok(df_upload(mh_backend(), df_model_train_data(u->m), to, err));
		loss[up] = weighted_loss(u, alpha, p);
	}
	mh_ok(df_upload(mh_backend(), df_model_train_data(u->m), v, err));
	free(v);
	free(to);
	return (loss[1] - loss[0]) / (2 * eps);
}

/* ---- tests ------------------------------------------------------------------------------------------------------ */

/* alpha by the formulas, the step's loss as it is defined, and the gradient as its derivative, weights held. */
static void
test_gradient(void **state)
{
	static const double other[K] = { 0.5, 0.3, 0.2 };
	const struct {
		int threads;
		size_t batch;
		bool fresh;
		const double *p;
	} cases[] = { { 1, N, true, uniform }, { 2, N, true, uniform }, { 4, N, true, other }, { 1, 8, true, uniform },
		{ 2, 8, false, other }, { 4, 8, false, uniform } };

	(void)state;
	mh_float32_only();
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		double want[K], alpha[K], norm = 0, slope;
		struct df_step_result res;
		struct setup u;
		float *g;

		set_up(&u, cases[c].threads, cases[c].batch, cases[c].fresh, cases[c].p);
		alpha_by_formula(&u, want);
		res = step(&u, 1, 0, N, 0);
		u.mixer->weigh(u.mixer->defaults, u.state, K, alpha);
		for (size_t d = 0; d < K; d++) {
			assert_true(fabs(alpha[d] - want[d]) <= 1e-6);
			assert_true(fabs(u.w.alpha[d] - (cases[c].fresh ? want[d] : 1.0 / K)) <= 1e-6);
		}
		assert_true(fabs(res.loss - weighted_loss(&u, u.w.alpha, cases[c].p)) <= 1e-5 * res.loss);
		g = last_gradient(&u);
		for (size_t i = 0; i < df_model_train(u.m)->numel; i++)
			norm += (double)g[i] * (double)g[i];
		norm = sqrt(norm);
		slope = by_differences(&u, g, norm, u.w.alpha, cases[c].p);
		print_message("# along the gradient: %.6f, by differences %.6f\n", norm, slope);
		assert_true(norm > 1e-2 && fabs(norm - slope) <= 2e-3 * norm);
		free(g);
		tear_down(&u);
	}
}

/* The same weights of model and domains at any number of threads; alpha of sum 1 and never below c / K. */
static void
test_threads(void **state)
{
	float *model = NULL;
	double alpha[K];

	(void)state;
	for (int threads = 1; threads <= 4; threads *= 2) {
		struct setup u;
		float *now;

		set_up(&u, threads, 8, threads > 0, uniform);
		for (uint64_t t = 1; t <= 4; t++) {
			double sum = 0;

			step(&u, t, 0, N, 1e-2);
			for (size_t d = 0; d < K; d++) {
				assert_true(u.w.alpha[d] >= 1e-3 / K - 1e-15);
				sum += u.w.alpha[d];
			}
			assert_true(fabs(sum - 1) <= 1e-12);
		}
		now = mh_train_weights(u.m);
		if (model) {
			assert_memory_equal(alpha, u.w.alpha, sizeof(alpha));
			assert_memory_equal(model, now, df_model_train(u.m)->numel * sizeof(*now));
		}
		memcpy(alpha, u.w.alpha, sizeof(alpha));
		free(model);
		model = now;
		tear_down(&u);
	}
	free(model);
}

/*
 * A batch of one domain still moves alpha: to that domain's favour or, before the others were seen, not at all, since
 * the mean of the lambdas that were observed takes the place of theirs.
 */
static void
test_single_domain(void **state)
{
	double before[K];
	struct setup u;

	(void)state;
	set_up(&u, 2, N, true, uniform);
	step(&u, 1, 0, N, 1e-3);
	memcpy(before, u.w.alpha, sizeof(before));
	step(&u, 2, 0, 4, 1e-3); /* of domain 2 alone */
	assert_true(u.w.sum[0].n_targets == 0 && u.w.sum[1].n_targets == 0 && u.w.sum[2].n_targets > 0);
	assert_true(fabs(u.w.alpha[2] - before[2]) > 1e-6);
	assert_true(fabs(u.w.alpha[0] + u.w.alpha[1] + u.w.alpha[2] - 1) <= 1e-12);
	tear_down(&u);
}

/*
 * A loss of one domain that is not finite: the step fails and names the sample, the model stays as it was, and what was
 * measured of the others is finite.  A step without that sample is trained on as ever.
 */
static void
test_bad_loss(void **state)
{
	enum { BAD = 2 }; /* of domain 2 */
	const struct df_params *p;
	float *v, *after;
	struct df_step_result res;
	uint64_t which[N];
	uint32_t token;
	struct setup u;

	(void)state;
	set_up(&u, 2, N, true, uniform);
	p = df_model_train(u.m);
	token = (uint32_t)df_model_config(u.m)->n_vocab - 1;
	for (uint64_t t = 0; t < u.batch.offsets[N]; t++)
		u.batch.ids[t] -= u.batch.ids[t] == token;
	u.batch.ids[u.batch.offsets[BAD]] = token; /* no other sample has it */
	df_rows_release(&u.rows);
	make_rows(&u);
	v = mh_train_weights(u.m);
	for (size_t i = 0; i < p->n; i++)
		if (strstr(p->v[i].name, "embed_tokens"))
			v[p->v[i].offset + token * p->v[i].cols] = NAN;
	mh_ok(df_upload(mh_backend(), df_model_train_data(u.m), v, err));
	mh_ok(df_model_train_changed(u.m, err));
	for (uint64_t i = 0; i < N; i++)
		which[i] = i;
	df_domain_weigh_begin(&u.w, 1);
	mh_refused(
	    df_stepper_run(u.s, &u.rows, which, N, NULL, 1e-3, &res, err), DF_ERANGE, "the loss is not finite|sample");
	after = mh_train_weights(u.m);
	assert_memory_equal(after, v, p->numel * sizeof(*v));
	assert_true(u.w.n_skipped > 0);
	for (size_t d = 0; d < K; d++)
		assert_true(isfinite(u.w.sum[d].excess) && u.w.alpha[d] > 0 && isfinite(u.w.alpha[d]));
	res = step(&u, 1, 4, N - 4, 1e-3);
	assert_true(isfinite(res.loss) && isfinite(res.grad_norm));
	free(v);
	free(after);
	tear_down(&u);
}

/* The losses l of all rows, as df-grad --losses --token-loss writes them. */
static void
write_losses(const struct setup *u, const struct losses *l, const char *path)
{
	const enum df_col cols[] = { DF_COL_ID, DF_COL_LOSS, DF_COL_TOKEN_LOSS };
	const struct df_writer_opts opts = { .compress = DF_COMPRESS_NONE };
	uint64_t id[N], offsets[N + 1] = { 0 };
	struct df_batch b = DF_BATCH_INIT;
	struct df_meta m = DF_META_INIT;
	struct df_writer *w = NULL;
	size_t widths[DF_COL_COUNT] = { 0 };
	float mean[N] = { 0 };

	for (size_t i = 0; i < N; i++) {
		id[i] = df_rows_id(&u->rows, i);
		offsets[i + 1] = l->offsets[i + 1];
	}
	m.kind = DF_KIND_LOSSES;
	b.n = N;
	b.col[DF_COL_ID] = (struct df_column_data){ .data = id, .width = 1 };
	b.col[DF_COL_LOSS] = (struct df_column_data){ .data = mean, .width = 1 };
	b.col[DF_COL_TOKEN_LOSS] = (struct df_column_data){ .data = (float *)(uintptr_t)l->nll, .offsets = offsets };
	mh_ok(df_writer_open(&w, path, &m, cols, 3, widths, &opts, err));
	mh_ok(df_writer_put(w, &b, err));
	mh_ok(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	df_meta_release(&m);
}

/* A target without a finite reference loss does not count for the excess, and is counted; all else is as ever. */
static void
test_bad_reference(void **state)
{
	struct df_mix_sum want[K];
	struct losses l;
	char path[4096];
	struct setup u;

	(void)state;
	for (size_t bad = 0; bad < 2; bad++) {
		set_up(&u, 2, N, true, uniform);
		if (bad == 0) {
			struct df_model *m = NULL;
			char *dir = mh_path("llama", NULL);

			mh_ok(df_model_open(&m, dir, NULL, mh_backend(), err));
			losses_of(&u, m, &l);
			df_model_free(m);
			free(dir);
		} else {
			l.nll[l.offsets[1]] = NAN; /* of row 1, of domain 2 */
		}
		snprintf(path, sizeof(path), "%s/reference.h5", mh_scratch());
		write_losses(&u, &l, path);
		df_reference_close(u.reference);
		mh_ok(df_reference_open_file(&u.reference, path, &u.rows, err));
		u.w.reference = u.reference;
		step(&u, 1, 0, N, 1e-3);
		assert_int_equal(u.w.n_skipped, bad);
		for (size_t d = 0; d < K; d++) {
			assert_true(isfinite(u.w.sum[d].excess) && isfinite(u.w.alpha[d]));
			if (bad)
				assert_int_equal(u.w.sum[d].n_excess, want[d].n_excess - (d == 2));
			if (bad && d != 2)
				assert_true(u.w.sum[d].excess == want[d].excess);
		}
		memcpy(want, u.w.sum, sizeof(want));
		tear_down(&u);
	}
}

/* Half of a domain at most, each once, the same again; none of them is another domain's. */
static void
test_held_out(void **state)
{
	struct df_held_out h, again;
	struct setup u;
	uint64_t n = 0;

	(void)state;
	set_up(&u, 1, N, true, uniform);
	mh_ok(df_held_out_reserve(&h, &u.rows, K, 7, 3, err));
	mh_ok(df_held_out_reserve(&again, &u.rows, K, 7, 3, err));
	for (size_t d = 0; d < K; d++) {
		assert_int_equal(h.first[d + 1] - h.first[d], d == 2 ? 2 : 5);
		for (uint32_t k = h.first[d]; k < h.first[d + 1]; k++)
			assert_true(u.rows.domain[h.row[k]] == d && h.reserved[h.row[k]]);
	}
	for (uint64_t i = 0; i < N; i++)
		n += h.reserved[i];
	assert_int_equal(n, h.first[K]);
	assert_memory_equal(h.row, again.row, n * sizeof(*h.row));
	df_held_out_release(&h);
	df_held_out_release(&again);
	mh_ok(df_held_out_named(&h, &u.rows, "b, a,c", u.rows.meta.domains, K, 100, 3, err));
	assert_true(!h.reserved && h.first[K] == N && u.rows.domain[h.row[0]] == 1 && h.first[1] == 10);
	df_held_out_release(&h);
	mh_refused(df_held_out_named(&h, &u.rows, "a,b", u.rows.meta.domains, K, 9, 3, err), DF_EUSAGE,
	    "2 datasets|3 domains");
	mh_refused(
	    df_held_out_named(&h, &u.rows, "a,b,cc", u.rows.meta.domains, K, 9, 3, err), DF_EUSAGE, "no dataset 'cc'");
	tear_down(&u);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_gradient, mh_cleanup),
		cmocka_unit_test_teardown(test_threads, mh_cleanup),
		cmocka_unit_test_teardown(test_single_domain, mh_cleanup),
		cmocka_unit_test_teardown(test_bad_loss, mh_cleanup),
		cmocka_unit_test_teardown(test_bad_reference, mh_cleanup),
		cmocka_unit_test_teardown(test_held_out, mh_cleanup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
