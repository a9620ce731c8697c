/* trainable.h - which parameters are trainable: all, some, or adapters beside frozen ones. */
#ifndef DF_MODEL_TRAINABLE_H
#define DF_MODEL_TRAINABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct df_model;

struct df_lora_spec {
	size_t rank;
	double alpha;
	const char *targets;    /* "all" or a comma list of ends of module names; all leaves routers and the head out */
	bool rslora;            /* scale alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023) */
	double dropout;         /* of the adapters' input, while training (df_tokens.key is given) */
	const char *additional; /* NULL or a comma list: modules trained whole, in addition to the adapters */
};
/* Freeze the base and add fresh adapters: B = 0, A uniform in +-1/sqrt(in) (PEFT's initialisation). */
int df_model_add_lora(
    struct df_model *m, const struct df_lora_spec *spec, uint64_t seed, struct df_err *err) DF_MUST_CHECK;

/* Which weights of the checkpoint train, when there are no adapters. */
struct df_train_spec {
	bool freeze;               /* false: all of them */
	int64_t layers;            /* freeze: the last n > 0, or the first -n */
	const char *modules;       /* freeze: "all" or a comma list of name parts within those layers */
	const char *extra_modules; /* freeze: NULL or a comma list of name parts outside the layers */
	bool freeze_gate;          /* routers do not train */
};
/*
 * Choose the trainable parameters (a model opens with all its weights trainable, or its adapter's).  A checkpoint
 * that was saved with such a choice opens with it.
 */
int df_model_set_trainable(struct df_model *m, const struct df_train_spec *spec, struct df_err *err) DF_MUST_CHECK;
/*
 * Give the trainable parameters their float32 master weights, [1, train numel] at df_model_train_data(): before an
 * optimiser changes them.  Weights at rest stay as the file has them (bf16, f16, mapped) until then.
 */
int df_model_master(struct df_model *m, struct df_err *err) DF_MUST_CHECK;

#endif
