/*
 * tsds_math.c - TSDS's densities and its assignment of probability.
 *
 * Liu, Chen, Ge, Chen, Hu: "TSDS: Data Selection for Task-Specific Model Finetuning", NeurIPS 2024.  For a given s, no
 * query may send more than 1 / (M s rho_i) to a row i, and the best transport fills each query's nearest rows up to
 * that.  Then the objective is F(s) = (alpha / c) T(s) + (1 - alpha) / s with the mean cost T(s), convex in 1 / s.  Its
 * slope changes where a query exactly fills its first k + 1 neighbours, that is at s = sum_{r <= k} 1 / rho_r; a heap
 * walks these breakpoints upwards until the slope changes its sign.
 *
 * The original adds 1 / (M s rho) of the nearest row even where that is more than the query has; ours never does, and
 * is therefore the optimum for every alpha and c.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "near/nearest.h"
#include "near/pairs.h"
#include "select/tsds.h"

#define QUERY_ROWS 4096 /* points at a time whose kde_k nearest are searched */
#define SAMPLE     1024 /* points by which one of the two ways is chosen */
#define DENSE      0.1  /* of all pairs within sigma: more of them cost more than a search */

/* ---- density ------------------------------------------------------------------------- */

/*
 * The kernel is 0 from a distance of sigma on, so the pairs within sigma are enough; and of a point that has more than
 * kde_k of them, the largest.  Where a large part of all pairs is within sigma, a search for the kde_k nearest of each
 * point is cheaper than their values.
 */
struct density {
	double width;  /* sigma^2 */
	double *rho;   /* [n] */
	uint64_t most; /* kde_k - 1: points that count beside the point itself */
	struct alike {
		float *kernel; /* [n] among them the `most` largest */
		uint64_t n, cap;
		float least; /* no more than this is not among them */
	} * alike;           /* [n] */
	uint64_t n_pairs;
};

/* Of a squared distance; 1 between duplicates, however narrow it is. */
static double
kernel(const struct density *d, double square)
{
	return square > 0 ? fmax(0, 1 - square / d->width) : 1;
}

/* Only the `most` largest are kept, in their order. */
static void
keep_largest(struct alike *a, uint64_t most)
{
	uint64_t n = 0, n_least = most;

	if (a->n <= most)
		return;
	a->least = df_reached_by(a->kernel, a->n, most, 0);
	for (uint64_t i = 0; i < a->n; i++)
		n_least -= a->kernel[i] > a->least;
	for (uint64_t i = 0; i < a->n; i++) {
		const bool last = a->kernel[i] == a->least && n_least > 0;

		n_least -= last;
		a->kernel[n] = a->kernel[i];
		n += last || a->kernel[i] > a->least;
	}
	a->n = n;
}

static int
add_kernel(struct alike *a, uint64_t most, float kernel, struct df_err *err)
{
	const uint64_t room = most + most / 8 + 64; /* some more: they are rarely sorted out then */
	int rc = DF_OK;

	if (a->n == room)
		keep_largest(a, most);
	if (kernel <= a->least)
		return DF_OK;
	if (a->n == a->cap) {
		const uint64_t cap = a->n + a->n / 2 + 8;
		size_t grown = 0;

		DF_TRY(df_grow(&a->kernel, &grown, cap < room ? cap : room, sizeof(*a->kernel), "densities", err));
		a->cap = grown;
	}
	a->kernel[a->n++] = kernel;
out:
	return rc;
}

static int
add_pairs(void *ctx, uint64_t i, const uint64_t *j, const double *square, uint64_t n, bool *stop, struct df_err *err)
{
	struct density *d = ctx;
	int rc = DF_OK;

	(void)stop;
	for (uint64_t at = 0; at < n; at++) {
		const float alike = (float)kernel(d, square[at]);

		if (alike > 0) {
			DF_TRY(add_kernel(&d->alike[i], d->most, alike, err));
			DF_TRY(add_kernel(&d->alike[j[at]], d->most, alike, err));
		}
	}
out:
	return rc;
}

/* Sums over the pairs within sigma. */
static int
by_pairs(const struct df_near *near, const struct df_points *x, struct density *d, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_alloc(&d->alike, x->n, sizeof(*d->alike), "densities", err));
	DF_TRY(df_near_pairs(near, DF_METRIC_L2, x, d->width, add_pairs, d, err));
	for (uint64_t i = 0; i < x->n; i++) {
		keep_largest(&d->alike[i], d->most);
		for (uint64_t k = 0; k < d->alike[i].n; k++)
			d->rho[i] += (double)d->alike[i].kernel[k];
	}
out:
	for (uint64_t i = 0; d->alike && i < x->n; i++)
		free(d->alike[i].kernel);
	free(d->alike);
	return rc;
}

/* rho of the points [first, first + m), by their kde_k nearest among all. */
static int
by_nearest(const struct df_near *near, const struct df_points *x, uint64_t first, uint64_t m, uint64_t kde_k,
    struct density *d, struct df_err *err)
{
	const struct df_points rows = { .x = x->x + first * x->d, .n = m, .d = x->d };
	struct df_knn *knn = NULL;
	float *distance = NULL;
	uint64_t *id = NULL, k;
	int rc = DF_OK;

	DF_TRY(df_alloc(&id, m, kde_k * sizeof(*id), "neighbours", err));
	DF_TRY(df_alloc(&distance, m, kde_k * sizeof(*distance), "neighbours", err));
	DF_TRY(df_knn_new(&knn, near, DF_METRIC_L2, &rows, kde_k, NULL, err));
	DF_TRY(df_knn_add(knn, x->x, NULL, x->n, err));
	DF_TRY(df_knn_end(knn, id, distance, &k, err));
	for (uint64_t i = 0; i < m; i++) {
		double sum = 0;

		for (uint64_t r = 0; r < k; r++) {
			const double far = (double)distance[i * k + r];

			sum += kernel(d, far * far);
		}
		d->rho[first + i] = sum;
	}
out:
	df_knn_free(knn);
	free(id);
	free(distance);
	return rc;
}

static int
count_pairs(void *ctx, uint64_t i, const uint64_t *j, const double *square, uint64_t n, bool *stop, struct df_err *err)
{
	(void)i;
	(void)j;
	(void)square;
	(void)stop;
	(void)err;
	((struct density *)ctx)->n_pairs += n;
	return DF_OK;
}

/* Is a large part of all pairs within sigma?  A sample tells; few points need no choice. */
static int
is_dense(const struct df_near *near, const struct df_points *x, struct density *d, bool *dense, struct df_err *err)
{
	const double all = (double)SAMPLE * (SAMPLE - 1) / 2;
	float *some = NULL;
	int rc = DF_OK;

	*dense = false;
	if (x->n < 2 * SAMPLE)
		return DF_OK;
	DF_TRY(df_alloc(&some, SAMPLE, x->d * sizeof(*some), "points", err));
	for (uint64_t i = 0; i < SAMPLE; i++)
		memcpy(some + i * x->d, x->x + i * (x->n / SAMPLE) * x->d, x->d * sizeof(*some));
	DF_TRY(df_near_pairs(near, DF_METRIC_L2, &(struct df_points){ .x = some, .n = SAMPLE, .d = x->d }, d->width,
	    count_pairs, d, err));
	*dense = (double)d->n_pairs > DENSE * all;
out:
	free(some);
	return rc;
}

int
df_tsds_density(const struct df_near *near, const struct df_points *x, double sigma, uint64_t kde_k, double *rho,
    struct df_err *err)
{
	struct density d = { .width = sigma * sigma, .rho = rho };
	bool dense;
	int rc = DF_OK;

	kde_k = kde_k < x->n ? kde_k : x->n;
	d.most = kde_k ? kde_k - 1 : 0;
	for (uint64_t i = 0; i < x->n; i++)
		rho[i] = 1;
	if (!(sigma > 0) || !d.most)
		return DF_OK;
	DF_TRY(is_dense(near, x, &d, &dense, err));
	if (!dense)
		DF_TRY(by_pairs(near, x, &d, err));
	for (uint64_t first = 0; dense && first < x->n; first += QUERY_ROWS) {
		const uint64_t m = x->n - first < QUERY_ROWS ? x->n - first : QUERY_ROWS;

		DF_TRY(by_nearest(near, x, first, m, kde_k, &d, err));
	}
out:
	return rc;
}

/* ---- assignment ------------------------------------------------------------------------ */

/* Where query q exactly fills its neighbours 0..k. */
struct stop {
	double s;
	uint64_t k, q;
};

static bool
before(const struct stop *a, const struct stop *b)
{
	if (a->s != b->s)
		return a->s < b->s;
	return a->k != b->k ? a->k < b->k : a->q < b->q;
}

/* Let the item at `at` sink to its place in the heap [n]. */
static void
sink(struct stop *heap, uint64_t n, uint64_t at)
{
	const struct stop item = heap[at];

	for (uint64_t child; (child = 2 * at + 1) < n; at = child) {
		if (child + 1 < n && before(&heap[child + 1], &heap[child]))
			child++;
		if (!before(&heap[child], &item))
			break;
		heap[at] = heap[child];
	}
	heap[at] = item;
}

/* What is known of each query while s grows. */
struct query {
	double cost;     /* d_{k+1} s - sum_{r <= k} d_r / rho_r: what it adds to the slope */
	double weighted; /* that sum */
};

struct assignment {
	const struct df_neighbours *t;
	const double *rho;
	struct query *query; /* [m] */
	struct stop *heap;   /* [m] */
};

static double
inverse_density(const struct assignment *a, uint64_t q, uint64_t k)
{
	return 1 / a->rho[a->t->id[q * a->t->k + k]];
}

static double
distance(const struct assignment *a, uint64_t q, uint64_t k)
{
	return (double)a->t->distance[q * a->t->k + k];
}

/* Walk up to the best s. */
static void
walk(struct assignment *a, double alpha, double c, struct df_tsds_fill *fill)
{
	const double enough = (1 - alpha) * (double)a->t->m;
	double total = 0;
	uint64_t n = 0;

	for (uint64_t q = 0; q < a->t->m; q++) {
		const double w = inverse_density(a, q, 0);

		a->query[q] = (struct query){ .weighted = distance(a, q, 0) * w };
		if (df_neighbours_has(a->t, q, 1))
			a->heap[n++] = (struct stop){ .s = w, .k = 0, .q = q };
		else
			fill->s = fmax(fill->s, w);
	}
	for (uint64_t i = n / 2; i-- > 0;)
		sink(a->heap, n, i);
	while (n > 0) {
		struct stop *top = &a->heap[0];
		struct query *query = &a->query[top->q];
		const uint64_t next = top->k + 1;

		fill->s = top->s;
		total -= query->cost;
		query->cost = distance(a, top->q, next) * top->s - query->weighted;
		total += query->cost;
		if (alpha / c * total >= enough)
			return;
		if (df_neighbours_has(a->t, top->q, next + 1)) {
			const double w = inverse_density(a, top->q, next);

			query->weighted += distance(a, top->q, next) * w;
			top->s += w;
			top->k = next;
		} else {
			*top = a->heap[--n];
		}
		sink(a->heap, n, 0);
	}
	fill->limited = true;
}

/*
 * Each query fills its nearest rows up to 1 / (M s rho), and the last one with what is left.  At the best s some query
 * fills its last row exactly: what rounding leaves then must not give another row a probability.
 */
static void
pour(const struct assignment *a, double s, double *p)
{
	const double mass = 1 / (double)a->t->m, nothing = 1e-12 * mass;

	for (uint64_t q = 0; q < a->t->m; q++) {
		double left = mass;

		for (uint64_t k = 0; left > 0; k++) {
			const double cap = mass / s * inverse_density(a, q, k);
			const double take = left - cap > nothing && df_neighbours_has(a->t, q, k + 1) ? cap : left;

			p[a->t->id[q * a->t->k + k]] += take;
			left -= take;
		}
	}
}

int
df_tsds_assign(const struct df_neighbours *t, const double *rho, uint64_t n_rows, double alpha, double c, double *p,
    struct df_tsds_fill *fill, struct df_err *err)
{
	struct assignment a = { .t = t, .rho = rho };
	int rc = DF_OK;

	*fill = (struct df_tsds_fill){ 0 };
	for (uint64_t q = 0; q < t->m; q++)
		if (!df_neighbours_has(t, q, 0))
			return df_fail(err, DF_EFORMAT, "query %" PRIu64 " has no neighbour that may be chosen", q);
	DF_TRY(df_alloc(&a.query, t->m, sizeof(*a.query), "queries", err));
	DF_TRY(df_alloc(&a.heap, t->m, sizeof(*a.heap), "queries", err));
	walk(&a, alpha, c, fill);
	for (uint64_t i = 0; i < n_rows; i++)
		p[i] = 0;
	pour(&a, fill->s, p);
out:
	free(a.query);
	free(a.heap);
	return rc;
}
