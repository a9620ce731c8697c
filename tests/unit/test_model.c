/*
 * test_model.c - logits, losses, gradients by name and per-sample gradients
 * against transformers, PEFT and autograd (tests/golden/model.py).
 * Runs on the backend in DF_TEST_DEVICE.
 */
#include "model_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

/*
 * Float32 on both sides, sums in different orders over at most 64 terms a
 * stage and 2 layers: about 1e-6; 1e-4 is what the project promises.
 */
#define TOL     1e-4
#define IN_BF16 0.25 /* the largest difference over the largest value; most are a tenth of that */

static const char *const cases[] = { "llama", "llama-gqa-tied", "qwen2", "qwen2-untied",
	/* rotary types, on both sides of the positions that the model was trained for */
	"llama-linear", "llama-dynamic", "llama-llama3", "llama-yarn", "llama-yarn-mscale",
	/* files: transformers 5, 16 bits, several of them */
	"llama-v5", "llama-bf16", "llama-f16",
	/* windows, norms of heads; qwen3-tied: bf16 in 2 files, names without "model." */
	"mistral", "qwen2-window", "qwen3", "qwen3-tied",
	/* mixtures of experts */
	"mixtral", "mixtral-window", "qwen2-moe", "qwen2-moe-norm", "qwen3-moe", "qwen3-moe-step" };
#define N_CASES (sizeof(cases) / sizeof(cases[0]))
static const char *const with_scores[] = { "llama-scores", "qwen3-scores" };

struct fixture {
	struct df_model *m;
	struct df_work *w;
	struct df_st *ref;
	struct mh_batch batch;
	const char *prefix; /* "" or "lora." */
};

static void
open_case(struct fixture *f, const char *name, bool lora)
{
	char *base = mh_path(name, NULL), *adapter = mh_path(name, "adapter"), *ref = mh_path(name, "ref.safetensors");

	memset(f, 0, sizeof(*f));
	f->prefix = lora ? "lora." : "";
	/* The adapter's own "..", relative to it, must lead to its base. */
	mh_ok(df_model_open(&f->m, lora ? adapter : base, NULL, mh_backend(), err));
	mh_ok(df_work_new(&f->w, f->m, err));
	mh_ok(df_st_open(&f->ref, ref, err));
	mh_batch_load(&f->batch, f->ref, 0, 0);
	free(base);
	free(adapter);
	free(ref);
}

static void
close_case(struct fixture *f)
{
	mh_batch_release(&f->batch);
	df_st_close(f->ref);
	df_work_free(f->w);
	df_model_free(f->m);
}

static bool
has(const struct fixture *f, const char *name)
{
	return df_st_find(f->ref, name) != NULL;
}

static bool
has_adapter(const char *name)
{
	char *path = mh_path(name, "adapter/adapter_config.json");
	bool found = df_file_exists(path);

	free(path);
	return found;
}

static bool
what_moves(const char *name)
{
	return strstr(name, "moe") != NULL || strncmp(name, "mixtral", 7) == 0;
}

static void
check(const char *name, const char *prefix, const char *what, double diff)
{
	print_message("# %s %s%s: %.2e\n", name, prefix, what, diff);
	if (!(diff <= mh_bound(TOL, what_moves(name) ? 1e3 : IN_BF16)))
		fail_msg("%s: %s%s differs by %g", name, prefix, what, diff);
}

static void
check_logits(const char *name, bool lora)
{
	struct fixture f;
	const float *want;
	float *got = NULL;
	size_t n;

	open_case(&f, name, lora);
	n = f.batch.b.offsets[f.batch.b.n] * df_model_config(f.m)->n_vocab;
	mh_ok(df_alloc(&got, n, sizeof(*got), "logits", err));
	mh_ok(df_model_logits(f.m, f.w, &f.batch.b, got, err));
	want = mh_floats(f.ref, "%slogits", f.prefix);
	check(name, f.prefix, "logits", mh_rel_diff(got, want, n));
	free(got);
	close_case(&f);
}

static void
test_logits(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_CASES; i++) {
		check_logits(cases[i], false);
		if (has_adapter(cases[i]))
			check_logits(cases[i], true);
	}
}

/* Compare losses of any of the three calls. */
static void
check_losses(const struct fixture *f, const char *name, const float *loss, const uint32_t *n_targets, const float *nll)
{
	const float *want = mh_floats(f->ref, "%sloss", f->prefix);
	const struct df_st_tensor *counts = df_st_find(f->ref, "n_targets");
	size_t total = 0;

	for (size_t s = 0; s < f->batch.b.n; s++) {
		assert_int_equal(n_targets[s], ((const int64_t *)counts->data)[s]);
		total += n_targets[s];
		if (n_targets[s] == 0) {
			assert_true(isnan(loss[s]));
			continue;
		}
		if (!(fabs((double)loss[s] - (double)want[s]) <= mh_bound(1e-5, 5e-3) * fabs((double)want[s])))
			fail_msg("%s: sample %zu: loss %g, expected %g", name, s, (double)loss[s], (double)want[s]);
	}
	check(name, f->prefix, "nll", mh_rel_diff(nll, mh_floats(f->ref, "%snll", f->prefix), total));
}

/* The gradient of the token mean of batch b; keep()ed. */
static const float *
mean_grad(const struct fixture *f, const struct df_tokens *b, const uint32_t *n_targets)
{
	float scale[8];
	uint32_t total = 0;

	for (size_t s = 0; s < b->n; s++)
		total += n_targets[s];
	for (size_t s = 0; s < b->n; s++)
		scale[s] = 1.0f / (float)total;
	return mh_batch_grad(f->m, f->w, b, scale);
}

/* got against PREFIXgrad.NAME for each parameter; the worst. */
static double
compare_grads(const struct fixture *f, const char *name, const char *prefix, const float *got)
{
	const struct df_params *p = df_model_train(f->m);
	/* In bf16 a token may go to another expert, and their gradients are other ones. */
	const double bound = mh_bound(TOL, what_moves(name) ? 1e3 : IN_BF16);
	double worst = 0;

	for (size_t i = 0; i < p->n; i++) {
		const struct df_param *v = &p->v[i];
		const float *want = mh_floats(f->ref, "%s.%s", prefix, v->name);
		double d = mh_rel_diff(got + v->offset, want, v->rows * v->cols);

		if (!(d <= bound))
			fail_msg("%s: %s of %s differs by %g", name, prefix, v->name, d);
		worst = fmax(worst, d);
	}
	return worst;
}

static void
check_grads(const char *name, bool lora)
{
	float loss[8], nll[256], scale[8], *got = NULL;
	uint32_t n_targets[8], n_correct[8];
	struct df_losses out = { .loss = loss, .n_targets = n_targets, .token_nll = nll, .n_correct = n_correct };
	struct df_tensor grad = DF_TENSOR_NONE;
	const float *again;
	char prefix[32];
	struct fixture f;
	uint32_t total = 0;
	size_t n;

	open_case(&f, name, lora);
	n = df_model_train(f.m)->numel;
	snprintf(prefix, sizeof(prefix), "%sgrad", f.prefix);
	mh_ok(df_model_loss(f.m, f.w, &f.batch.b, &out, err));
	check_losses(&f, name, loss, n_targets, nll);
	for (size_t s = 0; s < f.batch.b.n; s++)
		total += n_targets[s];
	for (size_t s = 0; s < f.batch.b.n; s++)
		scale[s] = 1.0f / (float)total;

	/* Twice into the same tensor: it accumulates. */
	mh_ok(df_tensor_alloc(mh_backend(), &grad, DF_F32, 1, n, "grad", err));
	mh_ok(df_fill(df_work_backend(f.w), grad, 0, err));
	memset(loss, 0, sizeof(loss));
	mh_ok(df_model_grad(f.m, f.w, &f.batch.b, scale, grad, &out, err));
	check_losses(&f, name, loss, n_targets, nll);
	mh_ok(df_model_grad(f.m, f.w, &f.batch.b, scale, grad, &out, err));
	mh_ok(df_scale(df_work_backend(f.w), 0.5f, grad, err));
	mh_ok(df_alloc(&got, n, sizeof(*got), "grad", err));
	mh_ok(df_download(df_work_backend(f.w), got, grad, err));
	check(name, f.prefix, "gradients by name, worst", compare_grads(&f, name, prefix, got));

	/* Checkpointing: the same bits. */
	again = mean_grad(&f, &f.batch.b, n_targets);
	df_model_set_checkpointing(f.m, true);
	assert_memory_equal(mean_grad(&f, &f.batch.b, n_targets), again, n * sizeof(float));
	free(got);
	df_tensor_free(mh_backend(), &grad);
	close_case(&f);
}

static void
test_grads(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_CASES; i++) {
		check_grads(cases[i], false);
		if (has_adapter(cases[i]))
			check_grads(cases[i], true);
	}
}

static void
check_sample_grads(const char *name, bool lora)
{
	float loss[8], nll[256];
	uint32_t n_targets[8];
	struct df_losses out = { .loss = loss, .n_targets = n_targets, .token_nll = nll };
	const struct df_params *p;
	struct mh_grads g, again;
	struct fixture f;
	double worst = 0;
	size_t n_golden = 0;
	char first[256];

	open_case(&f, name, lora);
	p = df_model_train(f.m);
	mh_sample_grads(&g, f.m, f.w, &f.batch.b, &out);
	check_losses(&f, name, loss, n_targets, nll);
	for (size_t k = 0; k < f.batch.b.n; k++) {
		char prefix[64];

		snprintf(prefix, sizeof(prefix), "%ssample_grad.%zu", f.prefix, k);
		snprintf(first, sizeof(first), "%s.%s", prefix, p->v[0].name);
		if (!has(&f, first))
			continue;
		worst = fmax(worst, compare_grads(&f, name, prefix, g.g + k * g.numel));
		n_golden++;
	}
	assert_true(n_golden > 0 || strcmp(name, "llama-v5") == 0);
	check(name, f.prefix, "sample gradients by name, worst", worst);
	/* Without targets there is no gradient: samples 1 (one token) and 3 (all masked). */
	for (size_t i = 0; i < g.numel; i++) {
		assert_true(g.g[1 * g.numel + i] == 0);
		assert_true(g.g[3 * g.numel + i] == 0);
	}
	df_model_set_checkpointing(f.m, true);
	mh_sample_grads(&again, f.m, f.w, &f.batch.b, &out);
	assert_memory_equal(again.g, g.g, g.n * g.numel * sizeof(float));
	close_case(&f);
}

static void
test_sample_grads(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_CASES; i++) {
		check_sample_grads(cases[i], false);
		if (has_adapter(cases[i]))
			check_sample_grads(cases[i], true);
	}
}

/* Tokens sent to each expert, whoever asks: the loss, the gradient, the sample gradients. */
static void
test_gate_load(void **state)
{
	mh_float32_only(); /* experts of almost equal probability change places */
	size_t n_moe = 0;

	(void)state;
	for (size_t i = 0; i < N_CASES; i++) {
		struct fixture f;

		open_case(&f, cases[i], false);
		if (has(&f, "gate_load")) {
			const struct df_model_config *c = df_model_config(f.m);
			const float *want = mh_floats(f.ref, "gate_load"), scale[8] = { 1, 1, 1, 1 };
			size_t n = f.batch.b.n * c->n_layers * c->moe.n_experts;
			struct df_tensor grad = DF_TENSOR_NONE;
			struct df_losses out = { 0 };
			struct mh_grads g;
			float *got = NULL;

			mh_ok(df_alloc(&got, n, sizeof(*got), "loads", err));
			out.gate_load = got;
			for (int how = 0; how < 5; how++) {
				memset(got, 0xff, n * sizeof(*got));
				df_model_set_checkpointing(f.m, how == 4);
				if (how == 0) {
					mh_ok(df_model_loss(f.m, f.w, &f.batch.b, &out, err));
				} else if (how == 1) {
					mh_sample_grads(&g, f.m, f.w, &f.batch.b, &out);
				} else if (how == 2) { /* nothing to predict */
					struct df_tokens b = f.batch.b;

					b.mask = NULL;
					mh_ok(df_model_loss(f.m, f.w, &b, &out, err));
				} else {
					mh_ok(df_tensor_alloc(
					    mh_backend(), &grad, DF_F32, 1, df_model_train(f.m)->numel, "grad", err));
					mh_ok(df_fill(df_work_backend(f.w), grad, 0, err));
					mh_ok(df_model_grad(f.m, f.w, &f.batch.b, scale, grad, &out, err));
					df_tensor_free(mh_backend(), &grad);
				}
				mh_assert_same(got, want, n);
			}
			free(got);
			n_moe++;
		} else {
			float none[1];

			mh_refused(df_model_loss(f.m, f.w, &f.batch.b, &(struct df_losses){ .gate_load = none }, err),
			    DF_EUNSUPPORTED, "no experts");
		}
		close_case(&f);
	}
	assert_int_equal(n_moe, 6);
}

/* int64 of the fixture as uint32. */
static uint32_t *
numbers(const struct fixture *f, const char *name)
{
	const struct df_st_tensor *t = df_st_find(f->ref, name);
	uint32_t *v = NULL;

	mh_ok(df_alloc(&v, t->numel, sizeof(*v), name, err));
	for (size_t i = 0; i < t->numel; i++)
		v[i] = (uint32_t)((const int64_t *)t->data)[i];
	return v;
}

/* Rows of several sequences: positions start anew; attention sees the row, or (neat) the sequence. */
static void
check_packed(const struct fixture *f, const char *name, struct df_tokens *b, const char *prefix)
{
	float loss[8], nll[256], *logits = NULL;
	uint32_t n_targets[8];
	struct df_losses out = { .loss = loss, .n_targets = n_targets, .token_nll = nll };
	size_t n = b->offsets[b->n] * df_model_config(f->m)->n_vocab, total = 0;
	char what[64];

	mh_ok(df_alloc(&logits, n, sizeof(*logits), "logits", err));
	mh_ok(df_model_logits(f->m, f->w, b, logits, err));
	check(name, prefix, "logits", mh_rel_diff(logits, mh_floats(f->ref, "%slogits", prefix), n));
	free(logits);
	mh_ok(df_model_loss(f->m, f->w, b, &out, err));
	for (size_t s = 0; s < b->n; s++)
		total += n_targets[s];
	check(name, prefix, "nll", mh_rel_diff(nll, mh_floats(f->ref, "%snll", prefix), total));
	snprintf(what, sizeof(what), "%sgrad", prefix);
	if (b->sequence != NULL)
		check(
		    name, prefix, "gradients by name, worst", compare_grads(f, name, what, mean_grad(f, b, n_targets)));
}

static void
test_packed(void **state)
{
	size_t n = 0;

	(void)state;
	for (size_t i = 0; i < N_CASES; i++) {
		uint32_t *position, *sequence;
		struct df_tokens b;
		struct fixture f;

		open_case(&f, cases[i], false);
		if (has(&f, "packed.position")) {
			position = numbers(&f, "packed.position");
			sequence = numbers(&f, "packed.sequence");
			b = f.batch.b;
			b.position = position;
			check_packed(&f, cases[i], &b, "plain.");
			b.sequence = sequence;
			check_packed(&f, cases[i], &b, "neat.");
			position[3] = 4; /* beyond its place in the sample */
			mh_refused(df_model_loss(f.m, f.w, &b, NULL, err), DF_EFORMAT, "position 4 of token 3");
			free(position);
			free(sequence);
			n++;
		}
		close_case(&f);
	}
	assert_int_equal(n, 3);
}

static void
test_scores(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct fixture f;
		float got[16], one[4];
		size_t n, labels;

		open_case(&f, with_scores[i], false);
		labels = df_model_config(f.m)->n_labels;
		n = f.batch.b.n;
		mh_ok(df_model_scores(f.m, f.w, &f.batch.b, got, err));
		check(with_scores[i], "", "scores", mh_rel_diff(got, mh_floats(f.ref, "scores"), n * labels));
		/* A sample alone has the same score, to the bit. */
		for (size_t s = 0; s < n; s++) {
			struct df_tokens b = f.batch.b;
			uint64_t offsets[2] = { 0, b.offsets[s + 1] - b.offsets[s] };

			b.n = 1;
			b.ids += b.offsets[s];
			b.offsets = offsets;
			b.mask = NULL;
			mh_ok(df_model_scores(f.m, f.w, &b, one, err));
			mh_assert_same(one, got + s * labels, labels);
		}
		mh_refused(df_model_loss(f.m, f.w, &f.batch.b, NULL, err), DF_EUNSUPPORTED, "head");
		close_case(&f);
	}
}

/* PEFT's own fresh A fills +-1/sqrt(in), the bound that ours is drawn in (test_model_props.c). */
static void
test_lora_init(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct fixture f;

		open_case(&f, cases[i], true);
		for (size_t k = 0; k < df_model_train(f.m)->n; k++) {
			const struct df_param *p = &df_model_train(f.m)->v[k];
			double bound = 1 / sqrt((double)p->cols);
			const float *range;

			if (strstr(p->name, "lora_A") == NULL)
				continue;
			range = mh_floats(f.ref, "lora_init.%s", p->name);
			/*
			 * At least 128 uniform draws: the largest is within 20 % of the bound but
			 * for 1 case in 10^12.
			 */
			assert_true((double)range[0] >= -bound && (double)range[0] < -0.8 * bound);
			assert_true((double)range[1] <= bound && (double)range[1] > 0.8 * bound);
		}
		close_case(&f);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_logits, mh_cleanup),
		cmocka_unit_test_teardown(test_grads, mh_cleanup),
		cmocka_unit_test_teardown(test_sample_grads, mh_cleanup),
		cmocka_unit_test_teardown(test_gate_load, mh_cleanup),
		cmocka_unit_test_teardown(test_packed, mh_cleanup),
		cmocka_unit_test_teardown(test_scores, mh_cleanup),
		cmocka_unit_test_teardown(test_lora_init, mh_cleanup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
