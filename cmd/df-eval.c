/*
 * df-eval - loss, perplexity and accuracy of a model, per domain.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/buf.h"
#include "base/log.h"
#include "prog.h"
#include "train/checkpoint.h"
#include "train/eval.h"

static const char synopsis[] = "[options] -m MODEL TOKENS...";
static const char about[] = "Loss, perplexity and accuracy of a model on tokens, by domain and overall.";

struct cfg {
	const char *model, *base;
	int64_t batch_tokens;
	bool json;
	struct df_prog_common common;
};

/* clang-format off */
#define CFG_DEFAULT { .batch_tokens = 4096, .common = DF_PROG_COMMON_DEFAULT }

#define OPTS(c) { \
	{ .type = DF_OPT_GROUP, .help = "What to evaluate" }, \
	{ .name = "model", .short_name = 'm', .type = DF_OPT_STR, .value = &(c)->model, .arg = "DIR", \
	    .help = "checkpoint, Hugging Face directory or PEFT adapter" }, \
	{ .name = "base", .type = DF_OPT_STR, .value = &(c)->base, .arg = "DIR", \
	    .help = "base model of an adapter, not the one it names" }, \
	{ .type = DF_OPT_GROUP, .help = "How" }, \
	{ .name = "batch-tokens", .type = DF_OPT_INT, .value = &(c)->batch_tokens, .arg = "N", .min = 1, .max = 1e9, \
	    .help = "tokens per thread at once; changes no number" }, \
	{ .name = "json", .type = DF_OPT_FLAG, .value = &(c)->json, \
	    .help = "one JSON object instead of a table" }, \
	DF_PROG_OPTS(&(c)->common), \
	DF_OPT_END }
/* clang-format on */

struct run {
	struct cfg cfg;
	struct df_pool *pool;
	struct df_backend *backend;
	struct df_model *model;
	struct df_rows rows;
	struct df_eval eval;
};

/* A checkpoint of ours says which tokenizer its training tokens came from. */
static int
check_tokenizer(const struct run *r, struct df_err *err)
{
	const char *want = df_rows_tokenizer(&r->rows);
	struct df_train_state s = { 0 };
	int rc = DF_OK;

	if (df_train_state_load(&s, r->cfg.model, NULL) != DF_OK || !s.tokenizer_id || !want)
		df_info("%s: not known which tokenizer it was trained with; taken to be that of %s", r->cfg.model,
		    r->rows.name);
	else if (strcmp(s.tokenizer_id, want) != 0)
		rc = df_fail(err, DF_ELINEAGE, "%s was trained on tokens of tokenizer %s, %s was packed with %s",
		    r->cfg.model, s.tokenizer_id, r->rows.name, want);
	df_train_state_release(&s);
	return rc;
}

static int
evaluate(struct run *r, const struct df_strlist *paths, struct df_err *err)
{
	struct df_eval_opts o = { .max_tokens = (size_t)r->cfg.batch_tokens, .progress = true };
	int rc = DF_OK;

	if (!r->cfg.model)
		return df_fail(err, DF_EUSAGE, "no model: give -m DIR");
	if (paths->n == 0)
		return df_fail(err, DF_EUSAGE, "no tokens to evaluate on");
	DF_TRY(df_pool_new(&r->pool, (int)r->cfg.common.threads, err));
	DF_TRY(df_backend_open(&r->backend, r->cfg.common.device, r->pool, err));
	DF_TRY(df_rows_load(&r->rows, "tokens", paths->v, paths->n, err));
	DF_TRY(df_model_open(&r->model, r->cfg.model, r->cfg.base, r->backend, err));
	DF_TRY(check_tokenizer(r, err));
	DF_TRY(df_rows_check_vocab(&r->rows, df_model_config(r->model)->n_vocab, r->cfg.model, err));
	rc = df_eval_run(&r->eval, r->model, &r->rows, r->pool, &o, err);
	df_prog_count(r->eval.all.n_samples, "samples");
out:
	return rc;
}

/* ---- the report ----------------------------------------------------------------- */

static void
cell(double x, const char *fmt)
{
	if (isfinite(x))
		printf(fmt, x);
	else
		printf("%12s", "-");
}

static void
table_line(const char *name, const struct df_eval_sum *s)
{
	printf("%-24.24s%9" PRIu64 "%11" PRIu64, name, s->n_samples, s->n_targets);
	cell(df_eval_loss(s), "%12.4f");
	cell(df_eval_perplexity(s), "%12.4g");
	cell(df_eval_sample_loss(s), "%12.4f");
	cell(100 * df_eval_token_accuracy(s), "%11.2f%%");
	cell(100 * df_eval_exact(s), "%11.2f%%");
	putchar('\n');
}

static void
json_line(struct df_buf *b, const char *name, const struct df_eval_sum *s)
{
	const struct {
		const char *key;
		double value;
	} reals[] = { { "loss", df_eval_loss(s) }, { "perplexity", df_eval_perplexity(s) },
		{ "sample_loss", df_eval_sample_loss(s) }, { "token_accuracy", df_eval_token_accuracy(s) },
		{ "exact_accuracy", df_eval_exact(s) } };

	df_buf_json_str(b, name);
	df_buf_printf(b,
	    ": {\"samples\": %" PRIu64 ", \"samples_without_targets\": %" PRIu64 ", \"samples_not_finite\": %" PRIu64
	    ", \"targets\": %" PRIu64,
	    s->n_samples, s->n_unlabelled, s->n_bad, s->n_targets);
	for (size_t i = 0; i < sizeof(reals) / sizeof(reals[0]); i++) {
		df_buf_printf(b, ", \"%s\": ", reals[i].key);
		df_buf_json_double(b, reals[i].value);
	}
	df_buf_putc(b, '}');
}

static const char *
domain_name(const struct run *r, size_t d)
{
	return d < r->rows.meta.n_domains ? r->rows.meta.domains[d] : "all";
}

static int
report_json(const struct run *r, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	int rc;

	df_buf_puts(&b, "{\n  \"model\": ");
	df_buf_json_str(&b, r->cfg.model);
	df_buf_puts(&b, ",\n  \"tokens\": ");
	df_buf_json_str(&b, r->rows.meta.id);
	df_buf_puts(&b, ",\n  ");
	json_line(&b, "overall", &r->eval.all);
	df_buf_puts(&b, ",\n  \"domains\": {");
	for (size_t d = 0; d < r->eval.n_domains; d++) {
		df_buf_puts(&b, d ? ",\n    " : "\n    ");
		json_line(&b, domain_name(r, d), &r->eval.domain[d]);
	}
	df_buf_puts(&b, "\n  }\n}\n");
	if ((rc = df_buf_check(&b, err)) == DF_OK)
		fputs(b.data, stdout);
	df_buf_release(&b);
	return rc;
}

static int
report(const struct run *r, struct df_err *err)
{
	const struct df_eval *e = &r->eval;

	if (e->all.n_bad > 0)
		df_warn("%" PRIu64
			" samples have a loss that is not finite and are left out, the first is sample %" PRIu64,
		    e->all.n_bad, e->bad_id);
	if (e->all.n_unlabelled > 0)
		df_info("%" PRIu64 " samples have no target and count for nothing", e->all.n_unlabelled);
	if (r->cfg.json)
		return report_json(r, err);
	printf("%-24s%9s%11s%12s%12s%12s%12s%12s\n", "domain", "samples", "targets", "loss", "perplexity",
	    "sample loss", "token acc", "exact acc");
	for (size_t d = 0; d < e->n_domains; d++) {
		if (e->domain[d].n_samples > 0)
			table_line(domain_name(r, d), &e->domain[d]);
	}
	table_line("overall", &e->all);
	return DF_OK;
}

int
main(int argc, char **argv)
{
	static struct run r = { .cfg = CFG_DEFAULT, .rows = { .meta = DF_META_INIT } };
	const struct df_opt opts[] = OPTS(&r.cfg);
	struct df_opt_result args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-eval");
	df_prog_parse(opts, synopsis, about, &r.cfg.common, argc, argv, &args);
	rc = evaluate(&r, &args.operands, &err);
	if (rc == DF_OK)
		rc = report(&r, &err);
	df_eval_release(&r.eval);
	df_rows_release(&r.rows);
	df_model_free(r.model);
	df_backend_close(r.backend);
	df_pool_free(r.pool);
	df_opt_result_release(&args);
	return df_prog_exit(rc, &err);
}
