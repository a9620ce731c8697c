/*
 * options.c - the options of a selection, as rows for a program's table.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "select/select.h"

int
df_selector_defaults(const struct df_selector *m, void **options, struct df_err *err)
{
	return df_opt_defaults(options, m->defaults, m->defaults_size, err);
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
	DF_TRY(df_opt_table_bind(t, m->options, options, err));
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

/* ---- what all methods share ------------------------------------------------------------------ */

static const char *const shortages[] = { DF_SHORTAGE_NAMES, NULL };
static const char *const rngs[] = { "philox", "torch", NULL };
static const char *const compats[] = { "none", "dataflex", NULL };

int
df_select_rows(const struct df_selector *m, struct df_select *in, struct df_select_words *w, struct df_opt_table *t,
    struct df_err *err)
{
	/* clang-format off */
	const struct df_opt rows[] = {
		{ .name = "train", .type = DF_OPT_LIST, .value = &in->paths[0], .arg = "FILE", .file = DF_FILE_READ,
		    .help = m ? m->inputs[0].help : "rows to choose from" },
		{ .type = DF_OPT_GROUP, .help = "How many, and what if there are fewer" },
		{ .name = "count", .short_name = 'n', .type = DF_OPT_STR, .value = &w->amount, .arg = "N",
		    .help = "rows to choose: a number, 5%, or 30Mtok (default: all)" },
		{ .name = "tokens", .type = DF_OPT_STR, .value = &in->tokens, .arg = "FILE", .file = DF_FILE_READ,
		    .help = "tokens of the rows, for -n in tokens" },
		{ .name = "exclude", .type = DF_OPT_STR, .value = &in->exclude, .arg = "INDEX", .file = DF_FILE_READ,
		    .help = "rows that must not be chosen" },
		{ .name = "short", .type = DF_OPT_CHOICE, .value = &w->shortage, .choices = shortages,
		    .help = "if N is too many" },
		{ .name = "allow-invalid", .type = DF_OPT_FLAG, .value = &in->allow_invalid,
		    .help = "rows whose score is not finite may be chosen, last" },
		{ .name = "seed", .type = DF_OPT_INT, .value = &w->seed, .arg = "N", .min = 0, .max = 9e15,
		    .help = "seed of all draws" },
		{ .name = "step", .type = DF_OPT_INT, .value = &w->step, .arg = "N", .min = 0, .max = UINT32_MAX,
		    .help = "training step: each has draws of its own" },
		{ .name = "rng", .type = DF_OPT_CHOICE, .value = &w->rng, .choices = rngs,
		    .help = "torch: uniform draws as PyTorch and DataFlex make them" },
		{ .name = "compat", .type = DF_OPT_CHOICE, .value = &w->compat, .choices = compats,
		    .help = "dataflex: choose as DataFlex does where it differs" },
	};
	/* clang-format on */

	return df_opt_table_add(t, rows, sizeof(rows) / sizeof(rows[0]), err);
}

int
df_select_ask(struct df_select *in, const struct df_select_words *w, struct df_err *err)
{
	in->shortage = (enum df_shortage)w->shortage;
	in->seed = (uint64_t)w->seed;
	in->step = (uint32_t)w->step;
	in->torch = w->rng == 1;
	in->dataflex = w->compat == 1;
	return w->amount ? df_amount_parse(w->amount, &in->amount, err) : DF_OK;
}
