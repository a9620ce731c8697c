/*
 * run_mix_kind.c - a mixture at the places of the training loop (run_dynamic.h).
 */
#include <stdlib.h>

#include "base/mem.h"
#include "train/run_mix.h"

static void
release(struct df_run *r)
{
	df_run_mix_release(r->dynamic);
	free(r->dynamic);
}

static int
init(struct df_run *r, struct df_err *err)
{
	struct df_run_mix *x = NULL;
	int rc;

	DF_TRY(df_alloc(&x, 1, sizeof(*x), "run", err));
	r->dynamic = x;
	DF_TRY(df_run_mix_init(x, r->c, &r->rows, err));
	if (!x->mixer || !x->mixer->each_step)
		goto out;
	if (r->o->weights)
		rc = df_fail(err, DF_EUSAGE, "--weights: %s weighs the losses of each step itself", x->mixer->name);
	else if (r->c->use_dft_loss)
		rc = df_config_fail(
		    r->c, "use_dft_loss", err, "%s weighs the losses of each step itself", x->mixer->name);
out:
	return rc;
}

static int
open_mix(struct df_run *r, struct df_err *err)
{
	return df_run_mix_open(r->dynamic, r, err);
}

static int
begin(struct df_run *r, struct df_err *err)
{
	return df_run_mix_begin(r->dynamic, r, err);
}

static int
event(struct df_run *r, const struct df_event *e, struct df_err *err)
{
	return df_run_mix_event(r->dynamic, r, e, err);
}

static int
step(struct df_run *r, struct df_err *err)
{
	(void)err;
	df_run_mix_step(r->dynamic, r);
	return DF_OK;
}

static int
stepped(struct df_run *r, const struct df_step_result *res, struct df_err *err)
{
	return df_run_mix_stepped(r->dynamic, r, res, err);
}

static int
write_log(struct df_run *r, struct df_err *err)
{
	return df_run_mix_log(r->dynamic, r, err);
}

static int
save(struct df_run *r, struct df_err *err)
{
	(void)err;
	df_run_mix_save(r->dynamic, &r->state.dynamic);
	return DF_OK;
}

static int
end(struct df_run *r, struct df_err *err)
{
	return df_run_mix_end(r->dynamic, r, err);
}

const struct df_run_kind df_run_kind_mix = {
	.init = init,
	.open = open_mix,
	.begin = begin,
	.event = event,
	.step = step,
	.stepped = stepped,
	.log = write_log,
	.save = save,
	.end = end,
	.release = release,
};
