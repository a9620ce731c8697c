/*
 * cpu.h - the slots that the CPU backend is made of, family by family.
 *
 * df_cpu_* are the fast versions (SIMD, be->pool), df_ref_* the slow, obvious
 * ones: the documentation of each operation and the oracle of its tests.  Both
 * take the args struct named in enum df_op, already checked by ops.c: shapes agree,
 * windows lie within their memory, ids are in range.  Tensors are read with
 * df_tensor_f32(t) and t.ld; be->pool may be NULL (one thread).
 */
#ifndef DF_BACKEND_CPU_H
#define DF_BACKEND_CPU_H

#include "backend/backend_priv.h"

/* The tables of slots. */
extern df_op_fn *const df_cpu_op[DF_OP_COUNT];
extern df_op_fn *const df_ref_op[DF_OP_COUNT];

/* Host memory, shared by the cpu and the reference backend (cpu.c). */
int df_host_open(struct df_backend *be, const char *device, struct df_err *err);
void df_host_close(struct df_backend *be);
int df_host_alloc(struct df_backend *be, struct df_mem *m, const char *what, struct df_err *err);
void df_host_free(struct df_backend *be, struct df_mem *m);
int df_host_upload(struct df_backend *be, struct df_tensor dst, const void *src, struct df_err *err);
int df_host_download(struct df_backend *be, void *dst, struct df_tensor src, struct df_err *err);
int df_host_sync(struct df_backend *be, struct df_err *err);

/* project.c: args are struct df_project. */
int df_cpu_project(struct df_backend *be, const void *args, struct df_err *err);
int df_ref_project(struct df_backend *be, const void *args, struct df_err *err);

/* gemm.c */
df_op_fn df_cpu_gemm, df_cpu_gemm_groups, df_cpu_gemm_group_sums, df_cpu_gemm_segments;
/*
 * A block of per-sample gradients: with more rows of a matrix to a block, its input is packed less often, and with fewer
 * bytes the block is still in the cache when it is read again.
 */
#define DF_CPU_BLOCK_BYTES ((size_t)16 << 20)

/* elem.c */
df_op_fn df_cpu_copy, df_cpu_fill, df_cpu_axpy, df_cpu_scale, df_cpu_bias_add, df_cpu_colsum, df_cpu_sumsq,
    df_cpu_scatter_rows, df_cpu_gather_rows, df_cpu_dropout, df_cpu_adamw, df_cpu_adam_form, df_cpu_sign;

/* layer.c */
df_op_fn df_cpu_rmsnorm_fwd, df_cpu_rmsnorm_bwd, df_cpu_layernorm, df_cpu_rope, df_cpu_swiglu_fwd, df_cpu_swiglu_bwd,
    df_cpu_gelu;

/* attn.c, loss.c */
df_op_fn df_cpu_attn_fwd, df_cpu_attn_bwd, df_cpu_attn_decode, df_cpu_xent;

/* moe.c */
df_op_fn df_cpu_route_fwd, df_cpu_route_bwd, df_cpu_route_plan, df_cpu_row_scale, df_cpu_row_dot, df_cpu_sigmoid_fwd,
    df_cpu_sigmoid_bwd;

/* ref.c; df_ref_at: one element of an f32, bf16 or f16 tensor */
float df_ref_at(struct df_tensor t, size_t row, size_t col);
df_op_fn df_ref_copy, df_ref_fill, df_ref_gemm, df_ref_gemm_segments, df_ref_axpy, df_ref_scale, df_ref_bias_add,
    df_ref_colsum, df_ref_sumsq, df_ref_scatter_rows, df_ref_gather_rows, df_ref_dropout, df_ref_clip, df_ref_adamw,
    df_ref_adam_form, df_ref_sign;

/* ref_layers.c */
df_op_fn df_ref_rmsnorm_fwd, df_ref_rmsnorm_bwd, df_ref_layernorm, df_ref_gelu, df_ref_rope, df_ref_attn_fwd,
    df_ref_attn_bwd, df_ref_attn_decode, df_ref_swiglu_fwd, df_ref_swiglu_bwd, df_ref_xent_fwd, df_ref_xent_bwd,
    df_ref_xent;

/* ref_moe.c */
df_op_fn df_ref_route_fwd, df_ref_route_bwd, df_ref_route_plan, df_ref_gemm_groups, df_ref_gemm_group_sums,
    df_ref_row_scale, df_ref_row_dot, df_ref_sigmoid_fwd, df_ref_sigmoid_bwd;

#endif
