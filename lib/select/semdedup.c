/*
 * semdedup.c - SemDeDup: leave out samples that say the same as another one.
 *
 * Abbas, Tirumala, Simig, Ganguli, Morcos: "SemDeDup: Data-efficient learning at web-scale through semantic
 * deduplication", 2023.  Embeddings of norm 1 in clusters (spherical k-means); inside a cluster, in an order of
 * preference, a row whose cosine with an earlier one is above 1 - eps is left out.  One cluster compares all pairs.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "near/cluster.h"
#include "select/dedup.h"

enum keep { KEEP_HARD, KEEP_EASY, KEEP_RANDOM, KEEP_FIRST, KEEP_SCORE };
static const char *const keeps[] = { "hard", "easy", "random", "first", "score", NULL };
enum rule { RULE_KEPT, RULE_ANY };
static const char *const rules[] = { "kept", "any", NULL };

#define ALL_PAIRS_ROWS 4000000 /* up to here one cluster is practical */

struct options {
	double eps;
	int keep, rule;
	const char *scores, *pairs;
	int64_t clusters, max_iter;
};

static const enum df_col columns[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_EMBEDDING };
static const struct df_select_input inputs[] = {
	{ .role = "train",
	    .name = "embeddings",
	    .help = "embeddings to choose from",
	    .kind = DF_KIND_EMBEDDINGS,
	    .columns = columns,
	    .n_columns = 3 },
};

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;

	if (isnan(o->eps))
		return df_fail(err, DF_EUSAGE, "semdedup needs --eps E: rows with a cosine above 1 - E are the same");
	if ((o->keep == KEEP_SCORE) != (o->scores != NULL))
		return df_fail(err, DF_EUSAGE, "--keep score and --scores FILE need each other");
	if (in->torch && o->keep != KEEP_RANDOM)
		return df_fail(
		    err, DF_EUSAGE, "--rng torch: only --keep random has uniform draws that could be PyTorch's");
	return DF_OK;
}

static uint64_t
n_clusters(const struct options *o, uint64_t n_rows)
{
	if (o->clusters > 0)
		return (uint64_t)o->clusters;
	/* Then pairs and k-means cost about the same. */
	return n_rows <= ALL_PAIRS_ROWS ? 1 : (uint64_t)ceil(sqrt((double)n_rows / (double)o->max_iter));
}

/* The clusters, and of each row the distance to its centre, 1 - cosine. */
static int
cluster(struct df_dedup *d, const struct options *o, struct df_clusters *c, struct df_err *err)
{
	const struct df_select *in = d->in;
	const struct df_cluster_opts how = { .method = DF_CLUSTER_SPHERICAL,
		.k = n_clusters(o, d->out->n_rows),
		.max_iter = (unsigned)o->max_iter,
		.seed = in->seed,
		.step = in->step };
	struct df_meta *m = &d->out->meta;
	int rc = DF_OK;

	*c = (struct df_clusters){ 0 };
	DF_TRY(df_meta_set_int(m, "clusters", (int64_t)how.k, err));
	if (how.k > 1) {
		DF_TRY(df_meta_set_int(m, "max_iter", o->max_iter, err));
		DF_TRY(df_meta_set_int(m, "seed", (int64_t)in->seed, err));
		DF_TRY(df_meta_set_int(m, "step", in->step, err));
	}
	if (d->rows.n_invalid == d->out->n_rows)
		return DF_OK; /* nothing to cluster */
	if (how.k > 1 || o->keep == KEEP_HARD || o->keep == KEEP_EASY)
		DF_TRY(df_cluster(&d->near, &d->rows.points, &how, c, err));
out:
	return rc;
}

/* out->score: larger is kept first.  NULL: the rows' own order, or a random one. */
static int
score_rows(struct df_dedup *d, const struct options *o, const struct df_clusters *c, struct df_err *err)
{
	struct df_selection *out = d->out;
	int rc = DF_OK;

	if (o->keep == KEEP_SCORE)
		return df_dedup_read_scores(d, o->scores, err);
	if (o->keep != KEEP_HARD && o->keep != KEEP_EASY)
		return DF_OK;
	DF_TRY(df_alloc(&out->score, out->n_rows, sizeof(*out->score), "scores", err));
	for (uint64_t i = 0; i < out->n_rows; i++) {
		const double cosine = c->value ? c->value[i] : (double)NAN;

		out->score[i] = (float)(o->keep == KEEP_HARD ? 1 - cosine : cosine);
	}
out:
	return rc;
}

/* order [*n] = the rows in the order of preference. */
static int
rank_rows(const struct df_dedup *d, const struct options *o, uint64_t *order, uint64_t *n, struct df_err *err)
{
	struct df_selection *out = d->out;
	int rc = DF_OK;

	*n = out->n_rows;
	if (o->keep == KEEP_RANDOM) {
		DF_TRY(df_meta_set_int(&out->meta, "seed", (int64_t)d->in->seed, err));
		DF_TRY(df_meta_set_int(&out->meta, "step", d->in->step, err));
		DF_TRY(df_select_permute(d->in, out->n_rows, order, err));
	} else if (out->score) {
		DF_TRY(df_rank(out->score, out->n_rows, order, n, err));
	} else {
		for (uint64_t i = 0; i < out->n_rows; i++)
			order[i] = i;
	}
	out->n_invalid = out->n_rows - *n;
out:
	return rc;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	struct df_dedup d = { 0 };
	struct df_clusters c = { 0 };
	uint64_t *order = NULL, n = 0;
	int rc = DF_OK;

	DF_TRY(df_meta_set_double(&out->meta, "eps", o->eps, err));
	DF_TRY(df_meta_set_str(&out->meta, "keep", keeps[o->keep], err));
	DF_TRY(df_meta_set_str(&out->meta, "rule", rules[o->rule], err));
	DF_TRY(df_dedup_load(&d, in, out, err));
	DF_TRY(cluster(&d, o, &c, err));
	DF_TRY(score_rows(&d, o, &c, err));
	DF_TRY(df_alloc(&order, out->n_rows, sizeof(*order), "ranks", err));
	DF_TRY(rank_rows(&d, o, order, &n, err));
	DF_TRY(df_dedup_take(&d,
	    &(struct df_dedup_rule){ .above = 1 - o->eps,
		.any = o->rule == RULE_ANY,
		.cluster = c.of,
		.n_clusters = c.of ? c.k : 1,
		.pairs = o->pairs },
	    order, n, err));
	out->cluster = c.of;
	c.of = NULL;
out:
	df_clusters_release(&c);
	df_dedup_release(&d);
	free(order);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "eps", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, eps), .arg = "E", .min = 0, .max = 2,
	    .help = "rows with a cosine above 1 - E are the same" },
	{ .name = "keep", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, keep), .choices = keeps,
	    .help = "which of them: far from its cluster's centre, near to it" },
	{ .name = "scores", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, scores), .arg = "FILE", .file = DF_FILE_READ,
	    .help = "for --keep score: scores or losses, or text" },
	{ .name = "rule", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, rule), .choices = rules,
	    .help = "a row falls to one that is kept, or to any before it" },
	{ .name = "clusters", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, clusters), .arg = "C", .min = 1, .max = 4e9,
	    .help = "compare within as many clusters" },
	{ .name = "max-iter", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, max_iter), .arg = "N", .min = 1, .max = 1e6,
	    .help = "steps of k-means, at most" },
	{ .name = "pairs", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, pairs), .arg = "FILE", .file = DF_FILE_WRITE,
	    .help = "write each left-out row, the one that it fell to, and their cosine" },
	DF_OPT_END };
/* clang-format on */

const struct df_selector df_select_semdedup = {
	.name = "semdedup",
	.about = "all but near-duplicates",
	.model = "no",
	.cost = "embeddings",
	.shortage = DF_SHORT_ERROR,
	.torch = true,
	.inputs = inputs,
	.n_inputs = 1,
	.defaults = &(const struct options){ .eps = (double)NAN, .max_iter = 100 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
