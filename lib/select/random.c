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

struct options {
	bool replacement;
};

static int
draw_independently(const struct df_select *in, struct df_selection *out, struct df_err *err)
{
	const uint64_t n = df_amount_of(&in->amount, out->n_rows);
	double *weight = NULL;
	int rc = DF_OK;

	if (n && !out->n_rows)
		return df_fail(err, DF_EUSAGE, "asked for %" PRIu64 " rows, but the set is empty", n);
	DF_TRY(df_alloc(&out->index, n, sizeof(*out->index), "index", err));
	if (in->torch) {
		DF_TRY(df_sample_torch_randint(out->n_rows, n, in->seed + in->step, out->index, err));
	} else {
		DF_TRY(df_alloc(&weight, out->n_rows, sizeof(*weight), "weights", err));
		for (uint64_t i = 0; i < out->n_rows; i++)
			weight[i] = df_select_may(in, i);
		DF_TRY(df_sample_replace(weight, out->n_rows, n, in->seed, in->step, out->index, err));
	}
	out->n_index = n;
out:
	free(weight);
	return rc;
}

static int
draw_permutation(const struct df_select *in, struct df_selection *out, struct df_err *err)
{
	uint64_t *order = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&order, out->n_rows, sizeof(*order), "permutation", err));
	DF_TRY(df_select_permute(in, out->n_rows, order, err));
	DF_TRY(df_select_take(in, order, out->n_rows, out, err));
out:
	free(order);
	return rc;
}

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;

	if (o->replacement && in->amount.tokens)
		return df_fail(err, DF_EUSAGE, "--replacement draws a number of rows, not of tokens");
	if (o->replacement && in->torch && in->exclude)
		return df_fail(err, DF_EUSAGE, "--exclude: PyTorch's draws with replacement are from all rows");
	return DF_OK;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	int rc = DF_OK;

	DF_TRY(df_meta_set_int(&out->meta, "seed", (int64_t)in->seed, err));
	DF_TRY(df_meta_set_int(&out->meta, "step", in->step, err));
	DF_TRY(df_meta_set_str(&out->meta, "rng", in->torch ? "torch" : "philox", err));
	DF_TRY(df_meta_set_bool(&out->meta, "replacement", o->replacement, err));
	DF_TRY(o->replacement ? draw_independently(in, out, err) : draw_permutation(in, out, err));
out:
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "replacement", .type = DF_OPT_FLAG, .value = DF_OPT_AT(struct options, replacement),
	    .help = "independent draws" },
	DF_OPT_END };
/* clang-format on */

static const struct df_select_input inputs[] = {
	{ .role = "train", .name = "train set", .help = "rows to choose from, in any file with one per sample" },
};

const struct df_selector df_select_random = {
	.name = "random",
	.about = "uniform draws, the baseline",
	.model = "no",
	.cost = "none",
	.shortage = DF_SHORT_CYCLE,
	.torch = true,
	.inputs = inputs,
	.n_inputs = 1,
	.defaults = &(const struct options){ 0 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
