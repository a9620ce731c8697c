/*
 * job.c - blocks of rows are processed by threads and written to one artefact.
 */
#include "shard/job.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"

struct run {
	const struct df_job *j;
	struct df_writer *out;
	uint64_t rows; /* written, including earlier runs */
	uint64_t left; /* blocks that may still be read */
};

static int
open_output(struct run *r, struct df_err *err)
{
	const struct df_job *j = r->j;
	const bool stream = strcmp(j->output, "-") == 0;
	struct df_writer_opts opts = j->writer;
	char *part = NULL;
	int rc;

	opts.resumable = opts.resumable && !stream;
	if (!stream)
		DF_TRY(df_shard_name(&part, j->output, j->shard, err));
	DF_TRY(df_writer_open(&r->out, part ? part : j->output, j->meta, j->cols, j->n_cols, j->widths, &opts, err));
	r->rows = df_writer_done_rows(r->out);
	DF_TRY(j->seek(j->ctx, df_writer_done_batches(r->out), r->rows, err));
out:
	free(part);
	return rc;
}

static int
read_item(void *ctx, void *item, struct df_err *err)
{
	struct run *r = ctx;

	if (r->left == 0)
		return 0;
	r->left--;
	return r->j->read(r->j->ctx, item, err);
}

static int
work_item(void *ctx, void *item, int worker, struct df_err *err)
{
	const struct run *r = ctx;

	return r->j->work(r->j->ctx, item, worker, err);
}

static int
write_item(void *ctx, void *item, struct df_err *err)
{
	struct run *r = ctx;
	const struct df_batch *b = item;
	int rc;

	DF_TRY(df_writer_put(r->out, b, err));
	r->rows += b->n;
	if (r->j->done)
		r->j->done(r->j->ctx, item);
	df_progress(r->rows, r->j->n_rows, r->j->unit);
out:
	return rc;
}

/* A thread takes a block; the last ones, too few for the threads, all work on together. */
static int
run_blocks(struct run *r, void **items, struct df_err *err)
{
	const struct df_job *j = r->j;
	const uint64_t done = df_writer_done_batches(r->out);
	const uint64_t n = j->n_blocks > done ? j->n_blocks - done : 0, last = df_pool_last(n, j->n_threads);
	struct df_pipeline pl = { .read = read_item,
		.work = work_item,
		.write = write_item,
		.ctx = r,
		.batches = items,
		.n_batches = j->n_threads + 2,
		.n_threads = j->n_threads };
	int rc = DF_OK;

	r->left = last ? n - last : UINT64_MAX;
	if (r->left > 0)
		DF_TRY(df_pipeline_run(&pl, err));
	if (last == 0)
		goto out;
	r->left = UINT64_MAX;
	pl.n_threads = 1;
	pl.n_batches = 3;
	rc = df_pipeline_run(&pl, err);
out:
	return rc;
}

int
df_job_run(const struct df_job *j, uint64_t *n, struct df_err *err)
{
	struct run r = { .j = j };
	const int n_items = j->n_threads + 2;
	uint64_t before = 0;
	void **at = NULL;
	char *items = NULL;
	int rc;

	if (n)
		*n = 0;
	DF_TRY(open_output(&r, err));
	before = r.rows;
	DF_TRY(df_alloc(&items, (size_t)n_items, j->item_size, "blocks", err));
	DF_TRY(df_alloc(&at, (size_t)n_items, sizeof(*at), "blocks", err));
	for (int i = 0; i < n_items; i++)
		at[i] = items + (size_t)i * j->item_size;
	DF_TRY(run_blocks(&r, at, err));
	rc = df_writer_commit(r.out, NULL, err);
out:
	if (n)
		*n = r.rows - before;
	for (int i = 0; items && at && i < n_items; i++) {
		df_batch_release(at[i]);
		if (j->release)
			j->release(at[i]);
	}
	free(at);
	free(items);
	df_writer_close(r.out);
	return rc;
}
