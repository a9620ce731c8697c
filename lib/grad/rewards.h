/*
 * rewards.h - a number for each of some rows, made by a reward model or by any program.
 *
 * Three forms, told apart by their content:
 *
 *   scores artefact    by sample id, as df-eval writes the scores of a reward model
 *   JSON lines         {"id": 3, "sample": 1, "reward": 0.5}: the prompt and the number of its completion, as in
 *                      df-sample's lines; other members are ignored, true and false are 1 and 0
 *   text               a number per line in the order of the rows, or "sample id<TAB>number"; # begins a comment
 */
#ifndef DF_GRAD_REWARDS_H
#define DF_GRAD_REWARDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "shard/shard.h"

/* The rows that need a reward; borrowed. */
struct df_reward_rows {
	const char *name;       /* of the set, for messages */
	uint64_t n;
	const uint64_t *id;     /* [n] sample ids, all different */
	const uint64_t *prompt; /* [n] */
	const uint32_t *draw;   /* [n] number of the completion among its prompt's; NULL: each has one row */
	const char *tokens_id;  /* what an artefact must have been made from, where it says; NULL: not known */
	bool more;              /* the file may have rewards of other rows, too */
};

/*
 * reward [n] = those of the rows, all finite; meta gets the file as an input of this role.  DF_EFORMAT and
 * DF_ERANGE name the place of a reward that is missing, given twice, of no row, or not a number; DF_ELINEAGE: scores of
 * other tokens.
 */
int df_rewards_read(const char *path, const char *role, const struct df_reward_rows *rows, double *reward,
    struct df_meta *meta, struct df_err *err) DF_MUST_CHECK;

#endif
