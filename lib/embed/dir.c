/*
 * dir.c - a directory of sentence-transformers.
 *
 *	modules.json                          Transformer, Pooling, and perhaps Normalize, each with a directory
 *	<Transformer>/sentence_bert_config.json  max_seq_length, do_lower_case
 *	<Pooling>/config.json                 pooling_mode, or pooling_mode_*; include_prompt
 *	config_sentence_transformers.json     prompts, default_prompt_name
 *
 * (Reimers & Gurevych 2019.) A model that needs more (a Dense layer, other poolings) is refused, and
 * the message names the reason: vectors that only look like the model's are worse than none.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/words.h"
#include "embed/embed_priv.h"

#define FILE_MAX ((size_t)4 << 20)

/* dir/name as an object; *j = NULL where there is no such file. */
static int
load(struct df_json **j, char **path, const char *dir, const char *name, enum df_json_type want, struct df_err *err)
{
	bool there;
	int rc;

	*j = NULL;
	DF_TRY(df_path_join(path, dir, name, err));
	DF_TRY(df_file_probe(*path, &there, err));
	if (!there)
		goto out;
	DF_TRY(df_json_load(j, *path, FILE_MAX, err));
	if (df_json_type(df_json_root(*j)) != want)
		rc = df_fail(err, DF_EFORMAT, "%s: expected %s, found %s", *path,
		    want == DF_JSON_ARRAY ? "an array" : "an object", df_json_type_name(df_json_root(*j)));
out:
	return rc;
}

/* ---- modules.json ------------------------------------------------------------- */

enum module { MODULE_TRANSFORMER, MODULE_POOLING, MODULE_NORMALIZE, MODULES };

/* The class's name, after the last dot of "sentence_transformers.models.Pooling". */
static const char *
class_of(const char *type)
{
	const char *dot = strrchr(type, '.');

	return dot ? dot + 1 : type;
}

/* The directories of the three modules that are known; path[i] NULL: there is none. */
static int
read_modules(const struct df_json_value *root, const char *path[MODULES], struct df_err *err)
{
	static const char *const names[] = { "Transformer", "Pooling", "Normalize" };
	int at = -1, rc = DF_OK;

	for (size_t i = 0; i < df_json_size(root); i++) {
		const struct df_json_value *v = df_json_at(root, i);
		const char *type, *where;
		int k = 0;

		if (df_json_type(v) != DF_JSON_OBJECT)
			return df_fail(
			    err, DF_EFORMAT, "module %zu: expected an object, found %s", i, df_json_type_name(v));
		DF_TRY(df_json_member_str(v, "type", "", &type, err));
		DF_TRY(df_json_member_str(v, "path", "", &where, err));
		while (k < MODULES && strcmp(class_of(type), names[k]) != 0)
			k++;
		if (k == MODULES)
			return df_fail(err, DF_EUNSUPPORTED,
			    "module %zu: '%.100s' is not supported (Transformer, Pooling and Normalize are)", i, type);
		if (k != at + 1)
			return df_fail(err, DF_EUNSUPPORTED,
			    "module %zu: a %s there is not supported: the order is Transformer, Pooling, Normalize", i,
			    names[k]);
		path[k] = where;
		at = k;
	}
	if (at < MODULE_POOLING)
		rc = df_fail(err, DF_EFORMAT, "no %s among the modules", names[at + 1]);
out:
	return rc;
}

/* ---- pooling ------------------------------------------------------------------ */

/* The names of a pooling: one word since sentence-transformers 5.4; before, each had a flag. */
static const struct mode {
	const char *word, *flag;
	enum df_pooling pooling; /* DEFAULT: not supported */
} modes[] = {
	{ "cls", "pooling_mode_cls_token", DF_POOL_CLS },
	{ "mean", "pooling_mode_mean_tokens", DF_POOL_MEAN },
	{ "lasttoken", "pooling_mode_lasttoken", DF_POOL_LAST },
	{ "weightedmean", "pooling_mode_weightedmean_tokens", DF_POOL_WEIGHTED },
	{ "max", "pooling_mode_max_tokens", DF_POOL_DEFAULT },
	{ "mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", DF_POOL_DEFAULT },
};
#define MODES (sizeof(modes) / sizeof(modes[0]))

/* v: a word, or a list of one word; several poolings would be concatenated. */
static int
pooling_of_word(enum df_pooling *p, const struct df_json_value *v, struct df_err *err)
{
	const char *word;
	size_t i = 0;

	if (df_json_type(v) == DF_JSON_ARRAY && df_json_size(v) == 0)
		return df_fail(err, DF_EFORMAT, "'pooling_mode' is an empty list");
	if (df_json_type(v) == DF_JSON_ARRAY && df_json_size(v) > 1) {
		const char *first = df_json_str(df_json_at(v, 0), NULL), *second = df_json_str(df_json_at(v, 1), NULL);

		return df_fail(err, DF_EUNSUPPORTED,
		    "'pooling_mode': '%.64s' together with '%.64s' is not supported: one pooling at a time",
		    second ? second : "?", first ? first : "?");
	}
	if (df_json_type(v) == DF_JSON_ARRAY)
		v = df_json_at(v, 0);
	word = df_json_str(v, NULL);
	if (!word)
		return df_fail(err, DF_EFORMAT, "'pooling_mode': expected a string, found %s", df_json_type_name(v));
	while (i < MODES && strcmp(word, modes[i].word) != 0)
		i++;
	if (i == MODES || modes[i].pooling == DF_POOL_DEFAULT)
		return df_fail(err, DF_EUNSUPPORTED,
		    "'pooling_mode': '%.64s' is not supported (cls, mean, lasttoken and weightedmean are)", word);
	*p = modes[i].pooling;
	return DF_OK;
}

/* Exactly one of the flags must be true. */
static int
pooling_of_flags(enum df_pooling *p, const struct df_json_value *cfg, struct df_err *err)
{
	const char *found = NULL;
	bool on;
	int rc;

	for (size_t i = 0; i < MODES; i++) {
		DF_TRY(df_json_member_bool(cfg, modes[i].flag, false, &on, err));
		if (!on)
			continue;
		if (modes[i].pooling == DF_POOL_DEFAULT)
			return df_fail(err, DF_EUNSUPPORTED, "'%s' is not supported", modes[i].flag);
		if (found)
			return df_fail(err, DF_EUNSUPPORTED,
			    "'%s' together with '%s' is not supported: one pooling at a time", modes[i].flag, found);
		found = modes[i].flag;
		*p = modes[i].pooling;
	}
	rc = found ? DF_OK : df_fail(err, DF_EFORMAT, "no pooling_mode, and no pooling_mode_... is true");
out:
	return rc;
}

static int
read_pooling(struct df_embed_dir *d, const char *dir, struct df_err *err)
{
	const struct df_json_value *cfg, *word;
	struct df_json *j = NULL;
	char *path = NULL;
	bool with_prompt;
	int rc;

	DF_TRY(load(&j, &path, dir, "config.json", DF_JSON_OBJECT, err));
	if (!j) {
		rc = df_fail(err, DF_ENOINPUT, "%s: missing, though modules.json names it", path);
		goto out;
	}
	cfg = df_json_root(j);
	/* When there is a word, sentence-transformers ignores the flags. */
	word = df_json_get(cfg, "pooling_mode");
	if (word && df_json_type(word) != DF_JSON_NULL)
		rc = pooling_of_word(&d->pooling, word, err);
	else
		rc = pooling_of_flags(&d->pooling, cfg, err);
	if (rc == DF_OK)
		rc = df_json_member_bool(cfg, "include_prompt", true, &with_prompt, err);
	if (rc == DF_OK)
		d->exclude_prompt = !with_prompt;
	else
		df_err_prefix(err, "%s: ", path);
out:
	df_json_free(j);
	free(path);
	return rc;
}

/* ---- lengths -------------------------------------------------------------------- */

/* max_seq_length, or, where that is not given, the tokenizer's model_max_length. */
static int
read_lengths(struct df_embed_dir *d, struct df_err *err)
{
	struct df_json *j = NULL;
	char *path = NULL;
	int64_t n;
	double x;
	int rc;

	DF_TRY(load(&j, &path, d->model, "sentence_bert_config.json", DF_JSON_OBJECT, err));
	if (j) {
		rc = df_json_member_int(df_json_root(j), "max_seq_length", 0, 1, INT32_MAX, &n, err);
		if (rc == DF_OK)
			rc = df_json_member_bool(df_json_root(j), "do_lower_case", false, &d->lower, err);
		if (rc != DF_OK) {
			df_err_prefix(err, "%s: ", path);
			goto out;
		}
		if (n > 0) {
			d->max_length = (size_t)n;
			goto out;
		}
		df_json_free(j);
	}
	free(path);
	path = NULL;
	DF_TRY(load(&j, &path, d->model, "tokenizer_config.json", DF_JSON_OBJECT, err));
	/* "No limit" is written as 1e30. */
	if (j && df_json_number(df_json_get(df_json_root(j), "model_max_length"), &x) && x >= 1 && x < INT32_MAX)
		d->max_length = (size_t)x;
out:
	df_json_free(j);
	free(path);
	return rc;
}

/* ---- prompts ---------------------------------------------------------------------- */

static int
unknown_prompt(const struct df_json_value *prompts, const char *name, struct df_err *err)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *v;
	const char **names = NULL;
	size_t n = 0;
	int rc;

	DF_TRY(df_alloc(&names, df_json_size(prompts) + 1, sizeof(*names), "prompt names", err));
	while ((m = df_json_next(prompts, m, &names[n], &v)) != NULL)
		n++;
	names[n] = NULL;
	rc = df_unknown(err, DF_EUSAGE, "prompt", name, names, n == 0 ? "the model has none" : NULL);
out:
	free(names);
	return rc;
}

static int
read_prompt(struct df_embed_dir *d, const char *dir, const char *name, struct df_err *err)
{
	const struct df_json_value *prompts, *v;
	struct df_json *j = NULL;
	const char *text;
	char *path = NULL;
	size_t n;
	int rc;

	DF_TRY(load(&j, &path, dir, "config_sentence_transformers.json", DF_JSON_OBJECT, err));
	prompts = j ? df_json_get(df_json_root(j), "prompts") : NULL;
	if (j && !name && (rc = df_json_member_str(df_json_root(j), "default_prompt_name", NULL, &name, err)) != 0)
		goto place;
	if (!name)
		goto out;
	if (prompts && df_json_type(prompts) != DF_JSON_OBJECT) {
		rc = df_fail(err, DF_EFORMAT, "'prompts': expected an object, found %s", df_json_type_name(prompts));
		goto place;
	}
	v = df_json_get(prompts, name);
	text = df_json_str(v, &n);
	if (text)
		rc = df_strndup(&d->prompt, text, n, err);
	else if (v)
		rc = df_fail(
		    err, DF_EFORMAT, "prompt '%.100s': expected a string, found %s", name, df_json_type_name(v));
	else
		rc = unknown_prompt(prompts, name, err);
place:
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", path);
out:
	df_json_free(j);
	free(path);
	return rc;
}

/* ---- the directory ----------------------------------------------------------------------- */

int
df_embed_dir_read(struct df_embed_dir *d, const char *dir, const char *prompt_name, struct df_err *err)
{
	const char *path[MODULES] = { NULL };
	struct df_embed_dir x = { .normalise = -1, .max_length = SIZE_MAX };
	struct df_json *modules = NULL;
	char *file = NULL, *pooling = NULL;
	int rc;

	DF_TRY(load(&modules, &file, dir, "modules.json", DF_JSON_ARRAY, err));
	if (modules) {
		if ((rc = read_modules(df_json_root(modules), path, err)) != 0) {
			df_err_prefix(err, "%s: ", file);
			goto out;
		}
		x.normalise = path[MODULE_NORMALIZE] != NULL;
		DF_TRY(df_path_join(&pooling, dir, path[MODULE_POOLING], err));
		DF_TRY(read_pooling(&x, pooling, err));
	}
	if (modules && *path[MODULE_TRANSFORMER])
		DF_TRY(df_path_join(&x.model, dir, path[MODULE_TRANSFORMER], err));
	else
		DF_TRY(df_strdup(&x.model, dir, err));
	DF_TRY(read_lengths(&x, err));
	DF_TRY(read_prompt(&x, dir, prompt_name, err));
	*d = x;
	x = (struct df_embed_dir){ 0 };
out:
	df_embed_dir_release(&x);
	df_json_free(modules);
	free(file);
	free(pooling);
	return rc;
}

void
df_embed_dir_release(struct df_embed_dir *d)
{
	free(d->model);
	free(d->prompt);
	*d = (struct df_embed_dir){ 0 };
}
