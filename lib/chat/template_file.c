/*
 * template_file.c - a user's template, from a YAML or JSON file.
 *
 *	name: mine
 *	like: chatml                    # what is not said here is chatml's
 *	user: "<|im_start|>human\n{{content}}<|im_end|>\n<|im_start|>assistant\n"
 *	assistant: ["{{content}}", {eos_token}, "\n"]
 *	stop_words: ["<|im_end|>"]
 *
 * YAML is turned into JSON text, so that there is one reader for both and the
 * limits, types and messages are the JSON reader's.  The file is small and
 * plain: aliases, tags and deep nesting are refused.
 */
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/opt.h"
#include "base/words.h"
#include "chat/template_priv.h"

#define FILE_MAX  ((size_t)1 << 20)
#define DEPTH_MAX 4

/* The template, and the document that owns its strings. */
struct df_template_own {
	struct df_template t;
	struct df_json *doc;
	char *name; /* when the file gives none */
};

void
df_template_own_free(struct df_template_own *own)
{
	if (!own)
		return;
	df_json_free(own->doc);
	free(own->name);
	free(own);
}

/* ---- YAML to JSON ------------------------------------------------------- */

/* An open sequence or mapping, and how many nodes it holds so far. */
struct level {
	bool is_map;
	size_t n;
};

static void
put_scalar(struct df_buf *out, const yaml_event_t *e, bool is_key)
{
	const char *s = (const char *)e->data.scalar.value;

	if (!is_key && e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
		if (!*s || strcmp(s, "~") == 0 || strcmp(s, "null") == 0) {
			df_buf_puts(out, "null");
			return;
		}
		if (strcmp(s, "true") == 0 || strcmp(s, "false") == 0) {
			df_buf_puts(out, s);
			return;
		}
	}
	df_buf_json_strn(out, s, e->data.scalar.length);
}

/* One event as JSON, after a comma or colon if one is needed. */
static int
put_event(struct df_buf *out, const yaml_event_t *e, struct level *level, size_t *depth, struct df_err *err)
{
	struct level *in = *depth > 0 ? &level[*depth - 1] : NULL;
	const bool is_key = in && in->is_map && in->n % 2 == 0;

	switch (e->type) {
	case YAML_SCALAR_EVENT:
	case YAML_SEQUENCE_START_EVENT:
	case YAML_MAPPING_START_EVENT:
		if (in && in->n++ > 0)
			df_buf_putc(out, in->is_map && !is_key ? ':' : ',');
		if (e->type == YAML_SCALAR_EVENT) {
			put_scalar(out, e, is_key);
			break;
		}
		if (is_key)
			return df_fail(err, DF_ECONFIG, "a key must be a word");
		if (*depth == DEPTH_MAX)
			return df_fail(err, DF_ECONFIG, "nested more than %d levels deep", DEPTH_MAX);
		level[*depth] = (struct level){ e->type == YAML_MAPPING_START_EVENT, 0 };
		df_buf_putc(out, level[(*depth)++].is_map ? '{' : '[');
		break;
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		df_buf_putc(out, e->type == YAML_MAPPING_END_EVENT ? '}' : ']');
		--*depth;
		break;
	case YAML_ALIAS_EVENT: return df_fail(err, DF_ECONFIG, "aliases are not supported");
	default: break;
	}
	return 0;
}

static int
yaml_to_json(const char *text, size_t n, struct df_buf *out, struct df_err *err)
{
	struct level level[DEPTH_MAX] = { { false, 0 } };
	yaml_parser_t parser;
	yaml_event_type_t type;
	size_t depth = 0, documents = 0;
	int rc = DF_OK;

	if (!yaml_parser_initialize(&parser))
		return df_fail(err, DF_ENOMEM, "out of memory for the YAML parser");
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
	do {
		yaml_event_t e;
		size_t line;

		if (!yaml_parser_parse(&parser, &e)) {
			rc = df_fail(err, DF_ECONFIG, "line %zu: %s", parser.problem_mark.line + 1,
			    parser.problem ? parser.problem : "not YAML");
			break;
		}
		type = e.type;
		line = e.start_mark.line + 1;
		if (type == YAML_DOCUMENT_START_EVENT && documents++ > 0)
			rc = df_fail(err, DF_ECONFIG, "a second document");
		else
			rc = put_event(out, &e, level, &depth, err);
		yaml_event_delete(&e);
		if (rc != DF_OK)
			df_err_prefix(err, "line %zu: ", line);
	} while (rc == 0 && type != YAML_STREAM_END_EVENT);
	yaml_parser_delete(&parser);
	if (rc == 0 && documents == 0)
		rc = df_fail(err, DF_ECONFIG, "the file is empty");
	return rc ? rc : df_buf_check(out, err);
}

/* ---- slots -------------------------------------------------------------- */

static const char *const slot_names[DF_SLOT_COUNT] = {
	[DF_SLOT_PREFIX] = "prefix",
	[DF_SLOT_SYSTEM] = "system",
	[DF_SLOT_USER] = "user",
	[DF_SLOT_ASSISTANT] = "assistant",
	[DF_SLOT_OBSERVATION] = "observation",
	[DF_SLOT_FUNCTION] = "function",
};

/* A text that is not empty and holds no NUL. */
static int
read_text(const struct df_json_value *v, const char **out, struct df_err *err)
{
	size_t n;
	const char *s = df_json_str(v, &n);

	if (!s)
		return df_fail(err, DF_ECONFIG, "expected a text, found %s", df_json_type_name(v));
	if (n == 0 || strlen(s) != n)
		return df_fail(err, DF_ECONFIG, n == 0 ? "a text is empty" : "a text holds a NUL character");
	*out = s;
	return 0;
}

/* A text, {bos_token}, {eos_token} or {token: TEXT}. */
static int
read_elem(const struct df_json_value *v, struct df_elem *e, struct df_err *err)
{
	static const char expected[] = "expected a text, {bos_token}, {eos_token} or {token: TEXT}";
	const struct df_json_value *value;
	const char *key;

	if (df_json_type(v) != DF_JSON_OBJECT) {
		e->kind = DF_ELEM_TEXT;
		return read_text(v, &e->text, err);
	}
	if (df_json_size(v) != 1)
		return df_fail(err, DF_ECONFIG, "%s", expected);
	df_json_next(v, NULL, &key, &value);
	if (strcmp(key, "token") == 0) {
		e->kind = DF_ELEM_TOKEN;
		return read_text(value, &e->text, err);
	}
	if (strcmp(key, "bos_token") != 0 && strcmp(key, "eos_token") != 0)
		return df_fail(err, DF_ECONFIG, "%s, found {%s}", expected, key);
	if (df_json_type(value) != DF_JSON_NULL && !df_json_bool(value, false))
		return df_fail(err, DF_ECONFIG, "{%s} has no value of its own", key);
	e->kind = key[0] == 'b' ? DF_ELEM_BOS : DF_ELEM_EOS;
	return 0;
}

/* A misspelled placeholder would be in every sample as plain text. */
static int
check_marks(const char *text, enum df_slot slot, struct df_err *err)
{
	for (const char *s = text; (s = strstr(s, "{{")); s += 2) {
		const size_t n = strspn(s + 2, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_");

		if (n == 0 || strncmp(s + 2 + n, "}}", 2) != 0)
			continue;
		if ((n == 7 && strncmp(s + 2, "content", n) == 0) ||
		    (n == 3 && slot == DF_SLOT_USER && strncmp(s + 2, "idx", n) == 0))
			continue;
		return df_fail(err, DF_ECONFIG, "{{%.*s}} means nothing here ({{content}} is the message%s)",
		    (int)(n < 60 ? n : 60), s + 2, slot == DF_SLOT_USER ? ", {{idx}} the round" : "");
	}
	return 0;
}

/* The rules of LLaMA-Factory's formatters: a prefix is always the same text, the other slots hold the message. */
static int
check_slot(const struct df_elem *e, enum df_slot s, struct df_err *err)
{
	bool has_mark = false;
	int rc = DF_OK;

	for (; e->kind != DF_ELEM_END; e++) {
		has_mark |= e->kind == DF_ELEM_TEXT && strstr(e->text, "{{content}}");
		if (e->kind == DF_ELEM_TEXT)
			DF_TRY(check_marks(e->text, s, err));
	}
	if (has_mark != (s != DF_SLOT_PREFIX))
		rc = df_fail(err, DF_ECONFIG, has_mark ? "{{content}} has no place here" : "no text with {{content}}");
out:
	return rc;
}

static int
read_slot(const struct df_json_value *v, enum df_slot s, struct df_elem *out, struct df_err *err)
{
	const size_t n = df_json_type(v) == DF_JSON_ARRAY ? df_json_size(v) : 1;
	int rc = DF_OK;

	memset(out, 0, DF_SLOT_MAX * sizeof(*out));
	if (n >= DF_SLOT_MAX)
		rc = df_fail(err, DF_ECONFIG, "more than %d elements", DF_SLOT_MAX - 1);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = read_elem(df_json_type(v) == DF_JSON_ARRAY ? df_json_at(v, i) : v, &out[i], err);
	/* `prefix: []` removes the prefix that came with `like`; an empty list gives any other slot its default. */
	if (rc == 0 && n > 0)
		rc = check_slot(out, s, err);
	if (rc != DF_OK)
		df_err_prefix(err, "'%s': ", slot_names[s]);
	return rc;
}

/* ---- the rest ----------------------------------------------------------- */

/* An array of texts: at least `min` and at most `max`; absent: out stays as it is. */
static int
read_list(
    const struct df_json_value *root, const char *key, size_t min, size_t max, const char **out, struct df_err *err)
{
	const struct df_json_value *v = df_json_get(root, key);
	const size_t n = df_json_size(v);
	int rc = DF_OK;

	if (!v)
		return 0;
	if (df_json_type(v) != DF_JSON_ARRAY || n < min || n > max)
		return min == max ? df_fail(err, DF_ECONFIG, "'%s': expected a list of %zu texts", key, max)
				  : df_fail(err, DF_ECONFIG, "'%s': expected a list of at most %zu texts", key, max);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = read_text(df_json_at(v, i), &out[i], err);
	if (min < max)
		out[n] = NULL;
	if (rc != DF_OK)
		df_err_prefix(err, "'%s': ", key);
	return rc;
}

static int
check_keys(const struct df_json_value *root, struct df_err *err)
{
	static const char *const known[] = { "name", "about", "like", "prefix", "system", "user", "assistant",
		"observation", "function", "default_system", "stop_words", "thought_words", "tool_call_words",
		"tool_format", "replace_eos", "efficient_eos", "fuse_system", "reasoning", NULL };
	const struct df_json_member *m = NULL;
	const struct df_json_value *value;
	const char *key;

	while ((m = df_json_next(root, m, &key, &value)) != NULL) {
		size_t i = 0;

		while (known[i] && strcmp(key, known[i]) != 0)
			i++;
		if (known[i])
			continue;
		return df_unknown(err, DF_ECONFIG, "key", key, known, "df-pack(1) lists the keys of a template");
	}
	return 0;
}

/* Checks that need the whole template. */
static int
check_whole(const struct df_template *t, struct df_err *err)
{
	const struct df_elem *system = df_template_slot(t, DF_SLOT_SYSTEM);

	if (t->replace_eos && !t->stop_words[0])
		return df_fail(err, DF_ECONFIG, "'replace_eos' needs 'stop_words': the first one becomes eos");
	if (t->fuse_system && (system[0].kind != DF_ELEM_TEXT || system[1].kind != DF_ELEM_END))
		return df_fail(err, DF_ECONFIG, "'fuse_system' needs a 'system' of one text");
	return 0;
}

static int
read_template(struct df_template *t, const struct df_json_value *root, struct df_err *err)
{
	const struct df_template *like = NULL;
	const char *s = NULL;
	int rc = DF_OK;

	if (df_json_type(root) != DF_JSON_OBJECT)
		return df_fail(err, DF_ECONFIG, "expected keys and values, found %s", df_json_type_name(root));
	DF_TRY(check_keys(root, err));
	DF_TRY(df_json_member_str(root, "like", NULL, &s, err));
	if (s) {
		DF_TRY(df_template_find(&like, s, err));
		*t = *like;
	}
	DF_TRY(df_json_member_str(root, "name", NULL, &t->name, err));
	DF_TRY(df_json_member_str(root, "about", "", &t->about, err));
	for (enum df_slot i = 0; i < DF_SLOT_COUNT; i++) {
		const struct df_json_value *v = df_json_get(root, slot_names[i]);

		if (v)
			DF_TRY(read_slot(v, i, t->slot[i], err));
	}
	DF_TRY(df_json_member_str(root, "default_system", t->default_system, &t->default_system, err));
	DF_TRY(read_list(root, "stop_words", 0, DF_STOP_MAX - 1, t->stop_words, err));
	DF_TRY(read_list(root, "thought_words", 2, 2, t->thought_words, err));
	DF_TRY(read_list(root, "tool_call_words", 2, 2, t->tool_call_words, err));
	DF_TRY(df_json_member_str(root, "tool_format", NULL, &s, err));
	if (df_json_get(root, "tool_format") && s)
		DF_TRY(df_tool_format_find(&t->tool_format, s, err));
	DF_TRY(df_json_member_bool(root, "replace_eos", t->replace_eos, &t->replace_eos, err));
	DF_TRY(df_json_member_bool(root, "efficient_eos", t->efficient_eos, &t->efficient_eos, err));
	DF_TRY(df_json_member_bool(root, "fuse_system", t->fuse_system, &t->fuse_system, err));
	DF_TRY(df_json_member_bool(root, "reasoning", t->reasoning, &t->reasoning, err));
	DF_TRY(check_whole(t, err));
out:
	return rc;
}

int
df_template_load(const struct df_template **out, const char *path, struct df_err *err)
{
	const char *dot = strrchr(df_path_base(path), '.');
	struct df_template_own *own = NULL;
	struct df_buf json = DF_BUF_INIT;
	char *text = NULL;
	size_t n;
	int rc = DF_OK;

	DF_TRY(df_file_get(path, FILE_MAX, &text, &n, err));
	DF_TRY(df_alloc(&own, 1, sizeof(*own), "template", err));
	if (dot && strcmp(dot, ".json") == 0) {
		rc = df_json_parse_unique(&own->doc, text, n, "JSON", err);
	} else {
		rc = yaml_to_json(text, n, &json, err);
		if (rc == 0)
			rc = df_json_parse_unique(&own->doc, json.data, json.len, "as JSON", err);
	}
	if (rc == 0)
		rc = read_template(&own->t, df_json_root(own->doc), err);
	if (rc == 0 && !own->t.name) {
		rc = df_strndup(&own->name, df_path_base(path),
		    dot ? (size_t)(dot - df_path_base(path)) : strlen(df_path_base(path)), err);
		own->t.name = own->name;
	}
	if (rc != DF_OK) {
		/*
		 * A wrong type or an unknown name in a file is a configuration error, no matter which function
		 * found it.
		 */
		if (rc != DF_ENOMEM)
			rc = err ? (err->code = DF_ECONFIG) : DF_ECONFIG;
		df_err_prefix(err, "%s: ", path);
		goto out;
	}
	own->t.own = own;
	*out = &own->t;
	own = NULL;
out:
	df_template_own_free(own);
	df_buf_release(&json);
	free(text);
	return rc;
}
