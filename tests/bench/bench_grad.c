/*
 * bench_grad.c - what per-sample gradients cost over the summed gradient of the same batch.
 *
 * A = df_model_sample_grads, B = df_model_grad; A' = A with Adam's view taken of
 * every block, which LESS needs; the same model and batch, in turn.  The
 * ratio of a pair is robust against a machine that changes its speed; the
 * median over the pairs is printed, with the extremes.
 *
 *   bench_grad [PAIRS [WORD]]    only the shapes whose name has WORD
 *
 * One thread, in CPU time; THREADS=n of the environment: n threads, by the clock.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#include "backend/backend.h"
#include "base/file.h"
#include "base/rng.h"
#include "model/model.h"

struct shape {
	const char *name;
	size_t hidden, inner, layers, heads, kv_heads, vocab;
	size_t lora_rank; /* 0 = full */
	size_t n, t;      /* samples, tokens of each */
};

/* Qwen2-0.5B's layers (four of them, a small vocabulary: the head is no part of the question), and small models. */
static const struct shape shapes[] = {
	{ "qwen2-0.5b x4 lora8   8 x 128", 896, 4864, 4, 14, 2, 512, 8, 8, 128 },
	{ "qwen2-0.5b x4 lora8  16 x  64", 896, 4864, 4, 14, 2, 512, 8, 16, 64 },
	{ "qwen2-0.5b x4 lora8   4 x 512", 896, 4864, 4, 14, 2, 512, 8, 4, 512 },
	{ "qwen2-0.5b x4 full    4 x 256", 896, 4864, 4, 14, 2, 512, 0, 4, 256 },
	{ "qwen2-0.5b x4 full   16 x 128", 896, 4864, 4, 14, 2, 512, 0, 16, 128 },
	{ "hidden 256 x6 full   16 x 128", 256, 704, 6, 8, 4, 512, 0, 16, 128 },
	{ "tiny-sft   x3 full   16 x 256", 128, 344, 3, 4, 2, 259, 0, 16, 256 },
	{ "tiny-sft   x3 full   32 x  64", 128, 344, 3, 4, 2, 259, 0, 32, 64 },
};

struct ctx {
	struct df_backend *be;
	struct df_moments *moments;
};

static int
adam_sink(void *arg, const struct df_grad_block *block, struct df_err *err)
{
	struct ctx *c = arg;
	struct df_adam_form a = {
		.g = block->g,
		.m = df_tensor_view(c->moments->m, block->offset, 1, block->g.cols),
		.v = df_tensor_view(c->moments->v, block->offset, 1, block->g.cols),
		.beta1 = 0.9,
		.beta2 = 0.999,
		.eps = 1e-8,
	};

	return df_adam_form(c->be, &a, err);
}

static int
plain_sink(void *arg, const struct df_grad_block *block, struct df_err *err)
{
	(void)arg;
	(void)block;
	(void)err;
	return DF_OK;
}

/* A model directory that holds nothing but config.json. */
static int
write_config(const char *dir, const struct shape *s, struct df_err *err)
{
	char *path = NULL, *text = NULL;
	int rc = 0;

	DF_TRY(df_path_join(&path, dir, "config.json", err));
	DF_TRY(df_asprintf(&text, err,
	    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\",\"hidden_size\":%zu,\"intermediate_size\":%zu,"
	    "\"num_hidden_layers\":%zu,\"num_attention_heads\":%zu,\"num_key_value_heads\":%zu,\"vocab_size\":%zu,"
	    "\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-6,\"rope_theta\":1000000.0,\"tie_word_embeddings\":false,"
	    "\"hidden_act\":\"silu\",\"initializer_range\":0.02}\n",
	    s->hidden, s->inner, s->layers, s->heads, s->kv_heads, s->vocab));
	DF_TRY(df_file_put(path, text, strlen(text), err));
out:
	free(path);
	free(text);
	return rc;
}

static struct df_pool *pool; /* NULL: one thread */

static double
seconds(void)
{
	struct timespec ts;

	clock_gettime(pool ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static int
bench(const struct shape *s, const char *dir, int pairs, struct df_err *err)
{
	struct df_backend *be = NULL;
	struct df_model *m = NULL;
	struct df_work *w = NULL;
	struct df_moments moments = { 0 };
	struct df_tensor grad = DF_TENSOR_NONE;
	uint64_t *offsets = NULL;
	uint32_t *ids = NULL;
	uint8_t *mask = NULL;
	float *scale = NULL;
	double *ratio = NULL, *adam = NULL, *base = NULL;
	size_t total = s->n * s->t;
	int rc = 0;

	DF_TRY(df_alloc(&offsets, s->n + 1, sizeof(*offsets), "offsets", err));
	DF_TRY(df_alloc(&ids, total, sizeof(*ids), "ids", err));
	DF_TRY(df_alloc(&mask, total, sizeof(*mask), "mask", err));
	DF_TRY(df_alloc(&scale, s->n, sizeof(*scale), "scale", err));
	DF_TRY(df_alloc(&ratio, (size_t)pairs, sizeof(*ratio), "ratios", err));
	DF_TRY(df_alloc(&adam, (size_t)pairs, sizeof(*adam), "ratios", err));
	DF_TRY(df_alloc(&base, (size_t)pairs, sizeof(*base), "times", err));
	for (size_t i = 0; i <= s->n; i++)
		offsets[i] = i * s->t;
	for (size_t i = 0; i < total; i++) {
		ids[i] = (uint32_t)(df_rng_uniform(1, DF_RNG_DEMO, 0, i) * (double)s->vocab);
		mask[i] = i % s->t >= s->t / 2; /* half of each sample is prompt */
	}
	for (size_t i = 0; i < s->n; i++)
		scale[i] = 1.0F / (float)(total / 2);

	DF_TRY(write_config(dir, s, err));
	DF_TRY(df_backend_open(&be, bench_device(), pool, err));
	DF_TRY(df_model_init(&m, dir, 1, be, err));
	if (s->lora_rank) {
		struct df_lora_spec spec = { .rank = s->lora_rank, .alpha = 16, .targets = "all" };

		DF_TRY(df_model_add_lora(m, &spec, 1, err));
	}
	DF_TRY(df_work_new(&w, m, err));
	DF_TRY(df_moments_init(&moments, m, err));
	DF_TRY(df_tensor_alloc(be, &grad, DF_F32, 1, df_model_train(m)->numel, "gradient", err));

	struct df_tokens b = { .n = s->n, .offsets = offsets, .ids = ids, .mask = mask };
	struct df_losses losses = { 0 };
	struct ctx ctx = { be, &moments };

	for (int i = -1; i < pairs; i++) { /* the first pair warms up */
		double t0 = seconds(), t1, t2, t3;

		DF_TRY(df_model_sample_grads(m, w, &b, adam_sink, &ctx, &losses, err));
		t3 = seconds();
		DF_TRY(df_model_sample_grads(m, w, &b, plain_sink, &ctx, &losses, err));
		t1 = seconds();
		DF_TRY(df_fill(be, grad, 0, err));
		DF_TRY(df_model_grad(m, w, &b, scale, grad, &losses, err));
		t2 = seconds();
		if (i >= 0) {
			ratio[i] = (t1 - t3) / (t2 - t1);
			adam[i] = (t3 - t0) / (t2 - t1);
			base[i] = t2 - t1;
		}
	}
	qsort(ratio, (size_t)pairs, sizeof(*ratio), compare_doubles);
	qsort(adam, (size_t)pairs, sizeof(*adam), compare_doubles);
	qsort(base, (size_t)pairs, sizeof(*base), compare_doubles);
	printf("%-32s ratio %.3f [%.3f .. %.3f]  with Adam's view %.3f [%.3f .. %.3f]  summed %.1f ms  (%d pairs)\n",
	    s->name, ratio[pairs / 2], ratio[0], ratio[pairs - 1], adam[pairs / 2], adam[0], adam[pairs - 1],
	    1e3 * base[pairs / 2], pairs);
	fflush(stdout);
out:
	df_tensor_free(be, &grad);
	df_moments_release(&moments, m);
	df_work_free(w);
	df_model_free(m);
	df_backend_close(be);
	free(offsets);
	free(ids);
	free(mask);
	free(scale);
	free(ratio);
	free(adam);
	free(base);
	return rc;
}

int
main(int argc, char **argv)
{
	struct df_err err = DF_ERR_INIT;
	char dir[] = "/tmp/df-bench-XXXXXX";
	int pairs = argc > 1 ? atoi(argv[1]) : 9, rc = 0;

	const char *threads = getenv("THREADS");

	if (pairs < 1 || !mkdtemp(dir) || (threads && df_pool_new(&pool, atoi(threads), &err) != DF_OK))
		return 64;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes) && !rc; i++)
		if (argc < 3 || strstr(shapes[i].name, argv[2]))
			rc = bench(&shapes[i], dir, pairs, &err);
	if (rc)
		fprintf(stderr, "bench_grad: %s\n", err.msg);
	df_pool_free(pool);
	if (df_rmtree(dir, &err))
		fprintf(stderr, "bench_grad: %s\n", err.msg);
	return df_err_exit_status(rc);
}
