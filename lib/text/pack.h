/*
 * pack.h - documents end to end, cut into blocks of one length (stage pt).
 *
 * Without loss (the default): documents of one domain follow each other, the last
 * block of a domain is shorter, and where rows begin with bos it takes a
 * place of its own.  As LLaMA-Factory does it (batch_rows > 0): documents are packed in batches of so
 * many rows of each of n_shards equal parts, whatever their domain; what is
 * left at the end of a batch is thrown away, and bos overwrites a block's
 * first token.
 */
#ifndef DF_TEXT_PACK_H
#define DF_TEXT_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/encode.h"

/* A block goes to `domain` and `source_row` of its first token. */
struct df_block {
	uint32_t *ids;
	uint8_t *mask;
	size_t n;
	uint16_t domain;
	uint64_t source_row;
};
typedef int df_block_fn(void *ctx, const struct df_block *b, struct df_err *err);

struct df_packer {
	uint32_t block;      /* tokens of a block */
	uint32_t bos;        /* every block begins with it; DF_NO_TOKEN: none */
	uint64_t batch_rows; /* 0: without loss */
	uint64_t n_rows;     /* batch_rows > 0: documents that will come, and the parts they are cut into */
	uint64_t n_shards;
	df_block_fn *emit; /* what it is handed is valid during the call, and may be changed */
	void *ctx;
	uint64_t n_thrown; /* tokens thrown away so far */
	struct df_encoded rest; /* (private) less than a block */
	uint16_t domain;        /* (private) of the rest's first token */
	uint64_t source_row;    /* (private) likewise */
	uint64_t seen;          /* (private) documents so far */
};

/* Append a document.  Its errors are emit's, and DF_ENOMEM. */
int df_packer_add(struct df_packer *p, const uint32_t *ids, const uint8_t *mask, size_t n, uint16_t domain,
    uint64_t source_row, struct df_err *err) DF_MUST_CHECK;
/* No document follows: the rest becomes the last block, or is thrown away. */
int df_packer_end(struct df_packer *p, struct df_err *err) DF_MUST_CHECK;
void df_packer_release(struct df_packer *p);

#endif
