/*
 * df-eval - what a model can do: perplexity, multiple choice, exact answers; or what a reward model thinks.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text_out.h"
#include "chat/chat.h"
#include "eval/choice.h"
#include "eval/match.h"
#include "eval/report.h"
#include "eval/reward.h"
#include "prog.h"
#include "eval/loss.h"

static const char synopsis[] = "[options] -m MODEL {TOKENS... | --mmlu DIR | --dataset NAMES}";
static const char about[] = "Loss on tokens, multiple choice, exact answers, or a reward model's scores.";

static const char *const matches[] = { DF_MATCH_NAMES, NULL };
static const char *const thinking[] = { "true", "false", "null", NULL };

struct cfg {
	const char *model, *base, *tokenizer, *template;
	const char *mmlu, *split, *subjects, *dataset, *dataset_dir, *details, *output;
	int64_t batch_tokens, shots, max_samples, max_new, slots, label;
	int match, thinking;
	bool json, letters_only;
	struct {
		bool split, shots, max_new, match, label, dataset_dir, batch_tokens, slots, thinking;
	} given;
	struct df_strlist stop;
	struct df_prog_common common;
};

/* clang-format off */
#define CFG_DEFAULT { .split = "test", .dataset_dir = "data", .batch_tokens = 4096, .shots = 5, .max_new = 128, \
	.match = DF_MATCH_STRIP, .common = DF_PROG_COMMON_DEFAULT }

#define PUT_ROWS ((uint64_t)65536) /* scores written at a time */

#define OPTS(c) { \
	{ .type = DF_OPT_GROUP, .help = "Model" }, \
	{ .name = "model", .short_name = 'm', .type = DF_OPT_STR, .value = &(c)->model, .arg = "DIR", .file = DF_FILE_READ, \
	    .help = "checkpoint, Hugging Face directory or PEFT adapter" }, \
	{ .name = "base", .type = DF_OPT_STR, .value = &(c)->base, .arg = "DIR", .file = DF_FILE_READ, \
	    .help = "base model of an adapter, not the one it names" }, \
	{ .name = "tokenizer", .type = DF_OPT_STR, .value = &(c)->tokenizer, .arg = "TOK", .file = DF_FILE_READ_ANY, \
	    .choices = df_tokenizer_names, .help = "bytes, or a path, not the model's own" }, \
	{ .name = "template", .type = DF_OPT_STR, .value = &(c)->template, .arg = "NAME", .file = DF_FILE_READ_ANY, \
	    .choices = df_template_names(), .help = "ask through this prompt template" }, \
	{ .name = "enable-thinking", .type = DF_OPT_CHOICE, .value = &(c)->thinking, .choices = thinking, \
	    .given = &(c)->given.thinking, .help = "of reasoning templates, as df-pack's" }, \
	{ .type = DF_OPT_GROUP, .help = "Multiple choice" }, \
	{ .name = "mmlu", .type = DF_OPT_STR, .value = &(c)->mmlu, .arg = "DIR", .file = DF_FILE_READ, \
	    .help = "questions: dev/ and test/ of MMLU's CSV files" }, \
	{ .name = "split", .type = DF_OPT_STR, .value = &(c)->split, .arg = "NAME", .given = &(c)->given.split, \
	    .help = "which are asked" }, \
	{ .name = "subjects", .type = DF_OPT_STR, .value = &(c)->subjects, .arg = "NAMES", \
	    .help = "these only, comma-separated" }, \
	{ .name = "shots", .type = DF_OPT_INT, .value = &(c)->shots, .arg = "N", .min = 0, .max = 1000, \
	    .given = &(c)->given.shots, .help = "solved questions shown first" }, \
	{ .name = "letters-only", .type = DF_OPT_FLAG, .value = &(c)->letters_only, \
	    .help = "leave the likelihoods of the answers' texts out" }, \
	{ .type = DF_OPT_GROUP, .help = "Exact answers" }, \
	{ .name = "dataset", .type = DF_OPT_STR, .value = &(c)->dataset, .arg = "NAMES", \
	    .help = "datasets whose last answers are to be found" }, \
	{ .name = "dataset-dir", .type = DF_OPT_STR, .value = &(c)->dataset_dir, .arg = "DIR", .file = DF_FILE_READ, \
	    .given = &(c)->given.dataset_dir, .help = "directory of dataset_info.json" }, \
	{ .name = "max-samples", .type = DF_OPT_INT, .value = &(c)->max_samples, .arg = "N", .min = 0, .max = 1e15, \
	    .help = "the first N rows of each dataset (0: all)" }, \
	{ .name = "max-new-tokens", .type = DF_OPT_INT, .value = &(c)->max_new, .arg = "N", .min = 1, .max = 1 << 24, \
	    .given = &(c)->given.max_new, .help = "most tokens of an answer" }, \
	{ .name = "stop", .type = DF_OPT_LIST, .value = &(c)->stop, .arg = "TEXT", \
	    .help = "end an answer before TEXT; repeatable" }, \
	{ .name = "match", .type = DF_OPT_CHOICE, .value = &(c)->match, .choices = matches, \
	    .given = &(c)->given.match, .help = "what is compared" }, \
	{ .type = DF_OPT_GROUP, .help = "Work and output" }, \
	{ .name = "batch-tokens", .type = DF_OPT_INT, .value = &(c)->batch_tokens, .arg = "N", .min = 1, .max = 1e9, \
	    .given = &(c)->given.batch_tokens, .help = "TOKENS at once in a thread; changes no number" }, \
	{ .name = "slots", .type = DF_OPT_INT, .value = &(c)->slots, .arg = "N", .min = 0, .max = 1 << 20, \
	    .given = &(c)->given.slots, .help = "questions at once (0: as memory allows)" }, \
	{ .name = "json", .type = DF_OPT_FLAG, .value = &(c)->json, \
	    .help = "one JSON object instead of a table" }, \
	{ .name = "details", .type = DF_OPT_STR, .value = &(c)->details, .arg = "FILE", .file = DF_FILE_WRITE, \
	    .help = "a JSON line for each question or answer" }, \
	{ .name = "output", .short_name = 'o', .type = DF_OPT_STR, .value = &(c)->output, .arg = "FILE", .file = DF_FILE_WRITE, \
	    .help = "a reward model's scores; - for a stream" }, \
	{ .name = "label", .type = DF_OPT_INT, .value = &(c)->label, .arg = "I", .min = 0, .max = 1e6, \
	    .given = &(c)->given.label, .help = "which of its labels is the score" }, \
	{ .type = DF_OPT_OPERANDS, .arg = "TOKENS", .file = DF_FILE_READ }, \
	DF_PROG_OPTS(&(c)->common), \
	DF_OPT_END }
/* clang-format on */

struct run {
	struct cfg cfg;
	struct df_pool *pool;
	struct df_backend *backend;
	struct df_model *model;
	struct df_buf text; /* the report */

	struct df_rows rows;
	struct df_eval eval;
	float *scores; /* [rows, labels] */

	struct df_chat chat;
	struct df_choice_task task;
	struct df_choice_scores choices;
	struct df_prompts prompts;
	struct df_ids eos;
	struct df_match_scores matches;

	struct df_text_out details;
	struct df_buf line;
};

static int
check_usage(const struct cfg *c, const struct df_opt_result *args, struct df_err *err)
{
	enum { ON_TOKENS = 1, ON_CHOICES = 2, ON_DATASETS = 4, ON_TEXT = ON_CHOICES | ON_DATASETS };
	const bool tokens = args->operands.n > 0;
	const int task = tokens ? ON_TOKENS : c->mmlu ? ON_CHOICES : ON_DATASETS;
	const struct {
		const char *name;
		bool given;
		int tasks;
	} of[] = { { "template", c->template != NULL, ON_TEXT }, { "tokenizer", c->tokenizer != NULL, ON_TEXT },
		{ "details", c->details != NULL, ON_TEXT }, { "enable-thinking", c->given.thinking, ON_TEXT },
		{ "slots", c->given.slots, ON_TEXT }, { "split", c->given.split, ON_CHOICES },
		{ "subjects", c->subjects != NULL, ON_CHOICES }, { "shots", c->given.shots, ON_CHOICES },
		{ "letters-only", c->letters_only, ON_CHOICES }, { "dataset-dir", c->given.dataset_dir, ON_DATASETS },
		{ "max-samples", c->max_samples > 0, ON_DATASETS }, { "max-new-tokens", c->given.max_new, ON_DATASETS },
		{ "stop", c->stop.n > 0, ON_DATASETS }, { "match", c->given.match, ON_DATASETS },
		{ "batch-tokens", c->given.batch_tokens, ON_TOKENS }, { "label", c->given.label, ON_TOKENS } };

	if (!c->model)
		return df_fail(err, DF_EUSAGE, "no model: give -m DIR");
	if (tokens + (c->mmlu != NULL) + (c->dataset != NULL) != 1)
		return df_fail(err, DF_EUSAGE,
		    "evaluate on what?  Name tokens made by df-pack, or --mmlu, or --dataset, and one of them only");
	for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
		if (of[i].given && !(task & of[i].tasks))
			return df_fail(err, DF_EUSAGE, "--%s is for %s", of[i].name,
			    of[i].tasks == ON_TOKENS         ? "tokens"
				: of[i].tasks == ON_CHOICES  ? "--mmlu"
				: of[i].tasks == ON_DATASETS ? "--dataset"
							     : "--mmlu and --dataset");
	}
	if (!tokens && c->output)
		return df_fail(err, DF_EUSAGE, "-o is for a reward model's scores of tokens; see --details");
	return DF_OK;
}

static int
open_model(struct run *r, struct df_err *err)
{
	int rc;

	DF_TRY(df_pool_new(&r->pool, (int)r->cfg.common.threads, err));
	DF_TRY(df_backend_open(&r->backend, r->cfg.common.device, r->pool, err));
	rc = df_model_open(&r->model, r->cfg.model, r->cfg.base, r->backend, err);
out:
	return rc;
}

/* ---- tokens --------------------------------------------------------------------- */

static int
check_tokenizer(const struct run *r, struct df_err *err)
{
	bool known;
	int rc;

	DF_TRY(df_model_check_tokenizer(r->cfg.model, df_rows_tokenizer(&r->rows), r->rows.name, &known, err));
	if (!known)
		df_info("%s: not known which tokenizer it was trained with; taken to be that of %s", r->cfg.model,
		    r->rows.name);
out:
	return rc;
}

static int
losses(struct run *r, struct df_err *err)
{
	const struct df_eval_opts o = { .max_tokens = (size_t)r->cfg.batch_tokens, .progress = true };
	const struct df_eval_sum *all = &r->eval.all;
	int rc;

	DF_TRY(df_eval_run(&r->eval, r->model, &r->rows, r->pool, &o, err));
	df_prog_count(all->n_samples, "samples");
	if (all->n_bad > 0)
		df_warn("%" PRIu64
			" samples have a loss that is not finite and are left out, the first is sample %" PRIu64,
		    all->n_bad, r->eval.bad_id);
	if (all->n_unlabelled > 0)
		df_info("%" PRIu64 " samples have no target and count for nothing", all->n_unlabelled);
	df_loss_report(&r->text, &r->rows, &r->eval, r->cfg.model, r->cfg.json);
out:
	return rc;
}

/* The scores of one label, with ids and domains, some rows at a time. */
static int
put_label(const struct run *r, struct df_writer *out, size_t n_labels, bool domains, struct df_err *err)
{
	const struct df_rows *rows = &r->rows;
	struct df_batch b = DF_BATCH_INIT;
	uint16_t *domain = NULL;
	uint64_t *id = NULL;
	float *score = NULL;
	int rc;

	DF_TRY(df_alloc(&id, PUT_ROWS, sizeof(*id), "scores", err));
	DF_TRY(df_alloc(&score, PUT_ROWS, sizeof(*score), "scores", err));
	DF_TRY(df_alloc(&domain, PUT_ROWS, sizeof(*domain), "scores", err));
	b.col[DF_COL_ID] = (struct df_column_data){ id, NULL, 1 };
	b.col[DF_COL_SCORE] = (struct df_column_data){ score, NULL, 1 };
	if (domains)
		b.col[DF_COL_DOMAIN] = (struct df_column_data){ domain, NULL, 1 };
	for (uint64_t first = 0; first < rows->n; first += b.n) {
		b.n = rows->n - first < PUT_ROWS ? rows->n - first : PUT_ROWS;
		for (uint64_t i = 0; i < b.n; i++) {
			id[i] = df_rows_id(rows, first + i);
			domain[i] = df_rows_domain(rows, first + i);
			score[i] = r->scores[(first + i) * n_labels + (size_t)r->cfg.label];
		}
		DF_TRY(df_writer_put(out, &b, err));
	}
out:
	free(id);
	free(domain);
	free(score);
	return rc;
}

static int
put_scores(struct run *r, size_t n_labels, struct df_err *err)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_SCORE, DF_COL_DOMAIN };
	static const size_t widths[DF_COL_COUNT] = { 0 };
	const struct df_writer_opts opts = { .compress = DF_COMPRESS_DEFAULT };
	const bool domains = r->rows.meta.n_domains > 0;
	struct df_meta m = DF_META_INIT;
	struct df_writer *out = NULL;
	struct df_digest d;
	char hex[DF_DIGEST_HEX];
	int rc;

	m.kind = DF_KIND_SCORES;
	DF_TRY(df_meta_set_tool(&m, "df-eval", err));
	DF_TRY(df_meta_set_int(&m, "label", r->cfg.label, err));
	if (r->rows.meta.id[0])
		DF_TRY(df_meta_add_input(&m, "tokens", "tokens", r->rows.meta.id, err));
	DF_TRY(df_model_digest(r->model, &d, err));
	df_digest_hex(d, hex);
	DF_TRY(df_meta_add_input(&m, "checkpoint", "checkpoint", hex, err));
	for (size_t i = 0; i < r->rows.meta.n_domains; i++)
		DF_TRY(df_meta_add_domain(&m, r->rows.meta.domains[i], NULL, err));
	DF_TRY(df_writer_open(&out, r->cfg.output, &m, cols, domains ? 3 : 2, widths, &opts, err));
	DF_TRY(put_label(r, out, n_labels, domains, err));
	DF_TRY(df_writer_commit(out, NULL, err));
out:
	df_writer_close(out);
	df_meta_release(&m);
	return rc;
}

static int
rewards(struct run *r, struct df_err *err)
{
	const size_t n_labels = df_model_config(r->model)->n_labels;
	size_t n;
	int rc;

	if ((size_t)r->cfg.label >= n_labels)
		return df_fail(err, DF_EUSAGE, "--label %" PRId64 ": %s has labels 0 to %zu", r->cfg.label,
		    r->cfg.model, n_labels - 1);
	DF_TRY(df_size_mul(r->rows.n, n_labels, &n, "scores", err));
	DF_TRY(df_alloc(&r->scores, n, sizeof(*r->scores), "scores", err));
	DF_TRY(df_reward_run(r->scores, r->model, &r->rows, (size_t)r->cfg.batch_tokens, true, err));
	df_prog_count(r->rows.n, "samples");
	if (r->cfg.output)
		DF_TRY(put_scores(r, n_labels, err));
	if (!r->cfg.output || strcmp(r->cfg.output, "-") != 0)
		df_reward_report(&r->text, &r->rows, r->scores, n_labels, r->cfg.model, r->cfg.json);
out:
	return rc;
}

static int
on_tokens(struct run *r, const struct df_strlist *paths, struct df_err *err)
{
	const struct df_model_config *c;
	int rc;

	DF_TRY(df_rows_load(&r->rows, "tokens", paths->v, paths->n, err));
	DF_TRY(open_model(r, err));
	DF_TRY(check_tokenizer(r, err));
	c = df_model_config(r->model);
	DF_TRY(df_rows_check_vocab(&r->rows, c->n_vocab, r->cfg.model, err));
	if (c->head == DF_HEAD_CLASSES)
		rc = rewards(r, err);
	else if (r->cfg.given.label)
		rc = df_fail(err, DF_EUSAGE, "--label: %s has no head that gives scores", r->cfg.model);
	else if (r->cfg.output)
		rc = df_fail(err, DF_EUSAGE, "-o: %s has no head that gives scores; df-grad --losses writes losses",
		    r->cfg.model);
	else
		rc = losses(r, err);
out:
	return rc;
}

/* ---- questions and datasets ------------------------------------------------------- */

/* What texts go through, and where the lines about them go. */
static int
open_text(struct run *r, bool need_template, struct df_err *err)
{
	const struct df_chat_opts o = { .tokenizer = r->cfg.tokenizer,
		.dir = r->cfg.model,
		.base_dir = df_model_dir(r->model),
		.template = r->cfg.template,
		.need_template = need_template,
		.encode = {
		    .stage = DF_STAGE_SFT, .cutoff_len = UINT32_MAX, .thinking = (enum df_thinking)r->cfg.thinking } };
	int rc;

	DF_TRY(df_chat_open(&r->chat, &o, err));
	if (r->cfg.details)
		rc = df_text_out_open(&r->details, r->cfg.details, err);
out:
	return rc;
}

static int
choice_detail(void *ctx, const struct df_choice_task *t, const struct df_choice_result *x, struct df_err *err)
{
	struct run *r = ctx;

	if (!r->cfg.details)
		return DF_OK;
	df_buf_clear(&r->line);
	df_choice_detail(&r->line, t, x, !r->cfg.letters_only);
	return df_text_out_put(&r->details, &r->line, err);
}

static int
on_choices(struct run *r, struct df_err *err)
{
	const struct cfg *c = &r->cfg;
	struct df_choice_opts o = { .letters_only = c->letters_only, .n_slots = (size_t)c->slots, .progress = true };
	int rc;

	DF_TRY(df_choice_load(&r->task, c->mmlu, c->split, c->subjects, (size_t)c->shots, err));
	DF_TRY(open_model(r, err));
	DF_TRY(open_text(r, false, err));
	o.tok = r->chat.tok;
	o.enc = r->chat.enc;
	DF_TRY(df_choice_run(&r->choices, r->model, &r->task, &o, choice_detail, r, err));
	df_prog_count(r->choices.all.n, "questions");
	df_choice_report(&r->text, &r->task, &r->choices, c->model, (size_t)c->shots, c->json);
out:
	return rc;
}

static int
match_detail(void *ctx, const struct df_completion *x, bool right, struct df_err *err)
{
	struct run *r = ctx;

	if (!r->cfg.details)
		return DF_OK;
	df_buf_clear(&r->line);
	df_match_detail(&r->line, &r->prompts, x, right);
	return df_text_out_put(&r->details, &r->line, err);
}

static int
on_datasets(struct run *r, struct df_err *err)
{
	const struct cfg *c = &r->cfg;
	struct df_generate_opts o = { .warp = DF_WARP_GREEDY,
		.n_samples = 1,
		.max_new = (size_t)c->max_new,
		.stop = c->stop.v,
		.n_stop = c->stop.n,
		.n_slots = (size_t)c->slots,
		.end = UINT64_MAX,
		.progress = true };
	int rc;

	DF_TRY(open_model(r, err));
	DF_TRY(open_text(r, true, err));
	DF_TRY(df_prompts_datasets(
	    &r->prompts, c->dataset_dir, c->dataset, DF_STAGE_SFT, r->chat.enc, (uint64_t)c->max_samples, NULL, err));
	DF_TRY(df_generate_eos(&r->eos, c->model, r->model, r->chat.tok, err));
	DF_TRY(df_generate_eos_add(
	    &r->eos, df_encoder_stops(r->chat.enc)->v, df_encoder_stops(r->chat.enc)->n, r->model, err));
	o.eos = r->eos.v;
	o.n_eos = r->eos.n;
	o.tok = r->chat.tok;
	DF_TRY(df_match_run(
	    &r->matches, r->model, r->pool, &r->prompts, &o, (enum df_match)c->match, match_detail, r, err));
	df_prog_count(r->matches.all.n, "answers");
	df_match_report(&r->text, &r->prompts, &r->matches, c->model, c->json);
out:
	return rc;
}

/* ---- the run -------------------------------------------------------------------- */

static int
finish(struct run *r, struct df_err *err)
{
	int rc;

	DF_TRY(df_buf_check(&r->text, err));
	DF_TRY(df_text_out_commit(&r->details, err));
	if (r->text.len > 0)
		fwrite(r->text.data, 1, r->text.len, stdout);
out:
	return rc;
}

static void
close_run(struct run *r)
{
	df_text_out_close(&r->details);
	df_eval_release(&r->eval);
	df_rows_release(&r->rows);
	df_choice_scores_release(&r->choices);
	df_choice_release(&r->task);
	df_match_scores_release(&r->matches);
	df_prompts_release(&r->prompts);
	df_ids_release(&r->eos);
	df_chat_close(&r->chat);
	df_model_free(r->model);
	df_backend_close(r->backend);
	df_pool_free(r->pool);
	df_buf_release(&r->text);
	df_buf_release(&r->line);
	free(r->scores);
	free(r->cfg.stop.v);
}

int
main(int argc, char **argv)
{
	static struct run r = { .cfg = CFG_DEFAULT, .rows = { .meta = DF_META_INIT }, .details = DF_TEXT_OUT_INIT };
	const struct df_opt opts[] = OPTS(&r.cfg);
	struct df_opt_result args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-eval");
	df_prog_parse(opts, synopsis, about, &r.cfg.common, argc, argv, &args);
	rc = check_usage(&r.cfg, &args, &err);
	if (rc == DF_OK)
		rc = r.cfg.mmlu     ? on_choices(&r, &err)
		    : r.cfg.dataset ? on_datasets(&r, &err)
				    : on_tokens(&r, &args.operands, &err);
	if (rc == DF_OK)
		rc = finish(&r, &err);
	close_run(&r);
	df_opt_result_release(&args);
	return df_prog_exit(rc, &err);
}
