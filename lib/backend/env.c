/*
 * env.c - a backend with its threads.
 */
#include "backend/env.h"

int
df_env_open(struct df_env *e, const char *device, int n_threads, enum df_env_style style, struct df_err *err)
{
	int rc;

	*e = (struct df_env){ .n_lanes = 1 };
	DF_TRY(df_pool_new(&e->pool, n_threads, err));
	if (style == DF_ENV_LANES)
		e->n_lanes = df_pool_size(e->pool);
	DF_TRY(df_backend_open(&e->be, device, e->pool, err));
	e->n_lanes = df_backend_workers(e->be, e->n_lanes);
out:
	return rc;
}

void
df_env_close(struct df_env *e)
{
	df_backend_close(e->be);
	df_pool_free(e->pool);
	*e = (struct df_env){ 0 };
}
