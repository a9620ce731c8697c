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

/* Each row is a token of its sample. */
static int
check_tokens(const struct df_dropout *a, struct df_err *err)
{
	const uint32_t *row = df_tensor_u32(a->offsets), *token = df_tensor_u32(a->token_offsets);
	int rc;

	DF_TRY(check_offsets("dropout", a->offsets, a->x.rows, err));
	for (size_t s = 0; s < a->key.rows; s++)
		for (size_t t = row[s]; t < row[s + 1]; t++) {
			const size_t is = a->token.mem ? df_tensor_u32(a->token)[t] : t;

			NEED(is >= token[s] && is < token[s + 1], "dropout: row %zu is token %zu, not of sample %zu", t,
			    is, s);
		}
out:
	return rc;
}

static int
check_experts(const char *op, struct df_tensor t, size_t limit, struct df_err *err)
{
	for (size_t i = 0; i < t.rows; i++)
		for (size_t j = 0; j < t.cols; j++) {
			const uint32_t e = df_tensor_u32(t)[i * t.ld + j];

			NEED(e < limit, "%s: expert %u of %zu", op, e, limit);
		}
	return DF_OK;
}

static int
check_plan(const struct df_route_plan *a, struct df_err *err)
{
	int rc;

	DF_TRY(check_experts("route_plan", a->expert, a->n_experts, err));
	DF_TRY(check_offsets("route_plan", a->offsets, a->expert.rows, err));
out:
	return rc;
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
	const struct df_gemm_segments *gemm = args;
	const struct df_op_colsum *colsum = args;
	const struct df_route_bwd *route = args;
	const struct df_gemm_groups *groups = args;
	const struct df_gemm_group_sums *sums = args;

	switch (op) {
	case DF_OP_GEMM_SEGMENTS: return check_offsets("gemm_segments", gemm->offsets, gemm->a.rows, err);
	case DF_OP_COLSUM:
		return colsum->offsets.mem ? check_offsets("colsum", colsum->offsets, colsum->x.rows, err) : DF_OK;
	case DF_OP_DROPOUT: return check_tokens(args, err);
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
	case DF_OP_ROUTE_BWD: return check_experts("route_bwd", route->expert, route->p.cols, err);
	case DF_OP_ROUTE_PLAN: return check_plan(args, err);
	case DF_OP_GEMM_GROUPS: return check_offsets("gemm_groups", groups->first, groups->a.rows, err);
	case DF_OP_GEMM_GROUP_SUMS: return check_offsets("gemm_group_sums", sums->first, sums->a.rows, err);
	default: return DF_OK;
	}
}
