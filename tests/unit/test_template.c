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

#include "base/file.h"
#include "base/log.h"
#include "text/template.h"

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
		cmocka_unit_test(fix_tokenizer),
	};
	int rc;

	if (df_path_join(&golden_dir, getenv("DF_SRCDIR"), "tests/golden/templates", NULL) != 0)
		return 1;
	rc = cmocka_run_group_tests_name("template", tests, NULL, NULL);
	free(golden_dir);
	return rc;
}
