/*
 * linear.c - the parts that layers are made of, forward and backward: a group of projections with its
 * adapters, and a norm. forward.c and backward.c put layers together; emit.c stores parameter gradients.
 *
 * A group's weights are multiplied in one product where they lie side by side, else part by part.  The
 * numbers are the same, as an element of a product depends on its own row and column alone.  The input's
 * gradient is a sum over parts, always in their order, so it does not depend on where the weights lie either.
 */
#include "base/rng.h"
#include "model/work.h"

/* Does this group's adapter dropout apply now? */
static bool
drops(const struct df_work *w)
{
	return w->key != NULL && w->m->lora_dropout > 0;
}

/*
 * y = x with the mask of adapter `a` (Hu et al. 2021 drop elements of an adapter's input).  An
 * element's draw is addressed by its sample's key, the adapter, its place in the sample and its
 * column.  So it does not depend on the batch, and the backward makes the same call.
 */
static int
drop(struct df_work *w, size_t a, struct df_tensor x, struct df_tensor y, const struct df_act_rows *rows,
    struct df_err *err)
{
	int rc = DF_OK;

	for (size_t s = 0; s < w->n; s++) {
		for (size_t r = rows->seg.host[s], n; r < rows->seg.host[s + 1]; r += n) {
			size_t token = rows->token.host != NULL ? rows->token.host[r] : r;

			/* A run of adjacent rows of the sample. */
			n = rows->token.host == NULL ? rows->seg.host[s + 1] - r : 1;
			while (rows->token.host != NULL && r + n < rows->seg.host[s + 1] &&
			    rows->token.host[r + n] == token + n)
				n++;
			DF_TRY(df_dropout(w->m->be, df_tensor_rows(y, r, n), df_tensor_rows(x, r, n),
			    (float)w->m->lora_dropout, w->key[s], (uint32_t)a,
			    (uint64_t)(token - w->seg.host[s]) * x.cols, err));
		}
	}
out:
	return rc;
}

uint64_t
df_model_dropout_key(uint64_t seed, uint64_t step, uint64_t id)
{
	uint32_t w[4];

	df_rng_words(seed, DF_RNG_DROPOUT, (uint32_t)step, id, w);
	return (uint64_t)w[0] << 32 | w[1];
}

static struct df_tensor
drop_scratch(const struct df_work *w, struct df_tensor x)
{
	return df_tensor_view(w->drop, 0, x.rows, x.cols);
}

/* Do all adapters of the group have the same scale? */
static bool
one_scale(const struct df_group *g, float *scale)
{
	bool first = true;

	for (size_t i = 0; i < g->n_parts; i++) {
		if (g->part[i].a == DF_NO_ROW)
			continue;
		if (!first && g->part[i].scale != *scale)
			return false;
		*scale = g->part[i].scale;
		first = false;
	}
	return true;
}

static int
lora_forward(struct df_work *w, const struct df_group *g, struct df_tensor x, struct df_tensor u, struct df_tensor y,
    const struct df_act_rows *rows, struct df_err *err)
{
	struct df_model *m = w->m;
	struct df_backend *be = m->be;
	float scale = 0;
	const bool at_once = one_scale(g, &scale) && !drops(w);
	int rc = DF_OK;

	u = df_tensor_cols(u, 0, g->u_cols); /* groups of other layers may have more columns */
	if (at_once)
		DF_TRY(df_mm(
		    be, false, true, scale, x, df_tensor_view(m->train_data, g->a_off, g->u_cols, g->in), 0, u, err));
	for (size_t i = 0; i < g->n_parts; i++) {
		const struct df_part *t = &g->part[i];
		struct df_tensor u_t;

		if (t->b == DF_NO_ROW)
			continue;
		u_t = df_tensor_cols(u, t->u_col, t->rank);
		if (drops(w))
			DF_TRY(drop(w, t->a, x, drop_scratch(w, x), rows, err));
		if (!at_once)
			DF_TRY(df_mm(be, false, true, t->scale, drops(w) ? drop_scratch(w, x) : x,
			    df_param_view(m->train_data, &m->train.v[t->a]), 0, u_t, err));
		DF_TRY(df_mm(be, false, true, 1, u_t, df_param_view(m->train_data, &m->train.v[t->b]), 1,
		    df_tensor_cols(y, t->col, t->out), err));
	}
out:
	return rc;
}

int
df_group_forward(struct df_work *w, const struct df_group *g, struct df_tensor x, struct df_tensor u, bool add,
    struct df_tensor y, const struct df_act_rows *rows, struct df_err *err)
{
	struct df_model *m = w->m;
	struct df_backend *be = m->be;
	const struct df_tensor weight = df_work_joined(w, g->weight), bias = df_work_joined(w, g->bias);
	const float beta = add ? 1 : 0;
	int rc = DF_OK;

	if (!df_tensor_is_none(weight))
		DF_TRY(df_mm(be, false, true, 1, x, weight, beta, y, err));
	for (size_t i = 0; i < g->n_parts; i++) {
		const struct df_part *t = &g->part[i];
		struct df_tensor y_t = df_tensor_cols(y, t->col, t->out);

		if (df_tensor_is_none(weight))
			DF_TRY(df_mm(be, false, true, 1, x, df_work_weight(w, t->weight), beta, y_t, err));
		if (t->bias != DF_NO_ROW && df_tensor_is_none(bias))
			DF_TRY(df_bias_add(be, y_t, df_work_weight(w, t->bias), err));
	}
	if (!df_tensor_is_none(bias))
		DF_TRY(df_bias_add(be, y, bias, err));
	if (g->n_lora > 0)
		DF_TRY(lora_forward(w, g, x, u, y, rows, err));
out:
	return rc;
}

int
df_norm_forward(
    struct df_work *w, size_t row, struct df_tensor x, struct df_tensor y, struct df_tensor rstd, struct df_err *err)
{
	struct df_rmsnorm a = {
		.eps = (float)w->m->cfg.norm_eps, .x = x, .y = y, .rstd = rstd, .w = df_work_weight(w, row)
	};

	return df_rmsnorm_fwd(w->m->be, &a, err);
}

/* With u = scale x A^T: dB = dy^T u, v = scale dy B (left in w->v), dA = v^T x, where x has its mask. */
static int
lora_backward(struct df_work *w, const struct df_emit *e, const struct df_group *g, struct df_tensor x,
    struct df_tensor u, struct df_tensor dy, const struct df_act_rows *rows, struct df_err *err)
{
	struct df_model *m = w->m;
	const struct df_params *p = &m->train;
	struct df_tensor v = df_tensor_view(w->v, 0, dy.rows, g->u_cols);
	int rc = DF_OK;

	for (size_t i = g->n_parts; i-- > 0;) {
		const struct df_part *t = &g->part[i];
		struct df_tensor dy_t = df_tensor_cols(dy, t->col, t->out);

		if (t->b == DF_NO_ROW)
			continue;
		DF_TRY(df_emit_matrix(w, e, t->b, dy_t, df_tensor_cols(u, t->u_col, t->rank), &rows->seg, err));
		DF_TRY(df_mm(m->be, false, false, t->scale, dy_t, df_param_view(m->train_data, &p->v[t->b]), 0,
		    df_tensor_cols(v, t->u_col, t->rank), err));
	}
	if (!drops(w) && !df_tensor_is_none(e->grad)) { /* all at once */
		DF_TRY(df_mm(m->be, true, false, 1, v, x, 1, df_tensor_view(e->grad, g->a_off, v.cols, g->in), err));
		goto out;
	}
	for (size_t i = g->n_parts; i-- > 0;) {
		const struct df_part *t = &g->part[i];

		if (t->a == DF_NO_ROW)
			continue;
		if (drops(w))
			DF_TRY(drop(w, t->a, x, drop_scratch(w, x), rows, err));
		DF_TRY(df_emit_matrix(w, e, t->a, df_tensor_cols(v, t->u_col, t->rank),
		    drops(w) ? drop_scratch(w, x) : x, &rows->seg, err));
	}
out:
	return rc;
}

/* dx += v A, each adapter's share with its mask. */
static int
lora_dx(struct df_work *w, const struct df_group *g, struct df_tensor dx, const struct df_act_rows *rows,
    struct df_err *err)
{
	struct df_model *m = w->m;
	struct df_tensor v = df_tensor_view(w->v, 0, dx.rows, g->u_cols), share = drop_scratch(w, dx);
	int rc = DF_OK;

	if (!drops(w))
		return df_mm(
		    m->be, false, false, 1, v, df_tensor_view(m->train_data, g->a_off, v.cols, g->in), 1, dx, err);
	for (size_t i = 0; i < g->n_parts; i++) {
		const struct df_part *t = &g->part[i];

		if (t->a == DF_NO_ROW)
			continue;
		DF_TRY(df_mm(m->be, false, false, 1, df_tensor_cols(v, t->u_col, t->rank),
		    df_param_view(m->train_data, &m->train.v[t->a]), 0, share, err));
		DF_TRY(drop(w, t->a, share, share, rows, err));
		DF_TRY(df_axpy(m->be, 1, share, dx, err));
	}
out:
	return rc;
}

int
df_group_backward(struct df_work *w, const struct df_emit *e, const struct df_group *g, struct df_tensor x,
    struct df_tensor u, struct df_tensor dy, struct df_tensor dx, const struct df_act_rows *rows, struct df_err *err)
{
	struct df_model *m = w->m;
	int rc = DF_OK;

	if (g->n_lora > 0)
		DF_TRY(lora_backward(w, e, g, x, u, dy, rows, err));
	DF_TRY(df_emit_group(w, e, g, x, dy, &rows->seg, err));
	if (df_tensor_is_none(dx))
		goto out;
	for (size_t i = 0; i < g->n_parts; i++) {
		const struct df_part *t = &g->part[i];

		DF_TRY(df_mm(m->be, false, false, 1, df_tensor_cols(dy, t->col, t->out), df_work_weight(w, t->weight),
		    i > 0 ? 1 : 0, dx, err));
	}
	if (g->n_lora > 0)
		DF_TRY(lora_dx(w, g, dx, rows, err));
out:
	return rc;
}
