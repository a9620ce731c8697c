/*
 * remainder.h - n things by shares, in whole numbers: the method of the largest remainder.
 */
#ifndef DF_BASE_REMAINDER_H
#define DF_BASE_REMAINDER_H

#include <stddef.h>
#include <stdint.h>

/*
 * part [n_parts] = n divided by the shares, which sum to 1: each is n * share rounded down, and what is left goes to
 * the largest fractions, of equal ones to the first.  The sum is n; a share of 0 gets nothing.
 */
void df_largest_remainder(const double *share, size_t n_parts, uint64_t n, uint64_t *part);

#endif
