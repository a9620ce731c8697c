/*
 * nearest.h - the best candidates of one query, as far as they are known.
 *
 * A candidate's score is larger the nearer it is: sc (q.x) for DF_METRIC_DOT, sc (q.x - |x|^2/2) for DF_METRIC_L2, with
 * sc a power of two that keeps float32 in range.  What is known of it is an interval [lo, hi] that holds the score of
 * its exact value (near.h).  The k-th largest lo is a score that k candidates reach: one whose hi is below it is out.
 */
#ifndef DF_NEAR_NEAREST_H
#define DF_NEAR_NEAREST_H

#include "near/near.h"
#include "near/sieve.h"

struct df_neighbour {
	double value; /* exact */
	uint64_t id;
};

struct df_nearest {
	struct df_entries e;        /* candidates that are not out; settled ones first */
	size_t cap;                 /* of e's arrays */
	float least;                /* a score that k candidates reach; -INFINITY at first */
	struct df_neighbour *exact; /* [n_exact] settled candidates: their ref is DF_SETTLED and the place here */
	size_t n_exact, cap_exact;
	size_t at;                  /* entries that are settled, while df_nearest_settle() goes on */
};

#define DF_SETTLED 0x80000000U

/* Room for n more entries, as long as that is not more than `most` in all. */
int df_nearest_reserve(struct df_nearest *s, size_t n, size_t most, struct df_err *err) DF_MUST_CHECK;
/*
 * Raise `least` to what the k largest lo say, and remove what is below.  With slack > 0 to a little less, quicker: as
 * if it were the (k + slack)-th.
 */
void df_nearest_tighten(const struct df_sieve *sieve, struct df_nearest *s, size_t k, size_t slack);
/* A value that at least k, and about k + slack or fewer, of x [n] reach, k <= n; slack 0: the k-th largest.  No NaN. */
float df_reached_by(const float *x, size_t n, size_t k, size_t slack);
/* Order v [n] by (value, id), nearest first; `spare` has room for n. */
void df_neighbours_sort(enum df_metric metric, struct df_neighbour *v, struct df_neighbour *spare, size_t n);
void df_nearest_release(struct df_nearest *s);

#endif
