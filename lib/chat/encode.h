/*
 * encode.h - an example becomes token ids and a label mask.
 *
 * Stage sft: the template's slots, turn by turn; answers are targets; each
 * round is cut to what is left of cutoff_len by LLaMA-Factory's infer_seqlen.
 * Stage pt: the text and an eos, every token a target.
 * For generation: df_encode_prompt, a conversation up to where an answer begins.
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

/* enable_thinking, for templates of reasoning models; the others do not ask. */
enum df_thinking {
	DF_THINKING_TRUE,  /* an answer without a thought gets an empty one, to be learnt */
	DF_THINKING_FALSE, /* thoughts are removed; the empty one belongs to the question */
	DF_THINKING_NULL   /* thoughts stay; the empty one of an answer without belongs to the question */
};

struct df_encode_opts {
	enum df_stage stage;
	uint32_t cutoff_len;        /* the most tokens of a row; >= 1 */
	bool train_on_prompt;       /* sft: questions are targets too */
	bool mask_history;          /* sft: only the last answer is a target, and is cut last */
	bool split_special;         /* tokens' names in the data are plain text */
	bool packing;               /* pt: df_encode leaves the text uncut, for df_packer */
	const char *default_system; /* sft: instead of the template's; NULL = the template's */
	const char *tool_format;    /* sft: instead of the template's; NULL = the template's */
	const char *date;           /* sft: today to tools in llama3's format, "2024-07-26"; NULL = they are refused */
	enum df_thinking thinking;  /* sft: of reasoning templates */
	/*
	 * Reasoning templates: earlier answers keep their thoughts where only the
	 * last one counts (mask_history, df_encode_prompt).  LLaMA-Factory 0.9.4
	 * has no such choice: mask_history keeps them and prompts do not; 0.9.6 has it.
	 */
	bool preserve_thinking;
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

/* Encoded rows, end to end. */
struct df_encoded {
	struct df_ids ids;
	uint8_t *mask; /* ids.n of them: 1 = a target; 2 = the row's last token, an eos, is the target in its place */
	size_t cap_mask;
};
#define DF_ENCODED_INIT { { NULL, 0, 0 }, NULL, 0 }
void df_encoded_release(struct df_encoded *r);

/* Why nothing of a row can be learnt.  It is kept all the same, as by LLaMA-Factory, and so must be spoken of. */
enum df_unlearnt {
	DF_UNLEARNT_NONE,
	DF_UNLEARNT_CUT,   /* cutoff_len left nothing of the answers: no target, or an end (eos) at most */
	DF_UNLEARNT_EMPTY, /* what is to be learnt has no text: the same */
	DF_UNLEARNT_COUNT
};
const char *df_unlearnt_about(enum df_unlearnt u); /* for messages, after a number of rows */

/* What encoding did to a row. */
struct df_encode_info {
	size_t n;                  /* its tokens */
	size_t n_targets;          /* those with a label */
	bool truncated;            /* something did not fit into cutoff_len */
	enum df_unlearnt unlearnt;
};

/* Would the row have no token at all (empty texts in a template without any of its own)? */
bool df_encode_is_empty(const struct df_encoder *e, const struct df_example *ex);

/* Append the row of an example that is not dropped.  DF_EFORMAT: text that is not UTF-8, with the byte. */
int df_encode(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, struct df_encoded *out,
    struct df_encode_info *info, struct df_err *err) DF_MUST_CHECK;

/*
 * Look for what df_encode would refuse in a row, without tokenising: tools and
 * calls of tools that are not what they should be.  DF_EFORMAT says where.
 */
int df_encode_check(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex,
    struct df_err *err) DF_MUST_CHECK;

/*
 * Append the prompt of a conversation, ready for an answer to be generated:
 * all of it up to the last answer, or all of it when a question stands last
 * (an odd number of turns).  Not cut to length.  As LLaMA-Factory's
 * encode_oneturn has it: a template's empty thought is part of the prompt
 * unless thinking is DF_THINKING_TRUE, or the last answer has a thought.
 */
int df_encode_prompt(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex,
    struct df_ids *out, struct df_err *err) DF_MUST_CHECK;

/*
 * The lengths that a source of S and a target of T tokens are cut to, so that
 * they fit into C (LLaMA-Factory, infer_seqlen): a short target keeps its
 * length, then a short source, else both shrink in proportion.
 */
void df_infer_seqlen(size_t S, size_t T, size_t C, size_t *source, size_t *target);

#endif
