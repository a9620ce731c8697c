/*
 * dsir_math.c - log ratios of n-grams, and races by weights that are logarithms.
 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "select/dsir.h"

#define SMALL 1e-8 /* of the original: added to probabilities before their logarithm */

static double
sum_of(const uint64_t *count, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += count[i];
	return (double)sum;
}

int
df_dsir_ratio(const uint64_t *target, const uint64_t *pool, size_t n, double laplace, double *ratio, struct df_err *err)
{
	const double n_target = sum_of(target, n), n_pool = sum_of(pool, n);

	if (!(n_target > 0) || !(n_pool > 0))
		return df_fail(err, DF_EFORMAT, "the %s has no n-gram", n_target > 0 ? "pool" : "target");
	for (size_t i = 0; i < n; i++) {
		const double p = ((double)target[i] + laplace) / (n_target + laplace * (double)n);

		ratio[i] = log(p + SMALL) - log((double)pool[i] / n_pool + SMALL);
	}
	return DF_OK;
}

double
df_dsir_weight(const double *ratio, const uint32_t *bucket, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += ratio[bucket[i]];
	return sum;
}

struct key {
	double value; /* smaller is earlier */
	uint64_t id;
};

static int
by_value(const void *x, const void *y)
{
	const struct key *a = x, *b = y;

	if (a->value != b->value)
		return a->value < b->value ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

int
df_dsir_order(const double *log_weight, uint64_t *id, uint64_t n, bool top, uint64_t seed, uint32_t step, uint64_t draw,
    struct df_err *err)
{
	struct key *key = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&key, n, sizeof(*key), "draws", err));
	for (uint64_t i = 0; i < n; i++) {
		const double u = top ? 0 : df_rng_uniform(seed, DF_RNG_SAMPLE, step, id[i] | draw << 40);

		key[i] = (struct key){ (top ? 0 : log(-log(u))) - log_weight[id[i]], id[i] };
	}
	qsort(key, n, sizeof(*key), by_value);
	for (uint64_t i = 0; i < n; i++)
		id[i] = key[i].id;
out:
	free(key);
	return rc;
}
