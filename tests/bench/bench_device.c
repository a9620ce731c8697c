/*
 * bench_device.c - what each kernel of a training step and of projected gradients costs on a device, against its floor.
 *
 * Shapes are those of Qwen2.5-0.5B with 8192 tokens in 16 samples, activations in bf16 where the device takes them.
 * The floor is the larger of bytes over GBS and FLOPs over TFLOPS: what an H100 copies and multiplies
 * (docs/cuda-kernels.md).  The last column is the time lost in a step: what is over the floor, times the calls of a
 * step of 24 layers.
 *
 *   bench_device [PAIRS [WORD]]    only the lines whose name has WORD; DEVICE=cuda, SMALL=1: toy shapes, to try it
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#include "backend/backend_priv.h"
#include "base/mem.h"
#include "base/rng.h"

enum { RUNS_MAX = 101, ROUND = 1 << 16 };

static double gbs = 3000, tflops = 798; /* of an H100 */
static struct df_backend *be;
static struct df_err *err;
static int runs = 9;
static const char *word = "";

static struct sizes {
	size_t t, s, d, h, k, e, f, v, l, layers, params, r, proj, piece;
} z = { 8192, 16, 896, 14, 2, 64, 4864, 151936, 4096, 24, 494 << 20, 8, 8192, 1 << 18 };
static const struct sizes small = { 96, 4, 64, 2, 1, 32, 96, 300, 48, 2, 1 << 12, 4, 128, 1 << 9 };

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

/* Random numbers in (-1, 1), the same ROUND of them again and again: what multipliers cost depends on their bits. */
static int
tensor(struct df_tensor *t, enum df_dtype type, size_t rows, size_t cols)
{
	struct df_tensor numbers = DF_TENSOR_NONE;
	float *v = NULL;
	size_t n;
	int rc;

	DF_TRY(df_size_mul(rows, cols, &n, "a tensor", err));
	DF_TRY(df_tensor_alloc(be, t, type, rows, cols, "a tensor", err));
	DF_TRY(df_alloc(&v, ROUND, sizeof(*v), "numbers", err));
	for (size_t i = 0; i < ROUND; i++)
		v[i] = (float)df_rng_uniform(1, DF_RNG_DEMO, 0, i) * 2 - 1;
	DF_TRY(df_tensor_alloc(be, &numbers, DF_F32, 1, ROUND, "numbers", err));
	DF_TRY(df_upload(be, numbers, v, err));
	for (size_t at = 0; at < n; at += ROUND) {
		const size_t part = n - at < ROUND ? n - at : ROUND;

		DF_TRY(df_copy(be, df_tensor_view(*t, at, 1, part), df_tensor_view(numbers, 0, 1, part), err));
	}
	rc = df_sync(be, err);
out:
	df_tensor_free(be, &numbers);
	free(v);
	return rc;
}

/* n indices: i * step modulo `below`. */
static int
indices(struct df_tensor *t, size_t n, size_t step, size_t below)
{
	uint32_t *v = NULL;
	int rc;

	DF_TRY(df_alloc(&v, n, sizeof(*v), "indices", err));
	for (size_t i = 0; i < n; i++)
		v[i] = (uint32_t)(i * step % below);
	DF_TRY(df_tensor_alloc(be, t, DF_U32, 1, n, "indices", err));
	rc = df_upload(be, *t, v, err);
out:
	free(v);
	return rc;
}

/* All that the operations work on: activations of each width, weights, gradients. */
static struct {
	struct df_tensor d1, d2, q, f1, f2, f3, wide; /* [T,D] twice, [T,(H+2K)E], [T,F] three times, [T,2F] */
	struct df_tensor wq, wo, wg, wd, head, grad, norm, dnorm; /* weights, a gradient of the largest, norms */
	struct df_tensor rstd, lse, cos, sin, pos, ids, offsets, rows, key, token_offsets;
	struct df_tensor h, target, nll, hlse, correct, scale, dh; /* the head */
	struct df_tensor p, g, m, v, low, clip, sum;               /* the optimiser */
	struct df_tensor lora, block, block_m, block_v, y;
} b;
static enum df_dtype act;

static int
make(void)
{
	const size_t qkv = (z.h + 2 * z.k) * z.e;
	int rc;

	DF_TRY(tensor(&b.d1, act, z.t, z.d));
	DF_TRY(tensor(&b.d2, act, z.t, z.d));
	DF_TRY(tensor(&b.q, act, z.t, qkv));
	DF_TRY(tensor(&b.f1, act, z.t, z.f));
	DF_TRY(tensor(&b.f2, act, z.t, z.f));
	DF_TRY(tensor(&b.f3, act, z.t, z.f));
	DF_TRY(tensor(&b.wide, act, z.t, 2 * z.f));
	DF_TRY(tensor(&b.wq, act, qkv, z.d));
	DF_TRY(tensor(&b.wo, act, z.d, z.d));
	DF_TRY(tensor(&b.wg, act, 2 * z.f, z.d));
	DF_TRY(tensor(&b.wd, act, z.d, z.f));
	DF_TRY(tensor(&b.head, act, z.v, z.d));
	DF_TRY(tensor(&b.grad, DF_F32, 2 * z.f, z.d));
	DF_TRY(tensor(&b.norm, DF_F32, 1, z.d));
	DF_TRY(tensor(&b.dnorm, DF_F32, 1, z.d));
	DF_TRY(tensor(&b.rstd, DF_F32, z.t, 1));
	DF_TRY(tensor(&b.lse, DF_F32, z.t, z.h));
	DF_TRY(tensor(&b.cos, DF_F32, z.t / z.s, z.e / 2));
	DF_TRY(tensor(&b.sin, DF_F32, z.t / z.s, z.e / 2));
	DF_TRY(indices(&b.pos, z.t, 1, z.t / z.s));
	DF_TRY(indices(&b.ids, z.t, 7919, z.v));
	DF_TRY(indices(&b.offsets, z.s + 1, z.t / z.s, z.t + 1));
	DF_TRY(indices(&b.token_offsets, z.s + 1, z.t / z.s, z.t + 1));
	DF_TRY(indices(&b.rows, z.l, z.t / z.l, z.t));
	DF_TRY(indices(&b.key, 2 * z.s, 77, 1 << 20));
	DF_TRY(tensor(&b.h, act, z.l, z.d));
	DF_TRY(indices(&b.target, z.l, 104729, z.v));
	DF_TRY(tensor(&b.nll, DF_F32, 1, z.l));
	DF_TRY(tensor(&b.hlse, DF_F32, 1, z.l));
	DF_TRY(df_tensor_alloc(be, &b.correct, DF_U8, 1, z.l, "correct", err));
	DF_TRY(tensor(&b.scale, DF_F32, 1, z.l));
	DF_TRY(tensor(&b.dh, act, z.l, z.d));
	DF_TRY(tensor(&b.p, DF_F32, 1, z.params));
	DF_TRY(tensor(&b.g, DF_F32, 1, z.params));
	DF_TRY(tensor(&b.m, DF_F32, 1, z.params));
	DF_TRY(df_tensor_alloc(be, &b.v, DF_F32, 1, z.params, "v", err));
	DF_TRY(df_fill(be, b.v, 1, err));
	DF_TRY(df_tensor_alloc(be, &b.low, DF_BF16, 1, z.params, "low", err));
	DF_TRY(df_tensor_alloc(be, &b.clip, DF_F64, 1, 2, "clip", err));
	DF_TRY(df_tensor_alloc(be, &b.sum, DF_F64, 1, 1, "sum", err));
	DF_TRY(tensor(&b.lora, act, z.t, z.r));
	DF_TRY(tensor(&b.block, DF_F32, 4 * z.s, z.piece));
	DF_TRY(tensor(&b.block_m, DF_F32, 1, z.piece));
	DF_TRY(df_tensor_alloc(be, &b.block_v, DF_F32, 1, z.piece, "v", err));
	DF_TRY(df_fill(be, b.block_v, 1, err));
	rc = tensor(&b.y, DF_F32, 4 * z.s, z.proj);
out:
	return rc;
}

/* ---- a line ------------------------------------------------------------------------------------------------------ */

static double lost_in_all;

/* Median seconds of a call, from runs of at least 5 ms; the host waits at the end of a run only. */
static int
measure(int (*op)(void), double *seconds)
{
	double each[RUNS_MAX];
	int n = 1, rc;

	DF_TRY(op());
	DF_TRY(df_sync(be, err));
	for (int i = 0; i < runs; i++) {
		double start = now(), took;

		for (int k = 0; k < n; k++)
			DF_TRY(op());
		DF_TRY(df_sync(be, err));
		took = now() - start;
		each[i] = took / n;
		if (took < 5e-3 && n < 1 << 12) {
			n *= 2;
			i = -1;
		}
	}
	qsort(each, (size_t)runs, sizeof(*each), compare_doubles);
	*seconds = each[runs / 2];
out:
	return rc;
}

/* `calls` of a step; bytes read and written, and FLOPs, of one. */
static int
line(const char *name, size_t calls, double bytes, double flops, int (*op)(void))
{
	const double moving = bytes / (gbs * 1e9), computing = flops / (tflops * 1e12);
	const double floor = moving > computing ? moving : computing;
	double seconds, lost;
	int rc = DF_OK;

	if (!strstr(name, word))
		goto out;
	DF_TRY(measure(op, &seconds));
	lost = (seconds - floor) * (double)calls;
	lost_in_all += lost;
	printf("%-34s %10.1f us, floor %9.1f: %6.2f x %s, x %3zu: %8.2f ms\n", name, seconds * 1e6, floor * 1e6,
	    seconds / floor, moving > computing ? "(moves)   " : "(computes)", calls, lost * 1e3);
	fflush(stdout);
out:
	return rc;
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

static int
product(bool ta, bool tb, struct df_tensor a, struct df_tensor w, struct df_tensor c, float beta)
{
	return df_gemm(be, &(struct df_gemm){ ta, tb, 1, beta, a, w, c }, err);
}

#define PRODUCT(name, ta, tb, a, w, c, beta)           \
	static int name(void)                          \
	{                                              \
		return product(ta, tb, a, w, c, beta); \
	}
PRODUCT(qkv, false, true, b.d1, b.wq, b.q, 0)
PRODUCT(out, false, true, b.d1, b.wo, b.d2, 1)
PRODUCT(gate_up, false, true, b.d1, b.wg, b.wide, 0)
PRODUCT(down, false, true, b.f1, b.wd, b.d2, 1)
PRODUCT(gate_up_dx, false, false, b.wide, b.wg, b.d2, 0)
PRODUCT(gate_up_dw, true, false, b.wide, b.d1, b.grad, 1)

static int
copying(void)
{
	return df_copy(be, b.f1, b.f2, err);
}

static int
norm_fwd(void)
{
	return df_rmsnorm_fwd(
	    be, &(struct df_rmsnorm){ .eps = 1e-6f, .x = b.d1, .w = b.norm, .y = b.d2, .rstd = b.rstd }, err);
}

static int
norm_bwd(void)
{
	return df_rmsnorm_bwd(be,
	    &(struct df_rmsnorm_bwd){
		.x = b.d1, .w = b.norm, .rstd = b.rstd, .dy = b.d2, .dx = b.d2, .dw = b.dnorm, .assign = true },
	    err);
}

static int
rotary(void)
{
	return df_rope(be,
	    &(struct df_rope){ .x = df_tensor_cols(b.q, 0, (z.h + z.k) * z.e),
		.cos = b.cos,
		.sin = b.sin,
		.pos = b.pos,
		.n_heads = z.h + z.k },
	    err);
}

static int
swiglu(void)
{
	return df_swiglu_fwd(be, b.f3, b.f1, b.f2, err);
}

static int
swiglu_back(void)
{
	return df_swiglu_bwd(be, b.f1, b.f2, b.f3, b.f1, b.f2, err);
}

static struct df_attn
attention(void)
{
	return (struct df_attn){ .q = df_tensor_cols(b.q, 0, z.h * z.e),
		.k = df_tensor_cols(b.q, z.h * z.e, z.k * z.e),
		.v = df_tensor_cols(b.q, (z.h + z.k) * z.e, z.k * z.e),
		.o = df_tensor_view(b.d1, 0, z.t, z.h * z.e),
		.lse = b.lse,
		.offsets = b.offsets,
		.n_heads = z.h,
		.n_kv_heads = z.k,
		.scale = 0.125f };
}

static int
attn_fwd(void)
{
	const struct df_attn a = attention();

	return df_attn_fwd(be, &a, err);
}

static int
attn_bwd(void)
{
	const size_t n = z.h * z.e, k = z.k * z.e;
	const struct df_attn_bwd a = { .fwd = attention(),
		.d_o = df_tensor_view(b.d2, 0, z.t, n),
		.dq = df_tensor_cols(b.wide, 0, n),
		.dk = df_tensor_cols(b.wide, n, k),
		.dv = df_tensor_cols(b.wide, n + k, k) };

	return df_attn_bwd(be, &a, err);
}

static int
embed(void)
{
	return df_embed_fwd(be, b.d1, b.head, b.ids, err);
}

static int
gathered(void)
{
	return df_gather_rows(be, b.h, b.d1, b.rows, err);
}

static int
head_and_loss(void)
{
	const struct df_xent a = { .h = b.h,
		.w = b.head,
		.target = b.target,
		.nll = b.nll,
		.lse = b.hlse,
		.correct = b.correct,
		.scale = b.scale,
		.dh = b.dh };

	return df_xent(be, &a, err);
}

static int
drop(void)
{
	const struct df_dropout a = { .x = b.d1,
		.y = b.d2,
		.offsets = b.offsets,
		.token_offsets = b.token_offsets,
		.key = df_tensor_view(b.key, 0, z.s, 2),
		.substream = 1,
		.p = 0.1f };

	return df_dropout(be, &a, err);
}

static int
squares(void)
{
	return df_sumsq(be, b.g, b.sum, err);
}

static int
update(void)
{
	const struct df_adamw a = { .w = b.p,
		.g = b.g,
		.m = b.m,
		.v = b.v,
		.lr = 1e-9,
		.beta1 = 0.9,
		.beta2 = 0.999,
		.eps = 1e-8,
		.step = 5,
		.low = b.low };

	return df_adamw(be, &a, err);
}

/* dB of a LoRA adapter for each sample. */
static int
segments(void)
{
	const struct df_tensor c = df_tensor_view(b.block, 0, z.s, z.d * z.r);

	return df_gemm_segments(
	    be, &(struct df_gemm_segments){ .alpha = 1, .a = b.d1, .b = b.lora, .c = c, .offsets = b.offsets }, err);
}

static int
adam_view(void)
{
	return df_adam_form(be,
	    &(struct df_adam_form){
		.g = b.block, .m = b.block_m, .v = b.block_v, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8 },
	    err);
}

static int
projection(enum df_projection_type type)
{
	return df_project(be,
	    &(struct df_project){ .type = type, .g = b.block, .y = b.y, .seed = 1, .sparsity = 4, .piece = z.piece },
	    err);
}

static int
rademacher(void)
{
	return projection(DF_PROJ_RADEMACHER);
}

static int
sjlt(void)
{
	return projection(DF_PROJ_SJLT);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static int
table(void)
{
	const double w = (double)df_dtype_size(act), t = (double)z.t, d = (double)z.d, f = (double)z.f;
	const double n = (double)(z.h * z.e), kv = (double)(z.k * z.e), q = n + 2 * kv, l = (double)z.l,
		     v = (double)z.v;
	const double pairs = t * (t / (double)z.s + 1) / 2 * n, s4 = 4 * (double)z.s, piece = (double)z.piece;
	const size_t layers = z.layers;
	int rc;

	DF_TRY(line("copy [T,F]", 1, 2 * w * t * f, 0, copying));
	DF_TRY(line("product qkv", layers, w * t * (d + q), 2 * t * d * q, qkv));
	DF_TRY(line("product o", layers, w * t * 3 * d, 2 * t * d * d, out));
	DF_TRY(line("product gate, up", layers, w * t * (d + 2 * f), 4 * t * d * f, gate_up));
	DF_TRY(line("product down", layers, w * t * (f + 2 * d), 2 * t * d * f, down));
	DF_TRY(line("product dx of gate, up", layers, w * t * (d + 2 * f), 4 * t * d * f, gate_up_dx));
	DF_TRY(line("product dw of gate, up", layers, w * t * (d + 2 * f), 4 * t * d * f, gate_up_dw));
	DF_TRY(line("rmsnorm", 2 * layers, 2 * w * t * d, 0, norm_fwd));
	DF_TRY(line("rmsnorm, backward", 2 * layers, 3 * w * t * d, 0, norm_bwd));
	DF_TRY(line("rope", 2 * layers, 2 * w * t * (n + kv), 0, rotary));
	DF_TRY(line("swiglu", layers, 3 * w * t * f, 0, swiglu));
	DF_TRY(line("swiglu, backward", layers, 5 * w * t * f, 0, swiglu_back));
	DF_TRY(line("attention", layers, w * t * (2 * n + 2 * kv), 4 * pairs, attn_fwd));
	DF_TRY(line("attention, backward", layers, w * t * (4 * n + 4 * kv), 14 * pairs, attn_bwd));
	DF_TRY(line("embedding", 1, 2 * w * t * d, 0, embed));
	DF_TRY(line("gather", 1, 2 * w * l * d, 0, gathered));
	DF_TRY(line("head and loss", 1, 6 * l * v, 4 * l * v * d, head_and_loss));
	DF_TRY(line("dropout", layers, 2 * w * t * d, 0, drop));
	DF_TRY(line("sum of squares", 1, 4 * (double)z.params, 0, squares));
	DF_TRY(line("adamw", 1, 30 * (double)z.params, 0, update));
	DF_TRY(line("sample gradients, LoRA", 14 * layers, w * t * d, 2 * t * d * (double)z.r, segments));
	DF_TRY(line("Adam's view", 17, 8 * s4 * piece, 0, adam_view));
	DF_TRY(line("Rademacher projection", 17, 4 * s4 * piece, 2 * s4 * piece * (double)z.proj, rademacher));
	DF_TRY(line("SJLT, 4 nonzeros", 17, 4 * s4 * piece, 0, sjlt));
out:
	return rc;
}

int
main(int argc, char **argv)
{
	struct df_err e = DF_ERR_INIT;
	int rc;

	err = &e;
	if (argc > 1)
		runs = atoi(argv[1]);
	if (argc > 2)
		word = argv[2];
	if (runs < 1 || runs > RUNS_MAX)
		return 64;
	if (getenv("GBS"))
		gbs = atof(getenv("GBS"));
	if (getenv("TFLOPS"))
		tflops = atof(getenv("TFLOPS"));
	if (getenv("SMALL"))
		z = small;
	DF_TRY(df_backend_open(&be, bench_device(), NULL, err));
	act = df_backend_takes_bf16(be) ? DF_BF16 : DF_F32;
	DF_TRY(df_backend_set_compute(be, act, err));
	printf("%s, activations in %s; floors at %.0f GB/s and %.0f TFLOP/s\n", bench_device(), df_dtype_name(act), gbs,
	    tflops);
	DF_TRY(make());
	DF_TRY(table());
	printf("%-34s %.1f ms over the floors, of all lines\n", "in a step", lost_in_all * 1e3);
out:
	if (rc)
		fprintf(stderr, "bench_device: %s\n", e.msg);
	/* The memory goes with the process. */
	return rc ? 1 : 0;
}
