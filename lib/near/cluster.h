/*
 * cluster.h - points in groups: k-means and cheaper ways (algorithms of DataFlex's cluster-LESS; k-means: Lloyd 1982).
 *
 * Assignments are decided in float64 where float32 products leave a doubt, and sums run in order of the points: the
 * clusters are the same on every device and for every number of threads.
 */
#ifndef DF_NEAR_CLUSTER_H
#define DF_NEAR_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "near/near.h"

enum df_cluster_method {
	/*
	 * Centres = k distinct random points; then up to max_iter times: each point to its nearest centre, each centre
	 * to the mean of its points.  Equally near centres: the lowest number.  An empty cluster begins anew at the
	 * point that is farthest from its centre.  Ends early when no point moves.
	 */
	DF_CLUSTER_KMEANS,
	DF_CLUSTER_SPHERICAL, /* the same by the largest dot product, centres scaled to norm 1 */
	/*
	 * A random point, then k - 1 times the point that is farthest from the nearest one chosen (ties: the lowest);
	 * each point to the nearest of them.  Gonzalez 1985.
	 */
	DF_CLUSTER_FARTHEST,
	/*
	 * The signs of the products with random Gaussian directions; the signatures that occur are numbered in sorted
	 * order, modulo k.  Charikar 2002.
	 */
	DF_CLUSTER_LSH,
	DF_CLUSTER_RANDOM /* a random permutation dealt round-robin */
};
#define DF_CLUSTER_METHODS "kmeans", "spherical_kmeans", "farthest_first", "lsh", "random" /* in this order */

struct df_cluster_opts {
	enum df_cluster_method method;
	uint64_t k;       /* 0: as many as cluster_size asks for; at most the number of points are made */
	uint64_t cluster_size; /* k = ceil(n / max(1, cluster_size)) */
	unsigned max_iter;
	unsigned lsh_bits; /* 0: max(1, ceil(log2 k)); at most 30 */
	uint64_t seed;
	uint32_t step;     /* substream of the random numbers */
	/* [n] borrowed: the points in the order in which they are drawn (farthest_first: one); NULL: a random one. */
	const uint64_t *order;
};
#define DF_CLUSTER_DEFAULT                                                          \
	{                                                                           \
		.method = DF_CLUSTER_KMEANS, .cluster_size = 64, .max_iter = 20, .seed = 42 \
	}

struct df_clusters {
	uint64_t n, k;     /* points; clusters that may occur: ids are below it */
	uint32_t *of;      /* [n] the cluster of each point; DF_CLUSTER_NONE for one with a number that is not finite */
	uint64_t *size;    /* [k] points in each; 0 is possible */
	float *centre;     /* [k, d] the k-means and farthest_first: the centres that `of` was decided by; else NULL */
	double *value;     /* [n] squared distance to it (spherical: dot product), NaN for DF_CLUSTER_NONE; or NULL */
	double inertia;    /* sum of the squared distances (spherical: of the dot products) */
	unsigned n_iter;   /* updates of the centres that were made */
	uint64_t n_invalid; /* points that are in no cluster */
};
#define DF_CLUSTER_NONE UINT32_MAX

/*
 * *out = the clusters of the points; release it, also after an error.  Errors: DF_EUSAGE for no valid point or more
 * than 2^32 - 2 clusters, DF_ENOMEM, DF_ESTOPPED.
 */
int df_cluster(const struct df_near *near, const struct df_points *points, const struct df_cluster_opts *opts,
    struct df_clusters *out, struct df_err *err) DF_MUST_CHECK;
void df_clusters_release(struct df_clusters *c); /* accepts one that is all zeros */

#endif
