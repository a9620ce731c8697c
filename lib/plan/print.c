/*
 * print.c - what printers share.
 */
#include <string.h>

#include "plan/print.h"

bool
df_print_is_plain(const char *s)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";

	return *s && s[strspn(s, plain)] == '\0';
}

void
df_print_sh(struct df_buf *b, const char *s)
{
	if (df_print_is_plain(s)) {
		df_buf_puts(b, s);
		return;
	}
	df_buf_putc(b, '\'');
	for (; *s; s++) {
		if (*s == '\'')
			df_buf_puts(b, "'\\''");
		else
			df_buf_putc(b, *s);
	}
	df_buf_putc(b, '\'');
}

bool
df_plan_is_result(const struct df_plan *p, const struct df_plan_node *n)
{
	for (size_t i = 0; i < n->out.n; i++) {
		if (df_plan_file(p, n->out.v[i])->read)
			return false;
	}
	return true;
}
