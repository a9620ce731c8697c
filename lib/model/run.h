/*
 * run.h - a batch through a model: losses, hidden states, scores, gradients.
 *
 * A batch is ragged: the tokens of its samples end to end, plus offsets.
 * Nothing is padded; attention is per sample; so a sample's loss and gradient
 * do not depend on what it is batched with.
 *
 * Per-sample gradients cost one batched backward: at a linear layer with
 * inputs X and output gradients G, sample s has dW_s = G_s^T X_s, from its rows
 * alone.  They are handed to a sink block by block, in strictly descending order of
 * flat offset, and forgotten.
 */
#ifndef DF_MODEL_RUN_H
#define DF_MODEL_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/err.h"
#include "model/params.h"

struct df_model;

/* A value of df_tokens.mask: the sample's last token, an eos, is the target in the place of this one. */
#define DF_LABEL_LAST 2

/*
 * A ragged batch, host memory, borrowed.  A packed row is one sample of several sequences: `position` starts
 * again in each of them, and with `sequence` (neat packing) attention stays within a run of equal numbers; without it
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
	float *loss;         /* [n] mean nll of the sample's targets, weighted (df_weigh_fn); NaN when it has none */
	double *nll;         /* [n] sum of the nll of the sample's targets, not weighted */
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
 *   sample gradients  the same + the larger of samples * 2^16 and block_bytes of df_backend_traits(), and L V if the
 *                     head is trainable
 *   checkpointing     A + n_layers T D in place of n_layers A
 *
 * With k experts of width Fe to a token, of X, and a shared one of width Fs: k (3 Fe) + 3 Fs + D + X in place of 3 F,
 * and once T (k (2 D + 2 Fe) + D + Fs).
 */
struct df_work;
int df_work_new(struct df_work **out, struct df_model *m, struct df_err *err) DF_MUST_CHECK;
void df_work_free(struct df_work *w); /* accepts NULL */
/*
 * The lane in which it computes (df_backend_fork), for operations on what it reads and leaves on the device, such as a
 * gradient: what other lanes wrote there must be synced before, and it itself before others use it.
 */
struct df_backend *df_work_backend(const struct df_work *w);

/* The targets of a batch, sample by sample, and their losses: host memory, valid during the call that gives it. */
struct df_target_losses {
	size_t n;                /* samples */
	const uint32_t *offsets; /* [n+1] the targets of each */
	const float *nll;        /* [offsets[n]] */
	const uint32_t *token;   /* [offsets[n]] the token that was to be predicted */
	const uint64_t *id;      /* [n] the samples' ids and ... */
	const uint16_t *domain;  /* [n] ... domains, in a training step (df_stepper_opts.weigh); elsewhere NULL */
};
/*
 * Weights of targets from their losses: between forward and backward fn is given the losses of a batch that has targets
 * and sets how much each of them counts (weight [offsets[n]], from 0 up).  A weight scales the target's gradient, as a
 * constant, and its share of df_losses.loss; nll and token_nll stay as they are.  An error of fn is the call's.
 */
typedef int df_weigh_fn(void *ctx, const struct df_target_losses *losses, float *weight, struct df_err *err);
/*
 * Losses and gradients that w computes are weighted by fn.  Gradients then cost one more product with the head if its
 * logits are more than 256 MiB, or if the backend keeps none.  NULL, as at first: each target counts 1.  fn runs in the
 * thread that calls the model; ctx is borrowed.
 */
void df_work_weigh(struct df_work *w, df_weigh_fn *fn, void *ctx);

/*
 * Where a batch gradient is final: df_model_grad() calls fn when the coordinates [first, end) of `grad` will not change
 * any more in this call: after the head, after each layer, after the embedding.  Ranges come in descending order,
 * without gaps, and each coordinate once; a tied head is final with the embedding.  So a layer's gradient may travel to
 * other ranks while the layers below it are computed.  fn runs in the thread that calls the model and may read `grad`;
 * its error ends the call.  ctx is borrowed.  NULL, as at first: nobody asks.
 */
typedef int df_ready_fn(void *ctx, size_t first, size_t end, struct df_err *err);
void df_work_on_ready(struct df_work *w, df_ready_fn *fn, void *ctx);

/*
 * Weights from elsewhere: hold() makes the weights of a layer ready before its forward or its backward reads them, and
 * drop() lets them go after it, so that a model may be larger than the memory.  Every hold is followed by its drop,
 * in the thread that calls the model; a layer that is computed again for its backward is held again.
 *
 * w [parameters of df_model_base()] are windows on the weights, of the types and shapes of the model's own: those of a
 * layer count between hold and drop only, those outside of the layers always.  Adapters stay in the model.
 */
struct df_weight_source {
	int (*hold)(void *ctx, size_t layer, struct df_err *err);
	void (*drop)(void *ctx, size_t layer);
	const struct df_tensor *w;
	void *ctx;
};
/* Borrowed until it is replaced; NULL, as at first: the model's own weights, which are always there. */
void df_work_weights(struct df_work *w, const struct df_weight_source *source);

/*
 * Forward only.  All calls below return DF_EFORMAT for ids beyond the
 * vocabulary; a sample's results do not depend on its batch, to the bit.
 */
int df_model_loss(struct df_model *m, struct df_work *w, const struct df_tokens *b, const struct df_losses *out,
    struct df_err *err) DF_MUST_CHECK;

/*
 * The hidden states after `layer` layers, as transformers' hidden_states[layer]: 0 = the embeddings, n_layers =
 * the last layer's after the final norm.  *h [tokens, D], f32, lies in the workspace, valid until its next use.  Every
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
 * df_model_grad() in two calls, where weights depend on losses beyond this batch.  The forward gives the losses, in
 * memory of w; the backward adds the gradient, with sample_scale[s] * weight[t] for target t of sample s (weight NULL:
 * 1).  Between them w is used for nothing else, and b stays.  A weigher of w is not asked.
 */
int df_model_forward(struct df_model *m, struct df_work *w, const struct df_tokens *b, struct df_target_losses *losses,
    struct df_err *err) DF_MUST_CHECK;
int df_model_backward(struct df_model *m, struct df_work *w, const float *sample_scale, const float *weight,
    struct df_tensor grad, const struct df_losses *out, struct df_err *err) DF_MUST_CHECK;

/*
 * A block of the per-sample gradients of one parameter: g [n samples of the batch, columns], on the backend, valid
 * during the call; the sink may change it in place.  `offset` is the flat coordinate of its first column.  Blocks of a
 * batch come in strictly descending order of offset and cover every trainable coordinate once (zeros where no gradient
 * flows).  All samples of the batch are in every block.
 *
 * A block is one or more whole pieces of df_grad_piece_rows(cols) matrix rows, counted from the parameter's start
 * (shard/meta.h); the last piece of a parameter may be shorter.  How many is the backend's choice: sums are defined by
 * pieces, the last first, and do not depend on it.
 */
struct df_grad_block {
	const struct df_param *param;
	size_t offset;      /* flat */
	size_t piece;       /* columns */
	struct df_tensor g; /* [n, columns] */
};
typedef int df_grad_sink(void *ctx, const struct df_grad_block *block, struct df_err *err);

/* Per-sample gradients of each sample's mean loss (without targets: zeros).  One batched forward and backward. */
int df_model_sample_grads(struct df_model *m, struct df_work *w, const struct df_tokens *b, df_grad_sink *sink,
    void *ctx, const struct df_losses *out, struct df_err *err) DF_MUST_CHECK;

#endif
