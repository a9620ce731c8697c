/*
 * random_points.c - embeddings of any size, for benches of searches and of what chooses by them.
 *
 *   random_points ROWS D CLUSTERS SEED FILE.h5 [FILE.npy]
 *
 * writes ROWS unit vectors of D numbers.  CLUSTERS 0: in random directions.  Else each lies near one of that many
 * random centres, which are the same for every SEED: the distance of two of a cluster is about 0.6.  The second file
 * has the same vectors for numpy.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "shard/shard.h"

#define STEP  1024
#define NOISE 0.45 /* length of the noise beside a centre of length 1 */

struct points {
	uint64_t n, n_clusters, seed;
	size_t d;
	FILE *npy;
};

static void
make_row(const struct points *p, uint64_t row, float *x)
{
	const double scale = p->n_clusters ? NOISE / sqrt((double)p->d) : 1;
	const uint64_t cluster =
	    p->n_clusters ? (uint64_t)(df_rng_uniform(p->seed, DF_RNG_DEMO, 1, row) * (double)p->n_clusters) : 0;
	double sum = 0;

	for (size_t i = 0; i < p->d; i++) {
		double v = scale * df_rng_normal(p->seed, DF_RNG_DEMO, 0, row * p->d + i);

		if (p->n_clusters)
			v += df_rng_normal(0, DF_RNG_DEMO, 2, cluster * p->d + i) / sqrt((double)p->d);
		x[i] = (float)v;
		sum += v * v;
	}
	for (size_t i = 0; i < p->d; i++)
		x[i] = (float)((double)x[i] / sqrt(sum));
}

static int
put_rows(const struct points *p, struct df_writer *w, struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;
	uint64_t *id;
	float *x;
	int rc = DF_OK;

	for (uint64_t at = 0; at < p->n; at += b.n) {
		df_batch_clear(&b);
		b.first = at;
		b.n = p->n - at < STEP ? p->n - at : STEP;
		DF_TRY(df_arena_alloc(&b.arena, &id, b.n, sizeof(*id), "ids", err));
		DF_TRY(df_arena_alloc(&b.arena, &x, b.n * p->d, sizeof(*x), "rows", err));
		for (uint64_t i = 0; i < b.n; i++) {
			id[i] = at + i;
			make_row(p, at + i, x + i * p->d);
		}
		if (p->npy && fwrite(x, sizeof(*x), b.n * p->d, p->npy) != b.n * p->d) {
			rc = df_fail(err, DF_EIO, "the .npy file:");
			goto out;
		}
		b.col[DF_COL_ID] = (struct df_column_data){ .data = id, .width = 1 };
		b.col[DF_COL_EMBEDDING] = (struct df_column_data){ .data = x, .width = p->d };
		DF_TRY(df_writer_put(w, &b, err));
	}
out:
	df_batch_release(&b);
	return rc;
}

/* The header of numpy's format 1.0: 128 bytes. */
static int
open_npy(struct points *p, const char *path, struct df_err *err)
{
	p->npy = fopen(path, "wb");
	if (!p->npy)
		return df_fail(err, DF_ECREATE, "%s:", path);
	fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, p->npy);
	fprintf(p->npy, "{'descr': '<f4', 'fortran_order': False, 'shape': (%12llu, %12zu), }",
	    (unsigned long long)p->n, p->d);
	while (ftell(p->npy) < 127)
		fputc(' ', p->npy);
	fputc('\n', p->npy);
	return DF_OK;
}

int
main(int argc, char **argv)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_EMBEDDING };
	struct df_writer_opts opts = { .compress = DF_COMPRESS_DEFAULT };
	size_t widths[DF_COL_COUNT] = { 0 };
	struct df_meta m = { .kind = DF_KIND_EMBEDDINGS };
	struct df_err err_ = DF_ERR_INIT, *err = &err_;
	struct df_writer *w = NULL;
	struct points p = { 0 };
	int rc = DF_OK;

	if (argc != 6 && argc != 7) {
		fprintf(stderr, "usage: random_points ROWS D CLUSTERS SEED FILE.h5 [FILE.npy]\n");
		return 64;
	}
	p.n = strtoull(argv[1], NULL, 10);
	p.d = widths[DF_COL_EMBEDDING] = strtoull(argv[2], NULL, 10);
	p.n_clusters = strtoull(argv[3], NULL, 10);
	p.seed = strtoull(argv[4], NULL, 10);
	if (argc == 7)
		DF_TRY(open_npy(&p, argv[6], err));
	DF_TRY(df_meta_set_tool(&m, "random_points", err));
	DF_TRY(df_writer_open(&w, argv[5], &m, cols, 2, widths, &opts, err));
	DF_TRY(put_rows(&p, w, err));
	DF_TRY(df_writer_commit(w, NULL, err));
	if (p.npy && fclose(p.npy) != 0)
		rc = df_fail(err, DF_EIO, "%s:", argv[6]);
out:
	if (rc != DF_OK)
		fprintf(stderr, "random_points: %s\n", err->msg);
	df_writer_close(w);
	df_meta_release(&m);
	return df_err_exit_status(rc);
}
