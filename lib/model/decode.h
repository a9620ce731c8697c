/*
 * decode.h - generation: the keys and values of n_slots sequences of at most n_positions tokens are kept, so that a new
 * token costs one row, not its whole past.  decode.c says how the results relate to a forward without a cache.
 *
 * A cache belongs to one thread at a time, and to its model.  Slots of one call must differ (DF_EINTERNAL); a
 * sequence that outgrows its slot, or an id beyond the vocabulary, is DF_ERANGE or DF_EFORMAT and leaves the cache
 * as it was.
 */
#ifndef DF_MODEL_DECODE_H
#define DF_MODEL_DECODE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/run.h"

struct df_cache;
/* Bytes of such a cache; DF_ERANGE when it cannot be addressed. */
int df_cache_bytes(const struct df_model *m, size_t n_slots, size_t n_positions, size_t *bytes, struct df_err *err)
    DF_MUST_CHECK;
/* All slots empty.  DF_ENOMEM, with the sizes, when memory is short of it. */
int df_cache_new(struct df_cache **out, struct df_model *m, size_t n_slots, size_t n_positions, struct df_err *err)
    DF_MUST_CHECK;
void df_cache_free(struct df_cache *c); /* accepts NULL */
size_t df_cache_length(const struct df_cache *c, uint32_t slot); /* tokens in the slot */
void df_cache_cut(struct df_cache *c, uint32_t slot, size_t n);  /* forget those after the first n */
/* Slot `to` becomes a copy of the first n tokens of slot `from`: many samples of one prompt need one prefill. */
int df_cache_copy(struct df_cache *c, uint32_t from, uint32_t to, size_t n, struct df_err *err) DF_MUST_CHECK;
/* Run whole prompts: batch sample i into slot[i], which is emptied first; each of at least one token. */
int df_model_prefill(struct df_model *m, struct df_work *w, struct df_cache *c, const struct df_tokens *b,
    const uint32_t *slot, float *logits, struct df_err *err) DF_MUST_CHECK;
/*
 * Append n tokens to a slot piece by piece, so that a long text takes the memory of a piece, and a signal that asks to
 * stop is heard between them: DF_ESTOPPED, with some of the tokens in the slot.  Bits are those of extend with all of
 * them; logits [V] follow the last one.
 */
int df_model_extend_long(struct df_model *m, struct df_work *w, struct df_cache *c, uint32_t slot,
    const uint32_t *ids, size_t n, float *logits, struct df_err *err) DF_MUST_CHECK;
/* Append batch sample i to slot[i], whatever is in it.  Masks are not read, positions are the cache's. */
int df_model_extend(struct df_model *m, struct df_work *w, struct df_cache *c, const struct df_tokens *b,
    const uint32_t *slot, float *logits, struct df_err *err) DF_MUST_CHECK;
/* The same with one token for each of n sequences. All three give the logits [n, V] that follow (host; or NULL). */
int df_model_decode(struct df_model *m, struct df_work *w, struct df_cache *c, size_t n, const uint32_t *slot,
    const uint32_t *ids, float *logits, struct df_err *err) DF_MUST_CHECK;
/* Append in the same way; the losses of the samples' targets.  A sample's first token is no target. */
int df_model_extend_loss(struct df_model *m, struct df_work *w, struct df_cache *c, const struct df_tokens *b,
    const uint32_t *slot, const struct df_losses *out, struct df_err *err) DF_MUST_CHECK;

#endif
