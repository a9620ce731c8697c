/*
 * env.h - what a program computes with: a backend, and threads.
 */
#ifndef DF_BACKEND_ENV_H
#define DF_BACKEND_ENV_H

#include "backend/backend.h"
#include "base/err.h"
#include "base/pool.h"

/*
 * WIDE: one operation at a time, on all threads of the pool.  LANES: the program's own threads, n_lanes of them, take a
 * piece of work each, and an operation stays in the thread that calls it; the pool's threads sleep until one lane is
 * alone (shard/job.h).
 */
enum df_env_style { DF_ENV_WIDE, DF_ENV_LANES };
struct df_env {
	struct df_pool *pool;
	struct df_backend *be;
	int n_lanes;          /* threads to make, at most what the device likes; 1 with WIDE */
};
/* n_threads 0: the default.  Close it also when this failed.  Errors as df_pool_new() and df_backend_open(). */
int df_env_open(struct df_env *e, const char *device, int n_threads, enum df_env_style style, struct df_err *err)
    DF_MUST_CHECK;
void df_env_close(struct df_env *e); /* after all that uses it; accepts zeros */

#endif
