/*
 * states.c - rows in ragged batches through the model, side by side; each is pooled on the host, in f64.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "train/states.h"

struct lane {
	struct df_work *work;
	struct df_gather gather;
	float *hidden; /* [tokens, dim] */
	double *sum;   /* [dim] */
	size_t cap_hidden;
	int rc;
	struct df_err err;
};

struct df_states {
	struct df_model *m;
	struct df_pool *pool;
	enum df_weigh_pooling pooling;
	size_t layer, dim;
	struct lane *lane; /* [n_lanes] */
	size_t n_lanes;
	size_t *first; /* [n_blocks+1] of the rows of a call */
	size_t n_blocks, cap_first;
	/* of the current call */
	const struct df_rows *r;
	const uint64_t *which;
	float *pooled;
};

int
df_states_new(struct df_states **out, struct df_model *m, struct df_pool *pool, enum df_weigh_pooling pooling,
    int64_t layer, struct df_err *err)
{
	const int64_t n_layers = (int64_t)df_model_config(m)->n_layers, at = layer < 0 ? n_layers + 1 + layer : layer;
	struct df_states *s = NULL;
	int rc;

	if (at < 0 || at > n_layers)
		return df_fail(err, DF_EUSAGE,
		    "layer %lld: the model has %lld (0 = the embeddings, -1 = the last layer)", (long long)layer,
		    (long long)n_layers);
	DF_TRY(df_alloc(&s, 1, sizeof(*s), "hidden states", err));
	*s = (struct df_states){ .m = m, .pool = pool, .pooling = pooling, .layer = (size_t)at };
	s->dim = df_model_config(m)->d_model;
	s->n_lanes = (size_t)df_backend_workers(df_model_backend(m), df_pool_size(pool));
	DF_TRY(df_alloc(&s->lane, s->n_lanes, sizeof(*s->lane), "lanes", err));
	*out = s;
	s = NULL;
out:
	df_states_free(s);
	return rc;
}

void
df_states_free(struct df_states *s)
{
	if (!s)
		return;
	for (size_t i = 0; s->lane && i < s->n_lanes; i++) {
		df_work_free(s->lane[i].work);
		df_gather_release(&s->lane[i].gather);
		free(s->lane[i].hidden);
		free(s->lane[i].sum);
	}
	free(s->lane);
	free(s->first);
	free(s);
}

size_t
df_states_dim(const struct df_states *s)
{
	return s->dim;
}

/* Blocks of consecutive rows, about equally long, as many as there are lanes at least, none too long. */
static int
cut(struct df_states *s, size_t n, struct df_err *err)
{
	const size_t most = df_backend_traits(df_model_backend(s->m)).forward_tokens;
	uint64_t total = 0, in_block = 0, limit;
	int rc;

	s->n_blocks = 0;
	DF_TRY(df_grow(&s->first, &s->cap_first, n + 1, sizeof(*s->first), "blocks", err));
	for (size_t i = 0; i < n; i++)
		total += df_rows_length(s->r, s->which[i]);
	limit = total / s->n_lanes + 1 < most ? total / s->n_lanes + 1 : most;
	for (size_t i = 0; i < n; i++) {
		const uint64_t len = df_rows_length(s->r, s->which[i]);

		if (i == 0 || in_block + len > limit) {
			s->first[s->n_blocks++] = i;
			in_block = 0;
		}
		in_block += len;
	}
	s->first[s->n_blocks] = n;
out:
	return rc;
}

/* How much token t of a row of n counts; 0: it does not. */
static double
share(enum df_weigh_pooling p, const uint8_t *mask, size_t t, size_t n)
{
	switch (p) {
	case DF_WEIGH_POOL_POSITION: return (double)(t + 1);
	case DF_WEIGH_POOL_LAST: return t + 1 == n;
	case DF_WEIGH_POOL_TARGETS: return mask[t] != 0;
	}
	return 0;
}

/* h [n, dim] of one row. */
static void
pool_row(const struct df_states *s, double *sum, const float *h, const uint8_t *mask, size_t n, float *out)
{
	double all = 0;

	memset(sum, 0, s->dim * sizeof(*sum));
	for (size_t t = 0; t < n; t++) {
		const double x = share(s->pooling, mask, t, n);

		all += x;
		for (size_t j = 0; j < s->dim && x > 0; j++)
			sum[j] += x * (double)h[t * s->dim + j];
	}
	for (size_t j = 0; j < s->dim; j++)
		out[j] = all > 0 ? (float)(sum[j] / all) : 0;
}

static int
run_block(struct df_states *s, struct lane *l, size_t first, size_t n, struct df_err *err)
{
	struct df_tensor h;
	struct df_tokens b;
	size_t numel;
	int rc;

	if (!l->work)
		DF_TRY(df_work_new(&l->work, s->m, err));
	if (!l->sum)
		DF_TRY(df_alloc(&l->sum, s->dim, sizeof(*l->sum), "hidden states", err));
	DF_TRY(df_gather_batch(&l->gather, s->r, s->which + first, n, &b, err));
	if (b.sequence) {
		rc = df_fail(err, DF_EUNSUPPORTED,
		    "rows of several packed samples (neat packing) have no vector of their own: pack without it");
		goto out;
	}
	DF_TRY(df_model_hidden(s->m, l->work, &b, s->layer, &h, err));
	DF_TRY(df_size_mul((size_t)b.offsets[n], s->dim, &numel, "hidden states", err));
	DF_TRY(df_grow(&l->hidden, &l->cap_hidden, numel, sizeof(*l->hidden), "hidden states", err));
	if (numel > 0)
		DF_TRY(df_download(df_work_backend(l->work), l->hidden, h, err));
	for (size_t i = 0; i < n; i++)
		pool_row(s, l->sum, l->hidden + (size_t)b.offsets[i] * s->dim, b.mask + b.offsets[i],
		    (size_t)(b.offsets[i + 1] - b.offsets[i]), s->pooled + (first + i) * s->dim);
out:
	return rc;
}

/* A task of the pool: every n_lanes-th block. */
static void
run_lane(void *ctx, size_t i, int worker)
{
	struct df_states *s = ctx;
	struct lane *l = &s->lane[i];
	int rc = DF_OK;

	(void)worker;
	for (size_t b = i; b < s->n_blocks; b += s->n_lanes)
		DF_TRY(run_block(s, l, s->first[b], s->first[b + 1] - s->first[b], &l->err));
out:
	l->rc = rc;
}

int
df_states_run(
    struct df_states *s, const struct df_rows *r, const uint64_t *which, size_t n, float *pooled, struct df_err *err)
{
	const size_t busy = n < s->n_lanes ? n : s->n_lanes;
	int rc;

	s->r = r;
	s->which = which;
	s->pooled = pooled;
	DF_TRY(cut(s, n, err));
	df_pool_for_large(s->pool, busy, run_lane, s);
	for (size_t i = 0; i < busy; i++) {
		if (s->lane[i].rc == DF_OK)
			continue;
		if (err)
			*err = s->lane[i].err;
		return s->lane[i].rc;
	}
out:
	return rc;
}
