/*
 * ifd.c - instruction-following difficulty (Li et al. 2023): how little the prompt helps with the response.
 *
 * r = the response's loss after its prompt / its loss alone, or the same of perplexities.  A prompt that makes its
 * response less likely (r > 1) does not belong to it: such a row is left out.  The others are ranked by r, the largest
 * first.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "select/losses.h"
#include "select/select.h"

enum { TRAIN, NO_PROMPT };
enum ratio { RATIO_LOSS, RATIO_PPL };
static const char *const ratios[] = { "loss", "ppl", NULL };

struct options {
	int ratio;
};

/* The losses are of the two forms of the rows, and not exchanged. */
static int
check_forms(const struct df_select *in, struct df_err *err)
{
	const struct df_set *with = in->sets[TRAIN].v[0], *without = in->sets[NO_PROMPT].v[0];
	const char *x = df_select_tokens_id(df_set_meta(with)), *y = df_select_tokens_id(df_set_meta(without));

	if (df_meta_input(df_set_meta(with), DF_ROLE_ROWS_OF))
		return df_fail(err, DF_ELINEAGE, "%s has the losses without prompts: it belongs to --no-prompt",
		    df_set_name(with));
	if (x && y && strcmp(x, y) == 0)
		return df_fail(err, DF_ELINEAGE,
		    "%s has the losses of the same tokens as %s: --no-prompt needs those of the rows without their "
		    "prompts (df-pack --no-prompt)",
		    df_set_name(without), df_set_name(with));
	return DF_OK;
}

/* Both losses should be means over the same targets. */
static void
compare_targets(const uint32_t *with, const uint32_t *without, uint64_t n)
{
	uint64_t n_other = 0;

	for (uint64_t i = 0; with && without && i < n; i++)
		n_other += with[i] != without[i];
	if (n_other)
		df_warn("%" PRIu64 " of %" PRIu64 " rows have another number of targets without their prompts: "
			"their two losses are of different tokens",
		    n_other, n);
}

/* out->score = r, *n_above = how many are above 1; these have excess[id] set. */
static int
score(const struct df_select *in, const struct options *o, struct df_selection *out, uint8_t *excess, uint64_t *n_above,
    struct df_err *err)
{
	uint32_t *n_with = NULL, *n_without = NULL;
	float *without = NULL;
	int rc = DF_OK;

	DF_TRY(df_select_read_losses(in, TRAIN, out, &out->score, &n_with, err));
	DF_TRY(df_select_read_losses(in, NO_PROMPT, out, &without, &n_without, err));
	compare_targets(n_with, n_without, out->n_rows);
	for (uint64_t i = 0; i < out->n_rows; i++) {
		const double a = (double)out->score[i], b = (double)without[i];
		const double r = o->ratio == RATIO_PPL ? exp(a - b) : a / b;

		out->score[i] = isfinite(a) && isfinite(b) ? (float)r : (float)NAN;
		excess[i] = r > 1 && isfinite(out->score[i]);
		*n_above += excess[i];
	}
out:
	free(n_with);
	free(n_without);
	free(without);
	return rc;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	uint64_t *order = NULL, n_valid, n = 0, n_above = 0;
	uint8_t *excess = NULL;
	int rc = DF_OK;

	DF_TRY(df_meta_set_str(&out->meta, "ratio", ratios[o->ratio], err));
	DF_TRY(check_forms(in, err));
	DF_TRY(df_alloc(&order, out->n_rows, sizeof(*order), "ranks", err));
	DF_TRY(df_alloc(&excess, out->n_rows, sizeof(*excess), "rows", err));
	DF_TRY(score(in, o, out, excess, &n_above, err));
	if (n_above)
		df_info("%" PRIu64 " of %" PRIu64 " rows are left out: their prompts make their responses less likely",
		    n_above, out->n_rows);
	DF_TRY(df_rank(out->score, out->n_rows, order, &n_valid, err));
	out->n_invalid = out->n_rows - n_valid;
	for (uint64_t i = 0; i < (in->allow_invalid ? out->n_rows : n_valid); i++)
		if (!excess[order[i]])
			order[n++] = order[i];
	DF_TRY(df_select_take(in, order, n, out, err));
out:
	free(order);
	free(excess);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "ratio", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, ratio), .choices = ratios,
	    .help = "of losses, or of perplexities" },
	DF_OPT_END };
/* clang-format on */

static const char *const same_checkpoint[] = { "checkpoint", NULL };

static const struct df_select_input inputs[] = {
	[TRAIN] = { .role = "train",
	    .name = "losses",
	    .help = "losses of the rows to choose from",
	    .kind = DF_KIND_LOSSES,
	    .columns = df_loss_count_columns,
	    .n_columns = DF_LOSS_COUNT_COLUMNS },
	[NO_PROMPT] = { .role = "no-prompt",
	    .name = "losses without prompts",
	    .help = "losses of the same responses without their prompts",
	    .kind = DF_KIND_LOSSES,
	    .columns = df_loss_count_columns,
	    .n_columns = DF_LOSS_COUNT_COLUMNS,
	    .common = same_checkpoint },
};

const struct df_selector df_select_ifd = {
	.name = "ifd",
	.about = "where prompts help least with their responses",
	.model = "yes",
	.cost = "losses",
	.shortage = DF_SHORT_ERROR,
	.inputs = inputs,
	.n_inputs = 2,
	.defaults = &(const struct options){ 0 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.run = run,
};
