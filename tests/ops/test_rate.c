/*
 * test_rate.c - the measured rate is that of the products, also where it is known how long they take.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>
#include <time.h>

#include "backend/backend_priv.h"
#include "backend/rate.h"
#include "cases.h"

#define PRODUCT (2.0 * 512 * 512 * 512) /* operations */
#define SLEEP   0.03                    /* seconds of a product */

static int n_products;

/* A product that takes its time. */
static int
sleeps(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct timespec t = { 0, (long)(SLEEP * 1e9) };

	(void)be;
	(void)args;
	(void)err;
	n_products++;
	nanosleep(&t, NULL);
	return DF_OK;
}

static int
fails(struct df_backend *be, const void *args, struct df_err *err)
{
	(void)be;
	(void)args;
	return df_fail(err, DF_EDEVICE, "the device is gone");
}

static struct df_backend *
with_product(df_op_fn *gemm)
{
	static df_op_fn *slots[DF_OP_COUNT];
	static struct df_backend_ops ops;
	struct df_backend *be = NULL;

	memcpy(slots, df_cpu_backend.op, sizeof(slots));
	slots[DF_OP_GEMM] = gemm;
	ops = df_cpu_backend;
	ops.op = slots;
	assert_int_equal(df_backend_open_ops(&be, &ops, "cpu", NULL, NULL), DF_OK);
	return be;
}

static void
is_that_of_products(void **state)
{
	struct df_backend *be = with_product(sleeps);
	double rate = 0;

	(void)state;
	assert_int_equal(df_backend_rate(be, &rate, NULL), DF_OK);
	assert_in_range(n_products, 1, 4); /* a tenth of a second of them */
	assert_true(rate <= PRODUCT / SLEEP);
	assert_true(rate > 0);
	assert_int_equal(atomic_load(&df_backend_root(be)->nbytes), 0);
	df_backend_close(be);
}

static void
of_this_machine(void **state)
{
	struct df_backend *be = test_backend(NULL, NULL);
	double rate = 0;

	(void)state;
	assert_int_equal(df_backend_rate(be, &rate, NULL), DF_OK);
	assert_true(isfinite(rate) && rate > 1e6);
	assert_int_equal(atomic_load(&df_backend_root(be)->nbytes), 0);
	df_backend_close(be);
}

static void
faults_are_told(void **state)
{
	struct df_backend *be = with_product(fails);
	struct df_err err = DF_ERR_INIT;
	double rate = -1;

	(void)state;
	assert_int_equal(df_backend_rate(be, &rate, &err), DF_EDEVICE);
	assert_true(rate == -1);
	assert_int_equal(atomic_load(&df_backend_root(be)->nbytes), 0);
	df_backend_close(be);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_that_of_products),
		cmocka_unit_test(of_this_machine),
		cmocka_unit_test(faults_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
