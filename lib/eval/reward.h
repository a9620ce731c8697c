/*
 * reward.h - a classifier's scores of samples: a reward model's opinion.
 */
#ifndef DF_EVAL_REWARD_H
#define DF_EVAL_REWARD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "model/model.h"
#include "rows/rows.h"

/*
 * scores [rows, n_labels] of a model with DF_HEAD_CLASSES, of each row's last token; batches of some batch_tokens
 * tokens, which change no number.  DF_EFORMAT names a sample without tokens or with a score that is no number;
 * DF_ESTOPPED.
 */
int df_reward_run(float *scores, struct df_model *m, const struct df_rows *r, size_t batch_tokens, bool progress,
    struct df_err *err) DF_MUST_CHECK;

/*
 * The scores of one label, of scores [rows, n_labels], as an artefact of kind scores: a file, or a stream with "-".
 * `tool` is the program, for its provenance; m and r are where the scores come from.
 */
int df_reward_write(const char *path, const char *tool, const float *scores, size_t label, struct df_model *m,
    const struct df_rows *r, struct df_err *err) DF_MUST_CHECK;

#endif
