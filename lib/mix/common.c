/*
 * common.c - the arithmetic of several mixers.
 */
#include <math.h>
#include <stdio.h>

#include "mix/mix_priv.h"

void
df_mix_softmax(double *x, size_t n)
{
	double largest = -INFINITY, sum = 0;

	for (size_t i = 0; i < n; i++)
		largest = fmax(largest, x[i]);
	for (size_t i = 0; i < n; i++) {
		x[i] = exp(x[i] - largest);
		sum += x[i];
	}
	for (size_t i = 0; i < n; i++)
		x[i] /= sum;
}

void
df_mix_raise(double *p, size_t n, double floor)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++) {
		p[i] = (1 - (double)n * floor) * p[i] + floor;
		sum += p[i];
	}
	for (size_t i = 0; i < n; i++)
		p[i] /= sum;
}

void
df_mix_log_array(struct df_buf *out, const char *name, const double *v, size_t n)
{
	df_buf_printf(out, ", \"%s\": ", name);
	df_buf_json_doubles(out, v, n);
}

const char *
df_mix_domain(const struct df_mix_seen *seen, size_t i, char storage[static 80])
{
	if (seen->names)
		snprintf(storage, 80, "domain '%.60s'", seen->names[i]);
	else
		snprintf(storage, 80, "domain %zu", i);
	return storage;
}
