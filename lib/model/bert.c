/*
 * bert.c - encoders of the BERT family (Devlin et al. 2019): MiniLM, BGE, E5.
 *
 *	x = LN(word + type + position)
 *	x = LN(x + o(attention(q, k, v)))        every token sees its whole sample
 *	x = LN(x + down(gelu(up)))
 *
 * Norms come after the sums (post-norm), every projection has a bias, positions are learned and absolute.
 * A layer's groups are those of model_priv.h, where gate_up is the one matrix of the intermediate layer.
 *
 * Hidden states only: there is no head, no loss and no gradient.
 */
#include <math.h>

#include "base/mem.h"
#include "model/work.h"

/* The batch's windows on the workspace; h takes the memory of qkv and o. */
struct views {
	struct df_tensor x;           /* [T,D] the stream */
	struct df_tensor qkv, o, lse; /* [T,3D] [T,D] [T,H] */
	struct df_tensor h;           /* [T,F] */
};

static int
layout(struct df_work *w, struct views *v, struct df_err *err)
{
	const struct df_model_config *c = &w->m->cfg;
	const size_t d = c->d_model, t = w->n_tok, wide = c->d_ff > 4 * d ? c->d_ff : 4 * d;
	struct df_tensor all;
	size_t n;
	int rc;

	DF_TRY(df_size_mul(t, d + wide + c->n_heads, &n, "the activations", err));
	DF_TRY(df_size_mul(n, sizeof(float), &n, "the activations", err));
	if (n > w->mem.cols) {
		df_tensor_free(w->m->be, &w->mem);
		DF_TRY(
		    df_tensor_alloc(w->m->be, &w->mem, DF_U8, 1, n, "the activations; smaller batches need less", err));
	}
	all = df_tensor_as(w->mem, DF_F32, 1, n / sizeof(float));
	v->x = df_tensor_view(all, 0, t, d);
	v->lse = df_tensor_view(all, t * d, t, c->n_heads);
	v->h = df_tensor_view(all, t * (d + c->n_heads), t, c->d_ff);
	v->qkv = df_tensor_view(all, t * (d + c->n_heads), t, 3 * d);
	v->o = df_tensor_view(all, t * (4 * d + c->n_heads), t, d);
out:
	return rc;
}

/* x = layernorm(x) with the weight and the bias in these rows of base. */
static int
norm(struct df_work *w, size_t row, size_t row_b, struct df_tensor x, struct df_err *err)
{
	const struct df_model *m = w->m;
	const struct df_layernorm a = { .eps = (float)m->cfg.norm_eps,
		.x = x,
		.y = x,
		.w = df_work_weight(w, row),
		.b = df_work_weight(w, row_b) };

	return df_layernorm_fwd(m->be, &a, err);
}

/* x = LN(word + type 0 + position). */
static int
embed(struct df_work *w, struct views *v, struct df_err *err)
{
	const struct df_model *m = w->m;
	const struct df_tensor y = df_tensor_view(v->qkv, 0, v->x.rows, v->x.cols), type = df_tensor_rows(y, 0, 1);
	int rc;

	DF_TRY(df_embed_fwd(m->be, v->x, df_work_weight(w, m->embed), w->ids.dev, err));
	DF_TRY(df_copy(m->be, type, df_tensor_rows(df_work_weight(w, m->type), 0, 1), err));
	DF_TRY(df_bias_add(m->be, v->x, type, err));
	DF_TRY(df_embed_fwd(m->be, y, df_work_weight(w, m->position), w->pos.dev, err));
	DF_TRY(df_axpy(m->be, 1.0f, y, v->x, err));
	DF_TRY(norm(w, m->norm, m->norm_b, v->x, err));
out:
	return rc;
}

static int
layer_forward(struct df_work *w, const struct df_layer *l, struct views *v, struct df_err *err)
{
	const struct df_model_config *c = &w->m->cfg;
	struct df_backend *be = w->m->be;
	const size_t d = c->d_model;
	const struct df_attn a = { .q = df_tensor_cols(v->qkv, 0, d),
		.k = df_tensor_cols(v->qkv, d, d),
		.v = df_tensor_cols(v->qkv, 2 * d, d),
		.o = v->o,
		.lse = v->lse,
		.offsets = w->seg.dev,
		.n_heads = c->n_heads,
		.n_kv_heads = c->n_kv_heads,
		.bidirectional = true,
		.scale = 1.0f / sqrtf((float)c->d_head) };
	const struct df_act_rows rows = df_act_rows_all(w);
	int rc;

	DF_TRY(df_group_forward(w, &l->group[DF_GROUP_QKV], v->x, DF_TENSOR_NONE, false, v->qkv, &rows, err));
	DF_TRY(df_attn_fwd(be, &a, err));
	DF_TRY(df_group_forward(w, &l->group[DF_GROUP_O], v->o, DF_TENSOR_NONE, true, v->x, &rows, err));
	DF_TRY(norm(w, l->input_norm, l->input_norm_b, v->x, err));
	DF_TRY(df_group_forward(w, &l->group[DF_GROUP_GATE_UP], v->x, DF_TENSOR_NONE, false, v->h, &rows, err));
	DF_TRY(df_gelu_fwd(be, v->h, v->h, err));
	DF_TRY(df_group_forward(w, &l->group[DF_GROUP_DOWN], v->h, DF_TENSOR_NONE, true, v->x, &rows, err));
	DF_TRY(norm(w, l->post_norm, l->post_norm_b, v->x, err));
out:
	return rc;
}

int
df_bert_forward(struct df_work *w, size_t layer, struct df_tensor *h, struct df_err *err)
{
	const struct df_model *m = w->m;
	struct views v;
	int rc;

	for (size_t t = 0; t < w->n_tok; t++) {
		if (w->pos.host[t] >= m->cfg.max_positions)
			return df_fail(err, DF_ERANGE,
			    "a sample of more than %zu tokens: the model has no positions beyond; cut it to length",
			    m->cfg.max_positions);
	}
	DF_TRY(layout(w, &v, err));
	DF_TRY(df_work_push(w, err));
	DF_TRY(embed(w, &v, err));
	for (size_t i = 0; i < layer; i++) {
		DF_TRY(df_work_hold(w, i, err));
		rc = layer_forward(w, &m->layers[i], &v, err);
		df_work_drop(w, i);
		DF_TRY(rc);
	}
	*h = v.x;
out:
	return rc;
}
