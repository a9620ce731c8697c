/*
 * pack.h - several documents or examples in one row.
 *
 * Blocks (stage pt): documents end to end, cut into blocks of one length.  Without loss (the default): documents of
 * one domain follow each other, the last block of a domain is shorter, and if blocks begin with bos, it is
 * inserted.  As in LLaMA-Factory (batch_rows > 0): documents are packed in batches of that number of rows of each
 * of n_shards equal parts, of all domains together; the rest at the end of a batch is dropped, and bos overwrites a
 * block's first token.
 *
 * Packs (stage sft, `whole`): examples stay whole.  A batch of rows is distributed to packs by LLaMA-Factory's
 * greedy knapsack (knapsack.c); an example that is longer than a pack is left out and counted.  LLaMA-Factory fills
 * packs with padding, which cannot change a loss or a gradient; here a pack ends with its last example.
 */
#ifndef DF_DATA_PACK_H
#define DF_DATA_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "chat/encode.h"

/* A block or pack has the `domain` and the `source_row` of its first token. */
struct df_block {
	uint32_t *ids;
	uint8_t *mask;
	size_t n;
	uint16_t domain;
	uint64_t source_row;
	const uint32_t *position; /* of a pack: counted from 0 in each example; else NULL */
	const uint32_t *sequence; /* of a pack, if asked for: 1 in its first example, 2 in the next; else NULL */
};
typedef int df_block_fn(void *ctx, const struct df_block *b, struct df_err *err);

struct df_packer {
	uint32_t block;      /* tokens of a block, or the most of a pack */
	uint32_t bos;        /* every block begins with it; DF_NO_TOKEN: none */
	uint64_t batch_rows; /* 0: without loss (blocks), all rows in one batch (packs) */
	uint64_t n_rows;     /* batch_rows > 0: all documents to come, and the parts they are cut into */
	uint64_t n_shards;
	bool whole;          /* packs */
	bool neat;           /* packs with `sequence` */
	df_block_fn *emit; /* its argument is valid during the call, and may be changed */
	void *ctx;
	uint64_t n_thrown; /* tokens dropped so far */
	uint64_t n_lost;   /* documents of which all tokens were dropped */
	uint64_t n_long;   /* examples longer than a pack so far */
	struct df_encoded rest; /* (private) less than a block, or the examples of a batch */
	uint16_t domain;        /* (private) of the rest's first token */
	uint64_t source_row;    /* (private) of the rest's first token */
	uint64_t seen;          /* (private) documents so far */
	uint64_t n_begun;       /* (private) those that begin in the rest */
	uint64_t batch;         /* (private) the batch that they belong to */
	struct df_pack_item {
		size_t at, n; /* in rest */
		uint64_t source_row;
		uint16_t domain;
	} *item; /* (private) the examples in rest */
	size_t n_items, cap_items;
	struct df_encoded pack; /* (private) the pack that is being built */
	uint32_t *position, *sequence;
	size_t cap_position, cap_sequence;
};

/* Append a document.  Its errors are emit's, and DF_ENOMEM. */
int df_packer_add(struct df_packer *p, const uint32_t *ids, const uint8_t *mask, size_t n, uint16_t domain,
    uint64_t source_row, struct df_err *err) DF_MUST_CHECK;
/* n documents were dropped here; batches still count them. */
void df_packer_skip(struct df_packer *p, uint64_t n);
/* No document follows: the rest becomes the last block or packs, or is dropped. */
int df_packer_end(struct df_packer *p, struct df_err *err) DF_MUST_CHECK;
void df_packer_release(struct df_packer *p);

/*
 * LLaMA-Factory's greedy_knapsack over n lengths: while any is left, open a knapsack and repeatedly put into it the
 * largest length that still fits (of equal ones the last).  order[i] = the i-th length taken; knapsacks are
 * order[0..first[1]), order[first[1]..first[2]) and so on; *n_sacks of them, first[n_sacks] = n.  order [n], first
 * [n + 1].  Every length must be at most `capacity`.
 */
int df_knapsack(const size_t *length, size_t n, size_t capacity, size_t *order, size_t *first, size_t *n_sacks,
    struct df_err *err) DF_MUST_CHECK;

#endif
