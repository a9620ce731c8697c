/*
 * ngrams.h - hashed n-grams of a text or of token ids.
 *
 * Words (token/words.h, in lower case), or ids as decimal numbers, one to n of them joined by a space: the bucket of
 * such an n-gram is its SHA-256, as a number, modulo the number of buckets.  (Xie et al. 2023, p-lambda/dsir,
 * hash_buckets.)
 *
 * Thread rule: one per thread.
 */
#ifndef DF_SELECT_NGRAMS_H
#define DF_SELECT_NGRAMS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct df_ngrams {
	uint32_t *bucket; /* [n_ngrams] of the last text, in its order: first the single words */
	size_t n_ngrams, n_words;
	/* private */
	size_t n, cap_bucket, cap_end;
	uint32_t n_buckets;
	struct df_buf lower, line; /* line: the words, each with a space after it */
	size_t *end;               /* [n_words] where each ends in line */
	struct df_ngram_known *known; /* buckets of n-grams that were met before */
};

/* n from 1, n_buckets from 1. */
int df_ngrams_init(struct df_ngrams *g, size_t n, uint32_t n_buckets, struct df_err *err) DF_MUST_CHECK;
void df_ngrams_release(struct df_ngrams *g); /* accepts zeroes */

/* Find g->bucket of a text, valid UTF-8, or of ids. */
int df_ngrams_text(struct df_ngrams *g, const char *text, size_t n, struct df_err *err) DF_MUST_CHECK;
int df_ngrams_ids(struct df_ngrams *g, const uint32_t *ids, size_t n, struct df_err *err) DF_MUST_CHECK;

/* The bucket of one n-gram. */
uint32_t df_ngram_bucket(const char *s, size_t n, uint32_t n_buckets);

#endif
