/*
 * tokenizer_special.c - tokens that are not the model's: they are added, looked up, and made part of the
 * tokenizer's id.  Also the tokenizer "bytes", which has only such tokens.
 */
#include <string.h>

#include "base/utf8.h"
#include "token/token_priv.h"

#define BYTES_BOS 256
#define BYTES_EOS 257
#define BYTES_PAD 258

static const char *const bytes_names[] = { "<|bos|>", "<|eos|>", "<|pad|>" };

/* The model's vocabulary for tokens that are added: single characters of the byte-level alphabet. */
static uint32_t
bytes_find(const void *ctx, const char *text, size_t n)
{
	size_t len;
	int b;

	(void)ctx;
	if (n == 0 || df_utf8_check(text, n) != n)
		return DF_NO_TOKEN;
	b = df_tok_char_byte(df_uc_get((const unsigned char *)text, &len));
	return len == n && b >= 0 ? (uint32_t)b : DF_NO_TOKEN;
}

static struct tok_vocab_view
vocab_of(const struct df_tokenizer *t)
{
	struct tok_vocab_view bytes = { .find = bytes_find, .size = 256 };

	if (t->vocab == NULL)
		return bytes;
	return (struct tok_vocab_view){ .find = df_tok_vocab_find, .ctx = t->vocab, .size = t->vocab->n_entries };
}

uint32_t
df_tokenizer_lookup(const struct df_tokenizer *t, const char *token)
{
	size_t n = strlen(token);
	const struct tok_added_token *a = df_tok_added_by_text(&t->added, token, n);
	struct tok_vocab_view vocab = vocab_of(t);

	return a != NULL ? a->id : vocab.find(vocab.ctx, token, n);
}

int
df_tok_add(
    struct df_tokenizer *t, const char *text, size_t n, struct tok_added_flags flags, uint32_t *id, struct df_err *err)
{
	struct tok_vocab_view vocab = vocab_of(t);

	return df_tok_added_add(&t->added, text, n, flags, &vocab, id, err);
}

static bool
is_plain_bytes(const struct df_tokenizer *t)
{
	bool same = t->vocab == NULL && t->added.n == 3;

	for (uint32_t i = 0; same && i < 3; i++) {
		const struct tok_added_token *a = df_tok_added_at(&t->added, i);

		same = a->id == 256 + i && strcmp(a->text, bytes_names[i]) == 0 && a->flags.special &&
		    !a->flags.normalized && !a->flags.single_word && !a->flags.lstrip && !a->flags.rstrip;
	}
	return same;
}

/*
 * The tokenizer's id is a digest of what decides token ids, not of a file's bytes.  So a tokenizer that was saved
 * with a checkpoint has the id of the one that packed the data.
 */
int
df_tok_finish(struct df_tokenizer *t, struct df_err *err)
{
	struct df_digest d = t->rules;
	int rc;

	DF_TRY(df_tok_added_build(&t->added, &t->norm, err));
	for (size_t i = 0; i < t->added.n; i++) {
		const struct tok_added_token *a = &t->added.token[i];
		uint64_t seed = (uint64_t)a->id << 8 | a->flags.special | a->flags.normalized << 1 |
		    a->flags.single_word << 2 | a->flags.lstrip << 3 | a->flags.rstrip << 4;

		df_digest_merge(&d, df_hash_bytes(a->text, a->n, seed));
	}
	if (is_plain_bytes(t))
		strcpy(t->id, "bytes");
	else
		df_digest_hex(d, t->id);
out:
	return rc;
}

int
df_tokenizer_add_special(struct df_tokenizer *t, const char *token, uint32_t *id, struct df_err *err)
{
	struct tok_added_flags special = { .special = true };
	const struct tok_added_token *old = df_tok_added_by_text(&t->added, token, strlen(token));
	int rc;

	if (old != NULL && old->flags.special) {
		*id = old->id;
		return DF_OK;
	}
	if (df_utf8_check(token, strlen(token)) != strlen(token))
		return df_fail(err, DF_EFORMAT, "special token '%s' is not UTF-8", token);
	DF_TRY(df_tok_add(t, token, strlen(token), special, id, err));
	DF_TRY(df_ids_add(&t->later, id, 1, err));
	t->changed = true;
	DF_TRY(df_tok_finish(t, err));
out:
	return rc;
}

int
df_tokenizer_set_eos(struct df_tokenizer *t, const char *token, struct df_err *err)
{
	uint32_t id;
	int rc;

	DF_TRY(df_tokenizer_add_special(t, token, &id, err));
	t->changed |= t->eos != id;
	t->eos = id;
out:
	return rc;
}

int
df_tok_load_bytes(struct df_tokenizer *t, struct df_err *err)
{
	struct tok_added_flags special = { .special = true };
	uint32_t id;
	int rc = DF_OK;

	for (size_t i = 0; i < 3; i++)
		DF_TRY(df_tok_add(t, bytes_names[i], strlen(bytes_names[i]), special, &id, err));
	DF_TRY(df_tok_decoder_new(&t->decoder, NULL, true, err));
	t->bos = BYTES_BOS;
	t->eos = BYTES_EOS;
	t->pad = BYTES_PAD;
	DF_TRY(df_tok_finish(t, err));
out:
	return rc;
}
