/*
 * bench_loss.c - df-score loss against reading its file once.
 *
 *   bench_loss [ROWS [PERCENT [THREADS [ROUNDS]]]]       10000000, 10, 1, 5
 *
 * In each round, one after the other, the file is read (ids, domains and losses, every checksum; no more is done with
 * them) and the method chooses PERCENT of the rows.  It prints user and wall time of both and their ratio, the least of
 * all rounds, with and without writing the index.  The goal is 3.  Files are in TMPDIR, and in the page cache.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "select/select.h"
#include "shard/scan.h"
#include "shard/shard.h"

#define STEP ((uint64_t)1 << 16)

static char path[512], index_path[512];
static struct df_pool *pool;

struct times {
	double cpu, wall;
};

static struct times
now(void)
{
	struct rusage u;
	struct timespec t;

	getrusage(RUSAGE_SELF, &u);
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (struct times){ (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec * 1e-6,
		(double)t.tv_sec + (double)t.tv_nsec * 1e-9 };
}

static void
keep_least(struct times *best, struct times from)
{
	const struct times to = now(), t = { to.cpu - from.cpu, to.wall - from.wall };

	best->cpu = best->cpu > 0 && best->cpu < t.cpu ? best->cpu : t.cpu;
	best->wall = best->wall > 0 && best->wall < t.wall ? best->wall : t.wall;
}

static int
write_losses(uint64_t rows, struct df_err *err)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_LOSS };
	static const size_t widths[DF_COL_COUNT];
	static uint64_t id[STEP];
	static uint16_t domain[STEP];
	static float loss[STEP];
	struct df_meta m = DF_META_INIT;
	struct df_writer *w = NULL;
	struct df_batch b = DF_BATCH_INIT;
	int rc = DF_OK;

	m.kind = DF_KIND_LOSSES;
	DF_TRY(df_meta_set_tool(&m, "bench", err));
	DF_TRY(df_meta_add_domain(&m, "all", NULL, err));
	DF_TRY(df_writer_open(&w, path, &m, cols, 3, widths, &(struct df_writer_opts){ 0 }, err));
	for (uint64_t at = 0; at < rows; at += b.n) {
		b.first = at;
		b.n = rows - at < STEP ? rows - at : STEP;
		for (uint64_t i = 0; i < b.n; i++) {
			id[i] = at + i;
			loss[i] = (float)(2 + df_rng_normal(1, DF_RNG_DEMO, 0, at + i) / 2);
		}
		b.col[DF_COL_ID] = (struct df_column_data){ .data = id, .width = 1 };
		b.col[DF_COL_DOMAIN] = (struct df_column_data){ .data = domain, .width = 1 };
		b.col[DF_COL_LOSS] = (struct df_column_data){ .data = loss, .width = 1 };
		DF_TRY(df_writer_put(w, &b, err));
	}
	DF_TRY(df_writer_commit(w, NULL, err));
out:
	df_writer_close(w);
	df_meta_release(&m);
	return rc;
}

static int
read_once(struct df_err *err)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_LOSS };
	const char *paths[] = { path };
	struct df_set *set = NULL;
	struct df_scan scan = { .n_threads = df_pool_size(pool) };
	int rc = DF_OK;

	DF_TRY(df_set_open_later(&set, DF_KIND_LOSSES, "losses", paths, 1, err));
	df_set_only(set, cols, 3);
	scan.set = set;
	DF_TRY(df_scan_run(&scan, err));
out:
	df_set_close(set);
	return rc;
}

static int
choose(const char *percent, bool write, struct df_err *err)
{
	const struct df_selector *m = NULL;
	struct df_selection out = DF_SELECTION_INIT;
	struct df_select in = { .seed = 42, .pool = pool, .n_threads = df_pool_size(pool) };
	void *options = NULL;
	const char **v = NULL;
	int rc = DF_OK;

	DF_TRY(df_selector_find(&m, "loss", err));
	DF_TRY(df_selector_defaults(m, &options, err));
	DF_TRY(df_amount_parse(percent, &in.amount, err));
	DF_TRY(df_alloc(&v, 1, sizeof(*v), "paths", err));
	v[0] = path;
	in.paths[0] = (struct df_strlist){ .v = v, .n = 1, .cap = 1 };
	DF_TRY(df_select_run(m, &in, options, &out, err));
	if (write)
		DF_TRY(df_selection_write(&out, index_path, NULL, err));
out:
	free(options);
	df_select_release(&in);
	df_selection_release(&out);
	return rc;
}

int
main(int argc, char **argv)
{
	const uint64_t rows = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000000;
	const char *tmp = getenv("TMPDIR");
	const int threads = argc > 3 ? atoi(argv[3]) : 1, rounds = argc > 4 ? atoi(argv[4]) : 5;
	struct times read = { 0 }, chosen = { 0 }, written = { 0 }, from;
	struct df_err err = DF_ERR_INIT;
	char percent[32];
	int rc = DF_OK;

	snprintf(percent, sizeof(percent), "%s%%", argc > 2 ? argv[2] : "10");
	snprintf(path, sizeof(path), "%s/bench_loss.%ld.h5", tmp ? tmp : "/tmp", (long)getpid());
	snprintf(index_path, sizeof(index_path), "%s/bench_loss.%ld.index.h5", tmp ? tmp : "/tmp", (long)getpid());
	DF_TRY(df_pool_new(&pool, threads, &err));
	DF_TRY(write_losses(rows, &err));
	for (int i = 0; i < rounds; i++) {
		from = now();
		DF_TRY(read_once(&err));
		keep_least(&read, from);
		from = now();
		DF_TRY(choose(percent, false, &err));
		keep_least(&chosen, from);
		from = now();
		DF_TRY(choose(percent, true, &err));
		keep_least(&written, from);
	}
	printf("%llu rows, %s, %d threads, least of %d rounds\n", (unsigned long long)rows, percent, threads, rounds);
	printf("  %-26s cpu %7.3f s  wall %7.3f s\n", "read", read.cpu, read.wall);
	printf("  %-26s cpu %7.3f s  wall %7.3f s  ratio %.2f, %.2f\n", "loss", chosen.cpu, chosen.wall,
	    chosen.cpu / read.cpu, chosen.wall / read.wall);
	printf("  %-26s cpu %7.3f s  wall %7.3f s  ratio %.2f, %.2f\n", "loss, index written", written.cpu,
	    written.wall, written.cpu / read.cpu, written.wall / read.wall);
out:
	unlink(path);
	unlink(index_path);
	df_pool_free(pool);
	if (rc != DF_OK)
		fprintf(stderr, "bench_loss: %s\n", err.msg);
	return rc != DF_OK;
}
