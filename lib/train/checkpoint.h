/*
 * checkpoint.h - output_dir/checkpoint-N: everything needed to continue as if the run had not been interrupted.
 *
 *   model.safetensors config.json | adapter_*   df_model_save
 *   tokenizer files                             df_tokenizer_save
 *   optimizer.safetensors                       AdamW's moments
 *   trainer_state.json                          the log so far
 *   df_state.json                               struct df_train_state
 *
 * A checkpoint appears whole (written under another name, synced, renamed) and disappears whole
 * (renamed, then removed), so a directory of that name is always complete.  Its bytes do not depend on
 * time, threads, or where the run was interrupted.
 */
#ifndef DF_TRAIN_CHECKPOINT_H
#define DF_TRAIN_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "model/model.h"
#include "model/trained.h"
#include "token/tokenizer.h"
#include "train/best.h"
#include "train/dynamic.h"
#include "train/step.h"
#include "train/trainlog.h"

/*
 * A run that goes back to a named checkpoint (resume_from_checkpoint) begins a branch.  The checkpoints that it
 * saves from there on count as newer than all others in output_dir, whatever their steps: they are newer in time.
 */
struct df_train_branch {
	uint64_t number;        /* number in output_dir; 0 = the run that began there */
	uint64_t step, parent;  /* the checkpoint it began at, and its branch; 0 = one of another directory */
	char id[DF_DIGEST_HEX]; /* df_checkpoint_id of that checkpoint; "" = none was named */
};

struct df_train_state {
	uint64_t step;         /* optimizer steps done */
	uint64_t tokens_seen;
	uint64_t n_skipped;    /* samples without targets so far */
	double loss_sum;       /* of the steps since the last log line */
	uint64_t loss_steps;   /* how many of them had targets */
	double total_loss;     /* of all steps */
	uint64_t total_steps;
	bool eval_pending;     /* stopped before this step's evaluation was done */
	bool interim;          /* saved because of a signal: removed once a later checkpoint exists */
	struct df_best best;   /* the results of evaluations */
	uint64_t window;       /* the step at which the index starts */
	char index_id[DF_DIGEST_HEX];   /* of its ids in order; "" = none */
	char weights_id[DF_DIGEST_HEX]; /* the same for the sample weights */
	char tokens_id[DF_DIGEST_HEX];  /* df_id of the training tokens */
	struct df_train_branch branch;
	struct df_dynamic dynamic;
	char *tokenizer_id;    /* NULL = not known */
	char *config;          /* df_config_json */
};
#define DF_TRAIN_STATE_INIT { .best = DF_BEST_INIT }
/* Did the run with state s pass the state with branch `b` and `step`? False if it went back before that state. */
bool df_train_state_passed(
    const struct df_train_state *s, const struct df_train_branch *b, uint64_t step);
/* Read dir/df_state.json, of a checkpoint or of a finished run's directory.  DF_ENOINPUT when there is none. */
int df_train_state_load(struct df_train_state *s, const char *dir, struct df_err *err) DF_MUST_CHECK;
int df_train_state_save(const struct df_train_state *s, const char *dir, struct df_err *err) DF_MUST_CHECK;
void df_train_state_release(struct df_train_state *s);

/*
 * The newest checkpoint in output_dir that training can continue from (one with an optimizer), by
 * branch and step: *path, to free(); NULL when there is none.
 */
int df_checkpoint_find(const char *output_dir, char **path, struct df_err *err) DF_MUST_CHECK;
/* Can training continue from `dir`: does it have a state and an optimizer? */
int df_checkpoint_is(const char *dir, bool *yes, struct df_err *err) DF_MUST_CHECK;
/* Identifies the state of a checkpoint, wherever its directory lies: the digest of its df_state.json. */
int df_checkpoint_id(const char *dir, char id[DF_DIGEST_HEX], struct df_err *err) DF_MUST_CHECK;

/* The checkpoints of a run in output_dir, with an optimizer or without. */
struct df_checkpoint_census {
	uint64_t n;          /* how many; directories of that name without df_state.json do not count */
	uint64_t branch;     /* the highest branch number */
	uint64_t n_later;    /* after the step asked for */
	uint64_t last;       /* the highest step */
	uint64_t before;     /* the highest step, up to the one asked for, that training can continue from; 0 = none */
	char *foreign;       /* a directory of that name with another program's weights, to free(); NULL = none */
};
int df_checkpoint_count(const char *output_dir, uint64_t step, struct df_checkpoint_census *c,
    struct df_err *err) DF_MUST_CHECK;

/* output_dir/checkpoint-STEP; free() it. */
int df_checkpoint_path(char **path, const char *output_dir, uint64_t step, struct df_err *err) DF_MUST_CHECK;

struct df_checkpoint {
	struct df_model *model;
	const struct df_stepper *stepper;     /* NULL = without optimizer */
	const struct df_tokenizer *tokenizer; /* NULL = no tokenizer files */
	const struct df_trainlog *log;
	const struct df_train_summary *summary;
	const struct df_train_state *state;
};
int df_checkpoint_save(const struct df_checkpoint *c, const char *output_dir, struct df_err *err) DF_MUST_CHECK;

/* The files in output_dir, next to the checkpoints, that every run writes again; NULL-terminated. */
extern const char *const df_checkpoint_logs[];

/*
 * Remove checkpoints that are no longer needed: interim ones before the newest, the oldest beyond
 * `limit` (0 = no limit), by branch and step, and what a killed removal left.  The checkpoint of step
 * `best` (0 = none) stays and counts towards the limit; the newest stays too.
 */
int df_checkpoint_rotate(
    const char *output_dir, uint64_t limit, uint64_t best, struct df_err *err) DF_MUST_CHECK;
/*
 * A run trains on, or again, in output_dir: remove all_results.json and domain_weights.h5, of a run that was over,
 * and its logs of lines, unless `keep_log`: without it, they are another run's.
 */
int df_checkpoint_reopen(const char *output_dir, bool keep_log, struct df_err *err) DF_MUST_CHECK;
/* Remove all checkpoints, logs and results of a run: overwrite_output_dir. */
int df_checkpoint_clear(const char *output_dir, struct df_err *err) DF_MUST_CHECK;

#endif
