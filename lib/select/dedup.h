/*
 * dedup.h - walking rows in rank order and leaving out those that are too similar to an earlier one: what semdedup and
 * diverse share.
 */
#ifndef DF_SELECT_DEDUP_H
#define DF_SELECT_DEDUP_H

#include "near/near.h"
#include "select/select.h"

/* The train set's embeddings, by id; rows that are finite have norm 1, or are zero where they had nearly none. */
struct df_dedup {
	const struct df_select *in;
	struct df_selection *out;
	struct df_near near;
	struct df_point_rows rows;
};
/* The embeddings, in->sets[0], in memory.  df_dedup_release() frees them, also after an error. */
int df_dedup_load(struct df_dedup *d, const struct df_select *in, struct df_selection *out, struct df_err *err)
    DF_MUST_CHECK;
/* out->score of a file of scores; NaN for a row whose embedding is not finite. */
int df_dedup_read_scores(struct df_dedup *d, const char *path, struct df_err *err) DF_MUST_CHECK;
void df_dedup_release(struct df_dedup *d);

struct df_dedup_rule {
	double above;            /* rows are too similar if their cosine is larger */
	bool any;                /* a row falls to any earlier row; else only to one that stays */
	const uint32_t *cluster; /* [n_rows] by id: rows are compared within these; NULL: with all */
	uint64_t n_clusters;
	const char *pairs;       /* file for (row, nearest row that it fell to, cosine), or NULL */
};
/*
 * Go through order [n] (ids, best first) and take the amount asked for from those that stay, in this order.  Rows with
 * numbers that are not finite, or that must not be chosen, are passed over: no row falls to them.  With
 * in->allow_invalid the first of these come last.  The embeddings are in another order afterwards.
 */
int df_dedup_take(struct df_dedup *d, const struct df_dedup_rule *rule, const uint64_t *order, uint64_t n,
    struct df_err *err) DF_MUST_CHECK;

#endif
