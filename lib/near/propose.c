/*
 * propose.c - pairs that may be within a limit.
 *
 * Three ways, chosen by what they would cost on a sample of the points: bounds from 8-bit integers (screen.h), float32
 * products with the most that they may round by, and all pairs.
 */
#include "near/propose.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/simd.h"
#include "near/screen.h"

#pragma GCC optimize("O3", "no-trapping-math")

enum {
	WORD = DF_PROPOSE_WORD,
	COLUMNS = 1024,      /* of a block of float32 products */
	TASK_BLOCKS = 8,     /* blocks of columns that a task screens */
	SAMPLE = 512,        /* points of the sample, at most */
	SAMPLE_LEAST = 128,  /* with fewer points nothing is worth while */
	SAMPLE_SHARE = 8,    /* one of so many points */
	SAMPLE_EXACT = 2048, /* of its pairs that are decided exactly */
};
#define COST_EXACT 10.0 /* time of an exact value where that of a float32 product is 1 */

struct df_propose {
	const struct df_near *near;
	enum df_metric metric;
	const struct df_points *points;
	const uint8_t *valid;
	double limit;
	uint64_t n_panel;
	enum df_propose_way way;
	/* The screen. */
	struct df_screen *screen;
	struct df_screen_rows *rows;
	size_t cut;
	double *limits; /* [n_panel] all the same */
	/* Products. */
	double *norm, *half; /* [n]; half as in screen.c */
	float *room;         /* [n_panel, COLUMNS] for products */
	struct df_tensor out;
};

static enum df_propose_way forced_way;
static const char *forced_kernel;

void
df_propose_force(enum df_propose_way way, const char *kernel)
{
	forced_way = way;
	forced_kernel = kernel;
}

static const struct df_int8 *
find_kernel(void)
{
	for (size_t i = 0; forced_kernel && df_int8_kernels[i]; i++)
		if (strcmp(df_int8_kernels[i]->name, forced_kernel) == 0)
			return df_int8_kernels[i]->usable() ? df_int8_kernels[i] : NULL;
	return df_int8_best();
}

static uint64_t
div_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

/* ---- a sample of the pairs -------------------------------------------------------------------- */

struct sample {
	float *x; /* [n, d] blocks of points from all over the set */
	uint8_t *valid;
	uint64_t n;
	uint32_t *bits; /* [n][n / WORD] */
	struct df_screen *screen;
	struct df_screen_rows *rows;
	double *limits;
};

static void
sample_release(struct sample *s)
{
	free(s->x);
	free(s->valid);
	free(s->bits);
	free(s->limits);
	df_screen_free(s->screen);
	df_screen_rows_free(s->rows);
}

static int
draw_sample(struct sample *s, const struct df_propose *p, const struct df_int8 *kernel, struct df_err *err)
{
	const struct df_points *all = p->points;
	const uint64_t share = all->n / SAMPLE_SHARE;
	const uint64_t n_blocks = (share < SAMPLE_LEAST ? SAMPLE_LEAST : share < SAMPLE ? share : SAMPLE) / WORD;
	int rc = DF_OK;

	s->n = n_blocks * WORD;
	DF_TRY(df_alloc(&s->x, s->n, all->d * sizeof(*s->x), "sample", err));
	DF_TRY(df_alloc(&s->valid, s->n, 1, "sample", err));
	DF_TRY(df_alloc(&s->bits, s->n, n_blocks * sizeof(*s->bits), "sample", err));
	DF_TRY(df_alloc(&s->limits, s->n, sizeof(*s->limits), "sample", err));
	for (uint64_t b = 0; b < n_blocks; b++) {
		const uint64_t from = (all->n - WORD) / n_blocks * b;

		memcpy(s->x + b * WORD * all->d, all->x + from * all->d, WORD * all->d * sizeof(float));
		memcpy(s->valid + b * WORD, p->valid + from, WORD);
	}
	for (uint64_t i = 0; i < s->n; i++)
		s->limits[i] = p->limit;
	DF_TRY(df_screen_new(&s->screen, kernel, p->metric, s->n, all->d, err));
	DF_TRY(df_screen_rows_new(&s->rows, s->screen, s->n, err));
	df_screen_put(s->screen, p->near->pool, 0, s->x, s->valid, s->n);
	df_screen_rows_set(s->rows, p->near->pool, s->x, s->valid, s->n);
	df_screen_rows_limit(s->rows, s->limits);
out:
	return rc;
}

/*
 * *left = the fraction of the sample's pairs that the screen leaves, *within = that which is within the limit.  Pairs
 * of a point with itself do not count.
 */
static void
count_sample(const struct sample *s, const struct df_propose *p, double *left, double *within)
{
	const size_t d = p->points->d;
	const uint64_t n_words = s->n / WORD;
	uint64_t n_left = 0, n_decided = 0, n_within = 0, every, seen = 0;

	for (uint64_t i = 0; i < s->n; i++) {
		s->bits[i * n_words + i / WORD] &= ~(1U << i % WORD);
		for (uint64_t w = 0; w < n_words; w++)
			n_left += (uint64_t)__builtin_popcount(s->bits[i * n_words + w]);
	}
	every = n_left > 0 ? div_up(n_left, SAMPLE_EXACT) : 1;
	for (uint64_t i = 0; i < s->n; i++) {
		for (uint64_t j = 0; j < s->n; j++) {
			double v;

			if (!(s->bits[i * n_words + j / WORD] >> j % WORD & 1) || seen++ % every != 0)
				continue;
			v = df_exact(p->metric, s->x + i * d, s->x + j * d, d);
			n_decided++;
			n_within += p->metric == DF_METRIC_L2 ? v <= p->limit : v >= p->limit;
		}
	}
	*left = (double)n_left / (double)(s->n * s->n);
	*within = n_decided ? *left * (double)n_within / (double)n_decided : 0;
}

/* Of the pairs of different blocks: a block has pairs of points with themselves, which are always near. */
static double
fraction_whole(const struct df_screen_tally *t, uint64_t n_blocks)
{
	const uint64_t whole = t->whole > n_blocks ? t->whole - n_blocks : 0;

	return (double)whole / (double)(t->blocks - n_blocks);
}

/* The cheapest way; for the screen, *cut as well. */
static int
choose(
    const struct df_propose *p, const struct df_int8 *kernel, enum df_propose_way *way, size_t *cut, struct df_err *err)
{
	struct sample s = { 0 };
	double left = 1, within = 0, best = (double)INFINITY, screen, products;
	int rc = DF_OK;

	DF_TRY(draw_sample(&s, p, kernel, err));
	for (size_t c = 0; c < df_screen_cuts(s.screen); c++) {
		const size_t last = df_screen_cuts(s.screen) - 1;
		const double first =
		    (double)df_screen_cut_width(s.screen, c) / (double)df_screen_cut_width(s.screen, last);
		struct df_screen_tally tally = { 0 };
		double cost;

		df_screen_run(s.screen, s.rows, c, 0, s.n / WORD, s.bits, s.n / WORD, &tally);
		cost = first + (1 - first) * fraction_whole(&tally, s.n / WORD);
		if (cost < best) {
			best = cost;
			*cut = c;
		}
	}
	count_sample(&s, p, &left, &within);
	screen = kernel->cost * best + COST_EXACT * left;
	products = 1 + COST_EXACT * within;
	*way = screen < products ? DF_PROPOSE_SCREEN : DF_PROPOSE_PRODUCTS;
	if (fmin(screen, products) > COST_EXACT)
		*way = DF_PROPOSE_ALL;
	if (s.n == SAMPLE)
		df_debug("near pairs: a sample leaves %.3g of the pairs, %.3g are within the limit", left, within);
out:
	sample_release(&s);
	return rc;
}

/* ---- all pairs ---------------------------------------------------------------------------------- */

static void
propose_all(struct df_propose *p, uint64_t first, uint64_t n, uint32_t *bits, uint64_t stride)
{
	for (uint64_t i = 0; i < n; i++) {
		uint32_t *row = bits + i * stride;

		memset(row, 0, (size_t)div_up(first + i, WORD) * sizeof(*row));
		for (uint64_t j = 0; p->valid[first + i] && j < first + i; j++)
			row[j / WORD] |= (uint32_t)p->valid[j] << j % WORD;
	}
}

/* ---- the screen ----------------------------------------------------------------------------------- */

static int
open_screen(struct df_propose *p, const struct df_int8 *kernel, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_screen_new(&p->screen, kernel, p->metric, p->points->n, p->points->d, err));
	DF_TRY(df_screen_rows_new(&p->rows, p->screen, p->n_panel, err));
	DF_TRY(df_alloc(&p->limits, p->n_panel, sizeof(*p->limits), "limits", err));
	for (uint64_t i = 0; i < p->n_panel; i++)
		p->limits[i] = p->limit;
	p->cut = p->cut < df_screen_cuts(p->screen) ? p->cut : df_screen_cuts(p->screen) - 1;
out:
	return rc;
}

struct screen_task {
	const struct df_propose *p;
	uint64_t n_blocks;
	uint32_t *bits;
	uint64_t stride;
};

static void
screen_blocks(void *ctx, size_t i, int worker)
{
	const struct screen_task *t = ctx;
	const uint64_t first = i * TASK_BLOCKS, left = t->n_blocks - first;
	struct df_screen_tally tally = { 0 };

	(void)worker;
	df_screen_run(t->p->screen, t->p->rows, t->p->cut, first, left < TASK_BLOCKS ? left : TASK_BLOCKS, t->bits,
	    t->stride, &tally);
}

static void
propose_screened(struct df_propose *p, uint64_t first, uint64_t n, uint32_t *bits, uint64_t stride)
{
	const float *x = p->points->x + first * p->points->d;
	struct screen_task t = { p, div_up(first + n, WORD), bits, stride };

	df_screen_put(p->screen, p->near->pool, first, x, p->valid + first, n);
	df_screen_rows_set(p->rows, p->near->pool, x, p->valid + first, n);
	df_screen_rows_limit(p->rows, p->limits);
	df_pool_for(p->near->pool, div_up(t.n_blocks, TASK_BLOCKS), screen_blocks, &t);
}

/* ---- products of floats ------------------------------------------------------------------------------ */

static void
measure_point(void *ctx, size_t i, int worker)
{
	const struct df_propose *p = ctx;
	const size_t d = p->points->d;
	const double square =
	    p->valid[i] ? df_exact(DF_METRIC_DOT, p->points->x + i * d, p->points->x + i * d, d) : (double)INFINITY;

	(void)worker;
	p->norm[i] = p->valid[i] ? sqrt(square) : 0;
	p->half[i] = p->metric == DF_METRIC_L2 || !p->valid[i] ? square / 2 : 0;
}

static int
open_products(struct df_propose *p, struct df_err *err)
{
	const uint64_t n = p->points->n;
	int rc = DF_OK;

	DF_TRY(df_alloc(&p->norm, n, sizeof(*p->norm), "norms", err));
	DF_TRY(df_alloc(&p->half, n, sizeof(*p->half), "norms", err));
	DF_TRY(df_alloc(&p->room, p->n_panel, COLUMNS * sizeof(*p->room), "products", err));
	DF_TRY(df_tensor_alloc(p->near->be, &p->out, DF_F32, p->n_panel, COLUMNS, "products", err));
	df_pool_for(p->near->pool, n, measure_point, p);
out:
	return rc;
}

struct product_task {
	const struct df_propose *p;
	const float *product; /* [rows, n_columns] */
	uint64_t first, column, n_columns;
	uint32_t *bits;
	uint64_t stride;
};

/*
 * bits of a row for n columns.  A float32 product of d terms rounds by at most d 2^-24 |x| |y| in any order; what
 * overflowed tells nothing.
 */
DF_SIMD static void
compare_products(const float *product, const double *norm, const double *half, double slack, double least, uint64_t n,
    uint32_t *bits)
{
	for (uint64_t w = 0; w < div_up(n, WORD); w++) {
		const uint64_t left = n - w * WORD, end = left < WORD ? left : WORD;
		uint32_t word = 0;

		for (uint64_t j = 0; j < end; j++) {
			const uint64_t c = w * WORD + j;
			const bool low = (double)product[c] + slack * norm[c] - half[c] < least,
				   finite = fabsf(product[c]) <= FLT_MAX, valid = half[c] <= DBL_MAX;

			word |= (uint32_t)(valid && !(low && finite)) << j;
		}
		bits[w] = word;
	}
}

static void
compare_row(void *ctx, size_t i, int worker)
{
	const struct product_task *t = ctx;
	const struct df_propose *p = t->p;
	const size_t d = p->points->d;
	const double slack = ((double)d + 16) * (0x1p-23 * p->norm[t->first + i] + 0x1p-126);
	const double half = p->half[t->first + i];
	const double least = p->metric == DF_METRIC_L2 ? half - p->limit / 2 : p->limit;
	const double margin = 1e-9 * (fabs(p->limit) + half) + (double)d * 0x1p-126;

	uint32_t *bits = t->bits + i * t->stride + t->column / WORD;

	(void)worker;
	if (p->valid[t->first + i])
		compare_products(t->product + i * t->n_columns, p->norm + t->column, p->half + t->column, slack,
		    least - margin, t->n_columns, bits);
	else
		memset(bits, 0, (size_t)div_up(t->n_columns, WORD) * sizeof(*bits));
}

static int
propose_products(struct df_propose *p, uint64_t first, uint64_t n, uint32_t *bits, uint64_t stride, struct df_err *err)
{
	struct df_backend *be = p->near->be;
	const size_t d = p->points->d;
	struct df_tensor rows = DF_TENSOR_NONE, columns = DF_TENSOR_NONE;
	int rc = DF_OK;

	DF_TRY(df_tensor_borrow(be, &rows, DF_F32, n, d, p->points->x + first * d, "points", err));
	for (uint64_t c = 0; c < first + n; c += COLUMNS) {
		const uint64_t left = first + n - c, n_columns = left < COLUMNS ? left : COLUMNS;
		struct product_task t = { p, NULL, first, c, n_columns, bits, stride };
		struct df_tensor out = df_tensor_view(p->out, 0, n, n_columns);
		const void *product;

		DF_TRY(df_tensor_borrow(be, &columns, DF_F32, n_columns, d, p->points->x + c * d, "points", err));
		DF_TRY(
		    df_gemm(be, &(struct df_gemm){ .tb = true, .alpha = 1, .a = rows, .b = columns, .c = out }, err));
		DF_TRY(df_download_or_see(be, &product, p->room, out, err));
		t.product = product;
		df_pool_for(p->near->pool, n, compare_row, &t);
		df_tensor_free(be, &columns);
	}
out:
	df_tensor_free(be, &rows);
	df_tensor_free(be, &columns);
	return rc;
}

/* ---- one of them ------------------------------------------------------------------------------------- */

/* A limit beyond all numbers asks for all pairs or none, and bounds of it have no meaning. */
static int
choose_way(struct df_propose *p, struct df_err *err)
{
	const struct df_int8 *kernel = find_kernel();
	const bool can_screen = kernel && p->points->d <= DF_INT8_WIDEST;
	int rc = DF_OK;

	if (isinf(p->limit) || p->points->d == 0)
		p->way = DF_PROPOSE_ALL;
	else if (forced_way != DF_PROPOSE_CHOOSE)
		p->way = forced_way;
	else if (p->points->n < SAMPLE_LEAST)
		p->way = DF_PROPOSE_ALL;
	else if (can_screen)
		DF_TRY(choose(p, kernel, &p->way, &p->cut, err));
	else
		p->way = DF_PROPOSE_PRODUCTS;
	if (p->way == DF_PROPOSE_SCREEN)
		DF_TRY(open_screen(p, kernel, err));
	else if (p->way == DF_PROPOSE_PRODUCTS)
		DF_TRY(open_products(p, err));
out:
	return rc;
}

int
df_propose_new(struct df_propose **out, const struct df_near *near, enum df_metric metric,
    const struct df_points *points, const uint8_t *valid, double limit, uint64_t n_panel, struct df_err *err)
{
	struct df_propose *p = NULL;
	char text[128];
	int rc = DF_OK;

	DF_TRY(df_alloc(&p, 1, sizeof(*p), "near pairs", err));
	*out = p;
	*p = (struct df_propose){
		.near = near, .metric = metric, .points = points, .valid = valid, .limit = limit, .n_panel = n_panel
	};
	DF_TRY(choose_way(p, err));
	df_propose_describe(p, text, sizeof(text));
	if (points->n >= SAMPLE * SAMPLE_SHARE)
		df_debug("near pairs by %s", text);
out:
	return rc;
}

void
df_propose_free(struct df_propose *p)
{
	if (!p)
		return;
	df_screen_free(p->screen);
	df_screen_rows_free(p->rows);
	df_tensor_free(p->near->be, &p->out);
	free(p->limits);
	free(p->norm);
	free(p->half);
	free(p->room);
	free(p);
}

void
df_propose_describe(const struct df_propose *p, char *text, size_t size)
{
	if (p->way == DF_PROPOSE_SCREEN) {
		snprintf(text, size, "screen (%s, %zu of %zu dimensions first)", df_screen_kernel(p->screen)->name,
		    df_screen_cut_width(p->screen, p->cut), p->points->d);
	} else {
		snprintf(text, size, "%s", p->way == DF_PROPOSE_PRODUCTS ? "products" : "all pairs");
	}
}

int
df_propose_panel(struct df_propose *p, uint64_t first, uint64_t n, uint32_t *bits, uint64_t stride, struct df_err *err)
{
	int rc = DF_OK;

	switch (p->way) {
	case DF_PROPOSE_SCREEN: propose_screened(p, first, n, bits, stride); break;
	case DF_PROPOSE_PRODUCTS: DF_TRY(propose_products(p, first, n, bits, stride, err)); break;
	case DF_PROPOSE_CHOOSE:
	case DF_PROPOSE_ALL: propose_all(p, first, n, bits, stride); break;
	}
	/* Not with itself, nor with later ones. */
	for (uint64_t i = 0; i < n; i++)
		if ((first + i) % WORD)
			bits[i * stride + (first + i) / WORD] &= (1U << (first + i) % WORD) - 1;
out:
	return rc;
}
