/*
 * test_rows.c - what is computed per row or per sample does not depend on the
 * batch around it: to the bit on an exact backend, within rounding on another.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

static struct df_backend *be;
static struct df_pool *pool;

static void
same(const float *a, const float *b, size_t n, const char *what, size_t row)
{
	const bool exact = df_backend_is_exact(be);
	float most = 0; /* and sums of numbers near 1 that cancel */

	for (size_t i = 0; i < n; i++)
		most = fmaxf(most, fabsf(b[i]));
	for (size_t i = 0; i < n; i++)
		if (exact ? memcmp(&a[i], &b[i], sizeof(*a)) != 0 : !(fabsf(a[i] - b[i]) <= 1e-5f * (1 + most)))
			fail_msg("%s: row %zu, column %zu: %.9g in the batch, %.9g alone", what, row, i, (double)a[i],
			    (double)b[i]);
}

/* Rows of a product computed in batches of 1, 3 and 64, and all at once; then columns alone. */
static void
gemm_of(size_t n, size_t k, bool ta, bool tb)
{
	enum { M = 131 };
	static const size_t batch[] = { 1, 3, 64 }, apart[] = { 13, 5, 1 };
	const bool slow = getenv("DF_CUDA_PLUGIN"); /* an emulator: some of the batches */
	float *va = test_numbers(1, M * k, 1), *vb = test_numbers(2, k * n, 1);
	struct df_tensor a = ta ? test_tensor(be, k, M, va) : test_tensor(be, M, k, va);
	struct df_tensor b = tb ? test_tensor(be, n, k, vb) : test_tensor(be, k, n, vb),
			 c = test_tensor(be, M, n, NULL);
	float *whole;

	assert_int_equal(df_gemm(be, &(struct df_gemm){ ta, tb, 0.3f, 0, a, b, c }, NULL), DF_OK);
	whole = test_values(be, c);
	for (size_t i = 0; i < 3; i++)
		for (size_t r = 0; r < M; r += batch[i] * (slow ? apart[i] : 1)) {
			size_t rows = M - r < batch[i] ? M - r : batch[i];
			struct df_tensor part = test_tensor(be, rows, n, NULL);
			float *v;

			assert_int_equal(
			    df_gemm(be,
				&(struct df_gemm){ ta, tb, 0.3f, 0,
				    ta ? df_tensor_cols(a, r, rows) : df_tensor_rows(a, r, rows), b, part },
				NULL),
			    DF_OK);
			v = test_values(be, part);
			same(whole + r * n, v, rows * n, "gemm", r);
			free(v);
			df_tensor_free(be, &part);
		}
	free(va);
	free(vb);
	free(whole);
	df_tensor_free(be, &a);
	df_tensor_free(be, &b);
	df_tensor_free(be, &c);
}

static void
gemm(void **state)
{
	static const size_t n[] = { 1, 7, 16, 33, 64, 300 }, k[] = { 1, 30, 64, 257, 700 };

	(void)state;
	for (size_t i = 0; i < 6; i++)
		for (size_t j = 0; j < 5; j++)
			for (int t = 0; t < 4; t++)
				gemm_of(n[i], k[j], t & 1, t & 2);
}

/* Activations of a type, rounded to it; v may be NULL. */
static struct df_tensor
act(enum df_dtype type, size_t rows, size_t cols, const float *v)
{
	struct df_tensor wide = test_tensor(be, rows, cols, v), t;

	if (type == DF_F32)
		return wide;
	assert_int_equal(df_tensor_alloc(be, &t, type, rows, cols, "test", NULL), DF_OK);
	if (v)
		assert_int_equal(df_copy(be, t, wide, NULL), DF_OK);
	df_tensor_free(be, &wide);
	return t;
}

/* A sample's attention, forward and backward, alone and behind another. */
static void
attention_of(enum df_dtype type, size_t E)
{
	enum { FIRST = 77, LEN = 141, H = 4, K = 2 };
	const size_t cols[] = { H * E, K * E, K * E, H * E }; /* q k v do */
	struct df_tensor both = test_indices(be, (uint32_t[]){ 0, FIRST, FIRST + LEN }, 3);
	struct df_tensor one = test_indices(be, (uint32_t[]){ 0, LEN }, 2);
	struct df_tensor in[4], out[2][5];

	for (uint32_t i = 0; i < 4; i++) {
		float *v = test_numbers(10 + i, (FIRST + LEN) * cols[i], 1);

		in[i] = act(type, FIRST + LEN, cols[i], v);
		free(v);
	}
	for (int alone = 0; alone < 2; alone++) {
		struct df_tensor *o = out[alone], x[4];
		size_t rows = alone ? LEN : FIRST + LEN;
		struct df_attn f;

		for (int i = 0; i < 4; i++)
			x[i] = alone ? df_tensor_rows(in[i], FIRST, LEN) : in[i];
		o[0] = act(type, rows, H * E, NULL);
		o[1] = test_tensor(be, rows, H, NULL);
		o[2] = act(type, rows, H * E, NULL);
		o[3] = act(type, rows, K * E, NULL);
		o[4] = act(type, rows, K * E, NULL);
		f = (struct df_attn){ x[0], x[1], x[2], o[0], o[1], alone ? one : both, H, K, 0, 0.25f, false };
		assert_int_equal(df_attn_fwd(be, &f, NULL), DF_OK);
		assert_int_equal(df_attn_bwd(be, &(struct df_attn_bwd){ f, x[3], o[2], o[3], o[4] }, NULL), DF_OK);
	}
	for (int i = 0; i < 5; i++) {
		float *a = test_values(be, out[0][i]), *b = test_values(be, out[1][i]);

		same(a + FIRST * out[0][i].cols, b, LEN * out[0][i].cols, "attention", (size_t)i);
		free(a);
		free(b);
		df_tensor_free(be, &out[0][i]);
		df_tensor_free(be, &out[1][i]);
	}
	for (int i = 0; i < 4; i++)
		df_tensor_free(be, &in[i]);
	df_tensor_free(be, &both);
	df_tensor_free(be, &one);
}
static void
attention(void **state)
{
	(void)state;
	attention_of(DF_F32, 16);
	attention_of(DF_F32, 13);
	if (df_backend_takes_bf16(be)) {
		attention_of(DF_BF16, 64);
		attention_of(DF_BF16, 13);
	}
}

/* The last token of each sample, decoded against the sample's keys: the forward's last row. */
static void
decoding_of(enum df_dtype type, size_t E)
{
	enum { T = 640, H = 6, K = 2 };
	static const uint32_t offsets[] = { 0, 300, 301, T };
	struct df_tensor seg = test_indices(be, offsets, 4), first = test_indices(be, (uint32_t[]){ 0, 300, 301 }, 3);
	struct df_tensor n = test_indices(be, (uint32_t[]){ 300, 1, T - 301 }, 3);
	struct df_tensor ends = test_indices(be, (uint32_t[]){ 299, 300, T - 1 }, 3);
	struct df_tensor in[3], o = act(type, T, H * E, NULL), lse = test_tensor(be, T, H, NULL);
	struct df_tensor q = act(type, 3, H * E, NULL), one = act(type, 3, H * E, NULL);
	float *all, *last;

	for (int i = 0; i < 3; i++) {
		const size_t cols = (i == 0 ? H : K) * E;
		float *v = test_numbers((uint32_t)(40 + i), T * cols, 2);

		in[i] = act(type, T, cols, v);
		free(v);
	}
	assert_int_equal(
	    df_attn_fwd(be, &(struct df_attn){ in[0], in[1], in[2], o, lse, seg, H, K, 0, 0.25f, false }, NULL), DF_OK);
	assert_int_equal(df_gather_rows(be, q, in[0], ends, NULL), DF_OK);
	assert_int_equal(
	    df_attn_decode(be, &(struct df_attn_decode){ q, one, in[1], in[2], first, n, H, K, 0, 0.25f }, NULL),
	    DF_OK);
	all = test_values(be, o);
	last = test_values(be, one);
	for (size_t s = 0; s < 3; s++)
		same(all + (offsets[s + 1] - 1) * H * E, last + s * H * E, H * E, "decoding", s);
	free(all);
	free(last);
	for (int i = 0; i < 3; i++)
		df_tensor_free(be, &in[i]);
	df_tensor_free(be, &o);
	df_tensor_free(be, &lse);
	df_tensor_free(be, &q);
	df_tensor_free(be, &one);
	df_tensor_free(be, &seg);
	df_tensor_free(be, &first);
	df_tensor_free(be, &n);
	df_tensor_free(be, &ends);
}
static void
decoding(void **state)
{
	static const size_t e[] = { 20, 64, 96, 128, 256 };

	(void)state;
	decoding_of(DF_F32, 20);
	decoding_of(DF_F32, 64);
	for (size_t i = 0; i < sizeof(e) / sizeof(e[0]) && df_backend_takes_bf16(be); i++)
		decoding_of(DF_BF16, e[i]);
}

/* Loss and dh of a row alone and among 300, over more than one tile of logits. */
static void
xent(void **state)
{
	enum { L = 300, D = 24, V = 4200 };
	float *vh = test_numbers(20, L * D, 2), *vw = test_numbers(21, V * D, 1), *vs = test_numbers(22, L, 1), *nll,
	      *dh;
	struct df_xent a = { .h = test_tensor(be, L, D, vh), .w = test_tensor(be, V, D, vw) };
	uint32_t target[L];

	(void)state;
	for (uint32_t i = 0; i < L; i++)
		target[i] = i * 13 % V;
	a.target = test_row(be, DF_U32, L, target);
	a.scale = test_row(be, DF_F32, L, vs);
	a.nll = test_row(be, DF_F32, L, NULL);
	a.dh = test_tensor(be, L, D, NULL);
	assert_int_equal(df_xent(be, &a, NULL), DF_OK);
	nll = test_values(be, a.nll);
	dh = test_values(be, a.dh);
	for (size_t i = 0; i < L; i += 23) {
		struct df_xent one = { .h = df_tensor_rows(a.h, i, 1), .w = a.w };
		float *v, *loss;

		one.target = df_tensor_cols(a.target, i, 1);
		one.scale = df_tensor_cols(a.scale, i, 1);
		one.nll = df_tensor_cols(a.nll, i, 1);
		one.dh = df_tensor_rows(a.dh, i, 1);
		assert_int_equal(df_fill(be, one.nll, 0, NULL), DF_OK);
		assert_int_equal(df_fill(be, one.dh, 0, NULL), DF_OK);
		assert_int_equal(df_xent(be, &one, NULL), DF_OK);
		loss = test_values(be, one.nll);
		v = test_values(be, one.dh);
		same(&nll[i], loss, 1, "nll", i);
		same(dh + i * D, v, D, "dh", i);
		free(loss);
		free(v);
	}
	free(vh);
	free(vw);
	free(vs);
	free(nll);
	free(dh);
	df_tensor_free(be, &a.h);
	df_tensor_free(be, &a.w);
	df_tensor_free(be, &a.target);
	df_tensor_free(be, &a.scale);
	df_tensor_free(be, &a.nll);
	df_tensor_free(be, &a.dh);
}

/* A segment's weight gradient of the norm, and a sample's projection. */
static void
segments(void **state)
{
	enum { T = 90, D = 70, N = 300, KP = 200 };
	const uint32_t offsets[] = { 0, 31, 32, T };
	struct df_tensor seg = test_indices(be, offsets, 4);
	float *vx = test_numbers(30, T * D, 1), *vg = test_numbers(31, T * D, 1), *vp = test_numbers(32, 5 * N, 1), *dw,
	      *dx;
	float *y;
	struct df_tensor x = test_tensor(be, T, D, vx), dy = test_tensor(be, T, D, vg), w = test_tensor(be, 1, D, vg);
	struct df_tensor rstd = test_tensor(be, T, 1, vg), d = test_tensor(be, T, D, vx),
			 s = test_tensor(be, 3, D, NULL);
	struct df_tensor g = test_tensor(be, 5, N, vp), p = test_tensor(be, 5, KP, vp);
	struct df_project proj = { DF_PROJ_RADEMACHER, g, p, 0, 42, 0, 4, 0 };

	(void)state;
	assert_int_equal(
	    df_rmsnorm_bwd(be, &(struct df_rmsnorm_bwd){ x, w, rstd, dy, d, s, seg, false, 0, false }, NULL), DF_OK);
	dw = test_values(be, s);
	dx = test_values(be, d);
	for (size_t i = 0; i < 3; i++) {
		size_t n = offsets[i + 1] - offsets[i], r = offsets[i];
		struct df_tensor dn = test_tensor(be, n, D, vx + r * D), s1 = test_tensor(be, 1, D, NULL);
		float *v, *u;

		assert_int_equal(df_rmsnorm_bwd(be,
				     &(struct df_rmsnorm_bwd){ df_tensor_rows(x, r, n), w, df_tensor_rows(rstd, r, n),
					 df_tensor_rows(dy, r, n), dn, s1, DF_TENSOR_NONE, false, 0, false },
				     NULL),
		    DF_OK);
		v = test_values(be, s1);
		u = test_values(be, dn);
		same(dw + i * D, v, D, "rmsnorm dw", i);
		same(dx + r * D, u, n * D, "rmsnorm dx", i);
		free(v);
		free(u);
		df_tensor_free(be, &dn);
		df_tensor_free(be, &s1);
	}
	for (int type = 0; type < 2; type++) {
		assert_int_equal(df_upload(be, p, vp, NULL), DF_OK);
		proj = (struct df_project){ type ? DF_PROJ_SJLT : DF_PROJ_RADEMACHER, g, p, 0, 42, 0, 4, 0 };
		assert_int_equal(df_project(be, &proj, NULL), DF_OK);
		y = test_values(be, p);
		for (size_t i = 0; i < 5; i++) {
			float *v;
			struct df_tensor p1 = test_tensor(be, 1, KP, vp + i * KP);

			proj.g = df_tensor_rows(g, i, 1);
			proj.y = p1;
			assert_int_equal(df_project(be, &proj, NULL), DF_OK);
			v = test_values(be, p1);
			same(y + i * KP, v, KP, "projection", i);
			free(v);
			df_tensor_free(be, &p1);
		}
		free(y);
	}
	free(vx);
	free(vg);
	free(vp);
	free(dw);
	free(dx);
	df_tensor_free(be, &seg);
	df_tensor_free(be, &x);
	df_tensor_free(be, &dy);
	df_tensor_free(be, &w);
	df_tensor_free(be, &rstd);
	df_tensor_free(be, &d);
	df_tensor_free(be, &s);
	df_tensor_free(be, &g);
	df_tensor_free(be, &p);
}

/* Segments in one call: each with the bits of the operation on its rows alone. */
static void
one_call(void **state)
{
	enum { T = 300, M = 30, N = 300, S = 5 };
	static const uint32_t offsets[] = { 0, 31, 32, 32, 290, T }, halves[] = { 9, 1, 8, 2, 7, 3, 6, 4, 5, 5 };
	float *va = test_numbers(50, T * M, 1), *vb = test_numbers(51, T * N, 1), *sums, *products, *dropped;
	struct df_tensor a = test_tensor(be, T, M, va), b = test_tensor(be, T, N, vb),
			 c = test_tensor(be, S, M * N, NULL);
	struct df_tensor sum = test_tensor(be, S, N, NULL), y = test_tensor(be, T, N, NULL);
	struct df_tensor seg = test_indices(be, offsets, S + 1),
			 key = df_tensor_view(test_indices(be, halves, 2 * S), 0, S, 2);
	struct df_dropout drop = { b, y, seg, DF_TENSOR_NONE, seg, key, 3, 0.4f };

	(void)state;
	assert_int_equal(df_gemm_segments(be, &(struct df_gemm_segments){ 0.3f, a, b, c, seg }, NULL), DF_OK);
	assert_int_equal(df_colsum_segments(be, b, seg, sum, NULL), DF_OK);
	assert_int_equal(df_dropout(be, &drop, NULL), DF_OK);
	products = test_values(be, c);
	sums = test_values(be, sum);
	dropped = test_values(be, y);
	for (size_t s = 0; s < S; s++) {
		const size_t r = offsets[s], n = offsets[s + 1] - r;
		struct df_tensor alone = test_indices(be, (uint32_t[]){ 0, (uint32_t)n }, 2);
		struct df_tensor as = df_tensor_rows(a, r, n), bs = df_tensor_rows(b, r, n),
				 cs = test_tensor(be, M, N, NULL);
		struct df_tensor row = test_tensor(be, 1, N, NULL), ys = test_tensor(be, n, N, NULL);
		float *v;

		assert_int_equal(df_gemm(be, &(struct df_gemm){ true, false, 0.3f, 0, as, bs, cs }, NULL), DF_OK);
		v = test_values(be, cs);
		same(products + s * M * N, v, M * N, "product of a segment", s);
		free(v);
		assert_int_equal(df_colsum(be, bs, row, false, NULL), DF_OK);
		v = test_values(be, row);
		same(sums + s * N, v, N, "sum of a segment", s);
		free(v);
		drop = (struct df_dropout){ bs, ys, alone, DF_TENSOR_NONE, alone, df_tensor_rows(key, s, 1), 3, 0.4f };
		assert_int_equal(df_dropout(be, &drop, NULL), DF_OK);
		v = test_values(be, ys);
		same(dropped + r * N, v, n * N, "dropout of a sample", s);
		free(v);
		df_tensor_free(be, &cs);
		df_tensor_free(be, &row);
		df_tensor_free(be, &ys);
		df_tensor_free(be, &alone);
	}
	free(va);
	free(vb);
	free(products);
	free(sums);
	free(dropped);
	df_tensor_free(be, &a);
	df_tensor_free(be, &b);
	df_tensor_free(be, &c);
	df_tensor_free(be, &sum);
	df_tensor_free(be, &y);
	df_tensor_free(be, &seg);
	df_tensor_free(be, &key);
}

/* Pieces in one call: the bits of a call for each, the last first. */
static void
pieces(void **state)
{
	enum { S = 3, N = 700, K = 200, PIECE = 300 };
	float *vg = test_numbers(60, S * N, 1), *vy = test_numbers(61, S * K, 1);
	struct df_tensor g = test_tensor(be, S, N, vg), y = test_tensor(be, S, K, vy);

	(void)state;
	for (int type = 0; type < 2; type++) {
		struct df_project p = { type ? DF_PROJ_SJLT : DF_PROJ_RADEMACHER, g, y, 11, 42, 0, 4, PIECE };
		float *whole, *parts;

		assert_int_equal(df_upload(be, y, vy, NULL), DF_OK);
		assert_int_equal(df_project(be, &p, NULL), DF_OK);
		whole = test_values(be, y);
		assert_int_equal(df_upload(be, y, vy, NULL), DF_OK);
		p.piece = 0;
		for (size_t first = 2 * PIECE, end = N;; end = first, first -= PIECE) {
			p.g = df_tensor_cols(g, first, end - first);
			p.first = 11 + first;
			assert_int_equal(df_project(be, &p, NULL), DF_OK);
			if (first == 0)
				break;
		}
		parts = test_values(be, y);
		same(whole, parts, S * K, "projection of pieces", 0);
		free(whole);
		free(parts);
	}
	free(vg);
	free(vy);
	df_tensor_free(be, &g);
	df_tensor_free(be, &y);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gemm),
		cmocka_unit_test(attention),
		cmocka_unit_test(decoding),
		cmocka_unit_test(xent),
		cmocka_unit_test(segments),
		cmocka_unit_test(one_call),
		cmocka_unit_test(pieces),
	};
	int rc;

	if (df_pool_new(&pool, 2, NULL) != DF_OK)
		return 1;
	be = test_backend(NULL, pool);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	df_backend_close(be);
	df_pool_free(pool);
	return rc;
}
