/*
 * vocab.c - a model's vocabulary: texts to ids and back.
 *
 * A hash table over one string of all texts; ids are checked before they
 * become indices.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "token/token_priv.h"

uint32_t
df_tok_vocab_find(const void *vocab, const char *text, size_t n)
{
	const struct tok_vocab *v = vocab;
	size_t i = df_hash_bytes(text, n, 0).lo & v->slot_mask;

	for (; v->slot[i] != DF_NO_TOKEN; i = (i + 1) & v->slot_mask) {
		const struct tok_entry *e = &v->entry[v->slot[i]];

		if (e->n == n && memcmp(v->text.data + e->at, text, n) == 0)
			return e->id;
	}
	return DF_NO_TOKEN;
}

const char *
df_tok_vocab_text(const struct tok_vocab *v, uint32_t id, size_t *n)
{
	const struct tok_entry *e;

	if (id >= v->n_ids || v->by_id[id] == DF_NO_TOKEN)
		return NULL;
	e = &v->entry[v->by_id[id]];
	*n = e->n;
	return v->text.data + e->at;
}

static int
add_entry(struct tok_vocab *v, const char *key, int64_t id, struct df_err *err)
{
	size_t i, len = strlen(key);
	int rc;

	v->entry[v->n_entries] = (struct tok_entry){ .at = v->text.len, .n = (uint32_t)len, .id = (uint32_t)id };
	df_buf_add(&v->text, key, len);
	DF_TRY(df_buf_check(&v->text, err));
	for (i = df_hash_bytes(key, len, 0).lo & v->slot_mask; v->slot[i] != DF_NO_TOKEN;)
		i = (i + 1) & v->slot_mask;
	v->slot[i] = v->n_entries++;
	df_digest_merge(&v->digest, df_hash_bytes(key, len, (uint64_t)id));
	if ((size_t)id >= v->n_ids)
		v->n_ids = (size_t)id + 1;
out:
	return rc;
}

static int
index_ids(struct tok_vocab *v, struct df_err *err)
{
	int rc;

	DF_TRY(df_alloc(&v->by_id, v->n_ids, sizeof(*v->by_id), "the vocabulary", err));
	memset(v->by_id, 0xFF, v->n_ids * sizeof(*v->by_id));
	for (uint32_t i = 0; i < v->n_entries; i++) {
		const struct tok_entry *e = &v->entry[i], *other;

		if (v->by_id[e->id] != DF_NO_TOKEN) {
			other = &v->entry[v->by_id[e->id]];
			rc = df_fail(err, DF_EFORMAT, "model.vocab: '%.*s' and '%.*s' both have id %u", (int)other->n,
			    v->text.data + other->at, (int)e->n, v->text.data + e->at, e->id);
			goto out;
		}
		v->by_id[e->id] = i;
	}
out:
	return rc;
}

int
df_tok_vocab_load(struct tok_vocab *v, const struct df_json_value *vocab, struct df_err *err)
{
	const struct df_json_member *at = NULL;
	const struct df_json_value *value;
	size_t n = df_json_size(vocab), limit = 8 * n + 65536;
	const char *key;
	int64_t id;
	int rc;

	if (df_json_type(vocab) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "model.vocab: expected an object, found %s", df_json_type_name(vocab));
	v->slot_mask = df_tok_table_size(n) - 1;
	DF_TRY(df_alloc(&v->entry, n, sizeof(*v->entry), "the vocabulary", err));
	DF_TRY(df_alloc(&v->slot, v->slot_mask + 1, sizeof(*v->slot), "the vocabulary", err));
	memset(v->slot, 0xFF, (v->slot_mask + 1) * sizeof(*v->slot));
	while ((at = df_json_next(vocab, at, &key, &value)) != NULL) {
		if (!df_json_int(value, &id)) {
			rc = df_fail(err, DF_EFORMAT, "model.vocab '%s': the id is %s", key, df_json_type_name(value));
			goto out;
		}
		/* Ids are used as indices: a wrong one must not cost more memory than the file is long. */
		if (id < 0 || (uint64_t)id >= limit) {
			rc = df_fail(
			    err, DF_EFORMAT, "model.vocab '%s': id %lld in a vocabulary of %zu", key, (long long)id, n);
			goto out;
		}
		DF_TRY(add_entry(v, key, id, err));
	}
	DF_TRY(index_ids(v, err));
out:
	return rc;
}

void
df_tok_vocab_release(struct tok_vocab *v)
{
	df_buf_release(&v->text);
	free(v->entry);
	free(v->slot);
	free(v->by_id);
	*v = (struct tok_vocab){ .n_ids = 0 };
}
