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
 *
 * Ranks live in one open-addressing table keyed by the pair of ids; pairs of
 * single bytes, where every word begins, in a square of their own.  Most other
 * pairs that are asked for do not merge, and the table is larger than a cache:
 * a filter of a few bits per merge, which is not, answers for them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/tok_priv.h"

#define NO_RANK    UINT32_MAX
#define SHORT_MAX  96 /* symbols */
#define CACHE_WAYS 2
#define CACHE_SETS (1u << 14) /* 2 MiB a thread */
#define CACHE_KEY  24
#define CACHE_IDS  9

struct entry {
	size_t at; /* of its text */
	uint32_t n, id;
};

struct merge {
	uint64_t pair; /* left id << 32 | right id */
	uint32_t rank, id;
};
#define NO_PAIR UINT64_MAX

struct rank_id {
	uint32_t rank, id;
};

struct tok_bpe {
	struct df_buf text; /* the vocabulary's texts, end to end */
	struct entry *entry;
	uint32_t n_entries;
	uint32_t *slot; /* hash table of entries; DF_NO_TOKEN = free */
	size_t slot_mask;
	uint32_t *by_id; /* id -> entry */
	size_t n_ids;    /* highest id + 1 */
	struct merge *merge;
	size_t merge_mask;
	uint64_t *filter; /* bit (mix(pair) >> 20) & filter_mask is set for every merge */
	size_t filter_mask;
	uint32_t byte_id[256];     /* DF_NO_TOKEN: not in the vocabulary */
	struct rank_id *byte_pair; /* [256 * 256] */
	uint32_t unk;
	bool fuse_unk, ignore_merges;
	size_t n_merges;
	struct df_digest digest; /* of the vocabulary as a set and the merges in order */
};

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

/* --- the byte-level alphabet ---------------------------------------------------------------------------------- */

/* GPT-2: printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards. */
static bool
plain_byte(unsigned b)
{
	return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
}

uint32_t
df_tok_byte_char(unsigned char b)
{
	if (plain_byte(b))
		return b;
	if (b <= 0x20)
		return 0x100u + b;
	return b == 0xAD ? 0x143 : 0x100u + 33 + (b - 0x7Fu);
}

int
df_tok_char_byte(uint32_t c)
{
	if (c < 0x100)
		return plain_byte(c) ? (int)c : -1;
	if (c <= 0x120)
		return (int)(c - 0x100);
	if (c < 0x143)
		return (int)(c - 0x121 + 0x7F);
	return c == 0x143 ? 0xAD : -1;
}

void
df_tok_put_utf8(struct df_buf *b, uint32_t c)
{
	if (c < 0x80) {
		df_buf_putc(b, (char)c);
	} else if (c < 0x800) {
		df_buf_putc(b, (char)(0xC0 | c >> 6));
		df_buf_putc(b, (char)(0x80 | (c & 0x3F)));
	} else if (c < 0x10000) {
		df_buf_putc(b, (char)(0xE0 | c >> 12));
		df_buf_putc(b, (char)(0x80 | (c >> 6 & 0x3F)));
		df_buf_putc(b, (char)(0x80 | (c & 0x3F)));
	} else {
		df_buf_putc(b, (char)(0xF0 | c >> 18));
		df_buf_putc(b, (char)(0x80 | (c >> 12 & 0x3F)));
		df_buf_putc(b, (char)(0x80 | (c >> 6 & 0x3F)));
		df_buf_putc(b, (char)(0x80 | (c & 0x3F)));
	}
}

/* --- tables --------------------------------------------------------------------------------------------------- */

static size_t
mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0x9E3779B97F4A7C15ull;
	x ^= x >> 29;
	x *= 0xBF58476D1CE4E5B9ull;
	return (size_t)(x ^ x >> 32);
}

uint32_t
df_tok_bpe_find(const void *model, const char *text, size_t n)
{
	const struct tok_bpe *m = model;
	size_t i = df_hash_bytes(text, n, 0).lo & m->slot_mask;

	for (; m->slot[i] != DF_NO_TOKEN; i = (i + 1) & m->slot_mask) {
		const struct entry *e = &m->entry[m->slot[i]];

		if (e->n == n && memcmp(m->text.data + e->at, text, n) == 0)
			return e->id;
	}
	return DF_NO_TOKEN;
}

static struct rank_id
find_merge(const struct tok_bpe *m, uint32_t left, uint32_t right)
{
	uint64_t pair = (uint64_t)left << 32 | right;
	size_t h = mix(pair), bit = (h >> 20) & m->filter_mask, i = h & m->merge_mask;

	if ((m->filter[bit / 64] >> bit % 64 & 1) == 0)
		return (struct rank_id){ NO_RANK, DF_NO_TOKEN };
	for (; m->merge[i].pair != NO_PAIR; i = (i + 1) & m->merge_mask)
		if (m->merge[i].pair == pair)
			return (struct rank_id){ m->merge[i].rank, m->merge[i].id };
	return (struct rank_id){ NO_RANK, DF_NO_TOKEN };
}

/* A power of two that keeps n entries at most half full. */
static size_t
table_size(size_t n)
{
	size_t size = 16;

	while (size < 2 * n)
		size *= 2;
	return size;
}

static int
load_vocab(struct tok_bpe *m, const struct df_json_value *vocab, struct df_err *err)
{
	const struct df_json_member *at = NULL;
	const struct df_json_value *v;
	size_t n = df_json_size(vocab), limit = 8 * n + 65536;
	const char *key;
	int64_t id;
	int rc;

	if (df_json_type(vocab) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "model.vocab: expected an object, found %s", df_json_type_name(vocab));
	m->slot_mask = table_size(n) - 1;
	DF_TRY(df_alloc(&m->entry, n, sizeof(*m->entry), "the vocabulary", err));
	DF_TRY(df_alloc(&m->slot, m->slot_mask + 1, sizeof(*m->slot), "the vocabulary", err));
	memset(m->slot, 0xFF, (m->slot_mask + 1) * sizeof(*m->slot));
	while ((at = df_json_next(vocab, at, &key, &v)) != NULL) {
		struct entry *e = &m->entry[m->n_entries];
		size_t i, len = strlen(key);

		if (!df_json_int(v, &id)) {
			rc = df_fail(err, DF_EFORMAT, "model.vocab '%s': the id is %s", key, df_json_type_name(v));
			goto out;
		}
		/* Ids are used as indices: a lying one must not cost more memory than the file is long. */
		if (id < 0 || (uint64_t)id >= limit) {
			rc = df_fail(
			    err, DF_EFORMAT, "model.vocab '%s': id %lld in a vocabulary of %zu", key, (long long)id, n);
			goto out;
		}
		*e = (struct entry){ .at = m->text.len, .n = (uint32_t)len, .id = (uint32_t)id };
		df_buf_add(&m->text, key, len);
		DF_TRY(df_buf_check(&m->text, err));
		for (i = df_hash_bytes(key, len, 0).lo & m->slot_mask; m->slot[i] != DF_NO_TOKEN;)
			i = (i + 1) & m->slot_mask;
		m->slot[i] = m->n_entries++;
		df_digest_merge(&m->digest, df_hash_bytes(key, len, (uint64_t)id));
		if ((size_t)id >= m->n_ids)
			m->n_ids = (size_t)id + 1;
	}
	DF_TRY(df_alloc(&m->by_id, m->n_ids, sizeof(*m->by_id), "the vocabulary", err));
	memset(m->by_id, 0xFF, m->n_ids * sizeof(*m->by_id));
	for (uint32_t i = 0; i < m->n_entries; i++) {
		struct entry *e = &m->entry[i];
		const struct entry *other;

		if (m->by_id[e->id] != DF_NO_TOKEN) {
			other = &m->entry[m->by_id[e->id]];
			rc = df_fail(err, DF_EFORMAT, "model.vocab: '%.*s' and '%.*s' both have id %u", (int)other->n,
			    m->text.data + other->at, (int)e->n, m->text.data + e->at, e->id);
			goto out;
		}
		m->by_id[e->id] = i;
	}
out:
	return rc;
}

/* The two sides of merge i: "a b", or ["a", "b"]. */
static int
merge_sides(const struct df_json_value *v, size_t i, const char *side[2], size_t n[2], struct df_err *err)
{
	const char *space;

	if (df_json_type(v) == DF_JSON_ARRAY && df_json_size(v) == 2) {
		for (size_t k = 0; k < 2; k++)
			side[k] = df_json_str(df_json_at(v, k), &n[k]);
		if (side[0] != NULL && side[1] != NULL)
			return DF_OK;
	} else if ((side[0] = df_json_str(v, &n[1])) != NULL) {
		space = memchr(side[0], ' ', n[1]);
		if (space != NULL) {
			n[0] = (size_t)(space - side[0]);
			side[1] = space + 1;
			n[1] -= n[0] + 1;
			if (memchr(side[1], ' ', n[1]) == NULL)
				return DF_OK;
		}
	}
	return df_fail(err, DF_EFORMAT, "model.merges[%zu]: expected \"a b\" or [\"a\", \"b\"]", i);
}

static int
load_merges(struct tok_bpe *m, const struct df_json_value *merges, struct df_err *err)
{
	struct df_buf joined = DF_BUF_INIT;
	size_t n = df_json_size(merges);
	int rc;

	if (df_json_type(merges) != DF_JSON_ARRAY)
		return df_fail(err, DF_EFORMAT, "model.merges: expected an array, found %s", df_json_type_name(merges));
	m->merge_mask = table_size(n) - 1;
	DF_TRY(df_alloc(&m->merge, m->merge_mask + 1, sizeof(*m->merge), "the merges", err));
	for (size_t i = 0; i <= m->merge_mask; i++)
		m->merge[i].pair = NO_PAIR;
	m->filter_mask = 64 * table_size(n / 16) - 1;
	DF_TRY(df_alloc(&m->filter, (m->filter_mask + 1) / 64, sizeof(*m->filter), "the merges", err));
	for (size_t i = 0; i < n; i++) {
		const struct df_json_value *v = df_json_at(merges, i);
		const char *side[2];
		uint32_t id[3];
		size_t len[2], at;
		size_t bit;
		uint64_t pair;

		if (df_json_str(v, NULL) != NULL && strncmp(df_json_str(v, NULL), "#version", 8) == 0)
			continue;
		DF_TRY(merge_sides(v, i, side, len, err));
		df_buf_clear(&joined);
		df_buf_add(&joined, side[0], len[0]);
		df_buf_add(&joined, side[1], len[1]);
		DF_TRY(df_buf_check(&joined, err));
		id[0] = df_tok_bpe_find(m, side[0], len[0]);
		id[1] = df_tok_bpe_find(m, side[1], len[1]);
		id[2] = df_tok_bpe_find(m, joined.data, joined.len);
		if (id[0] == DF_NO_TOKEN || id[1] == DF_NO_TOKEN || id[2] == DF_NO_TOKEN) {
			size_t bad = id[0] == DF_NO_TOKEN ? 0 : 1;

			if (id[bad] == DF_NO_TOKEN)
				rc = df_fail(err, DF_EFORMAT, "model.merges[%zu]: '%.*s' is not in the vocabulary", i,
				    (int)len[bad], side[bad]);
			else
				rc = df_fail(err, DF_EFORMAT,
				    "model.merges[%zu]: the merged '%s' is not in the vocabulary", i, joined.data);
			goto out;
		}
		/* Of a pair named twice the last one counts. */
		pair = (uint64_t)id[0] << 32 | id[1];
		for (at = mix(pair) & m->merge_mask; m->merge[at].pair != NO_PAIR && m->merge[at].pair != pair;)
			at = (at + 1) & m->merge_mask;
		m->merge[at] = (struct merge){ .pair = pair, .rank = (uint32_t)m->n_merges, .id = id[2] };
		bit = (mix(pair) >> 20) & m->filter_mask;
		m->filter[bit / 64] |= (uint64_t)1 << bit % 64;
		df_digest_merge(&m->digest, df_hash_bytes(&pair, sizeof(pair), ~(uint64_t)m->n_merges));
		m->n_merges++;
	}
out:
	df_buf_release(&joined);
	return rc;
}

/* The id of each byte's character. */
static int
load_bytes(struct tok_bpe *m, bool *all, struct df_err *err)
{
	struct df_buf c = DF_BUF_INIT;
	int rc = DF_OK;

	*all = true;
	for (unsigned b = 0; b < 256; b++) {
		df_buf_clear(&c);
		df_tok_put_utf8(&c, df_tok_byte_char((unsigned char)b));
		DF_TRY(df_buf_check(&c, err));
		m->byte_id[b] = df_tok_bpe_find(m, c.data, c.len);
		*all &= m->byte_id[b] != DF_NO_TOKEN;
	}
out:
	df_buf_release(&c);
	return rc;
}

static int
load_byte_pairs(struct tok_bpe *m, struct df_err *err)
{
	int rc;

	DF_TRY(df_alloc(&m->byte_pair, 256 * 256, sizeof(*m->byte_pair), "the merges", err));
	for (unsigned a = 0; a < 256; a++)
		for (unsigned b = 0; b < 256; b++)
			m->byte_pair[a << 8 | b] = find_merge(m, m->byte_id[a], m->byte_id[b]);
out:
	return rc;
}

/* What this model cannot do, refused by name. */
static int
check_options(struct tok_bpe *m, const struct df_json_value *model, bool all_bytes, struct df_err *err)
{
	static const char *const affixes[] = { "continuing_subword_prefix", "end_of_word_suffix" };
	const char *unk, *affix;
	bool byte_fallback;
	double dropout;
	int rc;

	DF_TRY(df_json_member_bool(model, "byte_fallback", false, &byte_fallback, err));
	DF_TRY(df_json_member_double(model, "dropout", 0.0, &dropout, err));
	if (byte_fallback || dropout != 0.0) {
		rc = df_fail(
		    err, DF_EUNSUPPORTED, "BPE with %s is not supported", byte_fallback ? "byte_fallback" : "dropout");
		goto out;
	}
	for (size_t i = 0; i < 2; i++) {
		DF_TRY(df_json_member_str(model, affixes[i], "", &affix, err));
		if (affix[0] != '\0') {
			rc = df_fail(err, DF_EUNSUPPORTED, "BPE with %s '%s' is not supported", affixes[i], affix);
			goto out;
		}
	}
	DF_TRY(df_json_member_bool(model, "fuse_unk", false, &m->fuse_unk, err));
	DF_TRY(df_json_member_bool(model, "ignore_merges", false, &m->ignore_merges, err));
	DF_TRY(df_json_member_str(model, "unk_token", NULL, &unk, err));
	m->unk = unk == NULL ? DF_NO_TOKEN : df_tok_bpe_find(m, unk, strlen(unk));
	if (unk != NULL && m->unk == DF_NO_TOKEN && !all_bytes)
		rc = df_fail(err, DF_EFORMAT, "model.unk_token '%s' is not in the vocabulary", unk);
out:
	return rc;
}

int
df_tok_bpe_new(struct tok_bpe **out, const struct df_json_value *model, struct df_err *err)
{
	struct tok_bpe *m = NULL;
	const char *type;
	bool all_bytes;
	int rc;

	if (df_json_type(model) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "model: expected an object, found %s", df_json_type_name(model));
	DF_TRY(df_json_member_str(model, "type", "BPE", &type, err));
	if (strcmp(type, "BPE") != 0)
		return df_fail(err, DF_EUNSUPPORTED, "model '%s' is not supported (only byte-level BPE is)", type);
	DF_TRY(df_alloc(&m, 1, sizeof(*m), "a tokenizer", err));
	DF_TRY(load_vocab(m, df_json_get(model, "vocab"), err));
	DF_TRY(load_bytes(m, &all_bytes, err));
	DF_TRY(check_options(m, model, all_bytes, err));
	DF_TRY(load_merges(m, df_json_get(model, "merges"), err));
	DF_TRY(load_byte_pairs(m, err));
	*out = m;
	m = NULL;
out:
	df_tok_bpe_free(m);
	return rc;
}

void
df_tok_bpe_free(struct tok_bpe *m)
{
	if (m == NULL)
		return;
	df_buf_release(&m->text);
	free(m->entry);
	free(m->slot);
	free(m->by_id);
	free(m->merge);
	free(m->filter);
	free(m->byte_pair);
	free(m);
}

struct df_digest
df_tok_bpe_digest(const struct tok_bpe *m)
{
	struct df_digest d = m->digest;
	uint32_t how[3] = { m->unk, m->fuse_unk, m->ignore_merges };

	df_digest_merge(&d, df_hash_bytes(how, sizeof(how), 0));
	return d;
}

bool
df_tok_bpe_is_bytes(const struct tok_bpe *m)
{
	for (uint32_t b = 0; b < 256; b++)
		if (m->byte_id[b] != b)
			return false;
	return m->n_entries == 256 && m->n_merges == 0;
}

uint32_t
df_tok_bpe_size(const struct tok_bpe *m)
{
	return m->n_entries;
}

uint32_t
df_tok_bpe_max_id(const struct tok_bpe *m)
{
	return (uint32_t)m->n_ids - 1;
}

const char *
df_tok_bpe_text(const struct tok_bpe *m, uint32_t id, size_t *n)
{
	const struct entry *e;

	if (id >= m->n_ids || m->by_id[id] == DF_NO_TOKEN)
		return NULL;
	e = &m->entry[m->by_id[id]];
	*n = e->n;
	return m->text.data + e->at;
}

/* --- merging -------------------------------------------------------------------------------------------------- */

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
		struct rank_id r =
		    plain ? m->byte_pair[word[i] << 8 | word[i + 1]] : find_merge(m, s->id[i], s->id[i + 1]);

		s->rank[i] = r.rank;
		s->merged[i] = r.id;
	}
	if (k > 0)
		s->rank[k - 1] = NO_RANK;
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
	struct rank_id r = find_merge(m, s->id[i], s->id[right]);

	s->rank[i] = r.rank;
	s->merged[i] = r.id;
}

static size_t
merge_short(const struct tok_bpe *m, struct tok_bpe_scratch *s, size_t n)
{
	while (n > 1) {
		size_t i = lowest(s->rank, n), tail;

		if (s->rank[i] == NO_RANK)
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
			s->rank[i] = NO_RANK;
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
		if (s->rank[i] != NO_RANK)
			DF_TRY(heap_push(s, (uint64_t)s->rank[i] << 32 | i, err));
	}
	while (s->n_heap > 0) {
		uint64_t top = heap_pop(s);
		size_t i = (uint32_t)top, right, around[2];

		if (s->rank[i] != top >> 32)
			continue;
		right = s->next[i];
		s->id[i] = s->merged[i];
		s->rank[right] = NO_RANK;
		s->next[i] = s->next[right];
		if (s->next[i] < n)
			s->prev[s->next[i]] = (uint32_t)i;
		s->rank[i] = NO_RANK;
		around[0] = s->prev[i];
		around[1] = i;
		for (size_t a = 0; a < 2; a++) {
			size_t p = around[a];

			/* The first symbol has no left neighbour (UINT32_MAX), the last no right one. */
			if (p >= n || s->next[p] >= n)
				continue;
			set_pair(m, s, p, s->next[p]);
			if (s->rank[p] != NO_RANK)
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
		df_tok_put_utf8(&s->mapped, df_tok_byte_char(word[i]));
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
		set = &s->cache[(mix(key[0] ^ mix(key[1] ^ mix(key[2] + n))) & (CACHE_SETS - 1)) * CACHE_WAYS];
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
