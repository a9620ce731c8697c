/*
 * h5_priv.h - HDF5 by our rules: no printing, one-line errors, one thread at a time where the library is not
 * thread-safe.  Only the h5*.c files and image.c include this.
 */
#ifndef DF_SHARD_H5_PRIV_H
#define DF_SHARD_H5_PRIV_H

#include <hdf5.h>

#include "shard/codec.h"
#include "shard/shard_priv.h"
#include "shard/stored.h"

/*
 * All calls of HDF5 are between these two.  In a thread-safe build they only silence the calling thread's error
 * stack; otherwise they also hold one mutex (recursive).
 */
void df_h5_enter(void);
void df_h5_leave(void);

/* df_fail, with HDF5's innermost reason at the end of the message.  Between enter and leave. */
#define df_h5_fail(err, code, ...) df_h5_fail_at(err, code, __FILE__, __LINE__, __VA_ARGS__)
int df_h5_fail_at(struct df_err *err, int code, const char *file, int line, const char *fmt, ...) DF_PRINTF(5, 6);

/* Property lists that make the same bytes each time; close with H5Pclose.  < 0 on failure. */
hid_t df_h5_fapl_write(void);
hid_t df_h5_fapl_read(const struct df_bytes *bytes); /* of the file that will be opened */
hid_t df_h5_fcpl(void);
hid_t df_h5_dcpl(void);
/* A dataset and its groups, without times, so that the bytes do not depend on when they are written. */
hid_t df_h5_create(hid_t file, const char *path, hid_t type, hid_t space, hid_t dcpl);

hid_t df_h5_type(enum df_coltype t);
/*
 * The type of a column in a file: f16 is IEEE half precision; HDF5 has no bf16, so its bits are stored as uint16,
 * with the attribute dtype = "bfloat16".  Close it with H5Tclose.
 */
hid_t df_h5_stored_type(enum df_coltype t, enum df_store store);
size_t df_h5_stored_size(enum df_coltype t, enum df_store store);
#define DF_H5_BF16 "bfloat16"

/* Of the core driver's image callbacks (image.c): the caller owns their context, which is not freed. */
void *df_h5_udata_same(void *udata);
herr_t df_h5_udata_free(void *udata);

/* Attributes.  An absent one gives NULL / n = 0 and no error; another type is DF_EFORMAT. */
int df_h5_attr_get_str(hid_t obj, const char *name, char **out, struct df_err *err) DF_MUST_CHECK;
int df_h5_attr_get_strs(hid_t obj, const char *name, char ***out, size_t *n, struct df_err *err) DF_MUST_CHECK;
int df_h5_attr_get_int(hid_t obj, const char *name, int64_t dflt, int64_t *out, struct df_err *err) DF_MUST_CHECK;
int df_h5_attr_put_str(hid_t obj, const char *name, const char *value, struct df_err *err) DF_MUST_CHECK;
int df_h5_attr_put_strs(hid_t obj, const char *name, char *const *values, size_t n, struct df_err *err) DF_MUST_CHECK;
int df_h5_attr_put_int(hid_t obj, const char *name, int64_t value, struct df_err *err) DF_MUST_CHECK;

/* h5heap.c: the size of the global heap collection that begins with these bytes; 0 when none does. */
uint64_t df_h5_heap_size(const void *bytes, size_t n);
/* Can HDF5 safely walk this collection? */
bool df_h5_heap_sound(const void *bytes, uint64_t size);
/* The bytes of an object of a sound one; UINT64_MAX when it has none of that index. */
uint64_t df_h5_heap_object(const void *bytes, uint64_t size, unsigned index);

struct df_h5place {
	uint64_t at;
	size_t len;
};
/* Chunks of object headers. */
struct df_h5chunks {
	struct df_h5place *v;
	size_t n, cap;
};
/* A file as h5header.c reads it: HDF5's addresses count from `base`, where its superblock lies. */
struct df_h5walk {
	bool (*read)(void *ctx, uint64_t at, void *to, size_t n);
	void *ctx;
	uint64_t base, end;
};
/*
 * h5header.c: what is wrong with the object header at `at`, whose first n bytes these are; NULL when HDF5 can read it.
 * Its chunks are added to c, whose v the caller frees.
 */
const char *df_h5_header_fault(
    const struct df_h5walk *w, uint64_t at, const void *bytes, size_t n, struct df_h5chunks *c);

/* h5drive.c: our file driver.  Between enter and leave. */
struct df_h5source { /* the driver's settings in a property list */
	int fd; /* -1, and no image: open it by name */
	const void *image;
	size_t len;
};
void df_h5drive_init(void); /* once */
/* The file that is opened with fapl is `bytes`.  < 0 on failure. */
int df_h5drive_set(hid_t fapl, const struct df_bytes *bytes);
/*
 * The place of the stored bytes of the chunk at these coordinates, which must exist, and its filter mask.  < 0 on
 * failure.
 */
int df_h5drive_place(hid_t dataset, const hsize_t *chunk, struct df_h5place *place, uint32_t *mask);
/* Why the driver refused to read, in this sequence of calls; NULL when it did not. */
const char *df_h5drive_fault(void);
void df_h5drive_forget_fault(void);
/*
 * Between these two calls, reading fails at a heap collection that is not valid; the second returns whether all
 * were valid.
 */
void df_h5drive_watch_heaps(void);
bool df_h5drive_heaps_sound(void);

/* h5meta.c: the root attributes and the manifest. */
int df_h5_meta_read(hid_t file, enum df_kind expected, struct df_meta *m, struct df_err *err) DF_MUST_CHECK;
int df_h5_meta_write(hid_t file, const struct df_meta *m, bool filtered, struct df_err *err) DF_MUST_CHECK;

#endif
