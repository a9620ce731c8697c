/*
 * template.h - prompt templates: how a conversation becomes text.
 *
 * A template is data: for each role a *slot*, a short list of elements.  An
 * element is a text with at most one {{content}}, a token by name, or the
 * tokenizer's bos or eos.  Each text element is tokenised by itself, and
 * nothing merges across elements, turns or roles.  The rules and the slots
 * are LLaMA-Factory's, so that ids agree with what it trains on.
 */
#ifndef DF_TEXT_TEMPLATE_H
#define DF_TEXT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/tokenizer.h"

enum df_elem_kind {
	DF_ELEM_END,   /* closes a slot */
	DF_ELEM_TEXT,  /* text; its first {{content}} is the message, in user slots {{idx}} the round */
	DF_ELEM_TOKEN, /* one token, by its text */
	DF_ELEM_BOS,   /* nothing when the tokenizer has none */
	DF_ELEM_EOS    /* likewise */
};

struct df_elem {
	enum df_elem_kind kind;
	const char *text;
};

#define DF_SLOT_MAX 4   /* elements of a slot, the closing one included */
#define DF_STOP_MAX 3   /* stop words, the closing NULL included */

struct df_template {
	const char *name;
	const char *about;                        /* one line for --list-templates */
	struct df_elem prefix[DF_SLOT_MAX];       /* before everything else */
	struct df_elem system[DF_SLOT_MAX];       /* left out when there is no system text */
	struct df_elem user[DF_SLOT_MAX];
	struct df_elem assistant[DF_SLOT_MAX];
	struct df_elem observation[DF_SLOT_MAX];  /* what a tool returned */
	const char *default_system;               /* for rows without a system text */
	const char *stop_words[DF_STOP_MAX];
	bool replace_eos;                         /* the first stop word becomes eos */
};

/* The template of that name.  DF_EUSAGE suggests the nearest known one. */
int df_template_find(const struct df_template **out, const char *name, struct df_err *err) DF_MUST_CHECK;
/* Template i in alphabetical order, NULL past the last. */
const struct df_template *df_template_at(size_t i);

/*
 * What choosing a template does to a tokenizer, before anything is encoded:
 * replace eos, add a missing eos (<|endoftext|>), add the remaining stop
 * words.  A vocabulary that grows is a warning: the model's must grow too.
 * *pad is the padding id that results (eos where the tokenizer has none).
 */
int df_template_fix_tokenizer(const struct df_template *t, struct df_tokenizer *tok, uint32_t *pad,
    struct df_err *err) DF_MUST_CHECK;

#endif
