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
#include "mix/mix.h"
#include "select/select.h"

#define MAX_DOMAINS 8
#define MAX_ROWS    256

/* ---- a run that was recorded -------------------------------------------------------------- */

struct run {
	const char *name;
	struct df_json *json;
	const struct df_json_value *root, *config, *params, *events, *steps;
	struct df_events ours;
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
	r.ours.max_steps = 8; /* as without train_step: the events are the same */
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
	};

	return cmocka_run_group_tests_name("dataflex_runs", tests, NULL, NULL);
}
