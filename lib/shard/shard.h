/*
 * shard.h - artefacts: the files (and streams) that the programs pass on.
 *
 * An artefact is a plain HDF5 file of one *kind*: a few columns with one entry
 * per row, and root attributes that say what made it from what.  The library
 * knows each kind's columns (df_kind_columns); callers hand over and receive
 * *batches*: some consecutive rows of all columns, as plain arrays.
 *
 * A *set* is what a tool reads: one file, the shards of one
 * (name.00003-of-00016.h5, in any order), a directory, a glob, or "-" (a
 * stream or file on standard input).  It reads as one long artefact.
 *
 * A *stream* is what a pipe carries: length-prefixed HDF5 images of one batch
 * each, closed by an end record, so that a broken pipe is "truncated" and
 * never "done".  df-shard(5) describes both.
 *
 * No HDF5 type appears here.  Thread rule: one set or writer belongs to one
 * thread at a time; different ones may be used at the same time.
 */
#ifndef DF_SHARD_SHARD_H
#define DF_SHARD_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/opt.h"
#include "base/pool.h"

/* ---- kinds and columns -------------------------------------------------- */

enum df_kind {
	DF_KIND_ANY, /* only as an expectation */
	DF_KIND_TOKENS,
	DF_KIND_LOSSES,
	DF_KIND_GRADIENTS,
	DF_KIND_PROJECTIONS,
	DF_KIND_EMBEDDINGS,
	DF_KIND_SCORES,
	DF_KIND_INDEX,
	DF_KIND_WEIGHTS,
	DF_KIND_GATELOAD,
	DF_KIND_COMPLETIONS, /* tokens, of which the targets were generated; taken wherever tokens are */
	DF_KIND_COUNT
};
const char *df_kind_name(enum df_kind k); /* "tokens", ... */
/* May a set of this kind be read where `wanted` is expected?  Completions are tokens, too. */
bool df_kind_fits(enum df_kind k, enum df_kind wanted);

enum df_coltype { DF_COL_U8, DF_COL_U16, DF_COL_U32, DF_COL_U64, DF_COL_F32, DF_COL_F64 };
size_t df_coltype_size(enum df_coltype t);

/* How a file holds the numbers of `embedding`.  In batches and streams they are f32, of values that the form has. */
enum df_store { DF_STORE_F32, DF_STORE_F16, DF_STORE_BF16 };
#define DF_STORE_NAMES "f32", "f16", "bf16" /* in that order, for an option's choices */

/* The columns, by number: a batch keeps their arrays in this order. */
enum df_col {
	DF_COL_ID,         /* sample/id u64: the row in the packed dataset */
	DF_COL_DOMAIN,     /* sample/domain u16: into the root attribute `domains`; in an index, of each chosen row */
	DF_COL_SOURCE_ROW, /* sample/source_row u64: the row in the user's file */
	DF_COL_IDS,        /* tokens/ids u32, ragged over tokens/offsets */
	DF_COL_LABEL_MASK, /* tokens/label_mask u8, ragged likewise: 1 = a target, 2 = the row's last token is, here */
	DF_COL_POSITION,   /* tokens/position u32, ragged likewise: in its sequence; absent: in the row */
	DF_COL_SEQUENCE,   /* tokens/sequence u32, ragged likewise: what a token sees; absent: all of the row */
	DF_COL_PROMPT,     /* sample/prompt u64: the prompt that a completion answers */
	DF_COL_DRAW,       /* sample/draw u32: which of its completions this is */
	DF_COL_LOSS,       /* loss f32: mean nll over the sample's targets; NaN without targets */
	DF_COL_N_TOKENS,   /* n_tokens u32: targets that were predicted */
	DF_COL_TOKEN_LOSS, /* token_loss/values f32, ragged over token_loss/offsets: nll of each target */
	DF_COL_GRADIENT,   /* gradient f32 [n,p] */
	DF_COL_PROJECTION, /* projection f32 [n,k] */
	DF_COL_EMBEDDING,  /* embedding f32 [n,d] */
	DF_COL_GATE_LOAD,  /* gate_load f32 [n,layers*experts]: tokens sent to each expert of each layer */
	DF_COL_SCORE,      /* score f32 */
	DF_COL_RANK,       /* rank u64: 0 = best */
	DF_COL_INDEX,      /* index u64: sample ids in training order */
	DF_COL_WEIGHT,     /* sample_weight f32 */
	DF_COL_DOMAIN_WEIGHT, /* domain_weight f64 */
	DF_COL_COUNT
};

struct df_column {
	enum df_col col;
	const char *path; /* name inside the file, "tokens/ids" */
	enum df_coltype type;
	bool matrix;         /* [n,width], width from the data */
	const char *offsets; /* ragged: the path of its offsets; else NULL */
	const char *about;   /* attribute `description` */
};
const struct df_column *df_column(enum df_col c);

/* ---- meta: what a file says of itself ----------------------------------- */

struct df_input {
	char *role; /* "tokens", "checkpoint", "train", "val" */
	char *kind; /* a kind's name, or "checkpoint", "tokenizer", "source" */
	char *id;   /* its df_id: 32 hex digits */
};

/* Parameters that tell of the one named tokenizer; "added_token.259".  They are not compared: their digest, that one, is. */
#define DF_META_BASE_TOKENIZER "base_tokenizer"
#define DF_META_ADDED_TOKEN    "added_token."

/* A row of the table that names the coordinates of a gradient: a parameter [rows,cols] at a flat offset. */
struct df_manifest_row {
	char *name;
	uint64_t offset, rows, cols;
};
/*
 * Gradients are handed out, streamed and projected in pieces of whole matrix
 * rows: this many rows of a parameter with `cols` columns (the last piece may have fewer).
 */
#define DF_GRAD_PIECE ((uint64_t)1 << 16) /* coordinates */
static inline uint64_t
df_grad_piece_rows(uint64_t cols)
{
	return cols >= DF_GRAD_PIECE || cols == 0 ? 1 : DF_GRAD_PIECE / cols;
}

struct df_param_kv {
	char *key;
	char *json; /* the value as JSON text: 42, "adam", true */
};

struct df_meta {
	enum df_kind kind;
	char *tool; /* "df-grad" */
	char *version;
	struct df_param_kv *params; /* every option that shaped the content, in writing order */
	size_t n_params, cap_params;
	struct df_input *inputs;
	size_t n_inputs, cap_inputs;
	char **domains;
	size_t n_domains, cap_domains;
	struct df_manifest_row *manifest; /* gradients only */
	size_t n_manifest, cap_manifest;
	char id[DF_DIGEST_HEX]; /* filled on reading and by commit; "" while unknown (a stream) */
	bool has_lineage;       /* false: a user's script wrote the file */
};
#define DF_META_INIT { .kind = DF_KIND_ANY }
void df_meta_release(struct df_meta *m);
int df_meta_copy(struct df_meta *dst, const struct df_meta *src, struct df_err *err) DF_MUST_CHECK;

/* The program that makes it, in this version. */
int df_meta_set_tool(struct df_meta *m, const char *tool, struct df_err *err) DF_MUST_CHECK;

/* Add or replace a parameter. */
int df_meta_set_str(struct df_meta *m, const char *key, const char *value, struct df_err *err) DF_MUST_CHECK;
int df_meta_set_int(struct df_meta *m, const char *key, int64_t value, struct df_err *err) DF_MUST_CHECK;
int df_meta_set_double(struct df_meta *m, const char *key, double value, struct df_err *err) DF_MUST_CHECK;
int df_meta_set_bool(struct df_meta *m, const char *key, bool value, struct df_err *err) DF_MUST_CHECK;
/* A parameter as the other has it, if it has. */
int df_meta_copy_param(
    struct df_meta *to, const struct df_meta *from, const char *key, struct df_err *err) DF_MUST_CHECK;
/* The JSON text of a parameter, NULL when absent.  Borrowed. */
const char *df_meta_param(const struct df_meta *m, const char *key);
/* Parsed forms; false when absent or of another type.  *s is a copy, free() it. */
bool df_meta_get_double(const struct df_meta *m, const char *key, double *v);
bool df_meta_get_str(const struct df_meta *m, const char *key, char **s);

/* Append what the root attributes say: an object of the parameters, an array of {role, kind, id}. */
void df_meta_params_json(const struct df_meta *m, struct df_buf *out);
void df_meta_inputs_json(const struct df_meta *m, struct df_buf *out);

int df_meta_add_input(
    struct df_meta *m, const char *role, const char *kind, const char *id, struct df_err *err) DF_MUST_CHECK;
const struct df_input *df_meta_input(const struct df_meta *m, const char *role); /* the first, or NULL */
int df_meta_add_domain(struct df_meta *m, const char *name, uint16_t *index, struct df_err *err) DF_MUST_CHECK;
int df_meta_add_manifest(struct df_meta *m, const char *name, uint64_t offset, uint64_t rows, uint64_t cols,
    struct df_err *err) DF_MUST_CHECK;

/*
 * *m = what the file at `path` says of itself, and its rows (rows may be
 * NULL), without reading its columns; m->id stays "" where the file has none.
 * Release m.  Errors as df_set_open.
 */
int df_meta_load(struct df_meta *m, const char *path, uint64_t *rows, struct df_err *err) DF_MUST_CHECK;

/*
 * Two artefacts must agree in the named parameters (NULL-terminated list) and
 * input roles (likewise): DF_ELINEAGE says which two disagree and in what.
 * A side without lineage agrees with everything.
 */
int df_meta_agree(const struct df_meta *a, const char *a_name, const struct df_meta *b, const char *b_name,
    const char *const *params, const char *const *roles, struct df_err *err) DF_MUST_CHECK;

/* ---- batches ------------------------------------------------------------ */

struct df_column_data {
	void *data;        /* [n], [n,width] or, ragged, [offsets[n]]; NULL = column absent */
	uint64_t *offsets; /* ragged: [n+1], offsets[0] == 0; else NULL */
	size_t width;      /* elements per row; 1 unless a matrix; unused when ragged */
};

struct df_batch {
	uint64_t n;     /* rows */
	uint64_t first; /* position of the first row in the set */
	struct df_column_data col[DF_COL_COUNT];
	struct df_arena arena; /* where a reader puts the arrays; callers may allocate from it too */
	void *image;           /* (private) a stream record that columns point into */
	size_t image_len;      /* (private) */
	struct df_todo *todo;  /* (private) what df_batch_load has still to read */
};
#define DF_BATCH_INIT { .n = 0, .arena = DF_ARENA_INIT }
void df_batch_clear(struct df_batch *b);   /* forget the rows, keep the memory */
void df_batch_release(struct df_batch *b); /* free everything */

/* ---- reading ------------------------------------------------------------ */

struct df_set;

/*
 * Open what the user named: paths, directories, globs, or "-".  All members
 * must be of `kind`, complete, and agree in params, inputs, domains and
 * manifest.  `role` names the set in messages ("train projections").
 * Errors: DF_ENOINPUT, DF_EFORMAT (damaged, truncated, other kind), DF_ELINEAGE.
 */
int df_set_open(struct df_set **out, enum df_kind kind, const char *role, const char *const *paths, size_t n_paths,
    struct df_err *err) DF_MUST_CHECK;
int df_set_open1(
    struct df_set **out, enum df_kind kind, const char *role, const char *path, struct df_err *err) DF_MUST_CHECK;
/*
 * The same for who scans all rows anyway (scan.h): when the files do not say their id, it stays "" until the first scan
 * of all columns is over, where df_set_open reads all rows for it at once.
 */
int df_set_open_later(struct df_set **out, enum df_kind kind, const char *role, const char *const *paths,
    size_t n_paths, struct df_err *err) DF_MUST_CHECK;
void df_set_close(struct df_set *s); /* accepts NULL */

const struct df_meta *df_set_meta(const struct df_set *s); /* of the whole; id is the merged one */
const char *df_set_name(const struct df_set *s);           /* for messages: the path, or "DIR (16 shards)" */
bool df_set_is_stream(const struct df_set *s);
uint64_t df_set_rows(const struct df_set *s); /* UINT64_MAX for a stream not yet ended */
bool df_set_has(const struct df_set *s, enum df_col c);
size_t df_set_width(const struct df_set *s, enum df_col c); /* of a matrix column; 0 when absent */
/*
 * From now on read these columns only; the others are absent from batches: who wants the domains of projections need
 * not read the projections.  For sets of files; a stream still hands out everything.
 */
void df_set_only(struct df_set *s, const enum df_col *cols, size_t n);

/*
 * The next at most max_rows rows (a stream: its next record, whatever its
 * size) into b.  *n_rows = 0 at the end; for a stream that means the end record was seen and
 * its counts agree.  Checksums are verified.  Ids are checked for order of
 * shards only by df_idset below.
 */
int df_set_next(
    struct df_set *s, uint64_t max_rows, struct df_batch *b, uint64_t *n_rows, struct df_err *err) DF_MUST_CHECK;
/*
 * df_set_next in two halves, so that many threads read one set (scan.h does this for you).  df_set_plan finds the
 * rows, and reads what only the set's thread can; df_batch_load reads, checks and decodes the rest, by any
 * thread, at the same time as other batches are planned and loaded.  Between the two the columns' arrays are there, but
 * not all of their content.  There may be fewer rows than max_rows before the end, so that chunks are not cut in two.
 */
int df_set_plan(
    struct df_set *s, uint64_t max_rows, struct df_batch *b, uint64_t *n_rows, struct df_err *err) DF_MUST_CHECK;
int df_batch_load(struct df_batch *b, struct df_err *err) DF_MUST_CHECK;
/* Rows of some 16 MiB in all columns that are read: how many to ask for when everything is looked at once. */
uint64_t df_set_scan_rows(const struct df_set *s);
/* The same for so many bytes; at least 1. */
uint64_t df_set_block_rows(const struct df_set *s, uint64_t bytes);
/* Rows [first, first+n) of a set of files into b (not for streams). */
int df_set_read(struct df_set *s, uint64_t first, uint64_t n, struct df_batch *b, struct df_err *err) DF_MUST_CHECK;
/*
 * A ragged column's lengths, all rows (u64[rows]; free() it): what cutting into
 * batches by token count needs without reading the tokens.
 */
int df_set_lengths(struct df_set *s, enum df_col c, uint64_t **lengths, struct df_err *err) DF_MUST_CHECK;

/*
 * offsets[0..n] of rows [first, first+n) of a ragged column, counted through the whole set of files: row first+i has
 * the values offsets[i] to offsets[i+1].
 */
int df_set_offsets(struct df_set *s, enum df_col c, uint64_t first, uint64_t n, uint64_t *offsets,
    struct df_err *err) DF_MUST_CHECK;
/* Close the files, whose readers keep what they decoded last; who reads on opens them again. */
void df_set_rest(struct df_set *s);

/*
 * The tokens of a set of files in pieces, cut where the files' chunks are: any row can be had for the decoding of the
 * pieces that it lies in.  Values are counted through the whole set, as df_set_offsets does.
 *
 * Thread rule: any number of threads may read, each with a reader of its own; meanwhile nobody else may use the set.
 */
struct df_pieces;
struct df_piece_reader;
struct df_piece {
	uint64_t first, n; /* its values */
};
/* Where the values go: each has room for n; position and sequence may be NULL, and are where the set has none. */
struct df_piece_dst {
	uint32_t *ids, *position, *sequence;
	uint8_t *mask;
};
/* s is borrowed; not a stream. */
int df_pieces_open(struct df_pieces **out, struct df_set *s, struct df_err *err) DF_MUST_CHECK;
void df_pieces_close(struct df_pieces *p); /* accepts NULL */
uint64_t df_pieces_count(const struct df_pieces *p);
struct df_piece df_pieces_at(const struct df_pieces *p, uint64_t piece);
uint64_t df_pieces_find(const struct df_pieces *p, uint64_t value); /* the piece with it; value < all values */
const char *df_pieces_file(const struct df_pieces *p, uint64_t piece); /* for messages */
int df_piece_reader_new(struct df_piece_reader **out, struct df_err *err) DF_MUST_CHECK;
void df_piece_reader_free(struct df_piece_reader *r); /* accepts NULL */
/* Checksums are verified. */
int df_pieces_read(struct df_pieces *p, struct df_piece_reader *r, uint64_t piece, const struct df_piece_dst *dst,
    struct df_err *err) DF_MUST_CHECK;

/*
 * Read every row from front to back: checksums, offsets, ids that occur
 * twice, and the digest of the rows against the recorded df_id.  A set or
 * stream that was not read yet; DF_EFORMAT says what is wrong.
 */
int df_set_check(struct df_set *s, struct df_err *err) DF_MUST_CHECK;

/* Rows cut into blocks: block i is rows [first[i], first[i+1]). */
struct df_blocks {
	uint64_t *first; /* [n+1] */
	uint64_t n;
};
/* Cut rows of these lengths: as many rows as fit, at least one.  0 for a limit = none. */
int df_blocks_cut(struct df_blocks *b, const uint64_t *lengths, uint64_t n_rows, uint64_t max_tokens, uint64_t max_rows,
    struct df_err *err) DF_MUST_CHECK;
void df_blocks_release(struct df_blocks *b);

/* Which ids of [0,n) have been seen: joins are by id. */
struct df_idset {
	uint64_t *bits;
	uint64_t n, seen;
};
int df_idset_init(struct df_idset *s, uint64_t n, struct df_err *err) DF_MUST_CHECK;
/* DF_EFORMAT names an id that is out of range or seen before. */
int df_idset_add(
    struct df_idset *s, const uint64_t *ids, uint64_t n, const char *name, struct df_err *err) DF_MUST_CHECK;
/* DF_EFORMAT names the first missing id, and how many are missing. */
int df_idset_check_full(const struct df_idset *s, const char *name, struct df_err *err) DF_MUST_CHECK;
void df_idset_release(struct df_idset *s);

/* ---- writing ------------------------------------------------------------ */

enum df_compress { DF_COMPRESS_DEFAULT, DF_COMPRESS_NONE, DF_COMPRESS_GZIP, DF_COMPRESS_ZSTD };
#define DF_COMPRESS_NAMES "default", "none", "gzip", "zstd" /* in that order, for an option's choices */

struct df_writer_opts {
	enum df_compress compress; /* default: zstd for ids, text and indices; none for float matrices */
	int level;                 /* 0 = the filter's default */
	struct df_pool *pool;      /* compresses chunks; NULL = the calling thread */
	bool resumable;            /* keep finished batches beside the target (see below) */
	enum df_store store;       /* of `embedding`: its numbers are rounded (to nearest even) as they are put */
	bool force_stream;         /* "-" is a stream even into a regular file (tests) */
};

struct df_writer;

/*
 * Begin the artefact `path` with these columns (matrix widths in `widths`, by
 * column, 0 = not a matrix).  "-" is standard output: a stream into a pipe or
 * socket, a plain HDF5 file into a regular file, refused on a terminal.
 *
 * resumable: every batch put is also kept in `.NAME.df-work` (a stream), under
 * a key made of meta; after a kill the same call finds them, df_writer_done()
 * says how many batches and rows need not be computed again, and the final
 * bytes are those of an undisturbed run.  Another key: the old work is
 * discarded with a warning.
 */
int df_writer_open(struct df_writer **out, const char *path, const struct df_meta *meta, const enum df_col *cols,
    size_t n_cols, const size_t widths[DF_COL_COUNT], const struct df_writer_opts *opts,
    struct df_err *err) DF_MUST_CHECK;
uint64_t df_writer_done_batches(const struct df_writer *w);
uint64_t df_writer_done_rows(const struct df_writer *w);
/*
 * Append the batch's rows.  The batch may be reused when this returns.  DF_ERANGE for a finite number that the
 * writer's `store` cannot hold.
 */
int df_writer_put(struct df_writer *w, const struct df_batch *b, struct df_err *err) DF_MUST_CHECK;
/*
 * Write out all that is left, without making the file visible: a program with
 * several outputs finishes each before it commits the first.  Optional; no
 * batch may follow.
 */
int df_writer_finish(struct df_writer *w, struct df_err *err) DF_MUST_CHECK;
/* Whole and visible; fills id (may be NULL) with the content's df_id.  A stream gets its end record. */
int df_writer_commit(struct df_writer *w, char id[DF_DIGEST_HEX], struct df_err *err) DF_MUST_CHECK;
/* Frees; what was not committed disappears, except a resumable writer's work. Accepts NULL. */
void df_writer_close(struct df_writer *w);

/*
 * NAME.h5 -> NAME.00003-of-00016.h5, or `path` itself when there is one shard (free() it).  A number of shards that
 * was only guessed (--shard auto) must be that of the shards which lie there already, finished or begun, or it is
 * DF_EUSAGE: a single task that runs again must not do the whole job, nor begin another set.
 */
int df_shard_name(char **out, const char *path, struct df_shard_arg shard, struct df_err *err) DF_MUST_CHECK;
/* The same of a text beside the artefact, whatever its name ends in: NAME.jsonl -> NAME.00003-of-00016.jsonl. */
int df_shard_text_name(char **out, const char *path, struct df_shard_arg shard, struct df_err *err) DF_MUST_CHECK;
/* Blocks [*first, *end) of n_blocks that belong to the shard: contiguous, as even as can be. */
void df_shard_range(struct df_shard_arg shard, uint64_t n_blocks, uint64_t *first, uint64_t *end);

/* Join a set of files into one HDF5 virtual dataset at `path` (sources by relative name). */
int df_set_link(struct df_set *s, const char *path, struct df_err *err) DF_MUST_CHECK;

#endif
