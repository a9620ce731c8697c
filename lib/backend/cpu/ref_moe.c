/*
 * ref_moe.c - the reference: mixtures of experts.  See ref.c.
 */
#include <math.h>
#include <stdlib.h>

#include "backend/cpu/cpu.h"
#include "base/mem.h"

#define AT(t, i, j) (df_tensor_f32(t)[(i) * (t).ld + (j)])

static uint32_t *
number(struct df_tensor t, size_t i, size_t j)
{
	return df_tensor_u32(t) + i * t.ld + j;
}

/*
 * How many experts come before expert j: those with a larger p, and of equal ones those with a lower
 * number.  NaN counts as equal, so that each rank is given once whatever p is.
 */
static size_t
rank_of(const struct df_route *a, size_t t, size_t j)
{
	size_t n = 0;

	for (size_t i = 0; i < a->p.cols; i++)
		n += AT(a->p, t, i) > AT(a->p, t, j) || (!(AT(a->p, t, i) < AT(a->p, t, j)) && i < j);
	return n;
}

int
df_ref_route_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_route *a = args;
	const size_t n = a->p.cols, k = a->weight.cols;

	(void)be;
	(void)err;
	for (size_t t = 0; t < a->p.rows; t++) {
		double max = AT(a->logits, t, 0), sum = 0, top = 0;

		for (size_t j = 0; j < n; j++)
			max = fmax(max, AT(a->logits, t, j));
		for (size_t j = 0; j < n; j++)
			sum += exp(AT(a->logits, t, j) - max);
		for (size_t j = 0; j < n; j++)
			AT(a->p, t, j) = (float)(exp(AT(a->logits, t, j) - max) / sum);
		for (size_t j = 0; j < n; j++) {
			size_t i = rank_of(a, t, j);

			if (i < k) {
				*number(a->expert, t, i) = (uint32_t)j;
				top += AT(a->p, t, j);
			}
		}
		for (size_t i = 0; i < k; i++)
			AT(a->weight, t, i) = (float)(AT(a->p, t, *number(a->expert, t, i)) / (a->normalise ? top : 1));
	}
	return DF_OK;
}

/* Through the weights to p (of the chosen), and through the softmax. */
int
df_ref_route_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_route_bwd *a = args;
	const size_t n = a->p.cols, k = a->weight.cols;
	double *dp = NULL;
	int rc;

	(void)be;
	DF_TRY(df_alloc(&dp, n, sizeof(*dp), "route_bwd", err));
	for (size_t t = 0; t < a->p.rows; t++) {
		const uint32_t *expert = number(a->expert, t, 0);
		double top = 0, pull = 0, dot = 0;

		for (size_t i = 0; i < k; i++) {
			top += AT(a->p, t, expert[i]);
			pull += (double)AT(a->dweight, t, i) * AT(a->weight, t, i);
		}
		for (size_t j = 0; j < n; j++)
			dp[j] = 0;
		for (size_t i = 0; i < k; i++)
			dp[expert[i]] = a->normalise ? (AT(a->dweight, t, i) - pull) / top : AT(a->dweight, t, i);
		for (size_t j = 0; j < n; j++)
			dot += AT(a->p, t, j) * dp[j];
		for (size_t j = 0; j < n; j++)
			AT(a->dlogits, t, j) = (float)(AT(a->p, t, j) * (dp[j] - dot));
	}
out:
	free(dp);
	return rc;
}

/* Expert after expert, sample after sample, row after row. */
int
df_ref_route_plan(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_route_plan *a = args;
	const size_t k = a->expert.cols, n_samples = a->offsets.cols - 1;
	size_t at = 0;

	(void)be;
	(void)err;
	for (size_t e = 0; e < a->n_experts; e++) {
		*number(a->first, 0, e) = (uint32_t)at;
		for (size_t s = 0; s < n_samples; s++) {
			*number(a->seg, 0, e * (n_samples + 1) + s) = (uint32_t)at - *number(a->first, 0, e);
			for (size_t t = *number(a->offsets, 0, s); t < *number(a->offsets, 0, s + 1); t++)
				for (size_t i = 0; i < k; i++) {
					if (*number(a->expert, t, i) != e)
						continue;
					*number(a->row, 0, at) = (uint32_t)t;
					*number(a->slot, 0, at) = (uint32_t)(t * k + i);
					*number(a->row_token, 0, at) =
					    a->token.mem ? *number(a->token, 0, t) : (uint32_t)t;
					at++;
				}
		}
		*number(a->seg, 0, e * (n_samples + 1) + n_samples) = (uint32_t)at - *number(a->first, 0, e);
	}
	*number(a->first, 0, a->n_experts) = (uint32_t)at;
	return DF_OK;
}

/* One product per group. */
int
df_ref_gemm_groups(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_gemm_groups *a = args;
	int rc = DF_OK;

	for (size_t e = 0; e < a->n; e++) {
		const size_t r = *number(a->first, 0, e), n = *number(a->first, 0, e + 1) - r;
		const struct df_gemm g = { false, a->tb, a->alpha, a->beta, df_tensor_rows(a->a, r, n), a->b[e],
			df_tensor_rows(a->c, r, n) };

		if (a->b[e].mem)
			DF_TRY(df_ref_gemm(be, &g, err));
	}
out:
	return rc;
}

int
df_ref_gemm_group_sums(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_gemm_group_sums *a = args;
	int rc = DF_OK;

	for (size_t e = 0; e < a->n; e++) {
		const size_t r = *number(a->first, 0, e), n = *number(a->first, 0, e + 1) - r;
		const struct df_gemm g = { true, false, a->alpha, a->beta, df_tensor_rows(a->a, r, n),
			df_tensor_rows(a->b, r, n), a->c[e] };

		if (a->c[e].mem)
			DF_TRY(df_ref_gemm(be, &g, err));
	}
out:
	return rc;
}

int
df_ref_row_scale(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_triple *a = args;

	(void)be;
	(void)err;
	for (size_t t = 0; t < a->a.rows; t++)
		for (size_t j = 0; j < a->a.cols; j++)
			AT(a->a, t, j) = AT(a->c, t, 0) * AT(a->b, t, j);
	return DF_OK;
}

int
df_ref_row_dot(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_triple *a = args;

	(void)be;
	(void)err;
	for (size_t t = 0; t < a->b.rows; t++) {
		double sum = 0;

		for (size_t j = 0; j < a->b.cols; j++)
			sum += (double)AT(a->b, t, j) * AT(a->c, t, j);
		AT(a->a, t, 0) = (float)sum;
	}
	return DF_OK;
}

int
df_ref_sigmoid_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)be;
	(void)err;
	for (size_t t = 0; t < a->dst.rows; t++)
		for (size_t j = 0; j < a->dst.cols; j++)
			AT(a->dst, t, j) = (float)(1 / (1 + exp(-(double)AT(a->src, t, j))));
	return DF_OK;
}

int
df_ref_sigmoid_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_triple *a = args;

	(void)be;
	(void)err;
	for (size_t t = 0; t < a->a.rows; t++)
		for (size_t j = 0; j < a->a.cols; j++) {
			double y = AT(a->c, t, j);

			AT(a->a, t, j) = (float)(AT(a->b, t, j) * y * (1 - y));
		}
	return DF_OK;
}
