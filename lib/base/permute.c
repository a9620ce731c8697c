/*
 * permute.c - the race of equal weights, sorted by buckets.
 */
#include "base/permute.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

#define BUCKET_ROWS 8   /* of a bucket at most, on average */
#define BLOCK       256 /* rows whose uniform numbers are made together */

/*
 * A row's key is the upper half of its draw.  Rows are dealt to buckets by their keys, and the few rows of a bucket are
 * sorted, by the whole draw where keys are equal.
 */
struct race {
	const struct df_permute *p;
	const uint32_t *rows;
	uint32_t *key; /* [n] of places in rows; rising keys are falling draws, and rising times */
};

static uint64_t
id_of(const struct race *c, uint32_t place)
{
	const uint32_t row = c->rows ? c->rows[place] : place;

	return c->p->ids ? c->p->ids[row] : row;
}

static double
draw(const struct race *c, uint32_t place)
{
	return df_rng_uniform(c->p->seed, c->p->tag, c->p->substream, id_of(c, place));
}

/* u [n]: the draws of the places from `first` on.  Ids that follow each other are drawn together. */
static void
draws(const struct race *c, uint32_t first, uint32_t n, double *u)
{
	const uint64_t id = id_of(c, first);
	bool run = true;

	for (uint32_t i = 1; i < n && run; i++)
		run = id_of(c, first + i) == id + i;
	if (run) {
		df_rng_uniforms(c->p->seed, c->p->tag, c->p->substream, id, n, u);
		return;
	}
	for (uint32_t i = 0; i < n; i++)
		u[i] = draw(c, first + i);
}

static bool
before(const struct race *c, uint32_t a, uint32_t b)
{
	double x, y;

	if (c->key[a] != c->key[b])
		return c->key[a] < c->key[b];
	x = draw(c, a);
	y = draw(c, b);
	return x != y ? x > y : id_of(c, a) < id_of(c, b);
}

/* Insertion sort: a bucket has BUCKET_ROWS rows on average. */
static void
sort_bucket(const struct race *c, uint32_t *place, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		const uint32_t x = place[i];
		size_t k = i;

		for (; k > 0 && before(c, x, place[k - 1]); k--)
			place[k] = place[k - 1];
		place[k] = x;
	}
}

/* order [n] = the places of rows, in the order of the race. */
static int
race(struct race *c, uint32_t n, uint32_t *order, struct df_err *err)
{
	uint32_t *end = NULL, at = 0;
	int shift = 32; /* a key's bucket is key >> shift */
	size_t n_buckets;
	double u[BLOCK];
	int rc = DF_OK;

	while (shift > 0 && (uint64_t)n >> (32 - shift) > BUCKET_ROWS)
		shift--;
	n_buckets = (size_t)1 << (32 - shift);
	DF_TRY(df_alloc(&c->key, n, sizeof(*c->key), "permutation", err));
	DF_TRY(df_alloc(&end, n_buckets + 1, sizeof(*end), "permutation", err));
	for (uint64_t first = 0; first < n; first += BLOCK) {
		const uint32_t m = n - first < BLOCK ? n - (uint32_t)first : BLOCK;

		draws(c, (uint32_t)first, m, u);
		for (uint32_t i = 0; i < m; i++) {
			const uint32_t key = UINT32_MAX - (uint32_t)(u[i] * 0x1p32);

			c->key[first + i] = key;
			end[(uint64_t)key >> shift]++;
		}
	}
	/* end[b]: at first the place where bucket b begins; after its rows are dealt, where it ends */
	for (size_t b = 0; b < n_buckets; b++) {
		const uint32_t count = end[b];

		end[b] = at;
		at += count;
	}
	for (uint32_t i = 0; i < n; i++)
		order[end[(uint64_t)c->key[i] >> shift]++] = i;
	for (size_t b = 0; b < n_buckets; b++) {
		const uint32_t first = b > 0 ? end[b - 1] : 0;

		sort_bucket(c, order + first, end[b] - first);
	}
out:
	free(c->key);
	free(end);
	return rc;
}

int
df_permute(const struct df_permute *p, const uint32_t *rows, uint32_t n, uint32_t *order, struct df_err *err)
{
	struct race c = { .p = p, .rows = rows };
	int rc = race(&c, n, order, err);

	for (uint32_t i = 0; rc == DF_OK && rows && i < n; i++)
		order[i] = rows[order[i]];
	return rc;
}
