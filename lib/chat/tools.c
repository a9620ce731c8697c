/*
 * tools.c - descriptions and calls of tools: the row's JSON is parsed and checked, then the tool format writes the
 * text.
 */
#include "chat/tools.h"

#include <stdio.h>
#include <string.h>

#include "base/words.h"
#include "chat/tools_priv.h"

const char *
df_tool_format_name(enum df_tool_format f)
{
	return df_tool_words[f].name;
}

const char *const *
df_tool_format_names(void)
{
	static const char *names[DF_TOOLS_COUNT + 1];

	for (enum df_tool_format f = 0; f < DF_TOOLS_COUNT; f++)
		names[f] = df_tool_words[f].name;
	return names;
}

int
df_tool_format_find(enum df_tool_format *out, const char *name, struct df_err *err)
{
	for (enum df_tool_format f = 0; f < DF_TOOLS_COUNT; f++) {
		if (strcmp(name, df_tool_words[f].name) == 0) {
			*out = f;
			return 0;
		}
	}
	return df_unknown(err, DF_EUSAGE, "tool format", name, df_tool_format_names(), NULL);
}

int
df_tools_describe(
    enum df_tool_format f, const char *tools, size_t n, const char *date, struct df_buf *out, struct df_err *err)
{
	const struct df_json_value *root;
	struct df_json *doc = NULL;
	int rc = DF_OK;

	DF_TRY(df_json_parse_exact(&doc, tools, n, "tools", err));
	root = df_json_root(doc);
	if (df_json_type(root) != DF_JSON_ARRAY) {
		rc = df_fail(err, DF_EFORMAT, "tools: expected an array, found %s", df_json_type_name(root));
		goto out;
	}
	if (df_json_size(root) == 0)
		goto out;
	for (size_t i = 0; i < df_json_size(root); i++)
		if (df_json_type(df_json_at(root, i)) != DF_JSON_OBJECT) {
			rc = df_fail(err, DF_EFORMAT, "tools[%zu]: expected an object, found %s", i,
			    df_json_type_name(df_json_at(root, i)));
			goto out;
		}
	rc = df_tool_words[f].describe(root, date, out, err);
	if (rc == 0)
		rc = df_buf_check(out, err);
	if (rc == DF_EFORMAT)
		df_err_prefix(err, "tools: ");
out:
	df_json_free(doc);
	return rc;
}

/* A call must have a name and arguments; the tool format checks their types. */
static int
check_calls(const struct df_json_value *calls, struct df_err *err)
{
	const char *name;
	size_t n;
	int rc = DF_OK;

	for (size_t i = 0; i < df_json_size(calls); i++) {
		const struct df_json_value *call = df_json_at(calls, i);

		if (df_json_type(call) != DF_JSON_OBJECT) {
			rc = df_fail(
			    err, DF_EFORMAT, "call %zu: expected an object, found %s", i, df_json_type_name(call));
			goto out;
		}
		rc = df_tool_text(call, "name", &name, &n, err);
		if (rc == 0 && !df_json_get(call, "arguments"))
			rc = df_fail(err, DF_EFORMAT, "no 'arguments'");
		if (rc != DF_OK) {
			df_err_prefix(err, "call %zu: ", i);
			goto out;
		}
	}
out:
	return rc;
}

int
df_tools_call(enum df_tool_format f, const char *calls, size_t n, struct df_buf *out, struct df_err *err)
{
	const struct df_json_value *list;
	struct df_buf text = DF_BUF_INIT;
	struct df_json *doc = NULL;
	int rc = DF_OK;

	/* A single call counts as a list of one: in brackets, a call or a list is the only member of an outer list. */
	df_buf_putc(&text, '[');
	df_buf_add(&text, calls, n);
	df_buf_putc(&text, ']');
	DF_TRY(df_buf_check(&text, err));
	DF_TRY(df_json_parse_exact(&doc, text.data, text.len, "function call", err));
	list = df_json_root(doc);
	if (df_json_size(list) != 1) {
		rc = df_fail(err, DF_EFORMAT, "function call: expected one JSON value, found %zu", df_json_size(list));
		goto out;
	}
	if (df_json_type(df_json_at(list, 0)) == DF_JSON_ARRAY)
		list = df_json_at(list, 0);
	DF_TRY(check_calls(list, err));
	DF_TRY(df_tool_words[f].call(list, out, err));
	DF_TRY(df_buf_check(out, err));
out:
	df_json_free(doc);
	df_buf_release(&text);
	return rc;
}

int
df_tools_check_date(const char *s, struct df_err *err)
{
	static const int days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int year, month, day, end = 0;
	const size_t digits = strspn(s, "0123456789-");

	if (strlen(s) == 10 && digits == 10 && s[4] == '-' && s[7] == '-' &&
	    sscanf(s, "%4d-%2d-%2d%n", &year, &month, &day, &end) == 3 && end == 10 && month >= 1 && month <= 12 &&
	    day >= 1 && day <= days[month - 1])
		return 0;
	return df_fail(err, DF_EUSAGE, "'%.40s' is not a date, YYYY-MM-DD", s);
}
