/*
 * df-pack - turn datasets into token shards.
 *
 * Two passes: one that checks and counts every row and draws the held out
 * ones, one that encodes.  Rows go to up to two outputs, the pool and the
 * held out rows, and both appear together at the end.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "prog.h"
#include "chat/encode.h"
#include "chat/template.h"
#include "data/corpus.h"
#include "data/pack.h"
#include "shard/shard.h"
#include "show/show.h"
#include "token/tokenizer.h"

static const char synopsis[] = "[options] --dataset NAME[,NAME...] --tokenizer TOK [--template NAME] -o FILE";
static const char about[] = "Turn datasets into token shards: apply templates, mask prompts, cut to length.";

static const char *const stages[] = { "sft", "pt", NULL };
static const char *const compressions[] = { DF_COMPRESS_NAMES, NULL };
static const char *const mixes[] = { DF_MIX_NAMES, NULL };

static const char *const thinking[] = { "true", "false", "null", NULL }; /* as enum df_thinking */

#define SFT_BATCH 1000 /* preprocessing_batch_size: the examples among which --packing chooses, unless told */

struct cfg {
	const char *dataset_dir, *dataset, *eval_dataset, *interleave_probs;
	const char *template, *tokenizer, *default_system, *tool_format, *date, *output, *holdout_output;
	int stage, compress, mix, thinking;
	int64_t cutoff_len, max_samples, seed, pack_batch, pack_shards, show_example;
	double val_size;
	bool train_on_prompt, mask_history, split_special_tokens, packing, packing_given, neat_packing;
	bool list_templates, list_datasets, show_given, preserve_thinking, openai_quirk;
	struct df_strlist holdout;
	struct df_prog_common common;
};
static struct cfg cfg = { .dataset_dir = "data",
	.cutoff_len = 2048,
	.seed = 42,
	.pack_shards = 1,
	.packing = true,
	.openai_quirk = true,
	.show_example = -1,
	.common = DF_PROG_COMMON_DEFAULT };

/* clang-format off */
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
	{ .name = "interleave-probs", .type = DF_OPT_STR, .value = &cfg.interleave_probs, .arg = "P,P...",
	    .help = "draw the datasets with these probabilities" },
	{ .type = DF_OPT_GROUP, .help = "How to encode" },
	{ .name = "tokenizer", .type = DF_OPT_STR, .value = &cfg.tokenizer, .arg = "TOK", .file = DF_FILE_READ_ANY,
	    .choices = df_tokenizer_names, .help = "bytes, a tokenizer.json or a model directory" },
	{ .name = "template", .type = DF_OPT_STR, .value = &cfg.template, .arg = "NAME", .file = DF_FILE_READ_ANY,
	    .words = df_template_names, .help = "prompt template: a name, or a file of your own" },
	{ .name = "list-templates", .type = DF_OPT_FLAG, .value = &cfg.list_templates,
	    .help = "print the templates and leave" },
	{ .name = "default-system", .type = DF_OPT_STR, .value = &cfg.default_system, .arg = "TEXT",
	    .help = "system text of rows without one" },
	{ .name = "tool-format", .type = DF_OPT_STR, .value = &cfg.tool_format, .arg = "NAME",
	    .words = df_tool_format_names, .help = "how tools and their calls are written" },
	{ .name = "date", .type = DF_OPT_STR, .value = &cfg.date, .arg = "YYYY-MM-DD",
	    .help = "today, where a prompt for tools says it (llama3)" },
	{ .name = "enable-thinking", .type = DF_OPT_CHOICE, .value = &cfg.thinking, .choices = thinking,
	    .help = "thoughts of reasoning models" },
	{ .name = "preserve-thinking", .type = DF_OPT_FLAG, .value = &cfg.preserve_thinking,
	    .help = "with --mask-history: earlier answers keep theirs" },
	{ .name = "openai-quirk", .type = DF_OPT_FLAG, .value = &cfg.openai_quirk,
	    .help = "LLaMA-Factory's system text of openai rows" },
	{ .name = "cutoff-len", .type = DF_OPT_INT, .value = &cfg.cutoff_len, .arg = "N", .min = 2, .max = 1 << 30,
	    .help = "the most tokens of a row" },
	{ .name = "stage", .type = DF_OPT_CHOICE, .value = &cfg.stage, .choices = stages,
	    .help = "instruction tuning or pretraining" },
	{ .name = "train-on-prompt", .type = DF_OPT_FLAG, .value = &cfg.train_on_prompt,
	    .help = "questions are targets too" },
	{ .name = "mask-history", .type = DF_OPT_FLAG, .value = &cfg.mask_history,
	    .help = "only the last answer of a conversation is a target" },
	{ .name = "split-special-tokens", .type = DF_OPT_FLAG, .value = &cfg.split_special_tokens,
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
	    .help = "hold out N rows, or a part: mine=0.1; repeatable" },
	{ .name = "val-size", .type = DF_OPT_DOUBLE, .value = &cfg.val_size, .arg = "N", .min = 0, .max = 1e15,
	    .help = "hold out N rows, or a part, of all datasets" },
	{ .name = "eval-dataset", .type = DF_OPT_STR, .value = &cfg.eval_dataset, .arg = "NAMES",
	    .help = "hold out all of these datasets" },
	{ .name = "holdout-output", .type = DF_OPT_STR, .value = &cfg.holdout_output, .arg = "FILE", .file = DF_FILE_WRITE,
	    .help = "where the held out rows go" },
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

/* ---- an output ---------------------------------------------------------- */

#define SINK_ROWS   1024
#define SINK_TOKENS ((size_t)1 << 20)

/* Rows on their way into an artefact; `id` counts from 0 in each. */
struct sink {
	struct df_writer *w; /* NULL: nothing is written (--show-example alone) */
	struct df_packer packer;
	uint64_t n_rows, n_tokens;
	uint64_t id[SINK_ROWS], source_row[SINK_ROWS], offsets[SINK_ROWS + 1];
	uint16_t domain[SINK_ROWS];
	size_t n;
	struct df_encoded rows;
	uint32_t *position, *sequence; /* as rows.ids, where the rows have them */
	size_t cap_position, cap_sequence;
	struct run *run;
	bool is_pool;
};

struct run {
	struct df_tokenizer *tok;
	const struct df_template *template;
	struct df_encoder *enc;
	struct df_corpus corpus;
	struct df_meta meta;
	struct sink *pool, *held; /* held NULL without a holdout */
};

static bool
is_packing(void)
{
	return cfg.stage == DF_STAGE_PT ? cfg.packing : cfg.neat_packing || (cfg.packing_given && cfg.packing);
}

static bool
holds_out(void)
{
	return cfg.holdout.n > 0 || cfg.val_size > 0 || cfg.eval_dataset;
}

static int
sink_flush(struct sink *s, struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;
	int rc = 0;

	if (s->n > 0 && s->w) {
		b.n = s->n;
		b.first = s->n_rows - s->n;
		b.col[DF_COL_ID] = (struct df_column_data){ s->id, NULL, 1 };
		b.col[DF_COL_DOMAIN] = (struct df_column_data){ s->domain, NULL, 1 };
		b.col[DF_COL_SOURCE_ROW] = (struct df_column_data){ s->source_row, NULL, 1 };
		b.col[DF_COL_IDS] = (struct df_column_data){ s->rows.ids.v, s->offsets, 1 };
		b.col[DF_COL_LABEL_MASK] = (struct df_column_data){ s->rows.mask, s->offsets, 1 };
		b.col[DF_COL_POSITION] = (struct df_column_data){ s->position, s->offsets, 1 };
		b.col[DF_COL_SEQUENCE] = (struct df_column_data){ s->sequence, s->offsets, 1 };
		rc = df_writer_put(s->w, &b, err);
	}
	s->n = 0;
	s->rows.ids.n = 0;
	return rc;
}

/* A row for eyes, as df-show --decode shows it. */
static int
show_row(const struct run *r, const struct df_block *b, uint64_t id, struct df_err *err)
{
	const struct df_row_view view = { b->ids, b->position, b->mask, b->n };
	struct df_buf text = DF_BUF_INIT;
	size_t n_targets = 0, n_examples = 0;
	int rc = 0;

	for (size_t i = 0; i < b->n; i++) {
		n_targets += b->mask[i] != 0;
		n_examples += b->position && b->position[i] == 0;
	}
	DF_TRY(df_decode_row(r->tok, &view, &text, err));
	DF_TRY(df_buf_check(&text, err));
	printf("row %" PRIu64 ": dataset %s, source row %" PRIu64 ", %zu tokens, %zu targets", id,
	    r->meta.domains[b->domain], b->source_row, b->n, n_targets);
	if (b->position)
		printf(", %zu examples", n_examples);
	putchar('\n');
	/* Not %s: a text may hold NUL. */
	fwrite(text.data, 1, text.len, stdout);
out:
	df_buf_release(&text);
	return rc;
}

static int
copy_column(uint32_t **to, size_t *cap, size_t at, const uint32_t *from, size_t n, struct df_err *err)
{
	int rc;

	if (from == NULL)
		return 0;
	if ((rc = df_grow(to, cap, at + n, sizeof(*from), "rows", err)) == 0)
		memcpy(*to + at, from, n * sizeof(*from));
	return rc;
}

/* A finished row, from the encoder or the packer. */
static int
sink_row(void *ctx, const struct df_block *b, struct df_err *err)
{
	struct sink *s = ctx;
	struct df_encoded *rows = &s->rows;
	int rc = 0;

	if (s->is_pool && cfg.show_given && s->n_rows == (uint64_t)cfg.show_example)
		DF_TRY(show_row(s->run, b, s->n_rows, err));
	DF_TRY(df_grow(&rows->ids.v, &rows->ids.cap, rows->ids.n + b->n, sizeof(*b->ids), "rows", err));
	DF_TRY(df_grow(&rows->mask, &rows->cap_mask, rows->ids.n + b->n, 1, "rows", err));
	DF_TRY(copy_column(&s->position, &s->cap_position, rows->ids.n, b->position, b->n, err));
	DF_TRY(copy_column(&s->sequence, &s->cap_sequence, rows->ids.n, b->sequence, b->n, err));
	memcpy(rows->ids.v + rows->ids.n, b->ids, b->n * sizeof(*b->ids));
	memcpy(rows->mask + rows->ids.n, b->mask, b->n);
	rows->ids.n += b->n;
	s->id[s->n] = s->n_rows++;
	s->source_row[s->n] = b->source_row;
	s->domain[s->n++] = b->domain;
	s->offsets[s->n] = rows->ids.n;
	s->n_tokens += b->n;
	if (s->n == SINK_ROWS || rows->ids.n >= SINK_TOKENS)
		DF_TRY(sink_flush(s, err));
out:
	return rc;
}

/* An encoded example or document. */
static int
take_row(void *ctx, const struct df_encoded_row *row, struct df_err *err)
{
	struct run *r = ctx;
	struct sink *s = row->held_out ? r->held : r->pool;
	const struct df_block b = { .ids = (uint32_t *)(uintptr_t)row->ids,
		.mask = (uint8_t *)(uintptr_t)row->mask,
		.n = row->n,
		.domain = row->domain,
		.source_row = row->source_row };
	int rc;

	if (is_packing()) {
		df_packer_skip(&s->packer, row->n_dropped);
		rc = df_packer_add(&s->packer, row->ids, row->mask, row->n, row->domain, row->source_row, err);
	} else {
		rc = sink_row(s, &b, err);
	}
	/* Without an output, what was to be shown is all there is to do. */
	if (rc == 0 && !cfg.output && r->pool->n_rows > (uint64_t)cfg.show_example)
		return 1;
	return rc;
}

static void
set_packer(struct sink *s)
{
	const struct run *r = s->run;
	struct df_packer *p = &s->packer;

	p->whole = cfg.stage == DF_STAGE_SFT;
	p->neat = cfg.neat_packing;
	/* LLaMA-Factory's `packing: true`, written out, makes blocks and packs one token shorter. */
	p->block = (uint32_t)cfg.cutoff_len - (p->whole || (cfg.pack_batch > 0 && cfg.packing_given));
	p->bos = df_tokenizer_add_bos(r->tok) ? df_tokenizer_bos(r->tok) : DF_NO_TOKEN;
	p->batch_rows = (uint64_t)cfg.pack_batch;
	p->n_shards = (uint64_t)cfg.pack_shards;
	p->emit = sink_row;
	p->ctx = s;
	for (size_t i = 0; i < r->corpus.n_parts; i++) {
		const struct df_part *x = &r->corpus.part[i];

		if (s->is_pool)
			p->n_rows += x->eval ? 0 : x->n_read - x->n_held;
		else
			p->n_rows += x->eval ? x->n_read : x->n_held;
	}
}

static int
sink_open(struct sink **out, struct run *r, const char *path, bool is_pool, struct df_err *err)
{
	enum df_col cols[7] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_SOURCE_ROW, DF_COL_IDS, DF_COL_LABEL_MASK };
	static const size_t widths[DF_COL_COUNT] = { 0 };
	const struct df_writer_opts opts = { .compress = (enum df_compress)cfg.compress };
	size_t n_cols = 5;
	uint64_t n_examples = 0;
	struct sink *s;
	int rc = 0;

	DF_TRY(df_alloc(&s, 1, sizeof(*s), "output", err));
	*out = s;
	s->run = r;
	s->is_pool = is_pool;
	set_packer(s);
	if (is_packing() && s->packer.whole) {
		cols[n_cols++] = DF_COL_POSITION;
		if (s->packer.neat)
			cols[n_cols++] = DF_COL_SEQUENCE;
		for (size_t i = 0; i < r->corpus.n_parts; i++) {
			const struct df_part *x = &r->corpus.part[i];

			n_examples += is_pool ? x->n_kept - x->n_held : x->n_held;
		}
		DF_TRY(df_meta_set_int(&r->meta, "examples", (int64_t)n_examples, err));
	}
	if (path) {
		DF_TRY(df_meta_set_str(&r->meta, "split", is_pool ? "pool" : "holdout", err));
		DF_TRY(df_writer_open(&s->w, path, &r->meta, cols, n_cols, widths, &opts, err));
	}
out:
	return rc;
}

static int
sink_end(struct sink *s, struct df_err *err)
{
	const struct df_packer *p = &s->packer;
	const bool packing = is_packing();
	int rc = 0;

	if (packing)
		DF_TRY(df_packer_end(&s->packer, err));
	DF_TRY(sink_flush(s, err));
	if (p->n_thrown)
		df_warn("%" PRIu64 " tokens at the ends of batches thrown away (--pack-batch), %" PRIu64
			" documents entirely",
		    p->n_thrown, p->n_lost);
	if (p->n_long)
		df_warn("%" PRIu64 " examples of more than %" PRIu32 " tokens dropped: no pack holds them", p->n_long,
		    p->block);
	if (s->n_rows == 0 && packing && !p->whole)
		rc = df_fail(
		    err, DF_EFORMAT, "the documents do not fill a single block of %" PRIu32 " tokens", p->block);
	else if (s->n_rows == 0)
		rc = df_fail(err, DF_EFORMAT, "no row is %s", s->is_pool ? "left" : "held out");
out:
	return rc;
}

static void
sink_close(struct sink *s)
{
	if (!s)
		return;
	df_writer_close(s->w);
	df_packer_release(&s->packer);
	df_encoded_release(&s->rows);
	free(s->position);
	free(s->sequence);
	free(s);
}

/* ---- the run ------------------------------------------------------------ */

static int
check_usage(const struct df_opt_result *args, struct df_err *err)
{
	if (args->operands.n > 0)
		return df_fail(err, DF_EUSAGE, "'%s': datasets are named with --dataset", args->operands.v[0]);
	if (!cfg.dataset)
		return df_fail(err, DF_EUSAGE, "--dataset is missing");
	if (!cfg.tokenizer)
		return df_fail(
		    err, DF_EUSAGE, "--tokenizer is missing: 'bytes', a tokenizer.json or a model directory");
	if (!cfg.output && !cfg.show_given)
		return df_fail(err, DF_EUSAGE, "-o is missing");
	if (cfg.show_given && cfg.output && strcmp(cfg.output, "-") == 0)
		return df_fail(err, DF_EUSAGE, "--show-example and -o - would both write to standard output");
	if (holds_out() && cfg.output && !cfg.holdout_output)
		return df_fail(err, DF_EUSAGE, "--holdout, --val-size and --eval-dataset need --holdout-output");
	if (cfg.holdout_output && !holds_out())
		return df_fail(err, DF_EUSAGE, "--holdout-output needs --holdout, --val-size or --eval-dataset");
	if (cfg.holdout_output && !cfg.output)
		return df_fail(err, DF_EUSAGE, "--holdout-output needs -o");
	if (cfg.stage == DF_STAGE_PT && cfg.neat_packing)
		return df_fail(err, DF_EUSAGE, "--neat-packing is for --stage sft");
	if (cfg.neat_packing && cfg.packing_given && !cfg.packing)
		return df_fail(err, DF_EUSAGE, "--neat-packing and --no-packing exclude each other");
	if (cfg.pack_batch && !is_packing())
		return df_fail(err, DF_EUSAGE,
		    cfg.stage == DF_STAGE_PT ? "--pack-batch and --no-packing exclude each other"
					     : "--pack-batch needs --packing");
	return 0;
}

/* Every option that shapes the rows, and where they come from. */
static int
fill_meta(struct run *r, struct df_err *err)
{
	struct df_meta *m = &r->meta;
	struct df_buf holdout = DF_BUF_INIT, samples = DF_BUF_INIT;
	uint64_t dropped[DF_DROP_COUNT] = { 0 }, n_read = 0;
	char key[64], digest[DF_DIGEST_HEX];
	int rc = 0;

	m->kind = DF_KIND_TOKENS;
	DF_TRY(df_meta_set_tool(m, "df-pack", err));
	for (size_t i = 0; i < r->corpus.n_parts; i++) {
		const struct df_part *p = &r->corpus.part[i];

		/* A dataset that is evaluated on, too, is there already. */
		if (p->domain == m->n_domains) {
			DF_TRY(df_meta_add_input(m, df_dataset_name(p->ds), "source", df_dataset_id(p->ds), err));
			DF_TRY(df_meta_add_domain(m, df_dataset_name(p->ds), NULL, err));
			if (df_dataset_num_samples(p->ds))
				df_buf_printf(&samples, "%s%s=%" PRIu64, samples.len ? "," : "", df_dataset_name(p->ds),
				    df_dataset_num_samples(p->ds));
		}
		for (enum df_drop d = 0; d < DF_DROP_COUNT; d++)
			dropped[d] += p->dropped[d];
		n_read += p->n_read;
	}
	DF_TRY(df_meta_add_input(m, "tokenizer", "tokenizer", df_tokenizer_id(r->tok), err));
	DF_TRY(df_meta_set_str(m, "stage", stages[cfg.stage], err));
	DF_TRY(df_tokens_note(m, r->tok, err));
	DF_TRY(df_meta_set_str(m, "template", r->template->name, err));
	if (r->template->own) {
		DF_TRY(df_template_digest(r->template, digest, err));
		DF_TRY(df_meta_set_str(m, "template_digest", digest, err));
	}
	if (cfg.default_system)
		DF_TRY(df_meta_set_str(m, "default_system", cfg.default_system, err));
	if (cfg.tool_format)
		DF_TRY(df_meta_set_str(m, "tool_format", cfg.tool_format, err));
	if (cfg.date)
		DF_TRY(df_meta_set_str(m, "date", cfg.date, err));
	if (r->template->reasoning) {
		DF_TRY(df_meta_set_str(m, "enable_thinking", thinking[cfg.thinking], err));
		DF_TRY(df_meta_set_bool(m, "preserve_thinking", cfg.preserve_thinking, err));
	}
	if (!cfg.openai_quirk)
		DF_TRY(df_meta_set_bool(m, "openai_quirk", false, err));
	DF_TRY(df_meta_set_int(m, "cutoff_len", cfg.cutoff_len, err));
	DF_TRY(df_meta_set_bool(m, "train_on_prompt", cfg.train_on_prompt, err));
	DF_TRY(df_meta_set_bool(m, "mask_history", cfg.mask_history, err));
	DF_TRY(df_meta_set_bool(m, "split_special_tokens", cfg.split_special_tokens, err));
	DF_TRY(df_meta_set_bool(m, "packing", is_packing(), err));
	if (cfg.stage == DF_STAGE_SFT)
		DF_TRY(df_meta_set_bool(m, "neat_packing", cfg.neat_packing, err));
	if (cfg.pack_batch) {
		DF_TRY(df_meta_set_int(m, "pack_batch", cfg.pack_batch, err));
		DF_TRY(df_meta_set_int(m, "pack_shards", cfg.pack_shards, err));
		if (cfg.stage == DF_STAGE_PT)
			DF_TRY(df_meta_set_bool(m, "packing_explicit", cfg.packing_given, err));
	}
	DF_TRY(df_buf_check(&samples, err));
	if (samples.len > 0)
		DF_TRY(df_meta_set_str(m, "num_samples", samples.data, err));
	if (cfg.max_samples)
		DF_TRY(df_meta_set_int(m, "max_samples", cfg.max_samples, err));
	DF_TRY(df_meta_set_str(m, "mix_strategy", mixes[cfg.mix], err));
	if (cfg.interleave_probs)
		DF_TRY(df_meta_set_str(m, "interleave_probs", cfg.interleave_probs, err));
	DF_TRY(df_meta_set_double(m, "val_size", cfg.val_size, err));
	if (cfg.eval_dataset)
		DF_TRY(df_meta_set_str(m, "eval_dataset", cfg.eval_dataset, err));
	if (cfg.holdout.n > 0) {
		for (size_t i = 0; i < cfg.holdout.n; i++)
			df_buf_printf(&holdout, "%s%s", i ? "," : "", cfg.holdout.v[i]);
		DF_TRY(df_buf_check(&holdout, err));
		DF_TRY(df_meta_set_str(m, "holdout", holdout.data, err));
	}
	DF_TRY(df_meta_set_int(m, "seed", cfg.seed, err));
	DF_TRY(df_meta_set_int(m, "rows_read", (int64_t)n_read, err));
	for (enum df_drop d = DF_DROP_NONE + 1; d < DF_DROP_COUNT; d++)
		if (dropped[d]) {
			snprintf(key, sizeof(key), "dropped.%s", df_drop_name(d));
			DF_TRY(df_meta_set_int(m, key, (int64_t)dropped[d], err));
		}
out:
	df_buf_release(&holdout);
	df_buf_release(&samples);
	return rc;
}

static int
open_run(struct run *r, struct df_err *err)
{
	const bool packs = cfg.stage == DF_STAGE_SFT && is_packing();
	const struct df_encode_opts opts = {
		.stage = (enum df_stage)cfg.stage,
		.cutoff_len = (uint32_t)cfg.cutoff_len - packs, /* as LLaMA-Factory has it: see set_packer() */
		.train_on_prompt = cfg.train_on_prompt,
		.mask_history = cfg.mask_history,
		.split_special = cfg.split_special_tokens,
		.packing = cfg.stage == DF_STAGE_PT && cfg.packing,
		.default_system = cfg.default_system,
		.tool_format = cfg.tool_format,
		.date = cfg.date,
		.thinking = (enum df_thinking)cfg.thinking,
		.preserve_thinking = cfg.preserve_thinking,
	};
	int rc = 0;

	if (!cfg.template)
		df_warn("no --template is given; using 'empty', which adds nothing to the texts");
	DF_TRY(df_template_open(&r->template, cfg.template ? cfg.template : "empty", err));
	if (packs && cfg.pack_batch == 0)
		cfg.pack_batch = SFT_BATCH;
	if (cfg.max_samples)
		r->corpus.max_samples = (uint64_t)cfg.max_samples;
	r->corpus.mix = (enum df_mix)cfg.mix;
	r->corpus.probs = cfg.interleave_probs;
	r->corpus.val_size = cfg.val_size;
	r->corpus.no_openai_quirk = !cfg.openai_quirk;
	r->corpus.seed = (uint64_t)cfg.seed;
	r->corpus.n_threads = cfg.common.threads ? (int)cfg.common.threads : df_threads_default();
	DF_TRY(df_corpus_open(&r->corpus, cfg.dataset_dir, cfg.dataset, cfg.eval_dataset, opts.stage, err));
	for (size_t i = 0; i < cfg.holdout.n; i++)
		DF_TRY(df_corpus_hold_out(&r->corpus, cfg.holdout.v[i], err));
	DF_TRY(df_tokenizer_open(&r->tok, cfg.tokenizer, err));
	DF_TRY(df_encoder_new(&r->enc, r->template, r->tok, &opts, err));
	DF_TRY(df_corpus_survey(&r->corpus, r->enc, err));
	DF_TRY(fill_meta(r, err));
	DF_TRY(sink_open(&r->pool, r, cfg.output, true, err));
	if (holds_out())
		DF_TRY(sink_open(&r->held, r, cfg.holdout_output, false, err));
out:
	return rc;
}

/* One line per dataset, and what may surprise in training. */
static void
report(const struct run *r)
{
	for (size_t i = 0; i < r->corpus.n_parts; i++) {
		const struct df_part *p = &r->corpus.part[i];
		const char *name = df_dataset_name(p->ds);

		df_info("dataset '%s': %" PRIu64 " rows, %" PRIu64 " kept, %" PRIu64 " of them held out, %" PRIu64
			" tokens, %" PRIu64 " cut to length",
		    name, p->n_read, p->n_kept, p->n_held, p->n_tokens, p->n_truncated);
		for (enum df_unlearnt u = DF_UNLEARNT_NONE + 1; u < DF_UNLEARNT_COUNT; u++)
			if (p->unlearnt[u])
				df_warn("dataset '%s': %" PRIu64 " of %" PRIu64 " kept rows %s", name, p->unlearnt[u],
				    p->n_kept, df_unlearnt_about(u));
	}
}

static int
pack(struct run *r, struct df_err *err)
{
	int rc = 0;

	DF_TRY(df_corpus_encode(&r->corpus, r->enc, take_row, r, err));
	DF_TRY(sink_end(r->pool, err));
	if (cfg.show_given && r->pool->n_rows <= (uint64_t)cfg.show_example) {
		rc = df_fail(err, DF_EUSAGE, "--show-example %" PRId64 ": there are only %" PRIu64 " rows",
		    cfg.show_example, r->pool->n_rows);
		goto out;
	}
	if (!cfg.output)
		goto out;
	if (r->held)
		DF_TRY(sink_end(r->held, err));
	report(r);
	/* Both or none: what can fail comes first; and a pool is never there without its held out rows. */
	DF_TRY(df_writer_finish(r->pool->w, err));
	if (r->held) {
		DF_TRY(df_writer_finish(r->held->w, err));
		DF_TRY(df_writer_commit(r->held->w, NULL, err));
	}
	DF_TRY(df_writer_commit(r->pool->w, NULL, err));
	df_prog_count(r->pool->n_rows + (r->held ? r->held->n_rows : 0), "rows");
out:
	return rc;
}

static int
print_datasets(const char *dir, struct df_err *err)
{
	struct df_dataset_info *info = NULL;
	const char **names = NULL;
	int rc;

	DF_TRY(df_dataset_info_open(&info, dir, err));
	DF_TRY(df_dataset_info_names(info, &names, err));
	/* A name with a comma is none that --dataset could take; control characters are for no terminal. */
	for (size_t i = 0; names[i]; i++)
		if (!strpbrk(names[i], ",\n\r\t\x1b"))
			puts(names[i]);
out:
	free(names);
	df_dataset_info_free(info);
	return rc;
}

int
main(int argc, char **argv)
{
	static struct run r = { .corpus = DF_CORPUS_INIT, .meta = DF_META_INIT };
	struct df_opt_result args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-pack");
	df_prog_parse(options, synopsis, about, &cfg.common, argc, argv, &args);
	if (cfg.list_templates) {
		for (size_t i = 0; df_template_at(i); i++)
			printf("%-20s %s\n", df_template_at(i)->name, df_template_at(i)->about);
		rc = 0;
	} else if (cfg.list_datasets) {
		rc = print_datasets(cfg.dataset_dir, &err);
	} else {
		rc = check_usage(&args, &err);
		if (rc == 0)
			rc = open_run(&r, &err);
		if (rc == 0)
			rc = pack(&r, &err);
	}
	sink_close(r.pool);
	sink_close(r.held);
	df_encoder_free(r.enc);
	df_template_close(r.template);
	df_tokenizer_free(r.tok);
	df_corpus_close(&r.corpus);
	df_meta_release(&r.meta);
	free(cfg.holdout.v);
	df_opt_result_release(&args);
	return df_prog_exit(rc, &err);
}
