/*
 * emit.c - parameter gradients, summed or per sample.
 *
 * The gradient of a matrix is dy^T x over rows (tokens).  Over all rows it is the batch's, added to
 * the flat gradient by one GEMM per group.  Over the rows of sample s it is that sample's: the same
 * arithmetic in n smaller GEMMs, into a block [n, piece] that goes to the sink and is then dropped.  A
 * piece is a number of whole rows of the matrix, at most 2^16 coordinates, so that a block stays in
 * cache on its way to the sink's projection.  Pieces and parameters come in descending order.
 *
 * The embedding's sample gradients are mostly zeros: the batch's tokens are sorted by id once, and
 * each piece of vocabulary rows adds the tokens with its ids.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "model/work.h"

static int
sink_block(const struct df_emit *e, const struct df_param *p, size_t first_row, struct df_tensor g, struct df_err *err)
{
	struct df_grad_piece piece = { .param = p, .offset = p->offset + first_row * p->cols, .g = g };

	return e->sink(e->ctx, &piece, err);
}

/* The pieces of a parameter, last first: for (it = pieces(p); next_piece(&it);) */
struct pieces {
	size_t step, n_rows, first, n; /* rows [first, first+n) are the current piece */
};

static struct pieces
pieces(const struct df_param *p)
{
	struct pieces it = { .step = (size_t)df_grad_piece_rows(p->cols), .n_rows = p->rows };

	it.first = (p->rows + it.step - 1) / it.step * it.step;
	return it;
}

static bool
next_piece(struct pieces *it)
{
	if (it->first == 0)
		return false;
	it->first -= it->step;
	it->n = it->n_rows - it->first < it->step ? it->n_rows - it->first : it->step;
	return true;
}

/* Block [n, rows * cols] of a piece: block[s] = dy_s[:, first..]^T x_s. */
static int
outer_block(struct df_work *w, struct df_tensor block, size_t rows, struct df_tensor dy, struct df_tensor x,
    const struct df_indices *seg, struct df_err *err)
{
	size_t cols = x.cols;
	int rc = DF_OK;

	for (size_t s = 0; s < w->n; s++) {
		struct df_tensor c = df_tensor_view(block, s * rows * cols, rows, cols);
		size_t t0 = seg->host[s], n = seg->host[s + 1] - t0;

		if (n == 0)
			DF_TRY(df_fill(w->be, c, 0, err));
		else
			DF_TRY(df_mm(
			    w->be, true, false, 1, df_tensor_rows(dy, t0, n), df_tensor_rows(x, t0, n), 0, c, err));
	}
out:
	return rc;
}

/* All pieces of a matrix [out,in] from dy [rows,out] and x [rows,in]. */
static int
sink_matrix(struct df_work *w, const struct df_emit *e, const struct df_param *p, struct df_tensor dy,
    struct df_tensor x, const struct df_indices *seg, struct df_err *err)
{
	struct pieces it = pieces(p);
	int rc = DF_OK;

	while (next_piece(&it)) {
		struct df_tensor g = df_tensor_view(w->block, 0, w->n, it.n * p->cols);

		DF_TRY(outer_block(w, g, it.n, df_tensor_cols(dy, it.first, it.n), x, seg, err));
		DF_TRY(sink_block(e, p, it.first, g, err));
	}
out:
	return rc;
}

int
df_emit_matrix(struct df_work *w, const struct df_emit *e, size_t row, struct df_tensor dy, struct df_tensor x,
    const struct df_indices *seg, struct df_err *err)
{
	const struct df_param *p = &w->m->train.v[row];

	if (df_tensor_is_none(e->grad))
		return sink_matrix(w, e, p, dy, x, seg, err);
	return df_mm(w->be, true, false, 1, dy, x, 1, df_param_view(e->grad, p), err);
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
	for (size_t s = 0; s < w->n; s++) {
		size_t t0 = seg->host[s], n = seg->host[s + 1] - t0;

		if (n == 0)
			DF_TRY(df_fill(w->be, df_tensor_rows(g, s, 1), 0, err));
		else
			DF_TRY(df_colsum(w->be, df_tensor_rows(dy, t0, n), df_tensor_rows(g, s, 1), false, err));
	}
	DF_TRY(sink_block(e, p, 0, g, err));
out:
	return rc;
}

/* Are all weights of the group trainable?  Then they lie side by side in the flat gradient. */
static bool
all_train(const struct df_model *m, const struct df_group *g)
{
	for (size_t i = 0; i < g->n_parts; i++) {
		if (!df_row_trains(m, g->part[i].weight))
			return false;
	}
	return true;
}

int
df_emit_group(struct df_work *w, const struct df_emit *e, const struct df_group *g, struct df_tensor x,
    struct df_tensor dy, const struct df_indices *seg, struct df_err *err)
{
	const struct df_model *m = w->m;
	int rc = DF_OK;

	for (size_t i = g->n_parts; i-- > 0;) {
		const struct df_part *t = &g->part[i];

		if (df_row_trains(m, t->bias))
			DF_TRY(emit_bias(w, e, m->train_row[t->bias], df_tensor_cols(dy, t->col, t->out), seg, err));
	}
	if (!df_tensor_is_none(e->grad) && all_train(m, g)) {
		size_t at = m->train.v[m->train_row[g->part[0].weight]].offset;

		DF_TRY(df_mm(w->be, true, false, 1, dy, x, 1, df_tensor_view(e->grad, at, g->out, g->in), err));
		goto out;
	}
	for (size_t i = g->n_parts; i-- > 0;) {
		const struct df_part *t = &g->part[i];

		if (df_row_trains(m, t->weight))
			DF_TRY(df_emit_matrix(
			    w, e, m->train_row[t->weight], df_tensor_cols(dy, t->col, t->out), x, seg, err));
	}
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
	return df_emit_matrix(w, e, w->m->train_row[w->m->lm_head], w->dlogits, w->h_f, &w->target_seg, err);
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

/* w->index = where each of the n sorted tokens adds: a piece's block is seen as [samples * its rows, D]. */
static void
place_tokens(struct df_work *w, const struct df_param *p, size_t n)
{
	const size_t step = (size_t)df_grad_piece_rows(p->cols);
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
	struct pieces it = pieces(p);
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
	while (next_piece(&it)) {
		struct df_tensor g = df_tensor_view(w->block, 0, w->n, it.n * p->cols);
		size_t first = end;

		if (w->m->cfg.tied)
			DF_TRY(outer_block(
			    w, g, it.n, df_tensor_cols(w->dlogits, it.first, it.n), w->h_f, &w->target_seg, err));
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
	struct pieces it = pieces(p);
	int rc = DF_OK;

	while (next_piece(&it)) {
		struct df_tensor g = df_tensor_view(w->block, 0, w->n, it.n * p->cols);

		DF_TRY(df_fill(w->be, g, 0, err));
		DF_TRY(sink_block(e, p, it.first, g, err));
	}
out:
	return rc;
}

int
df_emit_group_zeros(struct df_work *w, const struct df_emit *e, const struct df_group *g, struct df_err *err)
{
	const struct df_model *m = w->m;
	int rc = DF_OK;

	/* In the table's order: weights, biases, A, B. */
	for (int kind = 3; kind >= 0; kind--) {
		for (size_t i = g->n_parts; i-- > 0;) {
			const struct df_part *t = &g->part[i];
			size_t base = kind == 0 ? t->weight : kind == 1 ? t->bias : DF_NO_ROW;
			size_t row = kind == 3 ? t->b : kind == 2 ? t->a : DF_NO_ROW;

			if (df_row_trains(m, base))
				row = m->train_row[base];
			if (row != DF_NO_ROW)
				DF_TRY(sink_zeros(w, e, row, err));
		}
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
