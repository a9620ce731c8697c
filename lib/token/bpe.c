/*
 * bpe.c - byte-pair encoding: a word becomes ids.
 *
 * A word starts as one symbol per byte (byte-level, GPT-2) or per character (Llama 2, where one that is not in the
 * vocabulary falls back to its bytes); of all neighbouring pairs that a merge names, the one of lowest rank (the
 * leftmost, if equal) is joined, until none is left.  Three methods give the same result:
 *
 *	cache   words of up to 24 bytes that were seen lately: one 64-byte line each
 *	short   arrays, the lowest rank found by scanning: best up to some dozens of symbols
 *	long    a linked list and a heap of pairs, O(n log n): a word may be a megabyte
 *
 * Llama 2's word is a whole document.  U+2581 stands for a space.  When no merge joins another character with a
 * U+2581 after it, the document may be cut before each U+2581 without a change of the result; the words are then
 * short and repeat.
 */
#include <string.h>

#include "token/bpe_priv.h"

#define SHORT_MAX 96 /* symbols */

/* One symbol per byte, *n of them, each with the rank of the pair that it makes with its right neighbour. */
static void
start_bytes(const struct tok_bpe *m, struct tok_model_scratch *s, const unsigned char *word, size_t len, size_t *n)
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

/* The id of the character of len bytes at p, or DF_NO_TOKEN. */
static inline uint32_t
char_id(const struct tok_bpe *m, const unsigned char *p, size_t *len)
{
	uint32_t c = df_uc_get(p, len);

	return c < TOK_CHAR_IDS ? m->char_id[c] : df_tok_vocab_find(&m->vocab, (const char *)p, *len);
}

/* The tokens of a character's bytes; false when one of them is missing. */
static bool
fall_back(const struct tok_bpe *m, const unsigned char *p, size_t len, uint32_t *id)
{
	for (size_t i = 0; i < len; i++) {
		id[i] = m->fallback[p[i]];
		if (id[i] == DF_NO_TOKEN)
			return false;
	}
	return true;
}

/*
 * One symbol per character.  An unknown one is written when a known one follows or the word ends, so the byte
 * tokens of a later character come before it.  The reference does the same; only incomplete vocabularies show it.
 */
static void
start_chars(const struct tok_bpe *m, struct tok_model_scratch *s, const unsigned char *word, size_t n, size_t *count)
{
	bool unknown = false;
	size_t k = 0, len;

	for (size_t i = 0; i < n; i += len) {
		uint32_t id = char_id(m, word + i, &len);

		if (id != DF_NO_TOKEN) {
			if (unknown)
				s->id[k++] = m->unk;
			unknown = false;
			s->id[k++] = id;
		} else if (fall_back(m, word + i, len, s->id + k)) {
			k += len;
		} else if (m->unk != DF_NO_TOKEN) {
			if (unknown && !m->fuse_unk)
				s->id[k++] = m->unk;
			unknown = true;
		}
	}
	if (unknown)
		s->id[k++] = m->unk;
	for (size_t i = 0; i + 1 < k; i++) {
		struct tok_rank_id r = tok_find_merge(m, s->id[i], s->id[i + 1]);

		s->rank[i] = r.rank;
		s->merged[i] = r.id;
	}
	if (k > 0)
		s->rank[k - 1] = TOK_NO_RANK;
	*count = k;
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
set_pair(const struct tok_bpe *m, struct tok_model_scratch *s, size_t i, size_t right)
{
	struct tok_rank_id r = tok_find_merge(m, s->id[i], s->id[right]);

	s->rank[i] = r.rank;
	s->merged[i] = r.id;
}

static size_t
merge_short(const struct tok_bpe *m, struct tok_model_scratch *s, size_t n)
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
heap_push(struct tok_model_scratch *s, uint64_t x, struct df_err *err)
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
heap_pop(struct tok_model_scratch *s)
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

/* The same with a list and a heap.  An entry is stale when the rank at its position has changed since. */
static int
merge_long(const struct tok_bpe *m, struct tok_model_scratch *s, size_t *count, struct df_err *err)
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

/* Llama 3: a word that is in the vocabulary is its own token, even if the merges do not make it. */
static int
whole_word(const struct tok_bpe *m, struct tok_model_scratch *s, const unsigned char *word, size_t n, uint32_t *id,
    struct df_err *err)
{
	int rc = DF_OK;

	if (!m->bytes) {
		*id = df_tok_vocab_find(&m->vocab, (const char *)word, n);
		return DF_OK;
	}
	df_buf_clear(&s->mapped);
	for (size_t i = 0; i < n; i++)
		df_buf_put_utf8(&s->mapped, df_tok_byte_char(word[i]));
	DF_TRY(df_buf_check(&s->mapped, err));
	*id = df_tok_vocab_find(&m->vocab, s->mapped.data, s->mapped.len);
out:
	return rc;
}

static int
one_word(const struct tok_bpe *m, struct tok_model_scratch *s, const unsigned char *word, size_t n, struct df_ids *ids,
    struct df_err *err)
{
	struct tok_line *set = NULL;
	const struct tok_line *hit;
	uint64_t key[3];
	size_t count;
	uint32_t id;
	int rc;

	if (n <= TOK_CACHE_KEY) {
		set = tok_cache_set(s, word, n, key);
		hit = tok_cache_find(set, key, n);
		if (hit != NULL)
			return df_ids_add(ids, hit->id, hit->n_ids, err);
	}
	/* One more than the bytes: an unknown character may be written after the byte tokens of all others. */
	DF_TRY(df_tok_model_reserve(s, n + 4, err));
	id = DF_NO_TOKEN;
	if (m->ignore_merges)
		DF_TRY(whole_word(m, s, word, n, &id, err));
	if (id != DF_NO_TOKEN) {
		s->id[0] = id;
		count = 1;
	} else {
		if (m->bytes)
			start_bytes(m, s, word, n, &count);
		else
			start_chars(m, s, word, n, &count);
		if (count <= SHORT_MAX)
			count = merge_short(m, s, count);
		else
			DF_TRY(merge_long(m, s, &count, err));
	}
	tok_cache_put(set, key, n, s->id, count);
	DF_TRY(df_ids_add(ids, s->id, count, err));
out:
	return rc;
}

/* The offset at which the next word that begins with U+2581 begins, after the one at `word`; n when there is none. */
static size_t
next_start(const unsigned char *word, size_t n)
{
	static const unsigned char mark[3] = { 0xE2, 0x96, 0x81 };
	size_t at = 1;

	while (at + 3 <= n) {
		const unsigned char *p = memmem(word + at, n - at, mark, 3);

		if (p == NULL)
			return n;
		at = (size_t)(p - word);
		if (at < 3 || memcmp(p - 3, mark, 3) != 0)
			return at;
		at += 3;
	}
	return n;
}

int
df_tok_bpe_word(const struct tok_bpe *m, struct tok_model_scratch *s, const unsigned char *word, size_t n,
    struct df_ids *ids, struct df_err *err)
{
	int rc = DF_OK;

	if (!m->word_starts)
		return one_word(m, s, word, n, ids, err);
	for (size_t at = 0, len; at < n; at += len) {
		len = next_start(word + at, n - at);
		DF_TRY(one_word(m, s, word + at, len, ids, err));
	}
out:
	return rc;
}
