/*
 * df-embed - one vector per row, of tokens or texts.
 *
 *     read a block of rows | tokenise, forward, pool | write
 *
 * on all threads, a block each, or all of them on one where blocks are few (lib/embed).
 */
#include <inttypes.h>

#include "base/log.h"
#include "embed/job.h"
#include "prog.h"
#include "rows.h"

static const char synopsis[] = "[options] -m MODEL {FILE... | --dataset NAMES} -o FILE";
static const char about[] = "One vector per row, of tokens or texts, by an embedding model or any other.";

static const char *const forms[] = { DF_ROWTEXT_FORMS, NULL };
static const char *const stores[] = { DF_STORE_NAMES, NULL };

static struct {
	const char *model, *base, *tokenizer, *dataset_dir, *dataset, *rows, *column, *pooling, *prompt, *prompt_name,
	    *output;
	bool normalize, normalize_given, dry_run, column_given, form_given;
	int form, store, compress;
	int64_t layer, max_length, truncate_dim;
	struct df_shard_arg shard;
	struct df_prog_common common;
} cfg = { .dataset_dir = "data",
	.column = "text",
	.normalize = true,
	.layer = -1,
	.shard = { 0, 1 },
	.common = DF_PROG_COMMON_DEFAULT };

/* clang-format off */
static const struct df_opt options[] = {
	{ .type = DF_OPT_GROUP, .help = "What to read" },
	DF_PROG_DATASET_DIR(&cfg.dataset_dir, 0),
	DF_PROG_DATASET(&cfg.dataset),
	{ .name = "rows", .type = DF_OPT_STR, .value = &cfg.rows, .arg = "TOKENS", .file = DF_FILE_READ,
	    .help = "the rows that these tokens are made of, with their ids" },
	{ .name = "template", .type = DF_OPT_CHOICE, .value = &cfg.form, .choices = forms, .given = &cfg.form_given,
	    .help = "the text of a row: a column, or lines of an alpaca row" },
	{ .name = "column", .type = DF_OPT_STR, .value = &cfg.column, .arg = "NAME", .given = &cfg.column_given,
	    .help = "--template column: which" },
	{ .type = DF_OPT_GROUP, .help = "How to embed" },
	{ .name = "model", .short_name = 'm', .type = DF_OPT_STR, .value = &cfg.model, .arg = "DIR", .file = DF_FILE_READ,
	    .help = "sentence-transformers or model directory, or an adapter" },
	DF_PROG_BASE(&cfg.base, 0),
	{ .name = "tokenizer", .type = DF_OPT_STR, .value = &cfg.tokenizer, .arg = "TOK", .file = DF_FILE_READ_ANY,
	    .choices = df_tokenizer_names, .help = "bytes, a tokenizer.json or a directory, not the model's" },
	{ .name = "pooling", .type = DF_OPT_STR, .value = &cfg.pooling, .arg = "P",
	    .choices = df_pooling_names, .help = "mean, last, cls, position or position:N" },
	{ .name = "layer", .type = DF_OPT_INT, .value = &cfg.layer, .arg = "K", .min = -100000, .max = 100000,
	    .help = "hidden states after K layers; -1: the last" },
	{ .name = "normalize", .type = DF_OPT_FLAG, .value = &cfg.normalize, .given = &cfg.normalize_given,
	    .help = "vectors of length one" },
	{ .name = "prompt", .type = DF_OPT_STR, .value = &cfg.prompt, .arg = "TEXT",
	    .help = "put before each text" },
	{ .name = "prompt-name", .type = DF_OPT_STR, .value = &cfg.prompt_name, .arg = "NAME",
	    .help = "one of the model's prompts" },
	{ .name = "max-length", .type = DF_OPT_INT, .value = &cfg.max_length, .arg = "N", .min = 0, .max = 1e9,
	    .help = "the most tokens of a row (0: as the model says)" },
	{ .name = "truncate-dim", .type = DF_OPT_INT, .value = &cfg.truncate_dim, .arg = "N", .min = 0, .max = 1e9,
	    .help = "keep the first N numbers of a vector (0: all)" },
	{ .type = DF_OPT_GROUP, .help = "Work and output" },
	DF_PROG_OUTPUT(&cfg.output, 0, "where the vectors go; - for a stream"),
	{ .name = "dtype", .type = DF_OPT_CHOICE, .value = &cfg.store, .choices = stores,
	    .help = "how the file holds them" },
	DF_PROG_SHARD(&cfg.shard),
	DF_PROG_COMPRESS(&cfg.compress, "compression of the output"),
	{ .name = "dry-run", .short_name = 'n', .type = DF_OPT_FLAG, .value = &cfg.dry_run,
	    .help = "print what the job is, and exit" },
	{ .type = DF_OPT_OPERANDS, .arg = "FILE", .file = DF_FILE_READ },
	DF_PROG_OPTS(&cfg.common),
	DF_PROG_COMPUTE(&cfg.common),
	DF_OPT_END,
};
/* clang-format on */

static int
check_usage(const struct df_strlist *files, struct df_err *err)
{
	if (!cfg.model)
		return df_fail(err, DF_EUSAGE, "-m DIR is missing: the model");
	if (files->n == 0 && !cfg.dataset)
		return df_fail(err, DF_EUSAGE,
		    "what is to be embedded?  Name tokens that df-pack made, files of text, or a --dataset");
	if (files->n > 0 && cfg.dataset)
		return df_fail(err, DF_EUSAGE, "--dataset and files exclude each other");
	if (!cfg.output && !cfg.dry_run)
		return df_fail(err, DF_EUSAGE, "-o FILE is missing (- for a stream)");
	if (cfg.prompt && cfg.prompt_name)
		return df_fail(err, DF_EUSAGE, "--prompt and --prompt-name exclude each other");
	if (cfg.column_given && cfg.form != DF_ROWTEXT_COLUMN)
		return df_fail(err, DF_EUSAGE, "--column is for --template column");
	return DF_OK;
}

static int
open_source(struct df_embed_source **out, const struct df_strlist *files, struct df_err *err)
{
	const struct df_embed_source_opts o = { .paths = files->v,
		.n_paths = files->n,
		.dataset_dir = cfg.dataset_dir,
		.dataset = cfg.dataset,
		.form = (enum df_rowtext_form)cfg.form,
		.column = cfg.column,
		.rows = cfg.rows };
	int rc;

	DF_TRY(df_embed_source_open(out, &o, err));
	if (!df_embed_source_is_text(*out) && (cfg.form_given || cfg.column_given || cfg.tokenizer || cfg.rows))
		rc = df_fail(err, DF_EUSAGE,
		    "--rows, --template, --column and --tokenizer are for texts: tokens are as they are");
	else if (df_embed_source_is_stream(*out) && cfg.shard.n > 1)
		rc = df_fail(err, DF_EUSAGE, "--shard needs files: what a stream holds is not known before its end");
	else if (!df_embed_source_is_stream(*out) && !df_embed_source_blocks(*out))
		df_warn("%s: no rows", df_embed_source_name(*out));
out:
	return rc;
}

static int
open_embedder(struct df_embedder **out, bool texts, struct df_backend *be, struct df_err *err)
{
	struct df_embed_opts o = { .model = cfg.model,
		.base = cfg.base,
		.tokenizer = cfg.tokenizer,
		.texts = texts,
		.layer = cfg.layer,
		.normalise = cfg.normalize_given ? cfg.normalize : -1,
		.prompt = cfg.prompt,
		.prompt_name = cfg.prompt_name,
		.max_length = (uint64_t)cfg.max_length,
		.truncate_dim = (uint64_t)cfg.truncate_dim };
	int rc;

	if (cfg.pooling)
		DF_TRY(df_pooling_parse(cfg.pooling, &o.pooling, &o.position, err));
	rc = df_embedder_open(out, &o, be, err);
out:
	return rc;
}

static int
dry_run(const struct df_embed_job *job)
{
	struct df_embed_cost c;

	df_embed_job_estimate(job, &c);
	df_prog_row("rows", "%" PRIu64 " in %" PRIu64 " blocks", c.rows, c.blocks);
	df_prog_row("numbers", "%zu a row", c.width);
	df_prog_row("output", "%.1f MiB", c.out_bytes / 1048576);
	return DF_OK;
}

static int
run(const struct df_embed_job *job, const struct df_meta *meta, struct df_err *err)
{
	uint64_t n = 0;
	const int rc = df_embed_job_run(job, meta, &n, err);

	df_prog_count(n, "rows");
	return rc;
}

int
main(int argc, char **argv)
{
	struct df_env env = { 0 };
	struct df_embed_source *source = NULL;
	struct df_embedder *embedder = NULL;
	struct df_meta meta = DF_META_INIT;
	struct df_embed_job job;
	const struct df_opt_result *args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-embed");
	args = df_prog_parse(options, synopsis, about, &cfg.common, argc, argv);
	DF_TRY(check_usage(&args->operands, &err));
	DF_TRY(open_source(&source, &args->operands, &err));
	DF_TRY(df_prog_env(&env, &cfg.common, DF_ENV_LANES, &err));
	DF_TRY(open_embedder(&embedder, df_embed_source_is_text(source), env.be, &err));
	job = (struct df_embed_job){ .source = source,
		.embedder = embedder,
		.shard = cfg.shard,
		.output = cfg.output,
		.tool = "df-embed",
		.store = (enum df_store)cfg.store,
		.compress = (enum df_compress)cfg.compress,
		.n_threads = env.n_lanes };
	DF_TRY(df_embed_job_meta(&job, &meta, &err));
	rc = cfg.dry_run ? dry_run(&job) : run(&job, &meta, &err);
out:
	df_embedder_close(embedder);
	df_env_close(&env);
	df_embed_source_close(source);
	df_meta_release(&meta);
	return df_prog_exit(rc, &err);
}
