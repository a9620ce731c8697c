/*
 * run_priv.h - a run of df-train under way; seen by train.c, inputs.c and start.c.
 */
#ifndef DF_TRAIN_RUN_PRIV_H
#define DF_TRAIN_RUN_PRIV_H

#include "rows/rows.h"
#include "rows/sampler.h"
#include "train/checkpoint.h"
#include "train/schedule.h"
#include "train/step.h"
#include "train/train.h"
#include "train/trainlog.h"

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
	char index_id[DF_DIGEST_HEX], weights_id[DF_DIGEST_HEX];
	char *start;       /* the checkpoint to go on from, or NULL */
	bool start_is_own; /* it lies in output_dir */
	bool start_is_result; /* it was output_dir itself, with the result of a run that kept no checkpoint */
	bool goes_back;    /* it is a named one, and output_dir has others which this run no longer follows */
	bool clear;        /* overwrite_output_dir: what is there goes, once all inputs are known to be good */
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
	uint64_t saved;                             /* the step last saved for good; UINT64_MAX = none */
	uint64_t first_step, n_samples;
	double lr, grad_norm; /* of the last step */
	struct df_best_opts best;
	enum { DF_METRIC_LOSS, DF_METRIC_ACCURACY, DF_METRIC_DOMAIN } metric;
	size_t metric_domain; /* DF_METRIC_DOMAIN: the loss of this dataset */
	bool wants_best;      /* some key asks for the best metric */
	bool checkpointing;   /* gradient_checkpointing, decided */
	double activations;   /* bytes, about, of a micro-batch */
	uint64_t *which;      /* [batch * accum] */
	uint64_t *ahead;      /* [DF_RUN_AHEAD] rows of the steps after, while they are read; NULL: all are in memory */
};

/* Load tokens, index and weights, and see that they belong together and to what the configuration says. */
int df_run_inputs(struct df_run *r, struct df_err *err) DF_MUST_CHECK;

/* What metric_for_best_model and the keys around it mean with these evaluation tokens. */
int df_run_metric(struct df_run *r, struct df_err *err) DF_MUST_CHECK;
/* The model, as r->start or the configuration has it, and what of it trains. */
int df_run_open_model(struct df_run *r, struct df_err *err) DF_MUST_CHECK;
/* The tokenizer whose files go into checkpoints: the model's own, or "bytes". */
int df_run_open_tokenizer(struct df_run *r, struct df_err *err) DF_MUST_CHECK;

/* Decide on r->start and load its state.  Changes no file. */
int df_run_find_start(struct df_run *r, struct df_err *err) DF_MUST_CHECK;
/* The state that training begins with: loaded, or fresh; and whether it belongs to these inputs. */
int df_run_begin_state(struct df_run *r, struct df_err *err) DF_MUST_CHECK;
/* A checkpoint that is taken for what was asked for must have been trained on the index that was given. */
int df_run_check_window(
    const struct df_run *r, const struct df_train_state *s, const char *path, struct df_err *err) DF_MUST_CHECK;

#endif
