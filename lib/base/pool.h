/*
 * pool.h - threads: a parallel loop, and a pipeline of read | work | write.
 *
 * Neither changes a rounding: the caller cuts the tasks, independently of the number of threads, and combines the
 * results in task order.
 */
#ifndef DF_BASE_POOL_H
#define DF_BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct df_pool;

/*
 * The number of threads to use by default: DF_THREADS, else the affinity mask,
 * capped by SLURM_CPUS_PER_TASK and by the quotas of the cgroup.
 */
int df_threads_default(void);
#define DF_THREADS_MAX 4096
/*
 * *n = the value of DF_THREADS, 0 when it is unset or empty.  DF_EUSAGE, with name and value, when it is not a
 * number of threads.
 */
int df_threads_env(int64_t *n, struct df_err *err) DF_MUST_CHECK;

/* A pool of n threads (the caller counts as one); n <= 0 means the default. */
int df_pool_new(struct df_pool **out, int n_threads, struct df_err *err) DF_MUST_CHECK;
void df_pool_free(struct df_pool *p); /* accepts NULL */
int df_pool_size(const struct df_pool *p); /* 1 for NULL */

/*
 * Run fn(ctx, i, worker) for every i in [0,n), in any order, worker in [0, size).  Returns when all are done.  A
 * call from inside a task (of this or another pool, or of a pipeline with several workers), or with a NULL pool,
 * runs in place and keeps the task's worker number modulo size; so scratch memory chosen by `worker` is safe as
 * long as the outer loop has no more workers than the inner pool.
 */
typedef void df_pool_fn(void *ctx, size_t i, int worker);
void df_pool_for(struct df_pool *p, size_t n, df_pool_fn *fn, void *ctx);

/*
 * The same for large tasks that call df_pool_for() themselves: when no more are left than half the threads, the caller
 * runs them one after the other, as worker 0, and all threads share the loops inside.
 */
void df_pool_for_large(struct df_pool *p, size_t n, df_pool_fn *fn, void *ctx);
/* How many of n such tasks are the last ones, for n_threads threads. */
uint64_t df_pool_last(uint64_t n, int n_threads);

/*
 * The frame of every command: read() makes the next batch, work() processes it, write() writes it.  Several batches
 * are in flight, work() runs on n_threads threads, read() and write() are each called in order and never by two
 * threads at once.  Batches are the caller's objects: n_batches of them, made by the caller, reused as they come
 * free.
 *
 *   read  -> 1 batch filled, 0 end of input, < 0 error code
 *   work  -> 0 or error code; `worker` in [0, n_threads) picks the scratch
 *   write -> 0 or error code
 *
 * The first error stops the pipeline; batches before it in order are still written.  With `stop` set
 * (df_stop_requested) reading ends, batches that were already read are processed and written, and the result is
 * DF_ESTOPPED.
 */
struct df_pipeline {
	int (*read)(void *ctx, void *batch, struct df_err *err);
	int (*work)(void *ctx, void *batch, int worker, struct df_err *err);
	int (*write)(void *ctx, void *batch, struct df_err *err);
	void *ctx;
	void **batches;
	int n_batches; /* n_threads + 2 is a good number */
	int n_threads;
};
int df_pipeline_run(const struct df_pipeline *pl, struct df_err *err) DF_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
