/*
 * test_model_export.c - a checkpoint and an adapter of ours, written and read
 * back: the same logits, bit for bit.  With DF_EXPORT_DIR set they stay there, with our
 * logits beside them, for tests/golden/verify_export.py to load in
 * transformers and PEFT.  Runs on the backend in DF_TEST_DEVICE.
 */
#include "model_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

#define N_TOKENS 29

static float *
logits(struct df_model *m, const uint32_t *ids)
{
	const uint64_t offsets[3] = { 0, 9, N_TOKENS };
	const uint8_t mask[N_TOKENS] = { 0 };
	struct df_tokens b = { .n = 2, .offsets = offsets, .ids = ids, .mask = mask };
	struct df_work *w = NULL;
	float *x = NULL;

	mh_ok(df_alloc(&x, N_TOKENS * df_model_config(m)->n_vocab, sizeof(*x), "logits", err));
	mh_ok(df_work_new(&w, m, err));
	mh_ok(df_model_logits(m, w, &b, x, err));
	df_work_free(w);
	return x;
}

/* The model in dir gives these logits. */
static void
check_reopened(const char *dir, const uint32_t *ids, const float *want)
{
	struct df_model *m = NULL;
	float *got;

	mh_ok(df_model_open(&m, dir, NULL, mh_backend(), err));
	got = logits(m, ids);
	mh_assert_same(got, want, N_TOKENS * df_model_config(m)->n_vocab);
	free(got);
	df_model_free(m);
}

static void
write_logits(const char *path, const uint32_t *ids, const float *base, const float *lora, size_t n_vocab)
{
	const uint64_t shape[2] = { N_TOKENS, n_vocab }, two[1] = { 3 };
	const int64_t offsets[3] = { 0, 9, N_TOKENS };
	struct df_st_writer *w = NULL;
	int64_t wide[N_TOKENS];

	for (size_t i = 0; i < N_TOKENS; i++)
		wide[i] = ids[i];
	mh_ok(df_st_create(&w, path, err));
	mh_ok(df_st_add(w, "offsets", DF_ST_I64, two, 1, err));
	mh_ok(df_st_add(w, "ids", DF_ST_I64, shape, 1, err));
	mh_ok(df_st_add(w, "base", DF_ST_F32, shape, 2, err));
	mh_ok(df_st_add(w, "lora", DF_ST_F32, shape, 2, err));
	mh_ok(df_st_write(w, offsets, sizeof(offsets), err));
	mh_ok(df_st_write(w, wide, sizeof(wide), err));
	mh_ok(df_st_write(w, base, N_TOKENS * n_vocab * sizeof(*base), err));
	mh_ok(df_st_write(w, lora, N_TOKENS * n_vocab * sizeof(*lora), err));
	mh_ok(df_st_commit(w, err));
}

static void
export_case(const char *root, const char *name, const char *targets)
{
	struct df_lora_spec spec = { .rank = 5, .alpha = 12.5, .targets = targets };
	char *config = mh_path(name, NULL), *base = NULL, *adapter = NULL, *out = NULL;
	uint32_t ids[N_TOKENS];
	struct df_model *m = NULL;
	float *x = NULL, *plain, *adapted;
	size_t n;

	mh_ok(df_asprintf(&base, err, "%s/%s/base", root, name));
	mh_ok(df_asprintf(&adapter, err, "%s/%s/adapter", root, name));
	mh_ok(df_asprintf(&out, err, "%s/%s/logits.safetensors", root, name));
	mh_ok(df_mkdirs(base, err));
	mh_ok(df_mkdirs(adapter, err));
	mh_ok(df_model_init(&m, config, 2026, mh_backend(), err));
	for (size_t i = 0; i < N_TOKENS; i++)
		ids[i] = (uint32_t)(i * i * 7 + 3) % (uint32_t)df_model_config(m)->n_vocab;
	/* Weights of a trained model's size: initialisation alone gives logits near zero. */
	n = df_model_base(m)->numel;
	mh_ok(df_alloc(&x, n, sizeof(*x), "weights", err));
	mh_ok(df_model_master(m, err));
	mh_ok(df_download(mh_backend(), x, df_model_train_data(m), err));
	for (size_t k = 0; k < df_model_train(m)->n; k++) {
		const struct df_param *p = &df_model_train(m)->v[k];

		for (size_t i = p->offset; i < p->offset + p->rows * p->cols; i++)
			x[i] = (p->decay ? 8 : 1) * x[i] + 0.1f * (float)sin((double)i);
	}
	mh_ok(df_upload(mh_backend(), df_model_train_data(m), x, err));
	mh_ok(df_model_train_changed(m, err));
	plain = logits(m, ids);
	mh_ok(df_model_save(m, base, err));
	check_reopened(base, ids, plain);
	df_model_free(m);

	m = NULL;
	mh_ok(df_model_open(&m, base, NULL, mh_backend(), err));
	mh_ok(df_model_add_lora(m, &spec, 3, err));
	n = df_model_train(m)->numel;
	mh_ok(df_download(mh_backend(), x, df_model_train_data(m), err));
	for (size_t i = 0; i < n; i++)
		x[i] += 0.1f * (float)cos((double)i);
	mh_ok(df_upload(mh_backend(), df_model_train_data(m), x, err));
	mh_ok(df_model_train_changed(m, err));
	adapted = logits(m, ids);
	assert_true(mh_rel_diff(adapted, plain, N_TOKENS * df_model_config(m)->n_vocab) > 1e-2);
	mh_ok(df_model_save(m, adapter, err));
	check_reopened(adapter, ids, adapted);
	write_logits(out, ids, plain, adapted, df_model_config(m)->n_vocab);
	df_model_free(m);
	free(plain);
	free(adapted);
	free(x);
	free(config);
	free(base);
	free(adapter);
	free(out);
}

static void
test_export(void **state)
{
	const char *dir = getenv("DF_EXPORT_DIR");

	(void)state;
	if (dir == NULL)
		dir = mh_scratch();
	export_case(dir, "llama", "all");
	export_case(dir, "llama-gqa-tied", "q_proj,v_proj");
	export_case(dir, "qwen2", "all");
	export_case(dir, "qwen2-untied", "o_proj,gate_proj,down_proj");
	export_case(dir, "llama-linear", "all");
	export_case(dir, "llama-dynamic", "all");
	export_case(dir, "llama-llama3", "all");
	export_case(dir, "llama-yarn-mscale", "all");
	export_case(dir, "mistral", "all");
	export_case(dir, "qwen2-window", "all");
	export_case(dir, "qwen3", "all");
	export_case(dir, "qwen3-tied", "q_proj,up_proj");
	export_case(dir, "mixtral", "w1,w3,v_proj");
	export_case(dir, "qwen2-moe", "all");
	export_case(dir, "qwen2-moe-norm", "down_proj,q_proj");
	export_case(dir, "qwen3-moe", "gate,up_proj,o_proj");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_export, mh_cleanup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
