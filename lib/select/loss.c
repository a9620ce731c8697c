/*
 * loss.c - draws that prefer rows of low, medium or high loss.
 *
 * Two quantiles of the finite losses divide the rows into three classes; a row of the class in focus weighs
 * focus_weight, every other one 1, and a row is drawn in proportion to weight^(1 / temperature).  (DataFlex,
 * loss_selector.py; there is no paper.)
 *
 * --compat dataflex: DataFlex adds 1e-12 to every weight before the power, so that a row without a finite loss can be
 * drawn, and has its quantiles in float32.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "select/losses.h"
#include "select/select.h"

#define DATAFLEX_EPSILON 1e-12

enum focus { LOW, MEDIUM, HIGH };
static const char *const focuses[] = { "low", "medium", "high", NULL };

struct options {
	int focus;
	double focus_weight, temperature;
	const char *quantiles;
	bool replacement;
};

/* The weight of a draw. */
static double
power(double weight, const struct options *o, bool dataflex)
{
	return pow(weight + (dataflex ? DATAFLEX_EPSILON : 0), 1 / o->temperature);
}

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;
	const double most = power(fmax(o->focus_weight, 1), o, in->dataflex);
	double q[2];
	int rc = DF_OK;

	DF_TRY(df_parse_band("quantiles", o->quantiles, q, err));
	if (!(o->temperature > 0)) {
		rc = df_fail(err, DF_EUSAGE, "--temperature %g: must be above 0", o->temperature);
	} else if (!(most <= 1e200) || !(power(1, o, in->dataflex) > 0) ||
	    (o->focus_weight > 0 && !(power(o->focus_weight, o, in->dataflex) > 1e-200))) {
		rc = df_fail(err, DF_EUSAGE, "--focus-weight %g, --temperature %g: the weights are out of range",
		    o->focus_weight, o->temperature);
	} else if (o->replacement && in->amount.tokens) {
		rc = df_fail(err, DF_EUSAGE, "--replacement draws a number of rows, not of tokens");
	}
out:
	return rc;
}

static int
record(const struct options *o, const double q[2], struct df_meta *m, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_meta_set_str(m, "focus", focuses[o->focus], err));
	DF_TRY(df_meta_set_double(m, "focus_weight", o->focus_weight, err));
	DF_TRY(df_meta_set_str(m, "quantiles", o->quantiles, err));
	DF_TRY(df_meta_set_double(m, "temperature", o->temperature, err));
	DF_TRY(df_meta_set_bool(m, "replacement", o->replacement, err));
	DF_TRY(df_meta_set_double(m, "low_to", q[0], err));
	DF_TRY(df_meta_set_double(m, "high_above", q[1], err));
out:
	return rc;
}

enum { NEVER, INVALID, OTHER, FOCUSED }; /* groups of rows */

/* out->group.  Without branches, which would be a matter of luck for each row. */
static void
group_rows(const struct options *o, const double q[2], struct df_selection *out)
{
	const double from = o->focus == LOW ? -(double)INFINITY : q[o->focus - 1]; /* the focus: from < loss <= to */
	const double to = o->focus == HIGH ? (double)INFINITY : q[o->focus];

	for (uint64_t i = 0; i < out->n_rows; i++) {
		const double loss = (double)out->score[i];
		const unsigned valid = fabs(loss) <= (double)FLT_MAX;

		out->group[i] = (uint8_t)(INVALID + valid + (valid & (unsigned)(loss > from) & (unsigned)(loss <= to)));
	}
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	const double weight[DF_SELECT_GROUPS] = { [INVALID] = in->dataflex ? power(0, o, true) : 0,
		[OTHER] = power(1, o, in->dataflex),
		[FOCUSED] = power(o->focus_weight, o, in->dataflex) };
	double q[2], level[2];
	size_t cap = 0;
	int rc = DF_OK;

	DF_TRY(df_parse_band("quantiles", o->quantiles, level, err));
	DF_TRY(df_select_read_losses(in, 0, out, &out->score, NULL, err));
	rc = df_quantiles(out->score, out->n_rows, level, 2, in->dataflex, q, err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", df_set_name(in->sets[0].v[0]));
		goto out;
	}
	DF_TRY(record(o, q, &out->meta, err));
	DF_TRY(df_grow(&out->group, &cap, out->n_rows, sizeof(*out->group), "groups", err));
	group_rows(o, q, out);
	DF_TRY(df_select_draw_groups(in, weight, o->replacement, out, err));
out:
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "focus", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, focus), .choices = focuses,
	    .help = "the losses to prefer" },
	{ .name = "focus-weight", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, focus_weight), .arg = "W",
	    .min = 0, .max = 1e100, .help = "how much more likely they are" },
	{ .name = "quantiles", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, quantiles), .arg = "A,B",
	    .help = "where low and medium end" },
	{ .name = "temperature", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, temperature), .arg = "T",
	    .min = 0, .max = 1e100, .help = "above 1: more uniform" },
	{ .name = "replacement", .type = DF_OPT_FLAG, .value = DF_OPT_AT(struct options, replacement),
	    .help = "independent draws" },
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

const struct df_selector df_select_loss = {
	.name = "loss",
	.about = "draws that prefer low, medium or high loss",
	.model = "yes",
	.cost = "losses",
	.shortage = DF_SHORT_CYCLE,
	.dataflex = true,
	.inputs = inputs,
	.n_inputs = 1,
	.defaults =
	    &(const struct options){ .focus = HIGH, .focus_weight = 5, .temperature = 1, .quantiles = "0.33,0.66" },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
