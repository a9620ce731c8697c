/*
 * elem.c - element by element: copies, sums, rows by number, dropout, the optimiser.
 *
 * All of these are limited by memory.  Each is a function of one piece of a
 * row, cut by shape and run in parallel; where all operands are dense, the
 * whole tensor is one row.  Sums whose order matters accumulate in f64, piece by piece.
 */
#include <math.h>
#include <stdlib.h>

#include "backend/cpu/half.h"
#include "backend/cpu/vec.h"
#include "base/mem.h"
#include "base/rng.h"

/* The shape to walk: one row when every operand is dense. */
static void
for_elements(struct df_backend *be, struct df_tensor t, bool dense, df_piece_fn *fn, const void *args)
{
	if (dense)
		df_cpu_for_pieces(be, 1, df_tensor_numel(t), fn, args);
	else
		df_cpu_for_pieces(be, t.rows, t.cols, fn, args);
}

#define AT(t, row, col) (df_tensor_f32(t) + (row) * (t).ld + (col))

/* An element of a tensor of any type. */
static char *
at(struct df_tensor t, size_t row, size_t col)
{
	return (char *)df_tensor_host(t) + (row * t.ld + col) * df_dtype_size(t.type);
}

/* ---- copies ----------------------------------------------------------------------------------------------------- */

static void
copy(const void *args, size_t row, size_t col, size_t n)
{
	const struct df_op_pair *a = args;

	df_convert_row(at(a->dst, row, col), a->dst.type, at(a->src, row, col), a->src.type, n);
}

int
df_cpu_copy(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)err;
	for_elements(be, a->dst, df_is_dense(a->dst) && df_is_dense(a->src), copy, a);
	return DF_OK;
}

static void
fill(const void *args, size_t row, size_t col, size_t n)
{
	const struct df_op_pair *a = args;
	char *dst = at(a->dst, row, col);
	uint16_t half;

	if (a->dst.type == DF_F32) {
		for (size_t i = 0; i < n; i++)
			((float *)dst)[i] = a->alpha;
		return;
	}
	df_convert_row(&half, a->dst.type, &a->alpha, DF_F32, 1);
	for (size_t i = 0; i < n; i++)
		((uint16_t *)dst)[i] = half;
}

int
df_cpu_fill(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)err;
	for_elements(be, a->dst, df_is_dense(a->dst), fill, a);
	return DF_OK;
}

/* ---- y += alpha x and similar ---------------------------------------------------------------------------------- */

DF_SIMD static void
axpy(const void *args, size_t row, size_t col, size_t n)
{
	const struct df_op_pair *a = args;
	const float *x = AT(a->src, row, col), alpha = a->alpha;
	float *y = AT(a->dst, row, col);

	for (size_t i = 0; i < n; i++)
		y[i] += alpha * x[i];
}

int
df_cpu_axpy(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)err;
	for_elements(be, a->dst, df_is_dense(a->dst) && df_is_dense(a->src), axpy, a);
	return DF_OK;
}

DF_SIMD static void
scale(const void *args, size_t row, size_t col, size_t n)
{
	const struct df_op_pair *a = args;
	float *x = AT(a->dst, row, col), alpha = a->alpha;

	for (size_t i = 0; i < n; i++)
		x[i] *= alpha;
}

int
df_cpu_scale(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)err;
	for_elements(be, a->dst, df_is_dense(a->dst), scale, a);
	return DF_OK;
}

DF_SIMD static void
sign(const void *args, size_t row, size_t col, size_t n)
{
	const struct df_op_pair *a = args;
	float *x = AT(a->dst, row, col);

	for (size_t i = 0; i < n; i++) {
		float s = x[i] < 0.0f ? -1.0f : x[i];

		x[i] = x[i] > 0.0f ? 1.0f : s;
	}
}

int
df_cpu_sign(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)err;
	for_elements(be, a->dst, df_is_dense(a->dst), sign, a);
	return DF_OK;
}

DF_SIMD static void
bias_add(const void *args, size_t row, size_t col, size_t n)
{
	const struct df_op_pair *a = args;
	const float *bias = AT(a->src, 0, col);
	float *x = AT(a->dst, row, col);

	for (size_t i = 0; i < n; i++)
		x[i] += bias[i];
}

int
df_cpu_bias_add(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)err;
	df_cpu_for_pieces(be, a->dst.rows, a->dst.cols, bias_add, a);
	return DF_OK;
}

/* ---- sums ------------------------------------------------------------------------------------------------------- */

DF_SIMD static void
colsum(const void *args, size_t col, size_t n)
{
	const struct df_op_colsum *a = args;
	const uint32_t *offsets = df_tensor_u32(a->offsets); /* NULL: one segment */

	for (size_t s = 0; s < a->out.rows; s++) {
		double sum[DF_STRIPE] = { 0 };
		float *out = AT(a->out, s, col);

		for (size_t j = 0; j < n && a->accumulate; j++)
			sum[j] = out[j];
		for (size_t t = offsets ? offsets[s] : 0, end = offsets ? offsets[s + 1] : a->x.rows; t < end; t++) {
			const float *x = AT(a->x, t, col);

			for (size_t j = 0; j < n; j++)
				sum[j] += x[j];
		}
		for (size_t j = 0; j < n; j++)
			out[j] = (float)sum[j];
	}
}

int
df_cpu_colsum(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_colsum *a = args;

	(void)err;
	df_cpu_for_stripes(be, a->out.cols, colsum, a);
	return DF_OK;
}

struct sumsq {
	struct df_tensor x;
	size_t n_across;
	double *part; /* one per piece of a row */
};

DF_SIMD static void
sumsq(const void *args, size_t row, size_t col, size_t n)
{
	const struct sumsq *a = args;
	const float *x = AT(a->x, row, col);
	double lane[8] = { 0 };
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		for (size_t j = 0; j < 8; j++)
			lane[j] += (double)x[i + j] * x[i + j];
	for (; i < n; i++)
		lane[i % 8] += (double)x[i] * x[i];
	a->part[row * a->n_across + col / DF_PIECE] =
	    ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

int
df_cpu_sumsq(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;
	const size_t rows = a->src.rows, cols = a->src.cols;
	struct sumsq s = { .x = a->src, .n_across = (cols + DF_PIECE - 1) / DF_PIECE };
	double total = 0;
	int rc;

	DF_TRY(df_alloc(&s.part, rows * s.n_across, sizeof(*s.part), "partial sums", err));
	df_cpu_for_pieces(be, rows, cols, sumsq, &s);
	for (size_t i = 0; i < rows * s.n_across; i++)
		total += s.part[i];
	*(double *)df_tensor_host(a->dst) = total;
out:
	free(s.part);
	return rc;
}

/* ---- rows by number --------------------------------------------------------------------------------------------- */

static void
gather(const void *args, size_t row, size_t col, size_t n)
{
	const struct df_op_rows *a = args;

	df_convert_row(AT(a->dst, row, col), DF_F32,
	    (const char *)df_tensor_host(a->src) +
		(df_tensor_u32(a->rows)[row] * a->src.ld + col) * df_dtype_size(a->src.type),
	    a->src.type, n);
}

int
df_cpu_gather_rows(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_rows *a = args;

	(void)err;
	df_cpu_for_pieces(be, a->dst.rows, a->dst.cols, gather, a);
	return DF_OK;
}

DF_SIMD static void
scatter(const void *args, size_t col, size_t n)
{
	const struct df_op_rows *a = args;
	const uint32_t *rows = df_tensor_u32(a->rows);

	for (size_t t = 0; t < a->src.rows; t++) {
		const float *x = AT(a->src, t, col);
		float *y = AT(a->dst, rows[t], col);

		for (size_t j = 0; j < n; j++)
			y[j] += x[j];
	}
}

int
df_cpu_scatter_rows(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_rows *a = args;

	(void)err;
	df_cpu_for_stripes(be, a->src.cols, scatter, a);
	return DF_OK;
}

/* ---- dropout ---------------------------------------------------------------------------------------------------- */

static void
dropout(const void *args, size_t row, size_t col, size_t n)
{
	const struct df_dropout *a = args;
	const double limit = (double)a->p * 0x1p32;
	const float *x = AT(a->x, row, col), keep_scale = 1.0f / (1.0f - a->p);
	float *y = AT(a->y, row, col);
	uint64_t key, e = df_dropout_first(a, row, &key) + col;
	uint32_t w[4];

	for (size_t i = 0; i < n; i++, e++) {
		if (i == 0 || e % 4 == 0)
			df_rng_words(key, DF_RNG_DROPOUT, a->substream, e / 4, w);
		y[i] = (double)w[e % 4] >= limit ? x[i] * keep_scale : 0.0f;
	}
}

int
df_cpu_dropout(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_dropout *a = args;

	(void)err;
	df_cpu_for_pieces(be, a->x.rows, a->x.cols, dropout, a);
	return DF_OK;
}

/* ---- the optimiser ---------------------------------------------------------------------------------------------- */

struct adamw {
	const struct df_adamw *a;
	float grad_scale, shrink, beta1, rest1, beta2, rest2, rate, inv_sqrt_c2, eps;
};

DF_SIMD static void
adamw(const void *args, size_t row, size_t col, size_t n)
{
	const struct adamw c = *(const struct adamw *)args;
	const float *restrict g = AT(c.a->g, row, col);
	float *restrict w = AT(c.a->w, row, col), *restrict m = AT(c.a->m, row, col),
			*restrict v = AT(c.a->v, row, col);

	for (size_t i = 0; i < n; i++) {
		float x = g[i] * c.grad_scale;

		m[i] = c.beta1 * m[i] + c.rest1 * x;
		v[i] = c.beta2 * v[i] + c.rest2 * (x * x);
		w[i] = w[i] * c.shrink - c.rate * (m[i] / (sqrtf(v[i]) * c.inv_sqrt_c2 + c.eps));
	}
	if (!df_tensor_is_none(c.a->low)) /* while w is in cache */
		df_convert_row(at(c.a->low, row, col), c.a->low.type, w, DF_F32, n);
}

int
df_cpu_adamw(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_adamw *a = args;
	const double *clip = df_tensor_host(a->clip);
	const struct adamw c = {
		.a = a,
		.grad_scale = clip ? (float)clip[0] : 1,
		.shrink = (float)(1 - a->lr * a->decay),
		.beta1 = (float)a->beta1,
		.rest1 = (float)(1 - a->beta1),
		.beta2 = (float)a->beta2,
		.rest2 = (float)(1 - a->beta2),
		.rate = (float)(a->lr / (1 - pow(a->beta1, (double)a->step))),
		.inv_sqrt_c2 = (float)(1 / sqrt(1 - pow(a->beta2, (double)a->step))),
		.eps = (float)a->eps,
	};

	(void)err;
	if (clip && clip[1] == 0)
		return DF_OK;
	for_elements(be, a->w,
	    df_is_dense(a->w) && df_is_dense(a->g) && df_is_dense(a->m) && df_is_dense(a->v) && df_is_dense(a->low),
	    adamw, &c);
	return DF_OK;
}

DF_SIMD static void
adam_form(const void *args, size_t row, size_t col, size_t n)
{
	const struct df_adam_form *a = args;
	const float beta1 = (float)a->beta1, rest1 = (float)(1 - a->beta1), eps = (float)a->eps;
	const float beta2 = (float)a->beta2, rest2 = (float)(1 - a->beta2);
	const float *restrict m = AT(a->m, 0, col), *restrict v = AT(a->v, 0, col);
	float *restrict g = AT(a->g, row, col);

	if (a->eps_inside)
		for (size_t i = 0; i < n; i++)
			g[i] = (beta1 * m[i] + rest1 * g[i]) / sqrtf(beta2 * v[i] + rest2 * (g[i] * g[i]) + eps);
	else
		for (size_t i = 0; i < n; i++)
			g[i] = (beta1 * m[i] + rest1 * g[i]) / (sqrtf(beta2 * v[i] + rest2 * (g[i] * g[i])) + eps);
}

int
df_cpu_adam_form(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_adam_form *a = args;

	(void)err;
	df_cpu_for_pieces(be, a->g.rows, a->g.cols, adam_form, a);
	return DF_OK;
}
