/*
 * ngrams.c - n-grams to buckets.
 *
 * The words of a text stand in a line with one space between them, so that each n-gram is a piece of the line.  Most
 * n-grams come again: a table of the last ones, by their 128-bit digest, saves nearly all of SHA-256.
 */
#include "select/ngrams.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "token/lower.h"
#include "token/words.h"

#define KNOWN ((size_t)1 << 16)

struct df_ngram_known {
	struct df_digest digest;
	uint32_t bucket;
	bool used;
};

int
df_ngrams_init(struct df_ngrams *g, size_t n, uint32_t n_buckets, struct df_err *err)
{
	*g = (struct df_ngrams){ .n = n, .n_buckets = n_buckets, .lower = DF_BUF_INIT, .line = DF_BUF_INIT };
	return df_alloc(&g->known, KNOWN, sizeof(*g->known), "n-grams", err);
}

void
df_ngrams_release(struct df_ngrams *g)
{
	free(g->bucket);
	free(g->end);
	free(g->known);
	df_buf_release(&g->lower);
	df_buf_release(&g->line);
	*g = (struct df_ngrams){ 0 };
}

uint32_t
df_ngram_bucket(const char *s, size_t n, uint32_t n_buckets)
{
	uint32_t digest[8];
	uint64_t rest = 0;

	df_sha256(s, n, digest);
	for (size_t i = 0; i < 8; i++)
		rest = (rest << 32 | digest[i]) % n_buckets;
	return (uint32_t)rest;
}

static uint32_t
bucket_of(struct df_ngrams *g, const char *s, size_t n)
{
	const struct df_digest d = df_hash_bytes(s, n, 0);
	struct df_ngram_known *known = &g->known[d.lo & (KNOWN - 1)];

	if (!known->used || known->digest.lo != d.lo || known->digest.hi != d.hi)
		*known = (struct df_ngram_known){ d, df_ngram_bucket(s, n, g->n_buckets), true };
	return known->bucket;
}

/* The line is whole: all its n-grams. */
static int
find_buckets(struct df_ngrams *g, struct df_err *err)
{
	size_t most;
	int rc = DF_OK;

	DF_TRY(df_buf_check(&g->line, err));
	DF_TRY(df_size_mul(g->n_words, g->n, &most, "n-grams", err));
	DF_TRY(df_grow(&g->bucket, &g->cap_bucket, most, sizeof(*g->bucket), "n-grams", err));
	for (size_t k = 1; k <= g->n; k++) {
		for (size_t i = 0; i + k <= g->n_words; i++) {
			const size_t at = i ? g->end[i - 1] + 1 : 0;

			g->bucket[g->n_ngrams++] = bucket_of(g, g->line.data + at, g->end[i + k - 1] - at);
		}
	}
out:
	return rc;
}

/* The word that was put at the end of the line is whole. */
static int
end_word(struct df_ngrams *g, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_grow(&g->end, &g->cap_end, g->n_words + 1, sizeof(*g->end), "words", err));
	g->end[g->n_words++] = g->line.len;
	df_buf_putc(&g->line, ' ');
out:
	return rc;
}

static void
begin(struct df_ngrams *g)
{
	df_buf_clear(&g->line);
	g->n_words = g->n_ngrams = 0;
}

int
df_ngrams_text(struct df_ngrams *g, const char *text, size_t n, struct df_err *err)
{
	size_t len;
	int rc = DF_OK;

	begin(g);
	df_buf_clear(&g->lower);
	DF_TRY(df_text_lower(&g->lower, text, n, err));
	for (size_t at = 0; df_word_next(g->lower.data, g->lower.len, &at, &len); at += len) {
		df_buf_add(&g->line, g->lower.data + at, len);
		DF_TRY(end_word(g, err));
	}
	DF_TRY(find_buckets(g, err));
out:
	return rc;
}

int
df_ngrams_ids(struct df_ngrams *g, const uint32_t *ids, size_t n, struct df_err *err)
{
	int rc = DF_OK;

	begin(g);
	for (size_t i = 0; i < n; i++) {
		df_buf_printf(&g->line, "%" PRIu32, ids[i]);
		DF_TRY(end_word(g, err));
	}
	DF_TRY(find_buckets(g, err));
out:
	return rc;
}
