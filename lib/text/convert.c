/*
 * convert.c - one record of the user's data becomes turns and a system text.
 *
 * The rules of LLaMA-Factory's AlpacaDatasetConverter and
 * SharegptDatasetConverter.  Where it would raise an exception in the middle of a
 * run, here is an error with the row; what it drops in silence has a reason.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/dataset_priv.h"

static const struct {
	const char *name, *about;
} drops[DF_DROP_COUNT] = {
	[DF_DROP_NONE] = { "none", "kept" },
	[DF_DROP_NO_RESPONSE] = { "no_response", "no response to learn" },
	[DF_DROP_ROLE_ORDER] = { "role_order", "roles unknown or out of order" },
	[DF_DROP_ODD_TURNS] = { "odd_turns", "a last turn without an answer" },
	[DF_DROP_EMPTY_CONVERSATION] = { "empty_conversation", "no turns" },
	[DF_DROP_TOOLS] = { "tools", "tools and function calls are not supported" },
	[DF_DROP_MEDIA] = { "media", "images, videos and audio are not supported" },
	[DF_DROP_EMPTY] = { "empty", "not a single token" },
};

const char *
df_drop_name(enum df_drop d)
{
	return drops[d].name;
}

const char *
df_drop_about(enum df_drop d)
{
	return drops[d].about;
}

void
df_example_release(struct df_example *ex)
{
	df_json_free(ex->doc);
	df_buf_release(&ex->text);
	free(ex->turns);
	memset(ex, 0, sizeof(*ex));
}

static int
add_turn(struct df_example *ex, enum df_role role, const char *text, size_t n, struct df_err *err)
{
	int rc = df_grow(&ex->turns, &ex->cap_turns, ex->n_turns + 1, sizeof(*ex->turns), "turns", err);

	if (rc == 0)
		ex->turns[ex->n_turns++] = (struct df_turn){ role, text, n };
	return rc;
}

/* A column's value, NULL when the dataset has no such column or the row lacks it. */
static const struct df_json_value *
column(const struct df_dataset *ds, const struct df_json_value *row, enum df_colname c, struct df_example *ex)
{
	const struct df_json_value *v = ds->column[c] ? df_json_get(row, ds->column[c]) : NULL;

	if (v)
		ex->columns |= 1u << c;
	return v;
}

/* A text column: *s = NULL when absent or null. */
static int
text_column(const struct df_dataset *ds, const struct df_json_value *row, enum df_colname c, struct df_example *ex,
    const char **s, size_t *n, struct df_err *err)
{
	const struct df_json_value *v = column(ds, row, c, ex);

	*n = 0;
	*s = df_json_str(v, n);
	if (*s || !v || df_json_type(v) == DF_JSON_NULL)
		return 0;
	return df_fail(err, DF_EFORMAT, "'%s': expected a string, found %s", ds->column[c], df_json_type_name(v));
}

/* A member that must be text, of a conversation's turn or a history's pair. */
static int
must_be_text(const struct df_json_value *v, const char *where, size_t i, const char *what, const char **s, size_t *n,
    struct df_err *err)
{
	*s = df_json_str(v, n);
	if (*s)
		return 0;
	return df_fail(
	    err, DF_EFORMAT, "'%s'[%zu]: %s: expected a string, found %s", where, i, what, df_json_type_name(v));
}

/* Anything but absent, null, "", [] and {}. */
static bool
has_content(const struct df_json_value *v)
{
	size_t n = 1;

	switch (df_json_type(v)) {
	case DF_JSON_ABSENT:
	case DF_JSON_NULL: return false;
	case DF_JSON_STR: df_json_str(v, &n); return n > 0;
	case DF_JSON_ARRAY:
	case DF_JSON_OBJECT: return df_json_size(v) > 0;
	default: return true;
	}
}

static int
add_history(const struct df_dataset *ds, const struct df_json_value *row, struct df_example *ex, struct df_err *err)
{
	const struct df_json_value *history = column(ds, row, DF_COLUMN_HISTORY, ex);
	const char *where = ds->column[DF_COLUMN_HISTORY];
	int rc = 0;

	if (!history || df_json_type(history) == DF_JSON_NULL)
		return 0;
	if (df_json_type(history) != DF_JSON_ARRAY)
		return df_fail(
		    err, DF_EFORMAT, "'%s': expected an array of pairs, found %s", where, df_json_type_name(history));
	for (size_t i = 0; i < df_json_size(history); i++) {
		const struct df_json_value *pair = df_json_at(history, i);
		const char *s;
		size_t n;

		if (df_json_type(pair) != DF_JSON_ARRAY || df_json_size(pair) != 2)
			return df_fail(
			    err, DF_EFORMAT, "'%s'[%zu]: expected a pair of a question and its answer", where, i);
		DF_TRY(must_be_text(df_json_at(pair, 0), where, i, "question", &s, &n, err));
		DF_TRY(add_turn(ex, DF_ROLE_USER, s, n, err));
		DF_TRY(must_be_text(df_json_at(pair, 1), where, i, "answer", &s, &n, err));
		DF_TRY(add_turn(ex, DF_ROLE_ASSISTANT, s, n, err));
	}
out:
	return rc;
}

static int
convert_alpaca(const struct df_dataset *ds, const struct df_json_value *row, struct df_example *ex, struct df_err *err)
{
	const char *prompt, *query, *response;
	size_t n_prompt, n_query, n_response;
	int rc = 0;

	DF_TRY(text_column(ds, row, DF_COLUMN_PROMPT, ex, &prompt, &n_prompt, err));
	DF_TRY(text_column(ds, row, DF_COLUMN_QUERY, ex, &query, &n_query, err));
	DF_TRY(text_column(ds, row, DF_COLUMN_RESPONSE, ex, &response, &n_response, err));
	DF_TRY(text_column(ds, row, DF_COLUMN_SYSTEM, ex, &ex->system, &ex->n_system, err));
	DF_TRY(add_history(ds, row, ex, err));

	/* The question: prompt and query on lines of their own, without an empty one. */
	if (n_prompt > 0 && n_query > 0) {
		df_buf_add(&ex->text, prompt, n_prompt);
		df_buf_putc(&ex->text, '\n');
		df_buf_add(&ex->text, query, n_query);
		DF_TRY(df_buf_check(&ex->text, err));
		DF_TRY(add_turn(ex, DF_ROLE_USER, ex->text.data, ex->text.len, err));
	} else if (n_query > 0) {
		DF_TRY(add_turn(ex, DF_ROLE_USER, query, n_query, err));
	} else {
		DF_TRY(add_turn(ex, DF_ROLE_USER, prompt ? prompt : "", n_prompt, err));
	}
	if (response)
		DF_TRY(add_turn(ex, DF_ROLE_ASSISTANT, response, n_response, err));
	else if (ds->stage == DF_STAGE_SFT)
		ex->drop = DF_DROP_NO_RESPONSE;
out:
	return rc;
}

static bool
is_tag(const struct df_dataset *ds, enum df_tagname t, const char *s, size_t n)
{
	return ds->tag[t] && strlen(ds->tag[t]) == n && memcmp(ds->tag[t], s, n) == 0;
}

/* The role of turn i by its tag; false when it may not stand there. */
static bool
role_at(const struct df_dataset *ds, size_t i, const char *tag, size_t n, enum df_role *role)
{
	static const struct {
		enum df_tagname tag;
		enum df_role role;
	} accept[2][2] = {
		{ { DF_TAG_USER, DF_ROLE_USER }, { DF_TAG_OBSERVATION, DF_ROLE_OBSERVATION } },
		{ { DF_TAG_ASSISTANT, DF_ROLE_ASSISTANT }, { DF_TAG_FUNCTION, DF_ROLE_FUNCTION } },
	};

	for (size_t k = 0; k < 2; k++)
		if (is_tag(ds, accept[i % 2][k].tag, tag, n)) {
			*role = accept[i % 2][k].role;
			return true;
		}
	return false;
}

static int
convert_sharegpt(
    const struct df_dataset *ds, const struct df_json_value *row, struct df_example *ex, struct df_err *err)
{
	const struct df_json_value *messages = column(ds, row, DF_COLUMN_MESSAGES, ex);
	const char *where = ds->column[DF_COLUMN_MESSAGES];
	size_t first = 0;
	int rc = 0;

	if (df_json_type(messages) != DF_JSON_ARRAY)
		return df_fail(
		    err, DF_EFORMAT, "'%s': expected an array of turns, found %s", where, df_json_type_name(messages));
	DF_TRY(text_column(ds, row, DF_COLUMN_SYSTEM, ex, &ex->system, &ex->n_system, err));
	for (size_t i = 0; i < df_json_size(messages); i++) {
		const struct df_json_value *m = df_json_at(messages, i);
		const char *tag, *text;
		size_t n_tag, n_text;
		enum df_role role;

		if (df_json_type(m) != DF_JSON_OBJECT)
			return df_fail(
			    err, DF_EFORMAT, "'%s'[%zu]: expected an object, found %s", where, i, df_json_type_name(m));
		DF_TRY(must_be_text(
		    df_json_get(m, ds->tag[DF_TAG_ROLE]), where, i, ds->tag[DF_TAG_ROLE], &tag, &n_tag, err));
		DF_TRY(must_be_text(
		    df_json_get(m, ds->tag[DF_TAG_CONTENT]), where, i, ds->tag[DF_TAG_CONTENT], &text, &n_text, err));
		/* A leading system turn outranks the system column. */
		if (i == 0 && is_tag(ds, DF_TAG_SYSTEM, tag, n_tag)) {
			ex->system = text;
			ex->n_system = n_text;
			first = 1;
			continue;
		}
		if (!role_at(ds, i - first, tag, n_tag, &role)) {
			ex->drop = DF_DROP_ROLE_ORDER;
			goto out;
		}
		if (role == DF_ROLE_FUNCTION && ds->stage == DF_STAGE_SFT)
			ex->drop = DF_DROP_TOOLS;
		DF_TRY(add_turn(ex, role, text, n_text, err));
	}
	if (ex->n_turns == 0)
		ex->drop = DF_DROP_EMPTY_CONVERSATION;
	else if (ex->n_turns % 2 != 0)
		ex->drop = DF_DROP_ODD_TURNS;
out:
	return rc;
}

static int
convert_json(const struct df_dataset *ds, const struct df_record *rec, struct df_example *ex, struct df_err *err)
{
	const struct df_json_value *row;
	int rc = 0;

	DF_TRY(df_json_parse_unique(&ex->doc, rec->text, rec->n, "JSON", err));
	row = df_json_root(ex->doc);
	if (df_json_type(row) != DF_JSON_OBJECT) {
		rc = df_fail(err, DF_EFORMAT, "expected an object, found %s", df_json_type_name(row));
		goto out;
	}
	if (ds->formatting == DF_FORMAT_ALPACA)
		DF_TRY(convert_alpaca(ds, row, ex, err));
	else
		DF_TRY(convert_sharegpt(ds, row, ex, err));

	for (enum df_colname c = DF_COLUMN_TOOLS; c < DF_COLUMN_COUNT; c++)
		if (has_content(column(ds, row, c, ex)) && ds->stage == DF_STAGE_SFT && ex->drop == DF_DROP_NONE)
			ex->drop = c == DF_COLUMN_TOOLS ? DF_DROP_TOOLS : DF_DROP_MEDIA;
out:
	return rc;
}

/* A line of a text file is a row with the single column "text", its prompt. */
static int
convert_line(const struct df_dataset *ds, const struct df_record *rec, struct df_example *ex, struct df_err *err)
{
	ex->columns = 1u << DF_COLUMN_PROMPT;
	if (ds->stage == DF_STAGE_SFT)
		ex->drop = DF_DROP_NO_RESPONSE;
	return add_turn(ex, DF_ROLE_USER, rec->text, rec->n, err);
}

int
df_dataset_convert(const struct df_dataset *ds, const struct df_record *rec, struct df_example *ex, struct df_err *err)
{
	int rc;

	df_json_free(ex->doc);
	ex->doc = NULL;
	df_buf_clear(&ex->text);
	ex->n_turns = 0;
	ex->system = NULL;
	ex->n_system = 0;
	ex->drop = DF_DROP_NONE;
	ex->columns = 0;
	rc = ds->type == DF_FILE_TXT ? convert_line(ds, rec, ex, err) : convert_json(ds, rec, ex, err);
	if (rc)
		df_dataset_place(ds, rec, err);
	return rc;
}
