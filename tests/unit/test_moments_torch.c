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
#include "model/model_priv.h"
#include "model_help.h"

static const char *const cases[] = { "llama", "qwen3", "mixtral", "lora", "lora-saved", "lora-experts", "loraplus",
	"loraplus-peft", "one-group", "by-name", "norms-decay", "bf16", "f16", "f64", "tiny" };
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
				const float *want;

				if (!df_model_has_lora(m)) /* of whole models test_adam_form() sees them */
					continue;
				want = mh_floats(ref, second ? "exp_avg_sq.%s" : "exp_avg.%s", p->v[i].name);
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
	mh_float32_only();
	double worst = 0;

	(void)state;
	for (size_t c = 0; c < N_CASES; c++) {
		char *dir = case_path(cases[c], NULL), *path = case_path(cases[c], "ref.safetensors");
		struct df_model *m = NULL;
		struct df_st *ref = NULL;
		struct df_params p;
		struct df_moments o = { 0 };
		float *sgd, *adam, *v;
		double b1, b2, eps;

		mh_ok(df_model_open(&m, dir, NULL, mh_backend(), err));
		mh_ok(df_st_open(&ref, path, err));
		p = *df_model_train(m);
		sgd = gradient(dir, ref, DF_GRAD_SGD, &p);
		adam = gradient(dir, ref, DF_GRAD_ADAM, &p);
		mh_ok(df_moments_load(&o, m, dir, err));
		mh_ok(df_alloc(&v, p.numel, sizeof *v, "moments", err));
		mh_ok(df_download(mh_backend(), v, o.v, err));
		b1 = number(ref, "beta1");
		b2 = number(ref, "beta2");
		eps = number(ref, "eps");
		for (size_t i = 0; i < p.n; i++) {
			const float *want = mh_floats(ref, "adam.%s", p.v[i].name);
			const size_t n = p.v[i].rows * p.v[i].cols;
			double largest = 0;

			for (size_t k = 0; k < n; k++)
				largest = fmax(largest, fabs((double)sgd[p.v[i].offset + k]));
			for (size_t k = 0; k < n; k++) {
				const size_t at = p.v[i].offset + k;
				const double d = 1e-5 * largest + 1e-12, root = sqrt(b2 * (double)v[at]) + eps;
				const double limit = 4 * d * (1 - b1) / root + 4e-6 * (1 + fabs((double)want[k]));
				const double off = fabs((double)adam[at] - (double)want[k]);

				worst = fmax(worst, off / limit);
			}
		}
		free(sgd);
		free(adam);
		free(v);
		df_moments_release(&o, m);
		df_st_close(ref);
		df_model_free(m);
		free(dir);
		free(path);
	}
	print_message("  %.2f of what is allowed\n", worst);
	assert_true(worst < 1);
}

/* ---- what else such a file can hold ------------------------------------------------------------- */

static void
test_refused(void **state)
{
	static const struct {
		const char *name;
		int rc; /* DF_OK: accepted, of `step` steps and without moments of `n_without` parameters */
		const char *words;
		uint64_t step, n_without;
	} files[] = {
		{ "fsdp", DF_OK, NULL, 4, 0 },
		{ "apex", DF_OK, NULL, 7, 0 },
		{ "hf", DF_OK, NULL, 5, 0 },
		{ "step-i64", DF_OK, NULL, 6, 0 },
		{ "unused", DF_OK, NULL, 4, 1 },
		{ "no-step", DF_OK, NULL, 0, 3 },
		{ "unknown-name", DF_EFORMAT, "'model.norm.wait' is no trainable parameter", 0, 0 },
		{ "bitsandbytes", DF_EUNSUPPORTED, "lora_A|'state1'|bitsandbytes|adamw_torch", 0, 0 },
		{ "paged", DF_EUNSUPPORTED, "bitsandbytes", 0, 0 },
		{ "amsgrad", DF_EUNSUPPORTED, "group 0|AMSGrad", 0, 0 },
		{ "amsgrad-state", DF_EUNSUPPORTED, "'max_exp_avg_sq'|AMSGrad", 0, 0 },
		{ "sgd", DF_EUNSUPPORTED, "group 0|no 'betas': not the state of an Adam", 0, 0 },
		{ "adafactor", DF_EUNSUPPORTED, "'exp_avg_sq_row'|Adafactor", 0, 0 },
		{ "extra", DF_EUNSUPPORTED, "'compensation' is not a part of AdamW's state", 0, 0 },
		{ "no-v", DF_EFORMAT, "q_proj.lora_A.weight|'exp_avg_sq' is missing", 0, 0 },
		{ "integer", DF_EFORMAT, "q_proj.lora_A.weight|'exp_avg'|I32", 0, 0 },
		{ "shape", DF_EFORMAT, "q_proj.lora_A.weight|'exp_avg'|shape [16]|[1,16]", 0, 0 },
		{ "swapped", DF_EFORMAT, "shape [16,1]|[1,16]", 0, 0 },
		{ "nan", DF_EFORMAT, "norm.weight|'exp_avg': element 3 is nan", 0, 0 },
		{ "infinite", DF_EFORMAT, "norm.weight|'exp_avg_sq': element 3 is inf", 0, 0 },
		{ "minus-infinite", DF_EFORMAT, "norm.weight|'exp_avg': element 1 is -inf", 0, 0 },
		{ "negative", DF_EFORMAT, "norm.weight|'exp_avg_sq': element 5 is -1e-09", 0, 0 },
		{ "strided", DF_EUNSUPPORTED, "data.pkl, byte|strides", 0, 0 },
		{ "step-text", DF_EFORMAT, "'step' is a string", 0, 0 },
		{ "step-negative", DF_ERANGE, "'step' is -4", 0, 0 },
		{ "betas", DF_EUNSUPPORTED, "group 1|other betas", 0, 0 },
		{ "beta-range", DF_ERANGE, "group 0|'betas': 1.5 is not in [0, 1]", 0, 0 },
		{ "eps-none", DF_EFORMAT, "group 0|'eps' is nothing", 0, 0 },
		{ "three-groups", DF_EFORMAT,
		    "groups of 2 + 1 + 0 parameters do not fit|2 with weight decay and 1 without", 0, 0 },
		{ "other-groups", DF_EFORMAT, "groups of 1 + 2 parameters do not fit", 0, 0 },
		{ "many", DF_EFORMAT, "groups of 3 + 1 parameters", 0, 0 },
		{ "twice", DF_EFORMAT, "not numbered from 0 on, each once", 0, 0 },
		{ "orphan", DF_EFORMAT, "state 9 is of no parameter", 0, 0 },
		{ "no-params", DF_EFORMAT, "group 0|no list of 'params'", 0, 0 },
		{ "no-groups", DF_EFORMAT, "no 'param_groups'", 0, 0 },
		{ "empty-groups", DF_EFORMAT, "no 'param_groups'", 0, 0 },
		{ "no-state", DF_EFORMAT, "no 'state'", 0, 0 },
		{ "model", DF_EFORMAT, "no 'state': not the state of an optimiser", 0, 0 },
		{ "tensor", DF_EFORMAT, "no 'state'", 0, 0 },
		{ "names", DF_EFORMAT, "'model.norm.weight' is no trainable parameter", 0, 0 },
		{ "state-list", DF_EFORMAT, "its state is a list", 0, 0 },
		{ "legacy", DF_EUNSUPPORTED, "before 2020", 0, 0 },
	};
	char *dir = case_path("tiny", NULL);
	struct df_model *m = NULL;

	(void)state;
	mh_ok(df_model_open(&m, dir, NULL, mh_backend(), err));
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		struct df_moments o = { 0 };
		char *path = NULL, *name = NULL;

		mh_ok(df_asprintf(&name, err, "%s.pt", files[i].name));
		path = case_path("refused", name);
		mh_ok(df_moments_init(&o, m, err));
		if (files[i].rc != DF_OK) {
			mh_refused(df_moments_read_torch(&o, m, path, err), files[i].rc, files[i].words);
		} else {
			mh_ok(df_moments_read_torch(&o, m, path, err));
			assert_int_equal(o.step, files[i].step);
			assert_int_equal(o.n_without, files[i].n_without);
		}
		df_moments_release(&o, m);
		free(path);
		free(name);
	}
	df_model_free(m);
	free(dir);
}

static void
copy(const char *from, const char *to_dir, const char *to_name)
{
	char *to = NULL, *data = NULL;
	size_t n;

	mh_ok(df_path_join(&to, to_dir, to_name, err));
	mh_ok(df_file_get(from, (size_t)1 << 24, &data, &n, err));
	mh_ok(df_file_put(to, data, n, err));
	free(to);
	free(data);
}

/* Which file of a directory counts, and what is said where there is none. */
static void
test_directory(void **state)
{
	char *tiny = case_path("tiny", NULL), *base = case_path("../lora/llama", NULL), *from, *to = NULL;
	struct df_grad_opts o = { .base = base, .output = DF_GRAD_RAW, .form = DF_GRAD_ADAM };
	struct df_moments moments = { 0 };
	struct df_grad *g = NULL;
	struct df_model *m = NULL;

	(void)state;
	mh_ok(df_path_join(&to, mh_scratch(), "checkpoint", err));
	mh_ok(df_mkdirs(to, err));
	o.model = to;
	static const char *const files[] = { "adapter_config.json", "adapter_model.safetensors" };
	for (int i = 0; i < 2; i++) {
		from = case_path("tiny", files[i]);
		copy(from, to, files[i]);
		free(from);
	}
	mh_refused(df_grad_open(&g, &o, mh_backend(), err), DF_ENOINPUT, "no optimizer.pt|--form sgd");
	mh_ok(df_path_join(&from, to, "zero_to_fp32.py", err));
	mh_ok(df_file_put(from, "", 0, err));
	mh_refused(df_grad_open(&g, &o, mh_backend(), err), DF_EUNSUPPORTED, "DeepSpeed");
	free(from);

	from = case_path("refused", "fsdp.pt");
	copy(from, to, "optimizer.bin");
	free(from);
	mh_ok(df_grad_open(&g, &o, mh_backend(), err));
	df_grad_close(g);
	g = NULL;

	/* optimizer.pt comes first; a parameter without moments must be allowed. */
	from = case_path("refused", "unused.pt");
	copy(from, to, "optimizer.pt");
	free(from);
	mh_refused(
	    df_grad_open(&g, &o, mh_backend(), err), DF_EFORMAT, "1 parameters have no moments|--allow-zero-state");
	from = case_path("refused", "no-step.pt");
	copy(from, to, "optimizer.pt");
	free(from);
	mh_refused(df_grad_open(&g, &o, mh_backend(), err), DF_EFORMAT, "made no step|--allow-zero-state");
	o.allow_zero_state = true;
	mh_ok(df_grad_open(&g, &o, mh_backend(), err));
	df_grad_close(g);

	/* Ours before both, and what is written from torch's moments reads back. */
	mh_ok(df_model_open(&m, tiny, base, mh_backend(), err));
	mh_ok(df_moments_load(&moments, m, tiny, err));
	mh_ok(df_moments_save(&moments, m, to, err));
	df_moments_release(&moments, m);
	mh_ok(df_moments_load(&moments, m, to, err));
	assert_int_equal(moments.step, 4);
	df_moments_release(&moments, m);
	df_model_free(m);
	free(to);
	free(base);
	free(tiny);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moments),
		cmocka_unit_test(test_adam_form),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_directory),
	};

	return cmocka_run_group_tests(tests, NULL, mh_cleanup);
}
