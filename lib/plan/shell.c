/*
 * shell.c - commands and comments as a shell script has them.
 */
#include "plan/shell.h"

#include <string.h>

#include "plan/print.h"

#define COLUMNS 112 /* lines are broken before an option that would end beyond this */

static void
add_word(struct df_buf *out, const char *word, const char *shard)
{
	if (strcmp(word, DF_PLAN_SHARD) == 0)
		df_buf_puts(out, shard);
	else
		df_print_sh(out, word);
}

/* Columns of the last line. */
static size_t
column(const struct df_buf *out)
{
	size_t n = 0;

	while (n < out->len && out->data[out->len - 1 - n] != '\n')
		n++;
	return n;
}

/* An option stays with the word after it. */
void
df_print_command(struct df_buf *out, const struct df_plan_node *node, const char *shard, const char *indent)
{
	struct df_buf unit = DF_BUF_INIT;
	const struct df_strlist *a = &node->argv;
	const size_t from = out->len;

	for (size_t i = 0; i < a->n;) {
		const bool option = i > 0 && a->v[i][0] == '-' && a->v[i][1] != '\0';

		df_buf_clear(&unit);
		add_word(&unit, a->v[i++], shard);
		if (option && i < a->n && a->v[i][0] != '-') {
			df_buf_putc(&unit, ' ');
			add_word(&unit, a->v[i++], shard);
		}
		if (out->len > from && column(out) + 1 + unit.len + 2 > COLUMNS) {
			df_buf_puts(out, " \\\n");
			df_buf_puts(out, indent);
		} else if (out->len > from) {
			df_buf_putc(out, ' ');
		}
		df_buf_add(out, unit.data, unit.len);
	}
	out->failed = out->failed || unit.failed;
	df_buf_release(&unit);
}

void
df_print_comment(struct df_buf *out, const char *mark, const char *text)
{
	df_buf_puts(out, mark);
	df_buf_putc(out, ' ');
	for (; *text != '\0'; text++) {
		df_buf_putc(out, *text);
		if (*text == '\n') {
			df_buf_puts(out, mark);
			df_buf_putc(out, ' ');
		}
	}
	df_buf_putc(out, '\n');
}

bool
df_plan_runs_model(const struct df_plan_node *node)
{
	static const char *const programs[] = { "df-train", "df-grad", "df-embed", "df-sample", "df-eval", NULL };

	for (size_t i = 0; programs[i] != NULL; i++)
		if (node->argv.n > 0 && strcmp(node->argv.v[0], programs[i]) == 0)
			return true;
	return false;
}
