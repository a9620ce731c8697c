/*
 * model_priv.h - the inside of a model; seen in lib/model only.
 *
 * A layer is four linear *groups*, projections of one input whose weights lie
 * side by side in the flat buffer and are multiplied at once:
 *
 *	qkv      [(H+2K)E, D]   q_proj k_proj v_proj
 *	o        [D, HE]        o_proj
 *	gate_up  [2F, D]        gate_proj up_proj
 *	down     [D, F]         down_proj
 *
 * The order of the tables follows the forward, so that a backward reaches the
 * parameters in descending order of offset:
 *
 *	base   embed | layer 0 | layer 1 | ... | norm | lm_head (unless tied)
 *	layer  input_layernorm | q.w k.w v.w q.b k.b v.b | o.w o.b |
 *	       post_attention_layernorm | gate.w up.w gate.b up.b | down.w down.b
 *	LoRA   per layer and group, over its adapted members: A.. | B..
 */
#ifndef DF_MODEL_PRIV_H
#define DF_MODEL_PRIV_H

#include "base/buf.h"
#include "model/model.h"
#include "model/safetensors.h"
#include "text/json.h"

enum df_group_id { DF_GROUP_QKV, DF_GROUP_O, DF_GROUP_GATE_UP, DF_GROUP_DOWN, DF_GROUPS };
#define DF_GROUP_PARTS 3
#define DF_NO_ROW      SIZE_MAX

/* One projection of a group. */
struct df_part {
	const char *module;  /* "self_attn.q_proj" */
	size_t col, out;     /* its columns of the group's output */
	size_t weight, bias; /* rows of the base table; bias may be DF_NO_ROW */
	size_t a, b;         /* rows of the train table under LoRA, or DF_NO_ROW */
	size_t u_col;        /* its columns of the group's low-rank activations */
};

struct df_group {
	size_t in, out;
	struct df_part part[DF_GROUP_PARTS];
	size_t n_parts;
	size_t weight_off, bias_off; /* into base: [out,in], [1,out]; bias_off may be DF_NO_ROW */
	size_t n_lora, a_off;        /* adapted parts; their A side by side [n_lora * rank, in] in train */
};

struct df_layer {
	size_t input_norm, post_norm; /* rows of base */
	struct df_group group[DF_GROUPS];
};

struct df_model {
	struct df_model_config cfg;
	struct df_backend *be;
	char *dir; /* where the base weights came from; NULL when they are random */
	struct df_params base, train_rows;
	struct df_params *train;                /* &base, or &train_rows under LoRA */
	struct df_tensor base_data, train_data; /* the same tensor without LoRA */
	struct df_layer *layers;
	size_t embed, norm, lm_head; /* rows of base; lm_head == embed when tied */
	bool lora;
	size_t rank;
	double alpha;
	double lora_dropout; /* as the adapter's config says; kept for saving */
	bool target[DF_GROUPS][DF_GROUP_PARTS];
	enum df_group_id first_group; /* its lowest adapted group (LoRA) */
};

/* ---- params.c ---- */
int df_params_build_base(struct df_model *m, struct df_err *err) DF_MUST_CHECK;
int df_params_build_lora(struct df_model *m, struct df_err *err) DF_MUST_CHECK; /* from target, rank */
void df_params_release(struct df_params *p);

/* Window on a parameter's matrix in a flat buffer. */
static inline struct df_tensor
df_param_view(struct df_tensor flat, const struct df_param *p)
{
	return df_tensor_view(flat, p->offset, p->rows, p->cols);
}

/* ---- weights.c: moving parameters between files and the backend ---- */

/*
 * Fill `data` with the tensors of st: `prefix` and the row's name, or, with
 * strip, the name without that beginning.  Presence, shape, dtype and
 * finiteness are checked, and that st holds nothing else, except names that
 * end like one of `ignore` (NULL-terminated).
 */
int df_params_load(const struct df_params *p, struct df_tensor data, const struct df_st *st, const char *prefix,
    const char *strip, const char *const *ignore, struct df_backend *be, struct df_err *err) DF_MUST_CHECK;
int df_params_declare(
    const struct df_params *p, const char *prefix, struct df_st_writer *w, struct df_err *err) DF_MUST_CHECK;
int df_params_store(const struct df_params *p, struct df_tensor data, struct df_st_writer *w, struct df_backend *be,
    struct df_err *err) DF_MUST_CHECK;

/* ---- lora.c ---- */
int df_lora_set_targets(struct df_model *m, const char *targets, struct df_err *err) DF_MUST_CHECK;
int df_lora_read_config(struct df_model *m, const struct df_json_value *cfg, struct df_err *err) DF_MUST_CHECK;
int df_lora_write_config(const struct df_model *m, const char *path, struct df_err *err) DF_MUST_CHECK;
int df_lora_attach(struct df_model *m, struct df_err *err) DF_MUST_CHECK; /* table and memory; content undefined */

#endif
