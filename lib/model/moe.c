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

/* ---- sorting rows by expert ------------------------------------------------- */

/*
 * w->moe.row, .slot, .token, .first and .seg from the chosen experts of m rows.  They serve one layer: what the last
 * one pushed must have arrived before they are written again.
 */
static int
sort_rows(struct df_work *w, const uint32_t *expert, size_t m, const struct df_act_rows *rows, struct df_err *err)
{
	const size_t n = w->m->cfg.moe.n_experts, k = w->m->cfg.moe.top_k;
	uint32_t *first = w->moe.first.host, *seg = w->moe.seg.host;
	const size_t begin = w->moe.row.dev.off * sizeof(*first);
	const size_t end = (w->moe.seg.dev.off + w->moe.seg.dev.cols) * sizeof(*first);
	int rc;

	DF_TRY(df_stage_wait(w->stage, err));
	memset(first, 0, (n + 1) * sizeof(*first));
	for (size_t i = 0; i < m * k; i++)
		first[expert[i] + 1]++;
	for (size_t e = 0; e < n; e++)
		first[e + 1] += first[e];
	for (size_t i = 0; i < m * k; i++) {
		size_t at = first[expert[i]]++, row = i / k;

		w->moe.row.host[at] = (uint32_t)row;
		w->moe.slot.host[at] = (uint32_t)i;
		w->moe.token.host[at] = rows->token.host != NULL ? rows->token.host[row] : (uint32_t)row;
	}
	/* Each entry was moved on to the first row of the next expert: shift them back. */
	memmove(first + 1, first, n * sizeof(*first));
	first[0] = 0;
	for (size_t e = 0; e < n; e++) {
		uint32_t at = first[e];

		*seg++ = 0;
		for (size_t s = 0; s < w->n; s++) {
			while (at < first[e + 1] && w->moe.row.host[at] < rows->seg.host[s + 1])
				at++;
			*seg++ = at - first[e];
		}
	}
	w->moe.row.dev.cols = w->moe.slot.dev.cols = w->moe.token.dev.cols = m * k;
	rc = df_stage_push(w->stage, begin, end - begin, err); /* they lie side by side */
out:
	return rc;
}

/* How many rows expert e has. */
static size_t
n_rows_of(const struct df_work *w, size_t e)
{
	return w->moe.first.host[e + 1] - w->moe.first.host[e];
}

/* The rows of expert e, by sample. */
static struct df_act_rows
expert_rows(const struct df_work *w, size_t e)
{
	return (struct df_act_rows){ .seg = df_indices_part(w->moe.seg, e * (w->n + 1), w->n + 1),
		.token = df_indices_part(w->moe.token, w->moe.first.host[e], n_rows_of(w, e)) };
}

/* The rows of expert e in a tensor of all sorted rows. */
static struct df_tensor
part(const struct df_work *w, struct df_tensor t, size_t e)
{
	return df_tensor_rows(t, w->moe.first.host[e], n_rows_of(w, e));
}

/* The same for LoRA's activations, which have as many columns as this group needs. */
static struct df_tensor
part_u(const struct df_work *w, struct df_tensor u, size_t e, const struct df_group *g)
{
	return g->n_lora == 0 ? DF_TENSOR_NONE
			      : df_tensor_view(u, w->moe.first.host[e] * u.cols, n_rows_of(w, e), g->u_cols);
}

/* Count each sample's tokens by expert, in a layer whose m rows are all its tokens. */
static void
count_load(struct df_work *w, size_t layer, const uint32_t *expert)
{
	const size_t n = w->m->cfg.moe.n_experts, k = w->m->cfg.moe.top_k;

	for (size_t s = 0; s < w->n; s++) {
		float *load = w->gate_load + (s * w->m->cfg.n_layers + layer) * n;

		for (size_t i = w->seg.host[s] * k; i < w->seg.host[s + 1] * k; i++)
			load[expert[i]]++;
	}
}

/* p, the weights and the chosen experts for the rows of x2. */
static int
route(struct df_work *w, const struct df_moe *moe, struct df_tensor x2, struct df_tensor u, struct df_tensor p,
    struct df_tensor weight, uint32_t *expert, const struct df_act_rows *rows, struct df_err *err)
{
	struct df_route r = {
		.logits = p, .p = p, .weight = weight, .expert = expert, .normalise = w->m->cfg.moe.normalise
	};
	int rc;

	DF_TRY(df_group_forward(w, &moe->router, x2, u, false, p, rows, err));
	DF_TRY(df_route_fwd(w->m->be, &r, err));
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

	DF_TRY(df_gather_rows(
	    w->m->be, scratch(w->ms.weight, r), df_tensor_view(a->weight, 0, r, 1), w->moe.slot.dev, err));
	DF_TRY(df_row_scale(w->m->be, scratch(w->ms.hs, r), a->h, scratch(w->ms.weight, r), err));
out:
	return rc;
}

static int
experts_forward(struct df_work *w, const struct df_moe *moe, struct df_moe_act *a, struct df_tensor x2,
    struct df_tensor next, struct df_err *err)
{
	size_t r = a->h.rows, f = w->m->cfg.moe.d_expert;
	struct df_tensor x = scratch(w->ms.x, r);
	int rc;

	DF_TRY(df_gather_rows(w->m->be, x, x2, w->moe.row.dev, err));
	for (size_t e = 0; e < moe->n_experts; e++) {
		const struct df_group *g = &moe->expert[e].gate_up;
		struct df_act_rows own = expert_rows(w, e);

		if (part(w, x, e).rows > 0)
			DF_TRY(df_group_forward(
			    w, g, part(w, x, e), part_u(w, a->u_in, e, g), false, part(w, a->gu, e), &own, err));
	}
	DF_TRY(df_swiglu_fwd(w->m->be, a->h, df_tensor_cols(a->gu, 0, f), df_tensor_cols(a->gu, f, f), err));
	DF_TRY(weigh(w, a, err));
	for (size_t e = 0; e < moe->n_experts; e++) {
		const struct df_group *g = &moe->expert[e].down;
		struct df_act_rows own = expert_rows(w, e);

		if (part(w, x, e).rows > 0)
			DF_TRY(df_group_forward(w, g, part(w, scratch(w->ms.hs, r), e), part_u(w, a->u_out, e, g),
			    false, part(w, x, e), &own, err));
	}
	DF_TRY(df_scatter_rows(w->m->be, next, x, w->moe.row.dev, err));
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

	DF_TRY(df_group_forward(w, &moe->shared.gate_up, x2, a->su_in, false, a->s_gu, rows, err));
	DF_TRY(df_swiglu_fwd(w->m->be, a->s_h, df_tensor_cols(a->s_gu, 0, f), df_tensor_cols(a->s_gu, f, f), err));
	DF_TRY(df_group_forward(w, &moe->shared.down, a->s_h, a->su_out, false, a->s_y, rows, err));
	DF_TRY(df_group_forward(w, &moe->shared_gate, x2, a->su_gate, false, a->s_gate, rows, err));
	DF_TRY(df_sigmoid_fwd(w->m->be, a->s_gate, a->s_gate, err));
	DF_TRY(df_row_scale(w->m->be, y, a->s_y, a->s_gate, err));
	DF_TRY(df_axpy(w->m->be, 1, y, next, err));
out:
	return rc;
}

int
df_moe_forward(struct df_work *w, size_t i, struct df_tensor next, const struct df_act_rows *rows, struct df_err *err)
{
	const struct df_moe *moe = w->m->layers[i].moe;
	struct df_tensor x2 = w->act[i].x2;
	struct df_moe_act *a = &w->act[i].moe;
	int rc;

	DF_TRY(route(w, moe, x2, a->u_router, a->p, a->weight, a->expert.host, rows, err));
	if (w->gate_load != NULL && i + 1 < w->m->cfg.n_layers)
		count_load(w, i, a->expert.host);
	DF_TRY(sort_rows(w, a->expert.host, x2.rows, rows, err));
	DF_TRY(experts_forward(w, moe, a, x2, next, err));
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
	uint32_t *expert = w->moe.expert.host + i * t * w->m->cfg.moe.top_k; /* the layer's own come later */
	const struct df_act_rows all = df_act_rows_all(w);
	int rc;

	DF_TRY(df_copy(w->m->be, x_mid, a->x_in, err));
	DF_TRY(df_group_forward(w, o, a->o, u_o, true, x_mid, &all, err));
	DF_TRY(df_norm_forward(w, l->post_norm, x_mid, x2, scratch(w->ms.rstd, t), err));
	DF_TRY(route(w, l->moe, x2, u_r, p, scratch(w->ms.top, t), expert, &all, err));
	count_load(w, i, expert);
out:
	return rc;
}

/* ---- backward --------------------------------------------------------------- */

/* dx2 = the contribution of the shared expert and its gate. */
static int
shared_backward(struct df_work *w, const struct df_emit *e, const struct df_moe *moe, struct df_moe_act *a,
    struct df_tensor x2, struct df_tensor d, struct df_tensor dx2, const struct df_act_rows *rows, struct df_err *err)
{
	struct df_backend *be = w->m->be;
	struct df_tensor dgate = scratch(w->ms.dslot, d.rows), dy = scratch(w->ms.wide, d.rows);
	struct df_tensor dh = scratch(w->ms.sh, d.rows);
	size_t f = w->m->cfg.moe.d_shared;
	struct df_tensor g = df_tensor_cols(a->s_gu, 0, f), u = df_tensor_cols(a->s_gu, f, f);
	int rc;

	DF_TRY(df_row_dot(be, dgate, d, a->s_y, err));
	DF_TRY(df_sigmoid_bwd(be, dgate, dgate, a->s_gate, err));
	DF_TRY(df_group_backward(w, e, &moe->shared_gate, x2, a->su_gate, dgate, dx2, rows, err));
	DF_TRY(df_row_scale(be, dy, d, a->s_gate, err));
	DF_TRY(df_group_backward(w, e, &moe->shared.down, a->s_h, a->su_out, dy, dh, rows, err));
	DF_TRY(df_swiglu_bwd(be, g, u, dh, g, u, err));
	DF_TRY(df_group_backward(w, e, &moe->shared.gate_up, x2, a->su_in, a->s_gu, dy, rows, err));
	DF_TRY(df_axpy(be, 1, dy, dx2, err));
out:
	return rc;
}

/*
 * Expert i: its parameter gradients; ms.dy, the gradient of its output, becomes that of its input; ms.dweight is set.
 */
static int
expert_backward(struct df_work *w, const struct df_emit *e, const struct df_expert *x, size_t i, struct df_moe_act *a,
    const struct df_act_rows *rows, struct df_err *err)
{
	struct df_backend *be = w->m->be;
	struct df_tensor dy = part(w, w->ms.dy, i), dh = part(w, w->ms.dhs, i), gu = part(w, a->gu, i);
	struct df_tensor h = part(w, a->h, i), hs = part(w, w->ms.hs, i);
	size_t f = w->m->cfg.moe.d_expert;
	struct df_tensor g = df_tensor_cols(gu, 0, f), u = df_tensor_cols(gu, f, f);
	int rc;

	DF_TRY(df_group_backward(w, e, &x->down, hs, part_u(w, a->u_out, i, &x->down), dy, dh, rows, err));
	DF_TRY(df_row_dot(be, part(w, w->ms.dweight, i), dh, h, err));
	DF_TRY(df_row_scale(be, dh, dh, part(w, w->ms.weight, i), err));
	DF_TRY(df_swiglu_bwd(be, g, u, dh, g, u, err));
	DF_TRY(df_group_backward(
	    w, e, &x->gate_up, part(w, w->ms.x, i), part_u(w, a->u_in, i, &x->gate_up), gu, dy, rows, err));
out:
	return rc;
}

/* dx2 += the contribution of the experts; ms.dweight of all rows is set. */
static int
experts_backward(struct df_work *w, const struct df_emit *e, const struct df_moe *moe, struct df_moe_act *a,
    struct df_tensor x2, struct df_tensor d, struct df_tensor dx2, struct df_err *err)
{
	struct df_backend *be = w->m->be;
	size_t r = a->h.rows;
	int rc;

	DF_TRY(df_gather_rows(be, scratch(w->ms.x, r), x2, w->moe.row.dev, err));
	DF_TRY(df_gather_rows(be, scratch(w->ms.dy, r), d, w->moe.row.dev, err));
	DF_TRY(weigh(w, a, err));
	for (size_t i = moe->n_experts; i-- > 0;) {
		struct df_act_rows own = expert_rows(w, i);

		if (n_rows_of(w, i) > 0) {
			DF_TRY(expert_backward(w, e, &moe->expert[i], i, a, &own, err));
		} else if (df_tensor_is_none(e->grad)) {
			DF_TRY(df_emit_group_zeros(w, e, &moe->expert[i].down, err));
			DF_TRY(df_emit_group_zeros(w, e, &moe->expert[i].gate_up, err));
		}
	}
	DF_TRY(df_scatter_rows(be, dx2, scratch(w->ms.dy, r), w->moe.row.dev, err));
out:
	return rc;
}

static int
router_backward(struct df_work *w, const struct df_emit *e, const struct df_moe *moe, struct df_moe_act *a,
    struct df_tensor x2, struct df_tensor dx2, const struct df_act_rows *rows, struct df_err *err)
{
	struct df_backend *be = w->m->be;
	size_t r = a->h.rows;
	struct df_tensor dslot = scratch(w->ms.dslot, r), dx = scratch(w->ms.wide, x2.rows);
	struct df_route_bwd b = { .p = a->p,
		.weight = a->weight,
		.expert = a->expert.host,
		.dweight = df_tensor_view(dslot, 0, a->weight.rows, a->weight.cols),
		.dlogits = a->p,
		.normalise = w->m->cfg.moe.normalise };
	int rc;

	DF_TRY(df_fill(be, dslot, 0, err));
	DF_TRY(df_scatter_rows(be, dslot, scratch(w->ms.dweight, r), w->moe.slot.dev, err));
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
	    moe->router.lowest || moe->shared.gate_up.lowest || moe->shared.down.lowest || moe->shared_gate.lowest;

	for (size_t i = 0; i < moe->n_experts; i++)
		found |= moe->expert[i].gate_up.lowest || moe->expert[i].down.lowest;
	return found;
}

int
df_moe_backward(struct df_work *w, const struct df_emit *e, size_t i, struct df_tensor d, struct df_tensor dx2,
    const struct df_act_rows *rows, bool *done, struct df_err *err)
{
	const struct df_moe *moe = w->m->layers[i].moe;
	struct df_tensor x2 = w->act[i].x2;
	struct df_moe_act *a = &w->act[i].moe;
	int rc;

	DF_TRY(sort_rows(w, a->expert.host, x2.rows, rows, err));
	if (moe->shared_gate.n_parts > 0)
		DF_TRY(shared_backward(w, e, moe, a, x2, d, dx2, rows, err));
	else
		DF_TRY(df_fill(w->m->be, dx2, 0, err));
	DF_TRY(experts_backward(w, e, moe, a, x2, d, dx2, err));
	DF_TRY(router_backward(w, e, moe, a, x2, dx2, rows, err));
	*done = holds_lowest(moe);
out:
	return rc;
}
