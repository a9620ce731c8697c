/*
 * test_emu.c - the tester is tested: each planted error is found, and what is right is neither changed nor reported.
 *
 * The same program is built plain, with ASan and with TSan (make check-race); each finds what it can.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "planted.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#define WITH_TSAN 0
#elif defined(DF_EMU_TSAN)
#define WITH_ASAN 0
#define WITH_TSAN 1
#else
#define WITH_ASAN 0
#define WITH_TSAN 0
#endif

/* emu.h is C++ */
void emu_set_seed(uint64_t seed);

static const uint64_t seeds[] = { 0, 1, 2, 3, 77 };
#define N_SEEDS (WITH_TSAN ? (size_t)2 : sizeof(seeds) / sizeof(*seeds))

#if WITH_TSAN
/* Names of functions cost a second for each report. */
const char *__tsan_default_options(void);
const char *
__tsan_default_options(void)
{
	return "symbolize=0:atexit_sleep_ms=0";
}
#endif

/* ---- runs in a child, whose standard error is read --------------------------------------------------------------- */

static char said[65536]; /* by the last child, its reports and a line "right", "wrong" or "error: ..." */

static void
in_child(void (*body)(const void *arg), const void *arg)
{
	int fd[2];
	pid_t pid;
	size_t n = 0;
	ssize_t r;
	int status;

	assert_int_equal(pipe(fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(fd[1], 2);
		close(fd[0]);
		signal(SIGSEGV, SIG_DFL); /* not cmocka's handler, which goes on with the next test */
		alarm(60);
		body(arg);
		_exit(0);
	}
	close(fd[1]);
	while (n + 1 < sizeof(said) && (r = read(fd[0], said + n, sizeof(said) - 1 - n)) > 0)
		n += (size_t)r;
	said[n] = '\0';
	while (n + 1 == sizeof(said) && read(fd[0], &(char[256]){ 0 }, 256) > 0)
		; /* the rest */
	close(fd[0]);
	assert_true(waitpid(pid, &status, 0) == pid);
	if (WIFSIGNALED(status))
		snprintf(said + n, sizeof(said) - n, "killed by signal %d\n", WTERMSIG(status));
}

struct run {
	enum planted what;
	bool error;
	uint64_t seed;
};

static void
run_planted(const void *arg)
{
	const struct run *r = arg;
	struct df_err err = DF_ERR_INIT;
	bool right = false;

	emu_set_seed(r->seed);
	if (planted_run(r->what, r->error, &right, &err) != DF_OK)
		dprintf(2, "error: %s\n", err.msg);
	else
		dprintf(2, "%s\n", right ? "right" : "wrong");
}

/* ---- planted errors ---------------------------------------------------------------------------------------------- */

#define RACE "WARNING: ThreadSanitizer: data race"
#define ASAN "ERROR: AddressSanitizer"
#define KILLED \
	"killed by signal 11" /* by the guard page: sanitizers have handlers of their own, cmocka took their place */

/* What must be said: plain (and with ASan, where that has nothing of its own), with ASan, with TSan. */
static const struct {
	const char *plain, *asan, *tsan;
	bool some; /* in one of the seeds at least, not in all: order decides */
} finds[N_PLANTED] = {
	[NO_BARRIER_AFTER_PARTS] = { "wrong", NULL, RACE },
	[SHARED_ARRAY_ONE_SHORT] = { "bytes behind its 508 of shared memory", ASAN, NULL },
	[DIVERGENT_BARRIER] = { "threads wait for each other", NULL, NULL },
	[NO_BARRIER_BEFORE_OVERWRITE] = { "wrong", NULL, RACE },
	[NO_ASYNC_WAIT] = { "wrong", NULL, NULL, .some = true },
	[NO_BARRIER_BEFORE_STAGE] = { "wrong", NULL, RACE, .some = true },
	[BLOCKS_WRITE_ONE_ELEMENT] = { "wrong", NULL, RACE },
	[NO_SYNC_WARP] = { "wrong", NULL, RACE },
	[SOURCE_CHANGED_EARLY] = { "wrong", NULL, NULL, .some = true },
	[GLOBAL_ARRAY_ONE_SHORT] = { "emulator: kernel shift, block (0,0,0), thread (127,0,0): fault at 512 bytes after the first "
				     "of an allocation of 512 bytes of the device",
	    KILLED, KILLED },
	[NEVER_WRITTEN] = { "wrong", NULL, NULL },
	[ENDED_LANE] = { "wrong", NULL, NULL },
	[LANES_IN_TWO_PLACES] = { "lanes of a warp meet in different places", NULL, NULL },
	[WARP_IN_TWO_PLACES] = { "threads wait for each other", NULL, NULL },
	[BARRIERS_IN_TWO_PLACES] = { "threads meet in different places", NULL, NULL },
	[MATRIX_NOT_ALIGNED] = { "the address is not a multiple of 16", NULL, NULL },
	[MATRIX_NOT_SHARED] = { "the address is not in shared memory", NULL, NULL },
	[COPY_NOT_ALIGNED] = { "an address is not a multiple of 16", NULL, NULL },
	[PRODUCT_OF_HALF_A_WARP] = { "a warp of fewer than 32 threads", NULL, NULL },
	[SHARED_STRUCT_TOO_BIG] = { "512 bytes of shared memory are used, the launch gave 128", NULL, NULL },
	[NO_ASYNC_FENCE] = { "no async_fence() after cp_async_wait()", NULL, NULL },
	[NO_WGMMA_FENCE] = { "no wgmma_fence() before", NULL, NULL },
	[SUMS_READ_EARLY] = { "wrong", NULL, NULL, .some = true },
	[OPERAND_CHANGED_EARLY] = { "wrong", NULL, RACE, .some = true },
	[OPERAND_NOT_AT_1024] = { "is not of rows of 128 bytes, swizzled, at a multiple of 1024", NULL, NULL },
};

static void
planted_errors_are_found(void **state)
{
	(void)state;
	for (int i = 0; i < N_PLANTED; i++) {
		const char *want = WITH_TSAN && finds[i].tsan ? finds[i].tsan
		    : WITH_ASAN && finds[i].asan              ? finds[i].asan
							      : finds[i].plain;
		size_t n = 0;

		for (size_t s = 0; s < N_SEEDS; s++) {
			in_child(run_planted, &(struct run){ (enum planted)i, true, seeds[s] });
			n += strstr(said, want) != NULL;
			if (!strstr(said, want) && !finds[i].some)
				print_message("# %s, seed %zu: %s\n", planted_name[i], (size_t)seeds[s], said);
		}
		if (n < (finds[i].some && !(WITH_TSAN && finds[i].tsan) ? 1 : N_SEEDS))
			fail_msg("%s: found with %zu of %zu seeds", planted_name[i], n, N_SEEDS);
	}
}

static void
what_is_right_is_not_reported(void **state)
{
	(void)state;
	for (int i = 0; i < N_PLANTED; i++)
		for (size_t s = 0; s < N_SEEDS; s++) {
			in_child(run_planted, &(struct run){ (enum planted)i, false, seeds[s] });
			if (strcmp(said, "right\n") != 0)
				fail_msg(
				    "%s, without its error, seed %zu: %s", planted_name[i], (size_t)seeds[s], said);
		}
}

/* ---- memory and streams ------------------------------------------------------------------------------------------ */

static struct df_err err;
#define OK(call)                                            \
	do {                                                \
		if ((call) != DF_OK)                        \
			fail_msg("%s: %s", #call, err.msg); \
	} while (0)

/* Two streams, two device arrays of N floats, two pinned ones. */
#define N     1000
#define BYTES (N * sizeof(float))
struct world {
	rt_stream_t s, t;
	rt_event_t e;
	float *x, *y;
	float *in, *out;
};

static void
world_new(struct world *w, uint64_t seed)
{
	emu_set_seed(seed);
	OK(rt_stream_new(&w->s, &err));
	OK(rt_stream_new(&w->t, &err));
	OK(rt_event_new(&w->e, &err));
	OK(rt_malloc((void **)&w->x, BYTES, &err));
	OK(rt_malloc((void **)&w->y, BYTES, &err));
	OK(rt_malloc_pinned((void **)&w->in, BYTES, &err));
	OK(rt_malloc_pinned((void **)&w->out, BYTES, &err));
	for (size_t i = 0; i < N; i++)
		w->in[i] = (float)i;
}

static void
world_free(struct world *w)
{
	rt_free(w->x);
	rt_free(w->y);
	rt_free_pinned(w->in);
	rt_free_pinned(w->out);
	rt_event_free(w->e);
	rt_stream_free(w->s);
	rt_stream_free(w->t);
}

static int
push(struct world *w, float *to, const float *from, rt_stream_t s)
{
	(void)w;
	return rt_to_device(to, BYTES, from, BYTES, BYTES, 1, s, &err);
}

static int
pull(struct world *w, float *to, const float *from, rt_stream_t s)
{
	(void)w;
	return rt_to_host(to, BYTES, from, BYTES, BYTES, 1, s, &err);
}

static bool
is_in_plus(const struct world *w, float more)
{
	for (size_t i = 0; i < N; i++)
		if (w->out[i] != (float)i + more)
			return false;
	return true;
}

/* In one stream all is in order; nothing is there before the wait. */
static void
a_stream_is_in_order(void **state)
{
	struct world w;

	(void)state;
	for (size_t i = 0; i < N_SEEDS; i++) {
		world_new(&w, seeds[i]);
		OK(push(&w, w.x, w.in, w.s));
		planted_add1(w.y, w.x, N, w.s);
		planted_add1(w.x, w.y, N, w.s);
		OK(pull(&w, w.out, w.x, w.s));
		assert_true(w.out[0] != w.out[0] && w.out[N - 1] != w.out[N - 1]);
		OK(rt_stream_wait(w.s, &err));
		assert_true(is_in_plus(&w, 2));
		world_free(&w);
	}
}

/* Between streams only events are an order: with one the result is right; without, wrong under some seed. */
static void
events_order_streams(void **state)
{
	struct world w;
	size_t n_wrong = 0;

	(void)state;
	for (int with = 0; with < 2; with++)
		for (size_t i = 0; i < N_SEEDS; i++) {
			world_new(&w, seeds[i]);
			OK(push(&w, w.x, w.in, w.s));
			planted_add1(w.x, w.x, N, w.s);
			OK(rt_event_record(w.e, w.s, &err));
			if (with)
				OK(rt_stream_after(w.t, w.e, &err));
			planted_add1(w.y, w.x, N, w.t);
			OK(pull(&w, w.out, w.y, w.t));
			/* recorded again: who waits for it waits for the first time still */
			OK(rt_event_record(w.e, w.t, &err));
			OK(rt_event_wait(w.e, &err));
			if (with)
				assert_true(is_in_plus(&w, 2));
			else
				n_wrong += !is_in_plus(&w, 2);
			world_free(&w);
		}
	assert_true(n_wrong > 0);
}

static void
rows_are_copied_by_pitch(void **state)
{
	float host[6] = { 0, 1, 2, 3, 4, 5 }, back[6] = { 9, 9, 9, 9, 9, 9 };
	struct world w;

	(void)state;
	world_new(&w, 0);
	OK(rt_to_device(w.x, 12, host, 8, 8, 3, w.s, &err));
	OK(rt_to_host(back, 8, w.x, 12, 8, 2, w.s, &err));
	assert_memory_equal(back, host, 16);
	assert_true(back[4] == 9);
	OK(rt_to_host(back, 8, w.x + 2, 12, 4, 1, w.s, &err)); /* between two rows nothing was written */
	assert_true(back[0] != back[0]);
	assert_int_equal(rt_to_device(w.x, 8, host, 8, 12, 2, w.s, &err), DF_EDEVICE);
	assert_int_equal(rt_to_device(w.x + N, 8, host, 8, 8, 1, w.s, &err), DF_EDEVICE);
	assert_int_equal(rt_to_host(back, 8, host, 8, 8, 1, w.s, &err), DF_EDEVICE);
	world_free(&w);
}

static void
pinned_memory_is_watched(void **state)
{
	struct world w;

	(void)state;
	for (size_t i = 0; i < N_SEEDS; i++) {
		world_new(&w, seeds[i]);
		OK(push(&w, w.x, w.in, w.s));
		w.in[N - 1] = 0;
		assert_int_equal(rt_stream_wait(w.s, &err), DF_EDEVICE);
		assert_non_null(strstr(err.msg, "changed pinned memory before it was copied"));
		OK(rt_stream_wait(w.s, &err)); /* said once */
		OK(pull(&w, w.out, w.x, w.s));
		w.out[3] = 1;
		assert_int_equal(rt_stream_wait(w.s, &err), DF_EDEVICE);
		assert_non_null(strstr(err.msg, "wrote to pinned memory that a copy from the device"));
		/* there and back and there again in one stream is in order */
		w.in[N - 1] = N - 1;
		OK(push(&w, w.x, w.in, w.s));
		planted_add1(w.x, w.x, N, w.s);
		OK(pull(&w, w.in, w.x, w.s));
		OK(push(&w, w.y, w.in, w.s));
		OK(pull(&w, w.out, w.y, w.s));
		OK(rt_stream_wait(w.s, &err));
		assert_true(is_in_plus(&w, 1));
		world_free(&w);
	}
}

static void
touch_device(const void *arg)
{
	struct world w;

	(void)arg;
	world_new(&w, 0);
	OK(push(&w, w.x, w.in, w.s));
	OK(rt_stream_wait(w.s, &err));
	dprintf(2, "before\n");
	w.x[2] = 1;
	dprintf(2, "after\n");
}

static void
the_host_cannot_touch_device_memory(void **state)
{
	(void)state;
	in_child(touch_device, NULL);
	assert_non_null(strstr(said, "before\n"));
	assert_null(strstr(said, "after\n"));
	if (!WITH_ASAN && !WITH_TSAN)
		assert_non_null(
		    strstr(said, "not in a kernel: fault at 8 bytes after the first of an allocation of 4000 bytes"));
}

/* A few bytes beyond an allocation, where no guard page is. */
static void
write_beyond(const void *arg)
{
	struct world w;

	(void)arg;
	world_new(&w, 0);
	OK(push(&w, w.x, w.in, w.s));
	OK(rt_malloc((void **)&w.y, 20, &err));
	planted_add1(w.y, w.x, 6, w.s);
	if (rt_stream_wait(w.s, &err) != DF_OK)
		dprintf(2, "%s\n", err.msg);
}

static void
bytes_beside_allocations_are_watched(void **state)
{
	(void)state;
	in_child(write_beyond, NULL);
	assert_non_null(strstr(said, WITH_ASAN ? ASAN : "bytes beside an allocation of 20 bytes"));
}

static void
limits_are_errors(void **state)
{
	static const struct {
		size_t blocks, threads, shared;
		const char *want;
	} bad[] = {
		{ 0, 32, 0, "a grid of (0,1,1) blocks" },
		{ (size_t)1 << 31, 32, 0, "a grid of (2147483648,1,1) blocks" },
		{ 1, 0, 0, "a block of (0,1,1) threads" },
		{ 1, 1025, 0, "a block of (1025,1,1) threads" },
		{ 1, 32, 227 * 1024 + 1, "232449 bytes of shared memory in a block; there are 232448" },
	};
	struct world w;

	(void)state;
	world_new(&w, 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		planted_size(bad[i].blocks, bad[i].threads, bad[i].shared, w.s);
		assert_int_equal(rt_last_error("size", &err), DF_EDEVICE);
		assert_non_null(strstr(err.msg, bad[i].want));
		assert_true(strncmp(err.msg, "size: kernel nothing: ", 22) == 0);
		OK(rt_last_error("size", &err));
	}
	planted_size(1, 1024, 227 * 1024, w.s);
	OK(rt_last_error("size", &err));
	OK(rt_stream_wait(w.s, &err));
	world_free(&w);
}

static void
memory_ends(void **state)
{
	struct rt_device d;
	size_t before, after;
	void *p;

	(void)state;
	OK(rt_device(0, &d, &err));
	assert_true(d.emulated);
	OK(rt_memory(&before, &err));
	OK(rt_malloc(&p, 1000, &err));
	assert_int_equal((uintptr_t)p % 256, 0);
	OK(rt_memory(&after, &err));
	assert_int_equal(before - after, 1000);
	rt_free(p);
	assert_int_equal(rt_malloc(&p, d.memory_bytes + 1, &err), DF_ENOMEM);
	assert_int_equal(rt_malloc(&p, SIZE_MAX, &err), DF_ENOMEM);
	assert_int_equal(rt_device(1, &d, &err), DF_EDEVICE);
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

static float
of_bits(uint32_t bits)
{
	float x;

	memcpy(&x, &bits, 4);
	return x;
}

/* Fragments are where PTX says: a product of small integers is exact. */
static void
products_are_right(void **state)
{
	static const int k = 16, m = 16, n = 8;
	uint16_t a[16 * 16 + 16 * 8];
	float d[16 * 8];
	void *da, *dd;

	(void)state;
	for (size_t i = 0; i < sizeof(a) / sizeof(*a); i++) {
		const float v = (float)(i * 37 % 23) - 11;
		uint32_t bits;

		memcpy(&bits, &v, 4);
		a[i] = (uint16_t)(bits >> 16);
	}
	OK(rt_malloc(&da, sizeof(a), &err));
	OK(rt_malloc(&dd, sizeof(d), &err));
	OK(rt_to_device(da, 1, a, 1, sizeof(a), 1, NULL, &err));
	planted_product(dd, da, (uint16_t *)da + m * k, NULL);
	OK(rt_to_host(d, 1, dd, 1, sizeof(d), 1, NULL, &err));
	for (int i = 0; i < m; i++)
		for (int j = 0; j < n; j++) {
			float sum = 0;

			for (int l = 0; l < k; l++)
				sum += of_bits((uint32_t)a[i * k + l] << 16) *
				    of_bits((uint32_t)a[m * k + l * n + j] << 16);
			assert_true(d[i * n + j] == sum);
		}
	rt_free(da);
	rt_free(dd);
}

/* The nearest of all 16-bit values, the even one of two that are equally near. */
static uint16_t
nearest(float x, bool bf16, const float *values)
{
	const uint16_t sign = x < 0 ? 0x8000 : 0, inf = bf16 ? 0x7f80 : 0x7c00;
	uint16_t lo = 0, hi = inf; /* values[lo] <= |x| <= values[hi] */
	const double a = x < 0 ? -(double)x : x;
	double below, above;

	while (hi - lo > 1) {
		const uint16_t mid = (uint16_t)((lo + hi) / 2);

		if (values[mid] <= a)
			lo = mid;
		else
			hi = mid;
	}
	below = a - (double)values[lo];
	/* what infinity stands for: the number that would come next */
	above = (hi == inf ? 2 * (double)values[inf - 1] - (double)values[inf - 2] : (double)values[hi]) - a;
	return (uint16_t)(sign | (below < above || (below == above && lo % 2 == 0) ? lo : hi));
}

static void
roundings_are_to_nearest_even(void **state)
{
	enum { COUNT = 20000 };
	static float x[COUNT], bf16[0x8000], f16[0x8000];
	static uint16_t b[COUNT], h[COUNT];
	uint32_t bits = 12345;
	void *dx, *db, *dh;

	(void)state;
	for (uint32_t i = 0; i < 0x8000; i++) {
		bf16[i] = of_bits(i << 16);
		f16[i] = (float)((double)(i < 0x400 ? i : (i & 0x3ff) + 0x400) *
		    (i < 0x400 ? 1 : (double)(1u << ((i >> 10) - 1))) / (1 << 24));
	}
	for (size_t i = 0; i < COUNT; i++) {
		bits = bits * 1664525 + 1013904223;
		x[i] = of_bits(i % 2 ? bits : (bits & 0x8fffffff) | 0x30000000); /* half of them in f16's range */
		if (i % 8 == 0)
			x[i] = of_bits((bits & 0xffffe000) | 0x1000); /* ties of f16 */
		if (i % 8 == 2)
			x[i] = of_bits((bits & 0xffff0000) | 0x8000); /* and of bf16 */
		if (x[i] != x[i])
			x[i] = 0;
	}
	OK(rt_malloc(&dx, sizeof(x), &err));
	OK(rt_malloc(&db, sizeof(b), &err));
	OK(rt_malloc(&dh, sizeof(h), &err));
	OK(rt_to_device(dx, 1, x, 1, sizeof(x), 1, NULL, &err));
	planted_round(db, dh, dx, COUNT, NULL);
	OK(rt_to_host(b, 1, db, 1, sizeof(b), 1, NULL, &err));
	OK(rt_to_host(h, 1, dh, 1, sizeof(h), 1, NULL, &err));
	for (size_t i = 0; i < COUNT; i++) {
		if ((b[i] & 0x7fff) != (nearest(x[i], true, bf16) & 0x7fff))
			fail_msg("bf16 of %a: %x, not %x", (double)x[i], b[i], nearest(x[i], true, bf16));
		if ((h[i] & 0x7fff) != (nearest(x[i], false, f16) & 0x7fff))
			fail_msg("f16 of %a: %x, not %x", (double)x[i], h[i], nearest(x[i], false, f16));
		assert_int_equal(b[i] >> 15, x[i] < 0 || (x[i] == 0 && 1 / x[i] < 0));
		assert_int_equal(h[i] >> 15, b[i] >> 15);
	}
	rt_free(dx);
	rt_free(db);
	rt_free(dh);
}

/* Any number of threads and blocks gives the sums. */
static void
sums_are_right(void **state)
{
	static const size_t shape[][2] = { { 1, 32 }, { 3, 1024 }, { 40, 256 }, { 7, 96 } };
	static float x[40 * 1024], y[64];
	void *dx, *dy;

	(void)state;
	for (size_t i = 0; i < sizeof(x) / sizeof(*x); i++)
		x[i] = (float)(i * 7 % 31);
	OK(rt_malloc(&dx, sizeof(x), &err));
	OK(rt_malloc(&dy, sizeof(y), &err));
	OK(rt_to_device(dx, 1, x, 1, sizeof(x), 1, NULL, &err));
	for (size_t k = 0; k < 4 * N_SEEDS; k++) {
		const size_t blocks = shape[k % 4][0], threads = shape[k % 4][1];

		emu_set_seed(seeds[k / 4]);
		planted_sums(dy, dx, blocks, threads, NULL);
		OK(rt_to_host(y, 1, dy, 1, sizeof(y), 1, NULL, &err));
		for (size_t b = 0; b < blocks; b++) {
			float sum = 0;

			for (size_t i = 0; i < threads; i++)
				sum += x[b * threads + i];
			assert_true(y[b] == sum);
		}
	}
	rt_free(dx);
	rt_free(dy);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(planted_errors_are_found),
		cmocka_unit_test(what_is_right_is_not_reported),
		cmocka_unit_test(a_stream_is_in_order),
		cmocka_unit_test(events_order_streams),
		cmocka_unit_test(rows_are_copied_by_pitch),
		cmocka_unit_test(pinned_memory_is_watched),
		cmocka_unit_test(the_host_cannot_touch_device_memory),
		cmocka_unit_test(bytes_beside_allocations_are_watched),
		cmocka_unit_test(limits_are_errors),
		cmocka_unit_test(memory_ends),
		cmocka_unit_test(products_are_right),
		cmocka_unit_test(roundings_are_to_nearest_even),
		cmocka_unit_test(sums_are_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
