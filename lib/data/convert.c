/*
 * convert.c - one record of the user's data becomes turns, a system text and tools.
 *
 * The rules of LLaMA-Factory's AlpacaDatasetConverter and SharegptDatasetConverter; its OpenAIDatasetConverter is
 * convert_openai.c.  Where it raises an exception in the middle of a run, we return an error that names the row;
 * rows that it drops silently are dropped with a reason.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "chat/json_python.h"
#include "data/convert_priv.h"

/*
 * Tools are JSON text; a JSON value is converted to its text (LLaMA-Factory accepts values in the openai format
 * only).
 */
static int
tools_column(const struct df_dataset *ds, const struct df_json_value *row, struct df_example *ex, struct df_err *err)
{
	const struct df_json_value *v = df_convert_column(ds, row, DF_COLUMN_TOOLS);
	struct df_buf text = DF_BUF_INIT;
	int rc = DF_OK;

	switch (df_json_type(v)) {
	case DF_JSON_ABSENT:
	case DF_JSON_NULL: break;
	case DF_JSON_STR: ex->tools = df_json_str(v, &ex->n_tools); break;
	case DF_JSON_ARRAY:
	case DF_JSON_OBJECT:
		df_json_write_python(&text, v, 0, 0);
		DF_TRY(df_convert_keep(ex, &text, &ex->tools, err));
		ex->n_tools = text.len;
		break;
	default:
		rc = df_fail(err, DF_EFORMAT, "'%s': expected JSON, as text or as a value, found %s",
		    ds->column[DF_COLUMN_TOOLS], df_json_type_name(v));
	}
out:
	df_buf_release(&text);
	return rc;
}

/* True unless the value is absent, null, "", [] or {}. */
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
	const struct df_json_value *history = df_convert_column(ds, row, DF_COLUMN_HISTORY);
	const char *where = ds->column[DF_COLUMN_HISTORY];
	int rc = DF_OK;

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
		DF_TRY(df_convert_text(df_json_at(pair, 0), where, i, "question", &s, &n, err));
		DF_TRY(df_convert_add_turn(ex, DF_ROLE_USER, s, n, err));
		DF_TRY(df_convert_text(df_json_at(pair, 1), where, i, "answer", &s, &n, err));
		DF_TRY(df_convert_add_turn(ex, DF_ROLE_ASSISTANT, s, n, err));
	}
out:
	return rc;
}

static int
convert_alpaca(const struct df_dataset *ds, const struct df_json_value *row, struct df_example *ex, struct df_err *err)
{
	const char *prompt, *query, *response;
	size_t n_prompt, n_query, n_response;
	char *both;
	int rc = DF_OK;

	DF_TRY(df_convert_text_column(ds, row, DF_COLUMN_PROMPT, &prompt, &n_prompt, err));
	DF_TRY(df_convert_text_column(ds, row, DF_COLUMN_QUERY, &query, &n_query, err));
	DF_TRY(df_convert_text_column(ds, row, DF_COLUMN_RESPONSE, &response, &n_response, err));
	DF_TRY(df_convert_text_column(ds, row, DF_COLUMN_SYSTEM, &ex->system, &ex->n_system, err));
	DF_TRY(add_history(ds, row, ex, err));

	/* The question: prompt and query on lines of their own, without an empty one. */
	if (n_prompt > 0 && n_query > 0) {
		DF_TRY(df_arena_alloc(&ex->mem, &both, n_prompt + 1 + n_query, 1, "a question", err));
		memcpy(both, prompt, n_prompt);
		both[n_prompt] = '\n';
		memcpy(both + n_prompt + 1, query, n_query);
		DF_TRY(df_convert_add_turn(ex, DF_ROLE_USER, both, n_prompt + 1 + n_query, err));
	} else if (n_query > 0) {
		DF_TRY(df_convert_add_turn(ex, DF_ROLE_USER, query, n_query, err));
	} else {
		DF_TRY(df_convert_add_turn(ex, DF_ROLE_USER, prompt ? prompt : "", n_prompt, err));
	}
	if (response)
		DF_TRY(df_convert_add_turn(ex, DF_ROLE_ASSISTANT, response, n_response, err));
	else if (ds->stage == DF_STAGE_SFT)
		ex->drop = DF_DROP_NO_RESPONSE;
out:
	return rc;
}

/*
 * The role of turn i by its tag; false when that role is not allowed there.  If two roles have the same tag, the
 * later one counts.
 */
static bool
role_at(const struct df_dataset *ds, size_t i, const char *tag, size_t n, enum df_role *role)
{
	static const struct {
		enum df_tagname tag;
		enum df_role role;
	} accept[2][2] = {
		{ { DF_TAG_OBSERVATION, DF_ROLE_OBSERVATION }, { DF_TAG_USER, DF_ROLE_USER } },
		{ { DF_TAG_FUNCTION, DF_ROLE_FUNCTION }, { DF_TAG_ASSISTANT, DF_ROLE_ASSISTANT } },
	};

	for (size_t k = 0; k < 2; k++)
		if (df_convert_is_tag(ds, accept[i % 2][k].tag, tag, n)) {
			*role = accept[i % 2][k].role;
			return true;
		}
	return false;
}

static int
convert_sharegpt(
    const struct df_dataset *ds, const struct df_json_value *row, struct df_example *ex, struct df_err *err)
{
	const char *where = ds->column[DF_COLUMN_MESSAGES], *content = ds->tag[DF_TAG_CONTENT];
	const struct df_json_value *messages;
	size_t first;
	int rc = DF_OK;

	DF_TRY(df_convert_messages(ds, row, ex, &messages, &first, err));
	for (size_t i = first; i < df_json_size(messages); i++) {
		const struct df_json_value *m;
		const char *tag, *text;
		size_t n_tag, n_text;
		enum df_role role;

		DF_TRY(df_convert_message(ds, messages, i, &m, &tag, &n_tag, err));
		DF_TRY(df_convert_text(df_json_get(m, content), where, i, content, &text, &n_text, err));
		if (!role_at(ds, i - first, tag, n_tag, &role)) {
			ex->drop = DF_DROP_ROLE_ORDER;
			goto out;
		}
		DF_TRY(df_convert_add_turn(ex, role, text, n_text, err));
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
	int rc = DF_OK;

	DF_TRY(df_json_parse_unique(&ex->doc, rec->text, rec->n, "JSON", err));
	row = df_json_root(ex->doc);
	if (df_json_type(row) != DF_JSON_OBJECT) {
		rc = df_fail(err, DF_EFORMAT, "expected an object, found %s", df_json_type_name(row));
		goto out;
	}
	DF_TRY(tools_column(ds, row, ex, err));
	switch (ds->formatting) {
	case DF_FORMAT_ALPACA: DF_TRY(convert_alpaca(ds, row, ex, err)); break;
	case DF_FORMAT_SHAREGPT: DF_TRY(convert_sharegpt(ds, row, ex, err)); break;
	case DF_FORMAT_OPENAI: DF_TRY(df_convert_openai(ds, row, ex, err)); break;
	}
	for (enum df_colname c = DF_COLUMN_IMAGES; c < DF_COLUMN_COUNT; c++)
		if (has_content(df_convert_column(ds, row, c)) && ds->stage != DF_STAGE_PT && ex->drop == DF_DROP_NONE)
			ex->drop = DF_DROP_MEDIA;
out:
	return rc;
}

/* A line of a text file is a row with the single column "text", its prompt. */
static int
convert_line(const struct df_dataset *ds, const struct df_record *rec, struct df_example *ex, struct df_err *err)
{
	if (ds->stage == DF_STAGE_SFT)
		ex->drop = DF_DROP_NO_RESPONSE;
	return df_convert_add_turn(ex, DF_ROLE_USER, rec->text, rec->n, err);
}

int
df_dataset_convert(const struct df_dataset *ds, const struct df_record *rec, struct df_example *ex, struct df_err *err)
{
	int rc;

	df_json_free(ex->doc);
	ex->doc = NULL;
	df_arena_reset(&ex->mem);
	ex->n_turns = 0;
	ex->system = ex->tools = NULL;
	ex->n_system = ex->n_tools = 0;
	ex->drop = DF_DROP_NONE;
	rc = ds->type == DF_FILE_TXT ? convert_line(ds, rec, ex, err) : convert_json(ds, rec, ex, err);
	if (rc != DF_OK)
		df_dataset_place(ds, rec, err);
	return rc;
}
