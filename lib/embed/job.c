/*
 * job.c - blocks of rows through lanes into an artefact.
 */
#include "embed/job.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "shard/job.h"

struct run {
	const struct df_embed_job *j;
	uint64_t begin, end; /* blocks of the part */
	struct df_embed_lane **lanes;
	int n_lanes;
	struct df_embed_flaws flaws;
};

void
df_embed_job_estimate(const struct df_embed_job *j, struct df_embed_cost *cost)
{
	uint64_t begin, end;

	df_shard_range(j->shard, df_embed_source_blocks(j->source), &begin, &end);
	cost->blocks = end - begin;
	cost->rows = df_embed_source_rows(j->source, begin, end);
	cost->width = df_embedder_width(j->embedder);
	/* An id and a domain beside the vector. */
	cost->out_bytes = (double)cost->rows * (double)(cost->width * (j->store == DF_STORE_F32 ? 4 : 2) + 10);
}

int
df_embed_job_meta(const struct df_embed_job *j, struct df_meta *m, struct df_err *err)
{
	static const char *const stores[] = { DF_STORE_NAMES };
	int rc;

	DF_TRY(df_embed_source_check(j->source, j->embedder, err));
	DF_TRY(df_embedder_meta(j->embedder, m, err));
	DF_TRY(df_embed_source_meta(j->source, m, err));
	DF_TRY(df_meta_set_str(m, "dtype", stores[j->store], err));
	rc = df_meta_set_tool(m, j->tool, err);
out:
	return rc;
}

static int
seek_block(void *ctx, uint64_t batches, uint64_t rows, struct df_err *err)
{
	struct run *r = ctx;

	(void)rows;
	(void)err;
	df_embed_source_seek(r->j->source, r->begin + batches, r->end);
	return DF_OK;
}

static int
read_block(void *ctx, void *block, struct df_err *err)
{
	struct run *r = ctx;

	return df_embed_next(r->j->source, block, err);
}

static int
work_block(void *ctx, void *block, int worker, struct df_err *err)
{
	struct run *r = ctx;

	return df_embed_block(r->j->source, r->lanes[worker], block, err);
}

static void
count_flaws(void *ctx, const void *block)
{
	struct df_embed_flaws *all = &((struct run *)ctx)->flaws;
	const struct df_embed_flaws *flaws = &((const struct df_embed_block *)block)->flaws;

	if (all->n_not_finite == 0)
		all->first_not_finite = flaws->first_not_finite;
	all->n_not_finite += flaws->n_not_finite;
	all->n_tokens += flaws->n_tokens;
	all->n_empty += flaws->n_empty;
	all->n_cut += flaws->n_cut;
}

static void
release_block(void *block)
{
	df_embed_block_release(block);
}

static void
tell_flaws(const struct df_embed_flaws *f, const char *name)
{
	df_info("%s: %" PRIu64 " tokens, %" PRIu64 " rows cut to length", name, f->n_tokens, f->n_cut);
	if (f->n_empty > 0)
		df_warn("%s: %" PRIu64 " rows are empty: their vectors are zero", name, f->n_empty);
	if (f->n_not_finite > 0)
		df_warn("%s: the vectors of %" PRIu64 " rows are not finite, the first is sample %" PRIu64
			": nothing is near to them",
		    name, f->n_not_finite, f->first_not_finite);
}

static int
make_lanes(struct run *r, struct df_err *err)
{
	const int n = r->j->n_threads;
	int rc;

	DF_TRY(df_alloc(&r->lanes, (size_t)n, sizeof(*r->lanes), "lanes", err));
	for (; r->n_lanes < n; r->n_lanes++)
		DF_TRY(df_embed_lane_new(&r->lanes[r->n_lanes], r->j->embedder, err));
out:
	return rc;
}

int
df_embed_job_run(const struct df_embed_job *j, const struct df_meta *m, uint64_t *n, struct df_err *err)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_EMBEDDING, DF_COL_DOMAIN };
	const size_t widths[DF_COL_COUNT] = { [DF_COL_EMBEDDING] = df_embedder_width(j->embedder) };
	struct run r = { .j = j };
	struct df_job job = { .output = j->output,
		.shard = j->shard,
		.writer = { .compress = j->compress,
		    .store = j->store,
		    .resumable = !df_embed_source_is_stream(j->source) },
		.meta = m,
		.cols = cols,
		.n_cols = df_embed_source_has_domain(j->source) ? 3 : 2,
		.widths = widths,
		.unit = "rows",
		.n_threads = j->n_threads,
		.item_size = sizeof(struct df_embed_block),
		.ctx = &r,
		.seek = seek_block,
		.read = read_block,
		.work = work_block,
		.done = count_flaws,
		.release = release_block };
	int rc;

	df_shard_range(j->shard, df_embed_source_blocks(j->source), &r.begin, &r.end);
	job.n_rows = df_embed_source_rows(j->source, r.begin, r.end);
	job.n_blocks = r.end - r.begin;
	DF_TRY(make_lanes(&r, err));
	DF_TRY(df_job_run(&job, n, err));
	tell_flaws(&r.flaws, df_embed_source_name(j->source));
out:
	for (int i = 0; i < r.n_lanes; i++)
		df_embed_lane_free(r.lanes[i]);
	free(r.lanes);
	return rc;
}
