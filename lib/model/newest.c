/*
 * newest.c - the checkpoints in a directory that was named as a model.  While a run is going on, the
 * directory has nothing else; after a run was continued, they are newer than its model.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/model_priv.h"
#include "model/trained.h"

static int
holds(const char *dir, const char *name, bool *yes, struct df_err *err)
{
	char *path = NULL;
	int rc = df_path_join(&path, dir, name, err);

	*yes = rc == DF_OK && df_file_exists(path);
	free(path);
	return rc;
}

static int
holds_model(const char *dir, bool *yes, struct df_err *err)
{
	int rc = holds(dir, "config.json", yes, err);

	return rc != DF_OK || *yes ? rc : holds(dir, "adapter_config.json", yes, err);
}

/* *path = the checkpoint with the highest number (free() it), NULL where there is none. */
static int
newest(const char *dir, char **path, int64_t *step, struct df_err *err)
{
	char *place = NULL;
	struct dirent *e;
	uint64_t n;
	bool is_model;
	DIR *d = opendir(dir);
	int rc = DF_OK;

	*path = NULL;
	*step = -1;
	while (d && (e = readdir(d)) != NULL) {
		if (!df_checkpoint_step(e->d_name, &n) || (int64_t)n <= *step)
			continue;
		free(place);
		place = NULL;
		DF_TRY(df_path_join(&place, dir, e->d_name, err));
		DF_TRY(holds_model(place, &is_model, err));
		if (!is_model)
			continue;
		free(*path);
		*path = place;
		*step = (int64_t)n;
		place = NULL;
	}
out:
	if (d)
		closedir(d);
	free(place);
	return rc;
}

void
df_model_suggest_newest(const char *dir, struct df_err *err)
{
	char *path;
	int64_t step;

	if (newest(dir, &path, &step, NULL) == DF_OK && path)
		df_err_suffix(err, "; did you mean its newest checkpoint, %s?", path);
	free(path);
}

void
df_model_warn_newer(const char *dir)
{
	char *path = NULL;
	int64_t step, mine;
	int rc;

	DF_TRY(newest(dir, &path, &step, NULL));
	if (!path)
		goto out;
	DF_TRY(df_trained_step(&mine, dir, NULL));
	if (mine < step)
		df_warn("%s: the model after step %lld; %s is newer", dir, (long long)mine, path);
out:
	free(path);
}
