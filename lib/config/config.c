/*
 * config.c - from YAML values to the fields of a run, through the table.
 *
 * The file and the command line go the same way, set(); so an override means
 * exactly what the line in the file would.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/faults.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/opt.h"
#include "base/words.h"
#include "config/config.h"
#include "config/config_priv.h"

#define CONFIG_MAX  ((size_t)1 << 20) /* bytes of a configuration file */
#define CHOICES_MAX 32                /* words of a key's `allowed` */

struct load {
	struct df_train_config *c;
	const char *name;      /* of the file; NULL for overrides */
	struct df_buf ignored; /* keys that have no effect, for one warning */
	struct df_faults faults;
	struct df_err last; /* scratch for a fault that is to be kept */
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

/* Is the map spelt like the default "{name: value}"? */
static bool
is_default_map(const struct df_key *k, const struct df_config_map *m)
{
	struct df_buf b = DF_BUF_INIT;
	bool same;

	df_buf_putc(&b, '{');
	for (size_t i = 0; i < m->n; i++)
		df_buf_printf(&b, "%s%s: %s", i ? ", " : "", m->v[i].key, m->v[i].value);
	df_buf_putc(&b, '}');
	same = !b.failed && strcmp(b.data, k->dflt) == 0;
	df_buf_release(&b);
	return same;
}

/* What is not followed may say this: see enum df_key_status. */
static bool
is_neutral(const struct df_key *k, const struct df_yaml_value *v)
{
	bool b;

	if (v->kind == DF_YAML_MAP)
		return v->map.n == 0 || is_default_map(k, &v->map);
	if (is_null(v) || v->text[0] == '\0')
		return true;
	if (is_bool(v, &b))
		return strcmp(k->dflt, b ? "true" : "false") == 0 || in_choices(k->allowed, b ? "true" : "false") ||
		    (!b && strcmp(k->dflt, "true") != 0);
	return in_choices(k->dflt, v->text) || in_choices(k->allowed, v->text);
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

static const struct df_key *
find(const char *key)
{
	const struct df_key *k = df_train_keys();

	while (k->name && strcmp(k->name, key) != 0)
		k++;
	return k->name ? k : NULL;
}

static int
set(struct load *l, const char *key, int line, struct df_yaml_value *v, struct df_err *err)
{
	const struct df_key *k = find(key);
	int *place;

	if (!k)
		return unknown(key, err);
	place = &l->c->line[k - df_train_keys()];
	if (l->name && *place > 0)
		return df_fail(err, DF_ECONFIG, "%s is given twice (first in line %d)", key, *place);
	*place = line;
	if (k->status == DF_KEY_SUPPORTED)
		return set_supported(k, l->c, v, err);
	if (k->status == DF_KEY_CHECKED)
		return set_checked(k, l->c, v, err);
	if (is_neutral(k, v))
		return DF_OK;
	if (k->status == DF_KEY_REJECTED)
		return df_fail(err, DF_ECONFIG, "%s: %s", k->name, k->help);
	df_buf_printf(&l->ignored, "%s%s", l->ignored.len ? ", " : "", key);
	return DF_OK;
}

/* What is wrong with one key does not hide what is wrong with the next: it is kept, DF_OK.  Up to a limit. */
static int
keep_fault(struct load *l, const struct df_err *e)
{
	return e->code == DF_ECONFIG || e->code == DF_EUSAGE ? df_faults_keep(&l->faults, e) : e->code;
}

static int
member(void *ctx, const char *key, int line, struct df_yaml_value *v, struct df_err *err)
{
	struct load *l = ctx;
	int rc = set(l, key, line, v, err);

	if (rc == DF_OK)
		return DF_OK;
	df_err_prefix(err, "%s:%d: ", l->name, line);
	return keep_fault(l, err);
}

/* key.name=value: v becomes a member of the map `key`. */
static int
set_member(struct load *l, const char *key, const char *name, struct df_yaml_value *v, struct df_err *err)
{
	const struct df_key *k = find(key);
	struct df_yaml_value map = { .kind = DF_YAML_MAP };
	char *member_name = NULL;
	int rc = DF_OK;

	if (!k)
		return unknown(key, err);
	if (k->type != DF_KEY_MAP || v->kind != DF_YAML_SCALAR)
		return df_fail(err, DF_ECONFIG, "%s.%.80s: %s", key, name,
		    k->type != DF_KEY_MAP ? "the key has no members" : "a single value is expected");
	DF_TRY(df_strdup(&member_name, name, err));
	rc = df_config_map_put(k->status == DF_KEY_SUPPORTED ? field(l->c, k) : &map.map, member_name, v->text, err);
	v->text = NULL;
	if (rc == DF_OK && k->status != DF_KEY_SUPPORTED)
		rc = set(l, key, -1, &map, err);
out:
	df_yaml_value_release(&map);
	return rc;
}

/* "key=value", or "map.member=value". */
static int
override(struct load *l, const char *word, struct df_err *err)
{
	const char *eq = strchr(word, '=');
	struct df_yaml_value v = { 0 };
	char *key = NULL, *dot;
	int rc = DF_OK;

	if (!eq || eq == word)
		return df_fail(err, DF_EUSAGE, "'%.80s': expected key=value", word);
	DF_TRY(df_strndup(&key, word, (size_t)(eq - word), err));
	DF_TRY(df_yaml_value(eq + 1, strlen(eq + 1), key, &v, err));
	dot = strchr(key, '.');
	if (dot)
		*dot = 0;
	rc = dot ? set_member(l, key, dot + 1, &v, err) : set(l, key, -1, &v, err);
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

/* Keep l->last, a fault that lies in more than the value of `key`. */
static void
keep_last(struct load *l, const char *key)
{
	const int line = l->c->line[find(key) - df_train_keys()];

	if (line < 0)
		df_err_prefix(&l->last, "command line: ");
	else if (line > 0)
		df_err_prefix(&l->last, "%s:%d: ", l->c->path, line);
	else if (l->c->path)
		df_err_prefix(&l->last, "%s: ", l->c->path);
	(void)keep_fault(l, &l->last);
}
#define FAULT(l, key, ...) ((void)df_fail(&(l)->last, DF_ECONFIG, __VA_ARGS__), keep_last(l, key))

static void
check_required(struct load *l)
{
	const struct df_train_config *c = l->c;
	const struct {
		const char *key, *value, *hint;
	} required[] = { { "model_name_or_path", c->model_name_or_path, "" }, { "output_dir", c->output_dir, "" },
		{ "tokenized_path", c->tokenized_path, "; df-pack makes it of your datasets" } };

	for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
		if (!required[i].value || !*required[i].value)
			FAULT(l, required[i].key,
			    "%s is required: put it into the file or on the command line (%s=...)%s", required[i].key,
			    required[i].key, required[i].hint);
	}
}

/* What is decided by evaluations needs some, and the best model a checkpoint. */
static void
check_evaluation(struct load *l)
{
	const struct df_train_config *c = l->c;
	const bool evaluates = strcmp(c->eval_strategy, "no") != 0, saves_best = strcmp(c->save_strategy, "best") == 0;
	const struct {
		bool given;
		const char *key, *value;
	} needs[] = { { c->load_best_model_at_end, "load_best_model_at_end", "" },
		{ c->early_stopping_steps > 0, "early_stopping_steps", "" }, { saves_best, "save_strategy", ": best" },
		{ strcmp(c->lr_scheduler_type, "reduce_lr_on_plateau") == 0, "lr_scheduler_type",
		    ": reduce_lr_on_plateau" } };

	for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
		if (needs[i].given && !evaluates)
			FAULT(
			    l, needs[i].key, "%s%s needs eval_strategy: steps or epoch", needs[i].key, needs[i].value);
	}
	if (evaluates && !c->eval_tokenized_path)
		FAULT(l, "eval_strategy", "eval_strategy: %s needs eval_tokenized_path", c->eval_strategy);
	if (c->load_best_model_at_end && evaluates && !saves_best && strcmp(c->eval_strategy, c->save_strategy) != 0)
		FAULT(l, "load_best_model_at_end",
		    "load_best_model_at_end needs save_strategy: best, or the same as eval_strategy, not %s and %s",
		    c->save_strategy, c->eval_strategy);
}

static void
check_word(struct load *l, const char *key, const char *word, const char *const *words)
{
	if (any_of(word, words))
		return;
	(void)df_unknown(&l->last, DF_ECONFIG, key, word, words, NULL);
	keep_last(l, key);
}

/* What one key alone cannot show. */
static void
check(struct load *l)
{
	static const char *const checkpointing[] = { "auto", "true", "false", NULL };
	static const char *const booleans[] = { "true", "false", NULL };
	const struct df_train_config *c = l->c;
	const bool lora = strcmp(c->finetuning_type, "lora") == 0;

	check_required(l);
	if (c->train_from_scratch && strcmp(c->finetuning_type, "full") != 0)
		FAULT(l, "train_from_scratch",
		    "train_from_scratch needs finetuning_type: full: adapters on random weights could never be loaded "
		    "again");
	if (c->adapter_name_or_path && !lora)
		FAULT(l, "adapter_name_or_path", "adapter_name_or_path needs finetuning_type: lora");
	if (c->max_steps <= 0 && c->num_train_epochs <= 0)
		FAULT(l, "num_train_epochs", "nothing to train: num_train_epochs is 0 and max_steps is not given");
	if (c->loraplus_lr_ratio > 0 && !lora)
		FAULT(l, "loraplus_lr_ratio", "loraplus_lr_ratio needs finetuning_type: lora");
	if (c->use_dft_loss && strcmp(c->stage, "sft") != 0)
		FAULT(l, "use_dft_loss", "use_dft_loss needs stage: sft (in others LLaMA-Factory does not look at it)");
	check_word(l, "gradient_checkpointing", c->gradient_checkpointing ? c->gradient_checkpointing : "null",
	    checkpointing);
	if (c->greater_is_better)
		check_word(l, "greater_is_better", c->greater_is_better, booleans);
	check_evaluation(l);
}

static int
read_file(struct load *l, const char *path, struct df_err *err)
{
	char *text = NULL;
	size_t n;
	int rc;

	DF_TRY(df_strdup(&l->c->path, path, err));
	rc = df_file_get(path, CONFIG_MAX, &text, &n, err);
	if (rc == DF_ERANGE)
		rc = df_fail(err, DF_ECONFIG, "%s: larger than 1 MiB: not a configuration", path);
	if (rc != DF_OK)
		goto out;
	l->name = path;
	rc = df_yaml_walk(text, n, path, member, l, err);
	l->name = NULL;
out:
	free(text);
	return rc;
}

/* Every value that can be read, into l->c; what is wrong with others into l->faults. */
static int
read_all(struct load *l, const char *path, const char *const *words, size_t n_words, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(set_defaults(l->c, err));
	if (path && read_file(l, path, err) != DF_OK)
		DF_TRY(keep_fault(l, err));
	for (size_t i = 0; i < n_words; i++) {
		if (override(l, words[i], err) == DF_OK)
			continue;
		df_err_prefix(err, "command line: ");
		DF_TRY(keep_fault(l, err));
	}
out:
	return rc;
}

int
df_train_config_load(
    struct df_train_config *c, const char *path, const char *const *words, size_t n_words, struct df_err *err)
{
	struct load l = { .c = c, .ignored = DF_BUF_INIT, .faults = DF_FAULTS_INIT };
	struct df_err e = DF_ERR_INIT;
	int rc;

	*c = (struct df_train_config){ 0 };
	rc = read_all(&l, path, words, n_words, &e);
	if (rc != DF_OK && l.faults.n < DF_FAULTS_MAX)
		goto out;
	if (l.faults.n == 0)
		check(&l);
	DF_TRY(df_faults_report(&l.faults, path, &e));
	DF_TRY(df_buf_check(&l.ignored, &e));
	if (l.ignored.len > 0)
		df_warn("%s%sno effect here: %s (df-config(5) says why)", path ? path : "", path ? ": " : "",
		    l.ignored.data);
out:
	if (rc != DF_OK && err)
		*err = e;
	df_buf_release(&l.ignored);
	df_faults_release(&l.faults);
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
	const struct df_key *k = find(key);

	if (k && c->path && c->line[k - df_train_keys()] > 0)
		df_buf_printf(out, "%s:%d: ", c->path, c->line[k - df_train_keys()]);
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
		df_buf_printf(out, "%s\t%s\t%s\t%s\t%s", k->name, states[k->status], types[k->type], k->dflt, k->help);
		if (k->allowed) {
			df_buf_puts(out, k->status == DF_KEY_SUPPORTED ? " (one of " : " (may be ");
			spell_choices(out, k->allowed);
			df_buf_putc(out, ')');
		}
		df_buf_putc(out, '\n');
	}
}
