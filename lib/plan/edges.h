/* edges.h - which nodes of a plan wait for which. */
#ifndef DF_PLAN_EDGES_H
#define DF_PLAN_EDGES_H

#include <stddef.h>

#include "base/err.h"
#include "plan/plan.h"

/*
 * Which nodes a node waits for: those that make a file that it reads.  Of node i they are
 * from[first[i]] .. from[first[i + 1] - 1], each once, ascending.
 */
struct df_plan_edges {
	size_t *first; /* [n + 1] */
	size_t *from;
};
/* DF_EINTERNAL: a node reads what a later one makes. */
int df_plan_edges_find(struct df_plan_edges *e, const struct df_plan *p, struct df_err *err) DF_MUST_CHECK;
/* Leave out those that others imply: a waits for b and c, and c for b. */
int df_plan_edges_reduce(struct df_plan_edges *e, const struct df_plan *p, struct df_err *err) DF_MUST_CHECK;
void df_plan_edges_release(struct df_plan_edges *e);

#endif
