/*
 * select_priv.h - what select.c uses of inputs.c.
 */
#ifndef DF_SELECT_SELECT_PRIV_H
#define DF_SELECT_SELECT_PRIV_H

#include "select/select.h"

/* Open in->sets as in->method reads them.  After an error, too, df_select_close() closes what was opened. */
int df_select_open(struct df_select *in, struct df_err *err) DF_MUST_CHECK;
void df_select_close(struct df_select *in);
/* The "tokens" whose rows are chosen, where the train set says it. */
int df_select_record_tokens(const struct df_select *in, struct df_meta *m, struct df_err *err) DF_MUST_CHECK;
/* The sets that were scanned, checkpoint by checkpoint: they have their ids now. */
int df_select_record_inputs(const struct df_select *in, struct df_meta *m, struct df_err *err) DF_MUST_CHECK;

/* a and b have rows of the same tokens, and as many. */
int df_select_check_rows(const struct df_set *a, const struct df_set *b, struct df_err *err) DF_MUST_CHECK;
/* df_select_take(); `all`: as many as there are when no amount is given. */
int df_select_take_all(const struct df_select *in, const uint64_t *order, uint64_t n_order, uint64_t all,
    struct df_selection *out, struct df_err *err) DF_MUST_CHECK;

#endif
