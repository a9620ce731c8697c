/*
 * safetensors.h - Hugging Face's tensor files: an 8-byte header length, a JSON header, one data area.
 *
 * Reading maps the file and checks the whole header before any tensor is touched: lengths, shapes, dtypes,
 * that names are unique, and that the ranges tile the data area without hole or overlap.  Host memory only.
 *
 * Errors name file and tensor: DF_EFORMAT (damaged or wrong header), DF_ERANGE (a shape that
 * overflows), DF_EUNSUPPORTED (dtype, pickles), DF_ENOINPUT.  Thread rule: an open file is immutable;
 * a writer belongs to one thread.
 */
#ifndef DF_SAFETENSORS_SAFETENSORS_H
#define DF_SAFETENSORS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum df_st_type {
	DF_ST_F64,
	DF_ST_F32,
	DF_ST_F16,
	DF_ST_BF16,
	DF_ST_I64,
	DF_ST_I32,
	DF_ST_I16,
	DF_ST_I8,
	DF_ST_U8,
	DF_ST_BOOL
};
const char *df_st_type_name(enum df_st_type t); /* "F32", as in the header */
size_t df_st_type_size(enum df_st_type t);      /* bytes per element */

struct df_st_tensor {
	const char *name;
	enum df_st_type type;
	int rank;
	uint64_t shape[8];
	size_t numel, nbytes;
	const void *data; /* in the mapping; little-endian */
};

struct df_st; /* one file, or the files of a model.safetensors.index.json as one */
int df_st_open(struct df_st **out, const char *path, struct df_err *err) DF_MUST_CHECK;
/* dir/model.safetensors, or the shards of dir/model.safetensors.index.json. */
int df_st_open_model(struct df_st **out, const char *dir, struct df_err *err) DF_MUST_CHECK;
void df_st_close(struct df_st *st); /* accepts NULL */
size_t df_st_count(const struct df_st *st);
const struct df_st_tensor *df_st_at(const struct df_st *st, size_t i);
const struct df_st_tensor *df_st_find(const struct df_st *st, const char *name); /* or NULL */
const char *df_st_path(const struct df_st *st);                                  /* or NULL: several files */
const char *df_st_metadata(const struct df_st *st, const char *key);             /* or NULL */
/* Convert a floating tensor to f32 (dst has numel elements). DF_EFORMAT for integer types. */
int df_st_to_f32(const struct df_st_tensor *t, float *dst, struct df_err *err) DF_MUST_CHECK;

/*
 * Write: declare all tensors and metadata, then their data in the same order,
 * in any number of pieces; nothing is visible under `path` before commit.
 */
struct df_st_writer;
int df_st_create(struct df_st_writer **out, const char *path, struct df_err *err) DF_MUST_CHECK;
int df_st_add(struct df_st_writer *w, const char *name, enum df_st_type type, const uint64_t *shape, int rank,
    struct df_err *err) DF_MUST_CHECK;
int df_st_add_metadata(struct df_st_writer *w, const char *key, const char *value, struct df_err *err) DF_MUST_CHECK;
int df_st_write(struct df_st_writer *w, const void *data, size_t nbytes, struct df_err *err) DF_MUST_CHECK;
int df_st_commit(struct df_st_writer *w, struct df_err *err) DF_MUST_CHECK; /* frees w, also on failure */
void df_st_discard(struct df_st_writer *w); /* accepts NULL; nothing remains of the file */

#endif
