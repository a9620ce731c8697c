/*
 * choice.c - from questions to tokens, from tokens to log-likelihoods.
 *
 *	slot    [ what all questions of the subject share | the rest of this question | a choice ]
 *	          run once, copied                           run once                   run, cut off, the next one
 *
 * Tokens may merge where a question meets its choice.  So, as in lm-evaluation-harness, question and choice are
 * tokenised together, and the choice's tokens are those after the number of tokens that the question has alone.  If
 * the merge also changes the question's last tokens, the changed ones are run again.
 */
#include "eval/choice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "base/utf8.h"

#define SLOTS_MAX 16
#define AT_ONCE   2048 /* tokens of questions in one call; larger groups run one question at a time, in pieces */
#define INTRO     "The following are multiple choice questions (with answers) about "

/* A question as tokens: the question, and question and choice, for each choice by letter and by text. */
struct ask {
	struct df_ids question;
	struct df_ids whole[2 * DF_CHOICES_MAX]; /* letters, then texts from DF_CHOICES_MAX on */
};

struct run {
	struct df_model *m;
	const struct df_choice_task *t;
	const struct df_choice_opts *o;
	df_choice_fn *each;
	void *ctx;
	struct df_tokscratch *tok;
	struct df_encscratch *enc;
	struct df_buf text;
	struct df_work *work;
	struct df_cache *cache;
	size_t n_slots;
	struct ask *ask; /* [questions of a subject] */
	size_t n_ask;

	/* one call */
	struct df_ids ids;
	uint8_t *mask;
	size_t cap_mask, cap_nll;
	float *nll;
	uint64_t *offsets; /* [n_slots + 1] */
	uint32_t *slot, *n_targets;
	size_t *who; /* [n_slots] questions of the group in the call */
	size_t n;
	uint64_t done, total;
	bool told; /* warned that questions are longer than the model's context */
};

/* ---- texts ----------------------------------------------------------------- */

static void
put_question(struct df_buf *b, const struct df_question *q)
{
	df_buf_puts(b, q->text);
	for (size_t k = 0; k < q->n_choices; k++)
		df_buf_printf(b, "\n%c. %s", (int)('A' + k), q->choice[k]);
	df_buf_puts(b, "\nAnswer:");
}

static void
put_subject(struct df_buf *b, const char *name)
{
	for (; *name != '\0'; name++)
		df_buf_putc(b, *name == '_' ? ' ' : *name);
	df_buf_puts(b, ".\n\n");
}

/* The ids of the text in r->text, with the tokenizer's special tokens around it. */
static int
encode_text(struct run *r, struct df_ids *ids, struct df_err *err)
{
	const uint32_t *before, *after;
	size_t n_before, n_after;
	int rc;

	DF_TRY(df_buf_check(&r->text, err));
	df_tokenizer_frame(r->o->tok, &before, &n_before, &after, &n_after);
	DF_TRY(df_ids_add(ids, before, n_before, err));
	rc = df_tokenizer_encode(r->o->tok, r->tok, r->text.data, r->text.len, false, ids, err);
out:
	return rc;
}

/* One text, and that text with each choice after it. */
static int
ask_plain(struct run *r, const struct df_subject *s, const struct df_question *q, struct ask *a, struct df_err *err)
{
	size_t n;
	int rc;

	df_buf_clear(&r->text);
	df_buf_puts(&r->text, INTRO " ");
	put_subject(&r->text, s->name);
	for (size_t i = 0; i < s->n_solved; i++) {
		put_question(&r->text, &s->solved[i]);
		df_buf_printf(&r->text, " %c\n\n", (int)('A' + s->solved[i].answer));
	}
	put_question(&r->text, q);
	n = r->text.len;
	DF_TRY(encode_text(r, &a->question, err));
	for (size_t k = 0; k < 2 * q->n_choices; k++) {
		const bool letter = k < q->n_choices;
		const size_t c = letter ? k : k - q->n_choices;

		if (!letter && r->o->letters_only)
			break;
		r->text.len = n;
		if (letter)
			df_buf_printf(&r->text, " %c", (int)('A' + c));
		else
			df_buf_printf(&r->text, " %s", q->choice[c]);
		DF_TRY(encode_text(r, &a->whole[letter ? c : DF_CHOICES_MAX + c], err));
	}
out:
	return rc;
}

/* Messages: solved questions with their letters as answers, then the question itself. */
static int
ask_template(struct run *r, const struct df_subject *s, const struct df_question *q, struct ask *a, struct df_err *err)
{
	const size_t n_turns = 2 * s->n_solved + 1;
	struct df_example ex = DF_EXAMPLE_INIT;
	struct df_turn *turn = NULL;
	size_t *end = NULL;
	int rc;

	DF_TRY(df_alloc(&turn, n_turns, sizeof(*turn), "turns", err));
	DF_TRY(df_alloc(&end, n_turns, sizeof(*end), "turns", err));
	df_buf_clear(&r->text);
	df_buf_puts(&r->text, INTRO);
	put_subject(&r->text, s->name);
	for (size_t i = 0; i < n_turns; i++) {
		if (i % 2 == 0)
			put_question(&r->text, i / 2 < s->n_solved ? &s->solved[i / 2] : q);
		else
			df_buf_putc(&r->text, (char)('A' + s->solved[i / 2].answer));
		end[i] = r->text.len;
	}
	DF_TRY(df_buf_check(&r->text, err));
	for (size_t i = 0; i < n_turns; i++) {
		const size_t from = i > 0 ? end[i - 1] : 0;

		turn[i] = (struct df_turn){ i % 2 == 0 ? DF_ROLE_USER : DF_ROLE_ASSISTANT, r->text.data + from,
			end[i] - from };
	}
	ex.turns = turn;
	ex.n_turns = ex.cap_turns = n_turns;
	DF_TRY(df_encode_prompt(r->o->enc, r->enc, &ex, &a->question, err));
	for (size_t k = 0; k < 2 * q->n_choices; k++) {
		const bool is_letter = k < q->n_choices;
		const size_t c = is_letter ? k : k - q->n_choices;
		const char letter[2] = { (char)('A' + c), '\0' }, *text = is_letter ? letter : q->choice[c];
		struct df_ids *whole = &a->whole[is_letter ? c : DF_CHOICES_MAX + c];

		if (!is_letter && r->o->letters_only)
			break;
		DF_TRY(df_ids_add(whole, a->question.v, a->question.n, err));
		DF_TRY(df_tokenizer_encode(r->o->tok, r->tok, text, strlen(text), false, whole, err));
	}
out:
	free(turn);
	free(end);
	return rc;
}

static void
release_asks(struct run *r)
{
	for (size_t i = 0; r->ask != NULL && i < r->n_ask; i++) {
		df_ids_release(&r->ask[i].question);
		for (size_t k = 0; k < 2 * DF_CHOICES_MAX; k++)
			df_ids_release(&r->ask[i].whole[k]);
	}
	free(r->ask);
	r->ask = NULL;
	r->n_ask = 0;
}

static int
ask_all(struct run *r, const struct df_subject *s, struct df_err *err)
{
	int rc;

	release_asks(r);
	DF_TRY(df_alloc(&r->ask, s->n_asked, sizeof(*r->ask), "questions", err));
	r->n_ask = s->n_asked;
	for (size_t i = 0; i < s->n_asked; i++) {
		const struct df_question *q = &s->asked[i];

		rc = r->o->enc != NULL ? ask_template(r, s, q, &r->ask[i], err) : ask_plain(r, s, q, &r->ask[i], err);
		if (rc != DF_OK) {
			df_err_prefix(err, "%s, question %zu: ", s->name, i + 1);
			goto out;
		}
		for (size_t k = 0; k < 2 * DF_CHOICES_MAX; k++) {
			const size_t c = k % DF_CHOICES_MAX;

			if (c >= q->n_choices || (k >= DF_CHOICES_MAX && r->o->letters_only))
				continue;
			if (r->ask[i].question.n == 0 || r->ask[i].whole[k].n <= r->ask[i].question.n) {
				rc = df_fail(err, DF_EFORMAT, "%s, question %zu: choice %c has no token of its own",
				    s->name, i + 1, (int)('A' + c));
				goto out;
			}
		}
	}
out:
	return rc;
}

/* ---- likelihoods ----------------------------------------------------------- */

static size_t
common(const struct df_ids *a, const struct df_ids *b)
{
	size_t n = 0;

	while (n < a->n && n < b->n && a->v[n] == b->v[n])
		n++;
	return n;
}

/* Begin a call; add tokens [from, to) of ids for question `i` of the group, targets from `target` on; run it. */
static void
begin(struct run *r)
{
	r->n = 0;
	r->ids.n = 0;
	r->offsets[0] = 0;
}

static int
add(struct run *r, size_t i, const struct df_ids *ids, size_t from, size_t to, size_t target, struct df_err *err)
{
	int rc;

	DF_TRY(df_ids_add(&r->ids, ids->v + from, to - from, err));
	DF_TRY(df_grow(&r->mask, &r->cap_mask, r->ids.n, 1, "masks", err));
	for (size_t t = from; t < to; t++)
		r->mask[r->ids.n - to + t] = t >= target;
	r->slot[r->n] = (uint32_t)i;
	r->who[r->n++] = i;
	r->offsets[r->n] = r->ids.n;
out:
	return rc;
}

static int
go(struct run *r, bool losses, struct df_err *err)
{
	const struct df_tokens b = { .n = r->n, .offsets = r->offsets, .ids = r->ids.v, .mask = r->mask };
	int rc = DF_OK;

	if (r->n == 0)
		goto out;
	if (!losses && r->ids.n <= AT_ONCE) {
		rc = df_model_extend(r->m, r->work, r->cache, &b, r->slot, NULL, err);
		goto out;
	}
	for (size_t j = 0; j < r->n && !losses; j++)
		DF_TRY(df_model_extend_long(r->m, r->work, r->cache, r->slot[j], r->ids.v + r->offsets[j],
		    (size_t)(r->offsets[j + 1] - r->offsets[j]), NULL, err));
	if (!losses)
		goto out;
	DF_TRY(df_grow(&r->nll, &r->cap_nll, r->ids.n, sizeof(*r->nll), "losses", err));
	rc = df_model_extend_loss(r->m, r->work, r->cache, &b, r->slot,
	    &(struct df_losses){ .token_nll = r->nll, .n_targets = r->n_targets }, err);
out:
	return rc;
}

/* Choice k of the group's questions; sums go to the results. */
static int
score_choice(struct run *r, const struct df_question *q, const struct ask *a, size_t n, size_t k,
    struct df_choice_result *results, struct df_err *err)
{
	const size_t c = k % DF_CHOICES_MAX;
	size_t at = 0;
	int rc = DF_OK;

	begin(r);
	for (size_t i = 0; i < n; i++) {
		const struct df_ids *whole = &a[i].whole[k];
		size_t from = common(whole, &a[i].question);

		if (c >= q[i].n_choices)
			continue;
		if (from > a[i].question.n - 1) /* the question's last token predicts the first one of the choice */
			from = a[i].question.n - 1;
		if (from > df_cache_length(r->cache, (uint32_t)i))
			from = df_cache_length(r->cache, (uint32_t)i);
		df_cache_cut(r->cache, (uint32_t)i, from);
		DF_TRY(add(r, i, whole, from, whole->n, a[i].question.n, err));
	}
	DF_TRY(go(r, true, err));
	for (size_t j = 0; j < r->n; j++) {
		const size_t i = r->who[j];
		const size_t keep = common(&a[i].whole[k], &a[i].question);
		double sum = 0;

		for (uint32_t t = 0; t < r->n_targets[j]; t++)
			sum -= (double)r->nll[at++];
		(k < DF_CHOICES_MAX ? results[i].letter : results[i].text)[c] = sum;
		df_cache_cut(r->cache, (uint32_t)i, keep < a[i].question.n - 1 ? keep : a[i].question.n - 1);
	}
out:
	return rc;
}

static size_t
characters(const char *s)
{
	size_t n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char)*s & 0xC0) != 0x80;
	return n;
}

static size_t
highest(const double *v, const size_t *length, size_t n)
{
	size_t best = 0;

	for (size_t i = 1; i < n; i++) {
		const double x = length ? v[i] / (double)(length[i] ? length[i] : 1) : v[i];
		const double y = length ? v[best] / (double)(length[best] ? length[best] : 1) : v[best];

		if (x > y)
			best = i;
	}
	return best;
}

/* n questions from `first` on, whose shared beginning is in the slots. */
static int
score_group(struct run *r, struct df_choice_scores *out, size_t subject, size_t first, size_t n, size_t shared,
    struct df_err *err)
{
	const struct df_question *q = r->t->subject[subject].asked + first;
	const struct ask *a = r->ask + first;
	struct df_choice_result *results = NULL;
	int rc;

	DF_TRY(df_alloc(&results, n, sizeof(*results), "results", err));
	begin(r);
	for (size_t i = 0; i < n; i++) {
		df_cache_cut(r->cache, (uint32_t)i, shared);
		if (a[i].question.n - 1 > shared)
			DF_TRY(add(r, i, &a[i].question, shared, a[i].question.n - 1, SIZE_MAX, err));
	}
	DF_TRY(go(r, false, err));
	for (size_t k = 0; k < (r->o->letters_only ? 1 : 2) * DF_CHOICES_MAX; k++)
		DF_TRY(score_choice(r, q, a, n, k, results, err));
	for (size_t i = 0; i < n; i++) {
		struct df_choice_result *x = &results[i];

		x->subject = subject;
		x->row = first + i;
		for (size_t c = 0; c < q[i].n_choices; c++) {
			x->characters[c] = characters(q[i].choice[c]);
			if (isnan(x->letter[c]) || isnan(x->text[c])) {
				rc = df_fail(err, DF_ERANGE, "%s, question %zu: a likelihood is not a number",
				    r->t->subject[subject].name, first + i + 1);
				goto out;
			}
		}
		x->picked[DF_CHOICE_LETTER] = highest(x->letter, NULL, q[i].n_choices);
		x->picked[DF_CHOICE_TEXT] = highest(x->text, NULL, q[i].n_choices);
		x->picked[DF_CHOICE_TEXT_NORM] = highest(x->text, x->characters, q[i].n_choices);
		for (int way = 0; way < DF_CHOICE_WAYS; way++) {
			out->subject[subject].right[way] += x->picked[way] == q[i].answer;
			out->all.right[way] += x->picked[way] == q[i].answer;
		}
		out->subject[subject].n++;
		out->all.n++;
		if (r->each != NULL)
			DF_TRY(r->each(r->ctx, r->t, x, err));
	}
	r->done += n;
	if (r->o->progress)
		df_progress(r->done, r->total, "questions");
out:
	free(results);
	return rc;
}

/* ---- a subject ------------------------------------------------------------- */

/* Make a cache for the subject's longest question and choice, if the present one is too small. */
static int
open_cache(struct run *r, struct df_err *err)
{
	size_t longest = 0, bytes;
	int rc;

	for (size_t i = 0; i < r->n_ask; i++)
		for (size_t k = 0; k < 2 * DF_CHOICES_MAX; k++)
			if (r->ask[i].whole[k].n > longest)
				longest = r->ask[i].whole[k].n;
	if (longest > df_model_config(r->m)->max_positions && !r->told)
		df_warn("questions grow to %zu tokens and more, the model was made for %zu", longest,
		    df_model_config(r->m)->max_positions);
	r->told = r->told || longest > df_model_config(r->m)->max_positions;
	df_cache_free(r->cache);
	r->cache = NULL;
	r->n_slots = r->o->n_slots > 0 ? r->o->n_slots : SLOTS_MAX;
	if (r->n_slots > r->n_ask)
		r->n_slots = r->n_ask;
	DF_TRY(df_cache_bytes(r->m, 1, longest, &bytes, err));
	while (r->o->n_slots == 0 && r->n_slots > 1 &&
	    r->n_slots * bytes > df_backend_available(df_model_backend(r->m)) / 2)
		r->n_slots--;
	DF_TRY(df_cache_new(&r->cache, r->m, r->n_slots, longest, err));
	free(r->offsets);
	free(r->slot);
	free(r->n_targets);
	free(r->who);
	r->offsets = NULL;
	r->slot = r->n_targets = NULL;
	r->who = NULL;
	DF_TRY(df_alloc(&r->offsets, r->n_slots + 1, sizeof(*r->offsets), "questions", err));
	DF_TRY(df_alloc(&r->slot, r->n_slots, sizeof(*r->slot), "questions", err));
	DF_TRY(df_alloc(&r->n_targets, r->n_slots, sizeof(*r->n_targets), "questions", err));
	DF_TRY(df_alloc(&r->who, r->n_slots, sizeof(*r->who), "questions", err));
out:
	return rc;
}

static int
run_subject(struct run *r, struct df_choice_scores *out, size_t subject, struct df_err *err)
{
	const struct df_subject *s = &r->t->subject[subject];
	size_t shared;
	int rc;

	DF_TRY(ask_all(r, s, err));
	DF_TRY(open_cache(r, err));
	/* The length of the common beginning of all, without the last token of any. */
	shared = r->ask[0].question.n - 1;
	for (size_t i = 1; i < r->n_ask; i++) {
		const size_t n = common(&r->ask[0].question, &r->ask[i].question);

		shared = n < shared ? n : shared;
		shared = r->ask[i].question.n - 1 < shared ? r->ask[i].question.n - 1 : shared;
	}
	if (shared > 0) {
		DF_TRY(df_model_extend_long(r->m, r->work, r->cache, 0, r->ask[0].question.v, shared, NULL, err));
		for (size_t i = 1; i < r->n_slots; i++)
			DF_TRY(df_cache_copy(r->cache, 0, (uint32_t)i, shared, err));
	}
	for (size_t i = 0; i < s->n_asked; i += r->n_slots) {
		const size_t n = s->n_asked - i < r->n_slots ? s->n_asked - i : r->n_slots;

		if (df_stop_requested()) {
			rc = df_fail(err, DF_ESTOPPED, "evaluation stopped by a signal");
			goto out;
		}
		DF_TRY(score_group(r, out, subject, i, n, shared, err));
	}
out:
	return rc;
}

int
df_choice_run(struct df_choice_scores *out, struct df_model *m, const struct df_choice_task *t,
    const struct df_choice_opts *o, df_choice_fn *each, void *ctx, struct df_err *err)
{
	struct run r = { .m = m, .t = t, .o = o, .each = each, .ctx = ctx };
	int rc;

	*out = (struct df_choice_scores){ .n = t->n, .texts = !o->letters_only };
	DF_TRY(df_alloc(&out->subject, t->n, sizeof(*out->subject), "subjects", err));
	DF_TRY(df_work_new(&r.work, m, err));
	DF_TRY(df_tokscratch_new(&r.tok, o->tok, err));
	if (o->enc != NULL)
		DF_TRY(df_encscratch_new(&r.enc, o->enc, err));
	for (size_t i = 0; i < t->n; i++)
		r.total += t->subject[i].n_asked;
	for (size_t i = 0; i < t->n; i++)
		DF_TRY(run_subject(&r, out, i, err));
out:
	release_asks(&r);
	df_ids_release(&r.ids);
	df_buf_release(&r.text);
	df_cache_free(r.cache);
	df_work_free(r.work);
	df_tokscratch_free(r.tok);
	df_encscratch_free(r.enc);
	free(r.mask);
	free(r.nll);
	free(r.offsets);
	free(r.slot);
	free(r.n_targets);
	free(r.who);
	if (rc != DF_OK)
		df_choice_scores_release(out);
	return rc;
}

void
df_choice_scores_release(struct df_choice_scores *s)
{
	free(s->subject);
	*s = (struct df_choice_scores){ 0 };
}

double
df_choice_accuracy(const struct df_choice_score *s, enum df_choice_way way)
{
	return s->n > 0 ? (double)s->right[way] / (double)s->n : NAN;
}

double
df_choice_error(const struct df_choice_score *s, enum df_choice_way way)
{
	const double p = df_choice_accuracy(s, way);

	return s->n > 1 ? sqrt(p * (1 - p) / (double)(s->n - 1)) : NAN;
}

double
df_choice_macro(const struct df_choice_scores *s, enum df_choice_way way, double *error)
{
	double sum = 0, squares = 0;

	for (size_t i = 0; i < s->n; i++) {
		const double e = df_choice_error(&s->subject[i], way);

		sum += df_choice_accuracy(&s->subject[i], way);
		squares += e * e;
	}
	*error = sqrt(squares) / (double)s->n;
	return sum / (double)s->n;
}
