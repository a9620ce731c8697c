/*
 * screen.h - which points may be near to which, told by products of 8-bit integers with a bound of their error.
 *
 * A point x is s q + e: a scale s, integers q, and what is left.  By Cauchy and Schwarz
 *
 *   <x, y>  <=  s_x s_y <q_x, q_y>  +  |s_x q_x| |e_y|  +  |e_x| |y|
 *
 * and the same holds for the first coordinates, plus |x'| |y'| of the rest: often they are enough.  A pair whose bound
 * is below the limit is certainly not within it; the others are for exact arithmetic to decide.  So what comes out does
 * not depend on the kernel of the products.
 *
 * Points are screened in blocks of DF_INT8_BLOCK rows and as many columns, one bit per pair.
 */
#ifndef DF_NEAR_SCREEN_H
#define DF_NEAR_SCREEN_H

#include "near/int8.h"
#include "near/near.h"

struct df_screen; /* points that rows are compared with, in blocks: the columns */

/*
 * Room for at most n points [d] of this metric.  df_screen_free() frees it, also after an error.  DF_EUNSUPPORTED:
 * more than DF_INT8_WIDEST dimensions.
 */
int df_screen_new(struct df_screen **out, const struct df_int8 *kernel, enum df_metric metric, uint64_t n, size_t d,
    struct df_err *err) DF_MUST_CHECK;
void df_screen_free(struct df_screen *s); /* accepts NULL */
const struct df_int8 *df_screen_kernel(const struct df_screen *s);
/*
 * Put points x [n,d] at places [first, first + n), first a multiple of DF_INT8_BLOCK, on the pool's threads.  valid
 * [n]: the others are near to none.  What is beyond the last point of a block is near to none, too.
 */
void df_screen_put(struct df_screen *s, struct df_pool *pool, uint64_t first, const float *x, const uint8_t *valid,
    uint64_t n);

struct df_screen_rows; /* points that are compared with the columns */

/* Room for at most n rows for the screen s, which must outlive them. */
int df_screen_rows_new(struct df_screen_rows **out, const struct df_screen *s, uint64_t n, struct df_err *err)
    DF_MUST_CHECK;
void df_screen_rows_free(struct df_screen_rows *r); /* accepts NULL */
/* The rows are x [n,d]; valid [n]. */
void df_screen_rows_set(struct df_screen_rows *r, struct df_pool *pool, const float *x, const uint8_t *valid,
    uint64_t n);
/*
 * Row i may be near to y if <x_i, y> >= limit, or |x_i - y|^2 <= limit.  limit [n], finite: each row has its own,
 * which may change from run to run.
 */
void df_screen_rows_limit(struct df_screen_rows *r, const double *limit);

/* Coordinates after which a block of pairs may be given up; [0, df_screen_cuts(s)), the last is all of them. */
size_t df_screen_cuts(const struct df_screen *s);
size_t df_screen_cut_width(const struct df_screen *s, size_t cut);

struct df_screen_tally {
	uint64_t blocks, whole; /* blocks of pairs; those that were not given up after the cut */
};
/*
 * Bits of all rows for the blocks [block, block + n_blocks) of columns: bit j of bits[i * stride + b] is set where row
 * i may be near to point b * DF_INT8_BLOCK + j.  In one thread; any number of threads may do so at once.  cut: give a
 * block up after these coordinates if that is possible.
 */
void df_screen_run(const struct df_screen *s, const struct df_screen_rows *r, size_t cut, uint64_t block,
    uint64_t n_blocks, uint32_t *bits, uint64_t stride, struct df_screen_tally *tally);

#endif
