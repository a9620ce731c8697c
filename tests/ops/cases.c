/*
 * cases.c - see cases.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/rng.h"
#include "cases.h"

enum { PAD_ROWS = 1, PAD_COLS = 3, PAD_ALIGNED = 8 };
static const float outside = -1232; /* what surrounds a window, and must still be there afterwards */

struct df_backend *
test_backend(const char *device, struct df_pool *pool)
{
	struct df_backend *be = NULL;
	const char *env = getenv("DF_TEST_DEVICE");

	OK(df_backend_open(&be, device ? device : env ? env : "cpu", pool, err));
	return be;
}

float *
test_numbers(uint32_t stream, size_t n, float scale)
{
	float *v = malloc((n + 1) * sizeof(*v));

	assert_non_null(v);
	for (size_t i = 0; i < n; i++)
		v[i] = scale * (float)(2 * df_rng_uniform(7, DF_RNG_DEMO, stream, i) - 1);
	return v;
}

struct df_tensor
test_tensor(struct df_backend *be, size_t rows, size_t cols, const float *v)
{
	struct df_tensor t;

	OK(df_tensor_alloc(be, &t, DF_F32, rows, cols, "test", err));
	if (v)
		OK(df_upload(be, t, v, err));
	return t;
}

struct df_tensor
test_row(struct df_backend *be, enum df_dtype type, size_t n, const void *v)
{
	struct df_tensor t;

	OK(df_tensor_alloc(be, &t, type, 1, n + PAD_COLS, "test", err));
	t = df_tensor_cols(t, PAD_COLS, n);
	if (v)
		OK(df_upload(be, t, v, err));
	return t;
}

struct df_tensor
test_u32(struct df_backend *be, size_t rows, size_t cols, const uint32_t *v)
{
	struct df_tensor t;

	OK(df_tensor_alloc(be, &t, DF_U32, rows, cols, "test", err));
	if (v)
		OK(df_upload(be, t, v, err));
	return t;
}

struct df_tensor
test_indices(struct df_backend *be, const uint32_t *v, size_t n)
{
	return test_row(be, DF_U32, n, v);
}

float *
test_values(struct df_backend *be, struct df_tensor t)
{
	const size_t n = df_tensor_numel(t);
	float *v = malloc((n + 1) * sizeof(*v));
	uint16_t *half = malloc((n + 1) * sizeof(*half));

	assert_true(v && half);
	OK(df_download(be, t.type == DF_BF16 ? (void *)half : v, t, err));
	for (size_t i = 0; i < n && t.type == DF_BF16; i++)
		v[i] = df_f32_from_bf16(half[i]);
	free(half);
	return v;
}

/* ---- inputs and outputs of a case ------------------------------------------------------------------------------- */

/* Columns beside a window. */
static size_t
pad_of(const struct op_run *r)
{
	return r->aligned ? PAD_ALIGNED : PAD_COLS;
}

/* A window of rows x cols in a larger tensor; the parent is found again from the window. */
static struct df_tensor
window_of(struct op_run *r, enum df_dtype type, size_t rows, size_t cols)
{
	struct df_tensor t;

	OK(df_tensor_alloc(r->be, &t, type, rows + 2 * PAD_ROWS, cols + 2 * pad_of(r), "test", err));
	OK(df_fill(r->be, t, outside, err));
	return df_tensor_cols(df_tensor_rows(t, PAD_ROWS, rows), pad_of(r), cols);
}

static struct df_tensor
window(struct op_run *r, size_t rows, size_t cols)
{
	return window_of(r, DF_F32, rows, cols);
}

/* Of activations. */
static struct df_tensor
act_window(struct op_run *r, size_t rows, size_t cols)
{
	return window_of(r, r->mode == OP_BF16 ? DF_BF16 : DF_F32, rows, cols);
}

static struct df_tensor
input_of(struct op_run *r, size_t rows, size_t cols, const float *v)
{
	struct df_tensor t = window(r, rows, cols);

	OK(df_upload(r->be, t, v, err));
	return t;
}

/* Numbers in [-scale, scale), or in [0, -scale) for a negative scale. */
static float *
input_numbers(struct op_run *r, size_t n, float scale)
{
	float *v = test_numbers(r->n_made++, n, fabsf(scale));

	for (size_t i = 0; i < n && scale < 0; i++)
		v[i] = fabsf(v[i]);
	return v;
}

/* A window of such numbers. */
static struct df_tensor
input(struct op_run *r, size_t rows, size_t cols, float scale)
{
	float *v = input_numbers(r, rows * cols, scale);
	struct df_tensor t = input_of(r, rows, cols, v);

	free(v);
	return t;
}

static struct df_tensor
act_input(struct op_run *r, size_t rows, size_t cols, float scale)
{
	struct df_tensor t = act_window(r, rows, cols);
	const size_t n = rows * cols;
	float *v = input_numbers(r, n, scale);
	uint16_t *half = malloc((n + 1) * sizeof(*half));

	assert_non_null(half);
	for (size_t i = 0; i < n && r->mode != OP_F32; i++) {
		half[i] = df_bf16_from_f32(v[i]);
		v[i] = df_f32_from_bf16(half[i]);
	}
	OK(df_upload(r->be, t, t.type == DF_BF16 ? (const void *)half : v, err));
	free(half);
	free(v);
	return t;
}

static struct df_tensor
ids(struct op_run *r, size_t n, size_t limit)
{
	uint32_t *v = malloc((n + 1) * sizeof(*v));
	struct df_tensor t;

	assert_non_null(v);
	for (size_t i = 0; i < n; i++)
		v[i] = (uint32_t)(df_rng_uniform(7, DF_RNG_DEMO, r->n_made, i) * (double)limit);
	r->n_made++;
	t = test_indices(r->be, v, n);
	free(v);
	return t;
}

/* The same on the host. */
static uint32_t *
host_ids(struct op_run *r, size_t n, size_t limit)
{
	struct df_tensor t = ids(r, n, limit);
	uint32_t *v = malloc((n + 1) * sizeof(*v));

	assert_non_null(v);
	OK(df_download(r->be, v, t, err));
	df_tensor_free(r->be, &t);
	return v;
}

static void
keep(struct op_run *r, const char *name, const float *v, size_t n)
{
	struct result *out = &r->res->out[r->res->n++];

	assert_true(r->res->n <= RESULT_MAX);
	*out = (struct result){ name, n, malloc((n + 1) * sizeof(double)) };
	assert_non_null(out->v);
	for (size_t i = 0; i < n; i++)
		out->v[i] = v[i];
}

/* Free a window; keep its values under `name` unless NULL; nothing around it may have changed. */
static void
done(struct op_run *r, const char *name, struct df_tensor t)
{
	const size_t pad = pad_of(r);
	size_t rows = t.rows + 2 * PAD_ROWS, cols = t.cols + 2 * pad;
	struct df_tensor all = { t.mem, 0, rows, cols, cols, t.type };
	float *v = test_values(r->be, t), *around = test_values(r->be, all);

	if (name)
		keep(r, name, v, df_tensor_numel(t));
	for (size_t i = 0; i < rows; i++)
		for (size_t j = 0; j < cols; j++)
			if (i < PAD_ROWS || i >= PAD_ROWS + t.rows || j < pad || j >= pad + t.cols)
				if (around[i * cols + j] != outside)
					fail_msg("%s: %s: wrote outside its window, at row %zd column %zd", r->c->name,
					    name ? name : "an input", (ssize_t)i - PAD_ROWS, (ssize_t)j - (ssize_t)pad);
	free(v);
	free(around);
	df_tensor_free(r->be, &t);
}

/* A dense 16-bit tensor of numbers in [-scale, scale), rounded. */
static struct df_tensor
half_input(struct op_run *r, enum df_dtype type, size_t rows, size_t cols, float scale)
{
	float *v = test_numbers(r->n_made++, rows * cols, scale);
	struct df_tensor wide = test_tensor(r->be, rows, cols, v), t;

	OK(df_tensor_alloc(r->be, &t, type, rows, cols, "test", err));
	OK(df_copy(r->be, t, wide, err));
	df_tensor_free(r->be, &wide);
	free(v);
	return t;
}

/* The same, widened. */
static struct df_tensor
widened(struct op_run *r, struct df_tensor half)
{
	struct df_tensor t;

	OK(df_tensor_alloc(r->be, &t, DF_F32, half.rows, half.cols, "test", err));
	OK(df_copy(r->be, t, half, err));
	return t;
}

/* The same bits in both, here and now.  The reference keeps it, too. */
static void
same_bits(struct op_run *r, struct df_tensor x, struct df_tensor y, const char *what)
{
	float *a = test_values(r->be, x), *b = test_values(r->be, y);

	if (memcmp(a, b, df_tensor_numel(x) * sizeof(float)) != 0)
		fail_msg("%s: not the bits of %s", r->c->name, what);
	free(a);
	free(b);
}

/* What is promised of weights at rest. */
static void
same_as_widened(struct op_run *r, struct df_tensor x, struct df_tensor y)
{
	same_bits(r, x, y, "the widened operand's");
}

/* ---- the operations --------------------------------------------------------------------------------------------- */

static void
run_gemm(struct op_run *r, const size_t *s) /* M N K ta tb, beta in tenths */
{
	struct df_gemm g = { .ta = s[3], .tb = s[4], .alpha = 0.75f, .beta = (float)s[5] / 10 };

	g.a = g.ta ? act_input(r, s[2], s[0], 1) : act_input(r, s[0], s[2], 1);
	g.b = g.tb ? act_input(r, s[1], s[2], 1) : act_input(r, s[2], s[1], 1);
	g.c = g.ta ? input(r, s[0], s[1], 1) : act_input(r, s[0], s[1], 1); /* a^T: the gradient of a matrix */
	OK(df_gemm(r->be, &g, err));
	done(r, "c", g.c);
	done(r, NULL, g.a);
	done(r, NULL, g.b);
}

static void
run_gemm_half(struct op_run *r, const size_t *s) /* M N K ta tb, f16 */
{
	const enum df_dtype type = s[5] ? DF_F16 : DF_BF16;
	struct df_gemm g = { .ta = s[3], .tb = s[4], .alpha = 0.75f, .beta = 0.5f };
	struct df_tensor half, wide, same;

	g.a = g.ta ? input(r, s[2], s[0], 1) : input(r, s[0], s[2], 1);
	half = g.tb ? half_input(r, type, s[1] + 2, s[2] + 5, 1) : half_input(r, type, s[2] + 2, s[1] + 5, 1);
	wide = widened(r, half);
	g.c = input(r, s[0], s[1], 1);
	same = test_tensor(r->be, s[0], s[1], NULL);
	OK(df_copy(r->be, same, g.c, err));
	g.b = df_tensor_cols(df_tensor_rows(half, 1, half.rows - 2), 3, half.cols - 5);
	OK(df_gemm(r->be, &g, err));
	{
		struct df_gemm f = g;

		f.b = df_tensor_cols(df_tensor_rows(wide, 1, half.rows - 2), 3, half.cols - 5);
		f.c = same;
		OK(df_gemm(r->be, &f, err));
	}
	same_as_widened(r, g.c, same);
	done(r, "c", g.c);
	done(r, NULL, g.a);
	df_tensor_free(r->be, &half);
	df_tensor_free(r->be, &wide);
	df_tensor_free(r->be, &same);
}

static void
run_elementwise(struct op_run *r, const size_t *s) /* rows cols */
{
	struct df_tensor x = act_input(r, s[0], s[1], 2), y = act_input(r, s[0], s[1], 1), bias = input(r, 1, s[1], 1);
	struct df_tensor g = window(r, s[0], s[1]), z = input(r, s[0], s[1], 2);
	struct df_tensor sumsq = test_row(r->be, DF_F64, 1, NULL);
	double sum;
	float f;

	OK(df_axpy(r->be, -0.3f, x, y, err));
	OK(df_bias_add(r->be, y, bias, err));
	OK(df_scale(r->be, 1.7f, y, err));
	OK(df_copy(r->be, g, y, err));
	OK(df_sumsq(r->be, g, sumsq, err));
	OK(df_download(r->be, &sum, sumsq, err));
	f = (float)sum;
	keep(r, "sumsq", &f, 1);
	OK(df_sign(r->be, z, err));
	OK(df_colsum(r->be, y, bias, true, err));
	done(r, "sign", z);
	done(r, NULL, g);
	done(r, "y", y);
	done(r, NULL, x);
	done(r, "colsum", bias);
	df_tensor_free(r->be, &sumsq);
}

static void
run_copy(struct op_run *r, const size_t *s) /* rows cols */
{
	struct df_tensor x = input(r, s[0], s[1], 70000), y = window(r, s[0], s[1]), z = window(r, s[0], s[1]);
	struct df_tensor b, h;

	OK(df_tensor_alloc(r->be, &b, DF_BF16, s[0], s[1], "test", err));
	OK(df_tensor_alloc(r->be, &h, DF_F16, s[0], s[1], "test", err));
	OK(df_copy(r->be, b, x, err));
	OK(df_copy(r->be, y, b, err));
	OK(df_scale(r->be, 1e-3f, x, err));
	OK(df_copy(r->be, h, x, err));
	OK(df_copy(r->be, z, h, err));
	done(r, "bf16", y);
	done(r, "f16", z);
	OK(df_fill(r->be, b, 0.3f, err));
	OK(df_copy(r->be, x, b, err));
	done(r, "fill", x);
	df_tensor_free(r->be, &b);
	df_tensor_free(r->be, &h);
}

static void
run_rows(struct op_run *r, const size_t *s) /* rows, cols, rows of the table */
{
	struct df_tensor table = input(r, s[2], s[1], 1), out = act_window(r, s[0], s[1]);
	struct df_tensor sum = act_input(r, s[2], s[1], 1);
	struct df_tensor row = ids(r, s[0], s[2]);

	OK(df_embed_fwd(r->be, out, table, row, err));
	OK(df_embed_bwd(r->be, table, out, row, err));
	OK(df_scatter_rows(r->be, sum, out, row, err));
	done(r, "out", out);
	done(r, "table", table);
	done(r, "sum", sum);
	df_tensor_free(r->be, &row);
}

static void
run_rows_half(struct op_run *r, const size_t *s) /* rows, cols, rows of the table, f16 */
{
	struct df_tensor table = half_input(r, s[3] ? DF_F16 : DF_BF16, s[2], s[1], 1), wide = widened(r, table);
	struct df_tensor out = act_window(r, s[0], s[1]), same = act_window(r, s[0], s[1]);
	struct df_tensor row = ids(r, s[0], s[2]);

	OK(df_embed_fwd(r->be, out, table, row, err));
	OK(df_gather_rows(r->be, same, wide, row, err));
	same_as_widened(r, out, same);
	done(r, "out", out);
	df_tensor_free(r->be, &table);
	df_tensor_free(r->be, &wide);
	done(r, NULL, same);
	df_tensor_free(r->be, &row);
}

/* Boundaries of n segments of `total` rows, uneven, one of them empty when there are three. */
static struct df_tensor
segments(struct op_run *r, size_t n, size_t total)
{
	uint32_t *o = calloc(n + 1, sizeof(*o));
	struct df_tensor t;

	assert_non_null(o);
	for (size_t i = 1; i < n; i++)
		o[i] = i == 2 ? o[1] : (uint32_t)(total * i * i / (n * n));
	o[n] = (uint32_t)total;
	t = test_indices(r->be, o, n + 1);
	free(o);
	return t;
}

static void
run_gemm_segments(struct op_run *r, const size_t *s) /* R m n segments */
{
	struct df_tensor offsets = segments(r, s[3], s[0]);
	struct df_gemm_segments g = { 0.75f, act_input(r, s[0], s[1], 1), act_input(r, s[0], s[2], 1),
		window(r, s[3], s[1] * s[2]), offsets };

	OK(df_gemm_segments(r->be, &g, err));
	done(r, "c", g.c);
	done(r, NULL, g.a);
	done(r, NULL, g.b);
	df_tensor_free(r->be, &offsets);
}

static void
run_colsum_segments(struct op_run *r, const size_t *s) /* R C segments */
{
	struct df_tensor offsets = segments(r, s[2], s[0]);
	struct df_tensor x = act_input(r, s[0], s[1], 1), out = window(r, s[2], s[1]);

	OK(df_colsum_segments(r->be, x, offsets, out, err));
	done(r, "out", out);
	done(r, NULL, x);
	df_tensor_free(r->be, &offsets);
}

static void
run_rmsnorm(struct op_run *r, const size_t *s) /* T D segments accumulate */
{
	struct df_tensor offsets = segments(r, s[2], s[0]);
	struct df_rmsnorm a = { 1e-5f, act_input(r, s[0], s[1], 1), input(r, 1, s[1], 1), act_window(r, s[0], s[1]),
		window(r, s[0], 1), 0 };
	struct df_rmsnorm_bwd b = { a.x, a.w, a.rstd, act_input(r, s[0], s[1], 1), act_input(r, s[0], s[1], 1),
		input(r, s[2], s[1], 1), offsets, s[3], 0, false };

	OK(df_rmsnorm_fwd(r->be, &a, err));
	OK(df_rmsnorm_bwd(r->be, &b, err));
	done(r, "y", a.y);
	done(r, "rstd", a.rstd);
	done(r, "dx", b.dx);
	done(r, "dw", b.dw);
	done(r, NULL, a.x);
	done(r, NULL, a.w);
	done(r, NULL, b.dy);
	df_tensor_free(r->be, &offsets);
}

/* As of q or k within the product of all three: columns of a wider matrix. */
static void
run_rmsnorm_heads(struct op_run *r, const size_t *s) /* T E heads segments, accumulate, in place */
{
	const size_t E = s[1], HE = s[2] * E;
	struct df_tensor offsets = segments(r, s[3], s[0]);
	struct df_tensor wide = act_input(r, s[0], HE + 2 * E, 1), grads = act_input(r, s[0], HE + 2 * E, 1);
	struct df_rmsnorm a = { 1e-6f, df_tensor_cols(wide, E, HE), input(r, 1, E, 1), act_window(r, s[0], HE),
		window(r, s[0], s[2]), s[2] };
	struct df_tensor dy = df_tensor_cols(grads, E, HE);
	struct df_rmsnorm_bwd b = { a.x, a.w, a.rstd, dy, s[5] ? dy : act_window(r, s[0], HE), input(r, s[3], E, 1),
		offsets, s[4], s[2], true };

	OK(df_rmsnorm_fwd(r->be, &a, err));
	OK(df_rmsnorm_bwd(r->be, &b, err));
	done(r, "y", a.y);
	done(r, "rstd", a.rstd);
	if (!s[5])
		done(r, "dx", b.dx);
	done(r, "dw", b.dw);
	done(r, "grads", grads); /* in place: dx, and the columns beside it as they were */
	done(r, NULL, wide);
	done(r, NULL, a.w);
	df_tensor_free(r->be, &offsets);
}

static void
run_layernorm(struct op_run *r, const size_t *s) /* T D, in place */
{
	struct df_layernorm a = { 1e-12f, act_input(r, s[0], s[1], 3), input(r, 1, s[1], 1), input(r, 1, s[1], 1),
		DF_TENSOR_NONE };

	OK(df_bias_add(r->be, a.x, a.b, err));
	a.y = s[2] ? a.x : act_window(r, s[0], s[1]);
	OK(df_layernorm_fwd(r->be, &a, err));
	done(r, "y", a.y);
	if (!s[2])
		done(r, NULL, a.x);
	done(r, NULL, a.w);
	done(r, NULL, a.b);
}

static void
run_gelu(struct op_run *r, const size_t *s) /* T F, in place */
{
	struct df_tensor x = act_input(r, s[0], s[1], 6), y = s[2] ? x : act_window(r, s[0], s[1]);

	OK(df_gelu_fwd(r->be, y, x, err));
	done(r, "y", y);
	if (!s[2])
		done(r, NULL, x);
}

static void
run_rope(struct op_run *r, const size_t *s) /* T heads E inverse */
{
	struct df_tensor pos = ids(r, s[0], 40);
	struct df_rope a = { act_input(r, s[0], s[1] * s[2], 1), input(r, 40, s[2] / 2, 1), input(r, 40, s[2] / 2, 1),
		pos, s[1], s[3] };

	OK(df_rope(r->be, &a, err));
	done(r, "x", a.x);
	done(r, NULL, a.cos);
	done(r, NULL, a.sin);
	df_tensor_free(r->be, &pos);
}

static void
run_attn(struct op_run *r, const size_t *s) /* T samples H K E window */
{
	const size_t T = s[0], HE = s[2] * s[4], KE = s[3] * s[4];
	struct df_tensor offsets = segments(r, s[1], T);
	struct df_attn a = { act_input(r, T, HE, 2), act_input(r, T, KE, 2), act_input(r, T, KE, 1),
		act_window(r, T, HE), window(r, T, s[2]), offsets, s[2], s[3], s[5], 1.0f / sqrtf((float)s[4]), false };
	struct df_attn_bwd b = { a, act_input(r, T, HE, 1), act_window(r, T, HE), act_window(r, T, KE),
		act_window(r, T, KE) };

	OK(df_attn_fwd(r->be, &a, err));
	OK(df_attn_bwd(r->be, &b, err));
	done(r, "o", a.o);
	done(r, "lse", a.lse);
	done(r, "dq", b.dq);
	done(r, "dk", b.dk);
	done(r, "dv", b.dv);
	done(r, NULL, a.q);
	done(r, NULL, a.k);
	done(r, NULL, a.v);
	done(r, NULL, b.d_o);
	df_tensor_free(r->be, &offsets);
}

static void
run_attn_aligned(struct op_run *r, const size_t *s)
{
	r->aligned = true;
	run_attn(r, s);
}

static void
run_attn_both(struct op_run *r, const size_t *s) /* T samples H K E */
{
	const size_t T = s[0], HE = s[2] * s[4], KE = s[3] * s[4];
	struct df_tensor offsets = segments(r, s[1], T);
	struct df_attn a = { act_input(r, T, HE, 2), act_input(r, T, KE, 2), act_input(r, T, KE, 1),
		act_window(r, T, HE), window(r, T, s[2]), offsets, s[2], s[3], 0, 1.0f / sqrtf((float)s[4]), true };

	OK(df_attn_fwd(r->be, &a, err));
	done(r, "o", a.o);
	done(r, "lse", a.lse);
	done(r, NULL, a.q);
	done(r, NULL, a.k);
	done(r, NULL, a.v);
	df_tensor_free(r->be, &offsets);
}

static void
run_attn_both_aligned(struct op_run *r, const size_t *s)
{
	r->aligned = true;
	run_attn_both(r, s);
}

static void
run_decode(struct op_run *r, const size_t *s) /* S rows H K E window */
{
	const size_t S = s[0], HE = s[2] * s[4], KE = s[3] * s[4];
	uint32_t *first = host_ids(r, S, s[1]), *n = calloc(S + 1, sizeof(*n));
	struct df_attn_decode a = { .q = act_input(r, S, HE, 2),
		.o = act_window(r, S, HE),
		.k = act_input(r, s[1], KE, 2),
		.v = act_input(r, s[1], KE, 1),
		.n_heads = s[2],
		.n_kv_heads = s[3],
		.window = s[5],
		.scale = 1.0f / sqrtf((float)s[4]) };

	assert_non_null(n);
	first[0] = 0; /* the first has all rows, the others begin anywhere */
	for (size_t i = 0; i < S; i++)
		n[i] = (uint32_t)(i % 2 ? (s[1] - first[i] + 1) / 2 : s[1] - first[i]);
	a.first = test_indices(r->be, first, S);
	a.n = test_indices(r->be, n, S);
	OK(df_attn_decode(r->be, &a, err));
	done(r, "o", a.o);
	done(r, NULL, a.q);
	done(r, NULL, a.k);
	done(r, NULL, a.v);
	df_tensor_free(r->be, &a.first);
	df_tensor_free(r->be, &a.n);
	free(first);
	free(n);
}

static void
run_decode_aligned(struct op_run *r, const size_t *s)
{
	r->aligned = true;
	run_decode(r, s);
}

static void
run_swiglu(struct op_run *r, const size_t *s) /* T F in-place */
{
	struct df_tensor gate = act_input(r, s[0], s[1], 20), up = act_input(r, s[0], s[1], 1),
			 h = act_window(r, s[0], s[1]);
	struct df_tensor dgate = s[2] ? gate : act_window(r, s[0], s[1]), dup = s[2] ? up : act_window(r, s[0], s[1]);

	OK(df_swiglu_fwd(r->be, h, gate, up, err));
	OK(df_swiglu_bwd(r->be, dgate, dup, h, gate, up, err));
	done(r, "h", h);
	done(r, "dgate", dgate);
	done(r, "dup", dup);
	if (!s[2]) {
		done(r, NULL, gate);
		done(r, NULL, up);
	}
}

/* Free them; keep them under `name` unless NULL. */
static void
done_numbers(struct op_run *r, const char *name, struct df_tensor t)
{
	const size_t n = df_tensor_numel(t);
	uint32_t *v = calloc(n + 1, sizeof(*v));
	float *f = calloc(n + 1, sizeof(*f));

	assert_true(v && f);
	OK(df_download(r->be, v, t, err));
	for (size_t i = 0; i < n; i++)
		f[i] = (float)v[i];
	if (name)
		keep(r, name, f, n);
	free(v);
	free(f);
	df_tensor_free(r->be, &t);
}

static void
run_route(struct op_run *r, const size_t *s) /* T X k normalise in-place */
{
	struct df_tensor expert = test_u32(r->be, s[0], s[2], NULL);
	struct df_tensor logits = input(r, s[0], s[1], 3), p = s[4] ? logits : window(r, s[0], s[1]);
	struct df_tensor weight = window(r, s[0], s[2]), dweight = input(r, s[0], s[2], 1);
	struct df_tensor dlogits = s[4] ? p : window(r, s[0], s[1]);
	struct df_route a = { logits, p, weight, expert, s[3] != 0 };
	struct df_route_bwd b = { p, weight, expert, dweight, dlogits, s[3] != 0 };

	OK(df_route_fwd(r->be, &a, err));
	OK(df_route_bwd(r->be, &b, err));
	done_numbers(r, "expert", expert);
	done(r, "weight", weight);
	done(r, "dlogits", dlogits);
	done(r, NULL, dweight);
	if (!s[4]) {
		done(r, "p", p);
		done(r, NULL, logits);
	}
}

/* k different experts for each row: of all X, or the first k only. */
static uint32_t *
choices(size_t rows, size_t n_experts, size_t k, bool spread)
{
	uint32_t *v = malloc((rows * k + 1) * sizeof(*v));

	assert_non_null(v);
	for (size_t t = 0; t < rows; t++)
		for (size_t i = 0; i < k; i++)
			v[t * k + i] = (uint32_t)((i + (spread ? t * t * 7 : t)) % (spread ? n_experts : k));
	return v;
}

static void
run_plan(struct op_run *r, const size_t *s) /* T X k samples, spread, tokens given */
{
	const size_t R = s[0] * s[2];
	uint32_t *chosen = choices(s[0], s[1], s[2], s[4]);
	struct df_route_plan a = { .n_experts = s[1] };

	a.expert = test_u32(r->be, s[0], s[2], chosen);
	a.offsets = segments(r, s[3], s[0]);
	if (s[5])
		a.token = ids(r, s[0], 1000);
	a.row = test_u32(r->be, 1, R, NULL);
	a.slot = test_u32(r->be, 1, R, NULL);
	a.row_token = test_u32(r->be, 1, R, NULL);
	a.first = test_u32(r->be, 1, s[1] + 1, NULL);
	a.seg = test_u32(r->be, 1, s[1] * (s[3] + 1), NULL);
	OK(df_route_plan(r->be, &a, err));
	done_numbers(r, "row", a.row);
	done_numbers(r, "slot", a.slot);
	done_numbers(r, "token", a.row_token);
	done_numbers(r, "first", a.first);
	done_numbers(r, "seg", a.seg);
	df_tensor_free(r->be, &a.expert);
	df_tensor_free(r->be, &a.offsets);
	df_tensor_free(r->be, &a.token);
	free(chosen);
}

/* Rows of n groups: even, or every third empty and the rest uneven, or all of one group. */
enum { EVEN, UNEVEN, ONE, GROUPS_MAX = 64 };

static struct df_tensor
group_rows(struct op_run *r, size_t n, size_t rows, size_t how)
{
	uint32_t first[GROUPS_MAX + 1] = { 0 };

	for (size_t e = 0; e < n; e++) {
		const size_t end = how == EVEN ? rows * (e + 1) / n : rows * (e + 1) * (e + 1) / (n * n);

		first[e + 1] = how == ONE                      ? (uint32_t)(e >= n / 2 ? rows : 0)
		    : how == UNEVEN && e % 3 == 1 && e + 1 < n ? first[e]
							       : (uint32_t)end;
	}
	return test_u32(r->be, 1, n + 1, first);
}

/* The groups' rows of `got` are those of products one by one, here and now. */
static void
run_groups(struct op_run *r, const size_t *s) /* R K N groups, how, tb, beta in tenths; 1: some b in 16 bits or none */
{
	const size_t n = s[3];
	struct df_tensor b[GROUPS_MAX], same = act_window(r, s[0], s[2]);
	struct df_gemm_groups g = { s[5], 0.75f, (float)s[6] / 10, act_input(r, s[0], s[1], 1),
		act_input(r, s[0], s[2], 1), group_rows(r, n, s[0], s[4]), b, n };
	uint32_t first[GROUPS_MAX + 1];

	OK(df_download(r->be, first, g.first, err));
	OK(df_copy(r->be, same, g.c, err));
	for (size_t e = 0; e < n; e++) {
		const size_t rows = s[5] ? s[2] : s[1], cols = s[5] ? s[1] : s[2];

		if (s[7] && e % 4 == 3)
			b[e] = DF_TENSOR_NONE;
		else if (s[7] && e % 4)
			b[e] = half_input(r, e % 4 == 1 ? DF_BF16 : DF_F16, rows, cols, 1);
		else
			b[e] = act_input(r, rows, cols, 1);
	}
	OK(df_gemm_groups(r->be, &g, err));
	for (size_t e = 0; e < n; e++) {
		const size_t m = first[e + 1] - first[e];

		if (b[e].mem)
			OK(df_gemm(r->be,
			    &(struct df_gemm){ false, g.tb, g.alpha, g.beta, df_tensor_rows(g.a, first[e], m), b[e],
				df_tensor_rows(same, first[e], m) },
			    err));
		if (b[e].type == DF_F32 && b[e].mem)
			done(r, NULL, b[e]);
		else
			df_tensor_free(r->be, &b[e]);
	}
	if (df_backend_is_exact(r->be))
		same_as_widened(r, g.c, same);
	done(r, "c", g.c);
	done(r, NULL, g.a);
	done_numbers(r, NULL, g.first);
	done(r, NULL, same);
}

static void
run_group_sums(struct op_run *r, const size_t *s) /* R M N groups, how, beta in tenths, some not wanted */
{
	const size_t n = s[3];
	struct df_tensor c[GROUPS_MAX], all = input(r, n * s[1], s[2], 1);
	struct df_gemm_group_sums g = { 0.75f, (float)s[5] / 10, act_input(r, s[0], s[1], 1),
		act_input(r, s[0], s[2], 1), group_rows(r, n, s[0], s[4]), c, n };

	for (size_t e = 0; e < n; e++)
		c[e] = s[6] && e % 2 ? DF_TENSOR_NONE : df_tensor_rows(all, e * s[1], s[1]);
	OK(df_gemm_group_sums(r->be, &g, err));
	done(r, "c", all);
	done(r, NULL, g.a);
	done(r, NULL, g.b);
	done_numbers(r, NULL, g.first);
}

static void
run_weigh(struct op_run *r, const size_t *s) /* T D: row scale, row dot, sigmoid and its backward; all in place too */
{
	struct df_tensor x = act_input(r, s[0], s[1], 1), y = act_input(r, s[0], s[1], 9), w = input(r, s[0], 1, 1);
	struct df_tensor scaled = act_window(r, s[0], s[1]), dot = window(r, s[0], 1), dx = act_window(r, s[0], s[1]);

	OK(df_row_scale(r->be, scaled, x, w, err));
	OK(df_row_scale(r->be, x, x, w, err));
	OK(df_row_dot(r->be, dot, scaled, y, err));
	OK(df_sigmoid_fwd(r->be, y, y, err));
	OK(df_sigmoid_bwd(r->be, dx, scaled, y, err));
	OK(df_sigmoid_bwd(r->be, scaled, scaled, y, err));
	done(r, "scaled in place", x);
	done(r, "dot", dot);
	done(r, "sigmoid", y);
	done(r, "dx", dx);
	done(r, "dx in place", scaled);
	done(r, NULL, w);
}

/* The bits of t, from a case's first way to compute it, are those of u, from another. */
static void
same_as(struct op_run *r, const char *name, struct df_tensor t, struct df_tensor u)
{
	float *a = test_values(r->be, t), *b = test_values(r->be, u);

	if (memcmp(a, b, df_tensor_numel(t) * sizeof(*a)) != 0)
		fail_msg("%s: %s has other bits than in one call", r->c->name, name);
	free(a);
	free(b);
}

/* Keep and free a row of f32. */
static void
keep_row(struct op_run *r, const char *name, struct df_tensor t)
{
	float *v = test_values(r->be, t);

	keep(r, name, v, t.cols);
	free(v);
	df_tensor_free(r->be, &t);
}

/* Every second factor is 0: such a target has no gradient. */
static struct df_tensor
factors(struct op_run *r, size_t n, bool zeros)
{
	float *v = test_numbers(99, n, 1);
	struct df_tensor t;

	for (size_t i = 0; i < n && zeros; i += 2)
		v[i] = 0;
	t = test_row(r->be, DF_F32, n, v);
	free(v);
	return t;
}

static void
no_gradient(struct op_run *r, struct df_tensor g)
{
	float *v = test_values(r->be, g);

	for (size_t i = 0; i < g.rows; i += 2)
		for (size_t j = 0; j < g.cols; j++)
			assert_true(v[i * g.cols + j] == 0);
	free(v);
}

static void
run_xent(struct op_run *r, const size_t *s) /* L D V, some scales 0: forward and backward alone, and both at once */
{
	const size_t L = s[0], D = s[1], V = s[2];
	uint32_t *target = host_ids(r, L, V);
	uint8_t *correct = calloc(L + 1, 1);
	float *hit = calloc(L + 1, sizeof(*hit));
	struct df_xent a = {
		.h = act_input(r, L, D, 3), .w = act_input(r, V, D, 1), .target = test_row(r->be, DF_U32, L, target)
	};
	struct df_xent fwd, both;

	assert_true(correct && hit);
	a.scale = factors(r, L, s[3]);
	a.nll = test_row(r->be, DF_F32, L, NULL);
	OK(df_xent_fwd(r->be, &a, err));
	fwd = a;
	fwd.nll = test_row(r->be, DF_F32, L, NULL);
	fwd.lse = a.lse = test_row(r->be, DF_F32, L, NULL);
	fwd.correct = a.correct = test_row(r->be, DF_U8, L, NULL);
	OK(df_xent_fwd(r->be, &fwd, err));
	same_as(r, "nll", a.nll, fwd.nll); /* the loss does not depend on what else is asked for */
	OK(df_download(r->be, correct, a.correct, err));

	both = a;
	both.nll = fwd.nll;
	both.lse = DF_TENSOR_NONE;
	a.dh = act_window(r, L, D);
	both.dh = act_window(r, L, D);
	OK(df_xent_bwd(r->be, &a, err));
	OK(df_xent(r->be, &both, err));
	same_as(r, "nll", a.nll, both.nll);
	same_as(r, "dh", a.dh, both.dh);
	a.dw = input(r, V, D, 1);
	a.dlogits = act_window(r, L, V);
	both.dw = window(r, V, D);
	both.dlogits = act_window(r, L, V);
	OK(df_copy(r->be, both.dw, a.dw, err));
	OK(df_xent_bwd(r->be, &a, err));
	OK(df_xent(r->be, &both, err));
	same_as(r, "dh", a.dh, both.dh);
	same_as(r, "dw", a.dw, both.dw);
	same_as(r, "dlogits", a.dlogits, both.dlogits);
	if (s[3]) {
		no_gradient(r, a.dh);
		no_gradient(r, a.dlogits);
	}

	for (size_t i = 0; i < L; i++)
		hit[i] = correct[i];
	keep(r, "correct", hit, L);
	keep_row(r, "nll", a.nll);
	keep_row(r, "lse", a.lse);
	done(r, "dh", a.dh);
	done(r, "dw", a.dw);
	done(r, "dlogits", a.dlogits);
	done(r, NULL, both.dh);
	done(r, NULL, both.dw);
	done(r, NULL, both.dlogits);
	done(r, NULL, a.h);
	done(r, NULL, a.w);
	df_tensor_free(r->be, &both.nll);
	df_tensor_free(r->be, &a.correct);
	df_tensor_free(r->be, &a.scale);
	df_tensor_free(r->be, &a.target);
	free(target);
	free(hit);
	free(correct);
}

static void
run_xent_half(struct op_run *r, const size_t *s) /* L D V, f16 */
{
	uint32_t *target = host_ids(r, s[0], s[2]);
	struct df_xent a = { .h = act_input(r, s[0], s[1], 3), .target = test_row(r->be, DF_U32, s[0], target) }, b;
	struct df_tensor half = half_input(r, s[3] ? DF_F16 : DF_BF16, s[2], s[1], 1), wide = widened(r, half);

	a.scale = factors(r, s[0], false);
	a.nll = test_row(r->be, DF_F32, s[0], NULL);
	a.dh = act_window(r, s[0], s[1]);
	a.w = half;
	b = a;
	b.nll = test_row(r->be, DF_F32, s[0], NULL);
	b.dh = act_window(r, s[0], s[1]);
	b.w = wide;
	OK(df_xent(r->be, &a, err));
	OK(df_xent(r->be, &b, err));
	same_as_widened(r, a.nll, b.nll);
	same_as_widened(r, a.dh, b.dh);
	keep_row(r, "nll", a.nll);
	done(r, "dh", a.dh);
	done(r, NULL, a.h);
	df_tensor_free(r->be, &half);
	df_tensor_free(r->be, &wide);
	done(r, NULL, b.dh);
	df_tensor_free(r->be, &b.nll);
	df_tensor_free(r->be, &a.scale);
	df_tensor_free(r->be, &a.target);
	free(target);
}

static void
run_dropout(struct op_run *r, const size_t *s) /* rows cols samples, rows are every third token, in place */
{
	uint32_t *key = calloc(2 * s[2] + 1, sizeof(*key)), *token = calloc(s[0] + 1, sizeof(*token)),
		 *first = calloc(s[2] + 1, sizeof(*first));
	struct df_tensor x = act_input(r, s[0], s[1], 1), y = s[4] ? x : act_window(r, s[0], s[1]);
	struct df_tensor rows = segments(r, s[2], s[0]), tokens, keys, is;
	struct df_dropout a = { .x = x, .y = y, .offsets = rows, .substream = 5, .p = 0.3f };

	assert_true(key && token && first);
	OK(df_download(r->be, first, rows, err));
	for (size_t i = 0; i <= s[2]; i++)
		first[i] *= 3;
	for (size_t i = 0; i < 2 * s[2]; i++)
		key[i] = (uint32_t)(i + 1) * 0x9e3779b9u;
	for (size_t i = 0; i < s[0]; i++)
		token[i] = (uint32_t)(3 * i + 1);
	keys = test_indices(r->be, key, 2 * s[2]);
	is = test_indices(r->be, token, s[0]);
	tokens = test_indices(r->be, first, s[2] + 1);
	a.key = df_tensor_view(keys, 0, s[2], 2);
	a.token = s[3] ? is : DF_TENSOR_NONE;
	a.token_offsets = s[3] ? tokens : rows;
	OK(df_dropout(r->be, &a, err));
	done(r, "y", y);
	if (!s[4])
		done(r, NULL, x);
	df_tensor_free(r->be, &rows);
	df_tensor_free(r->be, &tokens);
	df_tensor_free(r->be, &keys);
	df_tensor_free(r->be, &is);
	free(key);
	free(token);
	free(first);
}

static void
run_adamw(struct op_run *r, const size_t *s) /* rows cols step, clipped, not finite */
{
	struct df_tensor scalars = test_row(r->be, DF_F64, 3, NULL), before = test_tensor(r->be, s[0], s[1], NULL);
	struct df_adamw a = { input(r, s[0], s[1], 1), input(r, s[0], s[1], 1), input(r, s[0], s[1], 0.1f),
		input(r, s[0], s[1], -0.1f), DF_TENSOR_NONE, 1e-2, 0.9, 0.999, 1e-8, 0.1, s[2],
		window_of(r, DF_BF16, s[0], s[1]) };
	struct df_tensor rounded = window_of(r, DF_BF16, s[0], s[1]);
	struct df_clip c = { df_tensor_cols(scalars, 2, 1), df_tensor_cols(scalars, 0, 2), s[3] ? 0.5 : 0 };
	double clip[3];

	OK(df_copy(r->be, before, a.w, err));
	OK(df_copy(r->be, a.low, a.w, err));
	if (s[4])
		OK(df_fill(r->be, df_tensor_cols(df_tensor_rows(a.g, 0, 1), s[1] - 1, 1), INFINITY, err));
	OK(df_sumsq(r->be, a.g, c.sumsq, err));
	OK(df_clip(r->be, &c, err));
	a.clip = c.clip;
	OK(df_adamw(r->be, &a, err));
	OK(df_copy(r->be, rounded, a.w, err));
	same_bits(r, a.low, rounded, "the weight, rounded");
	done(r, NULL, a.low);
	done(r, NULL, rounded);
	OK(df_download(r->be, clip, scalars, err));
	assert_true(clip[1] == (s[4] ? 0 : 1) && (s[4] ? clip[0] == 0 : s[3] ? clip[0] < 1 : clip[0] == 1));
	if (s[4])
		same_as(r, "w", a.w, before);
	keep(r, "clip", (float[]){ (float)clip[0], (float)clip[1] }, 2);
	done(r, "w", a.w);
	done(r, "m", a.m);
	done(r, "v", a.v);
	done(r, NULL, a.g);
	df_tensor_free(r->be, &scalars);
	df_tensor_free(r->be, &before);
}

static void
run_adam_form(struct op_run *r, const size_t *s) /* S n inside */
{
	struct df_adam_form a = { input(r, s[0], s[1], 1), input(r, 1, s[1], 0.1f), input(r, 1, s[1], -0.1f), 0.9,
		0.999, 1e-8, s[2] };

	OK(df_adam_form(r->be, &a, err));
	done(r, "g", a.g);
	done(r, NULL, a.m);
	done(r, NULL, a.v);
}

static void
run_project(struct op_run *r, const size_t *s) /* S n k sjlt piece */
{
	struct df_project a = { s[3] ? DF_PROJ_SJLT : DF_PROJ_RADEMACHER, input(r, s[0], s[1], 1),
		input(r, s[0], s[2], 1), 1000, 42, 0, 4, s[4] };

	OK(df_project(r->be, &a, err));
	done(r, "y", a.y);
	done(r, NULL, a.g);
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

/*
 * Tolerances, with u = 2^-24 the rounding of one f32 operation:
 *   copies, signs, masks: none rounds differently, 0
 *   sums of n products: at most n u times the sum of magnitudes; seen about sqrt(n) u: 3e-6 covers n <= 4096
 *   exp: 1.3e-7 relative, and what differences of such make of it: 1e-5
 */
#define EXACT 0.0
#define SUMS  3e-6
#define EXPS  1e-5

/*
 * In bf16, with u = 2^-8 the rounding of one result, relative to the largest one of an output:
 *   one operation stores one rounded result: u, and a little for the f32 before it
 *   a case of several operations in a row has the roundings of those before: as many u as there are
 *   attention's backward reads o, once rounded, in do o, a difference of sums: 4 u
 *   y (1 - y) of a rounded sigmoid: u |dy| where the largest result is |dy| / 4, with that of dy: 6 u
 */
#define ROUND(n) ((n)*0x1.01p-8)
#define F32      0.0 /* no activations: float32 only */

const struct op_case op_cases[] = {
	{ "gemm 1x1x1", run_gemm, { 1, 1, 1, 0, 0, 0 }, SUMS, ROUND(1) },
	{ "gemm k=0", run_gemm, { 5, 7, 0, 0, 0, 5 }, SUMS, ROUND(1) },
	{ "gemm one row", run_gemm, { 1, 65, 33, 0, 1, 0 }, SUMS, ROUND(1) },
	{ "gemm edges", run_gemm, { 13, 37, 29, 0, 0, 5 }, SUMS, ROUND(1) },
	{ "gemm edges, a^T", run_gemm, { 13, 37, 29, 1, 0, 10 }, SUMS, ROUND(1) },
	{ "gemm edges, b^T", run_gemm, { 13, 37, 29, 0, 1, 0 }, SUMS, ROUND(1) },
	{ "gemm edges, a^T b^T", run_gemm, { 13, 37, 29, 1, 1, 5 }, SUMS, ROUND(1) },
	{ "gemm linear layer", run_gemm, { 150, 176, 64, 0, 1, 0 }, SUMS, ROUND(1) },
	{ "gemm many blocks", run_gemm, { 97, 300, 523, 0, 1, 5 }, SUMS, ROUND(1) },
	{ "gemm weight gradient", run_gemm, { 128, 96, 300, 1, 0, 10 }, SUMS, ROUND(1) },
	{ "gemm lora a", run_gemm, { 8, 200, 77, 1, 0, 0 }, SUMS, ROUND(1) },
	{ "gemm lora b", run_gemm, { 200, 8, 77, 1, 0, 0 }, SUMS, ROUND(1) },
	{ "gemm tiles", run_gemm, { 301, 290, 100, 0, 0, 10 }, SUMS, ROUND(1) },
	{ "gemm segments", run_gemm_segments, { 61, 13, 37, 4 }, SUMS, SUMS },
	{ "gemm segments, one row", run_gemm_segments, { 1, 5, 33, 1 }, SUMS, SUMS },
	{ "gemm segments, none", run_gemm_segments, { 0, 5, 7, 2 }, SUMS, SUMS },
	{ "gemm segments, many", run_gemm_segments, { 90, 3, 17, 50 }, SUMS, SUMS },
	{ "gemm segments, wide", run_gemm_segments, { 40, 26, 700, 3 }, SUMS, SUMS },
	{ "gemm segments, long", run_gemm_segments, { 900, 150, 130, 2 }, SUMS, SUMS },
	{ "gemm bf16, one row", run_gemm_half, { 1, 70, 300, 0, 1, 0 }, SUMS, F32 },
	{ "gemm bf16, few rows", run_gemm_half, { 5, 33, 270, 0, 1, 0 }, SUMS, F32 },
	{ "gemm bf16, few rows, b", run_gemm_half, { 7, 90, 290, 0, 0, 0 }, SUMS, F32 },
	{ "gemm bf16, linear layer", run_gemm_half, { 150, 176, 300, 0, 1, 0 }, SUMS, F32 },
	{ "gemm bf16, gradient", run_gemm_half, { 61, 83, 300, 0, 0, 0 }, SUMS, F32 },
	{ "gemm bf16, a^T b^T", run_gemm_half, { 37, 29, 31, 1, 1, 0 }, SUMS, F32 },
	{ "gemm f16, one row", run_gemm_half, { 1, 65, 70, 0, 1, 1 }, SUMS, F32 },
	{ "gemm f16", run_gemm_half, { 97, 270, 100, 0, 1, 1 }, SUMS, F32 },
	{ "gemm f16, b", run_gemm_half, { 17, 270, 19, 0, 0, 1 }, SUMS, F32 },
	{ "element-wise 1", run_elementwise, { 1, 1 }, SUMS, ROUND(3) },
	{ "element-wise", run_elementwise, { 33, 131 }, SUMS, ROUND(3) },
	{ "element-wise, long rows", run_elementwise, { 2, 70001 }, SUMS, ROUND(3) },
	{ "colsum of segments", run_colsum_segments, { 37, 131, 4 }, SUMS, SUMS },
	{ "colsum of segments, one row", run_colsum_segments, { 1, 3, 1 }, SUMS, SUMS },
	{ "colsum of segments, many", run_colsum_segments, { 90, 65, 50 }, SUMS, SUMS },
	{ "copy", run_copy, { 17, 33 }, EXACT, F32 },
	{ "rows", run_rows, { 70, 97, 31 }, EXACT, ROUND(2) },
	{ "rows 1", run_rows, { 1, 1, 1 }, EXACT, ROUND(2) },
	{ "rows bf16", run_rows_half, { 70, 97, 31, 0 }, EXACT, ROUND(1) },
	{ "rows f16", run_rows_half, { 7, 33, 3, 1 }, EXACT, ROUND(1) },
	{ "rmsnorm of heads", run_rmsnorm_heads, { 23, 16, 3, 4, 0, 0 }, SUMS, ROUND(1) },
	{ "rmsnorm of heads, in place", run_rmsnorm_heads, { 9, 128, 2, 1, 1, 1 }, SUMS, ROUND(1) },
	{ "rmsnorm of heads, odd", run_rmsnorm_heads, { 5, 13, 1, 2, 0, 1 }, SUMS, ROUND(1) },
	{ "layernorm", run_layernorm, { 21, 77, 0 }, SUMS, ROUND(3) },
	{ "layernorm in place", run_layernorm, { 3, 384, 1 }, SUMS, ROUND(3) },
	{ "gelu", run_gelu, { 21, 77, 0 }, EXPS, ROUND(1) },
	{ "gelu in place", run_gelu, { 2, 40000, 1 }, EXPS, ROUND(1) },
	{ "rmsnorm", run_rmsnorm, { 37, 64, 4, 0 }, SUMS, ROUND(1) },
	{ "rmsnorm, accumulating", run_rmsnorm, { 9, 131, 1, 1 }, SUMS, ROUND(1) },
	{ "rmsnorm, wide", run_rmsnorm, { 5, 1000, 2, 0 }, SUMS, ROUND(1) },
	{ "rope", run_rope, { 19, 3, 16, 0 }, SUMS, ROUND(1) },
	{ "rope inverse", run_rope, { 19, 2, 6, 1 }, SUMS, ROUND(1) },
	{ "attention 1 token", run_attn, { 1, 1, 1, 1, 8, 0 }, EXPS, ROUND(4) },
	{ "attention, grouped", run_attn, { 100, 4, 6, 2, 16, 0 }, EXPS, ROUND(4) },
	{ "attention, odd head", run_attn, { 90, 3, 2, 1, 13, 0 }, EXPS, ROUND(4) },
	{ "attention, window", run_attn, { 150, 3, 2, 2, 8, 5 }, EXPS, ROUND(4) },
	{ "attention, long", run_attn, { 700, 2, 2, 1, 32, 0 }, EXPS, ROUND(4) },
	{ "attention, long window", run_attn, { 700, 2, 1, 1, 8, 300 }, EXPS, ROUND(4) },
	{ "attention both ways", run_attn_both, { 100, 4, 6, 2, 16 }, EXPS, ROUND(1) },
	{ "attention both ways, 1", run_attn_both, { 1, 1, 1, 1, 32 }, EXPS, ROUND(1) },
	{ "attention both ways, long", run_attn_both, { 700, 2, 2, 1, 32 }, EXPS, ROUND(1) },
	{ "attention, E = 32", run_attn_aligned, { 200, 3, 2, 2, 32, 0 }, EXPS, ROUND(4) },
	{ "attention, E = 64", run_attn_aligned, { 300, 4, 4, 2, 64, 0 }, EXPS, ROUND(4) },
	{ "attention, E = 80, window", run_attn_aligned, { 170, 2, 2, 1, 80, 70 }, EXPS, ROUND(4) },
	{ "attention, E = 128", run_attn_aligned, { 150, 2, 2, 1, 128, 0 }, EXPS, ROUND(4) },
	{ "attention, E = 256", run_attn_aligned, { 100, 2, 2, 1, 256, 0 }, EXPS, ROUND(4) },
	{ "attention, wide, odd", run_attn, { 40, 2, 2, 2, 131, 9 }, EXPS, ROUND(4) },
	{ "attention both ways, E = 64", run_attn_both_aligned, { 200, 3, 2, 1, 64 }, EXPS, ROUND(1) },
	{ "decode, E = 64", run_decode_aligned, { 4, 300, 14, 2, 64, 0 }, EXPS, ROUND(1) },
	{ "decode, E = 96, window", run_decode_aligned, { 3, 400, 4, 2, 96, 130 }, EXPS, ROUND(1) },
	{ "decode, E = 256", run_decode_aligned, { 3, 150, 4, 1, 256, 0 }, EXPS, ROUND(1) },
	{ "decode", run_decode, { 5, 90, 6, 2, 16, 0 }, EXPS, ROUND(1) },
	{ "decode, one key", run_decode, { 3, 1, 4, 4, 8, 0 }, EXPS, ROUND(1) },
	{ "decode, window", run_decode, { 4, 300, 4, 1, 24, 17 }, EXPS, ROUND(1) },
	{ "decode, long", run_decode, { 2, 700, 3, 3, 13, 0 }, EXPS, ROUND(1) },
	{ "decode, many heads", run_decode, { 2, 50, 71, 1, 8, 0 }, EXPS, ROUND(1) },
	{ "swiglu", run_swiglu, { 21, 77, 0 }, EXPS, ROUND(2) },
	{ "swiglu in place", run_swiglu, { 3, 200, 1 }, EXPS, ROUND(2) },
	{ "route", run_route, { 37, 8, 2, 1, 0 }, EXPS, F32 },
	{ "route, plain", run_route, { 21, 60, 4, 0, 0 }, EXPS, F32 },
	{ "route, in place", run_route, { 9, 128, 8, 1, 1 }, EXPS, F32 },
	{ "route, one", run_route, { 5, 3, 1, 1, 0 }, EXPS, F32 },
	{ "route, all", run_route, { 5, 13, 13, 0, 1 }, EXPS, F32 },
	{ "route 0 rows", run_route, { 0, 8, 2, 1, 0 }, EXPS, F32 },
	{ "plan", run_plan, { 37, 8, 2, 3, 1, 0 }, EXACT, F32 },
	{ "plan, all experts", run_plan, { 21, 13, 13, 1, 1, 1 }, EXACT, F32 },
	{ "plan, empty experts", run_plan, { 9, 60, 4, 4, 0, 1 }, EXACT, F32 },
	{ "plan, one expert", run_plan, { 5, 7, 1, 2, 0, 0 }, EXACT, F32 },
	{ "plan 0 rows", run_plan, { 0, 8, 2, 1, 1, 1 }, EXACT, F32 },
	{ "plan 0 samples", run_plan, { 0, 8, 2, 0, 1, 0 }, EXACT, F32 },
	{ "groups", run_groups, { 150, 64, 176, 8, EVEN, 1, 0, 0 }, SUMS, ROUND(1) },
	{ "groups, empty ones", run_groups, { 97, 300, 40, 10, UNEVEN, 1, 5, 0 }, SUMS, ROUND(1) },
	{ "groups, one has all", run_groups, { 201, 270, 290, 4, ONE, 1, 10, 0 }, SUMS, ROUND(1) },
	{ "groups, thin", run_groups, { 61, 33, 70, 60, EVEN, 1, 0, 0 }, SUMS, ROUND(1) },
	{ "groups, at rest", run_groups, { 150, 270, 90, 10, EVEN, 1, 0, 1 }, SUMS, ROUND(1) },
	{ "groups, straight", run_groups, { 150, 90, 270, 8, UNEVEN, 0, 0, 0 }, SUMS, ROUND(1) },
	{ "groups, straight, at rest", run_groups, { 97, 37, 65, 10, EVEN, 0, 5, 1 }, SUMS, ROUND(1) },
	{ "groups of one", run_groups, { 33, 30, 17, 1, EVEN, 1, 0, 0 }, SUMS, ROUND(1) },
	{ "groups 0 rows", run_groups, { 0, 30, 17, 5, EVEN, 1, 0, 0 }, SUMS, ROUND(1) },
	{ "group sums", run_group_sums, { 150, 64, 90, 8, EVEN, 10, 0 }, SUMS, SUMS },
	{ "group sums, empty ones", run_group_sums, { 97, 30, 270, 10, UNEVEN, 0, 0 }, SUMS, SUMS },
	{ "group sums, one has all", run_group_sums, { 201, 30, 33, 4, ONE, 5, 0 }, SUMS, SUMS },
	{ "group sums, some", run_group_sums, { 97, 37, 65, 10, EVEN, 0, 1 }, SUMS, SUMS },
	{ "group sums 0 rows", run_group_sums, { 0, 30, 17, 5, EVEN, 0, 0 }, SUMS, SUMS },
	{ "weigh rows", run_weigh, { 23, 45 }, EXPS, ROUND(6) },
	{ "weigh rows, narrow", run_weigh, { 40, 1 }, EXPS, ROUND(6) },
	{ "xent", run_xent, { 50, 24, 100, 0 }, EXPS, ROUND(1) },
	{ "xent, two words", run_xent, { 3, 5, 2, 0 }, EXPS, ROUND(1) },
	{ "xent, tiles", run_xent, { 300, 8, 5000, 0 }, EXPS, ROUND(1) },
	{ "xent, some scales 0", run_xent, { 31, 16, 77, 1 }, EXPS, ROUND(1) },
	{ "xent, tiles of rows", run_xent, { 1100, 3, 40, 1 }, EXPS, ROUND(1) },
	{ "xent 0 rows", run_xent, { 0, 8, 10, 0 }, EXPS, ROUND(1) },
	{ "xent bf16", run_xent_half, { 50, 24, 100, 0 }, EXPS, ROUND(1) },
	{ "xent f16, tiles", run_xent_half, { 300, 8, 5000, 1 }, EXPS, ROUND(1) },
	{ "dropout", run_dropout, { 13, 31, 1, 0, 0 }, SUMS, ROUND(1) },
	{ "dropout, samples", run_dropout, { 37, 31, 4, 0, 1 }, SUMS, ROUND(1) },
	{ "dropout, targets", run_dropout, { 90, 33, 20, 1, 0 }, SUMS, ROUND(1) },
	{ "dropout, one row", run_dropout, { 1, 1, 1, 1, 1 }, SUMS, ROUND(1) },
	{ "dropout, none", run_dropout, { 0, 4, 2, 1, 0 }, SUMS, ROUND(1) },
	{ "adamw", run_adamw, { 3, 77, 1, 0, 0 }, EXPS, F32 },
	{ "adamw, late", run_adamw, { 1, 40000, 1000, 1, 0 }, EXPS, F32 },
	{ "adamw, clipped", run_adamw, { 5, 33, 3, 1, 0 }, EXPS, F32 },
	{ "adamw, not finite", run_adamw, { 5, 33, 3, 1, 1 }, EXPS, F32 },
	{ "adam form", run_adam_form, { 5, 333, 0 }, EXPS, F32 },
	{ "adam form, inside", run_adam_form, { 2, 65, 1 }, EXPS, F32 },
	{ "project", run_project, { 5, 300, 200, 0, 0 }, EXACT, F32 },
	{ "project pieces", run_project, { 3, 300, 130, 0, 77 }, EXACT, F32 },
	{ "project sparse", run_project, { 5, 300, 64, 1, 0 }, EXACT, F32 },
	{ "project sparse, pieces", run_project, { 3, 300, 64, 1, 100 }, EXACT, F32 },
};
const size_t n_op_cases = sizeof(op_cases) / sizeof(op_cases[0]);

void
op_case_run(const struct op_case *c, struct df_backend *be, struct results *res)
{
	op_case_run_in(c, be, OP_F32, res);
}

void
op_case_run_in(const struct op_case *c, struct df_backend *be, enum op_mode mode, struct results *res)
{
	struct op_run r = { be, mode, c, res, 0, false };

	res->n = 0;
	c->run(&r, c->shape);
}

void
results_release(struct results *res)
{
	for (size_t i = 0; i < res->n; i++)
		free(res->out[i].v);
	res->n = 0;
}

double
results_diff(const struct results *a, const struct results *b, const char **worst)
{
	double most = 0, largest = 1e-30;

	*worst = "";
	if (a->n != b->n)
		return INFINITY;
	for (size_t i = 0; i < b->n; i++)
		for (size_t j = 0; j < b->out[i].n; j++)
			largest = fmax(largest, fabs(b->out[i].v[j]));
	for (size_t i = 0; i < a->n; i++) {
		const struct result *x = &a->out[i], *y = &b->out[i];
		double diff = 0,
		       size = 1e-2 * largest; /* an output that cancels to nothing is measured by what it came from */

		if (x->n != y->n)
			return INFINITY;
		for (size_t j = 0; j < x->n; j++) {
			size = fmax(size, fabs(y->v[j]));
			diff = isfinite(x->v[j]) && isfinite(y->v[j]) ? fmax(diff, fabs(x->v[j] - y->v[j])) : INFINITY;
		}
		if (diff / size > most) {
			most = diff / size;
			*worst = x->name;
		}
	}
	return most;
}

const char *
results_differ(const struct results *a, const struct results *b)
{
	if (a->n != b->n)
		return "number of outputs";
	for (size_t i = 0; i < a->n; i++)
		if (a->out[i].n != b->out[i].n || memcmp(a->out[i].v, b->out[i].v, a->out[i].n * sizeof(double)) != 0)
			return a->out[i].name;
	return NULL;
}
