/*
 * pairs.c - all pairs of near points, a panel of rows at a time.
 *
 *   panel of rows i | candidates j < i: a bit each (propose.h) | gathered | exact values | row by row to the caller
 *
 * Exact values are computed for a range of j and all rows of the panel, then for the next range: where there are many,
 * they come from the cache.
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
	GATHER = 1 << 18, /* candidates at a time, or those of one row */
	PIECE = 128,      /* candidates per task, at least on average; of one row at a time */
	ROWS = 4,         /* rows whose values are computed together */
};
#define RANGE_BYTES ((size_t)512 << 10) /* of points, for a task with many candidates: part of a second-level cache */

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
	uint64_t n, cap;
	uint64_t first, end;       /* the rows in the panel that they belong to; */
	uint64_t start[PANEL + 1]; /* those of row r are [start[r], start[r + 1]) */
	uint64_t range;            /* points per task */
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
			w->j[w->n++] = k * DF_PROPOSE_WORD + (uint64_t)__builtin_ctz(left);
		}
	}
	w->start[row + 1] = w->n;
}

/* ---- decisions ------------------------------------------------------------------------- */

/* Of candidates [from, to) the values that are not within the limit become NaN. */
static void
drop_far(const struct walk *w, uint64_t from, uint64_t to)
{
	for (uint64_t c = from; c < to; c++) {
		const bool within = w->metric == DF_METRIC_L2 ? w->value[c] <= w->limit : w->value[c] >= w->limit;

		w->value[c] = within ? w->value[c] : (double)NAN;
	}
}

/* The values of candidates [from, to) of a row; at most PIECE. */
static void
decide_some(const struct walk *w, uint64_t row, uint64_t from, uint64_t to)
{
	const struct df_points *p = w->points;
	const float *x[PIECE];

	for (uint64_t c = from; c < to; c++)
		x[c - from] = p->x + w->j[c] * p->d;
	df_exact_many(w->metric, p->x + (w->panel + row) * p->d, x, to - from, p->d, w->value + from);
	drop_far(w, from, to);
}

/* The first candidate of a row, from `at` on, that is no point before j. */
static uint64_t
seek(const struct walk *w, uint64_t row, uint64_t at, uint64_t j)
{
	uint64_t end = w->start[row + 1];

	while (at < end) {
		const uint64_t mid = at + (end - at) / 2;

		if (w->j[mid] < j)
			at = mid + 1;
		else
			end = mid;
	}
	return at;
}

/* ROWS rows: the candidates [at, next) of each, the next of [at, end). */
struct together {
	uint64_t row;
	uint64_t at[ROWS], next[ROWS], end[ROWS];
	uint64_t j[PIECE]; /* [n] the points that are a candidate of any, ascending */
	uint64_t n;
};

/* Do all rows have the same n candidates next? */
static bool
are_alike(const struct walk *w, const struct together *t, uint64_t n)
{
	for (int r = 0; r < ROWS; r++)
		if (t->end[r] - t->at[r] < n || memcmp(w->j + t->at[r], w->j + t->at[0], n * sizeof(*w->j)) != 0)
			return false;
	return true;
}

static bool
merge_candidates(const struct walk *w, struct together *t)
{
	const uint64_t left = t->end[0] - t->at[0], n = left < PIECE ? left : PIECE;

	if (n > 0 && are_alike(w, t, n)) {
		memcpy(t->j, w->j + t->at[0], n * sizeof(*t->j));
		t->n = n;
		for (int r = 0; r < ROWS; r++)
			t->next[r] = t->at[r] + n;
		return true;
	}
	memcpy(t->next, t->at, sizeof(t->next));
	for (t->n = 0; t->n < PIECE; t->n++) {
		uint64_t least = UINT64_MAX;

		for (int r = 0; r < ROWS; r++)
			if (t->next[r] < t->end[r] && w->j[t->next[r]] < least)
				least = w->j[t->next[r]];
		if (least == UINT64_MAX)
			break;
		t->j[t->n] = least;
		for (int r = 0; r < ROWS; r++)
			t->next[r] += t->next[r] < t->end[r] && w->j[t->next[r]] == least;
	}
	return t->n > 0;
}

/* The values of all ROWS rows with all these points, of which each row takes its own. */
static void
decide_block(const struct walk *w, const struct together *t)
{
	const struct df_points *p = w->points;
	const float *x[ROWS], *y[PIECE];
	double value[ROWS * PIECE];

	for (uint64_t r = 0; r < ROWS; r++) /* one without candidates may not exist */
		x[r] = p->x + (w->panel + t->row + (t->at[r] < t->next[r] ? r : 0)) * p->d;
	for (uint64_t k = 0; k < t->n; k++)
		y[k] = p->x + t->j[k] * p->d;
	df_exact_block(w->metric, x, ROWS, y, t->n, p->d, value);
	for (uint64_t r = 0; r < ROWS; r++) {
		for (uint64_t c = t->at[r], k = 0; c < t->next[r]; c++) {
			while (t->j[k] < w->j[c])
				k++;
			w->value[c] = value[r * t->n + k];
		}
		drop_far(w, t->at[r], t->next[r]);
	}
}

/* Rows that are alike have mostly the same candidates.  A block's values take two thirds of the time of single ones. */
static void
decide_together(const struct walk *w, struct together *t)
{
	while (merge_candidates(w, t)) {
		uint64_t n = 0;

		for (int r = 0; r < ROWS; r++)
			n += t->next[r] - t->at[r];
		if (3 * n > 2 * ROWS * t->n)
			decide_block(w, t);
		else
			for (uint64_t r = 0; r < ROWS; r++)
				decide_some(w, t->row + r, t->at[r], t->next[r]);
		memcpy(t->at, t->next, sizeof(t->at));
	}
}

/* The candidates of all rows in one range of points. */
static void
decide(void *ctx, size_t task, int worker)
{
	const struct walk *w = ctx;
	struct together t;

	(void)worker;
	for (t.row = w->first; t.row < w->end; t.row += ROWS) {
		for (uint64_t r = 0; r < ROWS; r++) {
			const uint64_t row = t.row + r;

			t.at[r] = row < w->end ? seek(w, row, w->start[row], task * w->range) : 0;
			t.end[r] = row < w->end ? seek(w, row, t.at[r], (task + 1) * w->range) : 0;
		}
		decide_together(w, &t);
	}
}

static void
decide_all(struct walk *w)
{
	const uint64_t points = w->panel + w->end, bytes = w->points->d * sizeof(float);
	const uint64_t tasks = div_up(w->n, PIECE), cached = RANGE_BYTES / (bytes + 1) + 1;

	if (w->n == 0)
		return;
	w->range = div_up(points, tasks) > cached ? div_up(points, tasks) : cached;
	df_pool_for(w->near->pool, div_up(points, w->range), decide, w);
}

/* Give the rows up to `end`, whose candidates were gathered, to the caller. */
static int
deliver(struct walk *w, uint64_t end, bool *stop, struct df_err *err)
{
	int rc = DF_OK;

	w->end = end;
	decide_all(w);
	for (uint64_t row = w->first; row < end && !*stop; row++) {
		const uint64_t from = w->start[row];
		uint64_t n = 0;

		for (uint64_t at = from; at < w->start[row + 1]; at++) {
			if (isnan(w->value[at]))
				continue;
			w->j[from + n] = w->j[at];
			w->value[from + n++] = w->value[at];
		}
		DF_TRY(w->row(w->ctx, w->panel + row, w->j + from, w->value + from, n, stop, err));
	}
out:
	w->n = 0;
	w->first = end;
	if (end < PANEL)
		w->start[end] = 0;
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
	w->j = NULL;
	w->value = NULL;
	w->cap = 0;
	DF_TRY(df_alloc(&w->j, n, sizeof(*w->j), "pairs", err));
	DF_TRY(df_alloc(&w->value, n, sizeof(*w->value), "pairs", err));
	w->cap = n;
out:
	return rc;
}

static int
deliver_panel(struct walk *w, uint64_t n_rows, bool *stop, struct df_err *err)
{
	int rc = DF_OK;

	w->first = 0;
	w->start[0] = 0;
	for (uint64_t row = 0; row < n_rows && !*stop; row++) {
		const uint64_t n = count_candidates(w, row);

		if (w->n > 0 && w->n + n > w->cap)
			DF_TRY(deliver(w, row, stop, err));
		DF_TRY(need(w, w->n + n, err));
		gather(w, row);
	}
	if (!*stop)
		DF_TRY(deliver(w, n_rows, stop, err));
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
	return rc;
}
