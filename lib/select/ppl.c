/*
 * ppl.c - by perplexity: the highest first, or from the middle down, inside a band of quantiles.
 *
 * Perplexity is exp(loss) and ranks like the loss, which is the score here: it cannot overflow.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "select/losses.h"
#include "select/select.h"

#define MIDDLE 0.33 /* of the rows in rank order come before the middle (Cherry_LLM) */

enum start { START_TOP, START_MID };
static const char *const starts[] = { "top", "mid", NULL };

struct options {
	const char *band;
	int start;
};

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;
	double band[2];

	(void)in;
	return df_parse_band("band", o->band, band, err);
}

/* Of order [n], best first, keep what is in the band. */
static int
keep_band(
    const struct options *o, const float *score, uint64_t n_rows, uint64_t *order, uint64_t *n, struct df_err *err)
{
	double band[2], limit[2];
	uint64_t kept = 0;
	int rc = DF_OK;

	DF_TRY(df_parse_band("band", o->band, band, err));
	if (band[0] <= 0 && band[1] >= 1)
		goto out;
	DF_TRY(df_quantiles(score, n_rows, band, 2, false, limit, err));
	for (uint64_t i = 0; i < *n; i++)
		if ((double)score[order[i]] >= limit[0] && (double)score[order[i]] <= limit[1])
			order[kept++] = order[i];
	*n = kept;
out:
	return rc;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	uint64_t *order = NULL, n_valid, n, first;
	int rc = DF_OK;

	DF_TRY(df_meta_set_str(&out->meta, "band", o->band, err));
	DF_TRY(df_meta_set_str(&out->meta, "start", starts[o->start], err));
	DF_TRY(df_select_read_losses(in, 0, out, &out->score, NULL, err));
	DF_TRY(df_alloc(&order, out->n_rows, sizeof(*order), "ranks", err));
	DF_TRY(df_rank(out->score, out->n_rows, order, &n_valid, err));
	out->n_invalid = out->n_rows - n_valid;
	n = n_valid;
	if (n > 0)
		DF_TRY(keep_band(o, out->score, out->n_rows, order, &n, err));
	first = o->start == START_MID ? (uint64_t)(MIDDLE * (double)n) : 0;
	if (n - first < n_valid)
		df_info("%" PRIu64 " of %" PRIu64 " rows are in the band", n - first, n_valid);
	/* What is in the band lies before the invalid rows, which come last where they are allowed. */
	for (uint64_t i = 0; in->allow_invalid && i < out->n_invalid; i++)
		order[n + i] = order[n_valid + i];
	DF_TRY(df_select_take(in, order + first, n - first + (in->allow_invalid ? out->n_invalid : 0), out, err));
out:
	free(order);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "band", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, band), .arg = "LO,HI",
	    .help = "only rows between these quantiles" },
	{ .name = "start", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, start), .choices = starts,
	    .help = "from the highest down, or from the 33 % point down" },
	DF_OPT_END };
/* clang-format on */

static const struct df_select_input inputs[] = {
	{ .role = "train",
	    .name = "losses",
	    .help = "losses of the rows to choose from",
	    .kind = DF_KIND_LOSSES,
	    .columns = df_loss_columns,
	    .n_columns = DF_LOSS_COLUMNS },
};

const struct df_selector df_select_ppl = {
	.name = "ppl",
	.about = "by perplexity, the highest first",
	.model = "yes",
	.cost = "losses",
	.shortage = DF_SHORT_ERROR,
	.inputs = inputs,
	.n_inputs = 1,
	.defaults = &(const struct options){ .band = "0,1" },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
