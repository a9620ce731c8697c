/*
 * target.c - what LESS and its relatives read of a target.
 */
#include "select/target.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

const char *const df_target_aggs[] = { "max", "mean", NULL };
const char *const df_target_val_aggs[] = { "mean-of-cosine", "cosine-of-mean", NULL };

/* "3e-5,1e-5" as weights [n] that sum to 1, equal ones for NULL. */
static int
parse_weights(const char *text, size_t n, double *weight, struct df_err *err)
{
	double sum = 0;
	int rc = DF_OK;

	DF_TRY(df_select_weights(text, n, "checkpoints", false, weight, err));
	for (size_t i = 0; i < n; i++)
		sum += weight[i];
	if (!(sum > 0)) {
		rc = df_fail(err, DF_EUSAGE, "all checkpoint weights are zero");
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		weight[i] /= sum;
out:
	if (rc != DF_OK)
		df_err_prefix(err, "--ckpt-weights: ");
	return rc;
}

struct df_target_opts
df_target_effective(const struct df_select *in, const struct df_target_opts *o)
{
	struct df_target_opts effective = *o;

	if (in->dataflex)
		effective.agg = DF_TARGET_MEAN;
	return effective;
}

int
df_target_check(const struct df_target_opts *o, size_t n, struct df_err *err)
{
	double *weight = NULL;
	int rc = DF_OK;

	if (o->agg == DF_TARGET_MEAN && strcmp(o->subtasks, "domain") != 0 && strcmp(o->subtasks, "none") != 0)
		return df_fail(err, DF_EUSAGE,
		    "%s would have no effect: the mean is over all validation rows; leave the subtasks out, or aggregate by max",
		    o->subtasks);
	DF_TRY(df_alloc(&weight, n, sizeof(*weight), "weights", err));
	if (n > 0)
		DF_TRY(parse_weights(o->weights, n, weight, err));
out:
	free(weight);
	return rc;
}

static void
warn_of_form(struct df_set *val)
{
	char *form = NULL;

	if (df_meta_get_str(df_set_meta(val), "form", &form) && strcmp(form, "sgd") != 0)
		df_warn(
		    "%s: validation gradients in '%s' form; LESS takes the loss's own gradient (df-grad --form sgd)",
		    df_set_name(val), form);
	free(form);
}

void
df_target_expect_losses(const struct df_select *in, size_t input)
{
	for (size_t i = 0; i < in->sets[input].n; i++)
		warn_of_form(in->sets[input].v[i]);
}

/* What shaped the scores. */
static int
record(const struct df_target *t, const struct df_target_opts *o, struct df_meta *m, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	int rc = DF_OK;

	DF_TRY(df_meta_set_str(m, "agg", df_target_aggs[o->agg], err));
	DF_TRY(df_meta_set_str(m, "val_agg", df_target_val_aggs[o->val_agg], err));
	DF_TRY(df_subtasks_record(&t->tasks, m, err));
	for (size_t i = 0; i < t->in->sets[t->input].n; i++) {
		df_buf_puts(&b, i ? "," : "");
		df_buf_json_double(&b, t->weight[i]);
	}
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_meta_set_str(m, "ckpt_weights", b.data, err));
out:
	df_buf_release(&b);
	return rc;
}

int
df_target_open(struct df_target *t, const struct df_select *in, size_t input, const struct df_target_opts *o,
    struct df_meta *m, struct df_err *err)
{
	const struct df_select_sets *sets = &in->sets[input];
	const char *groups = o->agg == DF_TARGET_MEAN ? "none" : o->subtasks;
	int rc = DF_OK;

	*t = (struct df_target){ .in = in, .input = input, .val_agg = (enum df_less_val)o->val_agg };
	DF_TRY(df_alloc(&t->weight, sets->n, sizeof(*t->weight), "weights", err));
	DF_TRY(parse_weights(o->weights, sets->n, t->weight, err));
	DF_TRY(df_subtasks_find(&t->tasks, groups, &in->method->inputs[input], sets->v[0], err));
	DF_TRY(record(t, o, m, err));
out:
	return rc;
}

void
df_target_release(struct df_target *t)
{
	df_subtasks_release(&t->tasks);
	free(t->weight);
	t->weight = NULL;
}

/* ---- one checkpoint --------------------------------------------------------------- */

struct pass {
	const struct df_target *t;
	const struct df_set *set;
	struct df_less *less;
};

static int
take_rows(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	const struct pass *p = ctx;
	const uint64_t *id = b->col[DF_COL_ID].data;
	const float *v = b->col[DF_COL_PROJECTION].data;

	(void)result;
	for (uint64_t i = 0; i < b->n; i++) {
		if (!df_less_val_row(p->less, v + i * p->less->k, p->t->tasks.of_row[id[i]]))
			return df_fail(err, DF_EFORMAT, "%s: id %" PRIu64 ": the validation gradient is not finite",
			    df_set_name(p->set), id[i]);
	}
	return DF_OK;
}

int
df_target_read(const struct df_target *t, size_t i, struct df_less *less, struct df_selection *out, struct df_err *err)
{
	struct df_set *set = t->in->sets[t->input].v[i];
	struct pass p = { .t = t, .set = set, .less = less };
	const struct df_select_scan sc = {
		.in = t->in, .input = t->input, .set = i, .out = out, .take = take_rows, .ctx = &p
	};
	int rc = DF_OK;

	DF_TRY(df_less_init(less, df_set_width(set, DF_COL_PROJECTION), t->tasks.names.n, t->val_agg, err));
	DF_TRY(df_select_scan(&sc, err));
	rc = df_less_end(less, err);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", df_set_name(set));
out:
	return rc;
}

float
df_target_best(const double *influence, size_t n)
{
	double best = influence[0];

	for (size_t j = 1; j < n; j++)
		best = fmax(best, influence[j]);
	return (float)best;
}
