/*
 * ref_layers.c - the reference: the layers of a transformer, forward and backward.
 *
 * See ref.c.  Each function is the equations of backend.h in f64, element by
 * element; attention and the loss head hold one row of scores or logits.
 */
#include <math.h>
#include <stdlib.h>

#include "backend/cpu/cpu.h"
#include "base/mem.h"

#define AT(t, i, j) (df_tensor_f32(t)[(i) * (t).ld + (j)])

/* y = w * x * rstd, rstd = 1 / sqrt(mean x^2 + eps); with heads, for each part of the row. */
int
df_ref_rmsnorm_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_rmsnorm *a = args;
	const size_t e = a->w.cols;

	(void)be;
	(void)err;
	for (size_t t = 0; t < a->x.rows; t++)
		for (size_t h = 0, c = 0; h < a->rstd.cols; h++, c += e) {
			double sum = 0, rstd;

			for (size_t j = 0; j < e; j++)
				sum += (double)AT(a->x, t, c + j) * AT(a->x, t, c + j);
			rstd = 1 / sqrt(sum / (double)e + a->eps);
			for (size_t j = 0; j < e; j++)
				AT(a->y, t, c + j) = (float)(AT(a->w, 0, j) * AT(a->x, t, c + j) * rstd);
			AT(a->rstd, t, h) = (float)rstd;
		}
	return DF_OK;
}

/*
 * With xhat = x * rstd and p = w * dy:  dx += rstd * (p - xhat * mean(p * xhat)),
 * dw[s] (+)= sum over the rows (and heads) of segment s of dy * xhat.
 */
int
df_ref_rmsnorm_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_rmsnorm_bwd *a = args;
	const uint32_t *offsets = df_tensor_u32(a->offsets); /* NULL: one segment */
	const size_t e = a->w.cols;

	(void)be;
	(void)err;
	for (size_t s = 0; s < a->dw.rows; s++) /* before dx, which may take the place of dy */
		for (size_t j = 0; j < e; j++) {
			double sum = a->accumulate ? AT(a->dw, s, j) : 0;

			for (size_t t = offsets ? offsets[s] : 0; t < (offsets ? offsets[s + 1] : a->x.rows); t++)
				for (size_t h = 0, c = j; h < a->rstd.cols; h++, c += e)
					sum += (double)AT(a->dy, t, c) * AT(a->x, t, c) * AT(a->rstd, t, h);
			AT(a->dw, s, j) = (float)sum;
		}
	for (size_t t = 0; t < a->x.rows; t++)
		for (size_t h = 0, c = 0; h < a->rstd.cols; h++, c += e) {
			double rstd = AT(a->rstd, t, h), mean = 0;

			for (size_t j = 0; j < e; j++)
				mean += (double)AT(a->w, 0, j) * AT(a->dy, t, c + j) * AT(a->x, t, c + j) * rstd /
				    (double)e;
			for (size_t j = 0; j < e; j++) {
				double p = (double)AT(a->w, 0, j) * AT(a->dy, t, c + j);
				double d = rstd * (p - AT(a->x, t, c + j) * rstd * mean);

				AT(a->dx, t, c + j) = (float)(a->assign ? d : AT(a->dx, t, c + j) + d);
			}
		}
	return DF_OK;
}

/* y = w (x - mean) / sqrt(var + eps) + b, var = mean (x - mean)^2. */
int
df_ref_layernorm(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_layernorm *a = args;
	const size_t cols = a->x.cols;

	(void)be;
	(void)err;
	for (size_t t = 0; t < a->x.rows; t++) {
		double mean = 0, var = 0;

		for (size_t j = 0; j < cols; j++)
			mean += AT(a->x, t, j) / (double)cols;
		for (size_t j = 0; j < cols; j++)
			var += (AT(a->x, t, j) - mean) * (AT(a->x, t, j) - mean) / (double)cols;
		for (size_t j = 0; j < cols; j++)
			AT(a->y, t, j) =
			    (float)(AT(a->w, 0, j) * (AT(a->x, t, j) - mean) / sqrt(var + a->eps) + AT(a->b, 0, j));
	}
	return DF_OK;
}

/* y = x Phi(x) = x / 2 erfc(-x / sqrt 2). */
int
df_ref_gelu(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)be;
	(void)err;
	for (size_t t = 0; t < a->src.rows; t++)
		for (size_t j = 0; j < a->src.cols; j++) {
			double x = AT(a->src, t, j);

			AT(a->dst, t, j) = (float)(x / 2 * erfc(-x * sqrt(0.5)));
		}
	return DF_OK;
}

/* (x1, x2) of each head's halves turn by the angle of (position, pair). */
int
df_ref_rope(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_rope *a = args;
	size_t half = a->cos.cols;

	(void)be;
	(void)err;
	for (size_t t = 0; t < a->x.rows; t++)
		for (size_t h = 0; h < a->n_heads; h++)
			for (size_t j = 0; j < half; j++) {
				float *x1 = &AT(a->x, t, 2 * h * half + j), *x2 = x1 + half, u = *x1, v = *x2;
				uint32_t pos = df_tensor_u32(a->pos)[t];
				float c = AT(a->cos, pos, j), s = AT(a->sin, pos, j);

				if (a->inverse)
					s = -s;
				*x1 = u * c - v * s;
				*x2 = v * c + u * s;
			}
	return DF_OK;
}

/* The first key that query i of a sample sees. */
static size_t
first_key(const struct df_attn *a, size_t i)
{
	return a->window && i + 1 > a->window ? i + 1 - a->window : 0;
}

static double
dot(const float *x, const float *y, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (double)x[i] * y[i];
	return sum;
}

int
df_ref_attn_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_attn *a = args;
	const uint32_t *offsets = df_tensor_u32(a->offsets);
	size_t e = a->q.cols / a->n_heads, group = a->n_heads / a->n_kv_heads;
	double *p = NULL;
	int rc;

	(void)be;
	DF_TRY(df_alloc(&p, a->q.rows, sizeof(*p), "attention scores", err));
	for (size_t s = 0; s + 1 < a->offsets.cols; s++) {
		size_t t0 = offsets[s], len = offsets[s + 1] - t0;

		for (size_t h = 0; h < a->n_heads; h++)
			for (size_t i = 0; i < len; i++) {
				size_t j0 = first_key(a, i), j1 = a->bidirectional ? len : i + 1, kh = h / group * e;
				double max = -INFINITY, sum = 0;

				for (size_t j = j0; j < j1; j++) {
					p[j] = a->scale * dot(&AT(a->q, t0 + i, h * e), &AT(a->k, t0 + j, kh), e);
					max = fmax(max, p[j]);
				}
				for (size_t j = j0; j < j1; j++)
					sum += p[j] = exp(p[j] - max);
				for (size_t c = 0; c < e; c++) {
					double o = 0;

					for (size_t j = j0; j < j1; j++)
						o += p[j] / sum * AT(a->v, t0 + j, kh + c);
					AT(a->o, t0 + i, h * e + c) = (float)o;
				}
				AT(a->lse, t0 + i, h) = (float)(max + log(sum));
			}
	}
out:
	free(p);
	return rc;
}

/* The last query of a sequence, its keys and values in rows [first, first + n) of k and v. */
int
df_ref_attn_decode(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_attn_decode *a = args;
	const uint32_t *first = df_tensor_u32(a->first), *n = df_tensor_u32(a->n);
	size_t e = a->q.cols / a->n_heads, group = a->n_heads / a->n_kv_heads;
	double *p = NULL;
	int rc;

	(void)be;
	DF_TRY(df_alloc(&p, a->k.rows, sizeof(*p), "attention scores", err));
	for (size_t s = 0; s < a->q.rows; s++)
		for (size_t h = 0; h < a->n_heads; h++) {
			size_t end = (size_t)first[s] + n[s], kh = h / group * e;
			size_t begin = a->window && n[s] > a->window ? end - a->window : first[s];
			double max = -INFINITY, sum = 0;

			for (size_t j = begin; j < end; j++) {
				p[j] = a->scale * dot(&AT(a->q, s, h * e), &AT(a->k, j, kh), e);
				max = fmax(max, p[j]);
			}
			for (size_t j = begin; j < end; j++)
				sum += p[j] = exp(p[j] - max);
			for (size_t c = 0; c < e; c++) {
				double o = 0;

				for (size_t j = begin; j < end; j++)
					o += p[j] / sum * AT(a->v, j, kh + c);
				AT(a->o, s, h * e + c) = (float)o;
			}
		}
out:
	free(p);
	return rc;
}

/*
 * P_ij = exp(scale q_i k_j - lse_i), dP_ij = do_i v_j, delta_i = do_i o_i,
 * dS_ij = P_ij (dP_ij - delta_i):  dq_i = scale sum_j dS_ij k_j,
 * dk_j = scale sum_i dS_ij q_i, dv_j = sum_i P_ij do_i.  Dao et al. 2022, algorithm 4.
 */
int
df_ref_attn_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_attn_bwd *b = args;
	const struct df_attn *a = &b->fwd;
	const uint32_t *offsets = df_tensor_u32(a->offsets);
	size_t e = a->q.cols / a->n_heads, group = a->n_heads / a->n_kv_heads, kc = a->k.cols;
	double *dq = NULL, *dk = NULL, *dv = NULL;
	int rc;

	(void)be;
	DF_TRY(df_alloc(&dq, a->q.rows * a->q.cols, sizeof(*dq), "attention gradient", err));
	DF_TRY(df_alloc(&dk, a->k.rows * kc, sizeof(*dk), "attention gradient", err));
	DF_TRY(df_alloc(&dv, a->k.rows * kc, sizeof(*dv), "attention gradient", err));
	for (size_t s = 0; s + 1 < a->offsets.cols; s++)
		for (size_t h = 0; h < a->n_heads; h++)
			for (size_t i = offsets[s]; i < offsets[s + 1]; i++) {
				size_t kh = h / group * e;
				const float *q = &AT(a->q, i, h * e), *d_o = &AT(b->d_o, i, h * e);
				double delta = dot(d_o, &AT(a->o, i, h * e), e);

				for (size_t j = offsets[s] + first_key(a, i - offsets[s]); j <= i; j++) {
					const float *k = &AT(a->k, j, kh), *v = &AT(a->v, j, kh);
					double p = exp(a->scale * dot(q, k, e) - AT(a->lse, i, h));
					double ds = a->scale * p * (dot(d_o, v, e) - delta);

					for (size_t c = 0; c < e; c++) {
						dq[i * a->q.cols + h * e + c] += ds * k[c];
						dk[j * kc + kh + c] += ds * q[c];
						dv[j * kc + kh + c] += p * d_o[c];
					}
				}
			}
	for (size_t t = 0; t < a->q.rows; t++) {
		for (size_t c = 0; c < a->q.cols; c++)
			AT(b->dq, t, c) = (float)dq[t * a->q.cols + c];
		for (size_t c = 0; c < kc; c++) {
			AT(b->dk, t, c) = (float)dk[t * kc + c];
			AT(b->dv, t, c) = (float)dv[t * kc + c];
		}
	}
out:
	free(dq);
	free(dk);
	free(dv);
	return rc;
}

int
df_ref_swiglu_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_swiglu *a = args;

	(void)be;
	(void)err;
	for (size_t t = 0; t < a->h.rows; t++)
		for (size_t j = 0; j < a->h.cols; j++) {
			double g = AT(a->gate, t, j);

			AT(a->h, t, j) = (float)(g / (1 + exp(-g)) * AT(a->up, t, j));
		}
	return DF_OK;
}

/* With s = sigmoid(g): silu'(g) = s (1 + g (1 - s)). */
int
df_ref_swiglu_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_swiglu *a = args;

	(void)be;
	(void)err;
	for (size_t t = 0; t < a->h.rows; t++)
		for (size_t j = 0; j < a->h.cols; j++) {
			double g = AT(a->gate, t, j), u = AT(a->up, t, j), dh = AT(a->h, t, j), s = 1 / (1 + exp(-g));

			AT(a->dgate, t, j) = (float)(dh * u * s * (1 + g * (1 - s)));
			AT(a->dup, t, j) = (float)(dh * g * s);
		}
	return DF_OK;
}

/* The logits of row t in z [V]; returns their log-sum-exp and the most likely token. */
static double
logits_row(double *z, struct df_tensor h, struct df_tensor w, size_t t, size_t *best)
{
	double sum = 0;

	*best = 0;
	for (size_t v = 0; v < w.rows; v++) {
		z[v] = 0;
		for (size_t j = 0; j < w.cols; j++)
			z[v] += (double)AT(h, t, j) * df_ref_at(w, v, j);
		if (z[v] > z[*best])
			*best = v;
	}
	for (size_t v = 0; v < w.rows; v++)
		sum += exp(z[v] - z[*best]);
	return z[*best] + log(sum);
}

/* nll, lse and correct of row t from its logits z. */
static void
xent_losses(const struct df_xent *a, size_t t, const double *z, double lse, size_t best)
{
	const size_t target = ((const uint32_t *)df_tensor_host(a->target))[t];

	AT(a->nll, 0, t) = (float)(lse - z[target]);
	if (a->lse.mem)
		AT(a->lse, 0, t) = (float)lse;
	if (a->correct.mem)
		((uint8_t *)df_tensor_host(a->correct))[t] = best == target;
}

/* dh, dw and dlogits of row t; z becomes g_t. */
static void
xent_gradients(const struct df_xent *a, size_t t, double *z, float lse)
{
	const size_t target = ((const uint32_t *)df_tensor_host(a->target))[t], n_vocab = a->w.rows;

	for (size_t v = 0; v < n_vocab; v++)
		z[v] = AT(a->scale, 0, t) * (exp(z[v] - lse) - (v == target));
	for (size_t v = 0; v < a->dlogits.cols; v++)
		AT(a->dlogits, t, v) = (float)z[v];
	for (size_t j = 0; j < a->h.cols; j++) {
		double sum = 0;

		for (size_t v = 0; v < n_vocab; v++)
			sum += z[v] * df_ref_at(a->w, v, j);
		AT(a->dh, t, j) = (float)sum;
	}
	for (size_t v = 0; v < a->dw.rows; v++)
		for (size_t j = 0; j < a->h.cols; j++)
			AT(a->dw, v, j) += (float)(z[v] * AT(a->h, t, j));
}

static int
xent(const struct df_xent *a, bool forward, bool backward, struct df_err *err)
{
	double *z = NULL;
	size_t best;
	int rc;

	DF_TRY(df_alloc(&z, a->w.rows, sizeof(*z), "logits", err));
	for (size_t t = 0; t < a->h.rows; t++) {
		const double lse = logits_row(z, a->h, a->w, t, &best);

		if (forward)
			xent_losses(a, t, z, lse, best);
		if (backward) /* of lse as it is stored, in both ways: the same bits */
			xent_gradients(a, t, z, forward ? (float)lse : AT(a->lse, 0, t));
	}
out:
	free(z);
	return rc;
}

int
df_ref_xent_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	(void)be;
	return xent(args, true, false, err);
}

int
df_ref_xent_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	(void)be;
	return xent(args, false, true, err);
}

int
df_ref_xent(struct df_backend *be, const void *args, struct df_err *err)
{
	(void)be;
	return xent(args, true, true, err);
}
