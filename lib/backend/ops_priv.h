/*
 * ops_priv.h - how the public operations (ops.c, ops_moe.c) check their arguments: a wrong one is our own mistake.
 */
#ifndef DF_BACKEND_OPS_PRIV_H
#define DF_BACKEND_OPS_PRIV_H

#include "backend/backend_priv.h"

/* In a function with `err` that returns a code. */
#define NEED(cond, ...)                                                 \
	do {                                                            \
		if (!(cond))                                            \
			return df_fail(err, DF_EINTERNAL, __VA_ARGS__); \
	} while (0)

static inline bool
same_shape(struct df_tensor a, struct df_tensor b)
{
	return a.rows == b.rows && a.cols == b.cols;
}

/* Are there n indices? */
static inline int
check_list(const char *op, const char *what, struct df_tensor t, size_t n, struct df_err *err)
{
	NEED(t.mem, "%s: %s are missing", op, what);
	NEED(t.rows == 1 && t.cols == n, "%s: %s are [%zu,%zu], not [1,%zu]", op, what, t.rows, t.cols, n);
	return DF_OK;
}

#endif
