/*
 * Embeddings stored as 16-bit floats: rounded once, the same through files, links, other layouts and resumed work.
 */
#include <hdf5.h>
#include <math.h>

#include "shard_help.h"

#include "backend/backend.h"

#define ROWS  700
#define WIDTH 1000 /* a chunk of 1 MiB ends within a batch */

static const enum df_col cols[] = { DF_COL_ID, DF_COL_EMBEDDING };

static float
number(uint64_t row, size_t i)
{
	/* From subnormal halves to beyond a thousand, both signs. */
	const double x = (double)(row * WIDTH + i + 1);

	return (float)((i % 2 ? -1 : 1) * exp2((double)((row + i) % 26) - 16) * (1 + sin(x)));
}

static void
make(struct df_batch *b, uint64_t first, uint64_t n)
{
	uint64_t *id;
	float *v;

	df_batch_clear(b);
	b->n = n;
	OK(df_arena_alloc(&b->arena, &id, n, sizeof(*id), "ids", err));
	OK(df_arena_alloc(&b->arena, &v, n * WIDTH, sizeof(*v), "vectors", err));
	for (uint64_t r = 0; r < n; r++) {
		id[r] = first + r;
		for (size_t i = 0; i < WIDTH; i++)
			v[r * WIDTH + i] = number(first + r, i);
	}
	b->col[DF_COL_ID] = (struct df_column_data){ .data = id, .width = 1 };
	b->col[DF_COL_EMBEDDING] = (struct df_column_data){ .data = v, .width = WIDTH };
}

static struct df_writer *
open_writer(const char *path, enum df_store store, enum df_compress how)
{
	const struct df_writer_opts opts = { .compress = how, .store = store, .resumable = true };
	size_t widths[DF_COL_COUNT] = { 0 };
	struct df_meta m = DF_META_INIT;
	struct df_writer *w;

	widths[DF_COL_EMBEDDING] = WIDTH;
	m.kind = DF_KIND_EMBEDDINGS;
	OK(df_meta_set_tool(&m, "test", err));
	OK(df_writer_open(&w, path, &m, cols, 2, widths, &opts, err));
	df_meta_release(&m);
	return w;
}

static void
put(struct df_writer *w, uint64_t first, uint64_t end)
{
	struct df_batch b = DF_BATCH_INIT;

	for (uint64_t at = first; at < end; at += 100) {
		make(&b, at, end - at < 100 ? end - at : 100);
		OK(df_writer_put(w, &b, err));
	}
	df_batch_release(&b);
}

static void
write_all(const char *path, enum df_store store, enum df_compress how)
{
	struct df_writer *w = open_writer(path, store, how);

	put(w, 0, ROWS);
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
}

/* The backend's own conversion says what a number becomes. */
static void
expect(float *want, enum df_store store)
{
	static const enum df_dtype types[] = { DF_F32, DF_F16, DF_BF16 };
	struct df_tensor a, b, c;
	struct df_backend *be;

	for (uint64_t r = 0; r < ROWS; r++)
		for (size_t i = 0; i < WIDTH; i++)
			want[r * WIDTH + i] = number(r, i);
	OK(df_backend_open(&be, "reference", NULL, err));
	OK(df_tensor_alloc(be, &a, DF_F32, ROWS, WIDTH, "a", err));
	OK(df_tensor_alloc(be, &b, types[store], ROWS, WIDTH, "b", err));
	OK(df_tensor_alloc(be, &c, DF_F32, ROWS, WIDTH, "c", err));
	OK(df_upload(be, a, want, err));
	OK(df_copy(be, b, a, err));
	OK(df_copy(be, c, b, err));
	OK(df_download(be, want, c, err));
	df_tensor_free(be, &a);
	df_tensor_free(be, &b);
	df_tensor_free(be, &c);
	df_backend_close(be);
}

/* Every row by df_set_next, some by df_set_read, and the checks of df_set_check. */
static void
check(const char *path, const float *want)
{
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *s;
	uint64_t n, at = 0;

	OK(df_set_open1(&s, DF_KIND_EMBEDDINGS, "vectors", path, err));
	assert_int_equal(df_set_width(s, DF_COL_EMBEDDING), WIDTH);
	OK(df_set_read(s, 350, 7, &b, err));
	assert_memory_equal(b.col[DF_COL_EMBEDDING].data, want + (size_t)350 * WIDTH, 7 * WIDTH * sizeof(float));
	for (;;) {
		OK(df_set_next(s, 333, &b, &n, err));
		if (n == 0)
			break;
		assert_memory_equal(b.col[DF_COL_EMBEDDING].data, want + at * WIDTH, n * WIDTH * sizeof(float));
		at += n;
	}
	assert_int_equal(at, ROWS);
	df_set_close(s);
	OK(df_set_open1(&s, DF_KIND_EMBEDDINGS, "vectors", path, err));
	OK(df_set_check(s, err));
	df_set_close(s);
	df_batch_release(&b);
}

static void
round_trip(enum df_store store)
{
	static const enum df_compress how[] = { DF_COMPRESS_DEFAULT, DF_COMPRESS_ZSTD, DF_COMPRESS_GZIP };
	float *want = malloc(sizeof(float) * ROWS * WIDTH);

	assert_non_null(want);
	expect(want, store);
	for (int i = 0; i < 3; i++) {
		write_all(at("e.h5"), store, how[i]);
		check(at("e.h5"), want);
	}
	free(want);
}

static void
test_f32(void **state)
{
	(void)state;
	round_trip(DF_STORE_F32);
}

static void
test_f16(void **state)
{
	(void)state;
	round_trip(DF_STORE_F16);
}

static void
test_bf16(void **state)
{
	(void)state;
	round_trip(DF_STORE_BF16);
}

/* A run that was killed goes on and leaves the same bytes. */
static void
test_resume(void **state)
{
	struct df_writer *w;

	(void)state;
	write_all(at("whole.h5"), DF_STORE_BF16, DF_COMPRESS_DEFAULT);
	w = open_writer(at("torn.h5"), DF_STORE_BF16, DF_COMPRESS_DEFAULT);
	put(w, 0, 300);
	df_writer_close(w);
	w = open_writer(at("torn.h5"), DF_STORE_BF16, DF_COMPRESS_DEFAULT);
	assert_int_equal(df_writer_done_rows(w), 300);
	put(w, 300, ROWS);
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	same_bytes(at("whole.h5"), at("torn.h5"));
}

/* What h5py sees: float16 is IEEE half precision, bfloat16 its bits with a mark; a link has both. */
static void
test_types(void **state)
{
	float *want = malloc(sizeof(float) * ROWS * WIDTH);

	(void)state;
	assert_non_null(want);
	for (int store = DF_STORE_F16; store <= DF_STORE_BF16; store++) {
		struct df_set *s;

		write_all(at("e.h5"), (enum df_store)store, DF_COMPRESS_DEFAULT);
		OK(df_set_open1(&s, DF_KIND_EMBEDDINGS, "vectors", at("e.h5"), err));
		OK(df_set_link(s, at("link.h5"), err));
		df_set_close(s);
		expect(want, (enum df_store)store);
		check(at("link.h5"), want);
		for (int i = 0; i < 2; i++) {
			hid_t f = H5Fopen(i ? at("link.h5") : at("e.h5"), H5F_ACC_RDONLY, H5P_DEFAULT);
			hid_t d = H5Dopen2(f, "embedding", H5P_DEFAULT), t = H5Dget_type(d);

			assert_int_equal(H5Tget_size(t), 2);
			assert_int_equal(H5Tget_class(t), store == DF_STORE_F16 ? H5T_FLOAT : H5T_INTEGER);
			assert_int_equal(H5Aexists(d, "dtype") > 0, store == DF_STORE_BF16);
			H5Tclose(t);
			H5Dclose(d);
			H5Fclose(f);
		}
	}
	free(want);
}

/* 70000 is no float16, and infinity is not silently put in its place; bfloat16 has it. */
static void
test_overflow(void **state)
{
	struct df_batch b = DF_BATCH_INIT;
	struct df_err why = DF_ERR_INIT;
	struct df_writer *w;

	(void)state;
	make(&b, 0, 3);
	((float *)b.col[DF_COL_EMBEDDING].data)[WIDTH + 5] = 70000;
	w = open_writer(at("o.h5"), DF_STORE_F16, DF_COMPRESS_DEFAULT);
	assert_int_equal(df_writer_put(w, &b, &why), DF_ERANGE);
	assert_non_null(strstr(why.msg, "row 1: 70000"));
	df_writer_close(w);
	w = open_writer(at("o.h5"), DF_STORE_BF16, DF_COMPRESS_DEFAULT);
	OK(df_writer_put(w, &b, err));
	df_writer_close(w);
	df_batch_release(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_f32),
		cmocka_unit_test(test_f16),
		cmocka_unit_test(test_bf16),
		cmocka_unit_test(test_resume),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_overflow),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
