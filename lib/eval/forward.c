/*
 * forward.c - rows in lanes of about equally many tokens.  How they are cut depends on their lengths alone.
 */
#include "eval/forward.h"

#include <stdlib.h>

#include "base/mem.h"

#define MAX_LANES   8
#define LANE_TOKENS 512 /* a smaller part does not repay a lane of its own */

/* A part of the rows. */
struct lane {
	struct df_work *work;
	struct df_gather gather;
	size_t first, n;
	int rc;
	struct df_err err;
};

struct df_forward {
	struct df_model *m;
	struct df_pool *pool;
	struct lane lane[MAX_LANES];
	/* the rows under way, and what is wanted of them */
	const struct df_rows *r;
	const uint64_t *which;
	const uint32_t *offsets;
	float *nll, *load;
	size_t width; /* of a row's load */
};

int
df_forward_new(struct df_forward **out, struct df_model *m, struct df_pool *pool, struct df_err *err)
{
	int rc;

	if ((rc = df_alloc(out, 1, sizeof(**out), "forward", err)) != DF_OK)
		return rc;
	(*out)->m = m;
	(*out)->pool = pool;
	(*out)->width = df_model_config(m)->n_layers * df_model_config(m)->moe.n_experts;
	return DF_OK;
}

void
df_forward_free(struct df_forward *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < MAX_LANES; i++) {
		df_work_free(f->lane[i].work);
		df_gather_release(&f->lane[i].gather);
	}
	free(f);
}

/* A task of the pool. */
static void
run_lane(void *ctx, size_t i, int worker)
{
	struct df_forward *f = ctx;
	struct lane *l = &f->lane[i];
	const struct df_losses out = {
		.token_nll = f->nll ? f->nll + f->offsets[l->first] : NULL,
		.gate_load = f->load ? f->load + l->first * f->width : NULL,
	};
	struct df_err *err = &l->err;
	struct df_tokens b;
	int rc;

	(void)worker;
	DF_TRY(df_gather_batch(&l->gather, f->r, f->which + l->first, l->n, &b, err));
	if (!f->nll)
		b.mask = NULL; /* no targets: the head is not needed */
	rc = df_model_loss(f->m, l->work, &b, &out, err);
out:
	l->rc = rc;
}

/* Returns how many lanes there are. */
static size_t
cut(struct df_forward *f, size_t n)
{
	uint64_t tokens = 0, sum = 0;
	size_t most = 1, lanes = 0, first = 0;

	for (size_t i = 0; i < n; i++)
		tokens += df_rows_length(f->r, f->which[i]);
	while (most < MAX_LANES && tokens / (most * 2) >= LANE_TOKENS)
		most *= 2;
	for (size_t i = 0; i < n; i++) {
		sum += df_rows_length(f->r, f->which[i]);
		if (i + 1 < n && (sum < tokens / most * (lanes + 1) || lanes + 1 == most))
			continue;
		f->lane[lanes].first = first;
		f->lane[lanes++].n = i + 1 - first;
		first = i + 1;
	}
	return lanes;
}

static int
run(struct df_forward *f, const struct df_rows *r, const uint64_t *which, size_t n, struct df_err *err)
{
	size_t lanes;
	int rc = DF_OK;

	f->r = r;
	f->which = which;
	lanes = cut(f, n);
	for (size_t i = 0; i < lanes; i++)
		if (!f->lane[i].work)
			DF_TRY(df_work_new(&f->lane[i].work, f->m, err));
	df_pool_for_large(f->pool, lanes, run_lane, f);
	for (size_t i = 0; i < lanes; i++) {
		if (f->lane[i].rc == DF_OK)
			continue;
		if (err)
			*err = f->lane[i].err;
		return f->lane[i].rc;
	}
out:
	return rc;
}

int
df_forward_losses(struct df_forward *f, const struct df_rows *r, const uint64_t *which, size_t n,
    const uint32_t *offsets, float *nll, struct df_err *err)
{
	f->offsets = offsets;
	f->nll = nll;
	f->load = NULL;
	return run(f, r, which, n, err);
}

int
df_forward_loads(
    struct df_forward *f, const struct df_rows *r, const uint64_t *which, size_t n, float *load, struct df_err *err)
{
	f->nll = NULL;
	f->load = load;
	return run(f, r, which, n, err);
}
