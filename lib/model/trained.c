/*
 * trained.c - df_state.json in the directory of a model, and the names of checkpoints.
 */
#include "model/trained.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/opt.h"

bool
df_checkpoint_step(const char *name, uint64_t *step)
{
	const size_t n = strlen(DF_CHECKPOINT_PREFIX);
	int64_t v;

	if (strncmp(name, DF_CHECKPOINT_PREFIX, n) != 0 || df_parse_int(name + n, 0, INT64_MAX, &v, NULL) != DF_OK)
		return false;
	*step = (uint64_t)v;
	return true;
}

int
df_trained_tokenizer(char **id, const char *dir, struct df_err *err)
{
	struct df_json *j = NULL;
	const char *s = NULL;
	char *path = NULL;
	bool there;
	int rc;

	*id = NULL;
	DF_TRY(df_path_join(&path, dir, DF_STATE_FILE, err));
	DF_TRY(df_file_probe(path, &there, err));
	if (!there)
		goto out;
	DF_TRY(df_json_load(&j, path, DF_STATE_MAX, err));
	rc = df_json_member_str(df_json_root(j), "tokenizer", NULL, &s, err);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", path);
	else if (s)
		rc = df_strdup(id, s, err);
out:
	df_json_free(j);
	free(path);
	return rc;
}

int
df_trained_step(int64_t *step, const char *dir, struct df_err *err)
{
	struct df_json *j = NULL;
	char *path = NULL;
	int rc;

	DF_TRY(df_path_join(&path, dir, DF_STATE_FILE, err));
	DF_TRY(df_json_load(&j, path, DF_STATE_MAX, err));
	rc = df_json_member_int(df_json_root(j), "step", INT64_MAX, 0, INT64_MAX, step, err);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", path);
out:
	df_json_free(j);
	free(path);
	return rc;
}
