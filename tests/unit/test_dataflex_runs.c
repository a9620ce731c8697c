/*
 * test_dataflex_runs.c - runs of DataFlex's own trainers (tests/golden/dataflex_runs/, made by make_dataflex_runs.py):
 * when they chose rows and proportions, which rows, how many of each domain, what their mixers and weighers returned.
 * What ours return is the same; a difference is one of those that we want, and is stated: how far it goes, and that
 * DataFlex's way is there on request.
 */
#include <inttypes.h>
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
#include "config/events.h"
#include "mix_help.h"
#include "select/select.h"
#include "weigh/weigh.h"

#define MAX_DOMAINS 8
#define MAX_ROWS    256

/* ---- a run that was recorded -------------------------------------------------------------- */

struct run {
	const char *name;
	struct df_json *json;
	const struct df_json_value *root, *config, *params, *events, *steps;
	struct df_events ours;
	bool steps_as_dataflex; /* mix_steps: dataflex */
	uint64_t size[MAX_DOMAINS], n_rows, per_step;
	size_t n_domains;
};

static double
number(const struct df_json_value *object, const char *key, double dflt)
{
	double x = dflt;

	(void)df_json_number(df_json_get(object, key), &x);
	return x;
}

static uint64_t
count(const struct df_json_value *object, const char *key)
{
	const double x = number(object, key, -1);

	if (!(x >= 0))
		fail_msg("no count '%s'", key);
	return (uint64_t)x;
}

/* The numbers of a list; how many there are. */
static size_t
list(const struct df_json_value *v, double *x, size_t max)
{
	const size_t n = df_json_size(v);

	assert_true(n <= max);
	for (size_t i = 0; i < n; i++)
		assert_true(df_json_number(df_json_at(v, i), &x[i]));
	return n;
}

static size_t
member(const struct df_json_value *object, const char *key, double *x, size_t max)
{
	const size_t n = list(df_json_get(object, key), x, max);

	if (n == 0)
		fail_msg("no list '%s'", key);
	return n;
}

static bool
is_kind(const struct df_json_value *event, const char *kind)
{
	return strcmp(df_json_str(df_json_get(event, "kind"), NULL), kind) == 0;
}

/* Our events for the run's keys. */
static void
plan(struct run *r)
{
	const char *type = df_json_str(df_json_get(r->config, "train_type"), NULL);
	struct df_config c = {
		.train_type = strcmp(type, "dynamic_select") == 0 ? DF_TRAIN_SELECT
		    : strcmp(type, "dynamic_mix") == 0            ? DF_TRAIN_MIX
								  : DF_TRAIN_WEIGHT,
		.static_mix = df_json_bool(df_json_get(r->config, "static_mix"), false),
		.warmup_step = (int64_t)number(r->config, "warmup_step", 0),
		.update_step = (int64_t)number(r->config, "update_step", 0),
		.update_times = (int64_t)number(r->config, "update_times", 1),
		.num_train_epochs = number(r->config, "num_train_epochs", 3),
		.train_step = (int64_t)number(r->config, "train_step", 0),
		.mix_steps = r->steps_as_dataflex ? DF_MIX_STEPS_DATAFLEX : DF_MIX_STEPS_GIVEN,
	};
	struct df_err err = DF_ERR_INIT;

	c.line = calloc(df_keys_count(), sizeof(*c.line));
	assert_non_null(c.line);
	r->per_step = (uint64_t)(number(r->config, "per_device_train_batch_size", 1) *
	    number(r->config, "gradient_accumulation_steps", 1));
	if (df_events_init(&r->ours, &c, r->n_rows, r->per_step, (r->n_rows + r->per_step - 1) / r->per_step, &err) !=
	    DF_OK)
		fail_msg("%s: %s", r->name, err.msg);
	free(c.line);
}

static void
open_run(struct run *r, const char *name)
{
	const char *src = getenv("DF_SRCDIR");
	struct df_err err = DF_ERR_INIT;
	char path[4096];

	memset(r, 0, sizeof(*r));
	r->name = name;
	snprintf(path, sizeof(path), "%s/tests/golden/dataflex_runs/%s.json", src ? src : ".", name);
	if (df_json_load(&r->json, path, 1 << 22, &err) != DF_OK)
		fail_msg("%s", err.msg);
	r->root = df_json_root(r->json);
	r->config = df_json_get(r->root, "config");
	r->params = df_json_at(df_json_get(r->root, "component"), 2);
	r->events = df_json_get(r->root, "events");
	r->steps = df_json_get(r->root, "steps");
	r->n_domains = df_json_size(df_json_get(r->root, "datasets"));
	assert_true(r->n_domains > 0 && r->n_domains <= MAX_DOMAINS);
	for (size_t i = 0; i < r->n_domains; i++) {
		double n;

		assert_true(df_json_number(df_json_at(df_json_at(df_json_get(r->root, "datasets"), i), 1), &n));
		r->size[i] = (uint64_t)n;
		r->n_rows += r->size[i];
	}
	plan(r);
}

static void
close_run(struct run *r)
{
	df_json_free(r->json);
}

/* The next event of this kind after *i, or NULL. */
static const struct df_json_value *
next_event(const struct run *r, const char *kind, size_t *i)
{
	while (*i < df_json_size(r->events)) {
		const struct df_json_value *e = df_json_at(r->events, (*i)++);

		if (is_kind(e, kind))
			return e;
	}
	return NULL;
}

static void
assert_near(const char *name, const double *got, const double *want, size_t n, double tolerance)
{
	for (size_t i = 0; i < n; i++)
		if (!(fabs(got[i] - want[i]) <= tolerance))
			fail_msg("%s, number %zu: %.17g, DataFlex %.17g", name, i, got[i], want[i]);
}

/* ---- events ------------------------------------------------------------------------------- */

static const char *const select_runs[] = { "select-random", "select-fraction", "select-steps", "select-epoch",
	"select-loss", "select-delta-loss", "select-less" };
/* mix-static is the one whose length differs: test_mix_length. */
static const char *const mix_runs[] = { "mix-fixed", "mix-random", "mix-stratified", "mix-epoch", "mix-odm",
	"mix-odm-accumulated", "mix-doremi", "mix-doremi-single", "mix-doremi-missing" };
static const char *const weight_runs[] = { "weight-linupper", "weight-uniform", "weight-quadratic", "weight-extremes",
	"weight-accumulated", "weight-adapt", "weight-custom" };
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* One event of ours against one of theirs. */
static void
compare_event(const struct run *r, const struct df_event *ours, const struct df_json_value *theirs, bool update)
{
	if (ours->kind != (update ? DF_EVENT_UPDATE : DF_EVENT_DRAW) || ours->step != count(theirs, "step"))
		fail_msg("%s: DataFlex %s after %" PRIu64 " steps, ours: kind %d after %" PRIu64, r->name,
		    update ? "updates" : "draws", count(theirs, "step"), ours->kind, ours->step);
	if (df_json_get(theirs, "n") && ours->n_rows != count(theirs, "n"))
		fail_msg("%s: after %" PRIu64 " steps %" PRIu64 " rows, not %" PRIu64, r->name, ours->step,
		    ours->n_rows, count(theirs, "n"));
	if (df_json_get(theirs, "ordinal"))
		assert_int_equal(ours->ordinal, count(theirs, "ordinal"));
}

/* B10: without update_times and with train_step DataFlex has no number of updates, and hands on the raw -1. */
static void
compare_times(const struct run *r, const struct df_json_value *select)
{
	const double theirs = number(select, "times", 0);

	if (strcmp(r->name, "select-steps") == 0) {
		assert_true(theirs == -1);
		assert_int_equal(r->ours.times, 4); /* ceil((13 - 2) / 3) */
	} else {
		assert_int_equal(r->ours.times, (uint64_t)theirs);
	}
}

static void
test_select_events(void **state)
{
	(void)state;
	for (size_t k = 0; k < COUNT(select_runs); k++) {
		struct run r;
		struct df_event v;

		open_run(&r, select_runs[k]);
		assert_int_equal(r.ours.max_steps, count(r.root, "max_steps"));
		v = df_events_window(&r.ours, 0);
		for (size_t i = 0; i < df_json_size(r.events); i++) {
			const struct df_json_value *e = df_json_at(r.events, i);

			compare_event(&r, &v, e, is_kind(e, "select"));
			if (is_kind(e, "select"))
				compare_times(&r, e);
			v = df_events_next(&r.ours, v.step);
		}
		assert_int_equal(v.kind, DF_EVENT_NONE);
		close_run(&r);
	}
}

/* A mix, and the snapshot that it leads to; the first snapshot has no mix. */
static void
compare_mix_events(const struct run *r)
{
	struct df_event v = df_events_window(&r->ours, 0);
	size_t mix = 0, snapshot = 0;
	const struct df_json_value *s;

	while ((s = next_event(r, "snapshot", &snapshot))) {
		compare_event(r, &v, s, v.step > 0);
		if (v.step > 0)
			compare_event(r, &v, next_event(r, "mix", &mix), true);
		v = df_events_next(&r->ours, v.step);
	}
	assert_null(next_event(r, "mix", &mix));
	assert_int_equal(v.kind, DF_EVENT_NONE);
}

static void
test_mix_events(void **state)
{
	(void)state;
	for (size_t k = 0; k < COUNT(mix_runs); k++) {
		struct run r;

		open_run(&r, mix_runs[k]);
		assert_int_equal(r.ours.max_steps, count(r.root, "max_steps"));
		compare_mix_events(&r);
		close_run(&r);
	}
}

/* B28: with update_times 2, DataFlex's MixTrainer passes over train_step 20 and ends after 2 + 3 x 2 steps. */
static void
test_mix_length(void **state)
{
	struct run r;

	(void)state;
	open_run(&r, "mix-static");
	assert_int_equal(count(r.config, "train_step"), 20);
	assert_int_equal(count(r.root, "max_steps"), 8);
	assert_int_equal(r.ours.max_steps, 20);
	assert_int_equal(r.ours.times, 6);
	r.steps_as_dataflex = true;
	plan(&r);
	assert_int_equal(r.ours.max_steps, 8);
	assert_int_equal(r.ours.times, 2);
	compare_mix_events(&r);
	close_run(&r);
}

static bool
was_weighed(const struct run *r, size_t step)
{
	return df_json_get(df_json_at(df_json_at(r->steps, step), 0), "weight");
}

static void
test_weight_events(void **state)
{
	(void)state;
	for (size_t k = 0; k < COUNT(weight_runs); k++) {
		struct run r;

		open_run(&r, weight_runs[k]);
		assert_int_equal(r.ours.max_steps, count(r.root, "max_steps"));
		assert_int_equal(r.ours.max_steps, df_json_size(r.steps));
		for (size_t g = 0; g < df_json_size(r.steps); g++)
			assert_int_equal(was_weighed(&r, g), g >= r.ours.warmup);
		close_run(&r);
	}
}

/* ---- rows of selections ------------------------------------------------------------------- */

/* B04: the same warm-up rows in each Flex epoch, with replacement.  torch's generator gives them. */
static void
test_warmup_rows(void **state)
{
	(void)state;
	for (size_t k = 0; k < COUNT(select_runs); k++) {
		const double seed_given = strcmp(select_runs[k], "select-delta-loss") == 0 ? 42 : 0;
		const struct df_json_value *e;
		uint64_t want[MAX_ROWS];
		double rows[MAX_ROWS];
		struct df_err err = DF_ERR_INIT;
		struct run r;
		size_t i = 0;

		open_run(&r, select_runs[k]);
		while ((e = next_event(&r, "warmup", &i))) {
			const size_t n = member(e, "rows", rows, MAX_ROWS);
			const uint64_t seed = (uint64_t)number(r.params, "seed", seed_given ? seed_given : 42);

			assert_int_equal(df_sample_torch_randint(r.n_rows, n, seed, want, &err), DF_OK);
			for (size_t j = 0; j < n; j++)
				assert_int_equal((uint64_t)rows[j], want[j]);
		}
		close_run(&r);
	}
}

/* `--rng torch` with seed + step, as DataFlex's random selector draws. */
static void
test_random_rows(void **state)
{
	(void)state;
	for (size_t k = 0; k < 4; k++) { /* the first four are random */
		const struct df_json_value *e;
		uint64_t want[MAX_ROWS];
		double rows[MAX_ROWS];
		struct df_err err = DF_ERR_INIT;
		struct run r;
		size_t i = 0;

		open_run(&r, select_runs[k]);
		while ((e = next_event(&r, "select", &i))) {
			const size_t n = member(e, "rows", rows, MAX_ROWS);
			const uint64_t seed = count(r.params, "seed") + count(e, "step");
			int rc;

			if (df_json_bool(df_json_get(r.params, "replacement"), false))
				rc = df_sample_torch_randint(r.n_rows, n, seed, want, &err);
			else
				rc = df_sample_torch_perm(r.n_rows, n, seed, want, &err);
			assert_int_equal(rc, DF_OK);
			for (size_t j = 0; j < n; j++)
				assert_int_equal((uint64_t)rows[j], want[j]);
		}
		close_run(&r);
	}
}

/* What is trained on is what was drawn and chosen, in that order: each window is consumed once. */
static void
test_rows_in_order(void **state)
{
	(void)state;
	for (size_t k = 0; k < COUNT(select_runs) + COUNT(mix_runs); k++) {
		double rows[MAX_ROWS], now[MAX_ROWS];
		struct run r;
		size_t n = 0, at = 0;

		open_run(&r, k < COUNT(select_runs) ? select_runs[k] : mix_runs[k - COUNT(select_runs)]);
		for (size_t g = 0, e = 0; g < df_json_size(r.steps); g++) {
			const struct df_json_value *micro = df_json_at(r.steps, g);

			if (df_events_at(&r.ours, g).kind != DF_EVENT_NONE) {
				const struct df_json_value *event;

				do
					event = df_json_at(r.events, e++);
				while (!df_json_get(event, "rows"));
				n = member(event, "rows", rows, MAX_ROWS);
				at = 0;
			}
			for (size_t m = 0; m < df_json_size(micro); m++) {
				const size_t got = member(df_json_at(micro, m), "rows", now, MAX_ROWS);

				assert_true(at + got <= n);
				for (size_t j = 0; j < got; j++)
					assert_true(now[j] == rows[at++]);
			}
		}
		close_run(&r);
	}
}

/* ---- quotas and proportions --------------------------------------------------------------- */

/* B21: DataFlex rounds down and gives the rest to the last domain; ours are within 1 of n p. */
static void
test_quotas(void **state)
{
	size_t n_differ = 0;

	(void)state;
	for (size_t k = 0; k < COUNT(mix_runs); k++) {
		const struct df_json_value *e;
		struct run r;
		size_t i = 0;

		open_run(&r, mix_runs[k]);
		while ((e = next_event(&r, "snapshot", &i))) {
			double p[MAX_DOMAINS], theirs[MAX_DOMAINS];
			uint64_t n = count(e, "n"), sum = 0, quota[MAX_DOMAINS];

			assert_int_equal(member(e, "proportions", p, MAX_DOMAINS), r.n_domains);
			assert_int_equal(member(e, "quota", theirs, MAX_DOMAINS), r.n_domains);
			df_mix_quotas(p, r.n_domains, n, true, quota);
			for (size_t d = 0; d < r.n_domains; d++)
				assert_int_equal(quota[d], (uint64_t)theirs[d]);
			df_mix_quotas(p, r.n_domains, n, false, quota);
			for (size_t d = 0; d < r.n_domains; d++) {
				assert_true(fabs((double)quota[d] - (double)n * p[d]) < 1);
				n_differ += quota[d] != (uint64_t)theirs[d];
				sum += quota[d];
			}
			assert_int_equal(sum, n);
		}
		close_run(&r);
	}
	assert_true(n_differ > 0);
}

/* B21: the last domain gets rows although its proportion is 0. */
static void
test_quota_of_nothing(void **state)
{
	const struct df_json_value *e;
	double p[3], theirs[3];
	uint64_t quota[3];
	size_t i = 0;
	struct run r;

	(void)state;
	open_run(&r, "mix-fixed");
	e = next_event(&r, "snapshot", &i);
	assert_int_equal(member(e, "proportions", p, 3), 3);
	assert_int_equal(member(e, "quota", theirs, 3), 3);
	assert_true(p[2] == 0 && theirs[2] > 0);
	df_mix_quotas(p, 3, count(e, "n"), false, quota);
	assert_int_equal(quota[2], 0);
	close_run(&r);
}

/* B20: under `stratified` what the mixer returns has no effect. */
static void
test_frozen_rule(void **state)
{
	size_t mix = 0, snapshot = 0;
	const struct df_json_value *s;
	double p[MAX_DOMAINS], by_size[MAX_DOMAINS], returned[MAX_DOMAINS];
	struct run r;

	(void)state;
	open_run(&r, "mix-stratified");
	for (size_t d = 0; d < r.n_domains; d++)
		by_size[d] = (double)r.size[d] / (double)r.n_rows;
	while ((s = next_event(&r, "snapshot", &snapshot))) {
		assert_int_equal(member(s, "proportions", p, MAX_DOMAINS), r.n_domains);
		assert_near("stratified", p, by_size, r.n_domains, 1e-9);
		if (count(s, "step") == 0)
			continue;
		member(next_event(&r, "mix", &mix), "proportions", returned, MAX_DOMAINS);
		assert_true(fabs(returned[0] - by_size[0]) > 0.05);
	}
	close_run(&r);
}

/* B22: DataFlex's random proportions are the same each time; ours differ, unless --no-per-step says the contrary. */
static void
test_random_proportions(void **state)
{
	const struct df_mixer *random = NULL;
	const struct df_json_value *e;
	double first[MAX_DOMAINS], p[MAX_DOMAINS], ours[2][MAX_DOMAINS];
	struct df_err err = DF_ERR_INIT;
	size_t i = 0, n = 0;
	struct run r;

	(void)state;
	open_run(&r, "mix-random");
	assert_int_equal(df_mixer_find(&random, "random", &err), DF_OK);
	while ((e = next_event(&r, "mix", &i))) {
		member(e, "proportions", n == 0 ? first : p, MAX_DOMAINS);
		random->propose(random->defaults, NULL, r.n_domains, count(e, "step"), ours[n % 2]);
		if (n++ == 0)
			continue;
		assert_near("random", p, first, r.n_domains, 0);
		assert_true(fabs(ours[0][0] - ours[1][0]) > 1e-3);
	}
	assert_int_equal(n, 2);
	close_run(&r);
}

/* ---- mixers: what DataFlex's measured, in ours ---------------------------------------------- */

/* B25: one domain is rewarded, with one micro-batch's loss; so measured, the variant `dataflex` is the same. */
static void
compare_odm(const char *name)
{
	const struct df_json_value *e, *given;
	struct run r;
	struct mix x;
	double p0[MAX_DOMAINS], want[MAX_DOMAINS];
	size_t i = 0;

	open_run(&r, name);
	for (size_t d = 0; d < r.n_domains; d++)
		p0[d] = 1 / (double)r.n_domains;
	if ((given = df_json_get(r.params, "initial_proportions")))
		assert_int_equal(list(given, p0, MAX_DOMAINS), r.n_domains);
	x = mix_new("odm", r.n_domains, p0, "variant", "dataflex", "warmup-steps", "2", NULL);
	while ((e = next_event(&r, "mix", &i))) {
		const double loss = number(e, "loss", NAN);

		mix_loss(&x, count(e, "domain"), loss);
		mix_update(&x, count(e, "step"));
		assert_int_equal(member(e, "weights", want, MAX_DOMAINS), r.n_domains);
		mix_near(x.p, want, r.n_domains, 1e-8, name); /* the loss was written with nine digits */
		member(e, "rewards", want, MAX_DOMAINS);
		mix_near(x.state, want, r.n_domains, 1e-6, name);
	}
	mix_free(&x);
	close_run(&r);
}

static void
test_odm(void **state)
{
	(void)state;
	compare_odm("mix-odm");
	compare_odm("mix-odm-accumulated");
}

/*
 * B25: the loss that is the reward is a share of the step's, by the tokens of the last micro-batch, not its mean.  Both
 * shares add up to a mean near that of the first step without accumulation.
 */
static void
test_odm_scaled_loss(void **state)
{
	const struct df_json_value *step, *e;
	struct run r;
	double share[2], plain;
	size_t i = 0;

	(void)state;
	open_run(&r, "mix-odm-accumulated");
	step = df_json_at(r.steps, 1);
	for (size_t m = 0; m < 2; m++)
		share[m] = number(df_json_at(step, m), "loss", NAN);
	e = next_event(&r, "mix", &i);
	assert_int_equal(count(e, "step"), 2);
	assert_true(number(e, "loss", NAN) == share[1]);
	close_run(&r);
	open_run(&r, "mix-odm");
	plain = number(df_json_at(df_json_at(r.steps, 1), 0), "loss", NAN);
	assert_true(fabs(share[0] + share[1] - plain) < 0.2 * plain && share[1] < 0.6 * plain);
	close_run(&r);
}

/* lambda of the domains that were seen, and what centring makes of them, is DataFlex's alpha (B23 e). */
static void
compare_doremi(const char *name)
{
	const struct df_json_value *e;
	double want[MAX_DOMAINS], lambda[MAX_DOMAINS];
	struct run r;
	struct mix x;
	size_t i = 0;

	open_run(&r, name);
	x = mix_new("doremi", r.n_domains, NULL, "center", "true", NULL);
	while ((e = next_event(&r, "mix", &i))) {
		assert_int_equal(member(e, "lambda", lambda, MAX_DOMAINS), r.n_domains);
		for (size_t d = 0; d < r.n_domains; d++)
			if (df_json_bool(df_json_at(df_json_get(e, "seen"), d), false))
				mix_loss(&x, d, lambda[d]);
		mix_update(&x, count(e, "step"));
		member(e, "weights", want, MAX_DOMAINS);
		x.m->weigh(x.options, x.state, r.n_domains, lambda);
		mix_near(lambda, want, r.n_domains, 1e-12, name);
		member(e, "proportions", want, MAX_DOMAINS);
		mix_near(x.p, want, r.n_domains, 1e-12, name); /* rows from all domains equally */
	}
	assert_int_equal(member(r.root, "average", want, MAX_DOMAINS), r.n_domains);
	x.m->result(x.options, x.state, r.n_domains, lambda);
	mix_near(lambda, want, r.n_domains, 1e-12, name);
	mix_free(&x);
	close_run(&r);
}

static void
test_doremi(void **state)
{
	(void)state;
	compare_doremi("mix-doremi");
	compare_doremi("mix-doremi-single");
	compare_doremi("mix-doremi-missing");
}

/* Where every domain was seen, centring cancels: the paper's rule gives the same alpha. */
static void
test_doremi_paper(void **state)
{
	const struct df_json_value *e;
	double want[MAX_DOMAINS], lambda[MAX_DOMAINS];
	struct run r;
	struct mix x;
	size_t i = 0;

	(void)state;
	open_run(&r, "mix-doremi");
	x = mix_new("doremi", r.n_domains, NULL, NULL);
	while ((e = next_event(&r, "mix", &i))) {
		member(e, "lambda", lambda, MAX_DOMAINS);
		for (size_t d = 0; d < r.n_domains; d++) {
			assert_true(df_json_bool(df_json_at(df_json_get(e, "seen"), d), false));
			mix_loss(&x, d, lambda[d]);
		}
		mix_update(&x, count(e, "step"));
		member(e, "weights", want, MAX_DOMAINS);
		x.m->weigh(x.options, x.state, r.n_domains, lambda);
		mix_near(lambda, want, r.n_domains, 1e-12, r.name);
	}
	mix_free(&x);
	close_run(&r);
}

/* B23 e: with one domain in the last micro-batch DataFlex's alpha stays; ours, of the whole step, moves. */
static void
test_doremi_single(void **state)
{
	const struct df_json_value *e;
	double alpha[MAX_DOMAINS], lambda[MAX_DOMAINS];
	struct run r;
	struct mix x;
	size_t i = 0;

	(void)state;
	open_run(&r, "mix-doremi-single");
	while ((e = next_event(&r, "mix", &i))) {
		member(e, "weights", alpha, MAX_DOMAINS);
		assert_near("alpha", alpha, (const double[]){ 1. / 3, 1. / 3, 1. / 3 }, 3, 1e-15);
	}
	i = 0;
	e = next_event(&r, "mix", &i);
	member(e, "lambda", lambda, MAX_DOMAINS);
	x = mix_new("doremi", 3, NULL, NULL);
	mix_loss(&x, 1, lambda[1]);
	mix_loss(&x, 0, 0); /* of another micro-batch of the step */
	mix_update(&x, 2);
	x.m->weigh(x.options, x.state, 3, alpha);
	assert_true(alpha[1] > 0.7 && alpha[0] < 0.1);
	mix_free(&x);
	close_run(&r);
}

/*
 * B23 d: without a reference DataFlex's excess is the whole loss.  B23 g: with accumulation each micro-batch counts as
 * a whole step.  (B23 a, that alpha weighs nothing, is tests/cmd/dataflex-runs.t's.)
 */
static void
test_doremi_defects(void **state)
{
	const struct df_json_value *e;
	double lambda[MAX_DOMAINS], sum = 0;
	struct run r;
	size_t i = 0;

	(void)state;
	open_run(&r, "mix-doremi-missing");
	e = next_event(&r, "mix", &i);
	member(e, "lambda", lambda, MAX_DOMAINS);
	for (size_t d = 0; d < 3; d++)
		assert_true(fabs(lambda[d] - number(df_json_at(df_json_at(r.steps, 1), 0), "loss", NAN)) < 0.5);
	close_run(&r);
	open_run(&r, "mix-doremi-single");
	for (size_t m = 0; m < 4; m++)
		sum += number(df_json_at(df_json_at(r.steps, 0), m), "loss", NAN);
	assert_true(sum > 20); /* four times a mean of 5.6 */
	close_run(&r);
}

/* ---- weights ------------------------------------------------------------------------------ */

/* The weights of one micro-batch, from its losses. */
static void
compare_weights(const struct run *r, const struct df_weigher *w, const void *options, const struct df_json_value *micro)
{
	double loss[MAX_ROWS], theirs[MAX_ROWS], ours[MAX_ROWS], sum = 0;
	struct df_err err = DF_ERR_INIT;
	struct df_weigh_group g = { .loss = loss };

	g.n = member(micro, "sample_loss", loss, MAX_ROWS);
	assert_int_equal(member(micro, "weight", theirs, MAX_ROWS), g.n);
	assert_int_equal(w->weights(options, &g, ours, &err), DF_OK);
	/* DataFlex works in float32, whose h has an error of 1e-7 times loss / (range of losses) */
	assert_near(r->name, ours, theirs, g.n, 2e-6);
	for (size_t i = 0; i < g.n; i++)
		sum += ours[i] * loss[i];
	/* what training_step returns is divided by the number of micro-batches */
	sum /= number(r->config, "gradient_accumulation_steps", 1);
	assert_near(r->name, &sum, &(double){ number(micro, "loss", NAN) }, 1, 1e-5);
}

static void
compare_weigher(const char *name, const char *strategy)
{
	const struct df_weigher *w = NULL;
	struct df_err err = DF_ERR_INIT;
	unsigned char options[256];
	struct run r;
	size_t n = 0;

	open_run(&r, name);
	assert_int_equal(
	    df_weigher_find(&w, df_json_str(df_json_at(df_json_get(r.root, "component"), 1), NULL), &err), DF_OK);
	assert_true(w->defaults_size <= sizeof(options));
	memcpy(options, w->defaults, w->defaults_size);
	if (strategy) {
		char delta[32];

		snprintf(delta, sizeof(delta), "%g", number(r.params, "delta", NAN));
		assert_int_equal(df_opt_set(w->options, options, "strategy", strategy, &err), DF_OK);
		assert_int_equal(df_opt_set(w->options, options, "delta", delta, &err), DF_OK);
	}
	for (size_t g = 0; g < df_json_size(r.steps); g++) {
		const struct df_json_value *step = df_json_at(r.steps, g);

		for (size_t m = 0; m < df_json_size(step) && was_weighed(&r, g); m++, n++)
			compare_weights(&r, w, options, df_json_at(step, m));
	}
	assert_true(n >= 3);
	close_run(&r);
}

static void
test_weights(void **state)
{
	(void)state;
	compare_weigher("weight-linupper", "linupper");
	compare_weigher("weight-quadratic", "quadratic");
	compare_weigher("weight-extremes", "extremes");
	compare_weigher("weight-accumulated", "linupper");
	compare_weigher("weight-custom", NULL);
}

/* B26: what DataFlex calls uniform is exponential tilting; ours is, unless it is asked for DataFlex's. */
static void
test_uniform(void **state)
{
	const struct df_weigher *w = NULL;
	struct df_err err = DF_ERR_INIT;
	unsigned char options[256];
	double loss[MAX_ROWS], ours[MAX_ROWS];
	struct df_weigh_group g = { .loss = loss };
	struct run r;

	(void)state;
	compare_weigher("weight-uniform", "identity");
	open_run(&r, "weight-uniform");
	assert_int_equal(df_weigher_find(&w, "loss", &err), DF_OK);
	memcpy(options, w->defaults, w->defaults_size);
	assert_int_equal(df_opt_set(w->options, options, "strategy", "uniform", &err), DF_OK);
	g.n = member(df_json_at(df_json_at(r.steps, 4), 0), "sample_loss", loss, MAX_ROWS);
	assert_int_equal(w->weights(options, &g, ours, &err), DF_OK);
	for (size_t i = 0; i < g.n; i++)
		assert_true(ours[i] == 1 / (double)g.n);
	assert_int_equal(df_opt_set(w->options, options, "compat", "dataflex", &err), DF_OK);
	compare_weights(&r, w, options, df_json_at(df_json_at(r.steps, 4), 0));
	close_run(&r);
}

/* B27: ADAPT's loss is a sum over the micro-batch: weights of sigmoid's size, and a loss eight times that before. */
static void
test_adapt_sum(void **state)
{
	double weight[MAX_ROWS], before, after;
	struct run r;

	(void)state;
	open_run(&r, "weight-adapt");
	before = number(df_json_at(df_json_at(r.steps, r.ours.warmup - 1), 0), "loss", NAN);
	after = number(df_json_at(df_json_at(r.steps, r.ours.warmup), 0), "loss", NAN);
	assert_true(after > 7 * before);
	for (size_t g = r.ours.warmup; g < r.ours.max_steps; g++) {
		assert_int_equal(member(df_json_at(df_json_at(r.steps, g), 0), "weight", weight, MAX_ROWS), 8);
		for (size_t i = 0; i < 8; i++)
			assert_true(weight[i] > 0.5 && weight[i] < 1);
	}
	close_run(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_select_events),
		cmocka_unit_test(test_mix_events),
		cmocka_unit_test(test_mix_length),
		cmocka_unit_test(test_weight_events),
		cmocka_unit_test(test_warmup_rows),
		cmocka_unit_test(test_random_rows),
		cmocka_unit_test(test_rows_in_order),
		cmocka_unit_test(test_quotas),
		cmocka_unit_test(test_quota_of_nothing),
		cmocka_unit_test(test_frozen_rule),
		cmocka_unit_test(test_random_proportions),
		cmocka_unit_test(test_odm),
		cmocka_unit_test(test_odm_scaled_loss),
		cmocka_unit_test(test_doremi),
		cmocka_unit_test(test_doremi_paper),
		cmocka_unit_test(test_doremi_single),
		cmocka_unit_test(test_doremi_defects),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_uniform),
		cmocka_unit_test(test_adapt_sum),
	};

	return cmocka_run_group_tests_name("dataflex_runs", tests, NULL, NULL);
}
