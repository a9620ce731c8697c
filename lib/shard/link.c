/*
 * link.c - many files as one: an HDF5 virtual dataset per column.
 *
 * The link holds no rows, only their places.  Sources are named relative to it, so the directory can be moved as a
 * whole.  Offsets are the exception: those of each file begin at 0, so the link holds the offsets of the whole.
 */
#include "shard/h5_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* *out = the relative path from directory `dir` to `path`, both absolute and without links. */
static int
relative(char **out, const char *dir, const char *path, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	size_t common = 0;
	int rc;

	for (size_t i = 0;; i++) {
		bool end_dir = dir[i] == '\0' || dir[i] == '/', end_path = path[i] == '/';

		if (end_dir && end_path)
			common = i;
		if (dir[i] == '\0' || dir[i] != path[i])
			break;
	}
	for (const char *p = dir + common; *p; p++)
		if (*p == '/' && p[1])
			df_buf_puts(&b, "../");
	df_buf_puts(&b, path + common + 1);
	DF_TRY(df_buf_check(&b, err));
	*out = df_buf_detach(&b);
out:
	df_buf_release(&b);
	return rc;
}

static int
source_name(char **out, const char *link_dir, const char *path, struct df_err *err)
{
	char *real = realpath(path, NULL), *plain = NULL;
	struct df_buf b = DF_BUF_INIT;
	int rc;

	if (real == NULL)
		return df_fail(err, DF_ENOINPUT, "%s:", path);
	DF_TRY(relative(&plain, link_dir, real, err));
	/* In a source's name HDF5 reads %b as a number, and %% as a percent sign. */
	for (const char *p = plain; *p; p++)
		df_buf_puts(&b, *p == '%' ? "%%" : (char[]){ *p, '\0' });
	DF_TRY(df_buf_check(&b, err));
	*out = df_buf_detach(&b);
out:
	df_buf_release(&b);
	free(plain);
	free(real);
	return rc;
}

/* One column as a virtual dataset over the files `source`. */
static int
link_column(hid_t file, const struct df_set *s, const struct df_column *c, char *const *source, struct df_err *err)
{
	const enum df_store store = df_set_parts(s) ? df_set_part(s, 0).store[c->col] : DF_STORE_F32;
	hid_t dcpl = df_h5_dcpl(), type = df_h5_stored_type(c->type, store), space = -1, d = -1;
	int rank = c->matrix ? 2 : 1, rc = DF_OK;
	hsize_t dims[2] = { 0, df_set_width(s, c->col) }, at[2] = { 0, 0 };

	for (size_t i = 0; i < df_set_parts(s); i++)
		dims[0] += c->offsets ? df_set_part(s, i).values[c->col] : df_set_part(s, i).rows;
	if (dcpl < 0 || (space = H5Screate_simple(rank, dims, NULL)) < 0)
		goto fail;
	for (size_t i = 0; i < df_set_parts(s); i++) {
		struct df_set_part p = df_set_part(s, i);
		hsize_t part[2] = { c->offsets ? p.values[c->col] : p.rows, dims[1] };
		hid_t from;
		herr_t r;

		if (p.store[c->col] != store) {
			rc = df_fail(err, DF_ELINEAGE, "dataset '%s': '%s' holds other floating numbers than '%s'",
			    c->path, p.path, df_set_part(s, 0).path);
			goto out;
		}
		if (part[0] == 0)
			continue;
		if ((from = H5Screate_simple(rank, part, NULL)) < 0)
			goto fail;
		r = H5Sselect_hyperslab(space, H5S_SELECT_SET, at, NULL, part, NULL);
		if (r >= 0)
			r = H5Pset_virtual(dcpl, space, source[i], c->path, from);
		H5Sclose(from);
		if (r < 0)
			goto fail;
		at[0] += part[0];
	}
	H5Sselect_all(space);
	if ((d = df_h5_create(file, c->path, type, space, dcpl)) < 0)
		goto fail;
	rc = df_h5_attr_put_str(d, "description", c->about, err);
	if (rc == DF_OK && store == DF_STORE_BF16)
		rc = df_h5_attr_put_str(d, "dtype", DF_H5_BF16, err);
	goto out;
fail:
	rc = df_h5_fail(err, DF_EIO, "dataset '%s': cannot link", c->path);
out:
	if (d >= 0)
		H5Dclose(d);
	if (type >= 0)
		H5Tclose(type);
	if (space >= 0)
		H5Sclose(space);
	if (dcpl >= 0)
		H5Pclose(dcpl);
	return rc;
}

static int
write_offsets(hid_t file, const char *path, const uint64_t *lengths, uint64_t rows, struct df_err *err)
{
	hsize_t n = rows + 1, chunk = n < 131072 ? n : 131072;
	hid_t dcpl = df_h5_dcpl(), space = H5Screate_simple(1, &n, NULL), d = -1;
	unsigned level = DF_ZSTD_DEFAULT;
	uint64_t *off = NULL;
	int rc;

	DF_TRY(df_alloc(&off, (size_t)n, sizeof(*off), path, err));
	for (uint64_t i = 0; i < rows; i++)
		off[i + 1] = off[i] + lengths[i];
	if (dcpl < 0 || space < 0 || H5Pset_chunk(dcpl, 1, &chunk) < 0 || H5Pset_shuffle(dcpl) < 0 ||
	    H5Pset_filter(dcpl, DF_FILTER_ZSTD, H5Z_FLAG_MANDATORY, 1, &level) < 0 || H5Pset_fletcher32(dcpl) < 0 ||
	    (d = df_h5_create(file, path, H5T_STD_U64LE, space, dcpl)) < 0 ||
	    H5Dwrite(d, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, off) < 0)
		rc = df_h5_fail(err, DF_EIO, "dataset '%s': cannot write", path);
out:
	free(off);
	if (d >= 0)
		H5Dclose(d);
	if (space >= 0)
		H5Sclose(space);
	if (dcpl >= 0)
		H5Pclose(dcpl);
	return rc;
}

/* Write the whole content of the link file.  Between enter and leave. */
static int
write_link(hid_t file, struct df_set *s, char *const *source, uint64_t *const *lengths, struct df_err *err)
{
	const char *written = "";
	int rc = DF_OK;

	for (int i = 0; i < DF_COL_COUNT; i++) {
		const struct df_column *c = df_column((enum df_col)i);

		if (!df_set_has(s, (enum df_col)i))
			continue;
		DF_TRY(link_column(file, s, c, source, err));
		if (c->offsets && strcmp(c->offsets, written) != 0) {
			DF_TRY(write_offsets(file, c->offsets, lengths[i], df_set_rows(s), err));
			written = c->offsets;
		}
	}
	DF_TRY(df_h5_meta_write(file, df_set_meta(s), true, err));
out:
	return rc;
}

int
df_set_link(struct df_set *s, const char *path, struct df_err *err)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	uint64_t *lengths[DF_COL_COUNT] = { NULL };
	char **source = NULL, *dir = NULL, *real_dir = NULL;
	const char *base;
	size_t n = df_set_parts(s);
	hid_t fapl = -1, fcpl = -1, file = -1;
	int rc;

	if (df_set_is_stream(s) || n == 0)
		return df_fail(err, DF_EUSAGE, "%s: a stream cannot be linked to", df_set_name(s));
	/* In a file without ids row i is sample i; in the whole it would be another sample. */
	if (df_set_ids_made_up(s))
		return df_fail(err, DF_EUSAGE, "%s: has no 'sample/id' to join by", df_set_name(s));
	for (size_t i = 0; i < n; i++)
		if (strncmp(df_set_part(s, i).path, "/proc/", 6) == 0)
			return df_fail(err, DF_EUSAGE, "%s: cannot be linked to; name files", df_set_name(s));
	DF_TRY(df_alloc(&source, n, sizeof(*source), "shards", err));
	DF_TRY(df_atomic_open(&a, path, err));
	base = df_path_base(a.path);
	DF_TRY(base == a.path ? df_strdup(&dir, ".", err) : df_strndup(&dir, a.path, (size_t)(base - a.path), err));
	if ((real_dir = realpath(dir, NULL)) == NULL) {
		rc = df_fail(err, DF_ECREATE, "%s:", dir);
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		DF_TRY(
		    source_name(&source[i], strcmp(real_dir, "/") == 0 ? "" : real_dir, df_set_part(s, i).path, err));
	for (int i = 0; i < DF_COL_COUNT; i++)
		if (df_set_has(s, (enum df_col)i) && df_column((enum df_col)i)->offsets)
			DF_TRY(df_set_lengths(s, (enum df_col)i, &lengths[i], err));
	df_h5_enter();
	if ((fapl = df_h5_fapl_write()) < 0 || (fcpl = df_h5_fcpl()) < 0 ||
	    (file = H5Fcreate(a.tmp, H5F_ACC_TRUNC, fcpl, fapl)) < 0)
		rc = df_h5_fail(err, DF_ECREATE, "cannot create");
	else
		rc = write_link(file, s, source, lengths, err);
	if (file >= 0 && H5Fclose(file) < 0 && rc == DF_OK)
		rc = df_h5_fail(err, DF_EIO, "cannot close");
	if (fcpl >= 0)
		H5Pclose(fcpl);
	if (fapl >= 0)
		H5Pclose(fapl);
	df_h5_leave();
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", path);
		goto out;
	}
	DF_TRY(df_atomic_commit(&a, err));
out:
	df_atomic_discard(&a);
	for (size_t i = 0; source && i < n; i++)
		free(source[i]);
	free(source);
	for (int i = 0; i < DF_COL_COUNT; i++)
		free(lengths[i]);
	free(real_dir);
	free(dir);
	return rc;
}
