/*
 * reward.c - rows in batches through a classifier, and its scores into a file.
 */
#include "eval/reward.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"

#define PUT_ROWS ((uint64_t)65536) /* scores written at a time */

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

/* The scores of the label, with ids and domains, some rows at a time. */
static int
put_label(struct df_writer *out, const float *scores, size_t label, size_t n_labels, const struct df_rows *r,
    struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;
	uint16_t *domain = NULL;
	uint64_t *id = NULL;
	float *score = NULL;
	int rc;

	DF_TRY(df_alloc(&id, PUT_ROWS, sizeof(*id), "scores", err));
	DF_TRY(df_alloc(&score, PUT_ROWS, sizeof(*score), "scores", err));
	DF_TRY(df_alloc(&domain, PUT_ROWS, sizeof(*domain), "scores", err));
	b.col[DF_COL_ID] = (struct df_column_data){ id, NULL, 1 };
	b.col[DF_COL_SCORE] = (struct df_column_data){ score, NULL, 1 };
	if (r->meta.n_domains > 0)
		b.col[DF_COL_DOMAIN] = (struct df_column_data){ domain, NULL, 1 };
	for (uint64_t first = 0; first < r->n; first += b.n) {
		b.n = r->n - first < PUT_ROWS ? r->n - first : PUT_ROWS;
		for (uint64_t i = 0; i < b.n; i++) {
			id[i] = df_rows_id(r, first + i);
			domain[i] = df_rows_domain(r, first + i);
			score[i] = scores[(first + i) * n_labels + label];
		}
		DF_TRY(df_writer_put(out, &b, err));
	}
out:
	free(id);
	free(domain);
	free(score);
	return rc;
}

int
df_reward_write(const char *path, const char *tool, const float *scores, size_t label, struct df_model *m,
    const struct df_rows *r, struct df_err *err)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_SCORE, DF_COL_DOMAIN };
	static const size_t widths[DF_COL_COUNT] = { 0 };
	const struct df_writer_opts opts = { .compress = DF_COMPRESS_DEFAULT };
	const size_t n_domains = r->meta.n_domains;
	struct df_meta meta = DF_META_INIT;
	struct df_writer *out = NULL;
	struct df_digest d;
	char hex[DF_DIGEST_HEX];
	int rc;

	meta.kind = DF_KIND_SCORES;
	DF_TRY(df_meta_set_tool(&meta, tool, err));
	DF_TRY(df_meta_set_int(&meta, "label", (int64_t)label, err));
	if (r->meta.id[0])
		DF_TRY(df_meta_add_input(&meta, "tokens", "tokens", r->meta.id, err));
	DF_TRY(df_model_digest(m, &d, err));
	df_digest_hex(d, hex);
	DF_TRY(df_meta_add_input(&meta, "checkpoint", "checkpoint", hex, err));
	DF_TRY(df_model_compute_to_meta(m, &meta, err));
	for (size_t i = 0; i < n_domains; i++)
		DF_TRY(df_meta_add_domain(&meta, r->meta.domains[i], NULL, err));
	DF_TRY(df_writer_open(&out, path, &meta, cols, n_domains > 0 ? 3 : 2, widths, &opts, err));
	DF_TRY(put_label(out, scores, label, df_model_config(m)->n_labels, r, err));
	DF_TRY(df_writer_commit(out, NULL, err));
out:
	df_writer_close(out);
	df_meta_release(&meta);
	return rc;
}
