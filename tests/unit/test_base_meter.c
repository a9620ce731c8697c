/*
 * test_base_meter.c - the line that says how far a job is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/meter.h"

static void
test_lines(void **state)
{
	struct df_meter m = { .unit = NULL };
	char line[256];

	(void)state;
	/* The first count of a unit begins a phase, and has no rate. */
	assert_false(df_meter_line(&m, 10, 1, 5, 105, "rows", line, sizeof(line)));
	assert_false(df_meter_line(&m, 10.5, 1, 6, 105, "rows", line, sizeof(line)));
	assert_true(df_meter_line(&m, 12, 1, 25, 105, "rows", line, sizeof(line)));
	assert_string_equal(line, "25/105 rows, 10.0/s (24 %), 0:08 left");
	/* A line is due a second after the latest one, not after the first call. */
	assert_false(df_meter_line(&m, 12.9, 1, 30, 105, "rows", line, sizeof(line)));
	assert_true(df_meter_line(&m, 20, 1, 55, 105, "rows", line, sizeof(line)));
	assert_string_equal(line, "55/105 rows, 5.00/s (52 %), 0:10 left");
	/* Without a total there is no time left; hours have three parts. */
	assert_true(df_meter_line(&m, 30, 1, 2005, 0, "rows", line, sizeof(line)));
	assert_string_equal(line, "2005 rows, 100/s");
	assert_true(df_meter_line(&m, 1010, 1, 2005, 40005, "rows", line, sizeof(line)));
	assert_string_equal(line, "2005/40005 rows, 2.00/s (5 %), 5:16:40 left");
}

static void
test_phases(void **state)
{
	struct df_meter m = { .unit = NULL };
	char line[256];

	(void)state;
	assert_false(df_meter_line(&m, 0, 1, 0, 10, "rows", line, sizeof(line)));
	assert_true(df_meter_line(&m, 2, 1, 10, 10, "rows", line, sizeof(line)));
	assert_string_equal(line, "10/10 rows, 5.00/s (100 %), 0:00 left");
	/* Another unit, or a count that went back: a new phase. */
	assert_false(df_meter_line(&m, 4, 1, 20, 0, "pairs", line, sizeof(line)));
	assert_true(df_meter_line(&m, 6, 1, 23, 0, "pairs", line, sizeof(line)));
	assert_string_equal(line, "23 pairs, 1.50/s");
	assert_false(df_meter_line(&m, 9, 1, 2, 0, "pairs", line, sizeof(line)));
	assert_true(df_meter_line(&m, 10, 1, 4, 0, "pairs", line, sizeof(line)));
	assert_string_equal(line, "4 pairs, 2.00/s");
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_lines), cmocka_unit_test(test_phases) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
