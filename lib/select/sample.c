/*
 * sample.c - draws that have addresses: draw i of (seed, step) is the same
 * whoever asks, in whatever order.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "select/select.h"

struct racer {
	double t;
	uint64_t id;
};

/*
 * A race of which only the first m are wanted, or all:
 *
 *   some rows    draw, in order: an estimate of the time by which m rows are through, and bounds of equal shares
 *   all rows     draw; who is later is dropped, mostly before the logarithm, because 1 - u <= -ln u
 *   those kept   are gathered by shares, which are sorted on all threads
 *
 * No two rows are equal, as ids differ: there is one order, however it is found.
 */
#define SAMPLE ((uint64_t)1 << 14) /* rows of the estimate */
#define TASK   ((uint64_t)1 << 14) /* rows that a thread draws at a time */
#define SHARES 256
#define DIGITS 256 /* of a byte of a time */
#define BLOCK  256 /* rows whose uniform numbers are made together */

struct race {
	struct df_weights w;
	uint64_t n, seed;
	uint32_t substream;
	double limit;             /* who is later is dropped */
	struct racer *r;          /* [n]: of task i, n_kept[i] from i * TASK on; then scratch */
	uint64_t *n_kept;         /* [tasks] */
	uint64_t *at;             /* [tasks, shares] how many a task keeps of a share; then where they go in it */
	size_t n_tasks, n_shares; /* n_shares: a power of two */
	double bound[SHARES];     /* share i ends before it */
	struct racer *share;      /* those kept: share i from first[i] on */
	uint64_t first[SHARES + 1];
};

static double
weight_of(const struct df_weights *w, uint64_t id)
{
	return w->group ? w->weight[w->group[id]] : w->weight ? w->weight[id] : 1.0;
}

/*
 * Which of rows at [n] may be in time, by 1 - u <= -ln u; with a margin, so that it is never the rounding that decides.
 * Without branches: whether a row is, is a matter of luck.
 */
static size_t
in_time(const struct race *c, uint64_t at, size_t n, const double *u, uint16_t which[BLOCK])
{
	size_t n_in = 0;

	for (size_t i = 0; i < n; i++) {
		const double w = weight_of(&c->w, at + i);

		which[n_in] = (uint16_t)i;
		n_in += (size_t)(w > 0) & (size_t) !((1 - u[i]) > c->limit * w * (1 + 0x1p-40));
	}
	return n_in;
}

/* Draw rows [first, end) into r, but for those that are too late; how many are kept. */
static uint64_t
draw_rows(const struct race *c, uint64_t first, uint64_t end, struct racer *r)
{
	uint16_t which[BLOCK];
	double u[BLOCK];
	uint64_t kept = 0;

	for (uint64_t at = first; at < end; at += BLOCK) {
		const uint64_t n = end - at < BLOCK ? end - at : BLOCK;

		size_t n_in;

		df_rng_uniforms(c->seed, DF_RNG_SAMPLE, c->substream, at, n, u);
		n_in = in_time(c, at, n, u, which);
		for (size_t k = 0; k < n_in; k++) {
			const uint64_t id = at + which[k];
			const double t = -log(u[which[k]]) / weight_of(&c->w, id);

			if (t <= c->limit)
				r[kept++] = (struct racer){ t, id };
		}
	}
	return kept;
}

/* The share of a time: how many bounds it has reached. */
static size_t
share_of(const struct race *c, double t)
{
	size_t lo = 0;

	for (size_t step = c->n_shares / 2; step; step /= 2)
		lo += step * (size_t)(c->bound[lo + step - 1] <= t);
	return lo;
}

static void
draw_task(void *ctx, size_t task, int worker)
{
	struct race *c = ctx;
	const uint64_t first = task * TASK, end = first + TASK < c->n ? first + TASK : c->n;
	uint64_t *at = c->at + task * c->n_shares;

	(void)worker;
	memset(at, 0, c->n_shares * sizeof(*at));
	c->n_kept[task] = draw_rows(c, first, end, c->r + first);
	for (uint64_t i = 0; i < c->n_kept[task]; i++)
		at[share_of(c, c->r[first + i].t)]++;
}

/* Those that a task has kept to their shares, where they stay in order of ids. */
static void
gather_task(void *ctx, size_t task, int worker)
{
	struct race *c = ctx;
	const struct racer *r = c->r + task * TASK;
	uint64_t *at = c->at + task * c->n_shares;

	(void)worker;
	for (uint64_t i = 0; i < c->n_kept[task]; i++)
		c->share[at[share_of(c, r[i].t)]++] = r[i];
}

/* The bits of a time order as the times do: none is negative. */
static uint64_t
bits_of(double t)
{
	uint64_t bits;

	memcpy(&bits, &t, sizeof(bits));
	return bits;
}

/* r [n] by time, those of equal times as they are; other [n] is scratch. */
static void
sort_times(struct racer *r, struct racer *other, uint64_t n)
{
	uint64_t count[sizeof(double)][DIGITS] = { { 0 } };
	struct racer *from = r, *to = other;

	for (uint64_t i = 0; i < n; i++)
		for (size_t d = 0; d < sizeof(double); d++)
			count[d][bits_of(r[i].t) >> (8 * d) & (DIGITS - 1)]++;
	for (size_t d = 0; d < sizeof(double); d++) {
		uint64_t at = 0;

		if (n == 0 || count[d][bits_of(r[0].t) >> (8 * d) & (DIGITS - 1)] == n)
			continue; /* all have the same digit */
		for (size_t i = 0; i < DIGITS; i++) {
			const uint64_t here = count[d][i];

			count[d][i] = at;
			at += here;
		}
		for (uint64_t i = 0; i < n; i++)
			to[count[d][bits_of(from[i].t) >> (8 * d) & (DIGITS - 1)]++] = from[i];
		struct racer *const swap = from;
		from = to;
		to = swap;
	}
	if (from != r)
		memcpy(r, from, n * sizeof(*r));
}

static void
sort_task(void *ctx, size_t i, int worker)
{
	struct race *c = ctx;

	(void)worker;
	sort_times(c->share + c->first[i], c->r + c->first[i], c->first[i + 1] - c->first[i]);
}

/* The bounds of shares, and the time by which about m rows are through, from every n / SAMPLE-th row. */
static int
estimate(struct race *c, uint64_t m, struct df_err *err)
{
	const uint64_t step = c->n / SAMPLE ? c->n / SAMPLE : 1;
	struct racer *r = NULL;
	uint64_t n_drawn = 0, n_rows = 0, wanted;
	int rc = DF_OK;

	c->n_shares = SHARES;
	DF_TRY(df_alloc(&r, SAMPLE + step, sizeof(*r), "draws", err));
	for (uint64_t id = 0; id < c->n && n_rows < SAMPLE; id += step, n_rows++)
		n_drawn += draw_rows(c, id, id + 1, r + n_drawn);
	sort_times(r, c->r, n_drawn);
	/* Six standard deviations more than needed: too few would mean to begin again. */
	wanted = (uint64_t)((double)m / (double)c->n * (double)n_rows);
	wanted += (uint64_t)(6 * sqrt((double)wanted)) + 16;
	if (wanted < n_drawn)
		c->limit = r[wanted].t;
	if (wanted > n_drawn)
		wanted = n_drawn;
	for (size_t i = 0; i + 1 < SHARES; i++)
		c->bound[i] = n_drawn ? r[(i + 1) * (wanted ? wanted - 1 : 0) / SHARES].t : 0;
out:
	free(r);
	return rc;
}

/* Where each share begins, and inside it the racers of each task. */
static void
place_shares(struct race *c)
{
	uint64_t at = 0;

	for (size_t i = 0; i < c->n_shares; i++) {
		c->first[i] = at;
		for (size_t task = 0; task < c->n_tasks; task++) {
			uint64_t *here = &c->at[task * c->n_shares + i];
			const uint64_t n = *here;

			*here = at;
			at += n;
		}
	}
	c->first[c->n_shares] = at;
}

int
df_sample_race_by(struct df_pool *pool, const struct df_weights *w, uint64_t n, uint64_t m, uint64_t seed,
    uint32_t substream, uint64_t *out, uint64_t *n_out, struct df_err *err)
{
	struct race c = {
		.w = *w, .n = n, .seed = seed, .substream = substream, .limit = (double)INFINITY, .n_shares = 1
	};
	size_t cap = 0, cap_share = 0, n_at;
	uint64_t n_kept;
	int rc = DF_OK;

	*n_out = 0;
	if (m == 0)
		return DF_OK;
	c.n_tasks = n / TASK + (n % TASK > 0);
	DF_TRY(df_grow(&c.r, &cap, n, sizeof(*c.r), "draws", err)); /* not cleared: most of it is never touched */
	DF_TRY(df_alloc(&c.n_kept, c.n_tasks, sizeof(*c.n_kept), "draws", err));
	if (n > SAMPLE)
		DF_TRY(estimate(&c, m < n ? m : n, err));
	DF_TRY(df_size_mul(c.n_tasks, c.n_shares, &n_at, "draws", err));
	DF_TRY(df_alloc(&c.at, n_at, sizeof(*c.at), "draws", err));
	for (;; c.limit = (double)INFINITY) {
		const bool all = isinf(c.limit);

		df_pool_for(pool, c.n_tasks, draw_task, &c);
		n_kept = 0;
		for (size_t i = 0; i < c.n_tasks; i++)
			n_kept += c.n_kept[i];
		if (all || n_kept >= m)
			break;
	}
	DF_TRY(df_grow(&c.share, &cap_share, n_kept, sizeof(*c.share), "draws", err));
	place_shares(&c);
	df_pool_for(pool, c.n_tasks, gather_task, &c);
	df_pool_for(pool, c.n_shares, sort_task, &c);
	*n_out = m < n_kept ? m : n_kept;
	for (uint64_t i = 0; i < *n_out; i++)
		out[i] = c.share[i].id;
out:
	free(c.r);
	free(c.n_kept);
	free(c.at);
	free(c.share);
	return rc;
}

int
df_sample_race(const double *weight, uint64_t n, uint64_t m, uint64_t seed, uint32_t substream, uint64_t *out,
    uint64_t *n_out, struct df_err *err)
{
	const struct df_weights w = { .weight = weight };

	return df_sample_race_by(NULL, &w, n, m, seed, substream, out, n_out, err);
}

int
df_sample_replace(
    const double *weight, uint64_t n, uint64_t m, uint64_t seed, uint32_t substream, uint64_t *out, struct df_err *err)
{
	double *prefix = NULL, total = 0, sum = 0;
	uint64_t last = n; /* the last row that can be drawn */
	int rc = DF_OK;

	for (uint64_t i = 0; i < n; i++)
		total += weight ? weight[i] : 1.0;
	if (m && !(total > 0))
		return df_fail(err, DF_EUSAGE, "nothing to draw from: no row has a positive weight");
	DF_TRY(df_alloc(&prefix, n, sizeof(*prefix), "probabilities", err));
	for (uint64_t i = 0; i < n; i++) {
		const double w = weight ? weight[i] : 1.0;

		sum += w / total;
		prefix[i] = sum;
		if (w > 0)
			last = i;
	}
	for (uint64_t d = 0; d < m; d++) {
		const double u = df_rng_uniform(seed, DF_RNG_SAMPLE_REPLACE, substream, d);
		uint64_t lo = 0,
			 hi = last; /* the first row whose prefix exceeds u; rounding never goes past the last */

		while (lo < hi) {
			const uint64_t mid = lo + (hi - lo) / 2;

			if (prefix[mid] > u)
				hi = mid;
			else
				lo = mid + 1;
		}
		out[d] = lo;
	}
out:
	free(prefix);
	return rc;
}
