/*
 * chat.c - tokenizer, template and encoder, opened in one place.
 */
#include "chat/chat.h"

#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"

/* Open the tokenizer in a directory, if there is one. */
static int
in_dir(struct df_tokenizer **out, const char *dir, struct df_err *err)
{
	char *path = NULL;
	bool there;
	int rc = DF_OK;

	if (!dir)
		return DF_OK;
	DF_TRY(df_path_join(&path, dir, "tokenizer.json", err));
	DF_TRY(df_file_probe(path, &there, err));
	if (there)
		rc = df_tokenizer_open(out, dir, err);
out:
	free(path);
	return rc;
}

int
df_chat_open_tokenizer(struct df_chat *c, const struct df_chat_opts *o, struct df_err *err)
{
	int rc;

	if (o->tokenizer)
		return df_tokenizer_open(&c->tok, o->tokenizer, err);
	DF_TRY(in_dir(&c->tok, o->dir, err));
	if (!c->tok)
		DF_TRY(in_dir(&c->tok, o->base_dir, err));
	if (!c->tok)
		rc = df_fail(err, DF_EUSAGE, "%s has no tokenizer.json: name a tokenizer with --tokenizer", o->dir);
out:
	return rc;
}

int
df_chat_open(struct df_chat *c, const struct df_chat_opts *o, struct df_err *err)
{
	const char *name = o->template;
	int rc;

	DF_TRY(df_chat_open_tokenizer(c, o, err));
	if (!name && o->need_template) {
		df_warn("no --template is given; using 'empty', which adds nothing to the texts");
		name = "empty";
	}
	if (name) {
		DF_TRY(df_template_open(&c->template, name, err));
		DF_TRY(df_encoder_new(&c->enc, c->template, c->tok, &o->encode, err));
	}
out:
	return rc;
}

void
df_chat_close(struct df_chat *c)
{
	df_encoder_free(c->enc);
	df_template_close(c->template);
	df_tokenizer_free(c->tok);
	*c = (struct df_chat){ 0 };
}
