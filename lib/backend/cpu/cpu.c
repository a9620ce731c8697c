/*
 * cpu.c - the CPU backend: its memory, and its table of slots.
 *
 * "Device" memory is host memory, 64-byte aligned; upload and download are
 * copies.  Operations finish before they return, so sync has nothing to do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/vec.h"
#include "base/mem.h"

#define PAGES ((size_t)32 << 20) /* bytes: a larger tensor has pages of its own */

int
df_host_open(struct df_backend *be, const char *device, struct df_err *err)
{
	(void)be;
	(void)device;
	(void)err;
	return DF_OK;
}

void
df_host_close(struct df_backend *be)
{
	(void)be;
}

int
df_host_alloc(struct df_backend *be, struct df_mem *m, const char *what, struct df_err *err)
{
	(void)be;
	return m->nbytes > PAGES ? df_pages_alloc(&m->data, m->nbytes, what, err)
				 : df_alloc(&m->data, m->nbytes, 1, what, err);
}

void
df_host_free(struct df_backend *be, struct df_mem *m)
{
	(void)be;
	if (m->nbytes > PAGES)
		df_pages_free(m->data, m->nbytes);
	else
		free(m->data);
}

struct upload {
	char *dst;
	const char *src;
};

static void
upload(const void *args, size_t row, size_t col, size_t n)
{
	const struct upload *u = args;

	(void)row;
	memcpy(u->dst + col, u->src + col, n);
}

int
df_host_upload(struct df_backend *be, struct df_tensor dst, const void *src, struct df_err *err)
{
	size_t size = df_dtype_size(dst.type);

	(void)err;
	if (df_is_dense(dst)) {
		const struct upload u = { df_tensor_host(dst), src };

		df_cpu_for_pieces(be, 1, df_tensor_numel(dst) * size, upload, &u);
		return DF_OK;
	}
	for (size_t i = 0; i < dst.rows; i++)
		memcpy((char *)df_tensor_host(dst) + i * dst.ld * size, (const char *)src + i * dst.cols * size,
		    dst.cols * size);
	return DF_OK;
}

int
df_host_download(struct df_backend *be, void *dst, struct df_tensor src, struct df_err *err)
{
	size_t size = df_dtype_size(src.type);

	(void)be;
	(void)err;
	for (size_t i = 0; i < src.rows; i++)
		memcpy((char *)dst + i * src.cols * size, (const char *)df_tensor_host(src) + i * src.ld * size,
		    src.cols * size);
	return DF_OK;
}

int
df_host_sync(struct df_backend *be, struct df_err *err)
{
	(void)be;
	(void)err;
	return DF_OK;
}

df_op_fn *const df_cpu_op[DF_OP_COUNT] = {
	[DF_OP_COPY] = df_cpu_copy,
	[DF_OP_FILL] = df_cpu_fill,
	[DF_OP_GEMM] = df_cpu_gemm,
	[DF_OP_GEMM_GROUPS] = df_cpu_gemm_groups,
	[DF_OP_GEMM_GROUP_SUMS] = df_cpu_gemm_group_sums,
	[DF_OP_GEMM_SEGMENTS] = df_cpu_gemm_segments,
	[DF_OP_AXPY] = df_cpu_axpy,
	[DF_OP_SCALE] = df_cpu_scale,
	[DF_OP_BIAS_ADD] = df_cpu_bias_add,
	[DF_OP_COLSUM] = df_cpu_colsum,
	[DF_OP_SUMSQ] = df_cpu_sumsq,
	[DF_OP_EMBED_BWD] = df_cpu_scatter_rows,
	[DF_OP_GATHER] = df_cpu_gather_rows,
	[DF_OP_RMSNORM_FWD] = df_cpu_rmsnorm_fwd,
	[DF_OP_RMSNORM_BWD] = df_cpu_rmsnorm_bwd,
	[DF_OP_LAYERNORM] = df_cpu_layernorm,
	[DF_OP_GELU] = df_cpu_gelu,
	[DF_OP_ROPE] = df_cpu_rope,
	[DF_OP_ATTN_FWD] = df_cpu_attn_fwd,
	[DF_OP_ATTN_BWD] = df_cpu_attn_bwd,
	[DF_OP_ATTN_DECODE] = df_cpu_attn_decode,
	[DF_OP_SWIGLU_FWD] = df_cpu_swiglu_fwd,
	[DF_OP_SWIGLU_BWD] = df_cpu_swiglu_bwd,
	[DF_OP_ROUTE_FWD] = df_cpu_route_fwd,
	[DF_OP_ROUTE_BWD] = df_cpu_route_bwd,
	[DF_OP_ROUTE_PLAN] = df_cpu_route_plan,
	[DF_OP_ROW_SCALE] = df_cpu_row_scale,
	[DF_OP_ROW_DOT] = df_cpu_row_dot,
	[DF_OP_SIGMOID_FWD] = df_cpu_sigmoid_fwd,
	[DF_OP_SIGMOID_BWD] = df_cpu_sigmoid_bwd,
	[DF_OP_XENT_FWD] = df_cpu_xent,
	[DF_OP_XENT_BWD] = df_cpu_xent,
	[DF_OP_XENT] = df_cpu_xent,
	[DF_OP_DROPOUT] = df_cpu_dropout,
	[DF_OP_CLIP] = df_ref_clip, /* two numbers */
	[DF_OP_ADAMW] = df_cpu_adamw,
	[DF_OP_ADAM_FORM] = df_cpu_adam_form,
	[DF_OP_SIGN] = df_cpu_sign,
	[DF_OP_PROJECT] = df_cpu_project,
};

static void
describe(char *out, size_t size)
{
	snprintf(out, size, "%s", df_cpu_gemm_isa());
}

const struct df_backend_ops df_cpu_backend = {
	.api_version = DF_BACKEND_API_VERSION,
	.name = "cpu",
	.on_host = true,
	.reads_on_host = true,
	.exact = true,
	.keeps_logits = true,
	.suits = df_cpu_gemm_is_fast,
	.describe = describe,
	.open = df_host_open,
	.close = df_host_close,
	.alloc = df_host_alloc,
	.free = df_host_free,
	.upload = df_host_upload,
	.download = df_host_download,
	.sync = df_host_sync,
	.op = df_cpu_op,
};
