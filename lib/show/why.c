/*
 * why.c - why a sample was chosen, or not: collect what the files of the lineage say.
 *
 *   the index: place, score, threshold | scores: rank, probability, cluster | tokens: text |
 *   projections: validation rows (why_less.c) | neighbours: queries, duplicates
 */
#include "show/why.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define READ_ROWS ((uint64_t)1 << 14)

/* The next rows of these columns. */
static int
next(struct df_set *s, struct df_batch *b, uint64_t *n, struct df_err *err)
{
	return df_set_next(s, READ_ROWS, b, n, err);
}

/* ---- the index -------------------------------------------------------------- */

static int
read_index(struct df_why *w, struct df_set *index, struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;
	uint64_t n;
	int rc;

	for (;;) {
		const uint64_t *id;
		const float *score;

		DF_TRY(next(index, &b, &n, err));
		if (n == 0)
			break;
		id = b.col[DF_COL_INDEX].data;
		score = b.col[DF_COL_SCORE].data;
		for (uint64_t i = 0; i < n; i++) {
			if (score && isfinite(score[i]) && (!w->has_last || score[i] < w->last)) {
				w->last = score[i];
				w->has_last = true;
			}
			if (id[i] != w->id)
				continue;
			if (w->n_times++ == 0)
				w->place = w->n_index + i;
			if (score) {
				w->score = score[i];
				w->has_score = true;
			}
		}
		w->n_index += n;
	}
out:
	df_batch_release(&b);
	return rc;
}

/* Is the sample in the index that was excluded? */
static int
read_excluded(struct df_why *w, struct df_err *err)
{
	const struct df_input *in = df_meta_input(w->index, "exclude");
	const struct df_kin_file *f = in ? df_kin_find(w->kin, in->id) : NULL;
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *s = NULL;
	uint64_t n;
	int rc = DF_OK;

	if (in && !f)
		df_why_more(w, "the index that was excluded, %.12s: whether the sample was in it", in->id);
	if (!f)
		return DF_OK;
	DF_TRY(df_set_open1(&s, DF_KIND_INDEX, "excluded index", f->path, err));
	for (;;) {
		DF_TRY(next(s, &b, &n, err));
		if (n == 0)
			break;
		for (uint64_t i = 0; i < n; i++)
			w->excluded |= ((const uint64_t *)b.col[DF_COL_INDEX].data)[i] == w->id;
	}
out:
	df_batch_release(&b);
	df_set_close(s);
	return rc;
}

/* ---- scores ------------------------------------------------------------------ */

static bool
same_json(void (*json)(const struct df_meta *, struct df_buf *), const struct df_meta *a, const struct df_meta *b)
{
	struct df_buf x = DF_BUF_INIT, y = DF_BUF_INIT;
	bool same;

	json(a, &x);
	json(b, &y);
	same = !x.failed && !y.failed && x.data && y.data && strcmp(x.data, y.data) == 0;
	df_buf_release(&x);
	df_buf_release(&y);
	return same;
}

/* The scores that were written beside the index: of the same parameters and inputs. */
static const struct df_kin_file *
find_scores(const struct df_why *w)
{
	for (size_t i = 0; i < w->kin->n; i++) {
		const struct df_kin_file *f = &w->kin->v[i];

		if (f->meta.kind == DF_KIND_SCORES && same_json(df_meta_params_json, w->index, &f->meta) &&
		    same_json(df_meta_inputs_json, w->index, &f->meta))
			return f;
	}
	return NULL;
}

/* What the scores say of the sample, but for its cluster's size. */
static void
take_scores(struct df_why *w, const struct df_batch *b, uint64_t i)
{
	const struct df_column_data *c = b->col;

	if (c[DF_COL_SCORE].data) {
		w->score = ((const float *)c[DF_COL_SCORE].data)[i];
		w->has_score = true;
	}
	if (c[DF_COL_RANK].data) {
		w->rank = ((const uint64_t *)c[DF_COL_RANK].data)[i];
		w->has_rank = true;
	}
	if (c[DF_COL_PROBABILITY].data) {
		w->probability = ((const double *)c[DF_COL_PROBABILITY].data)[i];
		w->has_probability = true;
	}
	if (c[DF_COL_CLUSTER].data) {
		w->cluster = ((const uint32_t *)c[DF_COL_CLUSTER].data)[i];
		w->has_cluster = true;
	}
}

static int
read_scores(struct df_why *w, const struct df_kin_file *f, bool cluster_only, struct df_err *err)
{
	const enum df_col all[] = { DF_COL_ID, DF_COL_CLUSTER, DF_COL_SCORE, DF_COL_RANK, DF_COL_PROBABILITY };
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *s = NULL;
	uint64_t n;
	int rc;

	/* Twice where there are clusters: the sample's is known after it was met. */
	for (int pass = 0; pass < (w->has_cluster ? 2 : 1); pass++) {
		df_set_close(s);
		s = NULL;
		DF_TRY(df_set_open1(&s, DF_KIND_SCORES, "scores", f->path, err));
		df_set_only(s, all, cluster_only || pass ? 2 : 5);
		for (;;) {
			DF_TRY(next(s, &b, &n, err));
			if (n == 0)
				break;
			for (uint64_t i = 0; i < n; i++) {
				if (pass)
					w->cluster_rows +=
					    ((const uint32_t *)b.col[DF_COL_CLUSTER].data)[i] == w->cluster;
				else if (((const uint64_t *)b.col[DF_COL_ID].data)[i] == w->id)
					take_scores(w, &b, i);
			}
		}
		w->n_ranked = df_set_rows(s);
	}
	if (w->id >= w->n_ranked)
		rc = df_fail(
		    err, DF_EUSAGE, "%s: no sample %" PRIu64 " in its %" PRIu64 " rows", f->path, w->id, w->n_ranked);
out:
	df_batch_release(&b);
	df_set_close(s);
	return rc;
}

/* The scores of the choice; of cluster-less, the clusters are those that it read. */
static int
consult_scores(struct df_why *w, struct df_err *err)
{
	const struct df_kin_file *f = find_scores(w);
	const struct df_input *train = df_meta_input(w->index, "train");
	const struct df_kin_file *clusters = train ? df_kin_find(w->kin, train->id) : NULL;
	int rc = DF_OK;

	if (f) {
		w->scores = f->path;
		DF_TRY(read_scores(w, f, false, err));
	} else if (w->has_last) {
		df_why_more(w, "--scores-output of df-score: rank, and the score or probability of every sample");
	}
	if (!w->has_cluster && clusters && clusters->meta.kind == DF_KIND_SCORES)
		DF_TRY(read_scores(w, clusters, true, err));
out:
	return rc;
}

/* ---- text --------------------------------------------------------------------- */

static int
read_text(
    struct df_why *w, const struct df_kin_file *f, const char *tokenizer, const char *template, struct df_err *err)
{
	struct df_line_reader *r = NULL;
	struct df_line line;
	int rc;

	w->n_rows = f->rows;
	if (w->id >= w->n_rows)
		return df_fail(
		    err, DF_EUSAGE, "%s: no sample %" PRIu64 " in its %" PRIu64 " rows", f->path, w->id, w->n_rows);
	rc = df_line_reader_open(&r, f->path, tokenizer, template, err);
	if (rc == DF_EUSAGE && !tokenizer) {
		df_why_more(w, "--tokenizer, the one that made %s: the text", f->path);
		return DF_OK;
	}
	if (rc != DF_OK)
		goto out;
	DF_TRY(df_line_read(r, w->id, &line, &w->text, err));
	if (line.domain)
		DF_TRY(df_strdup(&w->domain, line.domain, err));
	w->source_row = line.source_row;
	w->has_row = line.has_row;
out:
	df_line_reader_close(r);
	return rc;
}

/* ---- neighbours ------------------------------------------------------------------ */

static bool
shares(const struct df_meta *a, const struct df_meta *b, const char *role)
{
	const struct df_input *x = df_meta_input(a, role), *y = df_meta_input(b, role);

	return x && y && strcmp(x->id, y->id) == 0;
}

/* A table of a target's neighbours (near, tsds), or of what was left out for what (semdedup, diverse). */
static int
read_neighbours(struct df_why *w, const struct df_kin_file *f, struct df_err *err)
{
	const bool table = df_meta_input(&f->meta, "query") != NULL;
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *s = NULL;
	uint64_t n;
	int rc;

	DF_TRY(df_set_open1(&s, DF_KIND_NEIGHBOURS, "neighbours", f->path, err));
	for (;;) {
		const uint64_t *id, *other;
		const float *distance;
		const size_t k = df_set_width(s, DF_COL_NEIGHBOUR);

		DF_TRY(next(s, &b, &n, err));
		if (n == 0)
			break;
		id = b.col[DF_COL_ID].data;
		other = b.col[DF_COL_NEIGHBOUR].data;
		distance = b.col[DF_COL_DISTANCE].data;
		for (uint64_t i = 0; i < n * k; i++) {
			const uint64_t row = id[i / k];

			if (other[i] == w->id && table)
				df_why_rank(&w->queries, row, (double)distance[i], i % k, false);
			else if (other[i] == w->id)
				df_why_rank(&w->later, row, (double)distance[i], 0, true);
			else if (row == w->id && !table)
				df_why_rank(&w->earlier, other[i], (double)distance[i], 0, true);
		}
	}
out:
	df_batch_release(&b);
	df_set_close(s);
	return rc;
}

static int
consult_neighbours(
    struct df_why *w, const char *tokens_id, const char *tokenizer, const char *template, struct df_err *err)
{
	static const char *const with_table[] = { "near", "tsds", NULL },
				 *const with_pairs[] = { "semdedup", "diverse", NULL };
	const char *queries = NULL;
	bool table = false, pairs = false;
	int rc = DF_OK;

	for (size_t i = 0; i < w->kin->n; i++) {
		const struct df_kin_file *f = &w->kin->v[i];
		const char *a = df_meta_param(&f->meta, "method"), *b = df_meta_param(w->index, "method");

		if (f->meta.kind != DF_KIND_NEIGHBOURS || !shares(&f->meta, w->index, "train"))
			continue;
		if (df_meta_input(&f->meta, "query")) {
			const struct df_input *in = df_meta_input(&f->meta, "tokens");

			table = true;
			queries = in ? in->id : queries;
		} else {
			pairs = true;
			w->pairs_decide |= a && b && strcmp(a, b) == 0;
		}
		DF_TRY(read_neighbours(w, f, err));
	}
	for (size_t i = 0; !table && w->method && with_table[i]; i++)
		if (strcmp(w->method, with_table[i]) == 0)
			df_why_more(w, "--neighbours-output of df-score %s: whose neighbour the sample is", w->method);
	for (size_t i = 0; !pairs && w->method && with_pairs[i]; i++)
		if (strcmp(w->method, with_pairs[i]) == 0)
			df_why_more(w, "--pairs of df-score %s: which samples are like it", w->method);
	DF_TRY(df_why_texts(w, &w->queries, queries, tokenizer, template, err));
	DF_TRY(df_why_texts(w, &w->earlier, tokens_id, tokenizer, template, err));
	DF_TRY(df_why_texts(w, &w->later, tokens_id, tokenizer, template, err));
out:
	return rc;
}

/* ---- all of it ------------------------------------------------------------------- */

static void
rows_release(struct df_why_rows *rows)
{
	for (size_t i = 0; i < rows->n; i++)
		free(rows->v[i].text);
}

static void
release(struct df_why *w)
{
	for (size_t i = 0; i < w->n_tasks; i++)
		free(w->task[i].name);
	free(w->task);
	rows_release(&w->val);
	rows_release(&w->queries);
	rows_release(&w->earlier);
	rows_release(&w->later);
	free(w->method);
	free(w->domain);
	df_buf_release(&w->text);
	df_buf_release(&w->more);
}

int
df_why(const char *const *files, size_t n_files, uint64_t id, const char *tokenizer, const char *template, bool json,
    struct df_buf *out, struct df_err *err)
{
	struct df_why w = { .index_path = files[0], .id = id, .text = DF_BUF_INIT, .more = DF_BUF_INIT };
	const struct df_input *tokens;
	const struct df_kin_file *pool;
	struct df_kin kin = DF_KIN_INIT;
	struct df_set *index = NULL;
	int rc;

	DF_TRY(df_set_open1(&index, DF_KIND_INDEX, "index", files[0], err));
	DF_TRY(df_kin_add_all(&kin, files, n_files, err));
	w.kin = &kin;
	w.index = df_set_meta(index);
	df_meta_get_str(w.index, "method", &w.method);
	tokens = df_meta_input(w.index, "tokens");
	pool = tokens ? df_kin_find(&kin, tokens->id) : NULL;
	DF_TRY(read_index(&w, index, err));
	if (pool)
		DF_TRY(read_text(&w, pool, tokenizer, template, err));
	else
		df_why_more(&w, "the tokens%s%.12s: the text, and which row of which dataset it is", tokens ? ", " : "",
		    tokens ? tokens->id : "");
	DF_TRY(read_excluded(&w, err));
	DF_TRY(consult_scores(&w, err));
	if (w.method && strcmp(w.method, "less") == 0)
		DF_TRY(df_why_less(&w, tokenizer, template, err));
	DF_TRY(consult_neighbours(&w, tokens ? tokens->id : NULL, tokenizer, template, err));
	DF_TRY(df_buf_check(&w.more, err));
	DF_TRY(df_why_print(&w, json, out, err));
out:
	release(&w);
	df_kin_release(&kin);
	df_set_close(index);
	return rc;
}
