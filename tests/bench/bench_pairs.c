/*
 * bench_pairs.c - all near pairs against the bare product that they would take.
 *
 * A = df_near_pairs on one thread, all of it.  B = the product of all N x N pairs (both halves) in float32 by
 * df_gemm on the same device, in blocks, nothing done with it; measured on every 16th panel of rows and multiplied.
 * Both in the processor time of this process.  Printed: A, B, A / B, and how many pairs were found.
 *
 * Rows have norm 1 and are: "random", independent directions; "groups", a tenth as many directions with noise, so that
 * some pairs are near; "skewed", as embeddings are: few strong directions, and a mean that all share.
 *
 *   bench_pairs [N [D [KERNEL]]]     100000 384; KERNEL: one of near/int8.c, "products" or "all" instead of the best
 *   bench_pairs N D groups FILE.h5   writes such embeddings, for df-score (semdedup.sh)
 *
 * Goals: semdedup over all pairs, N = 100000, D = 384: A / B <= 1.25.  TSDS, N = 100000, D = 1024: its density, the L2
 * lines, within 17 s on two cores, so A <= 34.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

#include "backend/backend.h"
#include "base/mem.h"
#include "base/rng.h"
#include "near/pairs.h"
#include "near/propose.h"
#include "shard/shard.h"

enum { PANEL = 512, COLUMNS = 2048, EVERY = 16 };

static double
cpu_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* A quick normal: the sum of uniforms is near enough. */
static float
noise(uint64_t *state)
{
	float sum = 0;

	for (int i = 0; i < 4; i++) {
		*state = *state * 6364136223846793005u + 1442695040888963407u;
		sum += (float)(*state >> 40) * 0x1p-24f - 0.5f;
	}
	return sum;
}

static void
make_rows(float *x, uint64_t n, size_t d, const char *kind)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t own = i * 77 + 1, group = i / 10 * 99 + 5, all = 3;
		double square = 0;

		for (size_t c = 0; c < d; c++) {
			float v = noise(&own);

			if (strcmp(kind, "groups") == 0)
				v = noise(&group) + 0.3f * v * (float)(i % 7);
			else if (strcmp(kind, "skewed") == 0)
				v = v / sqrtf(1 + (float)c * 0.05f) + 0.15f * noise(&all);
			x[i * d + c] = v;
			square += (double)v * (double)v;
		}
		for (size_t c = 0; c < d; c++)
			x[i * d + c] = (float)((double)x[i * d + c] / sqrt(square));
	}
}

static int
count(void *ctx, uint64_t i, const uint64_t *j, const double *value, uint64_t n, bool *stop, struct df_err *err)
{
	(void)i;
	(void)j;
	(void)value;
	(void)stop;
	(void)err;
	*(uint64_t *)ctx += n;
	return DF_OK;
}

/* *seconds = of the bare product of all pairs. */
static int
bare(struct df_backend *be, const struct df_points *p, double *seconds, struct df_err *err)
{
	struct df_tensor a = DF_TENSOR_NONE, b = DF_TENSOR_NONE, c = DF_TENSOR_NONE;
	uint64_t rows = 0;
	double t0;
	int rc = DF_OK;

	DF_TRY(df_tensor_alloc(be, &c, DF_F32, PANEL, COLUMNS, "products", err));
	t0 = cpu_now();
	for (uint64_t i = 0; i < p->n; i += PANEL * EVERY) {
		const uint64_t m = p->n - i < PANEL ? p->n - i : PANEL;

		rows += m;
		DF_TRY(df_tensor_borrow(be, &a, DF_F32, m, p->d, p->x + i * p->d, "points", err));
		for (uint64_t j = 0; j < p->n; j += COLUMNS) {
			const uint64_t n = p->n - j < COLUMNS ? p->n - j : COLUMNS;

			DF_TRY(df_tensor_borrow(be, &b, DF_F32, n, p->d, p->x + j * p->d, "points", err));
			DF_TRY(df_gemm(be,
			    &(struct df_gemm){
				.tb = true, .alpha = 1, .a = a, .b = b, .c = df_tensor_view(c, 0, m, n) },
			    err));
			df_tensor_free(be, &b);
		}
		df_tensor_free(be, &a);
	}
	*seconds = (cpu_now() - t0) * (double)p->n / (double)rows;
out:
	df_tensor_free(be, &a);
	df_tensor_free(be, &b);
	df_tensor_free(be, &c);
	return rc;
}

static int
bench(struct df_backend *be, uint64_t n, size_t d, const char *kind, struct df_err *err)
{
	static const struct {
		enum df_metric metric;
		double limit;
	} limits[] = { { DF_METRIC_DOT, 0.95 }, { DF_METRIC_DOT, 0.8 }, { DF_METRIC_L2, 0.5625 } };
	const struct df_near near = { .be = be, .n_threads = 1 };
	double product = 0;
	float *x = NULL;
	struct df_points p;
	int rc = DF_OK;

	DF_TRY(df_alloc(&x, n, d * sizeof(*x), "points", err));
	make_rows(x, n, d, kind);
	p = (struct df_points){ x, n, d };
	DF_TRY(bare(be, &p, &product, err));
	for (size_t l = 0; l < sizeof(limits) / sizeof(limits[0]); l++) {
		uint64_t found = 0;
		double t0 = cpu_now(), t;

		DF_TRY(df_near_pairs(&near, limits[l].metric, &p, limits[l].limit, count, &found, err));
		t = cpu_now() - t0;
		printf(
		    "%-7s n %6llu  d %4zu  %-3s %6.4f  pairs %7.2f s  bare product %7.1f s  ratio %.4f  found %llu\n",
		    kind, (unsigned long long)n, d, limits[l].metric == DF_METRIC_DOT ? "dot" : "l2", limits[l].limit,
		    t, product, t / product, (unsigned long long)found);
		fflush(stdout);
	}
out:
	free(x);
	return rc;
}

static int
write_rows(uint64_t n, size_t d, const char *kind, const char *path, struct df_err *err)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_EMBEDDING };
	const size_t widths[DF_COL_COUNT] = { [DF_COL_EMBEDDING] = d };
	struct df_meta m = { .kind = DF_KIND_EMBEDDINGS };
	struct df_batch b = { .n = n };
	struct df_writer *w = NULL;
	uint64_t *id = NULL;
	float *x = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&id, n, sizeof(*id), "ids", err));
	DF_TRY(df_alloc(&x, n, d * sizeof(*x), "points", err));
	for (uint64_t i = 0; i < n; i++)
		id[i] = i;
	make_rows(x, n, d, kind);
	b.col[DF_COL_ID] = (struct df_column_data){ .data = id, .width = 1 };
	b.col[DF_COL_EMBEDDING] = (struct df_column_data){ .data = x, .width = d };
	DF_TRY(df_meta_set_tool(&m, "bench_pairs", err));
	DF_TRY(df_writer_open(&w, path, &m, cols, 2, widths, NULL, err));
	DF_TRY(df_writer_put(w, &b, err));
	DF_TRY(df_writer_commit(w, NULL, err));
out:
	df_writer_close(w);
	df_meta_release(&m);
	free(id);
	free(x);
	return rc;
}

static void
use(const char *kernel)
{
	if (strcmp(kernel, "products") == 0)
		df_propose_force(DF_PROPOSE_PRODUCTS, NULL);
	else if (strcmp(kernel, "all") == 0)
		df_propose_force(DF_PROPOSE_ALL, NULL);
	else
		df_propose_force(DF_PROPOSE_CHOOSE, kernel);
}

int
main(int argc, char **argv)
{
	static const char *const kinds[] = { "random", "groups", "skewed" };
	const uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
	const size_t d = argc > 2 ? strtoull(argv[2], NULL, 10) : 384;
	struct df_backend *be = NULL;
	struct df_err err = DF_ERR_INIT;
	int rc;

	if (argc > 3)
		use(argv[3]);
	rc = argc > 4 ? write_rows(n, d, argv[3], argv[4], &err) : df_backend_open(&be, bench_device(), NULL, &err);
	if (argc > 4)
		return rc != DF_OK;
	for (size_t k = 0; k < 3 && rc == DF_OK; k++)
		rc = bench(be, n, d, kinds[k], &err);
	if (rc != DF_OK)
		fprintf(stderr, "bench_pairs: %s\n", err.msg);
	df_backend_close(be);
	return rc != DF_OK;
}
