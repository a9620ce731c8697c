/*
 * shard_priv.h - declarations shared by the files of this room; without HDF5 types.
 */
#ifndef DF_SHARD_PRIV_H
#define DF_SHARD_PRIV_H

#include "shard/shard.h"

#define DF_SHARD_SCHEMA 1 /* the root attribute df_schema that we write and read */

/* Limits, so that a damaged or hostile file cannot make us allocate the machine's memory. */
#define DF_SHARD_MAX_RECORD ((uint64_t)1 << 40) /* bytes of one stream record */
#define DF_SHARD_MAX_ATTR   ((size_t)64 << 20)  /* bytes of one attribute, or of all manifest names */
#define DF_SHARD_MAX_NAMES  ((size_t)1 << 20)   /* manifest rows; domains are at most 65536 */
#define DF_SHARD_MAX_PARAMS ((size_t)1 << 12)   /* parameters, and inputs: the search is linear */

/* ---- kind.c */

/* Sets of columns are bit masks, 1 << enum df_col. */
struct df_kind_schema {
	const char *name;
	uint32_t required; /* all of these */
	uint32_t one_of;   /* and at least one of these (0: no such rule) */
	uint32_t allowed;  /* all columns that it may hold */
};
const struct df_kind_schema *df_kind_schema(enum df_kind k);
enum df_kind df_kind_parse(const char *name); /* DF_KIND_ANY when unknown */

/* ---- metajson.c: the two JSON attributes.  DF_EFORMAT with the place of the fault. */

int df_meta_params_parse(struct df_meta *m, const char *json, struct df_err *err) DF_MUST_CHECK;
int df_meta_inputs_parse(struct df_meta *m, const char *json, struct df_err *err) DF_MUST_CHECK;

/* ---- meta.c */

/* Add or replace a parameter whose value is JSON text already. */
int df_meta_set_json(struct df_meta *m, const char *key, const char *json, struct df_err *err) DF_MUST_CHECK;
/* Are params, inputs, domains and manifest equal?  DF_ELINEAGE names the first difference. */
int df_meta_same(const struct df_meta *a, const char *a_name, const struct df_meta *b, const char *b_name,
    struct df_err *err) DF_MUST_CHECK;

/* ---- batch.c */

/* Check rows against what the writer was opened for: arrays present, widths equal, offsets monotone from 0. */
int df_batch_check(
    const struct df_batch *b, uint32_t cols, const size_t widths[DF_COL_COUNT], struct df_err *err) DF_MUST_CHECK;
/*
 * The digest of rows: the sum mod 2^128 of XXH3-128 over each row's bytes,
 * that is, in column order: sample/id (or, without one, the row's position,
 * position + i, as u64), then each column's bytes, a ragged one preceded by its length as u64.
 */
int df_batch_digest(const struct df_batch *b, uint32_t cols, uint64_t position, struct df_digest *sum,
    struct df_err *err) DF_MUST_CHECK;

/* ---- h5in.c: one artefact file or image, open for reading (its datasets: h5data.h) */

struct df_h5in;
/* The properties that every reader of rows needs. */
struct df_h5info {
	struct df_meta meta;
	uint64_t rows;
	uint32_t cols;                 /* the columns that it has */
	size_t width[DF_COL_COUNT];    /* of matrices */
	enum df_store store[DF_COL_COUNT];
	uint64_t values[DF_COL_COUNT]; /* elements of ragged columns */
	uint64_t chunk[DF_COL_COUNT];  /* rows (values) of its chunks, where we decode them ourselves; else 0 */
};
/* `name` for messages; kind DF_KIND_ANY takes what it is. */
int df_h5in_open(
    struct df_h5in **out, const char *path, const char *name, enum df_kind kind, struct df_err *err) DF_MUST_CHECK;
/* The image must stay valid until df_h5in_close(). */
int df_h5in_open_image(struct df_h5in **out, void *image, size_t len, const char *name, enum df_kind kind,
    struct df_err *err) DF_MUST_CHECK;
void df_h5in_close(struct df_h5in *in); /* accepts NULL */
const struct df_h5info *df_h5in_info(const struct df_h5in *in);
/* Free the decoded chunks that are kept for reading again. */
void df_h5in_forget(struct df_h5in *in);
/* offsets[0..n] of rows [first, first+n), as in the file (checked: monotone, within the values). */
int df_h5in_offsets(
    struct df_h5in *in, enum df_col c, uint64_t first, uint64_t n, uint64_t *offsets, struct df_err *err) DF_MUST_CHECK;
/* Entries [first, first+n) of a column into dst: rows, or values of a ragged one. */
int df_h5in_read(
    struct df_h5in *in, enum df_col c, uint64_t first, uint64_t n, void *dst, struct df_err *err) DF_MUST_CHECK;
/* The same, but pieces that any thread can read without HDF5 are only added to `todo` (stored.h). */
struct df_todo;
int df_h5in_plan(struct df_h5in *in, enum df_col c, uint64_t first, uint64_t n, void *dst, struct df_todo *todo,
    struct df_err *err) DF_MUST_CHECK;
/* It is best to plan a multiple of this number of rows of a column at a time. */
uint64_t df_h5in_step(const struct df_h5in *in, enum df_col c);
/*
 * The place of the column's (or its offsets') bytes in an image, if they are plain: contiguous, of our type,
 * aligned.  false otherwise.
 */
bool df_h5in_place(struct df_h5in *in, enum df_col c, bool offsets, uint64_t *at, uint64_t *nbytes);

/* The df_kind of a file, DF_KIND_ANY when it does not say; for choosing among a directory's files. */
enum df_kind df_h5_peek_kind(const char *path);

/* ---- h5out.c: one artefact file being written */

struct df_h5out;
int df_h5out_open(struct df_h5out **out, const char *path, const char *name, uint32_t cols,
    const size_t widths[DF_COL_COUNT], const struct df_writer_opts *opts, struct df_err *err) DF_MUST_CHECK;
int df_h5out_append(struct df_h5out *o, const struct df_batch *b, struct df_err *err) DF_MUST_CHECK;
/* Last chunks, attributes, close.  The file is then whole. */
int df_h5out_finish(struct df_h5out *o, const struct df_meta *meta, struct df_err *err) DF_MUST_CHECK;
void df_h5out_free(struct df_h5out *o); /* accepts NULL */

/* ---- image.c: HDF5 images whose data are added by the caller */

/* A run of an image's bytes: of the skeleton, or of a column. */
struct df_image_run {
	uint64_t at, nbytes;
	enum df_col col; /* DF_COL_COUNT: skeleton */
	bool offsets;    /* the column's offsets */
	size_t skel_at;  /* offset in skel */
};
/* Everything of an image but the columns' data: equal skeletons mean equal layout. */
struct df_image {
	uint64_t nbytes, rows;
	uint64_t values[DF_COL_COUNT]; /* elements of ragged columns */
	struct df_image_run *run;      /* by offset, covering [0, nbytes) */
	size_t n_runs;
	char *skel;
};
#define DF_IMAGE_INIT { .nbytes = 0 }
void df_image_release(struct df_image *im);
/* The layout of an image that holds n rows (and `values` of the ragged columns). */
int df_image_make(struct df_image *im, const struct df_meta *meta, uint32_t cols, const size_t widths[DF_COL_COUNT],
    uint64_t n, const uint64_t values[DF_COL_COUNT], struct df_err *err) DF_MUST_CHECK;
/* The layout of a received image; false when its data are not plain. */
bool df_image_learn(struct df_image *im, struct df_h5in *in, const void *image, uint64_t nbytes);

/* ---- stream.c */

struct df_stream_in;
/* Takes fd; the magic (DF_STREAM_MAGIC_LEN bytes) has been read already. */
int df_stream_in_open(
    struct df_stream_in **out, int fd, const char *name, enum df_kind kind, struct df_err *err) DF_MUST_CHECK;
void df_stream_in_close(struct df_stream_in *s); /* accepts NULL */
/* The next record into b, *n_rows = 0 and *ended after the end record. */
int df_stream_in_next(struct df_stream_in *s, struct df_batch *b, bool *ended, struct df_err *err) DF_MUST_CHECK;
const struct df_h5info *df_stream_in_info(const struct df_stream_in *s); /* of the first record */
uint64_t df_stream_in_rows(const struct df_stream_in *s);                /* seen so far */
struct df_digest df_stream_in_digest(const struct df_stream_in *s);      /* of the rows seen */
uint64_t df_stream_in_bytes(const struct df_stream_in *s);               /* where the last good record ended */

struct df_stream_out;
int df_stream_out_open(struct df_stream_out **out, int fd, const char *name, const struct df_meta *meta, uint32_t cols,
    const size_t widths[DF_COL_COUNT], bool with_magic, struct df_err *err) DF_MUST_CHECK; /* borrows fd, meta */
int df_stream_out_put(
    struct df_stream_out *s, const struct df_batch *b, struct df_digest d, struct df_err *err) DF_MUST_CHECK;
int df_stream_out_end(struct df_stream_out *s, uint64_t rows, struct df_digest d, struct df_err *err) DF_MUST_CHECK;
void df_stream_out_free(struct df_stream_out *s); /* accepts NULL */

#define DF_STREAM_MAGIC \
	"\x89"          \
	"DFS\r\n\x1a\n\x01\0\0\0\0\0\0\0" /* version 1 in bytes 8-15 */
#define DF_STREAM_MAGIC_LEN 16

/* ---- set.c, for scan.c and identify.c */

/* The columns that a scan must digest because the set has no id: all, or 0. */
uint32_t df_set_unidentified(const struct df_set *s);
void df_set_identify(struct df_set *s, struct df_digest id);

/* ---- set.c, for link.c and h5pieces.c */

/* A file of a set, borrowed. */
struct df_set_part {
	const char *path, *name;
	uint64_t first, rows;
	uint64_t values[DF_COL_COUNT]; /* elements of its ragged columns */
	enum df_store store[DF_COL_COUNT];
	uint64_t chunk; /* values of a chunk of tokens/ids; 0: HDF5 must read them */
};
size_t df_set_parts(const struct df_set *s);
bool df_set_ids_made_up(const struct df_set *s); /* the files have no sample/id: positions are used instead */
struct df_set_part df_set_part(const struct df_set *s, size_t i);
/* The open reader of part i; it stays open until other parts are wanted. */
int df_set_part_in(struct df_set *s, size_t i, struct df_h5in **in, struct df_err *err) DF_MUST_CHECK;
/* Keep up to n parts open, instead of a few. */
void df_set_keep_open(struct df_set *s, size_t n);

/* ---- names.c */

struct df_paths {
	char **v;
	size_t n, cap;
};
void df_paths_release(struct df_paths *p);
/* A temporary file in $TMPDIR; HDF5 opens it by *path; after that, unlink it, free() *path, and keep *fd. */
int df_spool_open(int *fd, char **path, struct df_err *err) DF_MUST_CHECK;
/* Directories, globs and NAME.h5 that stands for its shards, expanded; shards of one family in their order. */
int df_paths_expand(
    struct df_paths *out, const char *const *paths, size_t n, enum df_kind kind, struct df_err *err) DF_MUST_CHECK;

#endif
