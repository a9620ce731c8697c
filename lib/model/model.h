/*
 * model.h - one transformer, described by config.json, written once against
 * the backend.
 *
 * Weights are described by tables of rows {name, shape, offset}.  There are two: `base`, the weights of the
 * checkpoint, each row where it lies (in the mapped file, or in memory), and `train`, the coordinates of gradients
 * and optimiser: the rows of base that train, all or a part of them, or the adapters' A and B and the modules that
 * train beside them.  The order of `train` is the order of a flat gradient.
 *
 * A batch is ragged: the tokens of its samples end to end, plus offsets.
 * Nothing is padded; attention is per sample; so a sample's loss and gradient
 * do not depend on what it is batched with.
 *
 * Per-sample gradients cost one batched backward: at a linear layer with
 * inputs X and output gradients G, sample s has dW_s = G_s^T X_s, from its rows
 * alone.  They are handed to a sink block by block, in strictly descending order of
 * flat offset, and forgotten.
 *
 * Thread rule: a model is immutable while losses and gradients are taken and may be
 * shared by threads, each with a df_work of its own.
 */
#ifndef DF_MODEL_MODEL_H
#define DF_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/err.h"
#include "base/hash.h"
#include "shard/shard.h"

/* ---- config.json -------------------------------------------------------- */

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

/* ---- parameter tables ---------------------------------------------------- */

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

/* ---- a model -------------------------------------------------------------- */

struct df_model;

struct df_lora_spec {
	size_t rank;
	double alpha;
	const char *targets;    /* "all" or a comma list of ends of module names; all leaves routers and the head out */
	bool rslora;            /* scale alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023) */
	double dropout;         /* of the adapters' input, while training (df_tokens.key is given) */
	const char *additional; /* NULL or a comma list: what trains whole beside the adapters (modules_to_save) */
};

/* Which weights of the checkpoint train, when there are no adapters. */
struct df_train_spec {
	bool freeze;               /* false: all of them */
	int64_t layers;            /* freeze: the last n > 0, or the first -n */
	const char *modules;       /* freeze: "all" or a comma list of name parts within those layers */
	const char *extra_modules; /* freeze: NULL or a comma list of name parts outside the layers */
	bool freeze_gate;          /* routers do not train */
};

/*
 * dir: a Hugging Face model directory, or a PEFT adapter directory, whose base
 * model is opened too: from `base`, or, if that is NULL, from where its
 * adapter_config.json says (a relative path counts from the working directory,
 * then from dir).  Matrices stay in the file's floating type, on the CPU in the mapped file itself; arithmetic is
 * float32, from the widened values.  A missing,
 * unknown, misshapen or non-finite tensor is DF_EFORMAT with its name.
 */
int df_model_open(
    struct df_model **out, const char *dir, const char *base, struct df_backend *be, struct df_err *err) DF_MUST_CHECK;
/*
 * From config.json in dir alone, random weights: N(0, init_range) for matrices,
 * 1 for norms, 0 for biases.  Element i of row r is draw i of substream r of
 * DF_RNG_INIT (base/rng.h).
 */
int df_model_init(
    struct df_model **out, const char *dir, uint64_t seed, struct df_backend *be, struct df_err *err) DF_MUST_CHECK;
void df_model_free(struct df_model *m); /* accepts NULL */
/* Freeze the base and add fresh adapters: B = 0, A uniform in +-1/sqrt(in) (PEFT's initialisation). */
int df_model_add_lora(
    struct df_model *m, const struct df_lora_spec *spec, uint64_t seed, struct df_err *err) DF_MUST_CHECK;

/*
 * Restrict what trains (a model opens with all its weights trainable, or its adapter's).  A checkpoint that was
 * saved with such a restriction opens with it.
 */
int df_model_set_trainable(struct df_model *m, const struct df_train_spec *spec, struct df_err *err) DF_MUST_CHECK;
/*
 * Give what trains its float32 master weights, [1, train numel] at df_model_train_data(): before an optimiser
 * changes them.  Weights at rest stay as the file has them (bf16, f16, mapped) until then.
 */
int df_model_master(struct df_model *m, struct df_err *err) DF_MUST_CHECK;
/* Keep only each layer's input in a forward and compute the rest again in the backward. Same results, to the bit. */
void df_model_set_checkpointing(struct df_model *m, bool on);

const struct df_model_config *df_model_config(const struct df_model *m);
const struct df_params *df_model_base(const struct df_model *m);
const struct df_params *df_model_train(const struct df_model *m);
bool df_model_has_lora(const struct df_model *m);
size_t df_model_bytes(const struct df_model *m);     /* of all weights, as they lie in memory or in the mapped file */
size_t df_model_backward_layers(const struct df_model *m); /* from the lowest that trains on */
bool df_model_trains_head(const struct df_model *m); /* sample gradients then need its logits' */
const char *df_model_dir(const struct df_model *m); /* of the base weights; NULL when they were drawn at random */
struct df_backend *df_model_backend(const struct df_model *m);
/* [1, train numel]: what an optimiser changes; NONE before df_model_master() unless the model has adapters. */
struct df_tensor df_model_train_data(struct df_model *m);
/* Elements [first, first + n) of row `row` of base, as float32, to host memory. */
int df_model_read(struct df_model *m, size_t row, size_t first, size_t n, float *dst, struct df_err *err) DF_MUST_CHECK;
/* Digest of all weights (and adapters) and of what the arithmetic depends on besides: the checkpoint's df_id. */
int df_model_digest(struct df_model *m, struct df_digest *d, struct df_err *err) DF_MUST_CHECK;
/*
 * Write what a fine-tuning saves into the existing directory: model.safetensors
 * (masters as float32, what has none as its file had it), config.json and, where not all of it trains,
 * trainable.json; or adapter_model.safetensors and adapter_config.json, whose
 * base is the directory that this model was opened from.  An adapter on
 * weights of df_model_init(), which are in no file, is DF_EUNSUPPORTED.
 */
int df_model_save(struct df_model *m, const char *dir, struct df_err *err) DF_MUST_CHECK;

/* How a merged model is written. */
struct df_merge_spec {
	bool convert;       /* to `type`; false: each tensor as its file has it */
	enum df_dtype type; /* DF_F32, DF_BF16, DF_F16 */
	uint64_t max_shard; /* bytes of a file; 0: one file */
};
/*
 * Write the whole model into the existing directory, its adapters merged into the weights: W + s B A in float32,
 * rounded once.  model.safetensors, or several files and model.safetensors.index.json, and config.json.  A value
 * that float16 cannot hold is DF_ERANGE.
 */
int df_model_merge(
    struct df_model *m, const char *dir, const struct df_merge_spec *spec, struct df_err *err) DF_MUST_CHECK;

/*
 * DF_ELINEAGE when the checkpoint `dir` says that it was trained with another tokenizer than this one (NULL: unknown),
 * or than these tokens were made with, or, where it says nothing, its tokenizer.json is another; `name` is theirs in
 * messages.  *known (may be NULL) = there were two to compare.
 */
int df_model_check_tokenizer(
    const char *dir, const char *tokenizer, const char *name, bool *known, struct df_err *err) DF_MUST_CHECK;
int df_model_check_tokens(
    const char *dir, const struct df_meta *tokens, const char *name, struct df_err *err) DF_MUST_CHECK;
/* Add the model, by its digest, to the inputs of what is made with it: "checkpoint". */
int df_model_to_meta(struct df_model *m, struct df_meta *meta, struct df_err *err) DF_MUST_CHECK;

/* ---- losses and gradients -------------------------------------------------- */

/* A value of df_tokens.mask: the sample's last token, an eos, is the target in the place of this one. */
#define DF_LABEL_LAST 2

/*
 * A ragged batch, host memory, borrowed.  A packed row is one sample of several sequences: `position` starts
 * anew in each of them, and with `sequence` (neat packing) attention stays within a run of equal numbers; without it
 * (plain packing) a token sees all of its row before it.
 */
struct df_tokens {
	size_t n;                 /* samples */
	const uint64_t *offsets;  /* [n+1] */
	const uint32_t *ids;      /* [offsets[n]] */
	const uint8_t *mask;      /* [offsets[n]]: 0, 1 = this token is a target, or DF_LABEL_LAST */
	const uint32_t *position; /* [offsets[n]] or NULL: counted from the sample's start */
	const uint32_t *sequence; /* [offsets[n]] or NULL: each sample is one sequence */
	const uint64_t *key;      /* [n] or NULL: each sample's dropout (training only), of df_model_dropout_key() */
};
/* The dropout of sample `id` in optimiser step `step` of a run with this seed: equal keys draw equal masks. */
uint64_t df_model_dropout_key(uint64_t seed, uint64_t step, uint64_t id);

/* Per-sample results, host memory of the caller; any pointer may be NULL. */
struct df_losses {
	float *loss;         /* [n] mean nll of the sample's targets, weighted (df_work_weigh); NaN when it has none */
	uint32_t *n_targets; /* [n] targets predicted (a target at position 0 is not) */
	float *token_nll;    /* [sum of n_targets], sample by sample */
	uint32_t *n_correct; /* [n] targets that were the most likely token */
	/* [n, n_layers * n_experts] of all its tokens, how many each router sent to each expert (0 in dense layers) */
	float *gate_load;
};

/*
 * Activations and scratch of one thread.  They grow when a batch needs more.
 * Floats for T tokens, of which L are predicted targets (D, F: widths, H and K
 * heads of width E, V vocabulary; small terms left out, work.h has them all):
 *
 *   losses            A + L (2 D + HE),    A = T (4 D + 3 F + 2 (H+K) E + H + LoRA ranks)
 *   gradients         n_layers A + T (D + max(D,F,HE) + (H+2K) E) + L (3 D + HE)
 *   sample gradients  the same + samples * 2^16, and L V if the head trains
 *   checkpointing     A + n_layers T D in place of n_layers A
 *
 * With k experts of width Fe to a token, of X, and a shared one of width Fs: k (3 Fe) + 3 Fs + D + X in place of 3 F,
 * and once T (k (2 D + 2 Fe) + D + Fs).
 */
struct df_work;
int df_work_new(struct df_work **out, struct df_model *m, struct df_err *err) DF_MUST_CHECK;
void df_work_free(struct df_work *w); /* accepts NULL */

/*
 * Weights of targets from their losses: between forward and backward fn is given the nll of all n targets of the batch,
 * sample by sample, and sets how much each counts (weight[n], from 0 up).  A weight scales the target's gradient, as a
 * constant, and its share of df_losses.loss; token_nll stays the nll.  Gradients then cost one more product with the
 * head.  NULL, as at first: each counts 1.  fn runs in the thread that calls the model; ctx is borrowed.
 */
typedef void df_weigh_fn(void *ctx, const float *nll, size_t n, float *weight);
void df_work_weigh(struct df_work *w, df_weigh_fn *fn, void *ctx);

/*
 * Forward only.  All four calls below return DF_EFORMAT for ids beyond the
 * vocabulary; a sample's results do not depend on its batch, to the bit.
 */
int df_model_loss(struct df_model *m, struct df_work *w, const struct df_tokens *b, const struct df_losses *out,
    struct df_err *err) DF_MUST_CHECK;

/*
 * The hidden states after `layer` layers, as transformers' hidden_states[layer]: 0 = the embeddings, n_layers =
 * the last layer's behind the final norm.  *h [tokens, D] lies in the workspace, valid until its next use.  Every
 * architecture; masks are not read.
 */
int df_model_hidden(struct df_model *m, struct df_work *w, const struct df_tokens *b, size_t layer, struct df_tensor *h,
    struct df_err *err) DF_MUST_CHECK;
/*
 * DF_HEAD_CLASSES: scores [n, n_labels] of each sample's last token that is not the config's padding, as transformers
 * takes it; to host memory.  An empty sample is DF_EFORMAT.  Masks are not read.
 */
int df_model_scores(
    struct df_model *m, struct df_work *w, const struct df_tokens *b, float *scores, struct df_err *err) DF_MUST_CHECK;

/*
 * Generation: the keys and values of n_slots sequences of at most n_positions tokens, so that a new token costs
 * one row, not its whole past.  decode.c says how the results relate to a forward without a cache.
 *
 * A cache belongs to one thread at a time, and to its model.  Slots of one call must differ (DF_EINTERNAL); a
 * sequence that outgrows its slot, or an id beyond the vocabulary, is DF_ERANGE or DF_EFORMAT and leaves the cache
 * as it was.
 */
struct df_cache;
/* Bytes of such a cache; DF_ERANGE when it cannot be addressed. */
int df_cache_bytes(const struct df_model *m, size_t n_slots, size_t n_positions, size_t *bytes, struct df_err *err)
    DF_MUST_CHECK;
/* All slots empty.  DF_ENOMEM, with the sizes, when memory is short of it. */
int df_cache_new(struct df_cache **out, struct df_model *m, size_t n_slots, size_t n_positions, struct df_err *err)
    DF_MUST_CHECK;
void df_cache_free(struct df_cache *c); /* accepts NULL */
size_t df_cache_length(const struct df_cache *c, uint32_t slot); /* tokens in the slot */
void df_cache_cut(struct df_cache *c, uint32_t slot, size_t n);  /* forget those behind the first n */
/* Slot `to` becomes a copy of the first n tokens of slot `from`: many samples of one prompt need one prefill. */
int df_cache_copy(struct df_cache *c, uint32_t from, uint32_t to, size_t n, struct df_err *err) DF_MUST_CHECK;
/* Run whole prompts: batch sample i into slot[i], which is emptied first; each of at least one token. */
int df_model_prefill(struct df_model *m, struct df_work *w, struct df_cache *c, const struct df_tokens *b,
    const uint32_t *slot, float *logits, struct df_err *err) DF_MUST_CHECK;
/*
 * Append n tokens to a slot piece by piece, so that a long text takes the memory of a piece, and a signal that asks to
 * stop is heard between them: DF_ESTOPPED, with a part of the tokens in the slot.  Bits are those of extend with all of
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
/* Append likewise; the losses of the samples' targets, of which their first token is none. */
int df_model_extend_loss(struct df_model *m, struct df_work *w, struct df_cache *c, const struct df_tokens *b,
    const uint32_t *slot, const struct df_losses *out, struct df_err *err) DF_MUST_CHECK;

/* All logits [tokens, V] to host memory: for tests. */
int df_model_logits(
    struct df_model *m, struct df_work *w, const struct df_tokens *b, float *logits, struct df_err *err) DF_MUST_CHECK;

/*
 * The batch gradient: grad [1, train numel] += d/dtheta of
 *   sum over samples s of sample_scale[s] * sum over the targets t of s of nll_t
 * (sample_scale[s] = 1/all targets of the step is the token mean; weight/n_targets reweights samples).
 * As in transformers, the embedding's row of the config's pad token gets no gradient from its inputs.
 */
int df_model_grad(struct df_model *m, struct df_work *w, const struct df_tokens *b, const float *sample_scale,
    struct df_tensor grad, const struct df_losses *out, struct df_err *err) DF_MUST_CHECK;

/*
 * A block of per-sample gradients of one parameter: g [n samples of the batch,
 * numel of the block], on the backend, valid during the call; the sink may
 * change it in place.  `offset` is the flat coordinate of its first column.
 * Blocks of a batch come in strictly descending order of offset and cover
 * every trainable coordinate once (zeros where no gradient flows).
 * All samples of the batch are in every block.  A parameter comes in pieces of
 * df_grad_piece_rows(cols) matrix rows counted from its start (shard/shard.h), the last piece first.
 */
struct df_grad_block {
	const struct df_param *param;
	size_t offset;      /* flat */
	struct df_tensor g; /* [n, columns] */
};
typedef int df_grad_sink(void *ctx, const struct df_grad_block *blk, struct df_err *err);

/* Per-sample gradients of each sample's mean loss (without targets: zeros).  One batched forward and backward. */
int df_model_sample_grads(struct df_model *m, struct df_work *w, const struct df_tokens *b, df_grad_sink *sink,
    void *ctx, const struct df_losses *out, struct df_err *err) DF_MUST_CHECK;

/* ---- optimiser moments beside a checkpoint --------------------------------- */

/*
 * optimizer.safetensors: exp_avg.<name> and exp_avg_sq.<name> for every row of
 * `train`; metadata step, beta1, beta2, eps.  Any directory without it is
 * DF_ENOINPUT with what to do; one whose names or shapes are not those of `train`
 * is DF_EFORMAT that names the first.
 */
struct df_moments {
	struct df_tensor m, v; /* [1, train numel] */
	double beta1, beta2, eps;
	uint64_t step;
};
int df_moments_init(struct df_moments *o, struct df_model *m, struct df_err *err) DF_MUST_CHECK; /* zeros */
int df_moments_load(struct df_moments *o, struct df_model *m, const char *dir, struct df_err *err) DF_MUST_CHECK;
int df_moments_save(const struct df_moments *o, struct df_model *m, const char *dir, struct df_err *err) DF_MUST_CHECK;
void df_moments_release(struct df_moments *o, struct df_model *m);

#endif
