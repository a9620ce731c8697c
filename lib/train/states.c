/*
 * states.c - the hidden states of a row, pooled on the host, in f64.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "eval/forward.h"
#include "train/states.h"

#define COLUMNS 64 /* that are summed together */

struct df_states {
	struct df_forward *forward;
	enum df_weigh_pooling pooling;
	size_t layer, dim;
	float *pooled; /* of the current call */
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
	*s = (struct df_states){ .pooling = pooling, .layer = (size_t)at, .dim = df_model_config(m)->d_model };
	DF_TRY(df_forward_new(&s->forward, m, pool, err));
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
	df_forward_free(s->forward);
	free(s);
}

size_t
df_states_dim(const struct df_states *s)
{
	return s->dim;
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

/* Columns [first, first + n) of the vector of a row with h [tokens, dim]. */
static void
pool_columns(
    const struct df_states *s, const float *h, const uint8_t *mask, size_t tokens, size_t first, size_t n, float *out)
{
	double sum[COLUMNS] = { 0 }, all = 0;

	for (size_t t = 0; t < tokens; t++) {
		const double x = share(s->pooling, mask, t, tokens);

		all += x;
		for (size_t j = 0; j < n && x > 0; j++)
			sum[j] += x * (double)h[t * s->dim + first + j];
	}
	for (size_t j = 0; j < n; j++)
		out[first + j] = all > 0 ? (float)(sum[j] / all) : 0;
}

static int
pool_row(void *ctx, size_t i, const struct df_tokens *b, size_t at, const float *h, struct df_err *err)
{
	const size_t tokens = (size_t)(b->offsets[at + 1] - b->offsets[at]);
	const struct df_states *s = ctx;

	if (b->sequence)
		return df_fail(err, DF_EUNSUPPORTED,
		    "rows of several packed samples (neat packing) have no vector of their own: pack without it");
	for (size_t j = 0; j < s->dim; j += COLUMNS)
		pool_columns(s, h, b->mask + b->offsets[at], tokens, j, s->dim - j < COLUMNS ? s->dim - j : COLUMNS,
		    s->pooled + i * s->dim);
	return DF_OK;
}

int
df_states_run(
    struct df_states *s, const struct df_rows *r, const uint64_t *which, size_t n, float *pooled, struct df_err *err)
{
	s->pooled = pooled;
	return df_forward_hidden(s->forward, r, which, n, s->layer, pool_row, s, err);
}
