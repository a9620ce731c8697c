/*
 * test_bf16.c - activations in bf16: every operation of the table (cases.c) against the reference in float32 with
 * the same rounded inputs; what is refused; how results are rounded.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend_priv.h"
#include "base/half.h"
#include "cases.h"

/* A device that takes bf16 and has no slot but one: the host converts. */
static struct df_backend *
bare_device(void)
{
	static df_op_fn *gemm_only[DF_OP_COUNT];
	static struct df_backend_ops ops;
	struct df_backend *be = NULL;

	gemm_only[DF_OP_GEMM] = df_poison_backend.op[DF_OP_GEMM];
	ops = df_poison_backend;
	ops.name = "bare";
	unsetenv("DF_BACKEND_STRICT");
	ops.op = gemm_only;
	assert_int_equal(df_backend_open_ops(&be, &ops, "bare", NULL, NULL), DF_OK);
	return be;
}

static void
matches_float32(void **state)
{
	struct df_backend *ref = test_backend("reference", NULL);
	struct df_backend *device[] = { ref, test_backend("poison", NULL), bare_device(), test_backend(NULL, NULL) };
	const size_t n = df_backend_takes_bf16(device[3]) ? 4 : 3; /* the device of the test, too */

	(void)state;
	for (const struct op_case *c = op_cases; c < op_cases + n_op_cases; c++) {
		struct results want;

		if (c->tol_bf16 == 0)
			continue;
		op_case_run_in(c, ref, OP_ROUNDED, &want);
		for (size_t i = 0; i < n; i++) {
			struct results got;
			const char *worst, *name = df_backend_name(device[i]);
			double diff;

			op_case_run_in(c, device[i], OP_BF16, &got);
			diff = results_diff(&got, &want, &worst);
			print_message("# %-26s %-9s max difference %.1e (%s), tolerance %.1e\n", c->name, name, diff,
			    worst, c->tol_bf16);
			if (!(diff <= c->tol_bf16))
				fail_msg("%s on %s: %s differs from float32 by %g", c->name, name, worst, diff);
			results_release(&got);
		}
		results_release(&want);
	}
	for (size_t i = 0; i < 4; i++)
		df_backend_close(device[i]);
}

/* ---- what is refused --------------------------------------------------------------------------------------------- */

static struct df_tensor
bf16_tensor(struct df_backend *be, size_t rows, size_t cols)
{
	struct df_tensor t;

	assert_int_equal(df_tensor_alloc(be, &t, DF_BF16, rows, cols, "test", NULL), DF_OK);
	assert_int_equal(df_fill(be, t, 1, NULL), DF_OK);
	return t;
}

static void
the_cpu_refuses(void **state)
{
	struct df_backend *be = test_backend("cpu", NULL);
	struct df_tensor x = bf16_tensor(be, 2, 3);
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_false(df_backend_takes_bf16(be));
	assert_int_equal(df_scale(be, 2, x, &err), DF_EINTERNAL);
	assert_non_null(strstr(err.msg, "tensor dst has type bf16; f32 is needed"));
	assert_int_equal(df_backend_set_compute(be, DF_BF16, &err), DF_EUNSUPPORTED);
	assert_int_equal(df_backend_compute(be), DF_F32);
	df_tensor_free(be, &x);
	df_backend_close(be);
}

static void
activations_are_alike(void **state)
{
	struct df_backend *be = test_backend("reference", NULL);
	struct df_tensor x = bf16_tensor(be, 2, 3), y = test_tensor(be, 2, 3, NULL), h;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(df_axpy(be, 2, x, y, &err), DF_EINTERNAL);
	assert_non_null(strstr(err.msg, "must be alike"));
	assert_int_equal(df_sign(be, x, &err), DF_EINTERNAL); /* gradients are float32 */
	assert_non_null(strstr(err.msg, "has type bf16; f32 is needed"));
	assert_int_equal(df_tensor_alloc(be, &h, DF_F16, 2, 3, "test", NULL), DF_OK);
	assert_int_equal(df_scale(be, 2, h, &err), DF_EINTERNAL);
	assert_non_null(strstr(err.msg, "has type f16; f32 or bf16 is needed"));
	assert_int_equal(df_backend_set_compute(be, DF_F16, NULL), DF_EINTERNAL);
	assert_int_equal(df_backend_set_compute(be, DF_BF16, NULL), DF_OK);
	assert_int_equal(df_backend_compute(be), DF_BF16);
	df_tensor_free(be, &x);
	df_tensor_free(be, &y);
	df_tensor_free(be, &h);
	df_backend_close(be);
}

/* ---- how it is rounded ------------------------------------------------------------------------------------------- */

static void
is_bits(struct df_backend *be, struct df_tensor t, float want)
{
	uint16_t v;

	assert_int_equal(df_download(be, &v, t, NULL), DF_OK);
	assert_int_equal(v, df_f32_bits(want) >> 16);
}

/* To nearest, ties to even: 1 + 2^-8 lies between 1 and 1 + 2^-7, 1 + 3 2^-8 between that and 1 + 2^-6. */
static void
ties_go_to_even(void **state)
{
	static const struct {
		float add, want;
	} sums[] = { { 0x1p-8f, 1 }, { 0x1.01p-8f, 1 + 0x1p-7f }, { 0x1.8p-7f, 1 + 0x1p-6f },
		{ 0x1.7fp-7f, 1 + 0x1p-7f }, { -0x1p-9f, 1 } };
	static const char *const devices[] = { "reference", "poison" };

	(void)state;
	for (size_t d = 0; d < 2; d++) {
		struct df_backend *be = test_backend(devices[d], NULL);

		for (size_t i = 0; i < sizeof(sums) / sizeof(sums[0]); i++) {
			struct df_tensor x = bf16_tensor(be, 1, 1), bias = test_tensor(be, 1, 1, &sums[i].add);

			assert_int_equal(df_bias_add(be, x, bias, NULL), DF_OK);
			is_bits(be, x, sums[i].want);
			df_tensor_free(be, &x);
			df_tensor_free(be, &bias);
		}
		df_backend_close(be);
	}
}

/* 256 + 1 is 256 in bf16, but 256 + 1 + 1 + 1 + 1 + 1 + 1 is 262. */
static void
a_sum_rounds_once(void **state)
{
	struct df_backend *be = test_backend("reference", NULL);
	struct df_tensor ones = bf16_tensor(be, 6, 1), sum = bf16_tensor(be, 1, 1), w = bf16_tensor(be, 6, 1);
	struct df_tensor row = test_indices(be, (const uint32_t[6]){ 0 }, 6);
	struct df_gemm g = { .ta = true, .alpha = 1, .beta = 1, .a = ones, .b = w, .c = sum };

	(void)state;
	assert_int_equal(df_fill(be, sum, 256, NULL), DF_OK);
	assert_int_equal(df_scatter_rows(be, sum, ones, row, NULL), DF_OK);
	is_bits(be, sum, 262);
	assert_int_equal(df_fill(be, sum, 256, NULL), DF_OK);
	assert_int_equal(df_gemm(be, &g, NULL), DF_OK);
	is_bits(be, sum, 262);
	df_tensor_free(be, &ones);
	df_tensor_free(be, &sum);
	df_tensor_free(be, &w);
	df_tensor_free(be, &row);
	df_backend_close(be);
}

/* ---- poison ------------------------------------------------------------------------------------------------------ */

static int
reads_its_output(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)be;
	(void)err;
	df_tensor_f32(a->dst)[0] = df_tensor_f32(a->dst)[0] * 2;
	return DF_OK;
}

static void
what_is_only_written_is_not_read(void **state)
{
	static df_op_fn *slots[DF_OP_COUNT];
	struct df_backend_ops ops = df_poison_backend;
	struct df_backend *be = NULL;
	struct df_tensor x, y;
	uint16_t v;

	(void)state;
	memcpy(slots, df_poison_backend.op, sizeof(slots));
	slots[DF_OP_GELU] = reads_its_output;
	ops.op = slots;
	assert_int_equal(df_backend_open_ops(&be, &ops, "poison", NULL, NULL), DF_OK);
	x = bf16_tensor(be, 1, 1);
	y = bf16_tensor(be, 1, 1);
	assert_int_equal(df_gelu_fwd(be, y, x, NULL), DF_OK);
	assert_int_equal(df_download(be, &v, y, NULL), DF_OK);
	assert_true(isnan(df_f32_from_bf16(v)));
	df_tensor_free(be, &x);
	df_tensor_free(be, &y);
	df_backend_close(be);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matches_float32),
		cmocka_unit_test(the_cpu_refuses),
		cmocka_unit_test(activations_are_alike),
		cmocka_unit_test(ties_go_to_even),
		cmocka_unit_test(a_sum_rounds_once),
		cmocka_unit_test(what_is_only_written_is_not_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
