/*
 * test_stage.c - a stage carries numbers to the device and back, on every backend; poison finds each way to use it
 * wrong that a laptop would forgive and a device would not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend_priv.h"
#include "base/mem.h"
#include "cases.h"

static struct df_backend *be, *poison;

/* A tensor that is large enough for pages of its own goes there and comes back. */
static void
large_tensors(void **state)
{
	const size_t n = ((size_t)33 << 20) / sizeof(float);
	struct df_tensor t = DF_TENSOR_NONE;
	float *x = NULL, *y = NULL;

	(void)state;
	assert_int_equal(df_alloc(&x, n, sizeof(*x), "x", NULL), DF_OK);
	assert_int_equal(df_alloc(&y, n, sizeof(*y), "y", NULL), DF_OK);
	for (size_t i = 0; i < n; i++)
		x[i] = (float)(i % 1000003);
	for (int again = 0; again < 2; again++) {
		assert_int_equal(df_tensor_alloc(be, &t, DF_F32, 3, n / 3, "a large tensor", NULL), DF_OK);
		assert_int_equal(df_upload(be, t, x, NULL), DF_OK);
		assert_int_equal(df_download(be, y, t, NULL), DF_OK);
		assert_memory_equal(x, y, n / 3 * 3 * sizeof(*x));
		/* a window that is not dense */
		assert_int_equal(df_upload(be, df_tensor_cols(t, 1, 2), x, NULL), DF_OK);
		assert_int_equal(df_download(be, y, df_tensor_cols(df_tensor_rows(t, 2, 1), 0, 4), NULL), DF_OK);
		assert_true(y[0] == x[2 * (n / 3)] && y[1] == x[4] && y[2] == x[5] && y[3] == x[2 * (n / 3) + 3]);
		df_tensor_free(be, &t);
	}
	free(x);
	free(y);
}

static struct df_stage *
new_stage(struct df_backend *b, size_t nbytes)
{
	struct df_stage *st = NULL;

	assert_int_equal(df_stage_new(b, &st, nbytes, "a stage", NULL), DF_OK);
	return st;
}

/* x = 1 2 3 goes to the device behind two integers, is doubled there and comes back. */
static void
there_and_back(struct df_backend *b)
{
	struct df_stage *st = new_stage(b, 100);
	float *x = df_stage_host(st, 64);
	uint32_t *id = df_stage_host(st, 8), seen[2];
	struct df_tensor t = df_stage_view(st, DF_F32, 64, 1, 3);

	assert_int_equal((uintptr_t)df_stage_host(st, 0) % 64, 0);
	for (int i = 0; i < 3; i++)
		x[i] = (float)(i + 1);
	id[0] = 7;
	id[1] = UINT32_MAX;
	assert_int_equal(df_stage_push(st, 0, 100, NULL), DF_OK);
	assert_int_equal(df_download(b, seen, df_stage_view(st, DF_U32, 8, 1, 2), NULL), DF_OK);
	assert_memory_equal(seen, id, sizeof(seen));
	assert_int_equal(df_scale(b, 2, t, NULL), DF_OK);
	assert_int_equal(df_stage_pull(st, 64, 12, NULL), DF_OK);
	assert_int_equal(df_stage_wait(st, NULL), DF_OK);
	assert_true(x[0] == 2 && x[1] == 4 && x[2] == 6);
	assert_true(id[0] == 7 && id[1] == UINT32_MAX);
	/* And again: after the wait the host's side is the host's. */
	x[1] = 10;
	assert_int_equal(df_stage_push(st, 64, 12, NULL), DF_OK);
	assert_int_equal(df_scale(b, 2, t, NULL), DF_OK);
	assert_int_equal(df_stage_wait(st, NULL), DF_OK);
	assert_int_equal(df_stage_pull(st, 68, 4, NULL), DF_OK);
	assert_int_equal(df_stage_wait(st, NULL), DF_OK);
	assert_true(x[1] == 20);
	df_stage_free(b, &st);
	assert_null(st);
	df_stage_free(b, &st);
}

static void
on_every_backend(void **state)
{
	static const char *const names[] = { "cpu", "reference", "poison" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct df_backend *b = test_backend(names[i], NULL);

		there_and_back(b);
		df_backend_close(b);
	}
}

/* A backend with memory of its own and no stages of its own gets plain copies. */
static void
on_a_plain_device(void **state)
{
	struct df_backend_ops ops = df_poison_backend;
	struct df_backend *b = NULL;

	(void)state;
	ops.stage = NULL;
	assert_int_equal(df_backend_open_ops(&b, &ops, "plain", NULL, NULL), DF_OK);
	there_and_back(b);
	df_backend_close(b);
}

static void
ranges(void **state)
{
	struct df_stage *st = new_stage(be, 32);

	(void)state;
	assert_int_equal(df_stage_push(st, 0, 33, NULL), DF_EINTERNAL);
	assert_int_equal(df_stage_push(st, 33, 0, NULL), DF_EINTERNAL);
	assert_int_equal(df_stage_pull(st, 8, SIZE_MAX, NULL), DF_EINTERNAL);
	assert_int_equal(df_stage_push(st, 32, 0, NULL), DF_OK);
	assert_int_equal(df_stage_pull(st, 32, 0, NULL), DF_OK);
	/* views beyond the end, or not aligned for their type */
	assert_int_equal(df_scale(be, 1, df_stage_view(st, DF_F32, 20, 1, 4), NULL), DF_EINTERNAL);
	assert_int_equal(df_scale(be, 1, df_stage_view(st, DF_F32, 18, 1, 1), NULL), DF_EINTERNAL);
	assert_int_equal(df_fill(be, df_stage_view(st, DF_BF16, 18, 1, 7), 0, NULL), DF_OK);
	df_stage_free(be, &st);
	assert_int_equal(df_stage_new(be, &st, SIZE_MAX / 64, "a stage", NULL), DF_ENOMEM);
	assert_null(st);
	assert_int_equal(df_stage_new(be, NULL, 1, "a stage", NULL), DF_EINTERNAL);
}

static void
reuse(void **state)
{
	struct df_stage *st = NULL;
	void *host;
	float v;

	(void)state;
	assert_int_equal(df_stage_reuse(poison, &st, 8, "a stage", NULL), DF_OK);
	host = df_stage_host(st, 0);
	*(float *)host = 1;
	assert_int_equal(df_stage_push(st, 0, 4, NULL), DF_OK);
	assert_int_equal(df_stage_reuse(poison, &st, 4, "a stage", NULL), DF_OK);
	assert_ptr_equal(df_stage_host(st, 0), host); /* there was room, and the wait gave the host its side back */
	*(float *)host = 2;
	assert_int_equal(df_stage_push(st, 0, 4, NULL), DF_OK);
	assert_int_equal(df_download(poison, &v, df_stage_view(st, DF_F32, 0, 1, 1), NULL), DF_OK);
	assert_true(v == 2);
	assert_int_equal(df_stage_reuse(poison, &st, 100, "a stage", NULL), DF_OK);
	assert_int_equal(df_stage_push(st, 96, 4, NULL), DF_OK);
	assert_int_equal(df_stage_reuse(poison, &st, SIZE_MAX / 64, "a stage", NULL), DF_ENOMEM);
	df_stage_free(poison, &st);
}

static void
empty(void **state)
{
	struct df_stage *st = new_stage(be, 0);

	(void)state;
	assert_int_equal(df_stage_push(st, 0, 0, NULL), DF_OK);
	assert_int_equal(df_stage_wait(st, NULL), DF_OK);
	df_stage_free(be, &st);
}

/* ---- what poison finds ------------------------------------------------------------------------------------------- */

static float
on_device(struct df_stage *st, size_t i)
{
	float v;

	assert_int_equal(df_download(poison, &v, df_stage_view(st, DF_F32, i * sizeof(v), 1, 1), NULL), DF_OK);
	return v;
}

static void
a_missing_push(void **state)
{
	struct df_stage *st = new_stage(poison, 8);
	float *x = df_stage_host(st, 0);

	(void)state;
	x[0] = x[1] = 1;
	assert_true(isnan(on_device(st, 0)));
	assert_int_equal(df_stage_push(st, 0, 4, NULL), DF_OK);
	assert_true(on_device(st, 0) == 1 && isnan(on_device(st, 1)));
	df_stage_free(poison, &st);
}

static void
a_missing_pull_or_wait(void **state)
{
	struct df_stage *st = new_stage(poison, 8);
	float *x = df_stage_host(st, 0);

	(void)state;
	assert_int_equal(df_fill(poison, df_stage_view(st, DF_F32, 0, 1, 2), 3, NULL), DF_OK);
	assert_true(isnan(x[0]) && isnan(x[1]));
	assert_int_equal(df_stage_pull(st, 0, 4, NULL), DF_OK);
	assert_true(isnan(x[0]));
	assert_int_equal(df_stage_wait(st, NULL), DF_OK);
	assert_true(x[0] == 3 && isnan(x[1]));
	df_stage_free(poison, &st);
}

/* What the device wrote after the pull is not what was pulled. */
static void
copies_take_their_turn(void **state)
{
	struct df_stage *st = new_stage(poison, 4);
	struct df_tensor t = df_stage_view(st, DF_F32, 0, 1, 1);
	float *x = df_stage_host(st, 0);

	(void)state;
	assert_int_equal(df_fill(poison, t, 3, NULL), DF_OK);
	assert_int_equal(df_stage_pull(st, 0, 4, NULL), DF_OK);
	assert_int_equal(df_fill(poison, t, 4, NULL), DF_OK);
	assert_int_equal(df_stage_wait(st, NULL), DF_OK);
	assert_true(x[0] == 3);
	df_stage_free(poison, &st);
}

static void
writing_under_way(void **state)
{
	struct df_stage *st = new_stage(poison, 8);
	struct df_err err = DF_ERR_INIT;
	float *x = df_stage_host(st, 0);

	(void)state;
	x[0] = x[1] = 1;
	assert_int_equal(df_stage_push(st, 0, 8, NULL), DF_OK);
	x[1] = 2;
	assert_int_equal(df_stage_push(st, 0, 8, &err), DF_EDEVICE);
	assert_non_null(strstr(err.msg, "after it was pushed"));
	assert_int_equal(df_stage_wait(st, NULL), DF_EDEVICE);
	x[1] = 1;
	assert_int_equal(df_stage_wait(st, NULL), DF_OK);
	x[1] = 2;
	assert_int_equal(df_stage_push(st, 0, 8, NULL), DF_OK);
	assert_int_equal(df_stage_pull(st, 0, 8, NULL), DF_OK);
	assert_int_equal(df_stage_push(st, 0, 8, NULL), DF_EDEVICE);
	x[0] = 5;
	err = (struct df_err)DF_ERR_INIT;
	assert_int_equal(df_stage_wait(st, &err), DF_EDEVICE);
	assert_non_null(strstr(err.msg, "after it was pulled"));
	df_stage_free(poison, &st);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(large_tensors),
		cmocka_unit_test(on_every_backend),
		cmocka_unit_test(on_a_plain_device),
		cmocka_unit_test(ranges),
		cmocka_unit_test(reuse),
		cmocka_unit_test(empty),
		cmocka_unit_test(a_missing_push),
		cmocka_unit_test(a_missing_pull_or_wait),
		cmocka_unit_test(copies_take_their_turn),
		cmocka_unit_test(writing_under_way),
	};
	int rc;

	be = test_backend(NULL, NULL);
	poison = test_backend("poison", NULL);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	df_backend_close(be);
	df_backend_close(poison);
	return rc;
}
