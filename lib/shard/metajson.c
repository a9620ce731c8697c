/*
 * metajson.c - the root attributes df_params and df_inputs as JSON text.
 *
 * Both have fixed shapes: a flat object, and an array of {role,kind,id}.  The value of a parameter is kept as JSON
 * text, in the spelling of df_meta_set_*, so that readers can show and compare parameters that they do not know, no
 * matter which program wrote the file.
 */
#include "shard/shard_priv.h"

#include <inttypes.h>
#include <string.h>

#include "base/json.h"

void
df_meta_params_json(const struct df_meta *m, struct df_buf *out)
{
	df_buf_putc(out, '{');
	for (size_t i = 0; i < m->n_params; i++) {
		df_buf_puts(out, i ? ", " : "");
		df_buf_json_str(out, m->params[i].key);
		df_buf_puts(out, ": ");
		df_buf_puts(out, m->params[i].json);
	}
	df_buf_putc(out, '}');
}

void
df_meta_inputs_json(const struct df_meta *m, struct df_buf *out)
{
	df_buf_putc(out, '[');
	for (size_t i = 0; i < m->n_inputs; i++) {
		df_buf_puts(out, i ? ", {\"role\": " : "{\"role\": ");
		df_buf_json_str(out, m->inputs[i].role);
		df_buf_puts(out, ", \"kind\": ");
		df_buf_json_str(out, m->inputs[i].kind);
		df_buf_puts(out, ", \"id\": ");
		df_buf_json_str(out, m->inputs[i].id);
		df_buf_putc(out, '}');
	}
	df_buf_putc(out, ']');
}

/* A value in our own spelling: numbers as short as they can be, ", " and ": " between. */
static void
put_value(struct df_buf *out, const struct df_json_value *v)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *item;
	const char *key;
	int64_t whole;
	double real;

	switch (df_json_type(v)) {
	case DF_JSON_ABSENT:
	case DF_JSON_NULL: df_buf_puts(out, "null"); break;
	case DF_JSON_BOOL: df_buf_puts(out, df_json_bool(v, false) ? "true" : "false"); break;
	case DF_JSON_INT:
		if (df_json_int(v, &whole))
			df_buf_printf(out, "%" PRId64, whole);
		break;
	case DF_JSON_REAL:
		if (df_json_number(v, &real))
			df_buf_json_double(out, real);
		break;
	case DF_JSON_STR: df_buf_json_str(out, df_json_str(v, NULL)); break;
	case DF_JSON_ARRAY:
		df_buf_putc(out, '[');
		for (size_t i = 0; i < df_json_size(v); i++) {
			df_buf_puts(out, i ? ", " : "");
			put_value(out, df_json_at(v, i));
		}
		df_buf_putc(out, ']');
		break;
	case DF_JSON_OBJECT:
		df_buf_putc(out, '{');
		while ((m = df_json_next(v, m, &key, &item)) != NULL) {
			df_buf_puts(out, out->data[out->len - 1] == '{' ? "" : ", ");
			df_buf_json_str(out, key);
			df_buf_puts(out, ": ");
			put_value(out, item);
		}
		df_buf_putc(out, '}');
		break;
	}
}

/* The document of an attribute, whose root is of the given type. */
static int
parse(struct df_json **doc, const char *json, const char *what, enum df_json_type root, struct df_err *err)
{
	int rc;

	if (strstr(json, "\\u0000"))
		return df_fail(err, DF_EFORMAT, "%s: a NUL character", what);
	DF_TRY(df_json_parse(doc, json, strlen(json), what, err));
	if (df_json_type(df_json_root(*doc)) != root)
		rc = df_fail(err, DF_EFORMAT, "%s: expected %s, found %s", what,
		    root == DF_JSON_OBJECT ? "an object" : "an array", df_json_type_name(df_json_root(*doc)));
out:
	return rc;
}

int
df_meta_params_parse(struct df_meta *m, const char *json, struct df_err *err)
{
	const struct df_json_member *at = NULL;
	const struct df_json_value *value;
	struct df_buf b = DF_BUF_INIT;
	struct df_json *doc = NULL;
	const char *key;
	int rc;

	DF_TRY(parse(&doc, json, "attribute 'df_params'", DF_JSON_OBJECT, err));
	while ((at = df_json_next(df_json_root(doc), at, &key, &value)) != NULL) {
		if (m->n_params >= DF_SHARD_MAX_PARAMS) {
			rc = df_fail(err, DF_ERANGE, "attribute 'df_params': too many parameters");
			goto out;
		}
		df_buf_clear(&b);
		put_value(&b, value);
		DF_TRY(df_buf_check(&b, err));
		DF_TRY(df_meta_set_json(m, key, b.data, err));
	}
out:
	df_buf_release(&b);
	df_json_free(doc);
	return rc;
}

int
df_meta_inputs_parse(struct df_meta *m, const char *json, struct df_err *err)
{
	static const char *const names[] = { "role", "kind", "id" };
	struct df_json *doc = NULL;
	size_t n;
	int rc;

	DF_TRY(parse(&doc, json, "attribute 'df_inputs'", DF_JSON_ARRAY, err));
	if ((n = df_json_size(df_json_root(doc))) > DF_SHARD_MAX_PARAMS) {
		rc = df_fail(err, DF_ERANGE, "attribute 'df_inputs': too many inputs");
		goto out;
	}
	for (size_t i = 0; i < n; i++) {
		const char *field[3];

		for (size_t j = 0; j < 3; j++) {
			field[j] = df_json_str(df_json_get(df_json_at(df_json_root(doc), i), names[j]), NULL);
			if (!field[j]) {
				rc = df_fail(
				    err, DF_EFORMAT, "attribute 'df_inputs': an input without role, kind or id");
				goto out;
			}
		}
		DF_TRY(df_meta_add_input(m, field[0], field[1], field[2], err));
	}
out:
	df_json_free(doc);
	return rc;
}
