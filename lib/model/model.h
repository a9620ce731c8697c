/*
 * model.h - one transformer, described by config.json, written once against
 * the backend.
 *
 * Weights live in flat buffers on the backend, described by tables of rows
 * {name, shape, offset}.  There are two tables: `base`, the weights of the
 * checkpoint, and `train`, the coordinates of gradients and optimiser: for full
 * fine-tuning the same rows as base; for LoRA the adapters' A and B.  The
 * order of `train` is the order of a flat gradient.
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

enum df_arch { DF_ARCH_LLAMA, DF_ARCH_QWEN2 };

struct df_model_config {
	enum df_arch arch;
	size_t n_vocab, d_model, d_ff, n_layers, n_heads, n_kv_heads, d_head, max_positions;
	double norm_eps, rope_theta, init_range;
	bool tied; /* lm_head shares the embedding */
	bool qkv_bias, o_bias, mlp_bias;
	int64_t bos_id, eos_id, pad_id; /* -1 = none */
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
	const char *targets; /* "all" or a comma list of last name parts */
};

/*
 * dir: a Hugging Face model directory, or a PEFT adapter directory, whose base
 * model is opened too: from `base`, or, if that is NULL, from where its
 * adapter_config.json says (a relative path counts from the working directory,
 * then from dir).  Weights of any floating type become float32.  A missing,
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

const struct df_model_config *df_model_config(const struct df_model *m);
const struct df_params *df_model_base(const struct df_model *m);
const struct df_params *df_model_train(const struct df_model *m);
bool df_model_has_lora(const struct df_model *m);
struct df_backend *df_model_backend(const struct df_model *m);
struct df_tensor df_model_base_data(struct df_model *m);  /* [1, base numel] */
struct df_tensor df_model_train_data(struct df_model *m); /* [1, train numel]: what an optimiser changes */
/* Digest of all weights (and adapters) and of what the arithmetic depends on besides: the checkpoint's df_id. */
int df_model_digest(struct df_model *m, struct df_digest *d, struct df_err *err) DF_MUST_CHECK;
/*
 * Write what a fine-tuning saves into the existing directory: model.safetensors
 * and config.json, or adapter_model.safetensors and adapter_config.json, whose
 * base is the directory that this model was opened from.  An adapter on
 * weights of df_model_init(), which are in no file, is DF_EUNSUPPORTED.
 */
int df_model_save(struct df_model *m, const char *dir, struct df_err *err) DF_MUST_CHECK;

/* ---- losses and gradients -------------------------------------------------- */

/* A ragged batch, host memory, borrowed. */
struct df_tokens {
	size_t n;                /* samples */
	const uint64_t *offsets; /* [n+1] */
	const uint32_t *ids;     /* [offsets[n]] */
	const uint8_t *mask;     /* [offsets[n]]: 1 = this token is a target */
};

/* Per-sample results, host memory of the caller; any pointer may be NULL. */
struct df_losses {
	float *loss;         /* [n] mean nll of the sample's targets; NaN when it has none */
	uint32_t *n_targets; /* [n] targets predicted (a target at position 0 is not) */
	float *token_nll;    /* [sum of n_targets], sample by sample */
	uint32_t *n_correct; /* [n] targets that were the most likely token */
};

/*
 * Activations and scratch of one thread.  They grow when a batch needs more.
 * Floats for T tokens, of which L are predicted targets (D, F: widths, H and K
 * heads of width E, V vocabulary; small terms left out, work.h has them all):
 *
 *   losses            A + L (2 D + HE),    A = T (4 D + 3 F + 2 (H+K) E + H + LoRA ranks)
 *   gradients         n_layers A + T (D + max(D,F,HE) + (H+2K) E) + L (3 D + HE)
 *   sample gradients  the same + samples * 2^16, and L V if the head trains
 */
struct df_work;
int df_work_new(struct df_work **out, struct df_model *m, struct df_err *err) DF_MUST_CHECK;
void df_work_free(struct df_work *w); /* accepts NULL */

/*
 * Forward only.  All four calls below return DF_EFORMAT for ids beyond the
 * vocabulary; a sample's results do not depend on its batch, to the bit.
 */
int df_model_loss(struct df_model *m, struct df_work *w, const struct df_tokens *b, const struct df_losses *out,
    struct df_err *err) DF_MUST_CHECK;

/* All logits [tokens, V] to host memory: for tests and sampling. */
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
