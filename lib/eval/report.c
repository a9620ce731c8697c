/*
 * report.c - numbers in rows.
 */
#include "eval/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static const char *const way_key[DF_CHOICE_WAYS] = { "letter", "text", "text_norm" };

static void
number(struct df_buf *b, const char *key, double x)
{
	df_buf_printf(b, ", \"%s\": ", key);
	df_buf_json_double(b, x);
}

/* "12.34% +- 1.23" of a fraction, in 18 columns. */
static void
percent(struct df_buf *b, double x, double error)
{
	if (!isfinite(x))
		df_buf_printf(b, "%18s", "-");
	else if (!isfinite(error))
		df_buf_printf(b, "%9.2f%%%8s", 100 * x, "");
	else
		df_buf_printf(b, "%9.2f%% +-%5.2f", 100 * x, 100 * error);
}

/* ---- losses ---------------------------------------------------------------- */

/* A number in 12 columns. */
static void
cell(struct df_buf *out, const char *fmt, double x)
{
	char text[32] = "-";

	if (isfinite(x))
		snprintf(text, sizeof(text), fmt, x);
	df_buf_printf(out, "%12s", text);
}

static void
loss_line(struct df_buf *out, const char *name, const struct df_eval_sum *s)
{
	df_buf_printf(out, "%-24.24s%9" PRIu64 "%11" PRIu64, name, s->n_samples, s->n_targets);
	cell(out, "%.4f", df_eval_loss(s));
	cell(out, "%.4g", df_eval_perplexity(s));
	cell(out, "%.4f", df_eval_sample_loss(s));
	cell(out, "%.2f%%", 100 * df_eval_token_accuracy(s));
	cell(out, "%.2f%%", 100 * df_eval_exact(s));
	df_buf_putc(out, '\n');
}

static void
loss_json(struct df_buf *b, const char *name, const struct df_eval_sum *s)
{
	df_buf_json_str(b, name);
	df_buf_printf(b,
	    ": {\"samples\": %" PRIu64 ", \"samples_without_targets\": %" PRIu64 ", \"samples_not_finite\": %" PRIu64
	    ", \"targets\": %" PRIu64,
	    s->n_samples, s->n_unlabelled, s->n_bad, s->n_targets);
	number(b, "loss", df_eval_loss(s));
	number(b, "perplexity", df_eval_perplexity(s));
	number(b, "sample_loss", df_eval_sample_loss(s));
	number(b, "token_accuracy", df_eval_token_accuracy(s));
	number(b, "exact_accuracy", df_eval_exact(s));
	df_buf_putc(b, '}');
}

static const char *
row_domain(const struct df_rows *r, size_t d)
{
	return d < r->meta.n_domains ? r->meta.domains[d] : "all";
}

void
df_loss_report(struct df_buf *out, const struct df_rows *r, const struct df_eval *e, const char *model, bool json)
{
	if (json) {
		df_buf_puts(out, "{\n  \"model\": ");
		df_buf_json_str(out, model);
		df_buf_puts(out, ",\n  \"tokens\": ");
		df_buf_json_str(out, r->meta.id);
		df_buf_puts(out, ",\n  ");
		loss_json(out, "overall", &e->all);
		df_buf_puts(out, ",\n  \"domains\": {");
		for (size_t d = 0; d < e->n_domains; d++) {
			df_buf_puts(out, d > 0 ? ",\n    " : "\n    ");
			loss_json(out, row_domain(r, d), &e->domain[d]);
		}
		df_buf_puts(out, "\n  }\n}\n");
		return;
	}
	df_buf_printf(out, "%-24s%9s%11s%12s%12s%12s%12s%12s\n", "domain", "samples", "targets", "loss", "perplexity",
	    "sample loss", "token acc", "exact acc");
	for (size_t d = 0; d < e->n_domains; d++) {
		if (e->domain[d].n_samples > 0)
			loss_line(out, row_domain(r, d), &e->domain[d]);
	}
	loss_line(out, "overall", &e->all);
}

/* ---- multiple choice ------------------------------------------------------- */

static size_t
n_ways(const struct df_choice_scores *s)
{
	return s->texts ? DF_CHOICE_WAYS : 1;
}

static void
choice_json(struct df_buf *b, const struct df_choice_scores *s, const struct df_choice_score *of)
{
	df_buf_printf(b, "{\"questions\": %" PRIu64, of->n);
	for (size_t w = 0; w < n_ways(s); w++) {
		df_buf_printf(b, ", \"%s\": ", way_key[w]);
		df_buf_json_double(b, df_choice_accuracy(of, (enum df_choice_way)w));
		df_buf_printf(b, ", \"%s_stderr\": ", way_key[w]);
		df_buf_json_double(b, df_choice_error(of, (enum df_choice_way)w));
	}
	df_buf_putc(b, '}');
}

void
df_choice_report(struct df_buf *out, const struct df_choice_task *t, const struct df_choice_scores *s,
    const char *model, size_t n_shots, bool json)
{
	double error;

	if (json) {
		df_buf_puts(out, "{\n  \"model\": ");
		df_buf_json_str(out, model);
		df_buf_printf(out, ",\n  \"shots\": %zu,\n  \"overall\": ", n_shots);
		choice_json(out, s, &s->all);
		df_buf_printf(out, ",\n  \"macro\": {\"subjects\": %zu", s->n);
		for (size_t w = 0; w < n_ways(s); w++) {
			const double x = df_choice_macro(s, (enum df_choice_way)w, &error);

			number(out, way_key[w], x);
			df_buf_printf(out, ", \"%s_stderr\": ", way_key[w]);
			df_buf_json_double(out, error);
		}
		df_buf_puts(out, "},\n  \"subjects\": {");
		for (size_t i = 0; i < s->n; i++) {
			df_buf_puts(out, i > 0 ? ",\n    " : "\n    ");
			df_buf_json_str(out, t->subject[i].name);
			df_buf_puts(out, ": ");
			choice_json(out, s, &s->subject[i]);
		}
		df_buf_puts(out, "\n  }\n}\n");
		return;
	}
	df_buf_printf(out, "%-34s%10s%18s", "subject", "questions", "by letter");
	df_buf_puts(out, s->texts ? "           by text   by text, norm.\n" : "\n");
	for (size_t i = 0; i <= s->n; i++) {
		const struct df_choice_score *of = i < s->n ? &s->subject[i] : &s->all;

		df_buf_printf(out, "%-34.34s%10" PRIu64, i < s->n ? t->subject[i].name : "all questions", of->n);
		for (size_t w = 0; w < n_ways(s); w++)
			percent(out, df_choice_accuracy(of, (enum df_choice_way)w),
			    df_choice_error(of, (enum df_choice_way)w));
		df_buf_putc(out, '\n');
	}
	df_buf_printf(out, "%-34s%10s", "mean of subjects", "");
	for (size_t w = 0; w < n_ways(s); w++) {
		const double x = df_choice_macro(s, (enum df_choice_way)w, &error);

		percent(out, x, error);
	}
	df_buf_putc(out, '\n');
}

/* ---- exact match ----------------------------------------------------------- */

static double
part(const struct df_match_score *s)
{
	return s->n > 0 ? (double)s->right / (double)s->n : NAN;
}

static double
part_error(const struct df_match_score *s)
{
	return s->n > 1 ? sqrt(part(s) * (1 - part(s)) / (double)(s->n - 1)) : NAN;
}

static void
match_json(struct df_buf *out, const char *name, const struct df_match_score *s)
{
	df_buf_json_str(out, name);
	df_buf_printf(out, ": {\"samples\": %" PRIu64 ", \"cut\": %" PRIu64, s->n, s->cut);
	number(out, "match", part(s));
	number(out, "match_stderr", part_error(s));
	df_buf_putc(out, '}');
}

void
df_match_report(struct df_buf *out, const struct df_prompts *p, const struct df_match_scores *s, const char *of,
    const char *name, bool json)
{
	if (json) {
		df_buf_printf(out, "{\n  \"%s\": ", of);
		df_buf_json_str(out, name);
		df_buf_puts(out, ",\n  ");
		match_json(out, "overall", &s->all);
		df_buf_puts(out, ",\n  \"domains\": {");
		for (size_t d = 0; d < s->n_domains; d++) {
			df_buf_puts(out, d > 0 ? ",\n    " : "\n    ");
			match_json(out, df_prompts_domain(p, d), &s->domain[d]);
		}
		df_buf_puts(out, "\n  }\n}\n");
		return;
	}
	df_buf_printf(out, "%-34s%9s%8s%18s\n", "domain", "samples", "cut", "match");
	for (size_t d = 0; d <= s->n_domains; d++) {
		const struct df_match_score *x = d < s->n_domains ? &s->domain[d] : &s->all;

		df_buf_printf(out, "%-34.34s%9" PRIu64 "%8" PRIu64,
		    d < s->n_domains ? df_prompts_domain(p, d) : "overall", x->n, x->cut);
		percent(out, part(x), part_error(x));
		df_buf_putc(out, '\n');
	}
}

/* ---- rewards --------------------------------------------------------------- */

/* Of a label over the rows of a domain, or all (domain SIZE_MAX); their number is returned. */
static uint64_t
moments(const struct df_rows *r, const float *scores, size_t n_labels, size_t label, size_t domain, double *mean,
    double *deviation)
{
	double sum = 0, squares = 0;
	uint64_t n = 0;

	for (uint64_t i = 0; i < r->n; i++) {
		if (domain != SIZE_MAX && df_rows_domain(r, i) != domain)
			continue;
		sum += (double)scores[i * n_labels + label];
		n++;
	}
	*mean = n > 0 ? sum / (double)n : NAN;
	for (uint64_t i = 0; i < r->n; i++)
		if (domain == SIZE_MAX || df_rows_domain(r, i) == domain)
			squares += pow((double)scores[i * n_labels + label] - *mean, 2);
	*deviation = n > 1 ? sqrt(squares / (double)(n - 1)) : NAN;
	return n;
}

static void
reward_json(
    struct df_buf *out, const struct df_rows *r, const float *scores, size_t n_labels, const char *name, size_t domain)
{
	double mean, deviation;
	uint64_t n = 0;

	df_buf_json_str(out, name);
	df_buf_puts(out, ": {\"score\": [");
	for (size_t l = 0; l < n_labels; l++) {
		n = moments(r, scores, n_labels, l, domain, &mean, &deviation);
		df_buf_puts(out, l > 0 ? ", " : "");
		df_buf_json_double(out, mean);
	}
	df_buf_puts(out, "], \"deviation\": [");
	for (size_t l = 0; l < n_labels; l++) {
		(void)moments(r, scores, n_labels, l, domain, &mean, &deviation);
		df_buf_puts(out, l > 0 ? ", " : "");
		df_buf_json_double(out, deviation);
	}
	df_buf_printf(out, "], \"samples\": %" PRIu64 "}", n);
}

void
df_reward_report(
    struct df_buf *out, const struct df_rows *r, const float *scores, size_t n_labels, const char *model, bool json)
{
	const size_t n_domains = r->meta.n_domains;
	double mean, deviation;

	if (json) {
		df_buf_puts(out, "{\n  \"model\": ");
		df_buf_json_str(out, model);
		df_buf_puts(out, ",\n  ");
		reward_json(out, r, scores, n_labels, "overall", SIZE_MAX);
		df_buf_puts(out, ",\n  \"domains\": {");
		for (size_t d = 0; d < n_domains; d++) {
			df_buf_puts(out, d > 0 ? ",\n    " : "\n    ");
			reward_json(out, r, scores, n_labels, r->meta.domains[d], d);
		}
		df_buf_puts(out, "\n  }\n}\n");
		return;
	}
	df_buf_printf(out, "%-34s%7s%9s%14s%14s\n", "domain", "label", "samples", "mean score", "deviation");
	for (size_t d = 0; d <= n_domains; d++) {
		for (size_t l = 0; l < n_labels; l++) {
			const uint64_t n =
			    moments(r, scores, n_labels, l, d < n_domains ? d : SIZE_MAX, &mean, &deviation);

			if (n > 0)
				df_buf_printf(out, "%-34.34s%7zu%9" PRIu64 "%14.6g%14.6g\n",
				    d < n_domains ? r->meta.domains[d] : "overall", l, n, mean, deviation);
		}
	}
}
