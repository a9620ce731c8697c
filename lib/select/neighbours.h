/*
 * neighbours.h - queries, the rows to choose from, and which of these are nearest to each query: found on the way
 * through the rows, kept in a file, read back.  near.c, tsds.c and rds.c choose by them.
 */
#ifndef DF_SELECT_NEIGHBOURS_H
#define DF_SELECT_NEIGHBOURS_H

#include "near/knn.h"
#include "select/select.h"

/* Embeddings as an input: what is read of them; and in what two sets agree whose vectors are compared. */
extern const enum df_col df_embedding_columns[3];
extern const char *const df_embedding_params[], *const df_embedding_roles[];

/* ---- a search ----------------------------------------------------------------------- */

/* The inputs of a method that searches. */
enum { DF_SEARCH_TRAIN, DF_SEARCH_QUERY, DF_SEARCH_NEIGHBOURS };

/*
 * A search through all rows that may be chosen.  The rows of --train stream by; only the queries are in memory.  A row
 * with a number that is not finite is invalid, and no neighbour; a query like that is DF_EFORMAT.
 */
struct df_search {
	const struct df_select *in;
	struct df_selection *out; /* gets n_invalid, and the domains */
	enum df_metric metric;    /* DF_METRIC_DOT: of rows scaled to norm 1, the cosine */
	struct df_near near;
	struct df_point_rows queries; /* scaled as the metric says */
	uint8_t *valid; /* [n_rows] by id: may be a neighbour; known after the first pass */
	uint64_t n_valid, n_zero;
	bool passed;
	bool with_excluded; /* a pass hands on all finite rows: those that must not be chosen have a score, too */
};
/* Reads the queries, if there are any.  df_search_release() also after an error. */
int df_search_open(struct df_search *s, const struct df_select *in, struct df_selection *out, enum df_metric metric,
    struct df_err *err) DF_MUST_CHECK;
void df_search_release(struct df_search *s);

/* Rows x [n,d] with ids [n], which may be neighbours; scaled as the metric says. */
typedef int df_search_fn(void *ctx, const float *x, const uint64_t *id, uint64_t n, struct df_err *err);
/* Pass them, block by block, in order of rows; fn NULL: only check them.  Again: the rows are read
 * again.  DF_EFORMAT when none may be chosen. */
int df_search_pass(struct df_search *s, df_search_fn *fn, void *ctx, struct df_err *err) DF_MUST_CHECK;

/* After order [*n], the rows that are invalid, but may be chosen: for in->allow_invalid. */
void df_search_add_invalid(const struct df_search *s, uint64_t *order, uint64_t *n);

/* ---- their table -------------------------------------------------------------------- */

struct df_neighbours {
	uint64_t m, k;   /* queries; the most neighbours of one */
	uint64_t *id;    /* [m,k] nearest first; DF_KNN_NONE after the last */
	float *distance; /* [m,k] or the cosine */
};
/*
 * The max_k nearest of each query, or as many as there are: found, or read from --neighbours, without the rows that
 * may not be chosen.  DF_EFORMAT for a file that is no table of nearest rows; DF_ELINEAGE for one of other rows or by
 * another metric.
 */
int df_neighbours_get(struct df_neighbours *t, struct df_search *s, uint64_t max_k, struct df_err *err) DF_MUST_CHECK;
void df_neighbours_release(struct df_neighbours *t);
static inline bool
df_neighbours_has(const struct df_neighbours *t, uint64_t query, uint64_t rank)
{
	return rank < t->k && t->id[query * t->k + rank] != DF_KNN_NONE;
}

/*
 * Breadth-first: rank by rank, each query in order gives its neighbour of that rank, unless it was taken.  order
 * [n_rows]; *n = how many distinct rows there are.
 */
int df_neighbours_union(const struct df_neighbours *t, uint64_t n_rows, uint64_t *order, uint64_t *n,
    struct df_err *err) DF_MUST_CHECK;

/* Write the table as an artefact `neighbours`, a row for each query.  *out: the caller commits and closes it. */
int df_neighbours_put(const struct df_neighbours *t, const struct df_search *s, uint64_t max_k, const char *path,
    struct df_writer **out, struct df_err *err) DF_MUST_CHECK;

/* ---- records ------------------------------------------------------------------------ */

#define DF_SEARCH_INPUT_TRAIN                                                                          \
	{                                                                                              \
		.role = "train", .name = "train embeddings", .help = "embeddings to choose from",      \
		.kind = DF_KIND_EMBEDDINGS, .columns = df_embedding_columns, .n_columns = 3,           \
		.params = df_embedding_params                                                          \
	}
#define DF_SEARCH_INPUT_QUERY(is_optional)                                                             \
	{                                                                                              \
		.role = "query", .name = "query embeddings",                                           \
		.help = "embeddings of the target, made as --train was", .kind = DF_KIND_EMBEDDINGS,   \
		.join = DF_JOIN_OWN, .optional = is_optional, .columns = df_embedding_columns,         \
		.n_columns = 3, .params = df_embedding_params, .common = df_embedding_roles            \
	}
extern const struct df_select_input df_search_inputs[3]; /* of near and tsds, by DF_SEARCH_* */
/* --query or --neighbours, and not both; DF_EUSAGE. */
int df_search_check(const struct df_select *in, const char *neighbours_output, struct df_err *err) DF_MUST_CHECK;

#endif
