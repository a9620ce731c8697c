/*
 * params.h - tables of parameters: names, shapes, places in a flat buffer.
 *
 * A model has two of them, df_model_base() and df_model_train() (model.h).
 */
#ifndef DF_MODEL_PARAMS_H
#define DF_MODEL_PARAMS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/hash.h"

struct df_param {
	const char *name;  /* Hugging Face's (PEFT's for adapters), "model.layers.0.self_attn.q_proj.weight" */
	size_t rows, cols; /* [out,in]; vectors are [1,n] */
	int rank;          /* 1 or 2: as stored */
	size_t offset;     /* first element in the flat buffer */
	bool decay;        /* weight decay applies: not for biases and norm weights */
	int layer;         /* -1 outside the layers */
	bool lora_b;       /* an adapter's B: LoRA+ gives it a learning rate of its own (Hayou et al. 2024) */
};
struct df_params {
	struct df_param *v;
	size_t n;
	size_t numel; /* of the flat buffer */
};
/* Digest of names, shapes and order: two gradients with equal digests have the same coordinates. */
struct df_digest df_params_digest(const struct df_params *p);
const struct df_param *df_params_find(const struct df_params *p, const char *name); /* or NULL */

#endif
