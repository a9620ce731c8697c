/*
 * metajson.c - the root attributes df_params and df_inputs as JSON text.
 *
 * lib/text's reader is above this room, and all that is needed here is a flat
 * object and an array of {role,kind,id}.  The scanner below finds where a
 * value ends; parameter values stay JSON text, as a file's reader may show or
 * compare them without knowing them.
 */
#include "shard/shard_priv.h"

#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 32

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

static const char *
skip_space(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

/* p is at '"'; the end is after the closing one, NULL when there is none. */
static const char *
skip_string(const char *p)
{
	for (p++; *p && *p != '"'; p++) {
		if ((unsigned char)*p < 0x20)
			return NULL;
		if (*p == '\\' && *++p == '\0')
			return NULL;
	}
	return *p ? p + 1 : NULL;
}

/* The end of the value at p, NULL when it is malformed. */
static const char *
skip_value(const char *p, int depth)
{
	static const char *const words[] = { "true", "false", "null" };
	size_t n;

	if (depth > DEPTH_MAX)
		return NULL;
	if (*p == '"')
		return skip_string(p);
	if (*p == '{' || *p == '[') {
		char close = *p == '{' ? '}' : ']';
		bool object = *p == '{';

		p = skip_space(p + 1);
		if (*p == close)
			return p + 1;
		for (;;) {
			if (object) {
				if (*p != '"' || (p = skip_string(p)) == NULL)
					return NULL;
				p = skip_space(p);
				if (*p != ':')
					return NULL;
				p = skip_space(p + 1);
			}
			if ((p = skip_value(p, depth + 1)) == NULL)
				return NULL;
			p = skip_space(p);
			if (*p == close)
				return p + 1;
			if (*p != ',')
				return NULL;
			p = skip_space(p + 1);
		}
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strncmp(p, words[i], strlen(words[i])) == 0)
			return p + strlen(words[i]);
	n = strspn(p, "+-.0123456789eE");
	return n > 0 ? p + n : NULL;
}

static bool
hex4(const char *p, uint32_t *v)
{
	*v = 0;
	for (int i = 0; i < 4; i++) {
		char c = p[i];

		if (c >= '0' && c <= '9')
			*v = *v << 4 | (uint32_t)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			*v = *v << 4 | (uint32_t)((c | 0x20) - 'a' + 10);
		else
			return false;
	}
	return true;
}

bool
df_json_unquote(const char *json, char **out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	struct df_buf b = DF_BUF_INIT;
	const char *p = json;

	if (*p != '"' || skip_string(p) == NULL)
		return false;
	df_buf_puts(&b, "");
	for (p++; *p != '"'; p++) {
		const char *simple;
		uint32_t c, low;

		if (*p != '\\') {
			df_buf_putc(&b, *p);
			continue;
		}
		p++;
		if (*p == 'u') {
			if (!hex4(p + 1, &c) || c == 0)
				goto bad;
			p += 4;
			if (c >= 0xd800 && c < 0xdc00 && p[1] == '\\' && p[2] == 'u' && hex4(p + 3, &low) &&
			    low >= 0xdc00 && low < 0xe000) {
				c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
				p += 6;
			}
			if (c >= 0xd800 && c < 0xe000)
				goto bad;
			df_buf_put_utf8(&b, c);
			continue;
		}
		simple = strchr(from, *p);
		if (simple == NULL || *p == '\0')
			goto bad;
		df_buf_putc(&b, to[simple - from]);
	}
	if (df_buf_check(&b, NULL) != DF_OK)
		goto bad;
	*out = df_buf_detach(&b);
	return true;
bad:
	df_buf_release(&b);
	return false;
}

static int
malformed(struct df_err *err, const char *what, const char *json, const char *at)
{
	return df_fail(
	    err, DF_EFORMAT, "attribute '%s': malformed JSON at byte %zu", what, at ? (size_t)(at - json) : 0);
}

/*
 * Walk the members of the object at p; *end is after it.  member() gets key
 * and value text.
 */
static int
each_member(const char *what, const char *json, const char *p, const char **end,
    int (*member)(void *ctx, const char *key, const char *value, struct df_err *err), void *ctx, struct df_err *err)
{
	char *key = NULL, *value = NULL;
	const char *q;
	int rc = DF_OK;

	if (*p != '{')
		return malformed(err, what, json, p);
	p = skip_space(p + 1);
	if (*p == '}') {
		*end = p + 1;
		return DF_OK;
	}
	for (;;) {
		if (*p != '"' || !df_json_unquote(p, &key)) {
			rc = malformed(err, what, json, p);
			goto out;
		}
		p = skip_space(skip_string(p));
		if (*p != ':') {
			rc = malformed(err, what, json, p);
			goto out;
		}
		p = skip_space(p + 1);
		if ((q = skip_value(p, 0)) == NULL) {
			rc = malformed(err, what, json, p);
			goto out;
		}
		DF_TRY(df_strndup(&value, p, (size_t)(q - p), err));
		DF_TRY(member(ctx, key, value, err));
		free(key);
		free(value);
		key = value = NULL;
		p = skip_space(q);
		if (*p == '}')
			break;
		if (*p != ',') {
			rc = malformed(err, what, json, p);
			goto out;
		}
		p = skip_space(p + 1);
	}
	*end = p + 1;
out:
	free(key);
	free(value);
	return rc;
}

static int
param_member(void *ctx, const char *key, const char *value, struct df_err *err)
{
	struct df_meta *m = ctx;

	if (m->n_params >= DF_SHARD_MAX_PARAMS)
		return df_fail(err, DF_ERANGE, "attribute 'df_params': too many parameters");
	return df_meta_set_json(m, key, value, err);
}

int
df_meta_params_parse(struct df_meta *m, const char *json, struct df_err *err)
{
	const char *p = skip_space(json), *end = NULL;
	int rc;

	DF_TRY(each_member("df_params", json, p, &end, param_member, m, err));
	if (*skip_space(end))
		rc = malformed(err, "df_params", json, end);
out:
	return rc;
}

struct input_text {
	char *field[3]; /* role, kind, id */
};

static int
input_member(void *ctx, const char *key, const char *value, struct df_err *err)
{
	static const char *const names[] = { "role", "kind", "id" };
	struct input_text *t = ctx;

	for (int i = 0; i < 3; i++) {
		if (strcmp(key, names[i]) != 0)
			continue;
		free(t->field[i]);
		t->field[i] = NULL;
		if (!df_json_unquote(value, &t->field[i]))
			return df_fail(err, DF_EFORMAT, "attribute 'df_inputs': '%s' is not a string", key);
	}
	return DF_OK;
}

int
df_meta_inputs_parse(struct df_meta *m, const char *json, struct df_err *err)
{
	struct input_text t = { { NULL, NULL, NULL } };
	const char *p = skip_space(json);
	int rc = DF_OK;

	if (*p != '[')
		return malformed(err, "df_inputs", json, p);
	p = skip_space(p + 1);
	while (*p != ']') {
		DF_TRY(each_member("df_inputs", json, p, &p, input_member, &t, err));
		if (t.field[0] == NULL || t.field[1] == NULL || t.field[2] == NULL) {
			rc = df_fail(err, DF_EFORMAT, "attribute 'df_inputs': an input without role, kind or id");
			goto out;
		}
		if (m->n_inputs >= DF_SHARD_MAX_PARAMS) {
			rc = df_fail(err, DF_ERANGE, "attribute 'df_inputs': too many inputs");
			goto out;
		}
		DF_TRY(df_meta_add_input(m, t.field[0], t.field[1], t.field[2], err));
		for (int i = 0; i < 3; i++) {
			free(t.field[i]);
			t.field[i] = NULL;
		}
		p = skip_space(p);
		if (*p == ',') {
			p = skip_space(p + 1);
		} else if (*p != ']') {
			rc = malformed(err, "df_inputs", json, p);
			goto out;
		}
	}
	if (*skip_space(p + 1))
		rc = malformed(err, "df_inputs", json, p);
out:
	for (int i = 0; i < 3; i++)
		free(t.field[i]);
	return rc;
}
