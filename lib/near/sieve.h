/*
 * sieve.h - loops over scores, for any vector width; all versions give the same numbers.
 */
#ifndef DF_NEAR_SIEVE_H
#define DF_NEAR_SIEVE_H

#include <stddef.h>
#include <stdint.h>

#include "near/near.h"

/* Candidates that may be among the best of a query: in [lo, hi] lies the score of candidate `ref`. */
struct df_entries {
	float *lo, *hi; /* [n] */
	uint32_t *ref;
	size_t n;
};

/* A query's scores of consecutive candidates, a row of products. */
struct df_scores {
	const float *product; /* [n] */
	const float *shift;   /* [n] the score is product - shift; NULL: product */
	/*
	 * A score is wrong by at most norm error[j] + slack[j] + more, which for no j is above `most`; from `unknown`
	 * on nothing is known of it.  error NaN: there is no such candidate.
	 */
	const float *error, *slack;
	float norm, more, most, unknown;
	uint32_t first; /* `ref` of j = 0 */
	size_t n;
};

#define DF_SIEVE_SPARE 16 /* vectors are stored whole */

struct df_sieve {
	/* Append those whose hi is not below `least` to entries; there is room for all and DF_SIEVE_SPARE more. */
	void (*pass)(const struct df_scores *x, float least, struct df_entries *e);
	/* Remove the entries whose hi is below `least`; the others keep their order. */
	void (*keep)(struct df_entries *e, float least);
};
extern const struct df_sieve df_sieve_plain;
/* With the best instructions of this CPU. */
const struct df_sieve *df_sieve_best(void);

/* How many of x [n] are >= least. */
size_t df_sieve_count(const float *x, size_t n, float least);

/* df_exact_many() with vectors of `bits`: 512, 256, 0 for plain C; false, and nothing done, where there are none. */
bool df_exact_many_with(
    int bits, enum df_metric metric, const float *a, const float *const *b, size_t n, size_t d, double *value);

#endif
