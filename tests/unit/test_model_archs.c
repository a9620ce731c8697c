/*
 * test_model_archs.c - what holds for every architecture: a sample's numbers
 * do not depend on its batch, what is computed again is the same, what trains has the gradient that it has when all
 * does, and the batch's gradient is the sum of its samples'.  Sizes are uneven and rows few and many, so that
 * every way of cutting a product occurs.  Runs on the backend in DF_TEST_DEVICE.
 */
#include "model_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

#define SIZES(layers)                                                                                  \
	"\"vocab_size\":61,\"hidden_size\":48,\"intermediate_size\":72,\"num_hidden_layers\":" #layers \
	",\"num_attention_heads\":4,\"num_key_value_heads\":2,\"initializer_range\":0.1,\"max_position_embeddings\":16"
#define EXPERTS ",\"num_experts\":9,\"num_experts_per_tok\":3,\"moe_intermediate_size\":40"

static const struct arch {
	const char *name, *json;
} archs[] = {
	{ "dynamic", "\"model_type\":\"llama\"," SIZES(2) ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}" },
	{ "mistral", "\"model_type\":\"mistral\"," SIZES(2) ",\"head_dim\":10,\"sliding_window\":7" },
	{ "qwen3", "\"model_type\":\"qwen3\"," SIZES(2) ",\"head_dim\":20,\"tie_word_embeddings\":true" },
	{ "mixtral", "\"model_type\":\"mixtral\"," SIZES(2) ",\"num_local_experts\":5" },
	{ "qwen2_moe",
	    "\"model_type\":\"qwen2_moe\"," SIZES(3) EXPERTS
	    ",\"shared_expert_intermediate_size\":33,\"mlp_only_layers\":[1]" },
	{ "qwen3_moe", "\"model_type\":\"qwen3_moe\"," SIZES(2) EXPERTS ",\"norm_topk_prob\":true,\"head_dim\":12" },
};
#define N_ARCHS (sizeof(archs) / sizeof(archs[0]))

static const size_t lengths[] = { 9, 1, 33, 2, 70 };
#define N_SAMPLES (sizeof(lengths) / sizeof(lengths[0]))

struct run {
	struct df_model *m;
	struct df_work *w;
	struct mh_batch batch;
};

/* A model drawn at random; adapters with a nonzero B if `targets` is not NULL. */
static void
start(struct run *r, const struct arch *a, const char *targets)
{
	struct df_lora_spec spec = { .rank = 3, .alpha = 6, .targets = targets };
	char *dir = NULL, *path = NULL, *text = NULL;
	float *x = NULL;
	size_t n;

	memset(r, 0, sizeof(*r));
	mh_ok(df_asprintf(&dir, err, "%s/%s", mh_scratch(), a->name));
	mh_ok(df_mkdirs(dir, err));
	mh_ok(df_asprintf(&path, err, "%s/config.json", dir));
	mh_ok(df_asprintf(&text, err, "{%s}", a->json));
	mh_ok(df_file_put(path, text, strlen(text), err));
	mh_ok(df_model_init(&r->m, dir, 7, mh_backend(), err));
	if (targets != NULL) {
		mh_ok(df_model_add_lora(r->m, &spec, 3, err));
		n = df_model_train(r->m)->numel;
		mh_ok(df_alloc(&x, n, sizeof(*x), "adapters", err));
		mh_ok(df_download(mh_backend(), x, df_model_train_data(r->m), err));
		for (size_t i = 0; i < n; i++)
			x[i] += 0.1f * (float)cos((double)i);
		mh_ok(df_upload(mh_backend(), df_model_train_data(r->m), x, err));
		mh_ok(df_model_train_changed(r->m, err));
	}
	mh_ok(df_work_new(&r->w, r->m, err));
	mh_batch_random(&r->batch, lengths, N_SAMPLES, 61, 11);
	free(dir);
	free(path);
	free(text);
	free(x);
}

static void
finish(struct run *r)
{
	mh_batch_release(&r->batch);
	df_work_free(r->w);
	df_model_free(r->m);
}

/* Sample s of the batch by itself. */
static struct df_tokens
alone(const struct run *r, size_t s, uint64_t offsets[2])
{
	uint64_t first = r->batch.offsets[s];

	offsets[0] = 0;
	offsets[1] = r->batch.offsets[s + 1] - first;
	return (
	    struct df_tokens){ .n = 1, .offsets = offsets, .ids = r->batch.ids + first, .mask = r->batch.mask + first };
}

/* Row by row of `train`, the same bits. */
static void
same_grads(const struct df_params *p, const char *arch, const char *what, size_t s, const float *a, const float *b)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct df_param *v = &p->v[i];
		size_t n = v->rows * v->cols;

		if (!mh_same(a + v->offset, b + v->offset, n))
			fail_msg("%s, %s: sample %zu: the gradient of %s differs by %g", arch, what, s, v->name,
			    mh_rel_diff(a + v->offset, b + v->offset, n));
	}
}

static void
check_independent(const struct arch *a, const char *targets)
{
	float loss[N_SAMPLES], one[1], *load = NULL, *load1 = NULL;
	struct df_losses out = { .loss = loss }, out1 = { .loss = one };
	struct mh_grads g, g1;
	struct run r;
	size_t n;

	start(&r, a, targets);
	n = df_model_config(r.m)->n_layers * df_model_config(r.m)->moe.n_experts;
	mh_ok(df_alloc(&load, N_SAMPLES * n + 1, sizeof(*load), "loads", err));
	mh_ok(df_alloc(&load1, n + 1, sizeof(*load1), "loads", err));
	out.gate_load = n > 0 ? load : NULL;
	out1.gate_load = n > 0 ? load1 : NULL;
	mh_sample_grads(&g, r.m, r.w, &r.batch.b, &out);
	for (size_t s = 0; s < N_SAMPLES; s += 2) {
		uint64_t offsets[2];
		struct df_tokens b = alone(&r, s, offsets);

		mh_sample_grads(&g1, r.m, r.w, &b, &out1);
		same_grads(df_model_train(r.m), a->name, "alone", s, g.g + s * g.numel, g1.g);
		mh_assert_same(&loss[s], one, lengths[s] > 1);
		mh_assert_same(load + s * n, load1, n);
	}
	df_model_set_checkpointing(r.m, true);
	mh_sample_grads(&g1, r.m, r.w, &r.batch.b, &out);
	for (size_t s = 0; s < N_SAMPLES; s++)
		same_grads(df_model_train(r.m), a->name, "checkpointing", s, g.g + s * g.numel, g1.g + s * g.numel);
	free(load);
	free(load1);
	finish(&r);
}

static void
test_independent(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ARCHS; i++) {
		check_independent(&archs[i], NULL);
		if (i >= 3)
			check_independent(&archs[i], i + 1 < N_ARCHS ? "all" : "gate,up_proj,k_proj");
	}
}

/* Asking for loads takes the last layer's tokens through its router once more, and changes nothing else. */
static void
test_loads_change_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ARCHS; i++) {
		float loss[N_SAMPLES], again[N_SAMPLES], *load = NULL;
		struct df_losses out = { .loss = loss }, out2 = { .loss = again };
		struct run r;
		size_t n;

		start(&r, &archs[i], NULL);
		n = df_model_config(r.m)->n_layers * df_model_config(r.m)->moe.n_experts;
		if (n > 0) {
			mh_ok(df_alloc(&load, N_SAMPLES * n, sizeof(*load), "loads", err));
			out2.gate_load = load;
			mh_ok(df_model_loss(r.m, r.w, &r.batch.b, &out, err));
			mh_ok(df_model_loss(r.m, r.w, &r.batch.b, &out2, err));
			assert_memory_equal(loss, again, sizeof(loss));
			free(load);
		}
		finish(&r);
	}
}

/*
 * sum of scale_s * n_targets_s * (gradient of sample s's mean loss) is the batch's gradient: some 100 float32 terms in
 * another order.
 */
static void
check_sum(const struct arch *a, const char *targets)
{
	const float scale[N_SAMPLES] = { 0.3f, 1, -0.2f, 2, 0.01f };
	uint32_t n_targets[N_SAMPLES];
	struct df_losses out = { .n_targets = n_targets };
	const struct df_params *p;
	const float *whole;
	double worst = 0;
	struct mh_grads g;
	float *sum = NULL;
	struct run r;

	start(&r, a, targets);
	p = df_model_train(r.m);
	mh_sample_grads(&g, r.m, r.w, &r.batch.b, &out);
	whole = mh_batch_grad(r.m, r.w, &r.batch.b, scale);
	mh_ok(df_alloc(&sum, g.numel, sizeof(*sum), "a sum", err));
	for (size_t i = 0; i < g.numel; i++) {
		double x = 0;

		for (size_t s = 0; s < N_SAMPLES; s++)
			x += (double)scale[s] * n_targets[s] * (double)g.g[s * g.numel + i];
		sum[i] = (float)x;
	}
	for (size_t i = 0; i < p->n; i++)
		worst =
		    fmax(worst, mh_rel_diff(sum + p->v[i].offset, whole + p->v[i].offset, p->v[i].rows * p->v[i].cols));
	print_message("# %s%s: sum of samples against the batch %.1e\n", a->name, targets ? ", adapters" : "", worst);
	assert_true(worst <= mh_bound(2e-5, 8e-2));
	free(sum);
	finish(&r);
}

static void
test_sum(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ARCHS; i++) {
		check_sum(&archs[i], NULL);
		if (i % 2 == 0)
			check_sum(&archs[i], "all");
	}
}

/* Whatever trains, and wherever its lowest row lies: the gradients of a model that trains as a whole. */
static void
test_restricted(void **state)
{
	static const struct df_train_spec specs[] = {
		{ .freeze_gate = true },
		{ .freeze = true, .layers = 1, .modules = "all" },
		{ .freeze = true, .layers = 1, .modules = "mlp" },
		{ .freeze = true, .layers = -1, .modules = "self_attn" },
		{ .freeze = true, .layers = 1, .modules = "all", .freeze_gate = true },
	};
	size_t n_checked = 0;

	(void)state;
	for (size_t i = 2; i < 5; i++) {
		const float scale[N_SAMPLES] = { 1, 1, 1, 1, 1 };
		struct mh_grads ga, gs;
		const float *whole, *part;
		struct run all, some;

		start(&all, &archs[i], NULL);
		mh_sample_grads(&ga, all.m, all.w, &all.batch.b, NULL);
		whole = mh_batch_grad(all.m, all.w, &all.batch.b, scale);
		for (size_t k = 0; k < sizeof(specs) / sizeof(specs[0]); k++) {
			struct df_err err_ = DF_ERR_INIT;
			const struct df_params *p;

			start(&some, &archs[i], NULL);
			if (df_model_set_trainable(some.m, &specs[k], &err_) != DF_OK) { /* it has no such module */
				finish(&some);
				continue;
			}
			p = df_model_train(some.m);
			mh_sample_grads(&gs, some.m, some.w, &some.batch.b, NULL);
			part = mh_batch_grad(some.m, some.w, &some.batch.b, scale);
			for (size_t j = 0; j < p->n; j++) {
				const struct df_param *v = &p->v[j],
						      *u = df_params_find(df_model_train(all.m), v->name);
				size_t n = v->rows * v->cols;

				if (specs[k].freeze_gate)
					assert_null(strstr(v->name, ".gate.weight"));
				mh_assert_same(part + v->offset, whole + u->offset, n);
				for (size_t s = 0; s < N_SAMPLES; s++)
					mh_assert_same(
					    gs.g + s * gs.numel + v->offset, ga.g + s * ga.numel + u->offset, n);
			}
			n_checked++;
			finish(&some);
		}
		finish(&all);
	}
	assert_true(n_checked > 8);
}

/* Rows that are not packed at all: positions and sequences that say so change nothing. */
static void
test_packing_of_one(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ARCHS; i += 2) {
		uint32_t position[128], sequence[128];
		struct df_tokens b;
		struct mh_grads g, g1;
		struct run r;

		start(&r, &archs[i], NULL);
		b = r.batch.b;
		for (size_t s = 0; s < N_SAMPLES; s++) {
			for (size_t t = b.offsets[s]; t < b.offsets[s + 1]; t++) {
				position[t] = (uint32_t)(t - b.offsets[s]);
				sequence[t] = 1;
			}
		}
		mh_sample_grads(&g, r.m, r.w, &b, NULL);
		b.position = position;
		b.sequence = sequence;
		mh_sample_grads(&g1, r.m, r.w, &b, NULL);
		assert_memory_equal(g.g, g1.g, g.n * g.numel * sizeof(float));
		finish(&r);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_independent, mh_cleanup),
		cmocka_unit_test_teardown(test_loads_change_nothing, mh_cleanup),
		cmocka_unit_test_teardown(test_sum, mh_cleanup),
		cmocka_unit_test_teardown(test_restricted, mh_cleanup),
		cmocka_unit_test_teardown(test_packing_of_one, mh_cleanup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
