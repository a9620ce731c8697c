/*
 * losses.h - losses of a set by id, their quantiles, and bands of quantiles: what loss, delta-loss, ppl and ifd share.
 */
#ifndef DF_SELECT_LOSSES_H
#define DF_SELECT_LOSSES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "select/select.h"

/* The columns of an input that df_select_read_losses() reads, and the same with the numbers of targets. */
#define DF_LOSS_COLUMNS 3
extern const enum df_col df_loss_columns[DF_LOSS_COLUMNS];
#define DF_LOSS_COUNT_COLUMNS 4
extern const enum df_col df_loss_count_columns[DF_LOSS_COUNT_COLUMNS];

/*
 * *loss [n_rows] = the losses of that input's only set, by id.  n_targets may be NULL; else *n_targets [n_rows] is how
 * many targets each loss is the mean of, or NULL where the set does not say.  free() both.
 */
int df_select_read_losses(const struct df_select *in, size_t input, struct df_selection *out, float **loss,
    uint32_t **n_targets, struct df_err *err) DF_MUST_CHECK;

/* How many of v [n] are finite. */
uint64_t df_count_finite(const float *v, uint64_t n);

/*
 * out[i] = the finite value of v [n] that has exactly k[i] finite ones before it in ascending order: in two passes over
 * v, without a copy.  n_k <= DF_ORDER_MAX, each k[i] below the number of finite values.
 */
#define DF_ORDER_MAX 8
int df_order_statistics(const float *v, uint64_t n, const uint64_t *k, size_t n_k, float *out, struct df_err *err)
    DF_MUST_CHECK;

/*
 * out[i] = quantile q[i], from 0 to 1, of the finite values of v [n], n_q <= DF_ORDER_MAX / 2: with m of them, the
 * point h = q (m - 1) between the values floor(h) and floor(h) + 1, in double.  `torch`: in float32, as torch.quantile
 * rounds.  DF_EFORMAT when no value is finite.
 */
int df_quantiles(const float *v, uint64_t n, const double *q, size_t n_q, bool torch, double *out, struct df_err *err)
    DF_MUST_CHECK;

/* "LO,HI": two numbers, 0 <= LO <= HI <= 1.  DF_EUSAGE, with `option` in the message. */
int df_parse_band(const char *option, const char *text, double band[2], struct df_err *err) DF_MUST_CHECK;

#endif
