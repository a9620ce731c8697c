/*
 * test_schedule.c - every schedule against transformers' get_scheduler
 * (tests/golden/schedule.py), plateaus against PyTorch's (tests/golden/plateau.py), the best model and early stopping,
 * and what a schedule refuses.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/best.h"
#include "train/schedule.h"

/* Both sides compute in double; only the order of a few operations may differ. */
#define TOL 1e-14

struct block {
	char name[64];
	double lr;
	unsigned steps, warmup;
	struct df_config_pair pair[8];
	struct df_config_map map;
};

/* "schedule NAME lr=.. steps=.. warmup=.. KEY=VALUE..." */
static void
parse_block(struct block *b, char *line)
{
	char *save = NULL;

	memset(b, 0, sizeof(*b));
	b->map.v = b->pair;
	for (char *w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		char *eq = strchr(w, '=');

		if (!eq) {
			snprintf(b->name, sizeof(b->name), "%s", w);
			continue;
		}
		*eq = 0;
		if (strcmp(w, "lr") == 0)
			b->lr = strtod(eq + 1, NULL);
		else if (strcmp(w, "steps") == 0)
			b->steps = (unsigned)strtoul(eq + 1, NULL, 10);
		else if (strcmp(w, "warmup") == 0)
			b->warmup = (unsigned)strtoul(eq + 1, NULL, 10);
		else
			b->pair[b->map.n++] = (struct df_config_pair){ w, eq + 1, 0 };
	}
}

static enum df_schedule_type
type_of(const char *name)
{
	unsigned i = 0;

	while (df_schedule_names[i] && strcmp(df_schedule_names[i], name) != 0)
		i++;
	if (!df_schedule_names[i])
		fail_msg("no schedule %s", name);
	return (enum df_schedule_type)i;
}

static void
test_table(void **state)
{
	const char *root = getenv("DF_SRCDIR");
	struct df_schedule s = { 0 };
	struct df_err err = DF_ERR_INIT;
	struct block b = { 0 };
	char *path = NULL, *text = NULL, *save = NULL;
	double worst = 0;
	uint64_t i = 0;
	size_t n, n_blocks = 0, n_values = 0;

	(void)state;
	assert_int_equal(df_path_join(&path, root ? root : ".", "tests/golden/schedule.txt", &err), 0);
	assert_int_equal(df_file_get(path, 1 << 20, &text, &n, &err), 0);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (strncmp(line, "schedule ", 9) == 0) {
			parse_block(&b, line);
			if (df_schedule_init(&s, type_of(b.name), &b.map, b.lr, b.steps, b.warmup, 0, &err) != DF_OK)
				fail_msg("%s", err.msg);
			i = 0;
			n_blocks++;
			continue;
		}
		double want = strtod(line, NULL), got = df_schedule_lr(&s, i), d = fabs(got - want);

		if (!(d <= TOL * b.lr))
			fail_msg(
			    "%s, step %llu: %.17g, transformers has %.17g", b.name, (unsigned long long)i, got, want);
		worst = d > worst ? d : worst;
		i++;
		n_values++;
	}
	print_message("# %zu schedules, %zu values, largest difference %.2e\n", n_blocks, n_values, worst);
	assert_true(n_blocks >= 16 && n_values > 400);
	free(text);
	free(path);
}

static void
test_plateau(void **state)
{
	const char *root = getenv("DF_SRCDIR");
	struct df_schedule s = { 0 };
	struct df_best_opts o = { .schedule = &s };
	struct df_best best = DF_BEST_INIT;
	struct df_err err = DF_ERR_INIT;
	struct block b = { 0 };
	char *path = NULL, *text = NULL, *save = NULL, *end;
	size_t n, n_blocks = 0, n_values = 0, n_lowered = 0;

	(void)state;
	assert_int_equal(df_path_join(&path, root ? root : ".", "tests/golden/plateau.txt", &err), 0);
	assert_int_equal(df_file_get(path, 1 << 20, &text, &n, &err), 0);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		double metric, want, got;

		if (strncmp(line, "plateau ", 8) == 0) {
			parse_block(&b, line + 8);
			if (df_schedule_init(&s, DF_SCHEDULE_REDUCE_LR_ON_PLATEAU, &b.map, strtod(b.name, NULL), 30, 0,
				0, &err) != DF_OK)
				fail_msg("%s", err.msg);
			best = (struct df_best)DF_BEST_INIT;
			n_blocks++;
			continue;
		}
		metric = strtod(line, &end);
		want = strtod(end, NULL);
		df_best_update(&best, &o, metric, n_values);
		got = df_schedule_lr(&s, n_values) * best.plateau.scale;
		/* the rate is kept as a multiple of the first one: a rounding or two */
		if (!(fabs(got - want) <= 1e-15))
			fail_msg("block %zu, metric %g: %.17g, PyTorch has %.17g", n_blocks, metric, got, want);
		n_lowered += want < 0.002;
		n_values++;
	}
	assert_true(n_blocks >= 11 && n_values == n_blocks * 30 && n_lowered > 50);
	free(text);
	free(path);
}

/* EarlyStoppingCallback: patience counts evaluations that are not better by more than the threshold. */
static void
test_best(void **state)
{
	static const struct {
		double metric;
		uint64_t best, patience;
	} steps[] = { { 3, 1, 0 }, { 2, 2, 0 }, { 1.95, 3, 1 }, { 2, 3, 2 }, { NAN, 3, 3 }, { 1.8, 6, 0 },
		{ 1.9, 6, 1 }, { 1.8, 6, 2 }, { 2, 6, 3 }, { 3, 6, 4 } };
	struct df_schedule s = { .type = DF_SCHEDULE_CONSTANT };

	(void)state;
	for (int greater = 0; greater < 2; greater++) {
		const struct df_best_opts o = { .greater = greater, .patience = 4, .min_delta = 0.1, .schedule = &s };
		struct df_best b = DF_BEST_INIT;

		for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
			assert_false(b.stopped);
			df_best_update(&b, &o, greater ? -steps[i].metric : steps[i].metric, i + 1);
			assert_int_equal(b.step, steps[i].best);
			assert_int_equal(b.patience, steps[i].patience);
		}
		assert_true(b.stopped);
		assert_true(b.plateau.scale == 1);
	}
}

static void
test_warmup(void **state)
{
	struct df_schedule s;

	(void)state;
	/* transformers' get_warmup_steps: steps above 0 win, else ceil(ratio * total) */
	assert_int_equal(df_schedule_init(&s, DF_SCHEDULE_LINEAR, NULL, 1, 101, 0, 0.1, NULL), 0);
	assert_int_equal(s.n_warmup, 11);
	assert_int_equal(df_schedule_init(&s, DF_SCHEDULE_LINEAR, NULL, 1, 101, 3, 0.1, NULL), 0);
	assert_int_equal(s.n_warmup, 3);
	assert_true(df_schedule_lr(&s, 0) == 0);
	assert_true(df_schedule_lr(&s, 3) == 1);
	assert_true(df_schedule_lr(&s, 101) == 0);
}

static void
refused(const char *name, const char *key, const char *value, const char *word)
{
	struct df_config_pair pair = { (char *)(uintptr_t)key, (char *)(uintptr_t)value, 0 };
	struct df_config_map map = { &pair, key ? 1 : 0, 1 };
	struct df_err err = DF_ERR_INIT;
	struct df_schedule s;

	assert_int_equal(df_schedule_init(&s, type_of(name), &map, 1e-3, 10, 0, 0, &err), DF_ECONFIG);
	if (!strstr(err.msg, word))
		fail_msg("'%s' does not mention %s", err.msg, word);
}

static void
test_refused(void **state)
{
	(void)state;
	refused("reduce_lr_on_plateau", "factor", "1", "factor");
	refused("reduce_lr_on_plateau", "mode", "up", "neither min nor max");
	refused("reduce_lr_on_plateau", "patience", "-1", "patience");
	refused("linear", "num_cycles", "2", "num_cycles");
	refused("cosine", "num_cycles", "two", "two");
	refused("cosine_with_min_lr", NULL, NULL, "min_lr");
	refused("polynomial", "lr_end", "1", "lr_end");
	refused("inverse_sqrt", "timescale", "9", "timescale");
	refused("warmup_stable_decay", "decay_type", "square", "square");
	refused("warmup_stable_decay", "num_decay_steps", "-1", "num_decay_steps");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_plateau),
		cmocka_unit_test(test_best),
		cmocka_unit_test(test_warmup),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
