/*
 * train.h - a training run, from a configuration to a checkpoint.
 *
 * What a run computes follows from the configuration, the tokens, the index
 * and the weights alone: not from --until, threads, signals or kills.  A run
 * that is stopped, by itself or by force, goes on from its last checkpoint and
 * ends with the bytes that an undisturbed one would have.
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
	const char *index;   /* rows in training order from here on; NULL = epochs */
	const char *weights; /* a weight per sample; NULL = none */
	struct df_backend *backend;
	struct df_pool *pool;
};

struct df_train_report {
	uint64_t first_step, step, max_steps; /* steps first_step+1 .. step were done now */
	uint64_t n_tokens;                    /* of them */
	double seconds;                       /* spent in them, saving and evaluating not counted */
};

/*
 * Train.  DF_ESTOPPED after a signal, with a checkpoint saved; DF_ELINEAGE
 * for inputs that do not belong together; DF_ERANGE for a loss or gradient
 * that is not finite, naming step and samples, with nothing saved.
 */
int df_train_run(const struct df_train_opts *o, struct df_train_report *report, struct df_err *err) DF_MUST_CHECK;

/* Print what the run would do, without doing it: steps, tokens, parameters, memory, FLOPs. */
struct df_train_plan {
	uint64_t n_rows, n_tokens;
	bool counted; /* the next two are known: few enough tokens to be read before */
	uint64_t n_targets, n_unlabelled;
	uint64_t steps_per_epoch, max_steps, first_step, end_step;
	uint64_t n_params, n_trained;
	double flops;        /* of the steps to do */
	double memory;       /* bytes: weights, gradients, moments, tokens */
	double activations;  /* bytes, about, of the longest micro-batch that there can be */
	bool checkpointing;  /* they are computed twice */
	double checkpoint;   /* bytes of one */
};
int df_train_dry_run(const struct df_train_opts *o, struct df_train_plan *plan, struct df_err *err) DF_MUST_CHECK;

#endif
