/*
 * dsir.h - DSIR as arithmetic: the ratio of two distributions of n-grams, and draws by weights that are logarithms
 * (dsir.c reads the artefacts).
 */
#ifndef DF_SELECT_DSIR_H
#define DF_SELECT_DSIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * ratio[b] = ln(p_b + 1e-8) - ln(q_b + 1e-8), where p are the target's counts [n] plus `laplace` each, and q the pool's
 * counts, both divided by their sums.  (Xie et al. 2023; p-lambda/dsir, fit_importance_estimator, is laplace = 0.)
 * DF_EFORMAT when one of them has no n-gram.
 */
int df_dsir_ratio(const uint64_t *target, const uint64_t *pool, size_t n, double laplace, double *ratio,
    struct df_err *err) DF_MUST_CHECK;

/* Sum of ratio over the buckets [n] of a row. */
double df_dsir_weight(const double *ratio, const uint32_t *bucket, size_t n);

/*
 * Put the ids [n] in the order of the exponential race of df_sample_race() by the weights exp(log_weight[id]), which
 * may be as large or small as they like: by ln(-ln u) - log_weight.  `draw` is 0, or the number of a further
 * independent draw of (seed, step); ids are below 2^40.  `top`: by log_weight instead, the largest first.  Ties go to
 * the lower id.
 */
int df_dsir_order(const double *log_weight, uint64_t *id, uint64_t n, bool top, uint64_t seed, uint32_t step,
    uint64_t draw, struct df_err *err) DF_MUST_CHECK;

#endif
