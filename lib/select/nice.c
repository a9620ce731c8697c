/*
 * nice.c - NICE: pick the training rows whose optimiser step most increases the expected reward on a small target set.
 *
 * Wang, Lin, Qiao, Koh, Foo, Low: "NICE Data Selection for Instruction Tuning in LLMs with Non-differentiable
 * Evaluation Metric", ICML 2025.  It is LESS (less.c) with the policy gradients of validation prompts (grad/policy.h)
 * in the place of the gradients of their losses.
 */
#include <stdlib.h>
#include <string.h>

#include "project/project.h"
#include "select/select.h"
#include "select/target.h"

struct options {
	struct df_target_opts target;
};

static const enum df_col columns[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_PROJECTION };
static const char *const same_checkpoint[] = { "checkpoint", NULL };

enum { TRAIN, VAL };
static const struct df_select_input inputs[] = {
	[TRAIN] = { .role = "train",
	    .name = "train projections",
	    .help = "projections to choose from, Adam's form; repeatable",
	    .kind = DF_KIND_PROJECTIONS,
	    .sets = DF_SETS_CHECKPOINTS,
	    .columns = columns,
	    .n_columns = 3,
	    .params = df_projection_params },
	[VAL] = { .role = "val",
	    .name = "validation policy gradients",
	    .help = "the target's policy gradients, one set per --train",
	    .kind = DF_KIND_PROJECTIONS,
	    .join = DF_JOIN_OWN,
	    .sets = DF_SETS_CHECKPOINTS,
	    .columns = columns,
	    .n_columns = 3,
	    .params = df_projection_params,
	    .common = same_checkpoint },
};

/* A set that says what it is must be of policy gradients, or not. */
static int
check_form(const struct df_set *set, bool policy, struct df_err *err)
{
	char *form = NULL;
	int rc = DF_OK;

	if (df_meta_get_str(df_set_meta(set), "form", &form) && (strcmp(form, "policy") == 0) != policy)
		rc = df_fail(err, DF_ELINEAGE, "%s: gradients in form '%s'; %s", df_set_name(set), form,
		    policy ? "nice compares with policy gradients (df-grad --rewards)"
			   : "policy gradients are the target's (--val)");
	free(form);
	return rc;
}

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;

	return df_target_check(&o->target, in->paths[TRAIN].n, err);
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	int rc = DF_OK;

	for (size_t i = 0; i < in->sets[TRAIN].n; i++) {
		DF_TRY(check_form(in->sets[TRAIN].v[i], false, err));
		DF_TRY(check_form(in->sets[VAL].v[i], true, err));
	}
	rc = df_less_select(in, &o->target, out, err);
out:
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	DF_TARGET_OPTS(struct options, target),
	DF_OPT_END };
/* clang-format on */

const struct df_selector df_select_nice = {
	.name = "nice",
	.about = "by influence on a target's reward",
	.model = "yes",
	.cost = "completions",
	.shortage = DF_SHORT_ERROR,
	.inputs = inputs,
	.n_inputs = 2,
	.defaults = &(const struct options){ DF_TARGET_DEFAULTS },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
