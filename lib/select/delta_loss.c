/*
 * delta_loss.c - draws that prefer rows whose loss has dropped: first those that improved most, later those that
 * improved less.
 *
 * The first selection of a run has no earlier losses to compare with, and is uniform; the losses that it reads are the
 * reference of all later ones.  (DataFlex, delta_loss_selector.py; there is no paper.)
 */
#include "select/delta_loss.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "select/losses.h"
#include "select/select.h"

enum { TRAIN, REFERENCE };
enum neg { NEG_CUT, NEG_SHIFT };
static const char *const negs[] = { "cut", "shift", NULL };

struct options {
	int64_t ordinal, times;
	double width, steepness, outside;
	int neg;
};

static uint64_t
least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void
df_delta_window(const struct df_delta_window *w, uint64_t n, uint64_t n_improved, uint64_t *start, uint64_t *end)
{
	const double x = w->times > 1 ? (double)(w->ordinal - 1) / (double)(w->times - 1) : 0;
	const double sigma = 1 / (1 + exp(-w->steepness * (fmin(x, 1) - 0.5)));
	const double width = w->width * (double)n, at = sigma * ((double)n - width);
	const uint64_t from = least((uint64_t)at, n), to = least((uint64_t)(at + width), n);

	*start = w->shift && to > n_improved ? n_improved - least(to - from, n_improved) : from;
	*end = least(w->shift ? *start + (to - from) : to, n_improved);
	if (*end < *start)
		*start = *end;
}

/* ---- the first selection of a run ----------------------------------------------------- */

static int
draw_uniformly(const struct df_select *in, struct df_selection *out, struct df_err *err)
{
	uint64_t *order = NULL, n_order = 0;
	float *loss = NULL;
	int rc = DF_OK;

	DF_TRY(df_meta_set_int(&out->meta, "seed", (int64_t)in->seed, err));
	DF_TRY(df_meta_set_int(&out->meta, "step", in->step, err));
	DF_TRY(df_select_read_losses(in, TRAIN, out, &loss, NULL, err));
	DF_TRY(df_alloc(&order, out->n_rows, sizeof(*order), "permutation", err));
	if (in->torch) /* DataFlex's seed is the same at every step here */
		DF_TRY(df_sample_torch_perm(out->n_rows, out->n_rows, in->seed, order, err));
	else
		DF_TRY(df_select_permute(in, out->n_rows, order, err));
	for (uint64_t i = 0; i < out->n_rows; i++)
		if (in->allow_invalid || isfinite(loss[order[i]]))
			order[n_order++] = order[i];
	out->n_invalid = out->n_rows - df_count_finite(loss, out->n_rows);
	DF_TRY(df_select_take(in, order, n_order, out, err));
out:
	free(order);
	free(loss);
	return rc;
}

/* ---- the later ones ------------------------------------------------------------------- */

/* out->score = how much each row's loss has dropped. */
static int
read_deltas(const struct df_select *in, struct df_selection *out, struct df_err *err)
{
	float *reference = NULL;
	int rc = DF_OK;

	DF_TRY(df_select_read_losses(in, TRAIN, out, &out->score, NULL, err));
	DF_TRY(df_select_read_losses(in, REFERENCE, out, &reference, NULL, err));
	for (uint64_t i = 0; i < out->n_rows; i++)
		out->score[i] = reference[i] - out->score[i];
out:
	free(reference);
	return rc;
}

/* weight [n_rows] by order [n_valid], best first. */
static void
weigh(const struct options *o, const float *delta, const uint64_t *order, uint64_t n_valid, double *weight)
{
	const struct df_delta_window w = { .width = o->width,
		.steepness = o->steepness,
		.ordinal = (uint64_t)o->ordinal,
		.times = (uint64_t)o->times,
		.shift = o->neg == NEG_SHIFT };
	uint64_t n_improved = 0, start, end;

	while (n_improved < n_valid && delta[order[n_improved]] >= 0)
		n_improved++;
	df_delta_window(&w, n_valid, n_improved, &start, &end);
	if (start == end)
		df_warn("of %" PRIu64 " rows %" PRIu64 " have no higher loss than before, none of them in the window: "
			"the draw is uniform%s",
		    n_valid, n_improved, n_improved && !w.shift ? " (--neg=shift keeps the window on them)" : "");
	for (uint64_t i = 0; i < n_valid; i++)
		weight[order[i]] = (start == end) || (i >= start && i < end) ? 1 : o->outside;
}

static int
draw_by_delta(const struct df_select *in, const struct options *o, struct df_selection *out, struct df_err *err)
{
	uint64_t *order = NULL, n_valid;
	double *weight = NULL;
	int rc = DF_OK;

	DF_TRY(df_meta_set_int(&out->meta, "ordinal", o->ordinal, err));
	DF_TRY(df_meta_set_int(&out->meta, "update_times", o->times, err));
	DF_TRY(df_meta_set_double(&out->meta, "window", o->width, err));
	DF_TRY(df_meta_set_double(&out->meta, "steepness", o->steepness, err));
	DF_TRY(df_meta_set_double(&out->meta, "outside_weight", o->outside, err));
	DF_TRY(df_meta_set_str(&out->meta, "neg", negs[o->neg], err));
	DF_TRY(read_deltas(in, out, err));
	DF_TRY(df_alloc(&order, out->n_rows, sizeof(*order), "ranks", err));
	DF_TRY(df_alloc(&weight, out->n_rows, sizeof(*weight), "weights", err));
	DF_TRY(df_rank(out->score, out->n_rows, order, &n_valid, err));
	weigh(o, out->score, order, n_valid, weight);
	DF_TRY(df_select_draw(in, weight, out, err));
out:
	free(order);
	free(weight);
	return rc;
}

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;
	const bool first = in->paths[REFERENCE].n == 0;

	if (first && o->ordinal > 1)
		return df_fail(err, DF_EUSAGE,
		    "--ordinal %" PRId64 " needs --reference: the losses at the run's first selection", o->ordinal);
	if (!first && (o->ordinal < 1 || o->times < 1))
		return df_fail(err, DF_EUSAGE,
		    "--reference needs --ordinal and --update-times: which selection of how many this is");
	if (!first && in->torch)
		return df_fail(
		    err, DF_EUSAGE, "--rng torch: only the first selection of a run, without --reference, is uniform");
	return DF_OK;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	return in->sets[REFERENCE].n ? draw_by_delta(in, options, out, err) : draw_uniformly(in, out, err);
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "ordinal", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, ordinal), .arg = "C", .min = 1,
	    .max = 1e15, .help = "which selection of its epoch this is, from 1" },
	{ .name = "update-times", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, times), .arg = "T", .min = 1,
	    .max = 1e15, .help = "selections of an epoch" },
	{ .name = "window", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, width), .arg = "W", .min = 0, .max = 1,
	    .help = "its width, a fraction of the rows" },
	{ .name = "steepness", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, steepness), .arg = "K", .min = 0,
	    .max = 1e6, .help = "how suddenly it slides" },
	{ .name = "outside-weight", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, outside), .arg = "W", .min = 0,
	    .max = 1e100, .help = "of rows outside; inside it is 1" },
	{ .name = "neg", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, neg), .choices = negs,
	    .help = "where it reaches rows that got worse: cut it, or shift it" },
	DF_OPT_END };
/* clang-format on */

static const struct df_select_input inputs[] = {
	[TRAIN] = { .role = "train",
	    .name = "losses",
	    .help = "losses of the rows to choose from",
	    .kind = DF_KIND_LOSSES,
	    .columns = df_loss_columns,
	    .n_columns = DF_LOSS_COLUMNS },
	[REFERENCE] = { .role = "reference",
	    .name = "reference losses",
	    .help = "their losses at the run's first selection; without: uniform",
	    .kind = DF_KIND_LOSSES,
	    .optional = true,
	    .columns = df_loss_columns,
	    .n_columns = DF_LOSS_COLUMNS },
};

const struct df_selector df_select_delta_loss = {
	.name = "delta-loss",
	.about = "draws that prefer rows whose loss dropped",
	.model = "yes",
	.cost = "losses",
	.shortage = DF_SHORT_ERROR,
	.torch = true,
	.inputs = inputs,
	.n_inputs = 2,
	.defaults = &(const struct options){ .width = 0.2, .steepness = 10, .outside = 0.025 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
