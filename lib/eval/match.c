/*
 * match.c - reduce two texts to what is compared, and count the matches.
 */
#include "eval/match.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_punctuation(char c)
{
	return (unsigned char)c < 0x80 && ispunct((unsigned char)c);
}

static void
put_stripped(struct df_buf *out, const char *s, size_t n)
{
	while (n > 0 && is_space(s[n - 1]))
		n--;
	while (n > 0 && is_space(*s)) {
		s++;
		n--;
	}
	df_buf_add(out, s, n);
}

static bool
is_article(const char *word, size_t n)
{
	return (n == 1 && word[0] == 'a') || (n == 2 && memcmp(word, "an", 2) == 0) ||
	    (n == 3 && memcmp(word, "the", 3) == 0);
}

/* Lower case without punctuation; then the words without articles, with one space between them. */
static void
put_words(struct df_buf *out, const char *s, size_t n)
{
	const size_t begin = out->len;
	size_t word = begin;

	for (size_t i = 0; i <= n; i++) {
		if (i < n && !is_space(s[i])) {
			if (!is_punctuation(s[i]))
				df_buf_putc(out, s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] + ('a' - 'A')) : s[i]);
			continue;
		}
		if (out->failed)
			return;
		if (out->len > word && is_article(out->data + word, out->len - word))
			out->len = word;
		else if (out->len > word)
			df_buf_putc(out, ' ');
		word = out->len;
	}
	if (out->len > begin)
		out->len--;
}

/* The number that begins at s[i], its end at *end; commas between digits are skipped. */
static void
put_number(struct df_buf *out, const char *s, size_t from, size_t to)
{
	char digits[64];
	size_t n = 0;

	for (size_t i = from; i < to && n + 1 < sizeof(digits); i++)
		if (s[i] != ',')
			digits[n++] = s[i];
	digits[n] = '\0';
	df_buf_json_double(out, strtod(digits, NULL) + 0.0);
}

static void
put_last_number(struct df_buf *out, const char *s, size_t n)
{
	size_t to = n, from;

	while (to > 0 && !is_digit(s[to - 1]))
		to--;
	if (to == 0)
		return;
	for (from = to; from > 0; from--) {
		const char c = s[from - 1];

		if (!is_digit(c) && !((c == '.' || c == ',') && from > 1 && is_digit(s[from - 2])))
			break;
	}
	/* A number has at most one point: of 1.2.3 it is the last part, as if it were read from the end. */
	for (size_t i = to, points = 0; i > from; i--) {
		points += s[i - 1] == '.';
		if (points == 2) {
			from = i;
			break;
		}
	}
	if (from > 0 && s[from - 1] == '-' && (from == 1 || !is_digit(s[from - 2])))
		from--;
	put_number(out, s, from, to);
}

int
df_match_normalise(enum df_match how, const char *text, size_t n, struct df_buf *out, struct df_err *err)
{
	switch (how) {
	case DF_MATCH_STRIP: put_stripped(out, text, n); break;
	case DF_MATCH_TEXT: put_words(out, text, n); break;
	case DF_MATCH_NUMBER: put_last_number(out, text, n); break;
	default: df_buf_add(out, text, n); break;
	}
	return df_buf_check(out, err);
}

struct run {
	struct df_match_scores *out;
	const struct df_prompts *p;
	enum df_match how;
	df_match_fn *each;
	void *ctx;
	struct df_buf got, want;
};

static int
compare(void *ctx, const struct df_completion *c, struct df_err *err)
{
	struct run *r = ctx;
	const char *answer = r->p->answer[c->prompt];
	struct df_match_score *of[] = { &r->out->all, &r->out->domain[r->p->domain[c->prompt]] };
	bool right;
	int rc;

	df_buf_clear(&r->got);
	df_buf_clear(&r->want);
	DF_TRY(df_match_normalise(r->how, c->text, c->n_text, &r->got, err));
	DF_TRY(df_match_normalise(r->how, answer, strlen(answer), &r->want, err));
	right = r->got.len == r->want.len && (r->got.len == 0 || memcmp(r->got.data, r->want.data, r->got.len) == 0) &&
	    !(r->how == DF_MATCH_NUMBER && r->want.len == 0);
	for (size_t i = 0; i < 2; i++) {
		of[i]->n++;
		of[i]->right += right;
		of[i]->cut += c->finish == DF_FINISH_LENGTH;
	}
	if (r->each != NULL)
		DF_TRY(r->each(r->ctx, c, right, err));
out:
	return rc;
}

int
df_match_run(struct df_match_scores *out, struct df_model *m, struct df_pool *pool, const struct df_prompts *p,
    const struct df_generate_opts *o, enum df_match how, df_match_fn *each, void *ctx, struct df_err *err)
{
	struct run r = { .out = out, .p = p, .how = how, .each = each, .ctx = ctx };
	int rc;

	*out = (struct df_match_scores){ .n_domains = p->n_domains > 0 ? p->n_domains : 1 };
	for (size_t i = 0; i < p->n; i++)
		if (p->answer[i] == NULL)
			return df_fail(
			    err, DF_EFORMAT, "prompt %llu has no answer to compare with", (unsigned long long)p->id[i]);
	DF_TRY(df_alloc(&out->domain, out->n_domains, sizeof(*out->domain), "domains", err));
	rc = df_generate(m, pool, p, o, compare, &r, err);
out:
	df_buf_release(&r.got);
	df_buf_release(&r.want);
	if (rc != DF_OK)
		df_match_scores_release(out);
	return rc;
}

void
df_match_scores_release(struct df_match_scores *s)
{
	free(s->domain);
	*s = (struct df_match_scores){ 0 };
}
