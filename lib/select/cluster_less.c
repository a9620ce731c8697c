/*
 * cluster_less.c - LESS at a fraction of its cost: gradients of a few representatives of each cluster only; every row
 * has its cluster's score.
 *
 * DataFlex's cluster-LESS.  With u_r the unit projections of a cluster's representatives r, and a = the unit vector of
 * their mean, per checkpoint, the cluster's influence is that of a training row with the gradient a (less.c).
 *
 *   train: clusters of all rows     (df-score cluster --scores-output)
 *   reps set i --> a of each cluster --> I[cluster, subtask] += w_i <a, c_ij>      (df-grad --index)
 *   val set i  --> c_ij
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "project/project.h"
#include "select/select.h"
#include "select/target.h"

#define NONE  UINT32_MAX /* the cluster of a row that is in none */
#define BLOCK 64         /* clusters scored at a time */

struct options {
	struct df_target_opts target;
};

static const enum df_col cluster_columns[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_SCORE, DF_COL_CLUSTER };
static const enum df_col columns[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_PROJECTION };

enum { TRAIN, REPS, VAL };
static const struct df_select_input inputs[] = {
	[TRAIN] = { .role = "train",
	    .name = "clusters",
	    .help = "clusters to choose from: scores of df-score cluster",
	    .kind = DF_KIND_SCORES,
	    .columns = cluster_columns,
	    .n_columns = 4 },
	[REPS] = { .role = "reps",
	    .name = "projections of representatives",
	    .help = "projections of some rows, Adam's form; repeatable",
	    .kind = DF_KIND_PROJECTIONS,
	    .join = DF_JOIN_SOME,
	    .sets = DF_SETS_ANY,
	    .columns = columns,
	    .n_columns = 3 },
	[VAL] = { .role = "val",
	    .name = "validation projections",
	    .help = "the target's projections, one set per --reps",
	    .kind = DF_KIND_PROJECTIONS,
	    .join = DF_JOIN_OWN,
	    .sets = DF_SETS_ANY,
	    .columns = columns,
	    .n_columns = 3 },
};

struct run {
	const struct df_select *in;
	const struct df_target *target;
	struct df_selection *out;
	uint64_t n_clusters;
	double *influence; /* [n_clusters, subtasks] over all checkpoints; NaN: no representative is finite */
	/* One checkpoint: slots are the clusters that have representatives. */
	struct df_less sums; /* a "subtask" is a slot */
	uint32_t *slot;      /* [n_clusters] or NONE */
	uint32_t n_slots;
	uint64_t n_bad; /* representatives that are not finite, in all checkpoints */
};

/* ---- the clusters --------------------------------------------------------------------- */

static int
take_clusters(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct run *r = ctx;
	const uint64_t *id = b->col[DF_COL_ID].data;
	const uint32_t *cluster = b->col[DF_COL_CLUSTER].data;
	const float *score = b->col[DF_COL_SCORE].data;

	(void)result;
	for (uint64_t i = 0; i < b->n; i++) {
		if (cluster[i] != NONE && cluster[i] >= r->out->n_rows)
			return df_fail(err, DF_EFORMAT,
			    "%s: sample %" PRIu64 " is in cluster %" PRIu32 ", but there are only %" PRIu64 " rows",
			    df_set_name(r->in->sets[TRAIN].v[0]), id[i], cluster[i], r->out->n_rows);
		r->out->cluster[id[i]] = cluster[i];
		r->out->tie[id[i]] = score[i];
		if (cluster[i] != NONE && cluster[i] >= r->n_clusters)
			r->n_clusters = (uint64_t)cluster[i] + 1;
	}
	return DF_OK;
}

static int
read_clusters(struct run *r, struct df_err *err)
{
	const struct df_select_scan sc = {
		.in = r->in, .input = TRAIN, .out = r->out, .take = take_clusters, .ctx = r
	};
	struct df_set *set = r->in->sets[TRAIN].v[0];
	int rc = DF_OK;

	if (!df_set_has(set, DF_COL_CLUSTER))
		return df_fail(err, DF_EFORMAT,
		    "%s: no clusters are in it: df-score cluster --scores-output makes such a file", df_set_name(set));
	DF_TRY(df_alloc(&r->out->cluster, r->out->n_rows, sizeof(*r->out->cluster), "clusters", err));
	DF_TRY(df_alloc(&r->out->tie, r->out->n_rows, sizeof(*r->out->tie), "scores", err));
	DF_TRY(df_select_scan(&sc, err));
out:
	return rc;
}

/* ---- one checkpoint --------------------------------------------------------------- */

static int
take_representatives(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct run *r = ctx;
	const uint64_t *id = b->col[DF_COL_ID].data;
	const float *z = b->col[DF_COL_PROJECTION].data;

	(void)result;
	(void)err;
	for (uint64_t i = 0; i < b->n; i++) {
		const uint32_t cluster = r->out->cluster[id[i]];

		if (cluster == NONE)
			continue;
		if (r->slot[cluster] == NONE)
			r->slot[cluster] = r->n_slots++;
		r->n_bad += !df_less_val_row(&r->sums, z + i * r->sums.k, r->slot[cluster]);
	}
	return DF_OK;
}

/* The representatives of checkpoint i, added up by cluster. */
static int
read_representatives(struct run *r, size_t i, struct df_err *err)
{
	const struct df_select_scan sc = {
		.in = r->in, .input = REPS, .set = i, .out = r->out, .take = take_representatives, .ctx = r
	};
	struct df_set *set = r->in->sets[REPS].v[i];
	const uint64_t rows = df_set_rows(set), n = rows < r->n_clusters ? rows : r->n_clusters;
	int rc = DF_OK;

	for (uint64_t c = 0; c < r->n_clusters; c++)
		r->slot[c] = NONE;
	r->n_slots = 0;
	df_less_release(&r->sums);
	DF_TRY(df_less_init(&r->sums, df_set_width(set, DF_COL_PROJECTION), n, DF_VAL_MEAN_OF_COSINE, err));
	DF_TRY(df_select_scan(&sc, err));
out:
	return rc;
}

/* a [k] = the mean of a slot's unit vectors; the scale does not matter to what follows, but a norm of 1e-12 is none. */
static void
mean_of_slot(const struct df_less *sums, size_t slot, float *a)
{
	const double *hi = sums->hi + slot * sums->k, *lo = sums->lo + slot * sums->k;
	const double n = (double)sums->n_rows[slot];

	for (size_t i = 0; i < sums->k; i++)
		a[i] = (float)((hi[i] + lo[i]) / n); /* NaN without rows */
}

/* Add the influences of the n clusters `cluster`, whose vectors are a [n, k]; dots: scratch [n, subtasks]. */
static void
add_influences(struct run *r, const struct df_less *targets, double weight, const uint64_t *cluster, size_t n,
    const float *a, double *dots)
{
	const size_t n_tasks = targets->n_tasks;

	memset(dots, 0, n * n_tasks * sizeof(*dots));
	df_less_train_rows(targets, a, n, weight, dots);
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < n_tasks; j++)
			r->influence[cluster[i] * n_tasks + j] += dots[i * n_tasks + j];
}

static int
score_clusters(struct run *r, const struct df_less *targets, double weight, struct df_err *err)
{
	const size_t k = targets->k, n_tasks = targets->n_tasks;
	uint64_t cluster[BLOCK];
	float *a = NULL;
	double *dots = NULL;
	size_t n = 0, numel;
	int rc = DF_OK;

	DF_TRY(df_size_mul(BLOCK, k, &numel, "cluster vectors", err));
	DF_TRY(df_alloc(&a, numel, sizeof(*a), "cluster vectors", err));
	DF_TRY(df_size_mul(BLOCK, n_tasks, &numel, "influences", err));
	DF_TRY(df_alloc(&dots, numel, sizeof(*dots), "influences", err));
	for (uint64_t c = 0; c < r->n_clusters; c++) {
		if (r->slot[c] == NONE) {
			for (size_t j = 0; j < n_tasks; j++)
				r->influence[c * n_tasks + j] = (double)NAN;
			continue;
		}
		mean_of_slot(&r->sums, r->slot[c], a + n * k);
		cluster[n++] = c;
		if (n == BLOCK) {
			add_influences(r, targets, weight, cluster, n, a, dots);
			n = 0;
		}
	}
	add_influences(r, targets, weight, cluster, n, a, dots);
out:
	free(a);
	free(dots);
	return rc;
}

/* Representatives and target of checkpoint i belong together, and to the first representatives. */
static int
check_sets(const struct df_select *in, size_t i, struct df_err *err)
{
	static const char *const same[] = { "checkpoint", NULL }, *const none[] = { NULL };
	const struct df_set *first = in->sets[REPS].v[0], *reps = in->sets[REPS].v[i], *val = in->sets[VAL].v[i];
	const size_t x = df_set_width(reps, DF_COL_PROJECTION), y = df_set_width(val, DF_COL_PROJECTION);
	int rc = DF_OK;

	DF_TRY(df_meta_agree(df_set_meta(first), df_set_name(first), df_set_meta(reps), df_set_name(reps),
	    df_projection_params, none, err));
	DF_TRY(df_meta_agree(
	    df_set_meta(reps), df_set_name(reps), df_set_meta(val), df_set_name(val), df_projection_params, same, err));
	if (x != y)
		rc = df_fail(
		    err, DF_EFORMAT, "%s has %zu dimensions, %s has %zu", df_set_name(reps), x, df_set_name(val), y);
	if (df_set_rows(val) != df_set_rows(in->sets[VAL].v[0]))
		rc = df_fail(err, DF_ELINEAGE, "%s has %" PRIu64 " rows, %s has %" PRIu64,
		    df_set_name(in->sets[VAL].v[0]), df_set_rows(in->sets[VAL].v[0]), df_set_name(val),
		    df_set_rows(val));
out:
	return rc;
}

/* ---- all of them ------------------------------------------------------------------ */

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;
	const size_t n_reps = in->paths[REPS].n, n_val = in->paths[VAL].n;

	if (n_reps && n_val && n_reps != n_val)
		return df_fail(
		    err, DF_EUSAGE, "%zu of --val for %zu of --reps: each checkpoint needs one of each", n_val, n_reps);
	return df_target_check(&o->target, n_reps, err);
}

/* Every row has its cluster's score; what has none is told. */
static void
spread_scores(struct run *r)
{
	const size_t n_tasks = r->target->tasks.names.n;
	uint64_t n_without = 0, first = 0, n_rows = 0;

	for (uint64_t c = r->n_clusters; c-- > 0;) {
		if (isnan(r->influence[c * n_tasks])) {
			n_without++;
			first = c;
		}
	}
	for (uint64_t id = 0; id < r->out->n_rows; id++) {
		const uint32_t c = r->out->cluster[id];

		r->out->score[id] = c == NONE ? NAN : df_target_best(r->influence + c * n_tasks, n_tasks);
		n_rows += c != NONE && isnan(r->out->score[id]);
	}
	if (r->n_bad)
		df_warn("%" PRIu64 " gradients of representatives are not finite and were left out", r->n_bad);
	if (n_without)
		df_warn("%" PRIu64 " clusters, the first is %" PRIu64
			", have no representative with a finite gradient: their %" PRIu64 " rows have no score",
		    n_without, first, n_rows);
}

static int
score_all(struct run *r, struct df_err *err)
{
	struct df_less targets = { 0 };
	size_t n;
	int rc = DF_OK;

	DF_TRY(df_size_mul(r->n_clusters, r->target->tasks.names.n, &n, "influences", err));
	DF_TRY(df_alloc(&r->influence, n, sizeof(*r->influence), "influences", err));
	DF_TRY(df_alloc(&r->slot, r->n_clusters, sizeof(*r->slot), "clusters", err));
	DF_TRY(df_alloc(&r->out->score, r->out->n_rows, sizeof(*r->out->score), "scores", err));
	for (size_t i = 0; i < r->in->sets[REPS].n; i++) {
		df_less_release(&targets);
		DF_TRY(df_target_read(r->target, i, &targets, r->out, err));
		DF_TRY(read_representatives(r, i, err));
		DF_TRY(score_clusters(r, &targets, r->target->weight[i], err));
	}
	spread_scores(r);
out:
	df_less_release(&targets);
	return rc;
}

/* The checkpoints of the gradients, not of the embeddings that the clusters were made of. */
static int
record_checkpoints(const struct df_select *in, struct df_meta *m, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 0; i < in->sets[REPS].n; i++) {
		const struct df_input *c = df_meta_input(df_set_meta(in->sets[REPS].v[i]), "checkpoint");

		if (c)
			DF_TRY(df_meta_add_input(m, "checkpoint", c->kind, c->id, err));
	}
out:
	return rc;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *given = options;
	const struct df_target_opts o = df_target_effective(in, &given->target);
	struct df_target target = { 0 };
	struct run r = { .in = in, .target = &target, .out = out };
	int rc = DF_OK;

	for (size_t i = 0; i < in->sets[REPS].n; i++)
		DF_TRY(check_sets(in, i, err));
	df_target_expect_losses(in, VAL);
	DF_TRY(df_target_open(&target, in, VAL, &o, &out->meta, err));
	DF_TRY(record_checkpoints(in, &out->meta, err));
	DF_TRY(read_clusters(&r, err));
	DF_TRY(score_all(&r, err));
	DF_TRY(df_select_top(in, out, err));
out:
	df_target_release(&target);
	df_less_release(&r.sums);
	free(r.influence);
	free(r.slot);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	DF_TARGET_OPTS(struct options, target),
	DF_OPT_END };
/* clang-format on */

const struct df_selector df_select_cluster_less = {
	.name = "cluster-less",
	.about = "LESS, by gradients of clusters' representatives",
	.model = "yes",
	.cost = "gradients",
	.shortage = DF_SHORT_ERROR,
	.dataflex = true,
	.inputs = inputs,
	.n_inputs = 3,
	.defaults = &(const struct options){ DF_TARGET_DEFAULTS },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
