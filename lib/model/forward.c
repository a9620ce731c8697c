/*
 * forward.c - embedding, layers, final norm: pre-norm residual blocks
 *
 *	x += o(attention(rope(q), rope(k), v))    q,k,v of rmsnorm(x)
 *	x += ffn(rmsnorm(x))                      down(silu(gate) * up), or a mixture of such (moe.c)
 *
 * of Llama (Touvron et al. 2023) and those that follow it: Qwen2 adds biases to q, k and v, Qwen3 norms each head of q
 * and k before the rotation (Henry et al. 2020), Mistral lets a token see only a window of the past (Beltagy et al.
 * 2020; Jiang et al. 2023).
 */
#include <math.h>

#include "model/work.h"

/* q and k before their norms are kept in a->qk; in qkv each of their heads is normed. */
static int
norm_heads(struct df_work *w, size_t i, struct df_err *err)
{
	const struct df_model_config *c = &w->m->cfg;
	const struct df_layer *l = &w->m->layers[i];
	struct df_act *a = &w->act[i];
	size_t he = c->n_heads * c->d_head, ke = c->n_kv_heads * c->d_head;
	struct df_rmsnorm q = { .eps = (float)c->norm_eps,
		.x = df_tensor_cols(a->qk, 0, he),
		.w = df_work_weight(w, l->q_norm),
		.y = df_tensor_cols(a->qkv, 0, he),
		.rstd = a->rstd_q,
		.n_heads = c->n_heads };
	struct df_rmsnorm k = { .eps = (float)c->norm_eps,
		.x = df_tensor_cols(a->qk, he, ke),
		.w = df_work_weight(w, l->k_norm),
		.y = df_tensor_cols(a->qkv, he, ke),
		.rstd = a->rstd_k,
		.n_heads = c->n_kv_heads };
	int rc;

	DF_TRY(df_copy(w->m->be, a->qk, df_tensor_cols(a->qkv, 0, he + ke), err));
	DF_TRY(df_rmsnorm_fwd(w->m->be, &q, err));
	DF_TRY(df_rmsnorm_fwd(w->m->be, &k, err));
out:
	return rc;
}

static int
attention(struct df_work *w, size_t i, struct df_err *err)
{
	const struct df_model_config *c = &w->m->cfg;
	struct df_act *a = &w->act[i];
	size_t he = c->n_heads * c->d_head, ke = c->n_kv_heads * c->d_head;
	struct df_rope r = { .x = df_tensor_cols(a->qkv, 0, he + ke),
		.cos = w->cos,
		.sin = w->sin,
		.pos = w->pos.dev,
		.n_heads = c->n_heads + c->n_kv_heads };
	struct df_attn t = df_layer_attention(w, i);
	int rc;

	if (c->qk_norm)
		DF_TRY(norm_heads(w, i, err));
	DF_TRY(df_rope(w->m->be, &r, err)); /* q and k lie side by side: one call */
	if (w->cache != NULL)
		DF_TRY(df_cache_attend(w, i, &t, err));
	else
		DF_TRY(df_attn_fwd(w->m->be, &t, err));
out:
	return rc;
}

struct df_attn
df_layer_attention(const struct df_work *w, size_t i)
{
	const struct df_model_config *c = &w->m->cfg;
	const struct df_act *a = &w->act[i];
	size_t he = c->n_heads * c->d_head, ke = c->n_kv_heads * c->d_head;

	return (struct df_attn){ .q = df_tensor_cols(a->qkv, 0, he),
		.k = df_tensor_cols(a->qkv, he, ke),
		.v = df_tensor_cols(a->qkv, he + ke, ke),
		.o = a->o,
		.lse = a->lse,
		.offsets = w->attn_seg.dev,
		.n_heads = c->n_heads,
		.n_kv_heads = c->n_kv_heads,
		.window = c->window != NULL ? c->window[i] : 0,
		.scale = 1.0f / sqrtf((float)c->d_head) };
}

static int
dense_forward(struct df_work *w, size_t i, struct df_tensor next, const struct df_act_rows *rows, struct df_err *err)
{
	const struct df_group *g = w->m->layers[i].group;
	struct df_act *a = &w->act[i];
	size_t f = w->m->cfg.d_ff;
	int rc;

	DF_TRY(df_group_forward(w, &g[DF_GROUP_GATE_UP], a->x2, a->u[DF_GROUP_GATE_UP], false, a->gu, rows, err));
	DF_TRY(df_swiglu_fwd(w->m->be, a->h, df_tensor_cols(a->gu, 0, f), df_tensor_cols(a->gu, f, f), err));
	DF_TRY(df_group_forward(w, &g[DF_GROUP_DOWN], a->h, a->u[DF_GROUP_DOWN], true, next, rows, err));
out:
	return rc;
}

static int
layer_forward(struct df_work *w, size_t i, struct df_tensor next, struct df_err *err)
{
	const struct df_layer *l = &w->m->layers[i];
	struct df_backend *be = w->m->be;
	struct df_act *a = &w->act[i];
	const bool last = i + 1 == w->m->cfg.n_layers;
	const struct df_act_rows all = df_act_rows_all(w), rows = last ? df_act_rows_targets(w) : all;
	int rc;

	DF_TRY(df_norm_forward(w, l->input_norm, a->x_in, a->x1, a->rstd1, err));
	DF_TRY(df_group_forward(w, &l->group[DF_GROUP_QKV], a->x1, a->u[DF_GROUP_QKV], false, a->qkv, &all, err));
	DF_TRY(attention(w, i, err));
	if (last && w->gate_load != NULL && l->moe != NULL)
		DF_TRY(df_moe_last_load(w, err));
	if (last) {
		DF_TRY(df_gather_rows(be, a->o_in, a->o, w->row.dev, err));
		DF_TRY(df_gather_rows(be, a->x_mid, a->x_in, w->row.dev, err));
	} else {
		DF_TRY(df_copy(be, a->x_mid, a->x_in, err));
	}
	DF_TRY(df_group_forward(w, &l->group[DF_GROUP_O], a->o_in, a->u[DF_GROUP_O], true, a->x_mid, &rows, err));
	DF_TRY(df_norm_forward(w, l->post_norm, a->x_mid, a->x2, a->rstd2, err));
	DF_TRY(df_copy(be, next, a->x_mid, err));
	DF_TRY(l->moe != NULL ? df_moe_forward(w, i, next, &rows, err) : dense_forward(w, i, next, &rows, err));
out:
	return rc;
}

int
df_layer_forward(struct df_work *w, size_t i, struct df_tensor next, struct df_err *err)
{
	int rc;

	if ((rc = df_work_hold(w, i, err)) != DF_OK)
		return rc;
	rc = layer_forward(w, i, next, err);
	df_work_drop(w, i);
	return rc;
}

int
df_forward_to(struct df_work *w, size_t layer, struct df_tensor *h, struct df_err *err)
{
	struct df_model *m = w->m;
	size_t n = m->cfg.n_layers;
	int rc;

	DF_TRY(df_work_push(w, err));
	DF_TRY(df_embed_fwd(m->be, w->act[0].x_in, df_work_weight(w, m->embed), w->ids.dev, err));
	for (size_t i = 0; i < layer; i++)
		DF_TRY(df_layer_forward(w, i, i + 1 < n ? w->act[i + 1].x_in : w->x_last, err));
	*h = layer < n ? w->act[layer].x_in : w->h_f;
	if (layer == n)
		DF_TRY(df_norm_forward(w, m->norm, w->x_last, w->h_f, w->rstd_f, err));
out:
	return rc;
}

int
df_forward(struct df_work *w, struct df_err *err)
{
	struct df_tensor h;

	return df_forward_to(w, w->m->cfg.n_layers, &h, err);
}
