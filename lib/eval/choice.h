/*
 * choice.h - multiple choice by likelihood, in the form of MMLU (Hendrycks et al. 2021).
 *
 * A question comes after some solved ones of its subject.  Each choice has two scores: the log-likelihood of its
 * letter, and that of its text, as a sum and divided by the number of the text's characters.  The choice with the
 * highest score is the model's answer; if there are several, the first.
 *
 *	The following are multiple choice questions (with answers) about  high school physics.
 *
 *	QUESTION
 *	A. CHOICE
 *	B. CHOICE
 *	...
 *	Answer: B
 *
 *	QUESTION
 *	A. CHOICE
 *	...
 *	Answer:
 *
 * Without a template this is one text, as in Hendrycks's evaluate.py, including two spaces before the subject, and
 * a choice follows after a space.  Through a template each question is a user's message and each letter an answer,
 * as LLaMA-Factory's eval does it: one space, and the solved questions in their order, not drawn at random.
 *
 * The tokens that all questions of a subject begin with are run once.
 */
#ifndef DF_EVAL_CHOICE_H
#define DF_EVAL_CHOICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "chat/encode.h"
#include "eval/csv.h"
#include "model/model.h"
#include "token/tokenizer.h"

#define DF_CHOICES_MAX 10

struct df_question {
	const char *text;
	const char *choice[DF_CHOICES_MAX];
	size_t n_choices, answer;
};
struct df_subject {
	char *name; /* as in its files' names: high_school_physics */
	struct df_question *solved, *asked;
	size_t n_solved, n_asked;
	struct df_csv solved_text, asked_text; /* (private) */
};
struct df_choice_task {
	struct df_subject *subject; /* sorted by name */
	size_t n, cap;
};
/*
 * dir/SPLIT/<subject>_SPLIT.csv, all of them or those of the comma list `subjects`, and n_shots rows of
 * dir/dev/<subject>_dev.csv.  A row is the question, 2 to 10 choices, the same number in all rows of a subject,
 * and the right one's letter, of 1 MiB at most.  DF_EFORMAT and DF_ENOINPUT name file and line.
 */
int df_choice_load(struct df_choice_task *t, const char *dir, const char *split, const char *subjects, size_t n_shots,
    struct df_err *err) DF_MUST_CHECK;
void df_choice_release(struct df_choice_task *t);

enum df_choice_way { DF_CHOICE_LETTER, DF_CHOICE_TEXT, DF_CHOICE_TEXT_NORM, DF_CHOICE_WAYS };

struct df_choice_opts {
	const struct df_tokenizer *tok;
	const struct df_encoder *enc; /* NULL: one text */
	bool letters_only;            /* do not score the choices' texts */
	size_t n_slots;               /* questions at once; 0: 16, or as many as fit into half of the free memory */
	bool progress;
};

/* The result for one question. */
struct df_choice_result {
	size_t subject, row;
	double letter[DF_CHOICES_MAX]; /* log-likelihoods, nats */
	double text[DF_CHOICES_MAX];
	size_t characters[DF_CHOICES_MAX];
	size_t picked[DF_CHOICE_WAYS];
};
struct df_choice_score {
	uint64_t n, right[DF_CHOICE_WAYS];
};
struct df_choice_scores {
	struct df_choice_score *subject; /* [task.n] */
	size_t n;
	struct df_choice_score all;
	bool texts; /* the choices' texts were scored */
};
typedef int df_choice_fn(void *ctx, const struct df_choice_task *t, const struct df_choice_result *r,
    struct df_err *err);

/* Score all questions; each() (may be NULL) is called for each question in order.  DF_ESTOPPED when asked to stop. */
int df_choice_run(struct df_choice_scores *out, struct df_model *m, const struct df_choice_task *t,
    const struct df_choice_opts *o, df_choice_fn *each, void *ctx, struct df_err *err) DF_MUST_CHECK;
void df_choice_scores_release(struct df_choice_scores *s);

/* The fraction p of right answers, and its standard error sqrt(p (1-p) / (n-1)); NaN when n is too small. */
double df_choice_accuracy(const struct df_choice_score *s, enum df_choice_way way);
double df_choice_error(const struct df_choice_score *s, enum df_choice_way way);
/* The mean over subjects, all with the same weight, and its standard error. */
double df_choice_macro(const struct df_choice_scores *s, enum df_choice_way way, double *error);

#endif
