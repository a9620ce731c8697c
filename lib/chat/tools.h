/*
 * tools.h - the texts that describe tools to a model, and in which it calls them.
 *
 * A row may carry tools (JSON: an array of function descriptions) and turns
 * that call them (JSON: {"name": ..., "arguments": ...}, or an array of such).
 * A *tool format* is a model family's way of writing both as text.  The texts
 * are LLaMA-Factory's (data/tool_utils.py), which writes JSON with Python's
 * json module; df_json_write_python writes the same bytes.
 */
#ifndef DF_CHAT_TOOLS_H
#define DF_CHAT_TOOLS_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

enum df_tool_format {
	DF_TOOLS_DEFAULT, /* "Action: NAME", "Action Input: JSON" */
	DF_TOOLS_GLM4,
	DF_TOOLS_GLM4_MOE,
	DF_TOOLS_LING,
	DF_TOOLS_LLAMA3,  /* its prompt has today's date */
	DF_TOOLS_MINIMAX1,
	DF_TOOLS_MISTRAL,
	DF_TOOLS_QWEN,
	DF_TOOLS_SEED_OSS,
	DF_TOOLS_COUNT
};

const char *df_tool_format_name(enum df_tool_format f); /* "default", "glm4", ... as LLaMA-Factory spells them */
/* All names, NULL at the end.  First called by one thread. */
const char *const *df_tool_format_names(void);
/* The format of that name.  DF_EUSAGE suggests the nearest known one. */
int df_tool_format_find(enum df_tool_format *out, const char *name, struct df_err *err) DF_MUST_CHECK;

/*
 * Append the text that describes the tools of a row: it goes after the system text.  `tools` is JSON, an array; an
 * empty one gives no text.  `date` ("2024-07-26") is today's date for the format llama3; other formats do not use
 * it.  DF_EUSAGE when it is needed and NULL, DF_EFORMAT when `tools` is not a list of functions.
 */
int df_tools_describe(enum df_tool_format f, const char *tools, size_t n, const char *date, struct df_buf *out,
    struct df_err *err) DF_MUST_CHECK;

/* Append the text of the calls in a turn: n bytes of JSON, a call or an array of them.  DF_EFORMAT. */
int df_tools_call(enum df_tool_format f, const char *calls, size_t n, struct df_buf *out,
    struct df_err *err) DF_MUST_CHECK;

/* Is s a date that exists, "YYYY-MM-DD"?  DF_EUSAGE when not. */
int df_tools_check_date(const char *s, struct df_err *err) DF_MUST_CHECK;

#endif
