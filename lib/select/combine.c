/*
 * combine.c - one ranking of several: weighted ranks, z-scores or scores; rows that are in all of several indices;
 * quotas for domains.
 *
 *   each file of scores --> a number per row: its rank from 0 to 1, its z-score, or itself --> sum by weights
 *   --> rows of all indices only --> the best, or the best of each domain by its quota
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "select/combine.h"
#include "select/quota.h"
#include "select/select_priv.h"

static const char *const ways[] = { "rank", "zscore", "score", NULL }; /* enum df_combine */

struct options {
	struct df_strlist scores, index;
	const char *weights, *quota;
	int by;
};

/* ---- numbers that can be added ------------------------------------------------------------ */

/* x = for each finite score the mean of the ranks of all that equal it, from 0 for the lowest to 1 for the highest. */
static int
ranks(const float *score, uint64_t n, double *x, struct df_err *err)
{
	uint64_t *order = NULL, valid, same;
	int rc = DF_OK;

	DF_TRY(df_alloc(&order, n, sizeof(*order), "ranks", err));
	DF_TRY(df_rank(score, n, order, &valid, err));
	for (uint64_t i = 0; i < valid; i += same) {
		double rank;

		for (same = 1; i + same < valid && score[order[i + same]] == score[order[i]]; same++)
			;
		rank = valid > 1 ? 1 - ((double)i + (double)(same - 1) / 2) / (double)(valid - 1) : 0.5;
		for (uint64_t k = i; k < i + same; k++)
			x[order[k]] = rank;
	}
out:
	free(order);
	return rc;
}

/* x = (score - mean) / standard deviation, both of the finite scores; 0 where all are equal. */
static void
z_scores(const float *score, uint64_t n, double *x)
{
	double mean = 0, square = 0;
	uint64_t valid = 0;

	for (uint64_t i = 0; i < n; i++) {
		if (isfinite(score[i])) {
			mean += (double)score[i];
			valid++;
		}
	}
	mean /= (double)valid;
	for (uint64_t i = 0; i < n; i++)
		if (isfinite(score[i]))
			square += ((double)score[i] - mean) * ((double)score[i] - mean);
	square = sqrt(square / (double)valid);
	for (uint64_t i = 0; i < n; i++)
		x[i] = square > 0 ? ((double)score[i] - mean) / square : 0;
}

int
df_combine_add(enum df_combine by, const float *score, uint64_t n, double weight, double *sum, struct df_err *err)
{
	double *x = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&x, n, sizeof(*x), "scores", err));
	switch (by) {
	case DF_COMBINE_RANK: DF_TRY(ranks(score, n, x, err)); break;
	case DF_COMBINE_ZSCORE: z_scores(score, n, x); break;
	case DF_COMBINE_SCORE:
		for (uint64_t i = 0; i < n; i++)
			x[i] = (double)score[i];
		break;
	}
	for (uint64_t i = 0; i < n; i++)
		sum[i] += isfinite(score[i]) ? weight * x[i] : (double)NAN;
out:
	free(x);
	return rc;
}

/* ---- weights -------------------------------------------------------------------------------- */

/* "2,-1" as weights [n] whose sizes sum to 1, equal ones for NULL. */
static int
parse_weights(const char *text, size_t n, double *weight, struct df_err *err)
{
	double sum = 0;
	int rc = DF_OK;

	DF_TRY(df_select_weights(text, n, "files of scores", true, weight, err));
	for (size_t i = 0; i < n; i++)
		sum += fabs(weight[i]);
	if (n > 0 && (!(sum > 0) || !isfinite(sum))) {
		rc = df_fail(err, DF_EUSAGE, "all weights are zero, or their sum is not finite");
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		weight[i] /= sum;
out:
	if (rc != DF_OK)
		df_err_prefix(err, "--weights: ");
	return rc;
}

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;
	double *weight = NULL;
	int rc = DF_OK;

	if (o->scores.n == 0 && o->index.n == 0)
		return df_fail(err, DF_EUSAGE, "combine needs --scores FILE, --index FILE or both, each once or more");
	if (o->scores.n == 0 && o->weights)
		return df_fail(err, DF_EUSAGE, "--weights are those of --scores");
	if (o->quota && !in->amount.given)
		return df_fail(err, DF_EUSAGE, "--quota divides an amount: -n is missing");
	DF_TRY(df_alloc(&weight, o->scores.n, sizeof(*weight), "weights", err));
	DF_TRY(parse_weights(o->weights, o->scores.n, weight, err));
out:
	free(weight);
	return rc;
}

/* ---- the run --------------------------------------------------------------------------------- */

/* out->score = the weighted sum of all files. */
static int
add_scores(const struct options *o, struct df_selection *out, struct df_err *err)
{
	const char *tokens = df_select_tokens_id(&out->meta);
	double *weight = NULL, *sum = NULL;
	struct df_buf b = DF_BUF_INIT;
	float *score = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&weight, o->scores.n, sizeof(*weight), "weights", err));
	DF_TRY(df_alloc(&sum, out->n_rows, sizeof(*sum), "scores", err));
	DF_TRY(df_alloc(&out->score, out->n_rows, sizeof(*out->score), "scores", err));
	DF_TRY(parse_weights(o->weights, o->scores.n, weight, err));
	for (size_t i = 0; i < o->scores.n; i++) {
		free(score);
		score = NULL;
		DF_TRY(df_select_read_scores(o->scores.v[i], out->n_rows, tokens, &score, &out->meta, err));
		DF_TRY(df_combine_add((enum df_combine)o->by, score, out->n_rows, weight[i], sum, err));
		df_buf_puts(&b, i ? "," : "");
		df_buf_json_double(&b, weight[i]);
	}
	for (uint64_t i = 0; i < out->n_rows; i++)
		out->score[i] = (float)sum[i];
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_meta_set_str(&out->meta, "by", ways[o->by], err));
	DF_TRY(df_meta_set_str(&out->meta, "weights", b.data, err));
out:
	df_buf_release(&b);
	free(weight);
	free(sum);
	free(score);
	return rc;
}

/*
 * order [*n] = the rows that all indices have, each once, in the order of the first one; n_files [n_rows]: scratch, how
 * many files have a row.
 */
static int
intersect(const struct options *o, struct df_selection *out, uint64_t *order, uint64_t *n, size_t *n_files,
    struct df_err *err)
{
	const char *tokens = df_select_tokens_id(&out->meta);
	uint64_t *index = NULL, n_first = 0;
	int rc = DF_OK;

	for (size_t f = 0; f < o->index.n; f++) {
		uint64_t n_index, n_repeated;

		free(index);
		index = NULL;
		DF_TRY(df_select_read_index(
		    o->index.v[f], out->n_rows, tokens, &index, &n_index, &n_repeated, &out->meta, err));
		for (uint64_t i = 0; i < n_index; i++) {
			if (n_files[index[i]] != f)
				continue; /* an earlier file does not have it, or this one has it twice */
			n_files[index[i]]++;
			if (f == 0)
				order[n_first++] = index[i];
		}
	}
	*n = 0;
	for (uint64_t i = 0; i < n_first; i++)
		if (n_files[order[i]] == o->index.n)
			order[(*n)++] = order[i];
out:
	free(index);
	return rc;
}

/* order [*n] = the rows that may be chosen, best first; *all = how many there are, invalid ones included. */
static int
rank_rows(const struct df_select *in, const struct options *o, struct df_selection *out, uint64_t *order, uint64_t *n,
    uint64_t *all, struct df_err *err)
{
	size_t *n_files = NULL;
	uint64_t valid, n_ranked;
	int rc = DF_OK;

	DF_TRY(df_alloc(&n_files, out->n_rows, sizeof(*n_files), "rows", err));
	DF_TRY(intersect(o, out, order, n, n_files, err));
	if (o->scores.n > 0) {
		DF_TRY(df_selection_rank(out, order, &valid, err));
		n_ranked = in->allow_invalid ? out->n_rows : valid;
		for (uint64_t i = valid; i < out->n_rows; i++)
			out->n_invalid += n_files[order[i]] == o->index.n;
		*n = 0;
		for (uint64_t i = 0; i < n_ranked; i++)
			if (n_files[order[i]] == o->index.n)
				order[(*n)++] = order[i];
	}
	*all = 0;
	for (uint64_t i = 0; i < out->n_rows; i++) {
		*all += n_files[i] == o->index.n && df_select_may(in, i);
		/* Whoever reads the scores learns which rows may be taken. */
		if (out->score && n_files[i] < o->index.n)
			out->score[i] = NAN;
	}
out:
	free(n_files);
	return rc;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	uint64_t *order = NULL, n = 0, all = 0;
	double *share = NULL;
	int rc = DF_OK;

	if (o->quota) {
		DF_TRY(df_quota_parse(o->quota, out, &share, err));
		DF_TRY(df_meta_set_str(&out->meta, "quota", o->quota, err));
	}
	if (o->scores.n > 0)
		DF_TRY(add_scores(o, out, err));
	DF_TRY(df_alloc(&order, out->n_rows, sizeof(*order), "ranks", err));
	DF_TRY(rank_rows(in, o, out, order, &n, &all, err));
	DF_TRY(share ? df_quota_take(in, share, order, n, out, err) : df_select_take_all(in, order, n, all, out, err));
out:
	free(order);
	free(share);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "scores", .type = DF_OPT_LIST, .value = DF_OPT_AT(struct options, scores), .arg = "FILE", .file = DF_FILE_READ,
	    .help = "rank by these, too: scores or losses, or text" },
	{ .name = "weights", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, weights), .arg = "W,W...",
	    .help = "a weight for each --scores (default: equal)" },
	{ .name = "by", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, by), .choices = ways,
	    .help = "what is added" },
	{ .name = "index", .type = DF_OPT_LIST, .value = DF_OPT_AT(struct options, index), .arg = "FILE", .file = DF_FILE_READ,
	    .help = "only rows that are in this, and in each other --index" },
	{ .name = "quota", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, quota), .arg = "SHARES",
	    .choices = df_quota_words, .help = "proportional, or NAME=SHARE,...: of domains" },
	DF_OPT_END };
/* clang-format on */

static const struct df_select_input inputs[] = {
	{ .role = "train", .name = "train set", .help = "rows to choose from, in any file with one per sample" },
};

const struct df_selector df_select_combine = {
	.name = "combine",
	.about = "by several scores, indices, quotas of domains",
	.model = "-",
	.cost = "-",
	.shortage = DF_SHORT_ERROR,
	.inputs = inputs,
	.n_inputs = 1,
	.defaults = &(const struct options){ .by = DF_COMBINE_RANK },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
