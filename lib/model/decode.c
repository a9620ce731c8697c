/*
 * decode.c - sequences that grow: only the new tokens are computed.
 *
 * A layer mixes rows in its attention only.  So generation is the forward of forward.c over the new tokens
 * alone, with one difference: df_forward() leaves a layer's attention to df_cache_attend() (cache.c),
 * which keeps the new keys and values and lets the queries see all kept rows of their sequence.  All other
 * parts of a layer (biases, norms of heads, adapters, experts, any rotation) are the forward's own code.
 *
 * Rotations that depend on the length (dynamic NTK): a call rotates its new tokens with the frequencies for the
 * sequence's present length, and keys in the cache stay as they were rotated. transformers' generate() does the same.
 * So the two agree with each other, but, beyond the original length, not with one forward over the whole sequence.
 */
#include <string.h>

#include "base/mem.h"
#include "base/stop.h"
#include "model/cache_priv.h"

#define PIECE 512 /* tokens of a call: enough rows for a GEMM, few enough to stop soon at a signal */

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

/* Which row each token goes to, and from which row on it may look back. */
static int
place(struct df_cache *c, const struct df_tokens *b, struct df_err *err)
{
	const size_t n_tok = b->n > 0 ? b->offsets[b->n] : 0, size = n_tok * sizeof(uint32_t);
	size_t cap;
	int rc = DF_OK;

	DF_TRY(df_stage_reuse(c->m->be, &c->stage, 2 * size, "a batch", err));
	c->first = df_indices_at(c->stage, 0, n_tok);
	c->n = df_indices_at(c->stage, size, n_tok);
	if (n_tok > c->cap_tok) {
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
			c->first.host[t] = (uint32_t)(c->slot[s] * c->n_positions);
			c->n.host[t] = c->position[t] + 1;
		}
	}
	DF_TRY(df_stage_push(c->stage, 0, 2 * size, err));
out:
	return rc;
}

/* Run the batch into the slots; w->h_f has the last tokens' rows, or, with `targets`, those that the masks mark. */
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
	if (!targets)
		df_work_last_rows(w, -1);
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
	/* The frequencies of the whole length are known only to a call that gets the whole text. */
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
	DF_TRY(df_losses(w, out, err));
out:
	return rc;
}
