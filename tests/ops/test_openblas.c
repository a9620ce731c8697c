/*
 * test_openblas.c - products on OpenBLAS: right at sizes of several tiles, the same bits with any number of threads and
 * at any address; and which device is taken when none is named.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend_priv.h"
#include "cases.h"

/* More than one tile each way, and more than one block of what is widened. */
enum { M = 530, N = 1100, K = 300 };

/* c = op(a) op(b) - c/2 with a, b and c windows of wider tensors, `shift` columns from their beginning. */
static float *
product(struct df_backend *be, bool ta, bool tb, enum df_dtype type, size_t shift)
{
	float *va = test_numbers(1, M * K, 1), *vb = test_numbers(2, K * N, 1), *vc = test_numbers(3, M * N, 1), *v;
	const size_t rows[] = { ta ? K : M, tb ? N : K, M }, cols[] = { ta ? M : K, tb ? K : N, N };
	struct df_tensor whole[3], t[3], b = DF_TENSOR_NONE;

	for (int i = 0; i < 3; i++) {
		whole[i] = test_tensor(be, rows[i], cols[i] + 7, NULL);
		t[i] = df_tensor_cols(whole[i], shift, cols[i]);
		assert_int_equal(df_upload(be, t[i], i == 0 ? va : i == 1 ? vb : vc, NULL), DF_OK);
	}
	assert_int_equal(df_tensor_alloc(be, &b, type, rows[1], cols[1], "b", NULL), DF_OK);
	assert_int_equal(df_copy(be, b, t[1], NULL), DF_OK);
	if (type == DF_F32) {
		df_tensor_free(be, &b);
		b = t[1];
	}
	assert_int_equal(df_gemm(be, &(struct df_gemm){ ta, tb, 1, -0.5f, t[0], b, t[2] }, NULL), DF_OK);
	v = test_values(be, t[2]);
	if (type != DF_F32)
		df_tensor_free(be, &b);
	for (int i = 0; i < 3; i++)
		df_tensor_free(be, &whole[i]);
	free(va);
	free(vb);
	free(vc);
	return v;
}

static void
is_right(void **state)
{
	static const enum df_dtype types[] = { DF_F32, DF_BF16, DF_F16 };
	struct df_backend *be = test_backend("openblas", NULL), *cpu = test_backend("cpu", NULL);

	(void)state;
	assert_false(df_backend_is_exact(be));
	for (int i = 0; i < 3; i++)
		for (int how = 0; how < 4; how++) {
			float *got = product(be, how & 1, how & 2, types[i], 0),
			      *want = product(cpu, how & 1, how & 2, types[i], 0);
			double most = 0;

			for (size_t j = 0; j < M * N; j++)
				most = fmax(most, fabs((double)got[j] - (double)want[j]));
			if (!(most < 1e-4)) /* of sums of 300 numbers below 1 */
				fail_msg("%s, %d: max difference %g", df_dtype_name(types[i]), how, most);
			free(got);
			free(want);
		}
	df_backend_close(be);
	df_backend_close(cpu);
}

static void
keeps_its_bits(void **state)
{
	struct df_backend *be = test_backend("openblas", NULL);

	(void)state;
	for (int how = 0; how < 4; how++) {
		float *want = product(be, how & 1, how & 2, DF_F32, 0);

		for (int n = 1; n <= 5; n++) {
			struct df_pool *pool = NULL;
			struct df_backend *other;
			float *got;

			assert_int_equal(df_pool_new(&pool, n, NULL), DF_OK);
			other = test_backend("openblas", pool);
			got = product(other, how & 1, how & 2, DF_F32, (size_t)n);
			if (memcmp(got, want, M * N * sizeof(*got)) != 0)
				fail_msg("other bits with %d threads, %d columns further", n, n);
			free(got);
			df_backend_close(other);
			df_pool_free(pool);
		}
		free(want);
	}
	df_backend_close(be);
}

/* What sgemm does not take as it is: no inner indices, one row whose windows claim to be narrower than they are. */
static void
takes_odd_shapes(void **state)
{
	struct df_backend *be = test_backend("openblas", NULL);
	float va[40], vc[40], *v;
	struct df_tensor a, b, c;

	(void)state;
	for (int i = 0; i < 40; i++) {
		va[i] = 1;
		vc[i] = NAN;
	}
	a = test_tensor(be, 1, 40, va);
	b = test_tensor(be, 40, 1, va);
	c = test_tensor(be, 1, 1, vc); /* beta = 0 must not read it */
	a.ld = 1;
	assert_int_equal(df_gemm(be, &(struct df_gemm){ false, false, 1, 0, a, b, c }, NULL), DF_OK);
	v = test_values(be, c);
	assert_true(v[0] == 40);
	free(v);
	a.cols = 0;
	b.rows = 0;
	assert_int_equal(df_gemm(be, &(struct df_gemm){ false, false, 1, 0, a, b, c }, NULL), DF_OK);
	v = test_values(be, c);
	assert_true(v[0] == 0);
	free(v);
	df_tensor_free(be, &a);
	df_tensor_free(be, &b);
	df_tensor_free(be, &c);
	df_backend_close(be);
}

static bool
yes(void)
{
	return true;
}
static bool
no(void)
{
	return false;
}

static void
auto_takes_the_first_that_suits(void **state)
{
	const struct df_backend_ops silent = { .name = "silent" }, first = { .name = "first", .suits = no },
				    second = { .name = "second", .suits = yes },
				    third = { .name = "third", .suits = yes };
	const struct df_backend_ops *const table[] = { &silent, &first, &second, &third };
	struct df_backend *be = test_backend("auto", NULL);
	char list[256];

	(void)state;
	assert_ptr_equal(df_backend_choose(table, 4), &second);
	assert_null(df_backend_choose(table, 2));
	assert_string_equal(df_backend_name(be), df_cpu_backend.suits() ? "cpu" : "openblas");
	df_backend_close(be);
	assert_true(df_openblas_backend.suits());
	assert_null(df_poison_backend.suits);
	assert_null(df_reference_backend.suits);

	df_backend_list(list, sizeof(list));
	assert_non_null(strstr(list, "), openblas ("));
	assert_non_null(strstr(list, "), poison, reference"));
	df_backend_list(list, 7);
	assert_string_equal(list, df_cpu_backend.suits() ? "cpu (A" : "cpu (b");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_right),
		cmocka_unit_test(keeps_its_bits),
		cmocka_unit_test(takes_odd_shapes),
		cmocka_unit_test(auto_takes_the_first_that_suits),
	};

	setenv("DF_OPENBLAS_ALL", "1", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
