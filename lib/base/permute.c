/*
 * permute.c - the race of equal weights, sorted by buckets.
 */
#include "base/permute.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

#define BLOCK       256   /* rows whose uniform numbers are made together */
#define BUCKET_ROWS 8     /* of a bucket at most, on average */
#define SHARE_ROWS  32768 /* of a share: its entries fit into the cache */
#define SHARES      512   /* at most: as many places are written to in turn */

/*
 * An entry is a row's key, the upper half of its draw, and its place in `rows`.  Entries are dealt to shares by their
 * keys, in long runs; within a share, which fits into the cache, to buckets, whose few entries are sorted, by the whole
 * draw where keys are equal.
 */
struct race {
	const struct df_permute *p;
	const uint32_t *rows;
	uint32_t n;
	int share_shift;  /* a key's share is key >> share_shift */
	int bucket_shift; /* its bucket, counted through all shares, is key >> bucket_shift */
	uint64_t *entry;  /* [n] by shares: key in the upper half; rising keys are falling draws, and rising times */
	uint32_t *end;    /* [shares + 1] */
	uint32_t *bucket; /* [buckets of a share + 1] */
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

/* end[i]: at first how many are in part i, then the place where it begins. */
static void
begins(uint32_t *end, size_t n_parts)
{
	uint32_t at = 0;

	for (size_t i = 0; i < n_parts; i++) {
		const uint32_t count = end[i];

		end[i] = at;
		at += count;
	}
}

/* key [n]: of all rows; end[i] = where the entries of share i begin. */
static void
draw_keys(struct race *c, uint32_t *key)
{
	double u[BLOCK];

	for (uint64_t first = 0; first < c->n; first += BLOCK) {
		const uint32_t n = c->n - first < BLOCK ? c->n - (uint32_t)first : BLOCK;

		draws(c, (uint32_t)first, n, u);
		for (uint32_t i = 0; i < n; i++) {
			key[first + i] = UINT32_MAX - (uint32_t)(u[i] * 0x1p32);
			c->end[(uint64_t)key[first + i] >> c->share_shift]++;
		}
	}
	begins(c->end, (size_t)1 << (32 - c->share_shift));
}

/* The entries, by shares; then end[i] is where share i ends. */
static void
deal(struct race *c, const uint32_t *key)
{
	for (uint32_t i = 0; i < c->n; i++)
		c->entry[c->end[(uint64_t)key[i] >> c->share_shift]++] = (uint64_t)key[i] << 32 | i;
}

/* Is entry a before b? */
static bool
before(const struct race *c, uint64_t a, uint64_t b)
{
	double x, y;

	if (a >> 32 != b >> 32)
		return a < b;
	x = draw(c, (uint32_t)a);
	y = draw(c, (uint32_t)b);
	return x != y ? x > y : id_of(c, (uint32_t)a) < id_of(c, (uint32_t)b);
}

/* Insertion sort: a bucket has BUCKET_ROWS entries on average. */
static void
sort_bucket(const struct race *c, uint64_t *entry, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		const uint64_t x = entry[i];
		size_t k = i;

		for (; k > 0 && before(c, x, entry[k - 1]); k--)
			entry[k] = entry[k - 1];
		entry[k] = x;
	}
}

/* sorted [n] = the entries of a share, in order; scratch: as long. */
static void
sort_share(const struct race *c, const uint64_t *entry, size_t n, uint64_t *sorted)
{
	const size_t n_buckets = (size_t)1 << (c->share_shift - c->bucket_shift);
	const uint32_t mask = (uint32_t)(n_buckets - 1);

	memset(c->bucket, 0, n_buckets * sizeof(*c->bucket));
	for (size_t i = 0; i < n; i++)
		c->bucket[(uint32_t)(entry[i] >> 32 >> c->bucket_shift) & mask]++;
	begins(c->bucket, n_buckets);
	for (size_t i = 0; i < n; i++)
		sorted[c->bucket[(uint32_t)(entry[i] >> 32 >> c->bucket_shift) & mask]++] = entry[i];
	for (size_t b = 0; b < n_buckets; b++) {
		const uint32_t first = b > 0 ? c->bucket[b - 1] : 0;

		sort_bucket(c, sorted + first, c->bucket[b] - first);
	}
}

int
df_permute(const struct df_permute *p, const uint32_t *rows, uint32_t n, uint32_t *order, struct df_err *err)
{
	struct race c = { .p = p, .rows = rows, .n = n, .share_shift = 32 };
	uint64_t *sorted = NULL;
	size_t n_shares, most = 0;
	int rc = DF_OK;

	while ((uint64_t)n >> (32 - c.share_shift) > SHARE_ROWS && 1 << (32 - c.share_shift) < SHARES)
		c.share_shift--;
	c.bucket_shift = c.share_shift;
	while (c.bucket_shift > 0 && (uint64_t)n >> (32 - c.bucket_shift) > BUCKET_ROWS)
		c.bucket_shift--;
	n_shares = (size_t)1 << (32 - c.share_shift);
	DF_TRY(df_alloc(&c.entry, n, sizeof(*c.entry), "permutation", err));
	DF_TRY(df_alloc(&c.end, n_shares, sizeof(*c.end), "permutation", err));
	DF_TRY(
	    df_alloc(&c.bucket, (size_t)1 << (c.share_shift - c.bucket_shift), sizeof(*c.bucket), "permutation", err));
	draw_keys(&c, order); /* which is free until shares are sorted */
	deal(&c, order);
	for (size_t i = 0; i < n_shares; i++) {
		const size_t size = c.end[i] - (i > 0 ? c.end[i - 1] : 0);

		most = size > most ? size : most;
	}
	DF_TRY(df_alloc(&sorted, most, sizeof(*sorted), "permutation", err));
	for (size_t i = 0; i < n_shares; i++) {
		const uint32_t first = i > 0 ? c.end[i - 1] : 0, size = c.end[i] - first;

		sort_share(&c, c.entry + first, size, sorted);
		for (uint32_t k = 0; k < size; k++)
			order[first + k] = rows ? rows[(uint32_t)sorted[k]] : (uint32_t)sorted[k];
	}
out:
	free(c.entry);
	free(c.end);
	free(c.bucket);
	free(sorted);
	return rc;
}
