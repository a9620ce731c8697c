/*
 * tools_priv.h - declarations that tools.c (which parses and checks) and tools_formats.c (which writes the text)
 * share.
 */
#ifndef DF_CHAT_TOOLS_PRIV_H
#define DF_CHAT_TOOLS_PRIV_H

#include "chat/tools.h"

struct df_tool_words {
	const char *name;
	/* A list of at least one object; date is NULL or well-formed. */
	int (*describe)(const struct df_json_value *tools, const char *date, struct df_buf *out, struct df_err *err);
	/* A list of objects, each with the string "name" and with "arguments" of any type. */
	int (*call)(const struct df_json_value *calls, struct df_buf *out, struct df_err *err);
};
extern const struct df_tool_words df_tool_words[DF_TOOLS_COUNT];

/* A member that must be a string. */
int df_tool_text(const struct df_json_value *obj, const char *key, const char **s, size_t *n,
    struct df_err *err) DF_MUST_CHECK;

#endif
