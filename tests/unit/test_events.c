/*
 * test_events.c - when dynamic runs select and mix: every example and edge value of DataFlex's rules, the rules
 * themselves walked step by step, and what is refused.
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

#include "config/events.h"

static struct df_config
config(enum df_train_type type, int64_t w, int64_t u, int64_t t, double e, int64_t s)
{
	struct df_config c = { .train_type = type,
		.warmup_step = w,
		.update_step = u,
		.update_times = t,
		.num_train_epochs = e,
		.train_step = s };

	c.line = calloc(df_keys_count(), sizeof(*c.line));
	assert_non_null(c.line);
	return c;
}

static struct df_events
events(enum df_train_type type, int64_t w, int64_t u, int64_t t, double e, int64_t s, uint64_t n, uint64_t b)
{
	struct df_config c = config(type, w, u, t, e, s);
	struct df_events ev;
	struct df_err err = DF_ERR_INIT;

	assert_int_equal(df_events_init(&ev, &c, n, b, (n + b - 1) / b, &err), DF_OK);
	free(c.line);
	return ev;
}

static struct df_events
static_mix(double e, int64_t s, uint64_t n, uint64_t b)
{
	struct df_config c = config(DF_TRAIN_MIX, 100, 0, 3, e, s);
	struct df_events ev;
	struct df_err err = DF_ERR_INIT;

	c.static_mix = true;
	assert_int_equal(df_events_init(&ev, &c, n, b, 1, &err), DF_OK);
	free(c.line);
	return ev;
}

/* The steps of events of a kind, by asking at each step: "10 20 40". */
static void
expect(const struct df_events *e, enum df_event_kind kind, const char *want)
{
	char got[512] = "";

	for (uint64_t g = 0; g <= e->max_steps; g++) {
		if (df_events_at(e, g).kind == kind)
			snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%llu", *got ? " " : "",
			    (unsigned long long)g);
	}
	assert_string_equal(got, want);
}

#define SELECTS(e, want) expect(e, DF_EVENT_UPDATE, want)
#define DRAWS(e, want)   expect(e, DF_EVENT_DRAW, want)

/* The windows cover the run without gaps; df_events_at, window and next agree. */
static void
check_cover(const struct df_events *e)
{
	uint64_t at = 0;

	for (struct df_event v = df_events_window(e, 0); v.kind != DF_EVENT_NONE; v = df_events_next(e, v.step)) {
		assert_int_equal(v.step, at);
		assert_true(v.end > v.step && v.end <= e->max_steps);
		assert_int_equal(df_events_at(e, v.step).kind, v.kind);
		for (uint64_t g = v.step; g < v.end; g++) {
			const struct df_event w = df_events_window(e, g);

			assert_true(w.kind == v.kind && w.step == v.step && w.flex_epoch == v.flex_epoch &&
			    w.ordinal == v.ordinal && w.n_rows == v.n_rows && w.end == v.end);
			assert_true(g == v.step || df_events_at(e, g).kind == DF_EVENT_NONE);
		}
		at = v.end;
	}
	assert_int_equal(at, e->max_steps);
	assert_int_equal(df_events_at(e, e->max_steps).kind, DF_EVENT_NONE);
}

static void
test_select(void **state)
{
	struct df_events e = events(DF_TRAIN_SELECT, 10, 10, 2, 3, 0, 1000, 4);
	struct df_event v;

	(void)state;
	assert_int_equal(e.period, 30);
	assert_int_equal(e.max_steps, 90);
	assert_int_equal(e.times, 2);
	SELECTS(&e, "10 20 40 50 70 80");
	DRAWS(&e, "0 30 60");
	check_cover(&e);
	v = df_events_at(&e, 50); /* the ordinal begins again in each Flex epoch; n = B U, and W B of a warm-up */
	assert_int_equal(v.ordinal, 2);
	assert_int_equal(v.flex_epoch, 1);
	assert_int_equal(v.n_rows, 40);
	assert_int_equal(v.end, 60);
	v = df_events_window(&e, 65);
	assert_int_equal(v.kind, DF_EVENT_DRAW);
	assert_int_equal(v.step, 60);
	assert_int_equal(v.flex_epoch, 2);

	e = events(DF_TRAIN_SELECT, 10, 10, 2, 1.5, 0, 1000, 4); /* a part of a Flex epoch */
	assert_int_equal(e.max_steps, 45);
	SELECTS(&e, "10 20 40");
	DRAWS(&e, "0 30");
	check_cover(&e);
	v = df_events_at(&e, 40); /* n is B U even where fewer steps remain */
	assert_int_equal(v.n_rows, 40);
	assert_int_equal(v.end, 45);

	e = events(DF_TRAIN_SELECT, 10, 10, -1, 1, 0, 1000, 20); /* no T: an ordinary epoch */
	assert_int_equal(e.period, 50);
	assert_int_equal(e.max_steps, 50);
	assert_int_equal(e.times, 4);
	SELECTS(&e, "10 20 30 40");
	check_cover(&e);

	e = events(DF_TRAIN_SELECT, 5, 10, -1, 3, 40, 1000, 4); /* no T, but S: no Flex epochs */
	assert_int_equal(e.period, 0);
	assert_int_equal(e.max_steps, 40);
	assert_int_equal(e.times, 4);
	SELECTS(&e, "5 15 25 35");
	DRAWS(&e, "0");
	check_cover(&e);
	assert_int_equal(df_events_at(&e, 35).ordinal, 4);
}

static void
test_select_edges(void **state)
{
	struct df_events e = events(DF_TRAIN_SELECT, 0, 10, 2, 2, 0, 1000, 4); /* W = 0: select before step 1 */

	(void)state;
	assert_int_equal(e.max_steps, 40);
	SELECTS(&e, "0 10 20 30");
	DRAWS(&e, "");
	check_cover(&e);
	assert_int_equal(df_events_at(&e, 20).ordinal, 1);

	e = events(DF_TRAIN_SELECT, 10, 10, 2, 3, 50, 1000, 4); /* S wins, Flex epochs stay */
	assert_int_equal(e.max_steps, 50);
	SELECTS(&e, "10 20 40");
	DRAWS(&e, "0 30");
	check_cover(&e);

	e = events(DF_TRAIN_SELECT, 10, 10, 0, 2, 0, 30, 4); /* T = 0 is like T < 0: P = ceil(N / B) = 8, all warm-up */
	assert_int_equal(e.period, 8);
	assert_int_equal(e.max_steps, 16);
	assert_int_equal(e.times, 1);
	SELECTS(&e, "");
	DRAWS(&e, "0 8");
	check_cover(&e);
	assert_int_equal(df_events_at(&e, 8).n_rows, 40);

	e = events(DF_TRAIN_SELECT, 0, 7, -1, 1, 0, 1, 4); /* fewer rows than a step: P = 1 */
	assert_int_equal(e.period, 1);
	assert_int_equal(e.max_steps, 1);
	SELECTS(&e, "0");
	check_cover(&e);

	e = events(DF_TRAIN_SELECT, 1, 1, 1, 0.1, 0, 10, 1); /* ceil(E P): never nothing */
	assert_int_equal(e.max_steps, 1);
	check_cover(&e);
}

static void
test_mix(void **state)
{
	struct df_events e = events(DF_TRAIN_MIX, 100, 200, 3, 1, 0, 10000, 4);
	struct df_event v;

	(void)state;
	assert_int_equal(e.max_steps, 700);
	assert_int_equal(e.times, 3);
	SELECTS(&e, "100 300 500");
	DRAWS(&e, "0");
	check_cover(&e);
	v = df_events_at(&e, 500);
	assert_int_equal(v.ordinal, 3);
	assert_int_equal(v.n_rows, 800);
	assert_int_equal(df_events_at(&e, 0).n_rows, 400);

	e = events(DF_TRAIN_MIX, 100, 200, 0, 1, 0, 10000, 4); /* T = 0: the warm-up alone */
	assert_int_equal(e.max_steps, 100);
	SELECTS(&e, "");
	check_cover(&e);

	e = events(DF_TRAIN_MIX, 10, 10, -1, 0.5, 0, 103, 2); /* T < 0: int(51 * 0.5) */
	assert_int_equal(e.max_steps, 25);
	SELECTS(&e, "10 20");
	check_cover(&e);

	e = events(DF_TRAIN_MIX, 10, 10, -1, 3, 0, 3, 8); /* max(1, N / B) */
	assert_int_equal(e.max_steps, 3);
	check_cover(&e);

	e = events(DF_TRAIN_MIX, 100, 200, 3, 1, 1000, 10000, 4); /* S wins */
	assert_int_equal(e.max_steps, 1000);
	assert_int_equal(e.times, 5);
	SELECTS(&e, "100 300 500 700 900");
	check_cover(&e);

	e = events(DF_TRAIN_MIX, 0, 5, 2, 1, 0, 100, 4); /* W = 0: the mixer before step 1 */
	assert_int_equal(e.max_steps, 10);
	SELECTS(&e, "0 5");
	DRAWS(&e, "");
	check_cover(&e);

	e = static_mix(2, 0, 103, 4); /* one draw of all; W, U, T have no effect */
	assert_int_equal(e.max_steps, 50);
	DRAWS(&e, "0");
	SELECTS(&e, "");
	assert_int_equal(df_events_at(&e, 0).n_rows, 200);
	assert_int_equal(df_events_at(&e, 0).end, 50);
	check_cover(&e);
	e = static_mix(2, 7, 103, 4);
	assert_int_equal(e.max_steps, 7);
}

static void
test_weight_and_static(void **state)
{
	struct df_events e = events(DF_TRAIN_WEIGHT, 100, 0, 1, 3, 500, 1000, 4);
	struct df_config c = config(DF_TRAIN_STATIC, 0, 0, 1, 2.5, 0);
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(e.max_steps, 500);
	assert_int_equal(df_events_window(&e, 100).kind, DF_EVENT_NONE);
	e = events(DF_TRAIN_WEIGHT, 100, 0, 1, 1.1, 0, 200, 4); /* ceil(E * steps of an epoch) */
	assert_int_equal(e.max_steps, 56); /* 1.1 * 50 is a little above 55 in double, as in Python */
	c.max_steps = -1;
	assert_int_equal(df_events_init(&e, &c, 10, 4, 3, &err), DF_OK);
	assert_int_equal(e.max_steps, 8);
	c.max_steps = 5;
	assert_int_equal(df_events_init(&e, &c, 10, 4, 3, &err), DF_OK);
	assert_int_equal(e.max_steps, 5);
	assert_int_equal(df_events_window(&e, 0).kind, DF_EVENT_NONE);
	free(c.line);
}

/* DataFlex's rule as its loop has it, against df_events_at(), for many small numbers. */
static void
test_rules(void **state)
{
	(void)state;
	for (int64_t w = 0; w < 4; w++) {
		for (int64_t u = 1; u < 4; u++) {
			for (int64_t t = -1; t < 4; t++) {
				for (int64_t s = 0; s < 30; s += 13) {
					const struct df_events e = events(DF_TRAIN_SELECT, w, u, t, 2.3, s, 29, 3);
					const int64_t p = t > 0 ? w + u * t : s > 0 ? 0 : 10;

					assert_int_equal(e.period, p);
					assert_int_equal(e.max_steps, s > 0 ? s : (int64_t)ceil(2.3 * (double)p));
					check_cover(&e);
					for (int64_t g = 0; g < (int64_t)e.max_steps; g++) {
						const int64_t q = p ? g % p : g;
						const struct df_event v = df_events_at(&e, (uint64_t)g);

						if (q >= w && (q - w) % u == 0) {
							assert_int_equal(v.kind, DF_EVENT_UPDATE);
							assert_int_equal(v.ordinal, (q - w) / u + 1);
						} else {
							assert_int_equal(
							    v.kind, q == 0 ? DF_EVENT_DRAW : DF_EVENT_NONE);
						}
					}
				}
			}
		}
	}
}

static void
refused(struct df_config c, uint64_t per_step, const char *message)
{
	struct df_err err = DF_ERR_INIT;
	struct df_events e;

	assert_int_equal(df_events_init(&e, &c, 1000, per_step, 250, &err), DF_ECONFIG);
	if (!strstr(err.msg, message))
		fail_msg("'%s' lacks '%s'", err.msg, message);
	free(c.line);
}

static void
test_refused(void **state)
{
	struct df_config c = config(DF_TRAIN_SELECT, 10, 0, 2, 1, 0);

	(void)state;
	c.path = (char *)(uintptr_t) "x.yaml";
	for (size_t i = 0; i < df_keys_count(); i++)
		c.line[i] = strcmp(df_keys()[i].name, "update_step") == 0 ? 7 : 0;
	refused(c, 4, "x.yaml:7: update_step: must be at least 1");
	refused(config(DF_TRAIN_SELECT, 10, 0, -1, 1, 100), 4, "update_step: must be at least 1");
	refused(config(DF_TRAIN_MIX, 10, 0, 2, 1, 0), 4, "update_step: must be at least 1");
	refused(config(DF_TRAIN_MIX, 0, 10, 0, 1, 0), 4, "train_step: the run has no steps");
	refused(config(DF_TRAIN_MIX, 0, 10, -1, 0.001, 0), 4, "train_step: the run has no steps");
	refused(config(DF_TRAIN_SELECT, 0, (int64_t)1e15, (int64_t)1e15, 1, 0), 4, "update_times: the run would have");
	refused(config(DF_TRAIN_SELECT, 10, 10, 2, 1e9, 0), 1000000000000, "more than 10^18 rows");
	refused(config(DF_TRAIN_SELECT, (int64_t)9e14, 10, 2, 1, 5), 1000000, "more than 10^18 rows");
	refused(config(DF_TRAIN_WEIGHT, 0, 0, 2, 1e15, 0), 1, "num_train_epochs: the run would have");
}

static void
test_print(void **state)
{
	struct df_events e = events(DF_TRAIN_SELECT, 10, 10, 1, 1.2, 0, 1000, 4);
	struct df_buf b = DF_BUF_INIT;

	(void)state;
	df_events_print(&e, &b);
	assert_string_equal(b.data,
	    "step\twhat\tflex_epoch\tordinal\trows\tuntil\n"
	    "0\twarm-up\t0\t0\t40\t10\n"
	    "10\tselect\t0\t1\t40\t20\n"
	    "20\twarm-up\t1\t0\t40\t24\n"
	    "24\tend\t0\t0\t0\t24\n");
	df_buf_clear(&b);
	e = events(DF_TRAIN_MIX, 1, 2, 1, 1, 0, 1000, 4);
	df_events_print(&e, &b);
	assert_string_equal(b.data,
	    "step\twhat\tflex_epoch\tordinal\trows\tuntil\n"
	    "0\tinitial\t0\t0\t4\t1\n"
	    "1\tmix\t0\t1\t8\t3\n"
	    "3\tend\t0\t0\t0\t3\n");
	df_buf_clear(&b);
	e = events(DF_TRAIN_WEIGHT, 3, 0, 1, 1, 5, 1000, 4);
	df_events_print(&e, &b);
	assert_string_equal(b.data,
	    "step\twhat\tflex_epoch\tordinal\trows\tuntil\n"
	    "3\tweigh\t0\t0\t8\t5\n"
	    "5\tend\t0\t0\t0\t5\n");
	df_buf_clear(&b);
	e = events(DF_TRAIN_SELECT, 0, 1, -1, 1, (int64_t)1e15, 1000, 4); /* not all of 10^15 lines */
	df_events_print(&e, &b);
	assert_non_null(strstr(b.data, "\n# and more after step 1000000\n"));
	df_buf_release(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_select),
		cmocka_unit_test(test_select_edges),
		cmocka_unit_test(test_mix),
		cmocka_unit_test(test_weight_and_static),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
