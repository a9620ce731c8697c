/*
 * opt_method.c - options of a method: one table, whose values lie in any number of structs.
 */
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/opt.h"
#include "base/words.h"

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

int
df_opt_defaults(void **out, const void *defaults, size_t size, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_alloc(out, size, 1, "options", err));
	if (size > 0)
		memcpy(*out, defaults, size);
out:
	return rc;
}

bool
df_opt_is(const char *option, const char *param)
{
	for (; *param && *option; param++, option++) {
		if (*param != *option && !(*option == '-' && *param == '_'))
			return false;
	}
	return *param == *option;
}

/* The row whose value is at `values`. */
static struct df_opt
bound(const struct df_opt *o, void *values)
{
	struct df_opt row = *o;

	row.value = (void *)((uintptr_t)values + (uintptr_t)o->value);
	return row;
}

int
df_opt_table_bind(struct df_opt_table *t, const struct df_opt *rows, void *values, struct df_err *err)
{
	int rc = DF_OK;

	for (const struct df_opt *o = rows; o && o->name; o++) {
		const struct df_opt row = bound(o, values);

		DF_TRY(df_opt_table_add(t, &row, 1, err));
	}
out:
	return rc;
}

static int
set_flag(bool *to, const char *text, struct df_err *err)
{
	*to = strcmp(text, "true") == 0;
	if (*to || strcmp(text, "false") == 0)
		return DF_OK;
	return df_fail(err, DF_EUSAGE, "'%.60s' is neither true nor false", text);
}

int
df_opt_set(const struct df_opt *rows, void *values, const char *name, const char *text, struct df_err *err)
{
	const char *best = NULL;
	size_t dist = SIZE_MAX;
	int rc;

	for (const struct df_opt *o = rows; o && o->name; o++) {
		struct df_opt row = bound(o, values);

		if (strcmp(o->name, name) != 0) {
			df_nearer(name, o->name, &best, &dist);
			continue;
		}
		rc = o->type == DF_OPT_FLAG ? set_flag(row.value, text, err) : df_opt_value(&row, text, err);
		if (rc != DF_OK)
			df_err_prefix(err, "%s: ", name);
		return rc;
	}
	if (best)
		return df_fail(err, DF_EUSAGE, "unknown option %.60s; did you mean %s?", name, best);
	return df_fail(err, DF_EUSAGE, "unknown option %.60s", name);
}
