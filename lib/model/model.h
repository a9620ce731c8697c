/*
 * model.h - one transformer, described by config.json, written once against
 * the backend: how it is opened, asked about and saved.  Its parts have headers of their own, included here:
 *
 *   config.h     what config.json says
 *   params.h     tables of parameters
 *   trainable.h  which of them train; adapters
 *   run.h        batches: losses, hidden states, gradients
 *   decode.h     generation with a cache
 *   moments.h    the optimiser's moments in a checkpoint
 *
 * Weights are described by tables of rows {name, shape, offset}.  There are two: `base`, the weights of the
 * checkpoint, each row where it lies (in the mapped file, or in memory), and `train`, the coordinates of gradients
 * and optimiser: the trainable rows of base, all or some of them, or the adapters' A and B and the modules that are
 * trained with them.  The order of `train` is the order of a flat gradient.
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
#include "model/config.h"
#include "model/decode.h"
#include "model/moments.h"
#include "model/params.h"
#include "model/run.h"
#include "model/trainable.h"
#include "shard/shard.h"

struct df_model;

/*
 * dir: a Hugging Face model directory, or a PEFT adapter directory, whose base
 * model is opened too: from `base`, or, if that is NULL, from where its
 * adapter_config.json says (a relative path counts from the working directory,
 * then from dir).  Matrices stay in the file's floating type, on the CPU in the mapped file itself; arithmetic is
 * float32, from the widened values, or, as df_backend_compute() says, with activations in bf16: then matrices of
 * another type are rounded to bf16 beside their values.  A missing,
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
/*
 * Where activations are bf16: the same rounded to bf16, NONE elsewhere.  An optimiser keeps it equal (df_adamw.low);
 * whoever writes train_data by other means says so afterwards.
 */
struct df_tensor df_model_train_low(struct df_model *m);
int df_model_train_changed(struct df_model *m, struct df_err *err) DF_MUST_CHECK;
/* Elements [first, first + n) of row `row` of base, as float32, to host memory. */
int df_model_read(struct df_model *m, size_t row, size_t first, size_t n, float *dst, struct df_err *err) DF_MUST_CHECK;
/* Digest of all weights (and adapters) and of all else that the arithmetic depends on: the checkpoint's df_id. */
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
/*
 * The parameter "compute" of what is made with a model that does not compute in float32: its numbers differ by it, its
 * digest does not.
 */
int df_model_compute_to_meta(const struct df_model *m, struct df_meta *meta, struct df_err *err) DF_MUST_CHECK;
/* Add the model, by its digest, to the inputs of what is made with it: "checkpoint"; and that parameter. */
int df_model_to_meta(struct df_model *m, struct df_meta *meta, struct df_err *err) DF_MUST_CHECK;

#endif
