/*
 * config.h - what a training run is told: LLaMA-Factory's YAML keys.
 *
 * One table says of every key what it is called, its type and default, and
 * whether df-train follows it, compares it with the tokens, ignores it (one
 * warning names all such keys), or rejects it with a reason.  All arguments of LLaMA-Factory's training are in it.  The
 * reader, `df-train --list-keys`, and the test of df-config(5) all walk that table.  A key that is not in it is an
 * error.
 */
#ifndef DF_CONFIG_CONFIG_H
#define DF_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum df_key_type { DF_KEY_BOOL, DF_KEY_INT, DF_KEY_REAL, DF_KEY_STR, DF_KEY_MAP };

/*
 * A value is neutral when it asks for nothing: null, an empty list or map, the default, one of `allowed`, and false
 * where the default is not true.
 */
enum df_key_status {
	DF_KEY_SUPPORTED,
	DF_KEY_CHECKED,  /* an option of df-pack's: must agree with what the tokens say of themselves */
	DF_KEY_IGNORED,  /* cannot change what is computed here: a warning, unless the value is neutral */
	DF_KEY_REJECTED  /* would change it and is not done: an error, unless the value is neutral */
};

struct df_key {
	const char *name;
	enum df_key_type type;
	enum df_key_status status;
	size_t offset;       /* of the field in struct df_train_config (supported keys) */
	const char *dflt;    /* as YAML; "null" = unset */
	double min, max;     /* INT and REAL; both 0 = any */
	const char *allowed; /* "a|b|c": the choices of a STR, or what else is neutral in a key that is not followed */
	bool shapes;         /* the trained bytes depend on it: recorded in checkpoints */
	const char *help;    /* what it does; why it has no effect; why it is rejected */
};
/* The table, in the order of the manual; a row without a name ends it. */
const struct df_key *df_train_keys(void);
#define DF_TRAIN_KEYS_MAX 480

/* A YAML map of scalars. */
struct df_config_map {
	struct df_config_pair {
		char *key, *value;
	} *v;
	size_t n, cap;
};

/* Strings are owned and NULL when null; numbers that are null are 0.  Meanings: df_train_keys(), df-config(5). */
struct df_train_config {
	char *model_name_or_path, *adapter_name_or_path, *stage, *finetuning_type, *lora_target;
	bool train_from_scratch;
	int64_t lora_rank;
	double lora_alpha; /* 2 * lora_rank when null */
	bool use_rslora;
	double lora_dropout, loraplus_lr_ratio; /* 0 when null: one rate for all */
	char *additional_target;
	int64_t freeze_trainable_layers;
	char *freeze_trainable_modules, *freeze_extra_modules;
	bool freeze_gate;
	char *gradient_checkpointing; /* auto, true, false */
	bool disable_gradient_checkpointing;
	char *tokenized_path, *eval_tokenized_path, *output_dir, *resume_from_checkpoint;
	bool overwrite_output_dir;
	int64_t per_device_train_batch_size, per_device_eval_batch_size, gradient_accumulation_steps;
	double learning_rate, num_train_epochs;
	int64_t max_steps; /* <= 0: from num_train_epochs */
	char *lr_scheduler_type;
	struct df_config_map lr_scheduler_kwargs;
	double warmup_ratio;
	int64_t warmup_steps;
	double weight_decay, adam_beta1, adam_beta2, adam_epsilon, max_grad_norm;
	int64_t seed;
	bool disable_shuffling, dataloader_drop_last, use_dft_loss, logging_first_step, save_only_model;
	char *logging_strategy, *save_strategy, *eval_strategy;
	double logging_steps, save_steps, eval_steps; /* below 1: a part of all steps */
	int64_t save_total_limit;
	bool eval_on_each_dataset, compute_accuracy, load_best_model_at_end;
	char *metric_for_best_model, *greater_is_better; /* NULL: loss; as the metric's name says */
	int64_t early_stopping_steps; /* evaluations; 0 when null */
	double early_stopping_min_delta;

	struct df_config_map packed; /* the DF_KEY_CHECKED keys that were given */

	int line[DF_TRAIN_KEYS_MAX]; /* by row of the table: 0 default, > 0 line of the file, -1 an override */
	char *path;                  /* the file, for messages; NULL without one */
};

/*
 * Defaults, then the file (NULL = none), then `key=value` words, values as
 * YAML (`lr_scheduler_kwargs.min_lr=1e-5` reaches into a map); then all checks
 * that need no other file.  DF_ECONFIG names file, line and key, and the
 * nearest known key for an unknown one; DF_ENOINPUT, DF_EUSAGE (overrides).
 * Of several faults each goes to the log (DF_LOG_ERROR), and the error counts them.
 */
int df_train_config_load(struct df_train_config *c, const char *path, const char *const *words, size_t n_words,
    struct df_err *err) DF_MUST_CHECK;
void df_train_config_release(struct df_train_config *c);

/* "configs/x.yaml:12: learning_rate", or "learning_rate" without a line of the file: what a message begins with. */
void df_train_config_place(const struct df_train_config *c, const char *key, struct df_buf *out);

/* Append the keys that shape the trained bytes, as one JSON object. */
void df_train_config_json(const struct df_train_config *c, struct df_buf *out);

/* Append the table as text, one key per line: name, type, default, status, help (df-train --list-keys). */
void df_train_keys_list(struct df_buf *out);

#endif
