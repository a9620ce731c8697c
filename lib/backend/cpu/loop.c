/*
 * loop.c - the parallel loops of vec.h.
 *
 * Tasks are cut by shape alone: a thread count moves work, never a rounding.
 */
#include "backend/cpu/vec.h"

struct loop {
	df_piece_fn *piece;
	df_row_fn *row;
	df_stripe_fn *stripe;
	const void *args;
	size_t rows, cols, row_step, col_step, n_across;
};

static size_t
least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static void
run_pieces(void *ctx, size_t i, int worker)
{
	const struct loop *l = ctx;
	size_t r0 = i / l->n_across * l->row_step, c0 = i % l->n_across * l->col_step;

	(void)worker;
	for (size_t r = r0; r < least(r0 + l->row_step, l->rows); r++)
		l->piece(l->args, r, c0, least(l->cols - c0, l->col_step));
}

void
df_cpu_for_pieces(struct df_backend *be, size_t rows, size_t cols, df_piece_fn *fn, const void *args)
{
	struct loop l = { .piece = fn, .args = args, .rows = rows, .cols = cols };

	if (rows == 0 || cols == 0)
		return;
	l.col_step = least(cols, DF_PIECE);
	l.row_step = DF_PIECE / l.col_step;
	l.n_across = (cols + l.col_step - 1) / l.col_step;
	df_pool_for(be->pool, l.n_across * ((rows + l.row_step - 1) / l.row_step), run_pieces, &l);
}

static void
run_rows(void *ctx, size_t i, int worker)
{
	const struct loop *l = ctx;

	(void)worker;
	for (size_t r = i * l->row_step; r < least((i + 1) * l->row_step, l->rows); r++)
		l->row(l->args, r);
}

void
df_cpu_for_rows(struct df_backend *be, size_t rows, size_t cols, df_row_fn *fn, const void *args)
{
	struct loop l = { .row = fn, .args = args, .rows = rows };

	if (rows == 0 || cols == 0)
		return;
	l.row_step = DF_PIECE / least(cols, DF_PIECE);
	df_pool_for(be->pool, (rows + l.row_step - 1) / l.row_step, run_rows, &l);
}

static void
run_stripe(void *ctx, size_t i, int worker)
{
	const struct loop *l = ctx;

	(void)worker;
	l->stripe(l->args, i * DF_STRIPE, least(l->cols - i * DF_STRIPE, DF_STRIPE));
}

void
df_cpu_for_stripes(struct df_backend *be, size_t cols, df_stripe_fn *fn, const void *args)
{
	struct loop l = { .stripe = fn, .args = args, .cols = cols };

	df_pool_for(be->pool, (cols + DF_STRIPE - 1) / DF_STRIPE, run_stripe, &l);
}
