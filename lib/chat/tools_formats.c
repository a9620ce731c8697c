/*
 * tools_formats.c - the text of each model family: how it lists tools, and how it writes calls.
 *
 * Both go through parsed JSON and write it with Python's spelling.  Where LLaMA-Factory raises an exception (a tool
 * without a name, parameters that are not an object), there is an error that names the fault.
 */
#include <string.h>

#include "chat/json_python.h"
#include "chat/tools_priv.h"

/* ---- reading ------------------------------------------------------------ */

int
df_tool_text(const struct df_json_value *obj, const char *key, const char **s, size_t *n, struct df_err *err)
{
	const struct df_json_value *v = df_json_get(obj, key);

	*s = df_json_str(v, n);
	return *s ? 0 : df_fail(err, DF_EFORMAT, "'%s': expected a string, found %s", key, df_json_type_name(v));
}

static int
get_object(const struct df_json_value *obj, const char *key, const struct df_json_value **out, struct df_err *err)
{
	*out = df_json_get(obj, key);
	if (df_json_type(*out) == DF_JSON_OBJECT)
		return 0;
	return df_fail(err, DF_EFORMAT, "'%s': expected an object, found %s", key, df_json_type_name(*out));
}

static bool
is_text(const struct df_json_value *v, const char *text)
{
	size_t n;
	const char *s = df_json_str(v, &n);

	return s && n == strlen(text) && memcmp(s, text, n) == 0;
}

/* Is it {"type": "function", "function": {...}}, as OpenAI wraps a tool? */
static bool
is_wrapped(const struct df_json_value *tool)
{
	return is_text(df_json_get(tool, "type"), "function");
}

/* The function inside, or the tool itself when it is not wrapped. */
static int
unwrap(const struct df_json_value *tool, const struct df_json_value **out, struct df_err *err)
{
	*out = tool;
	return is_wrapped(tool) ? get_object(tool, "function", out, err) : 0;
}

/* ---- writing ------------------------------------------------------------ */

static void
put_json(struct df_buf *out, const struct df_json_value *v)
{
	df_json_write_python(out, v, 0, 0);
}

/* {"NAME": "...", "ARGS": ...} */
static void
put_call(struct df_buf *out, const struct df_json_value *call, const char *args)
{
	df_buf_puts(out, "{\"name\": ");
	put_json(out, df_json_get(call, "name"));
	df_buf_printf(out, ", \"%s\": ", args);
	put_json(out, df_json_get(call, "arguments"));
	df_buf_putc(out, '}');
}

static void
put_name(struct df_buf *out, const struct df_json_value *call)
{
	df_json_str_python(out, df_json_get(call, "name"));
}

/* The tool as OpenAI wraps it, whether the row wraps it or not. */
static void
put_wrapped(struct df_buf *out, const struct df_json_value *tool, int indent)
{
	if (is_wrapped(tool)) {
		df_json_write_python(out, tool, indent, 0);
		return;
	}
	df_buf_puts(out,
	    indent ? "{\n    \"type\": \"function\",\n    \"function\": " : "{\"type\": \"function\", \"function\": ");
	df_json_write_python(out, tool, indent, 1);
	df_buf_puts(out, indent ? "\n}" : "}");
}

/* ---- default ------------------------------------------------------------ */

/* Is `name` in a tool's list of required parameters? */
static bool
is_required(const struct df_json_value *parameters, const char *name)
{
	const struct df_json_value *list = df_json_get(parameters, "required");

	for (size_t i = 0; df_json_type(list) == DF_JSON_ARRAY && i < df_json_size(list); i++)
		if (is_text(df_json_at(list, i), name))
			return true;
	return false;
}

/* str(param.get(key, "")) */
static void
put_member(struct df_buf *out, const struct df_json_value *obj, const char *key)
{
	const struct df_json_value *v = df_json_get(obj, key);

	if (v)
		df_json_str_python(out, v);
}

/* "  - name (type, required): description, should be one of [a, b], where each item should be type" */
static int
put_param(struct df_buf *out, const struct df_json_value *parameters, const char *name,
    const struct df_json_value *param, struct df_err *err)
{
	const struct df_json_value *choices, *items;
	int rc = DF_OK;

	if (df_json_type(param) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "parameter '%.100s': expected an object, found %s", name,
		    df_json_type_name(param));
	df_buf_printf(out, "  - %s (", name);
	put_member(out, param, "type");
	df_buf_puts(out, is_required(parameters, name) ? ", required): " : "): ");
	put_member(out, param, "description");
	choices = df_json_get(param, "enum");
	if (choices && df_json_type(choices) != DF_JSON_NULL &&
	    (df_json_type(choices) != DF_JSON_ARRAY || df_json_size(choices) > 0)) {
		df_buf_puts(out, ", should be one of [");
		for (size_t i = 0; i < df_json_size(choices) || i == 0; i++) {
			const struct df_json_value *c = df_json_at(choices, i);

			if (df_json_type(c) != DF_JSON_STR) {
				rc = df_fail(err, DF_EFORMAT, "parameter '%.100s': 'enum': expected strings, found %s",
				    name, df_json_type_name(c ? c : choices));
				goto out;
			}
			if (i > 0)
				df_buf_puts(out, ", ");
			df_json_str_python(out, c);
		}
		df_buf_putc(out, ']');
	}
	items = df_json_get(param, "items");
	if (df_json_type(items) == DF_JSON_OBJECT && df_json_size(items) > 0) {
		df_buf_puts(out, ", where each item should be ");
		put_member(out, items, "type");
	}
	df_buf_putc(out, '\n');
out:
	return rc;
}

static int
default_describe(const struct df_json_value *tools, const char *date, struct df_buf *out, struct df_err *err)
{
	const struct df_json_value *tool, *parameters, *properties, *param;
	struct df_buf names = DF_BUF_INIT;
	const char *name;
	size_t n;
	int rc = DF_OK;

	(void)date;
	df_buf_puts(out, "You have access to the following tools:\n");
	for (size_t i = 0; i < df_json_size(tools); i++) {
		const struct df_json_member *m = NULL;

		DF_TRY(unwrap(df_json_at(tools, i), &tool, err));
		DF_TRY(df_tool_text(tool, "name", &name, &n, err));
		DF_TRY(get_object(tool, "parameters", &parameters, err));
		DF_TRY(get_object(parameters, "properties", &properties, err));
		df_buf_puts(out, "> Tool Name: ");
		df_buf_add(out, name, n);
		df_buf_puts(out, "\nTool Description: ");
		put_member(out, tool, "description");
		df_buf_puts(out, "\nTool Args:\n");
		df_buf_puts(&names, names.len ? ", " : "");
		df_buf_add(&names, name, n);
		while ((m = df_json_next(properties, m, &name, &param)) != NULL)
			DF_TRY(put_param(out, parameters, name, param, err));
		df_buf_putc(out, '\n');
	}
	df_buf_puts(out, "Use the following format if using a tool:\n```\nAction: tool name (one of [");
	df_buf_add(out, names.data, names.len);
	df_buf_puts(out,
	    "])\nAction Input: the input to the tool, in a JSON format representing the kwargs "
	    "(e.g. ```{\"input\": \"hello world\", \"num_beams\": 5}```)\n```\n");
	rc = df_buf_check(&names, err);
out:
	df_buf_release(&names);
	return rc;
}

static int
default_call(const struct df_json_value *calls, struct df_buf *out, struct df_err *err)
{
	(void)err;
	for (size_t i = 0; i < df_json_size(calls); i++) {
		const struct df_json_value *call = df_json_at(calls, i);

		df_buf_puts(out, i ? "\nAction: " : "Action: ");
		put_name(out, call);
		df_buf_puts(out, "\nAction Input: ");
		put_json(out, df_json_get(call, "arguments"));
	}
	return 0;
}

/* ---- glm4, glm4_moe ----------------------------------------------------- */

static int
glm4_describe(const struct df_json_value *tools, const char *date, struct df_buf *out, struct df_err *err)
{
	const struct df_json_value *tool;
	const char *name;
	size_t n;
	int rc = DF_OK;

	(void)date;
	df_buf_puts(out,
	    "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱 AI 公司训练的语言模型 GLM-4 模型开发的，"
	    "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具");
	for (size_t i = 0; i < df_json_size(tools); i++) {
		DF_TRY(unwrap(df_json_at(tools, i), &tool, err));
		DF_TRY(df_tool_text(tool, "name", &name, &n, err));
		df_buf_puts(out, "\n\n## ");
		df_buf_add(out, name, n);
		df_buf_puts(out, "\n\n");
		df_json_write_python(out, tool, 4, 0);
		df_buf_puts(out, "\n在调用上述函数时，请使用 Json 格式表示调用的参数。");
	}
out:
	return rc;
}

static int
glm4_call(const struct df_json_value *calls, struct df_buf *out, struct df_err *err)
{
	if (df_json_size(calls) != 1)
		return df_fail(
		    err, DF_EFORMAT, "%zu calls in one turn: the format glm4 has room for one", df_json_size(calls));
	put_name(out, df_json_at(calls, 0));
	df_buf_putc(out, '\n');
	put_json(out, df_json_get(df_json_at(calls, 0), "arguments"));
	return 0;
}

/* One wrapped tool per line, between two texts: first used by qwen, then by others. */
static void
put_lines(struct df_buf *out, const char *before, const struct df_json_value *tools, const char *after)
{
	df_buf_puts(out, before);
	df_buf_puts(out,
	    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
	    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>");
	for (size_t i = 0; i < df_json_size(tools); i++) {
		df_buf_putc(out, '\n');
		put_wrapped(out, df_json_at(tools, i), 0);
	}
	df_buf_puts(out, "\n</tools>\n\nFor each function call, ");
	df_buf_puts(out, after);
}

static int
glm4_moe_describe(const struct df_json_value *tools, const char *date, struct df_buf *out, struct df_err *err)
{
	(void)date;
	(void)err;
	put_lines(out, "\n\n", tools,
	    "output the function name and arguments within the following XML format:\n"
	    "<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>{arg-value-1}</arg_value>\n"
	    "<arg_key>{arg-key-2}</arg_key>\n<arg_value>{arg-value-2}</arg_value>\n...\n</tool_call>\n");
	return 0;
}

/* Arguments one by one: strings as they are, everything else as JSON. */
static void
put_value(struct df_buf *out, const struct df_json_value *v)
{
	if (df_json_type(v) == DF_JSON_STR)
		df_json_str_python(out, v);
	else
		put_json(out, v);
}

static int
glm4_moe_call(const struct df_json_value *calls, struct df_buf *out, struct df_err *err)
{
	const struct df_json_value *args, *value;
	const char *key;
	int rc = DF_OK;

	for (size_t i = 0; i < df_json_size(calls); i++) {
		const struct df_json_member *m = NULL;

		DF_TRY(get_object(df_json_at(calls, i), "arguments", &args, err));
		df_buf_puts(out, i ? "\n\n<tool_call>" : "\n<tool_call>");
		put_name(out, df_json_at(calls, i));
		while ((m = df_json_next(args, m, &key, &value)) != NULL) {
			df_buf_printf(out, "\n<arg_key>%s</arg_key>\n<arg_value>", key);
			put_value(out, value);
			df_buf_puts(out, "</arg_value>");
		}
	}
out:
	return rc;
}

/* ---- qwen, ling --------------------------------------------------------- */

static const char qwen_after[] =
    "return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    "{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>";

static int
qwen_describe(const struct df_json_value *tools, const char *date, struct df_buf *out, struct df_err *err)
{
	(void)date;
	(void)err;
	put_lines(out, "\n\n", tools, qwen_after);
	return 0;
}

static int
ling_describe(const struct df_json_value *tools, const char *date, struct df_buf *out, struct df_err *err)
{
	(void)date;
	(void)err;
	put_lines(out, "", tools, qwen_after);
	df_buf_puts(out, "\ndetailed thinking off");
	return 0;
}

static int
qwen_call(const struct df_json_value *calls, struct df_buf *out, struct df_err *err)
{
	(void)err;
	for (size_t i = 0; i < df_json_size(calls); i++) {
		df_buf_puts(out, i ? "\n<tool_call>\n" : "<tool_call>\n");
		put_call(out, df_json_at(calls, i), "arguments");
		df_buf_puts(out, "\n</tool_call>");
	}
	return 0;
}

/* ---- llama3 ------------------------------------------------------------- */

static int
llama3_describe(const struct df_json_value *tools, const char *date, struct df_buf *out, struct df_err *err)
{
	static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct",
		"Nov", "Dec" };

	if (!date)
		return df_fail(err, DF_EUSAGE,
		    "tools in llama3's format come with today's date: "
		    "give the one that is meant as --date YYYY-MM-DD");
	df_buf_printf(out, "Cutting Knowledge Date: December 2023\nToday Date: %.2s %s %.4s\n\n", date + 8,
	    months[(date[5] - '0') * 10 + (date[6] - '0') - 1], date);
	df_buf_puts(out,
	    "You have access to the following functions. To call a function, please respond with JSON for "
	    "a function call. Respond in the format {\"name\": function name, \"parameters\": dictionary of "
	    "argument name and its value}. Do not use variables.\n\n");
	for (size_t i = 0; i < df_json_size(tools); i++) {
		put_wrapped(out, df_json_at(tools, i), 4);
		df_buf_puts(out, "\n\n");
	}
	return 0;
}

/* One call bare, any other number as an array. */
static int
llama3_call(const struct df_json_value *calls, struct df_buf *out, struct df_err *err)
{
	const size_t n = df_json_size(calls);

	(void)err;
	df_buf_puts(out, n == 1 ? "" : "[");
	for (size_t i = 0; i < n; i++) {
		df_buf_puts(out, i ? ", " : "");
		put_call(out, df_json_at(calls, i), "parameters");
	}
	df_buf_puts(out, n == 1 ? "" : "]");
	return 0;
}

/* ---- minimax1 ----------------------------------------------------------- */

static int
minimax1_describe(const struct df_json_value *tools, const char *date, struct df_buf *out, struct df_err *err)
{
	const struct df_json_value *tool;
	int rc = DF_OK;

	(void)date;
	df_buf_puts(out, "You are provided with these tools:\n<tools>\n");
	for (size_t i = 0; i < df_json_size(tools); i++) {
		DF_TRY(unwrap(df_json_at(tools, i), &tool, err));
		put_json(out, tool);
		df_buf_putc(out, '\n');
	}
	df_buf_puts(out,
	    "</tools>\n\nIf you need to call tools, please respond with <tool_calls></tool_calls> XML tags, "
	    "and provide tool-name and json-object of arguments, following the format below:\n<tool_calls>\n"
	    "{\"name\": <tool-name-1>, \"arguments\": <args-json-object-1>}\n...\n</tool_calls>");
out:
	return rc;
}

static int
minimax1_call(const struct df_json_value *calls, struct df_buf *out, struct df_err *err)
{
	(void)err;
	df_buf_puts(out, "<tool_calls>\n");
	for (size_t i = 0; i < df_json_size(calls); i++) {
		df_buf_puts(out, i ? "\n" : "");
		put_call(out, df_json_at(calls, i), "arguments");
	}
	df_buf_puts(out, "\n</tool_calls>");
	return 0;
}

/* ---- mistral ------------------------------------------------------------ */

static int
mistral_describe(const struct df_json_value *tools, const char *date, struct df_buf *out, struct df_err *err)
{
	(void)date;
	(void)err;
	df_buf_puts(out, "[AVAILABLE_TOOLS] [");
	for (size_t i = 0; i < df_json_size(tools); i++) {
		df_buf_puts(out, i ? ", " : "");
		put_wrapped(out, df_json_at(tools, i), 0);
	}
	df_buf_puts(out, "][/AVAILABLE_TOOLS]");
	return 0;
}

static int
mistral_call(const struct df_json_value *calls, struct df_buf *out, struct df_err *err)
{
	(void)err;
	df_buf_putc(out, '[');
	for (size_t i = 0; i < df_json_size(calls); i++) {
		df_buf_puts(out, i ? ", " : "");
		put_call(out, df_json_at(calls, i), "arguments");
	}
	df_buf_putc(out, ']');
	return 0;
}

/* ---- seed_oss ----------------------------------------------------------- */

static int
seed_describe(const struct df_json_value *tools, const char *date, struct df_buf *out, struct df_err *err)
{
	(void)date;
	(void)err;
	df_buf_puts(out,
	    "system\nYou are Doubao, a helpful AI assistant. You may call one or more functions to assist "
	    "with the user query.Tool List:\nYou are authorized to use the following tools (described in "
	    "JSON Schema format). Before performing any task, you must decide how to call them based on the "
	    "descriptions and parameters of these tools.\n");
	put_json(out, tools);
	df_buf_puts(out,
	    "\n工具调用请遵循如下格式:\n<seed:tool_call>\n<function=example_function_name>\n"
	    "<parameter=example_parameter_1>value_1</parameter>\n<parameter=example_parameter_2>This is the "
	    "value for the second parameter\nthat can span\nmultiple lines</parameter>\n</function>\n"
	    "</seed:tool_call>\n");
	return 0;
}

static int
seed_call(const struct df_json_value *calls, struct df_buf *out, struct df_err *err)
{
	const struct df_json_value *args, *value;
	const char *key;
	int rc = DF_OK;

	for (size_t i = 0; i < df_json_size(calls); i++) {
		const struct df_json_member *m = NULL;

		DF_TRY(get_object(df_json_at(calls, i), "arguments", &args, err));
		df_buf_puts(out, i ? "\n\n<seed:tool_call>\n<function=" : "\n<seed:tool_call>\n<function=");
		put_name(out, df_json_at(calls, i));
		while ((m = df_json_next(args, m, &key, &value)) != NULL) {
			df_buf_printf(out, "\n<parameter=%s>", key);
			put_value(out, value);
			df_buf_puts(out, "</parameter>");
		}
		df_buf_puts(out, "\n</function>\n</seed:tool_call>");
	}
out:
	return rc;
}

/* ---- the formats -------------------------------------------------------- */

const struct df_tool_words df_tool_words[DF_TOOLS_COUNT] = {
	[DF_TOOLS_DEFAULT] = { "default", default_describe, default_call },
	[DF_TOOLS_GLM4] = { "glm4", glm4_describe, glm4_call },
	[DF_TOOLS_GLM4_MOE] = { "glm4_moe", glm4_moe_describe, glm4_moe_call },
	[DF_TOOLS_LING] = { "ling", ling_describe, qwen_call },
	[DF_TOOLS_LLAMA3] = { "llama3", llama3_describe, llama3_call },
	[DF_TOOLS_MINIMAX1] = { "minimax1", minimax1_describe, minimax1_call },
	[DF_TOOLS_MISTRAL] = { "mistral", mistral_describe, mistral_call },
	[DF_TOOLS_QWEN] = { "qwen", qwen_describe, qwen_call },
	[DF_TOOLS_SEED_OSS] = { "seed_oss", seed_describe, seed_call },
};
