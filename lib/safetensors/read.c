/*
 * read.c - reading: map the file, trust nothing in its header.
 *
 *	| u64 n | n bytes of JSON | data area ................ |
 *	                          ^ data_offsets count from here
 *
 * A header is accepted only if its ranges, sorted, tile the data area exactly: each begins where the one before
 * ends, the last ends at the end of the file, and each is as long as its shape and dtype say.  This one check
 * excludes overlaps, holes, truncated files and overflowing shapes; after it no access can leave the mapping.
 */
#include "safetensors/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#define HEADER_MAX ((size_t)100 << 20) /* the same bound as in Hugging Face's reader */
#define INDEX_MAX  ((size_t)256 << 20)
#define INDEX_NAME "model.safetensors.index.json"

/* One mapped file.  Tensor names and metadata point into its parsed header. */
struct st_file {
	char *path;
	const void *map;
	size_t nbytes;
	struct df_json *header;
};

struct df_st {
	struct st_file *files;
	size_t n_files;
	struct df_st_tensor *t; /* sorted by name */
	size_t n, cap;
};

static const struct {
	const char *name;
	size_t width;
} types[] = {
	[DF_ST_F64] = { "F64", 8 },
	[DF_ST_F32] = { "F32", 4 },
	[DF_ST_F16] = { "F16", 2 },
	[DF_ST_BF16] = { "BF16", 2 },
	[DF_ST_I64] = { "I64", 8 },
	[DF_ST_I32] = { "I32", 4 },
	[DF_ST_I16] = { "I16", 2 },
	[DF_ST_I8] = { "I8", 1 },
	[DF_ST_U8] = { "U8", 1 },
	[DF_ST_BOOL] = { "BOOL", 1 },
};
#define N_TYPES (sizeof(types) / sizeof(types[0]))

const char *
df_st_type_name(enum df_st_type t)
{
	return types[t].name;
}

size_t
df_st_type_size(enum df_st_type t)
{
	return types[t].width;
}

static int
parse_type(const struct df_json_value *v, enum df_st_type *out, struct df_err *err)
{
	const char *s = df_json_str(v, NULL);

	if (s == NULL)
		return df_fail(err, DF_EFORMAT, "'dtype': expected a string, found %s", df_json_type_name(v));
	for (size_t i = 0; i < N_TYPES; i++) {
		if (strcmp(s, types[i].name) == 0) {
			*out = (enum df_st_type)i;
			return DF_OK;
		}
	}
	return df_fail(err, DF_EUNSUPPORTED, "dtype %.32s is not supported (F64, F32, F16, BF16 and integers are)", s);
}

/* One entry of the header; *begin is the offset of its data. */
static int
parse_entry(struct df_st_tensor *t, const struct df_json_value *v, size_t *begin, struct df_err *err)
{
	const struct df_json_value *shape = df_json_get(v, "shape"), *range = df_json_get(v, "data_offsets");
	int64_t b, e, d;
	size_t nbytes;
	int rc = DF_OK;

	if (df_json_type(v) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "expected an object, found %s", df_json_type_name(v));
	DF_TRY(parse_type(df_json_get(v, "dtype"), &t->type, err));
	if (df_json_type(shape) != DF_JSON_ARRAY)
		return df_fail(err, DF_EFORMAT, "'shape': expected an array, found %s", df_json_type_name(shape));
	if (df_json_size(shape) > sizeof(t->shape) / sizeof(t->shape[0]))
		return df_fail(err, DF_EUNSUPPORTED, "%zu dimensions, at most 8 are supported", df_json_size(shape));
	t->rank = (int)df_json_size(shape);
	t->numel = 1;
	for (int i = 0; i < t->rank; i++) {
		if (!df_json_int(df_json_at(shape, (size_t)i), &d) || d < 0)
			return df_fail(err, DF_EFORMAT, "'shape': dimension %d is not a size", i);
		t->shape[i] = (uint64_t)d;
		DF_TRY(df_size_mul(t->numel, (size_t)d, &t->numel, "the number of elements", err));
	}
	DF_TRY(df_size_mul(t->numel, types[t->type].width, &nbytes, "the size in bytes", err));
	if (df_json_size(range) != 2 || !df_json_int(df_json_at(range, 0), &b) ||
	    !df_json_int(df_json_at(range, 1), &e) || b < 0 || e < b)
		return df_fail(err, DF_EFORMAT, "'data_offsets' is not a range");
	if ((uint64_t)(e - b) != nbytes)
		return df_fail(err, DF_EFORMAT, "its shape and dtype need %zu bytes, data_offsets give %lld", nbytes,
		    (long long)(e - b));
	t->nbytes = nbytes;
	*begin = (size_t)b;
out:
	return rc;
}

static int
by_data(const void *a, const void *b)
{
	const struct df_st_tensor *x = a, *y = b;

	if (x->data != y->data)
		return (const char *)x->data < (const char *)y->data ? -1 : 1;
	return x->nbytes < y->nbytes ? -1 : x->nbytes > y->nbytes; /* empty ones first */
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct df_st_tensor *)a)->name, ((const struct df_st_tensor *)b)->name);
}

/* The tensors t[0..n) must tile [data, data + size). */
static int
check_tiling(struct df_st_tensor *t, size_t n, const char *data, size_t size, struct df_err *err)
{
	const char *at = data;

	if (n > 0)
		qsort(t, n, sizeof(*t), by_data);
	for (size_t i = 0; i < n; i++) {
		if ((const char *)t[i].data < at)
			return df_fail(err, DF_EFORMAT, "tensor '%.200s': its bytes overlap those of '%.200s'",
			    t[i].name, t[i - 1].name);
		if ((const char *)t[i].data > at)
			return df_fail(err, DF_EFORMAT, "tensor '%.200s': %zu bytes before it belong to no tensor",
			    t[i].name, (size_t)((const char *)t[i].data - at));
		at += t[i].nbytes;
	}
	if ((size_t)(at - data) != size)
		return df_fail(err, DF_EFORMAT, "%zu bytes at the end belong to no tensor", size - (size_t)(at - data));
	return DF_OK;
}

/* Map a file and append its tensors to st. */
static int
open_file(struct df_st *st, const char *path, struct df_err *err)
{
	struct st_file *f = &st->files[st->n_files];
	const struct df_json_member *m = NULL;
	const struct df_json_value *root, *v;
	const char *name, *data;
	uint64_t n_header = 0;
	size_t n_data, first = st->n;
	int rc;

	memset(f, 0, sizeof(*f));
	st->n_files++;
	DF_TRY(df_strdup(&f->path, path, err));
	DF_TRY(df_file_map(path, &f->map, &f->nbytes, err));
	if (f->nbytes < 8) {
		rc = df_fail(err, DF_EFORMAT, "%s: not a safetensors file: %zu bytes", path, f->nbytes);
		goto out;
	}
	for (int i = 7; i >= 0; i--)
		n_header = n_header << 8 | ((const unsigned char *)f->map)[i];
	if (n_header > HEADER_MAX) {
		rc = df_fail(err, DF_EFORMAT, "%s: not a safetensors file: a header of %llu bytes", path,
		    (unsigned long long)n_header);
		goto out;
	}
	if (n_header > f->nbytes - 8) {
		rc = df_fail(err, DF_EFORMAT, "%s: truncated: a header of %llu bytes in a file of %zu", path,
		    (unsigned long long)n_header, f->nbytes);
		goto out;
	}
	DF_TRY(df_json_parse_unique(&f->header, (const char *)f->map + 8, (size_t)n_header, path, err));
	root = df_json_root(f->header);
	if (df_json_type(root) != DF_JSON_OBJECT) {
		rc = df_fail(err, DF_EFORMAT, "%s: the header is %s, not an object", path, df_json_type_name(root));
		goto out;
	}
	data = (const char *)f->map + 8 + n_header;
	n_data = f->nbytes - 8 - (size_t)n_header;
	while ((m = df_json_next(root, m, &name, &v)) != NULL) {
		struct df_st_tensor t = { .name = name };
		size_t begin;

		if (strcmp(name, "__metadata__") == 0) {
			if (df_json_type(v) == DF_JSON_OBJECT)
				continue;
			rc = df_fail(
			    err, DF_EFORMAT, "%s: '__metadata__' is %s, not an object", path, df_json_type_name(v));
			goto out;
		}
		rc = parse_entry(&t, v, &begin, err);
		if (rc == DF_OK && (begin > n_data || t.nbytes > n_data - begin))
			rc = df_fail(err, DF_EFORMAT,
			    "its data_offsets end at %llu, the data area has %zu bytes: truncated?",
			    (unsigned long long)begin + t.nbytes, n_data);
		if (rc != DF_OK) {
			df_err_prefix(err, "%s: tensor '%.200s': ", path, name);
			goto out;
		}
		t.data = data + begin;
		DF_TRY(df_grow(&st->t, &st->cap, st->n + 1, sizeof(*st->t), "the tensor list", err));
		st->t[st->n++] = t;
	}
	rc = check_tiling(st->n > first ? st->t + first : NULL, st->n - first, data, n_data, err);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", path);
out:
	return rc;
}

/* Sort by name; two files of a set must not hold the same tensor. */
static int
index_names(struct df_st *st, struct df_err *err)
{
	if (st->n > 0)
		qsort(st->t, st->n, sizeof(*st->t), by_name);
	for (size_t i = 1; i < st->n; i++) {
		if (strcmp(st->t[i - 1].name, st->t[i].name) == 0)
			return df_fail(err, DF_EFORMAT, "tensor '%.200s' is in two files", st->t[i].name);
	}
	return DF_OK;
}

static int
new_set(struct df_st **out, size_t n_files, struct df_err *err)
{
	struct df_st *st = NULL;
	int rc;

	DF_TRY(df_alloc(&st, 1, sizeof(*st), "a tensor file", err));
	DF_TRY(df_alloc(&st->files, n_files, sizeof(*st->files), "the file list", err));
	*out = st;
	st = NULL;
out:
	df_st_close(st);
	return rc;
}

int
df_st_open(struct df_st **out, const char *path, struct df_err *err)
{
	struct df_st *st = NULL;
	int rc;

	DF_TRY(new_set(&st, 1, err));
	DF_TRY(open_file(st, path, err));
	DF_TRY(index_names(st, err));
	*out = st;
	st = NULL;
out:
	df_st_close(st);
	return rc;
}

static int
by_string(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct files of a weight_map, sorted.  Only plain file names: an index must not point outside its directory. */
static int
list_shards(const struct df_json_value *map, const char ***out, size_t *n_out, struct df_err *err)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *v;
	const char *key, **files = NULL;
	size_t n = 0, k = 0;
	int rc;

	DF_TRY(df_alloc(&files, df_json_size(map) + 1, sizeof(*files), "the shard list", err));
	while ((m = df_json_next(map, m, &key, &v)) != NULL) {
		size_t len;
		const char *s = df_json_str(v, &len);

		if (s == NULL || len == 0 || len != strlen(s) || strchr(s, '/') != NULL || s[0] == '.') {
			rc = df_fail(
			    err, DF_EFORMAT, "'weight_map': '%.200s' does not name a file of this directory", key);
			goto out;
		}
		files[n++] = s;
	}
	qsort(files, n, sizeof(*files), by_string);
	for (size_t i = 0; i < n; i++) {
		if (k == 0 || strcmp(files[k - 1], files[i]) != 0)
			files[k++] = files[i];
	}
	*out = files;
	*n_out = k;
	files = NULL;
out:
	free(files);
	return rc;
}

/* Every tensor must lie in the file that the index names, and be in the index. */
static int
check_index(const struct df_st *st, const struct df_json_value *map, struct df_err *err)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *v;
	const char *key;

	while ((m = df_json_next(map, m, &key, &v)) != NULL) {
		if (df_st_find(st, key) == NULL)
			return df_fail(err, DF_EFORMAT, "tensor '%.200s' is in the index but not in %s", key,
			    df_json_str(v, NULL));
	}
	for (size_t i = 0; i < st->n; i++) {
		if (df_json_get(map, st->t[i].name) == NULL)
			return df_fail(
			    err, DF_EFORMAT, "tensor '%.200s' is in a shard but not in the index", st->t[i].name);
	}
	return DF_OK;
}

static int
open_index(struct df_st **out, const char *dir, const char *index, struct df_err *err)
{
	const struct df_json_value *map;
	struct df_json *json = NULL;
	struct df_st *st = NULL;
	const char **files = NULL;
	char *path = NULL;
	size_t n = 0;
	int rc;

	DF_TRY(df_json_load(&json, index, INDEX_MAX, err));
	map = df_json_get(df_json_root(json), "weight_map");
	if (df_json_type(map) != DF_JSON_OBJECT || df_json_size(map) == 0) {
		rc = df_fail(err, DF_EFORMAT, "%s: no 'weight_map'", index);
		goto out;
	}
	rc = list_shards(map, &files, &n, err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", index);
		goto out;
	}
	DF_TRY(new_set(&st, n, err));
	for (size_t i = 0; i < n; i++) {
		free(path);
		path = NULL;
		DF_TRY(df_path_join(&path, dir, files[i], err));
		DF_TRY(open_file(st, path, err));
	}
	rc = index_names(st, err);
	if (rc == DF_OK)
		rc = check_index(st, map, err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", index);
		goto out;
	}
	*out = st;
	st = NULL;
out:
	free(path);
	free(files);
	df_st_close(st);
	df_json_free(json);
	return rc;
}

int
df_st_open_model(struct df_st **out, const char *dir, struct df_err *err)
{
	char *single = NULL, *index = NULL, *bin = NULL;
	bool has_single, has_index, has_bin;
	int rc;

	DF_TRY(df_path_join(&single, dir, "model.safetensors", err));
	DF_TRY(df_path_join(&index, dir, INDEX_NAME, err));
	DF_TRY(df_path_join(&bin, dir, "pytorch_model.bin", err));
	DF_TRY(df_file_probe(single, &has_single, err));
	DF_TRY(df_file_probe(index, &has_index, err));
	DF_TRY(df_file_probe(bin, &has_bin, err));
	if (has_single)
		rc = df_st_open(out, single, err);
	else if (has_index)
		rc = open_index(out, dir, index, err);
	else if (has_bin)
		rc = df_fail(err, DF_EUNSUPPORTED,
		    "%s: a Python pickle; convert the model to safetensors "
		    "(transformers: save_pretrained)",
		    bin);
	else
		rc = df_fail(err, DF_ENOINPUT, "%s: no weights: neither model.safetensors nor " INDEX_NAME, dir);
out:
	free(single);
	free(index);
	free(bin);
	return rc;
}

void
df_st_close(struct df_st *st)
{
	if (st == NULL)
		return;
	for (size_t i = 0; i < st->n_files; i++) {
		free(st->files[i].path);
		df_json_free(st->files[i].header);
		df_file_unmap(st->files[i].map, st->files[i].nbytes);
	}
	free(st->files);
	free(st->t);
	free(st);
}

size_t
df_st_count(const struct df_st *st)
{
	return st->n;
}

const struct df_st_tensor *
df_st_at(const struct df_st *st, size_t i)
{
	return &st->t[i];
}

const struct df_st_tensor *
df_st_find(const struct df_st *st, const char *name)
{
	struct df_st_tensor key = { .name = name };

	return st->n == 0 ? NULL : bsearch(&key, st->t, st->n, sizeof(key), by_name);
}

const char *
df_st_path(const struct df_st *st)
{
	return st->n_files == 1 ? st->files[0].path : NULL;
}

const char *
df_st_metadata(const struct df_st *st, const char *key)
{
	for (size_t i = 0; i < st->n_files; i++) {
		const struct df_json_value *meta = df_json_get(df_json_root(st->files[i].header), "__metadata__");
		const char *s = df_json_str(df_json_get(meta, key), NULL);

		if (s != NULL)
			return s;
	}
	return NULL;
}

/* ---- conversion ---------------------------------------------------------- */

static float
bits_f32(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

/* IEEE 754 half to single, exactly. */
static float
half_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3ff;

	if (e == 31)
		return bits_f32(sign | 0x7f800000 | m << 13);
	if (e == 0) { /* zero and subnormals: m * 2^-24 */
		float f = (float)m * 0x1p-24f;

		return sign ? -f : f;
	}
	return bits_f32(sign | (e + 112) << 23 | m << 13);
}

int
df_st_to_f32(const struct df_st_tensor *t, float *dst, struct df_err *err)
{
	const char *src = t->data;
	uint16_t h;
	double d;

	switch (t->type) {
	case DF_ST_F32:
		if (t->nbytes > 0)
			memcpy(dst, src, t->nbytes);
		return DF_OK;
	case DF_ST_BF16:
		for (size_t i = 0; i < t->numel; i++) {
			memcpy(&h, src + 2 * i, 2);
			dst[i] = bits_f32((uint32_t)h << 16);
		}
		return DF_OK;
	case DF_ST_F16:
		for (size_t i = 0; i < t->numel; i++) {
			memcpy(&h, src + 2 * i, 2);
			dst[i] = half_f32(h);
		}
		return DF_OK;
	case DF_ST_F64:
		for (size_t i = 0; i < t->numel; i++) {
			memcpy(&d, src + 8 * i, 8);
			dst[i] = (float)d;
		}
		return DF_OK;
	default:
		return df_fail(err, DF_EFORMAT, "tensor '%.200s': dtype %s where floating point is needed", t->name,
		    types[t->type].name);
	}
}
