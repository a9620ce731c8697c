/*
 * indices.c - are the indices among an operation's operands in range?  Asked where the host can read them: by every
 * operation on the host, on poison, and of the host's copies.
 */
#include "backend/ops_priv.h"

static int
check_below(const char *op, struct df_tensor t, size_t limit, struct df_err *err)
{
	const uint32_t *v = df_tensor_u32(t);

	for (size_t i = 0; i < t.cols; i++)
		NEED(v[i] < limit, "%s: index %u at %zu is not below %zu", op, v[i], i, limit);
	return DF_OK;
}

static int
check_offsets(const char *op, struct df_tensor t, size_t rows, struct df_err *err)
{
	const uint32_t *v = df_tensor_u32(t);
	const size_t n = t.cols - 1;

	NEED(v[0] == 0 && v[n] == rows, "%s: offsets run from %u to %u over %zu rows", op, v[0], v[n], rows);
	for (size_t i = 0; i < n; i++)
		NEED(v[i] <= v[i + 1], "%s: offsets decrease at %zu", op, i);
	return DF_OK;
}

static int
check_past(const struct df_attn_decode *a, struct df_err *err)
{
	const uint32_t *first = df_tensor_u32(a->first), *n = df_tensor_u32(a->n);

	for (size_t s = 0; s < a->q.rows; s++)
		NEED(n[s] >= 1 && first[s] < a->k.rows && n[s] <= a->k.rows - first[s],
		    "attn_decode: sequence %zu has rows [%u, +%u) of %zu", s, first[s], n[s], a->k.rows);
	return DF_OK;
}

int
df_check_indices(enum df_op op, const void *args, struct df_err *err)
{
	const struct df_op_rows *rows = args;
	const struct df_rope *rope = args;
	const struct df_rmsnorm_bwd *norm = args;
	const struct df_attn *attn = args;
	const struct df_attn_bwd *attn_bwd = args;
	const struct df_xent *xent = args;

	switch (op) {
	case DF_OP_GATHER: return check_below("gather_rows", rows->rows, rows->src.rows, err);
	case DF_OP_EMBED_BWD: return check_below("scatter_rows", rows->rows, rows->dst.rows, err);
	case DF_OP_ROPE: return check_below("rope", rope->pos, rope->cos.rows, err);
	case DF_OP_RMSNORM_BWD:
		return norm->offsets.mem ? check_offsets("rmsnorm_bwd", norm->offsets, norm->x.rows, err) : DF_OK;
	case DF_OP_ATTN_FWD: return check_offsets("attn_fwd", attn->offsets, attn->q.rows, err);
	case DF_OP_ATTN_BWD: return check_offsets("attn_bwd", attn_bwd->fwd.offsets, attn_bwd->fwd.q.rows, err);
	case DF_OP_ATTN_DECODE: return check_past(args, err);
	case DF_OP_XENT_FWD:
	case DF_OP_XENT_BWD:
	case DF_OP_XENT: return check_below("xent", xent->target, xent->w.rows, err);
	default: return DF_OK;
	}
}
