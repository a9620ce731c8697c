/*
 * bench_experts.c - products of many small experts against one dense product of as many multiplications.
 *
 * T tokens go to K of X experts each, drawn at random; an expert's matrices are [2F,D] and [D,F].  Measured are the
 * three products of a layer, forward (x W^T), gradient of the input (dy W) and of the weights (dy^T x), each in turn
 * with the same product of all T K rows and one matrix.  The time of the experts over that of the dense product:
 * 1.00 would be as fast.
 *
 *   bench_experts [PAIRS [WORD]]    only the lines whose name has WORD; DF_THREADS, DEVICE; TYPE=f32 or bf16 weights
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#include "backend/backend.h"
#include "base/mem.h"
#include "base/rng.h"

enum { PAIRS_MAX = 101, EXPERTS_MAX = 256 };

static struct df_backend *be;
static struct df_err *err;
static int pairs = 5;
static const char *word = "";
static enum df_dtype type = DF_BF16;

static struct {
	struct df_tensor x, dy, w, dw, first; /* [R,D] [R,N] [X N,D] twice */
	struct df_tensor list[EXPERTS_MAX], sums[EXPERTS_MAX];
	size_t n_experts, n, d;
} e;

static int
forward(void)
{
	struct df_gemm_groups g = { true, 1, 0, e.x, e.dy, e.first, e.list, e.n_experts };

	return df_gemm_groups(be, &g, err);
}
static int
dense_forward(void)
{
	return df_gemm(be, &(struct df_gemm){ false, true, 1, 0, e.x, e.list[0], e.dy }, err);
}
static int
input_gradient(void)
{
	struct df_gemm_groups g = { false, 1, 0, e.dy, e.x, e.first, e.list, e.n_experts };

	return df_gemm_groups(be, &g, err);
}
static int
dense_input_gradient(void)
{
	return df_gemm(be, &(struct df_gemm){ false, false, 1, 0, e.dy, e.list[0], e.x }, err);
}
static int
weight_gradient(void)
{
	struct df_gemm_group_sums g = { 1e-3f, 1, e.dy, e.x, e.first, e.sums, e.n_experts };

	return df_gemm_group_sums(be, &g, err);
}
static int
dense_weight_gradient(void)
{
	return df_gemm(be, &(struct df_gemm){ true, false, 1e-3f, 1, e.dy, e.x, e.sums[0] }, err);
}

/* Seconds of one call: of the clock, and of all threads' work, which other programs disturb less. */
static int
seconds(int (*op)(void), double *secs, double *work)
{
	struct timespec t0, t1;
	double start;
	int rc;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t0);
	start = now();
	rc = op();
	*secs = now() - start;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t1);
	*work = (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec);
	return rc;
}

static double
median(double *v)
{
	qsort(v, (size_t)pairs, sizeof(*v), compare_doubles);
	return v[pairs / 2];
}

static int
compare(const char *what, int (*groups)(void), int (*dense)(void))
{
	const double flops = 2.0 * (double)e.x.rows * (double)e.n * (double)e.d;
	double g[PAIRS_MAX], d[PAIRS_MAX], g_work[PAIRS_MAX], d_work[PAIRS_MAX], time[PAIRS_MAX], work[PAIRS_MAX];
	int rc = 0;

	DF_TRY(groups()); /* touch the memory */
	DF_TRY(dense());
	for (int i = 0; i < pairs; i++) {
		DF_TRY(seconds(groups, &g[i], &g_work[i]));
		DF_TRY(seconds(dense, &d[i], &d_work[i]));
		time[i] = g[i] / d[i];
		work[i] = g_work[i] / d_work[i];
	}
	printf("  %-16s %6.1f GFLOP/s a thread, dense %6.1f: time %.2f, work %.2f\n", what,
	    1e-9 * flops / median(g_work), 1e-9 * flops / median(d_work), median(time), median(work));
out:
	return rc;
}

/* Numbers in [-1/2, 1/2), a million different ones. */
static int
tensor(struct df_tensor *t, enum df_dtype of, size_t rows, size_t cols)
{
	enum { N = 1 << 20 };
	const size_t n = rows * cols;
	struct df_tensor some = DF_TENSOR_NONE;
	float *v = NULL;
	int rc;

	DF_TRY(df_alloc(&v, N, sizeof(*v), "numbers", err));
	for (size_t i = 0; i < N; i++)
		v[i] = (float)df_rng_uniform(1, DF_RNG_DEMO, 0, i) - 0.5f;
	DF_TRY(df_tensor_alloc(be, &some, DF_F32, 1, N, "numbers", err));
	DF_TRY(df_upload(be, some, v, err));
	DF_TRY(df_tensor_alloc(be, t, of, rows, cols, "tensor", err));
	for (size_t at = 0; at < n; at += N) {
		const size_t k = n - at < N ? n - at : N;

		DF_TRY(df_copy(be, df_tensor_view(*t, at, 1, k), df_tensor_cols(some, 0, k), err));
	}
out:
	df_tensor_free(be, &some);
	free(v);
	return rc;
}

/* first [1,X+1]: each token takes k different experts, every set as likely as any other. */
static int
draw(size_t n_tokens, size_t n_experts, size_t k)
{
	uint32_t first[EXPERTS_MAX + 1] = { 0 };
	int rc;

	for (size_t t = 0; t < n_tokens; t++) {
		bool taken[EXPERTS_MAX] = { false };

		for (size_t i = 0, n = 0; i < k; n++) {
			const size_t x = (size_t)(df_rng_uniform(2, DF_RNG_DEMO, (uint32_t)t, n) * (double)n_experts);

			if (taken[x])
				continue;
			taken[x] = true;
			first[x + 1]++;
			i++;
		}
	}
	for (size_t x = 0; x < n_experts; x++)
		first[x + 1] += first[x];
	DF_TRY(df_tensor_alloc(be, &e.first, DF_U32, 1, n_experts + 1, "first", err));
	DF_TRY(df_upload(be, e.first, first, err));
out:
	return rc;
}

static int
products(const char *model, const char *part, size_t n_experts, size_t k, size_t n_tokens, size_t n, size_t d)
{
	char name[128];
	int rc = 0;

	snprintf(name, sizeof(name), "%s %s: %zu tokens, %zu of %zu experts [%zu,%zu]", model, part, n_tokens, k,
	    n_experts, n, d);
	if (!strstr(name, word))
		return 0;
	printf("%s, about %zu rows each\n", name, n_tokens * k / n_experts);
	e.n_experts = n_experts;
	e.n = n;
	e.d = d;
	DF_TRY(tensor(&e.x, DF_F32, n_tokens * k, d));
	DF_TRY(tensor(&e.dy, DF_F32, n_tokens * k, n));
	DF_TRY(tensor(&e.w, type, n_experts * n, d));
	DF_TRY(tensor(&e.dw, DF_F32, n_experts * n, d));
	DF_TRY(draw(n_tokens, n_experts, k));
	for (size_t i = 0; i < n_experts; i++) {
		e.list[i] = df_tensor_rows(e.w, i * n, n);
		e.sums[i] = df_tensor_rows(e.dw, i * n, n);
	}
	DF_TRY(compare("forward", forward, dense_forward));
	DF_TRY(compare("input gradient", input_gradient, dense_input_gradient));
	DF_TRY(compare("weight gradient", weight_gradient, dense_weight_gradient));
out:
	df_tensor_free(be, &e.x);
	df_tensor_free(be, &e.dy);
	df_tensor_free(be, &e.w);
	df_tensor_free(be, &e.dw);
	df_tensor_free(be, &e.first);
	return rc;
}

int
main(int argc, char **argv)
{
	static const size_t n_tokens[] = { 512, 1024, 2048, 4096 };
	const char *t = getenv("TYPE");
	struct df_err failed = DF_ERR_INIT;
	struct df_pool *pool = NULL;
	int rc;

	err = &failed;
	if (argc > 1)
		pairs = atoi(argv[1]);
	if (argc > 2)
		word = argv[2];
	if (pairs < 1 || pairs > PAIRS_MAX)
		return 64;
	if (t && strcmp(t, "f32") == 0)
		type = DF_F32;
	DF_TRY(df_pool_new(&pool, 0, err));
	DF_TRY(df_backend_open(&be, bench_device(), pool, err));
	printf("%s, %d threads, weights in %s\n", bench_device(), df_pool_size(pool), df_dtype_name(type));
	for (size_t i = 0; i < sizeof(n_tokens) / sizeof(n_tokens[0]); i++) {
		DF_TRY(products("qwen1.5-moe", "gate_up", 60, 4, n_tokens[i], 2816, 2048));
		DF_TRY(products("qwen1.5-moe", "down", 60, 4, n_tokens[i], 2048, 1408));
		DF_TRY(products("olmoe", "gate_up", 64, 8, n_tokens[i], 2048, 2048));
		DF_TRY(products("qwen3-moe", "gate_up", 128, 8, n_tokens[i], 1536, 2048));
		DF_TRY(products("qwen3-moe", "down", 128, 8, n_tokens[i], 2048, 768));
	}
out:
	if (rc)
		fprintf(stderr, "bench_experts: %s\n", failed.msg);
	df_backend_close(be);
	df_pool_free(pool);
	return rc ? 1 : 0;
}
