/*
 * test_job.c - a resumable job: rows in order whatever the threads, all threads on the last blocks, parts, going on
 * after a fault.
 */
#include <stdatomic.h>
#include <time.h>

#include "base/pool.h"
#include "shard/job.h"
#include "shard_help.h"

#define N_BLOCKS   40
#define BLOCK_ROWS 7

struct item {
	struct df_batch out;
	uint64_t block;
	void *own; /* what only release() knows of */
};

struct work {
	uint64_t next, end; /* blocks */
	uint64_t bad;       /* the block that fails */
	uint64_t sought_batches, sought_rows;
	uint64_t done; /* blocks written, in order */
	int n_threads;
	atomic_int wrong_worker;
	uint64_t n_blocks;    /* that the job is told of */
	struct df_pool *pool; /* NULL, or work() uses it */
	atomic_int together;  /* blocks that had two threads at once */
	uint64_t apart;       /* the first that should */
};

static int n_released;

static int
seek(void *ctx, uint64_t batches, uint64_t rows, struct df_err *err)
{
	struct work *w = ctx;

	(void)err;
	w->sought_batches = batches;
	w->sought_rows = rows;
	w->next += batches;
	w->done = w->next;
	return DF_OK;
}

static int
read_block(void *ctx, void *item, struct df_err *err)
{
	struct work *w = ctx;
	struct item *it = item;

	(void)err;
	if (w->next == w->end)
		return 0;
	if (it->own == NULL)
		it->own = malloc(1);
	it->block = w->next++;
	return 1;
}

struct meeting {
	atomic_int inside;
	int patience; /* milliseconds */
};

/* Two of these in two threads meet; in one thread the first waits in vain for the second. */
static void
meet(void *ctx, size_t i, int worker)
{
	const struct timespec nap = { 0, 1000000 };
	struct meeting *m = ctx;

	(void)i;
	(void)worker;
	atomic_fetch_add(&m->inside, 1);
	for (int ms = 0; ms < m->patience && atomic_load(&m->inside) < 2; ms++)
		nanosleep(&nap, NULL);
	if (atomic_load(&m->inside) < 2)
		atomic_store(&m->inside, -2);
}

static int
work_block(void *ctx, void *item, int worker, struct df_err *err)
{
	struct work *w = ctx;
	struct item *it = item;
	struct meeting m = { .patience = it->block < w->apart ? 5 : 10000 };

	if (worker < 0 || worker >= w->n_threads)
		atomic_store(&w->wrong_worker, 1);
	if (it->block == w->bad)
		return df_fail(err, DF_ERANGE, "block %d is bad", (int)it->block);
	if (w->pool) {
		df_pool_for(w->pool, 2, meet, &m);
		atomic_fetch_add(&w->together, atomic_load(&m.inside) == 2);
	}
	df_batch_clear(&it->out);
	make_tokens(&it->out, it->block * BLOCK_ROWS, BLOCK_ROWS);
	return DF_OK;
}

static void
done(void *ctx, const void *item)
{
	struct work *w = ctx;

	assert_int_equal(((const struct item *)item)->block, w->done++);
}

static void
release(void *item)
{
	free(((struct item *)item)->own);
	n_released++;
}

static int
run(struct work *w, const char *output, struct df_shard_arg shard, uint64_t *n, struct df_err *err)
{
	static const size_t widths[DF_COL_COUNT] = { 0 };
	struct df_meta m = DF_META_INIT;
	const struct df_job job = { .output = output,
		.shard = shard,
		.writer = { .resumable = true },
		.meta = &m,
		.cols = token_cols,
		.n_cols = 5,
		.widths = widths,
		.unit = "rows",
		.n_blocks = w->n_blocks,
		.n_threads = w->n_threads,
		.item_size = sizeof(struct item),
		.ctx = w,
		.seek = seek,
		.read = read_block,
		.work = work_block,
		.done = done,
		.release = release };
	int rc;

	token_meta(&m);
	n_released = 0;
	rc = df_job_run(&job, n, err);
	df_meta_release(&m);
	assert_false(atomic_load(&w->wrong_worker));
	assert_int_equal(n_released, w->n_threads + 2);
	return rc;
}

static const struct df_shard_arg whole = { .n = 1 };

static void
test_threads(void **state)
{
	(void)state;
	write_tokens(at("want.h5"), 0, N_BLOCKS * BLOCK_ROWS, BLOCK_ROWS, DF_COMPRESS_DEFAULT, NULL);
	for (int t = 1; t <= 5; t++) {
		struct work w = { .end = N_BLOCKS, .bad = UINT64_MAX, .n_threads = t };
		uint64_t n = 0;

		OK(run(&w, at("got.h5"), whole, &n, err));
		assert_int_equal(n, N_BLOCKS * BLOCK_ROWS);
		assert_int_equal(w.done, N_BLOCKS);
		same_bytes(at("got.h5"), at("want.h5"));
	}
}

/* Blocks that are too few for the threads have the pool's threads, and only those; the file is the same. */
static void
test_last_blocks(void **state)
{
	static const struct {
		uint64_t n_blocks;
		int n_threads, together;
	} cases[] = { { 1, 2, 1 }, { 2, 2, 0 }, { 3, 2, 1 }, { 1, 4, 1 }, { 2, 4, 2 }, { 3, 4, 0 }, { 5, 4, 1 },
		{ 2, 1, 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const uint64_t n_blocks = cases[i].n_blocks;
		struct work w = { .end = n_blocks,
			.bad = UINT64_MAX,
			.n_threads = cases[i].n_threads,
			.n_blocks = n_blocks,
			.apart = n_blocks - (uint64_t)cases[i].together };
		uint64_t n = 0;

		OK(df_pool_new(&w.pool, w.n_threads, err));
		OK(run(&w, at("got.h5"), whole, &n, err));
		df_pool_free(w.pool);
		assert_int_equal(n, n_blocks * BLOCK_ROWS);
		assert_int_equal(atomic_load(&w.together), cases[i].together);
		write_tokens(at("want.h5"), 0, n_blocks * BLOCK_ROWS, BLOCK_ROWS, DF_COMPRESS_DEFAULT, NULL);
		same_bytes(at("got.h5"), at("want.h5"));
	}
}

/* What is left over is counted from where an earlier run stopped. */
static void
test_goes_on_together(void **state)
{
	struct work w = { .end = 5, .bad = 4, .n_threads = 2, .n_blocks = 5 };
	struct df_err why = DF_ERR_INIT;
	uint64_t n = 0;

	(void)state;
	assert_int_equal(run(&w, at("last.h5"), whole, &n, &why), DF_ERANGE);
	assert_int_equal(n, 4 * BLOCK_ROWS);
	w = (struct work){ .end = 5, .bad = UINT64_MAX, .n_threads = 2, .n_blocks = 5, .apart = 4 };
	OK(df_pool_new(&w.pool, 2, err));
	OK(run(&w, at("last.h5"), whole, &n, err));
	df_pool_free(w.pool);
	assert_int_equal(n, BLOCK_ROWS);
	assert_int_equal(atomic_load(&w.together), 1);
	write_tokens(at("want.h5"), 0, 5 * BLOCK_ROWS, BLOCK_ROWS, DF_COMPRESS_DEFAULT, NULL);
	same_bytes(at("last.h5"), at("want.h5"));
}

/* Blocks before the bad one are kept, the next run begins with it, and the file is the same. */
static void
test_goes_on(void **state)
{
	struct work w = { .end = N_BLOCKS, .bad = 25, .n_threads = 3 };
	struct df_err why = DF_ERR_INIT;
	uint64_t n = 0;

	(void)state;
	assert_int_equal(run(&w, at("on.h5"), whole, &n, &why), DF_ERANGE);
	assert_non_null(strstr(why.msg, "block 25 is bad"));
	assert_int_equal(n, 25 * BLOCK_ROWS);
	assert_false(df_file_exists(at("on.h5")));

	w = (struct work){ .end = N_BLOCKS, .bad = UINT64_MAX, .n_threads = 2 };
	OK(run(&w, at("on.h5"), whole, &n, err));
	assert_int_equal(w.sought_batches, 25);
	assert_int_equal(w.sought_rows, 25 * BLOCK_ROWS);
	assert_int_equal(n, (N_BLOCKS - 25) * BLOCK_ROWS);
	write_tokens(at("want.h5"), 0, N_BLOCKS * BLOCK_ROWS, BLOCK_ROWS, DF_COMPRESS_DEFAULT, NULL);
	same_bytes(at("on.h5"), at("want.h5"));
}

static void
test_parts(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		const struct df_shard_arg part = { .i = i, .n = 3 };
		struct work w = { .bad = UINT64_MAX, .n_threads = 2 };
		uint64_t n = 0;

		df_shard_range(part, N_BLOCKS, &w.next, &w.end);
		OK(run(&w, at("set.h5"), part, &n, err));
	}
	assert_true(df_file_exists(at("set.00002-of-00003.h5")));
	check_tokens(at("set.h5"), N_BLOCKS * BLOCK_ROWS, 50);
}

/* `--shard auto` outside an array says 1 part; beside three that lie there it must not make a fourth thing. */
static void
test_guess(void **state)
{
	const struct df_shard_arg guess = { .n = 1, .guessed = true }, part = { .i = 1, .n = 3 };
	struct work w = { .next = 13, .end = 27, .bad = UINT64_MAX, .n_threads = 1 };
	struct df_err why = DF_ERR_INIT;
	static const size_t widths[DF_COL_COUNT] = { 0 };
	struct df_meta m = DF_META_INIT;
	struct df_job job = { .meta = &m, .cols = token_cols, .n_cols = 5, .widths = widths, .unit = "rows" };
	uint64_t n = 1;

	(void)state;
	OK(run(&w, at("guess.h5"), part, &n, err));
	job.output = at("guess.h5");
	job.shard = guess;
	job.n_threads = 1;
	job.item_size = sizeof(struct item);
	assert_int_equal(df_job_run(&job, &n, &why), DF_EUSAGE); /* before anything is called or made */
	assert_int_equal(n, 0);
	assert_false(df_file_exists(at("guess.h5")));
	df_meta_release(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_last_blocks),
		cmocka_unit_test(test_goes_on),
		cmocka_unit_test(test_goes_on_together),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_guess),
	};

	return cmocka_run_group_tests_name("job", tests, scratch_make, scratch_remove);
}
