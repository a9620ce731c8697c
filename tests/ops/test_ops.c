/*
 * test_ops.c - every operation at every shape of the table (cases.c): against
 * the reference, the same bits on cpu and poison, with any number of threads, inside a
 * pool task, and through the host version of an empty slot.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>

#include "backend/backend_priv.h"
#include "cases.h"

static void
matches_reference(void **state)
{
	struct df_backend *be = test_backend(NULL, NULL), *ref = test_backend("reference", NULL);

	(void)state;
	for (size_t i = 0; i < n_op_cases; i++) {
		struct results got, want;
		const char *worst;
		double diff;

		op_case_run(&op_cases[i], be, &got);
		op_case_run(&op_cases[i], ref, &want);
		diff = results_diff(&got, &want, &worst);
		print_message("# %-24s max difference %.1e (%s), tolerance %.0e\n", op_cases[i].name, diff, worst,
		    op_cases[i].tol);
		if (!(diff <= op_cases[i].tol))
			fail_msg("%s: %s differs from the reference by %g", op_cases[i].name, worst, diff);
		results_release(&got);
		results_release(&want);
	}
	df_backend_close(be);
	df_backend_close(ref);
}

static void
same_bits(struct df_backend *a, struct df_backend *b, const char *what)
{
	for (size_t i = 0; i < n_op_cases; i++) {
		struct results x, y;
		const char *differs;

		op_case_run(&op_cases[i], a, &x);
		op_case_run(&op_cases[i], b, &y);
		differs = results_differ(&x, &y);
		if (differs)
			fail_msg("%s: %s: other bits %s", op_cases[i].name, differs, what);
		results_release(&x);
		results_release(&y);
	}
}

static void
poison_computes_as_cpu(void **state)
{
	struct df_backend *cpu = test_backend("cpu", NULL), *poison = test_backend("poison", NULL);

	(void)state;
	same_bits(cpu, poison, "on poison than on cpu");
	df_backend_close(cpu);
	df_backend_close(poison);
}

static void
threads_change_nothing(void **state)
{
	struct df_backend *one = test_backend(NULL, NULL);

	(void)state;
	for (int n = 2; n <= 3; n++) {
		struct df_pool *pool = NULL;
		struct df_backend *be;

		assert_int_equal(df_pool_new(&pool, n, NULL), DF_OK);
		be = test_backend(NULL, pool);
		same_bits(one, be, n == 2 ? "with 2 threads" : "with 3 threads");
		df_backend_close(be);
		df_pool_free(pool);
	}
	df_backend_close(one);
}

struct together {
	struct df_backend *be;
	struct results res[4];
	const struct op_case *c;
};

static void
one_of_many(void *ctx, size_t i, int worker)
{
	struct together *t = ctx;

	(void)worker;
	op_case_run(t->c, t->be, &t->res[i]);
}

/* Several threads use one backend at once, each inside a pool task. */
static void
tasks_may_share_a_backend(void **state)
{
	struct df_pool *pool = NULL;
	struct together t;

	(void)state;
	assert_int_equal(df_pool_new(&pool, 2, NULL), DF_OK);
	t.be = test_backend(NULL, pool);
	for (t.c = op_cases; t.c < op_cases + n_op_cases; t.c++) {
		struct results alone;

		op_case_run(t.c, t.be, &alone);
		df_pool_for(pool, 4, one_of_many, &t);
		for (int i = 0; i < 4; i++) {
			const char *differs = results_differ(&alone, &t.res[i]);

			if (differs)
				fail_msg("%s: %s: other bits inside a task", t.c->name, differs);
			results_release(&t.res[i]);
		}
		results_release(&alone);
	}
	df_backend_close(t.be);
	df_pool_free(pool);
}

/* A backend of memory and GEMM only. */
static void
empty_slots_run_on_the_host(void **state)
{
	static df_op_fn *gemm_only[DF_OP_COUNT];
	struct df_backend_ops ops = df_poison_backend;
	struct df_backend *cpu = test_backend("cpu", NULL), *bare = NULL;

	(void)state;
	gemm_only[DF_OP_GEMM] = df_poison_backend.op[DF_OP_GEMM];
	ops.name = "bare";
	ops.op = gemm_only;
	unsetenv("DF_BACKEND_STRICT");
	assert_int_equal(df_backend_open_ops(&bare, &ops, "bare", NULL, NULL), DF_OK);
	same_bits(cpu, bare, "through the host version");
	df_backend_close(cpu);
	df_backend_close(bare);
}

/* DF_BACKEND_STRICT=1: the same table computes what it has itself, and names what it lacks. */
static void
strict_backends_do_without_the_host(void **state)
{
	static df_op_fn *gemm_only[DF_OP_COUNT];
	struct df_backend_ops ops = df_poison_backend;
	const float one[4] = { 1, 1, 1, 1 };
	struct df_err err = DF_ERR_INIT;
	struct df_backend *be = NULL;
	struct df_tensor t, c;

	(void)state;
	gemm_only[DF_OP_GEMM] = df_poison_backend.op[DF_OP_GEMM];
	ops.name = "bare";
	ops.op = gemm_only;
	setenv("DF_BACKEND_STRICT", "1", 1);
	assert_int_equal(df_backend_open_ops(&be, &ops, "bare", NULL, NULL), DF_OK);
	t = test_tensor(be, 2, 2, one);
	c = test_tensor(be, 2, 2, NULL);
	assert_int_equal(df_gemm(be, &(struct df_gemm){ .alpha = 1, .a = t, .b = t, .c = c }, &err), DF_OK);
	assert_int_equal(df_scale(be, 2, t, &err), DF_EUNSUPPORTED);
	assert_string_equal(err.msg, "backend bare has no scale of its own, and DF_BACKEND_STRICT forbids the host's");
	df_tensor_free(be, &t);
	df_tensor_free(be, &c);
	df_backend_close(be);
	setenv("DF_BACKEND_STRICT", "0", 1);
	assert_int_equal(df_backend_open_ops(&be, &ops, "bare", NULL, NULL), DF_OK);
	t = test_tensor(be, 2, 2, one);
	assert_int_equal(df_scale(be, 2, t, &err), DF_OK);
	df_tensor_free(be, &t);
	df_backend_close(be);
}

static void
old_tables_are_refused(void **state)
{
	struct df_backend_ops ops = df_cpu_backend;
	struct df_backend *be = NULL;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	ops.api_version++;
	assert_int_equal(df_backend_open_ops(&be, &ops, "x", NULL, &err), DF_EDEVICE);
	assert_null(be);
	setenv("DF_CUDA_PLUGIN", "/nowhere/df-cuda.so", 1);
	assert_int_equal(df_backend_open(&be, "cuda:0", NULL, &err), DF_EUNSUPPORTED);
	assert_int_equal(df_backend_open(&be, "toaster", NULL, &err), DF_EUSAGE);
	assert_null(be);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matches_reference),
		cmocka_unit_test(poison_computes_as_cpu),
		cmocka_unit_test(threads_change_nothing),
		cmocka_unit_test(tasks_may_share_a_backend),
		cmocka_unit_test(empty_slots_run_on_the_host),
		cmocka_unit_test(strict_backends_do_without_the_host),
		cmocka_unit_test(old_tables_are_refused),
	};

	cmocka_set_test_filter(getenv("DF_TEST_ONLY")); /* make check-race: one pass of the table is enough there */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
