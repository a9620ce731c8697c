/*
 * linear.c - the parts that layers are made of, forward and backward: a group of projections with its
 * adapters, and a norm. forward.c and backward.c put layers together; emit.c stores parameter gradients.
 *
 * The experts of a layer are groups, too, each with its own rows of the input.  All of them are multiplied in one call,
 * whose matrices are a list.
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
	return !df_tensor_is_none(w->key) && w->m->lora_dropout > 0;
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
	const struct df_dropout d = { .x = x,
		.y = y,
		.offsets = rows->seg.dev,
		.token = rows->token.dev,
		.token_offsets = w->seg.dev,
		.key = w->key,
		.substream = (uint32_t)a,
		.p = (float)w->m->lora_dropout };

	return df_dropout(w->m->be, &d, err);
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

/* The mask of part i's adapter, in each group's own rows. */
static int
drop_part(struct df_work *w, const struct df_groups *gs, size_t i, struct df_tensor x, struct df_tensor y,
    const struct df_act_rows *rows, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t k = gs->from; k < gs->to; k++) {
		const struct df_act_rows own = df_group_rows(w, gs, k, rows);

		DF_TRY(drop(w, gs->g[k].part[i].a, df_group_part(gs, k, x), df_group_part(gs, k, y), &own, err));
	}
out:
	return rc;
}

static struct df_tensor
matrix(const struct df_model *m, const struct df_group *g, enum df_matrix which, size_t part)
{
	const struct df_part *t = &g->part[part];

	switch (which) {
	case DF_ALL_WEIGHTS: return g->weight;
	case DF_WEIGHT: return m->w[t->weight];
	case DF_ALL_A: return df_tensor_view(df_train_weights(m), g->a_off, g->u_cols, g->in);
	case DF_A: return df_param_view(df_train_weights(m), &m->train.v[t->a]);
	case DF_B: return df_param_view(df_train_weights(m), &m->train.v[t->b]);
	}
	return DF_TENSOR_NONE;
}

/* y = scale x op(W) + beta y, W this matrix of each group. */
static int
multiply(struct df_work *w, const struct df_groups *gs, float scale, struct df_tensor x, enum df_matrix which,
    size_t part, bool transposed, float beta, struct df_tensor y, struct df_err *err)
{
	const struct df_gemm_groups g = { transposed, scale, beta, x, y, gs->first.dev, w->list, gs->n };

	if (gs->first.host == NULL)
		return df_mm(w->m->be, false, transposed, scale, x, matrix(w->m, gs->g, which, part), beta, y, err);
	for (size_t k = 0; k < gs->n; k++)
		w->list[k] = gs->from <= k && k < gs->to ? matrix(w->m, &gs->g[k], which, part) : DF_TENSOR_NONE;
	return df_gemm_groups(w->m->be, &g, err);
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

/* Have two groups adapters of the same shapes and scales? */
static bool
alike(const struct df_group *a, const struct df_group *b)
{
	for (size_t i = 0; i < a->n_parts; i++) {
		const struct df_part *p = &a->part[i], *q = &b->part[i];

		if ((p->a == DF_NO_ROW) != (q->a == DF_NO_ROW) ||
		    (p->a != DF_NO_ROW && (p->rank != q->rank || p->scale != q->scale)))
			return false;
	}
	return true;
}

/* The groups with adapters, run by run of alike ones: for (run = lora_runs(gs); lora_next(gs, &run);) */
static struct df_groups
lora_runs(const struct df_groups *gs)
{
	struct df_groups run = *gs;

	run.to = run.from;
	return run;
}

static bool
lora_next(const struct df_groups *gs, struct df_groups *run)
{
	run->from = run->to;
	while (run->from < gs->to && gs->g[run->from].n_lora == 0)
		run->from++;
	run->to = run->from;
	while (run->to < gs->to && alike(&gs->g[run->from], &gs->g[run->to]))
		run->to++;
	return run->from < run->to;
}

static int
lora_forward(struct df_work *w, const struct df_groups *gs, struct df_tensor x, struct df_tensor u, struct df_tensor y,
    const struct df_act_rows *rows, struct df_err *err)
{
	const struct df_group *g = &gs->g[gs->from];
	float scale = 0;
	const bool at_once = one_scale(g, &scale) && !drops(w);
	int rc = DF_OK;

	u = df_tensor_cols(u, 0, g->u_cols); /* groups of other layers may have more columns */
	if (at_once)
		DF_TRY(multiply(w, gs, scale, x, DF_ALL_A, 0, true, 0, u, err));
	for (size_t i = 0; i < g->n_parts; i++) {
		const struct df_part *t = &g->part[i];
		struct df_tensor u_t;

		if (t->b == DF_NO_ROW)
			continue;
		u_t = df_tensor_cols(u, t->u_col, t->rank);
		if (drops(w))
			DF_TRY(drop_part(w, gs, i, x, drop_scratch(w, x), rows, err));
		if (!at_once)
			DF_TRY(
			    multiply(w, gs, t->scale, drops(w) ? drop_scratch(w, x) : x, DF_A, i, true, 0, u_t, err));
		DF_TRY(multiply(w, gs, 1, u_t, DF_B, i, true, 1, df_tensor_cols(y, t->col, t->out), err));
	}
out:
	return rc;
}

/* Do all parts' weights lie side by side, in every group? */
static bool
together(const struct df_groups *gs)
{
	for (size_t k = gs->from; k < gs->to; k++)
		if (df_tensor_is_none(gs->g[k].weight))
			return false;
	return true;
}

int
df_groups_forward(struct df_work *w, const struct df_groups *gs, struct df_tensor x, struct df_tensor u, bool add,
    struct df_tensor y, const struct df_act_rows *rows, struct df_err *err)
{
	const struct df_group *g = &gs->g[gs->from];
	const bool at_once = together(gs);
	struct df_groups run = lora_runs(gs);
	struct df_model *m = w->m;
	const float beta = add ? 1 : 0;
	int rc = DF_OK;

	if (at_once)
		DF_TRY(multiply(w, gs, 1, x, DF_ALL_WEIGHTS, 0, true, beta, y, err));
	for (size_t i = 0; i < g->n_parts; i++) {
		const struct df_part *t = &g->part[i];
		struct df_tensor y_t = df_tensor_cols(y, t->col, t->out);

		if (!at_once)
			DF_TRY(multiply(w, gs, 1, x, DF_WEIGHT, i, true, beta, y_t, err));
		if (t->bias != DF_NO_ROW && df_tensor_is_none(g->bias)) /* one group: experts have none */
			DF_TRY(df_bias_add(m->be, y_t, m->w[t->bias], err));
	}
	if (!df_tensor_is_none(g->bias))
		DF_TRY(df_bias_add(m->be, y, g->bias, err));
	while (lora_next(gs, &run))
		DF_TRY(lora_forward(w, &run, x, u, y, rows, err));
out:
	return rc;
}

int
df_group_forward(struct df_work *w, const struct df_group *g, struct df_tensor x, struct df_tensor u, bool add,
    struct df_tensor y, const struct df_act_rows *rows, struct df_err *err)
{
	const struct df_groups gs = df_one_group(g);

	return df_groups_forward(w, &gs, x, u, add, y, rows, err);
}

int
df_norm_forward(
    struct df_work *w, size_t row, struct df_tensor x, struct df_tensor y, struct df_tensor rstd, struct df_err *err)
{
	struct df_rmsnorm a = { .eps = (float)w->m->cfg.norm_eps, .x = x, .y = y, .rstd = rstd, .w = w->m->w[row] };

	return df_rmsnorm_fwd(w->m->be, &a, err);
}

int
df_groups_v(struct df_work *w, const struct df_groups *gs, struct df_tensor dy, struct df_tensor v, struct df_err *err)
{
	struct df_groups run = lora_runs(gs);
	int rc = DF_OK;

	while (lora_next(gs, &run)) {
		const struct df_group *g = &run.g[run.from];

		for (size_t i = g->n_parts; i-- > 0;) {
			const struct df_part *t = &g->part[i];

			if (t->b != DF_NO_ROW)
				DF_TRY(multiply(w, &run, t->scale, df_tensor_cols(dy, t->col, t->out), DF_B, i, false,
				    0, df_tensor_cols(v, t->u_col, t->rank), err));
		}
	}
out:
	return rc;
}

/* dx += v A, each adapter's share with its mask. */
static int
lora_dx(struct df_work *w, const struct df_groups *gs, struct df_tensor v, struct df_tensor dx,
    const struct df_act_rows *rows, struct df_err *err)
{
	const struct df_group *g = &gs->g[gs->from];
	struct df_tensor share = drop_scratch(w, dx);
	int rc = DF_OK;

	if (!drops(w))
		return multiply(w, gs, 1, df_tensor_cols(v, 0, g->u_cols), DF_ALL_A, 0, false, 1, dx, err);
	for (size_t i = 0; i < g->n_parts; i++) {
		const struct df_part *t = &g->part[i];

		if (t->a == DF_NO_ROW)
			continue;
		DF_TRY(multiply(w, gs, 1, df_tensor_cols(v, t->u_col, t->rank), DF_A, i, false, 0, share, err));
		DF_TRY(drop_part(w, gs, i, share, share, rows, err));
		DF_TRY(df_axpy(w->m->be, 1, share, dx, err));
	}
out:
	return rc;
}

int
df_groups_dx(struct df_work *w, const struct df_groups *gs, struct df_tensor dy, struct df_tensor v,
    struct df_tensor dx, const struct df_act_rows *rows, struct df_err *err)
{
	const struct df_group *g = &gs->g[gs->from];
	struct df_groups run = lora_runs(gs);
	int rc = DF_OK;

	for (size_t i = 0; i < g->n_parts; i++)
		DF_TRY(multiply(w, gs, 1, df_tensor_cols(dy, g->part[i].col, g->part[i].out), DF_WEIGHT, i, false,
		    i > 0 ? 1 : 0, dx, err));
	while (lora_next(gs, &run))
		DF_TRY(lora_dx(w, &run, v, dx, rows, err));
out:
	return rc;
}

/* With u = scale x A^T: dB = dy^T u, dA = v^T x, where x has its mask. */
static int
lora_emit(struct df_work *w, const struct df_emit *e, const struct df_groups *gs, struct df_tensor x,
    struct df_tensor u, struct df_tensor v, struct df_tensor dy, const struct df_act_rows *rows, struct df_err *err)
{
	const struct df_group *g = &gs->g[gs->from];
	const bool at_once = !drops(w) && !df_tensor_is_none(e->grad);
	int rc = DF_OK;

	for (size_t i = g->n_parts; i-- > 0;) {
		const struct df_part *t = &g->part[i];

		if (t->b != DF_NO_ROW)
			DF_TRY(df_emit_product(w, e, gs, DF_B, i, df_tensor_cols(dy, t->col, t->out),
			    df_tensor_cols(u, t->u_col, t->rank), rows, err));
	}
	if (at_once)
		DF_TRY(df_emit_product(w, e, gs, DF_ALL_A, 0, df_tensor_cols(v, 0, g->u_cols), x, rows, err));
	for (size_t i = g->n_parts; i-- > 0 && !at_once;) {
		const struct df_part *t = &g->part[i];

		if (t->a == DF_NO_ROW)
			continue;
		if (drops(w))
			DF_TRY(drop_part(w, gs, i, x, drop_scratch(w, x), rows, err));
		DF_TRY(df_emit_product(w, e, gs, DF_A, i, df_tensor_cols(v, t->u_col, t->rank),
		    drops(w) ? drop_scratch(w, x) : x, rows, err));
	}
out:
	return rc;
}

int
df_groups_emit(struct df_work *w, const struct df_emit *e, const struct df_groups *gs, struct df_tensor x,
    struct df_tensor u, struct df_tensor v, struct df_tensor dy, const struct df_act_rows *rows, struct df_err *err)
{
	struct df_groups run = lora_runs(gs);
	int rc = DF_OK;

	while (lora_next(gs, &run))
		DF_TRY(lora_emit(w, e, &run, x, u, v, dy, rows, err));
	DF_TRY(df_emit_weights(w, e, gs, x, dy, rows, err));
out:
	return rc;
}

int
df_group_backward(struct df_work *w, const struct df_emit *e, const struct df_group *g, struct df_tensor x,
    struct df_tensor u, struct df_tensor dy, struct df_tensor dx, const struct df_act_rows *rows, struct df_err *err)
{
	const struct df_groups gs = df_one_group(g);
	struct df_tensor v = g->n_lora > 0 ? df_tensor_view(w->v, 0, dy.rows, g->u_cols) : DF_TENSOR_NONE;
	int rc;

	DF_TRY(df_groups_v(w, &gs, dy, v, err));
	DF_TRY(df_groups_emit(w, e, &gs, x, u, v, dy, rows, err));
	if (!df_tensor_is_none(dx))
		DF_TRY(df_groups_dx(w, &gs, dy, v, dx, rows, err));
out:
	return rc;
}
