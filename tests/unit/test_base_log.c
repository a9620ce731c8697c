/*
 * test_base_log.c - words from many threads arrive whole, one at a time, and on one line.  Also run under TSan.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/pool.h"

struct heard {
	int inside, overlaps, lines, torn; /* plain on purpose: the log's lock must protect them */
	uint64_t progress;
	char last[DF_ERR_MAX];
	enum df_log_level level;
};

static void
hear(void *ctx, enum df_log_level level, const char *msg)
{
	struct heard *h = ctx;
	int a, b;

	h->overlaps += h->inside++ != 0;
	h->lines++;
	h->level = level;
	snprintf(h->last, sizeof(h->last), "%s", msg);
	if (sscanf(msg, "line %d and again %d", &a, &b) == 2 && a != b)
		h->torn++;
	h->inside--;
}

static void
hear_progress(void *ctx, uint64_t done, uint64_t total, const char *unit)
{
	struct heard *h = ctx;

	(void)total;
	(void)unit;
	h->overlaps += h->inside++ != 0;
	h->progress += done;
	h->inside--;
}

static void
talk(void *ctx, size_t i, int worker)
{
	(void)ctx;
	(void)worker;
	df_info("line %d and again %d", (int)i, (int)i);
	df_progress(1, 10, "rows");
}

static void
lines_come_whole_from_many_threads(void **state)
{
	struct heard h = { 0 };
	struct df_pool *p = NULL;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	df_log_set_sink(hear, &h);
	df_progress_set_sink(hear_progress, &h);
	assert_int_equal(df_pool_new(&p, 4, &err), DF_OK);
	df_pool_for(p, 2000, talk, NULL);
	df_pool_free(p);
	df_log_set_sink(NULL, NULL);
	df_progress_set_sink(NULL, NULL);
	df_info("nobody hears this");
	df_progress(1, 1, "rows");
	assert_int_equal(h.lines, 2000);
	assert_int_equal(h.progress, 2000);
	assert_int_equal(h.overlaps + h.torn, 0);
}

static void
a_message_is_one_line(void **state)
{
	struct heard h = { 0 };
	char big[3 * DF_ERR_MAX];

	(void)state;
	df_log_set_sink(hear, &h);
	df_warn("a\nb\x1b[2Jc");
	assert_string_equal(h.last, "a b [2Jc");
	assert_int_equal(h.level, DF_LOG_WARN);
	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	df_debug("%s", big);
	assert_int_equal(strlen(h.last), DF_ERR_MAX - 1);
	df_log_set_sink(NULL, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_come_whole_from_many_threads),
		cmocka_unit_test(a_message_is_one_line),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
