/*
 * test_cluster.c - clusters against examples, other programs' clusters, and plain loops.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "near/cluster.h"
#include "select/select.h"

static struct df_near
open_near(const char *device, int threads)
{
	struct df_near near = { .n_threads = threads };

	assert_int_equal(df_pool_new(&near.pool, threads, NULL), 0);
	assert_int_equal(df_backend_open(&near.be, device, near.pool, NULL), 0);
	return near;
}

static void
close_near(struct df_near *near)
{
	df_backend_close(near->be);
	df_pool_free(near->pool);
}

static struct df_clusters
cluster(const char *device, int threads, const struct df_points *p, const struct df_cluster_opts *o)
{
	struct df_near near = open_near(device, threads);
	struct df_err err = DF_ERR_INIT;
	struct df_clusters c = { 0 };

	if (df_cluster(&near, p, o, &c, &err) != DF_OK)
		fail_msg("%s", err.msg);
	close_near(&near);
	return c;
}

static float *
random_points(struct df_points *p, uint64_t n, size_t d, bool unit)
{
	float *x = NULL;

	assert_int_equal(df_alloc(&x, n * d, sizeof(*x), "points", NULL), 0);
	for (uint64_t i = 0; i < n; i++) {
		double square = 0;

		for (size_t c = 0; c < d; c++) {
			const double v = df_rng_normal(3, DF_RNG_DEMO, 0, i % 11 * d + c) +
			    0.7 * df_rng_normal(3, DF_RNG_DEMO, 1, i * d + c);

			x[i * d + c] = (float)v;
			square += v * v;
		}
		for (size_t c = 0; unit && c < d; c++)
			x[i * d + c] = (float)((double)x[i * d + c] / sqrt(square));
	}
	*p = (struct df_points){ x, n, d };
	return x;
}

/* Every point is where a plain loop puts it. */
static void
check_nearest(const struct df_points *p, const struct df_clusters *c, enum df_metric metric)
{
	double sum = 0;

	for (uint64_t i = 0; i < p->n; i++) {
		double best = 0;
		uint32_t at = 0;

		for (uint32_t k = 0; k < c->k; k++) {
			const double v = df_exact(metric, p->x + i * p->d, c->centre + k * p->d, p->d);

			if (k == 0 || (metric == DF_METRIC_L2 ? v < best : v > best)) {
				best = v;
				at = k;
			}
		}
		assert_int_equal(c->of[i], at);
		assert_true(c->value[i] == best);
		sum += best;
	}
	assert_true(fabs(sum - c->inertia) <= 1e-9 * fabs(sum));
}

static void
test_example(void **state)
{
	const float x[] = { 0, 1, 10, 11 };
	const struct df_points p = { x, 4, 1 };
	const uint64_t order[] = { 0, 1, 2, 3 };
	const uint32_t want[] = { 0, 0, 1, 1 };
	struct df_cluster_opts o = DF_CLUSTER_DEFAULT;
	struct df_clusters c;

	(void)state;
	o.k = 2;
	o.order = order;
	o.max_iter = 2;
	c = cluster("cpu", 1, &p, &o);
	assert_memory_equal(c.of, want, sizeof(want));
	assert_int_equal(c.size[0], 2);
	assert_true(c.centre[0] == 0.5f && c.centre[1] == 10.5f);
	assert_true(c.inertia == 1.0);
	df_clusters_release(&c);
	o.max_iter = 100; /* it ends when nothing moves */
	c = cluster("cpu", 1, &p, &o);
	assert_memory_equal(c.of, want, sizeof(want));
	assert_int_equal(c.n_iter, 2);
	df_clusters_release(&c);
}

/* Points 0 and 1 are equal, so that the second centre is empty: it begins anew at the point farthest from its own. */
static void
test_empty(void **state)
{
	const float x[] = { 0, 0, 1, 10, 12, -3 };
	const struct df_points p = { x, 6, 1 };
	const uint64_t order[] = { 0, 1, 3, 2, 4, 5 };
	struct df_cluster_opts o = DF_CLUSTER_DEFAULT;
	struct df_clusters c;

	(void)state;
	o.k = 3;
	o.order = order;
	o.max_iter = 1;
	/* 0: 0 0 1 -3; 1: none; 2: 10 12.  The farthest is -3: centres -0.5, -3, 11. */
	c = cluster("cpu", 1, &p, &o);
	assert_true(c.centre[0] == -0.5f && c.centre[1] == -3.0f && c.centre[2] == 11.0f);
	assert_int_equal(c.of[5], 1);
	assert_int_equal(c.size[1], 1);
	df_clusters_release(&c);
	/* More clusters than different points: what is empty at the end is not used. */
	o.k = 6;
	o.order = NULL;
	o.max_iter = 20;
	c = cluster("cpu", 1, &p, &o);
	assert_int_equal(c.k, 6);
	assert_int_equal(c.of[0], c.of[1]);
	assert_true(c.inertia == 0.0);
	df_clusters_release(&c);
}

static void
test_nearest(void **state)
{
	struct df_points p;
	struct df_cluster_opts o = DF_CLUSTER_DEFAULT;

	(void)state;
	for (int unit = 0; unit < 2; unit++) {
		float *x = random_points(&p, 1500, 33, unit);

		for (int method = DF_CLUSTER_KMEANS; method <= DF_CLUSTER_FARTHEST; method++) {
			struct df_clusters c;

			o.method = (enum df_cluster_method)method;
			o.k = 40;
			c = cluster("cpu", 2, &p, &o);
			check_nearest(&p, &c, method == DF_CLUSTER_SPHERICAL ? DF_METRIC_DOT : DF_METRIC_L2);
			df_clusters_release(&c);
		}
		free(x);
	}
}

/* Many centres are equally near to the points of a grid: the lowest number counts, on every device. */
static void
test_same_everywhere(void **state)
{
	static const char *const devices[] = { "cpu", "poison", "reference" };
	struct df_cluster_opts o = DF_CLUSTER_DEFAULT;
	struct df_points p, grid;
	float *x = random_points(&p, 700, 20, true), y[500 * 3];

	(void)state;
	for (int i = 0; i < 500; i++) {
		y[3 * i] = (float)(i % 10) * 0.1f;
		y[3 * i + 1] = (float)(i / 10 % 10) * 0.1f;
		y[3 * i + 2] = (float)(i / 100) * 0.1f;
	}
	grid = (struct df_points){ y, 500, 3 };
	o.cluster_size = 16;
	for (int method = 0; method <= DF_CLUSTER_RANDOM; method++) {
		for (int set = 0; set < 2; set++) {
			const struct df_points *q = set ? &grid : &p;
			struct df_clusters want;

			o.method = (enum df_cluster_method)method;
			want = cluster("cpu", 1, q, &o);
			assert_int_equal(want.k, (q->n + 15) / 16);
			for (int d = 0; d < 3; d++) {
				for (int threads = 1; threads <= 3; threads++) {
					struct df_clusters c = cluster(devices[d], threads, q, &o);

					assert_memory_equal(c.of, want.of, q->n * sizeof(*c.of));
					assert_true(c.inertia == want.inertia);
					assert_int_equal(c.n_iter, want.n_iter);
					if (want.centre)
						assert_memory_equal(
						    c.centre, want.centre, want.k * q->d * sizeof(float));
					df_clusters_release(&c);
				}
			}
			df_clusters_release(&want);
		}
	}
	free(x);
}

static void
test_random(void **state)
{
	struct df_cluster_opts o = { .method = DF_CLUSTER_RANDOM, .k = 7, .seed = 42 };
	struct df_points p;
	float *x = random_points(&p, 100, 2, false);
	struct df_clusters a = cluster("cpu", 1, &p, &o), b;

	(void)state;
	for (int k = 0; k < 7; k++)
		assert_int_equal(a.size[k], k < 100 % 7 ? 15 : 14);
	assert_null(a.centre);
	o.step = 1;
	b = cluster("cpu", 1, &p, &o);
	assert_memory_not_equal(a.of, b.of, 100 * sizeof(*a.of));
	df_clusters_release(&a);
	df_clusters_release(&b);
	free(x);
}

/* Opposite points have opposite signs; equal ones the same; ids are those of the sorted signatures, modulo k. */
static void
test_lsh(void **state)
{
	struct df_cluster_opts o = { .method = DF_CLUSTER_LSH, .k = 5, .lsh_bits = 12, .seed = 1 };
	struct df_points p;
	float *x = random_points(&p, 200, 9, true);
	uint32_t signature[200];
	struct df_clusters c;

	(void)state;
	for (int i = 0; i < 9; i++) {
		x[9 + i] = -x[i];
		x[18 + i] = 3 * x[i];
	}
	for (int i = 0; i < 200; i++) {
		signature[i] = 0;
		for (int b = 0; b < 12; b++) {
			float plane[9];

			for (int d = 0; d < 9; d++)
				plane[d] = (float)df_rng_normal(1, DF_RNG_CLUSTER, 0, (uint64_t)(b * 9 + d));
			signature[i] |= (uint32_t)(df_exact(DF_METRIC_DOT, x + i * 9, plane, 9) >= 0) << b;
		}
	}
	assert_int_equal(signature[0] ^ signature[1], 4095);
	c = cluster("cpu", 2, &p, &o);
	for (int i = 0; i < 200; i++) {
		uint32_t below = 0;

		for (uint32_t s = 0; s < signature[i]; s++) {
			bool there = false;

			for (int j = 0; j < 200; j++)
				there |= signature[j] == s;
			below += there;
		}
		assert_int_equal(c.of[i], below % 5);
	}
	assert_int_equal(c.of[2], c.of[0]);
	df_clusters_release(&c);
	o.lsh_bits = 0; /* 3: 5 clusters need as many */
	c = cluster("cpu", 2, &p, &o);
	for (int i = 0; i < 200; i++)
		assert_in_range(c.of[i], 0, 4);
	df_clusters_release(&c);
	free(x);
}

static void
test_hostile(void **state)
{
	struct df_cluster_opts o = DF_CLUSTER_DEFAULT;
	struct df_near near = open_near("cpu", 2);
	struct df_err err = DF_ERR_INIT;
	struct df_points p;
	float *x = random_points(&p, 300, 10, false);
	struct df_clusters c = { 0 };

	(void)state;
	for (int i = 0; i < 300; i += 7)
		x[i * 10 + i % 10] = i % 2 ? NAN : INFINITY;
	for (int i = 0; i < 10; i++) {
		x[10 + i] = FLT_MAX; /* its products overflow */
		x[20 + i] = -FLT_MAX;
		x[30 + i] = 1e-42f;
		x[40 + i] = 0;
	}
	o.k = 12;
	for (int method = 0; method <= DF_CLUSTER_RANDOM; method++) {
		o.method = (enum df_cluster_method)method;
		c = cluster("cpu", 2, &p, &o);
		assert_int_equal(c.n_invalid, 43);
		for (int i = 0; i < 300; i++) {
			if (i % 7 == 0)
				assert_int_equal(c.of[i], DF_CLUSTER_NONE);
			else
				assert_in_range(c.of[i], 0, 11);
			if (c.value)
				assert_true(isfinite(c.value[i]) == (i % 7 != 0));
		}
		df_clusters_release(&c);
		p.n = 1; /* the first is not finite */
		assert_int_equal(df_cluster(&near, &p, &o, &c, &err), DF_EUSAGE);
		assert_non_null(strstr(err.msg, "no points to cluster"));
		df_clusters_release(&c);
		p.n = 0;
		assert_int_equal(df_cluster(&near, &p, &o, &c, &err), DF_EUSAGE);
		df_clusters_release(&c);
		p.n = 300;
	}
	free(x);
	close_near(&near);
}

/* ---- other programs ------------------------------------------------------------------------------- */

/* The formula of tests/golden/cluster.py. */
static float *
golden_points(struct df_points *p, uint64_t n, size_t d)
{
	float *x = NULL;

	assert_int_equal(df_alloc(&x, n * d, sizeof(*x), "points", NULL), 0);
	for (uint64_t i = 0; i < n; i++) {
		for (size_t c = 0; c < d; c++) {
			const double noise = (double)((i * d + c) * 2654435761u % 4294967296u / 65536) / 65536 - 0.5;
			const double centre = (double)((i % 23 * d + c) * 40503 % 65536) / 16384;

			x[i * d + c] = (float)(centre + noise);
		}
	}
	*p = (struct df_points){ x, n, d };
	return x;
}

static char *
next_number(char *s, double *x)
{
	char *end;

	*x = strtod(s, &end);
	assert_ptr_not_equal(end, s);
	return end;
}

static char *
golden_ids(char *s, enum df_cluster_method method)
{
	struct df_cluster_opts o = { .method = method };
	double n, d, k, max_iter, seed, id;
	struct df_clusters c;
	struct df_points p;
	uint64_t *order = NULL;
	float *x = NULL;

	s = next_number(next_number(next_number(next_number(next_number(s, &n), &d), &k), &max_iter), &seed);
	assert_int_equal(df_alloc(&x, (size_t)(n * d), sizeof(*x), "points", NULL), 0);
	assert_int_equal(df_alloc(&order, (size_t)n, sizeof(*order), "order", NULL), 0);
	for (size_t i = 0; i < (size_t)(n * d); i++) {
		s = next_number(s, &id);
		x[i] = (float)id;
	}
	assert_int_equal(df_sample_torch_perm((uint64_t)n, (uint64_t)n, (uint64_t)seed, order, NULL), 0);
	p = (struct df_points){ x, (uint64_t)n, (size_t)d };
	o.k = (uint64_t)k;
	o.max_iter = (unsigned)max_iter;
	o.order = order;
	c = cluster("cpu", 1, &p, &o);
	for (size_t i = 0; i < (size_t)n; i++) {
		s = next_number(s, &id);
		assert_int_equal(c.of[i], (int)id);
	}
	df_clusters_release(&c);
	free(order);
	free(x);
	return s;
}

static char *
golden_inertia(char *s)
{
	struct df_cluster_opts o = { .method = DF_CLUSTER_KMEANS };
	double n, d, k, max_iter, inertia;
	uint64_t *order = NULL;
	struct df_clusters c;
	struct df_points p;
	float *x;

	s = next_number(next_number(next_number(next_number(next_number(s, &n), &d), &k), &max_iter), &inertia);
	x = golden_points(&p, (uint64_t)n, (size_t)d);
	assert_int_equal(df_alloc(&order, p.n, sizeof(*order), "order", NULL), 0);
	for (uint64_t i = 0; i < p.n; i++)
		order[i] = i;
	o.k = (uint64_t)k;
	o.max_iter = (unsigned)max_iter;
	o.order = order;
	c = cluster("cpu", 1, &p, &o);
	if (fabs(c.inertia - inertia) > 0.01 * inertia)
		fail_msg("inertia %g, scikit-learn's is %g", c.inertia, inertia);
	df_clusters_release(&c);
	free(order);
	free(x);
	return s;
}

static void
test_golden(void **state)
{
	static const char *const methods[] = { DF_CLUSTER_METHODS };
	const char *root = getenv("DF_SRCDIR");
	char *path = NULL, *text = NULL;
	int n_ids = 0, n_inertias = 0;
	size_t n;

	(void)state;
	assert_int_equal(df_path_join(&path, root ? root : ".", "tests/golden/cluster.txt", NULL), 0);
	assert_int_equal(df_file_get(path, 1 << 20, &text, &n, NULL), 0);
	for (char *s = text; *s; s += strspn(s, "\n")) {
		char word[32];
		int used = 0;

		assert_int_equal(sscanf(s, "%31s%n", word, &used), 1);
		s += used;
		if (strcmp(word, "inertia") == 0) {
			s = golden_inertia(s);
			n_inertias++;
			continue;
		}
		assert_string_equal(word, "ids");
		assert_int_equal(sscanf(s, "%31s%n", word, &used), 1);
		for (int m = 0; m <= DF_CLUSTER_RANDOM; m++) {
			if (strcmp(word, methods[m]) == 0) {
				s = golden_ids(s + used, (enum df_cluster_method)m);
				n_ids++;
				break;
			}
		}
	}
	assert_int_equal(n_ids, 4);
	assert_int_equal(n_inertias, 5);
	free(text);
	free(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_example), cmocka_unit_test(test_empty),
		cmocka_unit_test(test_nearest), cmocka_unit_test(test_same_everywhere), cmocka_unit_test(test_random),
		cmocka_unit_test(test_lsh), cmocka_unit_test(test_hostile), cmocka_unit_test(test_golden) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
