/*
 * trainlog.h - the log of a run, in the files that LLaMA-Factory and its plotting scripts use.
 *
 *   trainer_log.jsonl   one line per event, appended as it happens
 *   trainer_state.json  transformers' TrainerState, with all events in log_history
 *   train_results.json, all_results.json
 *
 * Events are kept in memory and are saved in each checkpoint's trainer_state.json.  Resuming cuts
 * trainer_log.jsonl back to the checkpoint's step, so no line is there twice.
 */
#ifndef DF_TRAIN_TRAINLOG_H
#define DF_TRAIN_TRAINLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct df_train_event {
	uint64_t step;
	bool eval;              /* an evaluation; else the mean since the last training event */
	double loss, lr, grad_norm;
	double epoch;
	double accuracy;        /* of an evaluation; NaN: not requested */
	double *each;           /* of an evaluation: the loss of each dataset [n_names]; NULL: not requested */
};

struct df_trainlog {
	char *path;             /* of trainer_log.jsonl */
	char *const *name;      /* [n_names] datasets of the evaluation, borrowed; set before any other call */
	size_t n_names;
	uint64_t max_steps;
	struct df_train_event *event;
	size_t n, cap;
	double started;         /* (private) monotonic seconds */
	uint64_t first_step;    /* (private) the step where this process began */
};

/* Open a log in output_dir that begins at step `step`, with the events that df_trainlog_load left. */
int df_trainlog_open(struct df_trainlog *l, const char *output_dir, uint64_t step, uint64_t max_steps,
    struct df_err *err) DF_MUST_CHECK;
void df_trainlog_release(struct df_trainlog *l);

/* Take the events of dir/trainer_state.json (before df_trainlog_open). */
int df_trainlog_load(struct df_trainlog *l, const char *dir, struct df_err *err) DF_MUST_CHECK;

/* Record a copy of an event: in memory, and as one line at the end of trainer_log.jsonl. */
int df_trainlog_add(struct df_trainlog *l, const struct df_train_event *e, uint64_t total_tokens,
    struct df_err *err) DF_MUST_CHECK;

/* What the other files hold in addition to the events. */
struct df_train_summary {
	uint64_t step, max_steps, tokens_seen, batch;
	double epoch, num_train_epochs, flops;
	double logging_steps, save_steps, eval_steps;
	double train_loss; /* mean over all steps */
	double seconds;    /* of this process; below 0 in a checkpoint: its bytes must not depend on time */
	double samples;    /* trained on by this process */
	double best_metric;       /* NaN: none was requested */
	uint64_t best_step;       /* its step; 0: none */
	uint64_t best_checkpoint; /* the best one among those saved; 0: none */
};
int df_trainlog_write_state(const struct df_trainlog *l, const struct df_train_summary *s, const char *dir,
    struct df_err *err) DF_MUST_CHECK;
int df_trainlog_write_results(const struct df_trainlog *l, const struct df_train_summary *s, const char *dir,
    struct df_err *err) DF_MUST_CHECK;

#endif
