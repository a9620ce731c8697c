/*
 * plugin.h - what a backend is made of, and how one comes from a shared library.
 *
 * A public function df_<op>() (ops.c) checks the arguments, lists the tensors that the operation touches, and calls the
 * backend's slot, or, where it is empty, the CPU's on host copies.  So a backend needs memory and GEMM to work, and
 * gets fast slot by slot.  Copies of bf16 activations are float32: no slot of the CPU needs to know bf16.  With
 * DF_BACKEND_STRICT=1 in the environment an empty slot is an error instead, so that "all of it runs on the device" is
 * a test.
 *
 * A backend may be a shared library, in C11, C++17 or CUDA; this header is valid in all of them.  It exports one
 * function and fills its table there, as C++ has no designated arrays:
 *
 *	extern "C" const struct df_backend_ops *
 *	df_backend_plugin(int api_version)
 *	{
 *		static df_op_fn *op[DF_OP_COUNT];
 *		static struct df_backend_ops ops;
 *
 *		op[DF_OP_GEMM] = my_gemm;
 *		ops.api_version = DF_BACKEND_API_VERSION;
 *		ops.name = "cuda";
 *		ops.op = op;
 *		...
 *		return &ops;
 *	}
 *
 *	c++ -std=c++17 -shared -fPIC -fvisibility=hidden -I PREFIX/include/df-tools mine.cc -o df-cuda.so
 *
 * It is not linked with libdf: it calls the functions of the program that loads it (lib/libdf.exports lists them), so
 * that there is one pool, one log and one count of memory.  tests/plugin/backend.c and backend.cc are small ones.
 */
#ifndef DF_BACKEND_PLUGIN_H
#define DF_BACKEND_PLUGIN_H

#include "backend/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DF_BACKEND_API_VERSION 4

/*
 * One allocation: bytes, which windows give a type.  `data` is the backend's: a host address for cpu, poison and the
 * reference, a device address elsewhere.
 */
struct df_mem {
	struct df_backend *be;
	void *data;
	size_t nbytes;
	bool read_only; /* df_tensor_borrow()'s: no operation may write it */
	bool borrowed;  /* data is the caller's */
	void *priv; /* the backend's own */
};

/* The operations, and the type that `args` points to in each slot. */
enum df_op {
	DF_OP_COPY,       /* struct df_op_pair: dst = src, converted */
	DF_OP_FILL,       /* struct df_op_pair: dst = alpha */
	DF_OP_GEMM,       /* struct df_gemm */
	DF_OP_GEMM_SEGMENTS, /* struct df_gemm_segments */
	DF_OP_GEMM_GROUPS, /* struct df_gemm_groups */
	DF_OP_GEMM_GROUP_SUMS, /* struct df_gemm_group_sums */
	DF_OP_AXPY,       /* struct df_op_pair: dst += alpha * src */
	DF_OP_SCALE,      /* struct df_op_pair: dst *= alpha */
	DF_OP_BIAS_ADD,   /* struct df_op_pair: dst[t,:] += src[0,:] */
	DF_OP_COLSUM,     /* struct df_op_colsum */
	DF_OP_SUMSQ,      /* struct df_op_pair: dst[0,0] = sum of src[t,j]^2, f64 */
	DF_OP_EMBED_BWD,  /* struct df_op_rows: dst[rows[i],:] += src[i,:] in the order of i; also df_scatter_rows */
	DF_OP_GATHER,     /* struct df_op_rows: dst[i,:] = src[rows[i],:]; also df_embed_fwd */
	DF_OP_RMSNORM_FWD, /* struct df_rmsnorm */
	DF_OP_RMSNORM_BWD, /* struct df_rmsnorm_bwd */
	DF_OP_LAYERNORM,  /* struct df_layernorm */
	DF_OP_GELU,       /* struct df_op_pair: dst = gelu(src) */
	DF_OP_ROPE,       /* struct df_rope */
	DF_OP_ATTN_FWD,   /* struct df_attn */
	DF_OP_ATTN_BWD,   /* struct df_attn_bwd */
	DF_OP_ATTN_DECODE, /* struct df_attn_decode */
	DF_OP_SWIGLU_FWD, /* struct df_op_swiglu */
	DF_OP_SWIGLU_BWD, /* struct df_op_swiglu */
	DF_OP_ROUTE_FWD,  /* struct df_route */
	DF_OP_ROUTE_BWD,  /* struct df_route_bwd */
	DF_OP_ROUTE_PLAN, /* struct df_route_plan */
	DF_OP_ROW_SCALE,  /* struct df_op_triple: a[t,:] = c[t] b[t,:] */
	DF_OP_ROW_DOT,    /* struct df_op_triple: a[t] = sum of b[t,:] c[t,:] */
	DF_OP_SIGMOID_FWD, /* struct df_op_pair: dst = sigmoid(src) */
	DF_OP_SIGMOID_BWD, /* struct df_op_triple: a = b c (1 - c) */
	DF_OP_XENT_FWD,   /* struct df_xent; what an operation does not use is NONE */
	DF_OP_XENT_BWD,   /* struct df_xent */
	DF_OP_XENT,       /* struct df_xent */
	DF_OP_DROPOUT,    /* struct df_dropout */
	DF_OP_CLIP,       /* struct df_clip */
	DF_OP_ADAMW,      /* struct df_adamw */
	DF_OP_ADAM_FORM,  /* struct df_adam_form */
	DF_OP_SIGN,       /* struct df_op_pair: dst = sign(dst) */
	DF_OP_PROJECT,    /* struct df_project */
	DF_OP_COUNT
};

struct df_op_pair {
	struct df_tensor dst, src;
	float alpha;
	bool accumulate;
};
struct df_op_triple {
	struct df_tensor a, b, c;
};
struct df_op_colsum {
	struct df_tensor x, out;  /* [R,C] [S,C] */
	struct df_tensor offsets; /* [1,S+1]; NONE: one segment */
	bool accumulate;
};
struct df_op_rows {
	struct df_tensor dst, src, rows;
};
struct df_op_swiglu {
	struct df_tensor h, gate, up; /* forward: h from gate, up; backward: h is dh */
	struct df_tensor dgate, dup;
};

/* A tensor that an operation touches, and how.  `t` points into the operation's args. */
enum df_access { DF_IN = 1, DF_OUT = 2, DF_INOUT = 3 };
enum df_types {
	DF_ONLY_F32,
	DF_ACT,     /* f32, or bf16 where the backend takes it; all of a call alike */
	DF_ACT_OWN, /* the same, whatever type the others are */
	DF_FLOATS,  /* f32, bf16, f16: widened as it is read; rounded as it is written */
	DF_ANY_TYPE,
	DF_INDICES, /* u32 */
	DF_ONLY_F64,
	DF_ONLY_U8
};
struct df_operand {
	struct df_tensor *t;
	enum df_access access;
	const char *name;
	enum df_types types;
};

struct df_cpu_product; /* cpu/gemm.h */

/* Memory that host and device both see. */
struct df_stage {
	struct df_backend *be;   /* the lane that copies */
	struct df_tensor device; /* DF_U8 [1, bytes] */
	void *host;              /* the other side; the same memory where the host can see the device's */
	void *priv;              /* the backend's own */
};

/* How a backend copies between the two sides, beside the host.  Ranges are checked and not empty. */
struct df_stage_ops {
	/* set st->host and st->priv; st->device is there */
	int (*open)(struct df_backend *be, struct df_stage *st, const char *what, struct df_err *err);
	void (*close)(struct df_backend *be, struct df_stage *st); /* after a failed open(), too */
	int (*push)(struct df_backend *be, struct df_stage *st, size_t first, size_t n, struct df_err *err);
	int (*pull)(struct df_backend *be, struct df_stage *st, size_t first, size_t n, struct df_err *err);
	int (*wait)(struct df_backend *be, struct df_stage *st, struct df_err *err);
};

typedef int df_op_fn(struct df_backend *be, const void *args, struct df_err *err);

/* Who computes with activations (DF_ACT, DF_ACT_OWN) of bf16. */
enum df_bf16 {
	DF_BF16_NONE,   /* nobody: they are refused */
	DF_BF16_COPIES, /* the slots, on float32 copies: what they store there is rounded to nearest even */
	DF_BF16_SLOTS   /* the slots themselves */
};

struct df_backend_ops {
	int api_version; /* DF_BACKEND_API_VERSION; checked at open */
	const char *name;
	bool on_host;       /* memory is host memory at any time: the caller's may be used in place */
	bool reads_on_host; /* the host can read an operation's operands while its slot runs: values are checked */
	bool exact;         /* df_backend_is_exact() */
	bool keeps_logits;  /* its slots of xent_fwd and xent_bwd know df_xent.logits */
	enum df_bf16 act_bf16;

	/* optional: may --device auto take it on this machine?  NULL means no: it is opened by its name only. */
	bool (*suits)(void);
	/* optional: with what it computes here, for df_backend_list(): "AVX2".  Works without open. */
	void (*describe)(char *out, size_t size);

	/* optional: *t has the CPU's numbers; change what the device likes otherwise. */
	void (*traits)(const struct df_backend *be, struct df_backend_traits *t);
	/* optional: df_backend_available(); NULL means the host's memory. */
	size_t (*available)(const struct df_backend *be);

	/* required: life and memory */
	int (*open)(struct df_backend *be, const char *device, struct df_err *err);
	void (*close)(struct df_backend *be);
	/* m->nbytes are wanted (never 0): set m->data and m->priv. */
	int (*alloc)(struct df_backend *be, struct df_mem *m, const char *what, struct df_err *err);
	void (*free)(struct df_backend *be, struct df_mem *m);
	int (*upload)(struct df_backend *be, struct df_tensor dst, const void *src, struct df_err *err);
	int (*download)(struct df_backend *be, void *dst, struct df_tensor src, struct df_err *err);
	int (*sync)(struct df_backend *be, struct df_err *err);
	/* optional: stages; NULL means plain host memory, upload and download.  Not asked where `on_host` is set. */
	const struct df_stage_ops *stage;

	/*
	 * optional: begin a lane (backend.h), whose priv is its own and the rest the root's; wait for its work and end
	 * it.  NULL: the root is the only lane.
	 */
	int (*fork)(struct df_backend *lane, struct df_err *err);
	void (*join)(struct df_backend *lane);

	/*
	 * required: op[DF_OP_GEMM]. Optional: the others; NULL means download, the CPU's
	 * version, upload, logged once.
	 */
	df_op_fn *const *op; /* [DF_OP_COUNT] */
	/* optional: how the CPU's slots multiply here; NULL means with the project's own kernels, as in plug-ins. */
	const struct df_cpu_product *product;

	/* optional: called before and after each operation with its operands; NULL means nothing to do.
	 * leave() is called if and only if enter() returned 0; its error is the operation's. */
	int (*enter)(struct df_backend *be, const struct df_operand *o, size_t n, struct df_err *err);
	int (*leave)(struct df_backend *be, const struct df_operand *o, size_t n, struct df_err *err);
};

struct df_backend {
	const struct df_backend_ops *ops;
	struct df_backend *root; /* itself, or what this is a lane of: memory belongs to the root */
	struct df_pool *pool;    /* NULL: one thread */
	void *priv;              /* the backend's own */
	enum df_dtype compute;   /* df_backend_compute(); the root's */
};

/* The address of t's first element, for backends whose memory the host can reach. */
static inline void *
df_tensor_host(struct df_tensor t)
{
	return t.mem ? (char *)t.mem->data + t.off * df_dtype_size(t.type) : NULL;
}
static inline float *
df_tensor_f32(struct df_tensor t)
{
	return t.mem ? (float *)t.mem->data + t.off : NULL;
}
static inline uint32_t *
df_tensor_u32(struct df_tensor t)
{
	return t.mem ? (uint32_t *)t.mem->data + t.off : NULL;
}

/* The segment of row t, of n: offsets [n+1] begin at 0 and do not decrease, t < offsets[n]. */
static inline size_t
df_segment_of(const uint32_t *offsets, size_t n, size_t t)
{
	size_t lo = 0, hi = n;

	while (hi - lo > 1) {
		const size_t mid = lo + (hi - lo) / 2;

		if (offsets[mid] <= t)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}
/* Dropout of row t: the number of its first element among those of its sample, and the sample's key. */
static inline uint64_t
df_dropout_first(const struct df_dropout *a, size_t t, uint64_t *key)
{
	const size_t s = df_segment_of(df_tensor_u32(a->offsets), a->key.rows, t);
	const uint32_t *half = df_tensor_u32(a->key) + s * a->key.ld;

	*key = half[0] | (uint64_t)half[1] << 32;
	return ((a->token.mem ? df_tensor_u32(a->token)[t] : t) - df_tensor_u32(a->token_offsets)[s]) *
	    (uint64_t)a->x.cols;
}

/*
 * What a shared library exports.  It is given the version of the program, and answers with its table, which lives as
 * long as the library, or with NULL if it does not know that version.  Called once, by one thread.
 */
#define DF_BACKEND_PLUGIN "df_backend_plugin"
typedef const struct df_backend_ops *df_backend_plugin_fn(int api_version);
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const struct df_backend_ops *df_backend_plugin(int api_version);

#ifdef __cplusplus
}
#endif
#endif
