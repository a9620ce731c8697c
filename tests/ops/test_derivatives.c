/*
 * test_derivatives.c - every backward is the derivative of its forward.
 *
 * For a loss L = sum of r * outputs (r random) and a random direction d of one
 * input, compare the backward's <dL/dx, d> with (L(x + e d) - L(x - e d)) / 2e.
 * Outputs are f32, so L carries about sqrt(n) 2^-24 of its terms, divided by
 * 2e = 0.02: some 1e-5; the third derivative adds e^2 / 6 = 2e-5 of it.  2e-4
 * of the gradient's length holds both with room, and a wrong term is far above it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

#define TOLERANCE 2e-4
#define STEP      0.01

static struct df_backend *be;

/* An input of the operation under test: its values on the host and on the device. */
struct var {
	const char *name;
	size_t rows, cols;
	float *v;
	struct df_tensor t;
	struct df_tensor grad;
};

static struct var
var(const char *name, uint32_t stream, size_t rows, size_t cols)
{
	struct var x = { name, rows, cols, test_numbers(stream, rows * cols, 1), DF_TENSOR_NONE, DF_TENSOR_NONE };

	x.t = test_tensor(be, rows, cols, x.v);
	x.grad = test_tensor(be, rows, cols, NULL);
	assert_int_equal(df_fill(be, x.grad, 0, NULL), DF_OK); /* for those that accumulate */
	return x;
}

static void
release(struct var *x)
{
	df_tensor_free(be, &x->t);
	df_tensor_free(be, &x->grad);
	free(x->v);
}

/* sum of r * t, with r by address. */
static double
weigh(struct df_tensor t, uint32_t stream)
{
	float *v = test_values(be, t), *r = test_numbers(stream, df_tensor_numel(t), 1);
	double sum = 0;

	for (size_t i = 0; i < df_tensor_numel(t); i++)
		sum += (double)v[i] * r[i];
	free(v);
	free(r);
	return sum;
}

/* Compare x->grad, already computed, with the difference quotient of loss(). */
static void
check(const char *op, struct var *x, double (*loss)(void))
{
	const size_t n = x->rows * x->cols;
	float *d = test_numbers(777, n, 1), *g = test_values(be, x->grad), *moved = malloc((n + 1) * sizeof(*moved));
	double by_grad = 0, length = 0, side[2], by_steps;

	assert_non_null(moved);
	for (int s = 0; s < 2; s++) {
		for (size_t i = 0; i < n; i++)
			moved[i] = x->v[i] + (float)(s ? -STEP : STEP) * d[i];
		assert_int_equal(df_upload(be, x->t, moved, NULL), DF_OK);
		side[s] = loss();
	}
	assert_int_equal(df_upload(be, x->t, x->v, NULL), DF_OK);
	by_steps = (side[0] - side[1]) / (2 * STEP);
	for (size_t i = 0; i < n; i++) {
		by_grad += (double)g[i] * d[i];
		length += (double)g[i] * g[i];
	}
	length = sqrt(length);
	print_message("# %-10s %-5s gradient %+.6f, differences %+.6f: %.1e of its length\n", op, x->name, by_grad,
	    by_steps, fabs(by_grad - by_steps) / length);
	assert_true(length > 0.01);
	if (!(fabs(by_grad - by_steps) <= TOLERANCE * length))
		fail_msg("%s: d%s is not the derivative", op, x->name);
	free(d);
	free(g);
	free(moved);
}

/* ---- rmsnorm ---------------------------------------------------------------------------------------------------- */

static struct df_rmsnorm norm;

static double
norm_loss(void)
{
	assert_int_equal(df_rmsnorm_fwd(be, &norm, NULL), DF_OK);
	return weigh(norm.y, 500);
}

static void
rmsnorm(void **state)
{
	enum { T = 7, D = 24 };
	struct var x = var("x", 1, T, D), w = var("w", 2, 1, D);
	float *r = test_numbers(500, T * D, 1);
	struct df_tensor dy = test_tensor(be, T, D, r);

	(void)state;
	norm = (struct df_rmsnorm){ 1e-3f, x.t, w.t, test_tensor(be, T, D, NULL), test_tensor(be, T, 1, NULL), 0 };
	norm_loss();
	assert_int_equal(
	    df_rmsnorm_bwd(be,
		&(struct df_rmsnorm_bwd){ x.t, w.t, norm.rstd, dy, x.grad, w.grad, DF_TENSOR_NONE, false, 0, false },
		NULL),
	    DF_OK);
	check("rmsnorm", &x, norm_loss);
	check("rmsnorm", &w, norm_loss);
	release(&x);
	release(&w);
	df_tensor_free(be, &norm.y);
	df_tensor_free(be, &norm.rstd);
	df_tensor_free(be, &dy);
	free(r);
}

/* Each head of a window of columns on its own; dx assigned, in the place of dy. */
static void
rmsnorm_of_heads(void **state)
{
	enum { T = 7, H = 3, E = 8 };
	struct var x = var("x", 15, T, H * E), w = var("w", 16, 1, E);
	float *r = test_numbers(500, T * H * E, 1);
	struct df_rmsnorm_bwd b;

	(void)state;
	norm = (struct df_rmsnorm){ 1e-3f, x.t, w.t, test_tensor(be, T, H * E, NULL), test_tensor(be, T, H, NULL), H };
	norm_loss();
	assert_int_equal(df_upload(be, x.grad, r, NULL), DF_OK);
	b = (struct df_rmsnorm_bwd){ x.t, w.t, norm.rstd, x.grad, x.grad, w.grad, DF_TENSOR_NONE, false, H, true };
	assert_int_equal(df_rmsnorm_bwd(be, &b, NULL), DF_OK);
	check("head norm", &x, norm_loss);
	check("head norm", &w, norm_loss);
	release(&x);
	release(&w);
	df_tensor_free(be, &norm.y);
	df_tensor_free(be, &norm.rstd);
	free(r);
}

/* ---- attention -------------------------------------------------------------------------------------------------- */

static struct df_attn attn;

static double
attn_loss(void)
{
	assert_int_equal(df_attn_fwd(be, &attn, NULL), DF_OK);
	return weigh(attn.o, 501);
}

static void
attention_of(size_t n_heads, size_t n_kv_heads, size_t window)
{
	enum { T = 30, E = 8 };
	struct df_tensor offsets = test_indices(be, (uint32_t[]){ 0, 11, 12, T }, 4);
	struct var q = var("q", 3, T, n_heads * E), k = var("k", 4, T, n_kv_heads * E),
		   v = var("v", 5, T, n_kv_heads * E);
	float *r = test_numbers(501, T * n_heads * E, 1);
	struct df_tensor d_o = test_tensor(be, T, n_heads * E, r);

	attn = (struct df_attn){ q.t, k.t, v.t, test_tensor(be, T, n_heads * E, NULL),
		test_tensor(be, T, n_heads, NULL), offsets, n_heads, n_kv_heads, window, 0.7f, false };
	attn_loss();
	assert_int_equal(df_attn_bwd(be, &(struct df_attn_bwd){ attn, d_o, q.grad, k.grad, v.grad }, NULL), DF_OK);
	check("attention", &q, attn_loss);
	check("attention", &k, attn_loss);
	check("attention", &v, attn_loss);
	release(&q);
	release(&k);
	release(&v);
	df_tensor_free(be, &attn.o);
	df_tensor_free(be, &attn.lse);
	df_tensor_free(be, &offsets);
	df_tensor_free(be, &d_o);
	free(r);
}

static void
attention(void **state)
{
	(void)state;
	attention_of(4, 2, 0);
	attention_of(2, 2, 6);
}

/* ---- routing ---------------------------------------------------------------------------------------------------- */

static struct df_route route_args;

static double
route_loss(void)
{
	assert_int_equal(df_route_fwd(be, &route_args, NULL), DF_OK);
	return weigh(route_args.weight, 506);
}

/* Logits far enough apart that a step changes no choice: the weights are smooth there. */
static void
route_of(bool normalise)
{
	enum { T = 6, X = 9, K = 3 };
	struct df_tensor expert = test_u32(be, T, K, NULL);
	struct var logits = var("logits", 30, T, X);
	float *r = test_numbers(506, T * K, 1);
	struct df_route_bwd b;

	for (size_t i = 0; i < T * X; i++)
		logits.v[i] = 0.3f * (float)((i * 5 + i / X) % X) + 0.02f * logits.v[i];
	assert_int_equal(df_upload(be, logits.t, logits.v, NULL), DF_OK);
	route_args = (struct df_route){ .logits = logits.t,
		.p = test_tensor(be, T, X, NULL),
		.weight = test_tensor(be, T, K, NULL),
		.expert = expert,
		.normalise = normalise };
	b = (struct df_route_bwd){ .p = route_args.p,
		.weight = route_args.weight,
		.expert = expert,
		.dweight = test_tensor(be, T, K, r),
		.dlogits = logits.grad,
		.normalise = normalise };
	assert_int_equal(df_route_fwd(be, &route_args, NULL), DF_OK);
	assert_int_equal(df_route_bwd(be, &b, NULL), DF_OK);
	check(normalise ? "route norm" : "route", &logits, route_loss);
	df_tensor_free(be, &route_args.p);
	df_tensor_free(be, &route_args.weight);
	df_tensor_free(be, &b.dweight);
	df_tensor_free(be, &expert);
	release(&logits);
	free(r);
}

static void
route(void **state)
{
	(void)state;
	route_of(true);
	route_of(false);
}

/* Equal probabilities: the experts with the lowest numbers, in that order. */
static void
route_ties(void **state)
{
	const float v[2][5] = { { 1, 1, 1, 1, 1 }, { 0, 2, 1, 2, 1 } };
	const uint32_t want[2][3] = { { 0, 1, 2 }, { 1, 3, 2 } };
	uint32_t expert[6];
	struct df_tensor t = test_tensor(be, 2, 5, v[0]), weight = test_tensor(be, 2, 3, NULL);
	struct df_route a = { t, t, weight, test_u32(be, 2, 3, NULL), false };

	(void)state;
	assert_int_equal(df_route_fwd(be, &a, NULL), DF_OK);
	assert_int_equal(df_download(be, expert, a.expert, NULL), DF_OK);
	assert_memory_equal(expert, want, sizeof(want));
	df_tensor_free(be, &a.expert);
	df_tensor_free(be, &t);
	df_tensor_free(be, &weight);
}

/* ---- swiglu ----------------------------------------------------------------------------------------------------- */

static struct df_tensor gate_t, up_t, h_t;

static double
swiglu_loss(void)
{
	assert_int_equal(df_swiglu_fwd(be, h_t, gate_t, up_t, NULL), DF_OK);
	return weigh(h_t, 502);
}

static void
swiglu(void **state)
{
	enum { T = 5, F = 33 };
	struct var gate = var("gate", 6, T, F), up = var("up", 7, T, F);
	float *r = test_numbers(502, T * F, 1);
	struct df_tensor dh = test_tensor(be, T, F, r);

	(void)state;
	gate_t = gate.t;
	up_t = up.t;
	h_t = test_tensor(be, T, F, NULL);
	assert_int_equal(df_swiglu_bwd(be, gate.grad, up.grad, dh, gate_t, up_t, NULL), DF_OK);
	check("swiglu", &gate, swiglu_loss);
	check("swiglu", &up, swiglu_loss);
	release(&gate);
	release(&up);
	df_tensor_free(be, &h_t);
	df_tensor_free(be, &dh);
	free(r);
}

/* ---- rope: inverse is the transpose ------------------------------------------------------------------------------ */

static struct df_rope turn;
static struct df_tensor turn_in;

static double
rope_loss(void)
{
	assert_int_equal(df_copy(be, turn.x, turn_in, NULL), DF_OK);
	assert_int_equal(df_rope(be, &turn, NULL), DF_OK);
	return weigh(turn.x, 503);
}

static void
rope(void **state)
{
	enum { T = 6, H = 2, E = 8, P = 9 };
	struct df_tensor pos = test_indices(be, (uint32_t[T]){ 0, 1, 8, 3, 3, 5 }, T);
	struct var x = var("x", 8, T, H * E);
	float *angle = test_numbers(9, P * E / 2, 3), *r = test_numbers(503, T * H * E, 1), c[P * E / 2], s[P * E / 2];
	struct df_rope back;

	(void)state;
	for (int i = 0; i < P * E / 2; i++) {
		c[i] = cosf(angle[i]);
		s[i] = sinf(angle[i]);
	}
	turn = (struct df_rope){ test_tensor(be, T, H * E, NULL), test_tensor(be, P, E / 2, c),
		test_tensor(be, P, E / 2, s), pos, H, false };
	turn_in = x.t;
	back = turn;
	back.inverse = true;
	back.x = x.grad;
	assert_int_equal(df_upload(be, x.grad, r, NULL), DF_OK);
	assert_int_equal(df_rope(be, &back, NULL), DF_OK);
	check("rope", &x, rope_loss);
	release(&x);
	df_tensor_free(be, &turn.x);
	df_tensor_free(be, &turn.cos);
	df_tensor_free(be, &turn.sin);
	df_tensor_free(be, &pos);
	free(angle);
	free(r);
}

/* ---- cross-entropy ---------------------------------------------------------------------------------------------- */

enum { L = 9, D = 16, V = 40 };
static struct df_xent head;
static float *head_scale;

static double
head_loss(void)
{
	double sum = 0;
	float *nll;

	assert_int_equal(df_xent_fwd(be, &head, NULL), DF_OK);
	nll = test_values(be, head.nll);
	for (int i = 0; i < L; i++)
		sum += (double)head_scale[i] * nll[i];
	free(nll);
	return sum;
}

/* The backward alone; that of both at once has the same bits (cases.c). */
static void
xent(void **state)
{
	static const uint32_t target[L] = { 0, 39, 3, 3, 17, 20, 38, 1, 0 };
	struct var h = var("h", 10, L, D), w = var("w", 11, V, D);

	(void)state;
	head_scale = test_numbers(12, L, 1);
	head = (struct df_xent){ .h = h.t, .w = w.t, .dh = h.grad, .dw = w.grad };
	head.target = test_row(be, DF_U32, L, target);
	head.nll = test_row(be, DF_F32, L, NULL);
	head.lse = test_row(be, DF_F32, L, NULL);
	head.scale = test_row(be, DF_F32, L, head_scale);
	assert_int_equal(df_xent_fwd(be, &head, NULL), DF_OK);
	assert_int_equal(df_xent_bwd(be, &head, NULL), DF_OK);
	check("xent", &h, head_loss);
	check("xent", &w, head_loss);
	release(&h);
	release(&w);
	df_tensor_free(be, &head.target);
	df_tensor_free(be, &head.nll);
	df_tensor_free(be, &head.lse);
	df_tensor_free(be, &head.scale);
	free(head_scale);
}

/* ---- embedding and dropout are linear: the backward is the transpose ----------------------------------- */

static struct df_tensor table_t, picked, picked_ids;

static double
embed_loss(void)
{
	assert_int_equal(df_embed_fwd(be, picked, table_t, picked_ids, NULL), DF_OK);
	return weigh(picked, 504);
}

static void
embed(void **state)
{
	struct var table = var("table", 13, 5, 12);
	float *r = test_numbers(504, 4 * 12, 1);
	struct df_tensor dout = test_tensor(be, 4, 12, r);

	(void)state;
	table_t = table.t;
	picked_ids = test_indices(be, (uint32_t[]){ 4, 0, 4, 2 }, 4);
	picked = test_tensor(be, 4, 12, NULL);
	assert_int_equal(df_embed_bwd(be, table.grad, dout, picked_ids, NULL), DF_OK);
	check("embed", &table, embed_loss);
	release(&table);
	df_tensor_free(be, &picked);
	df_tensor_free(be, &picked_ids);
	df_tensor_free(be, &dout);
	free(r);
}

static struct df_tensor kept, kept_in;

static void
drop(struct df_tensor y, struct df_tensor x)
{
	struct df_tensor offsets = test_indices(be, (uint32_t[]){ 0, 2, 6 }, 3);
	struct df_tensor keys = test_indices(be, (uint32_t[]){ 1, 2, 77, 5 }, 4);
	const struct df_dropout a = { .x = x,
		.y = y,
		.offsets = offsets,
		.token_offsets = offsets,
		.key = df_tensor_view(keys, 0, 2, 2),
		.substream = 2,
		.p = 0.4f };

	assert_int_equal(df_dropout(be, &a, NULL), DF_OK);
	df_tensor_free(be, &offsets);
	df_tensor_free(be, &keys);
}

static double
dropout_loss(void)
{
	drop(kept, kept_in);
	return weigh(kept, 505);
}

static void
dropout(void **state)
{
	struct var x = var("x", 14, 6, 20);
	float *r = test_numbers(505, 6 * 20, 1);
	struct df_tensor dy = test_tensor(be, 6, 20, r);

	(void)state;
	kept_in = x.t;
	kept = test_tensor(be, 6, 20, NULL);
	drop(x.grad, dy);
	check("dropout", &x, dropout_loss);
	release(&x);
	df_tensor_free(be, &kept);
	df_tensor_free(be, &dy);
	free(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rmsnorm),
		cmocka_unit_test(rmsnorm_of_heads),
		cmocka_unit_test(attention),
		cmocka_unit_test(route),
		cmocka_unit_test(route_ties),
		cmocka_unit_test(swiglu),
		cmocka_unit_test(rope),
		cmocka_unit_test(xent),
		cmocka_unit_test(embed),
		cmocka_unit_test(dropout),
	};
	int rc;

	be = test_backend(NULL, NULL);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	df_backend_close(be);
	return rc;
}
