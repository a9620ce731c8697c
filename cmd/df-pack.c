/*
 * df-pack - turn datasets into token shards.
 *
 * Two passes: one that checks and counts every row and draws the held out
 * ones, one that encodes.  Rows go to up to two outputs, the pool and the
 * held out rows, and both appear together at the end.  A third one has the
 * pool's rows without their prompts; they are encoded in a pass of their own.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/pool.h"
#include "chat/chat.h"
#include "data/corpus.h"
#include "data/corpus_note.h"
#include "data/packed.h"
#include "data/provenance.h"
#include "prog.h"
#include "shard/options.h"
#include "show/show.h"

static const char synopsis[] = "[options] --dataset NAMES --tokenizer TOK [--template T] -o FILE";
static const char about[] = "Turn datasets into token shards: apply templates, mask prompts, cut to length.";

static const char *const stages[] = { "sft", "pt", NULL };
static const char *const compressions[] = { DF_COMPRESS_NAMES, NULL };
static const char *const mixes[] = { DF_MIX_NAMES, NULL };
static const char *const thinking[] = { "true", "false", "null", NULL }; /* as enum df_thinking */

#define SFT_BATCH 1000 /* preprocessing_batch_size: the examples among which --packing chooses, unless told */

struct cfg {
	const char *dataset_dir, *dataset, *eval_dataset, *output, *holdout_output, *no_prompt;
	int stage, compress, mix, thinking;
	int64_t cutoff_len, max_samples, seed, pack_batch, pack_shards, show_example;
	bool packing, packing_given, neat_packing, list_templates, list_datasets, show_given, openai_quirk;
	struct df_strlist holdout;
	struct df_prog_common common;
};

static struct {
	struct df_corpus corpus;
	struct df_chat_opts how;
	struct df_chat chat;
	struct df_meta meta;
	struct df_packed *pool, *held, *no_prompt; /* NULL: not wanted */
} run = { .corpus = DF_CORPUS_INIT, .how = { .need_template = true }, .meta = DF_META_INIT };

/* clang-format off */
static struct cfg cfg = { .dataset_dir = "data", .cutoff_len = 2048, .seed = 42, .pack_shards = 1, .packing = true,
	.openai_quirk = true, .show_example = -1, .common = DF_PROG_COMMON_DEFAULT };

static const struct df_opt options[] = {
	{ .type = DF_OPT_GROUP, .help = "What to read" },
	{ .name = "dataset-dir", .type = DF_OPT_STR, .value = &cfg.dataset_dir, .arg = "DIR", .file = DF_FILE_READ,
	    .help = "directory of dataset_info.json" },
	{ .name = "dataset", .type = DF_OPT_STR, .value = &cfg.dataset, .arg = "NAMES",
	    .help = "datasets in dataset_info.json, comma-separated" },
	{ .name = "list-datasets", .type = DF_OPT_FLAG, .value = &cfg.list_datasets,
	    .help = "print the datasets that are there and exit" },
	{ .name = "max-samples", .type = DF_OPT_INT, .value = &cfg.max_samples, .arg = "N", .min = 0, .max = 1e15,
	    .help = "take the first N rows of each dataset (0: all)" },
	{ .name = "mix-strategy", .type = DF_OPT_CHOICE, .value = &cfg.mix, .choices = mixes, .arg = "HOW",
	    .help = "whose row is next" },
	{ .name = "interleave-probs", .type = DF_OPT_STR, .value = &run.corpus.probs, .arg = "P,P...",
	    .help = "draw the datasets with these probabilities" },
	{ .type = DF_OPT_GROUP, .help = "How to encode" },
	{ .name = "tokenizer", .type = DF_OPT_STR, .value = &run.how.tokenizer, .arg = "TOK", .file = DF_FILE_READ_ANY,
	    .choices = df_tokenizer_names, .help = "bytes, a tokenizer.json or a model directory" },
	{ .name = "template", .type = DF_OPT_STR, .value = &run.how.template, .arg = "NAME", .file = DF_FILE_READ_ANY,
	    .words = df_template_names, .help = "prompt template: a name, or a file of your own" },
	{ .name = "list-templates", .type = DF_OPT_FLAG, .value = &cfg.list_templates,
	    .help = "print the templates and exit" },
	{ .name = "default-system", .type = DF_OPT_STR, .value = &run.how.encode.default_system, .arg = "TEXT",
	    .help = "system text of rows without one" },
	{ .name = "tool-format", .type = DF_OPT_STR, .value = &run.how.encode.tool_format, .arg = "NAME",
	    .words = df_tool_format_names, .help = "how tools and their calls are written" },
	{ .name = "date", .type = DF_OPT_STR, .value = &run.how.encode.date, .arg = "YYYY-MM-DD",
	    .help = "today, where a prompt for tools says it (llama3)" },
	{ .name = "enable-thinking", .type = DF_OPT_CHOICE, .value = &cfg.thinking, .choices = thinking,
	    .help = "thoughts of reasoning models" },
	{ .name = "preserve-thinking", .type = DF_OPT_FLAG, .value = &run.how.encode.preserve_thinking,
	    .help = "with --mask-history: earlier answers keep theirs" },
	{ .name = "openai-quirk", .type = DF_OPT_FLAG, .value = &cfg.openai_quirk,
	    .help = "LLaMA-Factory's system text of openai rows" },
	{ .name = "cutoff-len", .type = DF_OPT_INT, .value = &cfg.cutoff_len, .arg = "N", .min = 2, .max = 1 << 30,
	    .help = "the most tokens of a row" },
	{ .name = "stage", .type = DF_OPT_CHOICE, .value = &cfg.stage, .choices = stages,
	    .help = "instruction tuning or pretraining" },
	{ .name = "train-on-prompt", .type = DF_OPT_FLAG, .value = &run.how.encode.train_on_prompt,
	    .help = "questions are targets too" },
	{ .name = "mask-history", .type = DF_OPT_FLAG, .value = &run.how.encode.mask_history,
	    .help = "only the last answer of a conversation is a target" },
	{ .name = "split-special-tokens", .type = DF_OPT_FLAG, .value = &run.how.encode.split_special,
	    .help = "names of special tokens are plain text" },
	{ .type = DF_OPT_GROUP, .help = "Packing" },
	{ .name = "packing", .type = DF_OPT_FLAG, .value = &cfg.packing, .given = &cfg.packing_given,
	    .help = "cut documents into blocks, pack examples" },
	{ .name = "neat-packing", .type = DF_OPT_FLAG, .value = &cfg.neat_packing,
	    .help = "sft: packs whose examples do not see each other" },
	{ .name = "pack-batch", .type = DF_OPT_INT, .value = &cfg.pack_batch, .arg = "N", .min = 0, .max = 1e15,
	    .help = "pack N rows at a time (pt: lose the tails)" },
	{ .name = "pack-shards", .type = DF_OPT_INT, .value = &cfg.pack_shards, .arg = "N", .min = 1, .max = 1e6,
	    .help = "preprocessing_num_workers of LLaMA-Factory" },
	{ .type = DF_OPT_GROUP, .help = "What to write" },
	{ .name = "output", .short_name = 'o', .type = DF_OPT_STR, .value = &cfg.output, .arg = "FILE", .file = DF_FILE_WRITE,
	    .help = "the token shard; - for a stream" },
	{ .name = "holdout", .type = DF_OPT_LIST, .value = &cfg.holdout, .arg = "NAME=N",
	    .help = "hold out N rows or a fraction: mine=0.1; repeatable" },
	{ .name = "val-size", .type = DF_OPT_DOUBLE, .value = &run.corpus.val_size, .arg = "N", .min = 0, .max = 1e15,
	    .help = "hold out N rows or a fraction of all datasets" },
	{ .name = "eval-dataset", .type = DF_OPT_STR, .value = &cfg.eval_dataset, .arg = "NAMES",
	    .help = "hold out all of these datasets" },
	{ .name = "holdout-output", .type = DF_OPT_STR, .value = &cfg.holdout_output, .arg = "FILE", .file = DF_FILE_WRITE,
	    .help = "where the held out rows go" },
	{ .name = "no-prompt", .type = DF_OPT_STR, .value = &cfg.no_prompt, .arg = "FILE", .file = DF_FILE_WRITE,
	    .help = "the rows again without their prompts, for ifd" },
	{ .name = "seed", .type = DF_OPT_INT, .value = &cfg.seed, .arg = "N", .min = 0, .max = 9e15,
	    .help = "of held out rows, num_samples and mixing" },
	{ .name = "compress", .type = DF_OPT_CHOICE, .value = &cfg.compress, .choices = compressions,
	    .help = "compression of the output" },
	{ .name = "show-example", .type = DF_OPT_INT, .value = &cfg.show_example, .arg = "N", .min = 0, .max = 1e15,
	    .given = &cfg.show_given, .help = "print row N: text, ids, targets; -o may be left out" },
	DF_PROG_OPTS(&cfg.common),
	DF_OPT_END,
};
/* clang-format on */

static bool
is_packing(void)
{
	return cfg.stage == DF_STAGE_PT ? cfg.packing : cfg.neat_packing || (cfg.packing_given && cfg.packing);
}

static bool
holds_out(void)
{
	return cfg.holdout.n > 0 || run.corpus.val_size > 0 || cfg.eval_dataset;
}

static int
check_usage(const struct df_opt_result *args, struct df_err *err)
{
	const bool pt = cfg.stage == DF_STAGE_PT, held = holds_out(), no_packing = cfg.packing_given && !cfg.packing;
	/* clang-format off */
	const struct { bool is; const char *why; } wrong[] = {
		{ !cfg.dataset, "--dataset is missing" },
		{ !run.how.tokenizer, "--tokenizer is missing: 'bytes', a tokenizer.json or a model directory" },
		{ !cfg.output && !cfg.show_given, "-o is missing" },
		{ cfg.show_given && cfg.output && strcmp(cfg.output, "-") == 0,
		    "--show-example and -o - would both write to standard output" },
		{ held && cfg.output && !cfg.holdout_output, "--holdout, --val-size and --eval-dataset need --holdout-output" },
		{ cfg.holdout_output && !held, "--holdout-output needs --holdout, --val-size or --eval-dataset" },
		{ cfg.holdout_output && !cfg.output, "--holdout-output needs -o" },
		{ cfg.no_prompt && !cfg.output, "--no-prompt needs -o" },
		{ cfg.no_prompt && strcmp(cfg.no_prompt, "-") == 0, "--no-prompt needs a file" },
		{ cfg.no_prompt && (pt || is_packing()), "--no-prompt is for --stage sft without packing" },
		{ cfg.no_prompt && run.how.encode.train_on_prompt,
		    "--no-prompt and --train-on-prompt exclude each other" },
		{ pt && cfg.neat_packing, "--neat-packing is for --stage sft" },
		{ no_packing && cfg.neat_packing, "--neat-packing and --no-packing exclude each other" },
		{ pt && cfg.pack_batch && !cfg.packing, "--pack-batch and --no-packing exclude each other" },
		{ cfg.pack_batch && !is_packing(), "--pack-batch needs --packing" } };
	/* clang-format on */

	if (args->operands.n > 0)
		return df_fail(err, DF_EUSAGE, "'%s': datasets are named with --dataset", args->operands.v[0]);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (wrong[i].is)
			return df_fail(err, DF_EUSAGE, "%s", wrong[i].why);
	return 0;
}

/* Every option that shapes the rows, and where they come from; in this order, which is part of what is written. */
static int
fill_meta(struct df_meta *m, struct df_err *err)
{
	const struct df_template *t = run.chat.template;
	int rc;

	m->kind = DF_KIND_TOKENS;
	DF_TRY(df_meta_set_tool(m, "df-pack", err));
	DF_TRY(df_corpus_note_sources(&run.corpus, m, err));
	DF_TRY(df_meta_add_input(m, "tokenizer", "tokenizer", df_tokenizer_id(run.chat.tok), err));
	DF_TRY(df_meta_set_opts(m, options, "stage", err));
	DF_TRY(df_tokens_note(m, run.chat.tok, err));
	DF_TRY(df_tokens_note_template(m, t, err));
	DF_TRY(df_meta_set_opts(m, options, "default-system tool-format date", err));
	if (t->reasoning)
		DF_TRY(df_meta_set_opts(m, options, "enable-thinking preserve-thinking", err));
	if (!cfg.openai_quirk)
		DF_TRY(df_meta_set_opts(m, options, "openai-quirk", err));
	DF_TRY(df_meta_set_opts(m, options, "cutoff-len train-on-prompt mask-history split-special-tokens", err));
	DF_TRY(df_meta_set_bool(m, "packing", is_packing(), err));
	if (cfg.stage == DF_STAGE_SFT)
		DF_TRY(df_meta_set_opts(m, options, "neat-packing", err));
	if (cfg.pack_batch) {
		DF_TRY(df_meta_set_opts(m, options, "pack-batch pack-shards", err));
		if (cfg.stage == DF_STAGE_PT)
			DF_TRY(df_meta_set_bool(m, "packing_explicit", cfg.packing_given, err));
	}
	DF_TRY(df_corpus_note_num_samples(&run.corpus, m, err));
	DF_TRY(df_meta_set_opts(
	    m, options, "max-samples? mix-strategy interleave-probs val-size eval-dataset holdout seed", err));
	DF_TRY(df_corpus_note_rows(&run.corpus, m, err));
out:
	return rc;
}

static int
open_corpus(struct df_err *err)
{
	const bool packs = cfg.stage == DF_STAGE_SFT && is_packing();
	struct df_encode_opts *e = &run.how.encode;
	struct df_corpus *c = &run.corpus;
	int rc;

	if (packs && cfg.pack_batch == 0)
		cfg.pack_batch = SFT_BATCH;
	e->stage = (enum df_data_stage)cfg.stage;
	e->cutoff_len = (uint32_t)cfg.cutoff_len - packs; /* as LLaMA-Factory has it: see packed.c */
	e->packing = cfg.stage == DF_STAGE_PT && cfg.packing;
	e->thinking = (enum df_thinking)cfg.thinking;
	c->max_samples = cfg.max_samples ? (uint64_t)cfg.max_samples : UINT64_MAX;
	c->mix = (enum df_mix)cfg.mix;
	c->no_openai_quirk = !cfg.openai_quirk;
	c->seed = (uint64_t)cfg.seed;
	c->n_threads = cfg.common.threads ? (int)cfg.common.threads : df_threads_default();
	DF_TRY(df_corpus_open(c, cfg.dataset_dir, cfg.dataset, cfg.eval_dataset, e->stage, err));
	for (size_t i = 0; i < cfg.holdout.n; i++)
		DF_TRY(df_corpus_hold_out(c, cfg.holdout.v[i], err));
	DF_TRY(df_chat_open(&run.chat, &run.how, err));
	DF_TRY(df_corpus_survey(c, run.chat.enc, err));
	rc = fill_meta(&run.meta, err);
out:
	return rc;
}

/* Print row --show-example. */
static int
look(void *ctx, const struct df_block *b, struct df_err *err)
{
	const struct df_row_view view = { b->ids, b->position, b->mask, b->n };
	const uint64_t row = df_packed_rows(run.pool);
	struct df_buf text = DF_BUF_INIT;
	int rc;

	(void)ctx;
	if (row != (uint64_t)cfg.show_example)
		return 0;
	DF_TRY(df_preview_row(run.chat.tok, &view, row, run.meta.domains[b->domain], b->source_row, &text, err));
	rc = df_prog_print(&text, err);
out:
	df_buf_release(&text);
	return rc;
}

static int
open_outputs(struct df_err *err)
{
	struct df_packed_opts o = { .stage = (enum df_data_stage)cfg.stage,
		.cutoff_len = (uint32_t)cfg.cutoff_len,
		.packing = is_packing(),
		.asked_for = cfg.packing_given,
		.neat = cfg.neat_packing,
		.batch_rows = (uint64_t)cfg.pack_batch,
		.n_shards = (uint64_t)cfg.pack_shards,
		.writer = { .compress = (enum df_compress)cfg.compress },
		.look = cfg.show_given ? look : NULL };
	int rc;

	DF_TRY(df_packed_open(&run.pool, cfg.output, false, &run.corpus, run.chat.tok, &run.meta, &o, err));
	o.look = NULL;
	if (holds_out())
		DF_TRY(
		    df_packed_open(&run.held, cfg.holdout_output, true, &run.corpus, run.chat.tok, &run.meta, &o, err));
	if (cfg.no_prompt) {
		DF_TRY(df_meta_set_bool(&run.meta, "no_prompt", true, err));
		DF_TRY(df_packed_open(
		    &run.no_prompt, cfg.no_prompt, false, &run.corpus, run.chat.tok, &run.meta, &o, err));
	}
out:
	return rc;
}

/* An encoded example or document. */
static int
take_row(void *ctx, const struct df_encoded_row *row, struct df_err *err)
{
	int rc = df_packed_add(row->held_out ? run.held : run.pool, row, err);

	(void)ctx;
	/* Without an output, what was to be shown is all there is to do. */
	return rc == 0 && !cfg.output && df_packed_rows(run.pool) > (uint64_t)cfg.show_example ? 1 : rc;
}

static int
pack(struct df_err *err)
{
	int rc;

	DF_TRY(open_corpus(err));
	DF_TRY(open_outputs(err));
	if (run.no_prompt)
		DF_TRY(df_packed_add_answers(
		    run.no_prompt, &run.corpus, run.chat.template, run.chat.tok, &run.how.encode, err));
	DF_TRY(df_corpus_encode(&run.corpus, run.chat.enc, take_row, NULL, err));
	DF_TRY(df_packed_end(run.pool, err));
	if (cfg.show_given && df_packed_rows(run.pool) <= (uint64_t)cfg.show_example) {
		rc = df_fail(err, DF_EUSAGE, "--show-example %" PRId64 ": there are only %" PRIu64 " rows",
		    cfg.show_example, df_packed_rows(run.pool));
		goto out;
	}
	if (!cfg.output)
		goto out;
	if (run.held)
		DF_TRY(df_packed_end(run.held, err));
	df_corpus_report(&run.corpus);
	DF_TRY(df_packed_commit(run.pool, run.held, run.no_prompt, err));
	df_prog_count(df_packed_rows(run.pool) + (run.held ? df_packed_rows(run.held) : 0), "rows");
out:
	return rc;
}

static int
print_list(struct df_err *err)
{
	struct df_buf text = DF_BUF_INIT;
	int rc = DF_OK;

	if (cfg.list_templates)
		df_template_list(&text);
	else
		DF_TRY(df_dataset_info_list(cfg.dataset_dir, &text, err));
	rc = df_prog_print(&text, err);
out:
	df_buf_release(&text);
	return rc;
}

int
main(int argc, char **argv)
{
	struct df_opt_result args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-pack");
	df_prog_parse(options, synopsis, about, &cfg.common, argc, argv, &args);
	if (cfg.list_templates || cfg.list_datasets)
		rc = print_list(&err);
	else if ((rc = check_usage(&args, &err)) == 0)
		rc = pack(&err);
	df_packed_close(run.pool);
	df_packed_close(run.held);
	df_packed_close(run.no_prompt);
	df_chat_close(&run.chat);
	df_corpus_close(&run.corpus);
	df_meta_release(&run.meta);
	free(cfg.holdout.v);
	df_opt_result_release(&args);
	return df_prog_exit(rc, &err);
}
