/*
 * linear.c - the pieces that layers are made of, forward and backward: a group
 * of projections with its adapters, and a norm.  How layers are put together
 * is forward.c and backward.c; where parameter gradients go is emit.c.
 */
#include "model/work.h"

/* y = x W^T + b + LoRA, or y += when the residual stream is the target.  u keeps the low-rank activations. */
int
df_group_forward(struct df_work *w, const struct df_group *g, struct df_tensor x, struct df_tensor u, bool add,
    struct df_tensor y, struct df_err *err)
{
	struct df_model *m = w->m;
	struct df_backend *be = m->be;
	int rc;

	DF_TRY(df_mm(
	    be, false, true, 1, x, df_tensor_view(m->base_data, g->weight_off, g->out, g->in), add ? 1 : 0, y, err));
	if (g->bias_off != DF_NO_ROW)
		DF_TRY(df_bias_add(be, y, df_tensor_view(m->base_data, g->bias_off, 1, g->out), err));
	if (g->n_lora == 0)
		goto out;
	DF_TRY(df_mm(be, false, true, (float)(m->alpha / (double)m->rank), x,
	    df_tensor_view(m->train_data, g->a_off, g->n_lora * m->rank, g->in), 0, u, err));
	for (size_t i = 0; i < g->n_parts; i++) {
		const struct df_part *t = &g->part[i];

		if (t->b == DF_NO_ROW)
			continue;
		DF_TRY(df_mm(be, false, true, 1, df_tensor_cols(u, t->u_col, m->rank),
		    df_param_view(m->train_data, &m->train->v[t->b]), 1, df_tensor_cols(y, t->col, t->out), err));
	}
out:
	return rc;
}

int
df_norm_forward(
    struct df_work *w, size_t row, struct df_tensor x, struct df_tensor y, struct df_tensor rstd, struct df_err *err)
{
	struct df_rmsnorm a = { .eps = (float)w->m->cfg.norm_eps,
		.x = x,
		.y = y,
		.rstd = rstd,
		.w = df_param_view(w->m->base_data, &w->m->base.v[row]) };

	return df_rmsnorm_fwd(w->m->be, &a, err);
}

int
df_group_backward(struct df_work *w, const struct df_emit *e, const struct df_group *g, struct df_tensor x,
    struct df_tensor u, struct df_tensor dy, struct df_tensor dx, const uint64_t *seg, struct df_err *err)
{
	struct df_model *m = w->m;
	int rc = DF_OK;

	if (!m->lora)
		DF_TRY(df_emit_group(w, e, g, x, dy, seg, err));
	else if (g->n_lora > 0)
		DF_TRY(df_emit_lora(w, e, g, x, u, dy, seg, err)); /* leaves scale * dy B in w->v */
	if (df_tensor_is_none(dx))
		goto out;
	DF_TRY(
	    df_mm(m->be, false, false, 1, dy, df_tensor_view(m->base_data, g->weight_off, g->out, g->in), 0, dx, err));
	if (g->n_lora > 0) {
		size_t k = g->n_lora * m->rank;

		DF_TRY(df_mm(m->be, false, false, 1, df_tensor_view(w->v, 0, dy.rows, k),
		    df_tensor_view(m->train_data, g->a_off, k, g->in), 1, dx, err));
	}
out:
	return rc;
}
