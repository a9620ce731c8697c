/*
 * json.h - reading JSON that may be hostile; writing goes through base/buf.h.
 *
 * The only interface to the JSON library: no other file sees its nodes.  A document is read whole, with limits on
 * size and depth, and strict UTF-8; errors carry file, line and column.  Values are borrowed from the document.
 * Thread rule: a parsed document is immutable and may be read by many threads.
 *
 * Policies: of duplicate keys the last one counts (as in Python and serde); a lone surrogate (\ud800) is an error;
 * an integer beyond 64 bits is a real (model_max_length of many tokenizers is 10^30), or an error where exact
 * values are asked for; NaN and Infinity are not JSON; \u0000 is kept in strings and refused in keys; at most
 * DF_JSON_MAX_DEPTH levels.
 */
#ifndef DF_BASE_JSON_H
#define DF_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct df_json;       /* a document */
struct df_json_value; /* a value inside one; NULL stands for "absent" everywhere below */

enum df_json_type {
	DF_JSON_ABSENT,
	DF_JSON_NULL,
	DF_JSON_BOOL,
	DF_JSON_INT,
	DF_JSON_REAL,
	DF_JSON_STR,
	DF_JSON_ARRAY,
	DF_JSON_OBJECT
};

#define DF_JSON_MAX_DEPTH 512

/*
 * Parse n bytes; any value may be the root.  `name` (a path, or "FILE row 7")
 * opens every message.  DF_EFORMAT, DF_ERANGE (a limit, the depth),
 * DF_ENOINPUT.  df_json_load reads a file of at most `limit` bytes ("-" is
 * standard input).  *out is yours: df_json_free().
 */
int df_json_parse(struct df_json **out, const char *text, size_t n, const char *name, struct df_err *err) DF_MUST_CHECK;
/* The same, but an integer beyond 64 bits is DF_ERANGE: for values that are written out again. */
int df_json_parse_exact(struct df_json **out, const char *text, size_t n, const char *name, struct df_err *err)
    DF_MUST_CHECK;
/* Also exact, and a duplicate key is DF_EFORMAT: for formats that forbid them (safetensors), and rows of data. */
int df_json_parse_unique(struct df_json **out, const char *text, size_t n, const char *name, struct df_err *err)
    DF_MUST_CHECK;
int df_json_load(struct df_json **out, const char *path, size_t limit, struct df_err *err) DF_MUST_CHECK;
/* A line of a file of JSON lines, as df_json_parse: messages have the column alone, for the caller to put file and line
 * in front. */
int df_json_parse_line(struct df_json **out, const char *line, size_t n, struct df_err *err) DF_MUST_CHECK;
void df_json_free(struct df_json *j); /* accepts NULL */
const struct df_json_value *df_json_root(const struct df_json *j);

enum df_json_type df_json_type(const struct df_json_value *v);
const char *df_json_type_name(const struct df_json_value *v); /* "a string", "an object": for messages */
/* NULL when absent or not an object. */
const struct df_json_value *df_json_get(const struct df_json_value *obj, const char *key);
size_t df_json_size(const struct df_json_value *v); /* of an array or object; else 0 */
const struct df_json_value *df_json_at(const struct df_json_value *arr, size_t i);

/*
 * Members of an object in file order, each step in constant time:
 *
 *	const struct df_json_member *m = NULL;
 *	while ((m = df_json_next(obj, m, &key, &value)) != NULL)
 */
struct df_json_member;
const struct df_json_member *df_json_next(const struct df_json_value *obj, const struct df_json_member *after,
    const char **key, const struct df_json_value **value);

const char *df_json_str(const struct df_json_value *v, size_t *n); /* NULL when not a string; n may be NULL */
bool df_json_bool(const struct df_json_value *v, bool dflt);
bool df_json_int(const struct df_json_value *v, int64_t *out);      /* integers only */
bool df_json_number(const struct df_json_value *v, double *out);    /* integers and reals */

/*
 * Typed members of an object with a default for "absent or null"; a value of
 * another type is DF_EFORMAT that names the key, one outside [min,max]
 * DF_ERANGE.
 */
int df_json_member_int(const struct df_json_value *obj, const char *key, int64_t dflt, int64_t min, int64_t max,
    int64_t *out, struct df_err *err) DF_MUST_CHECK;
int df_json_member_double(const struct df_json_value *obj, const char *key, double dflt, double *out,
    struct df_err *err) DF_MUST_CHECK;
int df_json_member_bool(const struct df_json_value *obj, const char *key, bool dflt, bool *out,
    struct df_err *err) DF_MUST_CHECK;
int df_json_member_str(const struct df_json_value *obj, const char *key, const char *dflt, const char **out,
    struct df_err *err) DF_MUST_CHECK;

/* Append a value as JSON text on one line, members in file order. */
void df_json_write(struct df_buf *out, const struct df_json_value *v);
#endif
