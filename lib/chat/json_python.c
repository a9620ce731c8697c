/*
 * json_python.c - JSON and texts byte for byte as Python writes them.
 *
 * When a model was trained, json.dumps and str.format wrote the descriptions of tools.  One space more, or another
 * spelling of 1e+16, would be another sequence of tokens.  So: separators ", " and ": ", non-ASCII kept, members in
 * the order of the text, and floats as by repr(): the shortest decimal that reads back, with an exponent below 1e-4
 * and from 1e16 on.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "chat/json_python.h"

/* ---- numbers ------------------------------------------------------------ */

/*
 * The digits and the exponent of the shortest decimal that reads back as x > 0: x = d.ddd * 10^*exp.  For each
 * number of digits n the nearest decimal is tried, and also the next one above it: below a power of two the gap
 * between doubles is half of the gap above, so the next one may read back when the nearest does not.
 */
static void
shortest(double x, char digits[18], int *exp)
{
	char text[40];

	for (int n = 1; n <= 17; n++) {
		uint64_t m = 0;

		snprintf(text, sizeof(text), "%.*e", n - 1, x);
		*exp = atoi(strchr(text, 'e') + 1);
		for (const char *s = text; *s != 'e'; s++)
			if (*s != '.')
				m = 10 * m + (uint64_t)(*s - '0');
		for (uint64_t k = m; k <= m + 1; k++) {
			snprintf(digits, 18, "%" PRIu64, k);
			if ((int)strlen(digits) > n)
				continue;
			snprintf(text, sizeof(text), "%se%d", digits, *exp - n + 1);
			if (strtod(text, NULL) == x)
				return;
		}
	}
}

/* repr(x) of a finite x. */
static void
put_real(struct df_buf *out, double x)
{
	char digits[18];
	int exp, n;

	if (signbit(x))
		df_buf_putc(out, '-');
	if (x == 0) {
		df_buf_puts(out, "0.0");
		return;
	}
	shortest(fabs(x), digits, &exp);
	n = (int)strlen(digits);
	while (n > 1 && digits[n - 1] == '0')
		n--;
	if (exp < -4 || exp >= 16) {
		df_buf_putc(out, digits[0]);
		if (n > 1) {
			df_buf_putc(out, '.');
			df_buf_add(out, digits + 1, (size_t)n - 1);
		}
		df_buf_printf(out, "e%c%02d", exp < 0 ? '-' : '+', abs(exp));
	} else if (exp < 0) {
		df_buf_puts(out, "0.");
		for (int i = -1; i > exp; i--)
			df_buf_putc(out, '0');
		df_buf_add(out, digits, (size_t)n);
	} else {
		for (int i = 0; i <= exp || i < n; i++) {
			if (i == exp + 1)
				df_buf_putc(out, '.');
			df_buf_putc(out, i < n ? digits[i] : '0');
		}
		if (n <= exp + 1)
			df_buf_puts(out, ".0");
	}
}

static void
put_number(struct df_buf *out, const struct df_json_value *v)
{
	int64_t i;
	double x;

	if (df_json_int(v, &i))
		df_buf_printf(out, "%" PRId64, i);
	else if (df_json_number(v, &x))
		put_real(out, x);
}

/* ---- json.dumps --------------------------------------------------------- */

/* As df_buf_json_strn, but also with the names \b and \f. */
static void
put_string(struct df_buf *out, const char *s, size_t n)
{
	static const char named[] = "\"\"\\\\\nn\rr\tt\ff\bb";
	size_t from = 0;

	df_buf_putc(out, '"');
	for (size_t i = 0; i < n; i++) {
		const unsigned char c = (unsigned char)s[i];
		size_t k = 0;

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		df_buf_add(out, s + from, i - from);
		from = i + 1;
		while (named[k] && named[k] != (char)c)
			k += 2;
		if (c && named[k])
			df_buf_printf(out, "\\%c", named[k + 1]);
		else
			df_buf_printf(out, "\\u%04x", c);
	}
	df_buf_add(out, s + from, n - from);
	df_buf_putc(out, '"');
}

static void
new_line(struct df_buf *out, int indent, int depth)
{
	df_buf_putc(out, '\n');
	for (int i = 0; i < indent * depth; i++)
		df_buf_putc(out, ' ');
}

/* The text between members, and before the first one. */
static void
separate(struct df_buf *out, bool first, int indent, int depth)
{
	if (!first)
		df_buf_puts(out, indent ? "," : ", ");
	if (indent)
		new_line(out, indent, depth);
}

void
df_json_write_python(struct df_buf *out, const struct df_json_value *v, int indent, int depth)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *value;
	const enum df_json_type type = df_json_type(v);
	const size_t size = df_json_size(v);
	const char *key, *s;
	size_t n;

	switch (type) {
	case DF_JSON_BOOL: df_buf_puts(out, df_json_bool(v, false) ? "true" : "false"); break;
	case DF_JSON_INT:
	case DF_JSON_REAL: put_number(out, v); break;
	case DF_JSON_STR:
		s = df_json_str(v, &n);
		put_string(out, s, n);
		break;
	case DF_JSON_ARRAY:
		df_buf_putc(out, '[');
		for (size_t i = 0; i < size; i++) {
			separate(out, i == 0, indent, depth + 1);
			df_json_write_python(out, df_json_at(v, i), indent, depth + 1);
		}
		if (size > 0 && indent)
			new_line(out, indent, depth);
		df_buf_putc(out, ']');
		break;
	case DF_JSON_OBJECT:
		df_buf_putc(out, '{');
		for (bool first = true; (m = df_json_next(v, m, &key, &value)) != NULL; first = false) {
			separate(out, first, indent, depth + 1);
			put_string(out, key, strlen(key));
			df_buf_puts(out, ": ");
			df_json_write_python(out, value, indent, depth + 1);
		}
		if (size > 0 && indent)
			new_line(out, indent, depth);
		df_buf_putc(out, '}');
		break;
	default: df_buf_puts(out, "null"); break;
	}
}

/* ---- str() and repr() --------------------------------------------------- */

/*
 * The characters that are not str.isprintable() in Python: controls, formats, private and unassigned ones,
 * separators except the space.
 */
static bool
is_printable(utf8proc_int32_t c)
{
	switch (utf8proc_category(c)) {
	case UTF8PROC_CATEGORY_CC:
	case UTF8PROC_CATEGORY_CF:
	case UTF8PROC_CATEGORY_CS:
	case UTF8PROC_CATEGORY_CO:
	case UTF8PROC_CATEGORY_CN:
	case UTF8PROC_CATEGORY_ZL:
	case UTF8PROC_CATEGORY_ZP: return false;
	case UTF8PROC_CATEGORY_ZS: return c == ' ';
	default: return true;
	}
}

static void
repr_string(struct df_buf *out, const char *s, size_t n)
{
	const char quote = memchr(s, '\'', n) && !memchr(s, '"', n) ? '"' : '\'';

	df_buf_putc(out, quote);
	for (size_t i = 0; i < n;) {
		utf8proc_int32_t c;
		const utf8proc_ssize_t len =
		    utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)(n - i), &c);

		if (len <= 0) /* not UTF-8: cannot happen, the JSON reader refuses it */
			break;
		if (c == quote || c == '\\')
			df_buf_printf(out, "\\%c", (char)c);
		else if (c == '\n' || c == '\r' || c == '\t')
			df_buf_puts(out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
		else if (is_printable(c))
			df_buf_add(out, s + i, (size_t)len);
		else
			df_buf_printf(out, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
		i += (size_t)len;
	}
	df_buf_putc(out, quote);
}

static void
repr(struct df_buf *out, const struct df_json_value *v)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *value;
	const char *key, *s;
	size_t n;

	switch (df_json_type(v)) {
	case DF_JSON_BOOL: df_buf_puts(out, df_json_bool(v, false) ? "True" : "False"); break;
	case DF_JSON_INT:
	case DF_JSON_REAL: put_number(out, v); break;
	case DF_JSON_STR:
		s = df_json_str(v, &n);
		repr_string(out, s, n);
		break;
	case DF_JSON_ARRAY:
		df_buf_putc(out, '[');
		for (size_t i = 0; i < df_json_size(v); i++) {
			if (i > 0)
				df_buf_puts(out, ", ");
			repr(out, df_json_at(v, i));
		}
		df_buf_putc(out, ']');
		break;
	case DF_JSON_OBJECT:
		df_buf_putc(out, '{');
		for (bool first = true; (m = df_json_next(v, m, &key, &value)) != NULL; first = false) {
			if (!first)
				df_buf_puts(out, ", ");
			repr_string(out, key, strlen(key));
			df_buf_puts(out, ": ");
			repr(out, value);
		}
		df_buf_putc(out, '}');
		break;
	default: df_buf_puts(out, "None"); break;
	}
}

void
df_json_str_python(struct df_buf *out, const struct df_json_value *v)
{
	size_t n;
	const char *s = df_json_str(v, &n);

	if (s)
		df_buf_add(out, s, n);
	else
		repr(out, v);
}
