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
#include <string.h>

#include "backend/backend_priv.h"
#include "base/mem.h"
#include "base/rng.h"
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
	const char *plugin = getenv("DF_CUDA_PLUGIN");
	char *ours = plugin ? strdup(plugin) : NULL;

	(void)state;
	ops.api_version++;
	assert_int_equal(df_backend_open_ops(&be, &ops, "x", NULL, &err), DF_EDEVICE);
	assert_null(be);
	setenv("DF_CUDA_PLUGIN", "/nowhere/df-cuda.so", 1);
	assert_int_equal(df_backend_open(&be, "cuda:0", NULL, &err), DF_EUNSUPPORTED);
	assert_int_equal(df_backend_open(&be, "toaster", NULL, &err), DF_EUSAGE);
	assert_null(be);
	if (ours)
		setenv("DF_CUDA_PLUGIN", ours, 1);
	else
		unsetenv("DF_CUDA_PLUGIN");
	free(ours);
}

/* Fill t with numbers from -1 to 1. */
static void
fill_random(struct df_backend *b, struct df_tensor t, uint32_t substream)
{
	const size_t n = df_tensor_numel(t);
	float *x = NULL;

	assert_int_equal(df_alloc(&x, n, sizeof(*x), "x", NULL), DF_OK);
	for (size_t i = 0; i < n; i++)
		x[i] = (float)(2 * df_rng_uniform(9, DF_RNG_INIT, substream, i) - 1);
	assert_int_equal(df_upload(b, t, x, NULL), DF_OK);
	free(x);
}

static void
assert_same(struct df_backend *b, struct df_tensor x, struct df_tensor y)
{
	const size_t n = df_tensor_numel(x);
	float *u = NULL, *v = NULL;

	assert_int_equal(df_alloc(&u, n, sizeof(*u), "x", NULL), DF_OK);
	assert_int_equal(df_alloc(&v, n, sizeof(*v), "y", NULL), DF_OK);
	assert_int_equal(df_download(b, u, x, NULL), DF_OK);
	assert_int_equal(df_download(b, v, y, NULL), DF_OK);
	assert_memory_equal(u, v, n * sizeof(*u));
	free(u);
	free(v);
}

/* A backward from the logits that the forward left has the bits of one that computes them again; several tiles. */
static void
logits_may_be_kept(struct df_backend *b, size_t rows, size_t vocab)
{
	enum { D = 8 };
	struct df_tensor f32[10] = { DF_TENSOR_NONE }, target = DF_TENSOR_NONE;
	const struct {
		size_t rows, cols;
	} shape[10] = { { rows, D }, { vocab, D }, { 1, rows }, { 1, rows }, { 1, rows }, { rows, D }, { rows, D },
		{ vocab, D }, { vocab, D }, { rows, vocab } };
	uint32_t *ids = NULL;
	struct df_xent a;

	for (size_t i = 0; i < 10; i++)
		assert_int_equal(
		    df_tensor_alloc(b, &f32[i], DF_F32, shape[i].rows, shape[i].cols, "a tensor", NULL), DF_OK);
	assert_int_equal(df_tensor_alloc(b, &target, DF_U32, 1, rows, "targets", NULL), DF_OK);
	assert_int_equal(df_alloc(&ids, rows, sizeof(*ids), "ids", NULL), DF_OK);
	for (size_t i = 0; i < rows; i++)
		ids[i] = (uint32_t)(i * 7919 % vocab);
	assert_int_equal(df_upload(b, target, ids, NULL), DF_OK);
	fill_random(b, f32[0], 1);
	fill_random(b, f32[1], 2);
	fill_random(b, f32[4], 3);
	fill_random(b, f32[7], 4);
	fill_random(b, f32[8], 4);
	a = (struct df_xent){ .h = f32[0], .w = f32[1], .target = target, .nll = f32[2], .lse = f32[3] };
	assert_int_equal(df_xent_fwd(b, &a, NULL), DF_OK);
	a.scale = f32[4];
	a.dh = f32[5];
	a.dw = f32[7];
	assert_int_equal(df_xent_bwd(b, &a, NULL), DF_OK);
	a.logits = f32[9];
	assert_int_equal(df_xent_fwd(b, &a, NULL), DF_OK);
	a.dh = f32[6];
	a.dw = f32[8];
	assert_int_equal(df_xent_bwd(b, &a, NULL), DF_OK);
	assert_same(b, f32[5], f32[6]);
	assert_same(b, f32[7], f32[8]);
	a.dlogits = f32[9];
	assert_int_equal(df_xent_bwd(b, &a, NULL), DF_EINTERNAL);
	for (size_t i = 0; i < 10; i++)
		df_tensor_free(b, &f32[i]);
	df_tensor_free(b, &target);
	free(ids);
}

static void
kept_logits(void **state)
{
	struct df_backend *be = test_backend(NULL, NULL), *ref = test_backend("reference", NULL);
	struct df_tensor t = DF_TENSOR_NONE;
	struct df_xent a;

	(void)state;
	if (df_backend_traits(be).keeps_logits) {
		logits_may_be_kept(be, 5, 77);
		logits_may_be_kept(be, 600, 2051); /* three tiles */
	}
	/* Where they are not kept, a forward that is to keep them is an error. */
	assert_false(df_backend_traits(ref).keeps_logits);
	assert_int_equal(df_tensor_alloc(ref, &t, DF_F32, 1, 1, "t", NULL), DF_OK);
	a = (struct df_xent){ .h = t, .w = t, .target = t, .nll = t, .logits = t };
	assert_int_equal(df_xent_fwd(ref, &a, NULL), DF_EUNSUPPORTED);
	df_tensor_free(ref, &t);
	df_backend_close(be);
	df_backend_close(ref);
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
		cmocka_unit_test(kept_logits),
	};

	cmocka_set_test_filter(getenv("DF_TEST_ONLY")); /* make check-race: one pass of the table is enough there */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
