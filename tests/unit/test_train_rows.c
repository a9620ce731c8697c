/*
 * Tokens in any order: a bounded cache gives what memory gives, whatever the layout, the size of the cache and the
 * number of threads; what is damaged is told with its place; and the order that is read ahead.
 */
#include <hdf5.h>
#include <pthread.h>

#include "base/rng.h"
#include "shard_help.h"
#include "rows/ahead.h"
#include "rows/rows.h"
#include "rows/sampler.h"

#define ROWS   400
#define SHARDS 3

/* The call, which names its error argument `err`, must fail with `code` and say each word of `words` ("a|b"). */
#define REFUSED(call, code, words)                                         \
	do {                                                               \
		struct df_err e_ = DF_ERR_INIT, *err = &e_;                \
		assert_int_equal(call, code);                              \
		for (const char *w_ = words; *w_;) {                       \
			char word[128];                                    \
			size_t n_ = strcspn(w_, "|");                      \
			snprintf(word, sizeof(word), "%.*s", (int)n_, w_); \
			if (!strstr(e_.msg, word))                         \
				fail_msg("no '%s' in: %s", word, e_.msg);  \
			w_ += n_ + (w_[n_] == '|');                        \
		}                                                          \
	} while (0)

/* A number below n, as any from the same place. */
static uint64_t
below(uint64_t seed, uint32_t what, uint64_t i, uint64_t n)
{
	return (uint64_t)(df_rng_uniform(seed, DF_RNG_DEMO, what, i) * (double)n);
}

/* Lengths from nothing to several pieces of 2^14 tokens. */
static uint64_t
length_of(uint64_t row)
{
	if (row % 17 == 3)
		return 0;
	if (row == 5 || row == 250)
		return 40000;
	return 1 + below(9, 1, row, 900);
}

struct content {
	uint64_t id[ROWS], offsets[ROWS + 1];
	uint16_t domain[ROWS];
	uint32_t *ids, *position, *sequence;
	uint8_t *mask;
};

/* Row i has id 7 i + 3 mod 1000, or i itself. */
static void
fill(struct content *c, bool own_ids)
{
	c->offsets[0] = 0;
	for (uint64_t i = 0; i < ROWS; i++) {
		c->id[i] = own_ids ? i : (7 * i + 3) % 1000;
		c->domain[i] = (uint16_t)(i % 3);
		c->offsets[i + 1] = c->offsets[i] + length_of(i);
	}
	OK(df_alloc(&c->ids, c->offsets[ROWS], sizeof(*c->ids), "ids", err));
	OK(df_alloc(&c->position, c->offsets[ROWS], sizeof(*c->position), "positions", err));
	OK(df_alloc(&c->sequence, c->offsets[ROWS], sizeof(*c->sequence), "sequences", err));
	OK(df_alloc(&c->mask, c->offsets[ROWS], 1, "mask", err));
	for (uint64_t t = 0; t < c->offsets[ROWS]; t++) {
		c->ids[t] = (uint32_t)below(9, 2, t, 5000);
		c->position[t] = (uint32_t)(t % 777);
		c->sequence[t] = (uint32_t)(1 + t / 777);
		c->mask[t] = (uint8_t)(c->ids[t] % 3 == 0);
	}
	memset(c->mask + c->offsets[8], 0, c->offsets[9] - c->offsets[8]); /* no target */
}

static void
release(struct content *c)
{
	free(c->ids);
	free(c->position);
	free(c->sequence);
	free(c->mask);
}

/* Rows [first, end) as an artefact. */
static void
write_rows(const struct content *c, const char *path, uint64_t first, uint64_t end, bool packed,
    const struct df_writer_opts *opts)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_IDS, DF_COL_LABEL_MASK, DF_COL_POSITION,
		DF_COL_SEQUENCE };
	static const size_t widths[DF_COL_COUNT] = { 0 };
	const uint64_t base = c->offsets[first];
	struct df_meta m = { .kind = DF_KIND_TOKENS };
	struct df_batch b = { .n = end - first };
	struct df_writer *w = NULL;
	uint64_t offsets[ROWS + 1];

	OK(df_meta_set_tool(&m, "test", err));
	for (int i = 0; i < 3; i++)
		OK(df_meta_add_domain(&m, (const char *[]){ "a", "b", "c" }[i], NULL, err));
	for (uint64_t i = 0; i <= b.n; i++)
		offsets[i] = c->offsets[first + i] - base;
	b.col[DF_COL_ID] = (struct df_column_data){ (void *)(uintptr_t)(c->id + first), NULL, 1 };
	b.col[DF_COL_DOMAIN] = (struct df_column_data){ (void *)(uintptr_t)(c->domain + first), NULL, 1 };
	b.col[DF_COL_IDS] = (struct df_column_data){ c->ids + base, offsets, 1 };
	b.col[DF_COL_LABEL_MASK] = (struct df_column_data){ c->mask + base, offsets, 1 };
	b.col[DF_COL_POSITION] = (struct df_column_data){ c->position + base, offsets, 1 };
	b.col[DF_COL_SEQUENCE] = (struct df_column_data){ c->sequence + base, offsets, 1 };
	OK(df_writer_open(&w, path, &m, cols, packed ? 6 : 4, widths, opts, err));
	OK(df_writer_put(w, &b, err));
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	df_meta_release(&m);
}

/* SHARDS files in a directory, the middle one of which has a third of its rows. */
static const char *
write_set(const struct content *c, const char *name, bool packed, const struct df_writer_opts *opts)
{
	const char *dir = at(name);

	OK(df_mkdirs(dir, err));
	for (uint32_t i = 0; i < SHARDS; i++) {
		char *path = NULL, *shard = NULL;

		OK(df_asprintf(&path, err, "%s/t.h5", dir));
		OK(df_shard_name(&shard, path, (struct df_shard_arg){ .i = i, .n = SHARDS }, err));
		write_rows(c, shard, i * ROWS / SHARDS, (i + 1) * ROWS / SHARDS, packed, opts);
		free(shard);
		free(path);
	}
	return dir;
}

static int
load(struct df_rows *r, const char *path, const char *mib, struct df_err *err)
{
	if (mib)
		setenv("DF_TOKEN_CACHE", mib, 1);
	else
		unsetenv("DF_TOKEN_CACHE");
	return df_rows_load(r, "tokens", &path, 1, err);
}

/* A batch of these rows is what was written. */
static void
check_rows(const struct df_tokens *b, const uint32_t *n_targets, const struct content *c, const uint64_t *rows,
    size_t n, bool packed)
{
	assert_int_equal(b->n, n);
	assert_int_equal(b->offsets[0], 0);
	assert_true((b->position != NULL) == packed && (b->sequence != NULL) == packed);
	for (size_t i = 0; i < n; i++) {
		const uint64_t from = c->offsets[rows[i]], len = c->offsets[rows[i] + 1] - from, to = b->offsets[i];
		uint32_t targets = 0;

		assert_int_equal(b->offsets[i + 1] - to, len);
		assert_memory_equal(b->ids + to, c->ids + from, len * sizeof(*c->ids));
		assert_memory_equal(b->mask + to, c->mask + from, len);
		if (packed) {
			assert_memory_equal(b->position + to, c->position + from, len * sizeof(*c->position));
			assert_memory_equal(b->sequence + to, c->sequence + from, len * sizeof(*c->sequence));
		}
		for (uint64_t t = 1; t < len; t++)
			targets += c->mask[from + t];
		assert_int_equal(n_targets[i], targets);
	}
}

/* Batches of rows in no order, of neighbours, and picked out of others. */
static void
check_gather(const struct df_rows *r, const struct content *c, bool packed)
{
	struct df_gather g = { 0 }, p = { 0 };
	struct df_tokens b, picked;
	uint64_t rows[ROWS];

	for (uint64_t round = 0; round < 6; round++) {
		const size_t n = 1 + (size_t)below(3, 3, round, 60), pick[] = { n - 1, 0, n / 2 };

		for (size_t i = 0; i < n; i++)
			rows[i] = below(3, 4, round * 100 + i, ROWS);
		if (round % 2)
			OK(df_rows_ahead(r, rows, n, err));
		OK(df_gather_batch(&g, r, rows, n, &b, err));
		check_rows(&b, g.n_targets, c, rows, n, packed);
		OK(df_gather_pick(&p, &b, pick, 3, &picked, err));
		check_rows(&picked, p.n_targets, c, (const uint64_t[]){ rows[pick[0]], rows[pick[1]], rows[pick[2]] },
		    3, packed);
	}
	for (uint64_t first = 0; first < ROWS; first += 150) {
		const size_t n = ROWS - first < 150 ? ROWS - first : 150;

		for (size_t i = 0; i < n; i++)
			rows[i] = first + i;
		OK(df_gather_range(&g, r, first, n, &b, err));
		check_rows(&b, g.n_targets, c, rows, n, packed);
	}
	df_gather_release(&g);
	df_gather_release(&p);
}

static void
check_set(const char *path, const struct content *c, bool packed)
{
	static const char *const caches[] = { NULL, "0", "1" };
	uint64_t row;

	for (size_t k = 0; k < 3; k++) {
		struct df_rows r;

		OK(load(&r, path, caches[k], err));
		assert_true(df_rows_on_demand(&r) == (caches[k] != NULL));
		assert_true(r.counted == (caches[k] == NULL));
		assert_int_equal(r.n, ROWS);
		assert_int_equal(r.n_tokens, c->offsets[ROWS]);
		assert_int_equal(r.longest, 40000);
		for (uint64_t i = 0; i < ROWS; i++) {
			assert_int_equal(df_rows_offset(&r, i), c->offsets[i]);
			assert_int_equal(df_rows_length(&r, i), length_of(i));
			assert_int_equal(df_rows_id(&r, i), c->id[i]);
			assert_int_equal(df_rows_domain(&r, i), c->domain[i]);
			assert_true(df_rows_find(&r, c->id[i], &row) && row == i);
		}
		assert_false(df_rows_find(&r, 1000, &row));
		check_gather(&r, c, packed);
		df_rows_release(&r);
	}
}

static void
test_layouts(void **state)
{
	static const enum df_compress how[] = { DF_COMPRESS_DEFAULT, DF_COMPRESS_NONE, DF_COMPRESS_GZIP };
	static struct content c;
	char name[32];

	(void)state;
	for (int i = 0; i < 6; i++) {
		const struct df_writer_opts opts = { .compress = how[i % 3] };

		fill(&c, i % 2);
		snprintf(name, sizeof(name), "set-%d", i);
		check_set(write_set(&c, name, i >= 3, &opts), &c, i >= 3);
		release(&c);
	}
}

/* Another program's file: one chunk length for the ids, another for the mask, no checksum. */
static void
test_other_chunks(void **state)
{
	static const char *const path[] = { "tokens/ids", "tokens/label_mask" };
	static const hsize_t chunk[] = { 10000, 70001 };
	hsize_t total;
	static struct content c;
	hid_t file;
	char name[4096];

	(void)state;
	fill(&c, false);
	snprintf(name, sizeof(name), "%s", at("other.h5"));
	write_rows(&c, name, 0, ROWS, false, NULL);
	total = c.offsets[ROWS];
	file = H5Fopen(name, H5F_ACC_RDWR, H5P_DEFAULT);
	assert_true(file >= 0);
	for (int i = 0; i < 2; i++) {
		const hid_t type = i ? H5T_STD_U8LE : H5T_STD_U32LE, dcpl = H5Pcreate(H5P_DATASET_CREATE);
		const hid_t space = H5Screate_simple(1, &total, NULL);
		hid_t d;

		assert_true(H5Ldelete(file, path[i], H5P_DEFAULT) >= 0);
		assert_true(H5Pset_chunk(dcpl, 1, &chunk[i]) >= 0);
		d = H5Dcreate2(file, path[i], type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
		assert_true(d >= 0);
		assert_true(H5Dwrite(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, i ? (void *)c.mask : (void *)c.ids) >= 0);
		H5Dclose(d);
		H5Sclose(space);
		H5Pclose(dcpl);
	}
	H5Fclose(file);
	check_set(name, &c, false);
	release(&c);
}

struct reader {
	pthread_t thread;
	const struct df_rows *r;
	const struct content *c;
	uint64_t seed;
};

static void *
read_rows(void *ctx)
{
	const struct reader *x = ctx;
	struct df_gather g = { 0 };
	struct df_tokens b;

	for (uint64_t i = 0; i < 150; i++) {
		const uint64_t row = below(x->seed, 5, i, ROWS);

		OK(df_gather_batch(&g, x->r, &row, 1, &b, err));
		check_rows(&b, g.n_targets, x->c, &row, 1, true);
	}
	df_gather_release(&g);
	return NULL;
}

/* More threads than the cache has pieces, and reading ahead all the while. */
static void
test_threads(void **state)
{
	static struct content c;
	struct reader x[5];
	struct df_rows r;
	uint64_t rows[ROWS];

	(void)state;
	fill(&c, true);
	OK(load(&r, write_set(&c, "threads", true, NULL), "0", err));
	for (uint64_t i = 0; i < 5; i++) {
		x[i] = (struct reader){ .r = &r, .c = &c, .seed = i };
		assert_int_equal(pthread_create(&x[i].thread, NULL, read_rows, &x[i]), 0);
	}
	for (uint64_t i = 0; i < ROWS; i++) {
		rows[i] = i * 7 % ROWS;
		if (i % 20 == 19)
			OK(df_rows_ahead(&r, rows + i - 19, 20, err));
	}
	for (int i = 0; i < 5; i++)
		pthread_join(x[i].thread, NULL);
	df_rows_release(&r); /* with work left in the queue */
	release(&c);
}

/* The bytes of one piece are changed: its rows cannot be had, all others can. */
static void
test_damage(void **state)
{
	static struct content c;
	const struct df_writer_opts opts = { .compress = DF_COMPRESS_NONE };
	struct df_gather g = { 0 };
	struct df_tokens b;
	struct df_rows r;
	char name[4096], *text = NULL, says[64];
	size_t len, found = 0;
	uint64_t bad = 0, row;

	(void)state;
	fill(&c, false);
	snprintf(name, sizeof(name), "%s", at("damaged.h5"));
	write_rows(&c, name, 0, ROWS, false, &opts);
	for (uint64_t i = 0; i < ROWS; i++)
		if (c.offsets[i] / 16384 == 5 && length_of(i) > 200 && c.offsets[i + 1] / 16384 == 5)
			bad = i;
	assert_true(bad > 0);
	OK(df_file_get(name, (size_t)1 << 30, &text, &len, err));
	for (size_t i = 0; i + 32 < len; i++) {
		if (memcmp(text + i, c.ids + c.offsets[bad], 32) == 0) {
			text[i + 5] ^= 1;
			found++;
		}
	}
	assert_int_equal(found, 1);
	OK(df_file_put(name, text, len, err));
	free(text);
	OK(load(&r, name, "0", err));
	snprintf(says, sizeof(says), "sample %d: |damaged.h5|tokens/ids|from 81920", (int)c.id[bad]);
	for (int pass = 0; pass < 2; pass++) {
		REFUSED(df_gather_batch(&g, &r, &bad, 1, &b, err), DF_EFORMAT, says);
		OK(df_rows_ahead(&r, &bad, 1, err)); /* told to who gets it, not before */
		row = 399;
		OK(df_gather_batch(&g, &r, &row, 1, &b, err));
		check_rows(&b, g.n_targets, &c, &row, 1, false);
	}
	df_rows_release(&r);
	REFUSED(load(&r, name, NULL, err), DF_EFORMAT, "damaged.h5|tokens/ids");
	df_gather_release(&g);
	release(&c);
}

/* Gathered ahead: the same tokens; other rows than those begun; errors of the batch that is taken only. */
static void
test_gathered_ahead(void **state)
{
	static struct content c;
	const struct df_writer_opts opts = { .compress = DF_COMPRESS_ZSTD };
	struct df_gather g = { 0 };
	struct df_ahead *a = NULL;
	uint64_t rows[3][20];
	struct df_tokens b;
	struct df_rows r;

	(void)state;
	fill(&c, false);
	write_rows(&c, at("ahead.h5"), 0, ROWS, false, &opts);
	OK(load(&r, at("ahead.h5"), "0", err));
	for (int i = 0; i < 60; i++)
		rows[i / 20][i % 20] = below(5, 2, (uint64_t)i, ROWS);
	OK(df_ahead_take(a, &g, &r, rows[0], 20, &b, err)); /* nothing was begun */
	check_rows(&b, g.n_targets, &c, rows[0], 20, false);
	for (int i = 1; i < 30; i++) {
		OK(df_ahead_begin(&a, &r, rows[i % 3], 20, err));
		check_rows(&b, g.n_targets, &c, rows[(i - 1) % 3], 20, false); /* stays as long as it is worked on */
		OK(df_ahead_take(a, &g, &r, rows[i % 3], 20, &b, err));
		check_rows(&b, g.n_targets, &c, rows[i % 3], 20, false);
	}
	OK(df_ahead_begin(&a, &r, rows[0], 20, err));
	OK(df_ahead_take(a, &g, &r, rows[1], 20, &b, err)); /* others */
	check_rows(&b, g.n_targets, &c, rows[1], 20, false);
	OK(df_ahead_begin(&a, &r, rows[0], 20, err));
	OK(df_ahead_take(a, &g, &r, rows[0], 7, &b, err)); /* fewer */
	check_rows(&b, g.n_targets, &c, rows[0], 7, false);
	OK(df_rows_check_vocab(&r, 10, "m", err)); /* from now on most tokens are beyond it */
	OK(df_ahead_begin(&a, &r, rows[0], 20, err));
	REFUSED(df_ahead_take(a, &g, &r, rows[0], 20, &b, err), DF_ELINEAGE, "vocabulary of m");
	OK(df_ahead_begin(&a, &r, rows[0], 20, err));
	OK(df_ahead_begin(&a, &r, rows[1], 0, err)); /* nobody asks for the error */
	OK(df_ahead_begin(&a, &r, rows[0], 20, err));
	df_ahead_free(a);
	df_ahead_free(NULL);
	df_rows_release(&r);
	df_gather_release(&g);
	release(&c);
}

/* What can only be seen in the tokens: at once where they are in memory, else with the sample that has it. */
static void
test_vocabulary(void **state)
{
	static struct content c;
	struct df_gather g = { 0 };
	struct df_tokens b;
	struct df_rows r;
	const char *path;
	uint64_t row = 100;

	(void)state;
	fill(&c, false);
	c.ids[c.offsets[101] - 1] = 6000; /* the last of row 100, id 703 */
	path = write_set(&c, "vocabulary", false, NULL);
	OK(load(&r, path, NULL, err));
	OK(df_rows_check_vocab(&r, 6001, "m", err));
	REFUSED(df_rows_check_vocab(&r, 6000, "m", err), DF_ELINEAGE, "token id 6000|vocabulary of m ends at 5999");
	df_rows_release(&r);
	OK(load(&r, path, "0", err));
	OK(df_rows_check_vocab(&r, 6000, "m", err));
	REFUSED(df_gather_batch(&g, &r, &row, 1, &b, err), DF_ELINEAGE,
	    "t.00001-of-00003.h5: sample 703 has token id 6000|vocabulary of m ends at 5999");
	row = 101;
	OK(df_gather_batch(&g, &r, &row, 1, &b, err));
	OK(df_rows_check_vocab(&r, 6001, "m", err));
	row = 100;
	OK(df_gather_batch(&g, &r, &row, 1, &b, err));
	df_rows_release(&r);
	df_gather_release(&g);
	release(&c);
}

/* What is known of every row is checked at once in any case. */
static void
test_refused(void **state)
{
	static const char *const caches[] = { NULL, "0" };
	static struct content c;
	struct df_rows r;
	const char *path;

	(void)state;
	for (int k = 0; k < 2; k++) {
		fill(&c, false);
		c.id[300] = c.id[20];
		path = write_set(&c, "twice", false, NULL);
		REFUSED(load(&r, path, caches[k], err), DF_EFORMAT, "sample id 143 occurs twice");
		c.id[300] = 5000;
		c.domain[301] = 3;
		path = write_set(&c, "domain", false, NULL);
		REFUSED(load(&r, path, caches[k], err), DF_EFORMAT, "sample 110 has domain 3 of 3");
		release(&c);
	}
	REFUSED(load(&r, path, "many", err), DF_EUSAGE, "DF_TOKEN_CACHE");
}

struct drawn {
	double u;
	uint64_t id, row;
};

static int
by_draw(const void *a, const void *b)
{
	const struct drawn *x = a, *y = b;

	if (x->u != y->u)
		return x->u > y->u ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* The order of an epoch is that of its draws, and what is ahead is what comes. */
static void
test_order(void **state)
{
	enum { N = 5003, BATCH = 4 };
	static struct drawn d[N];
	static uint64_t ids[N];
	uint64_t rows[BATCH], ahead[11];
	struct df_sampler s;
	size_t n, m;

	(void)state;
	for (int own = 0; own < 2; own++) {
		for (uint64_t i = 0; i < N; i++) {
			ids[i] = own ? i : i * 7919 % 100003;
			d[i] = (struct drawn){ df_rng_uniform(8, DF_RNG_SHUFFLE, 2, ids[i]), ids[i], i };
		}
		qsort(d, N, sizeof(*d), by_draw);
		OK(df_sampler_init(&s, N, own ? NULL : ids, 8, true, BATCH, 1, err));
		for (uint64_t g = 0; g < df_sampler_steps_per_epoch(&s); g++) {
			const uint64_t step = 2 * df_sampler_steps_per_epoch(&s) + g;

			OK(df_sampler_step(&s, step, rows, &n, err));
			for (size_t i = 0; i < n; i++)
				assert_int_equal(rows[i], d[g * BATCH + i].row);
			m = 11;
			df_sampler_ahead(&s, step + 1, ahead, &m);
			assert_int_equal(m,
			    g * BATCH + BATCH >= N             ? 0
				: N - (g * BATCH + BATCH) < 11 ? N - (g * BATCH + BATCH)
							       : 11);
			for (size_t i = 0; i < m; i++)
				assert_int_equal(ahead[i], d[g * BATCH + BATCH + i].row);
		}
		df_sampler_set_index(&s, (const uint64_t[]){ 5, 1, 2 }, 3, 10);
		m = 5;
		df_sampler_ahead(&s, 11, ahead, &m);
		assert_int_equal(m, 5);
		assert_memory_equal(ahead, ((const uint64_t[]){ 1, 2, 5, 1, 2 }), 5 * sizeof(*ahead));
		df_sampler_release(&s);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gathered_ahead),
		cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_other_chunks),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_vocabulary),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_order),
	};

	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
