/*
 * details.h - a line of JSON for each question or answer, as it comes.
 *
 *	question    {"subject", "row", "answer", "letters": [nats], "texts": [nats], "characters": []}
 *	answer      {"id", "domain", "completion", "answer", "finish", "match"}
 *	completion  {"id", "sample", "domain", "match", "reward"}, which is a reward for df-grad, too
 */
#ifndef DF_EVAL_DETAILS_H
#define DF_EVAL_DETAILS_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text_out.h"
#include "eval/choice.h"
#include "eval/match.h"

struct df_details {
	struct df_text_out file;
	const struct df_prompts *prompts; /* of answers; borrowed */
	bool texts;                       /* of questions: their choices' texts were scored */
	struct df_buf line;               /* (private) */
};
#define DF_DETAILS_INIT { .file = DF_TEXT_OUT_INIT }
/* path NULL: nothing is opened.  Errors as df_text_out_open(). */
int df_details_open(struct df_details *d, const char *path, struct df_err *err) DF_MUST_CHECK;
/* For df_choice_run(), df_match_run() and df_match_lines(); ctx is the struct df_details.  Without a file: nothing. */
int df_details_question(void *ctx, const struct df_choice_task *t, const struct df_choice_result *r, struct df_err *err)
    DF_MUST_CHECK;
int df_details_answer(void *ctx, const struct df_completion *c, bool right, struct df_err *err) DF_MUST_CHECK;
int df_details_completion(void *ctx, const struct df_match_line *line, struct df_err *err) DF_MUST_CHECK;
int df_details_commit(struct df_details *d, struct df_err *err) DF_MUST_CHECK; /* the file appears */
void df_details_close(struct df_details *d); /* a file that was not committed disappears */

#endif
