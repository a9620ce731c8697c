/*
 * pool.c - a parallel loop, and read | work | write.
 *
 * The loop.  df_pool_for() publishes a job (function, count) and every thread,
 * the caller too, takes the next index from an atomic counter until none is
 * left.  Which thread runs an index never matters to the result.  Threads
 * spin for a few microseconds before they sleep: kernels call the loop many
 * times a millisecond, and a futex wake costs more than a small tile.
 *
 * The pipeline.  One reader thread, n worker threads, and the caller, who writes.  Batches carry a sequence number
 * and circulate:
 *
 *     free --reader--> filled --worker--> worked --writer--> free
 *                      oldest first       in order
 *
 * After a failure at sequence f nothing after f is processed; batches before it are still processed and written.
 * Of two failures the one with the smaller sequence number is reported, so the message does not depend on timing.
 */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/opt.h"
#include "base/stop.h"

/* --- how many threads --------------------------------------------------------------------------------------------- */

/* The CPUs that a cgroup's quota (microseconds of CPU in each period) allows, rounded up; `limit` when it has none. */
static int64_t
quota_cpus(const char *quota, const char *period, int64_t limit)
{
	int64_t q, p, n;

	if (df_parse_int(quota, 1, INT64_MAX / 2, &q, NULL) != DF_OK ||
	    df_parse_int(period, 1, INT32_MAX, &p, NULL) != DF_OK)
		return limit;
	n = (q + p - 1) / p;
	return n < limit ? n : limit;
}

/* The first word of a small file, "" when it cannot be read. */
static void
read_words(const char *path, char a[32], char b[32])
{
	char *text = NULL;
	size_t n;

	a[0] = b[0] = '\0';
	if (df_file_get(path, 4096, &text, &n, NULL) == DF_OK)
		sscanf(text, "%31s %31s", a, b);
	free(text);
}

/* Apply the CPU limits of the cgroup at `group` and of those above it, under the mount point `root`. */
static int64_t
cgroup_limit(const char *root, const char *group, bool v2, int64_t limit)
{
	char dir[1024], path[1100], a[32], b[32], unused[32];

	snprintf(dir, sizeof(dir), "%s", group);
	for (;;) {
		char *slash;

		if (v2) {
			snprintf(path, sizeof(path), "%s%s/cpu.max", root, dir);
			read_words(path, a, b);
		} else {
			snprintf(path, sizeof(path), "%s%s/cpu.cfs_quota_us", root, dir);
			read_words(path, a, unused);
			snprintf(path, sizeof(path), "%s%s/cpu.cfs_period_us", root, dir);
			read_words(path, b, unused);
		}
		limit = quota_cpus(a, b, limit);
		slash = strrchr(dir, '/');
		if (slash == NULL)
			return limit;
		*slash = '\0';
	}
}

/* Lines of /proc/self/cgroup: "0::/path" is version 2, "N:...cpu...:/path" version 1. */
static int64_t
cgroups_limit(int64_t limit)
{
	char *text = NULL, *save = NULL;
	size_t n;

	if (df_file_get("/proc/self/cgroup", 1 << 20, &text, &n, NULL) != DF_OK)
		return limit;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;

		if (group == NULL)
			continue;
		*names++ = *group++ = '\0';
		if (*names == '\0') {
			limit = cgroup_limit("/sys/fs/cgroup", group, true, limit);
			continue;
		}
		for (char *name = names; name; name = strchr(name, ',') ? strchr(name, ',') + 1 : NULL)
			if (strncmp(name, "cpu", 3) == 0 && (name[3] == ',' || name[3] == '\0'))
				limit = cgroup_limit("/sys/fs/cgroup/cpu", group, false, limit);
	}
	free(text);
	return limit;
}

int
df_threads_env(int64_t *n, struct df_err *err)
{
	const char *env = getenv("DF_THREADS");
	int rc;

	*n = 0;
	if (env == NULL || *env == '\0')
		return DF_OK;
	if ((rc = df_parse_int(env, 1, DF_THREADS_MAX, n, err)) != DF_OK)
		df_err_prefix(err, "environment variable DF_THREADS: ");
	return rc;
}

int
df_threads_default(void)
{
	const char *slurm = getenv("SLURM_CPUS_PER_TASK");
	int64_t n = 1, m;
	cpu_set_t set;

	if (df_threads_env(&m, NULL) == DF_OK && m > 0)
		return (int)m;
	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
		n = CPU_COUNT(&set);
	if (slurm && df_parse_int(slurm, 1, DF_THREADS_MAX, &m, NULL) == DF_OK && m < n)
		n = m;
	return (int)cgroups_limit(n);
}

/* --- the parallel loop -------------------------------------------------------------------------------------------- */

#define SPINS 2000

/*
 * `generation` goes up when a job opens (odd) and when it closes (even).  A helper enters by counting itself inside
 * and looking again: if the job is still open it may read the job's fields, which the caller changes only after
 * closing and seeing that no helper is inside.  So a helper that sleeps through a short job costs the caller
 * nothing.
 */
struct df_pool {
	int n_threads; /* the caller included */
	pthread_t *threads;
	int n_started;
	pthread_mutex_t caller; /* one df_pool_for at a time */
	pthread_mutex_t lock;   /* for the two conditions */
	pthread_cond_t wake, idle;

	df_pool_fn *fn; /* the job */
	void *ctx;
	size_t n;
	_Atomic size_t next;

	_Atomic unsigned generation;
	_Atomic int inside;         /* helpers inside the job */
	_Atomic int sleepers;       /* helpers waiting for `wake` */
	_Atomic bool caller_sleeps; /* the caller is waiting for `idle` */
	_Atomic bool quit;
};

struct helper {
	struct df_pool *pool;
	int worker;
};

/* This thread's number as a worker while it runs a task; -1 outside of tasks. */
static _Thread_local int current_worker = -1;

static void
cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

static void
take_tasks(struct df_pool *p, int worker)
{
	size_t i;

	current_worker = worker;
	while ((i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->n)
		p->fn(p->ctx, i, worker);
	current_worker = -1;
}

/* A job is open that this helper has not seen, or the pool is being freed. */
static bool
called(struct df_pool *p, unsigned seen)
{
	unsigned g = atomic_load(&p->generation);

	return ((g & 1) && g != seen) || atomic_load(&p->quit);
}

static void *
help(void *arg)
{
	struct helper *h = arg;
	struct df_pool *p = h->pool;
	int worker = h->worker;
	unsigned seen = 0;

	free(h);
	for (;;) {
		for (int i = 0; i < SPINS && !called(p, seen); i++)
			cpu_relax();
		if (!called(p, seen)) {
			pthread_mutex_lock(&p->lock);
			atomic_fetch_add(&p->sleepers, 1);
			while (!called(p, seen))
				pthread_cond_wait(&p->wake, &p->lock);
			atomic_fetch_sub(&p->sleepers, 1);
			pthread_mutex_unlock(&p->lock);
		}
		if (atomic_load(&p->quit))
			return NULL;
		seen = atomic_load(&p->generation);
		atomic_fetch_add(&p->inside, 1);
		if ((seen & 1) && atomic_load(&p->generation) == seen)
			take_tasks(p, worker);
		if (atomic_fetch_sub(&p->inside, 1) == 1 && atomic_load(&p->caller_sleeps)) {
			pthread_mutex_lock(&p->lock);
			pthread_cond_signal(&p->idle);
			pthread_mutex_unlock(&p->lock);
		}
	}
}

static void
wake_helpers(struct df_pool *p)
{
	if (atomic_load(&p->sleepers) == 0)
		return;
	pthread_mutex_lock(&p->lock);
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

static void
wait_until_nobody_inside(struct df_pool *p)
{
	for (int i = 0; i < SPINS && atomic_load(&p->inside) > 0; i++)
		cpu_relax();
	if (atomic_load(&p->inside) == 0)
		return;
	pthread_mutex_lock(&p->lock);
	atomic_store(&p->caller_sleeps, true);
	while (atomic_load(&p->inside) > 0)
		pthread_cond_wait(&p->idle, &p->lock);
	atomic_store(&p->caller_sleeps, false);
	pthread_mutex_unlock(&p->lock);
}

int
df_pool_new(struct df_pool **out, int n_threads, struct df_err *err)
{
	struct df_pool *p = NULL;
	int rc;

	if (n_threads <= 0)
		n_threads = df_threads_default();
	DF_TRY(df_alloc(&p, 1, sizeof(*p), "thread pool", err));
	p->n_threads = n_threads;
	pthread_mutex_init(&p->caller, NULL);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	pthread_cond_init(&p->idle, NULL);
	DF_TRY(df_alloc(&p->threads, (size_t)n_threads, sizeof(*p->threads), "thread pool", err));
	while (p->n_started < n_threads - 1) {
		struct helper *h = malloc(sizeof(*h));

		if (h)
			*h = (struct helper){ p, p->n_started + 1 };
		if (h == NULL || pthread_create(&p->threads[p->n_started], NULL, help, h) != 0) {
			free(h);
			rc = df_fail(err, DF_ENOMEM, "cannot start thread %d of %d", p->n_started + 2, n_threads);
			goto out;
		}
		p->n_started++;
	}
	*out = p;
	p = NULL;
out:
	df_pool_free(p);
	return rc;
}

void
df_pool_free(struct df_pool *p)
{
	if (p == NULL)
		return;
	atomic_store(&p->quit, true);
	wake_helpers(p);
	for (int i = 0; i < p->n_started; i++)
		pthread_join(p->threads[i], NULL);
	pthread_mutex_destroy(&p->caller);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->wake);
	pthread_cond_destroy(&p->idle);
	free(p->threads);
	free(p);
}

int
df_pool_size(const struct df_pool *p)
{
	return p ? p->n_threads : 1;
}

void
df_pool_for(struct df_pool *p, size_t n, df_pool_fn *fn, void *ctx)
{
	if (p == NULL || p->n_threads == 1 || n <= 1 || current_worker >= 0) {
		/* Inside a task this thread is already a worker; it keeps its number, modulo the size of the pool. */
		int worker = current_worker >= 0 ? current_worker % df_pool_size(p) : 0;

		for (size_t i = 0; i < n; i++)
			fn(ctx, i, worker);
		return;
	}
	pthread_mutex_lock(&p->caller);
	p->fn = fn;
	p->ctx = ctx;
	p->n = n;
	atomic_store_explicit(&p->next, 0, memory_order_relaxed);
	atomic_fetch_add(&p->generation, 1);
	wake_helpers(p);
	take_tasks(p, 0);
	atomic_fetch_add(&p->generation, 1);
	wait_until_nobody_inside(p);
	pthread_mutex_unlock(&p->caller);
}

/* More than half as many as threads are done soonest side by side: a loop that is shared takes more than its share. */
uint64_t
df_pool_last(uint64_t n, int n_threads)
{
	const uint64_t rest = n % (uint64_t)n_threads;

	return 2 * rest <= (uint64_t)n_threads ? rest : 0;
}

void
df_pool_for_large(struct df_pool *p, size_t n, df_pool_fn *fn, void *ctx)
{
	const size_t last = current_worker >= 0 ? 0 : (size_t)df_pool_last(n, df_pool_size(p));

	df_pool_for(p, n - last, fn, ctx);
	for (size_t i = n - last; i < n; i++)
		fn(ctx, i, 0);
}

/* --- the pipeline ------------------------------------------------------------------------------------------------- */

enum slot_state { FREE, FILLED, BUSY, WORKED };

/*
 * Batch number seq sits in slot seq % n_batches: batches are written in order, so that slot is free when its turn
 * comes.
 */
struct slot {
	enum slot_state state;
	int rc; /* of work() */
	struct df_err err;
};

struct flow {
	const struct df_pipeline *pl;
	pthread_mutex_t lock;
	pthread_cond_t change; /* any state below changed */
	struct slot *slots;    /* n_batches */
	uint64_t n_read;       /* batches filled so far */
	uint64_t n_taken;      /* batches that a worker has taken: the oldest are taken first */
	uint64_t n_written;
	uint64_t limit; /* batches from here on are not processed: one before them failed */
	bool ended;     /* nothing more will be read: end, error or stop */
	int read_rc;    /* of the read() that ended it, or DF_ESTOPPED */
	struct df_err read_err;
};

struct lane {
	struct flow *f;
	int worker;
	pthread_t thread;
};

static struct slot *
slot_of(struct flow *f, uint64_t seq)
{
	return &f->slots[seq % (uint64_t)f->pl->n_batches];
}

static void *
read_lane(void *arg)
{
	struct flow *f = arg;
	const struct df_pipeline *pl = f->pl;

	pthread_mutex_lock(&f->lock);
	while (!f->ended) {
		struct slot *s = slot_of(f, f->n_read);
		int rc;

		if (f->n_read >= f->limit) {
			f->ended = true;
		} else if (df_stop_requested()) {
			f->ended = true;
			f->read_rc =
			    df_fail(&f->read_err, DF_ESTOPPED, "stopped by SIG%s", sigabbrev_np(df_stop_signal()));
		} else if (s->state != FREE) {
			pthread_cond_wait(&f->change, &f->lock);
			continue;
		} else {
			pthread_mutex_unlock(&f->lock);
			rc = pl->read(pl->ctx, pl->batches[f->n_read % (uint64_t)pl->n_batches], &f->read_err);
			pthread_mutex_lock(&f->lock);
			if (rc > 0) {
				s->state = FILLED;
				f->n_read++;
			} else {
				f->ended = true;
				f->read_rc = rc;
			}
		}
		pthread_cond_broadcast(&f->change);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

static void *
work_lane(void *arg)
{
	struct lane *l = arg;
	struct flow *f = l->f;
	const struct df_pipeline *pl = f->pl;

	pthread_mutex_lock(&f->lock);
	for (;;) {
		uint64_t seq = f->n_taken;
		struct slot *s = slot_of(f, seq);

		if (seq >= f->limit || (f->ended && seq >= f->n_read))
			break;
		if (seq >= f->n_read) {
			pthread_cond_wait(&f->change, &f->lock);
			continue;
		}
		f->n_taken++;
		s->state = BUSY;
		pthread_mutex_unlock(&f->lock);
		/* A single worker shares the CPUs with no other worker, so its loops may use the threads of a pool. */
		current_worker = pl->n_threads > 1 ? l->worker : -1;
		s->rc = pl->work ? pl->work(pl->ctx, pl->batches[seq % (uint64_t)pl->n_batches], l->worker, &s->err)
				 : DF_OK;
		current_worker = -1;
		pthread_mutex_lock(&f->lock);
		s->state = WORKED;
		if (s->rc != DF_OK && seq + 1 < f->limit)
			f->limit = seq + 1;
		pthread_cond_broadcast(&f->change);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

/* Write the processed batches in order, until the end or the first failure.  Returns the result of the pipeline. */
static int
write_lane(struct flow *f, struct df_err *err)
{
	const struct df_pipeline *pl = f->pl;
	int rc = DF_OK;

	pthread_mutex_lock(&f->lock);
	while (rc == DF_OK) {
		struct slot *s = slot_of(f, f->n_written);

		if (f->ended && f->n_written == f->n_read) {
			rc = f->read_rc;
			if (rc != DF_OK && err)
				*err = f->read_err;
			break;
		}
		if (f->n_written == f->n_read || s->state != WORKED) {
			pthread_cond_wait(&f->change, &f->lock);
			continue;
		}
		if (s->rc != DF_OK) {
			rc = s->rc;
			if (err)
				*err = s->err;
			break;
		}
		pthread_mutex_unlock(&f->lock);
		rc = pl->write ? pl->write(pl->ctx, pl->batches[f->n_written % (uint64_t)pl->n_batches], err) : DF_OK;
		pthread_mutex_lock(&f->lock);
		s->state = FREE;
		f->n_written++;
		pthread_cond_broadcast(&f->change);
	}
	/* The pipeline is over, with or without an error: no thread begins another batch. */
	f->ended = true;
	f->limit = f->limit < f->n_written ? f->limit : f->n_written;
	pthread_cond_broadcast(&f->change);
	pthread_mutex_unlock(&f->lock);
	return rc;
}

int
df_pipeline_run(const struct df_pipeline *pl, struct df_err *err)
{
	struct flow f = { .pl = pl, .limit = UINT64_MAX };
	struct lane *lanes = NULL;
	pthread_t reader;
	bool reading = false;
	int n_lanes = 0, rc;

	if (pl->n_batches < 1 || pl->n_threads < 1)
		return df_fail(
		    err, DF_EINTERNAL, "a pipeline of %d batches and %d threads", pl->n_batches, pl->n_threads);
	pthread_mutex_init(&f.lock, NULL);
	pthread_cond_init(&f.change, NULL);
	DF_TRY(df_alloc(&f.slots, (size_t)pl->n_batches, sizeof(*f.slots), "pipeline", err));
	DF_TRY(df_alloc(&lanes, (size_t)pl->n_threads, sizeof(*lanes), "pipeline", err));
	for (; n_lanes < pl->n_threads; n_lanes++) {
		struct lane *l = &lanes[n_lanes];

		l->f = &f;
		l->worker = n_lanes;
		if (pthread_create(&l->thread, NULL, work_lane, l) != 0)
			break;
	}
	reading = n_lanes == pl->n_threads && pthread_create(&reader, NULL, read_lane, &f) == 0;
	if (reading) {
		rc = write_lane(&f, err);
	} else {
		rc = df_fail(err, DF_ENOMEM, "cannot start the %d threads of a pipeline", pl->n_threads + 1);
		pthread_mutex_lock(&f.lock);
		f.ended = true;
		pthread_cond_broadcast(&f.change);
		pthread_mutex_unlock(&f.lock);
	}
out:
	if (reading)
		pthread_join(reader, NULL);
	for (int i = 0; i < n_lanes; i++)
		pthread_join(lanes[i].thread, NULL);
	free(lanes);
	free(f.slots);
	pthread_mutex_destroy(&f.lock);
	pthread_cond_destroy(&f.change);
	return rc;
}
