/*
 * rank.c - from scores to an order, and from an order to a selection.
 *
 * NaN has no place in a comparison, so invalid rows are set apart first: a
 * broken sample must never come out on top.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "select/select.h"

#define DIGIT 11 /* bits sorted at a time: three passes */

struct entry {
	uint32_t key;
	uint64_t row;
};

/* Larger scores have smaller keys, and equal ones (-0 and 0 are) the same. */
static uint32_t
key_of(float score)
{
	uint32_t u;

	score += 0.0f;
	memcpy(&u, &score, sizeof(u));
	return u >> 31 ? u : ~u & 0x7fffffff;
}

/* Stable, by one digit of the keys. */
static void
sort_digit(const struct entry *from, struct entry *to, uint64_t n, int shift)
{
	uint64_t place[1 << DIGIT] = { 0 }, at = 0;

	for (uint64_t i = 0; i < n; i++)
		place[from[i].key >> shift & ((1 << DIGIT) - 1)]++;
	for (size_t d = 0; d < 1 << DIGIT; d++) {
		const uint64_t count = place[d];

		place[d] = at;
		at += count;
	}
	for (uint64_t i = 0; i < n; i++)
		to[place[from[i].key >> shift & ((1 << DIGIT) - 1)]++] = from[i];
}

int
df_rank(const float *score, uint64_t n, uint64_t *order, uint64_t *n_valid, struct df_err *err)
{
	struct entry *a = NULL, *b = NULL;
	uint64_t valid = 0, last = n;
	int rc = 0;

	DF_TRY(df_alloc(&a, n, sizeof *a, "ranks", err));
	DF_TRY(df_alloc(&b, n, sizeof *b, "ranks", err));
	for (uint64_t i = n; i-- > 0;)
		if (!isfinite(score[i]))
			order[--last] = i;
	for (uint64_t i = 0; i < n; i++)
		if (isfinite(score[i]))
			a[valid++] = (struct entry){ key_of(score[i]), i };
	sort_digit(a, b, valid, 0);
	sort_digit(b, a, valid, DIGIT);
	sort_digit(a, b, valid, 2 * DIGIT);
	for (uint64_t i = 0; i < valid; i++)
		order[i] = b[i].row;
	*n_valid = valid;
out:
	free(a);
	free(b);
	return rc;
}

int
df_select_top(
    const struct df_selector *self, const struct df_select_opts *o, struct df_selection *out, struct df_err *err)
{
	const enum df_shortage mode = o->shortage == DF_SHORT_DEFAULT ? self->shortage : o->shortage;
	uint64_t *order = NULL, valid;
	int rc = 0;

	DF_TRY(df_alloc(&order, out->n_rows, sizeof *order, "ranks", err));
	DF_TRY(df_rank(out->score, out->n_rows, order, &valid, err));
	out->n_invalid = out->n_rows - valid;
	DF_TRY(df_short_take(mode, order, o->allow_invalid ? out->n_rows : valid, df_amount_of(&o->amount, out->n_rows),
	    o->seed, o->step, &out->index, &out->n_index, err));
out:
	free(order);
	return rc;
}
