/*
 * bench_project.c - projections: the dense one against sgemm with a stored matrix, and how fast the sparse one is.
 *
 * Dense: A = df_project (signs made from Philox as they are needed), B = sgemm of
 * the same shape with the sign matrix lying in memory as floats, both on one
 * thread, in turn.  Printed is the rate of A over the rate of B: 1 means that
 * making the signs costs nothing.
 *
 * Sparse: coordinates of samples per second of this thread's CPU time, 4 nonzeros each, as the median of the runs and
 * the best of them.  A run takes a tenth of a second or so.
 *
 *   bench_project [PAIRS]
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

#include "backend/backend.h"
#include "base/mem.h"
#include "base/rng.h"

static const struct df_openblas *blas;

static void
fill(float *v, size_t n, uint32_t substream)
{
	for (size_t i = 0; i < n; i++)
		v[i] = (float)df_rng_uniform(1, DF_RNG_DEMO, substream, i) - 0.5F;
}

/* Gradients [samples, n] and zeros [samples, k] on a backend of one thread. */
struct shapes {
	struct df_backend *be;
	struct df_tensor g, y;
	float *host;
};

static int
shapes_new(struct shapes *s, size_t samples, size_t n, size_t k, struct df_err *err)
{
	int rc;

	DF_TRY(df_alloc(&s->host, samples * n, sizeof(*s->host), "gradient", err));
	fill(s->host, samples * n, 1);
	DF_TRY(df_backend_open(&s->be, bench_device(), NULL, err));
	DF_TRY(df_tensor_alloc(s->be, &s->g, DF_F32, samples, n, "gradient", err));
	DF_TRY(df_tensor_alloc(s->be, &s->y, DF_F32, samples, k, "projection", err));
	DF_TRY(df_upload(s->be, s->g, s->host, err));
	rc = df_fill(s->be, s->y, 0, err);
out:
	return rc;
}

static void
shapes_free(struct shapes *s)
{
	df_tensor_free(s->be, &s->g);
	df_tensor_free(s->be, &s->y);
	df_backend_close(s->be);
	free(s->host);
}

static int
bench_dense(size_t samples, size_t n, size_t k, int pairs, struct df_err *err)
{
	struct shapes s = { 0 };
	float *signs = NULL, *yh = NULL;
	double *ratio = NULL, *rate = NULL;
	int rc = 0;

	DF_TRY(df_alloc(&signs, n * k, sizeof(*signs), "signs", err));
	DF_TRY(df_alloc(&yh, samples * k, sizeof(*yh), "result", err));
	DF_TRY(df_alloc(&ratio, (size_t)pairs, sizeof(*ratio), "ratios", err));
	DF_TRY(df_alloc(&rate, (size_t)pairs, sizeof(*rate), "rates", err));
	DF_TRY(shapes_new(&s, samples, n, k, err));
	fill(signs, n * k, 2);
	for (size_t i = 0; i < n * k; i++)
		signs[i] = signs[i] < 0 ? -1.0F : 1.0F;

	struct df_project p = { .type = DF_PROJ_RADEMACHER, .g = s.g, .y = s.y, .seed = 42 };

	for (int i = -1; i < pairs; i++) {
		double t0 = now(), t1, t2;

		DF_TRY(df_project(s.be, &p, err));
		t1 = now();
		sgemm(blas, false, false, samples, k, n, s.host, signs, 1, yh);
		t2 = now();
		if (i >= 0) {
			ratio[i] = (t2 - t1) / (t1 - t0);
			rate[i] = 2.0 * (double)samples * (double)n * (double)k / (t1 - t0);
		}
	}
	qsort(ratio, (size_t)pairs, sizeof(*ratio), compare_doubles);
	qsort(rate, (size_t)pairs, sizeof(*rate), compare_doubles);
	printf("rademacher S %3zu  n %6zu  k %5zu     rate/sgemm %.3f  [%.3f .. %.3f]  %.1f GFLOP/s  (%d pairs)\n",
	    samples, n, k, ratio[pairs / 2], ratio[0], ratio[pairs - 1], 1e-9 * rate[pairs / 2], pairs);
	fflush(stdout);
out:
	shapes_free(&s);
	free(signs);
	free(yh);
	free(ratio);
	free(rate);
	return rc;
}

static double
cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int
bench_sparse(size_t samples, size_t n, size_t k, int runs, struct df_err *err)
{
	const size_t calls = 1 + ((size_t)1 << 25) / (samples * n);
	struct shapes s = { 0 };
	double *rate = NULL;
	int rc = 0;

	DF_TRY(df_alloc(&rate, (size_t)runs, sizeof(*rate), "rates", err));
	DF_TRY(shapes_new(&s, samples, n, k, err));

	struct df_project p = { .type = DF_PROJ_SJLT, .g = s.g, .y = s.y, .seed = 42, .sparsity = 4 };

	for (int i = -1; i < runs; i++) {
		double t0 = cpu_seconds();

		for (size_t c = 0; c < calls; c++)
			DF_TRY(df_project(s.be, &p, err));
		if (i >= 0)
			rate[i] = (double)calls * (double)samples * (double)n / (cpu_seconds() - t0);
	}
	qsort(rate, (size_t)runs, sizeof(*rate), compare_doubles);
	printf("sjlt s=4   S %3zu  n %6zu  k %5zu     %.2f G coordinates/s, the best %.2f  (%d runs)\n", samples, n, k,
	    1e-9 * rate[runs / 2], 1e-9 * rate[runs - 1], runs);
	fflush(stdout);
out:
	shapes_free(&s);
	free(rate);
	return rc;
}

int
main(int argc, char **argv)
{
	static const size_t samples[] = { 1, 8, 16, 64 }, columns[] = { 1024, 4096, 8192 };
	struct df_err err = DF_ERR_INIT;
	int pairs = argc > 1 ? atoi(argv[1]) : 9, rc = 0;

	if (pairs < 1)
		return 64;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]) && !rc; i++)
		for (size_t c = 0; c < sizeof(columns) / sizeof(columns[0]) && !rc; c++)
			rc = bench_sparse(samples[i], 65536, columns[c], pairs, &err);
	if (!rc)
		rc =
		    bench_sparse(64, 7168, 8192, pairs, &err); /* a small matrix: the sums' way there and back counts */
	if (!rc)
		rc = df_openblas_load(&blas, &err);
	for (size_t s = 32; s <= 256 && !rc; s *= 2)
		rc = bench_dense(s, 8192, 8192, pairs, &err);
	if (!rc)
		rc = bench_dense(64, 16384, 2048, pairs, &err);
	if (rc)
		fprintf(stderr, "bench_project: %s\n", err.msg);
	return df_err_exit_status(rc);
}
