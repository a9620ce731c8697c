/*
 * sampler.h - which rows each optimizer step trains on.
 *
 * The rows are a pure function of the step: nothing is drawn in sequence, so a resumed run sees
 * exactly the rows of an uninterrupted one.
 *
 * Without an index, epoch e visits all rows in a permutation of its own: rows sorted by falling uniform(seed,
 * DF_RNG_SHUFFLE, e, sample id), ties by id.  So the same set of samples in other files has the same order.
 * Micro-batches and steps do not cross the end of an epoch, so the last step of an epoch may be smaller, as with
 * transformers' Trainer; df_sampler_drop_last() leaves out a last micro-batch that is smaller than the others.
 *
 * With an index, the steps from the window's start on take its rows in order, batch after batch, and
 * start again at its beginning when it ends.
 */
#ifndef DF_ROWS_SAMPLER_H
#define DF_ROWS_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct df_sampler {
	uint64_t n_rows;          /* of the pool */
	const uint64_t *ids;      /* [n_rows] sample ids, borrowed; NULL: row i is sample i */
	uint64_t seed;
	bool shuffle;
	uint64_t batch, n_accum;  /* samples of a micro-batch, micro-batches of a step */
	uint64_t n_epoch;         /* rows of an epoch: all, or those of whole micro-batches */
	uint32_t *order;          /* (private) rows of epoch order_epoch; NULL = in the order of the pool */
	uint64_t order_epoch;     /* (private) UINT64_MAX = none yet */
	const uint64_t *index;    /* [n_index] rows of the pool in training order, borrowed; NULL = epochs */
	uint64_t n_index, window; /* the step at which the index starts */
};

/* n_rows from 1 to UINT32_MAX, or DF_ERANGE.  An epoch's order takes 4 bytes per row, and 12 while it is made. */
int df_sampler_init(struct df_sampler *s, uint64_t n_rows, const uint64_t *ids, uint64_t seed, bool shuffle,
    uint64_t batch, uint64_t n_accum, struct df_err *err) DF_MUST_CHECK;
void df_sampler_release(struct df_sampler *s);

/*
 * dataloader_drop_last: epochs consist of whole micro-batches only; with fewer rows than `batch` they
 * are empty (n_epoch 0).
 */
void df_sampler_drop_last(struct df_sampler *s);

/* Follow rows index[0..n) from step `window` on; n >= 1. */
void df_sampler_set_index(struct df_sampler *s, const uint64_t *index, uint64_t n, uint64_t window);

/* Optimizer steps of an epoch: ceil(ceil(n_epoch / batch) / n_accum). */
uint64_t df_sampler_steps_per_epoch(const struct df_sampler *s);

/*
 * The rows of step g (from 0): rows has room for batch * n_accum; *n of them,
 * in micro-batches of `batch` (the last may be smaller).
 */
int df_sampler_step(struct df_sampler *s, uint64_t g, uint64_t *rows, size_t *n, struct df_err *err) DF_MUST_CHECK;
/*
 * The first rows, at most *n of them, of the steps from g on: the rows to read ahead.  They end with
 * the epoch that df_sampler_step was last asked for, as the order of the next is not known yet.
 */
void df_sampler_ahead(const struct df_sampler *s, uint64_t g, uint64_t *rows, size_t *n);

#endif
