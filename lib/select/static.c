/*
 * static.c - the same rows in every window: all of them in order, or a given index.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "select/select.h"

static int
run(const struct df_selector *self, const struct df_select_opts *o, struct df_selection *out, struct df_err *err)
{
	const enum df_shortage mode = o->shortage == DF_SHORT_DEFAULT ? self->shortage : o->shortage;
	uint64_t *order = NULL, n = 0, n_repeated;
	int rc = 0;

	DF_TRY(df_select_rows(o, out, err));
	if (o->index) {
		DF_TRY(df_select_read_index(
		    o->index, out->n_rows, df_select_tokens_id(&out->meta), &order, &n, &n_repeated, &out->meta, err));
	} else {
		n = out->n_rows;
		DF_TRY(df_alloc(&order, n, sizeof *order, "index", err));
		for (uint64_t i = 0; i < n; i++)
			order[i] = i;
	}
	DF_TRY(df_short_take(mode, order, n, o->amount.given ? df_amount_of(&o->amount, out->n_rows) : n, o->seed,
	    o->step, &out->index, &out->n_index, err));
out:
	free(order);
	return rc;
}

const struct df_selector df_select_static = {
	.name = "static",
	.about = "all rows in order, or the rows of --index, whatever the model says",
	.shortage = DF_SHORT_ERROR,
	.run = run,
};
