/*
 * prompts.h - what generation begins with: prompts as token ids, each with its sample id and domain.
 *
 * From an artefact of tokens (up to the first target), from datasets through a template (up to the
 * last answer), or from a file of texts.  All are held in memory: 4 bytes per token.
 */
#ifndef DF_SAMPLE_PROMPTS_H
#define DF_SAMPLE_PROMPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "chat/encode.h"
#include "data/dataset.h"
#include "shard/shard.h"
#include "token/tokenizer.h"

struct df_prompts {
	size_t n;
	uint64_t *offsets; /* [n+1] into ids */
	uint32_t *ids;
	uint64_t *id;      /* [n] unique: the sample's id, or its row number in the input */
	uint16_t *domain;  /* [n] into domains */
	char **answer;     /* [n] the text that was given as the answer, or NULL */
	char **domains;
	size_t n_domains;
	size_t longest;                                                           /* tokens */
	size_t cap_offsets, cap_ids, cap_id, cap_domain, cap_answer, cap_domains; /* (private) */
};
void df_prompts_release(struct df_prompts *p);

/* Append one of n > 0 ids; answer (n_answer bytes) may be NULL. */
int df_prompts_add(struct df_prompts *p, const uint32_t *ids, size_t n, uint64_t id, uint16_t domain,
    const char *answer, size_t n_answer, struct df_err *err) DF_MUST_CHECK;
int df_prompts_add_domain(struct df_prompts *p, const char *name, struct df_err *err) DF_MUST_CHECK;

/*
 * The rows of an open set of tokens: the tokens before the first target, or, `whole`, all; at most
 * max_rows rows (0: no limit).  A row without a token before its first target is DF_EFORMAT.  With a tokenizer, and not
 * `whole`, the text of the targets that follow the prompt, up to one of the tokens `eos`, is its answer.
 */
int df_prompts_tokens(struct df_prompts *p, struct df_set *set, bool whole, uint64_t max_rows,
    const struct df_tokenizer *tok, const struct df_ids *eos, struct df_err *err) DF_MUST_CHECK;

/*
 * The conversations of a dataset, each up to its last answer, which becomes `answer`; a new domain
 * with the dataset's name.  Ids continue after the prompts that are already there.  Rows that df-pack
 * drops are dropped, and a warning says how many; rows without a response are kept if the dataset is
 * opened for DF_STAGE_PROMPT.  Errors of its columns as df_dataset_check_columns.
 */
int df_prompts_dataset(struct df_prompts *p, struct df_dataset *ds, const struct df_encoder *e, uint64_t max_rows,
    struct df_err *err) DF_MUST_CHECK;

/*
 * All datasets of a comma list, as df-pack has it; each one's id goes to meta's inputs unless that is NULL.  `stage`:
 * DF_STAGE_PROMPT, or DF_STAGE_SFT where every prompt must have an answer.
 */
int df_prompts_datasets(struct df_prompts *p, const char *dataset_dir, const char *names, enum df_data_stage stage,
    const struct df_encoder *e, uint64_t max_rows, struct df_meta *meta, struct df_err *err) DF_MUST_CHECK;

/*
 * A file of texts ("-": standard input).  A line of .jsonl and .json holds a string or an object with "prompt"
 * and, optionally, "system" and "answer"; with any other name each line is a prompt.  It goes through the
 * template as a user's first message or, with e NULL, as it is into the tokenizer's frame (bos).  The id is
 * the line, from 0; empty lines are skipped.  The file's digest goes to meta's inputs unless that is NULL.
 */
int df_prompts_texts(struct df_prompts *p, const char *path, const struct df_encoder *e, const struct df_tokenizer *t,
    uint64_t max_rows, struct df_meta *meta, struct df_err *err) DF_MUST_CHECK;

#endif
