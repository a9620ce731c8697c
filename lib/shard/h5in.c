/*
 * h5in.c - reading one artefact file or image: find the datasets that are columns, and check that they fit
 * together.
 */
#include "shard/h5data.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct df_h5in {
	char *name;
	hid_t file;
	struct df_bytes *bytes;
	struct df_h5info info;
	struct df_h5data col[DF_COL_COUNT];
	struct df_h5data off[DF_COL_COUNT]; /* by column; each ragged column has its own handle of shared offsets */
	struct df_scratch scratch;
};

const struct df_h5info *
df_h5in_info(const struct df_h5in *in)
{
	return &in->info;
}

static bool
exists(hid_t file, const char *path)
{
	const char *slash = strchr(path, '/');

	if (slash) {
		char group[64];

		memcpy(group, path, (size_t)(slash - path));
		group[slash - path] = '\0';
		if (H5Lexists(file, group, H5P_DEFAULT) <= 0)
			return false;
	}
	return H5Lexists(file, path, H5P_DEFAULT) > 0;
}

/* ---- opening a file */

static int
read_offsets(struct df_h5in *in, enum df_col c, uint64_t first, uint64_t n, uint64_t *offsets, struct df_err *err)
{
	struct df_h5data *x = &in->off[c];
	int rc;

	DF_TRY(df_h5data_read(x, &in->scratch, first, n + 1, offsets, err));
	for (uint64_t i = 0; i <= n; i++) {
		if (offsets[i] > in->info.values[c] || (i > 0 && offsets[i] < offsets[i - 1])) {
			rc = df_fail(err, DF_EFORMAT,
			    "dataset '%s': entry %llu is %llu, after %llu and with %llu values", x->path,
			    (unsigned long long)(first + i), (unsigned long long)offsets[i],
			    (unsigned long long)(i > 0 ? offsets[i - 1] : 0), (unsigned long long)in->info.values[c]);
			goto out;
		}
	}
out:
	return rc;
}

/* The offsets of an open ragged column; they must cover all of its values. */
static int
open_offsets(struct df_h5in *in, const struct df_column *c, struct df_err *err)
{
	struct df_h5data *off = &in->off[c->col];
	uint64_t values = in->col[c->col].rows, begin, end;
	int rc;

	if (!exists(in->file, c->offsets))
		return df_fail(err, DF_EFORMAT, "dataset '%s' has no '%s' beside it", c->path, c->offsets);
	DF_TRY(df_h5data_open(off, in->file, in->bytes, in->name, c->offsets, DF_COL_U64, false, err));
	if (off->rows == 0)
		return df_fail(err, DF_EFORMAT, "dataset '%s': empty; it begins with a 0", c->offsets);
	in->info.values[c->col] = values;
	/* The columns of the tokens share their offsets, which were checked with the first of them. */
	if (c->col != DF_COL_IDS && in->info.cols & 1u << DF_COL_IDS &&
	    strcmp(c->offsets, df_column(DF_COL_IDS)->offsets) == 0) {
		begin = 0;
		end = in->info.values[DF_COL_IDS];
	} else {
		DF_TRY(read_offsets(in, c->col, 0, 0, &begin, err));
		DF_TRY(read_offsets(in, c->col, off->rows - 1, 0, &end, err));
	}
	if (begin != 0 || end != values)
		rc = df_fail(err, DF_EFORMAT, "dataset '%s': goes from %llu to %llu, but '%s' has %llu values",
		    c->offsets, (unsigned long long)begin, (unsigned long long)end, c->path,
		    (unsigned long long)values);
out:
	return rc;
}

static int
open_columns(struct df_h5in *in, struct df_err *err)
{
	const struct df_kind_schema *ks = df_kind_schema(in->info.meta.kind);
	bool counted = false;
	int rc = DF_OK;

	for (int i = 0; i < DF_COL_COUNT; i++) {
		const struct df_column *c = df_column((enum df_col)i);
		uint64_t rows;

		if (!(ks->allowed & 1u << i) || !exists(in->file, c->path))
			continue;
		DF_TRY(df_h5data_open(&in->col[i], in->file, in->bytes, in->name, c->path, c->type, c->matrix, err));
		rows = in->col[i].rows;
		if (c->offsets) {
			DF_TRY(open_offsets(in, c, err));
			rows = in->off[i].rows - 1;
		}
		/* domain_weight has a row per domain, not per sample. */
		if (i == DF_COL_DOMAIN_WEIGHT && counted) {
			rc = df_fail(err, DF_EFORMAT, "'sample_weight' and 'domain_weight' in one file");
			goto out;
		}
		if (counted && rows != in->info.rows) {
			rc = df_fail(err, DF_EFORMAT, "dataset '%s': %llu rows, but others have %llu", c->path,
			    (unsigned long long)rows, (unsigned long long)in->info.rows);
			goto out;
		}
		in->info.rows = rows;
		in->info.width[i] = c->matrix ? (size_t)in->col[i].width : 0;
		in->info.store[i] = in->col[i].store;
		in->info.chunk[i] = in->col[i].direct ? in->col[i].chunk_rows : 0;
		in->info.cols |= 1u << i;
		counted = true;
	}
	for (int i = 0; i < DF_COL_COUNT; i++) {
		if (ks->required & 1u << i & ~in->info.cols) {
			rc = df_fail(err, DF_EFORMAT, "no dataset '%s', which %s must have",
			    df_column((enum df_col)i)->path, df_kind_name(in->info.meta.kind));
			goto out;
		}
	}
	if (ks->one_of && !(ks->one_of & in->info.cols))
		rc = df_fail(err, DF_EFORMAT, "neither 'sample_weight' nor 'domain_weight' in it");
out:
	return rc;
}

/* Manifest rows must lie in the gradient, in order, without overlap. */
static int
check_manifest(const struct df_h5info *info, struct df_err *err)
{
	uint64_t at = 0;

	for (size_t i = 0; i < info->meta.n_manifest; i++) {
		const struct df_manifest_row *r = &info->meta.manifest[i];
		size_t n;

		if (df_size_mul((size_t)r->rows, (size_t)r->cols, &n, "manifest", NULL) != DF_OK || r->offset < at ||
		    r->offset > info->width[DF_COL_GRADIENT] || n > info->width[DF_COL_GRADIENT] - r->offset)
			return df_fail(err, DF_EFORMAT,
			    "manifest: '%s' (%llu x %llu at %llu) is not within the gradient's %zu coordinates",
			    r->name, (unsigned long long)r->rows, (unsigned long long)r->cols,
			    (unsigned long long)r->offset, info->width[DF_COL_GRADIENT]);
		at = r->offset + n;
	}
	return DF_OK;
}

/* HDF5 looks for the sources of virtual datasets relative to `path`. */
static int
open_common(struct df_h5in *in, const char *path, enum df_kind kind, struct df_err *err)
{
	hid_t fapl = df_h5_fapl_read(in->bytes);
	int rc = DF_OK;

	if (fapl < 0 || (in->file = H5Fopen(path, H5F_ACC_RDONLY, fapl)) < 0) {
		rc = df_h5_fail(err, DF_EFORMAT, "damaged or not an HDF5 file");
		goto out;
	}
	DF_TRY(df_h5_meta_read(in->file, kind, &in->info.meta, err));
	DF_TRY(open_columns(in, err));
	DF_TRY(check_manifest(&in->info, err));
out:
	if (fapl >= 0)
		H5Pclose(fapl);
	return rc;
}

static int
new_in(struct df_h5in **out, const char *name, struct df_err *err)
{
	struct df_h5in *in;
	int rc;

	DF_TRY(df_alloc(&in, 1, sizeof(*in), "a reader", err));
	in->file = -1;
	in->info.meta = (struct df_meta)DF_META_INIT;
	for (int i = 0; i < DF_COL_COUNT; i++)
		in->col[i].d = in->off[i].d = -1;
	if ((rc = df_strdup(&in->name, name, err)) != DF_OK) {
		df_h5in_close(in);
		goto out;
	}
	*out = in;
out:
	return rc;
}

/* *fd = the file, after the cheap checks that give better messages than HDF5's. */
static int
open_file(const char *path, int *out, struct df_err *err)
{
	static const unsigned char magic[8] = { 0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n' };
	unsigned char head[8];
	struct stat st;
	/* A pipe without a writer must not block the reading of a directory. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = DF_OK;

	if (fd < 0)
		return df_fail(err, DF_ENOINPUT, "cannot open:");
	if (fstat(fd, &st) != 0) {
		rc = df_fail(err, DF_ENOINPUT, "cannot open:");
	} else if (S_ISDIR(st.st_mode)) {
		rc = df_fail(err, DF_ENOINPUT, "is a directory");
	} else if (!S_ISREG(st.st_mode)) {
		rc = df_fail(err, DF_ENOINPUT, "not a regular file");
	} else if (st.st_size == 0) {
		rc = df_fail(err, DF_EFORMAT, "empty file");
	} else {
		/* The signature is at 0, or after a user block of 512, 1024, ... bytes. */
		bool found = false;
		ssize_t got = 0;

		for (off_t at = 0; !found && got >= 0 && at + 8 <= st.st_size; at = at ? at * 2 : 512) {
			got = pread(fd, head, 8, at);
			found = got == 8 && memcmp(head, magic, 8) == 0;
		}
		if (got < 0)
			rc = df_fail(err, DF_EIO, "cannot read:");
		else if (!found)
			rc = df_fail(err, DF_EFORMAT, "not an HDF5 file");
	}
	if (rc == DF_OK)
		*out = fd;
	else
		close(fd);
	return rc;
}

/* *out = the artefact in `bytes`, which it takes. */
static int
open_bytes(struct df_h5in **out, struct df_bytes *bytes, const char *path, const char *name, enum df_kind kind,
    struct df_err *err)
{
	struct df_h5in *in = NULL;
	int rc;

	if ((rc = new_in(&in, name, err)) != DF_OK) {
		df_bytes_drop(bytes);
		goto out;
	}
	in->bytes = bytes;
	df_h5_enter();
	rc = open_common(in, path, kind, err);
	df_h5_leave();
out:
	if (rc != DF_OK) {
		df_h5in_close(in);
		return rc;
	}
	*out = in;
	return DF_OK;
}

int
df_h5in_open(struct df_h5in **out, const char *path, const char *name, enum df_kind kind, struct df_err *err)
{
	struct df_bytes *bytes;
	int fd, rc;

	DF_TRY(open_file(path, &fd, err));
	DF_TRY(df_bytes_file(&bytes, fd, name, err));
	DF_TRY(open_bytes(out, bytes, path, name, kind, err));
out:
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", name);
	return rc;
}

int
df_h5in_open_image(
    struct df_h5in **out, void *image, size_t len, const char *name, enum df_kind kind, struct df_err *err)
{
	struct df_bytes *bytes;
	int rc;

	DF_TRY(df_bytes_image(&bytes, image, len, name, err));
	DF_TRY(open_bytes(out, bytes, "image", name, kind, err));
out:
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", name);
	return rc;
}

void
df_h5in_close(struct df_h5in *in)
{
	if (in == NULL)
		return;
	df_h5_enter();
	for (int i = 0; i < DF_COL_COUNT; i++) {
		df_h5data_close(&in->col[i]);
		df_h5data_close(&in->off[i]);
	}
	if (in->file >= 0)
		H5Fclose(in->file);
	H5Eclear2(H5E_DEFAULT);
	df_h5_leave();
	df_meta_release(&in->info.meta);
	df_scratch_release(&in->scratch);
	df_bytes_drop(in->bytes);
	free(in->name);
	free(in);
}

int
df_meta_load(struct df_meta *m, const char *path, uint64_t *rows, struct df_err *err)
{
	struct df_h5in *in;
	int rc;

	DF_TRY(df_h5in_open(&in, path, path, DF_KIND_ANY, err));
	*m = in->info.meta;
	in->info.meta = (struct df_meta)DF_META_INIT;
	if (rows)
		*rows = in->info.rows;
	df_h5in_close(in);
out:
	return rc;
}

enum df_kind
df_h5_peek_kind(const char *path)
{
	enum df_kind kind = DF_KIND_ANY;
	struct df_bytes *bytes;
	hid_t fapl, file;
	char *name = NULL;
	int fd;

	if (open_file(path, &fd, NULL) != DF_OK || df_bytes_file(&bytes, fd, path, NULL) != DF_OK)
		return kind;
	df_h5_enter();
	fapl = df_h5_fapl_read(bytes);
	if ((file = H5Fopen(path, H5F_ACC_RDONLY, fapl)) >= 0) {
		if (df_h5_attr_get_str(file, "df_kind", &name, NULL) == DF_OK && name)
			kind = df_kind_parse(name);
		H5Fclose(file);
	}
	H5Pclose(fapl);
	H5Eclear2(H5E_DEFAULT);
	df_h5_leave();
	df_bytes_drop(bytes);
	free(name);
	return kind;
}

void
df_h5in_forget(struct df_h5in *in)
{
	for (int i = 0; i < DF_COL_COUNT; i++) {
		df_h5data_forget(&in->col[i]);
		df_h5data_forget(&in->off[i]);
	}
}

/* ---- reading entries */

int
df_h5in_read(struct df_h5in *in, enum df_col c, uint64_t first, uint64_t n, void *dst, struct df_err *err)
{
	int rc = df_h5data_read(&in->col[c], &in->scratch, first, n, dst, err);

	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", in->name);
	return rc;
}

int
df_h5in_chunk(struct df_h5in *in, enum df_col c, uint64_t first, struct df_stored *p, struct df_err *err)
{
	int rc = df_h5data_chunk(&in->col[c], first, 0, p, err);

	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", in->name);
	return rc;
}

int
df_h5in_plan(
    struct df_h5in *in, enum df_col c, uint64_t first, uint64_t n, void *dst, struct df_todo *todo, struct df_err *err)
{
	int rc = df_h5data_plan(&in->col[c], &in->scratch, first, n, dst, todo, err);

	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", in->name);
	return rc;
}

uint64_t
df_h5in_step(const struct df_h5in *in, enum df_col c)
{
	return in->col[c].direct ? in->col[c].chunk_rows : 1;
}

int
df_h5in_offsets(struct df_h5in *in, enum df_col c, uint64_t first, uint64_t n, uint64_t *offsets, struct df_err *err)
{
	int rc = read_offsets(in, c, first, n, offsets, err);

	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", in->name);
	return rc;
}

bool
df_h5in_place(struct df_h5in *in, enum df_col c, bool offsets, uint64_t *at, uint64_t *nbytes)
{
	struct df_h5data *x = offsets ? &in->off[c] : &in->col[c];
	size_t elem = df_coltype_size(x->type), len;
	bool ok = false;
	hid_t dcpl;
	haddr_t addr;

	if (x->d < 0 || !x->exact || df_bytes_memory(in->bytes, &len) == NULL)
		return false;
	*nbytes = x->rows * x->width * elem;
	*at = 0;
	if (*nbytes == 0)
		return true;
	df_h5_enter();
	if ((dcpl = H5Dget_create_plist(x->d)) >= 0) {
		if (H5Pget_layout(dcpl) == H5D_CONTIGUOUS && H5Pget_external_count(dcpl) == 0 &&
		    (addr = H5Dget_offset(x->d)) != HADDR_UNDEF && addr % elem == 0 && addr <= len &&
		    *nbytes <= len - addr) {
			*at = addr;
			ok = true;
		}
		H5Pclose(dcpl);
	}
	H5Eclear2(H5E_DEFAULT);
	df_h5_leave();
	return ok;
}
