/*
 * template.h - prompt templates: how a conversation becomes text.
 *
 * A template is data: for each role a *slot*, a short list of elements.  An element is a text with at most one
 * {{content}}, a token by name, or the tokenizer's bos or eos.  Each text element is tokenised separately, so
 * tokens never merge across elements, turns or roles.  The rules and the slots are LLaMA-Factory's, so that the ids
 * are those that it trains on.
 *
 * Templates are built in (template_table.c) or come from the user's file, in
 * YAML or JSON; df-pack(1) describes it.
 */
#ifndef DF_CHAT_TEMPLATE_H
#define DF_CHAT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "chat/tools.h"
#include "token/tokenizer.h"

enum df_elem_kind {
	DF_ELEM_END,   /* closes a slot */
	DF_ELEM_TEXT,  /* text; its first {{content}} is the message, in user slots {{idx}} the round */
	DF_ELEM_TOKEN, /* one token, by its text */
	DF_ELEM_BOS,   /* no token when the tokenizer has none */
	DF_ELEM_EOS    /* also no token when the tokenizer has none */
};

struct df_elem {
	enum df_elem_kind kind;
	const char *text;
};

#define DF_SLOT_MAX 8 /* elements of a slot, including the closing one */
#define DF_STOP_MAX 8 /* stop words, including the closing NULL */

enum df_slot {
	DF_SLOT_PREFIX,      /* before everything else */
	DF_SLOT_SYSTEM,      /* left out when there is neither a system text nor tools */
	DF_SLOT_USER,
	DF_SLOT_ASSISTANT,
	DF_SLOT_OBSERVATION, /* a tool's result */
	DF_SLOT_FUNCTION,    /* a call of tools */
	DF_SLOT_COUNT
};

struct df_template_own;

/* A slot without elements is the default one: ask df_template_slot. */
struct df_template {
	const char *name;
	const char *about;                              /* one line for --list-templates */
	struct df_elem slot[DF_SLOT_COUNT][DF_SLOT_MAX];
	const char *default_system;                     /* for rows without a system text; NULL: none */
	const char *stop_words[DF_STOP_MAX];
	const char *thought_words[2];                   /* NULL: "<think>\n" and "\n</think>\n\n" */
	const char *tool_call_words[2];                 /* NULL: "<tool_call>" and "</tool_call>" */
	enum df_tool_format tool_format;
	bool replace_eos;                               /* the first stop word becomes eos */
	bool efficient_eos;                             /* answers have no eos of their own; one eos ends the row */
	bool fuse_system;                               /* the system text opens the first user's message */
	bool reasoning;                                 /* answers begin with a thought, which may be empty */
	struct df_template_own *own;                    /* of a template from a file, opaque; NULL: built in */
};

/*
 * The template of that name or, when the name has a '/' in it or ends in .yaml, .yml or .json, the one in that
 * file.  DF_EUSAGE suggests the nearest known name; DF_ECONFIG names the fault in a file.  Release it with
 * df_template_close, after every encoder made with it.
 */
int df_template_open(const struct df_template **out, const char *name_or_path, struct df_err *err) DF_MUST_CHECK;
void df_template_close(const struct df_template *t); /* accepts NULL and built-in templates */
/* The template in a file of any name.  The file is small (1 MiB at most); its format is in df-pack(1). */
int df_template_load(const struct df_template **out, const char *path, struct df_err *err) DF_MUST_CHECK;

/* The built-in template of that name.  DF_EUSAGE suggests the nearest known one. */
int df_template_find(const struct df_template **out, const char *name, struct df_err *err) DF_MUST_CHECK;
/* Template i in alphabetical order, NULL after the last. */
const struct df_template *df_template_at(size_t i);
/* The names of all of them, NULL at the end.  First called by one thread. */
const char *const *df_template_names(void);
/* Append a line for each of them: its name, and what it is for. */
void df_template_list(struct df_buf *out);

/*
 * The digest of everything that changes ids, so not of name and description.  It distinguishes a file's template
 * from another one of the same name.
 */
int df_template_digest(const struct df_template *t, char hex[DF_DIGEST_HEX], struct df_err *err) DF_MUST_CHECK;

/*
 * The elements of a slot, with LLaMA-Factory's defaults: system and user are the bare text, an answer is its text
 * and eos (no eos with efficient_eos), observations are like the user's turns, calls like the assistant's.
 */
const struct df_elem *df_template_slot(const struct df_template *t, enum df_slot s);

/*
 * Apply a template's changes to a tokenizer, before anything is encoded: replace eos, add a missing eos
 * (<|endoftext|>), add the remaining stop words.  If the vocabulary grows, that is a warning, because the model's
 * must also grow.  *pad is the resulting padding id (eos when the tokenizer has none).
 */
int df_template_fix_tokenizer(const struct df_template *t, struct df_tokenizer *tok, uint32_t *pad,
    struct df_err *err) DF_MUST_CHECK;
/* Only add these tokens, without changing eos and without a warning: for decoding. */
int df_template_add_tokens(const struct df_template *t, struct df_tokenizer *tok, struct df_err *err) DF_MUST_CHECK;

#endif
