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
	REFUSES(DF_EINTERNAL, df_sumsq(be, a, NULL, err));
	REFUSES(DF_EINTERNAL, df_fill(be, none, 0, err));
	REFUSES(DF_EINTERNAL, df_swiglu_fwd(be, a, a, c, err));
	REFUSES(DF_EINTERNAL, df_rmsnorm_fwd(be, &(struct df_rmsnorm){ 0, a, a, a, a, 0 }, err));
	REFUSES(DF_EINTERNAL, df_rmsnorm_fwd(be, &(struct df_rmsnorm){ 0, a, a, a, row, 4 }, err));
	REFUSES(DF_EINTERNAL, df_layernorm_fwd(be, &(struct df_layernorm){ 0, a, b, b, a }, err));
	REFUSES(DF_EINTERNAL, df_gelu_fwd(be, a, c, err));
	REFUSES(DF_EINTERNAL, df_route_fwd(be, &(struct df_route){ a, c, a, &(uint32_t){ 0 }, false }, err));
	REFUSES(DF_EINTERNAL, df_route_fwd(be, &(struct df_route){ a, a, a, NULL, false }, err));
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
	REFUSES(DF_ERANGE, df_dropout(be, &(struct df_dropout){ .x = a, .y = a, .p = 1.0f }, err));
	REFUSES(DF_ERANGE, df_dropout(be, &(struct df_dropout){ .x = a, .y = a, .p = -0.1f }, err));
	REFUSES(DF_EINTERNAL, df_dropout(be, &(struct df_dropout){ .x = a, .y = c }, err));
	REFUSES(DF_EINTERNAL, df_dropout(be, &(struct df_dropout){ .x = a, .y = a }, err));
	REFUSES(DF_EINTERNAL, df_adamw(be, &(struct df_adamw){ .w = a, .g = a, .m = a, .v = a, .step = 0 }, err));
	REFUSES(DF_EINTERNAL, df_adam_form(be, &(struct df_adam_form){ .g = a, .m = a, .v = a }, err));
	REFUSES(DF_EINTERNAL, df_sync(NULL, err));
}

/* a is [4,6], b [3,6], c [4,3]: numbers of rows that do not exist, with the data's fault. */
static void
ids(void **state)
{
	uint32_t id[4] = { 0, 2, 1, 3 }, pos[4] = { 0, 1, 2, 3 };
	float nll[4], scale[4] = { 1, 1, 1, 1 };
	struct df_lmhead head = { a, b, id, nll, NULL, scale, DF_TENSOR_NONE, DF_TENSOR_NONE, DF_TENSOR_NONE };

	(void)state;
	REFUSES(DF_EFORMAT, df_embed_fwd(be, a, b, id, err));
	REFUSES(DF_EFORMAT, df_embed_bwd(be, b, a, id, err));
	REFUSES(DF_EFORMAT, df_gather_rows(be, a, b, id, err));
	REFUSES(DF_EFORMAT, df_scatter_rows(be, b, a, id, err));
	REFUSES(DF_EFORMAT, df_lmhead(be, &head, err));
	REFUSES(DF_EFORMAT, df_rope(be, &(struct df_rope){ a, c, c, (uint32_t[]){ 0, 1, 4, 0 }, 1, false }, err));
	REFUSES(DF_EINTERNAL, df_rope(be, &(struct df_rope){ a, c, c, pos, 5, false }, err));
	REFUSES(DF_EINTERNAL, df_rope(be, &(struct df_rope){ a, c, c, NULL, 1, false }, err));
	REFUSES(DF_EINTERNAL, df_embed_fwd(be, a, b, NULL, err));
	id[3] = 0;
	head.nll = NULL;
	REFUSES(DF_EINTERNAL, df_lmhead(be, &head, err));
	head.nll = nll;
	head.dw = b;
	REFUSES(DF_EINTERNAL, df_lmhead(be, &head, err));
	head.dh = a;
	head.scale = NULL;
	REFUSES(DF_EINTERNAL, df_lmhead(be, &head, err));
}

static void
offsets(void **state)
{
	const uint64_t beyond[] = { 0, 5 }, backwards[] = { 0, 3, 2, 4 }, late[] = { 1, 4 }, all[] = { 0, 4 };
	struct df_tensor product = test_tensor(be, 1, 18, NULL);
	struct df_dropout drop = { .x = a, .y = a, .offsets = all, .first = all, .n_samples = 1 };
	struct df_attn f = { a, a, a, a, row, NULL, 1, 1, 1, 0, 1, false };

	(void)state;
	REFUSES(DF_EINTERNAL, df_attn_fwd(be, &f, err));
	f.offsets = beyond;
	REFUSES(DF_EINTERNAL, df_attn_fwd(be, &f, err));
	f.offsets = late;
	REFUSES(DF_EINTERNAL, df_attn_fwd(be, &f, err));
	f.offsets = backwards;
	f.n_samples = 3;
	REFUSES(DF_EINTERNAL, df_attn_fwd(be, &f, err));
	f.offsets = (const uint64_t[]){ 0, 4 };
	f.n_samples = 1;
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
	    df_rmsnorm_bwd(be, &(struct df_rmsnorm_bwd){ a, row, row, a, a, row, beyond, false, 0, false }, err));
	/* a [4,6] with itself makes 36 numbers a segment, with c [4,3] 18. */
	REFUSES(DF_EINTERNAL, df_gemm_segments(be, NULL, err));
	REFUSES(DF_EINTERNAL, df_gemm_segments(be, &(struct df_gemm_segments){ 1, a, a, a, all }, err));
	REFUSES(DF_EINTERNAL, df_gemm_segments(be, &(struct df_gemm_segments){ 1, a, b, product, all }, err));
	REFUSES(DF_EINTERNAL, df_gemm_segments(be, &(struct df_gemm_segments){ 1, a, c, product, NULL }, err));
	REFUSES(DF_EINTERNAL, df_gemm_segments(be, &(struct df_gemm_segments){ 1, a, c, product, beyond }, err));
	REFUSES(DF_EINTERNAL, df_gemm_segments(be, &(struct df_gemm_segments){ 1, a, c, product, late }, err));
	assert_int_equal(df_gemm_segments(be, &(struct df_gemm_segments){ 1, a, c, product, all }, NULL), DF_OK);
	REFUSES(DF_EINTERNAL, df_colsum_segments(be, a, beyond, df_tensor_rows(a, 0, 1), err));
	REFUSES(DF_EINTERNAL, df_colsum_segments(be, a, backwards, df_tensor_rows(a, 0, 3), err));
	REFUSES(DF_EINTERNAL, df_colsum_segments(be, a, all, c, err));
	REFUSES(DF_EINTERNAL, df_dropout(be, &drop, err));
	drop.key = all;
	drop.offsets = beyond;
	REFUSES(DF_EINTERNAL, df_dropout(be, &drop, err));
	drop.offsets = all;
	drop.first = late; /* row 0 is token 0, the sample begins at 1 */
	REFUSES(DF_EINTERNAL, df_dropout(be, &drop, err));
	df_tensor_free(be, &product);
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
	uint64_t first[4] = { 0, 1, 2, 0 }, n[4] = { 1, 1, 2, 3 };
	struct df_attn_decode d = { a, a, b, b, first, n, 2, 2, 0, 1 };
	struct df_tensor two = df_tensor_rows(b, 0, 2);

	(void)state;
	REFUSES(DF_EINTERNAL, df_attn_decode(be, &d, err)); /* sequence 2 ends behind the last row */
	n[2] = 0;
	REFUSES(DF_EINTERNAL, df_attn_decode(be, &d, err));
	n[2] = UINT64_MAX;
	REFUSES(DF_EINTERNAL, df_attn_decode(be, &d, err));
	n[2] = 1;
	d.v = two;
	REFUSES(DF_EINTERNAL, df_attn_decode(be, &d, err));
	d.v = b;
	d.n_kv_heads = 0;
	REFUSES(DF_EINTERNAL, df_attn_decode(be, &d, err));
	d.n_kv_heads = 1;
	REFUSES(DF_EINTERNAL, df_attn_decode(be, &d, err));
	d.n_kv_heads = 2;
	d.n = NULL;
	REFUSES(DF_EINTERNAL, df_attn_decode(be, &d, err));
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
		uint32_t expert[6] = { 9, 9, 9, 9, 9, 9 };

		assert_int_equal(
		    df_route_fwd(on, &(struct df_route){ logits, logits, weight, expert, true }, NULL), DF_OK);
		for (size_t t = 0; t < 2; t++) {
			const uint32_t *e = expert + 3 * t;

			assert_true(e[0] < 5 && e[1] < 5 && e[2] < 5);
			assert_true(e[0] != e[1] && e[0] != e[2] && e[1] != e[2]);
		}
		df_tensor_free(on, &logits);
		df_tensor_free(on, &weight);
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
		cmocka_unit_test(offsets),
		cmocka_unit_test(borrowed),
		cmocka_unit_test(decoding),
		cmocka_unit_test(projections),
		cmocka_unit_test(routing_of_nan),
		cmocka_unit_test(nothing_was_touched),
	};
	float *v = test_numbers(1, 24, 1);
	int rc;

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
