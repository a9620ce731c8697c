/*
 * rate.c - the speed of matrix products, measured.
 */
#include "backend/rate.h"

#include <time.h>

#define N       512
#define SECONDS 0.1

int
df_backend_rate(struct df_backend *be, double *flops, struct df_err *err)
{
	struct df_tensor t = DF_TENSOR_NONE;
	struct timespec a, b;
	double secs = 0, done = 0;
	int rc;

	DF_TRY(df_tensor_alloc(be, &t, DF_F32, (size_t)3 * N, N, "a test product", err));
	DF_TRY(df_fill(be, t, 0.0f, err));
	do {
		const struct df_gemm g = { .alpha = 1,
			.a = df_tensor_rows(t, 0, N),
			.b = df_tensor_rows(t, N, N),
			.c = df_tensor_rows(t, (size_t)2 * N, N) };

		clock_gettime(CLOCK_MONOTONIC, &a);
		DF_TRY(df_gemm(be, &g, err));
		DF_TRY(df_sync(be, err));
		clock_gettime(CLOCK_MONOTONIC, &b);
		secs += (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
		done += 2.0 * N * N * N;
	} while (secs < SECONDS);
	*flops = done / secs;
out:
	df_tensor_free(be, &t);
	return rc;
}
