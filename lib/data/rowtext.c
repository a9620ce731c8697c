/*
 * rowtext.c - make the single text of a row (rowtext.h has the forms).
 */
#include "data/rowtext.h"

#include <string.h>

#include "data/dataset_priv.h"

void
df_rowtext_release(struct df_rowtext *t)
{
	df_json_free(t->doc);
	df_buf_release(&t->buf);
	*t = (struct df_rowtext)DF_ROWTEXT_INIT;
}

int
df_rowtext_check(struct df_dataset *ds, enum df_rowtext_form form, const char *column, struct df_err *err)
{
	const uint32_t lines = 1u << DF_COLUMN_PROMPT | 1u << DF_COLUMN_RESPONSE;

	if (form == DF_ROWTEXT_COLUMN)
		return df_dataset_need(ds, &(struct df_need){ .column = column }, 1, err);
	if (ds->type == DF_FILE_TXT || ds->formatting != DF_FORMAT_ALPACA)
		return df_fail(err, DF_EUNSUPPORTED,
		    "dataset '%s' is not of alpaca's columns: pack it with df-pack and embed the tokens", ds->name);
	return df_dataset_need_columns(ds, ds->named_columns ? lines | 1u << DF_COLUMN_QUERY : lines, err);
}

/* A member that is a string or, if that is allowed, null or absent. */
static int
member(const struct df_json_value *row, const char *key, bool optional, const char **s, size_t *n, struct df_err *err)
{
	const struct df_json_value *v = key ? df_json_get(row, key) : NULL;

	*n = 0;
	*s = df_json_str(v, n);
	if (*s)
		return 0;
	*s = "";
	if (optional && (!v || df_json_type(v) == DF_JSON_NULL))
		return 0;
	if (!v)
		return df_fail(err, DF_EFORMAT, "no column '%s'", key);
	return df_fail(err, DF_EFORMAT, "'%s': expected a string, found %s", key, df_json_type_name(v));
}

static int
alpaca_lines(struct df_rowtext *t, const struct df_dataset *ds, const struct df_json_value *row, bool prediction,
    struct df_err *err)
{
	const struct {
		const char *label, *key;
	} lines[] = {
		{ "Instruction: ", ds->column[DF_COLUMN_PROMPT] },
		{ "\nInput: ", ds->column[DF_COLUMN_QUERY] },
		{ "\nOutput: ", ds->column[DF_COLUMN_RESPONSE] },
		{ "\nPrediction:", "prediction" },
	};
	const char *s;
	size_t n;
	int rc = DF_OK;

	df_buf_clear(&t->buf);
	for (size_t i = 0; i < (prediction ? 4 : 3); i++) {
		DF_TRY(member(row, lines[i].key, true, &s, &n, err));
		df_buf_puts(&t->buf, lines[i].label);
		df_buf_add(&t->buf, s, n);
	}
	DF_TRY(df_buf_check(&t->buf, err));
	t->text = t->buf.data;
	t->n = t->buf.len;
out:
	return rc;
}

int
df_rowtext_get(struct df_rowtext *t, const struct df_dataset *ds, const struct df_record *rec,
    enum df_rowtext_form form, const char *column, struct df_err *err)
{
	const struct df_json_value *row;
	int rc = DF_OK;

	t->text = rec->text;
	t->n = rec->n;
	if (ds->type == DF_FILE_TXT)
		return 0;
	df_json_free(t->doc);
	t->doc = NULL;
	DF_TRY(df_json_parse(&t->doc, rec->text, rec->n, "its JSON", err));
	row = df_json_root(t->doc);
	if (df_json_type(row) != DF_JSON_OBJECT)
		rc = df_fail(err, DF_EFORMAT, "expected an object, found %s", df_json_type_name(row));
	else if (form == DF_ROWTEXT_COLUMN)
		rc = member(row, column, false, &t->text, &t->n, err);
	else
		rc = alpaca_lines(t, ds, row, form == DF_ROWTEXT_DATAFLEX, err);
out:
	if (rc != DF_OK)
		df_dataset_place(ds, rec, err);
	return rc;
}
