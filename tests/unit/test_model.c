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

#include "base/mem.h"

/*
 * Float32 on both sides, sums in different orders over at most 64 terms a
 * stage and 2 layers: about 1e-6; 1e-4 is what the project promises.
 */
#define TOL 1e-4

static const char *const cases[] = { "llama", "llama-gqa-tied", "qwen2", "qwen2-untied" };
#define N_CASES (sizeof(cases) / sizeof(cases[0]))

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

static void
check(const char *name, const char *prefix, const char *what, double diff)
{
	print_message("# %s %s%s: %.2e\n", name, prefix, what, diff);
	if (!(diff <= TOL))
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
		if (!(fabs((double)loss[s] - (double)want[s]) <= 1e-5 * fabs((double)want[s])))
			fail_msg("%s: sample %zu: loss %g, expected %g", name, s, (double)loss[s], (double)want[s]);
	}
	check(name, f->prefix, "nll", mh_rel_diff(nll, mh_floats(f->ref, "%snll", f->prefix), total));
}

static void
check_grads(const char *name, bool lora)
{
	float loss[8], nll[256], scale[8], *got = NULL;
	uint32_t n_targets[8], n_correct[8];
	struct df_losses out = { .loss = loss, .n_targets = n_targets, .token_nll = nll, .n_correct = n_correct };
	struct df_tensor grad = DF_TENSOR_NONE;
	const struct df_params *p;
	struct fixture f;
	double worst = 0;
	uint32_t total = 0;

	open_case(&f, name, lora);
	p = df_model_train(f.m);
	mh_ok(df_model_loss(f.m, f.w, &f.batch.b, &out, err));
	check_losses(&f, name, loss, n_targets, nll);
	for (size_t s = 0; s < f.batch.b.n; s++)
		total += n_targets[s];
	for (size_t s = 0; s < f.batch.b.n; s++)
		scale[s] = 1.0f / (float)total;

	/* Twice into the same tensor: it accumulates. */
	mh_ok(df_tensor_alloc(mh_backend(), &grad, DF_F32, 1, p->numel, "grad", err));
	mh_ok(df_fill(mh_backend(), grad, 0, err));
	memset(loss, 0, sizeof(loss));
	mh_ok(df_model_grad(f.m, f.w, &f.batch.b, scale, grad, &out, err));
	check_losses(&f, name, loss, n_targets, nll);
	mh_ok(df_model_grad(f.m, f.w, &f.batch.b, scale, grad, &out, err));
	mh_ok(df_scale(mh_backend(), 0.5f, grad, err));
	mh_ok(df_alloc(&got, p->numel, sizeof(*got), "grad", err));
	mh_ok(df_download(mh_backend(), got, grad, err));
	for (size_t i = 0; i < p->n; i++) {
		const struct df_param *v = &p->v[i];
		double d =
		    mh_rel_diff(got + v->offset, mh_floats(f.ref, "%sgrad.%s", f.prefix, v->name), v->rows * v->cols);

		if (!(d <= TOL))
			fail_msg("%s: gradient of %s differs by %g", name, v->name, d);
		worst = fmax(worst, d);
	}
	check(name, f.prefix, "gradients by name, worst", worst);
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
		check_grads(cases[i], true);
	}
}

static void
check_sample_grads(const char *name, bool lora)
{
	static const size_t golden[] = { 0, 4 };
	float loss[8], nll[256];
	uint32_t n_targets[8];
	struct df_losses out = { .loss = loss, .n_targets = n_targets, .token_nll = nll };
	const struct df_params *p;
	struct mh_grads g;
	struct fixture f;
	double worst = 0;

	open_case(&f, name, lora);
	p = df_model_train(f.m);
	mh_sample_grads(&g, f.m, f.w, &f.batch.b, &out);
	check_losses(&f, name, loss, n_targets, nll);
	for (size_t k = 0; k < 2; k++) {
		for (size_t i = 0; i < p->n; i++) {
			const struct df_param *v = &p->v[i];
			const float *want = mh_floats(f.ref, "%ssample_grad.%zu.%s", f.prefix, golden[k], v->name);
			double d = mh_rel_diff(g.g + golden[k] * g.numel + v->offset, want, v->rows * v->cols);

			if (!(d <= TOL))
				fail_msg("%s: gradient of %s by sample %zu differs by %g", name, v->name, golden[k], d);
			worst = fmax(worst, d);
		}
	}
	check(name, f.prefix, "sample gradients by name, worst", worst);
	/* Without targets there is no gradient: samples 1 (one token) and 3 (all masked). */
	for (size_t i = 0; i < g.numel; i++) {
		assert_true(g.g[1 * g.numel + i] == 0);
		assert_true(g.g[3 * g.numel + i] == 0);
	}
	close_case(&f);
}

static void
test_sample_grads(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_CASES; i++) {
		check_sample_grads(cases[i], false);
		check_sample_grads(cases[i], true);
	}
}

/* PEFT's own fresh A fills +-1/sqrt(in), the bound that ours is drawn in (test_model_props.c). */
static void
test_lora_init(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_CASES; i++) {
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
		cmocka_unit_test_teardown(test_lora_init, mh_cleanup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
