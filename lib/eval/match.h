/*
 * match.h - compare generated answers with given ones.
 */
#ifndef DF_EVAL_MATCH_H
#define DF_EVAL_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "sample/generate.h"
#include "sample/prompts.h"

/* How two texts are compared. */
enum df_match {
	DF_MATCH_EXACT,  /* their bytes */
	DF_MATCH_STRIP,  /* as they are, without white space at both ends */
	DF_MATCH_TEXT,   /* words in lower case, without punctuation and articles: SQuAD (Rajpurkar 2016) */
	DF_MATCH_NUMBER, /* the last number in them, without commas between digits: 1,234.50 and 1234.5 are equal */
	DF_MATCH_COUNT
};
#define DF_MATCH_NAMES "exact", "strip", "text", "number" /* in the order of the enum, for an option's choices */

/*
 * Append the part of the text that is compared.  For a number that is its shortest decimal, or nothing when the
 * text has no number; then it matches no answer, not even one without a number.
 */
int df_match_normalise(enum df_match how, const char *text, size_t n, struct df_buf *out, struct df_err *err)
    DF_MUST_CHECK;

struct df_match_score {
	uint64_t n, right, cut; /* answers; those that match; those that were ended by the limit of tokens */
};
struct df_match_scores {
	struct df_match_score all;
	struct df_match_score *domain; /* [n_domains], as in the prompts */
	size_t n_domains;
};
typedef int df_match_fn(void *ctx, const struct df_completion *c, bool right, struct df_err *err);

/*
 * Generate with the options o and compare with p->answer; a prompt without an answer is DF_EFORMAT.  each() may be
 * NULL.
 */
int df_match_run(struct df_match_scores *out, struct df_model *m, struct df_pool *pool, const struct df_prompts *p,
    const struct df_generate_opts *o, enum df_match how, df_match_fn *each, void *ctx, struct df_err *err)
    DF_MUST_CHECK;

/*
 * Compare completions that are there already: JSON lines as df-sample writes them ("-": standard input), of which "id",
 * "sample", "domain", "completion", "answer" and "finish" are read.  p gets the domains.  DF_EFORMAT names the line.
 */
struct df_match_line {
	uint64_t id;
	int64_t draw;       /* -1: the line does not say */
	const char *domain; /* "all" where the line has none */
	bool right;
};
typedef int df_match_line_fn(void *ctx, const struct df_match_line *line, struct df_err *err);
int df_match_lines(struct df_match_scores *out, struct df_prompts *p, const char *path, enum df_match how,
    df_match_line_fn *each, void *ctx, struct df_err *err) DF_MUST_CHECK;
void df_match_scores_release(struct df_match_scores *s);

#endif
