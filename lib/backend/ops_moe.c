/*
 * ops_moe.c - the public operations of mixtures of experts; see ops.c.
 */
#include "backend/ops_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* ---- routing ---------------------------------------------------------------------------------------------------- */

int
df_route_fwd(struct df_backend *be, const struct df_route *args, struct df_err *err)
{
	NEED(be && args, "route_fwd: a NULL argument");

	struct df_route a = *args;
	struct df_operand o[] = {
		{ &a.logits, DF_IN, "logits", DF_ONLY_F32 },
		{ &a.p, DF_OUT, "p", DF_ONLY_F32 },
		{ &a.weight, DF_OUT, "weight", DF_ONLY_F32 },
		{ &a.expert, DF_OUT, "expert", DF_INDICES },
	};

	NEED(same_shape(a.logits, a.p) && a.weight.rows == a.p.rows && same_shape(a.expert, a.weight),
	    "route_fwd: shapes differ");
	NEED(a.weight.cols > 0 && a.weight.cols <= a.p.cols, "route_fwd: %zu of %zu experts", a.weight.cols, a.p.cols);
	return df_backend_run(be, DF_OP_ROUTE_FWD, &a, o, 4, err);
}

int
df_route_bwd(struct df_backend *be, const struct df_route_bwd *args, struct df_err *err)
{
	NEED(be && args, "route_bwd: a NULL argument");

	struct df_route_bwd a = *args;
	struct df_operand o[] = {
		{ &a.p, DF_IN, "p", DF_ONLY_F32 },
		{ &a.weight, DF_IN, "weight", DF_ONLY_F32 },
		{ &a.expert, DF_IN, "expert", DF_INDICES },
		{ &a.dweight, DF_IN, "dweight", DF_ONLY_F32 },
		{ &a.dlogits, DF_OUT, "dlogits", DF_ONLY_F32 },
	};

	NEED(same_shape(a.dlogits, a.p) && same_shape(a.dweight, a.weight) && same_shape(a.expert, a.weight) &&
		a.weight.rows == a.p.rows,
	    "route_bwd: shapes differ");
	return df_backend_run(be, DF_OP_ROUTE_BWD, &a, o, 5, err);
}

int
df_route_plan(struct df_backend *be, const struct df_route_plan *args, struct df_err *err)
{
	NEED(be && args, "route_plan: a NULL argument");

	struct df_route_plan a = *args;
	struct df_operand o[] = {
		{ &a.expert, DF_IN, "expert", DF_INDICES },
		{ &a.offsets, DF_IN, "offsets", DF_INDICES },
		{ &a.row, DF_OUT, "row", DF_INDICES },
		{ &a.slot, DF_OUT, "slot", DF_INDICES },
		{ &a.row_token, DF_OUT, "row_token", DF_INDICES },
		{ &a.first, DF_OUT, "first", DF_INDICES },
		{ &a.seg, DF_OUT, "seg", DF_INDICES },
		{ &a.token, DF_IN, "token", DF_INDICES },
	};
	size_t n, n_seg;
	int rc;

	NEED(a.offsets.rows == 1 && a.offsets.cols > 0, "route_plan: offsets are [%zu,%zu]", a.offsets.rows,
	    a.offsets.cols);
	DF_TRY(df_size_mul(a.expert.rows, a.expert.cols, &n, "route_plan", err));
	DF_TRY(df_size_mul(a.n_experts, a.offsets.cols, &n_seg, "route_plan", err));
	NEED(n <= UINT32_MAX, "route_plan: %zu rows", n);
	DF_TRY(check_list("route_plan", "the rows", a.row, n, err));
	DF_TRY(check_list("route_plan", "the slots", a.slot, n, err));
	DF_TRY(check_list("route_plan", "the rows' tokens", a.row_token, n, err));
	DF_TRY(check_list("route_plan", "the experts' first rows", a.first, a.n_experts + 1, err));
	DF_TRY(check_list("route_plan", "the segments", a.seg, n_seg, err));
	if (a.token.mem)
		DF_TRY(check_list("route_plan", "the tokens", a.token, a.expert.rows, err));
	rc = df_backend_run(be, DF_OP_ROUTE_PLAN, &a, o, a.token.mem ? 8 : 7, err);
out:
	return rc;
}

/* ---- products by group ------------------------------------------------------------------------------------------ */

/*
 * Run an operation whose operands are `fixed` and a list of n windows; each of these that is not NONE is an operand
 * like `each`.  `list` is what args point to.
 */
static int
run_list(struct df_backend *be, enum df_op op, void *args, const struct df_operand fixed[3], struct df_tensor *list,
    const struct df_tensor *from, size_t n, struct df_operand each, struct df_err *err)
{
	struct df_operand *o = NULL;
	size_t n_operands = 3;
	int rc;

	DF_TRY(df_alloc(&o, n + 3, sizeof(*o), "a list of tensors", err));
	memcpy(o, fixed, 3 * sizeof(*o));
	for (size_t i = 0; i < n; i++) {
		list[i] = from[i];
		each.t = &list[i];
		if (from[i].mem)
			o[n_operands++] = each;
	}
	rc = df_backend_run(be, op, args, o, n_operands, err);
out:
	free(o);
	return rc;
}

/* Have all of the list that are there this shape?  *all: none is missing. */
static int
check_shapes(
    const char *op, const struct df_tensor *v, size_t n, size_t rows, size_t cols, bool *all, struct df_err *err)
{
	NEED(v && n > 0, "%s: the list is empty", op);
	*all = true;
	for (size_t i = 0; i < n; i++) {
		*all &= v[i].mem != NULL;
		NEED(!v[i].mem || (v[i].rows == rows && v[i].cols == cols), "%s: group %zu is [%zu,%zu], not [%zu,%zu]",
		    op, i, v[i].rows, v[i].cols, rows, cols);
	}
	return DF_OK;
}

int
df_gemm_groups(struct df_backend *be, const struct df_gemm_groups *args, struct df_err *err)
{
	NEED(be && args, "gemm_groups: a NULL argument");

	struct df_gemm_groups a = *args;
	struct df_operand o[] = {
		{ &a.a, DF_IN, "a", DF_ACT_OWN },
		{ &a.first, DF_IN, "first", DF_INDICES },
		{ &a.c, DF_INOUT, "c", DF_ACT_OWN },
	};
	const size_t k = a.a.cols, n = a.c.cols;
	struct df_tensor *list = NULL;
	bool all;
	int rc;

	NEED(a.a.rows == a.c.rows, "gemm_groups: %zu rows into %zu", a.a.rows, a.c.rows);
	DF_TRY(check_list("gemm_groups", "the groups' first rows", a.first, a.n + 1, err));
	DF_TRY(check_shapes("gemm_groups", a.b, a.n, a.tb ? n : k, a.tb ? k : n, &all, err));
	if (all && a.beta == 0.0f)
		o[2].access = DF_OUT;
	DF_TRY(df_alloc(&list, a.n, sizeof(*list), "a list of tensors", err));
	a.b = list;
	rc = run_list(
	    be, DF_OP_GEMM_GROUPS, &a, o, list, args->b, a.n, (struct df_operand){ NULL, DF_IN, "b", DF_FLOATS }, err);
out:
	free(list);
	return rc;
}

int
df_gemm_group_sums(struct df_backend *be, const struct df_gemm_group_sums *args, struct df_err *err)
{
	NEED(be && args, "gemm_group_sums: a NULL argument");

	struct df_gemm_group_sums a = *args;
	const struct df_operand o[] = {
		{ &a.a, DF_IN, "a", DF_ACT_OWN },
		{ &a.b, DF_IN, "b", DF_ACT_OWN },
		{ &a.first, DF_IN, "first", DF_INDICES },
	};
	struct df_tensor *list = NULL;
	bool all;
	int rc;

	NEED(a.a.rows == a.b.rows, "gemm_group_sums: %zu rows and %zu", a.a.rows, a.b.rows);
	DF_TRY(check_list("gemm_group_sums", "the groups' first rows", a.first, a.n + 1, err));
	DF_TRY(check_shapes("gemm_group_sums", a.c, a.n, a.a.cols, a.b.cols, &all, err));
	DF_TRY(df_alloc(&list, a.n, sizeof(*list), "a list of tensors", err));
	a.c = list;
	rc = run_list(be, DF_OP_GEMM_GROUP_SUMS, &a, o, list, args->c, a.n,
	    (struct df_operand){ NULL, a.beta == 0.0f ? DF_OUT : DF_INOUT, "c", DF_ONLY_F32 }, err);
out:
	free(list);
	return rc;
}

/* ---- by row ----------------------------------------------------------------------------------------------------- */

static int
run_triple(struct df_backend *be, enum df_op op, struct df_op_triple *a, enum df_types out, enum df_types y,
    struct df_err *err)
{
	struct df_operand o[] = {
		{ &a->a, DF_OUT, "out", out },
		{ &a->b, DF_IN, "x", DF_ACT },
		{ &a->c, DF_IN, "y", y },
	};

	NEED(be, "backend is NULL");
	return df_backend_run(be, op, a, o, 3, err);
}

int
df_row_scale(struct df_backend *be, struct df_tensor y, struct df_tensor x, struct df_tensor s, struct df_err *err)
{
	struct df_op_triple a = { y, x, s };

	NEED(same_shape(x, y) && s.rows == x.rows && s.cols == 1, "row_scale: shapes differ");
	return run_triple(be, DF_OP_ROW_SCALE, &a, DF_ACT, DF_ONLY_F32, err);
}

int
df_row_dot(struct df_backend *be, struct df_tensor out, struct df_tensor x, struct df_tensor y, struct df_err *err)
{
	struct df_op_triple a = { out, x, y };

	NEED(same_shape(x, y) && out.rows == x.rows && out.cols == 1, "row_dot: shapes differ");
	return run_triple(be, DF_OP_ROW_DOT, &a, DF_ONLY_F32, DF_ACT, err);
}

int
df_sigmoid_fwd(struct df_backend *be, struct df_tensor y, struct df_tensor x, struct df_err *err)
{
	struct df_op_pair a = { .dst = y, .src = x };
	struct df_operand o[] = { { &a.dst, DF_OUT, "y", DF_ACT }, { &a.src, DF_IN, "x", DF_ACT } };

	NEED(be && same_shape(x, y), "sigmoid_fwd: shapes differ");
	return df_backend_run(be, DF_OP_SIGMOID_FWD, &a, o, 2, err);
}

int
df_sigmoid_bwd(struct df_backend *be, struct df_tensor dx, struct df_tensor dy, struct df_tensor y, struct df_err *err)
{
	struct df_op_triple a = { dx, dy, y };

	NEED(same_shape(dx, dy) && same_shape(dx, y), "sigmoid_bwd: shapes differ");
	return run_triple(be, DF_OP_SIGMOID_BWD, &a, DF_ACT, DF_ACT, err);
}
