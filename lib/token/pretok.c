/*
 * pretok.c - cutting text into words: matchers for well-known regexes.
 *
 * Three regexes cover nearly every byte-level tokenizer.  Each only depends on the next one or two characters, so
 * it is written as a function over UTF-8 that looks up ASCII in a small table and the rest in df_uc_table.
 * Alternatives are tried in the regex's order.  tests/unit/test_tokenizer.c compares each with the regex itself.
 */
#include <string.h>

#include "token/token_priv.h"

/* Llama 3 and Qwen2 differ in how many digits make a word. */
#define PATTERN_MODERN(digits)                                                                                  \
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" \
	"\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
const char df_tok_pattern_gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

enum { L = DF_UC_LETTER, N = DF_UC_NUMBER, S = DF_UC_SPACE, LNS = L | N | S };

/* The class of the character at s and its length. */
static inline unsigned
class_at(const unsigned char *s, size_t *len)
{
	return df_uc_table[df_uc_get(s, len)] & LNS;
}

/* The end of the run of characters whose class, masked, is `want`. */
static inline size_t
run_end(const unsigned char *s, size_t n, size_t at, unsigned mask, unsigned want)
{
	size_t len;

	while (at < n && (class_at(s + at, &len) & mask) == want)
		at += len;
	return at;
}

/* 's 't 'm 'd 're 've 'll after the apostrophe at s[at]; 0 when none matches.  Ignoring case, U+017F is an s too. */
static size_t
contraction(const unsigned char *s, size_t n, size_t at, bool any_case)
{
	unsigned char fold = any_case ? 0x20 : 0, a, b;

	if (n - at < 2)
		return 0;
	a = s[at + 1] | fold;
	if (a == 's' || a == 't' || a == 'm' || a == 'd')
		return at + 2;
	if (n - at < 3)
		return 0;
	if (any_case && s[at + 1] == 0xC5 && s[at + 2] == 0xBF)
		return at + 3;
	b = s[at + 2] | fold;
	return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? at + 3 : 0;
}

/* \s+(?!\S)|\s+ at a white-space character: a run leaves its last character to the word that follows. */
static size_t
spaces_end(const unsigned char *s, size_t n, size_t at)
{
	size_t end = at, last = at, len;

	while (end < n && (class_at(s + end, &len) & S)) {
		last = end;
		end += len;
	}
	return end == n || last == at ? end : last;
}

static size_t
gpt2(const unsigned char *s, size_t n, size_t at)
{
	size_t len, next, end;
	unsigned c;

	if (s[at] == '\'' && (end = contraction(s, n, at, false)) != 0)
		return end;
	next = at + (s[at] == ' ');
	if (next < n) {
		c = class_at(s + next, &len);
		if (c & L)
			return run_end(s, n, next + len, L, L);
		if (c & N)
			return run_end(s, n, next + len, N, N);
		if (c == 0)
			return run_end(s, n, next + len, LNS, 0);
	}
	return spaces_end(s, n, at);
}

/* \s*[\r\n]+ at a white-space character: up to the last line end of the run; 0 when it has none. */
static size_t
lines_end(const unsigned char *s, size_t n, size_t at)
{
	size_t end = 0, len;

	while (at < n && (class_at(s + at, &len) & S)) {
		if (s[at] == '\r' || s[at] == '\n')
			end = at + 1;
		at += len;
	}
	return end;
}

static inline size_t
modern(const unsigned char *s, size_t n, size_t at, int max_digits)
{
	size_t len, len2, end, next;
	unsigned c, c2;

	if (s[at] == '\'' && (end = contraction(s, n, at, true)) != 0)
		return end;
	c = class_at(s + at, &len);
	next = at + len;
	if (c & L)
		return run_end(s, n, next, L, L);
	if (c & N) {
		for (int i = 1; i < max_digits && next < n && (class_at(s + next, &len) & N); i++)
			next += len;
		return next;
	}
	c2 = next < n ? class_at(s + next, &len2) : S;
	if ((c2 & L) && s[at] != '\r' && s[at] != '\n')
		return run_end(s, n, next + len2, L, L);
	if (c == 0 || (s[at] == ' ' && c2 == 0)) {
		end = run_end(s, n, next, LNS, 0);
		while (end < n && (s[end] == '\r' || s[end] == '\n'))
			end++;
		return end;
	}
	end = lines_end(s, n, at);
	return end != 0 ? end : spaces_end(s, n, at);
}

static size_t
llama3(const unsigned char *s, size_t n, size_t at)
{
	return modern(s, n, at, 3);
}

static size_t
qwen2(const unsigned char *s, size_t n, size_t at)
{
	return modern(s, n, at, 1);
}

static const struct {
	const char *pattern;
	tok_matcher *match;
} known[] = {
	{ PATTERN_MODERN("\\p{N}{1,3}"), llama3 },
	{ PATTERN_MODERN("\\p{N}"), qwen2 },
	{ df_tok_pattern_gpt2, gpt2 },
};

tok_matcher *
df_tok_matcher_find(const char *pattern)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].pattern, pattern) == 0)
			return known[i].match;
	return NULL;
}
