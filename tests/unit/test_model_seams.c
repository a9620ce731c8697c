/*
 * test_model_seams.c - where others may hook into a model: the ranges of a gradient that are final, and weights that
 * come from elsewhere, layer by layer.  Runs on the backend in DF_TEST_DEVICE.
 */
#include "model_help.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/model_priv.h"

static const size_t lengths[] = { 7, 3, 0, 12, 5 };
#define N_SAMPLES 5
static const float scale[N_SAMPLES] = { 0.1f, 0.3f, 1, 0.05f, 0.2f };

enum trains { ALL, LORA, LAST_LAYER };

struct run {
	struct df_model *m;
	struct df_work *w;
	struct mh_batch batch;
};

static void
start(struct run *r, const char *name, enum trains trains, bool checkpointing)
{
	const struct df_lora_spec lora = { .rank = 3, .alpha = 5, .targets = "all" };
	char *dir = mh_path(name, NULL);

	memset(r, 0, sizeof(*r));
	mh_ok(df_model_init(&r->m, dir, 7, mh_backend(), err));
	if (trains == LORA)
		mh_ok(df_model_add_lora(r->m, &lora, 8, err));
	if (trains == LAST_LAYER)
		mh_ok(df_model_set_trainable(
		    r->m, &(struct df_train_spec){ .freeze = true, .layers = 1, .modules = "all" }, err));
	mh_ok(df_model_master(r->m, err));
	df_model_set_checkpointing(r->m, checkpointing);
	mh_ok(df_work_new(&r->w, r->m, err));
	mh_batch_random(&r->batch, lengths, N_SAMPLES, df_model_config(r->m)->n_vocab, 11);
	free(dir);
}

static void
finish(struct run *r)
{
	mh_batch_release(&r->batch);
	df_work_free(r->w);
	df_model_free(r->m);
}

/* ---- ranges of a gradient ---------------------------------------------------------------------------------------- */

struct ranges {
	struct df_work *w;
	struct df_tensor grad;
	float *seen; /* the gradient, as it was when its range was final */
	size_t n, left;
	int rc; /* what to return */
};

static int
is_final(void *ctx, size_t first, size_t end, struct df_err *err)
{
	struct ranges *r = ctx;

	assert_true(first < end);
	assert_int_equal(end, r->left); /* descending, without gaps */
	r->left = first;
	r->n++;
	assert_int_equal(
	    df_download(df_work_backend(r->w), r->seen + first, df_tensor_view(r->grad, first, 1, end - first), err),
	    DF_OK);
	return r->rc == DF_OK ? DF_OK : df_fail(err, r->rc, "no more ranges");
}

/* n_ranges come, and what was seen in them is the gradient. */
static void
check_ranges(const char *name, enum trains trains, bool checkpointing, size_t n_ranges)
{
	struct ranges r = { 0 };
	const float *want;
	float *got = NULL;
	struct run run;
	size_t numel;

	start(&run, name, trains, checkpointing);
	numel = df_model_train(run.m)->numel;
	want = mh_batch_grad(run.m, run.w, &run.batch.b, scale);
	mh_ok(df_alloc(&r.seen, numel, sizeof(*r.seen), "gradient", err));
	mh_ok(df_alloc(&got, numel, sizeof(*got), "gradient", err));
	mh_ok(df_tensor_alloc(mh_backend(), &r.grad, DF_F32, 1, numel, "gradient", err));
	df_work_on_ready(run.w, is_final, &r);
	r.w = run.w;

	mh_ok(df_fill(df_work_backend(run.w), r.grad, 0, err));
	r.left = numel;
	mh_ok(df_model_grad(run.m, run.w, &run.batch.b, scale, r.grad, NULL, err));
	assert_int_equal(r.left, 0);
	if (r.n != n_ranges)
		fail_msg("%s: %zu ranges instead of %zu", name, r.n, n_ranges);
	mh_ok(df_download(df_work_backend(run.w), got, r.grad, err));
	assert_memory_equal(r.seen, got, numel * sizeof(*got));
	assert_memory_equal(want, got, numel * sizeof(*got));

	/* Its error is the call's. */
	r.left = numel;
	r.rc = DF_EIO;
	mh_refused(df_model_grad(run.m, run.w, &run.batch.b, scale, r.grad, NULL, err), DF_EIO, "no more ranges");
	r.rc = DF_OK;

	/* A batch without targets: all of it is final, as it was. */
	memset(run.batch.mask, 0, run.batch.offsets[N_SAMPLES]);
	r.left = numel;
	r.n = 0;
	mh_ok(df_model_grad(run.m, run.w, &run.batch.b, scale, r.grad, NULL, err));
	assert_int_equal(r.n, 1);
	assert_int_equal(r.left, 0);
	df_tensor_free(mh_backend(), &r.grad);
	free(r.seen);
	free(got);
	finish(&run);
}

static void
test_ranges(void **state)
{
	(void)state;
	for (int checkpointing = 0; checkpointing < 2; checkpointing++) {
		/* head and norm, two layers, embedding */
		check_ranges("llama", ALL, checkpointing, 4);
		/* norm, two layers, the embedding with its share of the head */
		check_ranges("llama-gqa-tied", ALL, checkpointing, 4);
		check_ranges("qwen3", ALL, checkpointing, 4);
		check_ranges("qwen2-moe", ALL, checkpointing, 4);
		check_ranges("qwen2", LORA, checkpointing, 2);
		check_ranges("llama", LAST_LAYER, checkpointing, 1);
	}
}

/* ---- weights from elsewhere -------------------------------------------------------------------------------------- */

struct source {
	struct df_weight_source s;
	struct df_backend *be; /* the work's lane */
	struct df_model *m;
	struct df_tensor safe, gathered; /* [1, base numel]: all weights, and those of the layer that is held */
	struct df_tensor w[512];
	size_t held; /* SIZE_MAX: none */
	size_t n_holds;
	size_t refuse; /* the hold that fails */
};

static void
move_layer(struct source *s, int layer, bool here)
{
	const struct df_params *p = df_model_base(s->m);

	for (size_t i = 0; i < p->n; i++) {
		if (p->v[i].layer != layer)
			continue;
		if (here)
			mh_ok(df_copy(s->be, s->w[i], df_param_view(s->safe, &p->v[i]), err));
		else
			mh_ok(df_fill(s->be, s->w[i], NAN, err));
	}
}

static int
hold(void *ctx, size_t layer, struct df_err *err)
{
	struct source *s = ctx;

	if (s->n_holds == s->refuse)
		return df_fail(err, DF_EIO, "layer %zu is not to be had", layer);
	assert_true(s->held == SIZE_MAX);
	s->held = layer;
	s->n_holds++;
	move_layer(s, (int)layer, true);
	return DF_OK;
}

static void
drop(void *ctx, size_t layer)
{
	struct source *s = ctx;

	assert_int_equal(s->held, layer);
	s->held = SIZE_MAX;
	move_layer(s, (int)layer, false);
}

/* Matrices are multiplied in the type that batches are computed in. */
static void
round_matrices(const struct source *s, const struct df_params *p)
{
	const enum df_dtype type = df_backend_compute(mh_backend());
	struct df_tensor low;

	mh_ok(df_tensor_alloc(mh_backend(), &low, type, 1, p->numel, "weights", err));
	for (size_t i = 0; i < p->n; i++) {
		const struct df_tensor w = df_param_view(s->safe, &p->v[i]), rounded = df_param_view(low, &p->v[i]);

		if (p->v[i].rank != 2)
			continue;
		mh_ok(df_copy(s->be, rounded, w, err));
		mh_ok(df_copy(s->be, w, rounded, err));
	}
	df_tensor_free(mh_backend(), &low);
}

/* From now on the model's own weights are NaN, and so are the others, but for those of the layer that is held. */
static void
take_weights(struct source *s, struct run *r)
{
	const struct df_params *p = df_model_base(r->m);

	memset(s, 0, sizeof(*s));
	s->m = r->m;
	s->be = df_work_backend(r->w);
	s->held = s->refuse = SIZE_MAX;
	assert_true(p->n <= sizeof(s->w) / sizeof(s->w[0]));
	mh_ok(df_tensor_alloc(mh_backend(), &s->safe, DF_F32, 1, p->numel, "weights", err));
	mh_ok(df_tensor_alloc(mh_backend(), &s->gathered, DF_F32, 1, p->numel, "weights", err));
	mh_ok(df_copy(s->be, s->safe, r->m->drawn, err));
	round_matrices(s, p);
	mh_ok(df_fill(s->be, s->gathered, NAN, err));
	mh_ok(df_fill(s->be, r->m->drawn, NAN, err));
	for (size_t i = 0; i < p->n; i++)
		s->w[i] = df_param_view(s->gathered, &p->v[i]);
	move_layer(s, -1, true);
	s->s = (struct df_weight_source){ .hold = hold, .drop = drop, .w = s->w, .ctx = s };
	df_work_weights(r->w, &s->s);
}

static int
swallow(void *ctx, const struct df_grad_block *block, struct df_err *err)
{
	(void)ctx;
	(void)block;
	(void)err;
	return DF_OK;
}

static void
check_source(const char *name, enum trains trains, bool checkpointing)
{
	float loss[N_SAMPLES], loss2[N_SAMPLES];
	struct df_losses out = { .loss = loss }, out2 = { .loss = loss2 };
	struct mh_grads each, each2;
	const float *want, *got;
	struct source s;
	struct run r;
	size_t n_layers, numel;

	start(&r, name, trains, checkpointing);
	n_layers = df_model_config(r.m)->n_layers;
	numel = df_model_train(r.m)->numel;
	mh_ok(df_model_loss(r.m, r.w, &r.batch.b, &out, err));
	want = mh_batch_grad(r.m, r.w, &r.batch.b, scale);
	mh_sample_grads(&each, r.m, r.w, &r.batch.b, NULL);

	take_weights(&s, &r);
	mh_ok(df_model_loss(r.m, r.w, &r.batch.b, &out2, err));
	assert_int_equal(s.n_holds, n_layers);
	loss[2] = loss2[2] = 0; /* the empty sample's is NaN */
	mh_assert_same(loss2, loss, N_SAMPLES);
	got = mh_batch_grad(r.m, r.w, &r.batch.b, scale);
	assert_int_equal(s.n_holds, n_layers * 3 + (checkpointing ? n_layers - 1 : 0));
	mh_assert_same(got, want, numel);
	mh_sample_grads(&each2, r.m, r.w, &r.batch.b, NULL);
	mh_assert_same(each2.g, each.g, each.n * numel);
	assert_true(s.held == SIZE_MAX);

	/* A layer that cannot be had, in the forward and in the backward. */
	for (size_t at = 0; at < 2 * n_layers; at += n_layers) {
		s.n_holds = 0;
		s.refuse = at;
		mh_refused(
		    df_model_sample_grads(r.m, r.w, &r.batch.b, swallow, NULL, NULL, err), DF_EIO, "not to be had");
		assert_true(s.held == SIZE_MAX);
		if (at == 0)
			assert_int_equal(s.n_holds, 0);
	}
	df_tensor_free(mh_backend(), &s.safe);
	df_tensor_free(mh_backend(), &s.gathered);
	finish(&r);
}

static void
test_source(void **state)
{
	static const char *const names[] = { "llama", "llama-gqa-tied", "qwen2", "qwen3", "mistral", "mixtral",
		"qwen2-moe" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (int checkpointing = 0; checkpointing < 2; checkpointing++) {
			check_source(names[i], ALL, checkpointing);
			check_source(names[i], LORA, checkpointing);
		}
}

/* An encoder: hidden states only. */
static void
test_encoder(void **state)
{
	struct df_tensor h;
	float *want = NULL, *got = NULL;
	struct source s;
	struct run r;
	size_t n;

	(void)state;
	start(&r, "../embed/bert", ALL, false);
	n = r.batch.offsets[N_SAMPLES] * df_model_config(r.m)->d_model;
	mh_ok(df_alloc(&want, n, sizeof(*want), "states", err));
	mh_ok(df_alloc(&got, n, sizeof(*got), "states", err));
	mh_ok(df_model_hidden(r.m, r.w, &r.batch.b, df_model_config(r.m)->n_layers, &h, err));
	mh_ok(df_download(df_work_backend(r.w), want, h, err));
	take_weights(&s, &r);
	mh_ok(df_model_hidden(r.m, r.w, &r.batch.b, df_model_config(r.m)->n_layers, &h, err));
	mh_ok(df_download(df_work_backend(r.w), got, h, err));
	mh_assert_same(got, want, n);
	assert_int_equal(s.n_holds, df_model_config(r.m)->n_layers);
	s.refuse = s.n_holds + 1;
	mh_refused(df_model_hidden(r.m, r.w, &r.batch.b, 2, &h, err), DF_EIO, "layer 1 is not to be had");
	assert_true(s.held == SIZE_MAX);
	df_tensor_free(mh_backend(), &s.safe);
	df_tensor_free(mh_backend(), &s.gathered);
	free(want);
	free(got);
	finish(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_source),
		cmocka_unit_test(test_encoder),
	};

	return cmocka_run_group_tests(tests, NULL, mh_cleanup);
}
