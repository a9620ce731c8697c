/*
 * test_model_props.c - what must hold without any reference: finite
 * differences, sums of sample gradients, independence of the batch, pieces,
 * initialisation.  Runs on the backend in DF_TEST_DEVICE.
 */
#include "model_help.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const size_t lengths[] = { 9, 1, 0, 33, 2, 17 };
#define N_SAMPLES (sizeof(lengths) / sizeof(lengths[0]))

struct run {
	struct df_model *m;
	struct df_work *w;
	struct mh_batch batch;
};

static void
start(struct run *r, const char *dir, const char *lora)
{
	memset(r, 0, sizeof(*r));
	mh_ok(df_model_init(&r->m, dir, 7, mh_backend(), err));
	mh_ok(df_model_master(r->m, err));
	if (lora != NULL) {
		struct df_lora_spec spec = { .rank = 3, .alpha = 5, .targets = lora };
		float *x = NULL;
		size_t n;

		mh_ok(df_model_add_lora(r->m, &spec, 8, err));
		/* B away from zero, so that A gets a gradient. */
		n = df_model_train(r->m)->numel;
		mh_ok(df_alloc(&x, n, sizeof(*x), "weights", err));
		mh_ok(df_download(mh_backend(), x, df_model_train_data(r->m), err));
		for (size_t i = 0; i < n; i++)
			x[i] += 0.05f * (float)sin((double)i);
		mh_ok(df_upload(mh_backend(), df_model_train_data(r->m), x, err));
		mh_ok(df_model_train_changed(r->m, err));
		free(x);
	}
	mh_ok(df_work_new(&r->w, r->m, err));
	mh_batch_random(&r->batch, lengths, N_SAMPLES, df_model_config(r->m)->n_vocab, 11);
}

static void
finish(struct run *r)
{
	mh_batch_release(&r->batch);
	df_work_free(r->w);
	df_model_free(r->m);
}

/*
 * batch gradient with scale w_s / n_s = sum of w_s times sample gradients.
 * Both are float32 sums of the same products in other groupings: 1e-5.
 */
static void
check_sum(const char *dir, const char *lora)
{
	uint32_t n_targets[N_SAMPLES];
	struct df_losses out = { .n_targets = n_targets };
	float weight[N_SAMPLES], scale[N_SAMPLES], *sum = NULL;
	const float *batch;
	struct mh_grads g;
	struct run r;
	double d;

	start(&r, dir, lora);
	mh_sample_grads(&g, r.m, r.w, &r.batch.b, &out);
	mh_ok(df_alloc(&sum, g.numel, sizeof(*sum), "sum", err));
	for (size_t s = 0; s < N_SAMPLES; s++) {
		weight[s] = 0.5f + (float)s;
		scale[s] = n_targets[s] > 0 ? weight[s] / (float)n_targets[s] : 0;
		for (size_t i = 0; i < g.numel; i++)
			sum[i] += weight[s] * g.g[s * g.numel + i];
	}
	batch = mh_batch_grad(r.m, r.w, &r.batch.b, scale);
	for (size_t i = 0; i < df_model_train(r.m)->n; i++) {
		const struct df_param *p = &df_model_train(r.m)->v[i];

		d = mh_rel_diff(sum + p->offset, batch + p->offset, p->rows * p->cols);
		if (!(d <= mh_bound(1e-5, 2e-2)))
			fail_msg("%s: sum of sample gradients differs by %g", p->name, d);
	}
	print_message("# %s: %zu blocks, sum differs by %.1e\n", lora ? lora : "full", g.blocks,
	    mh_rel_diff(sum, batch, g.numel));
	free(sum);
	finish(&r);
}

static void
test_sum(void **state)
{
	static const char *const targets[] = { NULL, "all", "q_proj,v_proj", "k_proj", "o_proj", "up_proj",
		"gate_proj, down_proj", "down_proj" };

	(void)state;
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		check_sum(mh_config("m", 61, 24, 40, 2, 4, 2, NULL), targets[i]);
		/* One layer: the first and the last at once. */
		check_sum(mh_config("m1", 61, 24, 40, 1, 2, 2, NULL), targets[i]);
	}
}

/* Parameters of more than 2^16 coordinates come in pieces, the last one short. */
static void
test_pieces(void **state)
{
	(void)state;
	check_sum(mh_config("u", 300, 256, 320, 1, 4, 1, NULL), NULL);
	check_sum(mh_config("t", 300, 256, 320, 1, 4, 1, "\"tie_word_embeddings\":true,\"pad_token_id\":5"), NULL);
}

static double
loss_sum(struct run *r, const float *scale)
{
	float loss[N_SAMPLES];
	uint32_t n[N_SAMPLES];
	struct df_losses out = { .loss = loss, .n_targets = n };
	double sum = 0;

	mh_ok(df_model_loss(r->m, r->w, &r->batch.b, &out, err));
	for (size_t s = 0; s < N_SAMPLES; s++)
		sum += n[s] > 0 ? (double)scale[s] * n[s] * (double)loss[s] : 0;
	return sum;
}

/*
 * Along each parameter's own gradient direction g/|g| the derivative is |g|.
 * A step of 0.02 moves the loss by about 1e-3..1e-1 against float32 noise of
 * 1e-6, and curvature adds the square of the step: 2 %.
 */
static void
check_differences(const char *dir, const char *lora)
{
	static const float scale[N_SAMPLES] = { 0.1f, 0, 0, 0.05f, 0.3f, 0.1f };
	const double h = 0.02;
	const struct df_params *p;
	const float *grad;
	float *x = NULL, *y = NULL;
	double worst = 0;
	struct run r;

	start(&r, dir, lora);
	p = df_model_train(r.m);
	grad = mh_batch_grad(r.m, r.w, &r.batch.b, scale);
	mh_ok(df_alloc(&x, p->numel, sizeof(*x), "weights", err));
	mh_ok(df_alloc(&y, p->numel, sizeof(*y), "weights", err));
	mh_ok(df_download(mh_backend(), x, df_model_train_data(r.m), err));
	for (size_t k = 0; k < p->n; k++) {
		const struct df_param *v = &p->v[k];
		double norm = 0, diff[2];

		for (size_t i = v->offset; i < v->offset + v->rows * v->cols; i++)
			norm += (double)grad[i] * (double)grad[i];
		norm = sqrt(norm);
		assert_true(norm > 1e-4);
		for (int side = 0; side < 2; side++) {
			memcpy(y, x, p->numel * sizeof(*x));
			for (size_t i = v->offset; i < v->offset + v->rows * v->cols; i++)
				y[i] += (float)((side ? -h : h) * (double)grad[i] / norm);
			mh_ok(df_upload(mh_backend(), df_model_train_data(r.m), y, err));
			diff[side] = loss_sum(&r, scale);
		}
		worst = fmax(worst, fabs((diff[0] - diff[1]) / (2 * h) / norm - 1));
		if (worst > 0.02)
			fail_msg("%s: |g| = %g, finite difference %g", v->name, norm, (diff[0] - diff[1]) / (2 * h));
	}
	print_message("# finite differences: within %.1e\n", worst);
	free(x);
	free(y);
	finish(&r);
}

static void
test_differences(void **state)
{
	mh_float32_only();
	const char *dir =
	    mh_config("fd", 41, 24, 40, 2, 4, 2, "\"initializer_range\":0.2,\"attention_bias\":true,\"mlp_bias\":true");

	(void)state;
	check_differences(dir, NULL);
	check_differences(dir, "all");
	check_differences(
	    mh_config("fdt", 41, 24, 40, 2, 4, 2, "\"initializer_range\":0.2,\"tie_word_embeddings\":true"), NULL);
}

/* A sample's loss and gradient are the same bits whatever it is batched with. */
static void
check_independent(const char *dir, const char *lora)
{
	float all[N_SAMPLES], one[1];
	struct df_losses out = { .loss = all }, out1 = { .loss = one };
	struct mh_grads g, g1;
	struct run r;

	start(&r, dir, lora);
	mh_sample_grads(&g, r.m, r.w, &r.batch.b, &out);
	for (size_t s = 0; s < N_SAMPLES; s++) {
		uint64_t first = r.batch.offsets[s], off[2] = { 0, r.batch.offsets[s + 1] - first };
		struct df_tokens b = {
			.n = 1, .offsets = off, .ids = r.batch.ids + first, .mask = r.batch.mask + first
		};

		if (lengths[s] < 2)
			continue;
		mh_sample_grads(&g1, r.m, r.w, &b, &out1);
		mh_assert_same(&all[s], one, 1);
		for (size_t i = 0; i < df_model_train(r.m)->n; i++) {
			const struct df_param *p = &df_model_train(r.m)->v[i];

			if (memcmp(g.g + s * g.numel + p->offset, g1.g + p->offset,
				p->rows * p->cols * sizeof(float)) != 0 &&
			    !mh_same(g.g + s * g.numel, g1.g, g.numel)) /* one parameter's may be rounding alone */
				fail_msg("sample %zu: the gradient of %s depends on the batch, by %g", s, p->name,
				    mh_rel_diff(g.g + s * g.numel + p->offset, g1.g + p->offset, p->rows * p->cols));
		}
	}
	finish(&r);
}

static void
test_independent(void **state)
{
	(void)state;
	check_independent(mh_config("i", 131, 96, 160, 2, 4, 2, NULL), NULL);
	check_independent(
	    mh_config("it", 131, 96, 160, 2, 4, 2, "\"tie_word_embeddings\":true,\"attention_bias\":true"), NULL);
	check_independent(mh_config("i", 131, 96, 160, 2, 4, 2, NULL), "all");
}

static int
count_block(void *ctx, const struct df_grad_block *block, struct df_err *err)
{
	(void)block;
	(void)err;
	++*(size_t *)ctx;
	return DF_OK;
}

static int
failing_sink(void *ctx, const struct df_grad_block *block, struct df_err *err)
{
	(void)block;
	return ++*(int *)ctx == 3 ? df_fail(err, DF_EIO, "the sink is full") : DF_OK;
}

static void
test_edges(void **state)
{
	const uint64_t none[1] = { 0 }, off[3] = { 0, 3, 3 }, bad[3] = { 0, 3, 2 };
	const uint32_t ids[3] = { 1, 2, 3 }, high[3] = { 1, 61, 3 }, ahead[3] = { 0, 4000000000, 2 };
	const uint8_t masked[3] = { 1, 0, 0 }, mask[3] = { 0, 1, 1 };
	struct df_tokens b = { .n = 0, .offsets = none, .ids = ids, .mask = mask };
	float loss[2] = { 0, 0 }, scale[2] = { 1, 1 };
	uint32_t n[2] = { 9, 9 };
	struct df_losses out = { .loss = loss, .n_targets = n };
	struct df_tensor h;
	const float *g;
	size_t blocks = 0;
	int calls = 0;
	struct run r;

	(void)state;
	start(&r, mh_config("m", 61, 24, 40, 2, 4, 2, NULL), NULL);
	/* No samples. */
	mh_ok(df_model_loss(r.m, r.w, &b, &out, err));
	mh_ok(df_model_sample_grads(r.m, r.w, &b, count_block, &blocks, &out, err));
	assert_int_equal(blocks, 0);
	/* No targets (the mask at position 0 predicts nothing): NaN, zero gradients, every block. */
	b = (struct df_tokens){ .n = 2, .offsets = off, .ids = ids, .mask = masked };
	mh_ok(df_model_sample_grads(r.m, r.w, &b, count_block, &blocks, &out, err));
	assert_int_equal(blocks, df_model_train(r.m)->n);
	assert_true(isnan(loss[0]) && isnan(loss[1]) && n[0] == 0 && n[1] == 0);
	g = mh_batch_grad(r.m, r.w, &b, scale);
	for (size_t i = 0; i < df_model_train(r.m)->numel; i++)
		assert_true(g[i] == 0);
	/* Ids beyond the vocabulary and offsets that decrease are found before anything runs. */
	b = (struct df_tokens){ .n = 2, .offsets = off, .ids = high, .mask = mask };
	mh_refused(df_model_loss(r.m, r.w, &b, &out, err), DF_EFORMAT, "sample 0|token 61|vocabulary");
	b = (struct df_tokens){ .n = 2, .offsets = bad, .ids = ids, .mask = mask };
	mh_refused(df_model_loss(r.m, r.w, &b, &out, err), DF_EFORMAT, "sample 1|offsets");
	/* So are positions that run ahead of their tokens: the rotary table would follow them. */
	b = (struct df_tokens){ .n = 2, .offsets = off, .ids = ids, .mask = mask, .position = ahead };
	mh_refused(df_model_loss(r.m, r.w, &b, &out, err), DF_EFORMAT, "sample 0|position 4000000000 of token 1");
	mh_refused(df_model_hidden(r.m, r.w, &b, 1, &h, err), DF_EFORMAT, "sample 0|position 4000000000 of token 1");
	/* A sink's error ends the call and is passed on. */
	b = (struct df_tokens){ .n = 2, .offsets = off, .ids = ids, .mask = mask };
	mh_refused(df_model_sample_grads(r.m, r.w, &b, failing_sink, &calls, &out, err), DF_EIO, "the sink is full");
	assert_int_equal(calls, 3);
	finish(&r);
}

/* A label that is not the token: the loss is that of the row which has the label there. */
static void
test_last_label(void **state)
{
	const uint64_t off[3] = { 0, 6, 9 };
	const uint32_t ids[9] = { 5, 6, 7, 8, 9, 60, 5, 6, 60 };
	const uint8_t mask[9] = { 0, 0, DF_LABEL_LAST, 0, 0, 0, 0, 0, 1 };
	const struct df_tokens b = { .n = 2, .offsets = off, .ids = ids, .mask = mask };
	float loss[2];
	uint32_t n[2];
	struct df_losses out = { .loss = loss, .n_targets = n };
	struct run r;

	(void)state;
	start(&r, mh_config("m", 61, 24, 40, 2, 4, 2, NULL), NULL);
	mh_ok(df_model_loss(r.m, r.w, &b, &out, err));
	assert_true(n[0] == 1 && n[1] == 1);
	/* The same prefix through the same arithmetic, but for a row's place in its tile. */
	assert_true(fabsf(loss[0] - loss[1]) < 1e-5f * loss[1]);
	finish(&r);
}

static const float *
weights(struct df_tensor t)
{
	static float *x;

	free(x);
	x = NULL;
	mh_ok(df_alloc(&x, t.cols, sizeof(*x), "weights", err));
	mh_ok(df_download(mh_backend(), x, t, err));
	return x;
}

static void
test_init(void **state)
{
	struct df_lora_spec spec = { .rank = 16, .alpha = 16, .targets = "all" };
	const char *dir = mh_config("init", 200, 64, 96, 2, 4, 2, "\"initializer_range\":0.05,\"attention_bias\":true");
	struct df_digest d1, d2;
	float before[4], after[4];
	struct df_losses l1 = { .loss = before }, l2 = { .loss = after };
	struct df_model *other = NULL;
	struct mh_batch b;
	struct run r;
	const float *x;

	(void)state;
	start(&r, dir, NULL);
	x = mh_weights(r.m);
	for (size_t i = 0; i < df_model_base(r.m)->n; i++) {
		const struct df_param *p = &df_model_base(r.m)->v[i];
		double sum = 0, sq = 0, n = (double)(p->rows * p->cols);

		for (size_t j = 0; j < p->rows * p->cols; j++) {
			sum += (double)x[p->offset + j];
			sq += (double)x[p->offset + j] * (double)x[p->offset + j];
		}
		if (p->rank == 1) {
			double want = strstr(p->name, "bias") ? 0 : 1;

			assert_true(sum == want * n && sq == want * n);
			assert_false(p->decay);
		} else { /* mean within 4.5, variance within 4.5 standard errors */
			assert_true(fabs(sum / n) < 4.5 * 0.05 / sqrt(n));
			assert_true(fabs(sq / n / (0.05 * 0.05) - 1) < 4.5 * sqrt(2 / n));
			assert_true(p->decay);
		}
	}
	/* The seed decides, nothing else. */
	mh_ok(df_model_digest(r.m, &d1, err));
	mh_ok(df_model_init(&other, dir, 7, mh_backend(), err));
	mh_ok(df_model_digest(other, &d2, err));
	assert_true(d1.lo == d2.lo && d1.hi == d2.hi);
	df_model_free(other);
	mh_ok(df_model_init(&other, dir, 8, mh_backend(), err));
	mh_ok(df_model_digest(other, &d2, err));
	assert_false(d1.lo == d2.lo && d1.hi == d2.hi);
	df_model_free(other);

	/* Fresh adapters: B = 0 changes nothing; A fills +-1/sqrt(in). */
	mh_batch_random(&b, (size_t[]){ 5, 8, 3, 9 }, 4, 200, 3);
	mh_ok(df_model_loss(r.m, r.w, &b.b, &l1, err));
	df_work_free(r.w);
	r.w = NULL;
	mh_ok(df_model_add_lora(r.m, &spec, 5, err));
	mh_ok(df_work_new(&r.w, r.m, err));
	mh_ok(df_model_loss(r.m, r.w, &b.b, &l2, err));
	assert_memory_equal(before, after, sizeof(before));
	x = weights(df_model_train_data(r.m));
	for (size_t i = 0; i < df_model_train(r.m)->n; i++) {
		const struct df_param *p = &df_model_train(r.m)->v[i];
		double most = 0;

		for (size_t j = 0; j < p->rows * p->cols; j++)
			most = fmax(most, fabs((double)x[p->offset + j]));
		if (strstr(p->name, "lora_B"))
			assert_true(most == 0);
		else
			assert_true(most <= 1 / sqrt((double)p->cols) && most > 0.98 / sqrt((double)p->cols));
	}
	mh_refused(df_model_add_lora(r.m, &spec, 5, err), DF_EUSAGE, "adapter already");
	mh_batch_release(&b);
	finish(&r);

	start(&r, dir, NULL);
	spec.targets = "q_proj,lm_head";
	mh_refused(df_model_add_lora(r.m, &spec, 5, err), DF_EUNSUPPORTED, "lm_head");
	spec.targets = " , ";
	mh_refused(df_model_add_lora(r.m, &spec, 5, err), DF_ECONFIG, "no LoRA targets");
	spec = (struct df_lora_spec){ .rank = 0, .alpha = 1, .targets = "all" };
	mh_refused(df_model_add_lora(r.m, &spec, 5, err), DF_ERANGE, "rank of 0");
	spec = (struct df_lora_spec){ .rank = 2, .alpha = NAN, .targets = "all" };
	mh_refused(df_model_add_lora(r.m, &spec, 5, err), DF_ERANGE, "alpha");
	finish(&r);
}

/* Threads share a model, each with its own df_work. */
struct thread_arg {
	struct run *r;
	float loss[N_SAMPLES];
	int rc;
};

static void *
loss_thread(void *p)
{
	struct thread_arg *a = p;
	struct df_losses out = { .loss = a->loss };
	struct df_err err = DF_ERR_INIT;
	struct df_work *w = NULL;

	a->rc = df_work_new(&w, a->r->m, &err);
	for (int i = 0; i < 20 && a->rc == DF_OK; i++)
		a->rc = df_model_loss(a->r->m, w, &a->r->batch.b, &out, &err);
	df_work_free(w);
	return NULL;
}

static void
test_threads(void **state)
{
	struct thread_arg a[3];
	pthread_t t[3];
	struct run r;

	(void)state;
	start(&r, mh_config("m", 61, 24, 40, 2, 4, 2, NULL), NULL);
	for (int i = 0; i < 3; i++) {
		a[i].r = &r;
		assert_int_equal(pthread_create(&t[i], NULL, loss_thread, &a[i]), 0);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(t[i], NULL), 0);
		assert_int_equal(a[i].rc, DF_OK);
		assert_memory_equal(a[i].loss, a[0].loss, sizeof(a[i].loss));
	}
	finish(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_sum, mh_cleanup),
		cmocka_unit_test_teardown(test_pieces, mh_cleanup),
		cmocka_unit_test_teardown(test_differences, mh_cleanup),
		cmocka_unit_test_teardown(test_independent, mh_cleanup),
		cmocka_unit_test_teardown(test_edges, mh_cleanup),
		cmocka_unit_test_teardown(test_last_label, mh_cleanup),
		cmocka_unit_test_teardown(test_init, mh_cleanup),
		cmocka_unit_test_teardown(test_threads, mh_cleanup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
