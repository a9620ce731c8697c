/*
 * path.c - names of files, and where they lead.
 */
#include "base/path.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

int
df_path_join(char **out, const char *dir, const char *name, struct df_err *err)
{
	size_t n = dir ? strlen(dir) : 0;

	if (n == 0 || strcmp(dir, ".") == 0 || name[0] == '/')
		return df_strdup(out, name, err);
	return df_asprintf(out, err, "%s%s%s", dir, dir[n - 1] == '/' ? "" : "/", name);
}

const char *
df_path_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int
df_path_follow(char **path, struct df_err *err)
{
	for (int hops = 0;; hops++) {
		char to[PATH_MAX], *dir = NULL, *next = NULL;
		ssize_t n = readlink(*path, to, sizeof(to));
		int rc;

		/* It is not a link, or does not exist yet.  Any other error appears again when the file is written. */
		if (n < 0)
			return DF_OK;
		if (hops == 40 || n == (ssize_t)sizeof(to))
			return df_fail(err, DF_ECREATE, "%s: too many symbolic links", *path);
		to[n] = '\0';
		if ((rc = df_strndup(&dir, *path, (size_t)(df_path_base(*path) - *path), err)) == DF_OK)
			rc = df_path_join(&next, dir, to, err);
		free(dir);
		if (rc != DF_OK)
			return rc;
		free(*path);
		*path = next;
	}
}

int
df_path_real(char **out, const char *path, struct df_err *err)
{
	char *end = NULL, *dir = NULL, *real = NULL;
	size_t n;
	int rc;

	DF_TRY(df_strdup(&end, path, err));
	DF_TRY(df_path_follow(&end, err));
	/* The longest beginning that exists; the rest does not exist yet and so holds no links. */
	for (n = strlen(end); n > 1 && end[n - 1] == '/'; n--)
		;
	for (size_t at = n;; at = at > 0 ? at - 1 : 0) {
		if (at > 0 && at < n && end[at] != '/')
			continue;
		free(dir);
		dir = NULL;
		DF_TRY(at > 0 ? df_strndup(&dir, end, at, err) : df_strdup(&dir, end[0] == '/' ? "/" : ".", err));
		if ((real = realpath(dir, NULL)) == NULL) {
			if (at > 0)
				continue;
			rc = df_fail(err, DF_EIO, "%s:", dir);
			goto out;
		}
		while (at < n && end[at] == '/')
			at++;
		rc = df_asprintf(
		    out, err, "%s%s%.*s", real, at < n && strcmp(real, "/") != 0 ? "/" : "", (int)(n - at), end + at);
		break;
	}
out:
	free(real);
	free(dir);
	free(end);
	return rc;
}
