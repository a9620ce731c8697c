/* set.h - reading the files that the user named, as one long artefact. */
#ifndef DF_SHARD_SET_H
#define DF_SHARD_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "shard/batch.h"
#include "shard/kind.h"
#include "shard/meta.h"

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
 * The same for a caller that scans all rows anyway (scan.h).  When the files have no id, it stays "" until the
 * first scan of all columns has ended; df_set_open would read all rows at once to compute it.
 */
int df_set_open_later(struct df_set **out, enum df_kind kind, const char *role, const char *const *paths,
    size_t n_paths, struct df_err *err) DF_MUST_CHECK;
void df_set_close(struct df_set *s); /* accepts NULL */

const struct df_meta *df_set_meta(const struct df_set *s); /* of the whole set; its id is the merged one */
const char *df_set_name(const struct df_set *s);           /* for messages: the path, or "DIR (16 shards)" */
bool df_set_is_stream(const struct df_set *s);
uint64_t df_set_rows(const struct df_set *s); /* UINT64_MAX for a stream that has not ended yet */
bool df_set_has(const struct df_set *s, enum df_col c);
size_t df_set_width(const struct df_set *s, enum df_col c); /* of a matrix column; 0 when absent */
/*
 * From now on read these columns only; the others are absent from batches, so that a program can read the domains
 * of projections without the projections.  For sets of files; a stream still returns all columns.
 */
void df_set_only(struct df_set *s, const enum df_col *cols, size_t n);

/*
 * The next at most max_rows rows (a stream: its next record, whatever its size) into b.  *n_rows = 0 at the end;
 * for a stream this means that the end record was seen and its counts agree.  Checksums are verified.  Ids are
 * checked for order of shards only by df_idset below.
 */
int df_set_next(
    struct df_set *s, uint64_t max_rows, struct df_batch *b, uint64_t *n_rows, struct df_err *err) DF_MUST_CHECK;
/* Files: df_set_next begins with the first row again. */
void df_set_rewind(struct df_set *s);
/*
 * df_set_next in two halves, so that many threads read one set (scan.h does this for you).  df_set_plan finds the
 * rows, and reads what only the set's thread can read.  df_batch_load reads, checks and decodes the rest, in any
 * thread, while other batches are planned and loaded.  Between the two the columns' arrays exist, but not all of
 * their content.  A batch may have fewer rows than max_rows, also before the end, so that chunks are not cut in
 * two.
 */
int df_set_plan(
    struct df_set *s, uint64_t max_rows, struct df_batch *b, uint64_t *n_rows, struct df_err *err) DF_MUST_CHECK;
int df_batch_load(struct df_batch *b, struct df_err *err) DF_MUST_CHECK;
/*
 * The number of rows that take about 16 MiB in all columns that are read: a good max_rows for a single pass over
 * all rows.
 */
uint64_t df_set_scan_rows(const struct df_set *s);
/* The same for another number of bytes; at least 1. */
uint64_t df_set_block_rows(const struct df_set *s, uint64_t bytes);
/* Rows [first, first+n) of a set of files into b (not for streams). */
int df_set_read(struct df_set *s, uint64_t first, uint64_t n, struct df_batch *b, struct df_err *err) DF_MUST_CHECK;
/*
 * A ragged column's lengths, all rows (u64[rows]; free() it): enough to cut batches by token count without reading
 * the tokens.
 */
int df_set_lengths(struct df_set *s, enum df_col c, uint64_t **lengths, struct df_err *err) DF_MUST_CHECK;

/*
 * offsets[0..n] of rows [first, first+n) of a ragged column, counted through the whole set of files: row first+i has
 * the values offsets[i] to offsets[i+1].
 */
int df_set_offsets(struct df_set *s, enum df_col c, uint64_t first, uint64_t n, uint64_t *offsets,
    struct df_err *err) DF_MUST_CHECK;
/* Close the files, to free the chunks that their readers keep.  Later reads open them again. */
void df_set_rest(struct df_set *s);

/*
 * Read every row from front to back: checksums, offsets, ids that occur twice, and the digest of the rows against
 * the recorded df_id.  The set or stream must not have been read before; DF_EFORMAT says what is wrong.
 */
int df_set_check(struct df_set *s, struct df_err *err) DF_MUST_CHECK;

#endif
