/*
 * write.c - writing: the header comes before the data, so all tensors are declared first, then written.
 *
 * The file is written under a temporary name and renamed when its data is as long as the header says.
 * The header is padded with spaces so that the data area is 8-byte aligned, as Hugging Face writes it.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "safetensors/safetensors.h"

struct df_st_writer {
	struct df_atomic file;
	int fd;
	struct df_buf meta, tensors; /* JSON members, each followed by a comma */
	size_t declared, written;    /* bytes of data */
	bool begun;                  /* the header is written */
};

int
df_st_create(struct df_st_writer **out, const char *path, struct df_err *err)
{
	struct df_st_writer *w = NULL;
	int rc;

	DF_TRY(df_alloc(&w, 1, sizeof(*w), "a tensor file", err));
	w->fd = -1;
	DF_TRY(df_atomic_open(&w->file, path, err));
	w->fd = open(w->file.tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (w->fd < 0) {
		rc = df_fail(err, DF_ECREATE, "%s:", w->file.tmp);
		goto out;
	}
	*out = w;
	w = NULL;
out:
	df_st_discard(w);
	return rc;
}

int
df_st_add(
    struct df_st_writer *w, const char *name, enum df_st_type type, const uint64_t *shape, int rank, struct df_err *err)
{
	size_t n = df_st_type_size(type), end;
	int rc;

	if (w->begun)
		return df_fail(
		    err, DF_EINTERNAL, "%s: tensor '%s' declared after data was written", w->file.path, name);
	for (int i = 0; i < rank; i++)
		DF_TRY(df_size_mul(n, (size_t)shape[i], &n, name, err));
	DF_TRY(df_size_add(w->declared, n, &end, name, err));
	df_buf_json_str(&w->tensors, name);
	df_buf_printf(&w->tensors, ":{\"dtype\":\"%s\",\"shape\":[", df_st_type_name(type));
	for (int i = 0; i < rank; i++)
		df_buf_printf(&w->tensors, "%s%llu", i ? "," : "", (unsigned long long)shape[i]);
	df_buf_printf(&w->tensors, "],\"data_offsets\":[%zu,%zu]},", w->declared, end);
	w->declared = end;
	rc = df_buf_check(&w->tensors, err);
out:
	return rc;
}

int
df_st_add_metadata(struct df_st_writer *w, const char *key, const char *value, struct df_err *err)
{
	if (w->begun)
		return df_fail(err, DF_EINTERNAL, "%s: metadata after data", w->file.path);
	df_buf_json_str(&w->meta, key);
	df_buf_putc(&w->meta, ':');
	df_buf_json_str(&w->meta, value);
	df_buf_putc(&w->meta, ',');
	return df_buf_check(&w->meta, err);
}

static int
put(struct df_st_writer *w, const void *data, size_t n, struct df_err *err)
{
	int rc = df_write_all(w->fd, data, n, err);

	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", w->file.path);
	return rc;
}

static int
begin(struct df_st_writer *w, struct df_err *err)
{
	struct df_buf h = DF_BUF_INIT;
	unsigned char len[8];
	int rc;

	if (w->begun)
		return DF_OK;
	w->begun = true;
	df_buf_putc(&h, '{');
	if (w->meta.len > 0) {
		df_buf_puts(&h, "\"__metadata__\":{");
		df_buf_add(&h, w->meta.data, w->meta.len - 1);
		df_buf_puts(&h, "},");
	}
	df_buf_add(&h, w->tensors.data, w->tensors.len);
	if (h.len > 1)
		h.len--; /* the last comma */
	df_buf_putc(&h, '}');
	while (h.len % 8 != 0 && !h.failed)
		df_buf_putc(&h, ' ');
	DF_TRY(df_buf_check(&h, err));
	for (int i = 0; i < 8; i++)
		len[i] = (unsigned char)((uint64_t)h.len >> (8 * i));
	DF_TRY(put(w, len, sizeof(len), err));
	DF_TRY(put(w, h.data, h.len, err));
out:
	df_buf_release(&h);
	return rc;
}

int
df_st_write(struct df_st_writer *w, const void *data, size_t nbytes, struct df_err *err)
{
	int rc;

	DF_TRY(begin(w, err));
	if (nbytes > w->declared - w->written) {
		rc = df_fail(err, DF_EINTERNAL, "%s: more data than declared", w->file.path);
		goto out;
	}
	DF_TRY(put(w, data, nbytes, err));
	w->written += nbytes;
out:
	return rc;
}

int
df_st_commit(struct df_st_writer *w, struct df_err *err)
{
	int rc;

	DF_TRY(begin(w, err));
	if (w->written != w->declared) {
		rc = df_fail(err, DF_EINTERNAL, "%s: %zu bytes of data declared, %zu written", w->file.path,
		    w->declared, w->written);
		goto out;
	}
	rc = close(w->fd);
	w->fd = -1;
	if (rc != 0) {
		rc = df_fail(err, DF_EIO, "%s:", w->file.path);
		goto out;
	}
	DF_TRY(df_atomic_commit(&w->file, err));
out:
	df_st_discard(w);
	return rc;
}

void
df_st_discard(struct df_st_writer *w)
{
	if (w == NULL)
		return;
	if (w->fd >= 0)
		close(w->fd);
	df_atomic_discard(&w->file);
	df_buf_release(&w->meta);
	df_buf_release(&w->tensors);
	free(w);
}
