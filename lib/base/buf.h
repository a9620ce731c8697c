/*
 * buf.h - a growing byte string, with the few functions that writing JSON needs.
 *
 * `data` is never NULL after a successful call and always NUL-terminated.
 * Errors stick: after a failed allocation every further call is a no-op and
 * df_buf_check() reports it, so a chain of appends needs one check at its end.
 */
#ifndef DF_BASE_BUF_H
#define DF_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct df_buf {
	char *data;
	size_t len, cap;
	bool failed;
};
#define DF_BUF_INIT { NULL, 0, 0, false }

void df_buf_release(struct df_buf *b);
void df_buf_clear(struct df_buf *b); /* empty it, keep the storage */
/* *out = the storage, yours to free(); the buffer is empty again. */
char *df_buf_detach(struct df_buf *b);

void df_buf_add(struct df_buf *b, const void *data, size_t n);
void df_buf_puts(struct df_buf *b, const char *s);
void df_buf_putc(struct df_buf *b, char c);
/* Append a code point of at most U+10FFFF as UTF-8. */
void df_buf_put_utf8(struct df_buf *b, uint32_t c);
void df_buf_printf(struct df_buf *b, const char *fmt, ...) DF_PRINTF(2, 3);
/* Append s as a JSON string, quoted and escaped (UTF-8 kept; invalid bytes as U+FFFD). */
void df_buf_json_str(struct df_buf *b, const char *s);
void df_buf_json_strn(struct df_buf *b, const char *s, size_t n);
/* Append the shortest decimal that reads back as x (JSON; NaN and Inf as null). */
void df_buf_json_double(struct df_buf *b, double x);
/* Append [x, x, ..], each as df_buf_json_double(). */
void df_buf_json_doubles(struct df_buf *b, const double *v, size_t n);
/* 0, or DF_ENOMEM when any append failed. */
int df_buf_check(const struct df_buf *b, struct df_err *err) DF_MUST_CHECK;

#endif
