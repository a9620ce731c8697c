/*
 * h5.c - opening, creating and attributes of HDF5 files, by our rules.
 *
 * HDF5 prints its error stack unless told otherwise, per thread; it writes modification times unless told
 * otherwise, per object; it locks files unless told otherwise, which fails on network filesystems; and it flushes
 * open files in an atexit handler, which may never end after the disk was full.  All four are changed here.
 */
#include "shard/h5_priv.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "shard/h5zstd.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t mutex;
static bool needs_mutex;

static void
init(void)
{
	pthread_mutexattr_t a;
	hbool_t safe = 0;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&mutex, &a);
	pthread_mutexattr_destroy(&a);
	H5dont_atexit();
	H5open();
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	needs_mutex = H5is_library_threadsafe(&safe) < 0 || !safe;
	/* Our own filter, so that a chunk is read in the same way on every machine, with or without plugins. */
	H5Zregister(&df_h5zstd_class);
	df_h5drive_init();
}

void
df_h5_enter(void)
{
	pthread_once(&once, init);
	if (needs_mutex)
		pthread_mutex_lock(&mutex);
	df_h5drive_forget_fault();
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void
df_h5_leave(void)
{
	if (needs_mutex)
		pthread_mutex_unlock(&mutex);
}

struct reason {
	char text[256];
	bool has;
};

/* From the innermost error outwards; the innermost one with a description states the fact. */
static herr_t
note_reason(unsigned n, const H5E_error2_t *e, void *ctx)
{
	struct reason *r = ctx;

	(void)n;
	df_debug("HDF5: %s(): %s", e->func_name ? e->func_name : "?", e->desc ? e->desc : "?");
	if (!r->has && e->desc && *e->desc) {
		/* For a failed system call HDF5 describes the time, addresses and more; only the error is kept. */
		static const char mark[] = "error message = '";
		const char *fact = strstr(e->desc, mark);
		size_t len;

		fact = fact ? fact + strlen(mark) : e->desc;
		len = fact == e->desc ? strlen(fact) : strcspn(fact, "'");
		snprintf(r->text, sizeof(r->text), "%.*s", (int)len, fact);
		r->has = true;
	}
	return 0;
}

int
df_h5_fail_at(struct df_err *err, int code, const char *file, int line, const char *fmt, ...)
{
	struct reason r = { "", false };
	char msg[DF_ERR_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, note_reason, &r);
	H5Eclear2(H5E_DEFAULT);
	if (df_h5drive_fault())
		return df_fail_at(err, DF_EFORMAT, file, line, "damaged: %s", df_h5drive_fault());
	if (r.has)
		return df_fail_at(err, code, file, line, "%s (HDF5: %s)", msg, r.text);
	return df_fail_at(err, code, file, line, "%s", msg);
}

/* All metadata of the 1.10 format have checksums: a flipped bit in them is an error, not another file. */
hid_t
df_h5_fapl_write(void)
{
	hid_t p = H5Pcreate(H5P_FILE_ACCESS);

	if (p >= 0 &&
	    (H5Pset_libver_bounds(p, H5F_LIBVER_V110, H5F_LIBVER_V110) < 0 ||
		H5Pset_fclose_degree(p, H5F_CLOSE_STRONG) < 0 || H5Pset_file_locking(p, 0, 1) < 0)) {
		H5Pclose(p);
		return -1;
	}
	return p;
}

hid_t
df_h5_fapl_read(const struct df_bytes *bytes)
{
	hid_t p = H5Pcreate(H5P_FILE_ACCESS);

	/* We keep decoded chunks ourselves; HDF5's own cache serves the datasets that it reads for us. */
	if (p >= 0 &&
	    (H5Pset_fclose_degree(p, H5F_CLOSE_STRONG) < 0 || H5Pset_file_locking(p, 0, 1) < 0 ||
		H5Pset_cache(p, 0, 1009, (size_t)16 << 20, 1.0) < 0 || df_h5drive_set(p, bytes) < 0)) {
		H5Pclose(p);
		return -1;
	}
	return p;
}

hid_t
df_h5_fcpl(void)
{
	hid_t p = H5Pcreate(H5P_FILE_CREATE);

	if (p >= 0 && (H5Pset_obj_track_times(p, 0) < 0 || H5Pset_attr_phase_change(p, 32, 24) < 0)) {
		H5Pclose(p);
		return -1;
	}
	return p;
}

hid_t
df_h5_dcpl(void)
{
	hid_t p = H5Pcreate(H5P_DATASET_CREATE);

	if (p >= 0 && (H5Pset_obj_track_times(p, 0) < 0 || H5Pset_fill_time(p, H5D_FILL_TIME_NEVER) < 0)) {
		H5Pclose(p);
		return -1;
	}
	return p;
}

/* Create each group on the path.  HDF5's own option for that (create_intermediate_group) would store the time. */
static int
make_groups(hid_t file, const char *path)
{
	char name[256];
	hid_t gcpl, g;
	htri_t there;

	for (const char *end = strchr(path, '/'); end; end = strchr(end + 1, '/')) {
		if ((size_t)(end - path) >= sizeof(name))
			return -1;
		memcpy(name, path, (size_t)(end - path));
		name[end - path] = '\0';
		if ((there = H5Lexists(file, name, H5P_DEFAULT)) != 0) {
			if (there < 0)
				return -1;
			continue;
		}
		if ((gcpl = H5Pcreate(H5P_GROUP_CREATE)) < 0)
			return -1;
		g = H5Pset_obj_track_times(gcpl, 0) < 0 ? -1 : H5Gcreate2(file, name, H5P_DEFAULT, gcpl, H5P_DEFAULT);
		H5Pclose(gcpl);
		if (g < 0)
			return -1;
		H5Gclose(g);
	}
	return 0;
}

hid_t
df_h5_create(hid_t file, const char *path, hid_t type, hid_t space, hid_t dcpl)
{
	return make_groups(file, path) < 0 ? -1 : H5Dcreate2(file, path, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
}

hid_t
df_h5_type(enum df_coltype t)
{
	switch (t) {
	case DF_COL_U8: return H5T_STD_U8LE;
	case DF_COL_U16: return H5T_STD_U16LE;
	case DF_COL_U32: return H5T_STD_U32LE;
	case DF_COL_U64: return H5T_STD_U64LE;
	case DF_COL_F32: return H5T_IEEE_F32LE;
	case DF_COL_F64: return H5T_IEEE_F64LE;
	}
	return -1;
}

hid_t
df_h5_stored_type(enum df_coltype t, enum df_store store)
{
	hid_t h;

	if (store != DF_STORE_F16)
		return H5Tcopy(store == DF_STORE_BF16 ? H5T_STD_U16LE : df_h5_type(t));
	/* A sign, 5 bits of exponent from bit 10 on with a bias of 15, 10 of fraction: what h5py calls float16. */
	if ((h = H5Tcopy(H5T_IEEE_F32LE)) >= 0 &&
	    (H5Tset_fields(h, 15, 10, 5, 0, 10) < 0 || H5Tset_size(h, 2) < 0 || H5Tset_ebias(h, 15) < 0)) {
		H5Tclose(h);
		h = -1;
	}
	return h;
}

size_t
df_h5_stored_size(enum df_coltype t, enum df_store store)
{
	return store == DF_STORE_F32 ? df_coltype_size(t) : sizeof(uint16_t);
}

void *
df_h5_udata_same(void *udata)
{
	return udata;
}

herr_t
df_h5_udata_free(void *udata)
{
	(void)udata;
	return 0;
}

/* ---- attributes */

/*
 * Our string type: UTF-8 of a fixed length.  It is stored in the object header, which has a checksum; the heap for
 * strings of variable length has none.
 */
static hid_t
string_type(size_t len)
{
	hid_t t = H5Tcopy(H5T_C_S1);

	if (t >= 0 &&
	    (H5Tset_size(t, len ? len : 1) < 0 || H5Tset_cset(t, H5T_CSET_UTF8) < 0 ||
		H5Tset_strpad(t, H5T_STR_NULLPAD) < 0)) {
		H5Tclose(t);
		return -1;
	}
	return t;
}

static int
put(hid_t obj, const char *name, hid_t type, hid_t space, const void *value, struct df_err *err)
{
	hid_t a = H5Acreate2(obj, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
	int rc = DF_OK;

	if (a < 0 || H5Awrite(a, type, value) < 0)
		rc = df_h5_fail(err, DF_EIO, "attribute '%s': cannot write", name);
	if (a >= 0)
		H5Aclose(a);
	return rc;
}

int
df_h5_attr_put_str(hid_t obj, const char *name, const char *value, struct df_err *err)
{
	hid_t t = string_type(strlen(value)), s = H5Screate(H5S_SCALAR);
	int rc = put(obj, name, t, s, value, err);

	H5Sclose(s);
	H5Tclose(t);
	return rc;
}

int
df_h5_attr_put_strs(hid_t obj, const char *name, char *const *values, size_t n, struct df_err *err)
{
	hsize_t dim = n;
	hid_t t = -1, s = -1;
	char *buf = NULL;
	size_t len = 1;
	int rc;

	for (size_t i = 0; i < n; i++)
		len = strlen(values[i]) > len ? strlen(values[i]) : len;
	DF_TRY(df_alloc(&buf, n, len, name, err));
	for (size_t i = 0; i < n; i++)
		memcpy(buf + i * len, values[i], strlen(values[i]));
	t = string_type(len);
	s = H5Screate_simple(1, &dim, NULL);
	rc = put(obj, name, t, s, buf, err);
out:
	if (s >= 0)
		H5Sclose(s);
	if (t >= 0)
		H5Tclose(t);
	free(buf);
	return rc;
}

int
df_h5_attr_put_int(hid_t obj, const char *name, int64_t value, struct df_err *err)
{
	hid_t s = H5Screate(H5S_SCALAR), a = H5Acreate2(obj, name, H5T_STD_I64LE, s, H5P_DEFAULT, H5P_DEFAULT);
	int rc = DF_OK;

	if (a < 0 || H5Awrite(a, H5T_NATIVE_INT64, &value) < 0)
		rc = df_h5_fail(err, DF_EIO, "attribute '%s': cannot write", name);
	if (a >= 0)
		H5Aclose(a);
	H5Sclose(s);
	return rc;
}

static void
free_strs(char **v, size_t n)
{
	for (size_t i = 0; v && i < n; i++)
		free(v[i]);
	free(v);
}

static int
read_var_strs(hid_t a, hid_t space, size_t n, const char *name, char **out, struct df_err *err)
{
	hid_t t = -1;
	char **vl = NULL;
	bool read;
	int rc;

	DF_TRY(df_alloc(&vl, n + 1, sizeof(*vl), name, err));
	t = H5Aget_type(a);
	df_h5drive_watch_heaps();
	read = t >= 0 && H5Aread(a, t, vl) >= 0;
	if (!df_h5drive_heaps_sound()) {
		rc = df_fail(err, DF_EFORMAT, "damaged: its string heap");
		goto out;
	}
	if (!read) {
		rc = df_h5_fail(err, DF_EFORMAT, "attribute '%s': cannot read", name);
		goto out;
	}
	for (size_t i = 0; i < n && rc == DF_OK; i++)
		rc = df_strdup(&out[i], vl[i] ? vl[i] : "", err);
	H5Dvlen_reclaim(t, space, H5P_DEFAULT, vl);
out:
	free(vl);
	if (t >= 0)
		H5Tclose(t);
	return rc;
}

static int
read_fixed_strs(hid_t a, hid_t type, size_t n, const char *name, char **out, struct df_err *err)
{
	size_t size = H5Tget_size(type), total;
	char *buf = NULL;
	int rc;

	DF_TRY(df_size_mul(n, size, &total, name, err));
	if (total > DF_SHARD_MAX_ATTR) {
		rc = df_fail(err, DF_EFORMAT, "attribute '%s': %zu bytes are more than it may have", name, total);
		goto out;
	}
	DF_TRY(df_alloc(&buf, total + 1, 1, name, err));
	if (H5Aread(a, type, buf) < 0) {
		rc = df_h5_fail(err, DF_EFORMAT, "attribute '%s': cannot read", name);
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		DF_TRY(df_strndup(&out[i], buf + i * size, strnlen(buf + i * size, size), err));
out:
	free(buf);
	return rc;
}

int
df_h5_attr_get_strs(hid_t obj, const char *name, char ***out, size_t *n, struct df_err *err)
{
	hid_t a = -1, t = -1, s = -1;
	char **v = NULL;
	hssize_t count = 0;
	htri_t has = H5Aexists(obj, name);
	int rc = DF_OK;

	*out = NULL;
	*n = 0;
	if (has < 0)
		return df_h5_fail(err, DF_EFORMAT, "attribute '%s': cannot read", name);
	if (!has)
		return DF_OK;
	if ((a = H5Aopen(obj, name, H5P_DEFAULT)) < 0 || (t = H5Aget_type(a)) < 0 || (s = H5Aget_space(a)) < 0 ||
	    (count = H5Sget_simple_extent_npoints(s)) < 0) {
		rc = df_h5_fail(err, DF_EFORMAT, "attribute '%s': cannot read", name);
		goto out;
	}
	if (H5Tget_class(t) != H5T_STRING) {
		rc = df_fail(err, DF_EFORMAT, "attribute '%s': not a string", name);
		goto out;
	}
	if ((uint64_t)count > DF_SHARD_MAX_NAMES) {
		rc = df_fail(
		    err, DF_EFORMAT, "attribute '%s': %lld strings are more than it may have", name, (long long)count);
		goto out;
	}
	DF_TRY(df_alloc(&v, (size_t)count + 1, sizeof(*v), name, err));
	if (H5Tis_variable_str(t) > 0)
		DF_TRY(read_var_strs(a, s, (size_t)count, name, v, err));
	else
		DF_TRY(read_fixed_strs(a, t, (size_t)count, name, v, err));
	*out = v;
	*n = (size_t)count;
	v = NULL;
out:
	free_strs(v, (size_t)count);
	if (s >= 0)
		H5Sclose(s);
	if (t >= 0)
		H5Tclose(t);
	if (a >= 0)
		H5Aclose(a);
	return rc;
}

int
df_h5_attr_get_str(hid_t obj, const char *name, char **out, struct df_err *err)
{
	char **v = NULL;
	size_t n = 0;
	int rc;

	*out = NULL;
	DF_TRY(df_h5_attr_get_strs(obj, name, &v, &n, err));
	if (n == 1) {
		*out = v[0];
		v[0] = NULL;
	} else if (v) {
		rc = df_fail(err, DF_EFORMAT, "attribute '%s': %zu strings instead of one", name, n);
	}
	free_strs(v, n);
out:
	return rc;
}

int
df_h5_attr_get_int(hid_t obj, const char *name, int64_t dflt, int64_t *out, struct df_err *err)
{
	hid_t a = -1, t = -1, s = -1;
	htri_t has = H5Aexists(obj, name);
	int rc = DF_OK;

	*out = dflt;
	if (has == 0)
		return DF_OK;
	if (has < 0 || (a = H5Aopen(obj, name, H5P_DEFAULT)) < 0 || (t = H5Aget_type(a)) < 0 ||
	    (s = H5Aget_space(a)) < 0)
		rc = df_h5_fail(err, DF_EFORMAT, "attribute '%s': cannot read", name);
	else if (H5Tget_class(t) != H5T_INTEGER || H5Sget_simple_extent_npoints(s) != 1)
		rc = df_fail(err, DF_EFORMAT, "attribute '%s': not an integer", name);
	else if (H5Aread(a, H5T_NATIVE_INT64, out) < 0)
		rc = df_h5_fail(err, DF_EFORMAT, "attribute '%s': cannot read", name);
	if (s >= 0)
		H5Sclose(s);
	if (t >= 0)
		H5Tclose(t);
	if (a >= 0)
		H5Aclose(a);
	return rc;
}
