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
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "project/project.h"
#include "select/less.h"
#include "select/select.h"
#include "select/target.h"

struct options {
	struct df_target_opts target;
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
	struct df_less *less;
	double weight;
	double *influence; /* [n_rows, tasks], by id; NULL: this pass is the only one, so take its best at once */
	struct df_selection *out;
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
			p->out->score[id[i]] = df_target_best(dots, n_tasks);
		for (size_t j = 0; p->influence && j < n_tasks; j++)
			p->influence[id[i] * n_tasks + j] += dots[j];
	}
	return DF_OK;
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

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;
	const struct df_target_opts target = df_target_effective(in, &o->target);

	return df_target_check(&target, in->paths[TRAIN].n, err);
}

static int
score_all(const struct df_select *in, const struct df_target *t, struct df_selection *out, struct df_err *err)
{
	const size_t n_sets = in->sets[TRAIN].n, n_tasks = t->tasks.names.n;
	struct df_less less = { 0 };
	double *influence = NULL; /* [n_rows, tasks] sums over checkpoints; NULL with one */
	size_t n;
	int rc = DF_OK;

	DF_TRY(df_size_mul(out->n_rows, n_tasks, &n, "influences", err));
	if (n_sets > 1)
		DF_TRY(df_alloc(&influence, n, sizeof(*influence), "influences", err));
	DF_TRY(df_alloc(&out->score, out->n_rows, sizeof(*out->score), "scores", err));
	for (size_t i = 0; i < n_sets; i++) {
		struct pass p = { .in = in, .less = &less, .weight = t->weight[i], .influence = influence, .out = out };

		df_less_release(&less);
		DF_TRY(df_target_read(t, i, &less, out, err));
		DF_TRY(read_train(&p, i, err));
	}
	for (uint64_t id = 0; influence && id < out->n_rows; id++)
		out->score[id] = df_target_best(influence + id * n_tasks, n_tasks);
out:
	free(influence);
	df_less_release(&less);
	return rc;
}

int
df_less_select(const struct df_select *in, const struct df_target_opts *o, struct df_selection *out, struct df_err *err)
{
	struct df_target target;
	int rc = DF_OK;

	DF_TRY(df_target_open(&target, in, VAL, o, &out->meta, err));
	DF_TRY(score_all(in, &target, out, err));
	DF_TRY(df_select_top(in, out, err));
out:
	df_target_release(&target);
	return rc;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	const struct df_target_opts target = df_target_effective(in, &o->target);

	df_target_expect_losses(in, VAL);
	return df_less_select(in, &target, out, err);
}

/* clang-format off */
static const struct df_opt options[] = {
	DF_TARGET_OPTS(struct options, target),
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
	.defaults = &(const struct options){ DF_TARGET_DEFAULTS },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
