/*
 * combine.h - several scores of a row as one number.
 */
#ifndef DF_SELECT_COMBINE_H
#define DF_SELECT_COMBINE_H

#include <stdint.h>

#include "base/err.h"

enum df_combine {
	DF_COMBINE_RANK,   /* of the finite scores: 1 for the highest, 0 for the lowest, equal ones their mean rank */
	DF_COMBINE_ZSCORE, /* (score - mean) / standard deviation of the finite scores; 0 when all are equal */
	DF_COMBINE_SCORE   /* as it is */
};
/* sum [n] += weight * what `by` makes of the scores [n]; NaN for a score that is not finite. */
int df_combine_add(enum df_combine by, const float *score, uint64_t n, double weight, double *sum,
    struct df_err *err) DF_MUST_CHECK;

#endif
