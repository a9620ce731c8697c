/*
 * test_mix.c - proportions, quotas, and the rows of a window: the examples of the specification (6.1 to 6.3), the
 * drawer against a plain sort, and what must hold of any window.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/permute.h"
#include "base/rng.h"
#include "mix/mix.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void
assert_near(const double *got, const double *want, size_t n, double tolerance)
{
	for (size_t i = 0; i < n; i++)
		if (!(fabs(got[i] - want[i]) <= tolerance))
			fail_msg("%zu: %.17g, not %.17g", i, got[i], want[i]);
}

/* ---- proportions and quotas --------------------------------------------------------------- */

static void
test_proportions(void **state)
{
	static char *names[] = { "wiki", "c4", "code" };
	static const struct {
		const char *text;
		double want[3];
	} good[] = {
		{ NULL, { 1.0 / 3, 1.0 / 3, 1.0 / 3 } },
		{ "2,1,1", { .5, .25, .25 } },
		{ " 0.5 , 0.3,\t0.2 ", { .5, .3, .2 } },
		{ "0,0,7", { 0, 0, 1 } },
		{ "1e308,1e308,0", { .5, .5, 0 } },
		{ "1e-320,0,1e-320", { .5, 0, .5 } },
	};
	static const struct {
		const char *text, *message;
	} bad[] = {
		{ "1,2", "init: 2 numbers, but 3 domains (wiki, c4, code)" },
		{ "1,2,3,4", "init: 4 numbers, but 3 domains (wiki, c4, code)" },
		{ "0,0,0", "init: all proportions are 0" },
		{ "1,-1,3", "init: '-1': a proportion is a finite number, not below 0" },
		{ "1,nan,3", "init: 'nan'" },
		{ "1,inf,3", "init: 'inf'" },
		{ "1,,3", "init: " },
		{ "", "init: " },
		{ "1,2,3x", "init: " },
	};
	double p[3];
	struct df_err err;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_int_equal(df_mix_proportions(good[i].text, "init", 3, names, p, &err), DF_OK);
		assert_near(p, good[i].want, 3, 1e-15);
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(df_mix_proportions(bad[i].text, "init", 3, names, p, &err), DF_EUSAGE);
		if (strncmp(err.msg, bad[i].message, strlen(bad[i].message)) != 0)
			fail_msg("'%s': %s", bad[i].text, err.msg);
	}
}

static void
test_quota_examples(void **state)
{
	static const struct {
		double p[3];
		size_t n_domains;
		uint64_t n, ours[3], dataflex[3];
	} t[] = {
		{ { 1.0 / 3, 1.0 / 3, 1.0 / 3 }, 3, 10, { 4, 3, 3 }, { 3, 3, 4 } },
		{ { .55, .45, 0 }, 3, 7, { 4, 3, 0 }, { 3, 3, 1 } },
		{ { .5, .5 }, 2, 7, { 4, 3 }, { 3, 4 } },
		{ { 1 }, 1, 5, { 5 }, { 5 } },
	};
	uint64_t quota[3];

	(void)state;
	for (size_t i = 0; i < COUNT(t); i++) {
		df_mix_quotas(t[i].p, t[i].n_domains, t[i].n, false, quota);
		assert_memory_equal(quota, t[i].ours, t[i].n_domains * sizeof(*quota));
		df_mix_quotas(t[i].p, t[i].n_domains, t[i].n, true, quota);
		assert_memory_equal(quota, t[i].dataflex, t[i].n_domains * sizeof(*quota));
	}
}

/* ---- methods without measurements --------------------------------------------------------- */

static int
set(const struct df_mixer *m, void *options, const char *name, const char *value, struct df_err *err)
{
	return df_opt_set(m->options, options, name, value, err);
}

static void
test_static(void **state)
{
	const struct df_mixer *m;
	const double p0[3] = { .2, .3, .5 }, given[3] = { .5, .25, .25 };
	struct {
		const char *proportions;
	} o;
	double numbers[3], p[3];
	struct df_err err;

	(void)state;
	assert_int_equal(df_mixer_find(&m, "static", &err), DF_OK);
	assert_int_equal(m->defaults_size, sizeof(o));
	memcpy(&o, m->defaults, sizeof(o));
	assert_int_equal(m->n_state(3), 3);
	assert_int_equal(m->begin(&o, p0, 3, numbers, &err), DF_OK);
	m->propose(&o, numbers, 3, 7, p);
	assert_memory_equal(p, p0, sizeof(p));
	assert_int_equal(set(m, &o, "proportions", "2,1,1", &err), DF_OK);
	assert_int_equal(m->begin(&o, p0, 3, numbers, &err), DF_OK);
	m->propose(&o, numbers, 3, 7, p);
	assert_near(p, given, 3, 0);
	assert_int_equal(m->begin(&o, p0, 2, numbers, &err), DF_EUSAGE);
}

static void
test_random(void **state)
{
	static const double at0[3] = { 0.189703, 0.527220, 0.283078 }, at100[3] = { 0.300843, 0.256740, 0.442417 };
	const struct df_mixer *m;
	struct {
		int64_t seed;
		bool per_step, simplex;
	} o;
	double p[3], sum;
	struct df_err err;

	(void)state;
	assert_int_equal(df_mixer_find(&m, "random", &err), DF_OK);
	assert_int_equal(m->defaults_size, sizeof(o));
	memcpy(&o, m->defaults, sizeof(o));
	m->propose(&o, NULL, 3, 0, p);
	assert_near(p, at0, 3, 1e-6);
	m->propose(&o, NULL, 3, 100, p);
	assert_near(p, at100, 3, 1e-6);
	assert_int_equal(set(m, &o, "per-step", "false", &err), DF_OK);
	m->propose(&o, NULL, 3, 100, p);
	assert_near(p, at0, 3, 1e-6);
	assert_int_equal(set(m, &o, "simplex", "true", &err), DF_OK);
	m->propose(&o, NULL, 3, 100, p);
	sum = 0;
	for (uint64_t i = 0; i < 3; i++)
		sum -= log(df_rng_uniform(42, DF_RNG_MIXTURE, 0, i));
	for (uint64_t i = 0; i < 3; i++)
		assert_true(fabs(p[i] + log(df_rng_uniform(42, DF_RNG_MIXTURE, 0, i)) / sum) < 1e-15);
}

static void
test_unknown(void **state)
{
	const struct df_mixer *m;
	struct df_err err;

	(void)state;
	assert_int_equal(df_mixer_find(&m, "sttic", &err), DF_EUSAGE);
	assert_non_null(strstr(err.msg, "did you mean 'static'?"));
}

/* ---- the drawer ----------------------------------------------------------------------------- */

struct plain {
	double u;
	uint64_t id;
	uint32_t row;
};

static int
by_draw(const void *x, const void *y)
{
	const struct plain *a = x, *b = y;

	if (a->u != b->u)
		return a->u > b->u ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

/* rows [n] in the order of the race of equal weights, as its definition says it. */
static void
plain_race(uint32_t tag, uint32_t substream, const uint64_t *ids, uint32_t *rows, size_t n)
{
	struct plain *r = calloc(n + 1, sizeof(*r));

	assert_non_null(r);
	for (size_t i = 0; i < n; i++) {
		const uint64_t id = ids ? ids[rows[i]] : rows[i];

		r[i] = (struct plain){ df_rng_uniform(42, tag, substream, id), id, rows[i] };
	}
	qsort(r, n, sizeof(*r), by_draw);
	for (size_t i = 0; i < n; i++)
		rows[i] = r[i].row;
	free(r);
}

static void
test_permute(void **state)
{
	enum { N = 100000 };
	static uint64_t ids[N];
	static uint32_t rows[N], order[N], want[N];
	static const uint32_t of_six[] = { 2, 4, 1, 0, 5, 3 }; /* specification 2.6 */
	const struct df_permute six = { 42, DF_RNG_SAMPLE, 0, NULL };

	(void)state;
	assert_int_equal(df_permute(&six, NULL, 6, order, NULL), DF_OK);
	assert_memory_equal(order, of_six, sizeof(of_six));
	for (uint32_t i = 0; i < N; i++)
		ids[i] = (uint64_t)(N - i) * 7 + (i % 3 == 0 ? (uint64_t)1 << 40 : 0);
	for (uint32_t n = 0; n <= N; n = n * 3 + 1) {
		for (int kind = 0; kind < 4; kind++) {
			const struct df_permute p = { 42, DF_RNG_SHUFFLE, 3, kind & 1 ? ids : NULL };

			for (uint32_t i = 0; i < n; i++)
				rows[i] = want[i] = kind & 2 ? N - 1 - i : i;
			plain_race(DF_RNG_SHUFFLE, 3, p.ids, want, n);
			assert_int_equal(df_permute(&p, kind & 2 ? rows : NULL, n, order, NULL), DF_OK);
			assert_memory_equal(order, want, n * sizeof(*order));
		}
	}
}

enum { ROWS = 60, DOMAINS = 3 };

static char *names[] = { "wiki", "c4", "code" };

struct pool {
	uint64_t ids[ROWS];
	uint16_t domain[ROWS];
	uint8_t leave[ROWS];
	struct df_drawer_opts o;
};

/* Rows of three domains in turn: 10, 20 and 30, of which each tenth is held out. */
static void
fill(struct pool *p)
{
	memset(p, 0, sizeof(*p));
	for (size_t i = 0; i < ROWS; i++) {
		p->ids[i] = 1000 + (i * 37) % ROWS;
		p->domain[i] = (uint16_t)(i % 6 == 0 ? 0 : i % 6 < 3 ? 1 : 2);
	}
	p->o = (struct df_drawer_opts){ .n_rows = ROWS,
		.ids = p->ids,
		.domain = p->domain,
		.names = names,
		.n_domains = DOMAINS,
		.seed = 42,
		.shuffle = true };
}

static struct df_drawer *
drawer(const struct df_drawer_opts *o)
{
	struct df_drawer *d;
	struct df_err err;

	if (df_drawer_new(&d, o, &err) != DF_OK)
		fail_msg("%s", err.msg);
	return d;
}

/* A window by the definition: quotas, permutations of each epoch, the shuffle. */
static void
plain_window(const struct pool *p, const double *share, uint64_t step, size_t n, uint64_t *cursor, uint64_t *out)
{
	uint64_t quota[DOMAINS], rows[4 * ROWS];
	uint32_t own[ROWS], place[4 * ROWS];
	size_t n_out = 0;

	df_mix_quotas(share, DOMAINS, n, false, quota);
	for (uint32_t d = 0; d < DOMAINS; d++) {
		for (uint64_t i = 0; i < quota[d]; i++, cursor[d]++) {
			size_t n_own = 0;

			for (uint32_t r = 0; r < ROWS; r++)
				if (p->domain[r] == d && !p->leave[r])
					own[n_own++] = r;
			plain_race(
			    DF_RNG_MIXTURE_ROWS, 1000003 * d + (uint32_t)(cursor[d] / n_own), p->ids, own, n_own);
			rows[n_out++] = own[cursor[d] % n_own];
		}
	}
	for (uint32_t i = 0; i < n; i++)
		place[i] = i;
	plain_race(DF_RNG_SHUFFLE, (uint32_t)step, NULL, place, n);
	for (size_t i = 0; i < n; i++)
		out[i] = rows[place[i]];
}

static void
test_windows(void **state)
{
	static const double share[][DOMAINS] = { { .5, .5, 0 }, { .2, .3, .5 }, { .9, .05, .05 }, { 0, 0, 1 } };
	static struct pool p;
	uint64_t cursor[DOMAINS] = { 0 }, same[DOMAINS] = { 0 }, got[2 * ROWS], want[2 * ROWS];
	struct df_drawer *d;
	struct df_err err;

	(void)state;
	fill(&p);
	for (size_t i = 0; i < ROWS; i += 9)
		p.leave[i] = 1;
	p.o.leave = p.leave;
	d = drawer(&p.o);
	for (uint64_t w = 0; w < 12; w++) {
		const size_t n = (size_t)(w * 13) % (2 * ROWS);

		assert_int_equal(df_drawer_draw(d, share[w % 4], 10 * w, n, cursor, got, &err), DF_OK);
		plain_window(&p, share[w % 4], 10 * w, n, same, want);
		assert_memory_equal(got, want, n * sizeof(*got));
		assert_memory_equal(cursor, same, sizeof(cursor));
		if (w == 6) { /* a resumed run has nothing but the cursors */
			df_drawer_free(d);
			d = drawer(&p.o);
		}
	}
	df_drawer_free(d);
}

/* No row comes again before all rows of its domain have come; none of those left out does. */
static void
test_exhaustion(void **state)
{
	static const double share[DOMAINS] = { .3, .4, .3 };
	static struct pool p;
	uint64_t cursor[DOMAINS] = { 0 }, rows[ROWS], seen[ROWS] = { 0 };
	struct df_drawer *d;
	struct df_err err;

	(void)state;
	fill(&p);
	p.leave[7] = 1;
	p.o.leave = p.leave;
	d = drawer(&p.o);
	assert_int_equal(df_drawer_rows(d, 0), 10);
	assert_int_equal(df_drawer_rows(d, 1), 19);
	assert_int_equal(df_drawer_rows(d, 2), 30);
	for (uint64_t w = 0; w < 50; w++) {
		assert_int_equal(df_drawer_draw(d, share, w, 17, cursor, rows, &err), DF_OK);
		for (size_t i = 0; i < 17; i++)
			seen[rows[i]]++;
		for (size_t r = 0; r < ROWS; r++) {
			const size_t k = p.domain[r];

			if (r == 7)
				assert_int_equal(seen[r], 0);
			else
				assert_true(seen[r] == cursor[k] / df_drawer_rows(d, k) ||
				    seen[r] == cursor[k] / df_drawer_rows(d, k) + 1);
		}
	}
	assert_int_equal(cursor[0] + cursor[1] + cursor[2], 50 * 17);
	df_drawer_free(d);
}

/* The same samples in another file have the same order; domain after domain without the shuffle. */
static void
test_ids(void **state)
{
	static const double share[DOMAINS] = { .3, .4, .3 };
	static struct pool p, q;
	uint64_t cursor[DOMAINS] = { 0 }, other[DOMAINS] = { 0 }, a[ROWS], b[ROWS];
	struct df_drawer *d, *e;
	struct df_err err;

	(void)state;
	fill(&p);
	fill(&q);
	p.o.shuffle = q.o.shuffle = false;
	for (size_t i = 0; i < ROWS; i++) {
		q.ids[i] = p.ids[ROWS - 1 - i];
		q.domain[i] = p.domain[ROWS - 1 - i];
	}
	d = drawer(&p.o);
	e = drawer(&q.o);
	assert_int_equal(df_drawer_draw(d, share, 0, ROWS, cursor, a, &err), DF_OK);
	assert_int_equal(df_drawer_draw(e, share, 0, ROWS, other, b, &err), DF_OK);
	for (size_t i = 0; i < ROWS; i++) {
		assert_int_equal(p.ids[a[i]], q.ids[b[i]]);
		assert_true(i == 0 || p.domain[a[i - 1]] <= p.domain[a[i]]);
	}
	df_drawer_free(d);
	df_drawer_free(e);
}

/* Independent draws: all rows equally often, and the next window goes on where this one ended. */
static void
test_iid(void **state)
{
	enum { N = 100000 };
	static const double share[1] = { 1 };
	static uint64_t rows[N], parts[N];
	uint64_t cursor[1] = { 0 }, other[1] = { 0 }, seen[20] = { 0 };
	double chi = 0;
	const struct df_drawer_opts o = { .n_rows = 20, .n_domains = 1, .seed = 1, .iid = true };
	struct df_drawer *d = drawer(&o);
	struct df_err err;

	(void)state;
	assert_int_equal(df_drawer_draw(d, share, 0, N, cursor, rows, &err), DF_OK);
	assert_int_equal(df_drawer_draw(d, share, 0, 33, other, parts, &err), DF_OK);
	assert_int_equal(df_drawer_draw(d, share, 0, N - 33, other, parts + 33, &err), DF_OK);
	assert_memory_equal(rows, parts, sizeof(rows));
	for (size_t i = 0; i < N; i++)
		seen[rows[i]]++;
	for (size_t i = 0; i < 20; i++)
		chi += pow((double)seen[i] - N / 20.0, 2) / (N / 20.0);
	assert_true(chi < 43.82); /* 19 degrees of freedom, p = 0.001 */
	df_drawer_free(d);
}

static void
test_empty_domain(void **state)
{
	static const double share[DOMAINS] = { .5, .1, .4 };
	double p[DOMAINS] = { .5, .1, .4 };
	const double spread[DOMAINS] = { 5.0 / 9, 0, 4.0 / 9 };
	static struct pool pool;
	uint64_t cursor[DOMAINS] = { 0 }, rows[ROWS];
	struct df_drawer *d;
	struct df_err err;

	(void)state;
	fill(&pool);
	for (size_t i = 0; i < ROWS; i++)
		pool.leave[i] = pool.domain[i] == 1;
	pool.o.leave = pool.leave;
	d = drawer(&pool.o);
	assert_int_equal(df_drawer_draw(d, share, 0, 20, cursor, rows, &err), DF_EUSAGE);
	assert_string_equal(err.msg, "domain 'c4' has no rows to draw, but its proportion is 0.1");
	assert_true(cursor[0] == 0 && cursor[1] == 0 && cursor[2] == 0);
	assert_true(df_drawer_spread(d, p));
	assert_near(p, spread, DOMAINS, 1e-15);
	assert_false(df_drawer_spread(d, p));
	assert_int_equal(df_drawer_draw(d, p, 0, 20, cursor, rows, &err), DF_OK);
	assert_int_equal(cursor[1], 0);
	df_drawer_free(d);
}

static void
test_impossible(void **state)
{
	static struct pool p;
	struct df_drawer *d;
	struct df_err err;

	(void)state;
	fill(&p);
	p.domain[17] = 3;
	assert_int_equal(df_drawer_new(&d, &p.o, &err), DF_EFORMAT);
	assert_string_equal(err.msg, "row 17: domain 3 of 3");
	p.o.n_rows = (uint64_t)1 << 33;
	assert_int_equal(df_drawer_new(&d, &p.o, &err), DF_ERANGE);
	p.o.n_domains = 0;
	assert_int_equal(df_drawer_new(&d, &p.o, &err), DF_ERANGE);
	assert_null(d);
	df_drawer_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proportions),
		cmocka_unit_test(test_quota_examples),
		cmocka_unit_test(test_static),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_permute),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_exhaustion),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_iid),
		cmocka_unit_test(test_empty_domain),
		cmocka_unit_test(test_impossible),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
