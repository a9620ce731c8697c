/*
 * reward.c - rows in batches through a classifier.
 */
#include "eval/reward.h"

#include <math.h>

#include "base/log.h"
#include "base/stop.h"

int
df_reward_run(
    float *scores, struct df_model *m, const struct df_rows *r, size_t batch_tokens, bool progress, struct df_err *err)
{
	const size_t n_labels = df_model_config(m)->n_labels;
	struct df_gather gather = { 0 };
	struct df_work *work = NULL;
	struct df_tokens b;
	uint64_t end;
	int rc;

	DF_TRY(df_work_new(&work, m, err));
	for (uint64_t first = 0; first < r->n; first = end) {
		for (end = first + 1;
		     end < r->n && df_rows_offset(r, end + 1) - df_rows_offset(r, first) <= batch_tokens; end++)
			;
		if (df_stop_requested()) {
			rc = df_fail(err, DF_ESTOPPED, "evaluation stopped by a signal");
			goto out;
		}
		for (uint64_t i = first; i < end; i++) {
			if (df_rows_length(r, i) == 0) {
				rc = df_fail(err, DF_EFORMAT, "%s: sample %llu has no token", r->name,
				    (unsigned long long)df_rows_id(r, i));
				goto out;
			}
		}
		DF_TRY(df_gather_range(&gather, r, first, (size_t)(end - first), &b, err));
		DF_TRY(df_model_scores(m, work, &b, scores + first * n_labels, err));
		for (uint64_t i = first * n_labels; i < end * n_labels; i++) {
			if (!isfinite(scores[i])) {
				rc = df_fail(err, DF_EFORMAT, "%s: the score of sample %llu is not a finite number",
				    r->name, (unsigned long long)df_rows_id(r, i / n_labels));
				goto out;
			}
		}
		if (progress)
			df_progress(end, r->n, "samples");
	}
out:
	df_gather_release(&gather);
	df_work_free(work);
	return rc;
}
