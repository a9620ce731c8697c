/*
 * pairs.c - all pairs of near points, a panel of rows at a time.
 *
 *   panel of rows i | candidates j < i: a bit each (propose.h) | gathered | exact values | row by row to the caller
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/stop.h"
#include "near/pairs.h"
#include "near/propose.h"

enum {
	PANEL = 512,      /* rows at a time */
	GATHER = 1 << 16, /* candidates at a time, or those of one row */
	PIECE = 128,      /* candidates per task */
};

struct walk {
	const struct df_near *near;
	enum df_metric metric;
	const struct df_points *points;
	double limit;
	df_near_row_fn *row;
	void *ctx;
	uint8_t *valid; /* [n] all numbers are finite */
	uint32_t *bits; /* [PANEL][words] bit j % 32 of word j / 32: j may be near to the row */
	uint64_t words;
	uint64_t panel; /* first row of the panel */
	/* Candidates of some rows. */
	uint64_t *j;
	double *value; /* NaN: not within the limit */
	uint16_t *of;  /* row in the panel */
	uint64_t n, cap;
};

static uint64_t
div_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

/* ---- valid points ------------------------------------------------------------------ */

static void
check_point(void *ctx, size_t i, int worker)
{
	struct walk *w = ctx;

	(void)worker;
	w->valid[i] = df_all_finite(w->points->x + i * w->points->d, w->points->d);
}

/* ---- candidates ----------------------------------------------------------------------- */

static uint64_t
count_candidates(const struct walk *w, uint64_t row)
{
	const uint32_t *bits = w->bits + row * w->words;
	uint64_t n = 0;

	for (uint64_t k = 0; k < div_up(w->panel + row, DF_PROPOSE_WORD); k++)
		if (bits[k])
			n += (uint64_t)__builtin_popcount(bits[k]);
	return n;
}

static void
gather(struct walk *w, uint64_t row)
{
	const uint32_t *bits = w->bits + row * w->words;

	for (uint64_t k = 0; k < div_up(w->panel + row, DF_PROPOSE_WORD); k++) {
		for (uint32_t left = bits[k]; left; left &= left - 1) {
			w->j[w->n] = k * DF_PROPOSE_WORD + (uint64_t)__builtin_ctz(left);
			w->of[w->n++] = (uint16_t)row;
		}
	}
}

/* ---- decisions ------------------------------------------------------------------------- */

/* The values of n candidates of one row, which begin at `first`. */
static void
decide_row(const struct walk *w, uint64_t first, uint64_t n)
{
	const struct df_points *p = w->points;
	const float *x[PIECE];
	double *value = w->value + first;

	for (uint64_t c = 0; c < n; c++)
		x[c] = p->x + w->j[first + c] * p->d;
	df_exact_many(w->metric, p->x + (w->panel + w->of[first]) * p->d, x, n, p->d, value);
	for (uint64_t c = 0; c < n; c++) {
		const bool within = w->metric == DF_METRIC_L2 ? value[c] <= w->limit : value[c] >= w->limit;

		value[c] = within ? value[c] : (double)NAN;
	}
}

static void
decide(void *ctx, size_t piece, int worker)
{
	const struct walk *w = ctx;
	const uint64_t end = w->n - piece * PIECE < PIECE ? w->n : (piece + 1) * PIECE;
	uint64_t first = piece * PIECE;

	(void)worker;
	for (uint64_t c = first + 1; c <= end; c++) {
		if (c < end && w->of[c] == w->of[first])
			continue;
		decide_row(w, first, c - first);
		first = c;
	}
}

/* Give rows [first, end) of the panel, whose candidates were gathered, to the caller. */
static int
deliver(struct walk *w, uint64_t first, uint64_t end, bool *stop, struct df_err *err)
{
	uint64_t at = 0;
	int rc = DF_OK;

	df_pool_for(w->near->pool, div_up(w->n, PIECE), decide, w);
	for (uint64_t row = first; row < end && !*stop; row++) {
		const uint64_t from = at;
		uint64_t n = 0;

		for (; at < w->n && w->of[at] == row; at++) {
			if (isnan(w->value[at]))
				continue;
			w->j[from + n] = w->j[at];
			w->value[from + n++] = w->value[at];
		}
		DF_TRY(w->row(w->ctx, w->panel + row, w->j + from, w->value + from, n, stop, err));
	}
out:
	w->n = 0;
	return rc;
}

static int
need(struct walk *w, uint64_t n, struct df_err *err)
{
	int rc = DF_OK;

	if (n <= w->cap)
		return DF_OK;
	free(w->j);
	free(w->value);
	free(w->of);
	w->j = NULL;
	w->value = NULL;
	w->of = NULL;
	w->cap = 0;
	DF_TRY(df_alloc(&w->j, n, sizeof(*w->j), "pairs", err));
	DF_TRY(df_alloc(&w->value, n, sizeof(*w->value), "pairs", err));
	DF_TRY(df_alloc(&w->of, n, sizeof(*w->of), "pairs", err));
	w->cap = n;
out:
	return rc;
}

static int
deliver_panel(struct walk *w, uint64_t n_rows, bool *stop, struct df_err *err)
{
	uint64_t first = 0;
	int rc = DF_OK;

	for (uint64_t row = 0; row < n_rows && !*stop; row++) {
		const uint64_t n = count_candidates(w, row);

		if (w->n > 0 && w->n + n > w->cap) {
			DF_TRY(deliver(w, first, row, stop, err));
			first = row;
		}
		DF_TRY(need(w, w->n + n, err));
		gather(w, row);
	}
	if (!*stop)
		DF_TRY(deliver(w, first, n_rows, stop, err));
out:
	return rc;
}

int
df_near_pairs(const struct df_near *near, enum df_metric metric, const struct df_points *points, double limit,
    df_near_row_fn *row, void *ctx, struct df_err *err)
{
	struct walk w = { .near = near, .metric = metric, .points = points, .limit = limit, .row = row, .ctx = ctx };
	struct df_propose *propose = NULL;
	bool stop = false;
	size_t n_bits;
	int rc = DF_OK;

	if (isnan(limit))
		return df_fail(err, DF_EUSAGE, "the limit of near pairs is not a number");
	w.words = div_up(points->n, DF_PROPOSE_WORD);
	DF_TRY(df_size_mul(points->n < PANEL ? points->n : PANEL, w.words, &n_bits, "pairs", err));
	DF_TRY(df_alloc(&w.bits, n_bits, sizeof(*w.bits), "pairs", err));
	DF_TRY(df_alloc(&w.valid, points->n, sizeof(*w.valid), "points", err));
	DF_TRY(need(&w, GATHER, err));
	df_pool_for(near->pool, points->n, check_point, &w);
	DF_TRY(df_propose_new(&propose, near, metric, points, w.valid, limit, PANEL, err));
	for (w.panel = 0; w.panel < points->n && !stop; w.panel += PANEL) {
		const uint64_t left = points->n - w.panel, n_rows = left < PANEL ? left : PANEL;

		if (df_stop_requested()) {
			rc = df_fail(err, DF_ESTOPPED, "stopped by a signal");
			goto out;
		}
		DF_TRY(df_propose_panel(propose, w.panel, n_rows, w.bits, w.words, err));
		DF_TRY(deliver_panel(&w, n_rows, &stop, err));
	}
out:
	df_propose_free(propose);
	free(w.bits);
	free(w.valid);
	free(w.j);
	free(w.value);
	free(w.of);
	return rc;
}
