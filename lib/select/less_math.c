/*
 * less_math.c - LESS's score of one training row.
 *
 * The mean over validation rows of cos(z, v) is <z/|z|, mean of v/|v|>: the
 * targets of a subtask collapse into one vector before any training row is
 * seen, and scoring costs one pass over the training set, whatever their number.
 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "select/select.h"

#define LANES    8 /* independent sums: fixed, so that rounding does not depend on the compiler's vectors */
#define MIN_NORM 1e-12

int
df_less_init(struct df_less *l, size_t k, size_t n_tasks, enum df_less_val agg, struct df_err *err)
{
	size_t n;
	int rc = 0;

	*l = (struct df_less){ .k = k, .n_tasks = n_tasks, .agg = agg };
	DF_TRY(df_size_mul(k, n_tasks, &n, "targets", err));
	DF_TRY(df_alloc(&l->hi, n, sizeof *l->hi, "targets", err));
	DF_TRY(df_alloc(&l->lo, n, sizeof *l->lo, "targets", err));
	DF_TRY(df_alloc(&l->n_rows, n_tasks, sizeof *l->n_rows, "targets", err));
out:
	if (rc)
		df_less_release(l);
	return rc;
}

void
df_less_release(struct df_less *l)
{
	free(l->hi);
	free(l->lo);
	free(l->n_rows);
	*l = (struct df_less){ 0 };
}

static double
sum_lanes(const double s[LANES])
{
	return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

/* |z|, accumulated in double. */
static double
norm(const float *z, size_t k)
{
	double s[LANES] = { 0 };
	size_t i = 0;

	for (; i + LANES <= k; i += LANES)
		for (size_t l = 0; l < LANES; l++)
			s[l] += (double)z[i + l] * (double)z[i + l];
	for (; i < k; i++)
		s[i % LANES] += (double)z[i] * (double)z[i];
	return sqrt(sum_lanes(s));
}

static double
dot(const float *z, const double *c, size_t k)
{
	double s[LANES] = { 0 };
	size_t i = 0;

	for (; i + LANES <= k; i += LANES)
		for (size_t l = 0; l < LANES; l++)
			s[l] += (double)z[i + l] * c[i + l];
	for (; i < k; i++)
		s[i % LANES] += (double)z[i] * c[i];
	return sum_lanes(s);
}

bool
df_less_val_row(struct df_less *l, const float *v, size_t task)
{
	const double len = norm(v, l->k);
	const double scale = l->agg == DF_VAL_COSINE_OF_MEAN ? 1.0 : 1.0 / fmax(len, MIN_NORM);
	double *hi = l->hi + task * l->k, *lo = l->lo + task * l->k;

	if (!isfinite(len))
		return false;
	for (size_t i = 0; i < l->k; i++) {
		/* hi + lo += x without loss (Knuth's TwoSum). */
		const double x = (double)v[i] * scale, s = hi[i] + x, t = s - hi[i];

		lo[i] += (hi[i] - (s - t)) + (x - t);
		hi[i] = s;
	}
	l->n_rows[task]++;
	return true;
}

int
df_less_end(struct df_less *l, struct df_err *err)
{
	for (size_t j = 0; j < l->n_tasks; j++) {
		double *c = l->hi + j * l->k, *lo = l->lo + j * l->k, sum = 0;

		if (!l->n_rows[j])
			return df_fail(err, DF_EFORMAT, "subtask %zu has no validation row", j);
		for (size_t i = 0; i < l->k; i++) {
			c[i] = (c[i] + lo[i]) / (double)l->n_rows[j];
			sum += c[i] * c[i];
		}
		if (l->agg == DF_VAL_COSINE_OF_MEAN)
			for (size_t i = 0; i < l->k; i++)
				c[i] /= fmax(sqrt(sum), MIN_NORM);
	}
	return 0;
}

void
df_less_train_row(const struct df_less *l, const float *z, double weight, double *out)
{
	const double len = norm(z, l->k);

	for (size_t j = 0; j < l->n_tasks; j++) {
		if (!isfinite(len))
			out[j] = (double)NAN;
		else if (len > MIN_NORM)
			out[j] += weight * dot(z, l->hi + j * l->k, l->k) / len;
	}
}
