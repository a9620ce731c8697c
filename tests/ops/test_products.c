/*
 * test_products.c - products of each pair of types: against sums in f64, and to the bit where an element may depend on
 * its row and its column alone: in windows that lie anyhow, by few rows, by a few columns, by sample, by expert.  In
 * float32 the bits are the CPU's.
 *
 * cases.c has the same operations in windows at odd places; here they also lie so that 16 bytes can be moved at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/gemm.h"
#include "base/half.h"
#include "cases.h"

enum { ODD = 3 }; /* an odd place: rows and columns before a window, and columns behind it */

static struct df_backend *be, *cpu;

/* ---- matrices ---------------------------------------------------------------------------------------------------- */

/* Rounded to `type`, in place. */
static void
round_to(float *v, size_t n, enum df_dtype type)
{
	for (size_t i = 0; i < n; i++)
		if (type == DF_BF16)
			v[i] = df_f32_from_bf16(df_bf16_from_f32(v[i]));
		else if (type == DF_F16)
			v[i] = df_f32_from_f16(df_f16_from_f32(v[i]));
}

/* rows x cols numbers that `type` has. */
static float *
numbers(uint32_t stream, size_t rows, size_t cols, enum df_dtype type)
{
	float *v = test_numbers(stream, rows * cols, 1);

	round_to(v, rows * cols, type);
	return v;
}

/* A window of this type with the numbers v, or whatever is there: dense, or at an odd place. */
static struct df_tensor
matrix(struct df_backend *on, enum df_dtype type, size_t rows, size_t cols, const float *v, bool odd)
{
	const size_t pad = odd ? ODD : 0;
	struct df_tensor wide, all, t;
	float *host = calloc((rows + pad) * (cols + 2 * pad) + 1, sizeof(*host));

	assert_non_null(host);
	for (size_t i = 0; i < rows && v; i++)
		memcpy(host + (i + pad) * (cols + 2 * pad) + pad, v + i * cols, cols * sizeof(*v));
	wide = test_tensor(on, rows + pad, cols + 2 * pad, host);
	assert_int_equal(df_tensor_alloc(on, &all, type, rows + pad, cols + 2 * pad, "test", NULL), DF_OK);
	assert_int_equal(df_copy(on, all, wide, NULL), DF_OK);
	df_tensor_free(on, &wide);
	free(host);
	t = df_tensor_cols(df_tensor_rows(all, pad, rows), pad, cols);
	return t;
}

static void
same_bits(const float *a, const float *b, size_t n, size_t cols, const char *what)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(&a[i], &b[i], sizeof(*a)) != 0)
			fail_msg("%s: element %zu,%zu is %.9g and %.9g", what, i / cols, i % cols, (double)a[i],
			    (double)b[i]);
}

/* ---- one product ------------------------------------------------------------------------------------------------- */

struct shape {
	size_t m, n, k;
};
struct types {
	enum df_dtype a, b, c;
};
struct test {
	struct shape s;
	struct types t;
	bool ta, tb;
	float beta, *a, *b, *c; /* host; b has the numbers of its type */
	char name[96];
};

static const float alpha = 0.75f;

/* Rows [r0, +m) and columns [c0, +n) of the product, b in this type. */
static float *
multiply(struct df_backend *on, const struct test *x, enum df_dtype b_type, bool odd, const size_t range[4])
{
	const size_t r0 = range[0], m = range[1], c0 = range[2], n = range[3];
	struct df_tensor a = matrix(on, x->t.a, x->ta ? x->s.k : x->s.m, x->ta ? x->s.m : x->s.k, x->a, odd);
	struct df_tensor b = matrix(on, b_type, x->tb ? x->s.n : x->s.k, x->tb ? x->s.k : x->s.n, x->b, odd);
	struct df_tensor c = matrix(on, x->t.c, x->s.m, x->s.n, x->c, odd);
	struct df_gemm g = { .ta = x->ta, .tb = x->tb, .alpha = alpha, .beta = x->beta };
	struct df_err err = DF_ERR_INIT;
	float *v;

	g.a = x->ta ? df_tensor_cols(a, r0, m) : df_tensor_rows(a, r0, m);
	g.b = x->tb ? df_tensor_rows(b, c0, n) : df_tensor_cols(b, c0, n);
	g.c = df_tensor_cols(df_tensor_rows(c, r0, m), c0, n);
	if (df_gemm(on, &g, &err) != DF_OK)
		fail_msg("%s: %s", x->name, err.msg);
	v = test_values(on, g.c);
	df_tensor_free(on, &a);
	df_tensor_free(on, &b);
	df_tensor_free(on, &c);
	return v;
}

/* Each element is a sum of k products, each term of which is at most 1: f32 rounds after each, and bf16 at the end. */
static void
near_f64(const struct test *x, const float *v)
{
	for (size_t i = 0; i < x->s.m; i++)
		for (size_t j = 0; j < x->s.n; j++) {
			double sum = 0, size = 0, want, tol;
			const float got = v[i * x->s.n + j];

			for (size_t k = 0; k < x->s.k; k++) {
				const double p = (double)x->a[x->ta ? k * x->s.m + i : i * x->s.k + k] *
				    (double)x->b[x->tb ? j * x->s.k + k : k * x->s.n + j];

				sum += p;
				size += fabs(p);
			}
			want = (double)alpha * sum + (double)x->beta * (double)x->c[i * x->s.n + j];
			tol = 2e-7 * (1 + size) + (x->t.c == DF_BF16 ? 0x1.01p-8 * fabs(want) : 0);
			if (!(fabs((double)got - want) <= tol))
				fail_msg("%s: element %zu,%zu is %.9g, not %.9g", x->name, i, j, (double)got, want);
		}
}

static void
same_part(const struct test *x, const float *whole, const size_t range[4], const char *what)
{
	float *v = multiply(be, x, x->t.b, false, range), *part = calloc(range[1] * range[3] + 1, sizeof(*part));
	char name[128];

	assert_non_null(part);
	for (size_t i = 0; i < range[1]; i++)
		memcpy(part + i * range[3], whole + (range[0] + i) * x->s.n + range[2], range[3] * sizeof(*part));
	snprintf(name, sizeof(name), "%s, %s", x->name, what);
	same_bits(v, part, range[1] * range[3], range[3], name);
	free(v);
	free(part);
}

static void
one_product(struct shape s, struct types t, bool ta, bool tb)
{
	const size_t all[4] = { 0, s.m, 0, s.n };
	struct test x = { .s = s, .t = t, .ta = ta, .tb = tb, .beta = t.c == DF_F32 ? 0.5f : 0 };
	float *v, *other;

	snprintf(x.name, sizeof(x.name), "%s x %s -> %s, %zu x %zu x %zu%s%s", df_dtype_name(t.a), df_dtype_name(t.b),
	    df_dtype_name(t.c), s.m, s.n, s.k, ta ? ", a^T" : "", tb ? ", b^T" : "");
	x.a = numbers(1, s.m, s.k, t.a);
	x.b = numbers(2, s.n, s.k, t.b);
	x.c = numbers(3, s.m, s.n, t.c);
	v = multiply(be, &x, t.b, false, all);
	near_f64(&x, v);
	if (df_backend_is_exact(be)) {
		other = multiply(be, &x, t.b, true, all);
		same_bits(v, other, s.m * s.n, s.n, x.name);
		free(other);
		if (t.b != DF_F32) {
			other = multiply(be, &x, DF_F32, false, all);
			same_bits(v, other, s.m * s.n, s.n, x.name);
			free(other);
		}
		same_part(&x, v, (const size_t[4]){ 0, 1, 0, s.n }, "the first row");
		if (s.m > 8)
			same_part(&x, v, (const size_t[4]){ s.m - 7, 7, 0, s.n }, "the last rows");
		if (s.n > 8)
			same_part(&x, v, (const size_t[4]){ 0, s.m, 8, s.n - 8 }, "without the first columns");
	}
	/* without vectors the CPU rounds each product, too */
	if (t.a == DF_F32 && df_backend_is_exact(be) && df_cpu_gemm_is_fast()) {
		other = multiply(cpu, &x, t.b, false, all);
		same_bits(v, other, s.m * s.n, s.n, "the CPU's");
		free(other);
	}
	free(v);
	free(x.a);
	free(x.b);
	free(x.c);
}

static void
of_all_types(struct shape s)
{
	static const struct types types[] = { { DF_F32, DF_F32, DF_F32 }, { DF_F32, DF_BF16, DF_F32 },
		{ DF_F32, DF_F16, DF_F32 }, { DF_BF16, DF_BF16, DF_BF16 }, { DF_BF16, DF_BF16, DF_F32 },
		{ DF_BF16, DF_F32, DF_BF16 }, { DF_BF16, DF_F16, DF_F32 } };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if ((types[i].a == DF_BF16 || types[i].c == DF_BF16) && !df_backend_takes_bf16(be))
			continue;
		for (int t = 0; t < 4; t++)
			one_product(s, types[i], t & 1, t & 2);
	}
}

static void
small(void **state)
{
	(void)state;
	of_all_types((struct shape){ 1, 8, 8 });
	of_all_types((struct shape){ 5, 16, 40 });
	of_all_types((struct shape){ 8, 3, 1 });
}

static void
more_than_a_tile(void **state)
{
	(void)state;
	of_all_types((struct shape){ 72, 80, 136 });
	of_all_types((struct shape){ 33, 67, 65 });
}

static void
many_steps(void **state)
{
	(void)state;
	of_all_types((struct shape){ 8, 16, 2100 });
}

/*
 * Shapes for which a device of a few processors chooses tiles of other sizes; and sums of several runs in such tiles.
 */
static void
large(void **state)
{
	static const struct shape shapes[] = { { 251, 512, 40 }, { 256, 248, 40 }, { 120, 251, 72 }, { 31, 504, 40 },
		{ 128, 128, 1060 } };

	(void)state;
	if (!df_backend_takes_bf16(be))
		skip();
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		for (int t = 0; t < 3; t++)
			one_product(shapes[i],
			    (struct types){ DF_BF16, DF_BF16, (size_t)t == i % 3 ? DF_BF16 : DF_F32 }, t & 1, t & 2);
}

/* Numbers that f32 has and bf16 has not keep all of their bits, and the largest and what is not finite stay. */
static void
parts_of_numbers(void **state)
{
	enum { N = 8, K = 16 };
	static const float hard[N] = { 16777215, 0x1.fffffep127f, -0x1.fffffep127f, 0x1.fffffep-100f, 1 + 0x1p-23f,
		INFINITY, -INFINITY, NAN };
	struct df_tensor a, b, c;
	float one[K] = { 1 }, w[N * K] = { 0 }, *v;

	(void)state;
	if (!df_backend_takes_bf16(be))
		skip();
	for (size_t i = 0; i < N; i++)
		w[i * K] = hard[i];
	a = matrix(be, DF_BF16, 1, K, one, false);
	b = test_tensor(be, N, K, w);
	c = test_tensor(be, 1, N, NULL);
	assert_int_equal(df_gemm(be, &(struct df_gemm){ false, true, 1, 0, a, b, c }, NULL), DF_OK);
	v = test_values(be, c);
	for (size_t i = 0; i < N - 1; i++)
		assert_float_equal(v[i], hard[i], 0);
	assert_true(isnan(v[N - 1]));
	free(v);
	df_tensor_free(be, &a);
	df_tensor_free(be, &b);
	df_tensor_free(be, &c);
}

/* ---- by sample, by expert ---------------------------------------------------------------------------------------- */

enum { GROUPS = 4, ROWS = 150 };
static const uint32_t short_ones[GROUPS + 1] = { 0, 70, 70, 71, ROWS };
/* A sum over so many rows is one of several runs, which a backend may share out. */
static const uint32_t longer[GROUPS + 1] = { 0, 2100, 2100, 2101, 2180 };

static void
rows_of_both(size_t m, size_t n, enum df_dtype type, const uint32_t *first)
{
	const size_t rows = first[GROUPS];
	float *va = numbers(1, rows, m, type), *vb = numbers(2, rows, n, type),
	      *vc = test_numbers(3, GROUPS * m * n, 1);
	struct df_tensor a = matrix(be, type, rows, m, va, false), b = matrix(be, type, rows, n, vb, false);
	struct df_tensor c = test_tensor(be, GROUPS, m * n, NULL), sums = test_tensor(be, GROUPS * m, n, vc);
	struct df_tensor one = test_tensor(be, m, n, NULL), index = test_indices(be, first, GROUPS + 1), list[GROUPS];
	const struct df_gemm_segments by_sample = { alpha, a, b, c, index };
	const struct df_gemm_group_sums by_group = { alpha, 0.5f, a, b, index, list, GROUPS };
	float *got, *got_sums;

	for (size_t e = 0; e < GROUPS; e++)
		list[e] = e == 2 ? DF_TENSOR_NONE : df_tensor_rows(sums, e * m, m);
	assert_int_equal(df_gemm_segments(be, &by_sample, NULL), DF_OK);
	assert_int_equal(df_gemm_group_sums(be, &by_group, NULL), DF_OK);
	got = test_values(be, c);
	got_sums = test_values(be, sums);
	for (size_t e = 0; e < GROUPS; e++) {
		const size_t r = first[e], k = first[e + 1] - r;
		struct df_gemm g = { true, false, alpha, 0, df_tensor_rows(a, r, k), df_tensor_rows(b, r, k), one };
		float *v;

		assert_int_equal(df_gemm(be, &g, NULL), DF_OK);
		v = test_values(be, one);
		same_bits(got + e * m * n, v, m * n, n, "a segment");
		free(v);
		assert_int_equal(df_upload(be, one, vc + e * m * n, NULL), DF_OK);
		g.beta = 0.5f;
		if (e != 2)
			assert_int_equal(df_gemm(be, &g, NULL), DF_OK);
		v = test_values(be, one);
		same_bits(got_sums + e * m * n, v, m * n, n, "the sum of a group");
		free(v);
	}
	free(va);
	free(vb);
	free(vc);
	free(got);
	free(got_sums);
	df_tensor_free(be, &a);
	df_tensor_free(be, &b);
	df_tensor_free(be, &c);
	df_tensor_free(be, &sums);
	df_tensor_free(be, &one);
	df_tensor_free(be, &index);
}

static void
rows_of_a(size_t n, size_t k, enum df_dtype type, enum df_dtype b_type, bool tb)
{
	const uint32_t *first = short_ones;
	float *va = numbers(1, ROWS, k, type), *vb = numbers(2, GROUPS * n, k, b_type), *vc = numbers(3, ROWS, n, type);
	struct df_tensor a = matrix(be, type, ROWS, k, va, false), c = matrix(be, type, ROWS, n, vc, false);
	struct df_tensor alone = matrix(be, type, ROWS, n, vc, false);
	struct df_tensor b = matrix(be, b_type, GROUPS * (tb ? n : k), tb ? k : n, vb, false), list[GROUPS];
	struct df_tensor index = test_indices(be, first, GROUPS + 1);
	float *got, *want;

	for (size_t e = 0; e < GROUPS; e++)
		list[e] = e == 2 ? DF_TENSOR_NONE : df_tensor_rows(b, e * (tb ? n : k), tb ? n : k);
	assert_int_equal(
	    df_gemm_groups(be, &(struct df_gemm_groups){ tb, alpha, 0.5f, a, c, index, list, GROUPS }, NULL), DF_OK);
	for (size_t e = 0; e < GROUPS; e++) {
		const size_t r = first[e], m = first[e + 1] - r;
		struct df_gemm g = { false, tb, alpha, 0.5f, df_tensor_rows(a, r, m), list[e],
			df_tensor_rows(alone, r, m) };

		if (list[e].mem)
			assert_int_equal(df_gemm(be, &g, NULL), DF_OK);
	}
	got = test_values(be, c);
	want = test_values(be, alone);
	same_bits(got, want, ROWS * n, n, "the rows of a group");
	free(va);
	free(vb);
	free(vc);
	free(got);
	free(want);
	df_tensor_free(be, &a);
	df_tensor_free(be, &b);
	df_tensor_free(be, &c);
	df_tensor_free(be, &alone);
	df_tensor_free(be, &index);
}

static void
samples_and_experts(void **state)
{
	static const enum df_dtype types[] = { DF_F32, DF_BF16, DF_F16 };

	(void)state;
	if (!df_backend_is_exact(be))
		skip();
	for (size_t i = 0; i < 2; i++) {
		if (types[i] == DF_BF16 && !df_backend_takes_bf16(be))
			continue;
		rows_of_both(16, 72, types[i], short_ones);
		rows_of_both(72, 8, types[i], short_ones);
		rows_of_both(8, 16, types[i], longer);
		rows_of_both(5, 3, types[i], longer);
		for (size_t j = 0; j < 3; j++)
			for (int tb = 0; tb < 2; tb++)
				rows_of_a(72, 40, types[i], types[j], tb);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small),
		cmocka_unit_test(more_than_a_tile),
		cmocka_unit_test(many_steps),
		cmocka_unit_test(large),
		cmocka_unit_test(parts_of_numbers),
		cmocka_unit_test(samples_and_experts),
	};
	int rc;

	be = test_backend(NULL, NULL);
	cpu = test_backend("cpu", NULL);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	df_backend_close(be);
	df_backend_close(cpu);
	return rc;
}
