/* config.h - what config.json says of a model: its architecture, its shapes, its ids. */
#ifndef DF_MODEL_CONFIG_H
#define DF_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum df_arch {
	DF_ARCH_LLAMA,
	DF_ARCH_MISTRAL,
	DF_ARCH_QWEN2,
	DF_ARCH_QWEN3,
	DF_ARCH_MIXTRAL,
	DF_ARCH_QWEN2_MOE,
	DF_ARCH_QWEN3_MOE,
	DF_ARCH_BERT /* an encoder: hidden states only */
};

/* What stands on the last hidden state. */
enum df_head {
	DF_HEAD_LM,     /* the vocabulary's logits */
	DF_HEAD_NONE,   /* a bare body, *Model: hidden states only */
	DF_HEAD_CLASSES /* *ForSequenceClassification: n_labels scores of a sample's last token */
};

enum df_rope_type { DF_ROPE_DEFAULT, DF_ROPE_LINEAR, DF_ROPE_DYNAMIC, DF_ROPE_LLAMA3, DF_ROPE_YARN };
/* Rotary frequencies, as transformers' modeling_rope_utils computes them; rope.c. */
struct df_rope_config {
	enum df_rope_type type;
	double theta, factor;
	double low_freq_factor, high_freq_factor;       /* llama3 */
	double attention_factor, beta_fast, beta_slow;  /* yarn */
	size_t original_max_positions;                  /* llama3, yarn */
	bool truncate;                                  /* yarn: correction dims are rounded outwards */
};

/* A mixture of experts in place of the feed-forward of some layers. */
struct df_moe_config {
	size_t n_experts; /* 0: no layer has one */
	size_t top_k;
	size_t d_expert;  /* feed-forward width of an expert */
	size_t d_shared;  /* of the shared expert, 0 = none (qwen2_moe) */
	bool normalise;   /* the chosen experts' weights sum to 1 */
};

struct df_model_config {
	enum df_arch arch;
	enum df_head head;
	size_t n_labels; /* DF_HEAD_CLASSES */
	size_t n_vocab, d_model, d_ff, n_layers, n_heads, n_kv_heads, d_head, max_positions;
	double norm_eps, init_range;
	struct df_rope_config rope;
	struct df_moe_config moe;
	bool *sparse;   /* [n_layers]: this layer is a mixture of experts; NULL: none is */
	size_t *window; /* [n_layers]: attention window, 0 = none; NULL: none has one */
	size_t n_types; /* BERT's token types */
	bool tied; /* lm_head shares the embedding */
	bool qkv_bias, o_bias, mlp_bias;
	bool qk_norm; /* RMSNorm over each head of q and k, before the rotation (qwen3) */
	int64_t bos_id, eos_id, pad_id; /* -1 = none */
	int64_t pad_row;                /* of the embedding: gets no gradient from inputs; -1 = none */
	int64_t eos_ids[8];             /* all of a list, for generation */
	size_t n_eos;
	char *json;                     /* what saving writes back: the file's members, dtype float32 */
};
/*
 * dir/config.json, as transformers 4 or 5 writes it.  Whatever would change the
 * arithmetic and is not supported is refused by name (DF_EUNSUPPORTED); what
 * is malformed or impossible is DF_EFORMAT or DF_ERANGE.
 */
int df_model_config_load(struct df_model_config *c, const char *dir, struct df_err *err) DF_MUST_CHECK;
void df_model_config_release(struct df_model_config *c);

#endif
