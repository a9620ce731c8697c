/*
 * short.c - how many rows, and what to do when there are not that many.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "select/select.h"

int
df_amount_parse(const char *s, struct df_amount *a, struct df_err *err)
{
	const size_t n = strlen(s);
	int64_t count = 0;
	int rc = DF_OK;

	*a = (struct df_amount){ .given = true, .text = s };
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

	if (n > n_valid && (mode == DF_SHORT_ERROR || (n_valid == 0 && mode != DF_SHORT_TRUNCATE)))
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
