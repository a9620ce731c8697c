/*
 * near.c - the rows nearest to a target's: rank by rank, each query in turn gives its next nearest row.
 *
 * DataFlex's NEAR with an exact search.  Distances are Euclidean; of vectors of norm 1 the order is that of cosines.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "select/neighbours.h"

struct options {
	int64_t max_k;
	const char *neighbours_output;
};

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	return df_search_check(in, ((const struct options *)options)->neighbours_output, err);
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	struct df_neighbours t = { 0 };
	struct df_search s = { 0 };
	uint64_t *order = NULL, n;
	int rc = DF_OK;

	DF_TRY(df_meta_set_int(&out->meta, "max_k", o->max_k, err));
	DF_TRY(df_search_open(&s, in, out, DF_METRIC_L2, err));
	DF_TRY(df_neighbours_get(&t, &s, (uint64_t)o->max_k, err));
	if (o->neighbours_output)
		DF_TRY(df_neighbours_put(&t, &s, (uint64_t)o->max_k, o->neighbours_output, &out->also, err));
	DF_TRY(df_alloc(&order, out->n_rows, sizeof(*order), "index", err));
	DF_TRY(df_neighbours_union(&t, out->n_rows, order, &n, err));
	if (in->shortage == DF_SHORT_FILL) {
		DF_TRY(df_meta_set_int(&out->meta, "seed", (int64_t)in->seed, err));
		DF_TRY(df_meta_set_int(&out->meta, "step", in->step, err));
		DF_TRY(df_select_fill(in, s.valid, out->n_rows, order, &n, err));
	}
	if (in->allow_invalid)
		df_search_add_invalid(&s, order, &n);
	rc = df_select_take(in, order, n, out, err);
	if (rc == DF_EUSAGE)
		df_err_suffix(err, "; more --max-k finds more");
out:
	free(order);
	df_neighbours_release(&t);
	df_search_release(&s);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "max-k", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, max_k), .arg = "K", .min = 1, .max = 9e15,
	    .help = "neighbours of each query" },
	{ .name = "neighbours-output", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, neighbours_output), .arg = "FILE",
	    .file = DF_FILE_WRITE, .help = "where the neighbours go, for --neighbours" },
	DF_OPT_END };
/* clang-format on */

const struct df_selector df_select_near = {
	.name = "near",
	.about = "the nearest neighbours of a target",
	.model = "no",
	.cost = "embeddings",
	.shortage = DF_SHORT_ERROR,
	.fill = true,
	.inputs = df_search_inputs,
	.n_inputs = 3,
	.defaults = &(const struct options){ .max_k = 1000 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
