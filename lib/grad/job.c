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
	struct df_policy_batch prompts; /* in the place of `in` */
	struct df_grad_flaws flaws;
	uint64_t last; /* its last row in the set of tokens */
};

struct df_grad_job {
	struct df_set *tokens;
	struct df_token_pick pick; /* of the index */
	bool picked;               /* there is an index; rows below are picks then */
	struct df_grad *grad;
	struct df_policy *policy; /* NULL: the rows are the tokens', not their prompts */
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

/* The rows of the job, and their lengths: all tokens, those of an index, or prompts with their completions. */
static int
find_rows(struct df_grad_job *j, const struct df_grad_opts *o, const char *index, struct df_err *err)
{
	const struct df_policy *p;
	int rc = DF_OK;

	j->n_rows = df_set_rows(j->tokens);
	if (index) {
		DF_TRY(df_token_pick_open(&j->pick, j->tokens, index, err));
		j->picked = true;
		DF_TRY(df_meta_add_input(&j->meta, "index", "index", j->pick.index_id, err));
		j->n_rows = j->pick.n;
		j->lengths = j->pick.length;
		if (j->n_rows == 0)
			df_warn("%s: no rows", index);
		goto out;
	}
	if (!o->policy.rewards)
		return df_set_lengths(j->tokens, DF_COL_IDS, &j->lengths, err);
	DF_TRY(df_policy_open(&j->policy, &o->policy, j->tokens, &j->meta, err));
	p = j->policy;
	j->n_rows = p->n;
	DF_TRY(df_alloc(&j->lengths, p->n, sizeof(*j->lengths), "lengths", err));
	for (uint64_t i = 0; i < p->n; i++)
		for (uint64_t u = p->first_use[i]; u < p->first_use[i + 1]; u++)
			j->lengths[i] += p->use[u].length;
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
	DF_TRY(find_rows(j, o, index, err));
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
	df_policy_close(j->policy);
	df_set_close(j->tokens);
	df_blocks_release(&j->blocks);
	df_meta_release(&j->meta);
	free(j);
}

/* The rows that go through the model, and their blocks, in the place of the prompts'. */
static int
estimate_policy(const struct df_grad_job *j, struct df_grad_cost *cost, struct df_err *err)
{
	const struct df_policy *p = j->policy;
	struct df_blocks b = { .n = j->part.n };
	uint64_t *lengths = NULL;
	int rc;

	DF_TRY(df_alloc(&lengths, p->first_use[p->n], sizeof(*lengths), "lengths", err));
	DF_TRY(df_alloc(&b.first, b.n + 1, sizeof(*b.first), "blocks", err));
	for (uint64_t u = 0; u < p->first_use[p->n]; u++)
		lengths[u] = p->use[u].length;
	for (uint64_t i = 0; i <= b.n; i++)
		b.first[i] = p->first_use[j->part.first[i]];
	df_grad_estimate(j->grad, lengths, part_rows(j), &b, cost);
out:
	df_blocks_release(&b);
	free(lengths);
	return rc;
}

int
df_grad_job_estimate(const struct df_grad_job *j, struct df_grad_cost *cost, struct df_err *err)
{
	if (j->policy)
		return estimate_policy(j, cost, err);
	df_grad_estimate(j->grad, j->lengths, part_rows(j), &j->part, cost);
	return DF_OK;
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
	if (j->policy) {
		DF_TRY(df_policy_read(j->policy, first[0], first[1] - first[0], &it->prompts, err));
	} else if (j->picked) {
		DF_TRY(df_token_pick_read(&j->pick, first[0], first[1] - first[0], &it->in, err));
		it->last = j->pick.row[first[1] - 1];
	} else {
		DF_TRY(df_set_read(j->tokens, first[0], first[1] - first[0], &it->in, err));
		it->last = first[1] - 1;
	}
	j->next++;
	rc = 1;
out:
	return rc;
}

static int
work_prompts(struct df_grad_job *j, struct item *it, struct df_grad_lane *lane, struct df_err *err)
{
	const struct df_policy_batch *b = &it->prompts;
	const int rc = df_grad_policy_block(lane, j->policy, b, &it->out, &it->flaws, err);

	if (rc != DF_OK)
		df_err_prefix(err, "%s: prompts %" PRIu64 "..%" PRIu64 ": ", df_set_name(j->tokens),
		    j->policy->id[b->first], j->policy->id[b->first + b->n - 1]);
	return rc;
}

static int
work_block(void *ctx, void *item, int worker, struct df_err *err)
{
	struct df_grad_job *j = ctx;
	struct item *it = item;
	int rc;

	if (j->policy)
		return work_prompts(j, it, j->lanes[worker], err);
	rc = df_grad_block(j->lanes[worker], &it->in, &it->out, &it->flaws, err);

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
	df_policy_batch_release(&((struct item *)item)->prompts);
}

static void
tell_flaws(const struct df_grad_flaws *f, bool policy, const char *name)
{
	if (f->n_unlabelled > 0 && policy)
		df_warn("%s: %" PRIu64 " prompts have no completion that counts: their gradient is zero", name,
		    f->n_unlabelled);
	else if (f->n_unlabelled > 0)
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
		.unit = j->policy ? "prompts" : "samples",
		.n_rows = part_rows(j),
		.n_blocks = j->part.n,
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
	if (j->policy && j->policy->n_protected > 0)
		df_info("%s: no completion of %" PRIu64 " prompts counts: their own answers take the place",
		    df_set_name(j->tokens), j->policy->n_protected);
	tell_flaws(&j->flaws, j->policy != NULL, df_set_name(j->tokens));
out:
	return rc;
}
