/*
 * bench_project.c - the dense projection against sgemm with a stored matrix.
 *
 * A = df_project (signs made from Philox as they are needed), B = sgemm of
 * the same shape with the sign matrix lying in memory as floats, both on one
 * thread, in turn.  Printed is the rate of A over the rate of B: 1 means that
 * making the signs costs nothing.
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

static int
bench(size_t samples, size_t n, size_t k, enum df_projection_type type, int pairs, struct df_err *err)
{
	struct df_backend *be = NULL;
	struct df_tensor g = DF_TENSOR_NONE, y = DF_TENSOR_NONE;
	float *gh = NULL, *signs = NULL, *yh = NULL;
	double *ratio = NULL, *rate = NULL, flops = 2.0 * (double)samples * (double)n * (double)k;
	int rc = 0;

	DF_TRY(df_alloc(&gh, samples * n, sizeof(*gh), "gradient", err));
	DF_TRY(df_alloc(&signs, n * k, sizeof(*signs), "signs", err));
	DF_TRY(df_alloc(&yh, samples * k, sizeof(*yh), "result", err));
	DF_TRY(df_alloc(&ratio, (size_t)pairs, sizeof(*ratio), "ratios", err));
	DF_TRY(df_alloc(&rate, (size_t)pairs, sizeof(*rate), "rates", err));
	for (size_t i = 0; i < samples * n; i++)
		gh[i] = (float)df_rng_uniform(1, DF_RNG_DEMO, 1, i) - 0.5F;
	for (size_t i = 0; i < n * k; i++)
		signs[i] = df_rng_uniform(1, DF_RNG_DEMO, 2, i) < 0.5 ? -1.0F : 1.0F;
	DF_TRY(df_backend_open(&be, bench_device(), NULL, err));
	DF_TRY(df_tensor_alloc(be, &g, DF_F32, samples, n, "gradient", err));
	DF_TRY(df_tensor_alloc(be, &y, DF_F32, samples, k, "projection", err));
	DF_TRY(df_upload(be, g, gh, err));
	DF_TRY(df_fill(be, y, 0, err));

	struct df_project p = { .type = type, .g = g, .y = y, .seed = 42, .sparsity = 4 };

	for (int i = -1; i < pairs; i++) {
		double t0 = now(), t1, t2;

		DF_TRY(df_project(be, &p, err));
		t1 = now();
		sgemm(blas, false, false, samples, k, n, gh, signs, 1, yh);
		t2 = now();
		if (i >= 0) {
			ratio[i] = (t2 - t1) / (t1 - t0);
			rate[i] = type == DF_PROJ_SJLT ? (double)samples * (double)n / (t1 - t0) : flops / (t1 - t0);
		}
	}
	qsort(ratio, (size_t)pairs, sizeof(*ratio), compare_doubles);
	qsort(rate, (size_t)pairs, sizeof(*rate), compare_doubles);
	printf("%-10s S %3zu  n %6zu  k %5zu     rate/sgemm %.3f  [%.3f .. %.3f]  %.1f %s  (%d pairs)\n",
	    type == DF_PROJ_SJLT ? "sjlt s=4" : "rademacher", samples, n, k, ratio[pairs / 2], ratio[0],
	    ratio[pairs - 1], 1e-9 * rate[pairs / 2], type == DF_PROJ_SJLT ? "G coordinates/s" : "GFLOP/s", pairs);
	fflush(stdout);
out:
	df_tensor_free(be, &g);
	df_tensor_free(be, &y);
	df_backend_close(be);
	free(gh);
	free(signs);
	free(yh);
	free(ratio);
	free(rate);
	return rc;
}

int
main(int argc, char **argv)
{
	struct df_err err = DF_ERR_INIT;
	int pairs = argc > 1 ? atoi(argv[1]) : 9, rc = 0;

	if (pairs < 1)
		return 64;
	rc = df_openblas_load(&blas, &err);
	for (size_t s = 32; s <= 256 && !rc; s *= 2)
		rc = bench(s, 8192, 8192, DF_PROJ_RADEMACHER, pairs, &err);
	if (!rc)
		rc = bench(64, 16384, 2048, DF_PROJ_RADEMACHER, pairs, &err);
	if (!rc)
		rc = bench(64, 65536, 2048, DF_PROJ_SJLT, pairs, &err);
	if (rc)
		fprintf(stderr, "bench_project: %s\n", err.msg);
	return df_err_exit_status(rc);
}
