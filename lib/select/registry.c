/*
 * registry.c - the selection methods that there are: a new one is one line here.
 */
#include "select/select.h"

#include <stdio.h>
#include <string.h>

#include "base/words.h"

/* In the order of df-score --list. */
/* clang-format off */
#define METHODS(method) \
	method(less) \
	method(cluster) \
	method(cluster_less) \
	method(nice) \
	method(loss) \
	method(delta_loss) \
	method(near) \
	method(tsds) \
	method(rds) \
	method(dsir) \
	method(ppl) \
	method(ifd) \
	method(semdedup) \
	method(diverse) \
	method(combine) \
	method(random) \
	method(static) \
	method(custom)
/* clang-format on */

/* Of --list: name, reads, model, cost, about. */
#define ROW "%-12s %-26s %-6s %-12s %s\n"

#define DECLARE(name) extern const struct df_selector df_select_##name;
#define ADDRESS(name) &df_select_##name,

METHODS(DECLARE)
const struct df_selector *const df_selectors[] = { METHODS(ADDRESS) NULL };

int
df_selector_find(const struct df_selector **out, const char *name, struct df_err *err)
{
	const char *names[sizeof(df_selectors) / sizeof(df_selectors[0])] = { NULL };

	for (size_t i = 0; df_selectors[i]; i++) {
		names[i] = df_selectors[i]->name;
		if (strcmp(names[i], name) == 0) {
			*out = df_selectors[i];
			return DF_OK;
		}
	}
	return df_unknown(err, DF_EUSAGE, "method", name, names, "df-score --list names them");
}

/* ---- for people ------------------------------------------------------------------------------- */

static void
list_one(const struct df_selector *m, struct df_buf *out)
{
	char reads[128] = "";

	for (size_t i = 0; i < m->n_inputs; i++) {
		const char *kind = m->inputs[i].kind ? df_kind_name(m->inputs[i].kind) : "any rows";
		const size_t n = strlen(reads);

		if (!strstr(reads, kind))
			snprintf(reads + n, sizeof(reads) - n, "%s%s", n ? ", " : "", kind);
	}
	df_buf_printf(out, ROW, m->name, reads, m->model, m->cost, m->about);
}

void
df_selector_list(const struct df_selector *foreign, struct df_buf *out)
{
	df_buf_printf(out, ROW, "method", "reads", "model", "cost", "chooses");
	for (size_t i = 0; df_selectors[i]; i++)
		list_one(df_selectors[i], out);
	if (foreign)
		list_one(foreign, out);
}

void
df_selector_help(const struct df_selector *m, struct df_buf *synopsis, struct df_buf *about)
{
	df_buf_printf(synopsis, "%s [options] --train FILE [FILE...]", m ? m->name : "METHOD");
	for (size_t i = 1; m && i < m->n_inputs; i++)
		df_buf_printf(synopsis, m->inputs[i].optional ? " [--%s FILE]" : " --%s FILE", m->inputs[i].role);
	df_buf_puts(synopsis, " [-n N] -o INDEX");
	if (m) {
		df_buf_printf(about, "Choose samples to train on: %s.", m->about);
		return;
	}
	df_buf_puts(about, "Score samples and choose which ones to train on.  Methods:");
	for (size_t i = 0; df_selectors[i]; i++)
		df_buf_printf(about, "%s %s", i ? "," : "", df_selectors[i]->name);
	df_buf_puts(about, "; df-score METHOD -h lists the options of one.");
}
