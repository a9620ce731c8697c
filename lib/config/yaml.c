/*
 * yaml.c - as much YAML as a configuration needs, read by libyaml's event
 * parser.
 *
 * A configuration is one map of keys to scalars, lists of scalars, or maps; a map is flattened, with dots in the names
 * of what lies deeper.  Everything beyond that is refused with its line: aliases (they make bombs), tags, a second
 * document, repeated keys, lists of lists.  Names of what lies deeper are short, so no input makes this reader hold
 * much more than the text itself.
 */
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/buf.h"
#include "base/mem.h"
#include "config/config_priv.h"

#define DEPTH_MAX     8   /* maps in a map */
#define NAME_MAX_DEEP 200 /* characters of a name with dots */

struct reader {
	yaml_parser_t parser;
	yaml_event_t event;
	bool have_event;
	const char *name;
};

static bool
any_of(const char *word, const char *const *words)
{
	while (*words && strcmp(word, *words) != 0)
		words++;
	return *words;
}

/* As PyYAML resolves plain words. */
bool
df_yaml_null(const char *text)
{
	static const char *const words[] = { "", "~", "null", "Null", "NULL", NULL };

	return any_of(text, words);
}

bool
df_yaml_bool(const char *text, bool *b)
{
	static const char *const yes[] = { "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", NULL };
	static const char *const no[] = { "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", NULL };

	*b = any_of(text, yes);
	return *b || any_of(text, no);
}

void
df_config_map_release(struct df_config_map *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free(m->v[i].key);
		free(m->v[i].value);
	}
	free(m->v);
	*m = (struct df_config_map){ 0 };
}

int
df_config_map_put(struct df_config_map *m, char *key, char *value, struct df_err *err)
{
	int rc;

	for (size_t i = 0; i < m->n; i++) {
		if (strcmp(m->v[i].key, key) == 0) {
			free(key);
			free(m->v[i].value);
			m->v[i].value = value;
			return DF_OK;
		}
	}
	if ((rc = df_grow(&m->v, &m->cap, m->n + 1, sizeof(*m->v), "configuration map", err)) != DF_OK) {
		free(key);
		free(value);
		return rc;
	}
	m->v[m->n++] = (struct df_config_pair){ key, value, 0 };
	return DF_OK;
}

void
df_yaml_value_release(struct df_yaml_value *v)
{
	free(v->text);
	df_config_map_release(&v->map);
	*v = (struct df_yaml_value){ 0 };
}

static int
line_of(const struct reader *r)
{
	return (int)r->event.start_mark.line + 1;
}

/* The next event; aliases, anchors and tags end here. */
static int
next(struct reader *r, struct df_err *err)
{
	const yaml_event_t *e = &r->event;
	const yaml_char_t *tag = NULL;

	if (r->have_event)
		yaml_event_delete(&r->event);
	r->have_event = false;
	if (!yaml_parser_parse(&r->parser, &r->event)) {
		const yaml_parser_t *p = &r->parser;
		size_t line = p->problem_mark.line + 1;

		if (p->error == YAML_MEMORY_ERROR)
			return df_fail(err, DF_ENOMEM, "%s: out of memory", r->name);
		if (p->error == YAML_READER_ERROR)
			return df_fail(err, DF_ECONFIG, "%s: byte %zu: %s", r->name, p->problem_offset,
			    p->problem ? p->problem : "unreadable");
		return df_fail(err, DF_ECONFIG, "%s:%zu: %s%s%s", r->name, line, p->context ? p->context : "",
		    p->context ? ": " : "", p->problem ? p->problem : "invalid YAML");
	}
	r->have_event = true;
	if (e->type == YAML_ALIAS_EVENT)
		return df_fail(err, DF_ECONFIG, "%s:%d: aliases (*name) are not supported", r->name, line_of(r));
	if (e->type == YAML_SCALAR_EVENT)
		tag = e->data.scalar.tag;
	else if (e->type == YAML_SEQUENCE_START_EVENT)
		tag = e->data.sequence_start.tag;
	else if (e->type == YAML_MAPPING_START_EVENT)
		tag = e->data.mapping_start.tag;
	if (tag)
		return df_fail(err, DF_ECONFIG, "%s:%d: tags (!type) are not supported", r->name, line_of(r));
	return DF_OK;
}

/* A copy of the current scalar event's text; NUL inside is refused. */
static int
scalar(struct reader *r, char **out, struct df_err *err)
{
	const yaml_event_t *e = &r->event;

	if (memchr(e->data.scalar.value, 0, e->data.scalar.length))
		return df_fail(err, DF_ECONFIG, "%s:%d: a NUL byte in a value", r->name, line_of(r));
	return df_strndup(out, (const char *)e->data.scalar.value, e->data.scalar.length, err);
}

static int
read_list(struct reader *r, char **out, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	int rc = DF_OK;

	df_buf_puts(&b, "");
	for (size_t i = 0;; i++) {
		DF_TRY(next(r, err));
		if (r->event.type == YAML_SEQUENCE_END_EVENT)
			break;
		if (r->event.type != YAML_SCALAR_EVENT) {
			rc = df_fail(
			    err, DF_ECONFIG, "%s:%d: a list inside a list is not supported", r->name, line_of(r));
			goto out;
		}
		if (i > 0)
			df_buf_putc(&b, ',');
		df_buf_add(&b, r->event.data.scalar.value, r->event.data.scalar.length);
	}
	DF_TRY(df_buf_check(&b, err));
	*out = df_buf_detach(&b);
out:
	df_buf_release(&b);
	return rc;
}

/* The members of a map that began, as pairs "PREFIX.KEY"; prefix "": the outermost. */
static int read_members(struct reader *r, struct df_config_map *m, const char *prefix, int depth, struct df_err *err);

/* Append a pair.  Takes the value; the key is copied. */
static int
add_pair(struct df_config_map *m, const char *key, char *value, int line, struct df_err *err)
{
	char *copy = NULL;
	int rc = DF_OK;

	DF_TRY(df_strdup(&copy, key, err));
	DF_TRY(df_grow(&m->v, &m->cap, m->n + 1, sizeof(*m->v), "configuration map", err));
	m->v[m->n++] = (struct df_config_pair){ copy, value, line };
	return DF_OK;
out:
	free(copy);
	free(value);
	return rc;
}

/* The value of member `key`, the current event. */
static int
read_member(struct reader *r, struct df_config_map *m, const char *key, int line, int depth, struct df_err *err)
{
	char *text = NULL;
	int rc;

	if (r->event.type == YAML_MAPPING_START_EVENT)
		return read_members(r, m, key, depth + 1, err);
	rc = r->event.type == YAML_SCALAR_EVENT ? scalar(r, &text, err) : read_list(r, &text, err);
	return rc == DF_OK ? add_pair(m, key, text, line, err) : rc;
}

static int
read_members(struct reader *r, struct df_config_map *m, const char *prefix, int depth, struct df_err *err)
{
	struct df_buf name = DF_BUF_INIT;
	const size_t before = m->n;
	char *key = NULL;
	int rc = DF_OK, line = line_of(r);

	if (depth > DEPTH_MAX) {
		rc = df_fail(err, DF_ECONFIG, "%s:%d: nested deeper than %d maps", r->name, line, DEPTH_MAX);
		goto out;
	}
	for (;;) {
		DF_TRY(next(r, err));
		if (r->event.type == YAML_MAPPING_END_EVENT)
			break;
		line = line_of(r);
		if (r->event.type != YAML_SCALAR_EVENT) {
			rc = df_fail(err, DF_ECONFIG, "%s:%d: a key must be a word", r->name, line);
			goto out;
		}
		DF_TRY(scalar(r, &key, err));
		df_buf_clear(&name);
		df_buf_printf(&name, "%s%s%s", prefix, *prefix ? "." : "", key);
		DF_TRY(df_buf_check(&name, err));
		if (depth > 1 && name.len > NAME_MAX_DEEP) {
			rc = df_fail(err, DF_ECONFIG,
			    "%s:%d: %.40s..: longer than %d characters with the names of its maps", r->name, line,
			    name.data, NAME_MAX_DEEP);
			goto out;
		}
		free(key);
		key = NULL;
		DF_TRY(next(r, err));
		DF_TRY(read_member(r, m, name.data, line, depth, err));
	}
	if (m->n == before && *prefix) {
		DF_TRY(df_strdup(&key, "", err));
		rc = add_pair(m, prefix, key, line, err);
		key = NULL;
	}
out:
	free(key);
	df_buf_release(&name);
	return rc;
}

static int
by_key(const void *a, const void *b)
{
	const struct df_config_pair *const *x = a, *const *y = b;
	const int order = strcmp((*x)->key, (*y)->key);

	return order ? order : (*x > *y) - (*x < *y);
}

static int
check_unique(const struct reader *r, const struct df_config_map *m, struct df_err *err)
{
	const struct df_config_pair **by = NULL;
	int rc = DF_OK;

	if (m->n < 2)
		return DF_OK;
	DF_TRY(df_alloc(&by, m->n, sizeof(*by), "names of a map", err));
	for (size_t i = 0; i < m->n; i++)
		by[i] = &m->v[i];
	qsort(by, m->n, sizeof(*by), by_key);
	for (size_t i = 1; i < m->n && rc == DF_OK; i++) {
		if (strcmp(by[i]->key, by[i - 1]->key) == 0)
			rc = df_fail(err, DF_ECONFIG, "%s:%d: %s is given twice", r->name, by[i]->line, by[i]->key);
	}
out:
	free(by);
	return rc;
}

static int
read_map(struct reader *r, struct df_yaml_value *v, struct df_err *err)
{
	int rc;

	v->kind = DF_YAML_MAP;
	rc = read_members(r, &v->map, "", 1, err);
	return rc == DF_OK ? check_unique(r, &v->map, err) : rc;
}

/* The value that the current event starts. */
static int
read_value(struct reader *r, struct df_yaml_value *v, struct df_err *err)
{
	v->line = line_of(r);
	switch (r->event.type) {
	case YAML_SCALAR_EVENT:
		v->kind = DF_YAML_SCALAR;
		v->plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
		return scalar(r, &v->text, err);
	case YAML_SEQUENCE_START_EVENT: v->kind = DF_YAML_LIST; return read_list(r, &v->text, err);
	case YAML_MAPPING_START_EVENT: return read_map(r, v, err);
	default: return df_fail(err, DF_ECONFIG, "%s:%d: a value is missing", r->name, v->line);
	}
}

static int
begin(struct reader *r, const char *text, size_t n, const char *name, struct df_err *err)
{
	*r = (struct reader){ .name = name };
	if (!yaml_parser_initialize(&r->parser))
		return df_fail(err, DF_ENOMEM, "%s: out of memory", name);
	yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r->parser, (const unsigned char *)text, n);
	return DF_OK;
}

static void
end(struct reader *r)
{
	if (r->have_event)
		yaml_event_delete(&r->event);
	yaml_parser_delete(&r->parser);
}

/* After the document's only node. */
static int
finish(struct reader *r, struct df_err *err)
{
	int rc;

	if ((rc = next(r, err)) != DF_OK || (rc = next(r, err)) != DF_OK)
		return rc;
	if (r->event.type != YAML_STREAM_END_EVENT)
		return df_fail(err, DF_ECONFIG, "%s:%d: a second document", r->name, line_of(r));
	return DF_OK;
}

int
df_yaml_walk(const char *text, size_t n, const char *name, df_yaml_member *fn, void *ctx, struct df_err *err)
{
	struct df_yaml_value v = { 0 };
	struct reader r;
	char *key = NULL;
	int rc, line;

	if ((rc = begin(&r, text, n, name, err)) != DF_OK)
		return rc;
	DF_TRY(next(&r, err));
	DF_TRY(next(&r, err));
	if (r.event.type == YAML_STREAM_END_EVENT)
		goto out; /* empty, or nothing but comments */
	DF_TRY(next(&r, err));
	if (r.event.type != YAML_MAPPING_START_EVENT) {
		rc = df_fail(err, DF_ECONFIG, "%s:%d: not a map of `key: value` lines", name, line_of(&r));
		goto out;
	}
	for (;;) {
		DF_TRY(next(&r, err));
		if (r.event.type == YAML_MAPPING_END_EVENT)
			break;
		if (r.event.type != YAML_SCALAR_EVENT) {
			rc = df_fail(err, DF_ECONFIG, "%s:%d: a key must be a word", name, line_of(&r));
			goto out;
		}
		line = line_of(&r);
		DF_TRY(scalar(&r, &key, err));
		DF_TRY(next(&r, err));
		DF_TRY(read_value(&r, &v, err));
		DF_TRY(fn(ctx, key, line, &v, err));
		df_yaml_value_release(&v);
		free(key);
		key = NULL;
	}
	rc = finish(&r, err);
out:
	df_yaml_value_release(&v);
	free(key);
	end(&r);
	return rc;
}

int
df_yaml_value(const char *text, size_t n, const char *name, struct df_yaml_value *v, struct df_err *err)
{
	struct reader r;
	int rc;

	*v = (struct df_yaml_value){ 0 };
	if ((rc = begin(&r, text, n, name, err)) != DF_OK)
		return rc;
	DF_TRY(next(&r, err));
	DF_TRY(next(&r, err));
	if (r.event.type == YAML_STREAM_END_EVENT) { /* `key=`: null, as in YAML */
		v->plain = true;
		rc = df_strdup(&v->text, "", err);
		goto out;
	}
	DF_TRY(next(&r, err));
	DF_TRY(read_value(&r, v, err));
	rc = finish(&r, err);
out:
	if (rc != DF_OK)
		df_yaml_value_release(v);
	end(&r);
	return rc;
}
