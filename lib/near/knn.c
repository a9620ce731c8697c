/*
 * knn.c - exact nearest neighbours: each query keeps the best of what it has seen.
 */
#include "near/knn.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

struct neighbour {
	double value;
	uint64_t id;
};

/* The neighbours of a query: a heap of the best so far, the farthest first. */
struct list {
	struct neighbour *v;
	uint64_t n;
	bool invalid; /* the query has a number that is not finite */
};

struct df_knn {
	struct df_near near;
	enum df_metric metric;
	struct df_points queries;
	const uint64_t *self;
	uint64_t most;            /* neighbours of a query */
	uint64_t n_seen;          /* candidates */
	struct list *lists;       /* [queries] */
	uint64_t cap;             /* of each list */
	struct neighbour *memory; /* [queries, cap] */
};

static bool
farther(enum df_metric metric, const struct neighbour *a, const struct neighbour *b)
{
	return df_nearer(metric, b->value, b->id, a->value, a->id);
}

int
df_knn_new(struct df_knn **out, const struct df_near *near, enum df_metric metric, const struct df_points *queries,
    uint64_t k_wanted, const uint64_t *self, struct df_err *err)
{
	struct df_knn *k = NULL;
	int rc = DF_OK;

	*out = NULL;
	DF_TRY(df_alloc(&k, 1, sizeof(*k), "nearest neighbours", err));
	*k = (struct df_knn){ .near = *near, .metric = metric, .queries = *queries, .self = self, .most = k_wanted };
	DF_TRY(df_alloc(&k->lists, (size_t)queries->n, sizeof(*k->lists), "nearest neighbours", err));
	for (uint64_t i = 0; i < queries->n; i++)
		k->lists[i].invalid = !df_all_finite(queries->x + i * queries->d, queries->d);
	*out = k;
	k = NULL;
out:
	df_knn_free(k);
	return rc;
}

void
df_knn_free(struct df_knn *k)
{
	if (!k)
		return;
	free(k->lists);
	free(k->memory);
	free(k);
}

/* ---- one query ----------------------------------------------------------------------------------------------------- */

static void
sift_down(enum df_metric metric, struct neighbour *v, uint64_t n, uint64_t at)
{
	const struct neighbour x = v[at];

	for (uint64_t child; (child = 2 * at + 1) < n; at = child) {
		if (child + 1 < n && farther(metric, &v[child + 1], &v[child]))
			child++;
		if (!farther(metric, &v[child], &x))
			break;
		v[at] = v[child];
	}
	v[at] = x;
}

static void
sift_up(enum df_metric metric, struct neighbour *v, uint64_t at)
{
	const struct neighbour x = v[at];

	for (; at > 0 && farther(metric, &x, &v[(at - 1) / 2]); at = (at - 1) / 2)
		v[at] = v[(at - 1) / 2];
	v[at] = x;
}

static void
offer(const struct df_knn *k, struct list *l, struct neighbour x)
{
	if (l->n < k->most) {
		l->v[l->n++] = x;
		sift_up(k->metric, l->v, l->n - 1);
	} else if (farther(k->metric, &l->v[0], &x)) {
		l->v[0] = x;
		sift_down(k->metric, l->v, l->n, 0);
	}
}

/* ---- all queries --------------------------------------------------------------------------------------------------- */

struct block {
	struct df_knn *k;
	const float *rows;
	const uint64_t *ids;
	uint64_t n;
};

static void
search(void *ctx, size_t i, int worker)
{
	const struct block *b = ctx;
	struct df_knn *k = b->k;
	const size_t d = k->queries.d;
	struct list *l = &k->lists[i];

	(void)worker;
	for (uint64_t j = 0; j < b->n && !l->invalid; j++) {
		const float *row = b->rows + j * d;
		const uint64_t id = b->ids ? b->ids[j] : k->n_seen + j;

		if (df_all_finite(row, d) && !(k->self && k->self[i] == id))
			offer(k, l, (struct neighbour){ df_exact(k->metric, k->queries.x + i * d, row, d), id });
	}
}

/* Lists have room for all that was seen, up to k. */
static int
make_room(struct df_knn *k, uint64_t n, struct df_err *err)
{
	const uint64_t most = k->n_seen + n < k->most ? k->n_seen + n : k->most;
	struct neighbour *memory = NULL;
	size_t numel;
	int rc = DF_OK;

	if (most <= k->cap && k->memory)
		return DF_OK;
	DF_TRY(df_size_mul((size_t)k->queries.n, (size_t)most, &numel, "nearest neighbours", err));
	DF_TRY(df_alloc(&memory, numel, sizeof(*memory), "nearest neighbours", err));
	for (uint64_t i = 0; i < k->queries.n; i++) {
		struct list *l = &k->lists[i];

		for (uint64_t j = 0; j < l->n; j++)
			memory[i * most + j] = l->v[j];
		l->v = memory + i * most;
	}
	free(k->memory);
	k->memory = memory;
	k->cap = most;
out:
	return rc;
}

int
df_knn_add(struct df_knn *k, const float *rows, const uint64_t *ids, uint64_t n, struct df_err *err)
{
	struct block b = { k, rows, ids, n };
	int rc = DF_OK;

	DF_TRY(make_room(k, n, err));
	if (k->most > 0)
		df_pool_for(k->near.pool, (size_t)k->queries.n, search, &b);
	k->n_seen += n;
out:
	return rc;
}

struct end {
	struct df_knn *k;
	uint64_t *id, K;
	float *value;
};

/* A heap gives the farthest first. */
static void
write_list(void *ctx, size_t i, int worker)
{
	const struct end *e = ctx;
	const enum df_metric metric = e->k->metric;
	struct list *l = &e->k->lists[i];

	(void)worker;
	for (uint64_t j = l->n; j < e->K; j++) {
		e->id[i * e->K + j] = DF_KNN_NONE;
		e->value[i * e->K + j] = NAN;
	}
	while (l->n > 0) {
		const uint64_t at = i * e->K + --l->n;

		e->id[at] = l->v[0].id;
		e->value[at] = df_told(metric, l->v[0].value);
		l->v[0] = l->v[l->n];
		if (l->n > 0)
			sift_down(metric, l->v, l->n, 0);
	}
}

int
df_knn_end(struct df_knn *k, uint64_t *id, float *value, uint64_t *K, struct df_err *err)
{
	struct end e = { .k = k, .id = id, .value = value };

	(void)err;
	for (uint64_t i = 0; i < k->queries.n; i++)
		e.K = k->lists[i].n > e.K ? k->lists[i].n : e.K;
	df_pool_for(k->near.pool, (size_t)k->queries.n, write_list, &e);
	*K = e.K;
	return DF_OK;
}
