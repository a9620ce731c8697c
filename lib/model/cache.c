/*
 * cache.c - the keys and values of past tokens, and the attention that reads them.
 *
 * There are two ways through attention.  Whole prompts (prefill) take the batched one of the forward.  Tokens after
 * a past (extend, decode) are each a query against their sequence's rows up to themselves.  Both give the forward's
 * logits to the bit.  The exception is a sliding window on the second way: its sums begin at another token, so
 * roundings differ.  On either way a sequence's numbers do not depend on the other sequences of the call.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "model/cache_priv.h"

#define KV_TYPE DF_F32

static size_t
kv_width(const struct df_model *m)
{
	return m->cfg.n_kv_heads * m->cfg.d_head;
}

int
df_cache_bytes(const struct df_model *m, size_t n_slots, size_t n_positions, size_t *bytes, struct df_err *err)
{
	size_t n;
	int rc;

	DF_TRY(df_size_mul(n_slots, n_positions, &n, "the cache", err));
	DF_TRY(df_size_mul(n, kv_width(m), &n, "the cache", err));
	DF_TRY(df_size_mul(n, m->cfg.n_layers, &n, "the cache", err));
	rc = df_size_mul(n, 2 * df_dtype_size(KV_TYPE), bytes, "the cache", err);
out:
	return rc;
}

int
df_cache_new(struct df_cache **out, struct df_model *m, size_t n_slots, size_t n_positions, struct df_err *err)
{
	size_t bytes, n_layers = m->cfg.n_layers, available = df_backend_available(m->be);
	struct df_cache *c = NULL;
	int rc;

	if (m->cfg.head != DF_HEAD_LM)
		return df_fail(err, DF_EUNSUPPORTED, "%s: the model has no language model's head: it cannot generate",
		    m->dir ? m->dir : "model");
	if (n_slots == 0 || n_positions == 0 || n_slots > UINT32_MAX || n_positions > INT32_MAX)
		return df_fail(err, DF_ERANGE, "a cache of %zu sequences of %zu tokens", n_slots, n_positions);
	DF_TRY(df_cache_bytes(m, n_slots, n_positions, &bytes, err));
	if (bytes > available)
		return df_fail(err, DF_ENOMEM,
		    "the cache of %zu sequences of %zu tokens takes %zu MiB, and %zu MiB are free: fewer sequences at "
		    "once, or shorter ones, take less",
		    n_slots, n_positions, bytes >> 20, available >> 20);
	if (n_slots > UINT32_MAX / n_positions) /* rows have u32 numbers */
		return df_fail(err, DF_ERANGE, "a cache of %zu sequences of %zu tokens", n_slots, n_positions);
	DF_TRY(df_alloc(&c, 1, sizeof(*c), "the cache", err));
	c->m = m;
	c->n_slots = n_slots;
	c->n_positions = n_positions;
	DF_TRY(df_alloc(&c->k, n_layers, sizeof(*c->k), "the cache", err));
	DF_TRY(df_alloc(&c->v, n_layers, sizeof(*c->v), "the cache", err));
	DF_TRY(df_alloc(&c->length, n_slots, sizeof(*c->length), "the cache", err));
	DF_TRY(df_alloc(&c->taken, n_slots, sizeof(*c->taken), "the cache", err));
	DF_TRY(df_alloc(&c->offsets, n_slots + 1, sizeof(*c->offsets), "the cache", err));
	for (size_t i = 0; i < n_layers; i++) {
		DF_TRY(df_tensor_alloc(m->be, &c->k[i], KV_TYPE, n_slots * n_positions, kv_width(m), "the cache", err));
		DF_TRY(df_tensor_alloc(m->be, &c->v[i], KV_TYPE, n_slots * n_positions, kv_width(m), "the cache", err));
	}
	*out = c;
	c = NULL;
out:
	df_cache_free(c);
	return rc;
}

void
df_cache_free(struct df_cache *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->m->cfg.n_layers; i++) {
		if (c->k != NULL)
			df_tensor_free(c->m->be, &c->k[i]);
		if (c->v != NULL)
			df_tensor_free(c->m->be, &c->v[i]);
	}
	df_tensor_free(c->m->be, &c->logits);
	free(c->k);
	free(c->v);
	free(c->length);
	df_stage_free(c->m->be, &c->stage);
	free(c->position);
	free(c->mask);
	free(c->offsets);
	free(c->taken);
	free(c);
}

size_t
df_cache_length(const struct df_cache *c, uint32_t slot)
{
	return c->length[slot];
}

void
df_cache_cut(struct df_cache *c, uint32_t slot, size_t n)
{
	if (n < c->length[slot])
		c->length[slot] = (uint32_t)n;
}

int
df_cache_copy(struct df_cache *c, uint32_t from, uint32_t to, size_t n, struct df_err *err)
{
	int rc = DF_OK;

	if (from >= c->n_slots || to >= c->n_slots || n > c->length[from])
		return df_fail(err, DF_EINTERNAL, "a copy of %zu tokens of slot %u to slot %u", n, from, to);
	if (from != to && n > 0) {
		c->length[to] = 0;
		for (size_t i = 0; i < c->m->cfg.n_layers; i++) {
			DF_TRY(df_copy(c->m->be, df_tensor_rows(c->k[i], to * c->n_positions, n),
			    df_tensor_rows(c->k[i], from * c->n_positions, n), err));
			DF_TRY(df_copy(c->m->be, df_tensor_rows(c->v[i], to * c->n_positions, n),
			    df_tensor_rows(c->v[i], from * c->n_positions, n), err));
		}
	}
	c->length[to] = (uint32_t)n;
out:
	return rc;
}

int
df_cache_attend(struct df_work *w, size_t layer, const struct df_attn *t, struct df_err *err)
{
	struct df_cache *c = w->cache;
	struct df_backend *be = w->m->be;
	int rc = DF_OK;

	for (size_t s = 0; s < w->n; s++) {
		const size_t at = w->seg.host[s], n = w->seg.host[s + 1] - at;
		const size_t row = (size_t)c->first.host[at] + c->position[at];

		DF_TRY(df_copy(be, df_tensor_rows(c->k[layer], row, n), df_tensor_rows(t->k, at, n), err));
		DF_TRY(df_copy(be, df_tensor_rows(c->v[layer], row, n), df_tensor_rows(t->v, at, n), err));
	}
	if (c->whole) {
		DF_TRY(df_attn_fwd(be, t, err));
	} else {
		const struct df_attn_decode d = { .q = t->q,
			.o = t->o,
			.k = c->k[layer],
			.v = c->v[layer],
			.first = c->first.dev,
			.n = c->n.dev,
			.n_heads = t->n_heads,
			.n_kv_heads = t->n_kv_heads,
			.window = t->window,
			.scale = t->scale };

		DF_TRY(df_attn_decode(be, &d, err));
	}
out:
	return rc;
}
