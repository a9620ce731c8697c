/*
 * test_moments_torch.c - the moments of transformers' checkpoints: each at its parameter, and Adam's form as PyTorch
 * computes it (tests/golden/optimizer_pt.py); states of other optimisers and models are refused.
 *
 * DF_TEST_DEVICE chooses the backend.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "grad/grad.h"
#include "model_help.h"

static const char *const cases[] = { "llama", "qwen3", "qwen2-moe", "mixtral", "lora", "lora-saved", "lora-experts",
	"loraplus", "loraplus-peft", "one-group", "by-name", "norms-decay", "bf16", "f16", "f64" };
#define N_CASES (sizeof cases / sizeof *cases)

static char *
case_path(const char *name, const char *file)
{
	const char *root = getenv("DF_SRCDIR");
	char *p = NULL;

	mh_ok(df_asprintf(
	    &p, err, "%s/tests/golden/optimizer/%s%s%s", root ? root : ".", name, file ? "/" : "", file ? file : ""));
	return p;
}

static double
number(const struct df_st *st, const char *key)
{
	return strtod(df_st_metadata(st, key), NULL);
}

/* Every moment is the one that the live optimiser had for the parameter of that name, to the bit. */
static void
test_moments(void **state)
{
	(void)state;
	for (size_t c = 0; c < N_CASES; c++) {
		char *dir = case_path(cases[c], NULL), *path = case_path(cases[c], "ref.safetensors");
		struct df_moments o = { 0 };
		struct df_model *m = NULL;
		struct df_st *ref = NULL;
		const struct df_params *p;
		float *got;

		mh_ok(df_model_open(&m, dir, NULL, mh_backend(), err));
		mh_ok(df_st_open(&ref, path, err));
		mh_ok(df_moments_load(&o, m, dir, err));
		p = df_model_train(m);
		assert_true(
		    o.beta1 == number(ref, "beta1") && o.beta2 == number(ref, "beta2") && o.eps == number(ref, "eps"));
		assert_int_equal(o.step, 4);
		assert_int_equal(o.n_without, 0);
		assert_int_equal(p->n, (size_t)number(ref, "n"));
		mh_ok(df_alloc(&got, p->numel, sizeof *got, "moments", err));
		for (int second = 0; second < 2; second++) {
			mh_ok(df_download(mh_backend(), got, second ? o.v : o.m, err));
			for (size_t i = 0; i < p->n; i++) {
				const size_t n = p->v[i].rows * p->v[i].cols;
				const float *want =
				    mh_floats(ref, second ? "exp_avg_sq.%s" : "exp_avg.%s", p->v[i].name);

				if (memcmp(got + p->v[i].offset, want, n * sizeof *want) != 0)
					fail_msg(
					    "%s: %s is not that of %s", cases[c], second ? "v" : "m", p->v[i].name);
			}
		}
		free(got);
		df_moments_release(&o, m);
		df_st_close(ref);
		df_model_free(m);
		free(dir);
		free(path);
	}
}

/* The gradient of the reference's sample in a form; free() it. */
static float *
gradient(const char *dir, const struct df_st *ref, enum df_grad_form form, struct df_params *params)
{
	const struct df_grad_opts o = { .model = dir, .output = DF_GRAD_RAW, .form = form };
	const struct df_st_tensor *ids = df_st_find(ref, "ids"), *mask = df_st_find(ref, "mask");
	uint64_t id = 0, offsets[2] = { 0, ids->numel };
	struct df_batch in = DF_BATCH_INIT, out = DF_BATCH_INIT;
	struct df_grad_flaws flaws = { 0 };
	struct df_grad_lane *lane = NULL;
	struct df_grad *g = NULL;
	float *row = NULL;

	in.n = 1;
	in.col[DF_COL_ID] = (struct df_column_data){ .data = &id, .width = 1 };
	in.col[DF_COL_IDS] = (struct df_column_data){ .data = (void *)(uintptr_t)ids->data, .offsets = offsets };
	in.col[DF_COL_LABEL_MASK] =
	    (struct df_column_data){ .data = (void *)(uintptr_t)mask->data, .offsets = offsets };
	mh_ok(df_grad_open(&g, &o, mh_backend(), err));
	mh_ok(df_grad_lane_new(&lane, g, err));
	mh_ok(df_grad_block(lane, &in, &out, &flaws, err));
	mh_ok(df_alloc(&row, params->numel, sizeof *row, "a gradient", err));
	memcpy(row, out.col[DF_COL_GRADIENT].data, params->numel * sizeof *row);
	df_batch_release(&out);
	df_grad_lane_free(lane);
	df_grad_close(g);
	return row;
}

/*
 * Adam's form is PyTorch's, up to what the gradient's own rounding makes of it: the two gradients differ by at most d,
 * here 1e-5 of the tensor's largest; then the steps may differ by d times the largest slope of the step near g, for
 * which that of m' at the smallest root counts, (1 - b1) / (sqrt(b2 v) + eps), and that of the root,
 * |m'| (1 - b2) |g| / (..)^3, which is below 3 times as much; and by a few roundings of float32.
 */
static void
test_adam_form(void **state)
{
	double worst = 0, worst_grad = 0;

	(void)state;
	for (size_t c = 0; c < N_CASES; c++) {
		char *dir = case_path(cases[c], NULL), *path = case_path(cases[c], "ref.safetensors");
		struct df_model *m = NULL;
		struct df_st *ref = NULL;
		struct df_params p;
		float *sgd, *adam;
		double b1, b2, eps;

		mh_ok(df_model_open(&m, dir, NULL, mh_backend(), err));
		mh_ok(df_st_open(&ref, path, err));
		p = *df_model_train(m);
		sgd = gradient(dir, ref, DF_GRAD_SGD, &p);
		adam = gradient(dir, ref, DF_GRAD_ADAM, &p);
		b1 = number(ref, "beta1");
		b2 = number(ref, "beta2");
		eps = number(ref, "eps");
		for (size_t i = 0; i < p.n; i++) {
			const char *name = p.v[i].name;
			const float *g = mh_floats(ref, "grad.%s", name), *want = mh_floats(ref, "adam.%s", name);
			const float *v = mh_floats(ref, "exp_avg_sq.%s", name);
			double largest = 0;

			for (size_t k = 0; k < p.v[i].rows * p.v[i].cols; k++)
				largest = fmax(largest, fabs((double)g[k]));
			for (size_t k = 0; k < p.v[i].rows * p.v[i].cols; k++) {
				const size_t at = p.v[i].offset + k;
				const double d = 1e-5 * largest + 1e-12, root = sqrt(b2 * (double)v[k]) + eps;
				const double limit = 4 * d * (1 - b1) / root + 4e-6 * (1 + fabs((double)want[k]));
				const double off = fabs((double)adam[at] - (double)want[k]);

				worst_grad = fmax(worst_grad, fabs((double)sgd[at] - (double)g[k]) / d);
				worst = fmax(worst, off / limit);
			}
		}
		free(sgd);
		free(adam);
		df_st_close(ref);
		df_model_free(m);
		free(dir);
		free(path);
	}
	print_message("  of what is allowed: gradient %.2f, Adam's form %.2f\n", worst_grad, worst);
	assert_true(worst_grad < 1 && worst < 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moments),
		cmocka_unit_test(test_adam_form),
	};

	return cmocka_run_group_tests(tests, NULL, mh_cleanup);
}
