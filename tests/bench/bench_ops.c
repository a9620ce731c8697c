/*
 * bench_ops.c - the operations of the CPU, or of DEVICE, against plain sgemm calls.
 *
 * Matrix products: df_gemm and OpenBLAS's sgemm of the same shape, both on one
 * thread, in turn; printed are both rates and the median ratio.  Attention and the loss
 * head have no counterpart in BLAS: their arithmetic (masked scores counted
 * as half) is held against an sgemm of 512 x 512 x 512.  A product with weights at rest is held against ours with
 * the same weights in f32, one of few rows against reading the weights once, and element-wise layers against copying.
 *
 *   bench_ops [PAIRS [WORD]]    only the lines whose name has WORD
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#include "backend/backend_priv.h"
#include "base/mem.h"
#include "base/rng.h"

enum { PAIRS_MAX = 101 };

static const struct df_openblas *yardstick;
static struct df_backend *be;
static struct df_err *err;
static int pairs = 9;
static const char *word = "";

static double
median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), compare_doubles);
	return v[n / 2];
}

/* One leg: op does `flops` operations; *rate = GFLOP/s over about 20 ms. */
static int
measure(int (*op)(void), double flops, double *rate)
{
	double start = now(), secs;
	int n = 0, rc = 0;

	do {
		DF_TRY(op());
		n++;
		secs = now() - start;
	} while (secs < 0.02);
	*rate = 1e-9 * flops * n / secs;
out:
	return rc;
}

/* A and B in turn; their median rates and the median of A over B.  The rates are of `unit`, 10^9 a second. */
static int
compare_in(const char *unit, const char *name, int (*a)(void), double a_flops, const char *what_b, int (*b)(void),
    double b_flops)
{
	double ra[PAIRS_MAX], rb[PAIRS_MAX], ratio[PAIRS_MAX];
	int rc = 0;

	DF_TRY(a()); /* touch the memory */
	DF_TRY(b());
	for (int i = 0; i < pairs; i++) {
		DF_TRY(measure(a, a_flops, &ra[i]));
		DF_TRY(measure(b, b_flops, &rb[i]));
		ratio[i] = ra[i] / rb[i];
	}
	printf("%-40s %7.1f %s, %s %7.1f: %.2f\n", name, median(ra, pairs), unit, what_b, median(rb, pairs),
	    median(ratio, pairs));
out:
	return rc;
}

static int
compare(const char *name, int (*a)(void), double a_flops, int (*b)(void), double b_flops)
{
	return compare_in("GFLOP/s", name, a, a_flops, "sgemm", b, b_flops);
}

static int
tensor(struct df_tensor *t, size_t rows, size_t cols)
{
	static uint32_t stream;
	float *v = NULL;
	int rc;

	DF_TRY(df_alloc(&v, rows * cols, sizeof(*v), "numbers", err));
	for (size_t i = 0; i < rows * cols; i++)
		v[i] = (float)df_rng_uniform(1, DF_RNG_DEMO, stream, i) - 0.5f;
	stream++;
	DF_TRY(df_tensor_alloc(be, t, DF_F32, rows, cols, "tensor", err));
	DF_TRY(df_upload(be, *t, v, err));
out:
	free(v);
	return rc;
}

/* ---- products --------------------------------------------------------------------------------------------------- */

static struct {
	size_t m, n, k;
	bool ta, tb;
	struct df_gemm g;
	struct df_tensor half; /* b, rounded */
	float *a, *b, *c;
	double sum;
} shape;

static int
ours(void)
{
	return df_gemm(be, &shape.g, err);
}

static int
blas(void)
{
	sgemm(yardstick, shape.ta, shape.tb, shape.m, shape.n, shape.k, shape.a, shape.b, 0, shape.c);
	return 0;
}

/* b in bf16 */
static int
mixed(void)
{
	struct df_gemm g = shape.g;

	g.b = shape.half;
	return df_gemm(be, &g, err);
}

/* Every byte of the rounded b, once. */
static int
read_half(void)
{
	const uint64_t *x = df_tensor_host(shape.half);
	uint64_t s[8] = { 0 };

	for (size_t i = 0; i + 8 <= shape.n * shape.k / 4; i += 8)
		for (size_t j = 0; j < 8; j++)
			s[j] ^= x[i + j];
	for (size_t j = 0; j < 8; j++)
		shape.sum += (double)(s[j] & 1);
	return 0;
}

static int
gemm(const char *what, size_t m, size_t n, size_t k, bool ta, bool tb)
{
	const double flops = 2.0 * (double)m * (double)n * (double)k;
	char name[64];
	int rc = 0;

	snprintf(name, sizeof(name), "%s %zux%zux%zu", what, m, n, k);
	if (!strstr(name, word))
		return 0;
	shape.m = m;
	shape.n = n;
	shape.k = k;
	shape.ta = ta;
	shape.tb = tb;
	shape.g = (struct df_gemm){ .ta = ta, .tb = tb, .alpha = 1 };
	DF_TRY(tensor(&shape.g.a, ta ? k : m, ta ? m : k));
	DF_TRY(tensor(&shape.g.b, tb ? n : k, tb ? k : n));
	DF_TRY(tensor(&shape.g.c, m, n));
	DF_TRY(df_alloc(&shape.a, m * k, sizeof(float), "a", err));
	DF_TRY(df_alloc(&shape.b, k * n, sizeof(float), "b", err));
	DF_TRY(df_alloc(&shape.c, m * n, sizeof(float), "c", err));
	DF_TRY(df_download(be, shape.a, shape.g.a, err));
	DF_TRY(df_download(be, shape.b, shape.g.b, err));
	DF_TRY(df_tensor_alloc(be, &shape.half, DF_BF16, shape.g.b.rows, shape.g.b.cols, "half", err));
	DF_TRY(df_copy(be, shape.half, shape.g.b, err));
	if (strncmp(what, "bf16, few", 9) == 0)
		DF_TRY(
		    compare_in("GB/s", name, mixed, 2.0 * (double)(n * k), "read", read_half, 2.0 * (double)(n * k)));
	else if (strncmp(what, "bf16", 4) == 0)
		DF_TRY(compare_in("GFLOP/s", name, mixed, flops, "f32", ours, flops));
	else
		DF_TRY(compare(name, ours, flops, blas, flops));
out:
	free(shape.a);
	free(shape.b);
	free(shape.c);
	shape.a = shape.b = shape.c = NULL;
	df_tensor_free(be, &shape.half);
	df_tensor_free(be, &shape.g.a);
	df_tensor_free(be, &shape.g.b);
	df_tensor_free(be, &shape.g.c);
	return rc;
}

/* ---- attention and the loss head --------------------------------------------------------------------------------- */

static int
probe(void)
{
	enum { N = 512 };
	static float a[N * N], b[N * N], c[N * N];

	sgemm(yardstick, false, true, N, N, N, a, b, 0, c);
	return 0;
}
static const double probe_flops = 2.0 * 512 * 512 * 512;

static struct df_attn_bwd attn;
static struct df_xent head;

/* n indices: first, first + step, ... */
static int
indices(struct df_tensor *t, size_t n, size_t first, size_t step)
{
	uint32_t *v = NULL;
	int rc;

	DF_TRY(df_alloc(&v, n, sizeof(*v), "indices", err));
	for (size_t i = 0; i < n; i++)
		v[i] = (uint32_t)(first + i * step);
	DF_TRY(df_tensor_alloc(be, t, DF_U32, 1, n, "indices", err));
	DF_TRY(df_upload(be, *t, v, err));
out:
	free(v);
	return rc;
}

static int
attn_fwd(void)
{
	return df_attn_fwd(be, &attn.fwd, err);
}
static int
attn_bwd(void)
{
	return df_attn_bwd(be, &attn, err);
}
static int
xent(void)
{
	return df_xent(be, &head, err);
}

static int
attention(size_t n_samples, size_t len, size_t n_heads, size_t n_kv_heads, size_t e, bool both_ways)
{
	const size_t rows = n_samples * len;
	char name[64];
	double flops =
	    4.0 * (double)(n_samples * n_heads * e) * (double)len * (both_ways ? (double)len : (double)(len + 1) / 2);
	int rc = 0;

	snprintf(name, sizeof(name), "attention%s %zux%zu, %zu/%zu heads of %zu", both_ways ? " both ways" : "",
	    n_samples, len, n_heads, n_kv_heads, e);
	if (!strstr(name, word))
		return 0;

	attn = (struct df_attn_bwd){
		.fwd = { .n_heads = n_heads, .n_kv_heads = n_kv_heads, .scale = 0.2f, .bidirectional = both_ways }
	};
	DF_TRY(indices(&attn.fwd.offsets, n_samples + 1, 0, len));
	DF_TRY(tensor(&attn.fwd.q, rows, n_heads * e));
	DF_TRY(tensor(&attn.fwd.k, rows, n_kv_heads * e));
	DF_TRY(tensor(&attn.fwd.v, rows, n_kv_heads * e));
	DF_TRY(tensor(&attn.fwd.o, rows, n_heads * e));
	DF_TRY(tensor(&attn.fwd.lse, rows, n_heads));
	DF_TRY(tensor(&attn.d_o, rows, n_heads * e));
	DF_TRY(tensor(&attn.dq, rows, n_heads * e));
	DF_TRY(tensor(&attn.dk, rows, n_kv_heads * e));
	DF_TRY(tensor(&attn.dv, rows, n_kv_heads * e));
	DF_TRY(compare(name, attn_fwd, flops, probe, probe_flops));
	if (!both_ways)
		DF_TRY(compare("  backward", attn_bwd, 2.5 * flops, probe, probe_flops));
out:
	df_tensor_free(be, &attn.fwd.q);
	df_tensor_free(be, &attn.fwd.k);
	df_tensor_free(be, &attn.fwd.v);
	df_tensor_free(be, &attn.fwd.o);
	df_tensor_free(be, &attn.fwd.lse);
	df_tensor_free(be, &attn.d_o);
	df_tensor_free(be, &attn.dq);
	df_tensor_free(be, &attn.dk);
	df_tensor_free(be, &attn.dv);
	df_tensor_free(be, &attn.fwd.offsets);
	return rc;
}

/* ---- an encoder's layers, and generation's attention: against copying the same bytes ---------------------------- */

static struct df_layernorm norm;
static struct df_attn_decode last;
static struct df_tensor copied;

static int
layernorm(void)
{
	return df_layernorm_fwd(be, &norm, err);
}
static int
gelu(void)
{
	return df_gelu_fwd(be, norm.y, norm.x, err);
}
static int
copy_rows(void)
{
	return df_copy(be, norm.y, norm.x, err);
}
static int
decode(void)
{
	return df_attn_decode(be, &last, err);
}
static int
copy_keys(void)
{
	return df_copy(be, copied, last.k, err);
}

static int
elementwise(size_t rows, size_t cols)
{
	const double bytes = 8.0 * (double)rows * (double)cols;
	char name[64];
	int rc = 0;

	snprintf(name, sizeof(name), "layernorm, gelu %zux%zu", rows, cols);
	if (!strstr(name, word))
		return 0;
	norm.eps = 1e-12f;
	DF_TRY(tensor(&norm.x, rows, cols));
	DF_TRY(tensor(&norm.y, rows, cols));
	DF_TRY(tensor(&norm.w, 1, cols));
	DF_TRY(tensor(&norm.b, 1, cols));
	DF_TRY(compare_in("GB/s", name, layernorm, bytes, "copy", copy_rows, bytes));
	DF_TRY(compare_in("GB/s", "  gelu", gelu, bytes, "copy", copy_rows, bytes));
out:
	df_tensor_free(be, &norm.x);
	df_tensor_free(be, &norm.y);
	df_tensor_free(be, &norm.w);
	df_tensor_free(be, &norm.b);
	return rc;
}

/* Keys and values are read once: as many bytes as a copy of the keys reads and writes. */
static int
decoding(size_t n, size_t len, size_t n_heads, size_t n_kv_heads, size_t e)
{
	const double bytes = 8.0 * (double)(n * len) * (double)(n_kv_heads * e);
	char name[64];
	int rc = 0;

	snprintf(name, sizeof(name), "decode %zux%zu, %zu/%zu heads of %zu", n, len, n_heads, n_kv_heads, e);
	if (!strstr(name, word))
		return 0;
	last = (struct df_attn_decode){ .n_heads = n_heads, .n_kv_heads = n_kv_heads, .scale = 0.1f };
	DF_TRY(indices(&last.first, n, 0, len));
	DF_TRY(indices(&last.n, n, len, 0));
	DF_TRY(tensor(&last.q, n, n_heads * e));
	DF_TRY(tensor(&last.o, n, n_heads * e));
	DF_TRY(tensor(&last.k, n * len, n_kv_heads * e));
	DF_TRY(tensor(&last.v, n * len, n_kv_heads * e));
	DF_TRY(tensor(&copied, n * len, n_kv_heads * e));
	DF_TRY(compare_in("GB/s", name, decode, bytes, "copy", copy_keys, bytes));
out:
	df_tensor_free(be, &last.q);
	df_tensor_free(be, &last.o);
	df_tensor_free(be, &last.k);
	df_tensor_free(be, &last.v);
	df_tensor_free(be, &copied);
	df_tensor_free(be, &last.first);
	df_tensor_free(be, &last.n);
	return rc;
}

static int
loss_head(size_t n_rows, size_t width, size_t vocab)
{
	uint32_t *target = NULL;
	float *scale = NULL;
	char name[64];
	int rc = 0;

	snprintf(name, sizeof(name), "xent %zu rows of %zu, %zu words", n_rows, width, vocab);
	if (!strstr(name, word))
		return 0;
	DF_TRY(df_alloc(&target, n_rows, sizeof(*target), "targets", err));
	DF_TRY(df_alloc(&scale, n_rows, sizeof(*scale), "scales", err));
	for (size_t i = 0; i < n_rows; i++) {
		target[i] = (uint32_t)(i * 7 % vocab);
		scale[i] = 1.0f / (float)n_rows;
	}
	head = (struct df_xent){ 0 };
	DF_TRY(tensor(&head.h, n_rows, width));
	DF_TRY(tensor(&head.w, vocab, width));
	DF_TRY(tensor(&head.dh, n_rows, width));
	DF_TRY(tensor(&head.dw, vocab, width));
	DF_TRY(tensor(&head.nll, 1, n_rows));
	DF_TRY(tensor(&head.scale, 1, n_rows));
	DF_TRY(df_upload(be, head.scale, scale, err));
	DF_TRY(df_tensor_alloc(be, &head.target, DF_U32, 1, n_rows, "targets", err));
	DF_TRY(df_upload(be, head.target, target, err));
	DF_TRY(compare(name, xent, 6.0 * (double)(n_rows * width * vocab), probe, probe_flops));
out:
	df_tensor_free(be, &head.h);
	df_tensor_free(be, &head.w);
	df_tensor_free(be, &head.dh);
	df_tensor_free(be, &head.dw);
	df_tensor_free(be, &head.nll);
	df_tensor_free(be, &head.scale);
	df_tensor_free(be, &head.target);
	free(target);
	free(scale);
	return rc;
}

int
main(int argc, char **argv)
{
	struct df_err e = DF_ERR_INIT;
	int rc;

	err = &e;
	if (argc > 1)
		pairs = atoi(argv[1]);
	if (argc > 2)
		word = argv[2];
	if (pairs < 1 || pairs > PAIRS_MAX)
		return 64;
	DF_TRY(df_openblas_load(&yardstick, err));
	printf("%s against OpenBLAS %s, %s\n", bench_device(), yardstick->version, yardstick->kernel);
	DF_TRY(df_backend_open(&be, bench_device(), NULL, err));
	DF_TRY(gemm("linear", 2048, 64, 64, false, true));
	DF_TRY(gemm("linear", 2048, 352, 128, false, true));
	DF_TRY(gemm("linear", 1024, 896, 896, false, true));
	DF_TRY(gemm("linear", 1024, 4864, 896, false, true));
	DF_TRY(gemm("linear", 256, 1536, 1536, false, true));
	DF_TRY(gemm("linear", 1024, 1536, 8960, false, true));
	DF_TRY(gemm("linear", 1024, 384, 384, false, true));
	DF_TRY(gemm("linear", 1024, 1536, 384, false, true));
	DF_TRY(gemm("linear", 1024, 384, 1536, false, true));
	DF_TRY(gemm("bf16 linear", 128, 1536, 1536, false, true));
	DF_TRY(gemm("bf16 linear", 1024, 8960, 1536, false, true));
	DF_TRY(gemm("bf16 linear", 512, 1536, 8960, false, true));
	DF_TRY(gemm("bf16 gradient", 128, 1536, 1536, false, false));
	DF_TRY(gemm("bf16 gradient", 512, 1536, 8960, false, false));
	DF_TRY(gemm("bf16, few rows", 1, 8960, 1536, false, true));
	DF_TRY(gemm("bf16, few rows", 1, 1536, 8960, false, true));
	DF_TRY(gemm("bf16, few rows", 4, 8960, 1536, false, true));
	DF_TRY(gemm("bf16, few rows", 16, 8960, 1536, false, true));
	DF_TRY(gemm("few rows", 1, 8960, 1536, false, true));
	DF_TRY(gemm("few rows", 4, 8960, 1536, false, true));
	DF_TRY(gemm("few rows", 16, 8960, 1536, false, true));
	DF_TRY(gemm("input gradient", 2048, 128, 352, false, false));
	DF_TRY(gemm("input gradient", 1024, 896, 4864, false, false));
	DF_TRY(gemm("weight gradient", 352, 128, 2048, true, false));
	DF_TRY(gemm("sample's weight gradient", 352, 128, 180, true, false));
	DF_TRY(gemm("sample's weight gradient", 896, 896, 128, true, false));
	DF_TRY(gemm("lora down", 1024, 16, 896, false, true));
	DF_TRY(gemm("lora up", 1024, 896, 16, false, true));
	DF_TRY(gemm("sample's lora a", 8, 896, 128, true, false));
	DF_TRY(gemm("sample's lora b", 896, 8, 128, true, false));
	DF_TRY(attention(16, 128, 4, 2, 32, false));
	DF_TRY(attention(4, 512, 14, 2, 64, false));
	DF_TRY(attention(1, 2048, 4, 4, 64, false));
	DF_TRY(attention(4, 128, 12, 2, 128, false));
	DF_TRY(attention(1, 512, 12, 2, 128, false));
	DF_TRY(attention(1, 2048, 12, 2, 128, false));
	DF_TRY(attention(32, 32, 12, 12, 32, true));
	DF_TRY(attention(4, 256, 12, 12, 32, true));
	DF_TRY(elementwise(512, 384));
	DF_TRY(elementwise(512, 1536));
	DF_TRY(decoding(1, 2048, 12, 2, 128));
	DF_TRY(decoding(16, 300, 12, 2, 128));
	DF_TRY(loss_head(2048, 128, 260));
	DF_TRY(loss_head(512, 896, 32000));
out:
	if (rc)
		fprintf(stderr, "bench_ops: %s\n", e.msg);
	df_backend_close(be);
	return rc ? 1 : 0;
}
