/*
 * backend_priv.h - what is the library's own of a backend; seen inside lib/backend only.
 *
 * The table of slots, and what slots see, is in plugin.h.
 */
#ifndef DF_BACKEND_PRIV_H
#define DF_BACKEND_PRIV_H

#include <stdatomic.h>

#include "backend/plugin.h"

/* A root, and what all of its lanes share. */
struct df_backend_root {
	struct df_backend be; /* first: a root is this */
	bool strict;          /* DF_BACKEND_STRICT: an empty slot is an error */
	bool checks;          /* DF_BACKEND_CHECK: indices that the host cannot read are copied to it and checked */
	atomic_size_t nbytes, peak;
	atomic_bool told[DF_OP_COUNT]; /* the host version's use was logged */
};

static inline struct df_backend_root *
df_backend_root(const struct df_backend *be)
{
	return (struct df_backend_root *)be->root;
}

extern const struct df_backend_ops df_cpu_backend, df_openblas_backend, df_poison_backend, df_reference_backend;

/* The first of a table that suits this machine.  NULL if none does. */
const struct df_backend_ops *df_backend_choose(const struct df_backend_ops *const *table, size_t n);

/* df_backend_open() for a given table. */
int df_backend_open_ops(struct df_backend **out, const struct df_backend_ops *ops, const char *device,
    struct df_pool *pool, struct df_err *err) DF_MUST_CHECK;

/*
 * Check the operands (type, window within its allocation, this backend's) and run the
 * operation. args are the caller's copy.
 */
int df_backend_run(struct df_backend *be, enum df_op op, void *args, struct df_operand *o, size_t n,
    struct df_err *err) DF_MUST_CHECK;

/* indices.c: the indices among an operation's operands, which the host can read: are they in range?  DF_EINTERNAL. */
int df_check_indices(enum df_op op, const void *args, struct df_err *err) DF_MUST_CHECK;

/*
 * plugin.c: the table of the shared library "df-<device>.so".  It is DF_<DEVICE>_PLUGIN in the environment, or lies
 * beside the program, in the directory above, or in the library folder (../lib/df-tools).  It stays loaded; every call
 * gives the same table.  DF_EUNSUPPORTED: there is none; DF_EDEVICE: it cannot be used, with the reason.
 */
int df_backend_plugin_load(const struct df_backend_ops **out, const char *device, struct df_err *err) DF_MUST_CHECK;

#endif
