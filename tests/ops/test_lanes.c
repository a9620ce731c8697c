/*
 * test_lanes.c - what a device says of itself, and lanes: views of one backend with an order of their own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "backend/backend_priv.h"
#include "base/mem.h"
#include "cases.h"

/* ---- what a device says of itself -------------------------------------------------------------------------------- */

static void
likes_little(const struct df_backend *be, struct df_backend_traits *t)
{
	(void)be;
	t->step_lanes = 0; /* nobody can do without one */
	t->workers = 2;
	t->grad_tokens = 7;
}

static size_t
has_little(const struct df_backend *be)
{
	(void)be;
	return 1000;
}

static void
traits_are_the_devices(void **state)
{
	struct df_backend *cpu = test_backend("cpu", NULL), *be = NULL;
	struct df_backend_ops ops = df_cpu_backend;
	struct df_backend_traits t = df_backend_traits(cpu);

	(void)state;
	assert_int_equal(t.step_lanes, 8);
	assert_int_equal(t.grad_tokens, 16384);
	assert_int_equal(df_backend_workers(cpu, 1000), 1000);
	assert_in_range(df_backend_available(cpu), 1, SIZE_MAX);
	ops.traits = likes_little;
	ops.available = has_little;
	assert_int_equal(df_backend_open_ops(&be, &ops, "cpu", NULL, NULL), DF_OK);
	t = df_backend_traits(be);
	assert_int_equal(t.step_lanes, 1);
	assert_int_equal(t.grad_tokens, 7);
	assert_int_equal(t.forward_tokens, df_backend_traits(cpu).forward_tokens);
	assert_int_equal(df_backend_workers(be, 1), 1);
	assert_int_equal(df_backend_workers(be, 16), 2);
	assert_int_equal(df_backend_available(be), 1000);
	df_backend_close(be);
	df_backend_close(cpu);
}

/* ---- lanes ------------------------------------------------------------------------------------------------------- */

/* On a host the backend is its only lane. */
static void
hosts_have_one(void **state)
{
	struct df_backend *cpu = test_backend("cpu", NULL), *lane = NULL;

	(void)state;
	assert_int_equal(df_backend_fork(cpu, &lane, NULL), DF_OK);
	assert_ptr_equal(lane, cpu);
	df_backend_join(lane);
	df_backend_join(NULL);
	df_backend_close(cpu);
}

#define MISSING "poison: tensor src: written in another lane, without a sync since"

static void
a_missing_sync_is_found(void **state)
{
	const float one[4] = { 1, 2, 3, 4 };
	struct df_backend *root = test_backend("poison", NULL), *a = NULL, *b = NULL;
	struct df_tensor x = test_tensor(root, 1, 4, one), y = test_tensor(root, 1, 4, one);
	struct df_err err = DF_ERR_INIT;
	float got[4];

	(void)state;
	assert_int_equal(df_backend_fork(root, &a, NULL), DF_OK);
	assert_int_equal(df_backend_fork(a, &b, NULL), DF_OK); /* of a lane: of its root */
	assert_ptr_not_equal(a, b);
	assert_int_equal(df_scale(a, 2, x, NULL), DF_OK);
	assert_int_equal(df_scale(a, 2, x, NULL), DF_OK); /* its own order */
	assert_int_equal(df_copy(b, y, x, &err), DF_EDEVICE);
	assert_string_equal(err.msg, MISSING);
	assert_int_equal(df_copy(root, y, x, NULL), DF_EDEVICE);
	assert_int_equal(df_sync(b, NULL), DF_OK); /* not the one that wrote */
	assert_int_equal(df_copy(b, y, x, NULL), DF_EDEVICE);
	assert_int_equal(df_download(b, got, x, NULL), DF_EDEVICE);
	assert_int_equal(df_sync(a, NULL), DF_OK);
	assert_int_equal(df_copy(b, y, x, NULL), DF_OK);
	assert_int_equal(df_scale(root, 1, y, NULL), DF_EDEVICE);
	assert_int_equal(df_download(b, got, y, NULL), DF_OK); /* waits, so it syncs */
	assert_true(got[3] == 16);
	assert_int_equal(df_scale(root, 2, y, NULL), DF_OK);
	assert_int_equal(df_upload(a, x, one, NULL), DF_OK);
	assert_int_equal(df_scale(b, 1, x, NULL), DF_OK);
	df_backend_join(b); /* its end is a sync */
	assert_int_equal(df_scale(a, 1, x, NULL), DF_OK);
	df_backend_join(a);
	df_tensor_free(root, &x);
	df_tensor_free(root, &y);
	df_backend_close(root);
}

/* A stage copies in the lane that it was made in. */
static void
stages_have_a_lane(void **state)
{
	struct df_backend *root = test_backend("poison", NULL), *lane = NULL;
	struct df_tensor x;
	struct df_stage *st = NULL;

	(void)state;
	assert_int_equal(df_backend_fork(root, &lane, NULL), DF_OK);
	assert_int_equal(df_stage_new(lane, &st, 16, "a stage", NULL), DF_OK);
	x = df_stage_view(st, DF_F32, 0, 1, 4);
	memset(df_stage_host(st, 0), 0, 16);
	assert_int_equal(df_stage_push(st, 0, 16, NULL), DF_OK);
	assert_int_equal(df_scale(lane, 2, x, NULL), DF_OK);
	assert_int_equal(df_scale(root, 2, x, NULL), DF_EDEVICE);
	assert_int_equal(df_stage_wait(st, NULL), DF_OK);
	assert_int_equal(df_scale(root, 2, x, NULL), DF_OK);
	df_stage_free(lane, &st);
	df_backend_join(lane);
	df_backend_close(root);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(traits_are_the_devices),
		cmocka_unit_test(hosts_have_one),
		cmocka_unit_test(a_missing_sync_is_found),
		cmocka_unit_test(stages_have_a_lane),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
