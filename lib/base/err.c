/*
 * err.c - filling in struct df_err.
 *
 * Messages carry text from files that may be hostile (names, keys, tokens), so
 * control characters are escaped as they enter: a message is always one line
 * and cannot drive a terminal.
 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A cut may leave the beginning of a UTF-8 character at the end: drop it. */
static void
drop_half_character(const char *msg, size_t *len)
{
	size_t i = *len, want;
	unsigned char lead;

	while (i > 0 && *len - i < 3 && ((unsigned char)msg[i - 1] & 0xC0) == 0x80)
		i--;
	if (i == 0)
		return;
	lead = (unsigned char)msg[i - 1];
	want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
	if (want > 1 && *len - (i - 1) < want)
		*len = i - 1;
}

/* Append src to the message of length *len, escaping control characters (C0, DEL, C1), cutting at its end. */
static void
append(char *msg, size_t *len, const char *src)
{
	for (; *src; src++) {
		unsigned char c = (unsigned char)*src, c1 = c == 0xC2 ? (unsigned char)src[1] : 0;
		char esc[8];
		size_t n = 1;

		esc[0] = *src;
		if (c == '\n' || c == '\t' || c == '\r') {
			esc[0] = '\\';
			esc[1] = c == '\n' ? 'n' : c == '\t' ? 't' : 'r';
			n = 2;
		} else if (c < 0x20 || c == 0x7f) {
			n = (size_t)snprintf(esc, sizeof(esc), "\\x%02x", c);
		} else if (c1 >= 0x80 && c1 < 0xA0) {
			n = (size_t)snprintf(esc, sizeof(esc), "\\u%04x", c1);
			src++;
		}
		if (*len + n >= DF_ERR_MAX)
			break;
		memcpy(msg + *len, esc, n);
		*len += n;
	}
	drop_half_character(msg, len);
	msg[*len] = '\0';
}

int
df_fail_at(struct df_err *err, int code, const char *file, int line, const char *fmt, ...)
{
	int saved = errno;
	char text[DF_ERR_MAX];
	size_t n = strlen(fmt), len = 0;
	va_list ap;

	if (err == NULL)
		return code;
	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		snprintf(text, sizeof(text), "%s", fmt);
	va_end(ap);
	err->code = code;
	err->file = file;
	err->line = line;
	err->sys = 0;
	append(err->msg, &len, text);
	if (n > 0 && fmt[n - 1] == ':') {
		append(err->msg, &len, " ");
		append(err->msg, &len, strerror(saved));
		err->sys = saved;
	}
	errno = saved;
	return code;
}

void
df_err_prefix(struct df_err *err, const char *fmt, ...)
{
	char text[DF_ERR_MAX], old[DF_ERR_MAX];
	size_t len = 0;
	va_list ap;

	if (err == NULL || err->code == DF_OK)
		return;
	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	memcpy(old, err->msg, sizeof(old));
	append(err->msg, &len, text);
	/* `old` is escaped already; append() leaves printable text as it is. */
	append(err->msg, &len, old);
}

void
df_err_suffix(struct df_err *err, const char *fmt, ...)
{
	char text[DF_ERR_MAX];
	size_t len;
	va_list ap;

	if (err == NULL || err->code == DF_OK)
		return;
	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	len = strlen(err->msg);
	append(err->msg, &len, text);
}

int
df_err_exit_status(int code)
{
	switch (code) {
	case DF_OK: return 0;
	case DF_EUSAGE: return 64;
	case DF_EFORMAT:
	case DF_ERANGE:
	case DF_ELINEAGE: return 65;
	case DF_ENOINPUT: return 66;
	case DF_EUNSUPPORTED:
	case DF_EDEVICE: return 69;
	case DF_ENOMEM: return 71;
	case DF_ECREATE: return 73;
	case DF_EIO: return 74;
	case DF_ESTOPPED: return 75;
	case DF_ECONFIG: return 78;
	default: return 70;
	}
}
