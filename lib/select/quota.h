/*
 * quota.h - how much of a choice each domain gets.
 */
#ifndef DF_SELECT_QUOTA_H
#define DF_SELECT_QUOTA_H

#include "select/select.h"

extern const char *const df_quota_words[]; /* "proportional", NULL: the choices beside a list */

/*
 * *share [n_domains] = parts of 1: "proportional" to the rows that each domain has in `out`, or as "NAME=SHARE,..."
 * says, divided by their sum; a domain that is not named gets nothing.  free() it.  DF_EUSAGE: no such domain, one
 * twice, a negative share, a sum of zero; rows without domains.
 */
int df_quota_parse(const char *text, const struct df_selection *out, double **share, struct df_err *err) DF_MUST_CHECK;

/*
 * Take the amount asked for, which must be given, from order [n_order]: of each domain its share, as df_select_take()
 * would from the rows of that domain alone.  The index has them in the order of `order`, repetitions after all first
 * ones.  DF_EUSAGE names the domain that has too few.
 */
int df_quota_take(const struct df_select *in, const double *share, const uint64_t *order, uint64_t n_order,
    struct df_selection *out, struct df_err *err) DF_MUST_CHECK;

#endif
