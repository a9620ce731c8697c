/*
 * remainder.c - largest remainders without sorting: the smallest fraction that still gets one is found by bisection.
 */
#include "base/remainder.h"

#include <math.h>
#include <string.h>

/* n * share, rounded down; *bits: of the fraction, which order as fractions do. */
static double
whole_part(double share, uint64_t n, uint64_t *bits)
{
	const double x = (double)n * share, whole = nearbyint(x);
	/* 0.55 of 20 are 11, although rounding may leave the product below. */
	const double down = fabs(x - whole) <= 1e-12 * x ? whole : floor(x), fraction = x > down ? x - down : 0;

	memcpy(bits, &fraction, sizeof(*bits));
	return down;
}

/* Whose fractions are above that of `bits`; what has no share does not count. */
static size_t
n_above(const double *share, size_t n_parts, uint64_t n, uint64_t bits)
{
	size_t count = 0;

	for (size_t i = 0; i < n_parts; i++) {
		uint64_t own;

		whole_part(share[i], n, &own);
		count += share[i] > 0 && own > bits;
	}
	return count;
}

/* The smallest fraction above which there are at most `left`, as bits. */
static uint64_t
threshold(const double *share, size_t n_parts, uint64_t n, uint64_t left)
{
	const double one = 1;
	uint64_t lo = 0, hi;

	memcpy(&hi, &one, sizeof(hi)); /* no fraction is above it */
	while (lo < hi) {
		const uint64_t mid = lo + (hi - lo) / 2;

		if (n_above(share, n_parts, n, mid) <= left)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

void
df_largest_remainder(const double *share, size_t n_parts, uint64_t n, uint64_t *part)
{
	uint64_t left = n, bits, least;
	size_t n_equal;

	for (size_t i = 0; i < n_parts; i++) {
		const double down = whole_part(share[i], n, &bits);

		part[i] = down < (double)left ? (uint64_t)down : left;
		left -= part[i];
	}
	if (left == 0)
		return;
	least = threshold(share, n_parts, n, left);
	n_equal = left - n_above(share, n_parts, n, least);
	for (size_t i = 0; i < n_parts; i++) {
		whole_part(share[i], n, &bits);
		if (share[i] > 0 && (bits > least || (bits == least && n_equal > 0))) {
			n_equal -= bits == least;
			part[i]++;
			left--;
		}
	}
	/* Shares that do not sum to 1 leave more than one for each. */
	for (size_t i = 0, idle = 0; left > 0 && idle < n_parts; i = (i + 1) % n_parts) {
		idle = share[i] > 0 ? 0 : idle + 1;
		part[i] += share[i] > 0;
		left -= share[i] > 0;
	}
}
