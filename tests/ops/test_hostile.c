/*
 * test_hostile.c - wrong arguments are errors with a message, never a crash,
 * and touch nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

static struct df_backend *be, *other;

/* call fails with `code` and a message. */
#define REFUSES(code, call)                                                                     \
	do {                                                                                    \
		struct df_err refused = DF_ERR_INIT, *err = &refused;                           \
		int refused_rc = (call);                                                        \
		if (refused_rc != (code) || refused.msg[0] == '\0')                             \
			fail_msg("%s: %d '%s', not %s", #call, refused_rc, refused.msg, #code); \
	} while (0)

static struct df_tensor a, b, c, row, foreign, half, bytes;

static void
shapes(void **state)
{
	struct df_tensor none = DF_TENSOR_NONE, out = a;

	(void)state;
	REFUSES(DF_EINTERNAL, df_gemm(be, &(struct df_gemm){ false, false, 1, 0, a, b, c }, err));
	REFUSES(DF_EINTERNAL, df_gemm(be, &(struct df_gemm){ false, true, 1, 0, a, b, none }, err));
	REFUSES(DF_EINTERNAL, df_gemm(be, &(struct df_gemm){ false, true, 1, 0, a, foreign, c }, err));
	REFUSES(DF_EINTERNAL, df_gemm(be, &(struct df_gemm){ false, true, 1, 0, a, bytes, c }, err));
	REFUSES(DF_EINTERNAL, df_gemm(be, NULL, err));
	REFUSES(DF_EINTERNAL, df_gemm(NULL, &(struct df_gemm){ false, true, 1, 0, a, b, c }, err));
	REFUSES(DF_EINTERNAL, df_axpy(be, 1, a, c, err));
	REFUSES(DF_EINTERNAL, df_copy(be, a, c, err));
	REFUSES(DF_EINTERNAL, df_copy(be, none, none, err));
	REFUSES(DF_EINTERNAL, df_bias_add(be, a, b, err));
	REFUSES(DF_EINTERNAL, df_colsum(be, a, b, false, err));
	REFUSES(DF_EINTERNAL, df_sumsq(be, a, none, err));
	REFUSES(DF_EINTERNAL, df_sumsq(be, a, df_tensor_view(a, 0, 1, 1), err));
	REFUSES(DF_EINTERNAL, df_fill(be, none, 0, err));
	REFUSES(DF_EINTERNAL, df_swiglu_fwd(be, a, a, c, err));
	REFUSES(DF_EINTERNAL, df_rmsnorm_fwd(be, &(struct df_rmsnorm){ 0, a, a, a, a, 0 }, err));
	REFUSES(DF_EINTERNAL, df_rmsnorm_fwd(be, &(struct df_rmsnorm){ 0, a, a, a, row, 4 }, err));
	REFUSES(DF_EINTERNAL, df_layernorm_fwd(be, &(struct df_layernorm){ 0, a, b, b, a }, err));
	REFUSES(DF_EINTERNAL, df_gelu_fwd(be, a, c, err));
	REFUSES(DF_EINTERNAL, df_route_fwd(be, &(struct df_route){ a, c, a, bytes, false }, err));
	REFUSES(DF_EINTERNAL, df_route_fwd(be, &(struct df_route){ a, a, a, none, false }, err));
	REFUSES(DF_EINTERNAL, df_row_scale(be, a, a, a, err));
	REFUSES(DF_EINTERNAL, df_row_dot(be, a, a, a, err));
	REFUSES(DF_EINTERNAL, df_sigmoid_fwd(be, a, c, err));
	REFUSES(DF_EINTERNAL, df_sigmoid_bwd(be, a, a, c, err));
	REFUSES(DF_EINTERNAL, df_gemm(be, &(struct df_gemm){ false, true, 1, 0, half, b, c }, err));
	REFUSES(DF_EINTERNAL, df_upload(be, none, "", err));
	REFUSES(DF_EINTERNAL, df_upload(be, a, NULL, err));
	REFUSES(DF_EINTERNAL, df_download(be, NULL, a, err));
	out.rows = 1000; /* windows that reach outside */
	REFUSES(DF_EINTERNAL, df_scale(be, 1, out, err));
	out = a;
	out.off = SIZE_MAX - 3;
	REFUSES(DF_EINTERNAL, df_scale(be, 1, out, err));
	out = a;
	out.ld = SIZE_MAX / 2;
	REFUSES(DF_EINTERNAL, df_scale(be, 1, out, err));
	out = a;
	out.ld = 1;
	REFUSES(DF_EINTERNAL, df_scale(be, 1, out, err));
	REFUSES(DF_ERANGE, df_tensor_alloc(be, &out, DF_F32, SIZE_MAX / 2, 3, "x", err));
	REFUSES(DF_ENOMEM, df_tensor_alloc(be, &out, DF_F32, SIZE_MAX / 64, 1, "x", err));
	REFUSES(DF_EINTERNAL, df_adamw(be, &(struct df_adamw){ .w = a, .g = a, .m = a, .v = a, .step = 0 }, err));
	REFUSES(DF_EINTERNAL, df_adam_form(be, &(struct df_adam_form){ .g = a, .m = a, .v = a }, err));
	REFUSES(DF_EINTERNAL, df_sync(NULL, err));
}

/* a is [4,6], b [3,6], c [4,3]: numbers of rows that do not exist. */
static void
ids(void **state)
{
	const uint32_t id[4] = { 0, 2, 1, 3 };
	struct df_tensor none = DF_TENSOR_NONE, out = test_tensor(be, 4, 6, NULL), wide = test_tensor(be, 4, 4, NULL);
	struct df_tensor ids4 = test_indices(be, id, 4), ids3 = df_tensor_cols(ids4, 0, 3);
	struct df_tensor pos = test_indices(be, (uint32_t[]){ 0, 1, 4, 0 }, 4);

	(void)state;
	REFUSES(DF_EINTERNAL, df_embed_fwd(be, out, b, ids4, err));
	REFUSES(DF_EINTERNAL, df_embed_bwd(be, b, a, ids4, err));
	REFUSES(DF_EINTERNAL, df_gather_rows(be, out, b, ids4, err));
	REFUSES(DF_EINTERNAL, df_scatter_rows(be, b, a, ids4, err));
	REFUSES(DF_EINTERNAL, df_embed_fwd(be, out, b, ids3, err));
	REFUSES(DF_EINTERNAL, df_embed_fwd(be, out, b, none, err));
	REFUSES(DF_EINTERNAL, df_embed_fwd(be, out, b, df_tensor_as(wide, DF_F32, 1, 4), err));
	REFUSES(DF_EINTERNAL, df_embed_fwd(be, out, b, df_tensor_view(ids4, 0, 4, 1), err));
	REFUSES(DF_EINTERNAL, df_rope(be, &(struct df_rope){ a, c, c, pos, 1, false }, err));
	REFUSES(DF_EINTERNAL, df_rope(be, &(struct df_rope){ a, c, c, ids4, 5, false }, err));
	REFUSES(DF_EINTERNAL, df_rope(be, &(struct df_rope){ a, c, c, ids3, 1, false }, err));
	REFUSES(DF_EINTERNAL, df_rope(be, &(struct df_rope){ a, c, c, none, 1, false }, err));
	df_tensor_free(be, &out);
	df_tensor_free(be, &wide);
	df_tensor_free(be, &ids4);
	df_tensor_free(be, &pos);
}

/* h is a [4,6], w is b [3,6]: each tensor in turn is missing, misshapen or of another type; a target does not exist. */
static void
cross_entropy(void **state)
{
	struct df_xent good = { .h = a, .w = b, .dh = a, .dw = b }, x;
	struct df_tensor *const t[] = { &x.target, &x.nll, &x.scale, &x.dh, &x.lse, &x.correct, &x.dw, &x.dlogits };

	(void)state;
	good.target = test_row(be, DF_U32, 4, (uint32_t[]){ 0, 2, 1, 2 });
	good.nll = test_row(be, DF_F32, 4, NULL);
	good.lse = test_row(be, DF_F32, 4, NULL);
	good.scale = test_row(be, DF_F32, 4, (float[]){ 1, 1, 1, 1 });
	good.correct = test_row(be, DF_U8, 4, NULL);
	good.dlogits = c;
	good.dh = test_tensor(be, 4, 6, NULL);
	good.dw = test_tensor(be, 3, 6, NULL);
	assert_int_equal(df_xent(be, &good, NULL), DF_OK);
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		if (i < 4) {
			x = good;
			*t[i] = DF_TENSOR_NONE;
			REFUSES(DF_EINTERNAL, df_xent(be, &x, err));
		}
		x = good;
		t[i]->cols--;
		REFUSES(DF_EINTERNAL, df_xent(be, &x, err));
		x = good;
		t[i]->type = DF_I64;
		REFUSES(DF_EINTERNAL, df_xent(be, &x, err));
		x = good;
		t[i]->off += 1000;
		REFUSES(DF_EINTERNAL, df_xent(be, &x, err));
	}
	x = good;
	x.lse = DF_TENSOR_NONE;
	REFUSES(DF_EINTERNAL, df_xent_bwd(be, &x, err));
	x = good;
	x.w = df_tensor_rows(b, 0, 2);
	x.dw = df_tensor_rows(good.dw, 0, 2);
	x.dlogits = DF_TENSOR_NONE;
	REFUSES(DF_EINTERNAL, df_xent(be, &x, err));
	REFUSES(DF_EINTERNAL, df_xent_fwd(be, NULL, err));
	df_tensor_free(be, &good.target);
	df_tensor_free(be, &good.nll);
	df_tensor_free(be, &good.lse);
	df_tensor_free(be, &good.scale);
	df_tensor_free(be, &good.correct);
	df_tensor_free(be, &good.dh);
	df_tensor_free(be, &good.dw);
}

/* A clip of the wrong shape or type, a norm that is none. */
static void
clipping(void **state)
{
	struct df_tensor s = test_row(be, DF_F64, 3, NULL), one = df_tensor_cols(s, 0, 1),
			 two = df_tensor_cols(s, 1, 2);
	struct df_adamw u = { .w = a, .g = a, .m = a, .v = a, .clip = one, .step = 1 };

	(void)state;
	REFUSES(DF_EINTERNAL, df_clip(be, &(struct df_clip){ two, two, 1 }, err));
	REFUSES(DF_EINTERNAL, df_clip(be, &(struct df_clip){ one, one, 1 }, err));
	REFUSES(DF_EINTERNAL, df_clip(be, &(struct df_clip){ one, df_tensor_view(a, 0, 1, 2), 1 }, err));
	REFUSES(DF_EINTERNAL, df_clip(be, &(struct df_clip){ one, two, -1 }, err));
	REFUSES(DF_EINTERNAL, df_clip(be, &(struct df_clip){ one, two, NAN }, err));
	REFUSES(DF_EINTERNAL, df_adamw(be, &u, err));
	u.clip = df_tensor_view(a, 0, 1, 2);
	REFUSES(DF_EINTERNAL, df_adamw(be, &u, err));
	df_tensor_free(be, &s);
}

static void
offsets(void **state)
{
	struct df_tensor beyond = test_indices(be, (uint32_t[]){ 0, 5 }, 2);
	struct df_tensor backwards = test_indices(be, (uint32_t[]){ 0, 3, 2, 4 }, 4);
	struct df_tensor late = test_indices(be, (uint32_t[]){ 1, 4 }, 2),
			 good = test_indices(be, (uint32_t[]){ 0, 4 }, 2);
	struct df_tensor o = test_tensor(be, 4, 6, NULL), lse = test_tensor(be, 4, 1, NULL);
	struct df_attn f = { a, a, a, o, lse, DF_TENSOR_NONE, 1, 1, 0, 1, false };

	(void)state;
	REFUSES(DF_EINTERNAL, df_attn_fwd(be, &f, err));
	f.offsets = beyond;
	REFUSES(DF_EINTERNAL, df_attn_fwd(be, &f, err));
	f.offsets = late;
	REFUSES(DF_EINTERNAL, df_attn_fwd(be, &f, err));
	f.offsets = backwards;
	REFUSES(DF_EINTERNAL, df_attn_fwd(be, &f, err));
	f.offsets = df_tensor_cols(good, 0, 0);
	REFUSES(DF_EINTERNAL, df_attn_fwd(be, &f, err));
	f.offsets = good;
	f.bidirectional = true;
	f.window = 2;
	REFUSES(DF_EINTERNAL, df_attn_fwd(be, &f, err));
	f.window = 0;
	REFUSES(DF_EINTERNAL, df_attn_bwd(be, &(struct df_attn_bwd){ f, a, c, c, c }, err));
	f.n_heads = 0;
	REFUSES(DF_EINTERNAL, df_attn_fwd(be, &f, err));
	f.n_heads = 3;
	f.n_kv_heads = 2;
	REFUSES(DF_EINTERNAL, df_attn_bwd(be, &(struct df_attn_bwd){ .fwd = f }, err));
	REFUSES(DF_EINTERNAL,
	    df_rmsnorm_bwd(be, &(struct df_rmsnorm_bwd){ a, row, row, a, a, row, good, false, 0, false }, err));
	for (int i = 0; i < 2; i++) {
		struct df_tensor w = test_tensor(be, 1, 6, NULL), dw = test_tensor(be, 1, 6, NULL);
		const struct df_rmsnorm_bwd b6 = { a, w, row, a, o, dw, i ? late : beyond, false, 0, false };

		REFUSES(DF_EINTERNAL, df_rmsnorm_bwd(be, &b6, err));
		df_tensor_free(be, &w);
		df_tensor_free(be, &dw);
	}
	df_tensor_free(be, &beyond);
	df_tensor_free(be, &backwards);
	df_tensor_free(be, &late);
	df_tensor_free(be, &good);
	df_tensor_free(be, &o);
	df_tensor_free(be, &lse);
}

static void
segments(void **state)
{
	struct df_tensor none = DF_TENSOR_NONE, beyond = test_indices(be, (uint32_t[]){ 0, 5 }, 2);
	struct df_tensor backwards = test_indices(be, (uint32_t[]){ 0, 3, 2, 4 }, 4);
	struct df_tensor late = test_indices(be, (uint32_t[]){ 1, 4 }, 2);
	struct df_tensor good = test_indices(be, (uint32_t[]){ 0, 4 }, 2);
	struct df_tensor product = test_tensor(be, 1, 18, NULL), y = test_tensor(be, 4, 6, NULL);
	struct df_tensor key = df_tensor_view(good, 0, 1, 2), early = test_indices(be, (uint32_t[]){ 1, 1, 2, 3 }, 4);
	struct df_dropout drop = { a, y, good, none, good, key, 1, 0.1f };

	(void)state;
	/* a [4,6] with itself makes 36 numbers a segment, with c [4,3] 18. */
	REFUSES(DF_EINTERNAL, df_gemm_segments(be, NULL, err));
	REFUSES(DF_EINTERNAL, df_gemm_segments(be, &(struct df_gemm_segments){ 1, a, a, product, good }, err));
	REFUSES(DF_EINTERNAL, df_gemm_segments(be, &(struct df_gemm_segments){ 1, a, b, product, good }, err));
	REFUSES(DF_EINTERNAL, df_gemm_segments(be, &(struct df_gemm_segments){ 1, a, c, product, none }, err));
	REFUSES(DF_EINTERNAL, df_gemm_segments(be, &(struct df_gemm_segments){ 1, a, c, product, row }, err));
	REFUSES(DF_EINTERNAL, df_gemm_segments(be, &(struct df_gemm_segments){ 1, a, c, product, backwards }, err));
	REFUSES(DF_EINTERNAL, df_gemm_segments(be, &(struct df_gemm_segments){ 1, a, c, product, beyond }, err));
	REFUSES(DF_EINTERNAL, df_gemm_segments(be, &(struct df_gemm_segments){ 1, a, c, product, late }, err));
	assert_int_equal(df_gemm_segments(be, &(struct df_gemm_segments){ 1, a, c, product, good }, NULL), DF_OK);
	REFUSES(DF_EINTERNAL, df_colsum_segments(be, a, beyond, df_tensor_rows(y, 0, 1), err));
	REFUSES(DF_EINTERNAL, df_colsum_segments(be, a, backwards, df_tensor_rows(y, 0, 3), err));
	REFUSES(DF_EINTERNAL, df_colsum_segments(be, a, none, df_tensor_rows(y, 0, 1), err));
	REFUSES(DF_EINTERNAL, df_colsum_segments(be, a, good, c, err));
	assert_int_equal(df_dropout(be, &drop, NULL), DF_OK);
	drop.token = early; /* row 0 is token 1 */
	assert_int_equal(df_dropout(be, &drop, NULL), DF_OK);
	drop.token_offsets = late;
	assert_int_equal(df_dropout(be, &drop, NULL), DF_OK);
	drop.token = none; /* row 0 is token 0, the sample begins at 1 */
	REFUSES(DF_EINTERNAL, df_dropout(be, &drop, err));
	drop.token_offsets = backwards;
	REFUSES(DF_EINTERNAL, df_dropout(be, &drop, err));
	drop.token_offsets = drop.offsets;
	drop.offsets = beyond;
	REFUSES(DF_EINTERNAL, df_dropout(be, &drop, err));
	drop.offsets = good;
	drop.token = good;
	REFUSES(DF_EINTERNAL, df_dropout(be, &drop, err));
	drop.token = none;
	drop.key = none;
	REFUSES(DF_EINTERNAL, df_dropout(be, &drop, err));
	drop.key = key;
	drop.x = c;
	REFUSES(DF_EINTERNAL, df_dropout(be, &drop, err));
	drop.x = a;
	drop.p = 1;
	REFUSES(DF_ERANGE, df_dropout(be, &drop, err));
	drop.p = -0.1f;
	REFUSES(DF_ERANGE, df_dropout(be, &drop, err));
	df_tensor_free(be, &beyond);
	df_tensor_free(be, &backwards);
	df_tensor_free(be, &late);
	df_tensor_free(be, &good);
	df_tensor_free(be, &early);
	df_tensor_free(be, &product);
	df_tensor_free(be, &y);
}

/* A window of another type lies within the same bytes, and is aligned. */
static void
types(void **state)
{
	struct df_tensor t = test_tensor(be, 1, 5, NULL), one = df_tensor_cols(t, 1, 1);

	(void)state;
	REFUSES(DF_EINTERNAL, df_fill(be, df_tensor_as(t, DF_BF16, 1, 11), 0, err)); /* 22 of 20 bytes */
	assert_int_equal(df_fill(be, df_tensor_as(t, DF_BF16, 2, 5), 1, NULL), DF_OK);
	REFUSES(DF_EINTERNAL, df_upload(be, df_tensor_as(one, DF_F64, 1, 1), "12345678", err));
	REFUSES(DF_EINTERNAL, df_upload(be, df_tensor_as(t, DF_F64, SIZE_MAX / 8, 2), "12345678", err));
	one.type = (enum df_dtype)99;
	REFUSES(DF_EINTERNAL, df_upload(be, one, "12345678", err));
	df_tensor_free(be, &t);
}

/* What is borrowed is only read, and is no part of the backend's memory where it is used in place. */
static void
borrowed(void **state)
{
	uint16_t v[8] = { 0x3f80, 0x4000, 0x4040, 0x4080, 0x3f80, 0x4000, 0x4040, 0x4080 };
	const uint16_t before[8] = { 0x3f80, 0x4000, 0x4040, 0x4080, 0x3f80, 0x4000, 0x4040, 0x4080 };
	size_t peak;
	const bool copies = strcmp(df_backend_name(be), "poison") == 0;
	struct df_tensor t, odd;
	float x[8], big[6];
	struct df_tensor wide;

	(void)state;
	REFUSES(DF_EINTERNAL, df_tensor_borrow(be, NULL, DF_BF16, 2, 4, v, "v", err));
	REFUSES(DF_EINTERNAL, df_tensor_borrow(be, &t, DF_BF16, 2, 4, NULL, "v", err));
	REFUSES(DF_ERANGE, df_tensor_borrow(be, &t, DF_BF16, SIZE_MAX, 4, v, "v", err));
	peak = df_backend_peak_bytes(be);
	assert_int_equal(df_tensor_borrow(be, &t, DF_BF16, 2, 4, v, "v", NULL), DF_OK);
	assert_true(copies || df_backend_peak_bytes(be) == peak);
	REFUSES(DF_EINTERNAL, df_fill(be, t, 0, err));
	REFUSES(DF_EINTERNAL, df_copy(be, t, t, err));
	REFUSES(DF_EINTERNAL, df_upload(be, t, v, err));
	wide = test_tensor(be, 2, 4, NULL);
	assert_int_equal(df_copy(be, wide, t, NULL), DF_OK);
	assert_int_equal(df_download(be, x, wide, NULL), DF_OK);
	df_tensor_free(be, &wide);
	for (int i = 0; i < 8; i++)
		assert_true(x[i] == (float)(i % 4 + 1));
	df_tensor_free(be, &t);
	assert_null(t.mem);
	assert_memory_equal(v, before, sizeof(v));
	/* An address that no f32 may have: read as well, by a copy. */
	memcpy((char *)big + 2, x, 5 * sizeof(float));
	assert_int_equal(df_tensor_borrow(be, &odd, DF_F32, 1, 5, (char *)big + 2, "odd", NULL), DF_OK);
	REFUSES(DF_EINTERNAL, df_scale(be, 2, odd, err));
	memset(x, 0, sizeof(x));
	assert_int_equal(df_download(be, x, odd, NULL), DF_OK);
	assert_true(x[0] == 1 && x[4] == 1);
	df_tensor_free(be, &odd);
}

static void
decoding(void **state)
{
	uint32_t n[4] = { 1, 1, 2, 3 };
	struct df_tensor first = test_indices(be, (uint32_t[]){ 0, 1, 2, 0 }, 4), num = test_indices(be, n, 4);
	struct df_tensor o = test_tensor(be, 4, 6, NULL);
	struct df_attn_decode d = { a, o, b, b, first, num, 2, 2, 0, 1 };
	struct df_tensor two = df_tensor_rows(b, 0, 2);

	(void)state;
	REFUSES(DF_EINTERNAL, df_attn_decode(be, &d, err)); /* sequence 2 ends after the last row */
	n[2] = 0;
	assert_int_equal(df_upload(be, num, n, NULL), DF_OK);
	REFUSES(DF_EINTERNAL, df_attn_decode(be, &d, err));
	n[2] = UINT32_MAX;
	assert_int_equal(df_upload(be, num, n, NULL), DF_OK);
	REFUSES(DF_EINTERNAL, df_attn_decode(be, &d, err));
	n[2] = 1;
	assert_int_equal(df_upload(be, num, n, NULL), DF_OK);
	assert_int_equal(df_attn_decode(be, &d, NULL), DF_OK);
	d.v = two;
	REFUSES(DF_EINTERNAL, df_attn_decode(be, &d, err));
	d.v = b;
	d.n_kv_heads = 0;
	REFUSES(DF_EINTERNAL, df_attn_decode(be, &d, err));
	d.n_kv_heads = 1;
	REFUSES(DF_EINTERNAL, df_attn_decode(be, &d, err));
	d.n_kv_heads = 2;
	d.n = DF_TENSOR_NONE;
	REFUSES(DF_EINTERNAL, df_attn_decode(be, &d, err));
	df_tensor_free(be, &first);
	df_tensor_free(be, &num);
	df_tensor_free(be, &o);
}

static void
projections(void **state)
{
	struct df_project p = { DF_PROJ_SJLT, a, c, 0, 1, 0, 0, 0 };

	(void)state;
	REFUSES(DF_ERANGE, df_project(be, &p, err));
	p.sparsity = 4;
	REFUSES(DF_ERANGE, df_project(be, &p, err));
	p.sparsity = 1;
	p.first = UINT64_MAX;
	REFUSES(DF_EINTERNAL, df_project(be, &p, err));
	p.first = 0;
	p.y = b;
	REFUSES(DF_EINTERNAL, df_project(be, &p, err));
	p.y = c;
	p.type = (enum df_projection_type)9;
	REFUSES(DF_EUNSUPPORTED, df_project(be, &p, err));
}

/* Groups whose rows do not fit, and lists of other shapes: a [4,6] has the rows, c [4,3] gets them. */
static void
groups(void **state)
{
	static const uint32_t first[][3] = { { 0, 3, 4 }, { 1, 3, 4 }, { 0, 3, 3 }, { 0, 5, 4 }, { 0, 4, 9 } };
	struct df_tensor list[] = { b, b }, sums[] = { a, a }, at = test_u32(be, 1, 3, first[0]);
	struct df_gemm_groups g = { true, 1, 0, a, c, at, list, 2 };
	struct df_gemm_group_sums s = { 1, 0, a, c, at, sums, 2 };

	(void)state;
	REFUSES(DF_EINTERNAL, df_gemm_group_sums(be, &s, err)); /* 6 x 3 into 4 x 6 */
	for (size_t i = 1; i < sizeof(first) / sizeof(first[0]); i++) {
		assert_int_equal(df_upload(be, at, first[i], NULL), DF_OK);
		REFUSES(DF_EINTERNAL, df_gemm_groups(be, &g, err));
	}
	g.n = 3;
	REFUSES(DF_EINTERNAL, df_gemm_groups(be, &g, err));
	g.n = 0;
	REFUSES(DF_EINTERNAL, df_gemm_groups(be, &g, err));
	g.n = 2;
	g.tb = false;
	REFUSES(DF_EINTERNAL, df_gemm_groups(be, &g, err));
	g.tb = true;
	list[1] = foreign;
	REFUSES(DF_EINTERNAL, df_gemm_groups(be, &g, err));
	list[1] = bytes;
	REFUSES(DF_EINTERNAL, df_gemm_groups(be, &g, err));
	list[1] = b;
	g.first = a;
	REFUSES(DF_EINTERNAL, df_gemm_groups(be, &g, err));
	g.first = DF_TENSOR_NONE;
	REFUSES(DF_EINTERNAL, df_gemm_groups(be, &g, err));
	df_tensor_free(be, &at);
}

static void
plans(void **state)
{
	const uint32_t chosen[] = { 0, 1, 2, 0 }, offsets[] = { 0, 1, 2 }, over[] = { 0, 1, 3 };
	struct df_route_plan p = { .expert = test_u32(be, 2, 2, chosen),
		.offsets = test_u32(be, 1, 3, offsets),
		.n_experts = 3,
		.row = test_u32(be, 1, 4, NULL),
		.slot = test_u32(be, 1, 4, NULL),
		.row_token = test_u32(be, 1, 4, NULL),
		.first = test_u32(be, 1, 4, NULL),
		.seg = test_u32(be, 1, 9, NULL) };
	struct df_tensor *all[] = { &p.expert, &p.offsets, &p.row, &p.slot, &p.row_token, &p.first, &p.seg };

	(void)state;
	assert_int_equal(df_route_plan(be, &p, NULL), DF_OK);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const struct df_tensor t = *all[i];

		*all[i] = i == 0 ? df_tensor_rows(t, 0, 1) : df_tensor_cols(t, 0, 2);
		REFUSES(DF_EINTERNAL, df_route_plan(be, &p, err));
		*all[i] = t;
	}
	assert_int_equal(df_upload(be, p.offsets, over, NULL), DF_OK);
	REFUSES(DF_EINTERNAL, df_route_plan(be, &p, err));
	assert_int_equal(df_upload(be, p.offsets, offsets, NULL), DF_OK);
	assert_int_equal(df_upload(be, p.expert, (uint32_t[]){ 0, 1, 3, 0 }, NULL), DF_OK);
	REFUSES(DF_EINTERNAL, df_route_plan(be, &p, err));
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		df_tensor_free(be, all[i]);
}

/* Of a model that diverged the router gives no numbers: rows go to experts that exist, k different ones. */
static void
routing_of_nan(void **state)
{
	static const char *const names[] = { "cpu", "reference" };
	const float v[] = { NAN, 1, 2, NAN, 0, NAN, NAN, NAN, NAN, NAN };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct df_backend *on = test_backend(names[i], NULL);
		struct df_tensor logits = test_tensor(on, 2, 5, v), weight = test_tensor(on, 2, 3, v);
		struct df_tensor chosen = test_u32(on, 2, 3, NULL);
		uint32_t expert[6];

		assert_int_equal(
		    df_route_fwd(on, &(struct df_route){ logits, logits, weight, chosen, true }, NULL), DF_OK);
		assert_int_equal(df_download(on, expert, chosen, NULL), DF_OK);
		for (size_t t = 0; t < 2; t++) {
			const uint32_t *e = expert + 3 * t;

			assert_true(e[0] < 5 && e[1] < 5 && e[2] < 5);
			assert_true(e[0] != e[1] && e[0] != e[2] && e[1] != e[2]);
		}
		df_tensor_free(on, &logits);
		df_tensor_free(on, &weight);
		df_tensor_free(on, &chosen);
		df_backend_close(on);
	}
}

/* After all that was refused, a is what it was. */
static void
nothing_was_touched(void **state)
{
	float *va = test_values(be, a), *want = test_numbers(1, 24, 1);

	(void)state;
	assert_memory_equal(va, want, 24 * sizeof(float));
	free(va);
	free(want);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shapes),
		cmocka_unit_test(ids),
		cmocka_unit_test(cross_entropy),
		cmocka_unit_test(clipping),
		cmocka_unit_test(offsets),
		cmocka_unit_test(segments),
		cmocka_unit_test(types),
		cmocka_unit_test(borrowed),
		cmocka_unit_test(decoding),
		cmocka_unit_test(projections),
		cmocka_unit_test(groups),
		cmocka_unit_test(plans),
		cmocka_unit_test(routing_of_nan),
		cmocka_unit_test(nothing_was_touched),
	};
	float *v = test_numbers(1, 24, 1);
	int rc;

	/* Indices that the host cannot read are checked when it is asked for. */
	setenv("DF_BACKEND_CHECK", "1", 1);
	be = test_backend(NULL, NULL);
	other = test_backend(NULL, NULL);
	a = test_tensor(be, 4, 6, v);
	b = test_tensor(be, 3, 6, v);
	c = test_tensor(be, 4, 3, v);
	row = test_tensor(be, 4, 1, v);
	foreign = test_tensor(other, 3, 6, v);
	if (df_tensor_alloc(be, &half, DF_BF16, 3, 6, "half", NULL) != DF_OK ||
	    df_tensor_alloc(be, &bytes, DF_U32, 3, 6, "numbers", NULL) != DF_OK)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	df_tensor_free(be, &a);
	df_tensor_free(be, &b);
	df_tensor_free(be, &c);
	df_tensor_free(be, &row);
	df_tensor_free(be, &half);
	df_tensor_free(be, &bytes);
	df_tensor_free(other, &foreign);
	df_backend_close(be);
	df_backend_close(other);
	free(v);
	return rc;
}
