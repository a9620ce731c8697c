/* batch.h - some consecutive rows of all columns, as plain arrays. */
#ifndef DF_SHARD_BATCH_H
#define DF_SHARD_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "shard/kind.h"

struct df_column_data {
	void *data;        /* [n], [n,width] or, ragged, [offsets[n]]; NULL = column absent */
	uint64_t *offsets; /* ragged: [n+1], offsets[0] == 0; else NULL */
	size_t width;      /* elements per row; 1 unless a matrix; unused when ragged */
};

struct df_batch {
	uint64_t n;     /* rows */
	uint64_t first; /* position of the first row in the set */
	struct df_column_data col[DF_COL_COUNT];
	struct df_arena arena; /* holds the arrays of a reader; callers may allocate from it too */
	void *image;           /* (private) a stream record that columns point into */
	size_t image_len;      /* (private) */
	struct df_todo *todo;  /* (private) pieces that df_batch_load still has to read */
};
#define DF_BATCH_INIT { .n = 0, .arena = DF_ARENA_INIT }
void df_batch_clear(struct df_batch *b);   /* forget the rows, keep the memory */
void df_batch_release(struct df_batch *b); /* free everything */

#endif
