/*
 * stage.c - memory that host and device both see.
 *
 * Where the host can read the device's memory a stage is one buffer.  Elsewhere it has two, and the backend copies
 * between them: with its own copies that run beside the host (df_stage_ops), or else with upload and download.
 */
#include "backend/backend_priv.h"

#include <stdlib.h>

#include "base/mem.h"

int
df_stage_new(struct df_backend *be, struct df_stage **out, size_t nbytes, const char *what, struct df_err *err)
{
	struct df_stage *st = NULL;
	int rc;

	if (!be || !out || !what)
		return df_fail(err, DF_EINTERNAL, "df_stage_new: a NULL argument");
	DF_TRY(df_alloc(&st, 1, sizeof(*st), what, err));
	st->be = be;
	DF_TRY(df_tensor_alloc(be, &st->device, DF_U8, 1, nbytes, what, err));
	if (be->ops->on_host)
		st->host = df_tensor_host(st->device);
	else if (be->ops->stage)
		DF_TRY(be->ops->stage->open(be, st, what, err));
	else
		DF_TRY(df_alloc(&st->host, nbytes, 1, what, err));
	*out = st;
	st = NULL;
out:
	df_stage_free(be, &st);
	return rc;
}

void
df_stage_free(struct df_backend *be, struct df_stage **st)
{
	if (!st || !*st)
		return;
	if (be->ops->on_host)
		(*st)->host = NULL; /* the device's side is the host's, too */
	else if (be->ops->stage)
		be->ops->stage->close(be, *st);
	else
		free((*st)->host);
	df_tensor_free(be, &(*st)->device);
	free(*st);
	*st = NULL;
}

int
df_stage_reuse(struct df_backend *be, struct df_stage **st, size_t nbytes, const char *what, struct df_err *err)
{
	int rc = DF_OK;

	if (*st)
		DF_TRY(df_stage_wait(*st, err));
	if (*st && (*st)->device.cols >= nbytes)
		goto out;
	if (*st) /* half as much again, for batches that grow */
		DF_TRY(df_size_add(nbytes, nbytes / 2, &nbytes, what, err));
	df_stage_free(be, st);
	rc = df_stage_new(be, st, nbytes, what, err);
out:
	return rc;
}

void *
df_stage_host(const struct df_stage *st, size_t at)
{
	return (char *)st->host + at;
}

struct df_tensor
df_stage_view(const struct df_stage *st, enum df_dtype type, size_t at, size_t rows, size_t cols)
{
	return df_tensor_as(df_tensor_view(st->device, at, 1, 1), type, rows, cols);
}

/* The bytes [first, first + n) of the device's side. */
static int
range(const struct df_stage *st, size_t first, size_t n, struct df_tensor *t, struct df_err *err)
{
	if (first > st->device.cols || n > st->device.cols - first)
		return df_fail(err, DF_EINTERNAL, "stage: bytes [%zu, +%zu) of %zu", first, n, st->device.cols);
	*t = df_tensor_view(st->device, first, 1, n);
	return DF_OK;
}

/* From the host to the device, or back. */
static int
transfer(struct df_stage *st, size_t first, size_t n, bool push, struct df_err *err)
{
	struct df_backend *be = st->be;
	const struct df_stage_ops *ops = be->ops->stage;
	struct df_tensor t;
	int rc;

	DF_TRY(range(st, first, n, &t, err));
	if (be->ops->on_host || n == 0)
		goto out;
	if (ops)
		rc = (push ? ops->push : ops->pull)(be, st, first, n, err);
	else if (push)
		rc = df_upload(be, t, df_stage_host(st, first), err);
	else
		rc = df_download(be, df_stage_host(st, first), t, err);
out:
	return rc;
}

int
df_stage_push(struct df_stage *st, size_t first, size_t n, struct df_err *err)
{
	return transfer(st, first, n, true, err);
}

int
df_stage_pull(struct df_stage *st, size_t first, size_t n, struct df_err *err)
{
	return transfer(st, first, n, false, err);
}

int
df_stage_wait(struct df_stage *st, struct df_err *err)
{
	struct df_backend *be = st->be;

	return !be->ops->on_host && be->ops->stage ? be->ops->stage->wait(be, st, err) : DF_OK;
}
