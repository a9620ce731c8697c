/*
 * lower.h - lower case, as Python's str.lower().
 */
#ifndef DF_TOKEN_LOWER_H
#define DF_TOKEN_LOWER_H

#include "base/buf.h"
#include "base/err.h"

/* Append the lower case of n bytes of UTF-8; DF_EFORMAT, with the offset, when they are not UTF-8.  Any thread. */
int df_text_lower(struct df_buf *out, const char *s, size_t n, struct df_err *err) DF_MUST_CHECK;

#endif
