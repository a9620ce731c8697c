/*
 * ops.c - the public operations: check the shapes, list the operands, run.
 *
 * A wrong shape or index is a mistake of the program (DF_EINTERNAL): what comes with the data is checked where indices
 * are made of it.  A slot may rely on everything that was checked here.
 */
#include "backend/ops_priv.h"
#include "base/mem.h"

/* ---- operations ------------------------------------------------------------------------------------------------- */

/* Run an operation over a pair of tensors, dst of types `to` and src, which may be NONE, of types `from`. */
static int
run_pair(struct df_backend *be, enum df_op op, struct df_op_pair *p, enum df_access dst, enum df_types to,
    enum df_types from, struct df_err *err)
{
	struct df_operand o[] = { { &p->dst, dst, "dst", to }, { &p->src, DF_IN, "src", from } };

	NEED(be, "backend is NULL");
	return df_backend_run(be, op, p, o, p->src.mem ? 2 : 1, err);
}

int
df_copy(struct df_backend *be, struct df_tensor dst, struct df_tensor src, struct df_err *err)
{
	struct df_op_pair p = { .dst = dst, .src = src };

	NEED(src.mem && same_shape(dst, src), "copy: shapes differ");
	for (int i = 0; i < 2; i++) {
		enum df_dtype t = i ? dst.type : src.type;

		NEED(dst.type == src.type || t == DF_F32 || t == DF_BF16 || t == DF_F16, "copy: %s to %s",
		    df_dtype_name(src.type), df_dtype_name(dst.type));
	}
	return run_pair(be, DF_OP_COPY, &p, DF_OUT, DF_ANY_TYPE, DF_ANY_TYPE, err);
}

int
df_fill(struct df_backend *be, struct df_tensor dst, float value, struct df_err *err)
{
	struct df_op_pair p = { .dst = dst, .alpha = value };

	NEED(dst.type == DF_F32 || dst.type == DF_BF16 || dst.type == DF_F16, "fill: type %s", df_dtype_name(dst.type));
	return run_pair(be, DF_OP_FILL, &p, DF_OUT, DF_ANY_TYPE, DF_ANY_TYPE, err);
}

int
df_gemm(struct df_backend *be, const struct df_gemm *g, struct df_err *err)
{
	NEED(be && g, "gemm: a NULL argument");

	struct df_gemm a = *g;
	struct df_operand o[] = {
		{ &a.a, DF_IN, "a", DF_ACT_OWN },
		{ &a.b, DF_IN, "b", DF_FLOATS },
		{ &a.c, a.beta == 0.0f ? DF_OUT : DF_INOUT, "c", DF_ACT_OWN },
	};
	size_t m = a.ta ? a.a.cols : a.a.rows, k = a.ta ? a.a.rows : a.a.cols;
	size_t kb = a.tb ? a.b.cols : a.b.rows, n = a.tb ? a.b.rows : a.b.cols;

	NEED(a.c.rows == m && a.c.cols == n && k == kb, "gemm: [%zu,%zu] = [%zu,%zu] [%zu,%zu]", a.c.rows, a.c.cols, m,
	    k, kb, n);
	return df_backend_run(be, DF_OP_GEMM, &a, o, 3, err);
}

int
df_gemm_segments(struct df_backend *be, const struct df_gemm_segments *g, struct df_err *err)
{
	NEED(be && g, "gemm_segments: a NULL argument");

	struct df_gemm_segments a = *g;
	struct df_operand o[] = {
		{ &a.a, DF_IN, "a", DF_ACT_OWN },
		{ &a.b, DF_IN, "b", DF_ACT_OWN },
		{ &a.c, DF_OUT, "c", DF_ONLY_F32 },
		{ &a.offsets, DF_IN, "offsets", DF_INDICES },
	};
	size_t numel;
	int rc;

	DF_TRY(df_size_mul(a.a.cols, a.b.cols, &numel, "gemm_segments", err));
	NEED(a.a.rows == a.b.rows && a.c.cols == numel, "gemm_segments: [%zu,%zu] = [%zu,%zu]^T [%zu,%zu]", a.c.rows,
	    a.c.cols, a.a.rows, a.a.cols, a.b.rows, a.b.cols);
	DF_TRY(check_list("gemm_segments", "offsets", a.offsets, a.c.rows + 1, err));
	rc = df_backend_run(be, DF_OP_GEMM_SEGMENTS, &a, o, 4, err);
out:
	return rc;
}

int
df_axpy(struct df_backend *be, float alpha, struct df_tensor x, struct df_tensor y, struct df_err *err)
{
	struct df_op_pair p = { .dst = y, .src = x, .alpha = alpha };

	NEED(x.mem && same_shape(x, y), "axpy: shapes differ");
	return run_pair(be, DF_OP_AXPY, &p, DF_INOUT, DF_ACT, DF_ACT, err);
}

int
df_scale(struct df_backend *be, float alpha, struct df_tensor x, struct df_err *err)
{
	struct df_op_pair p = { .dst = x, .alpha = alpha };

	return run_pair(be, DF_OP_SCALE, &p, DF_INOUT, DF_ACT, DF_ACT, err);
}

int
df_bias_add(struct df_backend *be, struct df_tensor x, struct df_tensor bias, struct df_err *err)
{
	struct df_op_pair p = { .dst = x, .src = bias };

	NEED(bias.mem && bias.rows == 1 && bias.cols == x.cols, "bias_add: shapes differ");
	return run_pair(be, DF_OP_BIAS_ADD, &p, DF_INOUT, DF_ACT, DF_ACT_OWN, err);
}

static int
run_colsum(struct df_backend *be, struct df_op_colsum *a, struct df_err *err)
{
	struct df_operand o[] = { { &a->x, DF_IN, "x", DF_ACT_OWN },
		{ &a->out, a->accumulate ? DF_INOUT : DF_OUT, "out", DF_ONLY_F32 },
		{ &a->offsets, DF_IN, "offsets", DF_INDICES } };

	NEED(be && a->out.cols == a->x.cols, "colsum: shapes differ");
	return df_backend_run(be, DF_OP_COLSUM, a, o, a->offsets.mem ? 3 : 2, err);
}

int
df_colsum(struct df_backend *be, struct df_tensor x, struct df_tensor out, bool accumulate, struct df_err *err)
{
	NEED(out.rows == 1, "colsum: shapes differ");
	return run_colsum(be, &(struct df_op_colsum){ x, out, DF_TENSOR_NONE, accumulate }, err);
}

int
df_colsum_segments(
    struct df_backend *be, struct df_tensor x, struct df_tensor offsets, struct df_tensor out, struct df_err *err)
{
	int rc;

	DF_TRY(check_list("colsum", "offsets", offsets, out.rows + 1, err));
	rc = run_colsum(be, &(struct df_op_colsum){ x, out, offsets, false }, err);
out:
	return rc;
}

int
df_sumsq(struct df_backend *be, struct df_tensor x, struct df_tensor out, struct df_err *err)
{
	struct df_op_pair a = { .dst = out, .src = x };
	struct df_operand o[] = { { &a.dst, DF_OUT, "out", DF_ONLY_F64 }, { &a.src, DF_IN, "x", DF_ONLY_F32 } };

	NEED(be, "sumsq: backend is NULL");
	NEED(out.rows == 1 && out.cols == 1, "sumsq: out is [%zu,%zu]", out.rows, out.cols);
	return df_backend_run(be, DF_OP_SUMSQ, &a, o, 2, err);
}

/* dst and src by rows: `ids` number rows of `table`, and `list` has one row per id. */
static int
run_rows(struct df_backend *be, enum df_op op, const char *name, struct df_tensor table, struct df_tensor list,
    struct df_tensor ids, struct df_err *err)
{
	bool gather = op == DF_OP_GATHER;
	struct df_op_rows a = { gather ? list : table, gather ? table : list, ids };
	struct df_operand o[] = { { &a.dst, gather ? DF_OUT : DF_INOUT, "dst", DF_ACT_OWN },
		{ &a.src, DF_IN, "src", gather ? DF_FLOATS : DF_ACT_OWN }, { &a.rows, DF_IN, "rows", DF_INDICES } };
	int rc;

	NEED(be, "%s: backend is NULL", name);
	NEED(table.cols == list.cols, "%s: rows of %zu and of %zu columns", name, table.cols, list.cols);
	DF_TRY(check_list(name, "the rows' numbers", ids, list.rows, err));
	rc = df_backend_run(be, op, &a, o, 3, err);
out:
	return rc;
}

int
df_embed_fwd(
    struct df_backend *be, struct df_tensor out, struct df_tensor table, struct df_tensor ids, struct df_err *err)
{
	return run_rows(be, DF_OP_GATHER, "embed", table, out, ids, err);
}

int
df_embed_bwd(
    struct df_backend *be, struct df_tensor dtable, struct df_tensor dout, struct df_tensor ids, struct df_err *err)
{
	return run_rows(be, DF_OP_EMBED_BWD, "embed_bwd", dtable, dout, ids, err);
}

int
df_gather_rows(
    struct df_backend *be, struct df_tensor dst, struct df_tensor src, struct df_tensor rows, struct df_err *err)
{
	return run_rows(be, DF_OP_GATHER, "gather_rows", src, dst, rows, err);
}

int
df_scatter_rows(
    struct df_backend *be, struct df_tensor dst, struct df_tensor src, struct df_tensor rows, struct df_err *err)
{
	return run_rows(be, DF_OP_EMBED_BWD, "scatter_rows", dst, src, rows, err);
}

/* w [1,E] and rstd [T,H] fit x [T,H*E]; H = 1 when n_heads is 0. */
static int
check_norm(
    const char *op, struct df_tensor x, struct df_tensor w, struct df_tensor rstd, size_t n_heads, struct df_err *err)
{
	const size_t heads = n_heads ? n_heads : 1;

	NEED(w.cols && w.rows == 1 && x.cols / heads == w.cols && x.cols % heads == 0 && rstd.rows == x.rows &&
		rstd.cols == heads,
	    "%s: x [%zu,%zu], w [%zu,%zu], rstd [%zu,%zu] with %zu heads", op, x.rows, x.cols, w.rows, w.cols,
	    rstd.rows, rstd.cols, heads);
	return DF_OK;
}

int
df_rmsnorm_fwd(struct df_backend *be, const struct df_rmsnorm *args, struct df_err *err)
{
	NEED(be && args, "rmsnorm_fwd: a NULL argument");

	struct df_rmsnorm a = *args;
	struct df_operand o[] = {
		{ &a.x, DF_IN, "x", DF_ACT },
		{ &a.w, DF_IN, "w", DF_ONLY_F32 },
		{ &a.y, DF_OUT, "y", DF_ACT },
		{ &a.rstd, DF_OUT, "rstd", DF_ONLY_F32 },
	};
	int rc;

	NEED(same_shape(a.x, a.y), "rmsnorm_fwd: shapes differ");
	DF_TRY(check_norm("rmsnorm_fwd", a.x, a.w, a.rstd, a.n_heads, err));
	rc = df_backend_run(be, DF_OP_RMSNORM_FWD, &a, o, 4, err);
out:
	return rc;
}

int
df_rmsnorm_bwd(struct df_backend *be, const struct df_rmsnorm_bwd *args, struct df_err *err)
{
	NEED(be && args, "rmsnorm_bwd: a NULL argument");

	struct df_rmsnorm_bwd a = *args;
	struct df_operand o[] = {
		{ &a.x, DF_IN, "x", DF_ACT },
		{ &a.w, DF_IN, "w", DF_ONLY_F32 },
		{ &a.rstd, DF_IN, "rstd", DF_ONLY_F32 },
		{ &a.dy, DF_IN, "dy", DF_ACT },
		{ &a.dx, a.assign ? DF_OUT : DF_INOUT, "dx", DF_ACT },
		{ &a.dw, a.accumulate ? DF_INOUT : DF_OUT, "dw", DF_ONLY_F32 },
		{ &a.offsets, DF_IN, "offsets", DF_INDICES },
	};
	int rc;

	NEED(same_shape(a.x, a.dy) && same_shape(a.x, a.dx), "rmsnorm_bwd: shapes differ");
	DF_TRY(check_norm("rmsnorm_bwd", a.x, a.w, a.rstd, a.n_heads, err));
	if (!a.dw.mem)
		a.offsets = DF_TENSOR_NONE;
	NEED(!a.dw.mem || (a.dw.cols == a.w.cols && (a.offsets.mem || a.dw.rows == 1)), "rmsnorm_bwd: dw is [%zu,%zu]",
	    a.dw.rows, a.dw.cols);
	if (a.offsets.mem)
		DF_TRY(check_list("rmsnorm_bwd", "offsets", a.offsets, a.dw.rows + 1, err));
	rc = df_backend_run(be, DF_OP_RMSNORM_BWD, &a, o, a.offsets.mem ? 7 : a.dw.mem ? 6 : 5, err);
out:
	return rc;
}

int
df_layernorm_fwd(struct df_backend *be, const struct df_layernorm *args, struct df_err *err)
{
	NEED(be && args, "layernorm: a NULL argument");

	struct df_layernorm a = *args;
	struct df_operand o[] = {
		{ &a.x, DF_IN, "x", DF_ACT },
		{ &a.w, DF_IN, "w", DF_ONLY_F32 },
		{ &a.b, DF_IN, "b", DF_ONLY_F32 },
		{ &a.y, DF_OUT, "y", DF_ACT },
	};

	NEED(same_shape(a.x, a.y) && same_shape(a.w, a.b) && a.w.rows == 1 && a.w.cols == a.x.cols,
	    "layernorm: shapes differ");
	return df_backend_run(be, DF_OP_LAYERNORM, &a, o, 4, err);
}

int
df_gelu_fwd(struct df_backend *be, struct df_tensor y, struct df_tensor x, struct df_err *err)
{
	struct df_op_pair p = { .dst = y, .src = x };

	NEED(x.mem && same_shape(x, y), "gelu: shapes differ");
	return run_pair(be, DF_OP_GELU, &p, DF_OUT, DF_ACT, DF_ACT, err);
}

int
df_rope(struct df_backend *be, const struct df_rope *args, struct df_err *err)
{
	NEED(be && args, "rope: a NULL argument");

	struct df_rope a = *args;
	struct df_operand o[] = {
		{ &a.x, DF_INOUT, "x", DF_ACT },
		{ &a.cos, DF_IN, "cos", DF_ONLY_F32 },
		{ &a.sin, DF_IN, "sin", DF_ONLY_F32 },
		{ &a.pos, DF_IN, "pos", DF_INDICES },
	};
	int rc;

	NEED(same_shape(a.cos, a.sin) && a.n_heads && a.cos.cols && a.x.cols % a.n_heads == 0 &&
		a.x.cols / a.n_heads == 2 * a.cos.cols,
	    "rope: %zu columns are not %zu heads of twice %zu", a.x.cols, a.n_heads, a.cos.cols);
	DF_TRY(check_list("rope", "positions", a.pos, a.x.rows, err));
	rc = df_backend_run(be, DF_OP_ROPE, &a, o, 4, err);
out:
	return rc;
}

static int
check_attn(const char *op, const struct df_attn *a, struct df_err *err)
{
	size_t e;

	NEED(a->n_heads && a->n_kv_heads && a->n_heads % a->n_kv_heads == 0, "%s: %zu query heads share %zu", op,
	    a->n_heads, a->n_kv_heads);
	e = a->q.cols / a->n_heads;
	NEED(e && a->q.cols == e * a->n_heads && a->k.cols == e * a->n_kv_heads && same_shape(a->k, a->v) &&
		a->k.rows == a->q.rows && same_shape(a->q, a->o) && a->lse.rows == a->q.rows &&
		a->lse.cols == a->n_heads,
	    "%s: shapes differ", op);
	NEED(a->offsets.cols > 0, "%s: no offsets", op);
	return check_list(op, "offsets", a->offsets, a->offsets.cols, err);
}

int
df_attn_fwd(struct df_backend *be, const struct df_attn *args, struct df_err *err)
{
	NEED(be && args, "attn_fwd: a NULL argument");

	struct df_attn a = *args;
	struct df_operand o[] = {
		{ &a.q, DF_IN, "q", DF_ACT },
		{ &a.k, DF_IN, "k", DF_ACT },
		{ &a.v, DF_IN, "v", DF_ACT },
		{ &a.o, DF_OUT, "o", DF_ACT },
		{ &a.lse, DF_OUT, "lse", DF_ONLY_F32 },
		{ &a.offsets, DF_IN, "offsets", DF_INDICES },
	};
	int rc;

	NEED(!(a.bidirectional && a.window), "attn_fwd: bidirectional with a window");
	DF_TRY(check_attn("attn_fwd", &a, err));
	rc = df_backend_run(be, DF_OP_ATTN_FWD, &a, o, 6, err);
out:
	return rc;
}

int
df_attn_bwd(struct df_backend *be, const struct df_attn_bwd *args, struct df_err *err)
{
	NEED(be && args, "attn_bwd: a NULL argument");

	struct df_attn_bwd a = *args;
	struct df_operand o[] = {
		{ &a.fwd.q, DF_IN, "q", DF_ACT },
		{ &a.fwd.k, DF_IN, "k", DF_ACT },
		{ &a.fwd.v, DF_IN, "v", DF_ACT },
		{ &a.fwd.o, DF_IN, "o", DF_ACT },
		{ &a.fwd.lse, DF_IN, "lse", DF_ONLY_F32 },
		{ &a.fwd.offsets, DF_IN, "offsets", DF_INDICES },
		{ &a.d_o, DF_IN, "d_o", DF_ACT },
		{ &a.dq, DF_OUT, "dq", DF_ACT },
		{ &a.dk, DF_OUT, "dk", DF_ACT },
		{ &a.dv, DF_OUT, "dv", DF_ACT },
	};
	int rc;

	NEED(!a.fwd.bidirectional, "attn_bwd: bidirectional attention has no backward");
	DF_TRY(check_attn("attn_bwd", &a.fwd, err));
	NEED(same_shape(a.d_o, a.fwd.q) && same_shape(a.dq, a.fwd.q) && same_shape(a.dk, a.fwd.k) &&
		same_shape(a.dv, a.fwd.k),
	    "attn_bwd: shapes differ");
	rc = df_backend_run(be, DF_OP_ATTN_BWD, &a, o, 10, err);
out:
	return rc;
}

int
df_attn_decode(struct df_backend *be, const struct df_attn_decode *args, struct df_err *err)
{
	NEED(be && args, "attn_decode: a NULL argument");

	struct df_attn_decode a = *args;
	struct df_operand o[] = {
		{ &a.q, DF_IN, "q", DF_ACT },
		{ &a.k, DF_IN, "k", DF_ACT },
		{ &a.v, DF_IN, "v", DF_ACT },
		{ &a.o, DF_OUT, "o", DF_ACT },
		{ &a.first, DF_IN, "first", DF_INDICES },
		{ &a.n, DF_IN, "n", DF_INDICES },
	};
	size_t e;
	int rc;

	NEED(a.n_heads && a.n_kv_heads && a.n_heads % a.n_kv_heads == 0, "attn_decode: %zu query heads share %zu",
	    a.n_heads, a.n_kv_heads);
	e = a.q.cols / a.n_heads;
	NEED(e && a.q.cols == e * a.n_heads && a.k.cols == e * a.n_kv_heads && same_shape(a.k, a.v) &&
		same_shape(a.q, a.o),
	    "attn_decode: shapes differ");
	DF_TRY(check_list("attn_decode", "first rows", a.first, a.q.rows, err));
	DF_TRY(check_list("attn_decode", "numbers of rows", a.n, a.q.rows, err));
	rc = df_backend_run(be, DF_OP_ATTN_DECODE, &a, o, 6, err);
out:
	return rc;
}

int
df_swiglu_fwd(struct df_backend *be, struct df_tensor h, struct df_tensor gate, struct df_tensor up, struct df_err *err)
{
	struct df_op_swiglu a = { .h = h, .gate = gate, .up = up };
	struct df_operand o[] = {
		{ &a.h, DF_OUT, "h", DF_ACT },
		{ &a.gate, DF_IN, "gate", DF_ACT },
		{ &a.up, DF_IN, "up", DF_ACT },
	};

	NEED(be, "swiglu_fwd: a NULL argument");
	NEED(same_shape(h, gate) && same_shape(h, up), "swiglu_fwd: shapes differ");
	return df_backend_run(be, DF_OP_SWIGLU_FWD, &a, o, 3, err);
}

int
df_swiglu_bwd(struct df_backend *be, struct df_tensor dgate, struct df_tensor dup, struct df_tensor dh,
    struct df_tensor gate, struct df_tensor up, struct df_err *err)
{
	struct df_op_swiglu a = { dh, gate, up, dgate, dup };
	struct df_operand o[] = {
		{ &a.h, DF_IN, "dh", DF_ACT },
		{ &a.gate, DF_IN, "gate", DF_ACT },
		{ &a.up, DF_IN, "up", DF_ACT },
		{ &a.dgate, DF_OUT, "dgate", DF_ACT },
		{ &a.dup, DF_OUT, "dup", DF_ACT },
	};

	NEED(be, "swiglu_bwd: a NULL argument");
	NEED(same_shape(dh, gate) && same_shape(dh, up) && same_shape(dh, dgate) && same_shape(dh, dup),
	    "swiglu_bwd: shapes differ");
	return df_backend_run(be, DF_OP_SWIGLU_BWD, &a, o, 5, err);
}

/* The three operations on the head's cross-entropy: a forward writes what a backward alone reads. */
static int
run_xent(struct df_backend *be, enum df_op op, const char *name, const struct df_xent *args, struct df_err *err)
{
	const bool forward = op != DF_OP_XENT_BWD, backward = op != DF_OP_XENT_FWD;

	NEED(be && args, "%s: a NULL argument", name);

	struct df_xent a = *args;
	const struct df_tensor row = { .rows = 1, .cols = a.h.rows }, logits = { .rows = a.h.rows, .cols = a.w.rows };
	const struct {
		bool used, optional;
		struct df_operand o;
		struct df_tensor shape;
	} all[] = {
		{ true, false, { &a.h, DF_IN, "h", DF_ACT }, a.h },
		{ true, false, { &a.w, DF_IN, "w", DF_FLOATS }, a.w },
		{ true, false, { &a.target, DF_IN, "target", DF_INDICES }, row },
		{ forward, false, { &a.nll, DF_OUT, "nll", DF_ONLY_F32 }, row },
		{ true, forward, { &a.lse, forward ? DF_OUT : DF_IN, "lse", DF_ONLY_F32 }, row },
		{ forward, true, { &a.correct, DF_OUT, "correct", DF_ONLY_U8 }, row },
		{ backward, false, { &a.scale, DF_IN, "scale", DF_ONLY_F32 }, row },
		{ backward, false, { &a.dh, DF_OUT, "dh", DF_ACT }, a.h },
		{ backward, true, { &a.dw, DF_INOUT, "dw", DF_ONLY_F32 }, a.w },
		{ backward, true, { &a.dlogits, DF_OUT, "dlogits", DF_ACT }, logits },
		{ !forward || !backward, true, { &a.logits, forward ? DF_OUT : DF_INOUT, "logits", DF_ONLY_F32 },
		    logits },
	};
	struct df_operand o[sizeof(all) / sizeof(all[0])];
	size_t n = 0;

	NEED(!backward || !a.logits.mem || !a.dlogits.mem, "%s: both logits and dlogits", name);
	if (a.logits.mem && !be->ops->keeps_logits)
		return df_fail(err, DF_EUNSUPPORTED, "%s: %s keeps no logits", name, df_backend_name(be));
	NEED(a.h.cols == a.w.cols && a.w.rows, "%s: h has %zu columns, w is [%zu,%zu]", name, a.h.cols, a.w.rows,
	    a.w.cols);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct df_tensor *t = all[i].o.t;

		if (!all[i].used)
			*t = DF_TENSOR_NONE;
		if (!all[i].used || (all[i].optional && !t->mem))
			continue;
		NEED(same_shape(*t, all[i].shape), "%s: tensor %s is [%zu,%zu], not [%zu,%zu]", name, all[i].o.name,
		    t->rows, t->cols, all[i].shape.rows, all[i].shape.cols);
		o[n++] = all[i].o;
	}
	return df_backend_run(be, op, &a, o, n, err);
}

int
df_xent_fwd(struct df_backend *be, const struct df_xent *a, struct df_err *err)
{
	return run_xent(be, DF_OP_XENT_FWD, "xent_fwd", a, err);
}

int
df_xent_bwd(struct df_backend *be, const struct df_xent *a, struct df_err *err)
{
	return run_xent(be, DF_OP_XENT_BWD, "xent_bwd", a, err);
}

int
df_xent(struct df_backend *be, const struct df_xent *a, struct df_err *err)
{
	return run_xent(be, DF_OP_XENT, "xent", a, err);
}

int
df_dropout(struct df_backend *be, const struct df_dropout *args, struct df_err *err)
{
	NEED(be && args, "dropout: a NULL argument");

	struct df_dropout a = *args;
	struct df_operand o[] = {
		{ &a.y, DF_OUT, "y", DF_ACT },
		{ &a.x, DF_IN, "x", DF_ACT },
		{ &a.offsets, DF_IN, "offsets", DF_INDICES },
		{ &a.token_offsets, DF_IN, "token_offsets", DF_INDICES },
		{ &a.key, DF_IN, "key", DF_INDICES },
		{ &a.token, DF_IN, "token", DF_INDICES },
	};
	int rc;

	NEED(same_shape(a.x, a.y), "dropout: shapes differ");
	NEED(a.key.mem && a.key.cols == 2, "dropout: key is [%zu,%zu]", a.key.rows, a.key.cols);
	if (!(a.p >= 0.0f && a.p < 1.0f))
		return df_fail(err, DF_ERANGE, "dropout: probability %g is not in [0,1)", (double)a.p);
	DF_TRY(check_list("dropout", "offsets", a.offsets, a.key.rows + 1, err));
	DF_TRY(check_list("dropout", "token_offsets", a.token_offsets, a.key.rows + 1, err));
	if (a.token.mem)
		DF_TRY(check_list("dropout", "tokens", a.token, a.x.rows, err));
	rc = df_backend_run(be, DF_OP_DROPOUT, &a, o, a.token.mem ? 6 : 5, err);
out:
	return rc;
}

int
df_clip(struct df_backend *be, const struct df_clip *args, struct df_err *err)
{
	NEED(be && args, "clip: a NULL argument");

	struct df_clip a = *args;
	struct df_operand o[] = {
		{ &a.sumsq, DF_IN, "sumsq", DF_ONLY_F64 },
		{ &a.clip, DF_OUT, "clip", DF_ONLY_F64 },
	};

	NEED(a.sumsq.rows == 1 && a.sumsq.cols == 1 && a.clip.rows == 1 && a.clip.cols == 2,
	    "clip: [%zu,%zu] from [%zu,%zu]", a.clip.rows, a.clip.cols, a.sumsq.rows, a.sumsq.cols);
	NEED(a.max_norm >= 0, "clip: a norm of %g", a.max_norm);
	return df_backend_run(be, DF_OP_CLIP, &a, o, 2, err);
}

int
df_adamw(struct df_backend *be, const struct df_adamw *args, struct df_err *err)
{
	NEED(be && args, "adamw: a NULL argument");

	struct df_adamw a = *args;
	struct df_operand o[] = {
		{ &a.w, DF_INOUT, "w", DF_ONLY_F32 },
		{ &a.g, DF_IN, "g", DF_ONLY_F32 },
		{ &a.m, DF_INOUT, "m", DF_ONLY_F32 },
		{ &a.v, DF_INOUT, "v", DF_ONLY_F32 },
		{ &a.clip, DF_IN, "clip", DF_ONLY_F64 },
		{ &a.low, a.clip.mem ? DF_INOUT : DF_OUT, "low", DF_FLOATS },
	};
	size_t n = 4;

	NEED(same_shape(a.w, a.g) && same_shape(a.w, a.m) && same_shape(a.w, a.v), "adamw: shapes differ");
	NEED(!a.clip.mem || (a.clip.rows == 1 && a.clip.cols == 2), "adamw: clip is [%zu,%zu]", a.clip.rows,
	    a.clip.cols);
	NEED(!a.low.mem || same_shape(a.low, a.w), "adamw: low and w differ in shape");
	NEED(a.step >= 1, "adamw: step counts from 1");
	n += a.clip.mem ? 1 : 0;
	if (a.low.mem)
		o[n++] = o[5];
	return df_backend_run(be, DF_OP_ADAMW, &a, o, n, err);
}

int
df_adam_form(struct df_backend *be, const struct df_adam_form *args, struct df_err *err)
{
	NEED(be && args, "adam_form: a NULL argument");

	struct df_adam_form a = *args;
	struct df_operand o[] = {
		{ &a.g, DF_INOUT, "g", DF_ONLY_F32 },
		{ &a.m, DF_IN, "m", DF_ONLY_F32 },
		{ &a.v, DF_IN, "v", DF_ONLY_F32 },
	};

	NEED(a.m.rows == 1 && same_shape(a.m, a.v) && a.m.cols == a.g.cols, "adam_form: shapes differ");
	return df_backend_run(be, DF_OP_ADAM_FORM, &a, o, 3, err);
}

int
df_sign(struct df_backend *be, struct df_tensor g, struct df_err *err)
{
	struct df_op_pair p = { .dst = g };

	return run_pair(be, DF_OP_SIGN, &p, DF_INOUT, DF_ONLY_F32, DF_ONLY_F32, err);
}

int
df_project(struct df_backend *be, const struct df_project *args, struct df_err *err)
{
	NEED(be && args, "project: a NULL argument");

	struct df_project a = *args;
	struct df_operand o[] = { { &a.g, DF_IN, "g", DF_ONLY_F32 }, { &a.y, DF_INOUT, "y", DF_ONLY_F32 } };

	NEED(a.g.rows == a.y.rows, "project: %zu gradients into %zu rows", a.g.rows, a.y.rows);
	NEED(a.first + a.g.cols >= a.first, "project: coordinates overflow");
	if (a.type != DF_PROJ_RADEMACHER && a.type != DF_PROJ_SJLT)
		return df_fail(err, DF_EUNSUPPORTED, "project: unknown projection type %d", (int)a.type);
	if (a.type == DF_PROJ_SJLT && (a.sparsity == 0 || a.sparsity > a.y.cols))
		return df_fail(err, DF_ERANGE, "project: sparsity %u is not in [1,%zu]", a.sparsity, a.y.cols);
	return df_backend_run(be, DF_OP_PROJECT, &a, o, 2, err);
}
