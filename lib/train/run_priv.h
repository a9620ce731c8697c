/*
 * run_priv.h - a run of df-train under way; seen by train.c and run_*.c.
 */
#ifndef DF_TRAIN_RUN_PRIV_H
#define DF_TRAIN_RUN_PRIV_H

#include "config/events.h"
#include "rows/rows.h"
#include "rows/sampler.h"
#include "train/checkpoint.h"
#include "train/schedule.h"
#include "train/step.h"
#include "train/train.h"
#include "train/trainlog.h"

struct df_run_kind;

#define DF_RUN_AHEAD 256 /* rows */

struct df_run {
	const struct df_train_opts *o;
	const struct df_config *c;
	int lock_fd; /* on output_dir: one run at a time */
	struct df_rows rows, eval_rows;
	bool has_eval;
	float *weights;  /* [rows.n] */
	uint64_t *index; /* [n_index] rows */
	uint64_t n_index;
	double index_step; /* for which it was selected, as its file says; -1: it does not */
	char index_id[DF_DIGEST_HEX], weights_id[DF_DIGEST_HEX];
	char *start;       /* the checkpoint to continue from, or NULL */
	bool start_is_own; /* it is in output_dir */
	bool start_is_result; /* it is output_dir itself, with the result of a run that kept no checkpoint */
	bool goes_back;    /* it was named, and output_dir has other checkpoints that this run no longer follows */
	bool clear;        /* overwrite_output_dir: output_dir is cleared, once all inputs are known to be good */
	struct df_model *model;
	struct df_tokenizer *tokenizer;
	struct df_sampler sampler;
	struct df_schedule schedule;
	struct df_stepper *stepper;
	struct df_trainlog log;
	struct df_train_state state;
	uint64_t steps_per_epoch, max_steps, end;
	uint64_t log_every, save_every, eval_every; /* 0 = never */
	bool save_best;                             /* save_strategy: best */
	uint64_t saved; /* step of the last checkpoint that is not interim; UINT64_MAX = none */
	uint64_t first_step, n_samples;
	double lr, grad_norm; /* of the last step */
	struct df_best_opts best;
	enum { DF_METRIC_LOSS, DF_METRIC_ACCURACY, DF_METRIC_DOMAIN } metric;
	size_t metric_domain; /* DF_METRIC_DOMAIN: the loss of this dataset */
	bool wants_best;      /* some key needs the best metric */
	bool checkpointing;   /* gradient_checkpointing, as decided */
	double activations;   /* bytes of a micro-batch, about */
	uint64_t *which;      /* [batch * accum] */
	uint64_t *next;       /* [batch * accum] of the next step */
	size_t per_step;      /* batch * accum */
	/* dynamic runs (run_dynamic.h) */
	struct df_events events;
	const struct df_run_kind *kind; /* NULL: the run is static */
	void *dynamic;                  /* of the kind */
	bool in_window;                 /* state.dynamic.event_step is an event that has happened */
	uint64_t window_end;            /* the step after which other rows come */
	uint64_t *ahead;      /* [DF_RUN_AHEAD] rows of the next steps, to be read ahead; NULL: all are in memory */
};

/* Load tokens, index and weights; check that they belong together and fit the configuration. */
int df_run_inputs(struct df_run *r, struct df_err *err) DF_MUST_CHECK;

/* Set up metric_for_best_model and its related keys for these evaluation tokens. */
int df_run_metric(struct df_run *r, struct df_err *err) DF_MUST_CHECK;
/* Open the model, from r->start or as the configuration says, and set its trainable parameters. */
int df_run_open_model(struct df_run *r, struct df_err *err) DF_MUST_CHECK;
/* Open the tokenizer whose files go into checkpoints: the model's own, or "bytes". */
int df_run_open_tokenizer(struct df_run *r, struct df_err *err) DF_MUST_CHECK;

/* Decide on r->start and load its state.  Changes no file. */
int df_run_find_start(struct df_run *r, struct df_err *err) DF_MUST_CHECK;
/* The state that training begins with: loaded, or fresh.  Checks that it belongs to these inputs. */
int df_run_begin_state(struct df_run *r, struct df_err *err) DF_MUST_CHECK;
/* A checkpoint is taken as the result that was asked for only if it was trained on the given index. */
int df_run_check_window(
    const struct df_run *r, const struct df_train_state *s, const char *path, struct df_err *err) DF_MUST_CHECK;

#endif
