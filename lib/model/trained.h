/*
 * trained.h - what df-train notes in the directory of a model, as far as a reader of models needs it.
 *
 * lib/train writes all of df_state.json and reads it back (train/checkpoint.h); its name and the names of checkpoints
 * are said here.
 */
#ifndef DF_MODEL_TRAINED_H
#define DF_MODEL_TRAINED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define DF_STATE_FILE        "df_state.json"
#define DF_STATE_MAX         ((size_t)16 << 20) /* bytes */
#define DF_CHECKPOINT_PREFIX "checkpoint-"

/* "checkpoint-120" -> 120; false when the name is no such. */
bool df_checkpoint_step(const char *name, uint64_t *step);

/* *id = of the tokenizer of the training tokens, free() it; NULL: dir does not say. */
int df_trained_tokenizer(char **id, const char *dir, struct df_err *err) DF_MUST_CHECK;
/* *step = the optimizer steps of the model in dir, INT64_MAX where its state does not say; DF_ENOINPUT: no state. */
int df_trained_step(int64_t *step, const char *dir, struct df_err *err) DF_MUST_CHECK;

#endif
