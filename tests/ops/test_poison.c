/*
 * test_poison.c - the poison backend bites: each bug that it promises to find is
 * committed here and found.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/backend_priv.h"
#include "cases.h"

static struct df_backend *be;

static void
fresh_memory_is_nan(void **state)
{
	struct df_tensor t = test_tensor(be, 3, 5, NULL), s = test_row(be, DF_F64, 1, NULL);
	float *v = test_values(be, t);
	double sum;

	(void)state;
	for (int i = 0; i < 15; i++)
		assert_true(isnan(v[i]));
	assert_int_equal(df_sumsq(be, t, s, NULL), DF_OK);
	assert_int_equal(df_download(be, &sum, s, NULL), DF_OK);
	assert_true(isnan(sum));
	free(v);
	df_tensor_free(be, &t);
	df_tensor_free(be, &s);
}

/* Slots with the bugs of a careless device kernel, in the place of scale, axpy and fill. */
static int
writes_before(struct df_backend *b, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)b;
	(void)err;
	df_tensor_f32(a->dst)[-1] = 0;
	return DF_OK;
}
static int
writes_its_input(struct df_backend *b, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)b;
	(void)err;
	df_tensor_f32(a->src)[0] = 0;
	return DF_OK;
}
static int
reads_its_output(struct df_backend *b, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)b;
	(void)err;
	df_tensor_f32(a->dst)[0] = df_tensor_f32(a->dst)[0] * 2;
	return DF_OK;
}
static int
runs_over_the_end(struct df_backend *b, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)b;
	(void)err;
	for (size_t i = 0; i < 64; i++)
		df_tensor_f32(a->dst)[i] = 0;
	return DF_OK;
}

static struct df_backend *
with_bug(enum df_op op, df_op_fn *bug)
{
	static df_op_fn *slots[DF_OP_COUNT];
	static struct df_backend_ops ops;
	struct df_backend *b = NULL;

	memcpy(slots, df_poison_backend.op, sizeof(slots));
	slots[op] = bug;
	ops = df_poison_backend;
	ops.op = slots;
	assert_int_equal(df_backend_open_ops(&b, &ops, "poison", NULL, NULL), DF_OK);
	return b;
}

static void
slack_is_guarded(void **state)
{
	struct df_backend *b = with_bug(DF_OP_SCALE, writes_before);
	struct df_tensor t = test_tensor(b, 3, 5, NULL);
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(df_scale(b, 2, t, &err), DF_EDEVICE);
	assert_non_null(strstr(err.msg, "outside its allocation"));
	df_tensor_free(b, &t);
	df_backend_close(b);
}

static void
outputs_hold_nothing(void **state)
{
	struct df_backend *b = with_bug(DF_OP_FILL, reads_its_output);
	float one[4] = { 1, 1, 1, 1 }, *v;
	struct df_tensor t = test_tensor(b, 1, 4, one);

	(void)state;
	assert_int_equal(df_fill(b, t, 0, NULL), DF_OK);
	v = test_values(b, t);
	assert_true(isnan(v[0]));
	free(v);
	df_tensor_free(b, &t);
	df_backend_close(b);
}

/* Run fn in a child process; true when it died of a bad memory access. */
static bool
faults(void (*fn)(struct df_backend *b, struct df_tensor t, struct df_tensor u), struct df_backend *b,
    struct df_tensor t, struct df_tensor u)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		signal(SIGSEGV, SIG_DFL); /* cmocka's and the sanitizers' handlers would report it */
		signal(SIGBUS, SIG_DFL);
		fn(b, t, u);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS);
}

static void
host_reads(struct df_backend *b, struct df_tensor t, struct df_tensor u)
{
	(void)b;
	(void)u;
	_exit(*(volatile char *)df_tensor_host(t) == 7);
}
static void
scale_it(struct df_backend *b, struct df_tensor t, struct df_tensor u)
{
	(void)u;
	_exit(df_scale(b, 2, t, NULL) == 7);
}
static void
add_it(struct df_backend *b, struct df_tensor t, struct df_tensor u)
{
	_exit(df_axpy(b, 2, t, u, NULL) == 7);
}

static void
bad_accesses_fault(void **state)
{
	struct df_backend *over = with_bug(DF_OP_SCALE, runs_over_the_end), *in;
	struct df_tensor t = test_tensor(over, 4, 4, NULL), u;
	float v[16] = { 0 };

	(void)state;
	assert_true(faults(scale_it, over, t, t));
	df_tensor_free(over, &t);
	df_backend_close(over);

	in = with_bug(DF_OP_AXPY, writes_its_input);
	t = test_tensor(in, 4, 4, v);
	u = test_tensor(in, 4, 4, v);
	assert_true(faults(add_it, in, t, u));
	assert_true(faults(host_reads, in, t, u));
	df_tensor_free(in, &t);
	df_tensor_free(in, &u);
	df_backend_close(in);
}

static void
bytes_are_counted(void **state)
{
	struct df_backend *b = test_backend("poison", NULL);
	struct df_tensor t = test_tensor(b, 10, 10, NULL), u = test_tensor(b, 5, 10, NULL);

	(void)state;
	df_tensor_free(b, &t);
	t = test_tensor(b, 1, 1, NULL);
	assert_int_equal(df_backend_peak_bytes(b), 600);
	assert_int_equal(atomic_load(&df_backend_root(b)->nbytes), 204);
	df_tensor_free(b, &t);
	df_tensor_free(b, &u);
	assert_int_equal(atomic_load(&df_backend_root(b)->nbytes), 0);
	df_tensor_free(b, &t); /* NONE by now */
	df_backend_close(b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fresh_memory_is_nan),
		cmocka_unit_test(slack_is_guarded),
		cmocka_unit_test(outputs_hold_nothing),
		cmocka_unit_test(bad_accesses_fault),
		cmocka_unit_test(bytes_are_counted),
	};
	int rc;

	be = test_backend("poison", NULL);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	df_backend_close(be);
	return rc;
}
