/*
 * near.h - what the searches of this room share: metrics, points in memory, exact values.
 *
 * Which rows are near each other is found with matrix products of the backend, and decided in float64: what a result
 * says does not depend on the device, on threads, or on how rows were cut into blocks.
 *
 * The exact value of two f32 rows a, b [d] is a float64 sum in a fixed order, with fused steps (exact.c):
 *   DF_METRIC_DOT  sum of a_i b_i         larger is nearer
 *   DF_METRIC_L2   sum of (a_i - b_i)^2   the squared distance, smaller is nearer
 * Rows order by (exact value, id).  It is wrong by at most about d 2^-53 of the sum of the sizes of its terms; on all
 * machines the bits are the same.
 */
#ifndef DF_NEAR_NEAR_H
#define DF_NEAR_NEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/err.h"
#include "base/pool.h"
#include "shard/shard.h"

/* On what a search runs; all borrowed.  pool NULL = one thread. */
struct df_near {
	struct df_backend *be;
	struct df_pool *pool;
	int n_threads;
};

enum df_metric { DF_METRIC_L2, DF_METRIC_DOT };

/* Row-major [n,d], row = id; borrowed. */
struct df_points {
	const float *x;
	uint64_t n;
	size_t d;
};

/* ---- a set's matrix in memory ------------------------------------------------------------------------------------ */

struct df_point_rows {
	struct df_points points; /* x is `rows` */
	float *rows;             /* [n,d] by id */
	uint8_t *invalid;        /* [n] by id: the row has a number that is not finite */
	uint64_t n_invalid;
};
/* Room for n rows, all zero.  df_point_rows_release() frees it, also after an error. */
int df_point_rows_init(struct df_point_rows *p, uint64_t n, size_t d, struct df_err *err) DF_MUST_CHECK;
/*
 * Put a batch's rows of `column` where their ids say; each id once.  For the `take` of a scan that has checked the ids;
 * DF_EFORMAT for one beyond n, or another width.
 */
int df_point_rows_put(struct df_point_rows *p, const struct df_batch *b, enum df_col column, struct df_err *err)
    DF_MUST_CHECK;
/*
 * All rows of a set that has not been read yet, and that has each id of [0,n) once: DF_EFORMAT.  Its columns are as
 * df_set_only() left them; DF_COL_ID and `column` must be among them.
 */
int df_point_rows_load(struct df_point_rows *p, struct df_set *set, enum df_col column, int n_threads,
    struct df_err *err) DF_MUST_CHECK;
void df_point_rows_release(struct df_point_rows *p);

/* ---- exact values ------------------------------------------------------------------------------------------------ */

/* Of two rows; the same bits with the rows exchanged.  Any thread. */
double df_exact(enum df_metric metric, const float *a, const float *b, size_t d);
/* Of a with each of b[0..n): value [n], the bits of df_exact(). */
void df_exact_many(enum df_metric metric, const float *a, const float *const *b, size_t n, size_t d, double *value);
/* Of each of a[0..n_a) with each of b[0..n_b): value [n_a,n_b], the same bits; quicker for several rows of both. */
void df_exact_block(enum df_metric metric, const float *const *a, size_t n_a, const float *const *b, size_t n_b,
    size_t d, double *value);
/* Is (x, id x) nearer than (y, id y)?  Neither value may be NaN. */
static inline bool
df_nearer(enum df_metric metric, double x, uint64_t x_id, double y, uint64_t y_id)
{
	if (x != y)
		return metric == DF_METRIC_DOT ? x > y : x < y;
	return x_id < y_id;
}
/* What is told of an exact value: the dot product, or the distance itself, rounded to f32. */
float df_told(enum df_metric metric, double value);
/* Are all of x [n] finite? */
bool df_all_finite(const float *x, size_t n);

#endif
