/*
 * provenance.h - which tokenizer and template made tokens: noted in their parameters, and what turns them back into
 * text.
 */
#ifndef DF_DATA_PROVENANCE_H
#define DF_DATA_PROVENANCE_H

#include "base/err.h"
#include "chat/template.h"
#include "shard/shard.h"
#include "token/tokenizer.h"

/*
 * Record in the parameters of tokens: the tokenizer that made them, the tokens that a template added to it, and the
 * template (NULL: none): its name and, for one from a file, its digest.
 */
int df_tokens_note(struct df_meta *m, const struct df_tokenizer *tok, const struct df_template *t, struct df_err *err)
    DF_MUST_CHECK;
/* All of this, and the tokenizer as an input, for tokens that are made of other tokens. */
int df_tokens_copy_note(struct df_meta *to, const struct df_meta *from, struct df_err *err) DF_MUST_CHECK;
/*
 * Add to t the tokens that the template of these tokens added to their tokenizer. t then has their tokenizer's
 * id, if it is the tokenizer that they were made with.  DF_EFORMAT when the parameters are malformed.
 */
int df_tokens_restore(struct df_tokenizer *t, const struct df_meta *m, struct df_err *err) DF_MUST_CHECK;
/* The same, and DF_ELINEAGE when they were made with another tokenizer; `name` is theirs in messages. */
int df_tokens_check(struct df_tokenizer *t, const struct df_meta *m, const char *name, struct df_err *err)
    DF_MUST_CHECK;

#endif
