/*
 * word_cache.c - the per-thread state of models: buffers for the symbols of a word, and the cache of words.
 */
#include <stdlib.h>

#include "token/word_cache.h"

int
df_tok_model_scratch_new(struct tok_model_scratch **out, struct df_err *err)
{
	struct tok_model_scratch *s = NULL;
	int rc;

	DF_TRY(df_alloc(&s, 1, sizeof(*s), "tokenizer buffers", err));
	DF_TRY(df_alloc(&s->cache, TOK_CACHE_SETS * TOK_CACHE_WAYS, sizeof(*s->cache), "the word cache", err));
	*out = s;
	s = NULL;
out:
	df_tok_model_scratch_free(s);
	return rc;
}

void
df_tok_model_scratch_free(struct tok_model_scratch *s)
{
	if (s == NULL)
		return;
	free(s->cache);
	free(s->id);
	free(s->rank);
	free(s->merged);
	free(s->prev);
	free(s->next);
	free(s->heap);
	df_buf_release(&s->mapped);
	free(s);
}

int
df_tok_model_reserve(struct tok_model_scratch *s, size_t n, struct df_err *err)
{
	uint32_t **const arrays[] = { &s->id, &s->rank, &s->merged, &s->prev, &s->next };
	size_t cap = 0;
	int rc = DF_OK;

	if (n <= s->cap)
		return DF_OK;
	if (n >= UINT32_MAX)
		return df_fail(err, DF_ERANGE, "a word of %zu bytes", n);
	for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
		cap = s->cap;
		DF_TRY(df_grow(arrays[i], &cap, n, sizeof(**arrays[0]), "tokenizer buffers", err));
	}
	s->cap = cap;
out:
	return rc;
}
