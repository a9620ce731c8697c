/*
 * policy.h - the policy gradient of a prompt, from sampled completions and their rewards.
 *
 * Wang, Lin, Qiao, Koh, Foo, Low: "NICE Data Selection for Instruction Tuning in LLMs with Non-differentiable
 * Evaluation Metric", ICML 2025.  For a prompt x with completions y_1..y_S, drawn from the model itself, and rewards r_s
 *
 *     G(x) = 1/S sum_s r_s grad NLL(y_s | x),
 *
 * minus the REINFORCE gradient of the expected reward: it takes the place of the gradient of a loss.  Completions that
 * the policy does not accept have weight 0 and cost no computation; the mean is then over those that it accepts.
 *
 * Thread rule: a df_policy is used by one thread at a time, a df_policy_batch by any one.
 */
#ifndef DF_GRAD_POLICY_H
#define DF_GRAD_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/model.h"
#include "shard/shard.h"

/* Which completions of a prompt count. */
enum df_policy_rule {
	DF_POLICY_VANILLA,   /* all */
	DF_POLICY_REJECTION, /* those with a positive reward */
	DF_POLICY_HARD,      /* those with the reward of the prompt's own answer, less 1e-5, or more */
	DF_POLICY_TOPK,      /* of the best by reward, those with a positive one */
	DF_POLICY_TOPK_HARD  /* of the best by reward, those that DF_POLICY_HARD takes */
};
#define DF_POLICY_RULES "vanilla", "rejection", "hard", "topk", "topk-hard" /* in the order of the enum */

struct df_policy_opts {
	const char *rewards;   /* of the completions (rewards.h); NULL: no policy gradients */
	enum df_policy_rule rule;
	uint64_t topk;         /* how many are the best */
	bool mean_nll;         /* NLL is the mean over a completion's tokens, not the sum */
	bool loo;              /* r_s less the mean of the other rewards of its prompt; VANILLA only */
	bool sigmoid;          /* every reward r, also of answers, becomes 1 / (1 + exp(-r)) first */
	const char *reference; /* rewards of the prompts' own answers: a file, or one number for all; NULL: none */
	const char *protect;   /* tokens with these answers, for prompts without an accepted completion; NULL: none */
	bool off_policy;       /* completions of another checkpoint are allowed */
};
/* DF_EUSAGE for options that do not go together. */
int df_policy_check(const struct df_policy_opts *o, struct df_err *err) DF_MUST_CHECK;
/* Record the options in the parameters; the files that they name are df_policy_open()'s. */
int df_policy_to_meta(const struct df_policy_opts *o, struct df_meta *m, struct df_err *err) DF_MUST_CHECK;

/*
 * weight [n] = that of each completion's NLL in G; their number that the rule accepts is *n_used.  `reference` is the
 * reward of the prompt's own answer, for HARD.  n >= 2 for loo.
 */
int df_policy_weigh(const struct df_policy_opts *o, const double *reward, size_t n, double reference, double *weight,
    size_t *n_used, struct df_err *err) DF_MUST_CHECK;

/* What is to be computed: for each prompt in the order of the completions, which rows with what weight. */
struct df_policy {
	struct df_policy_opts o;
	struct df_set *completions; /* borrowed */
	struct df_set *references;  /* or NULL */
	uint64_t n;                 /* prompts */
	uint64_t *id;               /* [n] */
	uint16_t *domain;           /* [n], or NULL: the completions have none */
	uint64_t *first_row;        /* [n+1] the completions of each */
	uint64_t *first_use;        /* [n+1] those that count, and where they are */
	struct df_policy_use {
		uint64_t row, length;
		double weight;
		bool reference; /* row of the references */
	} *use;                     /* [first_use[n]] */
	size_t cap_use;
	uint64_t n_protected;       /* prompts whose own answer takes the place of completions */
	struct df_batch in;         /* (private) the completions of a prompt */
};
/*
 * Read rewards and which completions there are; the set must be open and stay so.  The files of rewards become inputs
 * of meta.  DF_EFORMAT: the set has no prompts, or the completions of a prompt are not next to each other; errors of
 * df_rewards_read(); DF_ELINEAGE: references that the completions' prompts are not from.
 */
int df_policy_open(struct df_policy **out, const struct df_policy_opts *o, struct df_set *completions,
    struct df_meta *meta, struct df_err *err) DF_MUST_CHECK;
void df_policy_close(struct df_policy *p); /* accepts NULL */

/* The rows of some prompts that count, in memory of its own. */
struct df_policy_batch {
	uint64_t n, first;   /* prompts [first, first+n) */
	size_t *begin;       /* [n+1] rows of each in tokens */
	struct df_tokens tokens;
	float *weight;       /* [tokens.n] of each row's mean NLL */
	uint32_t *n_targets; /* [n] of each prompt's rows */
	uint64_t *offsets;
	uint32_t *ids;
	uint8_t *mask;
	size_t cap_begin, cap_weight, cap_targets, cap_offsets, cap_ids, cap_mask; /* (private) */
};
int df_policy_read(struct df_policy *p, uint64_t first, uint64_t n, struct df_policy_batch *b, struct df_err *err)
    DF_MUST_CHECK;
void df_policy_batch_release(struct df_policy_batch *b);

#endif
