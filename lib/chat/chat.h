/*
 * chat.h - what text goes through on its way to a model: a tokenizer, a template, and the encoder of both.
 */
#ifndef DF_CHAT_CHAT_H
#define DF_CHAT_CHAT_H

#include <stdbool.h>

#include "base/err.h"
#include "chat/encode.h"
#include "chat/template.h"
#include "token/tokenizer.h"

struct df_chat_opts {
	const char *tokenizer;       /* its name or path; NULL: the one in dir or, if there is none, in base_dir */
	const char *dir, *base_dir;  /* of a model, and of its base model; NULL: none */
	const char *template;        /* its name or path; NULL: texts stay as they are, or: */
	bool need_template;          /* without a name it is 'empty', with a warning */
	struct df_encode_opts encode;
};

struct df_chat {
	struct df_tokenizer *tok;
	const struct df_template *template; /* NULL: none */
	struct df_encoder *enc;             /* NULL without a template */
};

/*
 * Open all of it into *c, which is zeroes; close it also when this failed.  DF_EUSAGE when the model's directories
 * have no tokenizer.json either; errors as df_tokenizer_open, df_template_open and df_encoder_new.
 */
int df_chat_open(struct df_chat *c, const struct df_chat_opts *o, struct df_err *err) DF_MUST_CHECK;
/* The tokenizer alone. */
int df_chat_open_tokenizer(struct df_chat *c, const struct df_chat_opts *o, struct df_err *err) DF_MUST_CHECK;
void df_chat_close(struct df_chat *c); /* accepts zeroes */

#endif
