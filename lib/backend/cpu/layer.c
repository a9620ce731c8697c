/*
 * layer.c - the norms, rotary embedding, and the activations.
 *
 * All work row by row, so a row's result does not depend on other rows.  Sums over a row run in
 * sixteen lanes, in a fixed order.
 */
#include <math.h>

#include "backend/cpu/vec.h"

#define AT(t, row, col) (df_tensor_f32(t) + (row) * (t).ld + (col))

/* ---- RMS norm --------------------------------------------------------------------------------------------------- */

/* Sum of x[i] * y[i] * z[i]; z may be NULL. */
DF_INLINE float
dot3(const float *x, const float *y, const float *z, size_t n)
{
	df_v8 s0 = { 0 }, s1 = { 0 };
	float tail = 0;
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		df_v8 p0 = *(const df_v8 *)(x + i) * *(const df_v8 *)(y + i);
		df_v8 p1 = *(const df_v8 *)(x + i + 8) * *(const df_v8 *)(y + i + 8);

		if (z) {
			p0 *= *(const df_v8 *)(z + i);
			p1 *= *(const df_v8 *)(z + i + 8);
		}
		s0 += p0;
		s1 += p1;
	}
	for (; i < n; i++)
		tail += z ? x[i] * y[i] * z[i] : x[i] * y[i];
	s0 += s1;
	return df_v8_sum(&s0) + tail;
}

DF_SIMD static void
rmsnorm_fwd(const void *args, size_t row)
{
	const struct df_rmsnorm *a = args;
	const size_t n = a->w.cols;
	const float *restrict w = AT(a->w, 0, 0);

	for (size_t h = 0; h < a->rstd.cols; h++) {
		const float *restrict x = AT(a->x, row, h * n);
		float *restrict y = AT(a->y, row, h * n);
		const float rstd = (float)(1 / sqrt((double)dot3(x, x, NULL, n) / (double)n + a->eps));

		for (size_t j = 0; j < n; j++)
			y[j] = w[j] * (x[j] * rstd);
		*AT(a->rstd, row, h) = rstd;
	}
}

int
df_cpu_rmsnorm_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_rmsnorm *a = args;

	(void)err;
	df_cpu_for_rows(be, a->x.rows, a->x.cols, rmsnorm_fwd, a);
	return DF_OK;
}

/* dx (+)= rstd * (w dy - xhat * mean(w dy xhat)), xhat = x * rstd. */
DF_SIMD static void
rmsnorm_bwd(const void *args, size_t row)
{
	const struct df_rmsnorm_bwd *a = args;
	const size_t n = a->w.cols;
	const float *w = AT(a->w, 0, 0);

	for (size_t h = 0; h < a->rstd.cols; h++) {
		const float *x = AT(a->x, row, h * n), *dy = AT(a->dy, row, h * n);
		float *dx = AT(a->dx, row, h * n);
		const float rstd = *AT(a->rstd, row, h), pull = dot3(w, dy, x, n) * rstd * rstd / (float)n;

		/* dx may be dy, element by element: nothing is carried from one step to the next. */
		if (a->assign) {
#pragma GCC ivdep
			for (size_t j = 0; j < n; j++)
				dx[j] = rstd * (w[j] * dy[j] - x[j] * pull);
		} else {
#pragma GCC ivdep
			for (size_t j = 0; j < n; j++)
				dx[j] += rstd * (w[j] * dy[j] - x[j] * pull);
		}
	}
}

/* dw[s, stripe] (+)= sum over the segment's rows, and their heads, of dy * x * rstd. */
DF_SIMD static void
rmsnorm_dw(void *ctx, size_t i, int worker)
{
	const struct df_rmsnorm_bwd *a = ctx;
	const uint32_t *offsets = df_tensor_u32(a->offsets); /* NULL: one segment */
	const size_t n_stripes = (a->w.cols + DF_STRIPE - 1) / DF_STRIPE, s = i / n_stripes,
		     col = i % n_stripes * DF_STRIPE;
	const size_t n = a->w.cols - col < DF_STRIPE ? a->w.cols - col : DF_STRIPE;
	double sum[DF_STRIPE] = { 0 };
	float *dw = AT(a->dw, s, col);

	(void)worker;
	for (size_t j = 0; j < n && a->accumulate; j++)
		sum[j] = dw[j];
	for (size_t t = offsets ? offsets[s] : 0, end = offsets ? offsets[s + 1] : a->x.rows; t < end; t++)
		for (size_t h = 0; h < a->rstd.cols; h++) {
			const size_t c = h * a->w.cols + col;
			const float *x = AT(a->x, t, c), *dy = AT(a->dy, t, c), rstd = *AT(a->rstd, t, h);

			for (size_t j = 0; j < n; j++)
				sum[j] += (double)(dy[j] * (x[j] * rstd));
		}
	for (size_t j = 0; j < n; j++)
		dw[j] = (float)sum[j];
}

int
df_cpu_rmsnorm_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	struct df_rmsnorm_bwd a = *(const struct df_rmsnorm_bwd *)args;

	(void)err;
	if (a.dw.mem) /* before dx, which may take the place of dy */
		df_pool_for(be->pool, a.dw.rows * ((a.w.cols + DF_STRIPE - 1) / DF_STRIPE), rmsnorm_dw, &a);
	df_cpu_for_rows(be, a.x.rows, a.x.cols, rmsnorm_bwd, &a);
	return DF_OK;
}

/* ---- layer norm ------------------------------------------------------------------------------------------------- */

/* Sum of (x[i] - shift)^power, power 1 or 2. */
DF_INLINE float
sum_powers(const float *x, float shift, int power, size_t n)
{
	df_v8 s0 = { 0 }, s1 = { 0 };
	float tail = 0;
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		df_v8 d0 = *(const df_v8 *)(x + i) - shift, d1 = *(const df_v8 *)(x + i + 8) - shift;

		if (power == 2) {
			d0 *= d0;
			d1 *= d1;
		}
		s0 += d0;
		s1 += d1;
	}
	for (; i < n; i++)
		tail += power == 2 ? (x[i] - shift) * (x[i] - shift) : x[i] - shift;
	s0 += s1;
	return df_v8_sum(&s0) + tail;
}

DF_SIMD static void
layernorm(const void *args, size_t row)
{
	const struct df_layernorm *a = args;
	const size_t n = a->x.cols;
	const float *x = AT(a->x, row, 0), *w = AT(a->w, 0, 0), *b = AT(a->b, 0, 0);
	float *y = AT(a->y, row, 0);
	const float mean = sum_powers(x, 0, 1, n) / (float)n;
	const float rstd = (float)(1 / sqrt((double)sum_powers(x, mean, 2, n) / (double)n + a->eps));

	/* y may be x, element by element. */
#pragma GCC ivdep
	for (size_t j = 0; j < n; j++)
		y[j] = w[j] * ((x[j] - mean) * rstd) + b[j];
}

int
df_cpu_layernorm(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_layernorm *a = args;

	(void)err;
	df_cpu_for_rows(be, a->x.rows, a->x.cols, layernorm, a);
	return DF_OK;
}

/* ---- rotary embedding ------------------------------------------------------------------------------------------- */

DF_SIMD static void
rope(const void *args, size_t row)
{
	const struct df_rope *a = args;
	const size_t half = a->cos.cols;
	const size_t pos = df_tensor_u32(a->pos)[row];
	const float *restrict c = AT(a->cos, pos, 0), *restrict s = AT(a->sin, pos, 0);
	const float sign = a->inverse ? -1.0f : 1.0f;

	for (size_t h = 0; h < a->n_heads; h++) {
		float *restrict x1 = AT(a->x, row, 2 * h * half), *restrict x2 = x1 + half;

		for (size_t j = 0; j < half; j++) {
			float u = x1[j], v = x2[j], t = sign * s[j];

			x1[j] = u * c[j] - v * t;
			x2[j] = v * c[j] + u * t;
		}
	}
}

int
df_cpu_rope(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_rope *a = args;

	(void)err;
	df_cpu_for_rows(be, a->x.rows, a->x.cols, rope, a);
	return DF_OK;
}

/* ---- activations ------------------------------------------------------------------------------------------------ */

DF_SIMD static void
swiglu_fwd(const void *args, size_t row, size_t col, size_t n)
{
	const struct df_op_swiglu *a = args;
	const float *restrict gate = AT(a->gate, row, col), *restrict up = AT(a->up, row, col);
	float *restrict h = AT(a->h, row, col);

	for (size_t i = 0; i < n; i++)
		h[i] = gate[i] / (1.0f + df_expf(-gate[i])) * up[i];
}

int
df_cpu_swiglu_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_swiglu *a = args;

	(void)err;
	df_cpu_for_pieces(be, a->h.rows, a->h.cols, swiglu_fwd, a);
	return DF_OK;
}

/* Short runs through local arrays: dgate and dup may be gate and up themselves. */
DF_SIMD static void
swiglu_bwd(const void *args, size_t row, size_t col, size_t n)
{
	enum { RUN = 64 };
	const struct df_op_swiglu *a = args;
	const float *gate = AT(a->gate, row, col), *up = AT(a->up, row, col), *dh = AT(a->h, row, col);
	float *dgate = AT(a->dgate, row, col), *dup = AT(a->dup, row, col);
	float dg[RUN], du[RUN];

	for (size_t i = 0; i < n; i += RUN) {
		size_t len = n - i < RUN ? n - i : RUN;

		for (size_t j = 0; j < len; j++) {
			float g = gate[i + j], s = 1.0f / (1.0f + df_expf(-g));

			dg[j] = dh[i + j] * up[i + j] * (s * (1.0f + g * (1.0f - s)));
			du[j] = dh[i + j] * (g * s);
		}
		memcpy(dgate + i, dg, len * sizeof(float));
		memcpy(dup + i, du, len * sizeof(float));
	}
}

int
df_cpu_swiglu_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_swiglu *a = args;

	(void)err;
	df_cpu_for_pieces(be, a->h.rows, a->h.cols, swiglu_bwd, a);
	return DF_OK;
}

/*
 * x Phi(x).  With t = |x| the tail Phi(-t) = exp(-t^2/2) R(t), and (1 + t) R(t) is smooth: a polynomial in
 * v = (t - 4) / (t + 4) gives it within 2.4e-8.  Phi(x) is the tail, or 1 less it, so nothing cancels: the relative
 * error of the result is below 3e-7 for x > 0, and below 3e-7 + 1.2e-7 x^2 for x < 0 (the rounding of t^2/2 in the
 * exponent).  From -13 down, where the value is below 1e-37, the result is 0.
 */
DF_INLINE float
gelu_of(float x)
{
	const float t = x < 0.0f ? -x : x, inv = 1.0f / ((t + 4.0f) * (t + 1.0f));
	const float v = (t - 4.0f) * (t + 1.0f) * inv;
	float p, tail;

	p = 9.415247041e-5f;
	p = p * v + 7.349170628e-4f;
	p = p * v + -4.035830207e-4f;
	p = p * v + -5.054645706e-3f;
	p = p * v + 1.796194166e-2f;
	p = p * v + -3.218499944e-2f;
	p = p * v + 2.859807573e-2f;
	p = p * v + 1.399869844e-2f;
	p = p * v + -9.670341015e-2f;
	p = p * v + 4.720532298e-1f;
	tail = df_expf(-0.5f * t * t) * (p * ((t + 4.0f) * inv));
	tail = x > 0.0f ? 1.0f - tail : tail;
	return x < -13.0f ? 0.0f : x * tail;
}

DF_SIMD static void
gelu(const void *args, size_t row, size_t col, size_t n)
{
	const struct df_op_pair *a = args;
	const float *x = AT(a->src, row, col);
	float *y = AT(a->dst, row, col);

	/* y may be x, element by element. */
#pragma GCC ivdep
	for (size_t i = 0; i < n; i++)
		y[i] = gelu_of(x[i]);
}

int
df_cpu_gelu(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)err;
	df_cpu_for_pieces(be, a->dst.rows, a->dst.cols, gelu, a);
	return DF_OK;
}
