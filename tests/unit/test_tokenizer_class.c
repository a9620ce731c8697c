/*
 * test_tokenizer_class.c - special tokens that no file names come from the tokenizer's class.
 *
 * Every expectation was read off transformers 4.57.1 (AutoTokenizer.from_pretrained on the same files).
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
#include "token/tokenizer.h"

static struct df_err error;
static char dir[] = "/tmp/df-test-class-XXXXXX";

static void
write_file(const char *name, const char *text, size_t n)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (!text) {
		unlink(path);
		return;
	}
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	fclose(f);
}

/* GPT-2's files with these beside them (NULL: none); -1: no token. */
static void
expect(const char *config, const char *model, const char *map, int bos, int eos, int pad, int vocab)
{
	struct df_tokenizer *t;

	write_file("tokenizer_config.json", config, config ? strlen(config) : 0);
	write_file("config.json", model, model ? strlen(model) : 0);
	write_file("special_tokens_map.json", map, map ? strlen(map) : 0);
	if (df_tokenizer_open(&t, dir, &error) != 0)
		fail_msg("%s: %s", config, error.msg);
	if ((int)df_tokenizer_bos(t) != bos || (int)df_tokenizer_eos(t) != eos || (int)df_tokenizer_pad(t) != pad ||
	    (int)df_tokenizer_vocab_size(t) != vocab)
		fail_msg("%s: bos %d eos %d pad %d vocabulary %d", config, (int)df_tokenizer_bos(t),
		    (int)df_tokenizer_eos(t), (int)df_tokenizer_pad(t), (int)df_tokenizer_vocab_size(t));
	df_tokenizer_free(t);
}

static void
classes(void **state)
{
	static const char gpt2[] = "{\"model_type\": \"gpt2\"}", llama[] = "{\"model_type\": \"llama\"}";
	char *path, *text;
	size_t n;

	(void)state;
	assert_int_equal(
	    df_path_join(&path, getenv("DF_SRCDIR"), "tests/golden/tokenizer/gpt2/tokenizer.json", NULL), 0);
	assert_int_equal(df_file_get(path, (size_t)16 << 20, &text, &n, &error), 0);
	assert_non_null(mkdtemp(dir));
	write_file("tokenizer.json", text, n);
	/* As on the hub: only config.json says what it is. */
	expect("{\"model_max_length\": 1024}", gpt2, NULL, 1200, 1200, -1, 1201);
	expect("{\"tokenizer_class\": \"GPT2Tokenizer\"}", NULL, NULL, 1200, 1200, -1, 1201);
	expect("{\"tokenizer_class\": \"GPT2TokenizerFast\", \"eos_token\": null}", NULL, NULL, 1200, -1, -1, 1201);
	expect("{\"tokenizer_class\": \"Qwen2Tokenizer\"}", NULL, NULL, -1, 1200, 1200, 1201);
	expect("{\"tokenizer_class\": \"Qwen2Tokenizer\", \"eos_token\": \"of\", \"pad_token\": \"a\"}", NULL, NULL, -1,
	    1201, 64, 1202);
	expect("{\"tokenizer_class\": \"PreTrainedTokenizerFast\"}", gpt2, NULL, -1, -1, -1, 1201);
	expect("{\"tokenizer_class\": \"LlamaTokenizerFast\"}", NULL, NULL, 1201, 1202, -1, 1204);
	expect("{}", llama, NULL, 1201, 1202, -1, 1204);
	/* Nor does tokenizer_config.json have to exist; of a tokenizer.json alone nothing is guessed. */
	expect(NULL, gpt2, NULL, 1200, 1200, -1, 1201);
	expect(NULL, llama, NULL, 1201, 1202, -1, 1204);
	expect(NULL, NULL, NULL, -1, -1, -1, 1201);
	expect("{\"tokenizer_class\": \"GPT2Tokenizer\"}", NULL, "{\"bos_token\": \"a\"}", 64, 1200, -1, 1201);
	expect("{\"tokenizer_class\": \"GPT2Tokenizer\", \"added_tokens_decoder\": {}}", NULL, "{\"bos_token\": \"a\"}",
	    1200, 1200, -1, 1201);
	write_file("tokenizer.json", NULL, 0);
	write_file("tokenizer_config.json", NULL, 0);
	rmdir(dir);
	free(text);
	free(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(classes) };

	return cmocka_run_group_tests_name("tokenizer classes", tests, NULL, NULL);
}
