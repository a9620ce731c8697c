/*
 * test_windows.c - where a window lies changes no bit of a result, on the device of DF_TEST_DEVICE.
 *
 * A device may move 16 bytes at once where addresses and strides allow it, and single elements elsewhere: dense tensors
 * of many widths against windows at odd places.  And each result against the CPU's: the same bits where one float32
 * operation has one right result, and within rounding elsewhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "cases.h"

/* One run of an operation: how its tensors are made, and what it gave. */
struct run {
	struct df_backend *be;
	bool bf16;    /* activations have bf16's numbers... */
	bool rounded; /* ...in float32 */
	bool odd;     /* windows, not dense tensors */
	size_t rows, cols;
	uint32_t n_made;
	size_t n;
	float *out;
};

static struct df_tensor
empty(struct run *r, enum df_dtype type, size_t rows, size_t cols)
{
	struct df_tensor t;

	OK(df_tensor_alloc(r->be, &t, type, rows + (r->odd ? 2 : 0), cols + (r->odd ? 7 : 0), "test", err));
	return r->odd ? df_tensor_cols(df_tensor_rows(t, 1, rows), 3, cols) : t;
}

static struct df_tensor
numbers(struct run *r, enum df_dtype type, bool rounded, size_t rows, size_t cols, float scale)
{
	struct df_tensor t = empty(r, type, rows, cols);
	const size_t n = rows * cols;
	float *v = test_numbers(r->n_made++, n, scale);
	uint16_t *half = malloc((n + 1) * sizeof(*half));

	assert_non_null(half);
	for (size_t i = 0; i < n && rounded; i++) {
		half[i] = df_bf16_from_f32(v[i]);
		v[i] = df_f32_from_bf16(half[i]);
	}
	OK(df_upload(r->be, t, type == DF_BF16 ? (const void *)half : v, err));
	free(half);
	free(v);
	return t;
}

static enum df_dtype
act_type(const struct run *r)
{
	return r->bf16 && !r->rounded ? DF_BF16 : DF_F32;
}
static struct df_tensor
act(struct run *r, float scale)
{
	return numbers(r, act_type(r), r->bf16, r->rows, r->cols, scale);
}
static struct df_tensor
f32(struct run *r, size_t rows, size_t cols, float scale)
{
	return numbers(r, DF_F32, false, rows, cols, scale);
}
static struct df_tensor
act_empty(struct run *r)
{
	return empty(r, act_type(r), r->rows, r->cols);
}

static void
drop(struct run *r, struct df_tensor t)
{
	df_tensor_free(r->be, &t);
}

/* Keep t's values, and free it. */
static void
keep(struct run *r, struct df_tensor t)
{
	const size_t n = df_tensor_numel(t);
	float *v = test_values(r->be, t), *out = realloc(r->out, (r->n + n + 1) * sizeof(*out));

	assert_non_null(out);
	memcpy(out + r->n, v, n * sizeof(*v));
	r->out = out;
	r->n += n;
	free(v);
	drop(r, t);
}

/* Boundaries of four segments of the rows, one of them empty. */
static struct df_tensor
offsets(struct run *r)
{
	const uint32_t rows = (uint32_t)r->rows;

	return test_indices(r->be, (uint32_t[]){ 0, rows / 4, rows / 4, rows / 2, rows }, 5);
}

/* A number below `limit` for each row; some come often. */
static struct df_tensor
indices(struct run *r, uint32_t limit)
{
	uint32_t *v = calloc(r->rows + 1, sizeof(*v));
	struct df_tensor t;

	assert_non_null(v);
	for (uint32_t i = 0; i < r->rows; i++)
		v[i] = i % 3 == 0 ? limit - 1 : i * i * 7 % limit;
	t = test_indices(r->be, v, r->rows);
	free(v);
	return t;
}

/* ---- the operations -------------------------------------------------------------------------------------------- */

static void
run_copy(struct run *r)
{
	struct df_tensor x = f32(r, r->rows, r->cols, 1000), y = empty(r, DF_F32, r->rows, r->cols);
	struct df_tensor b = empty(r, DF_BF16, r->rows, r->cols), h = empty(r, DF_F16, r->rows, r->cols);
	struct df_tensor c = empty(r, DF_BF16, r->rows, r->cols);

	OK(df_copy(r->be, b, x, err));
	OK(df_copy(r->be, c, b, err));
	OK(df_copy(r->be, y, c, err));
	keep(r, y);
	y = empty(r, DF_F32, r->rows, r->cols);
	OK(df_copy(r->be, h, b, err));
	OK(df_copy(r->be, b, h, err));
	OK(df_copy(r->be, y, b, err));
	keep(r, y);
	y = empty(r, DF_F32, r->rows, r->cols);
	OK(df_fill(r->be, b, 0.1f, err));
	OK(df_copy(r->be, x, b, err));
	OK(df_copy(r->be, y, x, err));
	keep(r, y);
	keep(r, x);
	drop(r, b);
	drop(r, h);
	drop(r, c);
}

static void
run_sums(struct run *r) /* of two */
{
	struct df_tensor x = act(r, 2), y = act(r, 1), bias = f32(r, 1, r->cols, 1), s = f32(r, r->rows, 1, 1);
	struct df_tensor z = f32(r, r->rows, r->cols, 2), scaled = act_empty(r), slope = act_empty(r);

	OK(df_axpy(r->be, -0.3f, x, y, err));
	OK(df_bias_add(r->be, y, bias, err));
	OK(df_scale(r->be, 1.7f, y, err));
	OK(df_sign(r->be, z, err));
	OK(df_row_scale(r->be, scaled, x, s, err));
	OK(df_sigmoid_bwd(r->be, slope, x, scaled, err));
	keep(r, y);
	keep(r, z);
	keep(r, scaled);
	keep(r, slope);
	drop(r, x);
	drop(r, bias);
	drop(r, s);
}

static void
run_gelu(struct run *r)
{
	struct df_tensor x = act(r, 8), y = act_empty(r);

	OK(df_gelu_fwd(r->be, y, x, err));
	keep(r, y);
	drop(r, x);
}

static void
run_activations(struct run *r)
{
	struct df_tensor gate = act(r, 20), up = act(r, 1), h = act_empty(r), dgate = act_empty(r), dup = act_empty(r);
	struct df_tensor dh = act(r, 1), y = act_empty(r);

	OK(df_swiglu_fwd(r->be, h, gate, up, err));
	OK(df_swiglu_bwd(r->be, dgate, dup, dh, gate, up, err));
	OK(df_sigmoid_fwd(r->be, y, gate, err));
	keep(r, h);
	keep(r, dgate);
	keep(r, dup);
	keep(r, y);
	drop(r, gate);
	drop(r, up);
	drop(r, dh);
}

static void
run_dropout(struct run *r)
{
	struct df_tensor x = act(r, 1), y = act_empty(r), o = offsets(r);
	struct df_tensor key = test_indices(r->be, (uint32_t[]){ 9, 1, 8, 2, 7, 3, 6, 4 }, 8);

	OK(df_dropout(
	    r->be, &(struct df_dropout){ x, y, o, DF_TENSOR_NONE, o, df_tensor_view(key, 0, 4, 2), 5, 0.25f }, err));
	keep(r, y);
	drop(r, x);
	drop(r, o);
	drop(r, key);
}

/* Two heads of even width. */
static void
run_rope(struct run *r)
{
	const size_t half = r->cols / 4;
	struct df_tensor x = numbers(r, act_type(r), r->bf16, r->rows, 4 * half, 1);
	struct df_tensor c = f32(r, 40, half, 1), s = f32(r, 40, half, 1), pos = indices(r, 40);

	OK(df_rope(r->be, &(struct df_rope){ x, c, s, pos, 2, false }, err));
	keep(r, x);
	drop(r, c);
	drop(r, s);
	drop(r, pos);
}

static void
norms(struct run *r, size_t n_heads)
{
	const size_t width = r->cols / n_heads, cols = r->cols;
	struct df_tensor o = offsets(r), w, dy, dx, dw;
	struct df_rmsnorm a = { .eps = 1e-5f, .n_heads = n_heads == 1 ? 0 : n_heads };

	r->cols = width * n_heads;
	a.x = act(r, 1);
	a.w = w = f32(r, 1, width, 1);
	a.y = act_empty(r);
	a.rstd = empty(r, DF_F32, r->rows, n_heads);
	dy = act(r, 1);
	dx = act(r, 1);
	dw = f32(r, 4, width, 1);
	OK(df_rmsnorm_fwd(r->be, &a, err));
	OK(df_rmsnorm_bwd(
	    r->be, &(struct df_rmsnorm_bwd){ a.x, w, a.rstd, dy, dx, dw, o, true, a.n_heads, false }, err));
	keep(r, dx);
	keep(r, dw);
	dw = f32(r, 1, width, 1);
	OK(df_rmsnorm_bwd(r->be,
	    &(struct df_rmsnorm_bwd){ a.x, w, a.rstd, dy, a.y, dw, DF_TENSOR_NONE, false, a.n_heads, true }, err));
	keep(r, dw);
	OK(df_rmsnorm_bwd(r->be,
	    &(struct df_rmsnorm_bwd){ a.x, w, a.rstd, dy, dy, DF_TENSOR_NONE, DF_TENSOR_NONE, false, a.n_heads, true },
	    err));
	keep(r, dy);
	keep(r, a.y);
	keep(r, a.rstd);
	drop(r, a.x);
	drop(r, w);
	drop(r, o);
	r->cols = cols;
}
static void
run_rmsnorm(struct run *r)
{
	norms(r, 1);
}
static void
run_rmsnorm_heads(struct run *r)
{
	norms(r, 4);
}

static void
run_layernorm(struct run *r)
{
	struct df_tensor x = act(r, 3), y = act_empty(r), w = f32(r, 1, r->cols, 1), b = f32(r, 1, r->cols, 1);

	OK(df_layernorm_fwd(r->be, &(struct df_layernorm){ 1e-5f, x, w, b, y }, err));
	keep(r, y);
	drop(r, x);
	drop(r, w);
	drop(r, b);
}

static void
run_reductions(struct run *r)
{
	struct df_tensor x = act(r, 1), y = act(r, 1), all = f32(r, 1, r->cols, 1), o = offsets(r);
	struct df_tensor each = empty(r, DF_F32, 4, r->cols), dot = empty(r, DF_F32, r->rows, 1);
	struct df_tensor z = f32(r, r->rows, r->cols, 1), sumsq = test_row(r->be, DF_F64, 1, NULL);
	double sum;
	float f;

	OK(df_colsum(r->be, x, all, true, err));
	OK(df_colsum_segments(r->be, x, o, each, err));
	OK(df_row_dot(r->be, dot, x, y, err));
	OK(df_sumsq(r->be, z, sumsq, err));
	OK(df_download(r->be, &sum, sumsq, err));
	f = (float)sum;
	drop(r, z);
	z = test_tensor(r->be, 1, 1, &f);
	keep(r, z);
	keep(r, all);
	keep(r, each);
	keep(r, dot);
	drop(r, x);
	drop(r, y);
	drop(r, o);
	drop(r, sumsq);
}

static void
run_rows(struct run *r)
{
	const uint32_t n = r->cols > 512 ? 40 : 300; /* more than a digit of a sort */
	struct df_tensor table = f32(r, n, r->cols, 1), out = act_empty(r), is = indices(r, n), x = act(r, 1);
	struct df_tensor half = empty(r, DF_BF16, n, r->cols), sum = numbers(r, act_type(r), r->bf16, n, r->cols, 1);

	OK(df_copy(r->be, half, table, err));
	OK(df_embed_fwd(r->be, out, half, is, err));
	OK(df_embed_bwd(r->be, table, x, is, err));
	OK(df_scatter_rows(r->be, sum, x, is, err));
	keep(r, out);
	keep(r, table);
	keep(r, sum);
	drop(r, half);
	drop(r, is);
	drop(r, x);
}

static void
run_optimiser(struct run *r)
{
	struct df_adamw a = { .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .decay = 0.1, .step = 3 };
	struct df_adam_form form = { .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .eps_inside = r->rows % 2 };
	struct df_tensor scalars = test_row(r->be, DF_F64, 3, NULL), rounded = empty(r, DF_BF16, r->rows, r->cols);
	float *low, *want;
	struct df_clip c = { df_tensor_cols(scalars, 2, 1), df_tensor_cols(scalars, 0, 2), 0.5 };

	a.w = f32(r, r->rows, r->cols, 1);
	a.g = f32(r, r->rows, r->cols, 1);
	a.m = f32(r, r->rows, r->cols, 0.1f);
	a.v = f32(r, r->rows, r->cols, 1);
	OK(df_sign(r->be, a.v, err)); /* 1 or -1, and 1 + -1 + ...: not below 0 */
	OK(df_axpy(r->be, 1, a.v, a.v, err));
	OK(df_fill(r->be, df_tensor_rows(a.v, 0, 1), 0.01f, err));
	for (size_t i = 1; i < r->rows; i++)
		OK(df_copy(r->be, df_tensor_rows(a.v, i, 1), df_tensor_rows(a.v, 0, 1), err));
	a.low = empty(r, DF_BF16, r->rows, r->cols);
	form.m = df_tensor_rows(a.m, 0, 1);
	form.v = df_tensor_rows(a.v, 0, 1);
	form.g = f32(r, r->rows, r->cols, 1);
	OK(df_sumsq(r->be, a.g, c.sumsq, err));
	OK(df_clip(r->be, &c, err));
	a.clip = c.clip;
	OK(df_adamw(r->be, &a, err));
	OK(df_adam_form(r->be, &form, err));
	OK(df_copy(r->be, rounded, a.w, err));
	low = test_values(r->be, a.low);
	want = test_values(r->be, rounded);
	assert_memory_equal(low, want, r->rows * r->cols * sizeof(*low));
	free(low);
	free(want);
	keep(r, a.w);
	keep(r, a.m);
	keep(r, a.v);
	keep(r, form.g);
	drop(r, a.g);
	drop(r, a.low);
	drop(r, rounded);
	drop(r, scalars);
}

/* ---- the comparison -------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*run)(struct run *r);
	bool exact; /* float32 has the CPU's bits */
	int rounds; /* of bf16, one after the other; 0: no activations */
} ops[] = {
	{ "copy", run_copy, true, 0 },
	{ "sums", run_sums, true, 3 },
	{ "gelu", run_gelu, true, 1 },
	{ "activations", run_activations, false, 1 },
	{ "dropout", run_dropout, true, 1 },
	{ "rope", run_rope, true, 1 },
	{ "rmsnorm", run_rmsnorm, false, 1 },
	{ "rmsnorm of heads", run_rmsnorm_heads, false, 1 },
	{ "layernorm", run_layernorm, false, 1 },
	{ "reductions", run_reductions, false, 0 },
	{ "rows", run_rows, true, 1 },
	{ "optimiser", run_optimiser, true, 0 },
};

/* Widths around those at which a device may change its way, and of models. */
static const size_t widths[] = { 4, 8, 24, 60, 64, 128, 136, 256, 264, 300, 520, 896, 1024, 1032, 1536, 8192, 8208 };

static void
compare(size_t op, const struct run *r, const struct run *want, double tolerance, const char *with)
{
	double most = 0, size = 1e-30;

	assert_int_equal(r->n, want->n);
	for (size_t i = 0; i < r->n; i++)
		size = fmax(size, fabs(want->out[i]));
	for (size_t i = 0; i < r->n; i++)
		most = fmax(most, isfinite(r->out[i]) ? fabs((double)r->out[i] - want->out[i]) : INFINITY);
	if (tolerance == 0 ? memcmp(r->out, want->out, r->n * sizeof(float)) != 0 : !(most / size <= tolerance))
		fail_msg("%s%s, %zu x %zu: %g from %s", ops[op].name, r->bf16 ? " in bf16" : "", r->rows, r->cols,
		    most / size, with);
}

static void
everywhere(struct df_backend *be, struct df_backend *cpu, size_t op, bool bf16, size_t rows, size_t cols)
{
	const bool same_bits = ops[op].exact && !bf16 && strcmp(df_backend_name(be), "reference") != 0;
	struct run r = { .be = be, .bf16 = bf16, .rows = rows, .cols = cols }, odd = r, want = r;

	odd.odd = true;
	want.be = cpu;
	want.rounded = true;
	ops[op].run(&r);
	ops[op].run(&odd);
	ops[op].run(&want);
	compare(op, &odd, &r, 0, "the dense tensors'");
	compare(op, &r, &want, bf16 ? ops[op].rounds * 0x1.01p-8 : same_bits ? 0 : 3e-6, "the CPU's");
	free(r.out);
	free(odd.out);
	free(want.out);
}

static void
lie_anywhere(bool bf16)
{
	struct df_backend *be = test_backend(NULL, NULL), *cpu = test_backend("cpu", NULL);

	for (size_t op = 0; op < sizeof(ops) / sizeof(ops[0]); op++) {
		if (bf16 && !ops[op].rounds)
			continue;
		for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++)
			everywhere(be, cpu, op, bf16, widths[i] > 512 ? 5 : 71, widths[i]);
		everywhere(be, cpu, op, bf16, 1500, 8); /* many chunks of rows */
	}
	df_backend_close(be);
	df_backend_close(cpu);
}

/* So many rows that a sort of their numbers has several tiles, and of so many that it has several passes. */
static void
long_lists(void **state)
{
	enum { N = 20000, ROWS = 70000, COLS = 4 };
	struct df_backend *be = test_backend(NULL, NULL);
	float *x = test_numbers(1, N * COLS, 1), *want = calloc(ROWS * COLS, sizeof(*want)), *got;
	uint32_t *row = calloc(N, sizeof(*row));
	struct df_tensor src = test_tensor(be, N, COLS, x), dst = test_tensor(be, ROWS, COLS, NULL), is;

	(void)state;
	assert_true(want && row);
	for (uint32_t i = 0; i < N; i++)
		row[i] = i % 7 == 0 ? 66666 : i * 2654435761u % ROWS;
	is = test_indices(be, row, N);
	OK(df_fill(be, dst, 0, err));
	OK(df_scatter_rows(be, dst, src, is, err));
	for (size_t i = 0; i < N; i++)
		for (size_t j = 0; j < COLS; j++)
			want[row[i] * COLS + j] += x[i * COLS + j];
	got = test_values(be, dst);
	assert_memory_equal(got, want, ROWS * COLS * sizeof(*got));
	df_tensor_free(be, &src);
	df_tensor_free(be, &dst);
	df_tensor_free(be, &is);
	free(x);
	free(want);
	free(got);
	free(row);
	df_backend_close(be);
}

static void
float32(void **state)
{
	(void)state;
	lie_anywhere(false);
}

static void
bf16(void **state)
{
	struct df_backend *be = test_backend(NULL, NULL);
	const bool takes = df_backend_takes_bf16(be);

	(void)state;
	df_backend_close(be);
	if (!takes)
		skip();
	lie_anywhere(true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(float32),
		cmocka_unit_test(bf16),
		cmocka_unit_test(long_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
