/*
 * packed.h - rows of a corpus on their way into an artefact of tokens, packed or as they are.
 *
 * One such output takes the rows that are trained on, another the held out ones.  Thread rule: one thread at a time.
 */
#ifndef DF_DATA_PACKED_H
#define DF_DATA_PACKED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "data/corpus.h"
#include "data/pack.h"
#include "shard/shard.h"
#include "token/tokenizer.h"

struct df_packed_opts {
	enum df_data_stage stage;
	uint32_t cutoff_len;  /* the most tokens of a block or pack */
	bool packing;         /* pt: blocks; sft: packs */
	bool asked_for;       /* by name: LLaMA-Factory's `packing: true`, written out, makes them a token shorter */
	bool neat;            /* packs whose examples do not see each other */
	uint64_t batch_rows;  /* as in struct df_packer */
	uint64_t n_shards;
	struct df_writer_opts writer;
	df_block_fn *look; /* sees each row before it is written; may be NULL */
	void *ctx;
};

struct df_packed;

/*
 * An output for one side of a surveyed corpus.  `path` NULL: rows are made and looked at, and not written.  m is that
 * of the artefact, and gets `examples` (of packs) and `split`.
 */
int df_packed_open(struct df_packed **out, const char *path, bool held_out, const struct df_corpus *c,
    const struct df_tokenizer *tok, struct df_meta *m, const struct df_packed_opts *o, struct df_err *err)
    DF_MUST_CHECK;
int df_packed_add(struct df_packed *p, const struct df_encoded_row *row, struct df_err *err) DF_MUST_CHECK;
/*
 * Add, instead, the rows of the training side without their prompts (encode.h, no_prompt), in the same order, so with
 * the ids that they have in the pool; and end.  t, tok and how are those of the pool's encoder.
 */
int df_packed_add_answers(struct df_packed *p, struct df_corpus *c, const struct df_template *t,
    struct df_tokenizer *tok, const struct df_encode_opts *how, struct df_err *err) DF_MUST_CHECK;
uint64_t df_packed_rows(const struct df_packed *p); /* so far; also the id of the next */
/* No row follows.  Warns of what packing left out.  DF_EFORMAT when there is no row at all. */
int df_packed_end(struct df_packed *p, struct df_err *err) DF_MUST_CHECK;
/*
 * All outputs become whole and visible, or none; held and no_prompt, the pool's rows without their prompts, may be
 * NULL.  What can fail comes first, and the pool is never there without the others.
 */
int df_packed_commit(struct df_packed *pool, struct df_packed *held, struct df_packed *no_prompt,
    struct df_err *err) DF_MUST_CHECK;
void df_packed_close(struct df_packed *p); /* accepts NULL */

#endif
