/*
 * random_rows.c - projections of any size, for benches of reading.
 *
 *   random_rows ROWS K [none|gzip|zstd] FILE.h5      writes ROWS x K float32, uniform in [-1, 1), in 4 domains
 *
 * Rows are written as they are drawn, so that a file larger than memory can be made.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "shard/shard.h"

#define STEP 1024

/* xorshift64*: the numbers need not be good, but fast. */
static uint64_t
draw(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dULL;
}

static int
put_rows(struct df_writer *w, uint64_t rows, size_t k, struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;
	uint64_t seed = 1, *id;
	uint16_t *domain;
	float *v;
	int rc = DF_OK;

	for (uint64_t at = 0; at < rows; at += b.n) {
		df_batch_clear(&b);
		b.first = at;
		b.n = rows - at < STEP ? rows - at : STEP;
		DF_TRY(df_arena_alloc(&b.arena, &id, b.n, sizeof(*id), "ids", err));
		DF_TRY(df_arena_alloc(&b.arena, &domain, b.n, sizeof(*domain), "domains", err));
		DF_TRY(df_arena_alloc(&b.arena, &v, b.n * k, sizeof(*v), "rows", err));
		for (uint64_t i = 0; i < b.n; i++) {
			id[i] = at + i;
			domain[i] = (uint16_t)((at + i) % 4);
		}
		for (size_t i = 0; i < b.n * k; i++)
			v[i] = (float)(int64_t)draw(&seed) * 0x1p-63f;
		b.col[DF_COL_ID] = (struct df_column_data){ .data = id, .width = 1 };
		b.col[DF_COL_DOMAIN] = (struct df_column_data){ .data = domain, .width = 1 };
		b.col[DF_COL_PROJECTION] = (struct df_column_data){ .data = v, .width = k };
		DF_TRY(df_writer_put(w, &b, err));
	}
out:
	df_batch_release(&b);
	return rc;
}

int
main(int argc, char **argv)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_PROJECTION };
	static const char *const how[] = { DF_COMPRESS_NAMES };
	struct df_writer_opts opts = { .compress = DF_COMPRESS_DEFAULT };
	struct df_meta m = DF_META_INIT;
	struct df_err err_ = DF_ERR_INIT, *err = &err_;
	size_t widths[DF_COL_COUNT] = { 0 };
	struct df_writer *w = NULL;
	int rc = DF_OK;

	if (argc != 4 && argc != 5) {
		fprintf(stderr, "usage: random_rows ROWS K [none|gzip|zstd] FILE.h5\n");
		return 64;
	}
	for (size_t i = 0; argc == 5 && i < sizeof(how) / sizeof(*how); i++)
		if (strcmp(argv[3], how[i]) == 0)
			opts.compress = (enum df_compress)i;
	m.kind = DF_KIND_PROJECTIONS;
	widths[DF_COL_PROJECTION] = strtoul(argv[2], NULL, 10);
	for (int i = 0; i < 4; i++)
		DF_TRY(df_meta_add_domain(&m, (const char *[]){ "a", "b", "c", "d" }[i], NULL, err));
	DF_TRY(df_meta_set_tool(&m, "random_rows", err));
	DF_TRY(df_pool_new(&opts.pool, 0, err));
	DF_TRY(df_writer_open(&w, argv[argc - 1], &m, cols, 3, widths, &opts, err));
	DF_TRY(put_rows(w, strtoul(argv[1], NULL, 10), widths[DF_COL_PROJECTION], err));
	DF_TRY(df_writer_commit(w, NULL, err));
out:
	if (rc != DF_OK)
		fprintf(stderr, "random_rows: %s\n", err->msg);
	df_writer_close(w);
	df_pool_free(opts.pool);
	df_meta_release(&m);
	return df_err_exit_status(rc);
}
