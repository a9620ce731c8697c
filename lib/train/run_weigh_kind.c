/*
 * run_weigh_kind.c - weights of samples at the places of the training loop (run_dynamic.h).
 */
#include <stdlib.h>

#include "base/mem.h"
#include "train/run_weigh.h"

static void
release(struct df_run *r)
{
	df_run_weigh_release(r->dynamic);
	free(r->dynamic);
}

static int
init(struct df_run *r, struct df_err *err)
{
	struct df_run_weigh *x = NULL;
	int rc;

	DF_TRY(df_alloc(&x, 1, sizeof(*x), "run", err));
	r->dynamic = x;
	rc = df_run_weigh_init(x, r, err);
out:
	return rc;
}

static int
begin(struct df_run *r, struct df_err *err)
{
	return df_run_weigh_open(r->dynamic, r, err);
}

static int
step(struct df_run *r, struct df_err *err)
{
	return df_run_weigh_step(r->dynamic, r, err);
}

static int
write_log(struct df_run *r, struct df_err *err)
{
	return df_run_weigh_log(r->dynamic, r, err);
}

static int
save(struct df_run *r, struct df_err *err)
{
	(void)err;
	df_run_weigh_numbers(r->dynamic, r->state.dynamic.number);
	return DF_OK;
}

const struct df_run_kind df_run_kind_weigh = {
	.takes_index = true,
	.weighs = true,
	.init = init,
	.begin = begin,
	.step = step,
	.log = write_log,
	.save = save,
	.release = release,
};
