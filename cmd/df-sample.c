/*
 * df-sample - completions of prompts: greedy or drawn, many at once.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "chat/chat.h"
#include "prog.h"
#include "rows.h"
#include "sample/completion.h"
#include "shard/options.h"

static const char synopsis[] = "[options] -m MODEL {TOKENS... | --dataset NAMES | --prompts FILE} [-o FILE]";
static const char about[] = "Generate completions of prompts, greedily or by chance.";

static struct {
	struct df_env env;
	struct df_model *model;
	struct df_chat_opts how;
	struct df_chat chat; /* its tokenizer may stay NULL: tokens to tokens */
	struct df_prompts prompts;
	struct df_ids eos;
	struct df_generate_opts generate;
	struct df_meta meta;
	struct df_completions_opts where;
	struct df_completions *out;
} run = { .generate = { .warp = { .top_p = 1 }, .progress = true }, .meta = DF_META_INIT };

/* clang-format off */
static struct {
	const char *model, *base, *dataset_dir, *dataset, *prompts, *output, *json;
	int64_t max_samples, n, max_new, top_k, seed, slots;
	bool whole, ignore_eos;
	int compress, thinking;
	struct df_strlist stop;
	struct df_shard_arg shard;
	struct df_prog_common common;
} cfg = { .dataset_dir = "data", .n = 1, .max_new = 128, .seed = 42, .shard = { 0, 1 },
	.common = DF_PROG_COMMON_DEFAULT };

static const struct df_opt options[] = {
	{ .type = DF_OPT_GROUP, .help = "Model" },
	DF_PROG_MODEL(&cfg.model, &cfg.base, 0),
	DF_PROG_TOKENIZER(&run.how.tokenizer, 0),
	{ .type = DF_OPT_GROUP, .help = "Prompts" },
	{ .name = "dataset", .type = DF_OPT_STR, .value = &cfg.dataset, .arg = "NAMES",
	    .help = "rows of these datasets without their last answers" },
	DF_PROG_DATASET_DIR(&cfg.dataset_dir, 0),
	{ .name = "prompts", .type = DF_OPT_STR, .value = &cfg.prompts, .arg = "FILE", .file = DF_FILE_READ,
	    .help = "texts: lines, or JSON lines (.jsonl)" },
	{ .name = "template", .type = DF_OPT_STR, .value = &run.how.template, .arg = "NAME", .file = DF_FILE_READ_ANY,
	    .words = df_template_names, .help = "prompt template of datasets and texts" },
	{ .name = "default-system", .type = DF_OPT_STR, .value = &run.how.encode.default_system, .arg = "TEXT",
	    .help = "system text of prompts without one" },
	DF_PROG_THINKING(&cfg.thinking, 0, "of reasoning templates, as df-pack's"),
	{ .name = "whole", .type = DF_OPT_FLAG, .value = &cfg.whole,
	    .help = "TOKENS: the whole row, not up to its first target" },
	{ .name = "max-samples", .type = DF_OPT_INT, .value = &cfg.max_samples, .arg = "N", .min = 0, .max = 1e15,
	    .help = "the first N rows of each input (0: all)" },
	{ .type = DF_OPT_GROUP, .help = "Sampling" },
	{ .name = "samples", .short_name = 'n', .type = DF_OPT_INT, .value = &cfg.n, .arg = "N", .min = 1, .max = 1 << 24,
	    .help = "completions of each prompt" },
	{ .name = "max-new-tokens", .type = DF_OPT_INT, .value = &cfg.max_new, .arg = "N", .min = 1, .max = 1 << 24,
	    .help = "most tokens of a completion" },
	{ .name = "temperature", .type = DF_OPT_DOUBLE, .value = &run.generate.warp.temperature, .arg = "T", .min = 0, .max = 1e6,
	    .help = "divide logits by T; 0 takes the most likely token" },
	{ .name = "top-k", .type = DF_OPT_INT, .value = &cfg.top_k, .arg = "K", .min = 0, .max = INT32_MAX,
	    .help = "only the K most likely tokens (0: all)" },
	{ .name = "top-p", .type = DF_OPT_DOUBLE, .value = &run.generate.warp.top_p, .arg = "P", .min = 1e-9, .max = 1,
	    .help = "the fewest most likely tokens that reach P together" },
	{ .name = "stop", .type = DF_OPT_LIST, .value = &cfg.stop, .arg = "TEXT",
	    .help = "end a completion before TEXT; repeatable" },
	{ .name = "ignore-eos", .type = DF_OPT_FLAG, .value = &cfg.ignore_eos,
	    .help = "go on after a token that ends an answer" },
	{ .name = "seed", .type = DF_OPT_INT, .value = &cfg.seed, .arg = "N", .min = 0, .max = 9e15,
	    .help = "seed of the draws" },
	{ .type = DF_OPT_GROUP, .help = "Work and output" },
	DF_PROG_OUTPUT(&cfg.output, 0, "completions as tokens; - for a stream"),
	{ .name = "json", .type = DF_OPT_STR, .value = &cfg.json, .arg = "FILE", .file = DF_FILE_WRITE,
	    .help = "as JSON lines; - (also without -o): print them" },
	DF_PROG_SHARD(&cfg.shard),
	{ .name = "slots", .type = DF_OPT_INT, .value = &cfg.slots, .arg = "N", .min = 0, .max = 1 << 20,
	    .help = "sequences at once (0: as memory allows)" },
	DF_PROG_COMPRESS(&cfg.compress, "compression of -o"),
	{ .type = DF_OPT_OPERANDS, .arg = "TOKENS", .file = DF_FILE_READ },
	DF_PROG_OPTS(&cfg.common),
	DF_PROG_COMPUTE(&cfg.common),
	DF_OPT_END,
};
/* clang-format on */

static int
check_usage(const struct df_opt_result *args, struct df_err *err)
{
	const bool drawn = run.generate.warp.temperature > 0;

	if (!cfg.model)
		return df_fail(err, DF_EUSAGE, "-m DIR is missing: the model");
	if ((args->operands.n > 0) + (cfg.dataset != NULL) + (cfg.prompts != NULL) != 1)
		return df_fail(err, DF_EUSAGE,
		    "which prompts?  Name tokens made by df-pack, or --dataset, or --prompts, and one of them only");
	if (args->operands.n > 0 && (run.how.template || run.how.encode.default_system))
		return df_fail(err, DF_EUSAGE, "--template and --default-system are for datasets and texts");
	if (cfg.prompts && run.how.encode.default_system && !run.how.template)
		return df_fail(
		    err, DF_EUSAGE, "--default-system needs --template: without one, texts are taken as they are");
	if (args->operands.n == 0 && cfg.whole)
		return df_fail(err, DF_EUSAGE, "--whole is for tokens");
	if (!drawn && (cfg.top_k > 0 || run.generate.warp.top_p < 1))
		return df_fail(err, DF_EUSAGE,
		    "--top-k and --top-p need --temperature: greedy completions take the "
		    "most likely token");
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

/* Tokens to tokens need no tokenizer; but one that is there says which token ends an answer. */
static int
open_chat(bool texts, struct df_err *err)
{
	struct df_err none = DF_ERR_INIT;
	int rc;

	if (texts || cfg.json || cfg.stop.n > 0 || run.how.tokenizer)
		return df_chat_open(&run.chat, &run.how, err);
	rc = df_chat_open_tokenizer(&run.chat, &run.how, &none);
	if (rc == DF_EUSAGE)
		return DF_OK;
	if (rc != DF_OK)
		*err = none;
	return rc;
}

static int
open_prompts(const struct df_strlist *paths, struct df_err *err)
{
	const struct df_prompts_from from = { .tokens = paths,
		.whole = cfg.whole,
		.answers = cfg.json != NULL,
		.dataset_dir = cfg.dataset_dir,
		.dataset = cfg.dataset,
		.texts = cfg.prompts,
		.max_rows = (uint64_t)cfg.max_samples,
		.model = cfg.model,
		.chat = &run.chat,
		.eos = &run.eos };
	struct df_chat_opts *how = &run.how;
	int rc;

	how->dir = cfg.model;
	how->base_dir = df_model_dir(run.model);
	how->need_template = cfg.dataset != NULL;
	how->encode.stage = DF_STAGE_SFT;
	how->encode.cutoff_len = UINT32_MAX;
	how->encode.thinking = (enum df_thinking)cfg.thinking;
	DF_TRY(open_chat(paths->n == 0, err));
	DF_TRY(df_generate_eos(&run.eos, cfg.model, run.model, run.chat.tok, run.chat.enc, err));
	DF_TRY(df_prompts_read(&run.prompts, &from, &run.meta, err));
	if (cfg.ignore_eos)
		run.eos.n = 0;
out:
	return rc;
}

/* ---- completions ---------------------------------------------------------------- */

/* In this order, which is part of what is written. */
static int
fill_meta(struct df_meta *m, struct df_err *err)
{
	int rc;

	m->kind = DF_KIND_COMPLETIONS;
	DF_TRY(df_meta_set_tool(m, "df-sample", err));
	DF_TRY(df_model_to_meta(run.model, m, err));
	for (size_t i = 0; i < run.prompts.n_domains; i++)
		DF_TRY(df_meta_add_domain(m, run.prompts.domains[i], NULL, err));
	DF_TRY(df_meta_set_opts(m, options, "samples max-new-tokens temperature", err));
	if (run.generate.warp.temperature > 0)
		DF_TRY(df_meta_set_opts(m, options, "top-k top-p seed", err));
	DF_TRY(df_meta_set_opts(m, options, "default-system enable-thinking? whole? max-samples?", err));
	rc = df_completions_note_ends(m, &run.eos, &cfg.stop, err);
out:
	return rc;
}

static int
open_output(struct df_err *err)
{
	int rc = DF_OK;

	run.where = (struct df_completions_opts){ .rows = cfg.output,
		.lines = cfg.json,
		.shard = cfg.shard,
		.compress = (enum df_compress)cfg.compress,
		.meta = &run.meta,
		.prompts = &run.prompts,
		.tok = run.chat.tok,
		.n_samples = (uint32_t)cfg.n };
	if (cfg.output)
		DF_TRY(fill_meta(&run.meta, err));
	rc = df_completions_open(&run.out, &run.where, err);
out:
	return rc;
}

static int
generate(struct df_err *err)
{
	struct df_generate_opts *o = &run.generate;
	struct df_err late = DF_ERR_INIT;
	int rc;

	o->warp.top_k = (size_t)cfg.top_k;
	o->seed = (uint64_t)cfg.seed;
	o->n_samples = (uint32_t)cfg.n;
	o->max_new = (size_t)cfg.max_new;
	o->eos = run.eos.v;
	o->n_eos = run.eos.n;
	o->stop = cfg.stop.v;
	o->n_stop = cfg.stop.n;
	o->tok = cfg.json || cfg.stop.n > 0 ? run.chat.tok : NULL;
	o->n_slots = (size_t)cfg.slots;
	df_shard_range(cfg.shard, run.prompts.n, &o->first, &o->end);
	o->first = o->first * (uint64_t)cfg.n + df_completions_counts(run.out).n_done;
	o->end *= (uint64_t)cfg.n;
	rc = df_generate(run.model, run.env.pool, &run.prompts, o, df_completions_put, run.out, err);
	/* What is done is kept; if that fails, this is what there is to say. */
	if (rc == DF_ESTOPPED && df_completions_keep(run.out, &late) != DF_OK) {
		*err = late;
		rc = late.code;
	}
	return rc;
}

/* ---- the run -------------------------------------------------------------------- */

static int
sample(const struct df_strlist *paths, struct df_err *err)
{
	struct df_completion_counts done;
	uint64_t n;
	int rc;

	DF_TRY(df_prog_env(&run.env, &cfg.common, DF_ENV_WIDE, err));
	DF_TRY(df_model_open(&run.model, cfg.model, cfg.base, run.env.be, err));
	DF_TRY(open_prompts(paths, err));
	DF_TRY(open_output(err));
	DF_TRY(generate(err));
	DF_TRY(df_completions_commit(run.out, err));
	done = df_completions_counts(run.out);
	n = run.generate.end - run.generate.first;
	df_info("%" PRIu64 " tokens; %" PRIu64 " of %" PRIu64 " completions reached --max-new-tokens", done.n_tokens,
	    done.n_cut, n);
	df_prog_count(n, "completions");
out:
	return rc;
}

static void
close_run(void)
{
	df_completions_close(run.out);
	df_ids_release(&run.eos);
	df_prompts_release(&run.prompts);
	df_chat_close(&run.chat);
	df_model_free(run.model);
	df_env_close(&run.env);
	df_meta_release(&run.meta);
	free(cfg.stop.v);
}

int
main(int argc, char **argv)
{
	const struct df_opt_result *args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-sample");
	args = df_prog_parse(options, synopsis, about, &cfg.common, argc, argv);
	rc = check_usage(args, &err);
	if (rc == DF_OK)
		rc = sample(&args->operands, &err);
	close_run();
	return df_prog_exit(rc, &err);
}
