/*
 * knn.c - exact nearest neighbours: products in float32 say who may be one, float64 says who is.
 *
 *   add   candidates --> segments of a few thousand rows, with norms
 *         segment full:  for each slab of queries (a task), for each tile of candidates
 *                          scores = queries x candidates           backend
 *                          those that may be among the k best      survivors()
 *                          --> the query's list, tightened whenever it is full
 *   settle, when the window of segments is full, and at the end:
 *         the exact value of all that are still in a list; the k best stay
 *
 * A float32 product of any device is wrong by at most a known bound, whatever the order of its sum (Higham 2002, 3.1):
 * |error| <= g |q||x|, g = n u / (1 - n u), u = 2^-24, n = d + 2.  So a score is an interval (nearest.h), and nothing
 * that could belong to the k best is dropped.  Where the intervals decide nothing, as among duplicates, exact values do.
 *
 * Memory: the window's rows (WINDOW_BYTES; none of them for lent rows), and for each query a list of at most 2 k.
 * A row whose candidates are still in a list when the window is full has its exact value computed then, so the larger
 * the window, the fewer are computed in vain: with N rows in windows of R, k (1 + 1/2 + .. + R/N) for each query.
 */
#include "near/knn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/stop.h"
#include "near/nearest.h"

enum {
	TILE = 512,          /* candidates of a product */
	SLAB = 512,          /* queries of a product, at most */
	SLAB_LEAST = 48,     /* fewer are not worth the packing of the candidates */
	SEGMENT = 4096,      /* rows of a segment, at most */
	ROWS_MOST = 1 << 22, /* rows of a window, at most */
	AHEAD = 4,           /* queries whose lists are asked for while one is searched */
	ROOM = 64,           /* entries of a list beyond the kept ones, at least; else as many again */
};
#define BLOCK_BYTES   ((size_t)1 << 20) /* of rows whose exact values are computed together: a second-level cache */
#define SEGMENT_BYTES ((size_t)16 << 20)
#define WINDOW_BYTES  ((size_t)256 << 20)

#define UNIT 0x1p-24 /* the relative error of a rounding to float32 */
/* Errors are computed in float32 themselves, from positive numbers. */
#define INFLATE (1 + 0x1p-8)
/* From here on a product may have overflowed on the way: an error is at least 2^-22 of the size of its numbers. */
#define UNKNOWN 0x1p100F

/* ---- what a search has --------------------------------------------------------------------------------------------- */

/* Consecutive candidates.  The score of one is wrong by at most norm(q) error + slack + slack(q). */
struct segment {
	const float *rows; /* [n,d] */
	float *own;        /* the same, where they had to be copied; or NULL: lent */
	uint64_t *id;
	float *error, *slack, *shift; /* error NaN: the row has a number that is not finite */
	size_t n;
};

struct window {
	struct segment *v; /* [cap] */
	size_t n;          /* segments in use */
	bool open;         /* the last one is being filled: it is still to be searched */
	size_t rows;       /* of a segment, at most: 1 << shift */
	int shift;
	size_t most, cap; /* segments at once, with rows that are copied, and with lent ones */
};

/* Consecutive queries, the work of a task. */
struct slab {
	size_t first, n;
	int rc;
	struct df_err err;
};

/* What a worker needs for itself. */
struct desk {
	struct df_tensor product; /* [SLAB, TILE] */
	float *score;             /* the same on the host */
	float *passed;            /* [TILE] */
	uint32_t *at;
	struct df_neighbour *spare; /* [n_spare] */
	size_t n_spare;
};

struct query {
	struct df_nearest near;
	float norm, slack; /* scaled, rounded up */
	double square;     /* of the norm, not scaled */
	bool invalid;      /* it has a number that is not finite */
};

struct df_knn {
	struct df_near near;
	enum df_metric metric;
	struct df_points queries;
	const uint64_t *self;
	size_t most, kept; /* neighbours of a query; and with the one that it does not want */
	double scale;      /* a power of two: of the queries in the product */
	uint64_t n_seen;
	struct query *q;         /* [queries] */
	struct df_tensor matrix; /* [queries, d] scaled */
	float *scaled;           /* the same on the host; NULL where the scale is 1 */
	struct slab *slabs;
	size_t n_slabs;
	struct desk *desks; /* [n_desks] */
	size_t n_desks;
	struct window w;
	const struct df_sieve *sieve;
};

static size_t
least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

/*
 * What is to be known of the queries.  Where float32 products could leave their range because of them, they are scaled
 * so that the longest has a norm in [1/2, 1): then that depends on candidates only.
 */
static void
measure_queries(struct df_knn *k)
{
	double most = 0;
	int exponent = 0;

	for (size_t i = 0; i < k->queries.n; i++) {
		const float *x = k->queries.x + i * k->queries.d;
		struct query *q = &k->q[i];

		q->square = df_exact(DF_METRIC_DOT, x, x, k->queries.d);
		q->invalid = !isfinite(q->square);
		q->near.least = -INFINITY;
		if (!q->invalid && q->square > most)
			most = q->square;
	}
	if (most > 0)
		frexp(sqrt(most), &exponent);
	k->scale = abs(exponent) <= 20 ? 1 : ldexp(1, -exponent);
	for (size_t i = 0; i < k->queries.n; i++) {
		struct query *q = &k->q[i];

		q->norm = (float)(sqrt(q->square) * k->scale * INFLATE);
		/* float64 sums round, too: it tells where a candidate is short beside the query. */
		if (k->metric == DF_METRIC_L2)
			q->slack = (float)((double)(k->queries.d + 8) * 0x1p-51 * q->square * k->scale * INFLATE);
	}
}

/* The queries on the device. */
static int
place_queries(struct df_knn *k, struct df_err *err)
{
	const float *x = k->queries.x;
	size_t numel;
	int rc = DF_OK;

	if (k->scale != 1) {
		DF_TRY(df_size_mul((size_t)k->queries.n, k->queries.d, &numel, "queries", err));
		DF_TRY(df_alloc(&k->scaled, numel, sizeof(*k->scaled), "queries", err));
		for (size_t i = 0; i < numel; i++)
			k->scaled[i] = (float)(x[i] * k->scale);
		x = k->scaled;
	}
	DF_TRY(df_tensor_borrow(k->near.be, &k->matrix, DF_F32, (size_t)k->queries.n, k->queries.d, x, "queries", err));
out:
	return rc;
}

static int
cut_slabs(struct df_knn *k, struct df_err *err)
{
	const size_t m = (size_t)k->queries.n, threads = (size_t)df_pool_size(k->near.pool);
	size_t n = (m + SLAB - 1) / SLAB;
	int rc = DF_OK;

	if (n % threads)
		n += threads - n % threads;
	n = least(n, (m + SLAB_LEAST - 1) / SLAB_LEAST);
	DF_TRY(df_alloc(&k->slabs, n, sizeof(*k->slabs), "nearest neighbours", err));
	k->n_slabs = n;
	for (size_t i = 0; i < n; i++) {
		k->slabs[i].first = i * m / n;
		k->slabs[i].n = (i + 1) * m / n - k->slabs[i].first;
	}
out:
	return rc;
}

static int
set_desks(struct df_knn *k, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_alloc(&k->desks, (size_t)df_pool_size(k->near.pool), sizeof(*k->desks), "nearest neighbours", err));
	for (; k->n_desks < (size_t)df_pool_size(k->near.pool); k->n_desks++) {
		struct desk *w = &k->desks[k->n_desks];

		DF_TRY(df_tensor_alloc(k->near.be, &w->product, DF_F32, SLAB, TILE, "scores", err));
		DF_TRY(df_alloc(&w->score, (size_t)SLAB * TILE, sizeof(*w->score), "scores", err));
		DF_TRY(df_alloc(&w->passed, TILE, sizeof(*w->passed), "scores", err));
		DF_TRY(df_alloc(&w->at, TILE, sizeof(*w->at), "scores", err));
	}
out:
	return rc;
}

static int
size_window(struct df_knn *k, struct df_err *err)
{
	const size_t row = sizeof(float) * (k->queries.d ? k->queries.d : 1);

	for (k->w.rows = SEGMENT; k->w.rows > TILE && k->w.rows > SEGMENT_BYTES / row; k->w.rows /= 2)
		;
	k->w.shift = __builtin_ctzll(k->w.rows);
	k->w.cap = ROWS_MOST / k->w.rows;
	k->w.most = least(WINDOW_BYTES / row / k->w.rows, k->w.cap);
	if (k->w.most == 0)
		k->w.most = 1;
	return df_alloc(&k->w.v, k->w.cap, sizeof(*k->w.v), "candidates", err);
}

void
df_knn_shrink(struct df_knn *k, int shift, size_t segments)
{
	k->w.shift = shift;
	k->w.rows = (size_t)1 << shift;
	k->w.most = least(segments, k->w.most);
	k->w.cap = least(segments, k->w.cap);
}

int
df_knn_new(struct df_knn **out, const struct df_near *near, enum df_metric metric, const struct df_points *queries,
    uint64_t k_wanted, const uint64_t *self, struct df_err *err)
{
	struct df_knn *k = NULL;
	int rc = DF_OK;

	*out = NULL;
	DF_TRY(df_alloc(&k, 1, sizeof(*k), "nearest neighbours", err));
	*k = (struct df_knn){ .near = *near, .metric = metric, .queries = *queries, .self = self };
	k->most = k_wanted < SIZE_MAX / 4 ? (size_t)k_wanted : SIZE_MAX / 4;
	k->kept = k->most + (self ? 1 : 0);
	k->sieve = df_sieve_best();
	*out = k;
	DF_TRY(df_alloc(&k->q, (size_t)queries->n, sizeof(*k->q), "queries", err));
	measure_queries(k);
	DF_TRY(size_window(k, err));
	if (queries->n == 0 || k->most == 0)
		goto out;
	DF_TRY(place_queries(k, err));
	DF_TRY(cut_slabs(k, err));
	DF_TRY(set_desks(k, err));
out:
	if (rc != DF_OK) {
		df_knn_free(k);
		*out = NULL;
	}
	return rc;
}

void
df_knn_free(struct df_knn *k)
{
	if (!k)
		return;
	for (size_t i = 0; k->q && i < k->queries.n; i++)
		df_nearest_release(&k->q[i].near);
	for (size_t i = 0; k->w.v && i < k->w.cap; i++) {
		struct segment *s = &k->w.v[i];

		free(s->own);
		free(s->id);
		free(s->error);
		free(s->slack);
		free(s->shift);
	}
	for (size_t i = 0; k->desks && i < (size_t)df_pool_size(k->near.pool); i++) {
		df_tensor_free(k->near.be, &k->desks[i].product);
		free(k->desks[i].score);
		free(k->desks[i].passed);
		free(k->desks[i].at);
		free(k->desks[i].spare);
	}
	df_tensor_free(k->near.be, &k->matrix);
	free(k->w.v);
	free(k->desks);
	free(k->slabs);
	free(k->scaled);
	free(k->q);
	free(k);
}

/* ---- tasks: the slabs ------------------------------------------------------------------------------------------------ */

struct task {
	struct df_knn *k;
	const struct segment *s; /* to search */
	size_t number;           /* of it, in the window */
	struct df_tensor rows;   /* its rows */
	int (*run)(const struct task *t, struct slab *b, struct desk *w, struct df_err *err);
};

static void
run_slab(void *ctx, size_t i, int worker)
{
	const struct task *t = ctx;
	struct slab *b = &t->k->slabs[i];

	b->rc = t->run(t, b, &t->k->desks[worker], &b->err);
}

/* The first slab's error is the loop's. */
static int
for_slabs(struct task *t, struct df_err *err)
{
	struct df_knn *k = t->k;

	df_pool_for(k->near.pool, k->n_slabs, run_slab, t);
	for (size_t i = 0; i < k->n_slabs; i++) {
		if (k->slabs[i].rc != DF_OK) {
			if (err)
				*err = k->slabs[i].err;
			return k->slabs[i].rc;
		}
	}
	return DF_OK;
}

/* ---- settled: exact values ------------------------------------------------------------------------------------------- */

static const float *
row_of(const struct df_knn *k, uint32_t ref)
{
	return k->w.v[ref >> k->w.shift].rows + (ref & (k->w.rows - 1)) * k->queries.d;
}

static uint64_t
id_of(const struct df_knn *k, uint32_t ref)
{
	return k->w.v[ref >> k->w.shift].id[ref & (k->w.rows - 1)];
}

/* Room for the values of all entries; those that are settled keep theirs, and are the first, in order. */
static int
begin_settling(struct df_nearest *s, struct df_err *err)
{
	int rc = DF_OK;

	for (s->at = 0; s->at < s->e.n && s->e.ref[s->at] >= DF_SETTLED; s->at++)
		s->exact[s->at] = s->exact[s->e.ref[s->at] & ~DF_SETTLED];
	DF_TRY(df_grow(&s->exact, &s->cap_exact, s->e.n, sizeof(*s->exact), "nearest neighbours", err));
out:
	return rc;
}

/* The values of the entries whose ref is below `end`: refs ascend. */
static void
settle_until(const struct df_knn *k, size_t i, uint32_t end)
{
	enum { MANY = 32 };
	const float *query = k->queries.x + i * k->queries.d;
	struct df_nearest *s = &k->q[i].near;

	while (s->at < s->e.n && s->e.ref[s->at] < end) {
		const float *rows[MANY];
		double value[MANY];
		size_t n = 0;

		for (; n < MANY && s->at + n < s->e.n && s->e.ref[s->at + n] < end; n++)
			rows[n] = row_of(k, s->e.ref[s->at + n]);
		df_exact_many(k->metric, query, rows, n, k->queries.d, value);
		for (size_t j = 0; j < n; j++, s->at++)
			s->exact[s->at] = (struct df_neighbour){ value[j], id_of(k, s->e.ref[s->at]) };
	}
}

static inline void
fetch_settling(const struct df_nearest *s)
{
	__builtin_prefetch(s->e.ref + s->at);
	__builtin_prefetch(s->exact + s->at, 1);
	__builtin_prefetch(s->exact + s->at + 4, 1);
}

/* The interval of a score whose value is known. */
static void
exact_interval(const struct df_knn *k, const struct query *q, double value, float *lo, float *hi)
{
	double s = value * k->scale, error = fabs(s) * 0x1p-22 + 0x1p-126;

	if (k->metric == DF_METRIC_L2) {
		s = 0.5 * (q->square - value) * k->scale;
		error = fabs(s) * 0x1p-22 + (q->square + value) * k->scale * 0x1p-48 + 0x1p-126;
	}
	*lo = (float)(s - error);
	*hi = (float)(s + error);
	if (!(fabs(s) + error < UNKNOWN)) {
		*lo = -INFINITY;
		*hi = INFINITY;
	}
}

/* All values are there: the k best stay, nearest first. */
static int
end_settling(const struct df_knn *k, struct query *q, struct desk *w, struct df_err *err)
{
	struct df_nearest *s = &q->near;
	int rc = DF_OK;

	DF_TRY(df_grow(&w->spare, &w->n_spare, s->e.n, sizeof(*w->spare), "nearest neighbours", err));
	df_neighbours_sort(k->metric, s->exact, w->spare, s->e.n);
	s->e.n = s->n_exact = least(s->e.n, k->kept);
	for (size_t j = 0; j < s->e.n; j++) {
		s->e.ref[j] = DF_SETTLED | (uint32_t)j;
		exact_interval(k, q, s->exact[j].value, &s->e.lo[j], &s->e.hi[j]);
	}
	if (s->e.n == k->kept && s->e.lo[s->e.n - 1] > s->least)
		s->least = s->e.lo[s->e.n - 1];
out:
	return rc;
}

static int
settle_one(const struct df_knn *k, size_t i, struct desk *w, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(begin_settling(&k->q[i].near, err));
	settle_until(k, i, DF_SETTLED);
	rc = end_settling(k, &k->q[i], w, err);
out:
	return rc;
}

/* Block by block of candidates, so that rows are near when several queries want them. */
static int
settle_slab(const struct task *t, struct slab *b, struct desk *w, struct df_err *err)
{
	const struct df_knn *k = t->k;
	const size_t block = 1 + BLOCK_BYTES / sizeof(float) / (k->queries.d + 1), end = k->w.n * k->w.rows;
	int rc = DF_OK;

	for (size_t i = b->first; i < b->first + b->n; i++) {
		df_nearest_tighten(k->sieve, &k->q[i].near, k->kept, 0);
		DF_TRY(begin_settling(&k->q[i].near, err));
	}
	for (size_t at = 0; at < end; at += block)
		for (size_t i = b->first; i < b->first + b->n; i++) {
			if (i + AHEAD < b->first + b->n)
				fetch_settling(&k->q[i + AHEAD].near);
			settle_until(k, i, (uint32_t)least(at + block, end));
		}
	for (size_t i = b->first; i < b->first + b->n; i++)
		DF_TRY(end_settling(k, &k->q[i], w, err));
out:
	return rc;
}

static int
settle(struct df_knn *k, struct df_err *err)
{
	int rc = DF_OK;

	if (k->n_slabs > 0)
		DF_TRY(for_slabs(&(struct task){ .k = k, .run = settle_slab }, err));
	k->w.n = 0;
out:
	return rc;
}

/* ---- search: who may be among the k best ------------------------------------------------------------------------------ */

/*
 * Of the n scores in w->passed, of candidates first + w->at[], those that may be among the best go into the list of query i, a list's
 * room at a time.
 */
static int
take(const struct df_knn *k, size_t i, struct desk *w, const struct df_errors *errors, size_t n, uint32_t first,
    struct df_err *err)
{
	const size_t cap = k->kept + (k->kept > ROOM ? k->kept : ROOM);
	struct df_nearest *near = &k->q[i].near;
	int rc = DF_OK;

	for (size_t done = 0, now; done < n; done += now) {
		DF_TRY(df_nearest_reserve(near, n - done, cap, err));
		now = least(n - done, near->cap - near->e.n);
		k->sieve->add(&near->e, errors, w->passed + done, w->at + done, now, first, near->least);
		if (near->e.n < cap)
			continue;
		df_nearest_tighten(k->sieve, near, k->kept, k->kept / 64);
		if (near->e.n > cap - cap / 8)
			DF_TRY(settle_one(k, i, w, err));
	}
out:
	return rc;
}

/* The threshold for a query's scores of candidates [from, from + n): one below it is out, whatever its error. */
static float
threshold(const struct query *q, float error, float slack)
{
	const float e = q->norm * error + slack + q->slack;

	return e < UNKNOWN ? q->near.least - e : -INFINITY;
}

/* Lists are long, and many: ask for where the next entries go. */
static inline void
fetch_end(const struct df_entries *e)
{
	__builtin_prefetch(e->lo + e->n, 1);
	__builtin_prefetch(e->hi + e->n, 1);
	__builtin_prefetch(e->ref + e->n, 1);
}

/*
 * survivors: the scores of a slab's queries with candidates [from, from + n) of a segment, and of these whatever may be
 * among the best of its query.  The one place that needs products; a device with its own thresholds can replace it.
 */
static int
survivors(const struct task *t, const struct slab *b, struct desk *w, size_t from, size_t n, struct df_err *err)
{
	struct df_knn *k = t->k;
	const struct segment *s = t->s;
	struct df_tensor c = df_tensor_view(w->product, 0, b->n, n);
	const void *score;
	float error = 0, slack = 0;
	int rc = DF_OK;

	DF_TRY(df_gemm(k->near.be,
	    &(struct df_gemm){ .tb = true,
		.alpha = 1,
		.a = df_tensor_rows(k->matrix, b->first, b->n),
		.b = df_tensor_rows(t->rows, from, n),
		.c = c },
	    err));
	DF_TRY(df_download_or_see(k->near.be, &score, w->score, c, err));
	for (size_t j = from; j < from + n; j++) {
		error = s->error[j] > error ? s->error[j] : error;
		slack = s->slack[j] > slack ? s->slack[j] : slack;
	}
	for (size_t i = 0; i < b->n; i++) {
		const struct query *q = &k->q[b->first + i];
		const struct df_errors errors = { s->error + from, s->slack + from, q->norm, q->slack, UNKNOWN };
		size_t found;

		if (q->invalid)
			continue;
		if (i + AHEAD < b->n)
			fetch_end(&q[AHEAD].near.e);
		found = k->sieve->scan((const float *)score + i * n, k->metric == DF_METRIC_L2 ? s->shift + from : NULL,
		    n, threshold(q, error, slack), w->passed, w->at);
		if (found > 0)
			DF_TRY(take(k, b->first + i, w, &errors, found, (uint32_t)(t->number * k->w.rows + from), err));
	}
out:
	return rc;
}

static int
search_slab(const struct task *t, struct slab *b, struct desk *w, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t from = 0; from < t->s->n; from += TILE)
		DF_TRY(survivors(t, b, w, from, least(TILE, t->s->n - from), err));
out:
	return rc;
}

static int
search(struct df_knn *k, size_t number, struct df_err *err)
{
	struct task t = { .k = k, .s = &k->w.v[number], .number = number, .run = search_slab };
	int rc = DF_OK;

	if (k->n_slabs == 0 || t.s->n == 0)
		return DF_OK;
	if (df_stop_requested())
		return df_fail(err, DF_ESTOPPED, "stopped while searching neighbours");
	DF_TRY(df_tensor_borrow(k->near.be, &t.rows, DF_F32, t.s->n, k->queries.d, t.s->rows, "candidates", err));
	rc = for_slabs(&t, err);
out:
	df_tensor_free(k->near.be, &t.rows);
	return rc;
}

/* ---- candidates ------------------------------------------------------------------------------------------------------- */

struct intake {
	struct df_knn *k;
	struct segment *s;
	const float *rows;
	const uint64_t *ids;
	uint64_t id; /* of the first row, without ids */
	size_t n;
};
enum { INTAKE = 64 };

/* What is to be known of candidate j of a segment. */
static void
measure(const struct df_knn *k, struct segment *s, size_t j)
{
	const size_t d = k->queries.d;
	const double terms = (double)(d + 2) * UNIT, tiny = 0x1p-126 * (1 + (double)d * 0x1p-20);
	const double square = df_exact(DF_METRIC_DOT, s->rows + j * d, s->rows + j * d, d), norm = sqrt(square);
	const double shift = k->metric == DF_METRIC_L2 ? 0.5 * square * k->scale : 0;

	if (!isfinite(square)) {
		s->error[j] = NAN;
		return;
	}
	s->shift[j] = (float)shift;
	s->error[j] = terms < 0.5 ? (float)((terms / (1 - terms) + 6 * UNIT) * norm * INFLATE) : INFINITY;
	s->slack[j] = (float)((6 * UNIT * shift + tiny * (1 + norm)) * INFLATE);
}

static void
take_in(void *ctx, size_t i, int worker)
{
	const struct intake *in = ctx;
	struct segment *s = in->s;
	const size_t d = in->k->queries.d, end = least((i + 1) * INTAKE, in->n);

	(void)worker;
	for (size_t j = i * INTAKE; j < end; j++) {
		const size_t to = s->n + j;

		if (s->rows == s->own)
			memcpy(s->own + to * d, in->rows + j * d, d * sizeof(*s->own));
		s->id[to] = in->ids ? in->ids[j] : in->id + j;
		measure(in->k, s, to);
	}
}

/* The next segment, empty; `copied` with rows of its own. */
static int
open_segment(struct df_knn *k, bool copied, struct df_err *err)
{
	struct window *w = &k->w;
	struct segment *s;
	size_t numel;
	int rc = DF_OK;

	if (w->n == (copied ? w->most : w->cap))
		DF_TRY(settle(k, err));
	s = &w->v[w->n];
	DF_TRY(df_size_mul(w->rows, k->queries.d, &numel, "candidates", err));
	if (!s->id) {
		DF_TRY(df_alloc(&s->error, w->rows, sizeof(*s->error), "candidates", err));
		DF_TRY(df_alloc(&s->slack, w->rows, sizeof(*s->slack), "candidates", err));
		DF_TRY(df_alloc(&s->shift, w->rows, sizeof(*s->shift), "candidates", err));
		DF_TRY(df_alloc(&s->id, w->rows, sizeof(*s->id), "candidates", err));
	}
	if (copied && !s->own)
		DF_TRY(df_alloc(&s->own, numel, sizeof(*s->own), "candidates", err));
	s->rows = s->own;
	s->n = 0;
	w->n++;
out:
	return rc;
}

/* Search the segment that is being filled, if there is one. */
static int
close_segment(struct df_knn *k, struct df_err *err)
{
	const bool open = k->w.open;

	k->w.open = false;
	return open ? search(k, k->w.n - 1, err) : DF_OK;
}

static void
fill_segment(struct df_knn *k, const float *rows, const uint64_t *ids, size_t n)
{
	struct segment *s = &k->w.v[k->w.n - 1];
	struct intake in = { .k = k, .s = s, .rows = rows, .ids = ids, .id = k->n_seen, .n = n };

	df_pool_for(k->near.pool, (n + INTAKE - 1) / INTAKE, take_in, &in);
	s->n += n;
	k->n_seen += n;
}

int
df_knn_add(struct df_knn *k, const float *rows, const uint64_t *ids, uint64_t n, struct df_err *err)
{
	int rc = DF_OK;

	for (uint64_t done = 0, now; done < n; done += now) {
		if (!k->w.open)
			DF_TRY(open_segment(k, true, err));
		k->w.open = true;
		now = k->w.rows - k->w.v[k->w.n - 1].n;
		now = now < n - done ? now : n - done;
		fill_segment(k, rows + done * k->queries.d, ids ? ids + done : NULL, (size_t)now);
		if (k->w.v[k->w.n - 1].n == k->w.rows)
			DF_TRY(close_segment(k, err));
	}
out:
	return rc;
}

int
df_knn_lend(struct df_knn *k, const float *rows, const uint64_t *ids, uint64_t n, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(close_segment(k, err));
	for (uint64_t done = 0, now; done < n; done += now) {
		DF_TRY(open_segment(k, false, err));
		now = n - done < k->w.rows ? n - done : k->w.rows;
		k->w.v[k->w.n - 1].rows = rows + done * k->queries.d;
		fill_segment(k, rows + done * k->queries.d, ids ? ids + done : NULL, (size_t)now);
		DF_TRY(search(k, k->w.n - 1, err));
	}
out:
	return rc;
}

/* ---- the end ------------------------------------------------------------------------------------------------------------ */

struct result {
	struct df_knn *k;
	uint64_t *id, K;
	float *value;
};

/* Nearest first, without itself. */
static void
write_query(void *ctx, size_t i, int worker)
{
	const struct result *r = ctx;
	const struct df_knn *k = r->k;
	const struct df_nearest *s = &k->q[i].near;
	uint64_t n = 0;

	(void)worker;
	for (size_t j = 0; j < s->n_exact && n < r->K; j++) {
		if (k->self && s->exact[j].id == k->self[i])
			continue;
		r->id[i * r->K + n] = s->exact[j].id;
		r->value[i * r->K + n++] = df_told(k->metric, s->exact[j].value);
	}
	for (; n < r->K; n++) {
		r->id[i * r->K + n] = DF_KNN_NONE;
		r->value[i * r->K + n] = NAN;
	}
}

/* How many neighbours query i has. */
static size_t
count(const struct df_knn *k, size_t i)
{
	const struct df_nearest *s = &k->q[i].near;
	size_t n = s->n_exact;

	for (size_t j = 0; k->self && j < s->n_exact; j++)
		n -= s->exact[j].id == k->self[i];
	return least(n, k->most);
}

int
df_knn_end(struct df_knn *k, uint64_t *id, float *value, uint64_t *K, struct df_err *err)
{
	struct result r = { .k = k, .id = id, .value = value };
	int rc = DF_OK;

	DF_TRY(close_segment(k, err));
	DF_TRY(settle(k, err));
	for (size_t i = 0; i < k->queries.n; i++)
		r.K = count(k, i) > r.K ? count(k, i) : r.K;
	df_pool_for(k->near.pool, (size_t)k->queries.n, write_query, &r);
	*K = r.K;
out:
	return rc;
}
