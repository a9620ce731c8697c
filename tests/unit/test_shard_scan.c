/*
 * test_shard_scan.c - reading on all threads: the same rows, and the same complaints, as one thread has through HDF5,
 * however the numbers are stored.
 */
#include "shard_help.h"

#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <stdatomic.h>

#include "base/half.h"
#include "shard/codec.h"
#include "shard/h5_priv.h"
#include "shard/scan.h"

/* Numbers that each type has: halves of small integers. */
static float
value(uint64_t row, uint64_t col)
{
	return (float)((row * 31 + col * 7) % 255) * 0.5f - 60.0f;
}

/* ---- files as HDF5 writes them */

enum type { F32, F64, F16, BF16, F32_BE, N_TYPES };
enum layout { CONTIGUOUS, COMPACT, ROWS_1, ROWS_8, ROWS_ALL, PIECES, TILES, N_LAYOUTS };
enum { SHUFFLE = 1, ZSTD = 2, GZIP = 4, FLETCHER = 8, N_FILTERS = 16 };

struct stored {
	uint64_t n, width;
	enum type type;
	enum layout layout;
	int filters;
	uint64_t user_block;
	bool unwritten;
	bool heap; /* strings of variable length, as h5py writes them */
};

static hid_t
file_type(enum type t)
{
	return t == F64   ? H5Tcopy(H5T_IEEE_F64LE)
	    : t == F32_BE ? H5Tcopy(H5T_IEEE_F32BE)
			  : df_h5_stored_type(DF_COL_F32,
				t == F16        ? DF_STORE_F16
				    : t == BF16 ? DF_STORE_BF16
						: DF_STORE_F32);
}

static hid_t
file_layout(const struct stored *s)
{
	const hsize_t chunk[N_LAYOUTS][2] = { [ROWS_1] = { 1, s->width },
		[ROWS_8] = { s->n < 8 ? s->n : 8, s->width },
		[ROWS_ALL] = { s->n, s->width },
		[PIECES] = { 1, s->width / 2 + 1 },
		[TILES] = { s->n < 3 ? s->n : 3, s->width / 2 + 1 } };
	hid_t p = H5Pcreate(H5P_DATASET_CREATE);
	unsigned level = 3;

	if (s->layout == COMPACT)
		H5Pset_layout(p, H5D_COMPACT);
	if (s->layout < ROWS_1)
		return p;
	H5Pset_chunk(p, 2, chunk[s->layout]);
	if (s->filters & SHUFFLE)
		H5Pset_shuffle(p);
	if (s->filters & ZSTD)
		H5Pset_filter(p, DF_FILTER_ZSTD, H5Z_FLAG_MANDATORY, 1, &level);
	if (s->filters & GZIP)
		H5Pset_deflate(p, 1);
	if (s->filters & FLETCHER)
		H5Pset_fletcher32(p);
	return p;
}

static void
put_string(hid_t at, const char *name, const char *value, bool heap)
{
	hid_t s = H5Screate(H5S_SCALAR), t = H5Tcopy(H5T_C_S1), a;

	H5Tset_size(t, heap ? H5T_VARIABLE : strlen(value));
	a = H5Acreate2(at, name, t, s, H5P_DEFAULT, H5P_DEFAULT);
	assert_true(a >= 0 && H5Awrite(a, t, heap ? (const void *)&value : value) >= 0);
	H5Aclose(a);
	H5Tclose(t);
	H5Sclose(s);
}

static void
put_matrix(hid_t f, const struct stored *st)
{
	const hsize_t dims[2] = { st->n, st->width };
	hid_t t = file_type(st->type), s = H5Screate_simple(2, dims, NULL), p = file_layout(st), d;
	const size_t n = st->n * st->width;
	float *v = malloc(n * sizeof(*v) + 1);
	uint16_t *bits = malloc(n * sizeof(*bits) + 1);

	for (size_t i = 0; i < n; i++) {
		v[i] = value(i / st->width, i % st->width);
		bits[i] = df_bf16_from_f32(v[i]);
	}
	d = H5Dcreate2(f, "projection", t, s, H5P_DEFAULT, p, H5P_DEFAULT);
	assert_true(d >= 0);
	if (st->unwritten) {
		/* HDF5 reads zeros. */
	} else if (st->type == BF16) {
		put_string(d, "dtype", "bfloat16", st->heap);
		assert_true(H5Dwrite(d, H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, bits) >= 0);
	} else {
		assert_true(H5Dwrite(d, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, v) >= 0);
	}
	H5Dclose(d);
	H5Pclose(p);
	H5Sclose(s);
	H5Tclose(t);
	free(v);
	free(bits);
}

static void
write_stored(const char *path, const struct stored *st)
{
	hid_t fcpl = H5Pcreate(H5P_FILE_CREATE), f, s, d;
	const hsize_t n = st->n;
	uint64_t *ids = malloc(n * sizeof(*ids) + 1);

	H5Pset_userblock(fcpl, st->user_block);
	f = H5Fcreate(path, H5F_ACC_TRUNC, fcpl, H5P_DEFAULT);
	assert_true(f >= 0);
	for (uint64_t i = 0; i < n; i++)
		ids[i] = i;
	s = H5Screate_simple(1, &n, NULL);
	H5Gclose(H5Gcreate2(f, "sample", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
	d = H5Dcreate2(f, "sample/id", H5T_STD_U64LE, s, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
	assert_true(d >= 0 && H5Dwrite(d, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, ids) >= 0);
	H5Dclose(d);
	H5Sclose(s);
	put_string(f, "df_kind", "projections", st->heap);
	put_matrix(f, st);
	H5Fclose(f);
	H5Pclose(fcpl);
	free(ids);
}

/* ---- a scan that looks at every number */

struct look {
	uint64_t width, next; /* rows that take() has seen */
	_Atomic uint64_t worked;
	uint64_t fail_from; /* work() fails at blocks from this row on */
	int n_threads;
};

/* No assertion in here: it may run in any thread. */
static int
look_at(void *ctx, struct df_batch *b, void **result, int worker, struct df_err *err)
{
	struct look *k = ctx;
	const struct df_column_data *c = &b->col[DF_COL_PROJECTION];
	const float *v = c->data;
	uint64_t *first;
	int rc;

	if (worker < 0 || worker >= k->n_threads || c->width != k->width)
		return df_fail(err, DF_EINTERNAL, "worker %d, width %zu", worker, c->width);
	if (b->first + b->n > k->fail_from)
		return df_fail(err, DF_ERANGE, "block with row %llu",
		    (unsigned long long)(b->first > k->fail_from ? b->first : k->fail_from));
	for (uint64_t i = 0; i < b->n * k->width; i++)
		if (v[i] != value(b->first + i / k->width, i % k->width))
			return df_fail(err, DF_EINTERNAL, "row %llu column %llu is %g",
			    (unsigned long long)(b->first + i / k->width), (unsigned long long)(i % k->width),
			    (double)v[i]);
	k->worked += b->n;
	DF_TRY(df_arena_alloc(&b->arena, &first, 1, sizeof(*first), "t", err));
	*first = b->first;
	*result = first;
out:
	return rc;
}

static int
take(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct look *k = ctx;
	const uint64_t *id = b->col[DF_COL_ID].data;

	(void)err;
	assert_true(b->n > 0);
	assert_int_equal(b->first, k->next);
	assert_int_equal(*(const uint64_t *)result, k->next);
	for (uint64_t i = 0; i < b->n; i++)
		assert_int_equal(id[i], b->first + i);
	k->next += b->n;
	return DF_OK;
}

/* Scan the file or set, from row 0; the code, with *why. */
static int
scan(const char *path, struct look *k, uint64_t max_rows, struct df_err *why)
{
	struct df_scan sc = {
		.max_rows = max_rows, .n_threads = k->n_threads, .work = look_at, .take = take, .ctx = k
	};
	int rc;

	*why = (struct df_err)DF_ERR_INIT;
	rc = df_set_open1(&sc.set, DF_KIND_PROJECTIONS, NULL, path, why);
	if (rc == DF_OK)
		rc = df_scan_run(&sc, why);
	df_set_close(rc == DF_OK || sc.set ? sc.set : NULL);
	return rc;
}

static void
scan_all(const char *path, uint64_t n, uint64_t width, uint64_t max_rows, int n_threads)
{
	struct look k = { .width = width, .fail_from = UINT64_MAX, .n_threads = n_threads };
	struct df_err why;

	if (scan(path, &k, max_rows, &why) != DF_OK)
		fail_msg("%s: %s", path, why.msg);
	assert_int_equal(k.next, n);
	assert_int_equal(k.worked, n);
}

/* The same rows in steps that cut chunks in two, and some in no order. */
static void
read_steps(const char *path, uint64_t n, uint64_t width)
{
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *s;
	uint64_t got;

	OK(df_set_open1(&s, DF_KIND_PROJECTIONS, NULL, path, err));
	for (uint64_t at_row = 0, k = 0; k < n + 20; k++) {
		const float *v;

		if (k < 20) {
			got = n ? 1 : 0;
			at_row = n ? k * 7919 % n : 0;
			OK(df_set_read(s, at_row, got, &b, err));
		} else {
			if (k == 20)
				at_row = 0;
			OK(df_set_next(s, 5, &b, &got, err));
			assert_int_equal(got, n - at_row < 5 ? n - at_row : 5);
		}
		v = b.col[DF_COL_PROJECTION].data;
		for (uint64_t i = 0; i < got * width; i++)
			assert_true(v[i] == value(at_row + i / width, i % width));
		at_row += got;
		if (k >= 20 && at_row == n)
			break;
	}
	df_batch_release(&b);
	df_set_close(s);
}

static void
test_layouts(void **state)
{
	static const uint64_t shapes[][2] = { { 37, 6 }, { 8, 5 }, { 1, 1 } };
	size_t files = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
		for (int type = 0; type < N_TYPES; type++)
			for (int layout = 0; layout < N_LAYOUTS; layout++)
				for (int filters = 0; filters < (layout < ROWS_1 ? 1 : N_FILTERS); filters++) {
					const struct stored st = { .n = shapes[i][0],
						.width = shapes[i][1],
						.type = (enum type)type,
						.layout = (enum layout)layout,
						.filters = filters,
						.user_block = files % 3 ? 0 : 1024,
						.heap = files % 2 };

					write_stored(at("s.h5"), &st);
					scan_all(at("s.h5"), st.n, st.width, files % 4 * 3, 1 + (int)(files % 4));
					if (files % 5 == 0)
						read_steps(at("s.h5"), st.n, st.width);
					files++;
				}
	print_message("%zu files\n", files);
}

/* No rows, no columns, and chunks that were never written, which read as zeros. */
static void
test_nothing(void **state)
{
	static const struct stored hole = { .n = 30, .width = 4, .layout = ROWS_8, .unwritten = true };
	static const struct stored none = { .n = 0, .width = 4 }, narrow = { .n = 9, .width = 0 };
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *set;
	uint64_t n;

	(void)state;
	for (int threads = 1; threads <= 4; threads++) {
		write_stored(at("none.h5"), &none);
		scan_all(at("none.h5"), 0, 4, 0, threads);
		write_stored(at("none.h5"), &narrow);
		scan_all(at("none.h5"), 9, 0, 2, threads);
	}
	write_stored(at("hole.h5"), &hole);
	OK(df_set_open1(&set, DF_KIND_PROJECTIONS, NULL, at("hole.h5"), err));
	OK(df_set_plan(set, 30, &b, &n, err));
	OK(df_batch_load(&b, err));
	assert_int_equal(n, 30);
	for (uint64_t i = 0; i < n * 4; i++)
		assert_true(((const float *)b.col[DF_COL_PROJECTION].data)[i] == 0);
	df_set_close(set);
	df_batch_release(&b);
}

/* ---- sets, streams */

static void
write_ours(const char *path, uint64_t first, uint64_t n, uint64_t width, const struct df_writer_opts *opts)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_PROJECTION };
	const size_t widths[DF_COL_COUNT] = { [DF_COL_PROJECTION] = width };
	struct df_meta m = { .kind = DF_KIND_PROJECTIONS };
	struct df_batch b = DF_BATCH_INIT;
	struct df_writer *w;
	uint64_t *id;
	float *v;

	OK(df_writer_open(&w, path, &m, cols, 2, widths, opts, err));
	for (uint64_t at_row = first; at_row < first + n; at_row += b.n) {
		df_batch_clear(&b);
		b.n = first + n - at_row < 100 ? first + n - at_row : 100;
		OK(df_arena_alloc(&b.arena, &id, b.n, sizeof(*id), "t", err));
		OK(df_arena_alloc(&b.arena, &v, b.n * width, sizeof(*v), "t", err));
		for (uint64_t i = 0; i < b.n; i++) {
			id[i] = at_row + i;
			for (uint64_t j = 0; j < width; j++)
				v[i * width + j] = value(at_row + i, j);
		}
		b.col[DF_COL_ID] = (struct df_column_data){ .data = id, .width = 1 };
		b.col[DF_COL_PROJECTION] = (struct df_column_data){ .data = v, .width = width };
		OK(df_writer_put(w, &b, err));
	}
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	df_batch_release(&b);
}

static void
test_sets(void **state)
{
	/* 2,048 wide: a chunk has 128 rows. */
	static const uint64_t parts[] = { 0, 1, 300, 17, 0, 128, 129 };
	enum { N = sizeof(parts) / sizeof(*parts), WIDTH = 2048 };
	uint64_t first = 0;
	char name[64];

	(void)state;
	for (size_t i = 0; i < N; i++) {
		const struct df_writer_opts opts = { .compress = i % 2 ? DF_COMPRESS_ZSTD : DF_COMPRESS_NONE };

		snprintf(name, sizeof(name), "set.%05zu-of-%05d.h5", i + 1, (int)N);
		write_ours(at(name), first, parts[i], WIDTH, &opts);
		first += parts[i];
	}
	for (int threads = 1; threads <= 4; threads++)
		for (uint64_t step = 0; step < 400; step = step * 3 + 7)
			scan_all(at("set.h5"), first, WIDTH, step, threads);
	read_steps(at("set.h5"), first, WIDTH);
}

static void
test_stream(void **state)
{
	const struct df_writer_opts opts = { .force_stream = true };
	int saved, fd = open(at("stream"), O_RDWR | O_CREAT | O_TRUNC, 0600);

	(void)state;
	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	dup2(fd, STDOUT_FILENO);
	write_ours("-", 0, 1234, 33, &opts);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	close(fd);
	for (int threads = 1; threads <= 4; threads++)
		scan_all(at("stream"), 1234, 33, 0, threads);
}

/* A file that does not say its id has that of its rows: after opening or, where that is put off, after a scan. */
static void
test_identify(void **state)
{
	static const enum df_col some[] = { DF_COL_ID };
	const char *path;
	char want[DF_DIGEST_HEX];
	struct df_set *s;

	(void)state;
	write_stored(at("id.h5"), &(struct stored){ .n = 700, .width = 9, .layout = ROWS_8 });
	path = at("id.h5");
	OK(df_set_open1(&s, DF_KIND_PROJECTIONS, NULL, path, err));
	memcpy(want, df_set_meta(s)->id, sizeof(want));
	assert_int_equal(strlen(want), 32);
	assert_string_not_equal(want, "00000000000000000000000000000000");
	OK(df_set_check(s, err));
	df_set_close(s);
	for (int threads = 1; threads <= 4; threads++)
		for (int all = 0; all < 2; all++) {
			struct look k = { .width = 9, .fail_from = UINT64_MAX, .n_threads = threads };
			struct df_scan sc = { .max_rows = 50, .n_threads = threads, .take = take, .ctx = &k };

			OK(df_set_open_later(&s, DF_KIND_PROJECTIONS, NULL, &path, 1, err));
			assert_string_equal(df_set_meta(s)->id, "");
			if (!all)
				df_set_only(s, some, 1);
			sc.set = s;
			sc.work = all ? look_at : NULL;
			sc.take = all ? take : NULL;
			OK(df_scan_run(&sc, err));
			assert_string_equal(df_set_meta(s)->id, all ? want : "");
			df_set_close(s);
		}
}

/* ---- errors */

/* The first in order of rows is told, after all rows before it were taken. */
static void
test_first_error(void **state)
{
	struct df_err why;

	(void)state;
	write_ours(at("e.h5"), 0, 1000, 5, NULL);
	for (int threads = 1; threads <= 4; threads++)
		for (uint64_t bad = 0; bad < 1000; bad += 171) {
			struct look k = { .width = 5, .fail_from = bad, .n_threads = threads };
			char want[64];

			snprintf(want, sizeof(want), "block with row %llu", (unsigned long long)bad);
			assert_int_equal(scan(at("e.h5"), &k, 10, &why), DF_ERANGE);
			assert_string_equal(why.msg, want);
			assert_int_equal(k.next, bad / 10 * 10);
		}
}

static void
flip(const char *path, uint64_t at_byte)
{
	int fd = open(path, O_RDWR);
	unsigned char c = 0;

	assert_true(fd >= 0 && pread(fd, &c, 1, (off_t)at_byte) == 1);
	c ^= 4;
	assert_int_equal(pwrite(fd, &c, 1, (off_t)at_byte), 1);
	close(fd);
}

/* A chunk whose bytes changed is refused with the same words by every way to read it. */
static void
test_damage(void **state)
{
	struct df_err why, want = DF_ERR_INIT;
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *s;
	uint64_t n;

	(void)state;
	for (int filters = FLETCHER; filters < FLETCHER + 4; filters++) {
		const struct stored st = { .n = 64, .width = 50, .layout = ROWS_8, .filters = filters };
		hid_t f, d;
		hsize_t size, chunk[2] = { 24, 0 };
		haddr_t place;
		unsigned mask;

		write_stored(at("d.h5"), &st);
		f = H5Fopen(at("d.h5"), H5F_ACC_RDONLY, H5P_DEFAULT);
		d = H5Dopen2(f, "projection", H5P_DEFAULT);
		assert_true(H5Dget_chunk_info_by_coord(d, chunk, &mask, &place, &size) >= 0);
		H5Dclose(d);
		H5Fclose(f);
		/* Opened first: files without an id of their own are read when they are opened. */
		for (int threads = 0; threads <= 4; threads++) {
			struct look k = { .width = 50, .fail_from = UINT64_MAX, .n_threads = threads };
			struct df_scan sc = {
				.max_rows = 8, .n_threads = threads, .work = look_at, .take = take, .ctx = &k
			};

			OK(df_set_open1(&s, DF_KIND_PROJECTIONS, NULL, at("d.h5"), err));
			flip(at("d.h5"), place + size / 2);
			sc.set = s;
			if (threads == 0) {
				OK(df_set_read(s, 0, 24, &b, err));
				assert_int_equal(df_set_read(s, 25, 1, &b, &want), DF_EFORMAT);
				assert_non_null(strstr(
				    want.msg, "d.h5: dataset 'projection', rows from 24: damaged: the checksum"));
			} else {
				assert_int_equal(df_scan_run(&sc, &why), DF_EFORMAT);
				assert_string_equal(why.msg, want.msg);
				assert_int_equal(k.next, 24);
			}
			df_set_close(s);
			flip(at("d.h5"), place + size / 2);
		}
	}
	/* Cut short while it is open: an error, not a signal. */
	for (int layout = CONTIGUOUS; layout <= ROWS_8; layout += ROWS_8) {
		const struct stored st = { .n = 64, .width = 500, .layout = (enum layout)layout };

		write_stored(at("d.h5"), &st);
		OK(df_set_open1(&s, DF_KIND_PROJECTIONS, NULL, at("d.h5"), err));
		OK(df_set_plan(s, 64, &b, &n, err));
		assert_int_equal(truncate(at("d.h5"), 40000), 0);
		assert_int_equal(df_batch_load(&b, &why), DF_EFORMAT);
		assert_non_null(strstr(why.msg, "d.h5: dataset 'projection', rows from"));
		assert_non_null(strstr(why.msg, "truncated"));
		df_set_close(s);
	}
	df_batch_release(&b);
}

/* What was planned can be read after the set has gone on to other files, and forgotten without being read. */
static void
test_plan_outlives(void **state)
{
	struct df_batch b[8];
	struct df_set *s;
	uint64_t n, rows = 0;
	size_t k = 0;
	char name[64];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "far.%05zu-of-00004.h5", i + 1);
		write_ours(at(name), 100 * i, 100, 3, NULL);
	}
	OK(df_set_open1(&s, DF_KIND_PROJECTIONS, NULL, at("far.h5"), err));
	for (; k < 8; k++) {
		b[k] = (struct df_batch)DF_BATCH_INIT;
		OK(df_set_plan(s, 1000, &b[k], &n, err));
		if (n == 0)
			break;
	}
	assert_int_equal(k, 4);
	for (size_t i = 4; i-- > 0;) {
		const float *v = b[i].col[DF_COL_PROJECTION].data;

		if (i == 2)
			continue; /* never read */
		OK(df_batch_load(&b[i], err));
		for (uint64_t r = 0; r < b[i].n; r++, rows++)
			assert_true(v[r * 3 + 1] == value(b[i].first + r, 1));
	}
	assert_int_equal(rows, 300);
	df_set_close(s);
	for (size_t i = 0; i <= k; i++)
		df_batch_release(&b[i]);
}

/* ---- the heap of strings */

/* Where the bytes are in the file; 0 when nowhere. */
static uint64_t
find(const char *path, const char *bytes, size_t n)
{
	char *data, *p;
	size_t len;
	uint64_t where;

	OK(df_file_get(path, 1 << 30, &data, &len, err));
	p = memmem(data, len, bytes, n);
	where = p ? (uint64_t)(p - data) : 0;
	free(data);
	return where;
}

static void
poke(const char *path, uint64_t where, const void *bytes, size_t n)
{
	int fd = open(path, O_WRONLY);

	assert_true(fd >= 0 && pwrite(fd, bytes, n, (off_t)where) == (ssize_t)n);
	close(fd);
}

/* HDF5 1.10.8 would walk in place for ever in some of these. */
static void
test_heap(void **state)
{
	static const struct {
		uint64_t at; /* in the collection */
		uint64_t value;
	} bad[] = {
		{ 8, 0 },                      /* the collection's size */
		{ 8, 8 }, { 8, 1 << 30 },      /* too small, beyond the file */
		{ 24, 1 << 20 },               /* the first object's size */
		{ 24, UINT64_MAX }, { 16, 0 }, /* its number: free space of few bytes */
	};
	const struct stored st = { .n = 3, .width = 2, .heap = true };
	struct df_err why;
	struct df_set *s;
	uint64_t heap;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		int rc;

		write_stored(at("heap.h5"), &st);
		heap = find(at("heap.h5"), "GCOL\1\0\0\0", 8);
		assert_true(heap > 0);
		poke(at("heap.h5"), heap + bad[i].at, &bad[i].value, 8);
		if (bad[i].at == 16)
			poke(at("heap.h5"), heap + 24, &(uint64_t){ 0 }, 8);
		rc = df_set_open1(&s, DF_KIND_PROJECTIONS, NULL, at("heap.h5"), &why);
		if (rc != DF_EFORMAT || strstr(why.msg, "heap.h5: damaged: its string heap") == NULL)
			fail_msg("%zu: %d: %s", i, rc, why.msg);
	}
	/* What looks like a collection among the numbers is none. */
	write_stored(at("heap.h5"), &(struct stored){ .n = 400, .width = 20, .heap = true });
	{
		const float v[4] = { value(100, 0), value(100, 1), value(100, 2), value(100, 3) };
		const uint64_t where = find(at("heap.h5"), (const char *)v, sizeof(v));

		assert_true(where > 0);
		poke(at("heap.h5"), where, "GCOL\1\0\0\0\0\0\0\0\0\0\0\0", 16);
		OK(df_set_open1(&s, DF_KIND_PROJECTIONS, NULL, at("heap.h5"), err));
		df_set_close(s);
	}
}

/* Strings that fill several collections, larger than the 4096 bytes that HDF5 reads of one at first. */
static void
test_large_heap(void **state)
{
	enum { N = 300 };
	const hsize_t n = N;
	const char *names[N];
	const struct df_meta *m;
	struct df_set *s;
	hid_t f, space, t, a;

	(void)state;
	write_stored(at("heap.h5"), &(struct stored){ .n = 3, .width = 2, .heap = true });
	for (size_t i = 0; i < N; i++) {
		char *name = malloc(6001);

		memset(name, 'a' + (int)(i % 26), 6000);
		name[i % 7 == 0 ? 6000 : 3 + i % 90] = '\0';
		names[i] = name;
	}
	f = H5Fopen(at("heap.h5"), H5F_ACC_RDWR, H5P_DEFAULT);
	space = H5Screate_simple(1, &n, NULL);
	t = H5Tcopy(H5T_C_S1);
	H5Tset_size(t, H5T_VARIABLE);
	a = H5Acreate2(f, "domains", t, space, H5P_DEFAULT, H5P_DEFAULT);
	assert_true(a >= 0 && H5Awrite(a, t, names) >= 0);
	H5Aclose(a);
	H5Tclose(t);
	H5Sclose(space);
	H5Fclose(f);
	OK(df_set_open1(&s, DF_KIND_PROJECTIONS, NULL, at("heap.h5"), err));
	m = df_set_meta(s);
	assert_int_equal(m->n_domains, N);
	for (size_t i = 0; i < N; i++) {
		assert_string_equal(m->domains[i], names[i]);
		free((char *)(uintptr_t)names[i]);
	}
	df_set_close(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_sets),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_identify),
		cmocka_unit_test(test_first_error),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_plan_outlives),
		cmocka_unit_test(test_heap),
		cmocka_unit_test(test_large_heap),
	};

	df_h5_enter(); /* registers the zstd filter */
	df_h5_leave();
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	return cmocka_run_group_tests_name("shard_scan", tests, scratch_make, scratch_remove);
}
