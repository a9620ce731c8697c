/*
 * job.c - blocks of tokens through lanes into an artefact.
 */
#include "grad/job.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "shard/job.h"
#include "shard/token_pick.h"

/* A block on its way. */
struct item {
	struct df_batch out, in;
	struct df_grad_flaws flaws;
	uint64_t last; /* its last row in the set of tokens */
};

struct df_grad_job {
	struct df_set *tokens;
	struct df_token_pick pick; /* of the index */
	bool picked;               /* there is an index; rows below are picks then */
	struct df_grad *grad;
	struct df_shard_arg shard;
	struct df_meta meta;
	uint64_t n_rows, *lengths;     /* [n_rows] */
	struct df_blocks blocks, part; /* of all rows; those to do, within them */
	struct df_grad_lane **lanes;   /* [n_lanes] */
	int n_lanes;
	uint64_t next; /* of the part */
	struct df_grad_flaws flaws;
};

static uint64_t
part_rows(const struct df_grad_job *j)
{
	return j->part.first[j->part.n] - j->part.first[0];
}

/* The rows of the job, and their lengths. */
static int
find_rows(struct df_grad_job *j, const char *index, struct df_err *err)
{
	int rc = DF_OK;

	j->picked = index != NULL;
	if (!index) {
		j->n_rows = df_set_rows(j->tokens);
		return df_set_lengths(j->tokens, DF_COL_IDS, &j->lengths, err);
	}
	DF_TRY(df_token_pick_open(&j->pick, j->tokens, index, err));
	DF_TRY(df_meta_add_input(&j->meta, "index", "index", j->pick.index_id, err));
	j->n_rows = j->pick.n;
	j->lengths = j->pick.length;
	if (j->n_rows == 0)
		df_warn("%s: no rows", index);
out:
	return rc;
}

int
df_grad_job_open(struct df_grad_job **out, const struct df_grad_opts *o, const char *const *tokens, size_t n_tokens,
    const char *index, struct df_shard_arg shard, struct df_backend *be, struct df_err *err)
{
	struct df_grad_job *j = NULL;
	uint64_t begin, end;
	int rc;

	DF_TRY(df_alloc(&j, 1, sizeof(*j), "job", err));
	j->meta = (struct df_meta)DF_META_INIT;
	j->shard = shard;
	DF_TRY(df_set_open(&j->tokens, DF_KIND_TOKENS, "tokens", tokens, n_tokens, err));
	if (df_set_is_stream(j->tokens)) {
		rc = df_fail(
		    err, DF_EUSAGE, "tokens must be in files: cutting them into blocks needs every row's length first");
		goto out;
	}
	DF_TRY(df_grad_open(&j->grad, o, be, err));
	DF_TRY(df_grad_meta(j->grad, df_set_meta(j->tokens), df_set_name(j->tokens), &j->meta, err));
	DF_TRY(find_rows(j, index, err));
	DF_TRY(df_grad_blocks(j->grad, j->lengths, j->n_rows, &j->blocks, err));
	df_shard_range(shard, j->blocks.n, &begin, &end);
	j->part = (struct df_blocks){ j->blocks.first + begin, end - begin };
	*out = j;
	j = NULL;
out:
	df_grad_job_close(j);
	return rc;
}

void
df_grad_job_close(struct df_grad_job *j)
{
	if (!j)
		return;
	for (int i = 0; i < j->n_lanes; i++)
		df_grad_lane_free(j->lanes[i]);
	free(j->lanes);
	df_grad_close(j->grad);
	if (j->picked)
		df_token_pick_close(&j->pick);
	else
		free(j->lengths);
	df_set_close(j->tokens);
	df_blocks_release(&j->blocks);
	df_meta_release(&j->meta);
	free(j);
}

void
df_grad_job_estimate(const struct df_grad_job *j, struct df_grad_cost *cost)
{
	df_grad_estimate(j->grad, j->lengths, part_rows(j), &j->part, cost);
}

static int
seek_block(void *ctx, uint64_t batches, uint64_t rows, struct df_err *err)
{
	struct df_grad_job *j = ctx;

	(void)rows;
	(void)err;
	j->next = batches;
	return DF_OK;
}

static int
read_block(void *ctx, void *item, struct df_err *err)
{
	struct df_grad_job *j = ctx;
	struct item *it = item;
	const uint64_t *first = j->part.first + j->next;
	int rc;

	if (j->next == j->part.n)
		return 0;
	if (j->picked)
		DF_TRY(df_token_pick_read(&j->pick, first[0], first[1] - first[0], &it->in, err));
	else
		DF_TRY(df_set_read(j->tokens, first[0], first[1] - first[0], &it->in, err));
	it->last = j->picked ? j->pick.row[first[1] - 1] : first[1] - 1;
	j->next++;
	rc = 1;
out:
	return rc;
}

static int
work_block(void *ctx, void *item, int worker, struct df_err *err)
{
	struct df_grad_job *j = ctx;
	struct item *it = item;
	const int rc = df_grad_block(j->lanes[worker], &it->in, &it->out, &it->flaws, err);

	if (rc != DF_OK)
		df_err_prefix(
		    err, "%s: rows %" PRIu64 "..%" PRIu64 ": ", df_set_name(j->tokens), it->in.first, it->last);
	return rc;
}

static void
count_flaws(void *ctx, const void *item)
{
	struct df_grad_flaws *all = &((struct df_grad_job *)ctx)->flaws;
	const struct df_grad_flaws *flaws = &((const struct item *)item)->flaws;

	if (all->n_not_finite == 0)
		all->first_not_finite = flaws->first_not_finite;
	all->n_not_finite += flaws->n_not_finite;
	all->n_unlabelled += flaws->n_unlabelled;
}

static void
release_block(void *item)
{
	df_batch_release(&((struct item *)item)->in);
}

static void
tell_flaws(const struct df_grad_flaws *f, const char *name)
{
	if (f->n_unlabelled > 0)
		df_warn("%s: %" PRIu64 " rows have no target: their loss is NaN and their gradient zero", name,
		    f->n_unlabelled);
	if (f->n_not_finite > 0)
		df_warn("%s: the loss or gradient of %" PRIu64 " rows is not finite, the first is sample %" PRIu64
			": no score can be made of them",
		    name, f->n_not_finite, f->first_not_finite);
}

static int
make_lanes(struct df_grad_job *j, int n, struct df_err *err)
{
	int rc;

	DF_TRY(df_alloc(&j->lanes, (size_t)n, sizeof(*j->lanes), "lanes", err));
	for (; j->n_lanes < n; j->n_lanes++)
		DF_TRY(df_grad_lane_new(&j->lanes[j->n_lanes], j->grad, err));
out:
	return rc;
}

int
df_grad_job_run(struct df_grad_job *j, const struct df_grad_job_run *o, uint64_t *n, struct df_err *err)
{
	enum df_col cols[DF_GRAD_COLUMNS_MAX];
	size_t widths[DF_COL_COUNT];
	const struct df_job job = { .output = o->output,
		.shard = j->shard,
		.writer = { .compress = o->compress, .resumable = true },
		.meta = &j->meta,
		.cols = cols,
		.n_cols = df_grad_columns(j->grad, df_set_has(j->tokens, DF_COL_DOMAIN), cols, widths),
		.widths = widths,
		.unit = "samples",
		.n_rows = part_rows(j),
		.n_threads = o->n_threads,
		.item_size = sizeof(struct item),
		.ctx = j,
		.seek = seek_block,
		.read = read_block,
		.work = work_block,
		.done = count_flaws,
		.release = release_block };
	int rc;

	DF_TRY(df_meta_set_tool(&j->meta, o->tool, err));
	DF_TRY(make_lanes(j, o->n_threads, err));
	DF_TRY(df_job_run(&job, n, err));
	tell_flaws(&j->flaws, df_set_name(j->tokens));
out:
	return rc;
}
