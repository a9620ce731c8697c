/*
 * config.c - from YAML values to the fields of a run, through the table.
 *
 * The file and the command line go the same way, set(); so an override means
 * exactly what the line in the file would.
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
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

#define CONFIG_MAX ((size_t)1 << 20) /* bytes of a configuration file */

struct load {
	struct df_config *c;
	enum df_key_owner program;
	const char *name;      /* of the file; NULL for overrides */
	struct df_buf ignored; /* keys that have no effect, for one warning */
	struct df_faults faults;
	struct df_err last; /* scratch for a fault that is to be kept */
};

static void *
field(const struct df_config *c, const struct df_key *k)
{
	return (char *)(uintptr_t)c + k->offset;
}

/* Every choice is a field of this size: its index in the words. */
_Static_assert(sizeof(enum df_schedule_type) == sizeof(int), "an enum is an int");

enum df_key_status
df_key_status(const struct df_key *k, enum df_key_owner program)
{
	const unsigned fields = DF_OWNER_TRAIN | DF_OWNER_EXPORT | DF_OWNER_PLAN;

	if (k->owners & (program == DF_OWNER_PLAN ? fields : program))
		return DF_KEY_SUPPORTED;
	if (program == DF_OWNER_PLAN && k->owners & DF_OWNER_PACK)
		return DF_KEY_CHECKED;
	return program == DF_OWNER_EXPORT ? k->in_export : k->in_train;
}

/* Does the key have a field of its own? */
static bool
has_field(const struct df_key *k)
{
	return k->owners & (DF_OWNER_TRAIN | DF_OWNER_EXPORT);
}

/* The place of a word in a list, or -1. */
static int
place_of(const char *word, const char *const *words)
{
	for (int i = 0; words[i]; i++) {
		if (strcmp(word, words[i]) == 0)
			return i;
	}
	return -1;
}

static bool
is_null(const struct df_yaml_value *v)
{
	return v->kind == DF_YAML_SCALAR && v->plain && df_yaml_null(v->text);
}

static bool
is_bool(const struct df_yaml_value *v, bool *b)
{
	return v->kind == DF_YAML_SCALAR && v->plain && df_yaml_bool(v->text, b);
}

/* Is text one of the words of "a|b|c"?  Numbers compare as numbers. */
static bool
in_words(const char *words, const char *text)
{
	size_t n = strlen(text);
	double a, b;

	for (const char *p = words; p && *p;) {
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
		return strcmp(k->dflt, b ? "true" : "false") == 0 || in_words(k->neutral, b ? "true" : "false") ||
		    (!b && strcmp(k->dflt, "true") != 0);
	return in_words(k->dflt, v->text) || in_words(k->neutral, v->text);
}

static int
wrong(const struct df_key *k, const char *text, const char *want, struct df_err *err)
{
	return df_fail(err, DF_ECONFIG, "%s: '%.60s' is not %s", k->name, text ? text : "(a map)", want);
}

static void
join(struct df_buf *b, const char *const *words)
{
	for (size_t i = 0; words[i]; i++)
		df_buf_printf(b, "%s%s", i ? ", " : "", words[i]);
}

static int
bad_choice(const struct df_key *k, const char *text, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	int rc = DF_OK;

	join(&b, k->choices);
	DF_TRY(df_buf_check(&b, err));
	rc = df_fail(err, DF_ECONFIG, "%s: '%.60s' is none of %s", k->name, text, b.data);
	df_suggest(err, text, k->choices);
out:
	df_buf_release(&b);
	return rc;
}

/* `save_strategy: no` and `gradient_checkpointing: true`: a plain bool is the word that stands for it. */
static int
set_choice(const struct df_key *k, struct df_config *c, const struct df_yaml_value *v, struct df_err *err)
{
	const bool null = is_null(v);
	bool b;
	int i = place_of(null ? "null" : v->text, k->choices);

	if (i < 0 && k->also && strcmp(v->text, k->also) == 0)
		i = 0;
	if (i < 0 && !null && is_bool(v, &b)) {
		i = place_of(b ? "true" : "false", k->choices);
		if (i < 0)
			i = place_of(b ? "yes" : "no", k->choices);
	}
	if (i < 0)
		return bad_choice(k, null ? "null" : v->text, err);
	*(int *)field(c, k) = i;
	return DF_OK;
}

static int
set_number(const struct df_key *k, struct df_config *c, const char *text, struct df_err *err)
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

/* Takes v->text.  `resume_from_checkpoint: true`: a plain bool is a word, in one spelling. */
static int
set_string(const struct df_key *k, struct df_config *c, struct df_yaml_value *v, struct df_err *err)
{
	char **s = field(c, k), *word = NULL;
	bool b;
	int rc = DF_OK;

	if (!is_null(v)) {
		if (is_bool(v, &b))
			rc = df_strdup(&word, b ? "true" : "false", err);
		else {
			word = v->text;
			v->text = NULL;
		}
	}
	if (rc == DF_OK) {
		free(*s);
		*s = word;
	}
	return rc;
}

/* Put v into its field.  Takes v->text or v->map where the field keeps it. */
static int
set_supported(const struct df_key *k, struct df_config *c, struct df_yaml_value *v, struct df_err *err)
{
	bool null = is_null(v), b;

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
	case DF_KEY_CHOICE: return set_choice(k, c, v, err);
	default: return set_string(k, c, v, err);
	}
}

/* Kept as text; bools in one spelling, so that they compare. */
static int
set_checked(const struct df_key *k, struct df_config *c, struct df_yaml_value *v, struct df_err *err)
{
	char *key = NULL, *value = NULL;
	bool b;
	int rc;

	if (v->kind == DF_YAML_MAP)
		return wrong(k, NULL, "a single value", err);
	if ((rc = df_strdup(&key, k->name, err)) != DF_OK)
		return rc;
	/* the empty text: nothing is said */
	rc = df_strdup(&value,
	    is_null(v)           ? (k->null_is_value ? "null" : "")
		: is_bool(v, &b) ? (b ? "true" : "false")
				 : v->text,
	    err);
	if (rc != DF_OK) {
		free(key);
		return rc;
	}
	return df_config_map_put(&c->packed, key, value, err);
}

const struct df_key *
df_key_find(const char *key)
{
	const struct df_key *k = df_keys();

	while (k->name && strcmp(k->name, key) != 0)
		k++;
	return k->name ? k : NULL;
}

/* The program's row of a key; what the program does not know is an error with the nearest key that it knows. */
static int
look_up(const struct load *l, const char *key, const struct df_key **out, struct df_err *err)
{
	const char **names = NULL;
	size_t n = 0;
	int rc = DF_OK;

	*out = df_key_find(key);
	if (*out && df_key_status(*out, l->program) != DF_KEY_UNKNOWN)
		goto out;
	DF_TRY(df_alloc(&names, df_keys_count() + 1, sizeof(*names), "names of keys", err));
	for (const struct df_key *k = df_keys(); k->name; k++) {
		if (df_key_status(k, l->program) != DF_KEY_UNKNOWN)
			names[n++] = k->name;
	}
	rc = df_unknown(err, DF_ECONFIG, "key", key, names,
	    l->program == DF_OWNER_EXPORT ? "df-merge(1) lists the keys of an export" : "df-config(5) lists all keys");
out:
	free(names);
	return rc;
}

static int
set(struct load *l, const char *key, int line, struct df_yaml_value *v, struct df_err *err)
{
	const struct df_key *k;
	int *place, rc;

	if ((rc = look_up(l, key, &k, err)) != DF_OK)
		return rc;
	place = &l->c->line[k - df_keys()];
	if (l->name && *place > 0)
		return df_fail(err, DF_ECONFIG, "%s is given twice (first in line %d)", key, *place);
	*place = line;
	switch (df_key_status(k, l->program)) {
	case DF_KEY_SUPPORTED: return set_supported(k, l->c, v, err);
	case DF_KEY_CHECKED: return set_checked(k, l->c, v, err);
	case DF_KEY_REJECTED:
		if (is_neutral(k, v))
			return DF_OK;
		return df_fail(
		    err, DF_ECONFIG, "%s: %s", k->name, l->program == DF_OWNER_EXPORT ? k->no_export : k->help);
	default: break;
	}
	/* A file for an export is full of what only concerns inference: no word about that. */
	if (l->program == DF_OWNER_EXPORT || is_neutral(k, v))
		return DF_OK;
	if (l->program == DF_OWNER_TRAIN && k->elsewhere)
		df_info("%s: %s", key, k->help);
	else
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
	const struct df_key *k;
	struct df_yaml_value map = { .kind = DF_YAML_MAP };
	char *member_name = NULL;
	bool own;
	int rc = DF_OK;

	DF_TRY(look_up(l, key, &k, err));
	own = df_key_status(k, l->program) == DF_KEY_SUPPORTED;
	if (k->type != DF_KEY_MAP || v->kind == DF_YAML_MAP) {
		rc = df_fail(err, DF_ECONFIG, "%s.%.80s: %s", key, name,
		    k->type != DF_KEY_MAP ? "the key has no members" : "a single value or a list is expected");
		goto out;
	}
	DF_TRY(df_strdup(&member_name, name, err));
	rc = df_config_map_put(own ? field(l->c, k) : &map.map, member_name, v->text, err);
	v->text = NULL;
	if (rc == DF_OK && !own)
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
set_defaults(struct df_config *c, enum df_key_owner program, struct df_err *err)
{
	for (const struct df_key *k = df_keys(); k->name; k++) {
		struct df_yaml_value v = { .plain = true };
		int rc;

		if (df_key_status(k, program) != DF_KEY_SUPPORTED)
			continue;
		if ((rc = df_strdup(&v.text, k->dflt, err)) == DF_OK)
			rc = set_supported(k, c, &v, err);
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
	const int line = df_config_line(l->c, key);

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
	const struct df_config *c = l->c;
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
	const struct df_config *c = l->c;
	const bool evaluates = c->eval_strategy != DF_STRATEGY_NO, saves_best = c->save_strategy == DF_STRATEGY_BEST;
	const struct {
		bool given;
		const char *key, *value;
	} needs[] = { { c->load_best_model_at_end, "load_best_model_at_end", "" },
		{ c->early_stopping_steps > 0, "early_stopping_steps", "" }, { saves_best, "save_strategy", ": best" },
		{ c->lr_scheduler_type == DF_SCHEDULE_REDUCE_LR_ON_PLATEAU, "lr_scheduler_type",
		    ": reduce_lr_on_plateau" } };

	for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
		if (needs[i].given && !evaluates)
			FAULT(
			    l, needs[i].key, "%s%s needs eval_strategy: steps or epoch", needs[i].key, needs[i].value);
	}
	if (evaluates && !c->eval_tokenized_path && l->program == DF_OWNER_TRAIN)
		FAULT(l, "eval_strategy", "eval_strategy: %s needs eval_tokenized_path",
		    df_strategy_names[c->eval_strategy]);
	if (c->load_best_model_at_end && evaluates && !saves_best && c->eval_strategy != c->save_strategy)
		FAULT(l, "load_best_model_at_end",
		    "load_best_model_at_end needs save_strategy: best, or the same as eval_strategy, not %s and %s",
		    df_strategy_names[c->save_strategy], df_strategy_names[c->eval_strategy]);
}

/* A dynamic run needs a method; its length is train_step or comes from other keys. */
static void
check_dynamic(struct load *l)
{
	const struct df_config *c = l->c;
	const bool updates = c->train_type == DF_TRAIN_SELECT || (c->train_type == DF_TRAIN_MIX && !c->static_mix);
	const char *type = df_train_type_names[c->train_type];

	if (c->train_type == DF_TRAIN_STATIC)
		return;
	if ((updates || c->train_type == DF_TRAIN_WEIGHT) && (!c->component_name || !*c->component_name))
		FAULT(l, "component_name", "train_type: %s needs component_name, the name of a method", type);
	if (updates && c->update_step == 0)
		FAULT(l, "update_step", "update_step must be at least 1: the steps between two updates");
	/* WeightTrainer's length is an ordinary one, unless train_step is given; the others never look at max_steps. */
	if (c->max_steps > 0 && c->max_steps != c->train_step && c->train_type != DF_TRAIN_WEIGHT)
		FAULT(l, "max_steps", "max_steps: a run with train_type: %s has train_step instead", type);
	else if (c->max_steps > 0 && c->train_step > 0 && c->max_steps != c->train_step)
		FAULT(l, "max_steps", "max_steps is %" PRId64 ", but train_step is %" PRId64 ": give one of them",
		    c->max_steps, c->train_step);
}

/* What one key alone cannot show. */
static void
check(struct load *l)
{
	const struct df_config *c = l->c;
	const bool lora = c->finetuning_type == DF_FINETUNING_LORA;

	if (l->program == DF_OWNER_TRAIN)
		check_required(l);
	if (c->train_from_scratch && c->finetuning_type != DF_FINETUNING_FULL)
		FAULT(l, "train_from_scratch",
		    "train_from_scratch needs finetuning_type: full: adapters on random weights could never be loaded "
		    "again");
	if (c->adapter_name_or_path && !lora)
		FAULT(l, "adapter_name_or_path", "adapter_name_or_path needs finetuning_type: lora");
	if (c->max_steps <= 0 && c->num_train_epochs <= 0)
		FAULT(l, "num_train_epochs", "nothing to train: num_train_epochs is 0 and max_steps is not given");
	if (c->loraplus_lr_ratio > 0 && !lora)
		FAULT(l, "loraplus_lr_ratio", "loraplus_lr_ratio needs finetuning_type: lora");
	if (c->use_dft_loss && c->stage != DF_CONFIG_SFT)
		FAULT(l, "use_dft_loss", "use_dft_loss needs stage: sft (in others LLaMA-Factory does not look at it)");
	check_evaluation(l);
	check_dynamic(l);
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

	DF_TRY(set_defaults(l->c, l->program, err));
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
df_config_load(struct df_config *c, enum df_key_owner program, const char *path, const char *const *words,
    size_t n_words, struct df_err *err)
{
	struct load l = { .c = c, .program = program, .ignored = DF_BUF_INIT, .faults = DF_FAULTS_INIT };
	struct df_err e = DF_ERR_INIT;
	int rc;

	*c = (struct df_config){ 0 };
	DF_TRY(df_alloc(&c->line, df_keys_count(), sizeof(*c->line), "lines of keys", &e));
	rc = read_all(&l, path, words, n_words, &e);
	if (rc != DF_OK && l.faults.n < DF_FAULTS_MAX)
		goto out;
	if (l.faults.n == 0 && program != DF_OWNER_EXPORT)
		check(&l);
	DF_TRY(df_faults_report(&l.faults, path, &e));
	DF_TRY(df_buf_check(&l.ignored, &e));
	if (l.ignored.len > 0) {
		if (program == DF_OWNER_TRAIN)
			df_warn("%s%sno effect here: %s (df-config(5) says why)", path ? path : "", path ? ": " : "",
			    l.ignored.data);
		c->ignored = df_buf_detach(&l.ignored);
	}
out:
	if (rc != DF_OK && err)
		*err = e;
	df_buf_release(&l.ignored);
	df_faults_release(&l.faults);
	if (rc != DF_OK)
		df_config_release(c);
	return rc;
}

void
df_config_release(struct df_config *c)
{
	for (const struct df_key *k = df_keys(); k->name; k++) {
		if (has_field(k) && k->type == DF_KEY_STR)
			free(*(char **)field(c, k));
		if (has_field(k) && k->type == DF_KEY_MAP)
			df_config_map_release(field(c, k));
	}
	df_config_map_release(&c->packed);
	free(c->ignored);
	free(c->line);
	free(c->path);
	*c = (struct df_config){ 0 };
}

int
df_config_line(const struct df_config *c, const char *key)
{
	const struct df_key *k = df_key_find(key);

	return k && c->line ? c->line[k - df_keys()] : 0;
}

bool
df_config_given(const struct df_config *c, const char *key)
{
	return df_config_line(c, key) != 0;
}

void
df_config_place(const struct df_config *c, const char *key, struct df_buf *out)
{
	if (c->path && df_config_line(c, key) > 0)
		df_buf_printf(out, "%s:%d: ", c->path, df_config_line(c, key));
	df_buf_puts(out, key);
}

int
df_config_fail(const struct df_config *c, const char *key, struct df_err *err, const char *fmt, ...)
{
	struct df_buf place = DF_BUF_INIT;
	char why[DF_ERR_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	df_config_place(c, key, &place);
	(void)df_fail(err, DF_ECONFIG, "%s: %s", place.failed ? key : place.data, why);
	df_buf_release(&place);
	return DF_ECONFIG;
}

static void
json_word(struct df_buf *out, const char *word)
{
	if (word)
		df_buf_json_str(out, word);
	else
		df_buf_puts(out, "null");
}

void
df_config_json(const struct df_config *c, struct df_buf *out)
{
	const char *sep = "{";

	for (const struct df_key *k = df_keys(); k->name; k++) {
		const void *f = field(c, k);

		if (!k->shapes && !(k->dynamic && c->train_type != DF_TRAIN_STATIC))
			continue;
		df_buf_printf(out, "%s\"%s\": ", sep, k->name);
		sep = ", ";
		switch (k->type) {
		case DF_KEY_BOOL: df_buf_puts(out, *(const bool *)f ? "true" : "false"); break;
		case DF_KEY_INT: df_buf_printf(out, "%lld", (long long)*(const int64_t *)f); break;
		case DF_KEY_REAL: df_buf_json_double(out, *(const double *)f); break;
		case DF_KEY_STR: json_word(out, *(char *const *)f); break;
		case DF_KEY_CHOICE: {
			const char *word = k->choices[*(const int *)f];

			json_word(out, strcmp(word, "null") == 0 ? NULL : word);
			break;
		}
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

/* "a|b|c" -> "a, b, c" */
static void
spell(struct df_buf *b, const char *words)
{
	for (const char *p = words; *p; p++) {
		if (*p == '|')
			df_buf_puts(b, ", ");
		else
			df_buf_putc(b, *p);
	}
}

/* The owners, with commas between them. */
static void
list_owners(struct df_buf *out, unsigned owners)
{
	static const char *const names[] = { "train", "pack", "merge", "plan" };
	const char *sep = "";

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (owners >> i & 1) {
			df_buf_printf(out, "%s%s", sep, names[i]);
			sep = ",";
		}
	}
	df_buf_puts(out, owners ? "" : "-");
}

void
df_keys_list(struct df_buf *out)
{
	static const char *const types[] = { "bool", "int", "real", "string", "choice", "map" };
	static const char *const states[] = { "unknown", "supported", "checked", "ignored", "rejected" };

	for (const struct df_key *k = df_keys(); k->name; k++) {
		const enum df_key_status s = df_key_status(k, DF_OWNER_TRAIN);

		df_buf_printf(out, "%s\t%s\t%s\t%s\t%s", k->name, states[s], types[k->type], k->dflt, k->help);
		if (s == DF_KEY_SUPPORTED && k->choices) {
			df_buf_puts(out, " (one of ");
			join(out, k->choices);
			df_buf_putc(out, ')');
		}
		if (k->neutral) {
			df_buf_puts(out, " (may be ");
			spell(out, k->neutral);
			df_buf_putc(out, ')');
		}
		df_buf_putc(out, '\t');
		list_owners(out, k->owners);
		df_buf_printf(out, "\t%s\n", k->option ? k->option : "-");
	}
}
