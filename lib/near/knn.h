/*
 * knn.h - the k nearest candidates of each query, exactly.
 *
 * Candidates come in blocks, in any order, and are not kept.  A result is a function of the queries and of the
 * candidates as a set: not of blocks, threads or device (near.h).
 *
 * Memory: 256 MiB of candidates (none where they are lent), and about 40 k bytes for each query (k at least 64).
 * For choices that let queries take turns until n different candidates are taken (NEAR, RDS+), k = n always suffices.
 *
 * Thread rule: a search belongs to one thread, and uses the pool inside.
 */
#ifndef DF_NEAR_KNN_H
#define DF_NEAR_KNN_H

#include "near/near.h"

struct df_knn;

#define DF_KNN_NONE UINT64_MAX /* no such neighbour */

/*
 * A search for the k_wanted nearest of each of queries [M,d], which stay as they are until df_knn_free().
 * self [M] (borrowed as well, or NULL): the id that is not a neighbour of the query, such as its own; DF_KNN_NONE: all
 * are.  A query with a number that is not finite has no neighbours.  df_knn_free() frees it, also after an error.
 */
int df_knn_new(struct df_knn **out, const struct df_near *near, enum df_metric metric, const struct df_points *queries,
    uint64_t k_wanted, const uint64_t *self, struct df_err *err) DF_MUST_CHECK;
/*
 * Candidates rows [n,d] with ids [n] (NULL: 0, 1, ..), each id once in all blocks, none of them DF_KNN_NONE.  Rows with
 * a number that is not finite are passed over.
 */
int df_knn_add(struct df_knn *k, const float *rows, const uint64_t *ids, uint64_t n, struct df_err *err) DF_MUST_CHECK;
/* The same with rows that stay as they are until df_knn_end(): nothing is copied, and less is computed twice. */
int df_knn_lend(struct df_knn *k, const float *rows, const uint64_t *ids, uint64_t n, struct df_err *err) DF_MUST_CHECK;
/*
 * *K = the most neighbours that a query has: min(k_wanted, candidates that may be its neighbours).  id, value [M,K],
 * nearest first by (exact value, id); M * min(k_wanted, candidates) of each have room.  value is the dot product or the
 * distance (the root), f32 of the exact float64.  A query with fewer neighbours than others ends with DF_KNN_NONE and
 * NaN.  Nothing can be added afterwards.
 */
int df_knn_end(struct df_knn *k, uint64_t *id, float *value, uint64_t *K, struct df_err *err) DF_MUST_CHECK;
void df_knn_free(struct df_knn *k); /* accepts NULL */

/* For tests, before anything is added: at most `segments` blocks of 2^shift candidates are kept at a time. */
void df_knn_shrink(struct df_knn *k, int shift, size_t segments);

#endif
