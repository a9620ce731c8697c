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
#include "select/select.h"
#include "shard/scan.h"

/* The columns that are read. */
static const enum df_col used[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_PROJECTION };
#define N_USED (sizeof used / sizeof *used)

/* Read them only; but every column where the set's id is still to be made of its rows. */
static void
read_used(struct df_set *s)
{
	enum df_col all[DF_COL_COUNT];

	for (int c = 0; c < DF_COL_COUNT; c++)
		all[c] = (enum df_col)c;
	if (df_set_meta(s)->id[0])
		df_set_only(s, used, N_USED);
	else
		df_set_only(s, all, DF_COL_COUNT);
}

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
	int rc = 0;

	for (size_t i = 0; i < t->names.n; i++) {
		if (!strcmp(t->names.v[i], name)) {
			*number = (uint32_t)i;
			return 0;
		}
	}
	DF_TRY(df_grow(&t->names.v, &t->names.cap, t->names.n + 1, sizeof *t->names.v, "subtasks", err));
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
	int rc = 0;

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
	int rc = 0;

	df_set_only(val, used, 2); /* not the projections */
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
	read_used(val);
	df_batch_release(&b);
	return rc;
}

const char *const df_less_subtasks[] = { "domain", "none", NULL };

static int
tasks_find(struct tasks *t, const struct df_select_opts *o, struct df_set *val, struct df_err *err)
{
	const bool by_domain = !o->subtasks || !strcmp(o->subtasks, "domain");
	uint32_t all;
	int rc = 0;

	if (o->agg == DF_AGG_MEAN && !by_domain && strcmp(o->subtasks, "none") != 0)
		return df_fail(err, DF_EUSAGE,
		    "%s would have no effect: the mean is over all validation rows; leave the subtasks out, or aggregate by max",
		    o->subtasks);
	t->n = df_set_rows(val);
	DF_TRY(df_alloc(&t->of_row, t->n, sizeof *t->of_row, "subtasks", err));
	if (o->agg == DF_AGG_MEAN || (o->subtasks && !strcmp(o->subtasks, "none"))) {
		DF_TRY(task_number(t, "all", &all, err));
	} else if (by_domain) {
		DF_TRY(tasks_by_domain(t, val, err));
		if (!t->names.n)
			DF_TRY(task_number(t, "all", &all, err));
	} else {
		t->path = o->subtasks;
		DF_TRY(df_idset_init(&t->ids, t->n, err));
		rc = df_select_lines(o->subtasks, task_line, t, err);
		if (rc == DF_ENOINPUT)
			df_suggest(err, o->subtasks, df_less_subtasks);
		if (rc)
			goto out;
		DF_TRY(df_idset_check_full(&t->ids, o->subtasks, err));
	}
out:
	return rc;
}

/* ---- one checkpoint --------------------------------------------------------------- */

struct pass {
	struct df_set *set;
	struct df_less *less;
	double weight;
	double
	    *influence; /* train: [n_rows, tasks], by id; NULL: this pass is the only one, so take its best at once */
	struct df_selection *out; /* train: takes the scores then, and the domains the first time */
	bool domains;
	const struct tasks *tasks; /* val */
	struct df_idset ids;
	uint64_t done;
};

/* *result = the influences of a block's rows [n, tasks]. */
static int
train_work(void *ctx, struct df_batch *b, void **result, int worker, struct df_err *err)
{
	const struct pass *p = ctx;
	double *dots;
	int rc = 0;

	(void)worker;
	DF_TRY(df_arena_alloc(&b->arena, &dots, b->n, p->less->n_tasks * sizeof *dots, "scores", err));
	memset(dots, 0, b->n * p->less->n_tasks * sizeof *dots);
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
	int rc = 0;

	DF_TRY(df_idset_add(&p->ids, id, b->n, df_set_name(p->set), err));
	for (uint64_t i = 0; i < b->n; i++, dots += n_tasks) {
		if (!p->influence)
			p->out->score[id[i]] = best_of(dots, n_tasks);
		for (size_t j = 0; p->influence && j < n_tasks; j++)
			p->influence[id[i] * n_tasks + j] += dots[j];
	}
	if (p->domains)
		DF_TRY(df_select_domains(p->out, id, b->col[DF_COL_DOMAIN].data, b->n, df_set_name(p->set), err));
	p->done += b->n;
	df_progress(p->done, p->ids.n, "rows");
out:
	return rc;
}

static int
val_take(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct pass *p = ctx;
	const uint64_t *id = b->col[DF_COL_ID].data;
	const float *v = b->col[DF_COL_PROJECTION].data;
	int rc = 0;

	(void)result;
	DF_TRY(df_idset_add(&p->ids, id, b->n, df_set_name(p->set), err));
	for (uint64_t i = 0; i < b->n; i++) {
		if (!df_less_val_row(p->less, v + i * p->less->k, p->tasks->of_row[id[i]])) {
			rc = df_fail(err, DF_EFORMAT, "%s: id %" PRIu64 ": the validation gradient is not finite",
			    df_set_name(p->set), id[i]);
			goto out;
		}
	}
out:
	return rc;
}

/* All rows of a set, each id once: the training rows past the targets, or the validation rows into them. */
static int
scan(struct pass *p, bool train, int threads, struct df_err *err)
{
	const struct df_scan sc = { .set = p->set,
		.n_threads = threads,
		.work = train ? train_work : NULL,
		.take = train ? train_take : val_take,
		.ctx = p };
	int rc = 0;

	DF_TRY(df_idset_init(&p->ids, df_set_rows(p->set), err));
	DF_TRY(df_scan_run(&sc, err));
	DF_TRY(df_idset_check_full(&p->ids, df_set_name(p->set), err));
out:
	df_idset_release(&p->ids);
	return rc;
}

static int
read_targets(struct df_less *less, const struct tasks *t, struct df_set *val, int threads, struct df_err *err)
{
	struct pass p = { .set = val, .less = less, .tasks = t };
	int rc = 0;

	DF_TRY(scan(&p, false, threads, err));
	rc = df_less_end(less, err);
	if (rc)
		df_err_prefix(err, "%s: ", df_set_name(val));
out:
	return rc;
}

/* ---- all checkpoints ------------------------------------------------------------------ */

struct run {
	struct df_set **train, **val; /* [n] */
	size_t n;
	double *weight; /* [n], sums to 1 */
	struct tasks tasks;
	double *influence; /* [n_rows, tasks] sums over checkpoints; NULL with one */
};

static int
open_one(struct df_set **set, const char *role, const struct df_strlist *paths, struct df_err *err)
{
	int rc = df_set_open_later(set, DF_KIND_PROJECTIONS, role, paths->v, paths->n, err);

	if (!rc && df_set_is_stream(*set))
		rc = df_fail(err, DF_EUSAGE, "%s: projections to score must be in files", df_set_name(*set));
	if (!rc)
		read_used(*set);
	return rc;
}

/* Projections meet only when they were made alike: same matrix, same coordinates, same model, same rows. */
static int
check_belong(const struct run *r, size_t i, struct df_err *err)
{
	static const char *const checkpoint[] = { "checkpoint", NULL }, *const tokens[] = { "tokens", NULL };
	const struct df_meta *train = df_set_meta(r->train[i]), *val = df_set_meta(r->val[i]);
	char *form = NULL;
	int rc = 0;

	DF_TRY(df_meta_agree(
	    train, df_set_name(r->train[i]), val, df_set_name(r->val[i]), df_projection_params, checkpoint, err));
	DF_TRY(df_meta_agree(df_set_meta(r->train[0]), df_set_name(r->train[0]), train, df_set_name(r->train[i]),
	    df_projection_params, tokens, err));
	DF_TRY(df_meta_agree(df_set_meta(r->val[0]), df_set_name(r->val[0]), val, df_set_name(r->val[i]),
	    df_projection_params, tokens, err));
	if (df_set_width(r->train[i], DF_COL_PROJECTION) != df_set_width(r->val[i], DF_COL_PROJECTION)) {
		rc = df_fail(err, DF_EFORMAT, "%s has %zu dimensions, %s has %zu", df_set_name(r->train[i]),
		    df_set_width(r->train[i], DF_COL_PROJECTION), df_set_name(r->val[i]),
		    df_set_width(r->val[i], DF_COL_PROJECTION));
		goto out;
	}
	if (df_set_rows(r->train[i]) != df_set_rows(r->train[0]) || df_set_rows(r->val[i]) != df_set_rows(r->val[0])) {
		rc = df_fail(err, DF_ELINEAGE,
		    "%s and %s do not have the same number of rows as those of the first checkpoint",
		    df_set_name(r->train[i]), df_set_name(r->val[i]));
		goto out;
	}
	if (df_meta_get_str(val, "form", &form) && strcmp(form, "sgd"))
		df_warn(
		    "%s: validation gradients in '%s' form; LESS takes the loss's own gradient (df-grad --form sgd)",
		    df_set_name(r->val[i]), form);
out:
	free(form);
	return rc;
}

static int
set_weights(struct run *r, const struct df_select_opts *o, struct df_err *err)
{
	double sum = 0;

	if (o->ckpt_weights && o->n_ckpt_weights != r->n)
		return df_fail(err, DF_EUSAGE, "%zu checkpoint weights for %zu train sets", o->n_ckpt_weights, r->n);
	for (size_t i = 0; i < r->n; i++) {
		r->weight[i] = o->ckpt_weights ? o->ckpt_weights[i] : 1.0;
		if (!(r->weight[i] >= 0) || !isfinite(r->weight[i]))
			return df_fail(err, DF_EUSAGE, "checkpoint weight %g: must not be negative", r->weight[i]);
		sum += r->weight[i];
	}
	if (!(sum > 0))
		return df_fail(err, DF_EUSAGE, "all checkpoint weights are zero");
	for (size_t i = 0; i < r->n; i++)
		r->weight[i] /= sum;
	return 0;
}

static int
open_all(struct run *r, const struct df_select_opts *o, struct df_err *err)
{
	int rc = 0;

	r->n = o->n_train;
	if (!o->n_train || o->n_train != o->n_val)
		return df_fail(
		    err, DF_EUSAGE, "less needs a --train and a --val set of projections for each checkpoint");
	DF_TRY(df_alloc(&r->train, r->n, sizeof *r->train, "sets", err));
	DF_TRY(df_alloc(&r->val, r->n, sizeof *r->val, "sets", err));
	DF_TRY(df_alloc(&r->weight, r->n, sizeof *r->weight, "weights", err));
	DF_TRY(set_weights(r, o, err));
	for (size_t i = 0; i < r->n; i++) {
		DF_TRY(open_one(&r->train[i], "train projections", &o->train[i], err));
		DF_TRY(open_one(&r->val[i], "validation projections", &o->val[i], err));
		DF_TRY(check_belong(r, i, err));
	}
	if (!df_set_rows(r->val[0]))
		rc = df_fail(err, DF_EFORMAT, "%s: no validation rows", df_set_name(r->val[0]));
out:
	return rc;
}

/* What shaped the scores. */
static int
record(const struct run *r, const struct df_select_opts *o, struct df_meta *m, struct df_err *err)
{
	static const char *const aggs[] = { DF_LESS_AGG_NAMES }, *const vals[] = { DF_LESS_VAL_NAMES };
	const struct df_meta *first = df_set_meta(r->train[0]);
	struct df_buf b = DF_BUF_INIT;
	int rc = 0;

	DF_TRY(df_meta_set_str(m, "agg", aggs[o->agg], err));
	DF_TRY(df_meta_set_str(m, "val_agg", vals[o->val_agg], err));
	for (size_t i = 0; i < r->tasks.names.n; i++)
		df_buf_printf(&b, "%s%s", i ? "," : "", r->tasks.names.v[i]);
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_meta_set_str(m, "subtasks", b.data, err));
	df_buf_clear(&b);
	for (size_t i = 0; i < r->n; i++) {
		df_buf_puts(&b, i ? "," : "");
		df_buf_json_double(&b, r->weight[i]);
	}
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_meta_set_str(m, "ckpt_weights", b.data, err));
	for (size_t i = 0; i < first->n_domains; i++)
		DF_TRY(df_meta_add_domain(m, first->domains[i], NULL, err));
out:
	df_buf_release(&b);
	return rc;
}

/* After the scans, when every set has its id. */
static int
record_inputs(const struct run *r, struct df_meta *m, struct df_err *err)
{
	const char *tokens = df_select_tokens_id(df_set_meta(r->train[0]));
	int rc = 0;

	if (tokens)
		DF_TRY(df_meta_add_input(m, "tokens", "tokens", tokens, err));
	for (size_t i = 0; i < r->n; i++) {
		const struct df_meta *train = df_set_meta(r->train[i]), *val = df_set_meta(r->val[i]);
		const struct df_input *ckpt = df_meta_input(train, "checkpoint");

		if (ckpt)
			DF_TRY(df_meta_add_input(m, "checkpoint", ckpt->kind, ckpt->id, err));
		if (train->id[0])
			DF_TRY(df_meta_add_input(m, "train", "projections", train->id, err));
		if (val->id[0])
			DF_TRY(df_meta_add_input(m, "val", "projections", val->id, err));
	}
out:
	return rc;
}

static int
score_all(struct run *r, const struct df_select_opts *o, struct df_selection *out, struct df_err *err)
{
	struct df_less less = { 0 };
	const size_t n_tasks = r->tasks.names.n;
	size_t n;
	int rc = 0;

	out->n_rows = df_set_rows(r->train[0]);
	DF_TRY(df_size_mul(out->n_rows, n_tasks, &n, "influences", err));
	if (r->n > 1)
		DF_TRY(df_alloc(&r->influence, n, sizeof *r->influence, "influences", err));
	DF_TRY(df_alloc(&out->score, out->n_rows, sizeof *out->score, "scores", err));
	if (df_set_meta(r->train[0])->n_domains && df_set_has(r->train[0], DF_COL_DOMAIN))
		DF_TRY(df_alloc(&out->domain, out->n_rows, sizeof *out->domain, "domains", err));
	for (size_t i = 0; i < r->n; i++) {
		struct pass p = { .set = r->train[i],
			.less = &less,
			.weight = r->weight[i],
			.influence = r->influence,
			.out = out,
			.domains = i == 0 && out->domain };

		df_less_release(&less);
		DF_TRY(df_less_init(&less, df_set_width(r->train[i], DF_COL_PROJECTION), n_tasks, o->val_agg, err));
		DF_TRY(read_targets(&less, &r->tasks, r->val[i], o->threads, err));
		DF_TRY(scan(&p, true, o->threads, err));
	}
	for (uint64_t id = 0; r->influence && id < out->n_rows; id++)
		out->score[id] = best_of(r->influence + id * n_tasks, n_tasks);
out:
	df_less_release(&less);
	return rc;
}

static int
run(const struct df_selector *self, const struct df_select_opts *o, struct df_selection *out, struct df_err *err)
{
	struct run r = { 0 };
	int rc = 0;

	DF_TRY(open_all(&r, o, err));
	DF_TRY(tasks_find(&r.tasks, o, r.val[0], err));
	DF_TRY(record(&r, o, &out->meta, err));
	DF_TRY(score_all(&r, o, out, err));
	DF_TRY(record_inputs(&r, &out->meta, err));
	DF_TRY(df_select_top(self, o, out, err));
out:
	for (size_t i = 0; i < r.n; i++) {
		if (r.train)
			df_set_close(r.train[i]);
		if (r.val)
			df_set_close(r.val[i]);
	}
	free(r.train);
	free(r.val);
	free(r.weight);
	free(r.influence);
	tasks_release(&r.tasks);
	return rc;
}

const struct df_selector df_select_less = {
	.name = "less",
	.about = "influence on a target set: cosine of projected gradients, over checkpoints and subtasks",
	.shortage = DF_SHORT_ERROR,
	.run = run,
};
