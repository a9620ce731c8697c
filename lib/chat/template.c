/*
 * template.c - opening a template by name or from a file, its digest, and the tokens that it adds to a tokenizer.
 */
#include "chat/template.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "chat/template_priv.h"

static bool
is_path(const char *name)
{
	static const char *const endings[] = { ".yaml", ".yml", ".json" };
	const size_t n = strlen(name);

	if (strchr(name, '/'))
		return true;
	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		const size_t m = strlen(endings[i]);

		if (n > m && strcmp(name + n - m, endings[i]) == 0)
			return true;
	}
	return false;
}

int
df_template_open(const struct df_template **out, const char *name_or_path, struct df_err *err)
{
	return is_path(name_or_path) ? df_template_load(out, name_or_path, err)
				     : df_template_find(out, name_or_path, err);
}

void
df_template_close(const struct df_template *t)
{
	if (t && t->own)
		df_template_own_free(t->own);
}

/* Add a text, or that there is none, so that it cannot run into the next one. */
static void
digest_text(struct df_hasher *h, const char *s)
{
	df_hasher_add(h, s ? "+" : "-", 1);
	if (s)
		df_hasher_add(h, s, strlen(s) + 1);
}

int
df_template_digest(const struct df_template *t, char hex[DF_DIGEST_HEX], struct df_err *err)
{
	const uint8_t how[] = { (uint8_t)t->tool_format, t->replace_eos, t->efficient_eos, t->fuse_system,
		t->reasoning };
	struct df_hasher *h = NULL;
	int rc = DF_OK;

	DF_TRY(df_hasher_new(&h, 0, err));
	for (enum df_slot s = 0; s < DF_SLOT_COUNT; s++)
		for (const struct df_elem *e = df_template_slot(t, s);; e++) {
			const uint8_t kind = (uint8_t)e->kind;

			df_hasher_add(h, &kind, 1);
			digest_text(h, e->text);
			if (e->kind == DF_ELEM_END)
				break;
		}
	digest_text(h, t->default_system);
	for (size_t i = 0; i == 0 || t->stop_words[i - 1]; i++)
		digest_text(h, t->stop_words[i]);
	for (size_t i = 0; i < 2; i++) {
		digest_text(h, t->thought_words[i]);
		digest_text(h, t->tool_call_words[i]);
	}
	df_hasher_add(h, how, sizeof(how));
	df_digest_hex(df_hasher_end(h), hex);
out:
	df_hasher_free(h);
	return rc;
}

/* The eos of this template; NULL: the tokenizer's. */
static const char *
eos_word(const struct df_template *t, const struct df_tokenizer *tok)
{
	if (t->replace_eos)
		return t->stop_words[0];
	return df_tokenizer_eos(tok) == DF_NO_TOKEN ? "<|endoftext|>" : NULL;
}

int
df_template_add_tokens(const struct df_template *t, struct df_tokenizer *tok, struct df_err *err)
{
	const char *eos = eos_word(t, tok);
	uint32_t id;
	int rc = DF_OK;

	if (eos)
		DF_TRY(df_tokenizer_add_special(tok, eos, &id, err));
	for (const char *const *stop = t->stop_words; *stop; stop++)
		DF_TRY(df_tokenizer_add_special(tok, *stop, &id, err));
out:
	if (rc != DF_OK)
		df_err_prefix(err, "template '%s': ", t->name);
	return rc;
}

int
df_template_fix_tokenizer(const struct df_template *t, struct df_tokenizer *tok, uint32_t *pad, struct df_err *err)
{
	const uint32_t before = df_tokenizer_vocab_size(tok);
	const char *eos = eos_word(t, tok);
	uint32_t after;
	int rc;

	DF_TRY(df_template_add_tokens(t, tok, err));
	if (eos)
		DF_TRY(df_tokenizer_set_eos(tok, eos, err));
	*pad = df_tokenizer_pad(tok);
	if (*pad == DF_NO_TOKEN)
		*pad = df_tokenizer_eos(tok);
	after = df_tokenizer_vocab_size(tok);
	if (after != before)
		df_warn("template '%s' adds %u tokens to the tokenizer (vocabulary %u -> %u): "
			"the model's embeddings must have room for them (resize_vocab)",
		    t->name, after - before, before, after);
out:
	return rc;
}
