/*
 * test_policy.c - policy gradients: the weights of completions, their gradients against PyTorch's
 * (tests/golden/policy.py), and that neither company nor blocks change a prompt's.  Runs on the backend in
 * DF_TEST_DEVICE.
 */
#include "model_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "grad/job.h"
#include "grad/rewards.h"
#include "select/less.h"
#include "shard/token_writer.h"

/* ---- weights ------------------------------------------------------------------ */

static void
test_weights(void **state)
{
	enum { MOST = 6 };
	static const struct {
		struct df_policy_opts o;
		size_t n, n_used;
		double reference, reward[MOST], weight[MOST];
	} cases[] = {
		/* All count, also those without a reward, and negative rewards push away. */
		{ { .rule = DF_POLICY_VANILLA }, 2, 2, 0, { 1, 0.25 }, { 0.5, 0.125 } },
		{ { .rule = DF_POLICY_VANILLA }, 4, 4, 0, { 1, 0, -2, 0 }, { 0.25, 0, -0.5, 0 } },
		{ { .rule = DF_POLICY_VANILLA }, 3, 3, 0, { 0, 0, 0 }, { 0, 0, 0 } },
		{ { .rule = DF_POLICY_VANILLA }, 1, 1, 0, { -3 }, { -3 } },
		{ { .rule = DF_POLICY_VANILLA, .loo = true }, 2, 2, 0, { 1, 0.25 }, { 0.375, -0.375 } },
		{ { .rule = DF_POLICY_VANILLA, .loo = true }, 3, 3, 0, { 1, 0, 0.5 }, { 0.25, -0.25, 0 } },
		{ { .rule = DF_POLICY_VANILLA, .sigmoid = true }, 2, 2, 0, { 0, -1.0986122886681098 },
		    { 0.25, 0.125 } },
		/* The mean is over those that count. */
		{ { .rule = DF_POLICY_REJECTION }, 4, 2, 0, { 1, 0, -2, 0.5 }, { 0.5, 0, 0, 0.25 } },
		{ { .rule = DF_POLICY_REJECTION }, 2, 0, 0, { 0, -1 }, { 0, 0 } },
		/* As good as the answer itself, within 1e-5. */
		{ { .rule = DF_POLICY_HARD }, 4, 3, 0.5, { 0.5, 0.499995, 0.49998, 2 },
		    { 0.5 / 3, 0.499995 / 3, 0, 2.0 / 3 } },
		{ { .rule = DF_POLICY_HARD }, 2, 1, -1, { -1, -2 }, { -1, 0 } },
		{ { .rule = DF_POLICY_HARD, .sigmoid = true }, 2, 1, 0, { 0, -1 }, { 0.5, 0 } },
		/* Of equal rewards the first; those that are not positive do not count. */
		{ { .rule = DF_POLICY_TOPK, .topk = 2 }, 4, 2, 0, { 1, 3, 1, 0.5 }, { 0.5, 1.5, 0, 0 } },
		{ { .rule = DF_POLICY_TOPK, .topk = 3 }, 4, 2, 0, { -1, 3, 0, 1 }, { 0, 1.5, 0, 0.5 } },
		{ { .rule = DF_POLICY_TOPK, .topk = 10 }, 2, 2, 0, { 1, 3 }, { 0.5, 1.5 } },
		{ { .rule = DF_POLICY_TOPK_HARD, .topk = 2 }, 4, 1, 2, { 1, 3, 1, 0.5 }, { 0, 3, 0, 0 } },
		{ { .rule = DF_POLICY_TOPK_HARD, .topk = 1 }, 3, 1, 2, { 4, 5, 2 }, { 0, 5, 0 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		double weight[MOST] = { 0 };
		size_t n_used = 99;

		mh_ok(df_policy_weigh(
		    &cases[i].o, cases[i].reward, cases[i].n, cases[i].reference, weight, &n_used, err));
		if (n_used != cases[i].n_used)
			fail_msg("case %zu: %zu count, not %zu", i, n_used, cases[i].n_used);
		for (size_t s = 0; s < cases[i].n; s++)
			if (!(fabs(weight[s] - cases[i].weight[s]) < 1e-12))
				fail_msg("case %zu: weight %zu is %g, not %g", i, s, weight[s], cases[i].weight[s]);
	}
}

/* Equal rewards are no advantage at all: one of rounding would be a direction like any other after normalisation. */
static void
test_equal(void **state)
{
	const struct df_policy_opts o = { .loo = true };
	double reward[7], weight[7];
	size_t n;

	(void)state;
	for (double r = 0.1; r < 1e6; r *= 7.3) {
		for (int s = 0; s < 7; s++)
			reward[s] = r;
		mh_ok(df_policy_weigh(&o, reward, 7, 0, weight, &n, err));
		for (int s = 0; s < 7; s++)
			assert_true(weight[s] == 0);
	}
}

/* The specification's example: gradients of two completions, their sum, and its influence. */
static void
test_example(void **state)
{
	static const float g[2][2] = { { 0.2f, -0.4f }, { 0.6f, 0.2f } };
	static const double reward[2] = { 1, 0.25 }, want[2][2] = { { 0.175, -0.175 }, { -0.15, -0.225 } };
	const float train[2] = { 0.3f, -0.4f }, zero[2] = { 0, 0 };
	struct df_less less;
	double score;

	(void)state;
	for (int loo = 0; loo < 2; loo++) {
		const struct df_policy_opts o = { .loo = loo };
		double weight[2], sum[2] = { 0 };
		size_t n;

		mh_ok(df_policy_weigh(&o, reward, 2, 0, weight, &n, err));
		for (int s = 0; s < 2; s++)
			for (int c = 0; c < 2; c++)
				sum[c] += weight[s] * (double)g[s][c];
		assert_true(fabs(sum[0] - want[loo][0]) < 1e-6 && fabs(sum[1] - want[loo][1]) < 1e-6);
	}
	/* A prompt whose completions all earned nothing is similar to no row, but is one of the mean. */
	for (int rows = 1; rows <= 2; rows++) {
		mh_ok(df_less_init(&less, 2, 1, DF_VAL_MEAN_OF_COSINE, err));
		assert_true(df_less_val_row(&less, (const float[]){ 0.175f, -0.175f }, 0));
		if (rows == 2)
			assert_true(df_less_val_row(&less, zero, 0));
		mh_ok(df_less_end(&less, err));
		score = 0;
		df_less_train_rows(&less, train, 1, 1, &score);
		assert_true(fabs(score - 0.989949 / rows) < 1e-6);
		df_less_release(&less);
	}
}

static void
test_usage(void **state)
{
	static const struct {
		struct df_policy_opts o;
		const char *words;
	} cases[] = {
		{ { .loo = true, .rule = DF_POLICY_REJECTION }, "loo|vanilla" },
		{ { .rule = DF_POLICY_HARD }, "--reference-rewards" },
		{ { .rule = DF_POLICY_TOPK_HARD }, "--reference-rewards" },
		{ { .protect = "x", .reference = "1" }, "--protect|vanilla" },
		{ { .protect = "x", .rule = DF_POLICY_TOPK }, "--reference-rewards" },
		{ { .reference = "1", .rule = DF_POLICY_TOPK }, "no effect" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		mh_refused(df_policy_check(&cases[i].o, err), DF_EUSAGE, cases[i].words);
	mh_ok(df_policy_check(&(struct df_policy_opts){ .rule = DF_POLICY_HARD, .reference = "1" }, err));
	mh_ok(
	    df_policy_check(&(struct df_policy_opts){ .rule = DF_POLICY_TOPK, .reference = "1", .protect = "x" }, err));
}

/* ---- rewards ------------------------------------------------------------------ */

static const char *
scratch_file(const char *name)
{
	static char path[8][256];
	static int next;

	next = (next + 1) % 8;
	snprintf(path[next], sizeof(path[next]), "%s/%s", mh_scratch(), name);
	return path[next];
}

static void
test_rewards(void **state)
{
	static const uint64_t id[] = { 4, 5, 6, 7 }, prompt[] = { 2, 2, 8, 8 };
	static const uint32_t draw[] = { 0, 1, 0, 1 };
	static const struct {
		const char *text, *words; /* words: of the refusal; NULL: accepted */
	} cases[] = {
		{ "# a comment\n1\n\n2.5\r\n-3\n4e0", NULL },
		{ "7\t4\n6\t-3\n5\t2.5\n4\t1\n", NULL },
		{ "{\"id\": 2, \"sample\": 1, \"reward\": 2.5, \"text\": \"\\u0000\"}\n{\"reward\": true, \"id\": 2, "
		  "\"sample\": 0}\n {\"id\": 8, \"sample\": 1, \"reward\": 4}\n{\"id\": 8, \"sample\": 0, \"reward\": -3}\n",
		    NULL },
		{ "", "4 of 4|missing|sample 4 (completion 0 of prompt 2)" },
		{ "1\n2\n3\n", "1 of 4|sample 7 (completion 1 of prompt 8)" },
		{ "1\n2\n3\n4\n5\n", "line 5|more rewards" },
		{ "1\nnan\n3\n4\n", "line 2|nan" },
		{ "1\ninf\n3\n4\n", "line 2|inf" },
		{ "1\n1e999\n3\n4\n", "line 2" },
		{ "1\n2 3\n3\n4\n", "line 2" },
		{ "4\t1\n5\t1\n6\t1\n4\t1\n", "line 4|second reward of sample 4" },
		{ "3\t1\n", "line 1|no sample 3" },
		{ "-1\t1\n", "line 1" },
		{ "{\"id\": 2, \"reward\": 1}\n", "line 1|'sample' is missing|prompt 2" },
		{ "{\"id\": 2, \"sample\": 2, \"reward\": 1}\n", "line 1|no completion 2 of prompt 2" },
		{ "{\"id\": 3, \"sample\": 0, \"reward\": 1}\n", "line 1|no completion 0 of prompt 3" },
		{ "{\"id\": 3, \"reward\": 1}\n", "line 1|no prompt 3" },
		{ "{\"id\": 2, \"sample\": 0, \"reward\": null}\n", "line 1|reward|null" },
		{ "{\"id\": 2, \"sample\": 0, \"reward\": \"1\"}\n", "line 1|reward|string" },
		{ "{\"id\": 2, \"sample\": 0}\n", "line 1|reward|no such member" },
		{ "{\"sample\": 0, \"reward\": 1}\n", "line 1|'id' is missing" },
		{ "{\"id\": 2, \"sample\": 0.5, \"reward\": 1}\n", "line 1|sample" },
		{ "{\"id\": 2, \"sample\": 0, \"reward\": NaN}\n", "line 1" },
		{ "{\"id\": 2, \"sample\": 0, \"reward\": 1}\n{\"id\": 2, \"sample\": 0, \"reward\": 1}\n",
		    "line 2|second reward of sample 4" },
		{ "{\"id\": 2", "line 1" },
		{ "[1, 2]\n", "line 1" },
	};
	const char *path = scratch_file("rewards.txt");
	struct df_reward_rows rows = { "draws.h5", 4, id, prompt, draw, NULL, false };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		static const double want[] = { 1, 2.5, -3, 4 };
		struct df_meta meta = DF_META_INIT;
		double got[4] = { 0 };

		mh_ok(df_file_put(path, cases[i].text, strlen(cases[i].text), err));
		if (cases[i].words) {
			mh_refused(
			    df_rewards_read(path, "rewards", &rows, got, &meta, err), DF_EFORMAT, cases[i].words);
		} else {
			mh_ok(df_rewards_read(path, "rewards", &rows, got, &meta, err));
			assert_memory_equal(got, want, sizeof(want));
			assert_string_equal(df_meta_input(&meta, "rewards")->kind, "source");
		}
		df_meta_release(&meta);
	}
	/* One completion of each prompt needs no number; other rows may be there where that is said. */
	{
		static const char text[] =
		    "{\"id\": 8, \"reward\": 4}\n{\"id\": 9, \"reward\": 4}\n{\"id\": 2, \"reward\": 1}\n";
		struct df_reward_rows one = { "val.h5", 2, (uint64_t[]){ 2, 8 }, (uint64_t[]){ 2, 8 }, NULL, NULL,
			true };
		struct df_meta meta = DF_META_INIT;
		double got[2];

		mh_ok(df_file_put(path, text, strlen(text), err));
		mh_ok(df_rewards_read(path, "rewards", &one, got, &meta, err));
		assert_true(got[0] == 1 && got[1] == 4);
		one.more = false;
		mh_refused(df_rewards_read(path, "rewards", &one, got, &meta, err), DF_EFORMAT, "line 2|no prompt 9");
		rows.draw = (uint32_t[]){ 0, 0, 0, 1 };
		mh_refused(df_rewards_read(path, "rewards", &rows, got, &meta, err), DF_EFORMAT,
		    "draws.h5|prompt 2 has two completions 0");
		rows.id = (uint64_t[]){ 1, 2, 1, 3 };
		mh_refused(df_rewards_read(path, "rewards", &rows, got, &meta, err), DF_EFORMAT, "id 1 occurs twice");
		df_meta_release(&meta);
	}
	{
		static const char text[] = "{\"id\": -2, \"sample\": 0, \"reward\": 1}\n";
		struct df_meta meta = DF_META_INIT;

		mh_ok(df_file_put(path, text, strlen(text), err));
		rows.id = id;
		rows.draw = draw;
		mh_refused(
		    df_rewards_read(path, "rewards", &rows, (double[4]){ 0 }, &meta, err), DF_ERANGE, "line 1|'id'|-2");
		df_meta_release(&meta);
	}
	mh_refused(
	    df_rewards_read(scratch_file("none"), "rewards", &rows, (double[4]){ 0 }, &(struct df_meta){ 0 }, err),
	    DF_ENOINPUT, "none");
}

/* ---- gradients ----------------------------------------------------------------- */

/* Completions of golden/policy.safetensors, in memory. */
struct golden {
	struct df_st *st;
	struct mh_batch batch;
	const int64_t *prompt, *draw;
	const float *reward;
	char *model, *adapter;
};

static void
golden_load(struct golden *g)
{
	char *path = mh_path("../policy.safetensors", NULL);

	mh_ok(df_st_open(&g->st, path, err));
	mh_batch_load(&g->batch, g->st, 0, 0);
	g->prompt = df_st_find(g->st, "prompt")->data;
	g->draw = df_st_find(g->st, "draw")->data;
	g->reward = mh_floats(g->st, "reward");
	g->model = mh_path("llama", NULL);
	g->adapter = mh_path("llama", "adapter");
	free(path);
}

static void
golden_release(struct golden *g)
{
	df_st_close(g->st);
	mh_batch_release(&g->batch);
	free(g->model);
	free(g->adapter);
}

/* Rows [first, end) of the batch as an artefact; with prompts it is one of completions. */
static void
write_rows(const struct golden *g, const char *path, size_t first, size_t end, bool prompts)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_IDS, DF_COL_LABEL_MASK, DF_COL_PROMPT, DF_COL_DRAW };
	static const struct df_writer_opts opts = { .compress = DF_COMPRESS_DEFAULT };
	struct df_meta meta = { .kind = prompts ? DF_KIND_COMPLETIONS : DF_KIND_TOKENS };
	struct df_token_writer *w = NULL;

	mh_ok(df_meta_set_tool(&meta, "test", err));
	mh_ok(df_token_writer_open(
	    &w, path, &meta, cols, prompts ? 5 : 3, (struct df_token_batch){ .rows = 2 }, &opts, err));
	for (size_t i = first; i < end; i++) {
		const uint64_t at = g->batch.offsets[i];
		const struct df_token_row row = { .ids = g->batch.ids + at,
			.mask = g->batch.mask + at,
			.n = g->batch.offsets[i + 1] - at,
			.id = prompts ? i : (uint64_t)g->prompt[i],
			.prompt = (uint64_t)g->prompt[i],
			.draw = (uint32_t)g->draw[i] };

		mh_ok(df_token_writer_put(w, &row, err));
	}
	mh_ok(df_token_writer_commit(w, err));
	df_token_writer_close(w);
	df_meta_release(&meta);
}

static void
write_rewards(const struct golden *g, const char *path, size_t first, size_t end)
{
	char text[1024] = "";

	for (size_t i = first; i < end; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%.9g\n", (double)g->reward[i]);
	mh_ok(df_file_put(path, text, strlen(text), err));
}

/* The rows [n,width] of what a job makes of the tokens; free() them. */
static float *
job_rows(const struct df_grad_opts *o, const char *tokens, size_t *n, size_t *width)
{
	const enum df_col col = o->output == DF_GRAD_RAW ? DF_COL_GRADIENT : DF_COL_PROJECTION;
	char path[256];
	const struct df_grad_job_run run = { .output = path, .tool = "test", .n_threads = 2 };
	struct df_batch b = DF_BATCH_INIT;
	struct df_grad_job *job = NULL;
	struct df_set *set = NULL;
	float *rows = NULL;
	uint64_t wrote;

	snprintf(path, sizeof(path), "%s/out.h5", mh_scratch());
	mh_ok(df_grad_job_open(&job, o, &tokens, 1, NULL, (struct df_shard_arg){ 0, 1, false, 0 }, mh_backend(), err));
	mh_ok(df_grad_job_run(job, &run, &wrote, err));
	df_grad_job_close(job);
	mh_ok(df_set_open1(&set, DF_KIND_ANY, "out", path, err));
	*n = df_set_rows(set);
	assert_int_equal(*n, wrote);
	*width = df_set_width(set, col);
	mh_ok(df_set_read(set, 0, *n, &b, err));
	mh_ok(df_alloc(&rows, *n * *width, sizeof(*rows), "rows", err));
	memcpy(rows, b.col[col].data, *n * *width * sizeof(*rows));
	df_batch_release(&b);
	df_set_close(set);
	return rows;
}

static struct df_grad_opts
grad_opts(const struct golden *g, const char *rewards)
{
	return (struct df_grad_opts){ .model = g->adapter,
		.base = g->model,
		.output = DF_GRAD_RAW,
		.projector = { DF_PROJ_RADEMACHER, 96, 42, 0, 4, DF_SCALE_JL },
		.policy = { .rewards = rewards } };
}

/* Prompts 5 and 9, each parameter of the fixture. */
static void
test_against_pytorch(void **state)
{
	static const char *const cases[] = { "sum", "mean", "loo" };
	const char *tokens = scratch_file("draws.h5"), *rewards = scratch_file("r.txt");
	struct df_model *m = NULL;
	struct golden g;
	double worst = 0;
	size_t n_compared = 0;

	(void)state;
	golden_load(&g);
	write_rows(&g, tokens, 0, 7, true);
	write_rewards(&g, rewards, 0, 7);
	mh_ok(df_model_open(&m, g.adapter, g.model, mh_backend(), err));
	for (size_t i = 0; i < 3; i++) {
		struct df_grad_opts o = grad_opts(&g, rewards);
		const struct df_params *train = df_model_train(m);
		size_t n, p;
		float *rows;

		o.policy.mean_nll = i == 1;
		o.policy.loo = i == 2;
		rows = job_rows(&o, tokens, &n, &p);
		assert_int_equal(n, 2);
		assert_int_equal(p, train->numel);
		for (size_t k = 0; k < 2 * train->n; k++) {
			const struct df_param *v = &train->v[k / 2];
			const unsigned prompt = k % 2 ? 9 : 5;
			char name[256];
			double diff;

			snprintf(name, sizeof(name), "%s.%u.%s", cases[i], prompt, v->name);
			if (!df_st_find(g.st, name))
				continue;
			diff =
			    mh_rel_diff(rows + k % 2 * p + v->offset, mh_floats(g.st, "%s", name), v->rows * v->cols);
			if (!(diff < mh_bound(2e-5, 0.15)))
				fail_msg("%s: difference %g", name, diff);
			worst = fmax(worst, diff);
			n_compared++;
		}
		free(rows);
	}
	assert_int_equal(n_compared, 3 * 2 * 6);
	print_message("  worst difference to PyTorch %.1e\n", worst);
	df_model_free(m);
	golden_release(&g);
}

/* How far sums in another order may be apart: rounding, and what another shape of a product makes of it. */
static double
near_bits(void)
{
	return df_backend_is_exact(mh_backend()) ? 1e-6 : 1e-5;
}

/*
 * A prompt alone, in company, in small blocks; and a prompt whose rows do not fit in one batch: a sum of parts, up to
 * rounding.
 */
static void
test_blocks(void **state)
{
	const char *tokens = scratch_file("draws.h5"), *rewards = scratch_file("r.txt");
	struct golden g;

	(void)state;
	golden_load(&g);
	for (int output = DF_GRAD_RAW; output <= DF_GRAD_PROJECTED; output++) {
		struct df_grad_opts o = grad_opts(&g, rewards);
		size_t n, p;
		float *all, *some;

		o.output = (enum df_grad_output)output;
		write_rows(&g, tokens, 0, 7, true);
		write_rewards(&g, rewards, 0, 7);
		all = job_rows(&o, tokens, &n, &p);
		for (uint64_t max = 1; max <= 5; max++) {
			o.block_rows = max;
			some = job_rows(&o, tokens, &n, &p);
			assert_int_equal(n, 2);
			if (max >= 3)
				mh_assert_same(some, all, 2 * p);
			else
				assert_true(mh_rel_diff(some, all, 2 * p) < near_bits());
			free(some);
		}
		o.block_rows = 0;
		o.block_tokens = 11; /* two completions of prompt 5, three of prompt 9 do not fit */
		some = job_rows(&o, tokens, &n, &p);
		assert_true(mh_rel_diff(some, all, 2 * p) < near_bits());
		free(some);
		o.block_tokens = 0;
		write_rows(&g, tokens, 3, 7, true);
		write_rewards(&g, rewards, 3, 7);
		some = job_rows(&o, tokens, &n, &p);
		assert_int_equal(n, 1);
		mh_assert_same(some, all + p, p);
		free(some);
		free(all);
	}
	golden_release(&g);
}

/* One completion of reward 1 that is the answer itself: LESS's gradient; with the mean to the bit, with the sum times
 * its tokens. */
static void
test_is_less(void **state)
{
	const char *draws = scratch_file("draws.h5"), *val = scratch_file("val.h5"), *rewards = scratch_file("r.txt");
	struct df_grad_opts o, less;
	struct golden g;
	float *want, *got;
	size_t n, p;

	(void)state;
	golden_load(&g);
	write_rows(&g, draws, 1, 2, true);
	write_rows(&g, val, 1, 2, false);
	mh_ok(df_file_put(rewards, "1\n", 2, err));
	o = less = grad_opts(&g, rewards);
	less.policy.rewards = NULL;
	want = job_rows(&less, val, &n, &p);
	assert_int_equal(n, 1);
	o.policy.mean_nll = true;
	got = job_rows(&o, draws, &n, &p);
	assert_int_equal(n, 1);
	mh_assert_same(got, want, p);
	free(got);
	o.policy.mean_nll = false;
	got = job_rows(&o, draws, &n, &p);
	for (size_t i = 0; i < p; i++)
		assert_true(got[i] == 6 * want[i]);
	free(got);
	free(want);
	golden_release(&g);
}

/* Where nothing counts the gradient is zero, or that of the prompt's own answer times its reward. */
static void
test_protect(void **state)
{
	const char *draws = scratch_file("draws.h5"), *val = scratch_file("val.h5"), *rewards = scratch_file("r.txt");
	struct df_grad_opts o, less;
	struct golden g;
	float *want, *got;
	size_t n, p;

	(void)state;
	golden_load(&g);
	write_rows(&g, draws, 0, 7, true);
	mh_ok(df_file_put(rewards, "0\n-1\n0\n0\n0\n2\n0\n", 15, err));
	o = grad_opts(&g, rewards);
	o.policy.rule = DF_POLICY_REJECTION;
	got = job_rows(&o, draws, &n, &p);
	for (size_t i = 0; i < p; i++)
		assert_true(got[i] == 0);
	free(got);
	/* Prompt 5 is answered by completion 1; that of prompt 9 counts, and has no row there. */
	write_rows(&g, val, 1, 2, false);
	o.policy.protect = val;
	o.policy.reference = "0.5";
	got = job_rows(&o, draws, &n, &p);
	less = grad_opts(&g, NULL);
	want = job_rows(&less, val, &n, &p);
	for (size_t i = 0; i < p; i++)
		want[i] *= 3; /* its targets: sums, not means */
	mh_assert_same(got, want, p);
	free(got);
	free(want);
	mh_ok(df_file_put(rewards, "0\n-1\n0\n0\n0\n0\n0\n", 15, err));
	{
		struct df_grad_job *job = NULL;

		mh_refused(df_grad_job_open(
			       &job, &o, &draws, 1, NULL, (struct df_shard_arg){ 0, 1, false, 0 }, mh_backend(), err),
		    DF_EFORMAT, "val.h5|no sample 9");
	}
	golden_release(&g);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_example),
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_rewards),
		cmocka_unit_test(test_against_pytorch),
		cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_is_less),
		cmocka_unit_test(test_protect),
	};

	return cmocka_run_group_tests(tests, NULL, mh_cleanup);
}
