/*
 * outdir.c - models that a run must not overwrite.
 */
#include "train/outdir.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/trained.h"

/* "model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin.index.json" ... */
static bool
is_weights(const char *name)
{
	static const char *const ends[] = { ".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json" };
	static const char *const bins[] = { "model", "pytorch_model", "adapter_model" };
	const size_t n = strlen(name);
	bool mine = false;

	if (name[0] == '.' || strcmp(name, "optimizer.safetensors") == 0)
		return false;
	for (size_t i = 0; i < sizeof(bins) / sizeof(bins[0]); i++)
		mine = mine || strncmp(name, bins[i], strlen(bins[i])) == 0;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		const size_t len = strlen(ends[i]);

		/* A .bin may be anything, such as LLaMA-Factory's training_args.bin. */
		if (n > len && strcmp(name + n - len, ends[i]) == 0)
			return mine || strncmp(ends[i], ".safe", 5) == 0;
	}
	return false;
}

static int
list_dir(const char *dir, struct dirent ***entries, size_t *n, struct df_err *err)
{
	int got = scandir(dir, entries, NULL, alphasort);

	*n = got > 0 ? (size_t)got : 0;
	if (got >= 0)
		return DF_OK;
	*entries = NULL;
	return errno == ENOENT || errno == ENOTDIR ? DF_OK : df_fail(err, DF_EIO, "%s:", dir);
}

static void
free_list(struct dirent **entries, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(entries[i]);
	free(entries);
}

int
df_outdir_weights(const char *dir, char **name, struct df_err *err)
{
	struct dirent **e = NULL;
	size_t n = 0;
	int rc = DF_OK;

	*name = NULL;
	DF_TRY(list_dir(dir, &e, &n, err));
	for (size_t i = 0; i < n && !*name && rc == DF_OK; i++)
		if (is_weights(e[i]->d_name))
			rc = df_strdup(name, e[i]->d_name, err);
out:
	free_list(e, n);
	return rc;
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/*
 * Is the file `name` of output_dir one of the input's?  A hard link to other files does no harm: it is
 * replaced, not written to.
 */
static int
check_file(const char *output_dir, const char *name, const struct df_outdir_input *in, struct dirent *const *theirs,
    size_t n, struct df_err *err)
{
	const bool weights = is_weights(name);
	char *path = NULL, *other = NULL;
	struct stat mine, link, st;
	int rc = DF_OK;

	DF_TRY(df_path_join(&path, output_dir, name, err));
	if (stat(path, &mine) != 0 || lstat(path, &link) != 0 || (!weights && !S_ISLNK(link.st_mode)) ||
	    S_ISDIR(mine.st_mode))
		goto out;
	for (size_t i = 0; i < n; i++) {
		if (strcmp(name, theirs[i]->d_name) != 0 && !(weights && is_weights(theirs[i]->d_name)))
			continue;
		DF_TRY(df_path_join(&other, in->dir, theirs[i]->d_name, err));
		if (stat(other, &st) == 0 && same_file(&mine, &st)) {
			rc = df_fail(err, DF_EUSAGE,
			    "output_dir: %s is the file %s of %s: the run would write over what it reads; give "
			    "another output_dir",
			    path, other, in->key);
			goto out;
		}
		free(other);
		other = NULL;
	}
out:
	free(path);
	free(other);
	return rc;
}

/* df_outdir_check_inputs for one input that exists. */
static int
check_input(const char *output_dir, const struct stat *out, struct dirent *const *mine, size_t n_mine,
    const struct df_outdir_input *in, const struct stat *dir, struct df_err *err)
{
	struct dirent **theirs = NULL;
	size_t n_theirs = 0;
	char *path = NULL;
	uint64_t step;
	struct stat st;
	int rc = DF_OK;

	if (same_file(out, dir)) {
		rc = df_fail(err, DF_EUSAGE,
		    "output_dir: %s is the directory of %s: the run would write over what it reads; give another "
		    "output_dir",
		    output_dir, in->key);
		goto out;
	}
	DF_TRY(list_dir(in->dir, &theirs, &n_theirs, err));
	for (size_t i = 0; i < n_mine; i++) {
		const char *name = mine[i]->d_name;

		if (!df_checkpoint_step(name, &step)) {
			DF_TRY(check_file(output_dir, name, in, theirs, n_theirs, err));
			continue;
		}
		DF_TRY(df_path_join(&path, output_dir, name, err));
		if (stat(path, &st) == 0 && same_file(&st, dir)) {
			rc = df_fail(err, DF_EUSAGE,
			    "output_dir: %s, a checkpoint of it, is the directory of %s: the run would write over what it "
			    "reads; give another output_dir",
			    path, in->key);
			goto out;
		}
		free(path);
		path = NULL;
	}
out:
	free(path);
	free_list(theirs, n_theirs);
	return rc;
}

int
df_outdir_check_inputs(const char *output_dir, const struct df_outdir_input *inputs, size_t n, struct df_err *err)
{
	struct dirent **mine = NULL;
	struct stat out, dir;
	size_t n_mine = 0;
	int rc = DF_OK;

	if (stat(output_dir, &out) != 0 || !S_ISDIR(out.st_mode))
		return DF_OK;
	DF_TRY(list_dir(output_dir, &mine, &n_mine, err));
	for (size_t i = 0; i < n && rc == DF_OK; i++)
		if (inputs[i].dir && stat(inputs[i].dir, &dir) == 0 && S_ISDIR(dir.st_mode))
			rc = check_input(output_dir, &out, mine, n_mine, &inputs[i], &dir, err);
out:
	free_list(mine, n_mine);
	return rc;
}
