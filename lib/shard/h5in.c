/*
 * h5in.c - reading one artefact file or image.
 *
 * Datasets in our own layout (chunked, our filters, our types) are read with
 * H5Dread_chunk and decoded here, outside the library's lock, through a small
 * cache of decoded chunks.  Anything else that holds the same data - another
 * chunking, gzip, contiguous, virtual, other integer or float types - goes
 * through H5Dread and is converted.
 */
#include "shard/h5_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define CACHE_BYTES ((size_t)32 << 20) /* decoded chunks that a dataset keeps */
#define CACHE_MAX   64

struct cached {
	uint64_t chunk_row, chunk_col; /* first row, first column */
	uint64_t used;                 /* clock of the last use; 0 = empty */
	char *data;
};

/* A dataset open for reading. */
struct in {
	hid_t d; /* -1: absent */
	const char *path;
	enum df_coltype type;
	bool matrix;
	uint64_t rows, width;
	bool exact;       /* stored as our type */
	bool is_signed;   /* stored as a signed integer: read as int64 and checked */
	size_t file_size; /* bytes of an element in the file */
	bool direct;      /* our own layout: H5Dread_chunk and codec */
	struct df_codec codec;
	uint64_t chunk_rows, chunk_cols;
	struct cached cache[CACHE_MAX];
	int n_cache;
	uint64_t clock;
};

struct df_h5in {
	char *name;
	hid_t file;
	void *image;
	size_t image_len;
	struct df_h5info info;
	struct in col[DF_COL_COUNT],
	    off[DF_COL_COUNT]; /* off: by column; the second column of one offsets has its own handle */
	struct df_codec_ctx ctx;
	void *raw; /* a chunk as stored */
	size_t raw_cap;
};

const struct df_h5info *
df_h5in_info(const struct df_h5in *in)
{
	return &in->info;
}

/* ---- opening a dataset */

static const char *
type_name(hid_t t)
{
	size_t size = H5Tget_size(t);

	switch (H5Tget_class(t)) {
	case H5T_INTEGER:
		if (H5Tget_sign(t) == H5T_SGN_NONE)
			return size == 1 ? "uint8" : size == 2 ? "uint16" : size == 4 ? "uint32" : "uint64";
		return size == 1 ? "int8" : size == 2 ? "int16" : size == 4 ? "int32" : "int64";
	case H5T_FLOAT: return size == 2 ? "float16" : size == 4 ? "float32" : "float64";
	case H5T_STRING: return "string";
	case H5T_COMPOUND: return "compound";
	case H5T_ENUM: return "enum";
	case H5T_VLEN: return "variable-length lists";
	case H5T_REFERENCE: return "reference";
	case H5T_ARRAY: return "array";
	default: return "another type";
	}
}

static int
check_type(struct in *x, struct df_err *err)
{
	static const char *const names[] = { "uint8", "uint16", "uint32", "uint64", "float32", "float64" };
	bool is_float = x->type == DF_COL_F32 || x->type == DF_COL_F64;
	hid_t t = H5Dget_type(x->d);
	int rc = DF_OK;

	if (t < 0)
		return df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot read its type", x->path);
	if (H5Tget_class(t) != (is_float ? H5T_FLOAT : H5T_INTEGER))
		rc = df_fail(
		    err, DF_EFORMAT, "dataset '%s': expected %s, found %s", x->path, names[x->type], type_name(t));
	else if (!is_float && H5Tget_size(t) > 8)
		rc = df_fail(err, DF_EFORMAT, "dataset '%s': integers of %zu bytes", x->path, H5Tget_size(t));
	x->exact = H5Tequal(t, df_h5_type(x->type)) > 0;
	x->is_signed = !is_float && H5Tget_sign(t) == H5T_SGN_2;
	x->file_size = H5Tget_size(t);
	H5Tclose(t);
	return rc;
}

static int
check_shape(struct in *x, struct df_err *err)
{
	hid_t s = H5Dget_space(x->d);
	hsize_t dims[2] = { 0, 1 };
	int rank = s < 0 ? -1 : H5Sget_simple_extent_ndims(s), want = x->matrix ? 2 : 1, rc = DF_OK;
	size_t n;

	if (s < 0 || H5Sget_simple_extent_type(s) == H5S_NO_CLASS)
		rc = df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot read its shape", x->path);
	else if (rank != want)
		rc = df_fail(err, DF_EFORMAT, "dataset '%s': expected %d dimension%s, found %d", x->path, want,
		    want > 1 ? "s" : "", rank);
	else if (H5Sget_simple_extent_dims(s, dims, NULL) < 0)
		rc = df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot read its shape", x->path);
	if (s >= 0)
		H5Sclose(s);
	x->rows = dims[0];
	x->width = dims[1];
	if (rc == DF_OK &&
	    (df_size_mul((size_t)x->rows, (size_t)x->width, &n, x->path, NULL) != DF_OK ||
		df_size_mul(n, 8, &n, x->path, NULL) != DF_OK || x->rows >= UINT64_MAX / 2))
		rc = df_fail(err, DF_ERANGE, "dataset '%s': %llu x %llu is too large", x->path,
		    (unsigned long long)x->rows, (unsigned long long)x->width);
	return rc;
}

/* May chunks be read and decoded by us?  Only then fill the codec. */
static bool
direct_layout(struct in *x, hid_t dcpl)
{
	hsize_t chunk[2] = { 0, x->width };
	int n = H5Pget_nfilters(dcpl), stage = 0;
	uint64_t bytes;

	if (!x->exact || x->rows == 0 || x->width == 0 || H5Pget_layout(dcpl) != H5D_CHUNKED || n < 0 ||
	    H5Pget_chunk(dcpl, 2, chunk) != (x->matrix ? 2 : 1))
		return false;
	if (!x->matrix)
		chunk[1] = 1;
	x->codec = (struct df_codec){ .elem = df_coltype_size(x->type) };
	for (int i = 0; i < n; i++) {
		unsigned flags, config, values[8];
		size_t n_values = 8;
		H5Z_filter_t f = H5Pget_filter2(dcpl, (unsigned)i, &flags, &n_values, values, 0, NULL, &config);

		if (f == H5Z_FILTER_SHUFFLE && stage < 1) {
			x->codec.shuffle = true;
			stage = 1;
		} else if (f == DF_FILTER_ZSTD && stage < 2) {
			x->codec.zstd = true;
			stage = 2;
		} else if (f == H5Z_FILTER_FLETCHER32 && stage < 3) {
			x->codec.fletcher = true;
			stage = 3;
		} else {
			return false;
		}
	}
	bytes = chunk[0] * chunk[1]; /* below 2^32 each, by HDF5's rule */
	if (bytes == 0 || bytes > UINT32_MAX || bytes * x->codec.elem > CACHE_BYTES)
		return false;
	/* Chunks are whole rows, or pieces of one. */
	if (chunk[1] < x->width && chunk[0] != 1)
		return false;
	x->chunk_rows = chunk[0];
	x->chunk_cols = chunk[1];
	x->n_cache = (int)(CACHE_BYTES / (bytes * x->codec.elem));
	x->n_cache = x->n_cache < 2 ? 2 : x->n_cache > CACHE_MAX ? CACHE_MAX : x->n_cache;
	return true;
}

/* Turn %% into % in place; false when the name has a %b, so that it names more than one file. */
static bool
plain_source(char *name)
{
	char *to = name;

	for (const char *p = name; *p; p++) {
		if (*p == '%' && p[1] == 'b')
			return false;
		if (*p == '%' && p[1] == '%')
			p++;
		*to++ = *p;
	}
	*to = '\0';
	return true;
}

/* A virtual dataset whose source is missing would read as zeros: refuse it instead. */
static int
check_sources(struct df_h5in *in, const struct in *x, hid_t dcpl, struct df_err *err)
{
	size_t n = 0;
	int rc = DF_OK;

	if (H5Pget_virtual_count(dcpl, &n) < 0)
		return df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot read its sources", x->path);
	for (size_t i = 0; i < n && rc == DF_OK; i++) {
		char source[4096], *dir = NULL, *path = NULL;
		ssize_t len = H5Pget_virtual_filename(dcpl, i, source, sizeof(source));

		if (len < 0 || (size_t)len >= sizeof(source))
			return df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot read its sources", x->path);
		/* %b stands for a number, in files of an unlimited series, which HDF5 looks for itself. */
		if (strcmp(source, ".") == 0 || !plain_source(source))
			continue;
		if ((rc = df_strdup(&dir, in->name, err)) == DF_OK &&
		    (rc = df_asprintf(&path, err, "%s/%s", dirname(dir), source)) == DF_OK &&
		    access(source[0] == '/' ? source : path, R_OK) != 0)
			rc = df_fail(err, DF_ENOINPUT, "dataset '%s' is in '%s', which is missing", x->path, source);
		free(path);
		free(dir);
	}
	return rc;
}

static int
open_dataset(struct df_h5in *in, struct in *x, const char *path, enum df_coltype type, bool matrix, struct df_err *err)
{
	hid_t dcpl = -1;
	int rc;

	*x = (struct in){ .d = -1, .path = path, .type = type, .matrix = matrix };
	if ((x->d = H5Dopen2(in->file, path, H5P_DEFAULT)) < 0)
		return df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot open", path);
	DF_TRY(check_type(x, err));
	DF_TRY(check_shape(x, err));
	if ((dcpl = H5Dget_create_plist(x->d)) < 0) {
		rc = df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot read its layout", path);
		goto out;
	}
	x->direct = direct_layout(x, dcpl);
	if (H5Pget_layout(dcpl) == H5D_VIRTUAL)
		DF_TRY(check_sources(in, x, dcpl, err));
out:
	if (dcpl >= 0)
		H5Pclose(dcpl);
	return rc;
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

static int read_offsets(
    struct df_h5in *in, enum df_col c, uint64_t first, uint64_t n, uint64_t *offsets, struct df_err *err);

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
		DF_TRY(open_dataset(in, &in->col[i], c->path, c->type, c->matrix, err));
		rows = in->col[i].rows;
		if (c->offsets) {
			uint64_t ends[2];

			if (!exists(in->file, c->offsets)) {
				rc =
				    df_fail(err, DF_EFORMAT, "dataset '%s' has no '%s' beside it", c->path, c->offsets);
				goto out;
			}
			DF_TRY(open_dataset(in, &in->off[i], c->offsets, DF_COL_U64, false, err));
			if (in->off[i].rows == 0) {
				rc = df_fail(err, DF_EFORMAT, "dataset '%s': empty; it begins with a 0", c->offsets);
				goto out;
			}
			in->info.values[i] = rows;
			rows = in->off[i].rows - 1;
			in->info.cols |= 1u << i;
			DF_TRY(read_offsets(in, (enum df_col)i, 0, 0, &ends[0], err));
			DF_TRY(read_offsets(in, (enum df_col)i, rows, 0, &ends[1], err));
			if (ends[0] != 0 || ends[1] != in->info.values[i]) {
				rc = df_fail(err, DF_EFORMAT,
				    "dataset '%s': goes from %llu to %llu, but '%s' has %llu values", c->offsets,
				    (unsigned long long)ends[0], (unsigned long long)ends[1], c->path,
				    (unsigned long long)in->info.values[i]);
				goto out;
			}
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
		in->info.cols |= 1u << i;
		counted = true;
	}
	in->info.has_id = in->info.cols & 1u << DF_COL_ID;
	for (int i = 0; i < DF_COL_COUNT; i++) {
		/* A sample id is made up only where row i is sample i by nature. */
		if (i == DF_COL_ID && in->info.meta.kind == DF_KIND_WEIGHTS)
			continue;
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

static int
check_heaps(const struct df_h5in *in, const char *path, struct df_err *err)
{
	const void *map = NULL;
	size_t n = 0;
	bool ok;
	int rc = DF_OK;

	if (in->image) {
		ok = df_h5_heaps_sound(in->image, in->image_len);
	} else {
		DF_TRY(df_file_map(path, &map, &n, err));
		ok = df_h5_heaps_sound(map, n);
		df_file_unmap(map, n);
	}
	if (!ok)
		rc = df_fail(err, DF_EFORMAT, "damaged: its string heap");
out:
	return rc;
}

static int
open_common(struct df_h5in *in, hid_t fapl, const char *path, enum df_kind kind, struct df_err *err)
{
	int rc = DF_OK;

	if (fapl < 0 || (in->file = H5Fopen(path, H5F_ACC_RDONLY, fapl)) < 0) {
		rc = df_h5_fail(err, DF_EFORMAT, "damaged or not an HDF5 file");
		goto out;
	}
	if (df_h5_has_heap_strings(in->file))
		DF_TRY(check_heaps(in, path, err));
	DF_TRY(df_h5_meta_read(in->file, kind, &in->info.meta, err));
	DF_TRY(open_columns(in, err));
	DF_TRY(check_manifest(&in->info, err));
out:
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

/* The cheap checks that give better messages than HDF5's. */
static int
look_at_file(const char *path, struct df_err *err)
{
	static const unsigned char magic[8] = { 0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n' };
	unsigned char head[8];
	struct stat st;
	/* A pipe that nobody writes must not stop a look into a directory. */
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

		for (off_t at = 0; !found && at + 8 <= st.st_size; at = at ? at * 2 : 512)
			found = pread(fd, head, 8, at) == 8 && memcmp(head, magic, 8) == 0;
		if (!found)
			rc = df_fail(err, DF_EFORMAT, "not an HDF5 file");
	}
	close(fd);
	return rc;
}

int
df_h5in_open(struct df_h5in **out, const char *path, const char *name, enum df_kind kind, struct df_err *err)
{
	struct df_h5in *in = NULL;
	hid_t fapl;
	int rc;

	DF_TRY(look_at_file(path, err));
	DF_TRY(new_in(&in, name, err));
	df_h5_enter();
	fapl = df_h5_fapl_read();
	rc = open_common(in, fapl, path, kind, err);
	if (fapl >= 0)
		H5Pclose(fapl);
	df_h5_leave();
out:
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", name);
		df_h5in_close(in);
		return rc;
	}
	*out = in;
	return DF_OK;
}

/*
 * HDF5's core driver works on the caller's image itself when these callbacks
 * hand it out as the "allocation" it asks for; read-only, so it never grows.
 */
static void *
image_alloc(size_t size, H5FD_file_image_op_t op, void *udata)
{
	struct df_h5in *in = udata;

	(void)op;
	return size <= in->image_len ? in->image : NULL;
}

static void *
image_copy(void *dst, const void *src, size_t size, H5FD_file_image_op_t op, void *udata)
{
	(void)src;
	(void)size;
	(void)op;
	(void)udata;
	return dst;
}

static herr_t
image_free(void *p, H5FD_file_image_op_t op, void *udata)
{
	(void)p;
	(void)op;
	(void)udata;
	return 0;
}

static void *
udata_same(void *udata)
{
	return udata;
}

static herr_t
udata_free(void *udata)
{
	(void)udata;
	return 0;
}

int
df_h5in_open_image(
    struct df_h5in **out, void *image, size_t len, const char *name, enum df_kind kind, struct df_err *err)
{
	struct df_h5in *in = NULL;
	hid_t fapl = -1;
	int rc;

	DF_TRY(new_in(&in, name, err));
	in->image = image;
	in->image_len = len;
	H5FD_file_image_callbacks_t cb = { image_alloc, image_copy, NULL, image_free, udata_same, udata_free, in };
	df_h5_enter();
	if ((fapl = df_h5_fapl_read()) < 0 || H5Pset_fapl_core(fapl, 65536, 0) < 0 ||
	    H5Pset_file_image_callbacks(fapl, &cb) < 0 || H5Pset_file_image(fapl, image, len) < 0)
		rc = df_h5_fail(err, DF_EINTERNAL, "cannot open an image");
	else
		rc = open_common(in, fapl, "image", kind, err);
	if (fapl >= 0)
		H5Pclose(fapl);
	df_h5_leave();
out:
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", name);
		df_h5in_close(in);
		return rc;
	}
	*out = in;
	return DF_OK;
}

static void
close_dataset(struct in *x)
{
	if (x->d >= 0)
		H5Dclose(x->d);
	for (int i = 0; i < x->n_cache; i++)
		free(x->cache[i].data);
}

void
df_h5in_close(struct df_h5in *in)
{
	if (in == NULL)
		return;
	df_h5_enter();
	for (int i = 0; i < DF_COL_COUNT; i++) {
		close_dataset(&in->col[i]);
		close_dataset(&in->off[i]);
	}
	if (in->file >= 0)
		H5Fclose(in->file);
	H5Eclear2(H5E_DEFAULT);
	df_h5_leave();
	df_meta_release(&in->info.meta);
	df_codec_ctx_release(&in->ctx);
	free(in->raw);
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
	hid_t fapl, file;
	char *name = NULL;

	if (look_at_file(path, NULL) != DF_OK)
		return kind;
	df_h5_enter();
	fapl = df_h5_fapl_read();
	if ((file = H5Fopen(path, H5F_ACC_RDONLY, fapl)) >= 0) {
		struct df_h5in none = { .file = file };

		if ((!df_h5_has_heap_strings(file) || check_heaps(&none, path, NULL) == DF_OK) &&
		    df_h5_attr_get_str(file, "df_kind", &name, NULL) == DF_OK && name)
			kind = df_kind_parse(name);
		H5Fclose(file);
	}
	H5Pclose(fapl);
	H5Eclear2(H5E_DEFAULT);
	df_h5_leave();
	free(name);
	return kind;
}

/* ---- reading entries */

/* Rows [first, first+n), columns [c0, c0+cn) through HDF5, as `mem_type`. */
static int
read_block(
    struct in *x, hid_t mem_type, uint64_t first, uint64_t n, uint64_t c0, uint64_t cn, void *dst, struct df_err *err)
{
	hsize_t start[2] = { first, c0 }, count[2] = { n, cn };
	hid_t file, mem;
	int rc = DF_OK;

	df_h5_enter();
	file = H5Dget_space(x->d);
	mem = H5Screate_simple(x->matrix ? 2 : 1, count, NULL);
	if (file < 0 || mem < 0 || H5Sselect_hyperslab(file, H5S_SELECT_SET, start, NULL, count, NULL) < 0 ||
	    H5Dread(x->d, mem_type, mem, file, H5P_DEFAULT, dst) < 0)
		rc = df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot read rows %llu to %llu", x->path,
		    (unsigned long long)first, (unsigned long long)(first + n));
	if (mem >= 0)
		H5Sclose(mem);
	if (file >= 0)
		H5Sclose(file);
	df_h5_leave();
	return rc;
}

/* Integers of another width or sign: as 64 bits, checked, narrowed. */
static int
read_converted(struct in *x, uint64_t first, uint64_t n, char *dst, struct df_err *err)
{
	size_t size = df_coltype_size(x->type), at = 0;
	uint64_t limit = size == 8 ? UINT64_MAX : ((uint64_t)1 << (8 * size)) - 1, buf[1024];
	int rc = DF_OK;

	for (uint64_t done = 0; done < n;) {
		uint64_t take = n - done < 1024 ? n - done : 1024;

		DF_TRY(read_block(
		    x, x->is_signed ? H5T_NATIVE_INT64 : H5T_NATIVE_UINT64, first + done, take, 0, 1, buf, err));
		for (uint64_t i = 0; i < take; i++, at += size) {
			if ((x->is_signed && (int64_t)buf[i] < 0) || buf[i] > limit) {
				rc = x->is_signed && (int64_t)buf[i] < 0
				    ? df_fail(err, DF_EFORMAT, "dataset '%s': %lld in row %llu is negative", x->path,
					  (long long)buf[i], (unsigned long long)(first + done + i))
				    : df_fail(err, DF_EFORMAT, "dataset '%s': %llu in row %llu is too large", x->path,
					  (unsigned long long)buf[i], (unsigned long long)(first + done + i));
				goto out;
			}
			memcpy(dst + at, &buf[i], size);
		}
		done += take;
	}
out:
	return rc;
}

/* The stored bytes of a chunk into in->raw; *len = 0 when it was never written. */
static int
fetch_chunk(struct df_h5in *in, struct in *x, uint64_t row, uint64_t col, size_t chunk_bytes, size_t *len, bool *plain,
    struct df_err *err)
{
	hsize_t at[2] = { row, col }, size = 0;
	uint32_t mask = 0;
	int rc = DF_OK;

	df_h5_enter();
	if (H5Dget_chunk_storage_size(x->d, at, &size) < 0) {
		rc = df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot find the chunk at row %llu", x->path,
		    (unsigned long long)row);
	} else if (size > df_codec_bound(&x->codec, chunk_bytes)) {
		/* Incompressible chunks are still no larger than this. */
		rc = df_fail(err, DF_EFORMAT, "dataset '%s': damaged: a chunk of %llu bytes at row %llu", x->path,
		    (unsigned long long)size, (unsigned long long)row);
	} else if (size > 0) {
		if (size > in->raw_cap) {
			free(in->raw);
			in->raw = NULL;
			in->raw_cap = 0;
			if ((rc = df_alloc(&in->raw, (size_t)size, 1, "a chunk", err)) == DF_OK)
				in->raw_cap = (size_t)size;
		}
		if (rc == DF_OK && H5Dread_chunk(x->d, H5P_DEFAULT, at, &mask, in->raw) < 0)
			rc = df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot read the chunk at row %llu", x->path,
			    (unsigned long long)row);
	}
	df_h5_leave();
	*len = (size_t)size;
	*plain = mask == 0;
	return rc;
}

/* *data = the decoded chunk that begins at (row, col), from the cache or the file. */
static int
get_chunk(struct df_h5in *in, struct in *x, uint64_t row, uint64_t col, const char **data, struct df_err *err)
{
	size_t bytes = (size_t)(x->chunk_rows * x->chunk_cols) * x->codec.elem, len;
	struct cached *oldest = &x->cache[0];
	bool plain;
	int rc;

	for (int i = 0; i < x->n_cache; i++) {
		struct cached *c = &x->cache[i];

		if (c->used && c->chunk_row == row && c->chunk_col == col) {
			c->used = ++x->clock;
			*data = c->data;
			return DF_OK;
		}
		if (c->used < oldest->used)
			oldest = c;
	}
	oldest->used = 0;
	if (oldest->data == NULL)
		DF_TRY(df_alloc(&oldest->data, bytes, 1, "a chunk", err));
	DF_TRY(fetch_chunk(in, x, row, col, bytes, &len, &plain, err));
	if (len == 0 || !plain) {
		/* Never written, or with filters skipped: HDF5 knows what that means. */
		uint64_t rows = x->rows - row < x->chunk_rows ? x->rows - row : x->chunk_rows;
		uint64_t cols = x->width - col < x->chunk_cols ? x->width - col : x->chunk_cols;

		DF_TRY(read_block(x, df_h5_type(x->type), row, rows, col, cols, oldest->data, err));
	} else if ((rc = df_codec_decode(&x->codec, &in->ctx, in->raw, len, oldest->data, bytes, err)) != DF_OK) {
		df_err_prefix(err, "dataset '%s', rows from %llu: ", x->path, (unsigned long long)row);
		goto out;
	}
	oldest->chunk_row = row;
	oldest->chunk_col = col;
	oldest->used = ++x->clock;
	*data = oldest->data;
out:
	return rc;
}

/* Rows [first, first+n) of a dataset in our own layout. */
static int
read_direct(struct df_h5in *in, struct in *x, uint64_t first, uint64_t n, char *dst, struct df_err *err)
{
	size_t elem = x->codec.elem, row_bytes = (size_t)x->width * elem;
	const char *data;
	int rc = DF_OK;

	while (n > 0) {
		uint64_t at = first / x->chunk_rows * x->chunk_rows, skip = first - at;
		uint64_t take = x->chunk_rows - skip < n ? x->chunk_rows - skip : n;

		for (uint64_t c0 = 0; c0 < x->width; c0 += x->chunk_cols) {
			uint64_t cn = x->width - c0 < x->chunk_cols ? x->width - c0 : x->chunk_cols;

			DF_TRY(get_chunk(in, x, at, c0, &data, err));
			/* Either whole rows, or one row's piece (then skip is 0 and take 1). */
			memcpy(dst + c0 * elem, data + skip * row_bytes, (size_t)(take * cn) * elem);
		}
		dst += take * row_bytes;
		first += take;
		n -= take;
	}
out:
	return rc;
}

static int
read_rows(struct df_h5in *in, struct in *x, uint64_t first, uint64_t n, void *dst, struct df_err *err)
{
	bool is_int = x->type != DF_COL_F32 && x->type != DF_COL_F64;
	int rc;

	if (x->d < 0)
		return df_fail(err, DF_EINTERNAL, "column %s is not there", x->path ? x->path : "?");
	if (first > x->rows || n > x->rows - first)
		return df_fail(err, DF_EINTERNAL, "dataset '%s': rows %llu + %llu of %llu", x->path,
		    (unsigned long long)first, (unsigned long long)n, (unsigned long long)x->rows);
	if (n == 0 || x->width == 0)
		return DF_OK;
	if (x->direct)
		rc = read_direct(in, x, first, n, dst, err);
	else if (is_int && !x->exact)
		rc = read_converted(x, first, n, dst, err);
	else
		rc = read_block(x, df_h5_type(x->type), first, n, 0, x->width, dst, err);
	return rc;
}

int
df_h5in_read(struct df_h5in *in, enum df_col c, uint64_t first, uint64_t n, void *dst, struct df_err *err)
{
	int rc = read_rows(in, &in->col[c], first, n, dst, err);

	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", in->name);
	return rc;
}

static int
read_offsets(struct df_h5in *in, enum df_col c, uint64_t first, uint64_t n, uint64_t *offsets, struct df_err *err)
{
	struct in *x = &in->off[c];
	int rc;

	DF_TRY(read_rows(in, x, first, n + 1, offsets, err));
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
	struct in *x = offsets ? &in->off[c] : &in->col[c];
	size_t elem = df_coltype_size(x->type);
	bool ok = false;
	hid_t dcpl;
	haddr_t addr;

	if (x->d < 0 || !x->exact || in->image == NULL)
		return false;
	*nbytes = x->rows * x->width * elem;
	*at = 0;
	if (*nbytes == 0)
		return true;
	df_h5_enter();
	if ((dcpl = H5Dget_create_plist(x->d)) >= 0) {
		if (H5Pget_layout(dcpl) == H5D_CONTIGUOUS && H5Pget_external_count(dcpl) == 0 &&
		    (addr = H5Dget_offset(x->d)) != HADDR_UNDEF && addr % elem == 0 && addr <= in->image_len &&
		    *nbytes <= in->image_len - addr) {
			*at = addr;
			ok = true;
		}
		H5Pclose(dcpl);
	}
	H5Eclear2(H5E_DEFAULT);
	df_h5_leave();
	return ok;
}
