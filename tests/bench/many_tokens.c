/*
 * many_tokens.c - a tokens artefact of any size, for benches of what reads it.
 *
 *   many_tokens OUT.h5 TOKENS SHARDS VOCAB      writes OUT.00000-of-SHARDS.h5, ...
 *
 * Rows have 20 to 380 tokens, 200 on average, the last two thirds of which are targets; ids are as frequent as words
 * are (log-uniform ranks).  A base of rows is drawn once and repeated, so that compression has no easier work than with
 * text, and drawing takes no time.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "shard/shard.h"

#define BASE_ROWS ((uint64_t)10000)
#define BATCH     ((uint64_t)2500) /* rows; divides BASE_ROWS */

struct base {
	uint64_t *offsets;
	uint32_t *ids;
	uint8_t *mask;
};

static int
draw_base(struct base *b, double vocab, struct df_err *err)
{
	int rc;

	DF_TRY(df_alloc(&b->offsets, BASE_ROWS + 1, sizeof(*b->offsets), "rows", err));
	DF_TRY(df_alloc(&b->ids, BASE_ROWS * 381, sizeof(*b->ids), "rows", err));
	DF_TRY(df_alloc(&b->mask, BASE_ROWS * 381, sizeof(*b->mask), "rows", err));
	for (uint64_t i = 0; i < BASE_ROWS; i++) {
		const uint64_t n = 20 + (uint64_t)(361 * df_rng_uniform(1, DF_RNG_DEMO, 0, i)), at = b->offsets[i];

		for (uint64_t t = 0; t < n; t++) {
			b->ids[at + t] = (uint32_t)(pow(vocab, df_rng_uniform(1, DF_RNG_DEMO, 1, at + t))) - 1;
			b->mask[at + t] = t >= n / 3;
		}
		b->offsets[i + 1] = at + n;
	}
out:
	return rc;
}

/* Rows from `id` on into one shard, until it has n tokens; id is the first row of the next. */
static int
write_shard(
    const char *path, const struct base *base, uint64_t n, uint64_t *id, struct df_pool *pool, struct df_err *err)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_IDS, DF_COL_LABEL_MASK };
	static const size_t widths[DF_COL_COUNT] = { 0 };
	const struct df_writer_opts opts = { .pool = pool };
	struct df_meta meta = { .kind = DF_KIND_TOKENS };
	uint64_t offsets[BATCH + 1], ids[BATCH];
	struct df_batch b = DF_BATCH_INIT;
	struct df_writer *w = NULL;
	int rc;

	DF_TRY(df_meta_set_tool(&meta, "many_tokens", err));
	DF_TRY(df_writer_open(&w, path, &meta, cols, 3, widths, &opts, err));
	for (uint64_t done = 0; done < n; done += offsets[b.n]) {
		const uint64_t row = *id % BASE_ROWS, at = base->offsets[row];

		for (b.n = 0; b.n < BATCH && row + b.n < BASE_ROWS && base->offsets[row + b.n] - at < n - done; b.n++) {
			ids[b.n] = (*id)++;
			offsets[b.n] = base->offsets[row + b.n] - at;
		}
		offsets[b.n] = base->offsets[row + b.n] - at;
		b.col[DF_COL_ID] = (struct df_column_data){ ids, NULL, 1 };
		b.col[DF_COL_IDS] = (struct df_column_data){ base->ids + at, offsets, 1 };
		b.col[DF_COL_LABEL_MASK] = (struct df_column_data){ base->mask + at, offsets, 1 };
		DF_TRY(df_writer_put(w, &b, err));
	}
	DF_TRY(df_writer_commit(w, NULL, err));
out:
	df_writer_close(w);
	df_meta_release(&meta);
	return rc;
}

int
main(int argc, char **argv)
{
	struct df_err error = DF_ERR_INIT, *err = &error;
	struct df_pool *pool = NULL;
	int64_t n = 0, shards = 0, vocab = 0;
	struct base base = { 0 };
	uint64_t id = 0;
	int rc;

	if (argc != 5) {
		fprintf(stderr, "usage: many_tokens OUT.h5 TOKENS SHARDS VOCAB\n");
		return 64;
	}
	DF_TRY(df_parse_int(argv[2], 1, INT64_MAX / 2, &n, err));
	DF_TRY(df_parse_int(argv[3], 1, 100000, &shards, err));
	DF_TRY(df_parse_int(argv[4], 2, UINT32_MAX, &vocab, err));
	DF_TRY(df_pool_new(&pool, 0, err));
	DF_TRY(draw_base(&base, (double)vocab, err));
	for (int64_t i = 0; i < shards; i++) {
		const struct df_shard_arg shard = { .i = (uint32_t)i, .n = (uint32_t)shards };
		char *path = NULL;

		DF_TRY(df_shard_name(&path, argv[1], shard, err));
		rc = write_shard(path, &base, (uint64_t)(n / shards), &id, pool, err);
		free(path);
		if (rc != DF_OK)
			goto out;
	}
	printf("%llu rows in %lld files\n", (unsigned long long)id, (long long)shards);
out:
	if (rc != DF_OK)
		fprintf(stderr, "many_tokens: %s\n", err->msg);
	df_pool_free(pool);
	free(base.offsets);
	free(base.ids);
	free(base.mask);
	return rc == DF_OK ? 0 : 1;
}
