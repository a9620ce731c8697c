/*
 * buf.c - the growing byte string.
 */
#include "base/buf.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

void
df_buf_release(struct df_buf *b)
{
	free(b->data);
	*b = (struct df_buf)DF_BUF_INIT;
}

void
df_buf_clear(struct df_buf *b)
{
	b->len = 0;
	b->failed = false;
	if (b->data)
		b->data[0] = '\0';
}

char *
df_buf_detach(struct df_buf *b)
{
	char *data = b->data;

	*b = (struct df_buf)DF_BUF_INIT;
	return data;
}

/* Room for n more bytes and the NUL. */
static bool
reserve(struct df_buf *b, size_t n)
{
	size_t cap = b->cap ? b->cap : 64;
	char *p;

	if (b->failed)
		return false;
	if (n > SIZE_MAX / 4 || b->len > SIZE_MAX / 4) {
		b->failed = true;
		return false;
	}
	if (b->len + n + 1 <= b->cap)
		return true;
	while (cap < b->len + n + 1)
		cap *= 2;
	p = realloc(b->data, cap);
	if (p == NULL) {
		b->failed = true;
		return false;
	}
	b->data = p;
	b->cap = cap;
	b->data[b->len] = '\0';
	return true;
}

void
df_buf_add(struct df_buf *b, const void *data, size_t n)
{
	if (!reserve(b, n))
		return;
	if (n > 0)
		memcpy(b->data + b->len, data, n);
	b->len += n;
	b->data[b->len] = '\0';
}

void
df_buf_puts(struct df_buf *b, const char *s)
{
	df_buf_add(b, s, strlen(s));
}

void
df_buf_putc(struct df_buf *b, char c)
{
	df_buf_add(b, &c, 1);
}

void
df_buf_printf(struct df_buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0) {
		b->failed = true;
		return;
	}
	if (!reserve(b, (size_t)n))
		return;
	va_start(ap, fmt);
	vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}

void
df_buf_put_utf8(struct df_buf *b, uint32_t c)
{
	if (c < 0x80) {
		df_buf_putc(b, (char)c);
	} else if (c < 0x800) {
		df_buf_putc(b, (char)(0xC0 | c >> 6));
		df_buf_putc(b, (char)(0x80 | (c & 0x3F)));
	} else if (c < 0x10000) {
		df_buf_putc(b, (char)(0xE0 | c >> 12));
		df_buf_putc(b, (char)(0x80 | (c >> 6 & 0x3F)));
		df_buf_putc(b, (char)(0x80 | (c & 0x3F)));
	} else {
		df_buf_putc(b, (char)(0xF0 | c >> 18));
		df_buf_putc(b, (char)(0x80 | (c >> 12 & 0x3F)));
		df_buf_putc(b, (char)(0x80 | (c >> 6 & 0x3F)));
		df_buf_putc(b, (char)(0x80 | (c & 0x3F)));
	}
}

void
df_buf_json_strn(struct df_buf *b, const char *s, size_t n)
{
	df_buf_putc(b, '"');
	for (size_t i = 0; i < n;) {
		unsigned char c = (unsigned char)s[i];
		size_t len = df_utf8_len((const unsigned char *)s + i, n - i);

		if (len == 0) {
			df_buf_puts(b, "\xEF\xBF\xBD");
			len = 1;
		} else if (c == '"' || c == '\\') {
			df_buf_putc(b, '\\');
			df_buf_putc(b, (char)c);
		} else if (c == '\n') {
			df_buf_puts(b, "\\n");
		} else if (c == '\t') {
			df_buf_puts(b, "\\t");
		} else if (c == '\r') {
			df_buf_puts(b, "\\r");
		} else if (c < 0x20) {
			df_buf_printf(b, "\\u%04x", c);
		} else {
			df_buf_add(b, s + i, len);
		}
		i += len;
	}
	df_buf_putc(b, '"');
}

void
df_buf_json_str(struct df_buf *b, const char *s)
{
	df_buf_json_strn(b, s, strlen(s));
}

void
df_buf_json_double(struct df_buf *b, double x)
{
	char text[40];

	if (!isfinite(x)) {
		df_buf_puts(b, "null");
		return;
	}
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, x);
		/* 100 rather than 1e+02: a reader gets whole numbers as integers */
		if (strtod(text, NULL) == x && (fabs(x) < 1 || fabs(x) >= 1e15 || !strchr(text, 'e')))
			break;
	}
	df_buf_puts(b, text);
}

void
df_buf_json_doubles(struct df_buf *b, const double *v, size_t n)
{
	df_buf_putc(b, '[');
	for (size_t i = 0; i < n; i++) {
		df_buf_puts(b, i ? ", " : "");
		df_buf_json_double(b, v[i]);
	}
	df_buf_putc(b, ']');
}

int
df_buf_check(const struct df_buf *b, struct df_err *err)
{
	return b->failed ? df_fail(err, DF_ENOMEM, "out of memory for a text of %zu bytes", b->len) : DF_OK;
}
