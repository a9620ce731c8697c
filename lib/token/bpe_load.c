/*
 * bpe_load.c - the tables of byte-pair encoding, from the "model" of a tokenizer.json.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "token/bpe_priv.h"

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

/* --- tables --------------------------------------------------------------------------------------------------- */

static const char word_start[] = "\xE2\x96\x81"; /* U+2581 stands for a space */

static bool
starts_word(const char *s, size_t n)
{
	return n >= 3 && memcmp(s, word_start, 3) == 0;
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
	m->merge_mask = df_tok_table_size(n) - 1;
	DF_TRY(df_alloc(&m->merge, m->merge_mask + 1, sizeof(*m->merge), "the merges", err));
	for (size_t i = 0; i <= m->merge_mask; i++)
		m->merge[i].pair = TOK_NO_PAIR;
	m->filter_mask = 64 * df_tok_table_size(n / 16) - 1;
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
		id[0] = df_tok_vocab_find(&m->vocab, side[0], len[0]);
		id[1] = df_tok_vocab_find(&m->vocab, side[1], len[1]);
		id[2] = df_tok_vocab_find(&m->vocab, joined.data, joined.len);
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
		if (starts_word(side[1], len[1]) && (len[0] < 3 || !starts_word(side[0] + len[0] - 3, 3)))
			m->word_starts = false;
		/* If a pair is named twice, the last one counts. */
		pair = (uint64_t)id[0] << 32 | id[1];
		for (at = tok_mix(pair) & m->merge_mask; m->merge[at].pair != TOK_NO_PAIR && m->merge[at].pair != pair;)
			at = (at + 1) & m->merge_mask;
		m->merge[at] = (struct tok_merge){ .pair = pair, .rank = (uint32_t)m->n_merges, .id = id[2] };
		bit = (tok_mix(pair) >> 20) & m->filter_mask;
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

	*all = m->bytes;
	for (unsigned b = 0; b < 256; b++) {
		df_buf_clear(&c);
		df_buf_put_utf8(&c, df_tok_byte_char((unsigned char)b));
		DF_TRY(df_buf_check(&c, err));
		m->byte_id[b] = df_tok_vocab_find(&m->vocab, c.data, c.len);
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
			m->byte_pair[a << 8 | b] = tok_find_merge(m, m->byte_id[a], m->byte_id[b]);
out:
	return rc;
}

/* The ids of single characters, of those below TOK_CHAR_IDS. */
static int
load_chars(struct tok_bpe *m, struct df_err *err)
{
	int rc;

	DF_TRY(df_alloc(&m->char_id, TOK_CHAR_IDS, sizeof(*m->char_id), "the vocabulary", err));
	memset(m->char_id, 0xFF, TOK_CHAR_IDS * sizeof(*m->char_id));
	for (uint32_t i = 0; i < m->vocab.n_entries; i++) {
		const struct tok_entry *e = &m->vocab.entry[i];
		const unsigned char *s = (const unsigned char *)m->vocab.text.data + e->at;
		size_t len;
		uint32_t c;

		/* JSON's strings are UTF-8. */
		if (e->n == 0 || e->n > 3)
			continue;
		c = df_uc_get(s, &len);
		if (len == e->n && c < TOK_CHAR_IDS)
			m->char_id[c] = e->id;
	}
out:
	return rc;
}

/* byte_fallback's tokens "<0x00>" to "<0xFF>". */
static void
load_fallback(struct tok_bpe *m, bool wanted)
{
	char name[8];

	for (unsigned b = 0; b < 256; b++) {
		snprintf(name, sizeof(name), "<0x%02X>", b);
		m->fallback[b] = wanted ? df_tok_vocab_find(&m->vocab, name, 6) : DF_NO_TOKEN;
	}
}

/* Refuse by name what this model does not support. */
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
	if (dropout != 0.0) {
		rc = df_fail(err, DF_EUNSUPPORTED, "BPE with dropout is not supported");
		goto out;
	}
	if (byte_fallback && m->bytes) {
		rc = df_fail(err, DF_EUNSUPPORTED, "BPE with byte_fallback and ByteLevel is not supported");
		goto out;
	}
	load_fallback(m, byte_fallback);
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
	m->unk = unk == NULL ? DF_NO_TOKEN : df_tok_vocab_find(&m->vocab, unk, strlen(unk));
	if (unk != NULL && m->unk == DF_NO_TOKEN && !all_bytes)
		rc = df_fail(err, DF_EFORMAT, "model.unk_token '%s' is not in the vocabulary", unk);
out:
	return rc;
}

int
df_tok_bpe_new(struct tok_bpe **out, const struct df_json_value *model, bool bytes, struct df_err *err)
{
	struct tok_bpe *m = NULL;
	bool all_bytes;
	int rc;

	DF_TRY(df_alloc(&m, 1, sizeof(*m), "a tokenizer", err));
	m->bytes = bytes;
	DF_TRY(df_tok_vocab_load(&m->vocab, df_json_get(model, "vocab"), err));
	DF_TRY(load_bytes(m, &all_bytes, err));
	DF_TRY(check_options(m, model, all_bytes, err));
	m->word_starts = !bytes && !m->ignore_merges && df_tok_vocab_find(&m->vocab, word_start, 3) != DF_NO_TOKEN;
	m->digest = m->vocab.digest;
	DF_TRY(load_merges(m, df_json_get(model, "merges"), err));
	DF_TRY(bytes ? load_byte_pairs(m, err) : load_chars(m, err));
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
	df_tok_vocab_release(&m->vocab);
	free(m->merge);
	free(m->filter);
	free(m->byte_pair);
	free(m->char_id);
	free(m);
}

const struct tok_vocab *
df_tok_bpe_vocab(const struct tok_bpe *m)
{
	return &m->vocab;
}

struct df_digest
df_tok_bpe_digest(const struct tok_bpe *m)
{
	struct df_digest d = m->digest;
	uint32_t how[3] = { m->unk, m->fuse_unk, m->ignore_merges };

	df_digest_merge(&d, df_hash_bytes(how, sizeof(how), 0));
	/*
	 * Only a model whose symbols are characters adds this to its digest, so that the ids of byte-level
	 * tokenizers stay the same.
	 */
	if (!m->bytes)
		df_digest_merge(&d, df_hash_bytes(m->fallback, sizeof(m->fallback), 1));
	return d;
}

bool
df_tok_bpe_is_bytes(const struct tok_bpe *m)
{
	for (uint32_t b = 0; b < 256; b++)
		if (m->byte_id[b] != b)
			return false;
	return m->bytes && m->vocab.n_entries == 256 && m->n_merges == 0;
}
