/*
 * test_select_inputs.c - what a method's record promises of its inputs and options, by a method made for the test.
 */
#include "shard_help.h"

#include "base/buf.h"
#include "select/select.h"

/* ---- the method: sums of losses, over checkpoints, of what more there is --------------------- */

struct options {
	int64_t twice;
	const char *word;
};

static const enum df_col losses[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_LOSS };
static const enum df_col embeddings[] = { DF_COL_ID, DF_COL_EMBEDDING };
static const char *const same_layer[] = { "layer", NULL };

enum { TRAIN, BEFORE, PART, QUERY };
static const struct df_select_input inputs[] = {
	[TRAIN] = { .role = "train",
	    .name = "losses",
	    .help = "losses",
	    .kind = DF_KIND_LOSSES,
	    .sets = DF_SETS_CHECKPOINTS,
	    .columns = losses,
	    .n_columns = 3 },
	[BEFORE] = { .role = "before",
	    .name = "earlier losses",
	    .help = "earlier ones",
	    .kind = DF_KIND_LOSSES,
	    .sets = DF_SETS_CHECKPOINTS,
	    .optional = true,
	    .columns = losses,
	    .n_columns = 3,
	    .params = same_layer },
	[PART] = { .role = "part",
	    .name = "losses of some",
	    .help = "of some rows",
	    .kind = DF_KIND_LOSSES,
	    .join = DF_JOIN_SOME,
	    .sets = DF_SETS_ANY,
	    .optional = true,
	    .columns = losses,
	    .n_columns = 3 },
	[QUERY] = { .role = "query",
	    .name = "queries",
	    .help = "queries",
	    .kind = DF_KIND_EMBEDDINGS,
	    .join = DF_JOIN_OWN,
	    .optional = true,
	    .columns = embeddings,
	    .n_columns = 2 },
};

static int
take(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct df_selection *out = ctx;
	const uint64_t *id = b->col[DF_COL_ID].data;
	const float *loss = b->col[DF_COL_LOSS].data;

	(void)result;
	(void)err;
	for (uint64_t i = 0; loss && i < b->n; i++)
		out->score[id[i]] += loss[i];
	return DF_OK;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	int rc = DF_OK;

	DF_TRY(df_meta_set_int(&out->meta, "twice", o->twice, err));
	DF_TRY(df_alloc(&out->score, out->n_rows, sizeof(*out->score), "scores", err));
	for (size_t i = 0; i < 4; i++) {
		for (size_t j = 0; j < in->sets[i].n; j++) {
			const struct df_select_scan sc = {
				.in = in, .input = i, .set = j, .out = out, .take = take, .ctx = out
			};

			DF_TRY(df_select_scan(&sc, err));
		}
	}
	DF_TRY(df_select_top(in, out, err));
out:
	return rc;
}

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	(void)in;
	return ((const struct options *)options)->twice > 2 ? df_fail(err, DF_EUSAGE, "more than twice") : DF_OK;
}

static const struct df_opt rows[] = {
	{ .name = "twice", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, twice), .arg = "N", .help = "x" },
	{ .name = "word", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, word), .arg = "W", .help = "x" },
	DF_OPT_END,
};

static const struct df_selector sums = {
	.name = "sums",
	.about = "test",
	.shortage = DF_SHORT_TRUNCATE,
	.inputs = inputs,
	.n_inputs = 4,
	.defaults = &(const struct options){ 1, "abc" },
	.defaults_size = sizeof(struct options),
	.options = rows,
	.check = check,
	.run = run,
};

/* ---- artefacts --------------------------------------------------------------------------- */

static const char tokens_a[] = "0123456789abcdef0123456789abcdef", tokens_b[] = "fedcba9876543210fedcba9876543210";

/* Row i has the id id[i], the loss 1 + id, and the domain 0. */
static const char *
put(const char *name, enum df_kind kind, const uint64_t *id, size_t n, const char *tokens, int64_t layer)
{
	const enum df_col cols[3] = { DF_COL_ID, DF_COL_DOMAIN,
		kind == DF_KIND_LOSSES ? DF_COL_LOSS : DF_COL_EMBEDDING };
	size_t widths[DF_COL_COUNT] = { [DF_COL_EMBEDDING] = kind == DF_KIND_EMBEDDINGS ? 2 : 0 };
	struct df_meta m = { .kind = kind };
	struct df_batch b = { .n = n };
	struct df_writer *w = NULL;
	uint16_t domain[16] = { 0 };
	uint64_t ids[16];
	float v[32];

	for (size_t i = 0; i < n; i++) {
		ids[i] = id[i];
		v[i] = kind == DF_KIND_LOSSES ? 1 + (float)id[i] : 0;
	}
	memset(v + n, 0, (32 - n) * sizeof(*v));
	b.col[DF_COL_ID].data = ids;
	b.col[DF_COL_DOMAIN].data = domain;
	b.col[cols[2]] = (struct df_column_data){ .data = v, .width = kind == DF_KIND_LOSSES ? 1 : 2 };
	OK(df_meta_set_tool(&m, "test", err));
	OK(df_meta_set_int(&m, "layer", layer, err));
	OK(df_meta_add_domain(&m, "d", NULL, err));
	if (tokens)
		OK(df_meta_add_input(&m, "tokens", "tokens", tokens, err));
	OK(df_writer_open(&w, at(name), &m, cols, 3, widths, NULL, err));
	OK(df_writer_put(w, &b, err));
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	df_meta_release(&m);
	return at(name);
}

static const uint64_t four[] = { 2, 0, 3, 1 }, gap[] = { 0, 1, 2, 4 };

struct request {
	struct df_select in;
	struct df_selection out;
	struct df_err err;
	struct options options;
};

static void
add(struct request *r, size_t input, const char *name)
{
	struct df_strlist *l = &r->in.paths[input];
	char *copy = NULL;

	OK(df_grow(&l->v, &l->cap, l->n + 1, sizeof(*l->v), "paths", err));
	OK(df_strdup(&copy, at(name), err));
	l->v[l->n++] = copy;
}

static struct request
ask(const char *train)
{
	struct request r = {
		.in = { .n_threads = 2 }, .out = DF_SELECTION_INIT, .err = DF_ERR_INIT, .options = { 1, "" }
	};

	add(&r, TRAIN, train);
	return r;
}

/* The code of the run; the request is released. */
static int
refused(struct request *r, const char *says)
{
	const int rc = df_select_run(&sums, &r->in, &r->options, &r->out, &r->err);

	if (rc == DF_OK || !strstr(r->err.msg, says))
		fail_msg("code %d: '%s' does not say '%s'", rc, r->err.msg, says);
	for (size_t i = 0; i < DF_SELECT_INPUTS; i++)
		assert_null(r->in.sets[i].v);
	for (size_t i = 0; i < DF_SELECT_INPUTS; i++)
		for (size_t j = 0; j < r->in.paths[i].n; j++)
			free((char *)(uintptr_t)r->in.paths[i].v[j]);
	df_select_release(&r->in);
	df_selection_release(&r->out);
	return rc;
}

/* ---- tests ------------------------------------------------------------------------------- */

static void
inputs_are_joined_by_id(void **state)
{
	struct request r = ask("train.h5");
	struct df_buf b = DF_BUF_INIT;

	(void)state;
	add(&r, BEFORE, "before.h5");
	add(&r, PART, "part1.h5");
	add(&r, PART, "part2.h5");
	add(&r, QUERY, "query.h5");
	r.in.amount = (struct df_amount){ .given = true, .n = 9, .text = "9" };
	if (df_select_run(&sums, &r.in, &r.options, &r.out, &r.err))
		fail_msg("%s", r.err.msg);
	/* Twice 1 + id, and once more for 1 in both parts and 3 in one. */
	assert_true(r.out.score[0] == 2 && r.out.score[1] == 8 && r.out.score[2] == 6 && r.out.score[3] == 12);
	assert_int_equal(r.out.n_index, 4); /* its own rule: truncate */
	assert_true(r.out.index[0] == 3 && r.out.index[1] == 1);
	assert_true(r.out.domain && r.out.meta.n_domains == 1);
	assert_int_equal(r.in.shortage, DF_SHORT_DEFAULT);
	df_meta_params_json(&r.out.meta, &b);
	assert_string_equal(b.data,
	    "{\"method\": \"sums\", \"n\": \"9\", \"short\": \"truncate\", \"allow_invalid\": false, \"twice\": 1}");
	assert_int_equal(r.out.meta.n_inputs, 6);
	assert_string_equal(r.out.meta.inputs[0].id, tokens_a);
	assert_string_equal(r.out.meta.inputs[5].role, "part");
	assert_string_equal(df_meta_input(&r.out.meta, "query")->kind, "embeddings");
	df_buf_release(&b);
	/* The same request again, more than twice. */
	r.options.twice = 3;
	df_selection_release(&r.out);
	assert_int_equal(refused(&r, "more than twice"), DF_EUSAGE);
}

static void
what_does_not_belong_is_refused(void **state)
{
	static const struct {
		size_t input;
		const char *name, *second, *says;
		int code;
	} t[] = {
		{ BEFORE, "before.h5", "before.h5", "2 of --before for 1 of --train", DF_EUSAGE },
		{ QUERY, "query.h5", "query.h5", "--query is given 2 times", DF_EUSAGE },
		{ BEFORE, "gap.h5", NULL, "gap.h5", DF_EFORMAT },
		{ BEFORE, "short.h5", NULL, "train.h5 has 4 rows", DF_ELINEAGE },
		{ BEFORE, "other.h5", NULL, "'tokens'", DF_ELINEAGE },
		{ BEFORE, "layer.h5", NULL, "'layer'", DF_ELINEAGE },
		{ BEFORE, "query.h5", NULL, "losses", DF_EFORMAT },
		{ PART, "part1.h5", "other.h5", "'tokens'", DF_ELINEAGE },
		{ PART, "gap.h5", NULL, "gap.h5", DF_EFORMAT },
		{ QUERY, "none.h5", NULL, "no rows", DF_EFORMAT },
		{ QUERY, "gaps.h5", NULL, "gaps.h5", DF_EFORMAT },
		{ QUERY, "nowhere.h5", NULL, "nowhere.h5", DF_ENOINPUT },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct request r = ask("train.h5");

		add(&r, t[i].input, t[i].name);
		if (t[i].second)
			add(&r, t[i].input, t[i].second);
		assert_int_equal(refused(&r, t[i].says), t[i].code);
	}
	{
		struct request r = ask("gap.h5"), none = { .out = DF_SELECTION_INIT };

		assert_int_equal(refused(&r, "gap.h5"), DF_EFORMAT);
		assert_int_equal(refused(&none, "sums needs --train FILE"), DF_EUSAGE);
	}
}

static void
options_are_bound_to_a_copy(void **state)
{
	struct df_opt_table t = { 0 };
	struct df_select in = { 0 };
	void *o = NULL;

	(void)state;
	OK(df_selector_defaults(&sums, &o, err));
	OK(df_selector_rows(&sums, &in, o, &t, err));
	assert_int_equal(t.n, 5);
	assert_string_equal(t.v[0].name, "before");
	assert_ptr_equal(t.v[2].value, &in.paths[QUERY]);
	assert_int_equal(t.v[2].file, DF_FILE_READ);
	assert_string_equal(*(const char **)t.v[4].value, "abc");
	*(int64_t *)t.v[3].value = 7;
	assert_int_equal(((struct options *)o)->twice, 7);
	free(o);
	free(t.v);
}

static int
setup(void **state)
{
	const int rc = scratch_make(state);

	put("train.h5", DF_KIND_LOSSES, four, 4, tokens_a, 1);
	put("before.h5", DF_KIND_LOSSES, four, 4, tokens_a, 1);
	put("part1.h5", DF_KIND_LOSSES, (const uint64_t[]){ 3, 1 }, 2, tokens_a, 1);
	put("part2.h5", DF_KIND_LOSSES, (const uint64_t[]){ 1 }, 1, NULL, 1);
	put("short.h5", DF_KIND_LOSSES, four + 1, 1, tokens_a, 1);
	put("other.h5", DF_KIND_LOSSES, four, 4, tokens_b, 1);
	put("layer.h5", DF_KIND_LOSSES, four, 4, tokens_a, 2);
	put("gap.h5", DF_KIND_LOSSES, gap, 4, tokens_a, 1);
	put("query.h5", DF_KIND_EMBEDDINGS, (const uint64_t[]){ 1, 0 }, 2, tokens_b, 3);
	put("gaps.h5", DF_KIND_EMBEDDINGS, gap, 4, tokens_b, 3);
	put("none.h5", DF_KIND_EMBEDDINGS, four, 0, tokens_b, 3);
	return rc;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inputs_are_joined_by_id),
		cmocka_unit_test(what_does_not_belong_is_refused),
		cmocka_unit_test(options_are_bound_to_a_copy),
	};

	return cmocka_run_group_tests(tests, setup, scratch_remove);
}
