/*
 * encode.h - an example becomes token ids and a label mask.
 *
 * Stage sft: the template's slots, turn by turn; answers are targets; each
 * round is cut to what is left of cutoff_len by LLaMA-Factory's infer_seqlen.
 * Stage pt: the text and an eos, every token a target.
 *
 * Thread rule: an encoder is immutable; each thread has a df_encscratch.
 */
#ifndef DF_TEXT_ENCODE_H
#define DF_TEXT_ENCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/dataset.h"
#include "text/template.h"
#include "text/tokenizer.h"

struct df_encode_opts {
	enum df_stage stage;
	uint32_t cutoff_len;        /* the most tokens of a row; >= 1 */
	bool train_on_prompt;       /* sft: questions are targets too */
	bool mask_history;          /* sft: only the last answer is a target, and is cut last */
	bool split_special;         /* tokens' names in the data are plain text */
	bool packing;               /* pt: df_encode leaves the text uncut, for df_packer */
	const char *default_system; /* sft: instead of the template's; NULL = the template's */
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

int df_encscratch_new(struct df_encscratch **out, const struct df_encoder *e, struct df_err *err) DF_MUST_CHECK;
void df_encscratch_free(struct df_encscratch *s); /* accepts NULL */

/* Encoded rows, end to end. */
struct df_encoded {
	struct df_ids ids;
	uint8_t *mask; /* ids.n of them: 1 = a target */
	size_t cap_mask;
};
#define DF_ENCODED_INIT { { NULL, 0, 0 }, NULL, 0 }
void df_encoded_release(struct df_encoded *r);

/* What encoding did to a row. */
struct df_encode_info {
	size_t n;         /* its tokens */
	size_t n_targets; /* those with a label; 0: the row has no loss */
	bool truncated;   /* something did not fit into cutoff_len */
};

/* Would the row have no token at all (empty texts in a template without any of its own)? */
bool df_encode_is_empty(const struct df_encoder *e, const struct df_example *ex);

/* Append the row of an example that is not dropped.  DF_EFORMAT: text that is not UTF-8, with the byte. */
int df_encode(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, struct df_encoded *out,
    struct df_encode_info *info, struct df_err *err) DF_MUST_CHECK;

/*
 * The lengths that a source of S and a target of T tokens are cut to, so that
 * they fit into C (LLaMA-Factory, infer_seqlen): a short target keeps its
 * length, then a short source, else both shrink in proportion.
 */
void df_infer_seqlen(size_t S, size_t T, size_t C, size_t *source, size_t *target);

#endif
