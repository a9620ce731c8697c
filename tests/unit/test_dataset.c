/*
 * test_dataset.c - dataset_info.json, record boundaries, converters; and what is broken or hostile.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/corpus.h"
#include "data/dataset.h"

static struct df_err error;
static char dir[64];
static char warnings[4096];

#define OK(call)                                              \
	do {                                                  \
		if ((call) < 0)                               \
			fail_msg("%s: %s", #call, error.msg); \
	} while (0)

static void
catch_warning(void *ctx, enum df_log_level level, const char *msg)
{
	const size_t n = strlen(warnings);

	(void)ctx;
	if (level == DF_LOG_WARN)
		snprintf(warnings + n, sizeof(warnings) - n, "%s\n", msg);
}

static int
enter(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/df-dataset.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	warnings[0] = '\0';
	df_log_set_sink(catch_warning, NULL);
	return 0;
}

static int
leave(void **state)
{
	(void)state;
	df_log_set_sink(NULL, NULL);
	return df_rmtree(dir, NULL);
}

static void
put(const char *name, const void *text, size_t n)
{
	char *path;

	OK(df_path_join(&path, dir, name, &error));
	OK(df_file_put(path, text, n, &error));
	free(path);
}

static void
puts_file(const char *name, const char *text)
{
	put(name, text, strlen(text));
}

/* Open dataset "d" whose entry is `entry`. */
static int
open_entry(struct df_dataset **ds, const char *entry, enum df_data_stage stage)
{
	struct df_dataset_info *info = NULL;
	struct df_buf b = DF_BUF_INIT;
	int rc;

	*ds = NULL;
	df_buf_printf(&b, "{\"d\": %s}", entry);
	puts_file("dataset_info.json", b.data);
	df_buf_release(&b);
	error = (struct df_err)DF_ERR_INIT;
	rc = df_dataset_info_open(&info, dir, &error);
	if (rc == 0)
		rc = df_dataset_open(ds, info, "d", stage, &error);
	df_dataset_info_free(info);
	return rc;
}

/*
 * All rows as text: "row: [system] U text | A text", dropped ones by reason.  Stops at the first error, whose code
 * it returns.
 */
static int
read_all(const char *entry, enum df_data_stage stage, struct df_buf *out)
{
	static const char letters[] = "UAOF";
	struct df_example ex = DF_EXAMPLE_INIT;
	struct df_dataset *ds;
	struct df_record rec;
	int rc = open_entry(&ds, entry, stage);

	df_buf_clear(out);
	df_buf_puts(out, "");
	while (rc == 0 && (rc = df_dataset_next(ds, &rec, &error)) == 1) {
		rc = df_dataset_convert(ds, &rec, &ex, &error);
		if (rc)
			break;
		df_buf_printf(out, "%lu:", (unsigned long)rec.row);
		if (ex.drop != DF_DROP_NONE) {
			df_buf_printf(out, " dropped %s\n", df_drop_name(ex.drop));
			continue;
		}
		if (ex.n_system)
			df_buf_printf(out, " [%.*s]", (int)ex.n_system, ex.system);
		for (size_t i = 0; i < ex.n_turns; i++) {
			df_buf_printf(out, " %c ", letters[ex.turns[i].role]);
			for (size_t k = 0; k < ex.turns[i].n; k++) /* a NUL is a character like others */
				df_buf_putc(out, ex.turns[i].text[k] ? ex.turns[i].text[k] : '@');
			df_buf_puts(out, i + 1 < ex.n_turns ? " |" : "");
		}
		if (ex.n_tools)
			df_buf_printf(out, " T %.*s", (int)ex.n_tools, ex.tools);
		df_buf_putc(out, '\n');
	}
	df_example_release(&ex);
	df_dataset_free(ds);
	return rc;
}

#define JSON_FILE "{\"file_name\": \"d.json\"}"

static void
expect(const char *entry, enum df_data_stage stage, const char *want)
{
	struct df_buf got = DF_BUF_INIT;

	if (read_all(entry, stage, &got) != 0)
		fail_msg("%s", error.msg);
	assert_string_equal(got.data, want);
	df_buf_release(&got);
}

/* The dataset is refused with `code`, and the message contains `what`. */
static void
refused(const char *entry, int code, const char *what)
{
	struct df_buf got = DF_BUF_INIT;
	const int rc = read_all(entry, DF_STAGE_SFT, &got);

	df_buf_release(&got);
	if (rc != code || error.code != code || !strstr(error.msg, what))
		fail_msg("expected code %d with '%s', got %d: %s", code, what, rc, error.msg);
}

static void
bad_file(const char *text, int code, const char *what)
{
	puts_file("d.json", text);
	refused(JSON_FILE, code, what);
}

/* ---- what works --------------------------------------------------------- */

static void
alpaca(void **state)
{
	(void)state;
	puts_file("d.json",
	    "[{\"instruction\": \"i\", \"input\": \"\", \"output\": \"o\"},\n"
	    " {\"instruction\": \"i\", \"input\": \"q\", \"output\": \"\", \"extra\": [1, {\"x\": \"]}\"}]},"
	    " {\"input\": \"q\", \"output\": \"o\", \"history\": [[\"a\", \"b\"]]},\n"
	    " {\"instruction\": null, \"output\": \"o\"},"
	    " {\"instruction\": \"i\", \"output\": null}, {\"instruction\": \"i\"}\n]\n");
	expect(JSON_FILE, DF_STAGE_SFT,
	    "0: U i | A o\n1: U i\nq | A \n2: U q | A o\n3: U  | A o\n4: dropped no_response\n"
	    "5: dropped no_response\n");
	/* With columns, those that are not named are unset. */
	expect("{\"file_name\": \"d.json\", \"columns\": {\"prompt\": \"instruction\", \"response\": \"output\", "
	       "\"history\": \"history\"}}",
	    DF_STAGE_SFT,
	    "0: U i | A o\n1: U i | A \n2: U a | A b | U  | A o\n3: U  | A o\n4: dropped no_response\n"
	    "5: dropped no_response\n");
	/* Stage pt asks for no response. */
	expect("{\"file_name\": \"d.json\", \"columns\": {\"prompt\": \"input\"}}", DF_STAGE_PT,
	    "0: U \n1: U q\n2: U q\n3: U \n4: U \n5: U \n");
}

static void
sharegpt(void **state)
{
	static const char entry[] = "{\"file_name\": \"d.json\", \"formatting\": \"sharegpt\"}";

	(void)state;
	puts_file("d.json",
	    "[{\"conversations\": [{\"from\": \"human\", \"value\": \"q\"}, {\"from\": \"gpt\", \"value\": \"a\"}]},"
	    "{\"conversations\": [{\"from\": \"system\", \"value\": \"s\"}, {\"from\": \"human\", \"value\": \"q\"},"
	    " {\"from\": \"gpt\", \"value\": \"a\"}, {\"from\": \"observation\", \"value\": \"o\"},"
	    " {\"from\": \"gpt\", \"value\": \"b\"}]},"
	    "{\"conversations\": [{\"from\": \"gpt\", \"value\": \"a\"}]},"
	    "{\"conversations\": [{\"from\": \"human\", \"value\": \"q\"}]},"
	    "{\"conversations\": []},"
	    "{\"conversations\": [{\"from\": \"human\", \"value\": \"q\"}, {\"from\": \"system\", \"value\": \"s\"}]},"
	    "{\"conversations\": [{\"from\": \"human\", \"value\": \"q\"},"
	    " {\"from\": \"function_call\", \"value\": \"f\"}]},"
	    "{\"conversations\": [{\"from\": \"human\", \"value\": \"q\"}, {\"from\": \"gpt\", \"value\": \"a\"}],"
	    " \"tools\": \"[{}]\"}]");
	expect(entry, DF_STAGE_SFT,
	    "0: U q | A a\n1: [s] U q | A a | O o | A b\n2: dropped role_order\n3: dropped odd_turns\n"
	    "4: dropped empty_conversation\n5: dropped role_order\n6: U q | F f\n7: U q | A a\n");
	expect("{\"file_name\": \"d.json\", \"formatting\": \"sharegpt\", "
	       "\"columns\": {\"messages\": \"conversations\", \"tools\": \"tools\"}}",
	    DF_STAGE_SFT,
	    "0: U q | A a\n1: [s] U q | A a | O o | A b\n2: dropped role_order\n3: dropped odd_turns\n"
	    "4: dropped empty_conversation\n5: dropped role_order\n6: U q | F f\n7: U q | A a T [{}]\n");
	/* Tags without system_tag: a leading system turn is out of order. */
	expect("{\"file_name\": \"d.json\", \"formatting\": \"sharegpt\", \"tags\": {\"role_tag\": \"from\", "
	       "\"content_tag\": \"value\", \"user_tag\": \"human\", \"assistant_tag\": \"gpt\"}}",
	    DF_STAGE_SFT,
	    "0: U q | A a\n1: dropped role_order\n2: dropped role_order\n3: dropped odd_turns\n"
	    "4: dropped empty_conversation\n5: dropped role_order\n6: dropped role_order\n7: U q | A a\n");
	/* Own names for everything. */
	puts_file("d.json",
	    "{\"m\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"a\"}],"
	    " \"s\": \"sys\"}\n");
	expect("{\"file_name\": \"d.json\", \"formatting\": \"sharegpt\", \"columns\": {\"messages\": \"m\", "
	       "\"system\": \"s\"}, \"tags\": {\"role_tag\": \"role\", \"content_tag\": \"content\", "
	       "\"user_tag\": \"user\", \"assistant_tag\": \"assistant\", \"system_tag\": \"system\"}}",
	    DF_STAGE_SFT, "0: [sys] U q | A a\n");
}

static void
lines_and_text(void **state)
{
	(void)state;
	/* Byte-order mark, CRLF, blank lines, no newline at the end. */
	puts_file("d.json",
	    "\xef\xbb\xbf\r\n{\"instruction\": \"a\", \"output\": \"b\"}\r\n\r\n  \n"
	    "{\"instruction\": \"c\\n\\\"{\", \"output\": \"d\"}");
	expect(JSON_FILE, DF_STAGE_SFT, "0: U a | A b\n1: U c\n\"{ | A d\n");
	puts_file("d.txt",
	    "\xef\xbb\xbf"
	    "first\r\n\nthird \"{\n");
	expect("{\"file_name\": \"d.txt\", \"columns\": {\"prompt\": \"text\"}}", DF_STAGE_PT,
	    "0: U first\n1: U \n2: U third \"{\n");
	puts_file("d.json", "\xef\xbb\xbf [ ] \n");
	expect(JSON_FILE, DF_STAGE_SFT, "");
	puts_file("d.json", "[{\"instruction\":\"\\ud83d\\ude42\\u0000\\\\\",\"output\":\"\\\"\"}]");
	expect(JSON_FILE, DF_STAGE_SFT, "0: U \xf0\x9f\x99\x82@\\ | A \"\n");
}

static void
directory(void **state)
{
	char *path;

	(void)state;
	OK(df_path_join(&path, dir, "many", &error));
	OK(df_mkdirs(path, &error));
	puts_file("many/b.jsonl", "{\"instruction\": \"3\", \"output\": \"\"}\n");
	puts_file(
	    "many/a.json", "[{\"instruction\": \"1\", \"output\": \"\"}, {\"instruction\": \"2\", \"output\": \"\"}]");
	puts_file("many/.hidden", "not data");
	expect("{\"file_name\": \"many\"}", DF_STAGE_SFT, "0: U 1 | A \n1: U 2 | A \n2: U 3 | A \n");
	puts_file("many/c.jsonl", "{\"instruction\": 7}\n");
	refused("{\"file_name\": \"many\"}", DF_EFORMAT, "c.jsonl: row 0 (line 1): 'instruction': expected a string");
	puts_file("many/c.txt", "x");
	refused("{\"file_name\": \"many\"}", DF_ECONFIG, "must be of one type");
	free(path);
}

/* ---- dataset_info.json -------------------------------------------------- */

static void
entries(void **state)
{
	struct df_dataset_info *info;
	struct df_dataset *ds;

	(void)state;
	puts_file("d.json", "[{\"instruction\": \"i\", \"output\": \"o\"}]");
	refused("7", DF_ECONFIG, "expected an object");
	refused("{}", DF_ECONFIG, "no 'file_name'");
	refused("{\"file_name\": 7}", DF_ECONFIG, "file_name");
	refused("{\"file_name\": \"missing.json\"}", DF_ENOINPUT, "missing.json");
	refused("{\"file_name\": \"d.parquet\"}", DF_EUNSUPPORTED, "convert");
	refused("{\"file_name\": \"d.json5\"}", DF_ECONFIG, ".jsonl");
	refused("{\"hf_hub_url\": \"a/b\", \"file_name\": \"d.json\"}", DF_EUNSUPPORTED, "hf_hub_url");
	refused("{\"script_url\": \"x\"}", DF_EUNSUPPORTED, "script_url");
	refused("{\"file_name\": \"d.json\", \"ranking\": true}", DF_EUNSUPPORTED, "ranking");
	refused("{\"file_name\": \"d.json\", \"ranking\": \"yes\"}", DF_ECONFIG, "ranking");
	refused("{\"file_name\": \"d.json\", \"num_samples\": \"5\"}", DF_ECONFIG, "num_samples");
	refused("{\"file_name\": \"d.json\", \"num_samples\": 0}", DF_ECONFIG, "num_samples");
	refused("{\"file_name\": \"d.json\", \"split\": \"test\"}", DF_EUNSUPPORTED, "split");
	refused("{\"file_name\": \"d.json\", \"formatting\": \"sharegtp\"}", DF_ECONFIG, "did you mean 'sharegpt'");
	refused("{\"file_name\": \"d.json\", \"columns\": []}", DF_ECONFIG, "'columns': expected an object");
	refused("{\"file_name\": \"d.json\", \"columns\": {\"prompt\": 7}}", DF_ECONFIG, "prompt");
	refused("{\"file_name\": \"d.json\", \"columns\": {\"response\": \"o\"}}", DF_ECONFIG, "names no 'prompt'");
	refused("{\"file_name\": \"d.json\", \"columns\": {\"prompt\": \"p\", \"kto_tag\": \"k\"}}", DF_EUNSUPPORTED,
	    "kto_tag");
	refused("{\"file_name\": \"d.json\", \"formatting\": \"sharegpt\", \"columns\": {\"prompt\": \"p\"}}",
	    DF_ECONFIG, "names no 'messages'");
	refused("{\"file_name\": \"d.json\", \"formatting\": \"sharegpt\", \"tags\": {\"role_tag\": \"role\"}}",
	    DF_ECONFIG, "names no 'content_tag'");
	puts_file("d.txt", "x");
	refused("{\"file_name\": \"d.txt\"}", DF_ECONFIG, "\"prompt\": \"text\"");

	/* The file itself. */
	assert_int_equal(df_dataset_info_open(&info, "ONLINE", &error), DF_ECONFIG);
	assert_int_equal(df_dataset_info_open(&info, "REMOTE:a/b", &error), DF_ECONFIG);
	assert_int_equal(df_dataset_info_open(&info, "/no/such/directory", &error), DF_ENOINPUT);
	puts_file("dataset_info.json", "[]");
	assert_int_equal(df_dataset_info_open(&info, dir, &error), DF_ECONFIG);
	puts_file("dataset_info.json", "{\"d\": ");
	assert_int_equal(df_dataset_info_open(&info, dir, &error), DF_EFORMAT);
	puts_file("dataset_info.json", "{\"alpaca_en\": {}}");
	OK(df_dataset_info_open(&info, dir, &error));
	assert_int_equal(df_dataset_open(&ds, info, "alpaca_eng", DF_STAGE_SFT, &error), DF_ECONFIG);
	assert_non_null(strstr(error.msg, "did you mean 'alpaca_en'"));
	df_dataset_info_free(info);
}

/* Every name that LLaMA-Factory knows is known; any other is refused, all of an entry at once. */
static void
member_names(void **state)
{
	(void)state;
	puts_file("d.json", "[{\"instruction\": \"i\", \"output\": \"o\"}]");
	refused("{\"file_name\": \"d.json\", \"format\": \"alpaca\"}", DF_ECONFIG,
	    "unknown member 'format' (did you mean 'formatting'?)");
	refused("{\"file_name\": \"d.json\", \"tag\": {}, \"column\": {}, \"xyzzy\": 1}", DF_ECONFIG,
	    "'tag' (did you mean 'tags'?), 'column' (did you mean 'columns'?), 'xyzzy'");
	refused("{\"file_name\": \"d.json\", \"prompt\": \"p\"}", DF_ECONFIG, "'prompt' (it belongs in \"columns\")");
	refused("{\"file_name\": \"d.json\", \"columns\": {\"prompt\": \"instruction\", \"respons\": \"output\"}}",
	    DF_ECONFIG, "'columns.respons' (did you mean 'response'?)");
	refused("{\"file_name\": \"d.json\", \"columns\": {\"prompt\": \"instruction\", \"role_tag\": \"r\"}}",
	    DF_ECONFIG, "'columns.role_tag' (it belongs in \"tags\")");
	refused("{\"file_name\": \"d.json\", \"tags\": {\"user\": \"u\", \"ranking\": false}}", DF_ECONFIG,
	    "'tags.user' (did you mean 'user_tag'?), 'tags.ranking' (it belongs in the entry itself)");
	refused("{\"file_name\": \"d.json\", \"formating\": 7, \"columns\": []}", DF_ECONFIG, "'formating'");

	expect("{\"file_name\": \"d.json\", \"hf_hub_url\": null, \"ms_hub_url\": null, \"om_hub_url\": null, "
	       "\"script_url\": null, \"cloud_file_name\": null, \"subset\": null, \"split\": \"train\", "
	       "\"folder\": null, \"num_samples\": null, \"ranking\": false, \"formatting\": \"alpaca\", "
	       "\"file_sha1\": \"0\", "
	       "\"columns\": {\"prompt\": \"instruction\", \"query\": \"input\", \"response\": \"output\", "
	       "\"history\": null, \"messages\": null, \"system\": null, \"tools\": null, \"images\": null, "
	       "\"videos\": null, \"audios\": null, \"chosen\": null, \"rejected\": null, \"kto_tag\": null}, "
	       "\"tags\": {\"role_tag\": \"r\", \"content_tag\": \"c\", \"user_tag\": \"u\", \"assistant_tag\": \"a\", "
	       "\"observation_tag\": null, \"function_tag\": null, \"system_tag\": null}}",
	    DF_STAGE_SFT, "0: U i | A o\n");
}

/* ---- columns that no row has -------------------------------------------- */

#define SHAREGPT       "{\"file_name\": \"d.json\", \"formatting\": \"sharegpt\"}"
#define NAMED(columns) "{\"file_name\": \"d.json\", \"columns\": {" columns "}}"

/* The columns of these rows are all right, or the message has `what`. */
static void
check_columns(const char *rows, const char *entry, enum df_data_stage stage, int code, const char *what)
{
	struct df_dataset *ds;
	struct df_record rec;

	puts_file("d.json", rows);
	OK(open_entry(&ds, entry, stage));
	assert_int_equal(df_dataset_check_columns(ds, &error), code);
	if (what && !strstr(error.msg, what))
		fail_msg("expected '%s': %s", what, error.msg);
	if (code == DF_OK && strcmp(rows, "[]") != 0) { /* the rows are still to be read */
		assert_int_equal(df_dataset_next(ds, &rec, &error), 1);
		assert_int_equal(rec.row, 0);
	}
	df_dataset_free(ds);
}

static void
columns(void **state)
{
	static const char *const rare[] = { "\"s/\\\"1\"", "\"s\\/\\\"1\"", "\"\\u0073/\\\"1\"", "\"sys\"",
		"\"s\\u0079s\"" };

	(void)state;
	check_columns("[{\"text\": \"t\"}]", JSON_FILE, DF_STAGE_PT, DF_ECONFIG,
	    "dataset 'd': no row has the column 'instruction', the default for 'prompt' "
	    "(\"columns\" in dataset_info.json can name another); the columns are 'text'");
	check_columns("[{\"Instruction\": \"q\", \"output\": \"a\"}]", JSON_FILE, DF_STAGE_SFT, DF_ECONFIG,
	    "; did you mean 'Instruction'? The columns are 'Instruction', 'output'");
	check_columns("[{\"input\": \"q\", \"output\": \"a\"}]", JSON_FILE, DF_STAGE_SFT, DF_ECONFIG, "'instruction'");
	/* Answers: only training on them needs some. */
	check_columns("[{\"instruction\": \"q\", \"answer\": \"a\"}]", JSON_FILE, DF_STAGE_SFT, DF_ECONFIG,
	    "'output', the default for 'response'");
	check_columns("[{\"instruction\": \"q\", \"answer\": \"a\"}]", JSON_FILE, DF_STAGE_PT, DF_OK, NULL);
	check_columns("[{\"instruction\": \"q\", \"answer\": \"a\"}]", JSON_FILE, DF_STAGE_PROMPT, DF_OK, NULL);
	check_columns("[{\"text\": \"q\"}]", JSON_FILE, DF_STAGE_PROMPT, DF_ECONFIG, "'instruction'");
	/* Conversations. */
	check_columns("[{\"messages\": []}]", SHAREGPT, DF_STAGE_SFT, DF_ECONFIG,
	    "'conversations', the default for 'messages' (\"columns\" in dataset_info.json can name another); the columns "
	    "are 'messages'");
	check_columns("[{\"conversation\": []}]", SHAREGPT, DF_STAGE_PT, DF_ECONFIG, "did you mean 'conversation'");
	check_columns("[{\"messages\": []}]", "{\"file_name\": \"d.json\", \"formatting\": \"openai\"}",
	    DF_STAGE_PROMPT, DF_ECONFIG, "'conversations'");
	/* One row is enough, whatever it holds; what is optional may be absent. */
	check_columns(
	    "[{\"output\": null}, {\"x\": 1}, {\"instruction\": \"\"}]", JSON_FILE, DF_STAGE_SFT, DF_OK, NULL);
	check_columns("[{\"messages\": []}, {\"conversations\": null}]", SHAREGPT, DF_STAGE_SFT, DF_OK, NULL);
	check_columns("[]", JSON_FILE, DF_STAGE_SFT, DF_OK, NULL);
	/* What "columns" names must be there, optional or not; what it leaves out, or is for others, need not. */
	check_columns("[{\"question\": \"\", \"answer\": \"\"}]",
	    NAMED("\"prompt\": \"question\", \"response\": \"answers\""), DF_STAGE_PT, DF_ECONFIG,
	    "no row has the column 'answers' that dataset_info.json names for 'response'; did you mean 'answer'? The columns");
	check_columns("[{\"q\": \"\"}, {\"q\": \"\"}]", NAMED("\"prompt\": \"q\", \"system\": \"s\""), DF_STAGE_SFT,
	    DF_ECONFIG, "'s' that dataset_info.json names for 'system'");
	check_columns("[{\"q\": \"\"}]", NAMED("\"prompt\": \"q\""), DF_STAGE_SFT, DF_OK, NULL);
	check_columns("[{\"q\": \"\"}]", NAMED("\"prompt\": \"q\", \"messages\": \"m\""), DF_STAGE_SFT, DF_OK, NULL);
	/* Rows that are no rows are errors of the data. */
	check_columns("[{\"x\": 1}, {\"x\": ]", JSON_FILE, DF_STAGE_SFT, DF_EFORMAT, "d.json: row 1");
	check_columns("[{\"x\": 1}, {\"x\": }]", JSON_FILE, DF_STAGE_SFT, DF_EFORMAT, "d.json: row 1");
	check_columns("[7]", JSON_FILE, DF_STAGE_SFT, DF_EFORMAT, "d.json: row 0 (line 1): expected an object");
	/* A message names not all of many. */
	check_columns(
	    "[{\"a\":0,\"b\":0,\"c\":0,\"d\":0,\"e\":0,\"f\":0,\"g\":0,\"h\":0,\"i\":0,\"j\":0,\"k\":0,\"l\":0},"
	    "{\"a\":0,\"m\":0,\"n\":0,\"o\":0,\"p\":0,\"q\":0}]",
	    JSON_FILE, DF_STAGE_SFT, DF_ECONFIG, "'o', 'p' and more");

	/* A rare one is found however its name is spelt. */
	for (size_t i = 0; i < sizeof(rare) / sizeof(rare[0]); i++) {
		struct df_buf b = DF_BUF_INIT;

		for (int k = 0; k < 300; k++)
			df_buf_puts(&b, "{\"q\": \"\", \"other\": \"s/1\"}\n");
		check_columns(b.data, NAMED("\"prompt\": \"q\", \"system\": \"s/\\\"1\""), DF_STAGE_SFT, DF_ECONFIG,
		    "no row has");
		df_buf_printf(&b, "{\"q\": \"\", %s: null}\n", rare[i]);
		check_columns(b.data, NAMED("\"prompt\": \"q\", \"system\": \"s/\\\"1\""), DF_STAGE_SFT,
		    i < 3 ? DF_OK : DF_ECONFIG, NULL);
		check_columns(b.data, NAMED("\"prompt\": \"q\", \"system\": \"sys\""), DF_STAGE_SFT,
		    i < 3 ? DF_ECONFIG : DF_OK, NULL);
		df_buf_release(&b);
	}

	puts_file("d.txt", "x");
	check_columns("", "{\"file_name\": \"d.txt\", \"columns\": {\"prompt\": \"text\"}}", DF_STAGE_PT, DF_OK, NULL);
}

/* ---- damaged and hostile files ------------------------------------------ */

static void
damaged(void **state)
{
	(void)state;
	bad_file("", DF_EFORMAT, "empty");
	bad_file("  \n ", DF_EFORMAT, "empty");
	bad_file("7", DF_EFORMAT, "line 1: expected an array of objects");
	bad_file("\"text\"", DF_EFORMAT, "expected an array of objects");
	bad_file("\xff\xfe[\0]\0", DF_EFORMAT, "UTF-16");
	bad_file("[", DF_EFORMAT, "truncated");
	bad_file("[{\"instruction\": \"i\", \"output\": \"o\"}", DF_EFORMAT, "truncated");
	bad_file("[{\"instruction\": \"i\", \"output\": \"o\"},", DF_EFORMAT, "truncated");
	bad_file("[\n{\"instruction\": \"i\", \"output\": \"o\"},\n{\"instruction\": \"i", DF_EFORMAT,
	    "d.json: row 1 (line 3, column 1): the file ends inside this record");
	bad_file("[{\"instruction\": \"i\", \"output\": \"o\"},]", DF_EFORMAT, "expected a record");
	bad_file("[,]", DF_EFORMAT, "expected a record");
	bad_file("[{\"instruction\": \"i\"} {\"instruction\": \"i\"}]", DF_EFORMAT, "expected ',' or ']'");
	bad_file("[] []", DF_EFORMAT, "text after the end");
	bad_file("[7]", DF_EFORMAT, "row 0 (line 1): expected an object, found an integer");
	bad_file("[[]]", DF_EFORMAT, "expected an object, found an array");
	bad_file("[\"s\"]", DF_EFORMAT, "expected an object, found a string");
	bad_file("[nonsense]", DF_EFORMAT, "row 0 (line 1)");
	bad_file("[{]}]", DF_EFORMAT, "row 0 (line 1)");
	bad_file("[{\"instruction\": \"a\" \"b\"}]", DF_EFORMAT, "row 0 (line 1)");
	bad_file("{\n\"instruction\": \"i\"\n}", DF_EFORMAT, "row 0 (line 1)");
	bad_file("{\"instruction\": \"i\"} x\n", DF_EFORMAT, "row 0 (line 1)");
}

static void
wrong_types(void **state)
{
	static const char chat[] = "{\"file_name\": \"d.json\", \"formatting\": \"sharegpt\"}";
	static const char past[] = "{\"file_name\": \"d.json\", \"columns\": {\"prompt\": \"instruction\", "
				   "\"response\": \"output\", \"history\": \"h\", \"system\": \"s\"}}";

	(void)state;
	puts_file(
	    "d.json", "[{\"instruction\": \"i\", \"output\": \"o\"},\n\n{\"instruction\": \"i\", \"output\": 5}]");
	refused(JSON_FILE, DF_EFORMAT, "d.json: row 1 (line 3): 'output': expected a string, found an integer");
	puts_file("d.json", "[{\"instruction\": [\"i\"], \"output\": \"o\"}]");
	refused(JSON_FILE, DF_EFORMAT, "'instruction': expected a string, found an array");
	puts_file("d.json", "[{\"instruction\": \"i\", \"output\": \"o\", \"s\": true}]");
	refused(past, DF_EFORMAT, "'s': expected a string");
	puts_file("d.json", "[{\"instruction\": \"i\", \"output\": \"o\", \"h\": \"x\"}]");
	refused(past, DF_EFORMAT, "'h': expected an array of pairs");
	puts_file("d.json", "[{\"instruction\": \"i\", \"output\": \"o\", \"h\": [[\"a\"]]}]");
	refused(past, DF_EFORMAT, "'h'[0]: expected a pair");
	puts_file("d.json", "[{\"instruction\": \"i\", \"output\": \"o\", \"h\": [[\"a\", null]]}]");
	refused(past, DF_EFORMAT, "'h'[0]: answer: expected a string, found null");
	puts_file("d.json", "[{\"conversations\": {}}]");
	refused(chat, DF_EFORMAT, "'conversations': expected an array");
	puts_file("d.json", "[{}]");
	refused(chat, DF_EFORMAT, "'conversations': expected an array of turns, found nothing");
	puts_file("d.json", "[{\"conversations\": [\"x\"]}]");
	refused(chat, DF_EFORMAT, "'conversations'[0]: expected an object");
	puts_file("d.json", "[{\"conversations\": [{\"from\": \"human\"}]}]");
	refused(chat, DF_EFORMAT, "'conversations'[0]: value: expected a string, found nothing");
	puts_file("d.json", "[{\"conversations\": [{\"from\": 1, \"value\": \"x\"}]}]");
	refused(chat, DF_EFORMAT, "'conversations'[0]: from: expected a string");
}

static void
hostile(void **state)
{
	const size_t depth = 1000000, huge = DF_RECORD_MAX + 4096;
	char *text, *path;

	(void)state;
	bad_file("[{\"instruction\": \"\xff\", \"output\": \"o\"}]", DF_EFORMAT, "row 0 (line 1)");
	bad_file("[{\"instruction\": \"\xed\xa0\x80\", \"output\": \"o\"}]", DF_EFORMAT, "row 0 (line 1)");
	bad_file("[{\"instruction\": \"\\ud800\", \"output\": \"o\"}]", DF_EFORMAT, "row 0 (line 1)");
	bad_file("[{\"instruction\": \"\\udc00x\", \"output\": \"o\"}]", DF_EFORMAT, "row 0 (line 1)");
	bad_file("[{\"instruction\": \"a\", \"instruction\": \"b\", \"output\": \"o\"}]", DF_EFORMAT, "row 0 (line 1)");

	/* A million brackets: no recursion anywhere. */
	text = malloc(2 * depth + 1);
	assert_non_null(text);
	memset(text, '[', depth);
	memset(text + depth, ']', depth);
	put("d.json", text, 2 * depth);
	refused(JSON_FILE, DF_ERANGE, "row 0");
	put("d.json", text, depth);
	refused(JSON_FILE, DF_EFORMAT, "truncated");
	for (size_t i = 0; i < 2 * depth; i++)
		text[i] = i % 2 ? '{' : '[';
	put("d.json", text, 2 * depth);
	refused(JSON_FILE, DF_EFORMAT, "truncated");
	free(text);

	/* A string that never ends, in a file with a hole: found without reading it into memory. */
	puts_file("d.json", "[{\"instruction\": \"");
	OK(df_path_join(&path, dir, "d.json", &error));
	assert_int_equal(truncate(path, (off_t)huge), 0);
	refused(JSON_FILE, DF_ERANGE, "row 0: a record of more than 256 MiB");
	free(path);
}

/* Every cut of a good file is refused or yields fewer rows; never a crash, never a row more. */
static void
cut_anywhere(void **state)
{
	static const char good[] =
	    "\xef\xbb\xbf[ {\"instruction\": \"a\\\"\", \"output\": \"b\"},\n{\"instruction\": \"\\u00e9\","
	    " \"output\": \"d\", \"x\": [1, {\"y\": null}]} ]";

	(void)state;
	puts_file("d.json", good);
	expect(JSON_FILE, DF_STAGE_SFT, "0: U a\" | A b\n1: U \xc3\xa9 | A d\n");
	for (size_t n = 0; n < sizeof(good) - 1; n++) {
		struct df_buf got = DF_BUF_INIT;

		put("d.json", good, n);
		assert_true(read_all(JSON_FILE, DF_STAGE_SFT, &got) < 0);
		assert_true(error.msg[0] != '\0');
		df_buf_release(&got);
	}
}

/* ---- the corpus --------------------------------------------------------- */

struct seen {
	struct df_buf held, kept;
};

static int
note_row(void *ctx, const struct df_encoded_row *row, struct df_err *err)
{
	struct seen *s = ctx;

	(void)err;
	df_buf_printf(row->held_out ? &s->held : &s->kept, "%u.%lu ", row->domain, (unsigned long)row->source_row);
	return 0;
}

static void
run_corpus(const char *names, const char *hold_out, uint64_t seed, int n_threads, struct seen *s)
{
	const struct df_encode_opts opts = { .stage = DF_STAGE_SFT, .cutoff_len = 64 };
	struct df_corpus c = DF_CORPUS_INIT;
	const struct df_template *t;
	struct df_tokenizer *tok;
	struct df_encoder *e;

	c.seed = seed;
	c.n_threads = n_threads;
	OK(df_template_find(&t, "alpaca", &error));
	OK(df_tokenizer_open(&tok, "bytes", &error));
	OK(df_encoder_new(&e, t, tok, &opts, &error));
	OK(df_corpus_open(&c, dir, names, NULL, DF_STAGE_SFT, &error));
	if (hold_out)
		OK(df_corpus_hold_out(&c, hold_out, &error));
	OK(df_corpus_survey(&c, e, &error));
	df_buf_clear(&s->held);
	df_buf_clear(&s->kept);
	df_buf_puts(&s->held, "");
	df_buf_puts(&s->kept, "");
	OK(df_corpus_encode(&c, e, note_row, s, &error));
	df_corpus_close(&c);
	df_encoder_free(e);
	df_tokenizer_free(tok);
}

static void
write_numbered(const char *name, int n)
{
	struct df_buf b = DF_BUF_INIT;

	for (int i = 0; i < n; i++) /* every seventh row has nothing to learn */
		df_buf_printf(&b, "{\"instruction\": \"%d\"%s}\n", i, i % 7 == 3 ? "" : ", \"output\": \"x\"");
	put(name, b.data, b.len);
	df_buf_release(&b);
}

static void
held_out_rows(void **state)
{
	struct seen a = { DF_BUF_INIT, DF_BUF_INIT }, b = { DF_BUF_INIT, DF_BUF_INIT };
	struct df_corpus c = DF_CORPUS_INIT;
	size_t n_spaces = 0;

	(void)state;
	puts_file("dataset_info.json", "{\"p\": {\"file_name\": \"p.jsonl\"}, \"q\": {\"file_name\": \"q.jsonl\"}}");
	write_numbered("p.jsonl", 1000);
	write_numbered("q.jsonl", 700);
	run_corpus("p, q", "q=30", 1, 1, &a);
	for (const char *s = a.held.data; *s; s++)
		n_spaces += *s == ' ';
	assert_int_equal(n_spaces, 30);
	assert_non_null(strstr(warnings, "100 of 700 rows dropped: no response"));

	/* Threads change nothing; nor which rows other datasets bring, nor their order. */
	run_corpus("p, q", "q=30", 1, 5, &b);
	assert_string_equal(a.held.data, b.held.data);
	assert_string_equal(a.kept.data, b.kept.data);
	run_corpus("q", "q=30", 1, 2, &b);
	for (char *s = a.held.data; *s; s++) /* domain 1 there is domain 0 here */
		if (s[0] == '1' && s[1] == '.' && (s == a.held.data || s[-1] == ' '))
			s[0] = '0';
	assert_string_equal(a.held.data, b.held.data);
	run_corpus("q", "q=30", 2, 2, &b);
	assert_string_not_equal(a.held.data, b.held.data);

	/* A part, rounded up: 600 rows can be used. */
	run_corpus("q", "q=0.0501", 1, 2, &b);
	n_spaces = 0;
	for (const char *s = b.held.data; *s; s++)
		n_spaces += *s == ' ';
	assert_int_equal(n_spaces, 31);

	OK(df_corpus_open(&c, dir, "p,q", NULL, DF_STAGE_SFT, &error));
	assert_int_equal(df_corpus_hold_out(&c, "q", &error), DF_EUSAGE);
	assert_int_equal(df_corpus_hold_out(&c, "r=5", &error), DF_EUSAGE);
	assert_int_equal(df_corpus_hold_out(&c, "q=0", &error), DF_EUSAGE);
	assert_int_equal(df_corpus_hold_out(&c, "q=1.5", &error), DF_EUSAGE);
	assert_int_equal(df_corpus_hold_out(&c, "q=x", &error), DF_EUSAGE);
	assert_int_equal(df_corpus_hold_out(&c, "q=nan", &error), DF_EUSAGE);
	OK(df_corpus_hold_out(&c, "q=5", &error));
	assert_int_equal(df_corpus_hold_out(&c, "q=6", &error), DF_EUSAGE);
	df_corpus_close(&c);
	assert_int_equal(df_corpus_open(&c, dir, "p,p", NULL, DF_STAGE_SFT, &error), DF_EUSAGE);
	df_corpus_close(&c);
	assert_int_equal(df_corpus_open(&c, dir, " , ", NULL, DF_STAGE_SFT, &error), DF_EUSAGE);
	df_corpus_close(&c);
	df_buf_release(&a.held);
	df_buf_release(&a.kept);
	df_buf_release(&b.held);
	df_buf_release(&b.kept);
}

/* Errors of a corpus: columns that no row has, no rows at all, more held out than there are. */
static void
survey(void **state)
{
	static const struct {
		const char *entry, *hold_out;
		int code;
		const char *what;
		uint64_t max_samples;
	} cases[] = {
		{ "{\"file_name\": \"d.jsonl\", \"columns\": {\"prompt\": \"instruction\", \"response\": \"answer\"}}",
		    NULL, DF_ECONFIG, "no row has the column 'answer'", 0 },
		{ "{\"file_name\": \"d.jsonl\", \"columns\": {\"prompt\": \"instruction\", \"response\": \"answer\"}}",
		    NULL, DF_ECONFIG, "no row has the column 'answer'", 2 },
		{ "{\"file_name\": \"d.jsonl\", \"num_samples\": 3, \"columns\": {\"prompt\": \"question\"}}", NULL,
		    DF_ECONFIG, "no row has the column 'question'", 0 },
		{ "{\"file_name\": \"d.jsonl\", \"columns\": {\"prompt\": \"instruction\"}}", NULL, DF_EFORMAT,
		    "no usable row", 0 },
		{ "{\"file_name\": \"d.jsonl\"}", "d=99", DF_EUSAGE, "only 6 can be used", 0 },
		{ "{\"file_name\": \"d.jsonl\"}", "d=6", DF_EUSAGE, "none is left", 0 },
	};
	const struct df_encode_opts opts = { .stage = DF_STAGE_SFT, .cutoff_len = 64 };
	const struct df_template *t;
	struct df_tokenizer *tok;
	struct df_encoder *e;
	int rc;

	(void)state;
	write_numbered("d.jsonl", 7);
	OK(df_template_find(&t, "alpaca", &error));
	OK(df_tokenizer_open(&tok, "bytes", &error));
	OK(df_encoder_new(&e, t, tok, &opts, &error));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct df_corpus c = DF_CORPUS_INIT;
		struct df_dataset *ds;

		OK(open_entry(&ds, cases[i].entry, DF_STAGE_SFT));
		df_dataset_free(ds);
		c.max_samples = cases[i].max_samples ? cases[i].max_samples : UINT64_MAX;
		rc = df_corpus_open(&c, dir, "d", NULL, DF_STAGE_SFT, &error);
		if (rc == DF_OK && cases[i].hold_out)
			OK(df_corpus_hold_out(&c, cases[i].hold_out, &error));
		if (rc == DF_OK)
			rc = df_corpus_survey(&c, e, &error);
		assert_int_equal(rc, cases[i].code);
		if (!strstr(error.msg, cases[i].what))
			fail_msg("expected '%s': %s", cases[i].what, error.msg);
		df_corpus_close(&c);
	}
	df_encoder_free(e);
	df_tokenizer_free(tok);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(alpaca, enter, leave),
		cmocka_unit_test_setup_teardown(sharegpt, enter, leave),
		cmocka_unit_test_setup_teardown(lines_and_text, enter, leave),
		cmocka_unit_test_setup_teardown(directory, enter, leave),
		cmocka_unit_test_setup_teardown(entries, enter, leave),
		cmocka_unit_test_setup_teardown(member_names, enter, leave),
		cmocka_unit_test_setup_teardown(columns, enter, leave),
		cmocka_unit_test_setup_teardown(damaged, enter, leave),
		cmocka_unit_test_setup_teardown(wrong_types, enter, leave),
		cmocka_unit_test_setup_teardown(hostile, enter, leave),
		cmocka_unit_test_setup_teardown(cut_anywhere, enter, leave),
		cmocka_unit_test_setup_teardown(held_out_rows, enter, leave),
		cmocka_unit_test_setup_teardown(survey, enter, leave),
	};

	return cmocka_run_group_tests_name("dataset", tests, NULL, NULL);
}
