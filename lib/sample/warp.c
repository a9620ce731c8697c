/*
 * warp.c - which tokens are kept, and the draw from them.
 *
 * The vocabulary is never sorted as a whole: top-k keeps a heap of k values to find the k-th largest; top-p without
 * top-k sorts only the tokens within a few nats of the best one, and more of them while they do not reach p.
 */
#include "sample/warp.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/mem.h"

void
df_warp_scratch_release(struct df_warp_scratch *s)
{
	free(s->v);
	free(s->heap);
	*s = (struct df_warp_scratch){ NULL, 0, 0, NULL, 0 };
}

/* The most likely token. */
static int
best(const float *x, size_t n, uint32_t *id, struct df_err *err)
{
	*id = 0;
	for (size_t i = 0; i < n; i++) {
		if (isnan(x[i]) || x[i] == INFINITY)
			return df_fail(err, DF_ERANGE, "the logit of token %zu is not a finite number", i);
		if (x[i] > x[*id])
			*id = (uint32_t)i;
	}
	if (isinf(x[*id]))
		return df_fail(err, DF_ERANGE, "no token has a finite logit");
	return DF_OK;
}

/* Sift the root of a min-heap down. */
static void
sift(float *h, size_t k)
{
	for (size_t i = 0, c; (c = 2 * i + 1) < k; i = c) {
		float t = h[i];

		if (c + 1 < k && h[c + 1] < h[c])
			c++;
		if (h[i] <= h[c])
			return;
		h[i] = h[c];
		h[c] = t;
	}
}

static int
ascending(const void *a, const void *b)
{
	const float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

/* The k-th largest of n > k values. */
static int
kth_largest(const float *x, size_t n, size_t k, struct df_warp_scratch *s, float *kth, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&s->heap, &s->cap_heap, k, sizeof(*s->heap), "top-k", err));
	for (size_t i = 0; i < k; i++)
		s->heap[i] = x[i];
	qsort(s->heap, k, sizeof(*s->heap), ascending); /* a sorted array is a heap */
	for (size_t i = k; i < n; i++) {
		if (x[i] > s->heap[0]) {
			s->heap[0] = x[i];
			sift(s->heap, k);
		}
	}
	*kth = s->heap[0];
out:
	return rc;
}

/* The tokens with a logit of at least `least`, in the order of their ids. */
static int
gather(const float *x, size_t n, float least, struct df_warp_scratch *s, struct df_err *err)
{
	int rc = DF_OK;

	s->n = 0;
	for (size_t i = 0; i < n; i++) {
		if (x[i] < least)
			continue;
		if (s->n == s->cap)
			DF_TRY(df_grow(&s->v, &s->cap, s->n + 1, sizeof(*s->v), "candidates", err));
		s->v[s->n++] = (struct df_candidate){ x[i], (uint32_t)i };
	}
out:
	return rc;
}

static int
likelier_first(const void *a, const void *b)
{
	const struct df_candidate *p = a, *q = b;

	if (p->x != q->x)
		return p->x > q->x ? -1 : 1;
	return (p->id > q->id) - (p->id < q->id);
}

/* Sort the candidates and cut them where their mass reaches `mass`; false when all together do not reach it. */
static bool
cut(struct df_warp_scratch *s, double top, double t, double mass)
{
	double sum = 0;

	qsort(s->v, s->n, sizeof(*s->v), likelier_first);
	for (size_t i = 0; i < s->n; i++) {
		sum += exp(((double)s->v[i].x - top) / t);
		if (sum >= mass) {
			s->n = i + 1;
			return true;
		}
	}
	return false;
}

/* Put the candidates that top-k and top-p keep into s. */
static int
keep(const struct df_warp *w, const float *x, size_t n, float top, struct df_warp_scratch *s, struct df_err *err)
{
	const double t = w->temperature;
	float least = -INFINITY;
	double z = 0;
	int rc = DF_OK;

	if (w->top_k > 0 && w->top_k < n) {
		DF_TRY(kth_largest(x, n, w->top_k, s, &least, err));
		DF_TRY(gather(x, n, least, s, err));
		if (w->top_p < 1) {
			for (size_t i = 0; i < s->n; i++)
				z += exp(((double)s->v[i].x - (double)top) / t);
			(void)cut(s, (double)top, t, w->top_p * z);
		}
		goto out;
	}
	if (w->top_p < 1) {
		for (size_t i = 0; i < n; i++)
			z += exp(((double)x[i] - (double)top) / t);
		for (int nats = 4; nats < 512; nats *= 2) {
			DF_TRY(gather(x, n, top - (float)(nats * t), s, err));
			if (cut(s, (double)top, t, w->top_p * z))
				goto out;
		}
		DF_TRY(gather(x, n, least, s, err));
		(void)cut(s, (double)top, t, w->top_p * z);
		goto out;
	}
	rc = gather(x, n, least, s, err);
out:
	return rc;
}

int
df_warp_pick(const struct df_warp *w, const float *logits, size_t n, double u, struct df_warp_scratch *s, uint32_t *id,
    double *logprob, struct df_err *err)
{
	double z = 0, sum = 0, top;
	uint32_t first;
	int rc;

	DF_TRY(best(logits, n, &first, err));
	top = (double)logits[first];
	*id = first;
	if (w->temperature > 0) {
		DF_TRY(keep(w, logits, n, logits[first], s, err));
		for (size_t i = 0; i < s->n; i++)
			z += exp(((double)s->v[i].x - top) / w->temperature);
		for (size_t i = 0; i < s->n; i++) {
			const double p = exp(((double)s->v[i].x - top) / w->temperature);

			if (p > 0)
				*id = s->v[i].id; /* the last one with p > 0, if rounding leads past the end */
			sum += p;
			if (sum > u * z)
				break;
		}
		z = 0;
	}
	for (size_t i = 0; i < n; i++)
		z += exp((double)logits[i] - top);
	*logprob = (double)logits[*id] - top - log(z);
out:
	return rc;
}
