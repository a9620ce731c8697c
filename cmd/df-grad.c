/*
 * df-grad - per-sample losses and gradients of a checkpoint, raw or projected on the way.
 *
 *     read a block of tokens | forward, backward, form, projection | write
 *
 * on all threads, a block each (lib/grad).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "grad/grad.h"
#include "prog.h"
#include "projection.h"

static const char synopsis[] = "[options] -m MODEL TOKENS... -o FILE";
static const char about[] = "Per-sample losses and gradients of a checkpoint, raw or projected on the way.";

static const char *const forms[] = { DF_GRAD_FORMS, NULL };
static const char *const eps_places[] = { "outside", "inside", NULL };
static const char *const compressions[] = { DF_COMPRESS_NAMES, NULL };

struct cfg {
	const char *model, *base, *output;
	bool losses, token_loss, gate_load, allow_zero_state, dry_run, project_given;
	int form, adam_eps, compress;
	int64_t block_tokens, block_rows;
	struct df_prog_projection projection;
	struct df_shard_arg shard;
	struct df_prog_common common;
};
#define CFG_DEFAULT                                                                                              \
	{                                                                                                        \
		.projection = DF_PROG_PROJECTION_DEFAULT(0), .shard = { 0, 1 }, .common = DF_PROG_COMMON_DEFAULT \
	}

/* clang-format off */
#define OPTS(c) { \
	{ .type = DF_OPT_GROUP, .help = "What to compute" }, \
	{ .name = "model", .short_name = 'm', .type = DF_OPT_STR, .value = &(c)->model, .arg = "DIR", .file = DF_FILE_READ, \
	    .help = "checkpoint, Hugging Face directory or PEFT adapter" }, \
	{ .name = "base", .type = DF_OPT_STR, .value = &(c)->base, .arg = "DIR", .file = DF_FILE_READ, \
	    .help = "base model of an adapter, not the one it names" }, \
	{ .name = "form", .type = DF_OPT_CHOICE, .value = &(c)->form, .choices = forms, \
	    .help = "the gradient, Adam's step on it, or its sign" }, \
	{ .name = "adam-eps", .type = DF_OPT_CHOICE, .value = &(c)->adam_eps, .choices = eps_places, \
	    .help = "eps beside the root, or under it" }, \
	{ .name = "allow-zero-state", .type = DF_OPT_FLAG, .value = &(c)->allow_zero_state, \
	    .help = "--form adam without an optimiser's moments" }, \
	{ .name = "losses", .type = DF_OPT_FLAG, .value = &(c)->losses, \
	    .help = "losses only, no gradients" }, \
	{ .name = "token-loss", .type = DF_OPT_FLAG, .value = &(c)->token_loss, \
	    .help = "with --losses: the loss of every target too" }, \
	{ .name = "gate-load", .type = DF_OPT_FLAG, .value = &(c)->gate_load, \
	    .help = "how many tokens each router sends to each expert, no gradients" }, \
	{ .type = DF_OPT_GROUP, .help = "Projection" }, \
	{ .name = "project", .short_name = 'k', .type = DF_OPT_INT, .value = &(c)->projection.k, .arg = "K", .min = 1, \
	    .max = INT32_MAX, .given = &(c)->project_given, \
	    .help = "project to K dimensions on the way" }, \
	DF_PROG_PROJECTION_OPTS(&(c)->projection), \
	{ .type = DF_OPT_GROUP, .help = "Work and output" }, \
	{ .name = "output", .short_name = 'o', .type = DF_OPT_STR, .value = &(c)->output, .arg = "FILE", .file = DF_FILE_WRITE, \
	    .help = "where the result goes; - for a stream" }, \
	{ .name = "shard", .type = DF_OPT_SHARD, .value = &(c)->shard, .arg = "I/N", \
	    .help = "part I of N only; auto, auto/N: of a Slurm array" }, \
	{ .name = "block-tokens", .type = DF_OPT_INT, .value = &(c)->block_tokens, .arg = "N", .min = 0, .max = 1e12, \
	    .help = "most tokens of a block (0: by the model's size)" }, \
	{ .name = "block-rows", .type = DF_OPT_INT, .value = &(c)->block_rows, .arg = "N", .min = 0, .max = 1e9, \
	    .help = "most rows of a block (0: by the model's size)" }, \
	{ .name = "compress", .type = DF_OPT_CHOICE, .value = &(c)->compress, .choices = compressions, \
	    .help = "compression of the output" }, \
	{ .name = "dry-run", .short_name = 'n', .type = DF_OPT_FLAG, .value = &(c)->dry_run, \
	    .help = "print what the job would cost, and leave" }, \
	{ .type = DF_OPT_OPERANDS, .arg = "TOKENS", .file = DF_FILE_READ }, \
	DF_PROG_OPTS(&(c)->common), \
	DF_OPT_END }
/* clang-format on */

/* A block on its way through the pipeline. */
struct item {
	struct df_batch in, out;
	struct df_grad_flaws flaws;
};

struct run {
	struct cfg cfg;
	struct df_backend *be;
	struct df_set *tokens;
	struct df_grad *grad;
	struct df_blocks blocks;
	uint64_t *lengths, n_rows;
	uint64_t next, end; /* blocks to do */
	uint64_t shard_rows;
	struct df_meta meta;
	struct df_writer *out;
	int n_threads;
	struct df_grad_lane **lanes; /* [n_threads] */
	struct item *items;          /* [n_threads + 2] */
	uint64_t rows_done;
	struct df_grad_flaws flaws;
};

static int
check_usage(const struct cfg *c, const struct df_opt_result *args, struct df_err *err)
{
	if (!c->model)
		return df_fail(err, DF_EUSAGE, "-m DIR is missing: the checkpoint");
	if (!args->operands.n)
		return df_fail(err, DF_EUSAGE, "which tokens?  Name files made by df-pack");
	if (!c->output && !c->dry_run)
		return df_fail(err, DF_EUSAGE, "-o FILE is missing (- for a stream)");
	if (c->losses && c->project_given)
		return df_fail(err, DF_EUSAGE, "--losses and --project exclude each other");
	if (c->gate_load && (c->losses || c->project_given))
		return df_fail(err, DF_EUSAGE, "--gate-load excludes --losses and --project");
	if (c->token_loss && !c->losses)
		return df_fail(err, DF_EUSAGE, "--token-loss needs --losses");
	return df_prog_projection_check(&c->projection, err);
}

static struct df_grad_opts
grad_opts(const struct cfg *c)
{
	return (struct df_grad_opts){
		.model = c->model,
		.base = c->base,
		.output = c->gate_load ? DF_GRAD_LOADS
		    : c->losses        ? DF_GRAD_LOSSES
		    : c->project_given ? DF_GRAD_PROJECTED
				       : DF_GRAD_RAW,
		.form = (enum df_grad_form)c->form,
		.eps_inside = c->adam_eps == 1,
		.allow_zero_state = c->allow_zero_state,
		.token_loss = c->token_loss,
		.projector = df_prog_projector(&c->projection),
		.block_tokens = (uint64_t)c->block_tokens,
		.block_rows = (uint64_t)c->block_rows,
	};
}

static int
open_writer(struct run *r, struct df_err *err)
{
	const bool stream = !strcmp(r->cfg.output, "-");
	const struct df_writer_opts opts = { .compress = (enum df_compress)r->cfg.compress, .resumable = !stream };
	enum df_col cols[DF_GRAD_COLUMNS_MAX];
	size_t widths[DF_COL_COUNT];
	const size_t n_cols = df_grad_columns(r->grad, df_set_has(r->tokens, DF_COL_DOMAIN), cols, widths);
	char *path = NULL;
	int rc = 0;

	if (!stream)
		DF_TRY(df_shard_name(&path, r->cfg.output, r->cfg.shard, err));
	DF_TRY(df_writer_open(&r->out, path ? path : r->cfg.output, &r->meta, cols, n_cols, widths, &opts, err));
	r->next += df_writer_done_batches(r->out);
	r->rows_done = df_writer_done_rows(r->out);
	if (r->rows_done)
		df_info("%" PRIu64 " rows are done already: going on from there", r->rows_done);
out:
	free(path);
	return rc;
}

static int
open_run(struct run *r, const struct df_strlist *paths, struct df_err *err)
{
	const struct df_grad_opts o = grad_opts(&r->cfg);
	int rc = 0;

	r->n_threads = r->cfg.common.threads ? (int)r->cfg.common.threads : df_threads_default();
	DF_TRY(df_set_open(&r->tokens, DF_KIND_TOKENS, "tokens", paths->v, paths->n, err));
	if (df_set_is_stream(r->tokens)) {
		rc = df_fail(
		    err, DF_EUSAGE, "tokens must be in files: cutting them into blocks needs every row's length first");
		goto out;
	}
	/* Threads take whole blocks, so the backend works in the thread that calls it. */
	DF_TRY(df_backend_open(&r->be, r->cfg.common.device, NULL, err));
	DF_TRY(df_grad_open(&r->grad, &o, r->be, err));
	DF_TRY(df_grad_meta(r->grad, df_set_meta(r->tokens), df_set_name(r->tokens), &r->meta, err));
	DF_TRY(df_meta_set_tool(&r->meta, "df-grad", err));
	DF_TRY(df_set_lengths(r->tokens, DF_COL_IDS, &r->lengths, err));
	r->n_rows = df_set_rows(r->tokens);
	DF_TRY(df_grad_blocks(r->grad, r->lengths, r->n_rows, &r->blocks, err));
	df_shard_range(r->cfg.shard, r->blocks.n, &r->next, &r->end);
	r->shard_rows = r->blocks.first[r->end] - r->blocks.first[r->next];
out:
	return rc;
}

static int
read_block(void *ctx, void *batch, struct df_err *err)
{
	struct run *r = ctx;
	struct item *it = batch;
	const uint64_t *first = r->blocks.first + r->next;
	int rc = 0;

	if (r->next == r->end)
		return 0;
	DF_TRY(df_set_read(r->tokens, first[0], first[1] - first[0], &it->in, err));
	r->next++;
	return 1;
out:
	return rc;
}

static int
work_block(void *ctx, void *batch, int worker, struct df_err *err)
{
	struct run *r = ctx;
	struct item *it = batch;
	const int rc = df_grad_block(r->lanes[worker], &it->in, &it->out, &it->flaws, err);

	if (rc)
		df_err_prefix(err, "%s: rows %" PRIu64 "..%" PRIu64 ": ", df_set_name(r->tokens), it->in.first,
		    it->in.first + it->in.n - 1);
	return rc;
}

static int
write_block(void *ctx, void *batch, struct df_err *err)
{
	struct run *r = ctx;
	struct item *it = batch;
	int rc = 0;

	DF_TRY(df_writer_put(r->out, &it->out, err));
	if (!r->flaws.n_not_finite)
		r->flaws.first_not_finite = it->flaws.first_not_finite;
	r->flaws.n_not_finite += it->flaws.n_not_finite;
	r->flaws.n_unlabelled += it->flaws.n_unlabelled;
	r->rows_done += it->out.n;
	df_progress(r->rows_done, r->shard_rows, "samples");
out:
	return rc;
}

static int
run_pipeline(struct run *r, struct df_err *err)
{
	const int n_items = r->n_threads + 2;
	struct df_pipeline pl = { .read = read_block,
		.work = work_block,
		.write = write_block,
		.ctx = r,
		.n_batches = n_items,
		.n_threads = r->n_threads };
	const uint64_t before = r->rows_done;
	int rc = 0;

	DF_TRY(df_alloc(&r->lanes, (size_t)r->n_threads, sizeof *r->lanes, "lanes", err));
	DF_TRY(df_alloc(&r->items, (size_t)n_items, sizeof *r->items, "blocks", err));
	DF_TRY(df_alloc(&pl.batches, (size_t)n_items, sizeof *pl.batches, "blocks", err));
	for (int i = 0; i < n_items; i++) {
		r->items[i] = (struct item){ .in = DF_BATCH_INIT, .out = DF_BATCH_INIT };
		pl.batches[i] = &r->items[i];
	}
	for (int i = 0; i < r->n_threads; i++)
		DF_TRY(df_grad_lane_new(&r->lanes[i], r->grad, err));
	DF_TRY(df_pipeline_run(&pl, err));
	if (r->flaws.n_unlabelled)
		df_warn("%s: %" PRIu64 " rows have no target: their loss is NaN and their gradient zero",
		    df_set_name(r->tokens), r->flaws.n_unlabelled);
	if (r->flaws.n_not_finite)
		df_warn("%s: the loss or gradient of %" PRIu64 " rows is not finite, the first is sample %" PRIu64
			": no score can be made of them",
		    df_set_name(r->tokens), r->flaws.n_not_finite, r->flaws.first_not_finite);
	df_prog_count(r->rows_done - before, "samples");
	DF_TRY(df_writer_commit(r->out, NULL, err));
out:
	free(pl.batches);
	return rc;
}

/* FLOP/s of this machine's matrix product, measured for a tenth of a second. */
static int
measure_rate(struct df_backend *be, double *rate, struct df_err *err)
{
	enum { N = 512 };
	struct df_tensor t = DF_TENSOR_NONE;
	struct timespec a, b;
	double secs = 0, flops = 0;
	int rc = 0;

	DF_TRY(df_tensor_alloc(be, &t, DF_F32, (size_t)3 * N, N, "a test product", err));
	DF_TRY(df_fill(be, t, 0.0f, err));
	do {
		const struct df_gemm g = { .alpha = 1,
			.a = df_tensor_rows(t, 0, N),
			.b = df_tensor_rows(t, N, N),
			.c = df_tensor_rows(t, (size_t)2 * N, N) };

		clock_gettime(CLOCK_MONOTONIC, &a);
		DF_TRY(df_gemm(be, &g, err));
		DF_TRY(df_sync(be, err));
		clock_gettime(CLOCK_MONOTONIC, &b);
		secs += (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
		flops += 2.0 * N * N * N;
	} while (secs < 0.1);
	*rate = flops / secs;
out:
	df_tensor_free(be, &t);
	return rc;
}

static int
dry_run(struct run *r, struct df_err *err)
{
	const struct df_blocks shard = { r->blocks.first + r->next, r->end - r->next };
	struct df_grad_cost c;
	double rate = 0;
	int rc = 0;

	DF_TRY(measure_rate(r->be, &rate, err));
	df_grad_estimate(r->grad, r->lengths, r->shard_rows, &shard, &c);
	printf("rows         %" PRIu64 " in %" PRIu64 " blocks, %" PRIu64 " tokens\n", c.rows, c.blocks, c.tokens);
	printf("coordinates  %" PRIu64 "\n", c.coordinates);
	printf("work         %.4g GFLOP model, %.4g GFLOP projection\n", c.model_flops / 1e9, c.projection_flops / 1e9);
	printf("memory       %.0f MiB, and up to %.0f MiB for each of %d threads\n", c.model_bytes / 1048576,
	    c.lane_bytes / 1048576, r->n_threads);
	printf("output       %.1f MiB\n", c.out_bytes / 1048576);
	printf("time         about %.0f s at %.0f GFLOP/s per thread\n",
	    1.3 * (c.model_flops + c.projection_flops) / rate / r->n_threads, rate / 1e9);
out:
	return rc;
}

static void
close_run(struct run *r)
{
	for (int i = 0; r->items && i < r->n_threads + 2; i++) {
		df_batch_release(&r->items[i].in);
		df_batch_release(&r->items[i].out);
	}
	free(r->items);
	for (int i = 0; r->lanes && i < r->n_threads; i++)
		df_grad_lane_free(r->lanes[i]);
	free(r->lanes);
	df_writer_close(r->out);
	df_grad_close(r->grad);
	df_backend_close(r->be);
	df_set_close(r->tokens);
	df_blocks_release(&r->blocks);
	df_meta_release(&r->meta);
	free(r->lengths);
}

int
main(int argc, char **argv)
{
	static struct run r = { .cfg = CFG_DEFAULT, .meta = DF_META_INIT };
	const struct df_opt opts[] = OPTS(&r.cfg);
	struct df_opt_result args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-grad");
	df_prog_parse(opts, synopsis, about, &r.cfg.common, argc, argv, &args);
	rc = check_usage(&r.cfg, &args, &err);
	if (!rc)
		rc = open_run(&r, &args.operands, &err);
	if (!rc && r.cfg.dry_run) {
		rc = dry_run(&r, &err);
	} else if (!rc) {
		rc = open_writer(&r, &err);
		if (!rc)
			rc = run_pipeline(&r, &err);
	}
	close_run(&r);
	df_opt_result_release(&args);
	return df_prog_exit(rc, &err);
}
