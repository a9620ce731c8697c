/*
 * details.c - a line of JSON for each question or answer.
 */
#include <inttypes.h>

#include "eval/details.h"

int
df_details_open(struct df_details *d, const char *path, struct df_err *err)
{
	return path ? df_text_out_open(&d->file, path, err) : DF_OK;
}

int
df_details_commit(struct df_details *d, struct df_err *err)
{
	return df_text_out_commit(&d->file, err);
}

void
df_details_close(struct df_details *d)
{
	df_text_out_close(&d->file);
	df_buf_release(&d->line);
}

/* ---- questions ---------------------------------------------------------------- */

static void
numbers(struct df_buf *out, const char *key, const double *v, size_t n)
{
	df_buf_printf(out, ", \"%s\": ", key);
	df_buf_json_doubles(out, v, n);
}

static void
put_question(struct df_buf *out, const struct df_choice_task *t, const struct df_choice_result *r, bool texts)
{
	const struct df_question *q = &t->subject[r->subject].asked[r->row];

	df_buf_puts(out, "{\"subject\": ");
	df_buf_json_str(out, t->subject[r->subject].name);
	df_buf_printf(out, ", \"row\": %zu, \"answer\": \"%c\"", r->row, (int)('A' + q->answer));
	numbers(out, "letters", r->letter, q->n_choices);
	if (texts) {
		numbers(out, "texts", r->text, q->n_choices);
		df_buf_puts(out, ", \"characters\": [");
		for (size_t i = 0; i < q->n_choices; i++)
			df_buf_printf(out, "%s%zu", i > 0 ? ", " : "", r->characters[i]);
		df_buf_putc(out, ']');
	}
	df_buf_puts(out, "}\n");
}

int
df_details_question(void *ctx, const struct df_choice_task *t, const struct df_choice_result *r, struct df_err *err)
{
	struct df_details *d = ctx;

	if (!d->file.f)
		return DF_OK;
	df_buf_clear(&d->line);
	put_question(&d->line, t, r, d->texts);
	return df_text_out_put(&d->file, &d->line, err);
}

/* ---- answers -------------------------------------------------------------------- */

static void
put_answer(struct df_buf *out, const struct df_prompts *p, const struct df_completion *c, bool right)
{
	df_buf_printf(out, "{\"id\": %" PRIu64 ", \"domain\": ", p->id[c->prompt]);
	df_buf_json_str(out, df_prompts_domain(p, p->domain[c->prompt]));
	df_buf_puts(out, ", \"completion\": ");
	df_buf_json_strn(out, c->text, c->n_text);
	df_buf_puts(out, ", \"answer\": ");
	df_buf_json_str(out, p->answer[c->prompt]);
	df_buf_printf(
	    out, ", \"finish\": \"%s\", \"match\": %s}\n", df_finish_name(c->finish), right ? "true" : "false");
}

int
df_details_answer(void *ctx, const struct df_completion *c, bool right, struct df_err *err)
{
	struct df_details *d = ctx;

	if (!d->file.f)
		return DF_OK;
	df_buf_clear(&d->line);
	put_answer(&d->line, d->prompts, c, right);
	return df_text_out_put(&d->file, &d->line, err);
}

static void
put_completion(struct df_buf *out, const struct df_match_line *line)
{
	df_buf_printf(out, "{\"id\": %" PRIu64, line->id);
	if (line->draw >= 0)
		df_buf_printf(out, ", \"sample\": %" PRId64, line->draw);
	df_buf_puts(out, ", \"domain\": ");
	df_buf_json_str(out, line->domain);
	df_buf_printf(out, ", \"match\": %s, \"reward\": %d}\n", line->right ? "true" : "false", line->right);
}

int
df_details_completion(void *ctx, const struct df_match_line *line, struct df_err *err)
{
	struct df_details *d = ctx;

	if (!d->file.f)
		return DF_OK;
	df_buf_clear(&d->line);
	put_completion(&d->line, line);
	return df_text_out_put(&d->file, &d->line, err);
}
