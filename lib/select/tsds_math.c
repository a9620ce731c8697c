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
#include "near/pairs.h"
#include "select/tsds.h"

#define QUERY_ROWS 4096 /* points at a time whose kde_k nearest are searched */

/* ---- density ------------------------------------------------------------------------- */

/*
 * The kernel is 0 from a distance of sigma on.  So a point with at most kde_k neighbours nearer than that needs no
 * order among them: the pairs within sigma are enough.  The others, if there are any, need their kde_k nearest.
 */
struct density {
	double width;   /* sigma^2 */
	double *rho;    /* [n] */
	uint64_t *near; /* [n] points that the kernel sees, itself included */
	uint64_t n_pairs, most_pairs;
	bool dense; /* so many pairs that a search for all points is cheaper */
};

/* Of a squared distance; 1 between duplicates, however narrow it is. */
static double
kernel(const struct density *d, double square)
{
	return square > 0 ? fmax(0, 1 - square / d->width) : 1;
}

static int
add_pairs(void *ctx, uint64_t i, const uint64_t *j, const double *square, uint64_t n, bool *stop, struct df_err *err)
{
	struct density *d = ctx;

	(void)err;
	for (uint64_t at = 0; at < n; at++) {
		const double x = kernel(d, square[at]);

		if (!(x > 0))
			continue;
		d->rho[i] += x;
		d->rho[j[at]] += x;
		d->near[i]++;
		d->near[j[at]]++;
		d->n_pairs++;
	}
	*stop = d->dense = d->n_pairs > d->most_pairs;
	return DF_OK;
}

/* rho of the points `which` [m], by their kde_k nearest among all. */
static int
by_nearest(const struct df_near *near, const struct df_points *x, const uint64_t *which, uint64_t m, uint64_t kde_k,
    struct density *d, struct df_err *err)
{
	struct df_points rows = { .n = m, .d = x->d };
	struct df_knn *knn = NULL;
	float *copy = NULL, *distance = NULL;
	uint64_t *id = NULL, k;
	int rc = DF_OK;

	DF_TRY(df_alloc(&copy, m, x->d * sizeof(*copy), "points", err));
	DF_TRY(df_alloc(&id, m, kde_k * sizeof(*id), "neighbours", err));
	DF_TRY(df_alloc(&distance, m, kde_k * sizeof(*distance), "neighbours", err));
	for (uint64_t i = 0; i < m; i++)
		memcpy(copy + i * x->d, x->x + which[i] * x->d, x->d * sizeof(*copy));
	rows.x = copy;
	DF_TRY(df_knn_new(&knn, near, DF_METRIC_L2, &rows, kde_k, NULL, err));
	DF_TRY(df_knn_add(knn, x->x, NULL, x->n, err));
	DF_TRY(df_knn_end(knn, id, distance, &k, err));
	for (uint64_t i = 0; i < m; i++) {
		double sum = 0;

		for (uint64_t r = 0; r < k; r++) {
			const double far = (double)distance[i * k + r];

			sum += kernel(d, far * far);
		}
		d->rho[which[i]] = sum;
	}
out:
	df_knn_free(knn);
	free(copy);
	free(id);
	free(distance);
	return rc;
}

int
df_tsds_density(const struct df_near *near, const struct df_points *x, double sigma, uint64_t kde_k, double *rho,
    struct df_err *err)
{
	struct density d = { .width = sigma * sigma, .rho = rho };
	uint64_t *which = NULL, m = 0;
	int rc = DF_OK;

	kde_k = kde_k < x->n ? kde_k : x->n;
	for (uint64_t i = 0; i < x->n; i++)
		rho[i] = 1;
	if (!(sigma > 0))
		return DF_OK;
	DF_TRY(df_alloc(&d.near, x->n, sizeof(*d.near), "densities", err));
	DF_TRY(df_alloc(&which, QUERY_ROWS, sizeof(*which), "densities", err));
	for (uint64_t i = 0; i < x->n; i++)
		d.near[i] = 1;
	d.most_pairs = x->n * kde_k; /* kde_k <= n, and all n points are in memory */
	DF_TRY(df_near_pairs(near, DF_METRIC_L2, x, sigma * sigma, add_pairs, &d, err));
	for (uint64_t i = 0; i < x->n; i++) {
		if (d.dense || d.near[i] > kde_k)
			which[m++] = i;
		if (m == QUERY_ROWS || (m > 0 && i + 1 == x->n)) {
			DF_TRY(by_nearest(near, x, which, m, kde_k, &d, err));
			m = 0;
		}
	}
out:
	free(which);
	free(d.near);
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
