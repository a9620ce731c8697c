/*
 * tokenizer.h against ids that Hugging Face's tokenizers gave
 * (tests/golden/tokenizer.py), for each family and with every flag of added
 * tokens; the matchers against their regexes; saving; threads' scratch.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/rng.h"
#include "text/tok_priv.h"

static char *
fixture(const char *name)
{
	const char *src = getenv("DF_SRCDIR");
	char *path = NULL;

	if (asprintf(&path, "%s/tests/golden/tokenizer/%s", src ? src : ".", name) < 0)
		fail();
	return path;
}

#define OK(call)                                            \
	do {                                                \
		if ((call) != DF_OK)                        \
			fail_msg("%s: %s", #call, err.msg); \
	} while (0)

/* --- fixtures ------------------------------------------------------------------------------------------------- */

static void
same_ids(const char *family, const char *text, size_t n, const struct df_ids *ours, const struct df_json_value *theirs)
{
	int64_t id;

	for (size_t i = 0; i < ours->n || i < df_json_size(theirs); i++) {
		if (i < ours->n && df_json_int(df_json_at(theirs, i), &id) && id == ours->v[i])
			continue;
		fail_msg("%s: '%.*s': id %zu of %zu differs from the reference (%zu)", family, (int)(n < 100 ? n : 100),
		    text, i, ours->n, df_json_size(theirs));
	}
}

static void
check_family(const char *family, const struct df_json_value *cases)
{
	const struct df_json_value *texts = df_json_get(cases, "texts"), *repeat = df_json_get(cases, "repeat");
	const struct df_json_value *all = df_json_get(cases, family), *split;
	struct df_err err = DF_ERR_INIT;
	struct df_tokenizer *t = NULL;
	struct df_tokscratch *s = NULL;
	struct df_ids ids = { .v = NULL };
	char *path = fixture(family), key[40];
	size_t n_texts = df_json_size(texts), total = 0;

	snprintf(key, sizeof(key), "%s-split", family);
	split = df_json_get(cases, key);
	OK(df_tokenizer_open(&t, path, &err));
	OK(df_tokscratch_new(&s, t, &err));
	assert_int_equal(df_json_size(all), n_texts + df_json_size(repeat));
	assert_true(n_texts > 400 && df_json_size(split) > 0);
	for (size_t i = 0; i < df_json_size(all); i++) {
		const struct df_json_value *expected[2] = { df_json_at(all, i), df_json_at(all, i) };
		struct df_buf text = DF_BUF_INIT;
		const char *p;
		size_t n;
		int64_t times = 1;

		if (i < n_texts) {
			p = df_json_str(df_json_at(texts, i), &n);
		} else {
			p = df_json_str(df_json_at(df_json_at(repeat, i - n_texts), 0), &n);
			assert_true(df_json_int(df_json_at(df_json_at(repeat, i - n_texts), 1), &times));
		}
		/* In a block of its own size, so that ASan sees a read beyond it. */
		char *copy = malloc(n * (size_t)times + 1);
		for (int64_t k = 0; k < times; k++)
			memcpy(copy + (size_t)k * n, p, n);
		n *= (size_t)times;
		copy = realloc(copy, n > 0 ? n : 1);
		snprintf(key, sizeof(key), "%zu", i);
		if (df_json_get(split, key) != NULL)
			expected[1] = df_json_get(split, key);
		for (int k = 0; k < 2; k++) {
			ids.n = 0;
			OK(df_tokenizer_encode(t, s, copy, n, k == 1, &ids, &err));
			same_ids(family, copy, n, &ids, expected[k]);
			total += ids.n;
		}
		/* Ids of special tokens aside, what is encoded decodes to itself, up to NFC. */
		if (strcmp(family, "gpt2") == 0 || strcmp(family, "llama3") == 0) {
			OK(df_tokenizer_decode(t, ids.v, ids.n, &text, &err));
			assert_int_equal(text.len, n);
			assert_memory_equal(text.data ? text.data : "", copy, n);
		}
		df_buf_release(&text);
		free(copy);
	}
	assert_true(total > 10000);
	print_message("%s: %zu texts, %zu ids as the reference's\n", family, df_json_size(all), total);
	df_ids_release(&ids);
	df_tokscratch_free(s);
	df_tokenizer_free(t);
	free(path);
}

static void
test_fixtures(void **state)
{
	static const char *const families[] = { "gpt2", "llama3", "qwen2", "flags" };
	struct df_err err = DF_ERR_INIT;
	struct df_json *j = NULL;
	char *path = fixture("cases.json");

	(void)state;
	OK(df_json_load(&j, path, 64 << 20, &err));
	for (size_t i = 0; i < 4; i++)
		check_family(families[i], df_json_root(j));
	df_json_free(j);
	free(path);
}

/* --- the matchers against their regexes ----------------------------------------------------------------------- */

static size_t
put_random_char(char *out, const uint32_t r[4])
{
	static const uint32_t hard[] = { '\'', 's', 'S', 'T', 'r', 'e', 'v', 'l', 'L', 'm', 'd', 0x17F, ' ', ' ', '\t',
		'\r', '\n', 0x85, 0xA0, 0x180E, 0x2028, 0x3000, '1', '2', 0x663, 0xB2, 0x2163, 'x', 0xE9, 0x4E2D, 0x301,
		'.', '!', 0x1F600, 0x200D, 0 };
	uint32_t c = hard[r[0] % (sizeof(hard) / sizeof(hard[0]))];
	struct df_buf b = DF_BUF_INIT;
	size_t n;

	/* Any code point that PCRE2's older Unicode knows as the table does. */
	if (r[1] % 8 == 0)
		c = r[2] % 0x1C80 == 0xAD ? 'a' : r[2] % 0x1C80;
	df_buf_put_utf8(&b, c);
	n = b.len;
	memcpy(out, b.data, n);
	df_buf_release(&b);
	return n;
}

struct words {
	const char *text;
	size_t end[512], n;
};

static int
note_word(void *ctx, const char *word, size_t n)
{
	struct words *w = ctx;

	w->end[w->n++] = (size_t)(word - w->text) + n;
	return DF_OK;
}

static void
test_matchers(void **state)
{
	static const char *const patterns[] = {
		"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
		"\\s+(?!\\S)|\\s+",
		"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
		"\\s+(?!\\S)|\\s+",
		"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
	};
	struct df_err err = DF_ERR_INIT;
	struct tok_regex_scratch *s = NULL;

	(void)state;
	df_uc_init();
	OK(df_tok_regex_scratch_new(&s, &err));
	for (size_t p = 0; p < 3; p++) {
		tok_matcher *match = df_tok_matcher_find(patterns[p]);
		struct tok_split sp = { .behavior = TOK_ISOLATED };

		assert_non_null(match);
		OK(df_tok_regex_new(&sp.regex, patterns[p], strlen(patterns[p]), false, &err));
		for (uint32_t i = 0; i < 20000; i++) {
			char text[256];
			struct words w = { .text = text };
			uint32_t r[4];
			size_t n = 0, at = 0, k = 0;

			df_rng_words(1, DF_RNG_DEMO, (uint32_t)p, i, r);
			for (uint32_t c = 0, count = 1 + r[0] % 30; c < count; c++) {
				df_rng_words(2, DF_RNG_DEMO, i, c, r);
				n += put_random_char(text + n, r);
			}
			OK(df_tok_cut_regex(&sp, s, text, n, note_word, &w, &err));
			while (at < n) {
				at = match((const unsigned char *)text, n, at);
				if (k >= w.n || w.end[k++] != at)
					fail_msg("pattern %zu, string %u: a word ends at %zu", p, i, at);
			}
			assert_int_equal(k, w.n);
		}
		df_tok_regex_free(sp.regex);
	}
	df_tok_regex_scratch_free(s);
	assert_null(df_tok_matcher_find("\\p{L}+"));
}

/* --- bytes, special tokens, saving ---------------------------------------------------------------------------- */

static void
expect(const struct df_tokenizer *t, const char *text, bool split, const uint32_t *want, size_t n)
{
	struct df_err err = DF_ERR_INIT;
	struct df_tokscratch *s = NULL;
	struct df_ids ids = { .v = NULL };

	OK(df_tokscratch_new(&s, t, &err));
	OK(df_tokenizer_encode(t, s, text, strlen(text), split, &ids, &err));
	assert_int_equal(ids.n, n);
	assert_memory_equal(ids.v, want, n * sizeof(*want));
	df_ids_release(&ids);
	df_tokscratch_free(s);
}

static void
check_bytes(const struct df_tokenizer *t)
{
	expect(t, "a\xC3\xA9<|eos|>", false, (uint32_t[]){ 'a', 0xC3, 0xA9, 257 }, 4);
	expect(t, "<|eos|>", true, (uint32_t[]){ '<', '|', 'e', 'o', 's', '|', '>' }, 7);
	assert_string_equal(df_tokenizer_id(t), "bytes");
	assert_int_equal(df_tokenizer_bos(t), 256);
	assert_int_equal(df_tokenizer_eos(t), 257);
	assert_int_equal(df_tokenizer_pad(t), 258);
	assert_int_equal(df_tokenizer_vocab_size(t), 259);
	assert_false(df_tokenizer_add_bos(t));
	assert_int_equal(df_tokenizer_lookup(t, "<|pad|>"), 258);
	assert_int_equal(df_tokenizer_lookup(t, "\xC4\xA0"), ' ');
	assert_int_equal(df_tokenizer_lookup(t, "ab"), DF_NO_TOKEN);
}

static void
test_bytes(void **state)
{
	char dir[] = "/tmp/df-test-tok-XXXXXX";
	struct df_err err = DF_ERR_INIT;
	struct df_tokenizer *t = NULL, *again = NULL;
	struct df_buf text = DF_BUF_INIT;
	uint32_t id;

	(void)state;
	assert_non_null(mkdtemp(dir));
	OK(df_tokenizer_open(&t, "bytes", &err));
	check_bytes(t);
	OK(df_tokenizer_decode(t, (uint32_t[]){ 0xC3, 0xA9, 257 }, 3, &text, &err));
	assert_string_equal(text.data, "\xC3\xA9<|eos|>");
	assert_int_equal(df_tokenizer_decode(t, (uint32_t[]){ 259 }, 1, &text, &err), DF_ERANGE);
	/* What is saved and opened again is the same tokenizer, and says so. */
	OK(df_tokenizer_save(t, dir, &err));
	OK(df_tokenizer_open(&again, dir, &err));
	check_bytes(again);
	df_tokenizer_free(again);
	/* Also with a template's fix-ups. */
	OK(df_tokenizer_add_special(t, "<|im_start|>", &id, &err));
	assert_int_equal(id, 259);
	OK(df_tokenizer_set_eos(t, "<|im_end|>", &err));
	assert_int_equal(df_tokenizer_eos(t), 260);
	assert_string_not_equal(df_tokenizer_id(t), "bytes");
	expect(t, "x<|im_end|>", false, (uint32_t[]){ 'x', 260 }, 2);
	OK(df_tokenizer_save(t, dir, &err));
	OK(df_tokenizer_open(&again, dir, &err));
	assert_string_equal(df_tokenizer_id(t), df_tokenizer_id(again));
	assert_int_equal(df_tokenizer_eos(again), 260);
	df_tokenizer_free(again);
	df_tokenizer_free(t);
	df_buf_release(&text);
	OK(df_rmtree(dir, &err));
}

static void
test_save(void **state)
{
	char dir[] = "/tmp/df-test-tok-XXXXXX";
	char *path = fixture("qwen2");
	struct df_err err = DF_ERR_INIT;
	struct df_tokenizer *t = NULL, *again = NULL;
	char before[64];
	uint32_t id, n;

	(void)state;
	assert_non_null(mkdtemp(dir));
	OK(df_tokenizer_open(&t, path, &err));
	assert_int_equal(df_tokenizer_bos(t), DF_NO_TOKEN);
	assert_int_equal(df_tokenizer_eos(t), df_tokenizer_lookup(t, "<|im_end|>"));
	assert_int_equal(df_tokenizer_pad(t), df_tokenizer_lookup(t, "<|endoftext|>"));
	OK(df_tokenizer_save(t, dir, &err));
	OK(df_tokenizer_open(&again, dir, &err));
	assert_string_equal(df_tokenizer_id(t), df_tokenizer_id(again));
	df_tokenizer_free(again);

	n = df_tokenizer_vocab_size(t);
	snprintf(before, sizeof(before), "%s", df_tokenizer_id(t));
	OK(df_tokenizer_add_special(t, "<|im_end|>", &id, &err));
	assert_string_equal(before, df_tokenizer_id(t));
	OK(df_tokenizer_add_special(t, "<|new|>", &id, &err));
	assert_int_equal(id, n);
	OK(df_tokenizer_set_eos(t, "<|endoftext|>", &err));
	assert_string_not_equal(before, df_tokenizer_id(t));
	OK(df_tokenizer_save(t, dir, &err));
	OK(df_tokenizer_open(&again, dir, &err));
	assert_string_equal(df_tokenizer_id(t), df_tokenizer_id(again));
	assert_int_equal(df_tokenizer_eos(again), df_tokenizer_lookup(t, "<|endoftext|>"));
	expect(again, "<|new|>", false, &id, 1);
	df_tokenizer_free(again);
	df_tokenizer_free(t);
	OK(df_rmtree(dir, &err));
	free(path);

	path = fixture("llama3/tokenizer.json");
	OK(df_tokenizer_open(&t, path, &err));
	assert_true(df_tokenizer_add_bos(t));
	assert_int_equal(df_tokenizer_bos(t), df_tokenizer_lookup(t, "<|begin_of_text|>"));
	assert_int_equal(df_tokenizer_eos(t), df_tokenizer_lookup(t, "<|eot_id|>"));
	df_tokenizer_free(t);
	free(path);
}

static void
test_not_utf8(void **state)
{
	static const char *const bad[] = { "ab\xff", "ab\xc0\x80", "ab\xed\xa0\x80", "ab\xe4\xb8", "ab\xf4\x90\x80\x80",
		"ab\x80" };
	struct df_err err = DF_ERR_INIT;
	struct df_tokenizer *t = NULL;
	struct df_tokscratch *s = NULL;
	struct df_ids ids = { .v = NULL };

	(void)state;
	OK(df_tokenizer_open(&t, "bytes", &err));
	OK(df_tokscratch_new(&s, t, &err));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(df_tokenizer_encode(t, s, bad[i], strlen(bad[i]), false, &ids, &err), DF_EFORMAT);
		assert_non_null(strstr(err.msg, "byte 2:"));
		assert_int_equal(ids.n, 0);
	}
	df_ids_release(&ids);
	df_tokscratch_free(s);
	df_tokenizer_free(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fixtures),
		cmocka_unit_test(test_matchers),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_save),
		cmocka_unit_test(test_not_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
