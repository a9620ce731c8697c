/*
 * df-sample - completions of prompts: greedy or drawn, many at once.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "prog.h"
#include "sample/generate.h"
#include "sample/prompts.h"
#include "shard/shard.h"
#include "show/show.h"

static const char synopsis[] = "[options] -m MODEL {TOKENS... | --dataset NAMES | --prompts FILE} [-o FILE]";
static const char about[] = "Generate completions of prompts, greedily or by chance.";

static const char *const compressions[] = { DF_COMPRESS_NAMES, NULL };
static const char *const thinking[] = { "true", "false", "null", NULL };

struct cfg {
	const char *model, *base, *tokenizer;
	const char *dataset_dir, *dataset, *prompts, *template, *default_system, *output, *json;
	int64_t max_samples, n, max_new, top_k, seed, slots;
	double temperature, top_p;
	bool whole, ignore_eos;
	int compress, thinking;
	struct df_strlist stop;
	struct df_shard_arg shard;
	struct df_prog_common common;
};
static struct cfg cfg = { .dataset_dir = "data",
	.n = 1,
	.max_new = 128,
	.top_p = 1,
	.seed = 42,
	.shard = { 0, 1 },
	.common = DF_PROG_COMMON_DEFAULT };

/* clang-format off */
static const struct df_opt options[] = {
	{ .type = DF_OPT_GROUP, .help = "Model" },
	{ .name = "model", .short_name = 'm', .type = DF_OPT_STR, .value = &cfg.model, .arg = "DIR", .file = DF_FILE_READ,
	    .help = "checkpoint, Hugging Face directory or PEFT adapter" },
	{ .name = "base", .type = DF_OPT_STR, .value = &cfg.base, .arg = "DIR", .file = DF_FILE_READ,
	    .help = "base model of an adapter, not the one it names" },
	{ .name = "tokenizer", .type = DF_OPT_STR, .value = &cfg.tokenizer, .arg = "TOK", .file = DF_FILE_READ_ANY,
	    .choices = df_tokenizer_names, .help = "bytes, or a path, not the model's own" },
	{ .type = DF_OPT_GROUP, .help = "Prompts" },
	{ .name = "dataset", .type = DF_OPT_STR, .value = &cfg.dataset, .arg = "NAMES",
	    .help = "rows of these datasets without their last answers" },
	{ .name = "dataset-dir", .type = DF_OPT_STR, .value = &cfg.dataset_dir, .arg = "DIR", .file = DF_FILE_READ,
	    .help = "directory of dataset_info.json" },
	{ .name = "prompts", .type = DF_OPT_STR, .value = &cfg.prompts, .arg = "FILE", .file = DF_FILE_READ,
	    .help = "texts: lines, or JSON lines (.jsonl)" },
	{ .name = "template", .type = DF_OPT_STR, .value = &cfg.template, .arg = "NAME", .file = DF_FILE_READ_ANY,
	    .words = df_template_names, .help = "prompt template of datasets and texts" },
	{ .name = "default-system", .type = DF_OPT_STR, .value = &cfg.default_system, .arg = "TEXT",
	    .help = "system text of prompts without one" },
	{ .name = "enable-thinking", .type = DF_OPT_CHOICE, .value = &cfg.thinking, .choices = thinking,
	    .help = "of reasoning templates, as df-pack's" },
	{ .name = "whole", .type = DF_OPT_FLAG, .value = &cfg.whole,
	    .help = "TOKENS: the whole row, not up to its first target" },
	{ .name = "max-samples", .type = DF_OPT_INT, .value = &cfg.max_samples, .arg = "N", .min = 0, .max = 1e15,
	    .help = "the first N rows of each input (0: all)" },
	{ .type = DF_OPT_GROUP, .help = "Sampling" },
	{ .name = "samples", .short_name = 'n', .type = DF_OPT_INT, .value = &cfg.n, .arg = "N", .min = 1, .max = 1 << 24,
	    .help = "completions of each prompt" },
	{ .name = "max-new-tokens", .type = DF_OPT_INT, .value = &cfg.max_new, .arg = "N", .min = 1, .max = 1 << 24,
	    .help = "most tokens of a completion" },
	{ .name = "temperature", .type = DF_OPT_DOUBLE, .value = &cfg.temperature, .arg = "T", .min = 0, .max = 1e6,
	    .help = "divide logits by T; 0 takes the likeliest token" },
	{ .name = "top-k", .type = DF_OPT_INT, .value = &cfg.top_k, .arg = "K", .min = 0, .max = INT32_MAX,
	    .help = "of the K likeliest tokens only (0: of all)" },
	{ .name = "top-p", .type = DF_OPT_DOUBLE, .value = &cfg.top_p, .arg = "P", .min = 1e-9, .max = 1,
	    .help = "of the likeliest that together reach P" },
	{ .name = "stop", .type = DF_OPT_LIST, .value = &cfg.stop, .arg = "TEXT",
	    .help = "end a completion before TEXT; repeatable" },
	{ .name = "ignore-eos", .type = DF_OPT_FLAG, .value = &cfg.ignore_eos,
	    .help = "go on behind a token that ends answers" },
	{ .name = "seed", .type = DF_OPT_INT, .value = &cfg.seed, .arg = "N", .min = 0, .max = 9e15,
	    .help = "seed of the draws" },
	{ .type = DF_OPT_GROUP, .help = "Work and output" },
	{ .name = "output", .short_name = 'o', .type = DF_OPT_STR, .value = &cfg.output, .arg = "FILE", .file = DF_FILE_WRITE,
	    .help = "completions as tokens; - for a stream" },
	{ .name = "json", .type = DF_OPT_STR, .value = &cfg.json, .arg = "FILE", .file = DF_FILE_WRITE,
	    .help = "as JSON lines; - (also without -o): print them" },
	{ .name = "shard", .type = DF_OPT_SHARD, .value = &cfg.shard, .arg = "I/N",
	    .help = "part I of N only; auto, auto/N: of a Slurm array" },
	{ .name = "slots", .type = DF_OPT_INT, .value = &cfg.slots, .arg = "N", .min = 0, .max = 1 << 20,
	    .help = "sequences at once (0: as memory allows)" },
	{ .name = "compress", .type = DF_OPT_CHOICE, .value = &cfg.compress, .choices = compressions,
	    .help = "compression of -o" },
	{ .type = DF_OPT_OPERANDS, .arg = "TOKENS", .file = DF_FILE_READ },
	DF_PROG_OPTS(&cfg.common),
	DF_OPT_END,
};
/* clang-format on */

#define BATCH_ROWS 16 /* what a kill may cost */

struct run {
	struct df_pool *pool;
	struct df_backend *backend;
	struct df_model *model;
	struct df_tokenizer *tok; /* may stay NULL: tokens to tokens */
	const struct df_template *template;
	struct df_encoder *enc;
	struct df_prompts prompts;
	struct df_ids eos;
	struct df_meta meta;
	uint64_t first, end; /* completions of the shard, of all prompts' */

	struct df_writer *out;
	uint64_t id[BATCH_ROWS], prompt[BATCH_ROWS], offsets[BATCH_ROWS + 1];
	uint32_t draw[BATCH_ROWS];
	uint16_t domain[BATCH_ROWS];
	struct df_encoded rows;
	size_t n_rows;

	FILE *text;
	struct df_atomic text_file;
	struct df_buf line;
	uint64_t n_tokens, n_cut;
};

static int
check_usage(const struct df_opt_result *args, struct df_err *err)
{
	const bool drawn = cfg.temperature > 0;

	if (!cfg.model)
		return df_fail(err, DF_EUSAGE, "-m DIR is missing: the model");
	if ((args->operands.n > 0) + (cfg.dataset != NULL) + (cfg.prompts != NULL) != 1)
		return df_fail(err, DF_EUSAGE,
		    "which prompts?  Name tokens made by df-pack, or --dataset, or --prompts, and one of them only");
	if (args->operands.n > 0 && (cfg.template || cfg.default_system))
		return df_fail(err, DF_EUSAGE, "--template and --default-system are for datasets and texts");
	if (cfg.prompts && cfg.default_system && !cfg.template)
		return df_fail(
		    err, DF_EUSAGE, "--default-system needs --template: without one, texts are taken as they are");
	if (args->operands.n == 0 && cfg.whole)
		return df_fail(err, DF_EUSAGE, "--whole is for tokens");
	if (!drawn && (cfg.top_k > 0 || cfg.top_p < 1))
		return df_fail(err, DF_EUSAGE,
		    "--top-k and --top-p need --temperature: greedy completions take the "
		    "likeliest token");
	if (!drawn && cfg.n > 1)
		return df_fail(
		    err, DF_EUSAGE, "--samples %" PRId64 " needs --temperature: greedy completions are alike", cfg.n);
	if (!cfg.output && !cfg.json)
		cfg.json = "-";
	if (cfg.output && cfg.json && strcmp(cfg.output, "-") == 0 && strcmp(cfg.json, "-") == 0)
		return df_fail(err, DF_EUSAGE, "-o - and --json - would both write to standard output");
	if (cfg.output && cfg.json && strcmp(cfg.output, cfg.json) == 0)
		return df_fail(err, DF_EUSAGE, "-o and --json are the same file, %s", cfg.json);
	return DF_OK;
}

/* ---- prompts -------------------------------------------------------------------- */

/* Tokens say which tokenizer made them; text is made of them by the same one only. */
static int
check_tokenizer(const struct run *r, const struct df_set *set, struct df_err *err)
{
	char *id = NULL;
	int rc = DF_OK;

	if (df_meta_get_str(df_set_meta(set), "tokenizer", &id) && strcmp(id, df_tokenizer_id(r->tok)) != 0)
		rc = df_fail(err, DF_ELINEAGE, "%s was made with tokenizer %s, not with %s (%s)", df_set_name(set), id,
		    df_tokenizer_path(r->tok), df_tokenizer_id(r->tok));
	free(id);
	return rc;
}

static int
from_tokens(struct run *r, const struct df_strlist *paths, struct df_err *err)
{
	const struct df_meta *m;
	struct df_set *set = NULL;
	int rc;

	DF_TRY(df_set_open(&set, DF_KIND_TOKENS, "prompts", paths->v, paths->n, err));
	if (r->tok) {
		DF_TRY(df_tokens_restore(r->tok, df_set_meta(set), err));
		DF_TRY(check_tokenizer(r, set, err));
	} else {
		DF_TRY(df_model_check_tokens(cfg.model, df_set_meta(set), df_set_name(set), err));
	}
	DF_TRY(df_prompts_tokens(&r->prompts, set, cfg.whole, (uint64_t)cfg.max_samples, err));
	m = df_set_meta(set);
	DF_TRY(df_tokens_copy_note(&r->meta, m, err));
	if (df_meta_input(m, "tokenizer"))
		DF_TRY(df_meta_add_input(&r->meta, "tokenizer", "tokenizer", df_meta_input(m, "tokenizer")->id, err));
	if (m->id[0])
		DF_TRY(df_meta_add_input(&r->meta, "prompts", df_kind_name(m->kind), m->id, err));
out:
	df_set_close(set);
	return rc;
}

static int
open_encoder(struct run *r, struct df_err *err)
{
	const struct df_encode_opts opts = { .stage = DF_STAGE_SFT,
		.cutoff_len = UINT32_MAX,
		.thinking = (enum df_thinking)cfg.thinking,
		.default_system = cfg.default_system };
	int rc;

	if (!cfg.template && cfg.prompts)
		return DF_OK;
	if (!cfg.template)
		df_warn("no --template is given; using 'empty', which adds nothing to the texts");
	DF_TRY(df_template_open(&r->template, cfg.template ? cfg.template : "empty", err));
	DF_TRY(df_encoder_new(&r->enc, r->template, r->tok, &opts, err));
	DF_TRY(df_meta_set_str(&r->meta, "template", r->template->name, err));
	DF_TRY(df_generate_eos_add(&r->eos, df_encoder_stops(r->enc)->v, df_encoder_stops(r->enc)->n, r->model, err));
out:
	return rc;
}

static int
open_prompts(struct run *r, const struct df_strlist *paths, struct df_err *err)
{
	const bool texts = paths->n == 0;
	int rc = DF_OK;

	if (texts || cfg.json || cfg.stop.n > 0 || cfg.tokenizer)
		DF_TRY(df_generate_tokenizer(&r->tok, cfg.tokenizer, cfg.model, r->model, err));
	if (texts) {
		DF_TRY(open_encoder(r, err));
		DF_TRY(df_meta_add_input(&r->meta, "tokenizer", "tokenizer", df_tokenizer_id(r->tok), err));
		DF_TRY(df_tokens_note(&r->meta, r->tok, err));
	}
	if (!texts)
		DF_TRY(from_tokens(r, paths, err));
	else if (cfg.dataset)
		DF_TRY(df_prompts_datasets(&r->prompts, cfg.dataset_dir, cfg.dataset, DF_STAGE_PROMPT, r->enc,
		    (uint64_t)cfg.max_samples, &r->meta, err));
	else
		DF_TRY(df_prompts_texts(
		    &r->prompts, cfg.prompts, r->enc, r->tok, (uint64_t)cfg.max_samples, &r->meta, err));
	if (!cfg.ignore_eos)
		DF_TRY(df_generate_eos(&r->eos, cfg.model, r->model, r->tok, err));
	else
		r->eos.n = 0;
out:
	return rc;
}

/* ---- outputs -------------------------------------------------------------------- */

static int
fill_meta(struct run *r, struct df_err *err)
{
	struct df_meta *m = &r->meta;
	struct df_buf list = DF_BUF_INIT;
	struct df_digest d;
	char hex[DF_DIGEST_HEX];
	int rc;

	m->kind = DF_KIND_COMPLETIONS;
	DF_TRY(df_meta_set_tool(m, "df-sample", err));
	DF_TRY(df_model_digest(r->model, &d, err));
	df_digest_hex(d, hex);
	DF_TRY(df_meta_add_input(m, "checkpoint", "checkpoint", hex, err));
	for (size_t i = 0; i < r->prompts.n_domains; i++)
		DF_TRY(df_meta_add_domain(m, r->prompts.domains[i], NULL, err));
	DF_TRY(df_meta_set_int(m, "samples", cfg.n, err));
	DF_TRY(df_meta_set_int(m, "max_new_tokens", cfg.max_new, err));
	DF_TRY(df_meta_set_double(m, "temperature", cfg.temperature, err));
	if (cfg.temperature > 0) {
		DF_TRY(df_meta_set_int(m, "top_k", cfg.top_k, err));
		DF_TRY(df_meta_set_double(m, "top_p", cfg.top_p, err));
		DF_TRY(df_meta_set_int(m, "seed", cfg.seed, err));
	}
	if (cfg.default_system)
		DF_TRY(df_meta_set_str(m, "default_system", cfg.default_system, err));
	if (cfg.thinking)
		DF_TRY(df_meta_set_str(m, "enable_thinking", thinking[cfg.thinking], err));
	if (cfg.whole)
		DF_TRY(df_meta_set_bool(m, "whole", true, err));
	if (cfg.max_samples)
		DF_TRY(df_meta_set_int(m, "max_samples", cfg.max_samples, err));
	for (size_t i = 0; i < r->eos.n; i++)
		df_buf_printf(&list, "%s%" PRIu32, i ? "," : "", r->eos.v[i]);
	df_buf_puts(&list, "");
	DF_TRY(df_buf_check(&list, err));
	DF_TRY(df_meta_set_str(m, "eos", list.data, err));
	for (size_t i = 0; i < cfg.stop.n; i++) {
		char key[32];

		snprintf(key, sizeof(key), "stop.%zu", i);
		DF_TRY(df_meta_set_str(m, key, cfg.stop.v[i], err));
	}
out:
	df_buf_release(&list);
	return rc;
}

static int
open_outputs(struct run *r, struct df_err *err)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_IDS, DF_COL_LABEL_MASK, DF_COL_PROMPT,
		DF_COL_DRAW };
	static const enum df_col cols_plain[] = { DF_COL_ID, DF_COL_IDS, DF_COL_LABEL_MASK, DF_COL_PROMPT,
		DF_COL_DRAW };
	static const size_t widths[DF_COL_COUNT] = { 0 };
	const bool stream = cfg.output && strcmp(cfg.output, "-") == 0, domains = r->prompts.n_domains > 0;
	/* Lines that were printed before a kill cannot be made again from the tokens that were kept. */
	const struct df_writer_opts opts = { .compress = (enum df_compress)cfg.compress,
		.resumable = !stream && !cfg.json };
	uint64_t first, end;
	char *path = NULL;
	int rc = DF_OK;

	df_shard_range(cfg.shard, r->prompts.n, &first, &end);
	r->first = first * (uint64_t)cfg.n;
	r->end = end * (uint64_t)cfg.n;
	if (cfg.output) {
		DF_TRY(fill_meta(r, err));
		if (!stream)
			DF_TRY(df_shard_name(&path, cfg.output, cfg.shard, err));
		DF_TRY(df_writer_open(&r->out, path ? path : cfg.output, &r->meta, domains ? cols : cols_plain,
		    sizeof(cols) / sizeof(cols[0]) - !domains, widths, &opts, err));
		r->first += df_writer_done_rows(r->out);
		if (df_writer_done_rows(r->out))
			df_info("%" PRIu64 " completions are done already: going on from there",
			    df_writer_done_rows(r->out));
	}
	if (cfg.json && strcmp(cfg.json, "-") != 0) {
		DF_TRY(df_atomic_open(&r->text_file, cfg.json, err));
		r->text = fopen(r->text_file.tmp, "we");
		if (!r->text)
			rc = df_fail(err, DF_ECREATE, "%s:", cfg.json);
	} else if (cfg.json) {
		r->text = stdout;
	}
out:
	free(path);
	return rc;
}

static int
flush_rows(struct run *r, struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;
	int rc = DF_OK;

	if (r->n_rows > 0) {
		b.n = r->n_rows;
		b.col[DF_COL_ID] = (struct df_column_data){ r->id, NULL, 1 };
		if (r->prompts.n_domains > 0)
			b.col[DF_COL_DOMAIN] = (struct df_column_data){ r->domain, NULL, 1 };
		b.col[DF_COL_IDS] = (struct df_column_data){ r->rows.ids.v, r->offsets, 1 };
		b.col[DF_COL_LABEL_MASK] = (struct df_column_data){ r->rows.mask, r->offsets, 1 };
		b.col[DF_COL_PROMPT] = (struct df_column_data){ r->prompt, NULL, 1 };
		b.col[DF_COL_DRAW] = (struct df_column_data){ r->draw, NULL, 1 };
		rc = df_writer_put(r->out, &b, err);
	}
	r->n_rows = 0;
	r->rows.ids.n = 0;
	return rc;
}

/* Prompt and completion as a row of tokens, the completion its targets. */
static int
put_row(struct run *r, const struct df_completion *c, struct df_err *err)
{
	const struct df_prompts *p = &r->prompts;
	const size_t n_prompt = (size_t)(p->offsets[c->prompt + 1] - p->offsets[c->prompt]), at = r->rows.ids.n;
	const size_t n = at + n_prompt + c->n;
	int rc;

	DF_TRY(df_grow(&r->rows.ids.v, &r->rows.ids.cap, n, sizeof(uint32_t), "completions", err));
	DF_TRY(df_grow(&r->rows.mask, &r->rows.cap_mask, n, 1, "completions", err));
	memcpy(r->rows.ids.v + at, p->ids + p->offsets[c->prompt], n_prompt * sizeof(uint32_t));
	memcpy(r->rows.ids.v + at + n_prompt, c->ids, c->n * sizeof(uint32_t));
	memset(r->rows.mask + at, 0, n_prompt);
	memset(r->rows.mask + at + n_prompt, 1, c->n);
	r->rows.ids.n = n;
	r->id[r->n_rows] = (uint64_t)c->prompt * (uint64_t)cfg.n + c->draw;
	r->prompt[r->n_rows] = p->id[c->prompt];
	r->draw[r->n_rows] = c->draw;
	r->domain[r->n_rows] = p->domain[c->prompt];
	r->offsets[++r->n_rows] = n;
	if (r->n_rows == BATCH_ROWS)
		rc = flush_rows(r, err);
out:
	return rc;
}

static int
put_line(struct run *r, const struct df_completion *c, struct df_err *err)
{
	const struct df_prompts *p = &r->prompts;
	struct df_buf *b = &r->line, prompt = DF_BUF_INIT;
	int rc;

	DF_TRY(df_generate_text(r->tok, p->ids + p->offsets[c->prompt],
	    (size_t)(p->offsets[c->prompt + 1] - p->offsets[c->prompt]), &prompt, err));
	df_buf_clear(b);
	df_buf_printf(b, "{\"id\": %" PRIu64 ", \"sample\": %" PRIu32, p->id[c->prompt], c->draw);
	if (p->n_domains > 0) {
		df_buf_puts(b, ", \"domain\": ");
		df_buf_json_str(b, p->domains[p->domain[c->prompt]]);
	}
	df_buf_puts(b, ", \"prompt\": ");
	df_buf_json_strn(b, prompt.data, prompt.len);
	df_buf_puts(b, ", \"completion\": ");
	df_buf_json_strn(b, c->text, c->n_text);
	if (p->answer[c->prompt]) {
		df_buf_puts(b, ", \"answer\": ");
		df_buf_json_str(b, p->answer[c->prompt]);
	}
	df_buf_printf(b, ", \"tokens\": %zu, \"finish\": \"%s\", \"logprob\": ", c->n, df_finish_name(c->finish));
	df_buf_json_double(b, c->logprob);
	df_buf_puts(b, "}\n");
	DF_TRY(df_buf_check(b, err));
	if (fwrite(b->data, 1, b->len, r->text) != b->len || (r->text == stdout && fflush(stdout) != 0))
		rc = df_fail(err, DF_EIO, "%s:", cfg.json);
out:
	df_buf_release(&prompt);
	return rc;
}

static int
put(void *ctx, const struct df_completion *c, struct df_err *err)
{
	struct run *r = ctx;
	int rc = DF_OK;

	if (r->out)
		DF_TRY(put_row(r, c, err));
	if (r->text)
		DF_TRY(put_line(r, c, err));
	r->n_tokens += c->n;
	r->n_cut += c->finish == DF_FINISH_LENGTH;
out:
	return rc;
}

/* ---- the run -------------------------------------------------------------------- */

static int
open_run(struct run *r, const struct df_strlist *paths, struct df_err *err)
{
	int rc;

	DF_TRY(df_pool_new(&r->pool, (int)cfg.common.threads, err));
	DF_TRY(df_backend_open(&r->backend, cfg.common.device, r->pool, err));
	DF_TRY(df_model_open(&r->model, cfg.model, cfg.base, r->backend, err));
	DF_TRY(open_prompts(r, paths, err));
	DF_TRY(open_outputs(r, err));
out:
	return rc;
}

static int
commit(struct run *r, struct df_err *err)
{
	int rc = DF_OK;

	if (r->out) {
		DF_TRY(flush_rows(r, err));
		DF_TRY(df_writer_finish(r->out, err));
	}
	if (r->text && r->text != stdout) {
		FILE *f = r->text;

		r->text = NULL;
		if (fclose(f) != 0) {
			rc = df_fail(err, DF_EIO, "%s:", cfg.json);
			goto out;
		}
		DF_TRY(df_atomic_commit(&r->text_file, err));
	}
	if (r->out)
		DF_TRY(df_writer_commit(r->out, NULL, err));
out:
	return rc;
}

static int
sample(struct run *r, struct df_err *err)
{
	const struct df_generate_opts o = { .warp = { cfg.temperature, (size_t)cfg.top_k, cfg.top_p },
		.seed = (uint64_t)cfg.seed,
		.n_samples = (uint32_t)cfg.n,
		.max_new = (size_t)cfg.max_new,
		.eos = r->eos.v,
		.n_eos = r->eos.n,
		.stop = cfg.stop.v,
		.n_stop = cfg.stop.n,
		.tok = cfg.json || cfg.stop.n > 0 ? r->tok : NULL,
		.n_slots = (size_t)cfg.slots,
		.first = r->first,
		.end = r->end,
		.progress = true };
	int rc;

	rc = df_generate(r->model, r->pool, &r->prompts, &o, put, r, err);
	if (rc == DF_ESTOPPED && r->out) {
		struct df_err late = DF_ERR_INIT;

		/* What is done is kept; if that fails, this is what there is to say. */
		if (flush_rows(r, &late) != DF_OK) {
			*err = late;
			rc = late.code;
		}
	}
	if (rc != DF_OK)
		goto out;
	DF_TRY(commit(r, err));
	df_info("%" PRIu64 " tokens; %" PRIu64 " of %" PRIu64 " completions reached --max-new-tokens", r->n_tokens,
	    r->n_cut, r->end - r->first);
	df_prog_count(r->end - r->first, "completions");
out:
	return rc;
}

static void
close_run(struct run *r)
{
	if (r->text && r->text != stdout)
		fclose(r->text);
	df_atomic_discard(&r->text_file);
	df_writer_close(r->out);
	df_encoded_release(&r->rows);
	df_buf_release(&r->line);
	df_ids_release(&r->eos);
	df_prompts_release(&r->prompts);
	df_encoder_free(r->enc);
	df_template_close(r->template);
	df_tokenizer_free(r->tok);
	df_model_free(r->model);
	df_backend_close(r->backend);
	df_pool_free(r->pool);
	df_meta_release(&r->meta);
	free(cfg.stop.v);
}

int
main(int argc, char **argv)
{
	static struct run r = { .meta = DF_META_INIT, .text_file = DF_ATOMIC_INIT };
	struct df_opt_result args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-sample");
	df_prog_parse(options, synopsis, about, &cfg.common, argc, argv, &args);
	rc = check_usage(&args, &err);
	if (rc == DF_OK)
		rc = open_run(&r, &args.operands, &err);
	if (rc == DF_OK)
		rc = sample(&r, &err);
	close_run(&r);
	df_opt_result_release(&args);
	return df_prog_exit(rc, &err);
}
