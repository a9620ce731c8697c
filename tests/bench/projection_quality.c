/*
 * projection_quality.c - how well LESS's order survives a projection.
 *
 *   projection_quality TRAIN VAL SEEDS TYPE:K...       TYPE: rademacher, sjlt1, sjlt2 .. (nonzeros of a coordinate)
 *
 * TRAIN and VAL are gradients of df-grad, not projected.  Scores are LESS's with one subtask, of the gradients
 * themselves and of their projections; one line for each TYPE:K says how much of the order is left, over SEEDS seeds:
 *
 *   spearman   rank correlation with the scores without projection: mean, smallest
 *   top 5 %    share of the best 5 % that are the same: mean, smallest, largest
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/mem.h"
#include "base/pool.h"
#include "project/project.h"
#include "select/less.h"

#define ROWS 32

/* A way to make vectors of gradients, and what LESS makes of these. */
struct way {
	struct df_projector projector;
	bool exact; /* the gradient itself */
	struct df_projection projection;
	struct df_less less;
	float *y;      /* [ROWS, k] */
	double *score; /* [N] */
	struct df_err err;
	int rc;
};

struct bench {
	struct df_backend *be;
	struct df_pool *pool;
	struct way *way;
	size_t n_ways, n; /* n: training rows */
	const struct df_meta *meta;
	struct df_tensor g;
	const struct df_batch *batch;
	bool val;
};

static size_t
width(const struct way *w, const struct bench *b)
{
	return w->exact ? b->g.cols : w->projector.k;
}

static void
one_way(void *ctx, size_t i, int worker)
{
	struct bench *b = ctx;
	struct way *w = &b->way[i];
	struct df_err *err = &w->err;
	const size_t n = b->batch->n, k = width(w, b);
	const struct df_tensor g = df_tensor_rows(b->g, 0, n);
	const float *y = b->batch->col[DF_COL_GRADIENT].data;
	double *score;
	int rc = DF_OK;

	(void)worker;
	if (!w->exact) {
		DF_TRY(df_projection_begin(&w->projection, &w->projector, b->be, n, err));
		DF_TRY(df_projection_add_all(&w->projection, g, b->meta->manifest, b->meta->n_manifest, err));
		DF_TRY(df_projection_end(&w->projection, w->y, err));
		y = w->y;
	}
	score = w->score + b->batch->first;
	if (!b->val)
		df_less_train_rows(&w->less, y, n, 1, score);
	for (size_t r = 0; b->val && r < n; r++)
		if (!df_less_val_row(&w->less, y + r * k, 0))
			rc = df_fail(err, DF_EFORMAT, "a validation gradient is not finite");
out:
	w->rc = rc;
}

/* All rows of the file through all ways; those of TRAIN get their scores. */
static int
pass(struct bench *b, struct df_set *s, bool val, struct df_err *err)
{
	struct df_batch batch = DF_BATCH_INIT;
	uint64_t n;
	int rc = DF_OK;

	b->val = val;
	b->meta = df_set_meta(s);
	for (uint64_t first = 0; first < df_set_rows(s); first += n) {
		n = df_set_rows(s) - first < ROWS ? df_set_rows(s) - first : ROWS;
		DF_TRY(df_set_read(s, first, n, &batch, err));
		DF_TRY(df_upload(b->be, df_tensor_rows(b->g, 0, n), batch.col[DF_COL_GRADIENT].data, err));
		batch.first = first;
		b->batch = &batch;
		df_pool_for(b->pool, b->n_ways, one_way, b);
		for (size_t i = 0; i < b->n_ways; i++) {
			if (b->way[i].rc != DF_OK) {
				*err = b->way[i].err;
				rc = b->way[i].rc;
				goto out;
			}
		}
	}
out:
	df_batch_release(&batch);
	return rc;
}

/* ---- agreement ---- */

static const double *by;

static int
falling(const void *a, const void *b)
{
	const size_t i = *(const size_t *)a, j = *(const size_t *)b;

	return by[i] > by[j] ? -1 : by[i] < by[j] ? 1 : (i > j) - (i < j);
}

/* rank[i] = the place of row i. */
static void
ranks(const double *score, size_t n, size_t *order, size_t *rank)
{
	for (size_t i = 0; i < n; i++)
		order[i] = i;
	by = score;
	qsort(order, n, sizeof(*order), falling);
	for (size_t i = 0; i < n; i++)
		rank[order[i]] = i;
}

static void
agreement(const size_t *a, const size_t *b, size_t n, double *spearman, double *overlap)
{
	const size_t top = (n + 19) / 20;
	double d2 = 0;
	size_t same = 0;

	for (size_t i = 0; i < n; i++) {
		const double d = (double)a[i] - (double)b[i];

		d2 += d * d;
		same += a[i] < top && b[i] < top;
	}
	*spearman = 1 - 6 * d2 / ((double)n * ((double)n * (double)n - 1));
	*overlap = (double)same / (double)top;
}

/* Way 0 is exact; then `seeds` ways for each of the names. */
static int
report(const struct bench *b, char **names, size_t n_names, size_t seeds, struct df_err *err)
{
	size_t *order = NULL, *exact = NULL, *rank = NULL;
	int rc;

	DF_TRY(df_alloc(&order, b->n, sizeof(*order), "ranks", err));
	DF_TRY(df_alloc(&exact, b->n, sizeof(*exact), "ranks", err));
	DF_TRY(df_alloc(&rank, b->n, sizeof(*rank), "ranks", err));
	ranks(b->way[0].score, b->n, order, exact);
	printf("%-16s  %8s %8s   %6s %6s %6s\n", "projection", "spearman", "min", "top 5%", "min", "max");
	for (size_t i = 0; i < n_names; i++) {
		double s = 0, o = 0, s_min = 2, o_min = 2, o_max = -1;

		for (size_t j = 0; j < seeds; j++) {
			double spearman, overlap;

			ranks(b->way[1 + i * seeds + j].score, b->n, order, rank);
			agreement(exact, rank, b->n, &spearman, &overlap);
			s += spearman / (double)seeds;
			o += overlap / (double)seeds;
			s_min = spearman < s_min ? spearman : s_min;
			o_min = overlap < o_min ? overlap : o_min;
			o_max = overlap > o_max ? overlap : o_max;
		}
		printf("%-16s  %8.4f %8.4f   %6.3f %6.3f %6.3f\n", names[i], s, s_min, o, o_min, o_max);
	}
out:
	free(order);
	free(exact);
	free(rank);
	return rc;
}

/* ---- the command ---- */

static int
parse(const char *name, uint64_t seed, struct df_projector *p, struct df_err *err)
{
	const char *colon = strchr(name, ':');

	*p = (struct df_projector)DF_PROJECTOR_DEFAULT;
	p->seed = seed;
	if (strncmp(name, "sjlt", 4) == 0) {
		p->type = DF_PROJ_SJLT;
		p->sparsity = (uint32_t)strtoul(name + 4, NULL, 10);
	} else if (strncmp(name, "rademacher:", 11) != 0) {
		return df_fail(err, DF_EUSAGE, "%s is neither rademacher:K nor sjltS:K", name);
	}
	p->k = colon ? strtoull(colon + 1, NULL, 10) : 0;
	return df_projector_check(p, err);
}

static int
open_ways(struct bench *b, char **names, size_t seeds, struct df_err *err)
{
	int rc;

	DF_TRY(df_alloc(&b->way, b->n_ways, sizeof(*b->way), "projections", err));
	for (size_t i = 0; i < b->n_ways; i++) {
		struct way *w = &b->way[i];

		w->exact = i == 0;
		w->projection = (struct df_projection)DF_PROJECTION_INIT;
		if (!w->exact)
			DF_TRY(parse(names[(i - 1) / seeds], 1 + (i - 1) % seeds, &w->projector, err));
		DF_TRY(df_less_init(&w->less, width(w, b), 1, DF_VAL_MEAN_OF_COSINE, err));
		DF_TRY(df_alloc(&w->score, b->n, sizeof(*w->score), "scores", err));
		DF_TRY(df_alloc(&w->y, w->exact ? 0 : ROWS * w->projector.k, sizeof(*w->y), "projections", err));
	}
out:
	return rc;
}

static void
close_ways(struct bench *b)
{
	for (size_t i = 0; b->way && i < b->n_ways; i++) {
		df_projection_release(&b->way[i].projection);
		df_less_release(&b->way[i].less);
		free(b->way[i].score);
		free(b->way[i].y);
	}
	free(b->way);
}

int
main(int argc, char **argv)
{
	struct df_err err_ = DF_ERR_INIT, *err = &err_;
	struct df_set *train = NULL, *val = NULL;
	struct bench b = { 0 };
	size_t seeds, p;
	int rc;

	if (argc < 5 || (seeds = strtoul(argv[3], NULL, 10)) == 0) {
		fprintf(stderr, "usage: projection_quality TRAIN VAL SEEDS TYPE:K...\n");
		return 64;
	}
	DF_TRY(df_pool_new(&b.pool, 0, err));
	DF_TRY(df_backend_open(&b.be, "cpu", NULL, err));
	DF_TRY(df_set_open1(&train, DF_KIND_GRADIENTS, "train", argv[1], err));
	DF_TRY(df_set_open1(&val, DF_KIND_GRADIENTS, "val", argv[2], err));
	p = df_set_width(train, DF_COL_GRADIENT);
	b.n = df_set_rows(train);
	b.n_ways = 1 + seeds * (size_t)(argc - 4);
	DF_TRY(df_tensor_alloc(b.be, &b.g, DF_F32, ROWS, p, "gradients", err));
	DF_TRY(open_ways(&b, argv + 4, seeds, err));
	printf("%zu coordinates, %zu training rows, %llu validation rows, %zu seeds\n", p, b.n,
	    (unsigned long long)df_set_rows(val), seeds);
	DF_TRY(pass(&b, val, true, err));
	for (size_t i = 0; i < b.n_ways; i++)
		DF_TRY(df_less_end(&b.way[i].less, err));
	DF_TRY(pass(&b, train, false, err));
	rc = report(&b, argv + 4, (size_t)(argc - 4), seeds, err);
out:
	if (rc != DF_OK)
		fprintf(stderr, "projection_quality: %s\n", err->msg);
	close_ways(&b);
	if (b.be)
		df_tensor_free(b.be, &b.g);
	df_set_close(train);
	df_set_close(val);
	df_backend_close(b.be);
	df_pool_free(b.pool);
	return df_err_exit_status(rc);
}
