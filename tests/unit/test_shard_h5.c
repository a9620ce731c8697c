/*
 * test_shard_h5.c - our chunks against HDF5's own filter pipeline, both ways, and files that others wrote.
 */
#include "shard_help.h"

#include <hdf5.h>
#include <math.h>

#include "shard/codec.h"

/* Anything: a hash of its arguments. */
static uint32_t
noise(uint64_t a, uint64_t b)
{
	uint64_t x = (a + 1) * 0x9e3779b97f4a7c15u ^ (b + 1) * 0xc2b2ae3d27d4eb4fu;

	x ^= x >> 29;
	return (uint32_t)(x * 0xbf58476d1ce4e5b9u >> 32);
}

/* The library's own; exported, though not declared in a public header. */
uint32_t H5_checksum_fletcher32(const void *data, size_t n);

static void
test_fletcher32(void **state)
{
	enum { N = 70001 };
	unsigned char *p = malloc(N + 1);

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		for (size_t i = 0; i <= N; i++)
			p[i] = kind == 0 ? 0 : kind == 1 ? 0xff : (unsigned char)noise(7, i);
		for (size_t n = 1; n <= N; n = n < 70 ? n + 1 : n * 3 / 2 + 1)
			for (size_t from = 0; from < 2; from++)
				assert_int_equal(df_fletcher32(p + from, n), H5_checksum_fletcher32(p + from, n));
	}
	free(p);
}

/* ---- matrices, narrow and so wide that a row is cut into chunks */

static float
value(uint64_t id, uint64_t k)
{
	return (float)noise(id, k) / 1e6f;
}

static void
write_matrix(const char *path, uint64_t n, uint64_t step, size_t width, enum df_compress how)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_PROJECTION, DF_COL_LOSS };
	const size_t widths[DF_COL_COUNT] = { [DF_COL_PROJECTION] = width };
	struct df_writer_opts opts = { .compress = how };
	struct df_meta m = { .kind = DF_KIND_PROJECTIONS };
	struct df_batch b = DF_BATCH_INIT;
	struct df_writer *w;

	OK(df_writer_open(&w, path, &m, cols, 3, widths, &opts, err));
	for (uint64_t at_row = 0; at_row < n; at_row += step) {
		uint64_t rows = n - at_row < step ? n - at_row : step, *id;
		float *x, *loss;

		df_batch_clear(&b);
		OK(df_arena_alloc(&b.arena, &id, rows, 8, "t", err));
		OK(df_arena_alloc(&b.arena, &loss, rows, 4, "t", err));
		OK(df_arena_alloc(&b.arena, &x, rows * width, 4, "t", err));
		for (uint64_t i = 0; i < rows; i++) {
			id[i] = at_row + i;
			loss[i] = (at_row + i) % 5 ? (float)(at_row + i) : NAN;
			for (size_t k = 0; k < width; k++)
				x[i * width + k] = value(at_row + i, k);
		}
		b.n = rows;
		b.col[DF_COL_ID].data = id;
		b.col[DF_COL_LOSS].data = loss;
		b.col[DF_COL_PROJECTION] = (struct df_column_data){ .data = x, .width = width };
		OK(df_writer_put(w, &b, err));
	}
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	df_batch_release(&b);
}

/* What we wrote, through H5Dread and the registered filter. */
static void
check_with_hdf5(const char *path, uint64_t n, size_t width)
{
	float *x = malloc(n * width * sizeof(float));
	hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), d = H5Dopen2(f, "projection", H5P_DEFAULT);

	assert_true(f >= 0 && d >= 0);
	assert_true(H5Dread(d, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
	for (uint64_t i = 0; i < n; i++)
		for (size_t k = 0; k < width; k++)
			if (x[i * width + k] != value(i, k))
				fail_msg("row %llu column %zu", (unsigned long long)i, k);
	H5Dclose(d);
	H5Fclose(f);
	free(x);
}

static void
check_with_us(const char *path, uint64_t n, size_t width)
{
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *s;

	OK(df_set_open1(&s, DF_KIND_PROJECTIONS, NULL, path, err));
	assert_int_equal(df_set_width(s, DF_COL_PROJECTION), width);
	for (uint64_t at_row = 0; at_row < n; at_row += 2) {
		uint64_t rows = n - at_row < 3 ? n - at_row : 3;
		const float *x;

		OK(df_set_read(s, at_row, rows, &b, err));
		x = b.col[DF_COL_PROJECTION].data;
		for (uint64_t i = 0; i < rows; i++)
			for (size_t k = 0; k < width; k++)
				if (x[i * width + k] != value(at_row + i, k))
					fail_msg("row %llu column %zu", (unsigned long long)(at_row + i), k);
	}
	df_set_close(s);
	df_batch_release(&b);
}

static void
test_matrices(void **state)
{
	static const struct {
		uint64_t n;
		size_t width;
	} shape[] = { { 1, 1 }, { 50, 3 }, { 1000, 700 }, { 5, 300000 }, { 3, 1100001 } };
	static const enum df_compress how[] = { DF_COMPRESS_NONE, DF_COMPRESS_ZSTD, DF_COMPRESS_GZIP };

	(void)state;
	for (size_t i = 0; i < sizeof(shape) / sizeof(shape[0]); i++) {
		for (size_t h = 0; h < (shape[i].width > 10000 ? 2 : 3); h++) {
			write_matrix(at("m.h5"), shape[i].n, 7, shape[i].width, how[h]);
			check_with_hdf5(at("m.h5"), shape[i].n, shape[i].width);
			check_with_us(at("m.h5"), shape[i].n, shape[i].width);
		}
	}
	write_matrix(at("a.h5"), 1000, 1000, 700, DF_COMPRESS_ZSTD);
	write_matrix(at("b.h5"), 1000, 9, 700, DF_COMPRESS_ZSTD);
	same_bytes(at("a.h5"), at("b.h5"));
}

/* What HDF5 wrote through its pipeline with our filter in it, read by us chunk by chunk. */
static void
test_hdf5_writes(void **state)
{
	hsize_t n = 100003, chunk = 4099;
	uint64_t *v = malloc(n * sizeof(*v));
	unsigned level = 5;
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *s;

	(void)state;
	for (hsize_t i = 0; i < n; i++)
		v[i] = i * i % 1000003;
	for (int stages = 0; stages < 8; stages++) {
		hid_t f = H5Fcreate(at("h.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
		hid_t space = H5Screate_simple(1, &n, NULL), p = H5Pcreate(H5P_DATASET_CREATE), d;

		H5Pset_chunk(p, 1, &chunk);
		if (stages & 1)
			H5Pset_shuffle(p);
		if (stages & 2)
			H5Pset_filter(p, DF_FILTER_ZSTD, H5Z_FLAG_MANDATORY, 1, &level);
		if (stages & 4)
			H5Pset_fletcher32(p);
		d = H5Dcreate2(f, "index", H5T_STD_U64LE, space, H5P_DEFAULT, p, H5P_DEFAULT);
		assert_true(d >= 0 && H5Dwrite(d, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, v) >= 0);
		H5Dclose(d);
		H5Pclose(p);
		H5Sclose(space);
		H5Fclose(f);
		OK(df_set_open1(&s, DF_KIND_INDEX, NULL, at("h.h5"), err));
		assert_false(df_set_meta(s)->has_lineage);
		assert_int_equal(strlen(df_set_meta(s)->id), 32);
		OK(df_set_read(s, 0, n, &b, err));
		assert_memory_equal(b.col[DF_COL_INDEX].data, v, n * sizeof(*v));
		df_set_close(s);
	}
	df_batch_release(&b);
	free(v);
}

/* ---- files of a user's script */

static void
put(hid_t f, const char *name, hid_t file_type, hid_t mem_type, hsize_t n, const void *data)
{
	hid_t s = H5Screate_simple(1, &n, NULL);
	hid_t d = H5Dcreate2(f, name, file_type, s, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);

	assert_true(d >= 0);
	if (data)
		assert_true(H5Dwrite(d, mem_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
	H5Dclose(d);
	H5Sclose(s);
}

static hid_t
begin(void)
{
	return H5Fcreate(at("u.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
}

static void
refused(enum df_kind kind, int code, const char *words)
{
	struct df_err why = DF_ERR_INIT;
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *s = NULL;
	uint64_t n;
	int rc = df_set_open1(&s, kind, NULL, at("u.h5"), &why);

	if (rc == DF_OK)
		rc = df_set_next(s, 100, &b, &n, &why);
	df_set_close(s);
	df_batch_release(&b);
	assert_int_equal(rc, code);
	if (strstr(why.msg, words) == NULL)
		fail_msg("'%s' does not say '%s'", why.msg, words);
	assert_non_null(strstr(why.msg, "u.h5: "));
}

static void
name_kind(hid_t f, const char *kind)
{
	hid_t s = H5Screate(H5S_SCALAR), t = H5Tcopy(H5T_C_S1), a;

	H5Tset_size(t, strlen(kind));
	a = H5Acreate2(f, "df_kind", t, s, H5P_DEFAULT, H5P_DEFAULT);
	assert_true(a >= 0 && H5Awrite(a, t, kind) >= 0);
	H5Aclose(a);
	H5Tclose(t);
	H5Sclose(s);
}

/* A script may name the kind and nothing more; a file that claims our schema must have been finished. */
static void
test_named_kinds(void **state)
{
	static const int64_t ids[3] = { 5, 0, 7 };
	struct df_set *s;

	(void)state;
	for (int ours = 0; ours < 2; ours++) {
		hid_t f = begin(), space = H5Screate(H5S_SCALAR);

		put(f, "index", H5T_STD_I64LE, H5T_NATIVE_INT64, 3, ids);
		name_kind(f, "index");
		if (ours)
			H5Aclose(H5Acreate2(f, "df_schema", H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT));
		H5Sclose(space);
		H5Fclose(f);
		if (ours) {
			refused(DF_KIND_INDEX, DF_EFORMAT, "incomplete: its writer did not finish");
			continue;
		}
		OK(df_set_open1(&s, DF_KIND_INDEX, NULL, at("u.h5"), err));
		assert_false(df_set_meta(s)->has_lineage);
		df_set_close(s);
		refused(DF_KIND_WEIGHTS, DF_EFORMAT, "holds index, not weights");
	}
}

static void
test_users_files(void **state)
{
	static const int64_t ids[3] = { 5, 0, 7 }, negative[3] = { 5, -3, 7 };
	static const double weights[4] = { 0.5, 1, 2, 0 };
	static const hid_t *const types[] = { &H5T_STD_I8LE_g, &H5T_STD_I16BE_g, &H5T_STD_I32LE_g, &H5T_STD_I64LE_g,
		&H5T_STD_U8LE_g, &H5T_STD_U32BE_g, &H5T_STD_U64BE_g };
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *s;
	hid_t f, t;

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		f = begin();
		put(f, "index", *types[i], H5T_NATIVE_INT64, 3, ids);
		H5Fclose(f);
		OK(df_set_open1(&s, DF_KIND_INDEX, NULL, at("u.h5"), err));
		OK(df_set_read(s, 0, 3, &b, err));
		assert_memory_equal(b.col[DF_COL_INDEX].data, ids, sizeof(ids));
		df_set_close(s);
	}
	f = begin();
	put(f, "index", H5T_STD_I32LE, H5T_NATIVE_INT64, 3, negative);
	H5Fclose(f);
	refused(DF_KIND_INDEX, DF_EFORMAT, "dataset 'index': -3 in row 1 is negative");

	/* Weights of row i = sample i, as doubles. */
	f = begin();
	put(f, "sample_weight", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 4, weights);
	H5Fclose(f);
	OK(df_set_open1(&s, DF_KIND_WEIGHTS, NULL, at("u.h5"), err));
	OK(df_set_read(s, 1, 3, &b, err));
	for (int i = 0; i < 3; i++) {
		assert_true(((const float *)b.col[DF_COL_WEIGHT].data)[i] == (float)weights[i + 1]);
		assert_int_equal(((const uint64_t *)b.col[DF_COL_ID].data)[i], i + 1);
	}
	df_set_close(s);
	df_batch_release(&b);
	refused(DF_KIND_SCORES, DF_EFORMAT, "no dataset 'sample/id'");

	f = begin();
	put(f, "index", H5T_IEEE_F32LE, H5T_NATIVE_INT64, 3, NULL);
	H5Fclose(f);
	refused(DF_KIND_INDEX, DF_EFORMAT, "dataset 'index': expected uint64, found float32");
	f = begin();
	t = H5Tcopy(H5T_C_S1);
	H5Tset_size(t, 5);
	put(f, "index", t, t, 3, NULL);
	H5Tclose(t);
	H5Fclose(f);
	refused(DF_KIND_INDEX, DF_EFORMAT, "dataset 'index': expected uint64, found string");
	f = begin();
	t = H5Tcreate(H5T_COMPOUND, 16);
	H5Tinsert(t, "id", 0, H5T_STD_U64LE);
	put(f, "index", t, t, 3, NULL);
	H5Tclose(t);
	H5Fclose(f);
	refused(DF_KIND_INDEX, DF_EFORMAT, "dataset 'index': expected uint64, found compound");
	H5Fclose(begin());
	refused(DF_KIND_ANY, DF_EFORMAT, "no dataset in it has a name that an artefact has");
}

/* Ragged columns whose offsets lie. */
static void
test_offsets(void **state)
{
	static const uint64_t good[4] = { 0, 2, 2, 5 }, late[4] = { 1, 2, 2, 5 }, down[4] = { 0, 3, 2, 5 },
			      past[4] = { 0, 2, 9, 5 }, little[4] = { 0, 2, 2, 4 };
	static const struct {
		const uint64_t *off;
		uint64_t n;
		const char *says;
	} cases[] = { { late, 4, "goes from 1 to 5" }, { down, 4, "entry 2 is 2, after 3" },
		{ past, 4, "entry 2 is 9" }, { little, 4, "goes from 0 to 4, but 'tokens/ids' has 5" },
		{ good, 3, "goes from 0 to 2" }, { good, 0, "empty; it begins with a 0" },
		{ NULL, 0, "has no 'tokens/offsets'" } };
	static const uint64_t id[3] = { 0, 1, 2 };
	static const uint32_t tokens[5] = { 1, 2, 3, 4, 5 };
	static const uint8_t mask[5] = { 0, 1, 0, 1, 1 };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		hid_t f = begin();

		H5Gclose(H5Gcreate2(f, "sample", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
		H5Gclose(H5Gcreate2(f, "tokens", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
		put(f, "sample/id", H5T_STD_U64LE, H5T_NATIVE_UINT64, 3, id);
		put(f, "tokens/ids", H5T_STD_U32LE, H5T_NATIVE_UINT32, 5, tokens);
		put(f, "tokens/label_mask", H5T_STD_U8LE, H5T_NATIVE_UINT8, 5, mask);
		if (cases[i].off)
			put(f, "tokens/offsets", H5T_STD_U64LE, H5T_NATIVE_UINT64, cases[i].n, cases[i].off);
		H5Fclose(f);
		refused(DF_KIND_TOKENS, DF_EFORMAT, cases[i].says);
	}
}

/* Attributes of any length; what was said comes back word for word. */
static void
test_large_meta(void **state)
{
	static const enum df_col cols[] = { DF_COL_INDEX };
	struct df_meta m = { .kind = DF_KIND_INDEX };
	struct df_batch b = { .n = 1 };
	struct df_writer *w;
	struct df_set *s;
	uint64_t one = 1;
	char *text = malloc(200001), *back;

	(void)state;
	for (size_t i = 0; i < 200000; i++)
		text[i] = (char)('a' + i % 26);
	text[200000] = '\0';
	memcpy(text, "\"\\\n\t\x01\xc3\xa9\xf0\x9f\x98\x80", 11);
	OK(df_meta_set_str(&m, "long", text, err));
	for (int i = 0; i < 3000; i++) {
		char name[40];

		snprintf(name, sizeof(name), "domain number %d", i);
		OK(df_meta_add_domain(&m, name, NULL, err));
	}
	b.col[DF_COL_INDEX].data = &one;
	OK(df_writer_open(&w, at("l.h5"), &m, cols, 1, NULL, NULL, err));
	OK(df_writer_put(w, &b, err));
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	OK(df_set_open1(&s, DF_KIND_INDEX, NULL, at("l.h5"), err));
	assert_true(df_meta_get_str(df_set_meta(s), "long", &back));
	assert_string_equal(back, text);
	assert_int_equal(df_set_meta(s)->n_domains, 3000);
	assert_string_equal(df_set_meta(s)->domains[2999], "domain number 2999");
	df_set_close(s);
	df_meta_release(&m);
	free(back);
	free(text);
}

/* ---- strings of variable length, of which an attribute says where in the file they lie, without a checksum */

/* An index whose domains are such strings. */
static void
write_strings(const char *path)
{
	const char *const names[] = { "first", "second" };
	const uint64_t ids[] = { 1, 0 };
	const hsize_t n = 2;
	hid_t f = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), space = H5Screate_simple(1, &n, NULL);
	hid_t type = H5Tcopy(H5T_C_S1), a;

	put(f, "index", H5T_STD_U64LE, H5T_NATIVE_UINT64, n, ids);
	H5Tset_size(type, H5T_VARIABLE);
	a = H5Acreate2(f, "domains", type, space, H5P_DEFAULT, H5P_DEFAULT);
	assert_true(a >= 0 && H5Awrite(a, type, names) >= 0);
	H5Aclose(a);
	H5Tclose(type);
	H5Sclose(space);
	H5Fclose(f);
}

static void
test_strings_elsewhere(void **state)
{
	/* A string: its length, the address of its heap collection, its number there. */
	struct {
		uint32_t len;
		uint32_t addr[2];
		uint32_t index;
	} good = { .len = 5, .index = 2 }, bad[6];
	struct df_err why = DF_ERR_INIT;
	struct df_meta m;
	char *data, *heap, *at_string;
	size_t n;

	(void)state;
	write_strings(at("strings.h5"));
	OK(df_meta_load(&m, at("strings.h5"), NULL, err));
	assert_int_equal(m.n_domains, 2);
	assert_string_equal(m.domains[1], "second");
	df_meta_release(&m);

	OK(df_file_get(at("strings.h5"), 1 << 20, &data, &n, err));
	heap = memmem(data, n, "GCOL", 4);
	assert_non_null(heap);
	good.addr[0] = (uint32_t)(heap - data);
	at_string = memmem(data, n, &good, sizeof(good));
	assert_non_null(at_string);
	for (int i = 0; i < 6; i++)
		bad[i] = good;
	bad[0].index = 0;   /* the free space */
	bad[1].index = 999; /* nothing */
	bad[2].index = 1;   /* longer than 5 bytes */
	bad[3].len = 4;
	bad[4].addr[1] = 1; /* outside of the file */
	bad[5].addr[0] = 8; /* no collection */
	for (int i = 0; i < 6; i++) {
		memcpy(at_string, &bad[i], sizeof(bad[i]));
		OK(df_file_put(at("damaged.h5"), data, n, err));
		assert_int_equal(df_meta_load(&m, at("damaged.h5"), NULL, &why), DF_EFORMAT);
		if (strstr(why.msg, "damaged: its string heap") == NULL)
			fail_msg("string %d: %s", i, why.msg);
	}
	free(data);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fletcher32),
		cmocka_unit_test(test_matrices),
		cmocka_unit_test(test_hdf5_writes),
		cmocka_unit_test(test_named_kinds),
		cmocka_unit_test(test_users_files),
		cmocka_unit_test(test_offsets),
		cmocka_unit_test(test_large_meta),
		cmocka_unit_test(test_strings_elsewhere),
	};

	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	return cmocka_run_group_tests_name("shard_h5", tests, scratch_make, scratch_remove);
}
