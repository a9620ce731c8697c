/*
 * outdir.h - what may be in the directory that a run writes its model to.
 *
 * A run ends by writing model.safetensors (or an adapter), config.json and the tokenizer into
 * output_dir.  If the user names a wrong directory, a model in it would be replaced without a warning;
 * in the worst case, the run's own base model.
 */
#ifndef DF_TRAIN_OUTDIR_H
#define DF_TRAIN_OUTDIR_H

#include <stddef.h>

#include "base/err.h"

/* A model directory that a run reads.  Both borrowed. */
struct df_outdir_input {
	const char *key; /* the key that names it, for messages */
	const char *dir; /* NULL: not given; need not exist */
};

/*
 * DF_EUSAGE when writing to output_dir would change an input: output_dir is the input's directory, or
 * one of its checkpoint-N is, or a file in it is one of that directory's under the same name (by
 * symbolic links; weights also by hard links and under another name).  Paths are compared by the files
 * that they lead to.  An output_dir that does not exist is fine.
 */
int df_outdir_check_inputs(const char *output_dir, const struct df_outdir_input *inputs, size_t n,
    struct df_err *err) DF_MUST_CHECK;

/*
 * The first file of weights in `dir` by name, as transformers, PEFT and LLaMA-Factory call them (safetensors
 * or .bin, whole, sharded or their index): *name, to free(); NULL when there is none, or `dir` does not exist.
 */
int df_outdir_weights(const char *dir, char **name, struct df_err *err) DF_MUST_CHECK;

#endif
