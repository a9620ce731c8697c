/*
 * completion.c - completions as rows of tokens and as lines of JSON.
 */
#include "sample/completion.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text_out.h"
#include "chat/encode.h"
#include "shard/token_writer.h"

#define BATCH_ROWS 16 /* what a kill may cost */

struct df_completions {
	const struct df_completions_opts *o;
	struct df_token_writer *rows; /* NULL: none */
	struct df_encoded row;
	struct df_text_out lines;
	char *lines_path;
	struct df_buf line;
	struct df_completion_counts counts;
};

static int
open_rows(struct df_completions *c, struct df_err *err)
{
	static const enum df_col cols[] = { DF_COL_DOMAIN, DF_COL_ID, DF_COL_IDS, DF_COL_LABEL_MASK, DF_COL_PROMPT,
		DF_COL_DRAW };
	static const struct df_token_batch batch = { .rows = BATCH_ROWS };
	const struct df_completions_opts *o = c->o;
	const bool stream = strcmp(o->rows, "-") == 0, domains = o->prompts->n_domains > 0;
	/* Lines that were printed before a kill cannot be made again from the tokens that were kept. */
	const struct df_writer_opts opts = { .compress = o->compress, .resumable = !stream && !o->lines };
	char *path = NULL;
	int rc = DF_OK;

	if (!stream)
		DF_TRY(df_shard_name(&path, o->rows, o->shard, err));
	DF_TRY(df_token_writer_open(&c->rows, stream ? "-" : path, o->meta, cols + !domains,
	    sizeof(cols) / sizeof(cols[0]) - !domains, batch, &opts, err));
	c->counts.n_done = df_token_writer_done_rows(c->rows);
	if (c->counts.n_done > 0)
		df_info("%" PRIu64 " completions are done already: going on from there", c->counts.n_done);
out:
	free(path);
	return rc;
}

static int
open_lines(struct df_completions *c, struct df_err *err)
{
	const char *path = c->o->lines;
	int rc = DF_OK;

	if (strcmp(path, "-") != 0) {
		DF_TRY(df_shard_text_name(&c->lines_path, path, c->o->shard, err));
		path = c->lines_path;
	}
	rc = df_text_out_open(&c->lines, path, err);
out:
	return rc;
}

int
df_completions_open(struct df_completions **out, const struct df_completions_opts *o, struct df_err *err)
{
	struct df_completions *c = NULL;
	int rc;

	DF_TRY(df_alloc(&c, 1, sizeof(*c), "completions", err));
	c->o = o;
	c->lines = (struct df_text_out)DF_TEXT_OUT_INIT;
	if (o->rows)
		DF_TRY(open_rows(c, err));
	if (o->lines)
		DF_TRY(open_lines(c, err));
	*out = c;
	return DF_OK;
out:
	df_completions_close(c);
	return rc;
}

/* How many tokens the prompt of a completion has, and where they are. */
static size_t
prompt_of(const struct df_prompts *p, const struct df_completion *c, const uint32_t **ids)
{
	*ids = p->ids + p->offsets[c->prompt];
	return (size_t)(p->offsets[c->prompt + 1] - p->offsets[c->prompt]);
}

/* Prompt and completion as a row, which lies in buf. */
static int
make_row(struct df_token_row *row, struct df_encoded *buf, const struct df_prompts *p, const struct df_completion *c,
    uint32_t n_samples, struct df_err *err)
{
	const uint32_t *prompt;
	const size_t n_prompt = prompt_of(p, c, &prompt), n = n_prompt + c->n;
	int rc;

	DF_TRY(df_grow(&buf->ids.v, &buf->ids.cap, n, sizeof(*buf->ids.v), "completions", err));
	DF_TRY(df_grow(&buf->mask, &buf->cap_mask, n, 1, "completions", err));
	memcpy(buf->ids.v, prompt, n_prompt * sizeof(*prompt));
	memcpy(buf->ids.v + n_prompt, c->ids, c->n * sizeof(*c->ids));
	memset(buf->mask, 0, n_prompt);
	memset(buf->mask + n_prompt, 1, c->n);
	buf->ids.n = n;
	*row = (struct df_token_row){ .ids = buf->ids.v,
		.mask = buf->mask,
		.n = n,
		.id = (uint64_t)c->prompt * n_samples + c->draw,
		.prompt = p->id[c->prompt],
		.draw = c->draw,
		.domain = p->domain[c->prompt] };
out:
	return rc;
}

static int
make_line(struct df_buf *out, const struct df_tokenizer *tok, const struct df_prompts *p, const struct df_completion *c,
    struct df_err *err)
{
	struct df_buf prompt = DF_BUF_INIT;
	const uint32_t *ids;
	const size_t n = prompt_of(p, c, &ids);
	int rc;

	DF_TRY(df_generate_text(tok, ids, n, &prompt, err));
	df_buf_printf(out, "{\"id\": %" PRIu64 ", \"sample\": %" PRIu32, p->id[c->prompt], c->draw);
	if (p->n_domains > 0) {
		df_buf_puts(out, ", \"domain\": ");
		df_buf_json_str(out, p->domains[p->domain[c->prompt]]);
	}
	df_buf_puts(out, ", \"prompt\": ");
	df_buf_json_strn(out, prompt.data, prompt.len);
	df_buf_puts(out, ", \"completion\": ");
	df_buf_json_strn(out, c->text, c->n_text);
	if (p->answer[c->prompt]) {
		df_buf_puts(out, ", \"answer\": ");
		df_buf_json_str(out, p->answer[c->prompt]);
	}
	df_buf_printf(out, ", \"tokens\": %zu, \"finish\": \"%s\", \"logprob\": ", c->n, df_finish_name(c->finish));
	df_buf_json_double(out, c->logprob);
	df_buf_puts(out, "}\n");
	rc = df_buf_check(out, err);
out:
	df_buf_release(&prompt);
	return rc;
}

int
df_completions_put(void *ctx, const struct df_completion *x, struct df_err *err)
{
	struct df_completions *c = ctx;
	const struct df_completions_opts *o = c->o;
	struct df_token_row row;
	int rc = DF_OK;

	if (o->rows) {
		DF_TRY(make_row(&row, &c->row, o->prompts, x, o->n_samples, err));
		DF_TRY(df_token_writer_put(c->rows, &row, err));
	}
	if (o->lines) {
		df_buf_clear(&c->line);
		DF_TRY(make_line(&c->line, o->tok, o->prompts, x, err));
		DF_TRY(df_text_out_put(&c->lines, &c->line, err));
	}
	c->counts.n_tokens += x->n;
	c->counts.n_cut += x->finish == DF_FINISH_LENGTH;
out:
	return rc;
}

struct df_completion_counts
df_completions_counts(const struct df_completions *c)
{
	return c->counts;
}

int
df_completions_keep(struct df_completions *c, struct df_err *err)
{
	return c->rows ? df_token_writer_flush(c->rows, err) : DF_OK;
}

int
df_completions_commit(struct df_completions *c, struct df_err *err)
{
	int rc = DF_OK;

	if (c->rows)
		DF_TRY(df_token_writer_finish(c->rows, err));
	DF_TRY(df_text_out_commit(&c->lines, err));
	if (c->rows)
		DF_TRY(df_token_writer_commit(c->rows, err));
out:
	return rc;
}

void
df_completions_close(struct df_completions *c)
{
	if (!c)
		return;
	df_text_out_close(&c->lines);
	df_token_writer_close(c->rows);
	df_encoded_release(&c->row);
	df_buf_release(&c->line);
	free(c->lines_path);
	free(c);
}

int
df_completions_note_ends(struct df_meta *m, const struct df_ids *eos, const struct df_strlist *stop, struct df_err *err)
{
	struct df_buf list = DF_BUF_INIT;
	char key[32];
	int rc;

	df_buf_puts(&list, "");
	for (size_t i = 0; i < eos->n; i++)
		df_buf_printf(&list, "%s%" PRIu32, i ? "," : "", eos->v[i]);
	DF_TRY(df_buf_check(&list, err));
	DF_TRY(df_meta_set_str(m, "eos", list.data, err));
	for (size_t i = 0; i < stop->n; i++) {
		snprintf(key, sizeof(key), "stop.%zu", i);
		DF_TRY(df_meta_set_str(m, key, stop->v[i], err));
	}
out:
	df_buf_release(&list);
	return rc;
}
