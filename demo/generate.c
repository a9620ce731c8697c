/*
 * generate.c - the demo's data: a pool of six small skills, and the target.
 *
 * Every row is a question and its one right answer, in Alpaca's format as JSON Lines.
 * The target skill translates pairs of words with an invented dictionary; the
 * pool has some rows of it, and five times as many of the other skills.  `val`
 * (the target of a selection) and `test` (its evaluation) are also of the target
 * skill, but with word pairs that the pool does not contain: a model must learn
 * the dictionary, and cannot remember the row.
 *
 * Three more datasets make selection harder; pipelines/compare.mk adds them to the pool:
 *
 *   again    rows of the pool's target skill once more, with a full stop: near-duplicates
 *   noise    its questions with wrong answers
 *   foreign  its questions with the right answers of another language
 *
 * All random numbers are Philox draws addressed by (seed, skill, row), so the
 * same seed gives the same bytes on every machine.
 *
 *   generate DIR SEED
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

#define N_WORDS 24  /* the dictionary; N_WORDS^2 pairs in all */
#define N_POOL  400 /* rows of each skill in the pool */
#define N_VAL   48
#define N_TEST  128
#define N_AGAIN 100
#define N_WRONG 200 /* rows of noise, and of foreign */

static uint64_t seed;

/* Which stream of draws: one per skill, so that adding a skill changes no other. */
enum stream { S_DICT, S_PAIRS, S_REVERSE, S_UPPER, S_ADD, S_SORT, S_NEXT, S_AGAIN, S_NOISE, S_FOREIGN };

/* Draw number i of `row`, uniform in [0,n). */
static uint32_t
draw(enum stream s, uint64_t row, uint32_t i, uint32_t n)
{
	uint32_t w[4];

	df_rng_words(seed, DF_RNG_DEMO, (uint32_t)s, row * 16 + i, w);
	return (uint32_t)(((uint64_t)w[0] * n) >> 32);
}

/* A pronounceable word of two syllables. */
static void
make_word(char out[5], uint64_t row)
{
	static const char consonants[] = "bdfgklmnprstvz";
	static const char vowels[] = "aeiou";

	for (uint32_t i = 0; i < 2; i++) {
		out[2 * i] = consonants[draw(S_DICT, row, 2 * i, sizeof(consonants) - 1)];
		out[2 * i + 1] = vowels[draw(S_DICT, row, 2 * i + 1, sizeof(vowels) - 1)];
	}
	out[4] = '\0';
}

/* N_WORDS words, their translations, and those into the other language: all different. */
static void
make_dictionary(char words[3 * N_WORDS][5])
{
	uint64_t row = 0;

	for (size_t n = 0; n < 3 * N_WORDS;) {
		bool fresh = true;

		make_word(words[n], row++);
		for (size_t i = 0; i < n && fresh; i++)
			fresh = strcmp(words[i], words[n]) != 0;
		n += fresh;
	}
}

/* order = a random permutation of [0,n): Fisher-Yates. */
static void
permute(uint32_t *order, uint32_t n, enum stream s)
{
	for (uint32_t i = 0; i < n; i++)
		order[i] = i;
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t j = draw(s, i, 0, i + 1);
		uint32_t t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
}

static int
compare_chars(const void *a, const void *b)
{
	return *(const char *)a - *(const char *)b;
}

/*
 * Question and answer of one row of a skill other than the target.  Together
 * they are 28 characters, as in every skill: equal steps are equal tokens.
 */
static void
make_row(enum stream s, uint64_t row, char question[64], char answer[32])
{
	char text[12];
	uint32_t a, b, n = s == S_REVERSE ? 10 : 11;

	for (uint32_t i = 0; i < n; i++)
		text[i] = (char)('a' + (int)draw(s, row, i, 26));
	text[n] = '\0';
	switch (s) {
	case S_REVERSE:
		snprintf(question, 64, "reverse %s", text);
		for (size_t i = 0; i < n; i++)
			answer[i] = text[n - 1 - i];
		answer[n] = '\0';
		break;
	case S_UPPER:
		snprintf(question, 64, "shout %s", text);
		for (size_t i = 0; i <= n; i++)
			answer[i] = (char)(text[i] ? text[i] - 'a' + 'A' : '\0');
		break;
	case S_SORT:
		snprintf(question, 64, "order %s", text);
		qsort(text, n, 1, compare_chars);
		snprintf(answer, 32, "%s", text);
		break;
	case S_ADD:
		a = 1000000 + draw(s, row, 0, 8000000);
		b = 100000 + draw(s, row, 1, 900000);
		snprintf(question, 64, "add %" PRIu32 " to %" PRIu32, a, b);
		snprintf(answer, 32, "%" PRIu32, a + b);
		break;
	default: /* S_NEXT: go on with the alphabet, round and round */
		a = draw(s, row, 0, 26);
		b = draw(s, row, 1, 2); /* forwards or backwards */
		snprintf(question, 64, "continue ");
		for (uint32_t i = 0; i < 19; i++) {
			uint32_t step = b ? i : 26 - i;

			*(i < 9 ? &question[9 + i] : &answer[i - 9]) = (char)('a' + (a + step) % 26);
		}
		question[18] = answer[10] = '\0';
		break;
	}
}

static FILE *
create(const char *dir, const char *name, const char *suffix)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s%s", dir, name, suffix);
	f = fopen(path, "w");
	if (!f) {
		fprintf(stderr, "generate: %s: %s\n", path, strerror(errno));
		exit(73);
	}
	return f;
}

static void
finish(FILE *f)
{
	if (fclose(f) != 0) {
		perror("generate");
		exit(74);
	}
}

static void
put(FILE *f, const char *question, const char *answer)
{
	fprintf(f, "{\"instruction\": \"%s\", \"output\": \"%s\"}\n", question, answer);
}

/* A pair of words, and its translation into language 1 or 2. */
static void
put_pair(FILE *f, char words[3 * N_WORDS][5], uint32_t pair, const char *end, int language)
{
	const uint32_t a = pair / N_WORDS, b = pair % N_WORDS, first = (uint32_t)language * N_WORDS;
	char question[64], answer[32];

	snprintf(question, sizeof(question), "translate %s %s%s", words[a], words[b], end);
	snprintf(answer, sizeof(answer), "%s %s", words[first + a], words[first + b]);
	put(f, question, answer);
}

/* The rows that look like the target's and are not worth as much. */
static void
put_harder(const char *dir, FILE *info, char words[3 * N_WORDS][5], const uint32_t *pairs)
{
	char question[64], answer[32];
	FILE *f = create(dir, "again", ".jsonl");

	for (uint32_t i = 0; i < N_AGAIN; i++)
		put_pair(f, words, pairs[draw(S_AGAIN, i, 0, N_POOL)], ".", 1);
	finish(f);
	f = create(dir, "noise", ".jsonl");
	for (uint32_t i = 0; i < N_WRONG; i++) {
		const uint32_t pair = pairs[draw(S_NOISE, i, 0, N_POOL)];
		const uint32_t a = 1 + draw(S_NOISE, i, 1, N_WORDS - 1), b = 1 + draw(S_NOISE, i, 2, N_WORDS - 1);

		snprintf(question, sizeof(question), "translate %s %s", words[pair / N_WORDS], words[pair % N_WORDS]);
		snprintf(answer, sizeof(answer), "%s %s", words[N_WORDS + (pair / N_WORDS + a) % N_WORDS],
		    words[N_WORDS + (pair % N_WORDS + b) % N_WORDS]);
		put(f, question, answer);
	}
	finish(f);
	f = create(dir, "foreign", ".jsonl");
	for (uint32_t i = 0; i < N_WRONG; i++)
		put_pair(f, words, pairs[draw(S_FOREIGN, i, 0, N_POOL)], "", 2);
	finish(f);
	fprintf(info,
	    "  \"again\": { \"file_name\": \"again.jsonl\" },\n  \"noise\": { \"file_name\": \"noise.jsonl\" },\n"
	    "  \"foreign\": { \"file_name\": \"foreign.jsonl\" },\n");
}

int
main(int argc, char **argv)
{
	static const struct {
		enum stream stream;
		const char *name;
	} others[] = { { S_REVERSE, "reverse" }, { S_UPPER, "shout" }, { S_ADD, "add" }, { S_SORT, "order" },
		{ S_NEXT, "continue" } };
	static const struct {
		const char *name;
		uint32_t first, n;
	} splits[] = { { "translate", 0, N_POOL }, { "val", N_POOL, N_VAL }, { "test", N_POOL + N_VAL, N_TEST } };
	static char words[3 * N_WORDS][5];
	char question[64], answer[32];
	uint32_t pairs[N_WORDS * N_WORDS];
	FILE *info, *f;

	_Static_assert(N_POOL + N_VAL + N_TEST <= N_WORDS * N_WORDS, "more target rows than word pairs");
	if (argc != 3) {
		fprintf(stderr, "usage: generate DIR SEED\n");
		return 64;
	}
	seed = strtoull(argv[2], NULL, 10);
	make_dictionary(words);
	permute(pairs, N_WORDS * N_WORDS, S_PAIRS);

	info = create(argv[1], "dataset_info", ".json");
	fprintf(info, "{\n");
	for (size_t s = 0; s < sizeof(splits) / sizeof(*splits); s++) {
		f = create(argv[1], splits[s].name, ".jsonl");
		for (uint32_t i = splits[s].first; i < splits[s].first + splits[s].n; i++) {
			put_pair(f, words, pairs[i], "", 1);
		}
		finish(f);
		fprintf(info, "  \"%s\": { \"file_name\": \"%s.jsonl\" },\n", splits[s].name, splits[s].name);
	}
	put_harder(argv[1], info, words, pairs);
	for (size_t s = 0; s < sizeof(others) / sizeof(*others); s++) {
		f = create(argv[1], others[s].name, ".jsonl");
		for (uint64_t i = 0; i < N_POOL; i++) {
			make_row(others[s].stream, i, question, answer);
			put(f, question, answer);
		}
		finish(f);
		fprintf(info, "  \"%s\": { \"file_name\": \"%s.jsonl\" }%s\n", others[s].name, others[s].name,
		    s + 1 < sizeof(others) / sizeof(*others) ? "," : "");
	}
	fprintf(info, "}\n");
	finish(info);
	return 0;
}
