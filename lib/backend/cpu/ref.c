/*
 * ref.c - the reference: element-wise operations, rows, matrix product, optimiser.
 *
 * The slow, obvious version of everything, f64 inside, one loop nest per
 * equation.  It is the documentation of the operations and the oracle of
 * their tests, and it runs as a backend of its own ("reference").
 */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/half.h"
#include "base/rng.h"

#define AT(t, i, j) (df_tensor_f32(t)[(i) * (t).ld + (j)])

static void *
element(struct df_tensor t, size_t i, size_t j)
{
	return (char *)df_tensor_host(t) + (i * t.ld + j) * df_dtype_size(t.type);
}

float
df_ref_at(struct df_tensor t, size_t i, size_t j)
{
	float x;

	df_convert_row(&x, DF_F32, element(t, i, j), t.type, 1);
	return x;
}

int
df_ref_copy(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)be;
	(void)err;
	for (size_t i = 0; i < a->dst.rows; i++)
		df_convert_row(element(a->dst, i, 0), a->dst.type, element(a->src, i, 0), a->src.type, a->dst.cols);
	return DF_OK;
}

int
df_ref_fill(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)be;
	(void)err;
	for (size_t i = 0; i < a->dst.rows; i++)
		for (size_t j = 0; j < a->dst.cols; j++)
			df_convert_row(element(a->dst, i, j), a->dst.type, &a->alpha, DF_F32, 1);
	return DF_OK;
}

/* c = alpha op(a) op(b) + beta c; beta = 0 does not read c. */
int
df_ref_gemm(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_gemm *g = args;
	size_t n_inner = g->ta ? g->a.rows : g->a.cols;

	(void)be;
	(void)err;
	for (size_t i = 0; i < g->c.rows; i++)
		for (size_t j = 0; j < g->c.cols; j++) {
			double sum = 0;

			for (size_t k = 0; k < n_inner; k++)
				sum += (double)(g->ta ? AT(g->a, k, i) : AT(g->a, i, k)) *
				    (g->tb ? df_ref_at(g->b, j, k) : df_ref_at(g->b, k, j));
			AT(g->c, i, j) =
			    (float)(g->alpha * sum + (g->beta == 0.0f ? 0.0 : (double)g->beta * AT(g->c, i, j)));
		}
	return DF_OK;
}

/* c[s] = alpha a_s^T b_s over the rows of segment s. */
int
df_ref_gemm_segments(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_gemm_segments *g = args;
	const uint32_t *offsets = df_tensor_u32(g->offsets);

	(void)be;
	(void)err;
	for (size_t s = 0; s < g->c.rows; s++)
		for (size_t i = 0; i < g->a.cols; i++)
			for (size_t j = 0; j < g->b.cols; j++) {
				double sum = 0;

				for (size_t t = offsets[s]; t < offsets[s + 1]; t++)
					sum += (double)AT(g->a, t, i) * AT(g->b, t, j);
				AT(g->c, s, i * g->b.cols + j) = (float)(g->alpha * sum);
			}
	return DF_OK;
}

int
df_ref_axpy(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)be;
	(void)err;
	for (size_t i = 0; i < a->dst.rows; i++)
		for (size_t j = 0; j < a->dst.cols; j++)
			AT(a->dst, i, j) += a->alpha * AT(a->src, i, j);
	return DF_OK;
}

int
df_ref_scale(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)be;
	(void)err;
	for (size_t i = 0; i < a->dst.rows; i++)
		for (size_t j = 0; j < a->dst.cols; j++)
			AT(a->dst, i, j) *= a->alpha;
	return DF_OK;
}

int
df_ref_bias_add(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)be;
	(void)err;
	for (size_t i = 0; i < a->dst.rows; i++)
		for (size_t j = 0; j < a->dst.cols; j++)
			AT(a->dst, i, j) += AT(a->src, 0, j);
	return DF_OK;
}

int
df_ref_colsum(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_colsum *a = args;
	const uint32_t *offsets = df_tensor_u32(a->offsets); /* NULL: one segment */

	(void)be;
	(void)err;
	for (size_t s = 0; s < a->out.rows; s++)
		for (size_t j = 0; j < a->x.cols; j++) {
			double sum = a->accumulate ? AT(a->out, s, j) : 0;

			for (size_t i = offsets ? offsets[s] : 0, end = offsets ? offsets[s + 1] : a->x.rows; i < end;
			     i++)
				sum += AT(a->x, i, j);
			AT(a->out, s, j) = (float)sum;
		}
	return DF_OK;
}

int
df_ref_sumsq(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;
	double sum = 0;

	(void)be;
	(void)err;
	for (size_t i = 0; i < a->src.rows; i++)
		for (size_t j = 0; j < a->src.cols; j++)
			sum += (double)AT(a->src, i, j) * AT(a->src, i, j);
	*(double *)df_tensor_host(a->dst) = sum;
	return DF_OK;
}

int
df_ref_scatter_rows(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_rows *a = args;

	(void)be;
	(void)err;
	for (size_t i = 0; i < a->src.rows; i++)
		for (size_t j = 0; j < a->src.cols; j++)
			AT(a->dst, df_tensor_u32(a->rows)[i], j) += AT(a->src, i, j);
	return DF_OK;
}

int
df_ref_gather_rows(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_rows *a = args;

	(void)be;
	(void)err;
	for (size_t i = 0; i < a->dst.rows; i++)
		for (size_t j = 0; j < a->dst.cols; j++)
			AT(a->dst, i, j) = df_ref_at(a->src, df_tensor_u32(a->rows)[i], j);
	return DF_OK;
}

/* An element, counted row after row from its sample's first token, stays if its Philox word is at least p * 2^32. */
int
df_ref_dropout(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_dropout *a = args;
	float keep_scale = 1.0f / (1.0f - a->p);

	(void)be;
	(void)err;
	for (size_t i = 0; i < a->x.rows; i++)
		for (size_t j = 0; j < a->x.cols; j++) {
			uint64_t key, e = df_dropout_first(a, i, &key) + j;
			uint32_t w[4];

			df_rng_words(key, DF_RNG_DROPOUT, a->substream, e / 4, w);
			AT(a->y, i, j) = (double)w[e % 4] >= (double)a->p * 0x1p32 ? AT(a->x, i, j) * keep_scale : 0.0f;
		}
	return DF_OK;
}

int
df_ref_clip(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_clip *a = args;
	const double sumsq = *(const double *)df_tensor_host(a->sumsq), scale = a->max_norm / (sqrt(sumsq) + 1e-6);
	double *clip = df_tensor_host(a->clip);

	(void)be;
	(void)err;
	clip[1] = isfinite(sumsq) ? 1 : 0;
	clip[0] = !clip[1] ? 0 : a->max_norm > 0 && scale < 1 ? scale : 1;
	return DF_OK;
}

int
df_ref_adamw(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_adamw *a = args;
	const double *clip = df_tensor_host(a->clip);
	double c1 = 1 - pow(a->beta1, (double)a->step), c2 = 1 - pow(a->beta2, (double)a->step);

	(void)be;
	(void)err;
	if (clip && clip[1] == 0)
		return DF_OK;
	for (size_t i = 0; i < a->w.rows; i++)
		for (size_t j = 0; j < a->w.cols; j++) {
			double g = AT(a->g, i, j) * (clip ? clip[0] : 1);
			double w = AT(a->w, i, j) * (1 - a->lr * a->decay);
			double m = a->beta1 * AT(a->m, i, j) + (1 - a->beta1) * g;
			double v = a->beta2 * AT(a->v, i, j) + (1 - a->beta2) * g * g;

			AT(a->w, i, j) = (float)(w - a->lr / c1 * m / (sqrt(v) / sqrt(c2) + a->eps));
			AT(a->m, i, j) = (float)m;
			AT(a->v, i, j) = (float)v;
			if (!df_tensor_is_none(a->low))
				df_convert_row(element(a->low, i, j), a->low.type, &AT(a->w, i, j), DF_F32, 1);
		}
	return DF_OK;
}

int
df_ref_adam_form(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_adam_form *a = args;

	(void)be;
	(void)err;
	for (size_t i = 0; i < a->g.rows; i++)
		for (size_t j = 0; j < a->g.cols; j++) {
			double g = AT(a->g, i, j);
			double m = a->beta1 * AT(a->m, 0, j) + (1 - a->beta1) * g;
			double v = a->beta2 * AT(a->v, 0, j) + (1 - a->beta2) * g * g;

			AT(a->g, i, j) = (float)(a->eps_inside ? m / sqrt(v + a->eps) : m / (sqrt(v) + a->eps));
		}
	return DF_OK;
}

int
df_ref_sign(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)be;
	(void)err;
	for (size_t i = 0; i < a->dst.rows; i++)
		for (size_t j = 0; j < a->dst.cols; j++) {
			float x = AT(a->dst, i, j);

			AT(a->dst, i, j) = x > 0 ? 1.0f : x < 0 ? -1.0f : x; /* zero and NaN are unchanged */
		}
	return DF_OK;
}
