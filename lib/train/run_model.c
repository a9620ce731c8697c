/*
 * run_model.c - the model that a run trains, and its tokenizer.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/run_priv.h"

#define ACTIVATIONS_MAX 4e9 /* bytes */

/* As with LLaMA-Factory, a model and its adapter are two keys, so that an adapter's base model is always clear. */
static int
check_model_dir(const struct df_run *r, struct df_err *err)
{
	struct df_buf place = DF_BUF_INIT;
	char *path = NULL;
	bool there;
	int rc = DF_OK;

	DF_TRY(df_path_join(&path, r->c->model_name_or_path, "adapter_config.json", err));
	DF_TRY(df_file_probe(path, &there, err));
	if (!there)
		goto out;
	df_config_place(r->c, "model_name_or_path", &place);
	DF_TRY(df_buf_check(&place, err));
	rc = df_fail(err, DF_ECONFIG,
	    "%s: %s is an adapter: give its base model here, and the adapter as adapter_name_or_path", place.data,
	    r->c->model_name_or_path);
out:
	df_buf_release(&place);
	free(path);
	return rc;
}

/*
 * gradient_checkpointing: auto.  A token keeps this number of activations for the backward in each layer, from
 * the lowest trainable one on (model/run.h).  When they exceed ACTIVATIONS_MAX for a micro-batch of the
 * longest samples, computing them again is cheaper than the memory.
 */
static void
decide_checkpointing(struct df_run *r)
{
	const struct df_model_config *m = df_model_config(r->model);
	const enum df_checkpointing how = r->c->gradient_checkpointing;
	const double ff =
	    m->moe.n_experts > 0 ? (double)(m->moe.top_k * m->moe.d_expert + m->moe.d_shared) : (double)m->d_ff;
	const double layer =
	    4.0 * (double)m->d_model + 3.0 * ff + (double)(2 * (m->n_heads + m->n_kv_heads) * m->d_head + m->n_heads);
	const size_t reached = df_model_backward_layers(r->model);
	const double layers = reached > 0 ? (double)reached : 1; /* one layer has its memory in any case */
	const double tokens = (double)r->rows.longest * (double)r->c->per_device_train_batch_size;
	const double size = (double)df_dtype_size(df_backend_compute(df_model_backend(r->model)));

	r->activations = size * layers * layer * tokens;
	r->checkpointing = how == DF_CHECKPOINTING_AUTO ? r->activations > ACTIVATIONS_MAX : how == DF_CHECKPOINTING_ON;
	r->checkpointing = r->checkpointing && !r->c->disable_gradient_checkpointing;
	if (r->checkpointing)
		r->activations = size * (layer + layers * (double)m->d_model) * tokens;
	df_model_set_checkpointing(r->model, r->checkpointing);
}

int
df_run_open_model(struct df_run *r, struct df_err *err)
{
	const struct df_config *c = r->c;
	const bool lora = c->finetuning_type == DF_FINETUNING_LORA;
	const char *dir = r->start ? r->start : c->adapter_name_or_path; /* of weights trained before */
	struct df_lora_spec spec = {
		.rank = (size_t)c->lora_rank,
		.alpha = c->lora_alpha > 0 ? c->lora_alpha : 2 * (double)c->lora_rank,
		.targets = c->lora_target,
		.rslora = c->use_rslora,
		.dropout = c->lora_dropout,
		.additional = c->additional_target,
	};
	const bool freeze = c->finetuning_type == DF_FINETUNING_FREEZE;
	const struct df_train_spec trains = {
		.freeze = freeze,
		.layers = c->freeze_trainable_layers,
		.modules = c->freeze_trainable_modules ? c->freeze_trainable_modules : "all",
		.extra_modules = c->freeze_extra_modules,
		.freeze_gate = c->freeze_gate,
	};
	int rc = DF_OK;

	DF_TRY(check_model_dir(r, err));
	if (dir) {
		DF_TRY(df_model_open(&r->model, dir, c->model_name_or_path, r->o->backend, err));
		if (df_model_has_lora(r->model) != lora) {
			rc = df_fail(err, DF_ELINEAGE, "%s is %s, finetuning_type is %s", dir,
			    lora ? "a whole model" : "an adapter", df_finetuning_names[c->finetuning_type]);
			goto out;
		}
	} else if (c->train_from_scratch) {
		DF_TRY(df_model_init(&r->model, c->model_name_or_path, (uint64_t)c->seed, r->o->backend, err));
	} else {
		DF_TRY(df_model_open(&r->model, c->model_name_or_path, NULL, r->o->backend, err));
		if (lora)
			DF_TRY(df_model_add_lora(r->model, &spec, (uint64_t)c->seed, err));
	}
	if (!lora && (freeze || c->freeze_gate))
		DF_TRY(df_model_set_trainable(r->model, &trains, err));
	decide_checkpointing(r);
	DF_TRY(df_rows_check_vocab(&r->rows, df_model_config(r->model)->n_vocab, c->model_name_or_path, err));
	if (r->has_eval)
		DF_TRY(
		    df_rows_check_vocab(&r->eval_rows, df_model_config(r->model)->n_vocab, c->model_name_or_path, err));
out:
	return rc;
}

int
df_run_open_tokenizer(struct df_run *r, struct df_err *err)
{
	const char *want = df_rows_tokenizer(&r->rows), *dir = r->c->model_name_or_path;
	char *path = NULL;
	bool there;
	int rc = DF_OK;

	DF_TRY(df_path_join(&path, dir, "tokenizer.json", err));
	DF_TRY(df_file_probe(path, &there, err));
	if (there) {
		DF_TRY(df_tokenizer_open(&r->tokenizer, dir, err));
		rc = df_tokenizer_check(r->tokenizer, want, r->rows.name, err);
		goto out;
	}
	DF_TRY(df_tokenizer_open(&r->tokenizer, "bytes", err));
	if (want && strcmp(df_tokenizer_id(r->tokenizer), want) == 0)
		goto out;
	df_tokenizer_free(r->tokenizer);
	r->tokenizer = NULL;
	df_warn("%s has no tokenizer.json: checkpoints will have none either", dir);
out:
	free(path);
	return rc;
}
