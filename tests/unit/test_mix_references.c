/*
 * test_mix_references.c - mixers against trajectories: of their formulas, written plainly in Python
 * (tests/golden/mixers.json), and, where ../shared/golden is there, of DataFlex's own classes and the authors'
 * programs.  Equal to 1e-9 in the matching variant.  Where the other program differs, the test says how.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "mix_help.h"

#define EXACT   1e-9
#define FLOAT32 2e-7 /* a step of the authors' DoReMi: its numbers are float32 */
#define LIMIT   ((size_t)64 << 20)

enum { EXPERTS_MOST = 16 };

/* ---- JSON --------------------------------------------------------------------------------------- */

/* A file of `dir` beside the checkout, or NULL. */
static struct df_json *
load(const char *dir, const char *file)
{
	const char *root = getenv("DF_SRCDIR");
	struct df_json *j = NULL;
	struct df_err err;
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s/%s", root ? root : ".", dir, file);
	if (df_json_load(&j, path, LIMIT, &err) != DF_OK && err.code != DF_ENOINPUT)
		fail_msg("%s", err.msg);
	return j;
}

/* A reference's file; the test is skipped where it is not there. */
static struct df_json *
reference(const char *file)
{
	struct df_json *j = load("../shared/golden/references", file);

	if (!j) {
		print_message("../shared/golden/references/%s is not there\n", file);
		skip();
	}
	return j;
}

/* check() for each case of a file. */
static void
each_case(const char *file, void (*check)(const struct df_json_value *one))
{
	struct df_json *j = reference(file);
	const struct df_json_value *all = df_json_root(j);

	assert_true(df_json_size(all) > 0);
	for (size_t c = 0; c < df_json_size(all); c++)
		check(df_json_at(all, c));
	df_json_free(j);
}

static double
number(const struct df_json_value *v)
{
	double x;

	assert_true(df_json_number(v, &x));
	return x;
}

static double
get(const struct df_json_value *v, const char *key)
{
	return number(df_json_get(v, key));
}

/* x [n] = an array; false, and x is unchanged, if it is null. */
static bool
array(const struct df_json_value *v, double *x, size_t n)
{
	if (df_json_type(v) != DF_JSON_ARRAY)
		return false;
	assert_int_equal(df_json_size(v), n);
	for (size_t i = 0; i < n; i++)
		x[i] = number(df_json_at(v, i));
	return true;
}

static void
near_array(const double *got, const struct df_json_value *want, size_t n, double tolerance, const char *what)
{
	double x[MIX_MOST];

	assert_true(array(want, x, n));
	mix_near(got, x, n, tolerance, what);
}

static const char *
text(double x)
{
	static char all[8][32];
	static size_t next;
	char *s = all[next++ % 8];

	snprintf(s, 32, "%.17g", x);
	return s;
}

/* ---- formulas -------------------------------------------------------------------------------------- */

static int
loads(struct mix *x, const struct df_json_value *v, uint64_t step)
{
	const size_t n = df_json_size(df_json_at(v, 0));
	double load[MIX_MOST * EXPERTS_MOST];
	const struct df_mix_seen seen = { .n_domains = x->k, .load = load, .n_experts = n, .step = step };
	int rc;

	assert_true(n > 0 && n <= EXPERTS_MOST);
	for (size_t i = 0; i < x->k; i++)
		assert_true(array(df_json_at(v, i), load + i * n, n));
	rc = x->m->update(x->options, x->state, &seen, NULL);
	x->m->propose(x->options, x->state, x->k, step, x->p);
	return rc;
}

static void
set_options(struct mix *x, const struct df_json_value *options)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *value;
	const char *key;
	struct df_err err;

	while ((m = df_json_next(options, m, &key, &value)) != NULL)
		if (df_opt_set(x->m->options, x->options, key, df_json_str(value, NULL), &err) != DF_OK)
			fail_msg("%s", err.msg);
}

static void
follow(const struct df_json_value *c)
{
	const struct df_json_value *steps = df_json_get(c, "loss"), *want = df_json_get(c, "want");
	const bool by_load = steps == NULL;
	struct mix x;
	double p[MIX_MOST], p0[MIX_MOST];
	size_t k;

	steps = by_load ? df_json_get(c, "load") : steps;
	k = df_json_size(df_json_at(steps, 0));
	x = mix_new(df_json_str(df_json_get(c, "mixer"), NULL), k, NULL, NULL);
	set_options(&x, df_json_get(c, "options"));
	for (size_t i = 0; i < k; i++)
		p0[i] = 1 / (double)k;
	array(df_json_get(c, "p0"), p0, k);
	assert_int_equal(x.m->begin(x.options, p0, k, x.state, NULL), DF_OK);
	assert_true(df_json_size(steps) > 0 && df_json_size(steps) == df_json_size(want));
	for (size_t s = 0; s < df_json_size(steps); s++) {
		const struct df_json_value *row = df_json_at(steps, s), *w = df_json_at(want, s);

		for (size_t i = 0; i < k && !by_load; i++)
			if (df_json_type(df_json_at(row, i)) != DF_JSON_NULL)
				mix_loss(&x, i, number(df_json_at(row, i)));
		if (by_load)
			assert_int_equal(loads(&x, row, s + 1), DF_OK);
		else
			mix_update(&x, s + 1);
		if (!x.m->weigh) {
			near_array(x.p, df_json_get(w, "p"), k, EXACT, "p");
			continue;
		}
		x.m->weigh(x.options, x.state, k, p);
		near_array(p, df_json_get(w, "weights"), k, EXACT, "weights");
		x.m->result(x.options, x.state, k, p);
		near_array(p, df_json_get(w, "result"), k, EXACT, "result");
	}
	mix_free(&x);
}

static void
test_formulas(void **state)
{
	struct df_json *j = load("tests/golden", "mixers.json");
	const struct df_json_value *all = df_json_root(j);

	(void)state;
	assert_true(df_json_size(all) > 20);
	for (size_t i = 0; i < df_json_size(all); i++)
		follow(df_json_at(all, i));
	df_json_free(j);
}

/* ---- DataFlex ---------------------------------------------------------------------------------------- */

static struct mix
dataflex_doremi(const struct df_json_value *in)
{
	return mix_new("doremi", (size_t)get(in, "k"), NULL, "center", "true", "eta", text(get(in, "eta")), "smoothing",
	    text(get(in, "eps")), NULL);
}

static void
doremi_update(const struct df_json_value *one)
{
	const struct df_json_value *in = df_json_get(one, "inputs"), *out = df_json_get(one, "outputs"),
				   *steps = df_json_get(in, "steps");
	struct mix x = dataflex_doremi(in);
	double p[MIX_MOST];

	for (size_t s = 0; s < df_json_size(steps); s++) {
		const struct df_json_value *score = df_json_get(df_json_at(steps, s), "scores"),
					   *has = df_json_get(df_json_at(steps, s), "has");

		for (size_t i = 0; i < x.k; i++)
			if (df_json_bool(df_json_at(has, i), false))
				mix_loss(&x, i, number(df_json_at(score, i)));
		mix_update(&x, s + 1);
		x.m->weigh(x.options, x.state, x.k, p);
		near_array(p, df_json_at(df_json_get(out, "alpha"), s), x.k, EXACT, "alpha");
	}
	x.m->result(x.options, x.state, x.k, p);
	near_array(p, df_json_get(out, "average"), x.k, EXACT, "average");
	mix_free(&x);
}

static void
test_doremi_update(void **state)
{
	(void)state;
	each_case("doremi_update.json", doremi_update);
}

/* Token losses of both models to sums by domain. */
static void
add_tokens(struct mix *x, const struct df_json_value *in, const char *losses, const char *minus)
{
	const struct df_json_value *domain = df_json_get(in, "domain"), *mask = df_json_get(in, "mask");

	for (size_t i = 0; i < df_json_size(domain); i++) {
		struct df_mix_sum *sum = &x->sum[(size_t)number(df_json_at(domain, i))];
		const struct df_json_value *row = df_json_at(df_json_get(in, losses), i),
					   *ref = minus ? df_json_at(df_json_get(in, minus), i) : NULL;

		for (size_t t = 0; t < df_json_size(row); t++) {
			if (!df_json_bool(df_json_at(df_json_at(mask, i), t), false))
				continue;
			sum->excess += fmax(number(df_json_at(row, t)) - (ref ? number(df_json_at(ref, t)) : 0), 0);
			sum->n_excess++;
			sum->n_targets++;
		}
	}
}

/*
 * DataFlex takes lambda in float32, so ours is near; from its lambda, alpha is the same.  The rows are drawn from all
 * domains equally.
 */
static void
doremi_mix(const struct df_json_value *one)
{
	const struct df_json_value *in = df_json_get(one, "inputs"), *steps = df_json_get(one, "steps");
	struct mix x = dataflex_doremi(in);
	double p[MIX_MOST];

	for (size_t s = 0; s < df_json_size(steps); s++) {
		const struct df_json_value *out = df_json_get(df_json_at(steps, s), "out");

		add_tokens(&x, df_json_get(df_json_at(steps, s), "in"), "proxy_token_loss", "ref_token_loss");
		for (size_t i = 0; i < x.k; i++) {
			const double theirs = number(df_json_at(df_json_get(out, "lambda"), i));

			if (x.sum[i].n_excess == 0)
				continue;
			assert_true(fabs(x.sum[i].excess / (double)x.sum[i].n_excess - theirs) < 1e-6);
			mix_loss(&x, i, theirs);
		}
		mix_update(&x, s + 1);
		near_array(x.p, df_json_get(out, "returned_sampling"), x.k, 1e-15, "sampling");
		x.m->weigh(x.options, x.state, x.k, p);
		near_array(p, df_json_get(out, "alpha"), x.k, EXACT, "alpha");
	}
	x.m->result(x.options, x.state, x.k, p);
	near_array(p, df_json_get(df_json_get(one, "outputs"), "average"), x.k, EXACT, "average");
	mix_free(&x);
}

static void
test_doremi_mix(void **state)
{
	(void)state;
	each_case("doremi_mix.json", doremi_mix);
}

static void
odm(const struct df_json_value *one)
{
	const struct df_json_value *in = df_json_get(one, "inputs"), *steps = df_json_get(one, "steps");
	const size_t k = (size_t)get(in, "k");
	const bool frozen = get(in, "min_exploration_rate") * (double)k >= 1;
	double p0[MIX_MOST], sum = 0, moved = 0;
	struct mix x;

	for (size_t i = 0; i < k; i++)
		p0[i] = 1;
	array(df_json_get(in, "initial_proportions"), p0, k);
	for (size_t i = 0; i < k; i++)
		sum += p0[i];
	for (size_t i = 0; i < k; i++)
		p0[i] /= sum;
	x = mix_new("odm", k, p0, "variant", "dataflex", "alpha", text(get(in, "alpha")), "warmup-steps",
	    text(get(in, "warmup_steps")), "reward-scale", text(get(in, "reward_scale")), "min-eps",
	    text(get(in, "min_exploration_rate")), NULL);
	for (size_t s = 0; s < df_json_size(steps); s++) {
		const struct df_json_value *step = df_json_at(steps, s);

		if (df_json_type(df_json_get(step, "loss")) != DF_JSON_NULL)
			mix_loss(&x, (size_t)get(step, "domain"), get(step, "loss"));
		mix_update(&x, (uint64_t)get(step, "step"));
		if (!frozen) {
			near_array(x.p, df_json_get(step, "weights"), k, EXACT, "weights");
			near_array(x.state, df_json_get(step, "rewards"), k, EXACT, "rewards");
			assert_true(fabs(x.state[2 * k] - get(step, "eps")) < EXACT);
			continue;
		}
		/* B25: a floor of 1/K and more makes DataFlex's policy uniform for ever, not ours. */
		near_array((const double[]){ .5, .5 }, df_json_get(step, "weights"), k, EXACT, "frozen");
		moved = fmax(moved, fabs(x.p[0] - .5));
	}
	assert_true(!frozen || (k == 2 && moved > .1));
	mix_free(&x);
}

static void
test_odm(void **state)
{
	(void)state;
	each_case("odm.json", odm);
}

static void
static_random(const struct df_json_value *one)
{
	const struct df_json_value *in = df_json_get(one, "inputs"), *out = df_json_get(one, "outputs");
	const bool random = strcmp(df_json_str(df_json_get(in, "mixer"), NULL), "random") == 0;
	const size_t k = (size_t)get(in, "k");
	struct mix x;
	double p[MIX_MOST];

	if (!random) {
		x = mix_new("static", k, NULL,
		    df_json_type(df_json_get(in, "proportions")) == DF_JSON_ARRAY ? "proportions" : NULL, "1,2,1",
		    NULL);
		near_array(x.p, out, k, EXACT, "static");
		mix_free(&x);
		return;
	}
	/* B22: numpy's draws, the same at each call.  Ours are Philox's, and the same if that is asked for. */
	assert_true(array(df_json_at(out, 0), p, k));
	near_array(p, df_json_at(out, 1), k, 0, "numpy's");
	x = mix_new("random", k, NULL, "per-step", "false", NULL);
	x.m->propose(x.options, x.state, k, 100, p);
	mix_near(p, x.p, k, 0, "not per step");
	mix_free(&x);
	x = mix_new("random", k, NULL, NULL);
	x.m->propose(x.options, x.state, k, 100, p);
	assert_true(fabs(p[0] - x.p[0]) > 1e-3);
	mix_free(&x);
}

static void
test_static_random(void **state)
{
	(void)state;
	each_case("static_random_mixer.json", static_random);
}

static void
counts(const struct df_json_value *one)
{
	const struct df_json_value *in = df_json_get(one, "inputs"), *out = df_json_get(one, "outputs"),
				   *after = df_json_get(out, "after_uniform");
	const size_t k = df_json_size(df_json_get(in, "sizes"));

	for (int uniform = 0; uniform < 2; uniform++) {
		const struct df_json_value *from = uniform ? after : out;
		uint64_t quota[MIX_MOST], all_rows = 0;
		double p[MIX_MOST], counts[MIX_MOST];

		assert_true(array(df_json_get(from, "probs"), p, k));
		df_mix_quotas(p, k, (uint64_t)get(in, "n"), true, quota);
		for (size_t i = 0; i < k; i++)
			counts[i] = (double)quota[i];
		near_array(counts, df_json_get(from, "counts"), k, 0, "counts");
		/* B21: what is rounded down goes to the last domain.  Ours are within 1 of the share. */
		df_mix_quotas(p, k, (uint64_t)get(in, "n"), false, quota);
		for (size_t i = 0; i < k; i++) {
			all_rows += quota[i];
			assert_true(fabs((double)quota[i] - get(in, "n") * p[i]) < 1);
		}
		assert_true(all_rows == (uint64_t)get(in, "n"));
		if (p[0] > .99)
			assert_true(quota[0] == 10 && counts[0] == 9 && counts[k - 1] == 1);
	}
}

static void
test_counts(void **state)
{
	(void)state;
	each_case("proportion_manager.json", counts);
}

static void
dynamic_moe(const struct df_json_value *one)
{
	const struct df_json_value *in = df_json_get(one, "inputs"), *steps = df_json_get(one, "steps");
	struct mix x = mix_new("dynamic_moe", (size_t)get(in, "k"), NULL, "eta", text(get(in, "eta")), "smoothing",
	    text(get(in, "c")), NULL);

	for (size_t s = 0; s < df_json_size(steps); s++) {
		assert_int_equal(loads(&x, df_json_get(df_json_at(steps, s), "gate_load"), s + 1), DF_OK);
		near_array(x.p, df_json_get(df_json_at(steps, s), "weights"), x.k, EXACT, "weights");
	}
	mix_free(&x);
}

static void
test_dynamic_moe(void **state)
{
	(void)state;
	each_case("dynamic_moe.json", dynamic_moe);
}

/* ---- the authors' programs -------------------------------------------------------------------------------- */

/*
 * doremi/trainer.py, update_domain_weights().  Its numbers are float32, so each step is compared from where it began.
 * Its mean was counted here from the first update on; in the program the counter starts at 1, with alpha_0.
 */
static void
orig_doremi(const struct df_json_value *one)
{
	const struct df_json_value *in = df_json_get(one, "inputs"), *steps = df_json_get(one, "steps");
	const size_t k = (size_t)get(in, "k");
	double p0[MIX_MOST], p[MIX_MOST], n;
	struct mix x, straight;

	assert_true(array(df_json_get(in, "alpha0"), p0, k));
	x = mix_new("doremi", k, p0, "profile", "repo", "eta", text(get(in, "eta")), "smoothing", text(get(in, "eps")),
	    "unseen", text(get(in, "lambda0")), NULL);
	straight = mix_new("doremi", k, p0, "profile", "repo", "eta", text(get(in, "eta")), "smoothing",
	    text(get(in, "eps")), "unseen", text(get(in, "lambda0")), NULL);
	for (size_t s = 0; s < df_json_size(steps); s++) {
		const struct df_json_value *step = df_json_at(steps, s);

		add_tokens(&x, step, "excess", NULL);
		memcpy(straight.sum, x.sum, sizeof(x.sum));
		mix_update(&straight, s + 1);
		mix_update(&x, s + 1);
		near_array(x.state + k, df_json_get(step, "lambda"), k, 1e-6, "lambda");
		near_array(x.state, df_json_get(step, "alpha"), k, FLOAT32 * 4, "a step of alpha");
		assert_true(array(df_json_get(step, "alpha"), x.state, k));
		near_array(straight.state, df_json_get(step, "alpha"), k, 2e-6, "alpha");
		n = (double)s + 1;
		straight.m->result(straight.options, straight.state, k, p);
		for (size_t i = 0; i < k; i++)
			p[i] = (p[i] * (n + 1) - p0[i]) / n;
		near_array(p, df_json_get(step, "average"), k, 2e-6, "average");
	}
	mix_free(&x);
	mix_free(&straight);
}

static void
test_orig_doremi(void **state)
{
	(void)state;
	each_case("orig_doremi.json", orig_doremi);
}

/* The domains of a step of ODM's updaters, and their losses: one, or several. */
static void
show_rewards(struct mix *x, const struct df_json_value *step)
{
	const struct df_json_value *domains = df_json_get(step, "domains");

	if (!domains)
		mix_loss(x, (size_t)get(step, "domain"), get(step, "reward"));
	for (size_t i = 0; i < df_json_size(domains); i++)
		mix_loss(
		    x, (size_t)number(df_json_at(domains, i)), number(df_json_at(df_json_get(step, "rewards"), i)));
}

/*
 * Of the authors' four updaters, SmoothedMean with several domains is what the program runs: variant repo.  The others
 * differ from the paper: Exp3's R is a sum that forgets nothing (what is in the moving mean alpha R, is R here), and
 * SmoothedMean with one domain has the repo's R, but the paper's policy.  With R so, they are variant paper.
 */
static void
orig_odm(const struct df_json_value *one)
{
	const struct df_json_value *in = df_json_get(one, "inputs"), *steps = df_json_get(one, "steps");
	const size_t k = (size_t)get(in, "k");
	const bool exp3 = strcmp(df_json_str(df_json_get(in, "class"), NULL), "Exp3WeightUpdater") == 0,
		   several = strcmp(df_json_str(df_json_get(in, "method"), NULL), "group_update") == 0;
	double p0[MIX_MOST];
	struct mix repo, paper;

	assert_true(array(df_json_get(in, "weights0"), p0, k));
	repo = mix_new("odm", k, p0, "variant", "repo", "warmup-steps", "0", NULL);
	paper = mix_new("odm", k, p0, "warmup-steps", "0", NULL);
	for (size_t s = 0; s < df_json_size(steps); s++) {
		const struct df_json_value *step = df_json_at(steps, s), *want = df_json_get(step, "probabilities"),
					   *rewards = df_json_get(step, "estimated");

		show_rewards(&repo, step);
		memcpy(paper.sum, repo.sum, sizeof(repo.sum));
		for (size_t i = 0; i < k && exp3; i++)
			if (paper.sum[i].n_targets)
				paper.state[i] /= 0.9;
		mix_update(&repo, s + 1);
		if (!exp3) {
			near_array(repo.state, rewards, k, EXACT, "R of repo");
			/* The policy is that of the paper from these R, had its own update left them so. */
			for (size_t i = 0; i < k; i++)
				paper.state[i] = repo.state[i];
			mix_nothing(&paper);
			paper.sum[0] = (struct df_mix_sum){ .n_targets = 1, .nll = 0 };
			paper.state[0] /= 0.9;
		}
		mix_update(&paper, s + 1);
		assert_true(fabs(paper.state[2 * k] - get(step, "eps")) < EXACT);
		near_array(paper.state, rewards, k, EXACT, "R");
		if (!exp3 && several)
			near_array(repo.p, want, k, EXACT, "probabilities of repo");
		else
			near_array(paper.p, want, k, EXACT, "probabilities");
	}
	mix_free(&repo);
	mix_free(&paper);
}

static void
test_orig_odm(void **state)
{
	(void)state;
	each_case("orig_odm.json", orig_odm);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formulas),
		cmocka_unit_test(test_doremi_update),
		cmocka_unit_test(test_doremi_mix),
		cmocka_unit_test(test_odm),
		cmocka_unit_test(test_static_random),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_dynamic_moe),
		cmocka_unit_test(test_orig_doremi),
		cmocka_unit_test(test_orig_odm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
