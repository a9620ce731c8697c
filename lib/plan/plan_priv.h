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
	const char *pool, *held;  /* token files; held NULL: nothing is held out */
	const char *settings;     /* the keys that shape what is trained, for nodes that train */
};

/* The value of a key that is an option of df-pack; NULL: not given. */
const char *df_map_packed(const struct df_map *m, const char *key);
/* "dir/name" in the plan's directory, for the printf words. */
const char *df_map_file(const struct df_map *m, const char *fmt, ...) DF_PRINTF(2, 3);
/* Tokens: a df-pack for the training and the held-out rows; sets pool and held. */
int df_map_tokens(struct df_map *m, struct df_err *err) DF_MUST_CHECK;

/* Begin a df-train: all words but --until and the like; it reads the tokens. */
void df_map_train_words(const struct df_map *m, struct df_plan_node *n);
/* A run to its end, in one node, and its evaluation. */
int df_map_train(struct df_map *m, struct df_err *err) DF_MUST_CHECK;
/* The evaluation of the final model, and the picture of its losses. */
int df_map_results(struct df_map *m, struct df_err *err) DF_MUST_CHECK;

/* Fill in what the nodes of the plan cost. */
int df_plan_price(const struct df_map *m, struct df_err *err) DF_MUST_CHECK;

#endif
