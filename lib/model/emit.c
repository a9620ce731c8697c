/*
 * emit.c - parameter gradients, summed or per sample.
 *
 * The gradient of a matrix is dy^T x over rows (tokens).  Over all rows it is the batch's, added to
 * the flat gradient by one GEMM per group.  Over the rows of sample s it is that sample's: the same
 * arithmetic by segments of rows, into a block [n, rows of the matrix] that goes to the sink and is then
 * dropped.  A block has whole pieces, as many as the backend wants at a time.  Blocks and parameters come in
 * descending order.
 *
 * The embedding's sample gradients are mostly zeros: the batch's tokens are sorted by id once, and
 * each block of vocabulary rows adds the tokens with its ids.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "model/work.h"

static int
sink_block(const struct df_emit *e, const struct df_param *p, size_t first_row, struct df_tensor g, struct df_err *err)
{
	struct df_grad_block block = { .param = p,
		.offset = p->offset + first_row * p->cols,
		.piece = df_grad_piece_rows(p->cols) * p->cols,
		.g = g };

	return e->sink(e->ctx, &block, err);
}

/* The blocks of a parameter, last first: for (it = blocks(w, p); next_block(&it);) */
struct blocks {
	size_t step, n_rows, first, n; /* rows [first, first+n) are the current block */
};

static struct blocks
blocks(const struct df_work *w, const struct df_param *p)
{
	struct blocks it = { .step = df_work_block_rows(w, p), .n_rows = p->rows };

	it.first = (p->rows + it.step - 1) / it.step * it.step;
	return it;
}

static bool
next_block(struct blocks *it)
{
	if (it->first == 0)
		return false;
	it->first -= it->step;
	it->n = it->n_rows - it->first < it->step ? it->n_rows - it->first : it->step;
	return true;
}

/* block[s] = dy_s^T x_s. */
static int
outer_block(struct df_work *w, struct df_tensor block, struct df_tensor dy, struct df_tensor x,
    const struct df_indices *seg, struct df_err *err)
{
	struct df_gemm_segments g = { .alpha = 1, .a = dy, .b = x, .c = block, .offsets = seg->dev };

	return df_gemm_segments(w->be, &g, err);
}

/* All blocks of a matrix [out,in] from dy [rows,out] and x [rows,in]. */
static int
sink_matrix(struct df_work *w, const struct df_emit *e, const struct df_param *p, struct df_tensor dy,
    struct df_tensor x, const struct df_indices *seg, struct df_err *err)
{
	struct blocks it = blocks(w, p);
	int rc = DF_OK;

	while (next_block(&it)) {
		struct df_tensor g = df_tensor_view(w->block, 0, w->n, it.n * p->cols);

		DF_TRY(outer_block(w, g, df_tensor_cols(dy, it.first, it.n), x, seg, err));
		DF_TRY(sink_block(e, p, it.first, g, err));
	}
out:
	return rc;
}

static int
emit_bias(struct df_work *w, const struct df_emit *e, size_t row, struct df_tensor dy, const struct df_indices *seg,
    struct df_err *err)
{
	const struct df_param *p = &w->m->train.v[row];
	struct df_tensor g;
	int rc = DF_OK;

	if (!df_tensor_is_none(e->grad))
		return df_colsum(w->be, dy, df_param_view(e->grad, p), true, err);
	g = df_tensor_view(w->block, 0, w->n, p->cols);
	DF_TRY(df_colsum_segments(w->be, dy, seg->dev, g, err));
	DF_TRY(sink_block(e, p, 0, g, err));
out:
	return rc;
}

/* Are all weights of the groups trainable?  Then each group's lie side by side in the flat gradient. */
static bool
all_train(const struct df_model *m, const struct df_groups *gs)
{
	for (size_t k = gs->from; k < gs->to; k++)
		for (size_t i = 0; i < gs->g[k].n_parts; i++)
			if (!df_row_trains(m, gs->g[k].part[i].weight))
				return false;
	return true;
}

/* The parameter that such a matrix is, or the first that it holds: its index in train, or DF_NO_ROW. */
static size_t
row_of(const struct df_model *m, const struct df_group *g, enum df_matrix which, size_t part)
{
	const struct df_part *t = &g->part[part];

	switch (which) {
	case DF_A: return t->a;
	case DF_B: return t->b;
	default: return m->train_row[t->weight];
	}
}

/* Its window on the flat gradient, or NONE. */
static struct df_tensor
gradient(const struct df_work *w, const struct df_emit *e, const struct df_group *g, enum df_matrix which, size_t part)
{
	size_t row;

	if (which == DF_ALL_A)
		return df_tensor_view(e->grad, g->a_off, g->u_cols, g->in);
	row = row_of(w->m, g, which, part);
	if (row == DF_NO_ROW)
		return DF_TENSOR_NONE;
	if (which == DF_ALL_WEIGHTS)
		return df_tensor_view(e->grad, w->m->train.v[row].offset, g->out, g->in);
	return df_param_view(e->grad, &w->m->train.v[row]);
}

/* Add each group's dy^T x to the flat gradient. */
static int
sum_products(struct df_work *w, const struct df_emit *e, const struct df_groups *gs, enum df_matrix which, size_t part,
    struct df_tensor dy, struct df_tensor x, struct df_err *err)
{
	const struct df_gemm_group_sums sums = { 1, 1, dy, x, gs->first.dev, w->list, gs->n };

	if (gs->first.host == NULL) {
		const struct df_tensor c = gradient(w, e, gs->g, which, part);

		return df_tensor_is_none(c) ? DF_OK : df_mm(w->be, true, false, 1, dy, x, 1, c, err);
	}
	for (size_t k = 0; k < gs->n; k++)
		w->list[k] = gs->from <= k && k < gs->to ? gradient(w, e, &gs->g[k], which, part) : DF_TENSOR_NONE;
	return df_gemm_group_sums(w->be, &sums, err);
}

int
df_emit_product(struct df_work *w, const struct df_emit *e, const struct df_groups *gs, enum df_matrix which,
    size_t part, struct df_tensor dy, struct df_tensor x, const struct df_act_rows *rows, struct df_err *err)
{
	const struct df_act_rows own = df_group_rows(w, gs, gs->from, rows);
	size_t row;

	if (!df_tensor_is_none(e->grad))
		return sum_products(w, e, gs, which, part, dy, x, err);
	row = row_of(w->m, &gs->g[gs->from], which, part);
	if (row == DF_NO_ROW)
		return DF_OK;
	return sink_matrix(
	    w, e, &w->m->train.v[row], df_group_part(gs, gs->from, dy), df_group_part(gs, gs->from, x), &own.seg, err);
}

int
df_emit_weights(struct df_work *w, const struct df_emit *e, const struct df_groups *gs, struct df_tensor x,
    struct df_tensor dy, const struct df_act_rows *rows, struct df_err *err)
{
	const struct df_group *g = &gs->g[gs->from];
	const struct df_model *m = w->m;
	int rc = DF_OK;

	for (size_t i = g->n_parts; i-- > 0;) {
		const struct df_part *t = &g->part[i];

		if (df_row_trains(m, t->bias)) /* one group: experts have none */
			DF_TRY(emit_bias(
			    w, e, m->train_row[t->bias], df_tensor_cols(dy, t->col, t->out), &rows->seg, err));
	}
	if (!df_tensor_is_none(e->grad) && all_train(m, gs))
		return df_emit_product(w, e, gs, DF_ALL_WEIGHTS, 0, dy, x, rows, err);
	for (size_t i = g->n_parts; i-- > 0;)
		DF_TRY(df_emit_product(
		    w, e, gs, DF_WEIGHT, i, df_tensor_cols(dy, g->part[i].col, g->part[i].out), x, rows, err));
out:
	return rc;
}

/* The backward of a norm with parameter index `row` in base; a's dw is filled in here. */
static int
norm(struct df_work *w, const struct df_emit *e, size_t row, struct df_rmsnorm_bwd *a, const struct df_indices *seg,
    struct df_err *err)
{
	const struct df_model *m = w->m;
	const struct df_param *p = df_row_trains(m, row) ? &m->train.v[m->train_row[row]] : NULL;
	bool batch = !df_tensor_is_none(e->grad);
	int rc;

	a->w = df_work_weight(w, row);
	if (p != NULL && batch) {
		a->dw = df_param_view(e->grad, p);
		a->accumulate = true;
	} else if (p != NULL) {
		a->dw = df_tensor_view(w->block, 0, w->n, p->cols);
		a->offsets = seg->dev;
	}
	DF_TRY(df_rmsnorm_bwd(w->be, a, err));
	if (p != NULL && !batch)
		DF_TRY(sink_block(e, p, 0, a->dw, err));
out:
	return rc;
}

int
df_emit_norm(struct df_work *w, const struct df_emit *e, size_t row, struct df_tensor x, struct df_tensor rstd,
    struct df_tensor dy, struct df_tensor dx, const struct df_indices *seg, struct df_err *err)
{
	struct df_rmsnorm_bwd a = { .x = x, .rstd = rstd, .dy = dy, .dx = dx };

	return norm(w, e, row, &a, seg, err);
}

int
df_emit_head_norm(struct df_work *w, const struct df_emit *e, size_t row, size_t n_heads, struct df_tensor x,
    struct df_tensor rstd, struct df_tensor dy, const struct df_indices *seg, struct df_err *err)
{
	struct df_rmsnorm_bwd a = { .x = x, .rstd = rstd, .dy = dy, .dx = dy, .n_heads = n_heads, .assign = true };

	return norm(w, e, row, &a, seg, err);
}

int
df_emit_head(struct df_work *w, const struct df_emit *e, struct df_err *err)
{
	const struct df_param *p = &w->m->train.v[w->m->train_row[w->m->lm_head]];

	if (df_tensor_is_none(e->grad))
		return sink_matrix(w, e, p, w->dlogits, w->h_f, &w->target_seg, err);
	return df_mm(w->be, true, false, 1, w->dlogits, w->h_f, 1, df_param_view(e->grad, p), err);
}

static int
by_key(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * w->order = the tokens that the embedding gets gradients from, as (id, token); *n of them.  The pad token
 * is not one of them: transformers gives nn.Embedding its padding_idx, and that row gets no gradient
 * (when the table is tied, it gets the head's only).
 */
static int
list_tokens(struct df_work *w, size_t *n, struct df_err *err)
{
	int rc;

	*n = 0;
	DF_TRY(df_grow(&w->order, &w->cap_order, w->n_tok, sizeof(*w->order), "a batch", err));
	for (size_t t = 0; t < w->n_tok; t++) {
		if ((int64_t)w->ids.host[t] != w->m->cfg.pad_row)
			w->order[(*n)++] = (uint64_t)w->ids.host[t] << 32 | t;
	}
out:
	return rc;
}

/* s1[i] = d of the i-th token of w->order.  w->index, where each is added, is filled in: both go to the device. */
static int
gather_tokens(struct df_work *w, size_t n, struct df_tensor *rows, struct df_err *err)
{
	struct df_tensor pick = df_tensor_cols(w->pick.dev, 0, n);
	int rc = DF_OK;

	for (size_t i = 0; i < n; i++)
		w->pick.host[i] = (uint32_t)w->order[i];
	*rows = df_tensor_view(w->s1, 0, n, w->d.cols);
	if (n == 0)
		goto out;
	DF_TRY(df_work_push_part(w, pick, err));
	DF_TRY(df_work_push_part(w, df_tensor_cols(w->index.dev, 0, n), err));
	DF_TRY(df_gather_rows(w->be, *rows, w->d, pick, err));
out:
	return rc;
}

static int
embed_batch(struct df_work *w, struct df_tensor table, struct df_err *err)
{
	struct df_tensor rows;
	size_t n;
	int rc;

	DF_TRY(list_tokens(w, &n, err));
	if (n == w->n_tok)
		return df_embed_bwd(w->be, table, w->d, w->ids.dev, err);
	for (size_t i = 0; i < n; i++)
		w->index.host[i] = (uint32_t)(w->order[i] >> 32);
	DF_TRY(gather_tokens(w, n, &rows, err));
	if (n > 0)
		DF_TRY(df_embed_bwd(w->be, table, rows, df_tensor_cols(w->index.dev, 0, n), err));
out:
	return rc;
}

/* w->index = where each of the n sorted tokens adds: a block is seen as [samples * its rows, D]. */
static void
place_tokens(struct df_work *w, const struct df_param *p, size_t n)
{
	const size_t step = df_work_block_rows(w, p);
	const uint32_t *seg = w->seg.host;

	for (size_t i = 0, s = 0; i < n; i++) {
		const size_t id = w->order[i] >> 32, first = id / step * step;
		const size_t n_rows = p->rows - first < step ? p->rows - first : step;
		const uint32_t t = (uint32_t)w->order[i];

		for (s = t < seg[s] ? 0 : s; t >= seg[s + 1]; s++)
			;
		w->index.host[i] = (uint32_t)(s * n_rows + (id - first));
	}
}

int
df_emit_embed(struct df_work *w, const struct df_emit *e, struct df_err *err)
{
	const struct df_param *p = &w->m->train.v[w->m->train_row[w->m->embed]];
	struct blocks it = blocks(w, p);
	struct df_tensor sorted;
	size_t end; /* tokens [0, end) of the order are not done yet */
	int rc;

	if (!df_tensor_is_none(e->grad))
		return embed_batch(w, df_param_view(e->grad, p), err);
	DF_TRY(list_tokens(w, &end, err));
	if (end > 0)
		qsort(w->order, end, sizeof(*w->order), by_key); /* by id, then by place in the batch */
	place_tokens(w, p, end);
	DF_TRY(gather_tokens(w, end, &sorted, err));
	while (next_block(&it)) {
		struct df_tensor g = df_tensor_view(w->block, 0, w->n, it.n * p->cols);
		size_t first = end;

		if (w->m->cfg.tied)
			DF_TRY(
			    outer_block(w, g, df_tensor_cols(w->dlogits, it.first, it.n), w->h_f, &w->target_seg, err));
		else
			DF_TRY(df_fill(w->be, g, 0, err));
		while (first > 0 && w->order[first - 1] >> 32 >= it.first)
			first--;
		if (first < end)
			DF_TRY(df_embed_bwd(w->be, df_tensor_view(g, 0, w->n * it.n, p->cols),
			    df_tensor_rows(sorted, first, end - first),
			    df_tensor_cols(w->index.dev, first, end - first), err));
		end = first;
		DF_TRY(sink_block(e, p, it.first, g, err));
	}
out:
	return rc;
}

/* Zero blocks of the parameter with index `row` in train. */
static int
sink_zeros(struct df_work *w, const struct df_emit *e, size_t row, struct df_err *err)
{
	const struct df_param *p = &w->m->train.v[row];
	struct blocks it = blocks(w, p);
	int rc = DF_OK;

	while (next_block(&it)) {
		struct df_tensor g = df_tensor_view(w->block, 0, w->n, it.n * p->cols);

		DF_TRY(df_fill(w->be, g, 0, err));
		DF_TRY(sink_block(e, p, it.first, g, err));
	}
out:
	return rc;
}

int
df_emit_zeros(struct df_work *w, const struct df_emit *e, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = w->m->train.n; i-- > 0;)
		DF_TRY(sink_zeros(w, e, i, err));
out:
	return rc;
}
