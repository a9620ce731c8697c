/*
 * encode_message.c - messages that are changed before they are encoded.
 *
 * Tools go after the system text; a system text may go before the first question; calls of tools are written in the
 * model's own format; thoughts of a reasoning model are removed.  All of this is done on text, before tokenising.
 * Where LLaMA-Factory uses regular expressions, we search for two fixed words.
 */
#include <string.h>

#include "chat/encode_priv.h"
#include "chat/tools.h"

static struct df_span
span_of(const struct df_buf *b)
{
	return (struct df_span){ b->data, b->len };
}

/* The first `word` in t, from `from` on; NULL when there is none. */
static const char *
find(struct df_span t, size_t from, const char *word)
{
	return memmem(t.s + from, t.n - from, word, strlen(word));
}

/* open(.*?)close, as re.search finds it: [*at, *end) with the words, from `from` on. */
static bool
find_pair(struct df_span t, size_t from, const char *const words[2], size_t *at, size_t *end)
{
	const char *open = find(t, from, words[0]), *close;

	if (!open)
		return false;
	*at = (size_t)(open - t.s);
	close = find(t, *at + strlen(words[0]), words[1]);
	if (!close)
		return false;
	*end = (size_t)(close - t.s) + strlen(words[1]);
	return true;
}

/* Append t without the piece [at, end), and without its copies elsewhere (str.replace(piece, "")). */
static void
add_without(struct df_buf *out, struct df_span t, size_t at, size_t end)
{
	const char *piece = t.s + at;
	const size_t n = end - at;
	size_t from = 0;

	while (n > 0) {
		const char *p = memmem(t.s + from, t.n - from, piece, n);

		if (!p)
			break;
		df_buf_add(out, t.s + from, (size_t)(p - t.s) - from);
		from = (size_t)(p - t.s) + n;
	}
	df_buf_add(out, t.s + from, t.n - from);
}

int
df_enc_system(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, struct df_span *out,
    struct df_err *err)
{
	int rc = DF_OK;

	*out = ex->n_system > 0 ? (struct df_span){ ex->system, ex->n_system }
				: (struct df_span){ e->default_system, strlen(e->default_system) };
	if (ex->n_tools == 0)
		return 0;
	df_buf_clear(&s->system);
	df_buf_add(&s->system, out->s, out->n);
	DF_TRY(df_tools_describe(e->tool_format, ex->tools, ex->n_tools, e->date, &s->system, err));
	DF_TRY(df_buf_check(&s->system, err));
	*out = span_of(&s->system);
out:
	return rc;
}

int
df_enc_fuse(const struct df_encoder *e, struct df_encscratch *s, struct df_span system, struct df_span question,
    struct df_span *out, struct df_err *err)
{
	const struct df_enc_elem *el = &e->slot[DF_SLOT_SYSTEM].elem[0];

	df_buf_clear(&s->fused);
	df_buf_add(&s->fused, el->before, el->n_before);
	df_buf_add(&s->fused, system.s, system.n);
	df_buf_add(&s->fused, el->after, el->n_after);
	df_buf_add(&s->fused, question.s, question.n);
	*out = span_of(&s->fused);
	return df_buf_check(&s->fused, err);
}

bool
df_enc_has_thought(const struct df_encoder *e, struct df_span answer)
{
	return find(answer, 0, e->thought_bare[0]) || find(answer, 0, e->thought_bare[1]);
}

int
df_enc_strip(
    const struct df_encoder *e, struct df_encscratch *s, struct df_span answer, struct df_span *out, struct df_err *err)
{
	size_t from = 0, at, end;

	df_buf_clear(&s->answer);
	while (find_pair(answer, from, e->thought, &at, &end)) {
		df_buf_add(&s->answer, answer.s + from, at - from);
		from = end;
	}
	df_buf_add(&s->answer, answer.s + from, answer.n - from);
	*out = span_of(&s->answer);
	while (out->n > 0 && *out->s == '\n') {
		out->s++;
		out->n--;
	}
	return df_buf_check(&s->answer, err);
}

/*
 * A turn is JSON, perhaps after a thought, or text with calls between the tool call words.  Templates that fuse the
 * system text have neither (LLaMA-Factory's Llama2Template).
 */
int
df_enc_calls(
    const struct df_encoder *e, struct df_encscratch *s, struct df_span turn, struct df_span *out, struct df_err *err)
{
	struct df_buf json = DF_BUF_INIT;
	size_t at, end;
	int rc = DF_OK;

	df_buf_clear(&s->calls);
	if (!e->fuse_system && find_pair(turn, 0, e->call_words, &at, &end)) {
		const size_t from = at + strlen(e->call_words[0]), to = end - strlen(e->call_words[1]);

		add_without(&s->calls, turn, at, end);
		DF_TRY(df_tools_call(e->tool_format, turn.s + from, to - from, &s->calls, err));
	} else if (!e->fuse_system && find_pair(turn, 0, e->thought, &at, &end)) {
		add_without(&json, turn, at, end);
		DF_TRY(df_buf_check(&json, err));
		df_buf_add(&s->calls, turn.s + at, end - at);
		DF_TRY(df_tools_call(e->tool_format, json.data, json.len, &s->calls, err));
	} else {
		DF_TRY(df_tools_call(e->tool_format, turn.s, turn.n, &s->calls, err));
	}
	DF_TRY(df_buf_check(&s->calls, err));
	*out = span_of(&s->calls);
out:
	df_buf_release(&json);
	return rc;
}
