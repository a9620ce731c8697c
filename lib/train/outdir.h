/*
 * outdir.h - what may stand in the directory that a run writes its model to.
 *
 * A run ends by writing model.safetensors (or an adapter), config.json and the tokenizer into output_dir.  A model
 * that lies there by a slip of the user's would be replaced without a word: the base model of the run itself, worst
 * of all.
 */
#ifndef DF_TRAIN_OUTDIR_H
#define DF_TRAIN_OUTDIR_H

#include <stddef.h>

#include "base/err.h"

/* A model directory that a run reads.  Both borrowed. */
struct df_outdir_input {
	const char *key; /* what names it, for messages */
	const char *dir; /* NULL: not given; need not exist */
};

/*
 * DF_EUSAGE when writing to output_dir would change an input: output_dir is that directory, or one of its
 * checkpoint-N is, or a file in it is one of that directory's under the same name (by symbolic links; weights also by
 * hard links and under another name).  Paths are compared by what they lead to.  An output_dir that does not exist is
 * fine.
 */
int df_outdir_check_inputs(const char *output_dir, const struct df_outdir_input *inputs, size_t n,
    struct df_err *err) DF_MUST_CHECK;

/*
 * The first file of weights in `dir` by name, as transformers, PEFT and LLaMA-Factory call them (safetensors or .bin,
 * whole, sharded or their index): *name, to free(); NULL when there is none, also when `dir` does not exist.
 */
int df_outdir_weights(const char *dir, char **name, struct df_err *err) DF_MUST_CHECK;

#endif
