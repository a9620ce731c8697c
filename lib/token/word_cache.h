/*
 * word_cache.h - per-thread cache of recent words and their ids, and the buffers of the models.
 *
 * Text repeats its words: most are found here with one comparison.  A line is 64 bytes: a word of up to 24 bytes
 * with up to 9 ids.  Two lines make a set, with the newer line first.  A scratch belongs to one tokenizer.
 */
#ifndef DF_TOKEN_WORD_CACHE_H
#define DF_TOKEN_WORD_CACHE_H

#include <string.h>

#include "base/mem.h"
#include "token/token_priv.h"

#define TOK_CACHE_WAYS 2
#define TOK_CACHE_SETS (1u << 14) /* 2 MiB per thread */
#define TOK_CACHE_KEY  24
#define TOK_CACHE_IDS  9

struct tok_line {
	uint64_t key[TOK_CACHE_KEY / 8];
	uint8_t n, n_ids;
	uint32_t id[TOK_CACHE_IDS];
};

struct tok_model_scratch {
	struct tok_line *cache;                     /* [TOK_CACHE_SETS][TOK_CACHE_WAYS] */
	uint32_t *id, *rank, *merged, *prev, *next; /* per symbol of a word */
	size_t cap;
	uint64_t *heap; /* rank << 32 | position */
	size_t n_heap, cap_heap;
	struct df_buf mapped;
};

/* Spreads the bits of x. */
static inline size_t
tok_mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0x9E3779B97F4A7C15ull;
	x ^= x >> 29;
	x *= 0xBF58476D1CE4E5B9ull;
	return (size_t)(x ^ x >> 32);
}

static inline uint64_t
tok_load8(const unsigned char *p)
{
	uint64_t x;

	memcpy(&x, p, 8);
	return x;
}

static inline uint32_t
tok_load4(const unsigned char *p)
{
	uint32_t x;

	memcpy(&x, p, 4);
	return x;
}

/* n (1 to 24) bytes as words that, with n, determine them; loads overlap instead of reading outside. */
static inline void
tok_make_key(uint64_t key[3], const unsigned char *w, size_t n)
{
	key[1] = key[2] = 0;
	if (n > 8) {
		key[0] = tok_load8(w);
		key[1] = tok_load8(w + n - 8);
		if (n > 16)
			key[2] = tok_load8(w + 8);
	} else if (n >= 4) {
		key[0] = tok_load4(w) | (uint64_t)tok_load4(w + n - 4) << 32;
	} else {
		key[0] = w[0] | (uint64_t)w[n / 2] << 8 | (uint64_t)w[n - 1] << 16;
	}
}

/* The set in which a word of n (1 to 24) bytes belongs, and its key. */
static inline struct tok_line *
tok_cache_set(struct tok_model_scratch *s, const unsigned char *word, size_t n, uint64_t key[3])
{
	tok_make_key(key, word, n);
	return &s->cache[(tok_mix(key[0] ^ tok_mix(key[1] ^ tok_mix(key[2] + n))) & (TOK_CACHE_SETS - 1)) *
	    TOK_CACHE_WAYS];
}

/* The line of a word in its set, or NULL. */
static inline const struct tok_line *
tok_cache_find(const struct tok_line *set, const uint64_t key[3], size_t n)
{
	for (size_t i = 0; i < TOK_CACHE_WAYS; i++) {
		const struct tok_line *l = &set[i];

		if (l->key[0] == key[0] && l->key[1] == key[1] && l->key[2] == key[2] && l->n == n)
			return l;
	}
	return NULL;
}

/* Remember a word's ids, if they fit. */
static inline void
tok_cache_put(struct tok_line *set, const uint64_t key[3], size_t n, const uint32_t *id, size_t count)
{
	if (set == NULL || count > TOK_CACHE_IDS)
		return;
	set[1] = set[0];
	memcpy(set[0].key, key, sizeof(set[0].key));
	set[0].n = (uint8_t)n;
	set[0].n_ids = (uint8_t)count;
	memcpy(set[0].id, id, count * sizeof(*id));
}

/* Room for a word of n symbols. */
int df_tok_model_reserve(struct tok_model_scratch *s, size_t n, struct df_err *err) DF_MUST_CHECK;

#endif
