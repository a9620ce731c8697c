/*
 * grad.h - from tokens and a checkpoint to per-sample losses, gradients, or projections of gradients.
 *
 * All outputs of df-grad walk over *blocks*: runs of consecutive rows, cut by a rule that looks at the rows'
 * lengths and the options only.  Shards end where blocks end, threads take whole blocks, and a block's
 * numbers depend on nothing outside it.  So neither sharding nor threads nor an interruption changes a bit.
 *
 *   losses      one forward; the same for router loads
 *   gradients   a batched backward whose blocks are brought into the requested form and put side by side
 *   projections the same blocks, projected as they come and then dropped: no whole gradient is ever in memory
 *
 * With rewards of completions (policy.h), gradients and projections are those of prompts, weighted sums of the
 * gradients of their completions, and a block is a run of prompts.
 *
 * Thread rule: a df_grad is immutable after opening and shared by threads; each has its own lane.
 */
#ifndef DF_GRAD_GRAD_H
#define DF_GRAD_GRAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/err.h"
#include "grad/policy.h"
#include "model/model.h"
#include "project/project.h"
#include "shard/shard.h"

enum df_grad_form {
	DF_GRAD_SGD,  /* the gradient of the sample's mean loss */
	DF_GRAD_ADAM, /* the step that Adam would take on it from the checkpoint's moments (LESS) */
	DF_GRAD_SIGN
};
#define DF_GRAD_FORMS "sgd", "adam", "sign" /* in the order of the enum, for option tables */

enum df_grad_output {
	DF_GRAD_LOSSES,
	DF_GRAD_RAW,
	DF_GRAD_PROJECTED,
	DF_GRAD_LOADS /* how many of a sample's tokens each router sent to each expert; mixtures of experts only */
};

struct df_grad_opts {
	const char *model; /* a checkpoint, a Hugging Face directory, or a PEFT adapter directory */
	const char *base;  /* the adapter's base model, or NULL: as the adapter says */
	enum df_grad_output output;
	enum df_grad_form form;
	bool eps_inside;       /* adam: m' / sqrt(v' + eps), as in the paper's code, instead of m' / (sqrt(v') + eps) */
	bool allow_zero_state; /* adam: take missing moments as zeros */
	bool token_loss;       /* losses: the loss of every target too */
	struct df_policy_opts policy; /* with rewards: RAW or PROJECTED in form SGD */
	struct df_projector projector;
	uint64_t block_tokens; /* the most tokens of a block, 0 = by the model's size; one row may have more */
	uint64_t block_rows;   /* the most rows, 0 = by the model's size */
};

struct df_grad;
/*
 * Open the checkpoint (and its moments for the Adam form).  DF_ENOINPUT says what to do when the optimiser's state is
 * missing, DF_EUNSUPPORTED that a dense model has no router loads.  The backend must outlive it.
 */
int df_grad_open(
    struct df_grad **out, const struct df_grad_opts *o, struct df_backend *be, struct df_err *err) DF_MUST_CHECK;
void df_grad_close(struct df_grad *g); /* accepts NULL */

/*
 * The metadata of the output: m = kind, params, inputs, domains and manifest for these tokens.  `name`
 * is the token set's in messages; DF_ELINEAGE when the checkpoint was trained with another tokenizer, or
 * completions are of another checkpoint.
 */
int df_grad_meta(const struct df_grad *g, const struct df_meta *tokens, const char *name, struct df_meta *m,
    struct df_err *err) DF_MUST_CHECK;
/* The columns of the output and the widths of its matrices; has_domain: the tokens have domains. */
#define DF_GRAD_COLUMNS_MAX 5
size_t df_grad_columns(
    const struct df_grad *g, bool has_domain, enum df_col cols[DF_GRAD_COLUMNS_MAX], size_t widths[DF_COL_COUNT]);

/* The cut of this job's rows into blocks. */
int df_grad_blocks(const struct df_grad *g, const uint64_t *lengths, uint64_t n_rows, struct df_blocks *b,
    struct df_err *err) DF_MUST_CHECK;

/* One thread's memory. */
struct df_grad_lane;
int df_grad_lane_new(struct df_grad_lane **out, const struct df_grad *g, struct df_err *err) DF_MUST_CHECK;
void df_grad_lane_free(struct df_grad_lane *l); /* accepts NULL */
/* Counts of rows whose numbers have no meaning. */
struct df_grad_flaws {
	uint64_t n_unlabelled;     /* without a target */
	uint64_t n_not_finite;     /* with targets, but with NaN or Inf in loss or gradient */
	uint64_t first_not_finite; /* the id of the first of them, if any */
};
/*
 * One block: tokens in, the columns of the output out (in the arena of `out`, which is cleared first; id and domain
 * point into `in`).  Rows without targets have loss NaN and gradient zero in every form; they and rows that overflowed
 * are counted in *flaws.
 */
int df_grad_block(struct df_grad_lane *l, const struct df_batch *in, struct df_batch *out, struct df_grad_flaws *flaws,
    struct df_err *err) DF_MUST_CHECK;

/* One block of prompts, of a plan and what it read: their policy gradients out. n_unlabelled: without a gradient. */
int df_grad_policy_block(struct df_grad_lane *l, const struct df_policy *p, const struct df_policy_batch *in,
    struct df_batch *out, struct df_grad_flaws *flaws, struct df_err *err) DF_MUST_CHECK;

/* What a job costs. */
struct df_grad_cost {
	uint64_t rows, tokens, blocks;
	uint64_t coordinates;           /* trainable parameters */
	double model_flops;             /* forward and backward */
	double projection_flops;        /* multiplications and additions */
	double out_bytes;               /* of the output, uncompressed */
	double model_bytes, lane_bytes; /* memory: the model (and moments) once, and per thread, roughly */
};
void df_grad_estimate(const struct df_grad *g, const uint64_t *lengths, uint64_t n_rows, const struct df_blocks *b,
    struct df_grad_cost *cost);

#endif
