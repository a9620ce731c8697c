/*
 * df-score - score, rank and select samples: the method's name first, then what it needs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "prog.h"
#include "select/select.h"

static const char synopsis[] = "[options] METHOD --train FILE [FILE...] [-n N] -o INDEX";
static const char about[] = "Score samples and choose which ones to train on.  --list names the methods.";

static const char *const shortages[] = { DF_SHORTAGE_NAMES, NULL };
static const char *const aggs[] = { DF_LESS_AGG_NAMES, NULL };
static const char *const val_aggs[] = { DF_LESS_VAL_NAMES, NULL };
static const char *const rngs[] = { "philox", "torch", NULL };

struct cfg {
	struct df_strlist train, val;
	const char *amount, *weights, *subtasks, *scores, *index, *program, *output, *scores_output;
	int shortage, agg, val_agg, rng;
	int64_t seed, step;
	bool replacement, allow_invalid, list;
	struct df_prog_common common;
};
#define CFG_DEFAULT                                                                \
	{                                                                          \
		.subtasks = "domain", .seed = 42, .common = DF_PROG_COMMON_DEFAULT \
	}

/* clang-format off */
#define OPTS(c) { \
	{ .type = DF_OPT_GROUP, .help = "What to choose from" }, \
	{ .name = "list", .type = DF_OPT_FLAG, .value = &(c)->list, \
	    .help = "print the methods and leave" }, \
	{ .name = "train", .type = DF_OPT_LIST, .value = &(c)->train, .arg = "FILE", .file = DF_FILE_READ, \
	    .help = "rows to choose from; less: projections, repeatable" }, \
	{ .name = "val", .type = DF_OPT_LIST, .value = &(c)->val, .arg = "FILE", .file = DF_FILE_READ, \
	    .help = "less: the target's projections, one per --train" }, \
	{ .type = DF_OPT_GROUP, .help = "How many, and what if there are fewer" }, \
	{ .name = "count", .short_name = 'n', .type = DF_OPT_STR, .value = &(c)->amount, .arg = "N", \
	    .help = "rows to choose: a number, or 5% (default: all)" }, \
	{ .name = "short", .type = DF_OPT_CHOICE, .value = &(c)->shortage, .choices = shortages, \
	    .help = "if N is too many" }, \
	{ .name = "allow-invalid", .type = DF_OPT_FLAG, .value = &(c)->allow_invalid, \
	    .help = "rows whose score is not finite may be chosen, last" }, \
	{ .type = DF_OPT_GROUP, .help = "less" }, \
	{ .name = "ckpt-weights", .type = DF_OPT_STR, .value = &(c)->weights, .arg = "W,W...", \
	    .help = "learning rate of each checkpoint (default: equal)" }, \
	{ .name = "subtasks", .type = DF_OPT_STR, .value = &(c)->subtasks, .arg = "WHAT", .file = DF_FILE_READ_ANY, \
	    .choices = df_less_subtasks, .help = "groups of the target: domain, none, FILE" }, \
	{ .name = "agg", .type = DF_OPT_CHOICE, .value = &(c)->agg, .choices = aggs, \
	    .help = "best subtask, or mean over target rows" }, \
	{ .name = "val-agg", .type = DF_OPT_CHOICE, .value = &(c)->val_agg, .choices = val_aggs, \
	    .help = "in a subtask" }, \
	{ .type = DF_OPT_GROUP, .help = "random" }, \
	{ .name = "seed", .type = DF_OPT_INT, .value = &(c)->seed, .arg = "N", .min = 0, .max = 9e15, \
	    .help = "seed of all draws" }, \
	{ .name = "step", .type = DF_OPT_INT, .value = &(c)->step, .arg = "N", .min = 0, .max = UINT32_MAX, \
	    .help = "training step: each has draws of its own" }, \
	{ .name = "replacement", .type = DF_OPT_FLAG, .value = &(c)->replacement, \
	    .help = "independent draws" }, \
	{ .name = "rng", .type = DF_OPT_CHOICE, .value = &(c)->rng, .choices = rngs, \
	    .help = "torch: the draws of DataFlex's selector" }, \
	{ .type = DF_OPT_GROUP, .help = "static, custom" }, \
	{ .name = "index", .type = DF_OPT_STR, .value = &(c)->index, .arg = "FILE", .file = DF_FILE_READ, \
	    .help = "take these ids: an index, or text with one per line" }, \
	{ .name = "scores", .type = DF_OPT_STR, .value = &(c)->scores, .arg = "FILE", .file = DF_FILE_READ, \
	    .help = "rank by these: scores or losses, or text" }, \
	{ .name = "program", .type = DF_OPT_STR, .value = &(c)->program, .arg = "COMMAND", \
	    .help = "run it with DF_STEP, DF_N, DF_OUT; writes an index" }, \
	{ .type = DF_OPT_GROUP, .help = "Output" }, \
	{ .name = "output", .short_name = 'o', .type = DF_OPT_STR, .value = &(c)->output, .arg = "FILE", .file = DF_FILE_WRITE, \
	    .help = "the index" }, \
	{ .name = "scores-output", .type = DF_OPT_STR, .value = &(c)->scores_output, .arg = "FILE", .file = DF_FILE_WRITE, \
	    .help = "every row's score and rank too" }, \
	{ .type = DF_OPT_OPERANDS, .arg = "FILE", .file = DF_FILE_READ_ANY }, \
	DF_PROG_OPTS(&(c)->common), \
	DF_OPT_END }
/* clang-format on */

struct run {
	struct cfg cfg;
	const struct df_selector *method;
	struct df_select_opts opts;
	struct df_strlist *train, *val; /* [checkpoints] */
	double *weights;
	struct df_selection sel;
};

/* "3e-5,1e-5" */
static int
parse_weights(const char *text, double **weights, size_t *n, struct df_err *err)
{
	char *copy = NULL, *rest, *w;
	size_t cap = 0;
	int rc = 0;

	DF_TRY(df_strdup(&copy, text, err));
	rest = copy;
	while ((w = strsep(&rest, ","))) {
		DF_TRY(df_grow(weights, &cap, *n + 1, sizeof **weights, "weights", err));
		DF_TRY(df_parse_double(w, &(*weights)[*n], err));
		(*n)++;
	}
out:
	if (rc)
		df_err_prefix(err, "--ckpt-weights: ");
	free(copy);
	return rc;
}

/* Each --train and --val is a set of its own; further operands are more files of the only train set. */
static int
make_sets(const struct df_strlist *paths, const char *const *more, size_t n_more, struct df_strlist **sets,
    struct df_err *err)
{
	int rc = 0;

	DF_TRY(df_alloc(sets, paths->n, sizeof **sets, "sets", err));
	for (size_t i = 0; i < paths->n; i++) {
		struct df_strlist *s = &(*sets)[i];

		DF_TRY(df_grow(&s->v, &s->cap, 1 + n_more, sizeof *s->v, "sets", err));
		s->v[s->n++] = paths->v[i];
		for (size_t j = 0; j < n_more; j++)
			s->v[s->n++] = more[j];
	}
out:
	return rc;
}

static int
find_method(struct run *r, const struct df_strlist *args, struct df_err *err)
{
	if (!args->n)
		return df_fail(err, DF_EUSAGE, "which method?  df-score --list names them");
	return df_selector_find(&r->method, args->v[0], err);
}

static int
fill_opts(struct run *r, const struct df_strlist *args, struct df_err *err)
{
	struct cfg *c = &r->cfg;
	int rc = 0;

	DF_TRY(find_method(r, args, err));
	if (!c->output && !c->scores_output) {
		rc = df_fail(err, DF_EUSAGE, "-o FILE is missing");
		goto out;
	}
	if (args->n > 1 && c->train.n != 1) {
		rc = df_fail(err, DF_EUSAGE,
		    "'%s': further files belong to one --train; with several, quote a glob for each", args->v[1]);
		goto out;
	}
	DF_TRY(make_sets(&c->train, args->v + 1, args->n - 1, &r->train, err));
	DF_TRY(make_sets(&c->val, NULL, 0, &r->val, err));
	r->opts = (struct df_select_opts){ .shortage = (enum df_shortage)c->shortage,
		.seed = (uint64_t)c->seed,
		.step = (uint32_t)c->step,
		.replacement = c->replacement,
		.torch_rng = c->rng == 1,
		.allow_invalid = c->allow_invalid,
		.train = r->train,
		.val = r->val,
		.n_train = c->train.n,
		.n_val = c->val.n,
		.subtasks = c->subtasks,
		.agg = (enum df_less_agg)c->agg,
		.val_agg = (enum df_less_val)c->val_agg,
		.scores = c->scores,
		.index = c->index,
		.program = c->program };
	r->opts.threads = c->common.threads ? (int)c->common.threads : df_threads_default();
	if (c->amount)
		DF_TRY(df_amount_parse(c->amount, &r->opts.amount, err));
	if (c->weights) {
		DF_TRY(parse_weights(c->weights, &r->weights, &r->opts.n_ckpt_weights, err));
		r->opts.ckpt_weights = r->weights;
	}
out:
	return rc;
}

/* The method and the amount, before what the method itself recorded. */
static int
start_meta(struct run *r, struct df_err *err)
{
	int rc = 0;

	DF_TRY(df_meta_set_tool(&r->sel.meta, "df-score", err));
	DF_TRY(df_meta_set_str(&r->sel.meta, "method", r->method->name, err));
	DF_TRY(df_meta_set_str(&r->sel.meta, "n", r->cfg.amount ? r->cfg.amount : "all", err));
	DF_TRY(df_meta_set_str(&r->sel.meta, "short",
	    shortages[r->opts.shortage == DF_SHORT_DEFAULT ? r->method->shortage : r->opts.shortage], err));
	DF_TRY(df_meta_set_bool(&r->sel.meta, "allow_invalid", r->opts.allow_invalid, err));
out:
	return rc;
}

/* What was chosen, in words: how many of each domain. */
static int
report(const struct df_selection *s, struct df_err *err)
{
	const size_t n_domains = s->domain ? s->meta.n_domains : 0;
	uint64_t *chosen = NULL, *all = NULL;
	struct df_buf b = DF_BUF_INIT;
	int rc = 0;

	DF_TRY(df_alloc(&chosen, n_domains, sizeof *chosen, "domains", err));
	DF_TRY(df_alloc(&all, n_domains, sizeof *all, "domains", err));
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
write_index(struct df_selection *s, const char *path, struct df_writer **out, struct df_err *err)
{
	const struct df_writer_opts opts = { .compress = DF_COMPRESS_DEFAULT };
	const size_t widths[DF_COL_COUNT] = { 0 };
	enum df_col cols[3] = { DF_COL_INDEX };
	struct df_batch b = DF_BATCH_INIT;
	uint16_t *domain = NULL;
	float *score = NULL;
	size_t n_cols = 1;
	int rc = 0;

	s->meta.kind = DF_KIND_INDEX;
	b.n = s->n_index;
	b.col[DF_COL_INDEX] = (struct df_column_data){ .data = s->index, .width = 1 };
	if (s->score) {
		DF_TRY(df_alloc(&score, s->n_index, sizeof *score, "scores", err));
		for (uint64_t i = 0; i < s->n_index; i++)
			score[i] = s->score[s->index[i]];
		b.col[DF_COL_SCORE] = (struct df_column_data){ .data = score, .width = 1 };
		cols[n_cols++] = DF_COL_SCORE;
	}
	/* So that df-show can tell how much of each domain was chosen. */
	if (s->domain) {
		DF_TRY(df_alloc(&domain, s->n_index, sizeof *domain, "domains", err));
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

static int
write_scores(struct df_selection *s, const char *path, struct df_writer **out, struct df_err *err)
{
	const struct df_writer_opts opts = { .compress = DF_COMPRESS_DEFAULT };
	const size_t widths[DF_COL_COUNT] = { 0 };
	enum df_col cols[4] = { DF_COL_ID, DF_COL_SCORE, DF_COL_RANK, DF_COL_DOMAIN };
	uint64_t *id = NULL, *order = NULL, *rank = NULL, valid;
	struct df_batch b = DF_BATCH_INIT;
	int rc = 0;

	if (!s->score)
		return df_fail(err, DF_EUSAGE, "--scores-output: this method chooses without scoring");
	DF_TRY(df_alloc(&id, s->n_rows, sizeof *id, "ids", err));
	DF_TRY(df_alloc(&order, s->n_rows, sizeof *order, "ranks", err));
	DF_TRY(df_alloc(&rank, s->n_rows, sizeof *rank, "ranks", err));
	DF_TRY(df_rank(s->score, s->n_rows, order, &valid, err));
	for (uint64_t i = 0; i < s->n_rows; i++) {
		id[i] = i;
		rank[order[i]] = i;
	}
	s->meta.kind = DF_KIND_SCORES;
	b.n = s->n_rows;
	b.col[DF_COL_ID] = (struct df_column_data){ .data = id, .width = 1 };
	b.col[DF_COL_SCORE] = (struct df_column_data){ .data = s->score, .width = 1 };
	b.col[DF_COL_RANK] = (struct df_column_data){ .data = rank, .width = 1 };
	b.col[DF_COL_DOMAIN] = (struct df_column_data){ .data = s->domain, .width = 1 };
	DF_TRY(df_writer_open(out, path, &s->meta, cols, s->domain ? 4 : 3, widths, &opts, err));
	DF_TRY(df_writer_put(*out, &b, err));
out:
	free(id);
	free(order);
	free(rank);
	df_batch_release(&b);
	return rc;
}

static int
select_and_write(struct run *r, struct df_err *err)
{
	struct df_writer *index = NULL, *scores = NULL;
	int rc = 0;

	DF_TRY(start_meta(r, err));
	DF_TRY(r->method->run(r->method, &r->opts, &r->sel, err));
	DF_TRY(report(&r->sel, err));
	if (r->cfg.scores_output)
		DF_TRY(write_scores(&r->sel, r->cfg.scores_output, &scores, err));
	if (r->cfg.output)
		DF_TRY(write_index(&r->sel, r->cfg.output, &index, err));
	if (scores)
		DF_TRY(df_writer_commit(scores, NULL, err));
	if (index)
		DF_TRY(df_writer_commit(index, NULL, err));
	df_prog_count(r->sel.n_rows, "rows");
out:
	df_writer_close(scores);
	df_writer_close(index);
	return rc;
}

static void
close_run(struct run *r)
{
	for (size_t i = 0; r->train && i < r->cfg.train.n; i++)
		free(r->train[i].v);
	for (size_t i = 0; r->val && i < r->cfg.val.n; i++)
		free(r->val[i].v);
	free(r->train);
	free(r->val);
	free(r->weights);
	free(r->cfg.train.v);
	free(r->cfg.val.v);
	df_selection_release(&r->sel);
}

int
main(int argc, char **argv)
{
	static struct run r = { .cfg = CFG_DEFAULT, .sel = DF_SELECTION_INIT };
	const struct df_opt opts[] = OPTS(&r.cfg);
	struct df_opt_result args;
	struct df_err err = DF_ERR_INIT;
	int rc = 0;

	df_prog_init("df-score");
	df_prog_parse(opts, synopsis, about, &r.cfg.common, argc, argv, &args);
	if (r.cfg.list) {
		for (size_t i = 0; df_selectors[i]; i++)
			printf("%-8s %s\n", df_selectors[i]->name, df_selectors[i]->about);
	} else {
		rc = fill_opts(&r, &args.operands, &err);
		if (!rc)
			rc = select_and_write(&r, &err);
	}
	close_run(&r);
	df_opt_result_release(&args);
	return df_prog_exit(rc, &err);
}
