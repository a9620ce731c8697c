/*
 * decode.c - sequences that grow: the keys and values of what was seen are kept.
 *
 * A layer mixes rows in its attention only, so generation is the forward of
 * forward.c over the new tokens alone, with one thing exchanged: df_forward()
 * hands a layer's attention to df_cache_attend(), which keeps the new keys and
 * values and lets the queries look at all that is kept of their sequence.
 * Whatever a layer is made of besides (biases, norms of heads, adapters,
 * experts, any rotation) is the forward's own code.
 *
 *	layer   k, v [n_slots * n_positions, KE]
 *	        slot 0: k_0 k_1 ... k_len-1 . . . | slot 1: ... | ...     keys are kept rotated
 *
 * Two roads lead through attention.  Whole prompts (prefill) take the batched
 * one of the forward.  Tokens behind a past (extend, decode) are each a query
 * against their sequence's rows up to themselves.  Both give the forward's
 * logits to the bit, but for sliding windows on the second, whose sums begin elsewhere: there
 * roundings differ.  On either road a sequence's numbers do not depend on the others in the call.
 *
 * Rotations that depend on the length (dynamic NTK): a call rotates its new
 * tokens with the frequencies of the length that the sequence has then, and keys in the cache stay
 * as they were rotated.  transformers' generate() does the same, so that both
 * agree with each other, and, beyond the original length, not with a forward over the whole.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/stop.h"
#include "model/work.h"

#define PIECE 512 /* tokens of df_model_extend_long()'s calls: enough rows for a GEMM, few enough for who waits */

struct df_cache {
	struct df_model *m;
	size_t n_slots, n_positions;
	struct df_tensor *k, *v; /* [n_layers] */
	uint32_t *length;        /* [n_slots] */
	struct df_tensor logits; /* [n, V], grown */

	/* the call under way */
	bool whole;           /* prompts into empty slots */
	const uint32_t *slot; /* [n samples] */
	uint64_t *first, *n;  /* [tokens] rows of k and v that each may see */
	uint32_t *position;   /* [tokens] */
	uint8_t *mask;        /* [tokens] zeros */
	uint64_t *offsets;    /* [n+1] of df_model_decode() */
	bool *taken;          /* [n_slots] */
	size_t cap_tok;
};

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
	rc = df_size_mul(n, 2 * sizeof(float), bytes, "the cache", err);
out:
	return rc;
}

int
df_cache_new(struct df_cache **out, struct df_model *m, size_t n_slots, size_t n_positions, struct df_err *err)
{
	size_t bytes, n_layers = m->cfg.n_layers, available = df_mem_available();
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
		DF_TRY(df_tensor_alloc(m->be, &c->k[i], DF_F32, n_slots * n_positions, kv_width(m), "the cache", err));
		DF_TRY(df_tensor_alloc(m->be, &c->v[i], DF_F32, n_slots * n_positions, kv_width(m), "the cache", err));
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
	free(c->first);
	free(c->n);
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

/* ---- a call ---------------------------------------------------------------- */

static int
check_slots(struct df_cache *c, const struct df_tokens *b, const uint32_t *slot, struct df_err *err)
{
	int rc = DF_OK;

	memset(c->taken, 0, c->n_slots * sizeof(*c->taken));
	for (size_t s = 0; s < b->n && rc == DF_OK; s++) {
		const uint64_t n = b->offsets[s + 1] - b->offsets[s];

		if (slot[s] >= c->n_slots || c->taken[slot[s]] || n == 0)
			return df_fail(err, DF_EINTERNAL, "sample %zu of the batch: %llu tokens for slot %u", s,
			    (unsigned long long)n, slot[s]);
		c->taken[slot[s]] = true;
		if (n > c->n_positions - (c->whole ? 0 : c->length[slot[s]]))
			rc = df_fail(err, DF_ERANGE, "sample %zu of the batch: more than the %zu tokens of a slot", s,
			    c->n_positions);
	}
	return rc;
}

/* Which row each token goes to, and from where on it may look back. */
static int
place(struct df_cache *c, const struct df_tokens *b, struct df_err *err)
{
	const size_t n_tok = b->n > 0 ? b->offsets[b->n] : 0;
	size_t cap;
	int rc = DF_OK;

	if (n_tok > c->cap_tok) {
		cap = c->cap_tok;
		DF_TRY(df_grow(&c->first, &cap, n_tok, sizeof(*c->first), "a batch", err));
		cap = c->cap_tok;
		DF_TRY(df_grow(&c->n, &cap, n_tok, sizeof(*c->n), "a batch", err));
		cap = c->cap_tok;
		DF_TRY(df_grow(&c->position, &cap, n_tok, sizeof(*c->position), "a batch", err));
		cap = c->cap_tok;
		DF_TRY(df_grow(&c->mask, &cap, n_tok, 1, "a batch", err));
		memset(c->mask, 0, n_tok);
		c->cap_tok = n_tok;
	}
	for (size_t s = 0; s < b->n; s++) {
		const uint32_t past = c->whole ? 0 : c->length[c->slot[s]];

		for (size_t t = b->offsets[s]; t < b->offsets[s + 1]; t++) {
			c->position[t] = past + (uint32_t)(t - b->offsets[s]);
			c->first[t] = c->slot[s] * c->n_positions;
			c->n[t] = c->position[t] + 1;
		}
	}
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
		const size_t at = w->seg[s], n = w->seg[s + 1] - at, row = c->first[at] + c->position[at];

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
			.first = c->first,
			.n = c->n,
			.n_heads = t->n_heads,
			.n_kv_heads = t->n_kv_heads,
			.window = t->window,
			.scale = t->scale };

		DF_TRY(df_attn_decode(be, &d, err));
	}
out:
	return rc;
}

/* Run the batch into the slots; w->h_f has the last tokens' rows, or, with `targets`, those of the masks. */
static int
run(struct df_work *w, struct df_cache *c, const struct df_tokens *b, const uint32_t *slot, bool targets,
    struct df_err *err)
{
	struct df_tokens placed = *b;
	int rc;

	c->slot = slot;
	DF_TRY(check_slots(c, b, slot, err));
	DF_TRY(place(c, b, err));
	placed.position = c->position;
	placed.sequence = NULL;
	if (!targets)
		placed.mask = c->mask;
	DF_TRY(df_work_batch(w, &placed, err));
	if (!targets) {
		for (size_t s = 0; s < b->n; s++) {
			w->row[s] = (uint32_t)(b->offsets[s + 1] - 1);
			w->target_seg[s] = s;
		}
		w->target_seg[b->n] = w->n_rows = b->n;
	}
	DF_TRY(df_work_layout(w, DF_WORK_LOSS, err));
	w->cache = c;
	rc = df_forward(w, err);
	w->cache = NULL;
	for (size_t s = 0; s < b->n && rc == DF_OK; s++)
		c->length[slot[s]] = c->position[b->offsets[s + 1] - 1] + 1;
out:
	return rc;
}

static int
put_logits(struct df_work *w, struct df_cache *c, float *logits, struct df_err *err)
{
	struct df_tensor t;
	int rc;

	if (w->n_rows > c->logits.rows) {
		df_tensor_free(c->m->be, &c->logits);
		DF_TRY(df_tensor_alloc(c->m->be, &c->logits, DF_F32, w->n_rows, c->m->cfg.n_vocab, "logits", err));
	}
	t = df_tensor_rows(c->logits, 0, w->n_rows);
	DF_TRY(df_logits(w, t, err));
	DF_TRY(df_download(c->m->be, logits, t, err));
out:
	return rc;
}

static int
extend(struct df_work *w, struct df_cache *c, const struct df_tokens *b, const uint32_t *slot, bool whole,
    float *logits, struct df_err *err)
{
	int rc = DF_OK;

	if (b->n == 0)
		return DF_OK;
	c->whole = whole;
	DF_TRY(run(w, c, b, slot, false, err));
	if (logits != NULL)
		DF_TRY(put_logits(w, c, logits, err));
out:
	return rc;
}

int
df_model_prefill(struct df_model *m, struct df_work *w, struct df_cache *c, const struct df_tokens *b,
    const uint32_t *slot, float *logits, struct df_err *err)
{
	(void)m;
	return extend(w, c, b, slot, true, logits, err);
}

int
df_model_extend(struct df_model *m, struct df_work *w, struct df_cache *c, const struct df_tokens *b,
    const uint32_t *slot, float *logits, struct df_err *err)
{
	(void)m;
	return extend(w, c, b, slot, false, logits, err);
}

int
df_model_extend_long(struct df_model *m, struct df_work *w, struct df_cache *c, uint32_t slot, const uint32_t *ids,
    size_t n, float *logits, struct df_err *err)
{
	const size_t past = slot < c->n_slots ? c->length[slot] : 0;
	size_t piece = PIECE;
	int rc = DF_OK;

	if (n > c->n_positions - past)
		return df_fail(err, DF_ERANGE, "a text of %zu tokens: more than the %zu of a slot", n, c->n_positions);
	/* Frequencies of the whole length are known to a call with the whole only. */
	if (m->cfg.rope.type == DF_ROPE_DYNAMIC && past + n > m->cfg.max_positions)
		piece = n;
	for (size_t at = 0, k; at < n; at += k) {
		const struct df_tokens b = {
			.n = 1, .offsets = (uint64_t[]){ 0, n - at < piece ? n - at : piece }, .ids = ids + at
		};

		if (df_stop_requested())
			return df_fail(err, DF_ESTOPPED, "stopped by a signal while reading a text of %zu tokens", n);
		k = (size_t)b.offsets[1];
		DF_TRY(extend(w, c, &b, &slot, false, at + k == n ? logits : NULL, err));
	}
out:
	return rc;
}

int
df_model_decode(struct df_model *m, struct df_work *w, struct df_cache *c, size_t n, const uint32_t *slot,
    const uint32_t *ids, float *logits, struct df_err *err)
{
	const struct df_tokens b = { .n = n, .offsets = c->offsets, .ids = ids };

	(void)m;
	if (n > c->n_slots)
		return df_fail(err, DF_EINTERNAL, "%zu sequences in %zu slots", n, c->n_slots);
	for (size_t s = 0; s <= n; s++)
		c->offsets[s] = s;
	return extend(w, c, &b, slot, false, logits, err);
}

int
df_model_extend_loss(struct df_model *m, struct df_work *w, struct df_cache *c, const struct df_tokens *b,
    const uint32_t *slot, const struct df_losses *out, struct df_err *err)
{
	int rc;

	(void)m;
	c->whole = false;
	DF_TRY(run(w, c, b, slot, true, err));
	DF_TRY(df_head_losses(w, out, err));
out:
	return rc;
}
