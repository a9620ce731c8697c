/*
 * component.c - from components.yaml to the options of a method.
 *
 * The file is read as a configuration is: of the section a map with dots in its names, `less.params.proj_dim`.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/words.h"
#include "config/component.h"
#include "config/config_priv.h"

#define COMPONENTS_MAX ((size_t)1 << 20) /* bytes of the file */
#define PARENTS_MAX    32                /* directories above the configuration that are looked into */

static const char *
section_of(const struct df_config *c)
{
	static const char *const names[] = { [DF_TRAIN_STATIC] = NULL,
		[DF_TRAIN_SELECT] = "selectors",
		[DF_TRAIN_MIX] = "mixers",
		[DF_TRAIN_WEIGHT] = "weighters" };

	return names[c->train_type];
}

/* ---- where the file is ---------------------------------------------------------- */

/* *path = dir/name if that is a file. */
static int
try(const char *dir, const char *name, char **path, struct df_err *err)
{
	char *p = NULL;
	int rc;

	if ((rc = df_path_join(&p, dir, name, err)) != DF_OK)
		return rc;
	if (df_file_exists(p) && !df_file_is_dir(p))
		*path = p;
	else
		free(p);
	return DF_OK;
}

/* As given, then in dir and the directories above it, each time also by the last name. */
static int
find_file(const char *config, const char *name, char **path, struct df_err *err)
{
	const char *last = df_path_base(name);
	char *dir = NULL, *slash;
	int rc = DF_OK;

	*path = NULL;
	DF_TRY(try(NULL, name, path, err));
	if (*path || *name == '/' || !config)
		goto out;
	DF_TRY(df_path_real(&dir, config, err));
	for (int i = 0; i < PARENTS_MAX && !*path && (slash = strrchr(dir, '/')); i++) {
		*slash = '\0';
		DF_TRY(try(*dir ? dir : "/", name, path, err));
		if (!*path)
			DF_TRY(try(*dir ? dir : "/", last, path, err));
	}
out:
	free(dir);
	return rc;
}

/* ---- what it says of a component -------------------------------------------------- */

struct look {
	struct df_component *out;
	const char *file, *section, *name; /* what is looked for */
	bool has_section, found;
	const char **names; /* components of the section, borrowed from `map` */
	size_t n_names, cap_names;
	struct df_config_map map; /* the section */
};

static int
put_copy(struct df_config_map *m, const char *key, const char *value, int line, struct df_err *err)
{
	char *k = NULL, *v = NULL;
	int rc;

	DF_TRY(df_strdup(&k, key, err));
	if ((rc = df_strdup(&v, value, err)) != DF_OK) {
		free(k);
		return rc;
	}
	DF_TRY(df_config_map_put(m, k, v, err));
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->v[i].key, key) == 0)
			m->v[i].line = line;
out:
	return rc;
}

/* A member of the component: name, or a parameter. */
static int
set_member(struct look *l, const char *member, const struct df_config_pair *p, struct df_err *err)
{
	static const char *const members[] = { "name", "params", NULL };
	const char *param = "params.";

	if (strcmp(member, "name") == 0 && !df_yaml_null(p->value)) {
		free(l->out->name);
		l->out->name = NULL;
		return df_strdup(&l->out->name, p->value, err);
	}
	if (strncmp(member, param, strlen(param)) == 0)
		return put_copy(
		    &l->out->params, member + strlen(param), df_yaml_null(p->value) ? "null" : p->value, p->line, err);
	if (strcmp(member, "params") == 0 && df_yaml_null(p->value))
		return DF_OK; /* all defaults */
	if (strcmp(member, "params") == 0)
		return df_fail(err, DF_ECONFIG, "%s:%d: params of %s: '%.60s' is not a map of names and values",
		    l->file, p->line, l->name, p->value);
	(void)df_fail(
	    err, DF_ECONFIG, "%s:%d: %s: '%.60s' is neither name nor params", l->file, p->line, l->name, member);
	df_suggest(err, member, members);
	return DF_ECONFIG;
}

/* Take what belongs to the component; of others, the names, for a suggestion. */
static int
take(struct look *l, const struct df_config_pair *p, struct df_err *err)
{
	const size_t n = strlen(l->name);
	char *dot;

	if (strncmp(p->key, l->name, n) == 0 && p->key[n] == '.') {
		l->found = true;
		return set_member(l, p->key + n + 1, p, err);
	}
	if (strcmp(p->key, l->name) == 0) {
		l->found = true;
		if (df_yaml_null(p->value))
			return DF_OK;
		return df_fail(err, DF_ECONFIG, "%s:%d: %s: '%.60s' is not a map with name and params", l->file,
		    p->line, l->name, p->value);
	}
	if ((dot = strchr(p->key, '.')))
		*dot = '\0';
	if (l->n_names > 0 && strcmp(l->names[l->n_names - 1], p->key) == 0)
		return DF_OK;
	l->names[l->n_names++] = p->key;
	return DF_OK;
}

static int
read_section(void *ctx, const char *key, int line, struct df_yaml_value *v, struct df_err *err)
{
	static const char *const sections[] = { "selectors", "mixers", "weighters", NULL };
	struct look *l = ctx;
	bool known = false;

	for (size_t i = 0; sections[i]; i++)
		known = known || strcmp(key, sections[i]) == 0;
	if (!known) {
		(void)df_fail(err, DF_ECONFIG, "%s:%d: unknown section '%.60s'", l->file, line, key);
		df_suggest(err, key, sections);
		return DF_ECONFIG;
	}
	if (strcmp(key, l->section) != 0)
		return DF_OK;
	if (l->has_section)
		return df_fail(err, DF_ECONFIG, "%s:%d: %s is given twice", l->file, line, key);
	l->has_section = true;
	if (v->kind != DF_YAML_MAP)
		return df_yaml_null(v->text)
		    ? DF_OK
		    : df_fail(err, DF_ECONFIG, "%s:%d: %s: not a map of components", l->file, line, key);
	l->map = v->map;
	v->map = (struct df_config_map){ 0 };
	return DF_OK;
}

static int
read_file(struct look *l, struct df_err *err)
{
	char *text = NULL;
	size_t n;
	int rc;

	rc = df_file_get(l->file, COMPONENTS_MAX, &text, &n, err);
	if (rc == DF_ERANGE)
		rc = df_fail(err, DF_ECONFIG, "%s: larger than 1 MiB: not a file of components", l->file);
	if (rc != DF_OK)
		goto out;
	DF_TRY(df_yaml_walk(text, n, l->file, read_section, l, err));
	DF_TRY(df_alloc(&l->names, l->map.n + 1, sizeof(*l->names), "names of components", err));
	for (size_t i = 0; i < l->map.n; i++)
		DF_TRY(take(l, &l->map.v[i], err));
	if (l->found)
		goto out;
	(void)df_fail(err, DF_ECONFIG, "%s: %s has no component '%.60s'", l->file, l->section, l->name);
	df_suggest(err, l->name, l->names);
	rc = DF_ECONFIG;
out:
	free(text);
	return rc;
}

int
df_component_load(struct df_component *out, const struct df_config *c, struct df_err *err)
{
	struct look l = { .out = out, .section = section_of(c), .name = c->component_name };
	struct df_buf place = DF_BUF_INIT;
	int rc = DF_OK;

	*out = (struct df_component){ 0 };
	if (!l.section)
		return df_config_fail(c, "train_type", err, "static: no component is asked for");
	if (!c->component_name || !*c->component_name)
		return df_config_fail(c, "component_name", err, "train_type needs it: the name of a method");
	DF_TRY(df_strdup(&out->name, c->component_name, err));
	if (c->components_cfg_file) {
		DF_TRY(find_file(c->path, c->components_cfg_file, &out->path, err));
		l.file = out->path;
		df_config_place(c, "components_cfg_file", &place);
		DF_TRY(df_buf_check(&place, err));
		if (!out->path)
			df_warn("%s: there is no %s: %s has its default parameters", place.data, c->components_cfg_file,
			    c->component_name);
		else if ((rc = read_file(&l, err)) == DF_ENOINPUT)
			df_err_prefix(err, "%s: ", place.data);
		DF_TRY(rc);
	}
	for (size_t i = 0; i < c->component_params.n; i++) {
		const struct df_config_pair *p = &c->component_params.v[i];

		DF_TRY(put_copy(&out->params, p->key, df_yaml_null(p->value) ? "null" : p->value, 0, err));
	}
out:
	free(l.names);
	df_config_map_release(&l.map);
	df_buf_release(&place);
	if (rc != DF_OK)
		df_component_release(out);
	return rc;
}

void
df_component_release(struct df_component *p)
{
	free(p->name);
	free(p->path);
	df_config_map_release(&p->params);
	*p = (struct df_component){ 0 };
}

/* ---- parameters as options ------------------------------------------------------------ */

void
df_component_place(const struct df_component *p, const struct df_config_pair *param, struct df_err *err)
{
	if (param->line > 0 && p->path)
		df_err_prefix(err, "%s:%d: ", p->path, param->line);
	else
		df_err_prefix(err, "component_params: ");
}

static int
unknown(const struct df_component *p, const char *param, const struct df_opt_part *part, size_t n, struct df_err *err)
{
	const char *best = NULL;
	char *name = NULL;
	size_t dist = SIZE_MAX;
	int rc = DF_OK;

	for (size_t i = 0; i < n; i++) {
		for (const struct df_opt *o = part[i].options; o && o->name; o++)
			df_nearer(param, o->name, &best, &dist);
		for (const struct df_opt_alias *a = part[i].alias; a && a->theirs; a++)
			df_nearer(param, a->theirs, &best, &dist);
	}
	if (!best)
		return df_fail(err, DF_ECONFIG, "%s has no parameter %.60s", p->name, param);
	DF_TRY(df_strdup(&name, best, err));
	for (char *c = name; *c; c++)
		*c = *c == '-' ? '_' : *c;
	rc = df_fail(err, DF_ECONFIG, "%s has no parameter %.60s; did you mean %s?", p->name, param, name);
out:
	free(name);
	return rc;
}

/* *known: the parameter is one of this part, and was taken. */
static int
set_option(const struct df_component *p, const struct df_config_pair *param, const struct df_opt_part *part,
    bool *known, struct df_err *err)
{
	const char *ours = param->key, *text = param->value;
	bool yes;

	for (const struct df_opt_alias *a = part->alias; a && a->theirs; a++) {
		if (strcmp(a->theirs, param->key) != 0)
			continue;
		if (!a->ours) {
			*known = true;
			if (a->why && strcmp(param->value, "null") != 0)
				df_info("%s: %s has no effect here: %s", p->name, param->key, a->why);
			return DF_OK;
		}
		ours = a->ours;
	}
	for (const struct df_opt *o = part->options; o && o->name; o++) {
		if (!df_opt_is(o->name, ours))
			continue;
		*known = true;
		if (strcmp(param->value, "null") == 0)
			return DF_OK;
		text = o->type == DF_OPT_FLAG && df_yaml_bool(text, &yes) ? yes ? "true" : "false" : text;
		return df_opt_set(part->options, part->values, o->name, text, err);
	}
	return DF_OK;
}

int
df_component_options(const struct df_component *p, const struct df_opt_part *part, size_t n, struct df_err *err)
{
	for (size_t i = 0; i < p->params.n; i++) {
		const struct df_config_pair *param = &p->params.v[i];
		bool known = false;
		int rc = DF_OK;

		for (size_t k = 0; k < n && rc == DF_OK && !known; k++)
			rc = set_option(p, param, &part[k], &known, err);
		if (rc == DF_OK && !known)
			rc = unknown(p, param->key, part, n, err);
		if (rc == DF_OK)
			continue;
		df_component_place(p, param, err);
		if (rc == DF_EUSAGE && err)
			err->code = rc = DF_ECONFIG;
		return rc;
	}
	return DF_OK;
}

const char *
df_component_param(const struct df_component *p, const char *name)
{
	for (size_t i = 0; i < p->params.n; i++) {
		if (strcmp(p->params.v[i].key, name) == 0)
			return strcmp(p->params.v[i].value, "null") == 0 ? NULL : p->params.v[i].value;
	}
	return NULL;
}
