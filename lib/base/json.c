/*
 * json.c - JSON through jansson, under names of our own.
 *
 * A df_json_value is a json_t and a df_json_member an iterator of jansson's, seen through opaque types: nothing is
 * copied, and no other file needs jansson's header.  jansson checks UTF-8 and surrogate pairs strictly and seeds
 * its hash tables at random.  Its own depth limit is fixed when it is built, so ours is checked before it sees the
 * text.
 */
#include "base/json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

struct df_json {
	json_t *root;
};

static const json_t *
node(const struct df_json_value *v)
{
	return (const json_t *)v;
}

static const struct df_json_value *
value_of(const json_t *j)
{
	return (const struct df_json_value *)j;
}

/* Brackets outside strings, before any recursion happens. */
static int
check_depth(const char *s, size_t n, const char *name, struct df_err *err)
{
	size_t depth = 0, line = 1;
	bool in_str = false;

	for (size_t i = 0; i < n; i++) {
		switch (s[i]) {
		case '\\': i += in_str; break;
		case '"': in_str = !in_str; break;
		case '\n': line++; break;
		case '[':
		case '{':
			if (!in_str && ++depth > DF_JSON_MAX_DEPTH)
				return df_fail(err, DF_ERANGE, "%s:%zu: nested more than %d levels deep", name, line,
				    DF_JSON_MAX_DEPTH);
			break;
		case ']':
		case '}':
			if (!in_str && depth > 0)
				depth--;
			break;
		default: break;
		}
	}
	return DF_OK;
}

static int
code_of(const json_error_t *e)
{
	switch (json_error_code(e)) {
	case json_error_out_of_memory: return DF_ENOMEM;
	case json_error_stack_overflow:
	case json_error_numeric_overflow: return DF_ERANGE;
	default: return DF_EFORMAT;
	}
}

/* The text with ".0" after every integer that does not fit into 64 bits, which makes it a real. */
static int
with_reals(const char *text, size_t n, struct df_buf *out, struct df_err *err)
{
	bool in_string = false;

	for (size_t i = 0, from; i < n;) {
		if (in_string || text[i] < '0' || text[i] > '9') {
			if (in_string && text[i] == '\\' && i + 1 < n)
				df_buf_putc(out, text[i++]);
			else if (text[i] == '"')
				in_string = !in_string;
			df_buf_putc(out, text[i++]);
			continue;
		}
		for (from = i; i < n && text[i] >= '0' && text[i] <= '9'; i++)
			;
		df_buf_add(out, text + from, i - from);
		if ((i - from > 19 || (i - from == 19 && memcmp(text + from, "9223372036854775807", 19) > 0)) &&
		    (from == 0 || strchr(".eE+", text[from - 1]) == NULL) && (i == n || strchr(".eE", text[i]) == NULL))
			df_buf_puts(out, ".0");
	}
	return df_buf_check(out, err);
}

static int
parse(struct df_json **out, const char *text, size_t n, const char *name, size_t flags, bool exact, struct df_err *err)
{
	struct df_json *j = NULL;
	struct df_buf reals = DF_BUF_INIT;
	json_error_t e;
	int rc;

	DF_TRY(check_depth(text, n, name, err));
	DF_TRY(df_alloc(&j, 1, sizeof(*j), "a JSON document", err));
	j->root = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL | flags, &e);
	if (j->root == NULL && !exact && json_error_code(&e) == json_error_numeric_overflow) {
		DF_TRY(with_reals(text, n, &reals, err));
		j->root = json_loadb(reals.data, reals.len, JSON_DECODE_ANY | JSON_ALLOW_NUL | flags, &e);
	}
	if (j->root == NULL) {
		rc = df_fail(err, code_of(&e), "%s:%d:%d: %s%s", name, e.line, e.column, e.text,
		    json_error_code(&e) == json_error_invalid_utf8 ? " (not UTF-8)" : "");
		goto out;
	}
	*out = j;
	j = NULL;
out:
	df_json_free(j);
	df_buf_release(&reals);
	return rc;
}

int
df_json_parse(struct df_json **out, const char *text, size_t n, const char *name, struct df_err *err)
{
	return parse(out, text, n, name, 0, false, err);
}

int
df_json_parse_exact(struct df_json **out, const char *text, size_t n, const char *name, struct df_err *err)
{
	return parse(out, text, n, name, 0, true, err);
}

int
df_json_parse_unique(struct df_json **out, const char *text, size_t n, const char *name, struct df_err *err)
{
	return parse(out, text, n, name, JSON_REJECT_DUPLICATES, true, err);
}

int
df_json_parse_line(struct df_json **out, const char *line, size_t n, struct df_err *err)
{
	static const char begin[] = "line:1:"; /* and then the column, where there is one */
	const size_t skip = sizeof(begin) - 1;
	const int rc = df_json_parse(out, line, n, "line", err);

	if (rc == DF_OK || !err || strncmp(err->msg, begin, skip) != 0)
		return rc;
	if (err->msg[skip] == ' ') {
		memmove(err->msg, err->msg + skip + 1, strlen(err->msg + skip));
	} else {
		memmove(err->msg, err->msg + skip, strlen(err->msg + skip) + 1);
		df_err_prefix(err, "column ");
	}
	return rc;
}

int
df_json_load(struct df_json **out, const char *path, size_t limit, struct df_err *err)
{
	char *text = NULL;
	size_t n;
	int rc;

	DF_TRY(df_file_get(path, limit, &text, &n, err));
	DF_TRY(df_json_parse(out, text, n, path, err));
out:
	free(text);
	return rc;
}

void
df_json_free(struct df_json *j)
{
	if (j == NULL)
		return;
	json_decref(j->root);
	free(j);
}

const struct df_json_value *
df_json_root(const struct df_json *j)
{
	return value_of(j->root);
}

enum df_json_type
df_json_type(const struct df_json_value *v)
{
	if (v == NULL)
		return DF_JSON_ABSENT;
	switch (json_typeof(node(v))) {
	case JSON_OBJECT: return DF_JSON_OBJECT;
	case JSON_ARRAY: return DF_JSON_ARRAY;
	case JSON_STRING: return DF_JSON_STR;
	case JSON_INTEGER: return DF_JSON_INT;
	case JSON_REAL: return DF_JSON_REAL;
	case JSON_TRUE:
	case JSON_FALSE: return DF_JSON_BOOL;
	default: return DF_JSON_NULL;
	}
}

const char *
df_json_type_name(const struct df_json_value *v)
{
	static const char *const names[] = {
		[DF_JSON_ABSENT] = "nothing",
		[DF_JSON_NULL] = "null",
		[DF_JSON_BOOL] = "a boolean",
		[DF_JSON_INT] = "an integer",
		[DF_JSON_REAL] = "a real number",
		[DF_JSON_STR] = "a string",
		[DF_JSON_ARRAY] = "an array",
		[DF_JSON_OBJECT] = "an object",
	};

	return names[df_json_type(v)];
}

const struct df_json_value *
df_json_get(const struct df_json_value *obj, const char *key)
{
	return value_of(json_object_get(node(obj), key));
}

size_t
df_json_size(const struct df_json_value *v)
{
	return json_is_array(node(v)) ? json_array_size(node(v)) : json_object_size(node(v));
}

const struct df_json_value *
df_json_at(const struct df_json_value *arr, size_t i)
{
	return value_of(json_array_get(node(arr), i));
}

const struct df_json_member *
df_json_next(const struct df_json_value *obj, const struct df_json_member *after, const char **key,
    const struct df_json_value **value)
{
	/* jansson's iterators take a mutable object; walking changes nothing. */
	json_t *o = (json_t *)(uintptr_t)obj;
	void *it = after == NULL ? json_object_iter(o) : json_object_iter_next(o, (void *)(uintptr_t)after);

	if (it == NULL)
		return NULL;
	*key = json_object_iter_key(it);
	*value = value_of(json_object_iter_value(it));
	return it;
}

const char *
df_json_str(const struct df_json_value *v, size_t *n)
{
	if (!json_is_string(node(v)))
		return NULL;
	if (n != NULL)
		*n = json_string_length(node(v));
	return json_string_value(node(v));
}

bool
df_json_bool(const struct df_json_value *v, bool dflt)
{
	return json_is_boolean(node(v)) ? json_is_true(node(v)) : dflt;
}

bool
df_json_int(const struct df_json_value *v, int64_t *out)
{
	if (!json_is_integer(node(v)))
		return false;
	*out = json_integer_value(node(v));
	return true;
}

bool
df_json_number(const struct df_json_value *v, double *out)
{
	if (!json_is_number(node(v)))
		return false;
	*out = json_number_value(node(v));
	return true;
}

/* The member, or NULL where the default applies. */
static const struct df_json_value *
member(const struct df_json_value *obj, const char *key)
{
	const struct df_json_value *v = df_json_get(obj, key);

	return df_json_type(v) == DF_JSON_NULL ? NULL : v;
}

static int
wrong_type(const char *key, const char *wanted, const struct df_json_value *v, struct df_err *err)
{
	return df_fail(err, DF_EFORMAT, "'%s': expected %s, found %s", key, wanted, df_json_type_name(v));
}

int
df_json_member_int(const struct df_json_value *obj, const char *key, int64_t dflt, int64_t min, int64_t max,
    int64_t *out, struct df_err *err)
{
	const struct df_json_value *v = member(obj, key);
	int64_t x = dflt;

	if (v != NULL) {
		if (!df_json_int(v, &x))
			return wrong_type(key, "an integer", v, err);
		if (x < min || x > max)
			return df_fail(err, DF_ERANGE, "'%s': %lld is not in [%lld, %lld]", key, (long long)x,
			    (long long)min, (long long)max);
	}
	*out = x;
	return DF_OK;
}

int
df_json_member_double(const struct df_json_value *obj, const char *key, double dflt, double *out, struct df_err *err)
{
	const struct df_json_value *v = member(obj, key);
	double x = dflt;

	if (v != NULL && !df_json_number(v, &x))
		return wrong_type(key, "a number", v, err);
	*out = x;
	return DF_OK;
}

int
df_json_member_bool(const struct df_json_value *obj, const char *key, bool dflt, bool *out, struct df_err *err)
{
	const struct df_json_value *v = member(obj, key);

	if (v != NULL && df_json_type(v) != DF_JSON_BOOL)
		return wrong_type(key, "a boolean", v, err);
	*out = df_json_bool(v, dflt);
	return DF_OK;
}

int
df_json_member_str(
    const struct df_json_value *obj, const char *key, const char *dflt, const char **out, struct df_err *err)
{
	const struct df_json_value *v = member(obj, key);
	size_t n;

	if (v == NULL) {
		*out = dflt;
		return DF_OK;
	}
	if (df_json_str(v, &n) == NULL)
		return wrong_type(key, "a string", v, err);
	if (strlen(df_json_str(v, NULL)) != n)
		return df_fail(err, DF_EFORMAT, "'%s': holds a NUL character", key);
	*out = df_json_str(v, NULL);
	return DF_OK;
}

static int
to_buf(const char *text, size_t n, void *ctx)
{
	df_buf_add(ctx, text, n);
	return 0;
}

void
df_json_write(struct df_buf *out, const struct df_json_value *v)
{
	if (v == NULL || json_dump_callback(node(v), to_buf, out, JSON_ENCODE_ANY | JSON_COMPACT) != 0)
		df_buf_puts(out, "null");
}
