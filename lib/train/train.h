/*
 * train.h - a training run, from a configuration to a checkpoint.
 *
 * The result of a run depends on the configuration, the tokens, the index and the weights alone: not
 * on --until, threads, signals or kills.  A run that is stopped or killed goes on from its last
 * checkpoint, and ends with the same bytes as an uninterrupted one.
 */
#ifndef DF_TRAIN_TRAIN_H
#define DF_TRAIN_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/err.h"
#include "base/pool.h"
#include "config/config.h"

struct df_train_opts {
	const struct df_config *config;
	uint64_t until;      /* stop after this optimizer step and save; 0 = train to the end */
	const char *index;   /* rows to train on, in order, from here on; NULL = epochs */
	const char *weights; /* a weight per sample; NULL = none */
	struct df_backend *backend;
	struct df_pool *pool;
};

/*
 * Tell base/inout.h which files a run of this configuration reads and writes.  What it keeps in output_dir is its own.
 * DF_EUSAGE when an output would replace an input.
 */
int df_train_note_files(const struct df_config *c, struct df_err *err) DF_MUST_CHECK;

struct df_train_report {
	uint64_t first_step, step, max_steps; /* steps first_step+1 .. step were done now */
	uint64_t n_tokens;                    /* their tokens */
	double seconds;                       /* time of these steps, without saving and evaluating */
};

/*
 * Train.  DF_ESTOPPED after a signal, with a checkpoint saved; DF_ELINEAGE for inputs that do not belong
 * together; DF_ERANGE for a loss or gradient that is not finite, naming step and samples, with nothing saved.
 */
int df_train_run(const struct df_train_opts *o, struct df_train_report *report, struct df_err *err) DF_MUST_CHECK;

struct df_events;
/* The events of the run (config/events.h): only tokens, index and weights are read. */
int df_train_events(const struct df_train_opts *o, struct df_events *events, struct df_err *err) DF_MUST_CHECK;

/* Print what the run would do, without doing it: steps, tokens, parameters, memory, FLOPs. */
struct df_train_plan {
	uint64_t n_rows, n_tokens;
	bool counted; /* the next two are known: few enough tokens to read them beforehand */
	uint64_t n_targets, n_unlabelled;
	uint64_t steps_per_epoch, max_steps, first_step, end_step;
	uint64_t n_params, n_trained;
	double flops;        /* of the remaining steps */
	double memory;       /* bytes: weights, gradients, moments, tokens */
	double activations;  /* bytes of the longest possible micro-batch, about */
	bool checkpointing;  /* activations are computed twice */
	double checkpoint;   /* bytes of one checkpoint */
};
int df_train_dry_run(const struct df_train_opts *o, struct df_train_plan *plan, struct df_err *err) DF_MUST_CHECK;

#endif
