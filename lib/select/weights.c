/*
 * weights.c - an option that weighs checkpoints, or files of scores.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "select/select.h"

int
df_select_weights(const char *text, size_t n, const char *of, bool negative, double *weight, struct df_err *err)
{
	char *copy = NULL, *rest = NULL, *w;
	size_t n_given = 0;
	int rc = DF_OK;

	for (size_t i = 0; i < n; i++)
		weight[i] = 1;
	if (!text)
		return DF_OK;
	DF_TRY(df_strdup(&copy, text, err));
	rest = copy;
	for (; (w = strsep(&rest, ",")); n_given++) {
		double x = 0;

		DF_TRY(df_parse_double(w, &x, err));
		if (x < 0 && !negative) {
			rc = df_fail(err, DF_EUSAGE, "%g must not be negative", x);
			goto out;
		}
		if (n_given < n)
			weight[n_given] = x;
	}
	if (n_given != n)
		rc = df_fail(err, DF_EUSAGE, "%zu weights for %zu %s", n_given, n, of);
out:
	free(copy);
	return rc;
}
