/*
 * h5data.h - one dataset of an open file: what it is, and its rows in our types.
 *
 * Between df_h5_enter() and df_h5_leave(): opening and closing.  Reading enters by itself.
 */
#ifndef DF_SHARD_H5DATA_H
#define DF_SHARD_H5DATA_H

#include "shard/h5_priv.h"

#define DF_H5_CACHE_MAX 64

/* A decoded chunk. */
struct df_h5chunk {
	uint64_t chunk_row, chunk_col; /* first row, first column */
	uint64_t used;                 /* clock of the last use; 0 = empty */
	char *data;
};

/* A dataset open for reading. */
struct df_h5data {
	hid_t d; /* -1: absent */
	const char *path;
	enum df_coltype type;
	bool matrix;
	uint64_t rows, width;
	bool exact;       /* stored as our type */
	enum df_store store; /* an f32 column stored as one of the 16-bit floats */
	bool is_signed;   /* stored as a signed integer: read as int64 and checked */
	size_t file_size; /* bytes of an element in the file */
	struct df_bytes *bytes; /* borrowed */
	bool direct;      /* our own layout: chunks that we find and decode, */
	bool plain;       /* or contiguous numbers, which we find at `at` */
	uint64_t at;
	struct df_codec codec;
	uint64_t chunk_rows, chunk_cols; /* of a direct one */
	struct df_h5chunk cache[DF_H5_CACHE_MAX];
	int n_cache;
	uint64_t clock;
};

/*
 * Dataset `path` of `file`, whose bytes are `bytes`, and which messages and relative sources know as `name`.  Close it
 * even when this fails.
 */
int df_h5data_open(struct df_h5data *x, hid_t file, struct df_bytes *bytes, const char *name, const char *path,
    enum df_coltype type, bool matrix, struct df_err *err) DF_MUST_CHECK;
void df_h5data_close(struct df_h5data *x); /* accepts one with d == -1 */
void df_h5data_forget(struct df_h5data *x); /* the decoded chunks */
/* Rows [first, first+n) into dst, converted to x->type; DF_EFORMAT where a value does not fit, or data are damaged. */
int df_h5data_read(struct df_h5data *x, struct df_scratch *h, uint64_t first, uint64_t n, void *dst,
    struct df_err *err) DF_MUST_CHECK;
/* The same, but chunks that are wanted whole, and plain numbers, are only added to `todo`. */
int df_h5data_plan(struct df_h5data *x, struct df_scratch *h, uint64_t first, uint64_t n, void *dst,
    struct df_todo *todo, struct df_err *err) DF_MUST_CHECK;
/*
 * *p = the chunk of a direct dataset that begins at (row, col), all of it wanted: any thread can read it (stored.h), as
 * long as p->file is kept.  p->len = 0 when only HDF5 knows what is in it: never written, or stored in another way.
 */
int df_h5data_chunk(struct df_h5data *x, uint64_t row, uint64_t col, struct df_stored *p, struct df_err *err)
    DF_MUST_CHECK;

/* h5in.c: the same of a ragged column, whose messages begin with the file's name. */
int df_h5in_chunk(struct df_h5in *in, enum df_col c, uint64_t first, struct df_stored *p, struct df_err *err) DF_MUST_CHECK;

#endif
