/*
 * why_rows.c - lists of other samples that have to do with one: the best of them, and their texts.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "show/why.h"

void
df_why_rank(struct df_why_rows *rows, uint64_t id, double value, uint64_t rank, bool larger)
{
	size_t at = rows->n;

	rows->n_all++;
	while (at > 0 && (larger ? value > rows->v[at - 1].value : value < rows->v[at - 1].value))
		at--;
	if (at == DF_WHY_BEST)
		return;
	if (rows->n < DF_WHY_BEST)
		rows->n++;
	memmove(&rows->v[at + 1], &rows->v[at], (rows->n - 1 - at) * sizeof(rows->v[0]));
	rows->v[at] = (struct df_why_row){ .id = id, .value = value, .rank = rank };
}

void
df_why_more(struct df_why *w, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	df_buf_printf(&w->more, "%s\n", line);
}

int
df_why_texts(struct df_why *w, struct df_why_rows *rows, const char *tokens_id, const char *tokenizer,
    const char *template, struct df_err *err)
{
	const struct df_kin_file *f = tokens_id ? df_kin_find(w->kin, tokens_id) : NULL;
	struct df_line_reader *r = NULL;
	struct df_line line;
	int rc;

	if (rows->n == 0 || !f)
		return DF_OK;
	rc = df_line_reader_open(&r, f->path, tokenizer, template, err);
	if (rc == DF_EUSAGE && !tokenizer)
		return DF_OK; /* it is said once, of the sample itself */
	for (size_t i = 0; i < rows->n && rc == DF_OK; i++) {
		struct df_buf text = DF_BUF_INIT;

		rc = df_line_read(r, rows->v[i].id, &line, &text, err);
		if (line.domain)
			df_buf_printf(&text, ", %s", line.domain);
		if (line.has_row)
			df_buf_printf(&text, " row %" PRIu64, line.source_row);
		if (rc == DF_OK)
			rc = df_buf_check(&text, err);
		rows->v[i].text = df_buf_detach(&text);
	}
	df_line_reader_close(r);
	return rc;
}
