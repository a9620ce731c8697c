/*
 * knapsack.c - examples of different lengths into packs of one length.
 *
 * LLaMA-Factory sorts the lengths and bisects for the largest that still fits, and removes it from its list.  Here
 * nothing is removed: each place of the sorted list points at the nearest place below it that is not taken yet, and
 * paths are halved when they are walked, so that a batch of any size costs little more than sorting it.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "data/pack.h"

struct place {
	size_t length, which;
};

/* Ascending; equal lengths keep their order, so that the last one is found first. */
static int
by_length(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->length != y->length)
		return x->length < y->length ? -1 : 1;
	return x->which < y->which ? -1 : x->which > y->which;
}

/* How many places have a length of at most `room`. */
static size_t
bisect(const struct place *v, size_t n, size_t room)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (v[mid].length <= room)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* The highest place below i + 1 that is not taken, plus one; 0: none.  free_below[i] = i + 1 while i is not taken. */
static size_t
find(size_t *free_below, size_t i)
{
	while (i > 0 && free_below[i - 1] != i) {
		size_t next = free_below[i - 1];

		if (next > 0)
			free_below[i - 1] = free_below[next - 1];
		i = next;
	}
	return i;
}

int
df_knapsack(
    const size_t *length, size_t n, size_t capacity, size_t *order, size_t *first, size_t *n_sacks, struct df_err *err)
{
	struct place *v = NULL;
	size_t *free_below = NULL, taken = 0;
	int rc = DF_OK;

	*n_sacks = 0;
	first[0] = 0;
	if (n == 0)
		return DF_OK;
	DF_TRY(df_alloc(&v, n, sizeof(*v), "packing", err));
	DF_TRY(df_alloc(&free_below, n, sizeof(*free_below), "packing", err));
	for (size_t i = 0; i < n; i++) {
		v[i] = (struct place){ length[i], i };
		free_below[i] = i + 1;
	}
	qsort(v, n, sizeof(*v), by_length);
	while (taken < n) {
		size_t room = capacity, i;

		while ((i = find(free_below, bisect(v, n, room))) > 0) {
			room -= v[i - 1].length;
			order[taken++] = v[i - 1].which;
			free_below[i - 1] = i - 1;
		}
		first[++*n_sacks] = taken;
	}
out:
	free(v);
	free(free_below);
	return rc;
}
