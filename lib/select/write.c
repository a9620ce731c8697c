/*
 * write.c - what was chosen, in words and in files.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "select/select.h"

int
df_selection_report(const struct df_selection *s, struct df_err *err)
{
	const size_t n_domains = s->domain ? s->meta.n_domains : 0;
	uint64_t *chosen = NULL, *all = NULL;
	struct df_buf b = DF_BUF_INIT;
	int rc = DF_OK;

	DF_TRY(df_alloc(&chosen, n_domains, sizeof(*chosen), "domains", err));
	DF_TRY(df_alloc(&all, n_domains, sizeof(*all), "domains", err));
	for (uint64_t i = 0; n_domains && i < s->n_index; i++)
		chosen[s->domain[s->index[i]]]++;
	for (uint64_t i = 0; n_domains && i < s->n_rows; i++)
		all[s->domain[i]]++;
	if (s->n_invalid)
		df_warn("%" PRIu64 " rows have no finite score and were ranked last", s->n_invalid);
	df_buf_printf(&b, "chose %" PRIu64 " of %" PRIu64 " rows", s->n_index, s->n_rows);
	for (size_t d = 0; d < n_domains; d++)
		df_buf_printf(&b, "%s %s %" PRIu64 "/%" PRIu64, d ? "," : ":", s->meta.domains[d], chosen[d], all[d]);
	DF_TRY(df_buf_check(&b, err));
	df_info("%s", b.data);
out:
	df_buf_release(&b);
	free(chosen);
	free(all);
	return rc;
}

static int
put_index(struct df_selection *s, const char *path, struct df_writer **out, struct df_err *err)
{
	const struct df_writer_opts opts = { .compress = DF_COMPRESS_DEFAULT };
	const size_t widths[DF_COL_COUNT] = { 0 };
	enum df_col cols[3] = { DF_COL_INDEX };
	struct df_batch b = DF_BATCH_INIT;
	uint16_t *domain = NULL;
	float *score = NULL;
	size_t n_cols = 1;
	int rc = DF_OK;

	s->meta.kind = DF_KIND_INDEX;
	b.n = s->n_index;
	b.col[DF_COL_INDEX] = (struct df_column_data){ .data = s->index, .width = 1 };
	if (s->score) {
		DF_TRY(df_alloc(&score, s->n_index, sizeof(*score), "scores", err));
		for (uint64_t i = 0; i < s->n_index; i++)
			score[i] = s->score[s->index[i]];
		b.col[DF_COL_SCORE] = (struct df_column_data){ .data = score, .width = 1 };
		cols[n_cols++] = DF_COL_SCORE;
	}
	/* So that df-show can tell how much of each domain was chosen. */
	if (s->domain) {
		DF_TRY(df_alloc(&domain, s->n_index, sizeof(*domain), "domains", err));
		for (uint64_t i = 0; i < s->n_index; i++)
			domain[i] = s->domain[s->index[i]];
		b.col[DF_COL_DOMAIN] = (struct df_column_data){ .data = domain, .width = 1 };
		cols[n_cols++] = DF_COL_DOMAIN;
	}
	DF_TRY(df_writer_open(out, path, &s->meta, cols, n_cols, widths, &opts, err));
	DF_TRY(df_writer_put(*out, &b, err));
out:
	free(domain);
	free(score);
	df_batch_release(&b);
	return rc;
}

#define PUT_ROWS 65536 /* of scores at a time, so that ids and ranks need no memory of their own */

/* Rows [first, first + n): their ids and ranks, and what the selection has of them. */
static int
put_rows(
    struct df_selection *s, const uint32_t *rank, uint64_t first, uint64_t n, struct df_writer *w, struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;
	uint64_t *id, *ranks;
	int rc = DF_OK;

	DF_TRY(df_arena_alloc(&b.arena, &id, n, sizeof(*id), "ids", err));
	DF_TRY(df_arena_alloc(&b.arena, &ranks, n, sizeof(*ranks), "ranks", err));
	for (uint64_t i = 0; i < n; i++) {
		id[i] = first + i;
		ranks[i] = rank[first + i];
	}
	b.n = n;
	b.first = first;
	b.col[DF_COL_ID] = (struct df_column_data){ .data = id, .width = 1 };
	b.col[DF_COL_SCORE] = (struct df_column_data){ .data = s->score + first, .width = 1 };
	b.col[DF_COL_RANK] = (struct df_column_data){ .data = ranks, .width = 1 };
	if (s->domain)
		b.col[DF_COL_DOMAIN] = (struct df_column_data){ .data = s->domain + first, .width = 1 };
	if (s->probability)
		b.col[DF_COL_PROBABILITY] = (struct df_column_data){ .data = s->probability + first, .width = 1 };
	if (s->cluster)
		b.col[DF_COL_CLUSTER] = (struct df_column_data){ .data = s->cluster + first, .width = 1 };
	rc = df_writer_put(w, &b, err);
out:
	df_batch_release(&b);
	return rc;
}

static int
put_scores(struct df_selection *s, const char *path, struct df_writer **out, struct df_err *err)
{
	const struct df_writer_opts opts = { .compress = DF_COMPRESS_DEFAULT };
	const size_t widths[DF_COL_COUNT] = { 0 };
	enum df_col cols[6] = { DF_COL_ID, DF_COL_SCORE, DF_COL_RANK };
	uint64_t *order = NULL;
	uint32_t *rank = NULL;
	size_t n_cols = 3;
	uint64_t valid;
	int rc = DF_OK;

	if (!s->score)
		return df_fail(err, DF_EUSAGE, "%s: this choice is made without scores", path);
	DF_TRY(df_selection_probabilities(s, err));
	DF_TRY(df_alloc(&order, s->n_rows, sizeof(*order), "ranks", err));
	DF_TRY(df_alloc(&rank, s->n_rows, sizeof(*rank), "ranks", err));
	DF_TRY(df_selection_rank(s, order, &valid, err));
	for (uint64_t i = 0; i < s->n_rows; i++)
		rank[order[i]] = (uint32_t)i;
	s->meta.kind = DF_KIND_SCORES;
	if (s->domain)
		cols[n_cols++] = DF_COL_DOMAIN;
	if (s->probability)
		cols[n_cols++] = DF_COL_PROBABILITY;
	if (s->cluster)
		cols[n_cols++] = DF_COL_CLUSTER;
	DF_TRY(df_writer_open(out, path, &s->meta, cols, n_cols, widths, &opts, err));
	for (uint64_t first = 0; first < s->n_rows; first += PUT_ROWS)
		DF_TRY(
		    put_rows(s, rank, first, s->n_rows - first < PUT_ROWS ? s->n_rows - first : PUT_ROWS, *out, err));
out:
	free(order);
	free(rank);
	return rc;
}

int
df_selection_write(struct df_selection *s, const char *index, const char *scores, struct df_err *err)
{
	struct df_writer *to_index = NULL, *to_scores = NULL;
	int rc = DF_OK;

	if (scores)
		DF_TRY(put_scores(s, scores, &to_scores, err));
	if (index)
		DF_TRY(put_index(s, index, &to_index, err));
	if (s->also)
		DF_TRY(df_writer_commit(s->also, NULL, err));
	if (to_scores)
		DF_TRY(df_writer_commit(to_scores, NULL, err));
	if (to_index)
		DF_TRY(df_writer_commit(to_index, NULL, err));
out:
	df_writer_close(to_scores);
	df_writer_close(to_index);
	return rc;
}
