/*
 * df-embed - one vector per row, of tokens or texts.
 *
 *     read a block of rows | tokenise, forward, pool | write
 *
 * on all threads, a block each (lib/embed).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "embed/embed.h"
#include "embed/source.h"
#include "prog.h"

static const char synopsis[] = "[options] -m MODEL {FILE... | --dataset NAMES} -o FILE";
static const char about[] = "One vector per row, of tokens or texts, by an embedding model or any other.";

static const char *const forms[] = { DF_ROWTEXT_FORMS, NULL };
static const char *const stores[] = { DF_STORE_NAMES, NULL };
static const char *const compressions[] = { DF_COMPRESS_NAMES, NULL };

struct cfg {
	const char *model, *base, *tokenizer, *dataset_dir, *dataset, *rows, *column, *pooling, *prompt, *prompt_name,
	    *output;
	bool normalize, normalize_given, dry_run, column_given, form_given;
	int form, store, compress;
	int64_t layer, max_length, truncate_dim;
	struct df_shard_arg shard;
	struct df_prog_common common;
};
#define CFG_DEFAULT                                                                                         \
	{                                                                                                   \
		.dataset_dir = "data", .column = "text", .normalize = true, .layer = -1, .shard = { 0, 1 }, \
		.common = DF_PROG_COMMON_DEFAULT                                                            \
	}

/* clang-format off */
#define OPTS(c) { \
	{ .type = DF_OPT_GROUP, .help = "What to read" }, \
	{ .name = "dataset-dir", .type = DF_OPT_STR, .value = &(c)->dataset_dir, .arg = "DIR", .file = DF_FILE_READ, \
	    .help = "directory of dataset_info.json" }, \
	{ .name = "dataset", .type = DF_OPT_STR, .value = &(c)->dataset, .arg = "NAMES", \
	    .help = "datasets in dataset_info.json, comma-separated" }, \
	{ .name = "rows", .type = DF_OPT_STR, .value = &(c)->rows, .arg = "TOKENS", .file = DF_FILE_READ, \
	    .help = "the rows that these tokens are made of, with their ids" }, \
	{ .name = "template", .type = DF_OPT_CHOICE, .value = &(c)->form, .choices = forms, .given = &(c)->form_given, \
	    .help = "the text of a row: a column, or lines of an alpaca row" }, \
	{ .name = "column", .type = DF_OPT_STR, .value = &(c)->column, .arg = "NAME", .given = &(c)->column_given, \
	    .help = "--template column: which" }, \
	{ .type = DF_OPT_GROUP, .help = "How to embed" }, \
	{ .name = "model", .short_name = 'm', .type = DF_OPT_STR, .value = &(c)->model, .arg = "DIR", .file = DF_FILE_READ, \
	    .help = "sentence-transformers or model directory, or an adapter" }, \
	{ .name = "base", .type = DF_OPT_STR, .value = &(c)->base, .arg = "DIR", .file = DF_FILE_READ, \
	    .help = "base model of an adapter, not the one it names" }, \
	{ .name = "tokenizer", .type = DF_OPT_STR, .value = &(c)->tokenizer, .arg = "TOK", .file = DF_FILE_READ_ANY, \
	    .choices = df_tokenizer_names, .help = "bytes, a tokenizer.json or a directory, not the model's" }, \
	{ .name = "pooling", .type = DF_OPT_STR, .value = &(c)->pooling, .arg = "P", \
	    .choices = df_pooling_names, .help = "mean, last, cls, position or position:N" }, \
	{ .name = "layer", .type = DF_OPT_INT, .value = &(c)->layer, .arg = "K", .min = -100000, .max = 100000, \
	    .help = "hidden states behind K layers; -1: the last" }, \
	{ .name = "normalize", .type = DF_OPT_FLAG, .value = &(c)->normalize, .given = &(c)->normalize_given, \
	    .help = "vectors of length one" }, \
	{ .name = "prompt", .type = DF_OPT_STR, .value = &(c)->prompt, .arg = "TEXT", \
	    .help = "put before each text" }, \
	{ .name = "prompt-name", .type = DF_OPT_STR, .value = &(c)->prompt_name, .arg = "NAME", \
	    .help = "one of the model's prompts" }, \
	{ .name = "max-length", .type = DF_OPT_INT, .value = &(c)->max_length, .arg = "N", .min = 0, .max = 1e9, \
	    .help = "the most tokens of a row (0: as the model says)" }, \
	{ .name = "truncate-dim", .type = DF_OPT_INT, .value = &(c)->truncate_dim, .arg = "N", .min = 0, .max = 1e9, \
	    .help = "keep the first N numbers of a vector (0: all)" }, \
	{ .type = DF_OPT_GROUP, .help = "Work and output" }, \
	{ .name = "output", .short_name = 'o', .type = DF_OPT_STR, .value = &(c)->output, .arg = "FILE", .file = DF_FILE_WRITE, \
	    .help = "where the vectors go; - for a stream" }, \
	{ .name = "dtype", .type = DF_OPT_CHOICE, .value = &(c)->store, .choices = stores, \
	    .help = "how the file holds them" }, \
	{ .name = "shard", .type = DF_OPT_SHARD, .value = &(c)->shard, .arg = "I/N", \
	    .help = "part I of N only; auto, auto/N: of a Slurm array" }, \
	{ .name = "compress", .type = DF_OPT_CHOICE, .value = &(c)->compress, .choices = compressions, \
	    .help = "compression of the output" }, \
	{ .name = "dry-run", .short_name = 'n', .type = DF_OPT_FLAG, .value = &(c)->dry_run, \
	    .help = "print what the job is, and leave" }, \
	{ .type = DF_OPT_OPERANDS, .arg = "FILE", .file = DF_FILE_READ }, \
	DF_PROG_OPTS(&(c)->common), \
	DF_OPT_END }
/* clang-format on */

struct run {
	struct cfg cfg;
	struct df_backend *be;
	struct df_embed_source *source;
	struct df_embedder *embedder;
	struct df_meta meta;
	struct df_writer *out;
	int n_threads;
	struct df_embed_lane **lanes;  /* [n_threads] */
	struct df_embed_block *blocks; /* [n_threads + 2] */
	uint64_t begin, end;           /* the shard's blocks */
	uint64_t shard_rows, rows_done;
	struct df_embed_flaws flaws;
};

static int
check_usage(const struct cfg *c, const struct df_opt_result *args, struct df_err *err)
{
	if (!c->model)
		return df_fail(err, DF_EUSAGE, "-m DIR is missing: the model");
	if (!args->operands.n && !c->dataset)
		return df_fail(err, DF_EUSAGE,
		    "what is to be embedded?  Name tokens that df-pack made, files of text, or a --dataset");
	if (args->operands.n && c->dataset)
		return df_fail(err, DF_EUSAGE, "--dataset and files exclude each other");
	if (!c->output && !c->dry_run)
		return df_fail(err, DF_EUSAGE, "-o FILE is missing (- for a stream)");
	if (c->prompt && c->prompt_name)
		return df_fail(err, DF_EUSAGE, "--prompt and --prompt-name exclude each other");
	if (c->column_given && c->form != DF_ROWTEXT_COLUMN)
		return df_fail(err, DF_EUSAGE, "--column is for --template column");
	return 0;
}

static int
open_source(struct run *r, const struct df_strlist *paths, struct df_err *err)
{
	const struct cfg *c = &r->cfg;
	const struct df_embed_source_opts o = { .paths = paths->v,
		.n_paths = paths->n,
		.dataset_dir = c->dataset_dir,
		.dataset = c->dataset,
		.form = (enum df_rowtext_form)c->form,
		.column = c->column,
		.rows = c->rows };
	int rc;

	DF_TRY(df_embed_source_open(&r->source, &o, err));
	if (!df_embed_source_is_text(r->source) && (c->form_given || c->column_given || c->tokenizer || c->rows))
		rc = df_fail(err, DF_EUSAGE,
		    "--rows, --template, --column and --tokenizer are for texts: tokens are as they are");
	else if (df_embed_source_is_stream(r->source) && c->shard.n > 1)
		rc = df_fail(err, DF_EUSAGE, "--shard needs files: what a stream holds is not known before its end");
	else if (!df_embed_source_is_stream(r->source) && !df_embed_source_blocks(r->source))
		df_warn("%s: no rows", df_embed_source_name(r->source));
out:
	return rc;
}

static int
open_embedder(struct run *r, struct df_err *err)
{
	const struct cfg *c = &r->cfg;
	struct df_embed_opts o = { .model = c->model,
		.base = c->base,
		.tokenizer = c->tokenizer,
		.texts = df_embed_source_is_text(r->source),
		.layer = c->layer,
		.normalise = c->normalize_given ? c->normalize : -1,
		.prompt = c->prompt,
		.prompt_name = c->prompt_name,
		.max_length = (uint64_t)c->max_length,
		.truncate_dim = (uint64_t)c->truncate_dim };
	int rc = 0;

	if (c->pooling)
		DF_TRY(df_pooling_parse(c->pooling, &o.pooling, &o.position, err));
	/* Threads take whole blocks, so the backend works in the thread that calls it. */
	DF_TRY(df_backend_open(&r->be, c->common.device, NULL, err));
	DF_TRY(df_embedder_open(&r->embedder, &o, r->be, err));
	DF_TRY(df_embed_source_check(r->source, r->embedder, err));
	DF_TRY(df_embedder_meta(r->embedder, &r->meta, err));
	DF_TRY(df_embed_source_meta(r->source, &r->meta, err));
	DF_TRY(df_meta_set_str(&r->meta, "dtype", stores[c->store], err));
	DF_TRY(df_meta_set_tool(&r->meta, "df-embed", err));
out:
	return rc;
}

static int
open_writer(struct run *r, struct df_err *err)
{
	const bool stream = !strcmp(r->cfg.output, "-");
	const struct df_writer_opts opts = { .compress = (enum df_compress)r->cfg.compress,
		.store = (enum df_store)r->cfg.store,
		.resumable = !stream && !df_embed_source_is_stream(r->source) };
	enum df_col cols[] = { DF_COL_ID, DF_COL_EMBEDDING, DF_COL_DOMAIN };
	size_t widths[DF_COL_COUNT] = { [DF_COL_EMBEDDING] = df_embedder_width(r->embedder) };
	char *path = NULL;
	int rc = 0;

	if (!stream)
		DF_TRY(df_shard_name(&path, r->cfg.output, r->cfg.shard, err));
	DF_TRY(df_writer_open(&r->out, path ? path : r->cfg.output, &r->meta, cols,
	    df_embed_source_has_domain(r->source) ? 3 : 2, widths, &opts, err));
	r->rows_done = df_writer_done_rows(r->out);
	df_embed_source_seek(r->source, r->begin + df_writer_done_batches(r->out), r->end);
	if (r->rows_done)
		df_info("%" PRIu64 " rows are done already: going on from there", r->rows_done);
out:
	free(path);
	return rc;
}

static int
read_block(void *ctx, void *block, struct df_err *err)
{
	struct run *r = ctx;

	return df_embed_next(r->source, block, err);
}

static int
work_block(void *ctx, void *block, int worker, struct df_err *err)
{
	struct run *r = ctx;

	return df_embed_block(r->source, r->lanes[worker], block, err);
}

static int
write_block(void *ctx, void *block, struct df_err *err)
{
	struct run *r = ctx;
	const struct df_embed_block *b = block;
	int rc = 0;

	DF_TRY(df_writer_put(r->out, &b->out, err));
	if (!r->flaws.n_not_finite)
		r->flaws.first_not_finite = b->flaws.first_not_finite;
	r->flaws.n_not_finite += b->flaws.n_not_finite;
	r->flaws.n_tokens += b->flaws.n_tokens;
	r->flaws.n_empty += b->flaws.n_empty;
	r->flaws.n_cut += b->flaws.n_cut;
	r->rows_done += b->out.n;
	df_progress(r->rows_done, r->shard_rows, "rows");
out:
	return rc;
}

static void
tell_flaws(const struct run *r)
{
	const struct df_embed_flaws *f = &r->flaws;
	const char *name = df_embed_source_name(r->source);

	df_info("%s: %" PRIu64 " tokens, %" PRIu64 " rows cut to length", name, f->n_tokens, f->n_cut);
	if (f->n_empty)
		df_warn("%s: %" PRIu64 " rows are empty: their vectors are zero", name, f->n_empty);
	if (f->n_not_finite)
		df_warn("%s: the vectors of %" PRIu64 " rows are not finite, the first is sample %" PRIu64
			": nothing is near to them",
		    name, f->n_not_finite, f->first_not_finite);
}

static int
run_pipeline(struct run *r, struct df_err *err)
{
	const int n_blocks = r->n_threads + 2;
	struct df_pipeline pl = { .read = read_block,
		.work = work_block,
		.write = write_block,
		.ctx = r,
		.n_batches = n_blocks,
		.n_threads = r->n_threads };
	const uint64_t before = r->rows_done;
	int rc = 0;

	DF_TRY(df_alloc(&r->lanes, (size_t)r->n_threads, sizeof(struct df_embed_lane *), "lanes", err));
	DF_TRY(df_alloc(&r->blocks, (size_t)n_blocks, sizeof *r->blocks, "blocks", err));
	DF_TRY(df_alloc(&pl.batches, (size_t)n_blocks, sizeof *pl.batches, "blocks", err));
	for (int i = 0; i < n_blocks; i++) {
		r->blocks[i] = (struct df_embed_block)DF_EMBED_BLOCK_INIT;
		pl.batches[i] = &r->blocks[i];
	}
	for (int i = 0; i < r->n_threads; i++)
		DF_TRY(df_embed_lane_new(&r->lanes[i], r->embedder, err));
	DF_TRY(df_pipeline_run(&pl, err));
	tell_flaws(r);
	df_prog_count(r->rows_done - before, "rows");
	DF_TRY(df_writer_commit(r->out, NULL, err));
out:
	free(pl.batches);
	return rc;
}

static void
print_job(const struct run *r)
{
	const size_t width = df_embedder_width(r->embedder);
	const double bytes = (double)r->shard_rows * (double)(width * (r->cfg.store == DF_STORE_F32 ? 4 : 2) + 10);

	printf("rows         %" PRIu64 " in %" PRIu64 " blocks\n", r->shard_rows, r->end - r->begin);
	printf("numbers      %zu a row\n", width);
	printf("output       %.1f MiB\n", bytes / 1048576);
}

static void
close_run(struct run *r)
{
	for (int i = 0; r->blocks && i < r->n_threads + 2; i++)
		df_embed_block_release(&r->blocks[i]);
	free(r->blocks);
	for (int i = 0; r->lanes && i < r->n_threads; i++)
		df_embed_lane_free(r->lanes[i]);
	free(r->lanes);
	df_writer_close(r->out);
	df_embedder_close(r->embedder);
	df_backend_close(r->be);
	df_embed_source_close(r->source);
	df_meta_release(&r->meta);
}

int
main(int argc, char **argv)
{
	static struct run r = { .cfg = CFG_DEFAULT, .meta = DF_META_INIT };
	const struct df_opt opts[] = OPTS(&r.cfg);
	struct df_opt_result args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-embed");
	df_prog_parse(opts, synopsis, about, &r.cfg.common, argc, argv, &args);
	r.n_threads = r.cfg.common.threads ? (int)r.cfg.common.threads : df_threads_default();
	rc = check_usage(&r.cfg, &args, &err);
	if (!rc)
		rc = open_source(&r, &args.operands, &err);
	if (!rc)
		rc = open_embedder(&r, &err);
	if (!rc) {
		df_shard_range(r.cfg.shard, df_embed_source_blocks(r.source), &r.begin, &r.end);
		r.shard_rows = df_embed_source_rows(r.source, r.begin, r.end);
	}
	if (!rc && r.cfg.dry_run) {
		print_job(&r);
	} else if (!rc) {
		rc = open_writer(&r, &err);
		if (!rc)
			rc = run_pipeline(&r, &err);
	}
	close_run(&r);
	df_opt_result_release(&args);
	return df_prog_exit(rc, &err);
}
