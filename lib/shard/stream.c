/*
 * stream.c - the format of the data in a pipe.
 *
 *     magic      16 bytes: 89 'D' 'F' 'S' \r \n 1a \n, then the version, 1, as u64
 *     record     u64 length | HDF5 image of that length | 16 bytes: digest of its rows
 *     ...
 *     end        u64 0 | u64 rows in all | 16 bytes: digest of all rows
 *
 * All integers are little-endian.  Every record is a whole artefact, so h5py can open one that was cut out by hand.
 * The end record distinguishes a finished stream from a broken pipe.  The digests detect damage, and a half-written
 * record at the end of a work file.
 */
#include "shard/shard_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/file.h"

#define PIPE_BYTES (1 << 20)

/* ---- reading */

struct df_stream_in {
	int fd;
	char *name;
	enum df_kind kind;
	struct df_h5info info;
	struct df_image layout; /* of the last record that was opened with HDF5 */
	bool learned;
	struct df_batch first; /* the first record, read at opening */
	bool have_first, ended;
	uint64_t rows, bytes;
	struct df_digest digest;
};

static bool
same_skeleton(const struct df_image *im, const void *image, uint64_t nbytes)
{
	if (im->nbytes != nbytes)
		return false;
	for (size_t i = 0; i < im->n_runs; i++) {
		const struct df_image_run *r = &im->run[i];

		if (r->col == DF_COL_COUNT &&
		    memcmp(im->skel + r->skel_at, (const char *)image + r->at, (size_t)r->nbytes) != 0)
			return false;
	}
	return true;
}

static int
check_offsets(const uint64_t *off, uint64_t n, uint64_t values, const char *path, struct df_err *err)
{
	bool ok = off[0] == 0 && off[n] == values;

	for (uint64_t i = 0; i < n; i++)
		ok &= off[i] <= off[i + 1];
	return ok ? DF_OK
		  : df_fail(err, DF_EFORMAT, "dataset '%s': offsets do not rise from 0 to %llu", path,
			(unsigned long long)values);
}

/* Point the batch's columns into its image, by the layout. */
static int
point_columns(const struct df_stream_in *s, struct df_batch *b, struct df_err *err)
{
	static const uint64_t nothing[1];
	const struct df_image *im = &s->layout;
	int rc = DF_OK;

	b->n = im->rows;
	for (size_t i = 0; i < im->n_runs; i++) {
		const struct df_image_run *r = &im->run[i];

		if (r->col == DF_COL_COUNT)
			continue;
		if (r->offsets) {
			const char *path = df_column(r->col)->offsets;

			for (int k = 0; k < DF_COL_COUNT; k++)
				if (s->info.cols & 1u << k && df_column((enum df_col)k)->offsets &&
				    strcmp(df_column((enum df_col)k)->offsets, path) == 0) {
					b->col[k].offsets = (uint64_t *)((char *)b->image + r->at);
					DF_TRY(check_offsets(b->col[k].offsets, b->n, im->values[k], path, err));
				}
		} else {
			b->col[r->col].data = (char *)b->image + r->at;
		}
	}
	/* A column of 0 bytes has no run. */
	for (int k = 0; k < DF_COL_COUNT; k++) {
		b->col[k].width = df_column((enum df_col)k)->matrix ? s->info.width[k] : 1;
		if (s->info.cols & 1u << k && b->col[k].data == NULL)
			b->col[k].data = (void *)(uintptr_t)nothing;
	}
out:
	return rc;
}

/* An image whose columns are not plain: read them like those of a file. */
static int
copy_columns(struct df_h5in *in, struct df_batch *b, struct df_err *err)
{
	const struct df_h5info *info = df_h5in_info(in);
	int rc = DF_OK;

	b->n = info->rows;
	for (int i = 0; i < DF_COL_COUNT; i++) {
		const struct df_column *c = df_column((enum df_col)i);
		struct df_column_data *d = &b->col[i];
		uint64_t n = info->rows;
		size_t width = c->matrix ? info->width[i] : 1, total;

		if (!(info->cols & 1u << i))
			continue;
		if (c->offsets) {
			DF_TRY(
			    df_arena_alloc(&b->arena, &d->offsets, (size_t)n + 1, sizeof(uint64_t), c->offsets, err));
			DF_TRY(df_h5in_offsets(in, (enum df_col)i, 0, n, d->offsets, err));
			n = info->values[i];
		}
		d->width = width;
		DF_TRY(df_size_mul((size_t)n, width, &total, c->path, err));
		DF_TRY(df_arena_alloc(&b->arena, &d->data, total, df_coltype_size(c->type), c->path, err));
		DF_TRY(df_h5in_read(in, (enum df_col)i, 0, n, d->data, err));
	}
out:
	return rc;
}

/* Open the record in b->image, `nbytes` long, and set b's columns. */
static int
open_record(struct df_stream_in *s, struct df_batch *b, uint64_t nbytes, struct df_err *err)
{
	bool is_first = s->info.cols == 0;
	const struct df_h5info *info;
	struct df_h5in *in = NULL;
	int rc;

	if (s->learned && same_skeleton(&s->layout, b->image, nbytes)) {
		if ((rc = point_columns(s, b, err)) != DF_OK)
			df_err_prefix(err, "%s: ", s->name);
		return rc;
	}
	DF_TRY(df_h5in_open_image(&in, b->image, (size_t)nbytes, s->name, s->kind, err));
	info = df_h5in_info(in);
	if (is_first) {
		s->info = *info;
		s->info.meta = (struct df_meta)DF_META_INIT;
		DF_TRY(df_meta_copy(&s->info.meta, &info->meta, err));
	} else {
		DF_TRY(df_meta_same(&s->info.meta, s->name, &info->meta, "a later record of it", err));
		if (info->cols != s->info.cols || memcmp(info->width, s->info.width, sizeof(info->width)) != 0) {
			rc = df_fail(err, DF_EFORMAT, "%s: its records have different columns", s->name);
			goto out;
		}
	}
	s->learned = df_image_learn(&s->layout, in, b->image, nbytes);
	if (!s->learned)
		DF_TRY(copy_columns(in, b, err));
	else if ((rc = point_columns(s, b, err)) != DF_OK)
		df_err_prefix(err, "%s: ", s->name);
out:
	df_h5in_close(in);
	return rc;
}

/* Room for n bytes.  A wrong length costs only address space: pages are allocated when data arrive. */
static int
need_image(struct df_batch *b, uint64_t n, struct df_err *err)
{
	size_t len = (size_t)(n + 0xfffff) & ~(size_t)0xfffff;
	void *p;

	if (b->image && b->image_len >= n)
		return DF_OK;
	if (b->image)
		munmap(b->image, b->image_len);
	b->image = NULL;
	b->image_len = 0;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return df_fail(err, DF_ENOMEM, "out of memory for a record of %llu bytes", (unsigned long long)n);
	madvise(p, len, MADV_HUGEPAGE);
	b->image = p;
	b->image_len = len;
	return DF_OK;
}

static struct df_digest
digest_at(const unsigned char *p)
{
	struct df_digest d;

	memcpy(&d.lo, p, 8);
	memcpy(&d.hi, p + 8, 8);
	return d;
}

static bool
same_digest(struct df_digest a, struct df_digest b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

static int
read_end(struct df_stream_in *s, struct df_err *err)
{
	unsigned char end[24];
	uint64_t rows;
	int rc;

	DF_TRY(df_read_all(s->fd, end, sizeof(end), err));
	memcpy(&rows, end, 8);
	if (rows != s->rows)
		rc = df_fail(err, DF_EFORMAT, "damaged: %llu rows came, but the end record says %llu",
		    (unsigned long long)s->rows, (unsigned long long)rows);
	else if (!same_digest(digest_at(end + 8), s->digest))
		rc = df_fail(err, DF_EFORMAT, "damaged: the digest of its rows is not that of the end record");
	else
		s->ended = true;
out:
	return rc;
}

static int
read_record(struct df_stream_in *s, struct df_batch *b, bool *ended, struct df_err *err)
{
	struct df_digest d = { 0, 0 };
	unsigned char sum[16];
	uint64_t nbytes;
	int rc;

	df_batch_clear(b);
	*ended = s->ended;
	if (s->ended)
		return DF_OK;
	if ((rc = df_read_all(s->fd, &nbytes, sizeof(nbytes), err)) != DF_OK) {
		if (rc == DF_EFORMAT)
			df_fail(err, rc, "truncated: the stream stops without its end record (did its writer fail?)");
		goto out;
	}
	if (nbytes == 0) {
		DF_TRY(read_end(s, err));
		*ended = true;
		s->bytes += 32;
		goto out;
	}
	if (nbytes > DF_SHARD_MAX_RECORD) {
		rc = df_fail(err, DF_EFORMAT, "damaged: a record of %llu bytes", (unsigned long long)nbytes);
		goto out;
	}
	DF_TRY(need_image(b, nbytes, err));
	DF_TRY(df_read_all(s->fd, b->image, (size_t)nbytes, err));
	DF_TRY(df_read_all(s->fd, sum, sizeof(sum), err));
	if ((rc = open_record(s, b, nbytes, err)) != DF_OK)
		return rc;
	DF_TRY(df_batch_digest(b, s->info.cols, s->rows, &d, err));
	if (!same_digest(d, digest_at(sum))) {
		rc = df_fail(err, DF_EFORMAT, "damaged: the digest of the record from row %llu is wrong",
		    (unsigned long long)s->rows);
		goto out;
	}
	df_digest_merge(&s->digest, d);
	b->first = s->rows;
	s->rows += b->n;
	s->bytes += nbytes + 24;
out:
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", s->name);
	return rc;
}

int
df_stream_in_open(struct df_stream_in **out, int fd, const char *name, enum df_kind kind, struct df_err *err)
{
	struct df_stream_in *s;
	bool ended;
	int rc;

	if ((rc = df_alloc(&s, 1, sizeof(*s), "a stream", err)) != DF_OK) {
		close(fd);
		return rc;
	}
	s->fd = fd;
	s->kind = kind;
	s->bytes = DF_STREAM_MAGIC_LEN;
	s->info.meta = (struct df_meta)DF_META_INIT;
	fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES); /* fewer context switches; a failure does not matter */
	DF_TRY(df_strdup(&s->name, name, err));
	DF_TRY(read_record(s, &s->first, &ended, err));
	if (ended) {
		rc = df_fail(err, DF_EFORMAT, "%s: a stream without a record", name);
		goto out;
	}
	s->have_first = true;
	*out = s;
	return DF_OK;
out:
	df_stream_in_close(s);
	return rc;
}

void
df_stream_in_close(struct df_stream_in *s)
{
	if (s == NULL)
		return;
	close(s->fd);
	df_image_release(&s->layout);
	df_batch_release(&s->first);
	df_meta_release(&s->info.meta);
	free(s->name);
	free(s);
}

int
df_stream_in_next(struct df_stream_in *s, struct df_batch *b, bool *ended, struct df_err *err)
{
	if (s->have_first) {
		struct df_batch t = *b;

		/* A batch's columns point into its own image, so whole batches are swapped. */
		*b = s->first;
		s->first = t;
		s->have_first = false;
		*ended = false;
		return DF_OK;
	}
	return read_record(s, b, ended, err);
}

const struct df_h5info *
df_stream_in_info(const struct df_stream_in *s)
{
	return &s->info;
}

uint64_t
df_stream_in_rows(const struct df_stream_in *s)
{
	return s->rows;
}

struct df_digest
df_stream_in_digest(const struct df_stream_in *s)
{
	return s->digest;
}

uint64_t
df_stream_in_bytes(const struct df_stream_in *s)
{
	return s->bytes;
}

/* ---- writing */

struct df_stream_out {
	int fd;
	char *name;
	const struct df_meta *meta;
	uint32_t cols;
	size_t widths[DF_COL_COUNT];
	struct df_image image;
	uint64_t records;
};

int
df_stream_out_open(struct df_stream_out **out, int fd, const char *name, const struct df_meta *meta, uint32_t cols,
    const size_t widths[DF_COL_COUNT], bool with_magic, struct df_err *err)
{
	struct df_stream_out *s;
	int rc;

	DF_TRY(df_alloc(&s, 1, sizeof(*s), "a stream", err));
	s->fd = fd;
	s->meta = meta;
	s->cols = cols;
	if (widths)
		memcpy(s->widths, widths, sizeof(s->widths));
	if ((rc = df_strdup(&s->name, name, err)) != DF_OK)
		goto fail;
	fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
	if (with_magic && (rc = df_write_all(fd, DF_STREAM_MAGIC, DF_STREAM_MAGIC_LEN, err)) != DF_OK) {
		df_err_prefix(err, "%s: ", name);
		goto fail;
	}
	*out = s;
	return DF_OK;
fail:
	df_stream_out_free(s);
out:
	return rc;
}

void
df_stream_out_free(struct df_stream_out *s)
{
	if (s == NULL)
		return;
	df_image_release(&s->image);
	free(s->name);
	free(s);
}

static int
write_vector(int fd, struct iovec *v, int n, struct df_err *err)
{
	while (n > 0) {
		ssize_t put = writev(fd, v, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return df_fail(err, DF_EIO, "cannot write:");
		for (; n > 0 && (size_t)put >= v->iov_len; v++, n--)
			put -= (ssize_t)v->iov_len;
		if (n > 0) {
			v->iov_base = (char *)v->iov_base + put;
			v->iov_len -= (size_t)put;
		}
	}
	return DF_OK;
}

int
df_stream_out_put(struct df_stream_out *s, const struct df_batch *b, struct df_digest d, struct df_err *err)
{
	struct iovec v[4 * DF_COL_COUNT + 4];
	uint64_t values[DF_COL_COUNT] = { 0 }, sum[2] = { d.lo, d.hi }, zero = 0;
	const struct df_image *im = &s->image;
	int n = 0, rc = DF_OK;

	for (int i = 0; i < DF_COL_COUNT; i++)
		if (s->cols & 1u << i && df_column((enum df_col)i)->offsets && b->n > 0)
			values[i] = b->col[i].offsets[b->n];
	if (im->skel == NULL || im->rows != b->n || memcmp(im->values, values, sizeof(values)) != 0)
		DF_TRY(df_image_make(&s->image, s->meta, s->cols, s->widths, b->n, values, err));
	v[n++] = (struct iovec){ (void *)(uintptr_t)&im->nbytes, sizeof(im->nbytes) };
	for (size_t i = 0; i < im->n_runs; i++) {
		const struct df_image_run *r = &im->run[i];
		const void *p;

		if (r->col == DF_COL_COUNT)
			p = im->skel + r->skel_at;
		else if (!r->offsets)
			p = b->col[r->col].data;
		else
			p = b->n > 0 ? b->col[r->col].offsets : &zero;
		v[n++] = (struct iovec){ (void *)(uintptr_t)p, (size_t)r->nbytes };
	}
	v[n++] = (struct iovec){ sum, sizeof(sum) };
	DF_TRY(write_vector(s->fd, v, n, err));
	s->records++;
out:
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", s->name);
	return rc;
}

int
df_stream_out_end(struct df_stream_out *s, uint64_t rows, struct df_digest d, struct df_err *err)
{
	uint64_t end[4] = { 0, rows, d.lo, d.hi };
	struct df_batch none = DF_BATCH_INIT;
	int rc = DF_OK;

	/* The meta is part of each record: an empty artefact has one record without rows. */
	if (s->records == 0)
		DF_TRY(df_stream_out_put(s, &none, (struct df_digest){ 0, 0 }, err));
	if ((rc = df_write_all(s->fd, end, sizeof(end), err)) != DF_OK)
		df_err_prefix(err, "%s: ", s->name);
out:
	return rc;
}
