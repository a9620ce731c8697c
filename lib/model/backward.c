/*
 * backward.c - one backward for batch gradients and per-sample gradients.
 *
 * It runs over the whole batch, from the head down.  At every parameter it
 * calls an emitter (emit.c) with what that parameter's gradient is made of;
 * only the emitter knows whether samples are summed or told apart.  Input gradients
 * (dx) are computed here, and only down to the first trainable parameter.
 *
 * The residual stream's gradient `d` is changed in place: each block adds its
 * input's gradient to it.
 */
#include <math.h>

#include "model/work.h"

static int
attention_backward(struct df_work *w, struct df_act *a, struct df_tensor d_o, struct df_err *err)
{
	const struct df_model_config *c = &w->m->cfg;
	size_t he = c->n_heads * c->d_head, ke = c->n_kv_heads * c->d_head;
	struct df_attn_bwd t = {
		.fwd = { .q = df_tensor_cols(a->qkv, 0, he),
		    .k = df_tensor_cols(a->qkv, he, ke),
		    .v = df_tensor_cols(a->qkv, he + ke, ke),
		    .o = a->o,
		    .lse = a->lse,
		    .offsets = w->seg,
		    .n_samples = w->n,
		    .n_heads = c->n_heads,
		    .n_kv_heads = c->n_kv_heads,
		    .scale = 1.0f / sqrtf((float)c->d_head) },
		.d_o = d_o,
		.dq = df_tensor_cols(w->s2, 0, he),
		.dk = df_tensor_cols(w->s2, he, ke),
		.dv = df_tensor_cols(w->s2, he + ke, ke),
	};
	struct df_rope r = { .x = df_tensor_cols(w->s2, 0, he + ke),
		.cos = w->cos,
		.sin = w->sin,
		.pos = w->pos,
		.n_heads = c->n_heads + c->n_kv_heads,
		.inverse = true };
	int rc;

	DF_TRY(df_attn_bwd(w->m->be, &t, err));
	DF_TRY(df_rope(w->m->be, &r, err));
out:
	return rc;
}

/* Second half: from the layer's output down to its attention's output; d runs over m rows. */
static int
mlp_backward(struct df_work *w, const struct df_emit *e, size_t i, struct df_tensor d, struct df_tensor d_o,
    const struct df_act_rows *rows, bool *done, struct df_err *err)
{
	const struct df_layer *l = &w->m->layers[i];
	struct df_backend *be = w->m->be;
	struct df_act *a = &w->act[i];
	size_t f = w->m->cfg.d_ff;
	struct df_tensor dh = df_tensor_view(w->s1, 0, d.rows, f), dx2 = df_tensor_view(w->s1, 0, d.rows, d.cols);
	struct df_tensor gate = df_tensor_cols(a->gu, 0, f), up = df_tensor_cols(a->gu, f, f), none = DF_TENSOR_NONE;
	int rc;

	*done = true;
	DF_TRY(df_group_backward(w, e, &l->group[DF_GROUP_DOWN], a->h, a->u[DF_GROUP_DOWN], d,
	    df_group_is_lowest(&l->group[DF_GROUP_DOWN]) ? none : dh, rows, err));
	if (df_group_is_lowest(&l->group[DF_GROUP_DOWN]))
		goto out;
	DF_TRY(df_swiglu_bwd(be, gate, up, dh, gate, up, err));
	DF_TRY(df_group_backward(w, e, &l->group[DF_GROUP_GATE_UP], a->x2, a->u[DF_GROUP_GATE_UP], a->gu,
	    df_group_is_lowest(&l->group[DF_GROUP_GATE_UP]) ? none : dx2, rows, err));
	if (df_group_is_lowest(&l->group[DF_GROUP_GATE_UP]))
		goto out;
	DF_TRY(df_emit_norm(w, e, l->post_norm, a->x_mid, a->rstd2, dx2, d, rows->seg, err));
	if (df_row_is_lowest(w->m, l->post_norm))
		goto out;
	DF_TRY(df_group_backward(w, e, &l->group[DF_GROUP_O], a->o_in, a->u[DF_GROUP_O], d,
	    df_group_is_lowest(&l->group[DF_GROUP_O]) ? none : d_o, rows, err));
	*done = df_group_is_lowest(&l->group[DF_GROUP_O]);
out:
	return rc;
}

static int
layer_backward(struct df_work *w, const struct df_emit *e, size_t i, bool *done, struct df_err *err)
{
	const struct df_layer *l = &w->m->layers[i];
	const struct df_model_config *c = &w->m->cfg;
	struct df_backend *be = w->m->be;
	struct df_act *a = &w->act[i];
	size_t he = c->n_heads * c->d_head;
	struct df_tensor d_o = df_tensor_view(w->s1, 0, w->n_tok, he);
	struct df_tensor dx1 = df_tensor_view(w->s1, 0, w->n_tok, c->d_model), none = DF_TENSOR_NONE;
	const struct df_act_rows all = df_act_rows_all(w), targets = df_act_rows_targets(w);
	bool last = i + 1 == c->n_layers;
	int rc;

	if (last) {
		/* Back from target rows to tokens; the gathered copy of o is free for its gradient. */
		DF_TRY(mlp_backward(w, e, i, w->d_rows, df_tensor_view(w->s2, 0, w->n_rows, he), &targets, done, err));
		if (*done)
			goto out;
		DF_TRY(df_fill(be, d_o, 0, err));
		DF_TRY(df_scatter_rows(be, d_o, df_tensor_view(w->s2, 0, w->n_rows, he), w->row, err));
		DF_TRY(df_fill(be, w->d, 0, err));
		DF_TRY(df_scatter_rows(be, w->d, w->d_rows, w->row, err));
	} else {
		DF_TRY(mlp_backward(w, e, i, w->d, d_o, &all, done, err));
		if (*done)
			goto out;
	}
	DF_TRY(attention_backward(w, a, d_o, err));
	DF_TRY(df_group_backward(w, e, &l->group[DF_GROUP_QKV], a->x1, a->u[DF_GROUP_QKV], w->s2,
	    df_group_is_lowest(&l->group[DF_GROUP_QKV]) ? none : dx1, &all, err));
	*done = df_group_is_lowest(&l->group[DF_GROUP_QKV]);
	if (*done)
		goto out;
	DF_TRY(df_emit_norm(w, e, l->input_norm, a->x_in, a->rstd1, dx1, w->d, w->seg, err));
	*done = df_row_is_lowest(w->m, l->input_norm);
out:
	return rc;
}

/* Loss and head: leaves the gradient of the final norm's output in the first rows of s1. */
static int
head_backward(struct df_work *w, const struct df_emit *e, struct df_tensor dh, struct df_err *err)
{
	struct df_model *m = w->m;
	struct df_lmhead a = { .h = w->h_f,
		.w = m->w[m->lm_head],
		.target = w->target,
		.nll = w->nll,
		.correct = w->correct,
		.scale = w->scale,
		.dh = dh };
	bool trains = df_row_trains(m, m->lm_head), samples = trains && df_tensor_is_none(e->grad);
	int rc;

	if (trains && !samples)
		a.dw = df_param_view(e->grad, &m->train.v[m->train_row[m->lm_head]]);
	if (samples)
		a.dlogits = w->dlogits;
	DF_TRY(df_lmhead(m->be, &a, err));
	if (samples && !m->cfg.tied)
		DF_TRY(df_emit_head(w, e, err));
out:
	return rc;
}

int
df_backward(struct df_work *w, const struct df_emit *e, struct df_err *err)
{
	struct df_model *m = w->m;
	struct df_tensor dh = df_tensor_view(w->s1, 0, w->n_rows, m->cfg.d_model);
	bool done;
	int rc;

	DF_TRY(head_backward(w, e, dh, err));
	done = df_row_is_lowest(m, m->lm_head) && !m->cfg.tied;
	if (!done) {
		DF_TRY(df_fill(m->be, w->d_rows, 0, err));
		DF_TRY(df_emit_norm(w, e, m->norm, w->x_last, w->rstd_f, dh, w->d_rows, w->target_seg, err));
		done = df_row_is_lowest(m, m->norm);
	}
	for (size_t i = m->cfg.n_layers; i-- > 0 && !done;)
		DF_TRY(layer_backward(w, e, i, &done, err));
	if (df_row_trains(m, m->embed))
		DF_TRY(df_emit_embed(w, e, err));
out:
	return rc;
}
