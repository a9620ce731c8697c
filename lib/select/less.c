/*
 * less.c - LESS: pick the training rows whose optimiser step most decreases the loss of a small target set.
 *
 * Xia, Malladi, Gururangan, Arora, Chen: "LESS: Selecting Influential Data for
 * Targeted Instruction Tuning", ICML 2024, sec. 4.  Per checkpoint i: training rows
 * z in Adam's form, validation rows v as plain gradients, both projected;
 *   I_j(z) = sum_i w_i mean over v in subtask j of cos(z_i, v_i),   score(z) = max_j I_j(z).
 *
 *   val set i   --> c_ij, one vector per subtask
 *   train set i --> read, <unit z, c_ij> on all threads | add to I by id
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "project/project.h"
#include "select/less.h"
#include "select/select.h"
#include "select/subtasks.h"

enum agg { AGG_MAX, AGG_MEAN }; /* over subtasks; mean: over all validation rows */
static const char *const aggs[] = { "max", "mean", NULL };
static const char *const val_aggs[] = { "mean-of-cosine", "cosine-of-mean", NULL }; /* enum df_less_val */

struct options {
	const char *weights, *subtasks;
	int agg, val_agg;
};

static const enum df_col columns[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_PROJECTION };
static const char *const same_checkpoint[] = { "checkpoint", NULL };

enum { TRAIN, VAL };
static const struct df_select_input inputs[] = {
	[TRAIN] = { .role = "train",
	    .name = "train projections",
	    .help = "projections to choose from, Adam's form; repeatable",
	    .kind = DF_KIND_PROJECTIONS,
	    .sets = DF_SETS_CHECKPOINTS,
	    .columns = columns,
	    .n_columns = 3,
	    .params = df_projection_params },
	[VAL] = { .role = "val",
	    .name = "validation projections",
	    .help = "the target's projections, one set per --train",
	    .kind = DF_KIND_PROJECTIONS,
	    .join = DF_JOIN_OWN,
	    .sets = DF_SETS_CHECKPOINTS,
	    .columns = columns,
	    .n_columns = 3,
	    .params = df_projection_params,
	    .common = same_checkpoint },
};

/* ---- one checkpoint --------------------------------------------------------------- */

struct pass {
	const struct df_select *in;
	struct df_set *set;
	struct df_less *less;
	double weight;
	double
	    *influence; /* train: [n_rows, tasks], by id; NULL: this pass is the only one, so take its best at once */
	struct df_selection *out;
	const struct df_subtasks *tasks; /* val */
};

/* *result = the influences of a block's rows [n, tasks]. */
static int
train_work(void *ctx, struct df_batch *b, void **result, int worker, struct df_err *err)
{
	const struct pass *p = ctx;
	double *dots;
	int rc = DF_OK;

	(void)worker;
	DF_TRY(df_arena_alloc(&b->arena, &dots, b->n, p->less->n_tasks * sizeof(*dots), "scores", err));
	memset(dots, 0, b->n * p->less->n_tasks * sizeof(*dots));
	df_less_train_rows(p->less, b->col[DF_COL_PROJECTION].data, b->n, p->weight, dots);
	*result = dots;
out:
	return rc;
}

/* The best of a row's subtasks. */
static float
best_of(const double *influence, size_t n_tasks)
{
	double best = influence[0];

	for (size_t j = 1; j < n_tasks; j++)
		best = fmax(best, influence[j]);
	return (float)best;
}

static int
train_take(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct pass *p = ctx;
	const uint64_t *id = b->col[DF_COL_ID].data;
	const size_t n_tasks = p->less->n_tasks;
	const double *dots = result;

	(void)err;
	for (uint64_t i = 0; i < b->n; i++, dots += n_tasks) {
		if (!p->influence)
			p->out->score[id[i]] = best_of(dots, n_tasks);
		for (size_t j = 0; p->influence && j < n_tasks; j++)
			p->influence[id[i] * n_tasks + j] += dots[j];
	}
	return DF_OK;
}

static int
val_take(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct pass *p = ctx;
	const uint64_t *id = b->col[DF_COL_ID].data;
	const float *v = b->col[DF_COL_PROJECTION].data;

	(void)result;
	for (uint64_t i = 0; i < b->n; i++) {
		if (!df_less_val_row(p->less, v + i * p->less->k, p->tasks->of_row[id[i]]))
			return df_fail(err, DF_EFORMAT, "%s: id %" PRIu64 ": the validation gradient is not finite",
			    df_set_name(p->set), id[i]);
	}
	return DF_OK;
}

/* The validation rows of checkpoint i into its targets. */
static int
read_targets(struct pass *p, size_t i, struct df_err *err)
{
	const struct df_select_scan sc = {
		.in = p->in, .input = VAL, .set = i, .out = p->out, .take = val_take, .ctx = p
	};
	int rc = DF_OK;

	p->set = p->in->sets[VAL].v[i];
	DF_TRY(df_select_scan(&sc, err));
	rc = df_less_end(p->less, err);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", df_set_name(p->set));
out:
	return rc;
}

/* The training rows of checkpoint i past them. */
static int
read_train(struct pass *p, size_t i, struct df_err *err)
{
	const struct df_select_scan sc = {
		.in = p->in, .input = TRAIN, .set = i, .out = p->out, .work = train_work, .take = train_take, .ctx = p
	};

	return df_select_scan(&sc, err);
}

/* ---- all checkpoints ------------------------------------------------------------------ */

/* "3e-5,1e-5" as weights [n] that sum to 1, equal ones for NULL. */
static int
parse_weights(const char *text, size_t n, double *weight, struct df_err *err)
{
	char *copy = NULL, *rest = NULL, *w;
	double sum = 0;
	size_t n_given = 0;
	int rc = DF_OK;

	for (size_t i = 0; i < n; i++)
		weight[i] = 1.0;
	if (text) {
		DF_TRY(df_strdup(&copy, text, err));
		rest = copy;
	}
	for (; (w = strsep(&rest, ",")); n_given++) {
		double x = 0;

		DF_TRY(df_parse_double(w, &x, err));
		if (x < 0) {
			rc = df_fail(err, DF_EUSAGE, "%g must not be negative", x);
			goto out;
		}
		if (n_given < n)
			weight[n_given] = x;
	}
	if (text && n_given != n) {
		rc = df_fail(err, DF_EUSAGE, "%zu checkpoint weights for %zu train sets", n_given, n);
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		sum += weight[i];
	if (!(sum > 0)) {
		rc = df_fail(err, DF_EUSAGE, "all checkpoint weights are zero");
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		weight[i] /= sum;
out:
	if (rc != DF_OK)
		df_err_prefix(err, "--ckpt-weights: ");
	free(copy);
	return rc;
}

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;
	double *weight = NULL;
	int rc = DF_OK;

	if (o->agg == AGG_MEAN && strcmp(o->subtasks, "domain") != 0 && strcmp(o->subtasks, "none") != 0)
		return df_fail(err, DF_EUSAGE,
		    "%s would have no effect: the mean is over all validation rows; leave the subtasks out, or aggregate by max",
		    o->subtasks);
	DF_TRY(df_alloc(&weight, in->paths[TRAIN].n, sizeof(*weight), "weights", err));
	if (in->paths[TRAIN].n > 0)
		DF_TRY(parse_weights(o->weights, in->paths[TRAIN].n, weight, err));
out:
	free(weight);
	return rc;
}

/* What shaped the scores. */
static int
record(const struct options *o, const struct df_subtasks *t, const double *weight, size_t n, struct df_meta *m,
    struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	int rc = DF_OK;

	DF_TRY(df_meta_set_str(m, "agg", aggs[o->agg], err));
	DF_TRY(df_meta_set_str(m, "val_agg", val_aggs[o->val_agg], err));
	DF_TRY(df_subtasks_record(t, m, err));
	for (size_t i = 0; i < n; i++) {
		df_buf_puts(&b, i ? "," : "");
		df_buf_json_double(&b, weight[i]);
	}
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_meta_set_str(m, "ckpt_weights", b.data, err));
out:
	df_buf_release(&b);
	return rc;
}

static void
warn_of_form(struct df_set *val)
{
	char *form = NULL;

	if (df_meta_get_str(df_set_meta(val), "form", &form) && strcmp(form, "sgd") != 0)
		df_warn(
		    "%s: validation gradients in '%s' form; LESS takes the loss's own gradient (df-grad --form sgd)",
		    df_set_name(val), form);
	free(form);
}

static int
score_all(const struct df_select *in, const struct options *o, const struct df_subtasks *t, const double *weight,
    struct df_selection *out, struct df_err *err)
{
	const size_t n_sets = in->sets[TRAIN].n, n_tasks = t->names.n;
	struct df_less less = { 0 };
	double *influence = NULL; /* [n_rows, tasks] sums over checkpoints; NULL with one */
	size_t n;
	int rc = DF_OK;

	DF_TRY(df_size_mul(out->n_rows, n_tasks, &n, "influences", err));
	if (n_sets > 1)
		DF_TRY(df_alloc(&influence, n, sizeof(*influence), "influences", err));
	DF_TRY(df_alloc(&out->score, out->n_rows, sizeof(*out->score), "scores", err));
	for (size_t i = 0; i < n_sets; i++) {
		const size_t k = df_set_width(in->sets[TRAIN].v[i], DF_COL_PROJECTION);
		struct pass p = {
			.in = in, .less = &less, .weight = weight[i], .influence = influence, .out = out, .tasks = t
		};

		df_less_release(&less);
		DF_TRY(df_less_init(&less, k, n_tasks, (enum df_less_val)o->val_agg, err));
		DF_TRY(read_targets(&p, i, err));
		DF_TRY(read_train(&p, i, err));
	}
	for (uint64_t id = 0; influence && id < out->n_rows; id++)
		out->score[id] = best_of(influence + id * n_tasks, n_tasks);
out:
	free(influence);
	df_less_release(&less);
	return rc;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	const size_t n = in->sets[TRAIN].n;
	struct df_subtasks tasks = { 0 };
	double *weight = NULL;
	int rc = DF_OK;

	for (size_t i = 0; i < n; i++)
		warn_of_form(in->sets[VAL].v[i]);
	DF_TRY(df_alloc(&weight, n, sizeof(*weight), "weights", err));
	DF_TRY(parse_weights(o->weights, n, weight, err));
	DF_TRY(
	    df_subtasks_find(&tasks, o->agg == AGG_MEAN ? "none" : o->subtasks, &inputs[VAL], in->sets[VAL].v[0], err));
	DF_TRY(record(o, &tasks, weight, n, &out->meta, err));
	DF_TRY(score_all(in, o, &tasks, weight, out, err));
	DF_TRY(df_select_top(in, out, err));
out:
	free(weight);
	df_subtasks_release(&tasks);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "ckpt-weights", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, weights), .arg = "W,W...",
	    .help = "learning rate of each checkpoint (default: equal)" },
	{ .name = "subtasks", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, subtasks), .arg = "WHAT",
	    .file = DF_FILE_READ_ANY, .choices = df_subtasks_words, .help = "groups of the target: domain, none, FILE" },
	{ .name = "agg", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, agg), .choices = aggs,
	    .help = "best subtask, or mean over target rows" },
	{ .name = "val-agg", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, val_agg), .choices = val_aggs,
	    .help = "in a subtask" },
	DF_OPT_END };
/* clang-format on */

const struct df_selector df_select_less = {
	.name = "less",
	.about = "by influence on a target set's loss",
	.model = "yes",
	.cost = "gradients",
	.shortage = DF_SHORT_ERROR,
	.inputs = inputs,
	.n_inputs = 2,
	.defaults = &(const struct options){ .subtasks = "domain" },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
