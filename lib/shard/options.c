/*
 * options.c - options of a program as parameters of what it makes.
 */
#include "shard/options.h"

#include <string.h>

#include "base/buf.h"

static const struct df_opt *
find(const struct df_opt *opts, const char *name, size_t n)
{
	for (const struct df_opt *o = opts; o->name || o->type >= DF_OPT_GROUP; o++)
		if (o->name && strlen(o->name) == n && memcmp(o->name, name, n) == 0)
			return o;
	return NULL;
}

/* The words of a list with commas between them; nothing for an empty list. */
static int
set_list(struct df_meta *m, const char *key, const struct df_strlist *list, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	int rc = DF_OK;

	for (size_t i = 0; i < list->n; i++)
		df_buf_printf(&b, "%s%s", i ? "," : "", list->v[i]);
	DF_TRY(df_buf_check(&b, err));
	if (list->n > 0)
		rc = df_meta_set_str(m, key, b.data, err);
out:
	df_buf_release(&b);
	return rc;
}

static int
set_option(struct df_meta *m, const char *key, const struct df_opt *o, struct df_err *err)
{
	const char *s;

	switch (o->type) {
	case DF_OPT_STR: return (s = *(const char *const *)o->value) ? df_meta_set_str(m, key, s, err) : DF_OK;
	case DF_OPT_CHOICE: return df_meta_set_str(m, key, o->choices[*(const int *)o->value], err);
	case DF_OPT_INT:
	case DF_OPT_COUNT: return df_meta_set_int(m, key, *(const int64_t *)o->value, err);
	case DF_OPT_DOUBLE: return df_meta_set_double(m, key, *(const double *)o->value, err);
	case DF_OPT_FLAG: return df_meta_set_bool(m, key, *(const bool *)o->value, err);
	case DF_OPT_LIST: return set_list(m, key, o->value, err);
	case DF_OPT_SHARD:
	case DF_OPT_GROUP:
	case DF_OPT_ELSEWHERE:
	case DF_OPT_OPERANDS: break;
	}
	return df_fail(err, DF_EINTERNAL, "--%s is no parameter", o->name);
}

/* Does it say anything, or is it 0, off, the first of the choices? */
static bool
is_set(const struct df_opt *o)
{
	switch (o->type) {
	case DF_OPT_CHOICE: return *(const int *)o->value != 0;
	case DF_OPT_INT:
	case DF_OPT_COUNT: return *(const int64_t *)o->value != 0;
	case DF_OPT_DOUBLE: return *(const double *)o->value != 0;
	case DF_OPT_FLAG: return *(const bool *)o->value;
	default: return true;
	}
}

int
df_meta_set_opts(struct df_meta *m, const struct df_opt *opts, const char *names, struct df_err *err)
{
	char key[64];
	int rc = DF_OK;

	for (const char *name = names; *name && rc == DF_OK;) {
		const size_t n = strcspn(name, " ?");
		const struct df_opt *o = find(opts, name, n);

		if (!o || n >= sizeof(key))
			return df_fail(err, DF_EINTERNAL, "no option '%.*s'", (int)n, name);
		for (size_t i = 0; i < n; i++)
			key[i] = (char)(name[i] == '-' ? '_' : name[i]);
		key[n] = '\0';
		if (name[n] != '?' || is_set(o))
			rc = set_option(m, key, o, err);
		name += n + strspn(name + n, " ?");
	}
	return rc;
}
