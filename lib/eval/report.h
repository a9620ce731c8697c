/*
 * report.h - results as a table for people or one JSON object for programs.
 */
#ifndef DF_EVAL_REPORT_H
#define DF_EVAL_REPORT_H

#include <stdbool.h>

#include "base/buf.h"
#include "eval/choice.h"
#include "eval/loss.h"
#include "eval/match.h"
#include "rows/rows.h"

/* Append to out; df_buf_check() tells whether memory sufficed.  `model` is what the user called it. */
void df_loss_report(
    struct df_buf *out, const struct df_rows *r, const struct df_eval *e, const char *model, bool json);
void df_choice_report(struct df_buf *out, const struct df_choice_task *t, const struct df_choice_scores *s,
    const char *model, size_t n_shots, bool json);
/* `of` says what `name` is: "model", or "completions". */
void df_match_report(struct df_buf *out, const struct df_prompts *p, const struct df_match_scores *s, const char *of,
    const char *name, bool json);
/* Means and standard deviations of scores [rows, n_labels] by domain. */
void df_reward_report(struct df_buf *out, const struct df_rows *r, const float *scores, size_t n_labels,
    const char *model, bool json);

#endif
