/*
 * completion.h - where completions go: rows of tokens, lines of JSON, or both.
 *
 * Thread rule: one thread at a time.
 */
#ifndef DF_SAMPLE_COMPLETION_H
#define DF_SAMPLE_COMPLETION_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/opt.h"
#include "sample/generate.h"
#include "sample/prompts.h"
#include "shard/shard.h"
#include "token/tokenizer.h"

struct df_completions_opts {
	const char *rows;  /* an artefact, or "-" for a stream; NULL: none */
	const char *lines; /* a text file, or "-" for standard output; NULL: none */
	struct df_shard_arg shard; /* of files: the part's number goes into their names */
	enum df_compress compress;
	const struct df_meta *meta; /* of the artefact */
	const struct df_prompts *prompts;
	const struct df_tokenizer *tok; /* for lines */
	uint32_t n_samples;             /* completions of each prompt */
};

struct df_completions;
struct df_completion_counts {
	uint64_t n_done;   /* rows that an earlier run has made: go on after them */
	uint64_t n_tokens; /* of the completions put */
	uint64_t n_cut;    /* of them: those that reached their greatest length */
};

/* *o and what it names are borrowed.  Rows without lines, in a file, can be gone on with after a kill. */
int df_completions_open(
    struct df_completions **out, const struct df_completions_opts *o, struct df_err *err) DF_MUST_CHECK;
/*
 * A df_completion_fn; ctx is the struct df_completions.  A row is prompt and completion, the completion its targets.
 * A line is {"id", "sample", "domain", "prompt", "completion", "answer", "tokens", "finish", "logprob"}.
 */
int df_completions_put(void *ctx, const struct df_completion *x, struct df_err *err) DF_MUST_CHECK;
struct df_completion_counts df_completions_counts(const struct df_completions *c);
/* No more will come for now: the next run goes on from here. */
int df_completions_keep(struct df_completions *c, struct df_err *err) DF_MUST_CHECK;
/* All files become visible. */
int df_completions_commit(struct df_completions *c, struct df_err *err) DF_MUST_CHECK;
void df_completions_close(struct df_completions *c); /* accepts NULL */

/* The parameters `eos`, the tokens that end a completion, and stop.0, stop.1 ..., the texts that do. */
int df_completions_note_ends(struct df_meta *m, const struct df_ids *eos, const struct df_strlist *stop,
    struct df_err *err) DF_MUST_CHECK;

#endif
