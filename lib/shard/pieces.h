/*
 * pieces.h - read the tokens of a set of files in pieces, cut at the files' chunks, so that reading a row only
 * decodes the pieces that hold it.  Values are numbered through the whole set, as in df_set_offsets.
 *
 * Thread rule: any number of threads may read, each with its own reader; meanwhile the set must not be used in
 * another way.
 */
#ifndef DF_SHARD_PIECES_H
#define DF_SHARD_PIECES_H

#include <stdint.h>

#include "base/err.h"

struct df_set;

struct df_pieces;
struct df_piece_reader;
struct df_piece {
	uint64_t first, n; /* its values */
};
/*
 * Destinations of the values, each with room for n.  position and sequence may be NULL, and are NULL when the set
 * has none.
 */
struct df_piece_dst {
	uint32_t *ids, *position, *sequence;
	uint8_t *mask;
};
/* s is borrowed; not a stream. */
int df_pieces_open(struct df_pieces **out, struct df_set *s, struct df_err *err) DF_MUST_CHECK;
void df_pieces_close(struct df_pieces *p); /* accepts NULL */
uint64_t df_pieces_count(const struct df_pieces *p);
struct df_piece df_pieces_at(const struct df_pieces *p, uint64_t piece);
uint64_t df_pieces_find(const struct df_pieces *p, uint64_t value); /* the piece that holds `value`, which must exist */
const char *df_pieces_file(const struct df_pieces *p, uint64_t piece); /* for messages */
int df_piece_reader_new(struct df_piece_reader **out, struct df_err *err) DF_MUST_CHECK;
void df_piece_reader_free(struct df_piece_reader *r); /* accepts NULL */
/* Checksums are verified. */
int df_pieces_read(struct df_pieces *p, struct df_piece_reader *r, uint64_t piece, const struct df_piece_dst *dst,
    struct df_err *err) DF_MUST_CHECK;

#endif
