/*
 * embed_priv.h - what the files of this room share.
 */
#ifndef DF_EMBED_PRIV_H
#define DF_EMBED_PRIV_H

#include "embed/embed.h"

/* What a directory of sentence-transformers says; of any other directory only `model` and `max_length`. */
struct df_embed_dir {
	char *model;             /* the directory of config.json and the weights */
	enum df_pooling pooling; /* DF_POOL_DEFAULT: it says nothing */
	int normalise;           /* 1, 0, or -1: it says nothing */
	size_t max_length;       /* SIZE_MAX: it says nothing */
	bool lower;              /* texts are lowered before they are tokenised */
	bool exclude_prompt;     /* the prompt's tokens are not pooled */
	char *prompt;            /* of prompt_name, or the default; NULL: none */
};
/* dir.c */
int df_embed_dir_read(struct df_embed_dir *d, const char *dir, const char *prompt_name, struct df_err *err)
    DF_MUST_CHECK;
void df_embed_dir_release(struct df_embed_dir *d);

#endif
