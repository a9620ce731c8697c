/*
 * rowtext.h - the single text of a row, from which its embedding is computed.
 *
 *	column           a column of the row; of a text file the line
 *	alpaca           "Instruction: ..", "Input: ..", "Output: ..", a line each; an absent column is empty
 *	dataflex-alpaca  the same and "Prediction:..", without a space: the text that DataFlex embeds for NEAR and TSDS
 */
#ifndef DF_DATA_ROWTEXT_H
#define DF_DATA_ROWTEXT_H

#include "data/dataset.h"

enum df_rowtext_form { DF_ROWTEXT_COLUMN, DF_ROWTEXT_ALPACA, DF_ROWTEXT_DATAFLEX };
#define DF_ROWTEXT_FORMS "column", "alpaca", "dataflex-alpaca" /* in the order of the enum, for an option's choices */

/* Per-thread state; the text is valid until the next row. */
struct df_rowtext {
	const char *text; /* n bytes */
	size_t n;
	struct df_json *doc; /* (private) */
	struct df_buf buf;   /* (private) */
};
#define DF_ROWTEXT_INIT { .text = NULL, .buf = DF_BUF_INIT }
void df_rowtext_release(struct df_rowtext *t);

/*
 * Check that rows of this dataset can have such a text.  DF_EUNSUPPORTED: conversations have no alpaca lines.  Some
 * row must have `column` or, in the alpaca forms, the prompt and the response: errors as df_dataset_check_columns,
 * and it also rewinds.
 */
int df_rowtext_check(struct df_dataset *ds, enum df_rowtext_form form, const char *column,
    struct df_err *err) DF_MUST_CHECK;
/*
 * The text of a record.  `column` is only used for DF_ROWTEXT_COLUMN, and not for text files.  If it is absent from
 * the row, that is DF_EFORMAT; in the alpaca forms a column that is null or absent is empty.  Messages name the
 * row.  Any number of threads.
 */
int df_rowtext_get(struct df_rowtext *t, const struct df_dataset *ds, const struct df_record *rec,
    enum df_rowtext_form form, const char *column, struct df_err *err) DF_MUST_CHECK;

#endif
