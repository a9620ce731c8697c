/*
 * moe.c - routing of rows to experts, and the weights of their results.
 *
 * All work row by row: where a row goes depends on that row only.
 */
#include "backend/cpu/vec.h"

#define AT(t, row, col) (df_tensor_f32(t) + (row) * (t).ld + (col))

static inline uint32_t *
numbers(struct df_tensor t, size_t row)
{
	return df_tensor_u32(t) + row * t.ld;
}

/* p = exp(x - max) / sum; p may be x. */
DF_INLINE void
softmax(float *p, const float *x, size_t n)
{
	const float max = df_row_max(x, n);
	float sum = 0;

	/* p may be x, element by element. */
#pragma GCC ivdep
	for (size_t j = 0; j < n; j++)
		p[j] = df_expf(x[j] - max);
	for (size_t j = 0; j < n; j++)
		sum += p[j];
	for (size_t j = 0; j < n; j++)
		p[j] /= sum;
}

static bool
chosen(const uint32_t *expert, size_t n, size_t j)
{
	for (size_t i = 0; i < n; i++) {
		if (expert[i] == j)
			return true;
	}
	return false;
}

/* k passes, each for the largest that is not chosen yet: k is small, and of equal ones the lowest number is taken. */
DF_SIMD static void
route_fwd(const void *args, size_t row)
{
	const struct df_route *a = args;
	const size_t n = a->p.cols, k = a->weight.cols;
	float *p = AT(a->p, row, 0), *weight = AT(a->weight, row, 0), sum = 0;
	uint32_t *expert = numbers(a->expert, row);

	softmax(p, AT(a->logits, row, 0), n);
	for (size_t i = 0; i < k; i++) {
		size_t best = n;

		for (size_t j = 0; j < n; j++) {
			if ((best == n || p[j] > p[best]) && !chosen(expert, i, j))
				best = j;
		}
		expert[i] = (uint32_t)best;
		weight[i] = p[best];
		sum += p[best];
	}
	for (size_t i = 0; i < k && a->normalise; i++)
		weight[i] /= sum;
}

int
df_cpu_route_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_route *a = args;

	(void)err;
	df_cpu_for_rows(be, a->p.rows, a->p.cols * a->weight.cols, route_fwd, a);
	return DF_OK;
}

/*
 * With w_i = p_i / S over the chosen, dp_i = (dw_i - sum_j dw_j w_j) / S, or dw_i when they are p themselves; then the
 * softmax: dlogits = p (dp - sum p dp).
 */
DF_SIMD static void
route_bwd(const void *args, size_t row)
{
	const struct df_route_bwd *a = args;
	const size_t n = a->p.cols, k = a->weight.cols;
	const float *p = AT(a->p, row, 0), *w = AT(a->weight, row, 0), *dw = AT(a->dweight, row, 0);
	const uint32_t *expert = numbers(a->expert, row);
	float *dx = AT(a->dlogits, row, 0), pull = 0, sum = 1, dot = 0;

	if (a->normalise) {
		sum = 0;
		for (size_t i = 0; i < k; i++) {
			sum += p[expert[i]];
			pull += dw[i] * w[i];
		}
	}
	for (size_t i = 0; i < k; i++)
		dot += p[expert[i]] * ((dw[i] - pull) / sum);
	for (size_t j = 0; j < n; j++) {
		float dp = 0;

		for (size_t i = 0; i < k; i++)
			dp = expert[i] == j ? (dw[i] - pull) / sum : dp;
		dx[j] = p[j] * (dp - dot);
	}
}

int
df_cpu_route_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_route_bwd *a = args;

	(void)err;
	df_cpu_for_rows(be, a->p.rows, a->p.cols * a->weight.cols, route_bwd, a);
	return DF_OK;
}

/* A counting sort: it keeps the order of an expert's rows. */
int
df_cpu_route_plan(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_route_plan *a = args;
	const size_t n = a->n_experts, k = a->expert.cols, n_samples = a->offsets.cols - 1;
	const uint32_t *token = a->token.mem ? numbers(a->token, 0) : NULL, *offsets = numbers(a->offsets, 0);
	uint32_t *row = numbers(a->row, 0), *slot = numbers(a->slot, 0), *row_token = numbers(a->row_token, 0);
	uint32_t *first = numbers(a->first, 0), *seg = numbers(a->seg, 0);

	(void)be;
	(void)err;
	memset(first, 0, (n + 1) * sizeof(*first));
	for (size_t t = 0; t < a->expert.rows; t++)
		for (size_t i = 0; i < k; i++)
			first[numbers(a->expert, t)[i] + 1]++;
	for (size_t e = 0; e < n; e++)
		first[e + 1] += first[e];
	for (size_t t = 0; t < a->expert.rows; t++)
		for (size_t i = 0; i < k; i++) {
			const uint32_t to = first[numbers(a->expert, t)[i]]++;

			row[to] = (uint32_t)t;
			slot[to] = (uint32_t)(t * k + i);
			row_token[to] = token ? token[t] : (uint32_t)t;
		}
	/* Each entry was moved on to the first row of the next expert: shift them back. */
	memmove(first + 1, first, n * sizeof(*first));
	first[0] = 0;
	for (size_t e = 0; e < n; e++) {
		uint32_t at = first[e];

		*seg++ = 0;
		for (size_t s = 0; s < n_samples; s++) {
			while (at < first[e + 1] && row[at] < offsets[s + 1])
				at++;
			*seg++ = at - first[e];
		}
	}
	return DF_OK;
}

DF_SIMD static void
row_scale(const void *args, size_t row)
{
	const struct df_op_triple *a = args;
	const float *x = AT(a->b, row, 0), s = *AT(a->c, row, 0);
	float *y = AT(a->a, row, 0);

#pragma GCC ivdep
	for (size_t j = 0; j < a->a.cols; j++)
		y[j] = s * x[j];
}

int
df_cpu_row_scale(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_triple *a = args;

	(void)err;
	df_cpu_for_rows(be, a->a.rows, a->a.cols, row_scale, a);
	return DF_OK;
}

DF_SIMD static void
row_dot(const void *args, size_t row)
{
	const struct df_op_triple *a = args;
	const float *x = AT(a->b, row, 0), *y = AT(a->c, row, 0);
	const size_t n = a->b.cols;
	df_v8 s = { 0 };
	float tail = 0;
	size_t j = 0;

	for (; j + 8 <= n; j += 8)
		s += *(const df_v8 *)(x + j) * *(const df_v8 *)(y + j);
	for (; j < n; j++)
		tail += x[j] * y[j];
	*AT(a->a, row, 0) = df_v8_sum(&s) + tail;
}

int
df_cpu_row_dot(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_triple *a = args;

	(void)err;
	df_cpu_for_rows(be, a->b.rows, a->b.cols, row_dot, a);
	return DF_OK;
}

DF_SIMD static void
sigmoid_fwd(const void *args, size_t row, size_t col, size_t n)
{
	const struct df_op_pair *a = args;
	const float *x = AT(a->src, row, col);
	float *y = AT(a->dst, row, col);

#pragma GCC ivdep
	for (size_t j = 0; j < n; j++)
		y[j] = 1.0f / (1.0f + df_expf(-x[j]));
}

int
df_cpu_sigmoid_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_pair *a = args;

	(void)err;
	df_cpu_for_pieces(be, a->dst.rows, a->dst.cols, sigmoid_fwd, a);
	return DF_OK;
}

DF_SIMD static void
sigmoid_bwd(const void *args, size_t row, size_t col, size_t n)
{
	const struct df_op_triple *a = args;
	const float *dy = AT(a->b, row, col), *y = AT(a->c, row, col);
	float *dx = AT(a->a, row, col);

#pragma GCC ivdep
	for (size_t j = 0; j < n; j++)
		dx[j] = dy[j] * (y[j] * (1.0f - y[j]));
}

int
df_cpu_sigmoid_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_op_triple *a = args;

	(void)err;
	df_cpu_for_pieces(be, a->a.rows, a->a.cols, sigmoid_bwd, a);
	return DF_OK;
}
