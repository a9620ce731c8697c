/*
 * test_near_pairs.c - all pairs within a limit, against two plain loops.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "near/int8.h"
#include "near/pairs.h"
#include "near/propose.h"

/* A hash of everything that was delivered, and counts of it. */
struct heard {
	const struct df_points *p;
	enum df_metric metric;
	double limit;
	bool check;
	uint64_t next, n_pairs, hash, stop_after;
	int fail;
};

static bool
within(const struct heard *h, double v)
{
	return h->metric == DF_METRIC_L2 ? v <= h->limit : v >= h->limit;
}

/* Each call against a plain loop: ids, order, exact values. */
static int
hear(void *ctx, uint64_t i, const uint64_t *j, const double *value, uint64_t n, bool *stop, struct df_err *err)
{
	struct heard *h = ctx;
	const struct df_points *p = h->p;
	uint64_t at = 0;

	assert_int_equal(i, h->next++);
	for (uint64_t k = 0; h->check && k < i; k++) {
		const double v = df_exact(h->metric, p->x + i * p->d, p->x + k * p->d, p->d);

		if (!df_all_finite(p->x + i * p->d, p->d) || !df_all_finite(p->x + k * p->d, p->d) || !within(h, v))
			continue;
		assert_true(at < n);
		assert_int_equal(j[at], k);
		assert_true(value[at] == v);
		at++;
	}
	if (h->check)
		assert_int_equal(at, n);
	for (uint64_t k = 0; k < n; k++) {
		uint64_t bits;

		memcpy(&bits, &value[k], sizeof(bits));
		h->hash = (h->hash * 0x9e3779b97f4a7c15U ^ j[k]) * 0x9e3779b97f4a7c15U ^ bits;
	}
	h->n_pairs += n;
	*stop = h->stop_after && h->next == h->stop_after;
	return h->fail && h->next == 3 ? df_fail(err, DF_EUSAGE, "as asked") : DF_OK;
}

/* Clustered points: near ones exist at every distance; some are equal; with `hostile`, some are not finite or zero. */
static float *
make_points(struct df_points *p, uint64_t n, size_t d, double spread, bool unit, bool hostile)
{
	float *x = NULL;

	assert_int_equal(df_alloc(&x, n * d + 1, sizeof(*x), "points", NULL), 0);
	for (uint64_t i = 0; i < n; i++) {
		double square = 0;

		for (size_t c = 0; c < d; c++) {
			const double v = df_rng_normal(7, DF_RNG_DEMO, 0, i % 13 * d + c) +
			    spread * (double)(i % 5) * df_rng_normal(7, DF_RNG_DEMO, 1, i / 2 * d + c);

			x[i * d + c] = (float)v;
			square += v * v;
		}
		for (size_t c = 0; unit && c < d; c++)
			x[i * d + c] = (float)((double)x[i * d + c] / sqrt(square));
	}
	for (uint64_t i = 0; hostile && i < n; i += 17)
		memset(x + i * d, 0, d * sizeof(*x));
	for (uint64_t i = 3; hostile && i < n; i += 19)
		x[i * d + i % d] = i % 2 ? NAN : -INFINITY;
	*p = (struct df_points){ x, n, d };
	return x;
}

static struct heard
walk(const char *device, int threads, const struct df_points *p, enum df_metric metric, double limit, bool check)
{
	struct heard h = { .p = p, .metric = metric, .limit = limit, .check = check };
	struct df_near near = { .n_threads = threads };
	struct df_err err = DF_ERR_INIT;

	assert_int_equal(df_pool_new(&near.pool, threads, &err), 0);
	assert_int_equal(df_backend_open(&near.be, device, near.pool, &err), 0);
	assert_int_equal(df_near_pairs(&near, metric, p, limit, hear, &h, &err), 0);
	assert_int_equal(h.next, p->n);
	df_backend_close(near.be);
	df_pool_free(near.pool);
	return h;
}

/* A limit that about `share` of the pairs of valid points keep, and which one of them has exactly. */
static double
limit_for(const struct df_points *p, enum df_metric metric, double share)
{
	const uint64_t a = (uint64_t)(share * (double)p->n) % p->n, b = p->n / 2;

	return df_exact(metric, p->x + (a == b ? a + 1 : a) * p->d, p->x + b * p->d, p->d);
}

static void
test_plain(void **state)
{
	static const size_t widths[] = { 1, 100, 300 };

	(void)state;
	for (size_t w = 0; w < 3; w++) {
		for (int form = 0; form < 4; form++) {
			struct df_points p;
			float *x = make_points(&p, 201, widths[w], form & 1 ? 0.01 : 0.3, form & 2, form == 1);
			double limits[] = { 0, 0, 0, 1, INFINITY, -1, 0.02 };

			for (int i = 0; i < 3; i++)
				limits[i] = limit_for(&p, DF_METRIC_L2, 0.1 + 0.3 * i);
			for (int i = 0; i < 7; i++)
				if (!isnan(limits[i]))
					walk("cpu", 2, &p, DF_METRIC_L2, limits[i], true);
			limits[4] = -INFINITY;
			limits[6] = 0.98;
			for (int i = 0; i < 3; i++)
				limits[i] = limit_for(&p, DF_METRIC_DOT, 0.1 + 0.3 * i);
			for (int i = 0; i < 7; i++)
				if (!isnan(limits[i]))
					walk("cpu", 2, &p, DF_METRIC_DOT, limits[i], true);
			free(x);
		}
	}
}

/* The limit itself is within; the number after it is not. */
static void
test_limit(void **state)
{
	struct df_points p;
	float *x = make_points(&p, 300, 40, 0.2, true, false);

	(void)state;
	for (uint64_t a = 0; a < 20; a++) {
		const double l2 = df_exact(DF_METRIC_L2, x + a * 40, x + (a + 100) * 40, 40),
			     dot = df_exact(DF_METRIC_DOT, x + a * 40, x + (a + 100) * 40, 40);

		assert_true(walk("cpu", 1, &p, DF_METRIC_L2, l2, true).n_pairs >
		    walk("cpu", 1, &p, DF_METRIC_L2, nextafter(l2, -INFINITY), true).n_pairs);
		assert_true(walk("cpu", 1, &p, DF_METRIC_DOT, dot, true).n_pairs >
		    walk("cpu", 1, &p, DF_METRIC_DOT, nextafter(dot, INFINITY), true).n_pairs);
	}
	free(x);
}

static void
test_same_everywhere(void **state)
{
	static const char *const devices[] = { "cpu", "poison", "reference" };
	struct df_points p;
	float *x = make_points(&p, 1100, 24, 0.05, true, true);

	(void)state;
	for (int metric = 0; metric < 2; metric++) {
		const double limit = metric == DF_METRIC_L2 ? 0.5 : 0.9;
		const struct heard want = walk("cpu", 1, &p, (enum df_metric)metric, limit, true);

		assert_true(want.n_pairs > 1000);
		for (int d = 0; d < 3; d++) {
			for (int threads = 1; threads <= 3; threads++) {
				const struct heard h =
				    walk(devices[d], threads, &p, (enum df_metric)metric, limit, false);

				assert_int_equal(h.n_pairs, want.n_pairs);
				assert_true(h.hash == want.hash);
			}
		}
	}
	free(x);
}

/* Every kernel of the screen that this machine has, products of floats, and all pairs: none misses or adds a pair. */
static void
check_ways(const struct df_points *p, enum df_metric metric, double limit)
{
	for (size_t k = 0; df_int8_kernels[k]; k++) {
		if (!df_int8_kernels[k]->usable())
			continue;
		df_propose_force(DF_PROPOSE_SCREEN, df_int8_kernels[k]->name);
		walk("cpu", 1 + (int)(k % 3), p, metric, limit, true);
	}
	df_propose_force(DF_PROPOSE_PRODUCTS, NULL);
	walk("cpu", 2, p, metric, limit, true);
	walk("poison", 1, p, metric, limit, true);
	df_propose_force(DF_PROPOSE_ALL, NULL);
	walk("cpu", 2, p, metric, limit, true);
	df_propose_force(DF_PROPOSE_CHOOSE, NULL);
}

static void
test_ways(void **state)
{
	static const size_t widths[] = { 1, 65, 130, 200 };
	static const double scales[] = { 1, 1e-30, 1e15, 1e18 };

	(void)state;
	for (size_t w = 0; w < 4; w++) {
		for (int form = 0; form < 4; form++) {
			struct df_points p;
			const size_t d = widths[w];
			float *x = make_points(&p, 70 + 31 * w, d, form & 1 ? 0.01 : 0.3, form & 2, form == 1);

			/* Rows of very different norms, and one large number in a row. */
			for (uint64_t i = 0; form == 0 && i < p.n * d; i++)
				x[i] *= (float)(scales[w % 4] * ldexp(1, (int)(i / d % 7)));
			for (uint64_t i = 0; form == 3 && i < p.n; i += 5)
				x[i * d + i % d] = 50;
			for (int i = 0; i < 2; i++) {
				const double l2 = limit_for(&p, DF_METRIC_L2, 0.1 + 0.3 * i),
					     dot = limit_for(&p, DF_METRIC_DOT, 0.1 + 0.3 * i);

				if (isnan(l2))
					continue;
				check_ways(&p, DF_METRIC_L2, l2);
				check_ways(&p, DF_METRIC_L2, nextafter(l2, -INFINITY));
				check_ways(&p, DF_METRIC_DOT, dot);
				check_ways(&p, DF_METRIC_DOT, nextafter(dot, INFINITY));
				check_ways(&p, DF_METRIC_DOT, -dot);
			}
			check_ways(&p, DF_METRIC_L2, 0);
			check_ways(&p, DF_METRIC_DOT, 0);
			free(x);
		}
	}
}

/* All kernels give the sums of the plain one, also where pairs of products are as large as they can be. */
static void
test_kernels(void **state)
{
	enum { N = DF_INT8_BLOCK, K = 3 * DF_INT8_STEP };
	int8_t a[N * K];
	uint8_t b[N * K];
	int32_t want[N * N], got[N * N];

	(void)state;
	for (size_t k = 0; df_int8_kernels[k]; k++) {
		const struct df_int8 *kernel = df_int8_kernels[k];
		size_t plain = 0;

		while (df_int8_kernels[plain + 1])
			plain++;
		if (!kernel->usable())
			continue;
		for (int round = 0; round < 4; round++) {
			for (uint64_t i = 0; i < N * K; i++) {
				const double u = df_rng_uniform(3, DF_RNG_DEMO, 2, i),
					     v = df_rng_uniform(3, DF_RNG_DEMO, 3, i);

				a[i] = (int8_t)(round == 0 ? (int)(u * (2 * kernel->most + 1)) - kernel->most
					: round == 1       ? kernel->most
							   : -kernel->most);
				b[i] = round == 0 ? (uint8_t)(v * 256) : round == 3 ? 1 : 255;
			}
			df_int8_kernels[plain]->multiply(a, K, b, DF_INT8_STEP, false, want);
			df_int8_kernels[plain]->multiply(
			    a + DF_INT8_STEP, K, b + DF_INT8_STEP * N, 2 * DF_INT8_STEP, true, want);
			if (kernel->begin)
				kernel->begin();
			kernel->multiply(a, K, b, DF_INT8_STEP, false, got);
			kernel->multiply(a + DF_INT8_STEP, K, b + DF_INT8_STEP * N, 2 * DF_INT8_STEP, true, got);
			if (kernel->end)
				kernel->end();
			assert_memory_equal(got, want, sizeof(want));
		}
		print_message("%s\n", kernel->name);
	}
}

static void
test_edges(void **state)
{
	const float big[] = { FLT_MAX, FLT_MAX, -FLT_MAX, FLT_MAX, FLT_MAX, FLT_MAX, 1e-40f, 0, 0, 1e-40f, 1e-30f,
		1e-30f };
	struct df_points p = { big, 6, 2 };
	struct df_near near = { 0 };
	struct df_err err = DF_ERR_INIT;
	struct heard h = { .p = &p, .metric = DF_METRIC_DOT, .limit = 0 };
	float *x;

	(void)state;
	for (int i = 0; i < 6; i++) {
		const double limits[] = { 0, 1e-79, 1e-45, 1, 1e77, INFINITY };

		walk("cpu", 1, &p, DF_METRIC_DOT, limits[i], true);
		walk("cpu", 1, &p, DF_METRIC_L2, limits[i], true);
	}
	p.n = 0;
	walk("cpu", 1, &p, DF_METRIC_DOT, 0, true);
	p = (struct df_points){ big, 4, 0 };
	walk("cpu", 1, &p, DF_METRIC_L2, 0, true); /* no dimensions: all are equal */
	p = (struct df_points){ big, 1, 2 };
	walk("cpu", 1, &p, DF_METRIC_L2, 1, true);

	/* More dimensions than products of 8-bit integers may have. */
	x = make_points(&p, 150, DF_INT8_WIDEST + 1, 0.1, true, false);
	assert_true(walk("cpu", 2, &p, DF_METRIC_DOT, 0.9, true).n_pairs > 50);
	free(x);
	x = make_points(&p, 150, DF_INT8_WIDEST, 0.1, true, false);
	assert_true(walk("cpu", 2, &p, DF_METRIC_DOT, 0.9, true).n_pairs > 50);
	free(x);

	assert_int_equal(df_backend_open(&near.be, "cpu", NULL, &err), 0);
	assert_int_equal(df_near_pairs(&near, DF_METRIC_L2, &p, NAN, hear, &h, &err), DF_EUSAGE);
	p = (struct df_points){ big, 6, 2 };
	h = (struct heard){ .p = &p, .stop_after = 4 };
	assert_int_equal(df_near_pairs(&near, DF_METRIC_L2, &p, INFINITY, hear, &h, &err), 0);
	assert_int_equal(h.next, 4);
	h = (struct heard){ .p = &p, .fail = 1 };
	assert_int_equal(df_near_pairs(&near, DF_METRIC_L2, &p, INFINITY, hear, &h, &err), DF_EUSAGE);
	assert_string_equal(err.msg, "as asked");
	df_backend_close(near.be);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_plain), cmocka_unit_test(test_limit),
		cmocka_unit_test(test_same_everywhere), cmocka_unit_test(test_kernels), cmocka_unit_test(test_ways),
		cmocka_unit_test(test_edges) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
