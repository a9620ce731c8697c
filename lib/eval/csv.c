/*
 * csv.c - fields are unquoted in place, because an unquoted field is never longer than the quoted one.
 */
#include "eval/csv.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"

#define CSV_MAX ((size_t)1 << 30)

void
df_csv_release(struct df_csv *c)
{
	free(c->row);
	free(c->field);
	free(c->text);
	*c = (struct df_csv){ 0 };
}

/* The parser's position in the text. */
struct at {
	char *text;
	size_t n, pos, line;
};

static int
add_field(struct df_csv *c, const char *field, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&c->field, &c->cap_field, c->n_fields + 1, sizeof(*c->field), "fields", err));
	c->field[c->n_fields++] = field;
	c->row[c->n_rows - 1].n++;
out:
	return rc;
}

/* The field at `at`, from its opening quote; leaves `at` after the closing one.  Its end is at *end. */
static int
quoted(struct at *at, char **end, struct df_err *err)
{
	const size_t line = at->line;
	char *to = at->text + at->pos;

	for (at->pos++; at->pos < at->n; at->pos++) {
		char ch = at->text[at->pos];

		if (ch == '"' && at->pos + 1 < at->n && at->text[at->pos + 1] == '"') {
			at->pos++;
		} else if (ch == '"') {
			at->pos++;
			*end = to;
			return DF_OK;
		}
		at->line += ch == '\n';
		*to++ = ch;
	}
	return df_fail(err, DF_EFORMAT, "line %zu: a quote does not close", line);
}

/* One field and its end; *last when that is also the end of the row. */
static int
one_field(struct df_csv *c, struct at *at, bool *last, struct df_err *err)
{
	char *start = at->text + at->pos, *end;
	char ends = '\0';
	int rc;

	if (at->pos < at->n && at->text[at->pos] == '"') {
		DF_TRY(quoted(at, &end, err));
	} else {
		at->pos += strcspn(at->text + at->pos, ",\r\n");
		end = at->text + at->pos;
	}
	if (at->pos < at->n)
		ends = at->text[at->pos];
	if (ends == '\r' && at->pos + 1 < at->n && at->text[at->pos + 1] == '\n')
		ends = at->text[++at->pos];
	if (ends != '\0' && ends != ',' && ends != '\n' && ends != '\r')
		return df_fail(err, DF_EFORMAT, "line %zu: text after a closing quote", at->line);
	at->line += ends == '\n';
	at->pos += ends != '\0';
	*end = '\0';
	*last = ends != ',';
	rc = add_field(c, start, err);
out:
	return rc;
}

static int
parse(struct df_csv *c, size_t n, struct df_err *err)
{
	struct at at = { c->text, n, 0, 1 };
	int rc = DF_OK;

	if (n >= 3 && memcmp(c->text, "\xef\xbb\xbf", 3) == 0)
		at.pos = 3;
	while (at.pos < n) {
		bool last = false;

		if (c->text[at.pos] == '\n' || c->text[at.pos] == '\r') {
			at.line += c->text[at.pos++] == '\n';
			continue;
		}
		DF_TRY(df_grow(&c->row, &c->cap_rows, c->n_rows + 1, sizeof(*c->row), "rows", err));
		c->row[c->n_rows++] = (struct df_csv_row){ c->n_fields, 0, at.line };
		while (!last)
			DF_TRY(one_field(c, &at, &last, err));
	}
out:
	return rc;
}

int
df_csv_load(struct df_csv *c, const char *path, struct df_err *err)
{
	struct df_csv made = { 0 };
	size_t n, line = 1;
	int rc;

	DF_TRY(df_file_get(path, CSV_MAX, &made.text, &n, err));
	for (size_t at = 0, len; at < n; at += len) {
		len = df_utf8_len((const unsigned char *)made.text + at, n - at);
		if (len == 0 || made.text[at] == '\0') {
			rc = df_fail(err, DF_EFORMAT, "%s: line %zu: %s", path, line,
			    len == 0 ? "a byte that is not UTF-8" : "a NUL byte");
			goto out;
		}
		line += made.text[at] == '\n';
	}
	rc = parse(&made, n, err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", path);
		goto out;
	}
	*c = made;
	made = (struct df_csv){ 0 };
out:
	df_csv_release(&made);
	return rc;
}
