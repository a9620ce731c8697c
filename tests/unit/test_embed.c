/*
 * Embeddings against sentence-transformers and transformers (tests/golden/embed.py), on the backend that
 * DF_TEST_DEVICE names; and what must not change a bit of them.
 */
#include "model_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "embed/embed.h"
#include "embed/source.h"
#include "token/lower.h"

#define ROWS 10

/* Both sides compute in float32; sums run over at most 64 numbers of the order of the largest. */
#define TOL 2e-6

static const char *
golden(const char *name)
{
	static char path[512];
	const char *src = getenv("DF_SRCDIR");

	snprintf(path, sizeof(path), "%s/tests/golden/embed/%s", src ? src : ".", name);
	return path;
}

/* The vectors of the texts (or, `tokens`, of the ids that transformers saw). */
static float *
embed(const char *model, struct df_embed_opts o, size_t *width)
{
	char dir[512], texts[512], expected[600];
	const char *paths[1] = { texts };
	const struct df_embed_source_opts so = { .paths = paths, .n_paths = 1, .column = "text" };
	struct df_embed_block b = DF_EMBED_BLOCK_INIT;
	struct df_embed_source *s = NULL;
	struct df_embedder *e = NULL;
	struct df_embed_lane *l = NULL;
	struct df_st *st = NULL;
	float *v;

	snprintf(texts, sizeof(texts), "%s", golden("texts.jsonl"));
	snprintf(dir, sizeof(dir), "%s", golden(model));
	snprintf(expected, sizeof(expected), "%s/expected.safetensors", dir);
	if (!o.model)
		o.model = dir;
	mh_ok(df_embedder_open(&e, &o, mh_backend(), err));
	mh_ok(df_embed_lane_new(&l, e, err));
	*width = df_embedder_width(e);
	v = malloc(sizeof(float) * ROWS * *width);
	assert_non_null(v);
	if (o.texts) {
		mh_ok(df_embed_source_open(&s, &so, err));
		assert_int_equal(df_embed_source_blocks(s), 1);
		assert_int_equal(df_embed_next(s, &b, NULL), 1);
		mh_ok(df_embed_block(s, l, &b, err));
		assert_int_equal(b.out.n, ROWS);
		memcpy(v, b.out.col[DF_COL_EMBEDDING].data, sizeof(float) * ROWS * *width);
	} else {
		const struct df_st_tensor *ids, *offsets;
		const uint64_t name[ROWS] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 };
		struct df_embed_flaws flaws = { 0 };
		struct df_tokens t = { .n = ROWS };

		mh_ok(df_st_open(&st, expected, err));
		ids = df_st_find(st, "ids");
		offsets = df_st_find(st, "offsets");
		assert_true(ids && offsets);
		t.ids = ids->data;
		t.offsets = offsets->data;
		mh_ok(df_embed_rows(l, &t, name, v, &flaws, err));
		assert_int_equal(flaws.n_empty + flaws.n_cut + flaws.n_not_finite, 0);
	}
	df_embed_block_release(&b);
	df_st_close(st);
	df_embed_source_close(s);
	df_embed_lane_free(l);
	df_embedder_close(e);
	return v;
}

static void
expect(const char *model, const char *name, struct df_embed_opts o)
{
	char path[600];
	const struct df_st_tensor *want;
	struct df_st *st = NULL;
	double worst = 0, scale = 0;
	size_t width;
	float *v = embed(model, o, &width);

	snprintf(path, sizeof(path), "%s/expected.safetensors", golden(model));
	mh_ok(df_st_open(&st, path, err));
	want = df_st_find(st, name);
	assert_non_null(want);
	assert_int_equal(want->shape[1], width);
	for (size_t i = 0; i < ROWS * width; i++) {
		const double x = (double)((const float *)want->data)[i];

		worst = fmax(worst, fabs(x - (double)v[i]));
		scale = fmax(scale, fabs(x));
	}
	print_message(
	    "# %s %s%s: max difference %.2g of %.2g\n", model, name, o.texts ? "" : " (tokens)", worst, scale);
	assert_true(worst <= mh_bound(TOL, 4e-2) * scale);
	df_st_close(st);
	free(v);
}

static void
test_golden(void **state)
{
	static const char *const models[] = { "bert", "qwen3" };
	const struct df_embed_opts text = { .texts = true, .layer = -1, .normalise = -1 };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct df_embed_opts o = text;

		expect(models[i], "st", o);
		o.texts = false;
		expect(models[i], "st", o);
		o = text;
		o.prompt_name = "query";
		expect(models[i], "prompt", o);
		o = text;
		o.prompt = i ? "Instruct: find it\nQuery:" : "query: ";
		expect(models[i], "prompt", o);
		o = text;
		o.truncate_dim = 12;
		expect(models[i], "dim", o);
		o = text;
		o.normalise = 0;
		o.pooling = DF_POOL_CLS;
		expect(models[i], "cls", o);
		o.pooling = DF_POOL_LAST;
		expect(models[i], "last", o);
		o.pooling = DF_POOL_WEIGHTED;
		expect(models[i], "position", o);
		o.pooling = DF_POOL_MEAN;
		for (int layer = 0; layer <= 2; layer++) {
			char name[32];

			snprintf(name, sizeof(name), "layer.%d", layer);
			o.layer = layer;
			expect(models[i], name, o);
			o.layer = layer - 3;
			expect(models[i], name, o);
		}
	}
}

/* A row alone, or in any batch, has the same vector, to the bit. */
static void
test_batches(void **state)
{
	static const uint64_t sizes[] = { 1, 7, 30, 1000 };

	(void)state;
	for (int m = 0; m < 2; m++) {
		struct df_embed_opts o = { .texts = true, .layer = -1, .normalise = -1 };
		size_t width;
		float *first = embed(m ? "qwen3" : "bert", o, &width);

		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			float *v;

			o.batch_tokens = sizes[i];
			v = embed(m ? "qwen3" : "bert", o, &width);
			mh_assert_same(v, first, ROWS * width);
			free(v);
		}
		/* Rows 0 and 8 are the same text. */
		mh_assert_same(first, first + 8 * width, width);
		free(first);
	}
}

/* ---- other spellings of the same weights ------------------------------------------ */

/* The tiny BERT with the names of old checkpoints, under "bert.", with what a pretraining head adds. */
static void
write_old(const char *dir)
{
	char path[600], name[256];
	struct df_st_writer *w = NULL;
	struct df_st *st = NULL;
	uint64_t shape[8] = { 32 };
	float zero[32] = { 0 };

	snprintf(path, sizeof(path), "%s/model.safetensors", golden("bert"));
	mh_ok(df_st_open(&st, path, err));
	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	mh_ok(df_st_create(&w, path, err));
	for (size_t i = 0; i < df_st_count(st); i++) {
		const struct df_st_tensor *t = df_st_at(st, i);
		const char *norm = strstr(t->name, "LayerNorm.");

		if (norm)
			snprintf(name, sizeof(name), "bert.%.*sLayerNorm.%s", (int)(norm - t->name), t->name,
			    strcmp(norm, "LayerNorm.weight") == 0 ? "gamma" : "beta");
		else
			snprintf(name, sizeof(name), "bert.%s", t->name);
		mh_ok(df_st_add(w, name, t->type, t->shape, t->rank, err));
	}
	mh_ok(df_st_add(w, "cls.predictions.transform.LayerNorm.gamma", DF_ST_F32, shape, 1, err));
	for (size_t i = 0; i < df_st_count(st); i++)
		mh_ok(df_st_write(w, df_st_at(st, i)->data, df_st_at(st, i)->nbytes, err));
	mh_ok(df_st_write(w, zero, sizeof(zero), err));
	mh_ok(df_st_commit(w, err));
	df_st_close(st);
}

static void
copy(const char *dir, const char *name)
{
	char from[600], to[600];
	char *data;
	size_t n;

	snprintf(from, sizeof(from), "%s/%s", golden("bert"), name);
	snprintf(to, sizeof(to), "%s/%s", dir, name);
	mh_ok(df_file_get(from, 1 << 20, &data, &n, err));
	mh_ok(df_file_put(to, data, n, err));
	free(data);
}

static void
test_names(void **state)
{
	static const char *const files[] = { "config.json", "tokenizer.json", "tokenizer_config.json" };
	struct df_embed_opts o = { .texts = true, .layer = -1, .normalise = -1, .max_length = 24 };
	const char *dir = mh_scratch();
	size_t width;
	float *want, *v;

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		copy(dir, files[i]);
	write_old(dir);
	want = embed("bert", o, &width);
	o.model = dir; /* without modules.json: the mean, of length one, as the tiny model's own says */
	v = embed("bert", o, &width);
	mh_assert_same(v, want, ROWS * width);
	free(want);
	free(v);
}

/* ---- what cannot be --------------------------------------------------------------------- */

static void
refused(const char *model, struct df_embed_opts o, int code, const char *says)
{
	struct df_err why = DF_ERR_INIT;
	struct df_embedder *e = NULL;
	char dir[512];

	snprintf(dir, sizeof(dir), "%s", golden(model));
	o.model = dir;
	assert_int_equal(df_embedder_open(&e, &o, mh_backend(), &why), code);
	assert_null(e);
	if (!strstr(why.msg, says))
		fail_msg("'%s' does not say '%s'", why.msg, says);
}

static void
test_options(void **state)
{
	const struct df_embed_opts plain = { .texts = true, .layer = -1, .normalise = -1 };
	struct df_embed_opts o = plain;
	enum df_pooling p;
	size_t at;

	(void)state;
	o.layer = 3;
	refused("bert", o, DF_EUSAGE, "layer 3: the model has 2");
	o.layer = -4;
	refused("qwen3", o, DF_EUSAGE, "layer -4");
	o = plain;
	o.truncate_dim = 33;
	refused("bert", o, DF_EUSAGE, "32 numbers");
	o = plain;
	o.max_length = 41;
	refused("bert", o, DF_EUSAGE, "40 tokens");
	o.max_length = 2;
	refused("bert", o, DF_EUSAGE, "no room");
	o = plain;
	o.prompt_name = "nope";
	refused("bert", o, DF_EUSAGE, "query, document, passage");
	o.texts = false;
	refused("bert", o, DF_EUSAGE, "tokens are taken as they are");
	assert_int_equal(df_pooling_parse("position:12", &p, &at, NULL), 0);
	assert_int_equal(p, DF_POOL_POSITION);
	assert_int_equal(at, 12);
	assert_int_equal(df_pooling_parse("max", &p, &at, NULL), DF_EUSAGE);
	assert_int_equal(df_pooling_parse("position:-1", &p, &at, NULL), DF_EUSAGE);
}

/* Empty rows have zeros; a position that a row lacks, packed rows and ids beyond the vocabulary are errors. */
static void
test_rows(void **state)
{
	static const uint32_t ids[] = { 2, 30, 31, 3, 2, 3 }, sequence[] = { 0, 0, 1, 1, 2, 2 };
	static const uint64_t offsets[] = { 0, 4, 4, 6 }, name[] = { 70, 71, 72 };
	struct df_embed_opts o = { .layer = -1, .normalise = -1, .pooling = DF_POOL_POSITION, .position = 1 };
	struct df_tokens t = { .n = 3, .offsets = offsets, .ids = ids };
	struct df_embed_flaws flaws = { 0 };
	struct df_err why = DF_ERR_INIT;
	struct df_embedder *e;
	struct df_embed_lane *l;
	const uint32_t beyond[] = { 2, 30, 31, 100, 2, 3 };
	float v[3 * 32];

	(void)state;
	for (o.position = 1; o.position <= 2; o.position++) {
		o.model = golden("bert");
		mh_ok(df_embedder_open(&e, &o, mh_backend(), err));
		mh_ok(df_embed_lane_new(&l, e, err));
		if (o.position == 1) {
			mh_ok(df_embed_rows(l, &t, name, v, &flaws, err));
			assert_int_equal(flaws.n_empty, 1);
			assert_int_equal(flaws.n_tokens, 6);
			for (int i = 0; i < 32; i++)
				assert_true(v[32 + i] == 0);
			t.sequence = sequence;
			assert_int_equal(df_embed_rows(l, &t, name, v, &flaws, &why), DF_EUNSUPPORTED);
			t.sequence = NULL;
			t.ids = beyond;
			assert_int_equal(df_embed_rows(l, &t, name, v, &flaws, &why), DF_EFORMAT);
			assert_non_null(strstr(why.msg, "token 100"));
			t.ids = ids;
		} else {
			assert_int_equal(df_embed_rows(l, &t, name, v, &flaws, &why), DF_ERANGE);
			assert_non_null(strstr(why.msg, "sample 72: pooling at position 2: it has 2 tokens"));
		}
		df_embed_lane_free(l);
		df_embedder_close(e);
	}
}

/* An encoder has no losses and no gradients, and says so. */
static void
test_no_losses(void **state)
{
	static const uint32_t ids[] = { 2, 30, 3 };
	static const uint64_t offsets[] = { 0, 3 };
	static const uint8_t mask[] = { 0, 1, 1 };
	static const char *const models[] = { "bert", "qwen3" };
	const struct df_tokens t = { .n = 1, .offsets = offsets, .ids = ids, .mask = mask };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct df_err why = DF_ERR_INIT;
		struct df_model *m;
		struct df_work *w;
		struct df_losses out = { 0 };

		mh_ok(df_model_open(&m, golden(models[i]), NULL, mh_backend(), err));
		mh_ok(df_work_new(&w, m, err));
		assert_int_equal(df_model_loss(m, w, &t, &out, &why), DF_EUNSUPPORTED);
		assert_non_null(strstr(why.msg, i ? "no head" : "df-embed"));
		assert_int_equal(df_model_sample_grads(m, w, &t, NULL, NULL, &out, &why), DF_EUNSUPPORTED);
		df_work_free(w);
		df_model_free(m);
	}
}

/* What Python 3.11 makes of them with str.lower(). */
static void
test_lower(void **state)
{
	static const char *const cases[][2] = {
		{ "ABC", "abc" },
		{ "Straße ÀÉ", "straße àé" },
		{ "İstanbul", "i̇stanbul" },
		{ "ΑΣ", "ας" },
		{ "ΣΑ ΟΔΟΣ. ΣΟΦΟΣ’Σ Σ", "σα οδος. σοφοσ’ς σ" },
		{ "ΑΣ1", "ας1" },
		{ "ΑΣ́Α", "ασ́α" },
		{ "Ǆ ǅ", "ǆ ǆ" },
		{ "KK ÅÅ", "kk åå" },
		{ "日本 ĲЖ", "日本 ĳж" },
		{ "ⅣΣ ⒶΣ ªΣ 4Σ", "ⅳς ⓐς ªς 4σ" },
		{ "Α．Σ Α·Σ Σ‧Α", "α．ς α·ς σ‧α" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct df_buf out = DF_BUF_INIT;

		mh_ok(df_text_lower(&out, cases[i][0], strlen(cases[i][0]), err));
		assert_string_equal(out.data, cases[i][1]);
		df_buf_release(&out);
	}
	mh_refused(df_text_lower(&(struct df_buf)DF_BUF_INIT, "ab\xff", 3, err), DF_EFORMAT, "byte 2");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_batches),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_no_losses),
		cmocka_unit_test(test_lower),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, mh_cleanup);
}
