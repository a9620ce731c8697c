/*
 * diverse.c - the best by a score that are not too similar to a better one: the filter of DEITA.
 *
 * Liu, Zeng, He, Jiang, He: "What Makes Good Data for Alignment?", ICLR 2024, sec. 2.4: rows by descending score; a row
 * is taken unless its cosine with a row that was taken is above a threshold.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "select/dedup.h"

struct options {
	const char *scores, *pairs;
	double threshold;
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

	(void)in;
	if (!o->scores)
		return df_fail(err, DF_EUSAGE, "diverse needs --scores FILE: which rows come first");
	return DF_OK;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	struct df_dedup d = { 0 };
	uint64_t *order = NULL, n = 0;
	int rc = DF_OK;

	DF_TRY(df_meta_set_double(&out->meta, "threshold", o->threshold, err));
	DF_TRY(df_dedup_load(&d, in, out, err));
	DF_TRY(df_dedup_read_scores(&d, o->scores, err));
	DF_TRY(df_alloc(&order, out->n_rows, sizeof(*order), "ranks", err));
	DF_TRY(df_rank(out->score, out->n_rows, order, &n, err));
	out->n_invalid = out->n_rows - n;
	DF_TRY(df_dedup_take(
	    &d, &(struct df_dedup_rule){ .above = o->threshold, .n_clusters = 1, .pairs = o->pairs }, order, n, err));
out:
	df_dedup_release(&d);
	free(order);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "scores", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, scores), .arg = "FILE", .file = DF_FILE_READ,
	    .help = "which rows come first: scores or losses, or text" },
	{ .name = "threshold", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, threshold), .arg = "C", .min = -1, .max = 1,
	    .help = "rows with a larger cosine are too similar" },
	{ .name = "pairs", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, pairs), .arg = "FILE", .file = DF_FILE_WRITE,
	    .help = "write each left-out row, the one that it fell to, and their cosine" },
	DF_OPT_END };
/* clang-format on */

const struct df_selector df_select_diverse = {
	.name = "diverse",
	.about = "the best by a score that differ",
	.model = "no",
	.cost = "embeddings",
	.shortage = DF_SHORT_TRUNCATE,
	.inputs = inputs,
	.n_inputs = 1,
	.defaults = &(const struct options){ .threshold = 0.9 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
