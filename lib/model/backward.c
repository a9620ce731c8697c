/*
 * backward.c - one backward for batch gradients and per-sample gradients.
 *
 * It runs over the whole batch, from the head down.  At every parameter it calls an emitter (emit.c) with
 * what that parameter's gradient is made of; only the emitter knows whether the gradients are summed or
 * per sample.  Input gradients (dx) are computed here, and only down to the first trainable parameter.
 *
 * With checkpointing a layer's activations are computed again from its input, by the forward's own code: the same bits.
 *
 * The residual stream's gradient `d` is changed in place: each block adds its input's gradient to it.
 */
#include "model/work.h"

/* From the gradient of the attention's output to the gradients of q, k and v as the projections gave them, in s2. */
static int
attention_backward(
    struct df_work *w, const struct df_emit *e, size_t i, struct df_tensor d_o, bool *done, struct df_err *err)
{
	const struct df_model_config *c = &w->m->cfg;
	const struct df_layer *l = &w->m->layers[i];
	struct df_act *a = &w->act[i];
	size_t he = c->n_heads * c->d_head, ke = c->n_kv_heads * c->d_head;
	struct df_tensor dq = df_tensor_cols(w->s2, 0, he), dk = df_tensor_cols(w->s2, he, ke);
	struct df_attn_bwd t = { .fwd = df_layer_attention(w, i),
		.d_o = d_o,
		.dq = dq,
		.dk = dk,
		.dv = df_tensor_cols(w->s2, he + ke, ke) };
	struct df_rope r = { .x = df_tensor_cols(w->s2, 0, he + ke),
		.cos = w->cos,
		.sin = w->sin,
		.pos = w->pos.dev,
		.n_heads = c->n_heads + c->n_kv_heads,
		.inverse = true };
	int rc;

	DF_TRY(df_attn_bwd(w->m->be, &t, err));
	DF_TRY(df_rope(w->m->be, &r, err));
	if (!c->qk_norm)
		goto out;
	DF_TRY(df_emit_head_norm(
	    w, e, l->k_norm, c->n_kv_heads, df_tensor_cols(a->qk, he, ke), a->rstd_k, dk, &w->seg, err));
	*done = df_row_is_lowest(w->m, l->k_norm);
	if (*done)
		goto out;
	DF_TRY(
	    df_emit_head_norm(w, e, l->q_norm, c->n_heads, df_tensor_cols(a->qk, 0, he), a->rstd_q, dq, &w->seg, err));
	*done = df_row_is_lowest(w->m, l->q_norm);
out:
	return rc;
}

/* The feed-forward, from the gradient d of its output to dx2, that of its input; both may run over target rows. */
static int
dense_backward(struct df_work *w, const struct df_emit *e, size_t i, struct df_tensor d, struct df_tensor dx2,
    const struct df_act_rows *rows, bool *done, struct df_err *err)
{
	const struct df_group *up = &w->m->layers[i].group[DF_GROUP_GATE_UP];
	const struct df_group *down = &w->m->layers[i].group[DF_GROUP_DOWN];
	struct df_act *a = &w->act[i];
	size_t f = w->m->cfg.d_ff;
	struct df_tensor dh = df_tensor_view(w->s1, 0, d.rows, f), none = DF_TENSOR_NONE;
	struct df_tensor g = df_tensor_cols(a->gu, 0, f), u = df_tensor_cols(a->gu, f, f);
	int rc;

	*done = down->lowest;
	DF_TRY(df_group_backward(w, e, down, a->h, a->u[DF_GROUP_DOWN], d, *done ? none : dh, rows, err));
	if (*done)
		goto out;
	DF_TRY(df_swiglu_bwd(w->m->be, g, u, dh, g, u, err));
	*done = up->lowest;
	DF_TRY(df_group_backward(w, e, up, a->x2, a->u[DF_GROUP_GATE_UP], a->gu, *done ? none : dx2, rows, err));
out:
	return rc;
}

/* Second half: from the layer's output down to its attention's output; d runs over m rows. */
static int
second_half(struct df_work *w, const struct df_emit *e, size_t i, struct df_tensor d, struct df_tensor d_o,
    const struct df_act_rows *rows, bool *done, struct df_err *err)
{
	const struct df_layer *l = &w->m->layers[i];
	struct df_act *a = &w->act[i];
	struct df_tensor dx2 = df_tensor_view(w->s1, 0, d.rows, d.cols), none = DF_TENSOR_NONE;
	int rc;

	DF_TRY(l->moe != NULL ? df_moe_backward(w, e, i, d, dx2, rows, done, err)
			      : dense_backward(w, e, i, d, dx2, rows, done, err));
	if (*done)
		goto out;
	DF_TRY(df_emit_norm(w, e, l->post_norm, a->x_mid, a->rstd2, dx2, d, &rows->seg, err));
	*done = df_row_is_lowest(w->m, l->post_norm);
	if (*done)
		goto out;
	*done = l->group[DF_GROUP_O].lowest;
	DF_TRY(df_group_backward(
	    w, e, &l->group[DF_GROUP_O], a->o_in, a->u[DF_GROUP_O], d, *done ? none : d_o, rows, err));
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
		DF_TRY(second_half(w, e, i, w->d_rows, df_tensor_view(w->s2, 0, w->n_rows, he), &targets, done, err));
		if (*done)
			goto out;
		DF_TRY(df_fill(be, d_o, 0, err));
		DF_TRY(df_scatter_rows(be, d_o, df_tensor_view(w->s2, 0, w->n_rows, he), w->row.dev, err));
		DF_TRY(df_fill(be, w->d, 0, err));
		DF_TRY(df_scatter_rows(be, w->d, w->d_rows, w->row.dev, err));
	} else {
		DF_TRY(second_half(w, e, i, w->d, d_o, &all, done, err));
		if (*done)
			goto out;
	}
	DF_TRY(attention_backward(w, e, i, d_o, done, err));
	if (*done)
		goto out;
	DF_TRY(df_group_backward(w, e, &l->group[DF_GROUP_QKV], a->x1, a->u[DF_GROUP_QKV], w->s2,
	    l->group[DF_GROUP_QKV].lowest ? none : dx1, &all, err));
	*done = l->group[DF_GROUP_QKV].lowest;
	if (*done)
		goto out;
	DF_TRY(df_emit_norm(w, e, l->input_norm, a->x_in, a->rstd1, dx1, w->d, &w->seg, err));
	*done = df_row_is_lowest(w->m, l->input_norm);
out:
	return rc;
}

/* The backward of layer i, while its weights are held. */
static int
held_layer_backward(struct df_work *w, const struct df_emit *e, size_t i, bool *done, struct df_err *err)
{
	int rc;

	if ((rc = df_work_hold(w, i, err)) != DF_OK)
		return rc;
	rc = layer_backward(w, e, i, done, err);
	df_work_drop(w, i);
	return rc;
}

/*
 * The gradients of the parameters [first, *n) of train are final; *n becomes first.  A batch gradient only: sample
 * gradients leave in pieces, which are final anyway.
 */
static int
ready(struct df_work *w, const struct df_emit *e, size_t first, size_t *n, struct df_err *err)
{
	const struct df_params *p = &w->m->train;
	const size_t end = *n < p->n ? p->v[*n].offset : p->numel;

	if (w->ready == NULL || df_tensor_is_none(e->grad) || first == *n)
		return DF_OK;
	*n = first;
	return w->ready(w->ready_ctx, p->v[first].offset, end, err);
}

/* The first of the n parameters that is in this layer or above it; -1: outside of the layers, but not the embedding. */
static size_t
first_from(const struct df_model *m, int layer, size_t n)
{
	while (n > 0 && m->train.v[n - 1].layer == layer && n - 1 != m->train_row[m->embed])
		n--;
	return n;
}

int
df_backward(struct df_work *w, const struct df_emit *e, struct df_err *err)
{
	struct df_model *m = w->m;
	struct df_tensor dh = df_tensor_view(w->s1, 0, w->n_rows, m->cfg.d_model);
	size_t n = m->train.n; /* the parameters from here on are final */
	bool done;
	int rc;

	DF_TRY(df_head_backward(w, e, dh, err));
	done = df_row_is_lowest(m, m->lm_head) && !m->cfg.tied;
	if (!done) {
		DF_TRY(df_fill(m->be, w->d_rows, 0, err));
		DF_TRY(df_emit_norm(w, e, m->norm, w->x_last, w->rstd_f, dh, w->d_rows, &w->target_seg, err));
		done = df_row_is_lowest(m, m->norm);
	}
	DF_TRY(ready(w, e, first_from(m, -1, n), &n, err));
	for (size_t i = m->cfg.n_layers; i-- > 0 && !done;) {
		/* The last layer's activations are still in memory; the others are computed again, one at a time. */
		if (m->checkpointing && i + 1 < m->cfg.n_layers)
			DF_TRY(df_layer_forward(w, i, df_tensor_view(w->s1, 0, w->n_tok, m->cfg.d_model), err));
		DF_TRY(held_layer_backward(w, e, i, &done, err));
		DF_TRY(ready(w, e, first_from(m, (int)i, n), &n, err));
	}
	if (df_row_trains(m, m->embed))
		DF_TRY(df_emit_embed(w, e, err));
	DF_TRY(ready(w, e, 0, &n, err));
out:
	return rc;
}
