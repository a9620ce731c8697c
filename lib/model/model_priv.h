/*
 * model_priv.h - the inside of a model; seen in lib/model only.
 *
 * A layer is made of norms and linear *groups*, projections of one input:
 *
 *	qkv      [(H+2K)E, D]   q_proj k_proj v_proj
 *	o        [D, HE]        o_proj
 *	gate_up  [2F, D]        gate_proj up_proj
 *	down     [D, F]         down_proj
 *
 * A mixture of experts has, in place of the last two, a router and one such pair for each expert, each
 * a group of its own.
 *
 * The order of the tables follows the forward, so that a backward reaches the parameters in descending order of offset:
 *
 *	base   embed | layer 0 | layer 1 | ... | norm | lm_head (unless tied) or score
 *	layer  input_layernorm | q.w k.w v.w q.b k.b v.b | q_norm k_norm | o.w o.b | post_attention_layernorm | ffn
 *	ffn    gate.w up.w gate.b up.b | down.w down.b
 *	       or router | expert 0: gate up | down | expert 1 ... | shared: gate up | down | shared_expert_gate
 *	train  the trainable rows of base, in that order, and after each group's own its members' adapters, A.. B..
 *
 * A row of a table is a parameter; its number is the parameter's index.  Every row of base has a
 * window of its own on its weights: in the mapped file (matrices at rest), in a buffer of small
 * float32 rows (vectors), or in the flat buffer of the trainable parameters (its masters).
 *
 * Batches are multiplied with these windows where the model computes in float32.  Where it computes in bf16, matrices
 * that have another type have a rounded copy beside them (low.c): `value` is what is saved, `w` what is multiplied.
 */
#ifndef DF_MODEL_PRIV_H
#define DF_MODEL_PRIV_H

#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "model/model.h"
#include "safetensors/safetensors.h"

enum df_group_id { DF_GROUP_QKV, DF_GROUP_O, DF_GROUP_GATE_UP, DF_GROUP_DOWN, DF_GROUPS };
#define DF_GROUP_PARTS 3
#define DF_NO_ROW      SIZE_MAX

/* One projection of a group. */
struct df_part {
	size_t col, out;     /* its columns of the group's output */
	size_t weight, bias; /* indices in the base table; bias may be DF_NO_ROW */
	size_t a, b;         /* indices in the train table under LoRA, or DF_NO_ROW */
	size_t rank, u_col;  /* rank of its adapter; its columns of the group's low-rank activations */
	float scale;         /* alpha / rank, or / sqrt(rank) */
};

struct df_group {
	size_t in, out;
	struct df_part part[DF_GROUP_PARTS];
	size_t n_parts;                /* 0: the layer has no such group */
	struct df_tensor weight, bias; /* [out,in], [1,out] where the parts lie side by side, else NONE */
	size_t n_lora, u_cols, a_off;  /* adapted parts, their ranks' sum; their A side by side [u_cols, in] in train */
	bool lowest;                   /* holds the first row of train: nothing below needs a gradient */
};

/* A mixture of experts; its router and the shared expert's gate are groups of one part.  No expert has biases. */
struct df_moe {
	struct df_group router;          /* [n_experts, D] */
	struct df_group *gate_up, *down; /* [n_experts] each */
	size_t n_experts;
	struct df_group shared_gate_up, shared_down; /* qwen2_moe */
	struct df_group shared_gate; /* [1, D]; n_parts 0: there is no shared expert */
};

struct df_layer {
	size_t input_norm, post_norm;     /* indices in base; BERT: after attention, after the feed-forward */
	size_t input_norm_b, post_norm_b; /* BERT's LayerNorm biases, or DF_NO_ROW */
	size_t q_norm, k_norm;            /* or DF_NO_ROW */
	struct df_group group[DF_GROUPS]; /* under a mixture of experts only qkv and o have parts */
	struct df_moe *moe;               /* NULL: dense */
};

/* PEFT's rank_pattern and alpha_pattern: modules whose names end with a match of the key have a value of their own. */
struct df_lora_patterns {
	struct df_lora_pattern {
		char *key;
		double value;
	} *v;
	size_t n;
};

struct df_model {
	struct df_model_config cfg;
	struct df_backend *be;
	char *dir; /* where the base weights came from; NULL when they are random */
	bool bare; /* the file's names lack "model.": a body without a head */

	struct df_params base, train;
	size_t *train_row; /* [base.n] its index in train, or DF_NO_ROW */
	size_t *base_row;  /* [train.n] its index in base, or DF_NO_ROW: an adapter's */

	enum df_dtype act;            /* of activations, and of the matrices that they are multiplied with */
	struct df_tensor *value;      /* [base.n] windows on the weights */
	struct df_tensor *w;          /* [base.n] the same, or on their copies in `low` or `train_low` */
	struct df_tensor *low;        /* [base.n] rounded copies of matrices without masters, or NONE */
	struct df_tensor *borrowed;   /* [base.n] the windows that lie in the file, to be freed */
	enum df_st_type *file_type;   /* [base.n] */
	struct df_tensor small;       /* the rows that are float32 in memory, whatever their type in the file */
	struct df_tensor drawn;       /* all of base, if it was drawn at random */
	struct df_tensor train_data;  /* [1, train numel]; NONE before df_model_master() unless there are adapters */
	struct df_tensor train_low;   /* the same, rounded to `act`; NONE in float32 */
	struct df_st *st;             /* the mapping that `borrowed` points into */

	struct df_layer *layers;
	size_t first_layer; /* the first layer that a backward enters; n_layers: none */
	size_t embed, norm; /* indices in base */
	size_t lm_head;     /* == embed when tied; DF_NO_ROW without one */
	size_t score;       /* DF_HEAD_CLASSES, or DF_NO_ROW */
	size_t position, type, norm_b; /* BERT, or DF_NO_ROW; `norm` is then the embeddings' LayerNorm */

	/* adapters */
	bool lora, rslora;
	size_t rank, u_cols; /* u_cols: the most of any group */
	double alpha, lora_dropout;
	float lora_scale;    /* alpha / rank, or / sqrt(rank), for modules without a value of their own */
	struct df_lora_patterns rank_pattern, alpha_pattern;
	char *targets;       /* a comma list of module names, or a pattern over whole names */
	bool target_pattern;
	char *additional;    /* NULL or a comma list: modules_to_save */

	/* the restriction that a checkpoint records; strings are NULL where not given */
	bool freeze, freeze_gate;
	int64_t freeze_layers;
	char *freeze_modules, *freeze_extra;

	bool checkpointing;
};

/* ---- newest.c ---- */
/* Add the newest checkpoint in dir, if there is one, to the error "dir has no model". */
void df_model_suggest_newest(const char *dir, struct df_err *err);
/* Warn when a run's directory has a checkpoint of a later step than its model. */
void df_model_warn_newer(const char *dir);

/* ---- params.c ---- */
int df_params_build_base(struct df_model *m, struct df_err *err) DF_MUST_CHECK;
/*
 * Build the train table from the rows `trains` [base.n] of base and the adapters of the groups' parts
 * whose `a` is not DF_NO_ROW; it replaces the table before.
 */
int df_params_build_train(struct df_model *m, const bool *trains, struct df_err *err) DF_MUST_CHECK;
void df_params_release(struct df_params *p);
/* Group i of a layer in the forward's order, or NULL after the last. */
struct df_group *df_layer_group(struct df_layer *l, size_t i);
/* A row's name without ".weight" or ".bias": its module, n characters of it. */
const char *df_param_module(const struct df_param *p, size_t *n);

/* Window on a parameter's matrix in a flat buffer. */
static inline struct df_tensor
df_param_view(struct df_tensor flat, const struct df_param *p)
{
	return df_tensor_view(flat, p->offset, p->rows, p->cols);
}
/* The next entry of a list with commas or blanks between the entries; false at its end. */
static inline bool
df_next_name(const char **list, const char **name, size_t *n)
{
	*name = *list + strspn(*list, ", \t");
	*n = strcspn(*name, ", \t");
	*list = *name + *n;
	return *n > 0;
}
/* Is the parameter with this index in base trainable? */
static inline bool
df_row_trains(const struct df_model *m, size_t row)
{
	return row != DF_NO_ROW && m->train_row[row] != DF_NO_ROW;
}
/* Is it the lowest trainable parameter?  Then nothing below needs a gradient. */
static inline bool
df_row_is_lowest(const struct df_model *m, size_t row)
{
	return m->train_row[row] == 0;
}

/* ---- weights.c: moving parameters between files and the backend ---- */

/* DF_EFORMAT with both shapes when t is not as large as the row. */
int df_param_check_shape(const struct df_param *p, const struct df_st_tensor *t, struct df_err *err) DF_MUST_CHECK;
/*
 * Fill the flat buffer `data` with the tensors of st that are named `prefix` and the row's name.
 * Presence, shape, dtype and finiteness are checked, and that st holds no other tensors, except those
 * whose names end like one of `ignore` (NULL-terminated).
 */
int df_params_load(const struct df_params *p, struct df_tensor data, const struct df_st *st, const char *prefix,
    const char *const *ignore, struct df_backend *be, struct df_err *err) DF_MUST_CHECK;
int df_params_declare(
    const struct df_params *p, const char *prefix, struct df_st_writer *w, struct df_err *err) DF_MUST_CHECK;
int df_params_store(const struct df_params *p, struct df_tensor data, struct df_st_writer *w, struct df_backend *be,
    struct df_err *err) DF_MUST_CHECK;
/* *own = does m->st hold an lm_head.weight with other values than the embedding's?  Needs no tables. */
int df_weights_own_head(const struct df_model *m, bool *own, struct df_err *err) DF_MUST_CHECK;
/* All rows of base from m->st, with the same checks: matrices stay in the file, the rest becomes float32. */
int df_weights_load(struct df_model *m, const char *const *ignore, struct df_err *err) DF_MUST_CHECK;
/* Called before another choice of trainable parameters: DF_EUSAGE once masters of the last choice were made. */
int df_weights_unmaster(struct df_model *m, struct df_err *err) DF_MUST_CHECK;

/* ---- low.c: the weights that batches are multiplied with ---- */

/* Set w, and the groups' windows, after `value` or the masters' place changed. */
int df_weights_place(struct df_model *m, struct df_err *err) DF_MUST_CHECK;
/* Round train_data again, after it was written by something else than df_adamw(); NONE is nothing to do. */
int df_weights_round(struct df_model *m, struct df_err *err) DF_MUST_CHECK;
void df_weights_release_low(struct df_model *m);
/* The flat trainable parameters, matrices as batches are multiplied with them. */
static inline struct df_tensor
df_train_weights(const struct df_model *m)
{
	return m->act == DF_F32 ? m->train_data : m->train_low;
}

/* ---- moments_torch.c: the moments of torch's optimisers ---- */

/* Fill *o, whose tensors are zeros, from the state dict of an Adam in `path`, a file of torch.save(). */
int df_moments_read_torch(
    struct df_moments *o, const struct df_model *m, const char *path, struct df_err *err) DF_MUST_CHECK;

/* ---- lora.c ---- */
int df_lora_set_targets(struct df_model *m, const char *targets, struct df_err *err) DF_MUST_CHECK;
int df_lora_read_config(struct df_model *m, const struct df_json_value *cfg, struct df_err *err) DF_MUST_CHECK;
int df_lora_write_config(const struct df_model *m, const char *path, struct df_err *err) DF_MUST_CHECK;
/* Build table and memory from targets, rank, alpha and additional; the adapters' content is undefined. */
int df_lora_attach(struct df_model *m, struct df_err *err) DF_MUST_CHECK;

/* ---- lora_pattern.c: names that are patterns ---- */

/* A regular expression over whole module names, from adapter_config.json's `key`. */
struct df_name_pattern;
int df_name_pattern_new(
    struct df_name_pattern **out, const char *regex, const char *key, struct df_err *err) DF_MUST_CHECK;
void df_name_pattern_free(struct df_name_pattern *p); /* accepts NULL */
int df_name_pattern_fits(const struct df_name_pattern *p, const char *name, size_t n); /* 1, 0; -1: takes too long */
/* The layer's number in a module's name, after `part` (NULL: any part); false: there is none. */
bool df_module_layer(const char *module, size_t n, const char *part, int64_t *layer);
/* cfg's object `key` of numbers in [min, max]; empty where it is absent. */
int df_lora_patterns_read(struct df_lora_patterns *p, const struct df_json_value *cfg, const char *key, double min,
    double max, bool whole, struct df_err *err) DF_MUST_CHECK;
void df_lora_patterns_put(struct df_buf *b, const struct df_lora_patterns *p); /* as JSON */
void df_lora_patterns_release(struct df_lora_patterns *p);
void df_lora_put_number(struct df_buf *b, double x);
/* Set the rank and the scale of every part of every group. */
int df_lora_set_scales(struct df_model *m, struct df_err *err) DF_MUST_CHECK;

/* ---- trainable.c: trainable parameters without adapters ---- */
int df_trainable_read(struct df_model *m, const char *dir, struct df_err *err) DF_MUST_CHECK; /* if dir says so */
int df_trainable_write(const struct df_model *m, const char *dir, struct df_err *err) DF_MUST_CHECK;

#endif
