/*
 * text_out.c - text to a file or to standard output.
 */
#include "base/text_out.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static bool
is_stdout(const struct df_text_out *t)
{
	return strcmp(t->path, "-") == 0;
}

/* A stream of its own: stdio's stdout belongs to the program. */
static FILE *
open_stdout(void)
{
	int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
	FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;

	if (!f && fd >= 0)
		close(fd);
	return f;
}

int
df_text_out_open(struct df_text_out *t, const char *path, struct df_err *err)
{
	int rc = DF_OK;

	t->path = path;
	if (!is_stdout(t))
		DF_TRY(df_atomic_open(&t->file, path, err));
	t->f = is_stdout(t) ? open_stdout() : fopen(t->file.tmp, "we");
	if (!t->f)
		rc = df_fail(err, DF_ECREATE, "%s:", path);
out:
	return rc;
}

int
df_text_out_put(struct df_text_out *t, const struct df_buf *b, struct df_err *err)
{
	int rc;

	DF_TRY(df_buf_check(b, err));
	if ((b->len > 0 && fwrite(b->data, 1, b->len, t->f) != b->len) || (is_stdout(t) && fflush(t->f) != 0))
		rc = df_fail(err, DF_EIO, "%s:", t->path);
out:
	return rc;
}

int
df_text_out_commit(struct df_text_out *t, struct df_err *err)
{
	FILE *f = t->f;
	int rc = DF_OK;

	t->f = NULL;
	if (f && fclose(f) != 0)
		rc = df_fail(err, DF_EIO, "%s:", t->path);
	else if (f && !is_stdout(t))
		rc = df_atomic_commit(&t->file, err);
	return rc;
}

void
df_text_out_close(struct df_text_out *t)
{
	if (t->f)
		fclose(t->f);
	t->f = NULL;
	df_atomic_discard(&t->file);
}
