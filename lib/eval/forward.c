/*
 * forward.c - rows in batches of about equally many tokens, dealt to lanes.
 */
#include "eval/forward.h"

#include <stdlib.h>

#include "base/mem.h"

#define MAX_LANES    8
#define BATCH_TOKENS 512 /* a smaller batch does not repay a lane of its own */

struct lane {
	struct df_work *work;
	struct df_gather gather;
	float *hidden; /* [cap_hidden] */
	size_t cap_hidden;
	int rc;
	struct df_err err;
};

struct df_forward {
	struct df_model *m;
	struct df_pool *pool;
	struct lane lane[MAX_LANES];
	size_t n_lanes;           /* of the current call */
	size_t *first, n_batches; /* [n_batches + 1] of its rows */
	size_t cap_first;
	/* its rows, and what is wanted of them */
	const struct df_rows *r;
	const uint64_t *which;
	const uint32_t *offsets;
	float *nll, *load;
	size_t width; /* of a row's load */
	size_t layer; /* of hidden states, for fn */
	df_forward_hidden_fn *fn;
	void *ctx;
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
		free(f->lane[i].hidden);
	}
	free(f->first);
	free(f);
}

/* The hidden states of a batch, and each row's to fn. */
static int
give_hidden(struct df_forward *f, struct lane *l, size_t first, const struct df_tokens *b, struct df_err *err)
{
	const size_t d = df_model_config(f->m)->d_model;
	struct df_tensor h;
	size_t numel;
	int rc;

	DF_TRY(df_model_hidden(f->m, l->work, b, f->layer, &h, err));
	DF_TRY(df_size_mul((size_t)b->offsets[b->n], d, &numel, "hidden states", err));
	DF_TRY(df_grow(&l->hidden, &l->cap_hidden, numel, sizeof(*l->hidden), "hidden states", err));
	if (numel > 0)
		DF_TRY(df_download(df_work_backend(l->work), l->hidden, h, err));
	for (size_t s = 0; s < b->n; s++)
		DF_TRY(f->fn(f->ctx, first + s, b, s, l->hidden + (size_t)b->offsets[s] * d, err));
out:
	return rc;
}

static int
run_batch(struct df_forward *f, struct lane *l, size_t first, size_t n, struct df_err *err)
{
	const struct df_losses out = {
		.token_nll = f->nll ? f->nll + f->offsets[first] : NULL,
		.gate_load = f->load ? f->load + first * f->width : NULL,
	};
	struct df_tokens b;
	int rc;

	DF_TRY(df_gather_batch(&l->gather, f->r, f->which + first, n, &b, err));
	if (f->fn)
		return give_hidden(f, l, first, &b, err);
	if (!f->nll)
		b.mask = NULL; /* no targets: the head is not needed */
	rc = df_model_loss(f->m, l->work, &b, &out, err);
out:
	return rc;
}

/* A task of the pool: every n_lanes-th batch. */
static void
run_lane(void *ctx, size_t i, int worker)
{
	struct df_forward *f = ctx;
	struct lane *l = &f->lane[i];
	int rc = DF_OK;

	(void)worker;
	for (size_t b = i; b < f->n_batches; b += f->n_lanes)
		DF_TRY(run_batch(f, l, f->first[b], f->first[b + 1] - f->first[b], &l->err));
out:
	l->rc = rc;
}

/* A power of two of batches with about equally many tokens, or more where the device takes no larger ones. */
static int
cut(struct df_forward *f, size_t n, struct df_err *err)
{
	const uint64_t most = df_backend_traits(df_model_backend(f->m)).forward_tokens;
	uint64_t total = 0, sum = 0, limit;
	size_t parts = 1;
	int rc;

	DF_TRY(df_grow(&f->first, &f->cap_first, n + 1, sizeof(*f->first), "batches", err));
	for (size_t i = 0; i < n; i++)
		total += df_rows_length(f->r, f->which[i]);
	while (parts < MAX_LANES && total / (parts * 2) >= BATCH_TOKENS)
		parts *= 2;
	limit = total / parts + 1 < most ? total / parts + 1 : most;
	f->n_batches = 0;
	for (size_t i = 0; i < n; i++) {
		const uint64_t len = df_rows_length(f->r, f->which[i]);

		if (i == 0 || sum + len > limit) {
			f->first[f->n_batches++] = i;
			sum = 0;
		}
		sum += len;
	}
	f->first[f->n_batches] = n;
	f->n_lanes = f->n_batches < MAX_LANES ? f->n_batches : MAX_LANES;
out:
	return rc;
}

static int
run(struct df_forward *f, const struct df_rows *r, const uint64_t *which, size_t n, struct df_err *err)
{
	int rc;

	f->r = r;
	f->which = which;
	DF_TRY(cut(f, n, err));
	for (size_t i = 0; i < f->n_lanes; i++)
		if (!f->lane[i].work)
			DF_TRY(df_work_new(&f->lane[i].work, f->m, err));
	df_pool_for_large(f->pool, f->n_lanes, run_lane, f);
	for (size_t i = 0; i < f->n_lanes; i++) {
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
	f->fn = NULL;
	return run(f, r, which, n, err);
}

int
df_forward_loads(
    struct df_forward *f, const struct df_rows *r, const uint64_t *which, size_t n, float *load, struct df_err *err)
{
	f->nll = NULL;
	f->load = load;
	f->fn = NULL;
	return run(f, r, which, n, err);
}

int
df_forward_hidden(struct df_forward *f, const struct df_rows *r, const uint64_t *which, size_t n, size_t layer,
    df_forward_hidden_fn *fn, void *ctx, struct df_err *err)
{
	f->nll = NULL;
	f->load = NULL;
	f->layer = layer;
	f->fn = fn;
	f->ctx = ctx;
	return run(f, r, which, n, err);
}
