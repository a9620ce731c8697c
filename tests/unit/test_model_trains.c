/*
 * test_model_trains.c - weights at rest in a file's own type, and what trains: all of them, a part, adapters and
 * modules beside them; against PEFT (tests/golden/lora.py), against the full gradient, against finite differences.
 * Runs on the backend in DF_TEST_DEVICE.
 */
#include "model_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

/* As in test_model.c: float32 on both sides, sums in different orders. */
#define TOL 1e-4

static const size_t lengths[] = { 7, 3, 12, 5 };
#define N_SAMPLES 4
static const float scale[N_SAMPLES] = { 0.1f, 0.3f, 0.05f, 0.2f };

static char *
path(const char *fmt, const char *name)
{
	const char *root = getenv("DF_SRCDIR");
	char *rest = NULL, *p = NULL;

	mh_ok(df_asprintf(&rest, err, fmt, name));
	mh_ok(df_asprintf(&p, err, "%s/tests/golden/lora/%s", root != NULL ? root : ".", rest));
	free(rest);
	return p;
}

static char *
scratch(const char *name)
{
	char *p = NULL;

	mh_ok(df_asprintf(&p, err, "%s/%s", mh_scratch(), name));
	mh_ok(df_mkdirs(p, err));
	return p;
}

struct run {
	struct df_model *m;
	struct df_work *w;
	struct mh_batch batch;
};

static void
start(struct run *r, const char *dir)
{
	memset(r, 0, sizeof(*r));
	mh_ok(df_model_open(&r->m, dir, NULL, mh_backend(), err));
	mh_batch_random(&r->batch, lengths, N_SAMPLES, df_model_config(r->m)->n_vocab, 11);
}

static void
finish(struct run *r)
{
	mh_batch_release(&r->batch);
	df_work_free(r->w);
	df_model_free(r->m);
}

static const float *
batch_grad(struct run *r)
{
	if (r->w == NULL)
		mh_ok(df_work_new(&r->w, r->m, err));
	return mh_batch_grad(r->m, r->w, &r->batch.b, scale);
}

/* ---- at rest ------------------------------------------------------------------ */

static enum df_st_type
file_type(const char *dir, const char *name)
{
	char *p = NULL;
	struct df_st *st = NULL;
	const struct df_st_tensor *t;
	enum df_st_type type;

	mh_ok(df_asprintf(&p, err, "%s/model.safetensors", dir));
	mh_ok(df_st_open(&st, p, err));
	t = df_st_find(st, name);
	assert_non_null(t);
	type = t->type;
	df_st_close(st);
	free(p);
	return type;
}

static char *
text_of(const char *dir, const char *name)
{
	char *p = NULL, *text = NULL;
	size_t n;

	mh_ok(df_path_join(&p, dir, name, err));
	mh_ok(df_file_get(p, 1 << 20, &text, &n, err));
	free(p);
	return text;
}

static void
put_text(const char *dir, const char *name, const char *text)
{
	char *p = NULL;

	mh_ok(df_path_join(&p, dir, name, err));
	mh_ok(df_file_put(p, text, strlen(text), err));
	free(p);
}

static void
check_same(const struct run *a, const struct run *b, const char *what)
{
	struct mh_grads ga, gb;

	mh_sample_grads(&ga, a->m, a->w, &a->batch.b, NULL);
	mh_sample_grads(&gb, b->m, b->w, &b->batch.b, NULL);
	assert_int_equal(ga.numel, gb.numel);
	for (size_t s = 0; s < N_SAMPLES; s++) {
		const float *x = ga.g + s * ga.numel, *y = gb.g + s * gb.numel;

		if (!mh_same(x, y, ga.numel))
			fail_msg("%s: sample %zu: max difference %g", what, s, mh_rel_diff(x, y, ga.numel));
	}
}

/*
 * A checkpoint in 16 bits, opened as it lies, gives what the same values give in a float32 file, to the bit: losses,
 * logits, batch and sample gradients; and so do its float32 masters.
 */
static void
check_rest(const char *name, enum df_dtype type)
{
	const struct df_merge_spec half = { .convert = true, .type = type }, full = { .convert = true, .type = DF_F32 };
	char *from = mh_path(name, NULL), *narrow = scratch("narrow"), *wide = scratch("wide"), *config;
	struct run a, b;
	struct df_digest da, db;
	const float *ga, *gb;
	size_t n;

	start(&a, from);
	mh_ok(df_model_merge(a.m, narrow, &half, err)); /* no adapter: a conversion */
	finish(&a);
	start(&a, narrow);
	mh_ok(df_model_merge(a.m, wide, &full, err));
	start(&b, wide);
	assert_int_equal(file_type(narrow, "model.norm.weight"), type == DF_BF16 ? DF_ST_BF16 : DF_ST_F16);
	assert_int_equal(file_type(wide, "model.embed_tokens.weight"), DF_ST_F32);
	config = text_of(narrow, "config.json");
	assert_non_null(strstr(config, type == DF_BF16 ? "\"bfloat16\"" : "\"float16\""));
	free(config);
	/* At rest nothing but vectors is widened; in bf16 the wide one has a rounded copy beside it. */
	if (df_backend_compute(mh_backend()) == DF_F32)
		assert_true(df_model_bytes(a.m) < df_model_bytes(b.m) * 6 / 10);
	mh_ok(df_model_digest(a.m, &da, err));
	mh_ok(df_model_digest(b.m, &db, err));
	assert_true(da.lo == db.lo && da.hi == db.hi);

	n = df_model_base(a.m)->numel;
	assert_memory_equal(mh_weights(a.m), mh_weights(b.m), n * sizeof(float));
	ga = batch_grad(&a);
	gb = batch_grad(&b);
	mh_assert_same(ga, gb, n);
	check_same(&a, &b, name);
	assert_true(df_tensor_is_none(df_model_train_data(a.m)));
	mh_ok(df_model_master(a.m, err));
	ga = batch_grad(&a);
	mh_assert_same(ga, gb, n);
	check_same(&a, &b, name);
	finish(&a);
	finish(&b);
	free(from);
	free(narrow);
	free(wide);
}

static void
test_rest(void **state)
{
	(void)state;
	check_rest("llama", DF_BF16);
	check_rest("llama-gqa-tied", DF_F16);
	check_rest("qwen2", DF_BF16);
}

/* A value that half cannot hold is refused; bf16 holds it. */
static void
test_half_range(void **state)
{
	const struct df_merge_spec half = { .convert = true, .type = DF_F16 },
				   bf16 = { .convert = true, .type = DF_BF16 };
	char *from = mh_path("llama", NULL), *to = scratch("range");
	struct run r;

	(void)state;
	start(&r, from);
	mh_ok(df_model_master(r.m, err));
	mh_ok(df_fill(mh_backend(), df_tensor_view(df_model_train_data(r.m), 17, 1, 1), 7e4f, err));
	mh_refused(df_model_merge(r.m, to, &half, err), DF_ERANGE, "embed_tokens|float16");
	mh_ok(df_model_merge(r.m, to, &bf16, err));
	finish(&r);
	free(from);
	free(to);
}

/*
 * Write the llama of tests/golden/lora again: as a body alone, whose names lack "model.", or with every number a
 * double.
 */
static char *
rewritten(const char *name, bool body, bool doubles)
{
	char *from = path("%s/model.safetensors", "llama"), *dir = path("%s", "llama"), *to = scratch(name),
	     *file = NULL, *config = text_of(dir, "config.json"), *k = strstr(config, "LlamaForCausalLM");
	struct df_st_writer *w = NULL;
	struct df_st *st = NULL;

	assert_non_null(k);
	if (body) { /* the rest of the longer name becomes blanks behind the shorter one's quote */
		memcpy(k, "LlamaModel\"     ", 16);
		k[16] = ' ';
	}
	put_text(to, "config.json", config);
	mh_ok(df_st_open(&st, from, err));
	mh_ok(df_asprintf(&file, err, "%s/model.safetensors", to));
	mh_ok(df_st_create(&w, file, err));
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < df_st_count(st); i++) {
			const struct df_st_tensor *t = df_st_at(st, i);
			const float *x = mh_floats(st, "%s", t->name);

			if (body && strcmp(t->name, "lm_head.weight") == 0)
				continue;
			if (pass == 0)
				mh_ok(df_st_add(w, body ? t->name + strlen("model.") : t->name,
				    doubles ? DF_ST_F64 : DF_ST_F32, t->shape, t->rank, err));
			for (size_t j = 0; j < t->numel && pass == 1; j++) {
				double d = (double)x[j];

				mh_ok(df_st_write(w, doubles ? (const void *)&d : &x[j], doubles ? 8 : 4, err));
			}
		}
	}
	mh_ok(df_st_commit(w, err));
	df_st_close(st);
	free(config);
	free(file);
	free(from);
	free(dir);
	return to;
}

/* A body alone has no head to take losses with; it is saved under the names that it had. */
static void
test_body(void **state)
{
	char *dir = rewritten("body", true, false), *to = scratch("saved"), *whole = path("%s", "llama");
	struct df_model *m = NULL, *again = NULL, *full = NULL;
	struct df_work *w = NULL;
	struct df_digest d1, d2;
	struct mh_batch b;

	(void)state;
	mh_ok(df_model_open(&m, dir, NULL, mh_backend(), err));
	mh_ok(df_model_open(&full, whole, NULL, mh_backend(), err));
	assert_int_equal(df_model_base(m)->n + 1, df_model_base(full)->n);
	assert_memory_equal(mh_weights(m), mh_weights(full), df_model_base(m)->numel * sizeof(float));
	mh_batch_random(&b, lengths, N_SAMPLES, df_model_config(m)->n_vocab, 11);
	mh_ok(df_work_new(&w, m, err));
	mh_refused(df_model_loss(m, w, &b.b, NULL, err), DF_EUNSUPPORTED, "head");
	mh_ok(df_model_save(m, to, err));
	assert_int_equal(file_type(to, "layers.1.mlp.up_proj.weight"), DF_ST_F32);
	mh_ok(df_model_open(&again, to, NULL, mh_backend(), err));
	mh_ok(df_model_digest(m, &d1, err));
	mh_ok(df_model_digest(again, &d2, err));
	assert_true(d1.lo == d2.lo && d1.hi == d2.hi);
	mh_batch_release(&b);
	df_work_free(w);
	df_model_free(m);
	df_model_free(again);
	df_model_free(full);
	free(dir);
	free(to);
	free(whole);
}

/* Doubles are read as float32: there is no arithmetic on them at rest. */
static void
test_doubles(void **state)
{
	char *dir = rewritten("doubles", false, true), *whole = path("%s", "llama");
	struct df_model *m = NULL, *full = NULL;

	(void)state;
	mh_ok(df_model_open(&m, dir, NULL, mh_backend(), err));
	mh_ok(df_model_open(&full, whole, NULL, mh_backend(), err));
	assert_memory_equal(mh_weights(m), mh_weights(full), df_model_base(m)->numel * sizeof(float));
	if (df_backend_compute(mh_backend()) == DF_F32)
		assert_int_equal(df_model_bytes(m), df_model_base(m)->numel * sizeof(float));
	df_model_free(m);
	df_model_free(full);
	free(dir);
	free(whole);
}

/* ---- freezing ------------------------------------------------------------------- */

/* What trains under a restriction has the gradient that it has without one, to the bit. */
static void
check_freeze(const char *name, const struct df_train_spec *spec, const char *const *names, size_t n_names)
{
	char *from = mh_path(name, NULL), *to = scratch("frozen");
	struct run all, some, again;
	struct mh_grads ga, gs;
	const struct df_params *p, *whole;
	const float *want, *got;

	start(&all, from);
	start(&some, from);
	mh_ok(df_model_set_trainable(some.m, spec, err));
	p = df_model_train(some.m);
	whole = df_model_train(all.m);
	assert_int_equal(p->n, n_names);
	want = batch_grad(&all);
	got = batch_grad(&some);
	mh_sample_grads(&ga, all.m, all.w, &all.batch.b, NULL);
	mh_sample_grads(&gs, some.m, some.w, &some.batch.b, NULL);
	for (size_t i = 0; i < p->n; i++) {
		const struct df_param *v = &p->v[i], *u = df_params_find(whole, v->name);
		size_t n = v->rows * v->cols;

		assert_string_equal(v->name, names[i]);
		mh_assert_same(got + v->offset, want + u->offset, n);
		for (size_t s = 0; s < N_SAMPLES; s++)
			mh_assert_same(gs.g + s * gs.numel + v->offset, ga.g + s * ga.numel + u->offset, n);
	}
	/* The checkpoint carries its restriction. */
	mh_ok(df_model_save(some.m, to, err));
	start(&again, to);
	assert_int_equal(df_model_train(again.m)->n, p->n);
	for (size_t i = 0; i < p->n; i++)
		assert_string_equal(df_model_train(again.m)->v[i].name, p->v[i].name);
	/* And it can be lifted. */
	mh_ok(df_model_set_trainable(again.m, &(struct df_train_spec){ 0 }, err));
	assert_int_equal(df_model_train(again.m)->n, whole->n);
	finish(&again);
	finish(&all);
	finish(&some);
	free(from);
	free(to);
}

static void
test_freeze(void **state)
{
	static const char *const mlp1[] = { "model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight",
		"model.layers.1.mlp.down_proj.weight" };
	static const char *const first[] = { "model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight",
		"model.layers.0.mlp.up_proj.weight", "lm_head.weight" };
	static const char *const norms[] = { "model.layers.0.input_layernorm.weight",
		"model.layers.0.post_attention_layernorm.weight", "model.layers.1.input_layernorm.weight",
		"model.layers.1.post_attention_layernorm.weight", "model.norm.weight" };
	static const char *const head[] = { "lm_head.weight" };
	static const char *const biases[] = { "model.layers.1.input_layernorm.weight",
		"model.layers.1.self_attn.q_proj.weight", "model.layers.1.self_attn.v_proj.weight",
		"model.layers.1.self_attn.q_proj.bias", "model.layers.1.self_attn.v_proj.bias" };

	(void)state;
	check_freeze("llama", &(struct df_train_spec){ .freeze = true, .layers = 1, .modules = "mlp" }, mlp1, 3);
	check_freeze("llama",
	    &(struct df_train_spec){
		.freeze = true, .layers = -1, .modules = "up_proj,k_proj", .extra_modules = "lm_head, embed_tokens" },
	    first, 4);
	/* As LLaMA-Factory has it, an extra module is any part of a name. */
	check_freeze("llama",
	    &(struct df_train_spec){ .freeze = true, .layers = 0, .modules = "all", .extra_modules = "norm" }, norms,
	    5);
	check_freeze("llama",
	    &(struct df_train_spec){ .freeze = true, .layers = 0, .modules = "all", .extra_modules = "lm_head" }, head,
	    1);
	check_freeze("qwen2",
	    &(struct df_train_spec){ .freeze = true, .layers = 1, .modules = "q_proj,v_proj,input_layernorm" }, biases,
	    5);
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names that LLaMA-Factory's own function leaves trainable. */
static void
test_freeze_llamafactory(void **state)
{
	char *list = path("%s", "freeze.txt"), *dir = path("%s", "llama"), *text = NULL, *line, *rest;
	size_t n, cases = 0;

	(void)state;
	mh_ok(df_file_get(list, 1 << 20, &text, &n, err));
	for (line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest), cases++) {
		char *layers = strsep(&line, "|"), *modules = strsep(&line, "|"), *extra = strsep(&line, "|"), *name;
		const struct df_train_spec spec = { .freeze = true,
			.layers = strtol(layers, NULL, 10),
			.modules = modules,
			.extra_modules = *extra ? extra : NULL };
		const char *got[64];
		struct run r;

		start(&r, dir);
		mh_ok(df_model_set_trainable(r.m, &spec, err));
		n = df_model_train(r.m)->n;
		assert_true(n <= 64);
		for (size_t i = 0; i < n; i++)
			got[i] = df_model_train(r.m)->v[i].name;
		qsort(got, n, sizeof(*got), by_text);
		for (size_t i = 0; i < n; i++) {
			name = strsep(&line, ",");
			if (name == NULL || strcmp(name, got[i]) != 0)
				fail_msg(
				    "%s|%s|%s: %s trains, not %s", layers, modules, extra, got[i], name ? name : "-");
		}
		assert_null(line);
		finish(&r);
	}
	assert_true(cases >= 8);
	free(text);
	free(list);
	free(dir);
}

/* Routers and the gate of the shared expert stand still; everything else has its gradient. */
static void
test_freeze_gate(void **state)
{
	char *dir = path("%s", "qwen2_moe");
	struct run all, some;
	const struct df_params *p, *whole;
	const float *want, *got;

	(void)state;
	start(&all, dir);
	start(&some, dir);
	mh_ok(df_model_set_trainable(some.m, &(struct df_train_spec){ .freeze_gate = true }, err));
	p = df_model_train(some.m);
	whole = df_model_train(all.m);
	assert_int_equal(p->n + 4, whole->n); /* two layers, a router and a gate in each */
	want = batch_grad(&all);
	got = batch_grad(&some);
	for (size_t i = 0; i < p->n; i++) {
		const struct df_param *v = &p->v[i], *u = df_params_find(whole, v->name);

		assert_null(strstr(v->name, "mlp.gate."));
		assert_null(strstr(v->name, "shared_expert_gate"));
		mh_assert_same(got + v->offset, want + u->offset, v->rows * v->cols);
	}
	finish(&all);
	finish(&some);
	free(dir);
}

static void
test_freeze_refused(void **state)
{
	static const struct {
		struct df_train_spec spec;
		const char *words;
	} t[] = {
		{ { .freeze = true, .layers = 1, .modules = "mlp,atention" }, "freeze_trainable_modules|atention" },
		{ { .freeze = true, .layers = 1, .modules = "all", .extra_modules = "mlp" },
		    "freeze_extra_modules|mlp" },
		{ { .freeze = true, .layers = 0, .modules = "all" }, "everything is frozen" },
	};
	static const struct {
		const char *text;
		int code;
		const char *words;
	} f[] = {
		{ "[]", DF_EFORMAT, "trainable.json|object" },
		{ "{\"finetuning_type\":\"lora\"}", DF_EFORMAT, "trainable.json|lora" },
		{ "{\"finetuning_type\":\"freeze\",\"freeze_trainable_layers\":\"2\"}", DF_EFORMAT,
		    "trainable.json|freeze_trainable_layers" },
		{ "{\"finetuning_type\":\"freeze\",\"freeze_trainable_modules\":\"no\"}", DF_ECONFIG,
		    "trainable.json|no" },
		{ "{\"finetuning_type\":", DF_EFORMAT, "trainable.json" },
	};
	char *from = mh_path("llama", NULL), *to = scratch("refused"), *file = NULL;
	struct df_model *m = NULL;
	struct run r;

	(void)state;
	start(&r, from);
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		mh_refused(df_model_set_trainable(r.m, &t[i].spec, err), DF_ECONFIG, t[i].words);
	mh_ok(df_model_set_trainable(r.m, &(struct df_train_spec){ 0 }, err));
	mh_ok(df_model_save(r.m, to, err));
	mh_ok(df_model_master(r.m, err));
	mh_refused(df_model_set_trainable(r.m, &(struct df_train_spec){ 0 }, err), DF_EUSAGE, "masters");
	finish(&r);
	mh_ok(df_asprintf(&file, err, "%s/trainable.json", to));
	for (size_t i = 0; i < sizeof(f) / sizeof(f[0]); i++) {
		mh_ok(df_file_put(file, f[i].text, strlen(f[i].text), err));
		mh_refused(df_model_open(&m, to, NULL, mh_backend(), err), f[i].code, f[i].words);
	}
	free(file);
	free(from);
	free(to);
}

/* Layers below the lowest that trains keep nothing for a backward. */
static void
test_freeze_memory(void **state)
{
	const char *dir = mh_config("deep", 50, 16, 40, 8, 2, 2, NULL);
	const struct df_train_spec specs[] = { { 0 }, { .freeze = true, .layers = 2, .modules = "all" },
		{ .freeze = true, .layers = 0, .modules = "all", .extra_modules = "lm_head" } };
	const size_t kept[] = { 8, 2, 0 };
	size_t peak[3];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct df_backend *be = NULL;
		struct df_tensor grad = DF_TENSOR_NONE;
		struct run r = { 0 };

		mh_ok(df_backend_open(&be, "cpu", NULL, err));
		mh_ok(df_model_init(&r.m, dir, 1, be, err));
		mh_ok(df_model_set_trainable(r.m, &specs[i], err));
		assert_int_equal(df_model_backward_layers(r.m), kept[i]);
		mh_batch_random(&r.batch, (const size_t[]){ 200 }, 1, 50, 3);
		mh_ok(df_work_new(&r.w, r.m, err));
		mh_ok(df_tensor_alloc(be, &grad, DF_F32, 1, df_model_train(r.m)->numel, "grad", err));
		mh_ok(df_fill(be, grad, 0, err));
		mh_ok(df_model_grad(r.m, r.w, &r.batch.b, scale, grad, NULL, err));
		peak[i] = df_backend_peak_bytes(be) - (df_model_base(r.m)->numel + grad.cols) * sizeof(float);
		df_tensor_free(be, &grad);
		finish(&r);
		df_backend_close(be);
	}
	print_message("# activations of 8, 2, 0 layers: %zu, %zu, %zu bytes\n", peak[0], peak[1], peak[2]);
	assert_true(peak[1] < peak[0] / 2 && peak[2] < peak[1]);
}

/* What did not train stays in the file's type; what did is float32, and config.json says so. */
static void
test_freeze_saves(void **state)
{
	const struct df_merge_spec half = { .convert = true, .type = DF_BF16 };
	const struct df_train_spec spec = { .freeze = true, .layers = 1, .modules = "mlp" };
	char *from = mh_path("llama", NULL), *narrow = scratch("narrow"), *to = scratch("to"), *config;
	struct run r;

	(void)state;
	start(&r, from);
	mh_ok(df_model_merge(r.m, narrow, &half, err));
	finish(&r);
	start(&r, narrow);
	mh_ok(df_model_set_trainable(r.m, &spec, err));
	mh_ok(df_model_save(r.m, to, err)); /* nothing has trained yet */
	config = text_of(to, "config.json");
	assert_non_null(strstr(config, "\"bfloat16\""));
	free(config);
	mh_ok(df_model_master(r.m, err));
	mh_ok(df_model_save(r.m, to, err));
	assert_int_equal(file_type(to, "model.layers.1.mlp.up_proj.weight"), DF_ST_F32);
	assert_int_equal(file_type(to, "model.layers.0.mlp.up_proj.weight"), DF_ST_BF16);
	assert_int_equal(file_type(to, "model.norm.weight"), DF_ST_BF16);
	config = text_of(to, "config.json");
	assert_non_null(strstr(config, "\"float32\""));
	free(config);
	finish(&r);
	free(from);
	free(narrow);
	free(to);
}

/* ---- adapters against PEFT --------------------------------------------------------- */

static void
check_peft(const char *name)
{
	char *dir = path("%s", name), *file = path("%s/ref.safetensors", name), *to = scratch("adapter");
	struct df_model *m = NULL, *again = NULL;
	struct df_work *w = NULL;
	struct df_st *ref = NULL;
	struct mh_batch b;
	struct mh_grads g;
	struct df_digest d1, d2;
	const struct df_params *p;
	const float *got;
	float loss[4], nll[64], all[4], total = 0;
	uint32_t n[4];
	struct df_losses out = { .loss = loss, .n_targets = n, .token_nll = nll };
	double worst = 0, bound;

	mh_ok(df_model_open(&m, dir, NULL, mh_backend(), err));
	mh_ok(df_work_new(&w, m, err));
	mh_ok(df_st_open(&ref, file, err));
	mh_batch_load(&b, ref, 0, 0);
	mh_ok(df_model_loss(m, w, &b.b, &out, err));
	for (size_t s = 0; s < 4; s++)
		total += (float)n[s];
	worst = mh_rel_diff(nll, mh_floats(ref, "nll"), (size_t)total);
	for (size_t s = 0; s < 4; s++)
		all[s] = 1 / total;
	/* In bf16 a token may go to another expert, and their gradients are other ones. */
	bound = mh_bound(TOL, strcmp(name, "experts") == 0 ? 1e3 : 0.25);
	got = mh_batch_grad(m, w, &b.b, all);
	mh_sample_grads(&g, m, w, &b.b, NULL);
	p = df_model_train(m);
	for (size_t i = 0; i < p->n; i++) {
		const struct df_param *v = &p->v[i];
		size_t k = v->rows * v->cols;
		double diff = mh_rel_diff(got + v->offset, mh_floats(ref, "grad.%s", v->name), k);

		diff =
		    fmax(diff, mh_rel_diff(g.g + g.numel + v->offset, mh_floats(ref, "sample_grad.1.%s", v->name), k));
		if (!(diff <= bound))
			fail_msg("%s: gradient of %s differs by %g", name, v->name, diff);
		worst = fmax(worst, diff);
		assert_int_equal(v->lora_b, strstr(v->name, "lora_B") != NULL);
	}
	print_message("# %s: losses and gradients of %zu parameters, worst %.2e\n", name, p->n, worst);
	assert_true(worst <= bound);

	/* Written and read again: the same adapter. */
	mh_ok(df_model_save(m, to, err));
	mh_ok(df_model_open(&again, to, NULL, mh_backend(), err));
	mh_ok(df_model_digest(m, &d1, err));
	mh_ok(df_model_digest(again, &d2, err));
	assert_true(d1.lo == d2.lo && d1.hi == d2.hi);
	df_model_free(again);
	mh_batch_release(&b);
	df_st_close(ref);
	df_work_free(w);
	df_model_free(m);
	free(dir);
	free(file);
	free(to);
}

static void
test_peft(void **state)
{
	(void)state;
	check_peft("rslora");
	check_peft("additional");
	check_peft("pattern");
	check_peft("experts");
	check_peft("ranks");
	check_peft("layers");
	check_peft("restricted");
	check_peft("numbers");
}

/* PEFT's names for a body without a head lack one "model."; the adapter fits the same body under a head. */
static void
test_peft_body(void **state)
{
	char *dir = path("%s", "rslora"), *base = path("%s", "llama"), *to = scratch("body"), *config, *k, *file = NULL;
	struct df_model *m = NULL;
	struct df_st_writer *w = NULL;
	struct df_st *st = NULL;
	struct df_digest d1, d2;

	(void)state;
	mh_ok(df_model_open(&m, dir, NULL, mh_backend(), err));
	mh_ok(df_model_digest(m, &d1, err));
	df_model_free(m);
	m = NULL;
	config = text_of(dir, "adapter_config.json");
	k = strstr(config, "\"task_type\": \"CAUSAL_LM\"");
	assert_non_null(k);
	*k = '\0';
	mh_ok(df_asprintf(&file, err, "%s\"task_type\": \"FEATURE_EXTRACTION\"%s", config,
	    k + strlen("\"task_type\": \"CAUSAL_LM\"")));
	put_text(to, "adapter_config.json", file);
	free(file);
	mh_ok(df_asprintf(&file, err, "%s/adapter_model.safetensors", dir));
	mh_ok(df_st_open(&st, file, err));
	free(file);
	mh_ok(df_asprintf(&file, err, "%s/adapter_model.safetensors", to));
	mh_ok(df_st_create(&w, file, err));
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < df_st_count(st); i++) {
			const struct df_st_tensor *t = df_st_at(st, i);
			char name[256];

			snprintf(
			    name, sizeof(name), "base_model.model.%s", t->name + strlen("base_model.model.model."));
			if (pass == 0)
				mh_ok(df_st_add(w, name, t->type, t->shape, t->rank, err));
			else
				mh_ok(df_st_write(w, t->data, t->nbytes, err));
		}
	}
	mh_ok(df_st_commit(w, err));
	df_st_close(st);
	mh_ok(df_model_open(&m, to, base, mh_backend(), err));
	mh_ok(df_model_digest(m, &d2, err));
	assert_true(d1.lo == d2.lo && d1.hi == d2.hi);
	df_model_free(m);
	free(config);
	free(file);
	free(dir);
	free(base);
	free(to);
}

/* W + s B A is what merge_and_unload() leaves, and the merged model says what base and adapter say. */
static void
check_merged(const char *name)
{
	const struct df_merge_spec plain = { 0 }, shards = { .max_shard = 8000 };
	char *dir = path("%s", name), *file = path("%s/ref.safetensors", name), *to = scratch("merged"),
	     *cut = scratch("cut");
	struct df_model *m = NULL, *merged = NULL, *again = NULL;
	struct df_st *ref = NULL;
	const struct df_params *p;
	const float *x, *before;
	double worst = 0;
	size_t changed = 0, expected = 0;

	mh_ok(df_model_open(&m, dir, NULL, mh_backend(), err));
	mh_ok(df_st_open(&ref, file, err));
	mh_ok(df_model_merge(m, to, &plain, err));
	mh_ok(df_model_open(&merged, to, NULL, mh_backend(), err));
	assert_false(df_model_has_lora(merged));
	p = df_model_base(merged);
	x = mh_weights(merged);
	before = mh_weights(m);
	for (size_t i = 0; i < df_st_count(ref); i++)
		expected += strncmp(df_st_at(ref, i)->name, "merged.", 7) == 0;
	for (size_t i = 0; i < p->n; i++) {
		const struct df_param *v = &p->v[i];
		char key[256];

		snprintf(key, sizeof(key), "merged.%s", v->name);
		if (df_st_find(ref, key) == NULL) {
			assert_memory_equal(x + v->offset, before + v->offset, v->rows * v->cols * sizeof(float));
			continue;
		}
		changed++;
		worst = fmax(worst, mh_rel_diff(x + v->offset, mh_floats(ref, "%s", key), v->rows * v->cols));
	}
	print_message("# %s: %zu merged weights, worst %.2e\n", name, changed, worst);
	assert_int_equal(changed, expected);
	assert_true(worst <= 1e-6); /* two roundings of sums of at most 4 terms */

	/* In several files the same. */
	mh_ok(df_model_merge(m, cut, &shards, err));
	mh_ok(df_model_open(&again, cut, NULL, mh_backend(), err));
	assert_memory_equal(mh_weights(again), x, p->numel * sizeof(float));
	df_model_free(again);
	df_model_free(merged);
	df_model_free(m);
	df_st_close(ref);
	free(dir);
	free(file);
	free(to);
	free(cut);
}

static void
test_merge(void **state)
{
	(void)state;
	check_merged("rslora");
	check_merged("additional");
	check_merged("pattern");
	check_merged("experts");
	check_merged("ranks");
	check_merged("layers");
	check_merged("restricted");
	check_merged("numbers");
}

/* ---- dropout ----------------------------------------------------------------------- */

static void
add_lora(struct run *r, const char *targets, double dropout)
{
	const struct df_lora_spec spec = {
		.rank = 3, .alpha = 5, .targets = targets, .dropout = dropout, .additional = "lm_head", .rslora = true
	};
	const struct df_params *p;
	float *x = NULL;

	mh_ok(df_model_add_lora(r->m, &spec, 8, err));
	p = df_model_train(r->m);
	/* B away from zero, so that A gets a gradient. */
	mh_ok(df_alloc(&x, p->numel, sizeof(*x), "weights", err));
	mh_ok(df_download(mh_backend(), x, df_model_train_data(r->m), err));
	for (size_t i = 0; i < p->numel; i++)
		x[i] += 0.05f * (float)sin((double)i);
	mh_ok(df_upload(mh_backend(), df_model_train_data(r->m), x, err));
	mh_ok(df_model_train_changed(r->m, err));
	free(x);
	mh_ok(df_work_new(&r->w, r->m, err));
}

static double
objective(struct run *r)
{
	float loss[N_SAMPLES];
	uint32_t n[N_SAMPLES];
	struct df_losses out = { .loss = loss, .n_targets = n };
	double sum = 0;

	mh_ok(df_model_loss(r->m, r->w, &r->batch.b, &out, err));
	for (size_t s = 0; s < N_SAMPLES; s++)
		sum += (double)scale[s] * n[s] * (double)loss[s];
	return sum;
}

/*
 * With the masks of fixed keys the loss is a function like any other: along each parameter's gradient direction g/|g|
 * its derivative is |g|.  A step of 0.02 against float32 noise of 1e-6 and its curvature: 2 %.
 */
static void
check_dropout(const char *from, const char *targets)
{
	const double h = 0.02;
	uint64_t keys[N_SAMPLES] = { 5, 99, 1234567, (uint64_t)1 << 60 };
	const struct df_params *p;
	const float *grad, *again;
	float *x = NULL, *y = NULL;
	double worst = 0;
	struct run r;

	start(&r, from);
	r.batch.b.key = keys;
	if (targets != NULL) /* else it has an adapter */
		add_lora(&r, targets, 0.3);
	p = df_model_train(r.m);
	grad = batch_grad(&r);
	/* A layer computed again has the masks that it had. */
	df_model_set_checkpointing(r.m, true);
	again = batch_grad(&r);
	assert_memory_equal(again, grad, p->numel * sizeof(float));
	df_model_set_checkpointing(r.m, false);
	mh_ok(df_alloc(&x, p->numel, sizeof(*x), "weights", err));
	mh_ok(df_alloc(&y, p->numel, sizeof(*y), "weights", err));
	mh_ok(df_download(mh_backend(), x, df_model_train_data(r.m), err));
	for (size_t k = 0; k < p->n; k++) {
		const struct df_param *v = &p->v[k];
		double norm = 0, f[2];

		for (size_t i = v->offset; i < v->offset + v->rows * v->cols; i++)
			norm += (double)grad[i] * (double)grad[i];
		norm = sqrt(norm);
		assert_true(norm > 1e-4);
		for (int side = 0; side < 2; side++) {
			memcpy(y, x, p->numel * sizeof(*y));
			for (size_t i = v->offset; i < v->offset + v->rows * v->cols; i++)
				y[i] += (float)((side ? h : -h) * (double)grad[i] / norm);
			mh_ok(df_upload(mh_backend(), df_model_train_data(r.m), y, err));
			f[side] = objective(&r);
		}
		mh_ok(df_upload(mh_backend(), df_model_train_data(r.m), x, err));
		worst = fmax(worst, fabs((f[1] - f[0]) / (2 * h) / norm - 1));
		if (fabs((f[1] - f[0]) / (2 * h) / norm - 1) > 0.02)
			fail_msg("%s: |g| %g, difference %g", v->name, norm, (f[1] - f[0]) / (2 * h));
	}
	print_message("# dropout of %s: finite differences, worst %.2e\n", targets ? targets : from, worst);
	free(x);
	free(y);
	finish(&r);
}

static void
test_dropout_differences(void **state)
{
	mh_float32_only();
	char *llama = mh_path("llama", NULL), *ranks = path("%s", "ranks"), *moe = path("%s", "qwen2_moe"),
	     *all = scratch("moe"), *config, *k;
	struct df_model *m = NULL;

	(void)state;
	check_dropout(llama, "all");
	check_dropout(ranks, NULL);
	/* Which experts a router chooses is not differentiable: here it takes all of them. */
	mh_ok(df_model_open(&m, moe, NULL, mh_backend(), err));
	mh_ok(df_model_save(m, all, err));
	df_model_free(m);
	config = text_of(all, "config.json");
	k = strstr(config, "\"num_experts_per_tok\": 2");
	assert_non_null(k);
	k[strlen("\"num_experts_per_tok\": ")] = '4';
	put_text(all, "config.json", config);
	check_dropout(all, "q_proj,gate_proj,up_proj,down_proj,gate,shared_expert_gate");
	free(config);
	free(llama);
	free(ranks);
	free(moe);
	free(all);
}

/* Masks are a sample's own: not its batch's; without keys there are none; other keys draw others. */
static void
test_dropout_keys(void **state)
{
	char *from = mh_path("qwen2-untied", NULL);
	uint64_t keys[N_SAMPLES], others[N_SAMPLES], twice[2] = { 7, 7 }, one;
	float loss[N_SAMPLES], alone, none[N_SAMPLES], plain[N_SAMPLES], other[N_SAMPLES], pair[2];
	struct mh_grads all, single;
	struct run r, p;

	(void)state;
	for (uint64_t s = 0; s < N_SAMPLES; s++) {
		keys[s] = df_model_dropout_key(42, 3, s);
		others[s] = df_model_dropout_key(42, 4, s);
		assert_true(keys[s] != others[s] && keys[s] != df_model_dropout_key(43, 3, s));
		assert_true(s == 0 || keys[s] != keys[s - 1]);
	}
	start(&r, from);
	add_lora(&r, "all", 0.5);
	r.batch.b.key = keys;
	mh_ok(df_model_loss(r.m, r.w, &r.batch.b, &(struct df_losses){ .loss = loss }, err));
	mh_sample_grads(&all, r.m, r.w, &r.batch.b, NULL);
	for (size_t s = 0; s < N_SAMPLES; s++) {
		const uint64_t o = r.batch.offsets[s], offsets[2] = { 0, r.batch.offsets[s + 1] - o };
		const struct df_tokens b = {
			.n = 1, .offsets = offsets, .ids = r.batch.ids + o, .mask = r.batch.mask + o, .key = &one
		};

		one = keys[s];
		mh_ok(df_model_loss(r.m, r.w, &b, &(struct df_losses){ .loss = &alone }, err));
		mh_assert_same(&alone, &loss[s], 1);
		mh_sample_grads(&single, r.m, r.w, &b, NULL);
		mh_assert_same(single.g, all.g + s * all.numel, all.numel);
	}
	r.batch.b.key = others;
	mh_ok(df_model_loss(r.m, r.w, &r.batch.b, &(struct df_losses){ .loss = other }, err));
	r.batch.b.key = NULL;
	mh_ok(df_model_loss(r.m, r.w, &r.batch.b, &(struct df_losses){ .loss = none }, err));
	start(&p, from);
	add_lora(&p, "all", 0);
	p.batch.b.key = keys;
	mh_ok(df_model_loss(p.m, p.w, &p.batch.b, &(struct df_losses){ .loss = plain }, err));
	for (size_t s = 0; s < N_SAMPLES; s++) {
		assert_true(none[s] == plain[s]);
		if (df_backend_compute(mh_backend()) == DF_F32) /* bf16 may round a difference away */
			assert_true(loss[s] != plain[s] && other[s] != loss[s]);
	}
	finish(&p);

	/* One text twice with one key is one loss: the mask is addressed within the sample. */
	{
		uint32_t ids[] = { 3, 9, 27, 5, 3, 9, 27, 5 };
		uint8_t mask[] = { 0, 1, 1, 1, 0, 1, 1, 1 };
		const uint64_t offsets[] = { 0, 4, 8 };
		const struct df_tokens b = { .n = 2, .offsets = offsets, .ids = ids, .mask = mask, .key = twice };

		mh_ok(df_model_loss(r.m, r.w, &b, &(struct df_losses){ .loss = pair }, err));
		mh_assert_same(&pair[0], &pair[1], 1);
		twice[1] = 8;
		mh_ok(df_model_loss(r.m, r.w, &b, &(struct df_losses){ .loss = pair }, err));
		assert_true(fabsf(pair[0] - pair[1]) > 1e-4f * pair[0]);
	}
	finish(&r);
	free(from);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_rest, mh_cleanup),
		cmocka_unit_test_teardown(test_half_range, mh_cleanup),
		cmocka_unit_test_teardown(test_body, mh_cleanup),
		cmocka_unit_test_teardown(test_doubles, mh_cleanup),
		cmocka_unit_test_teardown(test_freeze, mh_cleanup),
		cmocka_unit_test_teardown(test_freeze_llamafactory, mh_cleanup),
		cmocka_unit_test_teardown(test_freeze_gate, mh_cleanup),
		cmocka_unit_test_teardown(test_freeze_refused, mh_cleanup),
		cmocka_unit_test_teardown(test_freeze_memory, mh_cleanup),
		cmocka_unit_test_teardown(test_freeze_saves, mh_cleanup),
		cmocka_unit_test_teardown(test_peft, mh_cleanup),
		cmocka_unit_test_teardown(test_peft_body, mh_cleanup),
		cmocka_unit_test_teardown(test_merge, mh_cleanup),
		cmocka_unit_test_teardown(test_dropout_differences, mh_cleanup),
		cmocka_unit_test_teardown(test_dropout_keys, mh_cleanup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
