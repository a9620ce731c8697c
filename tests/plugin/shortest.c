/*
 * shortest.c - a method of one's own for df-score: the rows with the fewest tokens, of those that have enough.
 *
 *     cc -shared -fPIC -I PREFIX/include/df-tools shortest.c -o shortest.so
 *     df-score --plugin ./shortest.so shortest --train pool.h5 --at-least 8 -n 400 -o index.h5
 */
#include <math.h>

#include "base/mem.h"
#include "select/plugin.h"

struct options {
	int64_t at_least;
};

static const enum df_col columns[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_IDS };
static const struct df_select_input inputs[] = {
	{ .role = "train",
	    .name = "tokens",
	    .help = "tokens to choose from",
	    .kind = DF_KIND_TOKENS,
	    .columns = columns,
	    .n_columns = 3 },
};

struct run {
	const struct options *o;
	struct df_selection *out;
};

/* A block of rows, in any order of ids: the score is the number of tokens, with a minus. */
static int
take(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	const struct run *r = ctx;
	const uint64_t *id = b->col[DF_COL_ID].data, *offsets = b->col[DF_COL_IDS].offsets;

	(void)result;
	(void)err;
	for (uint64_t i = 0; i < b->n; i++) {
		const uint64_t n = offsets[i + 1] - offsets[i];

		r->out->score[id[i]] = n >= (uint64_t)r->o->at_least ? -(float)n : NAN;
	}
	return DF_OK;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	struct run r = { options, out };
	const struct df_select_scan scan = { .in = in, .out = out, .take = take, .ctx = &r };
	int rc = DF_OK;

	DF_TRY(df_meta_set_int(&out->meta, "at_least", r.o->at_least, err));
	DF_TRY(df_alloc(&out->score, out->n_rows, sizeof(*out->score), "scores", err));
	DF_TRY(df_select_scan(&scan, err));
	DF_TRY(df_select_top(in, out, err));
out:
	return rc;
}

static const struct df_opt options[] = {
	{ .name = "at-least",
	    .type = DF_OPT_INT,
	    .value = DF_OPT_AT(struct options, at_least),
	    .arg = "N",
	    .max = 1e9,
	    .help = "tokens that a row must have" },
	DF_OPT_END,
};

static const struct df_selector shortest = {
	.name = "shortest",
	.about = "the rows with the fewest tokens",
	.model = "no",
	.cost = "none",
	.shortage = DF_SHORT_ERROR,
	.inputs = inputs,
	.n_inputs = 1,
	.defaults = &(const struct options){ .at_least = 1 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.run = run,
};
DF_PLUGIN(shortest);
