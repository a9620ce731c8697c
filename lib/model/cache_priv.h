/*
 * cache_priv.h - the keys and values of sequences that grow, between cache.c (storage, attention) and decode.c (calls).
 *
 *	layer   k, v [n_slots * n_positions, KE]
 *	        slot 0: k_0 k_1 ... k_len-1 . . . | slot 1: ... | ...     keys are kept rotated
 */
#ifndef DF_MODEL_CACHE_PRIV_H
#define DF_MODEL_CACHE_PRIV_H

#include "model/work.h"

struct df_cache {
	struct df_model *m;
	size_t n_slots, n_positions;
	struct df_tensor *k, *v; /* [n_layers] */
	uint32_t *length;        /* [n_slots] */
	struct df_tensor logits; /* [n, V], grown */

	/* the call under way */
	bool whole;           /* prompts into empty slots */
	const uint32_t *slot; /* [n samples] */
	struct df_stage *stage;
	struct df_indices first, n; /* [tokens] rows of k and v that each may see; in the stage */
	uint32_t *position;   /* [tokens] */
	uint8_t *mask;        /* [tokens] zeros */
	uint64_t *offsets;    /* [n+1] of df_model_decode() */
	bool *taken;          /* [n_slots] */
	size_t cap_tok;
};

#endif
