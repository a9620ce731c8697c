/*
 * completion.c - completions as rows of tokens and as lines of JSON.
 */
#include "sample/completion.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"

/* How many tokens the prompt of a completion has, and where they are. */
static size_t
prompt_of(const struct df_prompts *p, const struct df_completion *c, const uint32_t **ids)
{
	*ids = p->ids + p->offsets[c->prompt];
	return (size_t)(p->offsets[c->prompt + 1] - p->offsets[c->prompt]);
}

int
df_completion_row(struct df_token_row *row, struct df_encoded *buf, const struct df_prompts *p,
    const struct df_completion *c, uint32_t n_samples, struct df_err *err)
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

int
df_completion_line(struct df_buf *out, const struct df_tokenizer *tok, const struct df_prompts *p,
    const struct df_completion *c, struct df_err *err)
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
