/*
 * backend.c - a backend's life, its memory, and the path of every operation.
 *
 * What all backends have in common is done here once: counting bytes, moving them in and out through checked
 * windows, and running an operation.  If the slot of an operation is empty, its operands are downloaded, the CPU's
 * slot computes it on dense host copies, and the results are uploaded.  So a new backend is right before it is fast.
 * On their way bf16 activations become float32 and are rounded again; poison and the reference, whose slots know
 * float32 only, compute with bf16 on the same path.
 */
#include "backend/backend_priv.h"

#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/half.h"
#include "base/log.h"
#include "base/mem.h"

static const char *const op_name[DF_OP_COUNT] = {
	"copy",
	"fill",
	"gemm",
	"gemm_segments",
	"gemm_groups",
	"gemm_group_sums",
	"axpy",
	"scale",
	"bias_add",
	"colsum",
	"sumsq",
	"scatter_rows",
	"gather_rows",
	"rmsnorm_fwd",
	"rmsnorm_bwd",
	"layernorm",
	"gelu",
	"rope",
	"attn_fwd",
	"attn_bwd",
	"attn_decode",
	"swiglu_fwd",
	"swiglu_bwd",
	"route_fwd",
	"route_bwd",
	"route_plan",
	"row_scale",
	"row_dot",
	"sigmoid_fwd",
	"sigmoid_bwd",
	"xent_fwd",
	"xent_bwd",
	"xent",
	"dropout",
	"clip",
	"adamw",
	"adam_form",
	"sign",
	"project",
};

/* ---- life ------------------------------------------------------------------------------------------------------- */

static bool
is_set(const char *variable)
{
	const char *value = getenv(variable);

	return value && *value && strcmp(value, "0") != 0;
}

int
df_backend_open_ops(struct df_backend **out, const struct df_backend_ops *ops, const char *device, struct df_pool *pool,
    struct df_err *err)
{
	struct df_backend_root *root = NULL;
	int rc;

	if (ops->api_version != DF_BACKEND_API_VERSION)
		return df_fail(err, DF_EDEVICE, "backend %s: made for version %d of the backend interface, this is %d",
		    ops->name, ops->api_version, DF_BACKEND_API_VERSION);
	DF_TRY(df_alloc(&root, 1, sizeof(*root), "backend", err));
	root->be = (struct df_backend){ .ops = ops, .root = &root->be, .pool = pool };
	root->strict = is_set("DF_BACKEND_STRICT");
	root->checks = is_set("DF_BACKEND_CHECK") && !ops->reads_on_host && !ops->on_host;
	DF_TRY(ops->open(&root->be, device, err));
	*out = &root->be;
	root = NULL;
out:
	free(root);
	return rc;
}

void
df_backend_close(struct df_backend *be)
{
	size_t nbytes;

	if (!be)
		return;
	nbytes = atomic_load(&df_backend_root(be)->nbytes);
	if (nbytes > 0)
		df_warn("backend %s: closed with %zu bytes still allocated", be->ops->name, nbytes);
	be->ops->close(be);
	free(df_backend_root(be));
}

int
df_backend_fork(struct df_backend *be, struct df_backend **lane, struct df_err *err)
{
	struct df_backend *l = NULL;
	int rc;

	if (!be || !lane)
		return df_fail(err, DF_EINTERNAL, "df_backend_fork: a NULL argument");
	*lane = be->root;
	if (!be->ops->fork)
		return DF_OK;
	DF_TRY(df_alloc(&l, 1, sizeof(*l), "a lane", err));
	*l = *be->root;
	l->priv = NULL;
	DF_TRY(be->ops->fork(l, err));
	*lane = l;
	l = NULL;
out:
	free(l);
	return rc;
}

void
df_backend_join(struct df_backend *lane)
{
	if (!lane || lane == lane->root)
		return;
	lane->ops->join(lane);
	free(lane);
}

const char *
df_backend_name(const struct df_backend *be)
{
	return be->ops->name;
}

bool
df_backend_is_exact(const struct df_backend *be)
{
	return be->ops->exact;
}

bool
df_backend_takes_bf16(const struct df_backend *be)
{
	return be->ops->act_bf16 != DF_BF16_NONE;
}

int
df_backend_set_compute(struct df_backend *be, enum df_dtype type, struct df_err *err)
{
	if (type != DF_F32 && type != DF_BF16)
		return df_fail(err, DF_EINTERNAL, "compute in %s", df_dtype_name(type));
	if (type == DF_BF16 && !df_backend_takes_bf16(be))
		return df_fail(err, DF_EUNSUPPORTED, "device %s computes in float32 only", be->ops->name);
	be->root->compute = type;
	return DF_OK;
}

enum df_dtype
df_backend_compute(const struct df_backend *be)
{
	return be->root->compute;
}

size_t
df_backend_available(const struct df_backend *be)
{
	return be->ops->available ? be->ops->available(be) : df_mem_available();
}

struct df_backend_traits
df_backend_traits(const struct df_backend *be)
{
	/*
	 * Lanes keep eight cores busy with small models.  A forward stays in a core's caches.  The more rows of a
	 * matrix are in a block, the less often its input is packed; but the block must still be in the cache when it
	 * is read.
	 */
	struct df_backend_traits t = { .step_lanes = 8,
		.workers = SIZE_MAX,
		.forward_tokens = 4096,
		.forward_bytes = (size_t)16 << 20,
		.grad_tokens = 16384,
		.grad_bytes = (size_t)1 << 30,
		.block_bytes = (size_t)16 << 20 };

	if (be->ops->traits)
		be->ops->traits(be, &t);
	t.keeps_logits = be->ops->keeps_logits;
	t.step_lanes = t.step_lanes ? t.step_lanes : 1;
	t.workers = t.workers ? t.workers : 1;
	return t;
}

int
df_backend_workers(const struct df_backend *be, int n)
{
	const size_t most = df_backend_traits(be).workers;

	return (size_t)n > most ? (int)most : n;
}

size_t
df_backend_peak_bytes(const struct df_backend *be)
{
	return atomic_load(&df_backend_root(be)->peak);
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

int
df_tensor_alloc(struct df_backend *be, struct df_tensor *t, enum df_dtype type, size_t rows, size_t cols,
    const char *what, struct df_err *err)
{
	struct df_backend_root *root;
	struct df_mem *m = NULL;
	size_t numel, now, peak;
	int rc;

	if (!be || !t || !what || !df_dtype_size(type))
		return df_fail(err, DF_EINTERNAL, "df_tensor_alloc: a NULL argument or an unknown type");
	DF_TRY(df_alloc(&m, 1, sizeof(*m), what, err));
	m->be = be->root;
	DF_TRY(df_size_mul(rows, cols, &numel, what, err));
	DF_TRY(df_size_mul(numel ? numel : 1, df_dtype_size(type), &m->nbytes, what, err));
	DF_TRY(be->ops->alloc(be, m, what, err));
	root = df_backend_root(be);
	now = atomic_fetch_add(&root->nbytes, m->nbytes) + m->nbytes;
	peak = atomic_load(&root->peak);
	while (now > peak && !atomic_compare_exchange_weak(&root->peak, &peak, now))
		;
	*t = (struct df_tensor){ .mem = m, .rows = rows, .cols = cols, .ld = cols, .type = type };
	m = NULL;
out:
	free(m);
	return rc;
}

void
df_tensor_free(struct df_backend *be, struct df_tensor *t)
{
	if (!t || !t->mem)
		return;
	if (!t->mem->borrowed) {
		atomic_fetch_sub(&df_backend_root(be)->nbytes, t->mem->nbytes);
		be->ops->free(be, t->mem);
	}
	free(t->mem);
	*t = DF_TENSOR_NONE;
}

int
df_tensor_borrow(struct df_backend *be, struct df_tensor *t, enum df_dtype type, size_t rows, size_t cols,
    const void *data, const char *what, struct df_err *err)
{
	struct df_tensor made = DF_TENSOR_NONE;
	struct df_mem *m = NULL;
	size_t numel;
	int rc;

	if (!be || !t || !what || !df_dtype_size(type))
		return df_fail(err, DF_EINTERNAL, "df_tensor_borrow: a NULL argument or an unknown type");
	if (be->ops->on_host && data && (uintptr_t)data % df_dtype_size(type) == 0) {
		DF_TRY(df_alloc(&m, 1, sizeof(*m), what, err));
		m->be = be->root;
		m->data = (void *)(uintptr_t)data; /* read_only keeps every operation from writing to it */
		m->borrowed = true;
		DF_TRY(df_size_mul(rows, cols, &numel, what, err));
		DF_TRY(df_size_mul(numel, df_dtype_size(type), &m->nbytes, what, err));
		made = (struct df_tensor){ .mem = m, .rows = rows, .cols = cols, .ld = cols, .type = type };
		m = NULL;
	} else {
		DF_TRY(df_tensor_alloc(be, &made, type, rows, cols, what, err));
		DF_TRY(df_upload(be, made, data, err));
	}
	made.mem->read_only = true;
	*t = made;
	made = DF_TENSOR_NONE;
	rc = DF_OK;
out:
	free(m);
	df_tensor_free(be, &made);
	return rc;
}

struct df_tensor
df_tensor_as(struct df_tensor t, enum df_dtype type, size_t rows, size_t cols)
{
	const size_t size = df_dtype_size(type);
	size_t at;

	if (__builtin_mul_overflow(t.off, df_dtype_size(t.type), &at) || at % size != 0)
		at = SIZE_MAX; /* check_operand() refuses it: no memory is that large */
	return (struct df_tensor){ t.mem, at / size, rows, cols, cols, type };
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

static bool
is_activation(const struct df_operand *o)
{
	return o->types == DF_ACT || o->types == DF_ACT_OWN;
}

static bool
is_among(const struct df_backend *be, enum df_types types, enum df_dtype t)
{
	switch (types) {
	case DF_ONLY_F32: return t == DF_F32;
	case DF_ACT:
	case DF_ACT_OWN: return t == DF_F32 || (t == DF_BF16 && df_backend_takes_bf16(be));
	case DF_FLOATS: return t == DF_F32 || t == DF_BF16 || t == DF_F16;
	case DF_INDICES: return t == DF_U32;
	case DF_ONLY_F64: return t == DF_F64;
	case DF_ONLY_U8: return t == DF_U8;
	case DF_ANY_TYPE: break;
	}
	return true;
}

static const char *
needed(const struct df_backend *be, enum df_types types)
{
	switch (types) {
	case DF_ONLY_F32: break;
	case DF_ACT:
	case DF_ACT_OWN: return df_backend_takes_bf16(be) ? "f32 or bf16" : "f32";
	case DF_FLOATS: return "f32, bf16 or f16";
	case DF_INDICES: return "u32";
	case DF_ONLY_F64: return "f64";
	case DF_ONLY_U8: return "u8";
	case DF_ANY_TYPE: return "a type";
	}
	return "f32";
}

/* One past the last byte of a window that is not empty.  false if that cannot be counted. */
static bool
end_of(const struct df_tensor *t, size_t size, size_t *end)
{
	return !__builtin_mul_overflow(t->rows - 1, t->ld, end) && !__builtin_add_overflow(*end, t->cols, end) &&
	    !__builtin_add_overflow(*end, t->off, end) && !__builtin_mul_overflow(*end, size, end);
}

/*
 * Check that the window of o lies within an allocation of this backend and has a type that the operation takes.
 * Memory begins aligned for all types, except a borrowed one, which is aligned for its own.
 */
static int
check_operand(const struct df_backend *be, const char *op, const struct df_operand *o, struct df_err *err)
{
	const struct df_tensor *t = o->t;
	size_t size = df_dtype_size(t->type), end;

	if (!t->mem)
		return df_fail(err, DF_EINTERNAL, "%s: tensor %s is missing", op, o->name);
	if (t->mem->be != be->root)
		return df_fail(err, DF_EINTERNAL, "%s: tensor %s belongs to another backend", op, o->name);
	if (!size || !is_among(be, o->types, t->type))
		return df_fail(err, DF_EINTERNAL, "%s: tensor %s has type %s; %s is needed", op, o->name,
		    df_dtype_name(t->type), needed(be, o->types));
	if (t->mem->borrowed && (uintptr_t)t->mem->data % size != 0)
		return df_fail(
		    err, DF_EINTERNAL, "%s: tensor %s is not aligned for %s", op, o->name, df_dtype_name(t->type));
	if (t->mem->read_only && (o->access & DF_OUT))
		return df_fail(err, DF_EINTERNAL, "%s: tensor %s is borrowed, only to be read", op, o->name);
	if (t->rows == 0 || t->cols == 0)
		return DF_OK;
	if (t->rows > 1 && t->ld < t->cols)
		return df_fail(
		    err, DF_EINTERNAL, "%s: tensor %s: %zu columns in rows %zu apart", op, o->name, t->cols, t->ld);
	if (!end_of(t, size, &end) || end > t->mem->nbytes)
		return df_fail(err, DF_EINTERNAL,
		    "%s: tensor %s: %zu x %zu of %s, rows %zu apart, at %zu lies outside its %zu bytes", op, o->name,
		    t->rows, t->cols, df_dtype_name(t->type), t->ld, t->off, t->mem->nbytes);
	return DF_OK;
}

/* Activations of a call have one type, except those with a type of their own. */
static int
check_alike(const char *op, const struct df_operand *o, size_t n, struct df_err *err)
{
	const struct df_operand *first = NULL;

	for (size_t i = 0; i < n; i++) {
		if (o[i].types != DF_ACT)
			continue;
		if (!first)
			first = &o[i];
		if (o[i].t->type != first->t->type)
			return df_fail(err, DF_EINTERNAL, "%s: tensor %s is %s and %s is %s: they must be alike", op,
			    first->name, df_dtype_name(first->t->type), o[i].name, df_dtype_name(o[i].t->type));
	}
	return DF_OK;
}

/* ---- copies ------------------------------------------------------------------------------------------------------ */

int
df_upload(struct df_backend *be, struct df_tensor dst, const void *src, struct df_err *err)
{
	const struct df_operand o = { &dst, DF_OUT, "dst", DF_ANY_TYPE };
	int rc = DF_OK;

	if (!be)
		return df_fail(err, DF_EINTERNAL, "upload: a NULL argument");
	DF_TRY(check_operand(be, "upload", &o, err));
	if (df_tensor_numel(dst) == 0)
		goto out;
	if (!src)
		return df_fail(err, DF_EINTERNAL, "upload: a NULL argument");
	rc = be->ops->upload(be, dst, src, err);
out:
	return rc;
}

int
df_download(struct df_backend *be, void *dst, struct df_tensor src, struct df_err *err)
{
	const struct df_operand o = { &src, DF_IN, "src", DF_ANY_TYPE };
	int rc = DF_OK;

	if (!be)
		return df_fail(err, DF_EINTERNAL, "download: a NULL argument");
	DF_TRY(check_operand(be, "download", &o, err));
	if (df_tensor_numel(src) == 0)
		goto out;
	if (!dst)
		return df_fail(err, DF_EINTERNAL, "download: a NULL argument");
	rc = be->ops->download(be, dst, src, err);
out:
	return rc;
}

int
df_download_or_see(struct df_backend *be, const void **at, void *dst, struct df_tensor src, struct df_err *err)
{
	const struct df_operand o = { &src, DF_IN, "src", DF_ANY_TYPE };
	int rc = DF_OK;

	if (!be || !at)
		return df_fail(err, DF_EINTERNAL, "download: a NULL argument");
	DF_TRY(check_operand(be, "download", &o, err));
	if (be->ops->on_host && src.ld == src.cols) {
		*at = df_tensor_host(src);
	} else {
		*at = dst;
		DF_TRY(df_download(be, dst, src, err));
	}
out:
	return rc;
}

int
df_sync(struct df_backend *be, struct df_err *err)
{
	if (!be)
		return df_fail(err, DF_EINTERNAL, "sync: a NULL argument");
	return be->ops->sync(be, err);
}

/* ---- running an operation ---------------------------------------------------------------------------------------- */

/*
 * A dense copy of an operand's window in host memory; a bf16 activation is float32 there.  Two operands that are the
 * same window (in-place use) share one.  Other overlaps get separate copies; no operation allows them.
 */
struct copy {
	struct df_mem mem;
	struct df_tensor from;
	bool wide;
	size_t same; /* the first operand with this window */
};

static bool
same_window(const struct copy *a, const struct copy *b)
{
	const struct df_tensor *x = &a->from, *y = &b->from;

	return x->mem == y->mem && x->off == y->off && x->type == y->type && x->rows == y->rows && x->cols == y->cols &&
	    x->ld == y->ld && a->wide == b->wide;
}

static int
copy_in(struct df_backend *be, const struct copy *c, void *data, struct df_err *err)
{
	const size_t n = df_tensor_numel(c->from);
	uint16_t *half = NULL;
	int rc;

	if (!c->wide)
		return be->ops->download(be, data, c->from, err);
	DF_TRY(df_alloc(&half, n, sizeof(*half), "host copy of a tensor", err));
	DF_TRY(be->ops->download(be, half, c->from, err));
	df_convert_row(data, DF_F32, half, DF_BF16, n);
out:
	free(half);
	return rc;
}

static int
copy_out(struct df_backend *be, const struct copy *c, const void *data, struct df_err *err)
{
	const size_t n = df_tensor_numel(c->from);
	uint16_t *half = NULL;
	int rc;

	if (!c->wide)
		return be->ops->upload(be, c->from, data, err);
	DF_TRY(df_alloc(&half, n, sizeof(*half), "host copy of a tensor", err));
	df_convert_row(half, DF_BF16, data, DF_F32, n);
	DF_TRY(be->ops->upload(be, c->from, half, err));
out:
	free(half);
	return rc;
}

/* Run a slot that works in host memory, and with float32, on copies of the operands. */
static int
run_on_copies(struct df_backend *be, enum df_op op, df_op_fn *slot, void *args, struct df_operand *o, size_t n,
    struct df_err *err)
{
	struct copy *c = NULL;
	int rc;

	DF_TRY(df_alloc(&c, n, sizeof(*c), "host copies of tensors", err));
	for (size_t i = 0; i < n; i++) {
		const struct df_tensor t = *o[i].t;
		enum df_dtype type = t.type;

		c[i].from = t;
		c[i].wide = is_activation(&o[i]) && t.type == DF_BF16;
		if (c[i].wide)
			type = DF_F32;
		while (!same_window(&c[c[i].same], &c[i]))
			c[i].same++;
		if (c[i].same == i) {
			c[i].mem.be = be->root;
			c[i].mem.nbytes = df_tensor_numel(t) * df_dtype_size(type);
			DF_TRY(df_alloc(&c[i].mem.data, c[i].mem.nbytes, 1, "host copy of a tensor", err));
			memset(c[i].mem.data, 0xff, c[i].mem.nbytes); /* NaN: what is only written is not read */
		}
		if ((o[i].access & DF_IN) && df_tensor_numel(t))
			DF_TRY(copy_in(be, &c[i], c[c[i].same].mem.data, err));
		*o[i].t = (struct df_tensor){ &c[c[i].same].mem, 0, t.rows, t.cols, t.cols, type };
	}
	DF_TRY(df_check_indices(op, args, err));
	DF_TRY(slot(be, args, err));
	for (size_t i = 0; i < n; i++)
		if ((o[i].access & DF_OUT) && df_tensor_numel(c[i].from))
			DF_TRY(copy_out(be, &c[i], c[c[i].same].mem.data, err));
out:
	for (size_t i = 0; c && i < n; i++)
		free(c[i].mem.data);
	free(c);
	return rc;
}

/* Check the indices of a call that only the device can read, on copies.  It waits for the device: for tests. */
static int
check_copies(struct df_backend *be, enum df_op op, void *args, struct df_operand *o, size_t n, struct df_err *err)
{
	struct copy *c = NULL;
	int rc;

	DF_TRY(df_alloc(&c, n, sizeof(*c), "copies of indices", err));
	for (size_t i = 0; i < n; i++) {
		const struct df_tensor t = c[i].from = *o[i].t;

		if (o[i].types != DF_INDICES || !(o[i].access & DF_IN) || df_tensor_numel(t) == 0)
			continue;
		c[i].mem.nbytes = df_tensor_numel(t) * sizeof(uint32_t);
		DF_TRY(df_alloc(&c[i].mem.data, c[i].mem.nbytes, 1, "copies of indices", err));
		DF_TRY(be->ops->download(be, c[i].mem.data, t, err));
		*o[i].t = (struct df_tensor){ &c[i].mem, 0, t.rows, t.cols, t.cols, t.type };
	}
	rc = df_check_indices(op, args, err);
out:
	for (size_t i = 0; c && i < n; i++) {
		if (c[i].mem.data)
			*o[i].t = c[i].from;
		free(c[i].mem.data);
	}
	free(c);
	return rc;
}

/* Has the call bf16 activations that the slots leave to copies? */
static bool
needs_copies(const struct df_backend *be, const struct df_operand *o, size_t n)
{
	if (be->ops->act_bf16 != DF_BF16_COPIES)
		return false;
	for (size_t i = 0; i < n; i++)
		if (is_activation(&o[i]) && o[i].t->type == DF_BF16)
			return true;
	return false;
}

int
df_backend_run(struct df_backend *be, enum df_op op, void *args, struct df_operand *o, size_t n, struct df_err *err)
{
	int rc = DF_OK, rc2;

	for (size_t i = 0; i < n; i++)
		DF_TRY(check_operand(be, op_name[op], &o[i], err));
	DF_TRY(check_alike(op_name[op], o, n, err));
	if (!be->ops->op[op]) {
		struct df_backend_root *root = df_backend_root(be);

		if (root->strict)
			return df_fail(err, DF_EUNSUPPORTED,
			    "backend %s has no %s of its own, and DF_BACKEND_STRICT forbids the host's", be->ops->name,
			    op_name[op]);
		if (!atomic_exchange(&root->told[op], true))
			df_debug("backend %s: %s runs on the host", be->ops->name, op_name[op]);
		return run_on_copies(be, op, df_cpu_op[op], args, o, n, err);
	}
	if (needs_copies(be, o, n))
		return run_on_copies(be, op, be->ops->op[op], args, o, n, err);
	if (df_backend_root(be)->checks)
		DF_TRY(check_copies(be, op, args, o, n, err));
	if (be->ops->enter)
		DF_TRY(be->ops->enter(be, o, n, err));
	rc = be->ops->reads_on_host ? df_check_indices(op, args, err) : DF_OK;
	if (rc == DF_OK)
		rc = be->ops->op[op](be, args, err);
	if (be->ops->leave && (rc2 = be->ops->leave(be, o, n, rc ? NULL : err)) != DF_OK && rc == DF_OK)
		rc = rc2;
out:
	return rc;
}
