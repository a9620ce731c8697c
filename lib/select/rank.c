/*
 * rank.c - from scores to an order, and from an order to a selection.
 *
 * NaN has no place in a comparison, so invalid rows are set apart first: a
 * broken sample must never come out on top.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "select/select_priv.h"

#define DIGITS ((size_t)1 << 16) /* a key has two digits of 16 bits */

/* Larger scores have smaller keys, and equal ones (-0 and 0 are) the same. */
static uint32_t
key_of(float score)
{
	uint32_t u;

	score += 0.0f;
	memcpy(&u, &score, sizeof(u));
	return u >> 31 ? u : ~u & 0x7fffffff;
}

/* The n rows of `from` into `to`, by a digit of their keys; equal ones stay in order.  count [DIGITS]: scratch. */
static void
sort_digit(const float *score, const uint32_t *from, uint32_t *to, uint64_t n, int shift, uint64_t *count)
{
	uint64_t at = 0;

	memset(count, 0, DIGITS * sizeof(*count));
	for (uint64_t i = 0; i < n; i++)
		count[key_of(score[from[i]]) >> shift & (DIGITS - 1)]++;
	for (size_t d = 0; d < DIGITS; d++) {
		const uint64_t here = count[d];

		count[d] = at;
		at += here;
	}
	for (uint64_t i = 0; i < n; i++)
		to[count[key_of(score[from[i]]) >> shift & (DIGITS - 1)]++] = from[i];
}

int
df_rank32(const float *score, uint64_t n, uint32_t *order, uint32_t *scratch, uint64_t *n_valid, struct df_err *err)
{
	uint64_t *count = NULL, valid = 0, last = n;
	int rc = DF_OK;

	if (n > UINT32_MAX)
		return df_fail(err, DF_ERANGE, "%" PRIu64 " rows: no more than %u can be ranked", n, UINT32_MAX);
	DF_TRY(df_alloc(&count, DIGITS, sizeof(*count), "ranks", err));
	for (uint64_t i = n; i-- > 0;)
		if (!isfinite(score[i]))
			order[--last] = (uint32_t)i;
	for (uint64_t i = 0; i < n; i++)
		if (isfinite(score[i]))
			order[valid++] = (uint32_t)i;
	sort_digit(score, order, scratch, valid, 0, count);
	sort_digit(score, scratch, order, valid, 16, count);
	*n_valid = valid;
out:
	free(count);
	return rc;
}

/* A million rows are ranked in the memory of their order: its halves are the order and the scratch. */
int
df_rank(const float *score, uint64_t n, uint64_t *order, uint64_t *n_valid, struct df_err *err)
{
	uint32_t *half = (uint32_t *)order;
	const int rc = df_rank32(score, n, half, half + n, n_valid, err);

	for (uint64_t i = rc == DF_OK ? n : 0; i-- > 0;) /* from the end: what is not yet widened lies before */
		order[i] = half[i];
	return rc;
}

int
df_selection_rank(const struct df_selection *out, uint64_t *order, uint64_t *n_valid, struct df_err *err)
{
	const uint64_t n = out->n_rows;
	uint64_t *by_tie = NULL, valid;
	float *score = NULL; /* in the order of by_tie: what is equal stays in that order */
	int rc = DF_OK;

	if (!out->tie)
		return df_rank(out->score, n, order, n_valid, err);
	DF_TRY(df_alloc(&by_tie, n, sizeof(*by_tie), "ranks", err));
	DF_TRY(df_alloc(&score, n, sizeof(*score), "ranks", err));
	DF_TRY(df_rank(out->tie, n, by_tie, &valid, err));
	for (uint64_t i = 0; i < n; i++)
		score[i] = out->score[by_tie[i]];
	DF_TRY(df_rank(score, n, order, n_valid, err));
	for (uint64_t i = 0; i < n; i++)
		order[i] = by_tie[order[i]];
out:
	free(by_tie);
	free(score);
	return rc;
}

int
df_select_top(const struct df_select *in, struct df_selection *out, struct df_err *err)
{
	uint64_t *order = NULL, valid, all = 0;
	int rc = DF_OK;

	for (uint64_t i = 0; i < out->n_rows; i++)
		all += df_select_may(in, i);
	DF_TRY(df_alloc(&order, out->n_rows, sizeof(*order), "ranks", err));
	DF_TRY(df_selection_rank(out, order, &valid, err));
	out->n_invalid = out->n_rows - valid;
	DF_TRY(df_select_take_all(in, order, in->allow_invalid ? out->n_rows : valid, all, out, err));
out:
	free(order);
	return rc;
}
