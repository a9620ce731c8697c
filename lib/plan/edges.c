/*
 * edges.c - which nodes of a plan wait for which.
 */
#include "plan/edges.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static int
by_size(const void *a, const void *b)
{
	const size_t x = *(const size_t *)a, y = *(const size_t *)b;

	return (x > y) - (x < y);
}

/* Sort list [n], and keep each number once; returns how many are left. */
static size_t
unique(size_t *list, size_t n)
{
	size_t kept = 0;

	qsort(list, n, sizeof(*list), by_size);
	for (size_t i = 0; i < n; i++)
		if (kept == 0 || list[kept - 1] != list[i])
			list[kept++] = list[i];
	return kept;
}

int
df_plan_edges_find(struct df_plan_edges *e, const struct df_plan *p, struct df_err *err)
{
	size_t n = 0;
	int rc = DF_OK;

	*e = (struct df_plan_edges){ 0 };
	for (size_t i = 0; i < p->n; i++)
		n += p->node[i].in.n;
	DF_TRY(df_alloc(&e->first, p->n + 1, sizeof(*e->first), "plan", err));
	DF_TRY(df_alloc(&e->from, n, sizeof(*e->from), "plan", err));
	n = 0;
	for (size_t i = 0; i < p->n; i++) {
		const struct df_plan_node *node = &p->node[i];

		e->first[i] = n;
		for (size_t k = 0; k < node->in.n; k++) {
			const struct df_plan_file *f = df_plan_file(p, node->in.v[k]);

			if (!f || f->maker == DF_PLAN_NOBODY)
				continue; /* it is there before */
			if (f->maker >= i) {
				rc = df_fail(err, DF_EINTERNAL, "%s reads %s, which %s makes later", node->name,
				    f->path, p->node[f->maker].name);
				goto out;
			}
			e->from[n++] = f->maker;
		}
		n = e->first[i] + unique(e->from + e->first[i], n - e->first[i]);
	}
	e->first[p->n] = n;
out:
	if (rc != DF_OK)
		df_plan_edges_release(e);
	return rc;
}

int
df_plan_edges_reduce(struct df_plan_edges *e, const struct df_plan *p, struct df_err *err)
{
	const size_t words = p->n / 64 + 1;
	uint64_t *reached = NULL; /* [n x words] bits: the nodes that a node waits for, however far back */
	size_t n = 0, at, size;
	int rc = DF_OK;

	DF_TRY(df_size_mul(p->n, words, &size, "plan", err));
	DF_TRY(df_alloc(&reached, size, sizeof(*reached), "plan", err));
	for (size_t i = 0; i < p->n; i++) {
		uint64_t *mine = reached + i * words;

		/* From the last: what it waits for is left out of those before it. */
		at = e->first[i + 1];
		for (size_t k = at; k-- > e->first[i];) {
			const size_t from = e->from[k];

			if ((mine[from / 64] >> from % 64 & 1) == 0)
				e->from[--at] = from;
			mine[from / 64] |= UINT64_C(1) << from % 64;
			for (size_t w = 0; w < words; w++)
				mine[w] |= reached[from * words + w];
		}
		memmove(e->from + n, e->from + at, (e->first[i + 1] - at) * sizeof(*e->from));
		size = e->first[i + 1] - at;
		e->first[i] = n;
		n += size;
	}
	e->first[p->n] = n;
out:
	free(reached);
	return rc;
}

void
df_plan_edges_release(struct df_plan_edges *e)
{
	free(e->first);
	free(e->from);
	*e = (struct df_plan_edges){ 0 };
}
