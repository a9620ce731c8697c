/*
 * test_safetensors.c - what is written reads back; what lies is refused with
 * file and tensor in the message.
 */
#include "model_help.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"

static char path[512];

static const char *
at(const char *name)
{
	snprintf(path, sizeof(path), "%s/%s", mh_scratch(), name);
	return path;
}

/* Plainly: hundreds of files need no fsync. */
static void
spill(const char *name, const void *data, size_t n)
{
	FILE *f = fopen(at(name), "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

/* A file of this header and `n_data` bytes 0, 1, 2, ...; header_len < 0 = the truth. */
static const char *
put(const char *name, const char *header, long long header_len, size_t n_data)
{
	uint64_t n = header_len < 0 ? strlen(header) : (uint64_t)header_len;
	struct df_buf b = DF_BUF_INIT;

	df_buf_add(&b, &n, 8);
	df_buf_puts(&b, header);
	for (size_t i = 0; i < n_data; i++)
		df_buf_putc(&b, (char)i);
	spill(name, b.data, b.len);
	df_buf_release(&b);
	return path;
}

static void
refused(const char *file, int code, const char *words)
{
	struct df_st *st = NULL;

	mh_refused(df_st_open(&st, file, err), code, words);
	assert_null(st);
}

static void
test_round_trip(void **state)
{
	const float a[6] = { 1, -2.5f, 3e-20f, 4e20f, -0.0f, 6 };
	const int64_t b[2] = { -1, 1LL << 40 };
	const uint64_t shape_a[2] = { 2, 3 }, shape_b[1] = { 2 }, shape_0[2] = { 0, 5 };
	struct df_st_writer *w = NULL;
	const struct df_st_tensor *t;
	struct df_st *st = NULL;
	struct stat before;
	float got[6];

	(void)state;
	at("a.safetensors");
	mh_ok(df_st_create(&w, path, err));
	mh_ok(df_st_add_metadata(w, "format", "pt", err));
	mh_ok(df_st_add_metadata(w, "quote\"", "a\\b", err));
	mh_ok(df_st_add(w, "a.weight", DF_ST_F32, shape_a, 2, err));
	mh_ok(df_st_add(w, "empty", DF_ST_F32, shape_0, 2, err));
	mh_ok(df_st_add(w, "ids", DF_ST_I64, shape_b, 1, err));
	mh_ok(df_st_add(w, "scalar", DF_ST_U8, NULL, 0, err));
	assert_int_equal(stat(path, &before), -1); /* not visible before commit */
	mh_ok(df_st_write(w, a, 10, err));
	mh_ok(df_st_write(w, (const char *)a + 10, 14, err));
	mh_ok(df_st_write(w, b, sizeof(b), err));
	mh_ok(df_st_write(w, "x", 1, err));
	mh_ok(df_st_commit(w, err));

	mh_ok(df_st_open(&st, path, err));
	assert_int_equal(df_st_count(st), 4);
	assert_string_equal(df_st_metadata(st, "format"), "pt");
	assert_string_equal(df_st_metadata(st, "quote\""), "a\\b");
	assert_null(df_st_metadata(st, "no"));
	t = df_st_find(st, "a.weight");
	assert_non_null(t);
	assert_int_equal(t->rank, 2);
	assert_int_equal(t->shape[1], 3);
	assert_int_equal((uintptr_t)t->data % 8, 0); /* the header is padded */
	mh_ok(df_st_to_f32(t, got, err));
	assert_memory_equal(got, a, sizeof(a));
	assert_memory_equal(df_st_find(st, "ids")->data, b, sizeof(b));
	assert_int_equal(df_st_find(st, "empty")->numel, 0);
	assert_int_equal(df_st_find(st, "scalar")->numel, 1);
	assert_null(df_st_find(st, "a"));
	df_st_close(st);
}

static void
test_writer_counts(void **state)
{
	const uint64_t shape[1] = { 2 };
	struct df_st_writer *w = NULL;
	const float x[3] = { 1, 2, 3 };

	(void)state;
	at("short.safetensors");
	mh_ok(df_st_create(&w, path, err));
	mh_ok(df_st_add(w, "a", DF_ST_F32, shape, 1, err));
	mh_refused(df_st_write(w, x, 12, err), DF_EINTERNAL, "more data|short.safetensors");
	mh_ok(df_st_write(w, x, 4, err));
	mh_refused(df_st_commit(w, err), DF_EINTERNAL, "declared|short.safetensors");
	assert_false(df_file_exists(path));
}

/* Every half is what ldexp says it is; bf16 is the upper half of a float. */
static void
test_conversion(void **state)
{
	static uint16_t bits[65536];
	static float got[65536];
	static double d[2] = { 1e-3, -7 };
	struct df_st_tensor t = { .name = "t", .type = DF_ST_F16, .numel = 65536, .nbytes = 131072, .data = bits };

	(void)state;
	for (uint32_t i = 0; i < 65536; i++)
		bits[i] = (uint16_t)i;
	mh_ok(df_st_to_f32(&t, got, err));
	for (uint32_t i = 0; i < 65536; i++) {
		int e = (int)(i >> 10 & 31), m = (int)(i & 1023);
		double want = e == 0 ? ldexp(m, -24) : ldexp(1024 + m, e - 25);

		want = i & 0x8000 ? -want : want;
		if (e == 31)
			assert_true(m != 0 ? isnan(got[i]) : isinf(got[i]) && !signbit(got[i]) == !(i >> 15));
		else if ((double)got[i] != want || !signbit(got[i]) != !(i >> 15))
			fail_msg("half %04x: %g, expected %g", i, (double)got[i], want);
	}
	t.type = DF_ST_BF16;
	mh_ok(df_st_to_f32(&t, got, err));
	for (uint32_t i = 0; i < 65536; i++) {
		uint32_t u;

		memcpy(&u, &got[i], 4);
		assert_int_equal(u, i << 16);
	}
	t = (struct df_st_tensor){ .name = "t", .type = DF_ST_F64, .numel = 2, .nbytes = 16, .data = d };
	mh_ok(df_st_to_f32(&t, got, err));
	assert_true(got[0] == (float)1e-3 && got[1] == -7);
	t.type = DF_ST_I64;
	mh_refused(df_st_to_f32(&t, got, err), DF_EFORMAT, "'t'|I64");
}

#define ENTRY(name, range) "\"" name "\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[" range "]}"

static void
test_hostile(void **state)
{
	/* Each header with 8 bytes of data, unless said otherwise. */
	static const struct {
		const char *header;
		int code;
		const char *words;
	} t[] = {
		{ "{" ENTRY("a", "0,12") "}", DF_EFORMAT, "'a'|8 bytes|12" },
		{ "{" ENTRY("a", "4,12") "}", DF_EFORMAT, "'a'|truncated|12" },
		{ "{" ENTRY("a", "8,0") "}", DF_EFORMAT, "'a'|not a range" },
		{ "{" ENTRY("a", "-8,0") "}", DF_EFORMAT, "'a'|not a range" },
		{ "{" ENTRY("a", "0") "}", DF_EFORMAT, "'a'|not a range" },
		{ "{" ENTRY("a", "0,8.0") "}", DF_EFORMAT, "'a'|not a range" },
		{ "{" ENTRY("a", "9223372036854775800,9223372036854775807") "}", DF_EFORMAT, "'a'|8 bytes" },
		{ "{" ENTRY("a", "9223372036854775799,9223372036854775807") "}", DF_EFORMAT, "'a'|truncated" },
		{ "{" ENTRY("a", "0,8") "," ENTRY("b", "0,8") "}", DF_EFORMAT, "overlap|'a'|'b'" },
		{ "{" ENTRY("a", "0,8") "," ENTRY("a", "0,8") "}", DF_EFORMAT, "a|duplicate" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}", DF_EFORMAT, "'a'|no tensor" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", DF_EFORMAT, "4 bytes|no tensor" },
		{ "{}", DF_EFORMAT, "8 bytes|no tensor" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}", DF_ERANGE,
		    "'a'|elements" },
		{ "{\"a\":{\"dtype\":\"F64\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", DF_ERANGE,
		    "'a'|bytes" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", DF_EFORMAT,
		    "'a'|shape|dimension 0" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", DF_EFORMAT, "'a'|'shape'|integer" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", DF_EUNSUPPORTED,
		    "'a'|9 dimensions" },
		{ "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}}", DF_EUNSUPPORTED,
		    "'a'|F8_E4M3" },
		{ "{\"a\":{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}}", DF_EFORMAT, "'a'|dtype" },
		{ "{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", DF_EFORMAT, "'a'|dtype" },
		{ "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", DF_EFORMAT, "'a'|shape" },
		{ "{\"a\":[1]}", DF_EFORMAT, "'a'|object" },
		{ "{\"__metadata__\":7," ENTRY("a", "0,8") "}", DF_EFORMAT, "__metadata__" },
		{ "[]", DF_EFORMAT, "header|array" },
		{ "{\"a\":", DF_EFORMAT, "h.safetensors:1" },
		{ "{\"a\xff\":{}}", DF_EFORMAT, "h.safetensors:1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		char words[256];

		snprintf(words, sizeof(words), "h.safetensors|%s", t[i].words);
		refused(put("h.safetensors", t[i].header, -1, 8), t[i].code, words);
	}
	refused(put("h.safetensors", "{}", 1LL << 40, 0), DF_EFORMAT, "h.safetensors|1099511627776");
	refused(put("h.safetensors", "{}", 1LL << 62, 0), DF_EFORMAT, "h.safetensors|header");
	refused(put("h.safetensors", "{}", 3, 0), DF_EFORMAT, "h.safetensors|truncated");
	refused(put("h.safetensors", "{}", 0, 0), DF_EFORMAT, "h.safetensors");
	mh_ok(df_file_put(at("h.safetensors"), "1234567", 7, err));
	refused(path, DF_EFORMAT, "h.safetensors|7 bytes");
	mh_ok(df_file_put(at("h.safetensors"), "", 0, err));
	refused(path, DF_EFORMAT, "h.safetensors|0 bytes");
	refused(at("absent.safetensors"), DF_ENOINPUT, "absent.safetensors");
	/* A hundred thousand brackets do not overflow the stack. */
	{
		static char deep[100001];

		memset(deep, '[', 100000);
		refused(put("h.safetensors", deep, -1, 0), DF_ERANGE, "h.safetensors|deep");
	}
}

/* A file cut at any byte is refused, and never with a crash. */
static void
test_truncated(void **state)
{
	char *whole = NULL;
	size_t n;

	(void)state;
	put("t.safetensors", "{" ENTRY("a", "0,8") "," ENTRY("b", "8,16") "}", -1, 16);
	mh_ok(df_file_get(path, 1 << 20, &whole, &n, err));
	for (size_t k = 0; k < n; k++) {
		spill("cut.safetensors", whole, k);
		refused(path, DF_EFORMAT, "cut.safetensors");
	}
	free(whole);
}

/* Any one bit flipped: refused, or read as some valid file; all of its data then lies inside the mapping. */
static void
test_flipped(void **state)
{
	size_t n, opened = 0, sum = 0;
	char *whole = NULL;

	(void)state;
	put("f.safetensors", "{\"__metadata__\":{\"format\":\"pt\"}," ENTRY("a", "0,8") "," ENTRY("b", "8,16") "}", -1,
	    16);
	mh_ok(df_file_get(path, 1 << 20, &whole, &n, err));
	for (size_t bit = 0; bit < 8 * n; bit++) {
		struct df_err err = DF_ERR_INIT;
		struct df_st *st = NULL;

		whole[bit / 8] ^= (char)(1 << bit % 8);
		spill("f.safetensors", whole, n);
		whole[bit / 8] ^= (char)(1 << bit % 8);
		if (df_st_open(&st, path, &err) != DF_OK) {
			assert_non_null(strstr(err.msg, "f.safetensors"));
			continue;
		}
		opened++;
		for (size_t i = 0; i < df_st_count(st); i++) {
			for (size_t k = 0; k < df_st_at(st, i)->nbytes; k++)
				sum += ((const unsigned char *)df_st_at(st, i)->data)[k];
		}
		df_st_close(st);
	}
	/* Flips of the data, of names and of metadata are not damage that a header shows. */
	assert_true(opened >= 128 && opened < 4 * n && sum > 0);
	free(whole);
}

static void
open_model_refused(int code, const char *words)
{
	struct df_st *st = NULL;

	mh_refused(df_st_open_model(&st, mh_scratch(), err), code, words);
	assert_null(st);
}

static void
put_index(const char *map)
{
	char text[1024];

	snprintf(text, sizeof(text), "{\"metadata\":{\"total_size\":16},\"weight_map\":%s}", map);
	mh_ok(df_file_put(at("model.safetensors.index.json"), text, strlen(text), err));
}

static void
test_sharded(void **state)
{
	struct df_st *st = NULL;

	(void)state;
	open_model_refused(DF_ENOINPUT, "model.safetensors");
	mh_ok(df_file_put(at("pytorch_model.bin"), "x", 1, err));
	open_model_refused(DF_EUNSUPPORTED, "pytorch_model.bin|convert");
	put("m-1.safetensors", "{\"__metadata__\":{\"format\":\"pt\"}," ENTRY("a", "0,8") "}", -1, 8);
	put("m-2.safetensors", "{" ENTRY("b", "0,8") "}", -1, 8);
	put_index("{\"b\":\"m-2.safetensors\",\"a\":\"m-1.safetensors\"}");
	mh_ok(df_st_open_model(&st, mh_scratch(), err));
	assert_int_equal(df_st_count(st), 2);
	assert_string_equal(df_st_at(st, 0)->name, "a");
	assert_string_equal(df_st_metadata(st, "format"), "pt");
	df_st_close(st);

	put_index("{\"a\":\"m-1.safetensors\",\"b\":\"m-1.safetensors\"}");
	open_model_refused(DF_EFORMAT, "index.json|'b'");
	put_index("{\"a\":\"m-1.safetensors\",\"c\":\"m-2.safetensors\"}");
	open_model_refused(DF_EFORMAT, "index.json|'c'");
	put_index("{\"a\":\"m-1.safetensors\",\"c\":\"../m-2.safetensors\"}");
	open_model_refused(DF_EFORMAT, "index.json|'c'|directory");
	put_index("{\"a\":\"m-1.safetensors\",\"c\":7}");
	open_model_refused(DF_EFORMAT, "index.json|'c'");
	put_index("{\"a\":\"m-1.safetensors\",\"b\":\"m-3.safetensors\"}");
	open_model_refused(DF_ENOINPUT, "m-3.safetensors");
	put_index("[]");
	open_model_refused(DF_EFORMAT, "index.json|weight_map");
	put("m-2.safetensors", "{" ENTRY("a", "0,8") "}", -1, 8);
	put_index("{\"b\":\"m-2.safetensors\",\"a\":\"m-1.safetensors\"}");
	open_model_refused(DF_EFORMAT, "index.json|'a'|two files");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_round_trip, mh_cleanup),
		cmocka_unit_test_teardown(test_writer_counts, mh_cleanup),
		cmocka_unit_test_teardown(test_conversion, mh_cleanup),
		cmocka_unit_test_teardown(test_hostile, mh_cleanup),
		cmocka_unit_test_teardown(test_truncated, mh_cleanup),
		cmocka_unit_test_teardown(test_flipped, mh_cleanup),
		cmocka_unit_test_teardown(test_sharded, mh_cleanup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
