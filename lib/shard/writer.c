/*
 * writer.c - writing an artefact: to a file or a pipe, resumable after a kill.
 *
 *     put --+--> work file .NAME.df-work (a stream; resumable writers only)
 *           +--> .NAME.df-tmp, an HDF5 file  -- commit: rename --> NAME
 *
 * After a kill the work file holds every batch that was put, perhaps with a torn record at its end.  The next
 * writer of the same artefact (same meta, same columns) writes the complete records again into a new HDF5 file and
 * continues after them.  The file's bytes depend only on the rows (h5out.c), so the result is that of an
 * uninterrupted run.
 */
#include "shard/shard_priv.h"

#include "base/half.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

struct df_writer {
	char *name;
	struct df_meta meta;
	uint32_t cols;
	size_t widths[DF_COL_COUNT];
	struct df_atomic atomic;    /* a named file */
	struct df_h5out *h5;        /* a file, named or spooled */
	int spool_fd;               /* an HDF5 file on its way to standard output; -1 */
	struct df_stream_out *pipe; /* standard output as a stream */
	char *work_path;            /* resumable */
	int work_fd;
	struct df_stream_out *work;
	enum df_store store; /* of `embedding` */
	float *rounded;
	size_t cap_rounded;
	uint64_t rows, done_batches, done_rows;
	struct df_digest digest;
	bool finished; /* the HDF5 file is whole, under its temporary name */
};

uint64_t
df_writer_done_batches(const struct df_writer *w)
{
	return w->done_batches;
}

uint64_t
df_writer_done_rows(const struct df_writer *w)
{
	return w->done_rows;
}

void
df_writer_close(struct df_writer *w)
{
	if (w == NULL)
		return;
	df_h5out_free(w->h5);
	df_stream_out_free(w->pipe);
	df_stream_out_free(w->work);
	if (w->work_fd >= 0) {
		close(w->work_fd);
		if (w->rows == 0)
			unlink(w->work_path); /* no finished work that a later run could use */
	}
	if (w->spool_fd >= 0)
		close(w->spool_fd);
	df_atomic_discard(&w->atomic);
	df_meta_release(&w->meta);
	free(w->rounded);
	free(w->work_path);
	free(w->name);
	free(w);
}

/* ---- opening */

static int
open_stdout(struct df_writer *w, const struct df_writer_opts *opts, struct df_err *err)
{
	char *spool = NULL;
	struct stat st;
	int rc;

	if (isatty(STDOUT_FILENO))
		return df_fail(
		    err, DF_EUSAGE, "standard output is a terminal; an artefact is not text: give -o FILE or a pipe");
	if (fstat(STDOUT_FILENO, &st) != 0)
		return df_fail(err, DF_ECREATE, "standard output:");
	if (!S_ISREG(st.st_mode) || (opts && opts->force_stream))
		return df_stream_out_open(&w->pipe, STDOUT_FILENO, w->name, &w->meta, w->cols, w->widths, true, err);
	/*
	 * HDF5 must be able to seek, and standard output may append to a file: write to a temporary file, and copy
	 * it at the end.
	 */
	DF_TRY(df_spool_open(&w->spool_fd, &spool, err));
	DF_TRY(df_h5out_open(&w->h5, spool, w->name, w->cols, w->widths, opts, err));
out:
	if (spool)
		unlink(spool); /* it stays open */
	free(spool);
	return rc;
}

/* Was this work begun by the same command as now? */
static bool
same_work(const struct df_writer *w, const struct df_h5info *info)
{
	const char *va = w->meta.version, *vb = info->meta.version;

	return info->cols == w->cols && memcmp(info->width, w->widths, sizeof(w->widths)) == 0 &&
	    strcmp(va ? va : "", vb ? vb : "") == 0 && df_meta_same(&w->meta, "", &info->meta, "", NULL) == DF_OK;
}

/* Copy the content of the work file into the new file; *keep = the number of its valid bytes. */
static int
replay(struct df_writer *w, uint64_t *keep, struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;
	struct df_stream_in *in = NULL;
	struct df_err why = DF_ERR_INIT;
	char magic[DF_STREAM_MAGIC_LEN];
	bool ended = false;
	int fd, rc = DF_OK;

	*keep = 0;
	if ((fd = open(w->work_path, O_RDONLY | O_CLOEXEC)) < 0) {
		if (errno != ENOENT)
			rc = df_fail(err, DF_ECREATE, "%s:", w->work_path);
		return rc;
	}
	if (df_read_all(fd, magic, sizeof(magic), NULL) != DF_OK ||
	    memcmp(magic, DF_STREAM_MAGIC, sizeof(magic)) != 0) {
		close(fd);
		return DF_OK;
	}
	/*
	 * From here on the stream owns fd.  A file without a complete record is no error: the run was killed at the
	 * first batch.
	 */
	if (df_stream_in_open(&in, fd, w->work_path, w->meta.kind, &why) != DF_OK) {
		df_debug("%s", why.msg);
		return DF_OK;
	}
	if (!same_work(w, df_stream_in_info(in))) {
		df_warn("%s: the unfinished work beside it was begun with other inputs or options, and is discarded",
		    w->name);
		goto out;
	}
	*keep = DF_STREAM_MAGIC_LEN;
	for (;;) {
		struct df_digest d = { 0, 0 };

		if (df_stream_in_next(in, &b, &ended, &why) != DF_OK || ended)
			break;
		DF_TRY(df_batch_digest(&b, w->cols, w->rows, &d, err));
		DF_TRY(df_h5out_append(w->h5, &b, err));
		df_digest_merge(&w->digest, d);
		w->rows += b.n;
		w->done_batches++;
		w->done_rows = w->rows;
		*keep = df_stream_in_bytes(in);
	}
	if (w->done_rows > 0)
		df_info(
		    "%s: going on after %llu rows that were done before", w->name, (unsigned long long)w->done_rows);
out:
	df_batch_release(&b);
	df_stream_in_close(in);
	return rc;
}

static int
open_work(struct df_writer *w, const char *path, struct df_err *err)
{
	const char *base = df_path_base(path);
	uint64_t keep;
	int rc;

	DF_TRY(df_asprintf(&w->work_path, err, "%.*s.%s.df-work", (int)(base - path), path, base));
	DF_TRY(replay(w, &keep, err));
	w->work_fd = open(w->work_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (w->work_fd < 0 || ftruncate(w->work_fd, (off_t)keep) != 0 || lseek(w->work_fd, 0, SEEK_END) < 0) {
		rc = df_fail(err, DF_ECREATE, "%s:", w->work_path);
		goto out;
	}
	DF_TRY(df_stream_out_open(&w->work, w->work_fd, w->work_path, &w->meta, w->cols, w->widths, keep == 0, err));
out:
	return rc;
}

int
df_writer_open(struct df_writer **out, const char *path, const struct df_meta *meta, const enum df_col *cols,
    size_t n_cols, const size_t widths[DF_COL_COUNT], const struct df_writer_opts *opts, struct df_err *err)
{
	struct df_writer *w = NULL;
	const struct df_kind_schema *ks = df_kind_schema(meta->kind);
	bool to_stdout = strcmp(path, "-") == 0;
	int rc;

	DF_TRY(df_alloc(&w, 1, sizeof(*w), "a writer", err));
	w->spool_fd = w->work_fd = -1;
	w->atomic = (struct df_atomic)DF_ATOMIC_INIT;
	w->meta = (struct df_meta)DF_META_INIT;
	DF_TRY(df_strdup(&w->name, to_stdout ? "standard output" : path, err));
	DF_TRY(df_meta_copy(&w->meta, meta, err));
	w->meta.id[0] = '\0';
	w->store = opts ? opts->store : DF_STORE_F32;
	if (w->meta.version == NULL)
		DF_TRY(df_strdup(&w->meta.version, DF_VERSION, err));
	for (size_t i = 0; i < n_cols; i++) {
		w->cols |= 1u << cols[i];
		if (df_column(cols[i])->matrix)
			w->widths[cols[i]] = widths ? widths[cols[i]] : 0;
	}
	if (w->cols & ~ks->allowed || ks->required & ~w->cols || (ks->one_of && !(ks->one_of & w->cols))) {
		rc = df_fail(err, DF_EINTERNAL, "%s: these columns do not make %s", w->name, ks->name);
		goto out;
	}
	if (to_stdout) {
		DF_TRY(open_stdout(w, opts, err));
	} else {
		DF_TRY(df_atomic_open(&w->atomic, path, err));
		DF_TRY(df_h5out_open(&w->h5, w->atomic.tmp, w->name, w->cols, w->widths, opts, err));
		if (opts && opts->resumable)
			DF_TRY(open_work(w, path, err));
	}
	*out = w;
	w = NULL;
out:
	df_writer_close(w);
	return rc;
}

/* ---- writing */

/*
 * Round the numbers of a column as the file holds them, so that digests, streams and the work file of a resumed run
 * have the values that a reader will read.
 */
static int
round_column(struct df_writer *w, enum df_col c, struct df_batch *b, struct df_err *err)
{
	const float *v = b->col[c].data;
	const size_t n = (size_t)b->n * w->widths[c];
	int rc;

	DF_TRY(df_grow(&w->rounded, &w->cap_rounded, n, sizeof(*w->rounded), "rounded numbers", err));
	for (size_t i = 0; i < n; i++) {
		w->rounded[i] = w->store == DF_STORE_F16 ? df_f32_from_f16(df_f16_from_f32(v[i]))
							 : df_f32_from_bf16(df_bf16_from_f32(v[i]));
		if (isinf(w->rounded[i]) && !isinf(v[i])) {
			rc = df_fail(err, DF_ERANGE, "%s: row %llu: %g is too large for a 16-bit float", w->name,
			    (unsigned long long)(w->rows + i / w->widths[c]), (double)v[i]);
			goto out;
		}
	}
	b->col[c].data = w->rounded;
out:
	return rc;
}

int
df_writer_put(struct df_writer *w, const struct df_batch *batch, struct df_err *err)
{
	struct df_digest d = { 0, 0 };
	struct df_batch rounded = *batch;
	const struct df_batch *b = &rounded;
	int rc;

	if ((rc = df_batch_check(b, w->cols, w->widths, err)) != DF_OK) {
		df_err_prefix(err, "%s: ", w->name);
		goto out;
	}
	if (b->n == 0)
		return DF_OK;
	if (w->store != DF_STORE_F32 && w->cols & 1u << DF_COL_EMBEDDING)
		DF_TRY(round_column(w, DF_COL_EMBEDDING, &rounded, err));
	DF_TRY(df_batch_digest(b, w->cols, w->rows, &d, err));
	if (w->work)
		DF_TRY(df_stream_out_put(w->work, b, d, err));
	if (w->pipe)
		DF_TRY(df_stream_out_put(w->pipe, b, d, err));
	else
		DF_TRY(df_h5out_append(w->h5, b, err));
	df_digest_merge(&w->digest, d);
	w->rows += b->n;
out:
	return rc;
}

/* Copy the spooled file to standard output. */
static int
copy_out(struct df_writer *w, struct df_err *err)
{
	const size_t step = (size_t)1 << 20;
	char *buf = NULL;
	int rc;

	DF_TRY(df_alloc(&buf, step, 1, "a copy", err));
	for (off_t at = 0;;) {
		ssize_t got = pread(w->spool_fd, buf, step, at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			rc = df_fail(err, DF_EIO, "cannot read a temporary file:");
			goto out;
		}
		if (got == 0)
			break;
		DF_TRY(df_write_all(STDOUT_FILENO, buf, (size_t)got, err));
		at += got;
	}
out:
	free(buf);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", w->name);
	return rc;
}

int
df_writer_finish(struct df_writer *w, struct df_err *err)
{
	int rc;

	if (w->pipe || w->finished)
		return DF_OK;
	df_digest_hex(w->digest, w->meta.id);
	rc = df_h5out_finish(w->h5, &w->meta, err);
	w->finished = rc == DF_OK;
	return rc;
}

void
df_writer_id(const struct df_writer *w, char id[DF_DIGEST_HEX])
{
	df_digest_hex(w->digest, id);
}

int
df_writer_add_input(struct df_writer *w, const char *role, const char *kind, const char *id, struct df_err *err)
{
	if (w->pipe || w->finished)
		return df_fail(err, DF_EINTERNAL, "%s: its metadata is written already", w->name);
	return df_meta_add_input(&w->meta, role, kind, id, err);
}

int
df_writer_commit(struct df_writer *w, char id[DF_DIGEST_HEX], struct df_err *err)
{
	int rc;

	df_digest_hex(w->digest, w->meta.id);
	if (w->pipe) {
		/* Records do not hold the totals; the end record does. */
		char whole[DF_DIGEST_HEX];

		memcpy(whole, w->meta.id, sizeof(whole));
		w->meta.id[0] = '\0';
		DF_TRY(df_stream_out_end(w->pipe, w->rows, w->digest, err));
		memcpy(w->meta.id, whole, sizeof(whole));
	} else {
		DF_TRY(df_writer_finish(w, err));
		if (w->spool_fd >= 0)
			DF_TRY(copy_out(w, err));
		else
			DF_TRY(df_atomic_commit(&w->atomic, err));
	}
	if (w->work_path)
		unlink(w->work_path);
	if (id)
		memcpy(id, w->meta.id, sizeof(w->meta.id));
out:
	return rc;
}
