/*
 * convert_openai.c - rows in OpenAI's chat format.
 *
 * The rules of LLaMA-Factory's OpenAIDatasetConverter: an assistant's tool_calls become a turn of calls,
 * consecutive results of tools become one turn, and the tags are dataset_info.json's (by default those of
 * sharegpt).  It also has a quirk: rows without tools get the system text "detailed thinking off" (Nemotron's
 * switch), appended to their own if they have one, and rows with tools get a newline after their system text.  That
 * is done here only if the dataset's thinking_note is set.
 */
#include <string.h>

#include "base/buf.h"
#include "chat/json_python.h"
#include "data/convert_priv.h"

static const char note_off[] = "detailed thinking off";
static const char note_on[] = "detailed thinking on";
static const char between_results[] = "\n</tool_response>\n<tool_response>\n";

/*
 * The role of a tag; if two roles have the same tag, the later one.  False when there is none, or it is the
 * system's.
 */
static bool
role_of(const struct df_dataset *ds, const char *tag, size_t n, enum df_role *role)
{
	static const struct {
		enum df_tagname tag;
		enum df_role role;
	} roles[] = { { DF_TAG_FUNCTION, DF_ROLE_FUNCTION }, { DF_TAG_OBSERVATION, DF_ROLE_OBSERVATION },
		{ DF_TAG_ASSISTANT, DF_ROLE_ASSISTANT }, { DF_TAG_USER, DF_ROLE_USER } };

	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		if (df_convert_is_tag(ds, roles[i].tag, tag, n)) {
			*role = roles[i].role;
			return !df_convert_is_tag(ds, DF_TAG_SYSTEM, tag, n);
		}
	return false;
}

/* [{"type": "function", "function": {...}}, ...] as the JSON array of its functions. */
static int
add_tool_calls(
    struct df_example *ex, const struct df_json_value *calls, const char *where, size_t i, struct df_err *err)
{
	struct df_buf text = DF_BUF_INIT;
	const char *s;
	int rc = DF_OK;

	df_buf_putc(&text, '[');
	for (size_t k = 0; k < df_json_size(calls); k++) {
		const struct df_json_value *f = df_json_get(df_json_at(calls, k), "function");

		if (!f) {
			rc = df_fail(err, DF_EFORMAT, "'%s'[%zu]: tool_calls[%zu]: no 'function'", where, i, k);
			goto out;
		}
		df_buf_puts(&text, k ? ", " : "");
		df_json_write_python(&text, f, 0, 0);
	}
	df_buf_putc(&text, ']');
	DF_TRY(df_convert_keep(ex, &text, &s, err));
	DF_TRY(df_convert_add_turn(ex, DF_ROLE_FUNCTION, s, text.len, err));
out:
	df_buf_release(&text);
	return rc;
}

/* The results of tools since the last turn, as one turn. */
static int
flush_results(struct df_example *ex, struct df_buf *results, size_t *n_results, struct df_err *err)
{
	const char *s;
	int rc = DF_OK;

	if (*n_results == 0)
		return 0;
	DF_TRY(df_convert_keep(ex, results, &s, err));
	DF_TRY(df_convert_add_turn(ex, DF_ROLE_OBSERVATION, s, results->len, err));
	df_buf_clear(results);
	*n_results = 0;
out:
	return rc;
}

static bool
contains(const struct df_example *ex, const char *word)
{
	return memmem(ex->system, ex->n_system, word, strlen(word)) != NULL;
}

static int
add_note(struct df_example *ex, struct df_err *err)
{
	struct df_buf text = DF_BUF_INIT;
	int rc = DF_OK;

	if (ex->n_system == 0) {
		if (ex->n_tools == 0) {
			ex->system = note_off;
			ex->n_system = sizeof(note_off) - 1;
		}
		return 0;
	}
	if (ex->n_tools == 0 && (contains(ex, note_on) || contains(ex, note_off)))
		return 0;
	df_buf_add(&text, ex->system, ex->n_system);
	df_buf_putc(&text, '\n');
	if (ex->n_tools == 0)
		df_buf_puts(&text, note_off);
	DF_TRY(df_convert_keep(ex, &text, &ex->system, err));
	ex->n_system = text.len;
out:
	df_buf_release(&text);
	return rc;
}

/* Turns alternate: first a user's message or a tool's result, then an answer or a call. */
static void
check_order(struct df_example *ex)
{
	if (ex->n_turns == 0)
		ex->drop = DF_DROP_EMPTY_CONVERSATION;
	else if (ex->n_turns % 2 != 0)
		ex->drop = DF_DROP_ODD_TURNS;
	for (size_t i = 0; i < ex->n_turns; i++) {
		const enum df_role role = ex->turns[i].role;

		if ((role == DF_ROLE_USER || role == DF_ROLE_OBSERVATION) != (i % 2 == 0))
			ex->drop = DF_DROP_ROLE_ORDER;
	}
}

int
df_convert_openai(
    const struct df_dataset *ds, const struct df_json_value *row, struct df_example *ex, struct df_err *err)
{
	const char *where = ds->column[DF_COLUMN_MESSAGES], *content = ds->tag[DF_TAG_CONTENT];
	const struct df_json_value *messages;
	struct df_buf results = DF_BUF_INIT;
	size_t first, n_results = 0;
	int rc = DF_OK;

	DF_TRY(df_convert_messages(ds, row, ex, &messages, &first, err));
	for (size_t i = first; i < df_json_size(messages); i++) {
		const struct df_json_value *m, *calls;
		const char *tag, *text;
		size_t n_tag, n_text;
		enum df_role role;

		DF_TRY(df_convert_message(ds, messages, i, &m, &tag, &n_tag, err));
		if (!role_of(ds, tag, n_tag, &role)) {
			ex->drop = DF_DROP_ROLE_ORDER;
			goto out;
		}
		calls = df_json_get(m, "tool_calls");
		if (df_json_type(calls) == DF_JSON_ARRAY && df_json_size(calls) > 0 &&
		    (role == DF_ROLE_ASSISTANT || role == DF_ROLE_FUNCTION)) {
			DF_TRY(flush_results(ex, &results, &n_results, err));
			DF_TRY(add_tool_calls(ex, calls, where, i, err));
			continue;
		}
		DF_TRY(df_convert_text(df_json_get(m, content), where, i, content, &text, &n_text, err));
		if (role == DF_ROLE_OBSERVATION) {
			df_buf_puts(&results, n_results++ ? between_results : "");
			df_buf_add(&results, text, n_text);
			continue;
		}
		DF_TRY(flush_results(ex, &results, &n_results, err));
		DF_TRY(df_convert_add_turn(ex, role, text, n_text, err));
	}
	/* Results without an answer after them are dropped, as in LLaMA-Factory. */
	check_order(ex);
	if (ds->thinking_note)
		DF_TRY(add_note(ex, err));
out:
	df_buf_release(&results);
	return rc;
}
