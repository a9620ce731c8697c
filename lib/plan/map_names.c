/*
 * map_names.c - names of files and models.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/path.h"
#include "plan/plan_priv.h"

#define CONFIG_MAX ((size_t)1 << 20) /* bytes of a config.json */

const char *
df_map_file(const struct df_map *m, const char *fmt, ...)
{
	char *name = NULL;
	const char *path = "";
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&name, fmt, ap) < 0)
		m->p->failed = true;
	else
		path = df_plan_text(m->p, "%s/%s", m->out, name);
	va_end(ap);
	free(name);
	return path;
}

const char *
df_map_model(const struct df_map *m, const char *name)
{
	const size_t n = strlen(name);

	for (size_t i = 0; m->o->models && i < m->o->models->n; i++) {
		const char *word = m->o->models->v[i];

		if (strncmp(word, name, n) == 0 && word[n] == '=')
			return df_plan_text(m->p, "%s", word + n + 1);
	}
	return df_plan_text(m->p, "%s", name);
}

bool
df_map_is_model(const char *dir)
{
	static const char *const files[] = { "config.json", "modules.json", "adapter_config.json" };
	bool there = false;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]) && !there; i++) {
		if (df_file_probe_in(dir, files[i], &there, NULL) != DF_OK)
			there = false;
	}
	return there;
}

bool
df_map_is_reward_model(const char *dir)
{
	struct df_json *j = NULL;
	char *path = NULL;
	bool is = false;

	if (df_path_join(&path, dir, "config.json", NULL) == DF_OK &&
	    df_json_load(&j, path, CONFIG_MAX, NULL) == DF_OK) {
		const struct df_json_value *list = df_json_get(df_json_root(j), "architectures");

		for (size_t i = 0; i < df_json_size(list); i++) {
			const char *name = df_json_str(df_json_at(list, i), NULL);

			is = is || (name && strstr(name, "ForSequenceClassification"));
		}
	}
	df_json_free(j);
	free(path);
	return is;
}
