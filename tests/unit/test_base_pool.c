/*
 * test_base_pool.c - the parallel loop and the pipeline: everything runs once,
 * order is kept, errors and signals end the flow as promised.  Also run under TSan.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/pool.h"
#include "base/rng.h"
#include "base/stop.h"

#define N 10000

static void
nap(uint32_t usecs)
{
	struct timespec t = { 0, (long)usecs * 1000 };

	nanosleep(&t, NULL);
}

struct loop {
	_Atomic int hits[N];
	_Atomic int inside[16]; /* by worker: two tasks of one worker number must not overlap */
	_Atomic int bad;
	int size;
};

static void
count_hit(void *ctx, size_t i, int worker)
{
	struct loop *l = ctx;

	if (worker < 0 || worker >= l->size || atomic_fetch_add(&l->inside[worker], 1) != 0)
		atomic_fetch_add(&l->bad, 1);
	atomic_fetch_add(&l->hits[i], 1);
	atomic_fetch_sub(&l->inside[worker], 1);
}

static void
loop_runs_every_index_once(void **state)
{
	static const int sizes[] = { 1, 2, 3, 8 };

	(void)state;
	for (size_t s = 0; s < 4; s++) {
		struct df_pool *p = NULL;
		struct df_err err = DF_ERR_INIT;
		struct loop *l = calloc(1, sizeof(*l));

		assert_int_equal(df_pool_new(&p, sizes[s], &err), DF_OK);
		assert_int_equal(df_pool_size(p), sizes[s]);
		l->size = sizes[s];
		for (int round = 1; round <= 20; round++) {
			/* Now and then long enough a pause for the helpers to fall asleep. */
			if (round % 5 == 0)
				nap(2000);
			df_pool_for(p, N, count_hit, l);
			for (int i = 0; i < N; i++)
				assert_int_equal(l->hits[i], round);
		}
		assert_int_equal(l->bad, 0);
		df_pool_for(p, 0, count_hit, l);
		free(l);
		df_pool_free(p);
	}
	df_pool_free(NULL);
}

static void
many_short_loops(void **state)
{
	struct df_pool *p = NULL;
	struct df_err err = DF_ERR_INIT;
	struct loop *l = calloc(1, sizeof(*l));

	(void)state;
	assert_int_equal(df_pool_new(&p, 4, &err), DF_OK);
	l->size = 4;
	for (int round = 1; round <= 20000; round++)
		df_pool_for(p, 1 + (size_t)round % 7, count_hit, l);
	assert_int_equal(l->hits[0], 20000);
	assert_int_equal(l->bad, 0);
	df_pool_free(p);
	free(l);
}

static void
null_pool_runs_in_place(void **state)
{
	struct loop *l = calloc(1, sizeof(*l));

	(void)state;
	l->size = 1;
	df_pool_for(NULL, N, count_hit, l);
	assert_int_equal(l->hits[N - 1], 1);
	assert_int_equal(l->bad, 0);
	assert_int_equal(df_pool_size(NULL), 1);
	free(l);
}

struct large {
	struct df_pool *pool;
	size_t first_last; /* the first of the tasks that all threads share */
	_Atomic int hits[16], inside[16], bad;
};

struct part {
	struct large *l;
	size_t task;
	pthread_t caller;
};

/* Two of these meet in two threads, where the task is one of the last; else both are in the task's own. */
static void
part_of_task(void *ctx, size_t i, int worker)
{
	struct part *q = ctx;
	_Atomic int *inside = &q->l->inside[q->task];

	(void)i;
	(void)worker;
	atomic_fetch_add(inside, 1);
	if (q->task < q->l->first_last && !pthread_equal(pthread_self(), q->caller))
		atomic_fetch_add(&q->l->bad, 1);
	for (int ms = 0; q->task >= q->l->first_last && atomic_load(inside) < 2; ms++) {
		if (ms == 10000) {
			atomic_fetch_add(&q->l->bad, 1);
			return;
		}
		nap(1000);
	}
}

static void
large_task(void *ctx, size_t i, int worker)
{
	struct large *l = ctx;
	struct part q = { l, i, pthread_self() };

	atomic_fetch_add(&l->hits[i], 1);
	if (worker < 0 || worker >= df_pool_size(l->pool) || (i >= l->first_last && worker != 0))
		atomic_fetch_add(&l->bad, 1);
	df_pool_for(l->pool, 2, part_of_task, &q);
}

static void
the_last_large_tasks_share_all_threads(void **state)
{
	static const struct {
		int threads;
		size_t n, last;
	} cases[] = { { 1, 3, 0 }, { 2, 1, 1 }, { 2, 4, 0 }, { 2, 5, 1 }, { 3, 2, 0 }, { 4, 2, 2 }, { 4, 3, 0 },
		{ 4, 9, 1 } };

	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct large l = { .first_last = cases[c].n - cases[c].last };
		struct df_err err = DF_ERR_INIT;

		assert_int_equal(df_pool_last(cases[c].n, cases[c].threads), cases[c].last);
		assert_int_equal(df_pool_new(&l.pool, cases[c].threads, &err), DF_OK);
		df_pool_for_large(l.pool, cases[c].n, large_task, &l);
		for (size_t i = 0; i < 16; i++)
			assert_int_equal(l.hits[i], i < cases[c].n);
		assert_int_equal(l.bad, 0);
		df_pool_free(l.pool);
	}
}

struct nest {
	struct df_pool *pool, *other;
	_Atomic int sum, bad;
	int worker[8]; /* of each outer task: written by it, read by its inner ones in the same thread */
};

struct inner {
	struct nest *n;
	int worker;
	pthread_t thread;
};

static void
inner_task(void *ctx, size_t i, int worker)
{
	struct inner *in = ctx;

	if (worker != in->worker || !pthread_equal(pthread_self(), in->thread))
		atomic_fetch_add(&in->n->bad, 1);
	atomic_fetch_add(&in->n->sum, (int)i);
}

static void
outer_task(void *ctx, size_t i, int worker)
{
	struct nest *n = ctx;
	struct inner in = { n, worker, pthread_self() };

	(void)i;
	df_pool_for(n->pool, 10, inner_task, &in);
	df_pool_for(n->other, 10, inner_task, &in);
	in.worker = 0;
	df_pool_for(NULL, 10, inner_task, &in);
}

static void
nested_loops_run_in_place_with_the_same_worker(void **state)
{
	struct nest n = { .sum = 0 };
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(df_pool_new(&n.pool, 4, &err), DF_OK);
	assert_int_equal(df_pool_new(&n.other, 4, &err), DF_OK);
	df_pool_for(n.pool, 200, outer_task, &n);
	assert_int_equal(n.sum, 200 * 3 * 45);
	assert_int_equal(n.bad, 0);
	df_pool_free(n.pool);
	df_pool_free(n.other);
}

struct caller {
	struct df_pool *pool;
	struct loop *loop;
};

static void *
call_often(void *arg)
{
	struct caller *c = arg;

	for (int i = 0; i < 50; i++)
		df_pool_for(c->pool, 500, count_hit, c->loop);
	return NULL;
}

static void
two_callers_take_turns(void **state)
{
	struct caller c = { NULL, calloc(1, sizeof(struct loop)) };
	struct df_err err = DF_ERR_INIT;
	pthread_t other;

	(void)state;
	assert_int_equal(df_pool_new(&c.pool, 3, &err), DF_OK);
	c.loop->size = 3;
	assert_int_equal(pthread_create(&other, NULL, call_often, &c), 0);
	call_often(&c);
	pthread_join(other, NULL);
	for (int i = 0; i < 500; i++)
		assert_int_equal(c.loop->hits[i], 100);
	assert_int_equal(c.loop->bad, 0);
	df_pool_free(c.pool);
	free(c.loop);
}

static void
threads_default_obeys_the_environment(void **state)
{
	int all;

	(void)state;
	unsetenv("DF_THREADS");
	unsetenv("SLURM_CPUS_PER_TASK");
	all = df_threads_default();
	assert_true(all >= 1 && all <= sysconf(_SC_NPROCESSORS_ONLN));
	setenv("SLURM_CPUS_PER_TASK", "1", 1);
	assert_int_equal(df_threads_default(), 1);
	/* A cap, not a wish: Slurm's number never raises what the mask allows. */
	setenv("SLURM_CPUS_PER_TASK", "4000", 1);
	assert_int_equal(df_threads_default(), all);
	setenv("DF_THREADS", "7", 1);
	assert_int_equal(df_threads_default(), 7);
	setenv("DF_THREADS", "lots", 1);
	assert_int_equal(df_threads_default(), all);
	unsetenv("DF_THREADS");
	unsetenv("SLURM_CPUS_PER_TASK");
}

static void
malformed_thread_numbers_are_named(void **state)
{
	static const char *const bad[] = { "lots", "0", "-1", "4097", "2x", " 2", "99999999999999999999" };
	struct df_err err = DF_ERR_INIT;
	int64_t n = -1;

	(void)state;
	unsetenv("DF_THREADS");
	assert_int_equal(df_threads_env(&n, &err), DF_OK);
	assert_int_equal(n, 0);
	setenv("DF_THREADS", "", 1);
	assert_int_equal(df_threads_env(&n, &err), DF_OK);
	assert_int_equal(n, 0);
	setenv("DF_THREADS", "4096", 1);
	assert_int_equal(df_threads_env(&n, &err), DF_OK);
	assert_int_equal(n, 4096);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv("DF_THREADS", bad[i], 1);
		assert_int_equal(df_threads_env(&n, &err), DF_EUSAGE);
		assert_non_null(strstr(err.msg, "DF_THREADS: "));
		assert_non_null(strstr(err.msg, bad[i]));
	}
	unsetenv("DF_THREADS");
}

/* --- the pipeline: numbers go in, their squares come out ---------------------------------------------------------- */

struct batch {
	uint64_t seq, value;
};

struct job {
	uint64_t n; /* batches to read */
	int n_threads;
	uint64_t next, n_written;
	int64_t fail_read, fail_work[2], fail_write; /* at these, -1: never */
	int64_t stop_at;
	_Atomic int readers, writers, bad, in_flight, most_in_flight;
	_Atomic int lane[16];
};

static int
job_read(void *ctx, void *batch, struct df_err *err)
{
	struct job *j = ctx;
	struct batch *b = batch;
	int flying;

	if (atomic_fetch_add(&j->readers, 1) != 0)
		atomic_fetch_add(&j->bad, 1);
	atomic_fetch_sub(&j->readers, 1);
	if ((int64_t)j->next == j->fail_read)
		return df_fail(err, DF_EFORMAT, "read %d", (int)j->next);
	if ((int64_t)j->next == j->stop_at)
		raise(SIGTERM);
	if (j->next == j->n)
		return 0;
	flying = atomic_fetch_add(&j->in_flight, 1) + 1;
	if (flying > atomic_load(&j->most_in_flight))
		atomic_store(&j->most_in_flight, flying);
	b->seq = j->next++;
	b->value = 0;
	return 1;
}

static int
job_work(void *ctx, void *batch, int worker, struct df_err *err)
{
	struct job *j = ctx;
	struct batch *b = batch;
	uint32_t w[4];

	if (worker < 0 || worker >= j->n_threads || atomic_fetch_add(&j->lane[worker], 1) != 0)
		atomic_fetch_add(&j->bad, 1);
	/* Uneven work, so that batches overtake one another. */
	df_rng_words(5, 0, 0, b->seq, w);
	nap(w[0] % 200);
	b->value = b->seq * b->seq;
	atomic_fetch_sub(&j->lane[worker], 1);
	if ((int64_t)b->seq == j->fail_work[0] || (int64_t)b->seq == j->fail_work[1])
		return df_fail(err, DF_ERANGE, "work %d", (int)b->seq);
	return DF_OK;
}

static int
job_write(void *ctx, void *batch, struct df_err *err)
{
	struct job *j = ctx;
	struct batch *b = batch;

	if (atomic_fetch_add(&j->writers, 1) != 0 || b->seq != j->n_written || b->value != b->seq * b->seq)
		atomic_fetch_add(&j->bad, 1);
	atomic_fetch_sub(&j->writers, 1);
	atomic_fetch_sub(&j->in_flight, 1);
	if ((int64_t)b->seq == j->fail_write)
		return df_fail(err, DF_EIO, "write %d", (int)b->seq);
	j->n_written++;
	return DF_OK;
}

static int
run(struct job *j, int n_threads, int n_batches, struct df_err *err)
{
	struct batch store[16];
	void *batches[16];
	struct df_pipeline pl = { job_read, job_work, job_write, j, batches, n_batches, n_threads };

	for (int i = 0; i < 16; i++)
		batches[i] = &store[i];
	j->n_threads = n_threads;
	*err = (struct df_err)DF_ERR_INIT;
	return df_pipeline_run(&pl, err);
}

#define JOB(count)                                                                                      \
	{                                                                                               \
		.n = (count), .fail_read = -1, .fail_work = { -1, -1 }, .fail_write = -1, .stop_at = -1 \
	}

static void
pipeline_keeps_order(void **state)
{
	(void)state;
	for (int threads = 1; threads <= 8; threads *= 2) {
		for (int batches = 1; batches <= threads + 2; batches += threads) {
			struct job j = JOB(200);
			struct df_err err;

			assert_int_equal(run(&j, threads, batches, &err), DF_OK);
			assert_int_equal(j.n_written, 200);
			assert_int_equal(j.bad, 0);
			assert_true(j.most_in_flight <= batches);
		}
	}
}

static void
pipeline_of_nothing(void **state)
{
	struct job j = JOB(0);
	struct df_err err;

	(void)state;
	assert_int_equal(run(&j, 3, 5, &err), DF_OK);
	assert_int_equal(j.n_written, 0);
}

static void
pipeline_errors_keep_what_came_before(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		struct df_err err;
		struct job r = JOB(100), w = JOB(100), two = JOB(100), out = JOB(100), first = JOB(100);

		r.fail_read = 37;
		assert_int_equal(run(&r, 4, 6, &err), DF_EFORMAT);
		assert_string_equal(err.msg, "read 37");
		assert_int_equal(r.n_written, 37);

		w.fail_work[0] = 41;
		assert_int_equal(run(&w, 4, 6, &err), DF_ERANGE);
		assert_string_equal(err.msg, "work 41");
		assert_int_equal(w.n_written, 41);

		/* Of two that fail at about the same time, the earlier in order is told of, every time. */
		two.fail_work[0] = 50;
		two.fail_work[1] = 51;
		assert_int_equal(run(&two, 4, 6, &err), DF_ERANGE);
		assert_string_equal(err.msg, "work 50");
		assert_int_equal(two.n_written, 50);

		out.fail_write = 10;
		out.fail_work[0] = 12;
		assert_int_equal(run(&out, 4, 6, &err), DF_EIO);
		assert_string_equal(err.msg, "write 10");
		assert_int_equal(out.n_written, 10);

		first.fail_read = 0;
		assert_int_equal(run(&first, 2, 4, &err), DF_EFORMAT);
		assert_int_equal(first.n_written, 0);
		assert_int_equal(r.bad + w.bad + two.bad + out.bad + first.bad, 0);
	}
}

static void
sum_task(void *ctx, size_t i, int worker)
{
	(void)worker;
	atomic_fetch_add((_Atomic int *)ctx, (int)i);
}

static struct df_pool *shared_pool;

static int
work_with_pool(void *ctx, void *batch, int worker, struct df_err *err)
{
	_Atomic int sum = 0;

	df_pool_for(shared_pool, 100, sum_task, &sum);
	if (sum != 4950)
		return df_fail(err, DF_EINTERNAL, "sum %d", sum);
	return job_work(ctx, batch, worker, err);
}

static void
pipeline_work_may_use_a_pool(void **state)
{
	struct job j = JOB(50);
	struct batch store[6];
	void *batches[6];
	struct df_pipeline pl = { job_read, work_with_pool, job_write, &j, batches, 6, 4 };
	struct df_err err = DF_ERR_INIT;

	(void)state;
	for (int i = 0; i < 6; i++)
		batches[i] = &store[i];
	j.n_threads = 4;
	assert_int_equal(df_pool_new(&shared_pool, 4, &err), DF_OK);
	assert_int_equal(df_pipeline_run(&pl, &err), DF_OK);
	assert_int_equal(j.n_written, 50);
	assert_int_equal(j.bad, 0);
	df_pool_free(shared_pool);
}

static void
pipeline_without_work_or_write(void **state)
{
	struct job j = JOB(20);
	struct batch store[3];
	void *batches[3] = { &store[0], &store[1], &store[2] };
	struct df_pipeline pl = { .read = job_read, .ctx = &j, .batches = batches, .n_batches = 3, .n_threads = 1 };
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(df_pipeline_run(&pl, &err), DF_OK);
	assert_int_equal(j.next, 20);
}

/* Last: the flag stays up for the rest of the process. */
static void
pipeline_stops_on_a_signal(void **state)
{
	struct job j = JOB(1000), after = JOB(10);
	struct df_err err;

	(void)state;
	df_stop_install();
	assert_false(df_stop_requested());
	j.stop_at = 25;
	assert_int_equal(run(&j, 3, 5, &err), DF_ESTOPPED);
	assert_non_null(strstr(err.msg, "SIGTERM"));
	assert_true(df_stop_requested());
	assert_int_equal(df_stop_signal(), SIGTERM);
	/* The batch being read when it came is finished, and all before it. */
	assert_int_equal(j.n_written, 26);
	assert_int_equal(run(&after, 3, 5, &err), DF_ESTOPPED);
	assert_int_equal(after.n_written, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loop_runs_every_index_once),
		cmocka_unit_test(many_short_loops),
		cmocka_unit_test(null_pool_runs_in_place),
		cmocka_unit_test(the_last_large_tasks_share_all_threads),
		cmocka_unit_test(nested_loops_run_in_place_with_the_same_worker),
		cmocka_unit_test(two_callers_take_turns),
		cmocka_unit_test(threads_default_obeys_the_environment),
		cmocka_unit_test(malformed_thread_numbers_are_named),
		cmocka_unit_test(pipeline_keeps_order),
		cmocka_unit_test(pipeline_of_nothing),
		cmocka_unit_test(pipeline_errors_keep_what_came_before),
		cmocka_unit_test(pipeline_work_may_use_a_pool),
		cmocka_unit_test(pipeline_without_work_or_write),
		cmocka_unit_test(pipeline_stops_on_a_signal),
	};

	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
