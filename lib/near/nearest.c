/*
 * nearest.c - thresholds without a heap, and the last sort.
 */
#include "near/nearest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/simd.h"

#pragma GCC optimize("O3", "no-trapping-math")

void
df_nearest_release(struct df_nearest *s)
{
	free(s->e.lo);
	free(s->e.hi);
	free(s->e.ref);
	free(s->exact);
	*s = (struct df_nearest){ 0 };
}

/* The arrays of a list begin with room for all of it, if that is little: lists of thousands of queries fill at once. */
int
df_nearest_reserve(struct df_nearest *s, size_t n, size_t most, struct df_err *err)
{
	enum { AT_FIRST = 4096 };
	const size_t need = s->e.n + n;
	size_t cap = s->cap ? s->cap : AT_FIRST, lo = s->cap, hi = s->cap, ref = s->cap;
	int rc = DF_OK;

	if (need <= s->cap || s->cap >= most)
		return DF_OK;
	while (cap < need && cap < most)
		cap *= 2;
	cap = cap < most ? cap : most;
	DF_TRY(df_grow(&s->e.lo, &lo, cap, sizeof(*s->e.lo), "nearest neighbours", err));
	DF_TRY(df_grow(&s->e.hi, &hi, cap, sizeof(*s->e.hi), "nearest neighbours", err));
	DF_TRY(df_grow(&s->e.ref, &ref, cap, sizeof(*s->e.ref), "nearest neighbours", err));
	s->cap = cap;
out:
	return rc;
}

/* ---- thresholds -------------------------------------------------------------------------------------------------- */

/* Floats as integers in the same order, and back: its own inverse. */
static inline int32_t
turn_sign(int32_t i)
{
	return i ^ (i >> 31 & INT32_MAX);
}

static float
unkey(int32_t i)
{
	float x;

	i = turn_sign(i);
	memcpy(&x, &i, sizeof(x));
	return x;
}

static int32_t
key(float x)
{
	int32_t i;

	memcpy(&i, &x, sizeof(i));
	return turn_sign(i);
}

DF_SIMD static void
ends(const float *x, size_t n, int32_t *least, int32_t *most)
{
	int32_t low = INT32_MAX, high = INT32_MIN;

	for (size_t i = 0; i < n; i++) {
		int32_t k;

		memcpy(&k, x + i, sizeof(k));
		k = turn_sign(k);
		low = k < low ? k : low;
		high = k > high ? k : high;
	}
	*least = low;
	*most = high;
}

/*
 * By bisection: to count is cheap.  The middle is that of the values and that of their representations in turn, so that
 * neither outliers nor exponents make it long.
 */
float
df_reached_by(const float *x, size_t n, size_t k, size_t slack)
{
	int32_t a, b; /* at least k reach a; fewer reach b */

	ends(x, n, &a, &b);
	b++;
	for (int turn = 0; (int64_t)b - a > 1; turn++) {
		const float half = 0.5F * unkey(a) + 0.5F * unkey(b);
		int32_t mid = turn % 2 == 0 && isfinite(half) ? key(half) : (int32_t)(((int64_t)a + b) / 2);
		size_t count;

		if (mid <= a || mid >= b)
			mid = (int32_t)(a + ((int64_t)b - a) / 2);
		count = df_sieve_count(x, n, unkey(mid));
		if (count < k) {
			b = mid;
			continue;
		}
		a = mid;
		if (count <= k + slack)
			break;
	}
	return unkey(a);
}

void
df_nearest_tighten(const struct df_sieve *sieve, struct df_nearest *s, size_t k, size_t slack)
{
	float least;

	if (s->e.n <= k)
		return;
	least = df_reached_by(s->e.lo, s->e.n, k, slack);
	if (least > s->least)
		s->least = least;
	sieve->keep(&s->e, s->least);
}

/* ---- the last sort ----------------------------------------------------------------------------------------------- */

/* Doubles as integers, the nearest first. */
static uint64_t
order_key(enum df_metric metric, double value)
{
	const double x = value + 0.0; /* -0 becomes 0 */
	uint64_t u;

	memcpy(&u, &x, sizeof(u));
	u = u >> 63 ? ~u : u | UINT64_C(1) << 63;
	return metric == DF_METRIC_DOT ? ~u : u;
}

static int
nearer_l2(const void *x, const void *y)
{
	const struct df_neighbour *a = x, *b = y;

	return df_nearer(DF_METRIC_L2, a->value, a->id, b->value, b->id) ? -1 : 1;
}

static int
nearer_dot(const void *x, const void *y)
{
	const struct df_neighbour *a = x, *b = y;

	return df_nearer(DF_METRIC_DOT, a->value, a->id, b->value, b->id) ? -1 : 1;
}

/* One pass of a radix sort: stable, by DIGIT bits of (key - least) from `shift` on. */
enum { DIGIT = 11, DIGITS = 1 << DIGIT };

static void
sort_by_digit(
    enum df_metric metric, const struct df_neighbour *v, struct df_neighbour *to, size_t n, uint64_t least, int shift)
{
	uint32_t start[DIGITS + 1] = { 0 };

	for (size_t i = 0; i < n; i++)
		start[1 + ((order_key(metric, v[i].value) - least) >> shift & (DIGITS - 1))]++;
	for (size_t b = 1; b <= DIGITS; b++)
		start[b] += start[b - 1];
	for (size_t i = 0; i < n; i++)
		to[start[(order_key(metric, v[i].value) - least) >> shift & (DIGITS - 1)]++] = v[i];
}

/* For what is nearly in order; false where it is not, after a fair number of steps. */
static bool
sort_by_insertion(enum df_metric metric, struct df_neighbour *v, size_t n)
{
	size_t steps = 0;

	for (size_t i = 1; i < n; i++) {
		const struct df_neighbour x = v[i];
		size_t j = i;

		for (; j > 0 && df_nearer(metric, x.value, x.id, v[j - 1].value, v[j - 1].id); j--)
			v[j] = v[j - 1];
		v[j] = x;
		steps += i - j;
		if (steps > 8 * n)
			return false;
	}
	return true;
}

/* By the leading bits in which keys differ, then by insertion. */
void
df_neighbours_sort(enum df_metric metric, struct df_neighbour *v, struct df_neighbour *spare, size_t n)
{
	uint64_t low = UINT64_MAX, high = 0;
	int bits = 0;

	if (n > 64 && n < UINT32_MAX) {
		for (size_t i = 0; i < n; i++) {
			const uint64_t k = order_key(metric, v[i].value);

			low = k < low ? k : low;
			high = k > high ? k : high;
		}
		for (uint64_t range = high - low; range; range >>= 1)
			bits++;
		bits = bits > 2 * DIGIT ? bits : 2 * DIGIT;
		sort_by_digit(metric, v, spare, n, low, bits - 2 * DIGIT);
		sort_by_digit(metric, spare, v, n, low, bits - DIGIT);
	}
	if (!sort_by_insertion(metric, v, n))
		qsort(v, n, sizeof(*v), metric == DF_METRIC_DOT ? nearer_dot : nearer_l2);
}
