/* convert_priv.h - the functions of convert_turn.c that convert.c (rows, alpaca, sharegpt) and convert_openai.c use. */
#ifndef DF_DATA_CONVERT_PRIV_H
#define DF_DATA_CONVERT_PRIV_H

#include "data/dataset_priv.h"

int df_convert_add_turn(struct df_example *ex, enum df_role role, const char *text, size_t n,
    struct df_err *err) DF_MUST_CHECK;
/* *out = a copy of a text that lives as long as the row. */
int df_convert_keep(struct df_example *ex, const struct df_buf *text, const char **out,
    struct df_err *err) DF_MUST_CHECK;
/* A column's value; NULL when the dataset has no such column or the row does not have it. */
const struct df_json_value *df_convert_column(
    const struct df_dataset *ds, const struct df_json_value *row, enum df_colname c);
/* A text column: *s = NULL when absent or null. */
int df_convert_text_column(const struct df_dataset *ds, const struct df_json_value *row, enum df_colname c,
    const char **s, size_t *n, struct df_err *err) DF_MUST_CHECK;
/* A member that must be text, of a conversation's turn or a history's pair. */
int df_convert_text(const struct df_json_value *v, const char *where, size_t i, const char *what, const char **s,
    size_t *n, struct df_err *err) DF_MUST_CHECK;
bool df_convert_is_tag(const struct df_dataset *ds, enum df_tagname t, const char *s, size_t n);
/*
 * The conversation of a row, and its system text: from a leading system turn, if there is one, else from the
 * column.  *first is the turn after that.
 */
int df_convert_messages(const struct df_dataset *ds, const struct df_json_value *row, struct df_example *ex,
    const struct df_json_value **messages, size_t *first, struct df_err *err) DF_MUST_CHECK;
/* Turn i, which must be an object, and its role's tag. */
int df_convert_message(const struct df_dataset *ds, const struct df_json_value *messages, size_t i,
    const struct df_json_value **m, const char **tag, size_t *n_tag, struct df_err *err) DF_MUST_CHECK;

/* convert_openai.c */
int df_convert_openai(const struct df_dataset *ds, const struct df_json_value *row, struct df_example *ex,
    struct df_err *err) DF_MUST_CHECK;

#endif
