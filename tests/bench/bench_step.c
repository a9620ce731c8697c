/*
 * bench_step.c - a LoRA training step against what OpenBLAS's sgemm would allow.
 *
 * With the base frozen, a token costs 2N operations forward and 2N backward, N the weights in matrices and the
 * head.  A = df_model_grad over a batch, every token a target; B = sgemm of 512 x 1536 x 1536 on as many threads,
 * in turn.  Printed: tokens a second, and 4N times that over the operations of B (attention, norms, the adapters
 * and all else are not counted: they are what this bench is after).
 *
 *   bench_step MODEL_DIR [SAMPLES [TOKENS [THREADS [PAIRS [RANK]]]]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#include "backend/backend.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/model.h"

static double
sgemm_rate(const struct df_openblas *blas, int threads)
{
	enum { M = 512, N = 1536 };
	static float a[M * N], b[N * N], c[M * N];
	double start = now(), secs;
	int n = 0;

	blas->set_num_threads(threads);
	a[0] = b[0] = 1;
	do {
		sgemm(blas, false, true, M, N, N, a, b, 0, c);
		n++;
		secs = now() - start;
	} while (secs < 0.5);
	blas->set_num_threads(1);
	return 2.0 * M * N * N * n / secs;
}

/* Weights that a token is multiplied with: matrices, not the table of embeddings unless it is the head, too. */
static double
n_multiplied(const struct df_model *m)
{
	const struct df_params *p = df_model_base(m);
	double n = 0;

	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].rank == 2 && (df_model_config(m)->tied || !strstr(p->v[i].name, "embed_tokens")))
			n += (double)p->v[i].rows * (double)p->v[i].cols;
	return n;
}

int
main(int argc, char **argv)
{
	struct df_err e = DF_ERR_INIT, *err = &e;
	const int n = argc > 2 ? atoi(argv[2]) : 1, t = argc > 3 ? atoi(argv[3]) : 512;
	const int threads = argc > 4 ? atoi(argv[4]) : 1, pairs = argc > 5 ? atoi(argv[5]) : 3;
	struct df_lora_spec spec = { .rank = argc > 6 ? (size_t)atoi(argv[6]) : 8, .alpha = 16, .targets = "all" };
	const struct df_openblas *blas;
	struct df_backend *be = NULL;
	struct df_pool *pool = NULL;
	struct df_model *m = NULL;
	struct df_work *w = NULL;
	struct df_tensor grad = DF_TENSOR_NONE;
	uint64_t *offsets = NULL;
	uint32_t *ids = NULL;
	uint8_t *mask = NULL;
	float *scale = NULL;
	double *rate = NULL, *ratio = NULL;
	int rc = 0;

	if (argc < 2 || n < 1 || t < 2 || threads < 1 || pairs < 1)
		return 64;
	DF_TRY(df_openblas_load(&blas, err));
	DF_TRY(df_pool_new(&pool, threads, err));
	DF_TRY(df_backend_open(&be, bench_device(), pool, err));
	DF_TRY(df_model_open(&m, argv[1], NULL, be, err));
	DF_TRY(df_model_add_lora(m, &spec, 1, err));
	DF_TRY(df_work_new(&w, m, err));
	DF_TRY(df_alloc(&offsets, (size_t)n + 1, sizeof(*offsets), "offsets", err));
	DF_TRY(df_alloc(&ids, (size_t)(n * t), sizeof(*ids), "ids", err));
	DF_TRY(df_alloc(&mask, (size_t)(n * t), sizeof(*mask), "mask", err));
	DF_TRY(df_alloc(&scale, (size_t)n, sizeof(*scale), "scale", err));
	DF_TRY(df_alloc(&rate, (size_t)pairs, sizeof(*rate), "rates", err));
	DF_TRY(df_alloc(&ratio, (size_t)pairs, sizeof(*ratio), "ratios", err));
	for (int i = 0; i <= n; i++)
		offsets[i] = (uint64_t)(i * t);
	for (int i = 0; i < n * t; i++) {
		ids[i] =
		    (uint32_t)(df_rng_uniform(1, DF_RNG_DEMO, 0, (uint64_t)i) * (double)df_model_config(m)->n_vocab);
		mask[i] = 1;
	}
	for (int i = 0; i < n; i++)
		scale[i] = 1.0F / (float)(n * t);
	DF_TRY(df_tensor_alloc(be, &grad, DF_F32, 1, df_model_train(m)->numel, "gradient", err));

	struct df_tokens b = { .n = (size_t)n, .offsets = offsets, .ids = ids, .mask = mask };
	struct df_losses losses = { 0 };

	for (int i = -1; i < pairs; i++) { /* the first warms up */
		double start, secs, yardstick = sgemm_rate(blas, threads);
		int steps = 0;

		start = now();
		do {
			DF_TRY(df_fill(be, grad, 0, err));
			DF_TRY(df_model_grad(m, w, &b, scale, grad, &losses, err));
			steps++;
			secs = now() - start;
		} while (secs < 0.5);
		if (i >= 0) {
			rate[i] = (double)(n * t * steps) / secs;
			ratio[i] = 4 * n_multiplied(m) * rate[i] / yardstick;
		}
	}
	qsort(rate, (size_t)pairs, sizeof(*rate), compare_doubles);
	qsort(ratio, (size_t)pairs, sizeof(*ratio), compare_doubles);
	printf(
	    "%s: %d x %d tokens, rank %zu, %d threads: %.1f tokens/s, %.3f [%.3f .. %.3f] of sgemm's rate (%d pairs)\n",
	    df_backend_name(be), n, t, spec.rank, threads, rate[pairs / 2], ratio[pairs / 2], ratio[0],
	    ratio[pairs - 1], pairs);
out:
	if (rc)
		fprintf(stderr, "bench_step: %s\n", e.msg);
	df_tensor_free(be, &grad);
	df_work_free(w);
	df_model_free(m);
	df_backend_close(be);
	df_pool_free(pool);
	free(offsets);
	free(ids);
	free(mask);
	free(scale);
	free(rate);
	free(ratio);
	return rc ? 1 : 0;
}
