/*
 * completion.h - what a completion is written as: a row of tokens, or a line of JSON.
 */
#ifndef DF_SAMPLE_COMPLETION_H
#define DF_SAMPLE_COMPLETION_H

#include "base/buf.h"
#include "base/err.h"
#include "chat/encode.h"
#include "sample/generate.h"
#include "sample/prompts.h"
#include "shard/token_writer.h"

/*
 * Prompt and completion as a row, the completion its targets.  n_samples: completions of each prompt, which number the
 * rows.  The row lies in buf, and is valid until buf changes.
 */
int df_completion_row(struct df_token_row *row, struct df_encoded *buf, const struct df_prompts *p,
    const struct df_completion *c, uint32_t n_samples, struct df_err *err) DF_MUST_CHECK;

/* Append {"id", "sample", "domain", "prompt", "completion", "answer", "tokens", "finish", "logprob"} and a newline. */
int df_completion_line(struct df_buf *out, const struct df_tokenizer *tok, const struct df_prompts *p,
    const struct df_completion *c, struct df_err *err) DF_MUST_CHECK;

#endif
