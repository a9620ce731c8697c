/*
 * bench_rows.c - how fast rows come in no order, and what that takes in memory.
 *
 *   bench_rows TOKENS N      N rows of a tokens set, drawn anew each time, in batches of 16, read ahead by 256
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/rng.h"
#include "bench.h"
#include "rows/rows.h"

#define BATCH 16
#define AHEAD 256

static double
cpu_seconds(struct rusage *u)
{
	getrusage(RUSAGE_SELF, u);
	return (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) +
	    1e-6 * (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec);
}

static uint64_t
drawn(const struct df_rows *r, uint64_t i)
{
	return (uint64_t)(df_rng_uniform(1, DF_RNG_DEMO, 7, i) * (double)r->n);
}

int
main(int argc, char **argv)
{
	struct df_err error = DF_ERR_INIT, *err = &error;
	struct df_gather g = { 0 };
	struct df_tokens b;
	struct df_rows r;
	struct rusage u;
	uint64_t rows[AHEAD], tokens = 0;
	int64_t n = 0;
	double began = now(), opened, cpu;
	int rc;

	if (argc != 3 || df_parse_int(argv[2], 1, INT64_MAX / 2, &n, NULL) != DF_OK) {
		fprintf(stderr, "usage: bench_rows TOKENS N\n");
		return 64;
	}
	DF_TRY(df_rows_load(&r, "tokens", (const char *const *)&argv[1], 1, err));
	opened = now();
	cpu = cpu_seconds(&u);
	printf("opened in %.2f s (cpu %.2f s), %ld MiB\n", opened - began, cpu, u.ru_maxrss / 1024);
	for (int64_t i = 0; i < n; i += BATCH) {
		for (int k = 0; k < AHEAD; k++)
			rows[k] = drawn(&r, (uint64_t)(i + k));
		DF_TRY(df_rows_ahead(&r, rows, AHEAD, err));
		DF_TRY(df_gather_batch(&g, &r, rows, BATCH, &b, err));
		tokens += b.offsets[BATCH];
	}
	cpu = cpu_seconds(&u) - cpu;
	printf("%.0f rows/s, %.2e tokens/s; cpu %.1f us a row; %ld MiB\n", (double)n / (now() - opened),
	    (double)tokens / (now() - opened), 1e6 * cpu / (double)n, u.ru_maxrss / 1024);
	df_rows_release(&r);
out:
	if (rc != DF_OK)
		fprintf(stderr, "bench_rows: %s\n", err->msg);
	df_gather_release(&g);
	return rc == DF_OK ? 0 : 1;
}
