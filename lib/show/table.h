/*
 * table.h - aligned cells (private to this room).
 */
#ifndef DF_SHOW_TABLE_H
#define DF_SHOW_TABLE_H

#include "base/buf.h"
#include "base/err.h"

/*
 * Cells are appended row by row.  Printing makes each column as wide as its widest cell, and leaves
 * out a column whose cells are all empty.  `align` has a letter per column: l or r.
 */
struct df_table {
	const char *align;
	struct df_buf text; /* cells, NUL-terminated */
	size_t n_cells;
};
#define DF_TABLE_INIT(a) { (a), DF_BUF_INIT, 0 }
void df_table_cell(struct df_table *t, const char *fmt, ...) DF_PRINTF(2, 3);
/* A number: whole ones in full, others in 6 significant digits, an empty cell when not finite. */
void df_table_number(struct df_table *t, double x);
int df_table_print(const struct df_table *t, const char *indent, struct df_buf *out, struct df_err *err) DF_MUST_CHECK;
void df_table_release(struct df_table *t);

#endif
