/*
 * provenance.c - what is needed to turn tokens back into text: the tokenizer that made them.
 *
 * A template may add tokens to a tokenizer.  The parameters of such tokens have, in addition to the id
 * of the tokenizer that made them,
 *
 *	base_tokenizer   the id before the template's tokens were added
 *	added_token.ID   the text of each token that was added, or made special, in that order
 *
 * Older files have the template's name only, which is enough where the template is built in.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/opt.h"
#include "data/provenance.h"

#define TOKEN DF_META_ADDED_TOKEN

static int
note_template(struct df_meta *m, const struct df_template *t, struct df_err *err)
{
	char digest[DF_DIGEST_HEX];
	int rc;

	DF_TRY(df_meta_set_str(m, "template", t->name, err));
	if (!t->own)
		goto out;
	DF_TRY(df_template_digest(t, digest, err));
	rc = df_meta_set_str(m, "template_digest", digest, err);
out:
	return rc;
}

/* The tokens that a template added. */
static int
note_added(struct df_meta *m, const struct df_tokenizer *tok, struct df_err *err)
{
	const char *text;
	uint32_t id;
	int rc;

	DF_TRY(df_meta_set_str(m, DF_META_BASE_TOKENIZER, df_tokenizer_opened_id(tok), err));
	for (size_t i = 0; (text = df_tokenizer_added_later(tok, i, &id)) != NULL; i++) {
		char key[sizeof(TOKEN) + 16];

		snprintf(key, sizeof(key), TOKEN "%u", (unsigned)id);
		DF_TRY(df_meta_set_str(m, key, text, err));
	}
out:
	return rc;
}

int
df_tokens_note(struct df_meta *m, const struct df_tokenizer *tok, const struct df_template *t, struct df_err *err)
{
	int rc;

	DF_TRY(df_meta_set_str(m, "tokenizer", df_tokenizer_id(tok), err));
	DF_TRY(df_meta_set_int(m, "vocab_size", df_tokenizer_vocab_size(tok), err));
	if (strcmp(df_tokenizer_id(tok), df_tokenizer_opened_id(tok)) != 0)
		DF_TRY(note_added(m, tok, err));
	if (t)
		rc = note_template(m, t, err);
out:
	return rc;
}

int
df_tokens_copy_note(struct df_meta *to, const struct df_meta *from, struct df_err *err)
{
	static const char *const keys[] = { "tokenizer", "vocab_size", "template", "template_digest",
		DF_META_BASE_TOKENIZER };
	const struct df_input *tokenizer = df_meta_input(from, "tokenizer");
	int rc = DF_OK;

	if (tokenizer)
		DF_TRY(df_meta_add_input(to, "tokenizer", "tokenizer", tokenizer->id, err));
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		DF_TRY(df_meta_copy_param(to, from, keys[i], err));
	for (size_t i = 0; i < from->n_params; i++) {
		if (strncmp(from->params[i].key, TOKEN, sizeof(TOKEN) - 1) == 0)
			DF_TRY(df_meta_copy_param(to, from, from->params[i].key, err));
	}
out:
	return rc;
}

static int
add_noted(struct df_tokenizer *t, const struct df_meta *m, struct df_err *err)
{
	char *text = NULL;
	int rc = DF_OK;

	for (size_t i = 0; i < m->n_params; i++) {
		const char *key = m->params[i].key;
		int64_t want;
		uint32_t id;

		if (strncmp(key, TOKEN, sizeof(TOKEN) - 1) != 0)
			continue;
		if (df_parse_int(key + sizeof(TOKEN) - 1, 0, INT32_MAX, &want, NULL) != DF_OK ||
		    !df_meta_get_str(m, key, &text)) {
			rc = df_fail(err, DF_EFORMAT, "df_params: '%.100s' is not the text of a token", key);
			goto out;
		}
		DF_TRY(df_tokenizer_add_special(t, text, &id, err));
		if (id != want) {
			rc = df_fail(err, DF_EFORMAT, "df_params: '%.100s': in tokenizer %s it would be %u", key,
			    df_tokenizer_path(t), (unsigned)id);
			goto out;
		}
		free(text);
		text = NULL;
	}
out:
	free(text);
	return rc;
}

int
df_tokens_restore(struct df_tokenizer *t, const struct df_meta *m, struct df_err *err)
{
	const struct df_template *template;
	char *made_with = NULL, *base = NULL, *name = NULL;
	int rc = DF_OK;

	df_meta_get_str(m, "tokenizer", &made_with);
	df_meta_get_str(m, DF_META_BASE_TOKENIZER, &base);
	if (!made_with || strcmp(made_with, df_tokenizer_id(t)) == 0)
		goto out;
	if (base) {
		if (strcmp(base, df_tokenizer_id(t)) == 0)
			DF_TRY(add_noted(t, m, err));
		goto out;
	}
	if (!df_meta_param(m, "template_digest") && df_meta_get_str(m, "template", &name) &&
	    df_template_find(&template, name, NULL) == DF_OK)
		DF_TRY(df_template_add_tokens(template, t, err));
out:
	free(made_with);
	free(base);
	free(name);
	return rc;
}

int
df_tokens_check(struct df_tokenizer *t, const struct df_meta *m, const char *name, struct df_err *err)
{
	char *made_with = NULL;
	int rc;

	DF_TRY(df_tokens_restore(t, m, err));
	df_meta_get_str(m, "tokenizer", &made_with);
	rc = df_tokenizer_check(t, made_with, name, err);
out:
	free(made_with);
	return rc;
}
