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
#include "token/token_priv.h"

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

/* CRC-32 of ids as little-endian bytes (zlib's), by which cases.json knows the long lists. */
static uint32_t
crc_of(const uint32_t *ids, size_t n)
{
	uint32_t crc = 0xFFFFFFFFu;

	for (size_t i = 0; i < 4 * n; i++) {
		crc ^= ids[i / 4] >> 8 * (i % 4) & 0xFF;
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
	}
	return ~crc;
}

struct family {
	const char *name;
	struct df_tokenizer *t;
	struct df_tokscratch *s;
	struct df_ids ids;
	size_t n_ids;
};

static void
same_ids(struct family *f, const char *text, size_t n, const struct df_json_value *theirs)
{
	int64_t id;

	for (size_t i = 0; i < f->ids.n || i < df_json_size(theirs); i++) {
		if (i < f->ids.n && df_json_int(df_json_at(theirs, i), &id) && id == f->ids.v[i])
			continue;
		fail_msg("%s: '%.*s': id %zu of %zu differs from the reference (%zu)", f->name,
		    (int)(n < 100 ? n : 100), text, i, f->ids.n, df_json_size(theirs));
	}
	f->n_ids += f->ids.n;
}

/* Encode from a block of the text's own size, so that ASan sees a read beyond it. */
static void
encode(struct family *f, const char *text, size_t n, size_t times, bool split)
{
	struct df_err err = DF_ERR_INIT;
	char *copy = malloc(n * times > 0 ? n * times : 1);

	for (size_t k = 0; k < times; k++)
		memcpy(copy + k * n, text, n);
	f->ids.n = 0;
	OK(df_tokenizer_encode(f->t, f->s, copy, n * times, split, &f->ids, &err));
	free(copy);
}

static void
check_texts(struct family *f, const struct df_json_value *cases, const struct df_json_value *texts)
{
	const struct df_json_value *ids = df_json_get(cases, "ids"), *split = df_json_get(cases, "split"), *other;
	char key[24];

	assert_int_equal(df_json_size(ids), df_json_size(texts));
	assert_true(df_json_size(texts) > 300 && df_json_size(split) > 0);
	for (size_t i = 0; i < df_json_size(ids); i++) {
		size_t n;
		const char *text = df_json_str(df_json_at(texts, i), &n);

		encode(f, text, n, 1, false);
		same_ids(f, text, n, df_json_at(ids, i));
		snprintf(key, sizeof(key), "%zu", i);
		other = df_json_get(split, key);
		encode(f, text, n, 1, true);
		same_ids(f, text, n, other != NULL ? other : df_json_at(ids, i));
	}
}

static void
check_repeats(struct family *f, const struct df_json_value *cases, const struct df_json_value *repeat)
{
	const struct df_json_value *all = df_json_get(cases, "repeat");
	int64_t times, count, crc;
	size_t n;

	assert_int_equal(df_json_size(all), df_json_size(repeat));
	for (size_t i = 0; i < df_json_size(all); i++) {
		const char *text = df_json_str(df_json_at(df_json_at(repeat, i), 0), &n);

		assert_true(df_json_int(df_json_at(df_json_at(repeat, i), 1), &times));
		assert_true(df_json_int(df_json_at(df_json_at(all, i), 0), &count));
		assert_true(df_json_int(df_json_at(df_json_at(all, i), 1), &crc));
		encode(f, text, n, (size_t)times, false);
		if (f->ids.n != (size_t)count || crc_of(f->ids.v, f->ids.n) != (uint32_t)crc)
			fail_msg("%s: '%s' %ld times: %zu ids, the reference has %ld, or others", f->name, text,
			    (long)times, f->ids.n, (long)count);
		f->n_ids += f->ids.n;
	}
}

/* With special tokens around the text, cut to a length. */
static void
check_framed(struct family *f, const struct df_json_value *cases, const struct df_json_value *texts)
{
	const struct df_json_value *all = df_json_get(cases, "framed");
	struct df_err err = DF_ERR_INIT;
	const uint32_t *before, *after;
	size_t n_before, n_after, n;
	int64_t i, length;

	assert_true(df_json_size(all) > 20);
	for (size_t k = 0; k < df_json_size(all); k++) {
		const struct df_json_value *one = df_json_at(all, k);
		const char *text;

		assert_true(df_json_int(df_json_at(one, 0), &i) && df_json_int(df_json_at(one, 1), &length));
		text = df_json_str(df_json_at(texts, (size_t)i), &n);
		f->ids.n = 0;
		OK(df_tokenizer_encode_framed(f->t, f->s, text, n, (size_t)length, &f->ids, NULL, &err));
		same_ids(f, text, n, df_json_at(one, 2));
	}
	df_tokenizer_frame(f->t, &before, &n_before, &after, &n_after);
	if (n_before + n_after > 1)
		assert_int_equal(df_tokenizer_encode_framed(f->t, f->s, "a", 1, 1, &f->ids, NULL, &err), DF_ERANGE);
}

/* The text of ids, with special tokens and without; pushed one by one, what is settled stays. */
static void
check_decode(struct family *f, const struct df_json_value *cases)
{
	const struct df_json_value *all = df_json_get(cases, "decode");
	struct df_err err = DF_ERR_INIT;

	assert_true(df_json_size(all) > 40);
	for (size_t k = 0; k < 2 * df_json_size(all); k++) {
		const struct df_json_value *one = df_json_at(all, k / 2), *ids = df_json_at(one, 0);
		struct df_buf settled = DF_BUF_INIT;
		struct df_detok *d = NULL;
		const char *want, *text;
		size_t want_n, n, n_settled;
		int64_t id;

		want = df_json_str(df_json_at(one, 1 + k % 2), &want_n);
		OK(df_detok_new(&d, f->t, k % 2 == 1, &err));
		for (size_t i = 0; i < df_json_size(ids); i++) {
			assert_true(df_json_int(df_json_at(ids, i), &id));
			OK(df_detok_push(d, (uint32_t)id, &err));
			text = df_detok_text(d, &n, &n_settled);
			assert_true(n_settled >= settled.len && n_settled <= n);
			assert_int_equal(df_utf8_check(text, n), n);
			if (settled.len > 0)
				assert_memory_equal(text, settled.data, settled.len);
			df_buf_add(&settled, text + settled.len, n_settled - settled.len);
		}
		OK(df_detok_end(d, &err));
		text = df_detok_text(d, &n, NULL);
		if (n != want_n || memcmp(text, want, n) != 0)
			fail_msg(
			    "%s: list %zu: '%.*s', the reference decodes '%s'", f->name, k / 2, (int)n, text, want);
		df_buf_release(&settled);
		df_detok_free(d);
	}
}

static void
check_family(const char *name, const struct df_json_value *root)
{
	const struct df_json_value *texts = df_json_get(root, "texts"), *cases = df_json_get(root, name);
	struct family f = { .name = name };
	struct df_err err = DF_ERR_INIT;
	char *path = fixture(name);

	OK(df_tokenizer_open(&f.t, path, &err));
	OK(df_tokscratch_new(&f.s, f.t, &err));
	check_texts(&f, cases, texts);
	check_repeats(&f, cases, df_json_get(root, "repeat"));
	check_framed(&f, cases, texts);
	check_decode(&f, cases);
	assert_true(f.n_ids > 3000);
	print_message("%s: %zu texts, %zu ids as the reference's\n", name, df_json_size(texts), f.n_ids);
	df_ids_release(&f.ids);
	df_tokscratch_free(f.s);
	df_tokenizer_free(f.t);
	free(path);
}

static void
test_fixtures(void **state)
{
	static const char *const families[] = { "gpt2", "llama3", "qwen2", "flags", "bert", "llama2", "mistral" };
	struct df_err err = DF_ERR_INIT;
	struct df_json *j = NULL;
	char *path = fixture("cases.json");

	(void)state;
	OK(df_json_load(&j, path, 64 << 20, &err));
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		check_family(families[i], df_json_root(j));
	df_json_free(j);
	free(path);
}

/*
 * What is not finished does not show: bytes of a character, and with byte fallback a run of byte tokens, which one
 * wrong byte spoils.
 */
static void
test_unfinished(void **state)
{
	char *path = fixture("llama2");
	struct df_err err = DF_ERR_INIT;
	struct df_tokenizer *t = NULL;
	struct df_detok *d = NULL;
	size_t n, n_settled;

	(void)state;
	OK(df_tokenizer_open(&t, "bytes", &err));
	OK(df_detok_new(&d, t, true, &err));
	OK(df_detok_push(d, 'a', &err));
	OK(df_detok_push(d, 0xC3, &err));
	df_detok_text(d, &n, &n_settled);
	assert_int_equal(n, 1);
	OK(df_detok_push(d, 257, &err));
	OK(df_detok_push(d, 99999, &err));
	OK(df_detok_push(d, 0xA9, &err));
	assert_string_equal(df_detok_text(d, &n, &n_settled), "a\xC3\xA9");
	assert_int_equal(n_settled, 3);
	OK(df_detok_push(d, 0xC3, &err));
	OK(df_detok_push(d, 'b', &err));
	OK(df_detok_push(d, 0xE4, &err));
	OK(df_detok_push(d, 0xB8, &err));
	OK(df_detok_end(d, &err));
	assert_string_equal(df_detok_text(d, &n, NULL),
	    "a\xC3\xA9\xEF\xBF\xBD"
	    "b\xEF\xBF\xBD");
	df_detok_free(d);
	df_tokenizer_free(t);

	/* <0x0A> is id 3 + 10. */
	OK(df_tokenizer_open(&t, path, &err));
	OK(df_detok_new(&d, t, true, &err));
	OK(df_detok_push(d, 3 + 10, &err));
	assert_string_equal(df_detok_text(d, &n, &n_settled), "\n");
	assert_int_equal(n, 1);
	assert_int_equal(n_settled, 0);
	OK(df_detok_push(d, 3 + 0xC3, &err));
	df_detok_text(d, &n, &n_settled);
	assert_int_equal(n, 0);
	OK(df_detok_push(d, 3 + 0xA9, &err));
	assert_string_equal(df_detok_text(d, &n, &n_settled), "\n\xC3\xA9");
	OK(df_detok_push(d, 3 + 0xFF, &err));
	OK(df_detok_end(d, &err));
	assert_string_equal(df_detok_text(d, &n, NULL), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
	df_detok_reset(d);
	OK(df_detok_push(d, 3 + 'x', &err));
	assert_string_equal(df_detok_text(d, &n, NULL), "x");
	df_detok_free(d);
	df_tokenizer_free(t);
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

/* Files from before tokenizer.json; what is saved has one. */
static void
test_old_files(void **state)
{
	static const struct {
		const char *name, *text;
	} bert[] = { { "vocab.txt", "[PAD]\n[UNK]\n[CLS]\r\n[SEP]\nthe\n##m\n.\n" },
		{ "tokenizer_config.json", "{\"tokenizer_class\": \"BertTokenizer\"}" } },
	  qwen[] = { { "vocab.json", "{\"a\":0,\"b\":1,\"ab\":2,\"<|endoftext|>\":3}" },
		  { "merges.txt", "#version: 0.2\na b\n" },
		  { "tokenizer_config.json", "{\"tokenizer_class\": \"Qwen2TokenizerFast\"}" } };
	char dir[] = "/tmp/df-test-tok-XXXXXX";
	struct df_err err = DF_ERR_INIT;
	struct df_tokenizer *t = NULL, *again = NULL;
	char *path = NULL, *saved = NULL;

	(void)state;
	assert_non_null(mkdtemp(dir));
	OK(df_path_join(&saved, dir, "saved", &err));
	for (size_t k = 0; k < 2; k++) {
		for (size_t i = 0; i < 2 + k; i++) {
			OK(df_path_join(&path, dir, k == 0 ? bert[i].name : qwen[i].name, &err));
			OK(df_file_put(path, k == 0 ? bert[i].text : qwen[i].text,
			    strlen(k == 0 ? bert[i].text : qwen[i].text), &err));
			free(path);
		}
		OK(df_tokenizer_open(&t, dir, &err));
		if (k == 0)
			expect(t, "The THEM.[SEP]x", false, (uint32_t[]){ 4, 4, 5, 6, 3, 1 }, 6);
		else
			expect(t, "abba<|endoftext|>", false, (uint32_t[]){ 2, 1, 0, 3 }, 4);
		OK(df_tokenizer_save(t, saved, &err));
		OK(df_tokenizer_open(&again, saved, &err));
		assert_string_equal(df_tokenizer_id(t), df_tokenizer_id(again));
		df_tokenizer_free(again);
		df_tokenizer_free(t);
		OK(df_rmtree(dir, &err));
		OK(df_mkdirs(dir, &err));
	}
	assert_int_equal(df_tokenizer_open(&t, dir, &err), DF_ENOINPUT);
	OK(df_path_join(&path, dir, "vocab.txt", &err));
	OK(df_file_put(path, "a\nb\n", 4, &err));
	assert_int_equal(df_tokenizer_open(&t, dir, &err), DF_EFORMAT);
	OK(df_file_put(path, "a\n\xff\n", 4, &err));
	assert_int_equal(df_tokenizer_open(&t, dir, &err), DF_EFORMAT);
	assert_non_null(strstr(err.msg, "vocab.txt: byte 2"));
	OK(df_rmtree(dir, &err));
	free(path);
	free(saved);
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
		cmocka_unit_test(test_unfinished),
		cmocka_unit_test(test_matchers),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_save),
		cmocka_unit_test(test_old_files),
		cmocka_unit_test(test_not_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
