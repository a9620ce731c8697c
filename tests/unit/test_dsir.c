/*
 * test_dsir.c - hashed n-grams and DSIR's arithmetic: published digests, worked examples, and the original's formula in
 * Python (tests/golden/dsir.py).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/sha256.h"
#include "select/dsir.h"
#include "select/ngrams.h"
#include "select/select.h"

#define OK(call)                                                         \
	do {                                                             \
		struct df_err e_ = DF_ERR_INIT, *err = &e_;              \
		int rc_ = (call);                                        \
		if (rc_ != DF_OK)                                        \
			fail_msg("%s: code %d: %s", #call, rc_, e_.msg); \
		(void)err;                                               \
	} while (0)

static struct df_json *
golden(void)
{
	const char *root = getenv("DF_SRCDIR");
	struct df_json *j = NULL;
	char path[1024];

	snprintf(path, sizeof(path), "%s/tests/golden/dsir.json", root ? root : ".");
	OK(df_json_load(&j, path, 1 << 20, err));
	return j;
}

static const struct df_json_value *
member(const struct df_json *j, const char *key)
{
	return df_json_get(df_json_root(j), key);
}

/* FIPS 180-4's examples, and each length around a block's end against the same bytes in another way. */
static void
test_sha256(void **state)
{
	static const struct {
		const char *text, *hex;
	} t[] = {
		{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
		{ "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
		    "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1" },
	};
	/* Of 55, 56, 63, 64 and 65 times 'a' (sha256sum). */
	static const struct {
		size_t n;
		uint32_t first;
	} many[] = { { 55, 0x9f4390f8 }, { 56, 0xb35439a4 }, { 63, 0x7d3e74a0 }, { 64, 0xffe054fe }, { 65, 0x635361c4 },
		{ 1000, 0x41edece4 } };
	char text[1000];
	uint32_t d[8];

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		char hex[65];

		df_sha256(t[i].text, strlen(t[i].text), d);
		for (int k = 0; k < 8; k++)
			snprintf(hex + 8 * k, 9, "%08x", d[k]);
		assert_string_equal(hex, t[i].hex);
	}
	memset(text, 'a', sizeof(text));
	for (size_t i = 0; i < sizeof(many) / sizeof(*many); i++) {
		df_sha256(text, many[i].n, d);
		assert_int_equal(d[0], many[i].first);
	}
}

static void
test_buckets(void **state)
{
	static const struct {
		const char *gram;
		uint32_t bucket;
	} t[] = { { "the", 8288 }, { "data", 1943 }, { "the data", 7879 }, { ".", 3960 }, { "naïve", 8184 } };

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++)
		assert_int_equal(df_ngram_bucket(t[i].gram, strlen(t[i].gram), 10000), t[i].bucket);
	assert_int_equal(df_ngram_bucket("x", 1, 1), 0);
}

/* Words and buckets of texts, one after the other and again, as Python finds them. */
static void
test_texts(void **state)
{
	struct df_json *j = golden();
	const struct df_json_value *texts = member(j, "texts");
	struct df_ngrams g2, g3;

	(void)state;
	OK(df_ngrams_init(&g2, 2, 10000, err));
	OK(df_ngrams_init(&g3, 3, 10000, err));
	assert_true(df_json_size(texts) >= 10);
	for (size_t round = 0; round < 2; round++) {
		for (size_t i = 0; i < df_json_size(texts); i++) {
			const struct df_json_value *t = df_json_at(texts, i), *words = df_json_get(t, "words");
			struct df_ngrams *const g[] = { &g2, &g3 };
			size_t n;
			const char *text = df_json_str(df_json_get(t, "text"), &n);

			for (size_t k = 0; k < 2; k++) {
				const struct df_json_value *want = df_json_get(t, k ? "trigrams" : "buckets");
				int64_t b = -1;

				OK(df_ngrams_text(g[k], text, n, err));
				assert_int_equal(g[k]->n_words, df_json_size(words));
				assert_int_equal(g[k]->n_ngrams, df_json_size(want));
				for (size_t x = 0; x < g[k]->n_ngrams; x++) {
					assert_true(df_json_int(df_json_at(want, x), &b));
					if (g[k]->bucket[x] != b)
						fail_msg("'%s': n-gram %zu", text, x);
				}
			}
		}
	}
	df_ngrams_release(&g2);
	df_ngrams_release(&g3);
	df_json_free(j);
}

/* Ids are words of digits; a text that is not UTF-8 is refused. */
static void
test_ids(void **state)
{
	const uint32_t ids[] = { 17, 4, 17, 4294967295u };
	struct df_err err_ = DF_ERR_INIT;
	struct df_ngrams a, b;

	(void)state;
	OK(df_ngrams_init(&a, 2, 997, err));
	OK(df_ngrams_init(&b, 2, 997, err));
	OK(df_ngrams_ids(&a, ids, 4, err));
	OK(df_ngrams_text(&b, "17 4 17 4294967295", 18, err));
	assert_int_equal(a.n_ngrams, 7);
	assert_int_equal(b.n_ngrams, 7);
	assert_memory_equal(a.bucket, b.bucket, 7 * sizeof(*a.bucket));
	assert_int_equal(a.bucket[4], df_ngram_bucket("17 4", 4, 997));
	OK(df_ngrams_ids(&a, ids, 0, err));
	assert_true(a.n_ngrams == 0 && a.n_words == 0);
	assert_int_equal(df_ngrams_text(&b, "a\xff", 2, &err_), DF_EFORMAT);
	df_ngrams_release(&a);
	df_ngrams_release(&b);
}

/* Four buckets: target 8 1 1 0, pool 4 4 1 1. */
static const uint64_t target[] = { 8, 1, 1, 0 }, pool[] = { 4, 4, 1, 1 };

static void
test_ratio(void **state)
{
	const double plain[] = { .693147, -1.386294, 0, -16.118096 },
		     laplace[] = { .474458, -1.029619, .356675, -.336472 };
	const uint64_t none[4] = { 0 };
	struct df_err err_ = DF_ERR_INIT;
	double ratio[4];

	(void)state;
	OK(df_dsir_ratio(target, pool, 4, 0, ratio, err));
	for (int i = 0; i < 4; i++)
		assert_true(fabs(ratio[i] - plain[i]) < 1e-6);
	OK(df_dsir_ratio(target, pool, 4, 1, ratio, err));
	for (int i = 0; i < 4; i++)
		assert_true(fabs(ratio[i] - laplace[i]) < 1e-6);
	assert_int_equal(df_dsir_ratio(none, pool, 4, 1, ratio, &err_), DF_EFORMAT);
	assert_non_null(strstr(err_.msg, "the target has no n-gram"));
	assert_int_equal(df_dsir_ratio(target, none, 4, 1, ratio, &err_), DF_EFORMAT);
	assert_non_null(strstr(err_.msg, "the pool has no n-gram"));
}

static void
test_example(void **state)
{
	static const uint32_t rows[5][3] = { { 0, 0, 0 }, { 0, 1 }, { 1, 1, 1 }, { 0, 0, 2 }, { 0, 3 } };
	const size_t n[] = { 3, 2, 3, 3, 2 };
	const double want[] = { 1.423374, -.555161, -3.088858, 1.305591, .137986 };
	double ratio[4], weight[5];
	uint64_t id[] = { 0, 1, 2, 3, 4 }, some[] = { 1, 4 };

	(void)state;
	OK(df_dsir_ratio(target, pool, 4, 1, ratio, err));
	for (int i = 0; i < 5; i++) {
		weight[i] = df_dsir_weight(ratio, rows[i], n[i]);
		assert_true(fabs(weight[i] - want[i]) < 1e-6);
	}
	OK(df_dsir_order(weight, id, 5, false, 42, 0, 0, err));
	assert_true(id[0] == 0 && id[1] == 3 && id[2] == 4 && id[3] == 1 && id[4] == 2);
	OK(df_dsir_order(weight, id, 5, true, 42, 0, 0, err));
	assert_true(id[0] == 0 && id[1] == 3 && id[2] == 4 && id[3] == 1 && id[4] == 2);
	OK(df_dsir_order(weight, some, 2, false, 42, 0, 0, err)); /* the draw of a row is its own */
	assert_true(some[0] == 4 && some[1] == 1);
}

/* The whole way of texts, by the original's formula. */
static void
test_formula(void **state)
{
	struct df_json *j = golden();
	static uint64_t count[2][10000];
	static double ratio[10000];
	struct df_ngrams g;

	(void)state;
	OK(df_ngrams_init(&g, 2, 10000, err));
	for (int side = 0; side < 2; side++) {
		const struct df_json_value *texts = member(j, side ? "target" : "pool");

		for (size_t i = 0; i < df_json_size(texts); i++) {
			size_t n;
			const char *text = df_json_str(df_json_at(texts, i), &n);

			OK(df_ngrams_text(&g, text, n, err));
			for (size_t k = 0; k < g.n_ngrams; k++)
				count[side][g.bucket[k]]++;
		}
	}
	for (int laplace = 0; laplace < 2; laplace++) {
		const struct df_json_value *texts = member(j, "pool"),
					   *want = member(j, laplace ? "laplace1" : "laplace0");

		OK(df_dsir_ratio(count[1], count[0], 10000, laplace, ratio, err));
		for (size_t i = 0; i < df_json_size(texts); i++) {
			double x = 0;
			size_t n;
			const char *text = df_json_str(df_json_at(texts, i), &n);

			OK(df_ngrams_text(&g, text, n, err));
			assert_true(df_json_number(df_json_at(want, i), &x));
			assert_true(fabs(df_dsir_weight(ratio, g.bucket, g.n_ngrams) - x) <= 1e-9 * fabs(x));
		}
	}
	df_ngrams_release(&g);
	df_json_free(j);
}

/* The same order as the race has wherever that can be computed; and where it cannot: weights of e^-1e4 and e^1e4. */
static void
test_order(void **state)
{
	enum { N = 1000, DRAWS = 100000 };
	static double logs[N], weight[N];
	static uint64_t id[N], want[N];
	const double p[] = { .1, .2, .3, .4 },
		     ln[] = { -1e4 + log(.1), -1e4 + log(.2), -1e4 + log(.3), -1e4 + log(.4) };
	double count[4] = { 0 }, chi2 = 0;
	uint64_t n = 0, same = 0;

	(void)state;
	for (uint64_t i = 0; i < N; i++) {
		id[i] = i;
		logs[i] = (double)(i * 7919 % 1000) / 100 - 5;
		weight[i] = exp(logs[i]);
	}
	OK(df_dsir_order(logs, id, N, false, 1, 2, 0, err));
	OK(df_sample_race(weight, N, N, 1, 2, want, &n, err));
	assert_memory_equal(id, want, sizeof(want));
	for (uint64_t i = 0; i < N; i++)
		id[i] = i;
	OK(df_dsir_order(logs, id, N, false, 1, 2, 1, err));
	for (uint64_t i = 0; i < N; i++)
		same += id[i] == want[i];
	assert_true(same < N / 10); /* another draw */
	for (uint32_t s = 0; s < DRAWS; s++) {
		uint64_t four[] = { 0, 1, 2, 3 };

		OK(df_dsir_order(ln, four, 4, false, 1, s, 0, err));
		count[four[0]]++;
	}
	for (int i = 0; i < 4; i++)
		chi2 += pow(count[i] - DRAWS * p[i], 2) / (DRAWS * p[i]);
	print_message("  chi-square %.2f\n", chi2);
	assert_true(chi2 < 16.27); /* 3 degrees of freedom, 99.9 % */
	{
		const double far[] = { -1e4, 1e4, 0, 1e4 };
		uint64_t four[] = { 3, 2, 1, 0 };

		OK(df_dsir_order(far, four, 4, true, 1, 0, 0, err));
		assert_true(four[0] == 1 && four[1] == 3 && four[2] == 2 && four[3] == 0);
		OK(df_dsir_order(far, four, 4, false, 1, 0, 0, err));
		assert_true(four[2] == 2 && four[3] == 0);
		OK(df_dsir_order(far, four, 0, false, 1, 0, 0, err));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sha256),
		cmocka_unit_test(test_buckets),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_ratio),
		cmocka_unit_test(test_example),
		cmocka_unit_test(test_formula),
		cmocka_unit_test(test_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
