/*
 * cuda.h - the CUDA backend's own: its lanes, and one function for each operation.
 *
 * A slot of the table is a function df_cuda_<op>() in the .cu file that has its kernels: it takes the checked
 * arguments apart, launches into the lane's stream, and returns.  Nothing there waits for the device.
 *
 *	cuda.c        the table: devices, memory, lanes, stages, traits
 *	rt.c          the CUDA runtime (rt.h)      blas.c    cuBLASLt (blas.h)
 *	elem.cu       one pass over elements       norm.cu   rows: norms, sums, dot products
 *	rows.cu       gathers and scatters         optim.cu  AdamW, clip, Adam's view of a gradient
 *	gemm.cu       products                     segments.cu  products by sample and by expert
 *	attn.cu, attn_bwd.cu, decode.cu  attention xent.cu   the head and its loss
 *	route.cu      mixtures of experts          project.cu, sjlt.cu  random projection
 *	emu/          the same kernels on the CPU (DF_EMULATOR)
 */
#ifndef DF_BACKEND_CUDA_CUDA_H
#define DF_BACKEND_CUDA_CUDA_H

#include <pthread.h>

#include "backend/cuda/rt.h"
#include "backend/plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A device that is open: the root's. */
struct df_cuda {
	int number;
	struct rt_device device;
};

/* Memory of a lane that grows. */
struct df_cuda_scratch {
	void *data;
	size_t nbytes;
};

/* What a lane has, the root's own included: be->priv. */
struct df_cuda_lane {
	struct df_cuda *dev;
	rt_stream_t stream;
	struct df_cuda_scratch scratch, outer_scratch; /* of df_cuda_scratch() and df_cuda_outer_scratch() */
	void *blas; /* blas.c's: a handle; NULL until first used */
	pthread_mutex_t lock; /* held during an operation: what is above belongs to its thread */
};

static inline struct df_cuda_lane *
df_cuda_lane_of(const struct df_backend *be)
{
	return (struct df_cuda_lane *)be->priv;
}

/*
 * At least nbytes of this lane's scratch memory, 256-byte aligned, for the operation that is being called: the next
 * call may give the same.  One call for each operation.  It grows by waiting for the lane; in a steady state it does
 * not.
 */
int df_cuda_scratch(struct df_backend *be, void **out, size_t nbytes, struct df_err *err) DF_MUST_CHECK;
/* The same, other memory, for an operation that calls slots which may have the first. */
int df_cuda_outer_scratch(struct df_backend *be, void **out, size_t nbytes, struct df_err *err) DF_MUST_CHECK;

/* The end of every slot: what the launches above it met with.  `what` is the operation's name. */
static inline int
df_cuda_launched(const char *what, struct df_err *err)
{
	return rt_last_error(what, err);
}

/* The slots. */
df_op_fn df_cuda_copy, df_cuda_fill, df_cuda_axpy, df_cuda_scale, df_cuda_bias_add, df_cuda_gelu, df_cuda_swiglu_fwd,
    df_cuda_swiglu_bwd, df_cuda_row_scale, df_cuda_sigmoid_fwd, df_cuda_sigmoid_bwd, df_cuda_sign, df_cuda_dropout,
    df_cuda_rope;                                                                         /* elem.cu */
df_op_fn df_cuda_rmsnorm_fwd, df_cuda_rmsnorm_bwd, df_cuda_layernorm, df_cuda_colsum, df_cuda_sumsq,
    df_cuda_row_dot;                                                                      /* norm.cu */
df_op_fn df_cuda_gather, df_cuda_embed_bwd;                                               /* rows.cu */
df_op_fn df_cuda_clip, df_cuda_adamw, df_cuda_adam_form;                                  /* optim.cu */
df_op_fn df_cuda_gemm;                                                                    /* gemm.cu */
df_op_fn df_cuda_gemm_segments, df_cuda_gemm_groups, df_cuda_gemm_group_sums;             /* segments.cu */
df_op_fn df_cuda_attn_fwd, df_cuda_attn_bwd, df_cuda_attn_decode;        /* attn.cu, attn_bwd.cu, decode.cu */
df_op_fn df_cuda_xent_fwd, df_cuda_xent_bwd, df_cuda_xent;                                /* xent.cu */
df_op_fn df_cuda_route_fwd, df_cuda_route_bwd, df_cuda_route_plan;                        /* route.cu */
df_op_fn df_cuda_project;                                                                 /* project.cu, sjlt.cu */

#ifdef __cplusplus
}
#endif
#endif
