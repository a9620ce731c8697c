/*
 * table.c - aligned cells.
 */
#include "show/table.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS_MAX 16

/* The columns of a terminal that n bytes of UTF-8 take: one per character, two for wide East Asian ones. */
static size_t
display_width(const char *s)
{
	size_t w = 0;

	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		if ((*p & 0xc0) == 0x80)
			continue;
		/* From U+3000 to Hangul; full-width forms; emoji and rarer ideographs. */
		w += (*p >= 0xe3 && *p <= 0xed) || (*p == 0xef && p[1] == 0xbc) || *p >= 0xf0 ? 2 : 1;
	}
	return w;
}

void
df_table_cell(struct df_table *t, const char *fmt, ...)
{
	char cell[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cell, sizeof(cell), fmt, ap);
	va_end(ap);
	df_buf_add(&t->text, cell, strlen(cell) + 1);
	t->n_cells++;
}

void
df_table_number(struct df_table *t, double x)
{
	if (isfinite(x))
		df_table_cell(t, fabs(x) < 1e15 && x == floor(x) ? "%.0f" : "%.6g", x);
	else
		df_table_cell(t, "%s", "");
}

static void
pad(struct df_buf *out, size_t n)
{
	while (n-- > 0)
		df_buf_putc(out, ' ');
}

int
df_table_print(const struct df_table *t, const char *indent, struct df_buf *out, struct df_err *err)
{
	size_t n = strlen(t->align), width[COLUMNS_MAX] = { 0 };
	const char *p = t->text.data;
	int rc;

	DF_TRY(df_buf_check(&t->text, err));
	for (size_t i = 0; i < t->n_cells; i++, p += strlen(p) + 1)
		if (display_width(p) > width[i % n])
			width[i % n] = display_width(p);
	p = t->text.data;
	for (size_t i = 0; i < t->n_cells; i++, p += strlen(p) + 1) {
		size_t col = i % n, space = width[col] - display_width(p), owed = 0;

		if (col == 0)
			df_buf_puts(out, indent);
		if (t->align[col] == 'r' && width[col] > 0)
			pad(out, space);
		df_buf_puts(out, p);
		if (t->align[col] == 'l')
			owed = space;
		if (col + 1 < n) {
			pad(out, width[col] > 0 ? owed + 2 : 0);
		} else {
			/* Lines do not end in blanks. */
			while (out->len > 0 && out->data[out->len - 1] == ' ')
				out->data[--out->len] = '\0';
			df_buf_putc(out, '\n');
		}
	}
	DF_TRY(df_buf_check(out, err));
out:
	return rc;
}

void
df_table_release(struct df_table *t)
{
	df_buf_release(&t->text);
	t->n_cells = 0;
}
