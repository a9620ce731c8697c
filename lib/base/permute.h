/*
 * permute.h - permutations that have addresses: the race of equal weights.
 *
 * The order of rows is that of rising times t = -ln uniform(seed, tag, substream, id of the row), ties by id.  It
 * depends on nothing else, so the same set of ids in other files, or a part of it, has the same order.
 */
#ifndef DF_BASE_PERMUTE_H
#define DF_BASE_PERMUTE_H

#include <stdint.h>

#include "base/err.h"

struct df_permute {
	uint64_t seed;
	uint32_t tag, substream; /* base/rng.h */
	const uint64_t *ids;     /* id of row i; NULL: i */
};

/*
 * order [n] = rows [n] in the order of their race; rows NULL: rows 0 to n - 1.  The two arrays are not the same.  It
 * takes about 8 bytes per row while it works.  DF_ENOMEM.
 */
int df_permute(const struct df_permute *p, const uint32_t *rows, uint32_t n, uint32_t *order, struct df_err *err)
    DF_MUST_CHECK;

#endif
