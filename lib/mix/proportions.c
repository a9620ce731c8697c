/*
 * proportions.c - proportions from a text, and rows by proportions.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/remainder.h"
#include "mix/mix.h"

#define NAMES_SHOWN 20

/* "3 numbers, but 2 domains (wiki, c4)". */
static int
wrong_length(const char *what, size_t n_given, size_t n, char *const *names, struct df_err *err)
{
	struct df_buf list = DF_BUF_INIT;

	for (size_t i = 0; names && i < n && i < NAMES_SHOWN; i++)
		df_buf_printf(&list, "%s%s", i ? ", " : " (", names[i]);
	if (names && n > 0)
		df_buf_puts(&list, n > NAMES_SHOWN ? ", ..)" : ")");
	df_fail(err, DF_EUSAGE, "%s: %zu number%s, but %zu domain%s%s", what, n_given, n_given == 1 ? "" : "s", n,
	    n == 1 ? "" : "s", list.len ? list.data : "");
	df_buf_release(&list);
	return DF_EUSAGE;
}

/* The number in [s, end), with blanks around it. */
static int
number(const char *s, const char *end, double *x, struct df_err *err)
{
	char *word = NULL;
	int rc = DF_OK;

	while (s < end && (*s == ' ' || *s == '\t'))
		s++;
	while (s < end && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	DF_TRY(df_strndup(&word, s, (size_t)(end - s), err));
	DF_TRY(df_parse_double(word, x, err));
	if (!isfinite(*x) || *x < 0)
		rc = df_fail(err, DF_EUSAGE, "'%s': a proportion is a finite number, not below 0", word);
out:
	free(word);
	return rc;
}

/* p [n] divided by its sum, also where the sum is beyond double's range. */
static int
normalise(double *p, size_t n, struct df_err *err)
{
	double largest = 0, sum = 0;

	for (size_t i = 0; i < n; i++)
		largest = fmax(largest, p[i]);
	if (!(largest > 0))
		return df_fail(err, DF_EUSAGE, "all proportions are 0");
	if (largest > 1e300 || largest < 1e-300)
		for (size_t i = 0; i < n; i++)
			p[i] /= largest;
	for (size_t i = 0; i < n; i++)
		sum += p[i];
	for (size_t i = 0; i < n; i++)
		p[i] /= sum;
	return DF_OK;
}

int
df_mix_proportions(const char *text, const char *what, size_t n, char *const *names, double *p, struct df_err *err)
{
	size_t n_given = 0;
	int rc = DF_OK;

	for (size_t i = 0; i < n; i++)
		p[i] = 1 / (double)n;
	if (!text)
		return DF_OK;
	for (const char *s = text;; s++) {
		const char *end = s + strcspn(s, ",");
		double x;

		DF_TRY(number(s, end, &x, err));
		if (n_given < n)
			p[n_given] = x;
		n_given++;
		s = end;
		if (!*s)
			break;
	}
	if (n_given != n)
		return wrong_length(what, n_given, n, names, err);
	DF_TRY(normalise(p, n, err));
out:
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", what);
	return rc;
}

void
df_mix_quotas(const double *p, size_t n_domains, uint64_t n, bool dataflex, uint64_t *quota)
{
	uint64_t left = n;

	if (!dataflex) {
		df_largest_remainder(p, n_domains, n, quota);
		return;
	}
	for (size_t i = 0; i + 1 < n_domains; i++) {
		const double down = floor((double)n * p[i]);

		quota[i] = down < (double)left ? (uint64_t)down : left;
		left -= quota[i];
	}
	if (n_domains > 0)
		quota[n_domains - 1] = left;
}

int
df_mix_check(const struct df_mixer *m, const double *p, size_t n, char *const *names, struct df_err *err)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++) {
		if (!(p[i] >= 0 && isfinite(p[i])))
			return df_fail(err, DF_EFORMAT, "%s gives domain %zu%s%.80s the proportion %g", m->name, i,
			    names ? ", " : "", names ? names[i] : "", p[i]);
		sum += p[i];
	}
	if (!(fabs(sum - 1) <= 1e-9))
		return df_fail(err, DF_EFORMAT, "%s gives proportions of sum %.12g, not 1", m->name, sum);
	return DF_OK;
}
