/*
 * pretok_re.c - Split patterns that have no matcher in pretok.c, through PCRE2.
 *
 * tokenizer.json's regexes are Oniguruma's (Ruby syntax).  PCRE2 agrees with it on literals, groups, alternation,
 * quantifiers and look-around; classes are rewritten (pretok_class.c), and what has no exact equivalent is refused
 * by name: a tokenizer that is nearly right would be worse than none.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "token/pretok_priv.h"

/* This bounds the cost of one match with a hostile pattern. */
#define MATCH_LIMIT       50000000u
#define JIT_STACK_MAX     (8u << 20)
#define MAX_PATTERN_BYTES (64u << 10)
#define MAX_GROUPS        128

struct tok_regex {
	pcre2_code *code;
};

struct tok_regex_scratch {
	pcre2_match_data *match;
	pcre2_match_context *ctx;
	pcre2_jit_stack *stack;
};

/* Groups that mean the same in both. */
static bool
known_group(const char *p, size_t n)
{
	static const char *const known[] = { "(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>" };

	if (n < 2 || (p[1] != '?' && p[1] != '*'))
		return true;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (n >= strlen(known[i]) && memcmp(p, known[i], strlen(known[i])) == 0)
			return true;
	return false;
}

/*
 * When case is ignored, Oniguruma also matches one character with several (U+00DF with ss, U+FB06 with st); PCRE2
 * does not.  These are the ASCII pairs that are affected.
 */
static bool
folds_together(const char *p, size_t n)
{
	static const char *const pairs[] = { "ss", "st", "ff", "fi", "fl" };

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]) && n >= 2; i++)
		if ((p[0] | 0x20) == pairs[i][0] && (p[1] | 0x20) == pairs[i][1])
			return true;
	return (unsigned char)p[0] >= 0x80;
}

/* Oniguruma's pattern in PCRE2's syntax. */
static int
rewrite(struct df_buf *out, const char *p, size_t n, struct df_err *err)
{
	bool any_case[MAX_GROUPS] = { false };
	size_t depth = 0, i = 0;
	int rc = DF_OK;

	while (i < n) {
		if (p[i] == '\\' || p[i] == '[') {
			DF_TRY(df_tok_class(out, p, n, &i, any_case[depth], err));
			continue;
		}
		if (any_case[depth] && folds_together(p + i, n - i))
			return df_tok_regex_refuse(err, p, n, i, "ignoring the case of this");
		if (p[i] == '^' || p[i] == '$')
			return df_tok_regex_refuse(err, p, n, i, "an anchor");
		if (p[i] == '{' && i + 1 < n && p[i + 1] == ',')
			return df_tok_regex_refuse(err, p, n, i, "a repeat without a lower bound");
		/* Possessive in PCRE2, a repeat of a repeat in Ruby. */
		if (p[i] == '}' && i + 1 < n && p[i + 1] == '+')
			return df_tok_regex_refuse(err, p, n, i, "}+");
		if (p[i] == '(') {
			if (!known_group(p + i, n - i))
				return df_tok_regex_refuse(err, p, n, i, "this group");
			if (++depth == MAX_GROUPS)
				return df_tok_regex_refuse(err, p, n, i, "groups so deep");
			any_case[depth] = any_case[depth - 1] || (n - i >= 4 && memcmp(p + i, "(?i:", 4) == 0);
		}
		/* PCRE2 reports an unmatched closing bracket. */
		if (p[i] == ')' && depth > 0)
			depth--;
		df_buf_putc(out, p[i++]);
	}
	DF_TRY(df_buf_check(out, err));
out:
	return rc;
}

int
df_tok_regex_new(struct tok_regex **out, const char *pattern, size_t n, bool literal, struct df_err *err)
{
	struct df_buf ours = DF_BUF_INIT;
	struct tok_regex *re = NULL;
	pcre2_compile_context *ctx = NULL;
	unsigned char why[200];
	PCRE2_SIZE where;
	int code, rc;

	if (n > MAX_PATTERN_BYTES)
		return df_fail(err, DF_ERANGE, "a regex of %zu bytes (at most %u)", n, MAX_PATTERN_BYTES);
	/* In the reference an empty string matches nowhere, not everywhere. */
	if (literal && n == 0) {
		df_buf_puts(&ours, "(?!)");
		literal = false;
	} else if (literal)
		df_buf_add(&ours, pattern, n);
	else
		DF_TRY(rewrite(&ours, pattern, n, err));
	DF_TRY(df_buf_check(&ours, err));
	DF_TRY(df_alloc(&re, 1, sizeof(*re), "a regex", err));
	ctx = pcre2_compile_context_create(NULL);
	if (ctx == NULL) {
		rc = df_fail(err, DF_ENOMEM, "out of memory for a regex");
		goto out;
	}
	pcre2_set_newline(ctx, PCRE2_NEWLINE_LF);
	re->code = pcre2_compile((PCRE2_SPTR)ours.data, ours.len,
	    literal ? PCRE2_UTF | PCRE2_LITERAL : PCRE2_UTF | PCRE2_UCP, &code, &where, ctx);
	if (re->code == NULL) {
		pcre2_get_error_message(code, why, sizeof(why));
		rc = df_fail(err, DF_EFORMAT, "regex '%.*s': %s", (int)(n < 200 ? n : 200), pattern, why);
		goto out;
	}
	/* Without JIT (some architectures) matching is slower, not different. */
	pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE);
	*out = re;
	re = NULL;
out:
	pcre2_compile_context_free(ctx);
	df_buf_release(&ours);
	df_tok_regex_free(re);
	return rc;
}

void
df_tok_regex_free(struct tok_regex *re)
{
	if (re == NULL)
		return;
	pcre2_code_free(re->code);
	free(re);
}

int
df_tok_regex_scratch_new(struct tok_regex_scratch **out, struct df_err *err)
{
	struct tok_regex_scratch *s = NULL;
	int rc;

	DF_TRY(df_alloc(&s, 1, sizeof(*s), "regex buffers", err));
	s->match = pcre2_match_data_create(1, NULL);
	s->ctx = pcre2_match_context_create(NULL);
	s->stack = pcre2_jit_stack_create(32u << 10, JIT_STACK_MAX, NULL);
	if (s->match == NULL || s->ctx == NULL) {
		rc = df_fail(err, DF_ENOMEM, "out of memory for regex buffers");
		goto out;
	}
	pcre2_set_match_limit(s->ctx, MATCH_LIMIT);
	if (s->stack != NULL)
		pcre2_jit_stack_assign(s->ctx, NULL, s->stack);
	*out = s;
	s = NULL;
out:
	df_tok_regex_scratch_free(s);
	return rc;
}

void
df_tok_regex_scratch_free(struct tok_regex_scratch *s)
{
	if (s == NULL)
		return;
	pcre2_match_data_free(s->match);
	pcre2_match_context_free(s->ctx);
	pcre2_jit_stack_free(s->stack);
	free(s);
}

/* The first match at or after `from`: 1 with [*start,*end), 0 none, or an error code. */
static int
find(const struct tok_regex *re, struct tok_regex_scratch *s, const char *text, size_t n, size_t from, size_t *start,
    size_t *end, struct df_err *err)
{
	unsigned char why[200];
	PCRE2_SIZE *at;
	int code;

	/* The text was checked when encoding began. */
	code = pcre2_match(re->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, s->match, s->ctx);
	if (code == PCRE2_ERROR_NOMATCH)
		return 0;
	if (code < 0) {
		pcre2_get_error_message(code, why, sizeof(why));
		return df_fail(err, DF_ERANGE, "the tokenizer's regex gave up at byte %zu: %s", from, why);
	}
	at = pcre2_get_ovector_pointer(s->match);
	*start = at[0];
	*end = at[1];
	return 1;
}

int
df_tok_regex_next(const struct tok_regex *re, struct tok_regex_scratch *s, const char *text, size_t n,
    struct tok_regex_walk *walk, size_t *start, size_t *end, struct df_err *err)
{
	size_t len;
	int found;

	while (walk->from <= n && (found = find(re, s, text, n, walk->from, start, end, err)) != 0) {
		if (found < 0)
			return found;
		if (*start != *end || *end != walk->last_end) {
			walk->from = walk->last_end = *end;
			return 1;
		}
		/* An empty match right after a match does not count: continue after the next character. */
		len = 1;
		if (walk->from < n)
			df_uc_get((const unsigned char *)text + walk->from, &len);
		walk->from += len;
	}
	return 0;
}

int
df_tok_cut_regex(const struct tok_split *sp, struct tok_regex_scratch *s, const char *text, size_t n, tok_word_fn *fn,
    void *ctx, struct df_err *err)
{
	struct tok_gather g = { .sp = sp, .text = text, .fn = fn, .ctx = ctx };
	struct tok_regex_walk walk = { 0, SIZE_MAX };
	size_t start, end;
	int rc = DF_OK, found;

	while ((found = df_tok_regex_next(sp->regex, s, text, n, &walk, &start, &end, err)) > 0) {
		if (g.at < start)
			DF_TRY(df_tok_gather(&g, start, false));
		DF_TRY(df_tok_gather(&g, end, true));
	}
	if (found < 0)
		return found;
	if (g.at < n)
		DF_TRY(df_tok_gather(&g, n, false));
	DF_TRY(df_tok_gather_end(&g));
out:
	return rc;
}
