/*
 * tokenizer.json as an enemy writes it: every document is refused with a
 * message that says where, in memory of the order of the file's size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "token/tokenizer.h"

#define PRE                  "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define MODEL(vocab, merges) "\"model\":{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges "}"
#define DOC(rest)            "{" PRE "," rest "}"
#define GOOD                 MODEL("{\"a\":0,\"b\":1,\"ab\":2}", "[\"a b\"]")

static char dir[] = "/tmp/df-test-hostile-XXXXXX";

static void
put(const char *name, const char *text, size_t n)
{
	struct df_err err = DF_ERR_INIT;
	char *path = NULL;

	if (df_path_join(&path, dir, name, &err) != DF_OK || df_file_put(path, text, n, &err) != DF_OK)
		fail_msg("%s", err.msg);
	free(path);
}

static int
opened(const char *text, size_t n, struct df_err *err)
{
	struct df_tokenizer *t = NULL;
	int rc;

	put("tokenizer.json", text, n);
	rc = df_tokenizer_open(&t, dir, err);
	assert_true((rc == DF_OK) == (t != NULL));
	df_tokenizer_free(t);
	return rc;
}

static void
test_documents(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *says;
	} cases[] = {
		{ DOC(GOOD), DF_OK, "" },
		{ "", DF_EFORMAT, "tokenizer.json" },
		{ "[]", DF_EFORMAT, "expected an object" },
		{ "{}", DF_EFORMAT, "model" },
		{ "{\"model\": 3}", DF_EFORMAT, "model: expected an object, found an integer" },
		{ "{\"model\": {\"type\": \"BPE\"}}", DF_EFORMAT, "model.vocab" },
		{ DOC(MODEL("[]", "[]")), DF_EFORMAT, "model.vocab: expected an object, found an array" },
		{ DOC(MODEL("{}", "{}")), DF_EFORMAT, "model.merges: expected an array" },
		{ DOC(MODEL("{}", "[]")), DF_OK, "" },
		{ "{" GOOD "}", DF_OK, "" },
		{ DOC(MODEL("{\"a\":\"0\"}", "[]")), DF_EFORMAT, "'a': the id is a string" },
		{ DOC(MODEL("{\"a\":1.5}", "[]")), DF_EFORMAT, "'a': the id is a real number" },
		{ DOC(MODEL("{\"a\":-1}", "[]")), DF_EFORMAT, "'a': id -1" },
		{ DOC(MODEL("{\"a\":2147483648}", "[]")), DF_EFORMAT, "'a': id 2147483648" },
		{ DOC(MODEL("{\"a\":4294967295}", "[]")), DF_EFORMAT, "'a': id 4294967295" },
		{ DOC(MODEL("{\"a\":9223372036854775807}", "[]")), DF_EFORMAT, "'a': id 9223372036854775807" },
		{ DOC(MODEL("{\"a\":99999999999999999999}", "[]")), DF_EFORMAT, "the id is a real number" },
		{ DOC(MODEL("{\"a\":0,\"b\":0}", "[]")), DF_EFORMAT, "'a' and 'b' both have id 0" },
		{ DOC(MODEL("{\"a\":0}", "[\"a x\"]")), DF_EFORMAT, "model.merges[0]: 'x' is not in the vocabulary" },
		{ DOC(MODEL("{\"a\":0}", "[\"a a\"]")), DF_EFORMAT,
		    "model.merges[0]: the merged 'aa' is not in the vocabulary" },
		{ DOC(MODEL("{\"a\":0,\"aa\":1}", "[\"a a\",\"a\"]")), DF_EFORMAT, "model.merges[1]" },
		{ DOC(MODEL("{\"a\":0,\"aa\":1}", "[\"a a a\"]")), DF_EFORMAT, "model.merges[0]" },
		{ DOC(MODEL("{\"a\":0,\"aa\":1}", "[[\"a\",\"a\"]]")), DF_OK, "" },
		{ DOC(MODEL("{\"a\":0,\"aa\":1}", "[[\"a\",1]]")), DF_EFORMAT, "model.merges[0]" },
		{ DOC(MODEL("{\"a\":0,\"aa\":1}", "[[\"a\"]]")), DF_EFORMAT, "model.merges[0]" },
		{ DOC(MODEL("{\"a\":0,\"aa\":1}", "[7]")), DF_EFORMAT, "model.merges[0]" },
		/* A token that merges with the empty one is itself: merging it for ever must end. */
		{ DOC(MODEL("{\"a\":0,\"\":1}", "[[\"a\",\"\"],[\"\",\"a\"],[\"\",\"\"]]")), DF_OK, "" },
		{ DOC("\"model\":{\"type\":\"Unigram\",\"vocab\":{},\"merges\":[]}"), DF_EUNSUPPORTED, "'Unigram'" },
		{ DOC("\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0.5]]}"), DF_EUNSUPPORTED, "'Unigram'" },
		{ DOC("\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0}}"), DF_EUNSUPPORTED,
		    "WordPiece after ByteLevel" },
		{ "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0}}}", DF_OK, "" },
		{ "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", DF_EFORMAT, "'[UNK]'" },
		{ "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0},\"max_input_chars_per_word\":-1}}",
		    DF_ERANGE, "max_input_chars" },
		{ DOC("\"model\":{\"byte_fallback\":true,\"vocab\":{},\"merges\":[]}"), DF_EUNSUPPORTED,
		    "byte_fallback" },
		{ DOC("\"model\":{\"dropout\":0.1,\"vocab\":{},\"merges\":[]}"), DF_EUNSUPPORTED, "dropout" },
		{ DOC("\"model\":{\"end_of_word_suffix\":\"</w>\",\"vocab\":{},\"merges\":[]}"), DF_EUNSUPPORTED,
		    "</w>" },
		{ DOC("\"model\":{\"unk_token\":\"<unk>\",\"vocab\":{},\"merges\":[]}"), DF_EFORMAT, "<unk>" },
		{ DOC("\"model\":{\"ignore_merges\":1,\"vocab\":{},\"merges\":[]}"), DF_EFORMAT, "'ignore_merges'" },
		{ DOC("\"normalizer\":{\"type\":\"Precompiled\"}," GOOD), DF_EUNSUPPORTED, "normalizer 'Precompiled'" },
		{ DOC("\"normalizer\":{}," GOOD), DF_EFORMAT, "normalizer: has no 'type'" },
		{ DOC("\"normalizer\":\"NFC\"," GOOD), DF_EFORMAT, "normalizer: expected an object" },
		{ DOC("\"post_processor\":{\"type\":\"Strange\"}," GOOD), DF_EUNSUPPORTED, "post_processor 'Strange'" },
		{ "{\"pre_tokenizer\":{\"type\":\"Metaspace\"}," GOOD "}", DF_EFORMAT, "replacement" },
		{ "{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," GOOD "}", DF_EUNSUPPORTED,
		    "pre_tokenizer 'UnicodeScripts'" },
		{ "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Shredded\"}," GOOD "}", DF_EFORMAT,
		    "'Shredded'" },
		{ "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":7}," GOOD "}",
		    DF_EFORMAT, "pattern" },
		{ "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"(a\"}}," GOOD
		  "}",
		    DF_EFORMAT, "regex '(a'" },
		{ "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"a\\\\bc\"}}," GOOD
		  "}",
		    DF_EUNSUPPORTED, "at offset 1" },
		{ "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"[a[:alpha:]]\"}}," GOOD
		  "}",
		    DF_EUNSUPPORTED, "at offset 2" },
		{ "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"__\"}," GOOD "}", DF_EFORMAT,
		    "one character" },
		{ "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}," GOOD
		  "}",
		    DF_EFORMAT, "'last'" },
		{ "{\"pre_tokenizer\":{\"type\":\"Digits\",\"individual_digits\":3}," GOOD "}", DF_EFORMAT,
		    "individual_digits" },
		{ DOC("\"normalizer\":{\"type\":\"Prepend\"}," GOOD), DF_EFORMAT, "'prepend'" },
		{ DOC("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[a\"},\"content\":\"\"}," GOOD),
		    DF_EUNSUPPORTED, "a class without an end at offset 0" },
		{ DOC("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}," GOOD), DF_EFORMAT,
		    "'content'" },
		{ DOC("\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":\"yes\"}," GOOD), DF_EFORMAT,
		    "'lowercase'" },
		{ DOC("\"post_processor\":{\"type\":\"TemplateProcessing\"}," GOOD), DF_EFORMAT,
		    "single: expected an array" },
		{ DOC("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}," GOOD), DF_EUNSUPPORTED,
		    "0 texts" },
		{ DOC("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}]}," GOOD),
		    DF_EFORMAT, "single[0]: 'x'" },
		{ DOC("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
		      "\"special_tokens\":{\"x\":{\"ids\":[-1]}}}," GOOD),
		    DF_EFORMAT, "id is an integer" },
		{ DOC("\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":7}," GOOD), DF_EFORMAT, "id is" },
		{ DOC("\"decoder\":7," GOOD), DF_EFORMAT, "decoder: expected an object" },
		{ DOC("\"decoder\":{\"type\":\"CTC\"}," GOOD), DF_OK, "" }, /* refused when used */
		{ DOC("\"decoder\":{\"type\":\"Strip\",\"start\":-1}," GOOD), DF_ERANGE, "'start'" },
		{ DOC("\"decoder\":{\"type\":\"WordPiece\",\"prefix\":1}," GOOD), DF_EFORMAT, "'prefix'" },
		{ DOC("\"added_tokens\":7," GOOD), DF_EFORMAT, "added_tokens: expected an array" },
		{ DOC("\"added_tokens\":[{\"id\":3}]," GOOD), DF_EFORMAT, "added_tokens[0]: has no string 'content'" },
		{ DOC("\"added_tokens\":[{\"content\":\"<x>\"}]," GOOD), DF_EFORMAT,
		    "added_tokens[0]: has no integer 'id'" },
		{ DOC("\"added_tokens\":[{\"id\":3,\"content\":\"<x>\"}]," GOOD), DF_OK, "" },
		{ DOC("\"added_tokens\":[{\"id\":2147483648,\"content\":\"<x>\"}]," GOOD), DF_EFORMAT,
		    "says id 2147483648" },
		{ DOC("\"added_tokens\":[{\"id\":0,\"content\":\"<x>\"}]," GOOD), DF_EFORMAT, "says id 0" },
		{ DOC("\"added_tokens\":[{\"id\":3,\"content\":\"\"}]," GOOD), DF_EFORMAT, "added_tokens[0]" },
		{ DOC("\"added_tokens\":[{\"id\":3,\"content\":\"<x>\",\"special\":1}]," GOOD), DF_EFORMAT,
		    "'special'" },
		{ "{\"model\": \"\xff\"}", DF_EFORMAT, "UTF-8" },
		{ "{\"model\": \"\\ud800\"}", DF_EFORMAT, "tokenizer.json:1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct df_err err = DF_ERR_INIT;
		int rc = opened(cases[i].text, strlen(cases[i].text), &err);

		if (rc != cases[i].code || strstr(err.msg, cases[i].says) == NULL ||
		    (rc != DF_OK && strstr(err.msg, "tokenizer.json") == NULL))
			fail_msg("case %zu (%s): %d, '%s'", i, cases[i].text, rc, err.msg);
	}
}

static void
test_config(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *says;
	} cases[] = {
		{ "{}", DF_OK, "" },
		{ "{\"eos_token\": 7}", DF_EFORMAT, "eos_token" },
		{ "{\"eos_token\": {\"content\": 7}}", DF_EFORMAT, "eos_token" },
		{ "{\"add_bos_token\": \"yes\"}", DF_EFORMAT, "'add_bos_token'" },
		{ "[]", DF_EFORMAT, "expected an object, found an array" },
		{ "{\"added_tokens_decoder\": \"x\"}", DF_EFORMAT, "expected an object, found a string" },
		{ "{\"added_tokens_decoder\": {\"x\": {\"content\": \"<x>\"}}}", DF_EFORMAT, "'x' is not an id" },
		{ "{\"added_tokens_decoder\": {\"2147483648\": {\"content\": \"<x>\"}}}", DF_EFORMAT, "has id 3" },
		{ "{\"added_tokens_decoder\": {\"3\": 5}}", DF_EFORMAT, "added_tokens_decoder '3'" },
		{ "{\"added_tokens_decoder\": {\"3\": {\"content\": \"<x>\"}}, \"eos_token\": \"<x>\"}", DF_OK, "" },
		{ "{", DF_EFORMAT, "tokenizer_config.json:1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct df_err err = DF_ERR_INIT;
		int rc;

		put("tokenizer_config.json", cases[i].text, strlen(cases[i].text));
		rc = opened(DOC(GOOD), strlen(DOC(GOOD)), &err);
		if (rc != cases[i].code || strstr(err.msg, cases[i].says) == NULL ||
		    (rc != DF_OK && strstr(err.msg, "tokenizer_config.json") == NULL))
			fail_msg("case %zu (%s): %d, '%s'", i, cases[i].text, rc, err.msg);
	}
	put("tokenizer_config.json", "{}", 2);
}

static void
test_deep_and_damaged(void **state)
{
	static const char good[] = DOC("\"added_tokens\":[{\"id\":3,\"content\":\"<x>\"}]," GOOD);
	struct df_buf b = DF_BUF_INIT;
	struct df_err err = DF_ERR_INIT;
	char copy[sizeof(good)];

	(void)state;
	/* Sequences within sequences, deeper than any stack. */
	df_buf_puts(&b, "{\"pre_tokenizer\":");
	for (int i = 0; i < 200000; i++)
		df_buf_puts(&b, "{\"type\":\"Sequence\",\"pretokenizers\":[");
	assert_int_equal(opened(b.data, b.len, &err), DF_ERANGE);
	assert_non_null(strstr(err.msg, "levels deep"));
	df_buf_release(&b);

	/* Cut anywhere; any bit flipped anywhere: an error or a tokenizer, nothing else. */
	for (size_t n = 0; n < sizeof(good) - 1; n++)
		assert_true(opened(good, n, &err) != DF_OK);
	for (size_t bit = 0; bit < 8 * (sizeof(good) - 1); bit += 3) {
		memcpy(copy, good, sizeof(good));
		copy[bit / 8] = (char)(copy[bit / 8] ^ (1 << bit % 8));
		if (opened(copy, sizeof(good) - 1, &err) == DF_ENOMEM)
			fail_msg("bit %zu: %s", bit, err.msg);
	}
}

/* Words that merge with nothing, with themselves, or vanish; a regex that explodes. */
static void
test_encode(void **state)
{
	static const char *const docs[] = {
		DOC(MODEL("{\"a\":0,\"\":1}", "[[\"a\",\"\"],[\"\",\"a\"],[\"\",\"\"]]")),
		DOC("\"model\":{\"unk_token\":\"a\",\"fuse_unk\":true,\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a a\"]}"),
		DOC(MODEL("{}", "[]")),
	};
	struct df_ids ids = { .v = NULL };
	struct df_err err = DF_ERR_INIT;
	struct df_tokenizer *t = NULL;
	struct df_tokscratch *s = NULL;
	char *text = malloc(300000);
	int rc;

	(void)state;
	memset(text, 'a', 300000);
	for (size_t i = 0; i < sizeof(docs) / sizeof(docs[0]); i++) {
		put("tokenizer.json", docs[i], strlen(docs[i]));
		assert_int_equal(df_tokenizer_open(&t, dir, &err), DF_OK);
		assert_int_equal(df_tokscratch_new(&s, t, &err), DF_OK);
		for (size_t n = 1; n <= 300000; n = n * 7 + 1) {
			ids.n = 0;
			assert_int_equal(df_tokenizer_encode(t, s, text, n, false, &ids, &err), DF_OK);
			assert_true(ids.n <= n);
			for (size_t k = 0; k < ids.n; k++)
				assert_true(ids.v[k] < df_tokenizer_vocab_size(t));
		}
		df_tokscratch_free(s);
		df_tokenizer_free(t);
	}
	put("tokenizer.json",
	    "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\","
	    "\"pattern\":{\"Regex\":\"(a|a)*[xy]\"}},{\"type\":\"ByteLevel\"}]}," GOOD "}",
	    strlen(
		"{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\","
		"\"pattern\":{\"Regex\":\"(a|a)*[xy]\"}},{\"type\":\"ByteLevel\"}]}," GOOD "}"));
	assert_int_equal(df_tokenizer_open(&t, dir, &err), DF_OK);
	assert_int_equal(df_tokscratch_new(&s, t, &err), DF_OK);
	ids.n = 0;
	rc = df_tokenizer_encode(t, s, text, 60, false, &ids, &err);
	assert_int_equal(rc, DF_ERANGE);
	assert_non_null(strstr(err.msg, "regex gave up"));
	df_tokscratch_free(s);
	df_tokenizer_free(t);
	df_ids_release(&ids);
	free(text);
}

/* Very many added tokens, in the order that is worst for a list sorted by id: no work that grows with their square. */
static void
test_many_added(void **state)
{
	const uint32_t n = 60000;
	struct df_buf doc = DF_BUF_INIT;
	struct df_err err = DF_ERR_INIT;
	struct df_tokenizer *t = NULL;
	struct df_tokscratch *s = NULL;
	struct df_ids ids = { .v = NULL };
	static const char text[] = "t7 and t59999t0";

	(void)state;
	df_buf_puts(&doc, "{" PRE ",\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{");
	for (uint32_t i = 0; i < n; i++)
		df_buf_printf(&doc, "%s\"t%u\":%u", i > 0 ? "," : "", i, i);
	df_buf_puts(&doc, "}},\"added_tokens\":[");
	for (uint32_t i = n; i-- > 0;)
		df_buf_printf(&doc, "{\"content\":\"t%u\",\"id\":%u,\"special\":true}%s", i, i, i > 0 ? "," : "]}");
	put("tokenizer.json", doc.data, doc.len);
	if (df_tokenizer_open(&t, dir, &err) != DF_OK || df_tokscratch_new(&s, t, &err) != DF_OK ||
	    df_tokenizer_encode(t, s, text, strlen(text), false, &ids, &err) != DF_OK)
		fail_msg("%s", err.msg);
	/* " and " is made of bytes that the vocabulary does not have. */
	assert_int_equal(ids.n, 3);
	assert_int_equal(ids.v[0], 7);
	assert_int_equal(ids.v[1], 59999);
	assert_int_equal(ids.v[2], 0);
	assert_int_equal(df_tokenizer_vocab_size(t), n);
	assert_int_equal(df_tokenizer_lookup(t, "t31415"), 31415);
	assert_int_equal(df_tokenizer_lookup(t, "t60000"), DF_NO_TOKEN);
	assert_int_equal(df_tokenizer_lookup(t, "t"), DF_NO_TOKEN);
	df_ids_release(&ids);
	df_tokscratch_free(s);
	df_tokenizer_free(t);
	df_buf_release(&doc);
}

/* A run of byte tokens is held to its end; decoding it is one look at each of them. */
static void
test_long_run(void **state)
{
	static const char doc[] = "{\"decoder\":{\"type\":\"ByteFallback\"},\"model\":{\"type\":\"BPE\","
				  "\"byte_fallback\":true,\"vocab\":{\"<0x61>\":0},\"merges\":[]}}";
	const size_t n = 1000000;
	struct df_buf text = DF_BUF_INIT;
	struct df_err err = DF_ERR_INIT;
	struct df_tokenizer *t = NULL;
	uint32_t *ids = calloc(n, sizeof(*ids));

	(void)state;
	assert_non_null(ids);
	put("tokenizer.json", doc, sizeof(doc) - 1);
	if (df_tokenizer_open(&t, dir, &err) != DF_OK || df_tokenizer_decode(t, ids, n, &text, &err) != DF_OK)
		fail_msg("%s", err.msg);
	assert_int_equal(text.len, n);
	assert_int_equal(strspn(text.data, "a"), n);
	df_buf_release(&text);
	df_tokenizer_free(t);
	free(ids);
}

static int
set_up(void **state)
{
	(void)state;
	return mkdtemp(dir) == NULL;
}

static int
tear_down(void **state)
{
	struct df_err err = DF_ERR_INIT;
	struct rusage use;

	(void)state;
	/* No lying number made it grow. */
	getrusage(RUSAGE_SELF, &use);
	print_message("peak RSS %ld MiB\n", use.ru_maxrss / 1024);
	if (use.ru_maxrss > 1500 * 1024)
		return 1;
	return df_rmtree(dir, &err) != DF_OK;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_documents),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_deep_and_damaged),
		cmocka_unit_test(test_encode),
		cmocka_unit_test(test_many_added),
		cmocka_unit_test(test_long_run),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
