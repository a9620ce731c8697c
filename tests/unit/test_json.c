/* json.h: values, walks, limits, and what is refused with which place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"

static struct df_json *
parsed(const char *text)
{
	struct df_err err = DF_ERR_INIT;
	struct df_json *j = NULL;

	if (df_json_parse(&j, text, strlen(text), "t", &err) != DF_OK)
		fail_msg("%s", err.msg);
	return j;
}

/* As they stand in tokenizers' configurations: kept as reals, and what is beside them or inside strings stays. */
static void
test_big_integers(void **state)
{
	struct df_json *j = parsed("{\"m\": 1000000000000000019884624838656, \"s\": \"\\\"9999999999999999999999\", "
				   "\"last\": 9223372036854775807, \"next\": [9223372036854775808], "
				   "\"x\": 12345678901234567890.5, \"e\": 1e20, \"n\": -99999999999999999999}");
	const struct df_json_value *r = df_json_root(j);
	int64_t i = 0;
	double d = 0;

	(void)state;
	assert_true(df_json_number(df_json_get(r, "m"), &d) && d == 1e30);
	assert_false(df_json_int(df_json_get(r, "m"), &i));
	assert_string_equal(df_json_str(df_json_get(r, "s"), NULL), "\"9999999999999999999999");
	assert_true(df_json_int(df_json_get(r, "last"), &i) && i == INT64_MAX);
	assert_true(df_json_number(df_json_at(df_json_get(r, "next"), 0), &d) && d == 9223372036854775808.0);
	assert_true(df_json_number(df_json_get(r, "x"), &d) && d == 12345678901234567890.5);
	assert_true(df_json_number(df_json_get(r, "e"), &d) && d == 1e20);
	assert_true(df_json_number(df_json_get(r, "n"), &d) && d == -99999999999999999999.0);
	df_json_free(j);
}

static void
test_values(void **state)
{
	struct df_json *j =
	    parsed("{\"a\": 1, \"b\": [true, null, \"x\\u0000y\", 2.5], \"c\": {}, \"big\": 9007199254740993}");
	const struct df_json_value *r = df_json_root(j), *b = df_json_get(r, "b");
	int64_t i = 0;
	double d = 0;
	size_t n = 0;

	(void)state;
	assert_int_equal(df_json_type(r), DF_JSON_OBJECT);
	assert_int_equal(df_json_size(r), 4);
	assert_true(df_json_int(df_json_get(r, "big"), &i));
	assert_true(i == 9007199254740993);
	assert_int_equal(df_json_size(b), 4);
	assert_true(df_json_bool(df_json_at(b, 0), false));
	assert_int_equal(df_json_type(df_json_at(b, 1)), DF_JSON_NULL);
	assert_memory_equal(df_json_str(df_json_at(b, 2), &n), "x\0y", 4);
	assert_int_equal(n, 3);
	assert_true(df_json_number(df_json_at(b, 3), &d) && d == 2.5);
	assert_false(df_json_int(df_json_at(b, 3), &i));
	assert_null(df_json_at(b, 4));
	assert_null(df_json_get(r, "zzz"));
	assert_null(df_json_get(b, "a"));
	assert_null(df_json_str(NULL, &n));
	assert_int_equal(df_json_type(NULL), DF_JSON_ABSENT);
	assert_int_equal(df_json_size(NULL), 0);
	df_json_free(j);
}

static void
test_walk(void **state)
{
	struct df_json *j = parsed("{\"z\": 1, \"a\": 2, \"m\": 3, \"a\": 4}");
	const struct df_json_member *m = NULL;
	const struct df_json_value *v;
	char seen[32] = "";
	const char *key;
	int64_t i;

	(void)state;
	/* File order; of a duplicate the last value. */
	while ((m = df_json_next(df_json_root(j), m, &key, &v)) != NULL) {
		assert_true(df_json_int(v, &i));
		snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s%d ", key, (int)i);
	}
	assert_string_equal(seen, "z1 a4 m3 ");
	assert_null(df_json_next(NULL, NULL, &key, &v));
	df_json_free(j);
}

static void
test_members(void **state)
{
	struct df_json *j =
	    parsed("{\"i\": 7, \"s\": \"t\", \"n\": null, \"d\": 2, \"b\": true, \"nul\": \"a\\u0000b\"}");
	const struct df_json_value *r = df_json_root(j);
	struct df_err err = DF_ERR_INIT;
	const char *s;
	int64_t i;
	double d;
	bool b;

	(void)state;
	assert_int_equal(df_json_member_int(r, "i", 0, 0, 10, &i, &err), DF_OK);
	assert_int_equal(i, 7);
	assert_int_equal(df_json_member_int(r, "n", 5, 0, 1, &i, &err), DF_OK);
	assert_int_equal(i, 5);
	assert_int_equal(df_json_member_int(r, "i", 0, 0, 6, &i, &err), DF_ERANGE);
	assert_non_null(strstr(err.msg, "'i': 7 is not in [0, 6]"));
	assert_int_equal(df_json_member_int(r, "s", 0, 0, 6, &i, &err), DF_EFORMAT);
	assert_non_null(strstr(err.msg, "'s': expected an integer, found a string"));
	assert_int_equal(df_json_member_double(r, "d", 0, &d, &err), DF_OK);
	assert_true(d == 2.0);
	assert_int_equal(df_json_member_bool(r, "absent", true, &b, &err), DF_OK);
	assert_true(b);
	assert_int_equal(df_json_member_bool(r, "i", true, &b, &err), DF_EFORMAT);
	assert_int_equal(df_json_member_str(r, "absent", "dflt", &s, &err), DF_OK);
	assert_string_equal(s, "dflt");
	assert_int_equal(df_json_member_str(r, "nul", "", &s, &err), DF_EFORMAT);
	df_json_free(j);
}

static void
test_write(void **state)
{
	static const char text[] = "{\"b\":[1,2.5,\"\\u0001é\",null,true],\"a\":{}}";
	struct df_json *j = parsed(text);
	struct df_buf b = DF_BUF_INIT;

	(void)state;
	df_json_write(&b, df_json_root(j));
	assert_string_equal(b.data, text);
	df_buf_release(&b);
	df_json_free(j);
}

static void
test_refused(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *says;
	} bad[] = {
		{ "", DF_EFORMAT, "t:" },
		{ "{\"a\": 1,\n \"b\": }", DF_EFORMAT, "t:2:" },
		{ "{} x", DF_EFORMAT, "end of file" },
		{ "\"\xff\"", DF_EFORMAT, "UTF-8" },
		{ "\"\xc0\x80\"", DF_EFORMAT, "UTF-8" },
		{ "\"\xed\xa0\x80\"", DF_EFORMAT, "UTF-8" },
		{ "\"\\ud800\"", DF_EFORMAT, "nicode" },
		{ "\"\\udc00\\ud800\"", DF_EFORMAT, "nicode" },
		{ "{\"a\\u0000b\": 1}", DF_EFORMAT, "NUL" },
		{ "1e999", DF_ERANGE, "overflow" },
		{ "NaN", DF_EFORMAT, "t:1:" },
		{ "[1,]", DF_EFORMAT, "t:1:" },
		{ "\"a", DF_EFORMAT, "t:1:" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct df_err err = DF_ERR_INIT;
		struct df_json *j = NULL;
		int rc = df_json_parse(&j, bad[i].text, strlen(bad[i].text), "t", &err);

		if (rc != bad[i].code || strstr(err.msg, bad[i].says) == NULL || j != NULL)
			fail_msg("case %zu: %d, '%s'", i, rc, err.msg);
	}
}

static void
test_limits(void **state)
{
	size_t n = 3000000;
	char *deep = malloc(n + 1), path[] = "/tmp/df-test-json-XXXXXX";
	struct df_err err = DF_ERR_INIT;
	struct df_json *j = NULL;
	int fd = mkstemp(path);

	(void)state;
	memset(deep, '[', n);
	deep[n] = '\0';
	assert_int_equal(df_json_parse(&j, deep, n, "t", &err), DF_ERANGE);
	assert_non_null(strstr(err.msg, "levels deep"));
	/* As deep as allowed; brackets in strings do not count. */
	memset(deep + DF_JSON_MAX_DEPTH, ']', DF_JSON_MAX_DEPTH);
	assert_int_equal(df_json_parse(&j, deep, 2 * DF_JSON_MAX_DEPTH, "t", &err), DF_OK);
	df_json_free(j);
	j = NULL;
	memset(deep, '[', n);
	deep[0] = deep[n - 1] = '"';
	assert_int_equal(df_json_parse(&j, deep, n, "t", &err), DF_OK);
	df_json_free(j);
	j = NULL;
	assert_int_equal(write(fd, "[1,2,3]", 7), 7);
	close(fd);
	assert_int_equal(df_json_load(&j, path, 6, &err), DF_ERANGE);
	assert_int_equal(df_json_load(&j, path, 7, &err), DF_OK);
	df_json_free(j);
	unlink(path);
	j = NULL;
	assert_int_equal(df_json_load(&j, path, 7, &err), DF_ENOINPUT);
	assert_non_null(strstr(err.msg, path));
	free(deep);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_big_integers),
		cmocka_unit_test(test_walk),
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
