/*
 * bench_near.c - exact nearest neighbours over the bare product of the same rows.
 *
 * A = df_knn over all candidates, B = df_gemm of queries and candidates on the same device, a tile of 1,024 candidates
 * at a time into the same memory, both on the same threads, in turn.  Printed is the time of A over the time of B: the
 * goals are 1.25 for K = 1,000 and 1.15 for K = 10.
 *
 *   bench_near [PAIRS [THREADS [N [M]]]]        DEVICE=cpu, METRIC=l2 or dot, COPY=1: rows are not lent
 *   bench_near file QUERIES CANDIDATES D K THREADS OUT      for faiss_knn.py: rows of float32 from two files; writes
 *                                                           the ids [M,K] to OUT as u64 and prints the seconds
 *
 * Times are the process's CPU time on one thread, else wall-clock time.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/pool.h"
#include "near/knn.h"

enum { TILE = 1024 };

struct data {
	struct df_near near;
	enum df_metric metric;
	const float *q, *c;
	uint64_t m, n, k;
	size_t d;
	bool copy;
	uint64_t *id;
	float *value;
};

static double
clock_of(int threads)
{
	struct timespec ts;

	clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static int
product(const struct data *x, struct df_err *err)
{
	struct df_backend *be = x->near.be;
	struct df_tensor q = DF_TENSOR_NONE, c = DF_TENSOR_NONE, y = DF_TENSOR_NONE;
	int rc = DF_OK;

	DF_TRY(df_tensor_borrow(be, &q, DF_F32, x->m, x->d, x->q, "queries", err));
	DF_TRY(df_tensor_borrow(be, &c, DF_F32, x->n, x->d, x->c, "candidates", err));
	DF_TRY(df_tensor_alloc(be, &y, DF_F32, x->m, TILE, "scores", err));
	for (uint64_t i = 0; i < x->n; i += TILE) {
		const size_t cols = x->n - i < TILE ? x->n - i : TILE;

		DF_TRY(df_gemm(be,
		    &(struct df_gemm){ .tb = true,
			.alpha = 1,
			.a = q,
			.b = df_tensor_rows(c, i, cols),
			.c = df_tensor_view(y, 0, x->m, cols) },
		    err));
	}
out:
	df_tensor_free(be, &y);
	df_tensor_free(be, &c);
	df_tensor_free(be, &q);
	return rc;
}

static int
search(const struct data *x, struct df_err *err)
{
	const struct df_points q = { x->q, x->m, x->d };
	struct df_knn *k = NULL;
	uint64_t found;
	int rc = DF_OK;

	DF_TRY(df_knn_new(&k, &x->near, x->metric, &q, x->k, NULL, err));
	DF_TRY((x->copy ? df_knn_add : df_knn_lend)(k, x->c, NULL, x->n, err));
	DF_TRY(df_knn_end(k, x->id, x->value, &found, err));
out:
	df_knn_free(k);
	return rc;
}

static int
compare(struct data *x, int pairs, int threads, struct df_err *err)
{
	double *ratio = NULL, *a = NULL, *b = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&x->id, x->m * x->k, sizeof(*x->id), "ids", err));
	DF_TRY(df_alloc(&x->value, x->m * x->k, sizeof(*x->value), "distances", err));
	DF_TRY(df_alloc(&ratio, (size_t)pairs, sizeof(*ratio), "ratios", err));
	DF_TRY(df_alloc(&a, (size_t)pairs, sizeof(*a), "times", err));
	DF_TRY(df_alloc(&b, (size_t)pairs, sizeof(*b), "times", err));
	for (int i = -1; i < pairs; i++) {
		const double t0 = clock_of(threads);
		double t1, t2;

		DF_TRY(search(x, err));
		t1 = clock_of(threads);
		DF_TRY(product(x, err));
		t2 = clock_of(threads);
		if (i >= 0) {
			a[i] = t1 - t0;
			b[i] = t2 - t1;
			ratio[i] = a[i] / b[i];
		}
	}
	qsort(ratio, (size_t)pairs, sizeof(*ratio), compare_doubles);
	qsort(a, (size_t)pairs, sizeof(*a), compare_doubles);
	qsort(b, (size_t)pairs, sizeof(*b), compare_doubles);
	printf(
	    "knn %s %s  M %5llu  N %6llu  d %4zu  K %4llu  %d threads     knn/product %.3f  [%.3f .. %.3f], of the best %.3f  %.3f s, "
	    "product %.3f s (%.0f GFLOP/s)  (%d pairs)\n",
	    x->metric == DF_METRIC_L2 ? "l2 " : "dot", df_backend_name(x->near.be), (unsigned long long)x->m,
	    (unsigned long long)x->n, x->d, (unsigned long long)x->k, threads, ratio[pairs / 2], ratio[0],
	    ratio[pairs - 1], a[0] / b[0], a[pairs / 2], b[pairs / 2],
	    2e-9 * (double)x->m * (double)x->n * (double)x->d / b[pairs / 2], pairs);
	fflush(stdout);
out:
	free(x->id);
	free(x->value);
	free(ratio);
	free(a);
	free(b);
	return rc;
}

/* Rows like embeddings: a common direction, a few others, noise; of norm 1. */
static void
fill(float *x, uint64_t n, size_t d, uint32_t seed)
{
	uint64_t state = seed;

	for (uint64_t i = 0; i < n; i++, x += d) {
		double square = 0;

		for (size_t j = 0; j < d; j++) {
			float sum = 0;

			for (int r = 0; r < 4; r++) {
				state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
				sum += (float)(state >> 40) * 0x1p-24F - 0.5F;
			}
			x[j] = sum + (j < 8 ? 1.0F : 0.0F);
			square += x[j] * x[j];
		}
		for (size_t j = 0; j < d; j++)
			x[j] *= (float)(1 / sqrt(square));
	}
}

static int
bench(int pairs, int threads, uint64_t n, uint64_t m, struct df_err *err)
{
	static const struct {
		size_t d;
		uint64_t k;
	} sizes[] = { { 1024, 1000 }, { 1024, 10 }, { 384, 1000 }, { 384, 10 } };
	const char *metric = getenv("METRIC"), *copy = getenv("COPY"), *d = getenv("D"), *k = getenv("K");
	struct data x = { .m = m, .n = n, .copy = copy && *copy };
	float *q = NULL, *c = NULL;
	int rc = DF_OK;

	x.metric = metric && strcmp(metric, "dot") == 0 ? DF_METRIC_DOT : DF_METRIC_L2;
	DF_TRY(df_pool_new(&x.near.pool, threads, err));
	x.near.n_threads = threads;
	DF_TRY(df_backend_open(&x.near.be, bench_device(), x.near.pool, err));
	DF_TRY(df_alloc(&q, m * 1024, sizeof(*q), "queries", err));
	DF_TRY(df_alloc(&c, n * 1024, sizeof(*c), "candidates", err));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if ((d && (size_t)atoi(d) != sizes[i].d) || (k && (uint64_t)atoi(k) != sizes[i].k))
			continue;
		fill(q, m, sizes[i].d, 1);
		fill(c, n, sizes[i].d, 2);
		x.q = q;
		x.c = c;
		x.d = sizes[i].d;
		x.k = sizes[i].k;
		DF_TRY(compare(&x, pairs, threads, err));
	}
out:
	free(q);
	free(c);
	df_backend_close(x.near.be);
	df_pool_free(x.near.pool);
	return rc;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static int
read_rows(const char *path, size_t d, float **x, uint64_t *n, struct df_err *err)
{
	char *bytes = NULL;
	size_t size = 0;
	int rc = DF_OK;

	DF_TRY(df_file_get(path, SIZE_MAX, &bytes, &size, err));
	*n = size / sizeof(float) / d;
	*x = (float *)bytes;
out:
	return rc;
}

static int
search_files(char **argv, struct df_err *err)
{
	const char *metric = getenv("METRIC");
	const int threads = atoi(argv[5]);
	struct data x = { .d = (size_t)atoll(argv[3]), .k = (uint64_t)atoll(argv[4]) };
	float *q = NULL, *c = NULL;
	FILE *out = NULL;
	double t0;
	int rc = DF_OK;

	x.metric = metric && strcmp(metric, "dot") == 0 ? DF_METRIC_DOT : DF_METRIC_L2;
	DF_TRY(df_pool_new(&x.near.pool, threads, err));
	x.near.n_threads = threads;
	DF_TRY(df_backend_open(&x.near.be, bench_device(), x.near.pool, err));
	DF_TRY(read_rows(argv[1], x.d, &q, &x.m, err));
	DF_TRY(read_rows(argv[2], x.d, &c, &x.n, err));
	x.q = q;
	x.c = c;
	DF_TRY(df_alloc(&x.id, x.m * x.k, sizeof(*x.id), "ids", err));
	DF_TRY(df_alloc(&x.value, x.m * x.k, sizeof(*x.value), "distances", err));
	t0 = clock_of(threads);
	DF_TRY(search(&x, err));
	printf("%.6f\n", clock_of(threads) - t0);
	out = fopen(argv[6], "wb");
	if (!out || fwrite(x.id, sizeof(*x.id), x.m * x.k, out) != x.m * x.k)
		rc = df_fail(err, DF_EIO, "%s:", argv[6]);
out:
	if (out && fclose(out) != 0 && rc == DF_OK)
		rc = df_fail(err, DF_EIO, "%s:", argv[6]);
	free(q);
	free(c);
	free(x.id);
	free(x.value);
	df_backend_close(x.near.be);
	df_pool_free(x.near.pool);
	return rc;
}

static int64_t
number(int argc, char **argv, int i, int64_t otherwise)
{
	return argc > i ? atoll(argv[i]) : otherwise;
}

int
main(int argc, char **argv)
{
	struct df_err err = DF_ERR_INIT;
	const bool files = argc == 8 && strcmp(argv[1], "file") == 0;
	const int pairs = files ? 1 : (int)number(argc, argv, 1, 9), threads = (int)number(argc, argv, 2, 1);
	int rc;

	if (!files && (pairs < 1 || threads < 1))
		return 64;
	rc = files ? search_files(argv + 1, &err)
		   : bench(pairs, threads, (uint64_t)number(argc, argv, 3, 100000),
			 (uint64_t)number(argc, argv, 4, 1000), &err);
	if (rc)
		fprintf(stderr, "bench_near: %s\n", err.msg);
	return df_err_exit_status(rc);
}
