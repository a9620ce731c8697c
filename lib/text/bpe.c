/*
 * bpe.c - byte-level byte-pair encoding: a word becomes ids.
 *
 * A word starts as one symbol per byte; of all neighbouring pairs that a merge
 * names, the one of lowest rank (leftmost of equals) is joined, until none is
 * left.  Three ways, same result:
 *
 *	cache   words of up to 24 bytes that were seen lately: one 64-byte line each
 *	short   arrays, the lowest rank found by scanning: best up to some dozens of symbols
 *	long    a linked list and a heap of pairs, O(n log n): a word may be a megabyte
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/bpe_priv.h"

#define SHORT_MAX  96 /* symbols */
#define CACHE_WAYS 2
#define CACHE_SETS (1u << 14) /* 2 MiB a thread */
#define CACHE_KEY  24
#define CACHE_IDS  9

struct line {
	uint64_t key[CACHE_KEY / 8];
	uint8_t n, n_ids;
	uint32_t id[CACHE_IDS];
};

struct tok_bpe_scratch {
	struct line *cache;                         /* [CACHE_SETS][CACHE_WAYS], most recently made first */
	uint32_t *id, *rank, *merged, *prev, *next; /* per symbol */
	size_t cap;
	uint64_t *heap; /* rank << 32 | position */
	size_t n_heap, cap_heap;
	struct df_buf mapped;
};

int
df_tok_bpe_scratch_new(struct tok_bpe_scratch **out, struct df_err *err)
{
	struct tok_bpe_scratch *s = NULL;
	int rc;

	DF_TRY(df_alloc(&s, 1, sizeof(*s), "tokenizer buffers", err));
	DF_TRY(df_alloc(&s->cache, CACHE_SETS * CACHE_WAYS, sizeof(*s->cache), "the word cache", err));
	*out = s;
	s = NULL;
out:
	df_tok_bpe_scratch_free(s);
	return rc;
}

void
df_tok_bpe_scratch_free(struct tok_bpe_scratch *s)
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

static int
reserve(struct tok_bpe_scratch *s, size_t n, struct df_err *err)
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

/* One symbol per byte, *n of them, with the rank of each with its right neighbour. */
static void
start_symbols(const struct tok_bpe *m, struct tok_bpe_scratch *s, const unsigned char *word, size_t len, size_t *n)
{
	bool plain = true, unknown = false;
	size_t k = 0;

	for (size_t i = 0; i < len; i++) {
		uint32_t id = m->byte_id[word[i]];

		if (id == DF_NO_TOKEN) {
			/* Without an unk token the byte vanishes, as in the reference. */
			plain = false;
			if (m->unk == DF_NO_TOKEN || (unknown && m->fuse_unk))
				continue;
			unknown = true;
			id = m->unk;
		} else {
			unknown = false;
		}
		s->id[k++] = id;
	}
	for (size_t i = 0; i + 1 < k; i++) {
		struct tok_rank_id r =
		    plain ? m->byte_pair[word[i] << 8 | word[i + 1]] : tok_find_merge(m, s->id[i], s->id[i + 1]);

		s->rank[i] = r.rank;
		s->merged[i] = r.id;
	}
	if (k > 0)
		s->rank[k - 1] = TOK_NO_RANK;
	*n = k;
}

/* The leftmost lowest rank. */
static size_t
lowest(const uint32_t *rank, size_t n)
{
	uint32_t best = rank[0];
	size_t i;

	for (i = 1; i < n; i++)
		best = rank[i] < best ? rank[i] : best;
	for (i = 0; rank[i] != best; i++)
		;
	return i;
}

static void
set_pair(const struct tok_bpe *m, struct tok_bpe_scratch *s, size_t i, size_t right)
{
	struct tok_rank_id r = tok_find_merge(m, s->id[i], s->id[right]);

	s->rank[i] = r.rank;
	s->merged[i] = r.id;
}

static size_t
merge_short(const struct tok_bpe *m, struct tok_bpe_scratch *s, size_t n)
{
	while (n > 1) {
		size_t i = lowest(s->rank, n), tail;

		if (s->rank[i] == TOK_NO_RANK)
			break;
		s->id[i] = s->merged[i];
		tail = n - i - 2;
		memmove(s->id + i + 1, s->id + i + 2, tail * sizeof(*s->id));
		memmove(s->rank + i + 1, s->rank + i + 2, tail * sizeof(*s->rank));
		memmove(s->merged + i + 1, s->merged + i + 2, tail * sizeof(*s->merged));
		n--;
		if (i > 0)
			set_pair(m, s, i - 1, i);
		if (i + 1 < n)
			set_pair(m, s, i, i + 1);
		else
			s->rank[i] = TOK_NO_RANK;
	}
	return n;
}

static int
heap_push(struct tok_bpe_scratch *s, uint64_t x, struct df_err *err)
{
	size_t i, up;
	int rc;

	DF_TRY(df_grow(&s->heap, &s->cap_heap, s->n_heap + 1, sizeof(*s->heap), "tokenizer buffers", err));
	for (i = s->n_heap++; i > 0 && s->heap[up = (i - 1) / 2] > x; i = up)
		s->heap[i] = s->heap[up];
	s->heap[i] = x;
out:
	return rc;
}

static uint64_t
heap_pop(struct tok_bpe_scratch *s)
{
	uint64_t top = s->heap[0], x = s->heap[--s->n_heap];
	size_t i = 0, kid;

	while ((kid = 2 * i + 1) < s->n_heap) {
		if (kid + 1 < s->n_heap && s->heap[kid + 1] < s->heap[kid])
			kid++;
		if (s->heap[kid] >= x)
			break;
		s->heap[i] = s->heap[kid];
		i = kid;
	}
	s->heap[i] = x;
	return top;
}

/* The same with a list and a heap.  An entry is stale when its position has another rank by now. */
static int
merge_long(const struct tok_bpe *m, struct tok_bpe_scratch *s, size_t *count, struct df_err *err)
{
	size_t n = *count, k = 0;
	int rc = DF_OK;

	s->n_heap = 0;
	for (size_t i = 0; i < n; i++) {
		s->prev[i] = (uint32_t)i - 1;
		s->next[i] = (uint32_t)i + 1;
		if (s->rank[i] != TOK_NO_RANK)
			DF_TRY(heap_push(s, (uint64_t)s->rank[i] << 32 | i, err));
	}
	while (s->n_heap > 0) {
		uint64_t top = heap_pop(s);
		size_t i = (uint32_t)top, right, around[2];

		if (s->rank[i] != top >> 32)
			continue;
		right = s->next[i];
		s->id[i] = s->merged[i];
		s->rank[right] = TOK_NO_RANK;
		s->next[i] = s->next[right];
		if (s->next[i] < n)
			s->prev[s->next[i]] = (uint32_t)i;
		s->rank[i] = TOK_NO_RANK;
		around[0] = s->prev[i];
		around[1] = i;
		for (size_t a = 0; a < 2; a++) {
			size_t p = around[a];

			/* The first symbol has no left neighbour (UINT32_MAX), the last no right one. */
			if (p >= n || s->next[p] >= n)
				continue;
			set_pair(m, s, p, s->next[p]);
			if (s->rank[p] != TOK_NO_RANK)
				DF_TRY(heap_push(s, (uint64_t)s->rank[p] << 32 | p, err));
		}
	}
	for (size_t i = 0; i < n; i = s->next[i])
		s->id[k++] = s->id[i];
	*count = k;
out:
	return rc;
}

/* --- the cache ------------------------------------------------------------------------------------------------ */

static uint64_t
load8(const unsigned char *p)
{
	uint64_t x;

	memcpy(&x, p, 8);
	return x;
}

static uint32_t
load4(const unsigned char *p)
{
	uint32_t x;

	memcpy(&x, p, 4);
	return x;
}

/* n (1 to 24) bytes as words that, with n, determine them; loads overlap instead of reading outside. */
static void
make_key(uint64_t key[3], const unsigned char *w, size_t n)
{
	key[1] = key[2] = 0;
	if (n > 8) {
		key[0] = load8(w);
		key[1] = load8(w + n - 8);
		if (n > 16)
			key[2] = load8(w + 8);
	} else if (n >= 4) {
		key[0] = load4(w) | (uint64_t)load4(w + n - 4) << 32;
	} else {
		key[0] = w[0] | (uint64_t)w[n / 2] << 8 | (uint64_t)w[n - 1] << 16;
	}
}

static bool
holds(const struct line *l, const uint64_t key[3], size_t n)
{
	return l->key[0] == key[0] && l->key[1] == key[1] && l->key[2] == key[2] && l->n == n;
}

static int
append_ids(struct df_ids *ids, const uint32_t *v, size_t n, struct df_err *err)
{
	int rc = DF_OK;

	if (ids->cap - ids->n < n)
		DF_TRY(df_grow(&ids->v, &ids->cap, ids->n + n, sizeof(*ids->v), "token ids", err));
	for (size_t i = 0; i < n; i++)
		ids->v[ids->n + i] = v[i];
	ids->n += n;
out:
	return rc;
}

/* Llama 3: a word that is in the vocabulary is its own token, whatever the merges say. */
static int
whole_word(const struct tok_bpe *m, struct tok_bpe_scratch *s, const unsigned char *word, size_t n, uint32_t *id,
    struct df_err *err)
{
	int rc;

	df_buf_clear(&s->mapped);
	for (size_t i = 0; i < n; i++)
		df_buf_put_utf8(&s->mapped, df_tok_byte_char(word[i]));
	DF_TRY(df_buf_check(&s->mapped, err));
	*id = df_tok_bpe_find(m, s->mapped.data, s->mapped.len);
out:
	return rc;
}

int
df_tok_bpe_word(const struct tok_bpe *m, struct tok_bpe_scratch *s, const unsigned char *word, size_t n,
    struct df_ids *ids, struct df_err *err)
{
	struct line *set = NULL;
	uint64_t key[3];
	size_t count;
	uint32_t id;
	int rc;

	if (n <= CACHE_KEY) {
		make_key(key, word, n);
		set = &s->cache[(tok_mix(key[0] ^ tok_mix(key[1] ^ tok_mix(key[2] + n))) & (CACHE_SETS - 1)) *
		    CACHE_WAYS];
		for (size_t i = 0; i < CACHE_WAYS; i++)
			if (holds(&set[i], key, n))
				return append_ids(ids, set[i].id, set[i].n_ids, err);
	}
	DF_TRY(reserve(s, n, err));
	id = DF_NO_TOKEN;
	if (m->ignore_merges)
		DF_TRY(whole_word(m, s, word, n, &id, err));
	if (id != DF_NO_TOKEN) {
		s->id[0] = id;
		count = 1;
	} else {
		start_symbols(m, s, word, n, &count);
		if (count <= SHORT_MAX)
			count = merge_short(m, s, count);
		else
			DF_TRY(merge_long(m, s, &count, err));
	}
	if (set != NULL && count <= CACHE_IDS) {
		set[1] = set[0];
		memcpy(set[0].key, key, sizeof(key));
		set[0].n = (uint8_t)n;
		set[0].n_ids = (uint8_t)count;
		memcpy(set[0].id, s->id, count * sizeof(*s->id));
	}
	DF_TRY(append_ids(ids, s->id, count, err));
out:
	return rc;
}
