/*
 * jsonl.c - lines of JSON, kept up to a step, or added.
 */
#include "train/jsonl.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"

#define LOG_MAX ((size_t)1 << 30) /* most bytes of a log that is read back */

static void
keep_below(struct df_buf *out, const char *text, size_t n, const char *key, uint64_t end)
{
	for (const char *p = text, *nl; p < text + n && (nl = memchr(p, '\n', (size_t)(text + n - p))); p = nl + 1) {
		struct df_json *j = NULL;
		int64_t at = 0;

		if (df_json_parse(&j, p, (size_t)(nl - p), "log", NULL) != DF_OK)
			continue;
		if (df_json_int(df_json_get(df_json_root(j), key), &at) && at >= 0 && (uint64_t)at < end)
			df_buf_add(out, p, (size_t)(nl - p) + 1);
		df_json_free(j);
	}
}

int
df_jsonl_cut(const char *path, const char *key, uint64_t end, struct df_err *err)
{
	struct df_buf kept = DF_BUF_INIT;
	char *text = NULL;
	size_t n = 0;
	bool there;
	int rc;

	df_buf_puts(&kept, "");
	DF_TRY(df_file_probe(path, &there, err));
	if (there)
		DF_TRY(df_file_get(path, LOG_MAX, &text, &n, err));
	if (n > 0 && end > 0)
		keep_below(&kept, text, n, key, end);
	DF_TRY(df_buf_check(&kept, err));
	if (!there || kept.len != n)
		DF_TRY(df_file_put(path, kept.data, kept.len, err));
out:
	free(text);
	df_buf_release(&kept);
	return rc;
}

int
df_jsonl_add(const char *path, const char *line, size_t n, struct df_err *err)
{
	int rc, fd;

	if ((fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) < 0)
		return df_fail(err, DF_ECREATE, "%s:", path);
	if ((rc = df_write_all(fd, line, n, err)) != DF_OK)
		df_err_prefix(err, "%s: ", path);
	if (close(fd) != 0 && rc == DF_OK)
		rc = df_fail(err, DF_EIO, "%s:", path);
	return rc;
}
