/*
 * test_template.c - the table is sound, names are found, and tokenizers are fixed up as LLaMA-Factory does.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "chat/template.h"

static struct df_err error;
static char *golden_dir;

#define OK(call)                                              \
	do {                                                  \
		if ((call) != 0)                              \
			fail_msg("%s: %s", #call, error.msg); \
	} while (0)

static size_t
count(const char *s, const char *what)
{
	size_t n = 0;

	while ((s = strstr(s, what)) != NULL) {
		n++;
		s += strlen(what);
	}
	return n;
}

/* Placeholders in a slot's texts; asserts that the slot is closed and its texts are set. */
static size_t
slot_marks(const struct df_elem *e)
{
	size_t n = 0, i = 0;

	for (; e[i].kind != DF_ELEM_END; i++) {
		assert_true(i + 1 < DF_SLOT_MAX);
		assert_true((e[i].kind == DF_ELEM_TEXT || e[i].kind == DF_ELEM_TOKEN) == (e[i].text != NULL));
		if (e[i].kind == DF_ELEM_TEXT)
			n += count(e[i].text, "{{content}}");
	}
	return n;
}

static void
table(void **state)
{
	const struct df_template *t, *before = NULL;

	(void)state;
	for (size_t i = 0; (t = df_template_at(i)) != NULL; before = t, i++) {
		assert_true(!before || strcmp(before->name, t->name) < 0);
		assert_true(t->about && *t->about);
		for (enum df_slot s = 0; s < DF_SLOT_COUNT; s++)
			if (slot_marks(df_template_slot(t, s)) != (s != DF_SLOT_PREFIX))
				fail_msg("%s: slot %d", t->name, (int)s);
		assert_null(t->stop_words[DF_STOP_MAX - 1]);
		assert_true(!t->replace_eos || t->stop_words[0]);
		assert_true(!t->thought_words[0] == !t->thought_words[1]);
		assert_true(!(t->fuse_system && t->reasoning));
		assert_true(!t->fuse_system || df_template_slot(t, DF_SLOT_SYSTEM)[1].kind == DF_ELEM_END);
		assert_null(t->own);
	}
	assert_non_null(before);
}

static void
find(void **state)
{
	static const char *const names[] = { "default", "empty", "alpaca", "vicuna", "chatml", "chatml_de", "qwen",
		"qwen3", "qwen3_nothink", "llama2", "llama2_zh", "llama3", "mistral", "mistral_small", "gemma", "phi",
		"deepseek", "deepseek3", "deepseekr1", "zephyr", "fewshot" };
	const struct df_template *t;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		OK(df_template_find(&t, names[i], &error));
		assert_string_equal(t->name, names[i]);
	}
	assert_int_equal(df_template_find(&t, "lama3", &error), DF_EUSAGE);
	assert_non_null(strstr(error.msg, "did you mean 'llama3'"));
	assert_int_equal(df_template_find(&t, "", &error), DF_EUSAGE);
	assert_int_equal(df_template_find(&t, "no template of ours has such a name", &error), DF_EUSAGE);
	assert_non_null(strstr(error.msg, "--list-templates"));
}

/* ---- files -------------------------------------------------------------- */

static char dir[] = "/tmp/df-test-template-XXXXXX";

/* dir/name with this text; borrowed. */
static const char *
put_file(const char *name, const char *text, size_t n)
{
	static char path[300];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	fclose(f);
	return path;
}

static void
assert_same_slot(const struct df_template *a, const struct df_template *b, enum df_slot s)
{
	const struct df_elem *x = df_template_slot(a, s), *y = df_template_slot(b, s);
	size_t i = 0;

	for (; x[i].kind != DF_ELEM_END; i++) {
		assert_int_equal(x[i].kind, y[i].kind);
		if (x[i].text)
			assert_string_equal(x[i].text, y[i].text);
	}
	assert_int_equal(y[i].kind, DF_ELEM_END);
}

/* What LLaMA-Factory has in Python, in YAML and in JSON. */
static void
files(void **state)
{
	static const char yaml[] = "# a comment\nname: mine\nabout: for the test\n"
				   "system: [\"<|system|>\\n{{content}}\", {eos_token}]\n"
				   "user:\n  - \"<|user|>\\n{{content}}\"\n  - eos_token:\n  - \"<|assistant|>\\n\"\n"
				   "default_system: You are Zephyr, a helpful assistant.\n";
	static const char json[] = "{\"system\": [\"<|system|>\\n{{content}}\", {\"eos_token\": true}], \"user\": "
				   "[\"<|user|>\\n{{content}}\", {\"eos_token\": null}, \"<|assistant|>\\n\"], "
				   "\"default_system\": \"You are Zephyr, a helpful assistant.\"}";
	static const char like[] = "like: llama3\nname: other\nprefix: []\nobservation: 'tool: {{content}}'\n"
				   "stop_words: [a, b, \"c\"]\nthought_words: [<t>, </t>]\ntool_format: qwen\n"
				   "reasoning: true\nreplace_eos: false\nprefix: [{token: x}, {bos_token}]\n";
	static const char all[] = "efficient_eos: true\nfuse_system: true\nsystem: '{{content}}, '\n";
	const struct df_template *t, *zephyr, *llama3;
	char hex[2][DF_DIGEST_HEX];

	(void)state;
	OK(df_template_find(&zephyr, "zephyr", &error));
	OK(df_template_find(&llama3, "llama3", &error));
	OK(df_template_open(&t, put_file("a.yaml", yaml, sizeof(yaml) - 1), &error));
	assert_string_equal(t->name, "mine");
	assert_string_equal(t->default_system, zephyr->default_system);
	for (enum df_slot s = 0; s < DF_SLOT_COUNT; s++)
		assert_same_slot(t, zephyr, s);
	OK(df_template_digest(t, hex[0], &error));
	OK(df_template_digest(zephyr, hex[1], &error));
	assert_string_equal(hex[0], hex[1]);
	OK(df_template_digest(llama3, hex[1], &error));
	assert_string_not_equal(hex[0], hex[1]);
	df_template_close(t);
	OK(df_template_open(&t, put_file("b.json", json, sizeof(json) - 1), &error));
	assert_string_equal(t->name, "b");
	for (enum df_slot s = 0; s < DF_SLOT_COUNT; s++)
		assert_same_slot(t, zephyr, s);
	df_template_close(t);

	/* A key twice is refused; without its second prefix the file is fine. */
	assert_int_equal(df_template_load(&t, put_file("c.yml", like, sizeof(like) - 1), &error), DF_ECONFIG);
	OK(df_template_load(&t, put_file("c.yml", like, (size_t)(strstr(like, "prefix: [{") - like)), &error));
	assert_string_equal(t->name, "other");
	assert_int_equal(df_template_slot(t, DF_SLOT_PREFIX)->kind, DF_ELEM_END);
	assert_same_slot(t, llama3, DF_SLOT_USER);
	assert_string_equal(df_template_slot(t, DF_SLOT_OBSERVATION)->text, "tool: {{content}}");
	assert_string_equal(t->stop_words[2], "c");
	assert_null(t->stop_words[3]);
	assert_string_equal(t->thought_words[1], "</t>");
	assert_int_equal(t->tool_format, DF_TOOLS_QWEN);
	assert_true(t->reasoning && !t->replace_eos);
	df_template_close(t);

	/* Names without an ending need a slash; `empty` is not the file in this directory. */
	OK(df_template_open(&t, put_file("empty", all, sizeof(all) - 1), &error));
	assert_string_equal(t->name, "empty");
	assert_true(t->own && t->efficient_eos && t->fuse_system);
	df_template_close(t);
	OK(df_template_open(&t, "empty", &error));
	assert_null(t->own);
	df_template_close(t);
	df_template_close(NULL);
	assert_int_equal(df_template_open(&t, "/nowhere/t.yaml", &error), DF_ENOINPUT);
}

static void
malformed(void **state)
{
	static const struct {
		const char *text, *words;
	} cases[] = {
		{ "", "empty" },
		{ "- a\n", "expected keys and values" },
		{ "just text", "expected keys and values" },
		{ "user: '{{content}}'\nusr: x\n", "unknown key 'usr'; did you mean 'user'?" },
		{ "user: hello\n", "'user': no text with {{content}}" },
		{ "user: [{bos_token}]\n", "'user': no text with {{content}}" },
		{ "prefix: '{{content}}'\n", "'prefix': {{content}} has no place here" },
		{ "user: 'a {{content}} {{contnet}}'\n", "'user': {{contnet}} means nothing here" },
		{ "user: ['{{content}}', {pad_token}]\n", "found {pad_token}" },
		{ "user: ['{{content}}', {bos_token: 7}]\n", "{bos_token} has no value" },
		{ "user: ['{{content}}', {token: [a]}]\n", "expected a text, found an array" },
		{ "user: ['{{content}}', {a: b, c: d}]\n", "expected a text, {bos_token}" },
		{ "user: ['{{content}}', '']\n", "a text is empty" },
		{ "user: ['{{content}}', null]\n", "found null" },
		{ "user: ['{{content}}', a, b, c, d, e, f, g]\n", "more than 7 elements" },
		{ "user: ['{{content}}', [a]]\n", "found an array" },
		{ "stop_words: text\n", "'stop_words': expected a list" },
		{ "stop_words: [1, 2, 3, 4, 5, 6, 7, 8]\n", "at most 7" },
		{ "thought_words: [a]\n", "'thought_words': expected a list of 2 texts" },
		{ "replace_eos: true\n", "'replace_eos' needs 'stop_words'" },
		{ "replace_eos: yes\n", "'replace_eos': expected a boolean" },
		{ "fuse_system: true\nsystem: ['{{content}}', {eos_token}]\n", "'fuse_system' needs" },
		{ "tool_format: qwn\n", "did you mean 'qwen'?" },
		{ "like: chatlm\n", "did you mean 'chatml'?" },
		{ "name: [a]\n", "'name': expected a string" },
		{ "a: &x b\nc: *x\n", "line 2: aliases" },
		{ "user: a\n---\nuser: b\n", "a second document" },
		{ "user: [[[[[[a]]]]]]\n", "nested" },
		{ "[a]: b\n", "a key must be a word" },
		{ "user: 'open\n", "line 2" },
		{ "user: \"\xFF\"\n", "" },
		{ "\tuser: a\n", "line 1" },
	};
	const struct df_template *t;
	char *big;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *path = put_file("bad.yaml", cases[i].text, strlen(cases[i].text));
		int rc = df_template_load(&t, path, &error);

		if (rc != DF_ECONFIG)
			fail_msg("%s: %d %s", cases[i].text, rc, rc ? error.msg : "");
		if (!strstr(error.msg, cases[i].words) || !strstr(error.msg, "bad.yaml"))
			fail_msg("%s: '%s' is not in '%s'", cases[i].text, cases[i].words, error.msg);
	}
	assert_int_not_equal(df_template_load(&t, put_file("bad.json", "{\"user\": ", 9), &error), 0);
	assert_int_not_equal(df_template_load(&t, put_file("bad.json", "[]", 2), &error), 0);
	assert_int_not_equal(df_template_load(&t, put_file("bad.json", "{\"name\": \"a\\u0000b\"}", 20), &error), 0);
	assert_int_not_equal(df_template_load(&t, dir, &error), 0);
	/* More than a template can be. */
	big = malloc(2 << 20);
	assert_non_null(big);
	memset(big, 'x', 2 << 20);
	assert_int_not_equal(df_template_load(&t, put_file("bad.yaml", big, 2 << 20), &error), 0);
	free(big);
}

/* A file cut anywhere is a template or an error. */
static void
cut_anywhere(void **state)
{
	static const char yaml[] =
	    "name: mine\nlike: qwen3\nuser: [{bos_token}, \"a\\n{{content}} {{idx}}\", {token: x}]\n"
	    "stop_words: [\"<|im_end|>\", y]\nthought_words: [a, b]\nreplace_eos: true\n";
	const struct df_template *t;

	(void)state;
	for (size_t n = 0; n < sizeof(yaml); n++) {
		int rc = df_template_load(&t, put_file("cut.yaml", yaml, n), &error);

		assert_true(rc == 0 || rc == DF_ECONFIG);
		if (rc == 0)
			df_template_close(t);
	}
}

static int
make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int
remove_dir(void **state)
{
	static const char *const names[] = { "a.yaml", "b.json", "c.yml", "empty", "bad.yaml", "bad.json", "cut.yaml" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		remove(put_file(names[i], "", 0));
	return rmdir(dir);
}

static void
catch_warning(void *ctx, enum df_log_level level, const char *msg)
{
	if (level == DF_LOG_WARN)
		snprintf(ctx, 512, "%s", msg);
}

static void
fix_tokenizer(void **state)
{
	const struct df_template *t;
	struct df_tokenizer *tok;
	char warning[512] = "", *path;
	uint32_t pad, before, end;

	(void)state;
	df_log_set_sink(catch_warning, warning);

	/* Everything is there: nothing grows, nobody is warned; pad becomes eos. */
	OK(df_path_join(&path, golden_dir, "tokenizer", &error));
	OK(df_tokenizer_open(&tok, path, &error));
	before = df_tokenizer_vocab_size(tok);
	end = df_tokenizer_lookup(tok, "<|im_end|>");
	assert_int_not_equal(end, df_tokenizer_eos(tok));
	OK(df_template_find(&t, "qwen", &error));
	OK(df_template_fix_tokenizer(t, tok, &pad, &error));
	assert_int_equal(df_tokenizer_eos(tok), end);
	assert_int_equal(pad, end);
	assert_int_equal(df_tokenizer_vocab_size(tok), before);
	assert_string_equal(warning, "");
	df_tokenizer_free(tok);

	/* llama3's two stop words are new here: the vocabulary grows by two, aloud. */
	OK(df_tokenizer_open(&tok, path, &error));
	OK(df_template_find(&t, "llama3", &error));
	OK(df_template_fix_tokenizer(t, tok, &pad, &error));
	assert_int_equal(df_tokenizer_vocab_size(tok), before + 2);
	assert_int_equal(df_tokenizer_eos(tok), df_tokenizer_lookup(tok, "<|eot_id|>"));
	assert_int_not_equal(df_tokenizer_lookup(tok, "<|eom_id|>"), DF_NO_TOKEN);
	assert_non_null(strstr(warning, "resize_vocab"));
	assert_non_null(strstr(warning, "adds 2 tokens"));
	df_tokenizer_free(tok);
	free(path);

	/* A template without stop words leaves eos and pad alone. */
	OK(df_tokenizer_open(&tok, "bytes", &error));
	OK(df_template_find(&t, "alpaca", &error));
	OK(df_template_fix_tokenizer(t, tok, &pad, &error));
	assert_int_equal(df_tokenizer_eos(tok), 257);
	assert_int_equal(pad, 258);
	df_tokenizer_free(tok);
	df_log_set_sink(NULL, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table),
		cmocka_unit_test(find),
		cmocka_unit_test(files),
		cmocka_unit_test(malformed),
		cmocka_unit_test(cut_anywhere),
		cmocka_unit_test(fix_tokenizer),
	};
	int rc;

	if (df_path_join(&golden_dir, getenv("DF_SRCDIR"), "tests/golden/templates", NULL) != 0)
		return 1;
	rc = cmocka_run_group_tests_name("template", tests, make_dir, remove_dir);
	free(golden_dir);
	return rc;
}
