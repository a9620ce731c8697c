/*
 * df-eval - what a model can do: perplexity, multiple choice, exact answers; or what a reward model thinks, and which
 * completions are right.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "chat/chat.h"
#include "eval/choice.h"
#include "eval/details.h"
#include "eval/loss.h"
#include "eval/match.h"
#include "eval/report.h"
#include "eval/reward.h"
#include "prog.h"
#include "rows.h"

static const char synopsis[] = "[options] {-m MODEL {TOKENS... | --mmlu DIR | --dataset NAMES} | --completions FILE}";
static const char about[] = "Loss on tokens, multiple choice, exact answers, or a reward model's scores.";

static const char *const matches[] = { DF_MATCH_NAMES, NULL };

/* What it evaluates on. */
enum {
	ON_TOKENS = 1,
	ON_CHOICES = 2,
	ON_DATASETS = 4,
	ON_COMPLETIONS = 8,
	ON_TEXT = ON_CHOICES | ON_DATASETS,
	ON_MODEL = ON_TOKENS | ON_TEXT,
	ON_ANSWERS = ON_DATASETS | ON_COMPLETIONS
};
static const char *const tasks[] = { "tokens", "--mmlu", "--dataset", "--completions" };

static struct {
	const char *model, *base, *tokenizer, *template;
	const char *mmlu, *split, *subjects, *dataset, *dataset_dir, *completions, *details, *output;
	int64_t batch_tokens, shots, max_samples, max_new, slots, label;
	int match, thinking;
	bool json, letters_only, label_given;
	struct df_strlist stop;
	struct df_prog_common common;
} cfg = { .split = "test",
	.dataset_dir = "data",
	.batch_tokens = 4096,
	.shots = 5,
	.max_new = 128,
	.match = DF_MATCH_STRIP,
	.common = DF_PROG_COMMON_DEFAULT };

/* clang-format off */
static const struct df_opt options[] = {
	{ .type = DF_OPT_GROUP, .help = "Model" },
	DF_PROG_MODEL(&cfg.model, &cfg.base, ON_MODEL),
	DF_PROG_TOKENIZER(&cfg.tokenizer, ON_TEXT),
	{ .name = "template", .type = DF_OPT_STR, .value = &cfg.template, .arg = "NAME", .file = DF_FILE_READ_ANY,
	    .words = df_template_names, .only = ON_TEXT, .help = "ask through this prompt template" },
	DF_PROG_THINKING(&cfg.thinking, ON_TEXT, "of reasoning templates, as df-pack's"),
	{ .type = DF_OPT_GROUP, .help = "Multiple choice" },
	{ .name = "mmlu", .type = DF_OPT_STR, .value = &cfg.mmlu, .arg = "DIR", .file = DF_FILE_READ,
	    .help = "questions: dev/ and test/ of MMLU's CSV files" },
	{ .name = "split", .type = DF_OPT_STR, .value = &cfg.split, .arg = "NAME",
	    .only = ON_CHOICES, .help = "which are asked" },
	{ .name = "subjects", .type = DF_OPT_STR, .value = &cfg.subjects, .arg = "NAMES",
	    .only = ON_CHOICES, .help = "these only, comma-separated" },
	{ .name = "shots", .type = DF_OPT_INT, .value = &cfg.shots, .arg = "N", .min = 0, .max = 1000,
	    .only = ON_CHOICES, .help = "solved questions shown first" },
	{ .name = "letters-only", .type = DF_OPT_FLAG, .value = &cfg.letters_only,
	    .only = ON_CHOICES, .help = "leave the likelihoods of the answers' texts out" },
	{ .type = DF_OPT_GROUP, .help = "Exact answers" },
	{ .name = "dataset", .type = DF_OPT_STR, .value = &cfg.dataset, .arg = "NAMES",
	    .help = "datasets whose last answers are to be found" },
	DF_PROG_DATASET_DIR(&cfg.dataset_dir, ON_DATASETS),
	{ .name = "max-samples", .type = DF_OPT_INT, .value = &cfg.max_samples, .arg = "N", .min = 0, .max = 1e15,
	    .only = ON_DATASETS, .help = "the first N rows of each dataset (0: all)" },
	{ .name = "max-new-tokens", .type = DF_OPT_INT, .value = &cfg.max_new, .arg = "N", .min = 1, .max = 1 << 24,
	    .only = ON_DATASETS, .help = "most tokens of an answer" },
	{ .name = "stop", .type = DF_OPT_LIST, .value = &cfg.stop, .arg = "TEXT",
	    .only = ON_DATASETS, .help = "end an answer before TEXT; repeatable" },
	{ .name = "completions", .type = DF_OPT_STR, .value = &cfg.completions, .arg = "FILE", .file = DF_FILE_READ,
	    .help = "compare these JSON lines of df-sample" },
	{ .name = "match", .type = DF_OPT_CHOICE, .value = &cfg.match, .choices = matches,
	    .only = ON_ANSWERS, .help = "what is compared" },
	{ .type = DF_OPT_GROUP, .help = "Work and output" },
	{ .name = "batch-tokens", .type = DF_OPT_INT, .value = &cfg.batch_tokens, .arg = "N", .min = 1, .max = 1e9,
	    .only = ON_TOKENS, .help = "TOKENS at once in a thread; changes no number" },
	{ .name = "slots", .type = DF_OPT_INT, .value = &cfg.slots, .arg = "N", .min = 0, .max = 1 << 20,
	    .only = ON_TEXT, .help = "questions at once (0: as memory allows)" },
	{ .name = "json", .type = DF_OPT_FLAG, .value = &cfg.json,
	    .help = "one JSON object instead of a table" },
	{ .name = "details", .type = DF_OPT_STR, .value = &cfg.details, .arg = "FILE", .file = DF_FILE_WRITE,
	    .only = ON_TEXT | ON_COMPLETIONS, .help = "a JSON line for each question or answer" },
	DF_PROG_OUTPUT(&cfg.output, 0, "a reward model's scores; - for a stream"),
	{ .name = "label", .type = DF_OPT_INT, .value = &cfg.label, .arg = "I", .min = 0, .max = 1e6,
	    .given = &cfg.label_given, .only = ON_TOKENS, .help = "which of its labels is the score" },
	{ .type = DF_OPT_OPERANDS, .arg = "TOKENS", .file = DF_FILE_READ },
	DF_PROG_OPTS(&cfg.common),
	DF_PROG_COMPUTE(&cfg.common),
	DF_OPT_END,
};
/* clang-format on */

struct run {
	struct df_env env;
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

	struct df_details details;
};

static int
check_usage(const struct df_opt_result *args, struct df_err *err)
{
	const bool tokens = args->operands.n > 0;

	if (!cfg.model && !cfg.completions)
		return df_fail(err, DF_EUSAGE, "no model: give -m DIR");
	if (tokens + (cfg.mmlu != NULL) + (cfg.dataset != NULL) + (cfg.completions != NULL) != 1)
		return df_fail(err, DF_EUSAGE,
		    "evaluate on what?  Name tokens made by df-pack, or --mmlu, --dataset or --completions, and one of "
		    "them only");
	if (!tokens && cfg.output)
		return df_fail(err, DF_EUSAGE, "-o is for a reward model's scores of tokens; see --details");
	return df_opt_check_task(options, args,
	    tokens            ? ON_TOKENS
		: cfg.mmlu    ? ON_CHOICES
		: cfg.dataset ? ON_DATASETS
			      : ON_COMPLETIONS,
	    tasks, err);
}

static int
open_model(struct run *r, struct df_err *err)
{
	int rc;

	DF_TRY(df_prog_env(&r->env, &cfg.common, DF_ENV_WIDE, err));
	rc = df_model_open(&r->model, cfg.model, cfg.base, r->env.be, err);
out:
	return rc;
}

/* ---- tokens --------------------------------------------------------------------- */

static int
losses(struct run *r, struct df_err *err)
{
	const struct df_eval_opts o = { .max_tokens = (size_t)cfg.batch_tokens, .progress = true };
	int rc;

	DF_TRY(df_eval_run(&r->eval, r->model, &r->rows, r->env.pool, &o, err));
	df_prog_count(r->eval.all.n_samples, "samples");
	df_eval_tell(&r->eval);
	df_loss_report(&r->text, &r->rows, &r->eval, cfg.model, cfg.json);
out:
	return rc;
}

static int
rewards(struct run *r, struct df_err *err)
{
	const size_t n_labels = df_model_config(r->model)->n_labels;
	size_t n;
	int rc;

	if ((size_t)cfg.label >= n_labels)
		return df_fail(
		    err, DF_EUSAGE, "--label %" PRId64 ": %s has labels 0 to %zu", cfg.label, cfg.model, n_labels - 1);
	DF_TRY(df_size_mul(r->rows.n, n_labels, &n, "scores", err));
	DF_TRY(df_alloc(&r->scores, n, sizeof(*r->scores), "scores", err));
	DF_TRY(df_reward_run(r->scores, r->model, &r->rows, (size_t)cfg.batch_tokens, true, err));
	df_prog_count(r->rows.n, "samples");
	if (cfg.output)
		DF_TRY(df_reward_write(cfg.output, "df-eval", r->scores, (size_t)cfg.label, r->model, &r->rows, err));
	if (!cfg.output || strcmp(cfg.output, "-") != 0)
		df_reward_report(&r->text, &r->rows, r->scores, n_labels, cfg.model, cfg.json);
out:
	return rc;
}

static int
on_tokens(struct run *r, const struct df_strlist *paths, struct df_err *err)
{
	int rc;

	DF_TRY(df_rows_load(&r->rows, "tokens", paths->v, paths->n, err));
	DF_TRY(open_model(r, err));
	DF_TRY(df_eval_check_rows(&r->rows, r->model, cfg.model, err));
	if (df_model_config(r->model)->head == DF_HEAD_CLASSES)
		rc = rewards(r, err);
	else if (cfg.label_given)
		rc = df_fail(err, DF_EUSAGE, "--label: %s has no head that gives scores", cfg.model);
	else if (cfg.output)
		rc = df_fail(
		    err, DF_EUSAGE, "-o: %s has no head that gives scores; df-grad --losses writes losses", cfg.model);
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
	const struct df_chat_opts o = { .tokenizer = cfg.tokenizer,
		.dir = cfg.model,
		.base_dir = df_model_dir(r->model),
		.template = cfg.template,
		.need_template = need_template,
		.encode = {
		    .stage = DF_STAGE_SFT, .cutoff_len = UINT32_MAX, .thinking = (enum df_thinking)cfg.thinking } };
	int rc;

	DF_TRY(df_chat_open(&r->chat, &o, err));
	rc = df_details_open(&r->details, cfg.details, err);
out:
	return rc;
}

static int
on_choices(struct run *r, struct df_err *err)
{
	struct df_choice_opts o = { .letters_only = cfg.letters_only, .n_slots = (size_t)cfg.slots, .progress = true };
	int rc;

	DF_TRY(df_choice_load(&r->task, cfg.mmlu, cfg.split, cfg.subjects, (size_t)cfg.shots, err));
	DF_TRY(open_model(r, err));
	DF_TRY(open_text(r, false, err));
	o.tok = r->chat.tok;
	o.enc = r->chat.enc;
	r->details.texts = !cfg.letters_only;
	DF_TRY(df_choice_run(&r->choices, r->model, &r->task, &o, df_details_question, &r->details, err));
	df_prog_count(r->choices.all.n, "questions");
	df_choice_report(&r->text, &r->task, &r->choices, cfg.model, (size_t)cfg.shots, cfg.json);
out:
	return rc;
}

static int
on_datasets(struct run *r, struct df_err *err)
{
	struct df_generate_opts o = { .warp = DF_WARP_GREEDY,
		.n_samples = 1,
		.max_new = (size_t)cfg.max_new,
		.stop = cfg.stop.v,
		.n_stop = cfg.stop.n,
		.n_slots = (size_t)cfg.slots,
		.end = UINT64_MAX,
		.progress = true };
	int rc;

	r->details.prompts = &r->prompts;
	DF_TRY(open_model(r, err));
	DF_TRY(open_text(r, true, err));
	DF_TRY(df_prompts_datasets(&r->prompts, cfg.dataset_dir, cfg.dataset, DF_STAGE_SFT, r->chat.enc,
	    (uint64_t)cfg.max_samples, NULL, err));
	DF_TRY(df_generate_eos(&r->eos, cfg.model, r->model, r->chat.tok, r->chat.enc, err));
	o.eos = r->eos.v;
	o.n_eos = r->eos.n;
	o.tok = r->chat.tok;
	DF_TRY(df_match_run(&r->matches, r->model, r->env.pool, &r->prompts, &o, (enum df_match)cfg.match,
	    df_details_answer, &r->details, err));
	df_prog_count(r->matches.all.n, "answers");
	df_match_report(&r->text, &r->prompts, &r->matches, "model", cfg.model, cfg.json);
out:
	return rc;
}

static int
on_completions(struct run *r, struct df_err *err)
{
	int rc;

	DF_TRY(df_details_open(&r->details, cfg.details, err));
	DF_TRY(df_match_lines(&r->matches, &r->prompts, cfg.completions, (enum df_match)cfg.match,
	    df_details_completion, &r->details, err));
	df_prog_count(r->matches.all.n, "completions");
	df_match_report(&r->text, &r->prompts, &r->matches, "completions", cfg.completions, cfg.json);
out:
	return rc;
}

/* ---- the run -------------------------------------------------------------------- */

static void
close_run(struct run *r)
{
	df_details_close(&r->details);
	df_eval_release(&r->eval);
	df_rows_release(&r->rows);
	df_choice_scores_release(&r->choices);
	df_choice_release(&r->task);
	df_match_scores_release(&r->matches);
	df_prompts_release(&r->prompts);
	df_ids_release(&r->eos);
	df_chat_close(&r->chat);
	df_model_free(r->model);
	df_env_close(&r->env);
	df_buf_release(&r->text);
	free(r->scores);
	free(cfg.stop.v);
}

int
main(int argc, char **argv)
{
	struct run r = { .rows = { .meta = DF_META_INIT }, .details = DF_DETAILS_INIT };
	const struct df_opt_result *args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-eval");
	args = df_prog_parse(options, synopsis, about, &cfg.common, argc, argv);
	DF_TRY(check_usage(args, &err));
	DF_TRY(cfg.mmlu           ? on_choices(&r, &err)
		: cfg.dataset     ? on_datasets(&r, &err)
		: cfg.completions ? on_completions(&r, &err)
				  : on_tokens(&r, &args->operands, &err));
	DF_TRY(df_buf_check(&r.text, &err));
	DF_TRY(df_details_commit(&r.details, &err));
	rc = df_prog_print(&r.text, &err);
out:
	close_run(&r);
	return df_prog_exit(rc, &err);
}
