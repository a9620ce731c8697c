/*
 * random.c - the uniform baseline.
 *
 * Without replacement it is the beginning of a permutation drawn for (seed,
 * step); with --rng torch the permutation is PyTorch's for seed + step, as in DataFlex.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"
#include "select/select.h"

static int
run(const struct df_selector *self, const struct df_select_opts *o, struct df_selection *out, struct df_err *err)
{
	const enum df_shortage mode = o->shortage == DF_SHORT_DEFAULT ? self->shortage : o->shortage;
	uint64_t *order = NULL, n, n_order;
	int rc = 0;

	DF_TRY(df_select_rows(o, out, err));
	n = df_amount_of(&o->amount, out->n_rows);
	DF_TRY(df_meta_set_int(&out->meta, "seed", (int64_t)o->seed, err));
	DF_TRY(df_meta_set_int(&out->meta, "step", o->step, err));
	DF_TRY(df_meta_set_str(&out->meta, "rng", o->torch_rng ? "torch" : "philox", err));
	DF_TRY(df_meta_set_bool(&out->meta, "replacement", o->replacement, err));
	if (o->replacement) {
		if (n && !out->n_rows) {
			rc = df_fail(err, DF_EUSAGE, "asked for %" PRIu64 " rows, but the set is empty", n);
			goto out;
		}
		DF_TRY(df_alloc(&out->index, n, sizeof *out->index, "index", err));
		if (o->torch_rng)
			DF_TRY(df_sample_torch_randint(out->n_rows, n, o->seed + o->step, out->index, err));
		else
			DF_TRY(df_sample_replace(NULL, out->n_rows, n, o->seed, o->step, out->index, err));
		out->n_index = n;
		goto out;
	}
	DF_TRY(df_alloc(&order, out->n_rows, sizeof *order, "permutation", err));
	if (o->torch_rng)
		DF_TRY(df_sample_torch_perm(out->n_rows, out->n_rows, o->seed + o->step, order, err));
	else
		DF_TRY(df_sample_race(NULL, out->n_rows, out->n_rows, o->seed, o->step, order, &n_order, err));
	DF_TRY(df_short_take(mode, order, out->n_rows, n, o->seed, o->step, &out->index, &out->n_index, err));
out:
	free(order);
	return rc;
}

const struct df_selector df_select_random = {
	.name = "random",
	.about = "rows drawn uniformly, without replacement unless asked",
	.shortage = DF_SHORT_CYCLE,
	.run = run,
};
