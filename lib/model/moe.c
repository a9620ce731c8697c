/*
 * moe.c - a mixture of experts in place of a layer's feed-forward:
 *
 *	y = sum over the row's k experts e of weight_e ffn_e(x)  (+ sigmoid(gate x) ffn_shared(x))
 *
 * Shazeer et al. 2017; Jiang et al. 2024 (Mixtral); Qwen2-MoE adds the shared expert.  No token is ever dropped.
 *
 * Rows are gathered by expert, and within an expert they keep their order.  So the rows of one sample
 * are adjacent there, and an expert does with its rows everything that a dense layer does with a batch:
 *
 *	row    3 7 8 | 0 3 | - | 1 2 8 ...        R = rows * k
 *	       e 0     e 1  e 2  e 3
 *
 * The weight multiplies the input of an expert's down projection, not its output: the result is the
 * same, and the input is narrower.  The weight's gradient is then a dot product of tensors that the
 * backward has anyway.  The router comes before the experts in the table, and its gradient needs theirs.
 */
#include <string.h>

#include "model/work.h"

/*
 * w->moe: the rows of the chosen experts in their order; *own: the samples' rows of each expert.  How many they are
 * comes back to the host: a sample's gradient and dropout take an expert's rows by their number.
 */
static int
plan(struct df_work *w, struct df_tensor expert, const struct df_act_rows *rows, struct df_act_rows *own,
    struct df_err *err)
{
	const size_t r = df_tensor_numel(expert), at = w->moe.first.dev.off, end = w->moe.seg.dev.off;
	struct df_route_plan p = { .expert = expert,
		.offsets = rows->seg.dev,
		.token = rows->token.dev,
		.n_experts = w->m->cfg.moe.n_experts,
		.first = w->moe.first.dev,
		.seg = w->moe.seg.dev };
	int rc;

	p.row = w->moe.row = df_tensor_view(w->moe.row, 0, 1, r);
	p.slot = w->moe.slot = df_tensor_view(w->moe.slot, 0, 1, r);
	p.row_token = w->moe.row_token = df_tensor_view(w->moe.row_token, 0, 1, r);
	DF_TRY(df_route_plan(w->be, &p, err));
	DF_TRY(df_stage_pull(w->stage, at * sizeof(uint32_t), (end + p.seg.cols - at) * sizeof(uint32_t), err));
	DF_TRY(df_stage_wait(w->stage, err));
	*own = (struct df_act_rows){ .seg = w->moe.seg, .token = { NULL, w->moe.row_token } };
out:
	return rc;
}

/* The experts' groups; each has its rows of the plan. */
static struct df_groups
experts(const struct df_work *w, const struct df_moe *moe, const struct df_group *g)
{
	return (struct df_groups){ .g = g, .n = moe->n_experts, .to = moe->n_experts, .first = w->moe.first };
}

/* Count each sample's tokens by expert, in a layer whose planned rows are all its tokens. */
static void
count_load(struct df_work *w, size_t layer, const struct df_act_rows *own)
{
	const size_t n = w->m->cfg.moe.n_experts;

	for (size_t s = 0; s < w->n; s++)
		for (size_t e = 0; e < n; e++) {
			const uint32_t *seg = own->seg.host + e * (w->n + 1) + s;

			w->gate_load[(s * w->m->cfg.n_layers + layer) * n + e] = (float)(seg[1] - seg[0]);
		}
}

/* p, the weights and the chosen experts for the rows of x2. */
static int
route(struct df_work *w, const struct df_moe *moe, struct df_tensor x2, struct df_tensor u, struct df_tensor p,
    struct df_tensor weight, struct df_tensor expert, const struct df_act_rows *rows, struct df_err *err)
{
	struct df_route r = {
		.logits = p, .p = p, .weight = weight, .expert = expert, .normalise = w->m->cfg.moe.normalise
	};
	int rc;

	DF_TRY(df_group_forward(w, &moe->router, x2, u, false, p, rows, err));
	DF_TRY(df_route_fwd(w->be, &r, err));
out:
	return rc;
}

/* ---- forward ---------------------------------------------------------------- */

/* The first R rows of the scratch. */
static struct df_tensor
scratch(struct df_tensor t, size_t rows)
{
	return df_tensor_rows(t, 0, rows);
}

/* ms.weight = the weights of the sorted rows, ms.hs = the weighted h. */
static int
weigh(struct df_work *w, const struct df_moe_act *a, struct df_err *err)
{
	size_t r = a->h.rows;
	int rc;

	DF_TRY(df_gather_rows(w->be, scratch(w->ms.weight, r), df_tensor_view(a->weight, 0, r, 1), w->moe.slot, err));
	DF_TRY(df_row_scale(w->be, scratch(w->ms.hs, r), a->h, scratch(w->ms.weight, r), err));
out:
	return rc;
}

static int
experts_forward(struct df_work *w, const struct df_moe *moe, struct df_moe_act *a, struct df_tensor x2,
    struct df_tensor next, const struct df_act_rows *own, struct df_err *err)
{
	const struct df_groups in = experts(w, moe, moe->gate_up), out = experts(w, moe, moe->down);
	size_t r = a->h.rows, f = w->m->cfg.moe.d_expert;
	struct df_tensor x = scratch(w->ms.x, r);
	int rc;

	DF_TRY(df_gather_rows(w->be, x, x2, w->moe.row, err));
	DF_TRY(df_groups_forward(w, &in, x, a->u_in, false, a->gu, own, err));
	DF_TRY(df_swiglu_fwd(w->be, a->h, df_tensor_cols(a->gu, 0, f), df_tensor_cols(a->gu, f, f), err));
	DF_TRY(weigh(w, a, err));
	DF_TRY(df_groups_forward(w, &out, scratch(w->ms.hs, r), a->u_out, false, x, own, err));
	DF_TRY(df_scatter_rows(w->be, next, x, w->moe.row, err));
out:
	return rc;
}

static int
shared_forward(struct df_work *w, const struct df_moe *moe, struct df_moe_act *a, struct df_tensor x2,
    struct df_tensor next, const struct df_act_rows *rows, struct df_err *err)
{
	struct df_tensor y = scratch(w->ms.wide, x2.rows);
	size_t f = w->m->cfg.moe.d_shared;
	int rc;

	DF_TRY(df_group_forward(w, &moe->shared_gate_up, x2, a->su_in, false, a->s_gu, rows, err));
	DF_TRY(df_swiglu_fwd(w->be, a->s_h, df_tensor_cols(a->s_gu, 0, f), df_tensor_cols(a->s_gu, f, f), err));
	DF_TRY(df_group_forward(w, &moe->shared_down, a->s_h, a->su_out, false, a->s_y, rows, err));
	DF_TRY(df_group_forward(w, &moe->shared_gate, x2, a->su_gate, false, a->s_gate, rows, err));
	DF_TRY(df_sigmoid_fwd(w->be, a->s_gate, a->s_gate, err));
	DF_TRY(df_row_scale(w->be, y, a->s_y, a->s_gate, err));
	DF_TRY(df_axpy(w->be, 1, y, next, err));
out:
	return rc;
}

int
df_moe_forward(struct df_work *w, size_t i, struct df_tensor next, const struct df_act_rows *rows, struct df_err *err)
{
	const struct df_moe *moe = w->m->layers[i].moe;
	struct df_tensor x2 = w->act[i].x2;
	struct df_moe_act *a = &w->act[i].moe;
	struct df_act_rows own;
	int rc;

	DF_TRY(route(w, moe, x2, a->u_router, a->p, a->weight, a->expert, rows, err));
	DF_TRY(plan(w, a->expert, rows, &own, err));
	if (w->gate_load != NULL && i + 1 < w->m->cfg.n_layers)
		count_load(w, i, &own);
	DF_TRY(experts_forward(w, moe, a, x2, next, &own, err));
	if (moe->shared_gate.n_parts > 0)
		DF_TRY(shared_forward(w, moe, a, x2, next, rows, err));
out:
	return rc;
}

int
df_moe_last_load(struct df_work *w, struct df_err *err)
{
	const size_t i = w->m->cfg.n_layers - 1, t = w->n_tok;
	const struct df_layer *l = &w->m->layers[i];
	const struct df_group *o = &l->group[DF_GROUP_O];
	const struct df_act *a = &w->act[i];
	struct df_tensor x_mid = scratch(w->ms.x_mid, t), x2 = scratch(w->ms.x2, t), p = scratch(w->ms.p, t);
	struct df_tensor u_o = df_tensor_view(w->ms.u, 0, t, o->u_cols);
	struct df_tensor u_r = df_tensor_view(w->ms.u, t * u_o.cols, t, l->moe->router.u_cols);
	const struct df_act_rows all = df_act_rows_all(w);
	struct df_act_rows own;
	int rc;

	DF_TRY(df_copy(w->be, x_mid, a->x_in, err));
	DF_TRY(df_group_forward(w, o, a->o, u_o, true, x_mid, &all, err));
	DF_TRY(df_norm_forward(w, l->post_norm, x_mid, x2, scratch(w->ms.rstd, t), err));
	DF_TRY(route(w, l->moe, x2, u_r, p, scratch(w->ms.top, t), w->ms.chosen, &all, err));
	DF_TRY(plan(w, w->ms.chosen, &all, &own, err));
	count_load(w, i, &own);
out:
	return rc;
}

/* ---- backward --------------------------------------------------------------- */

/* dx2 = the contribution of the shared expert and its gate. */
static int
shared_backward(struct df_work *w, const struct df_emit *e, const struct df_moe *moe, struct df_moe_act *a,
    struct df_tensor x2, struct df_tensor d, struct df_tensor dx2, const struct df_act_rows *rows, struct df_err *err)
{
	struct df_backend *be = w->be;
	struct df_tensor dgate = scratch(w->ms.dslot, d.rows), dy = scratch(w->ms.wide, d.rows);
	struct df_tensor dh = scratch(w->ms.sh, d.rows);
	size_t f = w->m->cfg.moe.d_shared;
	struct df_tensor g = df_tensor_cols(a->s_gu, 0, f), u = df_tensor_cols(a->s_gu, f, f);
	int rc;

	DF_TRY(df_row_dot(be, dgate, d, a->s_y, err));
	DF_TRY(df_sigmoid_bwd(be, dgate, dgate, a->s_gate, err));
	DF_TRY(df_group_backward(w, e, &moe->shared_gate, x2, a->su_gate, dgate, dx2, rows, err));
	DF_TRY(df_row_scale(be, dy, d, a->s_gate, err));
	DF_TRY(df_group_backward(w, e, &moe->shared_down, a->s_h, a->su_out, dy, dh, rows, err));
	DF_TRY(df_swiglu_bwd(be, g, u, dh, g, u, err));
	DF_TRY(df_group_backward(w, e, &moe->shared_gate_up, x2, a->su_in, a->s_gu, dy, rows, err));
	DF_TRY(df_axpy(be, 1, dy, dx2, err));
out:
	return rc;
}

/* The experts' parameter gradients, from those of what they gave (dy) and of gate and up (a->gu). */
static int
experts_emit(struct df_work *w, const struct df_emit *e, const struct df_moe *moe, const struct df_moe_act *a,
    const struct df_act_rows *own, struct df_err *err)
{
	const size_t r = a->h.rows, at_once = df_tensor_is_none(e->grad) ? 1 : moe->n_experts;
	struct df_groups in = experts(w, moe, moe->gate_up), out = experts(w, moe, moe->down);
	int rc = DF_OK;

	/* A sink takes one at a time, the last first. */
	for (size_t i = moe->n_experts; i > 0; i -= at_once) {
		in.from = out.from = i - at_once;
		in.to = out.to = i;
		DF_TRY(df_groups_emit(w, e, &out, scratch(w->ms.hs, r), a->u_out, scratch(w->ms.v_out, r),
		    scratch(w->ms.dy, r), own, err));
		DF_TRY(
		    df_groups_emit(w, e, &in, scratch(w->ms.x, r), a->u_in, scratch(w->ms.v_in, r), a->gu, own, err));
	}
out:
	return rc;
}

/* dx2 += the contribution of the experts; ms.dweight of all rows is set. */
static int
experts_backward(struct df_work *w, const struct df_emit *e, const struct df_moe *moe, struct df_moe_act *a,
    struct df_tensor x2, struct df_tensor d, struct df_tensor dx2, const struct df_act_rows *own, struct df_err *err)
{
	const struct df_groups in = experts(w, moe, moe->gate_up), out = experts(w, moe, moe->down);
	struct df_backend *be = w->be;
	size_t r = a->h.rows, f = w->m->cfg.moe.d_expert;
	struct df_tensor dy = scratch(w->ms.dy, r), dh = scratch(w->ms.dhs, r);
	struct df_tensor g = df_tensor_cols(a->gu, 0, f), u = df_tensor_cols(a->gu, f, f);
	int rc;

	DF_TRY(df_gather_rows(be, scratch(w->ms.x, r), x2, w->moe.row, err));
	DF_TRY(df_gather_rows(be, dy, d, w->moe.row, err));
	DF_TRY(weigh(w, a, err));
	DF_TRY(df_groups_v(w, &out, dy, scratch(w->ms.v_out, r), err));
	DF_TRY(df_groups_dx(w, &out, dy, scratch(w->ms.v_out, r), dh, own, err));
	DF_TRY(df_row_dot(be, scratch(w->ms.dweight, r), dh, a->h, err));
	DF_TRY(df_row_scale(be, dh, dh, scratch(w->ms.weight, r), err));
	DF_TRY(df_swiglu_bwd(be, g, u, dh, g, u, err));
	DF_TRY(df_groups_v(w, &in, a->gu, scratch(w->ms.v_in, r), err));
	DF_TRY(experts_emit(w, e, moe, a, own, err));
	DF_TRY(df_groups_dx(w, &in, a->gu, scratch(w->ms.v_in, r), dy, own, err));
	DF_TRY(df_scatter_rows(be, dx2, dy, w->moe.row, err));
out:
	return rc;
}

static int
router_backward(struct df_work *w, const struct df_emit *e, const struct df_moe *moe, struct df_moe_act *a,
    struct df_tensor x2, struct df_tensor dx2, const struct df_act_rows *rows, struct df_err *err)
{
	struct df_backend *be = w->be;
	size_t r = a->h.rows;
	struct df_tensor dslot = scratch(w->ms.dslot, r), dx = scratch(w->ms.wide, x2.rows);
	struct df_route_bwd b = { .p = a->p,
		.weight = a->weight,
		.expert = a->expert,
		.dweight = df_tensor_view(dslot, 0, a->weight.rows, a->weight.cols),
		.dlogits = a->p,
		.normalise = w->m->cfg.moe.normalise };
	int rc;

	DF_TRY(df_fill(be, dslot, 0, err));
	DF_TRY(df_scatter_rows(be, dslot, scratch(w->ms.dweight, r), w->moe.slot, err));
	DF_TRY(df_route_bwd(be, &b, err));
	DF_TRY(df_group_backward(w, e, &moe->router, x2, a->u_router, a->p, dx, rows, err));
	DF_TRY(df_axpy(be, 1, dx, dx2, err));
out:
	return rc;
}

static bool
holds_lowest(const struct df_moe *moe)
{
	bool found =
	    moe->router.lowest || moe->shared_gate_up.lowest || moe->shared_down.lowest || moe->shared_gate.lowest;

	for (size_t i = 0; i < moe->n_experts; i++)
		found |= moe->gate_up[i].lowest || moe->down[i].lowest;
	return found;
}

int
df_moe_backward(struct df_work *w, const struct df_emit *e, size_t i, struct df_tensor d, struct df_tensor dx2,
    const struct df_act_rows *rows, bool *done, struct df_err *err)
{
	const struct df_moe *moe = w->m->layers[i].moe;
	struct df_tensor x2 = w->act[i].x2;
	struct df_moe_act *a = &w->act[i].moe;
	struct df_act_rows own;
	int rc;

	DF_TRY(plan(w, a->expert, rows, &own, err));
	if (moe->shared_gate.n_parts > 0)
		DF_TRY(shared_backward(w, e, moe, a, x2, d, dx2, rows, err));
	else
		DF_TRY(df_fill(w->be, dx2, 0, err));
	DF_TRY(experts_backward(w, e, moe, a, x2, d, dx2, &own, err));
	DF_TRY(router_backward(w, e, moe, a, x2, dx2, rows, err));
	*done = holds_lowest(moe);
out:
	return rc;
}
