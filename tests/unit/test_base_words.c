/*
 * What a message says of a word that is none of the known ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/words.h"

static void
nearest_suggests_only_what_is_near(void **state)
{
	static const char *const names[] = { "learning_rate", "num_train_epochs", "lora_rank", "seed", NULL };

	(void)state;
	assert_string_equal(df_nearest("learning-rate", names), "learning_rate");
	assert_string_equal(df_nearest("leraning_rate", names), "learning_rate");
	assert_string_equal(df_nearest("lora_rnak", names), "lora_rank");
	assert_string_equal(df_nearest("num_train", names), "num_train_epochs");
	assert_string_equal(df_nearest("sed", names), "seed");
	assert_string_equal(df_nearest("SEED", names), "seed");
	assert_null(df_nearest("optimizer", names));
	assert_null(df_nearest("", names));
}

static void
unknown_words_get_what_helps(void **state)
{
	static const char *const few[] = { "alpaca", "sharegpt", "openai", NULL };
	static const char *const many[] = { "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "b1", "b2", "b3",
		"last", NULL };
	static const char *const none[] = { NULL };
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(df_unknown(&err, DF_ECONFIG, "formatting", "sharegtp", few, NULL), DF_ECONFIG);
	assert_int_equal(err.code, DF_ECONFIG);
	assert_string_equal(err.msg, "unknown formatting 'sharegtp'; did you mean 'sharegpt'?");
	df_unknown(&err, DF_EUSAGE, "formatting", "csv", few, NULL);
	assert_string_equal(err.msg, "unknown formatting 'csv'; known: alpaca, sharegpt, openai");
	df_unknown(&err, DF_EUSAGE, "method", "csv", few, "--list names them");
	assert_string_equal(err.msg, "unknown method 'csv'; --list names them");
	/* What is near is said before any hint, the last of many too; many are not listed. */
	df_unknown(&err, DF_EUSAGE, "method", "lats", many, "--list names them");
	assert_string_equal(err.msg, "unknown method 'lats'; did you mean 'last'?");
	df_unknown(&err, DF_EUSAGE, "method", "csvcsv", many, NULL);
	assert_string_equal(err.msg, "unknown method 'csvcsv'");
	df_unknown(&err, DF_EUSAGE, "method", "csv", none, NULL);
	assert_string_equal(err.msg, "unknown method 'csv'");
	assert_int_equal(df_unknown(NULL, DF_EUSAGE, "method", "csv", few, NULL), DF_EUSAGE);
}

static void
suggestions_are_added_to_errors(void **state)
{
	static const char *const names[] = { "bytes", NULL };
	struct df_err err = DF_ERR_INIT;

	(void)state;
	df_suggest(&err, "byte", names); /* there is no error */
	assert_string_equal(err.msg, "");
	df_fail(&err, DF_ENOINPUT, "byte: no such file");
	df_suggest(&err, "elsewhere", names);
	assert_string_equal(err.msg, "byte: no such file");
	df_suggest(&err, "byte", names);
	assert_string_equal(err.msg, "byte: no such file; did you mean 'bytes'?");
	df_suggest(NULL, "byte", names);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nearest_suggests_only_what_is_near),
		cmocka_unit_test(unknown_words_get_what_helps),
		cmocka_unit_test(suggestions_are_added_to_errors),
	};

	return cmocka_run_group_tests_name("words", tests, NULL, NULL);
}
