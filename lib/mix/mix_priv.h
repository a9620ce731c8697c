/*
 * mix_priv.h - what mixers share among themselves.
 */
#ifndef DF_MIX_MIX_PRIV_H
#define DF_MIX_MIX_PRIV_H

#include "mix/mix.h"

/* x [n] = its softmax; finite, or -INFINITY for a share of 0, but not all of them. */
void df_mix_softmax(double *x, size_t n);
/* p [n], of sum 1 or nearly = (1 - n floor) p + floor, of sum 1; floor at most 1 / n. */
void df_mix_raise(double *p, size_t n, double floor);
/* Append `, "name": [..]`; a number that is not finite is null. */
void df_mix_log_array(struct df_buf *out, const char *name, const double *v, size_t n);
/* "domain 'c4'", or "domain 3" where there are no names; valid until the next call with the same storage. */
const char *df_mix_domain(const struct df_mix_seen *seen, size_t i, char storage[static 80]);

#endif
