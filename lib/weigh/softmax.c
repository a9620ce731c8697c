/*
 * softmax.c - what weighers that compare the samples of a group have in common.
 */
#include <math.h>

#include "weigh/weigh.h"

void
df_weigh_softmax(double *w, size_t n, double t)
{
	double top = -INFINITY, sum = 0;

	for (size_t i = 0; i < n; i++)
		top = fmax(top, w[i]);
	for (size_t i = 0; i < n; i++)
		sum += w[i] = exp((w[i] - top) / t);
	for (size_t i = 0; i < n; i++)
		w[i] /= sum;
}
