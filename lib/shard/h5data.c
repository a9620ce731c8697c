/*
 * h5data.c - one dataset: its type, shape and layout, and its rows.
 *
 * Of a dataset in our own layout (chunked, our filters, our types), and of a contiguous one, HDF5 is only asked for
 * the place of the numbers.  They are read and decoded without it (stored.c): at once, through a small cache of
 * decoded chunks, or later, by any thread.  Anything else that holds the same data - another chunking, gzip,
 * virtual, other integer or float types - goes through H5Dread and is converted.
 */
#include "shard/h5data.h"

#include "base/half.h"

#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CACHE_BYTES ((size_t)32 << 20) /* decoded chunks that a dataset keeps */

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

/* The 16-bit float that an f32 column is stored as, if it is. */
static enum df_store
half_store(const struct df_h5data *x, hid_t t)
{
	char *dtype = NULL;
	enum df_store store = DF_STORE_F32;
	hid_t half;

	if (x->type != DF_COL_F32)
		return DF_STORE_F32;
	half = df_h5_stored_type(x->type, DF_STORE_F16);
	if (H5Tequal(t, half) > 0)
		store = DF_STORE_F16;
	H5Tclose(half);
	if (H5Tequal(t, H5T_STD_U16LE) > 0 && df_h5_attr_get_str(x->d, "dtype", &dtype, NULL) == DF_OK && dtype &&
	    strcmp(dtype, DF_H5_BF16) == 0)
		store = DF_STORE_BF16;
	free(dtype);
	return store;
}

static int
check_type(struct df_h5data *x, struct df_err *err)
{
	static const char *const names[] = { "uint8", "uint16", "uint32", "uint64", "float32", "float64" };
	bool is_float = x->type == DF_COL_F32 || x->type == DF_COL_F64;
	hid_t t = H5Dget_type(x->d);
	int rc = DF_OK;

	if (t < 0)
		return df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot read its type", x->path);
	x->store = half_store(x, t);
	if (x->store != DF_STORE_BF16 && H5Tget_class(t) != (is_float ? H5T_FLOAT : H5T_INTEGER))
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
check_shape(struct df_h5data *x, struct df_err *err)
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

/* Can we read and decode the chunks ourselves?  Only then fill the codec. */
static bool
direct_layout(struct df_h5data *x, hid_t dcpl)
{
	hsize_t chunk[2] = { 0, x->width };
	int n = H5Pget_nfilters(dcpl), stage = 0;
	uint64_t bytes;

	if ((!x->exact && x->store == DF_STORE_F32) || x->rows == 0 || x->width == 0 ||
	    H5Pget_layout(dcpl) != H5D_CHUNKED || n < 0 || H5Pget_chunk(dcpl, 2, chunk) != (x->matrix ? 2 : 1))
		return false;
	if (!x->matrix)
		chunk[1] = 1;
	x->codec = (struct df_codec){ .elem = df_h5_stored_size(x->type, x->store) };
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
	x->n_cache = x->n_cache < 2 ? 2 : x->n_cache > DF_H5_CACHE_MAX ? DF_H5_CACHE_MAX : x->n_cache;
	return true;
}

/* Are the numbers contiguous, and in our type?  Only then set where. */
static bool
plain_layout(struct df_h5data *x, hid_t dcpl)
{
	haddr_t at;

	if ((!x->exact && x->store == DF_STORE_F32) || x->rows == 0 || x->width == 0 ||
	    H5Pget_layout(dcpl) != H5D_CONTIGUOUS || H5Pget_external_count(dcpl) != 0 ||
	    (at = H5Dget_offset(x->d)) == HADDR_UNDEF)
		return false;
	x->codec = (struct df_codec){ .elem = df_h5_stored_size(x->type, x->store) };
	x->at = at;
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

/* The errno with which `source`, relative to the directory of file `name`, cannot be read; 0 if it can. */
static int
unreadable_beside(const char *name, const char *source)
{
	char *dir = NULL, *path = NULL;
	int e = ENOMEM;

	if (source[0] == '/')
		return access(source, R_OK) == 0 ? 0 : errno;
	if (df_strdup(&dir, name, NULL) == DF_OK && df_asprintf(&path, NULL, "%s/%s", dirname(dir), source) == DF_OK)
		e = access(path, R_OK) == 0 ? 0 : errno;
	free(path);
	free(dir);
	return e;
}

/* A virtual dataset whose source is missing would read as zeros: refuse it instead. */
static int
check_sources(const struct df_h5data *x, const char *name, hid_t dcpl, struct df_err *err)
{
	char *real = realpath(name, NULL); /* HDF5 looks there too */
	size_t n = 0;
	int rc = DF_OK, e;

	if (H5Pget_virtual_count(dcpl, &n) < 0)
		rc = df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot read its sources", x->path);
	for (size_t i = 0; i < n && rc == DF_OK; i++) {
		char source[4096];
		ssize_t len = H5Pget_virtual_filename(dcpl, i, source, sizeof(source));

		if (len < 0 || (size_t)len >= sizeof(source)) {
			rc = df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot read its sources", x->path);
			break;
		}
		/* %b stands for the number of a file in an unlimited series; HDF5 looks for these itself. */
		if (strcmp(source, ".") == 0 || !plain_source(source))
			continue;
		e = unreadable_beside(name, source);
		if (e == ENOENT && real)
			e = unreadable_beside(real, source);
		errno = e;
		if (e == ENOENT)
			rc = df_fail(err, DF_ENOINPUT, "dataset '%s' is in '%s', which is missing", x->path, source);
		else if (e != 0)
			rc = df_fail(err, DF_ENOINPUT, "dataset '%s' is in '%s':", x->path, source);
	}
	free(real);
	return rc;
}

int
df_h5data_open(struct df_h5data *x, hid_t file, struct df_bytes *bytes, const char *name, const char *path,
    enum df_coltype type, bool matrix, struct df_err *err)
{
	hid_t dcpl = -1;
	int rc;

	*x = (struct df_h5data){ .d = -1, .path = path, .type = type, .matrix = matrix, .bytes = bytes };
	if ((x->d = H5Dopen2(file, path, H5P_DEFAULT)) < 0)
		return df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot open", path);
	DF_TRY(check_type(x, err));
	DF_TRY(check_shape(x, err));
	if ((dcpl = H5Dget_create_plist(x->d)) < 0) {
		rc = df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot read its layout", path);
		goto out;
	}
	x->direct = direct_layout(x, dcpl);
	x->plain = plain_layout(x, dcpl);
	if (H5Pget_layout(dcpl) == H5D_VIRTUAL)
		DF_TRY(check_sources(x, name, dcpl, err));
out:
	if (dcpl >= 0)
		H5Pclose(dcpl);
	return rc;
}

void
df_h5data_forget(struct df_h5data *x)
{
	for (int i = 0; i < x->n_cache; i++) {
		free(x->cache[i].data);
		x->cache[i] = (struct df_h5chunk){ 0 };
	}
}

void
df_h5data_close(struct df_h5data *x)
{
	if (x->d >= 0)
		H5Dclose(x->d);
	df_h5data_forget(x);
}

/* ---- reading rows */

/* Rows [first, first+n), columns [c0, c0+cn) through HDF5, as `mem_type`. */
static int
read_block(struct df_h5data *x, hid_t mem_type, uint64_t first, uint64_t n, uint64_t c0, uint64_t cn, void *dst,
    struct df_err *err)
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

/* The same, in the file's type. */
static int
read_stored(struct df_h5data *x, uint64_t first, uint64_t n, uint64_t c0, uint64_t cn, void *dst, struct df_err *err)
{
	hid_t t;
	int rc;

	df_h5_enter();
	t = df_h5_stored_type(x->type, x->store);
	df_h5_leave();
	rc = read_block(x, t, first, n, c0, cn, dst, err);
	df_h5_enter();
	H5Tclose(t);
	df_h5_leave();
	return rc;
}

/* Integers of another width or sign: as 64 bits, checked, narrowed. */
static int
read_converted(struct df_h5data *x, uint64_t first, uint64_t n, char *dst, struct df_err *err)
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

int
df_h5data_chunk(struct df_h5data *x, uint64_t row, uint64_t col, struct df_stored *p, struct df_err *err)
{
	hsize_t at[2] = { row, col }, size = 0;
	struct df_h5place place = { 0, 0 };
	uint32_t mask = 0;
	int rc = DF_OK;

	*p = (struct df_stored){ .file = x->bytes,
		.codec = x->codec,
		.whole = (size_t)(x->chunk_rows * x->chunk_cols) * x->codec.elem,
		.store = x->store,
		.n = (size_t)(x->chunk_rows * x->chunk_cols),
		.path = x->path,
		.row = row };
	df_h5_enter();
	if (H5Dget_chunk_storage_size(x->d, at, &size) < 0)
		rc = df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot find the chunk at row %llu", x->path,
		    (unsigned long long)row);
	else if (size > df_codec_bound(&x->codec, p->whole))
		/* Incompressible chunks are still no larger than this. */
		rc = df_fail(err, DF_EFORMAT, "dataset '%s': damaged: a chunk of %llu bytes at row %llu", x->path,
		    (unsigned long long)size, (unsigned long long)row);
	else if (size > 0 && (df_h5drive_place(x->d, at, &place, &mask) < 0 || place.len != size))
		rc = df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot read the chunk at row %llu", x->path,
		    (unsigned long long)row);
	else if (size > 0 && mask == 0) /* else it was never written, or filters were skipped */
		p->at = place.at, p->len = place.len;
	df_h5_leave();
	return rc;
}

/* The part of the chunk at p->row and `col` that is within the dataset, read through HDF5, in the stored type. */
static int
read_chunk(struct df_h5data *x, const struct df_stored *p, uint64_t col, void *dst, struct df_err *err)
{
	uint64_t rows = x->rows - p->row < x->chunk_rows ? x->rows - p->row : x->chunk_rows;
	uint64_t cols = x->width - col < x->chunk_cols ? x->width - col : x->chunk_cols;

	return read_stored(x, p->row, rows, col, cols, dst, err);
}

/* *data = the decoded chunk that begins at (row, col), from the cache or the file. */
static int
get_chunk(struct df_scratch *h, struct df_h5data *x, uint64_t row, uint64_t col, const char **data, struct df_err *err)
{
	struct df_h5chunk *oldest = &x->cache[0];
	struct df_stored p;
	int rc;

	for (int i = 0; i < x->n_cache; i++) {
		struct df_h5chunk *c = &x->cache[i];

		if (c->used && c->chunk_row == row && c->chunk_col == col) {
			c->used = ++x->clock;
			*data = c->data;
			return DF_OK;
		}
		if (c->used < oldest->used)
			oldest = c;
	}
	oldest->used = 0;
	DF_TRY(df_h5data_chunk(x, row, col, &p, err));
	if (oldest->data == NULL)
		DF_TRY(df_alloc(&oldest->data, p.whole, 1, "a chunk", err));
	if (p.len == 0)
		DF_TRY(read_chunk(x, &p, col, oldest->data, err));
	else
		DF_TRY(df_stored_decode(&p, h, oldest->data, err));
	oldest->chunk_row = row;
	oldest->chunk_col = col;
	oldest->used = ++x->clock;
	*data = oldest->data;
out:
	return rc;
}

/*
 * Rows [first, first+n) of a dataset in our own layout; a chunk that is wanted whole is left for later, in `todo`,
 * if there is one.
 */
static int
read_direct(struct df_scratch *h, struct df_h5data *x, uint64_t first, uint64_t n, char *dst, struct df_todo *todo,
    struct df_err *err)
{
	size_t elem = x->codec.elem, row_bytes = (size_t)x->width * elem, own = df_coltype_size(x->type);
	struct df_stored p;
	const char *data;
	int rc = DF_OK;

	while (n > 0) {
		uint64_t at = first / x->chunk_rows * x->chunk_rows, skip = first - at;
		uint64_t take = x->chunk_rows - skip < n ? x->chunk_rows - skip : n;
		const bool all = skip == 0 && (take == x->chunk_rows || first + take == x->rows);

		for (uint64_t c0 = 0; c0 < x->width; c0 += x->chunk_cols) {
			uint64_t cn = x->width - c0 < x->chunk_cols ? x->width - c0 : x->chunk_cols;
			char *to = dst + c0 * own;

			if (all && todo) {
				DF_TRY(df_h5data_chunk(x, at, c0, &p, err));
				p.n = (size_t)(take * cn);
				if (p.len > 0) {
					DF_TRY(df_todo_add(todo, &p, to, err));
					continue;
				}
			}
			DF_TRY(get_chunk(h, x, at, c0, &data, err));
			/* Either whole rows, or a piece of one row (then skip is 0 and take 1). */
			df_stored_widen(x->store, elem, to, data + skip * row_bytes, (size_t)(take * cn));
		}
		dst += take * x->width * own;
		first += take;
		n -= take;
	}
out:
	return rc;
}

/* Rows [first, first+n) of a contiguous dataset. */
static struct df_stored
plain_rows(const struct df_h5data *x, uint64_t first, uint64_t n)
{
	const size_t row = (size_t)x->width * x->codec.elem;

	return (struct df_stored){ .file = x->bytes,
		.at = x->at + first * row,
		.len = (size_t)n * row,
		.codec = x->codec,
		.whole = (size_t)n * row,
		.store = x->store,
		.n = (size_t)(n * x->width),
		.path = x->path,
		.row = first };
}

/* bf16 in another layout: HDF5 would convert its bits as integers. */
static int
read_bf16(struct df_h5data *x, uint64_t first, uint64_t n, float *dst, struct df_err *err)
{
	uint16_t *bits = NULL;
	int rc;

	DF_TRY(df_alloc(&bits, (size_t)(n * x->width), sizeof(*bits), x->path, err));
	DF_TRY(read_stored(x, first, n, 0, x->width, bits, err));
	for (uint64_t i = 0; i < n * x->width; i++)
		dst[i] = df_f32_from_bf16(bits[i]);
out:
	free(bits);
	return rc;
}

int
df_h5data_plan(struct df_h5data *x, struct df_scratch *h, uint64_t first, uint64_t n, void *dst, struct df_todo *todo,
    struct df_err *err)
{
	bool is_int = x->type != DF_COL_F32 && x->type != DF_COL_F64;
	struct df_stored p;
	int rc;

	if (x->d < 0)
		return df_fail(err, DF_EINTERNAL, "column %s is not there", x->path ? x->path : "?");
	if (first > x->rows || n > x->rows - first)
		return df_fail(err, DF_EINTERNAL, "dataset '%s': rows %llu + %llu of %llu", x->path,
		    (unsigned long long)first, (unsigned long long)n, (unsigned long long)x->rows);
	if (n == 0 || x->width == 0)
		return DF_OK;
	if (x->direct) {
		rc = read_direct(h, x, first, n, dst, todo, err);
	} else if (x->plain) {
		p = plain_rows(x, first, n);
		rc = todo ? df_todo_add(todo, &p, dst, err) : df_stored_read(&p, h, dst, err);
	} else if (x->store == DF_STORE_BF16) {
		rc = read_bf16(x, first, n, dst, err);
	} else if (is_int && !x->exact) {
		rc = read_converted(x, first, n, dst, err);
	} else {
		rc = read_block(x, df_h5_type(x->type), first, n, 0, x->width, dst, err);
	}
	return rc;
}

int
df_h5data_read(struct df_h5data *x, struct df_scratch *h, uint64_t first, uint64_t n, void *dst, struct df_err *err)
{
	return df_h5data_plan(x, h, first, n, dst, NULL, err);
}
