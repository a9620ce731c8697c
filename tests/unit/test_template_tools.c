/*
 * test_template_tools.c - Python's spelling of JSON, and tools that are not what they should be.
 *
 * That descriptions and calls equal LLaMA-Factory's is test_encode_templates' business.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chat/json_python.h"
#include "chat/tools.h"

static struct df_err error;

#define OK(call)                                              \
	do {                                                  \
		if ((call) != 0)                              \
			fail_msg("%s: %s", #call, error.msg); \
	} while (0)

/* JSON in, what Python writes out. */
static void
expect_json(const char *in, int indent, const char *want)
{
	struct df_buf out = DF_BUF_INIT;
	struct df_json *j;

	OK(df_json_parse(&j, in, strlen(in), "test", &error));
	df_json_write_python(&out, df_json_root(j), indent, 0);
	OK(df_buf_check(&out, &error));
	assert_string_equal(out.data, want);
	df_json_free(j);
	df_buf_release(&out);
}

static void
numbers(void **state)
{
	/* repr() of edges, of powers of two and of random bits, as CPython 3.11 has it. */
	static const char *const reprs[] = {
		"0.0",
		"-0.0",
		"1.0",
		"-1.5",
		"0.1",
		"0.0001",
		"9.9999e-05",
		"1e-05",
		"1000000000000000.0",
		"1e+16",
		"9999999999999998.0",
		"1.2345678901234568e+17",
		"1e+22",
		"1e+23",
		"5e-324",
		"2.2250738585072014e-308",
		"1.7976931348623157e+308",
		"5.684341886080802e-14",
		"5e-324",
		"1.152921504606847e+18",
		"5.960464477539063e-08",
		"9007199254740992.0",
		"0.3",
		"0.6666666666666666",
		"0.3333333333333333",
		"100.0",
		"1e+100",
		"4.35",
		"0.000123456",
		"12345.6789",
		"299792458.0",
		"6.02214076e+23",
		"1.6e-19",
		"9.332636185032189e-302",
		"3.054936363499605e-151",
		"7.888609052210118e-31",
		"6.617444900424222e-24",
		"2.842170943040401e-14",
		"1.1368683772161603e-13",
		"9.5367431640625e-07",
		"1.5111572745182865e+23",
		"1.6069380442589903e+60",
		"1.0715086071862673e+301",
		"10928588.983213553",
		"1.4186613525849614e+134",
		"-7.571968556055867e-74",
		"-1.4074705188261364e+113",
		"-3.3339745473042614e-121",
		"-1.2342180766211395e-271",
		"-5.126864004244935e+111",
		"-2.1520217579844227e+32",
		"0.1399601630397701",
		"1.01853664031722e-244",
		"2.9704598186234577e-115",
		"3.0534183338726823e+150",
		"-2.3027782228163463e+146",
		"3.56409621163656e+161",
		"6.352929017207453e-183",
		"0.3146575865605324",
		"-1.2761724801771812e-23",
		"2.0868668176225336e+195",
		"3.66898827745704e-84",
		"-1.389122273370197e+145",
		"1.7548715433165102e+172",
		"-1039514241563211.8",
		"5.7804021771411506e-220",
		"-2.8497478716107576e-163",
		"3.490691392124745e+240",
		"1.3282314387596086e-145",
		"-2.9317061175715426e+274",
		"4.1124768973349897e-302",
		"-2.5983853818656714e+29",
		"-2.5839922981649337e+259",
		"3.7615508677292285e-104",
		"2.1435728770450893e-103",
		"6.3583676891104784e+78",
		"2.0062829023357212e-63",
		"-6.792475937705741e+155",
		"-1.1878910286585398e-153",
		"1.1477511623364303e-84",
		"-6.384685499984821e+269",
		"6.725524671613862e-66",
		"-3.3367034274052276e+265",
		"3.877694405952627e+164",
		"4.653705104647486e-282",
		"4.570939674669643e+203",
		"-2.4421404212946136e+229",
		"2.26797932753915e+17",
		"1.7861671810658467e+101",
		"-2.602349164887994e+83",
		"-1.8724773489262678e-202",
		"-2.535696537529436e-190",
		"-1.3710624349377491e-52",
		"3.013890678074884e-227",
		"1.6848352620292958e+130",
		"2.8283307810991783e+69",
		"-1.8226019816232835e-66",
		"7.721876539108463e-81",
		"5.2524808150207456e+274",
		"1.7032929977986795e-91",
		"88637315.64805965",
		"-2.3695306911835436e+233",
		"-8.801629211661505e+245",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(reprs) / sizeof(reprs[0]); i++)
		expect_json(reprs[i], 0, reprs[i]);
	/* However it was written. */
	expect_json("[1E5, 1.50, 0.1e1, 1e-7, -0, 100e-2, 9223372036854775807]", 0,
	    "[100000.0, 1.5, 1.0, 1e-07, 0, 1.0, 9223372036854775807]");
}

static void
structure(void **state)
{
	(void)state;
	expect_json(" {\"b\":1,\"a\":[ ],\"c\":{},\"d\":[1,{\"e\":null}]} ", 0,
	    "{\"b\": 1, \"a\": [], \"c\": {}, \"d\": [1, {\"e\": null}]}");
	expect_json("{\"b\":1,\"a\":[],\"c\":{},\"d\":[true,{\"e\":null}]}", 4,
	    "{\n    \"b\": 1,\n    \"a\": [],\n    \"c\": {},\n    \"d\": [\n        true,\n        {\n"
	    "            \"e\": null\n        }\n    ]\n}");
	expect_json("\"\\u0000\\u001f\\u007f\\b\\f\\n\\r\\t\\\"\\\\\\/\\u00e9\\ud83d\\ude42\\u2028\"", 0,
	    "\"\\u0000\\u001f\x7f\\b\\f\\n\\r\\t\\\"\\\\/\u00e9\U0001F642\u2028\"");
	/* Of equal keys the last value, in the first one's place. */
	expect_json("{\"a\": 1, \"b\": 2, \"a\": 3}", 0, "{\"a\": 3, \"b\": 2}");
}

/* str() of a value, as an f-string has it. */
static void
texts(void **state)
{
	static const char *const cases[][2] = {
		{ "\"as it is: ' \\\" \\n\"", "as it is: ' \" \n" },
		{ "null", "None" },
		{ "[true, false, 1, 1.0, null]", "[True, False, 1, 1.0, None]" },
		{ "[\"a\", \"it's\", \"say \\\"x\\\"\", \"'\\\"\"]", "['a', \"it's\", 'say \"x\"', '\\'\"']" },
		{ "{\"k\": [\"\\t\\u0001\\u00a0\\u200b\\u00e9\\ud83d\\ude42\\\\\"]}",
		    "{'k': ['\\t\\x01\\xa0\\u200b\u00e9\U0001F642\\\\']}" },
		{ "[\"\\udb40\\udc01\"]", "['\\U000e0001']" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct df_buf out = DF_BUF_INIT;
		struct df_json *j;

		OK(df_json_parse(&j, cases[i][0], strlen(cases[i][0]), "test", &error));
		df_json_str_python(&out, df_json_root(j));
		assert_string_equal(out.data, cases[i][1]);
		df_json_free(j);
		df_buf_release(&out);
	}
}

/* Each is refused, and the message holds the words. */
static void
malformed(void **state)
{
	static const struct {
		enum df_tool_format format;
		bool call;
		const char *text, *words;
	} cases[] = {
		{ DF_TOOLS_QWEN, false, "", "tools" },
		{ DF_TOOLS_QWEN, false, "[{}", "tools:1" },
		{ DF_TOOLS_QWEN, false, "{\"name\": \"f\"}", "expected an array, found an object" },
		{ DF_TOOLS_QWEN, false, "null", "found null" },
		{ DF_TOOLS_QWEN, false, "[{}, \"f\"]", "tools[1]: expected an object, found a string" },
		{ DF_TOOLS_DEFAULT, false, "[{}]", "'name'" },
		{ DF_TOOLS_DEFAULT, false, "[{\"name\": \"f\"}]", "'parameters': expected an object, found nothing" },
		{ DF_TOOLS_DEFAULT, false, "[{\"name\": \"f\", \"parameters\": {\"properties\": []}}]",
		    "'properties'" },
		{ DF_TOOLS_DEFAULT, false, "[{\"name\": \"f\", \"parameters\": {\"properties\": {\"x\": 1}}}]",
		    "parameter 'x'" },
		{ DF_TOOLS_DEFAULT, false,
		    "[{\"name\": \"f\", \"parameters\": {\"properties\": {\"x\": {\"enum\": 1}}}}]", "'enum'" },
		{ DF_TOOLS_DEFAULT, false, "[{\"type\": \"function\"}]", "'function'" },
		{ DF_TOOLS_GLM4, false, "[{\"name\": 1}]", "'name': expected a string" },
		{ DF_TOOLS_QWEN, true, "", "expected one JSON value, found 0" },
		{ DF_TOOLS_QWEN, true, "{}, {}", "expected one JSON value, found 2" },
		{ DF_TOOLS_QWEN, true, "] [", "function call" },
		{ DF_TOOLS_QWEN, true, "call me", "function call" },
		{ DF_TOOLS_QWEN, true, "[{\"name\": \"f\", \"arguments\": {}}, 7]", "call 1: expected an object" },
		{ DF_TOOLS_QWEN, true, "{\"name\": \"f\"}", "call 0: no 'arguments'" },
		{ DF_TOOLS_QWEN, true, "{\"name\": [], \"arguments\": {}}", "call 0: 'name'" },
		{ DF_TOOLS_QWEN, true, "{\"name\": \"f\", \"arguments\": 99999999999999999999}", "function call" },
		{ DF_TOOLS_GLM4, true, "[]", "0 calls" },
		{ DF_TOOLS_GLM4_MOE, true, "{\"name\": \"f\", \"arguments\": \"{}\"}",
		    "'arguments': expected an object" },
		{ DF_TOOLS_SEED_OSS, true, "{\"name\": \"f\", \"arguments\": null}",
		    "'arguments': expected an object" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct df_buf out = DF_BUF_INIT;
		const char *s = cases[i].text;
		int rc = cases[i].call ? df_tools_call(cases[i].format, s, strlen(s), &out, &error)
				       : df_tools_describe(cases[i].format, s, strlen(s), NULL, &out, &error);

		if (rc != DF_EFORMAT && rc != DF_ERANGE)
			fail_msg("%s: %d", s, rc);
		if (!strstr(error.msg, cases[i].words))
			fail_msg("%s: '%s' is not in '%s'", s, cases[i].words, error.msg);
		df_buf_release(&out);
	}
}

/* Any prefix and any bent byte of tools and calls is text or an error, in every format. */
static void
bent(void **state)
{
	static const char tools[] = "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": "
				    "{\"required\": [\"x\"], \"properties\": {\"x\": {\"type\": [\"a\"], \"enum\": "
				    "[\"b\"], \"items\": {\"type\": 1}}}}}}]";
	static const char call[] = "[{\"name\": \"f\", \"arguments\": {\"x\": [1.5, \"\\ud83d\\ude42\"]}}]";
	char text[sizeof(tools)];

	(void)state;
	for (enum df_tool_format f = 0; f < DF_TOOLS_COUNT; f++)
		for (size_t i = 0; i < 2 * sizeof(tools); i++) {
			struct df_buf out = DF_BUF_INIT;
			const size_t at = i / 2 % sizeof(tools), c = i / 2 % sizeof(call);
			int rc;

			memcpy(text, tools, sizeof(tools));
			text[at] ^= i % 2 ? 0x04 : 0x20;
			rc = df_tools_describe(f, text, i % 2 ? sizeof(tools) - 1 : at, "2024-02-29", &out, &error);
			assert_true(rc == 0 || rc == DF_EFORMAT || rc == DF_ERANGE);
			memcpy(text, call, sizeof(call));
			text[c] ^= i % 2 ? 0x04 : 0x20;
			rc = df_tools_call(f, text, i % 2 ? sizeof(call) - 1 : c, &out, &error);
			assert_true(rc == 0 || rc == DF_EFORMAT || rc == DF_ERANGE);
			df_buf_release(&out);
		}
}

static void
formats_and_dates(void **state)
{
	static const char *const bad[] = { "", "today", "2024-7-26", "2024-13-01", "2024-00-10", "2024-01-32",
		"2024-01-00", "2024-02-30", "2024-01-011", "20240-1-01", "2024/01/01", "2024-01--1" };
	enum df_tool_format f;
	struct df_buf out = DF_BUF_INIT;

	(void)state;
	for (enum df_tool_format i = 0; i < DF_TOOLS_COUNT; i++) {
		OK(df_tool_format_find(&f, df_tool_format_name(i), &error));
		assert_int_equal(f, i);
	}
	assert_int_equal(df_tool_format_find(&f, "lama3", &error), DF_EUSAGE);
	assert_non_null(strstr(error.msg, "did you mean 'llama3'"));
	OK(df_tools_check_date("2024-07-26", &error));
	OK(df_tools_check_date("2024-02-29", &error));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(df_tools_check_date(bad[i], &error), DF_EUSAGE);
	OK(df_tools_describe(DF_TOOLS_LLAMA3, "[{}]", 4, "2024-07-06", &out, &error));
	assert_non_null(strstr(out.data, "Today Date: 06 Jul 2024\n"));
	/* Without a date: not today's, which would be another text tomorrow. */
	assert_int_equal(df_tools_describe(DF_TOOLS_LLAMA3, "[{}]", 4, NULL, &out, &error), DF_EUSAGE);
	assert_non_null(strstr(error.msg, "--date"));
	OK(df_tools_describe(DF_TOOLS_LLAMA3, "[]", 2, NULL, &out, &error));
	df_buf_release(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers),
		cmocka_unit_test(structure),
		cmocka_unit_test(texts),
		cmocka_unit_test(malformed),
		cmocka_unit_test(bent),
		cmocka_unit_test(formats_and_dates),
	};

	return cmocka_run_group_tests_name("tools", tests, NULL, NULL);
}
