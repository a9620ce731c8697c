/*
 * pretok_cut.c - cutting text by kinds of characters, and joining the parts into words.
 *
 * To a pre-tokenizer a text is a list of parts: matches, and the gaps between them.  Its behavior says which parts
 * are words, and which parts are joined.
 */
#include "token/token_priv.h"

static int
flush(const struct tok_gather *g)
{
	return g->have && g->at > g->word ? g->fn(g->ctx, g->text + g->word, g->at - g->word) : DF_OK;
}

int
df_tok_gather(struct tok_gather *g, size_t stop, bool is_match)
{
	bool match = is_match != g->sp->invert, join = false;
	int rc = DF_OK;

	if (g->sp->behavior == TOK_CONTIGUOUS)
		join = match == g->last_match;
	else if (g->sp->behavior == TOK_MERGED_WITH_PREVIOUS)
		join = match && !g->last_match;
	else if (g->sp->behavior == TOK_MERGED_WITH_NEXT)
		join = !match && g->last_match;
	if (!join || !g->have) {
		DF_TRY(flush(g));
		g->word = g->at;
	}
	g->have = g->sp->behavior != TOK_REMOVED || !match;
	g->last_match = match;
	g->at = stop;
out:
	return rc;
}

int
df_tok_gather_end(struct tok_gather *g)
{
	return flush(g);
}

/* Every character that sp->is() is a match of its own. */
int
df_tok_cut_chars(const struct tok_split *sp, struct tok_regex_scratch *s, const char *text, size_t n, tok_word_fn *fn,
    void *ctx, struct df_err *err)
{
	struct tok_gather g = { .sp = sp, .text = text, .fn = fn, .ctx = ctx };
	size_t len;
	int rc = DF_OK;

	(void)s;
	(void)err;
	for (size_t i = 0; i < n; i += len) {
		if (!sp->is(df_uc_get((const unsigned char *)text + i, &len), sp->arg))
			continue;
		if (g.at < i)
			DF_TRY(df_tok_gather(&g, i, false));
		DF_TRY(df_tok_gather(&g, i + len, true));
	}
	if (g.at < n)
		DF_TRY(df_tok_gather(&g, n, false));
	DF_TRY(df_tok_gather_end(&g));
out:
	return rc;
}

/* Whitespace: \w+|[^\w\s]+, the rest dropped. */
int
df_tok_cut_words(const struct tok_split *sp, struct tok_regex_scratch *s, const char *text, size_t n, tok_word_fn *fn,
    void *ctx, struct df_err *err)
{
	size_t word = 0, len;
	unsigned kind = DF_UC_SPACE;
	int rc = DF_OK;

	(void)sp;
	(void)s;
	(void)err;
	for (size_t i = 0; i < n; i += len) {
		unsigned k = df_uc_table[df_uc_get((const unsigned char *)text + i, &len)];

		k = k & DF_UC_WORD ? DF_UC_WORD : k & DF_UC_SPACE;
		if (k == kind)
			continue;
		if (kind != DF_UC_SPACE)
			DF_TRY(fn(ctx, text + word, i - word));
		word = i;
		kind = k;
	}
	if (kind != DF_UC_SPACE)
		DF_TRY(fn(ctx, text + word, n - word));
out:
	return rc;
}

/* BertPreTokenizer: white space is removed, each punctuation character is a word. */
int
df_tok_cut_bert(const struct tok_split *sp, struct tok_regex_scratch *s, const char *text, size_t n, tok_word_fn *fn,
    void *ctx, struct df_err *err)
{
	size_t word = 0, len;
	int rc = DF_OK;

	(void)sp;
	(void)s;
	(void)err;
	for (size_t i = 0; i < n; i += len) {
		uint32_t c = df_uc_get((const unsigned char *)text + i, &len);
		bool space = df_uc_table[c] & DF_UC_SPACE, punct = df_uc_ref_table[c] & DF_UCR_PUNCT;

		if (!space && !punct)
			continue;
		if (word < i)
			DF_TRY(fn(ctx, text + word, i - word));
		if (punct)
			DF_TRY(fn(ctx, text + i, len));
		word = i + len;
	}
	if (word < n)
		DF_TRY(fn(ctx, text + word, n - word));
out:
	return rc;
}
