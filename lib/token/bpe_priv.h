/*
 * bpe_priv.h - the tables of byte-pair encoding, which bpe_load.c fills and bpe.c reads.
 *
 * Ranks live in one open-addressing table keyed by the pair of ids; pairs of single bytes, with which every word
 * begins, have a square table of their own.  Most other pairs that are looked up do not merge, and the table is
 * larger than a CPU cache; so a filter of a few bits per merge, which fits into the cache, is asked first.
 */
#ifndef DF_TOKEN_BPE_PRIV_H
#define DF_TOKEN_BPE_PRIV_H

#include "token/word_cache.h"

struct tok_merge {
	uint64_t pair; /* left id << 32 | right id */
	uint32_t rank, id;
};
#define TOK_NO_PAIR UINT64_MAX

/* The id that a pair becomes, and its rank. */
struct tok_rank_id {
	uint32_t rank, id;
};
#define TOK_NO_RANK UINT32_MAX

struct tok_bpe {
	struct tok_vocab vocab;
	bool bytes; /* a symbol is a byte; else a character */
	struct tok_merge *merge;
	size_t merge_mask;
	uint64_t *filter; /* bit (tok_mix(pair) >> 20) & filter_mask is set for every merge */
	size_t filter_mask;
	uint32_t byte_id[256];         /* DF_NO_TOKEN: not in the vocabulary */
	struct tok_rank_id *byte_pair; /* [256 * 256] */
	uint32_t *char_id;             /* [TOK_CHAR_IDS]: of characters; NULL when symbols are bytes */
	uint32_t fallback[256];        /* "<0x00>" ...: byte_fallback; DF_NO_TOKEN: none */
	uint32_t unk;
	bool fuse_unk, ignore_merges;
	bool word_starts; /* no merge joins another character with a U+2581 after it: words may be cut there */
	size_t n_merges;
	struct df_digest digest; /* of the vocabulary as a set and the merges in order */
};

#define TOK_CHAR_IDS 0x10000u

/* The rank and the id of a pair; TOK_NO_RANK when it does not merge. */
static inline struct tok_rank_id
tok_find_merge(const struct tok_bpe *m, uint32_t left, uint32_t right)
{
	uint64_t pair = (uint64_t)left << 32 | right;
	size_t h = tok_mix(pair), bit = (h >> 20) & m->filter_mask, i = h & m->merge_mask;

	if ((m->filter[bit / 64] >> bit % 64 & 1) == 0)
		return (struct tok_rank_id){ TOK_NO_RANK, DF_NO_TOKEN };
	for (; m->merge[i].pair != TOK_NO_PAIR; i = (i + 1) & m->merge_mask)
		if (m->merge[i].pair == pair)
			return (struct tok_rank_id){ m->merge[i].rank, m->merge[i].id };
	return (struct tok_rank_id){ TOK_NO_RANK, DF_NO_TOKEN };
}

#endif
