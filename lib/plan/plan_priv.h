/*
 * plan_priv.h - between the maps: what is known of a configuration while its plan is made.
 */
#ifndef DF_PLAN_PLAN_PRIV_H
#define DF_PLAN_PLAN_PRIV_H

#include "plan/plan.h"

struct df_map {
	struct df_plan *p;
	const struct df_plan_opts *o;
	const struct df_config *c;
	const char *path;         /* of the YAML, or NULL */
	const char *const *words; /* overrides */
	size_t n_words;
	const char *out;          /* as p->out */
	const char *model;        /* a directory */
	const char *tokenizer;    /* "bytes", or a path */
	const char *pool, *held;  /* token files; held NULL: nothing is held out */
	const char *alone;        /* the pool's rows without their prompts; NULL: not wanted */
	bool wants_alone;
	const char *held_sets;    /* names of the datasets that are held out, or NULL */
	bool may_cycle;           /* a selection may have rows more than once */
	uint64_t rows;            /* of the pool; 0: not known */
	uint64_t records;         /* of its datasets; at least as many; 0: not counted */
	const char *settings;     /* the keys that shape what is trained, for nodes that train */
};

/* The value of a key that is an option of df-pack; NULL: not given. */
const char *df_map_packed(const struct df_map *m, const char *key);
/* "dir/name" in the plan's directory, for the printf words. */
const char *df_map_file(const struct df_map *m, const char *fmt, ...) DF_PRINTF(2, 3);
/* The directory that stands for the model `name`: what --model says, or the name itself. */
const char *df_map_model(const struct df_map *m, const char *name);
bool df_map_is_model(const char *dir);
bool df_map_is_reward_model(const char *dir); /* it has a head that scores */

/*
 * Tokens: a df-pack for the training and the held-out rows; sets tokenizer, pool, held and alone.  Datasets, columns,
 * tokenizer and template are opened, so that what is wrong with them is found now.
 */
int df_map_tokens(struct df_map *m, struct df_err *err) DF_MUST_CHECK;

/* Begin a df-train: all words but --until and the like; it reads the tokens. */
void df_map_train_words(const struct df_map *m, struct df_plan_node *n);
/* A run to its end, in one node, and its evaluation. */
int df_map_train(struct df_map *m, struct df_err *err) DF_MUST_CHECK;
/* train_type: dynamic_select: tokens, and commands for each event. */
int df_map_select(struct df_map *m, struct df_err *err) DF_MUST_CHECK;
/* train_type: dynamic_mix and dynamic_weight: what comes before df-train, which does the rest in its loop. */
int df_map_mix(struct df_map *m, struct df_err *err) DF_MUST_CHECK;
int df_map_weight(struct df_map *m, struct df_err *err) DF_MUST_CHECK;
/* A file for an export: a df-merge. */
int df_map_merge(struct df_map *m, struct df_err *err) DF_MUST_CHECK;
/* Set the plan's events.  DF_ECONFIG: they depend on the number of rows, and that is not known beforehand. */
int df_map_events(struct df_map *m, struct df_err *err) DF_MUST_CHECK;

/* The evaluation of the final model, and the picture of its losses. */
int df_map_results(struct df_map *m, struct df_err *err) DF_MUST_CHECK;

/* Fill in what the nodes of the plan cost. */
int df_plan_price(const struct df_map *m, struct df_err *err) DF_MUST_CHECK;

#endif
