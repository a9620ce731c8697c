/*
 * test_model_files.c - checkpoints, adapters and moments on disk: what we
 * write reads back, what others write reads right, and what does not fit is
 * refused by name.  Runs on the backend in DF_TEST_DEVICE.
 */
#include "model_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"

static char path_buf[1024];

static const char *
join(const char *dir, const char *name)
{
	snprintf(path_buf, sizeof(path_buf), "%s/%s", dir, name);
	return path_buf;
}

static const char *
subdir(const char *name)
{
	static char dir[1024];

	snprintf(dir, sizeof(dir), "%s/%s", mh_scratch(), name);
	mh_ok(df_mkdirs(dir, err));
	return dir;
}

static bool
same_file(const char *a_dir, const char *b_dir, const char *name)
{
	char *a = NULL, *b = NULL;
	size_t n, k;
	bool same;

	mh_ok(df_file_get(join(a_dir, name), 1 << 24, &a, &n, err));
	mh_ok(df_file_get(join(b_dir, name), 1 << 24, &b, &k, err));
	same = n == k && memcmp(a, b, n) == 0;
	free(a);
	free(b);
	return same;
}

static struct df_digest
digest(struct df_model *m)
{
	struct df_digest d = { 0, 0 };

	mh_ok(df_model_digest(m, &d, err));
	return d;
}

static bool
same_digest(struct df_digest a, struct df_digest b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

/* Change one weight. */
static void
nudge(struct df_model *m, struct df_tensor t, size_t i)
{
	float x = 0;

	mh_ok(df_download(df_model_backend(m), &x, df_tensor_view(t, i, 1, 1), err));
	x += 1;
	mh_ok(df_upload(df_model_backend(m), df_tensor_view(t, i, 1, 1), &x, err));
}

static void
test_save_base(void **state)
{
	static const char *const cases[] = { "llama", "llama-gqa-tied", "qwen2", "qwen2-untied" };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		char *dir = mh_path(cases[i], NULL), *one = strdup(subdir("one")), *two = strdup(subdir("two"));
		struct df_model *m = NULL, *again = NULL;
		struct df_st *st = NULL;
		struct df_digest d;
		char *config, *pad;
		size_t n;

		mh_ok(df_model_open(&m, dir, NULL, mh_backend(), err));
		d = digest(m);
		mh_ok(df_model_save(m, one, err));
		mh_ok(df_model_open(&again, one, NULL, mh_backend(), err));
		assert_true(same_digest(d, digest(again)));
		mh_ok(df_model_save(again, two, err));
		assert_true(same_file(one, two, "model.safetensors"));
		assert_true(same_file(one, two, "config.json"));
		mh_ok(df_st_open(&st, join(one, "model.safetensors"), err));
		assert_string_equal(df_st_metadata(st, "format"), "pt");
		/* The head of a tied model is not written twice. */
		assert_int_equal(df_st_find(st, "lm_head.weight") != NULL, !df_model_config(m)->tied);
		df_st_close(st);
		mh_ok(df_model_master(again, err));
		assert_true(same_digest(d, digest(again)));
		nudge(again, df_model_train_data(again), 17);
		assert_false(same_digest(d, digest(again)));
		df_model_free(again);
		/* Which token is the padding decides which embedding has no gradient. */
		mh_ok(df_file_get(join(two, "config.json"), 1 << 20, &config, &n, err));
		pad = strstr(config, "\"pad_token_id\": 0");
		assert_non_null(pad);
		pad[strlen("\"pad_token_id\": ")] = '1';
		mh_ok(df_file_put(join(two, "config.json"), config, n, err));
		mh_ok(df_model_open(&again, two, NULL, mh_backend(), err));
		assert_false(same_digest(d, digest(again)));
		df_model_free(m);
		df_model_free(again);
		free(config);
		free(dir);
		free(one);
		free(two);
	}
}

static void
test_save_adapter(void **state)
{
	char *dir = mh_path("qwen2", "adapter"), *base = mh_path("qwen2", NULL), *one = strdup(subdir("one")),
	     *two = strdup(subdir("two"));
	struct df_lora_spec spec = { .rank = 2, .alpha = 3.5, .targets = "v_proj,q_proj" };
	struct df_model *m = NULL, *again = NULL;
	struct df_digest d;

	(void)state;
	mh_ok(df_model_open(&m, dir, base, mh_backend(), err));
	d = digest(m);
	mh_ok(df_model_save(m, one, err));
	mh_ok(df_model_open(&again, one, NULL, mh_backend(), err)); /* it knows its base */
	assert_true(same_digest(d, digest(again)));
	mh_ok(df_model_save(again, two, err));
	assert_true(same_file(one, two, "adapter_model.safetensors"));
	assert_true(same_file(one, two, "adapter_config.json"));
	nudge(again, df_model_train_data(again), 17);
	assert_false(same_digest(d, digest(again)));
	df_model_free(m);
	df_model_free(again);

	/* Some targets, a fractional alpha. */
	mh_ok(df_model_open(&m, base, NULL, mh_backend(), err));
	mh_ok(df_model_add_lora(m, &spec, 1, err));
	mh_ok(df_model_save(m, one, err));
	mh_ok(df_model_open(&again, one, NULL, mh_backend(), err));
	assert_true(same_digest(digest(m), digest(again)));
	assert_int_equal(df_model_train(again)->n, 2 * 2 * 2);
	df_model_free(m);
	df_model_free(again);

	/* An adapter on weights that exist nowhere cannot be used again. */
	mh_ok(df_model_init(&m, base, 1, mh_backend(), err));
	mh_ok(df_model_add_lora(m, &spec, 1, err));
	mh_refused(df_model_save(m, one, err), DF_EUNSUPPORTED, "random|base");
	df_model_free(m);
	free(dir);
	free(base);
	free(one);
	free(two);
}

/* Write the weights of a golden case again, each float as 16 bits of `type`, renamed, over `n_files` files. */
static void
rewrite(const char *from, const char *to, enum df_st_type type, bool strip, size_t n_files)
{
	struct df_buf index = DF_BUF_INIT;
	struct df_st *st = NULL;
	char *config = NULL;
	size_t n;

	mh_ok(df_file_get(join(from, "config.json"), 1 << 20, &config, &n, err));
	mh_ok(df_file_put(join(to, "config.json"), config, n, err));
	free(config);
	mh_ok(df_st_open_model(&st, from, err));
	df_buf_puts(&index, "{\"weight_map\":{");
	for (size_t f = 0; f < n_files; f++) {
		struct df_st_writer *w = NULL;
		char name[64];

		snprintf(name, sizeof(name), n_files == 1 ? "model.safetensors" : "model-%05zu-of-%05zu.safetensors",
		    f + 1, n_files);
		mh_ok(df_st_create(&w, join(to, name), err));
		for (int pass = 0; pass < 2; pass++) {
			for (size_t i = f; i < df_st_count(st); i += n_files) {
				const struct df_st_tensor *t = df_st_at(st, i);
				const char *out = strip && strncmp(t->name, "model.", 6) == 0 ? t->name + 6 : t->name;

				if (pass == 0) {
					mh_ok(df_st_add(w, out, type, t->shape, t->rank, err));
					df_buf_printf(&index, "%s\"%s\":\"%s\"", i ? "," : "", out, name);
					continue;
				}
				for (size_t k = 0; k < t->numel; k++) {
					uint32_t u;
					float x;
					uint16_t h;

					memcpy(&u, (const char *)t->data + 4 * k, 4);
					memcpy(&x, &u, 4);
					if (type == DF_ST_BF16)
						h = (uint16_t)(u >> 16);
					else /* values here are in half's normal range or rounded to 0 */
						h = fabsf(x) < 6.2e-5f
						    ? 0
						    : (uint16_t)((u >> 16 & 0x8000) | ((u >> 23 & 255) - 112) << 10 |
							  (u >> 13 & 1023));
					if (type == DF_ST_F32)
						mh_ok(df_st_write(w, &x, 4, err));
					else
						mh_ok(df_st_write(w, &h, 2, err));
				}
			}
		}
		mh_ok(df_st_commit(w, err));
	}
	df_buf_puts(&index, "}}");
	if (n_files > 1)
		mh_ok(df_file_put(join(to, "model.safetensors.index.json"), index.data, index.len, err));
	df_buf_release(&index);
	df_st_close(st);
}

static void
test_layouts(void **state)
{
	char *from = mh_path("llama", NULL), name[32];
	struct df_model *m = NULL, *want = NULL;
	struct df_digest d;
	const float *a, *b;

	(void)state;
	mh_ok(df_model_open(&want, from, NULL, mh_backend(), err));
	d = digest(want);
	a = mh_weights(want);
	/* Sharded, and without the "model." prefix: the same weights. */
	for (int k = 0; k < 4; k++) {
		snprintf(name, sizeof(name), "layout%d", k);
		rewrite(from, subdir(name), DF_ST_F32, k & 1, k & 2 ? 3 : 1);
		mh_ok(df_model_open(&m, subdir(name), NULL, mh_backend(), err));
		assert_true(same_digest(d, digest(m)));
		df_model_free(m);
	}
	/* 16 bits, cut off: bf16 keeps 8 bits of mantissa, half 11. */
	for (int k = 0; k < 2; k++) {
		snprintf(name, sizeof(name), "half%d", k);
		rewrite(from, subdir(name), k ? DF_ST_F16 : DF_ST_BF16, false, 1);
		mh_ok(df_model_open(&m, subdir(name), NULL, mh_backend(), err));
		b = mh_weights(m);
		for (size_t i = 0; i < df_model_base(m)->numel; i++) {
			double tol = fabs((double)a[i]) * (k ? 0x1p-10 : 0x1p-7) + 6.2e-5;

			if (!(fabs((double)a[i] - (double)b[i]) <= tol) || (k == 0 && fabsf(b[i]) > fabsf(a[i])))
				fail_msg("weight %zu: %g became %g", i, (double)a[i], (double)b[i]);
		}
		df_model_free(m);
	}
	df_model_free(want);
	free(from);
}

/* ---- weights that do not fit ------------------------------------------------ */

struct tensor_edit {
	const char *drop, *add;    /* a tensor left out, one that is not asked for */
	const char *reshape;       /* this one as a vector */
	const char *as_ints, *nan; /* this one of another type, or with a NaN */
};

static void
edited(const char *to, const struct tensor_edit *e)
{
	char *from = mh_path("qwen2", NULL), *config = NULL;
	struct df_st_writer *w = NULL;
	struct df_st *st = NULL;
	const uint64_t one[1] = { 1 };
	size_t n;

	mh_ok(df_file_get(join(from, "config.json"), 1 << 20, &config, &n, err));
	mh_ok(df_file_put(join(to, "config.json"), config, n, err));
	mh_ok(df_st_open_model(&st, from, err));
	mh_ok(df_st_create(&w, join(to, "model.safetensors"), err));
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < df_st_count(st); i++) {
			const struct df_st_tensor *t = df_st_at(st, i);
			uint64_t flat[1] = { t->numel };
			bool vec = e->reshape && strcmp(e->reshape, t->name) == 0;
			enum df_st_type type = e->as_ints && strcmp(e->as_ints, t->name) == 0 ? DF_ST_I32 : DF_ST_F32;
			float first = e->nan && strcmp(e->nan, t->name) == 0 ? NAN : 0.5f;

			if (e->drop && strcmp(e->drop, t->name) == 0)
				continue;
			if (pass == 0)
				mh_ok(df_st_add(w, t->name, type, vec ? flat : t->shape, vec ? 1 : t->rank, err));
			else {
				mh_ok(df_st_write(w, &first, 4, err));
				mh_ok(df_st_write(w, (const char *)t->data + 4, t->nbytes - 4, err));
			}
		}
		if (e->add && pass == 0)
			mh_ok(df_st_add(w, e->add, DF_ST_F32, one, 1, err));
		else if (e->add)
			mh_ok(df_st_write(w, "1234", 4, err));
	}
	mh_ok(df_st_commit(w, err));
	df_st_close(st);
	free(config);
	free(from);
}

static void
test_bad_weights(void **state)
{
	static const struct {
		struct tensor_edit e;
		int code;
		const char *words;
	} t[] = {
		{ { .drop = "model.norm.weight" }, DF_EFORMAT, "bad/model.safetensors: |'model.norm.weight'|missing" },
		{ { .add = "model.layers.2.mlp.up_proj.weight" }, DF_EFORMAT,
		    "bad/model.safetensors: |layers.2.mlp.up_proj|no parameter" },
		{ { .reshape = "model.layers.1.self_attn.k_proj.weight" }, DF_EFORMAT,
		    "bad/model.safetensors: |1.self_attn.k_proj|[512]|[16,32]" },
		{ { .as_ints = "model.layers.1.self_attn.k_proj.weight" }, DF_EFORMAT,
		    "bad/model.safetensors: |1.self_attn.k_proj|I32" },
		{ { .nan = "model.layers.1.self_attn.k_proj.weight" }, DF_EFORMAT,
		    "bad/model.safetensors: |1.self_attn.k_proj|element 0|nan" },
		{ { .add = "lm_head.weight" }, DF_EFORMAT, "bad/model.safetensors: |'lm_head.weight'|[1]|[103,32]" },
		{ { .add = "model.layers.0.self_attn.rotary_emb.inv_freq" }, DF_OK, NULL },
	};
	struct df_model *m = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		edited(subdir("bad"), &t[i].e);
		if (t[i].code == DF_OK) {
			mh_ok(df_model_open(&m, subdir("bad"), NULL, mh_backend(), err));
			df_model_free(m);
			m = NULL;
			continue;
		}
		mh_refused(df_model_open(&m, subdir("bad"), NULL, mh_backend(), err), t[i].code, t[i].words);
		assert_null(m);
	}
}

/* ---- a head beside the embedding ------------------------------------------------ */

static struct df_buf warnings = DF_BUF_INIT;

static void
keep_warning(void *ctx, enum df_log_level level, const char *msg)
{
	(void)ctx;
	if (level == DF_LOG_WARN)
		df_buf_printf(&warnings, "%s\n", msg);
}

/* Opens dir and counts what it is warned of. */
static struct df_model *
open_counting(const char *dir, const char *base, size_t *n)
{
	struct df_model *m = NULL;

	df_buf_clear(&warnings);
	df_log_set_sink(keep_warning, NULL);
	mh_ok(df_model_open(&m, dir, base, mh_backend(), err));
	df_log_set_sink(NULL, NULL);
	*n = 0;
	for (size_t i = 0; i < warnings.len; i++)
		*n += warnings.data[i] == '\n';
	return m;
}

/* lm_head.weight = the embedding, as `type`, with one element changed or none (SIZE_MAX). */
static void
add_head(struct df_st_writer *w, const struct df_st_tensor *embed, enum df_st_type type, size_t changed, bool declare)
{
	float *x = NULL;

	if (declare) {
		mh_ok(df_st_add(w, "lm_head.weight", type, embed->shape, embed->rank, err));
		return;
	}
	mh_ok(df_alloc(&x, embed->numel, sizeof(*x), "a head", err));
	mh_ok(df_st_to_f32(embed, x, err));
	if (changed != SIZE_MAX)
		x[changed] = x[changed] < 0.25f ? 0.5f : -0.5f;
	if (type == DF_ST_F32) {
		mh_ok(df_st_write(w, x, embed->numel * sizeof(*x), err));
	} else {
		uint16_t *h = NULL, half = type == DF_ST_BF16 ? 0x3f00 : 0x3800; /* 0.5 */

		mh_ok(df_alloc(&h, embed->numel, sizeof(*h), "a head", err));
		memcpy(h, embed->data, embed->nbytes);
		if (changed != SIZE_MAX)
			h[changed] = half | (x[changed] < 0 ? 0x8000 : 0);
		mh_ok(df_st_write(w, h, embed->numel * sizeof(*h), err));
		free(h);
	}
	free(x);
}

/* A copy of a tied golden model that has a head, in the file of the rest or in one of its own. */
static void
headed(const char *to, const char *name, enum df_st_type type, size_t changed, bool own_file)
{
	char *from = mh_path(name, NULL), *config = NULL;
	const struct df_st_tensor *embed;
	struct df_st_writer *w = NULL, *head = NULL;
	struct df_buf index = DF_BUF_INIT;
	struct df_st *st = NULL;
	size_t n;

	remove(join(to, "model.safetensors.index.json"));
	remove(join(to, "model.safetensors"));
	mh_ok(df_file_get(join(from, "config.json"), 1 << 20, &config, &n, err));
	mh_ok(df_file_put(join(to, "config.json"), config, n, err));
	mh_ok(df_st_open_model(&st, from, err));
	embed = df_st_find(st, "model.embed_tokens.weight");
	embed = embed ? embed : df_st_find(st, "embed_tokens.weight");
	assert_non_null(embed);
	mh_ok(df_st_create(&w, join(to, own_file ? "body.safetensors" : "model.safetensors"), err));
	if (own_file)
		mh_ok(df_st_create(&head, join(to, "head.safetensors"), err));
	df_buf_puts(&index, "{\"weight_map\": {\"lm_head.weight\": \"head.safetensors\"");
	for (size_t i = 0; i < df_st_count(st); i++) {
		const struct df_st_tensor *t = df_st_at(st, i);

		mh_ok(df_st_add(w, t->name, t->type, t->shape, t->rank, err));
		df_buf_printf(&index, ", \"%s\": \"body.safetensors\"", t->name);
	}
	df_buf_puts(&index, "}}");
	add_head(head ? head : w, embed, type, changed, true);
	for (size_t i = 0; i < df_st_count(st); i++)
		mh_ok(df_st_write(w, df_st_at(st, i)->data, df_st_at(st, i)->nbytes, err));
	add_head(head ? head : w, embed, type, changed, false);
	mh_ok(df_st_commit(w, err));
	if (own_file) {
		mh_ok(df_st_commit(head, err));
		mh_ok(df_file_put(join(to, "model.safetensors.index.json"), index.data, index.len, err));
	}
	df_buf_release(&index);
	df_st_close(st);
	free(config);
	free(from);
}

static void
say_untied(const char *dir)
{
	static const char key[] = "\"tie_word_embeddings\": ";
	char *config = NULL, *text = NULL, *at;
	size_t n;

	mh_ok(df_file_get(join(dir, "config.json"), 1 << 20, &config, &n, err));
	at = strstr(config, key);
	assert_non_null(at);
	at += strlen(key);
	mh_ok(df_asprintf(&text, err, "%.*sfalse%s", (int)(at - config), config, at + strlen("true")));
	mh_ok(df_file_put(join(dir, "config.json"), text, strlen(text), err));
	free(config);
	free(text);
}

/* tie_word_embeddings, and a file with an lm_head.weight: an equal one changes nothing, another is used and said. */
static void
test_own_head(void **state)
{
	static const struct {
		const char *name;
		enum df_st_type type;
		bool own_file;
	} t[] = { { "llama-gqa-tied", DF_ST_F32, false }, { "llama-gqa-tied", DF_ST_F32, true },
		{ "llama-f16", DF_ST_F16, false }, { "llama-f16", DF_ST_F32, false },
		{ "qwen3-tied", DF_ST_BF16, true }, { "qwen3-tied", DF_ST_F32, false } };
	char *dir = strdup(subdir("headed")), *saved = strdup(subdir("saved"));

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		char *from = mh_path(t[i].name, NULL);
		struct df_model *tied = NULL, *m, *untied, *again;
		struct df_digest d;
		size_t n;

		mh_ok(df_model_open(&tied, from, NULL, mh_backend(), err));
		headed(dir, t[i].name, t[i].type, SIZE_MAX, t[i].own_file);
		m = open_counting(dir, NULL, &n);
		assert_int_equal(n, 0);
		assert_true(same_digest(digest(m), digest(tied)));
		df_model_free(m);
		/* The last element too. */
		for (size_t k = 0; k < 2; k++) {
			const struct df_param *e = &df_model_base(tied)->v[0];

			headed(dir, t[i].name, t[i].type, k == 0 ? 3 : e->rows * e->cols - 1, t[i].own_file);
			m = open_counting(dir, NULL, &n);
			assert_int_equal(n, 1);
			assert_non_null(strstr(warnings.data, "headed"));
			assert_non_null(strstr(warnings.data, "lm_head.weight"));
			assert_non_null(strstr(warnings.data, "tie_word_embeddings"));
			assert_false(df_model_config(m)->tied);
			d = digest(m);
			assert_false(same_digest(d, digest(tied)));
			/* As if config.json said so, and saved it does. */
			say_untied(dir);
			untied = open_counting(dir, NULL, &n);
			assert_int_equal(n, 0);
			assert_true(same_digest(d, digest(untied)));
			mh_ok(df_model_save(m, saved, err));
			again = open_counting(saved, NULL, &n);
			assert_int_equal(n, 0);
			assert_true(same_digest(d, digest(again)));
			df_model_free(m);
			df_model_free(untied);
			df_model_free(again);
		}
		df_model_free(tied);
		free(from);
	}
	df_buf_release(&warnings);
	free(dir);
	free(saved);
}

/* An adapter with a head of its own wants a base that has one; and the other contradiction: untied, and no head. */
static void
test_no_head(void **state)
{
	char *dir = strdup(subdir("headed")), *adapter = strdup(subdir("of_head"));
	struct df_lora_spec spec = { .rank = 2, .alpha = 4, .targets = "q_proj", .additional = "lm_head" };
	struct df_model *m, *none = NULL;
	struct df_digest d;
	size_t n;

	(void)state;
	headed(dir, "llama-gqa-tied", DF_ST_F32, 5, false);
	m = open_counting(dir, NULL, &n);
	mh_ok(df_model_add_lora(m, &spec, 1, err));
	assert_true(df_model_trains_head(m));
	d = digest(m);
	mh_ok(df_model_save(m, adapter, err));
	df_model_free(m);
	m = open_counting(adapter, dir, &n);
	assert_int_equal(n, 1);
	assert_true(same_digest(d, digest(m)));
	df_model_free(m);
	headed(dir, "llama-gqa-tied", DF_ST_F32, SIZE_MAX, false);
	mh_refused(df_model_open(&none, adapter, dir, mh_backend(), err), DF_EUNSUPPORTED,
	    "modules_to_save|lm_head|tie_word_embeddings");
	edited(dir, &(struct tensor_edit){ 0 });
	say_untied(dir);
	mh_refused(df_model_open(&none, dir, NULL, mh_backend(), err), DF_EFORMAT,
	    "headed/model.safetensors: |'lm_head.weight' is missing|tie_word_embeddings: true");
	df_buf_release(&warnings);
	free(dir);
	free(adapter);
}

/* ---- config.json ------------------------------------------------------------- */

#define SIZES    "\"vocab_size\":61,\"hidden_size\":24,\"intermediate_size\":40,\"num_hidden_layers\":2"
#define LLAMA    "\"model_type\":\"llama\"," SIZES ",\"num_attention_heads\":4"
#define QWEN     "\"model_type\":\"qwen2\"," SIZES ",\"num_attention_heads\":4,\"num_key_value_heads\":4"
#define MIXTRAL  "\"model_type\":\"mixtral\"," SIZES ",\"num_attention_heads\":4,\"num_key_value_heads\":2"
#define QWEN_MOE "\"model_type\":\"qwen2_moe\"," SIZES ",\"num_attention_heads\":4,\"num_key_value_heads\":2"

static const char *
put_config(const char *text)
{
	mh_ok(df_file_put(join(subdir("cfg"), "config.json"), text, strlen(text), err));
	return subdir("cfg");
}

static void
test_config(void **state)
{
	struct df_model_config c = { 0 };

	(void)state;
	mh_ok(df_model_config_load(&c, put_config("{" LLAMA "}"), err));
	assert_int_equal(c.n_kv_heads, 4);
	assert_int_equal(c.d_head, 6);
	assert_true(c.rope.theta == 10000 && c.norm_eps == 1e-6 && c.init_range == 0.02);
	assert_false(c.tied || c.qkv_bias || c.o_bias || c.mlp_bias);
	assert_int_equal(c.bos_id, 1); /* the class's defaults */
	assert_int_equal(c.eos_id, 2);
	assert_int_equal(c.pad_id, -1);
	df_model_config_release(&c);

	/* transformers 4 and 5. */
	mh_ok(df_model_config_load(&c,
	    put_config("{" LLAMA ",\"num_key_value_heads\":2,\"head_dim\":8,\"rope_theta\":5e5,"
		       "\"rope_scaling\":null,\"torch_dtype\":\"bfloat16\",\"eos_token_id\":[7,8],\"bos_token_id\":1,"
		       "\"attention_bias\":true,"
		       "\"mlp_bias\":true,\"architectures\":[\"LlamaForCausalLM\"],\"rms_norm_eps\":1e-05}"),
	    err));
	assert_int_equal(c.n_kv_heads, 2);
	assert_int_equal(c.d_head, 8);
	assert_true(c.rope.theta == 5e5 && c.norm_eps == 1e-5 && c.o_bias && c.mlp_bias);
	assert_int_equal(c.eos_id, 7);
	assert_int_equal(c.bos_id, 1);
	assert_non_null(strstr(c.json, "\"torch_dtype\": \"float32\"")); /* what we save is float32 */
	assert_non_null(strstr(c.json, "\"rms_norm_eps\": 1e-05"));
	df_model_config_release(&c);
	mh_ok(df_model_config_load(&c,
	    put_config(
		"{" QWEN ",\"rope_parameters\":{\"rope_type\":\"default\","
		"\"rope_theta\":1000000.0},\"dtype\":\"float16\",\"use_sliding_window\":false,\"sliding_window\":4096,"
		"\"max_window_layers\":21,\"tie_word_embeddings\":true,"
		"\"layer_types\":[\"full_attention\",\"full_attention\"]}"),
	    err));
	assert_true(c.rope.theta == 1e6 && c.qkv_bias && !c.o_bias && c.tied);
	assert_non_null(strstr(c.json, "\"dtype\": \"float32\""));
	df_model_config_release(&c);
	/* A window that begins above the last layer is no window. */
	mh_ok(df_model_config_load(&c,
	    put_config("{" QWEN ",\"use_sliding_window\":true,\"sliding_window\":8,"
		       "\"max_window_layers\":2}"),
	    err));
	assert_null(c.window);
	df_model_config_release(&c);
	mh_ok(df_model_config_load(&c,
	    put_config("{" QWEN ",\"use_sliding_window\":true,\"sliding_window\":8,"
		       "\"max_window_layers\":1}"),
	    err));
	assert_int_equal(c.window[0], 0);
	assert_int_equal(c.window[1], 8);
	df_model_config_release(&c);
}

/* What a file of each family leaves out, and which layers get which feed-forward and window. */
static void
test_families(void **state)
{
	struct df_model_config c = { 0 };

	(void)state;
	/* Mistral's window is 4096 unless the file says null. */
	mh_ok(df_model_config_load(
	    &c, put_config("{\"model_type\":\"mistral\"," SIZES ",\"num_attention_heads\":8,\"head_dim\":16}"), err));
	assert_true(c.arch == DF_ARCH_MISTRAL && c.head == DF_HEAD_LM);
	assert_int_equal(c.n_kv_heads, 8);
	assert_int_equal(c.d_head, 16);
	assert_int_equal(c.window[0], 4096);
	df_model_config_release(&c);
	mh_ok(df_model_config_load(&c,
	    put_config("{\"model_type\":\"mistral\"," SIZES ",\"num_attention_heads\":4,\"num_key_value_heads\":2,"
		       "\"sliding_window\":null,\"architectures\":[\"MistralModel\"]}"),
	    err));
	assert_true(c.window == NULL && c.head == DF_HEAD_NONE);
	assert_true(c.pad_id == -1 && c.pad_row == -1);
	df_model_config_release(&c);

	/* The first LLaMA's: no token is the padding, but to nn.Embedding its index is that of the last row. */
	mh_ok(df_model_config_load(&c, put_config("{" LLAMA ",\"pad_token_id\":-1}"), err));
	assert_true(c.pad_id == -1 && c.pad_row == (int64_t)c.n_vocab - 1);
	df_model_config_release(&c);

	mh_ok(df_model_config_load(&c,
	    put_config("{\"model_type\":\"qwen3\"," SIZES ",\"num_attention_heads\":4,\"num_key_value_heads\":2,"
		       "\"architectures\":[\"Qwen3ForSequenceClassification\"],\"num_labels\":7,"
		       "\"id2label\":{\"0\":\"a\",\"1\":\"b\",\"2\":\"c\"}}"),
	    err));
	assert_true(c.qk_norm && !c.qkv_bias && c.head == DF_HEAD_CLASSES);
	assert_int_equal(c.d_head, 128);
	assert_int_equal(c.n_labels, 3);
	assert_int_equal(c.eos_id, -1);
	df_model_config_release(&c);

	mh_ok(df_model_config_load(&c, put_config("{" MIXTRAL "}"), err));
	assert_true(c.sparse[0] && c.sparse[1] && c.moe.normalise && c.window == NULL);
	assert_int_equal(c.moe.n_experts, 8);
	assert_int_equal(c.moe.top_k, 2);
	assert_int_equal(c.moe.d_expert, 40);
	assert_true(c.rope.theta == 1e6 && c.norm_eps == 1e-5);
	df_model_config_release(&c);

	mh_ok(df_model_config_load(&c,
	    put_config("{" QWEN_MOE ",\"decoder_sparse_step\":2,\"moe_intermediate_size\":16,\"num_experts\":60}"),
	    err));
	assert_true(!c.sparse[0] && c.sparse[1] && !c.moe.normalise && c.qkv_bias);
	assert_int_equal(c.moe.n_experts, 60);
	assert_int_equal(c.moe.d_expert, 16);
	assert_int_equal(c.moe.d_shared, 5632);
	df_model_config_release(&c);
	mh_ok(df_model_config_load(&c, put_config("{" QWEN_MOE ",\"mlp_only_layers\":[0,1]}"), err));
	assert_true(c.sparse == NULL && c.moe.n_experts == 0);
	df_model_config_release(&c);
}

static void
test_rope_config(void **state)
{
	struct df_model_config c = { 0 };

	(void)state;
	mh_ok(df_model_config_load(&c,
	    put_config("{" LLAMA ",\"rope_theta\":5e5,\"max_position_embeddings\":131072,\"rope_scaling\":{"
		       "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
		       "\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"}}"),
	    err));
	assert_true(c.rope.type == DF_ROPE_LLAMA3 && c.rope.factor == 8 && c.rope.high_freq_factor == 4);
	assert_int_equal(c.rope.original_max_positions, 8192);
	df_model_config_release(&c);
	mh_ok(df_model_config_load(&c,
	    put_config("{" LLAMA ",\"max_position_embeddings\":64,\"rope_parameters\":{\"rope_theta\":1e4,"
		       "\"factor\":4.0,\"rope_type\":\"yarn\",\"mscale\":1.0,\"mscale_all_dim\":0.5}}"),
	    err));
	assert_true(c.rope.type == DF_ROPE_YARN && c.rope.truncate && c.rope.beta_fast == 32);
	assert_int_equal(c.rope.original_max_positions, 64);
	/* (0.1 m ln 4 + 1) for m = 1 over the same for m = 0.5 */
	assert_true(fabs(c.rope.attention_factor - 1.1386294361119891 / 1.0693147180559945) < 1e-15);
	df_model_config_release(&c);
	mh_ok(df_model_config_load(
	    &c, put_config("{" LLAMA ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}}"), err));
	assert_true(c.rope.type == DF_ROPE_DYNAMIC && c.rope.factor == 2);
	df_model_config_release(&c);
}

static void
test_hostile_config(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *words;
	} t[] = {
		{ "", DF_EFORMAT, "config.json" },
		{ "[]", DF_EFORMAT, "config.json|object" },
		{ "{}", DF_EFORMAT, "config.json|model_type" },
		{ "{\"model_type\":7}", DF_EFORMAT, "config.json|model_type" },
		{ "{\"model_type\":\"gemma2\"," SIZES "}", DF_EUNSUPPORTED, "gemma2|llama, mistral, qwen2" },
		{ "{\"architectures\":[\"LlamaForTokenClassification\"]," LLAMA "}", DF_EUNSUPPORTED,
		    "LlamaForTokenClassification" },
		{ "{\"model_type\":\"llama\"}", DF_EFORMAT, "vocab_size|missing" },
		{ "{\"model_type\":\"llama\"," SIZES "}", DF_EFORMAT, "num_attention_heads|missing" },
		{ "{\"model_type\":\"llama\"," SIZES ",\"num_attention_heads\":0}", DF_ERANGE, "num_attention_heads" },
		{ "{\"model_type\":\"llama\"," SIZES ",\"num_attention_heads\":5}", DF_EFORMAT, "hidden_size|24|5" },
		{ "{\"model_type\":\"llama\"," SIZES ",\"num_attention_heads\":8}", DF_EFORMAT, "head_dim|odd" },
		{ "{" LLAMA ",\"num_key_value_heads\":3}", DF_EFORMAT, "num_key_value_heads|3" },
		{ "{" LLAMA ",\"num_key_value_heads\":-1}", DF_ERANGE, "num_key_value_heads" },
		{ "{" LLAMA ",\"num_key_value_heads\":2.5}", DF_EFORMAT, "num_key_value_heads" },
		{ "{" LLAMA ",\"head_dim\":0}", DF_ERANGE, "head_dim" },
		{ "{" LLAMA ",\"rms_norm_eps\":\"x\"}", DF_EFORMAT, "rms_norm_eps" },
		{ "{" LLAMA ",\"rms_norm_eps\":-1}", DF_ERANGE, "rms_norm_eps" },
		{ "{" LLAMA ",\"rope_theta\":0}", DF_ERANGE, "rope_theta" },
		{ "{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}}", DF_EFORMAT,
		    "rope_scaling.original_max_position_embeddings|missing" },
		{ "{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"longrope\",\"factor\":2}}", DF_EUNSUPPORTED,
		    "rope_scaling|longrope" },
		{ "{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"type\":\"linear\",\"factor\":2}}",
		    DF_EUNSUPPORTED, "rope_scaling|llama3|linear" },
		{ "{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":-2}}", DF_ERANGE,
		    "rope_scaling.factor|-2" },
		{ "{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\"}}", DF_EFORMAT, "rope_scaling.factor|missing" },
		{ "{" LLAMA ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":0.5}}", DF_EUNSUPPORTED,
		    "rope_scaling|dynamic" },
		{ "{" LLAMA ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"attention_factor\":-1}}", DF_ERANGE,
		    "rope_scaling.attention_factor" },
		{ "{" LLAMA ",\"rope_scaling\":7}", DF_EFORMAT, "rope_scaling" },
		{ "{" LLAMA ",\"rope_parameters\":{\"rope_type\":\"mrope\"}}", DF_EUNSUPPORTED,
		    "rope_parameters|mrope" },
		{ "{" LLAMA ",\"rope_parameters\":{\"full_attention\":{}}}", DF_EUNSUPPORTED,
		    "rope_parameters|full_attention" },
		{ "{" LLAMA ",\"partial_rotary_factor\":0.5}", DF_EUNSUPPORTED, "partial_rotary_factor" },
		{ "{" LLAMA ",\"hidden_act\":\"gelu\"}", DF_EUNSUPPORTED, "hidden_act|gelu" },
		{ "{" LLAMA ",\"attention_dropout\":0.1}", DF_EUNSUPPORTED, "attention_dropout" },
		{ "{" LLAMA ",\"quantization_config\":{\"bits\":4}}", DF_EUNSUPPORTED, "quantization_config" },
		{ "{" LLAMA ",\"num_experts\":8}", DF_EUNSUPPORTED, "num_experts" },
		{ "{" LLAMA ",\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", DF_EUNSUPPORTED,
		    "sliding_attention" },
		{ "{" QWEN ",\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", DF_EFORMAT,
		    "layer_types|layer 1" },
		{ "{" QWEN ",\"layer_types\":[\"full_attention\"]}", DF_EFORMAT, "layer_types|2 strings" },
		{ "{" QWEN ",\"layer_types\":[\"full_attention\",\"chunked_attention\"]}", DF_EUNSUPPORTED,
		    "layer_types|chunked_attention" },
		{ "{" MIXTRAL ",\"num_experts_per_tok\":9}", DF_ERANGE, "num_experts_per_tok|9|8" },
		{ "{" MIXTRAL ",\"router_jitter_noise\":0.1}", DF_EUNSUPPORTED, "router_jitter_noise" },
		{ "{" MIXTRAL ",\"output_router_logits\":true}", DF_EUNSUPPORTED, "output_router_logits" },
		{ "{" MIXTRAL ",\"num_local_experts\":0}", DF_ERANGE, "num_local_experts" },
		{ "{" MIXTRAL ",\"num_local_experts\":65536}", DF_ERANGE, "num_local_experts|65536|too many" },
		{ "{" QWEN_MOE ",\"use_sliding_window\":true}", DF_EUNSUPPORTED, "use_sliding_window" },
		{ "{" QWEN_MOE ",\"mlp_only_layers\":1}", DF_EFORMAT, "mlp_only_layers" },
		{ "{" LLAMA ",\"attn_logit_softcapping\":30.0}", DF_EUNSUPPORTED, "attn_logit_softcapping" },
		{ "{" LLAMA ",\"tie_word_embeddings\":1}", DF_EFORMAT, "tie_word_embeddings" },
		{ "{" LLAMA ",\"pad_token_id\":\"x\"}", DF_EFORMAT, "pad_token_id" },
		{ "{" LLAMA ",\"pad_token_id\":-62}", DF_ERANGE, "pad_token_id|-62|vocabulary of 61" },
		{ "{" LLAMA ",\"vocab_size\":99999999999}", DF_ERANGE, "vocab_size" },
	};
	struct df_model_config c = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		mh_refused(df_model_config_load(&c, put_config(t[i].text), err), t[i].code, t[i].words);
	mh_refused(df_model_config_load(&c, mh_scratch(), err), DF_ENOINPUT, "config.json");
}

/* Sizes that are each allowed, but whose model cannot exist: refused before anything is allocated in earnest. */
static void
test_huge_config(void **state)
{
	struct df_model *m = NULL;

	(void)state;
	mh_refused(
	    df_model_init(&m,
		put_config(
		    "{\"model_type\":\"llama\",\"vocab_size\":16777216,\"hidden_size\":16777216,"
		    "\"intermediate_size\":16777216,\"num_hidden_layers\":16384,\"num_attention_heads\":16777216,"
		    "\"head_dim\":16777216}"),
		1, mh_backend(), err),
	    DF_ERANGE, "cfg");
	mh_refused(df_model_init(&m,
		       put_config("{\"model_type\":\"llama\",\"vocab_size\":16777216,\"hidden_size\":8388608,"
				  "\"intermediate_size\":1,\"num_hidden_layers\":1,\"num_attention_heads\":4}"),
		       1, mh_backend(), err),
	    DF_ENOMEM, "cfg|weights");
}

/* ---- adapters ------------------------------------------------------------------ */

static void
adapter(const char *members)
{
	char *from = mh_path("qwen2", "adapter"), *text = NULL, *weights = NULL;
	size_t n;

	mh_ok(df_asprintf(&text, err, "{\"peft_type\":\"LORA\",\"task_type\":\"CAUSAL_LM\",%s}", members));
	mh_ok(df_file_put(join(subdir("adapter"), "adapter_config.json"), text, strlen(text), err));
	mh_ok(df_file_get(join(from, "adapter_model.safetensors"), 1 << 20, &weights, &n, err));
	mh_ok(df_file_put(join(subdir("adapter"), "adapter_model.safetensors"), weights, n, err));
	free(weights);
	free(text);
	free(from);
}

#define ALL  "\"target_modules\":[\"q_proj\",\"k_proj\",\"v_proj\",\"o_proj\",\"gate_proj\",\"up_proj\",\"down_proj\"]"
#define LORA "\"r\":4,\"lora_alpha\":8," ALL

static void
test_adapters(void **state)
{
	static const struct {
		const char *members;
		int code;
		const char *words;
	} t[] = {
		{ LORA, DF_OK, NULL },
		{ LORA ",\"unknown_key\":{\"a\":1},\"rank_pattern\":{},\"modules_to_save\":[],\"use_dora\":false",
		    DF_OK, NULL },
		{ "\"r\":4,\"lora_alpha\":8,\"target_modules\":\"all-linear\"", DF_OK, NULL },
		{ "\"r\":4,\"lora_alpha\":8,\"target_modules\":\".*proj\"", DF_OK, NULL },
		{ "\"r\":4,\"lora_alpha\":8,\"target_modules\":\".*(q|k|v|o|gate|up|down)_proj\"", DF_OK, NULL },
		{ "\"r\":4,\"lora_alpha\":8,\"target_modules\":\"q_proj\"", DF_EUNSUPPORTED,
		    "adapter_config.json|target_modules|q_proj|no projection" },
		{ "\"r\":4,\"lora_alpha\":8,\"target_modules\":\"(.*proj\"", DF_EFORMAT,
		    "adapter_config.json|target_modules|(.*proj" },
		{ "\"r\":4,\"lora_alpha\":8,\"target_modules\":\"([a-z0-9_]+|[.])*[!?]\"", DF_EUNSUPPORTED,
		    "target_modules|too long" },
		{ "\"r\":4,\"lora_alpha\":8,\"target_modules\":[\"lm_head\"]", DF_EUNSUPPORTED,
		    "target_modules|lm_head" },
		{ "\"r\":4,\"lora_alpha\":8,\"target_modules\":[7]", DF_EFORMAT, "target_modules|entry 0" },
		{ "\"r\":4,\"lora_alpha\":8", DF_EFORMAT, "target_modules" },
		{ LORA ",\"use_dora\":true", DF_EUNSUPPORTED, "use_dora" },
		{ LORA ",\"use_rslora\":1", DF_EFORMAT, "use_rslora" },
		{ LORA ",\"use_rslora\":true,\"lora_dropout\":0.5", DF_OK, NULL },
		{ LORA ",\"lora_dropout\":1", DF_ERANGE, "dropout" },
		{ LORA ",\"lora_dropout\":-0.1", DF_ERANGE, "dropout" },
		{ LORA ",\"bias\":\"all\"", DF_EUNSUPPORTED, "bias|all" },
		{ LORA ",\"lora_bias\":true", DF_EUNSUPPORTED, "lora_bias" },
		{ LORA ",\"rank_pattern\":{\"q_proj\":8}", DF_EFORMAT, "q_proj.lora_A|[4,32]|[8,32]" },
		{ LORA ",\"rank_pattern\":{\"proj\":8,\"(a|b)\":7,\"1.q_proj\":9}", DF_OK,
		    NULL }, /* none is a whole part */
		{ LORA ",\"rank_pattern\":{\"q_proj\":0}", DF_ERANGE, "rank_pattern|q_proj|integer" },
		{ LORA ",\"rank_pattern\":{\"q_proj\":2.5}", DF_ERANGE, "rank_pattern|q_proj|integer" },
		{ LORA ",\"rank_pattern\":{\"q_proj\":1e9}", DF_ERANGE, "rank_pattern|q_proj|65536" },
		{ LORA ",\"rank_pattern\":{\"q_proj\":\"4\"}", DF_ERANGE, "rank_pattern|q_proj" },
		{ LORA ",\"rank_pattern\":[4]", DF_EFORMAT, "rank_pattern|an object" },
		{ LORA ",\"rank_pattern\":{\"(q_proj\":4}", DF_EFORMAT, "rank_pattern|(q_proj" },
		{ LORA ",\"rank_pattern\":{\"([a-z0-9_]+|[.])*[!?]\":4}", DF_EUNSUPPORTED, "rank_pattern|too long" },
		{ LORA ",\"alpha_pattern\":{\"q_proj\":8,\".*layers.1.*\":0.5}", DF_OK, NULL },
		{ LORA ",\"alpha_pattern\":{\"q_proj\":0}", DF_ERANGE, "alpha_pattern|q_proj" },
		{ LORA ",\"alpha_pattern\":{\"q_proj\":-1}", DF_ERANGE, "alpha_pattern|q_proj" },
		{ LORA ",\"modules_to_save\":[\"lm_head\"]", DF_EUNSUPPORTED, "modules_to_save|lm_head|tie" },
		{ LORA ",\"modules_to_save\":[\"embed_tokens\"]", DF_EUNSUPPORTED, "modules_to_save|embed_tokens|tie" },
		{ LORA ",\"modules_to_save\":[\"classifier\"]", DF_EUNSUPPORTED, "modules_to_save|classifier" },
		{ LORA ",\"modules_to_save\":\"norm\"", DF_EFORMAT, "modules_to_save|list" },
		{ LORA ",\"modules_to_save\":[\"a,b\"]", DF_EFORMAT, "modules_to_save|entry 0" },
		{ LORA ",\"modules_to_save\":[\"norm\"]", DF_EFORMAT, "norm.weight|missing" },
		{ LORA ",\"layers_to_transform\":[0]", DF_EFORMAT, "model.layers.1|belongs to no parameter" },
		{ LORA ",\"layers_to_transform\":0", DF_EFORMAT, "model.layers.1|belongs to no parameter" },
		{ LORA ",\"layers_to_transform\":[0,1]", DF_OK, NULL },
		{ LORA ",\"layers_to_transform\":[]", DF_OK, NULL },
		{ LORA ",\"layers_to_transform\":[0,1,7],\"layers_pattern\":[\"h\",\"layers\"]", DF_OK, NULL },
		{ LORA ",\"layers_to_transform\":[0,1],\"layers_pattern\":\"\"", DF_OK, NULL },
		{ LORA ",\"layers_to_transform\":[0,1],\"layers_pattern\":\"h\"", DF_EUNSUPPORTED,
		    "layers_to_transform|leave no projection" },
		{ LORA ",\"layers_to_transform\":[7]", DF_EUNSUPPORTED, "layers_to_transform|leave no projection" },
		{ LORA ",\"layers_to_transform\":[0,\"1\"]", DF_EFORMAT, "layers_to_transform|an integer" },
		{ LORA ",\"layers_to_transform\":[0],\"layers_pattern\":\"l.*\"", DF_EUNSUPPORTED,
		    "layers_pattern|l.*" },
		{ LORA ",\"layers_to_transform\":[0],\"layers_pattern\":[1]", DF_EFORMAT, "layers_pattern|a string" },
		{ "\"r\":4,\"lora_alpha\":8,\"target_modules\":\".*proj\",\"layers_to_transform\":[0]", DF_EFORMAT,
		    "layers_to_transform|beside a pattern" },
		{ "\"r\":4,\"lora_alpha\":8,\"target_modules\":[\"q_proj\",\"lm_head\"],\"layers_to_transform\":[0]",
		    DF_EUNSUPPORTED, "target_modules|lm_head" },
		{ LORA ",\"exclude_modules\":[\"up_proj\"]", DF_EFORMAT, "up_proj.lora_A|belongs to no parameter" },
		{ LORA ",\"exclude_modules\":[\"embed_tokens\",\"lm_head\",\"roj\"]", DF_OK, NULL },
		{ LORA ",\"exclude_modules\":\".*(embed_tokens|lm_head)\"", DF_OK, NULL },
		{ LORA ",\"exclude_modules\":\".*\"", DF_EUNSUPPORTED, "exclude_modules|leave no projection" },
		{ LORA ",\"exclude_modules\":\"(\"", DF_EFORMAT, "exclude_modules|pattern" },
		{ LORA ",\"exclude_modules\":\"([a-z0-9_]+|[.])*[!?]\"", DF_EUNSUPPORTED, "exclude_modules|too long" },
		{ LORA ",\"exclude_modules\":[3]", DF_EFORMAT, "exclude_modules|entry 0" },
		{ LORA ",\"trainable_token_indices\":[1,2]", DF_EUNSUPPORTED, "trainable_token_indices" },
		{ LORA ",\"trainable_token_indices\":{\"embed_tokens\":[1]}", DF_EUNSUPPORTED,
		    "trainable_token_indices" },
		{ LORA ",\"target_parameters\":[\"mlp.experts.gate_up_proj\"]", DF_EUNSUPPORTED, "target_parameters" },
		{ LORA ",\"layer_replication\":[[0,2],[1,2]]", DF_EUNSUPPORTED, "layer_replication" },
		{ LORA ",\"use_qalora\":true", DF_EUNSUPPORTED, "use_qalora" },
		{ LORA ",\"alora_invocation_tokens\":[5]", DF_EUNSUPPORTED, "alora_invocation_tokens" },
		{ "\"r\":4,\"lora_alpha\":8,\"target_modules\":[\"embed_tokens\"]", DF_EUNSUPPORTED,
		    "target_modules|embed_tokens" },
		{ LORA ",\"fan_in_fan_out\":true", DF_EUNSUPPORTED, "fan_in_fan_out" },
		{ LORA ",\"init_lora_weights\":\"pissa\"", DF_EUNSUPPORTED, "init_lora_weights|pissa" },
		{ LORA ",\"peft_type\":\"IA3\"", DF_EUNSUPPORTED, "peft_type|IA3" },
		{ LORA ",\"task_type\":\"SEQ_CLS\"", DF_EUNSUPPORTED, "task_type|SEQ_CLS" },
		{ "\"r\":0,\"lora_alpha\":8," ALL, DF_ERANGE, "'r'" },
		{ "\"r\":4,\"lora_alpha\":-8," ALL, DF_ERANGE, "alpha" },
		{ "\"r\":5,\"lora_alpha\":8," ALL, DF_EFORMAT, "adapter_model.safetensors|lora_A|[4,32]|[5,32]" },
		{ "\"r\":4,\"lora_alpha\":8,\"target_modules\":[\"q_proj\"]", DF_EFORMAT,
		    "adapter_model.safetensors|no parameter" },
	};
	char *base = mh_path("qwen2", NULL), *other = mh_path("llama", NULL);
	struct df_model *m = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		adapter(t[i].members);
		if (t[i].code == DF_OK) {
			mh_ok(df_model_open(&m, subdir("adapter"), base, mh_backend(), err));
			df_model_free(m);
			m = NULL;
		} else {
			mh_refused(
			    df_model_open(&m, subdir("adapter"), base, mh_backend(), err), t[i].code, t[i].words);
		}
	}
	adapter(LORA ",\"base_model_name_or_path\":\"some-org/some-model\"");
	mh_refused(df_model_open(&m, subdir("adapter"), NULL, mh_backend(), err), DF_ENOINPUT, "some-org/some-model");
	adapter(LORA);
	mh_refused(
	    df_model_open(&m, subdir("adapter"), NULL, mh_backend(), err), DF_EFORMAT, "base_model_name_or_path");
	/* Another base: the first adapter that does not fit is named. */
	mh_refused(
	    df_model_open(&m, subdir("adapter"), other, mh_backend(), err), DF_EFORMAT, "k_proj.lora_B|[16,4]|[32,4]");
	free(base);
	free(other);
}

/* ---- moments --------------------------------------------------------------------- */

static void
test_moments(void **state)
{
	char *base = mh_path("qwen2", NULL), *lora = mh_path("qwen2", "adapter"), *dir = strdup(subdir("moments")),
	     *again;
	struct df_moments o = { 0 }, got = { 0 };
	struct df_model *m = NULL, *adapted = NULL, *other = NULL;
	const float *grad;
	float *x = NULL;
	struct mh_batch b;
	struct df_work *w = NULL;
	size_t n;

	(void)state;
	mh_ok(df_model_open(&m, base, NULL, mh_backend(), err));
	mh_refused(df_moments_load(&got, m, dir, err), DF_ENOINPUT, "optimizer.safetensors|save_only_model");
	mh_ok(df_moments_init(&o, m, err));
	assert_true(o.step == 0 && o.beta1 == 0.9 && o.beta2 == 0.999 && o.eps == 1e-8);
	n = df_model_train(m)->numel;
	mh_batch_random(&b, (size_t[]){ 9, 4 }, 2, 100, 1);
	mh_ok(df_work_new(&w, m, err));
	grad = mh_batch_grad(m, w, &b.b, (float[]){ 0.1f, 0.3f });
	mh_ok(df_upload(mh_backend(), o.m, grad, err));
	o.step = 12345;
	o.beta2 = 0.95;
	o.eps = 1e-6;
	mh_ok(df_moments_save(&o, m, dir, err));
	mh_ok(df_moments_load(&got, m, dir, err));
	assert_true(got.step == 12345 && got.beta1 == 0.9 && got.beta2 == 0.95 && got.eps == 1e-6);
	mh_ok(df_alloc(&x, n, sizeof(*x), "moments", err));
	mh_ok(df_download(mh_backend(), x, got.m, err));
	assert_memory_equal(x, grad, n * sizeof(*x));
	mh_ok(df_download(mh_backend(), x, got.v, err));
	for (size_t i = 0; i < n; i++)
		assert_true(x[i] == 0);
	again = strdup(subdir("again"));
	mh_ok(df_moments_save(&got, m, again, err));
	assert_true(same_file(dir, again, "optimizer.safetensors"));
	df_moments_release(&got, m);

	/* Moments of full fine-tuning are of no use to an adapter, nor to another model. */
	mh_ok(df_model_open(&adapted, lora, NULL, mh_backend(), err));
	mh_refused(df_moments_load(&got, adapted, dir, err), DF_EFORMAT, "optimizer.safetensors|exp_avg.model.");
	free(base);
	base = mh_path("qwen2-untied", NULL);
	mh_ok(df_model_open(&other, base, NULL, mh_backend(), err));
	mh_refused(df_moments_load(&got, other, dir, err), DF_EFORMAT,
	    "optimizer.safetensors|exp_avg.model.embed_tokens|[103,32]");
	df_moments_release(&o, m);
	df_work_free(w);
	mh_batch_release(&b);
	df_model_free(m);
	df_model_free(adapted);
	df_model_free(other);
	free(x);
	free(base);
	free(lora);
	free(dir);
	free(again);
}

/* A tensor is read in several runs: a NaN is found wherever it is, and counted from the tensor's first element. */
static void
test_long_tensors(void **state)
{
	const char *config = mh_config("long", 9000, 64, 96, 1, 2, 1, NULL);
	static const size_t at[] = { 0, 127, 128, (1 << 19) - 1, 1 << 19, (1 << 19) + 1, 9000 * 64 - 1 };
	struct df_moments o = { 0 }, got = { 0 };
	struct df_model *m = NULL;
	char *dir = strdup(subdir("moments"));
	float x = NAN, *want = NULL, *have = NULL;
	char words[100];
	size_t n;

	(void)state;
	mh_ok(df_model_init(&m, config, 1, mh_backend(), err));
	n = df_model_train(m)->numel;
	mh_ok(df_moments_init(&o, m, err));
	mh_ok(df_alloc(&want, n, sizeof(*want), "moments", err));
	mh_ok(df_alloc(&have, n, sizeof(*have), "moments", err));
	for (size_t i = 0; i < n; i++)
		want[i] = (float)df_rng_normal(1, DF_RNG_INIT, 0, i);
	mh_ok(df_upload(mh_backend(), o.m, want, err));
	mh_ok(df_moments_save(&o, m, dir, err));
	mh_ok(df_moments_load(&got, m, dir, err));
	mh_ok(df_download(mh_backend(), have, got.m, err));
	assert_memory_equal(have, want, n * sizeof(*have));
	df_moments_release(&got, m);
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		struct df_tensor t = df_tensor_view(o.v, at[i], 1, 1);

		mh_ok(df_upload(mh_backend(), t, &x, err));
		mh_ok(df_moments_save(&o, m, dir, err));
		snprintf(words, sizeof(words), "exp_avg_sq.model.embed_tokens.weight|element %zu is |nan", at[i]);
		mh_refused(df_moments_load(&got, m, dir, err), DF_EFORMAT, words);
		assert_true(df_tensor_is_none(got.m));
		mh_ok(df_fill(mh_backend(), t, 0, err));
		mh_ok(df_sync(mh_backend(), err));
	}
	df_moments_release(&o, m);
	df_model_free(m);
	free(want);
	free(have);
	free(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_save_base, mh_cleanup),
		cmocka_unit_test_teardown(test_save_adapter, mh_cleanup),
		cmocka_unit_test_teardown(test_layouts, mh_cleanup),
		cmocka_unit_test_teardown(test_bad_weights, mh_cleanup),
		cmocka_unit_test_teardown(test_own_head, mh_cleanup),
		cmocka_unit_test_teardown(test_no_head, mh_cleanup),
		cmocka_unit_test_teardown(test_config, mh_cleanup),
		cmocka_unit_test_teardown(test_families, mh_cleanup),
		cmocka_unit_test_teardown(test_rope_config, mh_cleanup),
		cmocka_unit_test_teardown(test_hostile_config, mh_cleanup),
		cmocka_unit_test_teardown(test_huge_config, mh_cleanup),
		cmocka_unit_test_teardown(test_adapters, mh_cleanup),
		cmocka_unit_test_teardown(test_moments, mh_cleanup),
		cmocka_unit_test_teardown(test_long_tensors, mh_cleanup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
