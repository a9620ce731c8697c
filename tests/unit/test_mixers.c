/*
 * test_mixers.c - DoReMi, ODM and dynamic MoE: the examples of the specification (6.4 to 6.6), what must hold of any
 * update (its checklist, 8 and 13), and measurements that are no numbers.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/rng.h"
#include "mix_help.h"

#define SIX 5.1e-7 /* numbers of six decimals */

static int n_warnings;
static char warning[256];

static void
count_warnings(void *ctx, enum df_log_level level, const char *msg)
{
	(void)ctx;
	if (level == DF_LOG_WARN) {
		n_warnings++;
		snprintf(warning, sizeof(warning), "%s", msg);
	}
}

static double
draw(uint32_t what, uint64_t i)
{
	return df_rng_uniform(3, DF_RNG_DEMO, what, i);
}

static void
check_simplex(const double *p, size_t k, double least)
{
	double sum = 0;

	for (size_t i = 0; i < k; i++) {
		assert_true(p[i] >= least * (1 - 1e-12));
		sum += p[i];
	}
	assert_true(fabs(sum - 1) < 1e-12);
}

/* ---- DoReMi ----------------------------------------------------------------------------------- */

static void
alpha_of(const struct mix *x, const double *want, double tolerance)
{
	double alpha[MIX_MOST];

	x->m->weigh(x->options, x->state, x->k, alpha);
	mix_near(alpha, want, x->k, tolerance, "alpha");
}

static void
result_of(const struct mix *x, const double *want, double tolerance)
{
	double p[MIX_MOST];

	x->m->result(x->options, x->state, x->k, p);
	mix_near(p, want, x->k, tolerance, "result");
}

/* Excess of .5 and 0, and 0, 2 and 1: one step of the example. */
static void
example_step(struct mix *x, uint64_t step)
{
	x->sum[0] = (struct df_mix_sum){ .n_targets = 2, .n = 1, .nll = 5, .excess = .5, .n_excess = 2 };
	x->sum[1] = (struct df_mix_sum){ .n_targets = 3, .n = 1, .nll = 7, .excess = 3, .n_excess = 3 };
	mix_update(x, step);
}

static void
test_doremi_example(void **state)
{
	struct mix x = mix_new("doremi", 2, NULL, NULL);

	(void)state;
	alpha_of(&x, (const double[]){ .5, .5 }, 0);
	result_of(&x, (const double[]){ .5, .5 }, 0);
	example_step(&x, 1);
	alpha_of(&x, (const double[]){ 0.321000, 0.679000 }, SIX);
	example_step(&x, 2);
	alpha_of(&x, (const double[]){ 0.182866, 0.817134 }, SIX);
	result_of(&x, (const double[]){ 0.251933, 0.748067 }, SIX);
	mix_near(x.p, (const double[]){ .5, .5 }, 2, 0, "rows are drawn from all domains equally");
	mix_free(&x);

	x = mix_new("doremi", 2, NULL, "eta", "0.1", "smoothing", "0.01", NULL);
	example_step(&x, 1);
	alpha_of(&x, (const double[]){ 0.481446, 0.518554 }, SIX);
	mix_free(&x);

	x = mix_new("doremi", 2, NULL, "profile", "repo", NULL);
	example_step(&x, 1);
	example_step(&x, 2);
	result_of(&x, (const double[]){ 0.334622, 0.665378 }, SIX);
	mix_free(&x);
}

/* The reweighted loss of the example: q_i = alpha_i / p_i, over the sum of q of all targets. */
static void
test_doremi_loss(void **state)
{
	static const double loss[] = { 2, 3, 1, 4, 2 };
	static const size_t domain[] = { 0, 0, 1, 1, 1 };
	struct mix x = mix_new("doremi", 2, NULL, NULL);
	double alpha[2], above = 0, below = 0;

	(void)state;
	example_step(&x, 1);
	x.m->weigh(x.options, x.state, 2, alpha);
	for (size_t t = 0; t < 5; t++) {
		above += alpha[domain[t]] / x.p[domain[t]] * loss[t];
		below += alpha[domain[t]] / x.p[domain[t]];
	}
	assert_true(fabs(above / below - 2.373274) < SIX);
	mix_free(&x);
}

/* lambda .25, 1, absent. */
static void
test_doremi_absent(void **state)
{
	static const struct {
		const char *option, *value;
		double want[3];
	} t[] = {
		{ NULL, NULL, { 0.218838, 0.462907, 0.318255 } }, /* never seen: the mean of the others, .625 */
		{ "center", "true", { 0.218838, 0.462907, 0.318255 } },
	};
	struct mix x;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		x = mix_new("doremi", 3, NULL, t[i].option, t[i].value, NULL);
		mix_loss(&x, 0, .25);
		mix_loss(&x, 1, 1);
		mix_update(&x, 1);
		alpha_of(&x, t[i].want, SIX);
		mix_free(&x);
	}
	/* Seen before with .6: carried over.  alpha is made uniform again, as in the example. */
	x = mix_new("doremi", 3, NULL, NULL);
	mix_loss(&x, 2, .6);
	mix_update(&x, 1);
	for (size_t i = 0; i < 3; i++)
		x.state[i] = 1.0 / 3;
	mix_loss(&x, 0, .25);
	mix_loss(&x, 1, 1);
	mix_update(&x, 2);
	alpha_of(&x, (const double[]){ 0.220568, 0.466570, 0.312861 }, SIX);
	mix_free(&x);
	/* Absent counts as 0 if that was its excess when it was seen. */
	x = mix_new("doremi", 3, NULL, NULL);
	mix_loss(&x, 2, 0);
	mix_update(&x, 1);
	for (size_t i = 0; i < 3; i++)
		x.state[i] = 1.0 / 3;
	mix_loss(&x, 0, .25);
	mix_loss(&x, 1, 1);
	mix_update(&x, 2);
	alpha_of(&x, (const double[]){ 0.256763, 0.543196, 0.200041 }, SIX);
	mix_free(&x);
}

/* The authors' program: an unseen domain jumps by exp(ln 50257). */
static void
test_doremi_repo(void **state)
{
	static const double p0[] = { .2, .3, .5 };
	struct mix x = mix_new("doremi", 3, p0, "profile", "repo", "smoothing", "0", NULL);
	const double w[3] = { .2 * exp(.25), .3 * exp(1), .5 * 50257 }, sum = w[0] + w[1] + w[2];

	(void)state;
	mix_near(x.p, p0, 3, 0, "rows are drawn by the initial proportions");
	alpha_of(&x, p0, 0);
	mix_loss(&x, 0, .25);
	mix_loss(&x, 1, 1);
	mix_update(&x, 1);
	alpha_of(&x, (const double[]){ w[0] / sum, w[1] / sum, w[2] / sum }, 1e-12);
	mix_free(&x);
}

/* alpha sums to 1 and is at least c/K; parts of a step measured apart are the step; one domain alone moves it. */
static void
test_doremi_properties(void **state)
{
	(void)state;
	for (uint64_t n = 0; n < 60; n++) {
		const size_t k = 1 + n % 9;
		struct mix x = mix_new("doremi", k, NULL, "eta", n % 2 ? "1" : "50", NULL);
		double alpha[MIX_MOST];

		for (uint64_t step = 1; step < 30; step++) {
			for (size_t i = 0; i < k; i++)
				if (draw(0, n * 1000 + step * 10 + i) < .6)
					mix_loss(&x, i, 5 * draw(1, n * 1000 + step * 10 + i));
			mix_update(&x, step);
			x.m->weigh(x.options, x.state, k, alpha);
			check_simplex(alpha, k, 1e-3 / (double)k);
			x.m->result(x.options, x.state, k, alpha);
			check_simplex(alpha, k, 1e-3 / (double)k);
		}
		assert_true(k > 1 || alpha[0] == 1);
		mix_free(&x);
	}
}

static void
test_doremi_one_domain(void **state)
{
	struct mix x = mix_new("doremi", 3, NULL, NULL), center = mix_new("doremi", 3, NULL, "center", "true", NULL);
	double alpha[3];

	(void)state;
	/* All were seen; then a step with only one of them, whose excess is not that of the others. */
	for (size_t i = 0; i < 3; i++)
		mix_loss(&x, i, 1);
	mix_update(&x, 1);
	mix_loss(&x, 1, 3);
	mix_update(&x, 2);
	x.m->weigh(x.options, x.state, 3, alpha);
	assert_true(alpha[1] > .7 && alpha[0] == alpha[2]);
	/* DataFlex (B23e): nothing. */
	mix_loss(&center, 1, 3);
	mix_update(&center, 1);
	alpha_of(&center, (const double[]){ 1.0 / 3, 1.0 / 3, 1.0 / 3 }, 1e-15);
	mix_free(&x);
	mix_free(&center);
}

/* No excess anywhere: alpha goes back to uniform by the smoothing alone. */
static void
test_doremi_decay(void **state)
{
	struct mix x = mix_new("doremi", 2, NULL, "smoothing", "0.1", NULL);
	double alpha[2], before;

	(void)state;
	mix_loss(&x, 0, 2);
	mix_loss(&x, 1, 0);
	mix_update(&x, 1);
	x.m->weigh(x.options, x.state, 2, alpha);
	before = alpha[0];
	mix_loss(&x, 0, 0);
	mix_loss(&x, 1, 0);
	mix_update(&x, 2);
	alpha_of(&x, (const double[]){ .9 * before + .05, .9 * (1 - before) + .05 }, 1e-15);
	mix_free(&x);
}

static void
test_doremi_hostile(void **state)
{
	static const double bad[] = { NAN, INFINITY, -INFINITY, -1 };
	struct mix x, y;
	double want[3], alpha[3];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		x = mix_new("doremi", 3, NULL, NULL);
		y = mix_new("doremi", 3, NULL, NULL);
		n_warnings = 0;
		for (size_t d = 0; d < 2; d++) {
			mix_loss(&x, d, (double)d);
			mix_loss(&y, d, (double)d);
		}
		mix_loss(&x, 2, 1);
		x.sum[2].excess = bad[i];
		mix_update(&x, 1); /* as if it were absent */
		assert_int_equal(n_warnings, 1);
		mix_update(&y, 1);
		y.m->weigh(y.options, y.state, 3, want);
		alpha_of(&x, want, 0);
		mix_free(&x);
		mix_free(&y);
	}
	x = mix_new("doremi", 3, NULL, "eta", "1000000", NULL);
	for (size_t d = 0; d < 3; d++) {
		mix_loss(&x, d, 1);
		x.sum[d].excess = 1e308;
	}
	mix_update(&x, 1);
	x.m->weigh(x.options, x.state, 3, alpha);
	check_simplex(alpha, 3, 1e-3 / 3);
	mix_free(&x);
}

/* ---- ODM --------------------------------------------------------------------------------------- */

static void
test_odm_paper(void **state)
{
	struct mix x = mix_new("odm", 2, NULL, NULL);

	(void)state;
	mix_loss(&x, 0, 3);
	mix_loss(&x, 1, 2);
	mix_update(&x, 1);
	mix_near(x.state, (const double[]){ .6, .4 }, 2, 1e-15, "R");
	mix_near(x.p, (const double[]){ .5, .5 }, 2, 1e-15, "pi");
	mix_loss(&x, 0, 2.8);
	mix_loss(&x, 1, 2);
	mix_update(&x, 2);
	mix_near(x.state, (const double[]){ 1.1, .76 }, 2, 1e-15, "R");
	mix_near(x.p, (const double[]){ 0.507099, 0.492901 }, 2, SIX, "pi");
	mix_loss(&x, 0, 2.6);
	mix_update(&x, 3);
	mix_near(x.state, (const double[]){ 1.502720, .76 }, 2, SIX, "R"); /* of the other: unchanged */
	mix_near(x.p, (const double[]){ 0.524556, 0.475444 }, 2, SIX, "pi");
	mix_free(&x);
}

static void
test_odm_repo(void **state)
{
	static const double loss[] = { 3, 2.8, 2.6 },
			    want[][2] = { { .5, .5 }, { .535313, .464687 }, { .560785, .439215 } };
	struct mix x = mix_new("odm", 2, NULL, "variant", "repo", NULL);

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		mix_loss(&x, 0, loss[i]);
		mix_loss(&x, 1, 2);
		mix_update(&x, i + 1);
		mix_near(x.p, want[i], 2, SIX, "pi");
	}
	mix_near(x.state, (const double[]){ 4.453321, 2.002434 }, 2, SIX, "R");
	mix_loss(&x, 0, 1e30);
	mix_update(&x, 4); /* exp(1e30) is none */
	assert_true(fabs(x.state[0] / (.1 * exp(50) + .9 * 4.453321) - 1) < 1e-9);
	check_simplex(x.p, 2, 0);
	mix_free(&x);
}

static void
test_odm_dataflex(void **state)
{
	static const double loss[] = { 3, 2, 2.8 },
			    want[][2] = { { .806939, .193061 }, { .299908, .700092 }, { .659789, .340211 } };
	struct mix x = mix_new("odm", 2, NULL, "variant", "dataflex", "warmup-steps", "0", NULL);

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		mix_loss(&x, i % 2, loss[i]);
		mix_update(&x, 10 * (i + 1));
		mix_near(x.p, want[i], 2, SIX, "pi");
	}
	mix_free(&x);
}

/* pi sums to 1 and is at least eps; a domain that was not seen keeps its R. */
static void
test_odm_properties(void **state)
{
	static const char *const variants[] = { "paper", "dataflex", "repo" };

	(void)state;
	for (uint64_t n = 0; n < 90; n++) {
		const size_t k = 1 + n % 11;
		struct mix x = mix_new("odm", k, NULL, "variant", variants[n % 3], "warmup-steps", "0", NULL);

		for (uint64_t step = 1; step < 40; step++) {
			double before[MIX_MOST];
			bool seen[MIX_MOST] = { false };

			memcpy(before, x.state, k * sizeof(*before));
			for (size_t i = 0; i < k; i++) {
				if (draw(2, n * 1000 + step * 11 + i) < .5) {
					mix_loss(&x, i, 8 * draw(3, n * 1000 + step * 11 + i));
					seen[i] = true;
				}
			}
			mix_update(&x, step);
			check_simplex(x.p, k, x.state[2 * k]);
			for (size_t i = 0; i < k; i++)
				assert_true(seen[i] || x.state[i] == before[i]);
		}
		assert_true(k > 1 || x.p[0] == 1);
		mix_free(&x);
	}
}

/* A floor of 1/K or more must not freeze the policy (B25). */
static void
test_odm_many_domains(void **state)
{
	static const size_t ks[] = { 34, 40 };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct mix x;

		n_warnings = 0;
		x = mix_new("odm", ks[i], NULL, "min-eps", "0.03", "reward-scale", "15", NULL);
		assert_int_equal(n_warnings, 1);
		assert_non_null(strstr(warning, "min-eps 0.03 for each of"));
		for (uint64_t step = 1; step <= 200; step++) {
			for (size_t d = 0; d < ks[i]; d++)
				mix_loss(&x, d, d == 3 ? 4 : 2);
			mix_update(&x, step);
		}
		assert_true(x.p[3] > 1.2 / (double)ks[i]);
		check_simplex(x.p, ks[i], .5 / (double)ks[i]);
		mix_free(&x);
	}
}

static void
test_odm_warmup(void **state)
{
	static const double p0[] = { .2, .8 }, given[] = { .25, .75 };
	struct mix x = mix_new("odm", 2, p0, "warmup-steps", "20", NULL);
	struct df_mix_seen seen = { .n_domains = 2, .sum = x.sum, .step = 10, .total = 1000 };

	(void)state;
	for (uint64_t step = 0; step <= 20; step += 10) {
		mix_loss(&x, 0, 3);
		mix_update(&x, step);
		mix_near(x.p, p0, 2, 0, "in the warm-up");
		assert_true(x.state[0] == 0);
	}
	mix_loss(&x, 0, 3);
	mix_update(&x, 30);
	assert_true(fabs(x.state[0] - .1 * 3 / .2) < 1e-12);
	mix_update(&x, 40); /* nothing was measured: nothing changes */
	assert_true(x.state[5] == 1);
	mix_free(&x);
	/* 1 % of the run's steps. */
	x = mix_new("odm", 2, p0, "initial-proportions", "1,3", NULL);
	mix_near(x.p, given, 2, 0, "given");
	seen.sum = x.sum;
	mix_loss(&x, 0, 3);
	assert_int_equal(x.m->update(x.options, x.state, &seen, NULL), DF_OK);
	assert_true(x.state[0] == 0);
	seen.step = 11;
	assert_int_equal(x.m->update(x.options, x.state, &seen, NULL), DF_OK);
	assert_true(x.state[0] > 0);
	mix_free(&x);
}

static void
test_odm_hostile(void **state)
{
	static const double bad[] = { NAN, INFINITY, -INFINITY };
	static const char *const variants[] = { "paper", "dataflex", "repo" };

	(void)state;
	for (size_t n = 0; n < 9; n++) {
		struct mix x = mix_new("odm", 2, NULL, "variant", variants[n / 3], "warmup-steps", "0", NULL);

		for (uint64_t step = 1; step < 5; step++) {
			n_warnings = 0;
			mix_loss(&x, 0, 2);
			mix_loss(&x, 1, bad[n % 3]);
			mix_update(&x, step);
			assert_int_equal(n_warnings, 1);
			assert_true(x.state[1] == 0 && x.state[0] > 0);
			check_simplex(x.p, 2, 0);
		}
		mix_free(&x);
	}
}

/* ---- dynamic MoE --------------------------------------------------------------------------------- */

static int
moe_update(struct mix *x, const double *load, size_t n_experts, struct df_err *err)
{
	static char *names[] = { "wiki", "c4", "code" };
	const struct df_mix_seen seen = {
		.n_domains = x->k, .load = load, .n_experts = n_experts, .step = 1, .names = names
	};
	const int rc = x->m->update(x->options, x->state, &seen, err);

	x->m->propose(x->options, x->state, x->k, 1, x->p);
	return rc;
}

static void
test_moe_example(void **state)
{
	static const double load[] = { 4, 4, 0, 0, 3, 3, 1, 1, 0, 0, 4, 4 };
	struct mix x = mix_new("dynamic_moe", 3, NULL, NULL);

	(void)state;
	assert_int_equal(moe_update(&x, load, 4, NULL), DF_OK);
	mix_near(x.p, (const double[]){ 0.157845, 0.078022, 0.764133 }, 3, SIX, "w");
	mix_free(&x);
	x = mix_new("dynamic_moe", 3, NULL, "eta", "1", NULL);
	assert_int_equal(moe_update(&x, load, 4, NULL), DF_OK);
	mix_near(x.p, (const double[]){ 0.322979, 0.298488, 0.378532 }, 3, SIX, "w");
	mix_free(&x);
}

/* Equal loads: only the smoothing moves the initial proportions, which count (B24); K = 1 is 1. */
static void
test_moe_properties(void **state)
{
	static const double same[] = { 1, 3, 2, 6, .5, 1.5 }, p0[] = { .5, .3, .2 };
	struct mix x = mix_new("dynamic_moe", 3, p0, "smoothing", "0.1", NULL);

	(void)state;
	assert_int_equal(moe_update(&x, same, 2, NULL), DF_OK);
	mix_near(x.p, (const double[]){ .45 + .1 / 3, .27 + .1 / 3, .18 + .1 / 3 }, 3, 1e-15, "w");
	mix_free(&x);
	x = mix_new("dynamic_moe", 1, NULL, NULL);
	assert_int_equal(moe_update(&x, same, 2, NULL), DF_OK);
	assert_true(x.p[0] == 1);
	mix_free(&x);
	x = mix_new("dynamic_moe", 3, (const double[]){ 1, 0, 0 }, NULL);
	for (int i = 0; i < 20; i++) {
		const double load[] = { 1, 0, 0, 1, draw(4, i), 1 };

		assert_int_equal(moe_update(&x, load, 2, NULL), DF_OK);
		check_simplex(x.p, 3, .05 / 3);
	}
	mix_free(&x);
}

static void
test_moe_hostile(void **state)
{
	static const struct {
		double load[6];
		const char *message;
	} t[] = {
		{ { 1, 1, 0, 0, 1, 2 }, "domain 'c4': none of its tokens went to an expert" },
		{ { 1, 1, 2, 3, NAN, 2 }, "domain 'code': the load of expert 0 is nan" },
		{ { 1, -1, 2, 3, 1, 2 }, "domain 'wiki': the load of expert 1 is -1" },
	};
	struct mix x = mix_new("dynamic_moe", 3, NULL, NULL);
	struct df_err err;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(moe_update(&x, t[i].load, 2, &err), DF_EFORMAT);
		assert_string_equal(err.msg, t[i].message);
		mix_near(x.p, (const double[]){ 1.0 / 3, 1.0 / 3, 1.0 / 3 }, 3, 0, "unchanged");
	}
	assert_int_equal(moe_update(&x, NULL, 0, &err), DF_EUSAGE);
	mix_free(&x);
}

/* ---- DataFlex's names ------------------------------------------------------------------------------ */

static void
test_alias(void **state)
{
	static const char *const names[][3] = { { "doremi", "reweight_eta", "eta" },
		{ "doremi", "reweight_eps", "smoothing" }, { "odm", "min_exploration_rate", "min-eps" },
		{ "dynamic_moe", "c", "smoothing" } };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct df_mixer *m;
		const struct df_opt_alias *a;
		const struct df_opt *o;

		assert_int_equal(df_mixer_find(&m, names[i][0], NULL), DF_OK);
		for (a = m->alias; strcmp(a->theirs, names[i][1]) != 0; a++)
			assert_non_null(a->theirs);
		assert_string_equal(a->ours, names[i][2]);
		for (o = m->options; strcmp(o->name, a->ours) != 0; o++)
			assert_non_null(o->name);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_doremi_example),
		cmocka_unit_test(test_doremi_loss),
		cmocka_unit_test(test_doremi_absent),
		cmocka_unit_test(test_doremi_repo),
		cmocka_unit_test(test_doremi_properties),
		cmocka_unit_test(test_doremi_one_domain),
		cmocka_unit_test(test_doremi_decay),
		cmocka_unit_test(test_doremi_hostile),
		cmocka_unit_test(test_odm_paper),
		cmocka_unit_test(test_odm_repo),
		cmocka_unit_test(test_odm_dataflex),
		cmocka_unit_test(test_odm_properties),
		cmocka_unit_test(test_odm_many_domains),
		cmocka_unit_test(test_odm_warmup),
		cmocka_unit_test(test_odm_hostile),
		cmocka_unit_test(test_moe_example),
		cmocka_unit_test(test_moe_properties),
		cmocka_unit_test(test_moe_hostile),
		cmocka_unit_test(test_alias),
	};

	df_log_set_sink(count_warnings, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
