/*
 * cluster.c - points in groups.
 *
 * Assignments: products of a block of points with all centres on the backend, in float32; all centres that may be the
 * nearest within the rounding of these products are compared by their exact values.  So a point's cluster is a function
 * of the point and the centres alone.
 */
#include "near/cluster.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/simd.h"
#include "base/stop.h"

enum {
	PRODUCTS = 1 << 22, /* numbers in a block of products */
	ROWS_MIN = 16,
	ROWS_MAX = 1024, /* points in it */
	PIECE = 64,      /* points in a task of little work */
};

struct job {
	const struct df_near *near;
	const struct df_points *points;
	const struct df_cluster_opts *opts;
	struct df_clusters *c;
	uint64_t n_valid;
};

static enum df_metric
metric_of(enum df_cluster_method m)
{
	return m == DF_CLUSTER_SPHERICAL ? DF_METRIC_DOT : DF_METRIC_L2;
}

static bool
is_valid(const struct job *j, uint64_t i)
{
	return j->c->of[i] != DF_CLUSTER_NONE;
}

static const float *
point(const struct job *j, uint64_t i)
{
	return j->points->x + i * j->points->d;
}

typedef void point_fn(void *ctx, uint64_t i);

struct points_loop {
	point_fn *fn;
	void *ctx;
	uint64_t n;
};

static void
run_piece(void *ctx, size_t piece, int worker)
{
	const struct points_loop *l = ctx;
	const uint64_t end = l->n - piece * PIECE < PIECE ? l->n : (piece + 1) * PIECE;

	(void)worker;
	for (uint64_t i = piece * PIECE; i < end; i++)
		l->fn(l->ctx, i);
}

/* fn(ctx, i) for n points, on all threads. */
static void
for_points(const struct job *j, uint64_t n, point_fn *fn, void *ctx)
{
	struct points_loop l = { fn, ctx, n };

	df_pool_for(j->near->pool, n / PIECE + (n % PIECE != 0), run_piece, &l);
}

static int
check_stop(struct df_err *err)
{
	return df_stop_requested() ? df_fail(err, DF_ESTOPPED, "stopped by a signal") : DF_OK;
}

/* ---- random points ---------------------------------------------------------------------- */

struct draw {
	double u;
	uint64_t i;
};

/* The exponential race with equal weights (algorithms.md 2.6): -ln u ascending is u descending. */
static int
by_draw(const void *x, const void *y)
{
	const struct draw *a = x, *b = y;

	if (a->u != b->u)
		return a->u > b->u ? -1 : 1;
	return a->i < b->i ? -1 : a->i > b->i;
}

/* order [n_valid] = the valid points in the order in which they are drawn. */
static int
draw_points(const struct job *j, uint64_t *order, struct df_err *err)
{
	const struct df_cluster_opts *o = j->opts;
	struct draw *draws = NULL;
	uint64_t n = 0;
	int rc = DF_OK;

	if (o->order) {
		for (uint64_t i = 0; i < j->points->n; i++)
			if (is_valid(j, o->order[i]))
				order[n++] = o->order[i];
		return DF_OK;
	}
	DF_TRY(df_alloc(&draws, j->n_valid, sizeof(*draws), "draws", err));
	for (uint64_t i = 0; i < j->points->n; i++)
		if (is_valid(j, i))
			draws[n++] = (struct draw){ df_rng_uniform(o->seed, DF_RNG_CLUSTER, o->step, i), i };
	qsort(draws, n, sizeof(*draws), by_draw);
	for (uint64_t i = 0; i < n; i++)
		order[i] = draws[i].i;
out:
	free(draws);
	return rc;
}

/* ---- the nearest centre --------------------------------------------------------------------- */

struct assign {
	const struct job *j;
	enum df_metric metric;
	double *norm, *half;   /* [k] of the centres; half of their squares for distances, else 0 */
	const float *products; /* [rows, k] */
	float *room;           /* [rows, k] for them */
	uint64_t first, rows;  /* the first point; how many */
	struct df_tensor centres, out;
	struct candidates {
		uint32_t *c;     /* [k] centres that may be the nearest */
		const float **x; /* [k] */
		double *value;   /* [k] */
		bool moved;      /* a point has another cluster than before */
	} * candidates;          /* by worker */
};

/*
 * A centre's score, largest at the nearest centre: the product, less `half`.  A float32 product of d terms of rows with
 * norms x and y rounds by at most d 2^-24 x y in any order of additions; it is taken to be off by twice that, and by
 * what is lost below the smallest numbers.
 */
struct error {
	double per_norm, more;
};

static struct error
error_of(size_t d, double norm)
{
	const double terms = (double)d + 16;

	return (struct error){ terms * 0x1p-23 * norm, terms * 0x1p-126 };
}

/* A score that one of k centres reaches.  A product that overflowed tells nothing. */
DF_SIMD static double
reached(const float *product, const double *norm, const double *half, struct error e, size_t k)
{
	enum { LANES = 16 };
	double best[LANES];
	size_t c = 0;

	for (int l = 0; l < LANES; l++)
		best[l] = (double)-INFINITY;
	for (; c + LANES <= k; c += LANES) {
		for (size_t l = 0; l < LANES; l++) {
			const double low = (double)product[c + l] - half[c + l] - e.per_norm * norm[c + l] - e.more;
			const bool more = low > best[l] && product[c + l] <= FLT_MAX;

			best[l] = more ? low : best[l];
		}
	}
	for (; c < k; c++) {
		const double low = (double)product[c] - half[c] - e.per_norm * norm[c] - e.more;

		if (low > best[0] && product[c] <= FLT_MAX)
			best[0] = low;
	}
	for (int l = 1; l < LANES; l++)
		best[0] = best[l] > best[0] ? best[l] : best[0];
	return best[0];
}

/* Are all of n centres below the score? */
DF_SIMD static bool
all_below(const float *product, const double *norm, const double *half, struct error e, size_t n, double score)
{
	int below = 1;

	for (size_t c = 0; c < n; c++)
		below &= (double)product[c] - half[c] + e.per_norm * norm[c] + e.more < score &&
		    fabsf(product[c]) <= FLT_MAX;
	return below;
}

/* The first of the nearest centres of a point; its exact value. */
static uint32_t
nearest(const struct assign *a, uint64_t i, const float *product, struct candidates *some, double *value)
{
	enum { AT_ONCE = 64 };
	const struct job *j = a->j;
	const size_t d = j->points->d, k = j->c->k;
	const struct error e = error_of(d, sqrt(df_exact(DF_METRIC_DOT, point(j, i), point(j, i), d)));
	const double score = reached(product, a->norm, a->half, e, k);
	size_t n = 0, best = 0;

	for (size_t first = 0; first < k; first += AT_ONCE) {
		const size_t end = k - first < AT_ONCE ? k : first + AT_ONCE;

		if (all_below(product + first, a->norm + first, a->half + first, e, end - first, score))
			continue;
		for (size_t c = first; c < end; c++) {
			if (all_below(product + c, a->norm + c, a->half + c, e, 1, score))
				continue;
			some->c[n] = (uint32_t)c;
			some->x[n++] = j->c->centre + c * d;
		}
	}
	df_exact_many(a->metric, point(j, i), some->x, n, d, some->value);
	for (size_t c = 1; c < n; c++)
		if (df_nearer(a->metric, some->value[c], c, some->value[best], best))
			best = c;
	*value = some->value[best];
	return some->c[best];
}

static void
assign_row(void *ctx, size_t row, int worker)
{
	const struct assign *a = ctx;
	struct df_clusters *c = a->j->c;
	const uint64_t i = a->first + row;
	uint32_t of;

	if (!is_valid(a->j, i))
		return;
	of = nearest(a, i, a->products + row * c->k, &a->candidates[worker], &c->value[i]);
	a->candidates[worker].moved |= of != c->of[i];
	c->of[i] = of;
}

static int
assign_block(struct assign *a, struct df_err *err)
{
	const struct job *j = a->j;
	const struct df_tensor out = df_tensor_rows(a->out, 0, a->rows);
	struct df_tensor x = DF_TENSOR_NONE;
	const void *products;
	int rc = DF_OK;

	DF_TRY(df_tensor_borrow(j->near->be, &x, DF_F32, a->rows, j->points->d, point(j, a->first), "points", err));
	DF_TRY(
	    df_gemm(j->near->be, &(struct df_gemm){ .tb = true, .alpha = 1, .a = x, .b = a->centres, .c = out }, err));
	DF_TRY(df_download_or_see(j->near->be, &products, a->room, out, err));
	a->products = products;
	df_pool_for(j->near->pool, a->rows, assign_row, a);
out:
	df_tensor_free(j->near->be, &x);
	return rc;
}

/* Room for blocks of so many rows, and what is known of the centres. */
static int
open_assign(struct assign *a, const struct job *j, uint64_t rows, struct df_err *err)
{
	const int workers = df_pool_size(j->near->pool);
	const uint64_t k = j->c->k;
	const size_t d = j->points->d;
	size_t n;
	int rc = DF_OK;

	*a = (struct assign){ .j = j, .metric = metric_of(j->opts->method) };
	DF_TRY(df_alloc(&a->candidates, (size_t)workers, sizeof(*a->candidates), "clusters", err));
	for (int w = 0; w < workers; w++) {
		DF_TRY(df_alloc(&a->candidates[w].c, k, sizeof(*a->candidates[w].c), "centres", err));
		DF_TRY(df_alloc(&a->candidates[w].x, k, sizeof(*a->candidates[w].x), "centres", err));
		DF_TRY(df_alloc(&a->candidates[w].value, k, sizeof(*a->candidates[w].value), "centres", err));
	}
	DF_TRY(df_alloc(&a->norm, k, sizeof(*a->norm), "centres", err));
	DF_TRY(df_alloc(&a->half, k, sizeof(*a->half), "centres", err));
	DF_TRY(df_size_mul(rows, k, &n, "products", err));
	DF_TRY(df_alloc(&a->room, n, sizeof(*a->room), "products", err));
	DF_TRY(df_tensor_alloc(j->near->be, &a->centres, DF_F32, k, d, "centres", err));
	DF_TRY(df_tensor_alloc(j->near->be, &a->out, DF_F32, rows, k, "products", err));
	DF_TRY(df_upload(j->near->be, a->centres, j->c->centre, err));
	for (uint64_t c = 0; c < k; c++) {
		const double square = df_exact(DF_METRIC_DOT, j->c->centre + c * d, j->c->centre + c * d, d);

		a->norm[c] = sqrt(square);
		a->half[c] = a->metric == DF_METRIC_L2 ? square / 2 : 0;
	}
out:
	return rc;
}

static void
close_assign(struct assign *a)
{
	for (int w = 0; a->candidates && w < df_pool_size(a->j->near->pool); w++) {
		free(a->candidates[w].c);
		free(a->candidates[w].x);
		free(a->candidates[w].value);
	}
	free(a->candidates);
	free(a->norm);
	free(a->half);
	free(a->room);
	df_tensor_free(a->j->near->be, &a->centres);
	df_tensor_free(a->j->near->be, &a->out);
}

/* Each point to its nearest centre; *moved: a point has another one than before. */
static int
assign_points(const struct job *j, bool *moved, struct df_err *err)
{
	const uint64_t n = j->points->n, many = j->c->k ? PRODUCTS / j->c->k : ROWS_MAX;
	const uint64_t most = many > ROWS_MAX ? ROWS_MAX : many < ROWS_MIN ? ROWS_MIN : many;
	const uint64_t rows = n < most ? n : most;
	struct assign a;
	int rc = DF_OK;

	*moved = false;
	DF_TRY(open_assign(&a, j, rows, err));
	for (a.first = 0; a.first < n; a.first += rows) {
		DF_TRY(check_stop(err));
		a.rows = n - a.first < rows ? n - a.first : rows;
		DF_TRY(assign_block(&a, err));
	}
	for (int w = 0; w < df_pool_size(j->near->pool); w++)
		*moved |= a.candidates[w].moved;
out:
	close_assign(&a);
	return rc;
}

/* ---- new centres ------------------------------------------------------------------------------- */

/* The points in order of their clusters, those of a cluster in order. */
struct members {
	const struct job *j;
	uint64_t *first; /* [k + 1] into i */
	uint64_t *i;     /* [n_valid] */
};

static void
members_release(struct members *m)
{
	free(m->first);
	free(m->i);
}

static int
find_members(const struct job *j, struct members *m, struct df_err *err)
{
	const struct df_clusters *c = j->c;
	uint64_t *at = NULL;
	int rc = DF_OK;

	*m = (struct members){ .j = j };
	DF_TRY(df_alloc(&m->first, c->k + 1, sizeof(*m->first), "clusters", err));
	DF_TRY(df_alloc(&m->i, j->n_valid, sizeof(*m->i), "clusters", err));
	DF_TRY(df_alloc(&at, c->k, sizeof(*at), "clusters", err));
	for (uint64_t i = 0; i < c->n; i++)
		if (is_valid(j, i))
			m->first[c->of[i] + 1]++;
	for (uint64_t k = 0; k < c->k; k++) {
		m->first[k + 1] += m->first[k];
		at[k] = m->first[k];
	}
	for (uint64_t i = 0; i < c->n; i++)
		if (is_valid(j, i))
			m->i[at[c->of[i]]++] = i;
out:
	free(at);
	return rc;
}

static void
count_members(const struct members *m)
{
	for (uint64_t k = 0; k < m->j->c->k; k++)
		m->j->c->size[k] = m->first[k + 1] - m->first[k];
}

/* x / |x|; 0 for a norm that is nearly 0. */
static void
scale_to_unit(float *x, size_t d)
{
	const double norm = sqrt(df_exact(DF_METRIC_DOT, x, x, d));

	for (size_t c = 0; c < d; c++)
		x[c] = norm > 1e-12 ? (float)((double)x[c] / norm) : 0.0f;
}

enum { STRIPE = 64 };

/* The mean of a cluster's points, STRIPE columns at a time: float64 sums in order of the points. */
static void
mean_of(void *ctx, size_t k, int worker)
{
	const struct members *m = ctx;
	const uint64_t first = m->first[k], end = m->first[k + 1];
	const size_t d = m->j->points->d;
	float *centre = m->j->c->centre + k * d;

	(void)worker;
	for (size_t c0 = 0; first < end && c0 < d; c0 += STRIPE) {
		const size_t width = d - c0 < STRIPE ? d - c0 : STRIPE;
		double sum[STRIPE] = { 0 };

		for (uint64_t i = first; i < end; i++) {
			const float *x = point(m->j, m->i[i]) + c0;

			for (size_t c = 0; c < width; c++)
				sum[c] += (double)x[c];
		}
		for (size_t c = 0; c < width; c++)
			centre[c0 + c] = (float)(sum[c] / (double)(end - first));
	}
	if (m->j->opts->method == DF_CLUSTER_SPHERICAL && first < end)
		scale_to_unit(centre, d);
}

/*
 * An empty cluster begins anew at the point that is farthest from its own centre, the lowest number first; each point
 * serves once.
 */
static int
reseed(const struct job *j, const struct members *m, struct df_err *err)
{
	const enum df_metric metric = metric_of(j->opts->method);
	const struct df_clusters *c = j->c;
	const size_t d = j->points->d;
	uint8_t *used = NULL;
	int rc = DF_OK;

	for (uint64_t k = 0; k < c->k; k++) {
		uint64_t far = UINT64_MAX;

		if (m->first[k] < m->first[k + 1])
			continue;
		if (!used)
			DF_TRY(df_alloc(&used, c->n, sizeof(*used), "clusters", err));
		for (uint64_t i = 0; i < c->n; i++) {
			if (!is_valid(j, i) || used[i])
				continue;
			if (far == UINT64_MAX ||
			    (metric == DF_METRIC_L2 ? c->value[i] > c->value[far] : c->value[i] < c->value[far]))
				far = i;
		}
		if (far == UINT64_MAX)
			break;
		used[far] = 1;
		memcpy(c->centre + k * d, point(j, far), d * sizeof(float));
		if (j->opts->method == DF_CLUSTER_SPHERICAL)
			scale_to_unit(c->centre + k * d, d);
	}
out:
	free(used);
	return rc;
}

static int
move_centres(const struct job *j, struct df_err *err)
{
	struct members m;
	int rc = DF_OK;

	DF_TRY(find_members(j, &m, err));
	df_pool_for(j->near->pool, j->c->k, mean_of, &m);
	DF_TRY(reseed(j, &m, err));
out:
	members_release(&m);
	return rc;
}

/* ---- the methods -------------------------------------------------------------------------------- */

static int
run_kmeans(const struct job *j, const uint64_t *order, struct df_err *err)
{
	struct df_clusters *c = j->c;
	const size_t d = j->points->d;
	bool moved = true;
	int rc = DF_OK;

	for (uint64_t k = 0; k < c->k; k++) {
		memcpy(c->centre + k * d, point(j, order[k]), d * sizeof(float));
		if (j->opts->method == DF_CLUSTER_SPHERICAL)
			scale_to_unit(c->centre + k * d, d);
	}
	DF_TRY(assign_points(j, &moved, err));
	while (c->n_iter < j->opts->max_iter && (c->n_iter == 0 || moved)) {
		DF_TRY(move_centres(j, err));
		DF_TRY(assign_points(j, &moved, err));
		c->n_iter++;
	}
out:
	return rc;
}

struct farthest {
	const struct job *j;
	uint64_t chosen; /* point */
	uint32_t number; /* its cluster */
	double *between; /* [number] squared distances of the chosen to the earlier ones */
};

static void
distance_between(void *ctx, uint64_t k)
{
	const struct farthest *f = ctx;
	const size_t d = f->j->points->d;

	f->between[k] = df_exact(DF_METRIC_L2, point(f->j, f->chosen), f->j->c->centre + k * d, d);
}

/*
 * Is the chosen point nearer than the nearest one before?  Not if it lies at least twice as far from that one as the
 * point does (Elkan 2003).
 */
static void
compare_chosen(void *ctx, uint64_t i)
{
	const struct farthest *f = ctx;
	struct df_clusters *c = f->j->c;
	double value;

	if (!is_valid(f->j, i) || (f->number > 0 && f->between[c->of[i]] > c->value[i] * (4 + 1e-9)))
		return;
	value = df_exact(DF_METRIC_L2, point(f->j, i), point(f->j, f->chosen), f->j->points->d);
	if (f->number == 0 || value < c->value[i]) {
		c->value[i] = value;
		c->of[i] = f->number;
	}
}

static int
run_farthest(const struct job *j, const uint64_t *order, struct df_err *err)
{
	struct df_clusters *c = j->c;
	const size_t d = j->points->d;
	struct farthest f = { .j = j, .chosen = order[0] };
	int rc = DF_OK;

	DF_TRY(df_alloc(&f.between, c->k, sizeof(*f.between), "distances", err));
	for (; f.number < c->k; f.number++) {
		DF_TRY(check_stop(err));
		for_points(j, f.number, distance_between, &f);
		for_points(j, c->n, compare_chosen, &f);
		memcpy(c->centre + f.number * d, point(j, f.chosen), d * sizeof(float));
		f.chosen = UINT64_MAX;
		for (uint64_t i = 0; i < c->n; i++)
			if (is_valid(j, i) && (f.chosen == UINT64_MAX || c->value[i] > c->value[f.chosen]))
				f.chosen = i;
	}
out:
	free(f.between);
	return rc;
}

struct lsh {
	const struct job *j;
	unsigned bits;
	float *direction; /* [bits, d] */
};

static void
sign_point(void *ctx, uint64_t i)
{
	const struct lsh *l = ctx;
	const size_t d = l->j->points->d;
	uint32_t signature = 0;

	if (!is_valid(l->j, i))
		return;
	for (unsigned b = 0; b < l->bits; b++)
		signature |= (uint32_t)(df_exact(DF_METRIC_DOT, point(l->j, i), l->direction + b * d, d) >= 0) << b;
	l->j->c->of[i] = signature;
}

static int
by_value(const void *x, const void *y)
{
	const uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

	return a < b ? -1 : a > b;
}

static int
number_signatures(const struct job *j, struct df_err *err)
{
	struct df_clusters *c = j->c;
	uint32_t *seen = NULL;
	uint64_t n = 0, distinct = 0;
	int rc = DF_OK;

	DF_TRY(df_alloc(&seen, j->n_valid, sizeof(*seen), "signatures", err));
	for (uint64_t i = 0; i < c->n; i++)
		if (is_valid(j, i))
			seen[n++] = c->of[i];
	qsort(seen, n, sizeof(*seen), by_value);
	for (uint64_t i = 0; i < n; i++)
		if (i == 0 || seen[i] != seen[i - 1])
			seen[distinct++] = seen[i];
	for (uint64_t i = 0; i < c->n; i++) {
		if (is_valid(j, i)) {
			const uint32_t *at = bsearch(&c->of[i], seen, distinct, sizeof(*seen), by_value);

			c->of[i] = (uint32_t)((uint64_t)(at - seen) % c->k);
		}
	}
out:
	free(seen);
	return rc;
}

static int
run_lsh(const struct job *j, struct df_err *err)
{
	const struct df_cluster_opts *o = j->opts;
	struct lsh l = { .j = j, .bits = o->lsh_bits };
	size_t n;
	int rc = DF_OK;

	if (l.bits == 0) {
		while (l.bits < 30 && (uint64_t)1 << l.bits < j->c->k)
			l.bits++;
		l.bits = l.bits ? l.bits : 1;
	}
	l.bits = l.bits > 30 ? 30 : l.bits;
	DF_TRY(df_size_mul(l.bits, j->points->d, &n, "directions", err));
	DF_TRY(df_alloc(&l.direction, n, sizeof(*l.direction), "directions", err));
	for (size_t i = 0; i < n; i++)
		l.direction[i] = (float)df_rng_normal(o->seed, DF_RNG_CLUSTER, o->step, i);
	for_points(j, j->c->n, sign_point, &l);
	DF_TRY(number_signatures(j, err));
out:
	free(l.direction);
	return rc;
}

/* ---- all of it ---------------------------------------------------------------------------------------- */

static void
check_point(void *ctx, uint64_t i)
{
	const struct job *j = ctx;

	j->c->of[i] = df_all_finite(point(j, i), j->points->d) ? 0 : DF_CLUSTER_NONE;
}

static int
prepare(struct job *j, struct df_err *err)
{
	const struct df_cluster_opts *o = j->opts;
	struct df_clusters *c = j->c;
	const bool centres = o->method <= DF_CLUSTER_FARTHEST;
	const uint64_t n = j->points->n, size = o->cluster_size ? o->cluster_size : 1;
	size_t numel;
	int rc = DF_OK;

	*c = (struct df_clusters){ .n = n };
	DF_TRY(df_alloc(&c->of, n, sizeof(*c->of), "clusters", err));
	for_points(j, n, check_point, j);
	for (uint64_t i = 0; i < n; i++)
		j->n_valid += is_valid(j, i);
	c->n_invalid = n - j->n_valid;
	if (j->n_valid == 0) {
		rc = df_fail(err, DF_EUSAGE, "there are no points to cluster: %" PRIu64 " rows, none is finite", n);
		goto out;
	}
	c->k = o->k ? o->k : n / size + (n % size != 0);
	c->k = c->k > j->n_valid ? j->n_valid : c->k;
	if (c->k >= DF_CLUSTER_NONE) {
		rc = df_fail(err, DF_EUSAGE, "%" PRIu64 " clusters are too many", c->k);
		goto out;
	}
	DF_TRY(df_alloc(&c->size, c->k, sizeof(*c->size), "clusters", err));
	if (centres) {
		DF_TRY(df_size_mul(c->k, j->points->d, &numel, "centres", err));
		DF_TRY(df_alloc(&c->centre, numel, sizeof(*c->centre), "centres", err));
		DF_TRY(df_alloc(&c->value, n, sizeof(*c->value), "distances", err));
		for (uint64_t i = 0; i < n; i++)
			c->value[i] = (double)NAN;
	}
out:
	return rc;
}

int
df_cluster(const struct df_near *near, const struct df_points *points, const struct df_cluster_opts *opts,
    struct df_clusters *out, struct df_err *err)
{
	struct job j = { .near = near, .points = points, .opts = opts, .c = out };
	struct members m = { 0 };
	uint64_t *order = NULL;
	int rc = DF_OK;

	DF_TRY(prepare(&j, err));
	DF_TRY(df_alloc(&order, j.n_valid, sizeof(*order), "draws", err));
	if (opts->method != DF_CLUSTER_LSH)
		DF_TRY(draw_points(&j, order, err));
	switch (opts->method) {
	case DF_CLUSTER_KMEANS:
	case DF_CLUSTER_SPHERICAL: DF_TRY(run_kmeans(&j, order, err)); break;
	case DF_CLUSTER_FARTHEST: DF_TRY(run_farthest(&j, order, err)); break;
	case DF_CLUSTER_LSH: DF_TRY(run_lsh(&j, err)); break;
	case DF_CLUSTER_RANDOM:
		for (uint64_t i = 0; i < j.n_valid; i++)
			out->of[order[i]] = (uint32_t)(i % out->k);
		break;
	}
	DF_TRY(find_members(&j, &m, err));
	count_members(&m);
	for (uint64_t i = 0; out->value && i < out->n; i++)
		if (is_valid(&j, i))
			out->inertia += out->value[i];
out:
	members_release(&m);
	free(order);
	return rc;
}

void
df_clusters_release(struct df_clusters *c)
{
	free(c->of);
	free(c->size);
	free(c->centre);
	free(c->value);
	*c = (struct df_clusters){ 0 };
}
