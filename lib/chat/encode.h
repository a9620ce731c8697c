/*
 * encode.h - an example becomes token ids and a label mask.
 *
 * Stage sft: the template's slots, turn by turn; answers are targets; each round is cut to the rest of cutoff_len
 * by LLaMA-Factory's infer_seqlen.  Stage pt: the text and an eos, every token a target.  For generation:
 * df_encode_prompt, a conversation up to the beginning of an answer.
 *
 * Thread rule: an encoder is immutable; each thread has a df_encscratch.
 */
#ifndef DF_CHAT_ENCODE_H
#define DF_CHAT_ENCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "chat/example.h"
#include "chat/template.h"
#include "token/tokenizer.h"

/* enable_thinking, for templates of reasoning models; other templates ignore it. */
enum df_thinking {
	DF_THINKING_TRUE,  /* an answer without a thought gets an empty one, as a target */
	DF_THINKING_FALSE, /* thoughts are removed; the empty one belongs to the question */
	DF_THINKING_NULL   /* thoughts stay; the empty one of an answer without a thought belongs to the question */
};

struct df_encode_opts {
	enum df_data_stage stage;
	uint32_t cutoff_len;        /* the most tokens of a row; >= 1 */
	bool train_on_prompt;       /* sft: questions are also targets */
	bool mask_history;          /* sft: only the last answer is a target, and is cut last */
	bool split_special;         /* tokens' names in the data are plain text */
	bool packing;               /* pt: df_encode does not cut the text, for df_packer */
	const char *default_system; /* sft: instead of the template's; NULL = the template's */
	const char *tool_format;    /* sft: instead of the template's; NULL = the template's */
	const char *date;           /* sft: today, for tools in llama3's format, "2024-07-26"; NULL = refused */
	enum df_thinking thinking;  /* sft: for reasoning templates */
	/*
	 * Reasoning templates: earlier answers keep their thoughts when only the last one counts (mask_history,
	 * df_encode_prompt).  LLaMA-Factory 0.9.6 has this choice; in 0.9.4 mask_history keeps them and prompts do
	 * not.
	 */
	bool preserve_thinking;
	/*
	 * sft: rows without their prompts, for losses of the responses alone.  Each answer that counts (mask_history:
	 * the last) has the tokens and targets of the whole row, cut as there, and before it only what the template
	 * writes between a question and an answer.  Systems, tools and questions are left out.  A row is never longer
	 * than with its prompt.  Not with train_on_prompt.
	 */
	bool no_prompt;
};

struct df_encoder;
struct df_encscratch;

/*
 * Bind a template to a tokenizer, which gets the template's fix-ups first (so
 * that its vocabulary and eos may change).  Both are borrowed, and must not
 * change afterwards.  DF_EUSAGE for options that exclude each other.
 */
int df_encoder_new(struct df_encoder **out, const struct df_template *t, struct df_tokenizer *tok,
    const struct df_encode_opts *opts, struct df_err *err) DF_MUST_CHECK;
void df_encoder_free(struct df_encoder *e); /* accepts NULL */
uint32_t df_encoder_pad(const struct df_encoder *e); /* the padding id after the fix-ups */
/* The tokens that end an answer: eos and the template's stop words.  Borrowed from the encoder. */
const struct df_ids *df_encoder_stops(const struct df_encoder *e);

int df_encscratch_new(struct df_encscratch **out, const struct df_encoder *e, struct df_err *err) DF_MUST_CHECK;
void df_encscratch_free(struct df_encscratch *s); /* accepts NULL */

/* Encoded rows, one after the other. */
struct df_encoded {
	struct df_ids ids;
	uint8_t *mask; /* [ids.n]: 1 = a target; 2 = the row's last token, an eos, is the target here */
	size_t cap_mask;
};
#define DF_ENCODED_INIT { { NULL, 0, 0 }, NULL, 0 }
void df_encoded_release(struct df_encoded *r);

/* Why a row teaches nothing.  Such a row is kept, as in LLaMA-Factory, so the user must be told. */
enum df_unlearnt {
	DF_UNLEARNT_NONE,
	DF_UNLEARNT_CUT,   /* cutoff_len left nothing of the answers: no target, or only an eos */
	DF_UNLEARNT_EMPTY, /* the answers have no text: also no target, or only an eos */
	DF_UNLEARNT_COUNT
};
const char *df_unlearnt_about(enum df_unlearnt u); /* for messages, after a number of rows */

/* What encoding did to a row. */
struct df_encode_info {
	size_t n;                  /* its tokens */
	size_t n_targets;          /* number of tokens that are targets */
	bool truncated;            /* something did not fit into cutoff_len */
	enum df_unlearnt unlearnt;
};

/* Would the row have no token at all (empty texts, in a template without texts of its own)? */
bool df_encode_is_empty(const struct df_encoder *e, const struct df_example *ex);

/* Append the row of an example that is not dropped.  DF_EFORMAT: text that is not UTF-8, with the byte. */
int df_encode(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, struct df_encoded *out,
    struct df_encode_info *info, struct df_err *err) DF_MUST_CHECK;

/*
 * Check a row for what df_encode would refuse, without tokenising: malformed tools and calls of tools.  DF_EFORMAT
 * names the place.
 */
int df_encode_check(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex,
    struct df_err *err) DF_MUST_CHECK;

/*
 * Append the prompt of a conversation, ready for an answer to be generated: all of it up to the last answer, or all
 * of it when it ends with a question (an odd number of turns).  It is not cut to length.  As in LLaMA-Factory's
 * encode_oneturn, a template's empty thought is part of the prompt unless thinking is DF_THINKING_TRUE, or the last
 * answer has a thought.
 */
int df_encode_prompt(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex,
    struct df_ids *out, struct df_err *err) DF_MUST_CHECK;

/*
 * The lengths to which a source of S and a target of T tokens are cut, so that they fit into C (LLaMA-Factory,
 * infer_seqlen): a short target keeps its length, then a short source, else both shrink in proportion.
 */
void df_infer_seqlen(size_t S, size_t T, size_t C, size_t *source, size_t *target);

#endif
