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

enum rng { RNG_PHILOX, RNG_TORCH };
static const char *const rngs[] = { "philox", "torch", NULL };

struct options {
	bool replacement;
	int rng; /* enum rng */
};

static int
draw_independently(const struct df_select *in, enum rng rng, uint64_t n, struct df_selection *out, struct df_err *err)
{
	int rc = DF_OK;

	if (n && !out->n_rows)
		return df_fail(err, DF_EUSAGE, "asked for %" PRIu64 " rows, but the set is empty", n);
	DF_TRY(df_alloc(&out->index, n, sizeof(*out->index), "index", err));
	if (rng == RNG_TORCH)
		DF_TRY(df_sample_torch_randint(out->n_rows, n, in->seed + in->step, out->index, err));
	else
		DF_TRY(df_sample_replace(NULL, out->n_rows, n, in->seed, in->step, out->index, err));
	out->n_index = n;
out:
	return rc;
}

static int
draw_permutation(const struct df_select *in, enum rng rng, struct df_selection *out, struct df_err *err)
{
	const uint64_t n = out->n_rows;
	uint64_t *order = NULL, n_order = n;
	int rc = DF_OK;

	DF_TRY(df_alloc(&order, n, sizeof(*order), "permutation", err));
	if (rng == RNG_TORCH)
		DF_TRY(df_sample_torch_perm(n, n, in->seed + in->step, order, err));
	else
		DF_TRY(df_sample_race(NULL, n, n, in->seed, in->step, order, &n_order, err));
	DF_TRY(df_select_take(in, order, n_order, out, err));
out:
	free(order);
	return rc;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	int rc = DF_OK;

	DF_TRY(df_meta_set_int(&out->meta, "seed", (int64_t)in->seed, err));
	DF_TRY(df_meta_set_int(&out->meta, "step", in->step, err));
	DF_TRY(df_meta_set_str(&out->meta, "rng", rngs[o->rng], err));
	DF_TRY(df_meta_set_bool(&out->meta, "replacement", o->replacement, err));
	if (o->replacement)
		DF_TRY(draw_independently(in, (enum rng)o->rng, df_amount_of(&in->amount, out->n_rows), out, err));
	else
		DF_TRY(draw_permutation(in, (enum rng)o->rng, out, err));
out:
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "replacement", .type = DF_OPT_FLAG, .value = DF_OPT_AT(struct options, replacement),
	    .help = "independent draws" },
	{ .name = "rng", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, rng), .choices = rngs,
	    .help = "torch: the draws of DataFlex's selector" },
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
	.inputs = inputs,
	.n_inputs = 1,
	.defaults = &(const struct options){ 0 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.run = run,
};
