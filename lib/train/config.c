/*
 * config.c - from YAML values to the fields of a run, through the table.
 *
 * The file and the command line go the same way, set(); so an override means
 * exactly what the line in the file would.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/opt.h"
#include "base/words.h"
#include "train/config.h"
#include "train/config_priv.h"

#define CONFIG_MAX  ((size_t)1 << 20) /* bytes of a configuration file */
#define CHOICES_MAX 32                /* words of a key's `allowed` */

struct load {
	struct df_train_config *c;
	const char *name;      /* of the file; NULL for overrides */
	struct df_buf ignored; /* keys that have no effect, for one warning */
};

static void *
field(const struct df_train_config *c, const struct df_key *k)
{
	return (char *)(uintptr_t)c + k->offset;
}

static bool
any_of(const char *word, const char *const *words)
{
	for (; *words; words++) {
		if (strcmp(word, *words) == 0)
			return true;
	}
	return false;
}

/* YAML 1.1's words, as PyYAML resolves them. */
static bool
is_null(const struct df_yaml_value *v)
{
	static const char *const words[] = { "", "~", "null", "Null", "NULL", NULL };

	return v->kind == DF_YAML_SCALAR && v->plain && any_of(v->text, words);
}

static bool
is_bool(const struct df_yaml_value *v, bool *b)
{
	static const char *const yes[] = { "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", NULL };
	static const char *const no[] = { "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", NULL };

	if (v->kind != DF_YAML_SCALAR || !v->plain)
		return false;
	*b = any_of(v->text, yes);
	return *b || any_of(v->text, no);
}

/* Is text one of the words of "a|b|c"?  Numbers compare as numbers. */
static bool
in_choices(const char *choices, const char *text)
{
	size_t n = strlen(text);
	double a, b;

	for (const char *p = choices; p && *p;) {
		size_t len = strcspn(p, "|");
		char word[64];

		if (len == n && memcmp(p, text, n) == 0)
			return true;
		if (len < sizeof(word)) {
			memcpy(word, p, len);
			word[len] = 0;
			if (df_parse_double(word, &a, NULL) == DF_OK && df_parse_double(text, &b, NULL) == DF_OK &&
			    a == b)
				return true;
		}
		p += len + (p[len] == '|');
	}
	return false;
}

/* "a|b|c" -> "a, b, c" */
static void
spell_choices(struct df_buf *b, const char *choices)
{
	for (const char *p = choices; *p; p++) {
		if (*p == '|')
			df_buf_puts(b, ", ");
		else
			df_buf_putc(b, *p);
	}
}

static int
wrong(const struct df_key *k, const char *text, const char *want, struct df_err *err)
{
	return df_fail(err, DF_ECONFIG, "%s: '%.60s' is not %s", k->name, text ? text : "(a map)", want);
}

static int
bad_choice(const struct df_key *k, const char *text, struct df_err *err)
{
	const char *words[CHOICES_MAX + 1] = { NULL };
	struct df_buf b = DF_BUF_INIT;
	char *copy = NULL, *rest;
	int rc;

	spell_choices(&b, k->allowed);
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_strdup(&copy, k->allowed, err));
	rest = copy;
	for (size_t n = 0; rest && n < CHOICES_MAX; n++)
		words[n] = strsep(&rest, "|");
	rc = df_fail(err, DF_ECONFIG, "%s: '%.60s' is none of %s", k->name, text, b.data);
	df_suggest(err, text, words);
out:
	df_buf_release(&b);
	free(copy);
	return rc;
}

static int
set_number(const struct df_key *k, struct df_train_config *c, const char *text, struct df_err *err)
{
	double x;
	int64_t i;

	if (k->type == DF_KEY_INT) {
		if (df_parse_int(text, INT64_MIN, INT64_MAX, &i, NULL) != DF_OK)
			return wrong(k, text, "a whole number", err);
		x = (double)i;
	} else {
		if (df_parse_double(text, &x, NULL) != DF_OK || !isfinite(x))
			return wrong(k, text, "a number", err);
		i = 0;
	}
	if ((k->min != 0 || k->max != 0) && (x < k->min || x > k->max))
		return df_fail(err, DF_ECONFIG, "%s: %s is outside %g to %g", k->name, text, k->min, k->max);
	if (k->type == DF_KEY_INT)
		*(int64_t *)field(c, k) = i;
	else
		*(double *)field(c, k) = x;
	return DF_OK;
}

/* Put v into its field.  Takes v->text or v->map where the field keeps it. */
static int
set_supported(const struct df_key *k, struct df_train_config *c, struct df_yaml_value *v, struct df_err *err)
{
	bool null = is_null(v), b;
	char **s;

	if (k->type == DF_KEY_MAP) {
		if (!null && v->kind != DF_YAML_MAP)
			return wrong(k, v->text, "a map", err);
		df_config_map_release(field(c, k));
		*(struct df_config_map *)field(c, k) = v->map;
		v->map = (struct df_config_map){ 0 };
		return DF_OK;
	}
	if (v->kind == DF_YAML_MAP)
		return wrong(k, NULL, "a single value", err);
	switch (k->type) {
	case DF_KEY_BOOL:
		if (!is_bool(v, &b))
			return wrong(k, v->text, "true or false", err);
		*(bool *)field(c, k) = b;
		return DF_OK;
	case DF_KEY_INT:
	case DF_KEY_REAL:
		if (null && strcmp(k->dflt, "null") != 0)
			return wrong(k, "null", "a number", err);
		if (null) {
			memset(field(c, k), 0, 8);
			return DF_OK;
		}
		return set_number(k, c, v->text, err);
	default: break;
	}
	/* `save_strategy: no` and `resume_from_checkpoint: true`: a plain bool is the word it stands for */
	if (!null && is_bool(v, &b)) {
		const char *word = k->allowed ? (b ? "yes" : "no") : (b ? "true" : "false");

		free(v->text);
		v->text = NULL;
		int rc = df_strdup(&v->text, word, err);
		if (rc != DF_OK)
			return rc;
	}
	if (k->allowed && (null || !in_choices(k->allowed, v->text)))
		return bad_choice(k, null ? "null" : v->text, err);
	s = field(c, k);
	free(*s);
	*s = null ? NULL : v->text;
	if (!null)
		v->text = NULL;
	return DF_OK;
}

static int
set_rejected(const struct df_key *k, const struct df_yaml_value *v, struct df_err *err)
{
	bool b;

	if (is_null(v) || (is_bool(v, &b) && !b))
		return DF_OK;
	if (v->kind == DF_YAML_SCALAR && in_choices(k->allowed, v->text))
		return DF_OK;
	return df_fail(err, DF_ECONFIG, "%s: %s", k->name, k->help);
}

/* Kept as text; bools in one spelling, so that they compare. */
static int
set_checked(const struct df_key *k, struct df_train_config *c, struct df_yaml_value *v, struct df_err *err)
{
	char *key = NULL, *value = NULL;
	bool b;
	int rc;

	if (v->kind == DF_YAML_MAP)
		return wrong(k, NULL, "a single value", err);
	if ((rc = df_strdup(&key, k->name, err)) != DF_OK)
		return rc;
	/* null means that nothing is said, unless it is a value like any other */
	rc = df_strdup(&value,
	    is_null(v)           ? (k->allowed ? "null" : "")
		: is_bool(v, &b) ? (b ? "true" : "false")
				 : v->text,
	    err);
	if (rc != DF_OK) {
		free(key);
		return rc;
	}
	return df_config_map_put(&c->packed, key, value, err);
}

static int
unknown(const char *key, struct df_err *err)
{
	const struct df_key *keys = df_train_keys();
	const char *names[DF_TRAIN_KEYS_MAX + 1];
	size_t n = 0;

	for (; keys[n].name; n++)
		names[n] = keys[n].name;
	names[n] = NULL;
	return df_unknown(err, DF_ECONFIG, "key", key, names, "df-config(5) lists all keys");
}

static int
set(struct load *l, const char *key, int line, struct df_yaml_value *v, struct df_err *err)
{
	const struct df_key *keys = df_train_keys(), *k = keys;
	bool b;

	while (k->name && strcmp(k->name, key) != 0)
		k++;
	if (!k->name)
		return unknown(key, err);
	if (l->name && l->c->line[k - keys] > 0)
		return df_fail(err, DF_ECONFIG, "%s is given twice (first in line %d)", key, l->c->line[k - keys]);
	l->c->line[k - keys] = line;
	switch (k->status) {
	case DF_KEY_SUPPORTED: return set_supported(k, l->c, v, err);
	case DF_KEY_REJECTED: return set_rejected(k, v, err);
	case DF_KEY_CHECKED: return set_checked(k, l->c, v, err);
	default: break;
	}
	if (is_null(v) || (is_bool(v, &b) && !b) || (v->kind == DF_YAML_SCALAR && in_choices(k->allowed, v->text)))
		return DF_OK;
	df_buf_printf(&l->ignored, "%s%s", l->ignored.len ? ", " : "", key);
	return DF_OK;
}

static int
member(void *ctx, const char *key, int line, struct df_yaml_value *v, struct df_err *err)
{
	struct load *l = ctx;
	int rc = set(l, key, line, v, err);

	if (rc != DF_OK)
		df_err_prefix(err, "%s:%d: ", l->name, line);
	return rc;
}

/* "key=value", or "map.member=value". */
static int
override(struct load *l, const char *word, struct df_err *err)
{
	const char *eq = strchr(word, '=');
	struct df_yaml_value v = { 0 };
	char *key = NULL, *sub = NULL, *dot;
	int rc = DF_OK;

	if (!eq || eq == word)
		return df_fail(err, DF_EUSAGE, "'%.80s': expected key=value", word);
	DF_TRY(df_strndup(&key, word, (size_t)(eq - word), err));
	DF_TRY(df_yaml_value(eq + 1, strlen(eq + 1), key, &v, err));
	dot = strchr(key, '.');
	if (dot) {
		*dot = 0;
		if (strcmp(key, "lr_scheduler_kwargs") != 0 || v.kind != DF_YAML_SCALAR) {
			rc = df_fail(err, DF_ECONFIG, "%s.%s: only lr_scheduler_kwargs has members", key, dot + 1);
			goto out;
		}
		DF_TRY(df_strdup(&sub, dot + 1, err));
		rc = df_config_map_put(&l->c->lr_scheduler_kwargs, sub, v.text, err);
		v.text = NULL;
		goto out;
	}
	rc = set(l, key, -1, &v, err);
out:
	df_yaml_value_release(&v);
	free(key);
	return rc;
}

static int
set_defaults(struct df_train_config *c, struct df_err *err)
{
	for (const struct df_key *k = df_train_keys(); k->name; k++) {
		struct df_yaml_value v = { .plain = true };
		int rc;

		if (k->status != DF_KEY_SUPPORTED)
			continue;
		if ((rc = df_strdup(&v.text, k->dflt, err)) == DF_OK) {
			/* the default `no` is a word here, not a bool */
			v.plain = !k->allowed;
			rc = set_supported(k, c, &v, err);
		}
		df_yaml_value_release(&v);
		if (rc != DF_OK)
			return rc;
	}
	return DF_OK;
}

/* What is decided by evaluations needs some, and the best model a checkpoint. */
static int
check_evaluation(const struct df_train_config *c, struct df_err *err)
{
	const char *needs = c->load_best_model_at_end                   ? "load_best_model_at_end"
	    : c->early_stopping_steps > 0                               ? "early_stopping_steps"
	    : strcmp(c->lr_scheduler_type, "reduce_lr_on_plateau") == 0 ? "lr_scheduler_type: reduce_lr_on_plateau"
									: NULL;

	if (needs && strcmp(c->eval_strategy, "no") == 0)
		return df_fail(err, DF_ECONFIG, "%s needs eval_strategy: steps or epoch", needs);
	if (c->load_best_model_at_end && strcmp(c->eval_strategy, c->save_strategy) != 0)
		return df_fail(err, DF_ECONFIG,
		    "load_best_model_at_end needs save_strategy and eval_strategy to be the same, not %s and %s",
		    c->save_strategy, c->eval_strategy);
	return DF_OK;
}

/* What one key alone cannot show. */
static int
check(const struct df_train_config *c, struct df_err *err)
{
	static const char *const checkpointing[] = { "auto", "true", "false", NULL };
	static const char *const booleans[] = { "true", "false", NULL };
	const struct {
		const char *key, *value;
	} required[] = { { "model_name_or_path", c->model_name_or_path }, { "output_dir", c->output_dir },
		{ "tokenized_path", c->tokenized_path } };

	for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
		if (!required[i].value || !*required[i].value)
			return df_fail(err, DF_ECONFIG,
			    "%s%s%s is required: put it into the file or on the command line (%s=...)%s",
			    c->path ? c->path : "", c->path ? ": " : "", required[i].key, required[i].key,
			    strcmp(required[i].key, "tokenized_path") == 0 ? "; df-pack makes it of your datasets"
									   : "");
	}
	if (c->train_from_scratch && strcmp(c->finetuning_type, "full") != 0)
		return df_fail(err, DF_ECONFIG,
		    "train_from_scratch needs finetuning_type: full: adapters on random weights "
		    "could never be loaded again");
	if (c->adapter_name_or_path && strcmp(c->finetuning_type, "lora") != 0)
		return df_fail(err, DF_ECONFIG, "adapter_name_or_path needs finetuning_type: lora");
	if (c->max_steps <= 0 && c->num_train_epochs <= 0)
		return df_fail(err, DF_ECONFIG, "nothing to train: num_train_epochs is 0 and max_steps is not given");
	if (strcmp(c->eval_strategy, "no") != 0 && !c->eval_tokenized_path)
		return df_fail(err, DF_ECONFIG, "eval_strategy: %s needs eval_tokenized_path", c->eval_strategy);
	if (c->loraplus_lr_ratio > 0 && strcmp(c->finetuning_type, "lora") != 0)
		return df_fail(err, DF_ECONFIG, "loraplus_lr_ratio needs finetuning_type: lora");
	if (!c->gradient_checkpointing || !any_of(c->gradient_checkpointing, checkpointing))
		return df_unknown(err, DF_ECONFIG, "gradient_checkpointing",
		    c->gradient_checkpointing ? c->gradient_checkpointing : "null", checkpointing, NULL);
	if (c->greater_is_better && !any_of(c->greater_is_better, booleans))
		return df_unknown(err, DF_ECONFIG, "greater_is_better", c->greater_is_better, booleans, NULL);
	return check_evaluation(c, err);
}

int
df_train_config_load(
    struct df_train_config *c, const char *path, const char *const *words, size_t n_words, struct df_err *err)
{
	struct load l = { .c = c, .ignored = DF_BUF_INIT };
	char *text = NULL;
	size_t n;
	int rc = DF_OK;

	*c = (struct df_train_config){ 0 };
	DF_TRY(set_defaults(c, err));
	if (path) {
		DF_TRY(df_strdup(&c->path, path, err));
		rc = df_file_get(path, CONFIG_MAX, &text, &n, err);
		if (rc == DF_ERANGE)
			rc = df_fail(err, DF_ECONFIG, "%s: larger than 1 MiB: not a configuration", path);
		if (rc != DF_OK)
			goto out;
		l.name = path;
		DF_TRY(df_yaml_walk(text, n, path, member, &l, err));
	}
	l.name = NULL;
	for (size_t i = 0; i < n_words; i++)
		DF_TRY(override(&l, words[i], err));
	DF_TRY(check(c, err));
	DF_TRY(df_buf_check(&l.ignored, err));
	if (l.ignored.len > 0)
		df_warn("%s%sno effect here: %s (df-config(5) says why)", path ? path : "", path ? ": " : "",
		    l.ignored.data);
out:
	free(text);
	df_buf_release(&l.ignored);
	if (rc != DF_OK)
		df_train_config_release(c);
	return rc;
}

void
df_train_config_release(struct df_train_config *c)
{
	for (const struct df_key *k = df_train_keys(); k->name; k++) {
		if (k->status == DF_KEY_SUPPORTED && k->type == DF_KEY_STR)
			free(*(char **)field(c, k));
	}
	df_config_map_release(&c->lr_scheduler_kwargs);
	df_config_map_release(&c->packed);
	free(c->path);
	*c = (struct df_train_config){ 0 };
}

void
df_train_config_place(const struct df_train_config *c, const char *key, struct df_buf *out)
{
	const struct df_key *keys = df_train_keys(), *k = keys;

	while (k->name && strcmp(k->name, key) != 0)
		k++;
	if (k->name && c->path && c->line[k - keys] > 0)
		df_buf_printf(out, "%s:%d: ", c->path, c->line[k - keys]);
	df_buf_puts(out, key);
}

void
df_train_config_json(const struct df_train_config *c, struct df_buf *out)
{
	const char *sep = "{";

	for (const struct df_key *k = df_train_keys(); k->name; k++) {
		const void *f = field(c, k);

		if (!k->shapes)
			continue;
		df_buf_printf(out, "%s\"%s\": ", sep, k->name);
		sep = ", ";
		switch (k->type) {
		case DF_KEY_BOOL: df_buf_puts(out, *(const bool *)f ? "true" : "false"); break;
		case DF_KEY_INT: df_buf_printf(out, "%lld", (long long)*(const int64_t *)f); break;
		case DF_KEY_REAL: df_buf_json_double(out, *(const double *)f); break;
		case DF_KEY_STR:
			if (*(char *const *)f)
				df_buf_json_str(out, *(char *const *)f);
			else
				df_buf_puts(out, "null");
			break;
		case DF_KEY_MAP: {
			const struct df_config_map *m = f;

			df_buf_putc(out, '{');
			for (size_t i = 0; i < m->n; i++) {
				df_buf_puts(out, i ? ", " : "");
				df_buf_json_str(out, m->v[i].key);
				df_buf_puts(out, ": ");
				df_buf_json_str(out, m->v[i].value);
			}
			df_buf_putc(out, '}');
		}
		}
	}
	df_buf_putc(out, '}');
}

void
df_train_keys_list(struct df_buf *out)
{
	static const char *const types[] = { "bool", "int", "real", "string", "map" };
	static const char *const states[] = { "supported", "checked", "ignored", "rejected" };

	for (const struct df_key *k = df_train_keys(); k->name; k++) {
		df_buf_printf(out, "%s\t%s\t%s\t%s\t%s", k->name, states[k->status],
		    k->status == DF_KEY_SUPPORTED ? types[k->type] : "any",
		    k->status == DF_KEY_SUPPORTED ? k->dflt : "-", k->help);
		if (k->allowed) {
			df_buf_puts(out, k->status == DF_KEY_SUPPORTED ? " (one of " : " (may be ");
			spell_choices(out, k->allowed);
			df_buf_putc(out, ')');
		}
		df_buf_putc(out, '\n');
	}
}
