/*
 * static.c - the same rows in every window: all of them in order, or a given index.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "select/select.h"

struct options {
	const char *index;
};

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	uint64_t *order = NULL, n = out->n_rows, n_repeated;
	int rc = DF_OK;

	if (o->index) {
		DF_TRY(df_select_read_index(
		    o->index, out->n_rows, df_select_tokens_id(&out->meta), &order, &n, &n_repeated, &out->meta, err));
	} else {
		DF_TRY(df_alloc(&order, n, sizeof(*order), "index", err));
		for (uint64_t i = 0; i < n; i++)
			order[i] = i;
	}
	DF_TRY(df_select_take(in, order, n, out, err));
out:
	free(order);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "index", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, index), .arg = "FILE", .file = DF_FILE_READ,
	    .help = "take these ids: an index, or text with one per line" },
	DF_OPT_END };
/* clang-format on */

static const struct df_select_input inputs[] = {
	{ .role = "train", .name = "train set", .help = "rows to choose from, in any file with one per sample" },
};

const struct df_selector df_select_static = {
	.name = "static",
	.about = "all rows in order, or those of an index",
	.model = "no",
	.cost = "none",
	.shortage = DF_SHORT_ERROR,
	.inputs = inputs,
	.n_inputs = 1,
	.defaults = &(const struct options){ 0 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.run = run,
};
