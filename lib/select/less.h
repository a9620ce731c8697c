/*
 * less.h - LESS as arithmetic: targets of validation rows, and the influences of training rows on them; and as a
 * method, for methods that score other gradients by the same formula.
 */
#ifndef DF_SELECT_LESS_H
#define DF_SELECT_LESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "select/select.h"

enum df_less_val { DF_VAL_MEAN_OF_COSINE, DF_VAL_COSINE_OF_MEAN };

/*
 * One checkpoint's targets: c[j] = mean over the validation rows v of subtask j of v / |v| [k] each, in double (with
 * DF_VAL_COSINE_OF_MEAN: the mean of v, divided by its norm).  Sums are kept in twice the precision
 * of a double, so that the order of rows does not matter.
 */
struct df_less {
	size_t k, n_tasks;
	enum df_less_val agg;
	double *hi, *lo;  /* [n_tasks, k]: after df_less_end, hi holds c */
	uint64_t *n_rows; /* [n_tasks] validation rows */
};
int df_less_init(struct df_less *l, size_t k, size_t n_tasks, enum df_less_val agg, struct df_err *err) DF_MUST_CHECK;
void df_less_release(struct df_less *l);
/* false when the row is not finite. */
bool df_less_val_row(struct df_less *l, const float *v, size_t task);
/* DF_EFORMAT when a subtask has no row. */
int df_less_end(struct df_less *l, struct df_err *err) DF_MUST_CHECK;
/*
 * For n rows z [n,k]: out [n,n_tasks] += weight * <z / |z|, c[j]>; NaN for a row that is not finite, += 0 for one of
 * norm <= 1e-12.  A row's bits do not depend on n.
 */
void df_less_train_rows(const struct df_less *l, const float *z, size_t n, double weight, double *out);

/*
 * The method (less.c): inputs 0 and 1 are projections, "train" and "val".  Options, their table and defaults, and the
 * functions of a struct df_selector.
 */
struct df_less_opts {
	const char *weights, *subtasks;
	int agg, val_agg;
};
extern const struct df_opt df_less_options[];
extern const struct df_less_opts df_less_defaults;
int df_less_check(const struct df_select *in, const void *options, struct df_err *err) DF_MUST_CHECK;
int df_less_run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
    DF_MUST_CHECK;

#endif
