/*
 * pack.h - several documents or examples in one row.
 *
 * Blocks (stage pt): documents end to end, cut into blocks of one length.
 * Without loss (the default): documents of one domain follow each other, the last
 * block of a domain is shorter, and where rows begin with bos it takes a
 * place of its own.  As LLaMA-Factory does it (batch_rows > 0): documents are packed in batches of so
 * many rows of each of n_shards equal parts, whatever their domain; what is
 * left at the end of a batch is thrown away, and bos overwrites a block's
 * first token.
 *
 * Packs (stage sft, `whole`): examples stay whole.  A batch of rows is dealt out by
 * LLaMA-Factory's greedy knapsack (knapsack.c); what does not fit into a pack at all is left out and counted.
 * LLaMA-Factory fills packs up with padding, which can change no loss and no gradient; here they end where their last
 * example does.
 */
#ifndef DF_DATA_PACK_H
#define DF_DATA_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "chat/encode.h"

/* A block or pack goes to `domain` and `source_row` of its first token. */
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
	uint64_t n_rows;     /* batch_rows > 0: documents that will come, and the parts they are cut into */
	uint64_t n_shards;
	bool whole;          /* packs */
	bool neat;           /* packs with `sequence` */
	df_block_fn *emit; /* what it is handed is valid during the call, and may be changed */
	void *ctx;
	uint64_t n_thrown; /* tokens thrown away so far */
	uint64_t n_lost;   /* documents of which all tokens were */
	uint64_t n_long;   /* examples longer than a pack so far */
	struct df_encoded rest; /* (private) less than a block, or the examples of a batch */
	uint16_t domain;        /* (private) of the rest's first token */
	uint64_t source_row;    /* (private) likewise */
	uint64_t seen;          /* (private) documents so far */
	uint64_t n_begun;       /* (private) those that begin in the rest */
	uint64_t batch;         /* (private) the batch they are of */
	struct df_pack_item {
		size_t at, n; /* in rest */
		uint64_t source_row;
		uint16_t domain;
	} *item; /* (private) the examples in rest */
	size_t n_items, cap_items;
	struct df_encoded pack; /* (private) a pack in the making */
	uint32_t *position, *sequence;
	size_t cap_position, cap_sequence;
};

/* Append a document.  Its errors are emit's, and DF_ENOMEM. */
int df_packer_add(struct df_packer *p, const uint32_t *ids, const uint8_t *mask, size_t n, uint16_t domain,
    uint64_t source_row, struct df_err *err) DF_MUST_CHECK;
/* n documents would have come here but for being dropped: batches count them. */
void df_packer_skip(struct df_packer *p, uint64_t n);
/* No document follows: the rest becomes the last block or packs, or is thrown away. */
int df_packer_end(struct df_packer *p, struct df_err *err) DF_MUST_CHECK;
void df_packer_release(struct df_packer *p);

/*
 * LLaMA-Factory's greedy_knapsack over n lengths: while any is left, open a knapsack and put into it, again and
 * again, the largest length that still fits; of equal ones the one that came last.  order[i] = the i-th length taken;
 * knapsacks are order[0..first[1]), order[first[1]..first[2]) and so on; *n_sacks of them, first[n_sacks] = n.
 * order [n], first [n + 1].  Every length must be at most `capacity`.
 */
int df_knapsack(const size_t *length, size_t n, size_t capacity, size_t *order, size_t *first, size_t *n_sacks,
    struct df_err *err) DF_MUST_CHECK;

#endif
