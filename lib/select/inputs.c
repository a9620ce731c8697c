/*
 * inputs.c - what a method reads: opened, and checked that it belongs together, as the method's record says.
 *
 * Checkpoint by checkpoint: each set against the train set of its checkpoint, and against the first set of its input.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "select/select_priv.h"

void
df_select_columns(const struct df_select_input *input, struct df_set *set)
{
	enum df_col all[DF_COL_COUNT];

	for (int c = 0; c < DF_COL_COUNT; c++)
		all[c] = (enum df_col)c;
	if (df_set_meta(set)->id[0])
		df_set_only(set, input->columns, input->n_columns);
	else
		df_set_only(set, all, DF_COL_COUNT);
}

const char *
df_select_tokens_id(const struct df_meta *m)
{
	const struct df_input *in = df_meta_input(m, "tokens");

	if (df_kind_fits(m->kind, DF_KIND_TOKENS))
		return m->id[0] ? m->id : NULL;
	return in ? in->id : NULL;
}

/* ---- how many ------------------------------------------------------------------- */

static int
check_count(const struct df_select *in, size_t i, struct df_err *err)
{
	const struct df_select_input *input = &in->method->inputs[i];
	const size_t n = in->paths[i].n, n_train = in->paths[0].n;

	if (n == 0 && input->optional)
		return DF_OK;
	if (n == 0)
		return df_fail(err, DF_EUSAGE, "%s needs --%s FILE: %s", in->method->name, input->role, input->help);
	if (input->sets == DF_SETS_ONE && n > 1) {
		return df_fail(
		    err, DF_EUSAGE, "--%s is given %zu times, but %s reads one set", input->role, n, in->method->name);
	}
	if (input->sets == DF_SETS_CHECKPOINTS && n != n_train) {
		return df_fail(err, DF_EUSAGE, "%zu of --%s for %zu of --train: each checkpoint needs one of each", n,
		    input->role, n_train);
	}
	return DF_OK;
}

static int
check_counts(const struct df_select *in, struct df_err *err)
{
	int rc = DF_OK;

	if (in->more.n > 0 && in->paths[0].n != 1) {
		return df_fail(err, DF_EUSAGE,
		    "'%s': further files belong to one --train; with several, quote a glob for each", in->more.v[0]);
	}
	for (size_t i = 0; i < in->method->n_inputs; i++)
		DF_TRY(check_count(in, i, err));
out:
	return rc;
}

/* ---- one set ------------------------------------------------------------------------ */

static int
open_set(struct df_select *in, size_t i, size_t j, struct df_err *err)
{
	const struct df_select_input *input = &in->method->inputs[i];
	struct df_set **set = &in->sets[i].v[j];
	const size_t n_more = i == 0 ? in->more.n : 0;
	const char **paths = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&paths, 1 + n_more, sizeof(*paths), "sets", err));
	paths[0] = in->paths[i].v[j];
	for (size_t k = 0; k < n_more; k++)
		paths[1 + k] = in->more.v[k];
	if (input->columns)
		DF_TRY(df_set_open_later(set, input->kind, input->name, paths, 1 + n_more, err));
	else
		DF_TRY(df_set_open(set, input->kind, input->name, paths, 1 + n_more, err));
	if (df_set_is_stream(*set)) {
		rc = df_fail(err, DF_EUSAGE, "%s: --%s needs files", df_set_name(*set), input->role);
		goto out;
	}
	if (df_set_meta(*set)->kind == DF_KIND_INDEX || df_set_meta(*set)->kind == DF_KIND_WEIGHTS) {
		rc = df_fail(
		    err, DF_EUSAGE, "%s: --%s needs a file with one row per sample", df_set_name(*set), input->role);
		goto out;
	}
	if (input->columns)
		df_select_columns(input, *set);
out:
	free(paths);
	return rc;
}

/* Two sets that are to meet have matrices of one width. */
static int
check_widths(const struct df_set *a, const struct df_set *b, struct df_err *err)
{
	for (int c = 0; c < DF_COL_COUNT; c++) {
		const size_t x = df_set_width(a, (enum df_col)c), y = df_set_width(b, (enum df_col)c);

		if (x && y && x != y) {
			return df_fail(
			    err, DF_EFORMAT, "%s has %zu dimensions, %s has %zu", df_set_name(a), x, df_set_name(b), y);
		}
	}
	return DF_OK;
}

/* The tokens whose rows the set's are, in a form of their own; else those that they are. */
static const char *
rows_id(const struct df_set *set)
{
	const struct df_input *in = df_meta_input(df_set_meta(set), DF_ROLE_ROWS_OF);

	return in ? in->id : df_select_tokens_id(df_set_meta(set));
}

/* Rows of the same tokens, where both say which. */
static int
check_tokens(const struct df_set *a, const struct df_set *b, struct df_err *err)
{
	const char *x = df_select_tokens_id(df_set_meta(a)), *y = df_select_tokens_id(df_set_meta(b));

	if (x && y && strcmp(x, y) != 0 && strcmp(rows_id(a), rows_id(b)) != 0) {
		return df_fail(err, DF_ELINEAGE, "%s and %s were made from different inputs: 'tokens' is %s and %s",
		    df_set_name(a), df_set_name(b), x, y);
	}
	return DF_OK;
}

static int
check_rows(const struct df_set *a, const struct df_set *b, struct df_err *err)
{
	if (df_set_rows(a) != df_set_rows(b)) {
		return df_fail(err, DF_ELINEAGE, "%s has %" PRIu64 " rows, %s has %" PRIu64, df_set_name(a),
		    df_set_rows(a), df_set_name(b), df_set_rows(b));
	}
	return DF_OK;
}

int
df_select_check_rows(const struct df_set *a, const struct df_set *b, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(check_tokens(a, b, err));
	DF_TRY(check_rows(a, b, err));
out:
	return rc;
}

static int
agree(const struct df_set *a, const struct df_set *b, const char *const *params, const char *const *roles,
    struct df_err *err)
{
	static const char *const none[] = { NULL };

	return df_meta_agree(df_set_meta(a), df_set_name(a), df_set_meta(b), df_set_name(b), params ? params : none,
	    roles ? roles : none, err);
}

/* Set j of input i belongs to the train set of its checkpoint, and to the first set of its input. */
static int
check_set(const struct df_select *in, size_t i, size_t j, struct df_err *err)
{
	const struct df_select_input *input = &in->method->inputs[i];
	const struct df_set *set = in->sets[i].v[j], *first = in->sets[i].v[0];
	const struct df_set *train = in->sets[0].v[input->sets == DF_SETS_CHECKPOINTS ? j : 0];
	int rc = DF_OK;

	if (i > 0) {
		DF_TRY(agree(train, set, input->params, input->common, err));
		DF_TRY(check_widths(train, set, err));
		if (input->join != DF_JOIN_OWN)
			DF_TRY(check_tokens(train, set, err));
		if (input->join == DF_JOIN_ALL)
			DF_TRY(check_rows(train, set, err));
	}
	if (j > 0) {
		DF_TRY(agree(first, set, input->params, NULL, err));
		if (input->sets == DF_SETS_CHECKPOINTS) {
			DF_TRY(check_tokens(first, set, err));
			DF_TRY(check_rows(first, set, err));
		}
	}
	if (i > 0 && input->join == DF_JOIN_OWN && df_set_rows(set) == 0)
		rc = df_fail(err, DF_EFORMAT, "%s: no rows", df_set_name(set));
out:
	return rc;
}

/* ---- all of them ------------------------------------------------------------------- */

int
df_select_open(struct df_select *in, struct df_err *err)
{
	const struct df_selector *m = in->method;
	size_t most = 0;
	int rc = DF_OK;

	DF_TRY(check_counts(in, err));
	for (size_t i = 0; i < m->n_inputs; i++) {
		in->sets[i].n = in->paths[i].n;
		most = in->sets[i].n > most ? in->sets[i].n : most;
		DF_TRY(df_alloc(&in->sets[i].v, in->sets[i].n, sizeof(*in->sets[i].v), "sets", err));
	}
	for (size_t j = 0; j < most; j++) {
		for (size_t i = 0; i < m->n_inputs; i++)
			if (j < in->sets[i].n)
				DF_TRY(open_set(in, i, j, err));
		for (size_t i = 0; i < m->n_inputs; i++)
			if (j < in->sets[i].n)
				DF_TRY(check_set(in, i, j, err));
	}
out:
	return rc;
}

void
df_select_close(struct df_select *in)
{
	for (size_t i = 0; i < DF_SELECT_INPUTS; i++) {
		for (size_t j = 0; in->sets[i].v && j < in->sets[i].n; j++)
			df_set_close(in->sets[i].v[j]);
		free(in->sets[i].v);
		in->sets[i] = (struct df_select_sets){ 0 };
	}
}

/* ---- lineage ------------------------------------------------------------------------- */

int
df_select_record_tokens(const struct df_select *in, struct df_meta *m, struct df_err *err)
{
	const char *tokens = df_select_tokens_id(df_set_meta(in->sets[0].v[0]));

	return tokens ? df_meta_add_input(m, "tokens", "tokens", tokens, err) : DF_OK;
}

static int
record_checkpoint(const struct df_select *in, size_t j, struct df_meta *m, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 0; i < in->method->n_inputs; i++) {
		const struct df_select_input *input = &in->method->inputs[i];
		const struct df_meta *set = input->columns && j < in->sets[i].n ? df_set_meta(in->sets[i].v[j]) : NULL;
		/* Scores are of anything: a method that chooses from them says itself which checkpoint it is about. */
		const struct df_input *checkpoint =
		    set && i == 0 && set->kind != DF_KIND_SCORES ? df_meta_input(set, "checkpoint") : NULL;

		if (checkpoint)
			DF_TRY(df_meta_add_input(m, "checkpoint", checkpoint->kind, checkpoint->id, err));
		if (set && set->id[0])
			DF_TRY(df_meta_add_input(m, input->role, df_kind_name(set->kind), set->id, err));
	}
out:
	return rc;
}

int
df_select_record_inputs(const struct df_select *in, struct df_meta *m, struct df_err *err)
{
	size_t most = 0;
	int rc = DF_OK;

	for (size_t i = 0; i < in->method->n_inputs; i++)
		most = in->sets[i].n > most ? in->sets[i].n : most;
	for (size_t j = 0; j < most; j++)
		DF_TRY(record_checkpoint(in, j, m, err));
out:
	return rc;
}
