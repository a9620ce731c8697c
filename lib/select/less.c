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
#include "base/words.h"
#include "project/project.h"
#include "select/less.h"
#include "select/select.h"

enum agg { AGG_MAX, AGG_MEAN }; /* over subtasks; mean: over all validation rows */
static const char *const aggs[] = { "max", "mean", NULL };
static const char *const val_aggs[] = { "mean-of-cosine", "cosine-of-mean", NULL }; /* enum df_less_val */
static const char *const groupings[] = { "domain", "none", NULL };                  /* or a file */

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

/* ---- subtasks ------------------------------------------------------------------- */

struct tasks {
	struct df_strlist names; /* owned strings */
	uint32_t *of_row;        /* [n] by id of the validation row */
	uint64_t n;
	uint64_t seen; /* rows of a file */
	struct df_idset ids;
	const char *path;
};

static void
tasks_release(struct tasks *t)
{
	for (size_t i = 0; i < t->names.n; i++)
		free((char *)(uintptr_t)t->names.v[i]);
	free(t->names.v);
	free(t->of_row);
	df_idset_release(&t->ids);
}

static int
task_number(struct tasks *t, const char *name, uint32_t *number, struct df_err *err)
{
	char *copy = NULL;
	int rc = DF_OK;

	for (size_t i = 0; i < t->names.n; i++) {
		if (strcmp(t->names.v[i], name) == 0) {
			*number = (uint32_t)i;
			return DF_OK;
		}
	}
	DF_TRY(df_grow(&t->names.v, &t->names.cap, t->names.n + 1, sizeof(*t->names.v), "subtasks", err));
	DF_TRY(df_strdup(&copy, name, err));
	*number = (uint32_t)t->names.n;
	t->names.v[t->names.n++] = copy;
out:
	return rc;
}

/* "label", for the next row, or "id<TAB>label". */
static int
task_line(void *ctx, char *line, uint64_t number, struct df_err *err)
{
	struct tasks *t = ctx;
	char *tab = strchr(line, '\t');
	int64_t id = (int64_t)t->seen;
	uint32_t task = 0;
	int rc = DF_OK;

	(void)number;
	if (tab) {
		*tab = '\0';
		if (df_parse_int(line, 0, INT64_MAX, &id, err))
			return DF_EFORMAT;
	}
	DF_TRY(df_idset_add(&t->ids, &(uint64_t){ (uint64_t)id }, 1, t->path, err));
	DF_TRY(task_number(t, tab ? tab + 1 : line, &task, err));
	t->of_row[id] = task;
	t->seen++;
out:
	return rc;
}

/* Each validation row's domain is its subtask; the names are those that occur. */
static int
tasks_by_domain(struct tasks *t, struct df_set *val, struct df_err *err)
{
	const struct df_meta *m = df_set_meta(val);
	struct df_batch b = DF_BATCH_INIT;
	int rc = DF_OK;

	df_set_only(val, columns, 2); /* not the projections */
	for (uint64_t first = 0, n; first < t->n; first += n) {
		const uint16_t *domain;
		const uint64_t *id;

		n = t->n - first < 4096 ? t->n - first : 4096;
		DF_TRY(df_set_read(val, first, n, &b, err));
		id = b.col[DF_COL_ID].data;
		domain = b.col[DF_COL_DOMAIN].data;
		for (uint64_t i = 0; domain && i < n; i++) {
			if (id[i] >= t->n || domain[i] >= m->n_domains) {
				rc = df_fail(err, DF_EFORMAT,
				    "%s: row %" PRIu64 ": id %" PRIu64 " or domain %u is out of range",
				    df_set_name(val), first + i, id[i], domain[i]);
				goto out;
			}
			DF_TRY(task_number(t, m->domains[domain[i]], &t->of_row[id[i]], err));
		}
	}
out:
	df_select_columns(&inputs[VAL], val);
	df_batch_release(&b);
	return rc;
}

static int
tasks_find(struct tasks *t, const struct options *o, struct df_set *val, struct df_err *err)
{
	uint32_t all;
	int rc = DF_OK;

	t->n = df_set_rows(val);
	DF_TRY(df_alloc(&t->of_row, t->n, sizeof(*t->of_row), "subtasks", err));
	if (o->agg == AGG_MEAN || strcmp(o->subtasks, "none") == 0) {
		DF_TRY(task_number(t, "all", &all, err));
	} else if (strcmp(o->subtasks, "domain") == 0) {
		DF_TRY(tasks_by_domain(t, val, err));
		if (!t->names.n)
			DF_TRY(task_number(t, "all", &all, err));
	} else {
		t->path = o->subtasks;
		DF_TRY(df_idset_init(&t->ids, t->n, err));
		rc = df_select_lines(o->subtasks, task_line, t, err);
		if (rc == DF_ENOINPUT)
			df_suggest(err, o->subtasks, groupings);
		if (rc != DF_OK)
			goto out;
		DF_TRY(df_idset_check_full(&t->ids, o->subtasks, err));
	}
out:
	return rc;
}

/* ---- one checkpoint --------------------------------------------------------------- */

struct pass {
	const struct df_select *in;
	struct df_set *set;
	struct df_less *less;
	double weight;
	double
	    *influence; /* train: [n_rows, tasks], by id; NULL: this pass is the only one, so take its best at once */
	struct df_selection *out;
	const struct tasks *tasks; /* val */
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

/* The options that count: DataFlex takes the mean over all validation rows, and knows no subtasks. */
static struct options
effective(const struct df_select *in, const void *options)
{
	struct options o = *(const struct options *)options;

	if (in->dataflex)
		o.agg = AGG_MEAN;
	return o;
}

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options opts = effective(in, options), *o = &opts;
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
record(const struct options *o, const struct tasks *t, const double *weight, size_t n, struct df_meta *m,
    struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	int rc = DF_OK;

	DF_TRY(df_meta_set_str(m, "agg", aggs[o->agg], err));
	DF_TRY(df_meta_set_str(m, "val_agg", val_aggs[o->val_agg], err));
	for (size_t i = 0; i < t->names.n; i++)
		df_buf_printf(&b, "%s%s", i ? "," : "", t->names.v[i]);
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_meta_set_str(m, "subtasks", b.data, err));
	df_buf_clear(&b);
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
score_all(const struct df_select *in, const struct options *o, const struct tasks *t, const double *weight,
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
	const struct options opts = effective(in, options), *o = &opts;
	const size_t n = in->sets[TRAIN].n;
	struct tasks tasks = { 0 };
	double *weight = NULL;
	int rc = DF_OK;

	for (size_t i = 0; i < n; i++)
		warn_of_form(in->sets[VAL].v[i]);
	DF_TRY(df_alloc(&weight, n, sizeof(*weight), "weights", err));
	DF_TRY(parse_weights(o->weights, n, weight, err));
	DF_TRY(tasks_find(&tasks, o, in->sets[VAL].v[0], err));
	DF_TRY(record(o, &tasks, weight, n, &out->meta, err));
	DF_TRY(score_all(in, o, &tasks, weight, out, err));
	DF_TRY(df_select_top(in, out, err));
out:
	free(weight);
	tasks_release(&tasks);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "ckpt-weights", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, weights), .arg = "W,W...",
	    .help = "learning rate of each checkpoint (default: equal)" },
	{ .name = "subtasks", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, subtasks), .arg = "WHAT",
	    .file = DF_FILE_READ_ANY, .choices = groupings, .help = "groups of the target: domain, none, FILE" },
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
	.dataflex = true,
	.inputs = inputs,
	.n_inputs = 2,
	.defaults = &(const struct options){ .subtasks = "domain" },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
