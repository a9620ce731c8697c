/*
 * options.c - a method's options, as rows for a program's table.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "select/select.h"

int
df_opt_table_add(struct df_opt_table *t, const struct df_opt *rows, size_t n, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_grow(&t->v, &t->cap, t->n + n, sizeof(*t->v), "options", err));
	for (size_t i = 0; i < n; i++)
		t->v[t->n++] = rows[i];
out:
	return rc;
}

void
df_selector_reads(const struct df_selector *m, char reads[DF_SELECTOR_READS])
{
	reads[0] = '\0';
	for (size_t i = 0; i < m->n_inputs; i++) {
		const char *kind = m->inputs[i].kind ? df_kind_name(m->inputs[i].kind) : "any rows";
		const size_t n = strlen(reads);

		if (!strstr(reads, kind))
			snprintf(reads + n, DF_SELECTOR_READS - n, "%s%s", n ? ", " : "", kind);
	}
}

int
df_selector_defaults(const struct df_selector *m, void **options, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_alloc(options, m->defaults_size, 1, "options", err));
	if (m->defaults)
		memcpy(*options, m->defaults, m->defaults_size);
out:
	return rc;
}

void
df_selector_free(const struct df_selector *m, void *options)
{
	for (const struct df_opt *o = m && options ? m->options : NULL; o && o->name; o++)
		if (o->type == DF_OPT_LIST)
			free(((struct df_strlist *)((uintptr_t)options + (uintptr_t)o->value))->v);
	free(options);
}

int
df_selector_rows(
    const struct df_selector *m, struct df_select *in, void *options, struct df_opt_table *t, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 1; i < m->n_inputs; i++) {
		const struct df_opt row = { .name = m->inputs[i].role,
			.type = DF_OPT_LIST,
			.value = &in->paths[i],
			.arg = "FILE",
			.file = DF_FILE_READ,
			.help = m->inputs[i].help };

		DF_TRY(df_opt_table_add(t, &row, 1, err));
	}
	for (const struct df_opt *o = m->options; o && o->name; o++) {
		struct df_opt row = *o;

		row.value = (void *)((uintptr_t)options + (uintptr_t)o->value);
		DF_TRY(df_opt_table_add(t, &row, 1, err));
	}
out:
	return rc;
}

int
df_selector_rows_elsewhere(const struct df_selector *m, struct df_opt_table *t, struct df_err *err)
{
	struct df_select unused = { 0 };
	int rc = DF_OK;

	for (size_t i = 0; df_selectors[i]; i++) {
		const size_t first = t->n;

		if (df_selectors[i] == m)
			continue;
		DF_TRY(df_selector_rows(df_selectors[i], &unused, NULL, t, err));
		for (size_t j = first; j < t->n; j++) {
			t->v[j] = (struct df_opt){
				.name = t->v[j].name, .type = DF_OPT_ELSEWHERE, .help = df_selectors[i]->name
			};
		}
	}
out:
	return rc;
}
