/*
 * convert_turn.c - reading a row's columns and keeping its turns, for all formats.
 */
#include <string.h>

#include "base/mem.h"
#include "data/convert_priv.h"

int
df_convert_add_turn(struct df_example *ex, enum df_role role, const char *text, size_t n, struct df_err *err)
{
	int rc = df_grow(&ex->turns, &ex->cap_turns, ex->n_turns + 1, sizeof(*ex->turns), "turns", err);

	if (rc == 0)
		ex->turns[ex->n_turns++] = (struct df_turn){ role, text, n };
	return rc;
}

int
df_convert_keep(struct df_example *ex, const struct df_buf *text, const char **out, struct df_err *err)
{
	char *p;
	int rc = DF_OK;

	DF_TRY(df_buf_check(text, err));
	DF_TRY(df_arena_alloc(&ex->mem, &p, text->len, 1, "a text", err));
	if (text->len > 0)
		memcpy(p, text->data, text->len);
	*out = p;
out:
	return rc;
}

const struct df_json_value *
df_convert_column(const struct df_dataset *ds, const struct df_json_value *row, enum df_colname c)
{
	return ds->column[c] ? df_json_get(row, ds->column[c]) : NULL;
}

int
df_convert_text_column(const struct df_dataset *ds, const struct df_json_value *row, enum df_colname c, const char **s,
    size_t *n, struct df_err *err)
{
	const struct df_json_value *v = df_convert_column(ds, row, c);

	*n = 0;
	*s = df_json_str(v, n);
	if (*s || !v || df_json_type(v) == DF_JSON_NULL)
		return 0;
	return df_fail(err, DF_EFORMAT, "'%s': expected a string, found %s", ds->column[c], df_json_type_name(v));
}

int
df_convert_text(const struct df_json_value *v, const char *where, size_t i, const char *what, const char **s, size_t *n,
    struct df_err *err)
{
	*s = df_json_str(v, n);
	if (*s)
		return 0;
	return df_fail(
	    err, DF_EFORMAT, "'%s'[%zu]: %s: expected a string, found %s", where, i, what, df_json_type_name(v));
}

bool
df_convert_is_tag(const struct df_dataset *ds, enum df_tagname t, const char *s, size_t n)
{
	return ds->tag[t] && strlen(ds->tag[t]) == n && memcmp(ds->tag[t], s, n) == 0;
}

int
df_convert_message(const struct df_dataset *ds, const struct df_json_value *messages, size_t i,
    const struct df_json_value **m, const char **tag, size_t *n_tag, struct df_err *err)
{
	const char *where = ds->column[DF_COLUMN_MESSAGES], *role = ds->tag[DF_TAG_ROLE];

	*m = df_json_at(messages, i);
	if (df_json_type(*m) != DF_JSON_OBJECT)
		return df_fail(
		    err, DF_EFORMAT, "'%s'[%zu]: expected an object, found %s", where, i, df_json_type_name(*m));
	return df_convert_text(df_json_get(*m, role), where, i, role, tag, n_tag, err);
}

int
df_convert_messages(const struct df_dataset *ds, const struct df_json_value *row, struct df_example *ex,
    const struct df_json_value **messages, size_t *first, struct df_err *err)
{
	const char *where = ds->column[DF_COLUMN_MESSAGES], *content = ds->tag[DF_TAG_CONTENT], *tag;
	const struct df_json_value *m;
	size_t n_tag;
	int rc = DF_OK;

	*messages = df_convert_column(ds, row, DF_COLUMN_MESSAGES);
	*first = 0;
	if (df_json_type(*messages) != DF_JSON_ARRAY)
		return df_fail(
		    err, DF_EFORMAT, "'%s': expected an array of turns, found %s", where, df_json_type_name(*messages));
	DF_TRY(df_convert_text_column(ds, row, DF_COLUMN_SYSTEM, &ex->system, &ex->n_system, err));
	if (df_json_size(*messages) == 0)
		goto out;
	DF_TRY(df_convert_message(ds, *messages, 0, &m, &tag, &n_tag, err));
	if (df_convert_is_tag(ds, DF_TAG_SYSTEM, tag, n_tag)) {
		DF_TRY(df_convert_text(df_json_get(m, content), where, 0, content, &ex->system, &ex->n_system, err));
		*first = 1;
	}
out:
	return rc;
}
