/*
 * generate.h - completions of many prompts at once.
 *
 * Sequences run side by side in the slots of a cache; each step adds one token to all of them, and one that
 * ends makes room for the next prompt in line.  A prompt is run once, and its samples start from copies.
 *
 * A completion depends on its prompt, its number, the seed and the model alone: neither order,
 * batching, slots nor threads change a bit of it.  Token t of completion `draw` of prompt `id` takes
 * draw (id << 24 | draw) of substream t of DF_RNG_GENERATE.
 */
#ifndef DF_SAMPLE_GENERATE_H
#define DF_SAMPLE_GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/pool.h"
#include "model/model.h"
#include "sample/prompts.h"
#include "sample/warp.h"
#include "token/tokenizer.h"

enum df_finish { DF_FINISH_LENGTH, DF_FINISH_EOS, DF_FINISH_STOP };
const char *df_finish_name(enum df_finish f); /* "length", "eos", "stop" */

struct df_generate_opts {
	struct df_warp warp;
	uint64_t seed;
	uint32_t n_samples;      /* completions of each prompt, from 1 */
	size_t max_new;          /* most tokens of a completion, from 1 */
	const uint32_t *eos;     /* tokens that end one */
	size_t n_eos;
	const char *const *stop; /* texts that end one; they need tok */
	size_t n_stop;
	const struct df_tokenizer *tok; /* ids become text; NULL: completions have none */
	size_t n_slots;          /* sequences at once; 0: up to 64, in half of the free memory */
	uint64_t first, end;     /* completions [first, end) of all; end UINT64_MAX: to the last */
	bool progress;           /* report through base/log.h */
};

struct df_completion {
	size_t prompt; /* index */
	uint32_t draw;
	const uint32_t *ids; /* [n], including the eos or the tokens of the stop text */
	size_t n;
	enum df_finish finish;
	double logprob;   /* sum over all n tokens, under the model as it is (temperature 1, all tokens) */
	const char *text; /* [n_text] bytes, without the eos, and up to the stop text; NULL without a tokenizer */
	size_t n_text;
};
/* Completions come prompt by prompt, in the order of their numbers; valid during the call. */
typedef int df_completion_fn(void *ctx, const struct df_completion *c, struct df_err *err);

/*
 * DF_ESTOPPED when a signal asks to stop; DF_ENOMEM when not even one sequence fits.  `pool` picks tokens; may be NULL.
 */
int df_generate(struct df_model *m, struct df_pool *pool, const struct df_prompts *p, const struct df_generate_opts *o,
    df_completion_fn *emit, void *ctx, struct df_err *err) DF_MUST_CHECK;

/*
 * Append the text of ids.  An id beyond the tokenizer's vocabulary has no text; models with a padded
 * vocabulary may produce one.
 */
int df_generate_text(const struct df_tokenizer *tok, const uint32_t *ids, size_t n, struct df_buf *out,
    struct df_err *err) DF_MUST_CHECK;

/*
 * The tokens that end an answer of the model in dir, sorted, into eos (release it): eos_token_id of
 * generation_config.json, if the model or its base model has that file, the eos of config.json and of the tokenizer
 * (NULL: none), and what ends an answer of the template (NULL: none).
 */
int df_generate_eos(struct df_ids *eos, const char *dir, const struct df_model *m, const struct df_tokenizer *tok,
    const struct df_encoder *enc, struct df_err *err) DF_MUST_CHECK;

#endif
