/*
 * backend.h - a table of operations over memory that the caller cannot
 * dereference.
 *
 * Code above this room sees `struct df_tensor`: a window on an allocation that
 * lives "on the device".  Bytes move only by upload and download.  Each
 * operation is a function df_<op>(be, &args, err): it checks shapes, then calls
 * the backend's slot, or, where the slot is empty, the host version (download,
 * compute, upload), so that a new backend works at once and gets fast slot by
 * slot.  With DF_BACKEND_STRICT=1 in the environment an empty slot is an error.
 *
 *   cpu        SIMD and threads
 *   openblas   the same with its matrix product on OpenBLAS: not exact
 *   poison     the CPU's arithmetic on separate, NaN-filled memory with guard
 *              zones, closed between operations: device bugs fail on a laptop
 *   reference  one plain f64 loop nest per operation: the documentation and the tests' oracle
 *   cuda       NVIDIA's GPUs, from a shared library (cuda/cuda.h)
 *
 * All shapes are row-major.  Sizes in names: T tokens of a ragged batch, D
 * model width, H query heads, K key/value heads, E head width, F feed-forward width, V
 * vocabulary, S samples.  A ragged batch has T rows and S+1 offsets, from 0 to T, which do not decrease.
 *
 * Indices (ids, positions, numbers of rows, offsets) are DF_U32 tensors [1,n].  Their values are checked where they
 * are made; operations do it again where the host can read them (all backends here): DF_EINTERNAL.
 *
 * Determinism: an operation's result does not depend on the number of threads:
 * tiles are cut by shape or do not matter, and reductions run in a fixed order.
 * Exactness: on an exact backend, whatever is computed per row, per sample or per segment (everything but sums over
 * all rows) does not depend on what else is in the call, to the bit.  On another it may depend on the shape of the
 * call, within rounding; the same call gives the same bits there, too.  df_backend_is_exact() tells; comments that
 * promise bits speak of exact backends.
 *
 * Backward rule: gradients of parameters accumulate (+=) when `accumulate` is
 * set or the comment says so; gradients of activations are assigned (=),
 * except where the comment says +=.
 *
 * Thread rule: a backend may be used by several threads at once (each with its
 * own tensors for output); operations called from inside a pool task run in
 * that thread.
 */
#ifndef DF_BACKEND_BACKEND_H
#define DF_BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

enum df_dtype { DF_F32, DF_BF16, DF_F16, DF_F64, DF_U8, DF_U32, DF_I64 };
size_t df_dtype_size(enum df_dtype t);
const char *df_dtype_name(enum df_dtype t);

struct df_backend;
struct df_mem; /* one allocation; opaque */

/*
 * A window of rows x cols elements, rows `ld` elements apart, starting at element `off` of mem.  Memory is bytes; the
 * window gives them their type, and `off` and `ld` count elements of that type, so every window is aligned for it.
 * A value: copy freely.
 */
struct df_tensor {
	struct df_mem *mem;
	size_t off, rows, cols, ld;
	enum df_dtype type;
};
#ifdef __cplusplus
#define DF_TENSOR_NONE (df_tensor())
#else
#define DF_TENSOR_NONE ((struct df_tensor){ 0 })
#endif

static inline bool
df_tensor_is_none(struct df_tensor t)
{
	return !t.mem;
}
/* Rows [r0, r0+n) of t. */
static inline struct df_tensor
df_tensor_rows(struct df_tensor t, size_t r0, size_t n)
{
	t.off += r0 * t.ld;
	t.rows = n;
	return t;
}
/* Columns [c0, c0+n) of t. */
static inline struct df_tensor
df_tensor_cols(struct df_tensor t, size_t c0, size_t n)
{
	t.off += c0;
	t.cols = n;
	return t;
}
/* The contiguous run of rows*cols elements from `off` elements into t, seen as a matrix. */
static inline struct df_tensor
df_tensor_view(struct df_tensor t, size_t off, size_t rows, size_t cols)
{
	t.off += off;
	t.rows = rows;
	t.cols = cols;
	t.ld = cols;
	return t;
}
/*
 * The memory from t's first element on, seen as a contiguous matrix of another type.  Where it is not aligned for
 * that type the result lies outside of all memory, and every operation refuses it.
 */
struct df_tensor df_tensor_as(struct df_tensor t, enum df_dtype type, size_t rows, size_t cols);
static inline size_t
df_tensor_numel(struct df_tensor t)
{
	return t.rows * t.cols;
}

/* ---- life and memory ---------------------------------------------------- */

/*
 * device: "auto", "cpu", "openblas", "poison", "reference", "cuda", "cuda:N".  pool is borrowed and must
 * outlive the backend; NULL = one thread.  cuda is a shared library, df-cuda.so, that is loaded when it is asked for
 * (plugin.h); DF_EUNSUPPORTED if there is none, DF_EDEVICE if it is of another version or not right.
 *
 * auto is cuda where there are its shared library, a driver and a GPU for it.  Else it is cpu where that has vectors
 * (AVX2 with FMA, or AVX-512), else openblas.  So the machine alone decides, and a run gives the same bits as long as
 * it stays there.  The first time that openblas is opened, variables of the
 * environment are set for a moment: let no other thread read them meanwhile.
 */
int df_backend_open(struct df_backend **out, const char *device, struct df_pool *pool, struct df_err *err)
    DF_MUST_CHECK;
void df_backend_close(struct df_backend *be); /* accepts NULL; every tensor must be freed before */
/*
 * Lanes.  *lane = a view of the backend with an order of its own; on the CPU the backend itself, the only lane.  Every
 * function takes a lane where it takes a backend.  Operations of one lane run in the order in which they were called.
 * Nothing orders those of two lanes: what one wrote (a result, weights, zeros), another may use after a df_sync() of
 * the first.  df_upload(), df_download() and df_stage_wait() sync their lane, too.  Memory is the backend's: any lane
 * may use and free any tensor.  poison finds a sync that is missing.
 *
 * df_backend_join() ends a lane; it accepts NULL.  What is left of its work is synced.
 */
int df_backend_fork(struct df_backend *be, struct df_backend **lane, struct df_err *err) DF_MUST_CHECK;
void df_backend_join(struct df_backend *lane);
const char *df_backend_name(const struct df_backend *be);
/* Do a row's results keep their bits whatever else is in the call?  See above. */
bool df_backend_is_exact(const struct df_backend *be);
/* May activations be bf16?  See "types" below. */
bool df_backend_takes_bf16(const struct df_backend *be);
/*
 * In which type a model computes on this backend: float32 at first, or bf16 (DF_EUNSUPPORTED where it does not take
 * that).  To be set before models are opened.
 */
int df_backend_set_compute(struct df_backend *be, enum df_dtype type, struct df_err *err) DF_MUST_CHECK;
enum df_dtype df_backend_compute(const struct df_backend *be);
/* What can be opened, and with what it computes: "cpu (AVX2), openblas (0.3.21, Haswell), poison, reference".  Cut to
 * `size` bytes, at least 1, with the final 0; 256 are enough.  Returns list. */
char *df_backend_list(char *list, size_t size);
/* The names that df_backend_open() takes, "auto" first, NULL at the end.  First called by one thread. */
const char *const *df_backend_devices(void);
/* Is it the name of a device, here or elsewhere?  DF_EUSAGE suggests the nearest one. */
int df_backend_check(const char *device, struct df_err *err) DF_MUST_CHECK;
size_t df_backend_peak_bytes(const struct df_backend *be); /* most device memory ever allocated */
/*
 * Bytes of the device's memory that can still be allocated, as it estimates them; on the host those of
 * df_mem_available().  SIZE_MAX where nobody knows.
 */
size_t df_backend_available(const struct df_backend *be);

/* What a device likes, asked by those who cut work into parts.  The CPU's numbers are in backend.c. */
struct df_backend_traits {
	size_t step_lanes; /* most parts of a micro-batch that run at once, each with a gradient of its own */
	size_t workers;    /* most threads that should run a batch each at once */
	/* A batch in one call of the model: its most tokens, and about how much memory their activations may take. */
	size_t forward_tokens, forward_bytes; /* where nothing is kept for a backward */
	size_t grad_tokens, grad_bytes;
	size_t block_bytes; /* of a block of per-sample gradients.  Changes no result. */
	bool keeps_logits;  /* df_xent_fwd() and df_xent_bwd() take df_xent.logits; set by the core */
};
struct df_backend_traits df_backend_traits(const struct df_backend *be);
/* n threads, or as many of them as should run a batch each. */
int df_backend_workers(const struct df_backend *be, int n);

/* A new contiguous tensor; its content is undefined (poison: NaN). `what` names it in DF_ENOMEM. */
int df_tensor_alloc(struct df_backend *be, struct df_tensor *t, enum df_dtype type, size_t rows, size_t cols,
    const char *what, struct df_err *err) DF_MUST_CHECK;
void df_tensor_free(struct df_backend *be, struct df_tensor *t); /* the allocation t windows on; *t becomes NONE */
/*
 * A tensor over host memory that stays as it is until the tensor is freed, such as a mapped file: on the CPU
 * the memory itself, if it is aligned for the type, elsewhere a copy of it.  Only to be read.
 */
int df_tensor_borrow(struct df_backend *be, struct df_tensor *t, enum df_dtype type, size_t rows, size_t cols,
    const void *data, const char *what, struct df_err *err) DF_MUST_CHECK;
/* Dense host array (rows*cols of t's type, row after row) -> t, and back. */
int df_upload(struct df_backend *be, struct df_tensor dst, const void *src, struct df_err *err) DF_MUST_CHECK;
int df_download(struct df_backend *be, void *dst, struct df_tensor src, struct df_err *err) DF_MUST_CHECK;
/*
 * The same where it is needed: *at = src's elements, row after row, where they are if the host can read them there and
 * src is dense, else dst.  They stay until the next operation that writes src.
 */
int df_download_or_see(struct df_backend *be, const void **at, void *dst, struct df_tensor src, struct df_err *err)
    DF_MUST_CHECK;
/* Copy (same shape; converts between F32, BF16 and F16). */
int df_copy(struct df_backend *be, struct df_tensor dst, struct df_tensor src, struct df_err *err) DF_MUST_CHECK;
int df_fill(struct df_backend *be, struct df_tensor dst, float value, struct df_err *err) DF_MUST_CHECK;
/* All that was called in this lane is done. */
int df_sync(struct df_backend *be, struct df_err *err) DF_MUST_CHECK;

/*
 * A stage: memory that host and device both see, for a batch's indices and its results per row.  The host writes its
 * side and pushes; operations work on views of the device's side; what they wrote is pulled, and is there on the
 * host's side after the wait.  On host backends both sides are one buffer, and push, pull and wait do nothing.
 *
 * Copies take their turn among the operations, as they are called, but push and pull only begin them: until
 * df_stage_wait() the host may not write what it pushed, nor touch what it pulled.  poison finds who does, and a
 * push or a wait that is missing.  One thread at a time.
 */
struct df_stage;
int df_stage_new(struct df_backend *be, struct df_stage **out, size_t nbytes, const char *what, struct df_err *err)
    DF_MUST_CHECK;
/*
 * The stage for a new batch: *st (or NULL) with at least nbytes, after all copies under way, so that the host may
 * write to its side.  Where it had to grow, what it held and the views of it are lost.
 */
int df_stage_reuse(struct df_backend *be, struct df_stage **st, size_t nbytes, const char *what, struct df_err *err)
    DF_MUST_CHECK;
void df_stage_free(struct df_backend *be, struct df_stage **st); /* accepts NULL in *st; *st becomes NULL */
/* The host's side from byte `at` on, 64-byte aligned where `at` is. */
void *df_stage_host(const struct df_stage *st, size_t at);
/* A dense window on the device's side; `at` is a multiple of the type's size, or every operation refuses it. */
struct df_tensor df_stage_view(const struct df_stage *st, enum df_dtype type, size_t at, size_t rows, size_t cols);
/* Begin to copy the bytes [first, first + n) to the device, and to the host. */
int df_stage_push(struct df_stage *st, size_t first, size_t n, struct df_err *err) DF_MUST_CHECK;
int df_stage_pull(struct df_stage *st, size_t first, size_t n, struct df_err *err) DF_MUST_CHECK;
/* All copies that began have ended. */
int df_stage_wait(struct df_stage *st, struct df_err *err) DF_MUST_CHECK;

/* ---- types --------------------------------------------------------------- */

/*
 * Activations and their gradients are f32, or bf16 on a backend that takes bf16, and within a call all of one type.
 * An operand with a type of its own is named where it stands.  All else is f32: weights and gradients of vectors and
 * gradients of matrices, statistics of rows (rstd, lse, nll, weights of experts), the optimiser's.  Arithmetic is f32
 * or wider from widened operands; a bf16 result is rounded once, to nearest even, as it is stored, and a sum over
 * rows or into a bf16 tensor rounds once, not at every term.
 */

/* ---- matrix product ----------------------------------------------------- */

/*
 * c [M,N] = alpha * op(a) op(b) + beta * c, shapes from the windows; a and c are activations, each of its own type (c
 * may be the gradient of a matrix), b is f32, bf16 or f16 (weights at rest or activations, widened on their way: the
 * result is that of b converted to f32, to the bit).  beta = 0 does not read c.
 * On an exact backend an element depends on its row of op(a) and its column of op(b) alone, to the bit: not on M, N,
 * the batch, threads, or strides.
 */
struct df_gemm {
	bool ta, tb;
	float alpha, beta;
	struct df_tensor a, b, c;
};
int df_gemm(struct df_backend *be, const struct df_gemm *g, struct df_err *err) DF_MUST_CHECK;

/*
 * Products by group: rows [first[e], first[e+1]) of a and of c belong to group e of n and have its own b, as the rows
 * of an expert do:
 *   c[r,:] = alpha a[r,:] op(b_e) + beta c[r,:]        for the rows r of e
 * a [R,K], c [R,N], activations, each of its own type; first [1,n+1] u32, from 0 ascending to R; b is a list of n
 * tensors of one shape, each f32, bf16 or f16.  A group without a b (NONE) keeps its rows of c.  An element is that of
 * df_gemm(), to the bit on an exact backend.  `first` is checked where the host can see it.
 */
struct df_gemm_groups {
	bool tb;
	float alpha, beta;
	struct df_tensor a, c, first;
	const struct df_tensor *b; /* [n], host */
	size_t n;
};
int df_gemm_groups(struct df_backend *be, const struct df_gemm_groups *g, struct df_err *err) DF_MUST_CHECK;
/*
 * The gradients of those b, sums over the rows of each group:
 *   c_e = alpha sum over the rows r of e of a[r,:]^T b[r,:] + beta c_e
 * a [R,M], b [R,N], activations, each of its own type; c is a list of n tensors [M,N] of f32.  NONE: not wanted.
 */
struct df_gemm_group_sums {
	float alpha, beta;
	struct df_tensor a, b, first;
	const struct df_tensor *c; /* [n], host */
	size_t n;
};
int df_gemm_group_sums(struct df_backend *be, const struct df_gemm_group_sums *g, struct df_err *err) DF_MUST_CHECK;

/*
 * For each segment s of rows: c[s] = alpha * a_s^T b_s, the gradient of a matrix for each sample.  a [R,m], b [R,n],
 * activations, each of its own type; a row of c [S, m*n] holds the m x n elements of one matrix, row after row; it is
 * zero where the segment is empty.  On an exact backend it has the bits of a df_gemm of the segment's rows.
 */
struct df_gemm_segments {
	float alpha;
	struct df_tensor a, b, c;
	struct df_tensor offsets; /* [1,S+1] rows of a and b */
};
int df_gemm_segments(struct df_backend *be, const struct df_gemm_segments *g, struct df_err *err) DF_MUST_CHECK;

/* ---- element-wise and reductions ---------------------------------------- */

/* y += alpha * x (same shape). */
int df_axpy(struct df_backend *be, float alpha, struct df_tensor x, struct df_tensor y, struct df_err *err)
    DF_MUST_CHECK;
/* x *= alpha. */
int df_scale(struct df_backend *be, float alpha, struct df_tensor x, struct df_err *err) DF_MUST_CHECK;
/* x[t,:] += bias[:] (bias [1,C], f32, or an activation of its own type). */
int df_bias_add(struct df_backend *be, struct df_tensor x, struct df_tensor bias, struct df_err *err) DF_MUST_CHECK;
/* out[1,C] (+)= sum over rows of x [R,C]; out is f32. */
int df_colsum(struct df_backend *be, struct df_tensor x, struct df_tensor out, bool accumulate, struct df_err *err)
    DF_MUST_CHECK;
/* out[s,:] = sum over the rows of segment s of x [R,C]; out [S,C], offsets [1,S+1]. */
int df_colsum_segments(struct df_backend *be, struct df_tensor x, struct df_tensor offsets, struct df_tensor out,
    struct df_err *err) DF_MUST_CHECK;
/* out [1,1] f64 = sum of squares of x, accumulated in f64 in a fixed order. */
int df_sumsq(struct df_backend *be, struct df_tensor x, struct df_tensor out, struct df_err *err) DF_MUST_CHECK;

/* ---- transformer layers: forward and backward together ------------------ */

/* out[t,:] = table[ids[t],:], out an activation, table f32, bf16 or f16; ids [1,T], each < table.rows. */
int df_embed_fwd(struct df_backend *be, struct df_tensor out, struct df_tensor table, struct df_tensor ids,
    struct df_err *err) DF_MUST_CHECK;
/* dtable[ids[t],:] += dout[t,:], in the order of t; activations, each of its own type, or dtable a gradient. */
int df_embed_bwd(struct df_backend *be, struct df_tensor dtable, struct df_tensor dout, struct df_tensor ids,
    struct df_err *err) DF_MUST_CHECK;

/*
 * y = w * x / rms(x), rms over a row: sqrt(mean x^2 + eps); rstd [T,1] is kept for the
 * backward. Zhang & Sennrich 2019.
 */
struct df_rmsnorm {
	float eps;
	struct df_tensor x, w, y, rstd; /* [T,D] [1,D] [T,D] [T,1] */
	size_t n_heads; /* 0, or each of n_heads parts of a row on its own: x, y [T,H*E], w [1,E], rstd [T,H] */
};
int df_rmsnorm_fwd(struct df_backend *be, const struct df_rmsnorm *a, struct df_err *err) DF_MUST_CHECK;
struct df_rmsnorm_bwd {
	struct df_tensor x, w, rstd, dy;
	struct df_tensor dx;      /* [T,D] += (the residual stream's gradient) */
	struct df_tensor dw;      /* [S,D], per segment of offsets (=), or NONE */
	struct df_tensor offsets; /* [1,S+1] rows of x per row of dw; NONE = one segment of all rows */
	bool accumulate;          /* dw += instead of = */
	size_t n_heads;           /* as in the forward */
	bool assign;              /* dx = instead of +=; dx may then be dy */
};
int df_rmsnorm_bwd(struct df_backend *be, const struct df_rmsnorm_bwd *a, struct df_err *err) DF_MUST_CHECK;

/* y = w (x - mean) / sqrt(var + eps) + b over each row, var biased; y may be x.  Ba et al. 2016.  Forward only. */
struct df_layernorm {
	float eps;
	struct df_tensor x, w, b, y; /* [T,D] [1,D] [1,D] [T,D] */
};
int df_layernorm_fwd(struct df_backend *be, const struct df_layernorm *a, struct df_err *err) DF_MUST_CHECK;
/*
 * y = x Phi(x), by the error function, not its tanh approximation; y may be x.  The relative error is below 3e-7,
 * for x < 0 below 3e-7 + 1.2e-7 x^2.  Hendrycks & Gimpel 2016.
 */
int df_gelu_fwd(struct df_backend *be, struct df_tensor y, struct df_tensor x, struct df_err *err) DF_MUST_CHECK;

/*
 * Rotary embedding in place, half-split form: x [T, n_heads*E] as heads of E;
 * cos, sin are tables [P, E/2]; the position of row t is pos[t] < P.
 * inverse = the backward (rotation by minus the angle).  Su et al. 2021.
 */
struct df_rope {
	struct df_tensor x, cos, sin;
	struct df_tensor pos; /* [1,T] */
	size_t n_heads;
	bool inverse;
};
int df_rope(struct df_backend *be, const struct df_rope *a, struct df_err *err) DF_MUST_CHECK;

/*
 * Causal self-attention, sample by sample of a ragged batch, grouped heads
 * (head h reads key/value head h / (H/K)):
 *   o = softmax(scale q k^T + causal mask) v
 * lse [T,H] (log-sum-exp of each row of scores) is kept for the backward, which recomputes
 * the probabilities from it: no [T,T] tensor is kept.
 * window > 0: query i sees keys j with i - window < j <= i.
 */
struct df_attn {
	struct df_tensor q, k, v;   /* [T,H*E] [T,K*E] [T,K*E] */
	struct df_tensor o, lse;    /* [T,H*E] [T,H] */
	struct df_tensor offsets;   /* [1,S+1] */
	size_t n_heads, n_kv_heads;
	size_t window;              /* 0 = none */
	float scale;
	bool bidirectional;         /* no causal mask: every token sees its whole sample; forward only, no window */
};
int df_attn_fwd(struct df_backend *be, const struct df_attn *a, struct df_err *err) DF_MUST_CHECK;
struct df_attn_bwd {
	struct df_attn fwd;          /* the forward's arguments and results */
	struct df_tensor d_o;        /* [T,H*E] */
	struct df_tensor dq, dk, dv; /* assigned */
};
int df_attn_bwd(struct df_backend *be, const struct df_attn_bwd *a, struct df_err *err) DF_MUST_CHECK;

/*
 * One new token per sequence against what is kept of its past: sequence s has its keys and values in rows
 * [first[s], first[s] + n[s]) of k and v, the new token's own last; o[s] = softmax(scale q[s] k^T) v.
 * window > 0: only the last `window` of them are seen.  Without a window: the bits of df_attn_fwd's last row.
 */
struct df_attn_decode {
	struct df_tensor q, o;        /* [S,H*E] */
	struct df_tensor k, v;        /* [rows,K*E] */
	struct df_tensor first, n;    /* [1,S] */
	size_t n_heads, n_kv_heads, window;
	float scale;
};
int df_attn_decode(struct df_backend *be, const struct df_attn_decode *a, struct df_err *err) DF_MUST_CHECK;

/* h = silu(gate) * up, [T,F] each.  Backward: dgate, dup assigned (may overwrite gate and up). Shazeer 2020. */
int df_swiglu_fwd(struct df_backend *be, struct df_tensor h, struct df_tensor gate, struct df_tensor up,
    struct df_err *err) DF_MUST_CHECK;
int df_swiglu_bwd(struct df_backend *be, struct df_tensor dgate, struct df_tensor dup, struct df_tensor dh,
    struct df_tensor gate, struct df_tensor up, struct df_err *err) DF_MUST_CHECK;

/*
 * Where a mixture of experts sends each row: p = softmax(logits) over X experts; the row goes to the k experts with
 * the largest p (ties: the lowest number), largest first, with weight p, divided by the sum of the k if
 * `normalise` is set.  Fedus et al. 2021, Jiang et al. 2024.
 */
struct df_route {
	struct df_tensor logits, p; /* [T,X] each */
	struct df_tensor weight;    /* [T,k] */
	struct df_tensor expert;    /* [T,k] u32 */
	bool normalise;
};
int df_route_fwd(struct df_backend *be, const struct df_route *a, struct df_err *err) DF_MUST_CHECK;
struct df_route_bwd {
	struct df_tensor p, weight; /* the forward's */
	struct df_tensor expert;    /* the forward's: each < X, checked where the host can see it */
	struct df_tensor dweight;   /* [T,k] */
	struct df_tensor dlogits;   /* [T,X] assigned; may be p */
	bool normalise;
};
int df_route_bwd(struct df_backend *be, const struct df_route_bwd *a, struct df_err *err) DF_MUST_CHECK;
/*
 * The rows in the order of their experts: R = T k of them, by expert and then by row, so that an expert's rows lie side
 * by side, and in them those of a sample.  All u32.  The checks are made where the host can see the numbers.
 *
 *	row    3 7 8 | 0 3 | - | 1 2 8 ...
 *	       e 0     e 1  e 2  e 3
 */
struct df_route_plan {
	struct df_tensor expert;     /* [T,k], each < X (checked) */
	struct df_tensor offsets;    /* [1,S+1]: the samples' rows, from 0 ascending to T (checked) */
	struct df_tensor token;      /* [1,T]: the token of each row; NONE: row t is token t */
	size_t n_experts;            /* X */
	struct df_tensor row, slot;  /* out, [1,R]: the row t, and its place t k + i in `expert` */
	struct df_tensor row_token;  /* out, [1,R]: the row's token */
	struct df_tensor first;      /* out, [1,X+1]: expert e has [first[e], first[e+1]) */
	struct df_tensor seg;        /* out, [1,X (S+1)]: of each expert its samples' offsets, from its first row on */
};
int df_route_plan(struct df_backend *be, const struct df_route_plan *a, struct df_err *err) DF_MUST_CHECK;
/* y[t,:] = s[t] * x[t,:], s [T,1]; y may be x. */
int df_row_scale(struct df_backend *be, struct df_tensor y, struct df_tensor x, struct df_tensor s,
    struct df_err *err) DF_MUST_CHECK;
/* out[t] = sum over j of x[t,j] y[t,j], out [T,1]. */
int df_row_dot(struct df_backend *be, struct df_tensor out, struct df_tensor x, struct df_tensor y,
    struct df_err *err) DF_MUST_CHECK;
/* y = 1 / (1 + exp(-x)); y may be x.  Backward: dx = dy y (1 - y), assigned; may be dy. */
int df_sigmoid_fwd(struct df_backend *be, struct df_tensor y, struct df_tensor x, struct df_err *err) DF_MUST_CHECK;
int df_sigmoid_bwd(struct df_backend *be, struct df_tensor dx, struct df_tensor dy, struct df_tensor y,
    struct df_err *err) DF_MUST_CHECK;

/*
 * The end of the model: cross-entropy of logits = h w^T, of which there is never more than a tile.  Forward:
 *   lse[t]     = log of the sum over v of exp(logits[t,v])
 *   nll[t]     = lse[t] - logits[t, target[t]]
 *   correct[t] = 1 if the target is the most likely token (ties: lowest id), else 0
 * Backward, with g_t = scale[t] * (exp(logits[t] - lse[t]) - onehot):
 *   dh[t]  = g_t w                      (assigned)
 *   dw    += sum over the rows t of g_t^T h[t]
 * It computes the logits once more, as the factors of targets may depend on their losses: scale is given after the
 * forward.  Where it is known before, df_xent() does both with one product less.  So does a backward that is given the
 * `logits` of its forward, where there is memory for all of them; df_backend_traits.keeps_logits: DF_EUNSUPPORTED
 * elsewhere.  All give the same bits.
 * h has one row per predicted target only (the caller gathers them).
 */
struct df_xent {
	struct df_tensor h, w;    /* [L,D] f32, [V,D] f32, bf16 or f16 */
	struct df_tensor target;  /* [1,L] u32, each < V */
	struct df_tensor nll;     /* [1,L] f32; not in df_xent_bwd() */
	struct df_tensor lse;     /* [1,L] f32: out, or NONE; df_xent_bwd(): in */
	struct df_tensor correct; /* [1,L] u8 or NONE; not in df_xent_bwd() */
	/* backward; not in df_xent_fwd() */
	struct df_tensor scale;   /* [1,L] f32 */
	struct df_tensor dh;      /* [L,D] */
	struct df_tensor dw;      /* [V,D] += over all rows, or NONE */
	struct df_tensor dlogits; /* [L,V] = g_t, for per-sample head gradients, or NONE.  The caller bounds L. */
	/*
	 * [L,V] f32 or NONE; not in df_xent().  df_xent_fwd() leaves in it, in a form of its own, what df_xent_bwd()
	 * goes on from, and uses up.  Not together with dlogits.
	 */
	struct df_tensor logits;
};
int df_xent_fwd(struct df_backend *be, const struct df_xent *a, struct df_err *err) DF_MUST_CHECK;
int df_xent_bwd(struct df_backend *be, const struct df_xent *a, struct df_err *err) DF_MUST_CHECK;
int df_xent(struct df_backend *be, const struct df_xent *a, struct df_err *err) DF_MUST_CHECK;

/* dst[i,:] = src[rows[i],:] and dst[rows[i],:] += src[i,:], in the order of i. */
int df_gather_rows(struct df_backend *be, struct df_tensor dst, struct df_tensor src, struct df_tensor rows,
    struct df_err *err) DF_MUST_CHECK;
int df_scatter_rows(struct df_backend *be, struct df_tensor dst, struct df_tensor src, struct df_tensor rows,
    struct df_err *err) DF_MUST_CHECK;

/*
 * Inverted dropout: y = x * keep / (1-p), keep drawn from Philox.  The draw of an element is addressed by its sample's
 * key, `substream`, the place of its token in the sample, and its column: it does not depend on what else is in the
 * call.  Same call = backward.  y may be x.
 */
struct df_dropout {
	struct df_tensor x, y;          /* [T,C] */
	struct df_tensor offsets;       /* [1,S+1] the samples' rows */
	struct df_tensor token;         /* [1,T] which token a row is, one of its sample's; NONE: row t is token t */
	struct df_tensor token_offsets; /* [1,S+1] the samples' tokens */
	struct df_tensor key;           /* [S,2] u32: low and high half of each sample's */
	uint32_t substream;
	float p;                        /* in [0,1) */
};
int df_dropout(struct df_backend *be, const struct df_dropout *a, struct df_err *err) DF_MUST_CHECK;

/* ---- optimiser ---------------------------------------------------------- */

/*
 * What a gradient is multiplied by, from the sum of its squares: clip [1,2] f64 = { scale, finite }.
 *   scale  = max_norm / (sqrt(sumsq) + 1e-6), at most 1; 1 when max_norm is 0
 *   finite = 1; where sumsq is not finite, both are 0
 * torch.nn.utils.clip_grad_norm_; Pascanu et al. 2013.  sumsq [1,1] f64.
 */
struct df_clip {
	struct df_tensor sumsq, clip;
	double max_norm;
};
int df_clip(struct df_backend *be, const struct df_clip *a, struct df_err *err) DF_MUST_CHECK;

/*
 * AdamW on flat ranges, decoupled decay (Loshchilov & Hutter 2019), as
 * torch.optim.AdamW: w *= 1 - lr*decay; m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2;
 * w -= lr/(1-b1^step) * m / (sqrt(v)/sqrt(1-b2^step) + eps).
 * With clip, g is multiplied by its scale first, and where it says that the gradient is not finite, w, m, v and low
 * stay as they are: so sumsq, clip and update need no wait between them.
 * low, unless NONE, becomes the new w in its own type (bf16, f16), rounded to nearest even: what models multiply with.
 */
struct df_adamw {
	struct df_tensor w, g, m, v; /* same shape, f32 */
	struct df_tensor clip;       /* [1,2] of df_clip(), or NONE */
	double lr, beta1, beta2, eps, decay;
	uint64_t step; /* from 1 */
	struct df_tensor low; /* the same shape, f32, bf16 or f16 */
};
int df_adamw(struct df_backend *be, const struct df_adamw *a, struct df_err *err) DF_MUST_CHECK;

/*
 * Adam's view of a gradient, in place (LESS, Xia et al. 2024): per column j of g [S,n]
 *   m' = b1 m_j + (1-b1) g;  v' = b2 v_j + (1-b2) g^2
 *   g = m' / (sqrt(v') + eps)      or, eps_inside,  m' / sqrt(v' + eps)
 * m, v [1,n] are not changed.
 */
struct df_adam_form {
	struct df_tensor g, m, v;
	double beta1, beta2, eps;
	bool eps_inside;
};
int df_adam_form(struct df_backend *be, const struct df_adam_form *a, struct df_err *err) DF_MUST_CHECK;
/* g = sign(g), element-wise (0 stays 0). */
int df_sign(struct df_backend *be, struct df_tensor g, struct df_err *err) DF_MUST_CHECK;

/* ---- random projection -------------------------------------------------- */

/*
 * y[s,c] += sum over j of g[s,j] * R[first+j][c], R never stored.
 *   rademacher: R[p][c] = +-1 from bit (c mod 32) of word ((c mod 128)/32) of
 *     Philox(ctr = (low32 p, high32 p, c/128, (1<<24)|model_id), key = seed)
 *   sjlt: each p has `sparsity` nonzeros +-1/sqrt(sparsity); see project/project.h
 * Row-independent; the sum over j runs in a fixed order for a given split of the coordinates into pieces and calls
 * (project/project.h says which split is used everywhere).
 */
enum df_projection_type { DF_PROJ_RADEMACHER, DF_PROJ_SJLT };
struct df_project {
	enum df_projection_type type;
	struct df_tensor g;   /* [S,n] f32 */
	struct df_tensor y;   /* [S,k] f32 */
	uint64_t first;       /* flat coordinate of g's first column */
	uint64_t seed;
	uint32_t model_id;
	uint32_t sparsity;    /* sjlt: nonzeros per coordinate */
	/* g's pieces have this many columns (the last may have fewer); 0: g is one.  As a call for each, last first. */
	size_t piece;
};
int df_project(struct df_backend *be, const struct df_project *a, struct df_err *err) DF_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
