/*
 * grad_priv.h - the inside of a job; seen in lib/grad only.
 */
#ifndef DF_GRAD_PRIV_H
#define DF_GRAD_PRIV_H

#include "grad/grad.h"

struct df_grad {
	struct df_grad_opts o;
	struct df_backend *be; /* borrowed */
	struct df_model *model;
	struct df_moments moments; /* for the Adam form; else NONE */
	size_t p;                  /* coordinates */
	char checkpoint[DF_DIGEST_HEX], manifest[DF_DIGEST_HEX];
};

/* One thread's memory. */
struct df_grad_lane {
	const struct df_grad *g;
	struct df_work *work;
	struct df_projection projection;
	float *block; /* [S, columns of a block], host */
	size_t block_cap;
	float *raw; /* [S, p] of the current block, in the output's arena */

	/* Policy gradients: the block, and the part of it that is in the model. */
	const struct df_policy_batch *batch;
	size_t first_row, n_rows, first_prompt, n_prompts;
	struct df_tensor weight, sum; /* [1, rows]; memory for the sums of a block, [prompts, n] */
};

/* How much of a prompt's completions is in the model at a time. */
void df_grad_batch_limits(const struct df_grad *g, uint64_t *max_tokens, uint64_t *max_rows);
/* Is any of the n numbers NaN or Inf? */
bool df_grad_not_finite(const float *x, size_t n);

#endif
