/*
 * attn.c - attention, sample by sample, in blocks.
 *
 *              keys, BK at a time
 *            +------+------+---
 *   queries  |######|######|##\         The scores of BQ queries against BK keys fit the second-level
 *   BQ at a  |######|######|###\        cache and are all that is kept.  Going right along the keys, each
 *   time     +------+------+----        row keeps its maximum m and sum l; when m grows, what was
 *                                       summed shrinks by exp(old m - new m).
 *
 * Milakov & Gimelshein 2018, Dao et al. 2022.  The backward recomputes the probabilities from lse = m + log l.  Forward
 * tasks are blocks of queries of one head; backward tasks are key/value heads, whose query heads are added in their
 * order.  Blocks count from the sample's start, so a sample's numbers do not depend on the other samples of the batch.
 *
 * Decoding is the forward of one query; its heads on one key/value head are the rows of a block.  For
 * many tokens of one sequence, as in the next piece of a long prompt, it uses the forward's own
 * blocks.  A query's numbers are the same in both.
 */
#include <math.h>
#include <stdlib.h>

#include "backend/cpu/gemm.h"
#include "backend/cpu/vec.h"
#include "base/mem.h"

#define AT(t, row, col) (df_tensor_f32(t) + (row) * (t).ld + (col))

/* b as the product takes it */
#define F32(p, ld) ((struct df_cpu_operand){ (p), (ld), DF_F32 })

enum { BQ = 64, BK = 256 };

/* One block of scores: queries [q0, q0+nq) and keys [k0, k0+nk) of a sample, s [BQ][BK]. */
struct window {
	size_t q0, nq, k0, nk, window;
	bool all; /* every row sees every key */
};

static size_t
first_key(size_t query, size_t window)
{
	return window && query + 1 > window ? query + 1 - window : 0;
}

/* The columns [*lo, *hi) of the block that its row i sees; empty when *lo >= *hi. */
DF_INLINE void
visible(const struct window *w, size_t i, size_t *lo, size_t *hi)
{
	if (w->all) {
		*lo = 0;
		*hi = w->nk;
		return;
	}

	size_t query = w->q0 + i, first = w->window && query + 1 > w->window ? query + 1 - w->window : 0;

	*lo = first > w->k0 ? first - w->k0 : 0;
	*hi = query < w->k0 ? 0 : query + 1 - w->k0;
	if (*hi > w->nk)
		*hi = w->nk;
}

DF_INLINE float
row_sum(const float *x, size_t n)
{
	df_v8 s = { 0 };
	float tail = 0;
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		s += *(const df_v8 *)(x + i);
	for (; i < n; i++)
		tail += x[i];
	return df_v8_sum(&s) + tail;
}

/* Scores to unnormalised probabilities; m and l of the rows brought up to date, and o shrunk to the new m. */
DF_SIMD static void
softmax_block(const struct window *w, float *s, float *m, float *l, float *o, size_t ldo, size_t e)
{
	for (size_t i = 0; i < w->nq; i++, s += BK, o += ldo) {
		size_t lo, hi;
		float max, shrink;

		visible(w, i, &lo, &hi);
		if (lo >= hi) {
			memset(s, 0, w->nk * sizeof(float));
			continue;
		}
		max = df_row_max(s + lo, hi - lo);
		max = m[i] > max ? m[i] : max;
		shrink = m[i] == -INFINITY ? 0.0f : df_expf(m[i] - max);
		memset(s, 0, lo * sizeof(float));
		memset(s + hi, 0, (w->nk - hi) * sizeof(float));
		for (size_t j = lo; j < hi; j++)
			s[j] = df_expf(s[j] - max);
		l[i] = l[i] * shrink + row_sum(s + lo, hi - lo);
		m[i] = max;
		for (size_t c = 0; c < e && shrink != 1.0f; c++)
			o[c] *= shrink;
	}
}

/* The sums over all keys become averages. */
DF_SIMD static void
divide_rows(float *o, size_t ldo, const float *l, size_t n, size_t e)
{
	for (size_t i = 0; i < n; i++, o += ldo) {
		const float sum = l[i];

		for (size_t c = 0; c < e; c++)
			o[c] /= sum;
	}
}

/* ---- forward ---------------------------------------------------------------------------------------------------- */

struct task {
	size_t sample, q0;
};
struct fwd {
	const struct df_attn *a;
	df_cpu_multiply_fn *multiply;
	const struct task *tasks;
	size_t n_blocks;
};

static void
forward(void *ctx, size_t index, int worker)
{
	const struct fwd *f = ctx;
	const struct df_attn *a = f->a;
	df_cpu_multiply_fn *const multiply = f->multiply;
	const struct task *task = &f->tasks[index % f->n_blocks];
	const size_t h = index / f->n_blocks, e = a->q.cols / a->n_heads, kh = h / (a->n_heads / a->n_kv_heads);
	const uint32_t *offsets = df_tensor_u32(a->offsets);
	const size_t t0 = offsets[task->sample], len = offsets[task->sample + 1] - t0;
	struct window w = { .q0 = task->q0,
		.nq = len - task->q0 < BQ ? len - task->q0 : BQ,
		.window = a->window,
		.all = a->bidirectional };
	const size_t end = w.all ? len : w.q0 + w.nq;
	_Alignas(64) float s[BQ * BK];
	float m[BQ], l[BQ], *o = AT(a->o, t0 + w.q0, h * e);
	bool first = true;

	(void)worker;
	for (size_t i = 0; i < w.nq; i++) {
		m[i] = -INFINITY;
		l[i] = 0;
	}
	for (w.k0 = w.all ? 0 : first_key(w.q0, w.window); w.k0 < end; w.k0 += BK) {
		w.nk = end - w.k0 < BK ? end - w.k0 : BK;
		multiply(false, true, w.nq, w.nk, e, a->scale, AT(a->q, t0 + w.q0, h * e), a->q.ld,
		    F32(AT(a->k, t0 + w.k0, kh * e), a->k.ld), 0, s, BK);
		softmax_block(&w, s, m, l, o, a->o.ld, first ? 0 : e);
		multiply(false, false, w.nq, e, w.nk, 1, s, BK, F32(AT(a->v, t0 + w.k0, kh * e), a->v.ld),
		    first ? 0 : 1, o, a->o.ld);
		first = false;
	}
	divide_rows(o, a->o.ld, l, w.nq, e);
	for (size_t i = 0; i < w.nq; i++)
		*AT(a->lse, t0 + w.q0 + i, h) = m[i] + logf(l[i]);
}

int
df_cpu_attn_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_attn *a = args;
	const uint32_t *offsets = df_tensor_u32(a->offsets);
	const size_t n_samples = a->offsets.cols - 1;
	struct fwd f = { .a = a, .multiply = df_cpu_product_of(be)->multiply };
	struct task *tasks = NULL;
	int rc;

	for (size_t s = 0; s < n_samples; s++)
		f.n_blocks += (offsets[s + 1] - offsets[s] + BQ - 1) / BQ;
	DF_TRY(df_alloc(&tasks, f.n_blocks, sizeof(*tasks), "attention tasks", err));
	f.tasks = tasks;
	for (size_t s = 0, n = 0; s < n_samples; s++)
		for (size_t q0 = 0; q0 < offsets[s + 1] - offsets[s]; q0 += BQ)
			tasks[n++] = (struct task){ s, q0 };
	df_pool_for(be->pool, f.n_blocks * a->n_heads, forward, &f);
out:
	free(tasks);
	return rc;
}

/* ---- decoding --------------------------------------------------------------------------------------------------- */

/* Queries in a row: consecutive tokens of one sequence, which see all of their past, or a single token. */
struct stretch {
	size_t row, n;
};
struct decode {
	const struct df_attn_decode *a;
	df_cpu_multiply_fn *multiply;
	const struct stretch *stretches;
};

/* The rows of a block, which share key/value head kh, see keys up to n; rows of q and o lie ld_q and ld_o apart. */
static void
decode_block(const struct decode *d, struct window w, size_t t0, size_t n, size_t kh, const float *q, size_t ld_q,
    float *o, size_t ld_o)
{
	const struct df_attn_decode *a = d->a;
	df_cpu_multiply_fn *const multiply = d->multiply;
	const size_t e = a->q.cols / a->n_heads;
	_Alignas(64) float s[BQ * BK];
	float m[BQ], l[BQ];

	for (size_t i = 0; i < w.nq; i++) {
		m[i] = -INFINITY;
		l[i] = 0;
	}
	for (bool first = true; w.k0 < n; w.k0 += BK, first = false) {
		w.nk = n - w.k0 < BK ? n - w.k0 : BK;
		multiply(
		    false, true, w.nq, w.nk, e, a->scale, q, ld_q, F32(AT(a->k, t0 + w.k0, kh * e), a->k.ld), 0, s, BK);
		softmax_block(&w, s, m, l, o, ld_o, first ? 0 : e);
		multiply(false, false, w.nq, e, w.nk, 1, s, BK, F32(AT(a->v, t0 + w.k0, kh * e), a->v.ld),
		    first ? 0 : 1, o, ld_o);
	}
	divide_rows(o, ld_o, l, w.nq, e);
}

static void
decode(void *ctx, size_t index, int worker)
{
	const struct decode *d = ctx;
	const struct df_attn_decode *a = d->a;
	const struct stretch *x = &d->stretches[index / a->n_kv_heads];
	const size_t group = a->n_heads / a->n_kv_heads, kh = index % a->n_kv_heads, e = a->q.cols / a->n_heads;
	const size_t n = df_tensor_u32(a->n)[x->row], t0 = df_tensor_u32(a->first)[x->row];
	struct window w = { .nq = x->n, .q0 = n - 1 };

	(void)worker;
	for (size_t h = kh * group; h < (kh + 1) * group && x->n > 1; h++)
		decode_block(
		    d, w, t0, n + x->n - 1, kh, AT(a->q, x->row, h * e), a->q.ld, AT(a->o, x->row, h * e), a->o.ld);
	w = (struct window){ .k0 = a->window && n > a->window ? n - a->window : 0, .all = true };
	for (size_t i = 0; i < group && x->n == 1; i += BQ) {
		const size_t h = (kh * group + i) * e;

		w.nq = group - i < BQ ? group - i : BQ;
		decode_block(d, w, t0, n, kh, AT(a->q, x->row, h), e, AT(a->o, x->row, h), e);
	}
}

/* How many rows, from `row` on, make a block. */
static size_t
stretch_at(const struct df_attn_decode *a, size_t row)
{
	const uint32_t *first = df_tensor_u32(a->first) + row, *n = df_tensor_u32(a->n) + row;
	size_t len = 1;

	while (*n > 0 && len < BQ && row + len < a->q.rows && first[len] == *first && n[len] == *n + len &&
	    !(a->window && *n + len > a->window))
		len++;
	return len;
}

int
df_cpu_attn_decode(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_attn_decode *a = args;
	struct stretch *stretches = NULL;
	size_t n = 0;
	int rc;

	DF_TRY(df_alloc(&stretches, a->q.rows, sizeof(*stretches), "attention tasks", err));
	for (size_t row = 0; row < a->q.rows; row += stretches[n++].n)
		stretches[n] = (struct stretch){ row, stretch_at(a, row) };
	df_pool_for(
	    be->pool, n * a->n_kv_heads, decode, &(struct decode){ a, df_cpu_product_of(be)->multiply, stretches });
out:
	free(stretches);
	return rc;
}

/* ---- backward --------------------------------------------------------------------------------------------------- */

/* p = exp(s - lse) where visible, else 0. */
DF_SIMD static void
probabilities(const struct window *w, float *p, const float *lse, size_t ld_lse)
{
	for (size_t i = 0; i < w->nq; i++, p += BK) {
		size_t lo, hi;
		float x = lse[i * ld_lse];

		visible(w, i, &lo, &hi);
		if (lo > hi)
			lo = hi = 0;
		memset(p, 0, lo * sizeof(float));
		memset(p + hi, 0, (w->nk - hi) * sizeof(float));
		for (size_t j = lo; j < hi; j++)
			p[j] = df_expf(p[j] - x);
	}
}

/* ds = scale p (dp - delta), in the place of dp. */
DF_SIMD static void
score_gradient(const struct window *w, float *dp, const float *p, const float *delta, float scale)
{
	for (size_t i = 0; i < w->nq; i++, p += BK, dp += BK)
		for (size_t j = 0; j < w->nk; j++)
			dp[j] = scale * p[j] * (dp[j] - delta[i]);
}

/* delta_i = do_i . o_i */
DF_SIMD static void
row_dots(float *delta, const float *d_o, size_t ld_do, const float *o, size_t ldo, size_t n, size_t e)
{
	for (size_t i = 0; i < n; i++, d_o += ld_do, o += ldo) {
		df_v8 s = { 0 };
		float tail = 0;
		size_t c = 0;

		for (; c + 8 <= e; c += 8)
			s += *(const df_v8 *)(d_o + c) * *(const df_v8 *)(o + c);
		for (; c < e; c++)
			tail += d_o[c] * o[c];
		delta[i] = df_v8_sum(&s) + tail;
	}
}

struct bwd {
	const struct df_attn_bwd *b;
	df_cpu_multiply_fn *multiply;
};

/* All of one query head's part of dq, dk and dv in a sample of `len` tokens from t0 on. */
static void
backward_head(const struct bwd *ctx, size_t t0, size_t len, size_t h, size_t kh)
{
	const struct df_attn_bwd *b = ctx->b;
	const struct df_attn *a = &b->fwd;
	df_cpu_multiply_fn *const multiply = ctx->multiply;
	const size_t e = a->q.cols / a->n_heads, hc = h * e, kc = kh * e;
	_Alignas(64) float p[BQ * BK], dp[BQ * BK];
	float delta[BQ];

	for (size_t q0 = 0; q0 < len; q0 += BQ) {
		struct window w = { .q0 = q0, .nq = len - q0 < BQ ? len - q0 : BQ, .window = a->window };
		const float *q = AT(a->q, t0 + q0, hc), *d_o = AT(b->d_o, t0 + q0, hc);
		float beta = 0;

		row_dots(delta, d_o, b->d_o.ld, AT(a->o, t0 + q0, hc), a->o.ld, w.nq, e);
		for (w.k0 = first_key(q0, w.window); w.k0 < q0 + w.nq; w.k0 += BK, beta = 1) {
			const size_t row = t0 + w.k0;

			w.nk = q0 + w.nq - w.k0 < BK ? q0 + w.nq - w.k0 : BK;
			multiply(false, true, w.nq, w.nk, e, a->scale, q, a->q.ld, F32(AT(a->k, row, kc), a->k.ld), 0,
			    p, BK);
			probabilities(&w, p, AT(a->lse, t0 + q0, h), a->lse.ld);
			multiply(
			    true, false, w.nk, e, w.nq, 1, p, BK, F32(d_o, b->d_o.ld), 1, AT(b->dv, row, kc), b->dv.ld);
			multiply(
			    false, true, w.nq, w.nk, e, 1, d_o, b->d_o.ld, F32(AT(a->v, row, kc), a->v.ld), 0, dp, BK);
			score_gradient(&w, dp, p, delta, a->scale);
			multiply(
			    true, false, w.nk, e, w.nq, 1, dp, BK, F32(q, a->q.ld), 1, AT(b->dk, row, kc), b->dk.ld);
			multiply(false, false, w.nq, e, w.nk, 1, dp, BK, F32(AT(a->k, row, kc), a->k.ld), beta,
			    AT(b->dq, t0 + q0, hc), b->dq.ld);
		}
	}
}

static void
backward(void *ctx, size_t index, int worker)
{
	const struct bwd *x = ctx;
	const struct df_attn_bwd *b = x->b;
	const struct df_attn *a = &b->fwd;
	const size_t s = index / a->n_kv_heads, kh = index % a->n_kv_heads, group = a->n_heads / a->n_kv_heads;
	const size_t e = a->q.cols / a->n_heads, t0 = df_tensor_u32(a->offsets)[s];
	const size_t len = df_tensor_u32(a->offsets)[s + 1] - t0;

	(void)worker;
	for (size_t t = 0; t < len; t++) {
		memset(AT(b->dk, t0 + t, kh * e), 0, e * sizeof(float));
		memset(AT(b->dv, t0 + t, kh * e), 0, e * sizeof(float));
	}
	for (size_t h = kh * group; h < (kh + 1) * group; h++)
		backward_head(x, t0, len, h, kh);
}

int
df_cpu_attn_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_attn_bwd *b = args;
	struct bwd x = { b, df_cpu_product_of(be)->multiply };

	(void)err;
	df_pool_for(be->pool, (b->fwd.offsets.cols - 1) * b->fwd.n_kv_heads, backward, &x);
	return DF_OK;
}
