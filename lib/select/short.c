/*
 * short.c - how many rows, and what to do when there are not that many.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "select/select_priv.h"

/* "30Mtok": the number [n bytes], and k, M or G for thousands, millions and thousands of millions. */
static int
parse_tokens(const char *s, size_t n, struct df_amount *a, struct df_err *err)
{
	static const char units[] = "kMG";
	const char *unit = n ? strchr(units, s[n - 1]) : NULL;
	char *number = NULL;
	double x = 0;
	int rc = DF_OK;

	DF_TRY(df_strndup(&number, s, unit ? n - 1 : n, err));
	DF_TRY(df_parse_double(number, &x, err));
	for (; unit && unit >= units; unit--)
		x *= 1000;
	if (!(x >= 0 && x <= 9e15)) {
		rc = df_fail(err, DF_EUSAGE, "%s: a number of tokens must be from 0 to 9e15", s);
		goto out;
	}
	a->tokens = true;
	a->n = (uint64_t)nearbyint(x);
out:
	free(number);
	return rc;
}

int
df_amount_parse(const char *s, struct df_amount *a, struct df_err *err)
{
	const size_t n = strlen(s);
	int64_t count = 0;
	int rc = DF_OK;

	*a = (struct df_amount){ .given = true, .text = s };
	if (n > 3 && strcmp(s + n - 3, "tok") == 0)
		return parse_tokens(s, n - 3, a, err);
	if (n && s[n - 1] == '%') {
		char *number = NULL;

		rc = df_strndup(&number, s, n - 1, err);
		if (rc == DF_OK)
			rc = df_parse_double(number, &a->percent, err);
		free(number);
		if (rc == DF_OK && !(a->percent > 0 && a->percent <= 100))
			rc = df_fail(err, DF_EUSAGE, "%s: a percentage must be above 0 and at most 100", s);
		return rc;
	}
	rc = df_parse_int(s, 0, INT64_MAX, &count, err);
	a->n = (uint64_t)count;
	return rc;
}

uint64_t
df_amount_of(const struct df_amount *a, uint64_t n_rows)
{
	double x, whole;

	if (!a->given || !(a->percent > 0))
		return a->given ? a->n : n_rows;
	/* 0.57 % of 10000 is 57, although the nearest double to 0.57 lies below it. */
	x = (double)n_rows * a->percent / 100.0;
	whole = nearbyint(x);
	return (uint64_t)(fabs(x - whole) <= 1e-12 * x ? whole : floor(x));
}

int
df_short_take(enum df_shortage mode, const uint64_t *order, uint64_t n_valid, uint64_t n, uint64_t seed, uint32_t step,
    uint64_t **index, uint64_t *n_index, struct df_err *err)
{
	uint64_t *out = NULL;
	int rc = DF_OK;

	if (n > n_valid &&
	    (mode == DF_SHORT_ERROR || mode == DF_SHORT_FILL || (n_valid == 0 && mode != DF_SHORT_TRUNCATE)))
		return df_fail(err, DF_EUSAGE, "asked for %" PRIu64 " rows, but only %" PRIu64 " are valid%s", n,
		    n_valid, n_valid ? " (--short=cycle, replace or truncate says what to do then)" : "");
	if (n > n_valid && mode == DF_SHORT_TRUNCATE) {
		df_warn("asked for %" PRIu64 " rows, took all %" PRIu64 " that are valid", n, n_valid);
		n = n_valid;
	}
	DF_TRY(df_alloc(&out, n, sizeof(*out), "index", err));
	if (n > n_valid && mode == DF_SHORT_REPLACE) {
		DF_TRY(df_sample_replace(NULL, n_valid, n, seed, step, out, err));
		for (uint64_t i = 0; i < n; i++)
			out[i] = order[out[i]];
	} else {
		/* Whole rounds of the order, then its beginning: the method's own choice of the n mod n_valid best. */
		for (uint64_t i = 0; i < n; i++)
			out[i] = order[i % n_valid];
	}
	*index = out;
	*n_index = n;
	out = NULL;
out:
	free(out);
	return rc;
}

/* ---- what a method has chosen, cut to the amount ------------------------------------ */

/* Rows of order [n_order], again and again, until they have in->amount.n tokens; the row that reaches them is last. */
static int
take_tokens(
    const struct df_select *in, const uint64_t *order, uint64_t n_order, struct df_selection *out, struct df_err *err)
{
	const uint64_t wanted = in->amount.n;
	uint64_t all = 0, n = 0, have = 0, n_index;
	int rc = DF_OK;

	for (uint64_t i = 0; i < n_order; i++)
		all += in->n_tokens[order[i]];
	if (all < wanted &&
	    (in->shortage == DF_SHORT_ERROR || in->shortage == DF_SHORT_FILL ||
		(all == 0 && in->shortage != DF_SHORT_TRUNCATE)))
		return df_fail(err, DF_EUSAGE, "asked for %" PRIu64 " tokens, but the valid rows have %" PRIu64 "%s",
		    wanted, all, all ? " (--short=cycle or truncate says what to do then)" : "");
	if (all < wanted && in->shortage == DF_SHORT_REPLACE)
		return df_fail(err, DF_EUSAGE, "--short=replace draws a number of rows, not of tokens");
	if (all < wanted && in->shortage == DF_SHORT_TRUNCATE)
		df_warn("asked for %" PRIu64 " tokens, took all %" PRIu64 " of the valid rows", wanted, all);
	/* Whole rounds first, so that a large amount costs no more than its rows. */
	n = all && in->shortage != DF_SHORT_TRUNCATE ? wanted / all * n_order : 0;
	have = all && in->shortage != DF_SHORT_TRUNCATE ? wanted / all * all : 0;
	for (uint64_t i = 0; have < wanted && i < n_order; i++, n++)
		have += in->n_tokens[order[i]];
	rc = df_short_take(DF_SHORT_CYCLE, order, n_order, n, in->seed, in->step, &out->index, &n_index, err);
	out->n_index = rc == DF_OK ? n_index : 0;
	return rc;
}

int
df_select_take_all(const struct df_select *in, const uint64_t *order, uint64_t n_order, uint64_t all,
    struct df_selection *out, struct df_err *err)
{
	uint64_t *may = NULL, n_may = 0, n;
	int rc = DF_OK;

	if (in->excluded) {
		DF_TRY(df_alloc(&may, n_order, sizeof(*may), "rows", err));
		for (uint64_t i = 0; i < n_order; i++)
			if (df_select_may(in, order[i]))
				may[n_may++] = order[i];
		order = may;
		n_order = n_may;
	}
	if (in->amount.tokens) {
		DF_TRY(take_tokens(in, order, n_order, out, err));
	} else {
		n = in->amount.given ? df_amount_of(&in->amount, out->n_rows) : all;
		DF_TRY(df_short_take(
		    in->shortage, order, n_order, n, in->seed, in->step, &out->index, &out->n_index, err));
	}
out:
	free(may);
	return rc;
}

int
df_select_take(
    const struct df_select *in, const uint64_t *order, uint64_t n_order, struct df_selection *out, struct df_err *err)
{
	uint64_t all = 0;

	for (uint64_t i = 0; i < n_order; i++)
		all += df_select_may(in, order[i]);
	return df_select_take_all(in, order, n_order, all, out, err);
}
