/*
 * embed_priv.h - what the files of this room share.
 */
#ifndef DF_EMBED_PRIV_H
#define DF_EMBED_PRIV_H

#include "embed/embed.h"

/* The settings of a directory of sentence-transformers; any other directory has `model` and `max_length` only. */
struct df_embed_dir {
	char *model;             /* the directory of config.json and the weights */
	enum df_pooling pooling; /* DF_POOL_DEFAULT: not given */
	int normalise;           /* 1, 0, or -1: not given */
	size_t max_length;       /* SIZE_MAX: not given */
	bool lower;              /* texts are put into lower case before they are tokenised */
	bool exclude_prompt;     /* the prompt's tokens are not pooled */
	char *prompt;            /* the text for prompt_name, or the default one; NULL: none */
};
/* dir.c */
int df_embed_dir_read(struct df_embed_dir *d, const char *dir, const char *prompt_name, struct df_err *err)
    DF_MUST_CHECK;
void df_embed_dir_release(struct df_embed_dir *d);

#endif
