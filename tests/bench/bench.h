/*
 * bench.h - what every bench needs: a clock, an order of its times, the device and the yardstick.
 */
#ifndef DF_BENCH_H
#define DF_BENCH_H

#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "backend/openblas/load.h"

static inline double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* For qsort(3). */
static inline int
compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* What is measured: DEVICE of the environment, or cpu. */
static inline const char *
bench_device(void)
{
	const char *device = getenv("DEVICE");

	return device && *device ? device : "cpu";
}

/* The yardstick: c [m,n] = op(a) op(b) + beta c by one call of OpenBLAS's sgemm, all dense. */
static inline void
sgemm(const struct df_openblas *blas, bool ta, bool tb, size_t m, size_t n, size_t k, const float *a, const float *b,
    float beta, float *c)
{
	blas->sgemm(DF_CBLAS_ROW_MAJOR, ta ? DF_CBLAS_TRANS : DF_CBLAS_NO_TRANS,
	    tb ? DF_CBLAS_TRANS : DF_CBLAS_NO_TRANS, (int)m, (int)n, (int)k, 1, a, (int)(ta ? m : k), b,
	    (int)(tb ? k : n), beta, c, (int)n);
}

#endif
