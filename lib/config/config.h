/*
 * config.h - what a run is told: LLaMA-Factory's YAML keys.
 *
 * One table says of every key what it is called, its type and default, whose work it is, which option of that program
 * says the same, and what the other programs do with it.  All arguments of LLaMA-Factory's training are in it.  Each
 * program has its own view of the table: df-train follows the keys that it owns, compares those of df-pack with the
 * tokens, ignores some (one warning names them) and rejects the rest with a reason; df-merge follows the few of an
 * export.  The reader, `df-train --list-keys`, and the test of df-config(5) all walk that table.  A key that a program
 * does not know is an error.
 */
#ifndef DF_CONFIG_CONFIG_H
#define DF_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* ---- the table ---------------------------------------------------------- */

enum df_key_type { DF_KEY_BOOL, DF_KEY_INT, DF_KEY_REAL, DF_KEY_STR, DF_KEY_CHOICE, DF_KEY_MAP };

/* Whose work a key is.  A key may have several owners: df-train's `seed` is df-pack's --seed, too. */
enum df_key_owner {
	DF_OWNER_TRAIN = 1,  /* df-train reads the key */
	DF_OWNER_PACK = 2,   /* df-pack has an option */
	DF_OWNER_EXPORT = 4, /* df-merge reads the key */
	DF_OWNER_PLAN = 8    /* df-plan makes commands of it */
};

/*
 * What a program that reads keys does with one.  A value is neutral when it asks for nothing: null, an empty list or
 * map, the default, one of `neutral`, and false where the default is not true.
 */
enum df_key_status {
	DF_KEY_UNKNOWN,   /* as if it were not in the table: an error */
	DF_KEY_SUPPORTED, /* the program's own */
	DF_KEY_CHECKED,   /* df-train: must agree with what the tokens say of themselves; df-plan: becomes an option */
	DF_KEY_IGNORED,   /* changes nothing: df-train warns unless the value is neutral, df-merge does not */
	DF_KEY_REJECTED   /* would change it and is not done: an error, unless the value is neutral */
};

struct df_key {
	const char *name;
	enum df_key_type type;
	unsigned owners;    /* of enum df_key_owner */
	const char *option; /* of df-pack, or else df-merge, if they are owners: means the same; NULL: there is none */
	bool is_switch;     /* the option has no value: --NAME, --no-NAME */
	bool elsewhere;     /* ignored here, as another program does it: no warning */
	enum df_key_status in_train, in_export; /* what df-train and df-merge do with a key that is not their own */
	size_t offset;              /* of the field in struct df_config (keys of df-train and df-merge) */
	const char *dflt;           /* as YAML; "null" = unset */
	double min, max;            /* INT and REAL; both 0 = any */
	const char *const *choices; /* CHOICE: the words of the field's enum, in its order; "null" stands for null */
	const char *also;           /* CHOICE: another word for the first choice; NULL: none */
	const char *neutral;        /* "a|b": what else asks for nothing */
	bool null_is_value;         /* checked keys: null is compared like any other value, not taken for unset */
	bool shapes;                /* the trained bytes depend on it: recorded in checkpoints */
	bool dynamic;               /* the same, of dynamic runs only */
	const char *help;           /* what it does; why df-train ignores or rejects it */
	const char *no_export;      /* why df-merge rejects it */
};
/* The table, in the order of the manual; a row without a name ends it. */
const struct df_key *df_keys(void);
size_t df_keys_count(void);

/*
 * What the program (DF_OWNER_TRAIN, DF_OWNER_EXPORT or DF_OWNER_PLAN) does with the key.  df-plan reads what df-train
 * and df-merge read, keeps the options of df-pack as text (DF_KEY_CHECKED), and ignores and rejects what df-train does.
 */
enum df_key_status df_key_status(const struct df_key *k, enum df_key_owner program);

/* ---- the choices -------------------------------------------------------- */

/* In the order of their words in df_..._names, which NULL ends. */
enum df_config_stage { DF_CONFIG_SFT, DF_CONFIG_PT };
enum df_finetuning { DF_FINETUNING_LORA, DF_FINETUNING_FULL, DF_FINETUNING_FREEZE };
enum df_checkpointing { DF_CHECKPOINTING_AUTO, DF_CHECKPOINTING_ON, DF_CHECKPOINTING_OFF };
enum df_strategy { DF_STRATEGY_NO, DF_STRATEGY_STEPS, DF_STRATEGY_EPOCH, DF_STRATEGY_BEST };
enum df_better { DF_BETTER_BY_NAME, DF_BETTER_GREATER, DF_BETTER_LESS }; /* by name: null */
enum df_infer_dtype { DF_INFER_AUTO, DF_INFER_FLOAT32, DF_INFER_BFLOAT16, DF_INFER_FLOAT16 };
enum df_schedule_type {
	DF_SCHEDULE_CONSTANT, /* no warm-up at all */
	DF_SCHEDULE_CONSTANT_WITH_WARMUP,
	DF_SCHEDULE_LINEAR,
	DF_SCHEDULE_COSINE,
	DF_SCHEDULE_COSINE_WITH_RESTARTS,
	DF_SCHEDULE_POLYNOMIAL,
	DF_SCHEDULE_INVERSE_SQRT,
	DF_SCHEDULE_COSINE_WITH_MIN_LR,
	DF_SCHEDULE_WARMUP_STABLE_DECAY,
	DF_SCHEDULE_REDUCE_LR_ON_PLATEAU /* constant; evaluations scale it (train/best.h) */
};
enum df_train_type { DF_TRAIN_STATIC, DF_TRAIN_SELECT, DF_TRAIN_MIX, DF_TRAIN_WEIGHT };
enum df_warmup_draw { DF_WARMUP_FRESH, DF_WARMUP_DATAFLEX };
enum df_mix_steps { DF_MIX_STEPS_GIVEN, DF_MIX_STEPS_DATAFLEX };
enum df_mix_rule { DF_MIX_RULE_MIXTURE, DF_MIX_RULE_STRATIFIED, DF_MIX_RULE_UNIFORM };
extern const char *const df_config_stage_names[], *const df_finetuning_names[], *const df_checkpointing_names[];
extern const char *const df_strategy_names[], *const df_better_names[], *const df_infer_dtype_names[];
extern const char *const df_schedule_names[], *const df_train_type_names[], *const df_mix_rule_names[],
    *const df_warmup_draw_names[], *const df_mix_steps_names[];

/* ---- the values --------------------------------------------------------- */

/*
 * A YAML map of scalars.  A list is its values joined by commas; the members of a map within it are named with dots
 * (`api.model_name`), and an empty one has the value "".
 */
struct df_config_map {
	struct df_config_pair {
		char *key, *value;
		int line; /* of the file, from 1; 0: of none */
	} *v;
	size_t n, cap;
};

/*
 * Strings are owned and NULL when null; numbers that are null are 0.  Meanings: df_keys(), df-config(5).
 * The fields of keys that the program does not own are 0.
 */
struct df_config {
	char *model_name_or_path, *adapter_name_or_path;
	enum df_config_stage stage;
	enum df_finetuning finetuning_type;
	char *lora_target;
	bool train_from_scratch;
	int64_t lora_rank;
	double lora_alpha; /* 2 * lora_rank when null */
	bool use_rslora;
	double lora_dropout, loraplus_lr_ratio; /* 0 when null: one rate for all */
	char *additional_target;
	int64_t freeze_trainable_layers;
	char *freeze_trainable_modules, *freeze_extra_modules;
	bool freeze_gate;
	enum df_checkpointing gradient_checkpointing;
	bool disable_gradient_checkpointing, bf16;
	char *tokenized_path, *eval_tokenized_path, *output_dir, *resume_from_checkpoint;
	bool overwrite_output_dir;
	int64_t per_device_train_batch_size, per_device_eval_batch_size, gradient_accumulation_steps;
	double learning_rate, num_train_epochs;
	int64_t max_steps; /* <= 0: from num_train_epochs */
	enum df_schedule_type lr_scheduler_type;
	struct df_config_map lr_scheduler_kwargs;
	double warmup_ratio;
	int64_t warmup_steps;
	double weight_decay, adam_beta1, adam_beta2, adam_epsilon, max_grad_norm;
	int64_t seed;
	bool disable_shuffling, dataloader_drop_last, use_dft_loss, logging_first_step, save_only_model;
	enum df_strategy logging_strategy, save_strategy, eval_strategy;
	double logging_steps, save_steps, eval_steps; /* below 1: a part of all steps */
	int64_t save_total_limit;
	bool eval_on_each_dataset, compute_accuracy, load_best_model_at_end;
	char *metric_for_best_model; /* NULL: loss */
	enum df_better greater_is_better;
	int64_t early_stopping_steps; /* evaluations; 0 when null */
	double early_stopping_min_delta;

	/* dynamic runs: config/events.h, config/component.h */
	enum df_train_type train_type;
	char *components_cfg_file, *component_name;
	struct df_config_map component_params;
	int64_t warmup_step, update_step, update_times, train_step;
	bool static_mix;
	enum df_warmup_draw warmup_draw;
	enum df_mix_steps mix_steps;
	enum df_mix_rule mixture_sample_rule;
	char *init_mixture_proportions, *mixer_eval_dataset; /* comma-separated */

	char *export_dir;
	double export_size; /* GB of a file */
	enum df_infer_dtype infer_dtype;

	struct df_config_map packed; /* the DF_KEY_CHECKED keys that were given */
	char *ignored; /* the keys that were given and have no effect, "a, b"; NULL: none */

	int *line; /* [df_keys_count()] by row of the table: 0 default, > 0 line of the file, -1 an override */
	char *path;                  /* the file, for messages; NULL without one */
};

/*
 * What the program (DF_OWNER_TRAIN, DF_OWNER_EXPORT or DF_OWNER_PLAN) is told: defaults, then the file (NULL = none),
 * then `key=value` words, values as YAML (`lr_scheduler_kwargs.min_lr=1e-5` reaches into a map); then, for df-train and
 * df-plan, all checks that need no other file.  DF_ECONFIG names file, line and key, and the
 * nearest known key for an unknown one; DF_ENOINPUT, DF_EUSAGE (overrides).
 * Of several faults each goes to the log (DF_LOG_ERROR), and the error counts them.
 */
int df_config_load(struct df_config *c, enum df_key_owner program, const char *path,
    const char *const *words, size_t n_words, struct df_err *err) DF_MUST_CHECK;
void df_config_release(struct df_config *c);

/* The row of a key, or NULL; and where it was given: 0 nowhere, > 0 in that line of the file, -1 as an override. */
const struct df_key *df_key_find(const char *key);
int df_config_line(const struct df_config *c, const char *key);

/* "configs/x.yaml:12: learning_rate", or "learning_rate" without a line of the file: what a message begins with. */
void df_config_place(const struct df_config *c, const char *key, struct df_buf *out);

/* DF_ECONFIG: "PLACE: key: ..." */
int df_config_fail(const struct df_config *c, const char *key, struct df_err *err, const char *fmt, ...)
    DF_PRINTF(4, 5);
/* Was the key given, in the file or on the command line? */
bool df_config_given(const struct df_config *c, const char *key);

/* Append the keys that shape the trained bytes, as one JSON object. */
void df_config_json(const struct df_config *c, struct df_buf *out);

/*
 * Append df-train's view of the table as text (df-train --list-keys), one key per line: name, state, type, default,
 * help, owners (train, pack, merge, plan) and option; "-" stands for what a key has not.
 */
void df_keys_list(struct df_buf *out);

#endif
