/*
 * wordpiece.c - BERT's model: the longest prefix of a word that is in the vocabulary, then the longest of the rest
 * with "##" before it, and so on; if some part of a word is not in the vocabulary, the whole word is unknown.
 *
 * The vocabulary is a trie: one walk finds the longest prefix, without trying every length.  Its edges are a hash
 * table of (node, byte); "##" is walked once, and its node is where the rest of a word starts.
 */
#include <stdlib.h>
#include <string.h>

#include "token/word_cache.h"

struct edge {
	uint64_t from;   /* node << 8 | byte; NO_EDGE = free */
	uint32_t to, id; /* id: of the entry that ends there, or DF_NO_TOKEN */
};
#define NO_EDGE UINT64_MAX

#define NO_NODE UINT32_MAX

struct tok_wordpiece {
	struct tok_vocab vocab;
	struct edge *edge;
	size_t edge_mask;
	uint32_t n_nodes, inner; /* inner: the node of the continuing prefix */
	uint32_t unk;
	size_t max_chars;
	struct df_digest digest;
};

/* The slot of an edge, or the free one where it belongs. */
static inline size_t
edge_slot(const struct tok_wordpiece *m, uint32_t node, unsigned char byte)
{
	uint64_t from = (uint64_t)node << 8 | byte;
	size_t i = tok_mix(from) & m->edge_mask;

	while (m->edge[i].from != from && m->edge[i].from != NO_EDGE)
		i = (i + 1) & m->edge_mask;
	return i;
}

static int
build_trie(struct tok_wordpiece *m, struct df_err *err)
{
	/* One edge per byte of text at the most. */
	const size_t size = df_tok_table_size(m->vocab.text.len);
	int rc;

	DF_TRY(df_alloc(&m->edge, size, sizeof(*m->edge), "the vocabulary", err));
	memset(m->edge, 0xFF, size * sizeof(*m->edge));
	m->edge_mask = size - 1;
	m->n_nodes = 1;
	for (uint32_t i = 0; i < m->vocab.n_entries; i++) {
		const struct tok_entry *e = &m->vocab.entry[i];
		struct edge *last = NULL;
		uint32_t node = 0;

		for (size_t k = 0; k < e->n; k++, node = last->to) {
			unsigned char byte = (unsigned char)m->vocab.text.data[e->at + k];

			last = &m->edge[edge_slot(m, node, byte)];
			if (last->from == NO_EDGE)
				*last = (struct edge){ (uint64_t)node << 8 | byte, m->n_nodes++, DF_NO_TOKEN };
		}
		if (last != NULL)
			last->id = e->id;
	}
out:
	return rc;
}

/* The node that text leads to from the root; NO_NODE when it leads nowhere. */
static uint32_t
node_of(const struct tok_wordpiece *m, const char *text)
{
	uint32_t node = 0;

	for (; *text != '\0'; text++) {
		const struct edge *e = &m->edge[edge_slot(m, node, (unsigned char)*text)];

		if (e->from == NO_EDGE)
			return NO_NODE;
		node = e->to;
	}
	return node;
}

int
df_tok_wordpiece_new(struct tok_wordpiece **out, const struct df_json_value *model, struct df_err *err)
{
	struct tok_wordpiece *m = NULL;
	const char *unk, *prefix;
	int64_t max_chars;
	uint64_t how[2];
	int rc;

	DF_TRY(df_alloc(&m, 1, sizeof(*m), "a tokenizer", err));
	DF_TRY(df_tok_vocab_load(&m->vocab, df_json_get(model, "vocab"), err));
	DF_TRY(df_json_member_str(model, "unk_token", "[UNK]", &unk, err));
	DF_TRY(df_json_member_str(model, "continuing_subword_prefix", "##", &prefix, err));
	DF_TRY(df_json_member_int(model, "max_input_chars_per_word", 100, 0, INT32_MAX, &max_chars, err));
	m->unk = df_tok_vocab_find(&m->vocab, unk, strlen(unk));
	if (m->unk == DF_NO_TOKEN) {
		rc = df_fail(err, DF_EFORMAT, "model.unk_token '%s' is not in the vocabulary", unk);
		goto out;
	}
	m->max_chars = (size_t)max_chars;
	DF_TRY(build_trie(m, err));
	m->inner = node_of(m, prefix);
	m->digest = m->vocab.digest;
	how[0] = m->unk;
	how[1] = m->max_chars;
	df_digest_merge(&m->digest, df_hash_bytes(how, sizeof(how), 1));
	df_digest_merge(&m->digest, df_hash_bytes(prefix, strlen(prefix), 2));
	*out = m;
	m = NULL;
out:
	df_tok_wordpiece_free(m);
	return rc;
}

void
df_tok_wordpiece_free(struct tok_wordpiece *m)
{
	if (m == NULL)
		return;
	df_tok_vocab_release(&m->vocab);
	free(m->edge);
	free(m);
}

const struct tok_vocab *
df_tok_wordpiece_vocab(const struct tok_wordpiece *m)
{
	return &m->vocab;
}

struct df_digest
df_tok_wordpiece_digest(const struct tok_wordpiece *m)
{
	return m->digest;
}

static size_t
count_chars(const unsigned char *s, size_t n)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		count += (s[i] & 0xC0) != 0x80;
	return count;
}

/* The longest entry from `node` on; DF_NO_TOKEN when there is none, else *len = its bytes. */
static uint32_t
longest(const struct tok_wordpiece *m, uint32_t node, const unsigned char *s, size_t n, size_t *len)
{
	uint32_t best = DF_NO_TOKEN;

	for (size_t i = 0; i < n && node != NO_NODE; i++) {
		const struct edge *e = &m->edge[edge_slot(m, node, s[i])];

		if (e->from == NO_EDGE)
			break;
		if (e->id != DF_NO_TOKEN) {
			best = e->id;
			*len = i + 1;
		}
		node = e->to;
	}
	return best;
}

int
df_tok_wordpiece_word(const struct tok_wordpiece *m, struct tok_model_scratch *s, const unsigned char *word, size_t n,
    struct df_ids *ids, struct df_err *err)
{
	struct tok_line *set = NULL;
	const struct tok_line *hit;
	uint64_t key[3];
	size_t count = 0, len;
	int rc;

	if (n <= TOK_CACHE_KEY) {
		set = tok_cache_set(s, word, n, key);
		hit = tok_cache_find(set, key, n);
		if (hit != NULL)
			return df_ids_add(ids, hit->id, hit->n_ids, err);
	}
	if (n > m->max_chars && count_chars(word, n) > m->max_chars)
		return df_ids_add(ids, &m->unk, 1, err);
	DF_TRY(df_tok_model_reserve(s, n, err));
	for (size_t at = 0; at < n; at += len) {
		uint32_t id = longest(m, at == 0 ? 0 : m->inner, word + at, n - at, &len);

		if (id == DF_NO_TOKEN) {
			s->id[0] = m->unk;
			count = 1;
			break;
		}
		s->id[count++] = id;
	}
	tok_cache_put(set, key, n, s->id, count);
	DF_TRY(df_ids_add(ids, s->id, count, err));
out:
	return rc;
}
