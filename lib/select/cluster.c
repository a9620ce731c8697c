/*
 * cluster.c - embeddings in clusters, and a few representatives of each: the first stage of cluster-LESS.
 *
 *   embeddings --> clusters (lib/near) --> distance of each row to the mean of its cluster   the scores, negative
 *                                      --> representatives: the first of each cluster, the second of each, ...
 *
 * The clusters do not depend on the step, random representatives do: a run keeps its clusters and draws anew.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "near/cluster.h"
#include "select/select.h"

/* What DataFlex adds to its seed. */
#define TORCH_RANDOM          47
#define TORCH_REPRESENTATIVES 17

static const char *const clusterings[] = { DF_CLUSTER_METHODS, NULL };
enum strategy { RANDOM, NEAREST, FARTHEST, MIXED };
static const char *const strategies[] = { "random", "nearest", "farthest", "mixed", NULL };

struct options {
	int clustering, strategy;
	int64_t n_clusters, cluster_size, max_iter, lsh_bits, per_cluster;
};
static const struct options defaults = { .cluster_size = 64, .max_iter = 20, .per_cluster = 3 };

static const enum df_col embedding_columns[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_EMBEDDING };
static const enum df_col cluster_columns[] = { DF_COL_ID, DF_COL_CLUSTER };

enum { TRAIN, CLUSTERS };
static const struct df_select_input inputs[] = {
	[TRAIN] = { .role = "train",
	    .name = "embeddings",
	    .help = "embeddings to put into clusters",
	    .kind = DF_KIND_EMBEDDINGS,
	    .columns = embedding_columns,
	    .n_columns = 3 },
	[CLUSTERS] = { .role = "clusters",
	    .name = "clusters",
	    .help = "clusters of an earlier run: choose from these",
	    .kind = DF_KIND_SCORES,
	    .optional = true,
	    .columns = cluster_columns,
	    .n_columns = 2 },
};

struct run {
	const struct df_select *in;
	const struct options *o;
	struct df_selection *out;
	struct df_point_rows rows;
	uint64_t n_clusters;
	/* Members by cluster, ascending. */
	uint64_t *first;  /* [n_clusters + 1] into member */
	uint64_t *member; /* [n_rows] */
	double *distance; /* [n_rows] by id: squared, to the mean of the cluster's members */
};

/* ---- clusters ------------------------------------------------------------------------- */

static int
take_embeddings(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct run *r = ctx;

	(void)result;
	return df_point_rows_put(&r->rows, b, DF_COL_EMBEDDING, err);
}

static int
read_embeddings(struct run *r, struct df_err *err)
{
	const struct df_select_scan sc = {
		.in = r->in, .input = TRAIN, .out = r->out, .take = take_embeddings, .ctx = r
	};
	const size_t d = df_set_width(r->in->sets[TRAIN].v[0], DF_COL_EMBEDDING);
	int rc = DF_OK;

	if (r->out->n_rows == 0)
		return df_fail(err, DF_EUSAGE, "%s: no rows", df_set_name(r->in->sets[TRAIN].v[0]));
	DF_TRY(df_point_rows_init(&r->rows, r->out->n_rows, d, err));
	DF_TRY(df_select_scan(&sc, err));
out:
	return rc;
}

static int
take_clusters(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct run *r = ctx;
	const uint64_t *id = b->col[DF_COL_ID].data;
	const uint32_t *cluster = b->col[DF_COL_CLUSTER].data;

	(void)result;
	for (uint64_t i = 0; i < b->n; i++) {
		if (cluster[i] != DF_CLUSTER_NONE && cluster[i] >= r->out->n_rows)
			return df_fail(err, DF_EFORMAT,
			    "%s: sample %" PRIu64 " is in cluster %" PRIu32 ", but there are only %" PRIu64 " rows",
			    df_set_name(r->in->sets[CLUSTERS].v[0]), id[i], cluster[i], r->out->n_rows);
		r->out->cluster[id[i]] = cluster[i];
		if (cluster[i] != DF_CLUSTER_NONE && cluster[i] >= r->n_clusters)
			r->n_clusters = (uint64_t)cluster[i] + 1;
	}
	return DF_OK;
}

static int
read_clusters(struct run *r, struct df_err *err)
{
	const struct df_select_scan sc = {
		.in = r->in, .input = CLUSTERS, .out = r->out, .take = take_clusters, .ctx = r
	};
	struct df_set *set = r->in->sets[CLUSTERS].v[0];
	int rc = DF_OK;

	if (!df_set_has(set, DF_COL_CLUSTER))
		return df_fail(err, DF_EFORMAT, "%s: no clusters are in it", df_set_name(set));
	DF_TRY(df_alloc(&r->out->cluster, r->out->n_rows, sizeof(*r->out->cluster), "clusters", err));
	DF_TRY(df_select_scan(&sc, err));
	/* A row that cannot be measured represents nothing. */
	for (uint64_t i = 0; i < r->out->n_rows; i++)
		if (r->rows.invalid[i])
			r->out->cluster[i] = DF_CLUSTER_NONE;
out:
	return rc;
}

/* order [n_rows] = the points as DataFlex draws them. */
static int
draw_as_torch(const struct run *r, uint64_t **order, struct df_err *err)
{
	const uint64_t n = r->out->n_rows, seed = r->in->seed;
	uint64_t first;
	int rc = DF_OK;

	DF_TRY(df_alloc(order, n, sizeof(**order), "draws", err));
	if (r->o->clustering != DF_CLUSTER_FARTHEST)
		return df_sample_torch_perm(
		    n, n, seed + (r->o->clustering == DF_CLUSTER_RANDOM ? TORCH_RANDOM : 0), *order, err);
	DF_TRY(df_sample_torch_randint(n, 1, seed, &first, err));
	for (uint64_t i = 0; i < n; i++)
		(*order)[i] = (first + i) % n;
out:
	return rc;
}

static int
make_clusters(struct run *r, struct df_err *err)
{
	const struct df_near near = { .be = r->in->be, .pool = r->in->pool, .n_threads = r->in->n_threads };
	struct df_cluster_opts o = { .method = (enum df_cluster_method)r->o->clustering,
		.k = (uint64_t)r->o->n_clusters,
		.cluster_size = (uint64_t)r->o->cluster_size,
		.max_iter = (unsigned)r->o->max_iter,
		.lsh_bits = (unsigned)r->o->lsh_bits,
		.seed = r->in->seed };
	struct df_clusters c = { 0 };
	uint64_t *order = NULL;
	int rc = DF_OK;

	if (r->in->torch) {
		DF_TRY(draw_as_torch(r, &order, err));
		o.order = order;
	}
	DF_TRY(df_cluster(&near, &r->rows.points, &o, &c, err));
	r->n_clusters = c.k;
	r->out->cluster = c.of;
	c.of = NULL;
out:
	free(order);
	df_clusters_release(&c);
	return rc;
}

/* ---- members ------------------------------------------------------------------------------ */

static int
find_members(struct run *r, struct df_err *err)
{
	const uint64_t n = r->out->n_rows;
	const uint32_t *of = r->out->cluster;
	uint64_t *at = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&r->first, r->n_clusters + 1, sizeof(*r->first), "clusters", err));
	DF_TRY(df_alloc(&at, r->n_clusters, sizeof(*at), "clusters", err));
	DF_TRY(df_alloc(&r->member, n, sizeof(*r->member), "clusters", err));
	for (uint64_t i = 0; i < n; i++)
		if (of[i] != DF_CLUSTER_NONE)
			r->first[of[i] + 1]++;
	for (uint64_t c = 0; c < r->n_clusters; c++) {
		r->first[c + 1] += r->first[c];
		at[c] = r->first[c];
	}
	for (uint64_t i = 0; i < n; i++)
		if (of[i] != DF_CLUSTER_NONE)
			r->member[at[of[i]]++] = i;
out:
	free(at);
	return rc;
}

/* r->distance of the members of cluster c; mean [d]: scratch. */
static void
measure_cluster(const struct run *r, uint64_t c, double *mean)
{
	const size_t d = r->rows.points.d;
	const uint64_t first = r->first[c], end = r->first[c + 1];

	memset(mean, 0, d * sizeof(*mean));
	for (uint64_t i = first; i < end; i++) {
		const float *x = r->rows.points.x + r->member[i] * d;

		for (size_t k = 0; k < d; k++)
			mean[k] += (double)x[k];
	}
	for (size_t k = 0; k < d; k++)
		mean[k] /= (double)(end - first);
	for (uint64_t i = first; i < end; i++) {
		const float *x = r->rows.points.x + r->member[i] * d;
		double sum = 0;

		for (size_t k = 0; k < d; k++)
			sum += ((double)x[k] - mean[k]) * ((double)x[k] - mean[k]);
		r->distance[r->member[i]] = sum;
	}
}

/* Scores: how near a row is to the mean of its cluster, as a negative distance. */
static int
measure(struct run *r, struct df_err *err)
{
	const uint64_t n = r->out->n_rows;
	double *mean = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&r->distance, n, sizeof(*r->distance), "distances", err));
	DF_TRY(df_alloc(&r->out->score, n, sizeof(*r->out->score), "scores", err));
	DF_TRY(df_alloc(&mean, r->rows.points.d, sizeof(*mean), "means", err));
	for (uint64_t c = 0; c < r->n_clusters; c++)
		if (r->first[c] < r->first[c + 1])
			measure_cluster(r, c, mean);
	for (uint64_t i = 0; i < n; i++) {
		const bool in = r->out->cluster[i] != DF_CLUSTER_NONE;

		r->out->score[i] = in ? 0.0f - (float)sqrt(r->distance[i]) : NAN;
		r->out->n_invalid += !in;
	}
out:
	free(mean);
	return rc;
}

/* ---- representatives -------------------------------------------------------------------------- */

struct candidate {
	double distance;
	uint64_t id;
};

static int
by_distance(const void *x, const void *y)
{
	const struct candidate *a = x, *b = y;

	if (a->distance != b->distance)
		return a->distance < b->distance ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static int
by_distance_down(const void *x, const void *y)
{
	const struct candidate *a = x, *b = y;

	if (a->distance != b->distance)
		return a->distance > b->distance ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

/* id [m] = the first m in turn from the near and the far end of n candidates, without those that are there already. */
static void
mix(const struct candidate *near, const struct candidate *far, uint64_t n, uint64_t m, uint64_t *id)
{
	uint64_t at[2] = { 0, 0 }, n_id = 0;

	for (uint64_t turn = 0; n_id < m; turn++) {
		const struct candidate *from = turn % 2 ? far : near;
		uint64_t *next = &at[turn % 2], i = 0;

		if (*next == n)
			continue;
		while (i < n_id && id[i] != from[*next].id)
			i++;
		if (i == n_id)
			id[n_id++] = from[*next].id;
		(*next)++;
	}
}

/* id [m] = the representatives among the members [n] of a cluster, best first. */
static int
choose_by_distance(
    const struct run *r, const uint64_t *member, uint64_t n, uint64_t m, uint64_t *id, struct df_err *err)
{
	struct candidate *near = NULL, *far = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&near, n, sizeof(*near), "representatives", err));
	DF_TRY(df_alloc(&far, n, sizeof(*far), "representatives", err));
	for (uint64_t i = 0; i < n; i++)
		near[i] = far[i] = (struct candidate){ r->distance[member[i]], member[i] };
	qsort(near, n, sizeof(*near), by_distance);
	qsort(far, n, sizeof(*far), by_distance_down);
	if (r->o->strategy == MIXED)
		mix(near, far, n, m, id);
	for (uint64_t i = 0; i < m && r->o->strategy != MIXED; i++)
		id[i] = r->o->strategy == NEAREST ? near[i].id : far[i].id;
out:
	free(near);
	free(far);
	return rc;
}

/* Put the members [first[c], end[c]) of each cluster in the order of a random permutation. */
static int
shuffle_members(struct run *r, const uint64_t *end, struct df_err *err)
{
	const uint64_t n = r->out->n_rows;
	uint64_t *order = NULL, *at = NULL, *size = NULL, drawn = 0;
	int rc = DF_OK;

	DF_TRY(df_alloc(&order, n, sizeof(*order), "draws", err));
	DF_TRY(df_alloc(&at, r->n_clusters, sizeof(*at), "draws", err));
	DF_TRY(df_alloc(&size, r->n_clusters, sizeof(*size), "draws", err));
	for (uint64_t c = 0; c < r->n_clusters; c++) {
		size[c] = end[c] - r->first[c];
		at[c] = r->first[c];
	}
	if (r->in->torch) {
		DF_TRY(df_sample_torch_perms(
		    size, r->n_clusters, r->in->seed + r->in->step + TORCH_REPRESENTATIVES, order, err));
		for (uint64_t c = 0; c < r->n_clusters; drawn += size[c++])
			for (uint64_t i = 0; i < size[c]; i++)
				order[drawn + i] = r->member[r->first[c] + order[drawn + i]];
	} else {
		/* One permutation of all rows is a permutation of the members of each cluster. */
		DF_TRY(df_select_permute(r->in, n, order, err));
		drawn = n;
	}
	for (uint64_t i = 0; i < drawn; i++) {
		const uint32_t c = r->out->cluster[order[i]];

		if (c != DF_CLUSTER_NONE && df_select_may(r->in, order[i]))
			r->member[at[c]++] = order[i];
	}
out:
	free(order);
	free(at);
	free(size);
	return rc;
}

/* Leave out the members that may not be chosen: those of cluster c are then member[first[c] .. end[c]). */
static int
drop_excluded(struct run *r, uint64_t **end, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_alloc(end, r->n_clusters, sizeof(**end), "clusters", err));
	for (uint64_t c = 0; c < r->n_clusters; c++) {
		(*end)[c] = r->first[c];
		for (uint64_t i = r->first[c]; i < r->first[c + 1]; i++)
			if (df_select_may(r->in, r->member[i]))
				r->member[(*end)[c]++] = r->member[i];
	}
out:
	return rc;
}

/* order [*n] = the first representative of each cluster, then the second of each, and so on. */
static int
choose(struct run *r, uint64_t **order, uint64_t *n, struct df_err *err)
{
	const uint64_t most = (uint64_t)r->o->per_cluster;
	uint64_t *end = NULL, *chosen = NULL, left = 0;
	int rc = DF_OK;

	*n = 0;
	DF_TRY(drop_excluded(r, &end, err));
	DF_TRY(df_alloc(&chosen, r->out->n_rows, sizeof(*chosen), "representatives", err));
	DF_TRY(df_alloc(order, r->out->n_rows, sizeof(**order), "representatives", err));
	if (r->o->strategy == RANDOM)
		DF_TRY(shuffle_members(r, end, err));
	for (uint64_t c = 0; c < r->n_clusters; c++) {
		const uint64_t first = r->first[c], size = end[c] - first, m = size < most ? size : most;

		if (r->o->strategy == RANDOM)
			memcpy(chosen + first, r->member + first, m * sizeof(*chosen));
		else
			DF_TRY(choose_by_distance(r, r->member + first, size, m, chosen + first, err));
		end[c] = first + m;
		left += m;
	}
	for (uint64_t round = 0; *n < left; round++)
		for (uint64_t c = 0; c < r->n_clusters; c++)
			if (r->first[c] + round < end[c])
				(*order)[(*n)++] = chosen[r->first[c] + round];
out:
	free(end);
	free(chosen);
	return rc;
}

/* ---- all of it -------------------------------------------------------------------------------- */

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;

	if (in->paths[CLUSTERS].n > 0 &&
	    (o->clustering != defaults.clustering || o->n_clusters != defaults.n_clusters ||
		o->cluster_size != defaults.cluster_size || o->max_iter != defaults.max_iter ||
		o->lsh_bits != defaults.lsh_bits))
		return df_fail(err, DF_EUSAGE,
		    "--clusters: the clusters are there already; --clustering, --num-clusters, --cluster-size, --max-iter and "
		    "--lsh-bits would have no effect");
	if (in->torch && o->clustering == DF_CLUSTER_LSH)
		return df_fail(
		    err, DF_EUNSUPPORTED, "--rng torch: PyTorch's normal draws, for lsh, are not reproduced");
	return DF_OK;
}

static int
record(const struct run *r, struct df_meta *m, struct df_err *err)
{
	const struct options *o = r->o;
	int rc = DF_OK;

	if (r->in->paths[CLUSTERS].n == 0) {
		DF_TRY(df_meta_set_str(m, "clustering", clusterings[o->clustering], err));
		if (o->clustering == DF_CLUSTER_KMEANS || o->clustering == DF_CLUSTER_SPHERICAL)
			DF_TRY(df_meta_set_int(m, "max_iter", o->max_iter, err));
		if (o->clustering == DF_CLUSTER_LSH)
			DF_TRY(df_meta_set_int(m, "lsh_bits", o->lsh_bits, err));
	}
	DF_TRY(df_meta_set_int(m, "clusters", (int64_t)r->n_clusters, err));
	DF_TRY(df_meta_set_int(m, "per_cluster", o->per_cluster, err));
	DF_TRY(df_meta_set_str(m, "representatives", strategies[o->strategy], err));
	DF_TRY(df_meta_set_int(m, "seed", (int64_t)r->in->seed, err));
	DF_TRY(df_meta_set_int(m, "step", r->in->step, err));
out:
	return rc;
}

static void
tell(const struct run *r)
{
	uint64_t n = 0, least = UINT64_MAX, most = 0;

	for (uint64_t c = 0; c < r->n_clusters; c++) {
		const uint64_t size = r->first[c + 1] - r->first[c];

		if (!size)
			continue;
		n++;
		least = size < least ? size : least;
		most = size > most ? size : most;
	}
	df_info("%" PRIu64 " clusters of %" PRIu64 " to %" PRIu64 " rows", n, n ? least : 0, most);
	if (r->n_clusters - n > 0)
		df_info("%" PRIu64 " of %" PRIu64 " clusters are empty", r->n_clusters - n, r->n_clusters);
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	struct run r = { .in = in, .o = options, .out = out };
	uint64_t *order = NULL, n = 0;
	int rc = DF_OK;

	DF_TRY(read_embeddings(&r, err));
	DF_TRY(in->sets[CLUSTERS].n > 0 ? read_clusters(&r, err) : make_clusters(&r, err));
	DF_TRY(find_members(&r, err));
	DF_TRY(measure(&r, err));
	DF_TRY(record(&r, &out->meta, err));
	tell(&r);
	DF_TRY(choose(&r, &order, &n, err));
	DF_TRY(df_select_take(in, order, n, out, err));
out:
	free(order);
	free(r.first);
	free(r.member);
	free(r.distance);
	df_point_rows_release(&r.rows);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "clustering", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, clustering),
	    .choices = clusterings, .help = "how" },
	{ .name = "num-clusters", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, n_clusters), .arg = "K",
	    .min = 0, .max = 4294967294, .help = "how many (0: by their size)" },
	{ .name = "cluster-size", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, cluster_size), .arg = "N",
	    .min = 1, .max = 9e15, .help = "rows of a cluster, on average" },
	{ .name = "max-iter", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, max_iter), .arg = "N",
	    .min = 1, .max = 1e9, .help = "most rounds of k-means" },
	{ .name = "lsh-bits", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, lsh_bits), .arg = "N",
	    .min = 0, .max = 30, .help = "hyperplanes of lsh (0: log2 K)" },
	{ .name = "per-cluster", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, per_cluster), .arg = "N",
	    .min = 1, .max = 9e15, .help = "representatives of a cluster, at most" },
	{ .name = "representatives", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, strategy),
	    .choices = strategies, .help = "which: by the distance to the mean" },
	DF_OPT_END };
/* clang-format on */

const struct df_selector df_select_cluster = {
	.name = "cluster",
	.about = "representatives of clusters of embeddings",
	.model = "no",
	.cost = "embeddings",
	.shortage = DF_SHORT_ERROR,
	.torch = true,
	.inputs = inputs,
	.n_inputs = 2,
	.defaults = &defaults,
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
