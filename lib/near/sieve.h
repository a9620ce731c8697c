/*
 * sieve.h - loops over scores, for any vector width; all versions give the same numbers.
 */
#ifndef DF_NEAR_SIEVE_H
#define DF_NEAR_SIEVE_H

#include <stddef.h>
#include <stdint.h>

#include "near/near.h"

/* Scores that are wrong by at most norm error[j] + slack[j] + more; from `unknown` on nothing is known. */
struct df_errors {
	const float *error, *slack; /* by candidate; NaN: it is none */
	float norm, more, unknown;
};
/* Candidates that may be among the best of a query: in [lo, hi] lies the score of candidate `ref`. */
struct df_entries {
	float *lo, *hi; /* [n] */
	uint32_t *ref;
	size_t n;
};

struct df_sieve {
	/*
	 * The j in [0,n) whose score[j] - shift[j] (shift NULL: score[j]) is not below `least`, ascending, into at[], and
	 * these differences into passed[]; both [n].  NaN is not below anything.  Returns how many.
	 */
	size_t (*scan)(const float *score, const float *shift, size_t n, float least, float *passed, uint32_t *at);
	/*
	 * Add entries for these n scores, of candidates at[], with `ref` their at[] + first; those whose hi is below `least`
	 * are not.  There is room for all.
	 */
	void (*add)(struct df_entries *e, const struct df_errors *x, const float *score, const uint32_t *at, size_t n,
	    uint32_t first, float least);
	/* Remove the entries whose hi is below `least`; the others keep their order. */
	void (*keep)(struct df_entries *e, float least);
};
extern const struct df_sieve df_sieve_plain;
/* With the best instructions of this CPU. */
const struct df_sieve *df_sieve_best(void);

/* How many of x [n] are >= least. */
size_t df_sieve_count(const float *x, size_t n, float least);

/* df_exact_many() with vectors of `bits`: 512, 256, 0 for plain C; false, and nothing done, where the CPU lacks them. */
bool df_exact_many_with(
    int bits, enum df_metric metric, const float *a, const float *const *b, size_t n, size_t d, double *value);

#endif
