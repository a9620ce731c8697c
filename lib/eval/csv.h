/*
 * csv.h - comma-separated values, as in RFC 4180: fields in quotes may hold commas, line breaks and doubled quotes.
 * Empty lines and a byte-order mark are skipped.
 */
#ifndef DF_EVAL_CSV_H
#define DF_EVAL_CSV_H

#include <stddef.h>

#include "base/err.h"

struct df_csv_row {
	size_t first, n; /* its fields */
	size_t line;     /* the line where it begins, from 1 */
};
struct df_csv {
	struct df_csv_row *row;
	size_t n_rows;
	const char **field; /* NUL-terminated, without quotes; live as long as this */
	size_t n_fields;
	char *text;                 /* (private) */
	size_t cap_rows, cap_field; /* (private) */
};
/*
 * Read a file of at most 1 GiB.  DF_EFORMAT with the line: text that is not UTF-8, a NUL byte, a quote that is not
 * closed, or text after a closing one.  DF_ENOINPUT.
 */
int df_csv_load(struct df_csv *c, const char *path, struct df_err *err) DF_MUST_CHECK;
void df_csv_release(struct df_csv *c);

#endif
