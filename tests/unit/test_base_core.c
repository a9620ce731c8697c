/*
 * test_base_core.c - errors, buffers, sizes, arenas, Philox, digests.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"

static void
err_says_code_place_and_errno(void **state)
{
	struct df_err err = DF_ERR_INIT;

	(void)state;
	errno = ENOENT;
	assert_int_equal(df_fail(&err, DF_ENOINPUT, "%s: cannot open:", "x.h5"), DF_ENOINPUT);
	assert_int_equal(err.code, DF_ENOINPUT);
	assert_string_equal(err.msg, "x.h5: cannot open: No such file or directory");
	assert_non_null(strstr(err.file, "test_base_core.c"));
	df_err_prefix(&err, "row %d: ", 7);
	assert_string_equal(err.msg, "row 7: x.h5: cannot open: No such file or directory");
	assert_int_equal(err.sys, ENOENT);
	df_err_suffix(&err, "; did you mean '%s'?", "y.h5\n");
	assert_string_equal(err.msg, "row 7: x.h5: cannot open: No such file or directory; did you mean 'y.h5\\n'?");
	assert_int_equal(err.sys, ENOENT);
	/* The last error counts, and only what it says itself. */
	df_fail(&err, DF_EFORMAT, "no errno here");
	assert_int_equal(err.sys, 0);
	err = (struct df_err)DF_ERR_INIT;
	df_err_suffix(&err, "no error, no end");
	assert_string_equal(err.msg, "");
	assert_int_equal(df_fail(NULL, DF_EIO, "nobody listens"), DF_EIO);
	df_err_prefix(NULL, "nor here: ");
	df_err_suffix(NULL, "nor here");
}

static void
err_is_one_printable_line(void **state)
{
	struct df_err err = DF_ERR_INIT;

	(void)state;
	df_fail(&err, DF_EFORMAT, "key '%s'", "a\nb\x1b[31m\tc\x7f");
	assert_string_equal(err.msg, "key 'a\\nb\\x1b[31m\\tc\\x7f'");
	/* C1 controls, which some terminals obey, too; other text of the same lead byte stays. */
	df_fail(&err, DF_EFORMAT, "%s",
	    "\xC2\x9B"
	    "31m \xC2\xA0 \xC3\xA9");
	assert_string_equal(err.msg, "\\u009b31m \xC2\xA0 \xC3\xA9");
}

static void
err_cuts_long_messages_at_a_character(void **state)
{
	struct df_err err = DF_ERR_INIT;
	char text[3 * DF_ERR_MAX];

	(void)state;
	/* Three-byte characters, at each of the three phases to the buffer's end. */
	for (size_t lead = 0; lead < 3; lead++) {
		memset(text, 'x', lead);
		for (size_t i = lead; i + 3 < sizeof(text); i += 3)
			memcpy(text + i, "\xE4\xB8\xAD", 4);
		df_fail(&err, DF_EFORMAT, "%s", text);
		assert_true(strlen(err.msg) >= DF_ERR_MAX - 4 && strlen(err.msg) < DF_ERR_MAX);
		assert_int_equal((strlen(err.msg) - lead) % 3, 0);
		for (int i = 0; i < 3; i++)
			df_err_prefix(&err, "%s: ", text);
		assert_true(strlen(err.msg) < DF_ERR_MAX);
	}
}

static void
exit_statuses_are_sysexits(void **state)
{
	static const struct {
		int code, status;
	} t[] = { { DF_OK, 0 }, { DF_EUSAGE, 64 }, { DF_EFORMAT, 65 }, { DF_ERANGE, 65 }, { DF_ELINEAGE, 65 },
		{ DF_ENOINPUT, 66 }, { DF_EUNSUPPORTED, 69 }, { DF_EDEVICE, 69 }, { DF_EINTERNAL, 70 },
		{ DF_ENOMEM, 71 }, { DF_ECREATE, 73 }, { DF_EIO, 74 }, { DF_ESTOPPED, 75 }, { DF_ECONFIG, 78 },
		{ -999, 70 } };

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		assert_int_equal(df_err_exit_status(t[i].code), t[i].status);
}

static void
buf_grows_and_detaches(void **state)
{
	struct df_buf b = DF_BUF_INIT;
	char *s;

	(void)state;
	for (int i = 0; i < 1000; i++)
		df_buf_printf(&b, "%d,", i);
	assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
	assert_int_equal(strlen(b.data), b.len);
	assert_int_equal(df_buf_check(&b, NULL), DF_OK);
	df_buf_clear(&b);
	df_buf_add(&b, "a\0b", 3);
	df_buf_putc(&b, 'c');
	assert_int_equal(b.len, 4);
	assert_memory_equal(b.data, "a\0bc", 5);
	s = df_buf_detach(&b);
	assert_null(b.data);
	free(s);
	df_buf_release(&b);
}

static void
buf_failure_sticks(void **state)
{
	struct df_buf b = DF_BUF_INIT;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	df_buf_puts(&b, "abc");
	df_buf_add(&b, "", SIZE_MAX / 2);
	df_buf_puts(&b, "def");
	assert_int_equal(df_buf_check(&b, &err), DF_ENOMEM);
	assert_string_equal(b.data, "abc");
	df_buf_release(&b);
}

static void
buf_json_strings(void **state)
{
	static const struct {
		const char *in, *want;
	} t[] = {
		{ "", "\"\"" }, { "a\"b\\c/", "\"a\\\"b\\\\c/\"" },
		{ "\n\t\r\x01\x1f\x7f", "\"\\n\\t\\r\\u0001\\u001f\x7f\"" },
		{ "\xC3\xA9 \xE4\xB8\xAD \xF0\x9F\x98\x80", "\"\xC3\xA9 \xE4\xB8\xAD \xF0\x9F\x98\x80\"" },
		{ "\xFFx", "\"\xEF\xBF\xBDx\"" },                                                 /* no such byte */
		{ "\xC0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\"" },                                   /* overlong NUL */
		{ "\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"" },                   /* surrogate */
		{ "\xF4\x90\x80\x80!", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD!\"" }, /* U+110000 */
		{ "\xE4\xB8", "\"\xEF\xBF\xBD\xEF\xBF\xBD\"" },                                   /* cut */
	};
	struct df_buf b = DF_BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		df_buf_clear(&b);
		df_buf_json_str(&b, t[i].in);
		assert_string_equal(b.data, t[i].want);
	}
	df_buf_clear(&b);
	df_buf_json_strn(&b, "a\0b", 3);
	assert_string_equal(b.data, "\"a\\u0000b\"");
	df_buf_release(&b);
}

static void
buf_json_doubles_are_shortest_and_exact(void **state)
{
	static const struct {
		double x;
		const char *want;
	} t[] = { { 0, "0" }, { 0.1, "0.1" }, { 1e-5, "1e-05" }, { 1.0 / 3, "0.3333333333333333" }, { -2, "-2" },
		{ 5e-324, "5e-324" }, { 1e300, "1e+300" }, { INFINITY, "null" }, { NAN, "null" }, { 1e15, "1e+15" },
		{ 100, "100" }, { -1e14, "-100000000000000" }, { 123456, "123456" } };
	struct df_buf b = DF_BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		df_buf_clear(&b);
		df_buf_json_double(&b, t[i].x);
		assert_string_equal(b.data, t[i].want);
	}
	for (uint64_t i = 0; i < 2000; i++) {
		double x = df_rng_normal(1, 0, 0, i) * pow(10, (double)(i % 60) - 30);

		df_buf_clear(&b);
		df_buf_json_double(&b, x);
		assert_true(strtod(b.data, NULL) == x);
	}
	df_buf_release(&b);
}

static void
sizes_do_not_overflow(void **state)
{
	struct df_err err = DF_ERR_INIT;
	size_t n = 0;
	void *p = NULL;

	(void)state;
	assert_int_equal(df_size_mul(1 << 20, 1 << 20, &n, "x", &err), DF_OK);
	assert_true(n == (size_t)1 << 40);
	assert_int_equal(df_size_mul(SIZE_MAX / 2, 3, &n, "rows", &err), DF_ERANGE);
	assert_non_null(strstr(err.msg, "rows"));
	assert_int_equal(df_size_add(SIZE_MAX, 1, &n, "x", &err), DF_ERANGE);
	assert_int_equal(df_alloc(&p, SIZE_MAX / 2, 4, "x", &err), DF_ERANGE);
	assert_int_equal(df_alloc(&p, SIZE_MAX - 3, 1, "x", &err), DF_ERANGE);
	assert_null(p);
}

static void
alloc_is_aligned_and_zero(void **state)
{
	struct df_err err = DF_ERR_INIT;

	(void)state;
	for (size_t n = 0; n < 300; n += 7) {
		unsigned char *p = NULL;

		assert_int_equal(df_alloc(&p, n, 1, "x", &err), DF_OK);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 64, 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(p[i], 0);
		free(p);
	}
}

static void
pages_are_zero_and_writable(void **state)
{
	static const size_t sizes[] = { 1, 4096, 4097, (size_t)33 << 20 };
	struct df_err err = DF_ERR_INIT;
	unsigned char *p = NULL;

	(void)state;
	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		const size_t n = sizes[k];

		assert_int_equal(df_pages_alloc(&p, n, "x", &err), DF_OK);
		assert_int_equal((uintptr_t)p % 64, 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(p[i], 0);
		p[0] = p[n - 1] = 1;
		df_pages_free(p, n);
	}
	df_pages_free(NULL, 0);
	assert_int_equal(df_pages_alloc(&p, PTRDIFF_MAX, "the moments", &err), DF_ENOMEM);
	assert_non_null(strstr(err.msg, "the moments"));
}

static void
grow_keeps_content_and_grows_geometrically(void **state)
{
	struct df_err err = DF_ERR_INIT;
	uint64_t *v = NULL;
	size_t cap = 0, moves = 0;

	(void)state;
	for (uint64_t i = 0; i < 100000; i++) {
		size_t before = cap;

		assert_int_equal(df_grow(&v, &cap, i + 1, sizeof(*v), "x", &err), DF_OK);
		moves += cap != before;
		v[i] = i;
	}
	for (uint64_t i = 0; i < 100000; i++)
		assert_true(v[i] == i);
	assert_true(moves < 40);
	assert_int_equal(df_grow(&v, &cap, SIZE_MAX / 8 + 1, 16, "x", &err), DF_ERANGE);
	assert_true(v[99999] == 99999);
	free(v);
}

static void
arena_reuses_its_memory(void **state)
{
	struct df_arena a = DF_ARENA_INIT;
	struct df_err err = DF_ERR_INIT;
	void *first[2] = { NULL, NULL };

	(void)state;
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 100; i++) {
			unsigned char *p = NULL;

			assert_int_equal(df_arena_alloc(&a, &p, 100000, 1, "x", &err), DF_OK);
			assert_int_equal((uintptr_t)p % 64, 0);
			memset(p, i, 100000);
			if (i == 0 && round >= 2)
				first[round - 2] = p;
		}
		assert_true(a.used >= 100 * 100000);
		df_arena_reset(&a);
		assert_int_equal(a.used, 0);
	}
	/* Steady state: the same chunk again. */
	assert_ptr_equal(first[0], first[1]);
	assert_true(a.peak >= 100 * 100000 && a.peak < 2 * 100 * 100000);
	df_arena_release(&a);
	df_arena_release(&a);
}

static void
arena_blocks_do_not_overlap(void **state)
{
	struct df_arena a = DF_ARENA_INIT;
	struct df_err err = DF_ERR_INIT;
	unsigned char *p[200];
	size_t n[200];

	(void)state;
	for (size_t i = 0; i < 200; i++) {
		uint32_t w[4];

		df_rng_words(3, 0, 0, i, w);
		n[i] = w[0] % (i % 50 == 0 ? 3000000 : 5000);
		assert_int_equal(df_arena_alloc(&a, &p[i], n[i], 1, "x", &err), DF_OK);
		memset(p[i], (int)i, n[i]);
	}
	for (size_t i = 0; i < 200; i++)
		for (size_t k = 0; k < n[i]; k++)
			if (p[i][k] != i)
				fail_msg("block %zu overwritten at %zu", i, k);
	assert_int_equal(df_arena_alloc(&a, &p[0], SIZE_MAX / 4, 8, "x", &err), DF_ERANGE);
	df_arena_release(&a);
}

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
/* Under ASan a byte past a block, and everything after a reset, may not be touched. */
static void
arena_is_redzoned(void **state)
{
	struct df_arena a = DF_ARENA_INIT;
	struct df_err err = DF_ERR_INIT;
	char *p = NULL, *q = NULL;

	(void)state;
	assert_int_equal(df_arena_alloc(&a, &p, 100, 1, "x", &err), DF_OK);
	assert_int_equal(df_arena_alloc(&a, &q, 64, 1, "x", &err), DF_OK);
	assert_false(__asan_address_is_poisoned(p + 99));
	assert_true(__asan_address_is_poisoned(p + 100));
	assert_true(__asan_address_is_poisoned(q - 1));
	assert_true(__asan_address_is_poisoned(q + 64));
	df_arena_reset(&a);
	assert_true(__asan_address_is_poisoned(p));
	df_arena_release(&a);
}
#endif

/* Known answers of Random123's kat_vectors for philox4x32-10. */
static void
philox_known_answers(void **state)
{
	static const struct {
		uint32_t ctr[4], key[2], want[4];
	} t[] = {
		{ { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
		{ { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff }, { 0xffffffff, 0xffffffff },
		    { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
		{ { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, { 0xa4093822, 0x299f31d0 },
		    { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
	};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		uint32_t out[4];

		df_philox(t[i].ctr, t[i].key, out);
		for (int k = 0; k < 4; k++)
			assert_int_equal(out[k], t[i].want[k]);
	}
}

static void
rng_uniform_known_values(void **state)
{
	static const double u[6] = { 0.327163362, 0.376496485, 0.767513704, 0.200330993, 0.459046798, 0.228349289 };
	static const double r[5] = { .644613, .438256, .309885, .921537, .714827 };

	(void)state;
	/* The printed digits bound the tolerance. */
	for (uint64_t i = 0; i < 6; i++)
		assert_true(fabs(df_rng_uniform(42, DF_RNG_SAMPLE, 0, i) - u[i]) < 6e-10);
	for (uint64_t i = 0; i < 5; i++)
		assert_true(fabs(df_rng_uniform(42, DF_RNG_SAMPLE_REPLACE, 0, i) - r[i]) < 6e-7);
}

static void
rng_address_parts_all_matter(void **state)
{
	uint32_t base[4], other[4];

	(void)state;
	df_rng_words(42, 1, 2, 3, base);
	df_rng_words(42 + (1ULL << 32), 1, 2, 3, other);
	assert_memory_not_equal(base, other, sizeof(base));
	df_rng_words(42, 2, 2, 3, other);
	assert_memory_not_equal(base, other, sizeof(base));
	df_rng_words(42, 1, 3, 3, other);
	assert_memory_not_equal(base, other, sizeof(base));
	df_rng_words(42, 1, 2, 3 + (1ULL << 32), other);
	assert_memory_not_equal(base, other, sizeof(base));
}

static void
rng_normal_moments(void **state)
{
	double sum = 0, sq = 0, cube = 0;
	int n = 100000;

	(void)state;
	for (int i = 0; i < n; i++) {
		double x = df_rng_normal(42, DF_RNG_INIT, 0, (uint64_t)i);

		sum += x;
		sq += x * x;
		cube += x * x * x;
	}
	print_message("# mean %.5f, variance %.5f, skew %.5f\n", sum / n, sq / n, cube / n);
	/* Four standard errors: 1, sqrt(2), sqrt(15) over sqrt(n). */
	assert_true(fabs(sum / n) < 4 / sqrt(n));
	assert_true(fabs(sq / n - 1) < 4 * sqrt(2.0 / n));
	assert_true(fabs(cube / n) < 4 * sqrt(15.0 / n));
}

static void
digest_of_rows_ignores_order_and_split(void **state)
{
	struct df_digest whole = { 0, 0 }, backwards = { 0, 0 }, parts[3] = { { 0, 0 } };
	char a[DF_DIGEST_HEX], b[DF_DIGEST_HEX];

	(void)state;
	for (uint64_t i = 0; i < 1000; i++) {
		df_digest_merge(&whole, df_hash_bytes(&i, sizeof(i), i));
		df_digest_merge(&parts[i % 3], df_hash_bytes(&i, sizeof(i), i));
	}
	for (uint64_t i = 1000; i-- > 0;)
		df_digest_merge(&backwards, df_hash_bytes(&i, sizeof(i), i));
	df_digest_merge(&parts[2], parts[0]);
	df_digest_merge(&parts[2], parts[1]);
	df_digest_hex(whole, a);
	df_digest_hex(backwards, b);
	assert_string_equal(a, b);
	df_digest_hex(parts[2], b);
	assert_string_equal(a, b);
}

static void
digest_carries_between_halves(void **state)
{
	struct df_digest d = { UINT64_MAX, 1 };

	(void)state;
	df_digest_merge(&d, (struct df_digest){ 1, 0 });
	assert_true(d.lo == 0 && d.hi == 2);
}

static void
digest_hex_round_trip(void **state)
{
	static const char *const bad[] = { "", "12", "0123456789abcdef0123456789abcdeg",
		"0123456789abcdef0123456789abcdef0", "0123456789abcdef 123456789abcdef" };
	struct df_digest d = df_hash_bytes("abc", 3, 7), e = { 0, 0 };
	struct df_err err = DF_ERR_INIT;
	char hex[DF_DIGEST_HEX];

	(void)state;
	df_digest_hex(d, hex);
	assert_int_equal(strlen(hex), 32);
	assert_int_equal(df_digest_parse(&e, hex, &err), DF_OK);
	assert_true(d.lo == e.lo && d.hi == e.hi);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(df_digest_parse(&e, bad[i], &err), DF_EFORMAT);
}

static void
hasher_equals_one_piece(void **state)
{
	struct df_hasher *h = NULL;
	struct df_err err = DF_ERR_INIT;
	unsigned char data[5000];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char)(i * 7);
	assert_int_equal(df_hasher_new(&h, 99, &err), DF_OK);
	for (int round = 0; round < 2; round++) {
		struct df_digest want = df_hash_bytes(data, sizeof(data), 99), got;

		for (size_t at = 0, step = 1; at < sizeof(data); at += step, step = step * 3 % 401 + 1)
			df_hasher_add(h, data + at, at + step > sizeof(data) ? sizeof(data) - at : step);
		got = df_hasher_end(h);
		assert_true(got.lo == want.lo && got.hi == want.hi);
	}
	df_hasher_free(h);
	df_hasher_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(err_says_code_place_and_errno),
		cmocka_unit_test(err_is_one_printable_line),
		cmocka_unit_test(err_cuts_long_messages_at_a_character),
		cmocka_unit_test(exit_statuses_are_sysexits),
		cmocka_unit_test(buf_grows_and_detaches),
		cmocka_unit_test(buf_failure_sticks),
		cmocka_unit_test(buf_json_strings),
		cmocka_unit_test(buf_json_doubles_are_shortest_and_exact),
		cmocka_unit_test(sizes_do_not_overflow),
		cmocka_unit_test(alloc_is_aligned_and_zero),
		cmocka_unit_test(pages_are_zero_and_writable),
		cmocka_unit_test(grow_keeps_content_and_grows_geometrically),
		cmocka_unit_test(arena_reuses_its_memory),
		cmocka_unit_test(arena_blocks_do_not_overlap),
#if defined(__SANITIZE_ADDRESS__)
		cmocka_unit_test(arena_is_redzoned),
#endif
		cmocka_unit_test(philox_known_answers),
		cmocka_unit_test(rng_uniform_known_values),
		cmocka_unit_test(rng_address_parts_all_matter),
		cmocka_unit_test(rng_normal_moments),
		cmocka_unit_test(digest_of_rows_ignores_order_and_split),
		cmocka_unit_test(digest_carries_between_halves),
		cmocka_unit_test(digest_hex_round_trip),
		cmocka_unit_test(hasher_equals_one_piece),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
