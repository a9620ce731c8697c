/*
 * pairs.h - all pairs of points that are near to each other, without ever holding all of them.
 *
 * Which pairs these are, and their values, is decided in float64 in a fixed order of additions (near.h): they are the
 * same on every device and for every number of threads.  Before that, cheaper arithmetic with a known error rules out
 * most pairs (screen.h, or the backend's products).
 */
#ifndef DF_NEAR_PAIRS_H
#define DF_NEAR_PAIRS_H

#include <stdbool.h>
#include <stdint.h>

#include "near/near.h"

/*
 * A point i and all points j [n] < i within the limit, j ascending, with their values: the squared distance or the dot
 * product.  n may be 0.  The arrays are valid until it returns.  *stop = true ends the walk, without an error.
 */
typedef int df_near_row_fn(
    void *ctx, uint64_t i, const uint64_t *j, const double *value, uint64_t n, bool *stop, struct df_err *err);

/*
 * Call `row` for i = 0, 1, .., n - 1 in order, in the caller's thread.  Within the limit is a squared distance <=
 * limit, or a dot product >= limit (for a strict limit: nextafter(limit, INFINITY)).  A point with a number that is not
 * finite is near to none.  All points are in the caller's memory; beyond that it takes about a quarter of their size,
 * a bit for each pair of a block of rows, and what one point's neighbours need.
 * Errors: those of `row`, DF_ENOMEM, DF_EUSAGE for a limit that is NaN, DF_ESTOPPED when a signal asks to stop.
 */
int df_near_pairs(const struct df_near *near, enum df_metric metric, const struct df_points *points, double limit,
    df_near_row_fn *row, void *ctx, struct df_err *err) DF_MUST_CHECK;

#endif
