/*
 * scan.c - read | work | take, over the pipeline of base/pool.h.
 */
#include "shard/scan.h"

#include <stdlib.h>

#define BLOCK_BYTES ((uint64_t)2 << 20)

struct block {
	struct df_batch b;
	void *result;
};

static int
read_block(void *ctx, void *batch, struct df_err *err)
{
	const struct df_scan *sc = ctx;
	struct block *k = batch;
	uint64_t n;
	int rc;

	k->result = NULL;
	rc =
	    df_set_plan(sc->set, sc->max_rows ? sc->max_rows : df_set_block_rows(sc->set, BLOCK_BYTES), &k->b, &n, err);
	return rc != DF_OK ? rc : n > 0;
}

static int
work_block(void *ctx, void *batch, int worker, struct df_err *err)
{
	const struct df_scan *sc = ctx;
	struct block *k = batch;
	int rc;

	DF_TRY(df_batch_load(&k->b, err));
	if (sc->work)
		DF_TRY(sc->work(sc->ctx, &k->b, &k->result, worker, err));
out:
	return rc;
}

static int
take_block(void *ctx, void *batch, struct df_err *err)
{
	const struct df_scan *sc = ctx;
	struct block *k = batch;

	return sc->take ? sc->take(sc->ctx, &k->b, k->result, err) : DF_OK;
}

int
df_scan_run(const struct df_scan *sc, struct df_err *err)
{
	const int n = sc->n_threads + 2;
	struct df_pipeline pl = { .read = read_block,
		.work = work_block,
		.write = take_block,
		.ctx = (void *)(uintptr_t)sc,
		.n_batches = n,
		.n_threads = sc->n_threads };
	struct block *blocks = NULL;
	int rc;

	DF_TRY(df_alloc(&pl.batches, (size_t)n, sizeof(*pl.batches), "blocks", err));
	DF_TRY(df_alloc(&blocks, (size_t)n, sizeof(*blocks), "blocks", err));
	for (int i = 0; i < n; i++) {
		blocks[i].b = (struct df_batch)DF_BATCH_INIT;
		pl.batches[i] = &blocks[i];
	}
	DF_TRY(df_pipeline_run(&pl, err));
out:
	for (int i = 0; blocks && i < n; i++)
		df_batch_release(&blocks[i].b);
	free(blocks);
	free(pl.batches);
	return rc;
}
