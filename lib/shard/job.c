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
	const struct run *r = ctx;

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

int
df_job_run(const struct df_job *j, uint64_t *n, struct df_err *err)
{
	struct run r = { .j = j };
	struct df_pipeline pl = { .read = read_item,
		.work = work_item,
		.write = write_item,
		.ctx = &r,
		.n_batches = j->n_threads + 2,
		.n_threads = j->n_threads };
	uint64_t before = 0;
	char *items = NULL;
	int rc;

	if (n)
		*n = 0;
	DF_TRY(open_output(&r, err));
	before = r.rows;
	DF_TRY(df_alloc(&items, (size_t)pl.n_batches, j->item_size, "blocks", err));
	DF_TRY(df_alloc(&pl.batches, (size_t)pl.n_batches, sizeof(*pl.batches), "blocks", err));
	for (int i = 0; i < pl.n_batches; i++)
		pl.batches[i] = items + (size_t)i * j->item_size;
	DF_TRY(df_pipeline_run(&pl, err));
	rc = df_writer_commit(r.out, NULL, err);
out:
	if (n)
		*n = r.rows - before;
	for (int i = 0; items && pl.batches && i < pl.n_batches; i++) {
		df_batch_release(pl.batches[i]);
		if (j->release)
			j->release(pl.batches[i]);
	}
	free(pl.batches);
	free(items);
	df_writer_close(r.out);
	return rc;
}
