/*
 * ops_moe.c - the public operations of mixtures of experts; see ops.c.
 */
#include "backend/ops_priv.h"

int
df_route_fwd(struct df_backend *be, const struct df_route *args, struct df_err *err)
{
	NEED(be && args, "route_fwd: a NULL argument");

	struct df_route a = *args;
	struct df_operand o[] = {
		{ &a.logits, DF_IN, "logits", DF_ONLY_F32 },
		{ &a.p, DF_OUT, "p", DF_ONLY_F32 },
		{ &a.weight, DF_OUT, "weight", DF_ONLY_F32 },
	};

	NEED(same_shape(a.logits, a.p) && a.weight.rows == a.p.rows, "route_fwd: shapes differ");
	NEED(a.weight.cols > 0 && a.weight.cols <= a.p.cols, "route_fwd: %zu of %zu experts", a.weight.cols, a.p.cols);
	NEED(a.expert || a.p.rows == 0, "route_fwd: experts are NULL");
	return df_backend_run(be, DF_OP_ROUTE_FWD, &a, o, 3, err);
}

int
df_route_bwd(struct df_backend *be, const struct df_route_bwd *args, struct df_err *err)
{
	NEED(be && args, "route_bwd: a NULL argument");

	struct df_route_bwd a = *args;
	struct df_operand o[] = {
		{ &a.p, DF_IN, "p", DF_ONLY_F32 },
		{ &a.weight, DF_IN, "weight", DF_ONLY_F32 },
		{ &a.dweight, DF_IN, "dweight", DF_ONLY_F32 },
		{ &a.dlogits, DF_OUT, "dlogits", DF_ONLY_F32 },
	};

	NEED(same_shape(a.dlogits, a.p) && same_shape(a.dweight, a.weight) && a.weight.rows == a.p.rows,
	    "route_bwd: shapes differ");
	NEED(a.expert || a.weight.rows == 0, "route_bwd: experts are NULL");
	for (size_t i = 0; i < a.weight.rows * a.weight.cols; i++)
		NEED(a.expert[i] < a.p.cols, "route_bwd: expert %u of %zu", a.expert[i], a.p.cols);
	return df_backend_run(be, DF_OP_ROUTE_BWD, &a, o, 4, err);
}

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
