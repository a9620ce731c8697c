/*
 * cuda.c - the table of the CUDA backend: devices, memory, lanes, stages, traits.
 *
 * A lane is a stream, and what it needs of its own: memory between the kernels of an operation, and a handle of the
 * library of products.  Operations of a lane take turns (enter, leave), so that several threads may share one.
 */
#include "backend/cuda/cuda.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/blas.h"
#include "base/log.h"
#include "base/mem.h"

/* ---- devices -------------------------------------------------------------------------------------------------- */

/* What the kernels are built for: cp.async and tensor cores with bf16 came with sm_80. */
static bool
is_able(const struct rt_device *d)
{
	return d->major >= 8;
}

/* The number of "cuda" or "cuda:N". */
static int
number_of(const char *device, int *number, struct df_err *err)
{
	const char *colon = strchr(device, ':');
	char why[256];
	const int n = rt_count(why, sizeof(why));
	char *end;
	long v = 0;

	if (n <= 0)
		return df_fail(err, DF_EDEVICE, "%s; use --device cpu", why);
	if (colon) {
		errno = 0;
		v = strtol(colon + 1, &end, 10);
		if (colon[1] < '0' || colon[1] > '9' || *end || errno == ERANGE)
			return df_fail(err, DF_EUSAGE, "'%s' is no number of a device", colon + 1);
	}
	if (v >= n && n == 1)
		return df_fail(err, DF_EDEVICE, "there is one GPU here, cuda:0");
	if (v >= n)
		return df_fail(err, DF_EDEVICE, "there are %d GPUs here, cuda:0 to cuda:%d", n, n - 1);
	*number = (int)v;
	return DF_OK;
}

static bool
suits(void)
{
	struct rt_device d;
	char why[256];
	const int n = rt_count(why, sizeof(why));

	if (n < 0)
		df_warn("cuda: not used: %s", why);
	return n > 0 && rt_device(0, &d, NULL) == DF_OK && !d.emulated && is_able(&d);
}

static void
describe(char *out, size_t size)
{
	const int n = rt_count(out, size);
	struct rt_device d;
	int len;

	if (n <= 0 || rt_device(0, &d, NULL) != DF_OK)
		return; /* `out` says why */
	if (d.emulated)
		len = snprintf(out, size, "emulated");
	else
		len = snprintf(out, size, "sm_%d%d, %s", d.major, d.minor, d.name);
	if (n > 1 && len > 0 && (size_t)len < size)
		snprintf(out + len, size - (size_t)len, ", %d of them", n);
}

static int
use(const struct df_backend *be, struct df_err *err)
{
	return rt_use(df_cuda_lane_of(be)->dev->number, err);
}

/* ---- lanes ---------------------------------------------------------------------------------------------------- */

static void
lane_free(struct df_cuda_lane *l)
{
	if (!l)
		return;
	if (l->stream) {
		(void)!rt_stream_wait(l->stream, NULL); /* who waited for its results was told */
		blas_free(l->blas);
		rt_stream_free(l->stream);
	}
	if (l->scratch.data)
		rt_free(l->scratch.data);
	if (l->outer_scratch.data)
		rt_free(l->outer_scratch.data);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static int
lane_new(struct df_cuda_lane **out, struct df_cuda *dev, struct df_err *err)
{
	struct df_cuda_lane *l = NULL;
	int rc;

	DF_TRY(rt_use(dev->number, err));
	DF_TRY(df_alloc(&l, 1, sizeof(*l), "a lane", err));
	pthread_mutex_init(&l->lock, NULL);
	l->dev = dev;
	DF_TRY(rt_stream_new(&l->stream, err));
	*out = l;
	l = NULL;
out:
	lane_free(l);
	return rc;
}

static int
open_root(struct df_backend *be, const char *device, struct df_err *err)
{
	struct df_cuda_lane *lane = NULL;
	struct df_cuda *dev = NULL;
	int rc;

	DF_TRY(df_alloc(&dev, 1, sizeof(*dev), "a device", err));
	DF_TRY(number_of(device, &dev->number, err));
	DF_TRY(rt_device(dev->number, &dev->device, err));
	if (!is_able(&dev->device)) {
		rc = df_fail(err, DF_EDEVICE, "%s is sm_%d%d, and sm_80 or later is needed; use --device cpu",
		    dev->device.name, dev->device.major, dev->device.minor);
		goto out;
	}
	DF_TRY(lane_new(&lane, dev, err));
	be->priv = lane;
	dev = NULL;
out:
	free(dev);
	if (rc != DF_OK)
		df_err_prefix(err, "device '%s': ", device);
	return rc;
}

static void
close_root(struct df_backend *be)
{
	struct df_cuda *dev = df_cuda_lane_of(be)->dev;

	lane_free(df_cuda_lane_of(be));
	free(dev);
}

static int
fork_lane(struct df_backend *be, struct df_err *err)
{
	struct df_cuda_lane *l;
	int rc;

	DF_TRY(lane_new(&l, df_cuda_lane_of(be->root)->dev, err));
	be->priv = l;
out:
	return rc;
}

static void
join_lane(struct df_backend *be)
{
	lane_free(df_cuda_lane_of(be));
}

static int
sync_lane(struct df_backend *be, struct df_err *err)
{
	int rc;

	DF_TRY(use(be, err));
	rc = rt_stream_wait(df_cuda_lane_of(be)->stream, err);
out:
	return rc;
}

static int
enter(struct df_backend *be, const struct df_operand *o, size_t n, struct df_err *err)
{
	int rc;

	(void)o, (void)n;
	DF_TRY(use(be, err));
	pthread_mutex_lock(&df_cuda_lane_of(be)->lock);
out:
	return rc;
}

static int
leave(struct df_backend *be, const struct df_operand *o, size_t n, struct df_err *err)
{
	(void)o, (void)n, (void)err;
	pthread_mutex_unlock(&df_cuda_lane_of(be)->lock);
	return DF_OK;
}

static int
scratch(struct df_cuda_lane *l, struct df_cuda_scratch *m, void **out, size_t nbytes, struct df_err *err)
{
	size_t more;
	int rc = DF_OK;

	if (nbytes > m->nbytes) {
		DF_TRY(rt_stream_wait(l->stream, err));
		if (m->data)
			rt_free(m->data);
		*m = (struct df_cuda_scratch){ 0 };
		DF_TRY(df_size_add(nbytes, nbytes / 2, &more, "scratch memory", err));
		if (rt_malloc(&m->data, more, NULL) != DF_OK)
			DF_TRY(rt_malloc(&m->data, more = nbytes, err));
		m->nbytes = more;
	}
	*out = m->data;
out:
	if (rc != DF_OK)
		df_err_prefix(err, "scratch memory of %zu bytes: ", nbytes);
	return rc;
}
int
df_cuda_scratch(struct df_backend *be, void **out, size_t nbytes, struct df_err *err)
{
	struct df_cuda_lane *l = df_cuda_lane_of(be);

	return scratch(l, &l->scratch, out, nbytes, err);
}
int
df_cuda_outer_scratch(struct df_backend *be, void **out, size_t nbytes, struct df_err *err)
{
	struct df_cuda_lane *l = df_cuda_lane_of(be);

	return scratch(l, &l->outer_scratch, out, nbytes, err);
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

static size_t
available(const struct df_backend *be)
{
	size_t unused;

	return use(be, NULL) == DF_OK && rt_memory(&unused, NULL) == DF_OK ? unused : SIZE_MAX;
}

static int
alloc(struct df_backend *be, struct df_mem *m, const char *what, struct df_err *err)
{
	int rc;

	DF_TRY(use(be, err));
	if ((rc = rt_malloc(&m->data, m->nbytes, err)) == DF_ENOMEM)
		df_fail(err, rc,
		    "%s: %.1f MiB more than the %.1f MiB that are left of the GPU's memory; make batches smaller, or use "
		    "--device cpu",
		    what, (double)m->nbytes / 0x1p20, (double)available(be) / 0x1p20);
out:
	return rc;
}

static void
release(struct df_backend *be, struct df_mem *m)
{
	if (use(be, NULL) == DF_OK)
		rt_free(m->data); /* after all that may still use it */
}

static size_t
pitch_of(const struct df_tensor *t)
{
	return t->ld * df_dtype_size(t->type);
}

static int
upload(struct df_backend *be, struct df_tensor dst, const void *src, struct df_err *err)
{
	const size_t row = dst.cols * df_dtype_size(dst.type);
	rt_stream_t s = df_cuda_lane_of(be)->stream;
	int rc;

	DF_TRY(use(be, err));
	DF_TRY(rt_to_device(df_tensor_host(dst), pitch_of(&dst), src, row, row, dst.rows, s, err));
	rc = rt_stream_wait(s, err);
out:
	return rc;
}

static int
download(struct df_backend *be, void *dst, struct df_tensor src, struct df_err *err)
{
	const size_t row = src.cols * df_dtype_size(src.type);
	rt_stream_t s = df_cuda_lane_of(be)->stream;
	int rc;

	DF_TRY(use(be, err));
	DF_TRY(rt_to_host(dst, row, df_tensor_host(src), pitch_of(&src), row, src.rows, s, err));
	rc = rt_stream_wait(s, err);
out:
	return rc;
}

/* ---- stages --------------------------------------------------------------------------------------------------- */

static int
stage_open(struct df_backend *be, struct df_stage *st, const char *what, struct df_err *err)
{
	int rc;

	DF_TRY(use(be, err));
	if ((rc = rt_malloc_pinned(&st->host, st->device.cols, err)) != DF_OK)
		df_err_prefix(err, "%s: %zu bytes of pinned memory: ", what, st->device.cols);
out:
	return rc;
}

static void
stage_close(struct df_backend *be, struct df_stage *st)
{
	if (st->host && sync_lane(be, NULL) == DF_OK)
		rt_free_pinned(st->host);
}

static int
stage_push(struct df_backend *be, struct df_stage *st, size_t first, size_t n, struct df_err *err)
{
	int rc;

	DF_TRY(use(be, err));
	rc = rt_to_device((char *)df_tensor_host(st->device) + first, n, (char *)st->host + first, n, n, 1,
	    df_cuda_lane_of(be)->stream, err);
out:
	return rc;
}

static int
stage_pull(struct df_backend *be, struct df_stage *st, size_t first, size_t n, struct df_err *err)
{
	int rc;

	DF_TRY(use(be, err));
	rc = rt_to_host((char *)st->host + first, n, (char *)df_tensor_host(st->device) + first, n, n, 1,
	    df_cuda_lane_of(be)->stream, err);
out:
	return rc;
}

static int
stage_wait(struct df_backend *be, struct df_stage *st, struct df_err *err)
{
	(void)st;
	return sync_lane(be, err);
}

static const struct df_stage_ops stage_ops = { stage_open, stage_close, stage_push, stage_pull, stage_wait };

/* ---- the table ------------------------------------------------------------------------------------------------ */

/*
 * One batch in the device at a time fills it, a second is prepared meanwhile.  A call of some 16 thousand tokens has
 * blocks enough for all processors; what it keeps may take a part of the memory, which others share.
 */
static void
traits(const struct df_backend *be, struct df_backend_traits *t)
{
	const size_t memory = df_cuda_lane_of(be)->dev->device.memory_bytes;

	t->step_lanes = 1;
	t->workers = 2;
	t->forward_tokens = 16384;
	t->forward_bytes = memory / 16;
	t->grad_tokens = 16384;
	t->grad_bytes = memory / 4;
	t->block_bytes = (size_t)64 << 20;
}

#define SLOTS(slot)                                                                                                   \
	slot(COPY, copy) slot(FILL, fill) slot(GEMM, gemm) slot(GEMM_SEGMENTS, gemm_segments)                         \
	    slot(GEMM_GROUPS, gemm_groups) slot(GEMM_GROUP_SUMS, gemm_group_sums) slot(AXPY, axpy) slot(SCALE, scale) \
		slot(BIAS_ADD, bias_add) slot(COLSUM, colsum) slot(SUMSQ, sumsq) slot(EMBED_BWD, embed_bwd)           \
		    slot(GATHER, gather) slot(RMSNORM_FWD, rmsnorm_fwd) slot(RMSNORM_BWD, rmsnorm_bwd)                \
			slot(LAYERNORM, layernorm) slot(GELU, gelu) slot(ROPE, rope) slot(ATTN_FWD, attn_fwd)         \
			    slot(ATTN_BWD, attn_bwd) slot(ATTN_DECODE, attn_decode) slot(SWIGLU_FWD, swiglu_fwd)      \
				slot(SWIGLU_BWD, swiglu_bwd) slot(ROUTE_FWD, route_fwd) slot(ROUTE_BWD, route_bwd)    \
				    slot(ROUTE_PLAN, route_plan) slot(ROW_SCALE, row_scale) slot(ROW_DOT, row_dot)    \
					slot(SIGMOID_FWD, sigmoid_fwd) slot(SIGMOID_BWD, sigmoid_bwd)                 \
					    slot(XENT_FWD, xent_fwd) slot(XENT_BWD, xent_bwd) slot(XENT, xent)        \
						slot(DROPOUT, dropout) slot(CLIP, clip) slot(ADAMW, adamw)            \
						    slot(ADAM_FORM, adam_form) slot(SIGN, sign) slot(PROJECT, project)

#define ENTRY(OP, name) [DF_OP_##OP] = df_cuda_##name,
static df_op_fn *const op[DF_OP_COUNT] = { SLOTS(ENTRY) };

const struct df_backend_ops *
df_backend_plugin(int api_version)
{
	static const struct df_backend_ops ops = {
		.api_version = DF_BACKEND_API_VERSION,
		.name = "cuda",
		.exact = true,
		.act_bf16 = DF_BF16_SLOTS,
		.suits = suits,
		.describe = describe,
		.traits = traits,
		.available = available,
		.open = open_root,
		.close = close_root,
		.alloc = alloc,
		.free = release,
		.upload = upload,
		.download = download,
		.sync = sync_lane,
		.stage = &stage_ops,
		.fork = fork_lane,
		.join = join_lane,
		.op = op,
		.enter = enter,
		.leave = leave,
	};

	return api_version == DF_BACKEND_API_VERSION ? &ops : NULL;
}
