/*
 * less_math.c - LESS's scores of training rows.
 *
 * The mean over validation rows of cos(z, v) is <z/|z|, mean of v/|v|>: the
 * targets of a subtask collapse into one vector before any training row is
 * seen, and scoring costs one pass over the training set, whatever their number.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/simd.h"
#include "select/less.h"

#define LANES 8 /* independent sums: fixed, so that rounding does not depend on the processor's vectors */
#define ROWS \
	4 /* training rows at a time, and subtasks: their sums do not wait for each other, and share what is read */
#define TASKS    2
#define MIN_NORM 1e-12

/* At -O2 gcc does not make one conversion of eight. */
#pragma GCC optimize("O3")

typedef double doubles __attribute__((vector_size(8 * LANES)));

int
df_less_init(struct df_less *l, size_t k, size_t n_tasks, enum df_less_val agg, struct df_err *err)
{
	size_t n;
	int rc = DF_OK;

	*l = (struct df_less){ .k = k, .n_tasks = n_tasks, .agg = agg };
	DF_TRY(df_size_mul(k, n_tasks, &n, "targets", err));
	DF_TRY(df_alloc(&l->hi, n, sizeof(*l->hi), "targets", err));
	DF_TRY(df_alloc(&l->lo, n, sizeof(*l->lo), "targets", err));
	DF_TRY(df_alloc(&l->n_rows, n_tasks, sizeof(*l->n_rows), "targets", err));
out:
	if (rc != DF_OK)
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

/*
 * dot[j][r] = <z[r], c[j]> for `tasks` rows of c, and square[r] = <z[r], z[r]> when `squares`, accumulated in double.
 * Both are constants in each call.
 */
static inline __attribute__((always_inline)) void
products(const int tasks, const bool squares, const float *const z[ROWS], const double *c, size_t k,
    double dot[TASKS][ROWS], double square[ROWS])
{
	doubles s[TASKS + 1][ROWS] = { 0 }; /* the last: squares */
	size_t i = 0;

	for (; i + LANES <= k; i += LANES) {
		doubles x[ROWS];

#pragma GCC unroll 4
		for (int r = 0; r < ROWS; r++) {
			double wide[LANES];

			for (int l = 0; l < LANES; l++)
				wide[l] = (double)z[r][i + (size_t)l];
			memcpy(&x[r], wide, sizeof(x[r]));
			if (squares)
				s[TASKS][r] += x[r] * x[r];
		}
#pragma GCC unroll 2
		for (int j = 0; j < tasks; j++) {
			doubles y;

			memcpy(&y, c + (size_t)j * k + i, sizeof(y));
#pragma GCC unroll 4
			for (int r = 0; r < ROWS; r++)
				s[j][r] += x[r] * y;
		}
	}
	for (; i < k; i++) {
		for (int r = 0; r < ROWS; r++) {
			const double x = (double)z[r][i];

			s[TASKS][r][i % LANES] += x * x;
			for (int j = 0; j < tasks; j++)
				s[j][r][i % LANES] += x * c[(size_t)j * k + i];
		}
	}
	for (int j = 0; j <= TASKS; j++) {
		double *out = j < TASKS ? dot[j] : square;

		if (j < TASKS ? j >= tasks : !squares)
			continue;
		for (int r = 0; r < ROWS; r++) {
			const doubles *v = &s[j][r];

			out[r] =
			    (((*v)[0] + (*v)[1]) + ((*v)[2] + (*v)[3])) + (((*v)[4] + (*v)[5]) + ((*v)[6] + (*v)[7]));
		}
	}
}

/* square and the first TASKS (or fewer) rows of c; then, without square, the others. */
DF_SIMD static void
first_products(
    const float *const z[ROWS], const double *c, size_t tasks, size_t k, double dot[TASKS][ROWS], double square[ROWS])
{
	if (tasks >= 2)
		products(2, true, z, c, k, dot, square);
	else if (tasks == 1)
		products(1, true, z, c, k, dot, square);
	else
		products(0, true, z, c, k, dot, square);
}

DF_SIMD static void
more_products(const float *const z[ROWS], const double *c, size_t tasks, size_t k, double dot[TASKS][ROWS])
{
	if (tasks >= 2)
		products(2, false, z, c, k, dot, NULL);
	else
		products(1, false, z, c, k, dot, NULL);
}

/* |v|. */
static double
norm(const float *v, size_t k)
{
	const float *const rows[ROWS] = { v, v, v, v };
	double square[ROWS];

	first_products(rows, NULL, 0, k, NULL, square);
	return sqrt(square[0]);
}

/* hi + lo += scale * v without loss (Knuth's TwoSum). */
DF_SIMD static void
add_exactly(double *restrict hi, double *restrict lo, const float *restrict v, double scale, size_t k)
{
	for (size_t i = 0; i < k; i++) {
		const double x = (double)v[i] * scale, s = hi[i] + x, t = s - hi[i];

		lo[i] += (hi[i] - (s - t)) + (x - t);
		hi[i] = s;
	}
}

bool
df_less_val_row(struct df_less *l, const float *v, size_t task)
{
	const double len = norm(v, l->k);
	const double scale = l->agg == DF_VAL_COSINE_OF_MEAN ? 1.0 : 1.0 / fmax(len, MIN_NORM);

	if (!isfinite(len))
		return false;
	add_exactly(l->hi + task * l->k, l->lo + task * l->k, v, scale, l->k);
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
	return DF_OK;
}

/* Rows z[0..n) of at most ROWS. */
static void
train_rows(const struct df_less *l, const float *const z[ROWS], size_t n, double weight, double *out)
{
	double dot[TASKS][ROWS], len[ROWS];

	for (size_t first = 0; first < l->n_tasks; first += TASKS) {
		const size_t tasks = l->n_tasks - first < TASKS ? l->n_tasks - first : TASKS;

		if (first == 0) {
			first_products(z, l->hi, tasks, l->k, dot, len);
			for (size_t r = 0; r < n; r++)
				len[r] = sqrt(len[r]);
		} else {
			more_products(z, l->hi + first * l->k, tasks, l->k, dot);
		}
		for (size_t r = 0; r < n; r++) {
			for (size_t j = 0; j < tasks; j++) {
				double *to = &out[r * l->n_tasks + first + j];

				if (!isfinite(len[r]))
					*to = (double)NAN;
				else if (len[r] > MIN_NORM)
					*to += weight * dot[j][r] / len[r];
			}
		}
	}
}

void
df_less_train_rows(const struct df_less *l, const float *z, size_t n, double weight, double *out)
{
	for (size_t first = 0; first < n; first += ROWS) {
		const size_t rows = n - first < ROWS ? n - first : ROWS;
		const float *row[ROWS];

		/* Fewer than ROWS: the last one is computed again in the place of those that are missing. */
		for (size_t r = 0; r < ROWS; r++)
			row[r] = z + (first + (r < rows ? r : rows - 1)) * l->k;
		train_rows(l, row, rows, weight, out + first * l->n_tasks);
	}
}
