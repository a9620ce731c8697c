/*
 * scan.c - read | work | take, over the pipeline of base/pool.h.
 */
#include "shard/scan.h"

#include <stdlib.h>

#include "shard/shard_priv.h"

#define BLOCK_BYTES ((uint64_t)2 << 20)

struct block {
	struct df_batch b;
	void *result;
	struct df_digest digest;
};

struct scan {
	const struct df_scan *sc;
	uint32_t unidentified; /* columns that are digested for the set's id */
	struct df_digest id;
};

static int
read_block(void *ctx, void *batch, struct df_err *err)
{
	const struct df_scan *sc = ((struct scan *)ctx)->sc;
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
	const struct scan *s = ctx;
	const struct df_scan *sc = s->sc;
	struct block *k = batch;
	int rc;

	DF_TRY(df_batch_load(&k->b, err));
	k->digest = (struct df_digest){ 0, 0 };
	if (s->unidentified)
		DF_TRY(df_batch_digest(&k->b, s->unidentified, k->b.first, &k->digest, err));
	if (sc->work)
		DF_TRY(sc->work(sc->ctx, &k->b, &k->result, worker, err));
out:
	return rc;
}

static int
take_block(void *ctx, void *batch, struct df_err *err)
{
	struct scan *s = ctx;
	const struct df_scan *sc = s->sc;
	struct block *k = batch;

	df_digest_merge(&s->id, k->digest);
	return sc->take ? sc->take(sc->ctx, &k->b, k->result, err) : DF_OK;
}

int
df_scan_run(const struct df_scan *sc, struct df_err *err)
{
	struct scan s = { .sc = sc, .unidentified = df_set_unidentified(sc->set) };
	const int n = sc->n_threads + 2;
	struct df_pipeline pl = { .read = read_block,
		.work = work_block,
		.write = take_block,
		.ctx = &s,
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
	if (s.unidentified)
		df_set_identify(sc->set, s.id);
out:
	for (int i = 0; blocks && i < n; i++)
		df_batch_release(&blocks[i].b);
	free(blocks);
	free(pl.batches);
	return rc;
}
